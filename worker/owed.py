"""What a worker owes the shards: results on their way, and data messages without an answer.

A page's outlinks of other shards go out first; the page waits for all their answers and goes out then (PROTOCOL rule
1). Until it is answered, a message is sent again, ever more slowly, up to MAX_SEND_AGAIN. Answers name single
messages, so everything here is found by number.

No I/O, no clock: sending is a Post for the shell, and only to a shard that has welcomed us; the others get theirs when
they do. `pages` and `bytes` bound what may begin (rule 23); bytes are those of bodies and of many links. What sends
returns when it is due again; its caller sees to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common import messages as m
from common.messages import LeaseId, LinkGroup, SessionId
from worker.outlinks import Groups, is_large, portions
from worker.shards import ShardLink
from worker.steps import Instruction, PieceCame, Post, Report, RobotsFetched
from worker.visit import Visit

SEND_AGAIN_AFTER = 5.0
"""Seconds until an unanswered message is sent again; doubles to MAX_SEND_AGAIN."""

MAX_SEND_AGAIN = 30.0


@dataclass(slots=True)
class Owed:
    """A message that has no answer yet. `lease`: whose result it is."""

    shard: int
    message: m.Page | m.FilePiece | m.Links | m.Robots
    body: bytes
    due: float
    lease: int
    size: int
    """Bytes that it holds in memory, as far as they count."""
    ordinal: int | None = None
    fingerprints: tuple[bytes, ...] = ()
    depth: int = 0
    pieces: tuple[bytes, ...] = ()
    wait: float = SEND_AGAIN_AFTER


@dataclass(slots=True)
class Waiting:
    """A page whose outlinks, or pieces, are on their way, and the numbers of the messages that carry them."""

    report: Report
    own: tuple[LinkGroup, ...]
    links: set[int] = field(default_factory=set)


class Debts:
    """All that is owed, by message number; `waiting` pages by (lease, ordinal)."""

    __slots__ = ("_links", "_number", "_out", "_owed", "_session", "bytes", "pages", "pieces", "waiting")

    def __init__(self, session: SessionId, links: Mapping[int, ShardLink], out: list[Instruction]) -> None:
        self._session = session
        self._links = links
        self._out = out
        self._number = 0
        self._owed: dict[int, Owed] = {}
        self.waiting: dict[tuple[int, int], Waiting] = {}
        self.bytes = 0
        self.pages = 0
        self.pieces = 0
        """Of downloads that are under way."""

    def __len__(self) -> int:
        """Messages without an answer, and pages that wait to become one."""
        return len(self._owed) + len(self.waiting)

    def __iter__(self) -> Iterator[Owed]:
        return iter(self._owed.values())

    def get(self, number: int) -> Owed | None:
        """What is owed under a number."""
        return self._owed.get(number)

    @property
    def next_number(self) -> int:
        """The number that the next data message gets."""
        return self._number + 1

    # --------------------------------------------------------------------------------------------------- sending

    def send_links(
        self,
        visit: Visit,
        ordinal: int,
        report: Report,
        own: Groups,
        foreign: Mapping[int, Sequence[LinkGroup]],
        now: float,
    ) -> float:
        """The outlinks of a page that it has to wait for: those of other shards, and what of its own is too much."""
        cut = [(shard, *portion) for shard, groups in foreign.items() for portion in portions(groups)]
        if is_large(own):
            *first, (own, _) = portions(own)
            cut += [(visit.shard, *portion) for portion in first]
        waiting = self.waiting[visit.lease.id, ordinal] = Waiting(report, own)
        for shard, groups, size in cut:
            message = m.Links(self._take_number(), self._session, groups)
            waiting.links.add(message.number)
            self._send(Owed(shard, message, b"", now + SEND_AGAIN_AFTER, visit.lease.id, size, ordinal))
        return now + SEND_AGAIN_AFTER

    def send_page(self, visit: Visit, ordinal: int, report: Report, own: Groups, now: float) -> float:
        """A page whose outlinks are durable, but for its `own`, which ride in it."""
        pieces = _pieces(report.answered) if report.file is None else ()
        body = report.asked + (report.answered[len(pieces) * m.PIECE_BYTES :] if pieces else report.answered)
        page = m.Page(
            number=self._take_number(),
            session=self._session,
            lease=visit.lease.id,
            ordinal=ordinal,
            age=visit.age(now),
            retry_after=report.retry_after,
            facts=report.facts,
            links=own,
            refused=report.refused,
            head=report.head,
            split=len(report.asked),
            pieces=len(pieces) if report.file is None else report.pieces,
            items=report.items,
            cookies=visit.cookies_to_tell(),
            file=report.file,
        )
        owed = Owed(
            visit.shard,
            page,
            body,
            now + SEND_AGAIN_AFTER,
            visit.lease.id,
            len(body) + len(pieces) * m.PIECE_BYTES + sum(len(line) for _, line in report.items),
            ordinal,
            report.fingerprints,
            report.depth,
            pieces,
        )
        if not pieces:
            self._send(owed)
            return owed.due
        self._add(owed)
        return self.send_pieces(owed, now)

    def send_pieces(self, owed: Owed, now: float) -> float:
        """The pieces of a big page, then the page. Pieces are not kept as owed: a page that misses some says so."""
        page = owed.message
        assert isinstance(page, m.Page)
        owed.due = now + owed.wait
        if self._links[owed.shard].welcome:
            for index, piece in enumerate(owed.pieces):
                message = m.Piece(self._take_number(), self._session, page.lease, page.ordinal, index)
                self._out.append(Post(owed.shard, message, True, piece))
            self._out.append(Post(owed.shard, page, True, owed.body))
        return owed.due

    def send_piece(self, shard: int, came: PieceCame, now: float) -> float:
        """A piece of a download, as it comes."""
        message = m.FilePiece(
            self._take_number(),
            self._session,
            LeaseId(came.lease),
            came.ordinal,
            came.index,
            came.began,
            came.first,
            came.validator,
        )
        size = len(came.body)
        self._send(Owed(shard, message, came.body, now + SEND_AGAIN_AFTER, came.lease, size, came.ordinal))
        return now + SEND_AGAIN_AFTER

    def await_pieces(self, visit: Visit, ordinal: int, report: Report) -> bool:
        """Whether a download's Page has to wait for pieces that are not answered; it is remembered then."""
        if report.file is None or not report.file.began:
            return False
        numbers = {
            number
            for number, owed in self._owed.items()
            if owed.lease == visit.lease.id
            and owed.ordinal == ordinal
            and isinstance(owed.message, m.FilePiece)
        }
        if numbers:
            self.waiting[visit.lease.id, ordinal] = Waiting(report, (), numbers)
        return bool(numbers)

    def send_robots(
        self,
        visit: Visit,
        done: RobotsFetched,
        crawl_delay: float | None,
        sitemaps: tuple[str, ...],
        now: float,
    ) -> float:
        """What the robots.txt of an authority came to."""
        message = m.Robots(
            self._take_number(),
            self._session,
            visit.lease.id,
            done.authority,
            done.verdict,
            done.status,
            None if done.error is None else done.error[:4096],
            crawl_delay,
            done.text,
            visit.age(now),
            done.split,
            done.ip,
            sitemaps,
            None if done.reason is None else done.reason[:255],
            done.retry_after,
        )
        size = len(done.record) + len(done.text or b"")
        self._send(Owed(visit.shard, message, done.record, now + SEND_AGAIN_AFTER, visit.lease.id, size))
        return now + SEND_AGAIN_AFTER

    def send_again(self, owed: Owed, now: float) -> None:
        """It was due and has no answer: once more, and the next time later. A page's pieces follow if they are asked
        for."""
        owed.wait = min(owed.wait * 2, MAX_SEND_AGAIN)
        owed.due = now + owed.wait
        if self._links[owed.shard].welcome:
            self._out.append(Post(owed.shard, owed.message, True, owed.body))

    def _send(self, owed: Owed) -> None:
        self._add(owed)
        if self._links[owed.shard].welcome:
            self._out.append(Post(owed.shard, owed.message, True, owed.body))

    def _add(self, owed: Owed) -> None:
        self._owed[owed.message.number] = owed
        self.bytes += owed.size
        if isinstance(owed.message, m.Page):
            self.pages += 1
        elif isinstance(owed.message, m.FilePiece):
            self.pieces += 1

    def _take_number(self) -> int:
        self._number += 1
        return self._number

    # --------------------------------------------------------------------------------------------------- answers

    def settle(self, number: int) -> Owed | None:
        """An answer came, or none is needed any more. None: an answer to what is not owed."""
        owed = self._owed.pop(number, None)
        if owed is not None:
            self.bytes -= owed.size
            if isinstance(owed.message, m.Page):
                self.pages -= 1
            elif isinstance(owed.message, m.FilePiece):
                self.pieces -= 1
        return owed

    def links_answered(self, number: int, owed: Owed) -> Waiting | None:
        """Outlinks are durable, or a piece is kept; the page that waited for them if these were its last."""
        assert owed.ordinal is not None
        waiting = self.waiting.get((owed.lease, owed.ordinal))
        if waiting is None:
            return None
        waiting.links.discard(number)
        return None if waiting.links else self.waiting.pop((owed.lease, owed.ordinal))

    def forget(self, lease: int, ordinal: int | None = None) -> None:
        """Results of this lease are not sent any more, or those of one request. Its outlinks are: they were found.
        Cost: all is looked at."""
        gone = [
            number
            for number, owed in self._owed.items()
            if owed.lease == lease
            and (ordinal is None or owed.ordinal == ordinal)
            and not isinstance(owed.message, m.Links)
        ]
        for number in gone:
            self.settle(number)
        for key in [key for key in self.waiting if key[0] == lease and ordinal in (None, key[1])]:
            del self.waiting[key]

    def clear(self) -> None:
        """Nothing is owed any more."""
        self._owed.clear()
        self.waiting.clear()
        self.bytes = self.pages = self.pieces = 0


def _pieces(record: bytes) -> tuple[bytes, ...]:
    """Full pieces of a record, leaving a last part of less than two pieces."""
    if len(record) <= m.PIECE_BYTES:
        return ()
    count = (len(record) - 1) // m.PIECE_BYTES
    return tuple(record[index * m.PIECE_BYTES : (index + 1) * m.PIECE_BYTES] for index in range(count))
