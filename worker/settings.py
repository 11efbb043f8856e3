"""What the command line hands to the supervisor, and the supervisor to each process: everything decided."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from common.endpoints import is_loopback, parse
from common.log import LogSettings
from common.options import ALL_PRIVATE

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ALL_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "198.18.0.0/15",
            "::1/128",
            "fc00::/7",
            "2001:2::/48",
        ),
    )
)
"""What the word `all` opens in `worker/addresses.py`, as networks, so that it can be intersected with others.
What lies in them and is not opened by the word (metadata services) is not opened by its network either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """One start of `worker start`; the same for all of its processes. Travels to them pickled, from parent to
    child."""

    coord: str
    """`tcp://HOST:PORT` of shard 0's control socket."""
    key: str | None = field(default=None, repr=False)
    """Text of a `WorkerKey`, known to be one. None: no CURVE, which only a coordinator on this machine accepts."""
    procs: int = 1
    allow_private: tuple[str, ...] = ()
    """What this machine's owner allows, as `CrawlConfig.allow_private`; beyond loopback both must allow an
    address."""
    allow_code: bool = False
    """Whether code that the coordinator sends may run here."""
    lock: Path | None = None
    """File that each process holds a shared lock on while it lives (PROTOCOL rule 12): `coord crawl` started us."""
    lifeline: int | None = None
    """File descriptor that becomes readable when whoever started us is gone; then all leave at once."""
    quiet_start: bool = False
    """Say nothing when all is well: the coordinator on the same terminal does."""
    log: LogSettings = field(default_factory=LogSettings)
    """In each process its own file."""

    def private_networks(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """What of the private addresses that a crawl asks for may be fetched from here.

        A coordinator on loopback is run by whoever runs us: what it asks for holds. Anybody else's crawl gets
        what both sides name.
        """
        if self._coordinator_is_local() or asked == self.allow_private:
            return asked
        ours = _networks(self.allow_private)
        common = [
            narrower for one in _networks(asked) for other in ours if (narrower := _overlap(one, other))
        ]
        return tuple(str(network) for network in dict.fromkeys(common))

    def _coordinator_is_local(self) -> bool:
        return (
            self.lock is not None
            or self.coord.startswith("ipc://")
            or is_loopback(parse(self.coord, "--coord")[0])
        )


def _networks(allowed: tuple[str, ...]) -> list[Network]:
    found: list[Network] = []
    for text in allowed:
        found += _ALL_PRIVATE if text == ALL_PRIVATE else (ipaddress.ip_network(text),)
    return found


def _overlap(one: Network, other: Network) -> Network | None:
    """Of two networks the one that lies in the other; None if neither does (networks never overlap in
    part)."""
    if one.version != other.version or not one.overlaps(other):
        return None
    return max(one, other, key=lambda network: network.prefixlen)
