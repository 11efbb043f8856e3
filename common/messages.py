"""The protocol between shards, workers and control: every message there is. This file *is* the document.

It is long and stays one file: whoever speaks the protocol reads it from end to end, and a message is only to be
understood beside those that it answers.

Sockets. A shard binds two ROUTER sockets, *control* and *data*; a worker process connects one DEALER to each, both
with its session id as routing id. Heartbeats and leases go over control, bodies over data, so that a heartbeat never
waits behind a megabyte. Frames: [header] or [header, body]; the header is a msgpack array `[tag, field, field, ...]`
in the order of the class, the body is bytes that belong to the message (a WARC record, a piece of one, robots.txt).

    worker -> shard   control   Hello  Heartbeat  Release  Want  Goodbye
                      data      Page  Piece  FilePiece  Links  Robots
    shard -> worker   control   Welcome  Denied  Alive  Lease  Terms  HelloAgain
                      data      Answer
    control <-> shard           Poll  Report  Close  Closed  Cap  CapSet            (in one process today)

Rules that hold for all of them (the numbers are those of the project's protocol rules, docs/protocol.md):

- A worker *session* is 16 random bytes per process start (13). Every answer names it. A message of a session that the
  shard does not know (it restarted) is answered HelloAgain, never punished; the worker says Hello and sends again.
- Worker messages are numbered from 1, control and data apart. Data messages are sent again until an Answer names
  them; an answer names single numbers, never "all up to". A duplicate of an accepted message is answered again.
- A Lease names the highest control number the shard has seen, an Alive the message that it answers; the worker counts
  the lease's time from when it *sent* that one (6). A Lease is taken once: a duplicate is ignored.
- An answer leaves only after the commit of all that it rests on (2).
- Unknown tag, wrong type, number out of range, too long: `ProtocolError`; the peer is dropped and counted.

Times are seconds. `age` is how long ago the last fetch of the lease ended when the message was made; None: there
was none. None for a field of a page means what null means in `pages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, NamedTuple, NewType

VERSION = 3
"""Of the protocol; a Hello with another one is Denied."""

PIECE_BYTES = 1 << 20
"""What is above this travels in pieces of at most this (bytes)."""

MAX_HEADER_BYTES = 8 << 20
"""A header frame is never longer; a Lease of 512 requests with the longest URLs stays below."""

FILE_WINDOW = 8
"""Pieces of one download that may be on their way without an answer."""

TEXT_LINES, LINK_LINES = ".text", ".links"
"""Names of items that are no extractor's, which cannot begin with a point: lines of `text` and of `links`."""

SessionId = NewType("SessionId", bytes)
LeaseId = NewType("LeaseId", int)


class Range(NamedTuple):
    """Bound of a number, both ends included."""

    low: int
    high: int


class Size(NamedTuple):
    """Bound of a length: bytes of a bytes field, characters of a str, elements of a tuple."""

    high: int


U16 = Annotated[int, Range(0, 2**16 - 1)]
U32 = Annotated[int, Range(0, 2**32 - 1)]
U64 = Annotated[int, Range(0, 2**64 - 1)]
Seconds = Annotated[float, Range(0, 2**40)]
Moment = Annotated[float, Range(0, 253_402_300_799)]
"""Seconds since 1970; up to the year 9999, for it is written as a date."""
Second = Annotated[int, Range(0, 253_402_300_799)]
"""A Moment in whole seconds."""
Length = Annotated[int, Range(0, 2**48 - 1)]
"""Bytes of one body; they are summed up over a whole crawl, and the sum is stored as a U64."""
Session = Annotated[SessionId, Size(16)]
Lid = Annotated[LeaseId, Range(0, 2**64 - 1)]
Url = Annotated[str, Size(65_536)]
Word = Annotated[str, Size(255)]
Prose = Annotated[str, Size(4096)]


def lease_id(epoch: int, counter: int, shard: int = 0) -> LeaseId:
    """The id of the `counter`-th lease of a shard's `epoch`: unique over restarts (rule 5), and over shards, since a
    worker keeps the leases of all shards in one table."""
    return LeaseId(shard << 56 | epoch << 32 | counter)


def lease_epoch(lease: LeaseId) -> int:
    """The shard's epoch in which the lease was made."""
    return lease >> 32 & 0xFFFFFF


def lease_shard(lease: LeaseId) -> int:
    """The shard that lent it."""
    return lease >> 56


def lease_name(lease: LeaseId) -> str:
    """For people: `3:81` is the 81st lease of epoch 3; `s1/3:81` that of shard 1."""
    shard = lease_shard(lease)
    return f"{f's{shard}/' if shard else ''}{lease_epoch(lease)}:{lease & 0xFFFFFFFF}"


class Phase(IntEnum):
    """What the crawl is doing, as workers need to know it."""

    RUNNING = 0
    PAUSED = 1
    STOPPING = 2
    FINISHED = 3


class Flag(IntEnum):
    """Bits of `Request.flags` and `LinkGroup.flags`."""

    SEED = 1
    """A seed, or a hop of redirects from one: its target's host joins the scope."""
    BARE = 2
    """The seed was a bare host: when https is refused, http is tried."""
    LINKS_ONLY = 4
    """Visited again at a smaller depth, for its links only, without a second record (rule 15)."""
    ALONE = 8
    """A suspect of poison: lent alone (rule 24)."""


class Form(NamedTuple):
    """What makes a request more than a plain GET; part of its key, so it is in rows and messages from the start."""

    method: Word
    headers: Annotated[tuple[tuple[Word, Prose], ...], Size(64)]
    body: Annotated[bytes, Size(1 << 20)] | None
    serial: U64 | None
    """The number that `dont_filter` gives."""
    round: U32
    """0, then one more with each recrawl."""
    priority: Annotated[int, Range(-1000, 1000)]
    carry: Annotated[bytes, Size(1 << 20)] | None
    """What an extractor handed to the extractor of this request; msgpack, opaque here."""


HEAD = Form("HEAD", (), None, None, 0, 0, None)
"""What every request of a crawl with `--head` is."""

ROBOTS_ORDINAL = 0xFFFF
"""Stands for a robots.txt where a request of a lease is named by its ordinal."""

SITEMAP = "SITEMAP"
"""The method of a request for a sitemap: fetched by GET, read for what it lists, and no line in `pages`."""

DOWNLOAD = "DOWNLOAD"
"""The method of a request for a file: fetched by GET, and what comes with a good status is kept in `files`, whatever
its type. `carry`: the name that is wanted for it, UTF-8; None: it is found."""


class Request(NamedTuple):
    """One request as it is lent. `attempts` counts the tries before this one; `referrer` is None for a seed."""

    url: Url
    depth: U16
    hops: U16
    attempts: U16
    flags: U16
    seed: Url
    referrer: Url | None
    form: Form | None
    lastmod: Second | None = None
    """When a sitemap said that it was last modified, seconds since 1970."""


class LinkGroup(NamedTuple):
    """Requests that one page led to, with what they share. `depth` and `hops` are those of the targets."""

    referrer: Url
    seed: Url
    depth: U16
    hops: U16
    flags: U16
    urls: Annotated[tuple[Url, ...], Size(100_000)]
    forms: Annotated[tuple[Form | None, ...], Size(100_000)] | None
    lastmods: Annotated[tuple[Second | None, ...], Size(100_000)] | None = None
    """As in Request; of a sitemap's entries only."""


class RobotsRules(NamedTuple):
    """The robots.txt of one authority as the shard keeps it.

    `verdict` is `rules`, `allow`, or the outcome that all its requests get (`DNS`, `ROBOTS_UNREACHABLE`, ...);
    `body` is None when this session was already sent this version.
    """

    authority: Word
    version: U32
    verdict: Word
    body: Annotated[bytes, Size(1 << 20)] | None


# ------------------------------------------------------------------------------------- worker -> shard, control


@dataclass(frozen=True, slots=True)
class Hello:
    """I am here. First on every connection and after HelloAgain; answered by Welcome or Denied.

    `replaces` names the sessions of processes that died in this one's place: their leases end at once (rule 12).
    `local`: this process holds the shared lock in DIR.
    """

    number: U64
    version: U32
    session: Session
    replaces: Annotated[tuple[Session, ...], Size(64)]
    host: Word
    pid: U32
    index: U16
    local: bool
    leases: Annotated[tuple[Lid, ...], Size(65_536)]
    """Held from before the shard restarted: re-attached, not lent again."""
    suspects: Annotated[tuple[tuple[Session, Lid, U16], ...], Size(64)] = ()
    """(session, lease, ordinal) of what a process in `replaces` was parsing when it died (rule 24); ROBOTS_ORDINAL:
    the robots.txt that the lease waits for."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I am alive, hold exactly these leases, and take so much. Every `heartbeat` seconds, and at once when credit grew.

    `lanes` and `requests` are absolute credit: the most parallel fetches and requests that this shard may have lent
    to this session at one time, what is lent already included; the newest number wins (rule 23).
    """

    number: U64
    session: Session
    epoch: U32
    leases: Annotated[tuple[Lid, ...], Size(65_536)]
    lanes: U32
    requests: U32
    in_flight: U32
    held_bytes: U64
    fetched: U64
    lag_ms: U32
    offline: bool = False
    """Every host failed at once: this process suspects its own network, and probes it."""
    cpu_percent: U16 = 0
    """Of one processor, since the heartbeat before."""
    rss: U64 = 0
    """Resident memory, bytes."""
    extract_percent: U16 = 0
    """Of this process's time, that extractors took of late."""


@dataclass(frozen=True, slots=True)
class Release:
    """I give this lease back with whatever of it has no accepted result; sent again until answered by Alive.

    `age` as in a Page.
    """

    number: U64
    session: Session
    lease: Lid
    age: Seconds | None


@dataclass(frozen=True, slots=True)
class Want:
    """I need a permit: a robots.txt was redirected to this host (rule 19). Sent again until a Lease without requests
    comes for it; the shard that owns the host gives one when the host is due."""

    number: U64
    session: Session
    host: Word


@dataclass(frozen=True, slots=True)
class Goodbye:
    """I leave; every lease that I hold ends now. Not answered."""

    number: U64
    session: Session
    ages: Annotated[tuple[tuple[Lid, Seconds | None], ...], Size(65_536)]


# ------------------------------------------------------------------------------------- worker -> shard, data


class Facts(NamedTuple):
    """What one try came to: the part of a line of `pages` that a worker knows. None means what null means there."""

    outcome: U16
    status: U16 | None = None
    reason: Word | None = None
    error: Prose | None = None
    redirect_to: Url | None = None
    content_type: Word | None = None
    charset: Word | None = None
    length: Length | None = None
    wire_length: Length | None = None
    digest: Word | None = None
    title: Annotated[str, Size(512)] | None = None
    noindex: bool = False
    etag: Prose | None = None
    last_modified: Word | None = None
    fetched_at: Moment | None = None
    elapsed_ms: U32 | None = None
    ip: Word | None = None
    truncated: Word | None = None
    simhash: U64 | None = None


class File(NamedTuple):
    """A Page whose body is a download's, and no record.

    `name`: what its server or its URL calls it, with an extension; the shard makes it safe. `began`: as in FilePiece;
    0 where no piece was sent. `first`: pieces of an earlier fetch that it goes on from.
    """

    name: Annotated[str, Size(1024)]
    began: U64
    first: U32


@dataclass(frozen=True, slots=True)
class Page:
    """The result of one request of a lease, with its outlinks for this shard and its WARC records.

    Body: the request record, then the response record, each its own gzip member; `split` is where the second begins.
    When `pieces` > 0, the response record begins with that many Pieces that were sent before and goes on in the body.
    An empty body: nothing came that could be stored. `links` commit with the page (rule 1); refused with it, they
    count as unsent. `head` is the response's status line and headers: what a revisit record keeps.
    """

    number: U64
    session: Session
    lease: Lid
    ordinal: U16
    age: Seconds | None
    retry_after: Seconds | None
    facts: Facts
    links: Annotated[tuple[LinkGroup, ...], Size(64)]
    refused: Annotated[tuple[tuple[Word, U32], ...], Size(64)]
    """Outlinks that were not sent, counted by the rule that refused them."""
    head: Annotated[bytes, Size(1 << 18)]
    split: U32
    pieces: U32
    items: Annotated[tuple[tuple[Word, Annotated[bytes, Size(1 << 20)]], ...], Size(10_016)]
    """(name, JSON) of what an extractor yielded, 10,000 at most; kept with the page or not at all (rule 22). So are
    TEXT_LINES and LINK_LINES; the latter's JSON may be several lines."""
    cookies: Annotated[bytes, Size(1 << 16)] | None = None
    """The host's cookies after this page, where it changed them; opaque here, comes back with the next lease."""
    file: File | None = None
    """A download: `pieces` counts FilePieces, those of an earlier fetch included; what follows them is the body, with
    `split` 0. With outcome OK the file is whole; its digest is None where it went on from another fetch. With another
    outcome it broke off; then without any piece what was kept of it before serves no more."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The `index`-th PIECE_BYTES of a big response record, exactly that long.

    Answered when received, which keeps it until its Page comes; only the Page makes it durable.
    """

    number: U64
    session: Session
    lease: Lid
    ordinal: U16
    index: U32


@dataclass(frozen=True, slots=True)
class FilePiece:
    """The `index`-th PIECE_BYTES of a download, sent as it comes; exactly that long.

    `began` tells the fetches of one process apart and only grows; `first`: pieces of an earlier fetch that this one
    goes on from, so that its own begin with that index. `validator`: a strong ETag or a Last-Modified by which the
    rest can be asked for when it breaks off; None: it cannot be.

    Owed like a page; at most FILE_WINDOW of a download are without an answer. Refused with another code than
    `lease`: what came before is not there; the fetch is broken off, and its lease given back. An accepted one is kept
    until the download's Page, or the next fetch, which may go on from it.
    """

    number: U64
    session: Session
    lease: Lid
    ordinal: U16
    index: U32
    began: U64
    first: U32
    validator: Prose | None


@dataclass(frozen=True, slots=True)
class Links:
    """Outlinks of pages of other shards. Answered when every one of them is durable here; never waits for credit."""

    number: U64
    session: Session
    groups: Annotated[tuple[LinkGroup, ...], Size(1024)]


@dataclass(frozen=True, slots=True)
class Robots:
    """The robots.txt of an authority of this lease. Body: its WARC records (`split` as in Page).

    No page of the authority is fetched before this is answered (rule 19).
    """

    number: U64
    session: Session
    lease: Lid
    authority: Word
    verdict: Word
    status: U16 | None
    error: Prose | None
    crawl_delay: Seconds | None
    text: Annotated[bytes, Size(1 << 20)] | None
    age: Seconds | None
    split: U32
    ip: Word | None = None
    sitemaps: Annotated[tuple[Url, ...], Size(1000)] = ()
    """Canonical addresses of the sitemaps that it names, of those that are to be read."""
    reason: Word | None = None
    """Where no answer came: the stable code that says more than the verdict, `tls_expired`."""
    retry_after: Seconds | None = None
    """As in Page."""


# ------------------------------------------------------------------------------------- shard -> worker, control


@dataclass(frozen=True, slots=True)
class Welcome:
    """You are in. What a worker needs to know of the crawl; sent again after each Hello.

    `ttl` and `heartbeat` in seconds; `slots`: which shard owns each slot, a byte each; `config` and `scope` are
    msgpack maps, decoded by common/configwire.py and common/scope.py. Another `crawl`, or an `epoch` or a `store` (the
    shard's commits so far) that went back, means: drop all that you hold. One that answers an older Hello than the
    last one did is late, and ignored (rule 12).
    """

    session: Session
    number: U64
    version: U32
    crawl: Annotated[bytes, Size(16)]
    store: U32
    shard: U16
    shards: U16
    epoch: U32
    ttl: Seconds
    heartbeat: Seconds
    slots: Annotated[bytes, Size(1024)]
    seed: U64
    config: Annotated[bytes, Size(2 << 20)]
    scope: Annotated[bytes, Size(4 << 20)]
    scope_version: U32


@dataclass(frozen=True, slots=True)
class Denied:
    """You cannot work here; `reason` is for people. `final`: asking again will not help.

    Not final: this session broke the protocol and is not listened to any more; a new one may do better.
    """

    session: Session
    number: U64
    reason: Prose
    final: bool


@dataclass(frozen=True, slots=True)
class Alive:
    """Answer to a Heartbeat or a Release: the leases listed in it are renewed, but for the `unknown`, which end now.

    `number` is that of the answered message: what it listed is what was renewed. 0: sent because the phase changed,
    renews nothing; an end it names is believed at once, any other phase is asked for with a heartbeat.
    """

    session: Session
    number: U64
    epoch: U32
    unknown: Annotated[tuple[Lid, ...], Size(65_536)]
    released: Annotated[tuple[Lid, ...], Size(65_536)]
    phase: U16
    scope_version: U32
    recalled: Annotated[tuple[Lid, ...], Size(65_536)] = ()
    """Begin nothing more of these, and give them back: their terms have changed."""


class Resume(NamedTuple):
    """Of a request of a lease: so many pieces of its download are kept, and this validator speaks for them."""

    ordinal: U16
    pieces: U32
    validator: Prose


@dataclass(frozen=True, slots=True)
class Lease:
    """Fetch these requests of one host, at most `lanes` at once, `delay` seconds between them in each lane.

    `number`: see the module's rules. No requests at all: a permit to fetch robots.txt of that host (rule 19).
    """

    session: Session
    number: U64
    id: Lid
    host: Word
    delay: Seconds
    lanes: U32
    scope_version: U32
    robots: Annotated[tuple[RobotsRules, ...], Size(64)]
    cookies: Annotated[bytes, Size(1 << 16)] | None
    requests: Annotated[tuple[Request, ...], Size(4096)]
    resumes: Annotated[tuple[Resume, ...], Size(4096)] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """The scope has grown (a seed redirected to another host), or a person has changed the configuration.

    Both as in Welcome, and both of one version: leases that name this version wait for it. What is lent by then keeps
    the delay and the lanes that it came with.
    """

    session: Session
    scope: Annotated[bytes, Size(4 << 20)]
    scope_version: U32
    config: Annotated[bytes, Size(2 << 20)]


@dataclass(frozen=True, slots=True)
class HelloAgain:
    """I do not know your session: say Hello, then send again what was not answered."""

    session: Session


# ------------------------------------------------------------------------------------- shard -> worker, data


@dataclass(frozen=True, slots=True)
class Answer:
    """Data messages that are durable now, and those that are refused with the reason's code.

    `lease`: its lease is not held, drop it (rule 11). `pieces`: send the pieces again, then the page; of a download:
    break it off, and give the lease back.
    """

    session: Session
    accepted: Annotated[tuple[U64, ...], Size(65_536)]
    refused: Annotated[tuple[tuple[U64, Word], ...], Size(65_536)]


# ------------------------------------------------------------------------------------- control <-> shard


@dataclass(frozen=True, slots=True)
class Poll:
    """How do you stand? Answered after the next commit (rule 14)."""

    round: U64


@dataclass(frozen=True, slots=True)
class Report:
    """`admitted`, `done`, `attempts` only grow within an epoch; `leased` requests out; `lendable` could be lent."""

    round: U64
    shard: U16
    epoch: U32
    admitted: U64
    done: U64
    attempts: U64
    leased: U64
    lendable: U64


@dataclass(frozen=True, slots=True)
class Close:
    """Close, if these are still your counters: then nothing is admitted until a later round opens again."""

    round: U64
    epoch: U32
    admitted: U64
    done: U64
    attempts: U64


@dataclass(frozen=True, slots=True)
class Closed:
    """`ok`: closed as asked; not ok: something changed meanwhile."""

    round: U64
    shard: U16
    ok: bool


@dataclass(frozen=True, slots=True)
class Cap:
    """Never charge more than `cap` requests in all; None: no limit. The highest number wins (rule 16)."""

    number: U64
    cap: U64 | None


@dataclass(frozen=True, slots=True)
class CapSet:
    """`cap` is in force and durable, with the highest number so far; `charged` requests were lent at least once.

    Numbers outlive a start of control: one that is told of a higher number than its own goes on from there.
    """

    number: U64
    shard: U16
    cap: U64 | None
    charged: U64


WorkerControl = Hello | Heartbeat | Release | Want | Goodbye
WorkerPaper = Page | Piece | FilePiece | Links | Robots
ShardControl = Welcome | Denied | Alive | Lease | Terms | HelloAgain
FromWorker = WorkerControl | WorkerPaper
ToWorker = ShardControl | Answer
Between = Poll | Report | Close | Closed | Cap | CapSet
Message = FromWorker | ToWorker | Between

TAGS: dict[int, type[Message]] = {
    1: Hello,
    2: Heartbeat,
    3: Release,
    4: Goodbye,
    5: Want,
    16: Page,
    17: Piece,
    18: Links,
    19: Robots,
    20: FilePiece,
    32: Welcome,
    33: Denied,
    34: Alive,
    35: Lease,
    36: Terms,
    37: HelloAgain,
    48: Answer,
    64: Poll,
    65: Report,
    66: Close,
    67: Closed,
    68: Cap,
    69: CapSet,
}
"""The number that stands for each class on the wire; never reused."""

FROM_WORKER: frozenset[type[Message]] = frozenset(TAGS[tag] for tag in (1, 2, 3, 4, 5, 16, 17, 18, 19, 20))
TO_WORKER: frozenset[type[Message]] = frozenset(TAGS[tag] for tag in (32, 33, 34, 35, 36, 37, 48))
