"""docs/queries.md, read and run: every query answers, on the lines of a crawl and on Parquet alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from common.outcome import Outcome
from coordinator.export.columns import PAGES
from tests.loopback.test_export import Crawl, line_of, page

PAGE: Final = Path(__file__).parents[2] / "docs" / "queries.md"
_BLOCKS: Final = re.findall(r"([^\n]*)\n\n```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
_OVER_LINES, _OVER_PARQUET, _LATEST = (block for _, block in _BLOCKS if block.startswith("CREATE"))
QUERIES: Final = {said.rstrip(":"): block for said, block in _BLOCKS if not block.startswith("CREATE")}


def in_round(number: int, line: bytes) -> bytes:
    """The same line in a later round."""
    return json.dumps(json.loads(line) | {"round": number}).encode() + b"\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`crawl1`, in which every query finds something, and `pages.parquet`."""
    crawl = Crawl(tmp_path_factory.mktemp("queries") / "crawl1")
    lines = [page(number, elapsed_ms=number, wire_length=400) for number in range(130)]
    lines += [page(number, host="b.test", digest="sha1:SAME", title="The same") for number in range(4)]
    lines += [page(9, host="c.test", title=None, charset="GB18030", content_type="text/plain", length=None)]
    lines += [
        line_of(f"http://a.test/hop{n}", Outcome.REDIRECT, status=301, redirect_to=f"http://a.test/{to}")
        for n, to in ((1, "hop2"), (2, "7"), (3, "hop3"))
    ]
    gone = line_of("http://a.test/gone", Outcome.CLIENT_ERROR, status=404, reason="status")
    gone = json.dumps(json.loads(gone) | {"referrer": "http://a.test/1"}).encode() + b"\n"
    lines += [gone, line_of("http://none.test/", Outcome.DNS, error="no such host")]
    lines += [in_round(1, page(1, digest="sha1:NEW")), in_round(1, page(2)), in_round(1, gone)]
    crawl.add("pages/pages-00-00000.jsonl", lines[:70])
    crawl.add("pages/pages-00-00001.jsonl", lines[70:], tail=b'{"url":"http://a.test/ha')
    crawl.commit()
    crawl.export(to="pages.parquet")
    return crawl.path.parent


def answer(view: str, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names and rows."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(view)
        found = connection.sql(query).to_arrow_table()
    return found.column_names, [tuple(row.values()) for row in found.to_pylist()]


def test_the_page_has_a_dozen_queries() -> None:
    assert len(QUERIES) >= 12


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_of_the_page_answers_the_same_from_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.chdir(folder)
    names, rows = answer(_OVER_LINES, query)
    assert rows, "it finds nothing"
    assert (names, rows) == answer(_OVER_PARQUET, query)


def test_the_view_over_lines_has_every_column(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    every = "SELECT * FROM pages ORDER BY url, round"
    names, rows = answer(_OVER_LINES, every)
    assert names == [column.name for column in PAGES]
    assert (names, rows) == answer(_OVER_PARQUET, every)


def test_chains_are_followed_to_their_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (query,) = (query for query in QUERIES.values() if "RECURSIVE" in query)
    assert answer(_OVER_LINES, query)[1] == [("http://a.test/hop1", "http://a.test/7", 2, "OK")]


def test_the_latest_line_of_a_request_is_told_from_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    crawl = Crawl(tmp_path / "crawl1")
    failed = line_of("http://a.test/1", Outcome.DNS)
    crawl.add("pages/pages-00-00000.jsonl", [failed, page(2), failed])
    crawl.add("pages/pages-00-00001.jsonl", [page(1)])
    query = "SELECT url, outcome FROM latest ORDER BY url"
    expected = [("http://a.test/1", "OK"), ("http://a.test/2", "OK")]
    assert answer(_OVER_LINES + _LATEST, query)[1] == expected
