"""A list in several pages, in GBK: the titles and authors of each page by XPath, and on to the next page.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    coord crawl http://poems.demo.test:8000/list_1.html --no-follow --extract examples/paginated_list.py:poems \
        --hosts-file demo.hosts --allow-private --delay 0.1 --out poems1
    coord tail poems1 items/items
"""

from collections.abc import Iterator
from typing import Any

from shoal import Page


def poems(page: Page) -> Iterator[Any]:
    """The charset is found as browsers find it: here a `meta` says it."""
    for poem in page.xpath('//li[@class="poem"]'):
        yield {
            "title": poem.xpath("string(b)").get(),
            "author": poem.xpath("string(i)").get(),
        }
    for link in page.xpath('//a[@class="next"]'):
        yield page.follow(link)
