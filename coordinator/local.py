"""The local workers of `coord crawl`: one `python -m worker` as a child, which runs the processes.

Nothing of worker/ is imported. They talk over a socket in a folder that only this user may enter, so no keys are
needed and no port is taken; each holds the lock in DIR, so that the next coordinator knows when they are gone. The
folder has a lock of its own: who was killed could not remove it, so the next coordinator of this user does.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import sys
import tempfile
from pathlib import Path

from common.log import get_logger

STOP_SECONDS = 12.0
"""From asking the workers to stop to killing them; they need at most five and what the last commit takes."""

_PREFIX, _CLAIM = "shoal-", "claim"

log = get_logger("coordinator.local")


class LocalWorkers:
    """A worker supervisor as a child of this coordinator."""

    def __init__(self, procs: int, lock: Path, logs: Path, verbosity: list[str]) -> None:
        self._procs = procs
        self._lock = lock
        self._logs = logs
        self._verbosity = verbosity
        _remove_left_folders()
        self._folder, self._claim = _make_folder()
        self._child: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None
        """Our end of a pipe: when this process is gone, however it went, the workers leave within a second."""

    @property
    def address(self) -> str:
        """Where the coordinator listens for them: below a folder of mode 0700."""
        return f"ipc://{self._folder}/shard"

    async def start(self) -> None:
        """Start them; they wait for the coordinator by themselves."""
        command = [
            sys.executable,
            "-P",
            "-m",
            "worker",
            "start",
            "--procs",
            str(self._procs),
            "--coord",
            self.address,
        ]
        command += [
            "--lock",
            str(self._lock),
            "--log-dir",
            str(self._logs),
            "--quiet-start",
            *self._verbosity,
        ]
        theirs, self._lifeline = os.pipe()
        self._child = await asyncio.create_subprocess_exec(
            *command,
            *("--lifeline", str(theirs)),
            env=os.environ | {"PYTHONPATH": _own_folder()},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(theirs,),
        )
        os.close(theirs)
        log.info("workers.started", processes=self._procs, pid=self._child.pid)

    async def ended(self) -> int:
        """Wait for them to end by themselves; their exit code."""
        assert self._child is not None
        return await self._child.wait()

    async def stop(self, *, now: bool = False) -> None:
        """Ask them to leave and wait; `now`: kill them, nothing of theirs is lost."""
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
                if now:
                    child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(2.0 if now else STOP_SECONDS):
                    await child.wait()
            except TimeoutError:
                log.warning("workers.killed", waited_s=STOP_SECONDS)
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1


def _make_folder() -> tuple[str, int]:
    """A folder of mode 0700, and the descriptor that holds its lock for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    aside = folder / "claim.new"
    claim = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(claim, fcntl.LOCK_EX)
    aside.rename(folder / _CLAIM)  # named only once it is locked: nobody can find it free
    return str(folder), claim


def _remove_left_folders() -> None:
    """Folders whose owner was killed. What is not quite as we make it stays: this place is everybody's."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            claim = os.open(folder / _CLAIM, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # its owner lives
        finally:
            os.close(claim)


def _own_folder() -> str:
    """So that the child imports this very Shoal, and no other `worker` that stands on the path."""
    return str(Path(__file__).resolve().parent.parent)
