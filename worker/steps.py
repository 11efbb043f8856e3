"""What goes into the agent and what comes out: its events and its instructions. Frozen values without behaviour.

agent.py takes the events and gives the instructions, app.py makes the ones and carries out the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from common import messages as m
from common.config import CrawlConfig
from common.messages import LinkGroup
from common.scope import Scope
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


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch is over. `report` None: it was never sent. `ended`: when it let go of the host (agent's clock)."""

    lease: int
    ordinal: int
    report: Report | None
    ended: float


@dataclass(frozen=True, slots=True)
class RobotsFetched:
    """robots.txt of an authority came, or did not. `text` None unless `verdict` is `rules`."""

    lease: int
    authority: str
    verdict: str
    status: int | None
    error: str | None
    text: bytes | None
    record: bytes
    split: int
    ended: float
    sent: bool


@dataclass(frozen=True, slots=True)
class Leaving:
    """This process is asked to stop: give back what it holds, then leave."""


@dataclass(frozen=True, slots=True)
class Load:
    """How this process does, for the next heartbeat."""

    held_bytes: int
    lag_ms: int


@dataclass(frozen=True, slots=True)
class Woken:
    """Time has passed; nothing else."""


Event = Arrived | Fetched | RobotsFetched | Leaving | Load | Woken

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
    """Break off every fetch of this lease: its time is over."""

    lease: int


@dataclass(frozen=True, slots=True)
class Exit:
    """End this process. `finished`: the crawl is over; `reason`: refused, for people; `again`: a new start may help."""

    finished: bool
    reason: str | None = None
    again: bool = False


Instruction = Post | Connect | Configure | Rescoped | Fetch | FetchRobots | Abort | Exit
