"""One content-coding undone as a body comes, piece by piece: gzip, deflate, br, zstd.

For downloads, which are never whole in memory; pages are worker/inflate.py's, whose decoders and whose words these
are. What is announced and is not there is passed through as it is, as browsers do. Nothing is raised for any bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from worker.inflate import ERRORS, NEXT_MEMBER, STREAMS, Decoder

STEP_BYTES: Final = 1 << 18
"""What comes out of a decoder at once, whatever a bomb would give."""

_HEAD: Final = 4
"""Bytes by which a coding is known."""


class Undoing:
    """One coded body. `error`, for people: it is broken, or cut off."""

    def __init__(self, coding: str, mark: Callable[[], AbstractContextManager[None]]) -> None:
        """`coding`: a key of STREAMS. `mark`: set while a decoder works on a stranger's bytes."""
        self._coding = coding
        self._mark = mark
        self._head: bytes | None = b""
        """What came while it is not known whether a coded stream begins; None: one has."""
        self._stream: Decoder | None = None
        self._plain = False
        self._begun = False
        self.error: str | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the next bytes mean, at most STEP_BYTES at a time."""
        if self._head is not None:
            self._head += chunk
            if len(self._head) < _HEAD:
                return
            chunk = self._begin()
        yield from self._decoded(chunk)

    def close(self) -> Iterator[bytes]:
        """No more comes; what was held back."""
        if self._head:
            yield from self._decoded(self._begin())
        if self._stream is not None and not self._stream.eof and self.error is None:
            self.error = f"{self._coding}: the stream ends early"

    def _begin(self) -> bytes:
        """What follows begins a coded stream, is no such thing, or is behind the last one and ignored."""
        head, self._head = self._head or b"", None
        if self._begun:
            follows = head.startswith(NEXT_MEMBER.get(self._coding, b"\0never\0"))
            self._stream = STREAMS[self._coding](head) if follows else None
            return head if follows else b""
        self._begun = True
        self._stream = STREAMS[self._coding](head)
        self._plain = self._stream is None
        return head

    def _decoded(self, chunk: bytes) -> Iterator[bytes]:
        if self._plain:
            yield chunk
            return
        while self._stream is not None and self.error is None:
            stream, out = self._stream, b""
            with self._mark():
                try:
                    out = stream.feed(chunk, STEP_BYTES)
                except ERRORS as error:
                    self.error = f"{self._coding}: {error}"
            chunk = b""
            if out:
                yield out
            if stream.eof:
                self._head = stream.unused_data
                if len(self._head) < _HEAD:
                    return
                chunk = self._begin()
            elif not out:
                return
