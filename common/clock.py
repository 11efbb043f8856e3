"""Where time comes from: the only file outside tests that reads a clock.

`now()` counts seconds that really passed, also those a laptop slept (PROTOCOL rule 8: a worker that slept
through its lease must notice); it means nothing after a reboot and is never stored. `wall()` is for people
and for files.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)

if _BOOTTIME is not None:
    _clock: int = _BOOTTIME

    def now() -> float:
        """Seconds since the machine started, sleep included."""
        return time.clock_gettime(_clock)

else:  # macOS: its CLOCK_MONOTONIC counts sleep, which is all we want of CLOCK_BOOTTIME
    now = time.monotonic


def wall() -> float:
    """Seconds since 1970 by the clock on the wall, which may jump."""
    return time.time()


def rfc3339(wall_seconds: float) -> str:
    """A moment as RFC 3339 in UTC with milliseconds: `2026-05-01T12:00:00.250Z`, as in `pages` and
    WARC-Date."""
    moment = datetime.fromtimestamp(wall_seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
