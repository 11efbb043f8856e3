"""The queues of requests, one a host: entries in the store, the head of each in memory, retries beside them.

This file moves entries and counts them; which requests are known and where each stands, the frontier writes into rows
of their own. What is changed here is told in the host's row, so the frontier touches the host after every call. No I/O
but through the `Overlay`, no clock.

Order within a queue: what was lent before, then priority, then depth, then age (`rows.Place`).

Invariants: a host's head holds the smallest places of its queue; `host.queued` and `host.waiting` count its entries,
`queued`, `waiting` and `charged` those of all hosts.
"""

from __future__ import annotations

from common.errors import StorageError
from common.messages import Request
from coordinator.bench import Bench
from coordinator.hostqueue import Host
from coordinator.policy import wait_left
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    CHARGED,
    PRIORITY_ZERO,
    HostRow,
    Place,
    as_request,
    pack_queued,
    queue_key,
    queue_place,
    queue_prefix,
    span,
    unpack,
    wait_due,
    wait_key,
    wait_prefix,
)


class Queues:
    """The queues of one shard's hosts."""

    def __init__(self, rows: Overlay, bench: Bench, *, seq: int, heads: int) -> None:
        """`heads`: requests in memory over all heads, shared out among the hosts on the bench."""
        self._rows = rows
        self._bench = bench
        self._heads = heads
        self.seq = seq
        """The last number given to an entry."""
        self.queued = 0
        self.waiting = 0
        self.charged = 0
        """Over all hosts: queued, waiting for a retry, and queued that were lent before."""

    def count(self, row: HostRow) -> None:
        """At start: the entries of a host, by its row."""
        self.queued += row.queued
        self.waiting += row.waiting
        self.charged += row.charged

    # ------------------------------------------------------------------------------------------------ the queue

    def place(self, request: Request) -> Place:
        """The next place for a request: behind all that are equal to it."""
        self.seq += 1
        rank = 0 if request.flags & CHARGED else 1
        priority = PRIORITY_ZERO - (request.form.priority if request.form else 0)
        return Place(rank, priority, request.depth, self.seq)

    def add(self, host: Host, place: Place, request: Request) -> None:
        """A new entry."""
        key = queue_key(queue_prefix(host.slot, host.key), place)
        self._rows.put(key, pack_queued(request))
        if host.floor is not None and key < host.floor:
            host.floor = key
        host.queued += 1
        self.queued += 1
        if place.rank == 0:
            host.charged += 1
            self.charged += 1
        host.push_head(place, request, self._head_size())

    def take(self, host: Host, count: int) -> list[Request]:
        """The first `count` entries leave; there are that many. Raises StorageError if the store has fewer."""
        taken: list[Request] = []
        prefix = queue_prefix(host.slot, host.key)
        while len(taken) < count:
            if not host.head:
                self._refill(host, prefix)
            room = count - len(taken)
            part, host.head = host.head[:room], host.head[room:]
            if not part:
                raise StorageError(
                    f"{host.queued} requests of {host.key} are counted, none found; run `coord audit`"
                )
            for place, request in part:
                self._rows.delete(queue_key(prefix, place))
                if place.rank == 0:
                    host.charged -= 1
                    self.charged -= 1
                taken.append(request)
            host.floor = queue_key(prefix, part[-1][0])
            host.queued -= len(part)
            self.queued -= len(part)
        return taken

    def remove(self, host: Host, place: Place) -> bool:
        """The entry at a place leaves; False: there is none."""
        key = queue_key(queue_prefix(host.slot, host.key), place)
        if self._rows.get(key) is None:
            return False
        self._rows.delete(key)
        host.drop_head(place)
        host.queued -= 1
        self.queued -= 1
        if place.rank == 0:
            host.charged -= 1
            self.charged -= 1
        return True

    def lift(self, host: Host | None, prefix: bytes, place: Place, shorter: Request) -> bool:
        """The entry at a place moves to the depth of `shorter`, the same request found by a shorter path; False: there
        is none. `prefix`: of the host's queue; `host`: None when it is not in memory."""
        old = queue_key(prefix, place)
        packed = self._rows.get(old)
        if packed is None:
            return False
        to = place._replace(depth=shorter.depth)
        lifted = as_request(unpack(packed))._replace(
            depth=shorter.depth, referrer=shorter.referrer, seed=shorter.seed, hops=shorter.hops
        )
        new = queue_key(prefix, to)
        self._rows.delete(old)
        self._rows.put(new, pack_queued(lifted))
        if host is not None:
            host.drop_head(place)
            host.push_head(to, lifted, self._head_size())
            if host.floor is not None and new < host.floor:
                host.floor = new
        return True

    def drain(self, host: Host, count: int) -> list[Request]:
        """At most `count` entries leave, then retries, whatever their time; the head is empty after it."""
        taken: list[Request] = []
        for prefix, waits in (
            (queue_prefix(host.slot, host.key), False),
            (wait_prefix(host.slot, host.key), True),
        ):
            start, stop = span(prefix)
            if not waits and host.floor is not None:
                start = host.floor
            for key, packed in self._rows.scan(start, stop, limit=count - len(taken)):
                self._rows.delete(key)
                if not waits:
                    host.floor = key
                taken.append(as_request(unpack(packed)))
                if waits:
                    host.waiting -= 1
                    self.waiting -= 1
                    continue
                host.queued -= 1
                self.queued -= 1
                if queue_place(key).rank == 0:
                    host.charged -= 1
                    self.charged -= 1
        host.head = []
        host.more = host.queued > 0
        return taken

    def _head_size(self) -> int:
        return max(4, min(64, self._heads // max(1, self._bench.size)))

    def _refill(self, host: Host, prefix: bytes) -> None:
        size = max(self._head_size(), 16)
        start, stop = span(prefix)
        entries = self._rows.scan(start if host.floor is None else host.floor, stop, limit=size)
        host.head = [(queue_place(key), as_request(unpack(packed))) for key, packed in entries]
        host.more = len(entries) == size

    # --------------------------------------------------------------------------------------------------- retries

    def put_off(self, host: Host, place: Place, request: Request, due_wall: float) -> None:
        """A request waits beside the queue until `due_wall`."""
        self._rows.put(wait_key(wait_prefix(host.slot, host.key), due_wall, place.seq), pack_queued(request))
        host.waiting += 1
        self.waiting += 1
        if host.waiting_due is None or due_wall < host.waiting_due:
            host.waiting_due = due_wall if host.waiting == 1 or host.waiting_due is not None else None

    def woken(self, host: Host, wall: float) -> list[Request]:
        """Retries whose time has come leave, to be queued again; at most 64 at once. Only for a host that has some.

        Raises StorageError if the store has none.
        """
        if host.waiting_due is not None and wait_left(host.waiting_due, wall) > 0:
            return []
        start, stop = span(wait_prefix(host.slot, host.key))
        entries = self._rows.scan(start, stop, limit=64)
        host.waiting_due = None
        if not entries:
            raise StorageError(
                f"{host.waiting} retries of {host.key} are counted, none is there; run `coord audit`"
            )
        awake = []
        for key, packed in entries:
            if wait_left(wait_due(key), wall) > 0:
                host.waiting_due = wait_due(key)
                break
            self._rows.delete(key)
            host.waiting -= 1
            self.waiting -= 1
            awake.append(as_request(unpack(packed)))
        return awake
