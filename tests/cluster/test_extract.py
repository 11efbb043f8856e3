"""Extractors in real processes that are really killed: items exactly once a page, and no crawl that one can stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT, Cluster, audited, coord, results, until
from tests.support.site import Place, Site, html

START: Place = ("a.test", "/")
ITEMS = 7
"""Of each page, of two kinds."""

SHOP = f"""
from dataclasses import dataclass

@dataclass
class OddOne:
    page: str
    number: int

def parse(page):
    for number in range({ITEMS}):
        if number % 2:
            yield OddOne(page.url, number)
        else:
            yield {{"page": page.url, "number": number, "title": page.css("title::text").get()}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(delay=0.01) as site:
        yield site


def shop(folder: Path, text: str = SHOP) -> tuple[str, ...]:
    path = folder / "shop.py"
    path.write_text(text)
    return ("--extract", f"{path}:parse")


def items(out: Path, name: str = "items") -> list[dict[str, Any]]:
    found = []
    for path in sorted(out.glob(f"items/{name}-*.jsonl")):
        content = path.read_bytes()
        assert content.endswith(b"\n"), f"{path.name} ends in a torn line"
        found += [json.loads(line) for line in content.splitlines()]
    return found


def exactly_once(out: Path) -> None:
    pages = results(out)
    found = Counter(
        (item["page"], item["number"]) for name in ("items", "odd_one") for item in items(out, name)
    )
    wanted = {
        (url, number) for url, page in pages.items() if page["status"] == 200 for number in range(ITEMS)
    }
    assert set(found) == wanted
    assert set(found.values()) == {1}
    audited(out)


def test_items_are_there_exactly_once_though_workers_and_coordinator_are_killed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = site.grow(seed=1, hosts=20, pages=600)
    monkeypatch.setenv("SHOAL_ALLOW_CODE", "1")
    with Cluster(tmp_path, site, start, lease_ttl=2.0, heartbeat=0.4, options=shop(tmp_path)) as cluster:
        cluster.coordinate("start")
        cluster.work()
        for lines in (60, 130, 200, 270, 340):
            until(lambda lines=lines: cluster.lines() >= lines, f"{lines} lines", 60)  # type: ignore[misc]
            if lines % 20:
                for pid in cluster.workers()[:1]:
                    cluster.kill(pid)
            else:
                assert cluster.coordinator is not None
                cluster.kill(cluster.coordinator.pid)
                cluster.coordinate("start")
        cluster.finish()
    assert set(results(cluster.out)) == {site.url(*place) for place in site.reachable(start)}
    exactly_once(cluster.out)


def test_items_that_the_disk_lost_are_made_again(site: Site, tmp_path: Path) -> None:
    """A file of items that is shorter than its commit: its pages are fetched again (rule 3)."""
    start = site.grow(seed=1, hosts=3, pages=20)
    with Cluster(tmp_path, site, start, delay=0.0, options=shop(tmp_path)) as cluster:
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
        lost = cluster.out / "items" / "odd_one-00-00000.jsonl"
        os.truncate(lost, lost.stat().st_size // 2 + 3)
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
        assert len(items(cluster.out, "odd_one")) == len(results(cluster.out)) * (ITEMS // 2)
        audited(cluster.out)
        # Lines of the other kind that were whole are there twice; an export leaves the old ones out.
        told = coord("export", str(cluster.out), "items/items", "--to", str(tmp_path / "x.jsonl"))
        assert told.returncode == 0, told.stderr
        lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
        assert set(Counter((line["page"], line["number"]) for line in lines).values()) == {1}
        assert len(lines) == len(results(cluster.out)) * (ITEMS - ITEMS // 2)


def test_a_page_that_is_tried_anew_has_its_items_once(site: Site, tmp_path: Path) -> None:
    start = site.grow(seed=1, hosts=3, pages=20)
    with Cluster(tmp_path, site, start, delay=0.0, options=shop(tmp_path)) as cluster:
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
        assert coord("retry", str(cluster.out), "--outcome", "OK").returncode == 0
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
        audited(cluster.out)
        coord("export", str(cluster.out), "items/odd_one", "--to", str(tmp_path / "x.jsonl"))
        lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
        assert set(Counter((line["page"], line["number"]) for line in lines).values()) == {1}


LISTS = """
import asyncio
import time

def parse(page):
    for rank, link in enumerate(page.css("a.film")):
        yield page.follow(link, extract=film, carry={"rank": rank, "list": page.url})
    for number in range(3):
        yield page.follow("/stock", extract="stock", carry=number, dont_filter=True)
    yield page.follow("/search", method="POST", body={"q": "x"}, extract=found)
    yield page.follow("/slow", extract=slow)
    yield page.follow("/raises", extract=raises)
    yield page.follow("/many", extract=many)
    yield page.follow("http://b.test/", extract=film)

def film(page):
    yield {"_type": "film", "title": page.css("title::text").get(), **page.carry}

def stock(page):
    yield {"_type": "stock", "n": page.carry}

async def found(page):
    await asyncio.sleep(0.05)
    yield {"_type": "found", "status": page.status}

def slow(page):
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass
    yield {"_type": "slow", "a": 1}

def raises(page):
    yield {"_type": "raised", "a": 1}
    yield page.follow("/after", extract=nothing)
    raise KeyError("no such shelf")

def nothing(page):
    pass

def many(page):
    yield from ({"_type": "many", "n": n} for n in range(10_000))
"""


def test_a_list_its_details_posts_repeats_and_all_that_can_go_wrong(site: Site, tmp_path: Path) -> None:
    films = "".join(f'<a class=film href="/film/{number}">{number}</a>' for number in range(5))
    site.answer("a.test", "/", html(f"<title>Films</title>{films}<a href=/plain>not followed</a>"))
    for number in range(5):
        site.answer("a.test", f"/film/{number}", html(f"<title>Film {number}</title><a href=/plain>"))
    for target in ("/stock", "/search", "/slow", "/raises", "/many", "/after"):
        site.answer("a.test", target, html(f"<title>{target}</title><a href=/plain>"))
    options = ("--no-follow", *shop(tmp_path, LISTS))
    with Cluster(tmp_path, site, START, delay=0.0, scope="host", options=options) as cluster:
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
        told = [
            json.loads(line) for path in cluster.out.glob("pages/*") for line in path.read_text().splitlines()
        ]
        raised = next(page for page in told if page["url"].endswith("/raises"))
        log = "".join(path.read_text() for path in (cluster.out / "logs").glob("worker*"))
    asked = Counter((hit.method, hit.target) for hit in site.log if hit.target != "/robots.txt")
    assert asked == {
        ("GET", "/"): 1,
        **{("GET", f"/film/{number}"): 1 for number in range(5)},
        ("GET", "/stock"): 3,
        ("POST", "/search"): 1,
        **{("GET", target): 1 for target in ("/slow", "/raises", "/many", "/after")},
    }, "neither plain links nor what is out of scope"
    assert sorted((film["title"], film["rank"]) for film in items(cluster.out, "film")) == [
        (f"Film {number}", number) for number in range(5)
    ]
    assert sorted(item["n"] for item in items(cluster.out, "stock")) == [0, 1, 2]
    assert [item["status"] for item in items(cluster.out, "found")] == [200]
    assert [item["a"] for item in items(cluster.out, "slow")] == [1]
    assert sorted(item["n"] for item in items(cluster.out, "many")) == list(range(10_000))
    assert (raised["outcome"], raised["reason"], raised["error"]) == (
        "OK",
        "extract",
        "KeyError: 'no such shelf'",
    )
    assert items(cluster.out, "raised") == []
    assert 'raise KeyError("no such shelf")' in log, "the traceback shows the author's line"
    audited(cluster.out)


HANGS = """
import time

def parse(page):
    while page.url.endswith("/hangs"):
        time.sleep(0.1)
    yield {"a": 1}
"""


def test_a_function_that_hangs_sets_its_page_aside_and_the_crawl_ends(site: Site, tmp_path: Path) -> None:
    site.page(*START, links=["/hangs", "/1", "/2"])
    for target in ("/hangs", "/1", "/2"):
        site.page("a.test", target)
    options = shop(tmp_path, HANGS)
    with Cluster(tmp_path, site, START, delay=0.0, tuning="parse_seconds = 1\n", options=options) as cluster:
        cluster.coordinate("crawl", procs=1)
        cluster.finish(expected=1)
        pages = results(cluster.out)
    assert Counter(page["outcome"] for page in pages.values()) == {"OK": 3, "POISON": 1}
    assert len(items(cluster.out)) == 3


def test_a_worker_elsewhere_says_why_it_does_not_run_what_was_sent(site: Site, tmp_path: Path) -> None:
    site.page(*START)
    with Cluster(tmp_path, site, START, options=shop(tmp_path)) as cluster:
        cluster.coordinate("start")
        supervisor = cluster.work()
        assert supervisor.wait(60) == 2
        assert "--allow-code to run it, or install a module 'shop' here" in cluster.tail()
        assert "Traceback" not in cluster.tail()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import nix_such\ndef parse(page): ...\n",
            "shop.py line 1: ModuleNotFoundError: No module named 'nix_such'",
        ),
        ("def other(page): ...\n", "has no function 'parse'; it has: other"),
    ],
)
def test_a_crawl_with_a_broken_extractor_does_not_begin(tmp_path: Path, text: str, said: str) -> None:
    told = coord("crawl", "http://a.test/", "--out", str(tmp_path / "out"), *shop(tmp_path, text))
    assert told.returncode == 2
    (line,) = told.stderr.strip().splitlines()
    assert said in line
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_a_script_reads_pages_and_items_as_they_are_committed(site: Site, tmp_path: Path) -> None:
    """`Crawl`, in a process of its own, as a person's script is."""
    start = site.grow(seed=1, hosts=3, pages=20)
    hosts = site.hosts_file(tmp_path / "hosts")
    script = tmp_path / "script.py"
    script.write_text(f"""
import asyncio, json
from shoal import Crawl

async def main():
    told = []
    async with Crawl({site.url(*start)!r}, scope="any", hosts_file={str(hosts)!r}, allow_private="all", delay=0,
                     procs=1, contact="me@a.test", out={str(tmp_path / "out")!r},
                     extract={shop(tmp_path)[1]!r}) as crawl:
        async for page in crawl:
            told.append((page.url, page.outcome, page.status, page.css("title::text").get()))
        items = [item async for item in crawl.items("odd_one")]
    print(json.dumps([told, len(items), crawl.exit_code]))

asyncio.run(main())
""")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told, count, code = json.loads(done.stdout)
    pages = results(tmp_path / "out")
    assert {url: (outcome, status, title) for url, outcome, status, title in told} == {
        url: (page["outcome"], page["status"], page["title"]) for url, page in pages.items()
    }
    assert len(told) == len(pages)
    assert (count, code) == (len(pages) * (ITEMS // 2), 0)
