"""`worker try`, and `from shoal import ...`, as processes of their own, on a real site."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ROOT
from tests.support.site import Answer, Site, html

CODE = """
def parse(page):
    yield {"title": page.css("h1::text").get(), "carry": page.carry}
    yield page.follow("/2", extract=other, carry=[1])

def other(page):
    raise KeyError("nothing here")
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        site.robots("a.test", "User-agent: *\nDisallow: /private\nCrawl-delay: 7\n")
        site.answer("a.test", "/", html("<title>T\x1b[2J[red]</title><h1>Head</h1><a href=/1>x</a>"))
        yield site


def tried(
    site: Site, folder: Path, target: str, *options: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    (folder / "shop.py").write_text(CODE)
    command = [sys.executable, str(ROOT / "worker" / "__main__.py"), "try", site.url("a.test", target)]
    command += ["--allow-private", "--hosts-file", str(site.hosts_file(folder / "hosts")), *options]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=os.environ | (env or {}),
        check=False,
    )


def test_it_shows_what_a_page_comes_to_and_what_is_made_of_it(site: Site, tmp_path: Path) -> None:
    done = tried(site, tmp_path, "/", "--extract", "shop.py:parse", "--carry", '{"n": 1}')
    assert (done.returncode, done.stderr) == (0, "")
    assert "OK 200" in done.stdout
    assert "allows it, and asks for 7 s between fetches" in done.stdout
    assert '"title": "Head", "carry": {"n": 1}' in done.stdout
    assert '"extract": "other", "carry": [1]' in done.stdout
    assert site.url("a.test", "/1") in done.stdout
    assert "\x1b" not in done.stdout, "no terminal, no colour; and no escape of the page's gets through"
    assert "[red]" in done.stdout
    assert [hit.target for hit in site.log] == ["/robots.txt", "/"]


def test_a_terminal_gets_colours_unless_no_color_is_set(site: Site, tmp_path: Path) -> None:
    coloured = tried(site, tmp_path, "/", env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert "\x1b[1;32mOK" in coloured.stdout
    assert "\x1b[2J" not in coloured.stdout
    plain = tried(site, tmp_path, "/", env={"NO_COLOR": "1", "TERM": "xterm-256color"})
    assert "\x1b" not in plain.stdout


def test_json_is_one_line_with_all_of_it(site: Site, tmp_path: Path) -> None:
    done = tried(site, tmp_path, "/", "--extract", "shop.py:parse", "--json")
    told = json.loads(done.stdout)
    assert (told["outcome"], told["status"], told["items"][0]["title"]) == ("OK", 200, "Head")
    assert told["items"][0]["_type"] == "items"
    assert told["follows"] == [
        {"url": site.url("a.test", "/2"), "method": "GET", "extract": "other", "carry": [1]}
    ]
    assert ["Content-Type", "text/html; charset=utf-8"] in told["headers"]


def test_one_that_raises_shows_the_authors_lines_alone(site: Site, tmp_path: Path) -> None:
    done = tried(site, tmp_path, "/", "--extract", "shop.py:other")
    assert done.returncode == 1
    assert "KeyError: 'nothing here'" in done.stdout
    assert "line 7, in other" in done.stdout and 'raise KeyError("nothing here")' in done.stdout
    assert "extract.py" not in done.stdout
    assert done.stderr == ""


def test_robots_txt_is_obeyed_unless_told_otherwise(site: Site, tmp_path: Path) -> None:
    done = tried(site, tmp_path, "/private/1")
    assert "ROBOTS_DENIED" in done.stdout and "--ignore-robots" in done.stdout
    assert [hit.target for hit in site.log] == ["/robots.txt"]
    done = tried(site, tmp_path, "/private/1", "--ignore-robots")
    assert "CLIENT_ERROR 404" in done.stdout
    site.answer("a.test", "/robots.txt", Answer(503))
    assert "ROBOTS_UNREACHABLE" in tried(site, tmp_path, "/").stdout


def test_an_extractor_without_end_is_told_after_a_bound(site: Site, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("def parse(page):\n    while True:\n        pass\n")
    (tmp_path / "c.toml").write_text("[tuning]\nparse_seconds = 1\n")
    done = tried(site, tmp_path, "/", "--extract", "endless.py:parse", "--config", "c.toml")
    assert (done.returncode, done.stderr) == (1, "")
    assert "not done after 1 s" in " ".join(done.stdout.split())


def test_what_could_not_be_fetched_is_exit_1_and_an_answer_is_0(site: Site, tmp_path: Path) -> None:
    assert tried(site, tmp_path, "/private/1").returncode == 1
    assert tried(site, tmp_path, "/nothing-there").returncode == 0


def test_a_private_address_is_refused_without_leave(site: Site, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "worker" / "__main__.py"), "try", f"http://127.0.0.1:{site.port}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "PRIVATE_ADDRESS" in done.stdout and "--allow-private" in done.stdout
    assert site.log == []


def test_tables_of_a_file_are_tried_too(site: Site, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[extract.heads]\nhead = "css:h1"\n')
    done = tried(site, tmp_path, "/", "--config", "c.toml", "--json")
    assert [(item["_type"], item["head"]) for item in json.loads(done.stdout)["items"]] == [("heads", "Head")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--extract", "nix.py:parse"), "No such file"),
        (("--extract", "shop.py:nix"), "no function 'nix'"),
        (("--carry", "{"), "no JSON"),
        (("--method", "NIX"), "one of GET"),
    ],
)
def test_a_slip_is_one_line(site: Site, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = tried(site, tmp_path, "/", *options)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def in_python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(code)
    return subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_a_script_beside_a_common_of_its_own_can_import_shoal(tmp_path: Path) -> None:
    (tmp_path / "common.py").write_text("MINE = 1\n")
    done = in_python(
        tmp_path, "from shoal import Page\nprint(Page('http://a.test/', body=b'<p>x').css('p::text').get())"
    )
    assert (done.stdout, done.returncode) == ("x\n", 0), done.stderr


def test_a_script_that_has_loaded_its_own_common_is_told_which_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "common.py").write_text("MINE = 1\n")
    done = in_python(tmp_path, "import common\nfrom shoal import Page\n")
    assert "the import name 'common' is taken by Shoal" in done.stderr.splitlines()[-1]


def test_importing_shoal_loads_nothing_of_it(tmp_path: Path) -> None:
    done = in_python(
        tmp_path,
        "import sys, shoal\nprint([name for name in ('common', 'worker', 'lxml') if name in sys.modules])",
    )
    assert done.stdout == "[]\n"
