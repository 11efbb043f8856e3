"""What extractors yield, as lines: whatever makes items, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from worker.extractitems import NotAnItem, line_of, name_of, snake_case

URL, AT = "https://a.test/", "2026-05-01T12:00:00.250Z"


class Colour(Enum):
    RED = "red"


@dataclass
class MovieReview:
    title: str
    stars: Decimal
    colour: Colour


class Model:
    """What pydantic's objects have."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"a": 1}


class Struct:
    """What msgspec's have."""

    __struct_fields__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, None


def line(item: object) -> tuple[str, dict[str, Any]]:
    name, text = line_of(item, URL, AT)
    return name, json.loads(text)


def test_a_dict_says_where_it_came_from_and_lands_in_items() -> None:
    assert line({"title": "Ä"}) == ("items", {"url": URL, "fetched_at": AT, "title": "Ä"})


def test_a_type_names_the_file_and_is_left_out_of_the_line() -> None:
    assert line({"_type": "Film/2", "n": 1}) == ("Film_2", {"url": URL, "fetched_at": AT, "n": 1})


def test_a_class_names_the_file_in_snake_case() -> None:
    assert line(MovieReview("x", Decimal("4.5"), Colour.RED)) == (
        "movie_review",
        {"url": URL, "fetched_at": AT, "title": "x", "stars": "4.5", "colour": "red"},
    )
    assert [snake_case(name) for name in ("HTTPPage", "Book", "ISBN13Number")] == [
        "http_page",
        "book",
        "isbn13_number",
    ]


def test_objects_are_told_by_what_they_have_and_not_by_their_library() -> None:
    assert line(Model()) == ("model", {"url": URL, "fetched_at": AT, "a": 1})
    assert line(Struct()) == ("struct", {"url": URL, "fetched_at": AT, "a": 1, "b": None})


def test_real_libraries_yield_items() -> None:
    attrs = pytest.importorskip("attrs")
    Book = attrs.make_class("Book", ["title"])  # noqa: N806  it is a class
    assert line(Book("t")) == ("book", {"url": URL, "fetched_at": AT, "title": "t"})
    pydantic = pytest.importorskip("pydantic")
    Shelf = pydantic.create_model("Shelf", since=(date, ...))  # noqa: N806
    assert line(Shelf(since="2020-01-02"))[1]["since"] == "2020-01-02"


def test_an_items_own_url_stays_and_the_pages_is_told_beside_it() -> None:
    assert line({"url": "v.mp4", "fetched_at": 3})[1] == {
        "page_url": URL,
        "page_fetched_at": AT,
        "url": "v.mp4",
        "fetched_at": 3,
    }


def test_dates_sets_and_items_in_items_have_a_form() -> None:
    item = {
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "tags": {"b", "a"},
        "by": MovieReview("t", Decimal(1), Colour.RED),
    }
    found = line(item)[1]
    assert found["at"] == "2026-01-02T00:00:00+00:00"
    assert found["tags"] == ["a", "b"]
    assert found["by"]["title"] == "t"


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("a title", "expected a dict"),
        (7, "expected a dict"),
        (MovieReview, "expected a dict"),
        ({"a": object()}, "no form in JSON"),
        ({"a": b"bytes"}, "no form in JSON"),
        ({"a": float("nan")}, "no JSON"),
    ],
)
def test_what_cannot_be_a_line_is_said_in_a_few_words(item: object, why: str) -> None:
    with pytest.raises(NotAnItem, match=why):
        line_of(item, URL, AT)


def test_what_was_selected_but_not_taken_is_told_so() -> None:
    from parsel import Selector

    with pytest.raises(NotAnItem, match=r"end it with \.get\(\)"):
        line_of({"a": Selector(text="<p>").css("p")}, URL, AT)


def test_lone_surrogates_and_line_ends_do_not_break_a_line() -> None:
    _, text = line_of({"a": "\ud800\n\u2028"}, URL, AT)
    assert b"\n" not in text
    text.decode("utf-8")


@pytest.mark.parametrize(
    ("given", "name"),
    [("../../etc", "_.._etc"), ("", "items"), ("...", "items"), ("a b", "a_b"), ("x" * 99, "x" * 64)],
)
def test_a_name_is_made_safe(given: str, name: str) -> None:
    assert name_of(given) == name
