"""A list of films, each film's own page, and there its title, date and poster.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    coord crawl http://films.demo.test:8000/ --no-follow --extract examples/movies.py:films \
        --hosts-file demo.hosts --allow-private --delay 0.1 --out films1
    coord export films1 items/movie --to movies.csv
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from shoal import Page


@dataclass
class Movie:
    rank: int
    title: str
    released: date
    poster: str


def films(page: Page) -> Iterator[Any]:
    """The list: what it knows of a film goes along to the film's page."""
    before = page.carry or 0
    links = page.css("a.film")
    for rank, link in enumerate(links, before + 1):
        yield page.follow(link, extract=film, carry=rank)
    for link in page.css("a[rel=next]"):
        yield page.follow(link, carry=before + len(links))


def film(page: Page) -> Movie:
    poster = page.urljoin(page.css("img.poster::attr(src)").get(""))
    released = date.fromisoformat(page.css("time::attr(datetime)").get(""))
    return Movie(page.carry, page.css("h1::text").get(""), released, poster)
