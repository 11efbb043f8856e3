"""The simulation bites: each rule of the protocol that is left out is noticed, within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.cluster import run
from tests.simulation.planted import PLANTED, Planted


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.rule)
def test_a_rule_left_out_is_noticed(planted: Planted) -> None:
    for seed in range(planted.first, planted.first + planted.seeds):
        broken = run(seed, planted.parts()).broken
        if broken is not None:
            promise = broken.partition(":")[0]
            assert promise in planted.promises, f"noticed by accident, seed {seed}: {broken}"
            return
    pytest.fail(f"{planted.rule}: not noticed in {planted.seeds} seeds from {planted.first} on")
