"""`python tests/fuzz/coverage_guided.py codec|shard|agent [libFuzzer's options]`: the search led by what runs.

Optional: it needs atheris (`pip install atheris`; 3.0 has wheels for Python 3.11 to 3.14 on Linux), which CI does not
install. The bytes that libFuzzer varies are the choices of the same makers that the other drivers use, so an input
that breaks something is replayed by giving its file as the last argument. Runs until something breaks or until it is
stopped; `-runs=N` bounds it.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import atheris  # type: ignore[import-not-found]  # optional

with atheris.instrument_imports(include=["common", "coordinator", "worker"]):
    from tests.fuzz.agents import AgentTarget
    from tests.fuzz.codec import CodecTarget
    from tests.fuzz.making import Octets
    from tests.fuzz.shards import ShardTarget

STEPS = 40
"""Of one shard or agent for each input."""

_TARGETS = {"codec": CodecTarget, "shard": ShardTarget, "agent": AgentTarget}


def main() -> None:
    """Does not return."""
    if len(sys.argv) < 2 or sys.argv[1] not in _TARGETS:
        raise SystemExit(f"one of {', '.join(_TARGETS)}, then libFuzzer's options")
    make = _TARGETS[sys.argv.pop(1)]

    def once(octets: bytes) -> None:
        target = make(Octets(octets))
        for _ in range(1 if make is CodecTarget else STEPS):
            target.step()
        target.end()

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
