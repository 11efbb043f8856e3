"""A login form, the session's cookie, and the pages behind it.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    CLUB_PASSWORD=lovelace coord crawl http://club.demo.test:8000/login --no-follow --cookies \
        --extract examples/login.py:login --hosts-file demo.hosts --allow-private --delay 0.1 --out club1
    coord tail club1 items/minutes

The password stands in the environment, so that it is in no file of yours. What was sent is in the WARC, though.
"""

import os
from collections.abc import Iterator
from typing import Any

from shoal import Page


def login(page: Page) -> Iterator[Any]:
    """The form, filled in: its hidden fields as they are."""
    fields = {each.attrib["name"]: each.attrib.get("value", "") for each in page.css("form input[name]")}
    fields |= {"name": "ada", "password": os.environ["CLUB_PASSWORD"]}
    yield page.follow(page.css("form::attr(action)").get(""), method="POST", body=fields, extract=members)


def members(page: Page) -> Iterator[Any]:
    """Where the login leads: a redirect is followed with the function of its request."""
    if page.css("input[type=password]"):
        raise PermissionError("wrong name or password")  # `coord tail club1` shows it
    for link in page.css('a[href^="/members/"]'):
        yield page.follow(link, extract=minutes)


def minutes(page: Page) -> dict[str, str | None]:
    return {"_type": "minutes", "heading": page.css("h1::text").get()}
