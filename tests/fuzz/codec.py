"""The codec under fire: frames in, a message or a `ProtocolError` out, nothing else, and in bounded memory."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from common import wire
from common.errors import ProtocolError
from common.messages import FROM_WORKER, TAGS, TO_WORKER, Message
from tests.fuzz.making import Maker

KINDS: Final = tuple(TAGS.values())


class Wrong(AssertionError):
    """A promise that did not hold; says what was done last."""


class CodecTarget:
    """Each step: one valid message there and back, one broken one."""

    name = "codec"

    def __init__(self, rng: random.Random) -> None:
        self._maker = Maker(rng)
        self._rng = rng
        self.sent = 0
        """Messages so far."""
        self.refused = 0
        """Of them, those that raised ProtocolError."""
        self.kinds: Counter[str] = Counter()
        self.slowest = 0.0
        """Seconds of the longest call."""

    def step(self) -> None:
        """Two messages; raises Wrong."""
        kind = self._rng.choice(KINDS)
        message = self._maker.message(kind)
        self.kinds[kind.__name__] += 1
        header = wire.encode(message)
        body = self._maker.body()
        self.take([header, body] if body else [header], message)
        self.take(self._maker.damaged([header, body] if body else [header]))

    def take(self, frames: Sequence[bytes], valid: Message | None = None) -> None:
        """Decode these frames; `valid`: what they were made of."""
        self.sent += 1
        expected = self._rng.choice((FROM_WORKER, TO_WORKER, frozenset(KINDS)))
        begun = time.perf_counter()
        try:
            message, body = wire.decode(frames, expected)
        except ProtocolError:
            self.refused += 1
            return
        except Exception as error:
            raise Wrong(f"{type(error).__name__}: {error} for {_shown(frames)}") from error
        finally:
            self.slowest = max(self.slowest, time.perf_counter() - begun)
        if type(message) not in expected:
            raise Wrong(f"{type(message).__name__} was not expected")
        if valid is not None and (message != valid or body != b"".join(frames[1:])):
            raise Wrong(f"{message} came back for {valid}")
        # What was taken can be sent on: only then it means the same to everybody.
        if wire.decode([wire.encode(message)], frozenset(KINDS))[0] != message:
            raise Wrong(f"{message} does not come back")

    def end(self) -> None:
        """Nothing is kept between two messages."""


def _shown(frames: Sequence[bytes]) -> str:
    return ", ".join(f"{frame[:80]!r} ({len(frame)} bytes)" for frame in frames)
