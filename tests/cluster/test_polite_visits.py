"""What a visit carries and where it leads: cookies, headers, sitemaps and redirects, judged by the sites' own log."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator

from tests.support.cluster import results
from tests.support.site import Answer, Hit, Place, Site, html
from tests.support.terminal import Ended, Terminal

SECRET = "Basic bm9ib2R5OmtuZXc="
XML = {"Content-Type": "application/xml"}
PAGES = [f"/{number}" for number in range(1, 7)]
"""Of a.test; behind its front page."""


def urlset(*urls: str) -> bytes:
    listed = "".join(f"<url><loc>{url}</loc><lastmod>2025-06-15</lastmod></url>" for url in urls)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</urlset>'.encode()


def index(*urls: str) -> bytes:
    listed = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return (
        f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</sitemapindex>'.encode()
    )


class Tour:
    """One crawl of a.test by two processes, everything of it wanted, and what it left."""

    def __init__(self, site: Site, out: Path, ended: Ended) -> None:
        self.site = site
        self.out = out
        self.ended = ended
        self.pages = results(out)

    def page(self, host: str, target: str) -> dict[str, Any]:
        return self.pages[self.site.url(host, target)]

    def hits(self, host: str) -> list[Hit]:
        return [hit for hit in self.site.log if hit.host == host]


def furnish(site: Site) -> None:
    """The web of the tour."""
    links = [*PAGES, "http://b.test/", "/door", "/loop"]
    front = "".join(f'<a href="{site.url("b.test") if "b.test" in link else link}">x</a>' for link in links)
    site.answer(
        "a.test", "/", Answer(200, {"Content-Type": "text/html", "Set-Cookie": "sid=1"}, front.encode())
    )
    for target in PAGES:
        site.page("a.test", target)
    site.answer("a.test", "/door", Answer(302, {"Location": "/door", "Set-Cookie": "in=1"}), html("inside"))
    site.answer("a.test", "/loop", Answer(302, {"Location": "/loop#again"}))
    site.page("b.test", "/")
    named = [site.url("a.test", "/index.xml"), site.url("cdn.test", "/of-a.xml"), "/list.txt", "/long.xml"]
    site.robots("a.test", "User-agent: *\nDisallow: /no\n" + "".join(f"Sitemap: {url}\n" for url in named))
    children = [
        site.url("a.test", "/moved.xml"),
        site.url("a.test", "/two.xml.gz"),
        site.url("b.test", "/no.xml"),
    ]
    site.answer("a.test", "/index.xml", Answer(200, XML, index(*children)))
    site.hop("a.test", "/moved.xml", "/one.xml", status=301)
    site.answer("a.test", "/one.xml", Answer(200, XML, urlset(site.url("a.test", "/hidden-1"))))
    two = urlset(site.url("a.test", "/hidden-2"), site.url("a.test", "/no/2"), site.url("b.test", "/foreign"))
    site.answer(
        "a.test", "/two.xml.gz", Answer(200, {"Content-Type": "application/gzip"}, gzip.compress(two))
    )
    # So long that it is read beside the loop.
    many = [site.url("a.test", f"/no/{number}") for number in range(700)]
    site.answer("a.test", "/long.xml", Answer(200, XML, urlset(*many, site.url("a.test", "/long"))))
    site.page("a.test", "/long")
    of_a = urlset(
        site.url("a.test", "/hidden-3"), site.url("cdn.test", "/own"), site.url("b.test", "/foreign")
    )
    site.answer("cdn.test", "/of-a.xml", Answer(200, XML, of_a))
    site.answer(
        "a.test",
        "/list.txt",
        Answer(200, {"Content-Type": "text/plain"}, site.url("a.test", "/hidden-4").encode()),
    )
    for target in ("/hidden-1", "/hidden-2", "/hidden-3", "/hidden-4"):
        site.page("a.test", target)
    site.page("cdn.test", "/own")


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    with Site() as site, Terminal(tmp_path_factory.mktemp("visits"), site) as terminal:
        furnish(site)
        (terminal.folder / "crawl.toml").write_text(
            f'[[host]]\nmatch = "a.test"\nheader = ["Authorization: {SECRET}", "X-Tour: yes"]\n'
        )
        options = ["--cookies", "--scope", "any", "--procs", "2", "--config", "crawl.toml"]
        ended = terminal.coord("crawl", site.url("a.test"), "--out", "c", *terminal.network, *options)
        assert ended.code == 0, ended.said
        yield Tour(site, terminal.folder / "c", ended)


SITEMAPS: set[Place] = {
    ("a.test", "/index.xml"),
    ("a.test", "/moved.xml"),
    ("a.test", "/one.xml"),
    ("a.test", "/two.xml.gz"),
    ("a.test", "/list.txt"),
    ("a.test", "/long.xml"),
    ("cdn.test", "/of-a.xml"),
}


def test_what_sitemaps_list_is_found_and_nothing_of_a_host_they_do_not_speak_for(tour: Tour) -> None:
    found = {("a.test", f"/hidden-{number}") for number in range(1, 5)} | {
        ("cdn.test", "/own"),
        ("a.test", "/long"),
    }
    linked = {("a.test", target) for target in ("/", "/door", "/loop", *PAGES)} | {("b.test", "/")}
    assert tour.site.fetched() == found | linked | SITEMAPS
    for place in found:
        assert (tour.page(*place)["outcome"], tour.page(*place)["depth"]) == ("OK", 1)
    assert tour.page("a.test", "/no/2")["outcome"] == "ROBOTS_DENIED"


def test_a_sitemap_has_a_record_and_no_line(tour: Tour) -> None:
    stored = set()
    for path in sorted((tour.out / "warc").glob("*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                if record.rec_type == "response":
                    stored.add(record.rec_headers.get_header("WARC-Target-URI"))
    for place in SITEMAPS:
        assert tour.site.url(*place) in stored
        assert tour.site.url(*place) not in tour.pages


def test_every_sitemap_is_fetched_once(tour: Tour) -> None:
    asked = [(hit.host, hit.target) for hit in tour.site.log if (hit.host, hit.target) in SITEMAPS]
    assert sorted(asked) == sorted(SITEMAPS)


def test_a_cookie_comes_back_with_every_later_page_of_its_host_and_of_no_other(tour: Tour) -> None:
    hits = tour.hits("a.test")
    first = next(number for number, hit in enumerate(hits) if hit.target == "/")
    later = [hit for hit in hits[first + 1 :] if hit.target != "/robots.txt"]
    assert len(later) >= len(PAGES)
    assert all("sid=1" in hit.headers.get("cookie", "") for hit in later)
    assert not any("cookie" in hit.headers for host in ("b.test", "cdn.test") for hit in tour.hits(host))


def test_a_door_that_asks_for_its_own_cookie_opens(tour: Tour) -> None:
    door = [hit for hit in tour.hits("a.test") if hit.target == "/door"]
    assert ["in=1" in hit.headers.get("cookie", "") for hit in door] == [False, True]
    assert tour.page("a.test", "/door")["outcome"] == "OK"


def test_a_redirect_to_itself_for_ever_ends_as_one(tour: Tour) -> None:
    page = tour.page("a.test", "/loop")
    assert (page["outcome"], page["reason"]) == ("TOO_MANY_REDIRECTS", "self")
    assert len([hit for hit in tour.hits("a.test") if hit.target == "/loop"]) == 6


def test_a_host_rules_header_goes_with_all_that_is_asked_of_its_hosts(tour: Tour) -> None:
    assert all(hit.headers.get("authorization") == SECRET for hit in tour.hits("a.test"))
    assert all(hit.headers.get("x-tour") == "yes" for hit in tour.hits("a.test"))
    others = [*tour.hits("b.test"), *tour.hits("cdn.test")]
    assert others
    assert not any({"authorization", "x-tour"} & set(hit.headers) for hit in others)


def test_no_secret_is_left_on_disk(tour: Tour) -> None:
    for path in tour.out.rglob("*"):
        if not path.is_file() or path.parent.name == "frontier":
            continue
        kept = path.read_bytes()
        if path.suffix == ".gz":
            kept = gzip.decompress(kept)
        assert SECRET.encode() not in kept, path
        assert b"Cookie: sid" not in kept.replace(b"Set-Cookie: sid", b""), path


def test_no_two_fetches_of_a_host_are_nearer_than_the_delay(tour: Tour) -> None:
    for host in ("a.test", "b.test", "cdn.test"):
        assert tour.site.closest(host) >= 0.05 - 0.003
