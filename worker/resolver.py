"""From a host name to its addresses, remembered and asked for once.

Order: the hosts file given with `--hosts-file`; `localhost` and what ends in it (RFC 6761: loopback, never
asked for); what is remembered; DNS, through c-ares, which looks into the system's own hosts file first and
does not try the system's search domains (a link to `intranet` must not become `intranet.example.com`).

However many coroutines want a name, it is looked up once; if the one that asked first is cancelled, the
others still get the answer. Answers are kept for their time to live, clamped; failures for a shorter time.
The table is bounded: what was not asked for longest goes first.

It does not judge addresses (worker/addresses.py does, at connect time) and knows nothing of HTTP. c-ares
runs in a thread of its own and calls back into the loop, so uvloop needs no care.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiodns
import pycares
from aiohttp.abc import AbstractResolver, ResolveResult

from common.clock import now

Lookup = Callable[[str], Awaitable[tuple[tuple[str, ...], float]]]
"""Asks for all addresses of a name: (addresses, time to live in seconds). Raises `LookupFailed`."""

MOST_ADDRESSES = 16
"""Addresses of a name that are kept: more are never tried within one time to connect, and an answer over TCP may
hold thousands."""

_LOCAL = ("127.0.0.1", "::1")

_REASONS = {
    aiodns.error.ARES_ENOTFOUND: "nxdomain",
    aiodns.error.ARES_ENODATA: "no_address",
    aiodns.error.ARES_ESERVFAIL: "servfail",
    aiodns.error.ARES_EREFUSED: "dns_refused",
    aiodns.error.ARES_ENOTIMP: "dns_refused",
    aiodns.error.ARES_ETIMEOUT: "dns_timeout",
    aiodns.error.ARES_ECONNREFUSED: "dns_unreachable",
    26: "dns_unreachable",  # ARES_ENOSERVER: none is configured; pycares has no name for it yet
    aiodns.error.ARES_EBADNAME: "bad_name",
    aiodns.error.ARES_EFORMERR: "bad_answer",
    aiodns.error.ARES_EBADRESP: "bad_answer",
}
_LASTING = frozenset({"nxdomain", "no_address", "bad_name"})
"""Failures that are an answer; all others say only that none could be had."""


class LookupFailed(OSError):
    """A name that gave no address.

    `reason`: `nxdomain`, `no_address`, `servfail`, `dns_refused`, `dns_timeout`, `dns_unreachable` (no name
    server can be reached), `bad_name`, `bad_answer` or `dns_error`. An OSError because aiohttp expects one
    of a resolver.
    """

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """How names are looked up. Times in seconds."""

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name, lower case without a final dot, to addresses; from --hosts-file."""
    nameservers: tuple[str, ...] = ()
    """Addresses, with a port if need be (`127.0.0.1:5353`); none: those of the system."""
    timeout: float = 3.0
    """For one question to one server; the second try waits twice as long."""
    tries: int = 2
    overall: float = 8.0
    """For one name in all: shorter than the connect time-out (10 s), so that the failure names DNS."""
    shortest: float = 60.0
    """Lower clamp of the time to live: names that change by the second are not asked for each page."""
    longest: float = 3600.0
    """Upper clamp: a site that moved is found within the hour."""
    failed_answer: float = 300.0
    """How long `nxdomain` and its like are believed."""
    failed_try: float = 15.0
    """How long a failure of the name servers is: retries come later than that."""
    capacity: int = 100_000
    """Names remembered; about 400 bytes each."""
    questions: int = 10_000
    """Asked of one channel of c-ares, which remembers about 2 KB of each by itself."""


class Resolver(AbstractResolver):
    """The resolver of a worker process. Make it inside the running loop; close it after the connector."""

    def __init__(
        self, settings: ResolverSettings, *, lookup: Lookup | None = None, clock: Callable[[], float] = now
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._own = None if lookup is not None else _Ares(settings)
        self._lookup: Lookup = lookup if lookup is not None else self._own_lookup()
        # Python's dicts keep order: the first key is the one not asked for longest.
        self._known: dict[str, tuple[float, tuple[str, ...], str | None]] = {}
        self._asked: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a name, in the form aiohttp wants. Raises `LookupFailed`."""
        addresses = await self.addresses(host)
        results = [_result(host, address, port) for address in addresses if _is_of(address, family)]
        if not results:
            raise LookupFailed(host, "no_address")
        return results

    def known(self, host: str) -> tuple[str, ...]:
        """The addresses that are remembered of a name, or the literal itself; empty if none are. Asks nobody."""
        name = host.lower().rstrip(".")
        if ":" in name or name.replace(".", "").isdigit():
            return (name,)
        mapped = self._settings.hosts.get(name)
        if mapped:
            return mapped
        remembered = self._known.get(name)
        return () if remembered is None else remembered[1]

    def until(self, host: str) -> float | None:
        """Until when what is remembered of a name holds, by the clock given; None: nothing is."""
        remembered = self._known.get(host.lower().rstrip("."))
        return None if remembered is None else remembered[0]

    async def addresses(self, host: str) -> tuple[str, ...]:
        """All addresses of a name, at least one. Raises `LookupFailed`."""
        name = host.lower().rstrip(".")
        mapped = self._settings.hosts.get(name)
        if mapped:
            return mapped
        if name == "localhost" or name.endswith(".localhost"):
            return _LOCAL
        remembered = self._known.pop(name, None)
        if remembered is not None and self._clock() < remembered[0]:
            self._known[name] = remembered  # to the end: lately asked for
            if remembered[2] is not None:
                raise LookupFailed(name, remembered[2])
            return remembered[1]
        task = self._asked.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(name), name=f"dns {name}")
            self._asked[name] = task
            task.add_done_callback(_look_at)
        # Shielded: a fetch that is cancelled must not take the answer from the others that wait for it.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Forget everything; whoever still waits is cancelled."""
        for task in list(self._asked.values()):
            task.cancel()
        self._known.clear()
        if self._own is not None:
            await self._own.close()

    async def _ask(self, name: str) -> tuple[str, ...]:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.overall):
                addresses, ttl = await self._lookup(name)
        except TimeoutError:
            self._remember(name, (), "dns_timeout", settings.failed_try)
            raise LookupFailed(name, "dns_timeout") from None
        except LookupFailed as failed:
            lasting = failed.reason in _LASTING
            self._remember(
                name, (), failed.reason, settings.failed_answer if lasting else settings.failed_try
            )
            raise
        finally:
            del self._asked[name]
        if not addresses:
            self._remember(name, (), "no_address", settings.failed_answer)
            raise LookupFailed(name, "no_address")
        self._remember(name, addresses, None, min(max(ttl, settings.shortest), settings.longest))
        return addresses

    def _remember(self, name: str, addresses: tuple[str, ...], reason: str | None, ttl: float) -> None:
        self._known.pop(name, None)
        while len(self._known) >= self._settings.capacity:
            del self._known[next(iter(self._known))]
        self._known[name] = (self._clock() + ttl, addresses, reason)

    def _own_lookup(self) -> Lookup:
        assert self._own is not None
        return self._own.lookup


class _Ares:
    """The question to c-ares.

    c-ares remembers answers itself, for up to an hour, without a bound and without a switch that pycares knows:
    2 KB a name. So a channel serves for `ResolverSettings.questions`, and then another one does, which knows nothing.
    """

    def __init__(self, settings: ResolverSettings) -> None:
        self._settings = settings
        self._family = socket.AF_UNSPEC if _has_ipv6() else socket.AF_INET
        self._channel = self._open()
        self._asked = 0
        self._waiting: dict[aiodns.DNSResolver, int] = {}  # questions that each channel has yet to answer

    async def lookup(self, name: str) -> tuple[tuple[str, ...], float]:
        if self._asked >= self._settings.questions:
            retired, self._channel, self._asked = self._channel, self._open(), 0
            if retired not in self._waiting:
                await retired.close()
        self._asked += 1
        channel = self._channel
        self._waiting[channel] = self._waiting.get(channel, 0) + 1
        try:
            answer = await channel.getaddrinfo(name, family=self._family, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            code = error.args[0] if error.args else None
            raise LookupFailed(name, _REASONS.get(code, "dns_error")) from error
        finally:
            self._waiting[channel] -= 1
            if not self._waiting[channel]:
                del self._waiting[channel]
                if channel is not self._channel:
                    await channel.close()
        addresses: dict[str, None] = {}
        ttl = float("inf")
        for node in answer.nodes:
            addresses[node.addr[0].decode("ascii")] = None
            ttl = min(ttl, node.ttl)
        return _some(tuple(addresses)), ttl

    async def close(self) -> None:
        for channel in {*self._waiting, self._channel}:
            await channel.close()

    def _open(self) -> aiodns.DNSResolver:
        settings = self._settings
        return aiodns.DNSResolver(
            nameservers=settings.nameservers or None,
            timeout=settings.timeout,
            tries=settings.tries,
            flags=pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_EDNS,  # EDNS is c-ares' own default
        )


def _some(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """At most MOST_ADDRESSES, of both families where there are both; their order stays."""
    if len(addresses) <= MOST_ADDRESSES:
        return addresses
    of_4 = [address for address in addresses if ":" not in address]
    of_6 = [address for address in addresses if ":" in address]
    share = min(len(of_4), max(MOST_ADDRESSES // 2, MOST_ADDRESSES - len(of_6)))
    taken = {*of_4[:share], *of_6[: MOST_ADDRESSES - share]}
    return tuple(address for address in addresses if address in taken)


def _has_ipv6() -> bool:
    """Whether this machine has a route to IPv6; without one, half of all questions would be for nothing.

    Connecting a UDP socket sends nothing: the kernel only looks for a route.
    """
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:4860:4860::8888", 53))
    except OSError:
        return False
    return True


def _is_of(address: str, family: int) -> bool:
    if family == socket.AF_UNSPEC:
        return True
    return (":" in address) == (family == socket.AF_INET6)


def _result(host: str, address: str, port: int) -> ResolveResult:
    return {
        "hostname": host,
        "host": address,
        "port": port,
        "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
        "proto": socket.IPPROTO_TCP,
        "flags": socket.AI_NUMERICHOST,
    }


def _look_at(task: asyncio.Task[tuple[str, ...]]) -> None:
    """When all who waited were cancelled, the failure is in the table; asyncio need not complain of it."""
    if not task.cancelled():
        task.exception()
