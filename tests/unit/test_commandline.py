"""The command lines: every mistake is one line that says what to write, and help that shows every option."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import OPTIONS
from common.openfiles import raise_open_files
from common.processors import processors
from coordinator import cli as coord
from coordinator.directory import CrawlDirectory
from coordinator.status import Phase, Status
from worker import cli as worker
from worker.addresses import parse_allowed, refusal
from worker.limits import ENOUGH_FILES, fitting_concurrency
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
URL = "https://a.test/"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("SHOAL_")]:
        monkeypatch.delenv(variable)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["crwal"], "no such command: crwal; did you mean crawl? (see `coord --help`)"),
        (
            ["crawl", "--dealy", "3"],
            "no such option: --dealy; did you mean --delay? (see `coord crawl --help`)",
        ),
        (["crawl", URL], "where to? give --out DIR"),
        (["crawl", "--out", "x"], "nothing to crawl: give a SEED"),
        (["crawl", URL, "--out", "x", "--delay"], "option '--delay' requires an argument"),
        (["crawl", URL, "--out", "x", "--delay", "soon"], "--delay: expected a time such as"),
        (["crawl", URL, "--out", "x", "--fail-on", "DSN"], "--fail-on: 'DSN' is unknown; did you mean DNS?"),
        (["crawl", URL, "--out", "x", "--procs", "many"], "--procs many: expected a number"),
        (["crawl", URL, "--out", "x", "--config", "no.toml"], "no.toml: No such file"),
        (["start", "--out", "x", "--listen", "7777"], "--listen tcp://7777: an address looks like tcp://"),
        (["start", "--out", "x", "--http", "7700x"], "--http '7700x': expected HOST:PORT"),
        (["status", "x"], "x does not exist"),
        (["status", "127.0.0.1:1"], "no coordinator answers at 127.0.0.1:1"),
        (["stop", "."], ". holds no crawl"),
        (["add", "x"], "add what? give a SEED"),
        (["key", "x"], "x does not exist"),
        ([URL], f"did you mean `coord crawl {URL} --out DIR`?"),
        (["run", URL], "no such command: run; did you mean crawl?"),
        (["help"], "did you mean --help?"),
        (["crawl", "-out", "x", URL], "no such option: -o; did you mean --out?"),
        (["crawl", URL, "--out", "x", "--threads", "4"], "no such option: --threads; did you mean --procs?"),
        (["crawl", URL, "--out", "x", "--max-bytes", "16MB"], "write 16MiB"),
        (["crawl", URL, "--out", "x", "--allow", "*.pdf"], r"write \.pdf$ for what ends so"),
        (["crawl", URL, "--out", "x", "--config", "my.toml"], "`coord init my.toml` writes one"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert coord.main(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("coord: ")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["start"], "which coordinator? give --coord"),
        (["start", "--coord", "http://a:1"], "looks like tcp://192.0.2.7:7777"),
        (["start", "--coord", "a"], "looks like tcp://192.0.2.7:7777"),
        (["start", "--coord", "a:1", "--key", "k"], "--key k: No such file"),
        (["start", "--coord", "a:1", "--key", "."], "--key .: Is a directory"),
        (["start", "--coord", "a:1", "--procs", "0"], "--procs 0: expected a number"),
        (["start", "--coord", "a:1", "--allow-private=10.0.0.0/99"], "--allow-private: expected an address"),
    ],
)
def test_a_mistake_of_worker_is_one_line_too(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(line) == 2
    err = capsys.readouterr().err
    assert err.startswith("worker: ")
    assert said in err
    assert err.count("\n") == 1


def test_help_shows_every_option_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert coord.main(["crawl", "--help"]) == 0
    out = capsys.readouterr().out
    for name, option in OPTIONS.items():
        if option.flags != "":
            assert "--" + name.replace("_", "-") in out
    assert "--allow-private[=CIDR,...]" in out
    assert "[default: 16MiB]" in out
    assert "coord crawl https://example.org/ --out crawl1 --procs 4" in out


@pytest.mark.parametrize("command", list(coord.coord.commands))
def test_the_help_of_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert coord.main([command, "--help"]) == 0
    assert f"\n    coord {command} " in capsys.readouterr().out or command == "init"


def test_the_first_help_cuts_no_sentence_and_names_the_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert coord.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "..." not in out.partition("Commands:")[2]
    assert 'eval "$(_COORD_COMPLETE=bash_source coord)"' in out
    for name in coord.coord.commands:
        assert f"\n  {name} " in out


def test_an_option_that_may_stand_alone_does_not_swallow_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    # Taken as its value, the URL would be told as a bad network; instead the seed is there and --out is
    # missing.
    assert coord.main(["crawl", "--allow-private", URL]) == 2
    assert "where to?" in capsys.readouterr().err


def test_init_writes_a_file_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert coord.main(["init"]) == 0
    assert coord.main(["init"]) == 2
    assert "crawl.toml exists" in capsys.readouterr().err
    assert coord.main(["init", "--force", "crawl.toml"]) == 0
    assert coord.main(["init", "-"]) == 0
    assert capsys.readouterr().out == (tmp_path / "crawl.toml").read_text()


def test_a_folder_in_use_and_one_of_something_else_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with CrawlDirectory.acquire(tmp_path / "x"):
        assert coord.main(["crawl", URL, "--out", "x"]) == 2
        assert "x is in use by process" in capsys.readouterr().err
    (tmp_path / "y").mkdir()
    (tmp_path / "y/thesis.tex").touch()
    assert coord.main(["crawl", URL, "--out", "y"]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_what_may_not_change_is_refused_and_the_folder_keeps_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with CrawlDirectory.acquire(tmp_path / "x") as directory:
        directory.write("crawl.toml", "head = true\n")
    assert coord.main(["crawl", URL, "--out", "x", "--get"]) == 2
    assert "head was true and cannot become false" in capsys.readouterr().err
    assert (tmp_path / "x/crawl.toml").read_text() == "head = true\n"


def test_a_stopped_crawl_says_how_it_stands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with CrawlDirectory.acquire(tmp_path / "x") as directory:
        assert coord.main(["status", "x"]) == 2
        assert "nothing is known yet" in capsys.readouterr().err
        directory.write_summary(Status(Phase.RUNNING, "x", pages=7, queued=3).to_json())
    assert coord.main(["status", "x"]) == 0
    assert "Stopped (ended without a word)" in capsys.readouterr().out
    assert coord.main(["status", "x", "--json", "--watch"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert '"phase": "stopped"' in out


def test_a_reader_that_has_enough_costs_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "coordinator", "init", "-"],
            cwd=ROOT,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_processors_are_those_this_process_may_use(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    (tmp_path / "a/b").mkdir(parents=True)
    free = processors(tmp_path, own)
    assert free >= 1
    (tmp_path / "a/cpu.max").write_text("50000 100000\n")
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    assert processors(tmp_path, own) == 1
    (tmp_path / "a/cpu.max").write_text("99900000 100000\n")
    assert processors(tmp_path, own) == free


def test_few_open_files_lower_the_concurrency_and_that_is_said() -> None:
    assert fitting_concurrency(1000, 65536) == (1000, None)
    assert fitting_concurrency(1000, 1024)[0] == 896
    said = fitting_concurrency(1000, 256)
    assert said[0] == 128
    assert said[1] is not None
    assert "ulimit -n 1128" in said[1]
    assert fitting_concurrency(10, 20)[0] == 1
    assert raise_open_files(ENOUGH_FILES) == raise_open_files(ENOUGH_FILES)


def allowed(coord: str, ours: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    return WorkerSettings(coord=coord, allow_private=ours).private_networks(asked)


def test_beyond_loopback_a_private_address_needs_both_sides() -> None:
    assert allowed("ipc:///tmp/s", (), ("all",)) == ("all",)
    local, remote = "tcp://127.0.0.1:7777", "tcp://10.0.0.7:7777"
    assert allowed(local, (), ("all",)) == ("all",)
    assert allowed("tcp://[::1]:7777", (), ("10.0.0.0/8",)) == ("10.0.0.0/8",)
    assert allowed(remote, (), ("all",)) == ()
    assert allowed(remote, ("all",), ()) == ()
    assert allowed(remote, ("all",), ("all",)) == ("all",)
    assert allowed(remote, ("all",), ("10.1.0.0/16",)) == ("10.1.0.0/16",)
    assert allowed(remote, ("10.1.0.0/16",), ("10.0.0.0/8", "192.168.0.0/16")) == ("10.1.0.0/16",)
    # What the word does not open is not opened by meeting it either.
    assert allowed(remote, ("all",), ("169.254.169.254/32",)) == ()
    both = parse_allowed(allowed(remote, ("all",), ("0.0.0.0/0", "::/0")))
    for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1"):
        assert refusal(address, both) is None
    for address in ("169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1", "fe80::1"):
        assert refusal(address, both) is not None
