"""Near-duplicates: is there an earlier page of this host whose SimHash is within so many bits?

Exact up to MAX_DISTANCE: two numbers that differ in at most 7 of 64 bits agree in at least one of their 8 bytes, so it
is enough to look at the pages that share a byte with the new one. A page that is near an earlier one is not entered:
a slow drift, each version near the one before, does not carry on for ever.

No I/O of its own: rows go through the `Overlay`, in the commit that ends the request. Keys, all of one host together:

    n slot host 0 0..7 byte      the bucket of a byte: entries of simhash (8 bytes) and page's number (4)
    n slot host 0 8 number       an entered page: simhash, URL
    n slot host 0 9              how many pages were entered

Bounds: the last MAX_PAGES pages of a host, at its most BUCKET to a bucket: what is older is forgotten, so that the
worst a long crawl can do is to take a near-duplicate for new.

Cost: 8 reads and, for a new page, 10 writes; buckets are compared at 0.1 us an entry, of which a host with n pages has
about n/32. Measured (scripts/bench simhash): see docs/near-duplicates.md.

Invariant: what `seen` names was entered by this host, and is within `distance` bits.
"""

from __future__ import annotations

import struct
from typing import Final

from coordinator.store.kv import Overlay

MAX_DISTANCE: Final = 7
"""Bits; with 8 bytes to look up this is as far as an index can be exact."""

MAX_PAGES: Final = 16_384
"""Pages of a host that are remembered: 1.1 KB each on disk, before compression, at this many."""

BUCKET: Final = 128
"""Pages in a bucket, twice what MAX_PAGES makes on average: a bound on what a host of many like pages costs."""

_PAGE: Final = b"\x08"
_COUNT: Final = b"\x09"
_ENTRY: Final = struct.Struct(">QI")
_NUMBER: Final = struct.Struct(">I")


class NearDuplicates:
    """The index over all hosts of a shard."""

    __slots__ = ("_distance", "_pages", "_rows")

    def __init__(self, rows: Overlay, distance: int, *, pages: int = MAX_PAGES) -> None:
        """`distance`: in how many bits near-duplicates may differ, 0 to MAX_DISTANCE; else ValueError. It may change
        from run to run; the rows do not depend on it. `pages`: how many a host remembers; that must not change."""
        if not 0 <= distance <= MAX_DISTANCE:
            raise ValueError(f"distance of near-duplicates: {distance}; must be 0 to {MAX_DISTANCE} bits")
        self._rows = rows
        self._distance = distance
        self._pages = pages

    def seen(self, slot: int, host: str, simhash: int, url: str) -> str | None:
        """The URL of the earliest page of `host` found near `simhash`; None: there is none, and the page is entered.

        The same page again (the same URL) is no near-duplicate of itself: None, and nothing is entered.
        """
        rows = self._rows
        prefix = b"n" + slot.to_bytes(2, "big") + host.encode() + b"\0"
        octets = simhash.to_bytes(8, "big")
        keys = [prefix + bytes((band, octet)) for band, octet in enumerate(octets)]
        buckets = [rows.get(key) or b"" for key in keys]
        within = self._distance
        near = {
            number: other
            for bucket in buckets
            for other, number in _ENTRY.iter_unpack(bucket)
            if (other ^ simhash).bit_count() <= within
        }
        earlier: str | None = None
        for number in sorted(near):
            page = rows.get(prefix + _PAGE + _NUMBER.pack(number % self._pages))
            if page is None or page[:12] != _ENTRY.pack(near[number], number):
                continue  # its place was taken by a later page
            other_url = page[12:].decode()
            if other_url == url:
                return None
            earlier = earlier or other_url
        if earlier is None:
            self._enter(prefix, keys, buckets, simhash, url)
        return earlier

    def _enter(self, prefix: bytes, keys: list[bytes], buckets: list[bytes], simhash: int, url: str) -> None:
        rows = self._rows
        count = rows.get(prefix + _COUNT)
        number = 0 if count is None else _NUMBER.unpack(count)[0]
        entry = _ENTRY.pack(simhash, number)
        for key, bucket in zip(keys, buckets, strict=True):
            rows.put(key, bucket[-(BUCKET - 1) * _ENTRY.size :] + entry)
        rows.put(prefix + _PAGE + _NUMBER.pack(number % self._pages), entry + url.encode())
        rows.put(prefix + _COUNT, _NUMBER.pack((number + 1) & 0xFFFFFFFF))
