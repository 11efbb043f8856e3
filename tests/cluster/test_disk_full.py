"""A disk without room: the crawl waits and says so, goes on by itself when there is room, and nothing is torn.

DIR stands on a disk of a few megabytes that the kernel really fills (tests/support/smalldisk.py), below real
coordinators and workers. Where nobody may mount one, these tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, audited, check, coord, let_pass, results, until
from tests.support.figures import figure
from tests.support.site import Answer, Place, Site
from tests.support.smalldisk import MountedDisk, mounted_disk

DELAY = 0.05
MEGABYTES = 64
HOSTS, PAGES = 12, 240

HELD = 16
"""Pages that a worker process may hold unanswered: so few that a crawl which does not stop shows it soon."""

PROCS = 2

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    with mounted_disk(tmp_path / "disk", MEGABYTES) as disk:
        yield disk


def heavy(site: Site) -> Place:
    """Pages, and images of noise, which no compression makes small; some travel in pieces."""
    start = site.grow(seed=5, hosts=HOSTS, pages=PAGES)
    rng = random.Random(5)
    odd: list[Place] = []
    for number, host in enumerate(site.hosts()):
        for each in range(20):
            size = 1_300_000 if number % 4 == 0 and each % 8 == 0 else 16_000
            odd.append(
                site.answer(
                    host, f"/noise/{each}", Answer(200, {"Content-Type": "image/png"}, rng.randbytes(size))
                )
            )
    site.page(*start, links=[*site.links(*start), *odd])
    return start


def status(cluster: Cluster) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(coord("status", str(cluster.out), "--json").stdout)
    return said


def stands_still(site: Site, most: int, while_doing: Callable[[], object]) -> None:
    """From now on not more than `most` requests come, however long one waits."""
    before = len(site.log)
    while_doing()
    let_pass(1.0)
    count = len(site.log)
    assert count - before <= most, f"{count - before} requests while nothing can be stored"
    let_pass(0.5)
    assert len(site.log) == count, "it went on fetching"


@pytest.mark.parametrize("command", ["crawl", "start"] if "SHOAL_TORTURE" in os.environ else ["start"])
def test_a_crawl_that_finds_no_room_waits_says_so_and_goes_on_by_itself(
    command: str, site: Site, disk: MountedDisk, tmp_path: Path
) -> None:
    """Without --min-free: it is the kernel that refuses, in the middle of whatever is being written.

    For longer than leases last, so they have to be renewed meanwhile, or run out in good order.
    """
    start = heavy(site)
    with Cluster(
        tmp_path,
        site,
        start,
        delay=DELAY,
        lease_ttl=1.5,
        heartbeat=0.3,
        tuning=f"unacknowledged_pages = {HELD}\n",
        out=disk.folder / "crawl",
        options=("--min-free", "0"),
    ) as cluster:
        cluster.coordinate(command, procs=PROCS)
        if command == "start":
            cluster.work(procs=PROCS)
        until(lambda: cluster.lines() >= 50, "50 lines\n" + cluster.tail())
        disk.leave(0)
        until(lambda: "disk.full" in cluster.tail(), "it says so")
        until(lambda: "disk full" in status(cluster)["limits"], "status says so")
        stands_still(
            site,
            PROCS * (HELD + HOSTS),
            lambda: until(lambda: "summary.kept" in cluster.tail(), "summary.json finds no room", 30),
        )
        disk.relieve()
        until(lambda: "disk.enough" in cluster.tail(), "it says that there is room")
        cluster.finish()
        assert "disk.enough" in (cluster.out / "logs" / "coord.log").read_text(), "the log goes on, too"
        check(cluster.out, site, start, delay=DELAY)
        audited(cluster.out)
        figure("disk", by_the_crawl=1)


def test_min_free_stops_a_crawl_before_the_disk_is_full(
    site: Site, disk: MountedDisk, tmp_path: Path
) -> None:
    start = heavy(site)
    out = disk.folder / "crawl"
    with Cluster(tmp_path, site, start, delay=DELAY, out=out, options=("--min-free", "16MiB")) as cluster:
        cluster.coordinate("crawl")
        until(lambda: cluster.lines() >= 50, "50 lines\n" + cluster.tail())
        disk.leave(12 << 20)
        until(lambda: "disk.short" in cluster.tail(), "it says so")
        until(lambda: "disk short" in status(cluster)["limits"], "status says so")
        until(lambda: not status(cluster)["leased"], "all is brought home")
        stands_still(site, 0, lambda: None)
        assert disk.free > 1 << 20 and "disk.full" not in cluster.tail(), "there is room yet"
        disk.relieve()
        cluster.finish()
        check(cluster.out, site, start, delay=DELAY)
        audited(out)
        figure("disk", down_to_min_free=1)


def test_a_store_that_finds_no_room_answers_and_takes_all_of_it_later(
    site: Site, disk: MountedDisk, tmp_path: Path
) -> None:
    """Seeds are rows and nothing else: RocksDB's own log is what is full, and then DIR/seeds and crawl.toml."""
    begin = site.page("h0.test", "/")
    hosts = [f"h{number}.test" for number in range(40)]
    for host in hosts:
        site.page(host, "/")
    listed = [site.url(host, f"/{number}/{'x' * 900}") for number in range(25) for host in hosts]
    (tmp_path / "seeds.txt").write_text("\n".join(listed))
    out = disk.folder / "crawl"
    with Cluster(
        tmp_path, site, begin, delay=0.01, out=out, options=("--min-free", "0", "--stay", "--no-follow")
    ) as cluster:
        cluster.coordinate("start")
        until(lambda: (out / "coord.json").exists() and status(cluster)["queued"] == 1, "the seed is queued")
        disk.leave(0)
        adding = cluster.coord("add", str(tmp_path / "seeds.txt"))
        until(lambda: "disk.full" in cluster.tail(), "it says so")
        assert "no room for the store" in cluster.tail()
        told = coord("why", str(out), site.url(*begin))
        assert told.returncode == 0 and "QUEUED" in told.stdout, told
        before = (out / "crawl.toml").read_bytes()
        said = coord("set", str(out), "delay=0.02")
        assert said.returncode == 2 and said.stderr.count("\n") == 1 and "No space left" in said.stderr, said
        assert (out / "crawl.toml").read_bytes() == before
        # Who lends has to read, and must not lend what is not durable.
        cluster.work(procs=1)
        until(lambda: status(cluster)["workers"], "a worker comes")
        stands_still(site, 0, lambda: None)
        assert adding.poll() is None, "nothing was promised"
        disk.relieve()
        assert adding.wait(60) == 0, cluster.tail()
        until(lambda: cluster.lines() == len(listed) + 1, "all are fetched", 60)
        assert coord("stop", str(out)).returncode == 0
        assert cluster.coordinator is not None and cluster.coordinator.wait(30) == 3
        assert set(results(out)) == {site.url(*begin), *listed}
        told_of = [
            json.loads(line)["url"] for path in out.glob("seeds/*") for line in path.read_text().splitlines()
        ]
        assert sorted(told_of) == sorted([site.url(*begin), *listed]), "each line once, none torn"
        audited(out)
        figure("disk", by_the_store=1)


def test_a_start_on_a_full_disk_is_one_line_and_the_same_command_works_later(
    site: Site, disk: MountedDisk, tmp_path: Path
) -> None:
    begin = site.page("a.test", "/")
    hosts = site.hosts_file(tmp_path / "hosts")
    command = ["crawl", site.url(*begin), "--out", str(disk.folder / "c"), "--procs", "1", "--no-progress"]
    command += ["--contact", "t@shoal.test", "--hosts-file", str(hosts), "--allow-private", "--min-free", "0"]
    disk.leave(0)
    for room in (0, 40 << 10):  # not even FORMAT; no store
        disk.leave(room)
        said = coord(*command)
        assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1), said
        assert "No space left" in said.stderr or "no room" in said.stderr
    disk.relieve()
    assert coord(*command).returncode == 0
    assert set(results(disk.folder / "c")) == {site.url(*begin)}
    audited(disk.folder / "c")
    figure("disk", before_a_start=1)
