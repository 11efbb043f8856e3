"""CSV by RFC 4180: a header, commas, CRLF, UTF-8 without a mark; null is an empty field, `warc` three columns.

Text that a spreadsheet would take for a formula (a title `=HYPERLINK(...)` of a stranger's page) gets an apostrophe in
front unless that is not wanted: CSV is what people open by a double click; whoever reads with a program has Parquet
and JSON Lines, which keep every character. Numbers, also as text (`-5`), are left alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from coordinator.export.columns import Column, Sort
from coordinator.export.lines import parsed

_AT_ONCE: Final = 1 << 16
_FORMULA: Final = re.compile(r"[=+\-@\t\r](?!\d*\.?\d+\Z)")
_PLACE: Final = ("file", "offset", "length")


def csv_chunks(
    lines: Iterable[bytes], columns: Sequence[Column], *, keep_formulas: bool = False
) -> Iterator[bytes]:
    """The table, some rows at a time."""
    text = io.StringIO()
    writer = csv.writer(text)  # its default dialect is RFC 4180's
    writer.writerow(header(columns))
    for line in lines:
        writer.writerow(_row(parsed(line), columns, keep_formulas))
        if text.tell() >= _AT_ONCE:
            yield _taken(text)
    yield _taken(text)


def header(columns: Sequence[Column]) -> list[str]:
    """The names of the fields; a place has three."""
    names = []
    for name, sort, _ in columns:
        names += [f"{name}_{part}" for part in _PLACE] if sort is Sort.PLACE else [name]
    return names


def _row(line: dict[str, Any], columns: Sequence[Column], keep_formulas: bool) -> list[Any]:
    row: list[Any] = []
    for name, sort, _ in columns:
        value = line.get(name)
        if sort is Sort.PLACE:
            row += ["", "", ""] if value is None else [value[part] for part in _PLACE]
        elif value is None:
            row.append("")
        elif isinstance(value, bool):
            row.append("true" if value else "false")
        elif isinstance(value, str):
            row.append(value if keep_formulas or not _FORMULA.match(value) else f"'{value}")
        elif isinstance(value, dict | list):
            row.append(json.dumps(value, ensure_ascii=False))
        else:
            row.append(value)
    return row


def _taken(text: io.StringIO) -> bytes:
    content = text.getvalue().encode("utf-8", "replace")
    text.seek(0)
    text.truncate()
    return content
