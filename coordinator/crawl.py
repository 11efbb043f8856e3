"""The crawl as a whole: when it is over, and how much of it there may be. Control's core.

It knows the shards only by their reports. The crawl is over when all shards were quiet and each, told to close with
the counters that it had reported, found them unchanged (PROTOCOL rule 14): a request stays lent until its outlinks
are durable elsewhere, so nothing can be on its way when nothing is lent. While seeds are read or an `add` is not
durable the crawl is not over. What a budget holds back stays queued and does not keep the crawl open.

States:   SEEDING -> RUNNING <-> CLOSING -> FINISHED,  and STOPPED from any of them
Pure: events in, instructions out, `now` in seconds; app.py carries messages between it and the shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.messages import Cap, CapSet, Close, Closed, Poll, Report

POLL_SECONDS = 0.25
"""Between two looks at whether all is quiet; a poll costs each shard some microseconds."""


class Stage(StrEnum):
    """How far the crawl is."""

    SEEDING = "seeding"
    RUNNING = "running"
    CLOSING = "closing"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class ToShard:
    """Give a message to a shard."""

    shard: int
    message: Poll | Close | Cap


@dataclass(frozen=True, slots=True)
class Over:
    """All shards are closed: the crawl is over, exactly now."""


Instruction = ToShard | Over


class Crawl:
    """Control of `shards` shards. `budget`: the most requests that may ever be lent, None: no limit."""

    def __init__(self, shards: int, *, budget: int | None, stay: bool, now: float) -> None:
        self.stage = Stage.SEEDING
        self.reports: dict[int, Report] = {}
        self._shards = shards
        self._stay = stay
        self._budget = budget
        self._round = 0
        self._closed: dict[int, bool] = {}
        self._sources = 0
        """Readers of seeds that are at work."""
        self._next_poll = now
        self._waiting = False
        self._asked_at = now
        self._cap_number = 0

    def begin(self) -> list[Instruction]:
        """Once, at start: every shard learns its budget.

        With one shard the cap is the budget. With several it would be dealt out in numbered, absolute shares and
        idle rest taken back (rule 16); the messages are made for that.
        """
        self._cap_number += 1
        return [ToShard(shard, Cap(self._cap_number, self._share(shard))) for shard in range(self._shards)]

    def source_opened(self) -> None:
        """Somebody begins to read seeds: the crawl cannot be over until they are durable."""
        self._sources += 1
        self._round += 1
        self._waiting = False
        if self.stage in (Stage.FINISHED, Stage.CLOSING):
            self.stage = Stage.RUNNING

    def source_closed(self) -> None:
        """What that reader read is durable."""
        self._sources -= 1
        if self.stage is Stage.SEEDING and not self._sources:
            self.stage = Stage.RUNNING

    def next_wakeup(self) -> float | None:
        """When to call `tick` at the latest."""
        return None if self.stage is Stage.FINISHED else self._next_poll

    def tick(self, now: float) -> list[Instruction]:
        """Ask how the shards stand, when it is time; an unanswered round is asked anew after a while."""
        if now < self._next_poll or self.stage is Stage.FINISHED:
            return []
        self._next_poll = now + POLL_SECONDS
        if self._waiting and now - self._asked_at < 20 * POLL_SECONDS:
            return []
        return self._poll(now)

    def handle(self, message: Report | Closed | CapSet, now: float) -> list[Instruction]:
        """What a shard answered; answers of older rounds are ignored."""
        match message:
            case Report():
                return self._report(message, now)
            case Closed():
                return self._shard_closed(message, now)
            case CapSet():
                return self._cap_set(message)

    def set_cap(self, budget: int | None) -> list[Instruction]:
        """Another budget; a greater one lets a crawl that it held go on."""
        self._budget = budget
        return self.begin()

    def _share(self, shard: int) -> int | None:
        """What a shard gets of the budget; all shares together are the budget."""
        if self._budget is None:
            return None
        return self._budget * (shard + 1) // self._shards - self._budget * shard // self._shards

    def _cap_set(self, answer: CapSet) -> list[Instruction]:
        """A shard that was given a cap before this start of control holds on to it until a higher number comes."""
        if answer.number < self._cap_number or answer.cap == self._share(answer.shard):
            return []
        self._cap_number = answer.number
        return self.begin()

    def _poll(self, now: float) -> list[Instruction]:
        self._round += 1
        self._waiting = True
        self._asked_at = now
        self.reports = {}
        if self.stage is Stage.CLOSING:
            self.stage = Stage.RUNNING
        return [ToShard(shard, Poll(self._round)) for shard in range(self._shards)]

    def _report(self, report: Report, now: float) -> list[Instruction]:
        if report.round != self._round or not self._waiting or self.stage is Stage.CLOSING:
            return []
        self.reports[report.shard] = report
        if len(self.reports) < self._shards:
            return []
        self._waiting = False
        quiet = all(not each.leased and not each.lendable for each in self.reports.values())
        if not quiet or self._sources or self.stage is Stage.SEEDING or self._stay:
            return []
        self.stage = Stage.CLOSING
        self._closed = {}
        self._waiting = True
        self._asked_at = now
        return [
            ToShard(shard, Close(self._round, each.epoch, each.admitted, each.done, each.attempts))
            for shard, each in self.reports.items()
        ]

    def _shard_closed(self, closed: Closed, now: float) -> list[Instruction]:
        if closed.round != self._round or self.stage is not Stage.CLOSING:
            return []
        self._closed[closed.shard] = closed.ok
        if len(self._closed) < self._shards:
            return []
        self._waiting = False
        if all(self._closed.values()):
            self.stage = Stage.FINISHED
            return [Over()]
        self.stage = Stage.RUNNING
        self._next_poll = now
        return []
