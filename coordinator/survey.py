"""A look over the hosts of a shard, some at a time: what they wait for, which are slow, fail, or have most to come.

Twenty thousand hosts cannot be looked at each second: a step looks at STEP_HOSTS, and when it is through with all
that are in memory the picture is renewed. With fewer hosts than that each step gives a new picture; with 25,000 it is
at most about ten seconds old. Hosts that stand in the store (beyond frontier.BENCH) are not seen.

Reads only: the core's state is left as it is, and rows of robots.txt are looked at for at most ROBOTS_LOOKED hosts.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from coordinator.hostqueue import Host, Where
from coordinator.shard import Shard
from coordinator.status import HostStatus
from coordinator.store.rows import RobotsRow, robots_row, unpack

STEP_HOSTS = 512
"""About half a millisecond."""

STEP_SECONDS = 0.2
"""Between two steps, at least: many may ask for the status."""

KEPT = 10
"""Hosts of each list."""

NAMED = 5

RESTS_FROM = 2.0
"""Seconds that a host rests beyond its delay, so that it is no mere politeness."""

ROBOTS_LOOKED = 50


@dataclass(slots=True)
class Crowd:
    """Hosts that wait for the same. `until`: monotonic, of the first."""

    count: int = 0
    until: float | None = None
    names: list[tuple[float, str]] = field(default_factory=list)
    why: str = ""
    """Of hosts that could not be reached: a `reason`, the last that was met."""

    def add(self, host: Host, until: float) -> None:
        self.count += 1
        if self.until is None or until < self.until:
            self.until = until
        self.names.append((until, host.key))
        if len(self.names) > 4 * NAMED:
            self.names = heapq.nsmallest(NAMED, self.names)

    def first(self) -> tuple[str, ...]:
        """The hosts whose time comes first."""
        return tuple(name for _, name in heapq.nsmallest(NAMED, self.names))


@dataclass(slots=True)
class Picture:
    """What a look over all hosts gave."""

    hosts: int = 0
    retrying: Crowd = field(default_factory=Crowd)
    """Nothing to fetch but retries."""
    first_retry: tuple[float, str] | None = None
    """Of all: monotonic, host."""
    robots: Crowd = field(default_factory=Crowd)
    resting: Crowd = field(default_factory=Crowd)
    long_queues: tuple[HostStatus, ...] = ()
    slow: tuple[HostStatus, ...] = ()
    failing: tuple[HostStatus, ...] = ()


class _Top:
    """The KEPT hosts with the greatest keys."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[tuple[float, str, Host]] = []

    def offer(self, key: float, host: Host) -> None:
        if len(self.entries) < KEPT:
            heapq.heappush(self.entries, (key, host.key, host))
        elif key > self.entries[0][0]:
            heapq.heapreplace(self.entries, (key, host.key, host))

    def hosts(self) -> list[Host]:
        return [host for _, _, host in sorted(self.entries, reverse=True)]


class Survey:
    """Looks at one shard. `picture` is the last whole one."""

    def __init__(self, core: Shard) -> None:
        self._core = core
        self.picture = Picture()
        self._stepped = float("-inf")
        self._left: list[Host] = []
        self._begin()

    def step(self, now: float, wall: float) -> Picture:
        """Look at the next hosts; the newest whole picture."""
        if now - self._stepped < STEP_SECONDS:
            return self.picture
        self._stepped = now
        if not self._left:
            self._begin()
        part, self._left = self._left[-STEP_HOSTS:], self._left[:-STEP_HOSTS]
        for host in part:
            self._look(host, now, wall)
        if not self._left:
            self._end()
        return self.picture

    def _begin(self) -> None:
        self._left = list(self._core.frontier.hosts.values())
        self._next = Picture(hosts=len(self._left))
        self._long, self._slow, self._failing = _Top(), _Top(), _Top()
        self._robots_looked = 0

    def _end(self) -> None:
        self._next.long_queues = self._told(self._long)
        self._next.slow = self._told(self._slow)
        self._next.failing = self._told(self._failing)
        self.picture = self._next

    def _look(self, host: Host, now: float, wall: float) -> None:
        if host.failures or host.doom is not None:
            self._failing.offer(host.failures + 1000 * (host.doom is not None), host)
        if host.elapsed:
            self._slow.offer(_median(host), host)
        left = host.queued + host.waiting
        if not left or host.doom is not None:
            return
        # Nearly the delay in force: to find that of every host would cost ten times as much.
        delay = max(self._core.config.delay, host.crawl_delay, host.penalty)
        self._long.offer(left * max(delay, 1e-3) / host.per_host, host)
        if host.waiting and host.waiting_due is not None:
            due = now + max(0.0, host.waiting_due - wall)
            if self._next.first_retry is None or due < self._next.first_retry[0]:
                self._next.first_retry = due, host.key
        if host.where is not Where.WAITING:
            return
        rests = host.rest_until - now
        if not host.queued:
            crowd = self._next.robots if self._robots_fails(host) else self._next.retrying
            crowd.add(host, now if host.wake is None else host.wake)
        elif rests > RESTS_FROM + delay or (rests > 0 and host.failures):
            crowd = self._next.robots if self._robots_fails(host) else self._next.resting
            crowd.add(host, host.rest_until)

    def _robots_fails(self, host: Host) -> bool:
        """Whether it is a robots.txt that it waits for."""
        if not host.authorities or self._robots_looked >= ROBOTS_LOOKED:
            return not host.failures and bool(host.authorities)
        self._robots_looked += 1
        for place in host.authorities:
            packed = self._core.rows.get(robots_row(host.slot, place))
            row = None if packed is None else RobotsRow(*unpack(packed))
            if row is not None and row.verdict == "retry":
                self._next.robots.why = row.reason or self._next.robots.why
                return True
        return False

    def _told(self, top: _Top) -> tuple[HostStatus, ...]:
        return tuple(self._status(host) for host in top.hosts())

    def _status(self, host: Host) -> HostStatus:
        delay = self._core.lending.delay_of(host)
        left = host.queued + host.waiting
        return HostStatus(
            host.key,
            left,
            delay,
            host.per_host,
            left * delay / host.per_host,
            _median(host) / 1000 if host.elapsed else None,
            host.failures,
            host.finished,
            "" if host.doom is None else (host.doom_reason or "given up"),
        )


def _median(host: Host) -> int:
    return sorted(host.elapsed)[len(host.elapsed) // 2]
