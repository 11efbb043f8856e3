"""CDXJ: one line for each stored response, sorted by the key of its URL and its time, as pywb looks them up.

    org,example)/page 20260501120000 {"url":"https://example.org/page","mime":"text/html","status":"200",
        "digest":"sha1:...","length":"812","offset":"4711","filename":"NAME.warc.gz"}

A revisit has `warc/revisit` for its `mime`, and its own record's place; who replays it reads from the record where the
payload is, and finds it here by that URL. An index is of what GET brought: an answer to HEAD would be replayed as an
empty page, and one to POST needs the body that was sent. A 304 is left out as well: the copy that it confirms is the
nearest one before it, and that is what a player looks for. Robots.txt has a record and no line in `pages`, so it is in
no index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from common.url import CanonicalURL
from coordinator.export.lines import parsed
from coordinator.export.surt import surt

_to_json = json.JSONEncoder(separators=(",", ":")).encode


def index_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The index's lines of these lines of `pages`, in their order."""
    for line in lines:
        entry = index_line(parsed(line))
        if entry is not None:
            yield entry


def index_line(page: dict[str, Any]) -> bytes | None:
    """None: nothing was stored, or nothing that can be replayed."""
    warc, at = page["warc"], page["fetched_at"]
    if warc is None or at is None or page["method"] != "GET" or page["outcome"] == "NOT_MODIFIED":
        return None
    fields = {
        "url": page["url"],
        "mime": "warc/revisit" if page["record"] == "revisit" else page["content_type"] or "unk",
        "status": str(page["status"]),
        "digest": page["digest"],
        "length": str(warc["length"]),
        "offset": str(warc["offset"]),
        "filename": warc["file"].rpartition("/")[2],
    }
    if fields["digest"] is None:
        del fields["digest"]
    moment = at[:19].translate(_DIGITS_ONLY)
    return f"{surt(CanonicalURL(page['url']))} {moment} {_to_json(fields)}\n".encode()


_DIGITS_ONLY = str.maketrans("", "", "-T:")
