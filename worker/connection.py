"""One connection to a web server or proxy: how long it may take, how much may come over it, what is put right of it.

It is aiohttp's protocol with what a crawler needs otherwise: clocks that cost nothing for each piece, a bound on all
bytes that come, heads that browsers would read. The overrides rest on names with an underscore; see the word on that
in worker/connector.py, which makes connections and looks at their clocks.

Invariants:
  1. Whoever waits for a head or a body is told when the connection is late, silent, too full or broken.
  2. A byte that comes while it is idle ends it; a connection on which something was mended serves no other request.

Read next: worker/mending.py, worker/receiving.py, worker/connector.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from worker.mending import mended

if TYPE_CHECKING:
    from worker.connector import Connector

_PROXY_ANSWER = 1 << 20  # bytes of a proxy's answer to CONNECT, at most


class TotalTimeout(aiohttp.ServerTimeoutError):
    """The time for the whole fetch is over."""


class TooMuch(aiohttp.ClientPayloadError):
    """More bytes came than the largest body with its head and its framing takes."""


class Wire(ResponseHandler):
    """One connection: aiohttp's protocol, with clocks of our own.

    aiohttp cancels and sets a timer of the loop for every piece that arrives, and one more for every
    request. Here a piece only notes the time, and one sweep over the connections in use finds those that
    are late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connector: Connector) -> None:
        super().__init__(loop)
        self._connector = connector
        self.ip: str | None = None
        self.idle = False
        self._heard = 0.0  # loop time of the last byte
        self._deadline = 0.0  # loop time when the whole fetch is over
        self._resting: float | None = None  # loop time since when we do not want to read
        self._room = _PROXY_ANSWER  # bytes that may still come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.ip = peer[0] if isinstance(peer, tuple) else None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.idle:
            self.idle = False
            self._connector.idle -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Overridden to bound what aiohttp does not: chunk extensions, zeros before a chunk's size, empty lines
        # before the head, answers that nobody asked for on a connection that idles.
        self._room -= len(data)
        if self._room >= 0 and not self.idle:
            super().data_received(data)
        elif self.transport is not None:
            if not self.idle:
                self.set_exception(TooMuch("more bytes than any body with its framing takes"))
            self.transport.abort()

    def set_response_params(self, **params: Any) -> None:
        """As aiohttp's; a first piece of an answer that is not HTTP is put right where that can be done."""
        super().set_response_params(**params)
        self._parser = cast("Any", _Mending(self, self._parser, params))

    def rest(self) -> None:
        """Stop the clocks: we are the ones who wait, for memory."""
        self._resting = self._loop.time()

    def resume(self) -> None:
        """Let the clocks go on."""
        if self._resting is not None:
            self._heard = self._loop.time()
            self._deadline += self._heard - self._resting
            self._resting = None

    def go_on(self, seconds: float, room: int = 0) -> None:
        """A download got on: so much time for its next piece, and room for so many bytes more."""
        self._deadline = (self._loop.time() if self._resting is None else self._resting) + seconds
        self._room += room

    def begin(self, remaining: float, room: int) -> None:
        """A request is written: seconds that remain for the whole fetch, and bytes that may come."""
        self._room = room
        self._heard = self._loop.time()
        self._deadline = self._heard + remaining
        self._resting = None

    def look(self, at: float, silence: float) -> None:
        """Whether it is late by now (`at`, loop time), or silent for longer than `silence`: then its reader is told."""
        if self._resting is not None:
            return
        if at > self._deadline:
            self.set_exception(TotalTimeout("the time for the whole fetch is over"))
        elif at - self._heard > silence and not self._reading_paused:
            self.set_exception(aiohttp.SocketTimeoutError(f"not a byte for {silence:g} s"))

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        # Overridden because aiohttp tells only who waits for the head: after a bad chunk in a later segment,
        # whoever reads the body would wait for ever.
        content = self._payload
        super().set_exception(exc, exc if exc_cause is None else exc_cause)
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(exc)

    def _reschedule_timeout(self) -> None:  # overrides aiohttp's timer
        self._heard = self._loop.time()

    def _drop_timeout(self) -> None:  # overrides aiohttp's timer
        pass


class _Mending:
    """aiohttp's response parser, and a second one for a first piece that is to be put right."""

    __slots__ = ("_first", "_head_only", "_parser", "_renew", "_wire")

    def __init__(self, wire: Wire, parser: Any, params: dict[str, Any]) -> None:
        self._wire = wire
        self._parser = parser
        self._head_only = bool(params.get("skip_payload"))
        self._renew = params
        self._first = True

    def feed_data(self, data: bytes) -> tuple[list[tuple[RawResponseMessage, StreamReader]], bool, bytes]:
        first, self._first = self._first, False
        try:
            came: tuple[list[tuple[RawResponseMessage, StreamReader]], bool, bytes]
            came = self._parser.feed_data(data)
        except HttpProcessingError:
            right = mended(data, head_only=self._head_only) if first else None
            if right is None:
                raise
            wire = self._wire
            ResponseHandler.set_response_params(wire, **self._renew)
            self._parser, wire._parser = wire._parser, cast("Any", self)
            wire.force_close()
            came = self._parser.feed_data(right)
        return came

    def feed_eof(self) -> Any:
        return self._parser.feed_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)
