"""How many processors this process may really use: what `--procs` is when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def processors(cgroup: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> int:
    """Processors by affinity and by the container's quota, whichever is less; at least 1.

    A container with half a processor gets 1: a process that waits for its turn still fetches.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    quota = _quota(cgroup, own)
    return max(1, count if quota is None else min(count, int(quota)))


def _quota(cgroup: Path, own: Path) -> float | None:
    """Processors by `cpu.max` (cgroup 2: "QUOTA PERIOD" in microseconds) of our group and those above it;
    None: no limit."""
    limits = []
    for folder in _groups(cgroup, own):
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            if quota != "max":
                limits.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # the root has none; cgroup 1 has other files, and affinity must do
    return min(limits, default=None)


def _groups(cgroup: Path, own: Path) -> list[Path]:
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return [cgroup]
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    below = [part for part in path.split("/") if part and part != ".."]
    return [cgroup.joinpath(*below[:depth]) for depth in range(len(below) + 1)]
