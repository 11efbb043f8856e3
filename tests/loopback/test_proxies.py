"""Through proxies: other people's real ones, and some that fail in every way they can."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from common import warc
from common.errors import UsageError
from common.outcome import Outcome
from shoal.demo.listening import listen
from tests.support.proxies import dante, free_port, microsocks, tinyproxy
from tests.support.serving import (
    HASTY,
    OK,
    SETTINGS,
    Server,
    Talk,
    certified,
    failed,
    fetching,
    get,
    got,
    pump,
    serving,
)
from worker.fetcher import Exchange, Failure, Fetcher
from worker.proxies import Proxies, Proxy
from worker.resolver import LookupFailed, Resolver, ResolverSettings

NOTHING_PRIVATE = replace(SETTINGS, allow_private=(), hosts={}, connect=5.0)
"""Behind a proxy private addresses are the proxy's business: the tests' servers are reached all the same."""


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return made


async def no_lookup(name: str) -> tuple[tuple[str, ...], float]:
    raise LookupFailed(name, "looked_up_here_and_not_by_the_proxy")


# ------------------------------------------------------------------------------------- other people's proxies


async def through(proxy: str, authority: trustme.CA, host: str = "localhost") -> None:
    """Plain HTTP and HTTPS, twice each, by name."""
    tls = certified(authority.issue_cert("localhost", "127.0.0.1"))
    resolver = Resolver(ResolverSettings(), lookup=no_lookup)
    settings = replace(NOTHING_PRIVATE, proxy=(proxy,))
    async with serving(OK) as plain, serving(OK, tls=tls) as secret, fetching(settings, resolver) as fetcher:
        for number in range(2):
            exchange = await got(fetcher, plain.url(f"/{number}", host=host))
            assert (exchange.payload, exchange.ip) == (b"ok", None)
            assert (await got(fetcher, secret.url(f"/{number}", host=host, scheme="https"))).payload == b"ok"
        asked = b"".join(plain.asked + secret.asked)
        assert b"Proxy-" not in asked
        assert b"secret" not in asked
        assert secret.connections == 1
        assert fetcher.sockets[1] == 2


async def test_tinyproxy_for_plain_http_and_for_tunnels(tmp_path: Path, authority: trustme.CA) -> None:
    async with tinyproxy(tmp_path) as port:
        tls = certified(authority.issue_cert("localhost", "127.0.0.1"))
        settings = replace(NOTHING_PRIVATE, proxy=(f"http://127.0.0.1:{port}",))
        async with serving(OK) as plain, serving(OK, tls=tls) as secret, fetching(settings) as fetcher:
            assert (await got(fetcher, plain.url(host="localhost"))).payload == b"ok"
            for _ in range(2):
                exchange = await got(fetcher, secret.url(host="localhost", scheme="https"))
                assert (exchange.payload, exchange.ip) == (b"ok", None)
            assert secret.connections == 1


async def test_tinyproxy_asks_who_we_are(tmp_path: Path, authority: trustme.CA) -> None:
    async with tinyproxy(tmp_path, "me secret") as port, serving(OK) as plain:
        known = replace(NOTHING_PRIVATE, proxy=(f"http://me:secret@127.0.0.1:{port}",))
        async with fetching(known) as fetcher:
            assert (await got(fetcher, plain.url(host="localhost"))).payload == b"ok"
        refused = (Outcome.PROXY, "proxy_authentication", False)
        async with fetching(replace(known, proxy=(f"http://127.0.0.1:{port}",))) as fetcher:
            for scheme in ("http", "https"):
                assert await failed(fetcher, plain.url(host="localhost", scheme=scheme)) == refused
        async with fetching(replace(known, proxy=(f"http://me:wrong@127.0.0.1:{port}",))) as fetcher:
            assert await failed(fetcher, plain.url(host="localhost", scheme="https")) == refused
            # To a wrong password tinyproxy says 401, as only the host may: it cannot be told from the host's.
            assert (await got(fetcher, plain.url(host="localhost"))).status == 401
        assert len(plain.asked) == 1


async def test_microsocks(authority: trustme.CA) -> None:
    async with microsocks() as port:
        await through(f"socks5://127.0.0.1:{port}", authority)
    async with microsocks("-u", "me", "-P", "secret") as port:
        await through(f"socks5h://me:secret@127.0.0.1:{port}", authority)
        for login in ("", "me:wrong@"):
            settings = replace(NOTHING_PRIVATE, proxy=(f"socks5://{login}127.0.0.1:{port}",))
            async with serving(OK) as server, fetching(settings) as fetcher:
                outcome = await failed(fetcher, server.url(host="localhost"))
                assert outcome == (Outcome.PROXY, "proxy_authentication", False)
                assert server.connections == 0


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
async def test_dante_by_both_versions_of_socks(tmp_path: Path, authority: trustme.CA, scheme: str) -> None:
    async with dante(tmp_path) as port:
        await through(f"{scheme}://127.0.0.1:{port}", authority, host="127.0.0.1")
        if scheme == "socks5":  # dante knows no 4a
            await through(f"{scheme}://127.0.0.1:{port}", authority)
        settings = replace(NOTHING_PRIVATE, proxy=(f"{scheme}://127.0.0.1:{port}",))
        async with fetching(settings) as fetcher:
            reasons = {
                (await failed(fetcher, f"http://127.0.0.9:{free_port()}/"))[:2],
                (await failed(fetcher, f"http://127.0.0.1:{free_port()}/"))[:2],
            }
        gateway, refused = (Outcome.PROXY, "proxy_gateway"), (Outcome.PROXY, "proxy_refused")
        assert reasons == ({gateway, refused} if scheme == "socks5" else {gateway})


async def test_socks4_hands_names_to_the_proxy() -> None:
    """By the letter of "SOCKS 4A: a simple extension": 0.0.0.x, the user, and then the name."""
    heard: list[bytes] = []

    async def socks(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(
            await reader.readexactly(8) + await reader.readuntil(b"\0") + await reader.readuntil(b"\0")
        )
        writer.write(b"\0\x5a" + b"\0" * 6)
        await server.head(reader)
        writer.write(OK)
        await reader.read()

    for scheme in ("socks4", "socks4a"):
        async with serving(socks) as near:
            settings = replace(NOTHING_PRIVATE, proxy=(f"{scheme}://me@127.0.0.1:{near.port}",))
            async with fetching(settings) as fetcher:
                assert (await got(fetcher, "http://a.example:8080/")).payload == b"ok"
    assert heard == [b"\x04\x01\x1f\x90\0\0\0\x01me\0a.example\0"] * 2


async def test_an_https_proxy_is_verified_whatever_insecure_says_of_the_host(authority: trustme.CA) -> None:
    async def tunnelling(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = (await server.head(reader)).split(b" ", 2)
        if method != b"CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))
            await reader.read()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(b":")[2]))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connected\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.close()

    far_tls = certified(trustme.CA().issue_cert("a.test"))
    for tls, trusted in (
        (certified(authority.issue_cert("127.0.0.1")), True),
        (certified(trustme.CA().issue_cert("127.0.0.1")), False),
    ):
        async with serving(OK, tls=far_tls) as far, serving(tunnelling, tls=tls) as near:
            proxy = f"https://me:secret@127.0.0.1:{near.port}"
            settings = replace(NOTHING_PRIVATE, proxy=(proxy,), insecure=("a.test",))
            async with fetching(settings) as fetcher:
                if trusted:
                    assert (await got(fetcher, "http://a.test/p?q")).payload == b"http://a.test/p?q"
                    assert (await got(fetcher, far.url(scheme="https"))).payload == b"ok"
                    assert (await got(fetcher, far.url(scheme="https", host="a.test."))).payload == b"ok"
                    assert all(b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in head for head in near.asked)
                else:
                    outcome = await failed(fetcher, far.url(scheme="https"))
                    assert outcome == (Outcome.PROXY, "proxy_tls", False)
                    assert near.asked == []
            async with fetching(replace(settings, insecure=())) as fetcher:
                outcome = await failed(fetcher, far.url(scheme="https"))
                host_s_own = (Outcome.TLS, "tls_unknown_issuer", False)
                assert outcome == (host_s_own if trusted else (Outcome.PROXY, "proxy_tls", False))


# ------------------------------------------------------------------------------------------- ways to fail


def answering(answer: bytes, *, close: bool = False) -> Talk:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        if not close:
            await reader.read()

    return talk


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("http", b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n", "proxy_authentication"),
        ("http", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "proxy_refused"),
        ("http", b"HTTP/1.1 302 Elsewhere\r\nLocation: /\r\n\r\n", "proxy_refused"),
        ("http", b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n", "proxy_gateway"),
        ("http", b"SSH-2.0-OpenSSH\r\n\r\n", "proxy_bad_reply"),
        ("http", b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "proxy_bad_reply"),
        ("http", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500, "proxy_bad_reply"),
        ("http", b"", "proxy_timeout"),
        ("socks5", b"", "proxy_timeout"),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "proxy_bad_reply"),
        ("socks5", b"\x05\xff", "proxy_authentication"),
        ("socks5", b"\x05\x63", "proxy_bad_reply"),
        ("socks5", b"\x05\x00\x05\x05\x00\x01" + b"\0" * 6, "proxy_gateway"),
        ("socks5", b"\x05\x00\x05\x02\x00\x01" + b"\0" * 6, "proxy_refused"),
        ("socks5", b"\x05\x00\x05\x42\x00\x01" + b"\0" * 6, "proxy_bad_reply"),
        ("socks5", b"\x05\x00\x05\x00\x00\x09" + b"\0" * 6, "proxy_bad_reply"),
        ("socks5", b"\x05\x00\x05\x00\x00\x03\x02\xff\xff\0\0", "proxy_bad_reply"),
        ("socks4", b"\0\x5b" + b"\0" * 6, "proxy_gateway"),
        ("socks4", b"\0\x5d" + b"\0" * 6, "proxy_authentication"),
        ("socks4", b"junk" * 4, "proxy_bad_reply"),
    ],
)
async def test_what_a_proxy_that_fails_is_blamed_for(scheme: str, answer: bytes, reason: str) -> None:
    async with serving(answering(answer)) as near:
        settings = replace(HASTY, proxy=(f"{scheme}://me:secret@127.0.0.1:{near.port}",))
        async with fetching(settings) as fetcher:
            failure = await get(fetcher, "https://a.test/")
            assert isinstance(failure, Failure), failure
            assert (failure.outcome, failure.reason, failure.written) == (Outcome.PROXY, reason, False)
            assert f"proxy {scheme}://127.0.0.1:{near.port}: " in failure.error
            assert "secret" not in failure.error
            assert failure.ip is None
            assert fetcher.sockets == (0, 0)


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5"])
async def test_a_proxy_that_hangs_up_or_is_not_there(scheme: str) -> None:
    async with serving(answering(b"", close=True)) as near:
        settings = replace(SETTINGS, proxy=(f"{scheme}://127.0.0.1:{near.port}",))
        async with fetching(settings) as fetcher:
            outcome = await failed(fetcher, "https://a.test/")
            assert outcome == (Outcome.PROXY, "proxy_bad_reply", False)
    async with fetching(settings) as fetcher:
        for url in ("https://a.test/", "http://a.test/"):
            assert await failed(fetcher, url) == (Outcome.PROXY, "proxy_unreachable", False)


async def test_a_proxy_s_own_name_is_looked_up_here_and_its_failure_is_the_proxy_s() -> None:
    async def lookup(name: str) -> tuple[tuple[str, ...], float]:
        assert name == "proxy.example"
        raise LookupFailed(name, "nxdomain")

    resolver = Resolver(ResolverSettings(), lookup=lookup)
    async with fetching(replace(SETTINGS, proxy=("socks5://proxy.example:1080",)), resolver) as fetcher:
        outcome = await failed(fetcher, "http://a.test/")
        assert outcome == (Outcome.PROXY, "proxy_unreachable", False)
    await resolver.close()


async def test_a_407_to_a_whole_url_is_the_proxy_s_and_one_through_a_tunnel_the_host_s() -> None:
    asking = b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n"
    async with (
        serving(asking) as near,
        fetching(replace(SETTINGS, proxy=(near.url(host="127.0.0.1"),))) as fetcher,
    ):
        assert await failed(fetcher, "http://a.test/") == (Outcome.PROXY, "proxy_authentication", False)
    async with (
        serving(asking) as far,
        microsocks() as port,
        fetching(replace(SETTINGS, proxy=(f"socks5://127.0.0.1:{port}",))) as fetcher,
    ):
        assert (await got(fetcher, far.url(host="127.0.0.1"))).status == 407


# ------------------------------------------------------------------------------------------------- several


def echoing(name: bytes) -> Talk:
    """An HTTP proxy that answers by its own name."""

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))

    return talk


async def test_a_host_keeps_its_proxy_and_hosts_are_shared_out() -> None:
    async with serving(echoing(b"1")) as one, serving(echoing(b"2")) as two, serving(echoing(b"3")) as three:
        proxies = tuple(server.url("", host="127.0.0.1") for server in (one, two, three))
        hosts = [f"h{number}.test" for number in range(60)]
        served: list[dict[str, bytes]] = []
        for order in (
            proxies,
            proxies,
            proxies[::-1],
        ):  # two processes, and one that was told in another order
            async with fetching(replace(SETTINGS, proxy=order)) as fetcher:
                first = {host: (await got(fetcher, f"http://{host}/")).payload for host in hosts}
                assert first == {host: (await got(fetcher, f"http://{host}/2")).payload for host in hosts}
                served.append(first)
        assert served[0] == served[1] == served[2]
        assert min(Counter(served[0].values()).values()) >= 8
        assert len(set(served[0].values())) == 3
        async with fetching(replace(SETTINGS, proxy=proxies[:2])) as fetcher:
            for host in hosts:
                if served[0][host] != b"3":
                    assert (await got(fetcher, f"http://{host}/")).payload == served[0][host]


async def test_while_a_proxy_fails_its_hosts_go_through_the_next_and_come_back() -> None:
    at = 1000.0
    async with serving(echoing(b"live")) as live:
        dead = free_port()
        proxies = (f"http://127.0.0.1:{dead}", live.url("", host="127.0.0.1"))
        order = Proxies(proxies)
        host = next(
            name
            for name in (f"h{number}.test" for number in range(100))
            if order.of(name)[0].shown.endswith(str(dead))
        )
        fetcher = Fetcher(replace(SETTINGS, proxy=proxies), clock=lambda: at)
        await fetcher.start()
        try:
            assert (await got(fetcher, f"http://{host}/")).payload == b"live"

            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await echoing(b"back")(Server(), reader, writer)

            listening = await listen(talk, port=dead)
            try:
                assert (await got(fetcher, f"http://{host}/")).payload == b"live"
                at += 31.0
                assert (await got(fetcher, f"http://{host}/")).payload == b"back"
            finally:
                await listening.close()
        finally:
            await fetcher.close()


async def test_when_all_proxies_fail_that_is_the_outcome_and_not_all_of_a_long_list_are_tried() -> None:
    async with serving(answering(b"", close=True)) as near:
        base = near.url("", host="127.0.0.1")
        many = tuple(base.replace("//", f"//user{number}:x@") for number in range(10))
        async with fetching(replace(SETTINGS, proxy=many)) as fetcher:
            assert await failed(fetcher, "https://a.test/") == (Outcome.PROXY, "proxy_bad_reply", False)
            assert near.connections == 3


async def test_what_a_proxy_refuses_is_not_asked_of_another() -> None:
    no = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(no)) as near:
        base = near.url("", host="127.0.0.1")
        async with fetching(replace(SETTINGS, proxy=(base, base.replace("//", "//me:x@")))) as fetcher:
            assert await failed(fetcher, "https://a.test/") == (Outcome.PROXY, "proxy_refused", False)
            assert near.connections == 1


async def test_a_host_may_have_other_proxies_or_none() -> None:
    async with serving(echoing(b"usual")) as usual, serving(echoing(b"other")) as other, serving(OK) as far:
        settings = replace(
            SETTINGS,
            proxy=(usual.url("", host="127.0.0.1"),),
            host_proxies=(
                ("*.test", (other.url("", host="127.0.0.1"),)),
                ("b.test", ()),
                ("[::1]", ()),
            ),
        )
        async with fetching(settings) as fetcher:
            assert (await got(fetcher, "http://c.example/")).payload == b"usual"
            assert (await got(fetcher, "http://a.test/")).payload == b"other"
            exchange = await got(fetcher, far.url(host="b.test"))
            assert (exchange.payload, exchange.ip) == (b"ok", "127.0.0.1")
            assert fetcher.sockets == (0, 3)


async def test_a_direct_host_is_judged_though_others_go_through_a_proxy() -> None:
    async with serving(echoing(b"usual")) as usual, serving(OK) as far:
        settings = replace(
            SETTINGS,
            allow_private=(),
            proxy=(usual.url("", host="127.0.0.1"),),
            host_proxies=(("b.test", ()),),
        )
        async with fetching(settings) as fetcher:
            assert (await got(fetcher, "http://a.test/")).payload == b"usual"
            refused = (Outcome.PRIVATE_ADDRESS, "address_loopback", False)
            assert await failed(fetcher, far.url(host="b.test")) == refused
            assert far.connections == 0


# ------------------------------------------------------------------------------------------------- secrets


async def test_a_password_shows_nowhere(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = Proxy("socks5://me:secret@127.0.0.1:9")
    assert "secret" not in f"{proxy} {proxy!r} {proxy.shown} {proxy.url!r}"
    async with serving(echoing(b"1")) as near:
        settings = replace(SETTINGS, proxy=(near.url("", host="127.0.0.1").replace("//", "//me:secret@"),))
        async with fetching(settings) as fetcher:
            exchange = await got(fetcher, "http://a.test/")
    assert isinstance(exchange, Exchange)
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in exchange.request_head
    record = warc.request_record(
        record_id="urn:uuid:00000000-0000-4000-8000-000000000000",
        url=exchange.url,
        date=exchange.started_at,
        ip=exchange.ip,
        head=exchange.request_head,
        concurrent_to="urn:uuid:00000000-0000-4000-8000-000000000001",
    )
    assert b"bWU6c2VjcmV0" not in gzip.decompress(record)
    assert b"Proxy-Authorization: " in gzip.decompress(record)
    assert "secret" not in caplog.text
    assert "bWU6c2VjcmV0" not in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "ftp://me:secret@a:1",
        "http://me:secret@",
        "http://me:secret@a:b:c",
        "socks5://me:s%C3%A9cret@a:1",
        "socks5://me:secret" + "x" * 300 + "@a:1",
        "http://me:secret@a/path",
    ],
)
def test_a_proxy_that_is_none_is_told_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Proxies((text,))
    assert "cret" not in str(caught.value)


async def test_own_and_secret_headers_reach_their_host_only_and_show_in_no_error() -> None:
    async with serving(OK) as server, fetching() as fetcher:
        login = {"Authorization": "Basic c2VjcmV0", "Cookie": "s=secret"}
        first = await got(fetcher, server.url(), headers=login)
        await got(fetcher, server.url(host="b.test"))
        await got(fetcher, server.url("/2"))
        assert b"Authorization: Basic c2VjcmV0\r\n" in server.asked[0]
        assert not any(b"c2VjcmV0" in head or b"Cookie" in head for head in server.asked[1:])
        failure = await get(fetcher, server.url(), headers={"Cookie": "s=secret\r\nX: y"})
        assert isinstance(failure, Failure)
        assert "secret" not in failure.error
        assert b"s=secret" in first.request_head
