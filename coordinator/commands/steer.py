"""`coord stop`, `pause`, `resume`, `add`: telling a running coordinator something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from common.commandline import Command, Value, say
from common.errors import UsageError
from coordinator import seeds as inputs
from coordinator.control import call, call_add, is_address
from coordinator.directory import CrawlDirectory

_STOP_SECONDS = 30.0
"""How long `stop` waits to see it end; the contract says ten for a clean stop."""

_BAD_LINES_TOLD = 10

_target = click.argument("target", metavar="DIR", type=Value("folder", path=True))


@click.command(cls=Command)
@_target
@click.option("--now", is_flag=True, help="at once: what is in flight is fetched again next time")
def stop(target: str, now: bool) -> int:
    """End a crawl cleanly, within ten seconds. Nothing is lost: the command that began it goes on.

    \b
      coord stop crawl1
      coord stop crawl1 --now
    """
    call(target, "POST", "/stop", {"now": now})
    if is_address(target):
        click.echo(f"{target} is stopping")
        return 0
    directory = CrawlDirectory.look(Path(target))
    until = time.monotonic() + _STOP_SECONDS
    while directory.holder() is not None:
        if time.monotonic() > until:
            raise UsageError(
                f"{target} is still stopping after {_STOP_SECONDS:g} s: `coord stop {target} --now`"
            )
        time.sleep(0.1)
    click.echo(f"{target} is stopped; `coord crawl --out {target}` goes on")
    return 0


@click.command(cls=Command)
@_target
def pause(target: str) -> int:
    """Fetch nothing more until `coord resume`; what is in flight is brought home."""
    call(target, "POST", "/pause")
    click.echo(f"{target} is paused; `coord resume {target}` goes on")
    return 0


@click.command(cls=Command)
@_target
def resume(target: str) -> int:
    """Go on after `coord pause`."""
    call(target, "POST", "/resume")
    click.echo(f"{target} goes on")
    return 0


@click.command(cls=Command)
@_target
@click.argument("seeds", nargs=-1, metavar="SEED...", type=Value("seed", path=True))
def add(target: str, seeds: tuple[str, ...]) -> int:
    """Give a running crawl more seeds: files, URLs, hosts, ranges, or - for standard input.

    \b
      coord add crawl1 https://example.net/
      coord add crawl1 more.txt
      psql -c 'select url from pages' -At | coord add crawl1 -
    """
    if not seeds:
        raise UsageError(f"add what? give a SEED, such as: coord add {target} https://example.net/")
    counts = call_add(target, _read_here(seeds) if is_address(target) else _read_there(seeds))
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    click.echo(f"{target}: {told or 'nothing new'}")
    return 0


def _read_there(seeds: tuple[str, ...]) -> Iterator[str]:
    """The coordinator of a DIR reads files itself; it stands in another folder, so their paths go whole."""
    for seed in seeds:
        if seed == "-":
            yield from _read_here((seed,))
        else:
            yield str(Path(seed).absolute()) if Path(seed).is_file() else seed


def _read_here(seeds: tuple[str, ...]) -> Iterator[str]:
    """Files read on this side: the coordinator may be on another machine."""
    bad = 0
    for seed in inputs.read(seeds):
        if seed.url is not None:
            yield _as_typed(seed)
            continue
        bad += 1
        if bad <= _BAD_LINES_TOLD:
            say("coord", f"{seed.source} line {seed.line}: {seed.error}: skipped")
    if bad > _BAD_LINES_TOLD:
        say("coord", f"{bad:,} bad lines in all, skipped")


def _as_typed(seed: inputs.Seed) -> str:
    """The text of a seed that means the same on the coordinator's side."""
    url = str(seed.url)
    if seed.kind == "sitemap":
        return f"sitemap:{url}"
    return url.removeprefix("https://") if seed.bare else url
