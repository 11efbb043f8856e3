"""What goes into a shard's core and what comes out: its events, its instructions, and what it commits together.

Frozen values without behaviour. shard.py takes the events and gives the instructions; server.py makes the ones and
carries out the others; the simulation does both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common import messages as m
from common.config import CrawlConfig
from common.messages import Phase, Request
from common.scope import Scope
from coordinator.outputs import OutputBatch

# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded message of a worker; `body` is its second frame."""

    message: m.FromWorker
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Requests from outside, each with the entry that it gives the scope (None: none). Answered by Seeded.

    `read_to`: they are known URLs that a recrawl visits again, and this is the key from which their rows are still to
    be read; remembered in the same commit. None: they are none.
    """

    number: int
    requests: tuple[Request, ...]
    read_to: bytes | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A message of control; answered by Tell."""

    message: m.Poll | m.Close | m.Cap


@dataclass(frozen=True, slots=True)
class Steered:
    """The crawl's phase changed."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration has changed while the crawl runs (`coord set`, `coord block`)."""

    config: CrawlConfig


@dataclass(frozen=True, slots=True)
class Rescoped:
    """`--allow` or `--deny` changed: another scope, for URLs found from now on."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class Retry:
    """Queue these ended requests again (`coord retry`); `keys` are those of their rows. Answered by Seeded, which
    says of each whether it is open again."""

    number: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NewRound:
    """A recrawl begins: what is admitted from now on is of this round. What was fetched after `since` (wall time) in
    an earlier one is not fetched again; None: everything is."""

    round: int
    since: float | None


@dataclass(frozen=True, slots=True)
class Hashed:
    """The answer to a HashPart; `digest` None: the part file could not be read to its end."""

    session: bytes
    number: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; nothing else."""


Event = Received | Seeds | Asked | Steered | Reconfigured | Rescoped | Retry | NewRound | Hashed | Tick

# ----------------------------------------------------------------------------------------------- instructions


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a worker; `data`: over the data socket."""

    message: m.ToWorker
    data: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to control."""

    message: m.Report | m.Closed | m.CapSet


@dataclass(frozen=True, slots=True)
class Seeded:
    """The seeds with this number are durable. `fresh`: for each, whether it was new."""

    number: int
    fresh: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class KeepPiece:
    """Keep a piece of a big body until its page comes. `file`: it is a download's, and `key` its part file."""

    key: str
    index: int
    body: bytes
    file: bool = False


@dataclass(frozen=True, slots=True)
class DropPieces:
    """The pieces kept under this key will not be needed any more. `file`: as in KeepPiece."""

    key: str
    file: bool = False


@dataclass(frozen=True, slots=True)
class HashPart:
    """Tell the digest of the first `pieces` of a download's part file and what follows them; answered by Hashed."""

    session: bytes
    number: int
    part: str
    pieces: int
    tail: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the log; `event` and what belongs to it."""

    event: str
    facts: tuple[tuple[str, object], ...]
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Say:
    """Something that people should hear at once."""

    text: str


Instruction = Send | Tell | Seeded | KeepPiece | DropPieces | HashPart | Note | Say


@dataclass(frozen=True, slots=True)
class Commit:
    """What is made durable together: first the outputs, then the rows, then `instructions` leave."""

    rows: Mapping[bytes, bytes | None]
    outputs: OutputBatch
    instructions: tuple[Instruction, ...]
