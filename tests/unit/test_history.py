"""How it was: points that add up to what was counted, in bounded memory."""

from __future__ import annotations

import json

import pytest

from coordinator.history import MINUTES_KEPT, SECONDS_KEPT, History, Meter, Totals


def test_points_add_up_to_what_was_counted() -> None:
    history = History()
    for quarter in range(4 * 120 + 1):
        now = 50.0 + quarter / 4
        pages = quarter * 5
        history.note(
            Totals(pages, pages * 100, quarter, 7, {"OK": pages - quarter, "DNS": quarter}), now, 1e9 + now
        )
    read = history.to_json()
    seconds, minutes = read["seconds"], read["minutes"]
    assert len(seconds["at"]) == 120
    assert len(minutes["at"]) == 2
    assert sum(seconds["pages"]) == pytest.approx(4 * 120 * 5)
    assert seconds["pages"][3] == pytest.approx(20)
    assert seconds["bytes"][3] == pytest.approx(2000)
    assert seconds["outcomes"]["DNS"][3] == pytest.approx(4)
    assert minutes["pages"] == [pytest.approx(20)] * 2
    assert seconds["in_flight"][-1] == 480
    assert seconds["at"][-1] == pytest.approx(1e9 + 170)
    json.dumps(read)


def test_a_day_is_kept_and_no_more() -> None:
    history = History()
    for minute in range(2 * MINUTES_KEPT):
        for second in (0, 1):
            history.note(Totals(minute, 0, 0, 0, {"OK": minute}), minute * 60.0 + second, 0.0)
    read = history.to_json()
    assert len(read["minutes"]["at"]) == MINUTES_KEPT
    assert len(read["seconds"]["at"]) == SECONDS_KEPT
    assert all(len(column) == MINUTES_KEPT for column in read["minutes"]["outcomes"].values())


def test_an_outcome_that_comes_later_is_nought_before() -> None:
    history = History()
    history.note(Totals(0, 0, 0, 0, {}), 0.0, 0.0)
    history.note(Totals(1, 0, 0, 0, {"OK": 1}), 1.0, 1.0)
    history.note(Totals(2, 0, 0, 0, {"OK": 1, "TLS": 1}), 2.0, 2.0)
    assert history.to_json()["seconds"]["outcomes"] == {"OK": [1.0, 0.0], "TLS": [0.0, 1.0]}


def test_a_loop_that_stood_still_gives_a_true_rate() -> None:
    history = History()
    history.note(Totals(0, 0, 0, 0, {}), 0.0, 0.0)
    history.note(Totals(100, 0, 0, 0, {}), 10.0, 10.0)
    history.note(Totals(110, 0, 0, 0, {}), 11.0, 11.0)
    assert history.to_json()["seconds"]["pages"] == [10.0, 10.0]


def test_what_a_retry_takes_back_is_no_negative_rate() -> None:
    meter, history = Meter(), History()
    for second, total in enumerate([0, 100, 200, 50, 60]):
        meter.note(total, float(second))
        assert meter.rate(total, float(second)) >= 0
        history.note(Totals(total, total, 0, 0, {"OK": total}), float(second), float(second))
    assert meter.rate(60, 4.0) == pytest.approx(52.5)
    seconds = history.to_json()["seconds"]
    assert min(*seconds["pages"], *seconds["bytes"], *seconds["outcomes"]["OK"]) >= 0
