"""What is said of a crawl, where the facts are rare: which cause stands first, and which only beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.status import HostStatus, Phase
from coordinator.waiting import Address, Facts, Group, waiting
from coordinator.watchdog import Still, Watchdog

MOVING = Facts(
    phase=Phase.RUNNING,
    workers=2,
    capacity=2000,
    lanes_lent=30,
    in_flight=30,
    queued=5000,
    hosts_leased=30,
    rate=30.0,
    disk_free=10 << 30,
    min_free=2 << 30,
)
STILL = replace(
    MOVING, in_flight=0, lanes_lent=0, hosts_leased=0, hosts_waiting=30, rate=0.0, next_due_seconds=0.5
)
LONG = HostStatus("big.test", 4000, 1.0, 1, 4000.0)


def codes(facts: Facts) -> list[str]:
    return [each.what for each in waiting(facts)]


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (MOVING, "politeness"),
        (replace(MOVING, coordinator_cpu=0.95), "coordinator_cpu"),
        (replace(MOVING, worker_cpu=0.95, coordinator_cpu=0.95), "worker_cpu"),
        (replace(MOVING, worker_cpu=0.95, extract_share=0.95, in_flight=1990), "extractors"),
        (replace(MOVING, extract_share=0.5), "politeness"),
        (replace(MOVING, lanes_lent=2000, hosts_ready=3), "credit"),
        (replace(MOVING, in_flight=1990), "servers"),
        (replace(MOVING, hosts_leased=0, queued=0), "servers"),
        (replace(MOVING, hosts_ready=500), "workers"),
        (replace(MOVING, addresses=(Address("192.0.2.1", 32, 40),), per_ip=32), "per_ip"),
        (replace(MOVING, addresses=(Address("192.0.2.1", 32, 4),), per_ip=32), "politeness"),
        (replace(MOVING, failing="DNS", failing_tries=60, tries=100), "politeness"),
        (replace(MOVING, failing="DNS", failing_tries=95, tries=100), "dns"),
        (replace(STILL, failing="DNS", failing_tries=60, tries=100), "dns"),
        (replace(STILL, failing="TIMEOUT", failing_tries=60, tries=100), "failing"),
        (replace(STILL, failing="DNS", failing_tries=6, tries=6), "politeness"),
        (STILL, "politeness"),
        (replace(STILL, retries=40, retrying=Group(20, 5.0, ("a.test",))), "retries"),
        (replace(STILL, retries=40, retrying=Group(10, 5.0, ("a.test",))), "politeness"),
        (replace(STILL, robots=Group(29, 55.0, ("a.test",))), "robots"),
        (replace(STILL, resting=Group(29, 55.0, ("a.test",))), "backoff"),
        (replace(STILL, permits=Group(20, None, ("a.test",))), "permits"),
        (replace(STILL, offline=("n1", "n2")), "workers_offline"),
        (replace(STILL, silent=("n1",)), "politeness"),
        (replace(STILL, workers=0, silent=("n1",)), "workers_silent"),
        (replace(STILL, hosts_waiting=0, hosts_leased=1, silent=("n1",)), "workers_silent"),
        (replace(STILL, held_back=5000, budget="--max-pages"), "budget"),
        (replace(STILL, held_back=4000, budget="--max-pages-per-host"), "politeness"),
        (replace(STILL, commit_seconds=3.0), "storage"),
        (replace(STILL, workers=0, worker_command="w", commit_seconds=3.0), "no_workers"),
        (replace(STILL, disk_full=True, workers=0), "disk_full"),
        (replace(STILL, disk_full=True, no_files=True, workers=0), "open_files"),
        (replace(STILL, hosts_waiting=0, seeds_reading=True), "seeds"),
    ],
)
def test_the_most_telling_cause_stands_first(facts: Facts, first: str) -> None:
    assert codes(facts)[0] == first


def test_all_that_holds_is_told_once() -> None:
    everything = replace(
        STILL,
        retries=9,
        retrying=Group(3, 5.0, ("a.test",)),
        robots=Group(4, 55.0, ("b.test",)),
        resting=Group(2, 8.0, ("c.test",)),
        addresses=(Address("192.0.2.1", 1, 2),),
        permits=Group(1, None, ("d.test",)),
        offline=("n1",),
        silent=("n2",),
        silent_seconds=20.0,
        memory_short=(),
        held_back=10,
        budget="--max-pages-per-host",
        seeds_reading=True,
        commit_seconds=2.5,
        failing="DNS",
        failing_tries=90,
        tries=100,
    )
    told = codes(everything)
    assert len(told) == len(set(told))
    assert set(told) == {
        "storage", "dns", "politeness", "robots", "retries", "backoff", "per_ip", "permits", "workers_silent",
        "workers_offline", "seeds", "budget",
    }  # fmt: skip
    assert all(each.text and len(each.text) < 140 and "\n" not in each.text for each in waiting(everything))
    assert all(len(each.examples) <= 5 for each in waiting(everything))


def test_what_stands_in_the_way_of_everything_hides_what_would_limit_it() -> None:
    assert codes(replace(STILL, workers=0)) == ["no_workers"]
    assert codes(replace(MOVING, phase=Phase.PAUSED)) == ["paused"]
    assert codes(replace(MOVING, phase=Phase.PAUSED, disk_free=1)) == ["paused", "disk_short"]
    assert codes(replace(MOVING, phase=Phase.STOPPED)) == []


def test_hosts_that_wait_for_something_else_do_not_count_for_the_pace() -> None:
    """32 hosts × 1 s said 32 pages/s, while two of them waited for an hour."""
    facts = replace(MOVING, hosts_leased=30, hosts_waiting=2, robots=Group(2, 55.0, ("a.test", "b.test")))
    assert waiting(facts)[0].text.startswith("30 hosts × 1 s: at most 30 pages/s")


def test_where_no_server_is_reached_the_cause_is_named_and_robots_are_not_to_blame() -> None:
    refused = waiting(replace(STILL, robots=Group(29, 55.0, ("a.test",), "refused")))[0]
    assert "could not be read (refused)" in refused.text and refused.hint == ""
    assert waiting(replace(STILL, robots=Group(29, 55.0, ("a.test",))))[0].hint == "yours? --ignore-robots"


def test_a_delay_that_somebody_else_asks_for_is_not_to_be_lowered_by_an_option() -> None:
    crawl_delay = replace(MOVING, hosts_leased=1, longest=HostStatus("a.test", 100, 30.0, 1, 1500.0))
    assert waiting(crawl_delay)[0].text.endswith("yours? --per-host 4")


def test_a_single_host_is_told_with_the_delay_in_force() -> None:
    own = replace(MOVING, hosts_leased=1, longest=HostStatus("a.test", 100, 30.0, 2, 1500.0))
    assert waiting(own)[0].text.startswith("1 host × 2 at once × 30 s: at most 0.0667 pages/s")


def test_large_and_odd_numbers_are_written_for_people() -> None:
    """22 hosts were said to allow 1.76e+03 pages/s, and one to have 433 queued × 2.78943 s."""
    quick = replace(MOVING, hosts_leased=22, per_host=4, delay=0.05)
    assert waiting(quick)[0].text.startswith("22 hosts × 4 at once × 0.05 s: at most 1,760 pages/s")
    slow = replace(MOVING, longest=replace(LONG, delay_seconds=2.78943))
    assert "4,000 queued × 2.79 s" in waiting(slow)[1].text


def test_one_host_that_holds_the_end_back_is_told_beside_the_main_cause() -> None:
    [first, beside] = waiting(replace(MOVING, longest=LONG))
    assert first.what == "politeness"
    assert beside.what == "longest_queue"
    assert beside.text == "big.test alone takes 1 h 06 min: 4,000 queued × 1 s; yours? --per-host 4"
    assert (beside.until_seconds, beside.examples) == (4000.0, ("big.test",))
    assert codes(replace(MOVING, longest=replace(LONG, alone_seconds=200.0))) == ["politeness"]


def test_names_of_the_web_are_made_safe() -> None:
    [cause] = waiting(replace(STILL, hosts_waiting=25, next_hosts=("a\x1b[2J.test", "b.test")))
    assert "\x1b" not in cause.text + "".join(cause.examples)


def test_the_log_hears_after_a_minute_and_ever_more_seldom() -> None:
    dog = Watchdog(0.0)
    told = [(second, still) for second in range(2000) if (still := dog.look(0, float(second))) is not None]
    assert [second for second, _ in told] == [60, 120, 240, 480, 960, 1920]
    assert dog.look(1, 2000.0) == Still(2000.0, True)
    assert dog.look(2, 2030.0) is None
    assert dog.look(2, 2091.0) == Still(61.0, False)
    assert dog.look(3, 2092.0) == Still(62.0, True)
