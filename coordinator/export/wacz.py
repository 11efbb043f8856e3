"""WACZ 1.1.1: a crawl in one file that archive players open. https://specs.webrecorder.net/wacz/1.1.1/

    archive/*.warc.gz            as they are, up to their committed ends, stored and not compressed again
    indexes/index.cdx.gz, .idx   CDXJ in gzip members of 3000 lines, and where each begins
    pages/pages.jsonl            HTML pages that seeds lead to; pages/extraPages.jsonl: all others
    datapackage.json             size and SHA-256 of each of these; datapackage-digest.json: its own

The ZIP is written from front to back (sizes follow the content, ZIP64 where needed), so it streams to anywhere. It
always holds the whole crawl: in a part, revisits would miss the records that they refer to.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from common.clock import rfc3339
from common.errors import StorageError
from coordinator.export.cdxj import index_line
from coordinator.export.drain import Drain
from coordinator.export.lines import parsed
from coordinator.export.sorting import merge_sorted

_PIECE: Final = 1 << 20
_LINES_A_MEMBER: Final = 3000
"""Of the index: what a reader inflates to find one URL."""
_HTML: Final = frozenset(("text/html", "application/xhtml+xml"))

_to_json = json.JSONEncoder(separators=(",", ":")).encode


def wacz_chunks(
    lines: Iterable[bytes],
    archives: Sequence[tuple[Path, int]],
    scratch: Path,
    *,
    title: str,
    software: str,
    wall: float,
) -> Iterator[bytes]:
    """The file. `lines`: all of `pages`; `archives`: (WARC file, committed end); `wall`: now."""
    package = _Package(wall)
    for path, end in archives:
        yield from package.add(f"archive/{path.name}", _content(path, end), stored=True)
    with ExitStack() as opened:
        seeds, others = (
            opened.enter_context((scratch / name).open("w+b")) for name in ("pages.jsonl", "extraPages.jsonl")
        )
        seeds.write(_line({"format": "json-pages-1.0", "id": "pages", "title": "Pages that seeds lead to"}))
        others.write(_line({"format": "json-pages-1.0", "id": "extra-pages", "title": "All other pages"}))
        members = _Members(merge_sorted(_indexed(lines, seeds, others), scratch))
        yield from package.add("indexes/index.cdx.gz", iter(members), stored=True)
        yield from package.add("indexes/index.idx", iter(members.places))
        for name, kept in (("pages.jsonl", seeds), ("extraPages.jsonl", others)):
            kept.seek(0)
            yield from package.add(f"pages/{name}", iter(partial(kept.read, _PIECE), b""))
    yield from package.end(title, software)


class _Package:
    """A ZIP as it is written, with what is to be said about its content."""

    def __init__(self, wall: float) -> None:
        self._wall = wall
        self._drain = Drain()
        self._zip = zipfile.ZipFile(self._drain, "w")
        self._resources: list[dict[str, Any]] = []

    def add(self, name: str, content: Iterator[bytes], *, stored: bool = False) -> Iterator[bytes]:
        """A file of the package."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(self._entry(name, stored), "w", force_zip64=True) as out:
            for piece in content:
                digest.update(piece)
                size += len(piece)
                out.write(piece)
                yield from self._drain.take()
        yield from self._drain.take()
        self._resources.append(
            {
                "name": name.rpartition("/")[2].lower(),
                "path": name,
                "hash": f"sha256:{digest.hexdigest()}",
                "bytes": size,
            }
        )

    def end(self, title: str, software: str) -> Iterator[bytes]:
        """Its description, and the end of the ZIP."""
        described = json.dumps(
            {
                "profile": "data-package",
                "wacz_version": "1.1.1",
                "title": title,
                "software": software,
                "created": rfc3339(self._wall)[:19] + "Z",
                "resources": self._resources,
            },
            indent=1,
        ).encode()
        digest = {"path": "datapackage.json", "hash": f"sha256:{hashlib.sha256(described).hexdigest()}"}
        self._zip.writestr(self._entry("datapackage.json", False), described)
        self._zip.writestr(self._entry("datapackage-digest.json", False), json.dumps(digest))
        self._zip.close()
        yield from self._drain.take()

    def _entry(self, name: str, stored: bool) -> zipfile.ZipInfo:
        moment = datetime.fromtimestamp(self._wall, UTC)
        entry = zipfile.ZipInfo(name, moment.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        return entry


class _Members:
    """An index cut into gzip members; `places` tells where each begins, once all were taken."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.places = [_idx("!meta 0", {"format": "cdxj-gzip-1.0", "filename": "index.cdx.gz"})]

    def __iter__(self) -> Iterator[bytes]:
        offset = 0
        some: list[bytes] = []
        for line in self._lines:
            some.append(line)
            if len(some) == _LINES_A_MEMBER:
                yield (member := self._member(some, offset))
                offset += len(member)
                some = []
        if some or not offset:
            yield self._member(some, offset)

    def _member(self, lines: list[bytes], offset: int) -> bytes:
        packer = zlib.compressobj(wbits=31)
        member = packer.compress(b"".join(lines)) + packer.flush()
        if lines:
            key = lines[0].partition(b" {")[0].decode()
            digest = f"sha256:{hashlib.sha256(member).hexdigest()}"
            self.places.append(_idx(key, {"offset": offset, "length": len(member), "digest": digest}))
        return member


def _indexed(lines: Iterable[bytes], seeds: BinaryIO, others: BinaryIO) -> Iterator[bytes]:
    """The index's lines; on the way, the pages a reader begins with are noted."""
    for line in lines:
        page = parsed(line)
        entry = index_line(page)
        if entry is None:
            continue
        yield entry
        if page["outcome"] == "OK" and page["content_type"] in _HTML:
            told = {"url": page["url"], "ts": page["fetched_at"]}
            if page["title"]:
                told["title"] = page["title"]
            (others if page["depth"] else seeds).write(_line(told))


def _content(path: Path, end: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while end and (piece := file.read(min(_PIECE, end))):
                end -= len(piece)
                yield piece
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; look with `coord audit`") from None
    if end:
        raise StorageError(f"{path} is {end:,} bytes shorter than what is committed; look with `coord audit`")


def _idx(key: str, value: dict[str, Any]) -> bytes:
    return f"{key} {json.dumps(value)}\n".encode()


def _line(value: dict[str, Any]) -> bytes:
    return _to_json(value).encode() + b"\n"
