"""How a crawl went: rates of the last seconds, and a short history for charts. In memory only, and bounded.

No clock: `now` (monotonic seconds) and `wall` come in with the totals. A point stands for the time since the point
before it: what was counted is told per second, what is a level (in flight, queued) as it was at its end.

    History  a point a second for ten minutes, a point a minute for a day: at most 2,040 points, some 400 KiB
    Meter    one rate over a sliding window
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

SECONDS_KEPT = 600
MINUTES_KEPT = 1440

SAMPLE_SECONDS = 0.25


class Meter:
    """Events a second over the last `window` seconds, from totals noted now and then; bounded memory."""

    def __init__(self, window: float = 10.0) -> None:
        self._window = window
        # At most one sample a quarter second: 40 of them.
        self._samples: deque[tuple[float, float]] = deque()

    def note(self, total: float, now: float) -> None:
        """The total so far. Where it falls (`coord retry` takes back what had ended) it is counted from there on."""
        if self._samples and total < self._samples[-1][1]:
            fell = self._samples[-1][1] - total
            self._samples = deque((then, before - fell) for then, before in self._samples)
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self._window:
            self._samples.popleft()

    def rate(self, total: float, now: float) -> float:
        """Events a second; 0 before two moments are known."""
        if not self._samples:
            return 0.0
        then, before = self._samples[0]
        return max(0.0, total - before) / (now - then) if now > then else 0.0

    def grown(self, total: float) -> float:
        """By how much the total grew within the window."""
        return total - self._samples[0][1] if self._samples else 0.0


class Totals(NamedTuple):
    """What is counted, and the two levels. `outcomes`: requests that ended, by outcome, over all starts."""

    pages: int
    bytes: int
    in_flight: int
    queued: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the history. Rates are per second; `at` is the wall time of its end."""

    at: float
    pages: float
    bytes: float
    in_flight: int
    queued: int
    outcomes: Mapping[str, float]


@dataclass(slots=True)
class _Series:
    step: float
    points: deque[Point]
    since: float = 0.0
    last: Totals | None = None

    def note(self, totals: Totals, now: float, wall: float) -> None:
        if self.last is None:
            self.since, self.last = now, totals
            return
        took = now - self.since
        if took < self.step:
            return
        before = self.last.outcomes
        self.points.append(
            Point(
                wall,
                max(0, totals.pages - self.last.pages) / took,
                max(0, totals.bytes - self.last.bytes) / took,
                totals.in_flight,
                totals.queued,
                {
                    name: (count - before.get(name, 0)) / took
                    for name, count in totals.outcomes.items()
                    if count > before.get(name, 0)
                },
            )
        )
        # Not `now`: the points would drift apart by the caller's period.
        self.since = self.since + self.step if took < 2 * self.step else now
        self.last = totals

    def to_json(self) -> dict[str, Any]:
        points = list(self.points)
        names = dict.fromkeys(name for point in points for name in point.outcomes)
        return {
            "step_seconds": self.step,
            "at": [round(point.at, 3) for point in points],
            "pages": [round(point.pages, 3) for point in points],
            "bytes": [round(point.bytes, 1) for point in points],
            "in_flight": [point.in_flight for point in points],
            "queued": [point.queued for point in points],
            "outcomes": {
                name: [round(point.outcomes.get(name, 0.0), 3) for point in points] for name in names
            },
        }


class History:
    """The last ten minutes by the second, the last day by the minute."""

    def __init__(self) -> None:
        self._seconds = _Series(1.0, deque(maxlen=SECONDS_KEPT))
        self._minutes = _Series(60.0, deque(maxlen=MINUTES_KEPT))

    def note(self, totals: Totals, now: float, wall: float) -> None:
        """What holds now; called several times a second, it keeps a point when one is due."""
        self._seconds.note(totals, now, wall)
        self._minutes.note(totals, now, wall)

    @property
    def latest(self) -> Point | None:
        """The last second."""
        return self._seconds.points[-1] if self._seconds.points else None

    def to_json(self) -> dict[str, Any]:
        """Columns, as charts take them: `seconds` and `minutes`, each with `at` (seconds since 1970) and what was
        then. Cost: some 30 ms when full, JSON included; it may be called from another thread."""
        return {"seconds": self._seconds.to_json(), "minutes": self._minutes.to_json()}
