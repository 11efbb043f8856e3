"""Every robots.txt of crawler-commons, with what its SimpleRobotRulesParserTest expects of it.

Where its test says nothing of a file, the expectations are read off the file by RFC 9309. Some of them also
stand in test_robots.py, among the rules that they are about; here no file is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.robots import Rules, parse

SUITE = Path(__file__).parents[3] / "shared" / "suites" / "robots"
suite = pytest.mark.skipif(not SUITE.is_dir(), reason=f"the public cases are not here: {SUITE}")

DEVIATIONS: dict[str, str] = {
    "bot1, bot2, bot3, bot4": (
        "crawler-commons: names with digits. Ours: a product token has letters, - and _ only (RFC 9309, 2.2.1), "
        "so bot1 is read as bot; the test writes bot-one for bot1."
    ),
    "sitemap-robots.txt": (
        "crawler-commons: 3 sitemaps, of which one is a bare URL on a line. Ours: 2: a line without a directive "
        "is no record (RFC 9309, 2.2), and nothing says that the URL is a sitemap."
    ),
    "relative-sitemap-robots.txt, extension-robots.txt": (
        "crawler-commons: the sitemap's URL joined with that of the file. Ours: as written; who asked for the "
        "file joins it."
    ),
    "many-user-agents.txt": (
        "crawler-commons: a name of several words or with slashes, dots or digits is one name. Ours: it ends "
        "where a product token must, as in Google's parser."
    ),
    "a Crawl-delay above five minutes (no file)": (
        "crawler-commons: then nothing may be fetched. Ours: the delay is kept as written and bounded where "
        "politeness is decided."
    ),
}
"""What crawler-commons says, what we do, and why."""

# file: [(token, paths that are allowed, paths that are not)]
FILES: dict[str, list[tuple[str, str, str]]] = {
    "astore.amazon.com-robots.txt": [("foobot", "/ /x", "")],
    "crawl-delay-group-merging.txt": [
        ("mybot", "/ /login/", "/private/"),
        ("yourbot", "/", "/private/ /login/"),
        ("anybot", "/ /private/ /login/", ""),
    ],
    "directive-typos-robots.txt": [
        ("bot-one", "/ /useragent/", "/desallow/ /dissalow/"),
        ("bot-two", "/ /dissalow/ /useg-agent/", "/useragent/"),
        ("bot-three", "/ /useragent/ /useragent-no-colon/", "/useg-agent/"),
        ("bot-four", "/ /useg-agent/", "/useragent-no-colon/"),
    ],
    "dos-line-endings.txt": [("bot-one", "/", "")],
    "extended-standard-robots.txt": [("foobot", "/", ""), ("bot-one", "/", ""), ("bot-three", "/", "")],
    "extension-robots.txt": [
        ("foobot", "/ /private/ /admin/", ""),
        ("mybot", "/ /admin/ /secret/", "/private/"),
        ("otherbot", "/ /private/", "/admin/"),
    ],
    "extensions-group-merging.txt": [
        ("mybot", "/", "/private/ /login/"),
        ("yourbot", "/", "/private/ /login/"),
        ("anybot", "/llms.txt", "/ /x"),
    ],
    "format-errors-robots.txt": [
        ("bot-one", "/", "/whitespace-before-colon/ /no-colon/"),
        ("bot-two", "/ /no-colon/", "/no-colon-useragent/"),
        ("bot-three", "/whitespace-before-colon/", "/ /x"),
    ],
    "malformed-path.txt": [
        (
            "bot-one",
            "/wiki/ /wiki/Wikipedia_talk:Mediation",
            "/wiki/Wikipedia_talk:Mediation_Committee/ /wiki/Wikipedia_talk%3Mediation_Committee/",
        ),
    ],
    "many-user-agents.txt": [
        ("wget", "/robots.txt", "/ /bot-trap/"),
        ("mysuperlongbotnamethatmatchesnothing", "/", "/bot-trap/"),
        ("shoal", "/", "/bot-trap/"),
    ],
    "merge-rules.txt": [
        ("wget", "/foo/bar/bar.txt /chk/bar/bar.txt /ckh/bar/x", "/tmp/bar/bar.txt"),
        ("testy", "/robots.txt", "/ /foo/bar"),
        ("curl", "", "/ /foo/bar"),
        ("foobot", "/ /ckh/bar", "/foo/bar /tmp/bar/x"),
    ],
    "precedence-of-rules.txt": [
        ("wget", "/ /foo/bar", "/bar/foo"),
        ("testy", "/ /foo/bar", "/foo/blue /foo/ /foo/tar"),
        ("foobot", "/ /foo", ""),
    ],
    "relative-sitemap-robots.txt": [("bot-one", "/", "/cache/ /cp/x /files/")],
    "rfc9309-example-longest-match-robots.txt": [
        ("foobot", "/example/page/ /example/page/disallowed.jpg", "/example/page/disallowed.gif"),
        ("anybot", "/example/page/disallowed.gif", ""),
    ],
    "rfc9309-example-rule-group-merging.txt": [
        ("ExampleBot", "/", "/foo /bar /baz"),
        ("bazbot", "/foo /bar", "/baz"),
        ("anybot", "/baz", "/foo /bar"),
    ],
    "rfc9309-example-simple-robots.txt": [
        ("foobot", "/example/page.html /example/allowed.gif", "/ /example/ /publications/"),
        ("barbot", "/ /a.gif /example/", "/example/page.html"),
        ("bazbot", "/ /a.gif /example/", "/example/page.html"),
        ("quxbot", "/ /a.gif /example/page.html", ""),
        ("anybot", "/ /publications/ /a.gif?x", "/example/ /a.gif /x/b.gif"),
    ],
    **{
        f"robots-with-{coding}-bom.txt": [
            ("foobot", "/ /search", "/profile /login.aspx /x/output/print"),
            ("googlebot", "/ /output/print", "/profile /search.aspx /x/output/print"),
        ]
        for coding in ("utf8", "utf16le", "utf16be")
    },
    "sitemap-robots-dedup.txt": [("bot-one", "/", "")],
    "sitemap-robots.txt": [("bot-one", "/", "")],
    "twitter.com-robots.txt": [
        ("foobot", "/ /with_friends", "/x? /x?y /x/with_friends"),
        ("msnbot", "/", "/?x"),
    ],
    "wildcards.txt": [
        (
            "any-darn-crawler",
            "/ /wishlist/universal/page /gp/wishlist/ipad-install2 /gp/registry/wishlist",
            "/wishlist/bogus /anydirectoryhere/gcrnsts /gp/registry/wishlist/1/reserve /gp/cart",
        ),
        (
            "googlebot",
            "/dp/shipping /rss/people/reviews",
            "/dp/shipping/ /rss/people/1/reviews /sim/x/sim/B001132UEE",
        ),
        ("etaospider", "", "/ /wishlist/universal"),
    ],
    "www.flot.com-robots.txt": [("foobot", "/ /x/img/", "/img/ /bitrix/x")],
}

DELAYS: dict[str, dict[str, float | None]] = {
    "astore.amazon.com-robots.txt": {"foobot": 5.0},
    "crawl-delay-group-merging.txt": {"mybot": 10.0, "yourbot": None, "anybot": 30.0},
    "dos-line-endings.txt": {"bot-one": 1.0},
    "twitter.com-robots.txt": {"slurp": 1.0, "msnbot": 10.0, "googlebot": None, "foobot": None},
}

NEWSWEEK = ("http://www.newsweek.com/sitemap_index.xml",)
SITEMAPS: dict[str, tuple[str, ...]] = {
    "extension-robots.txt": ("/sitemap.xml",),
    "format-errors-robots.txt": ("/sitemap.xml",),
    "relative-sitemap-robots.txt": ("/sitemap.xml",),
    "robots-with-utf16be-bom.txt": NEWSWEEK,
    "robots-with-utf16le-bom.txt": NEWSWEEK,
    "robots-with-utf8-bom.txt": NEWSWEEK,
    "sitemap-robots-dedup.txt": ("http://example.org/sitemap.xml",),
    "sitemap-robots.txt": ("http://domain.com/sitemap.xml", "http://domain.com/dir/MixedCased-sitemap.xml"),
    "www.flot.com-robots.txt": ("http://flot.com/sitemap_index.xml",),
}

_DIGITS = {b"1": b"one", b"2": b"two", b"3": b"three", b"4": b"four"}


def rules(file: str, token: str) -> Rules:
    body = (SUITE / file).read_bytes()
    if token.startswith("bot-"):
        body = re.sub(rb"\bbot([1-4])\b", lambda found: b"bot-" + _DIGITS[found[1]], body)
    return parse(body, token)


@suite
@pytest.mark.parametrize(
    ("file", "token", "allowed", "refused"),
    [(file, *case) for file, cases in FILES.items() for case in cases],
)
def test_what_a_file_allows(file: str, token: str, allowed: str, refused: str) -> None:
    found = rules(file, token)
    asked = allowed.split() + refused.split()
    assert [path for path in asked if found.allows(f"http://domain.com{path}")] == allowed.split()


@suite
@pytest.mark.parametrize("file", DELAYS)
def test_the_delays_of_a_file(file: str) -> None:
    assert {token: rules(file, token).crawl_delay for token in DELAYS[file]} == DELAYS[file]


@suite
@pytest.mark.parametrize("file", FILES)
def test_the_sitemaps_of_a_file_are_for_everybody(file: str) -> None:
    for token in ("foobot", "mybot", "bot-three", "wget"):
        found = rules(file, token).sitemaps
        if file == "wildcards.txt":
            assert len(found) == 8 and all(url.startswith("http://www.amazon.com/sitemap") for url in found)
        else:
            assert found == SITEMAPS.get(file, ())


@suite
def test_no_file_is_left_out() -> None:
    assert {path.name for path in SUITE.glob("*.txt")} == set(FILES)
