"""What a page says: its title, its base, where it links to, and what it asks of robots.

Bytes in UTF-8 go in (worker/charset.py made them), raw hrefs come out: they are joined, brought into canonical
form and judged elsewhere. No I/O, no clock, and nothing is raised for any bytes.

Where links are taken from: `a`, `area`, `iframe`, `frame`, `link rel=canonical|alternate|next|prev` (not
alternate stylesheets), meta refresh; with `media` also what the page loads. `noscript` counts as part of the page,
as for a browser that runs no scripts; what stands in a `template` does not, as for any browser. A fragment names
a place in a page, not a page: it is cut off, and an href that is nothing else is left out. docs/links.md has all of
it in one table. Feeds and style sheets have parsers of their own (worker/feed.py, `css_urls`).

Bounds: MAX_PARSED bytes of a page are read. The tree of the HTML standard is quadratic in time and memory for
pages made (or broken) so; `tree_is_safe` finds those out, and they go through worker/scan.py, which is linear.

Measured on generated pages of 34 KB with 70 such elements: 265 µs, of which the tree 155, finding them 60, the
check 17, the rest 30. The scanner takes 1.3 to 1.6 times what the tree does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from selectolax.lexbor import LexborHTMLParser, LexborNode

from worker import feed, scan
from worker.scan import TEXT, Element, elements
from worker.text import MAX_TEXT, anchor, readable, text_of

MAX_PARSED = 4 << 20
"""Bytes of a page that are parsed; the links of a page are near its beginning, and this much takes 25 ms where it is
ordinary, up to 0.3 s where it is made to hurt, a second with media, text or the words of links."""

MAX_TITLE = 512
"""Characters; the contract's number."""

Markup = Literal["html", "xhtml", "feed", "css", "text"]

ANY = "*"
"""In place of a tag's name: an element looked at for what any element may have."""

FEED, ENCLOSURE = "feed", "enclosure"
"""In place of a tag's name: what a feed leads to, and what it loads."""

FOLLOWED = frozenset({"canonical", "alternate", "next", "prev", "previous"})
"""What a `link` may be to be followed."""

LOADED = frozenset(
    {
        "stylesheet",
        "icon",
        "apple-touch-icon",
        "mask-icon",
        "manifest",
        "preload",
        "prefetch",
        "modulepreload",
    }
)
"""What a `link` may be to be loaded, with `media`."""

_MAX_SRCDOC = 64  # pages inside iframes of a page: each costs a tree of its own, 30 us even if empty
_SAFE_BYTES = 16 << 10  # up to here nothing costs more than about 0.2 s and 200 MB (`<p><font a1>`, measured)
_TREE_BYTES = 256 << 10  # beyond it the checks below are not tight enough; 1 page in 100
_WINDOW = (
    4096  # bytes without any `>`: a tag of hundreds of attributes (each costs all before it), or a script
)
_FEW_TAGS = 2500
_MANY_TAGS = 25_000  # nested as deep as can be, 0.2 s
_FORMATTED = 128  # formatting elements with attributes: left open, each block after them repeats them all


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was found in a page. Strings are as written, character references resolved."""

    title: str | None
    """Of the first `title`: control characters removed, white space collapsed, at most MAX_TITLE characters."""
    base_href: str | None
    """The href of the first `base` that has one, be it empty; against the page's URL it gives the base of all other
    hrefs."""
    hrefs: list[str]
    """Of pages, in the order of the page, without repeats and fragments."""
    resources: list[str]
    """Of images, styles, scripts and the like, if asked for."""
    noindex: bool
    nofollow: bool
    """The page asks that none of its links be followed. They are in `hrefs` all the same: the caller obeys."""
    text: str | None = None
    """Its text for comparing (worker/text.py), if asked for and if there is any."""
    reading: str | None = None
    """Its text for reading, likewise."""
    language: str | None = None
    """What it says that it is written in, as `html lang` has it; only where `reading` was asked for."""
    elements: list[Element] = field(default_factory=list)
    """Where links stand, those within iframes last, if asked for: a link's text is under TEXT (worker/linkgraph.py)."""


def parseable(
    media_type: str | None, body: bytes, *, media: bool = False, text: bool = False
) -> Markup | None:
    """How a body is to be parsed, if at all. `media_type` is lower case and without parameters.

    XML is parsed if it is XHTML or a feed by its root. A body of no type, or of one that servers give to what they do
    not know, is looked at as browsers do (mimesniff, 7.1). Style sheets lead to other files, which are wanted with
    `media`; plain text has no links, so it is read only for its `text`.
    """
    if media_type == "text/html":
        return "html"
    if media_type == "application/xhtml+xml":
        return "xhtml"
    if media_type in ("application/xml", "text/xml"):
        if _XHTML_ROOT.search(body[:1024]):
            return "xhtml"
        return "feed" if feed.is_feed(body) else None
    if media_type in feed.TYPES:
        return "feed"
    if media_type == "text/css":
        return "css" if media else None
    if media_type == "text/plain":
        return "text" if text else None
    if media_type in _UNKNOWN:
        if not _LOOKS_LIKE_HTML.match(body[:1024]):
            return None
        return "xhtml" if body[:512].lstrip(_BOM_OR_SPACE).startswith(b"<?xml") else "html"
    return None


def parse_html(
    page: bytes,
    *,
    markup: Markup = "html",
    media: bool = False,
    follow_nofollow_links: bool = True,
    robots_token: str = "",
    text: bool = False,
    reading: bool = False,
    links: bool = False,
    by_tree: bool | None = None,
    nested: bool = False,
) -> Parsed:
    """Parse a page. `robots_token`: the product token whose own `<meta name=TOKEN>` counts beside `robots`.

    `text`, `reading`: also the page's text, for comparing or for people. `links`: also the elements of its links with
    their text. `by_tree`: with Lexbor's tree or with the scanner; None, which is right but for tests,
    lets `tree_is_safe` decide. `nested`: the page is an iframe's `srcdoc`; such ones in it are not opened.
    """
    if len(page) > MAX_PARSED:
        page = page[:MAX_PARSED]
    if markup == "xhtml":
        page = _SELF_CLOSED.sub(rb"<\1\2></\1>", page)  # in HTML these would swallow the rest of the page
    elif markup != "html":
        return _parse_other(page, markup, media=media, text=text, reading=reading, links=links)
    words: str | None = None
    to_read: str | None = None
    language: str | None = None
    if tree_is_safe(page) if by_tree is None else by_tree:
        tree = LexborHTMLParser(page)
        title = _title(tree)
        nodes = tree.css(_MEDIA_SELECTOR if media else _SELECTOR)
        found: list[Element] = [(node.tag or "", node.attributes) for node in nodes]
        if media:
            found.extend(("style", {TEXT: node.text()}) for node in tree.css("style"))
            found.extend((ANY, node.attributes) for node in tree.css("[style],[background]"))
        if links:
            for (tag, attributes), node in zip(found, nodes, strict=False):
                if tag == "a":
                    attributes[TEXT] = anchor(node)
        if reading:
            language = _language(tree)
        # Last: these take the tree apart.
        if reading:
            to_read = readable(tree)
        if text:
            words = text_of(tree)
    else:
        found = elements(page, media=media)
        if media:
            found.extend((ANY, attributes) for attributes in scan.styled(page))
        title = next((attributes[TEXT] or "" for tag, attributes in found if tag == "title"), None)
        if links:
            anchors = iter(scan.anchors(page))
            for tag, attributes in found:
                if tag == "a":
                    attributes[TEXT] = next(anchors, None)
        if text:
            words = scan.text(page)
        if reading:
            language, to_read = scan.language(page), scan.readable(page)

    hrefs: dict[str, None] = {}  # a set that keeps the order
    resources: dict[str, None] = {}
    base_href: str | None = None
    noindex = nofollow = to_base = False
    opened = 0  # pages within this one
    inner: list[Element] = []  # elements of those
    for tag, attributes in found:
        if tag == "a" or tag == "area":
            href = attributes.get("href") or attributes.get("xlink:href")
            if not href:
                to_base |= "href" in attributes
            else:
                if "#" in href:
                    href = href[: href.index("#")].strip(_SPACE)
                    if not href:
                        to_base = True
                        continue
                if follow_nofollow_links or "nofollow" not in _words(attributes.get("rel")):
                    hrefs[href] = None
        elif tag == "link":
            href = attributes.get("href")
            rel = _words(attributes.get("rel"))
            if href and not FOLLOWED.isdisjoint(rel) and "stylesheet" not in rel:
                hrefs[_without_fragment(href)] = None
            elif media and not LOADED.isdisjoint(rel):
                for loaded in (href or "", *srcset_urls(attributes.get("imagesrcset") or "")):
                    resources[_without_fragment(loaded)] = None
        elif tag == "meta":
            content = attributes.get("content")
            name = attributes.get("name")
            if not content:
                continue
            if name:
                name = name.strip(_SPACE).lower()
                if name == "robots" or name == robots_token.lower():
                    index, follow = _directives(content.split(","))
                    noindex |= index
                    nofollow |= follow
            if (attributes.get("http-equiv") or "").strip(_SPACE).lower() == "refresh":
                href = refresh_target(content)
                if href:
                    hrefs[_without_fragment(href)] = None
        elif tag == "iframe" or tag == "frame":
            href = attributes.get("src")
            if href:
                hrefs[_without_fragment(href)] = None
            srcdoc = attributes.get("srcdoc")
            if srcdoc and not nested and opened < _MAX_SRCDOC:
                opened += 1
                within = parse_html(
                    srcdoc.encode("utf-8", "replace"),
                    media=media,
                    follow_nofollow_links=follow_nofollow_links,
                    links=links,
                    nested=True,
                )
                inner += within.elements
                hrefs.update(dict.fromkeys(within.hrefs))
                resources.update(dict.fromkeys(within.resources))
        elif tag == "base":
            if base_href is None and "href" in attributes:
                base_href = attributes["href"] or ""
        elif media:
            for href in loaded_by(tag, attributes):
                resources[_without_fragment(href)] = None
    for nothing in ("", "about:blank"):
        hrefs.pop(nothing, None)
    if to_base and base_href:
        hrefs[""] = None  # nothing, or a mere fragment, is the base: another page than this one
    resources.pop("", None)
    return Parsed(
        title=None if title is None else clean_title(title),
        base_href=base_href,
        hrefs=list(hrefs),
        resources=[href for href in resources if href[:5].lower() != "data:"],
        noindex=noindex,
        nofollow=nofollow,
        text=words,
        reading=to_read or None,
        language=_short(language),
        elements=found + inner if links else [],
    )


def _parse_other(
    page: bytes, markup: Markup, *, media: bool, text: bool, reading: bool, links: bool
) -> Parsed:
    """What is no page of HTML: a feed, a style sheet, plain text."""
    if markup == "feed":
        title, base_href, hrefs, resources = feed.links(page, media=media)
        hrefs = [href for href in map(_without_fragment, hrefs) if href]
        resources = [href for href in map(_without_fragment, resources) if href]
        found = (
            [*((FEED, href) for href in hrefs), *((ENCLOSURE, href) for href in resources)] if links else []
        )
        elements: list[Element] = [(tag, {"href": href}) for tag, href in found]
        return Parsed(clean_title(title or ""), base_href, hrefs, resources, False, False, elements=elements)
    whole = page.decode("utf-8", "replace")
    if markup == "css":
        sheet: list[Element] = [("style", {TEXT: whole})] if links else []
        return Parsed(None, None, [], css_urls(whole), False, False, elements=sheet)
    whole = whole[:MAX_TEXT]
    to_read = whole.strip() or None
    return Parsed(None, None, [], [], False, False, whole if text else None, to_read if reading else None)


def tree_is_safe(page: bytes) -> bool:
    """Whether building the page's tree takes time and memory about linear in its size. Costs 0.5 µs a KiB.

    Not a proof for the last of the checks: a page made against it, with a `>` in one attribute of every few
    hundred, can make 256 KiB cost some seconds; one that is only broken cannot.
    """
    size = len(page)
    if size <= _SAFE_BYTES:
        return True
    if size > _TREE_BYTES:
        return False
    tags = page.count(b"<")
    if tags > _MANY_TAGS:
        return False
    if tags > _FEW_TAGS:
        formatted = _MAYBE_FORMATTED.findall(page)
        if len(formatted) > _FORMATTED and sum(map(_FORMATTING.__contains__, formatted)) > _FORMATTED:
            return False
    find = page.find
    return all(find(b">", start, start + _WINDOW) >= 0 for start in range(0, size - _WINDOW, _WINDOW))


def clean_title(text: str) -> str | None:
    """A title as one line for people; None if nothing is left of it."""
    text = " ".join(text.lstrip()[: 8 * MAX_TITLE].split())
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text[:MAX_TITLE].rstrip() or None


def refresh_target(content: str) -> str | None:
    """The URL in the content of a meta refresh or a Refresh header (HTML standard, 4.2.5.3); None: the page itself."""
    match = _REFRESH.match(content)
    if match is None:
        return None
    target = match[1]
    named = _REFRESH_URL.match(target)
    if named is not None:
        target = target[named.end() :]
    if target[:1] in ("'", '"'):
        target = target[1:].partition(target[0])[0]
    return target.strip(_SPACE) or None


def link_header_targets(values: Iterable[str], *, media: bool = False) -> list[str]:
    """The targets of Link headers (RFC 8288) with rel canonical, alternate, next or prev, without fragments; with
    `media` also what the page loads (stylesheet, preload, icon, ...).

    They are relative to the URL of the response, whatever base its page names.
    """
    targets: dict[str, None] = {}
    for href, rel in link_headers(values):
        words = rel.lower().split()
        page = not FOLLOWED.isdisjoint(words) and "stylesheet" not in words
        if page or (media and not LOADED.isdisjoint(words)):
            targets[_without_fragment(href)] = None
    targets.pop("", None)
    return list(targets)


def link_headers(values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(target, rel) of the links in Link headers that have a rel."""
    for value in values:
        for link in _LINK_VALUE.finditer(value[:65536]):
            for name, quoted, bare in _LINK_PARAMETER.findall(link[2]):
                if name.lower() == "rel":
                    yield link[1], quoted or bare
                    break  # RFC 8288, 3.3: of several rel parameters the first counts


def robots_header(values: Iterable[str], token: str) -> tuple[bool, bool]:
    """(noindex, nofollow) of X-Robots-Tag headers, for everybody and for the product `token`.

    A directive may have a product before it (`otherbot: noindex, nofollow`), which then holds to the end of
    that header or to the next product.
    """
    ours: list[str] = []
    for value in values:
        concerns_us = True
        for part in value.split(","):
            product, colon, rest = part.partition(":")
            if colon and product.strip().lower() not in _VALUED_DIRECTIVES:
                concerns_us = product.strip().lower() in ("*", token.lower())
                part = rest
            if concerns_us:
                ours.append(part)
    return _directives(ours)


def css_urls(text: str) -> list[str]:
    """What a style sheet loads: `url(...)` and `@import "..."`, without repeats, fragments and data."""
    text = _CSS_COMMENT.sub(" ", text)
    found = dict.fromkeys(
        _without_fragment(_CSS_ESCAPE.sub(_css_escaped, written) if "\\" in written else written)
        for written in map("".join, _CSS_URL.findall(text))
    )
    return [href for href in found if href and href[:5].lower() != "data:"]


def _css_escaped(escape: re.Match[str]) -> str:
    """A character written as `\\2f ` or `\\)`, nothing for a line that goes on (CSS Syntax, 4.3.7)."""
    digits, character = escape.groups()
    if digits is None:
        return "" if character == "\n" else character
    code = int(digits, 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def srcset_urls(srcset: str) -> list[str]:
    """The images of a srcset attribute (HTML standard, 4.8.4.2.2). A URL may hold commas, but not end in one."""
    found = []
    position = 0
    while (candidate := _SRCSET_URL.match(srcset, position)) is not None:
        href = candidate[1]
        position = candidate.end()
        if not href.endswith(","):
            descriptors = _SRCSET_DESCRIPTORS.match(srcset, position)
            position = descriptors.end() if descriptors else len(srcset)
        found.append(href.rstrip(","))
    return [href for href in found if href]


def _title(tree: LexborHTMLParser) -> str | None:
    """The text of the first title that is HTML's: an svg has titles of its own."""
    node = tree.css_first("title")
    if node is None:
        return None
    parent = node.parent
    if parent is None or parent.tag not in ("head", "body"):
        node = next((each for each in tree.css("title") if not _drawn(each)), None)
    return None if node is None else node.text()


def _language(tree: LexborHTMLParser) -> str | None:
    root = tree.css_first("html")
    attributes = {} if root is None else root.attributes
    return attributes.get("lang") or attributes.get("xml:lang")


def _short(language: str | None) -> str | None:
    """A tag of a language is 35 characters at most (RFC 5646, 4.4.1); what is longer is none."""
    language = (language or "").strip(_SPACE)
    return language if language and len(language) <= 64 else None


def _drawn(node: LexborNode) -> bool:
    """Whether a node is inside an svg. Looks no further up than drawings nest."""
    for _ in range(64):
        parent = node.parent
        if parent is None:
            return False
        if parent.tag in ("svg", "math"):
            return True
        node = parent
    return False


def _without_fragment(href: str) -> str:
    return href.partition("#")[0].strip(_SPACE)


def _words(value: str | None) -> list[str]:
    return value.lower().split() if value else []


def _directives(parts: Iterable[str]) -> tuple[bool, bool]:
    words = {part.strip().lower() for part in parts}
    return not words.isdisjoint(("noindex", "none")), not words.isdisjoint(("nofollow", "none"))


def loaded_by(tag: str, attributes: dict[str, str | None]) -> list[str]:
    """What an element loads, beside the page's links."""
    if tag == "style":
        return css_urls(attributes.get(TEXT) or "")
    if tag == ANY:
        background = attributes.get("background")
        return [*css_urls(attributes.get("style") or ""), *([background] if background else [])]
    if tag == "input" and (attributes.get("type") or "").strip(_SPACE).lower() != "image":
        return []
    named = ("href", "xlink:href") if tag in _DRAWN else ("src", "poster", "data")
    found = [href for name in named if (href := attributes.get(name))]
    srcset = attributes.get("srcset")
    return found + srcset_urls(srcset) if srcset else found


_SPACE = "\t\n\f\r "
_BOM_OR_SPACE = b"\xef\xbb\xbf\t\n\f\r "

_SELECTOR = "a,area[href],base[href],frame[src],iframe,link[href],meta[content]"
_MEDIA_SELECTOR = (
    _SELECTOR
    + ",audio[src],embed[src],feimage,img,image,input[src],link[imagesrcset]:not([href]),object[data]"
    ",script[src],source,track[src],use,video"
)
_DRAWN = frozenset({"feimage", "feImage", "image", "use"})  # of SVG

_VALUED_DIRECTIVES = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview", "indexifembedded"}
)
_UNKNOWN = frozenset(
    {None, "", "application/octet-stream", "unknown/unknown", "application/unknown", "*/*", "content/unknown"}
)

_XHTML_ROOT = re.compile(rb"<html[\s>]|<!DOCTYPE\s++html[\s>]")
_LOOKS_LIKE_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*+(?:<\?xml[^>]*+>[\t\n\f\r ]*+)?+"
    rb"(?:<!--(?:[^-]|-(?!->))*+-->[\t\n\f\r ]*+)*+"
    rb"<(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P|META|LINK)[\t\n\f\r />]",
    re.I,
)
_SELF_CLOSED = re.compile(
    rb"<(script|style|title|textarea|iframe|noframes|noembed|xmp)"
    rb"(?=[\t\n\f\r /])((?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)(?<=/)>"
)
# Letters, spaces and joiners stay; C0 and C1 controls and what turns the direction of a line around do not.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")

_REFRESH = re.compile(
    r"[\t\n\f\r ]*+(?:[0-9][0-9.]*+|\.[0-9.]*+)(?:[\t\n\f\r ]*+[;,]|(?=[\t\n\f\r ]))[\t\n\f\r ]*+(.*+)", re.S
)
_REFRESH_URL = re.compile(r"url[\t\n\f\r ]*+=[\t\n\f\r ]*+", re.I)

_LINK_VALUE = re.compile(r"<([^>]*+)>((?:[^,<\"]++|\"(?:[^\"\\]++|\\.)*+\"?+)*+)")
_LINK_PARAMETER = re.compile(r";\s*+([^\s=;,\"]++)\s*+=\s*+(?:\"([^\"]*+)\"|([^\s;,\"]++))")

_CSS_COMMENT = re.compile(r"/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)")
_CSS_STRING = r"(?:\"((?:[^\"\n\\]++|\\.)*+)\"|'((?:[^'\n\\]++|\\.)*+)')"
_CSS_URL = re.compile(
    rf"\burl\(\s*+(?:{_CSS_STRING}|((?:[^\s\"'()\\]++|\\.)++))|@import\s*+{_CSS_STRING}", re.I | re.S
)
_CSS_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})(?:\r\n|[ \t\n\f\r])?|(.))", re.S)
_SRCSET_URL = re.compile(r"[\t\n\f\r ,]*+([^\t\n\f\r ]++)")
_SRCSET_DESCRIPTORS = re.compile(r"(?:[^,(]++|\([^)]*+(?:\)|\Z))*+(?:,|\Z)")

# Elements of the "list of active formatting elements" but `a`, of which the list never holds two.
_MAYBE_FORMATTED = re.compile(rb"<([bBcCeEfFiInNsStTuU][a-zA-Z]{0,5}+)[\t\n\f\r /]")
_FORMATTING = frozenset(b"b big code em font i nobr s small strike strong tt u".split())
_FORMATTING |= frozenset(name.upper() for name in _FORMATTING)
