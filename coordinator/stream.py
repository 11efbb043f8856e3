"""One live stream for all who watch: a Status each second, as server-sent events.

The status is made once a second while somebody listens, and written to all; a listener who does not take it is cut
off, so that a sleeping laptop costs nothing. `status` events hold what GET /status gives; `failed` events hold
the tries that failed since the one before; one `end` event, a last status, tells that the coordinator itself goes. No
aiohttp here: watching.py gives the text to the connections.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict

from common.log import get_logger
from coordinator.status import FailedTry, Status

LISTENERS = 32

EVENT_SECONDS = 1.0

BEHIND = 4
"""Events that a listener may be behind, before it is cut off."""

RETRY = "retry: 2000\n\n"
"""First on each stream: after how many milliseconds a browser comes back."""

log = get_logger("coordinator.stream")


class Full(Exception):
    """LISTENERS are there already."""


class Stream:
    """Hands the same events to all listeners."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._queues: set[asyncio.Queue[str | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._told: FailedTry | None = None
        self.dropped = 0
        """Listeners that were too slow."""

    def __len__(self) -> int:
        return len(self._queues)

    async def listen(self) -> AsyncGenerator[str]:
        """Events, ready to be sent; ends when the listener is too slow, or with `close`. Raises `Full`."""
        if len(self._queues) >= LISTENERS:
            raise Full
        queue: asyncio.Queue[str | None] = asyncio.Queue(BEHIND)
        self._queues.add(queue)
        status = self._status()
        queue.put_nowait(RETRY + _event("status", status.to_json()))
        if self._task is None or self._task.done():
            self._fresh(status.recent_errors)  # that status has told them
            self._task = asyncio.create_task(self._run(), name="stream")
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.discard(queue)

    async def close(self) -> None:
        """All listeners hear the end, and how things stand at it."""
        if self._queues:
            last = _event("end", self._status().to_json())
            for queue in list(self._queues):
                _end(queue, last)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """While somebody listens."""
        while True:
            await asyncio.sleep(EVENT_SECONDS)
            if not self._queues:
                return
            status = self._status()
            events = _event("status", status.to_json())
            for failed in self._fresh(status.recent_errors):
                events += _event("failed", asdict(failed))
            for queue in list(self._queues):
                if queue.full():
                    self._queues.discard(queue)
                    self.dropped += 1
                    log.info("stream.dropped", behind=BEHIND)
                    _end(queue)
                else:
                    queue.put_nowait(events)

    def _fresh(self, errors: tuple[FailedTry, ...]) -> list[FailedTry]:
        """Those that came since the last time, the oldest first."""
        fresh = []
        for failed in errors:
            if failed == self._told:
                break
            fresh.append(failed)
        if errors:
            self._told = errors[0]
        return fresh[::-1]


def _end(queue: asyncio.Queue[str | None], last: str | None = None) -> None:
    while not queue.empty():
        queue.get_nowait()
    if last is not None:
        queue.put_nowait(last)
    queue.put_nowait(None)


def _event(name: str, content: object) -> str:
    """JSON has no line breaks, so it is one line of data."""
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
