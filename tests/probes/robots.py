"""robots.txt, and what pages and links ask of robots. How to read it: registry.py."""

from __future__ import annotations

from itertools import pairwise

from tests.probes.manifest import DELAY, Plan
from tests.probes.registry import ROBOTS, probe
from tests.probes.server import Answer, Door, html, redirect


@probe(
    ROBOTS,
    "4xx means allow",
    finds="pages of hosts whose robots.txt is a 400, 401, 403, 404 or 410, an empty file, or a page of HTML",
)
def robots_absent(p: Plan) -> None:
    answers = {
        f"s{status}": Answer(status, {}, b"User-agent: *\nDisallow: /\n")
        for status in (400, 401, 403, 404, 410)
    }
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
        "".join(
            f"User-agent: {name}\nDisallow: /\n\n" for name in ("mozilla", "Mozilla/5.0", "sho", "shoalbot")
        )
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
    doors: tuple[tuple[Door, str], ...] = (("web", "/a"), ("alt", "/b"), ("tls", "/c"))
    for door, denied in doors:
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
    p.page(
        "/",
        ["/plain"],
        body='<a rel="nofollow" href="/1">x</a><a rel="external NOFOLLOW ugc" href="/2">x</a>',
    )
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


@probe(
    ROBOTS,
    '5xx, 429 and network failure mean "disallow for now, try again later"',
    crawl="later",
    finds="hosts whose robots.txt is a 500, 503, 429, silence, a reset: asked once, their pages QUEUED; others go on",
    spares="all pages of these hosts, though they would answer",
)
def robots_unreachable(p: Plan) -> None:
    answers = {
        "s500": Answer(500),
        "s503": Answer(503),
        "s429": Answer(429),
        "mute": Answer(200, wait=30.0),
        "reset": Answer(200, stop_after=0),
    }
    for name, answer in answers.items():
        host = f"{name}.{p.host}"
        p.put("/robots.txt", answer, host=host)
        p.ask("/robots.txt", host=host)
        p.seed(host=host)
        p.page("/", host=host, spared=True)
        p.queued.add(p.url("/", host))
    p.seed()
    p.page("/")
    then = p.next()
    for name in answers:
        then.ask("/robots.txt", (0, 1), host=f"{name}.{p.host}")  # where this takes more than a minute


@probe(
    ROBOTS,
    "cached at most 24 hours",
    crawl="later",
    finds="a day later the file is asked for again, and its new rules count",
    spares="what the new rules disallow",
)
def robots_renewed(p: Plan) -> None:
    texts = ("User-agent: *\nDisallow: /a\n", "User-agent: *\nDisallow: /b\n")
    p.put("/robots.txt", *(Answer(200, {}, text.encode()) for text in texts))
    p.seed()
    p.page("/")
    then = p.next()
    for target in ("/a", "/b"):
        then.seed(target)
    then.page("/a")
    then.find("/b", "ROBOTS_DENIED", fetches=0)


@probe(
    ROBOTS,
    "a stale copy may serve while the server fails",
    crawl="later",
    finds="a day later the file is asked for again, gives 503, and what the old copy allows is fetched",
    spares="what the old copy disallows",
)
def robots_stale(p: Plan) -> None:
    p.put("/robots.txt", Answer(200, {}, b"User-agent: *\nDisallow: /no\n"), Answer(503))
    p.seed()
    p.page("/")
    then = p.next()
    for target in ("/more", "/no"):
        then.seed(target)
    then.page("/more")
    then.find("/no", "ROBOTS_DENIED", fetches=0)
