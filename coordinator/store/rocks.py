"""The store on RocksDB, through rocksdict: what is tuned and why, and its errors put into words.

What rocksdict 0.3.29 does, found by trying:
  - A write holds the GIL, its fsync included; `flush_wal(sync=True)` lets go of it. So `stage` writes the log
    without an fsync, on the loop, and `sync` waits for the disk in a thread while the loop goes on reading.
  - Its item iterators end silently at a damaged block: half a host's queue would be missing and nobody told.
    So scans use the raw iterator and ask for its status at the end.
  - It raises nothing narrower than Exception; the messages are RocksDB's own.
  - Of a database that exists it takes the options of the tables from the folder, not from us, unless the column
    family is named: then ours hold. Unnamed, the cache after a restart is RocksDB's own 8 MiB.

Recovery mode: a torn tail of the log is dropped, damage before it is refused. Every batch but the last was
synced, so damage further in means that acknowledged rows are gone, which must be said, not skipped over (as
point-in-time does).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from common.errors import DiskFull, NoFiles, StorageError, UsageError

MEMORY_BYTES: Final = 256 << 20
"""Default bound of cache and write buffers. Filters of 100 million rows are 125 MB; less memory costs disk
reads."""

_ALL_ROWS: Final = "default"
"""RocksDB's own name of the one column family that is used."""
_MIB: Final = 1 << 20
_LEAST_MEMORY: Final = 16 * _MIB
_LEAST_ROOM: Final = _MIB
"""Without this much it is not even tried to open the store again: it writes tables and its own log at once."""
_FILTER_BITS: Final = 10
"""A row: 1 in 100 reads of an absent row goes to a block. 15 bits measured no faster and cost half as much
again."""


class RocksStore:
    """A `Store` on RocksDB; `rocks.open` makes it."""

    def __init__(self, path: Path, memory_bytes: int) -> None:
        self._path = path
        self._memory_bytes = memory_bytes
        self._staging = WriteOptions()
        # `sync` does it; rocksdict's default is False too, but a default may change
        self._staging.sync = False
        self._full = False
        """RocksDB takes no more writes after one that found no room, until it is opened again. It must be possible
        to read all the while: the crawl waits, but its core answers."""
        self._open()

    def get(self, key: bytes) -> bytes | None:
        """The row, or None. 2 µs where memory has it or the filters deny it, else a read of the disk."""
        try:
            row: bytes | None = self._get(key)
        except Exception as error:  # noqa: BLE001  (rocksdict has nothing narrower; `in_our_words` lets others pass)
            raise in_our_words(error, self._path) from None
        return row

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first `limit` rows with start <= key < stop, ascending: 4 µs and 0.3 µs a row.

        The bound is given to RocksDB, so that a scan ends at `stop` and does not step over the deleted rows
        of the neighbour until it finds a live one.
        """
        found: list[tuple[bytes, bytes]] = []
        if limit <= 0 or start >= stop:
            return found
        bounded = ReadOptions()
        bounded.set_iterate_upper_bound(stop)
        try:
            rows = self._db.iter(bounded)
            valid, key, value, advance = rows.valid, rows.key, rows.value, rows.next
            rows.seek(start)
            while valid():
                found.append((key(), value()))
                if len(found) == limit:
                    return found
                advance()
            rows.status()  # raises when it was not the end that made it invalid
        except Exception as error:  # noqa: BLE001  (as in `get`)
            raise in_our_words(error, self._path) from None
        return found

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """All of the changes or none, durable on return; blocks every thread for the disk but the fsync
        itself."""
        self.stage(changes)
        self.sync()

    def stage(self, changes: Mapping[bytes, bytes | None]) -> None:
        """All of the changes or none, visible to reads at once, durable when `sync` returns. 1.5 µs a row.

        Raises DiskFull; then the same changes, and any that were staged and not synced, are to be staged
        again; until that goes through, only reads are of use.
        """
        if self._full:
            self._reopen()
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        try:
            for key, row in changes.items():
                if row is None:
                    delete(key)
                else:
                    put(key, row)
            self._db.write(batch, self._staging)
        except Exception as error:  # noqa: BLE001  (as in `get`)
            raise self._refused(error) from None

    def sync(self) -> None:
        """Wait until what was staged is on disk. Other threads go on; they may read meanwhile, not stage."""
        try:
            self._db.flush_wal(True)
        except Exception as error:  # noqa: BLE001  (as in `get`)
            raise self._refused(error) from None

    def disk_bytes(self) -> int:
        """Bytes of all files of the store: tables, logs, the rest. What compaction would free is in it."""
        total = 0
        with os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # a compaction removes files meanwhile
                    total += entry.stat().st_size
        return total

    def cache_bytes(self) -> int:
        """What the cache may hold; the rest of the memory is for write buffers."""
        held = self._db.property_int_value("rocksdb.block-cache-capacity")
        assert held is not None
        return held

    def compact(self) -> None:
        """Rewrite everything into its densest form. Takes seconds a gigabyte; to be called in a thread."""
        thorough = CompactOptions()
        thorough.set_bottommost_level_compaction(BottommostLevelCompaction.force_optimized())
        try:
            self._db.compact_range(None, None, thorough)
        except Exception as error:  # noqa: BLE001  (as in `get`)
            raise self._refused(error) from None

    def close(self) -> None:
        """Let go of the files. May be called twice."""
        # Closing first turns the log into a table, which spares the next start reading it. Where that fails,
        # the log still has every row.
        with contextlib.suppress(Exception):
            self._db.close()

    def _open(self, *, to_write: bool = True) -> None:
        access = AccessType.read_write() if to_write else AccessType.read_only()
        try:
            self._db = opened(self._path, tuned(self._memory_bytes), access)
        except Exception as error:  # noqa: BLE001  (as in `get`)
            raise in_our_words(error, self._path) from None
        self._get = self._db.get

    def _reopen(self) -> None:
        disk = os.statvfs(self._path)
        if disk.f_bavail * disk.f_frsize < _LEAST_ROOM:
            raise _no_room(self._path)
        self.close()
        try:
            self._open()
        except DiskFull:
            self._open(to_write=False)
            raise
        self._full = False

    def _refused(self, error: Exception) -> Exception:
        told = in_our_words(error, self._path)
        self._full = isinstance(told, DiskFull)
        return told


def open(path: str | os.PathLike[str], memory_bytes: int = MEMORY_BYTES) -> RocksStore:
    """The store in the folder `path`, made if it is not there.

    `memory_bytes` bounds cache and write buffers together; RocksDB and its threads take some 10 MB besides.
    Raises UsageError when the folder is no place for a store or another process has it, StorageError when it
    is damaged, DiskFull when there is no room to begin.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{folder} is not a folder, so it can hold no store: move the file away") from None
    except PermissionError:
        raise UsageError(f"{folder} cannot be made: no permission to write there") from None
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from None
    return RocksStore(folder, max(memory_bytes, _LEAST_MEMORY))


def opened(folder: Path, options: Options, access: AccessType) -> Rdict:
    """The database in a folder, with these very options (see the module's docstring). Raises what rocksdict does."""
    return Rdict(str(folder), options, column_families={_ALL_ROWS: options}, access_type=access)


def tuned(memory_bytes: int) -> Options:
    # Two buffers, one filling while the other is written out. 32 MiB each is where measured CPU a row stops
    # falling.
    buffer_bytes = min(max(memory_bytes // 8, 4 * _MIB), 32 * _MIB)

    tables = BlockBasedOptions()
    tables.set_block_cache(Cache(memory_bytes - 2 * buffer_bytes))
    tables.set_block_size(16 * 1024)  # 4 KiB: a quarter more disk, no less CPU
    tables.set_format_version(5)
    tables.set_bloom_filter(_FILTER_BITS, False)
    # Filters and indexes count as cache, in pieces of 4 KiB of which only those in use stay in memory:
    # without this memory grows with the crawl. It costs about 1 µs a read.
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    tables.set_index_type(BlockBasedIndexType.two_level_index_search())
    tables.set_partition_filters(True)
    tables.set_metadata_block_size(4096)
    tables.set_pin_top_level_index_and_filter(True)

    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(tables)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(buffer_bytes)
    options.set_max_write_buffer_number(2)
    # Most reads ask for requests that are not there: a small filter spares them the search of the write
    # buffer.
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_memtable_whole_key_filtering(True)
    # What is rewritten often is packed cheaply, what lies at the bottom (nine tenths) densely.
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bottommost_compression_type(DBCompressionType.zstd())
    # so that there is a bottom from the first megabyte
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_background_jobs(2)  # one writes buffers out, one compacts
    # a table goes to disk as it is made, not at once in the way of a commit's fsync
    options.set_bytes_per_sync(_MIB)
    options.set_max_open_files(256)  # of 64 MiB; a crawler needs its file descriptors for connections
    options.set_skip_stats_update_on_db_open(True)  # else a start reads a block of every table
    # RocksDB's own log, for the curious: small, and without statistics that nobody reads.
    options.set_max_log_file_size(_MIB)
    options.set_keep_log_file_num(2)
    options.set_max_manifest_file_size(16 * _MIB)
    options.set_manifest_preallocation_size(64 * 1024)  # else 4 MiB of disk for the smallest crawl
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def in_our_words(error: Exception, path: Path) -> Exception:
    """The error in our words; what is not rocksdict's stays as it is."""
    if type(error) is not Exception and not isinstance(error, DbClosedError):
        return error
    text = str(error)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return _no_room(path)
    if "Too many open files" in text:
        return NoFiles(f"the store in {path} needs one more open file: raise `ulimit -n`; nothing is lost")
    if "lock hold" in text or "While lock file" in text:
        return UsageError(f"the store in {path} is in use by another process: stop that one first")
    if "Permission denied" in text:
        return UsageError(f"the store in {path} cannot be opened: no permission ({text})")
    if "Corruption" in text:
        return StorageError(f"the store in {path} is damaged ({text}); what is readable was left as it is")
    return StorageError(f"the store in {path} failed: {text}")


def _no_room(path: Path) -> DiskFull:
    return DiskFull(f"no room for the store in {path}: free some space; nothing is lost")
