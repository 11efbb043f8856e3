"""What holds for all tests: each gets the mark of the folder it stands in, and that kind's time limit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from common.log import LogSettings, set_up_log

if TYPE_CHECKING:
    from tests.support.site import Site

_TESTS = Path(__file__).parent
_KINDS = ("unit", "stateful", "simulation", "fuzz", "loopback", "cluster")
_CLUSTER_TIMEOUT = 180.0
"""Seconds; real processes start, are killed and start again, on machines with other work to do."""

# CI asks whether this change broke something, so it tries the same examples every time. At home, hypothesis
# searches anew on every run; what it finds becomes a plain test. No deadline: the machine may be busy.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    """A command that a test called within this process sets up the log of the process, and its file."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    set_up_log(LogSettings())
    root.handlers[:] = before
    logging.captureWarnings(False)


@pytest.fixture
def site() -> Iterator[Site]:
    """The web of one test; a module whose web is another one has a fixture of its own with this name."""
    from tests.support.site import Site  # here, for unit tests need no server

    with Site() as site:
        yield site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = item.path.relative_to(_TESTS).parts[0]
        if kind in _KINDS:
            item.add_marker(kind)
        if kind == "cluster" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_CLUSTER_TIMEOUT))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = _dealt(items, workers)


def _dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The order in which xdist's portions, equal and from front to back, each begin with a share of what takes long.

    Else one worker has all of it, and the last tests to end are the longest. Tests that share a fixture of their module
    stay together.
    """
    together: dict[object, list[pytest.Item]] = {}
    quick: list[pytest.Item] = []
    for item in items:
        if _takes_long(item) or _shares(item):
            together.setdefault(item.path if _shares(item) else item, []).append(item)
        else:
            quick.append(item)
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, group in enumerate(together.values()):
        hands[number % workers] += group
    rest, left = iter(quick), len(items)
    for number, hand in enumerate(hands):
        portion = left // (workers - number)
        hand += islice(rest, max(0, portion - len(hand)))
        left -= portion
    return [item for hand in hands for item in hand]


def _takes_long(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(mark) is not None for mark in ("cluster", "slow"))


def _shares(item: pytest.Item) -> bool:
    found = getattr(item, "_fixtureinfo", None)
    definitions = found.name2fixturedefs.values() if found is not None else ()
    return any(each[-1].scope == "module" for each in definitions)
