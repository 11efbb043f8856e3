"""`coord retry`: requests of the current round that ended in a way that may pass are queued again.

A walk over a snapshot of the store finds them, the shard opens them again in batches. Each batch is durable before
the next is given, so there is never more than one under way. What a person calls an outcome is judged here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError
from common.nearest import hint
from common.outcome import OUTCOMES, Outcome
from common.url import CanonicalURL, host_key
from coordinator.changing import matches, pattern_of
from coordinator.feed import Feed
from coordinator.steps import Retry
from coordinator.store.rows import DoneRow
from coordinator.walk import ended_requests, round_of

BATCH = 500
"""Requests opened in one event: some 20 ms of the shard's time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which ended requests are meant. `match`: a pattern for their hosts; None: of all."""

    outcomes: frozenset[Outcome]
    match: str | None = None

    @classmethod
    def of(cls, names: Iterable[str], host: str | None) -> Wanted:
        """As typed: names with commas between them, and a host, a URL or a pattern. Raises UsageError."""
        given = [part.strip() for name in names for part in name.split(",") if part.strip()]
        if not given:
            raise UsageError("retry what? name outcomes, such as --outcome TIMEOUT,SERVER_ERROR")
        known = {outcome.value: outcome for outcome in OUTCOMES}
        found = set()
        for name in given:
            outcome = known.get(name.upper().replace("-", "_"))
            if outcome is None:
                meant = hint(name.upper(), known, otherwise=f"; there are {', '.join(known)}")
                raise UsageError(f"no outcome is called {name[:100]!r}{meant}")
            found.add(outcome)
        return cls(frozenset(found), None if host is None else pattern_of(host))

    def is_met_by(self, row: DoneRow, current: int) -> bool:
        """Whether a request that ended is one of them, and of round `current`."""
        if row.outcome not in self.outcomes or round_of(row.request) != current:
            return False
        return self.match is None or matches(host_key(CanonicalURL(row.request.url)), self.match)


async def retry(directory: Path, feed: Feed, wanted: Wanted, current: int) -> int:
    """Queue the wanted requests of round `current` again; how many, when all of it is durable."""
    keys: list[bytes] = []
    opened = 0

    async def give() -> int:
        batch = tuple(keys)
        keys.clear()
        return sum(await feed.give(lambda number: Retry(number, batch))) if batch else 0

    walk = ended_requests(directory, lambda rows, row: wanted.is_met_by(row, current))
    async with aclosing(walk):
        async for ended, _ in walk:
            for key, _ in ended:
                keys.append(key)
                if len(keys) >= BATCH:
                    opened += await give()
    return opened + await give()
