"""What a configuration says about single hosts: the `[[host]]` rules, and the policy they come to.

Every rule whose pattern matches the host key applies, in the order of the file, so that the last one that says
something about an option wins: general rules first, exceptions below them.

Pure. `CrawlConfig.for_host` remembers what `policy_for` says.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from common.options import HEADERS, PROXIES, SECONDS, SWITCH, Kind, whole


class HostPolicy(NamedTuple):
    """How one host is visited, as configured; what robots.txt and response times add is the frontier's."""

    delay: float
    """Seconds from the end of one fetch to the start of the next in the same lane."""
    per_host: int
    """Lanes: fetches of this host at one time."""
    blocked: bool = False
    """Nothing of it is fetched: its requests end as OPERATOR."""
    headers: tuple[tuple[str, str], ...] = ()
    """(name, value) pairs sent with every request to it."""
    proxies: tuple[str, ...] = ()
    """Proxies for it; none: a direct connection."""


@dataclass(frozen=True, slots=True)
class HostRule:
    """One `[[host]]` table. None: this rule leaves the option as it was."""

    match: str
    """Shell pattern (`*`, `?`, `[...]`) for the whole host key, lower case; `*.gov.uk` is not `gov.uk`
    itself."""
    delay: float | None = None
    per_host: int | None = None
    blocked: bool | None = None
    header: tuple[str, ...] | None = None
    proxy: tuple[str, ...] | None = None


RULE_OPTIONS: dict[str, Kind] = {
    "delay": SECONDS,
    "per_host": whole(),
    "blocked": SWITCH,
    "header": HEADERS,
    "proxy": PROXIES,
}
"""What a `[[host]]` table may say beside `match`, in the order of its row on the wire."""


def policy_for(host_key: str, rules: Iterable[HostRule], otherwise: HostPolicy) -> HostPolicy:
    """What the rules come to for one host; where none of them says anything, `otherwise`. About 2 µs a rule."""
    policy = otherwise
    for rule in rules:
        if fnmatch.fnmatchcase(host_key, rule.match):
            policy = HostPolicy(
                policy.delay if rule.delay is None else rule.delay,
                policy.per_host if rule.per_host is None else rule.per_host,
                policy.blocked if rule.blocked is None else rule.blocked,
                policy.headers if rule.header is None else header_pairs(rule.header),
                policy.proxies if rule.proxy is None else rule.proxy,
            )
    return policy


def header_pairs(lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Header lines as (name, value) pairs."""
    return tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))


def host_named(match: str) -> str | None:
    """The one host that a pattern matches; None if it may match several."""
    name = match.replace("[[]", "[")
    return name if glob.escape(name) == match else None
