"""Record ids for WARC: a source of them for whoever makes records. The one place that asks for random bytes for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from common.warc import record_id

_AT_ONCE = 256
"""Ids from one call of the kernel, which costs more than sixteen bytes do."""


def record_ids() -> Callable[[], str]:
    """A function that gives a fresh `<urn:uuid:...>` at each call."""
    return _ids().__next__


def _ids() -> Iterator[str]:
    while True:
        octets = os.urandom(16 * _AT_ONCE)
        for start in range(0, len(octets), 16):
            yield record_id(octets[start : start + 16])
