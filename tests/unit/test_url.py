"""The canonical form, judged by the public suites; the short cuts, judged by the parser."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from ada_url import join_url
from hypothesis import example, given
from hypothesis import strategies as st

from common import url as module
from common.errors import BadURL
from common.normalization import TRACKING, Normalizer
from common.url import (
    MAX_HOST,
    SLOTS,
    CanonicalURL,
    HostKey,
    LinkJoiner,
    authority,
    canonical,
    encode_query,
    fingerprint,
    has_canonical_shape,
    host_key,
    path_and_query,
    request_key,
    slot,
)

SUITES = Path(__file__).parents[3] / "shared" / "suites" / "url"
needs_suites = pytest.mark.skipif(not SUITES.is_dir(), reason=f"no public test data at {SUITES}")


def outcome(text: str, base: str | None = None) -> str:
    """The canonical form, or the reason why there is none."""
    try:
        return canonical(text, base)
    except BadURL as bad:
        return bad.reason


# ------------------------------------------------------------------------------- the public suites

# What the suites expect and we do not give, with the reason; docs/urls.md explains. Any change shows.
ESCAPES = "escapes are upper case, those of unreserved characters decoded (RFC 3986, 6.2.2)"
EMPTY_LABEL = "no name server can answer for a host with an empty label"
WPT_DEVIATIONS = {
    "/a%2fc": ("http://example.org/a%2Fc", ESCAPES),
    "/a/%2f/c": ("http://example.org/a/%2F/c", ESCAPES),
    "http://example.com/foo/%2e%2": ("http://example.com/foo/%2E%2", ESCAPES),
    "http://example.com/foo/%2e./%2e%2e/.%2e/%2e.bar": ("http://example.com/..bar", ESCAPES),
    "http://example.com/foo%41%7a": ("http://example.com/fooAz", ESCAPES),
    "http://example.com/foo%00%51": ("http://example.com/foo%00Q", ESCAPES),
    "http://example.com/%3A%3a%3C%3c": ("http://example.com/%3A%3A%3C%3C", ESCAPES),
    "http://www/foo%2Ehtml": ("http://www/foo.html", ESCAPES),
    "http://./": ("invalid", EMPTY_LABEL),
    "http://../": ("invalid", EMPTY_LABEL),
    "http://foo.09..": ("invalid", EMPTY_LABEL),
}

NOT_HTTP = "only http and https are fetched"
NO_HOST = "a URL without a host is refused"
SLASHES = "the standard keeps empty segments; servers may tell them apart"
STRAY = "browsers send a stray % as it is"
RAW = "the standard leaves this character as it is in a query, and so do browsers"
SORTED = "sorting or cutting parameters may name another page"
DOT = "the standard keeps the final dot, servers may tell it apart; only the host key drops it"
BARE = "a text without a scheme is a relative URL here; seeds take bare hosts (coordinator/seedtext.py)"
NORMALIZED_DEVIATIONS = {
    67: RAW,
    **dict.fromkeys(range(123, 129), SLASHES),
    **dict.fromkeys((135, 136, 178, 179, 185, 186), NOT_HTTP),
    **dict.fromkeys((138, 139), NO_HOST),
    **dict.fromkeys((149, 156, 164, 167, 168), STRAY),
    **dict.fromkeys((159, 160, 161), RAW),
    176: BARE,
    182: DOT,
    **dict.fromkeys((189, 190, 192, 193, 202, 204, 205, 208, 209, 210, 211), SORTED),
}
FRAGMENT_OR_LOGIN = "fragment, user name and password are no part of what is fetched"
RESOLVE_DEVIATIONS = {18: FRAGMENT_OR_LOGIN, 25: ESCAPES, 26: ESCAPES, 30: NOT_HTTP, 36: FRAGMENT_OR_LOGIN}


NO_URL = "a failure"
"""What the web-platform-tests expect of a text that is no URL; the reason is ours to choose."""


def wpt_cases() -> list[tuple[str, str | None, str]]:
    """(input, base, expected) of the web-platform-tests; what we drop by intent is left out of the expected:
    fragment, login, empty query. What is not http(s) must be refused for its scheme."""
    cases: list[Any] = json.loads((SUITES / "wpt-urltestdata.json").read_text("utf-8"))
    found = []
    for case in cases:
        if isinstance(case, str):
            continue
        if case.get("failure"):
            expected = NO_URL
        elif case["protocol"] not in ("http:", "https:"):
            expected = "scheme"
        else:
            expected = f"{case['protocol']}//{case['host']}{case['pathname']}{case['search']}"
        found.append((case["input"], case.get("base"), expected))
    return found


def rows(name: str) -> list[tuple[int, str]]:
    lines = (SUITES / name).read_bytes().decode().split("\n")
    return [
        (n, line) for n, line in enumerate(lines, 1) if line and line != "#" and not line.startswith("# ")
    ]


def normalized_cases() -> list[tuple[int, str, str]]:
    """(line, input, expected) of crawler-commons' normalising."""
    cells = [(number, next(csv.reader([line]))) for number, line in rows("weirdToNormalizedUrls.csv")]
    return [(number, text, expected.strip()) for number, (text, expected) in cells]


def resolve_cases() -> list[tuple[int, str, str | None, str]]:
    """(line, input, base, expected) of crawler-commons' resolving."""
    cells = [
        (number, next(csv.reader([line], skipinitialspace=True))) for number, line in rows("url-resolve.csv")
    ]
    return [(number, text, base or None, expected) for number, (text, base, expected) in cells]


@needs_suites
def test_the_web_platform_tests_hold_but_for_the_stated_deviations() -> None:
    deviations = {}
    for text, base, expected in wpt_cases():
        got = outcome(text, base)
        right = not got.startswith("http") if expected == NO_URL else got == expected
        if not right:
            deviations[text] = got
    assert deviations == {text: got for text, (got, _reason) in WPT_DEVIATIONS.items()}


@needs_suites
def test_crawler_commons_normalising_holds_but_for_the_stated_deviations() -> None:
    deviations = {number for number, text, expected in normalized_cases() if outcome(text) != expected}
    assert deviations == set(NORMALIZED_DEVIATIONS)


@needs_suites
def test_crawler_commons_resolving_holds_but_for_the_stated_deviations() -> None:
    deviations = {
        number for number, text, base, expected in resolve_cases() if outcome(text, base) != expected
    }
    assert deviations == set(RESOLVE_DEVIATIONS)


@needs_suites
def test_crawler_commons_invalid_urls_are_refused() -> None:
    assert [outcome(line) for _, line in rows("invalidUrls.csv")] == ["invalid", "invalid"]


# ------------------------------------------------------------------------------- the canonical form


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h.test", "http://h.test/"),
        ("HTTP://H.Test:80/a?#f", "http://h.test/a"),
        ("http://h.test/a??", "http://h.test/a??"),
        ("http://h.test/?", "http://h.test/"),
        ("https://u:p@h.test:8443/a@b", "https://h.test:8443/a@b"),
        ("https://u@h.test", "https://h.test/"),
        ("http://u@u@h.test/", "http://h.test/"),
        ("http://h.test/%7euser/%c3%a9", "http://h.test/~user/%C3%A9"),
        ("http://h.test/%2525%41", "http://h.test/%2525A"),
        ("http://h.test/%%34%31?%7e%e", "http://h.test/%%34%31?%7E%e"),
        ("http://b\u00fccher.test/\u00e9?\u00e9", "http://xn--bcher-kva.test/%C3%A9?%C3%A9"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://[::0:1]:80/", "http://[::1]/"),
        ("http://h.test./", "http://h.test./"),
        (" \thttp://h.te\nst/a b\r\n", "http://h.test/a%20b"),
        ("http:\\\\h.test\\a", "http://h.test/a"),
        ("http://h.test/.well-known/x", "http://h.test/.well-known/x"),
    ],
)
def test_the_canonical_form(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("ftp://h.test/", "scheme"),
        ("mailto:a@h.test", "scheme"),
        ("JavaScript:void(0)", "scheme"),
        ("data:" + "x" * 100_000, "scheme"),
        ("http://", "no_host"),
        ("HTTPS:///", "no_host"),
        ("http://?q", "no_host"),
        ("http://:80/", "no_host"),
        ("http://h test/", "invalid"),
        ("http://h.test:99999/", "invalid"),
        ("http://a..test/", "invalid"),
        ("page.html", "invalid"),
        ("http://h.test/\ud800", "invalid"),
        ("http://h.test/" + "a" * 2048, "too_long"),
        ("http://h.test/" + "a" * 100_000, "too_long"),
    ],
)
def test_what_is_no_url_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BadURL) as refused:
        canonical(text)
    assert refused.value.reason == reason


def test_the_length_counts_in_the_canonical_form() -> None:
    exactly = "http://h.test/".ljust(2048, "a")
    assert canonical(exactly + "#" + "f" * 5000) == exactly
    assert canonical(exactly, max_length=2048) == exactly
    assert outcome(exactly + "a") == "too_long"
    assert outcome("/\u00e9" * 400, "http://h.test/") == "too_long"


# Texts as the web writes them: hypothesis finds little in plain text().
# fmt: off
scraps = st.sampled_from([
    "a", "B", "1", "/", "//", ".", "..", "./", "../", ".1", "?", "#", ":", "http:", "https://", "HTTP://",
    "h.com", "xn--a", "1.2.3.4", "0x7f", "[::1]", "u:p@", "@", "80", ":80", ":443", ":8080", "%41", "%2F",
    "%2e", "%E9", "%c3", "%", "%%", "\u00e9", "\xa0", "\ud800", "\t", "\n", "\0", " ", "\\", "~", "-", "_",
    "'", '"', "|", "^", "`", "{", "}", "[", "<", "=", "&", "javascript:",
])
# fmt: on
texts = st.lists(scraps, max_size=8).map("".join) | st.text(max_size=20)
bases = st.sampled_from(
    [
        CanonicalURL(base)
        for base in (
            "http://h.com/",
            "https://www.x.org/a/b/c.html?q=1",
            "http://h:8080/a//b/",
            "https://h.com/x/y",
            "http://1.2.3.4/a",
        )
    ]
)


def by_the_parser(text: str, base: str) -> str:
    """The canonical form without any short cut: what the parser gives, canonical again."""
    try:
        href = join_url(base, text)
    except ValueError:
        return "bad"
    return outcome(href + "#") if href.startswith("http") else "bad"  # a "#" keeps the short cut out


@given(texts, st.none() | bases)
def test_canonical_is_idempotent_and_raises_nothing_but_bad_url(text: str, base: str | None) -> None:
    try:
        once = canonical(text, base)
    except BadURL:
        return
    assert canonical(once) == once
    assert once.isascii()
    assert once.startswith(("http://", "https://"))
    assert host_key(once)
    assert authority(once) + path_and_query(once) == once


@given(st.lists(texts, max_size=6), st.lists(bases, min_size=1, max_size=4))
@example(
    ["..//x", "./http://x.com/", "../?q", "./a:b", "..", "../", "/\t/x.com"],
    [CanonicalURL("http://h.com/a/b/c")],
)
@example(
    ["http:x", "HTTP:x", "\xa0/x", "h\nttp://x.com"],
    [CanonicalURL("http://h.com/a/"), CanonicalURL("https://h/")],
)
def test_the_joiner_gives_what_the_parser_gives_whatever_page_came_before(
    hrefs: list[str], pages: list[CanonicalURL]
) -> None:
    joiner = LinkJoiner(7, entries=20)
    for page in pages * 2:
        expected = [by_the_parser(href, page) for href in hrefs]
        good = [found for found in expected if found.startswith("http")]
        assert [link for link, _ in joiner.join(page, hrefs)] == list(dict.fromkeys(good))


# ------------------------------------------------------------------------------- what is cut from it


def test_a_host_name_beyond_what_dns_can_hold_is_refused() -> None:
    """It once came through, did not fit into a lease, and the crawl never ended."""
    longest = "y" + "." + ".".join(["x" * 62] * 4)
    assert len(longest) == MAX_HOST
    joiner = LinkJoiner(1)
    for tail in ("", ".", ":8080", ".:8080"):
        for plain in ("/", "/%7e"):
            url = canonical(f"http://{longest}{tail}{plain}")
            assert host_key(url) == longest
            assert has_canonical_shape(url)
            long = f"http://z{longest}{tail}{plain}"
            with pytest.raises(BadURL) as refused:
                canonical(long)
            assert refused.value.reason == "invalid"
            assert joiner.join(url, [long]) == []
    assert not has_canonical_shape(f"http://zzz{longest}/")


@pytest.mark.parametrize(
    ("url", "key", "place", "target"),
    [
        ("http://h.test/", "h.test", "http://h.test", "/"),
        ("https://h.test:8443/a/b?c=d/e", "h.test", "https://h.test:8443", "/a/b?c=d/e"),
        ("http://h.test.:81/", "h.test", "http://h.test.:81", "/"),
        ("http://[::1]/x", "[::1]", "http://[::1]", "/x"),
        ("http://[::1]:8080/x", "[::1]", "http://[::1]:8080", "/x"),
        ("http://h/", "h", "http://h", "/"),
    ],
)
def test_host_key_and_authority(url: str, key: str, place: str, target: str) -> None:
    one = canonical(url)
    assert (host_key(one), authority(one), path_and_query(one)) == (key, place, target)


def test_slots_and_keys_never_change() -> None:
    """They are on disk: another number here means that no crawl of an earlier version can go on."""
    assert [slot(HostKey(key)) for key in ("example.org", "www.example.org", "[::1]")] == [816, 951, 759]
    url = canonical("http://example.org/a?b=c")
    assert fingerprint(url, 7).hex() == "cd5da5c9272c19bb8e3a8500e4e4cdda"
    assert request_key("POST", url, b"\0digest", 1, 2, 7).hex() == "091cb937d79e8e4ea2c149d53d9cc389"
    assert all(0 <= slot(HostKey(f"h{n}.test")) < SLOTS for n in range(2000))


def test_the_key_of_a_plain_get_is_its_fingerprint_and_every_other_request_has_its_own() -> None:
    url, other = canonical("http://h.test/a"), canonical("http://h.test/b")
    assert request_key("GET", url, None, 0, None, 7) == fingerprint(url, 7)
    keys = [
        request_key(method, one, digest, round_, serial, seed)
        for method in ("GET", "POST")
        for one in (url, other)
        for digest in (None, b"", b"\0", b"1\0")
        for round_ in (0, 1)
        for serial in (None, 0, 1)
        for seed in (7, 8)
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}


# ------------------------------------------------------------------------------- joining


PAGE = canonical("http://h.test/a/b.html?q=1")


def test_outlinks_come_in_document_order_without_repeats_and_with_their_fingerprints() -> None:
    joiner = LinkJoiner(7)
    links = joiner.join(PAGE, ["c", "/z", "c#top", "./c", "http://h.test/a/c", "?p=2", "#", "", "//x.test"])
    assert links == [
        (url, fingerprint(CanonicalURL(url), 7))
        for url in (
            "http://h.test/a/c",
            "http://h.test/z",
            "http://h.test/a/b.html?p=2",
            "http://h.test/a/b.html?q=1",
            "http://x.test/",
        )
    ]
    assert joiner.refused == {}


def test_what_is_no_link_is_counted_by_reason() -> None:
    joiner = LinkJoiner(7)
    bad = ["javascript:go()", "mailto:x@y", "javascript:go()", "http://a b/", "//", "/" + "x" * 3000]
    for _ in range(2):
        assert joiner.join(PAGE, bad) == []
    assert joiner.refused == {"scheme": 4, "invalid": 2, "no_host": 2, "too_long": 2}


def test_what_was_joined_for_another_page_of_the_place_is_not_worked_out_again() -> None:
    joiner = LinkJoiner(7)
    hrefs = ["/z", "c", "../d", "http://x.test/", "mailto:x@y"]
    first = joiner.join(PAGE, hrefs)
    assert joiner.misses == 5
    assert joiner.join(canonical("http://h.test/a/other"), hrefs) == first
    assert joiner.misses == 5
    moved = joiner.join(canonical("http://h.test/elsewhere/"), hrefs)
    assert [url for url, _ in moved] == [
        "http://h.test/z",
        "http://h.test/elsewhere/c",
        "http://h.test/d",
        "http://x.test/",
    ]
    assert joiner.misses == 7


@pytest.mark.parametrize("pages", [1, 40])
def test_the_joiner_holds_no_more_than_its_entries(pages: int) -> None:
    """One big site, and many of them: the case that keeps one place for ever, and the one that changes it."""
    joiner = LinkJoiner(7, entries=100)
    for n in range(400):
        page = canonical(f"http://h{n % pages}.test/d{n % 3}/")
        assert len(joiner.join(page, [f"/{n}/{m}" for m in range(7)] + [f"{n}-{m}" for m in range(7)])) == 14
        generations = (joiner._young, joiner._old)
        held = sum(len(place) for generation in generations for place in generation.values())
        assert held <= 100
        assert sum(map(len, generations)) <= 104


@pytest.mark.parametrize(
    ("charset", "href", "expected"),
    [
        ("gb2312", "/s?q=\u4e2d", "http://h.test/s?q=%D6%D0"),
        ("gbk", "/\u4e2d?q=\u4e2d#\u4e2d", "http://h.test/%E4%B8%AD?q=%D6%D0"),
        ("shift_jis", "/s?q=\u8868", "http://h.test/s?q=%95\\"),
        ("latin-1", "/s?q=\u00e9\u20ac", "http://h.test/s?q=%E9%80"),
        ("windows-1251", "?q=\u4e2d", "http://h.test/a/b.html?q=%26%2320013%3B"),
        ("koi8-r", "http://\u044f.test/?\u044f", "http://xn--41a.test/?%D1"),
        ("utf-16", "/s?q=\u00e9", "http://h.test/s?q=%C3%A9"),
        ("no-such-charset", "/s?q=\u00e9", "http://h.test/s?q=%C3%A9"),
        ("rot13", "/s?q=\u00e9", "http://h.test/s?q=%C3%A9"),
        (None, "/s?q=\u00e9", "http://h.test/s?q=%C3%A9"),
        ("utf-8", "/s?q=\u00e9", "http://h.test/s?q=%C3%A9"),
    ],
)
def test_a_query_is_sent_in_the_encoding_of_its_page(charset: str | None, href: str, expected: str) -> None:
    assert [url for url, _ in LinkJoiner(7).join(PAGE, [href], charset)] == [expected]


def test_the_same_href_of_a_page_in_another_encoding_is_another_url() -> None:
    joiner = LinkJoiner(7)
    assert joiner.join(PAGE, ["/?\u00e9"], "latin-1") != joiner.join(PAGE, ["/?\u00e9"])


def test_only_the_query_is_encoded() -> None:
    assert encode_query("/\u00e9#?\u00e9", "latin-1") == "/\u00e9#?\u00e9"
    assert encode_query("/\u00e9?\u00e9#\u00e9", "latin-1") == "/\u00e9?%E9#\u00e9"


def test_no_href_makes_the_patterns_backtrack() -> None:
    """A page writes what it likes; each of these takes microseconds, or the time limit of the test."""
    for evil in (
        "/" + "a" * 40_000 + "\u00e9",
        "a" * 40_000 + " ",
        "http://" + "a." * 20_000 + "/ ",
        "?" + "%2F" * 9000 + "'",
    ):
        LinkJoiner(7).join(PAGE, [evil])


def test_the_patterns_of_plain_urls_catch_the_common_ones() -> None:
    """Else everything would be right, but slow."""
    assert module._plain_absolute("https://www.example.org:8080/a/b_c~(d).html?e=f&g[]=%C3%A9")
    assert module._plain_rooted("/wiki/C%C3%B4te_d'Ivoire,_(x):y")
    assert module._plain_relative("page-2.html?x=1")
    assert not module._plain_absolute("http://h.test:80/")
    assert not module._plain_absolute("http://h.test/%7E")


# ------------------------------------------------------------------------------- normalising on request

SORT = Normalizer(sort_query=True)
TRACKERS = Normalizer(strip_tracking=("usual",))
SESSIONS = Normalizer(strip_session_ids=True)
WWW = Normalizer(strip_www=True)
ALL = Normalizer(True, ("usual", "ref*"), True, True)


@pytest.mark.parametrize(
    ("normalizer", "url", "expected"),
    [
        (SORT, "http://h.test/a?c=1&a=2&b=3", "http://h.test/a?a=2&b=3&c=1"),
        (SORT, "http://h.test/a?b=2&a=2&b=1", "http://h.test/a?a=2&b=2&b=1"),  # the order of one name's means
        (SORT, "http://h.test/a?b&a", "http://h.test/a?a&b"),
        (SORT, "http://h.test/b/a", "http://h.test/b/a"),
        (TRACKERS, "http://h.test/?utm_source=x&utm_medium=y", "http://h.test/"),
        (TRACKERS, "http://h.test/?id=1&UTM_Source=x&p=2&gclid=z", "http://h.test/?id=1&p=2"),
        (TRACKERS, "http://h.test/?id=1&mc_eid=x&fbclid&msclkid=", "http://h.test/?id=1"),
        (TRACKERS, "http://h.test/?utm=1&utmost=2&ref=3", "http://h.test/?utm=1&utmost=2&ref=3"),
        (TRACKERS, "http://h.test/?x=1&&y=2", "http://h.test/?x=1&&y=2"),
        (
            Normalizer(strip_tracking=("ref", "X_*")),
            "http://h.test/?ref=1&x_1=2&gclid=3",
            "http://h.test/?gclid=3",
        ),
        (SESSIONS, "http://h.test/?PHPSESSID=1f3870be274f6c49b3e31a0c6728957f&a=1", "http://h.test/?a=1"),
        (SESSIONS, "http://h.test/?ASPSESSIONIDQQGGQGDC=KDCLBMNA&CFID=1&CFTOKEN=2", "http://h.test/"),
        (SESSIONS, "http://h.test/a;jsessionid=1A530637.node1/b;v=2?q=1", "http://h.test/a/b;v=2?q=1"),
        (SESSIONS, "http://h.test/a.do;JSESSIONID=1A530637289A03B07199A44E8D531427", "http://h.test/a.do"),
        (SESSIONS, "http://h.test/x/..;jsessionid=1/y", "http://h.test/y"),
        (SESSIONS, "http://h.test/(S(lit3py55t21z5v55vlm25s55))/a.aspx", "http://h.test/a.aspx"),
        (SESSIONS, "http://h.test/t?t=1&sid=1f3870be274f6c49b3e31a0c6728957f", "http://h.test/t?t=1"),
        (
            SESSIONS,
            "http://h.test/t?sid=3&s=shoes&session_id=1204",
            "http://h.test/t?sid=3&s=shoes&session_id=1204",
        ),
        (SESSIONS, "http://h.test/t?s=internationalization&sid=123456789012345678901234567890", None),
        (SESSIONS, "http://h.test/?session=c56a4180-65aa-42ec-a945-5fd21dec0538", None),
        (WWW, "http://www.h.test/a", "http://h.test/a"),
        (WWW, "https://www.www.h.test:8443/", "https://h.test:8443/"),
        (WWW, "http://www.com/", "http://www.com/"),
        (WWW, "http://www.com./", "http://www.com./"),
        (WWW, "http://www2.h.test/", "http://www2.h.test/"),
        (ALL, "http://www.h.test/a;jsessionid=1?z=1&ref_src=x&b=2&utm_id=3", "http://h.test/a?b=2&z=1"),
        # The stray `%` goes, so that the other escape is decoded now, and is a tracking parameter itself.
        (TRACKERS, "http://h.test/?u%74m_a=1&utm_x=%zz&b=%7E", "http://h.test/?b=~"),
    ],
)
def test_what_is_normalised_on_request(normalizer: Normalizer, url: str, expected: str | None) -> None:
    one = canonical(url)
    expected = one if expected is None else expected
    assert normalizer.apply(one) == expected
    assert canonical(url, normalizer=normalizer) == expected
    assert [link for link, _ in LinkJoiner(7, normalizer=normalizer).join(PAGE, [url])] == [expected]


def test_nothing_is_normalised_unless_asked_for() -> None:
    url = canonical("http://www.h.test/a;jsessionid=1?utm_source=x&a=1&PHPSESSID=2")
    assert not Normalizer()
    assert Normalizer().apply(url) is url
    assert all((SORT, TRACKERS, SESSIONS, WWW))
    assert Normalizer(strip_tracking=("usual",)) == TRACKERS


queries = st.lists(
    st.sampled_from(
        [
            "utm_a=1",
            "u%74m_b=%",
            "%75tm_c",
            "gclid",
            "a=1",
            "b",
            "%7Ea=2",
            "",
            "=",
            "?",
            "x=%zz",
            "sid=" + "a1" * 16,
        ]
        + ["PHPSESSID=1", "a=0", "%61", "%2561=1", "ASPSESSIONIDX=1", "&&", "%E9", "%c3"]
    ),
    max_size=5,
).map("&".join)
paths = st.lists(
    st.sampled_from(
        [
            "/a",
            "/",
            "/..",
            "/.",
            ";jsessionid=1",
            ";JSessionID=%",
            ";v=1",
            "/%2e",
            "%2e",
            "/(S(" + "a1" * 12 + "))",
        ]
        + ["/www.", "%", "%41", "/%c3", ";jsess"]
    ),
    max_size=6,
).map("".join)
normalizers = st.builds(
    Normalizer,
    st.booleans(),
    st.sampled_from([(), ("usual",), ("a", "%*"), ("usual", "b*")]),
    st.booleans(),
    st.booleans(),
)


@given(
    normalizers,
    st.sampled_from(["h.test", "www.h.test", "www.www.x.y:81", "www.com", "www.h."]),
    paths,
    queries,
)
@example(ALL, "www.h.test", "/x/..;jsessionid=1", "u%74m_a=1&utm_x=%zz&b=%7E")
@example(SESSIONS, "h.test", "/(S(a1a1a1a1a1a1a1a1a1a1a1a1));jsessionid=1/a", "")
def test_normalising_is_idempotent_and_its_result_is_canonical(
    normalizer: Normalizer, host: str, path: str, query: str
) -> None:
    url = canonical(f"http://{host}/{path}?{query}")
    once = normalizer.apply(url)
    assert normalizer.apply(once) == once
    assert canonical(once) == once
    assert has_canonical_shape(once)
    assert len(once) <= len(url)
    assert canonical(url, normalizer=normalizer) == once


@given(normalizers, st.lists(texts, max_size=6), bases)
def test_the_joiner_normalises_what_canonical_normalises(
    normalizer: Normalizer, hrefs: list[str], page: CanonicalURL
) -> None:
    plain = [link for link, _ in LinkJoiner(7).join(page, hrefs)]
    expected = dict.fromkeys(normalizer.apply(link) for link in plain)
    assert LinkJoiner(7, normalizer=normalizer).join(page, hrefs) == [
        (link, fingerprint(link, 7)) for link in expected
    ]


def test_the_length_is_that_of_the_normalised_form() -> None:
    url = "http://h.test/?a=1&utm_content=" + "x" * 3000
    assert canonical(url, normalizer=TRACKERS) == "http://h.test/?a=1"
    assert LinkJoiner(7, normalizer=TRACKERS).join(PAGE, [url])[0][0] == "http://h.test/?a=1"


def test_a_redirect_that_normalising_would_undo_is_followed_as_it_is() -> None:
    """Else a site that sends its apex to `www.` would be redirects to themselves and nothing more."""
    apex, www = canonical("http://h.test/a"), canonical("http://www.h.test/a")
    assert WWW.redirected(apex, www) == www
    assert WWW.redirected(canonical("http://h.test/b"), www) == apex
    assert (
        SESSIONS.redirected(apex, canonical("http://h.test/a;jsessionid=1")) == "http://h.test/a;jsessionid=1"
    )


def test_the_usual_tracking_parameters_are_names_as_the_option_takes_them() -> None:
    assert len(set(TRACKING)) == len(TRACKING)
    assert all(name == name.lower() and "*" not in name[:-1] and len(name) > 2 for name in TRACKING)
