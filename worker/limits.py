"""Open files: how many fetches this process can have in flight. And memory: who goes first when there is none left.

The soft limit is raised to the hard one at start. A crawl's concurrency is known only later, from the
coordinator; then `fitting_concurrency` says what of it this process can serve.
"""

from __future__ import annotations

from pathlib import Path

from common.openfiles import raise_open_files

_RESERVED = 128
"""Files a process needs beside its fetches: sockets to the shards, DNS, logs, libraries, spares."""

ENOUGH_FILES = 1 << 20
"""More is never asked for."""

_GOES_FIRST = 300
"""As if it held three tenths of the machine's memory more than it does."""


def go_first(adjustment: Path = Path("/proc/self/oom_score_adj")) -> None:
    """When the machine is out of memory, the kernel kills something: a worker process, whose work is lent again, rather
    than a coordinator or somebody's desktop. Nothing where there is no such file (only Linux has one)."""
    try:
        adjustment.write_text(str(min(int(adjustment.read_text()) + _GOES_FIRST, 1000)))
    except (OSError, ValueError):
        pass


def fitting_concurrency(wanted: int, open_files: int | None = None) -> tuple[int, str | None]:
    """The fetches in flight that the limit on open files allows, and a line for people if it is fewer than wanted.

    `open_files`: the limit in force unless a test says otherwise.
    """
    room = max(1, (raise_open_files(ENOUGH_FILES) if open_files is None else open_files) - _RESERVED)
    if room >= wanted:
        return wanted, None
    return room, (
        f"open files are limited to {room + _RESERVED}: {room} fetches at once instead of {wanted}; "
        f"raise it with `ulimit -n {wanted + _RESERVED}`"
    )
