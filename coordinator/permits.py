"""Permits: which workers want to fetch robots.txt of which host, and when a host should be looked at for them.

A robots.txt that was redirected to another host needs a lease without requests there (PROTOCOL rule 19). A worker asks
with WANT, again and again, until the lease comes. A host that is wanted is looked at when it may be due, and again
when a lease of it is over; one all of whose lanes are lent has no time until then. It does not lend: lending.py does.
No I/O, no clock.

Invariants: a host that is wanted has a session that wants it; a session wants no more than OF_ONE hosts; only hosts
that are wanted have a time.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from itertools import islice

OF_ONE = 2_000
"""Hosts for which one session may want permits: far more than it has fetches, each of which waits for one at most."""

IN_ALL = 10_000
"""Hosts for which permits are wanted at one time; a worker asks again for what is beyond."""


class Permits:
    """What is wanted of one shard. Times: monotonic seconds."""

    def __init__(self) -> None:
        self._wanted: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()
        """By host: the sessions, in the order in which they asked."""
        self._of: Counter[bytes] = Counter()
        """By session: how many hosts it wants."""
        self._looks: list[tuple[float, str]] = []
        """Heap of when to look at which host; valid are those that `_at` has, too."""
        self._at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, host: str) -> bool:
        return host in self._wanted

    def names(self, count: int) -> list[str]:
        """The hosts that have been wanted for longest."""
        return list(islice(self._wanted, count))

    def want(self, session: bytes, host: str) -> None:
        """The session wants the host; asked again, and beyond the bounds, it changes nothing. O(log n)."""
        sessions = self._wanted.get(host)
        if (sessions is not None and session in sessions) or self._of[session] >= OF_ONE:
            return
        if sessions is None:
            if len(self._wanted) >= IN_ALL:
                return
            sessions = self._wanted[host] = OrderedDict()
            self.look(host, float("-inf"))
        sessions[session] = None
        self._of[session] += 1

    def look(self, host: str, at: float) -> None:
        """A host that is wanted may be due at `at`; infinity: not before somebody says so again."""
        if at < self._at.get(host, float("inf")):
            self._at[host] = at
            heapq.heappush(self._looks, (at, host))
            if len(self._looks) > 2 * IN_ALL:
                self._looks = [(when, name) for name, when in self._at.items()]
                heapq.heapify(self._looks)

    def look_at_all(self) -> None:
        """Something has changed that may make any of them due earlier."""
        for host in self._wanted:
            self.look(host, float("-inf"))

    def next_look(self) -> float | None:
        """When a host should be looked at; None: when something is over."""
        while self._looks and self._at.get(self._looks[0][1]) != self._looks[0][0]:
            heapq.heappop(self._looks)
        return self._looks[0][0] if self._looks else None

    def due(self, now: float) -> str | None:
        """A host that should be looked at now; it is not named again before its next `look`."""
        at = self.next_look()
        if at is None or at > now:
            return None
        _, host = heapq.heappop(self._looks)
        del self._at[host]
        return host

    def take(self, host: str) -> bytes | None:
        """The session that has wanted the host for longest wants it no more; None: nobody does."""
        sessions = self._wanted.get(host)
        if sessions is None:
            return None
        session = next(iter(sessions))
        self._remove(host, session)
        return session

    def drop(self, host: str) -> None:
        """Nobody gets a permit for this host."""
        while self.take(host) is not None:
            pass

    def forget(self, session: bytes) -> None:
        """The session is gone. Cost: all hosts that are wanted, if it wants any."""
        if session in self._of:
            for host in [host for host, sessions in self._wanted.items() if session in sessions]:
                self._remove(host, session)
            self._of.pop(session, None)

    def _remove(self, host: str, session: bytes) -> None:
        sessions = self._wanted[host]
        del sessions[session]
        if not sessions:
            del self._wanted[host]
            self._at.pop(host, None)
        self._of[session] -= 1
        if not self._of[session]:
            del self._of[session]
