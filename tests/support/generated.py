"""Pages of docs that are made from the code: written, or with --check only compared with what is there."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path


def write_or_check(page: Path, made: Callable[[], str], *, program: str, why: str) -> None:
    """What `scripts/NAME` does; `why`: what it says of itself. Exit code 1: --check, and the page is not current."""
    parser = argparse.ArgumentParser(prog=f"scripts/{program}", description=why)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not current")
    given = parser.parse_args()
    text = made()
    if given.check:
        if not page.exists() or page.read_text("utf-8") != text:
            parser.exit(1, f"{program}: docs/{page.name} is not current; run scripts/{program}\n")
        return
    beside = page.with_suffix(".md.new")
    beside.write_text(text, "utf-8")
    os.replace(beside, page)
