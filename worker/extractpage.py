"""A page as an extractor sees it: what came, what is in it, and where to go from there.

    from shoal import Page

    def parse(page: Page):
        for row in page.css("li.film"):
            yield {"title": row.css("a::text").get()}
            yield page.follow(row.css("a::attr(href)").get(), extract=film)

What is costly is done when it is first asked for: undoing the content-coding, finding the charset, the tree, the
links. Nothing of it is shared with another page, so a page may be used in any one thread. For a test of an
extractor, `Page(url, body=b"<h1>...")` is one.

No I/O. Where the items go is worker/extract.py's, what they may be worker/extractitems.py's.
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from common.errors import BadURL
from common.messages import DOWNLOAD, Form
from common.normalization import Normalizer
from common.url import CanonicalURL, LinkJoiner, canonical
from common.wire import pack
from worker.charset import codec, decide, to_utf8
from worker.extractfollow import Follow
from worker.markup import parseable
from worker.outcome import content_type
from worker.parse import Parsed, parse_html

if TYPE_CHECKING:
    from parsel import Selector, SelectorList

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""What `follow` can ask with."""

MAX_CARRY: Final = 64 << 10
"""Bytes of what a request carries, packed; it lies in the store until the request has ended."""

MAX_BODY: Final = 1 << 20
_MAX_FILE_NAME: Final = 255
_MAX_HEADERS: Final = 64
_MAX_NAME: Final = 255
_MAX_VALUE: Final = 4096

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile("[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_FRAMING: Final = ("connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade")

Functions = Mapping[str, Callable[..., Any]]
"""The functions of an extractor's module, by name."""


class Headers(Mapping[str, str]):
    """Headers of a response; names in any case, of several of one name the first."""

    def __init__(self, pairs: tuple[tuple[str, str], ...] = ()) -> None:
        self._pairs = pairs
        self._first: dict[str, str] = {}
        for name, value in pairs:
            self._first.setdefault(name.lower(), value)

    def __getitem__(self, name: str) -> str:
        return self._first[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def all(self, name: str) -> list[str]:
        """Every value of a header, as `Set-Cookie` has several."""
        return [value for known, value in self._pairs if known.lower() == name.lower()]


class Page:
    """A response with a body, fetched and whole."""

    def __init__(
        self,
        url: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | tuple[tuple[str, str], ...] = (),
        body: bytes | Callable[[], bytes] = b"",
        depth: int = 0,
        carry: Any = None,
        fetched_at: float | None = None,
        functions: Functions | None = None,
        max_url_length: int = 65_536,
        normalizer: Normalizer | None = None,
    ) -> None:
        """`url`: canonical. `body`: without content-coding, or what gives it. `fetched_at`: seconds since 1970.

        `functions`: those that `follow(extract=...)` may name; None: any.
        """
        self.url = url
        self.status = status
        pairs = tuple(headers.items()) if isinstance(headers, Mapping) else headers
        self.headers = Headers(pairs)
        self.depth = depth
        self.carry = carry
        """What the `follow` that led here gave as `carry`; None without."""
        self.fetched_at = fetched_at
        self._body = body
        self._functions = functions
        self._joiner = LinkJoiner(0, entries=64, max_length=max_url_length, normalizer=normalizer)

    def __repr__(self) -> str:
        return f"<Page {self.status} {self.url}>"

    # ------------------------------------------------------------------------------------------------ what came

    @cached_property
    def body(self) -> bytes:
        """The body, its content-coding undone; at most --max-bytes of it."""
        return self._body if isinstance(self._body, bytes) else self._body()

    @cached_property
    def charset(self) -> str:
        """As the Encoding standard calls it; found as browsers do."""
        return decide(self.body, content_type(self.headers.get("Content-Type")).charset)

    @cached_property
    def text(self) -> str:
        """The body as text; what the charset cannot mean is U+FFFD."""
        return to_utf8(self.body, self.charset).decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. ValueError where it is none."""
        try:
            return jsonlib.loads(self.body)
        except ValueError:
            return jsonlib.loads(self.text)  # in another charset than the RFC's

    # ------------------------------------------------------------------------------------------------ what is in it

    @cached_property
    def selector(self) -> Selector:
        """parsel's Selector of the whole page: HTML, or XML where the type says so."""
        from parsel import Selector  # 40 ms and 5 MB that only crawls with such an extractor pay

        media = content_type(self.headers.get("Content-Type")).media_type or ""
        is_xml = media.endswith(("/xml", "+xml")) and media != "application/xhtml+xml"
        return Selector(text=self.text, type="xml" if is_xml else "html", base_url=self.url)

    def css(self, query: str) -> SelectorList[Selector]:
        """Elements, or with `::text` and `::attr(name)` texts, by a CSS selector: `.get()`, `.getall()`."""
        return self.selector.css(query)

    def xpath(self, query: str, **variables: Any) -> SelectorList[Selector]:
        """The same by an XPath; `$name` stands for a variable."""
        return self.selector.xpath(query, **variables)

    def re(self, pattern: str) -> list[str]:
        """All that a regular expression finds in the text: its groups, or the whole."""
        return [group if isinstance(group, str) else group[0] for group in re.findall(pattern, self.text)]

    @cached_property
    def links(self) -> list[str]:
        """Where the page links to: canonical URLs in its order, each once, whatever the scope; docs/links.md."""
        if self._parsed is None:
            return []
        links = self._joiner.join(self._base, self._parsed.hrefs, codec(self.charset))
        return [url for url, _ in links]

    @cached_property
    def _parsed(self) -> Parsed | None:
        media = content_type(self.headers.get("Content-Type")).media_type
        markup = parseable(media, self.body) if self.body else None
        return None if markup is None else parse_html(to_utf8(self.body, self.charset), markup=markup)

    @cached_property
    def _base(self) -> CanonicalURL:
        """What relative addresses stand against: the page's own, or what its `base` says."""
        own = CanonicalURL(self.url)
        if b"<base" not in self.body.lower() or self._parsed is None or self._parsed.base_href is None:
            return own
        try:
            return canonical(self._parsed.base_href, own, max_length=65_536)
        except BadURL:
            return own

    # ------------------------------------------------------------------------------------------------ where to go

    def urljoin(self, url: str) -> str:
        """An address of the page as an absolute one, canonical where it can be fetched; as it is where not."""
        joined = self._joiner.join(self._base, (url,), codec(self.charset))
        return joined[0][0] if joined else url

    def follow(
        self,
        url: Any,
        *,
        extract: str | Callable[..., Any] | None = None,
        carry: Any = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str | Mapping[str, Any] | None = None,
        priority: int = 0,
        dont_filter: bool = False,
    ) -> Follow:
        """A request to yield. It passes the scope and is fetched once, as any URL; with --no-follow it is followed all
        the same.

        `url`: may be relative; also a selected `a` or its attribute. `extract`: the function of this module for what
        comes, or its name; None: the one of --extract. `carry`: for that function's `page.carry`, of what JSON
        knows, and bytes. `body`: bytes, text in UTF-8, or the fields of a form. `priority`: -1000 to 1000, higher
        ones of a host go first. `dont_filter`: fetched though the same request is known, once for each time that
        this page yields it. ValueError or TypeError for what cannot be; an address that none can be made of is
        counted, not raised.
        """
        text = _address(url)
        joined = self._joiner.join(self._base, (text,), codec(self.charset))
        form = _form(
            method.upper(), headers or {}, body, priority, self._carried(extract, carry), dont_filter
        )
        if not joined:
            return Follow(text, form, dont_filter, "invalid")
        return Follow(joined[0][0], form, dont_filter)

    def download(
        self,
        url: Any,
        *,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
        priority: int = 0,
    ) -> Follow:
        """A file to fetch and keep in DIR/files, to yield; any type, any length up to --max-file-bytes, never whole in
        memory. As `follow` it passes the scope, and is fetched once; a redirect is followed wherever it leads.

        `url`: as for `follow`; also a selected `img`, `video` or the like. `name`: for the file, made safe; None: as
        its server or its URL calls it. The file's place stands in the line of `pages`, as `file`.
        """
        text = _address(url)
        joined = self._joiner.join(self._base, (text,), codec(self.charset))
        wanted = None if name is None else str(name)[:_MAX_FILE_NAME].encode("utf-8", "replace")
        form = _form("GET", headers or {}, None, priority, wanted, False, download=True)
        if not joined:
            return Follow(text, form, False, "invalid")
        return Follow(joined[0][0], form)

    def _carried(self, extract: str | Callable[..., Any] | None, carry: Any) -> bytes | None:
        """(function or None, carry) packed; None where there is neither."""
        name = extract if isinstance(extract, str) or extract is None else getattr(extract, "__name__", "")
        if name is not None and self._functions is not None:
            known = self._functions.get(name)
            if known is None or (callable(extract) and known is not extract):
                raise ValueError(f"follow(extract={name!r}): the extractor's module has no such function")
        if name is None and carry is None:
            return None
        try:
            packed = pack((name, carry))
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"follow(carry=...): only what JSON knows, and bytes: {error}") from None
        if len(packed) > MAX_CARRY:
            raise ValueError(f"follow(carry=...): {len(packed):,} bytes, at most {MAX_CARRY:,}")
        return packed


def _address(url: Any) -> str:
    """The text of an address: as it is, or of what parsel selected."""
    if isinstance(url, str):
        return url
    root = getattr(url, "root", None)
    if isinstance(root, str):
        return root
    attributes = getattr(url, "attrib", None) or {}
    for attribute in ("href", "src"):
        if attribute in attributes:
            return str(attributes[attribute])
    raise TypeError(f"follow({str(url)[:60]!r}): expected an address, or an element with one")


def _form(
    method: str,
    headers: Mapping[str, str],
    body: bytes | str | Mapping[str, Any] | None,
    priority: int,
    carry: bytes | None,
    dont_filter: bool,
    *,
    download: bool = False,
) -> Form | None:
    if method not in METHODS:
        raise ValueError(f"follow(method={method[:20]!r}): one of {', '.join(METHODS)}")
    if not -1000 <= priority <= 1000:
        raise ValueError(f"follow(priority={priority}): from -1000 to 1000")
    pairs = tuple((str(name), str(value)) for name, value in headers.items())
    if isinstance(body, Mapping):
        body = urlencode(body, doseq=True)
        if not any(name.lower() == "content-type" for name, _ in pairs):
            pairs = (*pairs, ("Content-Type", "application/x-www-form-urlencoded"))
    packed = body.encode() if isinstance(body, str) else body
    if packed is not None and len(packed) > MAX_BODY:
        raise ValueError(f"follow(body=...): {len(packed):,} bytes, at most {MAX_BODY:,}")
    for name, value in pairs:
        if not _can_be_sent(name, value):
            raise ValueError(f"follow(headers=...): {name[:60]!r} cannot be sent")
    if len(pairs) > _MAX_HEADERS:
        raise ValueError(f"follow(headers=...): {len(pairs)}, at most {_MAX_HEADERS}")
    if download:
        method = DOWNLOAD
    if method == "GET" and not (pairs or packed is not None or priority or carry or dont_filter):
        return None
    return Form(method, pairs, packed, None, 0, priority, carry)


def _can_be_sent(name: str, value: str) -> bool:
    """Whether it is a header, and none that says how the request itself is framed."""
    if len(name) > _MAX_NAME or len(value) > _MAX_VALUE or name.lower() in _FRAMING:
        return False
    return _TOKEN.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None
