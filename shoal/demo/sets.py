"""Page sets of the demo web that the examples are written for, each on a host of its own: no other page links to them.

    poems.demo.test/list_1.html    a list of poems in six pages, in GBK; a link to the next page
    films.demo.test/               a list of films in two pages, each with a page of its own: title, date, poster
    api.demo.test/books            JSON: twenty books at a time, and the cursor of the next ones

Everything follows from the lists below, as in web.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Final

from shoal.demo.server import Answer

Place = tuple[str, str]

_FIRST: Final = ("春", "秋", "夜", "江", "山", "雪", "月", "风")
_SECOND: Final = ("晓", "思", "雨", "行", "居", "望")
_AUTHORS: Final = ("李白", "杜甫", "王维", "孟浩然", "白居易")
POEMS: Final = tuple((first + second, _AUTHORS[n % 5]) for n, (first, second) in enumerate(
    (first, second) for second in _SECOND for first in _FIRST
))  # fmt: skip
"""(title, author): 48 of them, eight to a page."""

_NOUNS: Final = ("Harbour", "Lantern", "Orchard", "Winter", "Bridge", "Clock")
_FORMS: Final = ("The Last {}", "{} of Glass", "A {} in the North", "Beyond the {}")
FILMS: Final = tuple(
    (form.format(noun), f"{1960 + 2 * n}-{n % 12 + 1:02d}-{n + 3:02d}")
    for n, (form, noun) in enumerate((form, noun) for form in _FORMS for noun in _NOUNS)
)
"""(title, date): 24 of them, twelve to a page."""

BOOKS: Final = tuple({"id": n, "title": f"Volume {n}", "price": 3 + n / 4} for n in range(1, 91))
"""Twenty to an answer."""


def sets() -> Iterator[tuple[Place, Answer]]:
    """Every place of the sets, and what stands there."""
    yield from _poems("poems.demo.test")
    yield from _films("films.demo.test")
    yield from _books("api.demo.test")


def _poems(host: str) -> Iterator[tuple[Place, Answer]]:
    pages = range(0, len(POEMS), 8)
    for number, start in enumerate(pages, 1):
        rows = "\n".join(
            f'<li class="poem"><b>{title}</b> <i>{author}</i></li>'
            for title, author in POEMS[start : start + 8]
        )
        more = f'<a class="next" href="list_{number + 1}.html">下一页</a>' if number < len(pages) else ""
        text = f'<!doctype html><meta charset="gbk"><title>唐诗 {number}</title>\n<ul>\n{rows}\n</ul>{more}\n'
        yield (host, f"/list_{number}.html"), Answer(200, {"Content-Type": "text/html"}, text.encode("gbk"))


def _films(host: str) -> Iterator[tuple[Place, Answer]]:
    for page, start in enumerate((0, 12)):
        rows = "\n".join(
            f'<li><a class="film" href="/film/{number + 1}">{escape(FILMS[number][0])}</a></li>'
            for number in range(start, start + 12)
        )
        more = '<a rel="next" href="/?page=2">more</a>' if not page else ""
        yield (host, "/?page=2" if page else "/"), _html(f"<title>Films</title><ol>{rows}</ol>{more}")
    for number, (title, date) in enumerate(FILMS, 1):
        yield (
            (host, f"/film/{number}"),
            _html(
                f"<title>{escape(title)}</title><h1>{escape(title)}</h1>"
                f'<time datetime="{date}">{date[:4]}</time><img class="poster" src="/posters/{number}.jpg">'
                '<a href="/">all films</a>'
            ),
        )


def _books(host: str) -> Iterator[tuple[Place, Answer]]:
    starts = range(0, len(BOOKS), 20)
    cursors = ["", *(sha256(str(start).encode()).hexdigest()[:12] for start in starts[1:])]
    for number, start in enumerate(starts):
        following = cursors[number + 1] if number + 1 < len(cursors) else None
        told = {"books": BOOKS[start : start + 20], "next": following}
        target = f"/books?cursor={cursors[number]}" if number else "/books"
        yield (host, target), Answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())


def _html(text: str) -> Answer:
    return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, f"<!doctype html>{text}\n".encode())
