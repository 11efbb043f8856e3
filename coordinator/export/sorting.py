"""Sorting more lines than memory holds: sorted runs on disk, merged.

At most RUN_BYTES of lines are in memory, and FAN_IN runs are open; more runs are merged into longer ones first. The
order is that of bytes, which is what `LC_ALL=C sort` and every index reader mean.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

RUN_BYTES: Final = 24 << 20
"""Of lines; Python's objects around them take about as much again."""
FAN_IN: Final = 64
_BUFFER: Final = 1 << 16


def merge_sorted(
    lines: Iterable[bytes], folder: Path, *, run_bytes: int = RUN_BYTES, fan_in: int = FAN_IN
) -> Iterator[bytes]:
    """The lines, each with its line end, in order. Runs lie in `folder` until the last line was taken."""
    with tempfile.TemporaryDirectory(prefix="runs-", dir=folder) as scratch:
        levels: list[list[Path]] = []
        """Runs by how often they were merged: each is FAN_IN times as long as one of the level before."""
        held: list[bytes] = []
        size = number = 0

        def keep(run: Iterable[bytes], level: int) -> None:
            nonlocal number
            number += 1
            path = Path(scratch) / f"{number}"
            with path.open("wb", _BUFFER) as out:
                out.writelines(run)
            if level == len(levels):
                levels.append([])
            levels[level].append(path)
            if len(levels[level]) == fan_in:
                full, levels[level] = levels[level], []
                keep(_merged(full), level + 1)
                for path in full:
                    path.unlink()

        for line in lines:
            held.append(line)
            size += len(line)
            if size >= run_bytes:
                held.sort()
                keep(held, 0)
                held, size = [], 0
        held.sort()
        yield from heapq.merge(held, _merged([path for level in levels for path in level]))


def _merged(runs: list[Path]) -> Iterator[bytes]:
    with ExitStack() as opened:
        yield from heapq.merge(*(opened.enter_context(run.open("rb", _BUFFER)) for run in runs))
