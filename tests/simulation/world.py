"""Virtual time: one heap of what will happen, one random generator that decides everything, one trace of it all.

Time here is true seconds since the run began. Machines have clocks of their own, which differ from it by an offset.
What happens at one time happens in the order in which it was planned, so a seed gives the same run to the byte.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from hashlib import sha256
from random import Random

Action = Callable[[], None]


class Broken(AssertionError):
    """A promise was not kept. `about`: words whose lines of the trace tell how it came to that."""

    def __init__(self, promise: str, text: str, about: Iterable[str] = ()) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise
        self.about = tuple(about)


class Plan:
    """One thing that will happen, unless it is cancelled."""

    __slots__ = ("action", "time")

    def __init__(self, time: float, action: Action) -> None:
        self.time = time
        self.action: Action | None = action

    def cancel(self) -> None:
        """It will not happen."""
        self.action = None


class Line:
    """One line of the trace; made into text only when somebody reads it."""

    __slots__ = ("detail", "time", "verb", "who")

    def __init__(self, time: float, who: str, verb: str, detail: object) -> None:
        self.time = time
        self.who = who
        self.verb = verb
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.time:10.4f}  {self.who:<12} {self.verb:<9} {self.detail}"


class World:
    """The heap, the generator and the trace of one run."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.trace: list[Line] = []
        self._heap: list[tuple[float, int, Plan]] = []
        self._count = 0
        self._hash = sha256()
        self.after_step: list[Action] = []
        """Called after every step: the cheap checks."""

    def at(self, time: float, action: Action) -> Plan:
        """Plan something for a true time; a past one is now."""
        plan = Plan(max(time, self.now), action)
        self._count += 1
        heapq.heappush(self._heap, (plan.time, self._count, plan))
        return plan

    def after(self, seconds: float, action: Action) -> Plan:
        """Plan something for so many seconds from now."""
        return self.at(self.now + seconds, action)

    def tell(self, who: str, verb: str, detail: object = "", raw: bytes = b"") -> None:
        """Add a line to the trace. `raw`: the bytes that the detail stands for; without them its text counts."""
        self.trace.append(Line(self.now, who, verb, detail))
        self._hash.update(f"{self.now!r} {who} {verb} ".encode())
        self._hash.update(raw or str(detail).encode())

    @property
    def fingerprint(self) -> str:
        """Of the whole run so far."""
        return self._hash.hexdigest()

    def step(self) -> bool:
        """Let the next thing happen; False: nothing is planned."""
        while self._heap:
            time, _, plan = heapq.heappop(self._heap)
            action, plan.action = plan.action, None
            if action is None:
                continue
            self.now = time
            self.steps += 1
            action()
            for check in self.after_step:
                check()
            return True
        return False

    def story(self, about: Iterable[str], last: int) -> list[str]:
        """The last lines of the trace in which one of the words stands."""
        words = [word for word in about if word]
        lines = []
        for line in reversed(self.trace):
            text = str(line)
            if not words or any(word in text for word in words):
                lines.append(text)
                if len(lines) == last:
                    break
        return lines[::-1]
