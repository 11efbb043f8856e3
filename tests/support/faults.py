"""What goes wrong with a cluster of real processes, one thing after another, by one random.Random.

Every fault returns when it is over: what was killed is started again, what was frozen goes on, the network is good.
Between two faults the crawl has to have got on, so that each meets a crawl at work. The story says what happened and
how far the crawl was; a failing test prints it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from tests.support.cluster import Cluster, coord, let_pass, until
from tests.support.proxy import Proxy

_AT_ONCE = 0.3
"""Seconds of a short freeze: far below any lease."""


class Faults:
    """Faults for one cluster; with a proxy also those of the network."""

    def __init__(
        self,
        cluster: Cluster,
        rng: random.Random,
        *,
        lease_ttl: float,
        procs: int,
        proxy: Proxy | None = None,
        command: str = "start",
        steered: bool = False,
    ) -> None:
        """`command`: how the coordinator was started, and is again; `steered`: a person changes things meanwhile."""
        self.story: list[str] = []
        self.kinds: Counter[str] = Counter()
        """How often each happened."""
        self._cluster = cluster
        self._rng = rng
        self._ttl = lease_ttl
        self._procs = procs
        self._proxy = proxy
        self._command = command
        self._faults: list[Callable[[], None]] = [
            self.kill_coordinator,
            self.kill_worker,
            self.kill_all_workers,
            self.freeze_worker,
            self.freeze_worker_past_its_lease,
            self.freeze_coordinator,
            self.freeze_coordinator_past_all_leases,
        ]
        if proxy is not None:
            self._faults += [
                self.kill_supervisor,
                self.kill_everybody,
                self.cut,
                self.stall,
                self.stall_past_all_leases,
                self.refuse,
                self.half_open,
                self.slow,
            ]

        if steered:
            self._faults += [self.set_options, self.pause_and_resume]

    def happen(self, count: int, *, pages: int) -> None:
        """So many faults, each of another kind as long as there are any, at random moments; fewer when the crawl
        has `pages` lines before."""
        waiting: list[Callable[[], None]] = []
        for _ in range(count):
            if not waiting:
                waiting = self._rng.sample(self._faults, len(self._faults))
            fault = waiting.pop()
            before = self._cluster.lines()
            until(
                lambda low=before: self._is_over or self._cluster.lines() > low,
                f"it gets on\n{self.told()}",
                60,
            )
            let_pass(self._rng.uniform(0.0, 0.7))
            if self._is_over or (lines := self._cluster.lines()) >= pages:
                return
            self.story.append(f"at {lines} lines: {fault.__name__}")
            fault()
            self.kinds[fault.__name__] += 1

    @property
    def _is_over(self) -> bool:
        """The crawl came to its end in the middle of a fault."""
        return self._cluster.coordinator is not None and self._cluster.coordinator.poll() is not None

    def told(self) -> str:
        """The story so far, and what the processes said."""
        return "\n".join([*self.story, "", self._cluster.tail()])

    # -- kills

    def kill_coordinator(self) -> None:
        """And start it again, at once or a little later."""
        assert self._cluster.coordinator is not None
        self._cluster.kill(self._cluster.coordinator.pid)
        if self._rng.random() < 0.5:
            let_pass(self._rng.uniform(0.0, 1.0))
        self._cluster.coordinate(self._command, procs=self._procs)

    def kill_worker(self) -> None:
        """One process; its supervisor replaces it."""
        if workers := self._cluster.workers():
            self._cluster.kill(self._rng.choice(workers))

    def kill_all_workers(self) -> None:
        """All processes of the supervisor, not itself."""
        for worker in self._cluster.workers():
            self._cluster.kill(worker)

    def kill_supervisor(self) -> None:
        """Its processes leave by themselves; another `worker start` comes."""
        assert self._cluster.supervisor is not None
        self._cluster.kill(self._cluster.supervisor.pid)
        until(lambda: not self._cluster.workers(), "workers leave when their supervisor was killed", 10)
        self._cluster.work(self._proxy, procs=self._procs)

    def kill_everybody(self) -> None:
        """A power cut, but for what the kernel had in its cache."""
        for seen in self._cluster.processes():
            self._cluster.kill(seen.pid)
        self._cluster.coordinate(self._command, procs=self._procs)
        self._cluster.work(self._proxy, procs=self._procs)

    # -- people

    def set_options(self) -> None:
        """Of all hosts, or of one: never a shorter delay than at the start."""
        out = str(self._cluster.out)
        if self._rng.random() < 0.5:
            coord("set", out, f"retries={self._rng.randint(1, 5)}")
        else:
            host = f"h{self._rng.randrange(10)}.test"
            coord("set", out, "--host", host, f"delay={self._rng.choice(['0.3', 'none'])}")

    def pause_and_resume(self) -> None:
        """Unless it is over meanwhile."""
        coord("pause", str(self._cluster.out))
        let_pass(_AT_ONCE)
        coord("resume", str(self._cluster.out))

    # -- freezes

    def freeze_worker(self) -> None:
        """For a moment."""
        self._freeze_worker(_AT_ONCE)

    def freeze_worker_past_its_lease(self) -> None:
        """It comes back and finds that others do its work."""
        self._freeze_worker(self._ttl * 1.5)

    def freeze_coordinator(self) -> None:
        """For a moment."""
        self._freeze_coordinator(_AT_ONCE)

    def freeze_coordinator_past_all_leases(self) -> None:
        """Nobody hears from it, and all leases run out on both sides."""
        self._freeze_coordinator(self._ttl * 1.5)

    def _freeze_worker(self, seconds: float) -> None:
        if workers := self._cluster.workers():
            self._freeze(self._rng.choice(workers), seconds)

    def _freeze_coordinator(self, seconds: float) -> None:
        assert self._cluster.coordinator is not None
        self._freeze(self._cluster.coordinator.pid, seconds)

    def _freeze(self, pid: int, seconds: float) -> None:
        self._cluster.freeze(pid)
        let_pass(seconds)
        self._cluster.thaw(pid)

    # -- the network

    def cut(self) -> None:
        """Resets, some one after another."""
        for _ in range(self._rng.randint(1, 4)):
            self._network.cut()
            let_pass(self._rng.uniform(0.0, 0.3))

    def stall(self) -> None:
        """For a moment."""
        self._stall(_AT_ONCE)

    def stall_past_all_leases(self) -> None:
        """Late, everything arrives that both sides have given up."""
        self._stall(self._ttl * 1.5)

    def refuse(self) -> None:
        """A machine that is not there for a while."""
        self._network.refuse()
        let_pass(self._rng.uniform(0.1, 1.5 * self._ttl))
        self._network.heal()

    def half_open(self) -> None:
        """The workers find out for themselves."""
        self._network.half_open()

    def slow(self) -> None:
        """A far country."""
        self._network.slow(self._rng.uniform(0.02, 0.3))
        let_pass(1.0)
        self._network.heal()

    def _stall(self, seconds: float) -> None:
        self._network.stall()
        let_pass(seconds)
        self._network.heal()

    @property
    def _network(self) -> Proxy:
        assert self._proxy is not None
        return self._proxy
