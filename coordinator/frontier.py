"""The frontier: which requests are known, which may be lent next, and when.

It decides admission (is this request new?), the order of requests within a host (retries, then priority, then depth,
then age) and the order of hosts (who is due first; round-robin among more hosts than fit into memory). It does not
know leases or workers. No I/O and no clock: rows are read and written through an `Overlay`,
time comes in as `now` (monotonic seconds) and `wall` (seconds since 1970).

A host in memory is IDLE, WAITING in the due-heap, PARKED or HELD: more hosts with work than BENCH fit into memory
wait in the store, first in, first out, and a host that comes back from a lease goes to the end of that line while
there is one; hosts all of whose requests a budget holds back stand in a line of their own until it changes. Of a
queue only the head is in memory.

With a depth limit a request that has ended, or is lent, may be found at a smaller depth: then it is visited again for
its links (rule 15). Such a visit is queued like a request, with Flag.LINKS_ONLY and a row of its own.

Invariants (`check()`; runs after every step of the stateful tests):
  1. an open request is queued at exactly one place, waits for a retry, or was taken and not put back;
  2. a host's head holds the smallest places of its queue, and `queued` counts the queue;
  3. lanes lent + lanes free = per_host;  4. a host with requests and a free lane is WAITING, PARKED or HELD;
  5. `held` counts what --max-pages-per-host holds back, over hosts in memory and in the store.

Read next: hostqueue.py (one host), shard.py (who calls this).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1

from common.config import HostPolicy
from common.errors import StorageError
from common.messages import Flag, Form, Request
from common.outcome import Outcome
from common.url import CanonicalURL, HostKey, fingerprint, host_key, request_key, slot
from coordinator.hostqueue import Host, Where
from coordinator.policy import MAX_RETRY_DELAY, delay_in_force
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    PRIORITY_ZERO,
    DoneRow,
    HostRow,
    OpenRow,
    Place,
    after,
    as_request,
    held_row,
    host_row,
    is_done,
    open_depth,
    pack,
    pack_open,
    pack_queued,
    parked_row,
    queue_key,
    queue_place,
    queue_prefix,
    relink_row,
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

LOOKS = 500
"""Hosts taken out of a line in one step, some 50 ms: a budget that changes lets all that it held be looked at again,
and there may be millions."""

FORGET_SECONDS = 1.0
"""Between two looks for hosts that need not be in memory; each costs some milliseconds."""


def key_of(url: str, form: Form | None, seed: int) -> bytes:
    """The 16 bytes of a request in a crawl whose fingerprints have this seed."""
    if form is None:
        return fingerprint(CanonicalURL(url), seed)
    digest = None if form.body is None else sha1(form.body, usedforsecurity=False).digest()
    return request_key(form.method, CanonicalURL(url), digest, form.round, form.serial, seed)


def row_of(slot: int, request: Request, seed: int) -> bytes:
    """Key of the row that says where an open request stands; a visit for links alone has one of its own."""
    row = relink_row if request.flags & Flag.LINKS_ONLY else request_row
    return row(slot, key_of(request.url, request.form, seed))


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
        held_turns: tuple[int, int, int] = (0, 0, 0),
        bench: int = BENCH,
        heads: int = HEADS,
    ) -> None:
        self._rows = rows
        self._seed = seed
        self.host_policy = host_policy
        self._epoch = epoch
        """Of this start of the shard: what clocks say about a host of an earlier one is not enough (rule 10)."""
        self._bench_limit = bench
        self._head_limit = heads
        self.seq = seq
        """The last number given to a queue entry; stored with the counts."""
        self.turns = turns
        """(first, next) numbers of the line of parked hosts."""
        self.held_turns = held_turns
        """(first, next) numbers of the line of held hosts; those below the third may be looked at again."""
        self.hosts: dict[HostKey, Host] = {}
        self._due: list[tuple[float, int, Host]] = []
        self._versions = 0
        self._dirty: dict[HostKey, Host] = {}
        self._benched = 0
        self._forgot_at = float("-inf")
        self.held = 0
        """Queued requests that --max-pages-per-host holds back."""
        self.queued = 0
        self.waiting = 0
        self.charged = 0
        """Over all hosts: queued, waiting for a retry, and queued that were lent before."""
        self.relinks = 0
        """Visits for links alone that are open: queued, waiting or lent."""
        self.hosts_known = 0
        self.may_charge = True
        """False when the budget is used up: only what was lent before may be lent."""
        self.host_limit: int | None = None
        self.round = 0
        """Of recrawling; what a host was charged in an earlier one counts no more."""
        self.max_depth: int | None = None
        """With a limit, what is found at a smaller depth later is visited again for its links."""

    # ---------------------------------------------------------------------------------------------- life of a request

    def key_of(self, url: str, form: Form | None) -> bytes:
        """The request's 16 bytes."""
        return key_of(url, form, self._seed)

    def admit(self, request: Request, now: float, wall: float) -> bool:
        """Queue a request if it is new; True if it was. A known one takes the smaller depth: where it still waits,
        or in a visit for its links."""
        name = host_key(CanonicalURL(request.url))
        number = slot(name)
        row = request_row(number, self.key_of(request.url, request.form))
        known = self._rows.get(row)
        if known is not None:
            if not is_done(known):
                if request.depth < open_depth(known):
                    self._lift(request, name, number, row, known)
            elif self.max_depth is not None:
                self._find_again(request, row, known, now, wall)
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
            host.floor = queue_key(prefix, part[-1][0])
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
            start, stop = _range(prefix)
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
        self.touch(host)
        return taken

    def put_back(self, host: Host, requests: Sequence[Request], now: float) -> None:
        """Requests that were taken and have no result are queued again, before what was never lent."""
        for request in requests:
            self._enqueue_again(host, self._lifted(host, request))
        self._settle(host, now)

    def put_off(
        self, host: Host, request: Request, tries: tuple[tuple[int, float], ...], due_wall: float, now: float
    ) -> None:
        """A failed try is to be repeated at `due_wall`; until then the request waits beside the queue."""
        request = self._lifted(host, request)
        place = self._place(request)
        self._rows.put(self.row_of(host, request), pack_open(OpenRow(place, tries)))
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
        packed = self._rows.get(self.row_of(host, request))
        row = unpack_request_row(packed) if packed is not None else None
        return row.tries if row is not None else ()

    def row_of(self, host: Host, request: Request) -> bytes:
        """Key of the row that says where a request stands: its own, or that of a visit for its links."""
        return row_of(host.slot, request, self._seed)

    def depth_found(self, host: Host, request: Request) -> int:
        """The smallest depth at which a request that is lent was found meanwhile."""
        packed = self._rows.get(self.row_of(host, request))
        row = None if packed is None else unpack_request_row(packed)
        return min(request.depth, row.place.depth) if isinstance(row, OpenRow) else request.depth

    def withdraw(self, host: Host, request: Request, now: float) -> bool:
        """Take a request that was just admitted out of its queue again; False: it is not there any more."""
        row = self._rows.get(self.row_of(host, request))
        there = None if row is None else unpack_request_row(row)
        if not isinstance(there, OpenRow):
            return False
        key = queue_key(queue_prefix(host.slot, host.key), there.place)
        if self._rows.get(key) is None:
            return False
        self._rows.delete(key)
        host.drop_head(there.place)
        host.queued -= 1
        self.queued -= 1
        if there.place.rank == 0:
            host.charged -= 1
            self.charged -= 1
        self.touch(host)
        return True

    def reopen(self, host: Host, request: Request, now: float) -> None:
        """A request that had ended is queued again (`coord retry`): before what was never lent, if it was lent."""
        request = request._replace(attempts=0)
        place = self._place(request)
        self._rows.put(self.row_of(host, request), pack_open(OpenRow(place, ())))
        self._enqueue(host, place, request)
        self._settle(host, now)

    def relink(self, host: Host, request: Request, now: float) -> None:
        """Queue a visit of an ended request for its links alone (rule 15); it is charged to no budget."""
        request = request._replace(flags=request.flags | Flag.LINKS_ONLY | CHARGED, attempts=0)
        row = self.row_of(host, request)
        waiting = self._rows.get(row)
        if waiting is not None:
            self._lift(request, HostKey(host.key), host.slot, row, waiting)
            return
        place = self._place(request)
        self._rows.put(row, pack_open(OpenRow(place, ())))
        self.relinks += 1
        self._enqueue(host, place, request)
        self._settle(host, now)

    def relinked(self, host: Host, request: Request) -> None:
        """A visit for links is over: the depth at which they were followed is noted with the request."""
        self._rows.delete(self.row_of(host, request))
        self.relinks -= 1
        own = request_row(host.slot, self.key_of(request.url, request.form))
        packed = self._rows.get(own)
        row = None if packed is None else unpack_request_row(packed)
        if isinstance(row, DoneRow) and request.depth < row.depth:
            self._rows.put(own, pack(row._replace(linked=request.depth)))

    # ------------------------------------------------------------------------------------------------- life of a host

    def host(self, name: str, now: float, wall: float) -> Host:
        """The host, from memory or from the store, or new."""
        key = HostKey(name)
        return self._host(key, slot(key), now, wall)

    def host_of(self, url: str, now: float, wall: float) -> Host:
        """The host of a canonical URL."""
        return self.host(host_key(CanonicalURL(url)), now, wall)

    def block(self, host: Host, blocked: bool) -> None:
        """A person wants nothing fetched of this host, or no longer so: all that is queued ends as OPERATOR."""
        if blocked and host.doom != Outcome.OPERATOR.code:
            host.doom, host.doom_reason = Outcome.OPERATOR.code, "blocked by the operator"
            self.touch(host)
        elif not blocked and host.doom == Outcome.OPERATOR.code:
            host.doom, host.doom_reason = None, None
            self.touch(host)

    def ready(self, now: float, wall: float) -> Host | None:
        """The host that is due first and has something to lend now; it stays where it is until `settle`."""
        looks = LOOKS
        while True:
            looks -= self._unpark(now, wall, looks)
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
            if not self.is_behind or looks <= 0:
                return None

    @property
    def is_behind(self) -> bool:
        """Whether hosts in line could take a place in memory now: `ready` has more to look at than one step may."""
        return self._in_line and self._benched < self._bench_limit

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

    @property
    def listed(self) -> int:
        """Hosts in memory that wait for their time, due or not."""
        return self._benched

    def first_due(self, count: int) -> list[str]:
        """About the `count` hosts that are due first; cost O(count)."""
        return [host.key for _, version, host in self._due[: 2 * count] if version == host.version][:count]

    def next_due(self) -> float | None:
        """When the next host may be due (monotonic), None: no host waits."""
        while self._due and self._due[0][1] != self._due[0][2].version:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def settle(self, host: Host, now: float, wall: float | None = None, *, lent: bool = False) -> None:
        """Put the host where it belongs after its queue, lanes or clock changed; `lent`: it just had its turn."""
        self._unlist(host)
        self.touch(host)
        if lent and self._in_line and host.queued and not host.lent_lanes and self._lendable(host):
            self._park(host)
        else:
            self._settle(host, now, wall)

    def touch(self, host: Host) -> None:
        """Something that its row tells has changed: write it with the next commit."""
        self._dirty[HostKey(host.key)] = host
        if self.host_limit is not None:
            held = held_back(host.queued, host.charged, host.lent, self.host_limit)
            self.held += held - host.held
            host.held = held

    def postpone(self, host: Host, until: float) -> None:
        """Look at the host again at `until`, whatever its clock says: something else than it keeps it waiting."""
        self._unlist(host)
        self._list(host, until)

    def release_held(self) -> None:
        """A budget changed: every host that it held is looked at again, as there is room for it in memory."""
        first, following, _ = self.held_turns
        self.held_turns = (first, following, following)

    def limit_hosts(self, limit: int | None, now: float, wall: float) -> None:
        """--max-pages-per-host is another one now, or the round is. Cost: a pass over all host rows."""
        self.flush(now, wall)
        self.host_limit, self.held = limit, 0
        self.release_held()
        if limit is None:
            return
        for key, row in self._host_rows():
            host = self.hosts.get(HostKey(key[3:].decode()))
            lent = row.lent if row.round == self.round else 0
            held = held_back(row.queued, row.charged, lent, limit)
            self.held += held
            if host is not None:
                host.held = held

    @property
    def lendable(self) -> int:
        """Requests that could be lent, now or when their hosts are due; what keeps the crawl from ending."""
        if not self.may_charge:
            return self.charged + self.waiting
        return self.queued + self.waiting - self.held

    @property
    def dirty(self) -> bool:
        """Whether a host's row is behind its state."""
        return bool(self._dirty)

    def flush(self, now: float, wall: float) -> None:
        """Write the rows of the hosts that changed, and forget hosts that need not be in memory."""
        for host in self._dirty.values():
            row = host.to_row(now, wall, self._epoch, self.round)
            self._rows.put(host_row(host.slot, host.key), pack(row))
        self._dirty = {}
        spare = len(self.hosts) - self._benched - WARM
        if spare > WARM // 10 and now - self._forgot_at >= FORGET_SECONDS:
            self._forgot_at = now
            gone = [host for host in self.hosts.values() if host.wake is None and not host.lent_lanes]
            for host in gone[: spare + WARM // 10]:
                if host.due() <= now or host.where in (Where.PARKED, Where.HELD) or not host.queued:
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
            assert host.lent_lanes + host.free_lanes == max(host.per_host, host.lent_lanes), host
            assert host.charged == sum(place.rank == 0 for place in places), host
            assert not (host.queued and host.free and host.where is Where.IDLE), host
        if self.host_limit is not None:
            stored = {key[3:].decode(): row for key, row in self._host_rows()}
            counted = 0
            for name in stored.keys() | self.hosts.keys():
                of: Host | HostRow = self.hosts.get(HostKey(name)) or stored[name]
                lent = of.lent if isinstance(of, Host) or of.round == self.round else 0
                counted += held_back(of.queued, of.charged, lent, self.host_limit)
            assert self.held == counted, (self.held, counted)

    # ---------------------------------------------------------------------------------------------------------- private

    def _place(self, request: Request) -> Place:
        self.seq += 1
        rank = 0 if request.flags & CHARGED else 1
        priority = PRIORITY_ZERO - (request.form.priority if request.form else 0)
        return Place(rank, priority, request.depth, self.seq)

    def _enqueue_again(self, host: Host, request: Request) -> None:
        place = self._place(request)
        self._rows.put(self.row_of(host, request), pack_open(OpenRow(place, self.tries_of(host, request))))
        self._enqueue(host, place, request)

    def _enqueue(self, host: Host, place: Place, request: Request) -> None:
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
        self.touch(host)

    def _lifted(self, host: Host, request: Request) -> Request:
        """The request at the smallest depth at which it was found while it was lent or waited."""
        if self.max_depth is None:
            return request
        depth = self.depth_found(host, request)
        return request if depth == request.depth else request._replace(depth=depth)

    def _lift(self, request: Request, name: HostKey, number: int, row: bytes, known: bytes) -> None:
        """A shorter path to a request that is open. Where it is lent, or waits, its row alone remembers that."""
        there = unpack_request_row(known)
        if not isinstance(there, OpenRow) or request.depth >= there.place.depth:
            return
        old = queue_key(queue_prefix(number, name), there.place)
        packed = self._rows.get(old)
        place = there.place._replace(depth=request.depth)
        if packed is None and self.max_depth is None:
            return
        self._rows.put(row, pack_open(OpenRow(place, there.tries)))
        if packed is None:
            return
        lifted = as_request(unpack(packed))._replace(
            depth=request.depth, referrer=request.referrer, seed=request.seed, hops=request.hops
        )
        new = queue_key(queue_prefix(number, name), place)
        self._rows.delete(old)
        self._rows.put(new, pack_queued(lifted))
        host = self.hosts.get(name)
        if host is not None:
            host.drop_head(there.place)
            host.push_head(place, lifted, self._head_size())
            if host.floor is not None and new < host.floor:
                host.floor = new

    def _find_again(self, request: Request, row: bytes, known: bytes, now: float, wall: float) -> None:
        """A shorter path to a request that has ended: its links are followed again, if the limit may have cut them."""
        done = unpack_request_row(known)
        assert isinstance(done, DoneRow) and self.max_depth is not None
        if request.depth >= done.depth or not leads_on(done.outcome, request.depth, self.max_depth):
            return
        if done.facts.reason == NEAR_DUPLICATE:
            return  # its links were left, whatever their depth
        name = host_key(CanonicalURL(request.url))
        again = done.request._replace(
            depth=request.depth, referrer=request.referrer, seed=request.seed, hops=request.hops
        )
        number = slot(name)
        self.relink(self._host(name, number, now, wall), again, now)

    def _head_size(self) -> int:
        return max(4, min(64, self._head_limit // max(1, self._benched)))

    def _refill(self, host: Host, prefix: bytes) -> None:
        size = max(self._head_size(), 16)
        start, stop = _range(prefix)
        entries = self._rows.scan(start if host.floor is None else host.floor, stop, limit=size)
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
            self._enqueue_again(host, self._lifted(host, as_request(unpack(packed))))
        self.touch(host)

    def _host(self, name: HostKey, number: int, now: float, wall: float) -> Host:
        host = self.hosts.get(name)
        if host is not None:
            return host
        packed = self._rows.get(host_row(number, name))
        policy = self.host_policy(name)
        if packed is None:
            host = Host(name, number, per_host=policy.per_host, now=now)
            self.hosts_known += 1
            self.touch(host)
        else:
            row = HostRow(*unpack(packed))
            left = min(max(0.0, row.due_wall - wall), row.set_for)
            if row.epoch != self._epoch and (row.lent or row.set_for > 0.0):
                left = max(left, delay_in_force(policy.delay, row.crawl_delay, row.elapsed, row.penalty))
            host = Host.from_row(name, number, row, per_host=policy.per_host, due=now + left, now=now)
            if row.round != self.round:
                host.lent = 0
            if self.host_limit is not None:
                host.held = held_back(host.queued, host.charged, host.lent, self.host_limit)
            if host.queued or host.waiting:
                host.where = Where.HELD if row.held else Where.PARKED
                host.more = True
            else:
                host.turn = None  # what it stood in line for was withdrawn
        self.block(host, policy.blocked)
        self.hosts[name] = host
        return host

    def _settle(self, host: Host, now: float, wall: float | None = None) -> None:
        if host.where is Where.PARKED:
            return
        wake = self._wake_time(host, now, wall)
        match host.where:
            case Where.WAITING:
                if wake is None or wake >= (host.wake or 0.0):
                    return
                self._unlist(host)
            case Where.HELD:
                if wake is None:
                    return
                host.where, host.turn = Where.IDLE, None
        if wake is None:
            if host.queued and host.free:
                self._hold(host)
        elif self._benched >= self._bench_limit:
            self._park(host)
        else:
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

    @property
    def _in_line(self) -> bool:
        """Whether hosts outside memory wait for a place in it."""
        return self.turns[0] < self.turns[1] or self.held_turns[0] < self.held_turns[2]

    def _park(self, host: Host) -> None:
        first, following = self.turns
        self._rows.put(parked_row(following), host.key.encode())
        self.turns = (first, following + 1)
        self._leave_memory(host, Where.PARKED, following)

    def _hold(self, host: Host) -> None:
        first, following, released = self.held_turns
        self._rows.put(held_row(following), host.key.encode())
        self.held_turns = (first, following + 1, released)
        self._leave_memory(host, Where.HELD, following)

    def _leave_memory(self, host: Host, where: Where, turn: int) -> None:
        host.where = where
        host.turn = turn
        host.head = []
        host.more = True
        self.touch(host)

    def _unpark(self, now: float, wall: float, most: int) -> int:
        """While there is room on the bench, the next hosts in line take their place: first those of a budget that
        has changed. How many were looked at."""
        looked = 0
        while looked < most and self.is_behind:
            looked += 1
            first, following, released = self.held_turns
            where = Where.HELD if first < released else Where.PARKED
            if where is Where.HELD:
                row = held_row(first)
                self.held_turns = (first + 1, following, released)
            else:
                first, following = self.turns
                row = parked_row(first)
                self.turns = (first + 1, following)
            packed = self._rows.get(row)
            self._rows.delete(row)
            if packed is None:
                continue
            host = self.host(packed.decode(), now, wall)
            if host.turn == first and host.where is where:
                host.turn = None
                host.where = Where.IDLE
                self._settle(host, now, wall)
                self.touch(host)
        return looked

    def _host_rows(self) -> Iterator[tuple[bytes, HostRow]]:
        start, stop = _range(b"h")
        while entries := self._rows.scan(start, stop, limit=1000):
            start = entries[-1][0] + b"\0"
            for key, packed in entries:
                yield key, HostRow(*unpack(packed))

    def recover(self, now: float, wall: float) -> Iterator[str]:
        """Once, at start: what is counted in memory alone, and hosts with work that stand in no line join it.

        A host on the bench when the shard died has a row and no turn. Yields their names. Cost: one pass over the
        host rows.
        """
        for key, row in self._host_rows():
            self.hosts_known += 1
            self.queued += row.queued
            self.waiting += row.waiting
            self.charged += row.charged
            if self.host_limit is not None:
                lent = row.lent if row.round == self.round else 0
                self.held += held_back(row.queued, row.charged, lent, self.host_limit)
            if (row.queued or row.waiting) and row.turn is None:
                host = self.host(key[3:].decode(), now, wall)
                self._park(host)
                yield host.key
        start, stop = _range(b"x")
        while entries := self._rows.scan(start, stop, limit=1000):
            start = entries[-1][0] + b"\0"
            self.relinks += len(entries)
        self.release_held()


CHARGED = 16
"""Bit of `Request.flags` within a shard: lent before, so charged to the budget and first in its queue."""

assert CHARGED not in frozenset(Flag)


NEAR_DUPLICATE = "near_duplicate"
"""`reason` of a page whose links were left because it is nearly the same as an earlier one."""


def held_back(queued: int, charged: int, lent: int, limit: int) -> int:
    """How many queued requests of a host --max-pages-per-host holds back."""
    return max(0, queued - charged - max(0, limit - lent))


def leads_on(outcome: Outcome, depth: int, max_depth: int) -> bool:
    """Whether a page with this outcome, visited at a depth, may lead to requests within the limit."""
    if outcome is Outcome.REDIRECT:
        return True
    return outcome in (Outcome.OK, Outcome.TRUNCATED, Outcome.TOO_LARGE) and depth < max_depth


def _retry_left(due_wall: float, wall: float) -> float:
    """Seconds that a retry still waits; one that is further away than any may be means that the clock was set back."""
    left = due_wall - wall
    return 0.0 if left > MAX_RETRY_DELAY else max(0.0, left)


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, after(prefix)
