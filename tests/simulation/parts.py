"""What a simulated cluster is built of. A planted fault exchanges one of these parts for a broken one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from coordinator.crawl import Crawl
from coordinator.outputs import OutputBatch
from coordinator.shard import Shard
from coordinator.sink import Recovery
from coordinator.steps import Instruction
from tests.support.disk import CrashableFiles, CrashableStore
from worker.agent import Agent

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Parts:
    """The real ones."""

    agent: type[Agent] = Agent
    shard: type[Shard] = Shard
    crawl: type[Crawl] = Crawl
    shards: int | None = None
    """How many; None: the seed draws it."""
    machines: int | None = None
    """Worker machines; None: the seed draws them."""
    same_identity = False
    """A worker process takes its machine's name for its session."""

    def arrange(self, cluster: Cluster) -> None:
        """Change what the seed drew, before the run begins: weather in which a fault shows soon."""

    def may_write(self, agent: Agent, lease: int, now: float) -> bool:
        """What the fetcher asks just before it writes."""
        return agent.may_write(lease, now)

    def covers(self, agent: Agent, fingerprint: bytes, depth: int) -> bool:
        """What the page maker asks before it sends a link."""
        return agent.sent.covers(fingerprint, depth)

    def write_outputs(self, files: CrashableFiles, batch: OutputBatch) -> None:
        """How a shard's shell makes output bytes durable."""
        files.write(batch)

    def write_rows(self, store: CrashableStore, rows: Mapping[bytes, bytes | None]) -> None:
        """How a shard's shell makes rows durable."""
        store.stage(rows)
        store.sync()

    def recover(self, files: CrashableFiles, committed: Mapping[str, int], shard: int) -> Recovery:
        """How output files are put right when a shard starts."""
        return files.recover(committed, shard)

    def too_early(self, instruction: Instruction) -> bool:
        """Whether the shell carries out an instruction of a commit before the commit."""
        return False

    aborts = True
    """Fetches in flight are broken off when the agent says so."""
    steers = True
    """Somebody makes hosts slower while it runs; the checks go by the first delays, so that hides a small hurry."""
    suspects = "marked"
    """Of a process that died of what it read: the request it was reading; `none`, or `all` that were in flight."""
    clock_sleeps = False
    """A worker's clock stands still while the machine is frozen."""
