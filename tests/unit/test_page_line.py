"""A line of `pages` is the JSON that any encoder would make of it, whatever its texts are."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from common.messages import Facts, Request
from coordinator.ledger import page_line
from coordinator.store.rows import DoneRow

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
ANY = st.text(max_size=40)
"""Lone surrogates too."""


def line(url: str, seed: str, title: str | None) -> bytes:
    request = Request(url, 3, 0, 0, 0, seed, None, None)
    facts = Facts(0, status=200, title=title, length=2**48 - 1, fetched_at=1_750_000_000.123)
    return page_line(DoneRow(request, facts, 1, None, None, None, (), ()))


@given(TEXTS, TEXTS, st.none() | TEXTS)
def test_it_is_what_the_standard_encoder_makes(url: str, seed: str, title: str | None) -> None:
    made = line(url, seed, title)
    assert made == json.dumps(json.loads(made), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    found = json.loads(made)
    assert (found["url"], found["seed"], found["title"], found["length"]) == (url, seed, title, 2**48 - 1)


@given(ANY)
def test_a_seed_that_is_no_utf_8_has_its_line_all_the_same(seed: str) -> None:
    made = line("https://a.test/", seed, None)
    assert made.endswith(b"}\n") and made.count(b"\n") == 1
    assert json.loads(made)["url"] == "https://a.test/"
