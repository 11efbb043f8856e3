"""`scripts/reliability`: runs everything that tries to break Shoal, one after another, and writes docs/reliability.md.

    scripts/reliability --quick      about a quarter of an hour
    scripts/reliability              some hours
    scripts/reliability --long       some days

Exit code 1 if anything broke, or could not be run here; the page is written all the same, and says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.reliability.page import Made, is_broken, is_missing, page
from tests.reliability.parts import PARTS, Part, Run, Size, summed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
_SAID = 4000
"""Characters of a failing command that are shown."""
_LAST = 200
"""Of its last line on the page."""


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="scripts/reliability", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_const", dest="size", const=Size.QUICK)
    sizes.add_argument("--long", action="store_const", dest="size", const=Size.LONG)
    parser.add_argument("--only", metavar="WORD", help="only parts with this in their title; writes no page")
    parser.set_defaults(size=Size.USUAL)
    asked = parser.parse_args()
    made = [
        _made(part, asked.size)
        for part in PARTS
        if asked.only is None or asked.only.lower() in part.title.lower()
    ]
    parts = ("pyzmq", "rocksdict", "aiohttp", "uvloop")
    versions = f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in parts
    )
    text = page(
        made,
        asked.size,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        versions=f"{versions}; {platform.system()}, {os.cpu_count()} processors.",
    )
    if asked.only is None:
        PAGE.write_text(text)
    print(text)
    return 1 if any(is_broken(each) or is_missing(each) for each in made) else 0


def _made(part: Part, size: Size) -> Made:
    command = part.command[size]
    print(f"{part.title}: {command}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    run = _run(command, part.bound[size])
    seconds = time.monotonic() - begun
    last = (run.out.strip().splitlines() or ["it said nothing"])[-1][:_LAST]
    skipped = last if re.search(r"\b[1-9]\d* skipped\b", last) else None
    failure = None
    if run.code is None:
        failure = f"it was not over after {part.bound[size]:.0f} s"
    elif run.code:
        failure = f"exit code {run.code}: {last}"
        print(run.out[-_SAID:], file=sys.stderr)
    try:
        rows = part.read(run)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        rows = []
        if failure is None and skipped is None:
            failure = f"it told no figures ({error!r})"
    return Made(part, tuple(rows), failure, seconds, skipped)


def _run(command: str, bound: float) -> Run:
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    with tempfile.TemporaryDirectory(prefix="shoal-figures-") as folder:
        figures = Path(folder) / "figures"
        figures.touch()
        child = subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ | {"SHOAL_FIGURES": str(figures)},
            stdout=subprocess.PIPE,
            stderr=None,
            text=True,
            start_new_session=True,
        )
        code: int | None
        try:
            out, _ = child.communicate(timeout=bound)
            code = child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, _ = child.communicate()
            code = None
        return Run(code, out, summed(figures.read_text().splitlines()))


if __name__ == "__main__":
    sys.exit(main())
