"""A whole cluster in one process, in virtual time, from one random seed.

The seed draws a web, a configuration, a number of shards and workers, and a storm: which faults there are, how often,
until when. After the storm everything is up again, and the crawl has to end by itself, with exactly what is there.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from common import messages as m
from common.config import CrawlConfig
from common.hostrules import HostRule
from common.messages import Request
from common.scope import site_of
from common.tuning import Tuning
from common.url import CanonicalURL, fingerprint
from coordinator.steps import Reconfigured
from tests.simulation.checks import Checks
from tests.simulation.controls import ControlMachine, owner
from tests.simulation.network import Network, Weather
from tests.simulation.parts import Parts
from tests.simulation.shards import ShardMachine
from tests.simulation.web import UNWANTED, Web, make_web
from tests.simulation.workers import Machine, Process
from tests.simulation.world import Broken, World

STEPS = 400_000
"""A run never takes more: then something goes round in circles."""

HANDSHAKES = (0.001, 0.05, 0.05, 0.4, 3.0)
SLOW_HANDSHAKES = (0.05, 3.0, 8.0)
"""Seconds to look up and connect; drawn for each fetch."""

COMMIT_SECONDS = ((0.0,), (0.0, 0.02, 0.3), (0.3, 2.0))
"""Seconds of each step of a commit; the disk is quick, ordinary, or on its last legs."""

PATIENCE = 5000.0
"""Virtual seconds after the storm; the longest back-off of an honest crawl here is some minutes."""

LINES_TOLD = 120

AFTERWARDS = 40.0
"""Virtual seconds that a run goes on after its end, to see that nothing more happens."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    seed: int
    fingerprint: str
    steps: int
    seconds: float
    """Virtual."""
    requests: int
    broken: str | None
    """The promise that was not kept, and how; None: all were."""
    story: tuple[str, ...]
    faults: tuple[tuple[str, int], ...]


class Cluster:
    """One run."""

    def __init__(self, seed: int, parts: Parts | None = None, *, storms: bool = True) -> None:
        self.seed = seed
        self.parts = parts or Parts()
        self.world = World(seed)
        random = self.world.random
        self.stormy = storms and random.random() < 0.95
        self.storm_ends = random.uniform(20.0, 200.0) if self.stormy else 0.0
        self.network = Network(self.world, Weather.draw(random) if self.stormy else Weather())
        self.processes: dict[bytes, Process] = {}
        self.counted: dict[str, int] = {}
        shards = random.choice((1, 2))
        shards = self.parts.shards or shards
        self.slots = bytes(random.randrange(shards) for _ in range(1024))
        self.config = self._draw_config()
        self.config_in_force = self.config
        """What a person has made of it since: slower, never faster, so that the checks may go by the first."""
        drawn = random.choice((1, 3, 10))
        self.budget = drawn if shards == 1 and random.random() < 0.1 else None
        if random.random() < 0.1:
            self.config = self.config_in_force = replace(
                self.config, max_pages_per_host=random.choice((1, 3))
            )
        self.fingerprint_seed = random.getrandbits(64)
        self.rotate_bytes = random.choice((2000, 1 << 30))
        self.commit_interval = random.choice((0.0, 0.02, 0.5))
        self.control_lateness = random.choice((0.0, 1.0, 3.0, 3.0))
        self.slow_pages = random.choice((0.0, 0.05, 0.3))
        self.handshakes = random.choice((HANDSHAKES, SLOW_HANDSHAKES))
        self.commit_seconds = random.choice(COMMIT_SECONDS)
        self.wall_jumps = random.choice((0.0, 0.5)) if self.stormy else 0.0
        self.disk_crashes = random.choice((0.0, 0.5, 0.9)) if self.stormy else 0.0
        self.disk_fulls = random.choice((0.0, 0.3)) if self.stormy else 0.0
        self.use(
            *make_web(
                random,
                hosts=random.randint(1, 5),
                pages=random.choice((2, 8, 20)),
                retries=self.config.retries,
                big=random.random() < 0.03,
                files=random.random() < 0.2,
            )
        )
        self.checks = Checks(self)
        self.shards = [ShardMachine(self, index) for index in range(shards)]
        machines = random.randint(1, 3)
        self.machines = [Machine(self, index) for index in range(self.parts.machines or machines)]
        self.control = ControlMachine(self)
        self.often: dict[str, float] = {}
        """Kinds of faults that are sure to come, and after how many seconds each time."""
        self.parts.arrange(self)
        self.config_in_force = self.config

    def use(self, web: Web, seeds: tuple[CanonicalURL, ...]) -> None:
        """Crawl this web, and know what has to come of it."""
        self.web, self.seeds = web, seeds
        sites = (site_of(self.config.scope, url) for url in seeds)
        self.sites = [site for site in sites if site is not None]
        self.truth = web.truth(
            seeds, obey=self.config.obey_robots, wanted=self._wanted, max_depth=self.config.max_depth
        )
        self.names = {fingerprint(CanonicalURL(url), self.fingerprint_seed): url for url in self.truth}

    @property
    def limited(self) -> bool:
        """Whether a budget may hold some of what there is back."""
        return self.budget is not None or self.config.max_pages_per_host is not None

    def _draw_config(self) -> CrawlConfig:
        random = self.world.random
        rules = ()
        if random.random() < 0.2:
            rules = (HostRule("h0.test", delay=random.choice((0.0, 3.0)), per_host=random.choice((1, 2))),)
        return CrawlConfig(
            scope="any",
            deny=(UNWANTED,),
            delay=random.choice((0.0, 0.3, 1.0, 5.0, 5.0)),
            per_host=random.choice((1, 1, 2, 3)),
            obey_robots=random.random() < 0.5,
            retries=random.choice((0, 1, 2)),
            max_depth=random.choice((None, None, None, 1, 2, 3, 4)),
            per_ip=random.choice((1, 2, 32)),
            guards=random.random() < 0.5,
            jitter=random.choice((0.0, 0.1)),
            concurrency=random.choice((1, 2, 4, 16)),
            host=rules,
            tuning=Tuning(
                lease_ttl=10.0,
                heartbeat=random.choice((1.0, 2.0, 3.0)),
                unacknowledged_pages=random.choice((1, 3, 512)),
                unacknowledged_bytes=random.choice((500, 1 << 20)),
                sent_links=random.choice((16, 1024)),
                commit_interval=0.02,
            ),
        )

    def _wanted(self, url: str) -> bool:
        return UNWANTED not in url

    def request_key(self, request: Request) -> bytes:
        """The 16 bytes of a request."""
        return fingerprint(CanonicalURL(request.url), self.fingerprint_seed)

    def seeds_by_shard(self) -> dict[int, list[CanonicalURL]]:
        """Whose each seed is."""
        found: dict[int, list[CanonicalURL]] = {}
        for url in self.seeds:
            found.setdefault(owner(self.slots, url), []).append(url)
        return found

    # ---------------------------------------------------------------------------------------- who talks to whom

    def to_shard(self, process: Process, shard: int, message: m.FromWorker, body: bytes) -> None:
        """A process sends to a shard."""
        machine = self.shards[shard]
        self.network.send(
            process.machine.name,
            machine.name,
            message,
            body,
            machine.receive,
            f"{process.name} to {machine.name}",
        )

    def to_worker(self, shard: ShardMachine, message: m.ToWorker) -> None:
        """A shard sends to the process with a session; nobody there: lost."""
        process = self.processes.get(message.session)
        if process is None:
            return
        self.network.send(
            shard.name,
            process.machine.name,
            message,
            b"",
            lambda frames: self._reach(message.session, shard.index, frames),
            process.name,
        )

    def _reach(self, session: bytes, shard: int, frames: list[bytes]) -> None:
        process = self.processes.get(session)
        if process is not None and not process.dead:
            process.receive(shard, frames)

    def between(
        self, source: str, target: str, message: m.Between, receive: Callable[[list[bytes]], None]
    ) -> None:
        """Control and a shard talk: over the network, or within one process when there is one shard."""
        if len(self.shards) > 1:
            self.network.send(source, target, message, b"", receive)
            return
        calm, self.network.weather = self.network.weather, Weather(latency=1e-4)
        self.network.send(source, target, message, b"", receive)
        self.network.weather = calm

    def inside(self) -> float:
        """Seconds that a message takes between control and a shard when nothing loses it."""
        return self.world.random.uniform(0.0, 0.5) if len(self.shards) > 1 else 1e-4

    # ------------------------------------------------------------------------------------------------- the storm

    def _brew(self) -> None:
        """Plan what goes wrong, and when."""
        random = self.world.random
        kinds: list[tuple[str, Callable[[], None]]] = [
            ("freeze", self._freeze),
            ("crash of a process", lambda: self._crash(whole=False)),
            ("crash of a machine", lambda: self._crash(whole=True)),
            ("crash of a shard", self._crash_shard),
            ("cut", self._cut),
            ("leave", self._leave),
            ("pause", self._pause),
        ]
        if self.parts.steers:
            kinds.append(("set", self._set))
        if len(self.shards) > 1:
            kinds.append(("crash of control", self._crash_control))
        for name, happen in kinds:
            is_rare, every = random.random() < 0.6, random.choice((8.0, 25.0, 80.0))
            every = self.often.get(name, every)
            if is_rare and name not in self.often:
                continue
            time = random.expovariate(1.0 / every)
            while time < self.storm_ends:
                self.world.at(time, lambda name=name, happen=happen: self._happen(name, happen))
                time += random.expovariate(1.0 / every)
        self.world.at(self.storm_ends, self._calm)

    def _happen(self, name: str, happen: Callable[[], None]) -> None:
        self.counted[name] = self.counted.get(name, 0) + 1
        happen()

    def _freeze(self) -> None:
        process = self.world.random.choice(self.machines).process
        seconds = self.world.random.choice((2.0, 9.5, 12.0, 20.0)) * self.world.random.uniform(0.5, 1.5)
        if process is None or process.frozen:
            return
        self.world.tell(process.name, "freezes", f"for {seconds:.1f} s")
        process.freeze()

        def thaw() -> None:
            if not process.dead:
                self.world.tell(process.name, "thaws")
                process.thaw()

        self.world.after(seconds, thaw)

    def _crash(self, *, whole: bool) -> None:
        machine = self.world.random.choice(self.machines)
        machine.crash(whole=whole)
        self.world.after(self.world.random.choice((0.1, 0.5, 5.0, 30.0)), machine.start)

    def _crash_shard(self) -> None:
        machine = self.world.random.choice(self.shards)
        machine.crash()

    def _crash_control(self) -> None:
        self.control.crash()
        self.world.after(self.world.random.choice((0.1, 10.0)), self.control.start)

    def _cut(self) -> None:
        random = self.world.random
        names = [machine.name for machine in self.machines]
        one = random.choice([*names, "control"] if len(self.shards) > 1 else names)
        seconds = random.choice((2.0, 12.0, 40.0))
        for shard in self.shards if random.random() < 0.5 else [random.choice(self.shards)]:
            self.network.cut(one, shard.name, seconds, hold=random.random() < 0.5)

    def _leave(self) -> None:
        machine = self.world.random.choice(self.machines)
        if machine.process is not None:
            self.world.tell(machine.process.name, "is told", "to leave")
            machine.process.leave()
        self.world.after(self.world.random.choice((8.0, 30.0)), machine.start)

    def _pause(self) -> None:
        self.world.tell("somebody", "pauses")
        self.control.pause(True)
        self.world.after(self.world.random.choice((1.0, 10.0, 30.0)), self._resume)

    def _set(self) -> None:
        """`coord set`: some hosts are visited more slowly from now on."""
        random, before = self.world.random, self.config_in_force
        name = random.choice(["*", *(f"h{number}.test" for number in range(3))])
        if len(before.host) > 40:
            return
        slower = max(before.for_host(f"h{number}.test").delay for number in range(3)) + random.choice(
            (0.0, 1.0)
        )
        rule = HostRule(name, delay=min(slower, 20.0), per_host=random.choice((None, 1)))
        self.config_in_force = replace(before, host=(*before.host, rule))
        self.world.tell("somebody", "sets", rule)
        for shard in self.shards:
            shard.deliver(Reconfigured(self.config_in_force))

    def _resume(self) -> None:
        self.world.tell("somebody", "resumes")
        self.control.pause(False)

    def _calm(self) -> None:
        self.world.tell("storm", "is over")
        self.stormy = False
        self.wall_jumps = 0.0
        self.network.calm()
        self.control.start()
        self._resume()

        def raise_all() -> None:
            for machine in self.machines:
                machine.start()
            if self.control.over_at is None:
                self.world.after(5.0, raise_all)

        raise_all()

    # ------------------------------------------------------------------------------------------------- the run

    def run(self) -> Result:
        """Until the end, and a while beyond; or until a promise is broken."""
        broken: str | None = None
        story: list[str] = []
        try:
            self._run()
        except Broken as found:
            broken = str(found)
            story = self.world.story(found.about, LINES_TOLD)
        except Exception:  # noqa: BLE001  # whatever a core raises is a finding, with its seed
            broken = "no core fails: " + traceback.format_exc(limit=-6)
            story = self.world.story((), LINES_TOLD)
        return Result(
            self.seed,
            self.world.fingerprint,
            self.world.steps,
            self.world.now,
            len(self.truth),
            broken,
            tuple(story),
            tuple(sorted(self.counted.items())),
        )

    def _run(self) -> None:
        world = self.world
        for shard in self.shards:
            shard.start()
        self.control.start()
        for machine in self.machines:
            world.after(world.random.uniform(0.0, 2.0), machine.start)
        if self.stormy:
            self._brew()
        else:
            self._calm()
        patience = self.storm_ends + PATIENCE
        while self.control.over_at is None:
            if not world.step() or world.steps > STEPS or world.now > patience:
                raise self._stuck()
        self.checks.over()
        fetched = sum(map(len, self.web.log.values()))
        for shard in self.shards:
            self.control._steer(shard)
        until = world.now + AFTERWARDS
        while world.now < until and world.step():
            pass
        self.checks.over()
        if sum(map(len, self.web.log.values())) > fetched:
            self.world.tell("web", "was fetched", "after the end")

    def _stuck(self) -> Broken:
        """It does not end: what is still open, and where."""
        left = []
        for machine in self.shards:
            core = machine.core
            if core is None:
                left.append(f"{machine.name} is down")
                continue
            hosts = [repr(host) for host in core.frontier.hosts.values() if host.queued or host.waiting]
            left.append(
                f"{machine.name} epoch {core.epoch} {core.phase.name} closed={core.closed}: queued {core.frontier.queued}, waiting "
                f"{core.frontier.waiting}, leases {list(core.leases)}, fleet {list(core.fleet)}, hosts {hosts}, "
                f"now {machine.clock():.2f} wall {machine.wall():.2f} wakes {core.next_wakeup()}"
            )
        crawl = self.control.crawl
        left.append(f"control {crawl and crawl.stage} reports {crawl and crawl.reports}")
        for machine in self.machines:
            agent = machine.process and machine.process.agent
            left.append(
                f"{machine.name} visits {agent and list(agent._visits.values())} owed {agent and len(agent._owed)}"
            )
        return Broken(
            "it is never stuck", f"{self.world.steps} steps, {self.world.now:.0f} s; " + "; ".join(left)
        )


def run(seed: int, parts: Parts | None = None, *, storms: bool = True) -> Result:
    """One run of one seed."""
    return Cluster(seed, parts, storms=storms).run()
