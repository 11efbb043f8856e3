"""The files of an audit: lines of `pages` and records of WARC, read at the places that rows name.

Reads only; never more than a piece of a file in memory. gzip is undone by zlib, not by the library that wrote it: the
judge of a record is another program than its maker. A writer that runs meanwhile only makes files longer.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from common.warc import digest_text
from coordinator.audit.balance import Balance
from coordinator.audit.report import Report
from coordinator.ledger import page_line
from coordinator.outputs import FOLDERS, KEPT_WITH_PAGES, shard_of
from coordinator.store.rows import DoneRow

_OPEN_FILES: Final = 16
_PIECE: Final = 1 << 16
_HEADER_BYTES: Final = 1 << 16
"""A WARC header holds a URL or two; a redirect's are bounded by --max-url-length."""

_NO_FILE: Final = -1
_KEPT_WITH_PAGES: Final = tuple(name.encode() for name in KEPT_WITH_PAGES)


class Files:
    """The output files of a crawl. Use `close` at the end."""

    def __init__(self, directory: Path, ends: Mapping[str, int], report: Report) -> None:
        """`ends`: the committed end of each file, by the store."""
        self._directory = directory
        self._ends = ends
        self._report = report
        self._open: OrderedDict[str, int] = OrderedDict()
        self.lines = Balance()
        """Places of lines by the rows, against those found in the files."""
        self._items: dict[str, int] = {}
        """Bytes of each file of items, text and links that rows speak of."""

    def close(self) -> None:
        """Let go of the files."""
        while self._open:
            _, descriptor = self._open.popitem()
            if descriptor != _NO_FILE:
                os.close(descriptor)

    # ------------------------------------------------------------------------------------------------- whole files

    def check_ends(self, running: bool) -> None:
        """No file is shorter than its commit; a longer one has a tail that was never committed."""
        tails = 0
        for file, end in self._ends.items():
            self._report.looked_at["outputs"] += 1
            try:
                size = (self._directory / file).stat().st_size
            except OSError as error:
                if end:
                    self._report.fault("outputs", f"{file}: {error.strerror}; {end:,} bytes are committed")
                continue
            if size < end:
                self._report.fault("outputs", f"{file} has {size:,} bytes, {end:,} are committed")
            tails += size > end
        unknown = 0
        for folder in FOLDERS:
            for path in (self._directory / folder).glob("*"):
                file = f"{folder}/{path.name}"
                unknown += shard_of(file) is not None and file not in self._ends
        if (tails or unknown) and not running:
            self._report.notes.append(
                f"{tails + unknown} files end in what was never committed; the next start cuts it off"
            )

    def check_lines(self) -> None:
        """Every line of `pages` counts against the rows."""
        for place in self.line_places():
            self.lines.remove(place)

    def line_places(self, told: bool = True) -> Iterator[bytes]:
        """The place of every committed line, as `place_key`. `told`: say so where one is torn."""
        for file, end in self._ends.items():
            if not file.startswith("pages/"):
                continue
            try:
                opened = (self._directory / file).open("rb")
            except OSError:
                continue  # `check_ends` has said so
            with opened as pages:
                offset = 0
                while offset < end and (line := pages.readline(end - offset)):
                    if told and not line.endswith(b"\n"):
                        self._report.fault("pages", f"{file} at {offset}: the line is torn: {line[-60:]!r}")
                    yield place_key(file, offset, len(line))
                    offset += len(line)

    # ------------------------------------------------------------------------------------- what a row speaks of

    def check_row(self, row: DoneRow) -> None:
        """The line and the record of a request that ended."""
        if row.line is not None:
            self.lines.add(place_key(*row.line))
            self._report.looked_at["pages"] += 1
            if wrong := self._wrong_line(row, *row.line):
                self._report.fault("pages", f"{row.request.url}: {wrong}")
        for place in row.items:
            self._report.looked_at["items"] += 1
            self._items[place[0]] = self._items.get(place[0], 0) + place[2]
            if wrong := self._wrong_items(*place):
                self._report.fault("items", f"{row.request.url}: {wrong}")
        if row.warc is not None:
            self._report.looked_at["records"] += 1
            if wrong := self._wrong_record(row, row.warc):
                self._report.fault("records", f"{row.request.url}: {wrong}")

    def _wrong_line(self, row: DoneRow, file: str, offset: int, length: int) -> str | None:
        where = f"{file} at {offset}"
        if offset + length > self._ends.get(file, 0):
            return f"its line at {where} ends after what is committed of that file, {self._ends.get(file, 0)}"
        found = self._read(file, offset, length)
        said = page_line(row)
        if found == said:
            return None
        try:
            line = json.loads(found)
        except ValueError:
            return f"no line begins and ends at {where}, {length} bytes: {found[:60]!r}"
        if not isinstance(line, dict):
            return f"what stands at {where} is no line of `pages`: {found[:60]!r}"
        # Another version of Shoal may have known fewer keys, or another order.
        for key, value in json.loads(said).items():
            if key in line and line[key] != value:
                return f"its line at {where} says {key} {line[key]!r}, its row {value!r}"
        return None

    def add_superseded(self, place: bytes) -> None:
        """What stands there counts no more: its request was tried anew."""
        if not place.startswith(_KEPT_WITH_PAGES):
            self.lines.add(place)
            return
        file, _, length = place.decode().rsplit(" ", 2)
        self._items[file] = self._items.get(file, 0) + int(length)

    def check_items(self) -> None:
        """When all rows were looked at: what they speak of is all of each file of items, text and links."""
        for file, end in self._ends.items():
            if file.startswith(KEPT_WITH_PAGES) and (said := self._items.get(file, 0)) != end:
                self._report.fault("items", f"{file}: {end:,} bytes are committed, rows speak of {said:,}")

    def _wrong_items(self, file: str, offset: int, length: int) -> str | None:
        where = f"{file} at {offset}"
        if offset + length > self._ends.get(file, 0):
            return f"its lines at {where} end after what is committed of that file, {self._ends.get(file, 0)}"
        edges = (
            self._read(file, max(0, offset - 1), 1 + (offset > 0)),
            self._read(file, offset + length - 1, 1),
        )
        if not edges[0].endswith(b"{") or (offset and edges[0][:1] != b"\n") or edges[1] != b"\n":
            return f"no lines begin and end at {where}, {length} bytes"
        return None

    def _wrong_record(self, row: DoneRow, place: tuple[str, int, int]) -> str | None:
        file, offset, length = place
        where = f"{file} at {offset}"
        if offset + length > self._ends.get(file, 0):
            return (
                f"its record at {where} ends after what is committed of that file, {self._ends.get(file, 0)}"
            )
        front = self._read(file, offset, min(length, _PIECE))
        try:
            header = zlib.decompressobj(wbits=31).decompress(front, _HEADER_BYTES)
        except zlib.error as error:
            return f"no gzip member begins at {where}: {error}"
        if not header.startswith(b"WARC/1.1\r\n"):
            return f"no record begins at {where}: {header[:40]!r}"
        fields, size = parse_header(header)
        if fields.get("warc-target-uri") != row.request.url:
            return f"the record at {where} is of {fields.get('warc-target-uri')}"
        if fields.get("warc-type") != row.record:
            return f"the record at {where} is a {fields.get('warc-type')}, its row says {row.record}"
        said, digest = fields.get("warc-payload-digest"), row.facts.digest
        if said and digest and said != digest:
            return f"the record at {where} has the digest {said}, its row {digest}"
        content = fields.get("content-length", "")
        if not content.isdecimal():
            return f"the record at {where} has the Content-Length {content!r}"
        # RFC 1952: a member ends with the size of what is in it, modulo 2^32. So it ends where the row says.
        trailer = int.from_bytes(self._read(file, offset + length - 4, 4), "little")
        if trailer != (size + int(content) + 4) & 0xFFFFFFFF:
            return f"the record at {where} does not end after {length} bytes"
        return None

    def _read(self, file: str, offset: int, length: int) -> bytes:
        """Fewer bytes where the file is short, none where there is no such file."""
        descriptor = self._open.get(file)
        if descriptor is None:
            try:
                descriptor = os.open(self._directory / file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                descriptor = _NO_FILE
            self._open[file] = descriptor
            if len(self._open) > _OPEN_FILES:
                _, oldest = self._open.popitem(last=False)
                if oldest != _NO_FILE:
                    os.close(oldest)
        return os.pread(descriptor, max(0, length), max(0, offset)) if descriptor != _NO_FILE else b""

    # --------------------------------------------------------------------------------------------------- every record

    def check_records(self) -> None:
        """Read every WARC file from its begin to its committed end: each record whole, its digests right."""
        for file, end in self._ends.items():
            if not file.startswith("warc/"):
                continue
            try:
                opened = (self._directory / file).open("rb")
            except OSError:
                continue  # `check_ends` has said so
            with opened as warc:
                offset = 0
                while offset < end:
                    self._report.looked_at["digests"] += 1
                    record = _Record()
                    try:
                        length = _member(warc, offset, end, record)
                        wrong = record.wrong()
                    except (zlib.error, ValueError) as error:
                        self._report.fault("digests", f"{file} at {offset}: {error}; the rest was not read")
                        break
                    if wrong is not None:
                        self._report.fault("digests", f"{file} at {offset}, {record.name}: {wrong}")
                    offset += length


class _Record:
    """A record as its bytes go by."""

    def __init__(self) -> None:
        self._front: bytes | None = b""
        """The header as far as it came; None: it is whole."""
        self._fields: dict[str, str] = {}
        self._left = 0
        """Bytes of the block still to come."""
        self._tail = b""
        self._block = hashlib.sha1(usedforsecurity=False)
        self._payload: Any = None
        """None: the HTTP header has not ended yet, or there is none."""
        self._http = b""

    @property
    def name(self) -> str:
        """What it is and of what, for people."""
        return f"{self._fields.get('warc-type')} of {self._fields.get('warc-target-uri')}"

    def feed(self, piece: bytes) -> None:
        """The next bytes. Raises ValueError if they are no record."""
        if self._front is not None:
            self._front += piece
            if b"\r\n\r\n" not in self._front:
                if len(self._front) > _HEADER_BYTES:
                    raise ValueError(f"a record whose header does not end: {self._front[:40]!r}")
                return
            if not self._front.startswith(b"WARC/1.1\r\n"):
                raise ValueError(f"no record: {self._front[:40]!r}")
            self._fields, size = parse_header(self._front)
            content = self._fields.get("content-length", "")
            if not content.isdecimal():
                raise ValueError(f"the Content-Length {content!r}")
            self._left = int(content)
            piece, self._front = self._front[size:], None
        block, rest = piece[: self._left], piece[self._left :]
        self._left -= len(block)
        self._block.update(block)
        self._feed_payload(block)
        if len(self._tail) <= 4:
            self._tail += rest[:8]

    def _feed_payload(self, block: bytes) -> None:
        if self._payload is not None:
            self._payload.update(block)
            return
        if not self._fields.get("content-type", "").startswith("application/http"):
            return
        self._http += block
        _, end, payload = self._http.partition(b"\r\n\r\n")
        if end:
            self._payload = hashlib.sha1(payload, usedforsecurity=False)
            self._http = b""

    def wrong(self) -> str | None:
        """When all bytes have come: what is wrong with it."""
        if self._front is not None:
            return "the record's header does not end"
        if self._left or self._tail != b"\r\n\r\n":
            return f"its block is not as long as Content-Length {self._fields['content-length']} says"
        said = self._fields.get("warc-block-digest")
        if said is not None and said != (found := digest_text(self._block.digest())):
            return f"WARC-Block-Digest says {said}, the block has {found}"
        said = self._fields.get("warc-payload-digest")
        # A revisit names the digest of a payload that is stored elsewhere.
        if said is not None and self._fields.get("warc-type") == "response":
            found = digest_text(self._payload.digest()) if self._payload is not None else "none"
            if said != found:
                return f"WARC-Payload-Digest says {said}, the payload has {found}"
        return None


def _member(file: BinaryIO, offset: int, end: int, record: _Record) -> int:
    """Inflate the gzip member at `offset` into `record`; its length. zlib.error or ValueError: it is not whole."""
    inflate = zlib.decompressobj(wbits=31)
    file.seek(offset)
    taken = 0
    while not inflate.eof:
        compressed = inflate.unconsumed_tail
        if not compressed:
            compressed = file.read(min(_PIECE, end - offset - taken))
            if not compressed:
                raise ValueError(f"the gzip member is cut off after {taken:,} bytes")
            taken += len(compressed)
        record.feed(inflate.decompress(compressed, _PIECE))
    return taken - len(inflate.unused_data)


def parse_header(content: bytes) -> tuple[dict[str, str], int]:
    """The fields of a WARC header by their names in lower case, and its size with the empty line."""
    header, end, _ = content.partition(b"\r\n\r\n")
    fields = {}
    for line in header.decode("utf-8", "replace").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields, len(header) + len(end)


def place_key(file: str, offset: int, length: int) -> bytes:
    """A place as a key of a `Balance`."""
    return b"%s %d %d" % (file.encode(), offset, length)
