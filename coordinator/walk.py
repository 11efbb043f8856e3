"""Walking over a crawl's requests in a snapshot of its store, some at a time: for retries, recrawls and `coord block`.

A snapshot is one commit: what the crawl does meanwhile is not seen, so nothing is met twice. Steps are short and are
meant for a thread, so that the loop goes on; memory does not grow with the crawl. Reads, no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from common.config import CrawlConfig
from common.messages import Request
from common.url import CanonicalURL, host_key, slot
from coordinator.explain import lent_requests, still_lent
from coordinator.store.rows import (
    DoneRow,
    HostRow,
    is_done,
    meta_row,
    row_of,
    unpack,
    unpack_request_row,
)
from coordinator.store.snapshot import Reads, Snapshot, rows_between, shards

FIRST_KEY: Final = b"r"
"""Before the first request."""

END_KEY: Final = b"s"
"""After the last request: where a walk that is over stands."""

ROWS_AT_ONCE: Final = 500
"""Rows of one step: some 10 ms of a thread."""


Keep = Callable[[Reads, DoneRow], bool]
"""Whether a row is wanted; it may look into the snapshot."""


@contextmanager
def snapshot(directory: Path) -> Iterator[Snapshot]:
    """The crawl as it was committed last. One shard runs today. Raises UsageError if nothing was crawled yet."""
    with Snapshot(shards(directory)[0]) as store:
        yield store


def step(rows: Reads, start: bytes, keep: Keep) -> tuple[list[tuple[bytes, DoneRow]], bytes]:
    """The ended requests to keep among the next rows from `start`, with their keys, and where the next step begins."""
    found = rows.scan(start, END_KEY, ROWS_AT_ONCE)
    ended = []
    for key, packed in found:
        if is_done(packed):
            row = unpack_request_row(packed)
            if isinstance(row, DoneRow) and keep(rows, row):
                ended.append((key, row))
    return ended, found[-1][0] + b"\0" if len(found) == ROWS_AT_ONCE else END_KEY


async def ended_requests(
    directory: Path, keep: Keep, start: bytes = FIRST_KEY
) -> AsyncGenerator[tuple[list[tuple[bytes, DoneRow]], bytes]]:
    """All steps of a walk over the ended requests from `start` on, read in a thread; `keep` is called there."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="walk") as thread:
        opening = snapshot(directory)
        store = await loop.run_in_executor(thread, opening.__enter__)
        try:
            while start < END_KEY:
                ended, start = await loop.run_in_executor(thread, step, store, start, keep)
                yield ended, start
        finally:
            await loop.run_in_executor(thread, opening.__exit__, None, None, None)


def newly_blocked(before: CrawlConfig, after: CrawlConfig) -> Callable[[str], bool]:
    """Tells of a host key whether it is blocked after a change and was not before; for one thread of its own."""
    old, new = replace(before), replace(after)  # with memories of their own

    def is_newly_blocked(name: str) -> bool:
        return new.for_host(name).blocked and not old.for_host(name).blocked

    return is_newly_blocked


def waiting_in(directory: Path, wanted: Callable[[str], bool]) -> int:
    """How many requests of such hosts have not ended, by the last commit of a stopped crawl."""
    with snapshot(directory) as store:
        return queued_at(store, wanted) + lent_of(store, wanted)


def queued_at(rows: Reads, wanted: Callable[[str], bool], without: Container[str] = ()) -> int:
    """How many requests are queued for the hosts whose keys are wanted, but for some. 3 µs a host of the crawl."""
    count = 0
    for key, packed in rows_between(rows, b"h", b"i"):
        name = key[3:].decode()
        if name not in without and wanted(name):
            host = HostRow(*unpack(packed))
            count += host.queued + host.waiting
    return count


def lent_of(rows: Reads, wanted: Callable[[str], bool]) -> int:
    """How many requests are lent of such hosts."""
    crawl = rows.get(meta_row("crawl"))
    seed = 0 if crawl is None else unpack(crawl)[1]
    count = 0
    for _, packed in rows_between(rows, b"l", b"m"):
        requests, seq = lent_requests(packed)
        for request in requests:
            name = host_key(CanonicalURL(request.url))
            if wanted(name):
                count += still_lent(rows.get(row_of(slot(name), request, seed)), request, seq)
    return count


def round_of(request: Request) -> int:
    """The round of recrawling that a request belongs to."""
    return 0 if request.form is None else request.form.round
