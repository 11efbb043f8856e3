"""A JSON API in portions, each with the cursor of the next one.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    coord crawl http://api.demo.test:8000/books --no-follow --extract examples/json_api.py:books \
        --hosts-file demo.hosts --allow-private --delay 0.1 --out books1
    coord export books1 items/book --to books.jsonl
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from shoal import Page


def books(page: Page) -> Iterator[Any]:
    answer = page.json()
    for book in answer["books"]:
        yield {"_type": "book", **book}
    if answer["next"]:
        yield page.follow("?" + urlencode({"cursor": answer["next"]}))
