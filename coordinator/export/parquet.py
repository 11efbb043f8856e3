"""Parquet by pyarrow, the only file that knows it: the extra `parquet` (ADR 0017).

Lines become row groups of at most ROWS rows or BYTES bytes of JSON, each parsed by Arrow's own reader and written at
once, so memory does not grow with the crawl. Zstandard; a dictionary where values repeat; times are timestamps in
UTC with milliseconds, `warc` a struct as it is in JSON, so that one query reads both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from common.errors import StorageError, UsageError
from coordinator.export.columns import Column, Sort
from coordinator.export.drain import Drain
from coordinator.export.lines import parsed

if TYPE_CHECKING:
    import pyarrow as pa

ROWS: Final = 122_880
"""What DuckDB takes for one unit of work."""
BYTES: Final = 16 << 20

_SURROGATE: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
"""Half a character, as our lines escape it; Arrow refuses it. A whole one never stands so: we write UTF-8."""


def need_pyarrow() -> None:
    """Raises UsageError where pyarrow is not installed: before anything is read."""
    try:
        import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("Parquet needs pyarrow, which is not installed: pip install pyarrow") from None


def parquet_chunks(lines: Iterable[bytes], columns: Sequence[Column]) -> Iterator[bytes]:
    """The file, row group by row group."""
    import pyarrow.parquet as pq

    schema, drain = schema_of(columns), Drain()
    as_text = [column.name for column in columns if column.sort is Sort.JSON]
    writer = pq.ParquetWriter(
        drain,
        schema,
        compression="zstd",
        use_dictionary=[
            f"{column.name}.file" if column.sort is Sort.PLACE else column.name
            for column in columns
            if column.repeats or column.sort is Sort.PLACE
        ],
    )
    try:
        for group in _groups(lines, as_text):
            writer.write_table(_table(group, schema), row_group_size=ROWS)
            yield from drain.take()
    finally:
        writer.close()
    yield from drain.take()


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The types of the columns."""
    import pyarrow as pa

    types: dict[Sort, pa.DataType] = {
        Sort.TEXT: pa.string(),
        Sort.JSON: pa.string(),
        Sort.WHOLE: pa.int64(),
        Sort.NUMBER: pa.float64(),
        Sort.FLAG: pa.bool_(),
        Sort.TIME: pa.timestamp("ms", tz="UTC"),
        Sort.PLACE: pa.struct([("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())]),
    }
    return pa.schema([(column.name, types[column.sort]) for column in columns])


def _groups(lines: Iterable[bytes], as_text: Sequence[str]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for line in lines:
        if as_text:
            line = _nested_as_text(line, as_text)
        group.append(line)
        size += len(line)
        if len(group) >= ROWS or size >= BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _nested_as_text(line: bytes, names: Sequence[str]) -> bytes:
    value: dict[str, Any] = parsed(line)
    for name in names:
        if value.get(name) is not None:
            value[name] = json.dumps(value[name], ensure_ascii=False)
    return json.dumps(value).encode() + b"\n"


def _table(lines: list[bytes], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa
    import pyarrow.json

    content = b"".join(lines)
    lines.clear()
    if b"\\ud" in content or b"\\uD" in content:
        content = _SURROGATE.sub(rb"\1\\ufffd", content)
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(content),
            # One block: a line may be longer than any block one would choose.
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
        return table.select(schema.names)
    except pa.ArrowInvalid as error:
        raise StorageError(f"a line does not fit its columns: {str(error).splitlines()[0]}") from None
