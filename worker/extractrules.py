"""`[extract.NAME]` tables at work: items from selectors, without code.

    css:h1               the text of the first element, white space collapsed
    css:img::attr(src)   an attribute, or ::text, as it is
    xpath://h1/@id       what the expression gives; of an element its text
    re:([0-9.]+) EUR     the first group, or the whole

A field in brackets is a list of all that is found, else it is the first, or null. With `each` every element that it
finds is an item, in which css and xpath look within the element (write `.//`), and re in its HTML. An item without any
value is none. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from common.extractors import ExtractRule, Field
from worker.extractitems import TYPE_KEY
from worker.extractpage import Page

if TYPE_CHECKING:
    from parsel import Selector


class Rules:
    """The tables of one crawl."""

    def __init__(self, rules: Sequence[ExtractRule]) -> None:
        """Raises UsageError where a selector cannot be."""
        self._rules = [(rule, None if rule.match is None else re.compile(rule.match)) for rule in rules]
        for rule in rules:
            _try(rule)

    def items(self, page: Page) -> Iterator[dict[str, Any]]:
        """What they make of a page."""
        for rule, match in self._rules:
            if match is not None and match.search(page.url) is None:
                continue
            if rule.each is None:
                found: list[Selector | Page] = [page]
            else:
                found = list(_select(page, rule.each))
            for place in found:
                item = {field.name: _value(place, field) for field in rule.fields}
                if any(value not in (None, []) for value in item.values()):
                    yield {**item, TYPE_KEY: rule.name}


def _select(place: Selector | Page, selector: str) -> Sequence[Selector]:
    kind, _, expression = selector.partition(":")
    return (
        place.xpath(expression) if kind == "xpath" else place.css(expression if kind == "css" else selector)
    )


def _value(place: Selector | Page, field: Field) -> object:
    found: list[str] = []
    for selector in field.selectors:
        kind, _, expression = selector.partition(":")
        if kind == "re":
            found += _searched(place, expression, first=not field.many)
        else:
            selected = _select(place, selector)
            found += [_text(each) for each in (selected if field.many else selected[:1])]
        if found and not field.many:
            return found[0]
    return found if field.many else None


def _searched(place: Selector | Page, pattern: str, *, first: bool) -> list[str]:
    text = place.text if isinstance(place, Page) else place.get()
    found = []
    for match in re.finditer(pattern, text):
        found.append(match[1] if match.re.groups and match[1] is not None else match[0])
        if first:
            break
    return found


def _text(selected: Selector) -> str:
    """Of an element its text, of anything else what it is."""
    root: Any = selected.root
    if isinstance(root, str):
        return root
    try:
        return " ".join("".join(root.itertext()).split())
    except AttributeError:  # a number or a truth value that an XPath gave
        return str(selected.get())


def _try(rule: ExtractRule) -> None:
    """Every selector of a table, on an empty page: a wrong one is told at the start."""
    empty = Page("http://a.test/", body=b"<p>")
    selectors = [(field.name, selector) for field in rule.fields for selector in field.selectors]
    if rule.each is not None:
        selectors.append(("each", rule.each))
    for name, selector in selectors:
        if selector.startswith("re:"):
            continue
        try:
            _select(empty, selector)
        except Exception as error:  # noqa: BLE001  three libraries have errors of their own for this
            text = " ".join(str(error).split())[:200]
            raise UsageError(f"[extract.{rule.name}] {name}: {selector!r}: {text}") from None
