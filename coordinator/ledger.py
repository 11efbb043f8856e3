"""The ledger: how a request ends, and the counts that must always add up.

A request ends once: its record goes into WARC (as a revisit, when a record with the same payload is there), its line
into `pages`, its row into the store, its outcome into the counts, and all of that is one commit. No I/O, no clock:
bytes go through `Outputs`, which only says where they will stand, rows through the `Overlay`.

Invariant: admitted = open + the sum of `done` over outcomes (`coord audit` proves it from disk).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from common.messages import LINK_LINES, Facts, Flag, Page, Request
from common.outcome import OUTCOMES, Outcome, State
from common.warc import IDENTICAL_PAYLOAD, NOT_MODIFIED, revisit_record, warc_date
from coordinator.outputs import Chunk, Location, Outputs
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    DigestRow,
    DoneRow,
    digest_row,
    meta_row,
    pack,
    request_row,
    superseded_row,
    unpack,
)

GAVE_A_PAGE = (Outcome.OK, Outcome.TRUNCATED, Outcome.TOO_LARGE)
"""Outcomes by which a seed is a good one."""

EXTRACT = "extract"
"""`reason` of a page whose extractor failed."""

POISON_KEPT = 10

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


Identifier = Callable[[], str]
"""Gives a fresh WARC-Record-ID at each call; randomness is passed in."""


@dataclass(slots=True)
class Counts:
    """What a shard counts over the whole crawl; one row, written with each commit."""

    admitted: int = 0
    attempts: int = 0
    """Results that were accepted, whatever became of them."""
    charged: int = 0
    """Requests lent at least once: what --max-pages bounds."""
    bytes: int = 0
    """Received over the wire, bodies only."""
    commits: int = 0
    done: Counter[int] = field(default_factory=Counter)
    """By the outcome's code."""
    refused: Counter[str] = field(default_factory=Counter)
    """Links that were not admitted, by rule."""
    seeds_ok: int = 0
    """Seeds, or what they redirected to, that gave a page."""
    revisits: int = 0
    sitemaps: int = 0
    """Of those that ended: sitemaps, which have no line in `pages`."""
    retried: int = 0
    """Requests that had ended and were queued again by a person; each left a line that counts no more."""
    guarded: Counter[str] = field(default_factory=Counter)
    """Requests set aside as TRAP, by rule."""
    relinked: int = 0
    """Visits made again for links alone, because of a smaller depth."""
    again: Counter[str] = field(default_factory=Counter)
    """In a round of recrawling: pages that are `new`, `changed`, `unchanged`, `vanished`."""
    files: int = 0
    """Requests that ended with a downloaded file; two may name the same one."""
    file_bytes: int = 0
    """Of those files that are kept, each once."""
    items: Counter[str] = field(default_factory=Counter)
    """Lines of `items` that count, by kind: the NAME of items/NAME."""
    poison: list[str] = field(default_factory=list)
    """URLs that ended as POISON, the first POISON_KEPT: a person must look at them."""
    sitemap_ends: Counter[int] = field(default_factory=Counter)
    """Of `done`: sitemaps. What ended before this was counted is not in it."""
    unextracted: int = 0
    """Pages whose items were lost, for an extractor failed."""

    @property
    def ended(self) -> int:
        """Requests that have an outcome."""
        return self.done.total()

    def of(self, state: State) -> int:
        """Requests that ended in a state."""
        return sum(count for code, count in self.done.items() if OUTCOMES[code].state is state)

    def take_back(self, row: DoneRow) -> None:
        """A request that had ended is open again: its record is lost (rule 3)."""
        self.done[row.facts.outcome] -= 1
        self.bytes -= row.facts.wire_length or 0
        self.revisits -= row.record == "revisit"
        self.sitemaps -= row.line is None
        if row.line is None and self.sitemap_ends[row.facts.outcome]:
            self.sitemap_ends[row.facts.outcome] -= 1
        if row.facts.reason == EXTRACT and self.unextracted:
            self.unextracted -= 1
        self.files -= row.file is not None
        for place, count in zip(row.items, row.item_lines, strict=False):
            if (kind := _kind_of_items(place[0])) is not None:
                self.items[kind] -= count
        if row.outcome is Outcome.POISON and row.request.url in self.poison:
            self.poison.remove(row.request.url)
        if row.outcome is Outcome.TRAP and row.facts.reason:
            self.guarded[row.facts.reason] -= 1
        self.seeds_ok -= bool(row.request.flags & Flag.SEED) and row.outcome in GAVE_A_PAGE

    def to_row(self) -> tuple[Any, ...]:
        """For the store."""
        return (
            self.admitted,
            self.attempts,
            self.charged,
            self.bytes,
            self.commits,
            dict(self.done),
            dict(self.refused),
            self.seeds_ok,
            self.revisits,
            self.sitemaps,
            self.retried,
            dict(self.guarded),
            self.relinked,
            dict(self.again),
            self.files,
            self.file_bytes,
            dict(self.items),
            tuple(self.poison),
            dict(self.sitemap_ends),
            self.unextracted,
        )

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Counts:
        """The inverse of `to_row`."""
        admitted, attempts, charged, received, commits, done, refused, seeds_ok, revisits, *later = row
        added: tuple[Any, ...] = (0, 0, {}, 0, {}, 0, 0, {}, (), {}, 0)  # by later versions, in this order
        later = [*later, *added[len(later) :]]
        sitemaps, retried, guarded, relinked, again, files, file_bytes, items, poison, *last = later
        sitemap_ends, unextracted = last
        return cls(
            admitted,
            attempts,
            charged,
            received,
            commits,
            Counter(done),
            Counter(refused),
            seeds_ok,
            revisits,
            sitemaps,
            retried,
            Counter(guarded),
            relinked,
            Counter(again),
            files,
            file_bytes,
            Counter(items),
            list(poison),
            Counter(sitemap_ends),
            unextracted,
        )


class Ledger:
    """Ends requests; owns the counts."""

    def __init__(self, rows: Overlay, outputs: Outputs, identifier: Identifier) -> None:
        self._rows = rows
        self._outputs = outputs
        self._identifier = identifier
        packed = rows.get(meta_row("counts"))
        self.counts = Counts() if packed is None else Counts.from_row(unpack(packed))

    def flush(self) -> None:
        """Write the counts; once a commit."""
        self.counts.commits += 1
        self._rows.put(meta_row("counts"), pack(self.counts.to_row()))

    def store_records(self, chunks: Sequence[Chunk], now: float) -> Location:
        """Records without a line in `pages`: robots.txt, and what a visit for links brought."""
        return self._outputs.append("warc", chunks, now)

    def end(
        self,
        row_key: tuple[int, bytes],
        request: Request,
        outcome: Outcome,
        *,
        tries: tuple[tuple[int, float], ...],
        attempts: int,
        wall: float,
        page: Page | None = None,
        pieces: Sequence[Chunk] = (),
        body: bytes = b"",
        reason: str | None = None,
        error: str | None = None,
        earlier: DoneRow | None = None,
        lines: bool = True,
        file: str | None = None,
    ) -> None:
        """The request has its outcome for good. `row_key`: its slot and its 16 bytes; `wall`: now.

        `earlier`: the same URL in the round before, which a 304 refers to. `lines`: whether it gets a line. `file`:
        where its download is kept; `body` is of that then, and no record.
        """
        location, record = None, None
        if page is not None and outcome is Outcome.NOT_MODIFIED and earlier is not None:
            page, file = _as_before(page, earlier), earlier.file
            if body and file is None:  # else no records are kept
                location, record = self._not_modified(page, request.url, body, earlier, wall)
        elif page is not None and page.file is None and outcome.has_record and (body or pieces):
            location, record = self._store(page, request.url, pieces, body, wall)
        facts = Facts(outcome.code) if page is None else page.facts
        if reason or error or facts.outcome != outcome.code:
            facts = facts._replace(
                outcome=outcome.code, reason=reason or facts.reason, error=error or facts.error
            )
        refused = () if page is None else page.refused
        row = DoneRow(request, facts, attempts, record, location, None, tries, refused, file=file)
        line = self._outputs.append("pages", (page_line(row),), wall) if lines else None
        counts = self.counts
        items, item_lines = self._keep_items(page, wall) if page is not None and page.items else ((), ())
        row = row._replace(line=line, items=items, item_lines=item_lines)
        self._rows.put(request_row(*row_key), pack(row))
        if outcome is Outcome.POISON and len(counts.poison) < POISON_KEPT:
            counts.poison.append(request.url)
        counts.done[outcome.code] += 1
        if not lines:
            counts.sitemaps += 1
            counts.sitemap_ends[outcome.code] += 1
        counts.unextracted += facts.reason == EXTRACT
        counts.files += file is not None
        if outcome is Outcome.TRAP and reason:
            counts.guarded[reason] += 1
        counts.bytes += facts.wire_length or 0

    def reopen(self, row: DoneRow) -> None:
        """The request is open again: a person wants it tried anew. Its line counts no more, and is remembered."""
        self.counts.take_back(row)
        self.counts.retried += 1
        for place in row.items if row.line is None else (row.line, *row.items):
            self._rows.put(superseded_row(*place), b"")

    def _keep_items(self, page: Page, wall: float) -> tuple[tuple[Location, ...], tuple[int, ...]]:
        """Append what extractors made of the page, its text and its links, each kind together; where it stands, and
        how many lines there."""
        kinds: dict[str, list[bytes]] = {}
        for name, line in page.items:
            if name != LINK_LINES:  # those of a page's links come many at a time
                line = line.replace(b"\n", b" ")
            kinds.setdefault(name, []).append(line + b"\n")
        append, stream = self._outputs.append, self._outputs.item_stream
        places = tuple(append(stream(name), (b"".join(lines),), wall) for name, lines in kinds.items())
        numbers = tuple(map(len, kinds.values()))
        for place, number in zip(places, numbers, strict=True):
            if (kind := _kind_of_items(place.file)) is not None:
                self.counts.items[kind] += number
        return places, numbers

    def _not_modified(
        self, page: Page, url: str, body: bytes, earlier: DoneRow, wall: float
    ) -> tuple[Location, str]:
        """A revisit record of what the server says is as it was."""
        facts = page.facts
        revisit = revisit_record(
            record_id=self._identifier(),
            url=url,
            date=facts.fetched_at or wall,
            ip=facts.ip,
            head=page.head,
            profile=NOT_MODIFIED,
            digest=facts.digest,
            refers_to_url=earlier.request.url,
            refers_to_date=earlier.facts.fetched_at or wall,
        )
        self.counts.revisits += 1
        return self._append(body[: page.split], (revisit,), wall), "revisit"

    def _store(
        self, page: Page, url: str, pieces: Sequence[Chunk], body: bytes, wall: float
    ) -> tuple[Location, str]:
        """Append the request record and the response, or a revisit of a payload that is stored already."""
        split, facts = page.split, page.facts
        if facts.digest is not None and facts.wire_length and facts.truncated is None:
            fetched_at = facts.fetched_at or wall
            known = self._rows.get(digest_row(facts.digest))
            if known is not None:
                first = DigestRow(*unpack(known))
                revisit = revisit_record(
                    record_id=self._identifier(),
                    url=url,
                    date=fetched_at,
                    ip=facts.ip,
                    head=page.head,
                    profile=IDENTICAL_PAYLOAD,
                    digest=facts.digest,
                    refers_to_url=first.url,
                    refers_to_date=first.fetched_at,
                )
                self.counts.revisits += 1
                return self._append(body[:split], (revisit,), wall), "revisit"
            self._rows.put(digest_row(facts.digest), pack(DigestRow(url, fetched_at, None)))
        if pieces:
            return self._append(body[:split], (*pieces, body[split:]), wall), "response"
        whole = self._outputs.append("warc", (body,), wall)
        return Location(whole.file, whole.offset + split, whole.length - split), "response"

    def _append(self, asked: bytes, answered: Sequence[Chunk], wall: float) -> Location:
        whole = self._outputs.append("warc", (asked, *answered), wall)
        return Location(whole.file, whole.offset + len(asked), whole.length - len(asked))


def _kind_of_items(file: str) -> str | None:
    """The NAME of items/NAME by one of its files; None: it holds no items."""
    folder, _, name = file.partition("/")
    return name.rsplit("-", 2)[0] if folder == "items" else None


def _as_before(page: Page, earlier: DoneRow) -> Page:
    """A 304 with what it leaves out because that is as it was: what the next round asks with, and the digest."""
    facts, before = page.facts, earlier.facts
    return replace(
        page,
        facts=facts._replace(
            etag=facts.etag or before.etag,
            last_modified=facts.last_modified or before.last_modified,
            digest=before.digest,
            title=before.title,
        ),
    )


def page_line(row: DoneRow) -> bytes:
    """A request's line in `pages`, made from its row alone, so that a lost line can be written again (rule 3)."""
    request, facts, form = row.request, row.facts, row.request.form
    line = {
        "url": request.url,
        "method": "GET" if form is None else form.method,
        "round": 0 if form is None else form.round,
        "outcome": OUTCOMES[facts.outcome].value,
        "status": facts.status,
        "reason": facts.reason,
        "error": facts.error,
        "depth": request.depth,
        "referrer": request.referrer,
        "seed": request.seed,
        "redirect_to": facts.redirect_to,
        "content_type": facts.content_type,
        "charset": facts.charset,
        "length": facts.length,
        "wire_length": facts.wire_length,
        "digest": facts.digest,
        "title": facts.title,
        "noindex": facts.noindex,
        "etag": facts.etag,
        "last_modified": facts.last_modified,
        "fetched_at": None if facts.fetched_at is None else warc_date(facts.fetched_at),
        "elapsed_ms": facts.elapsed_ms,
        "ip": facts.ip,
        "attempts": row.attempts,
        "record": row.record,
        "warc": None if row.warc is None else dict(zip(("file", "offset", "length"), row.warc, strict=True)),
        "lastmod": None if request.lastmod is None else warc_date(request.lastmod),
        "simhash": None if facts.simhash is None else f"{facts.simhash:016x}",
        "file": row.file,
    }
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate, from a seed that is no UTF-8
        return _to_json(line).encode("utf-8", "backslashreplace") + b"\n"
