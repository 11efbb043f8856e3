"""The sink: puts output batches on disk, and puts the output files right after a crash.

It decides nothing: `Outputs` says where each byte goes. What is durable when `write` returns, and what may be
done after an error, is the point of this file:

  - *Written*: the bytes of all files of the batch are fsynced, and so are the folders of new files. Only then
    may the store commit the rows that point to them, and only after that may anybody be told (rule 2).
  - *A failed append*: every file of the batch is cut back at once, new ones are removed, and DiskFull or
    StorageError raised. After DiskFull the same batch may be written again.
  - *Downloads* are moved to their place first, each whole and fsynced before (files.py).
  - *A failed fsync* raises StorageError. The kernel may have dropped the pages and marked them clean, so a
    second fsync would succeed over a hole; only reading the files anew, from a new start, is sure.

After DiskFull the process may wait and try again; after any other StorageError it must end.
Files are written at offsets, never in append mode, so that a batch written twice lies where it lay.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from common.errors import DiskFull, NoFiles, StorageError
from common.messages import PIECE_BYTES
from coordinator.files import PARTIALS_FOLDER, Files
from coordinator.outputs import FOLDERS, Append, OutputBatch, Part, shard_of

PARTS_FOLDER: Final = "frontier-parts"
"""Folder of DIR for records that come in pieces; emptied on every start."""

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
NO_FILES: Final = frozenset((errno.EMFILE, errno.ENFILE))
_MOST_CHUNKS: Final = min(os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 16, 1024)
"""Buffers the kernel takes in one write."""
_COPY_BYTES: Final = 1 << 20

_fdatasync = getattr(os, "fdatasync", os.fsync)
"""Enough for bytes appended: it writes the new size too. Not on macOS."""


class Short(NamedTuple):
    """An output file that lost bytes which were committed."""

    file: str
    size: int | None
    """None: the file is not there at all."""
    committed: int


class Recovery(NamedTuple):
    """What `recover` found and did. Files are relative to DIR."""

    cut: tuple[tuple[str, int, int], ...]
    """(file, size before, committed end): its tail was never committed."""
    removed: tuple[str, ...]
    """Files that no commit knows."""
    short: tuple[Short, ...]
    """Files whose requests must go back to QUEUED (rule 3). They were left as they are; see `cut`."""


class Sink(Protocol):
    """Puts batches on disk. One thread writes at a time; another may keep and drop pieces meanwhile."""

    def write(self, batch: OutputBatch) -> None:
        """Make a batch durable; see the module's docstring for what an error means. Blocks for the disk."""

    def keep(self, key: str, index: int, body: bytes | memoryview, file: bool = False) -> None:
        """Keep the `index`-th piece of a big record, for a Part of a later batch; `file`: of a download, for a Move.
        Again is harmless. Not durable.

        A piece that finds no room waits in memory, and `write` raises DiskFull until there is some. Write even an
        empty batch while `has_waiting`, before pieces are answered: then the workers' credit bounds what waits.
        """

    @property
    def has_waiting(self) -> bool:
        """Whether a piece waits in memory for room on disk."""

    def drop(self, key: str, file: bool = False) -> None:
        """The pieces under this key are not needed any more. No such key: nothing."""

    def close(self) -> None:
        """Let go of the files."""


class FileSink:
    """The sink of a real crawl: files below DIR."""

    def __init__(self, directory: Path, *, shard: int = 0) -> None:
        """`recover` comes first. Removes the parts that an earlier process kept."""
        self._directory = directory
        self._files: dict[str, int] = {}
        """Descriptors of the files still written: one for each stream."""
        self._parts = PartFiles(directory / PARTS_FOLDER / f"{shard:02d}")
        self._downloads = Files(directory, shard)
        self._waiting: deque[tuple[str, int, bytes | memoryview, bool]] = deque()
        """Pieces that found no room. A deque, because `keep` and `write` may be called by two threads."""

    def write(self, batch: OutputBatch) -> None:
        """Make a batch durable. To be called in a thread: nearly all of it is the kernel's work."""
        while self._waiting:
            self._keep(*self._waiting[0])
            self._waiting.popleft()
        if batch.moves or batch.synced:
            try:
                self._downloads.settle(batch.moves, batch.synced)
            except OSError as error:
                raise _told(error, "a download") from None
        begun: list[tuple[Append, int]] = []
        folders: dict[Path, int] = {}
        try:
            for append in batch.appends:
                try:
                    if (
                        append.is_new
                    ):  # before anything that would have to be undone: there may be no descriptor
                        self._open_folders(append, folders)
                    descriptor = self._ready(append)
                    begun.append((append, descriptor))
                    self._append(append, descriptor)
                except (OSError, StorageError) as error:
                    self._undo(begun)
                    raise _told(error, append.file) from None
            self._fsync(begun, folders)
        finally:
            for descriptor in folders.values():
                os.close(descriptor)
        for file in batch.closed:
            descriptor = self._files.pop(file, -1)
            if descriptor >= 0:
                os.close(descriptor)

    def keep(self, key: str, index: int, body: bytes | memoryview, file: bool = False) -> None:
        """See `Sink`. Raises StorageError."""
        try:
            self._keep(key, index, body, file)
        except DiskFull:
            self._waiting.append((key, index, body, file))

    def _keep(self, key: str, index: int, body: bytes | memoryview, file: bool) -> None:
        if not file:
            self._parts.keep(key, index, body)
            return
        try:
            self._downloads.keep(key, index, body)
        except OSError as error:
            raise _told(error, key) from None

    def digest(self, part: str, pieces: int, tail: bytes) -> str | None:
        """See `Files.digest`; to be called in a thread."""
        return self._downloads.digest(part, pieces, tail)

    @property
    def has_waiting(self) -> bool:
        """See `Sink`."""
        return bool(self._waiting)

    def drop(self, key: str, file: bool = False) -> None:
        """See `Sink`."""
        if file:
            self._downloads.drop(key)
        else:
            self._parts.drop(key)

    def close(self) -> None:
        """Let go of the files. May be called twice."""
        self._downloads.close()
        while self._files:
            os.close(self._files.popitem()[1])

    def _open_folders(self, append: Append, folders: dict[Path, int]) -> None:
        """The folders whose names a new file changes: its own, and DIR, for the folder itself may be new."""
        path = self._directory / append.file
        path.parent.mkdir(exist_ok=True)
        for folder in (self._directory, path.parent):
            if folder not in folders:
                folders[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _ready(self, append: Append) -> int:
        file, offset, _, is_new = append
        if is_new:
            path = self._directory / file
            self._files[file] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        elif file not in self._files:
            self._files[file] = os.open(self._directory / file, os.O_RDWR | os.O_CLOEXEC)
        descriptor = self._files[file]
        size = os.fstat(descriptor).st_size
        if size != offset:
            raise StorageError(f"{file} has {size} bytes where {offset} were committed: who wrote to it?")
        return descriptor

    def _append(self, append: Append, descriptor: int) -> None:
        offset = append.offset
        waiting: list[bytes | memoryview] = []
        for chunk in append.chunks:
            if isinstance(chunk, Part):
                offset = _write(descriptor, waiting, offset)
                waiting = []
                offset = self._parts.copy(chunk, descriptor, offset)
            else:
                waiting.append(chunk)
        _write(descriptor, waiting, offset)

    def _fsync(self, written: Sequence[tuple[Append, int]], folders: Mapping[Path, int]) -> None:
        at = ""
        try:
            for append, descriptor in written:
                at = append.file
                _fdatasync(descriptor)
            for folder, descriptor in folders.items():
                at = str(folder)
                os.fsync(descriptor)
        except OSError as error:
            raise StorageError(
                f"{at}: fsync failed ({error.strerror}): start again to see what reached the disk"
            ) from None

    def _undo(self, begun: Sequence[tuple[Append, int]]) -> None:
        """Cut every file back to where the batch began."""
        for append, descriptor in begun:
            try:
                if append.is_new:
                    del self._files[append.file]
                    os.close(descriptor)
                    os.unlink(self._directory / append.file)
                else:
                    os.ftruncate(descriptor, append.offset)
            except OSError as error:
                raise StorageError(
                    f"{append.file} could not be cut back to {append.offset} bytes ({error.strerror})"
                ) from None


class PartFiles:
    """Records that come in pieces, one file each, until they are copied into an output. Nothing here is
    durable."""

    def __init__(self, folder: Path) -> None:
        """Removes what an earlier process kept there: its senders send everything again."""
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink()

    def keep(self, key: str, index: int, body: bytes | memoryview) -> None:
        """Write the `index`-th piece; pieces come in any order, and again after a lost answer."""
        try:
            descriptor = os.open(self._path(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _write(descriptor, [body], index * PIECE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _told(error, key) from None

    def copy(self, part: Part, target: int, offset: int) -> int:
        """Copy a part to `offset` of an open file; returns where it ends. Raises StorageError if it is not
        there."""
        try:
            source = os.open(self._path(part.key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StorageError(f"the pieces of {part.key} are gone before their page was written") from None
        try:
            copied = _copy(source, part.offset, target, offset, part.length)
        finally:
            os.close(source)
        if copied != part.length:
            raise StorageError(f"a piece of {part.key} has {copied} bytes of {part.length}")
        return offset + copied

    def drop(self, key: str) -> None:
        """Remove the file."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / key


def survey(found: Mapping[str, int], committed: Mapping[str, int], shard: int) -> Recovery:
    """What is wrong with the files `found` (name to size), and so what `recover` will do. Touches nothing.

    Files that no commit knows are ours to remove only if their name says that this shard wrote them.
    """
    sizes = {file: found.get(file) for file in sorted(committed)}
    return Recovery(
        cut=tuple(
            (file, size, committed[file])
            for file, size in sizes.items()
            if size is not None and size > committed[file]
        ),
        removed=tuple(sorted(file for file in found if file not in committed and shard_of(file) == shard)),
        short=tuple(
            Short(file, size, committed[file])
            for file, size in sizes.items()
            if (size if size is not None else -1) < committed[file]
        ),
    )


def recover(directory: Path, committed: Mapping[str, int], shard: int) -> Recovery:
    """Put a shard's output files right after a crash, before anything is appended (PROTOCOL rules 2 and 3).

    `committed`: the committed end of each file, from the store. Longer files are cut to it, files that no
    commit knows are removed. Shorter files are told and left alone: whoever knows the records cuts them at
    the end of one (`cut`) and takes the file's row out, or corrects it. Raises StorageError when a file
    cannot be touched.
    """
    try:
        found = {}
        for folder in FOLDERS:
            with suppress(FileNotFoundError), os.scandir(directory / folder) as entries:
                found.update({f"{folder}/{entry.name}": entry.stat().st_size for entry in entries})
        recovery = survey(found, committed, shard)
        for file, _, end in recovery.cut:
            cut(directory, file, end)
        for file in recovery.removed:
            os.unlink(directory / file)
        for folder in sorted({file.partition("/")[0] for file in recovery.removed}):
            fsync_folder(directory / folder)
    except OSError as error:
        raise StorageError(f"{error.filename}: not put right after a crash ({error.strerror})") from None
    return recovery


def cut(directory: Path, file: str, end: int) -> None:
    """Shorten an output file to its first `end` bytes, durably."""
    descriptor = os.open(directory / file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def room(directory: Path) -> int:
    """Bytes that may still be written below DIR: the least over it and its folders, which may be on other
    disks."""
    least = None
    for folder in (
        directory,
        *(directory / name for name in (*FOLDERS, "frontier", PARTS_FOLDER, PARTIALS_FOLDER)),
    ):
        with suppress(FileNotFoundError):
            disk = os.statvfs(folder)
            free = disk.f_bavail * disk.f_frsize
            least = free if least is None else min(least, free)
    if least is None:
        raise StorageError(f"{directory} is gone")
    return least


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a new file is not, before this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, chunks: Sequence[bytes | memoryview], offset: int) -> int:
    """Write all of the chunks from `offset` on; returns where they end."""
    for first in range(0, len(chunks), _MOST_CHUNKS):
        some = list(chunks[first : first + _MOST_CHUNKS])
        length = sum(map(len, some))
        while length:
            written = os.pwritev(descriptor, some, offset)
            offset += written
            length -= written
            if length:
                some = _rest(some, written)  # the disk filled up in the middle, or a signal came
    return offset


def _rest(chunks: list[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    for position, chunk in enumerate(chunks):
        if written < len(chunk):
            return [memoryview(chunk)[written:], *chunks[position + 1 :]]
        written -= len(chunk)
    return []


def _copy(source: int, start: int, target: int, offset: int, length: int) -> int:
    """Copy between files; returns the bytes copied, fewer than `length` if the source ends."""
    copied = 0
    in_kernel = hasattr(os, "copy_file_range")  # not on macOS
    while copied < length:
        size = min(length - copied, _COPY_BYTES)
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, size, start + copied, offset + copied)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                in_kernel = False  # folders on two disks, or a file system without it
                continue
        else:
            some = os.pread(source, size, start + copied)
            done = _write(target, [some], offset + copied) - offset - copied
        if done == 0:
            break
        copied += done
    return copied


def _told(error: OSError | StorageError, where: str) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if error.errno in NO_FILES:
        return NoFiles(f"{where} cannot be opened ({error.strerror}): raise `ulimit -n`; nothing is torn")
    if error.errno in _FULL:
        return DiskFull(f"no room for {where} ({error.strerror}): free some space; nothing is torn")
    if error.errno == errno.EFBIG:
        return StorageError(
            f"{where} may not grow ({error.strerror}): raise `ulimit -f` or lower rotate_bytes"
        )
    return StorageError(f"{where} cannot be written ({error.strerror})")
