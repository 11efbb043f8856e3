"""The store's narrow seam, and the changes that wait in front of it for the next commit.

`Store` is what a shard needs of a database: ordered bytes to bytes, read one, read a range, write a batch.
RocksDB stands behind it in a crawl (`rocks.py`), a dict that can crash in the simulation
(`tests/support/disk.py`).

`Overlay` is how cores use it: their reads see their own changes at once, while disk sees them only in
batches. It does no I/O of its own but for reading through. A change is *pending* until `seal` hands all
pending ones to the shell; then it is *sealed* until the shell says `committed`. At most one sealed batch
exists.

Invariants: 1. a read gives the newest of pending, sealed, stored;  2. what `seal` returned is not changed
afterwards; 3. a remembered row equals the stored one, because nobody writes to the store but through its
overlay.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Final, Protocol

REMEMBERED_ROWS: Final = 1 << 15
"""Rows of one of the two generations an overlay remembers: links repeat within pages found together. Two
times 32,768 rows of some 300 bytes are 20 MB; a hit costs 0.15 µs, a read of RocksDB 3."""

_GROUP_BYTES: Final = 3
"""Changed keys are sorted in groups that share their first bytes (a table's letter and a slot, see rows.py),
so that a scan of one host's queue does not sort what changed for all the others."""

_PAGE_ROWS: Final = 4096
"""Rows a merged scan reads from the store at once: bounds memory when the limit does not."""

_FEW: Final = 16
"""Up to so many new keys are inserted one by one into a sorted group, more are sorted with it; also the least number of
rows that a merged scan reads at once, where a page costs more than its rows."""

_UNKNOWN: Final = b"\x00unknown"
"""Told apart by identity from every row, and from None, which stands for a deleted one."""


class Store(Protocol):
    """Ordered bytes to bytes, on disk. One process at a time; one thread, but for `sync`.

    Every method raises StorageError when the store cannot be read or written, and DiskFull when there is no
    room; after DiskFull the same changes may be staged or written again.
    """

    def get(self, key: bytes) -> bytes | None:
        """The row, or None if there is none."""

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first `limit` rows with start <= key < stop, ascending."""

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Make all of the changes, or, after a crash, none of them. None deletes. Durable on return."""

    def stage(self, changes: Mapping[bytes, bytes | None]) -> None:
        """As `write`, but durable only when `sync` has returned; a crash before that may keep it or not."""

    def sync(self) -> None:
        """Make durable what was staged. Blocks for the disk, not for other threads: call it in one."""

    def close(self) -> None:
        """Let go of the files. What was staged and not synced may be kept or not."""


class Overlay:
    """A store, and the changes that are not in it yet."""

    __slots__ = ("_groups", "_new_keys", "_older", "_pending", "_recent", "_remember", "_sealed", "_store")

    def __init__(self, store: Store, *, remember: int = REMEMBERED_ROWS) -> None:
        """`remember`: rows of each of two generations that are kept in memory once they are stored; 0 for
        none."""
        self._store = store
        self._pending: dict[bytes, bytes | None] = {}
        self._new_keys: list[bytes] = []
        """Keys of `_pending` that are in no group yet: most are never scanned for before they are stored."""
        self._groups = _Groups()
        self._sealed: tuple[dict[bytes, bytes | None], _Groups] | None = None
        self._remember = remember
        self._recent: dict[bytes, bytes | None] = {}
        self._older: dict[bytes, bytes | None] = {}

    @property
    def dirty(self) -> bool:
        """Whether any change is pending."""
        return bool(self._pending)

    @property
    def pending(self) -> int:
        """Number of pending changes: what the next `seal` returns."""
        return len(self._pending)

    def get(self, key: bytes) -> bytes | None:
        """The row as it will be when everything is committed; None if there is none."""
        row = self._pending.get(key, _UNKNOWN)
        if row is not _UNKNOWN:
            return row
        if self._sealed is not None:
            row = self._sealed[0].get(key, _UNKNOWN)
            if row is not _UNKNOWN:
                return row
        row = self._recent.get(key, _UNKNOWN)
        if row is not _UNKNOWN:
            return row
        row = self._older.get(key, _UNKNOWN)
        if row is not _UNKNOWN:
            return row
        row = self._store.get(key)
        if row is not None and self._remember:
            # An absent row is not remembered: whoever asks for one that is not there is about to write it.
            self._recent[key] = row
            self._bound_memory()
        return row

    def put(self, key: bytes, row: bytes) -> None:
        """Set a row."""
        pending = self._pending
        if key not in pending:
            self._new_keys.append(key)
        pending[key] = row

    def delete(self, key: bytes) -> None:
        """Remove a row; it need not exist."""
        pending = self._pending
        if key not in pending:
            self._new_keys.append(key)
        pending[key] = None

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first `limit` rows with start <= key < stop, ascending, as they will be when all is
        committed."""
        if limit <= 0 or start >= stop:
            return []
        self._group_new_keys()
        older_first = (self._sealed or _NOTHING, (self._pending, self._groups))
        layers = [(rows, groups) for rows, groups in older_first if groups.touch(start, stop)]
        if not layers:
            return self._store.scan(start, stop, limit)
        found: list[tuple[bytes, bytes]] = []
        size = min(max(limit, _FEW), _PAGE_ROWS)
        while True:
            # The next `size` keys of the store and of each layer. They are complete up to the horizon: the least of
            # the keys at which one of them was cut short.
            page = self._store.scan(start, stop, size)
            horizon = page[-1][0] if len(page) == size else None
            merged: dict[bytes, bytes | None] = dict(page)
            for rows, groups in layers:
                keys = groups.first(start, stop, size)
                if len(keys) == size and (horizon is None or keys[-1] < horizon):
                    horizon = keys[-1]
                for key in keys:
                    merged[key] = rows[key]
            for key, row in sorted(merged.items()):
                if horizon is not None and key > horizon:
                    break
                if row is not None:
                    found.append((key, row))
                    if len(found) == limit:
                        return found
            if horizon is None:
                return found
            start = horizon + b"\x00"
            size = min(size * 4, _PAGE_ROWS)  # so that a head of a thousand deleted rows is a few rounds

    def seal(self) -> dict[bytes, bytes | None]:
        """The pending changes, for the shell to write; still visible to reads. Not to be changed by anybody.

        Raises RuntimeError while another sealed batch is not committed.
        """
        if self._sealed is not None:
            raise RuntimeError(f"sealed twice: {len(self._sealed[0])} changes are not committed yet")
        self._group_new_keys()
        changes = self._pending
        self._sealed = (changes, self._groups)
        self._pending, self._groups = {}, _Groups()
        return changes

    def committed(self) -> None:
        """What was sealed is in the store. Raises RuntimeError if nothing was sealed."""
        if self._sealed is None:
            raise RuntimeError("committed, but nothing was sealed")
        changes, _ = self._sealed
        self._sealed = None
        if self._remember:
            self._recent.update(changes)  # and hides what `_older` still says of these keys
            self._bound_memory()

    def _bound_memory(self) -> None:
        if len(self._recent) > self._remember:
            self._older, self._recent = self._recent, {}

    def _group_new_keys(self) -> None:
        if self._new_keys:
            self._groups.add(self._new_keys)
            self._new_keys = []


class _Groups:
    """The keys of one generation of changes, in groups by their first bytes; a group is sorted when first scanned."""

    __slots__ = ("_heads", "_heads_sorted", "_sorted", "_unsorted")

    def __init__(self) -> None:
        self._sorted: dict[bytes, list[bytes]] = {}
        self._unsorted: dict[bytes, list[bytes]] = {}
        self._heads: list[bytes] = []
        """The first bytes of every group."""
        self._heads_sorted = True

    def add(self, keys: list[bytes]) -> None:
        """Keys that are in no group yet."""
        unsorted = self._unsorted
        for key in keys:
            head = key[:_GROUP_BYTES]
            there = unsorted.get(head)
            if there is not None:
                there.append(key)
                continue
            unsorted[head] = [key]
            if head not in self._sorted:
                self._heads.append(head)
                self._heads_sorted = False

    def touch(self, start: bytes, stop: bytes) -> bool:
        """Whether any group may hold a key of the range."""
        return bool(self._between(start, stop))

    def first(self, start: bytes, stop: bytes, size: int) -> list[bytes]:
        """The first `size` keys with start <= key < stop, ascending."""
        found: list[bytes] = []
        for head in self._between(start, stop):
            keys = self._in_order(head)
            low = bisect_left(keys, start)
            high = bisect_left(keys, stop, low)
            found += keys[low : min(high, low + size - len(found))]
            if len(found) == size:
                break
        return found

    def _between(self, start: bytes, stop: bytes) -> list[bytes]:
        first = start[:_GROUP_BYTES]
        if stop.startswith(first) and len(first) == _GROUP_BYTES:
            return [first] if first in self._sorted or first in self._unsorted else []
        if not self._heads_sorted:
            self._heads.sort()
            self._heads_sorted = True
        return self._heads[bisect_left(self._heads, first) : bisect_left(self._heads, stop)]

    def _in_order(self, head: bytes) -> list[bytes]:
        keys = self._sorted.setdefault(head, [])
        fresh = self._unsorted.pop(head, None)
        if fresh is None:
            return keys
        if len(fresh) <= _FEW:
            for key in fresh:
                insort(keys, key)
        else:
            keys.extend(fresh)
            keys.sort()
        return keys


_NOTHING: Final[tuple[dict[bytes, bytes | None], _Groups]] = ({}, _Groups())
