"""What `Outputs` promises: every location holds, through rotation, restarts and a crash at any operation."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DiskFull, StorageError
from common.messages import PIECE_BYTES
from coordinator.outputs import Location, Outputs, Part, shard_of
from coordinator.store.kv import Overlay
from tests.support.disk import CrashableFiles, CrashableStore, Crashed, Fault, Faults

WALL = 1_767_225_600.123  # 2026-01-01T00:00:00.123Z


def outputs(ends: dict[str, int] | None = None, *, rotate_bytes: int = 1 << 30, shard: int = 0) -> Outputs:
    return Outputs(
        ends or {},
        shard=shard,
        name="crawl1",
        warcinfo=lambda file, wall: b"[" + file.encode() + b"]",
        rotate_bytes=rotate_bytes,
    )


def test_files_are_named_as_the_contract_says_and_sort_by_serial() -> None:
    some = outputs(shard=3)
    assert some.append("pages", [b"x"], WALL).file == "pages/pages-03-00000.jsonl"
    assert some.append("warc", [b"x"], WALL).file == "warc/crawl1-20260101000000123-03-00000.warc.gz"
    assert some.append("items/news", [b"x"], WALL).file == "items/news-03-00000.jsonl"
    assert some.append("text", [b"x"], WALL).file == "text/text-03-00000.jsonl"


def test_a_crawl_named_with_odd_characters_still_gets_file_names() -> None:
    some = Outputs({}, shard=0, name="../a b/é", warcinfo=lambda file, wall: b"w")
    file = some.append("warc", [b"x"], WALL).file
    assert file == "warc/a_b-20260101000000123-00-00000.warc.gz"
    assert shard_of(file) == 0


@pytest.mark.parametrize("stream", ["", "page", "items/", "items/../x", "items/a/b", "warc/x", "files"])
def test_a_stream_that_there_is_not_is_refused(stream: str) -> None:
    with pytest.raises(ValueError, match="no stream"):
        outputs().append(stream, [b"x"], WALL)


def test_a_warc_file_begins_with_warcinfo_and_the_first_record_stands_behind_it() -> None:
    some = outputs()
    first = some.append("warc", [b"one", b"two"], WALL)
    info = b"[crawl1-20260101000000123-00-00000.warc.gz]"
    assert first == Location(first.file, len(info), 6)
    batch = some.seal()
    assert [bytes(chunk) for chunk in batch.appends[0].chunks] == [info, b"one", b"two"]  # type: ignore[arg-type]
    assert batch.ends == {first.file: len(info) + 6}


def test_a_record_that_would_pass_the_limit_begins_the_next_file_and_is_not_split() -> None:
    some = outputs(rotate_bytes=10)
    places = [some.append("pages", [b"12", b"345"], WALL) for _ in range(3)]
    assert [(place.file[-11:], place.offset) for place in places] == [
        ("00000.jsonl", 0),
        ("00000.jsonl", 5),
        ("00001.jsonl", 0),
    ]
    batch = some.seal()
    assert batch.closed == (places[0].file,)
    assert [append.is_new for append in batch.appends] == [True, True]
    assert some.append("pages", [bytes(50)], WALL).file.endswith("00002.jsonl")
    assert some.append("pages", [b"x"], WALL).file.endswith("00003.jsonl")


def test_nothing_pending_seals_to_nothing() -> None:
    some = outputs()
    assert (some.dirty, some.pending_bytes) == (False, 0)
    assert not some.seal()
    some.append("pages", [b"abc"], WALL)
    assert (some.dirty, some.pending_bytes) == (True, 3)
    some.seal()
    assert (some.dirty, some.pending_bytes) == (False, 0)


def test_after_a_restart_the_highest_serial_goes_on_at_its_committed_end() -> None:
    ends = {
        "pages/pages-00-00000.jsonl": 100,
        "pages/pages-00-00012.jsonl": 7,
        "pages/pages-01-00099.jsonl": 5,
        "items/a-b-00-00002.jsonl": 9,
        "warc/n-20260101000000123-00-00004.warc.gz": 11,
    }
    some = outputs(ends)
    assert some.append("pages", [b"x"], WALL) == ("pages/pages-00-00012.jsonl", 7, 1)
    assert some.append("items/a-b", [b"x"], WALL) == ("items/a-b-00-00002.jsonl", 9, 1)
    assert some.append("warc", [b"x"], WALL) == ("warc/n-20260101000000123-00-00004.warc.gz", 11, 1)
    assert not any(append.is_new for append in some.seal().appends)


@pytest.mark.parametrize(
    ("file", "shard"),
    [
        ("pages/pages-12-00001.jsonl", 12),
        ("items/x-00-00001.jsonl", 0),
        ("pages/notes-00-00001.jsonl", None),
        ("pages/pages-00-00001.jsonl.gz", None),
        ("pages/pages-00-00001.csv", None),
        ("warc/mine-00-00001.warc.gz", None),
        ("files/pages-00-00001.jsonl", None),
        ("pages/sub/pages-00-00001.jsonl", None),
    ],
)
def test_only_names_that_a_shard_gives_are_taken_for_its_own(file: str, shard: int | None) -> None:
    assert shard_of(file) == shard


def test_pieces_of_a_big_record_are_part_of_it() -> None:
    some = outputs()
    place = some.append("pages", [b"head", some.part("k", 0), some.part("k", 1), b"tail"], WALL)
    assert place.length == 8 + 2 * PIECE_BYTES
    assert some.seal().appends[0].chunks[2] == Part("k", PIECE_BYTES, PIECE_BYTES)


# ----------------------------------------------------------------------------------- a crash anywhere


def record(number: int, size: int) -> bytes:
    return struct.pack(">II", number, size) + bytes([number % 251]) * size


def records(body: bytes) -> list[int]:
    """The numbers of the records in a file; fails on one that is torn."""
    found, position = [], 0
    while position < len(body):
        number, size = struct.unpack_from(">II", body, position)
        assert body[position : position + 8 + size] == record(number, size)
        found.append(number)
        position += 8 + size
    return found


class Process:
    """A core and its shell in small: commits records as a shard does, until it crashes."""

    def __init__(self, store: CrashableStore, files: CrashableFiles) -> None:
        self.store, self.files = store, files
        self.rows = Overlay(store)
        self.ends = {key[1:].decode(): int(row) for key, row in self.rows.scan(b"o", b"p", 1 << 30)}
        self.recovery = files.recover(self.ends, 0)
        self.outputs = Outputs(
            self.ends, shard=0, name="c", warcinfo=lambda file, wall: record(0, 3), rotate_bytes=200
        )

    def commit(self, batch: list[tuple[int, int]]) -> None:
        for number, size in batch:
            where = self.outputs.append("warc" if number % 2 else "pages", [record(number, size)], WALL)
            self.rows.put(b"r%d" % number, f"{where.file} {where.offset} {where.length}".encode())
        sealed = self.outputs.seal()
        for file, end in sealed.ends.items():
            self.rows.put(b"o" + file.encode(), b"%d" % end)
        changes = self.rows.seal()
        while True:
            try:
                self.files.write(sealed)
                break
            except DiskFull:
                continue  # somebody made room
        while True:
            try:
                self.store.write(changes)
                break
            except DiskFull:
                continue
        self.rows.committed()


@given(
    batches=st.lists(st.lists(st.integers(0, 120), min_size=1, max_size=6), min_size=1, max_size=8),
    plan=st.dictionaries(st.integers(1, 80), st.sampled_from(Fault), max_size=8),
    seed=st.integers(0, 1 << 16),
)
def test_after_a_crash_at_any_operation_files_hold_exactly_what_was_committed(
    batches: list[list[int]], plan: dict[int, Fault], seed: int
) -> None:
    random = Random(seed)
    faults = Faults(plan)
    process = Process(CrashableStore(faults=faults), CrashableFiles(faults=faults))
    acknowledged: set[int] = set()
    number = 1
    for sizes in batches:
        batch = list(enumerate(sizes, start=number))
        number += len(sizes)
        try:
            process.commit(batch)
            acknowledged |= {number for number, _ in batch}
        except (Crashed, StorageError):
            process = Process(process.store.crash(random, faults), process.files.crash(random, faults))
            assert process.recovery.short == ()
        rows = {int(key[1:]): row.decode().split() for key, row in process.rows.scan(b"r", b"s", 1 << 30)}
        assert acknowledged <= rows.keys()
        files = process.files.files
        stored = sorted(found for body in files.values() for found in records(body) if found)
        assert stored == sorted(rows)
        for found, (file, offset, length) in rows.items():
            assert records(files[file][int(offset) : int(offset) + int(length)]) == [found]
