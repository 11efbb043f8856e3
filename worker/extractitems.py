"""From what an extractor yields to a line of `items/NAME`: which file it belongs to, and its JSON.

An item is a mapping, a dataclass, or an object of pydantic, msgspec or attrs, told by what it has, so none of them
is needed here. Its class names its file: `MovieReview` lands in items/movie_review; a mapping in items/items, or where
its `_type` says, which is then left out of the line.

Beside its fields a line says where it came from: `url` and `fetched_at` of the page. An item that has a field of that
name keeps it; the page's is then called `page_url`, `page_fetched_at`. Values that JSON lacks: dates and times as ISO
8601, decimals and paths as text, enums as their value, sets and tuples as lists. Pure.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

USUAL_NAME: Final = "items"
"""Of the items that say nothing of their kind."""

TYPE_KEY: Final = "_type"
"""Of a mapping: the name of its kind."""

MAX_NAME: Final = 64

_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class NotAnItem(TypeError):
    """What was yielded cannot be a line."""


def name_of(text: str) -> str:
    """A name as a file can have it: letters, digits and `_.-`, not beginning with a point, at most MAX_NAME."""
    return _UNSAFE.sub("_", text).strip(".-")[:MAX_NAME] or USUAL_NAME


def snake_case(name: str) -> str:
    """`MovieReview` as `movie_review`."""
    return _WORDS.sub("_", name).lower()


def line_of(item: object, url: str, fetched_at: str) -> tuple[str, bytes]:
    """(name, JSON without a line end) of an item of a page. Raises NotAnItem."""
    fields = _fields(item)
    if fields is None:
        raise NotAnItem(
            f"yielded {_shown(item)}: expected a dict, a dataclass or the like, or page.follow(...)"
        )
    name = snake_case(type(item).__name__)
    if isinstance(item, Mapping):
        fields = dict(fields)
        name = str(fields.pop(TYPE_KEY, USUAL_NAME))
    line = {
        "page_url" if "url" in fields else "url": url,
        "page_fetched_at" if "fetched_at" in fields else "fetched_at": fetched_at,
    }
    line.update((str(key), value) for key, value in fields.items())
    try:
        text = _to_json(line)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotAnItem(f"an item of {name_of(name)} is no JSON: {error}") from None
    return name_of(name), text.encode("utf-8", "backslashreplace")


def _fields(item: object) -> Mapping[str, Any] | None:
    """An item's fields; None: it is no item."""
    if isinstance(item, Mapping):
        return item
    if isinstance(item, type):
        return None
    dump = getattr(item, "model_dump", None)
    if callable(dump):  # pydantic
        dumped: dict[str, Any] = dump(mode="json")
        return dumped
    if dataclasses.is_dataclass(item):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    names: Iterable[str] | None = getattr(item, "__struct_fields__", None)  # msgspec
    if names is None:
        names = [each.name for each in getattr(type(item), "__attrs_attrs__", ())] or None  # attrs
    return None if names is None else {name: getattr(item, name) for name in names}


def _plain(value: object) -> object:
    """What JSON knows in place of a value that it does not. Raises TypeError."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | PurePath):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    fields = _fields(value)
    if fields is not None:
        return dict(fields)
    if type(value).__name__ in ("Selector", "SelectorList"):
        raise TypeError(f"{_shown(value)} is selected, not taken: end it with .get() or .getall()")
    raise TypeError(f"{_shown(value)} has no form in JSON")


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:60]}{'...' if len(text) > 60 else ''}, a {type(value).__name__},"


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode
