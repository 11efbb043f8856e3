"""When to say in the log that nothing is fetched: after a minute, then each time it has lasted twice as long.

Pure; `now` is monotonic seconds. It sees only whether tries come in; why none do is waiting.py's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

STILL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Still:
    """Something to tell: nothing was fetched for so long, or (`over`) until now."""

    seconds: float
    over: bool


class Watchdog:
    """Looks at the count of tries, whenever somebody looks at the crawl."""

    def __init__(self, now: float) -> None:
        self._tries = 0
        self._moved_at = now
        self._next = STILL_SECONDS

    def look(self, tries: int, now: float) -> Still | None:
        """`tries`: all so far."""
        seconds = now - self._moved_at
        if tries != self._tries:
            told = self._next > STILL_SECONDS
            self._tries, self._moved_at, self._next = tries, now, STILL_SECONDS
            return Still(seconds, True) if told else None
        if seconds < self._next:
            return None
        while self._next <= seconds:
            self._next *= 2
        return Still(seconds, False)
