"""What stands in contrib/: unit files that systemd reads, and command lines that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from coordinator import cli as coord
from worker.cli import worker

CONTRIB = Path(__file__).parents[2] / "contrib"
UNITS = sorted((CONTRIB / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("coord", "worker"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    name = unit.name.replace("@", "@crawl1")
    (tmp_path / name).write_text(unit.read_text().replace("/opt/shoal/bin", str(programs)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if name in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def commands() -> dict[str, str]:
    """Each command line of contrib/, by where it stands."""
    found = {}
    for unit in UNITS:
        line = re.search(r"^ExecStart=/opt/shoal/bin/(.+)$", unit.read_text(), re.MULTILINE)
        assert line is not None
        found[unit.name] = line[1]
    compose = (CONTRIB / "container/compose.yaml").read_text()
    for line in re.finditer(
        r"^    command: (?:>-\n)?((?:\s*(?:coord|worker) .+\n)(?:      .+\n)*)", compose, re.MULTILINE
    ):
        words = line[1].split()
        found[f"compose.yaml {words[0]}"] = " ".join(words)
    return found


@pytest.mark.parametrize(("place", "line"), commands().items())
def test_every_command_line_is_one_that_exists(
    place: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("SHOAL_")]:
        monkeypatch.delenv(variable)
    line = re.sub(r"\$\{?\w+_ARGS\}?", "", line).replace("%i", "crawl1").replace("/var/lib/shoal/", "")
    program, *args = shlex.split(
        line.replace("/seeds.txt", "https://a.test/").replace("${COORD}", "tcp://a:1")
    )
    if program == "coord":
        assert coord.main([*args, "--dry-run"]) == (0 if "https://a.test/" in args else 1), (
            capsys.readouterr().err
        )
    else:
        worker.commands[args[0]].make_context("worker", args[1:])


def test_the_container_copies_what_there_is() -> None:
    root = CONTRIB.parent
    text = (CONTRIB / "container/Containerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert copied
    for source in " ".join(copied).split():
        assert (root / source).exists(), source
    packages = re.search(r"packages = \[([^\]]+)\]", (root / "pyproject.toml").read_text())
    for package in re.findall(r'"(\w+)"', packages[1] if packages else ""):
        assert package in " ".join(copied).split()


def test_compose_reads_it() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker here")
    known = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip("no docker compose here")
    done = subprocess.run(
        ["docker", "compose", "-f", str(CONTRIB / "container/compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
