"""A coordinator that is killed with 100,000 URLs queued and started again: it goes on at once, and so do its workers.

A lease's time is ten minutes here. So whatever waits for one to run out is not done in time, whatever the machine does
besides; how many seconds a start took is told (tests/support/figures.py) and hardly judged.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, audited, check_records, coord, results, until
from tests.support.figures import figure
from tests.support.site import Answer, Site

URLS, HOSTS = 100_000, 50
DELAY = 0.2
TTL = 600.0
SLOW = 1.0
"""Seconds that the pages of some hosts take: they are in flight when the coordinator is killed."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def seeds(site: Site, tmp_path: Path) -> Path:
    """A list of 100,000 URLs. Every fifth host is slow: something of it is in flight at any moment."""
    hosts = [f"h{number}.test" for number in range(HOSTS)]
    slow = Answer(200, {"Content-Type": "text/plain"}, b"at last\n", wait=SLOW)
    listed = []
    for number in range(URLS):
        place = hosts[number % HOSTS], f"/{number // HOSTS}"
        if number < HOSTS:
            site.page(*place)
        if number % 5 == 0:
            site.answer(*place, slow)
        listed.append(site.url(*place) + "\n")
    path = tmp_path / "seeds.txt"
    path.write_text("".join(listed))
    return path


def again(cluster: Cluster, site: Site, command: str) -> float:
    """Kill the coordinator and start it; the seconds until every host is visited anew."""
    assert cluster.coordinator is not None
    until(lambda: sum(hit.ended is None for hit in site.log) >= 3, "something is in flight")
    cluster.kill(cluster.coordinator.pid)
    if command == "crawl":
        until(lambda: not cluster.processes(), "its workers leave")
    before = cluster.lines()
    count = len(site.log)
    cluster.coordinate(command)
    took = until(lambda: cluster.lines() > before, "it stores again\n" + cluster.tail(), 60)
    everybody = set(site.hosts())
    until(
        lambda: {hit.host for hit in site.log[count:] if hit.target != "/robots.txt"} == everybody,
        "every host is visited again: nobody waits for a lease to run out",
        60,
    )
    return took


@pytest.mark.parametrize("command", ["start", "crawl"])
def test_with_100_000_queued_it_goes_on_at_once(
    command: str, site: Site, seeds: Path, tmp_path: Path
) -> None:
    """Remote workers reconnect by themselves, and nothing that they hold is fetched twice. Local ones left with their
    coordinator, which the lock in DIR tells: theirs is lent again.
    """
    with Cluster(
        tmp_path,
        site,
        ("h0.test", "/0"),
        delay=DELAY,
        lease_ttl=TTL,
        seeds=seeds,
        options=("--no-follow",),
    ) as cluster:
        cluster.coordinate(command)
        if command == "start":
            cluster.work()
        told = cluster.out / "seeds" / "seeds-00000.jsonl"
        until(lambda: told.exists() and told.read_bytes().count(b"\n") == URLS, "all are queued", 90)
        until(lambda: cluster.lines() >= HOSTS // 2, "some are fetched")
        took = again(cluster, site, command)
        assert cluster.coordinator is not None
        assert coord("stop", str(cluster.out)).returncode == 0
        assert cluster.coordinator.wait(30) == 3, cluster.tail()
        check_records(cluster.out, results(cluster.out))
        assert f"{URLS:,}" in audited(cluster.out)
        twice = [place for place, times in fetched(site).items() if times > 1]
        if command == "start":
            assert not twice, f"in flight, and fetched again: {twice[:5]}"
        figure("restart", **{f"{command}_seconds": took, f"{command}_fetched_again": len(twice)})


def fetched(site: Site) -> Counter[tuple[str, str]]:
    """How often each page was asked for."""
    return Counter((hit.host, hit.target) for hit in site.log if hit.target != "/robots.txt")
