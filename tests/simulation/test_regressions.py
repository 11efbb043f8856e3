"""What the simulation found, each as a plain test named after the promise that was broken."""

from __future__ import annotations

from common import messages as m
from common.config import CrawlConfig
from common.configwire import config_to_wire
from common.messages import Flag, Phase, lease_epoch, lease_id, lease_name, lease_shard
from common.outcome import Outcome
from common.scope import HeldSites, Scope
from coordinator import policy
from coordinator.steps import Received
from tests.unit.test_agent import Desk, only
from tests.unit.test_agent import messages as posted
from tests.unit.test_shard import OK, SITE, Bench, T, failed, lent, links, sent
from worker.steps import Post


def test_leases_of_two_shards_never_have_one_id() -> None:
    """A worker keeps the leases of all shards in one table: the second would be taken for a duplicate."""
    one, other = lease_id(1, 3), lease_id(1, 3, 1)
    assert one != other
    assert (lease_epoch(other), lease_shard(other), lease_name(other)) == (1, 1, "s1/1:3")


def test_two_shards_that_disagree_about_the_phase_do_not_drive_a_worker_round() -> None:
    """Each answer turned the worker round, and each turn asked both shards at once: a storm without end."""
    desk = Desk(2)
    desk.pass_time(0.1)
    turns = 0
    for _ in range(10):
        for shard, phase in ((0, Phase.RUNNING), (1, Phase.PAUSED)):
            turns += len(posted(m.Heartbeat, desk.alive(shard=shard, phase=phase)))
    assert turns <= 4


def test_an_answer_of_a_newer_epoch_makes_a_worker_say_hello() -> None:
    """The Welcome of the new epoch was overtaken: everything was ignored from then on, and the crawl was stuck."""
    desk = Desk()
    desk.epochs[0] = 2
    assert posted(m.Hello, desk.alive() + desk.wake())


def test_a_release_that_waits_for_a_welcome_wakes_nobody() -> None:
    """It was due, could not be sent while greeting, and so the process span."""
    desk = Desk()
    desk.lend()
    desk.alive(phase=Phase.PAUSED)
    desk.pass_time(6.0)
    desk.arrive(m.HelloAgain(desk.agent._session))
    sent_before = len(desk.posts)
    desk.pass_time(30.0)
    assert len(only(Post, desk.posts[sent_before:])) < 60
    assert desk.agent.next_wakeup() > desk.now


def test_a_retry_does_not_wait_for_a_clock_that_was_set_back() -> None:
    bench = Bench()
    lease = lent(bench)
    bench.page(lease, facts=failed(Outcome.SERVER_ERROR))
    bench.wall -= 86_400.0
    bench.restart()
    bench.wall -= 1.0
    bench.join()
    assert sent(m.Lease, bench.wait(30.0) + bench.wait(T))


def test_a_host_obeys_the_longest_crawl_delay_of_its_authorities() -> None:
    """The robots.txt of http on another port asked for nothing, and the other one was forgotten."""
    bench = Bench(CrawlConfig(delay=1.0))
    bench.join()
    [lease] = bench.seed(f"{SITE}/", "http://a.test:8080/")
    for place, delay in ((SITE, 7.0), ("http://a.test:8080", None)):
        robots = m.Robots(
            bench.data + 1, lease.session, lease.id, place, "allow", 404, None, delay, None, 0.0, 0
        )
        bench.data += 1
        bench.give(Received(robots))
    bench.release(lease)
    [again] = sent(m.Lease, bench.wait(30.0))
    assert again.delay == 7.0


def test_a_failed_robots_txt_counts_once_though_its_answer_was_lost_in_a_restart() -> None:
    """Counted again with each restart, a short trouble of a site cost it all its pages."""
    bench = Bench(CrawlConfig())
    bench.join()
    [lease] = bench.seed(f"{SITE}/")
    robots = m.Robots(1, lease.session, lease.id, SITE, "ROBOTS_UNREACHABLE", 503, None, None, None, 0.0, 0)
    bench.give(Received(robots))
    bench.restart()
    bench.hello(leases=(lease.id,))
    bench.give(Received(robots))
    bench.release(lease)
    bench.beat()
    assert sent(m.Lease, bench.wait(policy.ROBOTS_WAITS[0] + 2.0))


def test_where_a_seed_redirects_to_is_asked_of_deny_too() -> None:
    bench = Bench(
        CrawlConfig(obey_robots=False), scope=Scope("host", HeldSites({"a.test"}), deny=("unwanted",))
    )
    bench.join()
    [lease] = bench.seed(f"{SITE}/")
    hop = links("https://b.test/unwanted", depth=0, hops=1, flags=Flag.SEED)
    bench.page(lease, facts=OK._replace(outcome=Outcome.REDIRECT.code, status=302), links=(hop,))
    assert bench.row("https://b.test/unwanted") is None


def test_a_configuration_goes_over_the_wire_in_one_order() -> None:
    """A set gave the order: equal configurations were different bytes, from process to process."""
    wire = config_to_wire(CrawlConfig())
    options = [name for name in wire if name not in ("host", "hosts", "extractors", "code", "tuning")]
    assert options == sorted(options)
