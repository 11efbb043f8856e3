"""Whether a page's tree may be built: the tree of the HTML standard is quadratic for pages made, or broken, so.

Pure. What is not safe goes through worker/scan.py, which is linear (ADR 0013).
"""

from __future__ import annotations

import re

_SAFE_BYTES = 16 << 10
"""Up to here nothing costs more than about 0.2 s and 200 MB (`<p><font a1>`, measured)."""

_TREE_BYTES = 256 << 10
"""Beyond it the checks below are not tight enough; 1 page in 100."""

_WINDOW = 4096
"""Bytes without any `>`: a tag of hundreds of attributes (each costs all before it), or a script."""

_FEW_TAGS = 2500

_MANY_TAGS = 25_000
"""Nested as deep as can be, 0.2 s."""

_FORMATTED = 128
"""Formatting elements with attributes: left open, each block after them repeats them all."""


def tree_is_safe(page: bytes) -> bool:
    """Whether building the page's tree takes time and memory about linear in its size. Costs 0.5 µs a KiB.

    Not a proof for the last of the checks: a page made against it, with a `>` in one attribute of every few
    hundred, can make 256 KiB cost some seconds; one that is only broken cannot.
    """
    size = len(page)
    if size <= _SAFE_BYTES:
        return True
    if size > _TREE_BYTES:
        return False
    tags = page.count(b"<")
    if tags > _MANY_TAGS:
        return False
    if tags > _FEW_TAGS:
        formatted = _MAYBE_FORMATTED.findall(page)
        if len(formatted) > _FORMATTED and sum(map(_FORMATTING.__contains__, formatted)) > _FORMATTED:
            return False
    find = page.find
    return all(find(b">", start, start + _WINDOW) >= 0 for start in range(0, size - _WINDOW, _WINDOW))


# Elements of the "list of active formatting elements" but `a`, of which the list never holds two.
_MAYBE_FORMATTED = re.compile(rb"<([bBcCeEfFiInNsStTuU][a-zA-Z]{0,5}+)[\t\n\f\r /]")
_FORMATTING = frozenset(b"b big code em font i nobr s small strike strong tt u".split())
_FORMATTING |= frozenset(name.upper() for name in _FORMATTING)
