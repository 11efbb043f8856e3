"""The dashboard's own files: all that the page needs and nothing else, from here alone, and safe to show to anybody."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.calling import dashboard_url
from coordinator.control import ControlServer
from tests.loopback.test_control import Crawl

TOKEN = "a-token-for-tests"
ROOT = Path(__file__).parents[2]
STATIC = ROOT / "coordinator" / "dashboard" / "static"
OURS = sorted(path for path in STATIC.iterdir() if not path.name.startswith("uPlot"))
SCRIPTS = [path for path in OURS if path.suffix == ".js"]


class Served:
    """A running interface, asked with exactly the head that a test writes."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        given = {"Host": self.address, "Connection": "close"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        whole = await reader.read()
        writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@pytest.fixture(params=["127.0.0.1:0", "0.0.0.0:0"], ids=["loopback", "beyond"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    server = ControlServer(Crawl(), TOKEN)
    yield Served(await server.start(request.param))
    await server.close()


async def test_the_page_and_its_files_are_there_for_whoever_asks_and_the_crawl_is_not(served: Served) -> None:
    status, headers, body = await served.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    named = set(re.findall(rb'(?:href|src)="(/dashboard/[^"]+)"', body))
    assert len(named) >= 6
    for path in named:
        status, headers, _ = await served.get(path.decode())
        assert status == 200, path
        assert headers["X-Content-Type-Options"] == "nosniff"
    for path in STATIC.iterdir():
        assert (await served.get(f"/dashboard/{path.name}"))[2] == path.read_bytes()
    beyond = (await served.get("/api/v1/status"))[0] == 401
    assert (await served.get("/api/v1/options"))[0] == (401 if beyond else 200)


async def test_what_was_read_before_is_not_sent_again(served: Served) -> None:
    _, headers, _ = await served.get("/dashboard/app.js")
    assert headers["Cache-Control"] == "no-cache"
    status, _, body = await served.get("/dashboard/app.js", If_None_Match=headers["ETag"])
    assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/nothing.js",
        "/dashboard/",
        "/dashboard",
        "/dashboard/../routes.py",
        "/dashboard/..%2Froutes.py",
        "/dashboard/%2e%2e/routes.py",
        "/dashboard/static/app.js",
        "/dashboard//etc/passwd",
        "/index.html",
    ],
)
async def test_there_is_nothing_else(served: Served, path: str) -> None:
    status, _, body = await served.get(path)
    assert status in (401, 404)
    assert b"routes" not in body and b"root:" not in body


async def test_another_name_or_another_page_gets_none_of_it(served: Served) -> None:
    for path in ("/", "/dashboard/app.js"):
        assert (await served.get(path, Host="evil.example"))[0] == 403
        assert (await served.get(path, Origin="https://evil.example"))[0] == 403


async def test_every_answer_forbids_what_is_not_ours(served: Served) -> None:
    for path in ("/", "/dashboard/app.js", "/api/v1/status", "/nothing", "/metrics"):
        _, headers, _ = await served.get(path)
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy.pop("default-src") == "'none'"
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert set(policy.values()) == {"'self'", "'none'"}
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_file_names_another_place_or_writes_script_into_the_page(path: Path) -> None:
    text = path.read_text()
    if path.suffix != ".svg":  # its namespace is a name, not a place
        without = text.replace("https://example.org/", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", without.replace("http://127.0.0.1", ""))
    if path.suffix == ".html":
        assert not re.search(
            r"\son\w+=|javascript:|\sstyle=|<style|<script(?![^>]*\ssrc=\"/dashboard/)", text
        )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_html_of_a_text(path: Path) -> None:
    slips = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    assert not re.search(slips, path.read_text())
    for module in re.findall(r'from "\./([^"]+)"', path.read_text()):
        assert (STATIC / module).exists()


def test_every_element_that_a_script_asks_for_is_in_the_page() -> None:
    named = set(re.findall(r'id="([^"]+)"', (STATIC / "index.html").read_text()))
    assert len(named) == len(re.findall(r'id="([^"]+)"', (STATIC / "index.html").read_text()))
    for path in SCRIPTS:
        asked = set(re.findall(r'\$\("([^"]+)"\)', path.read_text()))
        assert asked - {"tile-errors"} <= named, path.name  # the tiles are made by a script


def test_the_library_keeps_its_licence_and_version() -> None:
    decision = (ROOT / "docs" / "adr" / "0024-the-dashboard-is-static-files-and-uplot.md").read_text()
    [version] = re.findall(r"uPlot \(v([\d.]+)\)", (STATIC / "uPlot.min.js").read_text()[:200])
    assert f"uPlot {version}" in decision
    assert "MIT License" in (STATIC / "uPlot.LICENSE.txt").read_text()


def test_the_address_has_the_token_where_browsers_keep_it_to_themselves() -> None:
    assert dashboard_url("127.0.0.1:7700", TOKEN) == f"http://127.0.0.1:7700/#token={TOKEN}"
    assert dashboard_url("127.0.0.1:7700", None) == "http://127.0.0.1:7700/"


@pytest.mark.slow
def test_a_wheel_has_all_of_it(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = {Path(name).name for name in opened.namelist() if "coordinator/dashboard/static/" in name}
    assert held == {path.name for path in STATIC.iterdir()}
