"""Whole clusters in virtual time: whatever goes wrong, the promises hold, and the same seed is the same run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.cluster import run

SEEDS = 600
"""About 40 s of one core; scripts/simulate hunts longer."""

CHUNK = 50

REPLAY = "from tests.simulation.cluster import run; print(run(7).fingerprint, run(8).fingerprint)"


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_in_any_storm(first: int) -> None:
    """Nothing lost, nothing doubled, no host hurried, ended exactly when done."""
    for seed in range(first, first + CHUNK):
        result = run(seed)
        assert result.broken is None, "\n".join((*result.story, f"seed {seed}: {result.broken}"))


def test_a_crawl_in_calm_weather_needs_no_luck() -> None:
    for seed in range(50):
        result = run(seed, storms=False)
        assert result.broken is None, "\n".join((*result.story, f"seed {seed}: {result.broken}"))


def test_the_same_seed_gives_the_same_run_to_the_byte() -> None:
    assert run(5).fingerprint == run(5).fingerprint
    assert run(5).fingerprint != run(6).fingerprint


def test_a_run_does_not_depend_on_the_order_of_hashes() -> None:
    """Another process, with another hash seed, makes the same run (PROTOCOL rule 25)."""
    told = [
        subprocess.run(
            [sys.executable, "-c", REPLAY],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(["."])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1] != ""
