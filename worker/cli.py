"""The command line `worker`: take part in crawls that a coordinator elsewhere leads."""

from __future__ import annotations

import os
import socket
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
from common.config import version
from common.configfile import load
from common.endpoints import parse
from common.errors import UsageError
from common.keys import WorkerKey
from worker.limits import raise_open_files
from worker.settings import WorkerSettings

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
        allow_code=allow_code,
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
    raise_open_files()
    if not quiet_start and not config.quiet:
        noun = "process" if settings.procs == 1 else "processes"
        say("worker", f"{settings.procs} {noun} for {settings.coord}; Ctrl-C leaves")
    return _work(settings)


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
