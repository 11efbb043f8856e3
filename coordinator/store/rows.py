"""The rows of a shard's store: which keys there are, and what stands in each.

One key space, a letter a table. What belongs to a host begins with its slot, so that a slot is a contiguous range
that can be moved whole. Numbers in keys are big-endian, so that keys sort as the numbers do.

    r slot key16                     a request: open (OpenRow) or ended (DoneRow)
    x slot key16                     an ended request that is visited again for its links (OpenRow; rule 15)
    q slot host 0 rank prio depth seq   a queued request, in the order in which it will be lent (packed Request)
    w slot host 0 due_ms seq         a queued request that waits for a retry until a wall-clock time
    h slot host                      a host's facts (HostRow)
    b slot authority 0               robots.txt of an authority (RobotsRow)
    l lease                          an open lease (LeaseRow), with the requests that it lent
    d digest                         where the first payload with this digest was stored (DigestRow)
    u seq                            a host with queued requests that waits outside memory, first in, first out
    v seq                            a host all of whose queued requests a budget holds back
    t slot host 0 key                how many URLs of one shape a guard against traps has counted
    n slot host 0 ...                pages by their SimHash (neardup.py)
    s site                           one entry of the scope
    o file                           the committed end of an output file
    f file                           a downloaded file that is kept (FileRow)
    g digest                         the downloaded file with this digest
    p slot key16                     a download that broke off, and can be gone on with (PartialRow)
    y place                          what counts no more of `pages` or `items`: its request was tried anew
    m name                           one of a kind: epoch, counts, crawl, cap, ...

A request that is open is LEASED when an open lease holds it, else QUEUED; that is why lending writes no row of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha1
from typing import Any, NamedTuple

import msgpack

from common.errors import StorageError
from common.messages import Facts, Flag, Form, LeaseId, Request
from common.outcome import OUTCOMES, Outcome
from common.url import CanonicalURL, fingerprint, request_key

pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack

_OPEN = struct.Struct(">BBHHQ")
_QUEUE_TAIL = struct.Struct(">BHHQ")
_WAIT_TAIL = struct.Struct(">QQ")
_QUEUE_TAIL_BYTES = _QUEUE_TAIL.size

PRIORITY_ZERO = 1000
"""The key holds 1000 - priority, so that a high priority sorts first and none is negative."""

CHARGED = 16
"""Bit of `Request.flags` within a shard: lent before, so charged to the budget and first in its queue."""

assert CHARGED not in frozenset(Flag)


def unpack(packed: bytes) -> Any:
    """A row's value; arrays come back as tuples. Raises StorageError when the bytes are no row of ours."""
    try:
        return msgpack.unpackb(packed, use_list=False, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StorageError(f"a row of the store does not decode ({error}); the store is damaged") from None


class Place(NamedTuple):
    """Where a request stands in its host's queue; compares in the order of lending.

    `rank` 0: was lent before (a retry), 1: never lent. `priority` is PRIORITY_ZERO minus the request's.
    """

    rank: int
    priority: int
    depth: int
    seq: int


class OpenRow(NamedTuple):
    """A request without an outcome. `place` is where it was queued last; `tries` are those it has behind it."""

    place: Place
    tries: tuple[tuple[int, float], ...]
    """(outcome's code, wall time) of each failed try."""


class DoneRow(NamedTuple):
    """A request with its outcome: everything that its line in `pages` says, and where line and record stand."""

    request: Request
    facts: Facts
    attempts: int
    record: str | None
    """`response` or `revisit`; None: nothing was stored."""
    warc: tuple[str, int, int] | None
    """(file, offset, length) of that record."""
    line: tuple[str, int, int] | None
    """(file, offset, length) of the line in `pages`; None: it has none, for it is a sitemap."""
    tries: tuple[tuple[int, float], ...]
    refused: tuple[tuple[str, int], ...]
    """Outlinks that were not admitted because of a worker's rule, by rule."""
    linked: int | None = None
    """The depth at which its links were followed last, where that is less than the request's (rule 15)."""
    items: tuple[tuple[str, int, int], ...] = ()
    """(file, offset, length) of its lines in `items`, those of one file together."""
    file: str | None = None
    """Where its download is kept, relative to DIR; another request may have brought it."""
    item_lines: tuple[int, ...] = ()
    """How many lines stand at each of `items`."""

    @property
    def outcome(self) -> Outcome:
        """The outcome by name."""
        return OUTCOMES[self.facts.outcome]

    @property
    def depth(self) -> int:
        """The smallest depth at which its links were followed."""
        return self.request.depth if self.linked is None else self.linked


class HostRow(NamedTuple):
    """What is kept of a host. `due_wall` and `set_for` (seconds): see PROTOCOL rule 10; never a monotonic time."""

    queued: int
    waiting: int
    charged: int
    due_wall: float
    set_for: float
    crawl_delay: float
    failures: int
    lent: int
    finished: int
    doom: int | None
    """The outcome's code that everything queued here is getting, None normally."""
    doom_reason: str | None
    elapsed: tuple[int, ...]
    """The last response times in ms, for the adaptive delay."""
    authorities: tuple[str, ...]
    """Authorities whose robots.txt is in a RobotsRow."""
    cookies: bytes | None
    turn: int | None
    """Its number in the line of parked hosts; None: it stands in no line."""
    epoch: int
    """Of the shard when the row was written: a host of an earlier one owes its delay anew (PROTOCOL rule 10)."""
    ip: str | None = None
    """The address that answered last; what --per-ip counts by."""
    penalty: float = 0.0
    """Seconds that the delay is never below, after refusals and time-outs."""
    held: bool = False
    """`turn` is its number in the line of hosts that a budget holds back."""
    round: int = 0
    """The round in which `lent` was counted."""
    lined: bool = False
    """`turn` is its number in the line of its address."""


class RobotsRow(NamedTuple):
    """robots.txt of one authority: `verdict` as in messages.RobotsRules; `tries`: failed fetches in a row.

    `lease`: in which it was fetched; a lease asks an authority once, so the same again is a duplicate (rule 11).
    """

    version: int
    verdict: str
    body: bytes | None
    fetched_wall: float
    crawl_delay: float | None
    tries: int
    lease: int
    again_wall: float = 0.0
    """While the server fails, a copy that is too old serves until then (RFC 9309, 2.4)."""
    reason: str | None = None
    """Of a failure: what its requests are told beside the verdict; a stable code, and prose."""
    error: str | None = None


class LeaseRow(NamedTuple):
    """An open lease. `ttl` in seconds: on start it gets that much again (rule 5)."""

    session: bytes
    local: bool
    host: str
    lanes: int
    width: int
    delay: float
    ttl: float
    requests: tuple[tuple[Any, ...], ...]
    seq: int = 1 << 63
    """The last number of a queue entry by then: a request whose row has a later one was queued again since."""


class FileRow(NamedTuple):
    """A downloaded file that is kept: its bytes, their digest, and the URL that brought it."""

    length: int
    digest: str
    url: str


class PartialRow(NamedTuple):
    """A download that is not whole: `pieces` from the first on are durable in the part file.

    `validator`: for If-Range. `number`: grows with each such row of a shard.
    """

    part: str
    pieces: int
    validator: str
    number: int


class DigestRow(NamedTuple):
    """The first record with this payload: what a revisit record refers to."""

    url: str
    fetched_at: float
    record_id: str | None


# ------------------------------------------------------------------------------------------------------------ keys


def key_of(url: str, form: Form | None, seed: int) -> bytes:
    """The 16 bytes of a request in a crawl whose fingerprints have this seed."""
    if form is None:
        return fingerprint(CanonicalURL(url), seed)
    digest = None if form.body is None else sha1(form.body, usedforsecurity=False).digest()
    return request_key(form.method, CanonicalURL(url), digest, form.round, form.serial, seed)


def row_of(slot: int, request: Request, seed: int) -> bytes:
    """Key of the row that says where an open request stands; a visit for links alone has one of its own."""
    row = relink_row if request.flags & Flag.LINKS_ONLY else request_row
    return row(slot, key_of(request.url, request.form, seed))


def request_row(slot: int, key: bytes) -> bytes:
    """Key of a request's row; `key` is what `key_of` says."""
    return b"r" + slot.to_bytes(2, "big") + key


def relink_row(slot: int, key: bytes) -> bytes:
    """Key of the row of a request that is visited again for its links."""
    return b"x" + slot.to_bytes(2, "big") + key


def trap_row(slot: int, host: str, key: bytes) -> bytes:
    """Key of a counter of a host's guards."""
    return b"t" + slot.to_bytes(2, "big") + host.encode() + b"\0" + key


def queue_prefix(slot: int, host: str) -> bytes:
    """What the keys of a host's queue begin with."""
    return b"q" + slot.to_bytes(2, "big") + host.encode() + b"\0"


def queue_key(prefix: bytes, place: Place) -> bytes:
    """Key of a queued request at its place."""
    return prefix + _QUEUE_TAIL.pack(*place)


def queue_place(key: bytes) -> Place:
    """The place that a queue key ends with."""
    return Place(*_QUEUE_TAIL.unpack(key[-_QUEUE_TAIL_BYTES:]))


def wait_prefix(slot: int, host: str) -> bytes:
    """What the keys of a host's waiting retries begin with."""
    return b"w" + slot.to_bytes(2, "big") + host.encode() + b"\0"


def wait_key(prefix: bytes, due_wall: float, seq: int) -> bytes:
    """Key of a request that waits until `due_wall`, seconds since 1970."""
    return prefix + _WAIT_TAIL.pack(max(0, int(due_wall * 1000)), seq)


def wait_due(key: bytes) -> float:
    """The wall time in seconds that a waiting request's key names."""
    due_ms: int
    due_ms, _seq = _WAIT_TAIL.unpack(key[-_WAIT_TAIL.size :])
    return due_ms / 1000


def wait_seq(key: bytes) -> int:
    """The number that ends a waiting request's key; its row's place has the same."""
    seq: int
    _due_ms, seq = _WAIT_TAIL.unpack(key[-_WAIT_TAIL.size :])
    return seq


def host_of(key: bytes) -> bytes:
    """Slot and host as they stand in the key of a queued or waiting request: what follows `h` in its host's row."""
    return key[1 : -1 - (_QUEUE_TAIL_BYTES if key[:1] == b"q" else _WAIT_TAIL.size)]


def span(prefix: bytes) -> tuple[bytes, bytes]:
    """Where the keys that begin with `prefix` (which does not end in 0xFF) start, and the first one after them."""
    return prefix, prefix[:-1] + bytes([prefix[-1] + 1])


def host_row(slot: int, host: str) -> bytes:
    """Key of a host's row."""
    return b"h" + slot.to_bytes(2, "big") + host.encode()


def robots_row(slot: int, authority: str) -> bytes:
    """Key of an authority's robots.txt."""
    return b"b" + slot.to_bytes(2, "big") + authority.encode()


def lease_row(lease: LeaseId) -> bytes:
    """Key of an open lease."""
    return b"l" + lease.to_bytes(8, "big")


def digest_row(digest: str) -> bytes:
    """Key of a payload's first record."""
    return b"d" + digest.encode()


def file_row(file: str) -> bytes:
    """Key of a downloaded file."""
    return b"f" + file.encode()


def file_digest_row(digest: str) -> bytes:
    """Key of the downloaded file with this digest."""
    return b"g" + digest.encode()


def partial_row(key: bytes) -> bytes:
    """Key of what is kept of a download; `key`: of its request's row, without the letter."""
    return b"p" + key


def parked_row(seq: int) -> bytes:
    """Key of a host's turn among those that wait outside memory."""
    return b"u" + seq.to_bytes(8, "big")


def held_row(seq: int) -> bytes:
    """Key of a host's number among those that a budget holds back."""
    return b"v" + seq.to_bytes(8, "big")


def address_row(ip: str, turn: int) -> bytes:
    """Key of a host's number among those that wait for their address."""
    return b"a" + ip.encode() + b"\0" + turn.to_bytes(8, "big")


def address_turn(key: bytes) -> tuple[str, int]:
    """The address and the number in a key of `address_row`."""
    return key[1:-9].decode(), int.from_bytes(key[-8:], "big")


def superseded_row(file: str, offset: int, length: int) -> bytes:
    """Key of a line, or of items, that count no more."""
    return b"y" + f"{file} {offset} {length}".encode()


def site_row(site: str) -> bytes:
    """Key of an entry of the scope."""
    return b"s" + site.encode()


def output_row(file: str) -> bytes:
    """Key of an output file's committed end."""
    return b"o" + file.encode()


def meta_row(name: str) -> bytes:
    """Key of a single row."""
    return b"m" + name.encode()


# ---------------------------------------------------------------------------------------------------------- values


def stored_round(packed: bytes | None) -> tuple[int, float | None]:
    """(round, fresh since) of the row `round`; (0, None) without one."""
    return (0, None) if packed is None else unpack(packed)


def pack_open(row: OpenRow) -> bytes:
    """Fourteen bytes for a request that was never tried; what most rows of a big frontier are."""
    head = _OPEN.pack(0, *row.place)
    return head + pack(row.tries) if row.tries else head


def unpack_request_row(packed: bytes) -> OpenRow | DoneRow:
    """What stands in an `r` row."""
    if packed[0]:
        request, facts, *rest = unpack(packed)
        return DoneRow(as_request(request), Facts(*facts), *rest)
    _, rank, priority, depth, seq = _OPEN.unpack_from(packed)
    tries = unpack(packed[_OPEN.size :]) if len(packed) > _OPEN.size else ()
    return OpenRow(Place(rank, priority, depth, seq), tries)


def is_done(packed: bytes) -> bool:
    """Whether an `r` row says that the request has its outcome, without decoding it."""
    return packed[0] != 0


def open_depth(packed: bytes) -> int:
    """The depth in the row of an open request, without decoding the rest of it."""
    return packed[4] << 8 | packed[5]


def pack_queued(request: Request) -> bytes:
    """A queued request; its depth stands here too, so that an entry reads alone."""
    return pack(request)


def as_request(row: tuple[Any, ...]) -> Request:
    """A request from the array that stands in queue and lease rows."""
    request = Request(*row)
    return request if request.form is None else request._replace(form=Form(*request.form))
