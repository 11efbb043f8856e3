"""Scope, depth, budgets and traps. How to read it: registry.py."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Final

from tests.probes.manifest import Plan
from tests.probes.registry import SCOPE, probe
from tests.probes.server import Answer, redirect
from tests.probes.sitemaps import urlset


@probe(
    SCOPE,
    "`host`, `deny`; a redirect from a seed adds its host; budgets per host",
    crawl="host",
    finds="the seed's host by http, https and as `www.`, the host that a seed redirects to; six pages of a chain",
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
    p.page(
        "/docs/",
        ["/docs/a", "/docs/b1", "/doc", "/docs", "/blog/", "../docs/../", p.url("/docs/x", f"www.{p.host}")],
    )
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
        p.page(
            f"/{number}" if number else "/",
            [f"/{number + 1}" if number < 2 else p.url("/deep", slow)],
            depth=number,
        )
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
_NO_TRAPS: Final = (
    "/0/0/0/0/0/x",
    "/a/b/a/b/x",
    "/calendar?year=2025&month=2",
    "/archive/1999-11",
    "/g?back=%252F",
)


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
