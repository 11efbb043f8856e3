"""What goes wrong is told in one clear line that says what to do, with the contract's exit code; never a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import results
from tests.support.proxy import free_pair
from tests.support.site import Site
from tests.support.terminal import Terminal

URL = "https://a.test/"


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """For mistakes that are found before anything is fetched; what they are made with is there."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "seeds.list").write_text(f"{URL}\n")
    for name in ("full", "newer"):
        (folder / name).mkdir()
    (folder / "full" / "thesis.doc").write_text("")
    (folder / "newer" / "FORMAT").write_text("99\n")
    (folder / "typo.toml").write_text("# mine\ndealy = 3\n")
    (folder / "broken.toml").write_text("delay =\n")
    (folder / "host.toml").write_text('[[host]]\nmatch = "*.test"\nper_hots = 2\n')
    with Terminal(folder) as terminal:
        yield terminal


@pytest.fixture
def nothing_written(terminal: Terminal) -> Iterator[None]:
    """A mistake in what was typed leaves no DIR behind."""
    before = {path.name for path in terminal.folder.iterdir() if path.suffix != ".txt"}
    yield
    assert {path.name for path in terminal.folder.iterdir() if path.suffix != ".txt"} == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["crawl", URL, "--out", "x", "--dealy", "3"], ["no such option: --dealy", "did you mean --delay?"]),
        (["crawl", "seds.list", "--out", "x"], ["seds.list: no such file", "did you mean seeds.list?"]),
        (["crawl", "ftp://a.test/", "--out", "x"], ["ftp://a.test/: ftp: is not http or https"]),
        (["crawl", ".", "--out", "x"], [". is a directory; name the files in it"]),
        (["crawl", "seeds.list", "--out", "seeds.list"], ["seeds.list is a file: --out names a folder"]),
        (
            ["crawl", "seeds.list", "--out", "full"],
            ["full is not empty and holds no crawl: choose another --out"],
        ),
        (["crawl", "--out", "empty"], ["nothing to crawl: give a SEED"]),
        (
            ["crawl", URL, "--out", "x", "--config", "typo.toml"],
            ["typo.toml line 2", "'dealy'", "did you mean delay?"],
        ),
        (["crawl", URL, "--out", "x", "--config", "broken.toml"], ["broken.toml: not TOML", "line 1"]),
        (["crawl", URL, "--out", "x", "--config", "host.toml"], ["host.toml line 3", "per_hots", "per_host"]),
        (["crawl", URL, "--out", "x", "--hosts-file", "absent"], ["absent", "No such file"]),
        (["crawl", URL, "--out", "newer"], ["newer was written by a newer Shoal", "upgrade Shoal"]),
        (["start", URL, "--out", "x", "--listen", "udp://1.2.3.4:5"], ["--listen", "looks like tcp://"]),
        (
            ["start", URL, "--out", "x", "--listen", "tcp://127.0.0.1:0"],
            ["--listen", "workers have to know the port"],
        ),
        (["status", "full"], ["full holds no crawl: name the folder that was given as --out"]),
        (["stop", "absent"], ["absent does not exist"]),
    ],
    ids=lambda each: " ".join(each)[:60],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    terminal: Terminal, nothing_written: None, args: list[str], said: list[str]
) -> None:
    assert (ended := terminal.coord(*args)).is_one_line(2, "coord: ", *said), ended


def test_a_variable_with_a_mistake_is_named(terminal: Terminal, nothing_written: None) -> None:
    ended = terminal.begin("coord", "crawl", URL, "--out", "x", variables=[("SHOAL_DELAY", "soon")]).end()
    assert ended.is_one_line(2, "SHOAL_DELAY", "expected a time"), ended


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_seed_file_is_one_line(terminal: Terminal, nothing_written: None) -> None:
    seeds = terminal.folder / "secret.list"
    seeds.write_text(f"{URL}\n")
    seeds.chmod(0)
    ended = terminal.coord("crawl", "secret.list", "--out", "x")
    seeds.unlink()
    assert ended.is_one_line(2, "secret.list: cannot be read (Permission denied)"), ended


def test_a_worker_that_cannot_begin_says_why(terminal: Terminal) -> None:
    (terminal.folder / "bad.key").write_text("not a key\n")
    address = f"tcp://127.0.0.1:{free_pair()}"
    for args, said in (
        (["--coord", "http://a.test"], "looks like tcp://"),
        (["--coord", address, "--key", "absent.key"], "--key absent.key: No such file"),
        (["--coord", address, "--key", "bad.key"], "--key bad.key"),
        (["--coord", address, "--procs", "0"], "--procs 0: expected a number"),
    ):
        assert (ended := terminal.worker("start", *args)).is_one_line(2, "worker: ", said), ended


# --------------------------------------------------------------------------- mistakes that only a crawl can find


@pytest.fixture
def crawler(tmp_path: Path, site: Site) -> Iterator[Terminal]:
    with Terminal(tmp_path, site) as terminal:
        yield terminal


def test_a_private_address_is_refused_and_the_way_out_named(site: Site, crawler: Terminal) -> None:
    site.page("a.test", "/")
    network = [option for option in crawler.network if option != "--allow-private"]
    # The first is a name for a private address, the second one as it stands.
    seeds = [site.url("a.test"), f"http://127.0.0.1:{site.port}/"]
    ended = crawler.coord("crawl", *seeds, "--out", "c", "--procs", "1", *network)
    assert ended.code == 1, ended.said
    assert "No seed gave a page" in ended.said and "wanted? --allow-private" in ended.said
    assert "Exit code 1: no seed gave a page" in ended.said
    assert site.log == []
    pages = results(crawler.folder / "c")
    assert {page["outcome"] for page in pages.values()} == {"PRIVATE_ADDRESS"} and len(pages) == 2


def test_a_list_without_a_url_is_counted_told_and_looked_at(crawler: Terminal) -> None:
    (crawler.folder / "prose.md").write_text("Dear crawler,\nplease fetch\nmy pages\n")
    ended = crawler.coord("crawl", "prose.md", "--out", "c", "--procs", "1", "--contact", "tests@shoal.test")
    assert ended.code == 1, ended.said
    assert "skipped: prose.md, line 2: " in ended.said and "no seed could be used" in ended.said
    assert "3 bad seeds of 3" in ended.said
    assert ended.said.count("prose.md, line 2") == 1, "told once"


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (["-"], "nothing to crawl: standard input holds no URL"),
        (["empty.txt"], "nothing to crawl: empty.txt holds no URL"),
        (
            ["empty.txt", "firms.csv#website"],
            "nothing to crawl: none of empty.txt, firms.csv#website holds a URL",
        ),
    ],
)
def test_no_seed_at_all_is_a_mistake_and_no_crawl(crawler: Terminal, seeds: list[str], said: str) -> None:
    (crawler.folder / "empty.txt").write_text("# none yet\n\n")
    (crawler.folder / "firms.csv").write_text("name,website\nA,\n")
    ended = crawler.coord("crawl", *seeds, "--out", "c", "--procs", "1", *crawler.network)
    assert ended.is_one_line(2, said), ended
    # The same folder, once there is one.
    assert crawler.coord("crawl", "--out", "c", *crawler.network).is_one_line(2, "no seed was ever given")


def test_what_a_crawl_rests_on_may_not_change(site: Site, crawler: Terminal) -> None:
    site.page("a.test", "/", links=["/1"])
    site.page("a.test", "/1")
    crawl = ["crawl", site.url("a.test"), "--out", "c", "--procs", "1", *crawler.network]
    assert crawler.coord(*crawl).code == 0
    ended = crawler.coord(*crawl, "--head")
    assert ended.is_one_line(2, "head was false and cannot become true", "choose another --out"), ended
    (crawler.folder / "c" / "warc").rename(crawler.folder / "warc-elsewhere")
    (crawler.folder / "c" / "frontier").rename(crawler.folder / "frontier-elsewhere")
    (crawler.folder / "warc-elsewhere").rename(crawler.folder / "c" / "warc")
    ended = crawler.coord(*crawl)
    assert ended.is_one_line(2, "c holds 1 WARC files, but its frontier knows none", "another --out"), ended
