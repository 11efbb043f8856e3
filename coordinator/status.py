"""What a crawl is at this moment, in one frozen value; and how numbers are written for people.

Pure. watch.py makes it; the progress bar, the REST interface, `coord status`, summary.json and the metrics all show
the same `Status`. Times are seconds, sizes bytes, rates per second; None where a thing is not known. It is written as
JSON: later versions add keys, they never change or take one away.

Read next: waiting.py (what limits a crawl, in words), history.py (how it was before).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from common.errors import ProtocolError


class Phase(StrEnum):
    """What the coordinator is about; only the last two are ends."""

    SEEDING = "seeding"
    """Seeds are being read; fetching goes on meanwhile."""
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    """Nothing to fetch right now: for workers, for politeness, for seeds (`--stay`)."""
    CLOSING = "closing"
    """All shards are quiet; they are being asked whether they still are."""
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    """Ended before all was done; the same command goes on."""


AGAIN = ("new", "changed", "unchanged", "vanished")
"""What a recrawl says of pages, in the order in which it is told."""


@dataclass(frozen=True, slots=True)
class HostCounts:
    """Hosts with something left to fetch, by state; `known` counts all that were ever met."""

    known: int = 0
    ready: int = 0
    """Due and not lent: only workers are missing."""
    waiting: int = 0
    """Not due yet."""
    leased: int = 0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process."""

    host: str
    pid: int
    lanes: int = 0
    """Fetches it may have in flight."""
    in_flight: int = 0
    rate: float = 0.0
    """Pages a second, of late."""
    heard_seconds: float = 0.0
    """Since it last said something."""
    cpu_percent: int = 0
    """Of one processor."""
    rss_bytes: int = 0
    """Resident memory."""
    lag_ms: int = 0
    """By how much its event loop was late at last."""
    offline: bool = False
    """It sees no network: every host failed at once."""
    held_bytes: int = 0
    """Of bodies, as they were received."""
    fetched: int = 0
    """Tries since it was started."""
    extract_percent: int = 0
    """Of its time, that extractors took of late."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host with something to tell; of those in memory, which are the latest 20,000 with work."""

    host: str
    queued: int = 0
    """Requests to come, retries that wait included."""
    delay_seconds: float = 0.0
    """In force: the largest of what was asked for and what its answers told."""
    per_host: int = 1
    alone_seconds: float = 0.0
    """What its queue takes at its delay, however fast everything else is."""
    elapsed_seconds: float | None = None
    """Median of its last response times."""
    failures: int = 0
    """In a row."""
    finished: int = 0
    given_up: str = ""
    """Why nothing of it is fetched any more."""


@dataclass(frozen=True, slots=True)
class FailedTry:
    """A fetch that failed. All text is safe for a terminal."""

    at: str
    """RFC 3339."""
    url: str
    outcome: str
    error: str = ""
    again: bool = False
    """It will be tried again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that the crawl waits for, or that limits it."""

    what: str
    """A stable code: `politeness`, `retries`, `no_workers`, ...; docs/metrics.md has them all."""
    text: str
    """In words, one line, the hint included. Safe for a terminal."""
    count: int = 0
    """Of what it is about: hosts, retries, workers."""
    until_seconds: float | None = None
    """Until the first of them is over, as far as that is known."""
    examples: tuple[str, ...] = ()
    """At most five: hosts, addresses, workers."""
    hint: str = ""
    """What a person could do."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Lines of the inputs so far."""

    read: int = 0
    bad: int = 0
    """Refused: no URL, too long, ...; each is told in DIR/seeds with its line number."""
    reading: bool = False


@dataclass(frozen=True, slots=True)
class SeedEnd:
    """How one of the first seeds ended: what the last screen says when no seed gave a page."""

    seed: str
    outcome: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A crawl at one moment."""

    phase: Phase
    directory: str
    """DIR, as the person gave it."""
    started_at: str = ""
    """RFC 3339; when this coordinator started."""
    elapsed_seconds: float = 0.0
    """Since then."""
    pages: int = 0
    """Requests that reached an end, over all starts: the lines of `pages`, so without sitemaps."""
    pages_now: int = 0
    """Of them, since this coordinator started."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Requests by outcome."""
    rate: float = 0.0
    """Pages a second, over the last ten seconds."""
    rate_average: float = 0.0
    """Since this coordinator started."""
    bytes_received: int = 0
    """Bodies as they came over the wire."""
    bytes_rate: float = 0.0
    in_flight: int = 0
    admitted: int = 0
    queued: int = 0
    leased: int = 0
    hosts: HostCounts = HostCounts()
    errors: int = 0
    """Requests that ended in state FAILED."""
    workers: tuple[WorkerStatus, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    """URLs found but never admitted, by the scope rule that refused them."""
    guarded: Mapping[str, int] = field(default_factory=dict)
    """Requests set aside as TRAP, by the guard that did it."""
    relinked: int = 0
    """Visits made again for links alone, because a page was found nearer to the seeds."""
    items: Mapping[str, int] = field(default_factory=dict)
    """Items by kind: lines of items/NAME, those of pages that were tried anew left out."""
    unextracted: int = 0
    """Pages whose items are lost, for an extractor failed; their `reason` is `extract`."""
    extract_error: str = ""
    """The first such page since this coordinator started, and what was wrong. Safe for a terminal."""
    sitemaps: int = 0
    """Sitemaps that reached an end. They have no line, and are in no other count of what ended."""
    files: int = 0
    """Downloads that ended with a file; two may share one."""
    file_bytes: int = 0
    """Of the files that are kept, each once."""
    poison: tuple[str, ...] = ()
    """URLs that ended as POISON, the first ten. Safe for a terminal."""
    round: int = 0
    """0, then one more with each recrawl."""
    again: Mapping[str, int] = field(default_factory=dict)
    """In a round of recrawling: pages that are `new`, `changed`, `unchanged`, `vanished`."""
    seeds: Seeds = Seeds()
    seed_ends: tuple[SeedEnd, ...] = ()
    """Of the first few seeds, those that gave no page."""
    eta_seconds: float | None = None
    limits: str = ""
    """What limits the crawl right now, in words: the text of the first of `waiting`."""
    waiting: tuple[Waiting, ...] = ()
    """All that it waits for or is limited by, the most telling first."""
    retries_waiting: int = 0
    """Of `queued`: requests that failed and wait to be tried again."""
    held_back: int = 0
    """Of `queued`: what a budget keeps from being lent."""
    tries: Mapping[str, int] = field(default_factory=dict)
    """Fetches by what they came to, robots.txt included, since this coordinator started."""
    recent_errors: tuple[FailedTry, ...] = ()
    """The last 20, the newest first; since this coordinator started."""
    long_queues: tuple[HostStatus, ...] = ()
    """The ten hosts that hold the end back most, of those in memory."""
    slow_hosts: tuple[HostStatus, ...] = ()
    failing_hosts: tuple[HostStatus, ...] = ()
    retried: int = 0
    """Requests that had ended and were queued again by a person."""
    near_duplicates: int = 0
    """Pages nearly equal to an earlier one; since this coordinator started."""
    revisits: int = 0
    """Records of a payload that was stored before."""
    commits: int = 0
    """Over all starts."""
    commits_rate: float = 0.0
    commit_seconds: float = 0.0
    """How long the last commit took, or the one under way has taken if that is longer."""
    workers_joined: int = 0
    """Processes, since this coordinator started."""
    workers_died: int = 0
    """Of them, those that their supervisor reported dead."""
    protocol_errors: int = 0
    """Messages that broke the protocol; their senders are not listened to any more."""
    unroutable: int = 0
    """Messages for workers that were gone."""
    cpu_percent: int = 0
    """Of one processor, of the coordinator."""
    disk_free_bytes: int = 0
    memory_bytes: int = 0
    """Resident, of the coordinator."""
    http: str = ""
    """Where status and steering are served."""
    worker_command: str = ""
    """What to run on another machine."""
    command: str = "coord crawl"
    """The command that goes on with this crawl."""
    reason: str = ""
    """Why it ended, when it did: `--max-pages`, `stopped by hand`, ..."""
    exit_code: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As REST and summary.json give it: plain values, later versions add keys."""
        return asdict(self)

    @classmethod
    def from_json(cls, read: object) -> Self:
        """What another version's coordinator may have written: unknown keys are left out, missing ones
        default.

        Raises `ProtocolError` for what is no status at all.
        """
        if not isinstance(read, dict):
            raise ProtocolError("status: not an object")
        try:
            given = _known(cls, read)
            given["phase"] = Phase(given["phase"])
            given["hosts"] = HostCounts(**_known(HostCounts, given.get("hosts", {})))
            given["seeds"] = Seeds(**_known(Seeds, given.get("seeds", {})))
            given["workers"] = tuple(
                WorkerStatus(**_known(WorkerStatus, w)) for w in given.get("workers", ())
            )
            given["poison"] = tuple(given.get("poison", ()))
            given["seed_ends"] = tuple(SeedEnd(**_known(SeedEnd, s)) for s in given.get("seed_ends", ()))
            given["waiting"] = tuple(
                Waiting(**_known(Waiting, w) | {"examples": tuple(w.get("examples", ()))})
                for w in given.get("waiting", ())
            )
            given["recent_errors"] = tuple(
                FailedTry(**_known(FailedTry, e)) for e in given.get("recent_errors", ())
            )
            for name in ("long_queues", "slow_hosts", "failing_hosts"):
                given[name] = tuple(HostStatus(**_known(HostStatus, h)) for h in given.get(name, ()))
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"status: {error}") from None


# -- numbers for people


def size_text(count: float) -> str:
    """Bytes as people read them: `512 B`, `3.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def number_text(count: int) -> str:
    """A count with its thousands parted."""
    return f"{count:,}"


def rate_text(rate: float) -> str:
    """A rate with as many digits as mean something."""
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def time_text(seconds: float) -> str:
    """A duration: `8 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """`1 host`, `3 hosts`, `2 fetches`."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def _known(cls: type, read: Mapping[str, Any]) -> dict[str, Any]:
    names = {of.name for of in fields(cls)}
    return {name: value for name, value in read.items() if name in names}
