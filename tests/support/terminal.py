"""What a person does at a terminal: types `coord` and `worker`, reads what they say, presses Ctrl-C, closes the lid.

    with Terminal(tmp_path, site) as terminal:
        ended = terminal.coord("crawl", site.url("a.test"), "--out", "c", *terminal.network)
        assert ended.code == 0, ended.said
        running = terminal.begin("coord", "crawl", ...)
        site.wait_for(3)
        running.interrupt()
    pages = results(terminal.folder / "c")

Commands run in a folder of their own, without a terminal's bar. Every process that comes of them, however deep, carries
a mark in its environment, so that those which nobody waits for are found by the kernel's own list (Linux: /proc).
Leaving the terminal kills what is left; a test that means that nothing is left says so with `left()`.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.cluster import until
from tests.support.site import Site

ROOT: Final = Path(__file__).parents[2]
_MAINS: Final = {
    "coord": ROOT / "coordinator" / "__main__.py",
    "worker": ROOT / "worker" / "__main__.py",
}
_MARK: Final = "SHOAL_TEST_TERMINAL"
_TIMEOUT: Final = 90.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    said: str
    """Standard error."""
    seconds: float

    @property
    def last(self) -> str:
        """The last line of standard error."""
        return self.said.rstrip("\n").rpartition("\n")[2]

    def is_one_line(self, code: int, *parts: str) -> bool:
        """Whether all that it said is one line with all of these in it, and this was its exit code."""
        return (self.code, self.out, self.said.count("\n")) == (code, "", 1) and all(
            part in self.said for part in parts
        )


class Running:
    """A command that may still run."""

    def __init__(self, child: subprocess.Popen[str], out: Path, said: Path) -> None:
        self._child = child
        self._out = out
        self._said = said
        self._begun = time.monotonic()

    @property
    def pid(self) -> int:
        """Of the command itself, not of what it started."""
        return self._child.pid

    @property
    def said(self) -> str:
        """Standard error so far."""
        return self._said.read_text()

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    def says(self, text: str, timeout: float = 60.0) -> str:
        """Wait until it has said this; all that it said."""
        until(
            lambda: text in self.said or not self.is_running(),
            f"it says {text!r}, but {self.said!r}",
            timeout,
        )
        assert text in self.said, (
            f"it ended with {self._child.returncode} and never said {text!r}: {self.said}"
        )
        return self.said

    def interrupt(self) -> None:
        """What Ctrl-C does: SIGINT to the whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def signal(self, number: signal.Signals) -> None:
        """A signal to the command alone."""
        self._child.send_signal(number)

    def end(self, timeout: float = _TIMEOUT) -> Ended:
        """Wait for its end."""
        try:
            code = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s; it said:\n{self.said[-4000:]}") from None
        return Ended(code, self._out.read_text(), self.said, time.monotonic() - self._begun)


class Terminal:
    """A folder in which commands are typed, and a site that they crawl."""

    def __init__(self, folder: Path, site: Site | None = None, *, delay: float = 0.05) -> None:
        """`delay`: seconds, the `--delay` of `network`."""
        self.folder = folder
        self._site = site
        self._delay = delay
        self._mark = f"{os.getpid()}-{id(self)}-{time.monotonic_ns()}"
        self._children: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for child in self._children:
            child.wait(10)

    @property
    def network(self) -> list[str]:
        """Options without which the site's hosts are not reached, and none is waited for."""
        assert self._site is not None
        hosts = self._site.hosts_file(self.folder / "hosts")
        options = ["--hosts-file", str(hosts), "--allow-private", "--delay", str(self._delay)]
        return [*options, "--retries", "0", "--contact", "tests@shoal.test", "--no-progress"]

    def coord(self, *args: str, **more: object) -> Ended:
        """Type `coord ...` and wait for its end."""
        return self.begin("coord", *args, **more).end()  # type: ignore[arg-type]

    def worker(self, *args: str, **more: object) -> Ended:
        """Type `worker ...` and wait for its end."""
        return self.begin("worker", *args, **more).end()  # type: ignore[arg-type]

    def begin(
        self,
        name: str,
        *args: str,
        open_files: int | None = None,
        variables: Sequence[tuple[str, str]] = (),
        typed: str | None = None,
    ) -> Running:
        """Type a command and do something else meanwhile. `open_files`: `ulimit -n`; `typed`: standard input."""
        number = len(self._children)
        out, said = self.folder / f"{number}.out.txt", self.folder / f"{number}.said.txt"
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_")}

        def limit() -> None:
            if open_files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

        with out.open("w") as standard, said.open("w") as error:
            child = subprocess.Popen(
                [sys.executable, str(_MAINS[name]), *args],
                cwd=self.folder,
                env=clean | {_MARK: self._mark} | dict(variables),
                stdin=subprocess.DEVNULL if typed is None else subprocess.PIPE,
                stdout=standard,
                stderr=error,
                start_new_session=True,
                preexec_fn=limit,
                text=True,
            )
        if typed is not None:
            assert child.stdin is not None
            child.stdin.write(typed)
            child.stdin.close()
        self._children.append(child)
        return Running(child, out, said)

    def processes(self) -> dict[int, str]:
        """All that live, and their command lines; those that died and were not waited for are not among them."""
        mark = f"{_MARK}={self._mark}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if mark not in (entry / "environ").read_bytes().split(b"\0"):
                        continue
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue  # it went meanwhile
                if state not in "ZX":
                    found[int(entry.name)] = command
        return found

    def left(self, within: float = 5.0) -> dict[int, str]:
        """What still runs after so many seconds; empty as soon as nothing does."""
        try:
            until(lambda: not self.processes(), "all are gone", within)
        except TimeoutError:
            pass
        return self.processes()


def apart(site: Site, host: str, *, lanes: int = 1, but: frozenset[str] = frozenset()) -> float:
    """The least seconds from the arrival of one fetch of a host to that of the next in its lane; infinite without two.

    Exact however busy the machine is: a fetch ends for its client after it arrived here, and the site's wait after
    that; the next one is told late at worst. `but`: targets left out.
    """
    arrived = sorted(hit.arrived for hit in site.log if hit.host == host and hit.target not in but)
    return min((late - early for early, late in zip(arrived, arrived[lanes:], strict=False)), default=inf)
