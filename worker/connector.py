"""The connections of a worker process: made, judged, kept, bounded, and ended when they are late.

aiohttp's connector does the work (pool, TLS, proxies, happy eyeballs) and its response parser reads the
answers; what is overridden here is what a crawler needs otherwise, marked below, because it rests on names
with an underscore: constraints.txt pins aiohttp, and tests/loopback/test_fetcher.py fails if an upgrade
moves them.

It knows nothing of requests. Who takes a connection gives it back.

Invariants:
  1. No socket is connected to an address that worker/addresses.py refuses: judged on the address itself,
     where the socket is about to be connected, whatever name or literal led there.
  2. At most `concurrency` connections idle.

Read next: worker/fetcher.py.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection

from worker.addresses import Allowed, refusal

_SLICE = 20  # a time-out is noticed late by at most this part of it, or by a second


class TotalTimeout(aiohttp.ServerTimeoutError):
    """The time for the whole fetch is over."""


class AddressRefused(OSError):
    """An address that must not be connected to; `kind` as in `worker.addresses.refusal`."""

    def __init__(self, kind: str, address: str) -> None:
        super().__init__(errno.EACCES, f"{address} is a {kind.replace('_', '-')} address")
        self.kind = kind


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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.ip = peer[0] if isinstance(peer, tuple) else None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.idle:
            self.idle = False
            self._connector.idle -= 1
        super().connection_lost(exc)

    def rest(self) -> None:
        """Stop the clocks: we are the ones who wait, for memory."""
        self._resting = self._loop.time()

    def resume(self) -> None:
        """Let the clocks go on."""
        if self._resting is not None:
            self._heard = self._loop.time()
            self._deadline += self._heard - self._resting
            self._resting = None

    def _start(self, remaining: float) -> None:
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


class Connector(aiohttp.TCPConnector):
    """The pool. Make it inside the running loop; `close` ends every connection, idle or not."""

    def __init__(
        self,
        *,
        allowed: Allowed | None,
        resolver: AbstractResolver,
        trust: ssl.SSLContext,
        keepalive: float,
        idle_bound: int,
        silence: float,
        total: float,
    ) -> None:
        """`allowed` None: addresses are not judged, because the only peer is the proxy. Times in seconds."""
        super().__init__(
            limit=0,  # the caller keeps to its concurrency; a queue here would eat into the connect time-out
            ssl=trust,
            use_dns_cache=False,
            resolver=resolver if allowed is None else _Judged(resolver, allowed),
            keepalive_timeout=keepalive,
            socket_factory=self._judged_socket,
        )
        self._factory = functools.partial(self._new_wire)  # overrides the protocol class
        self._allowed = allowed
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
        self, request: ClientRequest, timeout: aiohttp.ClientTimeout, *, fresh: bool
    ) -> tuple[Connection, Wire, bool]:
        """A connection for this origin, and whether it was kept from an earlier exchange.

        `fresh`: a new one only; those that idle for this origin are closed.
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

    def watch(self, wire: Wire, remaining: float) -> None:
        """The request is written: count the silence, and the seconds that `remain` for the whole fetch."""
        wire._start(remaining)
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
        if self._allowed is not None:
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
