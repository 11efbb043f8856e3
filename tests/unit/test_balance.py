"""Two streams of keys are compared without keeping either."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.audit.balance import Balance, differences
from coordinator.audit.report import OFFENDERS, Report

KEYS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=12)


@given(left=KEYS, right=KEYS)
def test_what_differs_is_named_and_how_often(left: list[bytes], right: list[bytes]) -> None:
    balance = Balance()
    for key in left:
        balance.add(key)
    for key in right:
        balance.remove(key)
    uneven = balance.uneven(100)
    found = dict(differences(uneven, ((key, 1) for key in left), ((key, 1) for key in right)))
    assert found == {
        key: left.count(key) - right.count(key)
        for key in b"a b c d".split()
        if left.count(key) != right.count(key)
    }


def test_order_does_not_matter_and_no_more_buckets_come_than_were_asked_for() -> None:
    balance = Balance()
    keys = [b"%d" % number for number in range(1000)]
    for key in keys:
        balance.add(key)
    assert len(balance.uneven(8)) == 8
    for key in reversed(keys):
        balance.remove(key)
    assert balance.uneven(8) == frozenset()


def test_of_many_offenders_the_first_are_named_and_all_are_counted() -> None:
    report = Report()
    for number in range(100):
        report.fault("pages", f"line {number}")
    assert report.wrong["pages"] == 100
    assert report.offenders["pages"] == [f"line {number}" for number in range(OFFENDERS)]
    assert not report.is_right
    assert report.lines()[-1] == "100 things are wrong"
