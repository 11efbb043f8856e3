"""What this process takes of its machine: processor time and resident memory. Two cheap looks, no library."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class OwnLoad:
    """Asked once in a while; the share of a processor is that since the time before. 30 µs."""

    def __init__(self) -> None:
        self._cpu, self._at = time.process_time(), time.monotonic()

    def cpu_percent(self) -> int:
        """Of one processor, rounded; above 100 where libraries have threads of their own."""
        cpu, at = time.process_time(), time.monotonic()
        share = (cpu - self._cpu) / max(at - self._at, 1e-3)
        self._cpu, self._at = cpu, at
        return min(round(100 * share), 65_535)


def resident_bytes() -> int:
    """Resident memory; 0 where the kernel does not say (only Linux has /proc)."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
