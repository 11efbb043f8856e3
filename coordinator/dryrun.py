"""`--dry-run`: what a crawl would do, told before it does anything. Nothing is fetched, looked up or written.

Seeds are read to their end, as a start would read them, and what they give is counted: bad lines, hosts, entries of
the scope, what the delays allow. It does not know what links lead to, so of a crawl that follows them it says how it
begins and what bounds it. Whether a server answers, and what its robots.txt says, only a fetch can tell.

Memory is bounded, however many seeds there are: beyond MOST hosts or URLs the counts say "over".

Read next: `coordinator/seedtext.py` (what a seed is), `common/scope.py` (what an entry is).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from common.config import OPTIONS, CrawlConfig
from common.configfile import kept
from common.errors import UsageError
from common.hostrules import RULE_OPTIONS
from common.masking import masked
from common.normalization import Normalizer
from common.scope import site_of
from common.tuning import TUNING, Tuning
from common.url import CanonicalURL, host_key
from coordinator import seeds as inputs
from coordinator.differences import changes_refused
from coordinator.directory import CrawlDirectory
from coordinator.explain import normalizer_of
from coordinator.seedtext import COMMAND_LINE, Seed
from coordinator.status import plural, size_text, time_text
from coordinator.waiting import pace

MOST: Final = 1_000_000
"""Different hosts, entries and URLs that are counted one by one: about 250 MB of them all."""

BAD_LINES_TOLD: Final = 10
NAMED: Final = 5
"""Hosts and entries that are named."""


@dataclass(slots=True)
class Survey:
    """What the seeds came to."""

    urls: int = 0
    """Lines (or parts of a range) that are a URL."""
    bad: int = 0
    told: list[str] = field(default_factory=list)
    """The first bad lines, each with its place and reason."""
    hosts: Counter[str] = field(default_factory=Counter)
    """Different URLs by host key."""
    entries: dict[str, None] = field(default_factory=dict)
    """Of the scope, in the order in which they were met."""
    more: bool = False
    """There were over MOST of something: counts of different ones are too small."""
    _seen: set[int] = field(default_factory=set)

    @property
    def different(self) -> int:
        """URLs that are not the same as an earlier one."""
        return len(self._seen)

    def add(self, seed: Seed, config: CrawlConfig, normal: Normalizer) -> None:
        """Count one."""
        if seed.url is None:
            self.bad += 1
            if len(self.told) < BAD_LINES_TOLD:
                self.told.append(f"{_place(seed)}: {seed.error}")
            return
        self.urls += 1
        url: CanonicalURL = normal.apply(seed.url)
        if len(self._seen) >= MOST:
            self.more = True
            return
        mark = hash((seed.kind, url))  # a collision makes a count too small by one
        if mark not in self._seen:
            self._seen.add(mark)
            self.hosts[host_key(url)] += 1
            if (site := site_of(config.scope, url)) is not None:
                self.entries[site] = None


def tell(out: Path, seeds: Sequence[str], config: CrawlConfig, *, again: bool) -> tuple[list[str], int]:
    """(lines for people, exit code) for a start with these arguments. `again`: --recrawl was given.

    Exit code 1: nothing would be fetched. UsageError: the start itself would be refused. Reads every seed file, and
    standard input where that is a seed: 2 µs a URL.
    """
    directory = _looked(out, config)
    survey = Survey()
    normal = normalizer_of(config)
    for seed in inputs.read(seeds, max_length=config.max_url_length):
        survey.add(seed, config, normal)
    rows = [
        ("into", _into(out, directory, again)),
        ("seeds", _seeds(survey)),
        *(("", line) for line in _told(survey)),
        ("hosts", _named(survey.hosts.most_common(NAMED), len(survey.hosts), survey.more)),
        ("scope", _scope(survey, config)),
        ("limits", _limits(config)),
        ("pace", _pace(survey, config)),
        ("robots", _robots(config)),
        ("disk", _disk(out, config)),
    ]
    rows += [("options" if not place else "", line) for place, line in enumerate(_options(config))]
    lines = ["Dry run: nothing is fetched and nothing is written."]
    lines += [f"  {name:8}  {text}" for name, text in rows if text]
    return lines, 1 if survey.urls == 0 and directory is None else 0


def _looked(out: Path, config: CrawlConfig) -> CrawlDirectory | None:
    """DIR as it is; None: a start would make it. Refuses what a start would refuse."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise UsageError(f"{out} is no folder: choose another --out")
    if not (out / "FORMAT").exists():
        if any(out.iterdir()):
            raise UsageError(f"{out} is not empty and holds no crawl: choose another --out")
        return None
    directory = CrawlDirectory.look(out)
    if directory.config_path.exists() and (refused := changes_refused(kept(directory.config_path), config)):
        raise UsageError(refused[0])
    if directory.holder() is not None:
        raise UsageError(
            f"{out} is in use: `coord status {out}` says how it stands, `coord add` brings more seeds"
        )
    return directory


def _into(out: Path, directory: CrawlDirectory | None, again: bool) -> str:
    if directory is None:
        return f"{out}, a new crawl"
    summary = directory.summary() or {}
    ended, queued = summary.get("pages"), summary.get("queued")
    had = (
        f": {ended:,} URLs ended, {queued:,} queued"
        if isinstance(ended, int) and isinstance(queued, int)
        else ""
    )
    what = "what it knows is visited again, in a new round" if again else "what is known is not fetched again"
    return f"{out}, where a crawl has begun{had}; {what}"


def _seeds(survey: Survey) -> str:
    same = survey.urls - survey.different
    parts = [plural(survey.urls, "URL")]
    if same and not survey.more:
        parts.append(f"{same:,} of them given before")
    if survey.bad:
        parts.append(f"{plural(survey.bad, 'line')} skipped, no URL")
    return ", ".join(parts)


def _told(survey: Survey) -> Iterator[str]:
    yield from (f"  {line}" for line in survey.told)
    if survey.bad > len(survey.told):
        yield f"  and {survey.bad - len(survey.told):,} more"


def _named(some: Sequence[tuple[str, int]], count: int, more: bool) -> str:
    if not count:
        return ""
    names = ", ".join(f"{name} {urls:,}" for name, urls in some)
    rest = f" and {count - len(some):,} more" if count > len(some) else ""
    return f"{'over ' if more else ''}{plural(count, 'host')}: {names}{rest}"


def _scope(survey: Survey, config: CrawlConfig) -> str:
    if config.no_follow:
        return "the seeds alone, redirects included; no link is followed"
    if config.scope == "any":
        within = "every link is followed, wherever it leads"
    else:
        entries = list(survey.entries)
        rest = f" and {len(entries) - NAMED:,} more" if len(entries) > NAMED else ""
        within = f"by {config.scope}: {', '.join(entries[:NAMED]) or 'no entry yet'}{rest}; links are followed within"
    for name in ("allow", "deny"):
        if patterns := getattr(config, name):
            within += f"; --{name} {' or '.join(patterns)}"
    return within + ("; sitemaps that robots.txt names are read" if config.sitemaps else "")


_LIMITS: Final = (
    "max_pages",
    "max_depth",
    "max_pages_per_host",
    "max_time",
    "max_total_bytes",
    "max_rate",
)


def _limits(config: CrawlConfig) -> str:
    given = [(name, value) for name in _LIMITS if (value := getattr(config, name)) is not None]
    return (
        ", ".join(f"{name.replace('_', ' ')} {_text(name, value)}" for name, value in given)
        or "none: it ends when all is done"
    )


def _pace(survey: Survey, config: CrawlConfig) -> str:
    policies = Counter(
        (policy.delay, policy.per_host) for policy in map(config.for_host, survey.hosts) if not policy.blocked
    )
    blocked = len(survey.hosts) - policies.total()
    said = []
    if len(policies) == 1:
        ((delay, lanes), hosts) = next(iter(policies.items()))
        said.append(pace(hosts, delay, lanes))
    elif policies:
        rated = sum(hosts * lanes / delay for (delay, lanes), hosts in policies.items() if delay > 0)
        free = sum(hosts for (delay, _), hosts in policies.items() if delay <= 0)
        said.append(f"{plural(policies.total(), 'host')}, rules differ: at most {rated:,.3g} pages/s")
        if free:
            said.append(f"{plural(free, 'host')} as fast as the servers answer")
    if blocked:
        said.append(f"{plural(blocked, 'host')} blocked: fetched never, ended as OPERATOR")
    if config.no_follow and (slowest := _slowest(survey, config)) >= 60:
        said.append(f"at least {time_text(slowest)}, for the host with most of them")
    return "; ".join(said)


def _slowest(survey: Survey, config: CrawlConfig) -> float:
    """Seconds that the host which takes longest takes at least, for its seeds alone."""
    return max(
        (
            count * policy.delay / policy.per_host
            for host, count in survey.hosts.items()
            if not (policy := config.for_host(host)).blocked
        ),
        default=0.0,
    )


def _robots(config: CrawlConfig) -> str:
    obeyed = f"obeyed, by the name {config.robots_token}" if config.obey_robots else "ignored"
    return f"{obeyed}; User-Agent: {config.agent}"


def _disk(out: Path, config: CrawlConfig) -> str:
    folder = next(place for place in (out.absolute(), *out.absolute().parents) if place.is_dir())
    free = os.statvfs(folder)
    room = free.f_bavail * free.f_frsize
    short = "" if room > config.min_free else ": NOT ENOUGH, fetching would wait"
    return f"{size_text(room)} free in {folder}, {size_text(config.min_free)} of it left alone{short}"


def _options(config: CrawlConfig) -> Iterator[str]:
    """What differs from the defaults, as crawl.toml would have it."""
    usual = CrawlConfig()
    for name, of in OPTIONS.items():
        value: Any = getattr(config, name)
        if of.kept and value != getattr(usual, name):
            yield f"{name} = {of.to_toml(masked(name, value))}"
    for rule in config.host:
        said = (
            f"{name} = {RULE_OPTIONS[name].to_toml(masked(name, value))}"
            for name in RULE_OPTIONS
            if (value := getattr(rule, name)) is not None
        )
        yield f"host {rule.match}: {', '.join(said)}"
    for name, of in TUNING.items():
        if getattr(config.tuning, name) != getattr(Tuning(), name):
            yield f"[tuning] {name} = {of.to_toml(getattr(config.tuning, name))}"


def _text(name: str, value: object) -> str:
    return OPTIONS[name].to_toml(value).strip('"') + (" s" if name == "max_time" else "")


def _place(seed: Seed) -> str:
    return f"argument {seed.line}" if seed.source == COMMAND_LINE else f"{seed.source}, line {seed.line}"
