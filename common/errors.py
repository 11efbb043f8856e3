"""Every error of our own, in one tree.

    ShoalError
    ├── UsageError         the person asked for something that cannot be: one line, exit code 2
    │   └── Unanswered     no coordinator answers there; it may be just starting or ending
    ├── BadURL             a text that is no http(s) URL we fetch; `reason` is a stable code
    ├── ProtocolError      the other side of a socket broke the protocol; it is dropped, we go on
    ├── StorageError       an output or the store could not be written; the crawl stops, exit code 1
    └── DiskFull           no room left: the crawl pauses and goes on when there is room
        └── NoFiles        no more files may be open: the same

What the web does is never an exception: it is an `Outcome` (common/outcome.py). A message names the thing and
both values: `lease 1:81 of a.test: 3 outcomes for 2 requests`.
"""

from __future__ import annotations


class ShoalError(Exception):
    """The root; never raised itself."""


class UsageError(ShoalError):
    """What a person asked for cannot be; the message says what was wrong, where, and what to do."""


class Unanswered(UsageError):
    """No coordinator answers where one was asked; perhaps it is just starting or ending."""


class BadURL(ShoalError):
    """A text that is not a URL this crawler fetches.

    `reason` is a stable code for ledgers and counters: `empty`, `too_long`, `invalid`, `scheme`, `no_host`.
    """

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        super().__init__(f"{reason}: {text[:200]!r}")


class ProtocolError(ShoalError):
    """A message of the wrong tag, type, length or order; the peer that sent it is at fault."""


class StorageError(ShoalError):
    """An output file or the store could not be written, read or trusted."""


class DiskFull(StorageError):
    """The disk that holds DIR has no room; nothing was torn, the same write may be tried again."""


class NoFiles(DiskFull):
    """No more files may be open, which a write needs as it needs room: who is connected took them all."""
