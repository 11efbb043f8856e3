"""What a command cost: CPU by part, memory, time; read from /proc while it and all its descendants run.

CPU is user and system time of every thread. The total is the kernel's own count of reaped children; how it
divides into parts comes from samples, at most a tenth of a second old when a process ended. Memory is
resident set size, shared pages counted in each process that has them. Linux only.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_EVERY: Final = 0.1
"""Seconds between two samples: a few small files each, under one per cent of a core."""

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

Part = Callable[[str, str], str]
"""(command line of a process, its parent's part) → its part."""


@dataclass(slots=True)
class Cost:
    """What one command came to."""

    exit_code: int
    started: float
    ended: float
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds, by part."""
    peak_sum: int = 0
    """Bytes: the most that all its processes had at one time."""
    peak_one: int = 0
    """Bytes: the most that one of them had."""
    history: list[tuple[float, float]] = field(default_factory=list)
    """(time, seconds of CPU until then), as sampled."""

    @property
    def total(self) -> float:
        return sum(self.cpu.values())

    def until(self, moment: float) -> float:
        """Seconds of CPU used before a moment."""
        return max((cpu for at, cpu in self.history if at <= moment), default=0.0)


@dataclass(slots=True)
class _Process:
    part: str
    cpu: float = 0.0
    resident: int = 0


def run(
    command: Sequence[str], *, log: Path, timeout: float, part: Part = lambda line, parent: "all"
) -> Cost:
    """Run a command to its end, or kill it and its descendants after `timeout` seconds (exit code -9)."""
    before = _reaped()
    started = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    cost = Cost(0, started, started)
    known: dict[int, _Process] = {}
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(child.pid, part, known, cost, over), daemon=True)
    sampler.start()
    try:
        cost.exit_code = child.wait(timeout)
    except subprocess.TimeoutExpired:
        cost.exit_code = -9
    finally:
        cost.ended = time.monotonic()
        over.set()
        sampler.join()
        _end(child, known)
    for process in known.values():
        cost.cpu[process.part] = cost.cpu.get(process.part, 0.0) + process.cpu
    # What was used after the last sample of each process, in proportion.
    sampled = cost.total
    exact = _reaped() - before
    if sampled and exact > sampled:
        cost.cpu = {name: cpu * exact / sampled for name, cpu in cost.cpu.items()}
    return cost


def _sample(root: int, part: Part, known: dict[int, _Process], cost: Cost, over: threading.Event) -> None:
    while not over.wait(_EVERY):
        waiting = [(root, "")]
        for process in known.values():
            process.resident = 0
        while waiting:
            pid, parent = waiting.pop()
            try:
                if pid not in known:
                    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    known[pid] = _Process(part(line, parent))
                process = known[pid]
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                process.cpu = (int(fields[11]) + int(fields[12])) / _TICK
                process.resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
                for task in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                    waiting += [(int(each), process.part) for each in children]
            except OSError:
                continue  # it ended between two reads
        resident = [process.resident for process in known.values()]
        cost.peak_sum = max(cost.peak_sum, sum(resident))
        cost.peak_one = max(cost.peak_one, *resident, 0)
        cost.history.append((time.monotonic(), sum(process.cpu for process in known.values())))


def _end(child: subprocess.Popen[bytes], known: dict[int, _Process]) -> None:
    """Kill what is left: the command's session, and descendants that made one of their own."""
    left = {pid for pid in known if Path(f"/proc/{pid}").exists()}
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended, as it should
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()


def _reaped() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
