"""The probes: a synthetic web with one or more for each line of "a thorough and polite crawler".

Each is a function named as its host is: `robots_absent` lives on robots-absent.test. It may be read from top to bottom:
what stands where, and what must come of it (manifest.py says how that is judged). `CRAWLS` are the command lines; a
probe belongs to one of them. docs/probes.md is made of the words here, by `python -m tests.probes`.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from itertools import pairwise, permutations
from typing import Final
from urllib.parse import quote

from shoal.demo.server import Answer, Request
from tests.probes.manifest import DELAY, TOLERANCE, Log, Plan, Probe
from tests.probes.server import html, redirect
from tests.support.texts import TEXTS

POLITENESS = "Politeness"
ROBOTS = "robots.txt"
SITEMAPS = "Sitemaps"
CANONICAL = "Canonical form"
LINKS = "Links"
CHARSET = "Charset"
REDIRECTS = "Redirects, cookies, headers"
TYPES = "Content types"
RETRIES = "Retries"
SCOPE = "Scope and traps"
DNS = "DNS"
TLS = "TLS and proxies"
DUPLICATES = "Near-duplicates"
RECRAWL = "Recrawl"


HERE: Final = "10.77.0.1"
"""The usual address of hosts in a network of our own; what follows are others."""
HERE_TOO: Final = "10.77.0.2"
SOCKS_SIDE: Final = "10.77.0.3"
NOBODY: Final = "10.77.0.9"
HERE_V6: Final = "fd77::1"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of one crawl, beyond what all have."""

    options: tuple[str, ...]
    obeys: bool = True
    """Whether robots.txt is."""


CRAWLS: Final[Mapping[str, Options]] = {
    "main": Options(
        (
            *("--scope", "any", "--retries", "1", "--silence-timeout", "2", "--max-bytes", "1MiB"),
            *("--insecure", "*.let-in.tls-reasons.test", "--header", "X-Tour: yes", "--header", "Cookie: seed=1"),
        )
    ),
    "switched": Options(
        (
            *("--scope", "any", "--retries", "0", "--media", "--skip-nofollow-links", "--cookies"),
            *("--sort-query", "--strip-tracking", "--strip-session-ids", "--strip-www"),
            *("--reject", "video/*,application/zip", "--near-duplicates", "4", "--per-ip", "1"),
        )
    ),
    "loose": Options(
        (
            *("--scope", "any", "--retries", "0", "--accept", "text/html", "--ignore-robots"),
            *("--no-guards", "--no-sitemaps", "--max-depth", "2"),
        ),
        obeys=False,
    ),
    "host": Options(("--retries", "0", "--deny", "/denied", "--max-pages-per-host", "6")),
    "domain": Options(("--scope", "domain", "--retries", "0", "--max-pages", "9")),
    "prefix": Options(("--scope", "prefix", "--retries", "0", "--allow", "/docs/[a-z]*$")),
    "list": Options(("--no-follow", "--retries", "0")),
    "apart": Options(
        (
            *("--scope", "any", "--retries", "0", "--per-ip", "2", "--connect-timeout", "3"),
            f"--allow-private={HERE}/24,{HERE_V6}/64",
        )
    ),
    "proxied": Options(("--scope", "any", "--retries", "0")),
    "later": Options(("--scope", "any", "--retries", "1", "--silence-timeout", "1")),
}
"""`apart` and `proxied` run in a network of their own, with a name server; `later` is stopped, for its hosts wait for
minutes."""

PROBES: Final[list[Probe]] = []


def probe(
    section: str, clause: str, *, finds: str, spares: str = "", crawl: str = "main"
) -> Callable[[Callable[[Plan], None]], Callable[[Plan], None]]:
    """Enter a probe. `clause`: of the section, in few words."""

    def enter(build: Callable[[Plan], None]) -> Callable[[Plan], None]:
        PROBES.append(Probe(build.__name__.replace("_", "-"), section, clause, crawl, finds, spares, build))
        return build

    return enter


# ---------------------------------------------------------------------------------------------------- politeness


def gaps(log: Log) -> list[float]:
    """Seconds from the end of each fetch to the begin of the next."""
    return [late.arrived - early.free for early, late in pairwise(log)]


def after(target: str, seconds: float) -> Callable[[Log], str | None]:
    """The fetch that follows the first one of `target` does not come before."""

    def check(log: Log) -> str | None:
        at = next(number for number, hit in enumerate(log) if hit.target == target)
        if at + 1 == len(log):
            return f"nothing came after {target}"
        gap = log[at + 1].arrived - log[at].free
        return None if gap >= seconds - TOLERANCE else f"{log[at + 1].target} came {gap:.3f} s after {target}"

    return check


@probe(
    POLITENESS,
    "per-host delay from the end of one fetch to the start of the next",
    finds="10 pages of one host, robots.txt too, never nearer than `--delay`, jitter above it",
)
def delay(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(10)]
    p.page("/", targets)
    p.pages(targets)


@probe(
    POLITENESS,
    "both changeable per host pattern",
    finds="two hosts of the pattern `slow-*.pattern.test` at 0.5 s, one outside of it at `--delay`",
)
def pattern(p: Plan) -> None:
    p.rule("delay = 0.5", host="slow-*.pattern.test")
    for name in ("slow-a", "slow-b", "quick"):
        host = f"{name}.pattern.test"
        if name != "quick":
            p.pace(0.5, host=host, rule=False)
        p.seed(host=host)
        p.page("/", ["/1", "/2", "/3"], host=host)
        p.pages(["/1", "/2", "/3"], host=host)

    def check(log: Log) -> str | None:
        quick = gaps([hit for hit in log if hit.host == "quick.pattern.test"])
        return None if min(quick) < 0.5 else "the host outside of the pattern was slowed down, too"

    p.check(check)


@probe(
    POLITENESS,
    "parallelism",
    finds="14 slow pages of a host with `per_host = 3`: some at once, never a fourth, each lane with its delay",
)
def lanes(p: Plan) -> None:
    p.pace(DELAY, 3)
    p.seed()
    targets = [f"/{number}" for number in range(14)]
    p.page("/", targets, wait=0.3)
    p.pages(targets, wait=0.3)
    p.check(
        lambda log: None if any(gap < 0 for gap in gaps(log)) else "no two of them were fetched at once"
    )


@probe(
    POLITENESS,
    "adaptive: the delay never below a multiple of the host's last response times",
    finds="a host that answers after 0.5 s is left alone as long after each page, once that is known",
)
def adaptive(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(4)]
    p.page("/", targets, wait=0.5)
    p.pages(targets, wait=0.5)
    p.check(
        lambda log: None
        if min(gaps(log)[2:]) >= 0.5 - TOLERANCE
        else f"gaps of {min(gaps(log)[2:]):.3f} s at a host that answers after 0.5 s"
    )


@probe(
    POLITENESS,
    "`Retry-After` obeyed (seconds)",
    finds="after a 429 with `Retry-After: 3` nothing of the host for 3 s; the page in a second try",
)
def retry_after_seconds(p: Plan) -> None:
    p.seed()
    p.page("/", ["/busy", "/1", "/2", "/3"])
    p.put("/busy", Answer(429, {"Retry-After": "3"}, b"busy"), html("<title>well</title>"))
    p.find("/busy", fetches=2, attempts=2)
    p.pages(["/1", "/2", "/3"])
    p.check(after("/busy", 3.0))


@probe(
    POLITENESS,
    "`Retry-After` obeyed (date)",
    finds="after a 503 with a date 4 s ahead nothing of the host until then; the page in a second try",
)
def retry_after_date(p: Plan) -> None:
    p.seed()
    p.page("/", ["/busy", "/1", "/2", "/3"])

    def busy(request: Request) -> Answer:
        return Answer(503, {"Retry-After": formatdate(time.time() + 4.0, usegmt=True)}, b"busy")

    p.put("/busy", busy, html("<title>well</title>"))
    p.find("/busy", fetches=2, attempts=2)
    p.pages(["/1", "/2", "/3"])
    p.check(after("/busy", 3.0 - 0.05))  # a date has whole seconds


@probe(
    POLITENESS,
    "growing on 429/503 and time-outs, shrinking back slowly",
    finds="after a 429 a rest of 2 s, then gaps of a second that shrink, though `--delay` is a tenth of that",
)
def penalty(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(5)]
    p.page("/", ["/busy", *targets])
    p.put("/busy", Answer(429, {}, b"busy"), html("<title>well</title>"))
    p.find("/busy", fetches=2, attempts=2)
    p.pages(targets)
    p.check(after("/busy", 2.0))

    def check(log: Log) -> str | None:
        first = next(number for number, hit in enumerate(log) if hit.target == "/busy")
        later = gaps(log[first + 1 :])
        return None if min(later[:4]) > 0.6 else f"gaps of {min(later[:4]):.3f} s soon after a refusal"

    p.check(check)


@probe(
    POLITENESS,
    "`Crawl-delay` obeyed",
    finds="pages of a host whose robots.txt asks for 1 s, a second apart",
)
def crawl_delay(p: Plan) -> None:
    p.pace(1.0, rule=False)
    p.seed()
    p.robots("User-agent: *\nCrawl-delay: 1\n")
    p.page("/", ["/1", "/2"])
    p.pages(["/1", "/2"])


@probe(
    POLITENESS,
    "a host that keeps refusing is backed off, then set aside with its reason; its URLs are never dropped",
    finds="40 pages of a host that resets every connection: all of them HOST_UNREACHABLE, none tried twice",
)
def gives_up(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(40)]
    # A kept connection that breaks may be a stale one: its request is made again at once. So it is not kept.
    p.page("/", targets, headers={"Connection": "close"})
    for target in targets:
        p.put(target, Answer(200, stop_after=0))
        p.find(target, "HOST_UNREACHABLE", fetches=(0, 1), reason="host")

    def check(log: Log) -> str | None:
        tried = sum(hit.target in targets for hit in log)
        return None if tried >= 10 else f"given up after {tried} tries"

    p.check(check)


@probe(
    POLITENESS,
    "an honest User-Agent that names the product and takes `--contact`",
    finds="every request of every probe names Shoal and the contact; robots.txt and sitemaps too",
)
def agent(p: Plan) -> None:
    p.seed()
    p.page("/")


def _at_once(log: Log) -> int:
    """The most of these fetches that were under way at one time, by what the servers know for sure."""
    moments = sorted([(hit.arrived, 1) for hit in log] + [(hit.free, -1) for hit in log])
    now = most = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


@probe(
    POLITENESS,
    "a cap per IP address: `--per-ip`, the address learned from the worker's first answer",
    crawl="apart",
    finds="all pages of 6 names at one address with `--per-ip 2`: after the first page of each, never three at once",
)
def per_ip(p: Plan) -> None:
    for number in range(6):
        host = f"h{number}.{p.host}"
        p.addresses[host] = (HERE_TOO,)
        p.seed(host=host)
        p.page("/", ["/1", "/2"], host=host, wait=0.3)
        p.pages(["/1", "/2"], host=host, wait=0.3)

    def check(log: Log) -> str | None:
        known = [hit for hit in log if hit.target in ("/1", "/2")]
        most = _at_once(known)
        return None if most <= 2 else f"{most} hosts of one address were fetched at once"

    p.check(check)


@probe(
    POLITENESS,
    "... loopback exempt",
    crawl="switched",
    finds="pages of 3 names on loopback at once, with `--per-ip 1`",
)
def per_ip_loopback(p: Plan) -> None:
    for number in range(3):
        host = f"h{number}.{p.host}"
        p.seed(host=host)
        p.page("/", ["/1"], host=host)
        p.page("/1", host=host, wait=1.0)
    p.check(lambda log: None if _at_once(log) > 1 else "never two at once")


# ---------------------------------------------------------------------------------------------------- robots.txt


@probe(
    ROBOTS,
    "4xx means allow",
    finds="pages of hosts whose robots.txt is a 400, 401, 403, 404 or 410, an empty file, or a page of HTML",
)
def robots_absent(p: Plan) -> None:
    answers = {f"s{status}": Answer(status, {}, b"User-agent: *\nDisallow: /\n") for status in (400, 401, 403, 404, 410)}
    answers["empty"] = Answer(200, {"Content-Type": "text/plain"})
    answers["page"] = html("<!doctype html><title>Welcome</title><p>Disallow")
    for name, answer in answers.items():
        host = f"{name}.robots-absent.test"
        p.put("/robots.txt", answer, host=host)
        p.seed(host=host)
        p.page("/", host=host)


@probe(
    ROBOTS,
    "groups merged, product token matched case-insensitively, longest match, `*` and `$`, percent-encoding",
    finds="what the longest rule of our two groups allows, or no rule names",
    spares="what they disallow; the rules of `*` and of others do not count",
)
def robots_rules(p: Plan) -> None:
    p.robots(
        "User-agent: *\nDisallow: /\n\n"
        "User-agent: SHOAL\nDisallow: /a\nAllow: /a/b\nDisallow: /*.gif$\nDisallow: /caf%C3%A9\n"
        "Disallow: /tie\nAllow: /tie\nDisallow: /p%61th\nDisallow: /*?session=\n\n"
        "User-agent: other\nDisallow: /for-other\n\n"
        "user-agent: shoal\nuser-agent: another\nDisallow: /second\n"
    )
    allowed = ["/a/b", "/a/b/c", "/pic.gif?x", "/tie", "/for-other", "/free?x=1", "/A"]
    denied = ["/a", "/a/x", "/pic.gif", "/caf%C3%A9", "/path", "/second/x", "/free?session=1", "/x.gif"]
    p.seed()
    p.page("/", [*allowed, *denied])
    p.pages(allowed)
    for target in denied:
        p.find(target, "ROBOTS_DENIED", fetches=0, reason="robots")
        p.spare(target)


@probe(
    ROBOTS,
    "protego gets our product token only",
    finds="all of a host that shuts out `mozilla`, `sho`, `shoalbot` and the version of us",
)
def robots_tokens(p: Plan) -> None:
    p.robots(
        "".join(f"User-agent: {name}\nDisallow: /\n\n" for name in ("mozilla", "Mozilla/5.0", "sho", "shoalbot"))
    )
    p.seed()
    p.page("/", ["/1"])
    p.page("/1")


@probe(
    ROBOTS,
    "BOM, CR/LF, bad UTF-8",
    finds="the front pages of three hosts with such files",
    spares="what their files disallow",
)
def robots_bytes(p: Plan) -> None:
    texts = {
        "bom": b"\xef\xbb\xbfUser-agent: shoal\r\nDisallow: /no\r\n",
        "cr": b"User-agent: shoal\rDisallow: /no\r",
        "bad": b"# \xff\xfe\xc3(\nUser-agent: \xff\nDisallow: /\n\nUser-agent: *\n\xf0\x28: x\nDisallow: /no\n",
    }
    for name, text in texts.items():
        host = f"{name}.robots-bytes.test"
        p.robots(text, host=host)
        p.seed(host=host)
        p.page("/", ["/no"], host=host)
        p.find("/no", "ROBOTS_DENIED", host=host, fetches=0)


@probe(
    ROBOTS,
    "at least 500 KiB parsed",
    finds="the front page of a host with a robots.txt of 600 KiB",
    spares="what a rule in the last line before 500 KiB disallows",
)
def robots_long(p: Plan) -> None:
    begin, end = b"User-agent: *\n", b"Disallow: /late\n"
    remarks = b"# nothing\n" * ((500 * 1024 - len(begin) - len(end)) // 10)
    p.robots(begin + remarks + end + b"# nothing\n" * 10_000)
    p.seed()
    p.page("/", ["/late"])
    p.find("/late", "ROBOTS_DENIED", fetches=0)


def _robots_chain(p: Plan, hops: int) -> None:
    """A robots.txt behind so many redirects, from host to host; it shuts out everything but the front page."""
    places = [("/robots.txt", p.host)]
    places += [(f"/r{hop}.txt", f"h{hop % 3}.{p.host}") for hop in range(1, hops + 1)]
    for hop, ((target, host), (there, other)) in enumerate(pairwise(places), start=1):
        p.put(target, redirect(p.url(there, other), (301, 302, 303, 307, 308)[hop % 5]), host=host)
        if hop > 1:
            p.ask(target, host=host)
    target, host = places[-1]
    p.put(target, Answer(200, {}, b"User-agent: *\nAllow: /$\nDisallow: /\n"), host=host)
    p.seed()
    p.page("/", ["/no"])


@probe(
    ROBOTS,
    "up to five redirects, across hosts",
    finds="the file behind five redirects over three hosts, each hop under that host's own delay",
    spares="what it disallows; no page of the hosts on the way",
)
def robots_hops(p: Plan) -> None:
    _robots_chain(p, 5)
    p.ask("/r5.txt", host=f"h2.{p.host}")
    p.find("/no", "ROBOTS_DENIED", fetches=0)


@probe(
    ROBOTS,
    "up to five redirects, across hosts (six: as if there were none)",
    finds="all pages of a host whose robots.txt stands behind six redirects",
    spares="the sixth hop",
)
def robots_hops_six(p: Plan) -> None:
    _robots_chain(p, 6)
    p.spare("/r6.txt", host=f"h0.{p.host}")
    p.page("/no")


@probe(
    ROBOTS,
    "keyed by scheme + authority",
    finds="on three ports of one host (HTTP twice, HTTPS) what that port's file allows; each is asked for once",
    spares="what it disallows",
)
def robots_authority(p: Plan) -> None:
    p.servers.certify(p.host)
    for door, denied in (("web", "/a"), ("alt", "/b"), ("tls", "/c")):
        p.robots(f"User-agent: *\nDisallow: {denied}\n", door=door)
        p.seed(door=door)
        p.page("/", ["/a", "/b", "/c"], door=door)
        for target in ("/a", "/b", "/c"):
            if target == denied:
                p.find(target, "ROBOTS_DENIED", door=door, fetches=0)
            else:
                p.page(target, door=door)


@probe(
    ROBOTS,
    "fetched once per authority and kept by the coordinator",
    finds="30 pages of a host with three lanes, which is lent to several processes; one fetch of robots.txt",
)
def robots_once(p: Plan) -> None:
    p.pace(DELAY, 3)
    targets = [f"/{number}" for number in range(30)]
    p.robots("User-agent: *\nDisallow: /no\n")
    p.seed()
    p.page("/", targets)
    p.pages(targets, wait=0.05)


@probe(
    ROBOTS,
    "`meta robots`: page-level nofollow obeyed, noindex recorded",
    finds="links of pages whose meta speaks to others, `noindex` in the lines",
    spares="links of pages that say nofollow or none to all, or to us",
)
def meta_robots(p: Plan) -> None:
    cases = {
        "nofollow": ('<meta name=robots content="nofollow">', False, False),
        "none": ('<META NAME="ROBOTS" CONTENT="NONE">', True, False),
        "ours": ('<meta name="Shoal" content="noindex, nofollow">', True, False),
        "theirs": ('<meta name=googlebot content="noindex,nofollow">', False, True),
        "noindex": ('<meta name=robots content="noindex, follow">', True, True),
    }
    p.seed()
    p.page("/", [f"/{name}" for name in cases])
    for name, (meta, noindex, followed) in cases.items():
        p.page(f"/{name}", [f"/{name}/1"], head=meta, noindex=noindex)
        p.page(f"/{name}/1", spared=not followed)


@probe(
    ROBOTS,
    "`X-Robots-Tag` (with user-agent prefixes)",
    finds="links of pages whose header speaks to others",
    spares="links of pages whose header says nofollow or none to all, or to us",
)
def x_robots_tag(p: Plan) -> None:
    cases = {
        "nofollow": ("nofollow", False, False),
        "none": ("NONE", True, False),
        "ours": ("otherbot: noarchive, shoal: noindex, nofollow", True, False),
        "theirs": ("otherbot: noindex, nofollow", False, True),
        "until": ("unavailable_after: 25 Jun 2040 15:00:00 GMT, noindex", True, True),
        "more": ("max-snippet: 20, nofollow", False, False),
    }
    p.seed()
    p.page("/", [f"/{name}" for name in cases])
    for name, (value, noindex, followed) in cases.items():
        p.page(f"/{name}", [f"/{name}/1"], headers={"X-Robots-Tag": value}, noindex=noindex)
        p.page(f"/{name}/1", spared=not followed)


@probe(
    ROBOTS,
    "`rel=nofollow` on one link is no access rule and is followed",
    finds="the page behind a link with rel=nofollow",
)
def rel_nofollow(p: Plan) -> None:
    p.seed()
    p.page("/", body='<a rel="nofollow" href="/1">x</a><a rel="external NOFOLLOW ugc" href="/2">x</a>')
    p.pages(["/1", "/2"])


@probe(
    ROBOTS,
    "... unless `--skip-nofollow-links`",
    crawl="switched",
    finds="the page behind a plain link",
    spares="the pages behind links with rel=nofollow",
)
def rel_nofollow_skipped(p: Plan) -> None:
    p.seed()
    p.page("/", ["/plain"], body='<a rel="nofollow" href="/1">x</a><a rel="external NOFOLLOW ugc" href="/2">x</a>')
    p.page("/plain")
    p.page("/1", spared=True)
    p.page("/2", spared=True)


@probe(
    ROBOTS,
    "`--ignore-robots`",
    crawl="loose",
    finds="what robots.txt, meta and header would keep from us",
    spares="robots.txt itself",
)
def robots_ignored(p: Plan) -> None:
    p.robots("User-agent: *\nDisallow: /\n")
    p.seed()
    p.page("/", ["/1"], head="<meta name=robots content=nofollow>", headers={"X-Robots-Tag": "nofollow"})
    p.page("/1")
    p.spare("/robots.txt")


# ------------------------------------------------------------------------------------------------------ sitemaps


def urlset(*urls: str) -> bytes:
    """A sitemap."""
    listed = "".join(f"<url><loc>{url}</loc><lastmod>2025-06-15</lastmod></url>" for url in urls)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</urlset>'.encode()


def index(*urls: str) -> bytes:
    """A sitemap of sitemaps."""
    listed = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</sitemapindex>'.encode()


def _sitemap(p: Plan, target: str, body: bytes, kind: str = "application/xml", host: str | None = None) -> None:
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
    _sitemap(p, "/one.xml", urlset(p.url("/xml"), p.url("/xml#again"), p.url("/foreign", foreign), p.url("/no/1")))
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


# ------------------------------------------------------------------------------------------------ canonical form


@probe(
    CANONICAL,
    "WHATWG parsing, case, dot segments, percent-case, IDNA, empty query, fragments dropped",
    finds="one fetch of each page, however its address is written; what may be another page is one",
    spares="fragments, other schemes, URLs of more than 2,048 characters",
)
def canonical(p: Plan) -> None:
    there = p.url("/")[len("http://") : -1]
    same = ["/a", "/a#x", "/a?", "/./a", "/x/../a", "/%61", " /a\t", "/\na", f"//{there}/a", "\\a", "a", "./a", "%2e/a"]
    same += [f"HTTP://{there.upper()}/a", f"http://user:pass@{there}/a", "/../../a"]
    same += ["/b\u00e9", "/b%c3%a9", "/b%C3%A9", "/c d", "/c%20d", "/%7Eme", "/~me"]
    same += ["/q?x=\u00e9", "/q?x=%c3%a9", "/q?%78=%C3%A9"]
    other = ["/A", "/a/", "//a", "/a??", "/a?x", "/a?x=", "/a?y=1&x=2", "/a?x=2&y=1", "/a;b", "/a%2Fb", "/%%34%31"]
    other = [link.replace("//a", f"//{there}//a") for link in other]
    refused = ["mailto:a@b.test", "javascript:void(0)", "data:text/html,x", "ftp://h.test/", "tel:1", "http://", "#top"]
    refused += [f"http://{'x' * 300}.test/", "/" + "x" * 2048, "http://a..test/"]
    port = p.servers.ports["web"]
    p.seed()
    p.page("/", [*same, *other, *refused, f"http://B\u00fccher.{p.host}:{port}/"])
    p.pages(["/a", "/b%C3%A9", "/c%20d", "/~me", "/q?x=%C3%A9"])
    p.pages(["/A", "/a/", "//a", "/a??", "/a?x", "/a?x=", "/a?y=1&x=2", "/a?x=2&y=1", "/a;b", "/a%2Fb", "/%%34%31"])
    p.page("/", host=f"xn--bcher-kva.{p.host}")


@probe(
    CANONICAL,
    "opt-in: sort the query, drop tracking parameters, strip session ids, drop `www.`",
    crawl="switched",
    finds="one fetch for each group of addresses that these options take for one page",
    spares="the other spellings; a parameter or host that only looks alike stays",
)
def canonical_options(p: Plan) -> None:
    sid = "0123456789abcdef0123456789abcdef"
    port = p.servers.ports["web"]
    links = ["/s?c=1&a=2&b=3", "/s?b=3&a=2&c=1", "/s?a=2&b=3&c=1&utm_source=x&UTM_Medium=y", "/s?gclid=1&a=2&b=3&c=1"]
    links += [f"/t?PHPSESSID={sid}", f"/t;jsessionid={sid}", f"/t?sid={sid}", "/t"]
    links += ["/k?s=words", "/k?ref=a", "/k?source=b"]
    links += [f"http://www.{p.host}:{port}/w", "/w"]
    p.seed()
    p.page("/", links)
    p.pages(["/s?a=2&b=3&c=1", "/t", "/k?s=words", "/k?ref=a", "/k?source=b", "/w"])
    p.spare("/w", "/robots.txt", host=f"www.{p.host}")


# --------------------------------------------------------------------------------------------------------- links


@probe(
    LINKS,
    "white space and newlines in href, entities, unquoted attributes, upper case, protocol-relative, backslashes",
    finds="every link of a page that writes them in all these ways",
    spares="what stands in comments, scripts, styles, text areas, attributes that are no links, a cut-off tag",
)
def spellings(p: Plan) -> None:
    there = p.url("/")[len("http://") : -1]
    p.seed()
    p.page(
        "/",
        body=f"""
        <a href=/unquoted>x</a> <A HREF='/single'>x</A> <a href = "/spaced"   >x</a> <a
        href
        =
        "/lines">x</a> <a href="  /blank
        ">x</a> <a href="/bro
ken/in&#10;two">x</a> <a href="/amp?a=1&amp;b=2">x</a> <a href="/bare?a=1&b=2">x</a> <a href="/copy?a=1&copy=2">x</a>
        <a href="/&#101;nt&#x69;ty">x</a> <a href="/&eacute;">x</a> <a href="//{there}/protocol">x</a>
        <a href="\\back\\slash">x</a> <a href="/first" href="/second">x</a> <a id=x href="/unclosed">x
        <area href="/area"> <svg><a xlink:href="/svg">x</a></svg> <a href="?query">x</a>
        <!-- <a href="/comment">x</a> --> <script>var x = '<a href="/script">x</a>';</script>
        <style>a {{ content: '<a href="/style">' }}</style> <textarea><a href="/textarea">x</a></textarea>
        <form action="/form"><button formaction="/button">x</button></form> <p data-href="/data" onclick="go('/click')">
        <blockquote cite="/cite">x</blockquote> <a ping="/ping" href="/pinged">x</a> <a href="/cut""",
    )
    p.pages(["/unquoted", "/single", "/spaced", "/lines", "/blank", "/broken/intwo", "/amp?a=1&b=2", "/bare?a=1&b=2"])
    p.pages(["/copy?a=1&copy=2", "/entity", "/%C3%A9", "/protocol", "/back/slash", "/first", "/unclosed"])
    p.pages(["/area", "/svg", "/?query", "/pinged"])
    p.spare("/second", "/comment", "/script", "/style", "/textarea", "/form", "/button", "/data", "/click", "/cite")
    p.spare("/ping", "/cut")


@probe(
    LINKS,
    "`base` (relative base too)",
    finds="links of four pages, joined with the base that each names",
    spares="the same links joined with the page's own address",
)
def base(p: Plan) -> None:
    other = f"other.{p.host}"
    bases = {
        "/in/relative": ("up/", "/in/up/x1"),
        "/in/absolute": ("/abs/", "/abs/x2"),
        "/in/second": ('/one/"><base href="/two/', "/one/x3"),
        "/in/bad": ("mailto:x", "/in/x4"),
    }
    p.seed()
    p.page("/", [*bases, "/in/other"])
    for number, (target, (href, found)) in enumerate(bases.items(), start=1):
        p.page(target, head=f'<base href="{href}">', body=f'<a href="x{number}">x</a><a href="#x">x</a>')
        p.page(found)
    p.page("/in/other", head=f'<base href="//{p.url("/b/", other)[len("http://") :]}">', body='<a href="x5">x</a>')
    p.page("/b/x5", host=other)
    # An href that is a mere fragment is the base itself where there is one.
    for target in ("/in/up/", "/abs/", "/one/"):
        p.page(target)
    p.spare("/in/x1", "/in/x2", "/in/x3", "/in/x5", "/two/x3")


@probe(
    LINKS,
    "`srcset`/`img`/`video`/`source`/CSS only when `--media` asks",
    finds="the page that a link leads to",
    spares="everything that the page loads",
)
def media_off(p: Plan) -> None:
    _media(p, spared=True)


@probe(
    LINKS,
    "`srcset`/`img`/`video`/`source`/CSS when `--media` asks",
    crawl="switched",
    finds="everything that the page loads, and what the style sheet loads; what is rejected by type has its line",
)
def media(p: Plan) -> None:
    _media(p, spared=False)


def _media(p: Plan, *, spared: bool) -> None:
    p.seed()
    p.page(
        "/",
        ["/page"],
        head='<link rel=stylesheet href="/s.css"><link rel="shortcut icon" href="/i.ico"><script src="/s.js"></script>'
        "<style>b { background: url(/inline.png) }</style>",
        body='<img src="/i.png" srcset="/i1.png 1x, /i,2.png 2x"><picture><source srcset="/p.webp 100w"></picture>'
        '<video src="/v.mp4" poster="/v.png"><track src="/t.vtt"></video><audio><source src="/a.ogg"></audio>'
        '<p style="background: url(\'/attr.png\')"><embed src="/e.swf"><object data="/o.svg"></object>'
        '<input type=image src="/in.png"><input type=text src="/not.png">',
    )
    p.page("/page")
    kinds = {"css": "text/css", "js": "text/javascript", "mp4": "video/mp4", "png": "image/png", "svg": "image/svg+xml"}
    loaded = ["/s.css", "/i.ico", "/s.js", "/inline.png", "/i.png", "/i1.png", "/i,2.png", "/p.webp", "/v.mp4"]
    loaded += ["/v.png", "/t.vtt", "/a.ogg", "/attr.png", "/e.swf", "/o.svg", "/in.png", "/of-css.png"]
    for target in loaded:
        body = b"@import '/not-css.txt'; p { background: url(/of-css.png) }" if target == "/s.css" else b"x"
        p.put(target, Answer(200, {"Content-Type": kinds.get(target.rpartition(".")[2], "image/x")}, body))
        if spared:
            p.spare(target)
        else:
            p.find(target, "TYPE_REJECTED" if target == "/v.mp4" else "OK")
    p.put("/not-css.txt", Answer(200, {"Content-Type": "text/plain"}, b"x"))
    if spared:
        p.spare("/not-css.txt")
    else:
        p.find("/not-css.txt")
    p.spare("/not.png")


@probe(
    LINKS,
    "`noscript`, `template`; links in `Link:` headers; frames; canonical and hreflang alternates; meta refresh",
    finds="what these lead to",
    spares="what stands in `template`; style sheets, preloads and other rel of `Link:`",
)
def places(p: Plan) -> None:
    p.seed()
    link = ', '.join(
        ['</h/next>; rel=next', '</h/alt>; rel="alternate"; hreflang=de', '</h/style>; rel=stylesheet', '</h/pre>; rel=preload']
    )
    p.page(
        "/",
        head='<link rel=canonical href="/canonical"><link rel=alternate hreflang=fr href="/fr">'
        '<link rel="alternate stylesheet" href="/alt.css"><link rel=next href="/next"><link rel=author href="/author">'
        '<meta http-equiv=refresh content="3; URL=\'/refreshed\'"><link rel=alternate type="application/rss+xml" href="/rss">',
        body='<noscript><a href="/noscript">x</a></noscript><template><a href="/template">x</a></template>'
        '<iframe src="/iframe" srcdoc="&lt;a href=/srcdoc&gt;x&lt;/a&gt;"></iframe>',
        headers={"Link": link},
    )
    p.pages(["/canonical", "/fr", "/next", "/refreshed", "/noscript", "/iframe", "/srcdoc", "/h/next", "/h/alt"])
    p.put("/rss", Answer(200, {"Content-Type": "application/rss+xml"}, b"<rss><channel><link>/of-rss</link></channel></rss>"))
    p.find("/rss")
    p.page("/of-rss", ["/frames"])
    p.put("/frames", html('<title>f</title><frameset cols="1,2"><frame src="/f1"><frame src="/f2"></frameset>'))
    p.find("/frames")
    p.pages(["/f1", "/f2"])
    p.spare("/template", "/alt.css", "/author", "/h/style", "/h/pre")


@probe(
    LINKS,
    "broken and deeply nested HTML; pages of megabytes in bounded time",
    finds="the links of a page without any structure, of one nested 50,000 deep, of one just under `--max-bytes`",
)
def broken(p: Plan) -> None:
    p.seed()
    p.page("/", ["/soup", "/deep", "/large"])
    p.put("/soup", html('</p><b><i></b><a href="/1"><table><a href="/2"><tr></a><div<p><a href="/3"></html><a href="/4">'))
    p.put("/deep", html("<div><b><font>" * 50_000 + '<a href="/5">x</a>'))
    filler = "<p>Words and <i>more</i> words, for as long as it takes.</p>\n"
    p.put("/large", html('<a href="/6">x</a>' + filler * (1_000_000 // len(filler)) + '<a href="/7">x</a>'))
    for target in ("/soup", "/deep", "/large"):
        p.find(target)
    p.pages([f"/{number}" for number in range(1, 8)])


# ------------------------------------------------------------------------------------------------------- charset


@probe(
    CHARSET,
    "BOM, header, meta prescan, then a detector; right titles and right links, tested with real text",
    finds="real texts in 25 charsets, each declared by header, by meta, and not at all: title, and link in the query's encoding",
)
def charset(p: Plan) -> None:
    p.pace(0.0, 8)
    links: list[str] = []
    for number, text in enumerate(TEXTS):
        for name in text.charsets:
            for way in ("header", "meta", "none"):
                if way == "none" and name in ("iso-8859-15", "iso-8859-2"):
                    continue  # cannot be told from their windows relatives by a page without the bytes that differ
                target = f"/{way}/{name}/{number}"
                meta = f"<meta charset={name}>" if way == "meta" else ""
                content = f'<!doctype html>{meta}<title>{text.title}</title><p>{text.paragraph}<a href="/q?{number}-{way}={text.word}">x</a>'
                kind = f"text/html; charset={name}" if way == "header" else "text/html"
                body = content.encode(_PYTHON.get(name, name))
                p.put(target, Answer(200, {"Content-Type": kind}, body))
                p.find(target, title=text.title)
                raw = text.word.encode(_PYTHON.get(name, name))
                # Charsets that write a word the same way make one page of it.
                p.page(f"/q?{number}-{way}={quote(raw, safe=_IN_QUERY)}")
                links.append(target)
    for name, mark in (("utf-8-sig", b""), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        target = f"/bom/{name}"
        page = '<!doctype html><title>\u0141\u00f3d\u017a</title><a href="/q?bom=\u017a">x</a>'
        p.put(target, Answer(200, {"Content-Type": "text/html; charset=windows-1250"}, mark + page.encode(name)))
        p.find(target, title="\u0141\u00f3d\u017a")
        links.append(target)
    p.page("/q?bom=" + quote("\u017a"))
    p.seed()
    p.page("/", links)


_PYTHON: Final = {"gbk": "gb18030", "ibm866": "cp866", "windows-874": "cp874", "euc-kr": "cp949", "shift_jis": "cp932"}
_IN_QUERY: Final = "-._~!$&()*+,;=:@/?[]\\^`{|}"


# ----------------------------------------------------------------------------------- redirects, cookies, headers


@probe(
    REDIRECTS,
    "301/302/303/307/308, relative, to other hosts",
    finds="each hop as REDIRECT, each target at the same depth; 300 without Location and 304 lead nowhere",
)
def redirects(p: Plan) -> None:
    other = f"other.{p.host}"
    p.seed()
    p.page("/", ["/301", "/302", "/303", "/307", "/308", "/away", "/300", "/empty", "/deaf", "/bad", "/spaces"])
    for status in (301, 302, 303, 307, 308):
        p.put(f"/{status}", redirect(f"to{status}?x#y", status))
        p.find(f"/{status}", "REDIRECT", redirect_to=p.url(f"/to{status}?x"), depth=1)
        p.page(f"/to{status}?x", depth=1, referrer=p.url(f"/{status}"))
    p.put("/away", redirect(p.url("/here", other)))
    p.find("/away", "REDIRECT", redirect_to=p.url("/here", other))
    p.page("/here", host=other, depth=1)
    p.put("/300", Answer(300, {"Content-Type": "text/html"}, b'<a href="/choice">x</a>'))
    p.find("/300", "REDIRECT", reason="no_location", redirect_to=None)
    p.page("/choice", depth=2)
    p.put("/empty", Answer(302, {"Location": " "}))
    p.find("/empty", "REDIRECT", reason="no_location")
    p.put("/deaf", Answer(304))
    p.find("/deaf", "NOT_MODIFIED")
    p.put("/bad", redirect("ftp://ftp.test/"))
    p.find("/bad", "REDIRECT", reason="bad_location")
    p.put("/spaces", redirect(" /with space "))
    p.find("/spaces", "REDIRECT", redirect_to=p.url("/with%20space"))
    p.page("/with%20space")


@probe(
    REDIRECTS,
    "loops, chains (10 hops)",
    finds="the page behind 10 redirects, both ends of a loop once; the 11th redirect is TOO_MANY_REDIRECTS",
    spares="the page behind 11",
)
def chains(p: Plan) -> None:
    p.seed()
    p.page("/", ["/ten/1", "/eleven/1", "/loop/a", "/self"])
    for name, hops in (("ten", 10), ("eleven", 11)):
        for hop in range(1, hops + 1):
            p.put(f"/{name}/{hop}", redirect(f"/{name}/{hop + 1}"))
            p.find(f"/{name}/{hop}", "TOO_MANY_REDIRECTS" if hop == 11 else "REDIRECT", depth=1)
    p.page("/ten/11", depth=1)
    p.page("/eleven/12", spared=True)
    p.put("/loop/a", redirect("/loop/b"))
    p.put("/loop/b", redirect("/loop/a"))
    p.find("/loop/a", "REDIRECT")
    p.find("/loop/b", "REDIRECT")
    p.put("/self", redirect("/self"))
    p.find("/self", "TOO_MANY_REDIRECTS", fetches=6, reason="self")


@probe(
    REDIRECTS,
    "to the same URL with a cookie (session cookies are host state when `--cookies`)",
    crawl="switched",
    finds="the page behind a door that opens for its own cookie; cookies of the front page with all later ones",
    spares="no cookie leaves for another host, path or scheme than it was set for",
)
def cookies(p: Plan) -> None:
    other = f"other.{p.host}"
    p.seed()
    targets = [f"/{number}" for number in range(4)]
    front = html("".join(f'<a href="{link}">x</a>' for link in [*targets, "/door", "/deep/x", p.url("/", other)]))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(front.body)}\r\nConnection: close\r\n"
    said = "Set-Cookie: sid=1; Path=/; HttpOnly\r\nSet-Cookie: deep=2; Path=/deep\r\nSet-Cookie: safe=3; Secure\r\n"
    said += "Set-Cookie: wide=4; Domain=test\r\nSet-Cookie: foreign=6; Domain=a.test\r\nSet-Cookie: old=5; Max-Age=0\r\n\r\n"
    p.put("/", Answer(raw=(head + said).encode() + front.body))
    p.find("/")
    p.pages(targets)
    p.page("/deep/x")

    def door(request: Request) -> Answer:
        if "in=1" in request.headers.get("cookie", ""):
            return html("<title>inside</title>")
        return Answer(302, {"Location": "/door", "Set-Cookie": "in=1"})

    p.put("/door", door)
    p.find("/door", fetches=2, title="inside")
    p.page("/", host=other)

    def check(log: Log) -> str | None:
        first = next(number for number, hit in enumerate(log) if (hit.host, hit.target) == (p.host, "/"))
        for number, hit in enumerate(log):
            sent = {pair.partition("=")[0] for pair in hit.headers.get("cookie", "").split("; ") if pair}
            expected: set[str] = set()
            if number > first and hit.host == p.host and hit.target != "/robots.txt":
                expected = {"sid", "wide"} | ({"deep"} if hit.target.startswith("/deep") else set())
            if sent - {"in"} != expected:
                return f"{hit.host}{hit.target} was sent {sent}, expected {expected}"
        return None

    p.check(check)


@probe(
    REDIRECTS,
    "no cookies without `--cookies`",
    finds="pages of a host that sets cookies, asked for without any but the operator's own",
)
def cookies_off(p: Plan) -> None:
    p.seed()
    p.page("/", ["/1", "/2"], headers={"Set-Cookie": "sid=1"})
    p.pages(["/1", "/2"])
    p.check(
        lambda log: next(
            (f"{hit.target} was sent a cookie" for hit in log if "sid" in hit.headers.get("cookie", "")), None
        )
    )


@probe(
    REDIRECTS,
    "HTTP auth headers per host",
    finds="the header of a `[[host]]` rule with every request to its host, those of `--header` to hosts of seeds",
    spares="no header leaves for a host that it is not for; Cookie and Authorization never cross hosts",
)
def headers(p: Plan) -> None:
    other = f"other.{p.host}"
    p.rule('header = ["Authorization: Basic bm9ib2R5OmtuZXc="]')
    p.seed()

    def guarded(request: Request) -> Answer:
        if request.headers.get("authorization") != "Basic bm9ib2R5OmtuZXc=":
            return Answer(401, {"WWW-Authenticate": "Basic"}, b"who?")
        return html(f'<a href="/1">x</a><a href="{p.url("/", other)}">x</a><a href="/away">x</a>')

    for target in ("/", "/1"):
        p.put(target, guarded)
        p.find(target)
    p.put("/away", redirect(p.url("/2", other)))
    p.find("/away", "REDIRECT")
    p.page("/", host=other)
    p.page("/2", host=other)

    def check(log: Log) -> str | None:
        for hit in log:
            own = hit.host == p.host
            if hit.host == other and {"authorization", "cookie", "x-tour"} & hit.headers.keys():
                return f"{other} was sent {dict(hit.headers)}"
            if own and "authorization" not in hit.headers:
                return f"{hit.target} was asked for without its header"
            if own and hit.target != "/robots.txt" and hit.headers.get("x-tour") != "yes":
                return f"{hit.target} was asked for without --header"
        return None

    p.check(check)


# ------------------------------------------------------------------------------------------------- content types


@probe(
    TYPES,
    "HTML, XHTML, XML, text are parsed; the rest is stored",
    finds="links of HTML, of XHTML, of XML that is XHTML, of pages without a type; PDF, JSON, text as they are",
    spares="what only looks like a link in text, JSON, PDF",
)
def types(p: Plan) -> None:
    link = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head><body><a href="{}"/></body></html>'
    kinds: dict[str, tuple[str | None, bool]] = {
        "html": ("TEXT/HTML;charset=utf-8", True),
        "xhtml": ("application/xhtml+xml", True),
        "xml": ("text/xml", True),
        "untyped": (None, True),
        "octets": ("application/octet-stream", True),
        "text": ("text/plain", False),
        "json": ("application/json", False),
        "pdf": ("application/pdf", False),
    }
    p.seed()
    p.page("/", [f"/{name}" for name in kinds])
    for name, (kind, parsed) in kinds.items():
        said = {} if kind is None else {"Content-Type": kind}
        p.put(f"/{name}", Answer(200, said, link.format(f"/of-{name}").encode()))
        p.find(f"/{name}", record="response", length=len(link.format(f"/of-{name}")))
        p.page(f"/of-{name}", spared=not parsed)


_HUGE: Final = 8 << 20
"""Bytes of a body that must not be read."""


def _unread(p: Plan, kind: str) -> None:
    p.put("/huge", Answer(200, {"Content-Type": kind}, bytes(_HUGE), drips=(0.01, 1 << 16)))
    p.find("/huge", "TYPE_REJECTED", status=200, record=None, warc=None)

    def check(log: Log) -> str | None:
        sent = next(hit.sent for hit in log if hit.target == "/huge")
        return None if sent < _HUGE // 2 else f"{sent} bytes of a body that is not wanted left the server"

    p.check(check)


@probe(
    TYPES,
    "by `--reject` type rules checked before the body is read",
    crawl="switched",
    finds="a page, an image; 8 MiB of video as TYPE_REJECTED",
    spares="the video's body: most of it never leaves the server",
)
def reject(p: Plan) -> None:
    p.seed()
    p.page("/", ["/huge", "/image"])
    p.put("/image", Answer(200, {"Content-Type": "image/png"}, b"x"))
    p.find("/image")
    _unread(p, "Video/MP4; codecs=x")


@probe(
    TYPES,
    "by `--accept` type rules checked before the body is read",
    crawl="loose",
    finds="a page; an image and 8 MiB of archive as TYPE_REJECTED; errors and redirects whatever their type",
    spares="the archive's body",
)
def accept(p: Plan) -> None:
    p.seed()
    p.page("/", ["/huge", "/image", "/gone", "/moved"])
    p.put("/image", Answer(200, {"Content-Type": "image/png"}, b"x"))
    p.find("/image", "TYPE_REJECTED")
    p.find("/gone", "CLIENT_ERROR", status=404)
    p.put("/moved", redirect("/"))
    p.find("/moved", "REDIRECT")
    _unread(p, "application/zip")


@probe(
    TYPES,
    "if within limits",
    finds="what is longer than `--max-bytes`, or would be inflated, is TOO_LARGE, kept as far as it came, its links followed",
)
def too_large(p: Plan) -> None:
    p.seed()
    p.page("/", ["/long", "/bomb"])
    page = b'<title>t</title><a href="/early">x</a>'
    p.put("/long", Answer(200, {"Content-Type": "text/html"}, page + bytes(3 << 20), drips=(0.01, 1 << 16)))
    p.find("/long", "TOO_LARGE", reason="length", length=1 << 20, record="response")
    packed = gzip.compress(page + bytes(32 << 20))
    p.put("/bomb", Answer(200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, packed))
    p.find("/bomb", "TOO_LARGE", reason="inflated", record="response")
    p.page("/early")


# ------------------------------------------------------------------------------------------------------- retries


@probe(
    RETRIES,
    "a table from outcome to tries: 5xx, time-outs, resets",
    finds="what fails once in the second try; what fails always with its outcome after `--retries`; 404 after one",
)
def retries(p: Plan) -> None:
    well = html("<title>well</title>")
    p.seed()
    p.page("/", ["/500", "/502", "/gone", "/501", "/late", "/reset", "/broken", "/mute"])
    p.put("/500", Answer(500), well)
    p.find("/500", fetches=2, attempts=2, status=200)
    p.put("/502", Answer(502, {}, b"x"))
    p.find("/502", "SERVER_ERROR", fetches=2, attempts=2, status=502)
    p.put("/501", Answer(501, {}, b"x"))
    p.find("/501", "SERVER_ERROR", fetches=2, attempts=2)
    p.find("/gone", "CLIENT_ERROR", attempts=1, status=404)
    p.put("/late", Answer(200, wait=20.0), well)
    p.find("/late", fetches=2, attempts=2)
    p.put("/reset", Answer(200, stop_after=0), well)
    p.find("/reset", fetches=2, attempts=2)
    p.put("/broken", Answer(raw=b"this is not HTTP\r\n\r\n"))
    p.find("/broken", "PROTOCOL", fetches=2, attempts=2, reason="bad_http")
    p.put("/mute", Answer(200, wait=20.0))
    p.find("/mute", "TIMEOUT", fetches=2, attempts=2, reason="read_timeout")


@probe(
    RETRIES,
    "a page that is short of its Content-Length is TRUNCATED and kept as such",
    finds="such a page after two tries, with its record, and what it links to; one that came whole the second time",
)
def truncated(p: Plan) -> None:
    page = html('<title>half</title><a href="/1">x</a>' + "y" * 5000)
    head = len(page.wire()[0])
    cut = Answer(200, page.headers, page.body, stop_after=head + 1000)
    p.seed()
    p.page("/", ["/half", "/once"])
    p.put("/half", cut)
    p.find("/half", "TRUNCATED", fetches=2, attempts=2, title="half", record="response", reason="disconnect", length=1000)
    p.put("/once", cut, html("<title>whole</title>"))
    p.find("/once", fetches=2, attempts=2, title="whole")
    p.page("/1")


@probe(
    RETRIES,
    "refused connections",
    finds="a page on a port where nobody listens: REFUSED, for that is what its robots.txt came to",
)
def refused(p: Plan) -> None:
    p.seed(door="shut")
    p.find(door="shut", outcome="REFUSED", fetches=0)
    p.ask("/robots.txt", 0, door="shut")
    p.seed()
    p.page("/")


# ------------------------------------------------------------------------------------------------ scope and traps


@probe(
    SCOPE,
    "`host`, `deny`; a redirect from a seed adds its host; budgets per host",
    crawl="host",
    finds="the seed's host by http and https and as `www.`, the host that a seed redirects to; six pages of a long chain",
    spares="sub-domains, other hosts, what `--deny` names, the rest of the chain",
)
def scope_host(p: Plan) -> None:
    www, sub, new = f"www.{p.host}", f"sub.{p.host}", "elsewhere.scope-host.test"
    chain = f"chain.{p.host}"
    p.servers.certify(p.host)
    p.seed()
    p.page("/", ["/1", "/denied/1", p.url("/2", door="tls"), p.url("/3", www), p.url("/4", sub)])
    p.page("/1")
    p.page("/2", door="tls")
    p.page("/3", host=www)
    p.spare("/denied/1")
    p.spare("/4", "/robots.txt", host=sub)
    moved = f"moved.{p.host}"
    p.seed(host=moved)
    p.put("/", redirect(p.url("/", new)), host=moved)
    p.find("/", "REDIRECT", host=moved)
    p.page("/", ["/6"], host=new)
    p.page("/6", host=new)
    p.seed(host=chain)
    for number in range(6):
        p.page(f"/{number}" if number else "/", [f"/{number + 1}"], host=chain)
    p.spare("/6", host=chain)


@probe(
    SCOPE,
    "`domain` (public suffix list); budgets in all",
    crawl="domain",
    finds="hosts of the seed's registrable domain, private suffixes counted; nine pages exactly",
    spares="other domains under the same suffix; the tenth page",
)
def scope_domain(p: Plan) -> None:
    one, two, other = "www.probes.co.uk", "shop.probes.co.uk", "others.co.uk"
    me, you = "me.github.io", "you.github.io"
    p.seed(host=one)
    p.page("/", [p.url("/1", two), p.url("/", other), "/c1"], host=one)
    p.page("/1", host=two)
    p.seed(host=me)
    p.page("/", [p.url("/", you), "/1"], host=me)
    p.page("/1", host=me)
    p.spare("/", "/robots.txt", host=other)
    p.spare("/", "/robots.txt", host=you)
    for number in range(1, 6):
        p.page(f"/c{number}", [f"/c{number + 1}"], host=one)
    p.spare("/c6", host=one)


@probe(
    SCOPE,
    "`prefix`, `allow`",
    crawl="prefix",
    finds="pages under the seed's folder that `--allow` has",
    spares="other folders, other hosts, pages under the folder that it has not",
)
def scope_prefix(p: Plan) -> None:
    p.seed("/docs/")
    p.page("/docs/", ["/docs/a", "/docs/b1", "/doc", "/docs", "/blog/", "../docs/../", p.url("/docs/x", f"www.{p.host}")])
    p.page("/docs/a")
    p.page("/docs/x", host=f"www.{p.host}")
    p.spare("/docs/b1", "/doc", "/docs", "/blog/", "/")


@probe(
    SCOPE,
    "`--no-follow`",
    crawl="list",
    finds="the seeds, and where a seed redirects to, whatever host that is",
    spares="their links; sitemaps",
)
def scope_list(p: Plan) -> None:
    p.robots(f"Sitemap: {p.url('/map.xml')}\n")
    p.put("/map.xml", Answer(200, {}, urlset(p.url("/mapped"))))
    p.spare("/map.xml", "/mapped", "/linked")
    for target in ("/", "/moved"):
        p.seed(target)
    p.page("/", ["/linked"])
    p.put("/moved", redirect(p.url("/there", f"other.{p.host}")))
    p.find("/moved", "REDIRECT")
    p.page("/there", ["/linked"], host=f"other.{p.host}")
    p.spare("/linked", host=f"other.{p.host}")


@probe(
    SCOPE,
    "depth exact to the shortest path known while a URL waits",
    finds="a page that waits for its slow host, first found at depth 3, then at depth 1: its line says 1",
)
def depth(p: Plan) -> None:
    slow, late = f"slow.{p.host}", f"late.{p.host}"
    p.pace(3.0, host=slow)
    p.seed(host=slow)
    p.page("/", host=slow)
    p.seed()
    for number in range(3):
        p.page(f"/{number}" if number else "/", [f"/{number + 1}" if number < 2 else p.url("/deep", slow)], depth=number)
    p.seed(host=late)
    p.page("/", [p.url("/deep", slow)], host=late, wait=1.2)
    p.page("/deep", host=slow, depth=1, referrer=p.url("/", late))


@probe(
    SCOPE,
    "depth; a page fetched at the limit and then found nearer is visited again for its links alone",
    crawl="loose",
    finds="pages two links away, and what a nearer path brings within two links",
    spares="pages three links away",
)
def depth_limit(p: Plan) -> None:
    late = f"late.{p.host}"
    p.seed()
    p.page("/", ["/1"])
    p.page("/1", ["/2"])
    p.page("/2", ["/3"], fetches=(1, 2))
    p.seed(host=late)
    p.page("/", [p.url("/2")], host=late, wait=2.0)
    p.page("/3", ["/4"], depth=2)
    p.page("/4", spared=True)


_TRAPS: Final[Mapping[str, tuple[str, ...]]] = {
    "repeated": ("/shop/list/shop/list/shop/list", "/loop/loop/loop/loop/x"),
    "segments": ("/" + "/".join(f"s{number}" for number in range(41)),),
    "parameters": ("/p?" + "&".join(f"p{number}=1" for number in range(65)), "/p?a=1&a=1&b=2&a=1&a=1"),
    "calendar": ("/calendar?year=2099&month=1", "/calendar/2099-11", "/2098/01/31/"),
    "growing": ("/g?back=%252525252F",),
}
_NO_TRAPS: Final = ("/0/0/0/0/0/x", "/a/b/a/b/x", "/calendar?year=2025&month=2", "/archive/1999-11", "/g?back=%252F")


@probe(
    SCOPE,
    "guards against calendars, repeated path segments, ever-longer URLs, each counted by rule",
    finds="pages that only look like traps; each trap as TRAP with its rule, counted by `coord status`",
    spares="the traps",
)
def traps(p: Plan) -> None:
    p.seed()
    p.page("/", [*(link for links in _TRAPS.values() for link in links), *_NO_TRAPS])
    p.pages(_NO_TRAPS)
    for rule, links in _TRAPS.items():
        p.guarded[rule] += len(links)
        for link in links:
            p.find(link, "TRAP", fetches=0, reason=rule)


@probe(
    SCOPE,
    "guards against session ids",
    finds="three pages that differ in nothing but their session id",
    spares="the fourth and fifth",
)
def traps_session(p: Plan) -> None:
    links = [f"/s?PHPSESSID={number:032x}" for number in range(5)]
    p.seed()
    p.page("/", links)
    p.pages(links[:3])
    p.guarded["session"] += 2
    for link in links[3:]:
        p.find(link, "TRAP", fetches=0, reason="session")


@probe(
    SCOPE,
    "guards against query explosions",
    finds="300 choices of filters of one list",
    spares="36 more",
)
def traps_facets(p: Plan) -> None:
    p.pace(0.0, 8)
    links = ["/list?" + "&".join(f"{name}=1" for name in chosen) for chosen in permutations("abcdefgh", 3)]
    p.seed()
    p.page("/", links)
    p.pages(links[:300])
    p.guarded["facets"] += len(links) - 300
    for link in links[300:]:
        p.find(link, "TRAP", fetches=0, reason="facets")


@probe(SCOPE, "`--no-guards`", crawl="loose", finds="what the guards would refuse")
def traps_off(p: Plan) -> None:
    links = [link for links in _TRAPS.values() for link in links]
    p.seed()
    p.page("/", links)
    p.pages(links)


# ----------------------------------------------------------------------------------------------------------- DNS


def _asked(p: Plan, host: str, kind: int) -> int:
    return p.servers.questions.count((host, kind))


_A: Final = 1
_AAAA: Final = 28


@probe(
    DNS,
    "one lookup per host however many coroutines want it",
    crawl="apart",
    finds="a host with 8 lanes and 20 pages; one question of each family for it",
)
def dns_once(p: Plan) -> None:
    p.pace(DELAY, 8)
    targets = [f"/{number}" for number in range(20)]
    p.seed()
    p.page("/", targets, ip=HERE)
    p.pages(targets)
    p.check(
        lambda log: None
        if (_asked(p, p.host, _A), _asked(p, p.host, _AAAA)) == (1, 1)
        else f"asked for {_asked(p, p.host, _A)} and {_asked(p, p.host, _AAAA)} times"
    )


@probe(
    DNS,
    "negative caching",
    crawl="apart",
    finds="five pages on two ports of a host that does not exist, each as DNS; one question for it",
)
def dns_missing(p: Plan) -> None:
    missing = f"missing.{p.host}"
    p.addresses[missing] = ()
    p.seed()
    p.page("/", [p.url(f"/{number}", missing, "alt" if number % 2 else "web") for number in range(5)])
    for number in range(5):
        p.find(f"/{number}", "DNS", host=missing, door="alt" if number % 2 else "web", fetches=0)
    p.ask("/robots.txt", 0, host=missing)
    p.ask("/robots.txt", 0, host=missing, door="alt")
    p.check(
        lambda log: None if _asked(p, missing, _A) == 1 else f"asked for {_asked(p, missing, _A)} times"
    )


@probe(
    DNS,
    "both families",
    crawl="apart",
    finds="a host that has an IPv6 address alone; one whose IPv4 address does not answer",
)
def dns_families(p: Plan) -> None:
    six, both = f"six.{p.host}", f"both.{p.host}"
    p.addresses[six] = (HERE_V6,)
    p.addresses[both] = (NOBODY, HERE_V6)
    for host in (six, both):
        p.seed(host=host)
        p.page("/", host=host, ip=HERE_V6)


@probe(
    DNS,
    "private addresses are refused at connect time",
    crawl="apart",
    finds="links to names and numbers of private addresses that nobody allowed, each as PRIVATE_ADDRESS",
    spares="all of them, a server that listens on loopback among them",
)
def dns_private(p: Plan) -> None:
    named = {"inner": "10.88.0.1", "meta": "169.254.169.254", "loop": "127.0.0.1", "mapped": "::ffff:127.0.0.1"}
    hosts = [f"{name}.{p.host}" for name in named]
    p.addresses.update({host: (address,) for host, address in zip(hosts, named.values(), strict=True)})
    hosts += ["127.0.0.1", "192.168.1.1"]
    p.seed()
    p.page("/", [*(p.url("/", host) for host in hosts), "http://0x7f000001/", "http://2130706433/"])
    for host in hosts:
        p.find("/", "PRIVATE_ADDRESS", host=host, fetches=0)
        p.ask("/robots.txt", 0, host=host)


@probe(
    CANONICAL,
    "default ports",
    crawl="apart",
    finds="one fetch of a page by http and one by https, with and without the port",
)
def default_ports(p: Plan) -> None:
    p.servers.certify(p.host)
    p.seed()
    plain = [f"http://{p.host}:80/a", f"http://{p.host}/a", f"http://{p.host}:080/a", f"http://{p.host}:/a"]
    p.page("/", [*plain, f"https://{p.host}:443/b", f"https://{p.host}/b"])
    p.page("/a")
    p.page("/b", door="tls")


# ----------------------------------------------------------------------------------------------------------- TLS


@probe(
    TLS,
    "TLS verified; failure reasons kept (expired, wrong host, self-signed, protocol); `--insecure` per host pattern only",
    finds="a good host; each bad one as TLS with its reason; one that `--insecure` names",
    spares="no request reaches a host whose certificate is not good",
)
def tls_reasons(p: Plan) -> None:
    good, expired, wrong = f"good.{p.host}", f"expired.{p.host}", f"wrong.{p.host}"
    signed, let_in = f"signed.{p.host}", f"x.let-in.{p.host}"
    p.servers.certify(good)
    p.servers.certify(expired, expired=True)
    p.servers.certify(wrong, "another.test")
    p.servers.certify(signed, self_signed=True)
    p.servers.certify(let_in, self_signed=True)
    for host in (good, let_in):
        p.seed(door="tls", host=host)
        p.page("/", door="tls", host=host)
    reasons = {expired: "tls_expired", wrong: "tls_hostname", signed: {"tls_unknown_issuer", "tls_self_signed"}}
    for host in reasons:
        p.seed(door="tls", host=host)
        p.find("/", "TLS", door="tls", host=host, fetches=0)
        p.ask("/robots.txt", 0, door="tls", host=host)


@probe(
    TLS,
    "proxies: HTTP(S) and SOCKS, a list, per host pattern",
    crawl="proxied",
    finds="all requests for a host through the proxy of its pattern (tinyproxy, microsocks); a dead one as PROXY",
    spares="no request for such a host comes by another way",
)
def proxies(p: Plan) -> None:
    direct, http, socks, dead = (f"{name}.{p.host}" for name in ("direct", "http", "socks", "dead"))
    shared = [f"list-{number}.{p.host}" for number in range(8)]
    via = {http: ["http"], socks: ["socks"], dead: ["dead"], f"list-*.{p.host}": ["http", "socks"]}
    for match, names in via.items():
        listed = ", ".join(f'"{p.servers.proxies[name]}"' for name in names)
        p.rule(f"proxy = [{listed}]", host=match)
    for host in (direct, http, socks, *shared):
        p.seed(host=host)
        p.page("/", ["/1"], host=host)
        p.page("/1", host=host)
    p.seed(host=dead)
    p.find("/", "PROXY", host=dead, fetches=0)
    p.ask("/robots.txt", 0, host=dead)

    def check(log: Log) -> str | None:
        ways: dict[str, set[str]] = {}
        for hit in log:
            way = "http" if "via" in hit.headers else "socks" if hit.client == SOCKS_SIDE else "direct"
            ways.setdefault(hit.host, set()).add(way)
        expected = {direct: {"direct"}, http: {"http"}, socks: {"socks"}}
        for host, way in expected.items():
            if ways[host] != way:
                return f"{host} was fetched by {ways[host]}"
        used = set().union(*(ways[host] for host in shared))
        return None if used == {"http", "socks"} else f"the hosts of a list came by {used}"

    p.check(check)


# ----------------------------------------------------------------------------------------------- near-duplicates


@probe(
    DUPLICATES,
    '"skip near-duplicates of this host" at a stated distance',
    crawl="switched",
    finds="an article, its copy with another date (named a near-duplicate), another article; links of both articles",
    spares="what only the copy links to",
)
def near_duplicates(p: Plan) -> None:
    words = [f"{a}{b}" for a in ("bel", "cor", "dan", "fil", "gor", "hul", "jam") for b in ("ora", "ition", "wick", "est")]
    article = " ".join(words * 6)
    other = " ".join(word[::-1] for word in words * 6)
    p.seed()
    p.page("/", ["/article"])
    p.page("/article", ["/copy", "/1"], body=f"<p>12 May 2024</p><p>{article}</p>", reason=None)
    p.page("/1", ["/other"])
    p.page("/copy", ["/2"], body=f"<p>13 May 2025</p><p>{article}</p>", reason="near_duplicate")
    p.page("/other", ["/3"], body=f"<p>{other}</p>", reason=None)
    p.page("/3")
    p.page("/2", spared=True)


@probe(
    DUPLICATES,
    "exact duplicates as WARC revisits across the whole crawl",
    finds="one page under two addresses and on two hosts: one response, two revisits of the same digest",
)
def duplicates(p: Plan) -> None:
    other = f"other.{p.host}"
    p.pace(3.0, host=other)  # so that it comes last
    p.seed(host=other)
    p.page("/", ["/1"], host=other)
    p.seed()
    p.page("/", ["/1"])
    same = html('<title>same</title><p>The same to the byte.<a href="/next">x</a>')
    for target, host in (("/1", None), ("/next", None), ("/1", other)):
        p.put(target, same, host=host)
    p.find("/1", record="response")
    p.find("/next", record="revisit")
    p.find("/1", host=other, record="revisit")
    p.page("/next", host=other)
