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
  2. Every exchange has bounds: bytes of body, of all that comes, bytes and number of headers, time by phase.
  3. One call writes its request twice only if the server closed a kept connection without a byte of answer:
     it had given that connection up, and most likely never saw the request (RFC 9112, 9.3.1). GET and HEAD
     only, once, on a new connection, and `may_write` is asked again. A site's log shows one request, or one
     that was cut off.
  4. At most `per_ip` hosts of one address are fetched at once; loopback and what goes through a proxy are
     exempt. Who waits for that has connected to nobody, and the wait counts against no time-out.

Read next: worker/exchange.py, worker/way.py, worker/connector.py, worker/connection.py, worker/receiving.py,
worker/failures.py, worker/bodies.py, worker/gate.py, worker/proxies.py, worker/mending.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp.http_parser import RawResponseMessage

from common.clock import now, wall
from common.outcome import Outcome
from worker.addresses import parse_allowed, refusal
from worker.bodies import BodyBudget, Hold
from worker.connector import AddressRefused, Connector, trust_store
from worker.download import Download
from worker.exchange import Exchange, Failure, NotSent
from worker.failures import FOREIGN, prose, translate
from worker.gate import AddressGate, Place
from worker.proxies import REST_SECONDS, ProxyFailed
from worker.receiving import SendPiece, final_answer, handed_on, whole_body
from worker.resolver import Resolver, ResolverSettings
from worker.way import Way, Ways

__all__ = ["BodyBudget", "Exchange", "Failure", "Fetcher", "FetcherSettings", "Hold", "NotSent"]

AcceptBody = Callable[[int, Mapping[str, str]], bool]
BeginDownload = Callable[[int, Mapping[str, str]], Download | None]

_FRAMING = (
    8 << 20
)  # bytes that a head and the framing of chunks may take, beside a quarter of the body's limit
_NOTICED = 0.01  # seconds; a shorter look-up is not taken off the time to connect
_PROXIES_A_FETCH = 3  # proxies that one fetch tries, each for at most the time to connect


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
    """For looking up, connecting and the TLS handshake together; through a proxy, once for the way to the proxy
    and its answer, and once for the rest."""
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
    proxy: tuple[str, ...] = ()
    """`http[s]|socks4|socks5://[user:password@]host:port`, dealt out to hosts; see worker/proxies.py. A proxy
    decides itself which addresses are reached."""
    host_proxies: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Shell patterns of host keys, and the proxies of those hosts instead of `proxy`: the last that matches
    counts; none means a direct connection."""
    per_ip: int = 32
    """Hosts of one address that are fetched at once; 0: any number. Loopback is exempt."""


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
        self._ways = Ways(settings)
        self._gate = AddressGate(settings.per_ip) if settings.per_ip else None
        self._allowed = parse_allowed(settings.allow_private)
        self._connect = min(settings.connect, settings.total)
        self._timeout = _connect_timeout(self._connect)
        self._proxied_timeout = _connect_timeout(2 * self._connect)
        self._connector: Connector | None = None

    async def start(self) -> None:
        """Read the trust store and open the resolver. Nothing is connected yet."""
        if self._connector is not None:
            return
        settings = self.settings
        if self._resolver is None:
            self._resolver = Resolver(ResolverSettings(hosts=settings.hosts))
        self._connector = Connector(
            allowed=self._allowed,
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
        if self._gate is not None:
            self._gate.close()
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

    @property
    def waiting_for_address(self) -> int:
        """Fetches that wait because `per_ip` hosts of their address are being fetched."""
        return 0 if self._gate is None else self._gate.waiting

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
        download: tuple[BeginDownload, SendPiece] | None = None,
    ) -> Exchange | Failure | NotSent:
        """Fetch a canonical URL.

        `may_write` is asked each time the request is about to be written. `headers` replace the fixed ones
        of the same name. `max_bytes` bounds the payload as it comes over the wire. `accept_body` is asked
        when the head has come; on False the body is not read and the connection is closed.

        `download`: asked first, for what is to be read as one, which `max_bytes` and `accept_body` do not hold for;
        and who takes its pieces, one at a time, while the clocks rest. The time-out for the whole fetch then holds
        for each piece. Bytes are given back to the budget (`Hold.shrink`) by whoever took the piece.

        While the budget for bodies is spent, or `per_ip` hosts of the address are being fetched, it waits here;
        that counts against no time-out. The caller releases the exchange (or drops it) when its payload is no
        longer needed.
        """
        connector = self._connector
        if connector is None:
            raise RuntimeError("the fetcher was not started, or is closed")
        if self.budget.spent:
            await self.budget.entrance()
        begun = self._clock()
        try:
            way, target = self._ways.of(url, begun)
            head = way.head(method, target, headers, body)
        except ValueError as error:
            return Failure(Outcome.UNSUPPORTED, "bad_request", str(error), False, self._clock(), 0.0)
        request = _Request(
            url, method, way, target, headers, head, body, begun, max_bytes, may_write, accept_body, download
        )
        try:
            if way.gated and self._gate is not None:
                if way.address is not None:
                    request.place = self._gate.enter_now(way.address, way.host)
                if request.place is None:
                    await self._enter(request)
            while True:
                try:
                    return await self._exchange(connector, request)
                except ProxyFailed as error:
                    if not self._turn_to_next_proxy(request, error):
                        raise
                except FOREIGN:
                    if not request.stale:
                        raise
        except FOREIGN as error:
            ended = self._clock()
            outcome, reason = translate(error, request.written)
            if self._connector is not connector and not request.written:
                return NotSent("closing", "the fetcher was closed", ended)
            if outcome is None:
                return NotSent(reason, prose(error), ended)
            ip = request.ip or self._known_address(request.way, error)
            return Failure(outcome, reason, prose(error), request.written, ended, ended - request.begun, ip)
        finally:
            if request.place is not None and self._gate is not None:
                self._gate.leave(request.place)

    async def _enter(self, request: _Request) -> None:
        """Wait for a place among the hosts of this host's address, looked up first if it is not known."""
        way, gate, resolver = request.way, self._gate, self._resolver
        assert gate is not None and resolver is not None
        if way.address is None:
            async with asyncio.timeout(self._connect):
                addresses = await resolver.addresses(way.host)
            allowed = [address for address in addresses if refusal(address, self._allowed) is None]
            if not allowed:
                return  # the connector says so
            way.note_address(allowed[0])
            if not way.gated:
                return
        asked = self._clock()
        request.looked_up = asked - request.begun
        assert way.address is not None
        request.place = await gate.enter(way.address, way.host)
        request.begun += self._clock() - asked

    def _known_address(self, way: Way, error: BaseException) -> str | None:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, AddressRefused):
            return cause.address
        if way.proxy is not None or self._resolver is None:
            return None
        known = self._resolver.known(way.host)
        return known[0] if known else None

    def _turn_to_next_proxy(self, request: _Request, error: ProxyFailed) -> bool:
        """After a failure on the way through a proxy: whether another one is to be tried, which is set then."""
        proxy = request.way.proxy
        assert proxy is not None
        if not error.broken:
            return False
        at = self._clock()
        proxy.rests_until = at + REST_SECONDS
        request.proxies_tried += 1
        if request.proxies_tried >= _PROXIES_A_FETCH:
            return False
        way = request.way.working(at)
        if way is None:
            return False
        request.way = way
        request.head = way.head(request.method, request.target, request.headers, request.body)
        return True

    async def _exchange(self, connector: Connector, request: _Request) -> Exchange | NotSent:
        settings, way = self.settings, request.way
        timeout = self._timeout if way.proxy is None else self._proxied_timeout
        if request.looked_up > _NOTICED:
            timeout = _connect_timeout(max(self._connect - request.looked_up, _NOTICED))
        connection, wire, reused = await connector.take(way.origin, timeout, fresh=request.stale)
        request.stale = False
        keep = False
        if way.proxy is None:
            request.ip = wire.ip
            if not reused and self._gate is not None:
                self._arrived_at(request, wire.ip)
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
            room = request.max_bytes + request.max_bytes // 4 + _FRAMING
            connector.watch(wire, request.begun + settings.total - sent, room)
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
                message, content = await final_answer(wire, message)
            if message.code == 407 and way.proxy is not None and not way.proxy.tunnels_all and way.plain:
                request.written = False  # the host has seen nothing
                raise ProxyFailed(way.proxy, "authentication", f"407 {message.reason}".rstrip())
            accept_body, file = request.accept_body, None
            if request.download is not None:
                file = request.download[0](message.code, message.headers)
            rejected = (
                file is None and accept_body is not None and not accept_body(message.code, message.headers)
            )
            payload, truncated, hold = b"", None, None
            if file is not None and request.download is not None:
                if file.broken is None:
                    truncated, hold = await handed_on(
                        wire, message, content, self.budget, file, request.download[1], settings.total
                    )
            elif not rejected:
                payload, truncated, hold = await whole_body(
                    wire, message, content, self.budget, request.max_bytes
                )
            ended = self._clock()
            keep = truncated is None and not rejected and (file is None or file.broken is None)
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
                request.ip,
                request.head,
                hold,
                file,
            )
        finally:
            connector.give_back(connection, wire, keep=keep)

    def _arrived_at(self, request: _Request, ip: str | None) -> None:
        """A new connection was made: to which address, is known for certain now."""
        place = request.place
        request.way.note_address(ip)
        if place is not None and ip is not None and ip != place.address and self._gate is not None:
            self._gate.move(place, ip)


class _Request:
    """One call of `fetch` on its way. Mutable: what happened must be known when it fails."""

    __slots__ = (
        "accept_body",
        "begun",
        "body",
        "download",
        "head",
        "headers",
        "ip",
        "looked_up",
        "max_bytes",
        "may_write",
        "method",
        "place",
        "proxies_tried",
        "repeatable",
        "stale",
        "target",
        "url",
        "way",
        "written",
    )

    def __init__(
        self,
        url: str,
        method: str,
        way: Way,
        target: str,
        headers: Mapping[str, str] | None,
        head: bytes,
        body: bytes | None,
        begun: float,
        max_bytes: int,
        may_write: Callable[[], bool],
        accept_body: AcceptBody | None,
        download: tuple[BeginDownload, SendPiece] | None,
    ) -> None:
        self.download = download
        self.url = url
        self.method = method
        self.way = way
        self.target = target
        self.headers = headers
        self.head = head
        self.body = body
        self.begun = begun
        self.max_bytes = max_bytes
        self.may_write = may_write
        self.accept_body = accept_body
        self.repeatable = body is None and method in ("GET", "HEAD")
        self.written = False  # it may have reached the server
        self.stale = False  # the server had given up the kept connection it was written to
        self.ip: str | None = None  # connected to, if not through a proxy
        self.place: Place | None = None  # its place at the gate
        self.looked_up = 0.0  # seconds that looking up took, before the gate
        self.proxies_tried = 0


def _connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=seconds, ceil_threshold=float("inf"))
