"""What is exported: the committed lines of one kind, in the order in which they were written.

Kinds are `pages`, `seeds`, `links`, `text` and `items/NAME`. How far a file is committed is read from the stores, all
of one moment; so the crawl may go on, or may have been killed. Seeds are told in files that no commit knows: they
count up to their last whole line. Reads only, one line at a time.

A request that was queued again after it had ended (`coord retry`) leaves its old line in `pages`, which counts no more:
it is left out, and until the request has ended again it has no line. Which lines those are, the store tells.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from common.errors import StorageError, UsageError
from coordinator.store.rows import unpack
from coordinator.store.snapshot import Reads, rows_between

_STRIDE: Final = 128
"""Bytes of a file that share a bit. Every key stands in every line of `pages`, so none is as short as this, and no
two lines begin in one stride: a test holds it. Only where something was tried anew is there a bit at all: 50 MB in a
file for 100 million pages, and no memory that the kernel could not take back."""

_PIECE: Final = 1 << 20

_WRITTEN_WHEN: Final = {
    "links": "they are written where --store names links",
    "text": "it is written where --store names text",
}


class Source:
    """The lines of one kind. Use as context, or `close`."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        files: Sequence[tuple[str, int]],
        superseded: _Places | _Ranges | None = None,
    ) -> None:
        """`files`: (name relative to DIR, committed end), in order. `superseded`: lines to leave out."""
        self.directory = directory
        self.kind = kind
        self.files = files
        self.size = sum(end for _, end in files)
        """Bytes of all lines."""
        self.read = 0
        """Bytes gone by in the latest pass."""
        self._superseded = superseded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what it holds. May be called twice."""
        if self._superseded is not None:
            self._superseded.close()

    def lines(self) -> Iterator[bytes]:
        """Every line that counts, each with its line end. May be called again. StorageError: one is torn."""
        self.read = 0
        for number, (file, end) in enumerate(self.files):
            offset = 0
            with _opened(self.directory / file) as lines:
                while offset < end:
                    line = lines.readline(end - offset)
                    if not line.endswith(b"\n"):
                        raise StorageError(
                            f"{file} at {offset}: the line is torn; look with `coord audit {self.directory}`"
                        )
                    if self._superseded is None or not self._superseded.holds(number, offset):
                        yield line
                    offset += len(line)
                    self.read += len(line)


def open_source(directory: Path, stores: Sequence[Reads], kind: str) -> Source:
    """The lines of `kind` as they are committed now. `stores`: those of all shards, needed only for this call.

    Raises UsageError where there is no such kind, or nothing of it.
    """
    name = kind.removeprefix("items/")
    if kind == "seeds":
        return Source(directory, kind, _seed_files(directory))
    if kind not in ("pages", "links", "text") and (name == kind or not name or "/" in name):
        raise UsageError(f"nothing is called {kind!r}: pages, items/NAME, links, text or seeds")
    files = [file for store in stores for file in committed(store, kind)]
    files.sort(key=lambda file: (len(file[0]), file[0]))  # serials may outgrow their five digits
    if kind == "pages":
        return Source(directory, kind, files, _superseded(stores, files))
    if not files:
        raise UsageError(f"{directory} holds no {kind}: {_why_none(stores, kind)}")
    return Source(directory, kind, files, _superseded_items(stores, files))


def committed(store: Reads, kind: str) -> Iterator[tuple[str, int]]:
    """(file, committed end) of the files of a kind, which may be `warc` too, in one shard's store."""
    folder, _, name = kind.partition("/")
    start = f"o{folder}/{name or folder}-" if folder != "warc" else "owarc/"
    for key, packed in rows_between(store, start.encode(), start[:-1].encode() + bytes([ord(start[-1]) + 1])):
        file = key[1:].decode()
        # Another name may begin with this one and a hyphen: what follows here are shard and serial.
        numbers = file[len(start) - 1 :].removesuffix(".jsonl").split("-")
        if folder == "warc" or (len(numbers) == 2 and all(number.isdecimal() for number in numbers)):
            yield file, int(unpack(packed))


def _why_none(stores: Sequence[Reads], kind: str) -> str:
    if kind in _WRITTEN_WHEN:
        return _WRITTEN_WHEN[kind]
    names = {
        key[1:].decode().rpartition("-")[0].rpartition("-")[0]
        for store in stores
        for key, _ in rows_between(store, b"oitems/", b"oitems0")
    }
    return f"there are {', '.join(sorted(names))}" if names else "no extractor yielded any"


def _seed_files(directory: Path) -> list[tuple[str, int]]:
    """Each up to its last whole line: they are told as they are read, and no commit names them."""
    found = []
    for path in sorted((directory / "seeds").glob("*.jsonl")):
        with _opened(path) as file:
            end = file.seek(0, 2)
            while end:
                start = max(0, end - _PIECE)
                file.seek(start)
                last = file.read(end - start).rfind(b"\n")
                if last >= 0:
                    found.append((f"seeds/{path.name}", start + last + 1))
                    break
                end = start
    return found


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; look with `coord audit`") from None


# -------------------------------------------------------------------------------------------- lines that count no more


class _Places:
    """A bit for each place at which a line may begin, in a file without a name."""

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self._numbers = {file: number for number, (file, _) in enumerate(files)}
        self._begins = [0]
        for _, end in files:
            self._begins.append(self._begins[-1] + end // _STRIDE + 1)
        with tempfile.TemporaryFile(prefix="shoal-") as scratch:
            scratch.truncate(self._begins[-1] // 8 + 1)
            self._bits = mmap.mmap(scratch.fileno(), 0)

    def add(self, file: str, offset: int) -> None:
        """There is one at `offset` of `file`. A file that is not exported is passed over."""
        number = self._numbers.get(file)
        if number is not None:
            bit = self._begins[number] + offset // _STRIDE
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def holds(self, number: int, offset: int) -> bool:
        """Whether there is one at `offset` of the `number`-th file."""
        bit = self._begins[number] + offset // _STRIDE
        return bool(self._bits[bit >> 3] >> (bit & 7) & 1)

    def close(self) -> None:
        """The file goes with it."""
        self._bits.close()


class _Ranges:
    """Parts of files that count no more: of items, text, links, whose lines may be short. 100 bytes each; a page that
    had any is seldom tried anew."""

    def __init__(self) -> None:
        self._ends: dict[int, dict[int, int]] = {}
        self._until: dict[int, int] = {}

    def add(self, number: int, offset: int, length: int) -> None:
        """There is one of `length` at `offset` of the `number`-th file."""
        self._ends.setdefault(number, {})[offset] = offset + length

    def holds(self, number: int, offset: int) -> bool:
        """Whether a line at `offset` is in one. Lines are asked for in their order."""
        end = self._ends.get(number, {}).get(offset)
        if end is not None:
            self._until[number] = end
        elif not offset:
            self._until.pop(number, None)
        return offset < self._until.get(number, 0)

    def close(self) -> None:
        """Nothing is held but memory."""


def _superseded_items(stores: Sequence[Reads], files: Sequence[tuple[str, int]]) -> _Ranges | None:
    """The items, or lines of text or links, that count no more; None: there are none."""
    ranges = None
    for number, (file, _) in enumerate(files):
        start = f"y{file} ".encode()
        for store in stores:
            for key, _ in rows_between(store, start, start[:-1] + b"!"):
                _, offset, length = key[1:].decode().rsplit(" ", 2)
                ranges = ranges or _Ranges()
                ranges.add(number, int(offset), int(length))
    return ranges


def _superseded(stores: Sequence[Reads], files: Sequence[tuple[str, int]]) -> _Places | None:
    """The lines that count no more; None: there are none, as in most crawls."""
    places = None
    for store in stores:
        for key, _ in rows_between(store, b"ypages/", b"ypages0"):
            file, offset, _length = key[1:].decode().rsplit(" ", 2)
            places = places or _Places(files)
            places.add(file, int(offset))
    return places
