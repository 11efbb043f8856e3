"""Extractors on real answers: items, requests, errors, coroutines, threads, bounds, and code that comes or does not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from common.config import CrawlConfig
from common.configfile import load
from common.errors import UsageError
from common.messages import Flag, Request
from common.outcome import OUTCOMES
from common.scope import HeldSites, Scope
from tests.support.site import Answer, Site, html
from worker.exchange import Exchange
from worker.extract import MAX_ITEMS, Extraction, Pace
from worker.extracted import wants_extraction
from worker.fetcher import Fetcher, FetcherSettings
from worker.mark import Mark
from worker.outgoing import method_of
from worker.page import PageMaker
from worker.sent import SentLinks
from worker.steps import Report

LIST = '<title>Films</title><a class=film href="/1">one</a><a class=film href="/2">two</a><a href="/about">us</a>'


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker process loads one extractor; what that leaves behind is taken away."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in ("shop", "beside_the_shop") or name.startswith("shoal_extractor_"):
            del sys.modules[name]


class Reading:
    """A worker process's way from a URL to a report."""

    def __init__(self, site: Site, config: CrawlConfig, scope: Scope, *, allow_code: bool) -> None:
        self.site = site
        self.mark = Mark(Mark.shared(get_context("spawn")))
        self.thread = ThreadPoolExecutor(1, "aside")
        self.pages = PageMaker(config, scope, SentLinks(1 << 10), 1)
        self.extraction = Extraction.of(
            config, allow_code=allow_code, page=self.mark.page, aside=self.mark.aside, thread=self.thread
        )
        self.fetcher = Fetcher(
            FetcherSettings(user_agent="x", allow_private=("127.0.0.0/8",), hosts={"a.test": ("127.0.0.1",)})
        )

    async def visit(self, target: str = "/", **fields: object) -> Report:
        url = self.site.url("a.test", target)
        request = Request(url, 0, 0, 0, 0, url, None, None)._replace(**fields)  # type: ignore[arg-type]
        came = await self.fetcher.fetch(
            url,
            may_write=lambda: True,
            method=method_of(request.form),
            body=None if request.form is None else request.form.body,
            max_bytes=1 << 20,
        )
        assert isinstance(came, Exchange)
        extracted = None
        if self.extraction is not None and wants_extraction(request, came):
            extracted = await self.extraction.run(1, 0, request, came)
        assert self.mark.read() == (), "an error left a mark: the process would end"
        return self.pages.report(request, came, extracted=extracted)


@asynccontextmanager
async def reading(
    site: Site, folder: Path, code: str | None, toml: str = "", *, allow_code: bool = True, **options: Any
) -> AsyncIterator[Reading]:
    """`code`: of an extractor whose function is `parse`."""
    if code is not None:
        (folder / "shop.py").write_text(code)
        options["extract"] = f"{folder}/shop.py:parse"
    (folder / "c.toml").write_text(toml)
    config = load(options, file=folder / "c.toml")
    it = Reading(site, config, Scope("host", HeldSites({"a.test"})), allow_code=allow_code)
    await it.fetcher.start()
    try:
        yield it
    finally:
        it.thread.shutdown()
        await it.fetcher.close()


def items(report: Report) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, line in report.items:
        item = json.loads(line)
        del item["url"], item["fetched_at"]
        found.append((name, item))
    return found


def why(report: Report) -> tuple[str, str | None, str | None]:
    return OUTCOMES[report.facts.outcome].value, report.facts.reason, report.facts.error


PARSE = """
def parse(page):
    for film in page.css("a.film"):
        yield page.follow(film, extract=film_page, carry={"name": film.css("::text").get()})
    yield {"title": page.css("title::text").get()}

def film_page(page):
    return {"_type": "film", "name": page.carry["name"], "body": page.text}
"""


async def test_a_list_leads_to_its_details_with_what_was_carried(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    site.answer("a.test", "/1", html("first"))
    async with reading(site, tmp_path, PARSE) as it:
        report = await it.visit()
        assert items(report) == [("items", {"title": "Films"})]
        asked, plain = report.links
        assert asked.urls == tuple(site.url("a.test", target) for target in ("/1", "/2"))
        assert asked.forms is not None and asked.depth == 1
        assert plain.urls == (site.url("a.test", "/about"),), (
            "a URL that was asked for is no plain link as well"
        )
        detail = await it.visit("/1", form=asked.forms[0], depth=1)
        assert items(detail) == [("film", {"name": "one", "body": "first"})]


async def test_with_no_follow_only_what_was_asked_for_is_followed(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    async with reading(site, tmp_path, PARSE, no_follow=True) as it:
        (asked,) = (await it.visit()).links
        assert len(asked.urls) == 2


async def test_depth_and_scope_hold_for_what_was_asked_for(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(""))
    code = 'def parse(page):\n    yield page.follow("http://b.test/")\n    yield page.follow("/1")\n'
    async with reading(site, tmp_path, code) as it:
        report = await it.visit()
        assert (dict(report.refused), len(report.links[0].urls)) == ({"scope": 1}, 1)
    async with reading(site, tmp_path, code, max_depth=0) as it:
        report = await it.visit()
        assert (dict(report.refused), report.links) == ({"depth": 2}, ())


async def test_one_that_raises_costs_its_page_its_items_and_nothing_else(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = 'def parse(page):\n    yield {"a": 1}\n    yield page.follow("/1")\n    page.json()["nix"]\n'
    async with reading(site, tmp_path, code) as it:
        report = await it.visit()
        outcome, reason, error = why(report)
        assert (outcome, reason, report.items) == ("OK", "extract", ())
        assert error is not None and error.startswith("JSONDecodeError: ") and "\n" not in error
        assert [len(group.urls) for group in report.links] == [1, 2]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("yield 'text'", "expected a dict"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise StopIteration", "StopIteration"),
        ("return [1 / 0]", "ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines\\x1b[31m')", r"ValueError: two\nlines\x1b[31m"),
        ("parse(page)", "RecursionError"),
        ("import asyncio; asyncio.run(asyncio.sleep(0)); yield page.follow('/', method='NIX')", "method"),
    ],
)
async def test_whatever_goes_wrong_is_one_line(site: Site, tmp_path: Path, body: str, error: str) -> None:
    site.answer("a.test", "/", html(LIST))
    async with reading(site, tmp_path, f"def parse(page):\n    {body}\n") as it:
        outcome, reason, told = why(await it.visit())
        assert (outcome, reason) == ("OK", "extract")
        assert told is not None and error in told and "\n" not in told and "\x1b" not in told


@pytest.mark.parametrize(
    "code",
    [
        "async def parse(page):\n    await asyncio.sleep(0.01)\n    return [{'a': 1}, {'a': 2}]\n",
        "async def parse(page):\n    for a in (1, 2):\n        await asyncio.sleep(0.01)\n        yield {'a': a}\n",
        "class P:\n    async def __call__(self, page):\n        return [{'a': 1}, {'a': 2}]\nparse = P()\n",
        "def parse(page):\n    return ({'a': a} for a in (1, 2))\n",
        "def parse(page):\n    return [{'a': 1}, None, {'a': 2}]\n",
    ],
)
async def test_coroutines_generators_and_lists_all_yield(site: Site, tmp_path: Path, code: str) -> None:
    site.answer("a.test", "/", html(LIST))
    async with reading(site, tmp_path, "import asyncio\n" + code) as it:
        assert [item["a"] for _, item in items(await it.visit())] == [1, 2]


async def test_coroutines_wait_beside_one_another(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = """
import asyncio
waiting = []
everybody = asyncio.Event()
async def parse(page):
    waiting.append(page)
    if len(waiting) == 5:
        everybody.set()
    await everybody.wait()
    yield {"n": len(waiting)}
"""
    async with reading(site, tmp_path, code) as it:
        reports = await asyncio.gather(*(it.visit() for _ in range(5)))
        assert [items(report)[0][1]["n"] for report in reports] == [5] * 5


async def test_a_coroutine_that_raises_or_is_cut_off_costs_only_its_items(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = "import asyncio\nasync def parse(page):\n    yield {}\n    await asyncio.sleep(0)\n    raise KeyError(1)\n"
    async with reading(site, tmp_path, code) as it:
        assert why(await it.visit()) == ("OK", "extract", "KeyError: 1")
    stuck = "import asyncio\nasync def parse(page):\n    await asyncio.Event().wait()\n"
    async with reading(site, tmp_path, stuck) as it:
        visit = asyncio.ensure_future(it.visit())
        while it.extraction is not None and it.extraction.seconds == 0.0:
            await asyncio.sleep(0)
        visit.cancel()  # as when its lease ends
        with pytest.raises(asyncio.CancelledError):
            await visit
        assert it.mark.read() == ()


async def test_a_plain_function_that_takes_long_leaves_the_loop_free(site: Site, tmp_path: Path) -> None:
    """It ends only when the loop has had its turns meanwhile."""
    site.answer("a.test", "/", html(LIST))
    code = """
import threading
turns = threading.Semaphore(0)
def parse(page):
    for _ in range(3):
        assert turns.acquire(timeout=30)
    yield {"thread": threading.current_thread().name}
"""
    async with reading(site, tmp_path, code) as it:
        visit = asyncio.ensure_future(it.visit())
        for _ in range(3):
            await asyncio.sleep(0.01)
            sys.modules["shoal_extractor_shop"].turns.release()
        assert items(await visit)[0][1]["thread"].startswith("aside")


async def test_a_quick_function_comes_to_the_loop_and_a_slow_one_leaves_it() -> None:
    pace = Pace()
    assert not pace.quick, "it begins beside the loop"
    for _ in range(50):
        pace.took(0.0005)
    assert pace.quick
    pace.took(0.5)
    assert not pace.quick


async def test_a_page_may_have_ten_thousand_items_and_not_one_more(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = "def parse(page):\n    yield from ({'n': n} for n in range(int(page.css('a').getall() and %d)))\n"
    async with reading(site, tmp_path, code % MAX_ITEMS) as it:
        report = await it.visit()
        assert (len(report.items), report.facts.reason) == (MAX_ITEMS, None)
    async with reading(site, tmp_path, code % (MAX_ITEMS + 1)) as it:
        report = await it.visit()
        assert (report.items, why(report)) == ((), ("OK", "extract", "more than 10,000 items of one page"))


@pytest.mark.parametrize(
    ("yields", "error"),
    [
        ("{'a': 'x' * 2_000_000}", "an item of 2,0"),
        ("*[{'a': 'x' * 900_000}] * 5", "more than 4 MiB of items"),
        ("*[page.follow('/1')] * 10_001", "more than 10,000 requests"),
    ],
)
async def test_bounds_say_which_one_was_passed(site: Site, tmp_path: Path, yields: str, error: str) -> None:
    site.answer("a.test", "/", html(LIST))
    async with reading(site, tmp_path, f"def parse(page):\n    return [{yields}]\n") as it:
        _, reason, told = why(await it.visit())
        assert reason == "extract" and told is not None and error in told


async def test_only_good_answers_with_a_body_are_extracted_from(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/404", html(LIST, status=404))
    site.answer("a.test", "/to", Answer(302, {"Location": "/"}))
    async with reading(site, tmp_path, "def parse(page):\n    return {'a': 1}\n") as it:
        assert (await it.visit("/404")).items == ()
        assert (await it.visit("/to")).items == ()


async def test_a_visit_for_links_alone_brings_requests_and_no_items(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    async with reading(site, tmp_path, PARSE) as it:
        report = await it.visit(flags=int(Flag.LINKS_ONLY))
        assert report.items == () and len(report.links[0].urls) == 2


async def test_a_post_brings_its_body(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = "def parse(page):\n    yield page.follow('/search', method='POST', body={'q': 'x'})\n"
    async with reading(site, tmp_path, code) as it:
        (asked, *_) = (await it.visit()).links
        assert asked.forms is not None
        await it.visit("/search", form=asked.forms[0])
        assert site.log[-1].method == "POST"


async def test_tables_extract_without_code(site: Site, tmp_path: Path) -> None:
    body = "<h1> A  <b>B</b></h1><ul><li><a href=/1>x</a> 3 EUR<li><a href=/2>y</a> 4 EUR</ul>"
    site.answer("a.test", "/", html(body))
    toml = """
[extract.page]
title = "css:h1"
links = ["css:a::attr(href)"]
prices = ["re:([0-9]) EUR"]
missing = "css:h7"
[extract.row]
each = "css:li"
name = "xpath:.//a/text()"
price = "re:[0-9] EUR"
[extract.other]
match = "/nowhere"
title = "css:h1"
"""
    async with reading(site, tmp_path, None, toml) as it:
        assert items(await it.visit()) == [
            ("page", {"title": "A B", "links": ["/1", "/2"], "prices": ["3", "4"], "missing": None}),
            ("row", {"name": "x", "price": "3 EUR"}),
            ("row", {"name": "y", "price": "4 EUR"}),
        ]


async def test_tables_and_a_coroutine_are_used_together(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = "async def parse(page):\n    return {'a': 1}\n"
    async with reading(site, tmp_path, code, '[extract.t]\ntitle = "css:title"\n') as it:
        assert items(await it.visit()) == [("items", {"a": 1}), ("t", {"title": "Films"})]


@pytest.mark.parametrize(
    ("toml", "error"),
    [
        ('t = "css:a["', "t: 'css:a\\["),
        ('t = "xpath:a["', "Invalid|unfinished|XPath"),
        ('t = "css:a"\neach = "css:]"', "each"),
    ],
)
async def test_a_selector_that_cannot_be_is_told_at_the_start(
    site: Site, tmp_path: Path, toml: str, error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        async with reading(site, tmp_path, None, f"[extract.x]\n{toml}\n"):
            pass


async def test_sent_code_does_not_run_where_nobody_allowed_it(site: Site, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"start this worker with --allow-code to run it, or install a module 'shop'"
    ):
        async with reading(
            site, tmp_path, "raise SystemExit('it ran')\ndef parse(page): ...\n", allow_code=False
        ):
            pass


async def test_without_leave_the_same_module_is_used_where_it_is_importable(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "shop.py").write_text("def parse(page):\n    yield {'from': 'here'}\n")
    monkeypatch.syspath_prepend(here)
    site.answer("a.test", "/", html(LIST))
    async with reading(site, tmp_path, "def parse(page):\n    yield {}\n", allow_code=False) as it:
        assert items(await it.visit()) == [("items", {"from": "here"})]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "import nix_such\ndef parse(page): ...\n",
            r"shop.py line 1: ModuleNotFoundError: No module named 'nix_such'",
        ),
        ("def parse(page): ...\n1 / 0\n", r"shop.py line 2: ZeroDivisionError"),
        ("parse = 3\n", "no function 'parse'"),
    ],
)
async def test_a_module_that_cannot_be_loaded_is_one_line(
    site: Site, tmp_path: Path, code: str, error: str
) -> None:
    with pytest.raises(UsageError, match=error) as told:
        async with reading(site, tmp_path, code):
            pass
    assert "\n" not in str(told.value)


async def test_what_stands_beside_the_file_can_be_imported_by_it(site: Site, tmp_path: Path) -> None:
    (tmp_path / "beside_the_shop.py").write_text("NAME = 'x'\n")
    site.answer("a.test", "/", html(LIST))
    code = "from beside_the_shop import NAME\ndef parse(page):\n    yield {NAME: 1}\n"
    async with reading(site, tmp_path, code) as it:
        assert items(await it.visit()) == [("items", {"x": 1})]


async def test_from_shoal_import_page_is_for_annotations_and_tests(site: Site, tmp_path: Path) -> None:
    site.answer("a.test", "/", html(LIST))
    code = "from shoal import Page\ndef parse(page: Page):\n    yield {'is': isinstance(page, Page)}\n"
    async with reading(site, tmp_path, code) as it:
        assert items(await it.visit()) == [("items", {"is": True})]
