"""How many bytes of bodies one worker process may hold at once (`--memory`).

A fetch takes a `Hold` and grows it with every piece that arrives; the hold passes on with the exchange and
is let go when the page has been handed over and its body is no longer needed. While the budget is spent,
fetches wait: new ones before they connect, running ones before they read on (their sockets fill up, so the
sender waits as well).

Invariants:
  1. Nobody waits for ever: when everyone who holds anything is waiting for more, the one who has waited
     longest goes on over the limit. So the overshoot is one body, not one per fetch.
  2. A hold that is forgotten gives its bytes back when it is collected; `release` may be called twice.
"""

from __future__ import annotations

import asyncio
from collections import deque


class BodyBudget:
    """The bytes of all bodies in flight in this process. For one event loop; not for threads.

    `limit` is in bytes. `held` may exceed it by what had arrived before anybody could be asked to wait (one
    piece a fetch, at most 128 KiB), and by one body that was let through (invariant 1).
    """

    __slots__ = ("_entrances", "_holders", "_waiters", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._holders = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._entrances: deque[asyncio.Future[None]] = deque()

    @property
    def spent(self) -> bool:
        """Whether fetches wait for memory now."""
        return self.held >= self.limit

    @property
    def waiting(self) -> int:
        """How many fetches wait for memory, for the line that says what limits the crawl."""
        return len(self._waiters) + len(self._entrances)

    async def entrance(self) -> None:
        """Wait until there is room for a new fetch. Returns at once when the budget is not spent."""
        while self.spent:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._entrances.append(future)
            try:
                await future
            except asyncio.CancelledError:
                self._forget(self._entrances, future)
                raise

    async def _room(self) -> None:
        """Wait until the caller, who holds something, may read on."""
        if not self.spent:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        self._wake()
        try:
            await future
        except asyncio.CancelledError:
            self._forget(self._waiters, future)
            raise

    def _give_back(self, size: int) -> None:
        self.held -= size
        self._holders -= 1
        self._wake()

    def _forget(self, queue: deque[asyncio.Future[None]], future: asyncio.Future[None]) -> None:
        """A waiter was cancelled; if it had been woken already, its turn passes to the next."""
        if future in queue:
            queue.remove(future)
        self._wake()

    def _wake(self) -> None:
        # Running fetches first: they hold memory and give it back only when they get to their end.
        while self._waiters and (not self.spent or len(self._waiters) >= self._holders):
            _set(self._waiters.popleft())
            if self.spent:
                return
        while self._entrances and not self.spent:
            _set(self._entrances.popleft())


class Hold:
    """The bytes one body has taken from the budget."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget: BodyBudget | None = budget
        self.size = 0
        budget._holders += 1

    def grow(self, size: int) -> bool:
        """Count `size` more bytes, which have arrived already. True: read on; False: await `room` first."""
        budget = self._budget
        if budget is None:
            return True
        self.size += size
        budget.held += size
        return budget.held < budget.limit

    def shrink(self, size: int) -> None:
        """So many of its bytes are not held any more."""
        budget = self._budget
        if budget is not None:
            self.size -= size
            budget.held -= size
            budget._wake()

    async def room(self) -> None:
        """Wait until there is memory to read on."""
        if self._budget is not None:
            await self._budget._room()

    def release(self) -> None:
        """Give all bytes back. Harmless when called again."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._give_back(self.size)

    __del__ = release


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
