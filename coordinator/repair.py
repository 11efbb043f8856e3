"""After a crash that took committed bytes: a file shorter than its commit (PROTOCOL rule 3).

Only a disk that lied about an fsync, or a person, can bring this about. What a lost WARC record or a lost line said
is known from the rows: requests whose record is gone, or one of whose items, or whose text or links, go back to the
queue and will be fetched again; lines of `pages` are written again from their rows. Cost: one pass over all request
rows.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from common.config import CrawlConfig
from common.log import get_logger
from common.url import CanonicalURL, host_key, slot
from coordinator.ledger import Counts, page_line
from coordinator.outputs import KEPT_WITH_PAGES
from coordinator.sink import Short, cut, fsync_folder
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    PRIORITY_ZERO,
    DoneRow,
    HostRow,
    OpenRow,
    Place,
    digest_row,
    host_row,
    is_done,
    meta_row,
    output_row,
    pack,
    pack_open,
    pack_queued,
    queue_key,
    queue_prefix,
    superseded_row,
    unpack,
    unpack_request_row,
)

log = get_logger("coordinator.repair")


def repair(directory: Path, rows: Overlay, short: Sequence[Short], shard: int, config: CrawlConfig) -> None:
    """Bring rows and files together again; the caller commits the overlay. Says what it did."""
    lengths = {each.file: max(0, each.size or 0) for each in short}
    records = {file: 0 for file in lengths if file.startswith("warc/")}
    lines = {file: length for file, length in lengths.items() if file.startswith("pages/")}
    items = {file: 0 for file in lengths if file.startswith(KEPT_WITH_PAGES)}
    requeued = 0
    for key, done in _done_rows(rows):
        file, offset, length = done.line or ("", 0, 0)
        lost = done.warc is not None and _is_lost(done.warc, records, lengths)
        kept = [place for place in done.items if not _is_lost(place, items, lengths)]
        for place in kept:
            if place[0] in items:
                items[place[0]] = max(items[place[0]], place[1] + place[2])
        if done.warc is not None and done.warc[0] in records and not lost:
            records[done.warc[0]] = max(records[done.warc[0]], done.warc[1] + done.warc[2])
        if lost or len(kept) < len(done.items):
            _requeue(rows, key, done, stored=not lost)
            for place in kept:
                rows.put(superseded_row(*place), b"")
            requeued += 1
            if file:
                lines[file] = min(lines.get(file, offset), offset)
            continue
        if file in lines and offset < lines[file] < offset + length:
            lines[file] = offset
    for key in [key for file in items for key in _superseded(rows, file)]:
        name, begin, size = key[1:].decode().rsplit(" ", 2)
        if _is_lost((name, int(begin), int(size)), items, lengths):
            rows.delete(key)
        else:
            items[name] = max(items[name], int(begin) + int(size))
    for file, end in (records | items).items():
        _cut(directory, rows, file, end)
    rewritten = sum(_rewrite(directory, rows, file, start) for file, start in lines.items())
    log.warning("crawl.repaired", requeued=requeued, lines_rewritten=rewritten, files=len(short))


def _is_lost(place: tuple[str, int, int], looked_at: Container[str], lengths: Mapping[str, int]) -> bool:
    """Whether what stands there is not whole any more."""
    return place[0] in looked_at and place[1] + place[2] > lengths[place[0]]


def _done_rows(rows: Overlay) -> Iterator[tuple[bytes, DoneRow]]:
    start, stop = b"r", b"s"
    while entries := rows.scan(start, stop, 1000):
        start = entries[-1][0] + b"\0"
        for key, packed in entries:
            if is_done(packed):
                row = unpack_request_row(packed)
                assert isinstance(row, DoneRow)
                yield key, row


def _superseded(rows: Overlay, file: str) -> list[bytes]:
    """Keys of the lines of a file that count no more; those that are cut off are not written again."""
    start = b"y" + file.encode() + b" "
    return [key for key, _ in rows.scan(start, start + b"\xff", 1 << 30)]


def _requeue(rows: Overlay, key: bytes, done: DoneRow, *, stored: bool) -> None:
    """The request is open again, first in its queue. `stored`: its record is not what was lost."""
    request = done.request._replace(attempts=0)
    name = host_key(CanonicalURL(request.url))
    number = slot(name)
    packed = rows.get(meta_row("frontier"))
    seq, *lines = unpack(packed) if packed is not None else (0, (0, 0))
    seq += 1
    rows.put(meta_row("frontier"), pack((seq, *lines)))
    place = Place(0, PRIORITY_ZERO, request.depth, seq)
    rows.put(key, pack_open(OpenRow(place, ())))
    rows.put(queue_key(queue_prefix(number, name), place), pack_queued(request))
    host_packed = rows.get(host_row(number, name))
    if host_packed is not None:
        host = HostRow(*unpack(host_packed))
        host = host._replace(queued=host.queued + 1, charged=host.charged + 1, finished=host.finished - 1)
        rows.put(host_row(number, name), pack(host))
    counts_packed = rows.get(meta_row("counts"))
    assert counts_packed is not None
    counts = Counts.from_row(unpack(counts_packed))
    counts.take_back(done)
    rows.put(meta_row("counts"), pack(counts.to_row()))
    if done.facts.digest is not None and not stored:
        rows.delete(digest_row(done.facts.digest))


def _cut(directory: Path, rows: Overlay, file: str, end: int) -> None:
    """A file ends after its last whole record, or items; without any it goes."""
    if end:
        cut(directory, file, end)
        rows.put(output_row(file), pack(end))
        return
    (directory / file).unlink(missing_ok=True)
    rows.delete(output_row(file))
    fsync_folder((directory / file).parent)


def _rewrite(directory: Path, rows: Overlay, file: str, start: int) -> int:
    """Cut a file of `pages` at `start` and write what stood behind it again, from the rows as they are now."""
    behind = sorted(
        (done.line[1], key, done)
        for key, done in _done_rows(rows)
        if done.line is not None and done.line[0] == file and done.line[1] >= start
    )
    for key in _superseded(rows, file):
        if int(key.split(b" ")[-2]) >= start:
            rows.delete(key)
    path = directory / file
    path.parent.mkdir(exist_ok=True)
    with open(path, "r+b" if path.exists() else "w+b") as output:
        output.truncate(start)
        output.seek(start)
        for _, key, done in behind:
            line = page_line(done)
            rows.put(key, pack(done._replace(line=(file, output.tell(), len(line)))))
            output.write(line)
        output.flush()
        os.fsync(output.fileno())
        rows.put(output_row(file), pack(output.tell()))
    fsync_folder(path.parent)
    return len(behind)
