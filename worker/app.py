"""One worker process: builds its parts and moves events and instructions between them.

    agent (decides)  <->  link (sockets)  <->  shards
          |
       fetch tasks: wait until the time given -> fetcher -> page maker -> back to the agent as a Report

Every fetch is a task of one TaskGroup, so that an error of our own ends the process loudly; its supervisor starts it
anew and the shards lend again what it held. Shutting down: begin nothing new, let fetches land, send what is owed,
give leases back, say goodbye, close the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Coroutine, Mapping
from multiprocessing.connection import Connection
from typing import Any

from common import clock
from common.config import CrawlConfig
from common.keys import WorkerKey
from common.log import get_logger
from common.memory import keep_freed_memory
from common.messages import ToWorker
from common.outcome import Outcome
from common.url import CanonicalURL, host_key
from worker import steps as core
from worker.agent import Agent
from worker.exchange import Exchange, Failure, NotSent
from worker.fetcher import Fetcher, FetcherSettings
from worker.limits import fitting_concurrency
from worker.link import Link
from worker.page import PageMaker, failed_report
from worker.robots import MAX_BYTES as ROBOTS_BYTES
from worker.robots import Verdict, verdict
from worker.settings import WorkerSettings
from worker.steps import Fetched, RobotsFetched
from worker.supervisor import FINISHED, REFUSED, STOPPED
from worker.visit import Fetch, FetchRobots

PATIENCE_SECONDS = 10.0
"""Without a word from a coordinator: until that is said, once. It may come any time."""

LAG_SECONDS = 1.0
"""Between two looks at how late the loop is."""

TIMER_SECONDS = 0.0015
"""How early uvloop may wake a sleeper: its timers count whole milliseconds, rounded, of a clock that is cut to them."""

log = get_logger("worker.app")


async def run_process(
    settings: WorkerSettings, session: bytes, replaces: tuple[bytes, ...], index: int, lifeline: Connection
) -> int:
    """The life of one process: its exit code. The supervisor's child watches the lifeline and holds the lock."""
    keep_freed_memory()
    return await WorkerProcess(settings, session, replaces, index, lifeline).run()


class WorkerProcess:
    """One process of `worker start`."""

    def __init__(
        self,
        settings: WorkerSettings,
        session: bytes,
        replaces: tuple[bytes, ...],
        index: int,
        lifeline: Connection,
    ) -> None:
        self._settings = settings
        self._index = index
        self._lifeline = lifeline
        self._loop = asyncio.get_running_loop()
        self._agent = Agent(
            session,
            replaces=replaces,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            index=index,
            local=settings.lock is not None,
            now=clock.now(),
            max_lanes=1 << 20,
        )
        key = None if settings.key is None else WorkerKey.parse(settings.key, "--key")
        self._link = Link(settings.coord, session, key, self._arrived, self._denied)
        self._fetcher: Fetcher | None = None
        self._pages: PageMaker | None = None
        self._config: CrawlConfig | None = None
        self._tasks: dict[int, set[asyncio.Task[None]]] = {}
        self._group = asyncio.TaskGroup()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._code: asyncio.Future[int] = self._loop.create_future()
        self._configuring: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Work until the crawl is over, we are asked to stop, or the supervisor is gone. The exit code."""
        self._loop.add_signal_handler(signal.SIGTERM, lambda: self._handle(core.Leaving()))
        self._loop.set_exception_handler(self._callback_failed)
        self._link.connect(0)
        self._handle(core.Woken())
        async with self._group as group:
            lag = group.create_task(self._watch_lag(), name="lag")
            code = await self._code
            lag.cancel()
            for tasks in self._tasks.values():
                for task in tasks:
                    task.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        self._link.close()
        if self._fetcher is not None:
            await self._fetcher.close()
        return code

    # ---------------------------------------------------------------------------------------- events in

    def _arrived(self, shard: int, message: ToWorker) -> None:
        self._handle(core.Arrived(shard, message))

    def _handle(self, event: core.Event) -> None:
        if self._code.done():
            return
        for instruction in self._agent.handle(event, clock.now()):
            self._carry_out(instruction)
        at = self._agent.next_wakeup()
        if at < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = at
            self._alarm = self._loop.call_later(max(0.0, at - clock.now()), self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, float("inf")
        self._handle(core.Woken())

    def _denied(self, reason: str) -> None:
        if self._code.done():
            return
        log.info("worker.refused", reason=reason)
        with contextlib.suppress(OSError):  # the supervisor, which tells it, may have gone
            os.write(self._lifeline.fileno(), reason.encode())
        self._leave(REFUSED)

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error of our own in a callback ends the process: its supervisor starts it anew, nothing is lost."""
        error = context.get("exception")
        log.error("callback.failed", message=context.get("message"), error=repr(error), exc_info=error)
        if error is not None and not isinstance(error, OSError):
            self._leave(1)

    def _leave(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)

    async def _watch_lag(self) -> None:
        patience = clock.now() + PATIENCE_SECONDS
        while True:
            if self._config is None and self._index == 0 and clock.now() >= patience:
                patience = float("inf")
                log.warning(
                    "worker.waiting", reason=f"nobody answers at {self._settings.coord} yet: is it right?"
                )
            due = self._loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            lag = max(0.0, self._loop.time() - due)
            held = 0 if self._fetcher is None else self._fetcher.budget.held
            self._handle(core.Load(held, int(lag * 1000)))

    # ---------------------------------------------------------------------------------- instructions out

    def _carry_out(self, instruction: core.Instruction) -> None:
        match instruction:
            case core.Post(shard, message, data, body):
                self._link.send(shard, message, data=data, body=body)
            case Fetch():
                self._start(instruction.lease, self._fetch(instruction))
            case FetchRobots():
                self._start(instruction.lease, self._fetch_robots(instruction))
            case core.Abort(lease):
                for task in self._tasks.pop(lease, ()):
                    task.cancel()
            case core.Connect(shard):
                self._link.connect(shard)
            case core.Configure(config, scope, seed):
                self._configure(config)
                self._pages = PageMaker(config, scope, self._agent.sent, seed)
            case core.Rescoped(scope):
                assert self._pages is not None
                self._pages.scope = scope
            case core.Exit(finished, reason, again):
                if again:
                    log.error("worker.refused", reason=reason)
                    self._leave(1)
                elif reason is not None:
                    self._denied(reason)
                else:
                    self._leave(FINISHED if finished else STOPPED)

    def _start(self, lease: int, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work, name=f"lease-{lease}")
        tasks = self._tasks.setdefault(lease, set())
        tasks.add(task)
        task.add_done_callback(lambda done: self._ended(lease, done))

    def _ended(self, lease: int, task: asyncio.Task[None]) -> None:
        tasks = self._tasks.get(lease)
        if tasks is not None:
            tasks.discard(task)
            if not tasks:
                del self._tasks[lease]

    def _configure(self, config: CrawlConfig) -> None:
        """The crawl's configuration arrived, or another one; a fetcher cannot change, so it is made anew."""
        if self._config == config:
            return
        concurrency, said = fitting_concurrency(config.concurrency)
        if said:
            log.warning("concurrency.lowered", reason=said)
        self._agent.lower_lanes(concurrency)
        before, self._fetcher = self._fetcher, Fetcher(fetcher_settings(config, self._settings, concurrency))
        self._config = config
        self._configuring = self._group.create_task(self._exchange_fetcher(before), name="fetcher")

    async def _exchange_fetcher(self, before: Fetcher | None) -> None:
        assert self._fetcher is not None
        await self._fetcher.start()
        if before is not None:
            await before.close()

    # -------------------------------------------------------------------------------------------- fetches

    async def _fetch(self, step: Fetch) -> None:
        await _sleep_until(step.at)
        pages, agent, request = self._pages, self._agent, step.request
        assert self._fetcher is not None and pages is not None
        if self._configuring is not None and not self._configuring.done():
            await asyncio.wait([self._configuring])
        form = request.form
        came = await self._fetcher.fetch(
            request.url,
            may_write=lambda: agent.may_write(step.lease, clock.now()),
            method="GET" if form is None else form.method,
            headers=pages.headers_for(request),
            body=None if form is None else form.body,
            max_bytes=pages.max_bytes,
            accept_body=pages.accept_body,
        )
        if isinstance(came, NotSent):
            self._handle(Fetched(step.lease, step.ordinal, None, came.ended))
            return
        report = pages.report(request, came) if isinstance(came, Exchange) else failed_report(came)
        self._handle(Fetched(step.lease, step.ordinal, report, came.ended))

    async def _fetch_robots(self, step: FetchRobots) -> None:
        """robots.txt, with redirects within the host; one that leads to another host counts as absent."""
        at, url, hops = step.at, step.authority + "/robots.txt", 0
        name = host_key(CanonicalURL(url))
        pages = self._pages
        assert pages is not None and self._config is not None
        if self._configuring is not None and not self._configuring.done():
            await asyncio.wait([self._configuring])
        records: list[bytes] = []
        while True:
            await _sleep_until(at)
            assert self._fetcher is not None
            came = await self._fetcher.fetch(
                url,
                may_write=lambda: self._agent.may_write(step.lease, clock.now()),
                headers=None,
                max_bytes=ROBOTS_BYTES,
            )
            if isinstance(came, NotSent):
                self._robots_done(step, "", None, came.error, None, (), came.ended, sent=False)
                return
            if isinstance(came, Failure):
                self._robots_done(step, _robots_failure(came), None, came.error, None, (), came.ended)
                return
            records += pages.records(url, came)
            means = verdict(came.status, hops)
            target = pages.redirect_target(url, came) if means is Verdict.FOLLOW else None
            if target is None or host_key(target) != name:
                break
            at, url, hops = came.ended + step.delay, target, hops + 1
            came.release()
        text = None
        word = {Verdict.RULES: "rules", Verdict.UNREACHABLE: Outcome.ROBOTS_UNREACHABLE.value}.get(
            means, "allow"
        )
        if means is Verdict.RULES:
            text = pages.plain_body(came, ROBOTS_BYTES)
        error = None if means is not Verdict.UNREACHABLE else f"robots.txt answered {came.status}"
        self._robots_done(step, word, came.status, error, text, records, came.ended)
        came.release()

    def _robots_done(
        self,
        step: FetchRobots,
        word: str,
        status: int | None,
        error: str | None,
        text: bytes | None,
        records: list[bytes] | tuple[()],
        ended: float,
        *,
        sent: bool = True,
    ) -> None:
        self._handle(
            RobotsFetched(
                step.lease, step.authority, word, status, error, text, b"".join(records), 0, ended, sent
            )
        )


async def _sleep_until(at: float) -> None:
    """Return not before `at`, by the agent's clock: a host's delay has passed then, to the last microsecond."""
    if (wait := at - clock.now()) > 0:
        await asyncio.sleep(wait + TIMER_SECONDS)


_HOST_FAILURES: Mapping[Outcome, str] = {
    outcome: outcome.value
    for outcome in (Outcome.PRIVATE_ADDRESS, Outcome.DNS, Outcome.TLS, Outcome.REFUSED, Outcome.PROXY)
}


def _robots_failure(failure: Failure) -> str:
    """A failure of the host is its requests' outcome too; anything else is tried again (contract, section 3)."""
    return _HOST_FAILURES.get(failure.outcome, Outcome.ROBOTS_UNREACHABLE.value)


def fetcher_settings(config: CrawlConfig, settings: WorkerSettings, concurrency: int) -> FetcherSettings:
    """What the crawl asks for, as far as this worker allows it."""
    return FetcherSettings(
        user_agent=config.agent,
        total=config.timeout,
        connect=config.connect_timeout,
        silence=config.silence_timeout,
        concurrency=concurrency,
        memory=config.memory,
        allow_private=settings.private_networks(config.allow_private),
        hosts=config.hosts_table,
        insecure=config.insecure,
        proxy=config.proxy,
    )
