"""Budgets: how many requests --max-pages and --max-pages-per-host hold back.

A request is charged once, when it is first lent (rule 16); what was lent before no budget ever holds back. Counts are
those of the current round: what was charged in an earlier one counts no more. No store, no clock.
"""

from __future__ import annotations

from coordinator.hostqueue import Host
from coordinator.store.rows import HostRow


class Budgets:
    """What may still be charged, over all hosts of a shard and for each of them."""

    __slots__ = ("held", "may_charge", "per_host", "round")

    def __init__(self) -> None:
        self.may_charge = True
        """False when --max-pages is used up: only what was lent before may be lent."""
        self.per_host: int | None = None
        """--max-pages-per-host."""
        self.round = 0
        """Of recrawling."""
        self.held = 0
        """Queued requests that --max-pages-per-host holds back, over hosts in memory and in the store."""

    def lendable(self, host: Host) -> int:
        """How many of its queued requests no budget holds back."""
        if not self.may_charge:
            return host.charged
        if self.per_host is not None:
            return host.charged + min(host.queued - host.charged, max(0, self.per_host - host.lent))
        return host.queued

    def held_of(self, host: Host) -> int:
        """How many of its queued requests --max-pages-per-host holds back."""
        return self._held(host.queued, host.charged, host.lent)

    def held_by_row(self, row: HostRow) -> int:
        """The same of a host in the store."""
        return self._held(row.queued, row.charged, row.lent if row.round == self.round else 0)

    def _held(self, queued: int, charged: int, lent: int) -> int:
        if self.per_host is None:
            return 0
        return max(0, queued - charged - max(0, self.per_host - lent))
