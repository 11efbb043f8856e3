"""What the parts of a shard's core share: its books, its configuration, and what waits to be said.

admission.py, lending.py, results.py, sessions.py and orders.py each hold one idea of the shard and work on one
`ShardState`; shard.py makes it, gives them the events, and seals what they changed. What is said at once goes into
`now`, what rests on the next commit into `after` (PROTOCOL rule 2). No I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.config import CrawlConfig
from common.messages import LeaseId, Phase, SessionId, ToWorker
from common.scope import Scope
from coordinator.fleet import Fleet
from coordinator.frontier import Frontier
from coordinator.leases import Leases, OpenLease
from coordinator.ledger import Ledger
from coordinator.outputs import Outputs
from coordinator.partials import Partials
from coordinator.steps import Instruction, Note, Say, Send
from coordinator.store.kv import Overlay


@dataclass(slots=True)
class ShardState:
    """One shard's books. `slots`: which shard owns each slot; `pieces`: indexes that came, by the body's key."""

    rows: Overlay
    outputs: Outputs
    config: CrawlConfig
    scope: Scope
    ledger: Ledger
    frontier: Frontier
    index: int
    shards: int
    slots: bytes
    epoch: int
    phase: Phase
    leases: Leases = field(default_factory=Leases)
    fleet: Fleet = field(default_factory=Fleet)
    closed: bool = False
    """Nothing is admitted; a later round opens it again (rule 14)."""
    cap: int | None = None
    """--max-pages, this shard's share of it (rule 16)."""
    round: int = 0
    """0, then one more with each recrawl."""
    fresh_since: float | None = None
    """In a recrawl: what was fetched after this (wall time) in an earlier round is not fetched again."""
    conditional: bool = True
    """In a recrawl: pages are asked for only if they have changed (rounds.py)."""
    pieces: dict[str, set[int]] = field(default_factory=dict)
    partials: Partials = field(init=False)
    """Downloads that are under way or broke off."""
    kept_bytes: int = 0
    """Of pieces that came since the last commit was sealed: their answers wait for it, and who sends them waits."""
    longest: int = 0
    """The largest --max-bytes of this start: what was fetched under it is taken, though it is lower by now."""
    recalled: dict[bytes, list[LeaseId]] = field(default_factory=dict)
    """Leases whose terms do not hold any more, by session: to be told with this event's instructions."""
    now: list[Instruction] = field(default_factory=list)
    after: list[Instruction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.partials = Partials(self.rows, self.outputs, self.epoch, self.do_after)
        self.longest = self.config.max_bytes

    @property
    def may_lend(self) -> bool:
        """Whether anything is lent at all."""
        return self.phase is Phase.RUNNING and not self.closed

    def recall(self, lease: OpenLease) -> None:
        """Its worker is to begin nothing more of it, and to give it back."""
        lease.recalled = True
        self.recalled.setdefault(lease.session, []).append(lease.id)

    def note(self, event: str, level: str = "info", **facts: object) -> None:
        """A line for the log."""
        self.now.append(Note(event, tuple(facts.items()), level))

    def say(self, text: str) -> None:
        """A line for people."""
        self.now.append(Say(text))

    def do_after(self, instruction: Instruction) -> None:
        """Carry it out when the next commit is durable."""
        self.after.append(instruction)

    def send_now(self, message: ToWorker) -> None:
        """Over the control socket; rests on nothing that waits for a commit."""
        self.now.append(Send(message))

    def send_after(self, message: ToWorker, *, data: bool = False) -> None:
        """When the next commit is durable."""
        self.after.append(Send(message, data))

    def budget_reached(self) -> None:
        """Whether --max-pages lets anything new be lent."""
        self.frontier.budgets.may_charge = self.cap is None or self.ledger.counts.charged < self.cap


def session_id(session: bytes) -> SessionId:
    """The bytes of a session as the messages name it."""
    return SessionId(session)


def piece_key(session: bytes, lease: LeaseId, ordinal: int) -> str:
    """The name under which the pieces of one body are kept; unique for the try that they come from."""
    return f"{session.hex()}-{lease:x}-{ordinal:x}"
