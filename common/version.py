"""Which Shoal this is.

In the User-Agent header, in what people are shown, and in the files that say who wrote them.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version() -> str:
    """The version of the installed Shoal; `0` in a checkout that was never installed."""
    try:
        return metadata.version("shoal")
    except metadata.PackageNotFoundError:
        return "0"
