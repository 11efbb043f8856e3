"""A download as it comes: whether a response is one, its name, its coding undone, its digest, cut into pieces.

    head -> Download?     bytes -> decoded -> digest -> pieces of PIECE_BYTES, handed out at once, and a tail

A request of the method DOWNLOAD is one whatever comes with a good status; a plain GET is one when its answer's type is
in `--download`. One that broke off before asks for the rest with Range and If-Range (RFC 9110, 13.1.5 and 14): what
answers 206 goes on where it was, what answers 200 begins anew.

Invariant: never more than a piece and STEP_BYTES are held here. Pure: who sends the pieces is worker/app.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import Final

from common.config import CrawlConfig
from common.filenames import wanted_name
from common.messages import DOWNLOAD, PIECE_BYTES, Flag, Request, Resume
from common.warc import digest_text
from worker.inflate import STREAMS
from worker.outcome import content_type
from worker.undoing import Undoing

_CONTENT_RANGE: Final = re.compile(r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*", re.I)
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,1000}"')
_PACKED_TYPES: Final = frozenset(
    ("application/gzip", "application/x-gzip", "application/x-tgz", "application/x-gtar", "application/zstd")
)
_PACKED_NAMES: Final = (".gz", ".tgz", ".svgz", ".br", ".zst")


class Download:
    """One download. `first`: pieces of an earlier fetch that it goes on from; `pieces`: those, and what was handed out.

    `broken`: why it cannot be (its body is not read, or no further): `range`, `length`, or the error of its coding.
    """

    __slots__ = (
        "_buffer",
        "_hash",
        "_limit",
        "_total",
        "_undoing",
        "began",
        "broken",
        "first",
        "length",
        "name",
        "pieces",
        "validator",
        "wire_length",
    )

    def __init__(self, name: str, *, limit: int, validator: str | None = None, first: int = 0) -> None:
        self.name = name
        self.validator = validator
        self.first = self.pieces = first
        self.length = first * PIECE_BYTES
        """Bytes of the file so far."""
        self.wire_length = 0
        """Bytes that this fetch brought."""
        self.broken: str | None = None
        self.began = 0
        """Its number among those of this process."""
        self._limit = limit
        self._total: int | None = None
        self._undoing: Undoing | None = None
        self._buffer = bytearray()
        self._hash = None if first else hashlib.sha1(usedforsecurity=False)

    @property
    def room(self) -> int:
        """The most bytes that may come over the wire."""
        return self._limit + self._limit // 4  # of chunks

    @property
    def tail(self) -> bytes:
        """What follows the pieces."""
        return bytes(self._buffer)

    @property
    def digest(self) -> str | None:
        """As WARC writes it; None where it went on from an earlier fetch."""
        return None if self._hash is None else digest_text(self._hash.digest())

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take what came; the pieces that are full, one after another. Ends early when it is `broken`."""
        self.wire_length += len(chunk)
        if self._undoing is None:
            yield from self._take(chunk)
            return
        for decoded in self._undoing.feed(chunk):
            yield from self._take(decoded)
        self.broken = self.broken or self._undoing.error

    def close(self) -> Iterator[bytes]:
        """All has come: the last pieces."""
        if self._undoing is not None:
            for decoded in self._undoing.close():
                yield from self._take(decoded)
            self.broken = self.broken or self._undoing.error
        if self._total is not None and self.length != self._total:
            self.broken = self.broken or "range"

    def _take(self, chunk: bytes) -> Iterator[bytes]:
        if self.length + len(chunk) > self._limit:
            self.broken = "length"
        if self.broken is not None:
            return
        self.length += len(chunk)
        if self._hash is not None:
            self._hash.update(chunk)
        self._buffer += chunk
        while len(self._buffer) > PIECE_BYTES:  # so that the tail is not empty, unless the file is
            piece = bytes(self._buffer[:PIECE_BYTES])
            del self._buffer[:PIECE_BYTES]
            self.pieces += 1
            yield piece


def may_be(config: CrawlConfig, request: Request) -> bool:
    """Whether what a request brings may be a download; the rest is for its answer to say."""
    form = request.form
    if form is not None and form.method == DOWNLOAD:
        return True
    return bool(config.download) and (form is None or form.method == "GET")


def headers(request: Request, resume: Resume | None) -> dict[str, str]:
    """What a download is asked for with, beyond the usual."""
    wanted = {}
    if request.form is not None and request.form.method == DOWNLOAD:
        wanted = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if resume is not None:
        wanted["Accept-Encoding"] = "identity"
        wanted["Range"] = f"bytes={resume.pieces * PIECE_BYTES}-"
        wanted["If-Range"] = resume.validator
    return wanted


def begin(
    config: CrawlConfig,
    request: Request,
    resume: Resume | None,
    status: int,
    given: Mapping[str, str],
    mark: Callable[[], AbstractContextManager[None]],
) -> Download | None:
    """The download that a response's head begins; None: it is a page like any other."""
    form, limit = request.form, config.max_file_bytes
    explicit = form is not None and form.method == DOWNLOAD
    kind = content_type(given.get("Content-Type")).media_type
    if request.flags & Flag.LINKS_ONLY or status in (204, 205):
        return None
    if status == 416 and resume is not None:
        return _no_use("")  # what is kept is never all of a file, so this one is another by now
    if not 200 <= status < 300 or not (explicit or matches(kind or "", config.download)):
        return None
    wanted = form.carry.decode("utf-8", "replace") if explicit and form is not None and form.carry else None
    name = wanted_name(wanted, given.get("Content-Disposition"), request.url, kind)
    coding = _coding(given, kind, request.url)
    if status == 206:
        return _goes_on(name, resume, given, limit, coding)
    download = Download(name, limit=limit, validator=None if coding else _validator(given))
    size = given.get("Content-Length", "")
    if coding is not None:
        download._undoing = Undoing(coding, mark)
    elif size.isascii() and size.isdigit() and int(size[:18]) > limit:
        download.broken = "length"
    return download


def matches(kind: str, patterns: tuple[str, ...]) -> bool:
    """Whether a media type is one of `image/*`, `text/html`, `*/*`."""
    for pattern in patterns:
        pattern = pattern.lower()
        if kind == pattern or pattern == "*/*" or (pattern.endswith("/*") and kind.startswith(pattern[:-1])):
            return True
    return False


def _goes_on(
    name: str, resume: Resume | None, given: Mapping[str, str], limit: int, coding: str | None
) -> Download:
    """A 206: it goes on exactly where it was asked to, and is of the same file, or it is no use."""
    match = _CONTENT_RANGE.fullmatch(given.get("Content-Range", ""))
    first = 0 if resume is None else resume.pieces
    etag, validator = given.get("ETag"), None if resume is None else resume.validator
    same = etag is None or validator is None or not validator.startswith('"') or etag == validator
    if match is None or match[1] is None or int(match[1]) != first * PIECE_BYTES or coding or not same:
        return _no_use(name)
    download = Download(name, limit=limit, validator=validator, first=first)
    download._total = int(match[3]) if match[3] != "*" else None
    if (download._total or 0) > limit:
        download.broken = "length"
    return download


def _no_use(name: str) -> Download:
    """Neither the file nor the rest of it: it begins anew the next time."""
    download = Download(name, limit=0)
    download.broken = "range"
    return download


def _coding(given: Mapping[str, str], kind: str | None, url: str) -> str | None:
    """The content-coding to undo; None: none, or one that belongs to the file, as servers say of `.tar.gz`."""
    codings = given.get("Content-Encoding")
    if codings is None or kind in _PACKED_TYPES or url.partition("?")[0].lower().endswith(_PACKED_NAMES):
        return None
    names = [name for word in codings.lower().split(",") if (name := word.strip()) not in ("", "identity")]
    return names[0] if len(names) == 1 and names[0] in STREAMS else None


def _validator(given: Mapping[str, str]) -> str | None:
    """What speaks for a file when its rest is asked for: a strong ETag, else a Last-Modified that is older than the
    answer, so that the file cannot have changed twice in that second (RFC 9110, 8.8.2.2)."""
    if given.get("Accept-Ranges", "").strip().lower() == "none" or "Content-Encoding" in given:
        return None
    etag = given.get("ETag")
    if etag is not None:
        return etag if _STRONG_ETAG.fullmatch(etag) else None
    modified, date = given.get("Last-Modified"), given.get("Date")
    if modified is None or date is None or len(modified) > 100:
        return None
    try:
        older = (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 1
    except (TypeError, ValueError, OverflowError):
        return None
    return modified if older and modified.isascii() and modified.isprintable() else None
