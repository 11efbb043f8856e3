"""`worker try`: one URL, fetched and read as a crawl would, and what came of it. Where extractors are written.

robots.txt is asked first and obeyed, unless --ignore-robots; redirects are told, not followed; nothing is stored. The
fetcher, the path of a page and the extractors are those of a crawl, so what is shown is what a crawl would tell.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common import clock
from common.config import CrawlConfig
from common.errors import BadURL, UsageError
from common.log import escaped
from common.messages import DOWNLOAD, Form, Request
from common.outcome import OUTCOMES
from common.scope import Scope
from common.url import CanonicalURL, authority, canonical
from common.wire import pack
from worker.app import fetcher_settings
from worker.exchange import Exchange, Failure, NotSent
from worker.extract import WAIT_SECONDS, Extraction
from worker.extracted import Extracted, wants_extraction
from worker.extractpage import METHODS
from worker.fetcher import Fetcher
from worker.mark import Mark
from worker.outgoing import GET, method_of
from worker.page import PageMaker, failed_report
from worker.robots import MAX_BYTES, Verdict, parse, verdict
from worker.sent import SentLinks
from worker.settings import WorkerSettings

_HINTS = {
    "PRIVATE_ADDRESS": "a private address; wanted? --allow-private",
    "TLS": "its certificate cannot be trusted; yours? --insecure HOST",
}

HARD_SECONDS = 5.0
"""Beyond the bound of an extractor: then it holds the interpreter's lock, and all that can be done is to end."""

_LINKS_SHOWN = 10
_ITEMS_SHOWN = 20


@dataclass(slots=True)
class Trial:
    """What one URL came to; what `--json` prints."""

    url: str
    robots: str = ""
    """`allows`, `forbids`, `ignored`, or why it could not be read."""
    outcome: str = ""
    status: int | None = None
    reason: str | None = None
    error: str | None = None
    ip: str | None = None
    elapsed_ms: int | None = None
    extract_ms: int | None = None
    length: int | None = None
    wire_length: int | None = None
    charset: str | None = None
    title: str | None = None
    redirect_to: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    follows: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    extract_error: str | None = None
    traceback: str | None = None
    endless: bool = False
    """The extractor is still at it, in a thread that nothing can end but the end of the process."""

    @property
    def failed(self) -> bool:
        """Whether there is no answer to look at, or the extractor failed."""
        return self.extract_error is not None or self.status is None


async def attempt(
    text: str, config: CrawlConfig, settings: WorkerSettings, *, method: str = "GET", carry: Any = None
) -> Trial:
    """Try one URL. `carry`: for the extractor's `page.carry`. Raises UsageError for what is no URL, and so on."""
    try:
        url = canonical(text if "://" in text else f"https://{text}", max_length=config.max_url_length)
    except BadURL as error:
        raise UsageError(f"{text}: no URL that can be fetched ({error.reason})") from None
    if method not in METHODS:
        raise UsageError(f"--method {method}: one of {', '.join(METHODS)}")
    form: Form | None = None
    if method != "GET" or carry is not None:
        form = GET._replace(method=method, carry=None if carry is None else pack((None, carry)))
    request = Request(url, 0, 0, 0, 0, text, None, form)
    mark = Mark(Mark.shared(get_context("spawn")))
    fetcher = Fetcher(fetcher_settings(config, settings, 4))
    thread = ThreadPoolExecutor(1, "aside")
    try:
        config = replace(config, store=("pages",))  # nothing is kept, so no records are made
        extraction = Extraction.of(config, allow_code=True, page=mark.page, aside=mark.aside, thread=thread)
        await fetcher.start()
        return await _tried(request, config, fetcher, extraction)
    finally:
        thread.shutdown(wait=False)
        await fetcher.close()


async def _tried(
    request: Request, config: CrawlConfig, fetcher: Fetcher, extraction: Extraction | None
) -> Trial:
    trial = Trial(request.url)
    pages = PageMaker(config, Scope("any", None), SentLinks(16), 0)
    if not await _may(request.url, config, fetcher, trial):
        return trial
    came = await fetcher.fetch(
        request.url,
        may_write=lambda: True,
        method=method_of(request.form),
        headers=pages.headers_for(request, None, clock.wall()),
        max_bytes=pages.max_bytes,
        accept_body=pages.accept_body,
    )
    if isinstance(came, NotSent):
        trial.outcome, trial.error = "NOT_SENT", came.error
        return trial
    extracted: Extracted | None = None
    if isinstance(came, Exchange):
        if extraction is not None and wants_extraction(request, came):
            began = clock.now()
            extracted = await _bounded(extraction, request, came, config, trial)
            trial.extract_ms = round((clock.now() - began) * 1000)
        trial.headers = [
            (name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in came.raw_headers
        ]
    report = failed_report(came) if isinstance(came, Failure) else pages.report(request, came)
    facts = report.facts
    trial.outcome = OUTCOMES[facts.outcome].value
    for name in (
        "status",
        "reason",
        "error",
        "ip",
        "elapsed_ms",
        "length",
        "wire_length",
        "charset",
        "title",
    ):
        setattr(trial, name, getattr(facts, name))
    trial.redirect_to = facts.redirect_to
    trial.links = [url for group in report.links if group.forms is None for url in group.urls]
    if extracted is not None:
        trial.extract_error = extracted.error
        if extracted.error is not None and extraction is not None and not trial.endless:
            trial.traceback = extraction.traceback or None
        trial.items = [{"_type": name, **json.loads(line)} for name, line in extracted.items]
        trial.follows = [_shown(follow.url, follow.form, follow.bad) for follow in extracted.follows]
    return trial


async def _bounded(
    extraction: Extraction, request: Request, came: Exchange, config: CrawlConfig, trial: Trial
) -> Extracted:
    """What extractors make of it; one that does not end is told of, as a crawl ends its process."""
    bound = config.tuning.parse_seconds + (WAIT_SECONDS if extraction.waits else 0.0)
    faulthandler.dump_traceback_later(bound + HARD_SECONDS, exit=True)
    try:
        async with asyncio.timeout(bound):
            return await extraction.run(0, 0, request, came)
    except TimeoutError:
        trial.endless = True
        return Extracted(
            error=f"not done after {bound:g} s: a crawl would end its process, and set the page aside"
        )
    finally:
        faulthandler.cancel_dump_traceback_later()


async def _may(url: str, config: CrawlConfig, fetcher: Fetcher, trial: Trial) -> bool:
    """Ask robots.txt; False: it says no, and `trial` says so."""
    if not config.obey_robots:
        trial.robots = "ignored"
        return True
    place = f"{authority(CanonicalURL(url))}/robots.txt"
    for hops in range(6):
        came = await fetcher.fetch(place, may_write=lambda: True, max_bytes=MAX_BYTES)
        if not isinstance(came, Exchange):
            failed = came.outcome.value if isinstance(came, Failure) else "NOT_SENT"
            trial.robots, trial.outcome, trial.error = failed, failed, came.error
            return False
        pages = PageMaker(config, Scope("any", None), SentLinks(16), 0)
        means = verdict(came.status, hops)
        target = pages.leads.redirect_target(place, came) if means is Verdict.FOLLOW else None
        if target is not None:
            place = target
            continue
        if means is Verdict.UNREACHABLE:
            trial.robots, trial.outcome = f"answered {came.status}", "ROBOTS_UNREACHABLE"
            trial.error = f"robots.txt answered {came.status}: nothing is fetched until it can be read"
            return False
        if means is Verdict.RULES:
            rules = parse(pages.plain_body(came, MAX_BYTES), config.robots_token)
            if not rules.allows(url):
                trial.robots, trial.outcome = "forbids", "ROBOTS_DENIED"
                trial.error = f"{place} forbids it; on a site of your own: --ignore-robots"
                return False
            wait = (
                "" if rules.crawl_delay is None else f", and asks for {rules.crawl_delay:g} s between fetches"
            )
            trial.robots = f"allows it{wait}"
        else:
            trial.robots = f"there is none (it answered {came.status})"
        return True
    trial.robots = "redirects in a circle"
    return True


def _shown(url: str, form: Form | None, bad: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"url": url, "method": "GET" if form is None else form.method}
    if form is not None:
        if form.body is not None:
            told["body"] = form.body.decode("utf-8", "replace")
        if form.headers:
            told["headers"] = dict(form.headers)
        if form.method == DOWNLOAD:
            return told | {"name": None if form.carry is None else form.carry.decode("utf-8", "replace")}
        if form.carry is not None:
            from worker.extract import carried

            name, carry = carried(Request(url, 0, 0, 0, 0, "", None, form))
            told |= {"extract": name, "carry": carry}
    return told if bad is None else told | {"refused": bad}


def check_extractors(config: CrawlConfig) -> None:
    """Import what the configuration names, as a worker of `coord crawl` will. Raises UsageError."""
    mark = Mark(Mark.shared(get_context("spawn")))
    with ThreadPoolExecutor(1) as thread:
        Extraction.of(config, allow_code=True, page=mark.page, aside=mark.aside, thread=thread)


def as_json(trial: Trial) -> str:
    """All of it, for programs."""
    return json.dumps({name: getattr(trial, name) for name in Trial.__dataclass_fields__}, ensure_ascii=False)


def show(trial: Trial, console: Console, *, whole: bool) -> None:
    """For people; `whole`: every header, link and item."""
    good = trial.outcome == "OK" and trial.extract_error is None
    line = f"[bold {'green' if good else 'yellow'}]{trial.outcome}[/]"
    if trial.status is not None:
        line += f" {trial.status}"
    console.print(f"{line}  {_safe(trial.url)}", highlight=False)
    facts = Table.grid(padding=(0, 2))
    rows = {
        "robots.txt": trial.robots,
        "why": ": ".join(filter(None, (trial.reason, trial.error))) or None,
        "hint": _HINTS.get(trial.outcome),
        "time": None if trial.elapsed_ms is None else f"{trial.elapsed_ms} ms{_and_extract(trial)}",
        "address": trial.ip,
        "size": _size(trial),
        "charset": trial.charset,
        "title": trial.title,
        "redirects to": trial.redirect_to,
    }
    for name, value in rows.items():
        if value:
            facts.add_row(f"[dim]{name}[/]", _safe(str(value)))
    console.print(facts, highlight=False)
    _list(
        console, "headers", [f"[cyan]{_safe(name)}[/]: {_safe(value)}" for name, value in trial.headers], 99
    )
    most = 10_000 if whole else _LINKS_SHOWN
    _list(console, "links", [_safe(url) for url in trial.links], most)
    asked = [_safe(json.dumps(follow, ensure_ascii=False)) for follow in trial.follows]
    _list(console, "requests", asked, most)
    items = [_safe(json.dumps(item, ensure_ascii=False)) for item in trial.items]
    _list(console, "items", [f"[green]{item}[/]" for item in items], 10_000 if whole else _ITEMS_SHOWN)
    if trial.extract_error is not None:
        console.print(f"[bold red]extract[/]  {_safe(trial.extract_error)}", highlight=False)
        for line in (trial.traceback or "").splitlines():
            console.print(f"  [dim]{_safe(line)}[/]", highlight=False, soft_wrap=True)


def _list(console: Console, name: str, lines: list[str], most: int) -> None:
    if not lines:
        return
    console.print(f"[bold]{name}[/] [dim]{len(lines):,}[/]", highlight=False)
    for line in lines[:most]:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if len(lines) > most:
        console.print(f"  [dim]and {len(lines) - most:,} more: -v shows all[/]", highlight=False)


def _and_extract(trial: Trial) -> str:
    return "" if trial.extract_ms is None else f", extractor {trial.extract_ms} ms"


def _size(trial: Trial) -> str | None:
    if trial.length is None:
        return None
    over = "" if trial.wire_length in (None, trial.length) else f", {trial.wire_length:,} over the wire"
    return f"{trial.length:,} bytes{over}"


def _safe(text: str) -> str:
    """What came from elsewhere: it neither moves the cursor nor is taken for markup."""
    return escape(escaped(text))
