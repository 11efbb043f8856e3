"""Watching over HTTP: one stream that slow listeners cannot hold up, figures that agree with each other, and the same
rules about who may ask as everywhere."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from prometheus_client.parser import text_string_to_metric_families

from coordinator import stream
from coordinator.calling import parse_address
from coordinator.control import ControlServer
from coordinator.openapi import description
from coordinator.status import FailedTry, Phase, Status
from shoal.demo.server import Answer
from tests.support.cluster import until
from tests.support.site import Site
from tests.support.terminal import Terminal

TOKEN = "a-token-for-tests"


class Crawl:
    """A crawl that goes on: each look sees one page more."""

    def __init__(self) -> None:
        self.looks = 0
        self.size = 0
        """Bytes that make a status large."""

    def status(self) -> Status:
        self.looks += 1
        errors = tuple(
            FailedTry("", f"https://a.test/{number}", "DNS")
            for number in range(self.looks, max(0, self.looks - 20), -1)
        )
        return Status(
            phase=Phase.RUNNING,
            directory="c" + "x" * self.size,
            pages=self.looks,
            recent_errors=errors,
        )

    def history(self) -> dict[str, Any]:
        return {"seconds": {}, "minutes": {}}


class Served:
    """A running interface."""

    def __init__(self, crawl: Crawl, server: ControlServer, address: str) -> None:
        self.crawl, self.server, self.address = crawl, server, address

    async def connect(
        self, path: str, *, receive: int | None = None, **headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask, and read nothing yet. `receive`: bytes that the kernel takes for us."""
        raw = socket.socket()
        if receive is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, parse_address(self.address, ""))
        reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 12 if receive else 1 << 16)
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.address}\r\n{lines}\r\n".encode())
        return reader, writer

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self.connect(path, Connection="close", **headers)
        whole = await reader.read()
        writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        named = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), named, body


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    crawl = Crawl()
    server = ControlServer(crawl, TOKEN)  # type: ignore[arg-type]  # it is only looked at
    yield Served(crawl, server, await server.start())
    await server.close()


async def event(reader: asyncio.StreamReader) -> tuple[str, Any]:
    """The next event with data, and what it says."""
    name = ""
    async with asyncio.timeout(20):
        while True:
            line = (await reader.readline()).decode().strip()
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return name, json.loads(line.removeprefix("data: "))


async def test_the_stream_gives_a_status_each_second_and_what_failed_meanwhile(served: Served) -> None:
    reader, writer = await served.connect("/api/v1/events")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"text/event-stream" in head
    assert b"no-store" in head
    name, first = await event(reader)
    assert name == "status"
    OAS31Validator(
        {"$ref": "#/components/schemas/Status", "components": description()["components"]}
    ).validate(first)
    name, second = await event(reader)
    assert (name, second["pages"]) == ("status", first["pages"] + 1)
    name, error = await event(reader)
    assert (name, error["url"]) == ("failed", f"https://a.test/{second['pages']}")
    name, third = await event(reader)
    assert (name, third["pages"]) == ("status", second["pages"] + 1)
    writer.close()


async def test_all_listeners_share_one_look_and_none_costs_nothing(served: Served) -> None:
    listeners = [await served.connect("/api/v1/events") for _ in range(3)]
    for reader, _ in listeners:
        await reader.readuntil(b"\r\n\r\n")
        await event(reader)
    pages = {(await event(reader))[1]["pages"] for reader, _ in listeners}
    assert len(pages) == 1
    for _, writer in listeners:
        writer.close()
    before = served.crawl.looks
    await asyncio.sleep(3 * stream.EVENT_SECONDS)
    assert served.crawl.looks <= before + 2


async def test_a_listener_too_many_is_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LISTENERS", 2)
    listeners = [await served.connect("/api/v1/events") for _ in range(2)]
    for reader, _ in listeners:
        await reader.readuntil(b"\r\n\r\n")
    status, _, body = await served.get("/api/v1/events")
    assert (status, json.loads(body)) == (503, {"error": "too many listen already; close one"})
    for _, writer in listeners:
        writer.close()


async def test_a_listener_that_does_not_listen_is_cut_off_and_holds_up_nobody(served: Served) -> None:
    served.crawl.size = 1 << 20  # more than the kernel and the transport hold between them
    _, asleep = await served.connect("/api/v1/events", receive=4096)
    served_stream = served.server._watching._stream
    async with asyncio.timeout(40):
        while not served_stream.dropped:
            await asyncio.sleep(0.1)
        while len(served_stream):
            await asyncio.sleep(0.1)
    served.crawl.size = 0
    reader, writer = await served.connect("/api/v1/events")
    await reader.readuntil(b"\r\n\r\n")
    assert (await event(reader))[0] == "status"
    writer.close()
    asleep.close()


async def test_the_server_can_be_closed_while_somebody_listens(served: Served) -> None:
    reader, writer = await served.connect("/api/v1/events")
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(10):
        await served.server.close()
    rest = await reader.read()
    assert rest.count(b"event: end\n") == 1
    assert rest.endswith(b"0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/status", "application/json"),
        ("/api/v1/history", "application/json"),
        ("/api/v1/openapi.json", "application/json"),
        ("/metrics", "text/plain"),
        ("/api/v1/events", "text/event-stream"),
    ],
)
async def test_beyond_loopback_watching_needs_the_token(path: str, kind: str) -> None:
    crawl = Crawl()
    server = ControlServer(crawl, TOKEN)  # type: ignore[arg-type]  # it is only looked at
    served = Served(crawl, server, await server.start("0.0.0.0:0"))
    try:
        assert (await served.get(path))[0] == 401
        reader, writer = await served.connect(path, Authorization=f"Bearer {TOKEN}")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200")
        assert f"Content-Type: {kind}" in head
        writer.close()
    finally:
        await server.close()


async def test_another_page_in_a_browser_reads_neither_stream_nor_metrics(served: Served) -> None:
    for path in ("/metrics", "/api/v1/events", "/api/v1/history"):
        assert (await served.get(path, Origin="https://evil.example"))[0] == 403
        if path != "/api/v1/events":  # that one has no end
            assert (await served.get(path, Origin=f"http://{served.address}"))[0] == 200


@pytest.mark.timeout(240)  # four commands, each a Python that starts
def test_of_a_real_crawl_all_ways_to_look_agree(tmp_path: Path) -> None:
    """One site is quick, one fails, one has a robots.txt that cannot be read: at the end only that is waited for."""
    with Site() as site:
        quick = [site.page(f"h{number}.test", "/") for number in range(3)]
        site.answer("bad.test", "/x", Answer(status=500))
        site.robots("late.test", "", status=503)
        site.page("late.test", "/")
        seeds = [site.url(*place) for place in quick] + [
            site.url("bad.test", "/x"),
            site.url("late.test", "/"),
        ]
        with Terminal(tmp_path, site) as terminal:
            out = terminal.folder / "c"
            running = terminal.begin(
                "coord", "crawl", *seeds, "--out", "c", "--retries", "0", "--procs", "1", *terminal.network
            )

            def status() -> dict[str, Any]:
                read = terminal.coord("status", "c", "--json")
                return json.loads(read.out) if read.code == 0 else {}

            until(lambda: (out / "coord.json").exists(), "it serves", 60)
            until(
                lambda: [each["what"] for each in status().get("waiting", ())][:1] == ["robots"],
                "robots wait",
                60,
            )
            told = status()
            assert told["limits"].startswith(
                "robots.txt of 1 host could not be read, late.test is asked for again in "
            )
            assert 0 < told["waiting"][0]["until_seconds"] <= 300
            assert told["outcomes"] == {"OK": 3, "SERVER_ERROR": 1}
            assert {error["outcome"] for error in told["recent_errors"]} == {
                "SERVER_ERROR",
                "ROBOTS_UNREACHABLE",
            }
            assert told["workers"][0]["rss_bytes"] > 0
            screen = terminal.coord("status", "c").out
            assert "robots.txt of 1 host could not be read" in " ".join(screen.split())
            assert max(map(len, screen.splitlines())) <= 80

            address = json.loads((out / "coord.json").read_text())["http"]
            metrics = text_of(address, "/metrics")
            families = {family.name: family for family in text_string_to_metric_families(metrics)}
            ended = {sample.labels["outcome"]: sample.value for sample in families["shoal_pages"].samples}
            assert {name: count for name, count in ended.items() if count} == {"OK": 3, "SERVER_ERROR": 1}
            [main] = [sample for sample in families["shoal_waiting"].samples if sample.value == 1]
            assert main.labels == {"cause": "robots"}
            history = json.loads(text_of(address, "/api/v1/history"))
            # Four pages; a point stands for a second, or for more on a machine that is busy.
            assert 0 < sum(history["seconds"]["pages"]) < 4.5

            assert terminal.coord("stop", "c").code == 0
            running.end()
            after = json.loads(terminal.coord("status", "c", "--json").out)
            assert (after["phase"], after["waiting"], after["outcomes"]) == ("stopped", [], told["outcomes"])


def text_of(address: str, path: str) -> str:
    """What a GET answers."""

    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        content: bytes = answer.read()
    return content.decode()
