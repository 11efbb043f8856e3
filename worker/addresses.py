"""Which IP addresses a worker may connect to.

A crawler follows links that strangers wrote; without this, a page could make it read the machine's own
services, the neighbours in its network or the cloud's metadata service. `refusal` names the kind of an
address that is refused, or says None. It is asked when a socket is about to be connected, with the address
that is really connected to: names that change their answer, address literals and redirects need no care of
their own.

Pure: no sockets, no names. What is allowed comes from `--allow-private[=CIDR,...]` as an `Allowed`.

Invariants:
  1. An IPv6 address that carries an IPv4 address (mapped, compatible, 6to4, NAT64) is judged as both.
  2. `all` opens private, loopback, shared and benchmark addresses only. Any other kind must be named by a
     network that lies within that kind; a metadata address only by itself (`169.254.169.254/32`), so that
     nobody opens it by opening a large network around it.

Source: IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890, 8190) and the clouds' own
documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from common.errors import UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ALL = frozenset({"all", "private"})
"""The words for a bare `--allow-private`."""

# The first network of the table that holds an address names its kind: metadata stands before what surrounds
# it.
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "metadata",
        (
            "169.254.169.254/32",  # AWS, Google, Azure, OpenStack, DigitalOcean, ...
            "169.254.170.2/32",  # AWS, credentials of a container task
            "169.254.170.23/32",  # AWS, credentials of a pod
            "169.254.0.23/32",  # Tencent
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure's wire server; looks public
            "192.0.0.192/32",  # Oracle, classic
            "fd00:ec2::254/128",  # AWS over IPv6
            "fd00:ec2::23/128",  # AWS, pods over IPv6
            "fd20:ce::254/128",  # Google over IPv6
        ),
    ),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link_local", ("169.254.0.0/16", "fe80::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")),
    ("shared", ("100.64.0.0/10",)),
    ("benchmark", ("198.18.0.0/15", "2001:2::/48")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    (
        "reserved",
        (
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",  # protocol assignments: Teredo, ORCHID; nothing on the web lives there
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
        ),
    ),
)

_OPENED_BY_ALL = frozenset({"private", "loopback", "shared", "benchmark"})

_EMBEDDED: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated (SIIT, RFC 2765)
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (IPv6Network("::/96"), 0),  # compatible, deprecated; also holds :: and ::1, which are looked up first
    (IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056): bits 16 to 47
)
"""Networks of IPv6 addresses that carry an IPv4 address, and how many bits stand to the right of it."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What `--allow-private` opens; made by `parse_allowed`."""

    everything: bool = False
    networks: tuple[Network, ...] = ()


NOTHING = Allowed()
"""The default: public addresses only."""


def parse_allowed(texts: Iterable[str]) -> Allowed:
    """Read the parts of `--allow-private`: `all`, or networks in CIDR form; an address is a network of one.

    Raises `UsageError` for what is neither.
    """
    everything = False
    networks: list[Network] = []
    for text in texts:
        if text.strip().lower() in ALL:
            everything = True
            continue
        try:
            networks.append(ip_network(text.strip(), strict=False))
        except ValueError:
            raise UsageError(
                f"--allow-private {text!r}: no network; write it like 10.0.0.0/8 or fd00::/8"
            ) from None
    return Allowed(everything, tuple(networks))


@lru_cache(maxsize=8192)  # one entry per host lately connected to: 5 µs become 0.1
def refusal(ip: str | Address, allowed: Allowed = NOTHING) -> str | None:
    """The kind (`loopback`, `metadata`, ...) for which `ip` is refused; None: it may be connected to.

    A text that is no address is refused as `invalid`. A zone (`fe80::1%eth0`) does not change the kind.
    """
    if isinstance(ip, str):
        try:
            address: Address = ip_address(ip.partition("%")[0])
        except ValueError:
            return "invalid"
    else:
        address = ip
    found = _kind(address)
    if found is not None:
        name, network = found
        return None if _opened(address, name, network, allowed) else name
    inner = _embedded(address)
    return None if inner is None else refusal(inner, allowed)


def _kind(address: Address) -> tuple[str, Network] | None:
    for name, networks in _TABLE[address.version]:
        for network in networks:
            if address in network:
                return name, network
    return None


def _opened(address: Address, name: str, network: Network, allowed: Allowed) -> bool:
    if allowed.everything and name in _OPENED_BY_ALL:
        return True
    for opened in allowed.networks:
        if address not in opened:
            continue
        if name in _OPENED_BY_ALL or _within(opened, network):
            return True
    return False


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _embedded(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv6Address):
        for network, shift in _EMBEDDED:
            if address in network:
                return IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def _by_version(version: int) -> tuple[tuple[str, tuple[Network, ...]], ...]:
    kinds = ((name, tuple(map(ip_network, texts))) for name, texts in _KINDS)
    return tuple((name, tuple(n for n in networks if n.version == version)) for name, networks in kinds)


_TABLE = {4: _by_version(4), 6: _by_version(6)}
