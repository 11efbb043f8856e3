"""`coord init` and `coord key`: the files people write and copy."""

from __future__ import annotations

from pathlib import Path

import click

from common.commandline import Command, Value, say
from common.configtext import commented_file
from common.errors import UsageError
from common.keys import WorkerKey
from coordinator.directory import CrawlDirectory


@click.command(cls=Command)
@click.argument("file", metavar="[FILE]", default="crawl.toml", type=Value("file", path=True))
@click.option("--force", is_flag=True, help="replace a file that exists")
def init(file: str, force: bool) -> int:
    """Write a configuration file with every option, commented out at its default; - for standard output.

    \b
      coord init
      coord crawl https://example.org/ --out crawl1 --config crawl.toml
    """
    if file == "-":
        click.echo(commented_file(), nl=False)
        return 0
    path = Path(file)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as out:
            out.write(commented_file())
    except FileExistsError:
        raise UsageError(f"{path} exists: give another name, or --force to replace it") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    say("coord", f"wrote {path}: take the # from the lines you change, then give --config {path}")
    return 0


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=Value("folder", path=True))
@click.option("--new", is_flag=True, help="make a new one: workers that hold the old one are turned away")
def key(directory: str, new: bool) -> int:
    """Print the key of a crawl's workers, for SHOAL_KEY or `worker start --key FILE`. Keep it secret.

    \b
      coord key crawl1
      coord key crawl1 --new                 the crawl must not be running
      SHOAL_KEY=$(coord key crawl1) worker start --coord tcp://HOST:7777
    """
    if new:
        with CrawlDirectory.acquire(Path(directory)) as held:
            worker = _make(held)
        say("coord", f"{directory}/worker.key is new: copy it to the workers; the old one no longer works")
    else:
        found = CrawlDirectory.look(Path(directory)).keys()
        if found is None:
            raise UsageError(f"{directory} has no key yet: make one with `coord key {directory} --new`")
        worker = found[1]
    click.echo(worker.text)
    return 0


def _make(directory: CrawlDirectory) -> WorkerKey:
    # Brings zmq: only for this one command.
    from coordinator.server import new_keys

    server_secret, worker = new_keys()
    directory.write_keys(server_secret, worker)
    return worker
