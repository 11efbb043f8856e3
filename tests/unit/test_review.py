"""Histories that broke a promise once, found by reading; each is the shortest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common import messages as m
from common.config import CrawlConfig
from common.hostrules import HostRule
from common.messages import Flag
from common.outcome import Outcome
from common.url import CanonicalURL, HostKey, host_key, slot
from coordinator.audit.ledger import audit
from coordinator.frontier import LOOKS
from coordinator.steps import Asked, NewRound, Received, Reconfigured, Retry, Seeds
from coordinator.store.rows import meta_row, pack, request_row
from tests.unit.test_lending import want
from tests.unit.test_shard import OK, ONE, SITE, Bench, lent, request, sent

FREE = CrawlConfig(obey_robots=False)


def key(bench: Bench, url: str) -> bytes:
    return request_row(slot(host_key(CanonicalURL(url))), bench.shard.frontier.key_of(url, None))


def faults(bench: Bench, directory: Path) -> list[str]:
    """What `coord audit` would say of what is committed."""
    for name, content in bench.files.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    bench.store.write({meta_row("crawl"): pack((b"c" * 16, 1))})
    report = audit(directory, [bench.store])
    return [] if report.is_right else report.lines()


def test_what_is_tried_anew_is_not_lent_by_the_lease_in_which_it_ended(tmp_path: Path) -> None:
    bench = Bench(FREE)
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.page(lease, 0, m.Facts(Outcome.CLIENT_ERROR.code, status=404))
    bench.give(Retry(1, (key(bench, f"{SITE}/1"),)))
    assert faults(bench, tmp_path) == []
    bench.restart()
    bench.adds_up()
    assert bench.shard.leases.requests == 1


def test_a_second_visit_for_links_is_not_lent_by_the_lease_of_the_first(tmp_path: Path) -> None:
    bench = Bench(replace(FREE, max_depth=3))
    bench.join()
    bench.give(Seeds(1, (request("https://b.test/1", depth=3), request("https://b.test/2", depth=3))))
    first = held(bench)
    for ordinal in range(2):
        bench.page(first, ordinal)
    bench.give(Seeds(2, (request("https://b.test/1", depth=2), request("https://b.test/2", depth=2))))
    bench.wait(1.1)
    again = held(bench)
    assert len(again.requests) == 2
    bench.page(again, 0)
    bench.give(Seeds(3, (request(again.requests[0].url, depth=1),)))
    assert faults(bench, tmp_path) == []
    bench.restart()
    assert bench.shard.leases.requests == 1


def held(bench: Bench) -> m.Lease:
    [lease] = bench.shard.leases
    return m.Lease(ONE, 0, lease.id, lease.host, lease.delay, lease.width, 1, (), None, lease.requests)


def test_lanes_taken_before_they_were_due_owe_the_rest_of_their_delay() -> None:
    """An authority without robots.txt is lent with all lanes of its host (rule 19), also those not due yet."""
    bench = Bench(CrawlConfig(delay=10.0, host=(HostRule("a.test", per_host=2),)))
    host = bench.shard.frontier.host("a.test", bench.now, bench.wall)
    host.take_lanes(1)
    host.return_lanes(1, bench.now + 9.0)  # a fetch in the other lane has just ended
    bench.join()
    bench.seed(f"{SITE}/1")
    lease = held(bench)
    assert host.free_lanes == 0
    bench.release(lease, age=None)  # recalled before anything was fetched
    assert host.lanes_due(bench.now + 8.9) <= 1
    assert host.lanes_due(bench.now + 9.0) == 2


def test_lanes_that_went_and_came_owe_their_delay() -> None:
    bench = Bench(replace(FREE, delay=10.0, host=(HostRule("a.test", per_host=2),)))
    bench.join()
    bench.seed(f"{SITE}/1", f"{SITE}/2", f"{SITE}/3")
    leases = [
        m.Lease(ONE, 0, x.id, x.host, x.delay, x.width, 1, (), None, x.requests) for x in bench.shard.leases
    ]
    for lease in leases:
        for ordinal in range(min(len(lease.requests), lease.lanes)):
            bench.page(lease, ordinal)
    for lease in leases:
        if bench.shard.leases.get(lease.id):
            bench.release(lease)
    assert not list(bench.shard.leases)
    for lanes in (1, 2):
        bench.give(Reconfigured(replace(FREE, delay=10.0, host=(HostRule("a.test", per_host=lanes),))))
    assert not list(bench.shard.leases)


def test_a_blocked_host_is_visited_for_no_robots_txt_of_another() -> None:
    bench = Bench(replace(FREE, host=(HostRule("b.test", blocked=True),)))
    bench.join()
    assert want(bench, "b.test") == []
    assert bench.shard.next_wakeup() is None


def test_a_host_that_was_only_asked_for_a_robots_txt_owes_its_delay_after_a_restart() -> None:
    bench = Bench(replace(FREE, delay=10.0))
    bench.join()
    [permit] = want(bench, "b.test")
    bench.release(permit)
    bench.wall += 3600
    bench.restart(away=0.1)
    bench.join()
    assert sent(m.Lease, bench.give(Seeds(1, (request("https://b.test/1"),)))) == []


def test_a_new_round_does_not_forget_a_delay_over_a_restart() -> None:
    bench = Bench(replace(FREE, delay=10.0))
    lease = lent(bench)
    bench.page(lease)
    bench.give(NewRound(1, None))
    bench.shard.frontier.touch(bench.shard.frontier.host("a.test", bench.now, bench.wall))
    bench.wait(0.0)
    bench.wall += 3600
    bench.restart(away=0.1)
    bench.join()
    assert sent(m.Lease, bench.give(Seeds(1, (request(f"{SITE}/9"),)))) == []


def test_one_visit_for_links_at_a_time(tmp_path: Path) -> None:
    """While one waits, the page itself is tried anew, and found nearer still."""
    bench = Bench(replace(FREE, max_depth=5, retries=0, delay=1.0))
    bench.join()
    url = f"{SITE}/1"
    bench.give(Seeds(1, (request(url, depth=4),)))
    bench.page(held(bench))
    bench.give(Seeds(2, (request(url, depth=3),)))  # a visit for links is queued; its host is not due
    bench.give(Retry(1, (key(bench, url),)))
    bench.wait(1.1)
    lease = held(bench)
    assert [each.flags & Flag.LINKS_ONLY for each in lease.requests] in ([0, 4], [4, 0])
    bench.give(Seeds(3, (request(url, depth=1),)))
    for ordinal, each in enumerate(lease.requests):
        if not each.flags & Flag.LINKS_ONLY:
            bench.page(lease, ordinal)
    assert faults(bench, tmp_path) == []


def test_a_trap_leaves_no_host_in_a_line_without_work(tmp_path: Path) -> None:
    bench = Bench(replace(FREE, max_pages_per_host=1))
    lease = lent(bench)
    bench.page(lease)
    trap = f"{SITE}/x/y/x/y/x/y/x/y/x/y/x/y/x/y/x/y"
    bench.give(Seeds(2, (request(trap),)))
    assert bench.outcomes()[trap] == "TRAP"
    assert faults(bench, tmp_path) == []
    bench.restart()
    bench.join()
    bench.wait(1.1)
    bench.shard.frontier.touch(bench.shard.frontier.host("a.test", bench.now, bench.wall))
    bench.wait(0.1)
    assert faults(bench, tmp_path) == []


def test_a_budget_that_changes_is_no_long_step() -> None:
    """All hosts that it held are looked at again, some at a time, and the shard asks to be called again at once."""
    bench = Bench(replace(FREE, guards=False))
    bench.handle(Asked(m.Cap(1, 0)))
    for batch in range(4):
        urls = (request(f"https://h{batch}-{number}.test/") for number in range(LOOKS))
        bench.give(Seeds(1, tuple(urls)))
    bench.join()
    frontier = bench.shard.frontier
    while bench.shard.next_wakeup() == 0.0:
        bench.wait(0.0)
    assert len(frontier.held_line) == 4 * LOOKS
    bench.give(Asked(m.Cap(2, 0)))
    assert len(frontier.held_line) <= 4 * LOOKS
    assert bench.shard.next_wakeup() == 0.0
    steps = 0
    while bench.shard.next_wakeup() == 0.0:
        before = frontier.held_line.first
        bench.wait(0.0)
        assert 0 < frontier.held_line.first - before <= LOOKS
        steps += 1
    assert steps == 3


def test_addresses_that_are_left_are_forgotten() -> None:
    """A site behind many addresses answers from another one each time."""
    bench = Bench(FREE)
    lease = lent(bench, *(f"{SITE}/{page}" for page in range(5)))
    for ordinal in range(4):
        bench.page(lease, ordinal, OK._replace(ip=f"192.0.2.{ordinal}"))
    assert dict(bench.shard.lending._at_address) == {"192.0.2.3": 1}


def test_links_of_a_near_duplicate_are_left_at_every_depth() -> None:
    bench = Bench(replace(FREE, max_depth=5, near_duplicates=3))
    bench.join()
    urls = (f"{SITE}/1", f"{SITE}/2")
    bench.give(Seeds(1, tuple(request(url, depth=4) for url in urls)))
    lease = held(bench)
    for ordinal in range(2):
        bench.page(lease, ordinal, OK._replace(simhash=5))
    assert [line["reason"] for line in bench.lines()] == [None, "near_duplicate"]
    bench.give(Seeds(2, tuple(request(url, depth=2) for url in urls)))
    bench.wait(1.1)
    assert [each.url for each in held(bench).requests] == [urls[0]]


def test_a_retry_takes_back_no_comparison_that_was_not_made() -> None:
    """A host given up in a recrawl: its pages were not counted as vanished."""
    bench = Bench(FREE)
    bench.page(lent(bench))
    bench.give(NewRound(1, None))
    bench.give(Reconfigured(replace(FREE, host=(HostRule("a.test", blocked=True),))))
    bench.give(Seeds(2, (request(f"{SITE}/", flags=Flag.SEED),)))
    bench.wait(1.1)
    assert [line["outcome"] for line in bench.lines()] == ["OK", "OPERATOR"]
    form = m.Form("GET", (), None, None, 1, 0, None)
    row = request_row(slot(HostKey("a.test")), bench.shard.frontier.key_of(f"{SITE}/", form))
    bench.give(Retry(1, (row,)))
    assert bench.shard.ledger.counts.retried == 1
    assert +bench.shard.ledger.counts.again == bench.shard.ledger.counts.again == {}


def test_pieces_of_what_killed_its_reader_are_dropped() -> None:
    bench = Bench(FREE)
    lease = lent(bench)
    bench.give(Received(m.Piece(1, ONE, lease.id, 0, 0), bytes(m.PIECE_BYTES)))
    number = bench.number(b"new")
    hello = m.Hello(
        number, m.VERSION, m.SessionId(b"9" * 16), (ONE,), "box", 1, 0, False, (), ((ONE, lease.id, 0),)
    )
    bench.give(Received(hello))
    assert not bench.shard._state.pieces
    assert not bench.files.parts
