"""One HTTP exchange at a time: a worker's only way to a web server.

`Fetcher.fetch` sends one request and gives back an `Exchange`, a `Failure` or `NotSent`
(worker/exchange.py). It never raises for what a server, a network or a name does; only `CancelledError`
passes, after the connection is closed.

Of aiohttp it uses the connector and the response parser, not ClientSession: 0.04 CPU-ms a request instead
of 0.10 (docs/performance.md), nothing between the question to `may_write` and the writing, the bytes of the
request exactly as sent, and no retry that was not decided on here (ClientSession sends a GET a second time
by itself, on new connections too: a host would be hurried behind our back).

It does not decide: whether a URL may be fetched, when, what an answer means, whether to try again.
Redirects are not followed, cookies not kept, content-coding not undone.

Invariants:
  1. `may_write` is asked after connecting, and the request is written in the same step (PROTOCOL rule 8).
  2. Every exchange has bounds: bytes of body, bytes and number of headers, and time by phase.
  3. One call writes its request twice only if the server closed a kept connection without a byte of answer:
     it had given that connection up, and most likely never saw the request (RFC 9112, 9.3.1). GET and HEAD
     only, once, on a new connection, and `may_write` is asked again. A site's log shows one request, or one
     that was cut off.

Read next: worker/exchange.py, worker/connector.py, worker/failures.py, worker/bodies.py.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from common.clock import now, wall
from common.errors import UsageError
from common.outcome import Outcome
from worker.addresses import parse_allowed
from worker.bodies import BodyBudget, Hold
from worker.connector import Connector, Wire, trust_store
from worker.exchange import Exchange, Failure, NotSent, Truncated
from worker.failures import FOREIGN, prose, translate
from worker.resolver import Resolver, ResolverSettings

__all__ = ["BodyBudget", "Exchange", "Failure", "Fetcher", "FetcherSettings", "Hold", "NotSent"]

AcceptBody = Callable[[int, Mapping[str, str]], bool]

_INTERIM_ANSWERS = 8  # 1xx answers before the real one; more is somebody playing
_WAYS = 8192  # origins whose request heads are kept ready, about 3 KiB each; made again in 30 µs


@dataclass(frozen=True, slots=True)
class FetcherSettings:
    """How a worker process fetches. Times in seconds, sizes in bytes."""

    user_agent: str
    headers: tuple[tuple[str, str], ...] = (
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
    )
    """Sent with every request, in this order; those of a single fetch replace them by name."""
    total: float = 300.0
    """For a whole fetch, from the beginning of connecting."""
    connect: float = 10.0
    """For looking up, connecting and the TLS handshake together."""
    silence: float = 20.0
    """Without a byte, while the answer is awaited or read."""
    concurrency: int = 1000
    """Fetches at once, which the caller keeps to. As many connections may idle: count two sockets each."""
    keepalive: float = 15.0
    """How long an idle connection is kept: longer than most delays, shorter than most servers' patience."""
    max_line: int = 16 << 10
    """Length of the status line."""
    max_field: int = 32 << 10
    """Length of one header; some sites send a Content-Security-Policy of 20 KB."""
    max_headers: int = 128
    """Number of headers; with `max_field` the bound on a head: 4 MiB."""
    memory: int = 512 << 20
    """Bodies in flight (`BodyBudget`)."""
    allow_private: tuple[str, ...] = ()
    """Networks in CIDR form, or `all`; see worker/addresses.py."""
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names to addresses, asked before DNS; from --hosts-file."""
    insecure: tuple[str, ...] = ()
    """Shell patterns of hosts whose TLS certificate is not verified."""
    proxy: str | None = None
    """`http[s]://[user:password@]host:port`; then the proxy decides which addresses are reached."""


class Fetcher:
    """The fetches of one worker process. `start` and `close` it in the loop that uses it."""

    def __init__(
        self,
        settings: FetcherSettings,
        *,
        resolver: Resolver | None = None,
        clock: Callable[[], float] = now,
        wall_clock: Callable[[], float] = wall,
    ) -> None:
        """`resolver`: one of the caller's making, which is then the caller's to close; None: its own."""
        self.settings = settings
        self.budget = BodyBudget(settings.memory)
        self._clock = clock
        self._wall = wall_clock
        self._resolver = resolver
        self._own_resolver = resolver is None
        self._proxy = _read_proxy(settings.proxy)
        self._allowed = parse_allowed(settings.allow_private)
        self._fixed = _header_lines((("User-Agent", settings.user_agent), *settings.headers))
        self._timeout = aiohttp.ClientTimeout(
            connect=min(settings.connect, settings.total), ceil_threshold=float("inf")
        )
        self._ways: dict[str, _Way] = {}
        self._connector: Connector | None = None

    async def start(self) -> None:
        """Read the trust store and open the resolver. Nothing is connected yet."""
        if self._connector is not None:
            return
        settings = self.settings
        if self._resolver is None:
            self._resolver = Resolver(ResolverSettings(hosts=settings.hosts))
        self._connector = Connector(
            # The proxy's own address is the operator's choice; what lies behind it is the proxy's.
            allowed=None if self._proxy is not None else self._allowed,
            resolver=self._resolver,
            trust=trust_store(),
            keepalive=settings.keepalive,
            idle_bound=settings.concurrency,
            silence=settings.silence,
            total=settings.total,
        )

    async def close(self) -> None:
        """Close all connections. Cancel the fetches first: those still running end as `Failure`."""
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()
        if self._own_resolver and self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    @property
    def sockets(self) -> tuple[int, int]:
        """Connections with a request on them, and idle ones."""
        connector = self._connector
        return (0, 0) if connector is None else (connector.in_use, connector.idle)

    async def fetch(
        self,
        url: str,
        *,
        may_write: Callable[[], bool],
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int,
        accept_body: AcceptBody | None = None,
    ) -> Exchange | Failure | NotSent:
        """Fetch a canonical URL.

        `may_write` is asked each time the request is about to be written. `headers` replace the fixed ones
        of the same name. `max_bytes` bounds the payload as it comes over the wire. `accept_body` is asked
        when the head has come; on False the body is not read and the connection is closed.

        While the budget for bodies is spent it waits here; that counts against no time-out. The caller
        releases the exchange (or drops it) when its payload is no longer needed.
        """
        connector = self._connector
        if connector is None:
            raise RuntimeError("the fetcher was not started, or is closed")
        if self.budget.spent:
            await self.budget.entrance()
        begun = self._clock()
        try:
            way, target = self._way(url)
            head = way.head(method, target, headers, body)
        except ValueError as error:
            return Failure(Outcome.PROTOCOL, "bad_request", str(error), False, self._clock(), 0.0)
        request = _Request(url, method, way, head, body, begun, max_bytes, may_write, accept_body)
        try:
            try:
                return await self._exchange(connector, request)
            except FOREIGN:
                if not request.stale:
                    raise
            return await self._exchange(connector, request)
        except FOREIGN as error:
            ended = self._clock()
            outcome, reason = translate(error, request.written)
            if self._connector is not connector and not request.written:
                return NotSent("closing", "the fetcher was closed", ended)
            if outcome is None:
                return NotSent(reason, prose(error), ended)
            return Failure(outcome, reason, prose(error), request.written, ended, ended - begun)

    async def _exchange(self, connector: Connector, request: _Request) -> Exchange | NotSent:
        settings = self.settings
        connection, wire, reused = await connector.take(
            request.way.origin, self._timeout, fresh=request.stale
        )
        request.stale = False
        keep = False
        try:
            if not request.may_write():
                if request.written:  # in the first attempt: politeness is owed, so it is not "not sent"
                    raise aiohttp.ServerDisconnectedError
                keep = True
                return NotSent("lease_over", "the lease ran out before the writing", self._clock())
            wire.set_response_params(
                skip_payload=request.method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=settings.max_line,
                max_field_size=settings.max_field,
                max_headers=settings.max_headers,
            )
            started_at = self._wall()
            sent = self._clock()
            connector.watch(wire, request.begun + settings.total - sent)
            try:
                transport = wire.transport
                if transport is None or transport.is_closing():
                    raise aiohttp.ServerDisconnectedError
                request.written = True
                transport.write(request.head if request.body is None else request.head + request.body)
                message, content = await wire.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # `message`: the part of a head that had come. Then the server did see the request.
                nothing_came = not isinstance(getattr(error, "message", None), RawResponseMessage)
                request.stale = reused and nothing_came and request.repeatable
                raise
            if message.code < 200:
                message, content = await _final_answer(wire, message)
            accept_body = request.accept_body
            rejected = accept_body is not None and not accept_body(message.code, message.headers)
            if rejected:
                payload, truncated, hold = b"", None, None
            else:
                payload, truncated, hold = await self._read(wire, message, content, request.max_bytes)
            ended = self._clock()
            keep = truncated is None and not rejected
            version = message.version
            return Exchange(
                request.url,
                request.method,
                message.code,
                message.reason,
                f"{version.major}.{version.minor}",
                message.raw_headers,
                message.headers,
                payload,
                truncated,
                rejected,
                started_at,
                ended - sent,
                ended,
                wire.ip if self._proxy is None else None,
                request.head,
                hold,
            )
        finally:
            connector.give_back(connection, wire, keep=keep)

    async def _read(
        self, wire: Wire, message: RawResponseMessage, content: StreamReader, max_bytes: int
    ) -> tuple[bytes, Truncated | None, Hold | None]:
        """The body, as far as it came, and why no further."""
        if content.at_eof():
            return b"", None, None
        hold = Hold(self.budget)
        pieces: list[bytes] = []
        size = 0
        truncated: Truncated | None = None
        try:
            while truncated is None and not content.at_eof():
                try:
                    piece = await content.readany()
                except FOREIGN as error:
                    # What came in the same turn as the end lies in the buffer still, behind the exception.
                    piece = content._read_nowait(-1)
                    truncated = "time" if isinstance(error, TimeoutError) else "disconnect"
                size += len(piece)
                if size > max_bytes:
                    piece = piece[: max_bytes - size]
                    truncated = "length"
                pieces.append(piece)
                if not hold.grow(len(piece)) and truncated is None and not content.at_eof():
                    wire.rest()
                    await hold.room()
                    wire.resume()
        except BaseException:
            hold.release()
            raise
        if truncated is None and isinstance(wire.exception(), aiohttp.ClientOSError) and _endless(message):
            truncated = "disconnect"  # such a body ends with the connection, but a reset is not an end
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), truncated, hold

    def _way(self, url: str) -> tuple[_Way, str]:
        """The way to a URL's origin, and the request target."""
        start = url.index("://") + 3
        slash = url.find("/", start)
        if slash < 0:
            raise ValueError(f"{url[:200]!r} is not canonical: no path")
        origin, target = url[:slash], url[slash:]
        if not (target.isascii() and target.isprintable()) or " " in target:
            raise ValueError(f"{url[:200]!r} is not canonical: a character that must be escaped")
        way = self._ways.get(origin)
        if way is None:
            while len(self._ways) >= _WAYS:
                del self._ways[next(iter(self._ways))]
            way = self._ways[origin] = _Way(origin, self.settings, self._proxy, self._fixed)
        return way, target


class _Request:
    """One call of `fetch` on its way. Mutable: what happened must be known when it fails."""

    __slots__ = (
        "accept_body",
        "begun",
        "body",
        "head",
        "max_bytes",
        "may_write",
        "method",
        "repeatable",
        "stale",
        "url",
        "way",
        "written",
    )

    def __init__(
        self,
        url: str,
        method: str,
        way: _Way,
        head: bytes,
        body: bytes | None,
        begun: float,
        max_bytes: int,
        may_write: Callable[[], bool],
        accept_body: AcceptBody | None,
    ) -> None:
        self.url = url
        self.method = method
        self.way = way
        self.head = head
        self.body = body
        self.begun = begun
        self.max_bytes = max_bytes
        self.may_write = may_write
        self.accept_body = accept_body
        self.repeatable = body is None and method in ("GET", "HEAD")
        self.written = False  # it may have reached the server
        self.stale = False  # the server had given up the kept connection it was written to


class _Way:
    """What requests to one origin have in common, made once."""

    __slots__ = ("_absolute", "_fixed", "_host_line", "_own", "_proxy_line", "origin")

    def __init__(self, origin: str, settings: FetcherSettings, proxy: _Proxy | None, fixed: bytes) -> None:
        url = URL(origin + "/", encoded=True)
        host = url.raw_host
        if not host or url.scheme not in ("http", "https"):
            raise ValueError(f"{origin[:200]!r} is no origin")
        verified = not any(fnmatch.fnmatchcase(host.rstrip("."), pattern) for pattern in settings.insecure)
        # Never sent: it tells the connector where to connect, and how.
        self.origin = ClientRequest(
            "GET",
            url,
            loop=asyncio.get_running_loop(),
            ssl=verified,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=None if proxy is None or not proxy.authorization else proxy.headers(),
        )
        self._host_line = b" HTTP/1.1\r\nHost: " + origin.partition("://")[2].encode("ascii") + b"\r\n"
        self._fixed = fixed
        self._own = settings
        # Through a proxy plain HTTP is asked for by the whole URL; HTTPS goes through a tunnel, where all
        # is as usual.
        plain = proxy is not None and url.scheme == "http"
        self._absolute = origin.encode("ascii") if plain else b""
        self._proxy_line = proxy.authorization_line() if proxy is not None and plain else b""

    def head(self, method: str, target: str, headers: Mapping[str, str] | None, body: bytes | None) -> bytes:
        """The request up to the empty line. Raises ValueError for a character no header may hold."""
        fixed = self._fixed
        if headers:
            settings = self._own
            given = {name.lower() for name in headers}
            merged = [("User-Agent", settings.user_agent), *settings.headers]
            merged = [pair for pair in merged if pair[0].lower() not in given]
            fixed = _header_lines((*merged, *headers.items()))
        if body is not None:
            fixed += b"Content-Length: %d\r\n" % len(body)
        return b"".join(
            (
                method.encode("ascii"),
                b" ",
                self._absolute,
                target.encode("ascii"),
                self._host_line,
                fixed,
                self._proxy_line,
                b"\r\n",
            )
        )


@dataclass(frozen=True, slots=True)
class _Proxy:
    url: URL
    authorization: str

    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization}

    def authorization_line(self) -> bytes:
        return _header_lines(tuple(self.headers().items())) if self.authorization else b""


# ------------------------------------------------------------------------------------------ head and errors


def _header_lines(pairs: tuple[tuple[str, str], ...]) -> bytes:
    """Header lines as bytes. What came as UTF-8 or as other bytes (surrogates) goes out as it came."""
    lines = []
    for name, value in pairs:
        if not name or not name.isascii() or not name.isprintable() or any(c in name for c in " :"):
            raise ValueError(f"{name!r} is not the name of a header")
        if "\r" in value or "\n" in value or "\0" in value:
            raise ValueError(f"{name}: a line break in {value[:100]!r}")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _read_proxy(text: str | None) -> _Proxy | None:
    if text is None:
        return None
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(
            f"--proxy {text!r}: not a proxy this version knows; write http://[user:password@]host:port"
        )
    authorization = ""
    if url.raw_user is not None:
        pair = f"{unquote(url.raw_user)}:{unquote(url.raw_password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return _Proxy(url.with_user(None), authorization)


async def _final_answer(wire: Wire, message: RawResponseMessage) -> tuple[RawResponseMessage, StreamReader]:
    """What follows interim answers (100, 103). Switching protocols was not asked for."""
    for _ in range(_INTERIM_ANSWERS):
        if message.code == 101:
            break
        message, content = await wire.read()
        if message.code >= 200:
            return message, content
    raise BadHttpMessage(f"status {message.code} instead of an answer")


def _endless(message: RawResponseMessage) -> bool:
    return not message.chunked and "Content-Length" not in message.headers
