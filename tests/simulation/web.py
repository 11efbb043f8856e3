"""A web with ground truth: every page, what it answers, where it leads, and what a crawl of it has to find.

It keeps the sites' own access log: when each request arrived, and when its answer had been sent or was cut off. The
promise about politeness is checked against that, never against what a shard or a worker believes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha1
from random import Random

from common.messages import PIECE_BYTES
from common.outcome import Outcome, State
from common.url import CanonicalURL, authority, host_key

DENIED = "/private/"
"""What every robots.txt with rules forbids."""

FOR_EVER = 1000
"""More redirects to itself than anybody follows."""

UNWANTED = "unwanted"
"""What the crawl's --deny names."""


@dataclass(slots=True)
class Page:
    """One URL of the web, and what it answers."""

    url: CanonicalURL
    status: int
    links: tuple[CanonicalURL, ...] = ()
    target: CanonicalURL | None = None
    """Where it redirects to."""
    failures: int = 0
    """So many fetches fail before it answers."""
    failure: Outcome = Outcome.TIMEOUT
    """How they fail; SERVER_ERROR is an answer with status 500."""
    selfs: int = 0
    """So many fetches after those are redirected to the page itself, as by a site that sets a cookie first."""
    size: int = 100
    content: str = ""
    """Pages with the same content have the same digest."""
    seconds: float = 0.1
    """How long its answer takes."""
    deadly: bool = False
    """Whoever reads it dies of it."""
    arrivals: int = 0
    pieces: int = 0
    """It is a file, of so many MiB and a little; 0: it is none."""
    changes: int = FOR_EVER
    """After so many fetches another file stands there."""
    resumable: bool = True
    """Its server knows Range."""

    @property
    def version(self) -> int:
        """Of the file that stands there now."""
        return int(self.arrivals > self.changes)

    @property
    def digest(self) -> str:
        """Of its payload."""
        return "sha1:" + sha1((self.content or self.url).encode()).hexdigest()


@lru_cache(maxsize=64)
def piece(content: str, version: int, index: int) -> bytes:
    """One MiB of a file."""
    return (sha1(f"{content} {version} {index}".encode()).digest() * (PIECE_BYTES // 20 + 1))[:PIECE_BYTES]


def whole(page: Page, version: int) -> bytes:
    """A file."""
    name = page.content or page.url
    return b"".join(piece(name, version, index) for index in range(page.pieces)) + f"end {version}".encode()


@dataclass(slots=True)
class Site:
    """One authority."""

    authority: str
    dead: Outcome | None = None
    """Every connection fails like this."""
    robots: bytes | None = None
    """Its robots.txt; None: 404."""
    robots_target: CanonicalURL | None = None
    """Where its robots.txt is redirected to: that of another site, whose answer counts."""
    robots_failures: int = 0
    """So many fetches of robots.txt are answered 503."""
    crawl_delay: float = 0.0
    robots_arrivals: int = 0


@dataclass(slots=True, eq=False)
class Exchange:
    """One request in the log. Times: true seconds. `over` None: still under way."""

    url: str
    host: str
    who: str
    arrived: float
    over: float | None = None
    left_out: bool = False
    """Cut off where no site can tell when it ended; not compared with later requests."""
    is_robots: bool = False
    overdue: Callable[[], bool] = field(default=lambda: False, repr=False)
    """Whether its lease is over by the clock of its worker; if it goes on, that worker was frozen."""
    lost: Callable[[], bool] = field(default=lambda: False, repr=False)
    """Whether its process is frozen and past its lease: it will be cut off, but nobody can say when."""


class Web:
    """All pages and sites."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.sites: dict[str, Site] = {}
        self.log: dict[str, list[Exchange]] = {}

    def add(self, page: Page) -> None:
        """Put a page into the web, and its site if it is the first."""
        self.pages[page.url] = page
        place = authority(page.url)
        if place not in self.sites:
            self.sites[place] = Site(place)

    def site(self, url: str) -> Site:
        """The site of a URL, which may be one that is not there."""
        return self.sites.setdefault(authority(CanonicalURL(url)), Site(authority(CanonicalURL(url))))

    def rules(self, url: str) -> Site:
        """The site whose robots.txt counts for a URL, at the end of its redirects."""
        site = self.site(url)
        if site.robots_target is None or site.dead is not None or site.robots_failures >= 5:
            return site  # it leads no further, or nobody learns where to
        return self.rules(site.robots_target)

    def page(self, url: str) -> Page:
        """The page at a URL; a 404 if there is none."""
        return self.pages.get(url) or Page(CanonicalURL(url), 404)

    def arrive(self, url: str, who: str, now: float, *, is_robots: bool) -> Exchange:
        """A request reaches the site."""
        host = host_key(CanonicalURL(url))
        exchange = Exchange(url, host, who, now, is_robots=is_robots)
        self.log.setdefault(host, []).append(exchange)
        return exchange

    def truth(
        self,
        seeds: tuple[CanonicalURL, ...],
        *,
        obey: bool,
        wanted: Callable[[str], bool],
        max_depth: int | None = None,
    ) -> dict[str, State]:
        """Every request that a crawl from these seeds has to admit, with the state in which it has to end."""
        states: dict[str, State] = {}
        open_ = deque((url, 0) for url in seeds)
        while open_:
            url, depth = open_.popleft()
            if url in states:
                continue
            site, page, rules = self.site(url), self.page(url), self.rules(url)
            found: list[CanonicalURL] = []
            if site.dead is not None or (obey and (rules.dead is not None or rules.robots_failures >= 5)):
                states[url] = State.FAILED
            elif obey and rules.robots is not None and DENIED in url:
                states[url] = State.EXCLUDED
            elif page.deadly or page.selfs >= FOR_EVER:
                states[url] = State.FAILED
            else:
                states[url] = State.FETCHED
                if page.target is not None:
                    if wanted(page.target):
                        open_.appendleft((page.target, depth))  # a hop is no step: nearer than all that wait
                elif page.status == 200 and (max_depth is None or depth < max_depth):
                    found += page.links
            open_ += [(link, depth + 1) for link in found if link not in states and wanted(link)]
        return states


def make_chain(hosts: tuple[str, ...], length: int) -> tuple[Web, tuple[CanonicalURL, ...]]:
    """Each page leads to one of the next host, so that all but one shard look quiet most of the time."""
    web = Web()
    urls = [CanonicalURL(f"https://{hosts[number % len(hosts)]}/p{number}") for number in range(length)]
    for url, following in zip(urls, (*urls[1:], None), strict=True):
        web.add(Page(url, 200, links=() if following is None else (following,), seconds=0.01))
    return web, (urls[0],)


def make_web(
    random: Random, *, hosts: int, pages: int, retries: int, big: bool, files: bool = False
) -> tuple[Web, tuple[CanonicalURL, ...]]:
    """A random web, and the seeds to crawl it from."""
    web = Web()
    names = [f"h{number}.test" for number in range(hosts)]
    places = {name: [f"https://{name}"] for name in names}
    for name in names:
        if random.random() < 0.2:
            places[name].append(f"http://{name}:8080")
    urls: list[CanonicalURL] = []
    for name in names:
        for number in range(random.randint(1, 2 * pages)):
            folder = DENIED if random.random() < 0.1 else f"/{UNWANTED}/" if random.random() < 0.05 else "/"
            urls.append(CanonicalURL(random.choice(places[name]) + f"{folder}p{number}"))
    urls = list(dict.fromkeys(urls))
    troubles = dict.fromkeys(names, 4)
    for url in urls:
        web.add(_page(random, url, urls, retries, troubles))
    if big:
        page = web.pages[random.choice(urls)]
        page.size = random.choice(((1 << 20) + 5, (2 << 20) + 77))
    for url in random.sample(urls, min(len(urls), 4)) if files else ():
        found = web.pages[url]
        content = f"file {random.randint(0, 3)}" if random.random() < 0.3 else ""
        web.pages[url] = Page(
            url,
            200,
            content=content,
            seconds=found.seconds,
            pieces=random.randint(1, 6),
            changes=random.choice((1, 2, FOR_EVER, FOR_EVER)),
            resumable=random.random() < 0.7,
        )
    for place in list(web.sites):
        _furnish(random, web.sites[place])
    for name in names:
        if random.random() < 0.04:
            dead = random.choice((Outcome.REFUSED, Outcome.DNS))
            for place in places[name]:
                web.site(place + "/").dead = dead
    for place in list(web.sites):
        _redirect_robots(random, web, web.sites[place])
    seeds = tuple(random.sample(urls, min(len(urls), random.randint(1, 4))))
    return web, seeds


def _page(
    random: Random, url: CanonicalURL, urls: list[CanonicalURL], retries: int, troubles: dict[str, int]
) -> Page:
    kind = random.random()
    page = Page(url, 200, seconds=random.choice((0.01, 0.1, 0.5, 3.0)))
    if kind < 0.07:
        target = random.choice(urls)
        if target != url:
            page.status, page.target = 302, target
            return page
    elif kind < 0.12:
        page.status = 404
        return page
    elif kind < 0.15:
        page.status = 500
        return page
    elif kind < 0.155:
        page.deadly = True
        return page
    elif kind < 0.25 and retries:
        page.failures = random.randint(1, retries)
        page.failure = random.choice((Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.RESET))
        if page.failure is not Outcome.SERVER_ERROR:
            name = host_key(url)
            page.failures = min(page.failures, troubles[name])
            troubles[name] -= page.failures
    if random.random() < 0.08:
        page.selfs = random.choice((1, 1, FOR_EVER))
    if random.random() < 0.2:
        page.content = f"the same everywhere {random.randint(0, 2)}"
    page.size = random.choice((10, 300, 1500))
    near = [other for other in urls if host_key(other) == host_key(url)]
    chosen = random.choices(near, k=random.randint(0, 4)) + random.choices(urls, k=random.randint(0, 4))
    page.links = tuple(dict.fromkeys(chosen))
    return page


def _furnish(random: Random, site: Site) -> None:
    kind = random.random()
    if kind < 0.4:
        site.robots = f"User-agent: *\nDisallow: {DENIED}\n".encode()
        if random.random() < 0.3:
            site.crawl_delay = random.choice((0.5, 2.0, 3.0))
            site.robots += f"Crawl-delay: {site.crawl_delay}\n".encode()
    if kind > 0.9:
        site.robots_failures = random.choice((1, 2, 3))


def _redirect_robots(random: Random, web: Web, site: Site) -> None:
    """Let the robots.txt of some sites be that of another one; at most five redirects lead there, and none back."""
    if random.random() >= 0.15:
        return
    other = random.choice(list(web.sites.values()))
    hops, at = 0, other
    while at.robots_target is not None:
        hops, at = hops + 1, web.site(at.robots_target)
    leads_here = any(
        each.robots_target is not None and web.site(each.robots_target) is site for each in web.sites.values()
    )
    if at is not site and hops < 3 and not leads_here:
        site.robots_target = CanonicalURL(f"{other.authority}/robots.txt")
