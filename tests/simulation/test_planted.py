"""The simulation bites: each rule of the protocol that is left out is noticed, within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.cluster import run
from tests.simulation.planted import PLANTED, Planted


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.rule)
def test_a_rule_left_out_is_noticed(planted: Planted) -> None:
    for seed in planted.order():
        broken = run(seed, planted.parts()).broken
        if broken is not None:
            assert planted.fails or not broken.startswith("no core fails"), (
                f"by accident, seed {seed}: {broken}"
            )
            return
    pytest.fail(f"{planted.rule}: not noticed in {planted.seeds} seeds")
