"""The frontier: which requests are known, which may be lent next, and when.

It decides admission (is this request new?), the order of requests within a host (retries, then priority, then depth,
then age) and the order of hosts (who is due first; round-robin among more hosts than fit into memory). It does not
know leases, workers or the outcome of anything. No I/O and no clock: rows are read and written through an `Overlay`,
time comes in as `now` (monotonic seconds) and `wall` (seconds since 1970).

A host in memory is IDLE, WAITING in the due-heap, or PARKED: more hosts with work than BENCH fit into memory wait in
the store, first in, first out, and a host that comes back from a lease goes to the end of that line while there is
one. Of a queue only the head is in memory.

Invariants (`check()`; runs after every step of the stateful tests):
  1. an open request is queued at exactly one place, waits for a retry, or was taken and not put back;
  2. a host's head holds the smallest places of its queue, and `queued` counts the queue;
  3. lanes lent + lanes free = per_host;  4. a host with requests and a free lane is WAITING, PARKED or held.

Read next: hostqueue.py (one host), shard.py (who calls this).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1

from common.config import HostPolicy
from common.errors import StorageError
from common.messages import Flag, Form, Request
from common.url import CanonicalURL, HostKey, fingerprint, host_key, request_key, slot
from coordinator.hostqueue import Host, Where
from coordinator.policy import MAX_RETRY_DELAY, delay_in_force
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    PRIORITY_ZERO,
    HostRow,
    OpenRow,
    Place,
    after,
    as_request,
    host_row,
    is_done,
    pack,
    pack_open,
    pack_queued,
    parked_row,
    queue_key,
    queue_place,
    queue_prefix,
    request_row,
    unpack,
    unpack_request_row,
    wait_due,
    wait_key,
    wait_prefix,
)

BENCH = 20_000
"""Hosts with work in memory; about 2 KiB each with a short head."""

WARM = 5_000
"""Further hosts in memory without work or turn, so that links to them need no read."""

HEADS = 400_000
"""Requests in memory over all heads; about 0.5 KiB each."""


def key_of(url: str, form: Form | None, seed: int) -> bytes:
    """The 16 bytes of a request in a crawl whose fingerprints have this seed."""
    if form is None:
        return fingerprint(CanonicalURL(url), seed)
    digest = None if form.body is None else sha1(form.body, usedforsecurity=False).digest()
    return request_key(form.method, CanonicalURL(url), digest, form.round, form.serial, seed)


class Frontier:
    """All requests of one shard that are known and not done."""

    def __init__(
        self,
        rows: Overlay,
        *,
        seed: int,
        host_policy: Callable[[str], HostPolicy],
        epoch: int,
        seq: int = 0,
        turns: tuple[int, int] = (0, 0),
        bench: int = BENCH,
        heads: int = HEADS,
    ) -> None:
        self._rows = rows
        self._seed = seed
        self._host_policy = host_policy
        self._epoch = epoch
        """Of this start of the shard: what clocks say about a host of an earlier one is not enough (rule 10)."""
        self._bench_limit = bench
        self._head_limit = heads
        self.seq = seq
        """The last number given to a queue entry; stored with the counts."""
        self.turns = turns
        """(first, next) numbers of the line of parked hosts."""
        self.hosts: dict[HostKey, Host] = {}
        self._due: list[tuple[float, int, Host]] = []
        self._versions = 0
        self._dirty: dict[HostKey, Host] = {}
        self._benched = 0
        self.held: dict[HostKey, Host] = {}
        """Hosts with requests that a budget holds back; looked at again when it changes."""
        self.queued = 0
        self.waiting = 0
        self.charged = 0
        """Over all hosts: queued, waiting for a retry, and queued that were lent before."""
        self.hosts_known = 0
        self.may_charge = True
        """False when the budget is used up: only what was lent before may be lent."""
        self.host_limit: int | None = None

    # ---------------------------------------------------------------------------------------------- life of a request

    def key_of(self, url: str, form: Form | None) -> bytes:
        """The request's 16 bytes."""
        return key_of(url, form, self._seed)

    def admit(self, request: Request, now: float, wall: float) -> bool:
        """Queue a request if it is new; True if it was. A known one that still waits takes the smaller depth."""
        name = host_key(CanonicalURL(request.url))
        number = slot(name)
        row = request_row(number, self.key_of(request.url, request.form))
        known = self._rows.get(row)
        if known is not None:
            if not is_done(known):
                self._lift(request, name, number, row, known)
            return False
        host = self._host(name, number, now, wall)
        place = self._place(request)
        self._rows.put(row, pack_open(OpenRow(place, ())))
        self._enqueue(host, place, request)
        self._settle(host, now)
        return True

    def take(self, host: Host, count: int) -> list[Request]:
        """The next at most `count` requests of the host leave its queue; the caller owns them now."""
        taken: list[Request] = []
        prefix = queue_prefix(host.slot, host.key)
        count = min(count, self._lendable(host))
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
            host.queued -= len(part)
            self.queued -= len(part)
        self.touch(host)
        return taken

    def drain(self, host: Host, count: int) -> list[Request]:
        """Like `take`, whatever budgets, lanes and retry times say: for a host that is given up."""
        taken: list[Request] = []
        for prefix, waits in (
            (queue_prefix(host.slot, host.key), False),
            (wait_prefix(host.slot, host.key), True),
        ):
            for key, packed in self._rows.scan(*_range(prefix), limit=count - len(taken)):
                self._rows.delete(key)
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
        self.touch(host)
        return taken

    def put_back(self, host: Host, requests: Sequence[Request], now: float) -> None:
        """Requests that were taken and have no result are queued again, before what was never lent."""
        for request in requests:
            self._enqueue(host, self._place(request), request, rewrite=True)
        self._settle(host, now)

    def put_off(
        self, host: Host, request: Request, tries: tuple[tuple[int, float], ...], due_wall: float, now: float
    ) -> None:
        """A failed try is to be repeated at `due_wall`; until then the request waits beside the queue."""
        self.seq += 1
        place = self._place(request)
        row = request_row(host.slot, self.key_of(request.url, request.form))
        self._rows.put(row, pack_open(OpenRow(place, tries)))
        self._rows.put(wait_key(wait_prefix(host.slot, host.key), due_wall, self.seq), pack_queued(request))
        host.waiting += 1
        self.waiting += 1
        if host.waiting_due is None or due_wall < host.waiting_due:
            host.waiting_due = due_wall if host.waiting == 1 or host.waiting_due is not None else None
        self.touch(host)
        self._settle(host, now)

    def tries_of(self, host: Host, request: Request) -> tuple[tuple[int, float], ...]:
        """(outcome's code, wall time) of the tries that an open request has behind it."""
        if not request.attempts:
            return ()
        packed = self._rows.get(request_row(host.slot, self.key_of(request.url, request.form)))
        row = unpack_request_row(packed) if packed is not None else None
        return row.tries if row is not None else ()

    # ------------------------------------------------------------------------------------------------- life of a host

    def host(self, name: str, now: float, wall: float) -> Host:
        """The host, from memory or from the store, or new."""
        key = HostKey(name)
        return self._host(key, slot(key), now, wall)

    def ready(self, now: float, wall: float) -> Host | None:
        """The host that is due first and has something to lend now; it stays where it is until `settle`."""
        while True:
            self._unpark(now, wall)
            while self._due and self._due[0][0] <= now:
                _, version, host = self._due[0]
                if version != host.version or host.wake is None:
                    heapq.heappop(self._due)
                    continue
                if host.doom is not None and (host.queued or host.waiting):
                    return host
                if host.waiting:
                    self._wake_retries(host, wall)
                if host.queued and host.lanes_due(now) and self._lendable(host):
                    return host
                heapq.heappop(self._due)
                self._unlist(host)
                self._settle(host, now, wall)
            if self._benched >= self._bench_limit or self.turns[0] == self.turns[1]:
                return None

    def count_ready(self, now: float, enough: int) -> int:
        """How many hosts are due, counted up to about `enough`; cost O(enough)."""
        stack, found = [0], 0
        while stack and found < enough:
            position = stack.pop()
            if position < len(self._due) and self._due[position][0] <= now:
                _, version, host = self._due[position]
                found += version == host.version
                stack += (2 * position + 1, 2 * position + 2)
        return found

    def next_due(self) -> float | None:
        """When the next host may be due (monotonic), None: no host waits."""
        while self._due and self._due[0][1] != self._due[0][2].version:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def settle(self, host: Host, now: float, wall: float | None = None, *, lent: bool = False) -> None:
        """Put the host where it belongs after its queue, lanes or clock changed; `lent`: it just had its turn."""
        self._unlist(host)
        self.touch(host)
        if lent and self.turns[0] < self.turns[1] and host.queued and not host.lent_lanes:
            self._park(host)
        else:
            self._settle(host, now, wall)

    def touch(self, host: Host) -> None:
        """Something that its row tells has changed: write it with the next commit."""
        self._dirty[HostKey(host.key)] = host

    def release_held(self, now: float) -> None:
        """A budget changed: look at every host that it held."""
        held, self.held = self.held, {}
        for host in held.values():
            host.where = Where.IDLE
            self._settle(host, now)

    @property
    def lendable(self) -> int:
        """Requests that could be lent, now or when their hosts are due; what keeps the crawl from ending."""
        if not self.may_charge:
            return self.charged + self.waiting
        held = 0
        if self.host_limit is not None:
            held = sum(host.queued - host.charged for host in self.held.values())
        return self.queued + self.waiting - held

    @property
    def dirty(self) -> bool:
        """Whether a host's row is behind its state."""
        return bool(self._dirty)

    def flush(self, now: float, wall: float) -> None:
        """Write the rows of the hosts that changed, and forget hosts that need not be in memory."""
        for host in self._dirty.values():
            self._rows.put(host_row(host.slot, host.key), pack(host.to_row(now, wall, self._epoch)))
        self._dirty = {}
        spare = len(self.hosts) - self._benched - len(self.held) - WARM
        if spare > WARM // 10:
            gone = [
                host
                for host in self.hosts.values()
                if host.wake is None and not host.lent_lanes and host.key not in self.held
            ]
            for host in gone[: spare + WARM // 10]:
                if host.due() <= now or host.where is Where.PARKED or not host.queued:
                    host.version += 1
                    del self.hosts[HostKey(host.key)]

    def check(self) -> None:
        """The invariants, for tests; cost: the whole store is read."""
        for host in self.hosts.values():
            entries = self._rows.scan(*_range(queue_prefix(host.slot, host.key)), limit=1 << 30)
            assert host.queued == len(entries), (host, len(entries))
            places = [queue_place(key) for key, _ in entries]
            assert [place for place, _ in host.head] == places[: len(host.head)], host
            assert host.more or len(host.head) == len(places), host
            assert host.lent_lanes + sum(count for _, count in host.free) == host.per_host, host
            assert host.charged == sum(place.rank == 0 for place in places), host
            assert sum(1 for h in self.held if h == host.key) <= 1
            if host.queued and host.free and host.where is Where.IDLE:
                assert HostKey(host.key) in self.held, host

    # ---------------------------------------------------------------------------------------------------------- private

    def _place(self, request: Request) -> Place:
        self.seq += 1
        rank = 0 if request.flags & CHARGED else 1
        priority = PRIORITY_ZERO - (request.form.priority if request.form else 0)
        return Place(rank, priority, request.depth, self.seq)

    def _enqueue(self, host: Host, place: Place, request: Request, *, rewrite: bool = False) -> None:
        if rewrite:
            row = request_row(host.slot, self.key_of(request.url, request.form))
            self._rows.put(row, pack_open(OpenRow(place, self.tries_of(host, request))))
        self._rows.put(queue_key(queue_prefix(host.slot, host.key), place), pack_queued(request))
        host.queued += 1
        self.queued += 1
        if place.rank == 0:
            host.charged += 1
            self.charged += 1
        host.push_head(place, request, self._head_size())
        self.touch(host)

    def _lift(self, request: Request, name: HostKey, number: int, row: bytes, known: bytes) -> None:
        """A shorter path to a request that still waits in its queue."""
        there = unpack_request_row(known)
        if not isinstance(there, OpenRow) or request.depth >= there.place.depth:
            return
        old = queue_key(queue_prefix(number, name), there.place)
        packed = self._rows.get(old)
        if packed is None:
            return
        waiting = as_request(unpack(packed))
        self._rows.delete(old)
        place = there.place._replace(depth=request.depth)
        lifted = waiting._replace(
            depth=request.depth, referrer=request.referrer, seed=request.seed, hops=request.hops
        )
        self._rows.put(row, pack_open(OpenRow(place, there.tries)))
        self._rows.put(queue_key(queue_prefix(number, name), place), pack_queued(lifted))
        host = self.hosts.get(name)
        if host is not None:
            host.drop_head(there.place)
            host.push_head(place, lifted, self._head_size())

    def _head_size(self) -> int:
        return max(4, min(64, self._head_limit // max(1, self._benched)))

    def _refill(self, host: Host, prefix: bytes) -> None:
        size = max(self._head_size(), 16)
        entries = self._rows.scan(*_range(prefix), limit=size)
        host.head = [(queue_place(key), as_request(unpack(packed))) for key, packed in entries]
        host.more = len(entries) == size

    def _lendable(self, host: Host) -> int:
        """How many of the queued requests no budget holds back."""
        if not self.may_charge:
            return host.charged
        if self.host_limit is not None:
            return host.charged + min(host.queued - host.charged, max(0, self.host_limit - host.lent))
        return host.queued

    def _wake_retries(self, host: Host, wall: float) -> None:
        """Move retries whose time has come to the queue."""
        if host.waiting_due is not None and _retry_left(host.waiting_due, wall) > 0:
            return
        start, stop = _range(wait_prefix(host.slot, host.key))
        entries = self._rows.scan(start, stop, limit=64)
        host.waiting_due = None
        if not entries:
            raise StorageError(
                f"{host.waiting} retries of {host.key} are counted, none is there; run `coord audit`"
            )
        for key, packed in entries:
            if _retry_left(wait_due(key), wall) > 0:
                host.waiting_due = wait_due(key)
                break
            self._rows.delete(key)
            host.waiting -= 1
            self.waiting -= 1
            request = as_request(unpack(packed))
            self._enqueue(host, self._place(request), request, rewrite=True)
        self.touch(host)

    def _host(self, name: HostKey, number: int, now: float, wall: float) -> Host:
        host = self.hosts.get(name)
        if host is not None:
            return host
        packed = self._rows.get(host_row(number, name))
        policy = self._host_policy(name)
        if packed is None:
            host = Host(name, number, per_host=policy.per_host, now=now)
            self.hosts_known += 1
            self.touch(host)
        else:
            row = HostRow(*unpack(packed))
            left = min(max(0.0, row.due_wall - wall), row.set_for)
            if row.epoch != self._epoch and row.lent:
                left = max(left, delay_in_force(policy.delay, row.crawl_delay, row.elapsed))
            host = Host.from_row(name, number, row, per_host=policy.per_host, due=now + left, now=now)
            if host.queued or host.waiting:
                host.where = Where.PARKED
                host.more = True
        self.hosts[name] = host
        return host

    def _settle(self, host: Host, now: float, wall: float | None = None) -> None:
        if host.where is Where.PARKED:
            return
        if host.where is Where.WAITING:
            wake = self._wake_time(host, now, wall)
            if wake is None or wake >= (host.wake or 0.0):
                return
            self._unlist(host)
        if host.key in self.held:
            del self.held[HostKey(host.key)]
        wake = self._wake_time(host, now, wall)
        if wake is None:
            if host.queued and host.free:
                self.held[HostKey(host.key)] = host
            return
        if self._benched >= self._bench_limit:
            self._park(host)
            return
        self._list(host, wake)

    def _wake_time(self, host: Host, now: float, wall: float | None) -> float | None:
        """When the host should be looked at; None: not before something else happens."""
        if host.doom is not None and (host.queued or host.waiting):
            return now
        if not host.free:
            return None
        due = host.due()
        if host.queued and self._lendable(host):
            return due
        if host.waiting:
            if wall is None or host.waiting_due is None:
                return due
            return max(due, now + _retry_left(host.waiting_due, wall))
        return None

    def _list(self, host: Host, wake: float) -> None:
        self._versions += 1
        host.version = self._versions
        host.wake = wake
        host.where = Where.WAITING
        self._benched += 1
        heapq.heappush(self._due, (wake, host.version, host))

    def _unlist(self, host: Host) -> None:
        if host.where is Where.WAITING:
            self._benched -= 1
            host.where = Where.IDLE
            host.wake = None
            self._versions += 1
            host.version = self._versions

    def _park(self, host: Host) -> None:
        first, following = self.turns
        self._rows.put(parked_row(following), host.key.encode())
        self.turns = (first, following + 1)
        host.where = Where.PARKED
        host.turn = following
        host.head = []
        host.more = True
        self.touch(host)

    def _unpark(self, now: float, wall: float) -> None:
        """While there is room on the bench, the next hosts in line take their place."""
        while self.turns[0] < self.turns[1] and self._benched < self._bench_limit:
            first, following = self.turns
            packed = self._rows.get(parked_row(first))
            self._rows.delete(parked_row(first))
            self.turns = (first + 1, following)
            if packed is None:
                continue
            host = self.host(packed.decode(), now, wall)
            if host.turn == first:
                host.turn = None
                host.where = Where.IDLE
                self._settle(host, now, wall)
                self.touch(host)

    def recover(self, now: float, wall: float) -> Iterator[str]:
        """Once, at start: hosts with work that stand neither in memory nor in the line join the line.

        A host on the bench when the shard died has a row and no turn. Yields their names. Cost: one pass over the
        host rows.
        """
        start, stop = _range(b"h")
        while entries := self._rows.scan(start, stop, limit=1000):
            start = entries[-1][0] + b"\0"
            for key, packed in entries:
                self.hosts_known += 1
                row = HostRow(*unpack(packed))
                self.queued += row.queued
                self.waiting += row.waiting
                self.charged += row.charged
                if (row.queued or row.waiting) and row.turn is None:
                    host = self.host(key[3:].decode(), now, wall)
                    self._park(host)
                    yield host.key


CHARGED = 16
"""Bit of `Request.flags` within a shard: lent before, so charged to the budget and first in its queue."""

assert CHARGED not in frozenset(Flag)


def _retry_left(due_wall: float, wall: float) -> float:
    """Seconds that a retry still waits; one that is further away than any may be means that the clock was set back."""
    left = due_wall - wall
    return 0.0 if left > MAX_RETRY_DELAY else max(0.0, left)


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, after(prefix)
