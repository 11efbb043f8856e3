"""What the store on RocksDB promises, against real files and real deaths."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import StorageError, UsageError
from coordinator.store import rocks
from coordinator.store.kv import Store
from coordinator.store.rocks import RocksStore
from tests.support.smalldisk import small_disk

ROOT = Path(__file__).parents[2]


def child(program: str, *arguments: str | Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A Python process with our packages; `before` is put in front of it."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    opened = rocks.open(tmp_path / "frontier")
    yield opened
    opened.close()


def test_rows_are_read_back_and_ranges_are_in_order(store: Store) -> None:
    store.write({b"q%03d" % number: b"%d" % number for number in range(100)} | {b"p": b"", b"r": b"x"})
    assert store.get(b"p") == b""
    assert store.get(b"nothing") is None
    assert store.scan(b"q", b"r", 2) == [(b"q000", b"0"), (b"q001", b"1")]
    assert len(store.scan(b"q", b"r", 1 << 30)) == 100
    assert store.scan(b"q050", b"q052", 10) == [(b"q050", b"50"), (b"q051", b"51")]
    assert store.scan(b"q", b"r", 0) == store.scan(b"r", b"q", 9) == []
    store.write({b"q%03d" % number: None for number in range(99)})
    assert store.scan(b"q", b"r", 5) == [(b"q099", b"99")]


def test_what_is_staged_is_read_at_once_and_synced_in_a_thread_while_others_read(store: RocksStore) -> None:
    store.stage({b"a": b"1"})
    assert store.get(b"a") == b"1"
    syncing = threading.Thread(target=store.sync)
    syncing.start()
    while syncing.is_alive():
        assert store.get(b"a") == b"1"
    syncing.join()


def test_everything_is_there_after_closing_and_compacting(tmp_path: Path) -> None:
    store = rocks.open(tmp_path / "s", memory_bytes=0)
    store.write({os.urandom(18): b"x" * 100 for _ in range(1000)} | {b"k": b"v"})
    store.compact()
    assert 10_000 < store.disk_bytes() < 10_000_000
    store.close()
    store.close()
    store = rocks.open(tmp_path / "s")
    assert store.get(b"k") == b"v"
    store.close()
    with pytest.raises(StorageError):
        store.get(b"k")


_WRITER = """
import sys
from coordinator.store import rocks
store = rocks.open(sys.argv[1])
number = int(sys.argv[2])
while True:
    rows = {b"%d" % n: b"x" * (n % 2000) for n in range(number, number + 50)}
    rows[b"last"] = b"%d" % (number + 49)
    store.write(rows)
    print(number + 49, flush=True)
    number += 50
"""


def test_killed_in_the_middle_of_writes_it_has_every_row_it_acknowledged(tmp_path: Path) -> None:
    next_number = 0
    for lines in (1, 20, 60):
        process = child(_WRITER, tmp_path / "s", str(next_number))
        assert process.stdout is not None
        for _ in range(lines):
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest = process.communicate()[0].split("\n")
        assert process.returncode == -signal.SIGKILL
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
        store = rocks.open(tmp_path / "s")
        last = int(store.get(b"last") or b"-1")
        assert last >= acknowledged
        assert all(store.get(b"%d" % n) == b"x" * (n % 2000) for n in range(last + 1))
        assert store.get(b"%d" % (last + 1)) is None  # the batch after it is there as a whole or not at all
        store.close()
        next_number = last + 1


def written_and_killed(path: Path) -> Path:
    """A store whose log holds three batches; returns the log."""
    process = child(
        "import os, sys; from coordinator.store import rocks; s = rocks.open(sys.argv[1]);"
        "[s.write({b'%d' % n: bytes(60), b'%d+' % n: b'x'}) for n in range(3)]; os.kill(os.getpid(), 9)",
        path,
    )
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    (log,) = path.glob("*.log")
    return log


def test_a_log_torn_at_any_byte_of_its_last_batch_opens_with_all_batches_before_it(tmp_path: Path) -> None:
    log = written_and_killed(tmp_path / "s")
    whole = log.read_bytes().rstrip(b"\0")
    batch = len(whole) // 3
    for end in range(len(whole) - batch, len(whole), 3):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "s", copy)
        os.truncate(copy / log.name, end)
        store = rocks.open(copy, memory_bytes=0)
        assert [store.get(b"%d" % n) is not None for n in range(2)] == [True, True]
        assert (store.get(b"2") is None) == (store.get(b"2+") is None)
        store.close()
        shutil.rmtree(copy)


def test_damage_in_the_middle_of_the_log_is_told_and_not_skipped_over(tmp_path: Path) -> None:
    log = written_and_killed(tmp_path / "s")
    with log.open("r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 8)
    with pytest.raises(StorageError, match=r"is damaged .*; what is readable was left as it is"):
        rocks.open(tmp_path / "s")


def test_a_damaged_table_is_told_by_a_scan_and_does_not_look_like_its_end(tmp_path: Path) -> None:
    store = rocks.open(tmp_path / "s")
    store.write({b"%06d" % number: os.urandom(50) for number in range(5000)})
    store.compact()
    store.close()
    table = max((tmp_path / "s").glob("*.sst"), key=lambda path: path.stat().st_size)
    with table.open("r+b") as file:
        file.seek(table.stat().st_size // 2)
        file.write(os.urandom(64))
    store = rocks.open(tmp_path / "s")
    with pytest.raises(StorageError, match="is damaged"):
        store.scan(b"", b"\xff", 1 << 30)
    store.close()


def test_memory_is_what_was_asked_for_after_a_restart_too(tmp_path: Path) -> None:
    """rocksdict takes the options of a database that is there from its folder, where no cache is written down."""
    held = []
    for _ in range(2):
        store = rocks.open(tmp_path / "store", 64 << 20)
        store.write({b"a": b"1"})
        held.append(store.cache_bytes())
        store.close()
    assert held == [48 << 20, 48 << 20]


def test_a_store_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    process = child(
        "import sys; from coordinator.store import rocks; s = rocks.open(sys.argv[1]);"
        "print('open', flush=True); input()",
        tmp_path / "s",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    try:
        with pytest.raises(UsageError, match="in use by another process"):
            rocks.open(tmp_path / "s")
    finally:
        process.communicate("\n")
    rocks.open(tmp_path / "s").close()


def test_a_path_that_can_hold_no_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is not a folder"):
        rocks.open(tmp_path / "file")
    with pytest.raises(UsageError, match="is not a folder"):
        rocks.open(tmp_path / "file" / "below")


_UNTIL_FULL = """
import os, sys
from common.errors import DiskFull
from coordinator.store import rocks
folder = sys.argv[1]
with open(folder + "/ballast", "wb") as ballast:
    ballast.write(bytes(20 << 20))
store = rocks.open(folder + "/s", memory_bytes=0)
done = 0
def batch(number):
    return {b"%d/%d" % (number, n): os.urandom(1000) for n in range(100)}
while True:
    rows = batch(done)
    try:
        store.write(rows)
    except DiskFull:
        break
    done += 1
assert done > 10, done
assert store.get(b"%d/99" % (done - 1)) is not None
for room in (0, 1 << 20, 2 << 20, 3 << 20):  # at some of these it can be opened again, but not written to
    with open(folder + "/ballast", "ab") as ballast:
        ballast.truncate((20 << 20) - room)
    try:
        store.write(rows)
    except DiskFull:
        pass
    assert store.get(b"%d/99" % (done - 1)) is not None, "reads go on"
    assert store.scan(b"0/", b"00", 200)
os.unlink(folder + "/ballast")
store.write(rows)
store.write(batch(done + 1))
store.close()
store = rocks.open(folder + "/s")
assert all(store.get(b"%d/%d" % (b, n)) for b in range(done + 2) for n in range(100))
store.close()
print("ok")
"""


def test_a_full_disk_is_told_as_such_and_the_same_write_goes_through_when_there_is_room(
    tmp_path: Path,
) -> None:
    process = child(_UNTIL_FULL, tmp_path, before=small_disk(tmp_path, megabytes=32))
    out, errors = process.communicate()
    assert out == "ok\n", errors
