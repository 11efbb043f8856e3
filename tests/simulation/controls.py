"""Control in its shell: it reads the seeds, polls the shards and sees the crawl to its end.

With one shard it lives in that shard's process, as today; with several it is a machine of its own behind the network,
and crashes by itself. Its connections begin anew when it does: answers to an earlier start do not reach a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import messages as m
from common import wire
from common.messages import Flag, Phase, Request
from common.url import host_key, slot
from coordinator import crawl as core
from coordinator.crawl import Crawl, Stage
from coordinator.steps import Seeded, Seeds
from tests.simulation.shards import ShardMachine
from tests.simulation.world import Plan

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

SEND_SEEDS_AGAIN = 2.0


class ControlMachine:
    """Control, up or down."""

    name = "control"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._world = cluster.world
        self.crawl: Crawl | None = None
        self._life = 0
        self._offset = 0.0
        self._alarm: Plan | None = None
        self._open: dict[int, tuple[int, Seeds]] = {}
        self.phase = Phase.PAUSED
        self.over_at: float | None = None
        self.paused = False

    def clock(self) -> float:
        """Its monotonic clock."""
        return self._world.now + self._offset

    def start(self) -> None:
        """Begin, or begin again: the seeds are read from the start, which is harmless."""
        if self.crawl is not None or self.over_at is not None:
            return
        self._life += 1
        self._offset = self._world.random.uniform(0.0, 1e6)
        self._world.tell(self.name, "starts")
        self.crawl = self.cluster.parts.crawl(
            len(self.cluster.shards), budget=self.cluster.budget, stay=False, now=self.clock()
        )
        self._carry_out(self.crawl.begin())
        self.phase = Phase.PAUSED
        self.crawl.source_opened()
        self._open = {}
        number = 0
        for shard, urls in self.cluster.seeds_by_shard().items():
            for url in urls:
                number += 1
                seed = Request(url, 0, 0, 0, int(Flag.SEED), url, None, None)
                self._open[number] = (shard, Seeds(number, (seed,)))
        self._send_seeds(self._life)
        if not self._open:
            self.crawl.source_closed()
        self._set_alarm()

    def crash(self) -> None:
        """kill -9."""
        if self.crawl is None:
            return
        self._world.tell(self.name, "crashes")
        self.crawl = None
        self._life += 1
        if self._alarm is not None:
            self._alarm.cancel()

    def shard_started(self, shard: ShardMachine) -> None:
        """A shard is there again: it learns the phase."""
        if self.crawl is not None:
            self._steer(shard)

    def pause(self, paused: bool) -> None:
        """Somebody typed `coord pause` or `coord resume`."""
        self.paused = paused
        if self.crawl is None or self._open:
            return
        self.phase = Phase.PAUSED if paused else Phase.RUNNING
        for shard in self.cluster.shards:
            self._steer(shard)

    def from_shard(self, shard: ShardMachine, message: m.Report | m.Closed | m.CapSet) -> None:
        """What a shard has to say."""
        if self.crawl is None:
            return
        life = self._life

        def receive(frames: list[bytes]) -> None:
            answer, _ = wire.decode(frames, (m.Report, m.Closed, m.CapSet))
            if self._life == life and self.crawl is not None:
                self._carry_out(self.crawl.handle(answer, self.clock()))  # type: ignore[arg-type]  # one of these
                self._set_alarm()

        self.cluster.between(shard.name, self.name, message, receive)

    def seeded(self, shard: ShardMachine, seeded: Seeded) -> None:
        """A batch of seeds is durable."""
        life = self._life

        def receive() -> None:
            if self._life != life or self.crawl is None:
                return
            if self._open.pop(seeded.number, None) is not None and not self._open:
                self.crawl.source_closed()
                self.pause(self.paused)

        self._world.after(self.cluster.inside(), receive)

    def _send_seeds(self, life: int) -> None:
        if life != self._life or not self._open:
            return
        for shard, seeds in self._open.values():
            machine = self.cluster.shards[shard]
            self._world.after(
                self.cluster.inside(), lambda machine=machine, seeds=seeds: machine.seeds(seeds)
            )
        self._world.after(SEND_SEEDS_AGAIN, lambda: self._send_seeds(life))

    def _steer(self, shard: ShardMachine) -> None:
        phase = self.phase
        self._world.tell(self.name, "steers", f"{shard.name} {phase.name}")
        shard.steered(phase)

    def _carry_out(self, instructions: list[core.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case core.ToShard(shard, message):
                    machine = self.cluster.shards[shard]
                    self.cluster.between(self.name, machine.name, message, machine.asked)
                case core.Over():
                    assert self.crawl is not None and self.crawl.stage is Stage.FINISHED
                    self._world.tell(self.name, "ends", "the crawl is over")
                    self.over_at = self._world.now
                    self.phase = Phase.FINISHED

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self.crawl is None:
            return
        at = self.crawl.next_wakeup()
        if at is not None:
            life = self._life
            late = max(self.cluster.control_lateness, 1e-6)
            self._alarm = self._world.at(
                max(at - self._offset, self._world.now + late), lambda: self._tick(life)
            )

    def _tick(self, life: int) -> None:
        if life == self._life and self.crawl is not None:
            self._carry_out(self.crawl.tick(self.clock()))
            self._set_alarm()


def owner(slots: bytes, url: str) -> int:
    """The shard that owns a URL's host."""
    return slots[slot(host_key(url))]  # type: ignore[arg-type]  # canonical already
