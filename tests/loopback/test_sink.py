"""What the sink promises, against a real file system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import StorageError
from common.messages import PIECE_BYTES
from coordinator import sink
from coordinator.outputs import Append, OutputBatch, Outputs
from coordinator.sink import FileSink, Short
from tests.support.smalldisk import small_disk

ROOT = Path(__file__).parents[2]
WALL = 1_767_225_600.0
PAGES = "pages/pages-00-00000.jsonl"


def outputs(ends: dict[str, int] | None = None, *, rotate_bytes: int = 1 << 30) -> Outputs:
    return Outputs(
        ends or {}, shard=0, name="c", warcinfo=lambda file, wall: b"<info>", rotate_bytes=rotate_bytes
    )


def content(directory: Path) -> dict[str, bytes]:
    """All output files, by their name below DIR."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix in (".jsonl", ".gz")
    }


def test_every_location_reads_back_what_was_appended_there(tmp_path: Path) -> None:
    some, files = outputs(rotate_bytes=30_000), FileSink(tmp_path)
    expected = {}
    for number in range(200):
        stream = ("warc", "pages", "items/a")[number % 3]
        body = [b"%d" % number] * number + [memoryview(b"end")]  # more chunks than the kernel takes, in all
        expected[some.append(stream, body, WALL)] = b"".join(body)
        if number % 7 == 0:
            files.write(some.seal())
    files.write(some.seal())
    files.close()
    for where, whole in expected.items():
        there = (tmp_path / where.file).read_bytes()
        assert there[where.offset : where.offset + where.length] == whole
    assert sum(map(len, content(tmp_path).values())) == sum(map(len, expected.values())) + 6 * len(
        list((tmp_path / "warc").iterdir())
    )


def test_after_a_restart_files_go_on_where_they_were_committed(tmp_path: Path) -> None:
    some, files = outputs(), FileSink(tmp_path)
    some.append("pages", [b"one\n"], WALL)
    batch = some.seal()
    files.write(batch)
    files.close()
    (tmp_path / PAGES).write_bytes(b"one\ntorn")
    (tmp_path / "pages/pages-00-00001.jsonl").write_bytes(b"never committed")
    (tmp_path / "pages/pages-01-00001.jsonl").write_bytes(b"another shard's")
    (tmp_path / "pages/notes.txt").write_bytes(b"somebody's own")

    recovery = sink.recover(tmp_path, batch.ends, 0)

    assert recovery.cut == ((PAGES, 8, 4),)
    assert recovery.removed == ("pages/pages-00-00001.jsonl",)
    assert recovery.short == ()
    some, files = outputs(dict(batch.ends)), FileSink(tmp_path)
    some.append("pages", [b"two\n"], WALL)
    files.write(some.seal())
    files.close()
    assert content(tmp_path) == {PAGES: b"one\ntwo\n", "pages/pages-01-00001.jsonl": b"another shard's"}
    assert (tmp_path / "pages/notes.txt").exists()


def test_files_that_lost_committed_bytes_are_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / PAGES).write_bytes(b"12345")
    gone = "warc/c-20260101000000000-00-00000.warc.gz"
    recovery = sink.recover(tmp_path, {PAGES: 9, gone: 7}, 0)
    assert recovery == ((), (), (Short(PAGES, 5, 9), Short(gone, None, 7)))
    assert (tmp_path / PAGES).read_bytes() == b"12345"
    sink.cut(tmp_path, PAGES, 3)
    assert (tmp_path / PAGES).read_bytes() == b"123"


def test_a_file_that_somebody_else_wrote_to_is_not_overwritten(tmp_path: Path) -> None:
    some, files = outputs(), FileSink(tmp_path)
    some.append("pages", [b"one\n"], WALL)
    files.write(some.seal())
    with (tmp_path / PAGES).open("ab") as file:
        file.write(b"mine\n")
    some.append("pages", [b"two\n"], WALL)
    with pytest.raises(StorageError, match="has 9 bytes where 4 were committed"):
        files.write(some.seal())
    assert (tmp_path / PAGES).read_bytes() == b"one\nmine\n"
    other = OutputBatch((Append(PAGES, 0, [b"x"], True),), {PAGES: 1}, ())
    with pytest.raises(StorageError, match="File exists"):
        FileSink(tmp_path).write(other)
    assert (tmp_path / PAGES).read_bytes() == b"one\nmine\n"
    files.close()


def test_pieces_in_any_order_and_twice_become_one_record(tmp_path: Path) -> None:
    some, files = outputs(), FileSink(tmp_path)
    pieces = [bytes([number]) * PIECE_BYTES for number in range(3)]
    for index in (2, 0, 1, 0):
        files.keep("k", index, pieces[index])
    files.keep("other", 0, b"x")
    where = some.append("warc", [b"head", *(some.part("k", index) for index in range(3)), b"tail"], WALL)
    files.write(some.seal())
    body = (tmp_path / where.file).read_bytes()
    assert body == b"<info>" + b"head" + b"".join(pieces) + b"tail"
    files.drop("k")
    files.drop("k")
    assert [path.name for path in (tmp_path / sink.PARTS_FOLDER / "00").iterdir()] == ["other"]
    files.close()
    FileSink(tmp_path, shard=1).close()
    assert list((tmp_path / sink.PARTS_FOLDER / "00").iterdir())
    FileSink(tmp_path).close()
    assert not list((tmp_path / sink.PARTS_FOLDER / "00").iterdir())


def test_a_record_whose_pieces_are_missing_leaves_nothing_behind(tmp_path: Path) -> None:
    some, files = outputs(), FileSink(tmp_path)
    some.append("pages", [b"one\n"], WALL)
    files.write(some.seal())
    files.keep("k", 0, b"short")
    for key in ("k", "none"):
        some.append("pages", [b"line\n"], WALL)
        some.append("warc", [b"head", some.part(key, 0)], WALL)
        with pytest.raises(StorageError, match=key):
            files.write(some.seal())
        assert content(tmp_path) == {PAGES: b"one\n"}
        some = outputs({PAGES: 4})
    files.close()


_UNTIL_FULL = """
import os, sys
from pathlib import Path
from common.errors import DiskFull
from coordinator import sink
from coordinator.outputs import Outputs
directory = Path(sys.argv[1])
ballast = directory / "ballast"
ballast.write_bytes(bytes(4 << 20))
files = sink.FileSink(directory)
outputs = Outputs({}, shard=0, name="c", warcinfo=lambda file, wall: b"info", rotate_bytes=3 << 20)
ends, written, number, piece = {}, [], 0, os.urandom(1 << 20)
def sizes():
    return {file: (directory / file).stat().st_size for folder in ("warc", "pages")
            for file in (f"{folder}/{name}" for name in os.listdir(directory / folder))}
while True:
    number += 1
    written.append((outputs.append("pages", [b"line\\n" * 99], 1e9), b"line\\n" * 99))
    body = os.urandom(70_000)
    written.append((outputs.append("warc", [body[:9], body[9:]], 1e9), body))
    batch = outputs.seal()
    try:
        files.write(batch)
    except DiskFull as error:
        assert "no room for" in str(error), error
        assert sizes() == ends, (sizes(), ends)
        assert sink.room(directory) < 1 << 17
        if ballast.exists():
            files.keep("k", 0, piece)
            assert files.has_waiting
            try:
                files.write(batch)
                sys.exit("room from nowhere")
            except DiskFull:
                pass
            ballast.unlink()
            files.write(batch)
            assert not files.has_waiting
            ends.update(batch.ends)
            written.append((outputs.append("pages", [outputs.part("k", 0)], 1e9), piece))
            batch = outputs.seal()
            files.write(batch)
            files.drop("k")
        else:
            written = written[:-2]
            break
    ends.update(batch.ends)
assert len(ends) > 3
for where, body in written:
    with open(directory / where.file, "rb") as file:
        file.seek(where.offset)
        assert file.read(where.length) == body
print("ok")
"""


def test_a_full_disk_tears_nothing_and_the_same_batch_goes_through_when_there_is_room(
    tmp_path: Path,
) -> None:
    run = subprocess.run(
        [*small_disk(tmp_path), sys.executable, "-c", _UNTIL_FULL, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "ok\n", run.stderr


_UNTIL_NO_FILES = """
import os, resource, sys
from pathlib import Path
from common.errors import NoFiles
from coordinator.outputs import Outputs
from coordinator.sink import FileSink
directory = Path(sys.argv[1])
files = FileSink(directory)
outputs = Outputs({}, shard=0, name="c", warcinfo=lambda file, wall: b"info")
outputs.append("pages", [b"1"], 1e9)
files.write(outputs.seal())
outputs.append("pages", [b"2"], 1e9)
outputs.append("warc", [b"x"], 1e9)
batch = outputs.seal()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for more in range(4):  # one more may be open each time, until that is enough
    most = len(os.listdir("/proc/self/fd")) - 1 + more  # the listing itself has one
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        files.write(batch)
    except NoFiles as error:
        told = str(error)
    else:
        break
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert (directory / "pages/pages-00-00000.jsonl").read_bytes() == b"1"
    assert not list(directory.glob("warc/*"))
else:
    raise AssertionError("never enough")
assert more and "ulimit -n" in told, (more, told)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
assert (directory / "pages/pages-00-00000.jsonl").read_bytes() == b"12"
assert [path.read_bytes() for path in directory.glob("warc/*")] == [b"infox"]
print("ok")
"""


def test_where_no_more_files_may_be_open_nothing_is_torn_and_the_same_batch_goes_through_later(
    tmp_path: Path,
) -> None:
    """Strangers who connect by the thousand take all there are."""
    run = subprocess.run(
        [sys.executable, "-c", _UNTIL_NO_FILES, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "ok\n", run.stderr


_UNTIL_TOO_LONG = """
import resource, sys
from pathlib import Path
from common.errors import DiskFull, StorageError
from coordinator.outputs import Outputs
from coordinator.sink import FileSink
directory = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
files = FileSink(directory)
outputs = Outputs({}, shard=0, name="c", warcinfo=lambda file, wall: b"info")
outputs.append("pages", [b"x" * 90_000], 1e9)
files.write(outputs.seal())
outputs.append("warc", [b"x" * 50], 1e9)
outputs.append("pages", [b"x" * 1000] * 20, 1e9)
try:
    files.write(outputs.seal())
except StorageError as error:
    assert not isinstance(error, DiskFull)
    print(error)
"""


def test_an_append_that_fails_half_way_is_cut_off_in_every_file_of_the_batch(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _UNTIL_TOO_LONG, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.startswith(f"{PAGES} may not grow"), run.stderr
    assert content(tmp_path) == {PAGES: b"x" * 90_000}


@pytest.mark.parametrize("written", range(7))
def test_what_the_kernel_left_of_a_write_is_exactly_what_is_written_next(written: int) -> None:
    assert b"".join(sink._rest([b"ab", memoryview(b"cde"), b"f"], written)) == b"abcdef"[written:]


def test_room_is_what_may_still_be_written(tmp_path: Path) -> None:
    assert sink.room(tmp_path) > 0
    with pytest.raises(StorageError, match="is gone"):
        sink.room(tmp_path / "nowhere")
