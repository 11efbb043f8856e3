"""All probes; importing this makes them (registry.py)."""

from tests.probes import (
    again,
    bodies,
    limits,
    links,
    network,
    politeness,
    robots,
    sitemaps,
    urls,
    visits,
)
from tests.probes.registry import CRAWLS, ELSEWHERE, PROBES

__all__ = [
    "CRAWLS",
    "ELSEWHERE",
    "PROBES",
    "again",
    "bodies",
    "limits",
    "links",
    "network",
    "politeness",
    "robots",
    "sitemaps",
    "urls",
    "visits",
]
