"""The command line `worker`: take part in crawls that a coordinator elsewhere leads."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from common import log
from common.commandline import (
    Command,
    Group,
    Value,
    config_options,
    given_options,
    process_count,
    run,
    say,
)
from common.configfile import load
from common.endpoints import parse
from common.errors import UsageError
from common.keys import WorkerKey
from common.openfiles import raise_open_files
from common.version import version
from worker.limits import ENOUGH_FILES
from worker.settings import WorkerSettings

_TRIED = (
    "extract",
    "allow_private",
    "obey_robots",
    "user_agent",
    "robots_token",
    "contact",
    "header",
    "insecure",
    "hosts_file",
    "proxy",
    "timeout",
    "connect_timeout",
    "silence_timeout",
    "max_bytes",
    "accept",
    "reject",
    "media",
    "verbose",
)
"""Options of a crawl that say how one page is fetched and read."""

_SHARED = ("allow_private", "quiet", "verbose", "log_format")
"""Options of a crawl that a worker has too."""


def main(args: Sequence[str] | None = None) -> int:
    """Carry out `worker ARGS`; returns the exit code of the contract."""
    return run(worker, "worker", args)


@click.group(cls=Group)
@click.version_option(version(), prog_name="shoal", message="%(prog)s %(version)s")
def worker() -> None:
    """Shoal's workers: they fetch what a coordinator lends them, on as many machines as there are.

    \b
      worker start --procs 8 --coord tcp://HOST:7777 --key worker.key
      worker try https://example.org/ --extract shop.py:parse
    """


@worker.command(cls=Command)
@click.option("--coord", metavar="tcp://HOST:PORT", help="the coordinator, as `coord start` printed it")
@click.option("--procs", metavar="N", help="processes [default: the processors this process may use]")
@click.option(
    "--key",
    metavar="FILE",
    type=Value("file", path=True),
    help="DIR/worker.key of the coordinator; or its text in SHOAL_KEY",
)
@click.option("--allow-code", is_flag=True, help="run extractors that the coordinator sends")
@click.option(
    "--log-dir", metavar="FOLDER", type=Value("folder", path=True), help="logs here too, a file a process"
)
@config_options(_SHARED)
@click.option("--lock", metavar="FILE", hidden=True)
@click.option("--lifeline", metavar="FD", hidden=True)
@click.option("--quiet-start", is_flag=True, hidden=True)
def start(
    coord: str | None,
    procs: str | None,
    key: str | None,
    allow_code: bool,
    log_dir: str | None,
    lock: str | None,
    lifeline: str | None,
    quiet_start: bool,
    **options: Any,
) -> int:
    """Fetch for a coordinator, in N processes, until it says that the crawl is finished.

    It may be started before the coordinator and survives its restarts. Ctrl-C leaves cleanly, a second one at
    once; what was lent to it is lent to others.

    \b
      worker start --coord tcp://10.0.0.7:7777 --key worker.key
      SHOAL_KEY=shoal1-... worker start --procs 4 --coord tcp://10.0.0.7:7777
    """
    if coord is None:
        raise UsageError("which coordinator? give --coord tcp://HOST:PORT, as `coord start` printed it")
    config = load(given_options(options), os.environ)
    settings = WorkerSettings(
        coord=_endpoint(coord),
        key=_key(key, os.environ.get("SHOAL_KEY")),
        procs=process_count(procs),
        allow_private=config.allow_private,
        allow_code=allow_code or config.allow_code,
        lock=Path(lock) if lock else None,
        lifeline=int(lifeline) if lifeline else None,
        quiet_start=quiet_start,
        log=log.LogSettings(
            level=log.level_for(config.quiet, config.verbose),
            form=config.log_format,
            file=Path(log_dir) / f"worker-{socket.gethostname()}.log" if log_dir else None,
            file_level=log.DEBUG if config.verbose > 1 else log.INFO,
        ),
    )
    try:
        log.set_up_log(settings.log)
    except OSError as error:
        raise UsageError(f"--log-dir {log_dir}: {error.strerror}") from None
    raise_open_files(ENOUGH_FILES)
    if not quiet_start and not config.quiet:
        noun = "process" if settings.procs == 1 else "processes"
        say("worker", f"{settings.procs} {noun} for {settings.coord}; Ctrl-C leaves")
    return _work(settings)


@worker.command("try", cls=Command)
@click.argument("url", required=False)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    envvar="SHOAL_CONFIG",
    type=Value("file", path=True),
    help="options from a file, its [extract] tables too",
)
@click.option("--method", metavar="METHOD", default="GET", help="GET, HEAD, POST, ...")
@click.option("--carry", metavar="JSON", help="what the extractor finds as page.carry")
@click.option("--json", "as_json", is_flag=True, help="one line of JSON on standard output")
@click.option("--check", is_flag=True, hidden=True, help="look at the extractors, fetch nothing")
@config_options(_TRIED)
def try_url(
    url: str | None,
    config_file: str | None,
    method: str,
    carry: str | None,
    as_json: bool,
    check: bool,
    **options: Any,
) -> int:
    """Fetch one URL as a crawl would, and show what it comes to: outcome, headers, links, and what an extractor makes
    of it. The place where extractors are written. robots.txt is obeyed; nothing is stored.

    \b
      worker try https://example.org/
      worker try https://example.org/7 --extract shop.py:book
      worker try https://example.org/7 --extract shop.py:book --json | jq .items
      worker try https://example.org/7 --extract shop.py:book --carry '{"n": 3}'
    """
    if url is None and not check:
        raise UsageError("which URL? worker try https://example.org/ --extract FILE.py:FUNCTION")
    config = load(given_options(options), os.environ, Path(config_file) if config_file else None)
    log.set_up_log(log.LogSettings(level=log.DEBUG if config.verbose > 1 else log.ERROR))
    # Here, not above, as below.
    import uvloop
    from rich.console import Console

    from worker import trial

    if url is None:
        trial.check_extractors(config)
        return 0
    settings = WorkerSettings(coord="ipc:///none", allow_private=config.allow_private, allow_code=True)
    done = uvloop.run(trial.attempt(url, config, settings, method=method.upper(), carry=_carry(carry)))
    if as_json:
        click.echo(trial.as_json(done))
    else:
        trial.show(done, Console(highlight=False), whole=config.verbose > 0)
    if done.endless:
        sys.stdout.flush()
        os._exit(1)  # Python would wait for its thread
    return 1 if done.failed else 0


def _carry(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"--carry {text[:60]}: no JSON: {error}") from None


def _work(settings: WorkerSettings) -> int:
    # Here, not above: the help of a command must not wait for all that a worker needs.
    import uvloop

    from worker.entry import run_process
    from worker.supervisor import supervise

    return uvloop.run(supervise(settings, run_process))


def _endpoint(text: str) -> str:
    # Local workers of `coord crawl` are given a socket in a folder of its own.
    endpoint = text if "://" in text else f"tcp://{text}"
    if not endpoint.startswith("ipc:///"):
        parse(endpoint, "--coord")
    return endpoint


def _key(file: str | None, variable: str | None) -> str | None:
    """The text of a key that is one; None if none was given."""
    if file is not None:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--key {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            text = ""
        return WorkerKey.parse(text, f"--key {file}").text
    return WorkerKey.parse(variable, "SHOAL_KEY").text if variable else None
