"""docs/reference.md is what the code says, and leaves nothing out."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.configfile import RESERVED_VARIABLES
from common.outcome import OUTCOMES
from coordinator import directory, ledger
from tests.support import reference

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    assert reference.PAGE.read_text("utf-8") == reference.page(), "run scripts/reference"


def test_every_key_of_a_line_is_told() -> None:
    body = inspect.getsource(ledger.page_line)
    assert list(reference.KEYS) == re.findall(r'^        "(\w+)":', body, re.MULTILINE)


def test_every_outcome_and_variable_is_told() -> None:
    assert set(reference.TOLD) == set(OUTCOMES)
    assert set(reference.VARIABLES) == RESERVED_VARIABLES


def test_every_file_of_a_crawl_is_told() -> None:
    told = " ".join(reference.FILES)
    for name in re.findall(r"[\w-]+\.(?:toml|json|key|lock)|FORMAT", directory.__doc__ or ""):
        assert name in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there(shell: str) -> None:
    """What the page says to put into the shell's own file gives a script; bash also reads it."""
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("no bash here")
    made = subprocess.run(
        [sys.executable, "-c", "from coordinator.cli import coord; coord(prog_name='coord')"],
        env={"_COORD_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_COORD_COMPLETE" in made.stdout, made.stderr
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=made.stdout, text=True, check=True)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("coord ", {"crawl", "export", "why"}),
        ("coord crawl --max-p", {"--max-pages", "--max-pages-per-host"}),
        ("coord crawl --scope ", {"host", "domain", "prefix", "any"}),
        ("coord retry c --outcome TIMEOUT,SERVER", {"TIMEOUT,SERVER_ERROR"}),
    ],
)
def test_completion_offers_what_there_is(typed: str, offered: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from coordinator.cli import coord; coord(prog_name='coord')"],
        env={
            "_COORD_COMPLETE": "bash_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) if typed.endswith(" ") else len(typed.split()) - 1),
            "PATH": "/usr/bin:/bin",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered <= {line.partition(",")[2] for line in done.stdout.splitlines()}, done.stderr
