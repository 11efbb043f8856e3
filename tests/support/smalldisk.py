"""A disk of a few megabytes for one process, so that "no room" is the kernel's own word."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


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
