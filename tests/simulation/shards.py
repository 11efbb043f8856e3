"""A shard in its shell: commits that take time, a disk that can crash between any two steps, restarts.

It stands in for coordinator/server.py and coordinator/opening.py and keeps the order that those promise: output bytes
durable, then rows durable, then what rests on them leaves; on start each output is cut to its committed end first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import messages as m
from common import wire
from common.errors import DiskFull
from common.messages import FROM_WORKER, Phase
from common.scope import Scope
from coordinator.outputs import Outputs
from coordinator.shard import Shard
from coordinator.steps import (
    Asked,
    Commit,
    DropPieces,
    Event,
    Hashed,
    HashPart,
    Instruction,
    KeepPiece,
    Note,
    Received,
    Seeded,
    Seeds,
    Send,
    Steered,
    Tell,
    Tick,
)
from coordinator.store.kv import Overlay
from coordinator.store.rows import meta_row, pack, unpack
from coordinator.store.sites import StoredSites
from tests.simulation.world import Plan
from tests.support.disk import CrashableFiles, CrashableStore, Crashed, Fault, Faults

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class ShardMachine:
    """One shard, up or down."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.name = f"s{index}"
        self._world = cluster.world
        self._faults = Faults()
        self.store = CrashableStore(faults=self._faults)
        self.files = CrashableFiles(faults=self._faults)
        self.core: Shard | None = None
        self._life = 0
        self._offset = 0.0
        self._wall = 1.7e9
        self._alarm: Plan | None = None
        self._committing = False
        self._ids = 0
        self.restarts = 0

    def clock(self) -> float:
        """This machine's monotonic clock: it begins anywhere on each start."""
        return self._world.now + self._offset

    def wall(self) -> float:
        """The clock on this machine's wall, which may jump."""
        return self._world.now + self._wall

    # ----------------------------------------------------------------------------------------- life and death

    def start(self) -> None:
        """As coordinator/opening.py opens a shard."""
        if self.core is not None:
            return
        cluster, random = self.cluster, self._world.random
        self._life += 1
        self._offset = random.uniform(0.0, 1e6)
        rows = Overlay(self.store, remember=random.choice((0, 8, 1 << 15)))
        committed = {key[1:].decode(): unpack(packed) for key, packed in rows.scan(b"o", b"p", 1 << 30)}
        self.files.recover_downloads(rows)
        recovery = cluster.parts.recover(self.files, committed, self.index)
        cluster.checks.recovered(self, recovery)
        outputs = Outputs(
            committed,
            shard=self.index,
            name="crawl",
            warcinfo=lambda file, wall: f"warcinfo {file}\n".encode(),
            rotate_bytes=cluster.rotate_bytes,
        )
        sites = StoredSites(rows)
        for site in cluster.sites:
            sites.adding(site)
        packed = rows.get(meta_row("scope"))
        version = 1 if packed is None else unpack(packed) + 1
        rows.put(meta_row("scope"), pack(version))
        config = cluster.config_in_force
        scope = Scope(config.scope, sites, allow=config.allow, deny=config.deny, version=version)
        self.core = cluster.parts.shard(
            rows,
            outputs,
            config,
            scope,
            crawl=b"c" * 16,
            seed=cluster.fingerprint_seed,
            identifier=self._identifier,
            now=self.clock(),
            wall=self.wall(),
            index=self.index,
            slots=cluster.slots,
            shards=len(cluster.shards),
            phase=Phase.PAUSED,
        )
        if cluster.stormy:
            self._plan_faults()
        self._world.tell(self.name, "starts", f"epoch {self.core.epoch}")
        cluster.checks.started(self)
        self.deliver(Tick())
        if len(cluster.shards) == 1:
            cluster.control.start()
        cluster.control.shard_started(self)

    def crash(self) -> None:
        """kill -9 of the process, or a power cut: only what is durable stays."""
        if self.core is None:
            return
        self._world.tell(self.name, "crashes")
        random = self._world.random
        self._life += 1
        self.core = None
        self._committing = False
        self.restarts += 1
        if len(self.cluster.shards) == 1:
            self.cluster.control.crash()
        if self._alarm is not None:
            self._alarm.cancel()
        self._faults = Faults()
        self.store = self.store.crash(random, self._faults)
        self.files = self.files.crash(random, self._faults)
        if random.random() < self.cluster.wall_jumps:
            self._wall += random.choice((-86_400.0, -100.0, -2.0, 2.0, 100.0, 86_400.0 * 3))
        self._world.after(random.choice((0.01, 1.0, random.uniform(0.0, 40.0))), self.start)

    def _plan_faults(self) -> None:
        """Some operation of this start will find the disk full, or be the last one."""
        random = self._world.random
        plan = {}
        if random.random() < self.cluster.disk_crashes:
            plan[random.randint(1, 60)] = Fault.CRASH
        if random.random() < self.cluster.disk_fulls:
            plan[random.randint(1, 60)] = Fault.FULL
        self._faults.plan = plan
        self._faults.count = 0

    def _identifier(self) -> str:
        self._ids += 1
        return f"<urn:uuid:{self.index:08x}-0000-4000-8000-{self._ids:012x}>"

    # -------------------------------------------------------------------------------------------- events in

    def receive(self, frames: list[bytes]) -> None:
        """Frames from a worker."""
        message, body = wire.decode(frames, FROM_WORKER)
        self.deliver(Received(message, body))  # type: ignore[arg-type]  # decode gives one of FROM_WORKER

    def asked(self, frames: list[bytes]) -> None:
        """Frames from control."""
        message, _ = wire.decode(frames, (m.Poll, m.Close, m.Cap))
        self.deliver(Asked(message))  # type: ignore[arg-type]  # decode gives one of these

    def seeds(self, seeds: Seeds) -> None:
        """Seeds from control."""
        self.deliver(seeds)

    def steered(self, phase: Phase) -> None:
        """Another phase from control."""
        self.deliver(Steered(phase))

    def deliver(self, event: Event) -> None:
        """As server.py gives its core an event."""
        core = self.core
        if core is None:
            return
        self._carry_out(core.handle(event, self.clock(), self.wall()))
        if self.core is core:
            self._go_on(core)
            self.cluster.checks.handled(self, core)

    def _go_on(self, core: Shard) -> None:
        life = self._life
        if core.unsealed and not self._committing:
            self._committing = True
            wait = self.cluster.commit_interval
            self._world.after(wait, lambda: self._in_life(life, lambda: self._commit(core)))
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = core.next_wakeup()
        if at is not None:
            soonest = self._world.now + 1e-6
            self._alarm = self._world.at(
                max(soonest, at - self._offset), lambda: self._in_life(life, self._ring)
            )

    def _ring(self) -> None:
        self._alarm = None
        self.deliver(Tick())

    def _in_life(self, life: int, action: object) -> None:
        if life == self._life and callable(action):
            action()

    # ------------------------------------------------------------------------------------------------ commits

    def _commit(self, core: Shard) -> None:
        commit = core.seal(self.clock(), self.wall())
        self.cluster.checks.sealed(self, commit)
        early = [each for each in commit.instructions if self.cluster.parts.too_early(each)]
        self._carry_out(early)
        self._next(lambda: self._write(core, commit))

    def _next(self, step: object) -> None:
        life = self._life
        self._world.after(
            self._world.random.choice(self.cluster.commit_seconds), lambda: self._in_life(life, step)
        )

    def _write(self, core: Shard, commit: Commit) -> None:
        if commit.outputs and not self._try(
            lambda: self.cluster.parts.write_outputs(self.files, commit.outputs)
        ):
            if self.core is core:
                self._world.after(
                    1.0, lambda life=self._life: self._in_life(life, lambda: self._write(core, commit))
                )
            return
        self._next(lambda: self._write_rows(core, commit))

    def _write_rows(self, core: Shard, commit: Commit) -> None:
        if commit.rows and not self._try(lambda: self.cluster.parts.write_rows(self.store, commit.rows)):
            if self.core is core:
                self._world.after(
                    1.0, lambda life=self._life: self._in_life(life, lambda: self._write_rows(core, commit))
                )
            return
        self._next(lambda: self._committed(core, commit))

    def _committed(self, core: Shard, commit: Commit) -> None:
        self._committing = False
        self.cluster.checks.committed(self, commit)
        self._carry_out([each for each in core.committed(commit) if not self.cluster.parts.too_early(each)])
        self._go_on(core)
        self.cluster.checks.handled(self, core)

    def _try(self, operation: object) -> bool:
        assert callable(operation)
        try:
            operation()
        except DiskFull as full:
            self._world.tell(self.name, "disk full", full)
            return False
        except Crashed as crashed:
            self._world.tell(self.name, "disk", crashed)
            self.crash()
            return False
        return True

    # --------------------------------------------------------------------------------------- instructions out

    def _carry_out(self, instructions: list[Instruction] | tuple[Instruction, ...]) -> None:
        for instruction in instructions:
            match instruction:
                case Send(message, _):
                    self.cluster.to_worker(self, message)
                case Tell(message):
                    self.cluster.control.from_shard(self, message)
                case Seeded():
                    self.cluster.control.seeded(self, instruction)
                case HashPart(session, number, part, pieces, tail):
                    hashed = Hashed(session, number, self.files.digest(part, pieces, tail))
                    life, wait = self._life, self._world.random.choice((0.01, 2.0))
                    self._world.after(
                        wait,
                        lambda life=life, hashed=hashed: self._in_life(life, lambda: self.deliver(hashed)),
                    )
                case KeepPiece(key, index, body):
                    if not self._try(
                        lambda key=key, index=index, body=body: self.files.keep(key, index, body)
                    ):
                        return
                case DropPieces(key):
                    self.files.drop(key)
                case Note(event, facts, _):
                    self._world.tell(self.name, "notes", f"{event} {dict(facts)}")
