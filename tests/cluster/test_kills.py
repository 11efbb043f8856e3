"""Real processes, really killed, frozen and cut off: the files then hold every page once, and no host was hurried.

Coordinators and workers are the command lines that people type; the web is `tests/support/site.py`, whose own log and
ground truth decide. Leases are short in the storms, so that many run out, and as by default where time is what counts.
`scripts/torture A..B` runs the storms for more seeds, with more pages.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.fleet import SILENT_HEARTBEATS
from coordinator.leases import SLACK
from tests.support.cluster import Cluster, audited, check, let_pass, rounds, until
from tests.support.faults import Faults
from tests.support.figures import figure
from tests.support.proxy import Proxy
from tests.support.site import Answer, Place, Site

ANSWER = 0.01
"""Seconds that the site takes for a page: so that there is always something in flight."""

DELAY = 0.1
TTL = 2.0
HEARTBEAT = 0.4

_SEEDS = os.environ.get("SHOAL_TORTURE", "1..1")
SEEDS = range(int(_SEEDS.partition("..")[0]), int(_SEEDS.partition("..")[2] or _SEEDS) + 1)
LONG = "SHOAL_TORTURE" in os.environ
PAGES, FAULTS = (6000, 40) if LONG else (2500, 15)
HOSTS = 30
"""Few, so that politeness makes a storm last: 30 / (0.1 s + 0.01 s) are 270 pages/s at most."""

DEPTH = 5
"""Links from the start, in the storm that has a limit: most pages lie within, some at first by a longer way."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 if LONG else 240)]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(delay=ANSWER) as site:
        yield site


def grown(site: Site, pages: int, *, hosts: int = 50) -> Place:
    return site.grow(seed=1, hosts=hosts, pages=pages)


def wild(site: Site, pages: int) -> Place:
    """A random web, and below its start what is not plain: rules, hops, missing pages, equal bodies, bodies above
    1 MiB, which travel in pieces.
    """
    start = grown(site, pages, hosts=HOSTS)
    rng = random.Random(2)
    odd: list[Place] = []
    for host in site.hosts()[:20]:
        site.robots(host, "User-agent: *\nDisallow: /never/\n")
        for number in range(3):
            odd.append(site.hop(host, f"/hop/{number}", (rng.choice(site.hosts()), f"/behind/{number}")))
            odd.append(site.page(host, f"/same/{number}", title="the same", links=[f"/gone/{number}"]))
        odd.append(
            site.answer(host, "/big", Answer(200, {"Content-Type": "image/png"}, rng.randbytes(2_500_000)))
        )
    site.page(*start, links=[*site.links(*start), *odd])
    return start


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_over_remote_workers_loses_nothing_doubles_nothing_hurries_nobody(
    seed: int, site: Site, tmp_path: Path
) -> None:
    start, lanes = wild(site, PAGES), 1 + seed % 3
    delay = DELAY * lanes
    with Cluster(
        tmp_path,
        site,
        start,
        delay=delay,
        lease_ttl=TTL,
        heartbeat=HEARTBEAT,
        options=("--per-host", str(lanes)),
    ) as cluster:
        with Proxy(cluster.port) as proxy:
            cluster.coordinate("start")
            cluster.work(proxy)
            storm(cluster, seed, proxy)
        check(cluster.out, site, start, delay=delay, lanes=lanes, thaws=cluster.thaws)
        audited(cluster.out)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_over_one_machine_loses_nothing_doubles_nothing_hurries_nobody(
    seed: int, site: Site, tmp_path: Path
) -> None:
    start = grown(site, PAGES, hosts=HOSTS)
    with Cluster(tmp_path, site, start, delay=DELAY, lease_ttl=TTL, heartbeat=HEARTBEAT) as cluster:
        cluster.coordinate("crawl")
        storm(cluster, seed)
        check(cluster.out, site, start, delay=DELAY, thaws=cluster.thaws)
        audited(cluster.out)


def storm(
    cluster: Cluster,
    seed: int,
    proxy: Proxy | None = None,
    *,
    procs: int = 2,
    pages: int = PAGES,
    before: int = 0,
    steered: bool = False,
    least: int = 5,
) -> None:
    """Faults until most of `pages` is fetched, beyond the lines that there were `before`; then peace until the end."""
    print(f"seed {seed}")  # noqa: T201  (pytest shows it when the test fails)
    command = "crawl" if proxy is None else "start"
    faults = Faults(
        cluster,
        random.Random(seed),
        lease_ttl=TTL,
        procs=procs,
        proxy=proxy,
        command=command,
        steered=steered,
    )
    try:
        faults.happen(FAULTS, pages=before + pages * 4 // 5)
        cluster.finish()
    finally:
        print(faults.told())  # noqa: T201
    assert faults.kinds.total() >= least, "a storm that was over before it began"
    figure("storm", storms=1, pages=pages, **faults.kinds)


def rich(site: Site, pages: int) -> tuple[Place, set[Place]]:
    """A random web in which some hosts have a sitemap, of pages that no link leads to, and some pages set a cookie:
    where to start, and what is to be found within `DEPTH` links. What a sitemap lists is one link from a seed.
    """
    start = grown(site, pages, hosts=HOSTS)
    hosts = sorted(site.hosts())[:10]
    listed: list[Place] = []
    for host in hosts:
        site.robots(host, f"User-agent: *\nSitemap: {site.url(host, '/sitemap.xml')}\n")
        here = [
            site.page(host, f"/listed/{number}", links=[site.page(host, f"/below/{number}")])
            for number in range(5)
        ]
        entries = "".join(f"<url><loc>{site.url(*place)}</loc></url>" for place in here)
        text = f"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>{entries}</urlset>"
        site.answer(host, "/sitemap.xml", Answer(200, {"Content-Type": "application/xml"}, text.encode()))
        listed += here
    cookies = [
        site.answer(host, "/cookie", Answer(200, {"Content-Type": "text/plain", "Set-Cookie": "a=1"}, b"me"))
        for host in hosts
    ]
    site.page(*start, links=[*site.links(*start), *cookies])
    found, edge = {start, *listed}, {start, *listed}
    for depth in range(DEPTH):
        # The seed's own links, then with theirs those of what is listed.
        next_to = {link for place in (edge if depth else {start}) for link in site.links(*place)}
        edge = (next_to - found) | (set() if depth else set(listed))
        found |= edge
    return start, found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("procs", [1, 3] if LONG else [3])
def test_a_storm_within_a_depth_with_sitemaps_cookies_and_a_second_round_breaks_nothing(
    procs: int, seed: int, site: Site, tmp_path: Path
) -> None:
    start, found = rich(site, PAGES if LONG else 1500)
    options = ("--max-depth", str(DEPTH), "--cookies")
    with Cluster(
        tmp_path, site, start, delay=DELAY, lease_ttl=TTL, heartbeat=HEARTBEAT, options=options
    ) as cluster:
        for number in range(2):
            if number:
                cluster.more = ("--recrawl",)
            cluster.coordinate("crawl", procs=procs)
            storm(
                cluster,
                seed + number,
                procs=procs,
                pages=len(found),
                before=cluster.lines(),
                steered=True,
                least=3,
            )
        assert len(rounds(cluster.out)) >= 2
        check(cluster.out, site, start, delay=DELAY, thaws=cluster.thaws, found=found)
        audited(cluster.out)


def test_no_fetch_is_early_by_even_a_millisecond(site: Site, tmp_path: Path) -> None:
    """uvloop's timers count whole milliseconds of a clock that is cut to them: a sleep may end early."""
    start = grown(site, 1000)
    with Cluster(tmp_path, site, start, delay=0.03) as cluster:
        cluster.coordinate("start")
        cluster.work()
        cluster.finish()
        assert check(cluster.out, site, start, delay=0.03) == 1050, (
            "robots.txt of each host, and each page, once"
        )


@pytest.mark.parametrize("command", ["start", "crawl"])
def test_a_coordinator_started_again_goes_on_within_seconds(command: str, site: Site, tmp_path: Path) -> None:
    """Far within the 30 s of a lease: remote workers reconnect, local ones are known dead by the lock in DIR."""
    start = grown(site, 800)
    with Cluster(tmp_path, site, start, delay=DELAY) as cluster:
        coordinator = cluster.coordinate(command)
        if command == "start":
            cluster.work()
        until(lambda: cluster.lines() >= 200, "200 lines")
        cluster.kill(coordinator.pid)
        before = cluster.lines()
        cluster.coordinate(command)
        took = until(lambda: cluster.lines() > before + 50, "it goes on\n" + cluster.tail(), 60)
        assert took < 15, f"{took:.1f} s"
        cluster.finish()
        check(cluster.out, site, start, delay=DELAY)


def test_a_killed_process_under_a_living_supervisor_costs_no_waiting(site: Site, tmp_path: Path) -> None:
    """Its successor names it, and its leases end at once (rule 12). Whoever waited for one to run out, in ten minutes
    here, would not be done in time.
    """
    start = grown(site, 1000)
    with Cluster(tmp_path, site, start, delay=DELAY, lease_ttl=600.0) as cluster:
        cluster.coordinate("start")
        cluster.work()
        until(lambda: cluster.lines() >= 200, "200 lines")
        for worker in cluster.workers():
            cluster.kill(worker)
        cluster.finish(60)
        assert not cluster.noted("lease.expired")
        check(cluster.out, site, start, delay=DELAY)


@pytest.mark.parametrize("how", ["killed", "frozen", "cut off"])
def test_a_machine_that_vanishes_costs_at_most_a_leases_time(how: str, site: Site, tmp_path: Path) -> None:
    """No goodbye: its processes die all at once, or stand still for ever, or talk to nobody. Another machine does their
    work. The time until then is told by what that one did meanwhile: it visits its hosts every `DELAY` at most. A lease
    may still be lent to a machine that is silent for less than three heartbeats: then T is the most until it is over.
    """
    start = grown(site, 1200, hosts=20)
    with (
        Cluster(tmp_path, site, start, delay=DELAY, lease_ttl=TTL, heartbeat=HEARTBEAT) as cluster,
        Proxy(cluster.port) as proxy,
        Proxy(cluster.port) as late,
    ):
        cluster.work(proxy)
        until(lambda: len(cluster.workers()) == 2, "they wait for a coordinator")
        vanishing = [seen.pid for seen in cluster.processes()]
        late.refuse()
        cluster.work(late)
        until(lambda: len(cluster.workers()) == 4, "and so do the others")
        # A host stays with who had it last: the first to come is lent to again and again.
        cluster.coordinate("start")
        until(lambda: cluster.lines() >= 20, "the machine is at work")
        late.heal()
        until(lambda: len(cluster.noted("worker.joined")) == 4, "the other is there")
        proxy.stall() if how == "cut off" else cluster.vanish(vanishing, for_good=how == "killed")
        vanished = time.monotonic()
        assert cluster.coordinator is not None
        assert cluster.coordinator.wait(60) == 0
        assert cluster.supervisor is not None
        assert cluster.supervisor.wait(30) == 0
        expired = cluster.noted("lease.expired")
        assert expired, "it held leases"
        last = expired[-1] - time.time() + time.monotonic()
        visits = Counter(hit.host for hit in site.log if vanished < hit.arrived < last)
        most = SILENT_HEARTBEATS * HEARTBEAT + SLACK * TTL
        # The machine that is left visits what hosts it had; where it had none, only a hang would show.
        assert max(visits.values(), default=0) <= most / DELAY + 10, f"{last - vanished:.1f} s"
        assert last - vanished < most + 30
        check(cluster.out, site, start, delay=DELAY)
        figure("vanished", **{how.replace(" ", "_"): 1})


def test_workers_behind_a_tunnel_wait_for_a_coordinator_that_is_not_there_yet(
    site: Site, tmp_path: Path
) -> None:
    """A forwarder accepts and hangs up: that is no wrong key, neither at first nor after a restart."""
    start = grown(site, 300)
    with Cluster(tmp_path, site, start, delay=0.02) as cluster, Proxy(cluster.port) as proxy:
        supervisor = cluster.work(proxy)
        until(lambda: proxy.turned_away > 20, "some connections were in vain")
        assert supervisor.poll() is None, cluster.tail()
        coordinator = cluster.coordinate("start")
        until(lambda: cluster.lines() >= 50, "50 lines")
        cluster.kill(coordinator.pid)
        turned_away = proxy.turned_away
        until(lambda: proxy.turned_away > turned_away + 20, "more connections were in vain")
        cluster.coordinate("start")
        cluster.finish()
        check(cluster.out, site, start, delay=0.02)


def test_no_process_outlives_its_coordinator_or_its_supervisor(site: Site, tmp_path: Path) -> None:
    start = grown(site, 500)
    with Cluster(tmp_path, site, start, delay=DELAY) as cluster:
        for command in ("crawl", "start"):
            before = cluster.lines()
            coordinator = cluster.coordinate(command)
            root = coordinator if command == "crawl" else cluster.work()
            until(lambda before=before: cluster.lines() > before and len(cluster.workers()) == 2, "it runs")
            let_pass(random.random())
            cluster.kill(root.pid)
            if command == "start":
                cluster.kill(coordinator.pid)
            until(lambda: not cluster.processes(), "all are gone", 10)
