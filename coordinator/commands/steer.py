"""`coord stop`, `pause`, `resume`, `add`, `set`, `block`, `retry`: telling a crawl something.

A running one is asked over HTTP. Options, blocks and retries of one that is stopped are changed in its DIR.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from common.commandline import Command, Value, say
from common.config import CrawlConfig
from common.errors import UsageError
from common.log import escaped
from common.outcome import OUTCOMES
from coordinator import seeds as inputs
from coordinator.calling import call, call_add, is_address
from coordinator.differences import differences
from coordinator.directory import CrawlDirectory
from coordinator.seedtext import Seed
from coordinator.status import plural

_STOP_SECONDS = 30.0
"""How long `stop` waits to see it end; the contract says ten for a clean stop."""

_BAD_LINES_TOLD = 10

_OUTCOMES = tuple(outcome.value for outcome in OUTCOMES)

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
    """Fetch nothing more until `coord resume`; what is in flight is brought home.

    \b
      coord pause crawl1
    """
    call(target, "POST", "/pause")
    click.echo(f"{target} is paused; `coord resume {target}` goes on")
    return 0


@click.command(cls=Command)
@_target
def resume(target: str) -> int:
    """Go on after `coord pause`.

    \b
      coord resume crawl1
    """
    call(target, "POST", "/resume")
    click.echo(f"{target} goes on")
    return 0


@click.command(cls=Command)
@_target
@click.argument("seeds", nargs=-1, metavar="SEED...", type=Value("seed", path=True))
def add(target: str, seeds: tuple[str, ...]) -> int:
    """Give a running crawl more seeds: files, columns of CSV files, URLs, hosts, ranges, or - for standard input.

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


@click.command("set", cls=Command)
@_target
@click.argument("settings", nargs=-1, metavar="KEY=VALUE...", type=Value("setting"))
@click.option("--host", metavar="PATTERN", help="only for hosts that match: a host, a URL or *.example.org")
def set_options(target: str, settings: tuple[str, ...], host: str | None) -> int:
    """Change options of a crawl, within a second if it runs. They are kept for its next start.

    Every option that may differ from start to start; with --host delay, per_host, blocked, header and proxy, and
    `none` takes back what was set for that pattern. A list is given by naming its key several times.

    \b
      coord set crawl1 delay=2 max_pages=100000
      coord set crawl1 --host '*.gov.uk' delay=5 per_host=1
      coord set crawl1 deny='/calendar/' deny='[?&]print='
      coord set crawl1 --host '*.gov.uk' delay=none
    """
    from coordinator import changing, offline

    if not settings:
        raise UsageError(f"set what? give KEY=VALUE, such as: coord set {target} delay=2")
    options = changing.settings_of(settings)
    if _runs(target):
        told = call(target, "POST", "/set", {"options": options, "host": host})["changed"]
    else:

        def change(config: CrawlConfig) -> CrawlConfig:
            if host is None:
                return changing.with_options(config, options, running=False)
            return changing.with_rule(config, host, options, running=False)

        told = differences(*offline.change_config(Path(target), change))
    _tell_changes(target, told)
    return 0


@click.command(cls=Command)
@_target
@click.argument("hosts", nargs=-1, metavar="HOST...", type=Value("host"))
@click.option("--undo", is_flag=True, help="fetch of them again, from now on")
def block(target: str, hosts: tuple[str, ...], undo: bool) -> int:
    """Fetch nothing more of a host, within a second: its owner complains. What is queued for it ends as OPERATOR.

    HOST is a host, a URL of it, or a pattern. With --undo it is fetched again; what has ended meanwhile stays so until
    `coord retry DIR --outcome OPERATOR --host HOST`.

    \b
      coord block crawl1 www.example.org
      coord block crawl1 '*.example.org'
      coord block crawl1 www.example.org --undo
    """
    from coordinator import changing, offline, walk

    if not hosts:
        raise UsageError(f"block what? give a HOST, such as: coord block {target} www.example.org")
    if _runs(target):
        answer = call(target, "POST", "/block", {"hosts": list(hosts), "undo": undo}, timeout=600)
        told, ending = answer["changed"], answer["ending"]
    else:
        before, after = offline.change_config(
            Path(target), lambda config: changing.with_blocked(config, hosts, undo=undo)
        )
        told = differences(before, after)
        ending = 0 if undo else walk.waiting_in(Path(target), walk.newly_blocked(before, after))
    _tell_changes(target, told)
    if undo and told:
        wanted = " ".join(f"--host {shlex.quote(host)}" for host in hosts[:1])
        click.echo(
            f"what ended as OPERATOR is fetched after: coord retry {target} --outcome OPERATOR {wanted}"
        )
    elif told:
        verb = "ends" if ending == 1 else "end"
        click.echo(f"{target}: {plural(ending, 'request')} of {', '.join(hosts)} {verb} as OPERATOR")
    return 0


@click.command(cls=Command)
@_target
@click.option(
    "--outcome",
    "outcomes",
    metavar="NAME,...",
    multiple=True,
    type=Value("outcome", _OUTCOMES),
    help="what ended so, such as TIMEOUT,SERVER_ERROR",
)
@click.option("--host", metavar="PATTERN", help="only of hosts that match: a host, a URL or *.example.org")
def retry(target: str, outcomes: tuple[str, ...], host: str | None) -> int:
    """Queue again what ended with these outcomes in the current round; lines written for it count no more.

    \b
      coord retry crawl1 --outcome TIMEOUT,SERVER_ERROR
      coord retry crawl1 --outcome HOST_UNREACHABLE --host '*.example.org'
      coord retry crawl1 --outcome OPERATOR --host a.example   after block --undo
    """
    from coordinator import offline
    from coordinator.retrying import Wanted

    wanted = Wanted.of(outcomes, host)
    running = _runs(target)
    if running:
        body = {"outcomes": [outcome.value for outcome in wanted.outcomes], "host": host}
        queued = call(target, "POST", "/retry", body, timeout=3600)["queued"]
    else:
        queued = offline.retry_offline(Path(target), wanted)
    of = "" if host is None else f" of {host}"
    if not queued:
        click.echo(f"{target}: nothing{of} ended so in this round")
        return 0
    on = "" if running else f"; `coord crawl --out {target}` goes on"
    click.echo(f"{target}: {plural(queued, 'request')}{of} {'is' if queued == 1 else 'are'} queued again{on}")
    return 0


def _runs(target: str) -> bool:
    """Whether a coordinator is to be asked; UsageError for a DIR that holds no crawl."""
    return is_address(target) or CrawlDirectory.look(Path(target)).holder() is not None


def _tell_changes(target: str, told: Iterable[str]) -> None:
    """What changed, on standard output, a line each."""
    lines = list(told)
    for line in lines:
        click.echo(escaped(line))
    if not lines:
        click.echo(f"{target}: nothing changed, that is how it was")


def _read_there(seeds: tuple[str, ...]) -> Iterator[str]:
    """The coordinator of a DIR reads files itself; it stands in another folder, so their paths go whole."""
    for seed in seeds:
        if seed == "-":
            yield from _read_here((seed,))
        else:
            yield inputs.absolute(seed)


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


def _as_typed(seed: Seed) -> str:
    """The text of a seed that means the same on the coordinator's side."""
    url = str(seed.url)
    if seed.kind == "sitemap":
        return f"sitemap:{url}"
    return url.removeprefix("https://") if seed.bare else url
