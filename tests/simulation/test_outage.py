"""A worker machine that loses its way to every site: no try is counted, nothing is lost, and it goes on by itself."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from common.url import CanonicalURL
from tests.simulation.cluster import Cluster
from tests.simulation.parts import Parts
from tests.simulation.web import Page, Web

HOSTS = 8
SEEDS = 12


class Cut(Parts):
    """One machine that is cut off again and again while it visits many hosts. A page is tried three times, no more."""

    machines = 1

    def arrange(self, cluster: Cluster) -> None:
        random = cluster.world.random
        cluster.config = replace(
            cluster.config,
            delay=0.3,
            per_host=1,
            concurrency=16,
            host=(),
            retries=2,
            max_pages_per_host=None,
            obey_robots=random.random() < 0.5,
        )
        cluster.config_in_force, cluster.budget = cluster.config, None
        cluster.handshakes = (0.05, 1.0)
        cluster.slow_pages = 0.0
        cluster.use(*_web(random))
        for _ in range(4):
            begin, seconds = random.uniform(2.0, 30.0), random.choice((8.0, 20.0, 90.0))
            cluster.world.at(begin, lambda seconds=seconds: cluster.machines[0].lose_network(seconds))


def _web(random: Random) -> tuple[Web, tuple[CanonicalURL, ...]]:
    """Hosts with a chain of pages each, all of them good."""
    web = Web()
    seeds = []
    for host in range(HOSTS):
        urls = [CanonicalURL(f"https://h{host}.test/p{number}") for number in range(60)]
        seeds.append(urls[0])
        for url, following in zip(urls, (*urls[1:], None), strict=True):
            links = () if following is None else (following,)
            web.add(Page(url, 200, links=links, seconds=random.choice((0.05, 0.5))))
    return web, tuple(seeds)


def test_a_machine_that_is_cut_off_fails_no_page() -> None:
    noticed = 0
    for seed in range(SEEDS):
        cluster = Cluster(seed, Cut(), storms=False)
        result = cluster.run()
        assert result.broken is None, "\n".join((*result.story, f"seed {seed}: {result.broken}"))
        noticed += any(line.verb == "probes" and line.detail == "works=False" for line in cluster.world.trace)
    assert noticed >= SEEDS // 2


def test_without_the_suspicion_pages_would_fail() -> None:
    """It bites: the same runs and more of them, with failures that nobody marks."""

    def breaks(seed: int) -> bool:
        cluster = Cluster(seed, Cut(), storms=False)
        cluster.machines[0].marks_failures = False
        return cluster.run().broken is not None

    assert any(breaks(seed) for seed in range(5 * SEEDS))
