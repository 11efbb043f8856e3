"""Pages made to hurt: what they cost is bounded by what they are, and nothing of them reaches a person raw.

First each through the page path of a worker (inflate, charset, parse, join, record) in this process, its peak of memory
taken from the kernel; then a whole site of them crawled by real processes, and every place looked at in which a
server's text comes before a person: the bar, status, why, tail, the logs, the names of files.
"""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import brotli
import pytest

from common import messages as m
from common import wire
from common.config import CrawlConfig
from common.messages import FROM_WORKER, LeaseId, Request, SessionId
from common.outcome import OUTCOMES
from common.scope import Scope
from tests.support.cluster import check_records, results
from tests.support.site import Answer, Site
from tests.support.terminal import ROOT, Terminal
from worker.exchange import Exchange
from worker.leads import MAX_LINKS
from worker.page import PageMaker
from worker.parse import MAX_TITLE
from worker.sent import SentLinks
from worker.steps import Report

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB: Final = 1 << 20
LIMIT: Final = 16 * MIB
"""--max-bytes by default."""

HTML: Final = "text/html; charset=utf-8"


def bare(body: bytes) -> bytes:
    """DEFLATE without a wrapping."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(body) + stream.flush()


def peak_of(work: Callable[[], Report]) -> tuple[Report, int]:
    """What it gives, and by how many bytes this process was larger meanwhile than before."""

    def status(name: str) -> int:
        text = Path("/proc/self/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
        assert found is not None
        return int(found[1]) << 10

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
    before = status("VmRSS")
    made = work()
    return made, status("VmHWM") - before


def visited(payload: bytes, kind: str = HTML, *, url: str = "https://a.test/", **headers: str) -> Report:
    """A page as a fetcher would hand it over."""
    told = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in told.items())
    came = Exchange(
        url=url,
        method="GET",
        status=200,
        reason="OK",
        http_version="1.1",
        raw_headers=raw,
        headers=told,
        payload=payload,
        truncated=None,
        rejected=False,
        started_at=1_750_000_000.0,
        elapsed=0.1,
        ended=1.0,
        ip="192.0.2.1",
        request_head=b"GET / HTTP/1.1\r\n\r\n",
    )
    pages = PageMaker(CrawlConfig(), Scope("any", None), SentLinks(1 << 12), 1)
    return pages.report(Request(url, 0, 0, 0, 0, url, None, None), came)


def sent(report: Report) -> m.Page:
    """The report as it comes to a shard: what a worker makes of any page must be taken there."""
    page = m.Page(
        number=1,
        session=SessionId(b"s" * 16),
        lease=LeaseId(1),
        ordinal=0,
        age=None,
        retry_after=report.retry_after,
        facts=report.facts,
        links=report.links,
        refused=report.refused,
        head=report.head,
        split=len(report.asked),
        pieces=0,
        items=(),
    )
    decoded, _ = wire.decode([wire.encode(page)], FROM_WORKER)
    assert isinstance(decoded, m.Page)
    return decoded


# ------------------------------------------------------------------------------------------------------------- bombs

ZEROS: Final = bytes(256 * MIB)
BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "gzip": lambda: gzip.compress(ZEROS, 9),
    "deflate": lambda: zlib.compress(ZEROS, 9),
    "deflate ": lambda: bare(ZEROS),
    "br": lambda: brotli.compress(ZEROS, quality=5),
    "zstd": lambda: zstd.compress(ZEROS),
    "gzip, gzip": lambda: gzip.compress(gzip.compress(ZEROS, 9), 9),
    "br, gzip": lambda: gzip.compress(brotli.compress(ZEROS, quality=5)),
    "gzip, zstd, br": lambda: brotli.compress(zstd.compress(gzip.compress(ZEROS, 9))),
    "gzip  ": lambda: gzip.compress(bytes(MIB)) * 256,
}


@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_costs_what_a_page_may_have_whatever_it_unfolds_to(coding: str) -> None:
    payload = BOMBS[coding]()
    assert len(payload) < 2 * MIB
    report, peak = peak_of(lambda: visited(payload, Content_Encoding=coding.strip()))
    page = sent(report)
    assert OUTCOMES[page.facts.outcome].value == "TOO_LARGE"
    assert page.facts.length == LIMIT and page.facts.truncated == "length"
    assert peak < 4 * LIMIT, f"{peak // MIB} MiB"


def test_codings_that_are_stacked_without_end_are_not_undone() -> None:
    payload = b"x" * 1000
    for _ in range(50):
        payload = gzip.compress(payload)
    page = sent(visited(payload, Content_Encoding=", ".join(["gzip"] * 50)))
    assert page.facts.length == len(payload)
    assert "50 content-codings" in (page.facts.error or "")


# ----------------------------------------------------------------------------------------------------------- markup

LINK: Final = b'<a href="/found">x</a>'
PAGES: Final[dict[str, Callable[[], bytes]]] = {
    "100,000 attributes on one element": lambda: (
        b"<p " + b" ".join(b'a%d="v"' % number for number in range(100_000)) + b">" + LINK
    ),
    "100,000 attributes on one link": lambda: (
        b'<a href="/found" ' + b" ".join(b"a%d=v" % number for number in range(100_000)) + b">"
    ),
    "tags that nest without end": lambda: b"<div>" * 500_000 + LINK,
    "a thousand tables in tables": lambda: b"<table><tr><td>" * 50_000 + LINK,
    "formatting that is never closed": lambda: (
        b"".join(b"<p><font a%d>" % number for number in range(30_000)) + LINK
    ),
    "a million siblings": lambda: LINK + b"<br>" * 1_000_000,
    "a text of 16 MiB": lambda: LINK + b"x" * (LIMIT - 100),
    "nothing but NUL": lambda: LINK + b"\0" * 4_000_000,
    "NUL in tags and names": lambda: b"<a\0 hr\0ef=/lost>" + LINK + b"<ti\0tle>a\0b</title>" * 1000,
    "entities without end": lambda: LINK + b"&amp;" * 800_000 + b"&#x1b;" * 100_000,
    "entities in an attribute": lambda: b'<p title="' + b"&lt;&NotEqualTilde;" * 200_000 + b'">' + LINK,
    "names of entities that are none": lambda: LINK + b"&" + b"a" * 3_000_000,
    "a title of megabytes": lambda: LINK + b"<title>" + b"<b>\x1b[31m" * 500_000 + b"</title>",
    "a hundred thousand titles": lambda: LINK + b"<title>x</title>" * 100_000,
    "a meta of megabytes": lambda: LINK + b'<meta name="robots" content="' + b"index," * 600_000 + b'">',
    "a refresh of megabytes": lambda: (
        LINK + b'<meta http-equiv="refresh" content="0; url=/' + b"r" * 3_000_000 + b'">'
    ),
    "hrefs of a megabyte": lambda: (
        LINK + b"".join(b'<a href="/%d%s">' % (number, b"h" * 1_000_000) for number in range(3))
    ),
    "comments that never end": lambda: LINK + b"<!--" + b"<!-- -->--" * 400_000,
    "a script that never ends": lambda: LINK + b"<script><!--<script>" * 200_000,
    "quotes that never end": lambda: LINK + b'<a href="' * 400_000,
    "brackets": lambda: LINK + b"<" * 4_000_000,
    "templates in templates": lambda: LINK + b"<template>" * 300_000,
    "svg in svg": lambda: LINK + b"<svg><math><title>" * 150_000,
    "forms, selects and options": lambda: LINK + b"<select><option><form>" * 150_000,
    "bases by the thousand": lambda: LINK + b'<base href="https://b.test/">' * 100_000,
}


@pytest.mark.parametrize("what", PAGES)
def test_markup_made_to_hurt_is_read_in_bounded_memory(what: str) -> None:
    """A tree of nodes costs up to 50 times the page, of the 4 MiB that are parsed; the scanner takes what would be
    quadratic. The one link is found where it stands before the harm, or the harm is not bounded by 4 MiB."""
    payload = PAGES[what]()
    report, peak = peak_of(lambda: visited(payload))
    page = sent(report)
    assert page.facts.length == min(len(payload), LIMIT)
    assert len(page.facts.title or "") <= MAX_TITLE
    urls = [url for group in page.links for url in group.urls]
    if payload.startswith(LINK):
        assert any(url.endswith("/found") for url in urls)
    assert len(urls) <= MAX_LINKS and all(len(url) <= 2048 for url in urls)
    assert peak < 60 * min(len(payload), 4 * MIB) + 3 * len(payload) + 64 * MIB, f"{peak // MIB} MiB"


def test_a_page_of_a_hundred_thousand_links_and_more_fits_into_one_message() -> None:
    """The first ones are sent, the others counted."""
    payload = b"".join(b'<a href="/%d">' % number for number in range(250_000))
    page = sent(visited(payload))
    (group,) = page.links
    told = dict(page.refused)
    assert len(group.urls) <= MAX_LINKS
    assert len(group.urls) + told.get("too_many", 0) > MAX_LINKS


def test_a_depth_at_the_end_of_its_number_does_not_get_the_worker_thrown_out() -> None:
    """A chain of next pages without end, two days long: its links must still be a message that a shard takes."""
    url = "https://a.test/"
    came = visited(LINK)
    assert came.links
    pages = PageMaker(CrawlConfig(), Scope("any", None), SentLinks(1 << 12), 1)
    exchange = Exchange(
        *(
            url,
            "GET",
            200,
            "OK",
            "1.1",
            (),
            {"Content-Type": HTML},
            LINK,
            None,
            False,
            0.0,
            0.1,
            1.0,
            None,
            b"",
        ),
    )
    report = pages.report(Request(url, 65_535, 0, 0, 0, url, None, None), exchange)
    sent(report)


# ---------------------------------------------------------------------------------------------- charsets, control marks

EVIL: Final = "\x1b]0;PWNED\x07\x1b[2J\x9b31mPWNED\x85\u202ePWNED\u2066\x7f\r\nPWNED"
_RAW: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What must not come to a terminal from a server. Tabs and line feeds are looked at as whole lines."""


@pytest.mark.parametrize(
    "charset",
    [
        "utf-16le",
        "utf-7",
        "iso-2022-jp",
        "hz-gb-2312",
        "x-user-defined",
        "big5",
        "\x1b[31m",
        "../../x",
        "a" * 5000,
    ],
)
def test_a_charset_that_lies_gives_a_page_all_the_same(charset: str) -> None:
    for payload in (LINK, LINK * 10_000, bytes(range(256)) * 4000, "ä€\U0001f600".encode("utf-16") * 1000):
        page = sent(visited(payload, f"text/html; charset={charset}"))
        assert page.facts.length == len(payload)
        assert _RAW.search(page.facts.charset or "") is None
        assert page.facts.content_type == "text/html"


def test_a_title_is_text_for_people() -> None:
    page = sent(visited(f"<title>{EVIL}&#27;[1m&#x9b;1m&#8238;</title>".encode()))
    title = page.facts.title or ""
    assert "PWNED" in title and _RAW.search(title) is None and "\n" not in title


# ------------------------------------------------------------------------------------------------- a site of all that


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, str, Site]]:
    """A hostile site, crawled by real processes at a terminal of its own: what stood on the screen."""
    folder = tmp_path_factory.mktemp("hostile")
    with Site() as site, Terminal(folder, site, delay=0.0) as terminal:
        evil = EVIL.encode()
        lines = evil.replace(b"\r\n", b" ")
        links = [f"/{name}" for name in ("bomb", "title", "headers", "phrase", "hop", "junk", "type", "half")]
        links += [
            "/../../../../etc/passwd",
            "/%2e%2e/%2e%2e/x",
            "/a/..%2f..%2fb",
            "/%1b%5b31mPWNED",
            "/..\\..\\c",
        ]
        head = "".join(f'<a href="{link}">x</a>' for link in links)
        other = '<a href="http://..:1/"></a><a href="http://.../x"></a><a href="http://a%2f..%2fb/"></a>'
        site.answer("evil.test", "/", Answer(200, {"Content-Type": HTML}, (head + other).encode()))
        bomb = gzip.compress(bytes(64 * MIB), 9)
        site.answer(
            "evil.test", "/bomb", Answer(200, {"Content-Type": HTML, "Content-Encoding": "gzip"}, bomb)
        )
        site.answer(
            "evil.test", "/title", Answer(200, {"Content-Type": HTML}, b"<title>" + evil + b"</title>")
        )

        def said(name: str, *rows: bytes, status: bytes = b"200 OK", body: bytes = b"<p>x") -> None:
            told = b"".join(row + b"\r\n" for row in rows)
            raw = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, told, len(body), body)
            site.answer("evil.test", name, Answer(raw=raw))

        c1 = "\u009b31mPWNED\u202e".encode()
        said(
            "/headers",
            b"ETag: " + c1,
            b"Last-Modified: " + c1,
            b"Content-Type: text/html",
            b"X-" + c1 + b": 1",
        )
        said("/phrase", b"Content-Type: text/html", status=b"500 " + c1)
        said("/hop", b"Location: /" + c1, status=b"302 Found")
        said("/junk", lines, b": " + lines, status=b"200 " + lines)
        said("/type", b"Content-Type: " + c1 + b"/" + c1 + b"; charset=" + c1, b"Content-Encoding: " + c1)
        said("/half", b"Content-Type: text/html", status=c1)
        site.robots("evil.test", "User-agent: *\nDisallow: /" + EVIL)
        ended, screen = at_a_terminal(
            folder,
            *("coord", "crawl", site.url("evil.test"), "--out", "c", "--procs", "1", "-vv", "--progress"),
            *(option for option in terminal.network if option != "--no-progress"),
        )
        assert ended == 0, screen
        yield terminal, screen, site


def at_a_terminal(folder: Path, name: str, *args: str) -> tuple[int, str]:
    """A command whose output and errors are a terminal: its exit code and all that it wrote there."""
    main = ROOT / {"coord": "coordinator", "worker": "worker"}[name] / "__main__.py"
    ours, theirs = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_")}
    child = subprocess.Popen(
        [sys.executable, str(main), *args],
        cwd=folder,
        env=clean | {"TERM": "xterm-256color", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # its last writer has gone
            break
        if not part:
            break
        written += part
    os.close(ours)
    return child.wait(60), written.decode("utf-8", "replace")


_OWN_SEQUENCE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What a progress bar writes; a server's begins the same, so it must not be near its mark."""


def harmless(text: str) -> bool:
    """No control or mark of a server: ours are cut out, then nothing may be left but tabs and ends of lines."""
    assert re.search("(?:\x1b[^A-Za-z]{0,8}|\x9b[^A-Za-z]{0,8}m?|\u202e|\x07|\x85)PWNED", text) is None
    return _RAW.search(_OWN_SEQUENCE.sub("", text).replace("\r", "")) is None


@pytest.mark.slow
def test_what_stands_on_the_screen_of_a_crawl_is_harmless(crawled: tuple[Terminal, str, Site]) -> None:
    _, screen, _ = crawled
    assert harmless(screen)
    assert "Finished" in screen


@pytest.mark.slow
def test_status_why_and_tail_are_harmless_at_a_terminal(crawled: tuple[Terminal, str, Site]) -> None:
    terminal, _, site = crawled
    pages = results(terminal.folder / "c")
    told = at_a_terminal(terminal.folder, "coord", "tail", "c")
    assert told[0] == 0 and harmless(told[1])
    lines = [json.loads(line) for line in told[1].splitlines()]
    assert {line["url"] for line in lines} == set(pages), "and it is the same JSON"
    assert all(line == pages[line["url"]] for line in lines)
    assert any("PWNED" in json.dumps(line) for line in lines), "the site's words are in there"
    for args in (["status", "c"], ["audit", "c"]):
        code, shown = at_a_terminal(terminal.folder, "coord", *args)
        assert code == 0 and harmless(shown), shown
    for url in (*pages, site.url("evil.test", "/\x1b[31mPWNED"), "http://\x1b]0;PWNED\x07/"):
        _, shown = at_a_terminal(terminal.folder, "coord", "why", "c", url)
        assert harmless(shown), shown


@pytest.mark.slow
def test_logs_are_harmless_to_whoever_reads_them(crawled: tuple[Terminal, str, Site]) -> None:
    terminal, _, _ = crawled
    logs = list((terminal.folder / "c" / "logs").iterdir())
    assert logs
    for path in logs:
        for line in path.read_text().splitlines():
            assert _RAW.search(line) is None, (path.name, line)


@pytest.mark.slow
def test_no_name_of_a_file_comes_from_the_web(crawled: tuple[Terminal, str, Site]) -> None:
    terminal, _, _ = crawled
    out = terminal.folder / "c"
    kept = re.compile(
        r"(?:FORMAT|crawl\.toml|summary\.json|coord\.json|[a-z]+\.(?:key|lock)|lock"
        r"|warc/[A-Za-z0-9_.-]+\.warc\.gz|pages/pages-\d+-\d+\.jsonl|seeds/[A-Za-z0-9_.-]+\.jsonl"
        r"|logs/[a-z0-9.-]+|frontier/.*|\.[a-z.]+)"
    )
    names = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()]
    assert [name for name in names if kept.fullmatch(name) is None] == []
    assert all("evil" not in name and ".." not in name and "PWNED" not in name for name in names)
    beside = {path.name for path in terminal.folder.iterdir()}
    assert beside == {"c", "hosts"}, "nothing was written beside DIR"


@pytest.mark.slow
def test_all_of_it_is_recorded(crawled: tuple[Terminal, str, Site]) -> None:
    """Bounded and harmless, and in the books: every address that was asked for has its line, every record is whole."""
    terminal, _, site = crawled
    pages = results(terminal.folder / "c")
    check_records(terminal.folder / "c", pages)
    assert pages[site.url("evil.test", "/bomb")]["outcome"] == "TOO_LARGE"
    assert site.url("evil.test", "/etc/passwd") in pages
    assert {site.url(hit.host, hit.target) for hit in site.log if hit.target != "/robots.txt"} == set(pages)
