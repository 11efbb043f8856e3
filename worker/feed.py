"""The links of a feed that a page names or links to: RSS 0.9 to 2.0, Atom. Also the pages of a sitemap met in passing.

News stands in feeds before it stands anywhere else. Read by a scan for the few elements that matter, not by an XML
parser: many feeds are not well-formed, entities stay harmless, and the time is linear. A feed that is asked for as a
sitemap is not read here.

Followed: RSS `link`, Atom `link` with rel alternate, next, prev or none, `loc`; with `media` also `enclosure` and the
style sheet of `<?xml-stylesheet?>`. Not followed: links in the HTML that entries carry (they stand in the page that
the entry is about), `rel=self`, `guid`, comments.

No I/O; nothing is raised for any bytes.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final

TYPES: Final = frozenset({"application/rss+xml", "application/atom+xml", "application/rdf+xml"})
"""Media types that are feeds whatever their root."""

_FOLLOWED: Final = frozenset({"alternate", "next", "prev", "previous"})


def is_feed(body: bytes) -> bool:
    """Whether a body of XML has the root of a feed or a sitemap."""
    return _ROOT.search(body[:1024]) is not None


def links(feed: bytes, *, media: bool) -> tuple[str | None, str | None, list[str], list[str]]:
    """(title, base, hrefs, resources) of a feed in UTF-8, without repeats; the base is its root's xml:base."""
    text = feed.decode("utf-8", "replace")
    title: str | None = None
    hrefs: dict[str, None] = {}
    resources: dict[str, None] = {}
    for found in _ELEMENT.finditer(text):
        name = found["name"]
        if name is None:
            continue
        attributes = {
            key: unescape(double or single) for key, double, single in _ATTRIBUTE.findall(found["rest"])
        }
        content = (found["cdata"] or unescape(found["text"] or "")).strip()
        if name == "title":
            title = title if title is not None else content
        elif name == "?xml-stylesheet":
            resources[attributes.get("href", "")] = None
        elif name == "enclosure" or attributes.get("rel") == "enclosure":
            resources[attributes.get("url") or attributes.get("href", "")] = None
        elif name == "link" and "href" in attributes:
            if not _FOLLOWED.isdisjoint(attributes.get("rel", "alternate").lower().split()):
                hrefs[attributes["href"]] = None
        elif content:
            hrefs[content] = None
    root = _BASE.search(text[:4096])
    base = None if root is None else unescape(root[1] or root[2] or "")
    return (
        title,
        base,
        [href for href in hrefs if href],
        [href for href in resources if href] if media else [],
    )


_ROOT: Final = re.compile(rb"<(?:rss|feed|urlset|sitemapindex|rdf:RDF)[\s>]")
_BASE: Final = re.compile(r"<(?:feed|rss)\s[^<>]*?\bxml:base\s*=\s*(?:\"([^\"<>]*)\"|'([^'<>]*)')")
# A prefix of `atom:` is that of Atom's links in RSS; those of others (media:, image:, dc:) name something else.
_ELEMENT: Final = re.compile(
    r"<!--(?:[^-]++|-(?!->))*+(?:-->|\Z)"
    r"|<(?:atom:)?+(?P<name>\?xml-stylesheet|enclosure|link|loc|title)(?=[\s/>])(?P<rest>(?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)>"
    r"(?:\s*+<!\[CDATA\[(?P<cdata>(?:[^\]]++|\](?!\]>))*+)\]\]>|(?P<text>[^<]*+))"
    r"|<!\[CDATA\[(?:[^\]]++|\](?!\]>))*+(?:\]\]>|\Z)"
)
_ATTRIBUTE: Final = re.compile(r"([a-zA-Z:]++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
