"""The downloads of an audit: every file that a row names is there, as long as it says, and what lines say is so.

Reads only, a piece at a time. Read next: coordinator/files.py, which puts them there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.errors import StorageError
from common.filenames import is_ours
from common.warc import digest_text
from coordinator.audit.report import Report
from coordinator.files import walk
from coordinator.store.rows import DoneRow, FileRow, file_row, unpack
from coordinator.store.snapshot import Reads, rows_between

_PIECE: Final = 1 << 20


class Downloads:
    """The downloads of one shard."""

    def __init__(self, directory: Path, rows: Reads, report: Report) -> None:
        self._directory = directory
        self._rows = rows
        self._report = report

    def check_row(self, row: DoneRow) -> None:
        """The file of a request that ended."""
        assert row.file is not None
        packed, url, facts = self._rows.get(file_row(row.file)), row.request.url, row.facts
        if packed is None:
            self._report.fault("files", f"{url}: its row names {row.file}, which no row of files knows")
            return
        known = FileRow(*unpack(packed))
        if (facts.digest, facts.length) != (known.digest, known.length) and facts.status != 304:
            told, said = f"{known.length:,} bytes, {known.digest}", f"{facts.length:,} bytes, {facts.digest}"
            self._report.fault("files", f"{url}: {row.file} is of {told}, its row says {said}")

    def check_files(self, *, deep: bool) -> int:
        """Every file that is kept; the bytes of all of them. `deep`: read them, too."""
        total = 0
        for key, packed in rows_between(self._rows, b"f", b"g"):
            file = key[1:].decode()
            self._report.looked_at["files"] += 1
            try:
                row = FileRow(*unpack(packed))
            except (StorageError, TypeError, ValueError) as error:
                self._report.fault("files", f"the row of {file} does not decode: {error!r}")
                continue
            total += row.length
            if wrong := self._wrong(file, row, deep):
                self._report.fault("files", f"{file}: {wrong}")
        return total

    def _wrong(self, file: str, row: FileRow, deep: bool) -> str | None:
        path = self._directory / file
        try:
            size = path.stat().st_size
            if size != row.length:
                return f"it has {size:,} bytes, its row says {row.length:,}"
            if not deep:
                return None
            found = hashlib.sha1(usedforsecurity=False)
            with path.open("rb", buffering=0) as opened:
                while piece := opened.read(_PIECE):
                    found.update(piece)
        except OSError as error:
            return f"{error.strerror}; {row.length:,} bytes are kept, for {row.url}"
        digest = digest_text(found.digest())
        return None if digest == row.digest else f"its digest is {digest}, its row says {row.digest}"


def check_unknown(directory: Path, stores: Sequence[Reads], report: Report) -> None:
    """Files that no row speaks of: a crash may leave them, and the next start removes them."""
    unknown = 0
    for file in walk(directory):
        _, host, place = file.split("/", 2)
        if is_ours(host, place) and not any(store.get(file_row(file)) for store in stores):
            unknown += 1
    if unknown:
        report.notes.append(f"{unknown} downloaded files are named by no row; the next start removes them")
