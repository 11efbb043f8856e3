"""A disk that can crash: a `Store` and a `Sink` in memory, for clusters in virtual time.

They keep apart what was written and what is durable, as a kernel does: `crash` gives the disk as a new start
finds it. Of what was not durable, a random part survives: a prefix of the staged batches, a prefix of each
file's tail, new names or not. One `Faults` counts the operations of both, so that a run can be made to go
wrong at any one of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha1
from random import Random

from common.errors import DiskFull, StorageError
from common.messages import PIECE_BYTES
from common.warc import digest_text
from coordinator.outputs import Append, OutputBatch, Part
from coordinator.sink import Recovery, survey
from coordinator.store.kv import Overlay
from coordinator.store.rows import PartialRow, file_row, unpack


class Fault(Enum):
    """How an operation goes wrong."""

    CRASH = auto()
    """The process ends there; the operation does not take place."""
    FULL = auto()
    """No room. Only for what writes."""
    BROKEN = auto()
    """The disk reports an error. The process has to end."""


class Crashed(BaseException):
    """The process is no more. Not an Exception: nothing of the process may catch it."""


@dataclass(slots=True)
class Faults:
    """Which operations of a disk go wrong."""

    plan: Mapping[int, Fault] = field(default_factory=dict)
    """By the operation's number, from 1."""
    count: int = 0
    """Operations so far."""

    def step(self, operation: str, *, writes: bool = True) -> None:
        """One more operation. Raises what the plan has for it; `writes`: it may find the disk full."""
        self.count += 1
        match self.plan.get(self.count):
            case None:
                pass
            case Fault.CRASH:
                raise Crashed(f"at operation {self.count}, {operation}")
            case Fault.FULL:
                if not writes:
                    return
                raise DiskFull(f"no room at operation {self.count}, {operation}")
            case Fault.BROKEN:
                raise StorageError(f"the disk failed at operation {self.count}, {operation}")


class CrashableStore:
    """A `Store` in memory."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None, faults: Faults | None = None) -> None:
        self._rows = dict(rows or {})
        self._keys = sorted(self._rows)
        self._faults = faults or Faults()
        self._unsynced: list[dict[bytes, bytes | None]] = []
        """Staged batches, first to last."""
        self._before: dict[bytes, bytes | None] = {}
        """What the rows they changed were when they were last durable."""
        self._open = True

    def get(self, key: bytes) -> bytes | None:
        """See `Store`."""
        self._check("get")
        return self._rows.get(key)

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `Store`."""
        self._check("scan")
        first = bisect_left(self._keys, start)
        last = min(bisect_left(self._keys, stop), first + max(limit, 0))
        return [(key, self._rows[key]) for key in self._keys[first:last]]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """See `Store`."""
        self.stage(changes)
        self.sync()

    def stage(self, changes: Mapping[bytes, bytes | None]) -> None:
        """See `Store`."""
        self._check("stage")
        self._faults.step("stage")
        self._unsynced.append(dict(changes))
        for key, row in changes.items():
            self._before.setdefault(key, self._rows.get(key))
            self._set(key, row)

    def sync(self) -> None:
        """See `Store`."""
        self._check("sync")
        self._faults.step("sync", writes=False)
        self._unsynced.clear()
        self._before.clear()

    def close(self) -> None:
        """See `Store`."""
        self._open = False

    def crash(self, random: Random, faults: Faults | None = None) -> CrashableStore:
        """The store after a crash: what is durable, and the first few of the batches that are not."""
        self._open = False
        for key, row in self._before.items():
            self._set(key, row)
        for changes in self._unsynced[: random.randint(0, len(self._unsynced))]:
            for key, row in changes.items():
                self._set(key, row)
        return CrashableStore(self._rows, faults)

    def _set(self, key: bytes, row: bytes | None) -> None:
        if row is not None:
            if key not in self._rows:
                insort(self._keys, key)
            self._rows[key] = row
        elif self._rows.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def _check(self, operation: str) -> None:
        if not self._open:
            raise RuntimeError(f"{operation} on a store that was closed or has crashed")


@dataclass(slots=True)
class _File:
    content: bytearray
    durable: int
    """Bytes that are fsynced."""
    is_named: bool
    """Whether its name in the folder is durable."""


class CrashableFiles:
    """A `Sink` in memory, with what `sink.recover`, `sink.cut` and `sink.room` do for the real one."""

    def __init__(self, files: Mapping[str, bytes] | None = None, faults: Faults | None = None) -> None:
        self._files = {name: _File(bytearray(body), len(body), True) for name, body in (files or {}).items()}
        self._faults = faults or Faults()
        self._parts: dict[str, dict[int, bytes]] = {}
        self._durable_parts: dict[str, dict[int, bytes]] = {}
        """Of downloads: what of their pieces was synced."""
        self._open = True
        self.room = 1 << 40
        """Bytes free; for the simulation to set."""

    @property
    def files(self) -> dict[str, bytes]:
        """Every file as a reader sees it now."""
        return {name: bytes(file.content) for name, file in self._files.items()}

    @property
    def parts(self) -> int:
        """Pieces that are kept."""
        return sum(map(len, self._parts.values()))

    def write(self, batch: OutputBatch) -> None:
        """See `Sink`."""
        self._check("write")
        self._settle(batch)
        begun: list[Append] = []
        try:
            for append in batch.appends:
                self._append(append, begun)
        except StorageError:
            for append in begun:
                if append.is_new:
                    del self._files[append.file]
                else:
                    del self._files[append.file].content[append.offset :]
            raise
        for append in begun:
            self._faults.step(f"fsync of {append.file}", writes=False)
            file = self._files[append.file]
            file.durable = len(file.content)
        if any(append.is_new for append in begun):
            self._faults.step("fsync of a folder", writes=False)
        for append in begun:
            self._files[append.file].is_named = True

    def _settle(self, batch: OutputBatch) -> None:
        """As `files.Files.settle`."""
        for move in batch.moves:
            if move.file in self._files:
                continue  # the batch is written again
            self._faults.step(f"move to {move.file}")
            pieces, count = self._parts.get(move.part, {}), move.offset // PIECE_BYTES
            if any(index not in pieces for index in range(count)):
                raise StorageError(f"{move.file}: {sorted(pieces)} of {count} pieces are there")
            body = b"".join(pieces[index] for index in range(count)) + bytes(move.tail)
            self._files[move.file] = _File(bytearray(body), len(body), False)
            self.drop(move.part, True)
        for part in batch.synced:
            self._faults.step(f"fsync of {part}", writes=False)
            self._durable_parts[part] = dict(self._parts.get(part, {}))
        if batch.moves:
            self._faults.step("fsync of a folder of downloads", writes=False)
        for move in batch.moves:
            self._files[move.file].is_named = True

    def digest(self, part: str, pieces: int, tail: bytes) -> str | None:
        """As `files.Files.digest`."""
        there = self._parts.get(part, {})
        if any(index not in there for index in range(pieces)):
            return None
        return digest_text(sha1(b"".join(there[index] for index in range(pieces)) + tail).digest())

    def recover_downloads(self, rows: Overlay) -> None:
        """As `files.recover`."""
        known = set()
        for key, packed in rows.scan(b"p", b"q", 1 << 30):
            row = PartialRow(*unpack(packed))
            if set(range(row.pieces)) <= set(self._parts.get(row.part, {})):
                known.add(row.part)
            else:
                rows.delete(key)
        for part in set(self._parts) - known:
            self.drop(part, True)
        for name in [name for name in self._files if name.startswith("files/")]:
            if rows.get(file_row(name)) is None:
                del self._files[name]

    def keep(self, key: str, index: int, body: bytes | memoryview, file: bool = False) -> None:
        """See `Sink`."""
        self._check("keep")
        self._faults.step(f"keep of {key}", writes=False)
        self._parts.setdefault(key, {})[index] = bytes(body)

    @property
    def has_waiting(self) -> bool:
        """See `Sink`; here a piece always finds room."""
        return False

    def drop(self, key: str, file: bool = False) -> None:
        """See `Sink`."""
        self._check("drop")
        self._parts.pop(key, None)
        self._durable_parts.pop(key, None)

    def close(self) -> None:
        """See `Sink`."""
        self._open = False

    def recover(self, committed: Mapping[str, int], shard: int) -> Recovery:
        """As `sink.recover`."""
        self._check("recover")
        recovery = survey({name: len(file.content) for name, file in self._files.items()}, committed, shard)
        for name, _, end in recovery.cut:
            self.cut(name, end)
        for name in recovery.removed:
            del self._files[name]
        return recovery

    def cut(self, name: str, end: int) -> None:
        """As `sink.cut`; also how a test takes away bytes that were committed (rule 3)."""
        file = self._files[name]
        del file.content[end:]
        file.durable = len(file.content)

    def crash(self, random: Random, faults: Faults | None = None) -> CrashableFiles:
        """The files after a crash: all that is durable, and of what is not, a random beginning or nothing."""
        self._open = False
        left = {}
        for name, file in sorted(self._files.items()):
            end = random.randint(file.durable, len(file.content))
            if file.is_named or random.random() < 0.5:
                left[name] = bytes(file.content[:end])
        after = CrashableFiles(left, faults)
        for part, pieces in self._parts.items():
            durable = self._durable_parts.get(part, {})
            # What was not synced may be there, or be a hole: the size of a file says nothing of its bytes.
            kept = {
                index: body if index in durable or random.random() < 0.5 else bytes(len(body))
                for index, body in pieces.items()
                if index in durable or random.random() < 0.7
            }
            if kept:
                after._parts[part], after._durable_parts[part] = kept, dict(kept)
        return after

    def _append(self, append: Append, begun: list[Append]) -> None:
        name, offset, chunks, is_new = append
        if is_new:
            if name in self._files:
                raise StorageError(f"{name} is there already")
            self._files[name] = _File(bytearray(), 0, False)
        elif name not in self._files:
            raise StorageError(f"{name} is gone")
        file = self._files[name]
        if len(file.content) != offset:
            raise StorageError(f"{name} has {len(file.content)} bytes where {offset} were committed")
        begun.append(append)
        for chunk in chunks:
            self._faults.step(f"append to {name}")
            file.content += self._part(chunk) if isinstance(chunk, Part) else chunk

    def _part(self, part: Part) -> bytes:
        piece = self._parts.get(part.key, {}).get(part.offset // PIECE_BYTES, b"")
        if part.offset % PIECE_BYTES or len(piece) != part.length:
            raise StorageError(f"a piece of {part.key} has {len(piece)} bytes of {part.length}")
        return piece

    def _check(self, operation: str) -> None:
        if not self._open:
            raise RuntimeError(f"{operation} on files that were closed or have crashed")
