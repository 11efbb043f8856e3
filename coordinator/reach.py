"""Where others reach this coordinator: addresses of this machine, and the commands to type on the others.

It decides nothing about where to listen: listening.py does. Nothing is sent to find an address.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

from common.options import ALL_PRIVATE
from common.processors import processors
from coordinator.calling import parse_address


def worker_commands(control: list[str], key: Path | None, allow_private: tuple[str, ...]) -> list[str]:
    """What to type on other machines, one for each address of `control` (tcp://HOST:PORT), the likeliest first.

    `key`: the file that workers must have; None: they need none, so they are of this machine.
    """
    more = [] if key is None else ["--key", shlex.quote(str(key))]
    if allow_private and key is not None:
        more.append(_allow_private(allow_private))
    return [
        " ".join([f"worker start --procs {processors()} --coord {address}", *more]) for address in control
    ]


def reachable_http(http: str, given: str | None, advertise: str | None) -> str:
    """HOST:PORT of the REST interface as others name it: `http` is where it listens, `given` what --http said."""
    host = parse_address(given, "--http")[0] if given else ""
    if host in ("0.0.0.0", "::"):
        others = reachable_hosts("[::]" if host == "::" else host, advertise)
        return f"{others[0]}:{http.rpartition(':')[2]}"
    return http


def reachable_hosts(host: str, advertise: str | None) -> list[str]:
    """What workers may name as the host of a coordinator that listens on `host`; the likeliest first."""
    if advertise is not None:
        return [advertise]
    if host == "0.0.0.0":
        return _own_addresses(_V4)
    if host in ("*", "[::]"):
        return _own_addresses(_V4, _V6)
    return [host]


_V4 = (socket.AF_INET, "192.0.2.1")
_V6 = (socket.AF_INET6, "2001:db8::1")
"""A family, and an address of it that is nobody's: to see from where one would speak to it."""


def _own_addresses(*families: tuple[socket.AddressFamily, str]) -> list[str]:
    """Addresses that others may reach this machine by, loopback last. Nothing is sent."""
    found: dict[str, None] = {}
    for family, far in families:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                address = probe.getsockname()[0]
                found[f"[{address}]" if ":" in address else address] = None
        except OSError:
            continue
    found["127.0.0.1"] = None
    return list(found)


def _allow_private(networks: tuple[str, ...]) -> str:
    """The worker's own consent to private addresses: it is asked for where the coordinator may be a stranger."""
    return "--allow-private" if networks == (ALL_PRIVATE,) else "--allow-private=" + ",".join(networks)
