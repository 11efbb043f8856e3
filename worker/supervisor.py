"""The parent of the worker processes of one machine: starts N, replaces those that die, passes signals on.

It fetches nothing and talks to no coordinator. Each process has a *place*, 0 to N-1. A process that dies is
replaced in its place under a new session id, and the new one names the dead one's, so that the coordinator
frees its leases at once (PROTOCOL rule 12). How a process ends says what happens:

    exit code 0    the crawl is finished: none is started any more, the others follow or are told to
    3              it was asked to stop: its place stays empty
    4              refused for good (wrong key, wrong version): all stop
    anything else  it died: replaced, at once the first time, then after 0.5 s doubling to 30 s

What it was parsing when it died, the mark that it left tells (worker/mark.py), and the new one names that, too: the
coordinator tries it alone, and sets it aside the third time (rule 24). Then the wait is 2 s at most: a longer one would
outlast the lease, and the suspect would be forgotten with it. One that is not done with a page after the time or the
memory that the crawl allows is killed, and so comes to the same (worker/watch.py).

Signals: a first SIGINT or SIGTERM asks every process to stop (SIGTERM to each), a second kills them. The
processes ignore SIGINT themselves: a terminal sends it to all, and they must not leave before they were
asked.

No orphans: each process holds one end of a socket pair whose other end only this parent has; a thread of its
own waits there and leaves when the parent is gone, however it went and whatever the event loop is at. A process
that was refused leaves its reason there.
(aiomultiprocess's own `Process` starts a multiprocessing Manager, a further process that outlives a killed
parent; ours has none.)
"""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from aiomultiprocess.core import Process as AioProcess
from aiomultiprocess.types import Unit

from common import clock, log
from common.commandline import say
from common.outcome import Outcome
from worker.entry import Birth, Suspect
from worker.limits import go_first
from worker.mark import Mark, Parsing
from worker.settings import WorkerSettings
from worker.watch import LOOK_SECONDS, Seen, Watch, parse_stat

FINISHED, STOPPED, REFUSED = 0, 3, 4
"""Exit codes of a worker process that mean something."""

Target = Callable[[WorkerSettings, Birth], Coroutine[Any, Any, int | None]]
"""What a process does: its exit code. SIGTERM asks it to stop. The lifeline is watched already."""

_SPAWN = multiprocessing.get_context("spawn")
"""What aiomultiprocess uses too: a fresh interpreter, so that no lock or loop of the parent is copied."""

_STOP_SECONDS = 20.0
"""From asking a process to stop to killing it: a clean stop takes at most ten."""

_FOLLOW_SECONDS = 5.0
"""From the first process that says the crawl is finished until the others are told: they hear it themselves
within a heartbeat, but one that was started just now may find nobody to hear it from."""

_REPLACED_NAMED = 64
"""Sessions that `replaces` names at most, the latest: what a Hello has room for."""

_REASON_BYTES = 4096

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

_log = log.get_logger("worker.supervisor")


class Backoff:
    """How long to wait before a process is replaced."""

    FIRST, LONGEST, SUSPECTED, HEALTHY = 0.5, 30.0, 2.0, 60.0
    """Seconds: the second wait; the longest; the longest while a request is suspected; a life after which an earlier
    death is forgotten."""

    def __init__(self) -> None:
        self._next = 0.0

    def wait(self, lived: float, *, suspected: bool = False) -> float:
        """Seconds to wait after a process that lived so long. `suspected`: a request is, of having killed it."""
        if lived >= self.HEALTHY:
            self._next = 0.0
        wait, self._next = self._next, min(max(self.FIRST, self._next * 2), self.LONGEST)
        return min(wait, self.SUSPECTED) if suspected else wait


class Process(AioProcess):
    """A worker process: aiomultiprocess's, without the Manager process that its constructor would start."""

    def __init__(self, target: Target, settings: WorkerSettings, birth: Birth) -> None:
        self.unit = Unit(
            target=target,
            args=(settings, birth),
            kwargs={},
            namespace=None,
            loop_initializer=uvloop.new_event_loop,  # type: ignore[arg-type]  # asks for more than a loop
        )
        self.aio_process = _SPAWN.Process(
            target=_in_child, args=(self.unit,), name=f"shoal-worker-{birth.index}"
        )
        self.mark = Mark(birth.mark)
        self.watch = Watch()

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the process has ended."""
        return int(self.aio_process.sentinel)

    def seen(self) -> Seen:
        """What the kernel says of it. Where it says nothing (only Linux has /proc), it waits and has no memory."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
            return parse_stat(text, ticks=_TICKS, page=_PAGE)
        except (OSError, ValueError, IndexError):
            return Seen("S", 0.0, 0)


class Supervisor:
    """Runs one set of worker processes; `run` once."""

    def __init__(
        self,
        settings: WorkerSettings,
        target: Target,
        *,
        follow_seconds: float = _FOLLOW_SECONDS,
        stop_seconds: float = _STOP_SECONDS,
    ) -> None:
        self._settings = settings
        self._target = target
        self._follow_seconds = follow_seconds
        self._stop_seconds = stop_seconds
        self._alive: dict[int, Process] = {}
        """By place."""
        self._ending = asyncio.Event()
        """Set once no process is to be started any more, for whatever reason."""
        self._signalled: int | None = None
        self._codes: list[int] = []
        self._told_why = False

    async def run(self) -> int:
        """Supervise until every place is empty; returns the exit code of `worker start`."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self._on_signal, number)
        lifeline = self._settings.lifeline
        if lifeline is not None:
            loop.add_reader(lifeline, self._on_orphaned, lifeline)
        try:
            async with asyncio.TaskGroup() as group:
                end = group.create_task(self._end_all(), name="supervisor-end")
                watch = group.create_task(self._watch(), name="supervisor-watch")
                places = [
                    group.create_task(self._keep(index), name=f"place-{index}")
                    for index in range(self._settings.procs)
                ]
                await asyncio.wait(places)
                end.cancel()
                watch.cancel()
        finally:
            # Whatever went wrong above, nobody is left behind.
            for process in self._alive.values():
                process.kill()
            for number in signals:
                loop.remove_signal_handler(number)
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._signalled is not None:
            return 130 if self._signalled == signal.SIGINT else STOPPED
        if REFUSED in self._codes:
            return 2
        return FINISHED if FINISHED in self._codes else STOPPED

    # -- one place

    async def _keep(self, index: int) -> None:
        """Keep a process in a place until there is no more need of one."""
        backoff = Backoff()
        died: list[bytes] = []
        suspects: list[Suspect] = []
        while not self._ending.is_set():
            session = os.urandom(16)
            started = clock.now()
            code, parsing = await self._live(index, session, tuple(died), tuple(suspects))
            if code in (FINISHED, STOPPED, REFUSED):
                self._codes.append(code)
                if code != STOPPED:
                    self._ending.set()
                return
            if self._ending.is_set():
                return
            died.append(session)
            del died[:-_REPLACED_NAMED]
            suspects += [(session, each.lease, each.ordinal) for each in parsing]
            suspects = [each for each in suspects if each[0] in died][-_REPLACED_NAMED:]
            wait = backoff.wait(clock.now() - started, suspected=bool(parsing))
            urls = " ".join(each.url for each in parsing) or None
            _log.warning("worker.died", index=index, ended=_ended(code), restart_in_s=wait, parsing=urls)
            if wait and await _happens(self._ending, wait):
                return

    async def _live(
        self, index: int, session: bytes, replaces: tuple[bytes, ...], suspects: tuple[Suspect, ...]
    ) -> tuple[int, tuple[Parsing, ...]]:
        """The life of one process: its exit code, negative for the signal that killed it, and what it was parsing."""
        lifeline, held = _SPAWN.Pipe()
        birth = Birth(
            session=session,
            replaces=replaces,
            suspects=suspects,
            index=index,
            lifeline=lifeline,
            mark=Mark.shared(_SPAWN),
        )
        process = Process(self._target, self._settings_of(index), birth)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            with _sigint_held():
                process.start()
            self._alive[index] = process
            loop.add_reader(process.sentinel, ended.set)
            try:
                _log.info("worker.started", index=index, process=process.pid)
                if self._ending.is_set():  # asked while it was being started
                    process.terminate()
                await ended.wait()
            finally:
                loop.remove_reader(process.sentinel)
            # The sentinel closes as the process dies; joining fetches its exit code without a wait worth the
            # name.
            process.aio_process.join()
            code = process.exitcode
            if code == REFUSED:
                self._tell_why(held)
            del self._alive[index]
            process.close()
            return (1 if code is None else code), process.mark.read()
        finally:
            held.close()
            lifeline.close()

    def _tell_why(self, held: Connection) -> None:
        """A process was refused for good and left its reason: the first is told, the others are the same."""
        if self._told_why or not held.poll():
            return
        self._told_why = True
        say("worker", os.read(held.fileno(), _REASON_BYTES).decode(errors="replace"))

    def _settings_of(self, index: int) -> WorkerSettings:
        """Ours, with a log file that is this place's alone."""
        of = self._settings.log
        if of.file is None:
            return self._settings
        own = of.file.with_name(f"{of.file.stem}-{index}{of.file.suffix}")
        return replace(self._settings, log=replace(of, file=own))

    # -- all places

    async def _watch(self) -> None:
        """Kill a process that a page holds up, or fills (rule 24); what happens then is what happens to the dead."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for index, process in self._alive.items():
                mark = process.mark
                broken = process.watch.look(mark.read(), process.seen(), mark.bounds, clock.now())
                if broken is not None:
                    page, how = broken
                    _log.error("worker.overdue", index=index, process=process.pid, why=how, parsing=page.url)
                    process.kill()

    # -- ending

    def _on_signal(self, number: int) -> None:
        if self._signalled is None:
            self._signalled = number
            self._ending.set()
            self._tell_all()
        else:
            _log.warning("worker.killed", processes=len(self._alive), why="second signal")
            for process in self._alive.values():
                process.kill()

    def _on_orphaned(self, lifeline: int) -> None:
        """Whoever started us was killed: there is nobody left to work for."""
        asyncio.get_running_loop().remove_reader(lifeline)
        self._signalled = self._signalled or signal.SIGTERM
        self._ending.set()
        for process in self._alive.values():
            process.kill()

    async def _end_all(self) -> None:
        """Once it is to end, see that every process does."""
        await self._ending.wait()
        if FINISHED in self._codes and self._signalled is None:
            await asyncio.sleep(self._follow_seconds)
        self._tell_all()
        await asyncio.sleep(self._stop_seconds)
        for index, process in self._alive.items():
            _log.error("worker.stuck", index=index, process=process.pid, waited_s=self._stop_seconds)
            process.kill()

    def _tell_all(self) -> None:
        for process in self._alive.values():
            process.terminate()


async def supervise(settings: WorkerSettings, target: Target) -> int:
    """Run `settings.procs` worker processes until they are no longer needed; the exit code of `worker
    start`."""
    return await Supervisor(settings, target).run()


# -- in the child


def _in_child(unit: Unit) -> None:
    """What a spawned process does first and last; leaves by SystemExit with the target's exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    settings: WorkerSettings = unit.args[0]
    birth: Birth = unit.args[1]
    go_first()
    # A thread, because the event loop may be in the middle of a long parse, or stuck.
    threading.Thread(target=_leave_with_parent, args=(birth.lifeline,), daemon=True, name="lifeline").start()
    log.set_up_log(settings.log)
    lock = _hold(settings)
    try:
        with asyncio.Runner(loop_factory=unit.loop_initializer) as runner:
            code = runner.run(unit.target(*unit.args))
    except Exception:  # noqa: BLE001  the supervisor's part in the child: told here, replaced by it
        urls = " ".join(parsing.url for parsing in Mark(birth.mark).read()) or None
        # An error of ours over a page: that page ends as POISON the third time, which says nothing of the reason.
        outcome = None if urls is None else Outcome.POISON.value
        _log.exception("worker.failed", index=birth.index, parsing=urls, outcome=outcome)
        code = 1
    finally:
        if lock is not None:
            os.close(lock)
    sys.exit(1 if code is None else code)


def _leave_with_parent(lifeline: Connection) -> None:
    """Wait for the end of the pipe, on which the parent says nothing; then leave without ceremony: everything that
    matters is with the coordinator, and it lends again what was in flight."""
    try:
        os.read(lifeline.fileno(), 1)
    except OSError:
        return  # closed by our own orderly end
    os._exit(1)


def _hold(settings: WorkerSettings) -> int | None:
    if settings.lock is None:
        return None
    lock = os.open(settings.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Start a process with SIGINT blocked, which it inherits: a Ctrl-C before it can ignore them is not its
    end. Ours is delivered on leaving."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _happens(event: asyncio.Event, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
