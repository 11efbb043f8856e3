"""The resolver against a name server of the test's own, and against none."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from tests.support.serving import OK, SETTINGS, fetching, get, serving
from worker.fetcher import Failure
from worker.resolver import MOST_ADDRESSES, LookupFailed, Resolver, ResolverSettings

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5


class Clock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Questions:
    """A lookup that notes what it is asked; a name without an answer is `nxdomain`."""

    def __init__(self, **answers: tuple[tuple[str, ...], float] | str) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, name: str) -> tuple[tuple[str, ...], float]:
        self.asked.append(name)
        await self.gate.wait()
        answer = self.answers.get(name.partition(".")[0], "nxdomain")
        if isinstance(answer, str):
            raise LookupFailed(name, answer)
        return answer


async def reason(resolver: Resolver, name: str) -> str:
    with pytest.raises(LookupFailed) as caught:
        await resolver.addresses(name)
    return caught.value.reason


async def test_the_hosts_file_comes_first_and_localhost_is_never_asked_for() -> None:
    lookup = Questions()
    settings = ResolverSettings(hosts={"a.test": ("10.0.0.1", "fd00::1"), "localhost": ("127.0.0.9",)})
    resolver = Resolver(settings, lookup=lookup)
    assert await resolver.addresses("a.test") == ("10.0.0.1", "fd00::1")
    assert await resolver.addresses("A.Test.") == ("10.0.0.1", "fd00::1")
    assert await resolver.addresses("localhost") == ("127.0.0.9",)
    assert await resolver.addresses("x.localhost.") == ("127.0.0.1", "::1")
    assert lookup.asked == []
    await resolver.close()


async def test_a_name_is_asked_for_once_however_many_want_it() -> None:
    lookup = Questions(a=(("192.0.2.1",), 60.0))
    lookup.gate.clear()
    resolver = Resolver(ResolverSettings(), lookup=lookup)
    impatient = asyncio.create_task(resolver.addresses("a.test"))
    others = [asyncio.create_task(resolver.addresses("A.test")) for _ in range(50)]
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    lookup.gate.set()
    assert await asyncio.gather(*others) == [("192.0.2.1",)] * 50
    assert lookup.asked == ["a.test"]
    await resolver.close()


async def test_answers_are_kept_for_their_time_clamped_at_both_ends() -> None:
    clock = Clock()
    lookup = Questions(short=(("192.0.2.1",), 1.0), long=(("192.0.2.2",), 1e9), right=(("192.0.2.3",), 120.0))
    resolver = Resolver(ResolverSettings(shortest=60.0, longest=3600.0), lookup=lookup, clock=clock)
    for name, kept in (("short.test", 60.0), ("long.test", 3600.0), ("right.test", 120.0)):
        await resolver.addresses(name)
        clock.at += kept - 0.1
        await resolver.addresses(name)
        assert lookup.asked.count(name) == 1
        clock.at += 0.2
        await resolver.addresses(name)
        assert lookup.asked.count(name) == 2
    await resolver.close()


async def test_failures_are_kept_too_an_answer_longer_than_a_try() -> None:
    clock = Clock()
    lookup = Questions(gone="nxdomain", ill="servfail", empty=((), 60.0))
    resolver = Resolver(ResolverSettings(failed_answer=300.0, failed_try=15.0), lookup=lookup, clock=clock)
    for name, code, kept in (
        ("gone.test", "nxdomain", 300.0),
        ("ill.test", "servfail", 15.0),
        ("empty.test", "no_address", 300.0),
    ):
        assert await reason(resolver, name) == code
        clock.at += kept - 0.1
        assert await reason(resolver, name) == code
        assert lookup.asked.count(name) == 1
        clock.at += 0.2
        assert await reason(resolver, name) == code
        assert lookup.asked.count(name) == 2
    await resolver.close()


async def test_the_table_is_bounded_and_forgets_what_was_not_asked_for_longest() -> None:
    lookup = Questions(**{f"n{i}": ((f"192.0.2.{i}",), 600.0) for i in range(5)})
    resolver = Resolver(ResolverSettings(capacity=3), lookup=lookup)
    for name in ("n0", "n1", "n2", "n0", "n3", "n0", "n1"):
        await resolver.addresses(f"{name}.test")
    assert lookup.asked == ["n0.test", "n1.test", "n2.test", "n3.test", "n1.test"]
    await resolver.close()


async def test_a_lookup_that_does_not_end_is_ended() -> None:
    lookup = Questions()
    lookup.gate.clear()
    resolver = Resolver(ResolverSettings(overall=0.05), lookup=lookup)
    assert await reason(resolver, "slow.test") == "dns_timeout"
    await resolver.close()


async def test_results_have_the_form_that_aiohttp_wants() -> None:
    resolver = Resolver(ResolverSettings(hosts={"a.test": ("192.0.2.1", "2001:db8::1")}))
    both = await resolver.resolve("a.test", 80)
    assert [(r["host"], r["port"], r["family"]) for r in both] == [
        ("192.0.2.1", 80, socket.AF_INET),
        ("2001:db8::1", 80, socket.AF_INET6),
    ]
    assert [r["host"] for r in await resolver.resolve("a.test", 80, socket.AF_INET6)] == ["2001:db8::1"]
    await resolver.close()


# -------------------------------------------------------------------------------------------- through c-ares


class NameServer(asyncio.DatagramProtocol):
    """Answers A and AAAA questions from a table: name to (code, time to live, addresses); None: silence."""

    def __init__(self, table: dict[str, tuple[int, int, tuple[str, ...]] | None]) -> None:
        self.table = table
        self.asked: list[tuple[str, int]] = []
        self.question = asyncio.Event()
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(
            "asyncio.DatagramTransport", transport
        )  # neither loop's class says that it is one
        host, port = transport.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        (kind,) = struct.unpack_from("!H", data, at + 1)
        name = ".".join(labels).lower()
        self.asked.append((name, kind))
        self.question.set()
        entry = self.table[name]
        if entry is None:
            return
        code, ttl, addresses = entry
        records = b""
        count = 0
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if (family == socket.AF_INET6) == (kind == AAAA):
                packed = socket.inet_pton(family, address)
                records += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, ttl, len(packed)) + packed
                count += 1
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, count, 0, 0)
        self.transport.sendto(head + data[12 : at + 5] + records, addr)


@asynccontextmanager
async def naming(
    settings: ResolverSettings, **table: tuple[int, int, tuple[str, ...]] | None
) -> AsyncIterator[tuple[NameServer, Resolver]]:
    loop = asyncio.get_running_loop()
    entries = {f"{name}.example": entry for name, entry in table.items()}
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(entries), ("127.0.0.1", 0))
    resolver = Resolver(replace(settings, nameservers=(server.address,)))
    try:
        yield server, resolver
    finally:
        await resolver.close()
        transport.close()


async def test_a_name_server_is_asked_and_believed() -> None:
    addresses = ("192.0.2.7", "192.0.2.8")
    async with naming(ResolverSettings(), good=(NOERROR, 300, addresses)) as (server, resolver):
        assert set(await resolver.addresses("good.example")) == set(addresses)
        assert set(await resolver.addresses("good.example")) == set(addresses)
        assert server.asked.count(("good.example", A)) == 1


async def test_reasons_come_through_from_the_name_server() -> None:
    async with naming(
        ResolverSettings(tries=1, timeout=1.0),
        gone=(NXDOMAIN, 0, ()),
        empty=(NOERROR, 0, ()),
        ill=(SERVFAIL, 0, ()),
        refused=(REFUSED, 0, ()),
        mute=None,
    ) as (_, resolver):
        assert await reason(resolver, "gone.example") == "nxdomain"
        assert await reason(resolver, "empty.example") == "no_address"
        assert await reason(resolver, "ill.example") in {"servfail", "dns_unreachable"}
        assert await reason(resolver, "refused.example") in {"dns_refused", "dns_unreachable"}
        assert await reason(resolver, "mute.example") == "dns_timeout"
        assert await reason(resolver, "x" * 64 + ".example") == "bad_name"
        assert await reason(resolver, "a..example") == "bad_name"


async def test_where_no_name_server_listens_it_fails_with_a_reason() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    resolver = Resolver(ResolverSettings(nameservers=(address,), tries=1, timeout=0.2))
    assert await reason(resolver, "a.example") in {"dns_unreachable", "dns_timeout"}
    await resolver.close()


async def test_closing_while_a_name_is_asked_for_ends_the_wait() -> None:
    async with naming(ResolverSettings(), mute=None) as (server, resolver):
        waiting = asyncio.create_task(resolver.addresses("mute.example"))
        await server.question.wait()
        await resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_one_question_of_each_kind_however_many_ask() -> None:
    async with naming(ResolverSettings(), busy=(NOERROR, 90, ("192.0.2.7",))) as (server, resolver):
        found = await asyncio.gather(*(resolver.addresses("Busy.example.") for _ in range(200)))
        assert set(found) == {("192.0.2.7",)}
        assert server.asked.count(("busy.example", A)) == 1


async def test_the_time_to_live_is_the_name_server_s() -> None:
    clock = Clock()
    async with naming(ResolverSettings(), timed=(NOERROR, 90, ("192.0.2.7",))) as (server, _):
        resolver = Resolver(ResolverSettings(nameservers=(server.address,)), clock=clock)
        await resolver.addresses("timed.example")
        assert resolver.until("timed.example") == clock.at + 90.0
        await resolver.close()


async def test_what_c_ares_remembers_by_itself_is_bounded() -> None:
    """Its own memory has no bound, and 2 KB a name: it is thrown away now and then, amid questions too."""
    table = {f"n{number}": (NOERROR, 3600, ("192.0.2.7",)) for number in range(120)}
    settings = ResolverSettings(capacity=1, questions=50)
    async with naming(settings, first=(NOERROR, 3600, ("192.0.2.7",)), **table) as (
        server,
        resolver,
    ):
        await resolver.addresses("first.example")
        for start in range(0, 120, 20):
            names = [f"n{number}.example" for number in range(start, start + 20)]
            assert await asyncio.gather(*map(resolver.addresses, names)) == [("192.0.2.7",)] * 20
        await resolver.addresses("first.example")
        assert server.asked.count(("first.example", A)) == 2


async def test_a_name_that_is_not_there_is_not_asked_for_again_at_once() -> None:
    async with naming(ResolverSettings(), gone=(NXDOMAIN, 0, ())) as (server, resolver):
        for _ in range(5):
            assert await reason(resolver, "gone.example") == "nxdomain"
        assert len([name for name, kind in server.asked if kind == A]) == 1


async def test_both_families_are_asked_for_where_this_machine_has_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        if self.family == socket.AF_INET6 and self.type == socket.SOCK_DGRAM:
            return  # the network's answer: there is a route
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    both = ("192.0.2.7", "2001:db8::7")
    async with naming(ResolverSettings(), both=(NOERROR, 300, both)) as (server, resolver):
        assert set(await resolver.addresses("both.example")) == set(both)
        assert {kind for _, kind in server.asked} == {A, AAAA}


async def test_of_very_many_addresses_some_are_kept() -> None:
    many = tuple(f"192.0.2.{number}" for number in range(1, 30))
    async with naming(ResolverSettings(), many=(NOERROR, 300, many)) as (_, resolver):
        found = await resolver.addresses("many.example")
        assert len(found) == MOST_ADDRESSES
        assert set(found) < set(many)
        assert resolver.known("MANY.example.") == found
        assert resolver.known("other.example") == ()
        assert resolver.known("::1") == ("::1",)


@pytest.mark.parametrize("first", ["198.51.100.1", "127.0.0.2"])
async def test_the_address_that_is_connected_to_is_the_one_that_was_judged(first: str) -> None:
    """A name server that gives another address each time (rebinding), and no time to live."""
    async with naming(ResolverSettings(shortest=0.0), turn=(NOERROR, 0, (first,))) as (server, resolver):
        allowed = replace(SETTINGS, allow_private=("127.0.0.2", "198.51.100.0/24"))
        async with serving(OK) as canary, fetching(replace(allowed, connect=0.5), resolver) as fetcher:
            given = iter([first, "127.0.0.1", "127.0.0.1", first, "127.0.0.1", "127.0.0.1"])
            for _ in range(3):
                server.table["turn.example"] = (NOERROR, 0, (next(given),))
                came = await get(fetcher, canary.url(host="turn.example"))
                assert isinstance(came, Failure)
            assert came.reason == "address_loopback"
            assert canary.connections == 0
