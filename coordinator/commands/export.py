"""`coord export`: what a crawl left, as Parquet, CSV, JSON Lines, CDXJ or WACZ."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from common import clock
from common.commandline import Command, Value, say
from common.configfile import kept
from common.errors import UsageError
from common.outcome import Outcome
from common.version import version
from coordinator.calling import is_address
from coordinator.directory import CrawlDirectory
from coordinator.status import plural, size_text, time_text
from coordinator.store.snapshot import Snapshot, shards

if TYPE_CHECKING:
    from coordinator.export import Export

_FORMATS: Final = ("jsonl", "csv", "parquet", "cdxj", "wacz")
_OWN_FOLDERS: Final = ("frontier", "pages", "warc", "items", "files", "seeds", "text", "links", "logs")


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=Value("folder", path=True))
@click.argument("what", metavar="[pages|items/NAME|links|text|seeds]", default="pages")
@click.option(
    "--to", "to", metavar="TARGET", required=True, type=Value("target", path=True),
    help="NAME.parquet, .csv, .jsonl, .cdxj or .wacz, s3://BUCKET/KEY the same way, - for standard output",
)  # fmt: skip
@click.option(
    "--format", "format_", metavar="FORMAT", type=Value("format", _FORMATS),
    help="where the target's name does not say it; - is jsonl otherwise",
)  # fmt: skip
@click.option("--force", is_flag=True, help="replace a target that exists")
@click.option(
    "--outcome", "outcomes", metavar="NAME,...", multiple=True,
    type=Value("outcomes", tuple(outcome.value for outcome in Outcome)), help="only pages that ended so",
)  # fmt: skip
@click.option(
    "--host", "hosts", metavar="PATTERN", multiple=True, type=Value("pattern"),
    help="only this host; * and ? stand for any characters; may be given again",
)  # fmt: skip
@click.option(
    "--since", metavar="TIME", type=Value("time"), help="only what was fetched at or after it (UTC)"
)
@click.option("--until", metavar="TIME", type=Value("time"), help="only what was fetched before it (UTC)")
@click.option(
    "--round", "round_", metavar="N", type=click.IntRange(min=0), help="only this round of a recrawl"
)
@click.option(
    "--keep-formulas", is_flag=True,
    help="csv: no apostrophe before text that a spreadsheet would take for a formula",
)  # fmt: skip
def export(
    directory: str,
    what: str,
    to: str,
    format_: str | None,
    force: bool,
    outcomes: tuple[str, ...],
    hosts: tuple[str, ...],
    since: str | None,
    until: str | None,
    round_: int | None,
    keep_formulas: bool,
) -> int:
    """Write pages, items, links or seeds of a crawl for other tools. The crawl may be running.

    What is committed at this moment is exported, however big, in little memory. Parquet needs
    `pip install pyarrow`, s3:// needs `pip install obstore`; its keys and region are the AWS_* variables'.

    \b
      coord export crawl1 --to pages.parquet
      coord export crawl1 --to broken.csv --outcome CLIENT_ERROR,SERVER_ERROR,DNS
      coord export crawl1 items/books --to s3://bucket/books.parquet
      coord export crawl1 --to crawl1.wacz     the whole crawl, for players
      coord export crawl1 --to - --host '*.gov.uk' | jq -r .url
    """
    # Here, not above: the help of a command must not wait for them.
    from coordinator.export import Choice, Export, open_source, target_of
    from coordinator.export.source import committed

    begun = clock.now()
    target, form = target_of(to, format_.lower() if format_ else None)
    choice = Choice.given(what, outcomes=outcomes, hosts=hosts, since=since, until=until, round=round_)
    crawl = _folder(directory)
    _keep_out(crawl.path, to)
    indexes = form in ("cdxj", "wacz") and crawl.config_path.exists()
    if indexes and "warc" not in kept(crawl.config_path).store:
        raise UsageError(
            f"{directory} keeps no WARC (--store): {form} is an index of one, and would be empty"
        )
    with ExitStack() as opened:
        with ExitStack() as open_stores:
            stores = [open_stores.enter_context(Snapshot(path)) for path in shards(crawl.path)]
            source = opened.enter_context(open_source(crawl.path, stores, what))
            archives = [
                (crawl.path / file, end)
                for store in stores
                for file, end in (committed(store, "warc") if form == "wacz" else ())
            ]
        made = Export(
            source,
            form,
            choice,
            archives,
            title=crawl.path.resolve().name,
            software=f"Shoal {version()}",
            keep_formulas=keep_formulas,
        )
        made.check()
        target.check(force)
        scratch = None
        if made.sorts:
            beside = target.scratch_beside()
            scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix=".shoal-export-", dir=beside))
        chunks = made.chunks(Path(scratch or tempfile.gettempdir()), clock.wall())
        if sys.stderr.isatty() and to != "-":
            chunks = _shown(chunks, made)
        size = target.write(chunks, source.size + sum(end for _, end in archives))
    say(
        "coord",
        f"{target.name}: {plural(made.rows, 'row')}, {size_text(size)}, {time_text(clock.now() - begun)}",
    )
    return 0


def _folder(text: str) -> CrawlDirectory:
    if is_address(text):
        raise UsageError(f"coord export reads the files of a crawl: name its folder, not the address {text}")
    return CrawlDirectory.look(Path(text))


def _keep_out(crawl: Path, to: str) -> None:
    """An export into a folder that the crawl itself writes would be taken for output, or replace some."""
    if to == "-" or "://" in to:
        return
    folder = Path(to).resolve().parent
    for name in _OWN_FOLDERS:
        if folder.is_relative_to((crawl / name).resolve()):
            raise UsageError(f"--to {to}: {crawl / name} is the crawl's own; choose another folder")


def _shown(chunks: Iterable[bytes], made: Export) -> Iterator[bytes]:
    """The chunks, with a line on the terminal that says how far they are."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with _Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.made = made
        bar.add_task("reading", total=made.source.size or None)
        yield from chunks


class _Bar(Progress):
    """Asks the export how far it is each time it is drawn: while lines are sorted, no chunk comes that could say it."""

    made: Export | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        if (made := self.made) is not None:
            said = plural(made.rows, "row") if made.rows else "reading"
            for task in self.task_ids:
                self.update(task, completed=made.source.read, description=said)
        return super().get_renderables()
