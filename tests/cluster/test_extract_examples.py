"""The examples, as their own first lines say that they are run, on their own pages of the demo web."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.demo.server import serve
from shoal.demo.sets import BOOKS, FILMS, POEMS
from shoal.demo.web import Web
from tests.support.cluster import ROOT, audited, coord

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Demo:
    """The demo web, by a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(
            serve(lambda request: self.web.respond(request)), self.loop
        ).result(10)
        self.web = Web(self.server.port)
        self.hosts = folder / "demo.hosts"
        self.hosts.write_text("".join(f"127.0.0.1 {host}\n" for host in self.web.hosts()))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.close()


def crawled(example: str, demo: Demo, folder: Path) -> Path:
    """Carry out the `coord crawl` of an example's docstring; the DIR."""
    text = (ROOT / "examples" / f"{example}.py").read_text().split('"""')[1].replace("\\\n", " ")
    (command,) = [line for line in text.splitlines() if line.strip().startswith("coord crawl")]
    words = shlex.split(command)
    words = [word.replace(":8000", f":{demo.server.port}") for word in words]
    words = [word.replace("examples/", f"{ROOT}/examples/") for word in words]
    words[words.index("--hosts-file") + 1] = str(demo.hosts)
    out = words[words.index("--out") + 1] = str(folder / "out")
    done = coord(*words[1:], "--procs", "1", "--delay", "0", timeout=100)
    assert done.returncode == 0, done.stderr
    audited(Path(out))
    return Path(out)


def items(out: Path, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in out.glob(f"items/{name}-*") for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_type_checked(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_paginated_list_in_gbk(demo: Demo, tmp_path: Path) -> None:
    found = items(crawled("paginated_list", demo, tmp_path), "items")
    assert [(poem["title"], poem["author"]) for poem in found] == list(POEMS)


def test_a_list_of_films_and_each_films_page(demo: Demo, tmp_path: Path) -> None:
    found = items(crawled("movies", demo, tmp_path), "movie")
    assert [
        (film["rank"], film["title"], film["released"])
        for film in sorted(found, key=lambda film: film["rank"])
    ] == [(rank, title, date) for rank, (title, date) in enumerate(FILMS, 1)]
    assert all(
        film["poster"] == demo.web.url(("films.demo.test", f"/posters/{film['rank']}.jpg")) for film in found
    )


def test_a_json_api_by_its_cursor(demo: Demo, tmp_path: Path) -> None:
    found = items(crawled("json_api", demo, tmp_path), "book")
    assert [{key: book[key] for key in ("id", "title", "price")} for book in found] == list(BOOKS)
