"""The edge, where strangers answer: endless and lying servers, TLS that fails, addresses that are many."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from common.outcome import Outcome
from tests.support.serving import (
    HASTY,
    OK,
    SETTINGS,
    Reading,
    Server,
    Talk,
    certified,
    failed,
    fetching,
    get,
    got,
    serving,
)
from worker.addresses import refusal
from worker.fetcher import Exchange, Failure, NotSent
from worker.resolver import LookupFailed, Resolver, ResolverSettings

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
KIB, MIB = 1 << 10, 1 << 20


def endless(first: bytes, again: bytes, sent: list[int]) -> Talk:
    """`first`, and then `again` for ever; `sent` counts the bytes that left."""

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(first)
        while True:
            writer.write(again)
            sent[0] += len(again)
            await writer.drain()

    return talk


# --------------------------------------------------------------------------------------------- without an end


@pytest.mark.parametrize(
    ("first", "again", "reason"),
    [
        (b"", b"\r\n" * 500, "header_too_large"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 103 Early Hints\r\n", b"X: " + b"y" * 30_000 + b"\r\n", "header_too_large"),
        (HEAD, b"X-%d: y\r\n" * 100, "header_too_large"),
        (HEAD + b"X: ", b"y" * 1000, "header_too_large"),
        (b"HTTP/1.1 200 ", b"y" * 1000, "header_too_large"),
        (CHUNKED, b"f" * 1000, "bad_http"),
        (b"", b"ICY 200 OK\r\n\r\n" + b"\xff" * 1000, "bad_http"),
    ],
)
async def test_a_head_without_an_end_has_one(first: bytes, again: bytes, reason: str) -> None:
    sent = [0]
    async with serving(endless(first, again, sent)) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.PROTOCOL, reason, True)
        assert fetcher.sockets == (0, 0)
    assert sent[0] < 24 * MIB  # what was taken, and what lay in buffers


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (CHUNKED, b"0" * 1000),  # before a chunk's size
        (CHUNKED + b"5;", b"x" * 1000),  # in one chunk's extension
        (CHUNKED, b"1;" + b"e" * 10_000 + b"\r\nx\r\n"),  # in each chunk's
        (CHUNKED, b"40;" + b"e" * 2000 + b"\r\n" + b"x" * 64 + b"\r\n"),
        (CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        (HEAD + b"\r\n", b"x" * 1000),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"x" * 1000),
    ],
)
async def test_a_body_without_an_end_is_cut_whatever_it_is_made_of(first: bytes, again: bytes) -> None:
    sent = [0]
    async with serving(endless(first, again, sent)) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url(), max_bytes=256 * KIB)
        assert exchange.truncated == "length"
        assert len(exchange.payload) <= 256 * KIB
        assert exchange.payload.strip(b"x") == b""
        assert fetcher.sockets == (0, 0)
    assert sent[0] < 24 * MIB


async def test_trailers_without_an_end_have_one() -> None:
    for again in (b"X-T: y\r\n" * 10, b"y" * 1000):
        sent = [0]
        first = CHUNKED + b"3\r\nabc\r\n0\r\nX-T: "
        async with serving(endless(first, again, sent)) as server, fetching() as fetcher:
            came = await get(fetcher, server.url())
            if isinstance(came, Exchange):  # the head came in a piece of its own
                assert (came.payload, came.truncated) == (b"abc", "disconnect")
            else:
                assert isinstance(came, Failure)
                assert (came.outcome, came.reason) == (Outcome.PROTOCOL, "header_too_large")
        assert sent[0] < 24 * MIB


@pytest.mark.parametrize("phase", ["head", "chunk", "body", "interim"])
async def test_one_byte_now_and_then_ends_with_the_time_for_the_whole(phase: str) -> None:
    first, piece = {
        "head": (HEAD + b"X: ", b"y"),
        "chunk": (CHUNKED, b"0"),
        "body": (HEAD + b"\r\n", b"x"),
        "interim": (b"HTTP/1.1 103 E\r\nX: ", b"y"),
    }[phase]

    async def dripping(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(first)
        while True:
            writer.write(piece)
            await asyncio.sleep(0.01)  # the server's pace, not the test's

    async with serving(dripping) as server, fetching(replace(HASTY, total=0.4)) as fetcher:
        came = await get(fetcher, server.url())
        if phase in ("head", "interim"):
            assert isinstance(came, Failure)
            assert (came.outcome, came.reason, came.ip) == (Outcome.TIMEOUT, "total_timeout", "127.0.0.1")
        else:
            assert isinstance(came, Exchange)
            assert came.truncated == "time"
        assert fetcher.sockets == (0, 0)


# ------------------------------------------------------------------------------------------------------- lies


@pytest.mark.parametrize(
    ("answer", "payload"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc, and more than was said", b"abc"),
        (HEAD + b"Content-Length: 3\r\n\r\nabc\r\n", b"abc"),
        (HEAD + b"Content-Length: 0\r\n\r\nabc", b""),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (HEAD + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n<html>not modified</html>", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n<html>no content</html>", b""),
    ],
)
async def test_a_length_that_is_wrong_costs_no_page_and_no_connection_serves_twice_after_it(
    answer: bytes, payload: bytes
) -> None:
    async with serving(answer) as server, fetching() as fetcher:
        for _ in range(2):
            exchange = await got(fetcher, server.url())
            assert (exchange.payload, exchange.truncated) == (payload, None)
        if not answer.endswith(b"abc\r\n"):  # an empty line between two answers is no harm
            assert server.connections == 2


async def test_what_was_renamed_to_make_sense_is_kept() -> None:
    answer = HEAD + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    reading = Reading()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(answer)
        await reading.wait()
        writer.write(b"3\r\ndef\r\n0\r\n\r\n")
        await reader.read()

    async with serving(slow) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url(), accept_body=reading.accept)
        assert (exchange.payload, exchange.truncated) == (b"abcdef", None)
        assert exchange.raw_headers == (
            (b"X-Shoal-Content-Length", b"99"),
            (b"Transfer-Encoding", b"chunked"),
        )


async def test_more_than_was_said_that_comes_late_is_no_harm_either() -> None:
    reading = Reading()

    async def late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(HEAD + b"Content-Length: 6\r\n\r\nabc")
        await reading.wait()
        writer.write(b"def and more")
        await reader.read()

    async with serving(late) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url(), accept_body=reading.accept)
        assert (exchange.payload, exchange.truncated) == (b"abcdef", None)
        assert fetcher.sockets == (0, 0)


async def test_a_body_after_head_is_not_the_next_answer() -> None:
    answer = HEAD + b"Content-Length: 5\r\n\r\nhello"
    async with serving(answer) as server, fetching() as fetcher:
        assert (await got(fetcher, server.url(), method="HEAD")).payload == b""
        assert (await got(fetcher, server.url())).payload == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: -1\r\n\r\nabc",
        HEAD + b"Content-Length: 3x\r\n\r\nabc",
        HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\nabc",
        CHUNKED + b"-5\r\nabc\r\n",
        CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffffff\r\nabc",
        HEAD + b"X: a\0b\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/9.9 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 1000 X\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_what_makes_no_sense_is_told_so(answer: bytes) -> None:
    async with serving(answer) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.PROTOCOL, "bad_http", True)


async def test_an_answer_before_the_question_is_the_answer_and_a_flood_before_it_is_bounded() -> None:
    async def early(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Too many\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        await writer.drain()
        await reader.read()

    async with serving(early) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url())
        assert (exchange.status, exchange.payload) == (503, b"busy")

    sent = [0]

    async def flood(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 100_000)
            sent[0] += 100_000
            await writer.drain()

    async with serving(flood) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.PROTOCOL, "bad_http", True)
    assert sent[0] < 24 * MIB


async def test_answers_that_nobody_asked_for_end_a_connection_that_idles() -> None:
    ended = asyncio.Event()

    async def chatty(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(OK)
        await asyncio.sleep(0.05)  # until it idles; were it too soon, the connection would not be kept at all
        try:
            while True:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 1000)
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with serving(chatty) as server, fetching() as fetcher:
        await got(fetcher, server.url())
        await ended.wait()
        assert fetcher.sockets == (0, 0)


# -------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return made


def old(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def strange(context: ssl.SSLContext) -> ssl.SSLContext:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")  # RSA key exchange only: no client of today offers it
    return context


def demanding(context: ssl.SSLContext) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the client is told after its handshake
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_the_reason_of_a_tls_failure_is_kept(authority: trustme.CA, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    cases = {
        "tls_expired": certified(
            authority.issue_cert("a.test", not_before=now - 9 * day, not_after=now - day)
        ),
        "tls_not_yet_valid": certified(
            authority.issue_cert("a.test", not_before=now + day, not_after=now + 9 * day)
        ),
        "tls_hostname": certified(authority.issue_cert("b.test", "*.a.test")),
        "tls_unknown_issuer": certified(trustme.CA().issue_cert("a.test")),
        "tls_self_signed": self_signed(tmp_path),
    }
    settings = replace(SETTINGS, insecure=("b.test",))
    for reason, tls in cases.items():
        async with serving(OK, tls=tls) as server, fetching(settings) as fetcher:
            failure = await get(fetcher, server.url(scheme="https"))
            assert isinstance(failure, Failure), reason
            assert (failure.outcome, failure.reason, failure.written) == (Outcome.TLS, reason, False)
            assert failure.ip == "127.0.0.1"
            assert server.asked == []
            assert (await got(fetcher, server.url(scheme="https", host="b.test"))).payload == b"ok"
    rsa = authority.issue_cert("a.test", key_type=trustme.KeyType.RSA)
    # What is said of an old version depends on the OpenSSL, and some still offer what others have given up.
    told = [(("tls_version", "tls_protocol"), old(certified(rsa)))]
    if all(cipher["name"] != "AES128-SHA" for cipher in ssl.create_default_context().get_ciphers()):
        told.append((("tls_handshake",), strange(certified(rsa))))
    for reasons, tls in told:
        async with refusing(tls) as port, fetching() as fetcher:
            outcome, told_reason, written = await failed(fetcher, f"https://a.test:{port}/")
            assert (outcome, written) == (Outcome.TLS, False) and told_reason in reasons


@asynccontextmanager
async def refusing(tls: ssl.SSLContext) -> AsyncIterator[int]:
    """A server whose handshakes fail, and which says so with an alert; the event loops' servers just hang up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection.dup() as kept:
                kept.settimeout(5)
                with contextlib.suppress(OSError):
                    tls.wrap_socket(connection, server_side=True).close()
                with contextlib.suppress(OSError):
                    kept.shutdown(socket.SHUT_WR)
                    while kept.recv(4096):
                        pass  # closed with something unread, it would be a reset that overtakes the alert
                with contextlib.suppress(OSError):
                    kept.recv(1)  # the client's turn to hang up: ours would be a reset

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def self_signed(folder: Path) -> ssl.SSLContext:
    certificate = trustme.CA(organization_name="a.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = folder / "own.pem"
    pem.write_bytes(certificate.private_key_pem.bytes() + certificate.cert_pem.bytes())
    context.load_cert_chain(pem)
    return context


async def test_a_server_that_wants_our_certificate(authority: trustme.CA) -> None:
    tls = demanding(certified(authority.issue_cert("a.test")))
    async with refusing(tls) as port, fetching() as fetcher:
        assert await failed(fetcher, f"https://a.test:{port}/") == (Outcome.TLS, "tls_handshake", False)


@pytest.mark.parametrize(
    "said", [b"", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x03\x00\x04junk", b"junk" * 9]
)
async def test_a_handshake_that_goes_wrong_has_a_reason(said: bytes) -> None:
    async def rude(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)  # all of it, or closing would be a reset
        writer.write(said)
        await writer.drain()

    async with serving(rude) as server, fetching() as fetcher:
        outcome, reason, written = await failed(fetcher, server.url(scheme="https"))
        assert not written
        if said:
            assert (outcome, reason[:4]) == (Outcome.TLS, "tls_")
        else:
            assert outcome in (Outcome.RESET, Outcome.TLS)


# -------------------------------------------------------------------------------------------------- addresses


@asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[None]:
    """127.0.0.2, where nothing answers: its queue of connections is full, so that the kernel drops new ones."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.2", port))
        yield


async def test_an_address_that_does_not_answer_does_not_keep_from_the_next() -> None:
    settings = replace(SETTINGS, hosts={"twins.test": ("127.0.0.2", "127.0.0.1")}, connect=20.0)
    async with serving(OK) as server, black_hole(server.port), fetching(settings) as fetcher:
        exchange = await got(fetcher, server.url(host="twins.test"))
        assert exchange.ip == "127.0.0.1"


async def test_where_the_only_address_does_not_answer_it_is_a_time_out_and_told() -> None:
    settings = replace(HASTY, hosts={"alone.test": ("127.0.0.2",)})
    async with serving(OK) as server, black_hole(server.port), fetching(settings) as fetcher:
        failure = await get(fetcher, server.url(host="alone.test"))
        assert isinstance(failure, Failure)
        assert (failure.outcome, failure.reason) == (Outcome.TIMEOUT, "connect_timeout")
        assert failure.ip == "127.0.0.2"


async def test_a_failure_tells_the_address_as_far_as_it_is_known() -> None:
    settings = replace(SETTINGS, allow_private=("127.0.0.1/32",), hosts={"a.test": ("127.0.0.1",)})

    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        if name == "gone.test":
            raise LookupFailed(name, "nxdomain")
        return ("127.0.0.7",), 60.0

    async with serving(b"junk\r\n\r\n") as server:
        url = server.url()
        resolver = Resolver(ResolverSettings(hosts=settings.hosts), lookup=lookup)
        async with fetching(settings, resolver) as fetcher:
            for host, ip in (
                ("a.test", "127.0.0.1"),
                ("private.test", "127.0.0.7"),
                ("127.0.0.3", "127.0.0.3"),
                ("[::1]", "::1"),
                ("gone.test", None),
            ):
                failure = await get(fetcher, server.url(host=host))
                assert isinstance(failure, Failure)
                assert failure.ip == ip, host
        await resolver.close()
    async with fetching(settings) as fetcher:
        failure = await get(fetcher, url)
        assert isinstance(failure, Failure)
        assert (failure.outcome, failure.ip) == (Outcome.REFUSED, "127.0.0.1")


# ------------------------------------------------------------------------------------------ the gate per address


@pytest.fixture
def elsewhere() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address beyond loopback")
        address = str(probe.getsockname()[0])
    if refusal(address) == "loopback":
        pytest.skip("this machine has no address beyond loopback")
    return address


class Counting:
    """A server that holds every request until told, and knows how many hosts it serves at once."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.most = 0
        self.go_on = asyncio.Event()
        self.arrived = asyncio.Condition()

    async def __call__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await server.head(reader)
            host = head.split(b"Host: ")[1].split(b":")[0].decode()
            self.now.append(host)
            self.most = max(self.most, len(set(self.now)))
            async with self.arrived:
                self.arrived.notify_all()
            await self.go_on.wait()
            self.now.remove(host)
            writer.write(OK)

    async def there(self, count: int) -> None:
        """Return when so many requests are being served."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.now) >= count)


async def test_only_so_many_hosts_of_one_address_are_fetched_at_once(elsewhere: str) -> None:
    counting = Counting()
    hosts = {f"h{number}.test": (elsewhere,) for number in range(12)}
    settings = replace(SETTINGS, allow_private=(elsewhere,), hosts=hosts, per_ip=3, connect=1.0)
    async with serving(counting, address=elsewhere) as server, fetching(settings) as fetcher:
        tasks = [
            asyncio.create_task(get(fetcher, server.url(f"/{lane}", host=host)))
            for host in hosts
            for lane in range(2)
        ]
        await counting.there(3)
        while fetcher.waiting_for_address < len(tasks) - 6:
            await asyncio.sleep(0)
        waited = asyncio.Event()
        asyncio.get_running_loop().call_later(1.5, waited.set)
        await waited.wait()  # longer than the time to connect: those that wait do not spend it
        assert server.connections <= 6
        tasks[-1].cancel()
        counting.go_on.set()
        for task in tasks[:-1]:
            exchange = await task
            assert isinstance(exchange, Exchange), exchange
            assert exchange.ip == elsewhere
        assert counting.most <= 3
        assert fetcher.waiting_for_address == 0
        assert await asyncio.gather(tasks[-1], return_exceptions=True) != []
        assert isinstance(await get(fetcher, server.url(host="h0.test")), Exchange)


async def test_a_host_that_fails_or_is_refused_gives_its_place_back(elsewhere: str) -> None:
    hosts = {f"h{number}.test": (elsewhere,) for number in range(4)}
    settings = replace(SETTINGS, allow_private=(elsewhere,), hosts=hosts, per_ip=1)

    async def rude(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)

    async with serving(rude, address=elsewhere) as server, fetching(settings) as fetcher:
        came = await asyncio.gather(*(get(fetcher, server.url(host=host)) for host in hosts))
        assert all(isinstance(one, Failure) for one in came)
        refused = await asyncio.gather(
            *(get(fetcher, server.url(host=host), may_write=lambda: False) for host in hosts)
        )
        assert all(isinstance(one, NotSent) for one in refused)
        assert fetcher.waiting_for_address == 0


async def test_closing_ends_those_that_wait_for_a_place_and_blames_nobody(elsewhere: str) -> None:
    counting = Counting()
    hosts = {f"h{number}.test": (elsewhere,) for number in range(2)}
    settings = replace(SETTINGS, allow_private=(elsewhere,), hosts=hosts, per_ip=1, silence=30.0)
    async with serving(counting, address=elsewhere) as server, fetching(settings) as fetcher:
        tasks = [asyncio.create_task(get(fetcher, server.url(host=host))) for host in hosts]
        await counting.there(1)
        while not fetcher.waiting_for_address:
            await asyncio.sleep(0)
        await fetcher.close()
        came = await asyncio.gather(*tasks)
        assert sum(isinstance(one, NotSent) and one.reason == "closing" for one in came) == 1


async def test_loopback_is_exempt_from_the_cap_and_so_is_what_goes_through_a_proxy() -> None:
    counting = Counting()
    hosts = {f"h{number}.test": ("127.0.0.1",) for number in range(8)}
    settings = replace(SETTINGS, hosts=hosts, per_ip=2)
    async with serving(counting) as server, fetching(settings) as fetcher:
        tasks = [asyncio.create_task(got(fetcher, server.url(host=host))) for host in hosts]
        await counting.there(8)
        counting.go_on.set()
        await asyncio.gather(*tasks)
    counting = Counting()
    async with serving(counting) as server:
        proxied = replace(settings, hosts={}, proxy=(server.url("", host="127.0.0.1"),))
        async with fetching(proxied) as fetcher:
            tasks = [asyncio.create_task(got(fetcher, f"http://{host}:80/")) for host in hosts]
            await counting.there(8)
            counting.go_on.set()
            await asyncio.gather(*tasks)


async def test_looking_up_before_the_gate_takes_its_time_from_connecting() -> None:
    never = asyncio.Event()

    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        await never.wait()
        return (), 0.0

    resolver = Resolver(ResolverSettings(), lookup=lookup)
    async with fetching(HASTY, resolver) as fetcher:
        assert await failed(fetcher, "http://slow.test/") == (Outcome.TIMEOUT, "connect_timeout", False)
    await resolver.close()
