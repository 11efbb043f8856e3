"""Steering a crawl that is stopped: the same changes, made in DIR while nobody else has it.

Options and blocked hosts are lines of crawl.toml. Retries need the shard itself: it is opened as a coordinator opens
it, without sockets, and closed again when everything is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from common.config import CrawlConfig
from common.configfile import kept
from common.configtext import config_to_toml
from coordinator.changing import fitting
from coordinator.directory import CrawlDirectory
from coordinator.feed import Feed
from coordinator.opening import open_shard
from coordinator.retrying import Wanted, retry
from coordinator.server import ShardServer
from coordinator.steps import Say, Seeded, Tell


def change_config(
    path: Path, change: Callable[[CrawlConfig], CrawlConfig]
) -> tuple[CrawlConfig, CrawlConfig]:
    """Rewrite DIR/crawl.toml; the configuration before and after. Raises UsageError, and then nothing changed."""
    CrawlDirectory.look(path)
    with CrawlDirectory.acquire(path) as directory:
        before = kept(directory.config_path)
        after = change(before)
        if after != before:
            directory.write("crawl.toml", config_to_toml(fitting(after)))
    return before, after


def retry_offline(path: Path, wanted: Wanted) -> int:
    """Queue requests of the current round again; how many. UsageError if another process has DIR."""
    CrawlDirectory.look(path)
    with CrawlDirectory.acquire(path) as directory:
        return asyncio.run(_retry(directory, wanted))


async def _retry(directory: CrawlDirectory, wanted: Wanted) -> int:
    config = kept(directory.config_path)  # nothing is fetched: what is secret is not needed
    opened = open_shard(directory.path, config)

    def told(what: Tell | Seeded | Say) -> None:
        if isinstance(what, Seeded):
            feed.seeded(what)

    server = ShardServer(opened.core, opened.store, opened.sink, config.tuning, told)
    feed = Feed(server.deliver)
    queued = 0
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(), name="commits")
            try:
                queued = await retry(directory.path, feed, wanted, opened.core.round)
            finally:
                server.stop()
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]  # the other one is that of the task that was cancelled for it
        raise first from None
    finally:
        server.close()
    return queued
