"""Recrawling: when a new round begins, and how the known URLs come into it.

A round begins when the last one is over; until then the same command goes on with it. A walk over a snapshot of the
store gives every URL that ended in an earlier round to the shard again, as it was admitted then; the shard lets those
be that were fetched lately enough, and makes the others conditional (admission.py). How far the walk has come is
committed together with what it gave, so a recrawl that is cut off goes on there, exactly.

The row `known` holds (round, key from which rows are still to be read); `walk.END_KEY` says that all were.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.config import CrawlConfig
from common.messages import Flag, Request
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, host_key, slot
from coordinator.admission import is_sitemap
from coordinator.explain import GET
from coordinator.feed import Feed
from coordinator.shard import Shard
from coordinator.steps import Seeds
from coordinator.store.kv import Overlay
from coordinator.store.rows import DoneRow, key_of, meta_row, request_row, unpack, unpack_request_row
from coordinator.store.snapshot import Reads
from coordinator.walk import END_KEY, FIRST_KEY, ended_requests, round_of

LEFT_ALONE = frozenset({Outcome.TRAP, Outcome.OPERATOR})
"""What ended so was never meant to be fetched."""

_KEPT_FLAGS = Flag.SEED | Flag.BARE | Flag.ALONE
_CONDITIONS = frozenset({"If-None-Match", "If-Modified-Since"})


@dataclass(slots=True)
class Known:
    """What a walk gave."""

    again: int = 0
    """Admitted to the new round."""
    left: int = 0
    """Not: fetched lately enough, or admitted by another way already."""
    outside: int = 0
    """Not: scope, depth or --no-follow would not have them any more."""


def read_from(rows: Overlay, current: int) -> bytes:
    """Where the walk for round `current` has to go on; END_KEY: nowhere."""
    if not current:
        return END_KEY
    packed = rows.get(meta_row("known"))
    number, key = (0, FIRST_KEY) if packed is None else unpack(packed)
    return bytes(key) if number == current else FIRST_KEY


def is_over(core: Shard) -> bool:
    """Whether the round is: all known URLs are in it, and nothing is open but what a budget holds back."""
    read = read_from(core.rows, core.round) >= END_KEY
    return read and not core.leases.requests and not core.frontier.lendable


async def visit_again(directory: Path, feed: Feed, core: Shard, config: Callable[[], CrawlConfig]) -> Known:
    """Give the shard what is left of the known URLs; returns when all of it is durable. `config`: in force."""
    told = Known()
    current, start = core.round, read_from(core.rows, core.round)
    walk = ended_requests(directory, lambda rows, row: is_last(rows, row, current), start)
    async with aclosing(walk):
        async for ended, upto in walk:
            requests = []
            for _, row in ended:
                if belongs(row.request, core.scope, config()):
                    requests.append(as_new(row))
                else:
                    told.outside += 1
            batch = tuple(requests)
            fresh = await feed.give(partial(Seeds, requests=batch, read_to=upto))
            told.again += sum(fresh)
            told.left += len(fresh) - sum(fresh)
    return told


def is_last(rows: Reads, row: DoneRow, current: int) -> bool:
    """Whether this is how a URL ended when it was fetched last, before round `current`. 3 µs for each later round."""
    request, form = row.request, row.request.form
    if round_of(request) >= current or row.outcome in LEFT_ALONE:
        return False
    crawl = rows.get(meta_row("crawl"))
    seed = 0 if crawl is None else unpack(crawl)[1]
    number = slot(host_key(CanonicalURL(request.url)))
    for later in range(round_of(request) + 1, current):
        then = (form or GET)._replace(round=later)
        packed = rows.get(request_row(number, key_of(request.url, then, seed)))
        if packed is None:
            continue
        newer = unpack_request_row(packed)
        if not isinstance(newer, DoneRow) or newer.outcome not in LEFT_ALONE:
            return False
    return True


def belongs(request: Request, scope: Scope, config: CrawlConfig) -> bool:
    """Whether the options of today would have the URL."""
    if request.flags & Flag.SEED or is_sitemap(request):
        return True
    if config.no_follow or (config.max_depth is not None and request.depth > config.max_depth):
        return False
    return scope.refusal(CanonicalURL(request.url)) is None


def as_new(row: DoneRow) -> Request:
    """The request as if it was found now: of no round, with no tries, conditions or hops behind it."""
    request, form = row.request, row.request.form
    if form is not None:
        headers = tuple(pair for pair in form.headers if pair[0] not in _CONDITIONS)
        form = form._replace(round=0, headers=headers)
    return request._replace(
        depth=row.depth, hops=0, attempts=0, flags=int(request.flags & _KEPT_FLAGS), form=form
    )
