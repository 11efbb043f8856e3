"""One host as the frontier knows it: its queue's head in memory, its lanes, its clock.

A host has `per_host` *lanes*; a lease takes some of them and brings them back with a time before which they may not
be used again. So two fetches in one lane are never closer than the delay, whoever makes them. What is queued beyond
the head stays in the store (`more`); the head is always the smallest places of the queue.

No store, no clock: `frontier.py` moves hosts, this file counts for one.
"""

from __future__ import annotations

from bisect import insort
from enum import Enum

from common.messages import Request
from common.outcome import Outcome
from coordinator.store.rows import HostRow, Place

ELAPSED_KEPT = 5
"""Response times kept for the adaptive delay: its median follows a site within five pages."""


class Where(Enum):
    """Where a host in memory is to be found."""

    IDLE = "idle"
    """Nothing of it can be lent now: no requests, or all lanes lent."""
    WAITING = "waiting"
    """In the due-heap."""
    PARKED = "parked"
    """Its turn stands in the store; it is in memory only by chance."""
    HELD = "held"
    """A budget holds all of it back; its number stands in the store, it is in memory only by chance."""
    LINED = "lined"
    """Its address is busy; its number stands in the store, it is in memory only by chance."""


class Host:
    """The state of one host. Times are monotonic seconds; `to_row` turns them into what may be stored."""

    __slots__ = (
        "authorities",
        "charged",
        "cookies",
        "crawl_delay",
        "doom",
        "doom_reason",
        "due_at_most",
        "elapsed",
        "failures",
        "finished",
        "floor",
        "free",
        "head",
        "held",
        "ip",
        "key",
        "last_session",
        "lent",
        "lent_lanes",
        "more",
        "penalty",
        "per_host",
        "queued",
        "rest_until",
        "slot",
        "turn",
        "version",
        "waiting",
        "waiting_due",
        "wake",
        "went_due",
        "where",
    )

    def __init__(self, key: str, slot: int, *, per_host: int, now: float) -> None:
        self.key = key
        self.slot = slot
        self.where = Where.IDLE
        self.wake: float | None = None
        """The time of its valid entry in the due-heap."""
        self.version = 0
        self.turn: int | None = None
        """Its number in the line where it stands: of parked hosts, or of held ones."""
        self.per_host = per_host
        self.free: list[tuple[float, int]] = [(now, per_host)]
        """(due, how many lanes), by due; what is missing to `per_host` is lent."""
        self.lent_lanes = 0
        self.went_due = now
        """When the last of the lanes that a smaller --per-host took away would have been due."""
        self.rest_until = now
        """Backoff: no lane is used before, whatever its own due."""
        self.due_at_most = now
        self.head: list[tuple[Place, Request]] = []
        self.more = False
        """The store may hold places beyond the head."""
        self.floor: bytes | None = None
        """No key of its queue is below this: what was taken left tombstones there. None: not known."""
        self.queued = 0
        self.waiting = 0
        self.waiting_due: float | None = None
        """Wall time of the first waiting retry; None: none, or not looked up."""
        self.charged = 0
        """How many of the queued were lent before (a budget never holds those back)."""
        self.crawl_delay = 0.0
        self.penalty = 0.0
        self.ip: str | None = None
        self.failures = 0
        self.lent = 0
        """Requests charged in this round: what --max-pages-per-host counts."""
        self.held = 0
        """Queued requests that --max-pages-per-host holds back."""
        self.finished = 0
        self.doom: int | None = None
        self.doom_reason: str | None = None
        self.elapsed: tuple[int, ...] = ()
        self.authorities: tuple[str, ...] = ()
        self.cookies: bytes | None = None
        self.last_session: bytes | None = None

    def __repr__(self) -> str:
        return (
            f"<Host {self.key} {self.where.value} queued={self.queued} waiting={self.waiting} "
            f"lent_lanes={self.lent_lanes} due={self.due():.3f} failures={self.failures}>"
        )

    # ------------------------------------------------------------------------------------------------ the clock

    def due(self) -> float:
        """The earliest time at which a lane is free; infinity when all are lent."""
        if not self.free:
            return float("inf")
        first = self.free[0][0]
        return first if first > self.rest_until else self.rest_until

    @property
    def free_lanes(self) -> int:
        """Lanes that are not lent, due or not."""
        return sum(count for _, count in self.free)

    def lanes_due(self, now: float) -> int:
        """How many lanes may be used now."""
        if now < self.rest_until:
            return 0
        total = 0
        for due, count in self.free:
            if due > now:
                break
            total += count
        return total

    def take_lanes(self, count: int) -> float:
        """Lend `count` of the lanes that are due first; when the last of them is due."""
        self.lent_lanes += count
        due = float("-inf")
        while count:
            due, there = self.free[0]
            if there > count:
                self.free[0] = (due, there - count)
                break
            count -= there
            del self.free[0]
        return due

    def return_lanes(self, count: int, due: float) -> None:
        """`count` lanes came back and may be used from `due` on."""
        self.lent_lanes -= count
        if self.lent_lanes + self.free_lanes + count > self.per_host:
            count = max(0, self.per_host - self.lent_lanes - self.free_lanes)
            self.rest_until = max(
                self.rest_until, due
            )  # of a lane that there is no more; its fetch is owed a delay
        if count:
            insort(self.free, (due, count))
            if len(self.free) > 64:
                self._fold()
        if due > self.due_at_most:
            self.due_at_most = due

    def _fold(self) -> None:
        """Bound `free`: of two neighbours the later due stands for both."""
        folded = []
        for (_, first), (due, second) in zip(self.free[::2], self.free[1::2], strict=False):
            folded.append((due, first + second))
        if len(self.free) % 2:
            folded.append(self.free[-1])
        self.free = folded

    def set_lanes(self, per_host: int, now: float) -> None:
        """Another number of lanes is configured: new ones are free at once, those too many go when they come back."""
        more = per_host - self.per_host
        self.per_host = per_host
        if more > 0 and (room := per_host - self.lent_lanes - self.free_lanes) > 0:
            insort(self.free, (max(now, self.went_due), min(more, room)))
        while self.free and self.lent_lanes + self.free_lanes > per_host:
            due, count = self.free.pop(0)  # the lane that is due first goes, so that none becomes due earlier
            self.went_due = max(self.went_due, due)
            keep = count - (self.lent_lanes + self.free_lanes + count - per_host)
            if keep > 0:
                self.free.insert(0, (due, keep))

    def attach_lanes(self, count: int) -> None:
        """After a restart: `count` lanes are lent by a lease that is still open."""
        count_free = self.free_lanes
        self.lent_lanes += count
        left = max(0, min(count_free, self.per_host - self.lent_lanes))
        self.free = [(self.free[0][0], left)] if left and self.free else []

    # ------------------------------------------------------------------------------------------------- the head

    def push_head(self, place: Place, request: Request, capacity: int) -> None:
        """A new queue entry: into the head, if it belongs to the smallest places, else it stays in the store only."""
        head = self.head
        if self.more and (not head or place > head[-1][0]):
            return
        insort(head, (place, request), key=_place)
        if len(head) > capacity:
            head.pop()
            self.more = True

    def drop_head(self, place: Place) -> None:
        """The entry at `place` is gone from the queue (it moved)."""
        for position, (there, _) in enumerate(self.head):
            if there == place:
                del self.head[position]
                return

    # -------------------------------------------------------------------------------------------------- the row

    def forgive(self) -> None:
        """What it was given up for counts no more; that a person has blocked it does."""
        self.failures = 0
        if self.doom is not None and self.doom != Outcome.OPERATOR.code:
            self.doom, self.doom_reason = None, None

    def to_row(self, now: float, wall: float, epoch: int, round_number: int) -> HostRow:
        """What is stored. `due_wall` is the latest due of all lanes, so that a restart hurries nobody."""
        left = max(0.0, max(self.due_at_most, self.rest_until) - now)
        return HostRow(
            queued=self.queued,
            waiting=self.waiting,
            charged=self.charged,
            due_wall=wall + left,
            set_for=left,
            crawl_delay=self.crawl_delay,
            failures=self.failures,
            lent=self.lent,
            finished=self.finished,
            doom=self.doom,
            doom_reason=self.doom_reason,
            elapsed=self.elapsed,
            authorities=self.authorities,
            cookies=self.cookies,
            turn=self.turn,
            epoch=epoch,
            ip=self.ip,
            penalty=self.penalty,
            held=self.where is Where.HELD,
            round=round_number,
            lined=self.where is Where.LINED,
        )

    @classmethod
    def from_row(cls, key: str, slot: int, row: HostRow, *, per_host: int, due: float, now: float) -> Host:
        """The host as it was stored; `due` (monotonic) is what the caller made of `due_wall` and `set_for`."""
        host = cls(key, slot, per_host=per_host, now=now)
        host.free = [(due, per_host)]
        host.due_at_most = host.rest_until = due
        host.queued = row.queued
        host.waiting = row.waiting
        host.charged = row.charged
        host.crawl_delay = row.crawl_delay
        host.failures = row.failures
        host.lent = row.lent
        host.finished = row.finished
        host.doom = row.doom
        host.doom_reason = row.doom_reason
        host.elapsed = row.elapsed
        host.authorities = row.authorities
        host.cookies = row.cookies
        host.turn = row.turn
        host.ip = row.ip
        host.penalty = row.penalty
        host.more = row.queued > 0
        return host


def _place(entry: tuple[Place, Request]) -> Place:
    return entry[0]
