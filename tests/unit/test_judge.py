"""From a response's status, headers and end to its outcome (worker/outcome.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.outcome import Outcome, State
from worker.outcome import Verdict, content_type, judge, retry_after


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (204, Outcome.OK),
        (304, Outcome.NOT_MODIFIED),
        (404, Outcome.CLIENT_ERROR),
        (429, Outcome.CLIENT_ERROR),
        (500, Outcome.SERVER_ERROR),
        (503, Outcome.SERVER_ERROR),
    ],
)
def test_the_status_decides(status: int, outcome: Outcome) -> None:
    assert judge(status) == Verdict(outcome)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_leads_to_its_location(status: int) -> None:
    assert judge(status, location=" /next ") == Verdict(Outcome.REDIRECT, None, "/next")


@pytest.mark.parametrize("location", [None, "", " \t"])
def test_a_redirect_without_a_location_leads_nowhere_and_says_so(location: str | None) -> None:
    assert judge(301, location=location) == Verdict(Outcome.REDIRECT, "no_location")


def test_a_server_may_not_choose_our_proxy() -> None:
    assert judge(305, location="http://proxy.test/") == Verdict(Outcome.REDIRECT, "use_proxy")


@pytest.mark.parametrize("status", [101, 600, 999])
def test_a_status_of_no_known_class_counts_as_the_servers_error(status: int) -> None:
    assert judge(status) == Verdict(Outcome.SERVER_ERROR, "bad_status")


def test_a_body_cut_short_makes_an_ok_page_truncated_or_too_large() -> None:
    assert judge(200, truncated="disconnect") == Verdict(Outcome.TRUNCATED, "disconnect")
    assert judge(200, truncated="time") == Verdict(Outcome.TRUNCATED, "time")
    assert judge(200, truncated="length") == Verdict(Outcome.TOO_LARGE, "length")
    assert judge(200, inflated_too_large=True) == Verdict(Outcome.TOO_LARGE, "inflated")
    assert judge(404, truncated="disconnect").outcome is Outcome.CLIENT_ERROR
    assert judge(301, location="/x", truncated="time").location == "/x"


def test_a_body_that_cannot_be_decoded_is_a_reason_and_no_outcome() -> None:
    assert judge(200, inflate_error="gzip: the stream ends early") == Verdict(Outcome.OK, "encoding")


@given(st.integers(0, 2000), st.none() | st.text())
def test_every_response_is_fetched_whatever_its_status(status: int, location: str | None) -> None:
    verdict = judge(status, location=location)
    assert verdict.outcome.state is State.FETCHED
    assert verdict.location is None or verdict.outcome is Outcome.REDIRECT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (None, None)),
        ("text/html", ("text/html", None)),
        ("Text/HTML; Charset=UTF-8", ("text/html", "UTF-8")),
        ('text/html;charset="gb2312"', ("text/html", "gb2312")),
        ("text/html; boundary=x; charset=utf-8; q=1", ("text/html", "utf-8")),
        ("text/html; charset=", ("text/html", None)),
        ("text/html, text/html; charset=koi8-r", ("text/html", "koi8-r")),
        ("; charset=utf-8", (None, "utf-8")),
        ("html", (None, None)),
        ("", (None, None)),
    ],
)
def test_content_type(value: str | None, expected: tuple[str | None, str | None]) -> None:
    assert content_type(value) == expected


@given(st.text())
def test_content_type_never_raises(value: str) -> None:
    content_type(value)


def test_retry_after_in_seconds_and_as_a_date() -> None:
    now = 1_767_323_045.0  # Fri, 02 Jan 2026 03:04:05 GMT
    assert retry_after("120", now) == 120
    assert retry_after("Fri, 02 Jan 2026 03:05:05 GMT", now) == 60
    assert retry_after("Friday, 02-Jan-26 03:05:05 GMT", now) == 60
    assert retry_after("Fri Jan  2 03:05:05 2026", now) == 60
    assert retry_after("Fri, 02 Jan 2015 03:05:05 GMT", now) == 0
    for neither in (None, "", "soon", "-5", "1.5", "²"):
        assert retry_after(neither, now) is None


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    retry_after(value, 0.0)
