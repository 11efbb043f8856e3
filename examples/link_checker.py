"""A link checker: the links of a site that lead nowhere, and the pages on which they stand.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    SHOAL_HOSTS_FILE=demo.hosts SHOAL_ALLOW_PRIVATE=all python examples/link_checker.py http://guide.demo.test:8000/

Its exit code is 1 when there are any."""

import asyncio
import json
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from shoal import Crawl, Page

BROKEN = {"CLIENT_ERROR", "SERVER_ERROR", "DNS", "REFUSED", "TLS", "TIMEOUT", "TOO_MANY_REDIRECTS"}


def links(page: Page) -> Iterator[object]:
    """Pages of the site are read, those of others asked for by HEAD alone, which has no links."""
    for link in page.links:
        own = urlsplit(link).netloc == urlsplit(page.url).netloc
        yield page.follow(link, method="GET" if own else "HEAD")


async def check(site: str) -> int:
    places: dict[str, list[str]] = {}
    async with Crawl(site, no_follow=True, scope="any", extract=f"{__file__}:links", store="links") as crawl:
        broken = {page.url: page async for page in crawl if page.outcome in BROKEN}
        for file in crawl.out.glob("links/*.jsonl"):
            for link in map(json.loads, file.read_text().splitlines()):
                places.setdefault(link["to"], []).append(link["from"])
    for url, page in sorted(broken.items()):
        print(f"{page.status or page.outcome} {url}", *places.get(url, ()), sep="\n    on ")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(check(sys.argv[1])))
