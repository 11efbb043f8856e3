"""Listening: where workers of any machine connect, with which keys, and what people are told of where we are.

`coord start` listens so; `coord crawl` has workers of its own, which need no telling (local.py). Beyond loopback a
worker must have the key that is kept in DIR: made at the first start, the same ever after.

Read next: reach.py (the addresses by which others reach us), server.py (the sockets).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from common.endpoints import endpoints, is_loopback, parse
from coordinator.calling import dashboard_url
from coordinator.reach import reachable_hosts, reachable_http, worker_commands
from coordinator.server import Keys, ShardServer, new_keys
from coordinator.settings import CoordinatorSettings


def listen_to_all(
    settings: CoordinatorSettings,
    server: ShardServer,
    allow_private: tuple[str, ...],
    say: Callable[[str], None],
) -> tuple[str, str]:
    """Open the shard's sockets, and say how workers are started. Returns the likeliest address where they connect, and
    the command for it.

    UsageError: the address cannot be listened on.
    """
    directory = settings.directory
    listen = settings.listen or "tcp://127.0.0.1:7777"
    host, port = parse(listen, "--listen")
    keys = None
    if not is_loopback(host):
        kept = directory.keys()
        if kept is None:
            kept = new_keys()
            directory.write_keys(*kept)
        secret, worker = kept
        keys = Keys(worker.server_public, secret, worker.client_public)
    addresses = ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*") if port == 0 else endpoints(listen, 0)
    server.listen(addresses, keys)
    hosts = reachable_hosts(host, settings.advertise)
    reached = [f"tcp://{each}:{port}" for each in hosts]
    key_path = None if keys is None else directory.worker_key_path.absolute()
    lines = worker_commands(reached, key_path, allow_private)
    copied = "" if key_path is None else f" (copy {key_path} to them)"
    say(f"start workers, on this machine or others{copied}, as many as you like:")
    for line in lines:
        say(f"  {line}")
    return reached[0], lines[0]


def say_dashboard(settings: CoordinatorSettings, http: str, token: str, say: Callable[[str], None]) -> None:
    """Where the dashboard is. With the token, which may steer, on a terminal alone: logs are read by others."""
    given = settings.http
    at_terminal = sys.stderr.isatty()
    if given is None and not at_terminal:
        return
    reached = reachable_http(http, given, settings.advertise)
    say(f"dashboard: {dashboard_url(reached, token if at_terminal else None)}")
