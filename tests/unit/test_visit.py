"""One lease at its worker: lanes, the delay from end to start, robots.txt first."""

from __future__ import annotations

import pytest

from common.messages import Lease, LeaseId, Request, SessionId
from common.outcome import Outcome
from worker.robots import NO_RULES, Rules, parse
from worker.visit import SELF_REDIRECTS, Fetch, FetchRobots, Refused, Visit, verdict_of

SITE = "https://a.test"


def visit(
    *pages: str,
    lanes: int = 1,
    delay: float = 1.0,
    verdicts: dict[str, Rules | Outcome] | None = None,
    obey: bool = True,
    now: float = 100.0,
    jitter: float = 0.0,
    lease_id: int = 5,
) -> Visit:
    requests = tuple(Request(page, 0, 0, 0, 0, "", None, None) for page in pages)
    lease = Lease(SessionId(bytes(16)), 1, LeaseId(lease_id), "a.test", delay, lanes, 1, (), None, requests)
    known = {SITE: NO_RULES} if verdicts is None else verdicts
    return Visit(lease, shard=0, deadline=now + 30, verdicts=known, obey=obey, now=now, jitter=jitter)


def pages(count: int) -> list[str]:
    return [f"{SITE}/{page}" for page in range(count)]


def begun(there: Visit, now: float, room: int = 100) -> list[tuple[int, float]]:
    """(ordinal, when) of the fetches that may begin."""
    steps = there.next(now, room)
    assert all(isinstance(step, Fetch) for step in steps)
    return [(step.ordinal, step.at) for step in steps if isinstance(step, Fetch)]


# --------------------------------------------------------------------------------------------------- lanes and delay


def test_requests_are_fetched_in_the_order_of_the_lease() -> None:
    there = visit(*pages(3), delay=0.0)
    order = []
    for _ in range(3):
        [(ordinal, _)] = begun(there, 100.0)
        order.append(ordinal)
        there.landed(ordinal, 100.0)
    assert order == [0, 1, 2]


def test_the_delay_runs_from_the_end_of_a_fetch_to_the_start_of_the_next() -> None:
    there = visit(*pages(2))
    assert begun(there, 100.0) == [(0, 100.0)]
    assert begun(there, 107.0) == []
    there.landed(0, 107.0)
    assert begun(there, 107.1) == [(1, 108.0)]


def test_a_lane_that_is_free_for_long_begins_now() -> None:
    there = visit(*pages(2))
    begun(there, 100.0)
    there.landed(0, 101.0)
    assert begun(there, 200.0) == [(1, 200.0)]


def test_each_lane_keeps_its_own_delay() -> None:
    there = visit(*pages(4), lanes=2)
    assert begun(there, 100.0) == [(0, 100.0), (1, 100.0)]
    there.landed(1, 103.0)
    assert begun(there, 103.0) == [(2, 104.0)]
    there.landed(0, 103.5)
    assert begun(there, 103.5) == [(3, 104.5)]


def test_no_more_begins_than_there_is_room_for() -> None:
    there = visit(*pages(4), lanes=4)
    assert len(begun(there, 100.0, room=3)) == 3
    assert begun(there, 100.0, room=0) == []
    assert len(begun(there, 100.0, room=1)) == 1


def test_a_fetch_that_was_not_sent_is_still_to_do_and_owes_nothing() -> None:
    there = visit(*pages(1))
    begun(there, 100.0)
    there.not_sent(0, 100.5)
    assert (there.in_flight, there.unanswered, there.age(101.0)) == (set(), set(), None)
    assert begun(there, 101.0) == [(0, 101.0)]


def test_the_age_is_that_of_the_latest_end() -> None:
    there = visit(*pages(2), lanes=2)
    begun(there, 100.0)
    there.landed(0, 105.0)
    there.landed(1, 103.0)
    assert there.age(106.0) == 1.0
    assert there.age(104.0) == 0.0


def test_a_visit_is_done_when_everything_is_answered() -> None:
    there = visit(*pages(1))
    begun(there, 100.0)
    assert not there.resting
    there.landed(0, 101.0)
    assert there.resting
    assert not there.done
    there.unanswered.discard(0)
    assert there.done


def test_a_draining_visit_begins_nothing() -> None:
    there = visit(*pages(2), lanes=2)
    there.draining = True
    assert there.next(100.0, 9) == []
    assert not there.done


def test_jitter_adds_up_to_its_share_of_the_delay_and_never_takes_any_away() -> None:
    waits = []
    for lease_id in range(200):
        there = visit(*pages(3), delay=10.0, jitter=0.2, lease_id=lease_id)
        now = 100.0
        for ordinal in range(2):
            begun(there, now)
            there.landed(ordinal, now)
            [(_, at)] = begun(there, now)
            waits.append(at - now)
            there.not_sent(ordinal + 1, at)
            now = at
    assert 10.0 <= min(waits) < 10.1
    assert 11.9 < max(waits) < 12.0
    assert abs(sum(waits) / len(waits) - 11.0) < 0.1, "and evenly so"


def test_without_a_delay_there_is_no_jitter() -> None:
    there = visit(*pages(2), delay=0.0, jitter=1.0)
    begun(there, 100.0)
    there.landed(0, 100.0)
    assert begun(there, 100.0) == [(1, 100.0)]


def test_a_request_that_redirects_to_itself_is_the_next_one_but_not_for_ever() -> None:
    there = visit(*pages(2))
    now = 100.0
    for _ in range(SELF_REDIRECTS):
        assert begun(there, now) == [(0, now)]
        there.landed(0, now)
        assert there.fetch_again(0, now, 150.0)
        now += 1.0
    begun(there, now)
    there.landed(0, now)
    assert not there.fetch_again(0, now, 150.0)
    assert there.unanswered == {0}
    assert begun(there, now) == [(1, now + 1.0)]


def test_on_a_slow_host_a_request_is_fetched_again_only_while_its_lease_is_sure_to_last() -> None:
    there = visit(*pages(1), delay=60.0)
    now, count = 100.0, 0
    while begun(there, now) and not there.landed(0, now) and there.fetch_again(0, now, 150.0):
        now, count = now + 60.0, count + 1
    assert (count, now) == (2, 220.0)
    slower = visit(*pages(1), delay=600.0)
    begun(slower, 100.0)
    slower.landed(0, 100.0)
    assert slower.fetch_again(0, 100.0, 150.0), "but once in any case"


def test_what_is_broken_off_is_still_to_do_and_touched_the_host_until_now() -> None:
    there = visit(*pages(4), lanes=2)
    begun(there, 100.0)
    there.cut_off(103.0)
    assert list(there.todo) == [0, 1, 2, 3]
    assert (there.resting, there.age(104.0)) == (True, 1.0)
    there.cut_off(110.0)
    assert there.age(110.0) == 7.0, "nothing was under way any more"


# ------------------------------------------------------------------------------------------------------------- robots


def test_no_page_before_its_robots_txt() -> None:
    there = visit(*pages(2), lanes=2, verdicts={})
    assert there.next(100.0, 9) == [FetchRobots(5, 5, SITE, f"{SITE}/robots.txt", 0, 100.0)]
    assert there.next(100.0, 9) == []
    there.robots_landed(101.0)
    assert there.next(101.0, 9) == [], "the shard has not answered yet"
    assert not there.resting
    there.asking = None
    there.verdicts[SITE] = NO_RULES
    assert sorted(begun(there, 101.0)) == [(0, 101.0), (1, 102.0)], "robots.txt took a lane like a page"


def test_an_authority_is_asked_for_when_nothing_else_is_in_flight() -> None:
    there = visit(f"{SITE}/1", "http://a.test/2", lanes=2)
    assert begun(there, 100.0) == [(0, 100.0)]
    there.landed(0, 101.0)
    assert there.next(101.0, 9) == [FetchRobots(5, 5, "http://a.test", "http://a.test/robots.txt", 0, 101.0)]


def test_with_robots_ignored_nothing_is_asked() -> None:
    assert begun(visit(*pages(1), verdicts={}, obey=False), 100.0) == [(0, 100.0)]


def test_what_robots_txt_denies_is_not_fetched() -> None:
    rules = parse(b"User-agent: *\nDisallow: /1\n", "shoal")
    there = visit(*pages(3), lanes=3, verdicts={SITE: rules})
    steps = there.next(100.0, 9)
    assert [type(step) for step in steps] == [Fetch, Refused, Fetch]
    refused = steps[1]
    assert isinstance(refused, Refused)
    assert (refused.ordinal, refused.outcome) == (1, Outcome.ROBOTS_DENIED)
    assert there.unanswered == {1}


def test_an_authority_with_an_outcome_gives_it_to_every_request_and_no_lane_is_used() -> None:
    there = visit(*pages(3), verdicts={SITE: Outcome.DNS})
    steps = there.next(100.0, 9)
    assert [step.outcome for step in steps if isinstance(step, Refused)] == [Outcome.DNS] * 3
    assert len(there.lanes) == 1


def test_refusals_count_as_unanswered_pages_too() -> None:
    assert len(visit(*pages(3), verdicts={SITE: Outcome.DNS}).next(100.0, 2)) == 2


@pytest.mark.parametrize(("text", "known"), [("rules", NO_RULES), ("allow", NO_RULES)])
def test_a_verdict_with_rules_is_the_rules(text: str, known: Rules) -> None:
    assert verdict_of(text, known) is known
    assert verdict_of(text, None) is None


def test_a_verdict_may_be_an_outcome_or_unknown() -> None:
    assert verdict_of("ROBOTS_UNREACHABLE", None) is Outcome.ROBOTS_UNREACHABLE
    assert verdict_of("nonsense", None) is None
