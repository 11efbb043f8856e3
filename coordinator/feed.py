"""What is given to the shard from outside, and its answers: each is waited for until it is durable.

Seeds, known URLs of a recrawl and retries go in as numbered events; the shard answers each with `Seeded` when it is
committed. Decides nothing; how much may be under way is its users' affair.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from coordinator.steps import Retry, Seeded, Seeds


class Feed:
    """Feeds one shard. `deliver` gives it an event; its Seeded must be handed to `seeded`."""

    def __init__(self, deliver: Callable[[Seeds | Retry], None]) -> None:
        self._deliver = deliver
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[tuple[bool, ...]]] = {}

    async def give(self, event: Callable[[int], Seeds | Retry]) -> tuple[bool, ...]:
        """Deliver the event of a fresh number; returns, when it is durable, for each request whether it is new."""
        number = next(self._numbers)
        future: asyncio.Future[tuple[bool, ...]] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        self._deliver(event(number))
        try:
            return await future
        finally:
            self._answers.pop(number, None)

    def seeded(self, answer: Seeded) -> None:
        """The shard made an event durable."""
        future = self._answers.pop(answer.number, None)
        if future is not None and not future.done():
            future.set_result(answer.fresh)
