"""The connections of a worker process: made, judged, kept, given out, and looked at when they may be late.

aiohttp's connector does the work (pool, TLS, proxies, happy eyeballs); what is overridden here is what a crawler
needs otherwise, marked below, because it rests on names with an underscore: constraints.txt pins aiohttp, and
tests/loopback/test_fetcher.py fails if an upgrade moves them.

It knows nothing of requests. Who takes a connection gives it back. What a single one does: worker/connection.py.

Invariants:
  1. No socket is connected to an address that worker/addresses.py refuses: judged on the address itself,
     where the socket is about to be connected, whatever name or literal led there. Only the way to a proxy is
     not judged: that address is the operator's choice, and what lies behind it is the proxy's.
  2. At most `concurrency` connections idle.
  3. A proxy's certificate is verified, whatever `--insecure` says of the host.

Read next: worker/connection.py, worker/fetcher.py, worker/proxies.py.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from functools import cached_property
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from worker.addresses import Allowed, refusal
from worker.connection import Wire
from worker.proxies import Proxy, ProxyFailed, Reason
from worker.resolver import LookupFailed

NO_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors that say that this machine has no file or port left."""

_INTERIM_ANSWERS = 8  # 1xx answers of a proxy before the real one
_SLICE = 20  # a time-out is noticed late by at most this part of it, or by a second


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
        wire.begin(remaining, room)
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
            wire.look(at, self._silence)
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
