"""Sitemaps, named by robots.txt and as seeds. How to read it: registry.py."""

from __future__ import annotations

import gzip

from tests.probes.manifest import Plan
from tests.probes.registry import SITEMAPS, probe
from tests.probes.server import Answer


def urlset(*urls: str) -> bytes:
    """A sitemap."""
    listed = "".join(f"<url><loc>{url}</loc><lastmod>2025-06-15</lastmod></url>" for url in urls)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</urlset>'.encode()


def index(*urls: str) -> bytes:
    """A sitemap of sitemaps."""
    listed = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return (
        f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</sitemapindex>'.encode()
    )


def _sitemap(
    p: Plan, target: str, body: bytes, kind: str = "application/xml", host: str | None = None
) -> None:
    p.put(target, Answer(200, {"Content-Type": kind}, body), host=host)
    p.ask(target, host=host)


@probe(
    SITEMAPS,
    "from robots.txt: index files, gzip, text and RSS/Atom forms, cross-host rule",
    finds="what each form lists of its own host, and of the host whose robots.txt named it; each sitemap once",
    spares="a host that a sitemap does not speak for",
)
def sitemaps(p: Plan) -> None:
    cdn, foreign = f"cdn.{p.host}", f"foreign.{p.host}"
    p.robots(
        f"User-agent: *\nDisallow: /no\nSitemap: {p.url('/index.xml')}\nsitemap: /list.txt\n"
        f"Site-map: {p.url('/of-us.xml', cdn)}\n"
    )
    p.seed()
    p.page("/")
    children = ["/one.xml", "/two.xml.gz", "/feed.rss", "/feed.atom"]
    _sitemap(p, "/index.xml", index(*(p.url(child) for child in children), p.url("/theirs.xml", foreign)))
    _sitemap(
        p, "/one.xml", urlset(p.url("/xml"), p.url("/xml#again"), p.url("/foreign", foreign), p.url("/no/1"))
    )
    _sitemap(p, "/two.xml.gz", gzip.compress(urlset(p.url("/gzip"))), "application/x-gzip")
    _sitemap(p, "/list.txt", f"{p.url('/text')}\r\n{p.url('/text/2')}".encode(), "text/plain")
    _sitemap(
        p,
        "/feed.rss",
        f"<rss version='2.0'><channel><title>t</title><link>{p.url('/rss')}</link>"
        f"<item><link>{p.url('/rss/1')}</link></item></channel></rss>".encode(),
        "application/rss+xml",
    )
    _sitemap(
        p,
        "/feed.atom",
        f'<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><entry><title>e</title>'
        f'<link href="{p.url("/atom/1")}"/></entry></feed>'.encode(),
        "application/atom+xml",
    )
    _sitemap(p, "/of-us.xml", urlset(p.url("/cdn"), p.url("/own", cdn), p.url("/foreign", foreign)), host=cdn)
    p.ask("/robots.txt", host=cdn)
    p.pages(["/xml", "/gzip", "/text", "/text/2", "/rss/1", "/atom/1", "/cdn"], depth=1)
    p.page("/own", host=cdn, depth=1)
    p.page("/foreign", host=foreign, spared=True)
    p.spare("/theirs.xml", "/robots.txt", host=foreign)
    p.find("/no/1", "ROBOTS_DENIED", fetches=0, depth=1)


@probe(
    SITEMAPS,
    "as seeds (`sitemap:URL`)",
    finds="what a sitemap lists that is itself a seed, whichever host it is on",
)
def sitemap_seed(p: Plan) -> None:
    p.seed("/map.xml", kind="sitemap:")
    _sitemap(p, "/map.xml", urlset(p.url("/1"), p.url("/2", f"other.{p.host}")))
    p.ask("/robots.txt")
    p.page("/1")
    p.page("/2", host=f"other.{p.host}")


@probe(
    SITEMAPS,
    "bounds on depth",
    finds="sitemaps three indexes deep",
    spares="the fourth",
)
def sitemap_depth(p: Plan) -> None:
    p.robots(f"Sitemap: {p.url('/0.xml')}\n")
    p.seed()
    p.page("/")
    for level in range(4):
        _sitemap(p, f"/{level}.xml", index(p.url(f"/{level + 1}.xml"), p.url("/0.xml")))
    p.spare("/4.xml")


@probe(SITEMAPS, "`--no-sitemaps`", crawl="loose", finds="the front page", spares="the sitemap that is named")
def sitemaps_off(p: Plan) -> None:
    p.robots(f"Sitemap: {p.url('/map.xml')}\n")
    p.put("/map.xml", Answer(200, {}, urlset(p.url("/1"))))
    p.spare("/map.xml", "/1")
    p.seed()
    p.page("/")
