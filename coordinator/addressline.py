"""Hosts whose address is busy (--per-ip): a line for each address, on disk, first in, first out.

They take no place on the bench, and no step looks at them, until a host of their address is done: thousands of hosts of
one hosting company would otherwise stand in the way of all others (ADR 0025). A host that left its line by another way
leaves its row behind, as in hostline.py. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from coordinator.store.kv import Overlay
from coordinator.store.rows import address_row, address_turn, span

_PIECE = 1000
"""Rows read at once on start."""


class AddressLines:
    """All lines of one shard. In memory: for each address that has a line where it begins and how long it is."""

    __slots__ = ("_following", "_length", "_lines", "_rows")

    def __init__(self, rows: Overlay) -> None:
        """Finds the lines that there are; 0.5 s for a million hosts."""
        self._rows = rows
        self._lines: dict[str, tuple[int, int]] = {}
        """By address: no number in the line is below the first; how many rows it has."""
        self._length = 0
        self._following = 0
        """The number that the next host gets, in whatever line."""
        start, stop = span(b"a")
        while entries := rows.scan(start, stop, limit=_PIECE):
            start = entries[-1][0] + b"\0"
            for key, _ in entries:
                ip, turn = address_turn(key)
                first, length = self._lines.get(ip, (turn, 0))
                self._lines[ip] = first, length + 1
                self._length += 1
                self._following = max(self._following, turn + 1)

    def __len__(self) -> int:
        """Hosts in all lines, and rows that such hosts left behind."""
        return self._length

    def __contains__(self, ip: str) -> bool:
        return ip in self._lines

    def __iter__(self) -> Iterator[str]:
        """The addresses that have a line."""
        return iter(self._lines)

    def length(self, ip: str) -> int:
        """How many stand in the line of an address, at most."""
        return self._lines.get(ip, (0, 0))[1]

    def some(self, count: int) -> list[str]:
        """So many of the addresses that have a line, the oldest first."""
        return list(islice(self._lines, count))

    def join(self, ip: str, host: str) -> int:
        """The host goes to the end of the line of its address; its number."""
        turn = self._following
        self._following = turn + 1
        first, length = self._lines.get(ip, (turn, 0))
        self._rows.put(address_row(ip, turn), host.encode())
        self._lines[ip] = first, length + 1
        self._length += 1
        return turn

    def leave(self, ip: str) -> tuple[int, str]:
        """The first in the line leaves; its number and name. Only for an address that has a line."""
        first, length = self._lines[ip]
        [(key, packed)] = self._rows.scan(address_row(ip, first), address_row(ip, self._following), limit=1)
        self._rows.delete(key)
        turn = address_turn(key)[1]
        self._length -= 1
        if length == 1:
            del self._lines[ip]
        else:
            self._lines[ip] = turn + 1, length - 1
        return turn, packed.decode()
