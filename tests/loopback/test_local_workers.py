"""The folder in which local workers and their coordinator meet: nobody else's, and gone when its owner is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_MAKES_ONE = """
import sys
from pathlib import Path
from coordinator.local import LocalWorkers
workers = LocalWorkers(1, Path("lock"), Path("logs"), [])
print(workers.address, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A place for temporary files: near, for the name of a socket may have 107 bytes."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def make(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A coordinator's process, for as far as it matters here, and its folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", _MAKES_ONE],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip().removeprefix("ipc://")).parent


def test_the_folder_of_one_that_was_killed_goes_with_the_next_start_and_no_other(place: Path) -> None:
    (place / "shoal-of-somebody").mkdir()
    (place / "shoal-notes.txt").write_text("mine")
    killed, left = make(place)
    living, used = make(place)
    assert left.stat().st_mode & 0o777 == 0o700 and left != used
    killed.kill()
    killed.communicate()
    assert left.is_dir()
    third, new = make(place)
    assert sorted(place.iterdir()) == sorted(
        [place / "shoal-of-somebody", place / "shoal-notes.txt", used, new]
    )
    for child in (living, third):
        child.communicate("")
