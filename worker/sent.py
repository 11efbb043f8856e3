"""Links that this process had acknowledged lately, so as not to send them again. It may forget; it never invents.

A direct-mapped table of fixed size: a link's place is given by its fingerprint, and a newer one that falls on the
same place pushes the older out. With each link stands the depth at which it was acknowledged: it covers only links
of no smaller depth, since a shorter path must reach the shard (PROTOCOL rule 4). Per process, never shared.
"""

from __future__ import annotations

from collections.abc import Iterable

_ENTRY = 17
_DEEPEST = 255


class SentLinks:
    """Room for `entries` links (rounded down to a power of two), 17 bytes each."""

    __slots__ = ("_mask", "_table")

    def __init__(self, entries: int) -> None:
        size = 1 << max(4, entries.bit_length() - 1)
        self._mask = size - 1
        self._table = bytearray(size * _ENTRY)

    def covers(self, fingerprint: bytes, depth: int) -> bool:
        """Whether the link was acknowledged at this depth or a smaller one. About 0.2 µs."""
        place = (int.from_bytes(fingerprint[:4], "little") & self._mask) * _ENTRY
        table = self._table
        return (
            table[place] != 0
            and table[place] <= depth + 1
            and table[place + 1 : place + _ENTRY] == fingerprint
        )

    def enter(self, fingerprint: bytes, depth: int) -> None:
        """The link was acknowledged. Depths above 254 are not remembered."""
        self.enter_all((fingerprint,), depth)

    def enter_all(self, fingerprints: Iterable[bytes], depth: int) -> None:
        """All these links were acknowledged at one depth. 0.3 µs each: once for every link that a page found."""
        if depth >= _DEEPEST:
            return
        table, mask, level = self._table, self._mask, depth + 1
        for fingerprint in fingerprints:
            place = (int.from_bytes(fingerprint[:4], "little") & mask) * _ENTRY
            if table[place + 1 : place + _ENTRY] == fingerprint and 0 < table[place] <= level:
                continue
            table[place] = level
            table[place + 1 : place + _ENTRY] = fingerprint

    def clear(self) -> None:
        """Forget all: the crawl, the scope or the shard's store is another one now."""
        self._table = bytearray(len(self._table))
