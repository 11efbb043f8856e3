"""A small HTTP/1.1 server on loopback for webs that are made up: one `Answer` for each `Request`.

It serves the demo web and the tests' sites. It decides nothing about pages; an answer may be late, may come
in drips, may stop half-way. It keeps connections open, takes one request at a time of each (no pipelining),
and times are `time.monotonic()` seconds, which on one machine all processes share.

Not a server for anything else: it trusts its clients, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from shoal.demo.listening import Listening, listen

_HEAD_LIMIT: Final = 256 * 1024
"""Bytes of one request's head; a crawl's longest URL is far below."""

_BACKLOG: Final = 4096
"""Connections the kernel holds until we take them: a crawler opens hundreds at once."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came in."""

    method: str
    host: str
    """The Host header without its port, lower case."""
    target: str
    """Path and query, as sent."""
    headers: Mapping[str, str]
    """Names in lower case; of a header sent twice, the last."""
    client_port: int
    """Tells one connection from another."""
    arrived: float
    """When the last byte of the head was here."""
    body: bytes = b""
    """As long as Content-Length says; what comes in chunks is not understood."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. The plain case is status, headers, body; the rest is for awkward servers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """Content-Length is added where neither it nor Transfer-Encoding is given."""
    body: bytes = b""
    wait: float = 0.0
    """Seconds before the first byte of the answer."""
    drips: tuple[float, int] | None = None
    """(seconds, bytes): the body in portions of so many bytes, with so many seconds before each."""
    stop_after: int | None = None
    """Bytes of head and body after which the connection is reset; None: never."""
    raw: bytes | None = None
    """Sent as it stands in place of all the above; the connection is closed after it."""

    def wire(self, *, head_only: bool = False) -> tuple[bytes, bytes]:
        """Head and body as they go out."""
        if self.raw is not None:
            return self.raw, b""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "-"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        given = {name.lower() for name in self.headers}
        if not given & {"content-length", "transfer-encoding"} and self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), b"" if head_only else self.body


def html(text: str, *, charset: str = "utf-8", status: int = 200) -> Answer:
    """A page that says its charset."""
    return Answer(status, {"Content-Type": f"text/html; charset={charset}"}, text.encode(charset))


def redirect(target: str, status: int = 302) -> Answer:
    """A hop to `target`, which stands in Location as given."""
    return Answer(status, {"Location": target, "Content-Type": "text/plain"}, b"moved\n")


async def serve(
    respond: Callable[[Request], Answer],
    *,
    port: int = 0,
    ended: Callable[[Request, Answer, float], None] = lambda request, answer, at: None,
) -> Listening:
    """Listen on 127.0.0.1; port 0 takes a free one.

    `respond` is called once a request, in the order of arrival; `ended` when its answer has been handed to
    the kernel or cut off, with the time of that. Raises OSError where the port is taken.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await _exchange(reader, writer, respond, ended):
            pass

    return await listen(talk, port=port, limit=_HEAD_LIMIT, backlog=_BACKLOG)


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    respond: Callable[[Request], Answer],
    ended: Callable[[Request, Answer, float], None],
) -> bool:
    """One request and its answer; False when the connection is to be closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    request = _parse(head, client_port=writer.get_extra_info("peername")[1])
    if size := int(request.headers.get("content-length", 0)):
        request = replace(request, body=await reader.readexactly(size))
    answer = respond(request)
    try:
        if answer.wait:
            await asyncio.sleep(answer.wait)
        stays = await _send(writer, answer, head_only=request.method == "HEAD")
    finally:
        ended(request, answer, time.monotonic())
    return stays and request.headers.get("connection", "").lower() != "close"


async def _send(writer: asyncio.StreamWriter, answer: Answer, *, head_only: bool) -> bool:
    head, body = answer.wire(head_only=head_only)
    if answer.stop_after is not None:
        writer.write((head + body)[: answer.stop_after])
        await writer.drain()
        writer.transport.abort()
        return False
    if answer.drips is None:
        writer.write(head + body)
    else:
        seconds, portion = answer.drips
        writer.write(head)
        for start in range(0, len(body), portion):
            await asyncio.sleep(seconds)
            writer.write(body[start : start + portion])
            await writer.drain()
    await writer.drain()
    return answer.raw is None


def _parse(head: bytes, *, client_port: int) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
    return Request(method, host.lower(), target, headers, client_port, time.monotonic())
