"""Pages that kill, hang or fill the process that reads them: set aside at the third time, and nobody else with them.

The workers run in a Python of their own whose HTML parser, somebody else's, is made to crash, hang or grow at a word in
a page; everything of ours is as it is. One test needs no such thing: a page of `<a>` alone takes 80 times its size.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster import ROOT, Cluster, check_records, hurried, results
from tests.support.site import Answer, Place, Site, html

DELAY: Final = 0.1
PAGES: Final = 300

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HOOK: Final = """
    import os, signal, time
    import selectolax.lexbor as lexbor

    class Parser(lexbor.LexborHTMLParser):
        def __init__(self, html, *args, **kwargs):
            if b"please crash" in html:
                os.kill(os.getpid(), signal.SIGSEGV)
            if b"please raise" in html:
                raise RuntimeError("told to")
            if b"please hang" in html:
                while True:
                    pass
            if b"please wait" in html:
                time.sleep(3600)
            if b"please grow" in html:
                taken = []
                while True:
                    taken.append(b"x" * (1 << 20))
                    time.sleep(0.002)
            super().__init__(html, *args, **kwargs)

    lexbor.LexborHTMLParser = Parser

    import protego
    parse = protego.Protego.parse

    def read(content):
        if "please-crash" in content:
            os.kill(os.getpid(), signal.SIGSEGV)
        return parse(content)

    protego.Protego.parse = staticmethod(read)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with all that ours has, and that hook."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "poison_hook.py").write_text(textwrap.dedent(HOOK))
    paths = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "hook.pth").write_text("\n".join((*paths, "import poison_hook", "")))
    return folder / "bin" / "python"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(delay=0.01) as site:
        yield site


def grown(site: Site, *words: str, body: bytes = b"") -> tuple[Place, list[Place]]:
    """Some hundred innocent pages, one or more bad ones in the middle of it, and where it starts."""
    start = site.grow(seed=3, hosts=15, pages=PAGES)
    bad = []
    for number, word in enumerate(words):
        place = f"h{number}.test", f"/bad/{number}"
        page = html(f"<title>bad</title><p>{word}</p>")
        bad.append(site.answer(*place, Answer(200, page.headers, page.body + body)))
    site.page(*start, links=[*site.links(*start), *bad])
    return start, bad


def run(cluster: Cluster, command: str, *, expected: int = 1) -> None:
    cluster.coordinate(command)
    if command == "start":
        cluster.work()
    cluster.finish(expected=expected)


def check_poison(cluster: Cluster, site: Site, start: Place, bad: list[Place]) -> None:
    """The bad pages are set aside and only they; everything else is there once; nobody was hurried."""
    pages = results(cluster.out)
    assert set(pages) == {site.url(*place) for place in site.reachable(start)}
    for place in bad:
        page = pages[site.url(*place)]
        assert (page["outcome"], page["reason"], page["attempts"]) == ("POISON", "poison", 3), page
        assert page["error"] == "3 worker processes died or hung while they read this page"
        assert page["warc"] is None
        assert f"\n  {site.url(*place)}\n" in cluster.tail().partition("look at them")[2]
        # Once more whenever another bad page killed the process meanwhile, or its lease ran out before the death was
        # told, on a slow machine: that is no death of this one's.
        assert sum((hit.host, hit.target) == place for hit in site.log) >= 3
    innocent = [page for url, page in pages.items() if url not in {site.url(*place) for place in bad}]
    wrong = [page for page in innocent if (page["outcome"], page["attempts"]) != ("OK", 1)]
    assert not wrong, wrong[:3]
    check_records(cluster.out, pages)
    assert [(hit.target, by) for hit, by in hurried(site, DELAY)] == []
    audit = subprocess.run(
        [sys.executable, ROOT / "coordinator" / "__main__.py", "audit", cluster.out, "--deep"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr


def suspected(cluster: Cluster) -> list[tuple[str, int]]:
    """(URL, deaths) as the coordinator's log has them, in any order."""
    text = (cluster.out / "logs" / "coord.log").read_text()
    found = re.findall(r"warning request\.suspect url=(\S+) deaths=(\d)$", text, re.MULTILINE)
    return sorted((url, int(deaths)) for url, deaths in found)


@pytest.mark.parametrize("command", ["crawl", "start"])
def test_a_page_that_kills_is_set_aside_at_the_third_time_and_no_other(
    command: str, site: Site, python: Path, tmp_path: Path
) -> None:
    start, bad = grown(site, "please crash", "please raise")
    with Cluster(tmp_path, site, start, delay=DELAY, python=python) as cluster:
        run(cluster, command)
        check_poison(cluster, site, start, bad)
        assert suspected(cluster) == [(site.url(*place), deaths) for place in bad for deaths in (1, 2, 3)]
        of_workers = re.findall(r"worker\.died .* parsing=(\S+)$", cluster.tail(1 << 20), re.MULTILINE)
        assert sorted(of_workers) == sorted(site.url(*place) for place in bad for _ in range(3))
        # An error of ours says over which page it was, and what becomes of that.
        ours = re.findall(r"worker\.failed .*parsing=(\S+) outcome=POISON", cluster.tail(1 << 20))
        assert ours == [site.url(*bad[1])] * 3


def test_pages_that_take_too_long_or_too_much_are_set_aside_too(
    site: Site, python: Path, tmp_path: Path
) -> None:
    start, bad = grown(site, "please hang", "please wait", "please grow")
    tuning = "parse_seconds = 1.5\nparse_memory = 268_435_456\n"
    with Cluster(tmp_path, site, start, delay=DELAY, python=python, tuning=tuning) as cluster:
        run(cluster, "crawl")
        check_poison(cluster, site, start, bad)


def test_a_real_page_that_needs_more_memory_than_allowed_is_set_aside(site: Site, tmp_path: Path) -> None:
    start, bad = grown(site, "real", body=b"<a>" * ((4 << 20) // 3))
    with Cluster(
        tmp_path, site, start, delay=DELAY, tuning="parse_memory = 134_217_728\nparse_seconds = 10\n"
    ) as cluster:
        run(cluster, "start")
        check_poison(cluster, site, start, bad)


def test_a_page_that_hangs_is_found_while_its_lease_lasts_whatever_the_lease_s_time(
    site: Site, python: Path, tmp_path: Path
) -> None:
    """Otherwise it would be lent again as if nothing had happened, without an end."""
    start, bad = grown(site, "please hang")
    with Cluster(
        tmp_path,
        site,
        start,
        delay=DELAY,
        lease_ttl=15.0,  # a third until it is given up; in the rest the next process starts and tells it
        heartbeat=1.0,
        python=python,
        tuning="parse_seconds = 3600\n",
    ) as cluster:
        run(cluster, "crawl")
        check_poison(cluster, site, start, bad)


def test_a_robots_txt_that_kills_sets_its_pages_aside_and_hurts_no_other_host(
    site: Site, python: Path, tmp_path: Path
) -> None:
    start, _ = grown(site)
    site.robots("r.test", "User-agent: *\nDisallow: /please-crash\n")
    bad = [site.page("r.test", f"/{number}") for number in range(2)]
    site.page(*start, links=[*site.links(*start), *bad])
    with Cluster(tmp_path, site, start, delay=DELAY, python=python) as cluster:
        run(cluster, "start")
        pages = results(cluster.out)
        assert set(pages) == {site.url(*place) for place in site.reachable(start)}
        poison = {url for url, page in pages.items() if page["outcome"] != "OK"}
        assert poison == {site.url(*place) for place in bad}
        assert {(pages[url]["outcome"], pages[url]["reason"]) for url in poison} == {("POISON", "robots")}
        assert not site.fetched() & set(bad)
        assert hurried(site, DELAY) == []
