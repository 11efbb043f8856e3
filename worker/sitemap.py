"""Sitemaps: the URLs that a site lists for crawlers, in any of the forms of sitemaps.org and its feeds.

Pure: bytes in, entries out; no I/O and no clock. Forms: index, URL set, text, RSS 2.0 and 1.0, Atom; each plain
or gzipped. What a file is, its content decides; Content-Type and address only help. It neither fetches, nor
joins or canonicalises URLs (a feed's relative ones are for the caller; `xml:base` is not read), nor decides how
deep indexes may nest and which hosts a sitemap may speak for: that is for who asks.

Read by expat, in pieces, straight into entries: no tree. Expat alone is not safe from its input, so:
  - a file that declares entities is refused at the first declaration, so none is ever expanded or fetched;
  - bounds on what makes it slow or large: nesting, one token (expat before 2.6 reads a long one again with
    every piece), distinct names (it keeps each of them).
Names are compared without namespaces, by prefix: half of the files in the wild declare the wrong one, none, or
use `image:` undeclared. A field counts where its prefix is the root's (or means the same) and it stands
directly in its `url`, `sitemap`, `item` or `entry`. So `image:loc` and `video:content_loc` are never pages.

What counts as an entry, where the forms leave it open:
  - hreflang alternates (`xhtml:link rel=alternate`) are pages of the site: they come behind the pages listed,
    each once, without a date, as far as MAX_ENTRIES leaves room;
  - an index entry without `loc` is its text (seen in the wild, and in crawler-commons' cases);
  - an RSS item is its `link`, else its `guid` unless `isPermaLink="false"`; an Atom entry is every link
    with `rel="alternate"` or none: both are addresses of the entry by RFC 4287.

Broken XML keeps what came before the break. A bare `&` and control characters, the common breaks, are mended
and the file is read once more. A URL that the end of the file cuts in two is dropped: half of it is another one.

Invariants (tests/unit/test_sitemap.py): nothing is raised for any bytes; at most MAX_ENTRIES entries, none of
them empty or longer than MAX_URL.

Measured (CPU, Python 3.11, expat 2.5): 50,000 pages with lastmod, changefreq and priority (11.6 MB): 0.33 s;
as text 0.07; with 320,000 alternates (23 MB) 0.74. The worst hostile 50 MiB: 1.1 s. Memory: up to four times the file
beside it. So it is for a thread, not for the loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from worker import charset
from worker.dates import seconds
from worker.inflate import inflate

MAX_BYTES = 50 << 20
"""Bytes of a sitemap that are read, after gzip: the protocol's own limit (50 MiB)."""

MAX_ENTRIES = 50_000
"""Entries of one file, pages or sitemaps: the protocol's own limit."""

MAX_URL = 4096
"""Characters of a URL as written; longer ones are passed over. The protocol allows 2,048."""

MAX_ELEMENTS = 2_000_000  # of a file; 50 MiB of entries with ten alternates each have a quarter of it
MAX_DEPTH = 256  # elements within elements; a feed may hold whole pages
MAX_TOKEN = 1 << 20  # bytes of one tag, comment or instruction
MAX_NAMES = 1000  # distinct names of elements and attributes; a sitemap with every extension has about 80
MAX_OTHER_LINES = 50_000  # lines of a text that are no URLs

_MAX_MENDS = 1_000_000  # places where broken XML is mended, and so the time and memory that this takes
_MAX_GZIP = 2  # gzip in gzip is seen where a server compresses *.gz again and does not say so
_STEP = 1 << 16  # bytes given to expat at a time
_SNIFF = 64 << 10  # bytes in which the first element must begin


@dataclass(frozen=True, slots=True)
class Entry:
    """One URL of a sitemap, as written, without the white space around it.

    `lastmod`: seconds since 1970 UTC; None when missing, no date, or outside 1970 to 2100. A date without
    a time is its first second, a time without a zone is UTC.
    """

    url: str
    lastmod: int | None = None


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What one file lists, in its order.

    `kind`: `index` (the entries are sitemaps), `urlset`, `text`, `rss` or `atom` (they are pages).
    `truncated`: a bound was hit, there was more. `error`, for people: what is broken; `entries` has the rest.
    """

    kind: str
    entries: tuple[Entry, ...]
    truncated: bool = False
    error: str | None = None


def parse(body: bytes, *, content_type: str | None, url: str, cut: bool = False) -> Sitemap | None:
    """Read a sitemap, content-codings undone, a gzip of its own not; None: it is none of any kind.

    `content_type` is used for its charset, `url` for its extension: one URL is enough for a `.txt`, in other
    texts every second line must be one. `cut`: the body's end was lost on its way (a size limit, a broken
    connection), so its last line may be half a URL.
    """
    error: str | None = None
    for _ in range(_MAX_GZIP):
        if not body.startswith(b"\x1f\x8b"):
            break
        inflated = inflate(body, "gzip", MAX_BYTES)
        body, cut, error = inflated.body, cut or inflated.truncated, error or inflated.error
    if len(body) > MAX_BYTES:
        body, cut = body[:MAX_BYTES], True
    text = _utf8(body, content_type)
    if text[:_SNIFF].lstrip(_BLANK)[:1] == b"<":
        found = _xml(text, cut)
    else:
        # Some servers print warnings before the XML, so a text without a list of URLs may still hold some.
        lines = text[: max(text.rfind(b"\n"), text.rfind(b"\r")) + 1] if cut or error else text
        found = _text(lines, cut, any_line=_TXT.search(url) is not None) or _xml(text, cut)
    if found is None or error is None:
        return found
    return Sitemap(found.kind, found.entries, found.truncated, error)


# -------------------------------------------------------------------------------------------------- the text form


def _text(text: bytes, cut: bool, *, any_line: bool) -> Sitemap | None:
    """One URL a line; None where URLs are the exception."""
    entries: list[Entry] = []
    others = 0
    for found in _LINE.finditer(text):
        line = found[0]
        if line[:8].lower().startswith((b"http://", b"https://")):
            if len(entries) == MAX_ENTRIES:
                cut = True
                break
            written = line.decode("utf-8", "replace").strip() if len(line) <= 4 * MAX_URL else ""
            if 0 < len(written) <= MAX_URL:
                entries.append(Entry(written))
        else:
            others += 1
            if others > MAX_OTHER_LINES:
                cut = True
                break
    if not entries or (others > len(entries) and not any_line):
        return None
    return Sitemap("text", tuple(entries), cut)


# -------------------------------------------------------------------------------------------------- the XML forms


def _xml(markup: bytes, cut: bool) -> Sitemap | None:
    begin = _BEGIN.search(markup, 0, _SNIFF)
    if begin is None or begin["html"]:
        return None
    # The declaration is left out: its encoding was dealt with, and a wrong one would be an error to expat.
    declaration = _DECLARATION.match(markup, begin.start())
    start = declaration.end() if declaration else begin.start()
    line = markup.count(b"\n", 0, start)
    markup = markup[start:]
    found, broken = _read(markup, cut, line)
    if broken:
        mended = _NOT_XML.sub(_escape, markup.translate(None, _CONTROL), _MAX_MENDS)
        if mended != markup:
            again, _ = _read(mended[:MAX_BYTES], cut, line)
            if again is not None and (found is None or len(again.entries) > len(found.entries)):
                error = found.error if found else again.error
                return Sitemap(again.kind, again.entries, again.truncated, error)
    return found


def _read(markup: bytes, cut: bool, line: int) -> tuple[Sitemap | None, bool]:
    """What expat makes of it, and whether it broke off.

    `cut`: the end was cut away, so that it is missing is no error. `line`: lines before the markup.
    """
    parser = expat.ParserCreate("utf-8")  # whatever the XML declaration says: `_utf8` has seen to it
    reader = _Reader(parser)
    broken = False
    error: str | None = None
    try:
        for start in range(0, len(markup), _STEP):
            parser.Parse(markup[start : start + _STEP], False)
            if start + _STEP - parser.CurrentByteIndex > MAX_TOKEN:
                raise _Stop(f"a tag or comment of more than {MAX_TOKEN >> 20} MiB", bound=True)
        if not cut:
            parser.Parse(b"", True)
    except _Stop as stop:
        error = stop.error
        cut = cut or stop.bound
    except expat.ExpatError as failure:
        error = f"the XML breaks in line {line + failure.lineno}: {expat.ErrorString(failure.code)}"
        broken = True
    if reader.kind is None:
        return None, broken
    reader.close()
    return Sitemap(reader.kind, tuple(reader.entries), cut or reader.truncated, error), broken


class _Stop(Exception):
    """Reading ends here; `error` is None where that is as good as the end of the file."""

    def __init__(self, error: str | None, *, bound: bool) -> None:
        super().__init__(error)
        self.error = error
        self.bound = bound


# What an element is in its form.
_OTHER, _ENTRY, _URL, _DATE, _WEAK_DATE, _GUID, _LINK = range(7)

_FORMS: dict[str, dict[str, int]] = {
    "index": {"sitemap": _ENTRY, "loc": _URL, "lastmod": _DATE},
    "urlset": {"url": _ENTRY, "loc": _URL, "lastmod": _DATE},
    "rss": {"item": _ENTRY, "link": _URL, "guid": _GUID, "pubdate": _DATE},
    "atom": {
        "entry": _ENTRY,
        "link": _LINK,
        "updated": _DATE,
        "modified": _DATE,  # this and the next but one: Atom 0.3
        "published": _WEAK_DATE,
        "issued": _WEAK_DATE,
    },
}
_FOREIGN = {("urlset", "link"): _LINK, ("rss", "date"): _WEAK_DATE}
"""Elements of another namespace that count, whatever their prefix: xhtml:link and dc:date."""

_ROOTS = {"sitemapindex": "index", "urlset": "urlset", "rss": "rss", "rdf": "rss", "feed": "atom"}
_RSS_1 = ("purl.org/rss", "netscape.com/rdf")  # what a namespace of RSS 1.0, 0.9 and 1.1 has in it


class _Reader:
    """The state of reading one file: where expat is, the entry under way, and what was found.

    Written for speed: expat calls `_start` and `_end` 250,000 times for a full URL set, and `_characters`
    only while a field is open.
    """

    __slots__ = (
        "_alternates", "_date", "_depth", "_elements", "_entry", "_field", "_form", "_guid", "_names", "_ours",
        "_parser", "_pieces", "_role", "_roles", "_size", "_urls", "entries", "kind", "truncated",
    )  # fmt: skip

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.kind: str | None = None
        self.entries: list[Entry] = []
        self.truncated = False
        self._parser = parser
        self._form: dict[str, int] = {}
        self._ours: frozenset[str] = frozenset()  # prefixes of the form's own elements
        self._roles: dict[str, int] = {}  # of element names as written
        self._names: set[str] = set()  # of attributes
        self._alternates: dict[str, None] = {}  # hreflang, in order
        self._elements = 0
        self._depth = 0
        self._entry = 0  # the depth of the entry under way, 0 outside
        self._field = 0  # and that of the field being read
        self._role = _OTHER
        self._pieces: list[str] = []  # text of the field, of `_size` characters
        self._size = 0
        self._urls: list[str] = []  # of the entry under way, and so on
        self._guid = ""
        self._date: int | None = None
        parser.buffer_text = True
        parser.StartElementHandler = self._root
        parser.EndElementHandler = self._end
        parser.EntityDeclHandler = _refuse

    def close(self) -> None:
        """Keep what the file's end left open, and add the alternates."""
        if self._entry:
            self._field = 0  # its text may be half a URL, or half a date
            self._pieces.clear()
            try:
                self._finish_entry()
            except _Stop:
                self.truncated = True
        if self._alternates:
            for listed in self.entries:
                self._alternates.pop(listed.url, None)
            room = MAX_ENTRIES - len(self.entries)
            self.truncated = self.truncated or len(self._alternates) > room
            self.entries.extend(map(Entry, list(self._alternates)[:room]))

    def _root(self, name: str, attributes: dict[str, str]) -> None:
        prefix, _, local = name.rpartition(":")
        kind = _ROOTS.get(local.lower())
        spaces = {key[6:]: uri for key, uri in attributes.items() if key == "xmlns" or key[:6] == "xmlns:"}
        if local.lower() == "rdf":
            ours = {space for space, uri in spaces.items() if any(mark in uri.lower() for mark in _RSS_1)}
            kind = kind if ours else None  # any other RDF
        else:
            ours = {space for space, uri in spaces.items() if uri == spaces.get(prefix)} | {prefix}
            if "" not in spaces:
                ours.add("")
        if kind is None:
            raise _Stop(None, bound=False)
        self.kind = kind
        self._form = _FORMS[kind]
        self._ours = frozenset(ours)
        self._depth = 1
        self._parser.StartElementHandler = self._start

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth = depth = self._depth + 1
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise _Stop(f"more than {MAX_ELEMENTS} elements", bound=True)
        if depth > MAX_DEPTH:
            raise _Stop(f"elements nested deeper than {MAX_DEPTH}", bound=True)
        if attributes:
            self._names.update(attributes)
            if len(self._names) > MAX_NAMES:
                raise _Stop(f"more than {MAX_NAMES} names of attributes", bound=True)
        role = self._roles.get(name)
        if role is None:
            role = self._learn(name)
        if not role:
            return
        if role == _ENTRY:
            if not self._entry:
                self._entry = depth
                if self.kind == "index":
                    self._open()
        elif self._entry and depth == self._entry + 1:
            if role == _LINK:
                self._link(attributes)
            elif role != _GUID or attributes.get("isPermaLink", "").lower() != "false":
                self._field = depth
                self._role = role
                self._open()

    def _end(self, name: str) -> None:
        depth = self._depth
        if depth == self._field:
            self._finish_field()
        elif depth == self._entry:
            self._finish_entry()
        self._depth = depth - 1

    def _characters(self, text: str) -> None:
        if self._size <= MAX_URL:
            self._pieces.append(text)
            self._size += len(text)

    def _learn(self, name: str) -> int:
        if len(self._roles) >= MAX_NAMES:
            raise _Stop(f"more than {MAX_NAMES} names of elements", bound=True)
        prefix, _, local = name.rpartition(":")
        local = local.lower()
        role = self._form.get(local, _OTHER) if prefix in self._ours else _OTHER
        role = role or _FOREIGN.get((self.kind or "", local), _OTHER)
        self._roles[name] = role
        return role

    def _open(self) -> None:
        self._pieces.clear()
        self._size = 0
        self._parser.CharacterDataHandler = self._characters

    def _finish_field(self) -> None:
        text = "".join(self._pieces).strip()
        role = self._role
        self._field = 0
        self._pieces.clear()
        self._parser.CharacterDataHandler = None
        if role == _URL:
            if text and len(self._urls) <= MAX_ENTRIES:
                self._urls.append(text)
        elif role == _GUID:
            self._guid = text
        elif role == _DATE or self._date is None:
            found = seconds(text)
            if found is not None:
                self._date = found

    def _finish_entry(self) -> None:
        urls = self._urls
        if not urls:
            urls = [self._guid or ("".join(self._pieces).strip() if self.kind == "index" else "")]
        moment = self._date
        self._entry = 0
        self._parser.CharacterDataHandler = None
        self._urls = []
        self._guid = ""
        self._date = None
        for url in urls:
            if 0 < len(url) <= MAX_URL:
                if len(self.entries) >= MAX_ENTRIES:
                    raise _Stop(None, bound=True)
                self.entries.append(Entry(url, moment))

    def _link(self, attributes: dict[str, str]) -> None:
        if len(self._alternates) > 2 * MAX_ENTRIES:  # most of them are listed as well, hence twice
            return
        named = {key.lower(): value for key, value in attributes.items()}
        rel = named.get("rel", "" if self.kind == "urlset" else "alternate").lower().split()
        url = named.get("href", "").strip()
        if "alternate" not in rel or not 0 < len(url) <= MAX_URL:
            return
        if self.kind != "urlset":
            if len(self._urls) <= MAX_ENTRIES:
                self._urls.append(url)
        else:
            self._alternates[url] = None


def _refuse(*_declaration: Any) -> None:
    raise _Stop("it declares entities, which are not expanded here", bound=False)


# ------------------------------------------------------------------------------------------------------ characters


def _utf8(body: bytes, content_type: str | None) -> bytes:
    """The text in UTF-8, without a mark. UTF-8 that is valid is believed before any declaration."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return charset.to_utf8(body, charset.decide(body, None))
    if body[:1] in (b"\0", b"<") and body[:4].count(b"\0") == 2:  # UTF-16 without a mark
        return body.decode("utf-16-be" if body[0] == 0 else "utf-16-le", "replace").encode("utf-8", "replace")
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        body.decode("utf-8")
        return body
    except UnicodeDecodeError as failure:
        if failure.start > len(body) - 4:
            return body[: failure.start]  # cut off within a character
    found = _CHARSET.search(content_type or "")
    declared = charset.decide(body, found[1] if found else None)
    if declared == charset.UTF_8:
        text = body.decode("utf-8", "replace")
        if 2 * text.count("\ufffd") <= len(text) - len(text.encode("ascii", "ignore")):
            return text.encode("utf-8")
        declared = charset.decide(_DECLARATION.sub(b"", body, count=1), None)  # the text itself says which
    return charset.to_utf8(body, declared)


def _escape(found: re.Match[bytes]) -> bytes:
    return b"&amp;" if found[0] == b"&" else found[0]


_BLANK = b" \t\r\n\f\v\0"
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\r")
_LINE = re.compile(rb"[^\s][^\r\n]*(?<!\s)")
_TXT = re.compile(r"\.txt(?:\.gz)?(?:[?#]|$)", re.IGNORECASE)
_BEGIN = re.compile(
    rb"<(?:\?xml\s|(?P<html>html[\s>]|!doctype\s+html)|!doctype\s"
    rb"|(?:[\w.-]{1,40}:)?(?:urlset|sitemapindex|rss|rdf|feed)[\s>/])",
    re.IGNORECASE,
)
_DECLARATION = re.compile(rb"<\?xml\s[^>]{0,200}>", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)
# CDATA and comments are matched to be left alone; to the end of the text where they are not closed, or many of
# them would each look for an end that is not there.
_NOT_XML = re.compile(
    rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)"
    rb"|&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});)",
    re.DOTALL,
)
