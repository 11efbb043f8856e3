"""What goes into the agent and what comes out: its events and its instructions. Frozen values without behaviour.

agent.py takes the events and gives the instructions, app.py makes the ones and carries out the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from common import messages as m
from common.config import CrawlConfig
from common.messages import LinkGroup
from common.scope import Scope
from common.url import CanonicalURL
from worker.visit import Fetch, FetchRobots

# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Arrived:
    """A decoded message from a shard."""

    shard: int
    message: m.ToWorker


@dataclass(frozen=True, slots=True)
class Report:
    """What a fetch came to, ready to be sent. `links`: all outlinks, whoever owns them; `fingerprints` with depth."""

    facts: m.Facts
    links: tuple[LinkGroup, ...] = ()
    fingerprints: tuple[bytes, ...] = ()
    depth: int = 0
    refused: tuple[tuple[str, int], ...] = ()
    retry_after: float | None = None
    head: bytes = b""
    asked: bytes = b""
    """The WARC request record."""
    answered: bytes = b""
    """The WARC response record."""
    cookies: bytes | None = None
    """The host's cookies after this response, where it changed them."""
    again: bool = False
    """A redirect to its own canonical URL: the request is fetched again in its lease (rule 20)."""
    network: bool = False
    """A failure that could mean that this machine's own network is down."""
    items: tuple[tuple[str, bytes], ...] = ()
    """(name, JSON) of what extractors made of it."""
    file: m.File | None = None
    """It is a download: `pieces` are sent or kept already, `answered` is what follows them."""
    pieces: int = 0


@dataclass(frozen=True, slots=True)
class PieceCame:
    """The next piece of a download that is under way; fields as in messages.FilePiece."""

    lease: int
    ordinal: int
    index: int
    began: int
    first: int
    validator: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch is over. `report` None: it was never sent. `ended`: when it let go of the host (agent's clock)."""

    lease: int
    ordinal: int
    report: Report | None
    ended: float


@dataclass(frozen=True, slots=True)
class RobotsFetched:
    """One hop on the way to an authority's robots.txt is over.

    `verdict`: `rules`, `allow`, an outcome's name, or `follow`, with the canonical `target` that it leads to. `text`:
    None unless it is `rules`. Not `sent`: the request was never written, and nothing else counts.
    """

    lease: int
    authority: str
    url: str
    hops: int
    verdict: str
    status: int | None
    error: str | None
    text: bytes | None
    record: bytes
    split: int
    ended: float
    sent: bool
    ip: str | None = None
    target: CanonicalURL | None = None
    network: bool = False
    """As in Report."""
    reason: str | None = None
    """Of a failure: a stable code."""
    retry_after: float | None = None
    """Seconds that the server asks for."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """This process is asked to stop: give back what it holds, then leave."""


@dataclass(frozen=True, slots=True)
class Load:
    """How this process does, for the next heartbeat."""

    held_bytes: int
    lag_ms: int
    cpu_percent: int = 0
    """Of one processor, since the last one."""
    rss: int = 0
    """Resident memory, bytes."""
    extract_percent: int = 0
    """Of this process's time, that extractors took of late."""


@dataclass(frozen=True, slots=True)
class Probed:
    """Whether this machine's network works, as far as a Probe could tell."""

    works: bool


@dataclass(frozen=True, slots=True)
class Woken:
    """Time has passed; nothing else."""


Event = Arrived | PieceCame | Fetched | RobotsFetched | Leaving | Load | Probed | Woken

# ----------------------------------------------------------------------------------------------- instructions


@dataclass(frozen=True, slots=True)
class Post:
    """Send a message to a shard; `data`: over the data socket, with `body` as its second frame."""

    shard: int
    message: m.FromWorker
    data: bool = False
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the sockets to another shard of the same coordinator."""

    shard: int


@dataclass(frozen=True, slots=True)
class Configure:
    """The crawl is known now, or has changed: this is its configuration, its scope and its seed of fingerprints."""

    config: CrawlConfig
    scope: Scope
    seed: int


@dataclass(frozen=True, slots=True)
class Rescoped:
    """The scope has grown; the rest is as it was."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class Abort:
    """Break off every fetch of this lease: its time is over. `ordinal`: only that of this request."""

    lease: int
    ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class PieceKept:
    """A piece of a download was answered: it is not held any more, and another may follow."""

    lease: int
    ordinal: int
    began: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Look whether this machine's network works; the answer is a Probed. Never two at one time."""


@dataclass(frozen=True, slots=True)
class Exit:
    """End this process. `finished`: the crawl is over; `reason`: refused, for people; `again`: a new start may help."""

    finished: bool
    reason: str | None = None
    again: bool = False


Instruction = Post | Connect | Configure | Rescoped | Fetch | FetchRobots | Abort | PieceKept | Probe | Exit
