"""The examples, as their own first lines say that they are run, on their own pages of the demo web."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from warcio.archiveiterator import ArchiveIterator

from common.filenames import safe_name
from shoal.demo.media import PICTURES, TALKS, png, video
from shoal.demo.server import Answer, Request, serve
from shoal.demo.sets import BOOKS, BROKEN, FILMS, POEMS, REQUISITES, ROOMS
from shoal.demo.sites import MEMBER, MINUTES, SHOPS, firm_status, write_csv
from shoal.demo.web import Web
from tests.support.aside import Aside
from tests.support.cluster import ROOT, audited, coord

EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".sh", ".toml"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True, slots=True)
class Hit:
    """What was asked of the demo web."""

    request: Request
    status: int
    ended: float


class Demo:
    """The demo web, and what was asked of it."""

    def __init__(self, folder: Path, aside: Aside) -> None:
        self.log: list[Hit] = []
        self.server = aside.wait(serve(lambda request: self.web.respond(request), ended=self._ended))
        self.web = Web(self.server.port)
        self.hosts = folder / "demo.hosts"
        self.hosts.write_text("".join(f"127.0.0.1 {host}\n" for host in self.web.hosts()))

    def hits(self, host: str) -> list[Hit]:
        """What was asked of a host, but for its robots.txt."""
        return [hit for hit in self.log if hit.request.host == host and hit.request.target != "/robots.txt"]

    def _ended(self, request: Request, answer: Answer, at: float) -> None:
        self.log.append(Hit(request, answer.status, at))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with Aside("demo web") as aside:
        demo = Demo(tmp_path, aside)
        yield demo
        aside.wait(demo.server.close())


def typed(
    example: str, demo: Demo, folder: Path, *, change: tuple[str, str] = ("", "")
) -> list[subprocess.CompletedProcess[str]]:
    """Carry out the commands of an example's first lines in `folder`, by a shell, as they stand there.

    `change`: a word of them, and another one in its place.
    """
    commands = folder / "bin"
    commands.mkdir()
    for name, main in (("coord", "coordinator"), ("worker", "worker")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/{main}/__main__.py "$@"\n')
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    said = []
    for line in first_lines(example):
        if "shoal.demo" in line:
            continue
        command = (
            line.replace(*change)
            .replace(":8000", f":{demo.server.port}")
            .replace("examples/", f"{ROOT}/examples/")
        )
        said.append(
            subprocess.run(
                ["sh", "-c", command],
                cwd=folder,
                env=os.environ | {"PATH": path},
                capture_output=True,
                text=True,
                check=False,
                timeout=100,
            )
        )
    return said


def first_lines(example: str) -> list[str]:
    """The commands that an example begins with."""
    (path,) = (path for path in EXAMPLES if path.stem == example)
    lines = takewhile(
        lambda line: not line.startswith(("import", "from", "set ", "[")), path.read_text().splitlines()
    )
    text = "\n".join(
        line.removeprefix("#").removeprefix(" ") if path.suffix != ".py" else line for line in lines
    )
    return [line.strip() for line in text.replace("\\\n", "").splitlines() if line.startswith("    ")]


def crawled(example: str, demo: Demo, folder: Path) -> Path:
    """Carry out the commands of an example; the DIR of its crawl, which is audited."""
    for done in typed(example, demo, folder):
        assert done.returncode == 0, (done.args, done.stderr)
    (out,) = (path.parent for path in folder.glob("*/FORMAT"))
    audited(out)
    return out


def items(out: Path, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in out.glob(f"items/{name}-*") for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_it_is_run(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40
    assert first_lines(path.stem)[0].startswith("python -m shoal.demo --port 8000")
    assert f"({path.name})" in (ROOT / "examples" / "README.md").read_text()


def test_the_examples_are_type_checked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *(str(path) for path in EXAMPLES if path.suffix == ".py")],
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


def test_a_slow_server_is_asked_a_hundred_things_at_once(demo: Demo, tmp_path: Path) -> None:
    found = items(crawled("slow_server", demo, tmp_path), "answer")
    assert sorted((int(each["question"]), each["answer"]) for each in found) == [
        (n, n * n) for n in range(1, 101)
    ]
    hits = demo.hits("oracle.demo.test")
    assert len(hits) == 100
    # All of them, or half where the other worker process comes late.
    at_once = [sum(one.request.arrived <= hit.request.arrived < one.ended for one in hits) for hit in hits]
    assert max(at_once) >= 50
    with (tmp_path / "answers.csv").open(newline="") as file:
        assert sum(int(row["answer"]) for row in csv.DictReader(file)) == sum(n * n for n in range(101))


def test_a_login_and_what_is_behind_it(demo: Demo, tmp_path: Path) -> None:
    found = items(crawled("login", demo, tmp_path), "minutes")
    assert [each["heading"] for each in found] == [f"Minutes of meeting {n}" for n in range(1, MINUTES + 1)]
    hits = demo.hits("club.demo.test")
    assert [(hit.request.method, hit.request.target, hit.status) for hit in hits[:3]] == [
        ("GET", "/login", 200),
        ("POST", "/login", 303),
        ("GET", "/members", 200),
    ]
    assert parse_qs(hits[1].request.body.decode())["name"] == [MEMBER[0]]
    assert all("session=" in hit.request.headers["cookie"] for hit in hits[2:])


def test_a_wrong_password_is_told(demo: Demo, tmp_path: Path) -> None:
    done, tail = typed("login", demo, tmp_path, change=("lovelace", "byron"))
    assert (done.returncode, tail.stdout) == (0, ""), done.stderr
    assert [hit.request.target for hit in demo.hits("club.demo.test")] == ["/login", "/login"]
    assert "wrong name or password" in coord("tail", str(tmp_path / "club1")).stdout


def test_an_archive_of_one_site_and_of_what_its_pages_load(demo: Demo, tmp_path: Path) -> None:
    out = crawled("archive", demo, tmp_path)
    pages = [("museum.demo.test", path) for path in ("/", *(f"/rooms/{room}" for room in ROOMS))]
    wanted = {demo.web.url(place) for place in (*pages, *REQUISITES)}
    records: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in out.glob("warc/*.warc.gz"):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                url = record.rec_headers.get_header("WARC-Target-URI")
                if url is not None and not url.endswith("/robots.txt"):
                    records[record.rec_type][url] = record.content_stream().read()
    assert records["response"].keys() == records["request"].keys() == wanted
    for place in REQUISITES:
        asked = Request("GET", *place, {}, 0, 0.0)
        assert records["response"][demo.web.url(place)] == demo.web.respond(asked).body
    assert not demo.hits("away.demo.test")
    with zipfile.ZipFile(tmp_path / "museum1.wacz") as wacz:
        assert wacz.testzip() is None
        assert "datapackage.json" in wacz.namelist()


def test_a_list_of_images_and_again(demo: Demo, tmp_path: Path) -> None:
    out = crawled("images", demo, tmp_path)
    with (tmp_path / "pictures1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = {row["url"].rpartition("/")[2]: (out / row["file"]).read_bytes() for row in rows}
    assert kept == {f"{number}.png": png(number) for number in range(1, PICTURES + 1)}
    assert sum(path.is_file() for path in (out / "files").rglob("*")) == PICTURES
    asked = [hit.request.target for hit in demo.hits("gallery.demo.test")]
    assert len(asked) == len(set(asked)) == PICTURES


def test_videos_that_scripts_name(demo: Demo, tmp_path: Path) -> None:
    out = crawled("videos", demo, tmp_path)
    found = {talk["title"]: talk["video"] for talk in items(out, "talk")}
    assert list(found) and set(found) == set(TALKS)
    lines = {
        line["url"]: line
        for path in out.glob("pages/*")
        for line in map(json.loads, path.read_text().splitlines())
    }
    for number, title in enumerate(TALKS[:-1], 1):
        line = lines[found[title]]
        assert (out / line["file"]).read_bytes() == video(number)
        assert safe_name(title)[0] in line["file"] or number == 2
    assert found[TALKS[1]] == found[TALKS[-1]]
    assert len(demo.hits("media.demo.test")) == len(TALKS) - 1


def test_a_link_checker(demo: Demo, tmp_path: Path) -> None:
    (done,) = typed("link_checker", demo, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    wanted = {
        f"{status} {demo.web.url(place)}": {
            f"    on {demo.web.url(('guide.demo.test', page))}" for page in pages
        }
        for place, (status, pages) in BROKEN.items()
    }
    told: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith(" "):
            told[list(told)[-1]].add(line)
        else:
            told[line] = set()
    assert told == wanted
    assert {hit.request.method for hit in demo.hits("away.demo.test")} == {"HEAD"}


def test_the_statuses_of_a_column_of_a_table(demo: Demo, tmp_path: Path) -> None:
    rows = 3000
    write_csv(tmp_path / "firms.csv", demo.server.port, rows)
    with (tmp_path / "firms.csv").open("a") as file:
        file.write("Nobody,no address,\nEverybody,,\n")
    (done,) = typed("csv_status", demo, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"skipped: firms.csv#website, line {2 * rows + 2}: neither a URL" in done.stderr
    with (tmp_path / "status1.csv").open(newline="") as file:
        lines = {row["url"]: row for row in csv.DictReader(file)}
    statuses = {number: firm_status(number) for number in range(1, rows + 1)}
    for number, status in statuses.items():
        line = lines.pop(f"http://shop-{number % SHOPS}.demo.test:{demo.server.port}/firm/{number}")
        assert (line["status"], line["method"]) == (str(status), "HEAD"), line
        if status == 301:
            assert lines.pop(line["redirect_to"])["status"] == "200"
    assert not lines
    assert {hit.request.method for hit in demo.log if hit.request.target != "/robots.txt"} == {"HEAD"}
    with (tmp_path / "status1-broken.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == list(statuses.values()).count(404)
