"""The mark: what a process is parsing at this moment, in memory that its supervisor reads (PROTOCOL rule 24).

A process sets it before it begins with the bytes of a response and clears it when it is done with them. When the
process dies in between, however it dies, the mark is what stays: it names the one request that is to blame. While it
lives, the supervisor sees how long a mark has stood. There are two slots: the event loop has one, the thread beside it
that reads big sitemaps has the other.

An error that is raised while a mark stands will end the process; from then on that slot stays as it is, whatever else
the process still does on its way out.

The memory belongs to the supervisor, which also reads it: nothing is trusted to be whole there but a mark of a process
that is dead. What follows from a mark is worker/watch.py's and worker/supervisor.py's. Setting and clearing one takes
0.5 µs together.
"""

from __future__ import annotations

import ctypes
import struct
from multiprocessing.context import SpawnContext
from typing import Final, NamedTuple

SLOTS: Final = 2

_URL_BYTES: Final = 484
"""Of a URL, for people; longer ones are cut."""

_SLOT: Final = struct.Struct(f"<QQHH{_URL_BYTES}s")
"""Number of this mark, 0: nothing is being parsed; lease; ordinal; bytes of the URL; the URL."""

_CLEAR: Final = struct.Struct("<Q")
_BOUNDS: Final = struct.Struct("<dQ")
_FIRST: Final = _BOUNDS.size

Memory = ctypes.Array[ctypes.c_char]
"""Travels to a process as an argument of its start, and only so."""


class Parsing(NamedTuple):
    """A mark that stands. `number`: no other mark of this slot and process has it."""

    slot: int
    number: int
    lease: int
    ordinal: int
    url: str


class Slot:
    """One place for a mark; `with slot.parsing(...):` around the work. Used by one thread, for one thing at a time."""

    __slots__ = ("_at", "_memory", "_number", "_stays")

    def __init__(self, memory: Memory, index: int) -> None:
        self._memory = memory
        self._at = _FIRST + index * _SLOT.size
        self._number = 0
        self._stays = False

    def parsing(self, lease: int, ordinal: int, url: str) -> Slot:
        """Set the mark; leaving the `with` clears it, unless by an error."""
        if not self._stays:
            self._number += 1
            name = url.encode("utf-8", "replace")[:_URL_BYTES]
            _SLOT.pack_into(self._memory, self._at, self._number, lease, ordinal, len(name), name)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self._stays = True
        if not self._stays:
            _CLEAR.pack_into(self._memory, self._at, 0)


class Mark:
    """The marks of one process, on either side."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.page = Slot(memory, 0)
        """Of the event loop."""
        self.aside = Slot(memory, 1)
        """Of the thread beside it."""

    @staticmethod
    def shared(context: SpawnContext) -> Memory:
        """New memory, all clear: a file without a name, gone with its last process."""
        return context.RawArray(ctypes.c_char, _FIRST + SLOTS * _SLOT.size)

    # -- the process's side

    def bound(self, seconds: float, size: int) -> None:
        """From now on a mark may stand for so long, and the process grow by so many bytes meanwhile. The crawl's
        configuration says so, which the supervisor never sees."""
        _BOUNDS.pack_into(self._memory, 0, seconds, size)

    # -- the supervisor's side

    @property
    def bounds(self) -> tuple[float, int]:
        """(seconds, bytes) that the process set; zeros: it has set none yet, and parses nothing."""
        seconds, size = _BOUNDS.unpack_from(self._memory, 0)
        return float(seconds), int(size)

    def read(self) -> tuple[Parsing, ...]:
        """The marks that stand."""
        found = []
        for slot in range(SLOTS):
            number, lease, ordinal, size, name = _SLOT.unpack_from(self._memory, _FIRST + slot * _SLOT.size)
            if number:
                url = name[: min(size, _URL_BYTES)].decode("utf-8", "replace")
                found.append(Parsing(slot, number, lease, ordinal, url))
        return tuple(found)
