"""Every outcome has one code that never changes and one state; the names are the contract's."""

from __future__ import annotations

import pytest

from common.outcome import OUTCOMES, Outcome, State

FETCHED = "OK REDIRECT NOT_MODIFIED CLIENT_ERROR SERVER_ERROR TRUNCATED TOO_LARGE"
FAILED = "TIMEOUT DNS TLS REFUSED RESET PROTOCOL PROXY TOO_MANY_REDIRECTS HOST_UNREACHABLE ROBOTS_UNREACHABLE POISON"
EXCLUDED = "ROBOTS_DENIED PRIVATE_ADDRESS TYPE_REJECTED UNSUPPORTED TRAP LIMIT OPERATOR"


@pytest.mark.parametrize(
    ("state", "names"), [(State.FETCHED, FETCHED), (State.FAILED, FAILED), (State.EXCLUDED, EXCLUDED)]
)
def test_each_outcome_ends_in_the_state_of_the_contract(state: State, names: str) -> None:
    assert {outcome.value for outcome in OUTCOMES if outcome.state is state} == set(names.split())


def test_the_codes_in_the_store_never_change() -> None:
    assert [outcome.value for outcome in OUTCOMES] == f"{FETCHED} {FAILED} {EXCLUDED}".split()
    assert [outcome.code for outcome in OUTCOMES] == list(range(len(OUTCOMES)))


def test_only_what_was_fetched_has_a_record() -> None:
    assert all(outcome.has_record == (outcome.state is State.FETCHED) for outcome in Outcome)
