"""Where the next bytes go: which output file, at which offset, before anything is written.

A record's place must be known when its row is made, and both become durable together. So a core appends here
and gets a `Location` at once; `seal` hands what is pending to the shell as an `OutputBatch`, and the new end
of every file in it goes into the same commit of the store. After a crash each file is cut back to its
committed end (`sink.recover`). No I/O and no clock.

A *stream* is one kind of output: `warc`, `pages`, `text`, `links`, `items/NAME`. Its files have serials; only
the one with the highest is still written (CONTRACT section 3).

Invariants: 1. what `append` returned stays true whatever the shell does: a batch that failed is written
again, as it is;  2. a file's appends follow one another without gap;  3. a WARC file begins with a warcinfo
record;  4. a record is never split over two files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from common.messages import LINK_LINES, PIECE_BYTES, TEXT_LINES

ROTATE_BYTES: Final = 1 << 30
"""A file is closed before it passes this: what archives use, and what tools that map a file can take."""

FOLDERS: Final = ("warc", "pages", "items", "text", "links")
"""The folders of DIR that hold outputs."""

KEPT_WITH_PAGES: Final = ("items/", "text/", "links/")
"""How the names of files begin whose lines stand at the places that a request's row calls its items."""

ITEM_KINDS: Final = 64
"""Kinds of items that get files of their own: each is an open file."""

_ITEMS: Final = "items/items"
_NO_ITEMS: Final = {TEXT_LINES: "text", LINK_LINES: "links"}
_STREAM: Final = re.compile(r"warc|pages|text|links|items/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FILE: Final = re.compile(
    r"(?P<folder>[a-z]+)/(?P<name>[^/]+)-(?P<shard>\d{2,})-(?P<serial>\d{5,})\.(?P<kind>.+)"
)
_WARC_NAME: Final = re.compile(r"-\d{17}$")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class Location(NamedTuple):
    """Where bytes stand."""

    file: str
    """Relative to DIR, with `/`."""
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a record too big for memory: `length` bytes at `offset` of the part file `key`
    (`sink.PartFiles`)."""

    key: str
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


Chunk = bytes | memoryview | Part
"""What a record is appended in; `len` is its bytes. A memoryview must be of bytes and stay valid until the
commit."""


class Append(NamedTuple):
    """Bytes for one file: `chunks` one after another, from `offset` on."""

    file: str
    offset: int
    chunks: Sequence[Chunk]
    is_new: bool
    """The file is not there yet."""


class Move(NamedTuple):
    """A downloaded file that is whole: the part file `part`, then `tail` from `offset` on, becomes `file`."""

    part: str
    offset: int
    """0: there is no part file yet, all of it is in `tail`."""
    tail: bytes | memoryview
    file: str
    """Relative to DIR, with `/`. Nothing is there."""


@dataclass(frozen=True, slots=True)
class OutputBatch:
    """What the shell writes before it commits the rows that point to it. False when there is nothing to write."""

    appends: tuple[Append, ...]
    """At most one for each file."""
    ends: Mapping[str, int]
    """The end of each of these files once this batch is written: to be committed with it."""
    closed: tuple[str, ...] = ()
    """Files that get nothing after this batch."""
    moves: tuple[Move, ...] = ()
    synced: tuple[str, ...] = ()
    """Part files of downloads that are to be durable as far as they came; one that is gone is passed over."""

    def __bool__(self) -> bool:
        return bool(self.appends or self.moves or self.synced)


@dataclass(slots=True)
class _Growing:
    """The file of a stream that is still written."""

    name: str
    serial: int
    start: int
    """Where `pending` begins."""
    end: int
    is_new: bool
    pending: list[Chunk]


class Outputs:
    """The files of one shard."""

    def __init__(
        self,
        ends: Mapping[str, int],
        *,
        shard: int,
        name: str,
        warcinfo: Callable[[str, float], bytes],
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        """`ends`: the committed end of each file, from the store; empty for a new crawl.

        `name`: of the crawl, for the names of WARC files. `warcinfo(file name, wall time)` makes the first
        record of a WARC file, as a gzip member.
        """
        self._shard = shard
        self._name = _UNSAFE.sub("_", name).strip("_.-")[:64] or "crawl"
        self._warcinfo = warcinfo
        self._rotate_bytes = rotate_bytes
        self._growing = _latest(ends, shard)
        self._touched: list[_Growing] = []
        self._closed: list[str] = []
        self._moves: list[Move] = []
        self._synced: dict[str, None] = {}
        self._pending_bytes = 0

    @property
    def dirty(self) -> bool:
        """Whether anything waits for `seal`."""
        return bool(self._touched or self._moves or self._synced)

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for `seal`; the core keeps this small by committing."""
        return self._pending_bytes

    def append(self, stream: str, chunks: Sequence[Chunk], wall: float) -> Location:
        """Put bytes at the end of a stream; they stay together. `wall`: now, seconds since 1970.

        Raises ValueError for a stream that there is not.
        """
        length = 0
        for chunk in chunks:
            length += len(chunk)
        file = self._growing.get(stream)
        if file is None or (file.end + length > self._rotate_bytes and file.end > 0):
            file = self._begin(stream, file, wall)
        pending = file.pending
        if not pending and length:
            self._touched.append(file)
        pending.extend(chunks)
        offset = file.end
        file.end = offset + length
        self._pending_bytes += length
        return Location(file.name, offset, length)

    def item_stream(self, name: str) -> str:
        """The stream for a kind of items; `items/items` for one too many, or a name that no file can have. Lines of
        `text` and `links` travel as items with names of their own."""
        if name in _NO_ITEMS:
            return _NO_ITEMS[name]
        stream = f"items/{name}"
        if stream in self._growing:
            return stream
        kinds = sum(known.startswith("items/") for known in self._growing)
        return stream if kinds < ITEM_KINDS and _STREAM.fullmatch(stream) else _ITEMS

    def part(self, key: str, index: int) -> Part:
        """The `index`-th piece of PIECE_BYTES of the part file `key`, as something to append."""
        return Part(key, index * PIECE_BYTES, PIECE_BYTES)

    def move(self, part: str, pieces: int, tail: bytes | memoryview, file: str) -> None:
        """Let a download become a file: `pieces` of the part file, then `tail`."""
        self._moves.append(Move(part, pieces * PIECE_BYTES, tail, file))
        self._synced.pop(part, None)
        self._pending_bytes += len(tail)

    def sync(self, part: str) -> None:
        """Make a download's part file durable as far as it has come."""
        self._synced[part] = None

    def seal(self) -> OutputBatch:
        """All that is pending. The chunks are kept by nobody else."""
        appends = []
        ends = {}
        for file in self._touched:
            appends.append(Append(file.name, file.start, file.pending, file.is_new))
            ends[file.name] = file.end
            file.start, file.is_new, file.pending = file.end, False, []
        batch = OutputBatch(
            tuple(appends), ends, tuple(self._closed), tuple(self._moves), tuple(self._synced)
        )
        self._touched, self._closed, self._pending_bytes = [], [], 0
        if batch.moves or batch.synced:
            self._moves, self._synced = [], {}
        return batch

    def _begin(self, stream: str, last: _Growing | None, wall: float) -> _Growing:
        if _STREAM.fullmatch(stream) is None:
            raise ValueError(f"no stream is called {stream!r}: warc, pages, text, links or items/NAME")
        serial = 0
        if last is not None:
            serial = last.serial + 1
            self._closed.append(last.name)
        name = self._file_name(stream, serial, wall)
        file = _Growing(name, serial, start=0, end=0, is_new=True, pending=[])
        self._growing[stream] = file
        if stream == "warc":
            first = self._warcinfo(name.rpartition("/")[2], wall)
            file.pending.append(first)
            file.end = len(first)
            self._pending_bytes += len(first)
            self._touched.append(file)
        return file

    def _file_name(self, stream: str, serial: int, wall: float) -> str:
        numbers = f"{self._shard:02d}-{serial:05d}"
        if stream == "warc":
            moment = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%d%H%M%S%f")[:17]
            return f"warc/{self._name}-{moment}-{numbers}.warc.gz"
        folder, _, name = stream.partition("/")
        return f"{folder}/{name or folder}-{numbers}.jsonl"


def shard_of(file: str) -> int | None:
    """The shard that wrote the output file (relative to DIR); None if its name is not one of ours."""
    match = _FILE.fullmatch(file)
    return int(match["shard"]) if match and _stream_of(match) else None


def _stream_of(match: re.Match[str]) -> str | None:
    folder, name, kind = match["folder"], match["name"], match["kind"]
    if folder == "warc":
        return "warc" if kind == "warc.gz" and _WARC_NAME.search(name) else None
    if kind != "jsonl":
        return None
    stream = f"items/{name}" if folder == "items" else folder if name == folder else ""
    return stream if _STREAM.fullmatch(stream) else None


def _latest(ends: Mapping[str, int], shard: int) -> dict[str, _Growing]:
    latest: dict[str, _Growing] = {}
    for file, end in ends.items():
        match = _FILE.fullmatch(file)
        stream = _stream_of(match) if match else None
        if match is None or stream is None or int(match["shard"]) != shard:
            continue  # of a shard whose slots were moved here; it is never written again
        serial = int(match["serial"])
        if stream not in latest or latest[stream].serial < serial:
            latest[stream] = _Growing(file, serial, start=end, end=end, is_new=False, pending=[])
    return latest
