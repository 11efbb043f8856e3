"""Where a shard's two sockets are: from the coordinator's address to the address of each.

`tcp://HOST:PORT`: shard k has control at PORT + 2k and data at PORT + 2k + 1. `ipc://PATH` (local workers of
`coord crawl`; a directory that only this user may enter stands in for encryption): PATH with the same numbers.
"""

from __future__ import annotations

import ipaddress
import re

from common.errors import UsageError

_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^:/\[\]]+|\*):(\d{1,5})/?")


def parse(address: str, option: str) -> tuple[str, int]:
    """(host, port) of a `tcp://HOST:PORT`; UsageError that names `option`."""
    found = _TCP.fullmatch(address)
    if found is None or not 0 <= int(found[2]) <= 65534:
        raise UsageError(
            f"{option} {address}: an address looks like tcp://192.0.2.7:7777 or tcp://[::1]:7777"
        )
    return found[1], int(found[2])


def endpoints(address: str, shard: int) -> tuple[str, str]:
    """The addresses of a shard's control and data socket."""
    if address.startswith("ipc://"):
        return f"{address}-{2 * shard}", f"{address}-{2 * shard + 1}"
    host, port = parse(address, "--coord")
    return f"tcp://{host}:{port + 2 * shard}", f"tcp://{host}:{port + 2 * shard + 1}"


def is_loopback(host: str) -> bool:
    """Whether a host of a tcp address can only be this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
