"""Downloaded files on disk: their parts while they come, the move to where they belong, and what a crash left.

    files/.parts/SHARD/PART        a download that is not whole; `partials.py` says which pieces of it count
    files/HOST/xx/NAME             one that is; a row names it

A file gets its name only when it is whole and fsynced, and its row only when its folder is fsynced too (PROTOCOL rules
2 and 22). So after a crash there may be files that no row names, never rows without their file: `recover` removes
those on start, with the parts that nothing can go on from. It touches only names as `common/filenames.py` makes them.

Calls block for the disk. `keep` and `drop` may run beside one of the others, for another part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from common.errors import StorageError
from common.filenames import FILES_FOLDER, is_ours
from common.log import get_logger
from common.messages import PIECE_BYTES
from common.warc import digest_text
from coordinator.outputs import Move
from coordinator.store.kv import Overlay
from coordinator.store.rows import PartialRow, file_row, unpack

PARTIALS_FOLDER: Final = f"{FILES_FOLDER}/.parts"
"""Below `files`, so that a part is on the disk of the file that it becomes."""

_READ_BYTES: Final = 1 << 20
_FSYNCS_AT_ONCE: Final = 16

Each = TypeVar("Each")

_fdatasync = getattr(os, "fdatasync", os.fsync)

log = get_logger("coordinator.files")


class Files:
    """The downloads of one shard. OSError leaves here as it is, but for a failed fsync, which is a StorageError."""

    def __init__(self, directory: Path, shard: int) -> None:
        self._directory = directory
        self._folder = directory / PARTIALS_FOLDER / f"{shard:02d}"
        self._moved: set[str] = set()
        """Of the moves that are being made: those that need not be made again."""
        self._named: dict[Path, None] = {}
        """Folders with new names in them, not synced yet."""
        self._threads: ThreadPoolExecutor | None = None

    def keep(self, part: str, index: int, body: bytes | memoryview) -> None:
        """Write the `index`-th piece of a download. Not durable."""
        path = self._folder / part
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the first one: most crawls have no downloads
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _write(descriptor, body, index * PIECE_BYTES)
        finally:
            os.close(descriptor)

    def drop(self, part: str) -> None:
        """It is not needed any more. No such part: nothing."""
        (self._folder / part).unlink(missing_ok=True)

    def digest(self, part: str, pieces: int, tail: bytes) -> str | None:
        """`sha1:BASE32` of so many pieces of a part and the tail; None: the part is not that long. 0.7 s a gibibyte."""
        found = hashlib.sha1(usedforsecurity=False)
        left = pieces * PIECE_BYTES
        if left:
            try:
                with (self._folder / part).open("rb", buffering=0) as file:
                    while left and (some := file.read(min(left, _READ_BYTES))):
                        found.update(some)
                        left -= len(some)
            except OSError:
                return None
        found.update(tail)
        return None if left else digest_text(found.digest())

    def settle(self, moves: Sequence[Move], synced: Sequence[str]) -> None:
        """Make downloads files, and parts durable. Again after an OSError: what was done is passed over.

        Many fsyncs at a time: a file system makes those durable together that wait together. One after another, small
        files came at 80 a second instead of 315 (docs/downloads.md).
        """
        left = [move for move in moves if move.file not in self._moved]
        if any(not move.offset for move in left):
            self._make(self._folder)
        self._each(self._finish, left)
        for move in left:
            place = self._directory / move.file
            self._make(place.parent)
            os.rename(self._folder / move.part, place)
            self._moved.add(move.file)
            self._named[place.parent] = None
        self._each(self._sync_part, synced)
        if synced:
            self._named |= dict.fromkeys((self._folder, *self._folder.parents[:3]))
        self._each(_sync_folder, tuple(self._named))
        self._moved.clear()
        self._named.clear()

    def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def _each(self, step: Callable[[Each], None], things: Sequence[Each]) -> None:
        """Carry out a step for each of them, many at a time; raises the first error when all are done."""
        if len(things) < 2:
            for thing in things:
                step(thing)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_FSYNCS_AT_ONCE, "files")
        done = [self._threads.submit(step, thing) for thing in things]
        wait(done)
        for each in done:
            each.result()

    def _finish(self, move: Move) -> None:
        """Its part is whole and durable."""
        create = 0 if move.offset else os.O_CREAT
        descriptor = os.open(self._folder / move.part, os.O_RDWR | create | os.O_CLOEXEC, 0o644)
        try:
            if (size := os.fstat(descriptor).st_size) < move.offset:
                raise StorageError(f"{move.file}: its part has {size:,} bytes of {move.offset:,}")
            _write(descriptor, move.tail, move.offset)
            os.ftruncate(descriptor, move.offset + len(move.tail))
            _sync(descriptor, move.file)
        finally:
            os.close(descriptor)

    def _sync_part(self, part: str) -> None:
        with suppress(FileNotFoundError):  # begun anew meanwhile
            descriptor = os.open(self._folder / part, os.O_RDWR | os.O_CLOEXEC)
            try:
                _sync(descriptor, part)
            finally:
                os.close(descriptor)

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        self._named[folder.parent] = None


def recover(directory: Path, rows: Overlay, shard: int) -> None:
    """Remove what no row speaks of, and rows of parts that are not there as far as they say; the caller commits the
    overlay. Cost: a look at the store for each file."""
    folder = directory / PARTIALS_FOLDER / f"{shard:02d}"
    parts, gone = set(), 0
    for key, packed in rows.scan(b"p", b"q", 1 << 30):
        row = PartialRow(*unpack(packed))
        try:
            size = (folder / row.part).stat().st_size
        except OSError:
            size = 0
        if size < row.pieces * PIECE_BYTES:
            rows.delete(key)
            gone += 1
        else:
            parts.add(row.part)
    left = removed = 0
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if entry.name not in parts:
                os.unlink(entry.path)
                left += 1
    for file in walk(directory):
        _, host, place = file.split("/", 2)
        if is_ours(host, place) and rows.get(file_row(file)) is None:
            (directory / file).unlink(missing_ok=True)
            removed += 1
    if left or removed or gone:
        log.warning("files.recovered", removed=removed, parts_removed=left, parts_lost=gone)


def walk(directory: Path) -> Iterator[str]:
    """Every downloaded file, and what else lies at such a place: relative to DIR, with `/`."""
    with suppress(FileNotFoundError):
        for host in os.scandir(directory / FILES_FOLDER):
            if host.name.startswith(".") or not host.is_dir(follow_symlinks=False):
                continue
            for digits in os.scandir(host.path):
                if not digits.is_dir(follow_symlinks=False):
                    continue
                for entry in os.scandir(digits.path):
                    if entry.is_file(follow_symlinks=False):
                        yield f"{FILES_FOLDER}/{host.name}/{digits.name}/{entry.name}"


def _write(descriptor: int, body: bytes | memoryview, offset: int) -> None:
    view = memoryview(body)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor, str(folder))
    finally:
        os.close(descriptor)


def _sync(descriptor: int, what: str) -> None:
    try:
        _fdatasync(descriptor)
    except OSError as error:
        raise StorageError(
            f"{what}: fsync failed ({error.strerror}): start again to see what reached the disk"
        ) from None
