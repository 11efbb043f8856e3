"""One column of a CSV file as a stream of cells, each with the number of its line: the seeds of `firms.csv#website`.

The first line names the columns; a column given as a number (from 1) is one of a file without such a line. Fields are
parted by a comma, a semicolon, a tab or a bar, whichever the first line shows, and quoted as in RFC 4180: a field may
hold line breaks. A quote that is never closed costs its own line and no more: what it seemed to hold is read again.

It decides nothing about what stands in a cell. One row is held in memory, of at most MAX_ROW.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from common.errors import UsageError
from common.nearest import closest

MAX_ROW: Final = 1 << 20
"""Bytes of a row. Tables carry whole texts beside their URLs."""

_RUNAWAYS: Final = 20
"""Open quotes whose lines are read again, up to MAX_ROW each: what is no CSV at all must not take for ever."""

_DELIMITERS: Final = ",;\t|"
_NAMED: Final = 12  # columns that an error names


class Lines(Protocol):
    """What is needed of an unpacked file."""

    def readline(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in the column in one row; or, with a `reason`, a row that cannot be read."""

    line: int
    """Where the row begins, from 1."""
    text: str
    """Of a bad row: its first line."""
    reason: str | None = None
    """A stable code: `csv`, `too_long`, `column` (the row ends before it), `encoding` (the cell is not UTF-8)."""
    error: str | None = None
    """`reason` in words for people."""


def cells(file: Lines, column: str) -> Iterator[Cell]:
    """The cells of a column; empty ones are left out. Reads the first line at once: UsageError where it has no such
    column."""
    lines = _Lines(file)
    first = next(lines, "")
    delimiter, place, is_named = _find(first, column)
    if not is_named:
        lines.again([first])
    return _cells(lines, delimiter, place)


def _cells(lines: _Lines, delimiter: str, place: int) -> Iterator[Cell]:
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        lines.begin_row()
        try:
            row = next(rows)
            wrong = "a quote is opened and never closed" if lines.ended else ""
        except StopIteration:
            return
        except (csv.Error, _TooLong) as error:
            row, wrong = [], str(error)
        if wrong:
            yield _bad(lines, wrong)
        elif place < len(row):
            text = row[place].strip()
            if not text.isascii() and not _is_utf8(text):
                yield Cell(lines.first, _shown(text), "encoding", "not UTF-8")
            elif text:
                yield Cell(lines.first, text)
        elif any(field.strip() for field in row):
            error_text = f"a row of {len(row)} fields, and the column is number {place + 1}"
            yield Cell(lines.first, _shown(lines.row[0]), "column", error_text)


def _bad(lines: _Lines, wrong: str) -> Cell:
    """A row that cannot be read. Of several lines, the first is to blame: it opened a quote."""
    first, *others = lines.row or [""]
    line = lines.first
    if not others:
        reason = "too_long" if len(first) >= MAX_ROW else "csv"
        return Cell(line, _shown(first), reason, wrong)
    error = "a quote is opened here and not closed in its row"
    if lines.runaways < _RUNAWAYS:
        lines.runaways += 1
        lines.again(others)
    else:
        error += f"; the {len(others):,} lines after it were lost with it"
    return Cell(line, _shown(first), "csv", error)


class _TooLong(Exception):
    """A row is longer than MAX_ROW."""


class _Lines:
    """Lines as csv wants them, numbered, with those of the row that is being read; a row can be given back.

    Bytes that are no UTF-8 become surrogates: what stands in other columns is no concern of ours.
    """

    def __init__(self, file: Lines) -> None:
        self._file = file
        self._back: deque[str] = deque()
        self._number = 0
        self._size = 0
        self.first = 1
        """The number of the row's first line."""
        self.row: list[str] = []
        self.ended = False
        """A line was asked for, and there was none: within a row only an open quote does that."""
        self.runaways = 0
        """Rows that were given back but for their first line."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._read()
        if not line:
            self.ended = True
            raise StopIteration
        self._number += 1
        self._size += len(line)
        self.row.append(line)
        if self._size >= MAX_ROW:
            raise _TooLong(f"a row of over {MAX_ROW} bytes")
        return line

    def begin_row(self) -> None:
        """What is read from now on is another row."""
        self.first, self.row, self._size, self.ended = self._number + 1, [], 0, False

    def again(self, lines: list[str]) -> None:
        """Read these, the last that were read, once more."""
        self._back.extendleft(reversed(lines))
        self._number -= len(lines)

    def _read(self) -> str:
        raw = self._file.readline(MAX_ROW)
        if len(raw) == MAX_ROW and not raw.endswith(b"\n"):
            rest = raw
            while rest and not rest.endswith(b"\n"):
                rest = self._file.readline(MAX_ROW)
        return raw.decode("utf-8-sig" if not self._number else "utf-8", "surrogateescape")


def _find(first: str, column: str) -> tuple[str, int, bool]:
    """(delimiter, index of the column, whether the first line names it)."""
    wanted = column.strip()
    for delimiter in _DELIMITERS:
        names = _names(first, delimiter)
        if wanted in names:
            return delimiter, names.index(wanted), True
    likely = max(_DELIMITERS, key=first.count)
    if wanted.isdecimal() and len(wanted) < 6 and int(wanted):
        return likely, int(wanted) - 1, False
    names = [_shown(name) for name in _names(first, likely)]
    close = closest(wanted, names)
    named = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    missing = f"no column {_shown(wanted)!r}" if wanted else "which column?"
    if close:
        missing += f"; did you mean {close}?"
    between = " The" if missing.endswith("?") else "; the"
    raise UsageError(f"{missing}{between} first line names: {named} (or give its number)")


def _names(first: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(text: str) -> str:
    return text.strip()[:200].encode("utf-8", "backslashreplace").decode()
