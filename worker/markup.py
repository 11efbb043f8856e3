"""How a body is to be parsed, if at all: by its type, and by how it begins where the type says little.

Pure. The parsers: worker/parse.py (HTML, and what leads to the others), worker/feed.py, worker/loads.py (style sheets).
"""

from __future__ import annotations

import re
from typing import Literal

from worker import feed

Markup = Literal["html", "xhtml", "feed", "css", "text"]


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


_BOM_OR_SPACE = b"\xef\xbb\xbf\t\n\f\r "
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
