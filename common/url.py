"""URLs: the canonical form, what is cut from it (host key, authority), and the 128-bit keys made of it.

Past this file every URL is canonical, an ASCII string of the shape `http[s]://host[:port]/path[?query]`:

  - parsed by the WHATWG URL standard (ada): default ports, case, dot segments, IDNA, encoding of odd
    characters;
  - no fragment, no user name or password, no empty query;
  - percent escapes in upper case; escapes of RFC 3986's unreserved characters decoded, unless the URL also
    holds a stray `%` (decoding beside one could make an escape that was not there: `%%34%31` is not `%41`);
  - the host is as the standard leaves it, a final dot included. Only the host *key* drops that dot.

Invariants (tests/unit/test_url.py): canonical(canonical(x)) == canonical(x); nothing but BadURL is raised for
any text; the short cut for plain URLs gives exactly what the parser gives.

What a crawl may ask for beyond this form (sorted queries, no tracking parameters) is in
common/normalization.py; here it is only passed through. Nothing is decided about scope (common/scope.py), and
neither files nor HTML are read. docs/urls.md lists where the form differs from the public suites, and why.
This is a hot path (65 links a page): the shape below is for speed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NewType

from ada_url import join_url, normalize_url
from xxhash import xxh3_128_digest, xxh64_intdigest

from common.errors import BadURL

if TYPE_CHECKING:
    from common.normalization import Normalizer  # it imports from here

CanonicalURL = NewType("CanonicalURL", str)
HostKey = NewType("HostKey", str)
Link = tuple[CanonicalURL, bytes]
"""An outlink and its fingerprint (16 bytes), which is made once and then kept beside it."""

MAX_LENGTH = 2048
"""Characters of a canonical URL; the default of --max-url-length."""

MAX_HOST = 253
"""Characters of a host name (RFC 1035, 2.3.4: 255 octets with their lengths); messages and rows count on it."""

SLOTS = 1024
"""Into how many slots all host keys fall. Stores on disk are cut by it: it never changes."""

_SLOT_SEED = 0x53484F414C  # "SHOAL"; never changes either, for the same reason
_MAX_TEXT = (
    65536  # characters of a text before parsing: room for a long fragment, none for a megabyte of data:
)
_MAX_CACHED_HREF = 512  # longer ones repeat seldom, and the cache's bound is counted in entries

# A plain URL is one the parser would return unchanged; such a one need not be parsed (0.3 us against 1.9).
# The patterns allow less than the standard does, never more: lower-case hosts whose last label is a word (so
# no IPv4 address in disguise), no Punycode (it must be validated), escapes only in their normal form. Dot
# segments are not in the patterns: whoever uses them looks for "/." as well. Possessive (`++`), or a page
# could make them backtrack.
_NORMAL_ESCAPE = "%(?:[0189A-F][0-9A-F]|2[0-9A-CF]|3[A-F]|[46]0|5[B-E]|7[B-DF])"
_SEGMENT = r"[A-Za-z0-9_~!$&'()*+,;=@|\[\].-]"  # no colon: what stands before one may be a scheme
_PATH = rf"(?:[:/{_SEGMENT[1:]}++|{_NORMAL_ESCAPE})*+"
_QUERY = rf"\?(?:[A-Za-z0-9_~!$&()*+,;=:@|\[\]{{}}^`\\/?.-]++|{_NORMAL_ESCAPE})++"
_PORT = "(?::(?!(?:80|443)/)(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"

_plain_absolute = re.compile(
    rf"https?://(?![^/:]{{254}})(?:[a-z0-9_-]++\.)*[a-z]++{_PORT}/{_PATH}(?:{_QUERY})?"
).fullmatch
_plain_rooted = re.compile(rf"/(?![/.]){_PATH}(?:{_QUERY})?").fullmatch
_plain_relative = re.compile(
    rf"[A-Za-z0-9_~](?:{_SEGMENT}++|{_NORMAL_ESCAPE})*+(?:/{_PATH})?(?:{_QUERY})?"
).fullmatch
_plain_query = re.compile(_QUERY).fullmatch

_shape = re.compile(r"https?://(?![^/:]{255})[^\x00-\x20\x7f/\\?#@]++/[^\x00-\x20\x7f#]*+").fullmatch

_other_scheme = re.compile(r"[\x00-\x20]*(?!https?:)[A-Za-z][A-Za-z0-9+.-]*:", re.IGNORECASE).match
_no_host = re.compile(
    r"[\x00-\x20]*(?:https?:[/\\]*|[/\\]{2,})(?:[?#:].*)?[\x00-\x20]*", re.IGNORECASE | re.DOTALL
).fullmatch
_CUT = "".join(
    map(chr, range(0x21))
)  # what the standard cuts from both ends of a text: fewer than str.strip()
_odd_escape = re.compile(f"(?!{_NORMAL_ESCAPE})%").search
_stray_percent = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_escapes = re.compile(r"%[0-9A-Fa-f]{2}").sub

_UNRESERVED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986, 2.3
_HEX = "0123456789ABCDEFabcdef"
_DECODED = {
    f"%{high}{low}": chr(int(high + low, 16))
    if int(high + low, 16) in _UNRESERVED
    else f"%{high}{low}".upper()
    for high in _HEX
    for low in _HEX
}
_RAISED = {escape: escape.upper() for escape in _DECODED}


def canonical(
    text: str,
    base: str | None = None,
    *,
    max_length: int = MAX_LENGTH,
    normalizer: Normalizer | None = None,
) -> CanonicalURL:
    """The canonical form of `text`, resolved against `base` when there is one; normalised if that is asked for.

    With a base an empty text is the base itself, as in browsers. Raises BadURL with the reason `empty`,
    `too_long` (the canonical form has more than `max_length` characters), `invalid`, `scheme` (anything but
    http and https) or `no_host`. 0.6 us for a plain absolute URL, 2.5 to 5 us otherwise.
    """
    if (
        base is None
        and len(text) <= max_length
        and _plain_absolute(text)
        and "/." not in text
        and "xn--" not in text
    ):
        return CanonicalURL(text) if normalizer is None else normalizer.apply(CanonicalURL(text))
    if len(text) > _MAX_TEXT:
        raise BadURL(text, "scheme" if _other_scheme(text) else "too_long")
    try:
        href = normalize_url(text) if base is None else join_url(base, text)
    except ValueError:
        raise BadURL(text, _why_invalid(text)) from None
    if not href.startswith(("http://", "https://")):
        raise BadURL(text, "scheme")
    if "#" in href:
        href = href[: href.index("#")]
    if href[-1] == "?" and href.index("?") == len(href) - 1:
        href = href[:-1]
    host = href.split("/", 3)[2]
    if "@" in host:
        bare = host.rpartition("@")[2]
        href = href.replace(host, bare, 1)
        host = bare
    if host[0] == "." or ".." in host or (len(host) > MAX_HOST and _is_too_long(host)):
        # An empty label, or a name beyond what DNS can hold: the standard lets both pass, no name server can answer.
        raise BadURL(text, "invalid")
    if "%" in href and _odd_escape(href):
        forms = _RAISED if _stray_percent(href) else _DECODED
        href = _escapes(lambda escape: forms[escape[0]], href)
    if normalizer is not None:
        href = normalizer.apply(CanonicalURL(href))
    if len(href) > max_length:
        raise BadURL(text, "too_long")
    return CanonicalURL(href)


def has_canonical_shape(text: str) -> bool:
    """Whether a text can be a canonical URL, so far that `host_key` and its like take it. For what others say is
    canonical: a shard checks what workers send, at 0.4 µs a URL, and works nothing out again."""
    return text.isascii() and _shape(text) is not None


def host_key(url: CanonicalURL) -> HostKey:
    """The host name of `url`, without port and final dot; an IPv6 address keeps its brackets. 0.2 us."""
    host = url.split("/", 3)[2]
    if ":" in host and host[-1] != "]":
        host = host[: host.rindex(":")]
    return HostKey(host[:-1] if host[-1] == "." else host)


def authority(url: CanonicalURL) -> str:
    """`scheme://host[:port]`, without a slash at the end: the key of robots rules and connections."""
    return url[: url.index("/", 8)]


def path_and_query(url: CanonicalURL) -> str:
    """Everything after the authority, from its slash on: the target of a request line, what robots rules
    match."""
    return url[url.index("/", 8) :]


def slot(key: HostKey) -> int:
    """Which of the SLOTS a host falls into. The mapping is part of the format on disk: it never changes."""
    return xxh64_intdigest(key.encode(), _SLOT_SEED) % SLOTS


def fingerprint(url: CanonicalURL, seed: int) -> bytes:
    """16 bytes that stand for a plain GET of `url` in the seen-set; `seed` (64 bits) is the crawl's own."""
    return xxh3_128_digest(url.encode(), seed)


def request_key(
    method: str, url: CanonicalURL, body_digest: bytes | None, round_: int, serial: int | None, seed: int
) -> bytes:
    """16 bytes that stand for one request: the key of the ledger.

    `body_digest` is None without a body, `round_` counts recrawls from 0, `serial` tells requests apart that
    ask not to be filtered. For a GET without body and serial in round 0 it is the URL's fingerprint.
    """
    if method == "GET" and body_digest is None and round_ == 0 and serial is None:
        return fingerprint(url, seed)
    # A NUL first: no URL begins so, hence no such text is the text of a plain GET. The digest stands last
    # because it alone may hold a NUL.
    head = f"\0{method}\0{round_}\0{'' if serial is None else serial}\0{url}\0"
    return xxh3_128_digest(head.encode() + (b"-" if body_digest is None else b"+" + body_digest), seed)


class LinkJoiner:
    """Makes canonical outlinks, each with its fingerprint, of the hrefs of page after page.

    A result is remembered where the page cannot matter: an absolute, protocol-relative or root-relative href
    under its page's authority, any other one but `?...` and `#...` under its page's directory. The memory
    holds at most `entries` results in two generations: when the young one has half of them it becomes the old
    one and the oldest are forgotten; a result found in the old one moves to the young. An entry takes about
    0.5 KB.

    One to a worker process, for one crawl (its seed is in the fingerprints). Not for several threads at once.
    """

    __slots__ = (
        "_half",
        "_max_length",
        "_normalizer",
        "_old",
        "_seed",
        "_young",
        "_young_entries",
        "misses",
        "refused",
    )

    def __init__(
        self,
        seed: int,
        *,
        entries: int = 32768,
        max_length: int = MAX_LENGTH,
        normalizer: Normalizer | None = None,
    ) -> None:
        self._seed = seed
        # A normaliser that is asked for nothing is left out here, so that it costs nothing.
        self._normalizer = normalizer or None
        self._half = max(1, entries // 2)
        self._max_length = max_length
        # By authority ("http://h") or directory ("http://h/a/"), then by href; a str is the reason of a bad
        # one.
        self._young: dict[str, dict[str, Link | str]] = {}
        self._old: dict[str, dict[str, Link | str]] = {}
        self._young_entries = 0
        self.misses = 0
        """How many hrefs had to be worked out since the start."""
        self.refused: dict[str, int] = {}
        """How many hrefs were no URLs we fetch since the start, by BadURL's reason; repeats in a page count
        once."""

    def join(self, base: CanonicalURL, hrefs: Iterable[str], charset: str | None = None) -> list[Link]:
        """The outlinks of one page: canonical, in document order, repeats dropped, bad ones counted in
        `refused`.

        `base` is the page's URL or what its `<base href>` makes of it. `charset` is the page's encoding (any
        name Python knows; None or an unknown one mean UTF-8): the query of an href that holds other than
        ASCII characters is sent in it, as browsers do.
        """
        origin = base[: base.index("/", 8)]
        whole_path = base.partition("?")[0]
        directory = whole_path[: whole_path.rindex("/") + 1]
        of_origin = self._remembered(origin)
        of_directory = self._remembered(directory)
        legacy = _legacy_encoding(charset)
        if legacy is not None:
            hrefs = [href if href.isascii() else encode_query(href, legacy) for href in hrefs]
        links: dict[str, Link] = {}
        for href in dict.fromkeys(hrefs):
            found = of_origin.get(href) or of_directory.get(href)
            if found is None:
                found = self._work_out(href, base, origin, directory, of_origin, of_directory)
            if isinstance(found, str):
                self.refused[found] = self.refused.get(found, 0) + 1
            else:
                links[found[0]] = found
        if self._young_entries >= self._half:
            self._old, self._young, self._young_entries = self._young, {}, 0
        return list(links.values())

    def _remembered(self, place: str) -> dict[str, Link | str]:
        found = self._young.get(place)
        if found is None:
            # A place moves whole: cheaper than href by href, and the pages of one place come together. One
            # that has no room is forgotten instead, so that a single big site does not keep its entries for
            # ever.
            found = self._old.pop(place, None)
            if found is None or self._young_entries + len(found) > self._half:
                found = {}
            self._young[place] = found
            self._young_entries += len(found) + 1  # the place itself counts as one: places are bounded too
        return found

    def _work_out(
        self,
        href: str,
        base: CanonicalURL,
        origin: str,
        directory: str,
        of_origin: dict[str, Link | str],
        of_directory: dict[str, Link | str],
    ) -> Link | str:
        self.misses += 1
        text = href[: href.index("#")] if "#" in href else href
        memory: dict[str, Link | str] | None = of_origin
        url: str | None = None
        found: Link | str
        plain = "/." not in text
        if text.startswith("."):
            rest, place = _climb(text, directory, len(origin) + 1)
            if "/." not in rest and (not rest or _plain_relative(rest)):
                url, memory = place + rest, of_directory
        elif plain and _plain_rooted(text):
            url = origin + text
        elif plain and _plain_absolute(text) and "xn--" not in text:
            url = text
        elif plain and _plain_relative(text):
            url, memory = directory + text, of_directory
        elif plain and _plain_query(text):
            url, memory = base.partition("?")[0] + text, None
        if url is not None and len(url) <= self._max_length:
            if self._normalizer is not None:
                url = self._normalizer.apply(CanonicalURL(url))
            found = (CanonicalURL(url), xxh3_128_digest(url.encode(), self._seed))
        elif _other_scheme(text):
            found = "scheme"  # javascript:, mailto:, tel:, data:: told without the parser
        else:
            start = text[:80].strip(_CUT)[:7].lower()
            if not start.startswith(("/", "\\", "http:/", "https:/")):
                # `http:x` is relative by the standard, and a tab may hide a colon: only what is clear is
                # remembered.
                memory = of_directory if start and start[0] != "?" and ":" not in text else None
            try:
                url = canonical(href, base, max_length=self._max_length, normalizer=self._normalizer)
                found = (url, xxh3_128_digest(url.encode(), self._seed))
            except BadURL as bad:
                found = bad.reason
        if memory is not None and len(href) <= _MAX_CACHED_HREF and self._young_entries < self._half:
            memory[href] = found
            self._young_entries += 1
        return found


def encode_query(href: str, encoding: str) -> str:
    """`href` with the other than ASCII characters of its query percent-encoded in `encoding`.

    By the URL standard's "percent-encode after encoding": a character that the encoding lacks becomes
    `&#NNNN;`, itself percent-encoded. Everything outside the query stays: paths and hosts are always UTF-8.
    """
    before, mark, fragment = href.partition("#")
    path, question, query = before.partition("?")
    if not question or query.isascii():
        return href

    def encoded(run: re.Match[str]) -> str:
        try:
            return _escaped(run[0].encode(encoding))
        except UnicodeEncodeError:
            return "".join(map(character, run[0]))

    def character(one: str) -> str:
        try:
            return _escaped(one.encode(encoding))
        except UnicodeEncodeError:
            return f"%26%23{ord(one)}%3B"

    return path + question + re.sub(r"[^\x00-\x7f]+", encoded, query) + mark + fragment


def _escaped(octets: bytes) -> str:
    return "".join([_QUERY_OCTETS[octet] for octet in octets])


_QUERY_OCTETS = [
    f"%{octet:02X}" if octet <= 0x20 or octet >= 0x7F or octet in b"\"#<>'%" else chr(octet)
    for octet in range(256)
]

# What browsers understand by these names is wider than Python's codecs of the same name (Encoding standard,
# 4.2).
_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gbk",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}


def _legacy_encoding(charset: str | None) -> str | None:
    """Python's codec for the queries of a page in `charset`; None where that is UTF-8."""
    if charset is None or charset in ("utf-8", "UTF-8", "utf8"):
        return None
    try:
        name = codecs.lookup(charset).name
        "\u00e9".encode(name, "ignore")
    except (LookupError, ValueError, TypeError):
        return None  # no such codec, or one from bytes to bytes
    return None if name.startswith("utf") else _WIDER.get(name, name)


def _climb(text: str, directory: str, root: int) -> tuple[str, str]:
    """Takes `./` and `../` off the front of a relative href; `root` is the length of the shortest
    directory."""
    while True:
        if text.startswith("../"):
            text = text[3:]
            if len(directory) > root:
                directory = directory[: directory.rindex("/", 0, -1) + 1]
        elif text.startswith("./"):
            text = text[2:]
        else:
            return text, directory


def _is_too_long(host: str) -> bool:
    """Of a host with its port and final dot."""
    return len(host.partition(":")[0].removesuffix(".")) > MAX_HOST


def _why_invalid(text: str) -> str:
    if not text.strip(_CUT):
        return "empty"
    if _other_scheme(text):
        return "scheme"
    return "no_host" if _no_host(text) else "invalid"
