"""Two installs are the same: constraints.txt pins everything that is installed, however deep."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def test_every_distribution_that_comes_with_shoal_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name) for pin in pins}
    waiting = [
        Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]
    ]
    seen: set[str] = set()
    for wanted in waiting:
        name = canonicalize_name(wanted.name)
        if name in seen or (wanted.marker and not wanted.marker.evaluate()):
            continue
        seen.add(name)
        waiting += [
            further
            for further in map(Requirement, metadata.requires(name) or [])
            if not further.marker
            or any(further.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras})
        ]
    assert seen <= pinned
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
