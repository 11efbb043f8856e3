"""What a shard makes of a robots.txt that does not come, of a host that asks for rest, and when it asks them again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.hostrules import HostRule
from common.outcome import Outcome
from common.url import HostKey, slot
from coordinator import policy
from coordinator.steps import NewRound, Received, Retry, Seeds
from coordinator.store.rows import request_row
from tests.unit.test_shard import ONE, SITE, TWO, Bench, request, sent

FREE = CrawlConfig(obey_robots=False)
OBEY = CrawlConfig(sitemaps=False)
BUSY = m.Facts(Outcome.CLIENT_ERROR.code, status=429, elapsed_ms=5)


def robots(
    bench: Bench,
    lease: m.Lease,
    verdict: str = "allow",
    *,
    authority: str = SITE,
    status: int | None = None,
    **more: Any,
) -> None:
    """The answer for a robots.txt; as a worker does, the lease goes back where there was none."""
    bench.data += 1
    message = m.Robots(
        bench.data, lease.session, lease.id, authority, verdict, status, None, None, None, 0.0, 0, **more
    )
    bench.give(Received(message))
    if verdict != "allow":
        bench.release(lease)


def key(bench: Bench, url: str) -> bytes:
    return request_row(slot(HostKey("a.test")), bench.shard.frontier.key_of(url, None))


def test_an_authority_that_fails_keeps_no_other_of_its_host_waiting() -> None:
    bench = Bench(OBEY)
    bench.join()
    dead = "https://a.test:8443"
    [lease] = bench.seed(f"{dead}/", f"{SITE}/1", f"{SITE}/2")
    robots(bench, lease, "ROBOTS_UNREACHABLE", authority=dead)
    done = []
    for _ in range(10):
        for again in sent(m.Lease, bench.wait(2)):
            if not again.robots:
                robots(bench, again)
            for ordinal, asked in enumerate(again.requests):
                done.append(asked.url)
                bench.page(again, ordinal)
    assert done == [f"{SITE}/1", f"{SITE}/2"]
    assert bench.shard.frontier.waiting == 1
    bench.adds_up()
    bench.beat()
    [later] = sent(m.Lease, bench.wait(policy.ROBOTS_WAITS[0]))
    assert [each.url for each in later.requests] == [f"{dead}/"]


def test_lanes_that_waited_for_a_robots_txt_are_lent_as_soon_as_it_is_known() -> None:
    """Not when the first page has come: of a slow server a hundred answers would take the time of two."""
    bench = Bench(replace(OBEY, host=(HostRule("a.test", per_host=10, delay=0.0),)))
    bench.join()
    [first] = bench.seed(*(f"{SITE}/{page}" for page in range(10)))
    assert (first.lanes, len(first.requests)) == (1, 1)
    bench.beat()
    bench.data += 1
    known = m.Robots(bench.data, ONE, first.id, SITE, "allow", 404, None, None, None, 0.0, 0)
    assert sent(m.Lease, bench.handle(Received(known))) == [], "nothing before the commit"
    leases = sent(m.Lease, bench.commit())
    assert sum(lease.lanes for lease in leases) == sum(len(lease.requests) for lease in leases) == 9
    bench.restart()
    host = bench.shard.frontier.host("a.test", bench.now, bench.wall)
    assert (host.lent_lanes, host.free_lanes) == (10, 0)
    bench.adds_up()


def test_a_long_queue_of_an_authority_that_fails_is_put_off_whole_and_comes_back_whole() -> None:
    bench = Bench(OBEY)
    bench.join()
    urls = [f"{SITE}/{page}" for page in range(300)]
    [lease] = bench.seed(*urls)
    robots(bench, lease, "ROBOTS_UNREACHABLE")
    assert sent(m.Lease, bench.wait(2)) == []
    assert (bench.shard.frontier.queued, bench.shard.frontier.waiting) == (0, 300)
    bench.adds_up()
    bench.restart()
    bench.adds_up()
    bench.join()
    [lease] = sent(m.Lease, bench.wait(policy.ROBOTS_WAITS[0]))
    robots(bench, lease)
    seen = [asked.url for asked in lease.requests]
    for ordinal in range(len(lease.requests)):
        bench.page(lease, ordinal)
    while len(seen) < 300:
        bench.beat()
        for lease in sent(m.Lease, bench.wait(30)):
            for ordinal, asked in enumerate(lease.requests):
                seen.append(asked.url)
                bench.page(lease, ordinal)
    assert sorted(seen) == sorted(urls)


def test_a_robots_txt_is_asked_again_when_its_server_says() -> None:
    bench = Bench(OBEY)
    bench.join()
    [lease] = bench.seed(f"{SITE}/")
    robots(bench, lease, "ROBOTS_UNREACHABLE", status=503, retry_after=150.0)
    bench.beat()
    assert sent(m.Lease, bench.wait(149)) == []
    bench.beat()
    assert sent(m.Lease, bench.wait(2)) != []


@pytest.mark.parametrize("again", ["retry", "round", "start"])
def test_that_a_host_could_not_be_asked_is_not_believed_after_a_retry_or_a_new_start(again: str) -> None:
    """A person has mended it, or allowed it, in between."""
    bench = Bench(OBEY)
    bench.join()
    [lease] = bench.seed(f"{SITE}/", f"{SITE}/other")
    robots(bench, lease, "PRIVATE_ADDRESS")
    [lease] = sent(m.Lease, bench.wait(2))
    assert [each.verdict for each in lease.robots] == ["PRIVATE_ADDRESS"], "known, and told"
    for ordinal in range(len(lease.requests)):
        bench.page(lease, ordinal, m.Facts(Outcome.PRIVATE_ADDRESS.code, reason="robots"), age=None)
    assert set(bench.outcomes().values()) == {"PRIVATE_ADDRESS"}
    if again != "retry":
        bench.restart()
        bench.join()
    if again == "round":
        bench.give(NewRound(1, None))
        event: object = Seeds(2, (request(f"{SITE}/"),))
    else:
        event = Retry(2, (key(bench, f"{SITE}/"),))
    out = bench.give(event)  # type: ignore[arg-type]
    [lease] = sent(m.Lease, out + bench.wait(2))
    assert lease.robots == (), "asked for again"


def test_a_host_that_was_given_up_is_asked_again_in_the_next_round() -> None:
    bench = Bench(replace(FREE, retries=0))
    bench.join()
    [lease] = bench.seed(f"{SITE}/")
    bench.page(lease)
    for page in range(policy.HOST_FAILURES):
        bench.give(Seeds(1, (request(f"{SITE}/{page}"),)))
        bench.beat()
        [lease] = sent(m.Lease, bench.wait(400))
        bench.page(lease, facts=m.Facts(Outcome.RESET.code))
    bench.give(Seeds(1, (request(f"{SITE}/late"),)))
    bench.wait(400)
    assert bench.outcomes()[f"{SITE}/late"] == "HOST_UNREACHABLE"
    bench.beat()
    bench.give(NewRound(1, None))
    [lease] = sent(m.Lease, bench.give(Seeds(2, (request(f"{SITE}/"),))))
    assert [each.url for each in lease.requests] == [f"{SITE}/"]


def test_what_a_host_that_is_given_up_had_given_counts_as_vanished() -> None:
    bench = Bench(replace(FREE, retries=0))
    bench.join()
    for lease in bench.seed(f"{SITE}/", f"{SITE}/2"):
        for ordinal in range(2):
            bench.page(lease, ordinal)
    bench.give(NewRound(1, None))
    bench.give(Seeds(2, (request(f"{SITE}/"), request(f"{SITE}/2"))))
    host = bench.shard.frontier.host("a.test", bench.now, bench.wall)
    host.failures = policy.HOST_FAILURES - 1
    [lease] = sent(m.Lease, bench.wait(2))
    bench.page(lease, facts=m.Facts(Outcome.RESET.code))
    bench.release(lease)
    assert bench.shard.ledger.counts.again == {"vanished": 2}


def test_a_host_that_asks_for_rest_gets_it_from_all_who_have_it() -> None:
    bench = Bench(replace(FREE, host=(HostRule("a.test", per_host=2),)))
    bench.join(lanes=1)
    bench.join(TWO, lanes=1)
    leases = bench.seed(*(f"{SITE}/{page}" for page in range(40)))
    assert {lease.session for lease in leases} == {ONE, TWO}
    first, second = leases
    alive = sent(m.Alive, bench.page(first, facts=BUSY, retry_after=20.0))
    assert [(each.session, each.recalled) for each in alive] == [(second.session, (second.id,))]
    bench.page(second)
    bench.release(first)
    bench.release(second)
    assert sent(m.Lease, bench.wait(19)) == []
