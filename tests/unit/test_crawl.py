"""When the crawl is over (PROTOCOL rule 14): never early, whatever comes late; and never more than its budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from common.messages import Cap, CapSet, Close, Closed, Poll, Report
from coordinator.crawl import POLL_SECONDS, Crawl, Instruction, Over, Stage, ToShard


@dataclass
class Shard:
    """What control can know of a shard."""

    index: int
    epoch: int = 1
    admitted: int = 10
    done: int = 10
    attempts: int = 10
    leased: int = 0
    lendable: int = 0

    def report(self, asked: Poll) -> Report:
        return Report(
            asked.round,
            self.index,
            self.epoch,
            self.admitted,
            self.done,
            self.attempts,
            self.leased,
            self.lendable,
        )

    def closed(self, asked: Close) -> Closed:
        same = (asked.epoch, asked.admitted, asked.done, asked.attempts) == (
            self.epoch,
            self.admitted,
            self.done,
            self.attempts,
        )
        return Closed(asked.round, self.index, same and not self.leased and not self.lendable)


class Control:
    """A crawl, its shards and a clock."""

    def __init__(self, shards: int = 1, *, stay: bool = False, seeded: bool = True) -> None:
        self.shards = [Shard(index) for index in range(shards)]
        self.crawl = Crawl(shards, budget=None, stay=stay, now=0.0)
        self.now = 0.0
        if seeded:
            self.crawl.source_opened()
            self.crawl.source_closed()

    def polls(self) -> list[tuple[Shard, Poll]]:
        self.now += POLL_SECONDS
        return [
            (self.shards[to], poll) for to, poll in sent(self.crawl.tick(self.now)) if isinstance(poll, Poll)
        ]

    def quiet(self) -> list[tuple[Shard, Close]]:
        """One round of polls, answered; the Closes that follow."""
        out: list[Instruction] = []
        for shard, poll in self.polls():
            out += self.crawl.handle(shard.report(poll), self.now)
        return [(self.shards[to], close) for to, close in sent(out) if isinstance(close, Close)]

    def close(self, closes: list[tuple[Shard, Close]]) -> list[Instruction]:
        out: list[Instruction] = []
        for shard, close in closes:
            out += self.crawl.handle(shard.closed(close), self.now)
        return out


def sent(instructions: list[Instruction]) -> list[tuple[int, Poll | Close | Cap]]:
    return [(each.shard, each.message) for each in instructions if isinstance(each, ToShard)]


# --------------------------------------------------------------------------------------------------------------- ending


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_it_ends_when_all_shards_are_quiet_and_still_quiet_when_told_to_close(shards: int) -> None:
    control = Control(shards)
    closes = control.quiet()
    assert len(closes) == shards
    assert control.crawl.stage is Stage.CLOSING
    assert control.close(closes) == [Over()]
    assert control.crawl.stage is Stage.FINISHED
    assert control.crawl.next_wakeup() is None
    assert control.crawl.tick(1e9) == []


@pytest.mark.parametrize("busy", [{"leased": 1}, {"lendable": 1}])
def test_one_busy_shard_keeps_the_crawl_open(busy: dict[str, int]) -> None:
    control = Control(3)
    control.shards[1] = replace(control.shards[1], **busy)
    assert control.quiet() == []
    assert control.crawl.stage is Stage.RUNNING
    control.shards[1] = Shard(1)
    assert len(control.quiet()) == 3


@pytest.mark.parametrize(
    "change", [{"admitted": 11}, {"done": 11}, {"attempts": 11}, {"epoch": 2}, {"lendable": 1}]
)
def test_what_changes_between_report_and_close_keeps_it_open(change: dict[str, int]) -> None:
    control = Control(2)
    closes = control.quiet()
    control.shards[1].__dict__.update(change)
    assert control.close(closes) == []
    assert control.crawl.stage is Stage.RUNNING
    control.shards[1].lendable = 0
    assert control.close(control.quiet()) == [Over()]


def test_the_counters_in_close_are_those_of_each_shards_own_report() -> None:
    control = Control(2)
    control.shards[1].admitted = control.shards[1].done = 77
    assert [close.admitted for _, close in control.quiet()] == [10, 77]


def test_a_shard_that_was_quiet_in_one_round_and_another_in_the_next_are_not_all_quiet() -> None:
    """Work that moves from shard to shard is at no time seen by a poll that asks one after the other."""
    control = Control(2)
    first = control.polls()
    control.crawl.handle(control.shards[0].report(first[0][1]), control.now)
    control.now += 100 * POLL_SECONDS
    second = control.polls()
    assert len(second) == 2
    control.shards[0].lendable = 1
    assert control.crawl.handle(control.shards[1].report(second[1][1]), control.now) == []
    assert control.crawl.handle(control.shards[1].report(first[1][1]), control.now) == []
    assert control.crawl.handle(control.shards[0].report(second[0][1]), control.now) == []
    assert control.crawl.stage is Stage.RUNNING


def test_reports_of_an_older_round_are_ignored() -> None:
    control = Control(1)
    [(shard, old)] = control.polls()
    late = shard.report(old)
    control.now += 100 * POLL_SECONDS
    [(_, new)] = control.polls()
    assert new.round > old.round
    assert control.crawl.handle(late, control.now) == []
    assert control.crawl.stage is Stage.RUNNING


def test_an_answer_to_an_older_close_is_ignored() -> None:
    control = Control(2)
    old = control.quiet()
    control.shards[1].attempts += 1
    late = control.shards[0].closed(old[0][1])
    control.close(old)
    closes = control.quiet()
    control.crawl.handle(late, control.now)
    assert control.crawl.handle(control.shards[1].closed(closes[1][1]), control.now) == []
    assert control.crawl.stage is Stage.CLOSING
    assert control.crawl.handle(control.shards[0].closed(closes[0][1]), control.now) == [Over()]


def test_a_report_that_comes_twice_closes_once() -> None:
    control = Control(1)
    [(shard, poll)] = control.polls()
    report = shard.report(poll)
    closes = sent(control.crawl.handle(report, control.now))
    assert control.crawl.handle(report, control.now) == []
    close = closes[0][1]
    assert isinstance(close, Close)
    assert control.crawl.handle(shard.closed(close), control.now) == [Over()]
    assert control.crawl.handle(report, control.now) == []
    assert control.crawl.handle(shard.closed(close), control.now) == []
    assert control.crawl.stage is Stage.FINISHED


def test_an_unanswered_poll_is_asked_anew() -> None:
    control = Control(1)
    assert len(control.polls()) == 1
    asked = [control.polls() for _ in range(25)]
    assert sum(map(len, asked)) == 1


def test_an_unanswered_close_is_followed_by_another_poll() -> None:
    control = Control(1)
    assert control.quiet()
    asked = [poll for _ in range(25) for poll in control.polls()]
    assert len(asked) == 1
    assert control.crawl.stage is Stage.RUNNING


def test_a_failed_close_is_followed_by_a_poll_at_once() -> None:
    control = Control(1)
    closes = control.quiet()
    control.shards[0].attempts += 1
    control.close(closes)
    assert control.crawl.next_wakeup() == control.now
    assert len(sent(control.crawl.tick(control.now))) == 1


# ---------------------------------------------------------------------------------------------------------------- seeds


def test_it_is_not_over_before_any_seed_was_read() -> None:
    control = Control(1, seeded=False)
    assert control.quiet() == []
    assert control.crawl.stage is Stage.SEEDING


def test_it_is_not_over_while_seeds_are_read() -> None:
    control = Control(1, seeded=False)
    control.crawl.source_opened()
    control.crawl.source_opened()
    assert control.quiet() == []
    control.crawl.source_closed()
    assert control.quiet() == []
    control.crawl.source_closed()
    assert control.close(control.quiet()) == [Over()]


def test_seeds_that_come_between_report_and_close_keep_it_open() -> None:
    control = Control(2)
    closes = control.quiet()
    control.crawl.source_opened()
    assert control.close(closes) == []
    assert control.quiet() == []
    control.crawl.source_closed()
    assert control.close(control.quiet()) == [Over()]


def test_seeds_that_were_read_between_report_and_close_void_the_round() -> None:
    control = Control(1)
    closes = control.quiet()
    control.crawl.source_opened()
    control.crawl.source_closed()
    assert control.close(closes) == []
    assert control.crawl.stage is Stage.RUNNING


def test_a_report_from_before_new_seeds_does_not_count() -> None:
    control = Control(1)
    [(shard, poll)] = control.polls()
    control.crawl.source_opened()
    control.crawl.source_closed()
    assert control.crawl.handle(shard.report(poll), control.now) == []
    assert len(control.polls()) == 1, "and it is asked again without waiting for a lost answer"


def test_an_add_opens_a_finished_crawl() -> None:
    control = Control(1)
    control.close(control.quiet())
    control.crawl.source_opened()
    assert control.crawl.stage is Stage.RUNNING
    control.crawl.source_closed()
    assert control.close(control.quiet()) == [Over()]


def test_a_crawl_that_is_to_stay_never_ends() -> None:
    control = Control(1, stay=True)
    assert control.quiet() == []


# --------------------------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize(("budget", "shards"), [(10, 1), (5, 2), (1, 3), (0, 2), (100, 7)])
def test_the_shares_of_a_budget_are_the_budget_never_more(budget: int, shards: int) -> None:
    caps = [
        cap
        for _, cap in sent(Crawl(shards, budget=budget, stay=False, now=0.0).begin())
        if isinstance(cap, Cap)
    ]
    assert sum(cap.cap or 0 for cap in caps) == budget
    assert {cap.number for cap in caps} == {1}


def test_without_a_budget_there_is_no_cap() -> None:
    assert sent(Crawl(2, budget=None, stay=False, now=0.0).begin()) == [(0, Cap(1, None)), (1, Cap(1, None))]


def test_another_budget_has_a_higher_number() -> None:
    crawl = Crawl(1, budget=5, stay=False, now=0.0)
    crawl.begin()
    assert sent(crawl.set_cap(9)) == [(0, Cap(2, 9))]
    assert crawl.handle(CapSet(2, 0, 9, 5), 1.0) == []


def test_a_budget_replaces_that_of_an_earlier_start_whatever_its_number() -> None:
    """`coord crawl --max-pages 50` after `--max-pages 20`: the shard holds a cap with our number, or a higher one."""
    crawl = Crawl(2, budget=50, stay=False, now=0.0)
    crawl.begin()
    assert sent(crawl.handle(CapSet(1, 0, 20, 20), 0.0)) == [(0, Cap(2, 25)), (1, Cap(2, 25))]
    assert sent(crawl.handle(CapSet(7, 1, 20, 20), 0.0)) == [(0, Cap(8, 25)), (1, Cap(8, 25))]
    assert crawl.handle(CapSet(2, 0, 25, 20), 0.0) == []
    assert crawl.handle(CapSet(8, 0, 25, 20), 0.0) == []
