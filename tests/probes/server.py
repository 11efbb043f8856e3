"""The servers behind the probes: several ports of loopback, plain and TLS, any number of hosts, one access log.

It is the log that a crawl is judged by, so it says when an answer could end at the earliest (`free`) and how many
bytes of it left. Hosts are told apart by the Host header. What stands where is `tests/probes/web.py`'s.

Times are `time.monotonic()` seconds. A place without an answer is a 404.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self

import trustme

from shoal.demo.listening import Listening, listen
from shoal.demo.server import Answer, Request, html, redirect
from tests.support.aside import Aside

__all__ = ["Answer", "Door", "Hit", "Request", "Servers", "html", "redirect"]

Door = Literal["web", "alt", "tls", "shut", "plain"]
"""A port: HTTP, HTTP again, HTTPS, one on which nobody listens; and `https` said to the port `web`."""

Talk = Callable[[Request], Answer] | Answer
"""An answer, or what makes one when it is asked for."""

Place = tuple[Door, str, str]
"""(port, host, path with query)."""

_MISSING: Final = Answer(404, {"Content-Type": "text/plain"}, b"missing\n")


@dataclass(slots=True)
class Hit:
    """One line of the access log."""

    door: Door
    host: str
    target: str
    method: str
    headers: Mapping[str, str]
    client: str
    """The address that it came from."""
    address: str
    """The address that it came to."""
    arrived: float
    status: int
    free: float
    """Its client cannot have come to the answer's end before."""
    ended: float | None = None
    """When the answer was handed over or cut off."""
    sent: int = 0
    """Bytes of the body that were handed to the kernel."""

    @property
    def place(self) -> Place:
        """Where it was."""
        return self.door, self.host, self.target


class Servers:
    """All ports, run by a thread of their own. Everything may be called while it runs."""

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        also: Sequence[str] = (),
        ports: Mapping[Door, int] | None = None,
    ) -> None:
        """`also`: further addresses of all ports; `ports`: those that are to be certain ones."""
        self.authority = trustme.CA()
        self.ports: dict[Door, int] = {"web": 0, "alt": 0, "tls": 0}
        self.ports.update(ports or {})
        self.questions: list[tuple[str, int]] = []
        """What a name server beside them was asked: name, and type of record."""
        self.proxies: dict[str, str] = {}
        """URLs of proxies beside them, by name."""
        self._addresses = [address, *also]
        self._lock = threading.Lock()
        self._answers: dict[Place, tuple[Talk, ...]] = {}
        self._times: dict[Place, int] = defaultdict(int)
        self._certificates: dict[str, ssl.SSLContext] = {}
        self._hits: list[Hit] = []
        self._aside = Aside("servers")
        self._listening: list[Listening] = []

    def __enter__(self) -> Self:
        self._shut = socket.socket()
        self._aside.__enter__()
        self._aside.wait(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.wait(self._close())
        self._aside.__exit__(kind, error, trace)
        self._shut.close()

    # -- what stands where --------------------------------------------------------------------------------

    def answer(self, place: Place, *answers: Talk) -> None:
        """The answers to the first, second, ... fetch of a place; the last one stays."""
        with self._lock:
            self._answers[place] = answers

    def has(self, place: Place) -> bool:
        """Whether something stands there."""
        return place in self._answers

    def url(self, place: Place) -> str:
        """Its absolute URL."""
        door, host, target = place
        scheme, usual = ("https", 443) if door in ("tls", "plain") else ("http", 80)
        port = self.ports[door]
        return f"{scheme}://{host}{'' if port == usual else f':{port}'}{target}"

    def certify(
        self,
        host: str,
        *names: str,
        expired: bool = False,
        self_signed: bool = False,
    ) -> None:
        """The certificate that `host` shows at the door `tls`: for itself, or for other names."""
        authority = trustme.CA() if self_signed else self.authority
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if expired else None
        leaf = authority.issue_cert(*(names or (host,)), not_after=past)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        self._certificates[host] = context

    @property
    def log(self) -> list[Hit]:
        """The access log, by arrival; a copy."""
        with self._lock:
            return list(self._hits)

    # -- the thread ---------------------------------------------------------------------------------------

    async def _open(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("unnamed.test").configure_cert(context)
        context.sni_callback = self._named
        for door, port in list(self.ports.items()):
            listening = await listen(
                partial(self._serve, door),
                *self._addresses,
                port=port,
                backlog=1024,
                tls=context if door == "tls" else None,
            )
            self._listening.append(listening)
            self.ports[door] = listening.port
        self.ports["plain"] = self.ports["web"]
        self._shut.bind((self._addresses[0], 0))  # bound, so that nobody else takes it, and deaf
        self.ports["shut"] = self._shut.getsockname()[1]

    async def _close(self) -> None:
        for listening in self._listening:
            await listening.close()

    def _named(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._certificates.get(name or "", context)

    async def _serve(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._exchange(door, reader, writer):
            pass

    async def _exchange(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readexactly(1)
        if head == b"\x16":
            # Somebody speaks TLS to a plain port: what real servers say then.
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        head += await reader.readuntil(b"\r\n\r\n")
        arrived = time.monotonic()
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        host = headers.get("host", "").partition(":")[0].lower()
        client, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        request = Request(method, host, target, headers, client[1], arrived)
        place = (door, host, target)
        with self._lock:
            talks = self._answers.get(place, (_MISSING,))
            talk = talks[min(self._times[place], len(talks) - 1)]
            self._times[place] += 1
            answer = talk if isinstance(talk, Answer) else talk(request)
            hit = Hit(
                door, host, target, method, headers, client[0], here[0], arrived, answer.status, arrived
            )
            self._hits.append(hit)
        try:
            if answer.wait:
                await asyncio.sleep(answer.wait)
                if reader.at_eof():
                    return False  # it did not wait for us
            return await _send(writer, answer, hit, head_only=method == "HEAD")
        finally:
            hit.ended = time.monotonic()


async def _send(writer: asyncio.StreamWriter, answer: Answer, hit: Hit, *, head_only: bool) -> bool:
    head, body = answer.wire(head_only=head_only)
    if answer.stop_after is not None:
        hit.free = time.monotonic()
        writer.write((head + body)[: answer.stop_after])
        await writer.drain()
        writer.transport.abort()
        return False
    seconds, portion = answer.drips or (0.0, 1 << 16)
    portions = [body[start : start + portion] for start in range(0, len(body), portion)]
    if not answer.drips and len(portions) <= 1:
        portions, head = [], head + body
        hit.sent = len(body)
    if not portions:
        hit.free = time.monotonic()
    writer.write(head)
    for number, piece in enumerate(portions, start=1):
        if seconds:
            await asyncio.sleep(seconds)
        await writer.drain()
        if writer.is_closing():
            return False
        if number == len(portions):
            hit.free = time.monotonic()
        writer.write(piece)
        hit.sent += len(piece)
    await writer.drain()
    return answer.raw is None
