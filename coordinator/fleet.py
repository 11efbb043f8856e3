"""The fleet: the worker sessions a shard knows, what each may be lent, and what each was answered.

A session is one start of one worker process. Credit is absolute: a heartbeat says how many lanes and requests may be
out with it at one time, what is out already included; the newest number wins (PROTOCOL rule 23). Who has been silent
for SILENT_HEARTBEATS is lent nothing until it speaks again: a machine that vanished, or stands still, would hold what
it is lent for a lease's time. No I/O, no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

SILENT_HEARTBEATS = 3
"""A worker that says nothing for so many heartbeats is silent: lent nothing more, and told of in the status."""

MOST_SESSIONS = 10_000
"""Worker processes that a shard knows at one time; each may be remembered with a megabyte of what it was answered."""

ANSWERS_KEPT = 8192
"""Data messages whose answer is remembered per session; far more than a worker has unanswered at one time."""

ROBOTS_KEPT = 4096
"""Authorities per session whose robots.txt need not be sent again."""


class WorkerSession:
    """What a shard knows of one worker process. Times: monotonic seconds; counts as the last heartbeat said."""

    __slots__ = (
        "answers",
        "cpu_percent",
        "epoch_seen",
        "extract_percent",
        "fetched",
        "held_bytes",
        "heard_at",
        "host",
        "id",
        "in_flight",
        "index",
        "lag_ms",
        "lanes",
        "lent_lanes",
        "lent_requests",
        "local",
        "number",
        "offline",
        "pid",
        "requests",
        "robots",
        "rss",
        "silent",
    )

    def __init__(self, session: bytes, *, host: str, pid: int, index: int, local: bool, now: float) -> None:
        self.id = session
        self.host = host
        self.pid = pid
        self.index = index
        self.local = local
        self.heard_at = now
        self.silent = False
        """It is lent nothing; see `Fleet.hush`."""
        self.number = 0
        """Highest control number seen."""
        self.epoch_seen = 0
        self.lanes = 0
        self.requests = 0
        self.lent_lanes = 0
        self.lent_requests = 0
        self.in_flight = 0
        self.held_bytes = 0
        self.fetched = 0
        self.lag_ms = 0
        self.cpu_percent = 0
        self.rss = 0
        self.extract_percent = 0
        self.offline = False
        """It suspects its own network."""
        self.answers: OrderedDict[int, str | None] = OrderedDict()
        """Number of a data message -> None when accepted, else the code of the refusal."""
        self.robots: OrderedDict[str, int] = OrderedDict()
        """Authority -> version of its robots.txt that this session was sent."""

    def __repr__(self) -> str:
        return (
            f"<Session {self.id.hex()[:8]} {self.host}:{self.pid} lanes {self.lent_lanes}/{self.lanes} "
            f"requests {self.lent_requests}/{self.requests}>"
        )

    @property
    def free_lanes(self) -> int:
        """Lanes that may be lent to it now."""
        return self.lanes - self.lent_lanes if self.requests > self.lent_requests and not self.silent else 0

    def heard(self, now: float) -> None:
        """It said something."""
        self.heard_at = now
        self.silent = False

    def answer(self, number: int, refusal: str | None) -> None:
        """Remember what a data message was answered."""
        self.answers[number] = refusal
        if len(self.answers) > ANSWERS_KEPT:
            self.answers.popitem(last=False)

    def knows_robots(self, authority: str, version: int) -> bool:
        """Whether it was sent this version before; from now on it was."""
        known = self.robots.get(authority) == version
        self.robots[authority] = version
        self.robots.move_to_end(authority)
        if len(self.robots) > ROBOTS_KEPT:
            self.robots.popitem(last=False)
        return known


class Fleet:
    """Sessions by id."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, WorkerSession] = {}
        self.joined = 0
        """Sessions ever."""
        self.died = 0
        """Of them, those that their supervisor reported dead."""
        self._look_at = float("-inf")
        """Before this nobody can have been silent for long."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[WorkerSession]:
        return iter(self._sessions.values())

    def get(self, session: bytes) -> WorkerSession | None:
        """The session with this id."""
        return self._sessions.get(session)

    def add(self, session: WorkerSession) -> None:
        """A process said Hello."""
        self._sessions[session.id] = session
        self.joined += 1

    def remove(self, session: bytes) -> None:
        """It left, died, or was silent for long."""
        self._sessions.pop(session, None)

    @property
    def is_full(self) -> bool:
        """Whether no more may join."""
        return len(self._sessions) >= MOST_SESSIONS

    def hush(self, now: float, patience: float) -> None:
        """Lend nothing more to sessions that were silent for longer than `patience` (seconds).

        They are looked at only when one of them may have become silent: about once in `patience`.
        """
        if now <= self._look_at:
            return
        first = now
        for session in self._sessions.values():
            if now - session.heard_at > patience:
                session.silent = True
            elif session.heard_at < first:
                first = session.heard_at
        self._look_at = first + patience

    def choose(self, preferred: bytes | None) -> WorkerSession | None:
        """Who gets the next lease: the one that had the host last if it has credit, else the one with most."""
        if preferred is not None:
            last = self._sessions.get(preferred)
            if last is not None and last.free_lanes > 0:
                return last
        best: WorkerSession | None = None
        for session in self._sessions.values():
            if session.free_lanes > (best.free_lanes if best is not None else 0):
                best = session
        return best

    def with_credit(self) -> int:
        """How many sessions could be lent something."""
        return sum(session.free_lanes > 0 for session in self._sessions.values())
