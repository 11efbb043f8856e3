"""How a process keeps its memory: freed memory for the next page, and no garbage search in what lives long.

A page is some hundred kilobytes of buffers and nodes, allocated and freed together. By its defaults glibc returns
them to the kernel at once and gets them back by page faults: about 135 of them a page, a third of what a page costs
(measured: 885 µs of report making per page with the defaults, 679 with these). The memory kept is bounded.
"""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)

KEPT_BYTES = 64 << 20
"""Free memory at the top of the heap that a process keeps."""

MAPPED_FROM = 32 << 20
"""Single allocations from this size on still come from the kernel, and go back; glibc's own upper bound."""


GARBAGE_AFTER = (50_000, 20, 50)
"""Python's default looks for cycles every 700 containers, and a page makes a thousand: 5 % of a worker's time."""


def keep_freed_memory() -> None:
    """Once per process, when its modules are loaded. The C library's part is left out where it has no mallopt."""
    gc.freeze()
    gc.set_threshold(*GARBAGE_AFTER)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_TOP_PAD, 1 << 20)
    mallopt(_MMAP_THRESHOLD, MAPPED_FROM)
