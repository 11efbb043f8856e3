"""The probes: a synthetic web with one or more for each line of "a thorough and polite crawler".

Each probe is a function named as its host is: `robots_absent` (in robots.py) lives on robots-absent.test. It may be
read from top to bottom: what stands where, and what must come of it (manifest.py says how that is judged). `CRAWLS` are
the command lines; a probe belongs to one of them. docs/probes.md is made of the words that stand with the probes, by
`python -m tests.probes`. Here is what they share; web.py has them all.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.probes.manifest import Plan, Probe

POLITENESS = "Politeness"
ROBOTS = "robots.txt"
SITEMAPS = "Sitemaps"
CANONICAL = "Canonical form"
LINKS = "Links"
CHARSET = "Charset"
REDIRECTS = "Redirects, cookies, headers"
TYPES = "Content types"
RETRIES = "Retries"
SCOPE = "Scope and traps"
DNS = "DNS"
TLS = "TLS and proxies"
DUPLICATES = "Near-duplicates"
RECRAWL = "Recrawl"

SECTIONS: Final = (
    *(POLITENESS, ROBOTS, SITEMAPS, CANONICAL, LINKS, CHARSET, REDIRECTS, TYPES, RETRIES, SCOPE),
    *(DNS, TLS, DUPLICATES, RECRAWL),
)
"""As the requirements have them."""


HERE: Final = "10.77.0.1"
"""The usual address of hosts in a network of our own; what follows are others."""
HERE_TOO: Final = "10.77.0.2"
SOCKS_SIDE: Final = "10.77.0.3"
NOBODY: Final = "10.77.0.9"
HERE_V6: Final = "fd77::1"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of one crawl, beyond what all have."""

    typed: str
    """As in a shell."""
    obeys: bool = True
    """Whether robots.txt is."""

    @property
    def words(self) -> list[str]:
        """As a program gets them."""
        return shlex.split(self.typed)


CRAWLS: Final[Mapping[str, Options]] = {
    "main": Options(
        "--scope any --retries 1 --silence-timeout 2 --max-bytes 1MiB --insecure '*.let-in.tls-reasons.test' "
        "--header 'X-Tour: yes' --header 'Cookie: seed=1'"
    ),
    "switched": Options(
        "--scope any --retries 0 --media --skip-nofollow-links --cookies --sort-query --strip-tracking "
        "--strip-session-ids --strip-www --reject 'video/*,application/zip' --near-duplicates 4 --per-ip 1"
    ),
    "loose": Options(
        "--scope any --retries 0 --accept text/html --ignore-robots --no-guards --no-sitemaps --max-depth 2",
        obeys=False,
    ),
    "host": Options("--retries 0 --deny /denied --max-pages-per-host 6"),
    "domain": Options("--scope domain --retries 0 --max-pages 9"),
    "prefix": Options("--scope prefix --retries 0 --allow '/docs/[a-z]*$'"),
    "list": Options("--no-follow --retries 0"),
    "apart": Options(
        f"--scope any --retries 0 --per-ip 2 --connect-timeout 3 --allow-private={HERE}/24,{HERE_V6}/64"
    ),
    "proxied": Options(f"--scope any --retries 0 --allow-private={HERE}/24"),
    "again": Options("--scope any --retries 0"),
    "later": Options("--scope any --retries 1 --silence-timeout 1"),
}
"""`apart` and `proxied` run in a network of their own, with a name server. `again` is a crawl and a recrawl. `later` is
stopped, for its hosts wait for minutes; then its robots.txt are made a day older, and it goes on with more seeds."""

PROBES: Final[list[Probe]] = []

ELSEWHERE: Final = (
    (POLITENESS, "`Retry-After` and `Crawl-delay` obeyed *up to a bound*", "tests/unit/test_policy.py"),
    (POLITENESS, "the cap per IP address divided over shards", "tests/unit/test_lending.py"),
    (
        POLITENESS,
        "a worker where every host fails at once suspects its own network",
        "tests/cluster/test_offline.py",
    ),
    (POLITENESS, "`coord set`, `coord block`, `coord retry`", "tests/cluster/test_steering.py"),
    (POLITENESS, "without a contact one warning", "tests/cluster/test_first_hours.py"),
    (ROBOTS, "Google's and crawler-commons' files", "tests/unit/test_robots_files.py, docs/suites.md"),
    (ROBOTS, "five tries of an unreachable file, then ROBOTS_UNREACHABLE", "tests/unit/test_shard.py"),
    (SITEMAPS, "`lastmod` kept; bounds on size", "tests/unit/test_listing.py, tests/unit/test_sitemap.py"),
    (CANONICAL, "web-platform-tests and crawler-commons cases", "tests/unit/test_url.py, docs/suites.md"),
    (LINKS, "the same, case by case", "tests/unit/test_parse.py, tests/loopback/test_hostile_pages.py"),
    (SCOPE, "a calendar's 15,001st page, the 1,001st very long URL", "tests/unit/test_traps.py"),
    (DNS, "bounds of the cache, times to live", "tests/loopback/test_resolver.py"),
    (TLS, "protocol failures of TLS", "tests/loopback/test_network_edge.py"),
    (TLS, "proxies that fail in every way they can", "tests/loopback/test_proxies.py"),
    (DUPLICATES, "precision and recall on a labelled set", "docs/near-duplicates.md"),
    (RECRAWL, "`--recrawl=AGE`, several rounds, killed in between", "tests/cluster/test_steering.py"),
)
"""What needs no web or more than a minute, and where it is tested."""


def probe(
    section: str, clause: str, *, finds: str, spares: str = "", crawl: str = "main"
) -> Callable[[Callable[[Plan], None]], Callable[[Plan], None]]:
    """Enter a probe. `clause`: of the section, in few words."""

    def enter(build: Callable[[Plan], None]) -> Callable[[Plan], None]:
        PROBES.append(Probe(build.__name__.replace("_", "-"), section, clause, crawl, finds, spares, build))
        return build

    return enter
