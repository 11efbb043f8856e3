"""A worker machine: the real agent in a process that fetches from the simulated web, crashes, freezes and returns.

The machine may lose its way to all sites, and keep that to the shards. Its shell stands in for worker/app.py and keeps what that promises: it waits until `at`, connects, asks `may_write`
just before the request is written, breaks off what the agent aborts, and tells when a fetch let go of its host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import TYPE_CHECKING

from common import messages as m
from common import wire
from common.config import CrawlConfig
from common.messages import Flag, LinkGroup, Request
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, fingerprint
from common.warc import digest_text
from tests.simulation.web import DENIED, Exchange, Page, piece, whole
from tests.simulation.world import Plan
from worker import steps as core
from worker.agent import Agent
from worker.visit import Fetch, FetchRobots

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


GRAIN = 1e-6
"""Seconds: what two clocks may disagree by."""


@dataclass(eq=False, slots=True)
class Task:
    """One fetch under way in a process."""

    step: Fetch | FetchRobots
    plan: Plan | None = None
    exchange: Exchange | None = None
    gone: bool = False


@dataclass(slots=True)
class Stream:
    """A file on its way: the pieces from `first` on, as far as `stop`."""

    page: Page
    version: int
    began: int
    first: int
    index: int
    stop: int

    @classmethod
    def of(cls, process: Process, step: Fetch, page: Page) -> Stream:
        """What the server makes of the request; now and then it breaks off."""
        random = process._world.random
        process.downloads += 1
        stream = cls(page, page.version, process.downloads, 0, 0, page.pieces)
        if step.resume is not None and step.resume.validator == stream.validator:
            stream.first = stream.index = min(step.resume.pieces, page.pieces)
        if random.random() < 0.3:
            stream.stop = random.randint(stream.first, page.pieces)
            if stream.stop == page.pieces and random.random() < 0.5:
                stream.stop = stream.first
        return stream

    @property
    def validator(self) -> str | None:
        """By which the server knows the rest."""
        return f'"{self.version}"' if self.page.resumable else None


class Process:
    """One start of a worker process."""

    def __init__(
        self,
        machine: Machine,
        session: bytes,
        replaces: tuple[bytes, ...],
        suspects: tuple[tuple[bytes, int, int], ...],
        agent: type[Agent],
    ) -> None:
        self.machine = machine
        self.session = session
        self.name = f"{machine.name}/{session.hex()[:6]}"
        self._cluster = machine.cluster
        self._world = machine.cluster.world
        self.frozen = False
        self._froze_at = 0.0
        self.dead = False
        self._connected = [0]
        self.agent = agent(
            session,
            replaces=replaces,
            suspects=suspects,
            host=machine.name,
            pid=1,
            index=0,
            local=False,
            now=self.clock(),
            max_lanes=1 << 20,
        )
        self._tasks: dict[int, list[Task]] = {}
        self._alarm: Plan | None = None
        self._backlog: list[Callable[[], None]] = []
        self.config: CrawlConfig | None = None
        self._scope: Scope | None = None
        self._seed = 0
        self.downloads = 0
        """Begun so far."""

    def clock(self) -> float:
        """This machine's monotonic clock."""
        if self.frozen and self._cluster.parts.clock_sleeps:
            return self._froze_at + self.machine.offset
        return self._world.now + self.machine.offset

    def begin(self) -> None:
        """The process runs."""
        self._handle(core.Woken())

    def receive(self, shard: int, frames: list[bytes]) -> None:
        """Frames from a shard are there to be read."""

        if shard not in self._connected:
            return

        def read() -> None:
            message, _ = wire.decode(frames, m.TO_WORKER)
            self._handle(core.Arrived(shard, message))  # type: ignore[arg-type]  # decode gives one of TO_WORKER

        self.run(read)

    def run(self, action: Callable[[], None]) -> None:
        """Let this process do something now, or when it is thawed, or never."""
        if self.dead:
            return
        if self.frozen:
            self._backlog.append(action)
        else:
            action()

    def freeze(self) -> None:
        """SIGSTOP: the clock goes on, nothing else does."""
        self._froze_at = self._world.now
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: everything that waits happens at once, in any order."""
        self.frozen = False
        if self._cluster.parts.clock_sleeps:
            self.machine.offset -= self._world.now - self._froze_at
        backlog, self._backlog = self._backlog, []
        self._world.random.shuffle(backlog)
        for action in backlog:
            if self.dead:
                return
            action()

    def die(self) -> None:
        """SIGKILL, or the end. The sites see every connection close."""
        self.dead = True
        for tasks in self._tasks.values():
            for task in tasks:
                self._break_off(task)
        self._tasks = {}

    def leave(self) -> None:
        """SIGTERM."""
        self.run(lambda: self._handle(core.Leaving()))

    # ------------------------------------------------------------------------------------------------ the shell

    def _handle(self, event: core.Event) -> None:
        if self.dead:
            return
        for instruction in self.agent.handle(event, self.clock()):
            self._carry_out(instruction)
        if self.dead:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        at = self.agent.next_wakeup() - self.machine.offset
        at = max(at, self._world.now + GRAIN)  # a clock that begins at a million loses some digits
        self._alarm = self._world.at(at, lambda: self.run(lambda: self._handle(core.Woken())))
        self._cluster.checks.process(self)

    def _carry_out(self, instruction: core.Instruction) -> None:
        match instruction:
            case core.Post(shard, message, _, body):
                self._cluster.to_shard(self, shard, message, body)
            case Fetch() | FetchRobots():
                task = Task(instruction)
                self._tasks.setdefault(_under(instruction), []).append(task)
                task.plan = self._later(instruction.at - self.clock(), lambda: self._connect(task))
            case core.Abort(lease, ordinal):
                self._world.tell(self.name, "aborts", m.lease_name(m.LeaseId(lease)))
                if self._cluster.parts.aborts:
                    for task in list(self._tasks.get(lease, [])):
                        if ordinal is None or getattr(task.step, "ordinal", None) == ordinal:
                            self._settle(task)
                            self._break_off(task)
            case core.Connect(shard):
                self._connected.append(shard)
            case core.Configure(config, scope, seed):
                self.config, self._scope, self._seed = config, scope, seed
            case core.Rescoped(scope):
                self._scope = scope
            case core.Probe():
                self._later(self._world.random.choice((0.1, 5.0)), self._probed)
            case core.Exit(finished, reason):
                self._world.tell(self.name, "exits", f"finished={finished} {reason or ''}")
                self.die()
                self.machine.exited(finished)

    def _later(self, seconds: float, action: Callable[[], None]) -> Plan:
        return self._world.after(max(0.0, seconds), lambda: self.run(action))

    def _break_off(self, task: Task) -> None:
        task.gone = True
        if task.plan is not None:
            task.plan.cancel()
        exchange = task.exchange
        if exchange is not None and exchange.over is None:
            exchange.left_out = exchange.overdue()
            exchange.over = self._world.now
            self._world.tell("web", "is left", exchange.url)

    def _probed(self) -> None:
        works = not self.machine.offline
        self._world.tell(self.name, "probes", f"works={works}")
        self._handle(core.Probed(works))

    def _settle(self, task: Task) -> None:
        tasks = self._tasks.get(_under(task.step), [])
        if task in tasks:
            tasks.remove(task)

    # ------------------------------------------------------------------------------------------------- fetching

    def _connect(self, task: Task) -> None:
        task.plan = self._later(
            self._world.random.choice(self._cluster.handshakes), lambda: self._write(task)
        )

    def _write(self, task: Task) -> None:
        if task.gone:
            return
        step, now = task.step, self.clock()
        if not self._cluster.parts.may_write(self.agent, _under(step), now):
            self._settle(task)
            self._not_sent(step, now)
            return
        random = self._world.random
        if self.machine.offline:
            self._settle(task)
            self._world.tell(self.name, "reaches", "nobody")
            if isinstance(step, FetchRobots):
                self._robots_done(step, Outcome.DNS.value, None, None, network=self.machine.marks_failures)
            else:
                report = replace(failed(Outcome.TIMEOUT), network=self.machine.marks_failures)
                self._handle(core.Fetched(step.lease, step.ordinal, report, now))
            return
        if isinstance(step, FetchRobots):
            self._write_robots(task, step)
            return
        web, url = self._cluster.web, step.request.url
        site, page = web.site(url), web.page(url)
        if site.dead is not None:
            self._settle(task)
            self._handle(core.Fetched(step.lease, step.ordinal, failed(site.dead), now))
            return
        seconds = page.seconds * random.uniform(0.5, 2.0)
        if random.random() < self._cluster.slow_pages:
            seconds += random.uniform(0.0, 15.0)
        page.arrivals += 1
        fails = page.arrivals <= page.failures
        again = not fails and page.arrivals <= page.failures + page.selfs
        task.exchange = self._arrive(task, url, is_robots=False)
        if page.pieces and not step.request.flags & Flag.LINKS_ONLY:
            task.plan = self._later(seconds, lambda: self._stream(task, step, Stream.of(self, step, page)))
            return

        self._answer_after(seconds, task, lambda: self._fetched(task, step, page, fails, again))

    def _arrive(self, task: Task, url: str, *, is_robots: bool) -> Exchange:
        exchange = self._cluster.web.arrive(url, self.name, self._world.now, is_robots=is_robots)
        under = _under(task.step)
        self._world.tell(self.name, "fetches", f"{url} in {m.lease_name(m.LeaseId(under))}")
        self._cluster.checks.arrival(exchange)
        visit = self.agent._visits.get(under)  # the shell's own knowledge is too coarse
        if visit is not None:
            exchange.overdue = lambda: visit.deadline + GRAIN < self.clock()
            exchange.lost = lambda: self.frozen and exchange.overdue()
        return exchange

    def _answer_after(self, seconds: float, task: Task, then: Callable[[], None]) -> None:
        """The site answers; while the machine is cut off, nothing comes through."""

        def over() -> None:
            if self.machine.offline:
                task.plan = self._world.after(0.5, over)
            else:
                self._sent(task, then)

        task.plan = self._world.after(seconds, over)

    def _sent(self, task: Task, then: Callable[[], None]) -> None:
        """The site has sent its whole answer; the process reads it now, or when it is thawed."""
        exchange = task.exchange
        assert exchange is not None
        if exchange.over is None:
            exchange.over = self._world.now
            exchange.left_out = exchange.lost()
        self.run(then)

    def _stream(self, task: Task, step: Fetch, stream: Stream) -> None:
        """The next piece of a file, as worker/downloading.py hands it on; or its end."""
        if task.gone:
            return
        page, random = stream.page, self._world.random
        if stream.index == stream.stop:
            self._answer_after(0.01, task, lambda: self._streamed(task, step, stream))
            return
        body = piece(page.content or page.url, stream.version, stream.index)
        came = (stream.index, stream.began, stream.first, stream.validator, body)
        stream.index += 1
        self._handle(core.PieceCame(step.lease, step.ordinal, *came))
        if not task.gone:
            wait = random.choice((0.01, 0.5, 5.0))
            task.plan = self._later(wait, lambda: self._stream(task, step, stream))

    def _streamed(self, task: Task, step: Fetch, stream: Stream) -> None:
        if task.gone:
            return
        self._settle(task)
        page = stream.page
        is_whole = stream.index == page.pieces
        body = whole(page, stream.version)
        digest = digest_text(sha1(body).digest()) if is_whole and not stream.first else None
        outcome = Outcome.OK if is_whole else Outcome.TRUNCATED
        facts = m.Facts(outcome.code, 200, wire_length=10, digest=digest, fetched_at=1.0e9, ip="192.0.2.1")
        began = stream.began if stream.index > stream.first else 0
        tail = body[page.pieces << 20 :] if is_whole else b""
        file = m.File("file.bin", began, stream.first)
        report = core.Report(facts, answered=tail, file=file, pieces=stream.index)
        self._handle(core.Fetched(step.lease, step.ordinal, report, self.clock()))

    def _fetched(self, task: Task, step: Fetch, page: Page, fails: bool, again: bool) -> None:
        if task.gone:
            return
        self._settle(task)
        now = self.clock()
        if page.deadly:
            self.machine.dies_of(step)
            return
        if fails and page.failure is not Outcome.SERVER_ERROR:
            self._handle(core.Fetched(step.lease, step.ordinal, failed(page.failure), now))
            return
        if again:
            facts = m.Facts(Outcome.REDIRECT.code, 302, redirect_to=step.request.url)
            self._handle(core.Fetched(step.lease, step.ordinal, core.Report(facts, again=True), now))
            return
        self._handle(core.Fetched(step.lease, step.ordinal, self._report(step.request, page, fails), now))

    def _report(self, request: Request, page: Page, fails: bool) -> core.Report:
        """What worker/page.py would make of the answer."""
        assert self.config is not None and self._scope is not None
        status = 500 if fails else page.status
        outcome = outcome_of(status)
        links: tuple[LinkGroup, ...] = ()
        fingerprints: list[bytes] = []
        refused: dict[str, int] = {}
        depth = request.depth + 1
        if outcome is Outcome.OK:
            urls = []
            for url in page.links:
                rule = self._scope.refusal(url)
                if rule is not None:
                    refused[rule] = refused.get(rule, 0) + 1
                    continue
                mark = fingerprint(url, self._seed)
                if not self._cluster.parts.covers(self.agent, mark, depth):
                    urls.append(url)
                    fingerprints.append(mark)
            if urls:
                links = (LinkGroup(request.url, request.seed, depth, 0, 0, tuple(urls), None),)
        elif outcome is Outcome.REDIRECT and page.target is not None:
            depth = request.depth
            flags = request.flags & int(Flag.SEED)
            links = (
                LinkGroup(request.url, request.seed, depth, request.hops + 1, flags, (page.target,), None),
            )
        asked = f"request {request.url}\n".encode()
        answered = f"response {request.url} {status}\n".encode().ljust(page.size, b".")
        facts = m.Facts(
            outcome.code, status, None, None, page.target, "text/html", "utf-8", page.size, page.size,
            page.digest if not fails else None, request.url, False, None, None, 1.0e9, int(page.seconds * 1000),
            "192.0.2.1", None,
        )  # fmt: skip
        return core.Report(
            facts,
            links,
            tuple(fingerprints),
            depth,
            tuple(refused.items()),
            None,
            b"HTTP/1.1 %d OK\r\nContent-Type: text/html\r\n\r\n" % status,
            asked,
            answered,
        )

    def _not_sent(self, step: Fetch | FetchRobots, now: float) -> None:
        self._world.tell(self.name, "holds back", m.lease_name(m.LeaseId(step.lease)))
        if isinstance(step, Fetch):
            self._handle(core.Fetched(step.lease, step.ordinal, None, now))
        else:
            self._robots_done(step, "", None, None, sent=False)

    def _write_robots(self, task: Task, step: FetchRobots) -> None:
        site = self._cluster.web.site(step.url)
        if site.dead is not None:
            self._settle(task)
            self._robots_done(step, site.dead.value, None, None)
            return
        site.robots_arrivals += 1
        fails = site.robots_arrivals <= site.robots_failures
        task.exchange = self._arrive(task, step.url, is_robots=True)

        def read() -> None:
            if task.gone:
                return
            self._settle(task)
            if fails:
                self._robots_done(step, Outcome.ROBOTS_UNREACHABLE.value, 503, None)
            elif site.robots_target is not None:
                self._robots_done(step, "follow", 301, None, target=site.robots_target)
            elif site.robots is None:
                self._robots_done(step, "allow", 404, None)
            else:
                self._robots_done(step, "rules", 200, site.robots)

        seconds = self._world.random.choice((0.01, 0.1, 1.0))
        self._answer_after(seconds, task, read)

    def _robots_done(
        self,
        step: FetchRobots,
        word: str,
        status: int | None,
        text: bytes | None,
        *,
        sent: bool = True,
        target: CanonicalURL | None = None,
        network: bool = False,
    ) -> None:
        record = b"" if status is None else f"response {step.url} {status}\n".encode()
        self._handle(
            core.RobotsFetched(
                step.lease,
                step.authority,
                step.url,
                step.hops,
                word,
                status,
                None,
                text,
                record,
                0,
                self.clock(),
                sent,
                None if status is None else "192.0.2.1",
                target,
                network,
            )
        )


class Machine:
    """A worker machine: a process, and the supervisor that starts it again."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        self.cluster = cluster
        self.name = f"w{index}"
        self.offset = cluster.world.random.uniform(0.0, 1e6)
        self.process: Process | None = None
        self.finished = False
        self.offline = False
        """Whether its way to every site is cut."""
        self.marks_failures = True
        """Whether its processes mark failures that may be their own network's."""
        self._dead: list[bytes] = []
        self._suspects: list[tuple[bytes, int, int]] = []

    def start(self) -> None:
        """Start a process, unless one runs or the crawl is finished."""
        if self.process is not None or self.finished:
            return
        session = self.cluster.world.random.randbytes(16)
        if self.cluster.parts.same_identity:
            session = self.name.encode().ljust(16, b"=")
        self.process = Process(
            self, session, tuple(self._dead[-8:]), tuple(self._suspects[-8:]), self.cluster.parts.agent
        )
        self.cluster.processes[session] = self.process
        self.cluster.world.tell(self.name, "starts", self.process.name)
        self.process.begin()

    def crash(self, *, whole: bool) -> None:
        """kill -9 of the process; `whole`: the machine goes with its supervisor, and nobody tells of the death."""
        if self.process is None:
            return
        self.cluster.world.tell(self.name, "crashes", f"{self.process.name} whole={whole}")
        self.process.die()
        self._dead = [] if whole else [*self._dead, self.process.session]
        if whole:
            self._suspects = []
        if whole:
            self.offset = self.cluster.world.random.uniform(0.0, 1e6)
        self.process = None

    def dies_of(self, step: Fetch) -> None:
        """What it read killed the process; the supervisor finds the mark that it left."""
        assert self.process is not None
        process, kind = self.process, self.cluster.parts.suspects
        if kind == "all":
            for visit in process.agent._visits.values():
                self._suspects += [(process.session, visit.lease.id, each) for each in visit.in_flight]
        if kind != "none":
            self._suspects.append((process.session, step.lease, step.ordinal))
        self.crash(whole=False)
        self.cluster.world.after(0.5, self.start)

    def lose_network(self, seconds: float) -> None:
        """No site is reached for so long; the shards are."""
        self.cluster.world.tell(self.name, "is cut off", f"for {seconds:.1f} s")
        self.offline = True

        def found() -> None:
            self.cluster.world.tell(self.name, "is back")
            self.offline = False

        self.cluster.world.after(seconds, found)

    def exited(self, finished: bool) -> None:
        """The process left by itself."""
        self.process = None
        self.finished = self.finished or finished


def failed(outcome: Outcome) -> core.Report:
    """As worker/page.py reports a fetch without an answer."""
    return core.Report(m.Facts(outcome.code, None, "simulated", None, *[None] * 7, False, *[None] * 6))


def _under(step: Fetch | FetchRobots) -> int:
    """The lease in whose time a fetch is made."""
    return step.under if isinstance(step, FetchRobots) else step.lease


def outcome_of(status: int) -> Outcome:
    """Of an answer with this status."""
    if status < 300:
        return Outcome.OK
    if status < 400:
        return Outcome.REDIRECT
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.SERVER_ERROR


__all__ = ["DENIED", "Machine", "Process", "failed"]
