"""The slow-server workload: 100, 1,000, 10,000 URLs of a server that answers each after three seconds.

All ways are timed from the first connection that the server accepts, so nobody's start-up counts, to the
moment the client has read the last answer. For Shoal that is told by the server, and the time to the end of
the command, with everything stored, beside it. What would take longer than a minute is extrapolated from a
smaller run.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.benchmark import clients, crawlers, measure, server

_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to fetch them all."""

    key: str
    name: str
    at_once: int | None
    """How many fetches it has under way at most; None: as many as there are URLs."""


WAYS: Final = (
    Way("one", "requests one after another", 1),
    Way("processes", f"multiprocessing.Pool, {clients.PROCESSES} processes", clients.PROCESSES),
    Way("threads", f"a pool of {clients.THREADS:,} threads", clients.THREADS),
    Way("aiohttp", "asyncio + aiohttp on uvloop", None),
    Way("aiomultiprocess", "aiomultiprocess.Pool, 2 processes, tuned", None),
    Way("bare", "a bare protocol on uvloop, no HTTP library", None),
    Way("shoal", "Shoal, 2 processes, everything stored", None),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one way took for so many URLs."""

    way: str
    urls: int
    seconds: float | None
    """First connection to last answer; None: it failed."""
    to_exit: float | None = None
    """First connection to the end of the command, with everything durable; Shoal's only."""
    extrapolated_from: int | None = None
    error: str | None = None


def timed(way: Way, urls: int, *, port: int, scratch: Path) -> Timing:
    """Fetch so many URLs, or as many as a minute allows."""
    fetched = urls
    if way.at_once is not None and urls / way.at_once * server.SLOW > 60:
        # A few rounds show what a round costs; the rest are like them.
        fetched = way.at_once * min(10, 60 // int(server.SLOW)) if way.at_once > 1 else 3
    command = [sys.executable, "-m", "scripts.benchmark.clients", way.key, str(port), str(fetched)]
    if way.key == "shoal":
        command = _shoal(fetched, port, scratch)
    server.ask(port, "reset")
    cost = measure.run(command, log=scratch / "log", timeout=_TIMEOUT)
    counts = server.ask(port)
    if cost.exit_code or counts.pages != fetched:
        said = (scratch / "log").read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        return Timing(way.name, urls, None, error=f"{counts.pages} of {fetched} answered; {said[0]}")
    if way.key == "shoal":
        seconds = counts.last - counts.first
        stored = len(crawlers.shoal_found(scratch / "out"))
        error = None if stored == urls else f"{stored} of {urls} stored"
        return Timing(way.name, urls, seconds, to_exit=cost.ended - counts.first, error=error)
    seconds = float((scratch / "log").read_text()) - counts.first
    if fetched != urls:
        return Timing(way.name, urls, seconds * urls / fetched, extrapolated_from=fetched)
    return Timing(way.name, urls, seconds)


def _shoal(urls: int, port: int, scratch: Path) -> list[str]:
    shutil.rmtree(scratch / "out", ignore_errors=True)
    (scratch / "out").mkdir()
    seeds = scratch / "seeds.txt"
    seeds.write_text("".join(f"http://127.0.0.1:{port}/?n={number}\n" for number in range(urls)))
    return [
        *crawlers.coord(),
        *("crawl", str(seeds), "--out", str(scratch / "out" / "crawl"), "--no-follow", "--delay", "0"),
        *("--per-host", "10000", "--concurrency", "10000", "--procs", "2", "--ignore-robots"),
        *("--allow-private", "--no-progress"),
    ]
