"""A column of a CSV file: what spreadsheets and databases write, and what is broken in it."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from coordinator.csvcolumn import MAX_ROW, Cell, cells
from coordinator.seeds import absolute, read


def column(content: bytes, name: str = "website") -> list[tuple[int, str]]:
    """(line, text) of each cell; of a bad one (line, its reason in capitals)."""
    return [
        (cell.line, cell.text if cell.reason is None else cell.reason.upper())
        for cell in found(content, name)
    ]


def found(content: bytes, name: str = "website") -> list[Cell]:
    return list(cells(io.BytesIO(content), name))


@pytest.mark.parametrize(
    "content",
    [
        b"name,website\nA,a.test\nB,b.test\n",
        b"name,website\r\nA,a.test\r\nB,b.test",
        b"\xef\xbb\xbfname;website\r\nA;a.test\r\nB;b.test\r\n",
        b"website\tname\na.test\tA\nb.test\tB\n",
        b"id|website|name\n1|a.test|A\n2| b.test |B\n",
        b'"name","website"\n"A, Inc.","a.test"\n"B ""best"" C","b.test"\n',
        b"website\na.test\nb.test\n",
    ],
)
def test_what_a_table_looks_like_is_seen_from_its_first_line(content: bytes) -> None:
    assert column(content) == [(2, "a.test"), (3, "b.test")]


def test_a_column_by_its_number_is_of_a_file_without_names() -> None:
    assert column(b"A;a.test\nB;b.test\n", "2") == [(1, "a.test"), (2, "b.test")]
    assert column(b"1,2\nA,a.test\n", "2") == [(2, "a.test")]  # it is a name here


def test_a_row_may_have_several_lines_and_is_known_by_its_first() -> None:
    content = b'website,text\na.test,"one\ntwo\n\nfour"\nb.test,x\n,\n\n"",y\nc.test,"z\n"\n'
    assert column(content) == [(2, "a.test"), (6, "b.test"), (10, "c.test")]


def test_other_columns_may_be_in_any_charset() -> None:
    content = "Curaçao;a.test\nb;bücher.test\n".encode("latin-1")
    assert column(b"name;website\n" + content) == [(2, "a.test"), (3, "ENCODING")]
    assert column("name;website\nx;bücher.test\n".encode()) == [(2, "bücher.test")]


def test_a_short_row_is_told_with_its_number() -> None:
    (good, bad) = found(b"name,kind,website\nA,shop,a.test\nB,shop\n")
    assert (bad.line, bad.reason, bad.text) == (3, "column", "B,shop")
    assert bad.error == "a row of 2 fields, and the column is number 3"
    assert good == Cell(2, "a.test")


@pytest.mark.parametrize("after", [0, 3, 20_000, 200_000])
def test_a_quote_that_is_never_closed_costs_its_own_line(after: int) -> None:
    content = b'website,text\na.test,x\nb.test,"oops\n' + b"".join(b"c%d.test,y\n" % n for n in range(after))
    assert column(content) == [(2, "a.test"), (3, "CSV"), *((4 + n, f"c{n}.test") for n in range(after))]


def test_a_file_that_is_no_csv_at_all_is_read_to_its_end_in_bounded_time() -> None:
    """Every line ends within a quote, and closes that of the line before: each could be read again, by itself."""
    content = b'website,"b\n' + b'a","b\n' * 400_000
    read_lines = column(content, "1")
    assert 0 < len(read_lines) < 1000


@pytest.mark.parametrize(
    "line",
    [b"x" * MAX_ROW, b"x" * 3 * MAX_ROW, b'"' + b"y" * 2 * MAX_ROW, b'"' + b"z" * (MAX_ROW // 2) + b'"'],
)
def test_a_line_without_end_is_skipped_in_bounded_memory(line: bytes) -> None:
    content = io.BytesIO(b"website\na.test\n" + line + b"\nb.test\n")
    tracemalloc.start()
    try:
        read_cells = list(cells(content, "website"))
        assert tracemalloc.get_traced_memory()[1] < 16 * MAX_ROW
    finally:
        tracemalloc.stop()
    assert [(cell.line, cell.text) for cell in read_cells if cell.reason is None] == [
        (2, "a.test"),
        (4, "b.test"),
    ]
    assert [cell.line for cell in read_cells if cell.reason] == [3]
    assert all(len(cell.text) <= 200 for cell in read_cells)


def test_a_line_break_of_old_in_a_row_is_told() -> None:
    assert column(b"website,x\na.test,1\rb.test,2\nc.test,3\n") == [(2, "CSV"), (3, "c.test")]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"name,website\n", "websit", "no column 'websit'; did you mean website?"),
        (b"name;website\n", "shop", "no column 'shop'; the first line names: name, website"),
        (b"name,website\n", "", "which column? The first line names: name, website (or give its number)"),
        (b"", "website", "no column 'website'"),
        (b"name\n", "0", "no column '0'"),
        (b'"\n', "x", "no column 'x'"),
        (b"a," * 50_000, "x", "a, a, a, a, a, a, a, a, a, a, a, a, ..."),
    ],
)
def test_a_column_that_is_not_there_is_told_with_those_that_are(content: bytes, name: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        found(content, name)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 3000


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@given(st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=12), st.sampled_from(",;\t|"))
def test_what_pythons_own_csv_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("name", "website"), *rows])
    wanted = [text.strip() for _, text in rows if text.strip()]
    assert [text for _, text in column(file.getvalue().encode())] == wanted


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_and_lines_are_told_in_order(content: bytes) -> None:
    try:
        lines = [cell.line for cell in found(content, "1")]
    except UsageError:
        return
    assert lines == sorted(set(lines))
    assert all(1 <= line <= content.count(b"\n") + 1 for line in lines)


# ------------------------------------------------------------------------------- as seeds


def test_a_column_of_a_file_is_a_seed(tmp_path: Path) -> None:
    table = str(tmp_path / "firms.csv")
    Path(table).write_text(
        'name,website\nA,http://a.test/\nB,"b.test"\nC,no host\nD,http://h.test/[1-2]\nE,\n"F\nG",f.test\n'
    )
    seeds = list(read([f"{table}#website", "http://z.test/"]))
    assert [(seed.source, seed.line, seed.url, seed.reason) for seed in seeds[:-1]] == [
        (f"{table}#website", 2, "http://a.test/", None),
        (f"{table}#website", 3, "https://b.test/", None),
        (f"{table}#website", 4, None, "invalid"),
        (f"{table}#website", 5, "http://h.test/1", None),
        (f"{table}#website", 5, "http://h.test/2", None),
        (f"{table}#website", 7, "https://f.test/", None),
    ]
    again = list(read([f"{table}#website"], skip_lines={f"{table}#website": 5}))
    assert [seed.line for seed in again] == [7]


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_packed_table_and_one_cut_short(pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    path = tmp_path / "firms.csv.gz"
    lines = b"website\n" + b"".join(b"http://h%d.test/\n" % (n * n * 7919 % 99991) for n in range(20_000))
    path.write_bytes(pack(lines))
    assert sum(1 for _ in read([f"{path}#website"])) == 20_000
    if pack is gzip.compress:
        path.write_bytes(path.read_bytes()[:40_000])
        *good, bad = read([f"{path}#website"])
        assert all(seed.url for seed in good)
        assert (bad.reason, bad.line > len(good)) == ("damaged", True)
        path.write_bytes(path.read_bytes()[:5])
        with pytest.raises(UsageError, match="damaged or cut short"):
            read([f"{path}#website"])


def test_a_file_of_that_very_name_goes_before_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a#1.csv").write_text("website\nhttp://a.test/\n")
    Path("b.csv#website").write_text("http://b.test/\n")
    Path("b.csv").write_text("website\nhttp://c.test/\n")
    assert [seed.url for seed in read(["a#1.csv#website", "b.csv#website", "https://h.test/#b"])] == [
        "http://a.test/",
        "http://b.test/",
        "https://h.test/",
    ]
    assert absolute("a#1.csv#website") == f"{tmp_path}/a#1.csv#website"
    assert absolute("b.csv") == f"{tmp_path}/b.csv"
    assert absolute("https://h.test/#b") == "https://h.test/#b"


def test_what_is_wrong_with_a_table_is_told_before_anything_begins(tmp_path: Path) -> None:
    table = tmp_path / "firms.csv"
    table.write_text("name,website\n")
    with pytest.raises(UsageError, match=r"firms.csv: no column 'ulr'"):
        read([f"{table}#ulr"])
    with pytest.raises(UsageError, match=r"did you mean .*firms\.csv#website\?"):
        read([str(tmp_path / "frims.csv#website")])
    table.write_bytes("name,website\n".encode("utf-16"))
    with pytest.raises(UsageError, match="UTF-16"):
        read([f"{table}#website"])


def test_a_table_is_streamed(tmp_path: Path) -> None:
    table = tmp_path / "firms.csv"
    with table.open("w") as file:
        file.write("name,website\n")
        file.writelines(f'"Firm\n{n}",http://h{n}.test/\n' for n in range(40_000))
    tracemalloc.start()
    try:
        seeds = list(itertools.islice(read([f"{table}#website"]), 39_000, 39_001))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert [(seed.line, seed.url) for seed in seeds] == [(78_002, "http://h39000.test/")]
