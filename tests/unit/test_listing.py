"""A sitemap leads to pages and sitemaps of the hosts it may speak for, and to no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import BadURL
from common.messages import SITEMAP, LinkGroup, Request
from common.scope import HeldSites, Scope
from common.url import CanonicalURL, canonical, fingerprint
from worker.listing import MAX_CHILDREN, form_of, may_speak_for, pages, sitemaps
from worker.sitemap import Entry

ANY = Scope("any", None)
HOST = Scope("host", HeldSites({"a.test"}))
ROBOTS = "https://a.test/robots.txt"


def sitemap(
    url: str = "https://a.test/maps/s.xml",
    *,
    referrer: str | None = ROBOTS,
    seed: str = "https://a.test/",
    level: int = 0,
    round_: int = 0,
    hops: int = 0,
) -> Request:
    return Request(url, 0, hops, 0, 0, seed, referrer, form_of(level, round_))


def resolve(text: str, base: CanonicalURL) -> CanonicalURL:
    return canonical(text, base)


def listed(
    request: Request, *entries: Entry | str, scope: Scope = ANY, known: tuple[str, ...] = ()
) -> tuple[LinkGroup | None, dict[str, int]]:
    refused: dict[str, int] = {}
    sent = {fingerprint(canonical(url), 1) for url in known}
    groups, fingerprints = pages(
        [entry if isinstance(entry, Entry) else Entry(entry) for entry in entries],
        request,
        scope=scope,
        resolve=resolve,
        seed=1,
        covers=lambda key, depth: key in sent,
        refused=refused,
    )
    if not groups:
        assert not fingerprints
        return None, refused
    assert fingerprints == tuple(fingerprint(CanonicalURL(url), 1) for url in groups[0].urls)
    return groups[0], refused


def indexed(request: Request, *urls: str, scope: Scope = ANY) -> tuple[LinkGroup | None, dict[str, int]]:
    refused: dict[str, int] = {}
    found = sitemaps([Entry(url, 5) for url in urls], request, scope=scope, resolve=resolve, refused=refused)
    return (found[0] if found else None), refused


def test_the_pages_of_a_sitemap_are_one_link_away_with_their_dates() -> None:
    group, refused = listed(
        sitemap(), Entry("https://a.test/1", 77), "/2", Entry("https://a.test/1#x", 5), ""
    )
    assert group == LinkGroup(
        "https://a.test/maps/s.xml",
        "https://a.test/",
        1,
        0,
        0,
        ("https://a.test/1", "https://a.test/2", "https://a.test/maps/s.xml"),
        None,
        (77, None, None),
    )
    assert refused == {}


def test_dates_are_left_out_where_there_are_none() -> None:
    group, _ = listed(sitemap(), "/1")
    assert group is not None
    assert group.lastmods is None


@pytest.mark.parametrize(
    ("url", "referrer", "seed", "taken"),
    [
        # its own host, apex and www. being one; other hosts are refused
        ("https://a.test/s", ROBOTS, "https://a.test/", {"a", "www.a"}),
        # one that a robots.txt elsewhere named speaks for that host, too
        ("https://cdn.test/s", ROBOTS, "https://a.test/", {"a", "www.a", "cdn"}),
        # robots.txt of the host itself, while the crawl began elsewhere
        ("https://b.test/s", "https://b.test/robots.txt", "https://a.test/", {"b"}),
        # a seed: the operator named it
        ("https://cdn.test/s", None, "sitemap:https://cdn.test/s", {"a", "www.a", "cdn", "b"}),
        # a sitemap of a seed's index
        (
            "https://cdn.test/s",
            "https://cdn.test/index",
            "sitemap:https://cdn.test/index",
            {"a", "www.a", "cdn", "b"},
        ),
        # whatever else led there
        ("https://cdn.test/s", "https://a.test/page", "https://a.test/", {"cdn"}),
    ],
)
def test_a_sitemap_speaks_for_its_own_host_and_the_one_that_named_it(
    url: str, referrer: str | None, seed: str, taken: set[str]
) -> None:
    hosts = ["a", "www.a", "cdn", "b"]
    request = sitemap(url, referrer=referrer, seed=seed)
    group, refused = listed(request, *(f"https://{host}.test/p" for host in hosts))
    assert group is not None
    assert {found.split("/")[2].removesuffix(".test") for found in group.urls} == taken
    assert refused == ({"sitemap_host": len(hosts) - len(taken)} if len(taken) < len(hosts) else {})


def test_what_is_out_of_scope_or_known_is_not_sent() -> None:
    request = sitemap("https://cdn.test/s")
    entries = ("https://a.test/1", "https://a.test/2", "https://cdn.test/3", "mailto:x@a.test")
    group, refused = listed(request, *entries, scope=HOST, known=("https://a.test/2",))
    assert group is not None
    assert group.urls == ("https://a.test/1",)
    assert refused == {"scope": 1, "scheme": 1}


def test_the_sitemaps_of_an_index_are_a_hop_further_at_the_same_depth() -> None:
    request = sitemap(round_=2, hops=1)
    group, refused = indexed(request, "/one.xml", "/one.xml", request.url, "https://b.test/two.xml")
    assert group is not None
    assert (group.referrer, group.depth, group.hops, group.flags) == (ROBOTS, 0, 2, 0)
    assert group.urls == ("https://a.test/one.xml",)
    assert group.forms is not None
    assert [(form.method, form.round) for form in group.forms if form] == [(SITEMAP, 2)]
    assert group.lastmods == (5,)
    assert refused == {"sitemap_host": 1}


def test_an_index_of_a_seed_may_name_sitemaps_in_scope_and_of_its_own_host() -> None:
    request = sitemap("https://cdn.test/index", referrer=None, seed="sitemap:https://cdn.test/index")
    urls = ("https://cdn.test/1", "https://a.test/2", "https://b.test/3")
    group, refused = indexed(request, *urls, scope=HOST)
    assert group is not None
    assert (group.referrer, group.urls) == (request.url, urls[:2])
    assert refused == {"sitemap_host": 1}


def test_the_robots_txt_that_named_an_index_vouches_for_what_lies_below_it() -> None:
    request = sitemap("https://cdn.test/index")
    for _ in range(2):
        group, _ = indexed(request, "https://cdn.test/deeper")
        assert group is not None
        assert group.forms is not None
        request = Request(
            "https://cdn.test/deeper", 0, group.hops, 0, 0, group.seed, group.referrer, group.forms[0]
        )
        request = request._replace(url=request.url + "/x")
    found, refused = listed(request, "https://a.test/p", "https://b.test/p")
    assert found is not None
    assert found.urls == ("https://a.test/p",)
    assert refused == {"sitemap_host": 1}


def test_indexes_end_at_the_third_level() -> None:
    request, levels = sitemap(), 0
    while (group := indexed(request, f"/{levels}.xml")[0]) is not None:
        assert group.forms is not None
        levels += 1
        request = request._replace(url=group.urls[0], hops=group.hops, form=group.forms[0])
    assert levels == 3
    assert indexed(request, "/a", "/b")[1] == {"sitemap_depth": 2}
    assert listed(request, "/page")[0] is not None


def test_a_hop_of_redirects_is_no_level() -> None:
    assert indexed(sitemap(hops=7), "/1.xml")[0] is not None


def test_an_index_has_a_bound_on_its_sitemaps() -> None:
    group, refused = indexed(sitemap(), *(f"/{number}.xml" for number in range(MAX_CHILDREN + 3)))
    assert group is not None
    assert len(group.urls) == MAX_CHILDREN
    assert refused == {"sitemap_children": 3}


def test_a_carry_of_somebody_else_is_no_level() -> None:
    request = sitemap()
    assert request.form is not None
    for carry in (b"\x93\x01\x02\x03", b"\xc0", b""):
        assert indexed(request._replace(form=request.form._replace(carry=carry)), "/1.xml")[0] is not None


def test_a_redirect_may_lead_where_the_sitemap_may_speak() -> None:
    assert may_speak_for(sitemap(), CanonicalURL("https://www.a.test/s"), ANY)
    assert not may_speak_for(sitemap(), CanonicalURL("https://b.test/s"), ANY)
    assert may_speak_for(sitemap("https://cdn.test/s"), CanonicalURL("https://a.test/s"), ANY)
    seed = sitemap("https://b.test/s", referrer=None, seed="sitemap:https://b.test/s")
    assert may_speak_for(seed, CanonicalURL("https://a.test/s"), HOST)
    assert may_speak_for(seed, CanonicalURL("https://b.test/t"), HOST)
    assert not may_speak_for(seed, CanonicalURL("https://c.test/t"), HOST)


def test_bad_addresses_are_counted_by_their_reason() -> None:
    def never(text: str, base: CanonicalURL) -> CanonicalURL:
        raise BadURL(text, "invalid")

    refused: dict[str, int] = {}
    entry = replace(Entry("x"), lastmod=1)
    assert sitemaps([entry], sitemap(), scope=ANY, resolve=never, refused=refused) == ()
    assert refused == {"invalid": 1}
