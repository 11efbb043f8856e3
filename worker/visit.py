"""A visit: working through one lease. Which request is next, in which lane, and not before when.

A lane is busy from the moment a fetch is given out until `delay` seconds after that fetch ended, and up to a share of
it longer (`jitter`); robots.txt fetches take a lane like any other. No page of an authority is given out before its
robots.txt is known to the shard, and while one is being asked for, nothing else of the visit begins. A request that
is redirected to itself is fetched again, SELF_REDIRECTS times at most (rule 20).

No I/O, no clock: `agent.py` calls, `now` comes in. Read next: chase.py (a robots.txt that leads to another host).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from common.messages import Lease, Request, Resume, lease_name
from common.outcome import OUTCOMES, Outcome
from common.url import CanonicalURL, authority
from worker.robots import Rules

SELF_REDIRECTS = 5
"""How often a request is fetched again because it was redirected to its own canonical URL."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch a request of a lease at `at` (seconds of the agent's clock), unless the lease is over by then."""

    lease: int
    ordinal: int
    request: Request
    at: float
    cookies: bytes | None = None
    """The host's cookies to send, opaque here."""
    resume: Resume | None = None
    """What is kept of a download that broke off."""


@dataclass(frozen=True, slots=True)
class FetchRobots:
    """Fetch one hop on the way to an authority's robots.txt, at `at`.

    `lease` is the visit that asks; `under` the lease in whose time it is fetched: the same, or a permit of another
    host. `hops`: redirects before this one.
    """

    lease: int
    under: int
    authority: str
    url: str
    hops: int
    at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not fetched because of its robots.txt: `outcome` is its result."""

    ordinal: int
    request: Request
    outcome: Outcome


Step = Fetch | FetchRobots | Refused


class Visit:
    """The state of one lease at its worker. A permit is a lease without requests: one hop of robots.txt, no more."""

    __slots__ = (
        "_again",
        "_cookies_told",
        "_jitter",
        "_resumes",
        "asking",
        "cookies",
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
        jitter: float = 0.0,
        with_cookies: bool = False,
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
        self.lanes = [now] * max(1, min(lease.lanes, len(lease.requests)))
        """When each free lane may be used, as a heap."""
        self.asking: str | None = None
        """The authority whose robots.txt is on its way, from the fetch to the shard's answer."""
        self.last_end: float | None = None
        self.draining = False
        self.cookies = lease.cookies if with_cookies else None
        """The host's, after the last response that changed them."""
        self._cookies_told = True
        self._jitter = jitter
        self._resumes = {resume.ordinal: resume for resume in lease.resumes}
        self._again: dict[int, tuple[int, float]] = {}
        """How often a request was redirected to itself, and since when, by ordinal."""

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

    @property
    def is_permit(self) -> bool:
        """Whether it is there for a robots.txt of another host's visit alone."""
        return not self.lease.requests

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
                    steps.append(self.hop(self.lease.id, place, f"{place}/robots.txt", 0, now))
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
            at = max(now, heapq.heappop(self.lanes))
            resume = self._resumes.get(ordinal) if self._resumes else None
            steps.append(Fetch(self.lease.id, ordinal, request, at, self.cookies, resume))
            room -= 1
        return steps

    def landed(self, ordinal: int, ended: float) -> None:
        """A fetch is over; its result is owed to the shard."""
        self.in_flight.discard(ordinal)
        self.unanswered.add(ordinal)
        self._free_lane(ended, ordinal)

    def not_sent(self, ordinal: int, again_at: float) -> None:
        """A fetch was never sent: nothing is owed to the host, and the request is still to do."""
        self.in_flight.discard(ordinal)
        self.todo.append(ordinal)
        heapq.heappush(self.lanes, again_at)

    def fetch_again(self, ordinal: int, now: float, patience: float) -> bool:
        """A request that landed was redirected to itself: it is the next to do, or has been that too often.

        Also too often: a second time that would come more than `patience` seconds after the first answer. A lease
        without results is taken away in the end (rule 7), and would come back to begin anew, for ever.
        """
        count, since = self._again.get(ordinal, (0, now))
        if count >= SELF_REDIRECTS or (count and now + self.lease.delay > since + patience):
            return False
        self._again[ordinal] = count + 1, since
        self.undo(ordinal)
        return True

    def undo(self, ordinal: int) -> None:
        """What landed does not count: the request is still to do."""
        self.unanswered.discard(ordinal)
        self.todo.appendleft(ordinal)

    def cut_off(self, now: float) -> None:
        """All that is under way was broken off, which touched the host until now; the requests are still to do."""
        if self.resting:
            return
        self.todo.extendleft(sorted(self.in_flight, reverse=True))
        self.in_flight.clear()
        self.asking = None
        self.last_end = now

    def broken_off(self, ordinal: int, now: float) -> None:
        """A fetch was broken off, which touched the host until now; the request is still to do."""
        self.in_flight.discard(ordinal)
        self.todo.appendleft(ordinal)
        self._free_lane(now, ordinal)

    def keep_cookies(self, cookies: bytes) -> None:
        """A response changed the host's cookies."""
        self.cookies = cookies
        self._cookies_told = False

    def cookies_to_tell(self) -> bytes | None:
        """The host's cookies for the next page, where they changed since the last one: never older than told."""
        if self._cookies_told:
            return None
        self._cookies_told = True
        return self.cookies

    # ------------------------------------------------------------------------------------------------- robots.txt

    def hop(self, visit: int, place: str, url: str, hops: int, now: float) -> FetchRobots:
        """Give out one hop of the robots.txt that the visit with lease id `visit` asks for; it takes a lane."""
        self.asking = place
        return FetchRobots(visit, self.lease.id, place, url, hops, max(now, heapq.heappop(self.lanes)))

    def robots_landed(self, ended: float, hops: int = 0) -> None:
        """A fetch of robots.txt is over; pages wait until the shard has answered."""
        self._free_lane(ended, ~hops)

    def _free_lane(self, ended: float, ordinal: int) -> None:
        delay = self.lease.delay
        if self._jitter and delay:
            delay *= 1.0 + self._jitter * _chance(self.lease.id, ordinal)
        heapq.heappush(self.lanes, ended + delay)
        if self.last_end is None or ended > self.last_end:
            self.last_end = ended


def _chance(lease: int, ordinal: int) -> float:
    """A number in [0, 1) that looks random from one fetch to the next; 0.3 µs, and the same in every run.

    The low bits of a product are poor, so they are dropped (Fibonacci hashing; Knuth, volume 3, section 6.4).
    """
    return ((lease * 0x9E3779B97F4A7C15 + ordinal * 0xD1B54A32D192ED03 & _64_BITS) >> 32) / 4294967296.0


_64_BITS = (1 << 64) - 1


def verdict_of(text: str, rules: Rules | None) -> Rules | Outcome | None:
    """What a verdict of the shard means: rules, or the outcome that every request gets. None: not known."""
    if text in ("rules", "allow"):
        return rules
    return _BY_NAME.get(text)


def _refusal(rules: Rules, request: Request) -> Outcome | None:
    return None if rules.allows(CanonicalURL(request.url)) else Outcome.ROBOTS_DENIED


_BY_NAME: Mapping[str, Outcome] = {outcome.value: outcome for outcome in OUTCOMES}
