"""A store opened to be read, beside the coordinator that may be writing it: for `audit`, `why`, `tail`.

Nothing in the store's folder is changed and no lock is taken. A snapshot is one commit: tables and log as they were
when it was opened. RocksDB reads the list of tables first and the log after it; a writer that turns its log into a
table in between would leave a hole that nobody reports. So the folder is looked at before and after, and the snapshot
taken again if it changed (seen 1 time in 26 at 400 commits a second with buffers of 4 MiB; none of 25 others differed).

All tables are opened at once and kept open: the writer may delete them meanwhile, their contents stay readable.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from rocksdict import AccessType

from common.errors import StorageError, UsageError
from coordinator.store import rocks

_MEMORY_BYTES: Final = 64 << 20
"""Of cache; reading a crawl of any size takes no more."""

_TRIES: Final = 20
"""A writer makes a new table every few seconds at most, and a look at the folder takes milliseconds."""

_ROWS_AT_ONCE: Final = 2000


class Reads(Protocol):
    """What can be read: a `Store`, an `Overlay` or a `Snapshot`."""

    def get(self, key: bytes) -> bytes | None:
        """The row, or None."""

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first `limit` rows with start <= key < stop, ascending."""


def rows_between(rows: Reads, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All rows with start <= key < stop, ascending, some at a time: memory does not grow with their number."""
    while found := rows.scan(start, stop, _ROWS_AT_ONCE):
        yield from found
        start = found[-1][0] + b"\0"


def shards(directory: Path) -> list[Path]:
    """The folders of the stores of a crawl, in order. UsageError if there is none yet."""
    found = sorted(path.parent for path in directory.glob("frontier/*/CURRENT"))
    if not found:
        raise UsageError(f"{directory} has no frontier yet: nothing was crawled into it")
    return found


class Snapshot(rocks.RocksStore):
    """A `Store` that refuses to be written. Use as context, or `close`."""

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        """`follow`: `catch_up` brings it to the newest commit; else it stays what it was when opened.

        Raises StorageError if the store is damaged or changes too fast to be opened.
        """
        self._access = AccessType.read_only()
        self._scratch = tempfile.TemporaryDirectory(prefix="shoal-")
        if follow:
            self._access = AccessType.secondary(self._scratch.name)
        _allow_open_files()
        super().__init__(path, _MEMORY_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def catch_up(self) -> None:
        """Read what was committed since. What is read between two calls belongs to one commit."""
        try:
            self._db.try_catch_up_with_primary()
        except Exception as error:  # noqa: BLE001  (as in `rocks`)
            raise rocks.in_our_words(error, self._path) from None

    def stage(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Never: it is there to be read."""
        raise StorageError(
            f"the store in {self._path} was opened to be read, and {len(changes)} rows changed"
        )

    def close(self) -> None:
        """Let go of it. May be called twice."""
        super().close()
        self._scratch.cleanup()

    def _open(self, *, to_write: bool = False) -> None:
        assert not to_write
        options = rocks.tuned(_MEMORY_BYTES)
        options.create_if_missing(False)
        options.set_max_open_files(-1)
        options.set_db_log_dir(self._scratch.name)
        for last in range(_TRIES - 1, -1, -1):
            before = _look(self._path)
            try:
                self._db = rocks.opened(self._path, options, self._access)
            except Exception as error:  # noqa: BLE001  (as in `rocks`)
                if before == _look(self._path) or not last:
                    raise rocks.in_our_words(error, self._path) from None
                continue
            if before == _look(self._path):
                self._get = self._db.get
                return
            with contextlib.suppress(Exception):
                self._db.close()
        raise StorageError(f"the store in {self._path} changes too fast to be read: `coord pause` first")


def _look(folder: Path) -> set[tuple[str, int]]:
    """What changes when tables change: names of logs and tables, and the size of their list."""
    seen = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".log", ".sst")):
                seen.add((entry.name, 0))
            elif entry.name.startswith("MANIFEST"):
                with contextlib.suppress(FileNotFoundError):
                    seen.add((entry.name, entry.stat().st_size))
    return seen


def _allow_open_files() -> None:
    """A table is 64 MiB, so a terabyte of frontier is 16,000 files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
