"""Whether a process is stuck in what it parses, or grows too much over it: decided look by look (PROTOCOL rule 24).

No I/O, no clock, no killing: the supervisor looks twice a second at each of its processes and tells what it saw.

A mark's age is not what a clock says between two moments: the machine may have slept, or somebody stopped the
processes, and an innocent page would be accused. It is what the looks add up to while the same mark stands:

    the process was stopped (SIGSTOP, a debugger)     nothing
    it waited for something                           the time since the look before
    it ran, or waited for the disk or for memory      the processor time that it used, or half of that time

and never more for one look than looks are apart. So a supervisor that was away costs a page nothing, and a processor
that others have at most half; not nothing, because its lease runs out meanwhile, and with it what the mark says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.mark import Parsing

LOOK_SECONDS: Final = 0.5
"""Between two looks. One costs 25 µs a process; a page can take about a gigabyte in between."""

_STOPPED: Final = "Tt"
_RAN: Final = "RD"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel says of a process. `state`: a letter as in proc_pid_stat(5); `cpu`: seconds used so far."""

    state: str
    cpu: float
    resident: int


@dataclass(slots=True)
class _Standing:
    """A mark that stood at the last look: its age in seconds, and the resident bytes from before it was set."""

    age: float
    before: int


class Watch:
    """Follows one process."""

    def __init__(self) -> None:
        self._standing: dict[tuple[int, int], _Standing] = {}
        self._last: Seen | None = None
        self._at = 0.0

    def look(
        self, marks: Sequence[Parsing], seen: Seen, bounds: tuple[float, int], now: float
    ) -> tuple[Parsing, str] | None:
        """A mark that broke a bound, and how, for people; None: all is well.

        `bounds`: (seconds, bytes), zero: none. `now`: seconds.
        """
        last, passed = self._last, self._passed(seen, now)
        before = seen.resident if last is None else last.resident
        self._last, self._at = seen, now
        standing: dict[tuple[int, int], _Standing] = {}
        broken: tuple[Parsing, str] | None = None
        for mark in marks:
            key = (mark.slot, mark.number)
            known = self._standing.get(key)
            if known is None:
                known = _Standing(0.0, before)
            else:
                known.age += passed
            standing[key] = known
            seconds, size = bounds
            if seconds and known.age >= seconds:
                broken = mark, f"not done with it after {known.age:.1f} s"
            elif size and seen.resident - known.before >= size:
                broken = mark, f"{(seen.resident - known.before) >> 20} MiB of memory for it"
        self._standing = standing
        return broken

    def _passed(self, seen: Seen, now: float) -> float:
        """What the time since the look before counts as."""
        last = self._last
        if last is None or seen.state in _STOPPED or last.state in _STOPPED:
            return 0.0
        since = min(now - self._at, LOOK_SECONDS)
        if seen.state in _RAN:
            since = max(since / 2, min(seen.cpu - last.cpu, since))
        return since


def parse_stat(text: str, *, ticks: int, page: int) -> Seen:
    """Read /proc/PID/stat; `ticks` a second, bytes of a `page`. ValueError or IndexError: it is no such file."""
    fields = text.rpartition(")")[2].split()
    return Seen(fields[0], (int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page)
