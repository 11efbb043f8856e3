"""The coordinator: builds its parts, moves messages between control and shard, and sees a crawl to its end.

    seeds -> intake -> shard server <-> workers          crawl (control's core) <-> shard
                            |
              progress, REST, summary.json  <- Status, made here once a second

Only this file knows all parts. One shard runs in this process; control and shard talk in messages all the same.
Order of the end: lend nothing more, let workers bring home what is in flight, commit, tell workers, stop the local
ones, close the sockets, then the files.

Read next: opening.py (a start), listening.py (where workers connect), ending.py and limits.py (why a run ends),
server.py (the shard's shell), crawl.py (when the crawl is over), steering.py (what people change).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from common import clock
from common.config import CrawlConfig
from common.endpoints import endpoints
from common.errors import BadURL, DiskFull, StorageError, UsageError
from common.log import get_logger
from common.memory import keep_freed_memory
from common.messages import HEAD, Closed, Phase
from common.version import version
from coordinator import crawl as control
from coordinator import status as st
from coordinator.changing import in_force
from coordinator.control import ControlServer, new_token
from coordinator.crawl import Crawl, Stage
from coordinator.directory import Running
from coordinator.ending import FINISHED, LOOK, STOPPED, USAGE, Ending, verdict
from coordinator.explain import never_admitted, normalizer_of
from coordinator.feed import Feed
from coordinator.intake import Intake
from coordinator.limits import Limits
from coordinator.listening import listen_to_all, say_dashboard
from coordinator.local import LocalWorkers
from coordinator.opening import open_shard
from coordinator.progress import Reporter, reporter
from coordinator.server import ShardServer
from coordinator.settings import CoordinatorSettings
from coordinator.steering import Changer
from coordinator.steps import Asked, Rescoped, Say, Seeded, Steered, Tell, Tick
from coordinator.watch import Watch

DRAIN_SECONDS = 7.0
"""How long a clean stop waits for workers to bring home what is in flight; they take at most five."""

FOLLOW_SECONDS = 6.0
"""How long local workers may take to leave when they heard that the crawl is finished."""

STATUS_SECONDS = 0.25

SUMMARY_SECONDS = 10.0
"""Between two versions of summary.json: what `coord status` says when this process was killed."""

SAID_BY_SHARD = 50
"""Of what the shard has to say to people; a list of 50,000 domains may have as many redirects. The log has all."""

log = get_logger("coordinator.app")


async def run(settings: CoordinatorSettings) -> int:
    """Run a crawl to its end, or until it is stopped; the exit code of the contract."""
    keep_freed_memory()
    return await Coordinator(settings).run()


class Coordinator:
    """One run on one DIR. Implements `coordinator.control.Steering`."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self._settings = settings
        config = settings.config
        self._directory = settings.directory
        self._reporter: Reporter = reporter(config)
        opened = open_shard(self._directory.path, config)
        self._store = opened.store
        self._server = ShardServer(opened.core, opened.store, opened.sink, config.tuning, self._told)
        self._feed = Feed(self._server.deliver)
        self._intake = Intake(
            self._directory.folder("seeds"),
            self._feed,
            kind=config.scope,
            sites=opened.sites,
            max_url_length=config.max_url_length,
            say=self._say,
            form=HEAD if config.head else None,
            normalizer=normalizer_of(config),
        )
        untouched = settings.procs is None and not settings.seeds and not opened.core.ledger.counts.admitted
        self._stay = settings.stay or untouched
        """Do not end for want of work: somebody will `coord add` it."""
        self._crawl = Crawl(1, budget=config.max_pages, stay=self._stay, now=clock.now())
        self._changer = Changer(
            config,
            self._directory,
            self._server,
            self._crawl,
            self._feed,
            to_shard=self._to_shard,
            changed=self._reconfigured,
            say=self._say,
        )
        self._local: LocalWorkers | None = None
        self._http: ControlServer | None = None
        self._watch: Watch | None = None
        self._paused = False
        self._ending = Ending(self._say)
        self._exit: int | None = None
        self._reason = ""
        self._limits = Limits(self._directory.path, begun=clock.now())
        self._worker_command = ""
        self._control = ""
        """Where workers connect; empty for local ones, which are told by us."""
        self._next_summary = 0.0
        self._heard = 0
        """What the shard had to say to people."""

    @property
    def _config(self) -> CrawlConfig:
        """In force: what `coord set` changes."""
        return self._changer.config

    # -------------------------------------------------------------------------------------------------- the run

    async def run(self) -> int:
        """See the module's docstring."""
        self._ending.listen()
        committing: asyncio.Task[None] | None = None
        try:
            try:
                await self._open()
                committing = asyncio.create_task(self._server.run(), name="commits")
                committing.add_done_callback(self._ending.task_ended)
                code, reason = await self._crawl_on()
                code, reason = await self._end(code, reason)
                self._exit, self._reason = code, reason  # for those who watch: the last that they hear
            except (StorageError, OSError) as error:
                code, reason = LOOK, f"storage: {error}"
                log.error("storage.failed", error=str(error))
                self._say(
                    f"storage failed: {error}; what was committed is whole, start again when it is mended"
                )
            finally:
                self._ending.stop_listening()
                await self._close(committing)
            if self._server.disk_full:
                self._say("the disk is still full: what it had no room for is fetched again next time")
            self._exit, self._reason = code, reason
            last = self.status()  # looks into the store, where no seed gave a page
        finally:
            self._server.close()
        self._keep_summary(last)
        self._reporter.close(last)
        return code

    async def _open(self) -> None:
        """Sockets, REST, local workers: nobody hears of us before the shard is whole."""
        settings, now, wall = self._settings, clock.now(), clock.wall()
        if self._directory.local_workers_gone():
            self._server.core.workers_gone(now, wall)
        if settings.recrawl is not None:
            self._changer.begin_round(settings.recrawl, wall)
        for instruction in self._crawl.begin():
            self._to_shard(instruction)
        if settings.procs is not None and settings.listen is None:
            lock = self._directory.workers_lock_path
            quiet = ["-q"] if self._config.quiet else []
            self._local = LocalWorkers(settings.procs, lock, self._directory.folder("logs"), quiet)
            self._server.listen(endpoints(self._local.address, 0), None)
        else:
            self._control, self._worker_command = listen_to_all(
                settings, self._server, self._config.allow_private, self._say
            )
        token = new_token()
        names = [settings.advertise] if settings.advertise else []
        self._http = ControlServer(self, token, names=names)
        http = await self._http.start(settings.http)
        self._watch = Watch(self._server, self._config, self._directory.path, http)
        self._directory.write_running(
            Running(
                pid=os.getpid(),
                host=socket.gethostname(),
                started_at=clock.rfc3339(wall),
                http=http,
                token=token,
                control=self._control,
                version=version(),
            )
        )
        say_dashboard(settings, http, token, self._say)
        if self._local is not None:
            await self._local.start()

    async def _crawl_on(self) -> tuple[int, str]:
        """Until it is over or somebody ends it: (exit code, reason)."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._seed(), name="seeds")]
                tasks.append(group.create_task(self._tick(), name="tick"))
                if self._local is not None:
                    tasks.append(group.create_task(self._mind_workers(self._local), name="workers"))
                result = await self._ending.wait()
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as failed:
            disk, others = failed.split((StorageError, OSError))
            if disk is None or others is not None:
                raise
            error: BaseException = disk
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
        return result

    async def _end(self, code: int, reason: str) -> tuple[int, str]:
        """Bring home what is in flight, unless it is over or has to be at once."""
        finished = self._crawl.stage is Stage.FINISHED
        if not finished and not self._ending.at_once.is_set():
            self._server.deliver(Steered(Phase.STOPPING))
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while self._server.core.leases.requests and not self._ending.at_once.is_set():
                        await asyncio.sleep(0.05)
                        self._show()
            except TimeoutError:
                pass
        if finished:
            self._server.deliver(Steered(Phase.FINISHED))
            bad_seeds = self._intake.tally.bad
            worse = verdict(self._server.core.ledger.counts, self._config.fail_on, bad_seeds=bad_seeds)
            code, reason = worse or (code, reason)
        if self._local is not None and finished:
            try:
                async with asyncio.timeout(FOLLOW_SECONDS):
                    await self._local.ended()
            except TimeoutError:
                pass
        elif self._local is None:
            await asyncio.sleep(0.3 if not self._ending.at_once.is_set() else 0.0)
        return code, reason

    async def _close(self, committing: asyncio.Task[None] | None) -> None:
        if self._local is not None:
            await self._local.stop(now=self._ending.at_once.is_set())
        self._server.stop()
        if committing is not None:
            await asyncio.wait([committing], timeout=DRAIN_SECONDS)
            committing.cancel()
        self._intake.close()
        if self._http is not None:
            await self._http.close()

    # ------------------------------------------------------------------------------------------------ its tasks

    async def _seed(self) -> None:
        """Read the seeds of the command line. Where links are followed, the scope must be whole before the first
        page is fetched; a list, or what comes in by a pipe, is begun at once.
        """
        seeds = self._intake.unread.resume(self._settings.seeds, self._say)
        at_once = self._config.no_follow or "-" in seeds
        ended_before = self._server.core.ledger.counts.ended
        self._crawl.source_opened()
        if at_once:
            self._set_phase()
        try:
            if seeds:
                await self._intake.read(seeds)
            self._renew_scope()
            if self._changer.has_known_to_visit:
                self._set_phase()
                await self._changer.visit_again()
        except UsageError as error:
            self._say(str(error))
            self._ending.finish(USAGE, str(error))
            return
        except StorageError as error:  # of the snapshot that is walked over; as itself, not in a group
            self._say(f"storage failed: {error}; what was committed is whole, start again when it is mended")
            self._ending.finish(LOOK, f"storage: {error}")
            return
        finally:
            self._crawl.source_closed()
        self._set_phase()
        counts = self._server.core.ledger.counts
        if self._stay:
            return
        if counts.admitted == 0:
            if self._intake.tally.read:
                self._say("no seed could be used: nothing to do")
            else:
                text = f"nothing to crawl: {_empty(seeds)}"
                self._say(text)
                self._ending.finish(USAGE, text)
        elif counts.admitted == counts.ended == ended_before:
            what = "the seeds bring nothing new" if seeds else "give new seeds to go on"
            if self._settings.recrawl is not None:
                what = "no page is old enough to be visited again"
            self._say(f"{self._directory.path} is finished: {what}")

    async def _tick(self) -> None:
        """What has to be looked at now and then: ends, limits, the disk, what people see."""
        while True:
            now = clock.now()
            for instruction in self._crawl.tick(now):
                self._to_shard(instruction)
            self._check_limits(now)
            self._show()
            if now >= self._next_summary:
                self._next_summary = now + SUMMARY_SECONDS
                self._keep_summary(self.status())
            await asyncio.sleep(STATUS_SECONDS)

    def _keep_summary(self, status: st.Status) -> None:
        """summary.json is for people: where it finds no room the older one stays, and the crawl goes on."""
        try:
            self._directory.write_summary(status.to_json())
        except DiskFull as error:
            log.warning("summary.kept", error=str(error))

    async def _mind_workers(self, local: LocalWorkers) -> None:
        code = await local.ended()
        if self._crawl.stage is not Stage.FINISHED:
            log.error("workers.ended", code=code)
            self._say("the local workers have ended; look into DIR/logs")
            self._ending.finish(LOOK, "the local workers ended")

    def _check_limits(self, now: float) -> None:
        received = self._server.core.ledger.counts.bytes
        if reached := self._limits.reached(self._config, bytes_received=received, now=now):
            self._ending.finish(FINISHED, reached)
        if self._limits.look_at_disk(self._config.min_free):
            self._set_phase()
        self._server.core.sweep(now)
        self._server.deliver(Tick())

    # ----------------------------------------------------------------------------------------- messages between

    def _told(self, told: Tell | Seeded | Say) -> None:
        """The shard has something to say to control."""
        if isinstance(told, Seeded):
            self._feed.seeded(told)
            return
        if isinstance(told, Say):
            self._heard += 1
            if self._heard <= SAID_BY_SHARD:
                self._say(told.text)
            return
        for instruction in self._crawl.handle(told.message, clock.now()):
            self._to_shard(instruction)
        if isinstance(told.message, Closed) and self._crawl.stage is Stage.FINISHED:
            counts = self._server.core.ledger.counts
            reason = "finished"
            if counts.admitted > counts.ended:
                budgets = self._server.core.frontier.budgets
                reason = "--max-pages-per-host" if budgets.may_charge else "--max-pages"
            self._ending.finish(FINISHED, reason)

    def _to_shard(self, instruction: control.Instruction) -> None:
        if isinstance(instruction, control.ToShard):
            self._server.deliver(Asked(instruction.message))

    def _renew_scope(self) -> None:
        """Entries came into the store while seeds were read: a new version, so that nobody goes by old verdicts."""
        if self._intake.scope_grew:
            self._intake.scope_grew = False
            core = self._server.core
            self._server.deliver(Rescoped(core.scope.with_sites(core.scope.sites)))

    def _set_phase(self) -> None:
        held = self._paused or self._limits.disk_short
        phase = Phase.PAUSED if held else Phase.RUNNING
        if self._server.core.phase is not phase:
            self._server.deliver(Steered(phase))

    # ---------------------------------------------------------------------------------------------------- people

    def _say(self, text: str) -> None:
        self._reporter.say(text)

    def _show(self) -> None:
        self._reporter.show(self.status(), clock.now())

    def status(self) -> st.Status:
        """The crawl at this moment."""
        assert self._watch is not None
        return self._watch.status(
            phase=self._phase(),
            directory=str(self._directory.path),
            tally=self._intake.tally,
            first=self._intake.first,
            worker_command=self._worker_command,
            command=self._settings.command,
            reason=self._reason,
            exit_code=self._exit,
        )

    def history(self) -> dict[str, Any]:
        """How it went, as columns for charts."""
        assert self._watch is not None
        return self._watch.history()

    def options(self) -> dict[str, Any]:
        """What `set_options` changes, as it stands."""
        return in_force(self._config)

    def _phase(self) -> st.Phase:
        if self._exit is not None:
            return st.Phase.FINISHED if self._crawl.stage is Stage.FINISHED else st.Phase.STOPPED
        if self._ending.begun and self._crawl.stage is not Stage.FINISHED:
            return st.Phase.STOPPING
        if self._paused:
            return st.Phase.PAUSED
        return {
            Stage.SEEDING: st.Phase.SEEDING,
            Stage.RUNNING: st.Phase.RUNNING,
            Stage.CLOSING: st.Phase.CLOSING,
            Stage.FINISHED: st.Phase.FINISHED,
        }[self._crawl.stage]

    async def add(self, lines: list[str]) -> dict[str, Any]:
        """Admit more seeds; returns when they are durable."""
        self._crawl.source_opened()
        try:
            mine = await self._intake.read(lines)
            self._renew_scope()
        finally:
            self._crawl.source_closed()
        return {"read": mine.read, "added": mine.fresh, "known": mine.known, "bad": mine.bad}

    async def set_options(self, options: Mapping[str, object], host: str | None) -> dict[str, Any]:
        """Other options, in force within a second; returns what changed, old → new."""
        return {"changed": self._changer.set_options(options, host)}

    async def block(self, hosts: list[str], undo: bool) -> dict[str, Any]:
        """Fetch nothing more of these hosts, or again; returns what changed, and how many requests end by that."""
        changed, ending = await self._changer.block(hosts, undo)
        return {"changed": changed, "ending": ending}

    async def retry(self, outcomes: list[str], host: str | None) -> dict[str, Any]:
        """Queue again what ended so in this round; returns when it is durable."""
        return {"queued": await self._changer.retry(outcomes, host)}

    def _reconfigured(self) -> None:
        """Another configuration is in force."""
        self._intake.max_url_length = self._config.max_url_length
        if self._watch is not None:
            self._watch.config = self._config
        self._check_limits(clock.now())

    async def stop(self, now: bool) -> None:
        """End cleanly, or at once."""
        if now:
            self._ending.at_once.set()
        self._ending.finish(STOPPED, "stopped by hand")

    async def pause(self) -> None:
        """Fetch nothing until `resume`; what is in flight is brought home."""
        self._paused = True
        self._set_phase()

    async def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._set_phase()

    async def why(self, url: str) -> dict[str, Any] | None:
        """What is known of a URL; of one that was never admitted, which rule refuses it."""
        core = self._server.core
        try:
            known = core.explain(url, clock.now(), clock.wall())
        except BadURL:
            known = None
        return known if known is not None else never_admitted(url, core.scope, self._config)


def _empty(seeds: Sequence[str]) -> str:
    """Why there is no seed at all, not even a bad one."""
    names = ["standard input" if seed == "-" else seed for seed in seeds]
    match names:
        case []:
            return "no seed was ever given; give a URL, a file of URLs, or both"
        case [name]:
            return f"{name} holds no URL"
        case _:
            return f"none of {', '.join(names[:5])}{', ...' if names[5:] else ''} holds a URL"
