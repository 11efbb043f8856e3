"""Servers that say byte for byte what a test wants, a fetcher to ask them, and what it came to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trustme

from common.outcome import Outcome
from shoal.demo.listening import listen
from worker.fetcher import Exchange, Failure, Fetcher, FetcherSettings, NotSent
from worker.resolver import Resolver

SETTINGS = FetcherSettings(
    user_agent="Shoal/1.0 (+mailto:crawl@a.test)",
    headers=(("Accept", "*/*"),),
    allow_private=("127.0.0.0/8", "::1"),
    hosts={"a.test": ("127.0.0.1",), "b.test": ("127.0.0.1",)},
)
HASTY = replace(SETTINGS, silence=0.3, connect=0.3, total=5.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Reading(asyncio.Event):
    """Set when the head was read and the body is about to be: `accept` is the fetch's `accept_body`."""

    def accept(self, status: int, headers: object) -> bool:
        self.set()
        return True


class Server:
    """A server on a free port. `connections`: how many it accepted; `asked`: request heads it received."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.asked: list[bytes] = []

    def url(self, target: str = "/", host: str = "a.test", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{target}"

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """The next request's head; raises IncompleteReadError at the connection's end."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        return head


Talk = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a server does with a connection."""


@asynccontextmanager
async def serving(
    answer: bytes | Talk,
    *,
    address: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    close: bool = False,
) -> AsyncIterator[Server]:
    """Bytes: the answer to every request (`close`: and then the end). Else a coroutine per connection."""
    server = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        if not isinstance(answer, bytes):
            return await answer(server, reader, writer)
        while True:
            await server.head(reader)
            writer.write(answer)
            if close:
                return None

    listening = await listen(connected, address, tls=tls)
    server.port = listening.port
    try:
        yield server
    finally:
        await listening.close()


@asynccontextmanager
async def fetching(
    settings: FetcherSettings = SETTINGS, resolver: Resolver | None = None
) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(settings, resolver=resolver)
    await fetcher.start()
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def get(fetcher: Fetcher, url: str, **options: object) -> Exchange | Failure | NotSent:
    arguments: dict[str, object] = {"may_write": lambda: True, "max_bytes": 1 << 20} | options
    return await fetcher.fetch(url, **arguments)  # type: ignore[arg-type]  # options are a test's, not a user's


async def got(fetcher: Fetcher, url: str, **options: object) -> Exchange:
    exchange = await get(fetcher, url, **options)
    assert isinstance(exchange, Exchange), exchange
    return exchange


async def failed(fetcher: Fetcher, url: str, **options: object) -> tuple[Outcome, str, bool]:
    failure = await get(fetcher, url, **options)
    assert isinstance(failure, Failure), failure
    assert failure.error
    return failure.outcome, failure.reason, failure.written


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()


def certified(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
