"""What one worker process knows of one shard: greeted or not, which epoch, when each numbered message was sent.

A link is GREETING (Hello sent, no Welcome yet: `welcome` is False) or WELCOME. The shard's leases count from when the
message that they name was *sent* (PROTOCOL rule 6), so those times are kept here; so is what each heartbeat listed,
since only that is renewed (rule 7). No I/O, no clock: `agent.py` calls.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from common import messages as m
from common.messages import LeaseId, Phase, SessionId

NUMBERS_KEPT = 4096
"""Control messages whose time of sending is remembered; more than a process sends in the time of a lease, unless
thousands of leases are given back at once. A lease that names an older one is not begun."""

BEATS_KEPT = 16
"""Heartbeats whose answer still renews what they listed."""


@dataclass(slots=True)
class ShardLink:
    """One shard, as this process knows it."""

    shard: int
    number: int = 0
    sent_at: OrderedDict[int, float] = field(default_factory=OrderedDict)
    listed: OrderedDict[int, tuple[LeaseId, ...]] = field(default_factory=OrderedDict)
    welcome: bool = False
    epoch: int = 0
    commits: int = 0
    next_hello: float = 0.0
    next_beat: float = 0.0
    phase: Phase = Phase.RUNNING
    phase_number: int = 0
    """The highest number of an Alive: a phase that an older one names is over."""
    welcomed: int = 0
    """The number of the Hello that the last Welcome answered."""
    releasing: dict[LeaseId, tuple[float, float | None]] = field(default_factory=dict)
    """Leases given back: when to say so again, and when their last fetch had ended."""

    def next_number(self, now: float) -> int:
        """The number of a control message that is sent now."""
        self.number += 1
        self.sent_at[self.number] = now
        if len(self.sent_at) > NUMBERS_KEPT:
            self.sent_at.popitem(last=False)
        return self.number

    def list(self, number: int, leases: tuple[LeaseId, ...]) -> None:
        """A heartbeat with this number lists these leases."""
        self.listed[number] = leases
        while len(self.listed) > BEATS_KEPT:
            self.listed.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this process is, as every shard is told. `suspects`: what those it replaces were parsing (rule 24)."""

    session: SessionId
    replaces: tuple[SessionId, ...]
    suspects: tuple[tuple[SessionId, LeaseId, int], ...]
    host: str
    pid: int
    index: int
    local: bool

    def hello(self, link: ShardLink, held: tuple[LeaseId, ...], now: float) -> m.Hello:
        """The dead are named until the first Welcome: by then the shard knows of them."""
        return m.Hello(
            link.next_number(now),
            m.VERSION,
            self.session,
            () if link.welcomed else self.replaces,
            self.host,
            self.pid,
            self.index,
            self.local,
            held,
            () if link.welcomed else self.suspects,
        )
