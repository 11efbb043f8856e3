"""What a crawl is at this moment, in one frozen value, and in words: what limits it, and how long it may
take.

Pure: the coordinator's app collects the facts, `limiting` and `estimate` say what they mean; the progress
bar, the REST interface, `coord status`, summary.json and the metrics all show the same `Status`. Times are
seconds, sizes bytes, rates per second; None where a thing is not known.
"""

from __future__ import annotations

from collections import deque
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
    """Requests that reached an end (`done` of the shards), over all starts."""
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
    round: int = 0
    """0, then one more with each recrawl."""
    again: Mapping[str, int] = field(default_factory=dict)
    """In a round of recrawling: pages that are `new`, `changed`, `unchanged`, `vanished`."""
    seeds: Seeds = Seeds()
    seed_ends: tuple[SeedEnd, ...] = ()
    """Of the first few seeds, those that gave no page."""
    eta_seconds: float | None = None
    limits: str = ""
    """What limits the crawl right now, in words."""
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
    """Why it ended, when it did: `max-pages`, `stopped by hand`, ..."""
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
            given["seed_ends"] = tuple(SeedEnd(**_known(SeedEnd, s)) for s in given.get("seed_ends", ()))
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"status: {error}") from None


class Meter:
    """Events a second over the last `window` seconds, from totals noted now and then; bounded memory."""

    def __init__(self, window: float = 10.0) -> None:
        self._window = window
        # At most one sample a quarter second: 40 of them.
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, total: int, now: float) -> None:
        """The total so far; it never falls."""
        if not self._samples or now - self._samples[-1][0] >= 0.25:
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self._window:
            self._samples.popleft()

    def rate(self, total: int, now: float) -> float:
        """Events a second; 0 before two moments are known."""
        if not self._samples:
            return 0.0
        then, before = self._samples[0]
        return (total - before) / (now - then) if now > then else 0.0


AGAIN = ("new", "changed", "unchanged", "vanished")
"""What a recrawl says of pages, in the order in which it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `limiting` looks at. Defaults mean "no sign of it"."""

    phase: Phase
    directory: str = "DIR"
    workers: int = 0
    """Processes heard of lately."""
    capacity: int = 0
    """Fetches they may have in flight together."""
    in_flight: int = 0
    queued: int = 0
    hosts_ready: int = 0
    hosts_waiting: int = 0
    hosts_leased: int = 0
    next_due_seconds: float | None = None
    """Until the first waiting host is due."""
    delay: float = 1.0
    """The delay in force for most hosts."""
    per_host: int = 1
    rate: float = 0.0
    max_rate: float | None = None
    held_back: int = 0
    """URLs that a budget (--max-pages, ...) keeps from being lent."""
    budget: str = ""
    """The option that does: `--max-pages`."""
    disk_free: int = 0
    min_free: int = 0
    memory_short: bool = False
    """Some worker waits because its --memory is used up."""
    worker_cpu: float | None = None
    """Mean share of a core that worker processes use, 0 to 1."""
    coordinator_cpu: float | None = None
    worker_command: str = ""
    """What to run for a worker; empty: workers are started by the coordinator itself."""


def limiting(facts: Facts) -> str:
    """What limits the crawl right now, and what a person could change, in one short line; the first that
    holds."""
    match facts.phase:
        case Phase.PAUSED:
            return f"paused by hand: `coord resume {facts.directory}` goes on"
        case Phase.STOPPING | Phase.CLOSING:
            return "ending: what is in flight is brought home"
        case Phase.FINISHED | Phase.STOPPED:
            return ""
    if facts.min_free and facts.disk_free < facts.min_free:
        return (
            f"disk short: {size_text(facts.disk_free)} free, --min-free keeps {size_text(facts.min_free)}; "
            "fetching waits until there is room"
        )
    if facts.workers == 0:
        if not facts.worker_command:
            return "the local workers are starting"
        return f"no workers: run `{facts.worker_command}`"
    if facts.held_back and not facts.in_flight:
        return f"{facts.budget} is reached: {number_text(facts.held_back)} URLs stay queued"
    if facts.memory_short:
        return "workers' memory: bodies fill it, fetching waits; a larger --memory, or more machines"
    if facts.max_rate is not None and facts.rate >= 0.9 * facts.max_rate:
        return f"--max-rate: at most {facts.max_rate:g} pages/s"
    hosts = facts.hosts_ready + facts.hosts_waiting + facts.hosts_leased
    if not hosts and facts.in_flight:
        return "the servers: what is in flight is all there is"
    if not hosts:
        return "reading seeds" if facts.phase is Phase.SEEDING else "nothing queued: waiting for seeds"
    if facts.capacity and facts.in_flight >= 0.95 * facts.capacity:
        return (
            f"fetches in flight: {number_text(facts.in_flight)} of {number_text(facts.capacity)}; "
            "more processes or a larger --concurrency help"
        )
    if facts.worker_cpu is not None and facts.worker_cpu > 0.85:
        return f"workers busy: CPU at {facts.worker_cpu:.0%}; more processes or machines help"
    if facts.coordinator_cpu is not None and facts.coordinator_cpu > 0.9:
        return f"coordinator busy: CPU at {facts.coordinator_cpu:.0%}"
    if facts.hosts_ready > facts.hosts_leased and facts.hosts_ready > facts.workers:
        return f"{plural(facts.hosts_ready, 'host')} ready: workers take them as they can"
    if not facts.in_flight and facts.hosts_waiting:
        due = "" if facts.next_due_seconds is None else f", next due in {facts.next_due_seconds:.1f} s"
        if facts.next_due_seconds is None or facts.next_due_seconds > 1.5 * facts.delay or hosts > 20:
            return f"waiting for politeness: {plural(facts.hosts_waiting, 'host')}{due}"
    return pace(hosts, facts.delay, facts.per_host)


def pace(hosts: int, delay: float, per_host: int) -> str:
    """What so many hosts allow at most; also said at the start, before anything was fetched."""
    lanes = hosts * per_host
    each = f" × {per_host} at once" if per_host > 1 else ""
    if delay <= 0:
        return f"{plural(hosts, 'host')}{each}: as fast as the servers answer; more processes will not help"
    hint = "; yours? --per-host 4 --delay 0" if hosts <= 20 and per_host < 4 else ""
    return (
        f"{plural(hosts, 'host')}{each} × {delay:g} s: at most {lanes / delay:,.3g} "
        f"page{'' if lanes == delay else 's'}/s; more processes will not help{hint}"
    )


def estimate(
    *,
    left: int,
    rate: float,
    pages: int,
    growing: bool,
    max_pages: int | None = None,
    longest_queue: int = 0,
    delay: float = 0.0,
    per_host: int = 1,
) -> float | None:
    """Seconds to the end, or None where no honest figure can be had.

    `left`: queued and leased. `growing`: links are followed and the queue is not shrinking, so that only a
    budget tells where the end is. One host with a long queue holds the end back, however fast the others are.
    """
    remaining = left
    if max_pages is not None:
        remaining = min(left, max_pages - pages) if not growing else max_pages - pages
    elif growing:
        return None
    if remaining <= 0:
        return 0.0
    if rate <= 0:
        return None
    return max(remaining / rate, min(longest_queue, remaining) * delay / per_host)


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


def plural(count: int, noun: str) -> str:
    """`1 host`, `3 hosts`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _known(cls: type, read: Mapping[str, Any]) -> dict[str, Any]:
    names = {of.name for of in fields(cls)}
    return {name: value for name, value in read.items() if name in names}
