"""Lines of `text` and `links`: a corpus and a link graph (`--store text,links`).

A line of `text` is a page that has any. A line of `links` is a link as it stands on a page: whether it is followed, in
scope or known already makes no difference, so that the graph is that of the web and not of the crawl. What is told of
one page twice in the same words is one line. Links to what is no URL that can be fetched (mailto:, javascript:), and
those to a place in the page itself, are none. An error page has neither line, as its links are not followed, and a
redirect has one link, of kind `redirect`.

They travel as items do, under names that no extractor can give, and are kept in the commit that ends their page.
Bounds: MAX_TEXT_BYTES and MAX_LINKS_BYTES of a page; what is beyond is left out. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from common.messages import LINK_LINES, TEXT_LINES
from common.url import CanonicalURL, LinkJoiner
from worker.hrefs import FOLLOWED, LOADED, link_headers, refresh_target, rel_words, without_fragment
from worker.loads import ANY, loaded_by, srcset_urls
from worker.parse import ENCLOSURE, FEED, clean_title
from worker.scan import TEXT, Element

MAX_TEXT_BYTES: Final = 768 << 10
MAX_LINKS_BYTES: Final = 1536 << 10
"""Of a page's lines. With what extractors made of it (4 MiB) and its outlinks (1) they travel in a header of 8 MiB."""

MAX_REL: Final = 255
"""Characters of a `rel` that are kept."""

_BLOCK_BYTES: Final = 512 << 10
"""Lines of links that travel as one item, about; a line is well below the rest of the 1 MiB that an item may have."""

Item = tuple[str, bytes]


class FoundLink(NamedTuple):
    """A link as it stands on a page."""

    href: str
    """As written, without its fragment."""
    kind: str
    """What it stands in: the element's name, for `link` and Link headers the rel that counts, `refresh`, `feed`,
    `enclosure`, `css`."""
    anchor: str | None
    """Its text; of an area its alt, of what has no text its title."""
    rel: str | None
    """As written, white space collapsed."""


def links_in(elements: Iterable[Element], *, media: bool) -> list[FoundLink]:
    """The links of a page, without repeats. `media`: also what it loads."""
    return list(dict.fromkeys(_all(elements, media)))


def _all(elements: Iterable[Element], media: bool) -> Iterator[FoundLink]:
    for tag, attributes in elements:
        get = attributes.get
        if tag == "a" or tag == "area":
            said = get(TEXT) if tag == "a" else get("alt")
            if said is None or said.isspace():
                said = get("title")
            yield from _links((get("href") or get("xlink:href"),), tag, said, get("rel"))
        elif tag == "link":
            words = rel_words(get("rel"))
            followed = next((word for word in words if word in FOLLOWED), None)
            loaded = next((word for word in words if word in LOADED), None)
            if followed is not None and "stylesheet" not in words:
                yield from _links((get("href"),), followed, get("title"), get("rel"))
            elif media and loaded is not None:
                images = srcset_urls(get("imagesrcset") or "")
                yield from _links((get("href"), *images), loaded, get("title"), get("rel"))
        elif tag == "meta":
            if (get("http-equiv") or "").strip().lower() == "refresh":
                yield from _links((refresh_target(get("content") or ""),), "refresh")
        elif tag == "iframe" or tag == "frame":
            yield from _links((get("src"),), tag, get("title"))
        elif tag in (FEED, ENCLOSURE):
            yield from _links((get("href"),), tag)
        elif media and tag != "base":
            kind = "css" if tag in ("style", ANY) else tag
            hrefs = [href for href in loaded_by(tag, attributes) if href[:5].lower() != "data:"]
            yield from _links(hrefs, kind, get("alt"))


def links_of_header(values: Iterable[str]) -> list[FoundLink]:
    """The links of Link headers, relative to the URL of the response."""
    found: list[FoundLink] = []
    for href, rel in link_headers(values):
        words = rel_words(rel)
        kind = next((word for word in words if word in FOLLOWED), None)
        if kind is not None and "stylesheet" not in words:
            found += _links((href,), kind, None, rel)
    return list(dict.fromkeys(found))


def _links(
    hrefs: Iterable[str | None], kind: str, said: str | None = None, rel: str | None = None
) -> Iterator[FoundLink]:
    anchor = clean_title(said) if said else None
    if rel:
        rel = " ".join(rel.split())[:MAX_REL] or None
    for written in hrefs:
        href = without_fragment(written or "")
        if href and href != "about:blank":
            yield FoundLink(href, kind, anchor, rel or None)


def resolved(
    links: Iterable[FoundLink], joiner: LinkJoiner, base: CanonicalURL, charset: str | None = None
) -> list[FoundLink]:
    """The same with canonical URLs, joined to `base` as those are that are followed; without what can be fetched by
    nobody. Nearly all are remembered from when they were joined to be followed."""
    known: dict[str, str | None] = {}
    found = []
    for link in links:
        href = link.href
        if href not in known:
            joined = joiner.join(base, (href,), charset)
            known[href] = joined[0][0] if joined else None
        target = known[href]
        if target is not None:
            found.append(link._replace(href=target))
    return found


def text_item(
    url: str, fetched_at: str, title: str | None, charset: str | None, language: str | None, text: str
) -> Item:
    """A page's line of `text`."""
    line = {
        "url": url,
        "fetched_at": fetched_at,
        "title": title,
        "charset": charset or None,
        "language": language,
        "text": text,
    }
    packed = _packed(line)
    while len(packed) > MAX_TEXT_BYTES:
        # What JSON makes of a text may be six times as long: each turn cuts in proportion, so there are few.
        text = text[: len(text) * MAX_TEXT_BYTES // len(packed) - 16]
        packed = _packed(line | {"text": text})
    return TEXT_LINES, packed


def link_items(url: str, fetched_at: str, links: Iterable[FoundLink]) -> list[Item]:
    """A page's lines of `links`, many to an item; the hrefs are canonical."""
    lines: list[bytes] = []
    items: list[Item] = []
    room, size = MAX_LINKS_BYTES, 0
    for href, kind, anchor, rel in dict.fromkeys(links):
        line = _packed(
            {"from": url, "to": href, "anchor": anchor, "rel": rel, "kind": kind, "fetched_at": fetched_at}
        )
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
        size += len(line) + 1
        if size > _BLOCK_BYTES:
            items.append((LINK_LINES, b"\n".join(lines)))
            lines, size = [], 0
    if lines:
        items.append((LINK_LINES, b"\n".join(lines)))
    return items


def _packed(line: dict[str, str | None]) -> bytes:
    return _to_json(line).encode("utf-8", "backslashreplace")


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
