"""Open leases: who holds which requests of which host, and until when.

The time of a lease that counts here began when the shard answered, and is one per cent longer than the T that the
worker was told; the worker counts from when it sent. So the worker's clock always runs out first (PROTOCOL rule 6).
No I/O, no clock. Rows are written by shard.py; a renewal is never written (rule 5).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from common.messages import LeaseId, Request, lease_name
from coordinator.store.rows import LeaseRow

SLACK = 1.01
"""The shard waits one per cent longer than the worker (rule 6)."""

STALLED_AFTER = 10
"""A lease without progress for so many T is not renewed (rule 7)."""

STALLED_DELAYS = 6
"""And for so many of its host's delays: with long ones, a request that is fetched again may take that long."""


class OpenLease:
    """One lease. `open`: ordinals without an accepted result. Times: monotonic seconds."""

    __slots__ = (
        "cookies_number",
        "deadline",
        "delay",
        "host",
        "id",
        "lanes",
        "last_end",
        "local",
        "open",
        "owed",
        "progress_at",
        "recalled",
        "requests",
        "seq",
        "session",
        "ttl",
        "width",
    )

    def __init__(
        self,
        lease: LeaseId,
        *,
        host: str,
        session: bytes,
        local: bool,
        lanes: int,
        width: int,
        delay: float,
        ttl: float,
        requests: tuple[Request, ...],
        seq: int,
        now: float,
    ) -> None:
        self.id = lease
        self.host = host
        self.session = session
        self.local = local
        self.lanes = lanes
        """Lanes of the host that are taken; more than `width` while its robots.txt is not known."""
        self.width = width
        """Parallel fetches that the worker may make."""
        self.delay = delay
        self.ttl = ttl
        self.requests = requests
        self.seq = seq
        """The last number of a queue entry when it began; what is queued again later has a greater one."""
        self.open = set(range(len(requests)))
        self.deadline = now + ttl * SLACK
        self.progress_at = now
        self.cookies_number = 0
        """Number of the page whose cookies were taken last: one that is sent again may overtake it."""
        self.recalled = False
        """Its terms have changed: its holder is to give it back."""
        self.owed = now
        """When the last of its lanes was due: one may be taken before, while robots.txt is not known."""
        self.last_end: float | None = None
        """When the latest fetch that a report told of had ended; None: no fetch was told of yet."""

    def __repr__(self) -> str:
        return (
            f"<Lease {lease_name(self.id)} of {self.host}: {len(self.open)} of {len(self.requests)} open, "
            f"{self.lanes} lanes, until {self.deadline:.3f}>"
        )

    def fetched(self, now: float, age: float | None) -> None:
        """A report came: it is progress, and its `age` tells when the host was last visited (rule 9)."""
        self.progress_at = now
        if age is not None and (self.last_end is None or now - age > self.last_end):
            self.last_end = now - age

    def is_stalled(self, now: float) -> bool:
        """Whether nothing came of it for so long that it is to run out."""
        return now - self.progress_at > STALLED_AFTER * self.ttl + STALLED_DELAYS * self.delay

    def undone(self) -> list[Request]:
        """The requests without a result, in their order."""
        return [self.requests[ordinal] for ordinal in sorted(self.open)]

    def to_row(self) -> LeaseRow:
        """What is committed before the lease leaves."""
        return LeaseRow(
            self.session,
            self.local,
            self.host,
            self.lanes,
            self.width,
            self.delay,
            self.ttl,
            tuple(self.requests),
            self.seq,
        )


class Leases:
    """The open leases of a shard, by id and by session, with their deadlines."""

    def __init__(self) -> None:
        self._open: dict[LeaseId, OpenLease] = {}
        self._of: dict[bytes, dict[LeaseId, OpenLease]] = {}
        self._deadlines: list[tuple[float, LeaseId]] = []
        self.requests = 0
        """Requests lent and without a result, over all leases."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenLease]:
        return iter(self._open.values())

    def add(self, lease: OpenLease) -> None:
        """A lease begins (or is found again after a restart)."""
        self._open[lease.id] = lease
        self._of.setdefault(lease.session, {})[lease.id] = lease
        self.requests += len(lease.open)
        heapq.heappush(self._deadlines, (lease.deadline, lease.id))

    def get(self, lease: LeaseId) -> OpenLease | None:
        """The open lease with this id."""
        return self._open.get(lease)

    def of(self, session: bytes) -> list[OpenLease]:
        """The leases that a session holds."""
        return list(self._of.get(session, {}).values())

    def close(self, lease: OpenLease, ordinal: int) -> None:
        """A request of the lease has its result."""
        lease.open.remove(ordinal)
        self.requests -= 1

    def end(self, lease: OpenLease) -> None:
        """The lease is over, whatever is still open in it."""
        del self._open[lease.id]
        held = self._of[lease.session]
        del held[lease.id]
        if not held:
            del self._of[lease.session]
        self.requests -= len(lease.open)

    def renew(self, session: bytes, listed: Iterable[LeaseId], now: float) -> list[LeaseId]:
        """Give the listed leases of the session a full T from now; the others are returned.

        Those are the ones that it does not hold, and those that stood still for so long that they are to run out
        (rule 7): unless its holder drops such a lease at once, its clock would no longer run out first.
        """
        held = self._of.get(session, {})
        unknown = []
        for lease_id in listed:
            lease = held.get(lease_id)
            if lease is None or lease.is_stalled(now):
                unknown.append(lease_id)
            else:
                lease.deadline = max(lease.deadline, now + lease.ttl * SLACK)
        return unknown

    def expired(self, now: float) -> list[OpenLease]:
        """Leases whose time is over; the caller ends them. Cost: O(1) a lease and T, amortised."""
        gone = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, lease_id = heapq.heappop(self._deadlines)
            lease = self._open.get(lease_id)
            if lease is None:
                continue
            if lease.deadline > now:
                heapq.heappush(self._deadlines, (lease.deadline, lease_id))
            else:
                gone.append(lease)
        return gone

    def next_deadline(self) -> float | None:
        """Not later than when the next lease expires; None without leases."""
        return self._deadlines[0][0] if self._deadlines else None
