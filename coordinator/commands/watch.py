"""`coord status`: how a crawl stands, running or not, once or live."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from common.commandline import Command, Value
from common.errors import ProtocolError, UsageError
from common.log import escaped
from coordinator import lastscreen, progress
from coordinator.calling import ask, dashboard_url, is_address
from coordinator.directory import CrawlDirectory
from coordinator.status import Phase, Status

_WATCH_SECONDS = 1.0


@click.command(cls=Command)
@click.argument("target", metavar="DIR", type=Value("folder", path=True))
@click.option("--json", "as_json", is_flag=True, help="as JSON, one line")
@click.option("--watch", is_flag=True, help="again every second until it ends (Ctrl-C to leave)")
def status(target: str, as_json: bool, watch: bool) -> int:
    """Say how a crawl stands. DIR may also be the address of a running coordinator.

    \b
      coord status crawl1
      coord status crawl1 --watch
      coord status crawl1 --json | jq .rate
      coord status 127.0.0.1:7700
    """
    if not watch:
        _show(read := _read(target), as_json)
        if not as_json and not _is_over(read):
            click.echo(escaped(_dashboard(target, read)))
    elif as_json or not sys.stdout.isatty():
        _follow(target, as_json)
    else:
        _watch(target)
    return 0


def _read(target: str) -> dict[str, Any]:
    """The status as JSON: from the coordinator if one runs, else what the last one left."""
    read = ask(target, "/status", _left_behind)
    if not isinstance(read, dict):
        raise UsageError(f"{target}: what answers is no coordinator")
    return read


def _left_behind(directory: CrawlDirectory) -> dict[str, Any]:
    """What the last coordinator said last."""
    read = directory.summary()
    if read is None:
        where = directory.path
        raise UsageError(f"{where}: not running, and nothing is known yet: `coord crawl --out {where}`")
    # Killed before it could say so.
    if read.get("phase") not in (Phase.FINISHED, Phase.STOPPED):
        read |= {
            "phase": Phase.STOPPED.value,
            "reason": "ended without a word",
            "workers": [],
            "limits": "",
            "waiting": [],
        }
    return read


def _parsed(read: dict[str, Any]) -> Status:
    try:
        return Status.from_json(read)
    except ProtocolError as error:
        raise UsageError(f"another version of Shoal wrote this: {error}; use --json") from None


def _show(read: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(read))
        return
    found = _parsed(read)
    console = Console(highlight=False)
    if found.phase in (Phase.FINISHED, Phase.STOPPED):
        console.print(lastscreen.summary(found), soft_wrap=True)
    else:
        console.print(progress.table(found, console.width, console.height))


def _follow(target: str, as_json: bool) -> None:
    while True:
        read = _read(target)
        click.echo(json.dumps(read) if as_json else progress.line(_parsed(read)))
        sys.stdout.flush()
        if _is_over(read):
            return
        time.sleep(_WATCH_SECONDS)


def _watch(target: str) -> None:
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not _is_over(read := _read(target)):
            live.update(progress.table(_parsed(read), console.width, console.height), refresh=True)
            time.sleep(_WATCH_SECONDS)
    _show(read, False)


def _dashboard(target: str, read: dict[str, Any]) -> str:
    """Where its page is. With the token, so that it may steer, on a terminal alone."""
    running = None if is_address(target) else CrawlDirectory.look(Path(target)).running()
    token = running.token if running is not None and sys.stdout.isatty() else None
    return f"dashboard: {dashboard_url(str(read.get('http', '')), token)}"


def _is_over(read: dict[str, Any]) -> bool:
    return read.get("phase") in (Phase.FINISHED, Phase.STOPPED)
