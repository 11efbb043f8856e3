"""The entries of the scope, kept in the store: seeds may be a million, memory is for what is being crawled."""

from __future__ import annotations

from coordinator.store.kv import Overlay
from coordinator.store.rows import site_row


class StoredSites:
    """Implements `common.scope.Sites`. `adding` changes this very object; it is durable with the next commit."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Overlay) -> None:
        self._rows = rows

    def __contains__(self, site: object) -> bool:
        return isinstance(site, str) and self._rows.get(site_row(site)) is not None

    def listed(self, most: int, characters: int) -> list[str] | None:
        """All entries, or None if there are more than `most`, or more `characters` in them."""
        found = self._rows.scan(b"s", b"t", most + 1)
        if len(found) > most or sum(len(key) - 1 for key, _ in found) > characters:
            return None
        return [key[1:].decode() for key, _ in found]

    def adding(self, site: str) -> StoredSites:
        """These and `site`."""
        self._rows.put(site_row(site), b"\x01")
        return self
