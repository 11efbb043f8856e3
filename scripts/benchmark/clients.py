"""The other ways to fetch many URLs of a slow server: `python -m scripts.benchmark.clients WAY PORT COUNT`.

Each is the plain way of its kind, tuned where a reader of its documentation would tune it. None stores
anything; each counts the bodies it has read, fails if there are too few, and prints when it had the last one
(`time.monotonic()`).
"""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import aiohttp
import uvloop
from aiomultiprocess.pool import Pool

from scripts.benchmark.server import raise_open_files

THREADS: Final = 1000
PROCESSES: Final = 100


def fetch(port: int, number: int) -> int:
    """One blocking fetch; returns the length of the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/?n={number}")
        return len(connection.getresponse().read())
    finally:
        connection.close()


def one_by_one(port: int, count: int) -> int:
    return sum(fetch(port, number) > 0 for number in range(count))


def threads(port: int, count: int) -> int:
    with ThreadPoolExecutor(min(count, THREADS)) as pool:
        return sum(length > 0 for length in pool.map(partial(fetch, port), range(count)))


def processes(port: int, count: int) -> int:
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        return sum(length > 0 for length in pool.map(partial(fetch, port), range(count), chunksize=1))


async def _get(session: aiohttp.ClientSession, port: int, number: int) -> int:
    async with session.get(f"http://127.0.0.1:{port}/?n={number}") as response:
        return len(await response.read())


def aiohttp_alone(port: int, count: int) -> int:
    async def run() -> int:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return sum(await asyncio.gather(*(_get(session, port, number) for number in range(count))))

    return uvloop.run(run()) and count


_session: aiohttp.ClientSession | None = None


async def _get_in_child(port: int, number: int) -> int:
    """One session for each process, as aiohttp's documentation asks for."""
    global _session
    if _session is None:
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    return await _get(_session, port, number)


def aiomultiprocess_pool(port: int, count: int) -> int:
    async def run() -> int:
        async with Pool(
            processes=2,
            queuecount=2,
            childconcurrency=count,
            initializer=raise_open_files,  # type: ignore[arg-type]  # what it returns is dropped
            loop_initializer=uvloop.new_event_loop,  # type: ignore[arg-type]  # typed for asyncio's own loop
        ) as pool:
            return len(await pool.map(partial(_get_in_child, port), range(count)))

    return asyncio.run(run())


class _Bare(asyncio.Protocol):
    """Sends one request, counts one answer, nothing else."""

    def __init__(self, request: bytes, answered: Callable[[], None]) -> None:
        self.request = request
        self.answered = answered
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]  # uvloop's transport, typed as a bare one

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if found and len(body) == int(head.rpartition(b"Content-Length: ")[2].split(b"\r", 1)[0]):
            self.transport.close()
            self.answered()


def bare(port: int, count: int) -> int:
    async def run() -> int:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        answered = 0

        def one_more() -> None:
            nonlocal answered
            answered += 1
            if answered == count:
                done.set()

        async def ask(number: int) -> None:
            request = b"GET /?n=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % number
            await loop.create_connection(lambda: _Bare(request, one_more), "127.0.0.1", port)

        await asyncio.gather(*(ask(number) for number in range(count)))
        await done.wait()
        return answered

    return uvloop.run(run())


WAYS: Final = {
    "one": one_by_one,
    "threads": threads,
    "processes": processes,
    "aiohttp": aiohttp_alone,
    "aiomultiprocess": aiomultiprocess_pool,
    "bare": bare,
}

if __name__ == "__main__":
    way, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    raise_open_files()
    answers = WAYS[way](port, count)
    print(time.monotonic())
    if answers != count:
        sys.exit(f"{answers} answers, not {count}")
