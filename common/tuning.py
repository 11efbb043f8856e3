"""Numbers nobody should have to know; section [tuning] of a configuration file, no flags.

Read next: `common/options.py` (what `option` says about a field).
"""

from __future__ import annotations

from dataclasses import dataclass

from common.options import BYTES, SECONDS, Option, above_zero, option, options_of, whole


@dataclass(frozen=True, slots=True)
class Tuning:
    """Numbers nobody should have to know, in section [tuning] of a configuration file; no flags."""

    lease_ttl: float = option(
        30.0,
        above_zero(SECONDS),
        "tuning",
        wire=True,
        help="time a lease holds after the worker last heard of it (T in PROTOCOL.md)",
        why="longer than any pause of a healthy process, yet a dead one's URLs are soon lent again",
    )
    heartbeat: float = option(
        5.0,
        above_zero(SECONDS),
        "tuning",
        wire=True,
        help="time between a worker's heartbeats",
        why="six tries within a lease",
    )
    commit_interval: float = option(
        0.05,
        SECONDS,
        "tuning",
        help="time a shard collects pages and links before it makes them durable together",
        why="an fsync costs some milliseconds: 20 a second leave the disk time to work",
    )
    commit_bytes: int = option(
        8 << 20,
        BYTES,
        "tuning",
        help="bytes after which a shard commits without waiting for the interval",
        why="bounds what a shard holds in memory and what a crash sends again",
    )
    shards: int = option(
        1,
        whole(),
        "tuning",
        fixed=True,
        help="shard processes of the coordinator",
        why="one feeds about ten worker cores",
    )
    unacknowledged_pages: int = option(
        512,
        whole(),
        "tuning",
        wire=True,
        help="pages a worker process may hold that no shard has acknowledged; then it stops fetching",
        why="0.5 s at 1,000 pages/s: longer than a commit, shorter than what memory allows",
    )
    unacknowledged_bytes: int = option(
        64 << 20,
        above_zero(BYTES),
        "tuning",
        wire=True,
        help="bytes of records a worker process may hold unacknowledged",
        why="about 4,000 compressed pages, or a few large ones",
    )
    sent_links: int = option(
        1 << 20,
        whole(),
        "tuning",
        wire=True,
        help="links a worker process remembers as sent, so as not to send them again",
        why="17 bytes each, about 17 MiB a process for a million; it may forget, the seen-set decides",
    )
    parse_seconds: float = option(
        10.0,
        above_zero(SECONDS),
        "tuning",
        wire=True,
        help="time that reading one page may take; then its process is killed and the page suspected; "
        "at most a third of lease_ttl",
        why="the worst page known takes some seconds; and the lease must last until the death is told",
    )
    parse_memory: int = option(
        1 << 30,
        above_zero(BYTES),
        "tuning",
        wire=True,
        help="bytes by which a process may grow while it reads one page; then as above",
        why="three times what the worst page known takes",
    )
    rotate_bytes: int = option(
        1 << 30,
        above_zero(BYTES),
        "tuning",
        help="size at which an output file is closed and the next begun",
        why="what archives use: one gibibyte",
    )
    log_rotate_bytes: int = option(
        64 << 20,
        above_zero(BYTES),
        "tuning",
        help="size at which a log file is closed; four are kept",
        why="some days of a busy crawl",
    )


TUNING: dict[str, Option] = options_of(Tuning)
"""The numbers of section [tuning], by key."""
