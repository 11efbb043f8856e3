"""A line of hosts that wait outside memory, first in, first out: a row of the store for each (ADR 0011).

The frontier has two: of hosts for which there is no room on the bench, and of hosts all of whose requests a budget
holds back. A host that left its line by another way leaves its row behind; whoever takes it out sees that the host's
own number is another one.
"""

from __future__ import annotations

from collections.abc import Callable

from coordinator.store.kv import Overlay


class HostLine:
    """One line; each host in it has a number."""

    __slots__ = ("_row", "_rows", "first", "following")

    def __init__(
        self, rows: Overlay, row: Callable[[int], bytes], first: int = 0, following: int = 0
    ) -> None:
        """`row`: the key for a number. `first` and `following` are as they were stored with the last commit."""
        self._rows = rows
        self._row = row
        self.first = first
        """The number that leaves next."""
        self.following = following
        """The number that the next host gets."""

    def __len__(self) -> int:
        return self.following - self.first

    def join(self, host: str) -> int:
        """The host goes to the end of the line; its number."""
        number = self.following
        self._rows.put(self._row(number), host.encode())
        self.following = number + 1
        return number

    def leave(self) -> tuple[int, str | None]:
        """The first in line leaves: its number and name, None if its row is gone. Only when the line is not empty."""
        number = self.first
        row = self._row(number)
        packed = self._rows.get(row)
        self._rows.delete(row)
        self.first = number + 1
        return number, None if packed is None else packed.decode()
