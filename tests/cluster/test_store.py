"""`--store`: a corpus and a link graph of the demo web, whole after whatever happened; and each way of storing less."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from tests.cluster.test_extract_examples import Demo
from tests.support.aside import Aside
from tests.support.cluster import ROOT, audited, results, until
from tests.support.site import Site
from tests.support.terminal import Terminal

DOCS: Final = ROOT / "docs" / "export.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with Terminal(tmp_path) as terminal:
        yield terminal


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with Aside("demo web") as aside:
        demo = Demo(tmp_path, aside)
        yield demo
        aside.wait(demo.server.close())


def command(demo: Demo, out: str, *more: str) -> list[str]:
    """A crawl of the demo web, but for its slow host. 0.05 s between two fetches of one host: it takes some seconds."""
    start = demo.web.url(("www.demo.test", "/"))
    told = [
        "crawl",
        start,
        "--out",
        out,
        "--scope",
        "any",
        "--deny",
        "slow",
        "--procs",
        "2",
        "--http",
        "127.0.0.1:0",
    ]
    told += ["--hosts-file", str(demo.hosts), "--allow-private", "--delay", "0.05", "--retries", "0"]
    return [*told, "--contact", "tests@shoal.test", "--no-progress", *more]


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    """All lines of a kind; fails where one is torn."""
    found = []
    for path in sorted(out.glob(f"{kind}/*.jsonl")):
        content = path.read_bytes()
        assert content.endswith(b"\n"), path
        found += [json.loads(line) for line in content.splitlines()]
    return found


def told(out: Path, kind: str) -> Counter[str]:
    """The lines of a kind without when they were made."""
    return Counter(json.dumps(line | {"fetched_at": ""}, sort_keys=True) for line in lines(out, kind))


def test_a_crawl_that_was_killed_three_times_leaves_the_corpus_and_graph_of_one_that_was_not(
    demo: Demo, terminal: Terminal
) -> None:
    asked = ("--store", "text,links")
    whole, killed = terminal.folder / "whole", terminal.folder / "killed"
    ended = terminal.coord(*command(demo, "whole", *asked))
    assert ended.code == 0, ended.said
    for number in range(3):
        running = terminal.begin("coord", *command(demo, "killed", *asked))
        target = 40 * (number + 1)
        until(lambda target=target: count(killed, "text") >= target, f"{target} lines of text")  # type: ignore[misc]
        if number == 1:  # all of a sudden, workers too
            for pid in terminal.processes():
                os.kill(pid, signal.SIGSTOP)
            for pid in terminal.processes():
                os.kill(pid, signal.SIGKILL)
        else:
            running.signal(signal.SIGKILL)
        assert running.end().code == -signal.SIGKILL
        until(lambda: not terminal.processes(), "its workers are gone")
    ended = terminal.coord(*command(demo, "killed", *asked))
    assert ended.code == 0, ended.said
    pages = results(killed)
    assert {page["outcome"] for page in pages.values()} >= {"OK", "REDIRECT", "CLIENT_ERROR"}
    for out in (whole, killed):
        assert not list(out.glob("warc/*")), "no record was asked for"
        audited(out)
        texts = Counter(line["url"] for line in lines(out, "text"))
        assert set(texts.values()) == {1}, "a page, a line"
        with_text = {
            url for url, page in pages.items() if page["outcome"] == "OK" and page["title"] is not None
        }
        assert with_text - set(texts) == {demo.web.url(("old.demo.test", "/refresh"))}, "a title, and no text"
        # Each link once, and where it stands on a page that ended well; redirects are links, too.
        assert set(told(out, "links").values()) == {1}
        links = lines(out, "links")
        hops = {(line["from"], line["to"]) for line in links if line["kind"] == "redirect"}
        assert hops == {(url, page["redirect_to"]) for url, page in pages.items() if page["redirect_to"]}
        known = {line["to"] for line in links}
        assert {url for url, page in pages.items() if page["depth"]} <= known
    assert told(killed, "text") == told(whole, "text")
    assert told(killed, "links") == told(whole, "links")


def count(out: Path, kind: str) -> int:
    """Lines so far, torn ones too."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob(f"{kind}/*.jsonl"))


# ---------------------------------------------------------------------------------------------------- storing less


@pytest.mark.parametrize(
    "store", ["pages", "warc", "text", "links", "text,links", "warc,pages,text,links", "warc,links"]
)
def test_each_way_of_storing_leaves_what_it_names_and_the_lines_of_pages(store: str, tmp_path: Path) -> None:
    with Site() as site, Terminal(tmp_path, site) as terminal:
        site.page("a.test", "/", links=[("a.test", "/two"), ("b.test", "/out")], title="One")
        site.page("a.test", "/two", links=[("a.test", "/")], title="Two")
        out = tmp_path / "c"
        start = site.url("a.test", "/")
        ended = terminal.coord(
            "crawl",
            start,
            "--out",
            "c",
            *terminal.network,
            "--store",
            store,
            "--http",
            "127.0.0.1:0",
            "--procs",
            "1",
        )
        assert ended.code == 0, ended.said
        pages = results(out)
        assert sorted(pages) == [start, site.url("a.test", "/two")]
        named = store.split(",")
        assert bool(list(out.glob("warc/*.warc.gz"))) == ("warc" in named)
        assert all((page["warc"] is not None) == ("warc" in named) for page in pages.values())
        assert sorted(line["url"] for line in lines(out, "text")) == (
            sorted(pages) if "text" in named else []
        )
        links = {(line["from"], line["to"], line["kind"]) for line in lines(out, "links")}
        two, out_of_scope = site.url("a.test", "/two"), site.url("b.test", "/out")
        expected = {(start, two, "a"), (start, out_of_scope, "a"), (two, start, "a")}
        assert links == (expected if "links" in named else set())
        audited(out)
        # A recrawl: what is as it was has no record either, where none is kept.
        again = ("--recrawl", *terminal.network, "--http", "127.0.0.1:0", "--procs", "1")
        ended = terminal.coord("crawl", "--out", "c", *again)
        assert ended.code == 0, ended.said
        assert bool(list(out.glob("warc/*.warc.gz"))) == ("warc" in named)
        audited(out)


def test_nothing_to_store_is_an_error(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        ended = terminal.coord("crawl", "http://a.test/", "--out", "c", "--store", "")
        assert ended.is_one_line(2, "store", "warc, pages, text, links")
        ended = terminal.coord("crawl", "http://a.test/", "--out", "c", "--store", "txt")
        assert ended.code == 2
        assert "text" in ended.said


# --------------------------------------------------------------------------------- taking it out, as the docs say it


def test_tail_and_export_give_the_corpus_and_the_graph_and_the_queries_of_the_docs_answer(
    demo: Demo, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(terminal.folder)
    out = terminal.folder / "crawl1"
    assert terminal.coord(*command(demo, "crawl1", "--store", "warc,pages,text,links")).code == 0
    for kind in ("text", "links"):
        tailed = terminal.coord("tail", "crawl1", kind)
        assert (tailed.code, [json.loads(line) for line in tailed.out.splitlines()]) == (0, lines(out, kind))
    section = DOCS.read_text().partition("## A corpus and a link graph")[2].partition("\n## ")[0]
    commands = re.findall(r"^    coord (export .*?)(?:  +.*)?$", section, re.M)
    assert len(commands) == 2
    for typed in commands:
        ended = terminal.coord(*typed.split())
        assert ended.code == 0, ended.said
    queries = re.findall(r"```sql\n(.*?)```", section, re.S)
    assert len(queries) == 2
    of_parquet = [duckdb.execute(query).fetchall() for query in queries]
    assert all(of_parquet), "each finds something"
    with_lines = [
        query.replace("'links.parquet'", "'crawl1/links/*.jsonl'").replace(
            "'text.parquet'", "'crawl1/text/*.jsonl'"
        )
        for query in queries
    ]
    assert [duckdb.execute(query).fetchall() for query in with_lines] == of_parquet
    some = terminal.coord("export", "crawl1", "links", "--to", "-", "--format", "jsonl", "--host", "books.*")
    hosts = {line["from"].split("/")[2].partition(":")[0] for line in map(json.loads, some.out.splitlines())}
    assert hosts == {"books.demo.test"}
    none = terminal.coord(
        "export", "crawl1", "text", "--to", "-", "--format", "jsonl", "--until", "2020-01-01"
    )
    assert (none.code, none.out) == (0, "")
