"""DIR: one writer at a time, whole small files, and a line for everything that is wrong with it."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import StorageError, UsageError
from common.keys import WorkerKey
from coordinator.directory import CrawlDirectory, Running

KEY = WorkerKey(b"s" * 32, b"p" * 32, b"c" * 32)
RUNNING = Running(
    pid=os.getpid(),
    host=os.uname().nodename,
    started_at="2026-05-01T12:00:00.000Z",
    http="127.0.0.1:1",
    token="t",
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_made_with_its_format(tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path / "a" / "crawl1") as directory:
        assert directory.is_new
        assert (directory.path / "FORMAT").read_text() == "1\n"
    with CrawlDirectory.acquire(tmp_path / "a" / "crawl1") as directory:
        assert not directory.is_new


def test_a_folder_in_use_names_the_process_that_uses_it(tmp_path: Path) -> None:
    with (
        CrawlDirectory.acquire(tmp_path),
        pytest.raises(UsageError, match=f"is in use by process {os.getpid()}"),
    ):
        CrawlDirectory.acquire(tmp_path)
    CrawlDirectory.acquire(tmp_path).release()


def test_the_lock_ends_with_its_holder_however_it_ends(tmp_path: Path) -> None:
    script = (
        "import sys, os; from pathlib import Path; from coordinator.directory import CrawlDirectory\n"
        "held = CrawlDirectory.acquire(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert CrawlDirectory.look(tmp_path).holder() == child.pid
        child.kill()
        child.wait()
    assert CrawlDirectory.look(tmp_path).holder() is None
    with CrawlDirectory.acquire(tmp_path) as directory:
        assert not directory.is_new


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(UsageError, match="not empty and holds no crawl: choose another --out"):
        CrawlDirectory.acquire(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["thesis.tex"]


def test_looking_at_what_holds_no_crawl_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no crawl"):
        CrawlDirectory.look(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        CrawlDirectory.look(tmp_path / "gone")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="is a file"):
        CrawlDirectory.acquire(file)


@pytest.mark.parametrize(("text", "said"), [("2", "newer Shoal"), ("junk", "holds no crawl")])
def test_a_newer_or_odd_format_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    CrawlDirectory.acquire(tmp_path).release()
    (tmp_path / "FORMAT").write_text(text)
    for opened in (CrawlDirectory.look, CrawlDirectory.acquire):
        with pytest.raises(UsageError, match=said):
            opened(tmp_path)
    assert CrawlDirectory(tmp_path).holder() is None  # the refusal let go of the lock


def test_a_crash_before_format_was_written_leaves_a_folder_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "FORMAT.new").write_text("")
    with CrawlDirectory.acquire(tmp_path) as directory:
        assert directory.is_new


def test_secrets_are_readable_by_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with CrawlDirectory.acquire(tmp_path) as directory:
            directory.write_keys(b"k" * 32, KEY)
            directory.write_running(RUNNING)
            assert {mode_of(tmp_path / name) for name in ("worker.key", "coord.key", "coord.json")} == {0o600}
            assert directory.keys() == (b"k" * 32, KEY)
    finally:
        os.umask(before)


def test_a_key_survives_being_copied_and_damage_is_told(tmp_path: Path) -> None:
    assert WorkerKey.parse(f"# a remark\n\n  {KEY.text}\n", "x") == KEY
    assert "c" * 32 not in repr(KEY)
    for damaged in ("", "hello", KEY.text[:-4], KEY.text + "\n" + KEY.text):
        with pytest.raises(UsageError, match="SHOAL_KEY: not a worker's key"):
            WorkerKey.parse(damaged, "SHOAL_KEY")
    with CrawlDirectory.acquire(tmp_path) as directory:
        assert directory.keys() is None
        directory.write_keys(b"k" * 32, KEY)
        (tmp_path / "coord.key").write_text("zz")
        with pytest.raises(UsageError, match=r"coord.key: damaged; make new keys with: coord key"):
            directory.keys()


def test_a_coordinator_that_was_killed_is_not_believed_to_run(tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path) as directory:
        directory.write_running(RUNNING)
        assert CrawlDirectory.look(tmp_path).running() == RUNNING
        kept = (tmp_path / "coord.json").read_text()
    assert CrawlDirectory.look(tmp_path).running() is None
    (tmp_path / "coord.json").write_text(kept)  # as after kill -9: the file is there, the lock is not
    assert CrawlDirectory.look(tmp_path).running() is None
    (tmp_path / "coord.json").write_text("{")
    assert CrawlDirectory.look(tmp_path).running() is None


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path) as directory:
        directory.write_summary({"pages": 1})
        with pytest.raises(StorageError):
            directory.write("summary.json/below", "x")
        assert directory.summary() == {"pages": 1}
        (tmp_path / "summary.json").write_text("[")
        assert directory.summary() is None
        assert not list(tmp_path.glob("*.new"))


def test_local_workers_are_gone_when_the_last_lets_go_of_its_lock(tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path) as directory:
        assert directory.local_workers_gone()
        with directory.workers_lock_path.open() as one, directory.workers_lock_path.open() as other:
            fcntl.flock(one, fcntl.LOCK_SH)
            fcntl.flock(other, fcntl.LOCK_SH)
            assert not directory.local_workers_gone()
            one.close()
            assert not directory.local_workers_gone()
        assert directory.local_workers_gone()


def test_a_folder_is_made_when_it_is_first_needed_and_never_by_a_reader(tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path) as directory:
        assert directory.folder("links").is_dir()
        with pytest.raises(ValueError):
            directory.folder("elsewhere")
    assert not CrawlDirectory.look(tmp_path).folder("text").exists()
