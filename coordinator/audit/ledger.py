"""The ledger worked out again from disk alone: every row, every line, every record, and whether they agree.

Nothing of a running crawl is believed but what it committed. Each table is read once, in the order of its keys; what
must be matched across tables is matched by sums (`balance.py`), so memory does not grow with the crawl. About 20 µs a
request, and a second reading only of what does not add up. Reads, no more. Read next: files.py.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

from common.errors import BadURL, StorageError
from common.messages import Flag, LeaseId, Request, lease_name
from common.outcome import Outcome
from common.url import CanonicalURL, HostKey, host_key, slot
from coordinator.audit.balance import Balance, differences
from coordinator.audit.downloads import Downloads, check_unknown
from coordinator.audit.files import Files, place_key
from coordinator.audit.report import OFFENDERS, Report
from coordinator.explain import lent_requests, still_lent
from coordinator.ledger import GAVE_A_PAGE, Counts
from coordinator.store.rows import (
    DoneRow,
    HostRow,
    OpenRow,
    address_row,
    as_request,
    held_row,
    host_of,
    is_done,
    key_of,
    meta_row,
    parked_row,
    queue_place,
    request_row,
    row_of,
    stored_round,
    unpack,
    unpack_request_row,
    wait_seq,
)
from coordinator.store.snapshot import Reads, rows_between

Row = TypeVar("Row")

_BUCKETS_READ_AGAIN: Final = 8
"""Of those that do not add up; enough to name the first offenders."""

_UNREADABLE: Final = (StorageError, BadURL, TypeError, ValueError, IndexError, AttributeError, struct.error)
"""What a damaged row may raise when it is decoded."""


def audit(directory: Path, stores: Sequence[Reads], *, deep: bool = False, running: bool = False) -> Report:
    """Audit a crawl. `stores`: each a commit of one shard; `running`: files may grow meanwhile.

    `deep`: read every record and work its digests out. Raises StorageError where the store itself cannot be read.
    """
    report = Report()
    ends: dict[str, int] = {}
    for store in stores:
        for key, packed in rows_between(store, b"o", b"p"):
            if (end := _read(report, "outputs", key, _end, packed)) is not None:
                ends[key[1:].decode()] = end
    files = Files(directory, ends, report)
    try:
        for store in stores:
            _Shard(store, files, Downloads(directory, store, report), report).check(deep=deep)
            for key, _ in rows_between(store, b"y", b"z"):
                files.add_superseded(key[1:])  # its request was tried anew
        files.check_ends(running)
        files.check_lines()
        files.check_items()
        if uneven := files.lines.uneven(_BUCKETS_READ_AGAIN):
            _name_lines(report, files, stores, uneven)
        if deep:
            files.check_records()
        if not running:
            check_unknown(directory, stores, report)
    finally:
        files.close()
    return report


class _Shard:
    """The audit of one shard's store."""

    def __init__(self, rows: Reads, files: Files, downloads: Downloads, report: Report) -> None:
        self._rows = rows
        self._files = files
        self._downloads = downloads
        self._report = report
        crawl, frontier = rows.get(meta_row("crawl")), rows.get(meta_row("frontier"))
        if crawl is None:
            raise StorageError("the store has no row that says which crawl it is of; it is damaged")
        self._seed: int = unpack(crawl)[1]
        self._seq: int = 0 if frontier is None else unpack(frontier)[0]
        self._round = stored_round(rows.get(meta_row("round")))[0]
        self._open = Balance()
        """Open requests by their rows, against queue, wait and lease."""
        self._finished = Balance()
        """Ends by the rows of the hosts, against those of the requests."""
        self._counted = Counts()
        """What the counts row should say, as far as rows tell."""
        self._lent = 0
        """By the rows of the hosts."""

    def check(self, *, deep: bool) -> None:
        """All of it."""
        self._check_requests()
        self._counted.file_bytes = self._downloads.check_files(deep=deep)
        self._check_queues()
        self._check_leases()
        if uneven := self._open.uneven(_BUCKETS_READ_AGAIN):
            self._name_open(uneven)
        if uneven := self._finished.uneven(_BUCKETS_READ_AGAIN):
            self._name_finished(uneven)
        self._check_counts()

    # --------------------------------------------------------------------------------------------------- requests

    def _check_requests(self) -> None:
        report, counted = self._report, self._counted
        for key, packed in rows_between(self._rows, b"r", b"s"):
            report.looked_at["requests"] += 1
            counted.admitted += 1
            row = _read(report, "requests", key, unpack_request_row, packed)
            if isinstance(row, OpenRow):
                self._open.add(key)
                if row.place.seq > self._seq:
                    report.fault(
                        "requests", f"{key.hex()}: queued as number {row.place.seq}, the last was {self._seq}"
                    )
            elif row is not None:
                try:
                    self._check_done(key, row)
                except _UNREADABLE as error:
                    report.fault("requests", f"{key.hex()}: its row does not make sense: {error!r}")
        for key, packed in rows_between(self._rows, b"x", b"y"):
            if isinstance(_read(report, "requests", key, unpack_request_row, packed), OpenRow):
                self._open.add(key)
                report.relinks += 1
        report.admitted += counted.admitted
        report.done += counted.done

    def _check_done(self, key: bytes, row: DoneRow) -> None:
        request, counted = row.request, self._counted
        url = CanonicalURL(request.url)
        name = host_key(url)
        if request_row(slot(name), key_of(url, request.form, self._seed)) != key:
            self._report.fault("requests", f"{url} stands under the key of another request, {key.hex()}")
        counted.done[row.outcome.code] += 1
        counted.bytes += row.facts.wire_length or 0
        counted.revisits += row.record == "revisit"
        counted.sitemaps += row.line is None
        if row.outcome is Outcome.TRAP and row.facts.reason:
            counted.guarded[row.facts.reason] += 1
        counted.seeds_ok += bool(request.flags & Flag.SEED) and row.outcome in GAVE_A_PAGE
        self._finished.remove(name.encode())
        self._files.check_row(row)
        if row.file is not None:
            counted.files += 1
            self._downloads.check_row(row)

    # ----------------------------------------------------------------------------------------- queues, waits, hosts

    def _check_queues(self) -> None:
        """Host after host: its row, its queue, its waiting retries."""
        tables: list[Iterator[tuple[bytes, bytes, bytes]]] = [
            ((key[1:], key, packed) for key, packed in rows_between(self._rows, b"h", b"i")),
            ((host_of(key), key, packed) for key, packed in rows_between(self._rows, b"q", b"r")),
            ((host_of(key), key, packed) for key, packed in rows_between(self._rows, b"w", b"x")),
        ]
        for place, group in groupby(heapq.merge(*tables), key=itemgetter(0)):
            self._check_host(place, ((key, packed) for _, key, packed in group))

    def _check_host(self, place: bytes, group: Iterable[tuple[bytes, bytes]]) -> None:
        report = self._report
        number, name = int.from_bytes(place[:2], "big"), HostKey(place[2:].decode("utf-8", "replace"))
        row: HostRow | None = None
        queued = waiting = charged = 0
        relinks = {b"q": 0, b"w": 0}
        for key, packed in group:
            match key[:1]:
                case b"h":
                    report.looked_at["hosts"] += 1
                    row = _read(report, "hosts", key, _host, packed)
                case b"q":
                    queued += 1
                    charged += queue_place(key).rank == 0
                    relinks[b"q"] += self._check_entry(name, key, packed)
                case _:
                    waiting += 1
                    relinks[b"w"] += self._check_entry(name, key, packed)
        report.queued += queued - relinks[b"q"]
        report.waiting += waiting - relinks[b"w"]
        if slot(name) != number:
            report.fault("hosts", f"{name} stands in slot {number}, it belongs into {slot(name)}")
        if row is None:
            report.fault("hosts", f"{name} has no row; {queued} queued, {waiting} waiting")
            return
        said, found = (row.queued, row.waiting, row.charged), (queued, waiting, charged)
        if said != found:
            names = "(queued, waiting, queued that were lent before)"
            report.fault("hosts", f"{name}: its row says {said}, there are {found} {names}")
        if row.finished:
            self._finished.add(name.encode(), row.finished)
        self._lent += row.lent if row.round == self._round else 0
        line = held_row if row.held else parked_row
        if row.lined and row.ip is not None:
            line = partial(address_row, row.ip)
        if row.turn is not None and self._rows.get(line(row.turn)) != name.encode():
            report.fault("hosts", f"{name}: its row says that it is number {row.turn} in the line; it is not")

    def _check_entry(self, name: HostKey, key: bytes, packed: bytes) -> bool:
        """A queued or waiting request has an open row that says where it is. True: it is a visit for links alone."""
        report = self._report
        report.looked_at["queues"] += 1
        request = _read(report, "queues", key, _request, packed)
        if request is None:
            return False
        where = "queued" if key[:1] == b"q" else "waiting"
        if host_key(CanonicalURL(request.url)) != name:
            report.fault("queues", f"{request.url} is {where} at another host, {name}")
        row_key = self._row_key(request)
        self._open.remove(row_key)
        known = self._rows.get(row_key)
        row = None if known is None else _read(report, "requests", row_key, unpack_request_row, known)
        if row is None:
            report.fault("queues", f"{request.url} is {where}, and was never admitted")
        elif isinstance(row, DoneRow):
            report.fault("queues", f"{request.url} is {where}, and has ended: {row.outcome.value}")
        elif where == "queued" and row.place != queue_place(key):
            report.fault("queues", f"{request.url} is queued at {queue_place(key)}, its row says {row.place}")
        elif where == "waiting" and row.place.seq != wait_seq(key):
            report.fault(
                "queues", f"{request.url} waits as number {wait_seq(key)}, its row says {row.place.seq}"
            )
        return bool(request.flags & Flag.LINKS_ONLY)

    # ------------------------------------------------------------------------------------------------------ leases

    def _check_leases(self) -> None:
        for key, packed in rows_between(self._rows, b"l", b"m"):
            name = lease_name(LeaseId(int.from_bytes(key[1:], "big")))
            requests, seq = _read(self._report, "queues", key, lent_requests, packed) or ((), 0)
            for request in requests:
                self._report.looked_at["queues"] += 1
                row_key = self._row_key(request)
                known = self._rows.get(row_key)
                if known is None and not request.flags & Flag.LINKS_ONLY:
                    self._report.fault("queues", f"{request.url} is lent by {name}, and was never admitted")
                elif still_lent(known, request, seq):
                    self._report.leased += not request.flags & Flag.LINKS_ONLY
                    self._open.remove(row_key)

    def _row_key(self, request: Request) -> bytes:
        return row_of(slot(host_key(CanonicalURL(request.url))), request, self._seed)

    # ------------------------------------------------------------------------------------- what does not add up

    def _name_open(self, buckets: frozenset[int]) -> None:
        left = (
            (key, 1)
            for start, stop in ((b"r", b"s"), (b"x", b"y"))
            for key, packed in rows_between(self._rows, start, stop)
            if packed[:1] and not is_done(packed)
        )
        for key, count in differences(buckets, left, self._entries()):
            known = self._rows.get(key)
            if known is None or is_done(known):
                continue  # an entry without an open row was named when it was met
            if count > 0:
                text = "is open, and in no queue, wait or lease: it would never be fetched"
            else:
                text = f"is in {1 - count} places at once"
            self._report.fault("queues", f"{self._url_of(key)} {text}")
        if not self._report.wrong["queues"]:
            self._report.fault("queues", "open requests and what is queued, waiting or lent are not the same")

    def _entries(self) -> Iterator[tuple[bytes, int]]:
        for start, stop in ((b"q", b"r"), (b"w", b"x")):
            for _, packed in rows_between(self._rows, start, stop):
                try:
                    request = as_request(unpack(packed))
                    key = self._row_key(request)
                except _UNREADABLE:
                    continue
                yield key, 1
        for _, packed in rows_between(self._rows, b"l", b"m"):
            try:
                requests, seq = lent_requests(packed)
                keys = [(self._row_key(each), each) for each in requests]
                lent = [key for key, each in keys if still_lent(self._rows.get(key), each, seq)]
            except _UNREADABLE:
                continue
            for key in lent:
                yield key, 1

    def _url_of(self, row_key: bytes) -> str:
        """The URL of an open row, if any lease or queue of its slot still tells; else the row's key."""
        start = b"q" + row_key[1:3]
        for _, packed in self._rows.scan(start, start + b"\xff" * 8, 10_000):
            try:
                request = as_request(unpack(packed))
            except _UNREADABLE:
                continue
            if self._row_key(request) == row_key:
                return request.url
        return f"the request with the key {row_key[1:].hex()}"

    def _name_finished(self, buckets: frozenset[int]) -> None:
        def by_host() -> Iterator[tuple[bytes, int]]:
            for key, packed in rows_between(self._rows, b"h", b"i"):
                try:
                    yield key[3:], HostRow(*unpack(packed)).finished
                except _UNREADABLE:
                    continue

        def by_request() -> Iterator[tuple[bytes, int]]:
            for row in _done(self._rows):
                yield host_key(CanonicalURL(row.request.url)).encode(), 1

        for name, count in differences(buckets, by_host(), by_request()):
            more = "more" if count > 0 else "fewer"
            text = f"its row counts {abs(count)} {more} ends than its requests have"
            self._report.fault("hosts", f"{name.decode(errors='replace')}: {text}")

    def _check_counts(self) -> None:
        report, counted = self._report, self._counted
        packed = self._rows.get(meta_row("counts"))
        row = Counts() if packed is None else None
        if packed is not None:
            row = _read(report, "counts", b"mcounts", _counts, packed)
        if row is None:
            return
        names: Mapping[str, tuple[object, object]] = {
            "admitted": (row.admitted, counted.admitted),
            "ended, by outcome": (_named(row), _named(counted)),
            "bytes": (row.bytes, counted.bytes),
            "revisits": (row.revisits, counted.revisits),
            "sitemaps": (row.sitemaps, counted.sitemaps),
            "traps, by rule": (+row.guarded, +counted.guarded),
            "seeds that gave a page": (row.seeds_ok, counted.seeds_ok),
            "lent at least once": (row.charged, self._lent),
            "downloads": (row.files, counted.files),
            "bytes of downloaded files": (row.file_bytes, counted.file_bytes),
        }
        for name, (said, found) in names.items():
            report.looked_at["counts"] += 1
            if said != found:
                report.fault("counts", f"{name}: the counts row says {said}, the rows add up to {found}")


def _name_lines(report: Report, files: Files, stores: Sequence[Reads], buckets: frozenset[int]) -> None:
    """Lines and rows are not one for one: name the first."""
    by_row = chain(
        ((place_key(*row.line), 1) for store in stores for row in _done(store) if row.line is not None),
        ((key[1:], 1) for store in stores for key, _ in rows_between(store, b"ypages/", b"ypages0")),
    )
    found = ((place, 1) for place in files.line_places(told=False))
    for place, count in differences(buckets, by_row, found):
        file, offset, length = place.decode().rsplit(" ", 2)
        text = "no row speaks of this line" if count < 0 else f"{count} more rows than lines name this place"
        report.fault("pages", f"{file} at {offset}, {length} bytes: {text}")
        if report.wrong["pages"] >= OFFENDERS * 4:
            break


def _done(rows: Reads) -> Iterator[DoneRow]:
    for _, packed in rows_between(rows, b"r", b"s"):
        try:
            row = unpack_request_row(packed)
        except _UNREADABLE:
            continue
        if isinstance(row, DoneRow):
            yield row


def _named(counts: Counts) -> dict[int, int]:
    return {code: count for code, count in sorted(counts.done.items()) if count}


def _end(packed: bytes) -> int:
    return int(unpack(packed))


def _request(packed: bytes) -> Request:
    return as_request(unpack(packed))


def _host(packed: bytes) -> HostRow:
    return HostRow(*unpack(packed))


def _counts(packed: bytes) -> Counts:
    return Counts.from_row(unpack(packed))


def _read(
    report: Report, check: str, key: bytes, decode: Callable[[bytes], Row], packed: bytes
) -> Row | None:
    """What `decode` makes of a row; None and a fault where it is damaged."""
    try:
        return decode(packed)
    except _UNREADABLE as error:
        report.fault(check, f"the row {key.hex()} does not decode: {error!r}")
        return None
