"""Leases: who holds what until when, and that the worker's clock always runs out first."""

from __future__ import annotations

import pytest

from common.messages import LeaseId, Request
from coordinator.leases import STALLED_AFTER, STALLED_DELAYS, Leases, OpenLease

T = 30.0
ONE, TWO = b"1" * 16, b"2" * 16


def lease(number: int, *, session: bytes = ONE, requests: int = 2, now: float = 0.0) -> OpenLease:
    return OpenLease(
        LeaseId(number),
        host="a.test",
        session=session,
        local=False,
        lanes=1,
        width=1,
        delay=1.0,
        ttl=T,
        seq=0,
        requests=tuple(
            Request(f"https://a.test/{page}", 0, 0, 0, 0, "", None, None) for page in range(requests)
        ),
        now=now,
    )


@pytest.fixture
def leases() -> Leases:
    return Leases()


def test_a_lease_expires_one_per_cent_after_the_worker_thinks_so(leases: Leases) -> None:
    held = lease(1)
    leases.add(held)
    assert leases.next_deadline() == pytest.approx(T * 1.01)
    assert leases.expired(T * 1.0099) == []
    assert leases.expired(T * 1.0101) == [held]


def test_only_listed_leases_are_renewed(leases: Leases) -> None:
    first, second = lease(1), lease(2)
    leases.add(first)
    leases.add(second)
    assert leases.renew(ONE, [LeaseId(1)], 20.0) == []
    assert leases.expired(T * 1.02) == [second]
    leases.end(second)
    assert leases.expired(20.0 + T) == []
    assert leases.expired(20.0 + T * 1.02) == [first]


def test_a_renewal_names_those_that_are_not_held(leases: Leases) -> None:
    leases.add(lease(1, session=TWO))
    assert leases.renew(ONE, [LeaseId(1), LeaseId(9)], 1.0) == [LeaseId(1), LeaseId(9)]


def test_a_renewal_that_comes_late_never_shortens_a_lease(leases: Leases) -> None:
    held = lease(1)
    leases.add(held)
    leases.renew(ONE, [held.id], 10.0)
    leases.renew(ONE, [held.id], 5.0)
    assert held.deadline == pytest.approx(10.0 + T * 1.01)


def test_a_lease_without_progress_is_not_renewed_and_its_holder_is_told(leases: Leases) -> None:
    held = lease(1)
    leases.add(held)
    still = STALLED_AFTER * T + STALLED_DELAYS * held.delay
    assert leases.renew(ONE, [held.id], still) == []
    deadline = held.deadline
    assert leases.renew(ONE, [held.id], still + 1) == [held.id]
    assert held.deadline == deadline
    held.fetched(still + 2, None)
    assert leases.renew(ONE, [held.id], still + 3) == []


def test_a_report_that_comes_later_but_ended_earlier_does_not_win() -> None:
    held = lease(1)
    held.fetched(10.0, 1.0)
    held.fetched(11.0, 5.0)
    assert held.last_end == 9.0
    held.fetched(12.0, None)
    assert held.last_end == 9.0
    held.fetched(13.0, 0.0)
    assert held.last_end == 13.0


def test_what_has_a_result_is_not_undone(leases: Leases) -> None:
    held = lease(1, requests=3)
    leases.add(held)
    leases.close(held, 1)
    assert [request.url[-1] for request in held.undone()] == ["0", "2"]
    assert leases.requests == 2
    leases.end(held)
    assert leases.requests == 0
    assert (len(leases), leases.of(ONE), leases.get(held.id)) == (0, [], None)


def test_leases_are_found_by_their_session(leases: Leases) -> None:
    for number, session in enumerate((ONE, TWO, ONE)):
        leases.add(lease(number, session=session))
    assert [each.id for each in leases.of(ONE)] == [0, 2]
    assert [each.id for each in leases.of(TWO)] == [1]
    assert {each.id for each in leases} == {0, 1, 2}


def test_a_lease_that_ended_never_expires(leases: Leases) -> None:
    held = lease(1)
    leases.add(held)
    leases.end(held)
    assert leases.expired(1000.0) == []
    assert leases.next_deadline() is None


def test_the_row_holds_what_a_restart_needs() -> None:
    row = lease(1).to_row()
    assert (row.session, row.host, row.lanes, row.width, row.delay, row.ttl) == (ONE, "a.test", 1, 1, 1.0, T)
    assert len(row.requests) == 2
