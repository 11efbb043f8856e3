"""What holds for all tests: each gets the mark of the folder it stands in, and that kind's time limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

_TESTS = Path(__file__).parent
_KINDS = ("unit", "stateful", "simulation", "fuzz", "loopback", "cluster")
_CLUSTER_TIMEOUT = 180.0
"""Seconds; real processes start, are killed and start again, on machines with other work to do."""

# CI asks whether this change broke something, so it tries the same examples every time. At home, hypothesis
# searches anew on every run; what it finds becomes a plain test. No deadline: the machine may be busy.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = item.path.relative_to(_TESTS).parts[0]
        if kind in _KINDS:
            item.add_marker(kind)
        if kind == "cluster" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_CLUSTER_TIMEOUT))
