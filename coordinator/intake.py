"""Reading seeds: from what a person typed to durable requests, streamed, with a bound on what is under way.

A batch of lines is parsed in a thread, given to the shard as one event, and told in DIR/seeds only when the shard
says that it is durable. A line that is no URL is told there too, with its number and reason; reading goes on. The
entries that seeds give the scope are made here, as they are read, and here URLs get the form that the crawl's own
normalisation gives them.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from common.log import get_logger
from common.messages import SITEMAP, Flag, Form, Request
from common.normalization import Normalizer
from common.scope import site_of
from coordinator.feed import Feed
from coordinator.seeds import read
from coordinator.seedtext import COMMAND_LINE, Seed
from coordinator.steps import Seeds
from coordinator.unread import Unread

BATCH = 1000
"""Lines of one event: about 15 ms of the shard's time."""

UNDER_WAY = 4
"""Batches that may wait for their commit."""

ROOM_SECONDS = 1.0
"""Between two tries to tell of seeds where the disk is full; what is read meanwhile is bounded by UNDER_WAY."""

BAD_LINES_TOLD = 20
"""Bad lines that are told to the person; the rest is counted, and told in DIR/seeds."""

CREDENTIALS_DROPPED = (
    "user names and passwords in URLs are dropped, and masked in all files; to send them: "
    "--header 'Authorization: Basic ...', or for one host `header` below [[host]] in crawl.toml"
)

log = get_logger("coordinator.intake")


class Sites(Protocol):
    """Where the scope's entries go; the store's."""

    def __contains__(self, site: object, /) -> bool: ...

    def adding(self, site: str) -> object: ...


@dataclass(slots=True)
class Tally:
    """What was read, over all sources since the start."""

    read: int = 0
    bad: int = 0
    fresh: int = 0
    known: int = 0
    reading: int = 0
    """Sources being read now."""


_SITEMAP = Form(SITEMAP, (), None, None, 0, 0, None)


class Intake:
    """Reads seeds for one shard."""

    def __init__(
        self,
        folder: Path,
        feed: Feed,
        *,
        kind: str,
        sites: Sites,
        max_url_length: int,
        say: Callable[[str], None],
        form: Form | None = None,
        normalizer: Normalizer | None = None,
    ) -> None:
        """`form`: what every seed is beyond a plain GET; `normalizer`: what is done to URLs beyond canonical form."""
        self._folder = folder
        self._feed = feed
        self._kind = kind
        self._sites = sites
        self.max_url_length = max_url_length
        """In force for what is read from now on."""
        self._say = say
        self._form = form
        self._normalizer = normalizer or Normalizer()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seeds")
        self.unread = Unread(folder / "unread.json")
        self.tally = Tally()
        self.first: list[str] = []
        """The first few seeds as URLs: what the last screen explains when none gave a page."""
        self.scope_grew = False
        self._told_credentials = False

    async def read(self, arguments: Sequence[str]) -> Tally:
        """Read all of it; returns what these arguments gave. UsageError before anything is admitted."""
        loop = asyncio.get_running_loop()
        seeds = await loop.run_in_executor(
            self._thread, lambda: read(arguments, max_length=self.max_url_length)
        )
        mine = Tally()
        self.unread.begin(arguments)
        self.tally.reading += 1
        under_way: list[asyncio.Task[None]] = []
        try:
            path = self._folder / f"seeds-{self._serial():05d}.jsonl"
            with _Told(path) as told:
                async with asyncio.TaskGroup() as group:
                    while batch := await loop.run_in_executor(self._thread, self._next, seeds):
                        if len(under_way) >= UNDER_WAY:
                            await under_way.pop(0)
                        under_way.append(group.create_task(self._admit(batch, told, mine), name="seeds"))
        finally:
            self.tally.reading -= 1
        self.unread.end(arguments)
        return mine

    def close(self) -> None:
        """No more will be read."""
        self._thread.shutdown(cancel_futures=True)

    async def _admit(self, batch: list[Seed], told: _Told, mine: Tally) -> None:
        requests = []
        for seed in batch:
            if seed.url is None:
                continue
            site = site_of(self._kind, seed.url)
            if site is not None and site not in self._sites:
                self._sites.adding(site)
                self.scope_grew = True
            flags = Flag.SEED | (Flag.BARE if seed.bare else 0)
            form = _SITEMAP if seed.kind == "sitemap" else self._form
            requests.append(Request(seed.url, 0, 0, 0, flags, seed.given, None, form))
            if len(self.first) < 10:
                self.first.append(seed.url)
        if not self._told_credentials and any(seed.credentials for seed in batch):
            self._told_credentials = True
            self._say(CREDENTIALS_DROPPED)
        fresh = iter(await self._feed.give(lambda number: Seeds(number, tuple(requests))))
        lines = []
        for seed in batch:
            if seed.url is None:
                self._tell_bad(seed, mine)
                state, reason = "refused", seed.reason
            elif next(fresh):
                mine.fresh += 1
                state, reason = "admitted", None
            else:
                mine.known += 1
                state, reason = "known", None
            lines.append(_line(seed, state, reason))
        await told.write("".join(lines))
        mine.read += len(batch)
        self.tally.read += len(batch)

    def _tell_bad(self, seed: Seed, mine: Tally) -> None:
        mine.bad += 1
        self.tally.bad += 1
        source = "standard input" if seed.source == "-" else seed.source
        where = f"argument {seed.line}" if source == COMMAND_LINE else f"{source}, line {seed.line}"
        if self.tally.bad <= BAD_LINES_TOLD:
            self._say(f"skipped: {where}: {seed.error}")
        elif self.tally.bad == BAD_LINES_TOLD + 1:
            self._say(f"further bad lines are counted, and told in {self._folder}")
        log.debug("seed.bad", source=seed.source, line=seed.line, reason=seed.reason)

    def _next(self, seeds: Iterator[Seed]) -> list[Seed]:
        """The next batch; in the thread."""
        batch = list(itertools.islice(seeds, BATCH))
        if not self._normalizer:
            return batch
        normal = self._normalizer.apply
        return [seed if seed.url is None else replace(seed, url=normal(seed.url)) for seed in batch]

    def _serial(self) -> int:
        return sum(1 for _ in self._folder.glob("seeds-*.jsonl"))


class _Told:
    """A file of DIR/seeds. Where it finds no room it waits for some, as a commit does, and goes on in the same line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._turn = asyncio.Lock()

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    async def write(self, lines: str) -> None:
        """Append whole lines. Raises OSError for all but a full disk."""
        rest = memoryview(lines.encode())
        async with self._turn:
            while rest:
                try:
                    rest = rest[self._append(rest) :]
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    log.warning("seeds.waiting", error=f"no room for {self._path}: free some space")
                    await asyncio.sleep(ROOM_SECONDS)

    def _append(self, lines: memoryview) -> int:
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        return os.write(self._descriptor, lines)


def _line(seed: Seed, state: str, reason: str | None) -> str:
    facts = {"line": seed.line, "given": seed.given, "url": seed.url, "state": state, "reason": reason}
    if seed.source != COMMAND_LINE:
        facts["source"] = seed.source
    return json.dumps(facts, ensure_ascii=False) + "\n"
