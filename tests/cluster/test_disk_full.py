"""A disk without room: the crawl waits and says so, goes on by itself when there is room, and nothing is torn.

DIR stands on a disk of a few megabytes that the kernel really fills (tests/support/smalldisk.py), below real
coordinators and workers. Where nobody may mount one, these tests are skipped and say so.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, check, coord, let_pass, until
from tests.support.site import Answer, Place, Site
from tests.support.smalldisk import MountedDisk, mounted_disk

DELAY = 0.05
MIB = 1 << 20
MEGABYTES = 64
PAGES = 600


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    with mounted_disk(tmp_path / "disk", MEGABYTES) as disk:
        yield disk


def heavy(site: Site) -> Place:
    """Pages that do not compress: some 16 KB each, a few above 1 MiB, which travel in pieces."""
    start = site.grow(seed=5, hosts=20, pages=PAGES)
    rng = random.Random(5)
    odd: list[Place] = []
    for number, host in enumerate(site.hosts()):
        for each in range(10):
            size = 1_300_000 if number % 7 == 0 and each == 0 else 16_000
            body = Answer(200, {"Content-Type": "image/png"}, rng.randbytes(size))
            odd.append(site.answer(host, f"/noise/{each}", body))
    site.page(*start, links=[*site.links(*start), *odd])
    return start


def status(cluster: Cluster) -> dict[str, object]:
    said = coord("status", str(cluster.out), "--json")
    return json.loads(said.stdout)


@pytest.mark.parametrize("command", ["crawl", "start"])
def test_a_crawl_waits_for_room_says_so_and_goes_on_by_itself(
    command: str, site: Site, disk: MountedDisk, tmp_path: Path
) -> None:
    """No --min-free: it is the kernel that refuses, in the middle of whatever is being written."""
    start = heavy(site)
    with Cluster(
        tmp_path, site, start, delay=DELAY, out=disk.folder / "crawl", options=("--min-free", "0")
    ) as cluster:
        cluster.coordinate(command)
        if command == "start":
            cluster.work()
        until(lambda: cluster.lines() >= 50, "50 lines\n" + cluster.tail())
        disk.leave(0)
        until(lambda: "disk.full" in cluster.tail(), "it says so", 30)
        before = len(site.log)
        until(lambda: "disk full" in status(cluster)["limits"], "status says so", 30)
        let_pass(2)
        print(len(site.log) - before, "more requests")
        let_pass(4)
        print(len(site.log) - before, "more requests")
        print(cluster.tail())
        disk.relieve()
        cluster.finish()
        check(cluster.out, site, start, delay=DELAY)
