"""The side that calls: how commands ask a running coordinator over its REST interface, and where it listens.

Blocking, and with the standard library alone: `coord status` must not wait for all that a server needs. The other
side is control.py.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from common.errors import Unanswered, UsageError
from coordinator.directory import CrawlDirectory

API = "/api/v1"

_SEEDS_AT_ONCE = 1000

_LOOKS, _LOOK_SECONDS = 50, 0.1
"""How often, and how far apart, a coordinator that does not answer is looked at again: it may be ending."""


def call(
    target: str,
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    token: str | None = None,
    timeout: float = 30.0,
) -> Any:
    """Ask the coordinator of a DIR, or at an address, and return its answer.

    `path` is below /api/v1. Raises `UsageError`: nobody runs there, nobody answers, or it refused. For an
    address the token comes from `token` or SHOAL_TOKEN. Blocks: for the command line only.
    """
    host, port, found = whereabouts(target)
    token = token or found or os.environ.get("SHOAL_TOKEN")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    sent = None
    if method != "GET":
        headers["Content-Type"] = "application/json"
        sent = json.dumps(body or {}).encode()
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, f"{API}{path}", sent, headers)
        response = connection.getresponse()
        text = response.read()
    except TimeoutError:
        raise UsageError(
            f"{target}: the coordinator at {host}:{port} did not answer in {timeout:g} s"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or "no proper answer"
        raise Unanswered(f"{target}: no coordinator answers at {host}:{port} ({reason})") from None
    finally:
        connection.close()
    try:
        read = json.loads(text)
    except ValueError:
        if response.status >= 500:
            raise UsageError(f"{target}: the coordinator failed at this; its log says why") from None
        raise UsageError(f"{target}: what answers at {host}:{port} is no coordinator") from None
    if response.status >= 400:
        said = read.get("error", "") if isinstance(read, dict) else ""
        hint = "; set SHOAL_TOKEN" if response.status == 401 and not token else ""
        raise UsageError(f"{target}: {said or response.reason}{hint}")
    return read


def ask(target: str, path: str, otherwise: Callable[[CrawlDirectory], Any]) -> Any:
    """What the coordinator of a DIR answers to a GET, or what `otherwise` makes of DIR where none runs: also where it
    ends while it is asked. At an address there is only the coordinator. Raises as `call` does."""
    if is_address(target):
        return call(target, "GET", path)
    directory = CrawlDirectory.look(Path(target))
    for _ in range(_LOOKS):
        if directory.running() is None:
            return otherwise(directory)
        try:
            return call(target, "GET", path)
        except Unanswered:
            time.sleep(_LOOK_SECONDS)
    return call(target, "GET", path)


def call_add(target: str, seeds: Iterable[str]) -> dict[str, int]:
    """Send seeds in portions, each acknowledged before the next; returns the counts of all answers
    together."""
    total: dict[str, int] = {}
    portion: list[str] = []

    def send() -> None:
        answer = call(target, "POST", "/add", {"seeds": portion}, timeout=600)
        for name, count in answer.items() if isinstance(answer, dict) else ():
            if isinstance(count, int):
                total[name] = total.get(name, 0) + count
        portion.clear()

    for seed in seeds:
        portion.append(seed)
        if len(portion) >= _SEEDS_AT_ONCE:
            send()
    if portion:
        send()
    return total


def is_address(target: str) -> bool:
    """Whether a DIR argument is the address of a coordinator rather than a folder."""
    if os.path.isdir(target):
        return False
    if target.startswith(("http://", "https://")):
        return True
    host, colon, port = target.rpartition(":")
    return bool(colon and host and port.isdecimal() and "/" not in target)


def whereabouts(target: str) -> tuple[str, int, str | None]:
    """Host, port and token of the coordinator of a DIR or at an address; `UsageError` if none runs there."""
    if is_address(target):
        return (*parse_address(target, "address"), None)
    directory = CrawlDirectory.look(Path(target))
    running = directory.running()
    if running is None:
        if directory.holder() is not None:
            raise Unanswered(f"{target}: its coordinator is just starting or ending; try again in a moment")
        raise Unanswered(f"{target} is not running: go on with `coord crawl --out {target}`")
    # On a shared disk another machine's coordinator may stand here: then it is reached by that machine's
    # name.
    host, port = parse_address(running.http, "coord.json")
    if running.host != socket.gethostname() and is_ip(host) and ipaddress.ip_address(host).is_loopback:
        raise UsageError(f"{target} is run by {running.host}: ask there, or start it with --http")
    return host, port, running.token


def parse_address(text: str, where: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT`, `http://HOST:PORT/`, `:PORT` as host and port; `UsageError` for anything
    else."""
    bare = text.removeprefix("http://").rstrip("/")
    host, colon, port = bare.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or "/" in host:
        raise UsageError(f"{where} {text!r}: expected HOST:PORT, such as 127.0.0.1:7700")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def dashboard_url(http: str, token: str | None) -> str:
    """The page to open, `http` being HOST:PORT. With the token, so that it may steer, behind a `#`: what stands there a
    browser sends to nobody. None, or empty: where others may read what is said."""
    return f"http://{http}/" + (f"#token={token}" if token else "")


def why_path(url: str) -> str:
    """The path that asks about a URL."""
    return "/why?" + urllib.parse.urlencode({"url": url})


def is_ip(host: str) -> bool:
    """Whether it is an IP address, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
