"""Whom the shard lends what: permits (rule 19), addresses (--per-ip), delays that grow, recalls, visits at a smaller
depth (rule 15)."""

from __future__ import annotations

from dataclasses import replace

from common import messages as m
from common.config import CrawlConfig
from common.configwire import config_from_wire
from common.hostrules import HostRule
from common.messages import Flag
from common.outcome import Outcome
from common.tuning import Tuning
from common.wire import unpack
from coordinator import policy
from coordinator.leases import SLACK, OpenLease
from coordinator.steps import Asked, Received, Reconfigured, Retry, Seeds
from coordinator.store.rows import request_row
from tests.unit.test_shard import ONE, SITE, TWO, Bench, lent, links, request, sent

FREE = CrawlConfig(obey_robots=False)
OK = m.Facts(Outcome.OK.code, status=200, elapsed_ms=5)
BUSY = m.Facts(Outcome.CLIENT_ERROR.code, status=429, elapsed_ms=5)
SLOW = m.Facts(Outcome.TIMEOUT.code)


def want(bench: Bench, host: str, session: m.SessionId = ONE) -> list[m.Lease]:
    return sent(m.Lease, bench.give(Received(m.Want(bench.number(session), session, host))))


# ------------------------------------------------------------------------------------------------- who is silent


def test_a_worker_that_stands_still_is_lent_nothing_after_three_heartbeats() -> None:
    """What it costs: until then it may be lent, and what it holds runs out a lease's time later, to another one."""
    bench = Bench(replace(FREE, tuning=Tuning(lease_ttl=30.0, heartbeat=5.0)))
    bench.join(ONE, lanes=100)
    bench.join(TWO, lanes=50)
    urls = [f"https://h{number}.test/" for number in range(60)]
    frozen_at, given, last = bench.now, {ONE: 0.0, TWO: 0.0}, 0.0
    for url in urls:
        for lease in sent(m.Lease, [*bench.wait(1.0, silent=(ONE,)), *bench.give(Seeds(1, (request(url),)))]):
            given[lease.session] = bench.now
        if any(lease.session == ONE for lease in bench.shard.leases):
            last = bench.now
    assert given[ONE] - frozen_at <= 3 * 5.0
    assert given[TWO] > frozen_at + 45.0
    assert 30.0 < last - frozen_at <= 3 * 5.0 + 30.0 * SLACK
    assert not bench.shard.fleet.get(ONE).lanes  # type: ignore[union-attr]  # it is known still


def test_one_that_speaks_again_is_lent_again() -> None:
    bench = Bench(FREE)
    bench.join()
    bench.wait(20.0, silent=(ONE,))
    assert bench.seed(f"{SITE}/") == []
    assert bench.shard.next_wakeup() is None, "nothing is tried again and again meanwhile"
    [lease] = sent(m.Lease, bench.beat())
    assert lease.host == "a.test"


# ------------------------------------------------------------------------------------------------------- permits


def test_a_permit_is_a_lease_without_requests() -> None:
    bench = Bench(FREE)
    bench.join()
    [permit] = want(bench, "b.test")
    assert (permit.host, permit.requests, permit.lanes, permit.delay) == ("b.test", (), 1, 1.0)


def test_a_permit_waits_until_the_host_is_due_and_takes_its_lane() -> None:
    bench = Bench(FREE)
    lease = lent(bench, "https://b.test/1", "https://b.test/2")
    assert want(bench, "b.test") == []
    for ordinal in range(2):
        bench.page(lease, ordinal)
    assert sent(m.Lease, bench.wait(0.5)) == []
    [permit] = sent(m.Lease, bench.wait(0.6))
    assert permit.requests == ()
    assert sent(m.Lease, bench.give(Seeds(3, (request("https://b.test/3"),)))) == []
    bench.release(permit, age=0.0)
    assert sent(m.Lease, bench.wait(0.9)) == []
    [after] = sent(m.Lease, bench.wait(0.2))
    assert [each.url for each in after.requests] == ["https://b.test/3"]


def test_a_permit_needs_no_credit() -> None:
    """All lanes of a worker may wait for permits."""
    bench = Bench(FREE)
    bench.join(lanes=1, requests=1)
    bench.seed("https://a.test/")
    assert want(bench, "b.test")


def test_a_permit_asked_for_twice_is_given_once() -> None:
    bench = Bench(FREE)
    lease = lent(bench, "https://b.test/1")
    want(bench, "b.test")
    want(bench, "b.test")
    bench.page(lease)
    [permit] = sent(m.Lease, bench.wait(1.1))
    bench.release(permit)
    assert sent(m.Lease, bench.wait(5)) == []


def test_an_expired_permit_owes_its_delay() -> None:
    bench = Bench(FREE)
    bench.join()
    [permit] = want(bench, "b.test")
    bench.wait(31)
    assert permit.id not in {lease.id for lease in bench.shard.leases}
    assert sent(m.Lease, bench.give(Seeds(3, (request("https://b.test/3"),)))) == []


def test_a_permit_outlives_a_restart_as_a_lease_that_is_over() -> None:
    bench = Bench(FREE)
    bench.join()
    want(bench, "b.test")
    bench.restart()
    assert len(bench.shard.leases) == 0
    bench.adds_up()


# ----------------------------------------------------------------------------------------------------- addresses


def answered(bench: Bench, lease: m.Lease, ip: str, ordinal: int = 0) -> list[m.Lease]:
    return sent(m.Lease, bench.page(lease, ordinal, OK._replace(ip=ip)))


def test_hosts_of_one_address_are_lent_so_many_at_once() -> None:
    bench = Bench(replace(FREE, per_ip=2))
    bench.join()
    names = [f"https://h{number}.test/{page}" for number in range(5) for page in range(2)]
    first = [lease for name in names for lease in bench.seed(name)]
    assert len(first) == 5
    for lease in first:
        answered(bench, lease, "203.0.113.5")
    again = sent(m.Lease, bench.wait(1.1))
    assert len(again) == 2
    following = answered(bench, again[0], "203.0.113.5")
    assert len(following) == 1, "the next one's turn comes at once"
    assert following[0].host not in {lease.host for lease in again}


def test_loopback_is_no_address_of_many() -> None:
    bench = Bench(replace(FREE, per_ip=1))
    bench.join()
    leases = [
        lease for n in range(3) for page in range(2) for lease in bench.seed(f"https://h{n}.test/{page}")
    ]
    for lease in leases:
        answered(bench, lease, "127.0.0.1")
    assert len(sent(m.Lease, bench.wait(1.1))) == 3


def test_an_address_is_remembered_over_a_restart() -> None:
    bench = Bench(replace(FREE, per_ip=1))
    bench.join()
    names = [f"https://h{number}.test/{page}" for number in range(3) for page in range(3)]
    for lease in [lease for name in names for lease in bench.seed(name)]:
        answered(bench, lease, "203.0.113.5")
    bench.restart()
    assert len(bench.join()) + len(sent(m.Lease, bench.wait(2))) == 1


BUSY_IP = "203.0.113.5"


def crowded(bench: Bench, hosts: int) -> list[m.Lease]:
    """So many hosts of one address, each with a page fetched and another one queued: as many as may be are lent."""
    for number in range(hosts):
        [lease] = bench.seed(f"https://h{number}.test/0")
        bench.page(lease, 0, OK._replace(ip=BUSY_IP))
    early = [bench.seed(f"https://h{number}.test/1") for number in range(hosts)]
    assert not any(early)
    return sent(m.Lease, bench.wait(1.1))


def test_hosts_of_a_busy_address_stand_in_nobody_elses_way() -> None:
    """More of them than have a place in memory: the others are lent all the same, and at once."""
    bench = Bench(replace(FREE, per_ip=2))
    bench.shard.frontier.bench.room = 10
    bench.join(lanes=1000, requests=5000)
    assert len(crowded(bench, 40)) == 2
    others = [f"https://other{number}.test/" for number in range(30)]
    leases = [lease for url in others for lease in bench.seed(url)]
    leases += sent(m.Lease, bench.wait(1.1))
    assert {f"https://{lease.host}/" for lease in leases} >= set(others)
    assert bench.shard.lending.busy_addresses() == [(BUSY_IP, 2, 38)]
    bench.shard.frontier.check()


def test_many_hosts_of_a_busy_address_are_no_long_step() -> None:
    bench = Bench(replace(FREE, per_ip=1, guards=False))
    bench.join(lanes=1000, requests=5000)
    for number in range(3 * policy.ADDRESS_LOOKS):
        [lease] = bench.seed(f"https://h{number}.test/0")
        bench.page(lease, 0, OK._replace(ip=BUSY_IP))
        bench.seed(f"https://h{number}.test/1")
    bench.now += 1.1
    lines, steps = bench.shard.frontier.addresses, 0
    while (wakeup := bench.shard.next_wakeup()) is not None and wakeup <= bench.now:
        before = len(lines)
        bench.wait(0.0)
        assert len(lines) - before <= policy.ADDRESS_LOOKS
        steps += 1
    assert (len(lines), len(bench.shard.leases)) == (3 * policy.ADDRESS_LOOKS - 1, 1)
    assert steps >= 3


def test_hosts_of_a_busy_address_have_their_turn_in_order_over_a_restart() -> None:
    bench = Bench(replace(FREE, per_ip=2))
    bench.join()
    lent, turns = crowded(bench, 12), list[str]()
    while lent:
        turns += [lease.host for lease in lent]
        lent = [following for lease in lent for following in answered(bench, lease, BUSY_IP)]
        lent = lent or sent(m.Lease, bench.wait(1.1))  # after a restart each owes its delay anew
        if len(turns) == 6:
            bench.restart()
            held = tuple(lease.id for lease in lent)
            assert not sent(m.Lease, bench.hello(leases=held) + bench.beat(leases=held) + bench.wait(2))
    assert turns == [f"h{number}.test" for number in range(12)]
    assert not len(bench.shard.frontier.addresses)


def test_a_host_that_is_blocked_in_the_line_of_its_address_ends_at_once() -> None:
    bench = Bench(replace(FREE, per_ip=1))
    bench.join()
    [held] = crowded(bench, 5)
    bench.give(Reconfigured(replace(bench.config, per_ip=1, host=(HostRule("h3.test", blocked=True),))))
    assert bench.outcomes()["https://h3.test/1"] == "OPERATOR"
    turns = [held.host]
    while following := answered(bench, held, BUSY_IP):
        [held] = following
        turns.append(held.host)
    assert turns == ["h0.test", "h1.test", "h2.test", "h4.test"], "and what it left in the line stops nobody"


def test_who_is_called_up_and_has_nothing_to_lend_stops_nobody() -> None:
    """A budget holds one host back meanwhile: the others of its address go on without it."""
    bench = Bench(replace(FREE, per_ip=1))
    bench.join()
    [held] = crowded(bench, 4)
    bench.give(Asked(m.Cap(1, 5)))
    answered(bench, held, BUSY_IP)
    while bench.shard.next_wakeup() is not None:
        bench.wait(policy.ADDRESS_WAIT)
    assert len(bench.shard.frontier.held_line) == 3, "a budget holds them, not their address"
    assert bench.shard.frontier.lendable == 0
    [again] = sent(m.Lease, bench.give(Asked(m.Cap(2, 100))) + bench.wait(1))
    turns = [again.host]
    while following := answered(bench, again, BUSY_IP):
        [again] = following
        turns.append(again.host)
    assert sorted(turns) == ["h1.test", "h2.test", "h3.test"]


# ------------------------------------------------------------------------------------------------- delays that grow


def test_a_refusal_makes_the_delay_longer_and_what_goes_well_shorter_again() -> None:
    bench = Bench(replace(FREE, delay=0.5, retries=0))
    lease = lent(bench, f"{SITE}/0")
    bench.page(lease, 0, BUSY)
    bench.seed(f"{SITE}/1")
    [lease] = sent(m.Lease, bench.wait(400))
    assert lease.delay == policy.PENALTY
    delays = [lease.delay]
    for number in range(3, 14):
        for ordinal in range(len(lease.requests)):
            bench.page(lease, ordinal)
        bench.seed(f"{SITE}/{number}")
        [lease] = sent(m.Lease, bench.wait(5))
        delays.append(lease.delay)
    assert delays == sorted(delays, reverse=True)
    assert delays[-1] == 0.5


def test_a_penalty_has_a_bound_and_outlives_a_restart() -> None:
    assert policy.penalty(50.0, Outcome.TIMEOUT, None, 1.0) == policy.MAX_PENALTY
    bench = Bench(replace(FREE, retries=0))
    lease = lent(bench)
    bench.page(lease, 0, SLOW)
    bench.restart(away=1000)
    bench.join()
    bench.seed(f"{SITE}/again")
    [lease] = sent(m.Lease, bench.wait(5))
    assert lease.delay == 2.0


def test_a_success_says_nothing_where_there_was_no_refusal() -> None:
    assert policy.penalty(0.0, Outcome.OK, 200, 1.0) == 0.0


# --------------------------------------------------------------------------------------------------------- rule 15


def deep(limit: int = 2) -> Bench:
    return Bench(replace(FREE, max_depth=limit, delay=0.0))


def follow(bench: Bench, lease: m.Lease, url: str, depth: int) -> list[m.Lease]:
    return sent(m.Lease, bench.page(lease, links=(links(url, depth=depth),)))


def test_what_ended_and_is_found_nearer_is_visited_again_for_its_links() -> None:
    bench = deep()
    [one] = follow(bench, lent(bench, f"{SITE}/0"), f"{SITE}/1", 1)
    [two] = follow(bench, one, f"{SITE}/2", 2)
    bench.page(two)
    bench.give(Received(bench.links(links(f"{SITE}/2", depth=1))))
    bench.wait(0.1)
    [again] = map(held, bench.shard.leases)
    assert again.requests[0].flags & Flag.LINKS_ONLY
    assert again.requests[0].depth == 1
    [three] = follow(bench, again, f"{SITE}/3", 2)
    bench.page(three)
    assert sorted(bench.outcomes()) == [f"{SITE}/{n}" for n in range(4)]
    assert bench.shard.ledger.counts.relinked == 1
    assert bench.row(f"{SITE}/2").depth == 1
    assert len(bench.lines()) == 4, "no second record"


def held(lease: OpenLease) -> m.Lease:
    """A lease as its holder was sent it."""
    session = m.SessionId(lease.session)
    return m.Lease(session, 0, lease.id, lease.host, lease.delay, lease.width, 1, (), None, lease.requests)


def test_what_is_lent_and_found_nearer_is_visited_again_when_it_ended() -> None:
    bench = deep()
    [one] = follow(bench, lent(bench, f"{SITE}/0"), f"{SITE}/1", 1)
    [two] = follow(bench, one, f"{SITE}/2", 2)
    bench.give(Received(bench.links(links(f"{SITE}/2", depth=1))))
    [again] = sent(m.Lease, bench.page(two))
    assert again.requests[0].flags & Flag.LINKS_ONLY and again.requests[0].depth == 1


def test_what_waits_for_a_retry_takes_the_smaller_depth() -> None:
    bench = deep()
    [one] = follow(bench, lent(bench, f"{SITE}/0"), f"{SITE}/1", 1)
    [two] = follow(bench, one, f"{SITE}/2", 2)
    bench.page(two, 0, m.Facts(Outcome.SERVER_ERROR.code, status=500))
    bench.give(Received(bench.links(links(f"{SITE}/2", depth=1))))
    [again] = sent(m.Lease, bench.wait(60))
    assert again.requests[0].depth == 1 and not again.requests[0].flags & Flag.LINKS_ONLY


def test_a_page_at_the_limit_is_not_visited_again() -> None:
    """Nothing it links to is within the limit."""
    bench = deep(limit=1)
    [one] = follow(bench, lent(bench, f"{SITE}/0"), f"{SITE}/1", 1)
    bench.page(one)
    bench.give(Received(bench.links(links(f"{SITE}/1", depth=1))))
    assert len(bench.shard.leases) == bench.shard.frontier.queued == 0


def test_without_a_limit_nothing_is_visited_twice() -> None:
    bench = Bench(FREE)
    bench.page(lent(bench, f"{SITE}/0"))
    bench.give(Received(bench.links(links(f"{SITE}/0", depth=0))))
    assert bench.shard.frontier.relinks == 0


def test_a_visit_for_links_outlives_a_restart() -> None:
    bench = deep()
    [one] = follow(bench, lent(bench, f"{SITE}/0"), f"{SITE}/1", 1)
    [two] = follow(bench, one, f"{SITE}/2", 2)
    bench.page(two)
    bench.give(Received(bench.links(links(f"{SITE}/2", depth=1))))
    bench.restart()
    assert bench.shard.frontier.relinks == 1
    bench.wait(40)
    [again] = bench.join()
    bench.page(again)
    assert bench.shard.frontier.relinks == 0


# -------------------------------------------------------------------------------------------------- steering, ALONE


def test_leases_on_other_terms_are_recalled_and_no_others() -> None:
    bench = Bench(FREE)
    lease = lent(bench, f"{SITE}/1", f"{SITE}/2")
    bench.seed("https://b.test/")
    slower = replace(FREE, host=(HostRule("a.test", delay=9.0),))
    out = bench.give(Reconfigured(slower))
    [alive] = sent(m.Alive, out)
    assert alive.recalled == (lease.id,) and alive.number == 0
    [terms] = sent(m.Terms, out)
    assert config_from_wire(unpack(terms.config)).for_host("a.test").delay == 9.0
    assert terms.scope_version == bench.shard.scope.version
    assert sent(m.Alive, bench.beat(leases=(lease.id,)))[0].recalled == (lease.id,), "said again"
    bench.release(lease, age=0.0)
    assert sent(m.Lease, bench.wait(8.9)) == [], "the new delay counts from the last fetch on"
    [again] = sent(m.Lease, bench.wait(0.2))
    assert again.delay == 9.0


def test_a_blocked_host_loses_its_leases_and_its_queue_at_once() -> None:
    bench = Bench(FREE)
    lease = lent(bench, *(f"{SITE}/{number}" for number in range(40)))
    out = bench.give(Reconfigured(replace(FREE, host=(HostRule("a.test", blocked=True),))))
    assert sent(m.Alive, out)[0].unknown == (lease.id,)
    assert set(bench.outcomes().values()) == {"OPERATOR"} and len(bench.outcomes()) == 40
    assert bench.seed(f"{SITE}/more") == []
    bench.adds_up()
    bench.give(Reconfigured(FREE))
    bench.wait(5)
    assert bench.seed(f"{SITE}/free") or bench.shard.leases.requests


def test_more_lanes_are_used_at_once_and_fewer_when_they_come_back() -> None:
    bench = Bench(replace(FREE, per_host=1))
    lent(bench, *(f"{SITE}/{number}" for number in range(40)))
    more = sent(m.Lease, bench.give(Reconfigured(replace(FREE, per_host=3))))
    assert sum(lease.lanes for lease in more) == 2
    bench.give(Reconfigured(replace(FREE, per_host=1)))
    for lease in more:
        bench.release(lease, age=0.0)
    assert sent(m.Lease, bench.wait(3)) == [], "one lane is still lent"
    bench.adds_up()


def test_a_suspect_is_lent_alone() -> None:
    bench = Bench(replace(FREE, delay=0.0))
    suspect = request(f"{SITE}/2", flags=Flag.SEED | Flag.ALONE)
    bench.give(Seeds(1, (request(f"{SITE}/1"), suspect, request(f"{SITE}/3"))))
    leases = bench.join()
    for _ in range(3):
        leases += sent(m.Lease, bench.page(leases[-1]))
    assert [[each.url[-1] for each in lease.requests] for lease in leases] == [["1"], ["2"], ["3"]]


def test_an_ended_request_is_tried_anew() -> None:
    bench = Bench(replace(FREE, retries=0))
    bench.page(lent(bench), 0, SLOW)
    assert bench.outcomes() == {f"{SITE}/": "TIMEOUT"}
    host = bench.shard.frontier.host("a.test", bench.now, bench.wall)
    key = request_row(host.slot, bench.shard.frontier.key_of(f"{SITE}/", None))
    bench.give(Retry(7, (key,)))
    bench.adds_up()
    [lease] = sent(m.Lease, bench.wait(400))
    bench.page(lease)
    assert [line["outcome"] for line in bench.lines()] == ["TIMEOUT", "OK"]
    assert bench.shard.ledger.counts.ended == 1 and bench.shard.ledger.counts.retried == 1
    bench.adds_up()


def test_two_workers_wait_for_one_host() -> None:
    bench = Bench(FREE)
    bench.join(ONE)
    bench.join(TWO)
    [first] = want(bench, "b.test", ONE)
    assert want(bench, "b.test", TWO) == []
    bench.release(first)
    [second] = sent(m.Lease, bench.wait(1.1))
    assert second.session == TWO
