"""A disk of a few megabytes, so that "no room" is the kernel's own word: for one process, or for a whole test."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MIB, _PAGE = 1 << 20, 4096


def small_disk(folder: Path, megabytes: int = 8) -> tuple[str, ...]:
    """What to put in front of a command so that it sees an empty small disk at `folder`; it ends with the command.

    Skips the test where the kernel lets nobody but root mount something in a namespace of their own.
    """
    mount = f'mount -t tmpfs -o size={megabytes}m none "$0" && exec "$@"'
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(folder))
    if shutil.which("unshare") is None:
        pytest.skip("no `unshare` here: a small disk cannot be made")
    if (tried := subprocess.run([*command, "true"], capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no small disk can be made here: {tried.stderr.strip()}")
    return command


class MountedDisk:
    """A small disk that every process sees, with a file on it that takes up room as the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @property
    def free(self) -> int:
        """Bytes that may still be written."""
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def leave(self, size: int) -> None:
        """Take up what is free but for `size` bytes, or give some back; to the page, though others write meanwhile."""
        with self._ballast.open("ab") as file:
            end = file.tell()
            if self.free < size:
                file.truncate(max(0, end + self.free - size))
                return
            step = self.free - size
            while step >= _PAGE:
                try:
                    os.posix_fallocate(file.fileno(), end, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
                else:
                    end += step
                    step = self.free - size

    def relieve(self) -> None:
        """Remove what took up room."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def mounted_disk(folder: Path, megabytes: int) -> Iterator[MountedDisk]:
    """A disk of its own at `folder`, until the end; skips the test where only an administrator may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes * _MIB}", "none", str(folder)]
    if shutil.which("mount") is None:
        pytest.skip("no `mount` here: a small disk cannot be made")
    if (tried := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"a small disk needs root: {tried.stderr.strip()}")
    try:
        yield MountedDisk(folder)
    finally:
        # Lazily: a process of the test that was just killed may have a file open for a moment yet.
        subprocess.run(["umount", "-l", str(folder)], check=True)
