"""`coord why`, `audit`, `tail`: looking into a crawl, running or not."""

from __future__ import annotations

import codecs
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from common import clock
from common.commandline import Command, Value
from common.configfile import kept
from common.errors import BadURL, StorageError, UsageError
from common.log import escaped, escaped_json
from common.scope import Scope
from coordinator.calling import ask, is_address, why_path
from coordinator.directory import CrawlDirectory
from coordinator.explain import NEVER, explain, never_admitted, normalizer_of, plain_form
from coordinator.seedtext import is_bare
from coordinator.store.kv import Overlay
from coordinator.store.rows import meta_row, stored_round, unpack
from coordinator.store.sites import StoredSites
from coordinator.store.snapshot import Reads, Snapshot, rows_between, shards

_FOLLOW_SECONDS: Final = 0.5
_PIECE: Final = 1 << 20

_target = click.argument("target", metavar="DIR", type=Value("folder", path=True))


@click.command(cls=Command)
@_target
@click.option("--deep", is_flag=True, help="read every record too, and work its digests out again")
def audit(target: str, deep: bool) -> int:
    """Prove from the files of DIR alone that nothing is lost and nothing is counted twice.

    Every admitted URL must be queued, lent or ended, with its one line in pages and its record in WARC. The crawl
    may be running. Exit code 1, and the first offenders, if anything is wrong.

    \b
      coord audit crawl1
      coord audit crawl1 --deep
    """
    # Here, not above: the help of a command must not wait for it.
    from coordinator.audit import audit as look

    directory = _folder(target, "audit")
    with ExitStack() as open_stores:
        running = directory.holder() is not None
        stores = [open_stores.enter_context(Snapshot(path)) for path in shards(directory.path)]
        report = look(directory.path, stores, deep=deep, running=running)
    for line in report.lines():
        click.echo(escaped(line))
    return 0 if report.is_right else 1


@click.command(cls=Command)
@_target
@click.argument("url", metavar="URL")
@click.option("--json", "as_json", is_flag=True, help="as JSON, one line")
def why(target: str, url: str, as_json: bool) -> int:
    """Say what became of a URL: its state, who linked to it, its tries, when it is due, or which rule refuses it.

    DIR may also be the address of a running coordinator.

    \b
      coord why crawl1 https://example.org/missing
      coord why crawl1 https://example.org/missing --json | jq .outcome
    """
    bare = is_bare(url)
    told = _why(target, f"https://{url}" if bare else url)
    if bare and told.get("state") == NEVER:  # its http address may have been tried, or meant
        plain = _why(target, f"http://{url}")
        told = told if plain.get("state") == NEVER else plain
    if as_json:
        click.echo(json.dumps(told))
        return 0
    for line in _in_words(told):
        click.echo(escaped(line))
    return 0


@click.command(cls=Command)
@_target
@click.argument("stream", metavar="[pages|items/NAME|text|links]", default="pages")
@click.option(
    "--follow", "-f", is_flag=True, help="go on with what is committed from now on, until the crawl ends"
)
def tail(target: str, stream: str, follow: bool) -> int:
    """Print the lines of pages (or items, text, links) that are committed: none is ever taken back, whatever happens.

    \b
      coord tail crawl1 | tail -n 3
      coord tail crawl1 --follow | jq -r 'select(.outcome != "OK") | .url'
    """
    directory = _folder(target, "tail")
    name = stream.removeprefix("items/")
    if stream not in ("pages", "text", "links") and (name == stream or not name or "/" in name):
        raise UsageError(f"no stream is called {stream!r}: pages, items/NAME, text or links")
    folders = shards(directory.path)
    printed: dict[str, int] = {}
    with ExitStack() as open_stores:
        stores = [open_stores.enter_context(Snapshot(path, follow=follow)) for path in folders]
        while True:
            # Looked at before the rows: what was committed before the end is read once more.
            over = not follow or directory.holder() is None
            for store in stores:
                if follow:
                    store.catch_up()
                for file, end in _committed(store, stream):
                    if end > (begun := printed.get(file, 0)):
                        _print(directory.path / file, begun, end)
                        printed[file] = end
            sys.stdout.flush()
            if over:
                break
            time.sleep(_FOLLOW_SECONDS)
    if stream != "pages" and not printed:
        raise UsageError(f"{target} holds no {stream}")
    return 0


def _folder(target: str, command: str) -> CrawlDirectory:
    if is_address(target):
        raise UsageError(
            f"coord {command} reads the files of a crawl: name its folder, not the address {target}"
        )
    return CrawlDirectory.look(Path(target))


# ------------------------------------------------------------------------------------------------------------- why


def _why(target: str, url: str) -> dict[str, Any]:
    told = ask(target, why_path(url), lambda directory: _why_stopped(directory, url))
    if not isinstance(told, dict):
        raise UsageError(f"{target}: what answers is no coordinator")
    return told


def _why_stopped(directory: CrawlDirectory, url: str) -> dict[str, Any]:
    """The answer without a coordinator: from the store and crawl.toml."""
    config = kept(directory.config_path)
    path = shards(directory.path)[0]  # one shard runs today; a second will have its slots
    with Snapshot(path) as store:
        packed = store.get(meta_row("crawl"))
        if packed is None:
            raise UsageError(f"{directory.path}: nothing was crawled into it yet")
        try:
            told = explain(
                store,
                url,
                seed=unpack(packed)[1],
                form=plain_form(config.head, stored_round(store.get(meta_row("round")))[0]),
                wall=clock.wall(),
                normalizer=normalizer_of(config),
            )
        except BadURL:
            told = None
        if told is None:
            sites = StoredSites(Overlay(store, remember=0))
            scope = Scope(config.scope, sites, allow=config.allow, deny=config.deny)
            told = never_admitted(url, scope, config)
    return told


def _in_words(told: dict[str, Any]) -> Iterator[str]:
    """The answer for people; a line a fact, in the order in which one asks."""
    state = str(told.get("state"))
    if state == NEVER:
        yield f"{told.get('url')}: never admitted"
        yield f"  rule       {told.get('refused_by') or 'none refuses it'}"
        yield f"  why        {told.get('why')}"
        return
    outcome = f"  {told['outcome']}" if told.get("outcome") else ""
    status = f" {told['status']}" if told.get("status") is not None else ""
    yield f"{told.get('url')}: {state}{outcome}{status}"
    for name, label in (
        ("reason", "reason"),
        ("error", "error"),
        ("redirect_to", "leads to"),
        ("referrer", "found on"),
        ("seed", "seed"),
        ("depth", "depth"),
        ("fetched_at", "fetched"),
        ("record", "stored as"),
        ("lease", "lease"),
    ):
        if told.get(name) is not None:
            yield f"  {label:<10} {told[name]}"
    warc = told.get("warc")
    if isinstance(warc, dict):
        yield f"  record     {warc.get('file')} at {warc.get('offset')}, {warc.get('length')} bytes"
    if told.get("file"):
        yield f"  file       {told['file']}"
    for number, tried in enumerate(told.get("tries") or (), 1):
        yield f"  try {number:<6} {tried.get('outcome')} at {tried.get('at')}"
    if told.get("due_in_seconds") is not None:
        due, before = told["due_in_seconds"], told.get("queued_before_it")
        what = "tried again" if told.get("retry") else "due"
        yield f"  {what:<10} {'now' if not due else f'in {due:g} s'}; {before} queued before it at its host"
    host = told.get("host")
    if isinstance(host, dict):
        yield f"  its host   {', '.join(f'{name} {count}' for name, count in host.items())}".replace("_", " ")


# ------------------------------------------------------------------------------------------------------------ tail


def _committed(store: Reads, stream: str) -> list[tuple[str, int]]:
    """The files of a stream, oldest first, each with its committed end."""
    start = f"o{stream if '/' in stream else f'{stream}/{stream}'}-".encode()
    found = []
    for key, packed in rows_between(store, start, start[:-1] + b"."):
        file = key[1:].decode()
        # A longer name may begin with this one and a hyphen: what follows here are shard and serial.
        numbers = file[len(start) - 1 :].removesuffix(".jsonl").split("-")
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            found.append((file, int(unpack(packed))))
    return sorted(found, key=lambda each: (len(each[0]), each[0]))


def _print(path: Path, begun: int, end: int) -> None:
    """Bytes of a file to standard output; for a terminal, what would move its cursor is written as JSON writes it.

    A commit ends with a line. JSON itself lets DEL, C1 controls and marks of direction stand as they are.
    """
    bare = not sys.stdout.isatty()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        with path.open("rb") as lines:
            lines.seek(begun)
            while begun < end and (piece := lines.read(min(_PIECE, end - begun))):
                begun += len(piece)
                if bare:
                    sys.stdout.buffer.write(piece)
                else:
                    shown = map(escaped_json, decode(piece, begun >= end).split("\n"))
                    sys.stdout.write("\n".join(shown))
    except FileNotFoundError:
        raise StorageError(f"{path} is gone; look with `coord audit`") from None
