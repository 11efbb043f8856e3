"""An export as a stream of bytes: the chosen lines in the form that was asked for. Where it goes is `targets.py`'s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.errors import UsageError
from coordinator.export.cdxj import index_lines
from coordinator.export.choose import Choice
from coordinator.export.columns import columns_of
from coordinator.export.parquet import need_pyarrow, parquet_chunks
from coordinator.export.sorting import merge_sorted
from coordinator.export.source import Source
from coordinator.export.table import csv_chunks
from coordinator.export.wacz import wacz_chunks

FORMATS: Final = ("jsonl", "csv", "parquet", "cdxj", "wacz")

TEXTUAL: Final = ("jsonl", "csv", "cdxj")
"""What may go to standard output."""


@dataclass(slots=True)
class Export:
    """One export. `chunks` makes it; `rows` counts while it does."""

    source: Source
    format: str
    choice: Choice
    archives: Sequence[tuple[Path, int]] = ()
    """(WARC file, committed end), for WACZ."""
    title: str = ""
    software: str = ""
    keep_formulas: bool = False
    rows: int = field(default=0, init=False)

    @property
    def sorts(self) -> bool:
        """Whether it needs room on disk while it is made: about that of its index."""
        return self.format in ("cdxj", "wacz")

    def check(self) -> None:
        """Raises UsageError where this cannot be, before anything is read."""
        if self.sorts and self.source.kind != "pages":
            raise UsageError(
                f"{self.format} is made from pages; {self.source.kind} goes to jsonl, csv or parquet"
            )
        if self.format == "wacz" and not self.choice.is_all:
            raise UsageError(
                "a WACZ holds the whole crawl, or revisits would miss their originals: leave the filter out, "
                "or take it with --to x.cdxj"
            )
        if self.format == "parquet":
            need_pyarrow()

    def chunks(self, scratch: Path, wall: float) -> Iterator[bytes]:
        """All bytes of it. `scratch`: a folder for what is sorted on disk; `wall`: now."""
        lines = self.choice.of(self.source.lines())
        match self.format:
            case "jsonl":
                return self._counted(lines)
            case "cdxj":
                return self._counted(merge_sorted(index_lines(lines), scratch))
            case "wacz":
                return wacz_chunks(
                    self._counted(lines),
                    self.archives,
                    scratch,
                    title=self.title,
                    software=self.software,
                    wall=wall,
                )
            case _:
                columns = columns_of(self.source.kind, lines)
                again = self._counted(self.choice.of(self.source.lines()))
                if self.format == "csv":
                    return csv_chunks(again, columns, keep_formulas=self.keep_formulas)
                return parquet_chunks(again, columns)

    def _counted(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            self.rows += 1
            yield line
