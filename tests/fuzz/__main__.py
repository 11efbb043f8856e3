"""`python -m tests.fuzz --messages N --seed S`: so many messages, valid and broken, against codec, shard and agent.

One line is printed at the end, `messages N broken B`; before it the story of what broke first in each target. The same
numbers give the same run. Exit code 1 if anything broke.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from typing import Protocol

from tests.fuzz.agents import AgentTarget
from tests.fuzz.codec import CodecTarget, Wrong
from tests.fuzz.shards import ShardTarget

ROUND = 500
"""Messages that one shard or agent gets before the next one begins."""


class Target(Protocol):
    """What is bombarded."""

    @property
    def name(self) -> str: ...
    @property
    def sent(self) -> int: ...
    @property
    def refused(self) -> int: ...
    def step(self) -> None: ...
    def end(self) -> None: ...


_TARGETS: tuple[tuple[Callable[[random.Random], Target], int], ...] = (
    (CodecTarget, 60),
    (ShardTarget, 20),
    (AgentTarget, 20),
)
"""Each with its share of the messages, in per cent."""


def bombard(
    make: Callable[[random.Random], Target], messages: int, seed: int
) -> tuple[int, int, Wrong | None]:
    """Send so many messages to fresh targets: (sent, refused, what broke). Ends at the first break."""
    sent = refused = number = 0
    while sent < messages:
        target = make(random.Random(f"{seed} {number}"))
        number += 1
        try:
            while target.sent < ROUND and sent + target.sent < messages:
                target.step()
            target.end()
        except Wrong as wrong:
            return sent + target.sent, refused + target.refused, wrong
        sent += target.sent
        refused += target.refused
    return sent, refused, None


def main() -> int:
    """Exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    total = broken = 0
    for make, share in _TARGETS:
        begun = time.perf_counter()
        sent, refused, wrong = bombard(make, asked.messages * share // 100, asked.seed)
        total += sent
        seconds = time.perf_counter() - begun
        name = make.__name__.removesuffix("Target").lower()
        print(f"{name}: {sent} messages, {refused} refused, {seconds:.1f} s", file=sys.stderr)
        if wrong is not None:
            broken += 1
            print(f"{name}, seed {asked.seed}:\n{wrong}", file=sys.stderr)
    print(f"messages {total} broken {broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
