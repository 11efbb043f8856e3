"""Whether it is the hosts that fail, or this machine's own network: then nobody's tries are counted.

The shell marks a failure that may be our own (a name server that did not answer, a connection that timed out, a
network that cannot be reached). While several hosts are being visited, a marked failure is held back until something
tells whose fault it was:

- any answer from anywhere: our network works, the failure stands;
- failures of enough hosts, and no answer, in WINDOW_SECONDS: the network is suspected, and a probe asked for;
- HOLD_SECONDS pass, and fewer hosts have failed: it stands.

A process is WATCHING, SUSPECTING (a probe is out; everything marked is held) or OFFLINE (the probe found nothing: what
was held does not count, and the next probes come ever more seldom). After a probe that found the network, failures
stand at once for TRUSTED_SECONDS: a list of dead hosts is no reason to probe at every turn.

Fewer than HOSTS hosts never cause suspicion, so a process that visits fewer holds nothing back. Pure; what is held is
opaque here, and bounded by what its owner has under way. Read next: `agent.py`, which gives the leases back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, TypeVar

from common.messages import Facts
from common.outcome import Outcome

HOSTS = 4
"""Different hosts that must have failed."""

FETCHES = 8
"""Fetches that must have failed, unless all hosts that are visited have."""

WINDOW_SECONDS = 60.0
"""Older failures say nothing of now."""

HOLD_SECONDS = 15.0
"""How long a failure is held back at most while nothing is suspected."""

TRUSTED_SECONDS = 15.0
"""How long a probe that found the network is believed."""

PROBE_AFTER = 5.0
"""Seconds to the second probe; doubles to MAX_PROBE_AFTER."""

MAX_PROBE_AFTER = 60.0

_FAILURES_KEPT = 64

_ANSWERS = frozenset(outcome.code for outcome in (Outcome.REFUSED, Outcome.TLS, Outcome.PROTOCOL))

ROBOTS_ANSWERS = frozenset({"rules", "allow", "follow", Outcome.REFUSED.value, Outcome.TLS.value})
"""Verdicts of a robots.txt for which somebody must have answered."""

Held = TypeVar("Held")


class Standing(Enum):
    """What is believed of this machine's network."""

    WATCHING = auto()
    SUSPECTING = auto()
    OFFLINE = auto()


class Suspicion(Generic[Held]):
    """The last failures since anything answered, and what is held back because of them."""

    __slots__ = ("_failures", "_held", "_next_probe", "_probing", "_trusted_until", "_wait", "standing")

    def __init__(self) -> None:
        self.standing = Standing.WATCHING
        self._failures: deque[tuple[float, str]] = deque(maxlen=_FAILURES_KEPT)
        self._held: deque[tuple[float, Held]] = deque()
        self._trusted_until = float("-inf")
        self._next_probe = float("inf")
        self._wait = PROBE_AFTER
        self._probing = False

    def __len__(self) -> int:
        """Results that are held back."""
        return len(self._held)

    @property
    def alert(self) -> bool:
        """Whether there is anything that an answer would end."""
        return bool(self._failures)

    def failed(self, host: str, result: Held, visited: Callable[[], set[str]], now: float) -> bool:
        """A marked failure of a host; True: it is held back. `visited`: the hosts that this process visits."""
        if self.standing is Standing.WATCHING and now < self._trusted_until:
            return False
        self._failures.append((now, host))
        if self.standing is Standing.WATCHING:
            hosts, among = self._hosts(now), visited()
            if len(among | hosts) < HOSTS:
                return False
            if len(hosts) >= HOSTS and (len(self._failures) >= FETCHES or among <= hosts):
                self._suspect(now)
        self._held.append((now, result))
        return True

    def answered(self) -> list[Held]:
        """Something answered: the failures that were held back stand."""
        self._failures.clear()
        if self.standing is Standing.SUSPECTING:
            self.standing, self._next_probe = Standing.WATCHING, float("inf")
        return self._release()

    def overdue(self, now: float) -> list[Held]:
        """What was held back for as long as may be; of enough hosts, it is a suspicion too: the rest is silent."""
        over: list[Held] = []
        while self.standing is Standing.WATCHING and self._held and self._held[0][0] + HOLD_SECONDS <= now:
            if len(self._hosts(now)) >= HOSTS:
                self._suspect(now)
            else:
                over.append(self._held.popleft()[1])
        return over

    def probe_due(self, now: float) -> bool:
        """Whether a probe is to be sent out now; then it is, and never two at one time."""
        if self._probing or now < self._next_probe:
            return False
        self._next_probe = float("inf")
        self._probing = True
        return True

    def probed(self, works: bool, now: float) -> list[Held]:
        """What a probe found: the results that stand now. OFFLINE after it: its owner drops what is held."""
        self._probing = False
        if self.standing is Standing.WATCHING:
            return []
        if works:
            self.standing = Standing.WATCHING
            self._trusted_until = now + TRUSTED_SECONDS
            self._wait = PROBE_AFTER
            self._failures.clear()
            return self._release()
        if self.standing is Standing.SUSPECTING:
            self._wait = PROBE_AFTER
        self.standing = Standing.OFFLINE
        self._next_probe = now + self._wait
        self._wait = min(2 * self._wait, MAX_PROBE_AFTER)
        return []

    def drop_held(self) -> list[Held]:
        """What was held back does not count: its owner does it again."""
        return self._release()

    def next_time(self) -> float:
        """When something here is due; never, while a probe is out or nothing is held."""
        if self._probing:
            return float("inf")
        if self.standing is Standing.WATCHING:
            return self._held[0][0] + HOLD_SECONDS if self._held else float("inf")
        return self._next_probe

    def _hosts(self, now: float) -> set[str]:
        """Those that failed lately, and nothing answered since."""
        while self._failures and self._failures[0][0] <= now - WINDOW_SECONDS:
            self._failures.popleft()
        return {host for _, host in self._failures}

    def _suspect(self, now: float) -> None:
        self.standing = Standing.SUSPECTING
        self._next_probe = now

    def _release(self) -> list[Held]:
        held = [result for _, result in self._held]
        self._held.clear()
        return held


def is_answer(facts: Facts) -> bool:
    """Whether somebody answered, so that this machine's network works. Silence after a connection says nothing."""
    return facts.status is not None or facts.outcome in _ANSWERS
