"""Items in the ledger: where they land, what their row knows, and what of them an audit, a retry and a bad name see."""

from __future__ import annotations

from collections import Counter

from common import messages as m
from common.messages import Facts, LeaseId, Request, SessionId
from common.outcome import Outcome
from coordinator.ledger import POISON_KEPT, Counts, Ledger
from coordinator.outputs import ITEM_KINDS, Outputs
from coordinator.store.kv import Overlay
from coordinator.store.rows import DoneRow, pack, request_row, superseded_row, unpack, unpack_request_row
from tests.support.disk import CrashableStore

REQUEST = Request("https://a.test/", 0, 0, 0, 0, "seed", None, None)
KEY = (1, b"k" * 16)


class Books:
    """A ledger over outputs that nobody writes."""

    def __init__(self) -> None:
        self.rows = Overlay(CrashableStore())
        self.outputs = Outputs({}, shard=0, name="x", warcinfo=lambda file, wall: b"")
        self.ledger = Ledger(self.rows, self.outputs, lambda: "id")

    def end(self, *items: tuple[str, bytes]) -> DoneRow:
        page = m.Page(
            1,
            SessionId(b"s" * 16),
            LeaseId(1),
            0,
            None,
            None,
            Facts(Outcome.OK.code, 200),
            (),
            (),
            b"",
            0,
            0,
            items,
        )
        self.ledger.end(KEY, REQUEST, Outcome.OK, tries=(), attempts=1, wall=1.0, page=page)
        return self.row()

    def row(self) -> DoneRow:
        packed = self.rows.get(request_row(*KEY))
        assert packed is not None
        row = unpack_request_row(packed)
        assert isinstance(row, DoneRow)
        return row

    def written(self) -> dict[str, bytes]:
        return {each.file: b"".join(map(bytes, each.chunks)) for each in self.outputs.seal().appends}  # type: ignore[arg-type]


def test_items_of_a_kind_stand_together_and_the_row_knows_where() -> None:
    books = Books()
    row = books.end(("film", b'{"n":1}'), ("items", b"{}"), ("film", b'{"n":2}'))
    assert row.items == (("items/film-00-00000.jsonl", 0, 16), ("items/items-00-00000.jsonl", 0, 3))
    assert books.written()["items/film-00-00000.jsonl"] == b'{"n":1}\n{"n":2}\n'
    assert books.end(("film", b"{}")).items == (("items/film-00-00000.jsonl", 16, 3),)


def test_a_page_without_items_has_a_row_as_before() -> None:
    books = Books()
    assert books.end().items == ()
    before_items = books.row()[: DoneRow._fields.index("items")]  # as a version before items wrote it
    books.rows.put(request_row(*KEY), pack(before_items))
    assert books.row().items == ()


def test_a_name_that_no_file_can_have_goes_to_items() -> None:
    """Workers make names safe; nobody's word is taken for it."""
    books = Books()
    row = books.end(("../../x", b"{}"), ("", b"{}"), ("a" * 65, b"{}"), (".b", b"{}"))
    assert {place[0] for place in row.items} == {"items/items-00-00000.jsonl"}


def test_kinds_of_items_are_bounded() -> None:
    books = Books()
    row = books.end(*((f"kind{number}", b"{}") for number in range(ITEM_KINDS + 10)))
    files = [place[0] for place in row.items]
    assert len(set(files)) == ITEM_KINDS + 1
    assert files[-1] == "items/items-00-00000.jsonl"


def test_a_line_end_within_an_item_does_not_make_two() -> None:
    books = Books()
    books.end(("items", b'{"a":\n1}'))
    assert books.written()["items/items-00-00000.jsonl"].count(b"\n") == 1


def test_items_of_a_request_that_is_opened_again_count_no_more() -> None:
    books = Books()
    row = books.end(("film", b"{}"))
    books.ledger.reopen(row)
    assert books.rows.get(superseded_row("items/film-00-00000.jsonl", 0, 3)) == b""
    assert row.line is not None and books.rows.get(superseded_row(*row.line)) == b""


def test_items_are_counted_by_kind_and_those_that_count_no_more_are_not() -> None:
    books = Books()
    row = books.end(("film", b"1"), ("film", b"2"), ("a-b", b"3"), ("a-b-00-1", b"4"), (".text", b"t"))
    assert row.item_lines == (2, 1, 1, 1)
    assert books.ledger.counts.items == {"film": 2, "a-b": 1, "a-b-00-1": 1}
    books.end(("film", b"5"))
    kept = Counts.from_row(unpack(pack(books.ledger.counts.to_row())))
    assert kept == books.ledger.counts
    kept.take_back(row)
    assert +kept.items == {"film": 1}


def test_what_a_version_before_wrote_of_counts_is_read() -> None:
    counts = Counts(admitted=3, files=2)
    for missing in (1, 2):
        assert Counts.from_row(counts.to_row()[:-missing]) == counts


def test_lost_items_and_sitemaps_are_counted_until_they_are_tried_anew() -> None:
    ledger, rows = (books := Books()).ledger, books.rows
    ends = (("extract", True), ("extract", True), (None, False))
    for number, (reason, lines) in enumerate(ends):
        key = (1, bytes([number]) * 16)
        ledger.end(key, REQUEST, Outcome.OK, tries=(), attempts=1, wall=1.0, reason=reason, lines=lines)
    counts = Counts.from_row(unpack(pack(ledger.counts.to_row())))
    assert (counts.unextracted, counts.sitemaps, dict(counts.sitemap_ends)) == (2, 1, {Outcome.OK.code: 1})
    for number in range(len(ends)):
        packed = rows.get(request_row(1, bytes([number]) * 16))
        assert packed is not None
        row = unpack_request_row(packed)
        assert isinstance(row, DoneRow)
        ledger.reopen(row)
    assert (ledger.counts.unextracted, ledger.counts.sitemaps, +ledger.counts.sitemap_ends) == (
        0,
        0,
        Counter(),
    )


def test_the_first_poison_is_remembered_until_it_is_tried_anew() -> None:
    books = Books()
    for number in range(POISON_KEPT + 3):
        url = f"https://a.test/{number}"
        key = (1, number.to_bytes(16, "big"))
        books.ledger.end(key, REQUEST._replace(url=url), Outcome.POISON, tries=(), attempts=3, wall=1.0)
    counts = books.ledger.counts
    assert counts.poison == [f"https://a.test/{number}" for number in range(POISON_KEPT)]
    row = unpack_request_row(books.rows.get(request_row(1, (0).to_bytes(16, "big"))) or b"")
    assert isinstance(row, DoneRow)
    books.ledger.reopen(row)
    assert counts.poison[0] == "https://a.test/1"
    assert Counts.from_row(counts.to_row()) == counts
