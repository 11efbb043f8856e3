"""What a page maker tells of real answers: cookies, redirects, sitemaps, what is stored; and one hop of robots.txt."""

from __future__ import annotations

import gzip
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from warcio.archiveiterator import ArchiveIterator

from common.config import CrawlConfig
from common.hostrules import HostRule
from common.messages import SITEMAP, Flag, Form, Request
from common.outcome import OUTCOMES, Outcome
from common.scope import HeldSites, Scope
from common.url import CanonicalURL
from tests.support.site import Answer, Site, html
from worker.exchange import Exchange, NotSent
from worker.fetcher import Fetcher, FetcherSettings
from worker.outgoing import GET, is_sitemap, method_of
from worker.page import PageMaker
from worker.robotsfetch import fetch_hop
from worker.sent import SentLinks
from worker.steps import Report, RobotsFetched
from worker.visit import FetchRobots

NOW = 1_750_000_000.0
XML = {"Content-Type": "application/xml"}


class Browser:
    """A fetcher and a page maker, as a worker process has them."""

    def __init__(self, site: Site, fetcher: Fetcher, config: CrawlConfig, scope: Scope) -> None:
        self.site = site
        self.config = config
        self.fetcher = fetcher
        self.sent = SentLinks(1 << 12)
        self.pages = PageMaker(config, scope, self.sent, 1)

    def asked(self, host: str, target: str = "/", **fields: object) -> Request:
        url = self.site.url(host, target)
        return Request(url, 0, 0, 0, 0, url, None, None)._replace(**fields)  # type: ignore[arg-type]

    async def visit(self, request: Request, jar: bytes | None = None) -> Report:
        came = await self.fetcher.fetch(
            request.url,
            may_write=lambda: True,
            method=method_of(request.form),
            headers=self.pages.headers_for(request, jar, NOW),
            body=None if request.form is None else request.form.body,
            max_bytes=self.pages.max_bytes,
            accept_body=None if is_sitemap(request) else self.pages.accept_body,
        )
        assert isinstance(came, Exchange), came
        # Cookies are told by the clock of the answer; the tests' own stands still.
        return self.pages.report(request, replace(came, started_at=NOW), jar)

    async def robots(self, host: str, target: str = "/robots.txt", *, hops: int = 0) -> RobotsFetched:
        step = FetchRobots(1, 1, self.site.url(host, "")[:-1], self.site.url(host, target), hops, 0.0)
        done, _ = await fetch_hop(
            step, fetcher=self.fetcher, pages=self.pages, config=self.config, may_write=lambda: True
        )
        return done


@asynccontextmanager
async def browsing(
    site: Site, config: CrawlConfig | None = None, *, hosts: frozenset[str] | None = None
) -> AsyncIterator[Browser]:
    """`hosts`: the scope; None: any."""
    settings = FetcherSettings(
        user_agent="Shoal",
        allow_private=("127.0.0.0/8",),
        hosts=dict.fromkeys(("a.test", "b.test", "cdn.test"), ("127.0.0.1",)),
    )
    fetcher = Fetcher(settings)
    await fetcher.start()
    scope = Scope("any", None) if hosts is None else Scope("host", HeldSites(hosts))
    try:
        yield Browser(site, fetcher, config or CrawlConfig(), scope)
    finally:
        await fetcher.close()


def outcome(report: Report) -> tuple[Outcome, str | None]:
    return OUTCOMES[report.facts.outcome], report.facts.reason


def cookie_sent(site: Site) -> str | None:
    return site.log[-1].headers.get("cookie")


# ------------------------------------------------------------------------------------------------------- cookies


async def test_a_cookie_goes_back_to_its_host_and_is_told_only_when_it_changed(site: Site) -> None:
    site.answer("a.test", "/", Answer(200, {"Set-Cookie": "sid=1; Path=/"}))
    site.answer("a.test", "/2", Answer(200, {"Set-Cookie": "sid=1; Path=/"}))
    async with browsing(site, CrawlConfig(cookies=True)) as browser:
        jar = (await browser.visit(browser.asked("a.test"))).cookies
        assert jar is not None
        assert cookie_sent(site) is None
        assert (await browser.visit(browser.asked("a.test", "/2"), jar)).cookies is None
        assert cookie_sent(site) == "sid=1"
        assert (await browser.visit(browser.asked("a.test", "/3"), jar)).cookies is None


async def test_without_the_option_no_cookie_is_kept_or_sent(site: Site) -> None:
    site.answer("a.test", "/", Answer(200, {"Set-Cookie": "sid=1"}))
    async with browsing(site, CrawlConfig(cookies=True)) as browser:
        jar = (await browser.visit(browser.asked("a.test"))).cookies
    async with browsing(site) as browser:
        assert (await browser.visit(browser.asked("a.test"), jar)).cookies is None
        assert cookie_sent(site) is None


async def test_every_set_cookie_of_an_answer_counts_whatever_its_status(site: Site) -> None:
    raw = b"HTTP/1.1 404 No\r\nSet-Cookie: a=1\r\nset-cookie: b=\xfc\r\nContent-Length: 0\r\n\r\n"
    site.answer("a.test", "/", Answer(raw=raw))
    async with browsing(site, CrawlConfig(cookies=True)) as browser:
        jar = (await browser.visit(browser.asked("a.test"))).cookies
        await browser.visit(browser.asked("a.test", "/2"), jar)
    assert (cookie_sent(site) or "").encode("latin-1") == b"a=1; b=\xfc"


async def test_a_redirect_to_itself_with_a_cookie_is_fetched_again_with_it(site: Site) -> None:
    site.answer("a.test", "/", Answer(302, {"Location": "/#top", "Set-Cookie": "seen=1"}), html("in"))
    async with browsing(site, CrawlConfig(cookies=True)) as browser:
        first = await browser.visit(browser.asked("a.test"))
        assert (first.again, first.links, first.facts.reason) == (True, (), "self")
        second = await browser.visit(browser.asked("a.test"), first.cookies)
        assert (second.again, outcome(second)) == (False, (Outcome.OK, None))
    assert cookie_sent(site) == "seen=1"


# ----------------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirects_target_is_a_plain_link_with_a_hop_more(site: Site, status: int) -> None:
    site.hop("a.test", "/", "/next", status=status)
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", hops=3, flags=int(Flag.SEED)))
    (group,) = report.links
    assert (group.urls, group.hops, group.depth, group.flags, group.forms) == (
        (site.url("a.test", "/next"),),
        4,
        0,
        Flag.SEED,
        None,
    )
    assert len(report.fingerprints) == 1


async def test_a_post_to_itself_that_turns_into_a_get_is_another_request(site: Site) -> None:
    site.hop("a.test", "/form", "/form", status=303)
    form = GET._replace(method="POST", body=b"a=1")
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", "/form", form=form))
        assert not report.again
        assert report.links[0].forms is None
        site.hop("a.test", "/form", "/form", status=307)
        assert (await browser.visit(browser.asked("a.test", "/form", form=form))).again
    assert [hit.method for hit in site.log] == ["POST", "POST"]


async def test_a_form_that_a_redirect_keeps_never_counts_as_its_url_sent(site: Site) -> None:
    site.hop("a.test", "/form", "/there", status=308)
    form = GET._replace(method="POST", body=b"a=1")
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", "/form", form=form))
    assert report.links[0].forms == (form,)
    assert report.fingerprints == ()


async def test_a_page_that_did_not_change_is_not_modified_and_keeps_its_head(site: Site) -> None:
    site.answer("a.test", "/", Answer(304, {"ETag": '"v1"'}))
    form = GET._replace(round=1, headers=(("If-None-Match", '"v1"'),))
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", form=form))
    assert site.log[-1].headers["if-none-match"] == '"v1"'
    assert outcome(report) == (Outcome.NOT_MODIFIED, None)
    assert report.facts.etag == '"v1"'
    assert report.head.startswith(b"HTTP/1.1 304 ")
    assert report.links == ()


async def test_a_recrawled_pages_links_are_plain(site: Site) -> None:
    site.page("a.test", "/", links=["/1", "/2"])
    form = GET._replace(round=4, headers=(("If-None-Match", '"v0"'),))
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", form=form))
    assert report.links[0].forms is None
    assert len(report.links[0].urls) == 2


async def test_what_the_crawl_normalises_it_normalises_in_links_and_redirects(site: Site) -> None:
    site.page("a.test", "/", links=["/x?b=2&a=1&utm_source=mail"])
    site.hop("a.test", "/hop", "/y?b=2&a=1")
    config = CrawlConfig(sort_query=True, strip_tracking=("usual",))
    async with browsing(site, config) as browser:
        found = (await browser.visit(browser.asked("a.test"))).links[0].urls
        hop = await browser.visit(browser.asked("a.test", "/hop"))
    assert found == (site.url("a.test", "/x?a=1&b=2"),)
    assert hop.facts.redirect_to == hop.links[0].urls[0] == site.url("a.test", "/y?a=1&b=2")


# ------------------------------------------------------------------------------------------------ links and text


async def test_links_of_the_head_are_relative_to_the_page_itself(site: Site) -> None:
    body = b'<base href="/deep/"><a href="one">1</a><a href="two">2</a>'
    head = {"Content-Type": "text/html", "Link": '<one>; rel=next, </deep/two>; rel="canonical"'}
    site.answer("a.test", "/dir/x", Answer(200, head, body))
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", "/dir/x"))
    assert report.links[0].urls == tuple(
        site.url("a.test", at) for at in ("/deep/one", "/deep/two", "/dir/one")
    )


WORDS = " ".join(f"{first}{second}" for first in "abcdefgh" for second in ("one", "two", "six", "ten"))


@pytest.mark.parametrize("kind", ["application/json", "application/pdf", "text/plain"])
async def test_the_head_of_what_is_no_page_leads_on_and_is_obeyed_all_the_same(site: Site, kind: str) -> None:
    head = {"Content-Type": kind, "Link": '</2>; rel="next"', "Refresh": "5; url=/3"}
    site.answer("a.test", "/", Answer(200, head, b"{}"))
    site.answer("a.test", "/quiet", Answer(200, head | {"X-Robots-Tag": "noindex, nofollow"}, b"{}"))
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test"))
        assert [url for group in report.links for url in group.urls] == [
            site.url("a.test", "/2"),
            site.url("a.test", "/3"),
        ]
        assert not report.facts.noindex
        quiet = await browser.visit(browser.asked("a.test", "/quiet"))
        assert (quiet.links, quiet.facts.noindex) == ((), True)


async def test_a_location_in_latin_1_is_asked_for_as_it_came(site: Site) -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\r\nContent-Length: 0\r\n\r\n"
    site.answer("a.test", "/", Answer(raw=raw))
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test"))
        assert report.facts.redirect_to == site.url("a.test", "/caf%E9")


async def test_a_page_too_long_to_be_parsed_whole_says_so(site: Site) -> None:
    long = b"<a href=/1>" + b"<!--" + b"x" * (4 << 20) + b"-->" + b"<a href=/2>"
    site.answer("a.test", "/", Answer(200, {"Content-Type": "text/html"}, long))
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test"))
        assert outcome(report) == (Outcome.OK, "parsed_in_part")
        assert [url for group in report.links for url in group.urls] == [site.url("a.test", "/1")]


async def test_a_page_has_a_simhash_only_when_asked_for(site: Site) -> None:
    site.page("a.test", "/", text=WORDS)
    site.page("a.test", "/same", text=WORDS.upper(), title="another")
    site.answer("a.test", "/plain", Answer(200, {"Content-Type": "text/plain"}, WORDS.encode()))
    site.page("a.test", "/short", text="too few words")
    for config in (CrawlConfig(simhash=True), CrawlConfig(near_duplicates=3)):
        async with browsing(site, config) as browser:
            first, again, same, plain, short = [
                (await browser.visit(browser.asked("a.test", target))).facts.simhash
                for target in ("/", "/", "/same", "/plain", "/short")
            ]
        assert first is not None
        assert first == again == same == plain
        assert short is None
    async with browsing(site) as browser:
        assert (await browser.visit(browser.asked("a.test"))).facts.simhash is None


# -------------------------------------------------------------------------------------------------- what is stored


async def test_a_visit_for_links_only_leaves_links_and_no_record(site: Site) -> None:
    site.page("a.test", "/", links=["/1"])
    async with browsing(site) as browser:
        report = await browser.visit(browser.asked("a.test", flags=int(Flag.LINKS_ONLY)))
    assert report.links[0].urls == (site.url("a.test", "/1"),)
    assert (report.asked, report.answered, report.head) == (b"", b"", b"")


async def test_secret_headers_are_sent_and_masked_in_the_record(site: Site) -> None:
    config = CrawlConfig(cookies=True, host=(HostRule("a.*", header=("Authorization: Basic c2VjcmV0",)),))
    site.answer("a.test", "/", Answer(200, {"Set-Cookie": "sid=hidden"}), html("x"))
    async with browsing(site, config) as browser:
        jar = (await browser.visit(browser.asked("a.test"))).cookies
        report = await browser.visit(browser.asked("a.test"), jar)
    assert site.log[-1].headers["authorization"] == "Basic c2VjcmV0"
    assert cookie_sent(site) == "sid=hidden"
    request = gzip.decompress(report.asked)
    assert b"c2VjcmV0" not in request
    assert b"hidden" not in request


# ------------------------------------------------------------------------------------------------------- sitemaps


def urlset(*urls: str, lastmod: str = "") -> bytes:
    dated = f"<lastmod>{lastmod}</lastmod>" if lastmod else ""
    listed = "".join(f"<url><loc>{url}</loc>{dated}</url>" for url in urls)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</urlset>'.encode()


def index(*urls: str) -> bytes:
    listed = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return (
        f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</sitemapindex>'.encode()
    )


def of_robots(browser: Browser, target: str, host: str = "a.test", *, by: str = "a.test") -> Request:
    referrer = browser.site.url(by, "/robots.txt")
    return browser.asked(host, target, form=Form(SITEMAP, (), None, None, 0, 0, None), referrer=referrer)


async def test_a_sitemap_becomes_links_with_dates_and_a_record(site: Site) -> None:
    body = urlset(site.url("a.test", "/1"), site.url("b.test", "/2"), lastmod="2025-06-15")
    site.answer("a.test", "/s.xml.gz", Answer(200, {"Content-Type": "application/gzip"}, gzip.compress(body)))
    async with browsing(site) as browser:
        report = await browser.visit(of_robots(browser, "/s.xml.gz"))
    assert site.log[-1].method == "GET"
    (group,) = report.links
    assert (group.urls, group.depth, group.hops) == ((site.url("a.test", "/1"),), 1, 0)
    assert group.lastmods == (1_749_945_600,)
    assert outcome(report) == (Outcome.OK, None)
    assert report.refused == (("sitemap_host", 1),)
    records = ArchiveIterator(io.BytesIO(report.answered), check_digests="raise")
    kept = [(record.rec_type, gzip.decompress(record.content_stream().read())) for record in records]
    assert kept == [("response", body)]


async def test_a_sitemap_in_a_content_coding_is_read_and_not_sent_twice(site: Site) -> None:
    headers = XML | {"Content-Encoding": "gzip"}
    site.answer("a.test", "/s.xml", Answer(200, headers, gzip.compress(urlset(site.url("a.test", "/1")))))
    async with browsing(site) as browser:
        request = of_robots(browser, "/s.xml")
        report = await browser.visit(request)
        assert len(report.links) == 1
        for known in report.fingerprints:
            browser.sent.enter(known, report.depth)
        assert (await browser.visit(request)).links == ()


async def test_an_index_leads_to_sitemaps_that_keep_who_named_them(site: Site) -> None:
    site.answer(
        "cdn.test", "/i", Answer(200, XML, index(site.url("cdn.test", "/1"), site.url("b.test", "/2")))
    )
    site.answer(
        "cdn.test", "/1", Answer(200, XML, urlset(site.url("a.test", "/p"), site.url("b.test", "/p")))
    )
    async with browsing(site) as browser:
        report = await browser.visit(of_robots(browser, "/i", "cdn.test"))
        (group,) = report.links
        assert group.urls == (site.url("cdn.test", "/1"),)
        assert group.forms is not None
        child = browser.asked("cdn.test", "/1", referrer=group.referrer, form=group.forms[0], hops=group.hops)
        pages = await browser.visit(child)
    assert report.fingerprints == ()
    assert pages.links[0].urls == (site.url("a.test", "/p"),)


async def test_a_sitemap_that_moved_is_still_one(site: Site) -> None:
    site.hop("a.test", "/old.xml", "/new.xml", status=301)
    site.hop("a.test", "/away.xml", ("b.test", "/s.xml"))
    site.hop("a.test", "/loop.xml", "/loop.xml")
    async with browsing(site, hosts=frozenset({"a.test", "b.test"})) as browser:
        request = of_robots(browser, "/old.xml")
        (group,) = (await browser.visit(request)).links
        away = await browser.visit(of_robots(browser, "/away.xml"))
        loop = await browser.visit(of_robots(browser, "/loop.xml"))
    assert (group.forms, group.referrer, group.hops) == ((request.form,), request.referrer, 1)
    assert (away.links, away.refused) == ((), (("sitemap_host", 1),))
    assert loop.again


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (html("<p>no such page</p>"), (Outcome.OK, "not_a_sitemap")),
        (Answer(200, XML, b""), (Outcome.OK, "not_a_sitemap")),
        (Answer(404, XML, urlset("http://a.test/1")), (Outcome.CLIENT_ERROR, None)),
        (Answer(503), (Outcome.SERVER_ERROR, None)),
    ],
)
async def test_what_is_no_sitemap_leads_nowhere_and_says_so(
    site: Site, answer: Answer, said: tuple[Outcome, str | None]
) -> None:
    site.answer("a.test", "/s.xml", answer)
    async with browsing(site) as browser:
        report = await browser.visit(of_robots(browser, "/s.xml"))
    assert outcome(report) == said
    assert report.links == ()


async def test_a_broken_sitemap_keeps_what_came_before_the_break(site: Site) -> None:
    whole = urlset(site.url("a.test", "/1"), site.url("a.test", "/2"))
    site.answer("a.test", "/s.xml", Answer(200, XML, whole[:-30]))
    async with browsing(site) as browser:
        report = await browser.visit(of_robots(browser, "/s.xml"))
    assert site.url("a.test", "/1") in report.links[0].urls
    assert outcome(report) == (Outcome.OK, "broken_sitemap")
    assert report.facts.error


async def test_type_rules_are_about_pages_not_about_sitemaps(site: Site) -> None:
    site.answer("a.test", "/s.xml", Answer(200, XML, urlset(site.url("a.test", "/1"))))
    async with browsing(site, CrawlConfig(accept=("text/html",))) as browser:
        assert len((await browser.visit(of_robots(browser, "/s.xml"))).links) == 1
        assert outcome(await browser.visit(browser.asked("a.test", "/s.xml")))[0] is Outcome.TYPE_REJECTED


async def test_the_depth_limit_holds_for_what_a_sitemap_lists(site: Site) -> None:
    site.answer("a.test", "/s.xml", Answer(200, XML, urlset(site.url("a.test", "/1"))))
    async with browsing(site, CrawlConfig(max_depth=0)) as browser:
        report = await browser.visit(of_robots(browser, "/s.xml"))
    assert (report.links, report.refused) == ((), (("depth", 1),))


# ------------------------------------------------------------------------------------------------------ robots.txt


async def test_a_hop_of_robots_txt_is_told_with_its_record_and_address(site: Site) -> None:
    site.robots("a.test", "User-agent: *\nDisallow: /x\n")
    async with browsing(site, CrawlConfig(host=(HostRule("a.test", header=("X-Token: 1",)),))) as browser:
        done = await browser.robots("a.test")
    assert (done.verdict, done.status, done.ip, done.sent) == ("rules", 200, "127.0.0.1", True)
    assert done.text == b"User-agent: *\nDisallow: /x\n"
    kinds = [record.rec_type for record in ArchiveIterator(io.BytesIO(done.record))]
    assert kinds == ["request", "response"]
    assert site.log[-1].headers["x-token"] == "1"


@pytest.mark.parametrize(
    ("answer", "hops", "verdict", "target"),
    [
        (Answer(301, {"Location": "/other"}), 0, "follow", ("a.test", "/other")),
        (Answer(302, {"Location": "http://b.test/robots.txt"}), 4, "follow", None),
        (Answer(302, {"Location": "/other"}), 5, "allow", None),
        (Answer(302, {"Location": "ftp://b.test/"}), 0, "allow", None),
        (Answer(302), 0, "allow", None),
        (Answer(404), 0, "allow", None),
        (Answer(401), 0, "allow", None),
        (Answer(429), 0, "ROBOTS_UNREACHABLE", None),
        (Answer(503), 2, "ROBOTS_UNREACHABLE", None),
    ],
)
async def test_what_an_answer_for_robots_txt_means(
    site: Site, answer: Answer, hops: int, verdict: str, target: tuple[str, str] | None
) -> None:
    site.answer("a.test", "/robots.txt", answer)
    async with browsing(site) as browser:
        done = await browser.robots("a.test", hops=hops)
    assert (done.verdict, done.hops, done.text) == (verdict, hops, None)
    if target is not None:
        assert done.target == site.url(*target)
    assert (done.target is not None) is (verdict == "follow")
    assert (done.error is not None) is (verdict == "ROBOTS_UNREACHABLE")


async def test_a_host_that_is_not_there_is_no_robots_txt_to_wait_for(site: Site) -> None:
    async with browsing(site) as browser:
        site.stop()
        done = await browser.robots("a.test")
    assert (done.verdict, done.sent, done.network, done.record) == ("REFUSED", True, False, b"")


async def test_a_hop_that_was_never_written_is_told_as_such(site: Site) -> None:
    async with browsing(site) as browser:
        url = CanonicalURL(site.url("a.test", "/robots.txt"))
        step = FetchRobots(3, 9, url.removesuffix("/robots.txt"), url, 0, 0.0)
        done, came = await fetch_hop(
            step,
            fetcher=browser.fetcher,
            pages=browser.pages,
            config=browser.config,
            may_write=lambda: False,
        )
    assert isinstance(came, NotSent)
    assert (done.lease, done.sent, done.text) == (3, False, None)
    assert site.log == []
