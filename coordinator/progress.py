"""What a person sees of a crawl while it runs: a bar, or a line now and then; then the last screen (lastscreen.py).

Decides only how a `Status` looks. `reporter` chooses: a `Bar` on a terminal, `Lines` elsewhere, `Silence` for
-q; all write to standard error. Text that came from the web is escaped before it reaches the terminal.

    reporter = progress.reporter(config)
    reporter.say("workers: worker start ...")      a line for people, above the bar
    reporter.show(status, now)                     as often as wanted; it takes what it needs
    reporter.close(status)                         the bar away, the summary there
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from common.config import CrawlConfig
from common.log import escaped
from coordinator.lastscreen import COLOURS, exit_reason, summary
from coordinator.status import (
    FailedTry,
    HostStatus,
    Phase,
    Status,
    WorkerStatus,
    number_text,
    plural,
    rate_text,
    size_text,
    time_text,
)

FIRST_LINE_SECONDS = 10.0
"""Without a terminal: until the first line, and between the first few; each wait is a quarter longer."""
LONGEST_SILENCE_SECONDS = 60.0
_GROWTH = 1.25

_BAR_SECONDS = 0.2
"""The bar is drawn at most this often: 3 ms of CPU each time."""

_MUST_LOOK = 1
"""Exit code of a crawl that ended in a way that a person has to look at."""

_NOTHING_BEGAN = 2
"""Exit code of a mistake in what was asked: its one line has been said, and there is nothing to sum up."""


class Reporter(Protocol):
    """Where a crawl tells a person how it goes. Not used after `close`."""

    def say(self, text: str) -> None:
        """A line for people, at once."""

    def show(self, status: Status, now: float) -> None:
        """The state of things at `now` (seconds, monotonic); cheap when nothing is due to be shown."""

    def close(self, status: Status | None = None) -> None:
        """Clear the bar; with a status, say how it ended."""


def reporter(config: CrawlConfig, stream: TextIO | None = None) -> Reporter:
    """What fits this terminal and these options; `stream` is standard error unless a test says otherwise."""
    stream = stream or sys.stderr
    console = Console(file=stream, highlight=False, soft_wrap=False)
    wanted = config.progress if config.progress is not None else not config.quiet
    if config.quiet and not config.progress:
        return Silence(stream)
    if wanted and console.is_terminal and not console.is_dumb_terminal:
        return Bar(console)
    return Lines(stream, wanted)


class Silence:
    """For -q: errors are told by whoever meets them, and that a person must look; nothing else is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        pass

    def show(self, status: Status, now: float) -> None:
        pass

    def close(self, status: Status | None = None) -> None:
        if status is not None and status.exit_code == _MUST_LOOK:
            text = f"coord: {exit_reason(status)}: look with `coord status {status.directory}`\n"
            with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
                self._stream.write(text)


class Lines:
    """A line now and then, for logs and pipes: after 10 s, then ever more seldom up to one a minute, and
    whenever the phase changes."""

    def __init__(self, stream: TextIO, wanted: bool = True) -> None:
        self._stream = stream
        self._wanted = wanted
        self._due: float | None = None
        self._wait = FIRST_LINE_SECONDS
        self._phase: Phase | None = None

    def say(self, text: str) -> None:
        self._write(escaped(text))

    def show(self, status: Status, now: float) -> None:
        if not self._wanted:
            return
        if self._due is None:
            self._due, self._phase = now + self._wait, status.phase
            return
        # Waiting and running may take turns many times a second: no news.
        quick = {Phase.RUNNING, Phase.WAITING, Phase.SEEDING, Phase.CLOSING}
        news = status.phase is not self._phase and not {status.phase, self._phase} <= quick
        if now >= self._due or news:
            self._write(line(status))
            self._wait = min(self._wait * _GROWTH, LONGEST_SILENCE_SECONDS)
            self._due = now + self._wait
        self._phase = status.phase

    def close(self, status: Status | None = None) -> None:
        if status is not None and status.exit_code != _NOTHING_BEGAN:
            self._write(summary(status).plain)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text.rstrip("\n") + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._wanted = False  # whoever listened has left; the crawl goes on


class Bar:
    """A live bar on a terminal; log lines and `say` appear above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._drawn = 0.0

    def say(self, text: str) -> None:
        self._console.print(Text(escaped(text)), soft_wrap=True)

    def show(self, status: Status, now: float) -> None:
        if self._live is None:
            # Drawn by us alone, not by rich's thread: the loop that fetches pays for nothing it did not
            # order.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        elif now - self._drawn < _BAR_SECONDS:
            return
        self._drawn = now
        try:
            self._live.update(screen(status, self._console.width), refresh=True)
        except OSError:
            pass  # the terminal was closed; the crawl goes on

    def close(self, status: Status | None = None) -> None:
        try:
            if self._live is not None:
                self._live.stop()
                self._live = None
            if status is not None and status.exit_code != _NOTHING_BEGAN:
                self._console.print(summary(status), soft_wrap=True)
        except OSError:
            pass


def screen(status: Status, width: int) -> Group:
    """The live picture: where it is, how fast, what of, what limits it. Four or five lines of `width`
    columns."""
    known = status.pages + status.queued + status.leased
    top = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):
        top.add_column(ratio=ratio, no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(
        total=max(known, 1), completed=status.pages, complete_style="green", finished_style="green"
    )
    left = "" if status.eta_seconds is None else f", {time_text(status.eta_seconds)} left"
    top.add_row(
        Text(status.phase.value, f"bold {COLOURS[status.phase]}"),
        bar,
        Text(f"{number_text(status.pages)} of {number_text(known)} known{left}"),
    )
    parts = list(_parts(status))
    rows = [_row(parts[:5], width), _row(parts[5:], width)]
    limit = [Text(f"limit: {escaped(status.limits)}", "yellow")] if status.limits else []
    return Group(top, *rows, *limit)


def line(status: Status) -> str:
    """All of it in one line, for logs."""
    left = "" if status.eta_seconds is None else f", about {time_text(status.eta_seconds)} left"
    limit = f"; limit: {escaped(status.limits)}" if status.limits else ""
    return f"{status.phase.value}: {', '.join(_parts(status, short=False))}{left}{limit}"


def table(status: Status, width: int, height: int = 24) -> Group:
    """What `coord status` shows: the live picture, what else it waits for, outcomes, machine, workers, errors.

    At most `height - 1` lines where that leaves room for the first of each; `--json` has all.
    """
    lines: list[Text | Group | Table] = [_header(status), screen(status, width)]
    lines += [
        Text(f"also: {escaped(cause.text)}", "dim", no_wrap=True, overflow="ellipsis")
        for cause in status.waiting[1:4]
    ]
    counted = (
        ("outcomes", dict(sorted(status.outcomes.items(), key=lambda of: -of[1]))),
        ("left out", dict(status.refused)),
        ("set aside", dict(status.guarded)),
        (f"round {status.round}", dict(status.again)),
        ("items", dict(sorted(status.items.items(), key=lambda of: -of[1]))),
        ("also seen", _also_seen(status)),
    )
    lines += [_counts(name, counts, width) for name, counts in counted if any(counts.values())]
    lines.append(_machine(status, width))
    used = len(lines) + 5  # the live picture has four or five lines, and below stands the prompt
    room = max(height - used, 8)
    shown = status.workers[: min(_WORKERS_SHOWN, max(3, room // 2))]
    if shown:
        lines.append(_worker_table(shown, width))
        if len(status.workers) > len(shown):
            lines.append(Text(f"and {len(status.workers) - len(shown)} more (--json has all)", "dim"))
        room -= len(shown) + 2
    for host in status.long_queues[: min(3, max(1, room - 2))] if len(status.long_queues) > 1 else ():
        lines.append(_host_line(host))
        room -= 1
    lines += [_error_line(failed) for failed in status.recent_errors[: max(0, min(3, room))]]
    return Group(*lines)


_WORKERS_SHOWN = 20


_FIGURES_WIDTH = 66
"""Columns that the figures of a worker take beside its name."""


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


def _header(status: Status) -> Text:
    text = Text.assemble(
        (escaped(status.directory), "bold"),
        f"  {time_text(status.elapsed_seconds)} since {status.started_at[:19].replace('T', ' ')} UTC",
    )
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _machine(status: Status, width: int) -> Text:
    parts = [f"disk {size_text(status.disk_free_bytes)} free"]
    if status.memory_bytes:
        parts.append(f"memory {size_text(status.memory_bytes)}")
    parts.append(f"CPU {status.cpu_percent}%")
    commits = f"{status.commits_rate:.0f} commit{'' if round(status.commits_rate) == 1 else 's'}/s"
    parts.append(f"{commits} of {1000 * status.commit_seconds:.0f} ms")
    if status.workers_died:
        parts.append(f"{plural(status.workers_died, 'worker')} died")
    if status.protocol_errors:
        parts.append(plural(status.protocol_errors, "broken message"))
    row = Text("coord: ", "dim")
    row.append(_row(parts, width - len(row.plain)).plain, "default")
    return row


def _also_seen(status: Status) -> dict[str, int]:
    return {
        "links again": status.relinked,
        "revisits": status.revisits,
        "retried": status.retried,
        "near duplicates": status.near_duplicates,
        "sitemaps": status.sitemaps,
        "items lost": status.unextracted,
        "files": status.files,
    }


def _worker_table(shown: Sequence[WorkerStatus], width: int) -> Table:
    extracts = any(worker.extract_percent for worker in shown)
    room = max(6, width - _FIGURES_WIDTH - (len("extract") + 2) * extracts)
    workers = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    workers.add_column("worker", no_wrap=True)
    extract = ("extract",) if extracts else ()
    for name in ("process", "in flight", "lanes", "pages/s", "CPU", *extract, "memory", "heard"):
        workers.add_column(name, justify="right", no_wrap=True)
    for worker in shown:
        heard = "offline" if worker.offline else f"{time_text(worker.heard_seconds)} ago"
        workers.add_row(
            Text(_cut(escaped(worker.host), room)),  # a plain str would be read as rich's markup
            str(worker.pid),
            number_text(worker.in_flight),
            number_text(worker.lanes),
            rate_text(worker.rate),
            f"{worker.cpu_percent}%",
            *((f"{worker.extract_percent}%",) if extracts else ()),
            size_text(worker.rss_bytes) if worker.rss_bytes else "",
            heard,
        )
    return workers


def _host_line(host: HostStatus) -> Text:
    alone = f", alone {time_text(host.alone_seconds)}" if host.delay_seconds else ""
    told = f"{escaped(host.host)}: {number_text(host.queued)} queued × {host.delay_seconds:g} s{alone}"
    return Text.assemble(("queue  ", "dim"), told, no_wrap=True, overflow="ellipsis")


def _error_line(failed: FailedTry) -> Text:
    told = f"{failed.at[11:19]} {failed.outcome} {escaped(failed.url)}"
    if failed.error:
        told += f": {escaped(failed.error)}"
    return Text.assemble(("error  ", "dim"), (told, "red"), no_wrap=True, overflow="ellipsis")


def _parts(status: Status, short: bool = True) -> Iterator[str]:
    """The figures, the most wanted first."""
    if not short:
        yield plural(status.pages, "page")
    yield f"{rate_text(status.rate)} pages/s" + (f" (mean {rate_text(status.rate_average)})" if short else "")
    yield f"{number_text(status.in_flight)} in flight"
    yield f"{number_text(status.queued)} queued"
    yield size_text(status.bytes_received)
    if short:
        yield f"{size_text(status.bytes_rate)}/s"
    yield plural(len(status.workers), "worker")
    hosts = status.hosts
    yield plural(hosts.known, "host") + (
        f" ({hosts.ready:,} ready, {hosts.waiting:,} waiting, {hosts.leased:,} lent)" if short else ""
    )
    yield plural(status.errors, "error")
    if status.unextracted:
        yield f"extractors failed on {plural(status.unextracted, 'page')}"
    if status.seeds.bad:
        yield plural(status.seeds.bad, "bad seed")
    if status.seeds.reading:
        yield f"{number_text(status.seeds.read)} seeds read"


def _row(parts: list[str], width: int) -> Text:
    """As many parts as the width has room for; those left out are the less wanted."""
    kept: list[str] = []
    for part in parts:
        if sum(len(other) + 3 for other in kept) + len(part) > width:
            break
        kept.append(part)
    return Text(" · ".join(kept), no_wrap=True, overflow="ellipsis")


def _counts(name: str, counts: dict[str, int], width: int) -> Text:
    parts = [f"{escaped(key)} {number_text(count)}" for key, count in counts.items() if count]
    row = Text(f"{name}: ", "dim")
    row.append(_row(parts, width - len(name) - 2).plain, "default")
    return row
