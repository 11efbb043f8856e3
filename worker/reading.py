"""From a payload to what it says: inflated, its charset found, parsed; or read as a sitemap.

    payload -> inflate -> parseable? -> charset -> parse (-> SimHash of its text, where that is asked for)

Payloads that were read lately are remembered by their digest, with their hrefs as written, so that error pages, empty
results and mirrors cost a look-up. No I/O, no clock; nothing is raised for any payload.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from common.config import CrawlConfig
from common.url import CanonicalURL
from worker import sitemap
from worker.charset import decide, to_utf8
from worker.exchange import Exchange
from worker.inflate import inflate
from worker.linkgraph import FoundLink, links_in
from worker.markup import parseable
from worker.outcome import ContentType
from worker.parse import MAX_PARSED, Parsed, parse_html
from worker.simhash import simhash
from worker.sitemap import Sitemap

KEPT: Final = 256
"""Payloads that are remembered."""

KEPT_CHARACTERS: Final = 1 << 16
"""Of text and links of a payload that is remembered: 256 long ones would be much. Others are parsed each time."""

_LINK_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Read:
    """What a payload said. `parsed` None: it is no page; its hrefs are raw, so that they can be joined to any base.

    `length`: bytes without content-coding. `too_large`: there was more than the limit. `error`: why it could not be
    decoded to its end, for people. `listed`: of a sitemap; None: it is none.
    """

    parsed: Parsed | None
    charset: str
    length: int
    too_large: bool = False
    error: str | None = None
    simhash: int | None = None
    listed: Sitemap | None = None
    found: list[FoundLink] = field(default_factory=list)
    """The links as they stand on the page, for `--store links`."""
    in_part: bool = False
    """Only its first MAX_PARSED bytes were parsed."""


class Reader:
    """Reads pages for one crawl."""

    def __init__(self, config: CrawlConfig) -> None:
        self._config = config
        self._wants_text = config.simhash or config.near_duplicates is not None
        self._stores_text, self._stores_links = "text" in config.store, "links" in config.store
        self._kept: OrderedDict[tuple[str, ...], Read] = OrderedDict()

    def page(self, came: Exchange, kind: ContentType, digest: str) -> Read:
        """A payload, and what it says if it is a page."""
        codings = came.header("Content-Encoding")
        key = (digest, came.header("Content-Type") or "", codings or "")
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            return known
        inflated = inflate(came.payload, codings, self._config.max_bytes)
        body, media, text, reading = inflated.body, self._config.media, self._wants_text, self._stores_text
        markup = parseable(kind.media_type, body, media=media, text=text or reading) if body else None
        parsed, charset, hashed, in_part = None, "", None, False
        found: list[FoundLink] = []
        if markup is not None:
            charset = decide(body, kind.charset)
            utf8 = to_utf8(body, charset)
            in_part = len(utf8) > MAX_PARSED
            parsed = parse_html(
                utf8,
                markup=markup,
                media=media,
                follow_nofollow_links=not self._config.skip_nofollow_links,
                robots_token=self._config.robots_token,
                text=text,
                reading=reading,
                links=self._stores_links,
            )
            if parsed.text is not None:
                hashed = simhash(parsed.text)
            if parsed.text is not None or parsed.elements:
                # What these were for is known now; to remember them would be much.
                found = links_in(parsed.elements, media=media)
                parsed = replace(parsed, text=None, elements=[])
        page = Read(
            parsed,
            charset,
            len(body),
            inflated.truncated,
            inflated.error,
            hashed,
            found=found,
            in_part=in_part,
        )
        if not inflated.truncated and inflated.error is None and _is_small(page):
            self._kept[key] = page
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return page


def _is_small(page: Read) -> bool:
    """Whether a page is remembered, by what of it is kept for its lines of `text` and `links`."""
    text = None if page.parsed is None else page.parsed.reading
    return len(text or "") + _LINK_CHARACTERS * len(page.found) <= KEPT_CHARACTERS


def read_sitemap(came: Exchange) -> Read:
    """A payload, and what it lists if it is a sitemap. A file that is gzip itself is the parser's to inflate."""
    inflated = inflate(came.payload, came.header("Content-Encoding"), sitemap.MAX_BYTES)
    body, listed = inflated.body, None
    if 200 <= came.status < 300 and body:
        listed = sitemap.parse(body, content_type=came.header("Content-Type"), url=CanonicalURL(came.url))
    return Read(None, "", len(body), inflated.truncated, inflated.error, listed=listed)
