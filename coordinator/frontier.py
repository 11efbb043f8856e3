"""The frontier: which requests are known, which may be lent next, and when.

It decides admission (is this request new?), the order of requests within a host (retries, then priority, then depth,
then age) and the order of hosts (who is due first; round-robin among more hosts than fit into memory). It does not
know leases or workers. No I/O and no clock: rows are read and written through an `Overlay`,
time comes in as `now` (monotonic seconds) and `wall` (seconds since 1970).

A host in memory is IDLE, WAITING in the due-heap, PARKED, HELD or LINED: more hosts with work than BENCH fit into
memory wait in the store, first in, first out, and a host that comes back from a lease goes to the end of that line
while there is one; hosts all of whose requests a budget holds back stand in a line of their own until it changes, and
hosts whose address is busy in one of their address until they are called up. Of a queue only the head is in memory. A
host that is given up (`doom`) waits for nothing: it is named by `doomed` until all that it had has ended.

With a depth limit a request that has ended, or is lent, may be found at a smaller depth: then it is visited again for
its links (rule 15). Such a visit is queued like a request, with Flag.LINKS_ONLY and a row of its own.

Invariants (`check()`; runs after every step of the stateful tests):
  1. an open request is queued at exactly one place, waits for a retry, or was taken and not put back;
  2. a host's head holds the smallest places of its queue, and `queued` counts the queue;
  3. lanes lent + lanes free = per_host;  4. a host with requests and a free lane is not IDLE, unless it is given up;
  5. `held` counts what --max-pages-per-host holds back, over hosts in memory and in the store.

Read next: hostqueue.py (one host), hosts.py (all of them), queues.py (their requests), bench.py and hostline.py (hosts
in order), budgets.py (what is held back), shard.py (who calls this).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from common.hostrules import HostPolicy
from common.messages import Flag, Form, Request
from common.url import CanonicalURL, HostKey, host_key, slot
from coordinator.addressline import AddressLines
from coordinator.bench import Bench
from coordinator.budgets import Budgets
from coordinator.depths import leads_on, was_followed
from coordinator.hostline import HostLine
from coordinator.hostqueue import Host, Where
from coordinator.hosts import Hosts
from coordinator.policy import wait_left
from coordinator.queues import Queues
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    CHARGED,
    DoneRow,
    OpenRow,
    held_row,
    is_done,
    key_of,
    meta_row,
    open_depth,
    pack,
    pack_open,
    parked_row,
    queue_place,
    queue_prefix,
    request_row,
    row_of,
    span,
    unpack,
    unpack_request_row,
)

BENCH = 20_000
"""Hosts with work in memory; about 2 KiB each with a short head."""

HEADS = 400_000
"""Requests in memory over all heads; about 0.5 KiB each."""

LOOKS = 500
"""Hosts taken out of a line in one step, some 50 ms: a budget that changes lets all that it held be looked at again,
and there may be millions."""


class Frontier:
    """All requests of one shard that are known and not done."""

    def __init__(
        self,
        rows: Overlay,
        *,
        seed: int,
        host_policy: Callable[[str], HostPolicy],
        epoch: int,
        bench: int = BENCH,
        heads: int = HEADS,
    ) -> None:
        self._rows = rows
        self._seed = seed
        packed = rows.get(meta_row("frontier"))
        seq, parked, held = (0, (0, 0), (0, 0)) if packed is None else _stored(*unpack(packed))
        self.bench = Bench(bench)
        """Hosts in memory, by the time at which they are due."""
        self.parked = HostLine(rows, parked_row, *parked)
        """Hosts with work for which there is no room on the bench."""
        self.held_line = HostLine(rows, held_row, *held)
        """Hosts all of whose requests a budget holds back."""
        self._released = self.held_line.following
        """Hosts in that line with a number below this may be looked at again."""
        self.addresses = AddressLines(rows)
        """Hosts whose address is busy."""
        self._queues = Queues(rows, self.bench, seq=seq, heads=heads)
        self.budgets = Budgets()
        self.all_hosts = Hosts(rows, self.budgets, policy=host_policy, epoch=epoch)
        self.hosts = self.all_hosts.in_memory
        self.blocks = False
        """Whether a person has blocked any host: some that stand in line may be among them."""
        self.relinks = 0
        """Visits for links alone that are open: queued, waiting or lent."""
        self.max_depth: int | None = None
        """With a limit, what is found at a smaller depth later is visited again for its links."""

    @property
    def seq(self) -> int:
        """The last number given to an entry of a queue."""
        return self._queues.seq

    @property
    def queued(self) -> int:
        """Requests in queues, over all hosts."""
        return self._queues.queued

    @property
    def waiting(self) -> int:
        """Requests that wait for a retry, over all hosts."""
        return self._queues.waiting

    @property
    def charged(self) -> int:
        """Queued requests that were lent before, over all hosts."""
        return self._queues.charged

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
        self._queue_new(self.all_hosts.find(name, number, now, wall), row, request, now)
        return True

    def take(self, host: Host, count: int) -> list[Request]:
        """The next at most `count` requests of the host leave its queue; the caller owns them now."""
        taken = self._queues.take(host, min(count, self.budgets.lendable(host)))
        self.all_hosts.touch(host)
        return taken

    def drain(self, host: Host, count: int) -> list[Request]:
        """Like `take`, whatever budgets, lanes and retry times say: for a host that is given up."""
        taken = self._queues.drain(host, count)
        self.all_hosts.touch(host)
        return taken

    def put_back(self, host: Host, requests: Sequence[Request], now: float) -> None:
        """Requests that were taken and have no result are queued again, before what was never lent."""
        self._queue_again(host, requests)
        self._settle(host, now)

    def put_off(
        self, host: Host, request: Request, tries: tuple[tuple[int, float], ...], due_wall: float, now: float
    ) -> None:
        """A failed try is to be repeated at `due_wall`; until then the request waits beside the queue."""
        request = self._lifted(host, request)
        place = self._queues.place(request)
        self._rows.put(self.row_of(host, request), pack_open(OpenRow(place, tries)))
        self._queues.put_off(host, place, request, due_wall)
        self.all_hosts.touch(host)
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
        if not self._queues.remove(host, there.place):
            return False
        self.all_hosts.touch(host)
        return True

    def reopen(self, host: Host, request: Request, now: float) -> None:
        """A request that had ended is queued again (`coord retry`): before what was never lent, if it was lent."""
        request = request._replace(attempts=0)
        self._queue_new(host, self.row_of(host, request), request, now)

    def relink(self, host: Host, request: Request, now: float) -> None:
        """Queue a visit of an ended request for its links alone (rule 15); it is charged to no budget."""
        request = request._replace(flags=request.flags | Flag.LINKS_ONLY | CHARGED, attempts=0)
        row = self.row_of(host, request)
        waiting = self._rows.get(row)
        if waiting is not None:
            self._lift(request, HostKey(host.key), host.slot, row, waiting)
            return
        self.relinks += 1
        self._queue_new(host, row, request, now)

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
        return self.all_hosts.find(key, slot(key), now, wall)

    def knows(self, name: str) -> bool:
        """Whether anything of a host was ever admitted, or asked for."""
        key = HostKey(name)
        return self.all_hosts.knows(key, slot(key))

    def host_of(self, url: str, now: float, wall: float) -> Host:
        """The host of a canonical URL."""
        return self.host(host_key(CanonicalURL(url)), now, wall)

    def ready(self, now: float, wall: float) -> Host | None:
        """The host that is due first and has something to lend now; it stays where it is until `settle`."""
        looks = LOOKS
        while True:
            looks -= self._unpark(now, wall, looks)
            while (host := self.bench.first(now)) is not None:
                if host.waiting and (awake := self._queues.woken(host, wall)):
                    self._queue_again(host, awake)
                if host.queued and host.lanes_due(now) and self.budgets.lendable(host):
                    return host
                self.bench.remove(host)
                self._settle(host, now, wall)
            if not self.is_behind or looks <= 0:
                return None

    @property
    def is_behind(self) -> bool:
        """Whether hosts in line could take a place in memory now: `ready` has more to look at than one step may."""
        return self._in_line and not self.bench.full and len(self.all_hosts.doomed) < LOOKS

    def doomed(self, now: float, wall: float) -> Host | None:
        """A host that is given up and has requests, which are to be drained."""
        name = next(iter(self.all_hosts.doomed), None)
        return None if name is None else self.host(name, now, wall)

    @property
    def gives_up(self) -> bool:
        """Whether requests are to end with their host: some are known, or those in line have not been looked at."""
        return bool(self.all_hosts.doomed) or (self.blocks and (self._in_line or len(self.addresses) > 0))

    def settle(self, host: Host, now: float, wall: float | None = None, *, lent: bool = False) -> None:
        """Put the host where it belongs after its queue, lanes or clock changed; `lent`: it just had its turn."""
        self.bench.remove(host)
        self.all_hosts.touch(host)
        in_turn = lent and host.doom is None and host.queued and not host.lent_lanes
        if in_turn and self._in_line and self.budgets.lendable(host):
            self._park(host)
        else:
            self._settle(host, now, wall)

    def touch(self, host: Host) -> None:
        """Something that its row tells has changed: write it with the next commit."""
        self.all_hosts.touch(host)

    def line_up(self, host: Host, ip: str) -> None:
        """The host's address is busy: it leaves the bench until it is called up."""
        self.bench.remove(host)
        self._leave_memory(host, Where.LINED, self.addresses.join(ip, host.key))

    def call_up(self, ip: str, now: float, wall: float) -> bool:
        """The first in the line of an address, which has one, comes back; whether it takes a place on the bench."""
        turn, name = self.addresses.leave(ip)
        host = self.host(name, now, wall)
        if host.turn != turn or host.where is not Where.LINED:
            return False
        host.turn, host.where = None, Where.IDLE
        self._settle(host, now, wall)
        self.all_hosts.touch(host)
        return host.where is Where.WAITING

    def release_held(self) -> None:
        """A budget changed: every host that it held is looked at again, as there is room for it in memory."""
        self._released = self.held_line.following

    def limit_hosts(self, limit: int | None, now: float, wall: float) -> None:
        """--max-pages-per-host is another one now, or the round is. Cost: a pass over all host rows."""
        self.flush(now, wall)
        self.budgets.per_host = limit
        self.release_held()
        self.all_hosts.count_held()

    @property
    def lendable(self) -> int:
        """Requests that could be lent, now or when their hosts are due, and 1 at least while any are to end with their
        host; what keeps the crawl from ending."""
        if not self.budgets.may_charge:
            count = self._queues.charged + self._queues.waiting
        else:
            count = self._queues.queued + self._queues.waiting - self.budgets.held
        return max(count, int(self.gives_up))

    @property
    def dirty(self) -> bool:
        """Whether a host's row is behind its state."""
        return self.all_hosts.dirty

    def flush(self, now: float, wall: float) -> None:
        """Write the rows of the hosts that changed, and forget hosts that need not be in memory."""
        self.all_hosts.write(now, wall)
        lines = [(line.first, line.following) for line in (self.parked, self.held_line)]
        self._rows.put(meta_row("frontier"), pack((self._queues.seq, *lines)))
        self.all_hosts.forget(now, self.bench.size)

    def check(self) -> None:
        """The invariants, for tests; cost: the whole store is read."""
        for host in self.hosts.values():
            entries = self._rows.scan(*span(queue_prefix(host.slot, host.key)), limit=1 << 30)
            assert host.queued == len(entries), (host, len(entries))
            places = [queue_place(key) for key, _ in entries]
            assert [place for place, _ in host.head] == places[: len(host.head)], host
            assert host.more or len(host.head) == len(places), host
            assert host.lent_lanes + host.free_lanes == max(host.per_host, host.lent_lanes), host
            assert host.charged == sum(place.rank == 0 for place in places), host
            assert host.doom is not None or not (host.queued and host.free and host.where is Where.IDLE), host
        self.all_hosts.check()

    # ---------------------------------------------------------------------------------------------------------- private

    def _queue_new(self, host: Host, row: bytes, request: Request, now: float) -> None:
        place = self._queues.place(request)
        self._rows.put(row, pack_open(OpenRow(place, ())))
        self._queues.add(host, place, request)
        self.all_hosts.touch(host)
        self._settle(host, now)

    def _queue_again(self, host: Host, requests: Iterable[Request]) -> None:
        """Requests with tries behind them, each at the smallest depth known."""
        for request in requests:
            request = self._lifted(host, request)
            place = self._queues.place(request)
            tries = self.tries_of(host, request)
            self._rows.put(self.row_of(host, request), pack_open(OpenRow(place, tries)))
            self._queues.add(host, place, request)
        self.all_hosts.touch(host)

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
        lifted = self._queues.lift(self.hosts.get(name), queue_prefix(number, name), there.place, request)
        if lifted or self.max_depth is not None:
            place = there.place._replace(depth=request.depth)
            self._rows.put(row, pack_open(OpenRow(place, there.tries)))

    def _find_again(self, request: Request, row: bytes, known: bytes, now: float, wall: float) -> None:
        """A shorter path to a request that has ended: its links are followed again, if the limit may have cut them."""
        done = unpack_request_row(known)
        assert isinstance(done, DoneRow)
        if not leads_on(done.outcome, done.depth, request.depth, self.max_depth):
            return
        if not was_followed(done.facts.reason, is_file=done.file is not None):
            return
        name = host_key(CanonicalURL(request.url))
        again = done.request._replace(
            depth=request.depth, referrer=request.referrer, seed=request.seed, hops=request.hops
        )
        number = slot(name)
        self.relink(self.all_hosts.find(name, number, now, wall), again, now)

    def _settle(self, host: Host, now: float, wall: float | None = None) -> None:
        if host.doom is not None:
            self.bench.remove(host)
            host.where, host.turn = Where.IDLE, None
            return
        if host.where is Where.PARKED or host.where is Where.LINED:
            return
        wake = self._wake_time(host, now, wall)
        match host.where:
            case Where.WAITING:
                if wake is None or wake >= (host.wake or 0.0):
                    return
                self.bench.remove(host)
            case Where.HELD:
                if wake is None:
                    return
                host.where, host.turn = Where.IDLE, None
        if wake is None:
            if host.queued and host.free:
                self._hold(host)
        elif self.bench.full:
            self._park(host)
        else:
            self.bench.add(host, wake)

    def _wake_time(self, host: Host, now: float, wall: float | None) -> float | None:
        """When the host should be looked at; None: not before something else happens."""
        if not host.free:
            return None
        due = host.due()
        if host.queued and self.budgets.lendable(host):
            return due
        if host.waiting:
            if wall is None or host.waiting_due is None:
                return due
            return max(due, now + wait_left(host.waiting_due, wall))
        return None

    @property
    def _in_line(self) -> bool:
        """Whether hosts outside memory wait for a place in it."""
        return self.parked.first < self.parked.following or self.held_line.first < self._released

    def _park(self, host: Host) -> None:
        self._leave_memory(host, Where.PARKED, self.parked.join(host.key))

    def _hold(self, host: Host) -> None:
        self._leave_memory(host, Where.HELD, self.held_line.join(host.key))

    def _leave_memory(self, host: Host, where: Where, turn: int) -> None:
        host.where = where
        host.turn = turn
        host.head = []
        host.more = True
        self.all_hosts.touch(host)

    def _unpark(self, now: float, wall: float, most: int) -> int:
        """While there is room on the bench, the next hosts in line take their place: first those of a budget that
        has changed. How many were looked at."""
        looked = 0
        while looked < most and self.is_behind:
            looked += 1
            where = Where.HELD if self.held_line.first < self._released else Where.PARKED
            turn, name = (self.held_line if where is Where.HELD else self.parked).leave()
            if name is None:
                continue
            host = self.host(name, now, wall)
            if host.turn == turn and host.where is where:
                host.turn = None
                host.where = Where.IDLE
                self._settle(host, now, wall)
                self.all_hosts.touch(host)
        return looked

    def recover(self, now: float, wall: float) -> Iterator[str]:
        """Once, at start: what is counted in memory alone, and hosts with work that stand in no line join it.

        A host on the bench when the shard died has a row and no turn. Yields their names. Cost: one pass over the
        host rows.
        """
        for name, row in self.all_hosts.rows():
            self.all_hosts.known += 1
            self._queues.count(row)
            self.budgets.held += self.budgets.held_by_row(row)
            if (row.queued or row.waiting) and row.turn is None:
                host = self.host(name, now, wall)
                if host.doom is None:
                    self._park(host)
                yield host.key
        start, stop = span(b"x")
        while entries := self._rows.scan(start, stop, limit=1000):
            start = entries[-1][0] + b"\0"
            self.relinks += len(entries)
        self.release_held()


def _stored(
    seq: int, parked: tuple[int, int], held: tuple[int, int] = (0, 0)
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """The row `frontier`: the last number of a queue entry, and (first, following) of each line of hosts."""
    return seq, parked, held
