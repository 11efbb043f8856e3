"""Real HTTP sites on loopback, as many hosts as a test wants, with the log that promises are held against.

A `Site` is one server on one port, run by a thread of the test's process; hosts are told apart by the Host
header, so a crawler needs its `hosts_file()` and private addresses allowed. A test says what stands where,
starts a crawl, and afterwards reads the log: what was fetched, when, how often. What should have been
fetched follows from the links that the test itself declared (`reachable()`), not from any parsing of HTML.

    with Site() as site:
        site.page("a.test", "/", links=["/1", "http://b.test/"])
        site.answer("a.test", "/1", Answer(503), html("well again"))  # first, then from the second fetch on
        ... crawl site.url("a.test", "/") ...
        assert site.fetched() == site.reachable(("a.test", "/"))

Times are `time.monotonic()` seconds, comparable between all processes of one machine.
"""

from __future__ import annotations

import random
import threading
from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from shoal.demo.listening import Listening
from shoal.demo.server import Answer, Request, html, redirect, serve
from tests.support.aside import Aside

__all__ = ["Answer", "Hit", "Place", "Site", "html", "redirect"]

Place = tuple[str, str]
"""(host, path with query)."""


@dataclass(slots=True)
class Hit:
    """One line of the access log."""

    host: str
    target: str
    method: str
    headers: dict[str, str]
    client_port: int
    arrived: float
    status: int
    wait: float = 0.0
    """Seconds from its arrival before which nothing of the answer went out."""
    ended: float | None = None
    """When the answer was handed over or cut off; None while it is still going out."""


class Site:
    """Many hosts on one port of 127.0.0.1. Everything here may be called while the server runs."""

    def __init__(self, *, delay: float = 0.0) -> None:
        """`delay`: seconds before every answer that does not say otherwise."""
        self.delay = delay
        self.port = 0
        self._lock = threading.Lock()
        self._answers: dict[Place, tuple[Answer, ...]] = {}
        self._links: dict[Place, tuple[Place, ...]] = {}
        self._hits: list[Hit] = []
        self._times: dict[Place, int] = defaultdict(int)
        self._changed = threading.Condition(self._lock)
        self._aside = Aside("site")
        self._server: Listening | None = None
        self._open: dict[int, Hit] = {}

    # -- its life -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._aside.__enter__()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._aside.__exit__(kind, error, trace)

    def start(self) -> None:
        """Listen; after a `stop()`, on the same port as before."""
        self._server = self._aside.wait(serve(self._respond, port=self.port, ended=self._ended))
        self.port = self._server.port

    def stop(self) -> None:
        """Cut every connection and refuse new ones, as a site that is down does."""
        if self._server is not None:
            self._aside.wait(self._server.close())
            self._server = None

    # -- what stands where --------------------------------------------------------------------------------

    def page(
        self,
        host: str,
        target: str,
        *,
        links: Sequence[str | Place] = (),
        title: str | None = None,
        text: str = "",
        wait: float | None = None,
    ) -> Place:
        """An HTML page with these outlinks: a path on the same host, `http://host/path`, or a place."""
        places = tuple(self._place(host, link) for link in links)
        anchors = "\n".join(f'<a href="{escape(self._href(host, place))}">{place}</a>' for place in places)
        name = escape(title if title is not None else f"{host}{target}")
        content = html(f"<!doctype html>\n<title>{name}</title>\n<p>{escape(text)}</p>\n{anchors}\n")
        seconds = self.delay if wait is None else wait
        return self.answer(
            host, target, Answer(200, content.headers, content.body, wait=seconds), links=places
        )

    def hop(self, host: str, target: str, to: str | Place, *, status: int = 302) -> Place:
        """A redirect; the link it makes counts as one in `reachable()`."""
        place = self._place(host, to)
        return self.answer(host, target, redirect(self._href(host, place), status), links=[place])

    def robots(self, host: str, text: str, *, status: int = 200) -> Place:
        """The robots.txt of a host; without one it is a 404, which allows everything."""
        return self.answer(host, "/robots.txt", Answer(status, {"Content-Type": "text/plain"}, text.encode()))

    def answer(self, host: str, target: str, *answers: Answer, links: Sequence[Place] = ()) -> Place:
        """The answers to the first, second, ... fetch of a place; the last one stays."""
        with self._lock:
            self._answers[host, target] = answers
            self._links[host, target] = tuple(links)
        return host, target

    def grow(self, *, seed: int, hosts: int, pages: int, links: int = 5, domain: str = "test") -> Place:
        """A random web: so many pages on so many hosts, so many links on each; returns where to start.

        All pages can be reached: each is linked from an earlier one. The same numbers give the same web.
        """
        rng = random.Random(seed)
        places = [(f"h{number % hosts}.{domain}", f"/{number // hosts}") for number in range(pages)]
        children: dict[Place, list[Place]] = defaultdict(list)
        for number, place in enumerate(places[1:], start=1):
            children[places[rng.randrange(max(0, number - 40), number)]].append(place)
        for place in places:
            others = rng.choices(places, k=max(0, links - len(children[place])))
            self.page(*place, links=[*children[place], *others])
        return places[0]

    # -- what it is called --------------------------------------------------------------------------------

    def url(self, host: str, target: str = "/") -> str:
        """The absolute URL of a place."""
        return f"http://{host}:{self.port}{target}"

    def hosts(self) -> list[str]:
        """Every host that has something."""
        with self._lock:
            return sorted({host for host, _ in self._answers})

    def hosts_file(self, path: Path) -> Path:
        """Write a hosts file for all of them; returns its path."""
        path.write_text("".join(f"127.0.0.1 {host}\n" for host in self.hosts()))
        return path

    def links(self, host: str, target: str) -> tuple[Place, ...]:
        """Where a place leads to, as it was declared."""
        with self._lock:
            return self._links[host, target]

    # -- what must be found, and what was -----------------------------------------------------------------

    def reachable(self, *seeds: Place, within: set[str] | None = None) -> set[Place]:
        """All places that links lead to from the seeds, breadth first, missing ones too.

        `within`: only these hosts; the seeds' own, say, for scope host.
        """
        with self._lock:
            found = set(seeds)
            waiting = list(seeds)
            for place in waiting:
                for link in self._links.get(place, ()):
                    if link not in found and (within is None or link[0] in within):
                        found.add(link)
                        waiting.append(link)
            return found

    @property
    def log(self) -> list[Hit]:
        """The access log, by arrival; a copy."""
        with self._lock:
            return list(self._hits)

    def fetched(self, *, robots: bool = False) -> set[Place]:
        """What was asked for, robots.txt left out unless wanted."""
        return {(hit.host, hit.target) for hit in self.log if robots or hit.target != "/robots.txt"}

    def closest(self, host: str, *, lanes: int = 1) -> float:
        """The least time, in seconds, from the end of one fetch of a host to the arrival of the next.

        With n lanes: from the n-th fetch before it, for among any n + 1 fetches two share a lane. It is
        measured at the server: an end is told late by the time the answer's last bytes travel, so allow for
        a millisecond or two. Infinite where there were too few fetches. Negative: they overlapped.
        """
        hits = sorted((hit for hit in self.log if hit.host == host), key=lambda hit: hit.arrived)
        ends: list[float] = []
        gaps = []
        for late, hit in enumerate(hits):
            if late >= lanes:
                # When this one arrived, all but lanes - 1 of the earlier ones must have ended a delay ago.
                gaps.append(hit.arrived - ends[late - lanes])
            insort(ends, hit.ended if hit.ended is not None else float("inf"))
        return min(gaps, default=float("inf"))

    def most_at_once(self, host: str | None = None) -> int:
        """The largest number of fetches under way at one time, of one host or of all."""
        hits = [hit for hit in self.log if host in (None, hit.host)]
        moments = [(hit.arrived, 1) for hit in hits]
        moments += [(hit.ended, -1) for hit in hits if hit.ended is not None]
        now = most = 0
        for _, step in sorted(moments):
            now += step
            most = max(most, now)
        return most

    def wait_for(self, hits: int, *, timeout: float = 60.0) -> None:
        """Return as soon as so many requests have arrived in all; TimeoutError if they do not."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._hits) >= hits, timeout):
                raise TimeoutError(f"{len(self._hits)} requests after {timeout} s, not {hits}")

    # -- the server's thread ------------------------------------------------------------------------------

    def _respond(self, request: Request) -> Answer:
        place = (request.host, request.target)
        with self._changed:
            answers = self._answers.get(place, (Answer(404, {"Content-Type": "text/plain"}, b"missing\n"),))
            answer = answers[min(self._times[place], len(answers) - 1)]
            self._times[place] += 1
            hit = Hit(
                *place,
                request.method,
                dict(request.headers),
                request.client_port,
                request.arrived,
                answer.status,
                answer.wait,
            )
            self._hits.append(hit)
            self._open[id(request)] = hit
            self._changed.notify_all()
        return answer

    def _ended(self, request: Request, answer: Answer, at: float) -> None:
        with self._lock:
            self._open.pop(id(request)).ended = at

    def _place(self, host: str, link: str | Place) -> Place:
        if isinstance(link, tuple):
            return link
        if link.startswith("http://"):
            there, slash, rest = link.removeprefix("http://").partition("/")
            return there, slash + rest or "/"
        return host, link

    def _href(self, host: str, place: Place) -> str:
        return place[1] if place[0] == host else self.url(*place)


def in_order(hits: Sequence[Hit]) -> bool:
    """Whether these fetches followed one another, none beginning before the one before it ended."""
    return all(one.ended is not None and one.ended <= two.arrived for one, two in pairwise(hits))
