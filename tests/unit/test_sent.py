"""Links sent lately: forgetting is allowed, inventing is not, and a shorter path always gets through (rule 4)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.sent import SentLinks

LINK = bytes(range(16))
depths = st.integers(0, 70_000)


def test_a_link_covers_what_is_no_nearer() -> None:
    sent = SentLinks(64)
    assert not sent.covers(LINK, 3)
    sent.enter(LINK, 3)
    assert [sent.covers(LINK, depth) for depth in (0, 2, 3, 4, 500)] == [False, False, True, True, True]


def test_a_smaller_depth_replaces_a_greater_one_but_not_the_other_way() -> None:
    sent = SentLinks(64)
    sent.enter(LINK, 3)
    sent.enter(LINK, 5)
    assert sent.covers(LINK, 3)
    sent.enter(LINK, 1)
    assert sent.covers(LINK, 1)


def test_a_link_at_depth_zero_is_remembered() -> None:
    sent = SentLinks(64)
    sent.enter(LINK, 0)
    assert sent.covers(LINK, 0)


def test_a_link_of_zeros_is_not_there_from_the_start() -> None:
    assert not SentLinks(64).covers(bytes(16), 1000)


def test_a_depth_that_does_not_fit_is_not_remembered() -> None:
    sent = SentLinks(64)
    sent.enter(LINK, 255)
    assert not sent.covers(LINK, 60_000)
    sent.enter(LINK, 254)
    assert sent.covers(LINK, 254)


def test_clearing_forgets_everything() -> None:
    sent = SentLinks(64)
    sent.enter(LINK, 0)
    sent.clear()
    assert not sent.covers(LINK, 9)


def test_a_newer_link_takes_the_place_of_an_older_one() -> None:
    sent = SentLinks(16)
    other = LINK[:4] + bytes(12)
    sent.enter(LINK, 0)
    sent.enter(other, 0)
    assert (sent.covers(LINK, 0), sent.covers(other, 0)) == (False, True)


@given(st.lists(st.tuples(st.integers(0, 40), depths)), st.integers(0, 40), depths)
def test_it_never_invents(entered: list[tuple[int, int]], asked: int, depth: int) -> None:
    sent = SentLinks(16)
    for link, at in entered:
        sent.enter(link.to_bytes(16, "little"), at)
    if sent.covers(asked.to_bytes(16, "little"), depth):
        assert any(link == asked and at <= depth for link, at in entered)
