"""The hosts of a shard: those in memory, and the rows of all.

A host comes into memory when anything is asked of it, and leaves when it need not stay. Whoever changes it touches it:
its row is written with the next commit, and the counts over all hosts follow. Where it stands in line is the
frontier's. No I/O but through the `Overlay`, no clock.

Invariants: a host that is given up and has requests is named by `doomed`, and stays in memory; `budgets.held` counts
what --max-pages-per-host holds back, over hosts in memory and in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from common.hostrules import HostPolicy
from common.outcome import Outcome
from common.url import HostKey
from coordinator.budgets import Budgets
from coordinator.hostqueue import Host, Where
from coordinator.policy import delay_in_force
from coordinator.store.kv import Overlay
from coordinator.store.rows import HostRow, host_row, pack, span, unpack

WARM = 5_000
"""Further hosts in memory without work or turn, so that links to them need no read."""

FORGET_SECONDS = 1.0
"""Between two looks for hosts that need not be in memory; each costs some milliseconds."""


class Hosts:
    """All hosts of one shard."""

    def __init__(
        self, rows: Overlay, budgets: Budgets, *, policy: Callable[[str], HostPolicy], epoch: int
    ) -> None:
        """`epoch`: of this start of the shard: what clocks say about a host of an earlier one is not enough (rule
        10)."""
        self._rows = rows
        self._budgets = budgets
        self.policy = policy
        self._epoch = epoch
        self.in_memory: dict[HostKey, Host] = {}
        self.doomed: dict[HostKey, None] = {}
        """Those that are given up and have requests."""
        self.known = 0
        self._dirty: dict[HostKey, Host] = {}
        self._forgot_at = float("-inf")

    def knows(self, name: HostKey, number: int) -> bool:
        """Whether anything of a host was ever admitted, or asked for."""
        return name in self.in_memory or self._rows.get(host_row(number, name)) is not None

    def find(self, name: HostKey, number: int, now: float, wall: float) -> Host:
        """The host, from memory or from the store, or new. `number`: its slot."""
        host = self.in_memory.get(name)
        if host is not None:
            return host
        packed = self._rows.get(host_row(number, name))
        policy = self.policy(name)
        if packed is None:
            host = Host(name, number, per_host=policy.per_host, now=now)
            self.known += 1
            self.touch(host)
        else:
            row = HostRow(*unpack(packed))
            left = min(max(0.0, row.due_wall - wall), row.set_for)
            if row.epoch != self._epoch and (row.lent or row.set_for > 0.0):
                left = max(left, delay_in_force(policy.delay, row.crawl_delay, row.elapsed, row.penalty))
            host = Host.from_row(name, number, row, per_host=policy.per_host, due=now + left, now=now)
            if row.round != self._budgets.round:
                host.lent = 0
                host.forgive()
            host.held = self._budgets.held_of(host)
            if host.queued or host.waiting:
                host.where = Where.LINED if row.lined else Where.HELD if row.held else Where.PARKED
                host.more = True
            elif host.turn is not None:
                host.turn = None  # what it stood in line for was withdrawn
                self.touch(host)
        self.block(host, policy.blocked)
        self.in_memory[name] = host
        if host.doom is not None:
            self.touch(host)
        return host

    def block(self, host: Host, blocked: bool) -> None:
        """A person wants nothing fetched of this host, or no longer so: all that is queued ends as OPERATOR."""
        if blocked and host.doom != Outcome.OPERATOR.code:
            host.doom, host.doom_reason = Outcome.OPERATOR.code, "blocked by the operator"
            self.touch(host)
        elif not blocked and host.doom == Outcome.OPERATOR.code:
            host.doom, host.doom_reason = None, None
            self.touch(host)

    def touch(self, host: Host) -> None:
        """Something that its row tells has changed: write it with the next commit."""
        self._dirty[HostKey(host.key)] = host
        if host.doom is not None and (host.queued or host.waiting):
            self.doomed[HostKey(host.key)] = None
        elif self.doomed:
            self.doomed.pop(HostKey(host.key), None)
        if self._budgets.per_host is not None:
            held = self._budgets.held_of(host)
            self._budgets.held += held - host.held
            host.held = held

    @property
    def dirty(self) -> bool:
        """Whether a host's row is behind its state."""
        return bool(self._dirty)

    def write(self, now: float, wall: float) -> None:
        """The rows of the hosts that changed."""
        for host in self._dirty.values():
            row = host.to_row(now, wall, self._epoch, self._budgets.round)
            self._rows.put(host_row(host.slot, host.key), pack(row))
        self._dirty = {}

    def forget(self, now: float, benched: int) -> None:
        """Hosts that need not be in memory leave it, if there are many; after `write`. `benched`: how many have to stay
        at the least."""
        spare = len(self.in_memory) - benched - WARM
        if spare > WARM // 10 and now - self._forgot_at >= FORGET_SECONDS:
            self._forgot_at = now
            idle = (host for host in self.in_memory.values() if host.wake is None and not host.lent_lanes)
            gone = [host for host in idle if host.key not in self.doomed]
            for host in gone[: spare + WARM // 10]:
                if host.due() <= now or host.where is not Where.IDLE or not host.queued:
                    host.version += 1
                    del self.in_memory[HostKey(host.key)]

    def rows(self) -> Iterator[tuple[HostKey, HostRow]]:
        """The rows of all hosts, as they were last written."""
        start, stop = span(b"h")
        while entries := self._rows.scan(start, stop, limit=1000):
            start = entries[-1][0] + b"\0"
            for key, packed in entries:
                yield HostKey(key[3:].decode()), HostRow(*unpack(packed))

    def count_held(self) -> None:
        """--max-pages-per-host is another one now, or the round is; after `write`. Cost: a pass over all host rows."""
        budgets = self._budgets
        budgets.held = 0
        if budgets.per_host is None:
            return
        for name, row in self.rows():
            held = budgets.held_by_row(row)
            budgets.held += held
            if (host := self.in_memory.get(name)) is not None:
                host.held = held

    def check(self) -> None:
        """The invariants, for tests; cost: all rows are read."""
        for host in self.in_memory.values():
            given_up = host.doom is not None and host.queued + host.waiting > 0
            assert (host.key in self.doomed) == given_up, host
        budgets, counted = self._budgets, 0
        if budgets.per_host is not None:
            stored = dict(self.rows())
            for name in stored.keys() | self.in_memory.keys():
                known = self.in_memory.get(name)
                counted += budgets.held_by_row(stored[name]) if known is None else budgets.held_of(known)
            assert budgets.held == counted, (budgets.held, counted)
