"""The connections of a worker process: made, judged, kept, bounded, and ended when they are late.

aiohttp's connector does the work (pool, TLS, proxies, happy eyeballs) and its response parser reads the
answers; what is overridden here is what a crawler needs otherwise, marked below, because it rests on names
with an underscore: constraints.txt pins aiohttp, and tests/loopback/test_fetcher.py fails if an upgrade
moves them.

It knows nothing of requests. Who takes a connection gives it back.

Invariants:
  1. No socket is connected to an address that worker/addresses.py refuses: judged on the address itself,
     where the socket is about to be connected, whatever name or literal led there. Only the way to a proxy is
     not judged: that address is the operator's choice, and what lies behind it is the proxy's.
  2. At most `concurrency` connections idle.
  3. A proxy's certificate is verified, whatever `--insecure` says of the host.

Read next: worker/fetcher.py, worker/proxies.py.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from functools import cached_property
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from worker.addresses import Allowed, refusal
from worker.mending import mended
from worker.proxies import Proxy, ProxyFailed, Reason
from worker.resolver import LookupFailed

NO_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors that say that this machine has no file or port left."""

_INTERIM_ANSWERS = 8  # 1xx answers of a proxy before the real one
_PROXY_ANSWER = 1 << 20  # bytes of a proxy's answer to CONNECT, at most
_SLICE = 20  # a time-out is noticed late by at most this part of it, or by a second


class TotalTimeout(aiohttp.ServerTimeoutError):
    """The time for the whole fetch is over."""


class TooMuch(aiohttp.ClientPayloadError):
    """More bytes came than the largest body with its head and its framing takes."""


class AddressRefused(OSError):
    """An address that must not be connected to; `kind` as in `worker.addresses.refusal`."""

    def __init__(self, kind: str, address: str) -> None:
        super().__init__(errno.EACCES, f"{address} is a {kind.replace('_', '-')} address")
        self.kind = kind
        self.address = address


class Origin(ClientRequest):
    """Where to connect, and through what. aiohttp wants a request for that; this one is never sent."""

    def __init__(self, url: URL, *, verified: bool, proxy: Proxy | None) -> None:
        host = url.raw_host or ""
        super().__init__(
            "GET",
            url,
            loop=asyncio.get_running_loop(),
            ssl=verified,
            proxy=None if proxy is None else proxy.url,
            # Certificates hold names without the final dot; aiohttp sees to that for direct connections only.
            server_hostname=host.rstrip(".") if url.scheme == "https" else None,
        )
        self.through = proxy

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """What connections must have in common to serve for each other. Asked for with every fetch; never changes."""
        key = super().connection_key
        # Two proxies may differ in nothing but the user.
        return key if self.through is None else key._replace(proxy_headers_hash=id(self.through))


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

    def _start(self, remaining: float, room: int) -> None:
        self._room = room
        self._heard = self._loop.time()
        self._deadline = self._heard + remaining
        self._resting = None

    def _check(self, at: float, silence: float) -> None:
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


class Connector(aiohttp.TCPConnector):
    """The pool. Make it inside the running loop; `close` ends every connection, idle or not."""

    def __init__(
        self,
        *,
        allowed: Allowed,
        resolver: AbstractResolver,
        trust: ssl.SSLContext,
        keepalive: float,
        idle_bound: int,
        silence: float,
        total: float,
    ) -> None:
        """Times in seconds."""
        super().__init__(
            limit=0,  # the caller keeps to its concurrency; a queue here would eat into the connect time-out
            ssl=trust,
            use_dns_cache=False,
            resolver=_Judged(resolver, allowed),
            keepalive_timeout=keepalive,
            socket_factory=self._judged_socket,
        )
        self._factory = functools.partial(self._new_wire)  # overrides the protocol class
        self._allowed = allowed
        self._unjudged = resolver
        self._idle_bound = idle_bound
        self._silence = silence
        self._in_use: dict[Wire, None] = {}
        self._pace = max(0.01, min(1.0, silence / _SLICE, total / _SLICE))
        self._sweeper = self._loop.call_later(self._pace, self._sweep)
        self.idle = 0
        """Connections that wait for their next request."""

    @property
    def in_use(self) -> int:
        """Connections with a request on them."""
        return len(self._in_use)

    async def take(
        self, request: Origin, timeout: aiohttp.ClientTimeout, *, fresh: bool
    ) -> tuple[Connection, Wire, bool]:
        """A connection for this origin, and whether it was kept from an earlier exchange.

        `fresh`: a new one only; those that idle for this origin are closed. Of `timeout` the `connect` counts;
        through a proxy, half of it for the way to the proxy and its answer.
        """
        while True:
            try:
                connection = await self.connect(request, [], timeout)
            except (aiohttp.ClientError, OSError):  # some of these are ValueErrors, too
                raise
            except ValueError as error:  # a host name that ssl cannot encode, such as a..b behind a proxy
                raise aiohttp.InvalidURL(request.url, str(error)) from error
            wire = connection.protocol
            assert isinstance(wire, Wire)
            if not wire.idle:
                return connection, wire, False
            wire.idle = False
            self.idle -= 1
            # `should_close`: bytes that nobody asked for have come; they must not pass as the next answer.
            if not fresh and not wire.should_close:
                return connection, wire, True
            connection.close()

    def watch(self, wire: Wire, remaining: float, room: int) -> None:
        """The request is written: count the silence, the seconds that `remain` for the whole fetch, and the bytes
        that there is `room` for, of body, head and framing."""
        wire._start(remaining, room)
        self._in_use[wire] = None

    def give_back(self, connection: Connection, wire: Wire, *, keep: bool) -> None:
        """Done with it. `keep`: it may serve again."""
        self._in_use.pop(wire, None)
        if keep and self.idle < self._idle_bound and not wire.should_close and wire.is_connected():
            wire.idle = True
            self.idle += 1
            connection.release()
        else:
            connection.close()

    async def close(self, *, abort_ssl: bool = False) -> None:
        self._sweeper.cancel()
        await super().close(abort_ssl=abort_ssl)

    def _new_wire(self) -> ResponseHandler:
        return Wire(self._loop, self)

    def _sweep(self) -> None:
        at = self._loop.time()
        for wire in list(self._in_use):
            wire._check(at, self._silence)
        self._sweeper = self._loop.call_later(self._pace, self._sweep)

    def _judge(self, address: str) -> None:
        kind = refusal(address, self._allowed)
        if kind is not None:
            raise AddressRefused(kind, address)

    def _judged_socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        self._judge(address[0])
        return socket.socket(family, kind, protocol)

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[Any],
        req: ClientRequest,
        timeout: aiohttp.ClientTimeout,
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        # Overridden for the usual case of one address: uvloop then connects by itself, without a socket
        # object of Python's in between, for 170 µs a connection instead of 260.
        if len(addr_infos) > 1:
            return await super()._wrap_create_connection(
                *args, addr_infos=addr_infos, req=req, timeout=timeout, client_error=client_error, **kwargs
            )
        address = addr_infos[0][4]
        key = req.connection_key
        connect: Any = self._loop.create_connection
        try:
            self._judge(address[0])
            made: tuple[asyncio.Transport, ResponseHandler] = await connect(
                *args, **kwargs, host=address[0], port=address[1]
            )
        except ssl.CertificateError as error:
            raise aiohttp.ClientConnectorCertificateError(key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(key, error) from error
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            raise client_error(key, error) from error
        else:
            return made

    # ---------------------------------------------------------------------------------------- through a proxy

    def _update_proxy_auth_header_and_build_proxy_req(self, req: ClientRequest) -> ClientRequest:
        return req  # overrides what aiohttp makes for each fetch through a proxy; `_tunnel` has no need of it

    async def _create_proxy_connection(
        self, req: ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        # Overridden because aiohttp knows no SOCKS, takes --insecure of the host for the proxy as well, and
        # does not tell a proxy's failures from the host's.
        assert isinstance(req, Origin) and req.through is not None
        proxy = req.through
        context = self._get_ssl_context(req)
        try:
            # With the whole of it, nothing would be left to tell whose time-out it was.
            async with asyncio.timeout(None if timeout.connect is None else timeout.connect / 2):
                way = await self._tunnel(proxy, req, context is not None)
        except TimeoutError:
            raise ProxyFailed(proxy, "timeout", "no answer in time") from None
        if isinstance(way, socket.socket):
            return await self._wrap_existing_connection(
                self._factory,
                req=req,
                timeout=timeout,
                sock=way,
                ssl=context,
                server_hostname=req.server_hostname if context is not None else None,
            )
        transport, wire = way
        if context is None:
            return transport, wire
        return await self._start_tls_connection(transport, req=req, timeout=timeout)

    async def _tunnel(
        self, proxy: Proxy, req: Origin, tls: bool
    ) -> socket.socket | tuple[asyncio.Transport, Wire]:
        """The way through a proxy, as far as it is the proxy's. Raises `ProxyFailed`."""
        host, port = req.url.raw_host, req.port
        assert host is not None and port is not None
        host = host.rstrip(".")
        failed: OSError = LookupFailed(proxy.host, "no_address")
        try:
            addresses = [result["host"] for result in await self._addresses_of(proxy)]
        except LookupFailed as error:
            addresses, failed = [], error
        for address in addresses:
            try:
                if proxy.tunnels_all:
                    return await proxy.socks_tunnel(address, host, port)
                transport, wire = await self._connect_to(proxy, address)
            except (ProxyFailed, ssl.SSLError):
                raise
            except OSError as error:
                if error.errno in NO_SOCKETS:
                    raise
                failed = error
                continue
            if tls:
                await self._ask_for_tunnel(proxy, wire, transport, proxy.connect_request(host, port))
            return transport, wire
        raise ProxyFailed(proxy, "unreachable", failed) from failed

    async def _addresses_of(self, proxy: Proxy) -> list[ResolveResult]:
        if ":" in proxy.host or proxy.host.replace(".", "").isdigit():
            return [ResolveResult(hostname="", host=proxy.host, port=0, family=0, proto=0, flags=0)]
        return await self._unjudged.resolve(proxy.host, proxy.port)

    async def _connect_to(self, proxy: Proxy, address: str) -> tuple[asyncio.Transport, Wire]:
        connect: Any = self._loop.create_connection
        tls = {"ssl": self._ssl, "server_hostname": proxy.host} if proxy.scheme == "https" else {}
        try:
            made: tuple[asyncio.Transport, Wire] = await connect(
                self._factory, host=address, port=proxy.port, **tls
            )
        except ssl.SSLError as error:
            raise ProxyFailed(proxy, "tls", error) from error
        return made

    async def _ask_for_tunnel(
        self, proxy: Proxy, wire: Wire, transport: asyncio.Transport, request: bytes
    ) -> None:
        """CONNECT, until the proxy says that the tunnel stands."""
        wire.set_response_params(read_until_eof=True)
        try:
            transport.write(request)
            status, said = 100, ""
            for _ in range(_INTERIM_ANSWERS):
                if status >= 200:
                    break
                message, _body = await wire.read()
                status, said = message.code, message.reason
            if not 200 <= status < 300:
                reason = connect_refusal(status)
                raise ProxyFailed(proxy, reason, f"{status} {said or ''}".rstrip())
        except (aiohttp.ClientError, HttpProcessingError) as error:
            wire.close()
            raise ProxyFailed(proxy, "bad_reply", str(error) or type(error).__name__) from error
        except BaseException:
            wire.close()
            raise


def connect_refusal(status: int) -> Reason:
    """Why a proxy that answers so does not open a tunnel."""
    if status in (401, 407):  # 401 to a CONNECT is the proxy's as well; tinyproxy says so
        return "authentication"
    if status < 200:
        return "bad_reply"
    return "gateway" if status >= 500 else "refused"


class _Judged(AbstractResolver):
    """Leaves out the refused addresses of a name: one with good and bad ones is fetched from the good.

    Every address is judged again when it is connected to: that alone sees literals.
    """

    def __init__(self, resolver: AbstractResolver, allowed: Allowed) -> None:
        self._resolver = resolver
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        good: list[ResolveResult] = []
        refused: AddressRefused | None = None
        for result in await self._resolver.resolve(host, port, family):
            kind = refusal(result["host"], self._allowed)
            if kind is None:
                good.append(result)
            elif refused is None:
                refused = AddressRefused(kind, result["host"])
        if refused is not None and not good:
            raise refused
        return good

    async def close(self) -> None:
        """The resolver belongs to whoever made it."""


def trust_store() -> ssl.SSLContext:
    """A context that verifies, with the certificate authorities of the system.

    Where the system has none (slim container images, some builds of Python look in the wrong place), those of
    certifi are taken if it is installed; else every HTTPS fetch fails with `tls_unknown_issuer`, which is
    true. Reads files; call it once.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not context.cert_store_stats()["x509_ca"] and ssl.get_default_verify_paths().capath is None:
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context
