"""The cookies of one host, as bytes that travel with its lease and come back with its pages (`--cookies`).

RFC 6265bis as browsers do it, for one host: nothing here ever crosses to another. A `Domain` that covers the host
is taken, one that does not makes the cookie void, and either way the cookie stays with this host alone; so public
suffixes do not matter, and `www.example.org` never hears what `example.org` said. Ports and schemes of a host share
its cookies, as in browsers; `Secure` ones are neither taken from nor sent over plain HTTP. SameSite and HttpOnly
are about pages in browsers and are passed over.

`http.cookies` is not used: it drops a whole header for one odd character in a name, decodes quoted values that
browsers send back as they came, and reads several cookies out of one `Set-Cookie`.

No I/O, no clock: `now` is wall-clock seconds. Bytes that are not ours to read count as no cookies: they come from
a store that a later version may have written, and a crawl goes on without them.

Invariants: at most MAX_COOKIES, MAX_COOKIE_BYTES each, MAX_PACKED_BYTES in all; the oldest go first. In the order of
their making: a cookie that is set again keeps its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from common.errors import ProtocolError
from common.url import CanonicalURL, host_key
from common.wire import pack, unpack

MAX_COOKIES = 50
"""Of one host; RFC 6265 asks for 50 at least, and no site that works needs more."""

MAX_COOKIE_BYTES = 4096
"""Name and value together; a longer cookie is ignored, as in browsers."""

MAX_PACKED_BYTES = 1 << 16
"""What a lease and a page can carry (`Page.cookies`)."""

_MAX_ATTRIBUTE = 1024  # bytes; a longer attribute is ignored
_MAX_LINES = 200  # Set-Cookie headers of one response; a head of 128 headers has fewer
_LONGEST = 400 * 86_400  # seconds a cookie may ask to be kept, at most

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_A_DATE = re.compile(rb"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = re.compile(rb"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY = re.compile(rb"([0-9]{1,2})(?![0-9])")
_YEAR = re.compile(rb"([0-9]{2,4})(?![0-9])")
_MONTHS = {
    name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_ADDRESS = re.compile(r"[0-9.]+|\[.*\]").fullmatch
_BLANK = b" \t"


class Cookie(NamedTuple):
    """One cookie. `expires`: wall-clock seconds; None: it has no end but the crawl's."""

    name: bytes
    value: bytes
    path: bytes
    secure: bool
    expires: int | None


def remember(packed: bytes | None, url: CanonicalURL, lines: Iterable[bytes], now: float) -> bytes | None:
    """The host's cookies after a response of `url` with these Set-Cookie values; None: they are as they were.

    `packed`: what they were. Nothing is raised, whatever the values.
    """
    before = _read(packed)
    cookies = [cookie for cookie in before if cookie.expires is None or cookie.expires > now]
    for line, _ in zip(lines, range(_MAX_LINES), strict=False):
        found = parse(line, url, now)
        if found is not None:
            _enter(cookies, found, url, now)
    if cookies == before:
        return None
    del cookies[:-MAX_COOKIES]
    while len(kept := pack([tuple(cookie) for cookie in cookies])) > MAX_PACKED_BYTES:
        del cookies[0]
    return kept


def header(packed: bytes | None, url: CanonicalURL, now: float) -> str | None:
    """The value of the Cookie header for a request of `url`, longest paths first; None: there is nothing to send.

    Bytes that are not UTF-8 are surrogates, as the fetcher wants them.
    """
    if not packed:
        return None
    secure, path = url.startswith("https:"), _path(url)
    fitting = [
        cookie
        for cookie in _read(packed)
        if (cookie.expires is None or cookie.expires > now)
        and (secure or not cookie.secure)
        and _covers(cookie.path, path)
    ]
    if not fitting:
        return None
    fitting.sort(key=lambda cookie: -len(cookie.path))
    pairs = [cookie.name + b"=" + cookie.value if cookie.name else cookie.value for cookie in fitting]
    return b"; ".join(pairs).decode("utf-8", "surrogateescape")


def parse(line: bytes, url: CanonicalURL, now: float) -> Cookie | None:
    """A Set-Cookie value that came from `url`; None when browsers ignore it. One that is over already has
    `expires` 0: it deletes."""
    if _CONTROL.search(line):
        return None
    pair, *attributes = line.split(b";")
    name, equals, value = pair.partition(b"=")
    if not equals:
        name, value = b"", name
    name, value = name.strip(_BLANK), value.strip(_BLANK)
    if not (name or value) or len(name) + len(value) > MAX_COOKIE_BYTES:
        return None
    said: dict[bytes, bytes] = {}
    for attribute in attributes:
        key, _, text = attribute.partition(b"=")
        key, text = key.strip(_BLANK).lower(), text.strip(_BLANK)
        if len(text) <= _MAX_ATTRIBUTE and _counts(key, text):
            said[key] = text  # the last one counts
    secure, safe = b"secure" in said, url.startswith("https:")
    if secure and not safe:
        return None
    domain = said.get(b"domain", b"").removeprefix(b".").lower()
    if domain and not _belongs(url, domain):
        return None
    path = said.get(b"path", b"")
    if not _prefix_holds(name or value, secure, host_only=not domain, at_root=path == b"/"):
        return None
    if not path.startswith(b"/"):
        whole = _path(url)
        path = whole[: whole.rindex(b"/")] or b"/"
    return Cookie(name, value, path, secure, _expiry(said, now))


def _counts(key: bytes, text: bytes) -> bool:
    """An Expires or a Max-Age that says nothing does not undo one before it."""
    if key == b"expires":
        return _date(text) is not None
    if key == b"max-age":
        return re.fullmatch(rb"-?[0-9]+", text) is not None
    return True


def _expiry(said: dict[bytes, bytes], now: float) -> int | None:
    """When a cookie ends; 0 when it has; None without an end. Max-Age goes before Expires."""
    if b"max-age" in said:
        text = said[b"max-age"]
        # Cut before it becomes a number: ten thousand digits are legal.
        seconds = 0 if text.startswith(b"-") else int(text.lstrip(b"0")[:10] or b"0")
    elif b"expires" in said:
        date = _date(said[b"expires"])
        assert date is not None
        seconds = max(0, date - int(now))
    else:
        return None
    return int(now) + min(seconds, _LONGEST) if seconds > 0 else 0


def _date(text: bytes) -> int | None:
    """A cookie date (RFC 6265bis, 5.1.1), which is any date that has a time, a day, a month and a year."""
    time = day = month = year = None
    for token in _NOT_IN_A_DATE.split(text):
        if time is None and (found := _TIME.match(token)):
            time = found
        elif day is None and (found := _DAY.match(token)):
            day = int(found[1])
        elif month is None and (number := _MONTHS.get(token[:3].lower())):
            month = number
        elif year is None and (found := _YEAR.match(token)):
            year = int(found[1])
    if time is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    if year < 1601:
        return None
    try:
        moment = datetime(year, month, day, int(time[1]), int(time[2]), int(time[3]), tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp())


def _enter(cookies: list[Cookie], new: Cookie, url: CanonicalURL, now: float) -> None:
    if not url.startswith("https:") and any(
        old.secure and old.name == new.name and _covers(old.path, new.path) for old in cookies
    ):
        return  # plain HTTP may not put another cookie in a secure one's place
    over = new.expires is not None and new.expires <= now
    for position, old in enumerate(cookies):
        if (old.name, old.path) == (new.name, new.path):
            if over:
                del cookies[position]
            else:
                cookies[position] = new
            return
    if not over:
        cookies.append(new)


def _belongs(url: CanonicalURL, domain: bytes) -> bool:
    """Whether a Domain attribute covers the host that sent it."""
    host = host_key(url)
    if host.encode() == domain:
        return True
    return host.encode().endswith(b"." + domain) and not _ADDRESS(host)


def _prefix_holds(name: bytes, secure: bool, *, host_only: bool, at_root: bool) -> bool:
    """`__Secure-` and `__Host-` promise how a cookie was set (RFC 6265bis, 4.1.3), also where no name stands."""
    name = name.lower()
    if name.startswith(b"__host-"):
        return secure and host_only and at_root
    return secure or not name.startswith(b"__secure-")


def _covers(directory: bytes, path: bytes) -> bool:
    """Path-match of RFC 6265bis, 5.1.4."""
    if not path.startswith(directory):
        return False
    return len(path) == len(directory) or directory.endswith(b"/") or path[len(directory)] == 0x2F


def _path(url: CanonicalURL) -> bytes:
    return url[url.index("/", 8) :].partition("?")[0].encode()


def _read(packed: bytes | None) -> list[Cookie]:
    if not packed or len(packed) > MAX_PACKED_BYTES:
        return []
    try:
        rows = unpack(packed)
    except ProtocolError:
        return []
    if not isinstance(rows, tuple) or not all(map(_is_row, rows)):
        return []
    return [Cookie(*row) for row in rows]


def _is_row(row: object) -> bool:
    match row:
        case (bytes(), bytes(), bytes(), bool(), None | int()):
            return True
    return False
