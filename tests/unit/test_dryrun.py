"""`--dry-run`: what it says is what a start would do, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator import cli as coord
from coordinator.directory import CrawlDirectory


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("SHOAL_")]:
        monkeypatch.delenv(variable)


def said(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, str]:
    """The lines of the report by their first word; lines without one belong to the one before."""
    assert coord.main(["crawl", *args, "--dry-run"]) == code
    rows: dict[str, str] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines()[1:]:
        name = line[2:12].strip() or name
        rows[name] = f"{rows[name]}\n{line[12:]}" if name in rows else line[12:]
    return rows


def test_it_counts_seeds_and_tells_bad_lines_and_touches_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "urls.txt").write_text("https://a.test/\nb.test\n# remark\nftp://c/\nhttps://a.test:443/#x\n")
    rows = said(
        capsys, "urls.txt", "--out", "c1", "--delay", "2", "--header", "Cookie: secret", "--max-pages", "9"
    )
    assert rows["into"] == "c1, a new crawl"
    seeds, bad = rows["seeds"].splitlines()
    assert seeds == "3 URLs, 1 of them given before, 1 line skipped, no URL"
    assert "urls.txt, line 4: ftp: is not http or https" in bad
    assert rows["hosts"] == "2 hosts: a.test 1, b.test 1"
    assert rows["scope"].startswith("by host: a.test, b.test; links are followed within")
    assert rows["limits"] == "max pages 9"
    assert rows["pace"].startswith("2 hosts × 2 s: at most 1 page/s")
    assert rows["options"].splitlines() == ["max_pages = 9", "delay = 2", 'header = ["Cookie: ***"]']
    assert [path.name for path in tmp_path.iterdir()] == ["urls.txt"]


def test_a_list_says_how_long_its_largest_host_takes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = said(capsys, "https://a.test/?p=[1-7200]", "https://b.test/", "--out", "c", "--no-follow")
    assert "at least 2 h" in rows["pace"]
    assert rows["scope"] == "the seeds alone, redirects included; no link is followed"


def test_rules_for_hosts_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "crawl.toml").write_text(
        '[[host]]\nmatch = "a.*"\ndelay = 4\n[[host]]\nmatch = "c.*"\nblocked = true\n'
    )
    seeds = [f"https://{name}.test/" for name in "abc"]
    rows = said(capsys, *seeds, "--out", "c", "--config", "crawl.toml")
    assert rows["pace"].startswith("2 hosts, rules differ: at most 1.25 pages/s; 1 host blocked")
    assert "host a.*: delay = 4" in rows["options"]


def test_what_a_start_refuses_it_refuses_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refused(*args: str) -> str:
        assert coord.main(["crawl", *args, "--dry-run"]) == 2
        return capsys.readouterr().err

    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    assert "choose another --out" in refused("https://a.test/", "--out", "full")
    assert "no such file" in refused("urls.text", "--out", "c")
    assert "nothing to crawl" in refused("--out", "c")
    with CrawlDirectory.acquire(tmp_path / "held") as directory:
        directory.write("crawl.toml", "head = true\n")
        assert "held is in use" in refused("https://a.test/", "--out", "held", "--head")
    assert "head was true" in refused("https://a.test/", "--out", "held", "--get")


def test_a_crawl_that_has_begun_says_so_and_stays_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with CrawlDirectory.acquire(tmp_path / "c") as directory:
        directory.write_summary({"pages": 1234, "queued": 5})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    rows = said(capsys, "--out", "c")
    assert rows["into"].startswith("c, where a crawl has begun: 1,234 URLs ended, 5 queued")
    assert "new round" in said(capsys, "--out", "c", "--recrawl")["into"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_nothing_to_fetch_is_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("nonsense\n")
    assert "0 URLs, 1 line skipped" in said(capsys, "urls.txt", "--out", "c", code=1)["seeds"]
