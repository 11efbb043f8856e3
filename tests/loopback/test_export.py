"""`coord export`: tables and lists that other programs read, from a crawl at any moment of its life."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.messages import Facts, Request
from common.outcome import Outcome
from coordinator.cli import main
from coordinator.directory import CrawlDirectory
from coordinator.export.columns import PAGES, Sort, inferred
from coordinator.export.sorting import merge_sorted
from coordinator.export.source import _STRIDE
from coordinator.ledger import page_line
from coordinator.store import rocks
from coordinator.store.rows import DoneRow, output_row, pack, superseded_row

ROOT = Path(__file__).parents[2]
BEGUN = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()


def line_of(url: str, outcome: Outcome = Outcome.OK, *, depth: int = 1, **facts: Any) -> bytes:
    """A line of `pages`, as the ledger writes it."""
    request = Request(url, depth, 0, 0, 0, "http://a.test/", None, None)
    told = Facts(outcome.code)._replace(**facts)
    place = ("warc/c-20260501120000000-00-00000.warc.gz", 1000, 500) if outcome.has_record else None
    return page_line(DoneRow(request, told, 1, place and "response", place, ("", 0, 0), (), ()))


def page(number: int, *, host: str = "a.test", **facts: Any) -> bytes:
    """The line of a page that was fetched `number` seconds after the begin."""
    usual: dict[str, Any] = {
        "status": 200,
        "content_type": "text/html",
        "charset": "utf-8",
        "length": 1000 + number,
        "digest": "sha1:" + f"{number:032}",
        "title": f"Page {number}",
        "fetched_at": BEGUN + number,
        "elapsed_ms": 7,
        "ip": "127.0.0.1",
    }
    return line_of(f"http://{host}/{number}", **(usual | facts))


class Crawl:
    """The files of a crawl, made by hand: what is committed, and what is not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        CrawlDirectory.acquire(path).release()
        self.rows: dict[bytes, bytes | None] = {}

    def add(self, file: str, lines: Sequence[bytes], *, tail: bytes = b"") -> None:
        """An output file with these lines committed, and a tail that is not."""
        target = self.path / file
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"".join(lines) + tail)
        self.rows[output_row(file)] = pack(sum(map(len, lines)))

    def commit(self, shard: int = 0) -> None:
        """Everything so far, to the store of a shard."""
        store = rocks.open(self.path / "frontier" / f"{shard:02d}")
        store.write(self.rows)
        store.close()
        self.rows = {}

    def export(self, *given: str, to: str) -> Path:
        """`coord export` of it, which succeeds."""
        target = self.path.parent / to
        assert main(["export", str(self.path), *given, "--to", str(target)]) == 0
        return target


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    """Three pages, committed, and a torn tail."""
    made = Crawl(tmp_path / "crawl")
    made.add("pages/pages-00-00000.jsonl", [page(1), page(2), page(3)], tail=b'{"url":"http://a.t')
    made.commit()
    return made


def table(path: Path) -> list[dict[str, Any]]:
    """Rows as DuckDB reads them."""
    rows: list[dict[str, Any]] = duckdb.sql(f"select * from '{path}'").to_arrow_table().to_pylist()
    return rows


# ------------------------------------------------------------------------------------------------------ which lines


def test_exactly_what_is_committed_is_exported_of_all_files_and_shards(tmp_path: Path) -> None:
    crawl = Crawl(tmp_path / "crawl")
    files = [[page(1), page(2)], [page(3)], [page(4, host="b.test")]]
    for number, (name, lines) in enumerate(zip(("00-00000", "00-00001", "01-00000"), files, strict=True)):
        crawl.add(f"pages/pages-{name}.jsonl", lines, tail=b"" if number == 0 else b'{"url":"torn')
        if number:
            crawl.commit(number - 1)
    assert crawl.export(to="x.jsonl").read_bytes() == b"".join(line for lines in files for line in lines)


def test_a_running_crawl_is_exported(crawl: Crawl) -> None:
    with CrawlDirectory.acquire(crawl.path):
        assert len(crawl.export(to="x.jsonl").read_bytes().splitlines()) == 3


def test_of_a_request_tried_anew_only_the_last_line_counts(crawl: Crawl) -> None:
    old, other = page(1, status=500, outcome=Outcome.SERVER_ERROR), page(2)
    crawl.add("pages/pages-00-00000.jsonl", [other, old, other, old])
    crawl.rows[superseded_row("pages/pages-00-00000.jsonl", len(other), len(old))] = b""
    crawl.rows[superseded_row("pages/pages-00-00000.jsonl", len(2 * other + old), len(old))] = b""
    crawl.add("pages/pages-00-00001.jsonl", [page(1)])
    crawl.commit()
    assert crawl.export(to="x.jsonl").read_bytes() == other + other + page(1)


def test_no_two_lines_begin_in_one_stride() -> None:
    assert len(line_of("http://a/", Outcome.DNS)) > _STRIDE


def test_seeds_are_exported_up_to_their_last_whole_line(crawl: Crawl) -> None:
    told = [{"line": 1, "given": "a.test", "url": "https://a.test/", "state": "admitted", "reason": None}]
    told += [{"line": 2, "given": "?", "url": None, "state": "refused", "reason": "scheme", "source": "x"}]
    lines = [json.dumps(line).encode() + b"\n" for line in told]
    (crawl.path / "seeds" / "seeds-00000.jsonl").write_bytes(b"".join(lines) + b'{"line": 3')
    assert crawl.export("seeds", to="s.jsonl").read_bytes() == b"".join(lines)
    with crawl.export("seeds", to="s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["url"] for row in rows] == ["https://a.test/", ""] and rows[1]["source"] == "x"


def test_links_and_items_are_found_by_their_names(crawl: Crawl, capsys: pytest.CaptureFixture[str]) -> None:
    link = b'{"from":"http://a.test/","to":"http://b.test/","anchor":"B","rel":null}\n'
    book, shop = b'{"url":"http://a.test/","title":"T"}\n', b'{"url":"http://b.test/"}\n'
    crawl.add("links/links-00-00000.jsonl", [link])
    crawl.add("items/book-00-00000.jsonl", [book])
    crawl.add("items/book-shop-00-00000.jsonl", [shop])
    crawl.commit()
    assert crawl.export("links", to="l.jsonl").read_bytes() == link
    assert crawl.export("links", "--host", "b.test", to="none.jsonl").read_bytes() == b""
    assert crawl.export("items/book", to="b.jsonl").read_bytes() == book
    capsys.readouterr()
    assert main(["export", str(crawl.path), "items/none", "--to", "-"]) == 2
    assert "there are items/book, items/book-shop" in capsys.readouterr().err
    assert main(["export", str(crawl.path), "text", "--to", "-"]) == 2
    assert "--store names text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--outcome", "ok"], [1, 2, 3]),
        (["--outcome", "DNS,client_error"], [5]),
        (["--host", "*.b.test"], [3]),
        (["--host", "a.test", "--host", "www.b.test", "--outcome", "OK"], [1, 2, 3]),
        (["--since", "2026-05-01T12:00:02Z"], [2, 3]),
        (["--since", "2026-05-01T14:00:02+02:00", "--until", "2026-05-01 12:00:03"], [2]),
        (["--until", "2026-05-01"], []),
        (["--round", "1"], []),
    ],
)
def test_filters_choose(crawl: Crawl, given: list[str], wanted: list[int]) -> None:
    failed = line_of("http://a.test/5", Outcome.DNS)
    crawl.add("pages/pages-00-00000.jsonl", [page(1), page(2), page(3, host="www.b.test"), failed])
    crawl.commit()
    lines = crawl.export(*given, to="x.jsonl").read_text().splitlines()
    assert [int(json.loads(line)["url"].rpartition("/")[2]) for line in lines] == wanted


# ------------------------------------------------------------------------------------------------------------ tables


def test_the_columns_of_pages_are_the_keys_of_its_lines() -> None:
    assert [column.name for column in PAGES] == list(json.loads(page(1)))


def test_parquet_says_the_same_as_the_lines_with_types(crawl: Crawl) -> None:
    crawl.add("pages/pages-00-00000.jsonl", [page(1), line_of("http://a.test/5", Outcome.DNS, error='"ü"')])
    crawl.commit()
    path = crawl.export(to="x.parquet")
    schema = pq.read_schema(path)
    assert schema.field("fetched_at").type == pa.timestamp("ms", tz="UTC")
    assert (schema.field("noindex").type, schema.field("length").type) == (pa.bool_(), pa.int64())
    rows = pq.read_table(path).to_pylist()
    written = (crawl.path / "pages/pages-00-00000.jsonl").read_text().splitlines()
    for row, line in zip(rows, written, strict=True):
        said = json.loads(line)
        if said["fetched_at"]:
            said["fetched_at"] = datetime.fromisoformat(said["fetched_at"])
        assert row == said
    assert [row["url"] for row in table(path)] == ["http://a.test/1", "http://a.test/5"]
    assert duckdb.sql(f"select warc.offset from '{path}'").fetchall() == [(1000,), (None,)]
    outcome = pq.ParquetFile(path).metadata.row_group(0).column(schema.get_field_index("outcome"))
    assert outcome.has_dictionary_page


def test_half_a_character_becomes_the_mark_for_one(crawl: Crawl) -> None:
    titles = ["a\ud800b", "\\ud800 as text", "\\\ud83d"]
    crawl.add("pages/pages-00-00000.jsonl", [page(n, title=title) for n, title in enumerate(titles)])
    crawl.commit()
    assert [row["title"] for row in table(crawl.export(to="x.parquet"))] == [
        "a\ufffdb",
        "\\ud800 as text",
        "\\\ufffd",
    ]
    assert crawl.export(to="x.csv").read_text("utf-8").count("?") == 2


def test_csv_is_read_back_whatever_is_in_it(crawl: Crawl) -> None:
    titles = ['say "ah", please', "two\r\nlines", "", "中文, тоже", "a,b", " padded "]
    crawl.add("pages/pages-00-00000.jsonl", [page(n, title=title) for n, title in enumerate(titles)])
    crawl.commit()
    path = crawl.export(to="x.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [row["title"] for row in rows] == titles
    assert rows[0]["warc_offset"] == "1000" and rows[0]["noindex"] == "false"
    assert path.read_bytes().count(b"\r\n") == len(titles) + 2
    assert [row["title"] or "" for row in table(path)] == titles


def test_a_strangers_title_is_no_formula(crawl: Crawl) -> None:
    titles = ["=HYPERLINK(1)", "+1+cmd", "-5", "@SUM(A1)", "\tx", "plain", "+49.5", "--"]
    crawl.add("pages/pages-00-00000.jsonl", [page(n, title=title) for n, title in enumerate(titles)])
    crawl.commit()

    def read(path: Path) -> list[str]:
        with path.open(newline="") as file:
            return [row["title"] for row in csv.DictReader(file)]

    guarded = ["'=HYPERLINK(1)", "'+1+cmd", "-5", "'@SUM(A1)", "'\tx", "plain", "+49.5", "'--"]
    assert read(crawl.export(to="x.csv")) == guarded
    assert read(crawl.export("--keep-formulas", to="y.csv")) == titles


def test_columns_of_items_are_learnt_from_the_items(crawl: Crawl) -> None:
    items: list[dict[str, Any]] = [
        {"url": "http://a.test/", "fetched_at": "2026-05-01T12:00:00.250Z", "price": 5, "n": 1, "mixed": 1},
        {
            "price": 7.5,
            "n": 2,
            "tags": ["a", "ü"],
            "mixed": "one",
            "never": None,
            "big": 1 << 70,
            "yes": True,
        },
    ]
    lines = [json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in items]
    sorts = {name: sort for name, sort, _ in inferred(lines)}
    assert list(sorts) == ["url", "fetched_at", "price", "n", "mixed", "tags", "never", "big", "yes"]
    assert (sorts["price"], sorts["n"], sorts["yes"]) == (Sort.NUMBER, Sort.WHOLE, Sort.FLAG)
    crawl.add("items/offers-00-00000.jsonl", lines)
    crawl.commit()
    rows = table(crawl.export("items/offers", to="o.parquet"))
    assert [row["price"] for row in rows] == [5.0, 7.5] and rows[0]["fetched_at"].microsecond == 250_000
    assert [json.loads(row["mixed"]) for row in rows] == [1, "one"]
    assert json.loads(rows[1]["tags"]) == ["a", "ü"] and int(rows[1]["big"]) == 1 << 70
    with crawl.export("items/offers", to="o.csv").open(newline="", encoding="utf-8") as file:
        assert [row["tags"] for row in csv.DictReader(file)] == ["", '["a", "ü"]']


def test_an_empty_crawl_gives_empty_tables(crawl: Crawl) -> None:
    crawl.add("pages/pages-00-00000.jsonl", [])
    crawl.commit()
    assert table(crawl.export(to="x.parquet")) == [] and crawl.export(to="x.jsonl").read_bytes() == b""
    assert crawl.export(to="x.csv").read_text().count("\n") == 1


# ------------------------------------------------------------------------------------------------------------- CDXJ


@pytest.mark.parametrize(("run_bytes", "fan_in"), [(1, 2), (100, 3), (1 << 20, 64)])
def test_lines_are_sorted_by_bytes_whatever_fits_in_memory(
    tmp_path: Path, run_bytes: int, fan_in: int
) -> None:
    lines = [f"{number * 7919 % 1000} é{number}\n".encode() for number in range(1000)]
    assert list(merge_sorted(lines, tmp_path, run_bytes=run_bytes, fan_in=fan_in)) == sorted(lines)
    assert not list(tmp_path.iterdir())


def test_an_index_holds_what_can_be_replayed_in_order(crawl: Crawl) -> None:
    lines = [page(2), page(1), line_of("http://a.test/5", Outcome.DNS)]
    lines += [page(3, outcome=Outcome.NOT_MODIFIED, status=304)]
    lines += [page(4).replace(b'"record":"response"', b'"record":"revisit"')]
    lines += [page(5).replace(b'"method":"GET"', b'"method":"HEAD"')]
    crawl.add("pages/pages-00-00000.jsonl", lines)
    crawl.commit()
    index = crawl.export(to="x.cdxj").read_text().splitlines()
    assert [line[:30] for line in index] == [f"test,a)/{n} 2026050112000{n} " + '{"url' for n in (1, 2, 4)]
    assert json.loads(index[2].split(" ", 2)[2]) == {
        "url": "http://a.test/4",
        "mime": "warc/revisit",
        "status": "200",
        "digest": "sha1:" + f"{4:032}",
        "length": "500",
        "offset": "1000",
        "filename": "c-20260501120000000-00-00000.warc.gz",
    }


# ------------------------------------------------------------------------------------- targets, and what goes wrong


def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    crawl: Crawl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.csv"
    there.write_text("kept")
    name = str(crawl.path)
    for code, told, given in [
        (2, "--force", [name, "--to", str(there)]),
        (2, "did you mean parquet?", [name, "--to", "x.parqet"]),
        (2, "--format says which", [name, "--to", str(tmp_path / "x")]),
        (2, "is no text", [name, "--to", "-", "--format", "parquet"]),
        (2, "there is no folder", [name, "--to", str(tmp_path / "no" / "x.csv")]),
        (2, "is the crawl's own", [name, "--to", f"{name}/pages/x.jsonl"]),
        (2, "name its folder", ["127.0.0.1:7700", "--to", "-"]),
        (2, "does not exist", [str(tmp_path / "none"), "--to", "-"]),
        (2, "nothing is called", [name, "pagers", "--to", "-"]),
        (2, "holds the whole crawl", [name, "--to", str(tmp_path / "x.wacz"), "--host", "a.test"]),
        (2, "made from pages", [name, "seeds", "--to", str(tmp_path / "x.cdxj")]),
        (2, "did you mean TIMEOUT?", [name, "--to", "-", "--outcome", "TIMOUT"]),
        (2, "expected a date", [name, "--to", "-", "--since", "yesterday"]),
        (2, "has none", [name, "seeds", "--to", "-", "--outcome", "OK"]),
        (2, "s3://BUCKET/KEY", [name, "--to", "gs://b/x.csv"]),
        (2, "--to", [name]),
    ]:
        assert main(["export", *given]) == code, given
        said = capsys.readouterr()
        assert told in said.err and said.err.count("\n") == 1 and not said.out, (given, said)
    assert there.read_text() == "kept"
    assert main(["export", name, "--to", str(there), "--force"]) == 0
    assert there.read_text().startswith("url,")
    assert "there.csv: 3 rows, " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crawl", "there.csv"]


def test_a_torn_line_stops_the_export_and_leaves_the_old_target(
    crawl: Crawl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = crawl.export(to="x.csv")
    before = target.read_bytes()
    crawl.add("pages/pages-00-00000.jsonl", [page(1), b"no end"])
    crawl.commit()
    for form in ("csv", "parquet", "cdxj", "wacz"):
        capsys.readouterr()
        assert main(["export", str(crawl.path), "--to", str(tmp_path / f"x.{form}"), "--force"]) == 1
        said = capsys.readouterr().err
        assert "the line is torn" in said and said.count("\n") == 1
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crawl", "x.csv"]


def test_lines_go_to_standard_output(crawl: Crawl, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["export", str(crawl.path), "--to", "-"]) == 0
    assert capfdbinary.readouterr().out == page(1) + page(2) + page(3)
    assert main(["export", str(crawl.path), "--to", "-", "--format", "cdxj"]) == 0
    assert capfdbinary.readouterr().out.count(b"test,a)/") == 3


@pytest.mark.parametrize(
    ("library", "target", "said"),
    [
        ("pyarrow", "x.parquet", "pip install pyarrow"),
        ("obstore", "s3://bucket/x.csv", "pip install obstore"),
    ],
)
def test_without_an_extra_one_line_says_what_to_install(
    crawl: Crawl, tmp_path: Path, library: str, target: str, said: str
) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / f"{library}.py").write_text("raise ImportError('not there')\n")
    command = [sys.executable, str(ROOT / "coordinator" / "__main__.py"), "export", str(crawl.path)]
    ended = subprocess.run(
        [*command, "--to", target],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(absent)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and said in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr


# ---------------------------------------------------------------------------------------------------------- memory

_PEAK = """
import sys
from pathlib import Path
from coordinator.cli import main
code = main(sys.argv[1:])
# Not getrusage: what it tells begins with the memory of the process that we were forked from.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], code)
"""


def peak(crawl: Crawl, to: str) -> int:
    """KiB that exporting it takes at most, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", _PEAK, "export", str(crawl.path), "--to", str(crawl.path.parent / to)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    taken, code = ended.stdout.split()
    assert code == "0", ended.stderr
    return int(taken)


def lines(count: int) -> Iterator[bytes]:
    """Lines of 4 KB, so that few of them fill what is held at once."""
    before, after = page(0, error="NUMBER" + "x" * 3500).split(b"NUMBER")
    for number in range(count):
        yield b"%b%010d%b" % (before, number, after)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_crawl(tmp_path: Path) -> None:
    small, big = Crawl(tmp_path / "small" / "crawl"), Crawl(tmp_path / "big" / "crawl")
    for crawl, count in ((small, 12_000), (big, 36_000)):
        crawl.add("pages/pages-00-00000.jsonl", list(lines(count)))
        crawl.commit()
    assert (big.path / "pages/pages-00-00000.jsonl").stat().st_size > 3 * (32 << 20)
    for form in ("parquet", "csv"):
        assert peak(big, f"x.{form}") < peak(small, f"x.{form}") + (24 << 10), form
