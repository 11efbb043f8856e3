"""The fleet: who gets the next lease, and what was answered."""

from __future__ import annotations

from coordinator.fleet import ANSWERS_KEPT, MOST_SESSIONS, ROBOTS_KEPT, Fleet, WorkerSession


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


def test_who_has_long_been_silent_is_chosen_again_only_when_it_speaks() -> None:
    one, two = session(b"1", lanes=9, requests=9), session(b"2", lanes=1, requests=1)
    crew = fleet(one, two)
    two.heard(10.0)
    crew.hush(15.0, 15.0)
    assert crew.choose(b"1") is one
    crew.hush(15.5, 15.0)
    assert (crew.choose(b"1"), crew.with_credit()) == (two, 1)
    crew.hush(26.0, 15.0)
    assert (crew.choose(b"1"), crew.with_credit()) == (None, 0)
    one.heard(26.0)
    assert crew.choose(None) is one


def test_the_silent_are_looked_for_no_more_often_than_one_may_have_become_so() -> None:
    """And found all the same, however late the look is."""
    crew = fleet(*(session(str(number).encode(), lanes=1, requests=1) for number in range(50)))
    looked = 0
    for tick in range(3000):
        now = tick / 10
        for number, each in enumerate(crew):
            if number % 10 == tick % 10 and number < 25:
                each.heard(now)
        before = crew._look_at
        crew.hush(now, 15.0)
        looked += crew._look_at != before
        assert all(each.silent == (now - each.heard_at > 15.0) for each in crew), now
    assert looked < 50, "about every 15 s of 300"


def test_so_many_may_join_and_no_more() -> None:
    crew = fleet(*(session(number.to_bytes(16)) for number in range(MOST_SESSIONS - 1)))
    assert not crew.is_full
    crew.add(session(b"last"))
    assert crew.is_full


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
