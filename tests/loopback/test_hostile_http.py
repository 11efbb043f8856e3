"""The REST interface under fire: slow, huge, compressed, nested and plain wrong requests, from near and from far."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import logging
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator import control
from coordinator.calling import parse_address
from coordinator.control import ControlServer
from coordinator.directory import CrawlDirectory, Running
from tests.loopback.test_control import TOKEN, Crawl, Served

CHANGES = ("/stop", "/pause", "/resume", "/add")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    crawl = Crawl()
    server = ControlServer(crawl, TOKEN)
    yield Served(crawl, await server.start())
    await server.close()


@pytest.fixture
async def open_to_all() -> AsyncIterator[Served]:
    """Bound beyond loopback."""
    crawl = Crawl()
    server = ControlServer(crawl, TOKEN)
    yield Served(crawl, await server.start("0.0.0.0:0"))
    await server.close()


async def exchange(served: Served, sent: bytes, *, within: float = 10.0) -> bytes:
    """What comes for these bytes until the server hangs up or has answered."""
    reader, writer = await asyncio.open_connection(*parse_address(served.address, ""))
    try:
        writer.write(sent)
        async with asyncio.timeout(within):
            return await reader.read(65_536)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_whatever_is_wrong_with_a_request_nothing_changes(served: Served) -> None:
    """Every change, with every wrong token, Host, Origin and type: none of the combinations lets it through."""
    right = {
        "Authorization": f"Bearer {TOKEN}",
        "Host": served.address,
        "Origin": None,
        "Content_Type": "application/json",
    }
    wrong = {
        "Authorization": (
            "",
            TOKEN,
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer \x00",
            f"Basic {TOKEN}",
        ),
        "Host": (
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "127.1",
            "0x7f000001",
            "[::1",
        ),
        "Origin": (
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.example",
            f"http://{served.address}.evil",
        ),
        "Content_Type": ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"),
    }
    asked = 0
    for path in CHANGES:
        for name, values in wrong.items():
            for value in values:
                headers = {key: given for key, given in (right | {name: value}).items() if given is not None}
                try:
                    code, _ = await served.ask("POST", path, {"seeds": ["https://a.test/"]}, **headers)
                except ValueError:  # the client itself does not send such a header
                    continue
                assert code in (400, 401, 403, 415), (path, name, value, code)
                asked += 1
    assert asked > 80
    assert served.crawl.told == []


async def test_other_methods_change_nothing_without_the_token(served: Served) -> None:
    for path, method in itertools.product(
        CHANGES, ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    ):
        answer = await exchange(
            served,
            f"{method} /api/v1{path} HTTP/1.1\r\nHost: {served.address}\r\nConnection: close\r\n\r\n".encode(),
        )
        assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404", b"405"), (method, path, answer[:80])
        assert b"access-control-allow" not in answer.lower(), "no other page is ever let in"
    assert served.crawl.told == []


async def test_beyond_loopback_everything_needs_the_token(open_to_all: Served) -> None:
    for path in ("/status", "/why?url=https://a.test/", "/nothing", ""):
        for given in ({}, {"Authorization": "Bearer x"}):
            code, _ = await open_to_all.ask("GET", path, **given)
            assert code == 401, path
    code, _ = await open_to_all.ask("GET", "/status", Authorization=f"Bearer {TOKEN}")
    assert code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"seeds":' * 50_000,
        b"\xff\xfe\x00",
        b"null",
        b'"x"',
        b"NaN",
        b"{\x00}",
        b"\x1f\x8b\x08",
    ],
    ids=repr,
)
async def test_a_body_of_any_shape_is_answered_in_one_line(served: Served, body: bytes) -> None:
    for path in CHANGES:
        code, read = await served.post(path, body)
        assert code == 400 and "\n" not in read["error"]
    assert served.crawl.told == []


async def test_a_charset_that_there_is_not_is_no_failure_of_ours(served: Served) -> None:
    code, _ = await served.post("/pause", {}, Content_Type="application/json; charset=klingon")
    assert code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_is_not_unfolded(served: Served, coding: str) -> None:
    """A thousandfold of what a body may be would be in memory before anybody looked at it."""
    bomb = gzip.compress(b" " * (64 << 20)) if coding == "gzip" else zlib.compress(b" " * (64 << 20))
    code, read = await served.post("/add", bomb, Content_Encoding=coding)
    assert code == 400 and "not JSON" in read["error"]


async def test_a_head_without_end_is_cut_off(served: Served) -> None:
    for head in (
        b"GET /" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
    ):
        answer = await exchange(served, head)
        assert answer == b"" or answer.split(b" ", 2)[1] in (b"400", b"431"), answer[:100]


async def test_who_sends_a_byte_at_a_time_is_cut_and_others_are_served_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bounds are numbers of ours, made short so that the test is."""
    monkeypatch.setattr(control, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(control, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(control, "BODY_SECONDS", 0.3)
    crawl = Crawl()
    server = ControlServer(crawl, TOKEN)
    served = Served(crawl, await server.start())
    try:
        place = parse_address(served.address, "")
        slow = [await asyncio.open_connection(*place) for _ in range(50)]
        for number, (_, writer) in enumerate(slow):
            if number % 2:
                writer.write(b"GET /api/v1/status HT")
        code, _ = await served.ask("GET", "/status")
        assert code == 200
        async with asyncio.timeout(10):
            for reader, _ in slow:
                assert await reader.read() == b"", "hung up"
        head = f"POST /api/v1/pause HTTP/1.1\r\nHost: {served.address}\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        answer = await exchange(served, head.encode())
        assert b"did not come within" in answer
        assert crawl.told == []
        for _, writer in slow:
            writer.close()
    finally:
        await server.close()


async def test_more_connections_than_are_kept_cost_the_oldest_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "SWEEP_SECONDS", 0.05)
    server = ControlServer(Crawl(), TOKEN)
    served = Served(Crawl(), await server.start())
    try:
        place = parse_address(served.address, "")
        held = [await asyncio.open_connection(*place) for _ in range(control.CONNECTIONS + 40)]
        async with asyncio.timeout(10):
            for reader, _ in held[:40]:
                assert await reader.read() == b""
        code, _ = await served.ask("GET", "/status")
        assert code == 200
        for _, writer in held:
            writer.close()
    finally:
        await server.close()


async def test_garbage_leaves_no_traceback_behind(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A stranger must not be able to fill the terminal of whoever runs the crawl."""
    with caplog.at_level(logging.WARNING):
        for sent in (
            b"\x16\x03\x01\x02\x00\x01",
            b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\r\n\r\n",
            b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x1b]0;owned\x07 / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
            b"GET http://[::1 HTTP/1.1\r\nHost: [::1\r\n\r\n",
        ):
            await exchange(served, sent + b"\r\n\r\n")
    said = [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]
    assert said == [], [record.getMessage() for record in said]


def test_the_token_is_for_the_owner_alone(tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path) as directory:
        (tmp_path / "coord.json").write_text("{}")
        (tmp_path / "coord.json").chmod(0o666)
        directory.write_running(Running(pid=1, host="h", started_at="", http="127.0.0.1:1", token=TOKEN))
        path = tmp_path / "coord.json"
        assert path.stat().st_mode & 0o777 == 0o600
        assert json.loads(path.read_text())["token"] == TOKEN
        assert [each for each in tmp_path.rglob("*") if each.is_file() and TOKEN in each.read_text()] == [
            path
        ]
