"""The REST interface: anybody on this machine may look, only who holds the token may change, no web page may
ask."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.errors import UsageError
from coordinator.calling import ask, call, call_add, is_address, parse_address, why_path
from coordinator.control import ControlServer
from coordinator.directory import CrawlDirectory, Running
from coordinator.status import HostCounts, Phase, Status, WorkerStatus

TOKEN = "a-token-for-tests"
STATUS = Status(
    phase=Phase.RUNNING,
    directory="crawl1",
    pages=7,
    hosts=HostCounts(3, 1, 1, 1),
    workers=(WorkerStatus("a", 1),),
)


class Crawl:
    """A crawl that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def status(self) -> Status:
        return STATUS

    def history(self) -> dict[str, Any]:
        return {}

    def options(self) -> dict[str, Any]:
        return {"scope": "host", "options": {"delay": 1.0}, "hosts": [], "rules": 0}

    async def add(self, lines: list[str]) -> dict[str, Any]:
        if "nonsense" in lines:
            raise UsageError("nonsense is neither a file nor a URL")
        self.told.append(lines)
        return {"read": len(lines), "admitted": 1}

    async def stop(self, now: bool) -> None:
        self.told.append(("stop", now))

    async def pause(self) -> None:
        self.told.append("pause")

    async def resume(self) -> None:
        self.told.append("resume")

    async def set_options(self, options: Mapping[str, object], host: str | None) -> dict[str, Any]:
        if "dely" in options:
            raise UsageError("no option is called 'dely'; did you mean delay?")
        self.told.append(("set", options, host))
        return {"changed": ["delay: 1 → 2"]}

    async def block(self, hosts: list[str], undo: bool) -> dict[str, Any]:
        self.told.append(("block", hosts, undo))
        return {"changed": [], "ending": 3}

    async def retry(self, outcomes: list[str], host: str | None) -> dict[str, Any]:
        self.told.append(("retry", outcomes, host))
        return {"queued": 4}

    async def why(self, url: str) -> dict[str, Any] | None:
        return {"url": url, "state": "QUEUED"} if url == "https://a.test/?x=1&y" else None


class Served:
    """A running interface and what it steers."""

    def __init__(self, crawl: Crawl, address: str) -> None:
        self.crawl = crawl
        self.address = address

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """One request with exactly these headers (underscores for hyphens) beside a proper Host."""

        def blocking() -> tuple[int, dict[str, Any]]:
            connection = http.client.HTTPConnection(*parse_address(self.address, ""), timeout=10)
            sent = {"Host": self.address} | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, "/api/v1" + path, skip_host=True)
            text = json.dumps(body).encode() if not isinstance(body, bytes) else body
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(text)))
            connection.endheaders(text)
            response = connection.getresponse()
            try:
                return response.status, json.loads(response.read())
            finally:
                connection.close()

        return await asyncio.to_thread(blocking)

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
        given = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"} | headers
        return await self.ask("POST", path, body, **given)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    crawl = Crawl()
    server = ControlServer(crawl, TOKEN, names=["crawler.example"])
    yield Served(crawl, await server.start())
    await server.close()


async def test_anybody_on_this_machine_may_look(served: Served) -> None:
    code, read = await served.ask("GET", "/status")
    assert code == 200
    assert Status.from_json(read) == STATUS


async def test_every_change_needs_the_token(served: Served) -> None:
    for path in ("/stop", "/pause", "/resume", "/add", "/set", "/block", "/retry"):
        for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xe9"):
            code, read = await served.post(path, {"seeds": ["a"]}, Authorization=given)
            assert code == 401
            assert "coord.json" in read["error"]
    assert served.crawl.told == []


async def test_with_the_token_a_crawl_is_steered(served: Served) -> None:
    assert await served.post("/pause", {}) == (200, {"paused": True})
    assert await served.post("/resume", {}) == (200, {"paused": False})
    assert await served.post("/stop", {"now": True}) == (200, {"stopping": True})
    assert await served.post("/stop", b"") == (200, {"stopping": True})
    assert await served.post("/add", {"seeds": ["https://a.test/"]}) == (200, {"read": 1, "admitted": 1})
    assert served.crawl.told == ["pause", "resume", ("stop", True), ("stop", False), ["https://a.test/"]]


async def test_with_the_token_a_crawl_is_changed(served: Served) -> None:
    changed = (200, {"changed": ["delay: 1 → 2"]})
    assert await served.post("/set", {"options": {"delay": "2"}}) == changed
    assert await served.post("/set", {"options": {"delay": 2}, "host": "*.a.test"}) == changed
    assert await served.post("/block", {"hosts": ["a.test"]}) == (200, {"changed": [], "ending": 3})
    assert (await served.post("/block", {"hosts": ["a.test"], "undo": True}))[0] == 200
    assert await served.post("/retry", {"outcomes": ["DNS"], "host": None}) == (200, {"queued": 4})
    assert served.crawl.told == [
        ("set", {"delay": "2"}, None),
        ("set", {"delay": 2}, "*.a.test"),
        ("block", ["a.test"], False),
        ("block", ["a.test"], True),
        ("retry", ["DNS"], None),
    ]


async def test_a_page_in_a_browser_can_neither_read_nor_change(served: Served) -> None:
    code, _ = await served.ask("GET", "/status", Origin="https://evil.example")
    assert code == 403
    code, _ = await served.post("/stop", {}, Origin="https://evil.example")
    assert code == 403
    code, _ = await served.ask("GET", "/status", Origin=f"http://{served.address}")
    assert code == 200
    # What a form can send without asking first.
    code, _ = await served.post("/stop", {}, Content_Type="text/plain")
    assert code == 415
    assert served.crawl.told == []


async def test_a_name_rebound_to_loopback_is_refused(served: Served) -> None:
    port = served.address.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        code, read = await served.ask("GET", "/status", Host=host)
        assert code == 403
        assert "--advertise" in read["error"]
    for host in (f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "10.0.0.7", "crawler.example"):
        code, _ = await served.ask("GET", "/status", Host=host)
        assert code == 200


async def test_beyond_loopback_reading_needs_the_token_too() -> None:
    server = ControlServer(Crawl(), TOKEN)
    served = Served(Crawl(), await server.start("0.0.0.0:0"))
    try:
        assert served.address.startswith("127.0.0.1:")
        code, _ = await served.ask("GET", "/status")
        assert code == 401
        code, _ = await served.ask("GET", "/status", Authorization=f"Bearer {TOKEN}")
        assert code == 200
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/add", {"seeds": []}, "a list of texts"),
        ("/add", {"seeds": [1]}, "a list of texts"),
        ("/add", {"seeds": ["nonsense"]}, "neither a file nor a URL"),
        ("/add", b"{", "not JSON"),
        ("/add", [], "not a JSON object"),
        ("/stop", {"now": "yes"}, "true or false"),
        ("/set", {}, "options: an object"),
        ("/set", {"options": ["delay=1"]}, "options: an object"),
        ("/set", {"options": {"dely": "1"}}, "did you mean delay?"),
        ("/set", {"options": {"delay": "1"}, "host": 1}, "host: a text"),
        ("/block", {"hosts": "a.test"}, "hosts: a list of texts"),
        ("/block", {"hosts": ["a.test"], "undo": 1}, "undo: true or false"),
        ("/retry", {"outcomes": []}, "outcomes: a list of texts"),
        ("/retry", {"outcomes": ["DNS"], "host": ["a"]}, "host: a text"),
    ],
)
async def test_a_body_that_makes_no_sense_is_answered_with_one_line(
    served: Served, path: str, body: object, said: str
) -> None:
    code, read = await served.post(path, body)
    assert code == 400
    assert said in read["error"]
    assert served.crawl.told == []


async def test_a_body_without_end_is_cut_off(served: Served) -> None:
    code, _ = await served.post("/add", {"seeds": ["x" * (5 << 20)]})
    assert code == 413


async def test_an_unknown_path_is_json_too(served: Served) -> None:
    assert await served.ask("GET", "/nothing") == (404, {"error": "Not Found"})


async def test_an_occupied_port_is_one_line_that_says_what_to_do() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(UsageError, match="the port is taken: choose another"):
        await ControlServer(Crawl(), TOKEN).start(f"127.0.0.1:{taken.getsockname()[1]}")


@contextmanager
def running(folder: Path, address: str) -> Iterator[None]:
    with CrawlDirectory.acquire(folder) as directory:
        directory.write_running(
            Running(pid=os.getpid(), host=socket.gethostname(), started_at="", http=address, token=TOKEN)
        )
        yield


async def test_the_command_line_finds_the_coordinator_by_its_folder(served: Served, tmp_path: Path) -> None:
    folder = str(tmp_path)
    with running(tmp_path, served.address):
        read = await asyncio.to_thread(call, folder, "GET", "/status")
        assert Status.from_json(read) == STATUS
        assert await asyncio.to_thread(call, folder, "POST", "/stop", {"now": False}) == {"stopping": True}
        found = await asyncio.to_thread(call, folder, "GET", why_path("https://a.test/?x=1&y"))
        assert found["state"] == "QUEUED"
        with pytest.raises(UsageError, match="was never met"):
            await asyncio.to_thread(call, folder, "GET", why_path("https://b.test/"))
        seeds = [f"https://a.test/{number}" for number in range(2500)]
        assert await asyncio.to_thread(call_add, folder, seeds) == {"read": 2500, "admitted": 3}
    with pytest.raises(UsageError, match="is not running: go on with `coord crawl --out"):
        call(folder, "GET", "/status")


async def test_the_command_line_finds_it_by_its_address(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await asyncio.to_thread(call, f"http://{served.address}/", "GET", "/status"))["pages"] == 7
    with pytest.raises(UsageError, match="SHOAL_TOKEN"):
        await asyncio.to_thread(call, served.address, "POST", "/pause")
    monkeypatch.setenv("SHOAL_TOKEN", TOKEN)
    assert await asyncio.to_thread(call, served.address, "POST", "/pause") == {"paused": True}


def test_nobody_there_and_somebody_else_there_are_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match=r"did not answer in 0.2 s"):
            call(address, "GET", "/status", timeout=0.2)
    with pytest.raises(UsageError, match=r"no coordinator answers at .*refused"):
        call(address, "GET", "/status")


def test_a_folder_is_told_from_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crawl:1").mkdir()
    assert is_address("127.0.0.1:7700")
    assert is_address("http://a.test:7700")
    assert not is_address("crawl:1")
    assert not is_address("crawls/crawl1")
    for wrong in ("127.0.0.1", "a:b", "a:99999", "http://a/b:1"):
        with pytest.raises(UsageError, match="expected HOST:PORT"):
            parse_address(wrong, "--http")


def test_a_coordinator_that_ends_while_it_is_asked_leaves_the_answer_to_the_files(tmp_path: Path) -> None:
    """`coord why` and `coord status` of a crawl that is just ending are no error."""
    directory = CrawlDirectory.acquire(tmp_path / "c")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        directory.write_running(
            Running(pid=os.getpid(), host=socket.gethostname(), started_at="", http=address, token=TOKEN)
        )
        ending = threading.Timer(0.3, directory.release)
        ending.start()
        assert ask(str(directory.path), "/status", lambda found: found.path) == directory.path
        ending.join()
