"""A real shard with its store and files, and a watch on it; workers are what a test says they say.

    async with Watched(tmp_path, config) as crawl:
        crawl.join(); crawl.seed("https://a.test/"); crawl.page("https://a.test/", failed(Outcome.DNS))
        assert crawl.look().waiting[0].what == "retries"

No sockets: messages go straight to the server, and what it sends is kept in `sent`. Time is real, and no test waits
for it: what is to come is told as seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common import clock
from common import messages as m
from common.config import CrawlConfig
from common.messages import Flag, LeaseId, Phase, Request, SessionId
from common.outcome import Outcome
from common.url import CanonicalURL, authority
from coordinator import status as st
from coordinator.intake import Tally
from coordinator.opening import open_shard
from coordinator.server import ShardServer
from coordinator.sink import FileSink
from coordinator.steps import Asked, Event, Received, Seeds, Steered
from coordinator.watch import Watch

ONE, TWO = SessionId(b"1" * 16), SessionId(b"2" * 16)
OK = m.Facts(Outcome.OK.code, status=200, elapsed_ms=10, wire_length=1000)


def failed(outcome: Outcome) -> m.Facts:
    return m.Facts(outcome.code, error="it was not to be")


class Watched:
    """See the module's docstring."""

    def __init__(self, folder: Path, config: CrawlConfig | None = None) -> None:
        self.folder = folder
        self.config = replace(config or CrawlConfig(obey_robots=False, min_free=0), allow_private=("all",))
        self._number = 0
        self.tally = Tally()

    async def __aenter__(self) -> Self:
        for name in ("frontier", "pages", "warc"):
            (self.folder / name).mkdir(exist_ok=True)
        opened = open_shard(self.folder, replace(self.config, scope="any"))
        self.core = opened.core
        self.sink: FileSink = opened.sink
        self.server = ShardServer(
            opened.core, opened.store, opened.sink, self.config.tuning, lambda told: None
        )
        self.watch = Watch(self.server, self.config, self.folder, "")
        self.begun = clock.now()
        self.deliver(Steered(Phase.RUNNING))
        self._committing = asyncio.create_task(self.server.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop()
        await self._committing
        self.server.close()

    def look(
        self,
        phase: st.Phase = st.Phase.RUNNING,
        worker_command: str = "worker start",
        *,
        after: float | None = None,
    ) -> st.Status:
        """The status now, or as it would be so many seconds after the start."""
        return self.watch.status(
            now=None if after is None else self.begun + after,
            phase=phase,
            directory="c1",
            tally=self.tally,
            first=(),
            worker_command=worker_command,
            command="coord crawl",
            reason="",
            exit_code=None,
        )

    def causes(self) -> dict[str, st.Waiting]:
        """What it waits for, by its code; the main one first."""
        return {each.what: each for each in self.look().waiting}

    async def settled(self) -> None:
        """Wait until nothing is unanswered: then all that is due has been lent (ADR 0027)."""
        await self.until(lambda: not self.core.unsealed)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what time or a commit brings about."""
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0.02)

    # what is said to it

    def deliver(self, event: Event) -> None:
        self.server.deliver(event)

    def seed(self, *urls: str) -> None:
        self.deliver(Seeds(1, tuple(Request(url, 0, 0, 0, int(Flag.SEED), url, None, None) for url in urls)))

    def cap(self, pages: int) -> None:
        self.deliver(Asked(m.Cap(1, pages)))

    def say(self, message: m.FromWorker, body: bytes = b"") -> None:
        self.deliver(Received(message, body))

    def number(self) -> int:
        self._number += 1
        return self._number

    def join(self, session: SessionId = ONE, *, host: str = "node1", **credit: Any) -> None:
        self.say(m.Hello(self.number(), m.VERSION, session, (), host, 7, 0, False, ()))
        self.beat(session, **credit)

    def beat(self, session: SessionId = ONE, **said: Any) -> None:
        given = {
            "lanes": 100,
            "requests": 500,
            "in_flight": 0,
            "held_bytes": 0,
            "fetched": 0,
            "lag_ms": 0,
        } | said
        leases = tuple(lease.id for lease in self.core.leases.of(session))
        self.say(m.Heartbeat(self.number(), session, self.core.epoch, leases, **given))

    def lease_of(self, url: str) -> tuple[LeaseId, SessionId, int]:
        """(lease, session, ordinal) of a request that is lent."""
        for lease in self.core.leases:
            for ordinal in lease.open:
                if lease.requests[ordinal].url == url:
                    return lease.id, SessionId(lease.session), ordinal
        raise AssertionError(f"{url} is not lent; {list(self.core.leases)}")

    def page(self, url: str, facts: m.Facts = OK) -> None:
        lease, session, ordinal = self.lease_of(url)
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        self.say(m.Page(self.number(), session, lease, ordinal, 0.0, None, facts, (), (), head, 0, 0, ()))

    def robots(self, url: str, verdict: str, **more: Any) -> None:
        lease, session, _ = self.lease_of(url)
        place = authority(CanonicalURL(url))
        self.say(
            m.Robots(self.number(), session, lease, place, verdict, None, None, None, None, 0.0, 0, **more)
        )

    def release(self, url: str) -> None:
        lease, session, _ = self.lease_of(url)
        self.say(m.Release(self.number(), session, lease, 0.0))
