"""The columns of a table made from lines: fixed for `pages` and `seeds`, worked out from the lines for the rest.

What extractors yield has no fixed shape, so its lines are read twice: once to learn the columns, in the order in which
they first appear, and once to write them. A column whose values are of one kind gets that kind; of whole numbers and
others, numbers; anything mixed or nested becomes JSON text, which every database reads. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from common.errors import UsageError
from coordinator.export.lines import parsed

MOST_COLUMNS: Final = 2000
"""Names of one table; more means that names are values, and no reader takes such a table."""


class Sort(Enum):
    """What stands in a column. All may be null."""

    TEXT = auto()
    WHOLE = auto()
    """A whole number of 64 bits, signed."""
    NUMBER = auto()
    FLAG = auto()
    TIME = auto()
    """RFC 3339 in UTC; milliseconds are kept."""
    JSON = auto()
    """Anything, as JSON text."""
    PLACE = auto()
    """`{file, offset, length}`."""


class Column(NamedTuple):
    """A column; `repeats`: few values stand in many rows."""

    name: str
    sort: Sort
    repeats: bool = False


PAGES: Final = (
    Column("url", Sort.TEXT),
    Column("method", Sort.TEXT, repeats=True),
    Column("round", Sort.WHOLE),
    Column("outcome", Sort.TEXT, repeats=True),
    Column("status", Sort.WHOLE),
    Column("reason", Sort.TEXT, repeats=True),
    Column("error", Sort.TEXT, repeats=True),
    Column("depth", Sort.WHOLE),
    Column("referrer", Sort.TEXT, repeats=True),
    Column("seed", Sort.TEXT, repeats=True),
    Column("redirect_to", Sort.TEXT),
    Column("content_type", Sort.TEXT, repeats=True),
    Column("charset", Sort.TEXT, repeats=True),
    Column("length", Sort.WHOLE),
    Column("wire_length", Sort.WHOLE),
    Column("digest", Sort.TEXT),
    Column("title", Sort.TEXT),
    Column("noindex", Sort.FLAG),
    Column("etag", Sort.TEXT),
    Column("last_modified", Sort.TEXT),
    Column("fetched_at", Sort.TIME),
    Column("elapsed_ms", Sort.WHOLE),
    Column("ip", Sort.TEXT, repeats=True),
    Column("attempts", Sort.WHOLE),
    Column("record", Sort.TEXT, repeats=True),
    Column("warc", Sort.PLACE),
    Column("lastmod", Sort.TIME),
    Column("simhash", Sort.TEXT),
    Column("file", Sort.TEXT),
)
"""As `coordinator.ledger.page_line` writes them; a test holds the two together."""

SEEDS: Final = (
    Column("line", Sort.WHOLE),
    Column("given", Sort.TEXT),
    Column("url", Sort.TEXT),
    Column("state", Sort.TEXT, repeats=True),
    Column("reason", Sort.TEXT, repeats=True),
    Column("source", Sort.TEXT, repeats=True),
)

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def columns_of(kind: str, lines: Iterable[bytes]) -> tuple[Column, ...]:
    """The columns of a kind; `lines` are all read where they are not fixed, at 8 µs each."""
    if kind == "pages":
        return PAGES
    return SEEDS if kind == "seeds" else inferred(lines)


def inferred(lines: Iterable[bytes]) -> tuple[Column, ...]:
    """The columns that these lines have. Raises UsageError where there are too many for a table."""
    sorts: dict[str, Sort | None] = {}
    for line in lines:
        for name, value in parsed(line).items():
            if value is not None:
                known = sorts.get(name)
                if known is not Sort.JSON:
                    sorts[name] = _joined(known, _sort_of(value))
            elif name not in sorts:
                sorts[name] = None
        if len(sorts) > MOST_COLUMNS:
            raise UsageError(f"over {MOST_COLUMNS} different keys in the lines: no table; take --to x.jsonl")
    return tuple(Column(name, sort or Sort.TEXT) for name, sort in sorts.items())


def _sort_of(value: Any) -> Sort:
    match value:
        case bool():
            return Sort.FLAG
        case int() if -(1 << 63) <= value < 1 << 63:
            return Sort.WHOLE
        case float():
            return Sort.NUMBER
        case str():
            return Sort.TIME if _TIME.fullmatch(value) else Sort.TEXT
        case _:
            return Sort.JSON


def _joined(one: Sort | None, other: Sort) -> Sort:
    if one is None or one is other:
        return other
    for narrow, wide in ((Sort.WHOLE, Sort.NUMBER), (Sort.TIME, Sort.TEXT)):
        if {one, other} == {narrow, wide}:
            return wide
    return Sort.JSON
