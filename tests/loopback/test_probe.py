"""Whether our own network works is asked of name servers and sites, and answered soon."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from common.load import OwnLoad, resident_bytes
from common.outcome import Outcome
from tests.support.site import Site
from worker.exchange import Failure
from worker.probe import NetworkProbe, may_be_our_network
from worker.resolver import ResolverSettings

NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5
NOBODY = "192.0.2.1"
"""An address that is nobody's (RFC 5737); a connection to it is refused, lost, or has no way to go."""


class _NameServer(asyncio.DatagramProtocol):
    """Answers every question with the same code, or never."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by its class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.append(data)
        if self.code is not None:
            end = data.index(b"\0", 12) + 5
            head = data[:2] + struct.pack("!HHHHH", 0x8180 | self.code, 1, 0, 0, 0)
            self.transport.sendto(head + data[12:end], addr)


@asynccontextmanager
async def name_server(code: int | None) -> AsyncIterator[tuple[_NameServer, ResolverSettings]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: _NameServer(code), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        # As long as a busy machine may take to answer; of the one that never does, half a second is enough.
        patience = 0.5 if code is None else 10.0
        yield (
            server,
            ResolverSettings(nameservers=(f"127.0.0.1:{port}",), timeout=patience, tries=1, overall=30.0),
        )
    finally:
        transport.close()


async def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_with_nothing_to_ask_it_is_the_hosts_fault() -> None:
    assert await NetworkProbe().works()


async def test_a_site_that_answered_before_is_asked_and_no_request_is_sent(site: Site) -> None:
    probe = NetworkProbe()
    probe.answered(site.url("127.0.0.1"), "127.0.0.1")
    assert await probe.works()
    assert site.log == []


async def test_a_site_that_says_no_was_reached(site: Site) -> None:
    probe = NetworkProbe()
    probe.answered(f"http://127.0.0.1:{await closed_port()}/", "127.0.0.1")
    assert await probe.works()


@pytest.mark.parametrize(
    ("code", "works"), [(NXDOMAIN, True), (SERVFAIL, False), (REFUSED, False), (None, False)]
)
async def test_a_name_server_that_knows_answers_be_it_with_no(code: int | None, works: bool) -> None:
    async with name_server(code) as (server, settings):
        probe = NetworkProbe(settings)
        probe.failed("http://gone.example/x")
        assert await probe.works() is works
        assert server.asked


async def test_every_probe_asks_anew() -> None:
    async with name_server(None) as (server, settings):
        probe = NetworkProbe(settings)
        probe.failed("http://gone.example/x")
        assert not await probe.works()
        server.code = NXDOMAIN
        assert await probe.works()


async def test_names_of_the_hosts_file_and_addresses_are_no_question_for_a_name_server() -> None:
    async with name_server(NXDOMAIN) as (server, settings):
        probe = NetworkProbe(settings)
        probe.known_names = frozenset({"a.test"})
        for url in ("http://a.test/", "http://127.0.0.1:8/", "http://[::1]/", "http://x.localhost/"):
            probe.failed(url)
        assert await probe.works()
        assert server.asked == []


async def test_a_name_that_worked_is_asked_rather_than_one_that_did_not() -> None:
    async with name_server(None) as (server, settings):
        probe = NetworkProbe(settings)
        probe.answered("http://good.example/", NOBODY)
        probe.failed("http://bad.example/")
        probe.answered("http://proxied.example/", None)
        await probe.works()
        assert server.asked
        assert all(b"\x04good" in question for question in server.asked)


@pytest.mark.parametrize(
    ("outcome", "reason", "suspicious"),
    [
        (Outcome.DNS, "dns_timeout", True),
        (Outcome.DNS, "dns_unreachable", True),
        (Outcome.DNS, "servfail", True),
        (Outcome.DNS, "nxdomain", False),
        (Outcome.DNS, "no_address", False),
        (Outcome.TIMEOUT, "connect_timeout", True),
        (Outcome.TIMEOUT, "read_timeout", False),
        (Outcome.REFUSED, "host_unreachable", True),
        (Outcome.REFUSED, "connection_refused", False),
        (Outcome.RESET, "reset", False),
        (Outcome.TLS, "tls_expired", False),
        (Outcome.PRIVATE_ADDRESS, "address_private", False),
    ],
)
def test_only_what_a_dead_network_does_is_suspicious(outcome: Outcome, reason: str, suspicious: bool) -> None:
    assert may_be_our_network(Failure(outcome, reason, "", False, 0.0, 0.0)) is suspicious


def test_a_process_knows_what_it_takes() -> None:
    load = OwnLoad()
    assert 1 << 20 < resident_bytes() < 1 << 40
    assert 0 <= load.cpu_percent() < 65_536
