"""Page sets of the demo web that the examples are written for, each on a host of its own: no other page links to them.

    poems.demo.test/list_1.html    a list of poems in six pages, in GBK; a link to the next page
    films.demo.test/               a list of films in two pages, each with a page of its own: title, date, poster
    api.demo.test/books            JSON: twenty books at a time, and the cursor of the next ones
    museum.demo.test/              rooms, and what their pages load: from here and from static.demo.test
    guide.demo.test/               a guide with links that lead nowhere, here and on away.demo.test
    gallery, tv, media             pictures and videos: media.py

Everything follows from the lists below, as in web.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Final

from shoal.demo.media import media
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

ROOMS: Final = ("bells", "maps", "lanterns")

REQUISITES: Final = (
    ("museum.demo.test", "/favicon.ico"),
    *(("museum.demo.test", f"/{room}-{width}.jpg") for room in ROOMS for width in (400, 800)),
    ("museum.demo.test", "/tour.mp4"),
    ("static.demo.test", "/museum.css"),
    ("static.demo.test", "/fonts/old.woff2"),
    ("static.demo.test", "/paper.png"),
    ("static.demo.test", "/museum.js"),
)
"""What the museum's pages load, the styles' own images and fonts included."""

BROKEN: Final = {
    ("guide.demo.test", "/harbuor"): (404, ["/", "/sights"]),
    ("guide.demo.test", "/ferry/2019"): (410, ["/ferry"]),
    ("away.demo.test", "/hotel"): (404, ["/sights"]),
}
"""Links of the guide that lead nowhere: the status, and the pages on which they stand."""


def sets(port: int) -> Iterator[tuple[Place, Answer]]:
    """Every place of the sets, and what stands there; `port`: of links from host to host."""
    yield from _poems("poems.demo.test")
    yield from _films("films.demo.test")
    yield from _books("api.demo.test")
    yield from _museum("museum.demo.test", "static.demo.test", port)
    yield from _guide("guide.demo.test", "away.demo.test", port)
    yield from media(port)


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


def _museum(host: str, static: str, port: int) -> Iterator[tuple[Place, Answer]]:
    head = (
        f'<link rel=stylesheet href="//{static}:{port}/museum.css"><link rel=icon href="/favicon.ico">'
        f'<script src="//{static}:{port}/museum.js"></script>'
    )
    rooms = "".join(f'<li><a href="/rooms/{room}">{room}</a>' for room in ROOMS)
    away = f'<a href="http://away.demo.test:{port}/">Our friends</a>'
    yield (
        (host, "/"),
        _html(f"<title>Museum</title>{head}<ul>{rooms}</ul><video src=/tour.mp4></video>{away}"),
    )
    for room in ROOMS:
        image = f'<img src="/{room}-400.jpg" srcset="/{room}-400.jpg 1x, /{room}-800.jpg 2x">'
        yield (host, f"/rooms/{room}"), _html(f'<title>{room}</title>{head}{image}<a href="/">back</a>')
    sheet = "@font-face{font-family:Old;src:url(fonts/old.woff2)} body{background:url('paper.png')}"
    types = {"ico": "image/x-icon", "jpg": "image/jpeg", "png": "image/png", "mp4": "video/mp4"}
    types |= {"css": "text/css", "js": "text/javascript", "woff2": "font/woff2"}
    for place in REQUISITES:
        ending = place[1].rpartition(".")[2]
        body = sheet.encode() if ending == "css" else f"/* {place[1]} */".encode()
        yield place, Answer(200, {"Content-Type": types[ending]}, body)


def _guide(host: str, away: str, port: int) -> Iterator[tuple[Place, Answer]]:
    links = {
        "/": ["/sights", "/ferry", "/old", "/harbuor"],
        "/sights": ["/", "/harbuor", f"//{away}:{port}/hotel", f"//{away}:{port}/"],
        "/ferry": ["/", "/ferry/2019"],
    }
    for path, targets in links.items():
        text = "".join(f'<li><a href="{target}">{target}</a>' for target in targets)
        yield (host, path), _html(f"<title>Guide {path}</title><ul>{text}</ul>")
    yield (host, "/old"), Answer(301, {"Location": "/sights"})
    # Its own link is broken as well, but it is not the guide's to mend.
    yield (away, "/"), _html('<title>Away</title><a href="/nothing">nothing</a>')
    for (where, path), (status, _) in BROKEN.items():
        if status != 404:
            yield (where, path), Answer(status, {"Content-Type": "text/html"})


def _html(text: str) -> Answer:
    return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, f"<!doctype html>{text}\n".encode())
