"""What follows from an outcome: try again or not, when, and what it says about the host. A table and a few numbers.

Nothing here knows a queue or a clock. A *try* is one fetch of a request; `--retries` bounds how many follow the
first. A failure that counts against the host makes the host wait longer each time (backoff); at HOST_FAILURES of
them in a row, with nothing that worked in between, the host is given up and all that is queued for it becomes
FAILED(HOST_UNREACHABLE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.outcome import OUTCOMES, Outcome

RETRY_DELAY = 10.0
"""Seconds before the second try of a request; each further one waits three times as long as the one before."""

MAX_RETRY_DELAY = 900.0
"""Seconds; also the most that a Retry-After is obeyed for."""

HOST_BACKOFF = 2.0
"""Seconds that a host waits after its first failure in a row; doubles with each."""

MAX_HOST_BACKOFF = 300.0

HOST_FAILURES = 10
"""Failures in a row after which a host is given up."""

ROBOTS_WAITS = (60.0, 300.0, 900.0, 2340.0)
"""Seconds between the tries of an unreachable robots.txt: five tries within an hour (contract, section 3)."""

PENALTY = 1.0
"""Seconds that the delay is at least after a first refusal (429, 503) or time-out; doubles with each further one."""

MAX_PENALTY = 60.0

PENALTY_FADES = 0.9
"""What is left of the penalty after each fetch that went well: half of it after seven."""

MAX_WAIT = max(MAX_RETRY_DELAY, *ROBOTS_WAITS)
"""Seconds; no request waits longer for its next try."""

MAX_CRAWL_DELAY = 60.0
MAX_ADAPTIVE_DELAY = 30.0

LEASE_SECONDS = 20.0
"""About how long a lease should take at the host's delay."""

MAX_LEASE_REQUESTS = 512

ROBOTS_LIFETIME = 24 * 3600.0
"""Seconds that a robots.txt may be used (RFC 9309, 2.4)."""

ROBOTS_STALE = 7 * 24 * 3600.0
"""Seconds that an older one may serve while the server fails."""

NO_HTTPS = frozenset((Outcome.REFUSED, Outcome.TLS, Outcome.ROBOTS_UNREACHABLE))
"""What the https address of a bare host may come to so that its http address is tried. Whoever could bring about one
of them between us and the host could bring about the others, so TLS protects no less than a refusal."""

POISON_DEATHS = 3
"""Processes that a page may take with it before it is set aside (PROTOCOL rule 24)."""

ADDRESS_WAIT = 5.0
"""Seconds until more hosts of an address that is not busy are called up from its line (--per-ip), where those that were
called up when others were done turned out to have nothing to lend."""

ADDRESS_LOOKS = 200
"""Hosts that join the line of their address in one step at most, or are called up from it; 0.2 ms each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`again`: whether another try may help. `host`: whether it is a sign that the host is in trouble."""

    again: bool
    host: bool


PROXY_SAYS_HOST = "proxy_gateway"
"""The reason of a PROXY outcome that speaks of the host: the proxy could not reach it."""

RULES: dict[Outcome, Rule] = {
    Outcome.SERVER_ERROR: Rule(again=True, host=False),
    Outcome.TRUNCATED: Rule(again=True, host=False),
    Outcome.TIMEOUT: Rule(again=True, host=True),
    Outcome.DNS: Rule(again=True, host=True),
    Outcome.REFUSED: Rule(again=True, host=True),
    Outcome.RESET: Rule(again=True, host=True),
    Outcome.PROXY: Rule(again=True, host=True),
    Outcome.PROTOCOL: Rule(again=True, host=False),
}
"""Outcomes that are not here are final and say nothing about the host."""

_FINAL = Rule(again=False, host=False)
BUSY = frozenset((429, 503))
"""Statuses by which a server asks for rest."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`retry_in`: seconds until the next try, None: the outcome stands. `host_wait`: seconds the host rests."""

    retry_in: float | None
    host_wait: float
    host_failed: bool


STANDS = Decision(None, 0.0, False)
"""The outcome is final and says nothing about the host."""


def decide(
    outcome: Outcome,
    status: int | None,
    retry_after: float | None,
    *,
    tries: int,
    retries: int,
    failures: int,
    reason: str | None = None,
) -> Decision:
    """What to do after a try: `tries` made so far with this one, `failures` of the host in a row before it."""
    busy = status in BUSY
    rule = Rule(again=True, host=True) if busy else RULES.get(outcome, _FINAL)
    if outcome is Outcome.PROXY and reason != PROXY_SAYS_HOST:
        rule = Rule(again=True, host=False)  # a dead proxy is no sign of what is behind it
    retry_in = None
    if rule.again and tries <= retries:
        retry_in = min(RETRY_DELAY * 3 ** (tries - 1), MAX_RETRY_DELAY)
    host_wait = backoff(failures + 1) if rule.host else 0.0
    if busy and retry_after is not None:
        asked = min(retry_after, MAX_RETRY_DELAY)
        host_wait = max(host_wait, asked)
        if retry_in is not None:
            retry_in = max(retry_in, asked)
    return Decision(retry_in, host_wait, rule.host)


def wait_left(due_wall: float, wall: float) -> float:
    """Seconds that a request still waits. One that is further away than any may be: the clock was set back."""
    left = due_wall - wall
    return 0.0 if left > MAX_WAIT else max(0.0, left)


def robots_wait(verdict: str, tries: int, retries: int, retry_after: float | None) -> float | None:
    """Seconds until a robots.txt that did not come is asked for again, after `tries` in a row; None: that was the last.

    `retry_after`: what its server asks for, seconds.
    """
    if verdict == Outcome.ROBOTS_UNREACHABLE:
        if tries > len(ROBOTS_WAITS):
            return None
        return max(ROBOTS_WAITS[tries - 1], min(retry_after or 0.0, MAX_RETRY_DELAY))
    rule = RULES.get(Outcome(verdict)) if verdict in OUTCOMES else None
    if rule is None or not rule.again or tries > retries:
        return None
    return float(RETRY_DELAY * 3 ** (tries - 1))


def backoff(failures: int) -> float:
    """Seconds that a host rests after `failures` (one or more) in a row."""
    return min(HOST_BACKOFF * 2.0 ** (min(failures, 20) - 1), MAX_HOST_BACKOFF)


def penalty(before: float, outcome: Outcome, status: int | None, delay: float) -> float:
    """Seconds that the delay is never below after this try: more after a refusal, slowly less after what went well."""
    if asks_for_rest(outcome, status):
        return min(max(PENALTY, 2 * max(before, delay)), MAX_PENALTY)
    if status is None or before == 0.0:
        return before
    faded = before * PENALTY_FADES
    return faded if faded > max(delay, 0.05) else 0.0


def asks_for_rest(outcome: Outcome, status: int | None) -> bool:
    """Whether a host has had enough for now: what it was lent goes back, for the terms do not hold any more."""
    return status in BUSY or outcome is Outcome.TIMEOUT


def delay_in_force(
    configured: float, crawl_delay: float, elapsed_ms: Sequence[int], penalised: float = 0.0
) -> float:
    """Seconds from the end of one fetch to the start of the next: the largest of four (contract, `--delay`).

    A configured delay of 0 means that the site is one's own: response times do not matter then.
    """
    delay = max(configured, min(crawl_delay, MAX_CRAWL_DELAY), penalised)
    if configured > 0 and elapsed_ms:
        median = sorted(elapsed_ms)[len(elapsed_ms) // 2] / 1000
        delay = max(delay, min(median, MAX_ADAPTIVE_DELAY))
    return delay


def lease_size(delay: float, lanes: int) -> int:
    """How many requests a lease of so many lanes should hold: about LEASE_SECONDS of work, and a bound."""
    each = 8 if delay <= 0 else max(1, min(50, int(LEASE_SECONDS / delay)))
    return min(lanes * each, max(lanes, 64), MAX_LEASE_REQUESTS)
