"""The shard's side of poison (rule 24): whoever dies over a request names it, and it is lent alone, then set aside."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.messages import Flag, LeaseId, Request, SessionId
from common.outcome import Outcome
from coordinator.leases import OpenLease
from coordinator.steps import Note, Received, Seeds
from coordinator.store.rows import robots_row, unpack
from tests.unit.test_shard import ONE, SITE, Bench, T, links, only, request, sent

A, B, C = (f"{SITE}/{name}" for name in "abc")
FREE = CrawlConfig(obey_robots=False, delay=1.0)
DEEP = replace(FREE, max_depth=2, delay=0.0)


def session(number: int) -> SessionId:
    return SessionId(number.to_bytes(16, "big"))


class Morgue:
    """A bench on which one process after another dies over the same URL."""

    def __init__(self, config: CrawlConfig = FREE) -> None:
        self.bench = Bench(config)
        self.who = ONE
        self.deaths = 0

    def seed(self, *urls: str) -> None:
        self.bench.join(self.who)
        self.bench.give(Seeds(1, tuple(request(url, flags=Flag.SEED) for url in urls)))

    def lease(self, url: str | None = None) -> OpenLease:
        """The one open lease, or that of a URL."""
        [found] = [
            lease
            for lease in self.bench.shard.leases
            if url is None or any(url == lease.requests[ordinal].url for ordinal in lease.open)
        ]
        return found

    def die(
        self,
        url: str,
        *,
        restart: bool = False,
        suspects: tuple[tuple[SessionId, LeaseId, int], ...] | None = None,
        named: bool = True,
    ) -> list[object]:
        """The process that holds a URL dies while it parses it, and the next one says so and takes work."""
        lease = self.lease(url)
        ordinal = next(index for index in lease.open if lease.requests[index].url == url)
        if restart:
            self.bench.restart()
        dead, self.deaths = self.who, self.deaths + 1
        self.who = session(self.deaths)
        number = self.bench.number(self.who)
        suspect = ((dead, LeaseId(lease.id), ordinal),) if suspects is None else suspects
        replaces = (dead,) if named else ()
        hello = m.Hello(number, m.VERSION, self.who, replaces, "box", 1, 0, False, (), suspect)
        out = self.bench.give(Received(hello))
        return [*out, *self.bench.beat(self.who), *self.bench.wait(2.0)]

    def open_requests(self) -> dict[str, Request]:
        return {
            lease.requests[ordinal].url: lease.requests[ordinal]
            for lease in self.bench.shard.leases
            for ordinal in lease.open
        }


def holds(lease: OpenLease) -> list[str]:
    return [each.url for each in lease.requests]


def as_sent(lease: OpenLease) -> m.Lease:
    """A lease as its holder has it, so that it can report."""
    holder = SessionId(lease.session)
    return m.Lease(holder, 0, lease.id, lease.host, lease.delay, lease.width, 1, (), None, lease.requests)


def test_a_request_over_which_a_process_died_is_lent_alone_and_the_others_are_not_touched() -> None:
    morgue = Morgue()
    morgue.seed(A, B, C)
    assert holds(morgue.lease()) == [A, B, C]
    out = morgue.die(B)
    [note] = [each for each in only(Note, out) if each.event == "request.suspect"]
    assert dict(note.facts) == {"url": B, "deaths": 1}
    first = morgue.lease()
    others = [each for each in holds(first) if each != B]
    assert others in ([], [A, C]), "never with it"
    seen = {tuple(holds(first))}
    for _ in range(2):
        lease = morgue.lease()
        alone = any(each.flags & Flag.ALONE for each in lease.requests)
        assert not alone or holds(lease) == [B]
        seen.add(tuple(holds(lease)))
        for ordinal in sorted(lease.open):
            morgue.bench.page(as_sent(lease), ordinal)
        morgue.bench.wait(2.0)
    assert (B,) in seen
    assert morgue.bench.outcomes() == dict.fromkeys((A, B, C), "OK")
    attempts = {line["url"]: line["attempts"] for line in morgue.bench.lines()}
    assert attempts == {A: 1, B: 2, C: 1}
    morgue.bench.adds_up()


def test_at_the_third_death_it_is_set_aside_and_its_tries_are_on_record() -> None:
    morgue = Morgue()
    morgue.seed(B)
    for deaths in (1, 2):
        morgue.die(B)
        assert morgue.open_requests()[B].attempts == deaths
        assert morgue.bench.lines() == []
        morgue.bench.adds_up()
    morgue.die(B)
    [line] = morgue.bench.lines()
    assert (line["outcome"], line["reason"], line["attempts"]) == ("POISON", "poison", 3)
    assert line["error"] == "3 worker processes died or hung while they read this page"
    assert (line["warc"], line["record"], line["status"]) == (None, None, None)
    assert [code for code, _ in morgue.bench.row(B).tries] == [Outcome.POISON.code] * 3
    assert len(morgue.bench.shard.leases) == 0
    morgue.bench.adds_up()


def test_a_death_keeps_the_host_s_delay() -> None:
    morgue = Morgue()
    morgue.seed(B)
    lease = morgue.lease()
    dead, number = morgue.who, 1
    suspects = ((dead, LeaseId(lease.id), 0),)
    out = morgue.bench.give(
        Received(
            m.Hello(number, m.VERSION, session(1), (dead,), "box", 1, 0, False, (), suspects),
        )
    )
    morgue.bench.numbers[session(1)] = number
    out += morgue.bench.beat(session(1))
    assert sent(m.Lease, out) == [] == sent(m.Lease, morgue.bench.wait(0.9))
    assert [each.requests[0].url for each in sent(m.Lease, morgue.bench.wait(0.2))] == [B]


def test_two_pages_of_one_process_may_be_suspected_at_once() -> None:
    """Its loop read one, the thread beside it a sitemap."""
    morgue = Morgue()
    morgue.seed(A, B)
    lease = morgue.lease()
    both = ((ONE, LeaseId(lease.id), 0), (ONE, LeaseId(lease.id), 1))
    morgue.die(A, suspects=both)
    assert len(morgue.lease().requests) == 1
    assert morgue.bench.shard.frontier.waiting + morgue.bench.shard.frontier.queued == 1
    morgue.bench.adds_up()


def test_a_shard_that_restarts_in_between_still_counts_to_three() -> None:
    morgue = Morgue()
    morgue.seed(A, B)
    morgue.die(B, restart=True)
    for _ in range(2):
        if B not in morgue.open_requests():
            lease = morgue.lease()
            morgue.bench.page(as_sent(lease), 0)
            morgue.bench.wait(2.0)
        assert holds(morgue.lease()) == [B]
        morgue.die(B, restart=True)
    if A in morgue.open_requests():
        morgue.bench.page(as_sent(morgue.lease(A)), 0)
    assert morgue.bench.outcomes() == {A: "OK", B: "POISON"}
    morgue.bench.adds_up()


def test_a_hello_that_is_sent_again_does_not_count_twice() -> None:
    morgue = Morgue()
    morgue.seed(B)
    lease = morgue.lease()
    suspects = ((ONE, LeaseId(lease.id), 0),)
    for number in (1, 2, 3):
        hello = m.Hello(number, m.VERSION, session(1), (ONE,), "box", 1, 0, False, (), suspects)
        morgue.bench.give(Received(hello))
    morgue.bench.numbers[session(1)] = 3
    morgue.bench.beat(session(1))
    morgue.bench.wait(2.0)
    assert morgue.open_requests()[B].attempts == 1


@pytest.mark.parametrize("what", ["not named as dead", "not its lease", "no such lease", "no such request"])
def test_a_suspect_that_its_process_did_not_hold_is_nobody_s_business(what: str) -> None:
    morgue = Morgue()
    morgue.seed(B)
    lease = LeaseId(morgue.lease().id)
    suspect = {
        "not named as dead": (ONE, lease, 0),
        "not its lease": (session(77), lease, 0),
        "no such lease": (ONE, LeaseId(lease + 1), 0),
        "no such request": (ONE, lease, 9),
    }[what]
    out = morgue.die(B, suspects=(suspect,), named=what != "not named as dead")
    assert [each for each in only(Note, out) if each.event == "request.suspect"] == []
    assert morgue.open_requests()[B].attempts == 0
    assert not morgue.open_requests()[B].flags & Flag.ALONE
    morgue.bench.adds_up()


def test_a_page_that_was_told_before_its_process_died_is_not_suspected() -> None:
    morgue = Morgue()
    morgue.seed(A, B)
    lease = morgue.lease()
    morgue.bench.page(as_sent(lease), 0)
    morgue.die(B, suspects=((ONE, LeaseId(lease.id), 0),))
    assert morgue.bench.outcomes() == {A: "OK"}
    assert morgue.open_requests()[B].attempts == 0


def test_a_lease_that_ran_out_before_the_death_was_told_accuses_nobody() -> None:
    morgue = Morgue()
    morgue.seed(B)
    lease = morgue.lease()
    morgue.bench.wait(2 * T)
    suspects = ((ONE, LeaseId(lease.id), 0),)
    hello = m.Hello(1, m.VERSION, session(1), (ONE,), "box", 1, 0, False, (), suspects)
    morgue.bench.numbers[session(1)] = 1
    morgue.bench.give(Received(hello))
    morgue.bench.beat(session(1))
    morgue.bench.wait(2.0)
    assert morgue.open_requests()[B].attempts == 0


def test_deaths_and_other_failures_of_a_request_are_counted_apart() -> None:
    morgue = Morgue()
    morgue.seed(B)
    morgue.die(B)
    morgue.bench.page(as_sent(morgue.lease()), 0, m.Facts(Outcome.SERVER_ERROR.code, status=503))
    morgue.bench.wait(3600.0)
    morgue.bench.beat(morgue.who)
    morgue.bench.wait(2.0)
    if B not in morgue.open_requests():  # its holder was silent for an hour
        morgue.bench.join(morgue.who)
        morgue.bench.wait(2.0)
    assert morgue.open_requests()[B].attempts == 2
    assert morgue.open_requests()[B].flags & Flag.ALONE
    morgue.die(B)
    assert morgue.bench.lines() == []
    morgue.die(B)
    [line] = morgue.bench.lines()
    assert (line["outcome"], line["attempts"]) == ("POISON", 4)


def test_a_page_that_was_fetched_and_kills_when_it_is_visited_for_its_links_keeps_its_record() -> None:
    morgue = Morgue(DEEP)
    bench = morgue.bench
    morgue.seed(A)
    bench.page(as_sent(morgue.lease()), links=(links(B, depth=1),))
    bench.page(as_sent(morgue.lease()), links=(links(C, depth=2),))
    bench.page(as_sent(morgue.lease()))
    bench.give(Received(bench.links(links(C, depth=1))))
    bench.wait(0.1)
    lines = json.dumps(bench.lines())
    for _ in range(3):
        assert morgue.open_requests()[C].flags & Flag.LINKS_ONLY
        morgue.die(C)
    assert json.dumps(bench.lines()) == lines
    assert bench.outcomes()[C] == "OK"
    assert len(bench.shard.leases) == bench.shard.frontier.relinks == 0
    assert bench.shard.frontier.waiting == bench.shard.frontier.queued == 0
    bench.shard.frontier.check()


def test_a_robots_txt_that_kills_is_poison_at_the_third_death() -> None:
    bench = Bench(CrawlConfig(delay=1.0))
    who = ONE
    bench.join(who)
    bench.give(Seeds(1, tuple(request(url, flags=Flag.SEED) for url in (A, B, C))))
    for death in range(3):
        [lease] = bench.shard.leases
        heir = session(death + 1)
        hello = m.Hello(
            bench.number(heir),
            m.VERSION,
            heir,
            (who,),
            "box",
            1,
            0,
            False,
            (),
            ((who, lease.id, m.ROBOTS_ORDINAL),),
        )
        bench.give(Received(hello))
        bench.beat(heir)
        bench.wait(2)
        who = heir
    [lease] = bench.shard.leases
    row = bench.rows.get(robots_row(bench.shard.frontier.host("a.test", bench.now, bench.wall).slot, SITE))
    assert row is not None and unpack(row)[1] == "POISON"
    assert bench.shard.frontier.queued + bench.shard.leases.requests == 3, "no page is blamed"
    bench.adds_up()
