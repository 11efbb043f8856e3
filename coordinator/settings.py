"""What the command line hands to `coordinator.app.run`: everything decided, nothing left to ask."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import CrawlConfig
from coordinator.directory import CrawlDirectory


@dataclass(frozen=True, slots=True)
class Recrawl:
    """`--recrawl[=AGE]`."""

    age: float | None = None
    """Seconds; what was fetched less long ago is left alone. None: nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorSettings:
    """One start of a coordinator."""

    directory: CrawlDirectory
    """Acquired: ours alone until `run` returns; the caller releases it."""
    config: CrawlConfig
    """In force. `coord` has compared it with the DIR's own and written it there."""
    seeds: tuple[str, ...] = ()
    """As given: files, URLs, ranges, bare hosts, `-`; not looked at yet."""
    listen: str | None = None
    """`tcp://ADDRESS:PORT` of shard 0's control socket; None: loopback, free ports."""
    advertise: str | None = None
    """Name or address that workers elsewhere reach this machine by; None: found out."""
    http: str | None = None
    """`ADDRESS:PORT` of the REST interface; None: loopback, a free port."""
    stay: bool = False
    """Do not end when everything is done: more seeds may come."""
    procs: int | None = None
    """Local worker processes to start; None: none (`coord start`)."""
    recrawl: Recrawl | None = None
    """Visit known URLs again, in a new round; None: go on with the current one."""
    command: str = "coord crawl"
    """The command that goes on with this crawl, shown at the end."""
