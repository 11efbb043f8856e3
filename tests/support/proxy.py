"""A bad network between workers and a coordinator: a TCP proxy that cuts, refuses, stalls, half-opens, slows.

It stands in front of the two consecutive ports of one shard (control and data), so that a worker is given its
address and knows nothing. What it does applies to all connections at once; everything may be called from the
test's thread, and holds when the call returns. Frames inside are CURVE's or plain ZMTP; the proxy reads none.

    cut()         reset every connection; the next ones pass
    refuse()      reset every connection and listen no more, as a machine that is down does; `heal()` listens again
    stall()       nothing passes, in neither direction, nobody is told; `heal()` lets through what was held
    half_open()   the coordinator's side is closed, the worker's stays open for ever and silent; the next ones pass
    slow(s)       every piece waits `s` seconds; `heal()` ends it
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from shoal.demo.listening import Listening, listen
from tests.support.aside import Aside

_PIECE = 64 * 1024


def free_pair() -> int:
    """A port P of 127.0.0.1 such that P and P + 1 are free now. Somebody may take them before we do."""
    for _ in range(200):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise OSError("no two consecutive free ports on 127.0.0.1")


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection through the proxy."""

    to_worker: asyncio.StreamWriter
    to_coordinator: asyncio.StreamWriter
    is_dead: bool = False
    """Half-open: the worker's side stays, nothing passes any more."""


class Proxy:
    """Passes TCP from two ports of its own to two of a coordinator."""

    def __init__(self, target: int) -> None:
        """`target`: the coordinator's control port; its data port is the next one."""
        self.port = free_pair()
        self._target = target
        self._aside = Aside("proxy")
        self._listening: list[Listening] = []
        self._pairs: set[_Pair] = set()
        self._passing = asyncio.Event()
        self._delay = 0.0
        self.turned_away = 0
        """Connections that were taken while there was no coordinator behind, and closed."""

    def __enter__(self) -> Self:
        self._aside.__enter__()
        self._aside.wait(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.wait(self._refuse())
        self._aside.__exit__(kind, error, trace)

    @property
    def address(self) -> str:
        """What a worker is given as --coord."""
        return f"tcp://127.0.0.1:{self.port}"

    # -- what it does to the network ----------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection."""
        self._aside.wait(self._cut())

    def refuse(self) -> None:
        """Reset every connection, and refuse new ones until `heal`."""
        self._aside.wait(self._refuse())

    def stall(self) -> None:
        """Let nothing pass until `heal`; what is sent meanwhile arrives late, but arrives."""
        self._aside.wait(self._set(passing=False, delay=0.0))

    def slow(self, delay: float) -> None:
        """Hold every piece for `delay` seconds until `heal`."""
        self._aside.wait(self._set(passing=True, delay=delay))

    def half_open(self) -> None:
        """Close the coordinator's side of every connection; the worker's side hears of nothing."""
        self._aside.wait(self._half_open())

    def heal(self) -> None:
        """A good network again; half-open connections stay as they are."""
        self._aside.wait(self._heal())

    # -- in its own thread --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._passing.set()
        if not self._listening:
            self._listening = [
                await listen(partial(self._carry, offset), port=self.port + offset) for offset in (0, 1)
            ]

    async def _refuse(self) -> None:
        for one in self._listening:
            await one.close()
        self._listening = []

    async def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.to_worker.transport.abort()
            pair.to_coordinator.transport.abort()

    async def _half_open(self) -> None:
        for pair in self._pairs:
            pair.is_dead = True
            pair.to_coordinator.transport.abort()

    async def _heal(self) -> None:
        self._delay = 0.0
        await self._listen()

    async def _set(self, *, passing: bool, delay: float) -> None:
        self._delay = delay
        if passing:
            self._passing.set()
        else:
            self._passing.clear()

    async def _carry(self, offset: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        try:
            theirs = await asyncio.open_connection("127.0.0.1", self._target + offset)
        except OSError:
            self.turned_away += 1
            return
        pair = _Pair(writer, theirs[1])
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._pump(pair, reader, pair.to_coordinator))
                down = group.create_task(self._pump(pair, theirs[0], pair.to_worker))
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                if pair.is_dead:
                    # The worker's side swallows what comes until the worker itself gives it up.
                    await asyncio.wait({up})
                up.cancel()
                down.cancel()
        finally:
            self._pairs.discard(pair)
            pair.to_worker.transport.abort()
            pair.to_coordinator.transport.abort()

    async def _pump(self, pair: _Pair, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._passing.wait()
                if not pair.is_dead:
                    target.write(piece)
                    await target.drain()
