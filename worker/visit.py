"""A visit: working through one lease. Which request is next, in which lane, and not before when.

A lane is busy from the moment a fetch is given out until `delay` seconds after that fetch ended; robots.txt fetches
take a lane like any other. No page of an authority is given out before its robots.txt is known to the shard, and
while one is being asked for, nothing else of the visit begins. No I/O, no clock: `agent.py` calls, `now` comes in.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from common.messages import Lease, Request, lease_name
from common.outcome import OUTCOMES, Outcome
from common.url import CanonicalURL, authority
from worker.robots import Rules


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch a request of a lease at `at` (seconds of the agent's clock), unless the lease is over by then."""

    lease: int
    ordinal: int
    request: Request
    at: float


@dataclass(frozen=True, slots=True)
class FetchRobots:
    """Fetch robots.txt of an authority at `at`."""

    lease: int
    authority: str
    at: float
    delay: float
    """Seconds from one hop of its redirects to the next."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not fetched because of its robots.txt: `outcome` is its result."""

    ordinal: int
    request: Request
    outcome: Outcome


Step = Fetch | FetchRobots | Refused


class Visit:
    """The state of one lease at its worker."""

    __slots__ = (
        "asking",
        "deadline",
        "draining",
        "in_flight",
        "lanes",
        "last_end",
        "lease",
        "obey",
        "shard",
        "todo",
        "unanswered",
        "verdicts",
    )

    def __init__(
        self,
        lease: Lease,
        *,
        shard: int,
        deadline: float,
        verdicts: dict[str, Rules | Outcome],
        obey: bool,
        now: float,
    ) -> None:
        self.lease = lease
        self.shard = shard
        self.deadline = deadline
        self.verdicts = verdicts
        """What is known of robots.txt, by authority."""
        self.obey = obey
        self.todo = deque(range(len(lease.requests)))
        self.in_flight: set[int] = set()
        self.unanswered: set[int] = set()
        """Ordinals whose page is not accepted yet; the lease is held until they are."""
        self.lanes = [now] * max(1, lease.lanes)
        """When each free lane may be used, as a heap."""
        self.asking: str | None = None
        """The authority whose robots.txt is on its way, from the fetch to the shard's answer."""
        self.last_end: float | None = None
        self.draining = False

    def __repr__(self) -> str:
        return (
            f"<Visit {lease_name(self.lease.id)} of {self.lease.host}: {len(self.todo)} to do, "
            f"{len(self.in_flight)} in flight, {len(self.unanswered)} unanswered>"
        )

    @property
    def done(self) -> bool:
        """Nothing is left to do, fly or be answered."""
        return not (self.todo or self.in_flight or self.unanswered or self.asking)

    @property
    def resting(self) -> bool:
        """No fetch is under way, so the lease may be given back without breaking one off."""
        return not self.in_flight and self.asking is None

    def age(self, now: float) -> float | None:
        """Seconds since its last fetch ended; None: there was none."""
        return None if self.last_end is None else max(0.0, now - self.last_end)

    def next(self, now: float, room: int) -> list[Step]:
        """What may begin now; at most `room` fetches (the process's bound on what is unanswered)."""
        steps: list[Step] = []
        while self.todo and self.lanes and room > 0 and self.asking is None and not self.draining:
            ordinal = self.todo[0]
            request = self.lease.requests[ordinal]
            if self.obey:
                place = authority(CanonicalURL(request.url))
                verdict = self.verdicts.get(place)
                if verdict is None:
                    if self.in_flight:
                        break
                    self.asking = place
                    steps.append(
                        FetchRobots(
                            self.lease.id, place, max(now, heapq.heappop(self.lanes)), self.lease.delay
                        )
                    )
                    break
                refusal = verdict if isinstance(verdict, Outcome) else _refusal(verdict, request)
                if refusal is not None:
                    self.todo.popleft()
                    self.unanswered.add(ordinal)
                    steps.append(Refused(ordinal, request, refusal))
                    room -= 1
                    continue
            self.todo.popleft()
            self.in_flight.add(ordinal)
            steps.append(Fetch(self.lease.id, ordinal, request, max(now, heapq.heappop(self.lanes))))
            room -= 1
        return steps

    def landed(self, ordinal: int, ended: float) -> None:
        """A fetch is over; its result is owed to the shard."""
        self.in_flight.discard(ordinal)
        self.unanswered.add(ordinal)
        self._free_lane(ended)

    def not_sent(self, ordinal: int, again_at: float) -> None:
        """A fetch was never sent: nothing is owed to the host, and the request is still to do."""
        self.in_flight.discard(ordinal)
        self.todo.append(ordinal)
        heapq.heappush(self.lanes, again_at)

    def robots_landed(self, ended: float) -> None:
        """The fetch of robots.txt is over; pages wait until the shard has answered."""
        self._free_lane(ended)

    def _free_lane(self, ended: float) -> None:
        heapq.heappush(self.lanes, ended + self.lease.delay)
        if self.last_end is None or ended > self.last_end:
            self.last_end = ended


def verdict_of(text: str, rules: Rules | None) -> Rules | Outcome | None:
    """What a verdict of the shard means: rules, or the outcome that every request gets. None: not known."""
    if text in ("rules", "allow"):
        return rules
    return _BY_NAME.get(text)


def _refusal(rules: Rules, request: Request) -> Outcome | None:
    return None if rules.allows(CanonicalURL(request.url)) else Outcome.ROBOTS_DENIED


_BY_NAME: Mapping[str, Outcome] = {outcome.value: outcome for outcome in OUTCOMES}
