"""The parent of the worker processes: replaces the dead, passes signals on, leaves nobody behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.directory import CrawlDirectory
from tests.support.cluster import let_pass
from worker.supervisor import Backoff

ROOT = Path(__file__).parents[2]


@dataclass
class Child:
    """A process that reported."""

    index: int
    session: str
    replaces: list[str]
    suspects: list[list[str | int]]
    pid: int
    loop: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def tell(self, word: str) -> None:
        self.writer.write(word.encode() + b"\n")

    async def says(self) -> str:
        """Its next line; empty when it has gone."""
        try:
            return (await self.reader.readline()).decode().strip()
        except ConnectionError:
            return ""


class Family:
    """A parent, started for a test, and its children in the order in which they report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "workers.lock"
        self._reported: asyncio.Queue[Child] = asyncio.Queue()
        self._children: list[Child] = []
        self.parent: asyncio.subprocess.Process

    async def start(self, procs: int, lifeline: int | None = None) -> list[Child]:
        path = self.folder / "s"
        self._server = await asyncio.start_unix_server(self._report, path)
        self.parent = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.obedient",
            str(path),
            str(procs),
            "--lock",
            str(self.lock),
            *([] if lifeline is None else ["--lifeline", str(lifeline)]),
            pass_fds=[] if lifeline is None else [lifeline],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # a group of its own, like a job of a shell
        )
        return sorted([await self.next() for _ in range(procs)], key=lambda child: child.index)

    async def next(self) -> Child:
        """The next process that reports; what the parent said, if it is gone instead."""
        report = asyncio.create_task(self._reported.get())
        gone = asyncio.create_task(self.parent.wait())
        await asyncio.wait({report, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not report.done():
            report.cancel()
            assert self.parent.stderr is not None
            pytest.fail((await self.parent.stderr.read()).decode())
        gone.cancel()
        return report.result()

    async def ended(self) -> int:
        """Wait for the parent, and that nobody holds its standard output any more, which all of them
        inherit."""
        assert self.parent.stdout is not None
        assert self.parent.stderr is not None
        await asyncio.gather(self.parent.stdout.read(), self.parent.stderr.read())
        return await self.parent.wait()

    async def close(self) -> None:
        if self.parent.returncode is None:
            self.parent.kill()
        await self.ended()
        for child in self._children:
            child.writer.close()
        self._server.close()
        await self._server.wait_closed()

    async def _report(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        child = Child(**json.loads(await reader.readline()), reader=reader, writer=writer)
        self._children.append(child)
        self._reported.put_nowait(child)


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    family = Family(tmp_path)
    yield family
    await family.close()


async def test_every_process_has_its_place_and_an_identity_of_its_own(family: Family) -> None:
    children = await family.start(2)
    assert [child.index for child in children] == [0, 1]
    assert len({child.session for child in children}) == 2
    assert all(len(child.session) == 32 and child.replaces == [] for child in children)
    assert {child.loop.partition(".")[0] for child in children} == {"uvloop"}
    for child in children:
        child.tell("exit 0")
    assert await family.ended() == 0


async def test_a_process_that_dies_is_replaced_and_the_new_one_names_it(family: Family) -> None:
    (first,) = await family.start(1)
    os.kill(first.pid, signal.SIGKILL)
    second = await family.next()
    assert (second.index, second.replaces) == (0, [first.session])
    assert second.session != first.session
    second.tell("raise")
    third = await family.next()
    assert third.replaces == [first.session, second.session]
    third.tell("exit 0")
    assert await family.ended() == 0


async def test_what_it_was_parsing_is_named_by_those_after_it(family: Family) -> None:
    (first,) = await family.start(1)
    first.tell("parse 81")
    assert await first.says() == "parsing"
    os.kill(first.pid, signal.SIGSEGV)
    second = await family.next()
    assert (second.replaces, second.suspects) == ([first.session], [[first.session, 81, 7]])
    second.tell("fail 82")
    third = await family.next()
    assert third.replaces == [first.session, second.session]
    assert third.suspects == [[first.session, 81, 7], [second.session, 82, 7]]
    third.tell("parse 83")
    third.tell("done")
    assert [await third.says(), await third.says()] == ["parsing", "done"]
    os.kill(third.pid, signal.SIGKILL)
    fourth = await family.next()
    assert len(fourth.replaces) == 3
    assert fourth.suspects == third.suspects
    fourth.tell("exit 0")
    assert await family.ended() == 0


@pytest.mark.parametrize("way", ["spin", "freeze"])
async def test_a_process_that_is_not_done_with_a_page_is_replaced_and_the_page_named(
    family: Family, way: str
) -> None:
    (first,) = await family.start(1)
    first.tell("bound 1 0")
    first.tell("parse 81")
    first.tell(way)
    second = await family.next()
    assert second.suspects == [[first.session, 81, 7]]
    second.tell("exit 0")
    assert await family.ended() == 0


async def test_a_process_that_grows_too_much_over_a_page_is_replaced_and_the_page_named(
    family: Family,
) -> None:
    mib = 1 << 20
    (first,) = await family.start(1)
    first.tell(f"bound 0 {256 * mib}")
    first.tell(f"grow {300 * mib}")  # over no page
    assert await first.says() == "grown"
    first.tell("parse 81")
    first.tell(f"grow {100 * mib}")
    assert [await first.says(), await first.says()] == ["parsing", "grown"]
    first.tell(f"grow {300 * mib}")
    second = await family.next()
    assert second.suspects == [[first.session, 81, 7]]
    second.tell("exit 0")
    assert await family.ended() == 0


async def test_the_time_for_which_all_were_stopped_is_no_page_s_fault(family: Family) -> None:
    """SIGSTOP to a job, or a laptop that sleeps: longer than a page may take, and nobody is to blame."""
    (child,) = await family.start(1)
    child.tell("bound 2 0")
    child.tell("parse 81")
    assert await child.says() == "parsing"
    os.killpg(family.parent.pid, signal.SIGSTOP)
    let_pass(4.0)
    os.killpg(family.parent.pid, signal.SIGCONT)
    child.tell("done")
    assert await child.says() == "done"
    os.kill(child.pid, signal.SIGSTOP)  # alone, while its parent looks on
    let_pass(4.0)
    os.kill(child.pid, signal.SIGCONT)
    child.tell("exit 0")
    assert await family.ended() == 0


def adjustment(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_the_kernel_takes_a_worker_process_before_anything_else(family: Family) -> None:
    (child,) = await family.start(1)
    assert adjustment(child.pid) == min(adjustment(family.parent.pid) + 300, 1000)
    child.tell("exit 0")
    assert await family.ended() == 0


async def test_nobody_outlives_a_killed_parent_not_even_with_a_frozen_loop(family: Family) -> None:
    one, other = await family.start(2)
    other.tell("freeze")
    assert await other.says() == "frozen"
    family.parent.kill()
    async with asyncio.timeout(1.0):
        assert await one.says() == ""
        assert await other.says() == ""
        assert await family.ended() == -signal.SIGKILL


async def test_nobody_outlives_whoever_started_the_parent(family: Family) -> None:
    lifeline, held = os.pipe()
    one, other = await family.start(2, lifeline)
    os.close(lifeline)
    os.close(held)
    async with asyncio.timeout(1.0):
        assert [await one.says(), await other.says()] == ["", ""]
        assert await family.ended() == 3


async def test_the_lock_tells_whether_local_workers_are_left(family: Family, tmp_path: Path) -> None:
    directory = CrawlDirectory(tmp_path)
    await family.start(2)
    assert not directory.local_workers_gone()
    family.parent.kill()
    await family.ended()
    assert directory.local_workers_gone()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 3)])
async def test_a_signal_asks_every_process_to_stop(family: Family, number: int, code: int) -> None:
    children = await family.start(2)
    family.parent.send_signal(number)
    assert [await child.says() for child in children] == ["asked to stop"] * 2
    assert await family.ended() == code


async def test_ctrl_c_in_a_terminal_reaches_all_but_they_leave_only_when_asked(family: Family) -> None:
    children = await family.start(2)
    os.killpg(family.parent.pid, signal.SIGINT)
    assert [await child.says() for child in children] == ["asked to stop"] * 2
    assert await family.ended() == 130


async def last_word(child: Child) -> str:
    """What it says when it is asked no more: it may be asked more than once, and hear one of two or both."""
    while (said := await child.says()) == "asked to stop":
        pass
    return said


async def test_a_second_signal_kills(family: Family) -> None:
    (child,) = await family.start(1)
    child.tell("deafen")
    assert await child.says() == "deaf"
    family.parent.send_signal(signal.SIGTERM)
    assert await child.says() == "asked to stop"
    family.parent.send_signal(signal.SIGTERM)
    assert await last_word(child) == ""
    assert await family.ended() == 3


async def test_a_process_that_does_not_stop_is_killed_in_the_end(family: Family) -> None:
    (child,) = await family.start(1)
    child.tell("deafen")
    assert await child.says() == "deaf"
    family.parent.send_signal(signal.SIGTERM)
    assert await child.says() == "asked to stop"
    assert await last_word(child) == ""
    assert await family.ended() == 3


async def test_a_refusal_for_good_ends_all_as_a_matter_of_configuration(family: Family) -> None:
    one, other = await family.start(2)
    one.tell("exit 4")
    assert await other.says() == "asked to stop"
    assert await family.ended() == 2


async def test_when_one_says_finished_the_others_are_not_left_waiting(family: Family) -> None:
    one, other = await family.start(2)
    one.tell("exit 0")
    assert await other.says() == "asked to stop"
    assert await family.ended() == 0


async def test_a_process_that_stops_by_itself_is_not_replaced(family: Family) -> None:
    one, other = await family.start(2)
    one.tell("exit 3")
    assert await one.says() == ""
    other.tell("exit 3")
    assert await family.ended() == 3


def test_the_first_restart_is_at_once_and_the_next_ever_later_until_one_lives() -> None:
    backoff = Backoff()
    assert [backoff.wait(1.0) for _ in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.wait(61.0) == 0
    assert backoff.wait(1.0) == 0.5


def test_while_a_request_is_suspected_nobody_waits_longer_than_its_lease_lasts() -> None:
    backoff = Backoff()
    assert [backoff.wait(1.0, suspected=True) for _ in range(6)] == [0, 0.5, 1, 2, 2, 2]
    assert backoff.wait(1.0) == 16
