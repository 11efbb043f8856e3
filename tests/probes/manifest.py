"""What a crawl of the probes must leave, said by each probe for its own hosts, and the judge of it.

A probe is a function that puts pages on its hosts and says, in the same breath, which lines of `pages` must come of
them, what else is asked for (sitemaps, hops of robots.txt), what must never be, at which pace, and what must hold for
the log. `Plan` is what it says that to. What nobody said is a failure when it is found, and what was said when it is
not. The judge is the servers' own access log and the lines on disk; nothing of Shoal is imported.

Read next: web.py (the probes), server.py (the log).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from shoal.demo.server import Answer
from tests.probes.server import Door, Hit, Place, Servers, Talk, html

DELAY: Final = 0.1
"""Seconds; the `--delay` of every crawl here."""

TOLERANCE: Final = 0.002
"""Seconds that a timer of the crawler may be early: its loop counts in whole milliseconds."""

CONTACT: Final = "tests@shoal.test"

Log = Sequence[Hit]
Check = Callable[[Log], str | None]
"""Looks at the log of a probe's own hosts; what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `pages` that must be there."""

    outcome: str
    fetches: tuple[int, int]
    """At least and at most so many requests of it in the log."""
    facts: Mapping[str, object]
    """Further keys of the line; a collection of values: one of them."""


@dataclass(slots=True)
class Pace:
    """How near two fetches of a host may come."""

    delay: float = DELAY
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Probe:
    """One clause, and what tests it. The words are those of docs/probes.md."""

    name: str
    section: str
    clause: str
    crawl: str
    """Of `web.CRAWLS`."""
    finds: str
    """In words: what must be found, and how."""
    spares: str
    """In words: what must not be touched."""
    build: Callable[[Plan], None]


class Plan:
    """What one probe expects of one crawl. Its own host is `NAME.test`; it may have more, in names that end so."""

    def __init__(self, name: str, servers: Servers) -> None:
        self.name = name
        self.host = f"{name}.test"
        self.servers = servers
        self.seeds: list[str] = []
        self.rules: list[str] = []
        """`[[host]]` tables."""
        self.hosts: set[str] = {self.host}
        self.lines: dict[str, Line] = {}
        self.asked: dict[str, tuple[int, int]] = {}
        """Requests without a line, by URL: robots.txt, sitemaps."""
        self.never: set[str] = set()
        self.paces: dict[str, Pace] = defaultdict(Pace)
        self.checks: list[Check] = []
        self.addresses: dict[str, tuple[str, ...]] = {}
        """What the name server says of its hosts, where it is not the usual address; none: there is no such name."""
        self.guarded: Counter[str] = Counter()
        """What traps must have been counted, by rule."""
        self.queued: set[str] = set()
        """What must still be queued when a crawl is stopped."""
        self.again: Counter[str] = Counter()
        """What a recrawl must have counted."""
        self.then: Plan | None = None
        """What is expected of the next part of the crawl: of round 1, or after it was stopped."""

    def next(self) -> Plan:
        """The plan for the next part; its hosts and paces are the same."""
        self.then = Plan(self.name, self.servers)
        self.then.hosts, self.then.paces = self.hosts, self.paces
        return self.then

    # -- what stands where --------------------------------------------------------------------------------

    def place(self, target: str, host: str | None = None, door: Door = "web") -> Place:
        """A place of the probe; its host is then one of the probe's."""
        host = host or self.host
        self.hosts.add(host)
        return door, host, target

    def url(self, target: str = "/", host: str | None = None, door: Door = "web") -> str:
        """Its absolute URL."""
        return self.servers.url(self.place(target, host, door))

    def put(self, target: str, *answers: Talk, host: str | None = None, door: Door = "web") -> None:
        """Answers, without a word on whether they are to be asked for."""
        self.servers.answer(self.place(target, host, door), *answers)

    def page(
        self,
        target: str = "/",
        links: Iterable[str] = (),
        *,
        head: str = "",
        body: str = "",
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        host: str | None = None,
        door: Door = "web",
        spared: bool = False,
        **facts: Any,
    ) -> None:
        """An HTML page that must be found, once, and be OK; or one that must not be touched."""
        anchors = "".join(f'<a href="{escape(link)}">x</a>\n' for link in links)
        title = escape(f"{host or self.host}{target}")
        answer = html(f"<!doctype html>\n<head><title>{title}</title>{head}</head>\n{body}\n{anchors}")
        said = dict(answer.headers) | dict(headers or {})
        self.put(target, Answer(200, said, answer.body, wait=wait), host=host, door=door)
        if spared:
            self.spare(target, host=host, door=door)
        else:
            self.find(target, host=host, door=door, **facts)

    def pages(self, targets: Iterable[str], **more: Any) -> None:
        """Pages without links."""
        for target in targets:
            self.page(target, **more)

    def robots(self, text: str | bytes, *, host: str | None = None, door: Door = "web") -> None:
        """A robots.txt; without one it is a 404."""
        body = text.encode() if isinstance(text, str) else text
        self.put("/robots.txt", Answer(200, {"Content-Type": "text/plain"}, body), host=host, door=door)

    # -- what must come of it -----------------------------------------------------------------------------

    def seed(self, target: str = "/", *, host: str | None = None, door: Door = "web", kind: str = "") -> None:
        """`kind`: `sitemap:`."""
        self.seeds.append(kind + self.url(target, host, door))

    def find(
        self,
        target: str = "/",
        outcome: str = "OK",
        *,
        host: str | None = None,
        door: Door = "web",
        fetches: int | tuple[int, int] = 1,
        **facts: object,
    ) -> None:
        """A line that must be there, after so many requests."""
        bounds = fetches if isinstance(fetches, tuple) else (fetches, fetches)
        self.lines[self.url(target, host, door)] = Line(outcome, bounds, facts)

    def ask(
        self,
        target: str,
        fetches: int | tuple[int, int] = 1,
        *,
        host: str | None = None,
        door: Door = "web",
    ) -> None:
        """A request without a line. Of each authority that is visited, robots.txt is one by itself."""
        bounds = fetches if isinstance(fetches, tuple) else (fetches, fetches)
        self.asked[self.url(target, host, door)] = bounds

    def spare(self, *targets: str, host: str | None = None, door: Door = "web") -> None:
        """What must never be requested, and have no line. (All that nobody names is so; this names it.)"""
        self.never.update(self.url(target, host, door) for target in targets)

    def pace(self, delay: float, lanes: int = 1, *, host: str | None = None, rule: bool = True) -> None:
        """Another pace than `--delay`, by a `[[host]]` rule or (`rule` false) by what the host itself asks for."""
        self.paces[host or self.host] = Pace(delay, lanes)
        if rule:
            self.rule(f"delay = {delay}\nper_host = {lanes}", host=host)

    def rule(self, text: str, *, host: str | None = None) -> None:
        """A `[[host]]` table for a pattern."""
        self.rules.append(f'[[host]]\nmatch = "{host or self.host}"\n{text}\n')

    def check(self, check: Check) -> None:
        """Something else that must hold for the log of the probe's hosts."""
        self.checks.append(check)


@dataclass(slots=True)
class Crawl:
    """One crawl and the plans of its probes."""

    name: str
    servers: Servers
    plans: list[Plan] = field(default_factory=list)
    robots: bool = True
    """Whether robots.txt is obeyed."""

    @classmethod
    def of(cls, name: str, probes: Iterable[Probe], servers: Servers) -> Crawl:
        """Put up all probes of the crawl with this name."""
        crawl = cls(name, servers)
        for probe in probes:
            if probe.crawl == name:
                plan = Plan(probe.name, servers)
                probe.build(plan)
                crawl.plans.append(plan)
        return crawl

    @property
    def seeds(self) -> list[str]:
        """Of all plans."""
        return [seed for plan in self.plans for seed in plan.seeds]

    @property
    def config(self) -> str:
        """The `[[host]]` tables of all plans."""
        return "\n".join(rule for plan in self.plans for rule in plan.rules)

    def hosts_file(self, path: Path, address: str = "127.0.0.1") -> Path:
        """Written, with all hosts."""
        path.write_text("".join(f"{address} {host}\n" for plan in self.plans for host in sorted(plan.hosts)))
        return path

    # -- the judge ----------------------------------------------------------------------------------------

    def judge(
        self,
        out: Path,
        *,
        guarded: Mapping[str, int] | None = None,
        part: int = 0,
        since: tuple[int, int] = (0, 0),
    ) -> list[str]:
        """All that is wrong, a line each, with the probe's name.

        `guarded`: of `coord status --json`. `part` 1: by the plans' next ones; `since`: (lines, requests) that there
        were before.
        """
        lines = read_lines(out)[since[0] :]
        log = self.servers.log[since[1] :]
        plans = [plan.then for plan in self.plans if plan.then] if part else self.plans
        owners = {host for plan in plans for host in plan.hosts}
        lost = [line["url"] for line in lines if urlsplit(line["url"]).hostname not in owners]
        lost += [self.servers.url(hit.place) for hit in log if hit.host not in owners]
        wrong = [f"nobody's: {url}" for url in lost]
        for plan in plans:
            its_lines = [line for line in lines if urlsplit(line["url"]).hostname in plan.hosts]
            its_log = [hit for hit in log if hit.host in plan.hosts]
            wrong += [f"{plan.name}: {said}" for said in self._judged(plan, its_lines, its_log)]
        if guarded is not None:
            expected: Counter[str] = sum((plan.guarded for plan in plans), Counter())
            if dict(guarded) != dict(expected):
                wrong.append(f"status: guarded {dict(guarded)}, expected {dict(expected)}")
        return wrong

    def _judged(self, plan: Plan, lines: Sequence[Mapping[str, Any]], log: Log) -> list[str]:
        wrong = _lines_judged(plan.lines, lines)
        wrong += self._requests_judged(plan, log)
        for host in sorted(plan.hosts):
            wrong += hurried([hit for hit in log if hit.host == host], plan.paces[host])
        wrong += [
            f"{hit.target} was asked for as {hit.headers.get('user-agent')!r}"
            for hit in log
            if not ("Shoal/" in (agent := hit.headers.get("user-agent", "")) and CONTACT in agent)
        ]
        for check in plan.checks:
            said = check(log)
            if said:
                wrong.append(said)
        return wrong

    def _requests_judged(self, plan: Plan, log: Log) -> list[str]:
        expected = {url: line.fetches for url, line in plan.lines.items()}
        if self.robots:
            for url, line in plan.lines.items():
                robots = f"{url[: url.index('/', 8)]}/robots.txt"
                if line.fetches[1] or line.outcome == "ROBOTS_DENIED":
                    expected.setdefault(robots, (1, 1))
        expected |= plan.asked
        asked = Counter(self.servers.url(hit.place) for hit in log)
        wrong = []
        for url in sorted(expected.keys() | asked.keys()):
            least, most = expected.get(url, (0, 0))
            if not least <= asked[url] <= most:
                wrong.append(f"{asked[url]} requests for {url}, expected {_bounds(least, most)}")
        wrong += [f"{url} must not be touched" for url in sorted(plan.never) if asked[url]]
        return wrong


def _lines_judged(expected: Mapping[str, Line], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    wrong = []
    found: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        if line["url"] in found:
            wrong.append(f"two lines for {line['url']}")
        found[line["url"]] = line
    for url in sorted(expected.keys() | found.keys()):
        if url not in found:
            wrong.append(f"missing: {url}")
        elif url not in expected:
            line = found[url]
            wrong.append(
                f"extra: {url}, {line['outcome']} {line['status']} {line['reason']}, linked from {line['referrer']}"
            )
        else:
            wrong += _facts_judged(url, expected[url], found[url])
    return wrong


def _facts_judged(url: str, expected: Line, line: Mapping[str, Any]) -> list[str]:
    wrong = []
    if line["outcome"] != expected.outcome:
        said = f"{line['outcome']} ({line['reason']}, {line['error']})"
        wrong.append(f"{url} ended as {said}, expected {expected.outcome}")
    for key, value in expected.facts.items():
        allowed = value if isinstance(value, (set, frozenset)) else {value}
        if line[key] not in allowed:
            wrong.append(f"{url}: {key} is {line[key]!r}, expected {value!r}")
    return wrong


def _bounds(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def hurried(log: Log, pace: Pace) -> list[str]:
    """Fetches of one host that began sooner than its delay after the end of the one before in their lane.

    Exact however busy the machine is: the end is taken where it cannot be too late, when the servers began to send
    the last of it; and a begin is told late at worst.
    """
    wrong = []
    log = sorted(log, key=lambda hit: hit.arrived)
    for number in range(pace.lanes, len(log)):
        earlier = sorted(hit.free for hit in log[:number])
        gap = log[number].arrived - earlier[number - pace.lanes]
        if gap < pace.delay - TOLERANCE:
            wrong.append(
                f"{log[number].target} came {gap:.3f} s after {log[number - 1].target}, not {pace.delay}"
            )
    return wrong


def read_lines(out: Path) -> list[dict[str, Any]]:
    """All lines of `pages`."""
    return [
        json.loads(line)
        for path in sorted(out.glob("pages/*.jsonl"))
        for line in path.read_text().splitlines()
    ]
