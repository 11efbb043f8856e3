"""The index of near-duplicates: against comparing with every earlier page, at every distance it promises."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.neardup import BUCKET, MAX_DISTANCE, MAX_PAGES, NearDuplicates
from coordinator.store.kv import Overlay
from tests.support.disk import CrashableStore

HOST = "a.test"


def fresh() -> Overlay:
    return Overlay(CrashableStore())


def turned(number: int, bits: int, rng: random.Random) -> int:
    for bit in rng.sample(range(64), bits):
        number ^= 1 << bit
    return number


@pytest.mark.parametrize("distance", range(MAX_DISTANCE + 1))
def test_it_finds_what_comparing_with_all_finds(distance: int) -> None:
    rng = random.Random(distance)
    index = NearDuplicates(fresh(), distance)
    entered: list[tuple[int, str]] = []
    found = 0
    for at in range(600):
        if entered and rng.random() < 0.6:
            number = turned(rng.choice(entered)[0], rng.randint(0, distance + 3), rng)
        else:
            number = rng.getrandbits(64)
        near = [url for other, url in entered if (other ^ number).bit_count() <= distance]
        seen = index.seen(7, HOST, number, f"http://{HOST}/{at}")
        assert seen == (near[0] if near else None)
        found += bool(near)
        if not near:
            entered.append((number, f"http://{HOST}/{at}"))
    assert found > 50


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=10), st.integers(0, MAX_DISTANCE))
def test_wherever_the_bits_are(number: int, bits: set[int], distance: int) -> None:
    index = NearDuplicates(fresh(), distance)
    assert index.seen(0, HOST, number, "first") is None
    other = number ^ sum(1 << bit for bit in bits)
    assert index.seen(0, HOST, other, "second") == ("first" if len(bits) <= distance else None)


def test_a_near_duplicate_is_not_entered_so_nothing_drifts() -> None:
    index = NearDuplicates(fresh(), 3)
    assert index.seen(0, HOST, 0b0, "one") is None
    assert index.seen(0, HOST, 0b111, "two") == "one"
    assert index.seen(0, HOST, 0b111111, "three") is None  # near "two", which was left out


def test_a_page_is_no_near_duplicate_of_itself() -> None:
    index = NearDuplicates(fresh(), 3)
    assert index.seen(0, HOST, 1, "one") is None
    assert index.seen(0, HOST, 2, "one") is None
    assert index.seen(0, HOST, 1, "two") == "one"


def test_hosts_do_not_mix() -> None:
    index = NearDuplicates(fresh(), 3)
    assert index.seen(5, "a.test", 1, "http://a.test/") is None
    assert index.seen(5, "aa.test", 1, "http://aa.test/") is None
    assert index.seen(5, "a.test", 1, "http://a.test/2") == "http://a.test/"
    assert index.seen(5, "aa.test", 1, "http://aa.test/2") == "http://aa.test/"


def test_it_stands_in_the_rows_and_nowhere_else() -> None:
    rows = fresh()
    assert NearDuplicates(rows, 3).seen(1, HOST, 1, "one") is None
    assert NearDuplicates(rows, 7).seen(1, HOST, 2, "two") == "one"
    assert all(key.startswith(b"n\0\1" + HOST.encode() + b"\0") for key in rows.seal())


def test_a_host_remembers_a_bounded_number_of_pages() -> None:
    rng = random.Random(1)
    index = NearDuplicates(fresh(), 2, pages=50)
    numbers = [rng.getrandbits(64) for _ in range(120)]
    for at, number in enumerate(numbers):
        assert index.seen(0, HOST, number, f"url {at}") is None
    assert [index.seen(0, HOST, number, "again") for number in numbers[70:]] == [
        f"url {at}" for at in range(70, 120)
    ]
    assert index.seen(0, HOST, numbers[0], "again") is None  # forgotten, and entered anew


def test_a_bucket_is_bounded() -> None:
    rng = random.Random(2)
    rows = fresh()
    index = NearDuplicates(rows, 0)
    for at in range(BUCKET + 50):
        assert (
            index.seen(0, HOST, rng.getrandbits(56), f"url {at}") is None
        )  # all of them share the first byte
    assert max(len(row or b"") for row in rows.seal().values()) == BUCKET * 12
    assert BUCKET * 256 >= 2 * MAX_PAGES


@pytest.mark.parametrize("distance", [-1, 8])
def test_a_distance_that_it_cannot_keep_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match=f"{distance}; must be 0 to 7 bits"):
        NearDuplicates(fresh(), distance)
