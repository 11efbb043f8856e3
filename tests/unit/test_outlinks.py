"""Whose outlinks are, and in what portions they go: nothing is lost, doubled or put with another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.messages import Form, LinkGroup
from common.url import CanonicalURL, host_key, slot
from worker import outlinks
from worker.outlinks import MAX_CHARACTERS, MAX_GROUPS, by_owner, is_large, portions

SLOTS = bytes(number % 3 for number in range(1024))


def group(urls: list[str], referrer: str = "r") -> LinkGroup:
    forms = tuple(Form("POST", (), url.encode(), None, 0, 0, None) for url in urls)
    return LinkGroup(referrer, "seed", 1, 0, 0, tuple(urls), forms, tuple(range(len(urls))))


def flat(groups: object) -> list[tuple[object, ...]]:
    """(referrer, url, form, lastmod) of each link."""
    return [
        (each.referrer, *link)
        for each in groups  # type: ignore[attr-defined]
        for link in zip(each.urls, each.forms, each.lastmods, strict=True)
    ]


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=5), st.integers(0, 2))
def test_each_outlink_goes_to_its_owner_with_what_belongs_to_it(numbers: list[list[int]], shard: int) -> None:
    groups = tuple(
        group([f"https://h{number}.test/" for number in each], f"r{position}")
        for position, each in enumerate(numbers)
    )
    own, foreign = by_owner(groups, SLOTS, shard)
    assert shard not in foreign
    shares = {shard: list(own), **foreign}
    for owner, parts in shares.items():
        urls = [url for part in parts for url in part.urls]
        assert {SLOTS[slot(host_key(CanonicalURL(url)))] for url in urls} <= {owner}
    assert sorted(map(str, flat(part for parts in shares.values() for part in parts))) == sorted(
        map(str, flat(groups))
    )


@given(st.lists(st.lists(st.integers(1, 400_000), max_size=12), max_size=80))
def test_portions_hold_the_same_links_in_the_same_order_within_the_bounds(sizes: list[list[int]]) -> None:
    groups = [
        LinkGroup("r", "seed", 1, 0, 0, tuple("x" * size for size in each), None, tuple(range(len(each))))
        for each in sizes
    ]
    cut = portions(groups)
    assert [(url, when) for portion, _ in cut for each in portion for url, when in _pairs(each)] == [
        pair for each in groups for pair in _pairs(each)
    ]
    for portion, size in cut:
        assert len(portion) <= MAX_GROUPS
        assert sum(len(url) for each in portion for url in each.urls) <= size <= MAX_CHARACTERS
        assert not is_large(portion)
    if len(cut) > 1:
        assert is_large(tuple(groups))


def _pairs(each: LinkGroup) -> list[tuple[str, int | None]]:
    assert each.lastmods is not None
    return list(zip(each.urls, each.lastmods, strict=True))


def test_a_link_that_is_larger_than_the_bound_passes_alone() -> None:
    form = Form("POST", (("a", "b"),), bytes(MAX_CHARACTERS), None, 0, 0, bytes(10))
    one = LinkGroup("r", "seed", 1, 0, 0, ("https://a.test/",) * 3, (None, form, None), None)
    assert [len(portion[0].urls) for portion, _ in portions([one])] == [1, 1, 1]
    assert is_large((one,))


def test_few_links_are_one_portion_as_they_are() -> None:
    one = group(["https://a.test/", "https://b.test/"])
    assert [portion for portion, _ in outlinks.portions([one])] == [(one,)]
    assert not is_large((one,))
