"""The evening's script: what a good engineer writes in an evening instead of installing a crawler.

aiohttp, selectolax, uvloop, one process, a queue and so many workers; the URL and the title of each page go
to a file. It stores nothing else, survives nothing, waits for nobody. It stands here to be measured, as
honestly as it would be written: `python evening.py START DOMAIN OUT`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TextIO
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult
from selectolax.lexbor import LexborHTMLParser

WORKERS = 200
PER_HOST = 8


class Loopback(AbstractResolver):
    """Every name is here: the one thing in this script that the benchmark asks for."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class Crawl:
    def __init__(self, session: aiohttp.ClientSession, domain: str, out: TextIO) -> None:
        self.session = session
        self.domain = domain
        self.out = out
        self.seen: set[str] = set()
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def add(self, url: str) -> None:
        if url not in self.seen:
            self.seen.add(url)
            self.queue.put_nowait(url)

    async def work(self) -> None:
        while True:
            url = await self.queue.get()
            try:
                await self.visit(url)
            except (aiohttp.ClientError, TimeoutError) as error:
                print(url, error, file=sys.stderr)
            finally:
                self.queue.task_done()

    async def visit(self, url: str) -> None:
        async with self.session.get(url) as response:
            if response.status != 200 or response.content_type != "text/html":
                return
            body = await response.read()
        tree = LexborHTMLParser(body)
        title = tree.css_first("title")
        self.out.write(f"{url}\t{title.text(strip=True) if title else ''}\n")
        for href in {node.attributes.get("href") for node in tree.css("a[href]")}:
            target = urldefrag(urljoin(url, href)).url
            parts = urlsplit(target)
            if parts.scheme in ("http", "https") and (parts.hostname or "").endswith(self.domain):
                self.add(target)


async def main(start: str, domain: str, out: Path) -> None:
    connector = aiohttp.TCPConnector(
        limit=WORKERS, limit_per_host=PER_HOST, resolver=Loopback(), ttl_dns_cache=3600
    )
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        with out.open("w", encoding="utf-8") as file:
            crawl = Crawl(session, domain, file)
            crawl.add(start)
            workers = [asyncio.create_task(crawl.work()) for _ in range(WORKERS)]
            await crawl.queue.join()
            for worker in workers:
                worker.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
