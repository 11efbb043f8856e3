"""HTML that nobody here wrote: a Debian documentation package behind nginx, crawled by the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nginx import Nginx, documentation, serving
from tests.support.walk import walk

COORD = [sys.executable, str(Path(__file__).parents[2] / "coordinator" / "__main__.py")]
HOST = "docs.test"

# Several minutes on a machine with other work to do are no sign of a hang: 500 pages of 100 KB.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    scratch = tmp_path / "nginx"
    scratch.mkdir()
    with serving(documentation(), scratch, host=HOST) as nginx:
        yield nginx


def command(nginx: Nginx, tmp_path: Path) -> list[str]:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 {HOST}\n")
    crawl = ["crawl", nginx.url("/index.html"), "--out", str(tmp_path / "crawl"), "--procs", "2"]
    network = ["--hosts-file", str(hosts), "--allow-private", "--delay", "0", "--per-host", "8"]
    return [*COORD, *crawl, *network, "--no-progress", "--contact", "tests@docs.test"]


def stored(tmp_path: Path) -> dict[str, int]:
    """URL → status of every line of `pages`; fails where a URL has two."""
    found: dict[str, int] = {}
    for path in sorted((tmp_path / "crawl" / "pages").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            page = json.loads(line)
            assert page["url"] not in found, f"{page['url']} has two lines"
            found[page["url"]] = page["status"]
    return found


def test_a_crawl_of_real_html_finds_what_an_independent_walk_finds(nginx: Nginx, tmp_path: Path) -> None:
    ran = subprocess.run(command(nginx, tmp_path), capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    asked = [target for _, target in nginx.hits if target != "/robots.txt"]
    assert stored(tmp_path) == walk(nginx.url("/index.html"), port=nginx.port)
    assert sorted(asked) == sorted(set(asked)), "a page was fetched twice"


def test_stopping_and_resuming_changes_nothing_in_the_result(nginx: Nginx, tmp_path: Path) -> None:
    for hits in (100, 250):
        crawl = subprocess.Popen(command(nginx, tmp_path), stderr=subprocess.PIPE, text=True)
        nginx.wait_for(hits)
        crawl.send_signal(signal.SIGINT)
        _, said = crawl.communicate(timeout=30)
        assert crawl.returncode == 130, said
    ran = subprocess.run(command(nginx, tmp_path), capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    assert stored(tmp_path) == walk(nginx.url("/index.html"), port=nginx.port)
