"""What follows from an outcome, in numbers."""

from __future__ import annotations

import pytest

from common.outcome import OUTCOMES, Outcome, State
from coordinator import policy
from coordinator.policy import backoff, decide, delay_in_force, lease_size

AGAIN = {"SERVER_ERROR", "TRUNCATED", "TIMEOUT", "DNS", "REFUSED", "RESET", "PROXY", "PROTOCOL"}
HOST = {"TIMEOUT", "DNS", "REFUSED", "RESET"}


def test_a_dead_proxy_is_no_sign_of_the_host_behind_it() -> None:
    for reason, counts in (("proxy_unreachable", False), ("proxy_gateway", True)):
        decision = policy.decide(Outcome.PROXY, None, None, tries=1, retries=2, failures=0, reason=reason)
        assert decision.retry_in is not None and decision.host_failed is counts


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_what_may_pass_is_tried_again(outcome: Outcome) -> None:
    decision = decide(outcome, None, None, tries=1, retries=2, failures=0)
    assert (decision.retry_in is not None) == (outcome.value in AGAIN)
    assert decision.host_failed == (outcome.value in HOST)
    assert (decision.host_wait > 0) == decision.host_failed


@pytest.mark.parametrize("outcome", [outcome for outcome in OUTCOMES if outcome.state is State.EXCLUDED])
def test_what_is_excluded_stands(outcome: Outcome) -> None:
    assert decide(outcome, None, None, tries=1, retries=9, failures=0) == policy.STANDS


def test_retries_bounds_the_tries_after_the_first() -> None:
    again = [
        decide(Outcome.TIMEOUT, None, None, tries=tries, retries=2, failures=0).retry_in
        for tries in (1, 2, 3)
    ]
    assert again == [10.0, 30.0, None]
    assert decide(Outcome.TIMEOUT, None, None, tries=1, retries=0, failures=0).retry_in is None


def test_the_wait_before_a_try_is_bounded() -> None:
    assert (
        decide(Outcome.TIMEOUT, None, None, tries=30, retries=99, failures=0).retry_in
        == policy.MAX_RETRY_DELAY
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_host_rests_as_long_as_it_asks(status: int) -> None:
    outcome = Outcome.CLIENT_ERROR if status == 429 else Outcome.SERVER_ERROR
    asked = decide(outcome, status, 120.0, tries=1, retries=2, failures=0)
    assert (asked.retry_in, asked.host_wait, asked.host_failed) == (120.0, 120.0, True)
    too_long = decide(outcome, status, 1e6, tries=1, retries=2, failures=0)
    assert (too_long.retry_in, too_long.host_wait) == (policy.MAX_RETRY_DELAY, policy.MAX_RETRY_DELAY)
    last = decide(outcome, status, 120.0, tries=3, retries=2, failures=0)
    assert (last.retry_in, last.host_wait) == (None, 120.0)


def test_retry_after_of_a_host_that_is_not_busy_says_nothing() -> None:
    assert decide(Outcome.OK, 200, 120.0, tries=1, retries=2, failures=0) == policy.STANDS
    assert decide(Outcome.SERVER_ERROR, 500, 120.0, tries=1, retries=2, failures=0).retry_in == 10.0


def test_a_host_waits_twice_as_long_after_each_failure_but_not_for_ever() -> None:
    assert [backoff(failures) for failures in (1, 2, 3)] == [2.0, 4.0, 8.0]
    assert backoff(10_000) == policy.MAX_HOST_BACKOFF


def test_the_delay_in_force_is_the_largest_of_three() -> None:
    assert delay_in_force(1.0, 0.0, ()) == 1.0
    assert delay_in_force(1.0, 5.0, ()) == 5.0
    assert delay_in_force(1.0, 5000.0, ()) == 60.0
    assert delay_in_force(1.0, 0.0, (100, 3000, 9000)) == 3.0
    assert delay_in_force(1.0, 0.0, (90_000,)) == 30.0
    assert delay_in_force(10.0, 5.0, (3000,)) == 10.0


def test_a_delay_of_nothing_turns_response_times_off_but_not_robots() -> None:
    assert delay_in_force(0.0, 0.0, (5000,)) == 0.0
    assert delay_in_force(0.0, 2.0, (5000,)) == 2.0


def test_a_lease_is_about_twenty_seconds_of_work() -> None:
    assert lease_size(1.0, 1) == 20
    assert lease_size(60.0, 1) == 1
    assert lease_size(0.0, 1) == 8
    assert lease_size(1.0, 4) == 64
    assert lease_size(0.0, 10_000) == policy.MAX_LEASE_REQUESTS


def test_an_unreachable_robots_txt_is_tried_five_times_within_an_hour() -> None:
    assert len(policy.ROBOTS_WAITS) + 1 == 5, "tries, with a wait between each two"
    assert sum(policy.ROBOTS_WAITS) == 3600
