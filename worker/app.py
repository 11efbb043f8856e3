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
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from common import clock
from common.config import CrawlConfig
from common.errors import UsageError
from common.keys import WorkerKey
from common.load import OwnLoad, resident_bytes
from common.log import get_logger
from common.memory import keep_freed_memory
from common.messages import ROBOTS_ORDINAL, ToWorker
from worker import steps as core
from worker.agent import Agent
from worker.download import may_be
from worker.downloading import Downloading
from worker.entry import Birth
from worker.exchange import Exchange, Failure, NotSent
from worker.extracted import Extracted, extraction_differs, wants_extraction
from worker.fetcher import FetcherSettings
from worker.fetchers import Fetchers
from worker.limits import fitting_concurrency
from worker.link import Link
from worker.mark import Mark
from worker.outgoing import is_sitemap, method_of
from worker.page import PageMaker, failed_report
from worker.probe import NetworkProbe
from worker.reading import Read, read_sitemap
from worker.robotsfetch import fetch_hop
from worker.settings import WorkerSettings
from worker.steps import Fetched, Report
from worker.supervisor import FINISHED, REFUSED, STOPPED
from worker.visit import Fetch, FetchRobots

if TYPE_CHECKING:
    from worker.extract import Extraction

PATIENCE_SECONDS = 10.0
"""Without a word from a coordinator: until that is said, once. It may come any time."""

LAG_SECONDS = 1.0
"""Between two looks at how late the loop is."""

SITEMAP_ASIDE_BYTES = 1 << 15
"""A sitemap above this is read in a thread beside the loop: one of 50,000 pages takes 0.4 s."""

TIMER_SECONDS = 0.0015
"""How early uvloop may wake a sleeper: its timers count whole milliseconds, rounded, of a clock that is cut to them."""

log = get_logger("worker.app")


async def run_process(settings: WorkerSettings, birth: Birth) -> int:
    """The life of one process: its exit code. The supervisor's child watches the lifeline and holds the lock."""
    keep_freed_memory()
    return await WorkerProcess(settings, birth).run()


class WorkerProcess:
    """One process of `worker start`."""

    def __init__(self, settings: WorkerSettings, birth: Birth) -> None:
        self._settings = settings
        self._index = birth.index
        self._lifeline = birth.lifeline
        self._mark = Mark(birth.mark)
        """Set around whatever is done with the bytes that a server sent, once they are there."""
        self._loop = asyncio.get_running_loop()
        self._agent = Agent(
            birth.session,
            replaces=birth.replaces,
            suspects=birth.suspects,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            index=birth.index,
            local=settings.lock is not None,
            now=clock.now(),
            max_lanes=1 << 20,
        )
        key = None if settings.key is None else WorkerKey.parse(settings.key, "--key")
        self._link = Link(settings.coord, birth.session, key, self._arrived, self._denied)
        self._fetchers = Fetchers()
        self._aside = ThreadPoolExecutor(1, "aside")
        """One thread: one big sitemap in memory at a time."""
        self._probe = NetworkProbe()
        self._probing: asyncio.Task[None] | None = None
        self._network_worked = True
        self._pages: PageMaker | None = None
        self._config: CrawlConfig | None = None
        self._extraction: Extraction | None = None
        self._downloads = Downloading(self._handle, self._mark.page)
        self._tasks: dict[int, dict[asyncio.Task[None], int | None]] = {}
        """By lease: fetches under way, each with its request's ordinal; None: of a robots.txt."""
        self._group = asyncio.TaskGroup()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._code: asyncio.Future[int] = self._loop.create_future()

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
            if self._probing is not None:
                self._probing.cancel()
            for tasks in self._tasks.values():
                for task in tasks:
                    task.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        self._link.close()
        self._aside.shutdown(wait=False, cancel_futures=True)
        await self._fetchers.close()
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
        patience, own, extract_percent = clock.now() + PATIENCE_SECONDS, OwnLoad(), 0
        while True:
            if self._config is None and self._index == 0 and clock.now() >= patience:
                patience = float("inf")
                log.warning(
                    "worker.waiting", reason=f"nobody answers at {self._settings.coord} yet: is it right?"
                )
            due = self._loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            lag = max(0.0, self._loop.time() - due)
            if self._extraction is not None and (share := self._extraction.share()) is not None:
                extract_percent = min(share, 100)
            held, lag_ms = self._fetchers.held, int(lag * 1000)
            self._handle(core.Load(held, lag_ms, own.cpu_percent(), resident_bytes(), extract_percent))

    # ---------------------------------------------------------------------------------- instructions out

    def _carry_out(self, instruction: core.Instruction) -> None:
        match instruction:
            case core.Post(shard, message, data, body):
                self._link.send(shard, message, data=data, body=body)
            case Fetch():
                self._start(instruction.lease, self._fetch(instruction), instruction.ordinal)
            case FetchRobots():
                self._start(instruction.under, self._fetch_robots(instruction))
            case core.Probe():
                self._probing = self._group.create_task(self._look_at_network(), name="probe")
            case core.Abort(lease, ordinal):
                for task in self._tasks_of(lease, ordinal):
                    task.cancel()
            case core.PieceKept():
                self._downloads.kept(instruction)
            case core.Connect(shard):
                self._link.connect(shard)
            case core.Configure(config, scope, seed):
                self._configure(config)
                self._pages = PageMaker(config, scope, self._agent.sent, seed)
            case core.Rescoped(scope):
                assert self._pages is not None
                self._pages.leads.scope = scope
            case core.Exit(finished, reason, again):
                if again:
                    log.error("worker.refused", reason=reason)
                    self._leave(1)
                elif reason is not None:
                    self._denied(reason)
                else:
                    self._leave(FINISHED if finished else STOPPED)

    def _tasks_of(self, lease: int, ordinal: int | None) -> list[asyncio.Task[None]]:
        """The fetches of a lease, or of one of its requests."""
        tasks = self._tasks.get(lease, {})
        return [task for task, of in tasks.items() if ordinal is None or of == ordinal]

    def _start(self, lease: int, work: Coroutine[None, None, None], ordinal: int | None = None) -> None:
        task = self._group.create_task(work, name=f"lease-{lease}")
        self._tasks.setdefault(lease, {})[task] = ordinal
        task.add_done_callback(lambda done: self._ended(lease, done))

    def _ended(self, lease: int, task: asyncio.Task[None]) -> None:
        tasks = self._tasks.get(lease)
        if tasks is not None:
            tasks.pop(task, None)
            if not tasks:
                del self._tasks[lease]

    def _configure(self, config: CrawlConfig) -> None:
        """The crawl's configuration arrived, or another one."""
        before, self._config = self._config, config
        if before is None or extraction_differs(before, config):
            try:
                self._extraction = self._extraction_of(config)
            except UsageError as error:
                self._denied(str(error))
                return
        # A third of a lease's time: the death must be told while the shard still knows the lease.
        seconds = min(config.tuning.parse_seconds, config.tuning.lease_ttl / 3)
        self._mark.bound(seconds, config.tuning.parse_memory)
        concurrency, said = fitting_concurrency(config.concurrency)
        if self._fetchers.use_from_now(fetcher_settings(config, self._settings, concurrency)):
            if said:
                log.warning("concurrency.lowered", reason=said)
            self._agent.lower_lanes(concurrency)
            self._probe.known_names = frozenset(config.hosts_table)

    def _extraction_of(self, config: CrawlConfig) -> Extraction | None:
        """Raises UsageError. What only some crawls need is imported when they do."""
        if config.extract is None and not config.extractors:
            return None
        from worker.extract import Extraction

        settings, mark = self._settings, self._mark
        return Extraction.of(
            config,
            # Local workers of `coord crawl` are run by whoever gave the extractor.
            allow_code=settings.allow_code or settings.lock is not None,
            page=mark.page,
            aside=mark.aside,
            thread=self._aside,
        )

    # -------------------------------------------------------------------------------------------- fetches

    async def _fetch(self, step: Fetch) -> None:
        await _sleep_until(step.at)
        if not self._agent.may_write(step.lease, clock.now()):
            self._handle(Fetched(step.lease, step.ordinal, None, clock.now()))
            return
        async with self._fetchers.fetcher() as fetcher:
            pages, agent, request = self._pages, self._agent, step.request
            assert pages is not None and self._config is not None
            form = request.form
            download = self._downloads.begin(step, self._config) if may_be(self._config, request) else None
            try:
                came = await fetcher.fetch(
                    request.url,
                    may_write=lambda: agent.may_write(step.lease, clock.now()),
                    method=method_of(form),
                    headers=pages.headers_for(request, step.cookies, clock.wall(), step.resume),
                    body=None if form is None else form.body,
                    max_bytes=pages.max_bytes,
                    accept_body=None if is_sitemap(request) else pages.accept_body,
                    download=download,
                )
            finally:
                if download is not None:
                    self._downloads.end(step)
        read: Read | None = None
        if isinstance(came, Exchange) and is_sitemap(request) and len(came.payload) > SITEMAP_ASIDE_BYTES:
            read = await self._loop.run_in_executor(self._aside, self._read_aside, step, came)
        extracted: Extracted | None = None
        if self._extraction is not None and isinstance(came, Exchange) and wants_extraction(request, came):
            extracted = await self._extraction.run(step.lease, step.ordinal, request, came)
        with self._mark.page.parsing(step.lease, step.ordinal, request.url):
            report: Report | None = None
            if isinstance(came, Exchange):
                report = pages.report(request, came, step.cookies, read, extracted)
            elif isinstance(came, Failure):
                report = failed_report(came)
            self._note(request.url, came, report is not None and report.network)
            self._handle(Fetched(step.lease, step.ordinal, report, came.ended))

    def _read_aside(self, step: Fetch, came: Exchange) -> Read:
        """In the thread beside the loop."""
        with self._mark.aside.parsing(step.lease, step.ordinal, step.request.url):
            return read_sitemap(came)

    async def _fetch_robots(self, step: FetchRobots) -> None:
        await _sleep_until(step.at)
        async with self._fetchers.fetcher() as fetcher:
            assert self._pages is not None and self._config is not None
            done, came = await fetch_hop(
                step,
                fetcher=fetcher,
                pages=self._pages,
                config=self._config,
                may_write=lambda: self._agent.may_write(step.under, clock.now()),
            )
        self._note(step.url, came, done.network)
        # It has no ordinal. Whoever waits for it stands first in its lease, or will once those before are done.
        with self._mark.page.parsing(step.lease, ROBOTS_ORDINAL, step.url):
            self._handle(done)

    def _note(self, url: str, came: Exchange | Failure | NotSent, network: bool) -> None:
        """What a fetch came to tells of our own network, too."""
        if isinstance(came, Exchange):
            self._probe.answered(url, came.ip)
        elif network:
            self._probe.failed(url)

    async def _look_at_network(self) -> None:
        works = await self._probe.works()
        log.info("network.probed", works=works)
        if works and not self._network_worked:
            self._fetchers.renew()
        self._network_worked = works
        self._handle(core.Probed(works))


async def _sleep_until(at: float) -> None:
    """Return not before `at`, by the agent's clock: a host's delay has passed then, to the last microsecond."""
    if (wait := at - clock.now()) > 0:
        await asyncio.sleep(wait + TIMER_SECONDS)


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
        host_proxies=tuple((rule.match, rule.proxy) for rule in config.host if rule.proxy is not None),
        per_ip=config.per_ip,
    )
