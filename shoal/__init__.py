"""Shoal for Python: `Page` and `Follow` for extractors, `Crawl` for scripts and notebooks.

Nothing of it is imported before it is asked for: the entry points of `coord` and `worker` come through here, too, and
must first see to the path (shoal/entry.py). `common`, `coordinator` and `worker` are Shoal's import names; where
another module has one of them already, that is said in one line.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shoal.crawl import Crawl, CrawlFailed
    from worker.extractfollow import Follow
    from worker.extractpage import Page

__all__ = ["Crawl", "CrawlFailed", "Follow", "Page"]

_PLACES = {
    "Crawl": "shoal.crawl",
    "CrawlFailed": "shoal.crawl",
    "Follow": "worker.extractfollow",
    "Page": "worker.extractpage",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'shoal' has no attribute {name!r}")
    value = getattr(_imported(_PLACES[name]), name)
    globals()[name] = value
    return value


def _imported(module: str) -> Any:
    """A module of ours, whatever else stands on the path; which is afterwards as it was."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for taken in ("common", "coordinator", "worker"):
        place = getattr(sys.modules.get(taken), "__file__", None)
        if place is not None and os.path.dirname(os.path.dirname(os.path.abspath(place))) != own:
            raise ImportError(f"the import name {taken!r} is taken by Shoal, but {place} is loaded under it")
    sys.path.insert(0, own)
    try:
        return import_module(module)
    finally:
        sys.path.remove(own)
