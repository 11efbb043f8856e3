"""`coord crawl` and `coord start`: from what was typed to `CoordinatorSettings`, and into the coordinator.

Everything a person can get wrong is found before anything is written: options first, then seeds, then DIR.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from common import log
from common.commandline import Command, Flag, Value, config_options, given_options, process_count, say
from common.config import CrawlConfig
from common.configfile import kept, load
from common.configtext import config_to_toml
from common.endpoints import parse
from common.errors import UsageError
from common.options import seconds
from coordinator import extractors
from coordinator import seeds as inputs
from coordinator.differences import changes_refused, differences
from coordinator.directory import CrawlDirectory
from coordinator.settings import CoordinatorSettings, Recrawl

F = TypeVar("F", bound=Callable[..., Any])

LISTEN = "tcp://127.0.0.1:7777"
HTTP = "127.0.0.1:7700"

_ALL = "all"
"""`--recrawl` without an age."""

_log = log.get_logger("coord")


def _places(function: F) -> F:
    """What both commands ask: seeds, DIR, a file of options."""
    for decorator in (
        click.option(
            "--config",
            "config_file",
            metavar="FILE",
            envvar="SHOAL_CONFIG",
            type=Value("file", path=True),
            help="options from a file; `coord init` writes one with all of them",
        ),
        click.option(
            "--out",
            metavar="DIR",
            type=Value("folder", path=True),
            help="folder for the results; the same DIR again goes on where it was",
        ),
        click.option(
            "--recrawl",
            cls=Flag,
            group="Places and processes",
            bare=_ALL,
            metavar="AGE",
            default=None,
            help="visit again what is known, in a new round; with an AGE such as 7d only what is older than that",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="say what would be crawled, how fast and with which options; fetch and write nothing",
        ),
        click.argument("seeds", nargs=-1, metavar="[SEED]...", type=Value("seed", path=True)),
    ):
        function = decorator(function)
    return function


@click.command(cls=Command)
@_places
@click.option("--procs", metavar="N", help="worker processes [default: the processors this process may use]")
@click.option("--http", metavar="HOST:PORT", help="where status is served [default: loopback, a free port]")
@config_options()
def crawl(
    seeds: tuple[str, ...],
    out: str | None,
    config_file: str | None,
    procs: str | None,
    http: str | None,
    recrawl: str | None,
    dry_run: bool,
    **options: Any,
) -> int:
    """Crawl on this machine: a coordinator and N worker processes. It ends by itself.

    SEED is a file of URLs, a column of a CSV file such as firms.csv#website, a URL, sitemap:URL, a host, a range
    such as 'https://h/list?page=[0-90:30]', or - for standard input.

    \b
      coord crawl https://example.org/ --out crawl1 --procs 4
      coord crawl example.org --scope domain --max-pages 10000 --out crawl2
      coord crawl urls.txt.gz --no-follow --delay 0.5 --out list1
      coord crawl firms.csv#website --no-follow --head --out status1
      coord crawl https://example.org/ --extract shop.py:parse --out shop1
      coord crawl http://127.0.0.1:8000/ --allow-private --delay 0 --out mine
      coord crawl --out crawl1                      go on with what is there
      coord crawl --out crawl1 --recrawl=7d         visit again what is a week old
      coord crawl urls.txt --out crawl1 --dry-run   what it would do

    Ctrl-C ends it cleanly, a second one at once; the same command goes on.
    """
    return _begin(
        seeds,
        out,
        config_file,
        options,
        command="coord crawl",
        procs=process_count(procs),
        http=http,
        recrawl=recrawl,
        dry_run=dry_run,
    )


@click.command(cls=Command)
@_places
@click.option(
    "--listen", metavar="tcp://HOST:PORT", default=LISTEN, show_default=True, help="where workers connect"
)
@click.option("--advertise", metavar="HOST", help="name or address by which workers reach this machine")
@click.option(
    "--http",
    metavar="HOST:PORT",
    default=HTTP,
    show_default=True,
    help="where status and steering are served",
)
@click.option("--stay", is_flag=True, help="do not end when all is done: `coord add` brings more")
@config_options()
def start(
    seeds: tuple[str, ...],
    out: str | None,
    config_file: str | None,
    listen: str,
    advertise: str | None,
    http: str,
    stay: bool,
    recrawl: str | None,
    dry_run: bool,
    **options: Any,
) -> int:
    """Coordinate workers on any number of machines; prints the command to run there.

    Without seeds it waits for some: `coord add DIR SEED...`. Beyond loopback workers need DIR/worker.key.

    \b
      coord start urls.txt --out crawl1 --listen tcp://0.0.0.0:7777
      worker start --procs 8 --coord tcp://HOST:7777 --key worker.key   elsewhere
    """
    if not listen.startswith("tcp://"):
        listen = f"tcp://{listen}"
    if parse(listen, "--listen")[1] == 0:
        raise UsageError(f"--listen {listen}: workers have to know the port: choose one, such as 7777")
    return _begin(
        seeds,
        out,
        config_file,
        options,
        command="coord start",
        listen=listen,
        advertise=advertise,
        http=http,
        stay=stay,
        recrawl=recrawl,
        dry_run=dry_run,
    )


def _begin(
    seeds: tuple[str, ...],
    out: str | None,
    config_file: str | None,
    options: dict[str, Any],
    *,
    command: str,
    procs: int | None = None,
    listen: str | None = None,
    advertise: str | None = None,
    http: str | None = None,
    stay: bool = False,
    recrawl: str | None = None,
    dry_run: bool = False,
) -> int:
    if not out:
        raise UsageError("where to? give --out DIR, a folder for the results, such as --out crawl1")
    path = Path(out)
    again = _recrawl(recrawl)
    config = load(
        given_options(options), os.environ, Path(config_file) if config_file else None, path / "crawl.toml"
    )
    if http is not None:
        from coordinator.calling import parse_address

        parse_address(http, "--http")
    if not seeds and procs is not None and not (path / "FORMAT").exists():
        raise UsageError(f"nothing to crawl: give a SEED, such as {command} https://example.org/ --out {out}")
    if dry_run:
        return _tell(path, seeds, config, again=again is not None)
    inputs.read(seeds, max_length=config.max_url_length)  # looks at each argument, reads none of them yet
    if procs is not None:
        try:
            extractors.check(config)
        except UsageError as error:
            if not str(error).startswith("[extract"):
                raise
            raise UsageError(f"{config_file or path / 'crawl.toml'}: {error}") from None
    with CrawlDirectory.acquire(path) as directory:
        _adopt(directory, config)
        if not config.quiet:
            for warning in config.warnings(at_home=_at_home(seeds)):
                say("coord", warning)
        settings = CoordinatorSettings(
            directory=directory,
            config=config,
            seeds=seeds,
            listen=listen,
            advertise=advertise,
            http=http,
            stay=stay or (procs is None and not seeds and directory.is_new),
            procs=procs,
            recrawl=again,
            command=command,
        )
        return _coordinate(settings)


def _tell(path: Path, seeds: tuple[str, ...], config: CrawlConfig, *, again: bool) -> int:
    from coordinator import dryrun

    lines, code = dryrun.tell(path, seeds, config, again=again)
    for line in lines:
        click.echo(log.escaped(line))
    if not config.quiet:
        for warning in config.warnings(at_home=_at_home(seeds)):
            say("coord", warning)
    return code


_is_at_home = re.compile(
    r"(?:sitemap:)?(?:https?://)?(?:localhost|127(?:\.\d+){3}|\[::1\])(?:[:/?#].*)?"
).fullmatch


def _at_home(seeds: tuple[str, ...]) -> bool:
    """Whether all seeds are on this machine, as far as one sees: what lies in files is not read for it."""
    return bool(seeds) and all(_is_at_home(seed) and not os.path.exists(seed) for seed in seeds)


def _recrawl(age: str | None) -> Recrawl | None:
    if age is None or age == _ALL:
        return None if age is None else Recrawl()
    try:
        return Recrawl(seconds(age))
    except ValueError as error:
        raise UsageError(f"--recrawl={age}: {error}") from None


def _adopt(directory: CrawlDirectory, config: CrawlConfig) -> None:
    """Put a configuration in force in DIR: refuse what may not change, keep it, and begin the log."""
    log.set_up_log(
        log.LogSettings(
            level=log.level_for(config.quiet, config.verbose),
            form=config.log_format,
            file=directory.folder("logs") / "coord.log",
            file_level=log.DEBUG if config.verbose > 1 else log.INFO,
            rotate_bytes=config.tuning.log_rotate_bytes,
        )
    )
    if directory.config_path.exists():
        before = kept(directory.config_path)
        refused = changes_refused(before, config)
        if refused:
            raise UsageError(refused[0])
        for change in differences(before, config):
            _log.info("config.changed", change=change)
    if config.code is not None:
        _log.info("extractor.read", file=config.code.file, sha256=config.code.digest)
    directory.write("crawl.toml", config_to_toml(config))


def _coordinate(settings: CoordinatorSettings) -> int:
    # Here, not above: the help of a command must not wait for all that a coordinator needs.
    import uvloop

    from coordinator.app import run

    return uvloop.run(run(settings))
