"""The fleet: who gets the next lease, and what was answered."""

from __future__ import annotations

from coordinator.fleet import ANSWERS_KEPT, ROBOTS_KEPT, Fleet, WorkerSession


def session(name: bytes, *, lanes: int = 0, requests: int = 0) -> WorkerSession:
    made = WorkerSession(name, host="box", pid=1, index=0, local=False, now=0.0)
    made.lanes, made.requests = lanes, requests
    return made


def fleet(*sessions: WorkerSession) -> Fleet:
    made = Fleet()
    for each in sessions:
        made.add(each)
    return made


def test_a_host_prefers_the_process_that_had_it_last() -> None:
    one, two = session(b"1", lanes=1, requests=9), session(b"2", lanes=50, requests=99)
    assert fleet(one, two).choose(b"1") is one


def test_without_credit_the_last_holder_is_passed_over() -> None:
    one, two, three = session(b"1"), session(b"2", lanes=5, requests=9), session(b"3", lanes=6, requests=9)
    assert fleet(one, two, three).choose(b"1") is three
    assert fleet(one, two, three).choose(b"gone") is three
    assert fleet(one).choose(None) is None
    assert Fleet().choose(None) is None


def test_credit_is_lanes_and_requests() -> None:
    one = session(b"1", lanes=4, requests=10)
    one.lent_lanes = 3
    assert one.free_lanes == 1
    one.lent_requests = 10
    assert one.free_lanes == 0
    one.requests = 20
    one.lanes = 2
    assert one.free_lanes < 0
    assert fleet(one).choose(None) is None
    assert fleet(one).with_credit() == 0


def test_those_with_credit_are_counted() -> None:
    assert fleet(session(b"1"), session(b"2", lanes=1, requests=1)).with_credit() == 1


def test_a_session_that_is_gone_is_chosen_no_more() -> None:
    crew = fleet(session(b"1", lanes=1, requests=1))
    crew.remove(b"1")
    crew.remove(b"1")
    assert (crew.choose(b"1"), len(crew), crew.get(b"1")) == (None, 0, None)


def test_answers_are_remembered_up_to_a_bound() -> None:
    one = session(b"1")
    for number in range(ANSWERS_KEPT + 5):
        one.answer(number, None if number % 2 else "lease")
    assert len(one.answers) == ANSWERS_KEPT
    assert 4 not in one.answers
    assert (one.answers[6], one.answers[7]) == ("lease", None)


def test_rules_are_sent_once_a_version() -> None:
    one = session(b"1")
    assert [one.knows_robots("https://a.test", version) for version in (1, 1, 2, 2)] == [
        False,
        True,
        False,
        True,
    ]


def test_the_authorities_remembered_are_bounded_and_the_oldest_is_sent_again() -> None:
    one = session(b"1")
    for number in range(ROBOTS_KEPT):
        one.knows_robots(f"https://{number}.test", 1)
    assert one.knows_robots("https://0.test", 1)
    one.knows_robots("https://more.test", 1)
    assert one.knows_robots("https://0.test", 1)
    assert not one.knows_robots("https://1.test", 1)
