"""The fetcher against servers that say byte for byte what a test wants, and tell what they were asked."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from common.errors import UsageError
from common.outcome import Outcome
from tests.support.serving import (
    HASTY,
    OK,
    SETTINGS,
    Reading,
    Server,
    certified,
    failed,
    fetching,
    get,
    got,
    pump,
    reset,
    serving,
)
from worker.fetcher import Failure, Fetcher, Hold, NotSent
from worker.resolver import LookupFailed, Resolver, ResolverSettings

# ---------------------------------------------------------------------------------------- what comes is kept


async def test_an_exchange_says_what_was_sent_and_what_came() -> None:
    answer = (
        b"HTTP/1.1 404 Nothing  here\r\nX-Odd:  a \r\n"
        b"set-cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\nabc"
    )
    async with serving(answer) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url("/p%20q?x={a}|b&y='"))
        head = (
            f"GET /p%20q?x={{a}}|b&y=' HTTP/1.1\r\nHost: a.test:{server.port}\r\n"
            "User-Agent: Shoal/1.0 (+mailto:crawl@a.test)\r\nAccept: */*\r\n\r\n"
        )
        assert server.asked == [head.encode()] == [exchange.request_head]
    assert (exchange.status, exchange.reason, exchange.http_version) == (404, "Nothing  here", "1.1")
    assert exchange.raw_headers == (
        (b"X-Odd", b"a"),
        (b"set-cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
        (b"Content-Length", b"3"),
    )
    assert exchange.header("content-LENGTH") == "3"
    assert exchange.header("etag") is None
    assert (exchange.payload, exchange.truncated, exchange.ip) == (b"abc", None, "127.0.0.1")
    assert exchange.elapsed >= 0


async def test_own_headers_replace_the_fixed_ones_and_keep_their_bytes() -> None:
    async with serving(OK) as server, fetching() as fetcher:
        await got(fetcher, server.url(), headers={"accept": "text/plain", "If-None-Match": '"caf\udce9"'})
        assert b"Accept: */*" not in server.asked[0]
        assert b"accept: text/plain\r\n" in server.asked[0]
        assert b'If-None-Match: "caf\xe9"\r\n' in server.asked[0]


async def test_transfer_coding_is_undone_and_content_coding_kept() -> None:
    packed = gzip.compress(b"x" * 1000)
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;ext=1\r\n%b\r\n%x\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (packed[:5], len(packed) - 5, packed[5:])
    )
    async with serving(answer) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url())
    assert exchange.payload == packed
    assert (b"Transfer-Encoding", b"chunked") in exchange.raw_headers


async def test_connections_are_kept_and_redirects_not_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer) as server, fetching() as fetcher:
        for _ in range(3):
            assert (await got(fetcher, server.url())).header("location") == "/next"
        assert (server.connections, len(server.asked)) == (1, 3)
        assert fetcher.sockets == (0, 1)


async def test_no_more_connections_idle_than_the_bound() -> None:
    async with serving(OK) as server, fetching(replace(SETTINGS, concurrency=2)) as fetcher:
        await asyncio.gather(*(got(fetcher, server.url(f"/{n}")) for n in range(6)))
        assert fetcher.sockets == (0, 2)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_with_their_head(method: str, answer: bytes) -> None:
    async with serving(answer) as server, fetching() as fetcher:
        for _ in range(2):
            exchange = await got(fetcher, server.url(), method=method)
            assert (exchange.payload, exchange.truncated) == (b"", None)
        assert server.connections == 1


async def test_interim_answers_are_passed_over() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    async with serving(answer) as server, fetching() as fetcher:
        assert (await got(fetcher, server.url())).payload == b"ok"


async def test_a_post_carries_its_body() -> None:
    async def echo(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await server.head(reader)
        assert b"Content-Length: 3\r\n" in head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + await reader.readexactly(3))

    async with serving(echo) as server, fetching() as fetcher:
        assert (await got(fetcher, server.url(), method="POST", body=b"a=1")).payload == b"a=1"


# ------------------------------------------------------------------------------------------------ cut bodies


@pytest.mark.parametrize(
    ("answer", "payload"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", b"abcde"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc"),
    ],
)
async def test_a_body_that_breaks_off_is_kept_as_far_as_it_came(answer: bytes, payload: bytes) -> None:
    async with serving(answer, close=True) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url())
        assert (exchange.payload, exchange.truncated) == (payload, "disconnect")
        assert fetcher.sockets == (0, 0)


async def test_a_body_whose_chunks_turn_bad_is_kept_as_far_as_it_came() -> None:
    reading = Reading()

    async def bad(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await reading.wait()
        writer.write(b"zz\r\n")
        await reader.read()

    async with serving(bad) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url(), accept_body=reading.accept)
        assert (exchange.payload, exchange.truncated) == (b"abc", "disconnect")


async def test_a_body_without_length_ends_with_the_connection_unless_that_was_reset() -> None:
    reading = Reading()

    async def broken(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = b"/whole" in await server.head(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nabc")
        await reading.wait()  # a reset overtakes what is on its way
        if not whole:
            reset(writer)

    async with serving(broken) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url("/whole"), accept_body=reading.accept)
        assert (exchange.payload, exchange.truncated, exchange.http_version) == (b"abc", None, "1.0")
        reading.clear()
        exchange = await got(fetcher, server.url("/cut"), accept_body=reading.accept)
        assert (exchange.payload, exchange.truncated) == (b"abc", "disconnect")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_cut_at_it(chunked: bool) -> None:
    async def endless(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        coding = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 99999999999"
        writer.write(b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n" if chunked else b"x" * 4096)
            await writer.drain()

    async with serving(endless) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url(), max_bytes=100_000)
        assert (len(exchange.payload), exchange.truncated) == (100_000, "length")
        assert fetcher.sockets == (0, 0)


async def test_a_body_of_exactly_the_limit_is_whole() -> None:
    async with serving(OK) as server, fetching() as fetcher:
        assert (await got(fetcher, server.url(), max_bytes=2)).truncated is None
        cut = await got(fetcher, server.url(), max_bytes=1)
        assert (cut.payload, cut.truncated) == (b"o", "length")


async def test_a_body_that_nobody_wants_is_not_read() -> None:
    seen: list[tuple[int, str | None]] = []

    def accept(status: int, headers: object) -> bool:
        seen.append((status, headers.get("content-length")))  # type: ignore[attr-defined]
        return False

    async with serving(OK) as server, fetching() as fetcher:
        exchange = await got(fetcher, server.url(), accept_body=accept)
        assert (exchange.payload, exchange.rejected, exchange.truncated) == (b"", True, None)
        assert fetcher.sockets == (0, 0)
    assert seen == [(200, "2")]


# ------------------------------------------------------------------------------------------------------ time


async def test_silence_before_the_head_is_a_time_out_and_in_the_body_a_cut() -> None:
    async def silent(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/body" in await server.head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await reader.read()

    async with serving(silent) as server, fetching(HASTY) as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.TIMEOUT, "read_timeout", True)
        exchange = await got(fetcher, server.url("/body"))
        assert (exchange.payload, exchange.truncated) == (b"abc", "time")


async def test_one_byte_at_a_time_is_no_silence_but_ends_with_the_time_for_the_whole() -> None:
    async def dripping(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"/body" in await server.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 999\r\n\r\n" if body else b"X: "))
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)  # the server's pace, not the test's

    async with serving(dripping) as server, fetching(replace(HASTY, total=0.5)) as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.TIMEOUT, "total_timeout", True)
        exchange = await got(fetcher, server.url("/body"))
        assert exchange.truncated == "time"
        assert exchange.payload.strip(b"x") == b""
        assert len(exchange.payload) > 5


async def test_a_handshake_that_never_comes_is_a_connect_time_out() -> None:
    async def mute(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(mute) as server, fetching(HASTY) as fetcher:
        assert await failed(fetcher, server.url(scheme="https")) == (
            Outcome.TIMEOUT,
            "connect_timeout",
            False,
        )


# --------------------------------------------------------------------------------------- failures of servers


async def test_a_refused_connection() -> None:
    async with serving(OK) as server:
        url = server.url()
    async with fetching() as fetcher:
        assert await failed(fetcher, url) == (Outcome.REFUSED, "connection_refused", False)


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nX: y"])
async def test_a_connection_closed_before_the_answer_is_not_tried_again_if_it_was_new(part: bytes) -> None:
    async with serving(part, close=True) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.RESET, "disconnected", True)
        assert server.connections == 1


async def test_a_reset_before_the_answer() -> None:
    async def rude(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        reset(writer)

    async with serving(rude) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.RESET, "reset", True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad_http"),
        (b"<html>no head at all</html>\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 abc\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "bad_http"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 20, "bad_http"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", "header_too_large"),
        (b"HTTP/1.1 200 " + b"y" * 40_000 + b"\r\n\r\n", "header_too_large"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "header_too_large"),
    ],
)
async def test_what_is_not_http_is_told_so(answer: bytes, reason: str) -> None:
    async with serving(answer) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url()) == (Outcome.PROTOCOL, reason, True)


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", {}), ("/a\r\nX: y", {}), ("/é", {}), ("/", {"X": "a\r\nY: b"}), ("/", {"X: y": "z"}), ("", {})],
)
async def test_nothing_can_be_slipped_into_a_request(target: str, headers: dict[str, str]) -> None:
    async with serving(OK) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url(target), headers=headers) == (
            Outcome.UNSUPPORTED,
            "bad_request",
            False,
        )
        assert server.connections == 0


async def test_a_name_that_is_not_known_keeps_its_reason() -> None:
    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        raise LookupFailed(name, "servfail")

    resolver = Resolver(ResolverSettings(), lookup=lookup)
    async with fetching(resolver=resolver) as fetcher:
        assert await failed(fetcher, "http://nowhere.test/") == (Outcome.DNS, "servfail", False)
        assert await failed(fetcher, "https://nowhere.test/") == (Outcome.DNS, "servfail", False)


# ----------------------------------------------------------------------------------------- rule 8: the lease


async def test_the_lease_is_looked_at_after_connecting() -> None:
    """The handshake takes long, the lease runs out meanwhile, and not a byte of the request is sent."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.test").configure_cert(context)
    accepted, go_on = asyncio.Event(), asyncio.Event()
    looked: list[bool] = []

    async with serving(OK, tls=context) as inner:

        async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await go_on.wait()
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", inner.port)
            try:
                await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
            finally:
                inner_writer.close()

        def may_write() -> bool:
            looked.append(go_on.is_set())
            return False

        async with serving(slow) as server, fetching(replace(SETTINGS, insecure=("*.test",))) as fetcher:
            task = asyncio.create_task(get(fetcher, server.url(scheme="https"), may_write=may_write))
            await accepted.wait()
            assert looked == []
            go_on.set()
            result = await task
            assert isinstance(result, NotSent)
            assert result.reason == "lease_over"
            assert looked == [True]
            assert fetcher.sockets == (0, 1)  # a good connection; the next lease may have it
        assert inner.asked == []


async def test_the_lease_is_looked_at_after_a_slow_lookup_too() -> None:
    leased = True

    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        nonlocal leased
        leased = False
        return ("127.0.0.1",), 60.0

    resolver = Resolver(ResolverSettings(), lookup=lookup)
    async with serving(OK) as server, fetching(resolver=resolver) as fetcher:
        result = await get(fetcher, server.url(), may_write=lambda: leased)
        assert isinstance(result, NotSent)
        assert server.asked == []


# --------------------------------------------------------------------------- connections given up by servers


async def one_each(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request a connection, and hangs up when a second one comes."""
    await server.head(reader)
    writer.write(OK)
    await server.head(reader)


async def test_a_get_on_a_connection_that_the_server_gave_up_goes_out_again_at_once() -> None:
    looked: list[int] = []

    def may_write() -> bool:
        looked.append(1)
        return True

    async with serving(one_each) as server, fetching() as fetcher:
        await got(fetcher, server.url())
        assert (await got(fetcher, server.url(), may_write=may_write)).payload == b"ok"
        assert (server.connections, len(looked)) == (2, 2)


async def test_it_goes_out_again_on_a_new_connection_not_on_another_that_was_kept() -> None:
    async with serving(one_each) as server, fetching() as fetcher:
        await asyncio.gather(*(got(fetcher, server.url()) for _ in range(3)))
        assert fetcher.sockets == (0, 3)
        assert (await got(fetcher, server.url())).payload == b"ok"
        assert (server.connections, len(server.asked)) == (4, 5)
        assert fetcher.sockets == (0, 1)


async def test_a_post_does_not_go_out_again() -> None:
    async with serving(one_each) as server, fetching() as fetcher:
        await got(fetcher, server.url())
        assert await failed(fetcher, server.url(), method="POST", body=b"") == (
            Outcome.RESET,
            "disconnected",
            True,
        )
        assert server.connections == 1


async def test_it_goes_out_again_once_only_and_only_while_the_lease_holds() -> None:
    async def never_twice(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        if server.connections == 1:
            writer.write(OK)
            await server.head(reader)

    async with serving(never_twice) as server, fetching() as fetcher:
        await got(fetcher, server.url())
        assert await failed(fetcher, server.url()) == (Outcome.RESET, "disconnected", True)
        assert server.connections == 2

    async with serving(one_each) as server, fetching() as fetcher:
        await got(fetcher, server.url())
        leases = iter([True, False])
        failure = await failed(fetcher, server.url(), may_write=lambda: next(leases))
        assert failure == (Outcome.RESET, "disconnected", True)  # written: the host's delay is owed


async def test_what_a_server_sends_unasked_is_not_the_next_answer() -> None:
    put_away, sent = asyncio.Event(), asyncio.Event()

    async def talkative(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(OK)
        if server.connections == 1:
            await put_away.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            await writer.drain()
            sent.set()
        await reader.read()

    async with serving(talkative) as server, fetching() as fetcher:
        await got(fetcher, server.url("/1"))
        put_away.set()
        await sent.wait()
        await got(fetcher, server.url("/", host="b.test"))  # many turns of the loop: the bytes are in
        assert (await got(fetcher, server.url("/2"))).payload == b"ok"
        assert server.connections == 3


# ------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "address_loopback"),
        ("0.0.0.0", "address_unspecified"),
        ("[::1]", "address_loopback"),
        ("[::ffff:127.0.0.1]", "address_loopback"),
        ("[::ffff:7f00:1]", "address_loopback"),
        ("[64:ff9b::7f00:1]", "address_loopback"),
        ("localhost", "address_loopback"),
        ("a.test", "address_loopback"),
        ("a.test.", "address_loopback"),
        ("two.test", "address_loopback"),
    ],
)
async def test_a_private_address_sees_no_connection(host: str, reason: str) -> None:
    hosts = {"a.test": ("127.0.0.1",), "two.test": ("127.0.0.1", "::1")}
    settings = replace(SETTINGS, allow_private=(), hosts=hosts)
    async with serving(OK) as canary, fetching(settings) as fetcher:
        assert await failed(fetcher, canary.url(host=host)) == (Outcome.PRIVATE_ADDRESS, reason, False)
        assert await failed(fetcher, canary.url(host=host, scheme="https")) == (
            Outcome.PRIVATE_ADDRESS,
            reason,
            False,
        )
        assert canary.connections == 0


async def test_a_name_that_changes_its_answer_is_judged_by_each() -> None:
    answer = "127.0.0.1"

    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        return (answer,), 0.0

    resolver = Resolver(ResolverSettings(shortest=0.0), lookup=lookup)
    async with serving(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as server:
        async with fetching(replace(SETTINGS, allow_private=("127.0.0.1/32",)), resolver) as fetcher:
            await got(fetcher, server.url(host="turn.test"))
            answer = "127.0.0.2"
            outcome = await failed(fetcher, server.url(host="turn.test"))
            assert outcome == (Outcome.PRIVATE_ADDRESS, "address_loopback", False)
        assert server.connections == 1


async def test_a_name_with_good_and_bad_addresses_is_fetched_from_the_good() -> None:
    settings = replace(SETTINGS, hosts={"mixed.test": ("169.254.169.254", "10.0.0.1", "127.0.0.1")})
    async with serving(OK) as server, fetching(settings) as fetcher:
        assert (await got(fetcher, server.url(host="mixed.test"))).ip == "127.0.0.1"


async def test_the_next_address_of_a_name_is_tried_when_one_refuses() -> None:
    settings = replace(SETTINGS, hosts={"twins.test": ("127.0.0.2", "127.0.0.1")})
    async with serving(OK) as server, fetching(settings) as fetcher:
        assert (await got(fetcher, server.url(host="twins.test"))).ip == "127.0.0.1"


# ------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return made


async def test_https_with_a_certificate_of_the_system_s_authorities(authority: trustme.CA) -> None:
    async with serving(OK, tls=certified(authority.issue_cert("a.test"))) as server, fetching() as fetcher:
        for _ in range(2):
            assert (await got(fetcher, server.url(scheme="https"))).payload == b"ok"
        assert (await got(fetcher, server.url(scheme="https", host="a.test."))).payload == b"ok"
        assert server.connections == 2


async def test_why_a_certificate_was_refused(authority: trustme.CA) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = authority.issue_cert("a.test", not_before=past, not_after=past + datetime.timedelta(days=1))
    for certificate, reason in (
        (expired, "tls_expired"),
        (authority.issue_cert("other.test"), "tls_hostname"),
        (trustme.CA().issue_cert("a.test"), "tls_unknown_issuer"),
    ):
        async with serving(OK, tls=certified(certificate)) as server, fetching() as fetcher:
            assert await failed(fetcher, server.url(scheme="https")) == (Outcome.TLS, reason, False)
            assert server.asked == []


async def test_insecure_holds_for_the_hosts_it_names(authority: trustme.CA) -> None:
    settings = replace(SETTINGS, insecure=("a.*",))
    tls = certified(trustme.CA().issue_cert("wrong.test"))
    async with serving(OK, tls=tls) as server, fetching(settings) as fetcher:
        assert (await got(fetcher, server.url(scheme="https"))).payload == b"ok"
        assert (await failed(fetcher, server.url(scheme="https", host="b.test")))[0] is Outcome.TLS


async def test_https_to_a_server_that_speaks_http() -> None:
    async def plain(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with serving(plain) as server, fetching() as fetcher:
        assert await failed(fetcher, server.url(scheme="https")) == (Outcome.TLS, "tls_protocol", False)


# ---------------------------------------------------------------------------------------- memory, cancelling


async def test_fetches_wait_while_the_budget_for_bodies_is_spent() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    async with serving(body) as server, fetching(replace(SETTINGS, memory=1000)) as fetcher:
        first = await got(fetcher, server.url("/1"))
        assert fetcher.budget.held == 1000
        waiting = asyncio.create_task(got(fetcher, server.url("/2")))
        while not fetcher.budget.waiting:
            await asyncio.sleep(0)
        assert len(server.asked) == 1
        first.release()
        first.release()
        second = await waiting
        assert fetcher.budget.held == len(second.payload) == 1000
        second.release()
        third = await got(fetcher, server.url("/3"))
        assert fetcher.budget.held == 1000
        del third
        assert fetcher.budget.held == 0  # forgotten, and given back


async def test_bodies_larger_than_the_budget_come_one_after_another_and_none_hangs() -> None:
    size = 400_000
    body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with serving(body) as server, fetching(replace(SETTINGS, memory=300_000)) as fetcher:

        async def one(n: int) -> int:
            exchange = await got(fetcher, server.url(f"/{n}"))
            exchange.release()
            return len(exchange.payload)

        assert await asyncio.gather(*(one(n) for n in range(8))) == [size] * 8
        assert fetcher.budget.held == 0


@pytest.mark.parametrize(("length", "truncated"), [(3000, "disconnect"), (1500, None), (2000, None)])
async def test_what_comes_while_memory_is_awaited_is_kept_whatever_becomes_of_the_connection(
    length: int, truncated: str | None
) -> None:
    go_on, there, break_off, broken = (asyncio.Event() for _ in range(4))

    async def breaking(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * 1000)
        await go_on.wait()
        writer.write(b"y" * 500)
        await writer.drain()
        there.set()
        await break_off.wait()
        if length == 2000:
            writer.write(b"y" * 500)
        else:
            reset(writer)
        broken.set()

    async with (
        serving(breaking) as server,
        serving(OK) as fence,
        fetching(replace(HASTY, silence=0.1, memory=1500)) as fetcher,
    ):
        other = Hold(fetcher.budget)
        other.grow(1000)
        fetch = asyncio.create_task(got(fetcher, server.url()))
        while not fetcher.budget.waiting:
            await asyncio.sleep(0)
        go_on.set()
        await there.wait()
        silence_is_over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, silence_is_over.set)
        await silence_is_over.wait()  # the silence was ours: it counts for nothing
        break_off.set()
        await broken.wait()
        await turned_around(fence)
        other.release()
        exchange = await fetch
        assert exchange.payload == b"x" * 1000 + b"y" * (
            min(length, 2000) - 1000 if truncated is None else 500
        )
        assert exchange.truncated == truncated


async def turned_around(fence: Server) -> None:
    """Return when the loop has surely read what had arrived before the call."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fence.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readexactly(len(OK))
    writer.close()
    await writer.wait_closed()


async def test_a_cancelled_fetch_closes_its_connection() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        started.set()
        await reader.read()
        ended.set()

    async with serving(slow) as server, fetching() as fetcher:
        task = asyncio.create_task(get(fetcher, server.url()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()
        assert fetcher.sockets == (0, 0)
        assert fetcher.budget.held == 0


# ----------------------------------------------------------------------------------------------------- proxy


async def proxy(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP proxy that knows `a.test` as 127.0.0.1 and refuses everybody who is not `me:secret`."""
    head = await server.head(reader)
    if b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" not in head:
        writer.write(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n")
        return
    method, target, _ = head.split(b" ", 2)
    if method != b"CONNECT":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))
        await reader.read()
        return
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(b":")[2]))
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


async def test_a_proxy_is_asked_for_whole_urls_and_for_tunnels(authority: trustme.CA) -> None:
    async with serving(OK, tls=certified(authority.issue_cert("a.test"))) as far, serving(proxy) as near:
        settings = replace(SETTINGS, allow_private=(), proxy=(f"http://me:secret@127.0.0.1:{near.port}",))
        async with fetching(settings) as fetcher:
            exchange = await got(fetcher, "http://a.test/p?q")
            assert (exchange.payload, exchange.ip) == (b"http://a.test/p?q", None)
            assert (await got(fetcher, far.url(scheme="https"))).payload == b"ok"
            assert b"Proxy-Authorization" not in far.asked[0]
        async with fetching(replace(settings, proxy=(f"http://127.0.0.1:{near.port}",))) as fetcher:
            refused = (Outcome.PROXY, "proxy_authentication", False)
            assert await failed(fetcher, far.url(scheme="https")) == refused
    async with fetching(settings) as fetcher:
        assert await failed(fetcher, "http://a.test/") == (Outcome.PROXY, "proxy_unreachable", False)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
async def test_a_name_that_no_certificate_can_have_is_asked_for_nothing(host: str) -> None:
    """A proxy may know any name, but a TLS handshake can only ask for what could be one."""

    async def tunnel(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        assert await reader.read() == b""

    async with serving(tunnel) as near:
        settings = replace(SETTINGS, proxy=(f"http://127.0.0.1:{near.port}",))
        async with fetching(settings) as fetcher:
            assert await failed(fetcher, f"https://{host}/") == (Outcome.UNSUPPORTED, "bad_request", False)


@pytest.mark.parametrize("text", ["ftp://a:1", "a.test:3128", "http://", "http://a:b:c"])
def test_a_proxy_that_is_none_is_told_at_once(text: str) -> None:
    with pytest.raises(UsageError):
        Fetcher(replace(SETTINGS, proxy=(text,)))


# ------------------------------------------------------------------------------------------------- closing


async def test_closing_ends_what_runs_and_blames_no_host_for_what_was_not_sent() -> None:
    asked, looked_up, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        looked_up.set()
        await never.wait()
        return (), 0.0

    async def mute(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        asked.set()
        await reader.read()

    async with serving(mute) as server:
        resolver = Resolver(ResolverSettings(hosts={"a.test": ("127.0.0.1",)}), lookup=lookup)
        async with fetching(resolver=resolver) as fetcher:
            written = asyncio.create_task(get(fetcher, server.url()))
            waiting = asyncio.create_task(get(fetcher, "http://slow.test/"))
            await asked.wait()
            await looked_up.wait()
            await fetcher.close()
            result = await written
            assert isinstance(result, Failure)
            assert (result.outcome, result.written) == (Outcome.RESET, True)
            never.set()
            result = await waiting
            assert isinstance(result, NotSent)
            assert result.reason == "closing"
            with pytest.raises(RuntimeError):
                await get(fetcher, server.url())
        await resolver.close()
