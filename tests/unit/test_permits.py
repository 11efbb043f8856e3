"""Permits that are wanted: who gets one, when a host is looked at, and how much anybody may want."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.permits import IN_ALL, OF_ONE, Permits


def test_who_asked_first_is_served_first() -> None:
    permits = Permits()
    for session in (b"1", b"2", b"1"):
        permits.want(session, "a.test")
    assert len(permits) == 1
    assert [permits.take("a.test") for _ in range(3)] == [b"1", b"2", None]
    assert "a.test" not in permits


def test_a_host_is_looked_at_when_it_may_be_due_and_not_again_before_somebody_says_so() -> None:
    permits = Permits()
    permits.want(b"1", "a.test")
    assert permits.due(0.0) == "a.test"
    assert (permits.due(1e9), permits.next_look()) == (None, None)
    permits.look("a.test", float("inf"))
    assert permits.next_look() is None
    permits.look("a.test", 7.0)
    permits.look("a.test", 5.0)
    permits.look("a.test", 9.0)
    assert (permits.next_look(), permits.due(4.9)) == (5.0, None)
    assert [permits.due(10.0), permits.due(10.0)] == ["a.test", None]


def test_what_is_wanted_no_more_is_not_looked_at() -> None:
    permits = Permits()
    permits.want(b"1", "a.test")
    permits.want(b"2", "a.test")
    permits.drop("a.test")
    assert (len(permits), permits.next_look(), permits.due(1.0)) == (0, None, None)
    permits.want(b"1", "a.test")
    assert permits.due(0.0) == "a.test"


def test_a_session_that_is_gone_wants_nothing() -> None:
    permits = Permits()
    for session, host in ((b"1", "a.test"), (b"2", "a.test"), (b"1", "b.test")):
        permits.want(session, host)
    permits.forget(b"1")
    permits.forget(b"1")
    assert permits.names(5) == ["a.test"]
    assert permits.take("a.test") == b"2"


def test_one_session_cannot_want_everything() -> None:
    permits = Permits()
    for number in range(OF_ONE + 10):
        permits.want(b"greedy", f"{number}.test")
    permits.want(b"modest", "a.test")
    assert len(permits) == OF_ONE + 1
    assert "a.test" in permits
    assert permits.take("0.test") == b"greedy"
    permits.want(b"greedy", "more.test")
    assert "more.test" in permits


def test_all_of_them_together_want_no_more_than_there_is_room_for() -> None:
    permits = Permits()
    for number in range(IN_ALL + 10):
        permits.want(number.to_bytes(4), f"{number}.test")
    assert len(permits) == IN_ALL
    assert "0.test" in permits
    permits.want(b"late", "0.test")
    assert permits.take("0.test") == bytes(4)
    assert permits.take("0.test") == b"late"


@given(st.lists(st.tuples(st.sampled_from("wltdf"), st.integers(0, 3), st.integers(0, 3))))
def test_it_keeps_its_invariants(steps: list[tuple[str, int, int]]) -> None:
    permits, now = Permits(), 0.0
    for step, one, two in steps:
        host, session = f"{one}.test", bytes([two])
        match step:
            case "w":
                permits.want(session, host)
            case "l" if host in permits:
                permits.look(host, now + two)
            case "t":
                permits.take(host)
            case "f":
                permits.forget(session)
            case "d":
                now += 1
                due = permits.due(now)
                assert due is None or due in permits
        assert all(permits._wanted.values())
        assert permits._at.keys() <= permits._wanted.keys()
        assert {(at, name) for name, at in permits._at.items()} <= set(permits._looks)
        counted: dict[bytes, int] = {}
        for sessions in permits._wanted.values():
            for each in sessions:
                counted[each] = counted.get(each, 0) + 1
        assert dict(permits._of) == counted


def test_its_heap_is_bounded_however_often_it_is_told() -> None:
    permits = Permits()
    permits.want(b"1", "a.test")
    assert permits.due(0.0) == "a.test"
    for number in range(5 * IN_ALL):
        permits.look("a.test", 1e9 - number)
    assert len(permits._looks) <= 2 * IN_ALL
    assert permits.next_look() == 1e9 - 5 * IN_ALL + 1
