"""Content-codings: everything comes out, nothing comes out beyond the limit, nothing raises."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.inflate import inflate

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1 << 20


def bare_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(body) + stream.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}

MIXED = random.Random(1).randbytes(60_000) + b"abc" * 20_000
ENCODED = {coding: encode(MIXED) for coding, encode in ENCODERS.items()}
each_coding = pytest.mark.parametrize("coding", ENCODERS)


@given(st.binary(max_size=5000), st.sampled_from(sorted(ENCODERS)), st.integers(0, 6000))
def test_what_was_encoded_comes_out_up_to_the_limit(body: bytes, coding: str, limit: int) -> None:
    inflated = inflate(ENCODERS[coding](body), coding, limit)
    assert inflated.body == body[:limit]
    assert inflated.truncated == (len(body) > limit)
    assert inflated.error is None


@given(st.binary(max_size=2000), st.lists(st.sampled_from(sorted(ENCODERS)), max_size=3))
def test_stacked_codings_are_undone_from_the_last_to_the_first(body: bytes, codings: list[str]) -> None:
    payload = body
    for coding in codings:
        payload = ENCODERS[coding](payload)
    assert inflate(payload, ", ".join(codings), LIMIT).body == body


@given(
    st.binary(max_size=300), st.sampled_from([*sorted(ENCODERS), "identity", "what", ""]), st.integers(0, 500)
)
def test_nothing_raises_and_nothing_exceeds_the_limit_whatever_the_payload(
    payload: bytes, coding: str, limit: int
) -> None:
    assert len(inflate(payload, coding, limit).body) <= limit


@given(st.integers(0, len(MIXED)), st.sampled_from(sorted(ENCODERS)))
def test_a_stream_cut_off_gives_what_could_be_decoded(cut: int, coding: str) -> None:
    whole = ENCODED[coding]
    inflated = inflate(whole[:cut], coding, LIMIT)
    assert MIXED.startswith(inflated.body)
    assert (inflated.error is None) == (cut == 0 or cut >= len(whole) or inflated.body == MIXED)


def test_a_gzip_cut_off_gives_nearly_all_that_had_arrived() -> None:
    payload = ENCODED["gzip"]
    inflated = inflate(payload[:30_000], "gzip", LIMIT)
    assert len(inflated.body) > 29_000
    assert inflated.error == "gzip: the stream ends early"


@pytest.mark.parametrize(("coding", "trailer"), [("gzip", 8), ("deflate", 4)])
def test_a_broken_stream_gives_what_comes_before_the_break(coding: str, trailer: int) -> None:
    payload = bytearray(ENCODED[coding])
    payload[-trailer:] = b"\0" * trailer  # the checksum
    inflated = inflate(bytes(payload), coding, LIMIT)
    assert inflated.body == MIXED
    assert inflated.error is not None


@each_coding
def test_a_bomb_costs_the_limit_and_not_its_size(coding: str) -> None:
    bomb = ENCODERS[coding](b"\0" * (1 << 24))
    tracemalloc.start()
    try:
        inflated = inflate(bomb, coding, LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert inflated.body == b"\0" * LIMIT
    assert inflated.truncated
    assert inflated.error is None
    assert peak < 8 * LIMIT


def test_a_bomb_within_a_bomb_is_bounded_at_each_stage() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * (1 << 24)))
    assert len(inflate(bomb, "gzip, gzip", LIMIT).body) == LIMIT


@each_coding
def test_exactly_the_limit_is_not_truncated(coding: str) -> None:
    inflated = inflate(ENCODED[coding], coding, len(MIXED))
    assert inflated.body == MIXED
    assert not inflated.truncated


@each_coding
def test_bytes_behind_the_end_are_ignored(coding: str) -> None:
    inflated = inflate(ENCODED[coding] + b"\r\n<!-- served in 3 ms -->", coding, LIMIT)
    assert inflated.body == MIXED
    assert inflated.error is None


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_body(coding: str) -> None:
    encode = ENCODERS[coding]
    inflated = inflate(encode(b"one ") + encode(b"two ") + encode(b"three"), coding, LIMIT)
    assert inflated.body == b"one two three"


def test_many_members_stop_at_the_limit() -> None:
    inflated = inflate(gzip.compress(b"12345678") * 1000, "gzip", 100)
    assert inflated.body == (b"12345678" * 13)[:100]
    assert inflated.truncated


def test_deflate_is_understood_with_and_without_its_zlib_wrapping() -> None:
    assert inflate(zlib.compress(MIXED), "deflate", LIMIT).body == MIXED
    assert inflate(bare_deflate(MIXED), "deflate", LIMIT).body == MIXED


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "aws-chunked", "none", "UTF-8"])
def test_html_under_a_false_header_is_taken_as_it_is_with_an_error(coding: str) -> None:
    page = b"<!DOCTYPE html><title>Plain</title>" * 50
    inflated = inflate(page, coding, LIMIT)
    assert inflated.body == page
    assert inflated.error is not None


@pytest.mark.parametrize("codings", [None, "", "identity", " , identity"])
def test_without_a_coding_the_body_is_not_copied(codings: str | None) -> None:
    assert inflate(MIXED, codings, LIMIT).body is MIXED


def test_names_of_codings_are_case_insensitive() -> None:
    assert inflate(gzip.compress(b"x"), " GZip ", LIMIT).body == b"x"


def test_more_codings_than_anybody_stacks_are_refused() -> None:
    inflated = inflate(b"x", "gzip, gzip, gzip, gzip", LIMIT)
    assert inflated.body == b"x"
    assert inflated.error == "4 content-codings stacked"


def test_a_zstd_frame_that_asks_for_a_huge_window_is_refused() -> None:
    option = zstd.CompressionParameter
    stream = zstd.ZstdCompressor(options={option.window_log: 27})
    frame = stream.compress(b"a" * 100) + stream.flush()
    assert inflate(frame, "zstd", LIMIT).error is not None
