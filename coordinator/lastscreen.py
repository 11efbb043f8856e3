"""The last screen of a crawl: how it ended and why, what came, where it lies, what to type next.

The coordinator shows it at its end, `coord status` shows it of a crawl that has ended. It decides only how a `Status`
looks; what lies in DIR is looked up, for a folder that holds nothing is not named. Text that came from the web is
escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.text import Text

from common.log import escaped
from common.outcome import Outcome, State
from coordinator.status import Phase, Status, number_text, plural, rate_text, size_text, time_text

COLOURS = {
    Phase.SEEDING: "cyan",
    Phase.RUNNING: "green",
    Phase.FINISHED: "green",
    Phase.PAUSED: "yellow",
    Phase.WAITING: "yellow",
    Phase.CLOSING: "cyan",
    Phase.STOPPING: "yellow",
    Phase.STOPPED: "yellow",
}
"""Of a phase; the live picture has the same."""

_PAGES = (Outcome.OK, Outcome.TRUNCATED, Outcome.TOO_LARGE, Outcome.NOT_MODIFIED)
"""Outcomes of a seed that gave a page."""

_KINDS_NAMED = 3
"""Kinds of items that the last screen counts; `coord status --json` has all."""

_HOLDS = frozenset({"--max-pages", "--max-pages-per-host", "--max-total-bytes"})
"""Limits that count over all starts: the same command alone would end at once."""

_STORED = frozenset(outcome.value for outcome in Outcome if outcome.has_record)

_ADVICE = {
    "DNS": "no such host, or no name server: is it spelt right?",
    "TLS": "its certificate cannot be trusted; yours? --insecure HOST",
    "REFUSED": "nothing listens there",
    "TIMEOUT": "it did not answer in time; --connect-timeout, --silence-timeout",
    "ROBOTS_DENIED": "its robots.txt forbids it; yours? --ignore-robots",
    "ROBOTS_UNREACHABLE": "its robots.txt could not be read, so nothing may be fetched",
    "PRIVATE_ADDRESS": "a private address; wanted? --allow-private",
    "CLIENT_ERROR": "the server has no such page, or does not give it to crawlers",
    "SERVER_ERROR": "the server failed; try again later",
    "REDIRECT": "it leads out of the scope; --scope domain or --scope any",
    "TYPE_REJECTED": "--accept or --reject leave its content type out",
    "PROXY": "the proxy did not answer; check --proxy",
}
"""What a person can do about a seed that gave no page."""


def summary(status: Status) -> Text:
    """The last screen: how it ended and why, what came, where it lies, what to type next."""
    text = Text()
    for part in _summary(status):
        text.append(part) if isinstance(part, str) else text.append(*part)
    return text


def _summary(status: Status) -> Iterator[str | tuple[str, str]]:
    ended = "Finished" if status.phase is Phase.FINISHED else "Stopped"
    reason = f" ({escaped(status.reason)})" if status.reason not in ("", "finished") else ""
    yield (f"{ended}{reason}", f"bold {COLOURS[status.phase]}")
    now = f"{plural(status.pages_now, 'URL')} in {time_text(status.elapsed_seconds)}"
    speed = (
        f", {rate_text(status.rate_average)} a second" if status.pages_now and status.elapsed_seconds else ""
    )
    yield f": {now}{speed}, {size_text(status.bytes_received)}\n"
    if status.pages != status.pages_now:
        of = f"rounds 0 to {status.round}" if status.round else "this and earlier starts"
        yield f"  {plural(status.pages, 'URL')} in all, {of}{':' * any(status.outcomes.values())}\n"
    width = max(map(len, status.outcomes), default=0)
    for name, count in sorted(status.outcomes.items(), key=lambda of: -of[1]):
        if count:
            yield "  "
            yield (f"{name:<{width}}", _colour(name))
            yield f" {count:>12,}\n"
    if status.sitemaps:
        yield f"  and {plural(status.sitemaps, 'sitemap')}, which are no pages\n"
    left = status.queued + status.leased
    if left:
        yield f"  {plural(left, 'URL')} still queued\n"
    if status.refused:
        told = ", ".join(f"{escaped(rule)} {number_text(count)}" for rule, count in status.refused.items())
        yield f"  links left out: {told}\n"
    if status.guarded:
        told = ", ".join(f"{escaped(rule)} {number_text(count)}" for rule, count in status.guarded.items())
        yield f"  set aside as TRAP: {told}\n"
    if status.round:
        told = ", ".join(f"{what} {number_text(count)}" for what, count in status.again.items())
        yield f"  round {status.round}: {told}\n"
    if status.seeds.bad:
        bad, where = plural(status.seeds.bad, "bad seed"), f"{status.directory}/seeds"
        yield f"  {bad} of {number_text(status.seeds.read)}: {where}\n"

    if status.poison:
        yield ("Worker processes died over these (POISON): look at them\n", "bold red")
        for url in status.poison:
            yield f"  {escaped(url)}\n"
        if (more := status.outcomes.get(Outcome.POISON, 0) - len(status.poison)) > 0:
            yield f"  and {number_text(more)} more: coord export {status.directory} --outcome POISON --to -\n"
        yield (f"      {status.directory}/logs/ has the deaths; `coord retry` tries them anew\n", "dim")
    if status.unextracted:
        lost = f"Extractors failed on {plural(status.unextracted, 'page')}: their items are lost"
        yield (f"{lost}\n", "bold red")
        if status.extract_error:
            yield f"  {escaped(status.extract_error)}\n"
        yield ('      the lines of `pages` with the reason "extract" name them all\n', "dim")
    over = status.phase is Phase.FINISHED or status.exit_code == 1
    if over and (status.seed_ends or not any(status.outcomes.get(outcome) for outcome in _PAGES)):
        yield from _no_page(status)
    if any(count and name in _STORED for name, count in status.outcomes.items()):
        yield ("Where it is\n", "bold")
        places = dict(_places(status))
        width = max(map(len, places))
        for folder, what in places.items():
            yield f"  {f'{status.directory}/{folder}/':<{len(status.directory) + width + 4}} {what}\n"
    yield ("Next\n", "bold")
    commands = dict(_next(status, left > 0))
    width = max(map(len, commands))
    for command, what in commands.items():
        yield f"  {command:<{width}}        {what}\n"
    if status.exit_code:
        yield (f"Exit code {status.exit_code}: {exit_reason(status)}\n", "yellow")


def _places(status: Status) -> Iterator[tuple[str, str]]:
    """The folders of DIR that hold something, and what that is."""
    root = Path(status.directory)
    there = {name for name in ("warc", "items", "text", "links", "files") if _holds_something(root / name)}
    yield "pages", "a line of JSON each: outcome, title" + (", place in the WARC" if "warc" in there else "")
    counts = ", ".join(
        f"{escaped(kind)} {number_text(count)}" for kind, count in islice(status.items.items(), _KINDS_NAMED)
    )
    more = len(status.items) - _KINDS_NAMED
    told = {
        "warc": "the pages themselves, WARC 1.1",
        "items": f"what extractors made{f': {counts}' * bool(counts)}{f' and {more} kinds more' * (more > 0)}",
        "text": "the text of each page",
        "links": "each link: from, to, anchor",
        "files": f"{plural(status.files, 'download')}, {size_text(status.file_bytes)}",
    }
    yield from ((name, what) for name, what in told.items() if name in there)


def _next(status: Status, is_left: bool) -> Iterator[tuple[str, str]]:
    """What to type next, and what that does."""
    if status.phase is not Phase.FINISHED or is_left:
        more = f" {status.reason} none" if status.reason in _HOLDS else ""
        yield f"{status.command} --out {status.directory}{more}", "go on"
    else:
        yield f"coord crawl URL --out {status.directory}", "more seeds into the same folder"
    if status.items:
        kind = escaped(max(status.items, key=lambda kind: status.items[kind]))
        yield f"coord export {status.directory} items/{kind} --to {kind}.csv", "the items as a table"
    yield f"coord status {status.directory}", "this again"


def _holds_something(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is not None
    except OSError:
        return False


def _no_page(status: Status) -> Iterator[str | tuple[str, str]]:
    yield ("No seed gave a page\n", "bold red")
    for end in status.seed_ends:
        advice = _ADVICE.get(end.outcome, "")
        told = f": {escaped(end.error)}" if end.error else ""
        yield f"  {escaped(end.seed)}  {end.outcome}{told}\n"
        if advice:
            yield (f"      {advice}\n", "dim")
    if not status.seed_ends and not status.seeds.read and not status.pages + status.sitemaps + status.queued:
        yield "  there was no seed: give URLs, files of URLs, or both\n"


def exit_reason(status: Status) -> str:
    """Why the exit code is what it is, in a few words."""
    match status.exit_code:
        case 1:
            return f"{escaped(status.reason) or 'a person must look'}"
        case 3:
            return "stopped before the end; nothing is lost, the same command goes on"
        case 130:
            return "interrupted; nothing is lost, the same command goes on"
        case _:
            return escaped(status.reason)


def _colour(outcome: str) -> str:
    if outcome == Outcome.OK:
        return "green"
    try:
        return {State.FAILED: "red", State.EXCLUDED: "yellow"}.get(Outcome(outcome).state, "default")
    except ValueError:  # of a later version
        return "default"
