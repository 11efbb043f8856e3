"""Answers that break HTTP's framing, put right as browsers do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.mending import mended

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabcdef", OK + b"Content-Length: 3\r\n\r\nabc"),
        (OK + b"content-length:0\r\n\r\nx", OK + b"content-length:0\r\n\r\n"),
        (
            OK + b"Content-Length: 3\r\nContent-Length: 3\r\nX: y\r\n\r\nabc",
            OK + b"Content-Length: 3\r\nX-Shoal-Content-Length: 3\r\nX: y\r\n\r\nabc",
        ),
        (
            OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
            OK + b"X-Shoal-Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ),
        (b"HTTP/1.0 204 No\r\n\r\nhello", b"HTTP/1.0 204 No\r\n\r\n"),
    ],
)
def test_what_browsers_put_right(answer: bytes, right: bytes) -> None:
    assert mended(answer, head_only=False) == right


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        OK,
        OK + b"Content-Length: 3\r\n",
        OK + b"Content-Length: 3\r\n\r\nabc",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        OK + b"Content-Length: 3, 3\r\n\r\nabc",
        OK + b"Content-Length: -1\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
def test_anything_else_stays_an_error(answer: bytes) -> None:
    assert mended(answer, head_only=False) is None


def test_a_body_after_head_is_cut_off() -> None:
    answer = OK + b"Content-Length: 5\r\n\r\n"
    assert mended(answer + b"hello", head_only=True) == answer
    assert mended(answer, head_only=True) is None


@given(st.binary(max_size=200), st.booleans())
def test_it_never_fails_and_never_grows_by_more_than_the_renaming(rest: bytes, head_only: bool) -> None:
    answer = OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + rest
    right = mended(answer, head_only=head_only)
    assert right is None or len(right) <= len(answer) + 8 * answer.lower().count(b"content-length")
