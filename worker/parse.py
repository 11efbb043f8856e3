"""What a page says: its title, its base, where it links to, and what it asks of robots.

Bytes in UTF-8 go in (worker/charset.py made them), raw hrefs come out: they are joined, brought into canonical
form and judged elsewhere. No I/O, no clock, and nothing is raised for any bytes.

Where links are taken from: `a`, `area`, `iframe`, `frame`, `link rel=canonical|alternate|next|prev` (not
alternate stylesheets), meta refresh; with `media` also what the page loads. `noscript` counts as part of the page,
as for a browser that runs no scripts; what stands in a `template` does not, as for any browser. A fragment names
a place in a page, not a page: it is cut off, and an href that is nothing else is left out. docs/links.md has all of
it in one table. Feeds and style sheets have parsers of their own (worker/feed.py, worker/loads.py).

Bounds: MAX_PARSED bytes of a page are read. The tree of the HTML standard is quadratic in time and memory for
pages made (or broken) so; worker/treesafe.py finds those out, and they go through worker/scan.py, which is linear.

Measured on generated pages of 34 KB with 70 such elements: 265 µs, of which the tree 155, finding them 60, the
check 17, the rest 30. The scanner takes 1.3 to 1.6 times what the tree does.

Read next: hrefs.py (which links are followed), loads.py (what a page loads), directives.py (what it asks of robots).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from worker import feed, scan
from worker.directives import directives
from worker.hrefs import FOLLOWED, LOADED, SPACE, refresh_target, rel_words, without_fragment
from worker.loads import ANY, css_urls, loaded_by, srcset_urls
from worker.markup import Markup
from worker.scan import TEXT, Element, elements
from worker.text import MAX_TEXT, anchor, readable, text_of
from worker.treesafe import tree_is_safe

MAX_PARSED = 4 << 20
"""Bytes of a page that are parsed; the links of a page are near its beginning, and this much takes 25 ms where it is
ordinary, up to 0.3 s where it is made to hurt, a second with media, text or the words of links."""

MAX_TITLE = 512
"""Characters; the contract's number."""

_MAX_SRCDOC = 64  # pages inside iframes of a page: each costs a tree of its own, 30 us even if empty

FEED, ENCLOSURE = "feed", "enclosure"
"""In place of a tag's name: what a feed leads to, and what it loads."""


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
                    href = href[: href.index("#")].strip(SPACE)
                    if not href:
                        to_base = True
                        continue
                if follow_nofollow_links or "nofollow" not in rel_words(attributes.get("rel")):
                    hrefs[href] = None
        elif tag == "link":
            href = attributes.get("href")
            rel = rel_words(attributes.get("rel"))
            if href and not FOLLOWED.isdisjoint(rel) and "stylesheet" not in rel:
                hrefs[without_fragment(href)] = None
            elif media and not LOADED.isdisjoint(rel):
                for loaded in (href or "", *srcset_urls(attributes.get("imagesrcset") or "")):
                    resources[without_fragment(loaded)] = None
        elif tag == "meta":
            content = attributes.get("content")
            name = attributes.get("name")
            if not content:
                continue
            if name:
                name = name.strip(SPACE).lower()
                if name == "robots" or name == robots_token.lower():
                    index, follow = directives(content.split(","))
                    noindex |= index
                    nofollow |= follow
            if (attributes.get("http-equiv") or "").strip(SPACE).lower() == "refresh":
                href = refresh_target(content)
                if href:
                    hrefs[without_fragment(href)] = None
        elif tag == "iframe" or tag == "frame":
            href = attributes.get("src")
            if href:
                hrefs[without_fragment(href)] = None
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
                resources[without_fragment(href)] = None
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
        hrefs = [href for href in map(without_fragment, hrefs) if href]
        resources = [href for href in map(without_fragment, resources) if href]
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


def clean_title(text: str) -> str | None:
    """A title as one line for people; None if nothing is left of it."""
    text = " ".join(text.lstrip()[: 8 * MAX_TITLE].split())
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text[:MAX_TITLE].rstrip() or None


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
    language = (language or "").strip(SPACE)
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


_SELECTOR = "a,area[href],base[href],frame[src],iframe,link[href],meta[content]"
_MEDIA_SELECTOR = (
    _SELECTOR
    + ",audio[src],embed[src],feimage,img,image,input[src],link[imagesrcset]:not([href]),object[data]"
    ",script[src],source,track[src],use,video"
)
_SELF_CLOSED = re.compile(
    rb"<(script|style|title|textarea|iframe|noframes|noembed|xmp)"
    rb"(?=[\t\n\f\r /])((?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)(?<=/)>"
)
# Letters, spaces and joiners stay; C0 and C1 controls and what turns the direction of a line around do not.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")
