"""The benchmark's server: a process of its own that only sends what is ready to be sent.

`python -m scripts.benchmark.server pages FILE`  every response of a web made by web.py, from memory
`python -m scripts.benchmark.server slow`        after three seconds, a small page for whatever was asked

One uvloop, one bare protocol, no HTTP library: a twentieth of a millisecond a request, so that on a machine
of two cores the crawler is what is measured. It says `PORT` on its first line, counts, answers `GET
/-/counts` with a JSON of `Counts`, and starts to count anew at `GET /-/reset`. It ends when its standard
input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

import uvloop

from scripts.benchmark import web

SLOW: Final = 3.0
"""Seconds that the slow server thinks about each request."""

_NOT_FOUND: Final = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nmissing\n"
)

_SLOW_PAGE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 70\r\n\r\n"
    b"<!doctype html><title>Worth the wait</title><p>Here it is at last.</p>"
)

_BACKLOG: Final = 65_535
"""The kernel lowers it to what it allows (somaxconn, 4096 by default)."""


@dataclass(slots=True)
class Counts:
    """What the server saw since it was told to count anew. Times are `time.monotonic()`."""

    requests: int = 0
    pages: int = 0
    """Different ones, answered with 200."""
    missing: int = 0
    """Requests answered with 404."""
    connections: int = 0
    first: float = 0.0
    """When the first connection was accepted: making more of them is part of a client's work."""
    last: float = 0.0
    """When the last answer was handed to the kernel."""
    cpu: float = 0.0
    """Seconds of CPU of this process."""


def ask(port: int, what: str = "counts") -> Counts:
    """The counts of the server on this port; `what` may be `reset`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/{what}", timeout=10) as response:
        return Counts(**json.load(response))


class _Served:
    """Counts, and the answer to a request that is not about pages."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.seen: set[bytes] = set()
        self.cpu = 0.0

    def control(self, target: bytes) -> bytes:
        used = time.process_time()
        self.counts.cpu = used - self.cpu
        self.counts.pages = len(self.seen)
        body = json.dumps(asdict(self.counts)).encode()
        if target == b"/-/reset":
            self.counts = Counts()
            self.seen = set()
            self.cpu = used
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)


class _Connection(asyncio.Protocol):
    """Parses as little of a request as is needed to answer it."""

    transport: asyncio.Transport

    def __init__(self, served: _Served) -> None:
        self.served = served
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class, which is none by descent
        counts = self.served.counts
        if not counts.connections:
            counts.first = time.monotonic()
        counts.connections += 1

    def data_received(self, data: bytes) -> None:
        if self.waiting:
            data = self.waiting + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head, data = data[: end + 2], data[end + 4 :]
            target = head.split(b" ", 2)[1]
            if target.startswith(b"/-/"):
                self.transport.write(self.served.control(target))
                self.transport.close()
                return
            self.requested(head, target)
        self.waiting = data

    def requested(self, head: bytes, target: bytes) -> None:
        raise NotImplementedError


class _Pages(_Connection):
    def __init__(self, served: _Served, responses: dict[bytes, bytes]) -> None:
        super().__init__(served)
        self.responses = responses

    def requested(self, head: bytes, target: bytes) -> None:
        counts = self.served.counts
        counts.requests += 1
        at = head.find(b"\r\nHost: ")
        if at < 0:
            at = head.lower().find(b"\r\nhost: ")
        host = head[at + 8 : head.find(b"\r\n", at + 8)].split(b":", 1)[0]
        key = host + target
        response = self.responses.get(key)
        if response is None:
            counts.missing += 1
            self.transport.write(_NOT_FOUND)
        else:
            self.served.seen.add(key)
            self.transport.write(response)
        counts.last = time.monotonic()


class _Slow(_Connection):
    def requested(self, head: bytes, target: bytes) -> None:
        self.served.counts.requests += 1
        asyncio.get_running_loop().call_later(SLOW, self.answer, target)

    def answer(self, target: bytes) -> None:
        if not self.transport.is_closing():
            self.served.seen.add(target)
            self.transport.write(_SLOW_PAGE)
            self.served.counts.last = time.monotonic()


async def _run(connection: Callable[[_Served], _Connection], port: int) -> None:
    served = _Served()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: connection(served), "127.0.0.1", port, backlog=_BACKLOG, reuse_address=True
    )
    listener: socket.socket = server.sockets[0]
    print(listener.getsockname()[1], flush=True)
    # Whoever started us holds the other end of this pipe: when they are gone, so are we.
    gone = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), gone.set)
    await gone.wait()


def raise_open_files() -> int:
    """Raise the soft limit on open files to the hard one; returns it. Ten thousand connections need it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pages", "slow"))
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    raise_open_files()
    if given.what == "slow":
        uvloop.run(_run(_Slow, given.port))
    else:
        responses = dict(web.read(given.file))
        uvloop.run(_run(lambda served: _Pages(served, responses), given.port))


if __name__ == "__main__":
    main()
