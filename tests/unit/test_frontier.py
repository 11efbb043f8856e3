"""The frontier, where a plain example says more than the search of tests/stateful/test_frontier.py, or came from it."""

from __future__ import annotations

import pytest

from common.hostrules import HostPolicy
from common.messages import Form, Request
from coordinator.frontier import Frontier
from coordinator.hostqueue import Where
from coordinator.store.kv import Overlay
from coordinator.store.rows import CHARGED, HostRow, host_row, unpack
from tests.support.disk import CrashableStore

DELAY = 1.0


class Bench:
    """A frontier over a disk, and a clock."""

    def __init__(self, *, per_host: int = 1, bench: int = 100, heads: int = 1000) -> None:
        self.store = CrashableStore()
        self.now, self.wall = 100.0, 1_000_000.0
        self.per_host, self.bench, self.heads = per_host, bench, heads
        self.epoch = 0
        self.start()

    def start(self) -> None:
        self.rows = Overlay(self.store)
        self.epoch += 1
        self.frontier = Frontier(
            self.rows,
            seed=1,
            host_policy=lambda host: HostPolicy(DELAY, self.per_host),
            epoch=self.epoch,
            bench=self.bench,
            heads=self.heads,
        )

    def commit(self) -> None:
        self.frontier.flush(self.now, self.wall)
        self.store.write(self.rows.seal())
        self.rows.committed()

    def restart(self, *, now: float) -> None:
        self.now = now
        self.start()

    def admit(self, host: str, *pages: int, depth: int = 0, priority: int = 0, flags: int = 0) -> None:
        form = Form("GET", (), None, None, 0, priority, None) if priority else None
        for page in pages:
            asked = Request(f"https://{host}/{page}", depth, 0, 0, flags, "", None, form)
            self.frontier.admit(asked, self.now, self.wall)

    def take(self, host: str, count: int) -> list[int]:
        taken = self.frontier.take(self.frontier.host(host, self.now, self.wall), count)
        return [int(asked.url.rpartition("/")[2]) for asked in taken]

    def lend(self) -> str | None:
        """One request of the host that is ready, given back at once as done; which host it was."""
        host = self.frontier.ready(self.now, self.wall)
        if host is None:
            return None
        self.frontier.take(host, 1)
        host.take_lanes(1)
        self.frontier.settle(host, self.now, self.wall)
        host.return_lanes(1, self.now)
        self.frontier.settle(host, self.now, self.wall, lent=True)
        return host.key


# ------------------------------------------------------------------------------------------------------ order


def test_within_a_host_the_nearest_come_first_and_then_the_oldest() -> None:
    there = Bench()
    there.admit("a.test", 1, 2, depth=2)
    there.admit("a.test", 3, depth=0)
    there.admit("a.test", 4, 5, depth=1)
    there.admit("a.test", 6, depth=2)
    assert there.take("a.test", 9) == [3, 4, 5, 1, 2, 6]


def test_priority_goes_before_depth_and_what_was_lent_before_goes_first() -> None:
    there = Bench()
    there.admit("a.test", 1, depth=0)
    there.admit("a.test", 2, depth=5, priority=3)
    there.admit("a.test", 3, depth=9, flags=CHARGED)
    assert there.take("a.test", 9) == [3, 2, 1]


def test_a_queue_longer_than_its_head_comes_out_in_order_all_the_same() -> None:
    there = Bench(heads=4)
    for depth in (3, 1, 2, 0):
        there.admit("a.test", *range(depth * 100, depth * 100 + 50), depth=depth)
    assert there.take("a.test", 1000) == sorted(range(50)) + [
        *range(100, 150),
        *range(200, 250),
        *range(300, 350),
    ]


def test_a_shorter_path_moves_a_waiting_request_forward() -> None:
    there = Bench(heads=4)
    there.admit("a.test", *range(100), depth=2)
    there.admit("a.test", 77, depth=1)
    assert there.take("a.test", 2) == [77, 0]


def test_all_hosts_have_their_turn_before_one_has_its_second() -> None:
    hosts = [f"{letter}.test" for letter in "abcdefghij"]
    there = Bench(bench=2)
    for host in hosts:
        there.admit(host, *range(5))
    turns = [there.lend() for _ in range(50)]
    assert there.lend() is None
    for start in range(0, 50, 10):
        assert sorted(str(host) for host in turns[start : start + 10]) == hosts


def test_a_host_with_more_never_starves_one_that_came_later() -> None:
    there = Bench(bench=1)
    there.admit("big.test", *range(1000))
    there.admit("small.test", 1)
    assert "small.test" in [there.lend() for _ in range(3)]


# ----------------------------------------------------------------------------------------------------- memory


def test_hosts_beyond_the_bench_are_parked_with_nothing_of_their_queue_in_memory() -> None:
    there = Bench(bench=3)
    for number in range(20):
        there.admit(f"{number}.test", *range(10))
    hosts = there.frontier.hosts.values()
    assert sum(host.where is Where.WAITING for host in hosts) == 3
    assert sum(len(host.head) for host in hosts) <= 30
    assert len(there.frontier.parked) == 17


def test_a_parked_host_that_is_remembered_keeps_no_head_either() -> None:
    """Found by search: one whose requests all waited for a retry when it was parked."""
    there = Bench()
    there.admit("a.test", 0)
    host = there.frontier.host("a.test", there.now, there.wall)
    [asked] = there.frontier.take(host, 1)
    there.frontier.put_off(host, asked, ((7, there.wall),), there.wall + 5, there.now)
    there.commit()
    there.restart(now=0.0)
    assert list(there.frontier.recover(there.now, there.wall)) == ["a.test"]
    there.admit("a.test", *range(1, 9))
    assert there.frontier.hosts["a.test"].head == []  # type: ignore[index]  # a HostKey is a str
    there.frontier.check()


def test_when_the_bench_empties_the_next_in_line_are_looked_at_in_the_same_breath() -> None:
    """Found by search: nothing else would have woken the shard."""
    there = Bench(bench=1)
    there.admit("a.test", 1)
    there.admit("b.test", 2)
    host = there.frontier.host("a.test", there.now, there.wall)
    there.frontier.take(host, 1)
    ready = there.frontier.ready(there.now, there.wall)
    assert ready is not None
    assert ready.key == "b.test"


# ---------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("limit", [1, 5, 30])
def test_the_limit_of_a_host_holds_over_several_refills_of_its_head(limit: int) -> None:
    there = Bench(heads=4)
    there.frontier.budgets.per_host = limit
    there.admit("a.test", *range(100))
    assert len(there.take("a.test", 64)) == limit


def test_when_the_budget_is_used_up_only_what_was_lent_before_is_lent() -> None:
    there = Bench()
    there.admit("a.test", 1, 2)
    there.admit("a.test", 3, flags=CHARGED)
    there.frontier.budgets.may_charge = False
    assert there.frontier.lendable == 1
    assert there.take("a.test", 9) == [3]
    assert there.frontier.ready(there.now, there.wall) is None
    there.frontier.budgets.may_charge = True
    there.frontier.release_held()
    assert there.frontier.ready(there.now, there.wall) is not None


# --------------------------------------------------------------------------------------------------- restarts


def test_a_host_whose_held_requests_were_withdrawn_does_not_say_for_ever_that_it_stands_in_line() -> None:
    there = Bench()
    there.frontier.budgets.per_host = 0
    there.admit("a.test", 1)
    host = there.frontier.host("a.test", there.now, there.wall)
    assert there.frontier.withdraw(host, Request("https://a.test/1", 0, 0, 0, 0, "", None, None), there.now)
    there.commit()
    there.restart(now=0.0)
    list(there.frontier.recover(there.now, there.wall))
    assert there.frontier.ready(there.now, there.wall) is None  # its turn came, and there was nothing
    there.commit()
    row = HostRow(*unpack(there.store.get(host_row(host.slot, "a.test"))))
    assert (row.queued, row.turn) == (0, None)


def visited(there: Bench, rest: float) -> None:
    """A host with two lanes: one is lent, the other came back and rests."""
    there.admit("a.test", 1, 2)
    host = there.frontier.host("a.test", there.now, there.wall)
    there.frontier.take(host, 2)
    host.lent = 2
    host.take_lanes(2)
    host.return_lanes(1, there.now)
    host.rest_until = there.now + rest
    there.frontier.settle(host, there.now, there.wall)
    there.commit()


def test_a_backoff_outlives_a_restart_also_for_lanes_that_were_lent() -> None:
    """Found by search: a lane that came back after the restart was used at once."""
    there = Bench(per_host=2)
    visited(there, 40.0)
    there.restart(now=0.0)
    host = there.frontier.host("a.test", there.now, there.wall)
    host.attach_lanes(1)
    host.return_lanes(1, there.now + DELAY)
    assert host.due() == pytest.approx(40.0)


@pytest.mark.parametrize("jump", [-1e6, 0.0, 1e6])
def test_whatever_the_wall_clock_does_a_visited_host_waits_its_delay_and_no_longer_than_was_set(
    jump: float,
) -> None:
    there = Bench(per_host=2)
    visited(there, 40.0)
    there.wall += jump
    there.restart(now=0.0)
    due = there.frontier.host("a.test", there.now, there.wall).due()
    assert due == pytest.approx({-1e6: 40.0, 0.0: 40.0, 1e6: DELAY}[jump])


def test_a_host_that_leaves_memory_and_comes_back_in_one_epoch_owes_nothing_more() -> None:
    there = Bench(per_host=2)
    visited(there, 0.0)
    there.frontier.hosts.clear()
    assert there.frontier.host("a.test", there.now, there.wall).due() == there.now
