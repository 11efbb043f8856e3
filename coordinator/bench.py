"""The bench: the hosts in memory that have work, by the time at which each should be looked at.

A heap of (time, version, host). What moves gets another version and a new entry; the old one stays in the heap until
it comes to the top and is dropped there. So `Host.wake` and `Host.version` say which entry of a host is valid, and only
this file writes them. No I/O, no clock.
"""

from __future__ import annotations

import heapq

from coordinator.hostqueue import Host, Where


class Bench:
    """Hosts that are WAITING. Times: monotonic seconds."""

    __slots__ = ("_due", "_versions", "room", "size")

    def __init__(self, room: int) -> None:
        self.room = room
        """How many hosts have a place; the frontier sees to it."""
        self.size = 0
        self._due: list[tuple[float, int, Host]] = []
        self._versions = 0

    @property
    def full(self) -> bool:
        """Whether no further host has a place."""
        return self.size >= self.room

    def add(self, host: Host, wake: float) -> None:
        """A host that is not on the bench takes a place, to be looked at from `wake` on."""
        self._versions += 1
        host.version = self._versions
        host.wake = wake
        host.where = Where.WAITING
        self.size += 1
        heapq.heappush(self._due, (wake, host.version, host))

    def remove(self, host: Host) -> None:
        """The host gives up its place, if it has one."""
        if host.where is Where.WAITING:
            self.size -= 1
            host.where = Where.IDLE
            host.wake = None
            self._versions += 1
            host.version = self._versions

    def first(self, now: float) -> Host | None:
        """The host that is due first, if any is due now; it keeps its place."""
        due = self._due
        while due and due[0][0] <= now:
            _, version, host = due[0]
            if version == host.version and host.wake is not None:
                return host
            heapq.heappop(due)
        return None

    def next_due(self) -> float | None:
        """When the next host may be due; None: no host waits."""
        due = self._due
        while due and due[0][1] != due[0][2].version:
            heapq.heappop(due)
        return due[0][0] if due else None

    def count_due(self, now: float, enough: int) -> int:
        """How many hosts are due, counted up to about `enough`; cost O(enough)."""
        stack, found = [0], 0
        while stack and found < enough:
            position = stack.pop()
            if position < len(self._due) and self._due[position][0] <= now:
                _, version, host = self._due[position]
                found += version == host.version
                stack += (2 * position + 1, 2 * position + 2)
        return found

    def first_due(self, count: int) -> list[str]:
        """About the `count` hosts that are due first; cost O(count)."""
        return [host.key for _, version, host in self._due[: 2 * count] if version == host.version][:count]
