"""A host's cookies behave as in browsers (RFC 6265bis), stay with it, and stay small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from common.url import CanonicalURL
from common.wire import unpack
from worker.cookies import MAX_COOKIES, MAX_PACKED_BYTES, header, remember

NOW = 1_750_000_000.5
DAY = 86_400
HTTP = CanonicalURL("http://www.example.org/a/b/c?q=/x")
HTTPS = CanonicalURL("https://www.example.org/a/b/c")


def sent(*lines: bytes, of: CanonicalURL = HTTPS, to: str | None = None, later: float = 0) -> str | None:
    """The Cookie header of a request of `to`, `later` seconds after a response of `of` with these lines."""
    return header(remember(None, of, lines, NOW), CanonicalURL(to or of), NOW + later)


@pytest.mark.parametrize(
    ("line", "back"),
    [
        (b"a=1", "a=1"),
        (b"  a \t=  1 2 ; HttpOnly; SameSite=None", "a=1 2"),
        (b'a="1, \\"2"', 'a="1, \\"2"'),
        (b"a=1, b=2", "a=1, b=2"),
        (b"a[0]@{}=1", "a[0]@{}=1"),
        (b"a=b=c", "a=b=c"),
        (b"a=", "a="),
        (b"word", "word"),
        (b"=word", "word"),
        (b"", None),
        (b"=", None),
        (b";a=1", None),
        (b"a=1\x00", None),
        (b"a=\x7f", None),
        (b"a=1\t2", "a=1\t2"),
        ("a=ü".encode(), "a=ü"),
        (b"a=\xfc", "a=\udcfc"),
        (b"a=1; unknown=3; Partitioned; =; ;", "a=1"),
        (b"n" * 2000 + b"=" + b"v" * 2096, "n" * 2000 + "=" + "v" * 2096),
        (b"n" * 2000 + b"=" + b"v" * 2097, None),
        (b"a=1; Path=/" + b"x" * 1024, "a=1"),
    ],
)
def test_a_value_goes_back_as_it_came(line: bytes, back: str | None) -> None:
    assert sent(line) == back


@pytest.mark.parametrize(
    ("path", "to", "comes"),
    [
        (b"/", "/", True),
        (b"/a", "/a", True),
        (b"/a", "/a/", True),
        (b"/a", "/a?x", True),
        (b"/a", "/ab", False),
        (b"/a/", "/a", False),
        (b"/a/", "/a/b", True),
        (b"/A", "/a", False),
        (b"", "/a/b/", True),  # the directory of the response's own path
        (b"", "/a/b", True),
        (b"", "/a/", False),
        (b"relative", "/a/b/x", True),
        (b"/x; Path=", "/a/b/x", True),  # the last attribute counts
    ],
)
def test_a_path_covers_what_lies_under_it(path: bytes, to: str, comes: bool) -> None:
    assert (sent(b"a=1; Path=" + path, to="https://www.example.org" + to) is not None) is comes


def test_the_query_is_no_part_of_the_default_path() -> None:
    assert sent(b"a=1", of=HTTP, to="http://www.example.org/a/b/z") == "a=1"
    assert sent(b"a=1", of=CanonicalURL("http://www.example.org/?next=/a"), to=HTTP) == "a=1"


@pytest.mark.parametrize(
    ("domain", "host", "taken"),
    [
        (b"www.example.org", "www.example.org", True),
        (b".Example.ORG", "www.example.org", True),
        (b"example.org", "example.org:8443", True),
        (b"", "www.example.org", True),
        (b".", "www.example.org", True),
        (b"org", "www.example.org", True),
        (b"example.com", "www.example.org", False),
        (b"ample.org", "www.example.org", False),
        (b"deep.www.example.org", "www.example.org", False),
        (b"0.0.1", "127.0.0.1", False),
        (b"127.0.0.1", "127.0.0.1", True),
        (b"[::1]", "[::1]", True),
    ],
)
def test_a_domain_that_covers_the_host_is_taken_and_another_is_not(
    domain: bytes, host: str, taken: bool
) -> None:
    of = CanonicalURL(f"https://{host}/")
    assert (sent(b"a=1; Domain=" + domain, of=of) is not None) is taken


def test_a_secure_cookie_never_meets_plain_http() -> None:
    assert sent(b"a=1; secure", of=HTTP, to=HTTPS) is None
    assert sent(b"a=1; Secure", to=HTTP) is None
    assert sent(b"a=1; SECURE", to=HTTPS) == "a=1"
    assert sent(b"a=1", of=HTTP, to=HTTPS) == "a=1"
    held = remember(None, HTTPS, [b"a=1; Secure; Path=/a"], NOW)
    assert remember(held, HTTP, [b"a=2; Path=/a/b", b"a=3; Path=/a; Max-Age=0"], NOW) is None
    assert header(remember(held, HTTP, [b"a=2; Path=/"], NOW), HTTPS, NOW) == "a=1; a=2"


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        (b"__Secure-a=1", False),
        (b"__Secure-a=1; Secure; Domain=example.org", True),
        (b"__secure-a=1", False),
        (b"__Host-a=1; Secure; Path=/", True),
        (b"__Host-a=1; Secure", False),
        (b"__Host-a=1; Secure; Path=/; Domain=www.example.org", False),
        (b"=__Host-a=1", False),
    ],
)
def test_a_prefix_that_promises_too_much_is_ignored(line: bytes, taken: bool) -> None:
    assert (sent(line) is not None) is taken


@pytest.mark.parametrize(
    ("attributes", "lasts"),
    [
        (b"Max-Age=10", 10),
        (b"Max-Age=0", 0),
        (b"Max-Age=-1", 0),
        (b"Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 10),
        (b"Max-Age=ten; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Max-Age=" + b"9" * 1000, 400 * DAY),
        (b"Expires=Sun, 15 Jun 2025 15:07:00 GMT", 20),
        (b"Expires=Sunday, 15-Jun-25 15:07:00 GMT", 20),
        (b"Expires=Sun Jun 15 15:07:00 2025", 20),
        (b"Expires=15 june 2025 15:7:0", 20),
        (b"Expires=Fri, 31 Dec 9999 23:59:59 GMT", 400 * DAY),
        (b"Expires=Thu, 01 Jan 1601 00:00:00 GMT", 0),
        (b"Expires=Mon, 30 Feb 2026 00:00:00 GMT", None),
        (b"Expires=Mon, 01 Jan 1600 00:00:00 GMT", None),
        (b"Expires=tomorrow", None),
        (b"Expires=0", None),
        (b"", None),
    ],
)
def test_a_cookie_lasts_as_long_as_it_says(attributes: bytes, lasts: float | None) -> None:
    line = b"a=1; " + attributes
    if lasts == 0:
        assert remember(None, HTTPS, [line], NOW) is None
        held = remember(None, HTTPS, [b"a=0"], NOW)
        assert header(remember(held, HTTPS, [line], NOW), HTTPS, NOW) is None
        return
    assert sent(line, later=(lasts or 10**9) - 1) == "a=1"
    assert lasts is None or sent(line, later=lasts + 1) is None


def test_longer_paths_go_first_then_older_cookies() -> None:
    held = remember(None, HTTPS, [b"old=1; Path=/", b"new=1; Path=/", b"deep=1; Path=/a/b"], NOW)
    held = remember(held, HTTPS, [b"old=2; Path=/"], NOW + 5)
    assert header(held, HTTPS, NOW + 5) == "deep=1; old=2; new=1"


def test_nothing_is_told_when_nothing_changed() -> None:
    held = remember(None, HTTPS, [b"a=1; Max-Age=60"], NOW)
    assert remember(held, HTTPS, [b"a=1; Max-Age=60", b"bad\x00=1"], NOW) is None
    assert remember(held, HTTPS, [], NOW) is None
    assert remember(None, HTTPS, [b"a=1; Max-Age=0"], NOW) is None


def test_what_is_over_is_dropped_and_an_empty_jar_is_told() -> None:
    held = remember(None, HTTPS, [b"a=1; Max-Age=60"], NOW)
    empty = remember(held, HTTPS, [], NOW + 61)
    assert empty is not None
    assert header(empty, HTTPS, NOW + 61) is None
    assert remember(empty, HTTPS, [b"b=1"], NOW + 61) is not None


def test_the_newest_cookies_stay_when_there_are_too_many() -> None:
    held = remember(None, HTTPS, [b"c%d=1" % number for number in range(MAX_COOKIES + 5)], NOW)
    assert held is not None
    assert [row[0] for row in unpack(held)] == [b"c%d" % number for number in range(5, MAX_COOKIES + 5)]


def test_the_packed_bytes_never_exceed_what_a_message_holds() -> None:
    held = remember(None, HTTPS, [b"c%d=" % number + b"x" * 4000 for number in range(MAX_COOKIES)], NOW)
    assert held is not None
    assert MAX_PACKED_BYTES - 4100 < len(held) <= MAX_PACKED_BYTES
    assert unpack(held)[-1][0] == b"c49"


@given(some.lists(some.binary(max_size=60), max_size=5), some.binary(max_size=80))
def test_no_bytes_raise_and_nothing_breaks_a_header(lines: list[bytes], packed: bytes) -> None:
    held = remember(packed, HTTPS, lines, NOW)
    told = header(packed if held is None else held, HTTPS, NOW) or ""
    assert not set(told) & {"\r", "\n", "\0"}


@given(
    some.lists(
        some.tuples(
            some.sampled_from([b"a", b"b", b"c"]),
            some.binary(max_size=3).filter(lambda value: not set(value) & {*range(0x21), 0x3B, 0x7F}),
            some.sampled_from([b"/", b"/a", b"/a/b"]),
            some.sampled_from([b"", b"; Max-Age=0", b"; Max-Age=50"]),
        ),
        max_size=12,
    )
)
def test_the_jar_is_the_last_word_on_each_name_and_path(
    said: list[tuple[bytes, bytes, bytes, bytes]],
) -> None:
    """Against a dictionary: name and path to value."""
    model: dict[tuple[bytes, bytes], bytes] = {}
    held: bytes | None = None
    for name, value, path, end in said:
        if end == b"; Max-Age=0":
            model.pop((name, path), None)
        else:
            model[name, path] = value
        held = remember(held, HTTPS, [name + b"=" + value + b"; Path=" + path + end], NOW) or held
    told = header(held, HTTPS, NOW)
    pairs = [] if told is None else told.encode("utf-8", "surrogateescape").split(b"; ")
    assert sorted(pairs) == sorted(name + b"=" + value for (name, _), value in model.items())


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x91\x91\xa1x", b"\x90" * 70_000])
def test_bytes_of_another_version_count_as_no_cookies(packed: bytes) -> None:
    assert header(packed, HTTPS, NOW) is None
    assert remember(packed, HTTPS, [b"a=1"], NOW) is not None
