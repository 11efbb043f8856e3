"""What a page costs the coordinator as the crawl grows, and what a queued URL costs the disk and memory.

A real shard over a real store, without sockets: URLs that nobody will fetch are admitted by the million, and at each
mark some thousand pages are lent and reported, each with outlinks, most of them known. CPU time of the whole process,
its compactions included, because RocksDB's threads are part of it.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common import messages as m
from common.config import CrawlConfig
from common.memory import keep_freed_memory
from common.messages import Flag, LinkGroup, Phase, Request, SessionId
from common.outcome import Outcome
from coordinator.opening import Opened, open_shard
from coordinator.steps import Event, Received, Seeds, Send, Steered

WORKER: Final = SessionId(b"growth's worker!")
MARKS: Final = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
PAGES: Final = 5_000
"""Reported at each mark."""

LINKS: Final = 20
"""Outlinks of each that the worker did not send lately; one in ten is new."""

HOSTS: Final = 20_000
BATCH: Final = 1_000
NOW: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Row:
    """At one mark."""

    known: int
    page_us: float
    """CPU microseconds for a page, its lease and its links."""
    admit_us: float
    """CPU microseconds for a new URL, since the mark before."""
    rss: int
    """Resident memory, bytes."""
    disk: int
    """Bytes of the store for each known URL, after compaction."""


class _Crawl:
    def __init__(self, directory: Path) -> None:
        config = CrawlConfig(scope="any", obey_robots=False, delay=0.0, per_host=4)
        self._opened: Opened = open_shard(directory, config)
        self.core = self._opened.core
        self._data = self._control = 0
        self.leases: list[m.Lease] = []
        self.wall = time.time()
        self.now = time.monotonic()

    def give(self, event: Event) -> None:
        self.core.handle(event, self.now, self.wall)

    def commit(self) -> None:
        commit = self.core.seal(self.now, self.wall)
        self._opened.sink.write(commit.outputs)
        self._opened.store.write(commit.rows)
        for each in self.core.committed(commit):
            if isinstance(each, Send) and isinstance(each.message, m.Lease):
                self.leases.append(each.message)

    def hello(self) -> None:
        self.give(Steered(Phase.RUNNING))
        self.give(Received(m.Hello(1, m.VERSION, WORKER, (), "growth", 1, 0, False, ())))
        self._control = 1

    def credit(self, lanes: int) -> None:
        self._control += 1
        held = tuple(lease.id for lease in self.leases)
        epoch = self.core.epoch
        self.give(Received(m.Heartbeat(self._control, WORKER, epoch, held, lanes, lanes * 4, 0, 0, 0, 0)))

    def admit(self, urls: Iterator[str], count: int) -> None:
        for _ in range(count // BATCH):
            self._data += 1
            group = tuple(next(urls) for _ in range(BATCH))
            links = LinkGroup("https://h0.test/", "seed", 1, 0, 0, group, None)
            self.give(Received(m.Links(self._data, WORKER, (links,))))
            if self._data % 10 == 0:
                self.now += 0.05
                self.commit()
        self.commit()

    def pages(self, count: int, known: int, fresh: Iterator[str], chance: random.Random) -> None:
        body = bytes(9_000)
        self.credit(400)
        self.commit()
        done = 0
        while done < count:
            if not self.leases:
                self.now += 0.05
                self.commit()
                continue
            lease = self.leases.pop()
            for ordinal, request in enumerate(lease.requests):
                urls = tuple(
                    next(fresh) if chance.random() < 0.1 else page(chance.randrange(known))
                    for _ in range(LINKS)
                )
                facts = m.Facts(
                    Outcome.OK.code, status=200, elapsed_ms=20, fetched_at=self.wall, wire_length=9_000
                )
                self._data += 1
                facts = facts._replace(digest=f"sha1:{self._data:032d}")
                links = (LinkGroup(request.url, "seed", 2, 0, 0, urls, None),)
                said = m.Page(
                    self._data,
                    WORKER,
                    lease.id,
                    ordinal,
                    0.0,
                    None,
                    facts,
                    links,
                    (),
                    b"HTTP/1.1 200 OK\r\n\r\n",
                    200,
                    0,
                    (),
                )
                self.give(Received(said, body))
                done += 1
                if done % 50 == 0:
                    self.now += 0.05
                    self.commit()
        self.credit(0)
        self.commit()

    def compact(self) -> int:
        self._opened.store.compact()
        return self._opened.store.disk_bytes()

    def close(self) -> None:
        self._opened.sink.close()
        self._opened.store.close()


def page(number: int) -> str:
    """The URL of a number; hosts get unequal shares."""
    host = (number * 2_654_435_761) % (1 << 32) % HOSTS
    return f"https://h{host}.test/section/{number % 97}/article-{number}"


def _numbered(start: int) -> Iterator[str]:
    number = start
    while True:
        yield page(number)
        number += 1


def measured(most: int) -> Iterator[Row]:
    """A row for each mark up to `most` URLs."""
    directory = Path(tempfile.mkdtemp(prefix="shoal-growth-"))
    chance = random.Random(1)
    keep_freed_memory()  # as a coordinator does; else a fifth of what grows is Python's search for garbage
    try:
        crawl = _Crawl(directory)
        crawl.hello()
        crawl.give(Seeds(1, (Request(page(0), 0, 0, 0, int(Flag.SEED), "seed", None, None),)))
        urls = _numbered(1)
        for mark in MARKS:
            if mark > most:
                break
            begun, before = time.process_time(), crawl.core.ledger.counts.admitted
            crawl.admit(urls, mark - before)
            admitted = crawl.core.ledger.counts.admitted
            admit_us = (time.process_time() - begun) / max(1, admitted - before) * 1e6
            disk = crawl.compact()
            begun = time.process_time()
            crawl.pages(PAGES, admitted, urls, chance)
            page_us = (time.process_time() - begun) / PAGES * 1e6
            yield Row(admitted, page_us, admit_us, _resident(), disk // admitted)
        crawl.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def table(rows: list[Row]) -> str:
    """For people, in Markdown."""
    lines = [
        "| known URLs | CPU µs a page | against the first | CPU µs a new URL | resident MiB | disk bytes a URL |"
    ]
    lines.append("| --: | --: | --: | --: | --: | --: |")
    lines += [
        f"| {row.known:,} | {row.page_us:.0f} | {row.page_us / rows[0].page_us:.2f} | {row.admit_us:.1f} | "
        f"{row.rss >> 20:,} | {row.disk} |"
        for row in rows
    ]
    return "\n".join(lines)
