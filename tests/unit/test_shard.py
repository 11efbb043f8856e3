"""A shard's core, one test a promise; numbers in brackets are the rules of docs/protocol.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.messages import Flag, LeaseId, LinkGroup, Phase, Request, SessionId, lease_epoch
from common.outcome import Outcome
from common.scope import HeldSites, Scope
from common.url import CanonicalURL, canonical, host_key, slot
from coordinator import policy
from coordinator.fleet import MOST_SESSIONS
from coordinator.outputs import Outputs
from coordinator.sessions import DENIED_TOLD
from coordinator.shard import Shard
from coordinator.steps import (
    Asked,
    Commit,
    DropPieces,
    Event,
    Instruction,
    KeepPiece,
    Note,
    Received,
    Seeded,
    Seeds,
    Send,
    Steered,
    Tell,
    Tick,
)
from coordinator.store.kv import Overlay
from coordinator.store.rows import CHARGED, DoneRow, output_row, request_row, unpack, unpack_request_row
from tests.support.disk import CrashableFiles, CrashableStore

ONE, TWO = SessionId(b"1" * 16), SessionId(b"2" * 16)
SITE = "https://a.test"
T = 30.0
OK = m.Facts(Outcome.OK.code, status=200, elapsed_ms=10, fetched_at=1_000_000.0)
Kind = TypeVar("Kind")


def only(kind: type[Kind], out: Sequence[object]) -> list[Kind]:
    return [each for each in out if isinstance(each, kind)]


def sent(kind: type[Kind], out: Sequence[object]) -> list[Kind]:
    return only(kind, [send.message for send in only(Send, out)])


def failed(outcome: Outcome) -> m.Facts:
    return m.Facts(outcome.code, status=500 if outcome is Outcome.SERVER_ERROR else None)


def request(url: str, *, flags: int = 0, depth: int = 0, form: m.Form | None = None) -> Request:
    return Request(url, depth, 0, 0, flags, "seed", None, form)


class Bench:
    """A shard, its disk, a clock, and workers that say what a test tells them."""

    def __init__(
        self, config: CrawlConfig | None = None, *, scope: Scope | None = None, **options: Any
    ) -> None:
        self.config = config or CrawlConfig(obey_robots=False)
        self.scope = scope or Scope("any", None)
        self.options = options
        self.now, self.wall = 100.0, 1_000_000.0
        self.store, self.files = CrashableStore(), CrashableFiles()
        self.parts: dict[str, dict[int, bytes]] = {}
        self.numbers: dict[bytes, int] = {}
        self.data = 0
        self.told: list[Instruction] = []
        self.start()

    def start(self) -> None:
        rows = Overlay(self.store)
        ends = {key[1:].decode(): unpack(end) for key, end in rows.scan(b"o", b"p", 1000)}
        outputs = Outputs(ends, shard=0, name="crawl", warcinfo=lambda file, wall: b"<warcinfo>")
        ids = iter(range(1_000_000))
        self.rows = rows
        self.shard = Shard(
            rows,
            outputs,
            self.config,
            self.scope,
            crawl=b"c" * 16,
            seed=1,
            identifier=lambda: f"<urn:uuid:{next(ids)}>",
            now=self.now,
            wall=self.wall,
            **self.options,
        )

    def restart(self, *, away: float = 1.0, clock: float | None = None) -> None:
        """kill -9 and a new start: what was not committed is gone; the monotonic clock may begin anew."""
        self.store = CrashableStore(dict(self.store.scan(b"", b"\xff", 1 << 20)))
        self.now = self.now + away if clock is None else clock
        self.wall += away
        self.start()

    def handle(self, event: Event) -> list[Instruction]:
        """What leaves at once."""
        out = self.shard.handle(event, self.now, self.wall)
        for each in out:
            if isinstance(each, KeepPiece):
                self.files.keep(each.key, each.index, each.body)
        return out

    def commit(self) -> list[Instruction]:
        commit: Commit = self.shard.seal(self.now, self.wall)
        self.files.write(commit.outputs)
        self.store.write(commit.rows)
        out = list(self.shard.committed(commit))
        for each in out:
            if isinstance(each, DropPieces):
                self.files.drop(each.key)
        return out

    def give(self, event: Event) -> list[Instruction]:
        """An event and the commit after it: all that leaves."""
        return self.handle(event) + self.commit()

    def wait(self, seconds: float, *, silent: tuple[SessionId, ...] = ()) -> list[Instruction]:
        """Workers say something meanwhile that means nothing, but for those that are `silent`."""
        self.now += seconds
        self.wall += seconds
        speaking = [session.id for session in self.shard.fleet if seconds and session.id not in silent]
        said = [self.handle(Received(m.Want(0, SessionId(session), ""))) for session in speaking]
        return [*(each for out in said for each in out), *self.give(Tick())]

    # what workers say

    def number(self, session: bytes) -> int:
        self.numbers[session] = self.numbers.get(session, 0) + 1
        return self.numbers[session]

    def hello(
        self,
        session: SessionId = ONE,
        *,
        leases: tuple[LeaseId, ...] = (),
        replaces: tuple[SessionId, ...] = (),
    ) -> list[Instruction]:
        number = self.number(session)
        return self.give(Received(m.Hello(number, m.VERSION, session, replaces, "box", 1, 0, False, leases)))

    def beat(
        self,
        session: SessionId = ONE,
        leases: tuple[LeaseId, ...] = (),
        *,
        lanes: int = 100,
        requests: int = 500,
        epoch: int | None = None,
    ) -> list[Instruction]:
        epoch = self.shard.epoch if epoch is None else epoch
        number = self.number(session)
        return self.give(Received(m.Heartbeat(number, session, epoch, leases, lanes, requests, 0, 0, 0, 0)))

    def join(self, session: SessionId = ONE, *, lanes: int = 100, requests: int = 500) -> list[m.Lease]:
        return sent(m.Lease, self.hello(session) + self.beat(session, lanes=lanes, requests=requests))

    def seed(self, *urls: str, flags: int = Flag.SEED) -> list[m.Lease]:
        return sent(m.Lease, self.give(Seeds(1, tuple(request(url, flags=flags) for url in urls))))

    def page_message(
        self,
        lease: m.Lease,
        ordinal: int = 0,
        facts: m.Facts = OK,
        *,
        age: float | None = 0.0,
        links: tuple[LinkGroup, ...] = (),
        split: int = 0,
        pieces: int = 0,
        retry_after: float | None = None,
        session: SessionId | None = None,
    ) -> m.Page:
        self.data += 1
        who = session or lease.session
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        return m.Page(
            self.data, who, lease.id, ordinal, age, retry_after, facts, links, (), head, split, pieces, ()
        )

    def page(self, lease: m.Lease, ordinal: int = 0, facts: m.Facts = OK, **more: Any) -> list[Instruction]:
        body = more.pop("body", b"")
        return self.give(Received(self.page_message(lease, ordinal, facts, **more), body))

    def release(self, lease: m.Lease, age: float | None = 0.0) -> list[Instruction]:
        number = self.number(lease.session)
        return self.give(Received(m.Release(number, lease.session, lease.id, age)))

    def links(self, *groups: LinkGroup, session: SessionId = ONE) -> m.Links:
        self.data += 1
        return m.Links(self.data, session, groups)

    # what can be seen

    def row(self, url: str) -> Any:
        name = host_key(CanonicalURL(url))
        packed = self.rows.get(request_row(slot(name), self.shard.frontier.key_of(url, None)))
        return None if packed is None else unpack_request_row(packed)

    def lines(self) -> list[dict[str, Any]]:
        found = [body for file, body in sorted(self.files.files.items()) if file.startswith("pages/")]
        return [json.loads(line) for body in found for line in body.splitlines()]

    def outcomes(self) -> dict[str, str]:
        return {line["url"]: line["outcome"] for line in self.lines()}

    def adds_up(self) -> None:
        """[promise 1] Admitted is open and ended; what is open is queued, waits or is lent."""
        shard = self.shard
        open_requests = shard.frontier.queued + shard.frontier.waiting + shard.leases.requests
        assert shard.ledger.counts.admitted == open_requests + shard.ledger.counts.ended
        shard.frontier.check()


def links(*urls: str, depth: int = 1, hops: int = 0, flags: int = 0) -> LinkGroup:
    return LinkGroup(f"{SITE}/", "seed", depth, hops, flags, urls, None)


def answers(out: Sequence[object]) -> tuple[list[int], dict[int, str]]:
    """(accepted, refused) numbers."""
    accepted: list[int] = []
    refused: dict[int, str] = {}
    for answer in sent(m.Answer, out):
        accepted += answer.accepted
        refused.update(answer.refused)
    return accepted, refused


@pytest.fixture
def bench() -> Bench:
    return Bench()


def lent(bench: Bench, *urls: str) -> m.Lease:
    """A lease of these URLs, lent to session ONE."""
    bench.join()
    [lease] = bench.seed(*(urls or (f"{SITE}/",)))
    return lease


# -------------------------------------------------------------------------- a request's whole way, and rule 2


def test_a_seed_is_lent_fetched_and_told(bench: Bench) -> None:
    lease = lent(bench)
    assert [each.url for each in lease.requests] == [f"{SITE}/"]
    assert (lease.host, lease.delay, lease.lanes) == ("a.test", 1.0, 1)
    out = bench.page(lease, body=b"<request><response>", split=9)
    assert answers(out) == ([1], {})
    [line] = bench.lines()
    assert (line["url"], line["outcome"], line["attempts"], line["record"]) == (
        f"{SITE}/",
        "OK",
        1,
        "response",
    )
    stored = bench.files.files[line["warc"]["file"]]
    assert stored[line["warc"]["offset"] :][: line["warc"]["length"]] == b"<response>"
    bench.adds_up()


def test_nothing_that_rests_on_a_commit_leaves_before_it(bench: Bench) -> None:
    bench.join()
    assert sent(m.Lease, bench.handle(Seeds(1, (request(f"{SITE}/"),)))) == []
    [lease] = sent(m.Lease, bench.commit())
    for event in (
        Received(bench.page_message(lease)),
        Received(bench.links(links(f"{SITE}/"))),
        Received(m.Release(9, ONE, LeaseId(99), None)),
        Received(m.Hello(10, m.VERSION, ONE, (), "box", 1, 0, False, ())),
        Seeds(2, ()),
        Asked(m.Poll(1)),
        Asked(m.Cap(1, 100)),
    ):
        assert only(Send, bench.handle(event)) + only(Tell, bench.handle(Tick())) == [], event
        assert bench.shard.unsealed
        assert bench.commit() != [], event


def test_links_that_were_known_already_are_acknowledged_after_the_commit_too(bench: Bench) -> None:
    """The first message with them may not be durable yet."""
    bench.join()
    first, second = bench.links(links(f"{SITE}/1")), bench.links(links(f"{SITE}/1"))
    assert bench.handle(Received(first)) + bench.handle(Received(second)) == []
    assert answers(bench.commit())[0] == [first.number, second.number]


def test_an_uncommitted_page_is_as_if_it_had_never_come(bench: Bench) -> None:
    lease = lent(bench)
    page = bench.page_message(lease)
    bench.handle(Received(page))
    bench.restart()
    assert bench.lines() == []
    bench.hello(leases=(lease.id,))
    assert answers(bench.give(Received(page)))[0] == [page.number]
    assert bench.outcomes() == {f"{SITE}/": "OK"}
    bench.adds_up()


def test_outlinks_commit_with_their_page(bench: Bench) -> None:
    lease = lent(bench)
    bench.page(lease, links=(links(f"{SITE}/1", "https://b.test/"),))
    assert bench.shard.ledger.counts.admitted == 3
    bench.restart()
    assert bench.shard.frontier.queued + bench.shard.leases.requests == 2
    bench.adds_up()


def test_a_known_link_is_admitted_once(bench: Bench) -> None:
    bench.join()
    bench.give(Received(bench.links(links(f"{SITE}/1"), links(f"{SITE}/1", f"{SITE}/2"))))
    assert bench.shard.ledger.counts.admitted == 2
    assert only(Seeded, bench.give(Seeds(5, (request(f"{SITE}/2"), request(f"{SITE}/3"))))) == [
        Seeded(5, (False, True))
    ]


# --------------------------------------------------------------------------------------------- rule 5: leases


def test_the_row_of_a_lease_is_committed_with_what_it_takes_from_the_queue(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    assert lease_epoch(lease.id) == 1
    bench.restart()
    [open_lease] = bench.shard.leases
    assert open_lease.id == lease.id
    assert [each.url for each in open_lease.undone()] == [f"{SITE}/1", f"{SITE}/2"]
    assert bench.shard.frontier.queued == 0
    bench.adds_up()


def test_after_a_restart_an_open_lease_gets_a_full_ttl_and_its_host_is_lent_to_nobody_else(
    bench: Bench,
) -> None:
    lease = lent(bench, f"{SITE}/1")
    bench.wait(20.0)
    bench.restart(clock=5.0)
    assert bench.join(TWO) == []
    bench.seed(f"{SITE}/2")
    assert sent(m.Lease, bench.wait(T)) == []
    out = bench.wait(T * 0.011)
    assert [note.event for note in only(Note, out)] == ["lease.expired"]
    [again] = sent(m.Lease, bench.wait(1.0))
    assert [each.url for each in again.requests] == [f"{SITE}/1", f"{SITE}/2"]
    assert again.id != lease.id
    assert lease_epoch(again.id) == 2
    bench.adds_up()


def test_a_restart_with_a_longer_ttl_waits_for_workers_that_count_with_it(bench: Bench) -> None:
    lent(bench)
    tuning = bench.config.tuning
    bench.config = CrawlConfig(obey_robots=False, tuning=type(tuning)(lease_ttl=2 * T))
    bench.restart()
    [lease] = bench.shard.leases
    assert lease.deadline - bench.now == pytest.approx(2 * T * 1.01)


def test_leases_of_different_epochs_never_have_one_id(bench: Bench) -> None:
    first = lent(bench)
    bench.release(first)
    bench.restart()
    bench.join()
    due(bench)
    [second] = bench.shard.leases
    assert second.id != first.id


def test_a_result_that_was_put_off_is_not_lent_twice_after_a_restart(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.page(lease, 0, failed(Outcome.SERVER_ERROR))
    bench.restart()
    [open_lease] = bench.shard.leases
    assert [each.url for each in open_lease.undone()] == [f"{SITE}/2"]
    assert bench.shard.frontier.waiting == 1
    bench.adds_up()


# --------------------------------------------------------------------------------------- rules 6, 7: renewals


def test_a_lease_names_the_highest_control_number_seen(bench: Bench) -> None:
    bench.join()
    bench.beat()
    [lease] = bench.seed(f"{SITE}/")
    assert lease.number == 3


def test_the_answer_to_a_heartbeat_names_that_heartbeat(bench: Bench) -> None:
    bench.join()
    bench.beat()
    late = m.Heartbeat(2, ONE, 1, (), 100, 500, 0, 0, 0, 0)
    assert [alive.number for alive in sent(m.Alive, bench.give(Received(late)))] == [2]
    assert [alive.number for alive in sent(m.Alive, bench.beat())] == [4]


def test_only_what_a_heartbeat_lists_is_renewed(bench: Bench) -> None:
    bench.join()
    [first] = bench.seed(f"{SITE}/")
    [second] = bench.seed("https://b.test/")
    bench.wait(20.0)
    bench.beat(leases=(first.id,))
    out = bench.wait(11.0)
    assert [dict(note.facts)["host"] for note in only(Note, out)] == ["b.test"]
    assert [lease.id for lease in bench.shard.leases if lease.id != second.id] != []


def test_a_heartbeat_is_told_which_leases_are_not_held(bench: Bench) -> None:
    lease = lent(bench)
    [alive] = sent(m.Alive, bench.beat(leases=(lease.id, LeaseId(4711))))
    assert alive.unknown == (4711,)


def test_a_lease_of_another_session_is_unknown(bench: Bench) -> None:
    lease = lent(bench)
    bench.join(TWO)
    [alive] = sent(m.Alive, bench.beat(TWO, (lease.id,)))
    assert alive.unknown == (lease.id,)


def test_an_older_heartbeat_does_not_take_back_credit(bench: Bench) -> None:
    bench.join(lanes=0)
    bench.beat(lanes=5)
    bench.give(Received(m.Heartbeat(2, ONE, 1, (), 0, 0, 0, 0, 0, 0)))
    assert len(bench.seed(f"{SITE}/")) == 1


def test_a_change_of_phase_is_told_at_once_and_renews_nothing(bench: Bench) -> None:
    bench.join()
    [alive] = sent(m.Alive, bench.handle(Steered(Phase.PAUSED)))
    assert (alive.number, alive.phase) == (0, Phase.PAUSED)
    assert bench.seed(f"{SITE}/") == []
    assert bench.shard.next_wakeup() is None
    assert len(sent(m.Lease, bench.give(Steered(Phase.RUNNING)))) == 1


def test_a_session_whose_lease_expired_has_no_credit_until_it_is_heard_again(bench: Bench) -> None:
    """It is dead, and the process that had a host last would be preferred for ever."""
    lent(bench)
    bench.wait(T * 1.02)
    assert sent(m.Lease, bench.wait(5.0)) == []
    bench.join(TWO)
    assert len(bench.shard.leases.of(TWO)) == 1
    bench.seed("https://b.test/")
    assert len(bench.shard.leases.of(ONE)) == 0
    bench.beat()
    bench.seed("https://c.test/")
    assert len(bench.shard.leases) == 3


# ---------------------------------------------------------------------------- rules 9, 10: when a host is due


def due(bench: Bench) -> float | None:
    """Seconds until the next lease of the host, if nothing else comes."""
    begun = bench.now
    for _ in range(1000):
        at = bench.shard.next_wakeup()
        if at is None:
            return None
        if sent(m.Lease, bench.wait(max(0.0, at - bench.now) + 1e-9)):
            return bench.now - begun
    raise AssertionError("woken 1000 times for nothing")


@pytest.mark.parametrize(("age", "wait"), [(0.0, 1.0), (0.4, 0.6), (5.0, 0.0), (None, 0.0)])
def test_a_released_host_is_due_a_delay_after_its_last_fetch(
    bench: Bench, age: float | None, wait: float
) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    out = bench.release(lease, age)
    if wait:
        assert sent(m.Lease, out) == []
        assert due(bench) == pytest.approx(wait)
    else:
        assert len(sent(m.Lease, out)) == 1


def test_a_finished_lease_is_due_a_delay_after_its_last_fetch(bench: Bench) -> None:
    lease = lent(bench)
    bench.seed(f"{SITE}/2")
    assert sent(m.Lease, bench.page(lease, age=0.25)) == []
    assert due(bench) == pytest.approx(0.75)


def test_of_several_reports_the_latest_fetch_counts_not_the_last_report(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.seed(f"{SITE}/3")
    bench.page(lease, 1, age=0.0)
    bench.now += 0.5
    bench.wall += 0.5
    bench.page(lease, 0, age=3.0)
    assert due(bench) == pytest.approx(0.5)


def test_an_expired_lease_owes_a_delay_from_its_expiry(bench: Bench) -> None:
    lent(bench)
    bench.join(TWO)
    out = bench.wait(T * 1.0101)
    assert sent(m.Lease, out) == []
    assert due(bench) == pytest.approx(1.0)


def test_a_goodbye_owes_a_delay_unless_it_tells_ages(bench: Bench) -> None:
    lease = lent(bench)
    bench.join(TWO)
    bench.give(Received(m.Goodbye(9, ONE, ())))
    assert due(bench) == pytest.approx(1.0)
    [again] = bench.shard.leases
    assert again.session == TWO
    bench.join(ONE)
    bench.give(Received(m.Goodbye(9, TWO, ((again.id, 0.75),))))
    assert due(bench) == pytest.approx(0.25)
    assert lease.id != again.id


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
def test_after_a_restart_a_host_waits_at_least_its_delay_and_at_most_what_was_set(
    bench: Bench, jump: float
) -> None:
    lease = lent(bench)
    bench.seed(f"{SITE}/2")
    bench.page(lease, age=0.0)
    bench.wall += jump
    bench.restart(away=0.1, clock=7.0)
    bench.join()
    assert due(bench) == pytest.approx(1.0, abs=0.01)


def test_after_a_restart_a_backoff_goes_on(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.page(lease, 0, m.Facts(Outcome.SERVER_ERROR.code, status=503), retry_after=100.0)
    bench.release(lease)
    bench.restart(away=40.0, clock=0.0)
    bench.join()
    assert due(bench) == pytest.approx(60.0, abs=0.01)


def test_a_host_that_was_never_visited_owes_nothing_after_a_restart(bench: Bench) -> None:
    bench.seed(f"{SITE}/")
    bench.restart(clock=0.0)
    assert len(bench.join()) == 1


# ------------------------------------------------------------------------- rules 11, 13: results and sessions


def test_a_result_for_a_lease_that_is_not_held_is_refused_and_changes_nothing(bench: Bench) -> None:
    lease = lent(bench)
    bench.wait(T * 1.02)
    before = bench.shard.ledger.counts.to_row()
    page = bench.page_message(lease, links=(links(f"{SITE}/1"),))
    assert answers(bench.give(Received(page))) == ([], {page.number: "lease"})
    assert bench.shard.ledger.counts.to_row()[:3] == before[:3]
    bench.adds_up()


def test_a_result_of_another_session_is_refused(bench: Bench) -> None:
    lease = lent(bench)
    bench.join(TWO)
    page = bench.page_message(lease, session=TWO)
    assert answers(bench.give(Received(page)))[1] == {page.number: "lease"}


def test_a_duplicate_of_an_accepted_page_is_answered_again_and_counted_once(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    page = bench.page_message(lease)
    bench.give(Received(page))
    assert answers(bench.give(Received(page))) == ([page.number], {})
    bench.page(lease, 1)
    assert answers(bench.give(Received(page))) == ([page.number], {}), "also when its lease is over"
    assert len(bench.lines()) == 2
    assert bench.shard.ledger.counts.attempts == 2
    bench.adds_up()


def test_a_duplicate_of_a_refused_page_is_refused_again(bench: Bench) -> None:
    lease = lent(bench)
    bench.release(lease)
    page = bench.page_message(lease)
    for _ in range(2):
        assert answers(bench.give(Received(page)))[1] == {page.number: "lease"}


def test_a_page_that_was_accepted_before_a_restart_is_accepted_again_while_its_lease_is_open(
    bench: Bench,
) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    page = bench.page_message(lease)
    bench.give(Received(page))
    bench.restart()
    bench.hello(leases=(lease.id,))
    assert answers(bench.give(Received(page))) == ([page.number], {})
    assert len(bench.lines()) == 1
    bench.adds_up()


def test_an_unknown_session_is_asked_to_say_hello_again_and_nothing_is_done(bench: Bench) -> None:
    lease = lent(bench)
    bench.restart()
    page = bench.page_message(lease)
    assert sent(m.HelloAgain, bench.give(Received(page))) == [m.HelloAgain(ONE)]
    assert bench.lines() == []
    assert bench.give(Received(m.Goodbye(5, ONE, ()))) == []


def test_another_version_is_denied_with_both_versions(bench: Bench) -> None:
    hello = m.Hello(1, m.VERSION + 1, ONE, (), "box", 1, 0, False, ())
    [denied] = sent(m.Denied, bench.give(Received(hello)))
    assert str(m.VERSION) in denied.reason and str(m.VERSION + 1) in denied.reason
    assert len(bench.shard.fleet) == 0


def test_who_is_turned_away_again_and_again_does_not_fill_the_log(bench: Bench) -> None:
    told = 0
    for number in range(2500):
        hello = m.Hello(number + 1, m.VERSION + 1, ONE, (), "box", 1, 0, False, ())
        out = bench.handle(Received(hello))
        assert sent(m.Denied, out)
        told += sum(note.event == "worker.denied" for note in only(Note, out))
    assert told == DENIED_TOLD + 2


def test_there_is_a_bound_on_how_many_may_work(bench: Bench) -> None:
    """Each is remembered with what it was answered; one that is there already may come again."""
    for number in range(MOST_SESSIONS):
        name = SessionId(number.to_bytes(16))
        bench.handle(Received(m.Hello(1, m.VERSION, name, (), "box", 1, 0, False, ())))
    late = m.Hello(1, m.VERSION, TWO, (), "box", 1, 0, False, ())
    [denied] = sent(m.Denied, bench.give(Received(late)))
    assert not denied.final and "10000 worker processes" in denied.reason
    again = m.Hello(2, m.VERSION, SessionId(bytes(16)), (), "box", 1, 0, False, ())
    assert sent(m.Welcome, bench.give(Received(again)))
    bench.now += 301
    bench.shard.sweep(bench.now)
    assert sent(m.Welcome, bench.give(Received(late)))


def test_a_welcome_tells_what_a_worker_needs(bench: Bench) -> None:
    [welcome] = sent(m.Welcome, bench.hello())
    assert (welcome.number, welcome.epoch, welcome.ttl, welcome.heartbeat) == (1, 1, 30.0, 5.0)
    store = welcome.store
    bench.seed(f"{SITE}/")
    bench.restart()
    [welcome] = sent(m.Welcome, bench.hello())
    assert (welcome.number, welcome.epoch) == (2, 2)
    assert welcome.store > store


def test_answers_name_single_messages(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    first, second = bench.page_message(lease, 0), bench.page_message(lease, 1)
    assert answers(bench.give(Received(second)))[0] == [second.number]
    assert answers(bench.give(Received(first)))[0] == [first.number]


# ------------------------------------------------------------------------------------------ rule 12: restarts


def test_a_holder_that_reconnects_goes_on_after_a_restart(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.restart()
    bench.hello(leases=(lease.id,))
    [alive] = sent(m.Alive, bench.beat(leases=(lease.id,)))
    assert alive.unknown == ()
    assert answers(bench.page(lease, 0))[0] != []
    session = bench.shard.fleet.get(ONE)
    assert session is not None
    assert (session.lent_lanes, session.lent_requests) == (1, 1)


def test_leases_of_older_epochs_that_their_holder_does_not_list_are_freed_with_a_delay(bench: Bench) -> None:
    lent(bench)
    bench.restart()
    bench.hello()
    assert sent(m.Lease, bench.beat()) == []
    assert len(bench.shard.leases) == 0
    assert due(bench) == pytest.approx(1.0)


def test_a_heartbeat_from_before_the_restart_frees_nothing(bench: Bench) -> None:
    lease = lent(bench)
    bench.restart()
    bench.hello(leases=(lease.id,))
    bench.beat(epoch=1)
    assert len(bench.shard.leases) == 1


def test_a_lease_made_in_this_epoch_is_not_freed_by_a_heartbeat_that_left_before_it_arrived(
    bench: Bench,
) -> None:
    bench.hello()
    bench.beat(epoch=0)
    bench.seed(f"{SITE}/")
    bench.beat()
    assert len(bench.shard.leases) == 1


def test_a_hello_renews_what_it_lists(bench: Bench) -> None:
    lease = lent(bench)
    bench.restart()
    bench.wait(T - 1)
    bench.hello(leases=(lease.id,))
    bench.wait(T - 1)
    assert len(bench.shard.leases) == 1


def test_a_dead_process_loses_its_leases_at_once_with_a_delay(bench: Bench) -> None:
    lent(bench)
    bench.hello(TWO, replaces=(ONE,))
    bench.beat(TWO)
    assert bench.shard.fleet.get(ONE) is None
    assert due(bench) == pytest.approx(1.0)
    [lease] = bench.shard.leases
    assert lease.session == TWO


def test_when_all_local_workers_are_known_to_be_gone_their_leases_end(bench: Bench) -> None:
    bench.give(Received(m.Hello(1, m.VERSION, ONE, (), "box", 1, 0, True, ())))
    bench.numbers[ONE] = 1
    bench.beat()
    bench.seed(f"{SITE}/")
    bench.restart()
    assert bench.shard.workers_gone(bench.now, bench.wall) == 1
    bench.join(TWO)
    assert due(bench) == pytest.approx(1.0, abs=0.01)


# ------------------------------------------------------------------------------------------- rule 14: closing


def poll(bench: Bench, number: int) -> m.Report:
    [told] = only(Tell, bench.give(Asked(m.Poll(number))))
    assert isinstance(told.message, m.Report)
    return told.message


def close(bench: Bench, report: m.Report) -> bool:
    asked = m.Close(report.round, report.epoch, report.admitted, report.done, report.attempts)
    [told] = only(Tell, bench.give(Asked(asked)))
    assert isinstance(told.message, m.Closed)
    return told.message.ok


def test_a_report_counts_what_is_open_and_what_is_done(bench: Bench) -> None:
    bench.join(requests=1)
    bench.seed(f"{SITE}/1", f"{SITE}/2")
    report = poll(bench, 1)
    assert (report.admitted, report.done, report.leased, report.lendable) == (2, 0, 1, 1)


def test_a_quiet_shard_closes_and_admits_nothing(bench: Bench) -> None:
    lease = lent(bench)
    bench.page(lease)
    report = poll(bench, 1)
    assert (report.leased, report.lendable, report.done) == (0, 0, 1)
    assert close(bench, report)
    late = bench.links(links(f"{SITE}/1"))
    assert answers(bench.give(Received(late))) == ([], {late.number: "closed"})
    assert bench.shard.ledger.counts.admitted == 1


def test_a_later_round_opens_a_closed_shard(bench: Bench) -> None:
    bench.join()
    assert close(bench, poll(bench, 1))
    poll(bench, 2)
    late = bench.links(links(f"{SITE}/1"))
    assert answers(bench.give(Received(late)))[0] == [late.number]
    assert close(bench, poll(bench, 3)) is False


def test_what_changed_since_the_report_keeps_a_shard_open(bench: Bench) -> None:
    lease = lent(bench)
    bench.page(lease)
    report = poll(bench, 1)
    bench.give(Received(bench.links(links(f"{SITE}/1"))))
    assert not close(bench, report)
    assert len(bench.shard.leases) + bench.shard.frontier.queued == 1


def test_a_close_of_an_older_round_closes_nothing(bench: Bench) -> None:
    bench.join()
    report = poll(bench, 1)
    poll(bench, 2)
    assert not close(bench, report)
    assert not bench.shard.closed


def test_a_close_from_before_a_restart_closes_nothing(bench: Bench) -> None:
    bench.join()
    report = poll(bench, 1)
    bench.restart()
    assert not close(bench, report)


def test_a_shard_that_has_lent_something_does_not_close(bench: Bench) -> None:
    lent(bench)
    assert not close(bench, poll(bench, 1))


def test_a_retry_that_waits_keeps_a_shard_open(bench: Bench) -> None:
    lease = lent(bench)
    bench.page(lease, 0, failed(Outcome.SERVER_ERROR))
    report = poll(bench, 1)
    assert report.lendable == 1
    assert not close(bench, report)


def test_seeds_open_a_closed_shard(bench: Bench) -> None:
    bench.join()
    assert close(bench, poll(bench, 1))
    assert len(bench.seed(f"{SITE}/")) == 1


# --------------------------------------------------------------------------------- retries and given-up hosts


def run_down(bench: Bench, outcome: Outcome, facts: m.Facts | None = None) -> int:
    """Answer everything that is lent with this outcome until nothing is lent any more; how many pages were sent."""
    pages = 0
    for _ in range(10_000):
        for open_lease in list(bench.shard.leases):
            for ordinal in sorted(open_lease.open):
                lease = m.Lease(SessionId(open_lease.session), 0, open_lease.id, "", 0.0, 1, 1, (), None, ())
                bench.page(lease, ordinal, facts or failed(outcome))
                pages += 1
        if len(bench.shard.leases):
            continue
        at = bench.shard.next_wakeup()
        if at is None:
            return pages
        bench.beat()
        bench.wait(max(0.0, at - bench.now) + 1e-6)
    raise AssertionError("it never ends")


@pytest.mark.parametrize("retries", [0, 2])
def test_what_may_pass_is_tried_again_and_then_stands(retries: int) -> None:
    bench = Bench(CrawlConfig(obey_robots=False, retries=retries))
    lent(bench)
    assert run_down(bench, Outcome.SERVER_ERROR) == retries + 1
    [line] = bench.lines()
    assert (line["outcome"], line["attempts"]) == ("SERVER_ERROR", retries + 1)
    row = bench.row(f"{SITE}/")
    assert isinstance(row, DoneRow)
    assert [code for code, _ in row.tries] == [Outcome.SERVER_ERROR.code] * (retries + 1)
    bench.adds_up()


def test_a_retry_waits_and_then_goes_first(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1")
    bench.page(lease, 0, failed(Outcome.SERVER_ERROR))
    bench.beat(lanes=0)
    bench.seed(f"{SITE}/2")
    bench.wait(policy.RETRY_DELAY + 0.01)
    [again] = sent(m.Lease, bench.beat())
    assert [(each.url, each.attempts) for each in again.requests] == [(f"{SITE}/1", 1), (f"{SITE}/2", 0)]


def test_retries_survive_a_restart(bench: Bench) -> None:
    lease = lent(bench)
    bench.page(lease, 0, failed(Outcome.SERVER_ERROR))
    bench.restart(clock=0.0)
    bench.join()
    assert run_down(bench, Outcome.SERVER_ERROR) == 2
    assert bench.lines()[0]["attempts"] == 3
    bench.adds_up()


def test_a_request_given_back_was_not_tried(bench: Bench) -> None:
    lease = lent(bench)
    bench.release(lease, None)
    [again] = bench.shard.leases
    assert again.requests[0].attempts == 0


def test_a_host_that_fails_again_and_again_is_given_up_and_drained(bench: Bench) -> None:
    urls = [f"{SITE}/{page}" for page in range(2000)]
    lent(bench, *urls)
    pages = run_down(bench, Outcome.REFUSED)
    assert pages < 100
    outcomes = bench.outcomes()
    assert len(outcomes) == 2000
    assert set(outcomes.values()) <= {"HOST_UNREACHABLE", "REFUSED"}
    report = poll(bench, 1)
    assert (report.leased, report.lendable, report.done) == (0, 0, 2000)
    bench.adds_up()


def test_a_given_up_host_is_drained_without_any_worker(bench: Bench) -> None:
    lent(bench, *(f"{SITE}/{page}" for page in range(2000)))
    host = bench.shard.frontier.host("a.test", bench.now, bench.wall)
    host.doom, host.doom_reason = Outcome.HOST_UNREACHABLE.code, "it was told to"
    bench.give(Received(m.Goodbye(9, ONE, ())))
    for _ in range(20):
        at = bench.shard.next_wakeup()
        if at is None:
            break
        bench.wait(max(0.0, at - bench.now))
    assert set(bench.outcomes().values()) == {"HOST_UNREACHABLE"}
    assert len(bench.lines()) == 2000


def test_a_failing_host_rests_longer_each_time(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2", f"{SITE}/3")
    bench.page(lease, 0, failed(Outcome.TIMEOUT))
    bench.page(lease, 1, failed(Outcome.TIMEOUT))
    bench.release(lease)
    assert due(bench) == pytest.approx(policy.backoff(2))


def test_an_answer_ends_a_row_of_failures(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.page(lease, 0, failed(Outcome.TIMEOUT))
    bench.page(lease, 1)
    assert bench.shard.frontier.host("a.test", bench.now, bench.wall).failures == 0


def test_a_bare_host_that_refuses_https_is_tried_by_http(bench: Bench) -> None:
    bench.join()
    [lease] = bench.seed(f"{SITE}/", flags=Flag.SEED | Flag.BARE)
    bench.page(lease, 0, failed(Outcome.REFUSED))
    assert bench.outcomes() == {f"{SITE}/": "REFUSED"}
    due(bench)
    [again] = bench.shard.leases
    assert [(each.url, each.flags & ~CHARGED) for each in again.requests] == [("http://a.test/", Flag.SEED)]
    bench.adds_up()


def test_the_http_address_of_a_bare_host_is_charged_to_no_budget_again(bench: Bench) -> None:
    bench.join()
    bench.give(Asked(m.Cap(1, 1)))
    [lease] = bench.seed(f"{SITE}/", "https://b.test/", flags=Flag.SEED | Flag.BARE)
    bench.page(lease, 0, failed(Outcome.REFUSED))
    due(bench)
    [again] = bench.shard.leases
    assert [each.url for each in again.requests] == ["http://a.test/"]
    bench.page(again, 0)
    due(bench)
    assert not list(bench.shard.leases)
    assert bench.shard.ledger.counts.charged == 1
    assert bench.shard.frontier.queued == 1
    bench.adds_up()


def test_a_seed_that_was_given_as_https_is_not_tried_by_http(bench: Bench) -> None:
    lent(bench)
    run_down(bench, Outcome.REFUSED)
    assert set(bench.outcomes()) == {f"{SITE}/"}


# ---------------------------------------------------------------------------------------- scope and redirects


def hosted(*sites: str, **config: Any) -> Bench:
    options = {"obey_robots": False, **config}
    return Bench(CrawlConfig(**options), scope=Scope("host", HeldSites(sites)))


def test_links_out_of_scope_are_counted_and_not_admitted() -> None:
    bench = hosted("a.test")
    lease = lent(bench)
    bench.page(lease, links=(links(f"{SITE}/1", "https://b.test/"),))
    assert bench.shard.ledger.counts.admitted == 2
    assert bench.shard.ledger.counts.refused == {"scope": 1}


def test_links_deeper_than_the_limit_are_counted_and_not_admitted() -> None:
    bench = hosted("a.test", max_depth=1)
    lease = lent(bench)
    bench.page(lease, links=(links(f"{SITE}/1", depth=1), links(f"{SITE}/2", depth=2)))
    assert bench.shard.ledger.counts.admitted == 2
    assert bench.shard.ledger.counts.refused == {"depth": 1}


REDIRECT = m.Facts(Outcome.REDIRECT.code, status=301, redirect_to="https://b.test/")


def test_a_redirect_from_a_seed_adds_its_target_to_the_scope_and_says_so() -> None:
    bench = hosted("a.test")
    lease = lent(bench)
    hop = links("https://b.test/", depth=0, hops=1, flags=Flag.SEED)
    out = bench.page(lease, 0, REDIRECT, links=(hop,))
    [rescope] = sent(m.Terms, out)
    assert rescope.scope_version == 2
    assert "scope.grown" in [note.event for note in only(Note, out)]
    [following] = sent(m.Lease, out)
    assert (following.requests[0].url, following.scope_version) == ("https://b.test/", 2)
    assert (following.requests[0].hops, following.requests[0].depth) == (1, 0)
    bench.give(Received(bench.links(links("https://b.test/more"))))
    assert bench.shard.ledger.counts.admitted == 3


def test_a_redirect_from_a_page_that_is_no_seed_is_a_link_like_any_other() -> None:
    bench = hosted("a.test")
    bench.join()
    [lease] = bench.seed(f"{SITE}/", flags=0)
    hop = links("https://b.test/", depth=0, hops=1, flags=Flag.SEED)
    bench.page(lease, 0, REDIRECT, links=(hop,))
    assert bench.shard.ledger.counts.admitted == 1
    assert bench.shard.scope.version == 1


def test_without_following_a_redirect_is_followed_whatever_the_scope() -> None:
    bench = hosted("a.test", no_follow=True)
    bench.join()
    [lease] = bench.seed(f"{SITE}/", flags=0)
    bench.page(lease, 0, REDIRECT, links=(links("https://b.test/", depth=0, hops=1),))
    assert bench.shard.ledger.counts.admitted == 2


# ---------------------------------------------------------------------------------------------------- budgets


def crawl_all(bench: Bench, limit: int = 10_000) -> int:
    return run_down(bench, Outcome.OK, OK)


@pytest.mark.parametrize("cap", [1, 7, 20, 33])
def test_never_more_pages_than_the_cap_and_exactly_that_many(cap: int) -> None:
    bench = Bench()
    bench.give(Asked(m.Cap(1, cap)))
    bench.join()
    bench.seed(*(f"https://{host}.test/{page}" for page in range(5) for host in "abcdefgh"))
    crawl_all(bench)
    assert len(bench.lines()) == cap
    report = poll(bench, 1)
    assert (report.admitted, report.lendable) == (40, 0)
    assert close(bench, report), "what a budget holds back does not keep the crawl open"
    bench.adds_up()


def test_a_greater_cap_goes_on_where_a_smaller_one_stopped(bench: Bench) -> None:
    bench.give(Asked(m.Cap(1, 3)))
    bench.join()
    bench.seed(*(f"{SITE}/{page}" for page in range(10)))
    crawl_all(bench)
    [told] = only(Tell, bench.give(Asked(m.Cap(2, 8))))
    assert told.message == m.CapSet(2, 0, 8, 8) or isinstance(told.message, m.CapSet)
    crawl_all(bench)
    assert len(bench.lines()) == 8
    bench.give(Asked(m.Cap(3, None)))
    crawl_all(bench)
    assert len(bench.lines()) == 10


def test_a_cap_is_durable_and_an_older_one_is_ignored(bench: Bench) -> None:
    bench.give(Asked(m.Cap(2, 3)))
    bench.give(Asked(m.Cap(1, 100)))
    bench.restart()
    bench.join()
    bench.seed(*(f"{SITE}/{page}" for page in range(10)))
    crawl_all(bench)
    assert len(bench.lines()) == 3


def test_a_request_is_charged_once_however_often_it_is_lent(bench: Bench) -> None:
    bench.give(Asked(m.Cap(1, 2)))
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2", f"{SITE}/3")
    assert len(lease.requests) == 2
    bench.release(lease, None)
    [told] = only(Tell, bench.give(Asked(m.Cap(1, 2))))
    assert told.message == m.CapSet(1, 0, 2, 2)
    crawl_all(bench)
    assert sorted(bench.outcomes()) == [f"{SITE}/1", f"{SITE}/2"]


def test_a_retry_is_within_the_budget_that_its_first_try_used(bench: Bench) -> None:
    bench.give(Asked(m.Cap(1, 1)))
    lent(bench, f"{SITE}/1", f"{SITE}/2")
    assert run_down(bench, Outcome.SERVER_ERROR) == 3
    assert len(bench.lines()) == 1


@pytest.mark.parametrize("limit", [1, 3, 64])
def test_never_more_pages_of_a_host_than_its_limit(limit: int) -> None:
    bench = Bench(CrawlConfig(obey_robots=False, max_pages_per_host=limit, delay=0.0, per_host=4))
    bench.join()
    bench.seed(*(f"https://{host}.test/{page}" for page in range(100) for host in "ab"))
    crawl_all(bench)
    for host in "ab":
        assert sum(url.startswith(f"https://{host}.") for url in bench.outcomes()) == limit
    report = poll(bench, 1)
    assert report.lendable == 0
    assert close(bench, report)
    bench.adds_up()


def test_the_limit_of_a_host_holds_through_a_restart() -> None:
    bench = Bench(CrawlConfig(obey_robots=False, max_pages_per_host=3))
    lease = lent(bench, *(f"{SITE}/{page}" for page in range(10)))
    bench.page(lease, 0)
    bench.restart()
    bench.join()
    bench.wait(T * 1.02)
    bench.beat()
    crawl_all(bench)
    assert len(bench.lines()) == 3


# ---------------------------------------------------------------------------------- lanes and credit [18, 23]


def test_a_host_is_lent_in_leases_whose_lanes_add_up_to_its_own() -> None:
    bench = Bench(CrawlConfig(obey_robots=False, per_host=4))
    bench.join(ONE, lanes=3)
    bench.join(TWO, lanes=3)
    leases = bench.seed(*(f"{SITE}/{page}" for page in range(500)))
    assert sum(lease.lanes for lease in leases) == 4
    assert {lease.session for lease in leases} == {ONE, TWO}
    assert sent(m.Lease, bench.wait(5.0)) == []


def test_no_session_gets_more_than_its_credit() -> None:
    bench = Bench(CrawlConfig(obey_robots=False, per_host=8))
    bench.join(lanes=5, requests=20)
    bench.seed(*(f"https://{host}.test/{page}" for page in range(30) for host in "abcdef"))
    held = bench.shard.leases.of(ONE)
    assert sum(lease.width for lease in held) <= 5
    assert sum(len(lease.requests) for lease in held) <= 20
    assert len(held) >= 1


def test_credit_comes_back_with_results(bench: Bench) -> None:
    bench.join(lanes=1, requests=2)
    [lease] = bench.seed(f"{SITE}/", "https://b.test/")
    out = bench.page(lease)
    assert [each.host for each in sent(m.Lease, out)] == ["b.test"]


def test_with_no_credit_nothing_is_lent_and_nobody_is_woken_for_it(bench: Bench) -> None:
    bench.seed(f"{SITE}/")
    assert bench.shard.next_wakeup() is None
    bench.join(lanes=0)
    assert bench.shard.next_wakeup() is None
    assert len(sent(m.Lease, bench.beat())) == 1


def test_a_host_prefers_the_process_that_had_it_last(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.join(TWO, lanes=1000)
    [again] = sent(m.Lease, bench.release(lease, None))
    assert again.session == ONE


# ------------------------------------------------------------------------------------------------ robots [19]

OBEY = CrawlConfig(obey_robots=True)


def robots(
    bench: Bench, lease: m.Lease, verdict: str = "rules", text: bytes | None = b"", delay: float | None = None
) -> list[Instruction]:
    bench.data += 1
    message = m.Robots(bench.data, lease.session, lease.id, SITE, verdict, 200, None, delay, text, 0.0, 0)
    return bench.give(Received(message, b"<robots>"))


def test_a_host_without_robots_is_lent_once_with_all_its_lanes_and_one_request() -> None:
    bench = Bench(CrawlConfig(obey_robots=True, per_host=4))
    lease = lent(bench, *(f"{SITE}/{page}" for page in range(20)))
    assert (lease.lanes, len(lease.requests), lease.robots) == (1, 1, ())
    assert sent(m.Lease, bench.beat(leases=(lease.id,))) == []
    assert answers(robots(bench, lease))[0] != []
    assert [each.width for each in bench.shard.leases] == [1, 3]


def test_rules_travel_with_the_next_lease_and_their_body_once() -> None:
    bench = Bench(OBEY)
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    text = b"User-agent: *\n"
    robots(bench, lease, text=text)
    travelled = []
    for _ in range(2):
        [lease] = sent(m.Lease, bench.release(lease, None) + bench.wait(2.0))
        travelled.append(lease.robots)
    assert travelled == [(m.RobotsRules(SITE, 1, "rules", body),) for body in (text, None)]


@pytest.mark.parametrize(
    ("outcome", "reason"), [(Outcome.TLS, "tls_expired"), (Outcome.UNSUPPORTED, "bad_request")]
)
def test_what_a_host_fails_for_stands_with_its_pages_though_robots_txt_met_it_first(
    outcome: Outcome, reason: str
) -> None:
    """They once said `robots` and nothing else, whatever was wrong with the host's certificate."""
    bench = Bench(OBEY)
    lease = lent(bench)
    bench.data += 1
    told = m.Robots(
        bench.data,
        ONE,
        lease.id,
        SITE,
        outcome.value,
        None,
        "it ended in May",
        None,
        None,
        0.0,
        0,
        reason=reason,
    )
    bench.give(Received(told, b""))
    bench.release(lease, None)
    due(bench)
    [again] = bench.shard.leases
    lease = m.Lease(ONE, 0, again.id, "", 0.0, 1, 1, (), None, ())
    bench.page(lease, 0, m.Facts(outcome.code, reason="robots"), age=None)
    [line] = bench.lines()
    assert (line["outcome"], line["reason"], line["error"], line["attempts"]) == (
        outcome.value,
        reason,
        "it ended in May",
        0,
    )


def test_another_session_gets_the_body_too() -> None:
    bench = Bench(OBEY)
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    robots(bench, lease, text=b"User-agent: *\n")
    bench.join(TWO)
    [again] = sent(m.Lease, bench.give(Received(m.Goodbye(9, ONE, ()))) + bench.wait(2.0))
    assert (again.session, again.robots[0].body) == (TWO, b"User-agent: *\n")


def test_a_failed_fetch_of_robots_txt_does_not_forget_the_crawl_delay() -> None:
    bench = Bench(OBEY)
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    robots(bench, lease, delay=7.0)
    robots(bench, lease, "ROBOTS_UNREACHABLE", None)
    assert bench.shard.frontier.host("a.test", bench.now, bench.wall).crawl_delay == 7.0


def test_a_bare_host_whose_robots_txt_refuses_https_goes_on_with_http_at_once() -> None:
    bench = Bench(OBEY)
    bench.join()
    [lease] = bench.seed(f"{SITE}/", flags=Flag.SEED | Flag.BARE)
    robots(bench, lease, "REFUSED", None)
    bench.release(lease, 0.0)
    assert due(bench) == pytest.approx(1.0)
    [again] = bench.shard.leases
    out = bench.page(
        m.Lease(ONE, 0, again.id, "", 0.0, 1, 1, (), None, ()),
        0,
        m.Facts(Outcome.REFUSED.code, reason="robots"),
        age=None,
    )
    [following] = sent(m.Lease, out)
    assert following.requests[0].url == "http://a.test/"


def test_a_crawl_delay_is_in_the_next_lease_and_before_it() -> None:
    bench = Bench(OBEY)
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    robots(bench, lease, delay=7.0)
    bench.release(lease, 0.0)
    assert due(bench) == pytest.approx(7.0), "robots.txt itself was a fetch"
    [again] = bench.shard.leases
    assert again.delay == 7.0


def test_an_unreachable_robots_txt_is_tried_five_times_and_then_its_pages_end() -> None:
    bench = Bench(OBEY)
    lease = lent(bench)
    begun, tries = bench.now, 1
    robots(bench, lease, "ROBOTS_UNREACHABLE", None)
    bench.release(lease, 0.0)
    while True:
        bench.beat()
        due(bench)
        [held] = bench.shard.leases
        again = m.Lease(ONE, 0, held.id, "", 0.0, 1, 1, (), None, ())
        packed = bench.shard.fleet.get(ONE)
        assert packed is not None
        if SITE in packed.robots:
            break
        tries += 1
        robots(bench, again, "ROBOTS_UNREACHABLE", None)
        bench.release(again, 0.0)
    assert tries == 5
    assert bench.now - begun < 3700
    bench.page(again, 0, m.Facts(Outcome.ROBOTS_UNREACHABLE.code, reason="robots"), age=None)
    [line] = bench.lines()
    assert (line["outcome"], line["attempts"]) == ("ROBOTS_UNREACHABLE", 0)


def test_a_page_that_robots_txt_denies_is_excluded_without_a_try() -> None:
    bench = Bench(OBEY)
    lease = lent(bench)
    robots(bench, lease)
    bench.page(lease, 0, m.Facts(Outcome.ROBOTS_DENIED.code, reason="robots"), age=None)
    [line] = bench.lines()
    assert (line["outcome"], line["attempts"], line["reason"]) == ("ROBOTS_DENIED", 0, "robots")


def test_robots_records_are_stored_and_a_duplicate_is_answered_without_another(bench: Bench) -> None:
    bench = Bench(OBEY)
    lease = lent(bench)
    bench.data += 1
    message = m.Robots(bench.data, ONE, lease.id, SITE, "rules", 200, None, None, b"", 0.0, 0)
    for _ in range(2):
        assert answers(bench.give(Received(message, b"<robots>")))[0] == [message.number]
    [warc] = [body for file, body in bench.files.files.items() if file.startswith("warc/")]
    assert warc == b"<warcinfo><robots>"


def test_robots_of_a_lease_that_is_not_held_are_refused() -> None:
    bench = Bench(OBEY)
    lease = lent(bench)
    bench.release(lease)
    bench.beat(lanes=0)
    assert answers(robots(bench, lease))[1] == {bench.data: "lease"}


# ---------------------------------------------------------------------------------- records, pieces, revisits


def test_an_identical_payload_becomes_a_revisit(bench: Bench) -> None:
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    facts = OK._replace(digest="sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", wire_length=5)
    bench.page(lease, 0, facts, body=b"<request><response>", split=9)
    bench.page(lease, 1, facts, body=b"<request><response>", split=9)
    assert [line["record"] for line in bench.lines()] == ["response", "revisit"]
    assert bench.shard.ledger.counts.revisits == 1
    first, second = (line["warc"] for line in bench.lines())
    stored = bench.files.files[second["file"]]
    assert first["offset"] + first["length"] + 9 == second["offset"]
    assert second["offset"] + second["length"] == len(stored)
    assert stored.count(b"<response>") == 1


def test_a_big_record_is_put_together_from_its_pieces(bench: Bench) -> None:
    lease = lent(bench)
    parts = [bytes([index]) * m.PIECE_BYTES for index in range(2)]
    for index, body in enumerate(parts):
        bench.data += 1
        out = bench.give(Received(m.Piece(bench.data, ONE, lease.id, 0, index), body))
        assert answers(out)[0] == [bench.data]
    bench.page(lease, body=b"<request>end", split=9, pieces=2)
    [line] = bench.lines()
    stored = bench.files.files[line["warc"]["file"]]
    assert stored[line["warc"]["offset"] :] == b"".join(parts) + b"end"
    assert line["warc"]["length"] == 2 * m.PIECE_BYTES + 3
    assert bench.files.parts == 0


@pytest.mark.parametrize("had", [(), (0,), (1, 2)])
def test_a_page_whose_pieces_are_missing_is_told_so_and_may_come_again(
    bench: Bench, had: tuple[int, ...]
) -> None:
    lease = lent(bench)
    page = bench.page_message(lease, pieces=2)
    for index in had:
        bench.data += 1
        bench.give(Received(m.Piece(bench.data, ONE, lease.id, 0, index), bytes(m.PIECE_BYTES)))
    assert answers(bench.give(Received(page))) == ([], {page.number: "pieces"})
    for index in (0, 1):
        bench.data += 1
        bench.give(Received(m.Piece(bench.data, ONE, lease.id, 0, index), bytes(m.PIECE_BYTES)))
    assert answers(bench.give(Received(page)))[0] == [page.number]


def test_pieces_are_lost_with_a_restart_and_asked_for_again(bench: Bench) -> None:
    lease = lent(bench)
    bench.data += 1
    bench.give(Received(m.Piece(bench.data, ONE, lease.id, 0, 0), bytes(m.PIECE_BYTES)))
    page = bench.page_message(lease, pieces=1)
    bench.restart()
    bench.hello(leases=(lease.id,))
    assert answers(bench.give(Received(page)))[1] == {page.number: "pieces"}


def test_a_piece_of_a_wrong_size_or_of_a_lease_that_is_not_held_is_refused(bench: Bench) -> None:
    lease = lent(bench)
    for number, (lease_number, body) in enumerate(
        [(lease.id, b"short"), (LeaseId(999), bytes(m.PIECE_BYTES))], start=50
    ):
        out = bench.give(Received(m.Piece(number, ONE, lease_number, 0, 0), body))
        assert list(answers(out)[1]) == [number]
        assert only(KeepPiece, out) == []


def test_pieces_of_a_lease_that_ends_are_dropped(bench: Bench) -> None:
    lease = lent(bench)
    bench.give(Received(m.Piece(1, ONE, lease.id, 0, 0), bytes(m.PIECE_BYTES)))
    assert len(only(DropPieces, bench.release(lease))) == 1


# -------------------------------------------------------------------------------------- keys of requests [22]


def test_a_request_is_its_method_url_body_round_and_serial(bench: Bench) -> None:
    forms = [
        None,
        m.Form("POST", (), b"a", None, 0, 0, None),
        m.Form("POST", (), b"b", None, 0, 0, None),
        m.Form("POST", (), None, None, 0, 0, None),
        m.Form("PUT", (), b"a", None, 0, 0, None),
        m.Form("GET", (), None, None, 1, 0, None),
        m.Form("GET", (), None, 7, 0, 0, None),
    ]
    asked = tuple(request(f"{SITE}/", form=form) for form in forms)
    assert only(Seeded, bench.give(Seeds(1, asked))) == [Seeded(1, (True,) * 7)]
    assert only(Seeded, bench.give(Seeds(2, asked))) == [Seeded(2, (False,) * 7)]


def test_headers_and_priority_do_not_make_another_request(bench: Bench) -> None:
    plain = request(f"{SITE}/")
    dressed = request(f"{SITE}/", form=m.Form("GET", (("Accept", "*/*"),), None, None, 0, 5, b"carry"))
    assert only(Seeded, bench.give(Seeds(1, (plain, dressed)))) == [Seeded(1, (True, False))]


# ------------------------------------------------------------------------------------------------------ slots


def test_links_for_a_slot_of_another_shard_are_refused_whole() -> None:
    bench = Bench(slots=bytes(number % 2 for number in range(1024)), shards=2)
    bench.hello()
    urls = [f"https://n{number}.test/" for number in range(50)]
    ours = next(url for url in urls if slot(host_key(CanonicalURL(url))) % 2 == 0)
    theirs = next(url for url in urls if slot(host_key(CanonicalURL(url))) % 2 == 1)
    message = bench.links(links(ours, theirs))
    assert answers(bench.give(Received(message)))[1] == {message.number: "slot"}
    assert bench.shard.ledger.counts.admitted == 0


# -------------------------------------------------------------------------------------------------- questions


def test_why_tells_where_a_request_stands(bench: Bench) -> None:
    explain = bench.shard.explain
    assert explain("https://nobody.test/", bench.now, bench.wall) is None
    assert "nobody.test" not in bench.shard.frontier.hosts, "asking makes no host"
    bench.seed(f"{SITE}/")
    told = explain("https://A.test", bench.now, bench.wall)
    assert told is not None
    assert (told["state"], told["url"]) == ("QUEUED", canonical(f"{SITE}/"))
    [lease] = bench.join()
    told = explain(f"{SITE}/", bench.now, bench.wall)
    assert told is not None
    assert told["state"] == "LEASED"
    bench.page(lease)
    told = explain(f"{SITE}/", bench.now, bench.wall)
    assert told is not None
    assert (told["state"], told["outcome"]) == ("FETCHED", "OK")


def test_a_session_that_was_silent_for_long_and_holds_nothing_is_forgotten(bench: Bench) -> None:
    bench.join()
    bench.now += 10 * T + 1
    bench.shard.sweep(bench.now)
    assert len(bench.shard.fleet) == 0


def test_the_ends_of_output_files_are_committed_with_their_rows(bench: Bench) -> None:
    lease = lent(bench)
    bench.page(lease, body=b"<response>")
    for file, body in bench.files.files.items():
        assert unpack(bench.store.get(output_row(file)) or b"") == len(body)


@pytest.mark.parametrize(
    "text",
    ["", "x", "http:/", "http:///", "http://h", "http://a b/", "ftp://h/", "http://h/#f", "http://\u00e9/"],
)
def test_a_link_that_is_no_canonical_url_is_counted_and_harms_nobody(bench: Bench, text: str) -> None:
    bench.hello()
    message = bench.links(links(text))
    assert answers(bench.give(Received(message)))[0] == [message.number]
    assert bench.shard.ledger.counts.refused["invalid"] == 1
    assert bench.shard.ledger.counts.admitted == 0
