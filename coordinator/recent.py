"""What tries came to lately: counts since this start, and the last few that failed. Not stored.

The ledger counts how requests end; a try that is made again leaves no trace there, and without one nobody could say
that every try of the last minute found no address. Pure: a shard's core owns one, results.py writes it.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from common.messages import Facts, Request, Robots
from common.outcome import OUTCOMES, Outcome, State

ERRORS_KEPT = 20


class Failure(NamedTuple):
    """A try that failed; text as it came from the web."""

    wall: float
    url: str
    outcome: Outcome
    error: str
    again: bool


class Recent:
    """Written once for each result; about a microsecond."""

    __slots__ = ("errors", "extract_error", "near_duplicates", "tries")

    def __init__(self) -> None:
        self.tries: Counter[int] = Counter()
        """By the outcome's code; robots.txt included."""
        self.errors: deque[Failure] = deque(maxlen=ERRORS_KEPT)
        self.near_duplicates = 0
        self.extract_error: tuple[str, str] | None = None
        """(URL, error) of the first page whose extractor failed."""

    def page(self, request: Request, outcome: Outcome, facts: Facts, wall: float, *, again: bool) -> None:
        """A try of a request."""
        self.tries[outcome.code] += 1
        self.near_duplicates += facts.reason == "near_duplicate"
        if facts.reason == "extract" and self.extract_error is None:
            self.extract_error = request.url, facts.error or ""
        if outcome.state is State.FAILED or outcome is Outcome.SERVER_ERROR:
            status = "" if facts.status is None else f"status {facts.status}"
            error = facts.error or facts.reason or status
            self.errors.append(Failure(wall, request.url, outcome, error, again))

    def robots(self, robots: Robots, wall: float, *, again: bool) -> None:
        """A robots.txt; a verdict that is no outcome means that it could be read."""
        if robots.verdict not in OUTCOMES:
            self.tries[Outcome.OK.code] += 1
            return
        outcome = Outcome(robots.verdict)
        self.tries[outcome.code] += 1
        if outcome.state is State.FAILED:
            told = robots.error or ("" if robots.status is None else f"status {robots.status}")
            self.errors.append(Failure(wall, f"{robots.authority}/robots.txt", outcome, told, again))
