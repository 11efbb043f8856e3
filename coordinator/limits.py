"""What a crawl may take, looked at now and then: time, bytes, and room on the disk.

--max-time and --max-total-bytes end it; while less than --min-free is left it pauses. The budgets of pages are exact,
and another matter: budgets.py.
"""

from __future__ import annotations

from pathlib import Path

from common.config import CrawlConfig
from common.log import get_logger
from coordinator.sink import room

log = get_logger("coordinator.limits")


class Limits:
    """The limits of one run."""

    def __init__(self, directory: Path, *, begun: float) -> None:
        """`begun`: monotonic seconds."""
        self._directory = directory
        self._begun = begun
        self.disk_short = False
        """Less than --min-free is left, as of the last look."""

    def reached(self, config: CrawlConfig, *, bytes_received: int, now: float) -> str | None:
        """The option whose limit is reached; None: go on."""
        if config.max_time is not None and now - self._begun >= config.max_time:
            return "--max-time"
        if config.max_total_bytes is not None and bytes_received >= config.max_total_bytes:
            return "--max-total-bytes"
        return None

    def look_at_disk(self, min_free: int) -> bool:
        """Whether `disk_short` has changed; that is told in the log."""
        free = room(self._directory)
        short = free < min_free
        if short == self.disk_short:
            return False
        self.disk_short = short
        log.warning("disk.short" if short else "disk.enough", free_bytes=free, min_free=min_free)
        return True
