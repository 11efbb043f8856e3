"""What a person changes while the crawl runs: options, blocked hosts, retries, and the rounds of a recrawl.

Owns the configuration in force. A change is on disk before it is in force, so it holds for the next start too; then
the shard hears of it, and its workers within a second. While requests come in from here the crawl cannot end. What is
right to ask is judged elsewhere (changing.py, retrying.py); how the shard goes about it is the shard's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from common.config import CrawlConfig
from common.configtext import config_to_toml
from common.log import get_logger
from common.scope import Scope
from coordinator import crawl as control
from coordinator.changing import fitting, with_blocked, with_options, with_rule
from coordinator.crawl import Crawl
from coordinator.differences import differences
from coordinator.directory import CrawlDirectory
from coordinator.feed import Feed
from coordinator.recrawl import is_over, read_from, visit_again
from coordinator.retrying import Wanted, retry
from coordinator.server import ShardServer
from coordinator.settings import Recrawl
from coordinator.status import plural
from coordinator.steps import NewRound, Reconfigured, Rescoped
from coordinator.walk import END_KEY, newly_blocked, queued_at, snapshot

log = get_logger("coordinator.steering")


class Changer:
    """Changes one running crawl."""

    def __init__(
        self,
        config: CrawlConfig,
        directory: CrawlDirectory,
        server: ShardServer,
        crawl: Crawl,
        feed: Feed,
        *,
        to_shard: Callable[[control.Instruction], None],
        changed: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """`changed` is called when `config` is another one."""
        self.config = config
        """In force."""
        self._directory = directory
        self._server = server
        self._crawl = crawl
        self._feed = feed
        self._to_shard = to_shard
        self._changed = changed
        self._say = say
        self._retrying = asyncio.Lock()
        """One at a time: what the second one walks over must have what the first one opened."""

    # ------------------------------------------------------------------------------------------------- options

    def set_options(self, options: Mapping[str, object], host: str | None) -> list[str]:
        """Put other options in force, of all hosts or of those that a pattern matches; what changed, old → new."""
        if host is None:
            return self._reconfigure(with_options(self.config, options, running=True))
        return self._reconfigure(with_rule(self.config, host, options, running=True))

    async def block(self, hosts: list[str], undo: bool) -> tuple[list[str], int]:
        """Fetch nothing more of these hosts, or again: what changed, and how many requests end by that."""
        with_blocked(self.config, hosts, undo=undo)  # wrong words are told before anything is read
        if undo:
            return self._reconfigure(with_blocked(self.config, hosts, undo=True)), 0
        with ExitStack() as opened:
            store = await asyncio.to_thread(opened.enter_context, snapshot(self._directory.path))
            before, after = self.config, with_blocked(self.config, hosts, undo=False)
            blocked, core = newly_blocked(before, after), self._server.core
            # Of hosts in memory and of leases it is known exactly; the others stand still, as they did at the commit.
            known = frozenset(core.frontier.hosts)
            ending = sum(
                host.queued + host.waiting for host in core.frontier.hosts.values() if blocked(host.key)
            )
            ending += sum(len(lease.open) for lease in core.leases if blocked(lease.host))
            told = self._reconfigure(after)
            return told, ending + await asyncio.to_thread(queued_at, store, blocked, known)

    def _reconfigure(self, after: CrawlConfig) -> list[str]:
        before = self.config
        if before == after:
            return []
        self._directory.write("crawl.toml", config_to_toml(fitting(after)))
        self.config = after
        told = differences(before, after)
        for change in told:
            log.info("config.changed", change=change)
        self._server.deliver(Reconfigured(after))
        if (before.allow, before.deny) != (after.allow, after.deny):
            scope = self._server.core.scope
            version = scope.version + 1
            self._server.deliver(
                Rescoped(Scope(scope.kind, scope.sites, allow=after.allow, deny=after.deny, version=version))
            )
        if before.max_pages != after.max_pages:
            for instruction in self._crawl.set_cap(after.max_pages):
                self._to_shard(instruction)
        self._changed()
        return told

    # -------------------------------------------------------------------------------------------- what comes again

    async def retry(self, outcomes: list[str], host: str | None) -> int:
        """Queue again what ended so in this round; how many, when it is durable."""
        wanted = Wanted.of(outcomes, host)
        self._crawl.source_opened()
        try:
            async with self._retrying:
                return await retry(self._directory.path, self._feed, wanted, self._server.core.round)
        finally:
            self._crawl.source_closed()

    def begin_round(self, recrawl: Recrawl, wall: float) -> None:
        """A new round, if the last one is over; else that one goes on. Before anything is lent."""
        core = self._server.core
        if not core.ledger.counts.admitted:
            return  # the first crawl into this DIR
        if not is_over(core):
            self._say(f"round {core.round} is not over: this goes on with it")
            return
        since = None if recrawl.age is None else wall - recrawl.age
        self._server.deliver(NewRound(core.round + 1, since))

    @property
    def has_known_to_visit(self) -> bool:
        """Whether known URLs have still to come into the round."""
        core = self._server.core
        return read_from(core.rows, core.round) < END_KEY

    async def visit_again(self) -> None:
        """What earlier rounds know comes into this one; it may be fetched meanwhile."""
        core = self._server.core
        self._say(f"recrawl: round {core.round} visits again what is known")
        known = await visit_again(self._directory.path, self._feed, core, lambda: self.config)
        left = f", {_are(known.left)} fresh enough or in it already" if known.left else ""
        outside = f", {_are(known.outside)} out of scope now" if known.outside else ""
        verb = "is" if known.again == 1 else "are"
        self._say(f"recrawl: {plural(known.again, 'known URL')} {verb} in round {core.round}{left}{outside}")


def _are(count: int) -> str:
    return f"{count:,} {'is' if count == 1 else 'are'}"
