"""Scrapy over the same web, tuned as its documentation says for broad crawls.

Its page "Broad Crawls" names: a queue that spreads over hosts, high concurrency, more threads, log level
INFO, no cookies, no retries, no redirects. Beyond that, what a careful user finds and what made it cheaper
here: uvloop, no telnet console, referer, HTTP-auth or depth statistics, and a set of the URLs seen in the
spider, so that repeats never become requests. It writes the URL and the title of each page, through a feed.
Run in an environment of its own: `python broad.py START DOMAIN OUT`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.resolver import CachingThreadedResolver
from twisted.internet import defer


class Loopback(CachingThreadedResolver):
    """Every name is here."""

    def getHostByName(self, name: str, timeout: Any = ()) -> defer.Deferred[str]:  # noqa: N802 -- Twisted's name
        return defer.succeed("127.0.0.1")


class Broad(scrapy.Spider):
    name = "broad"
    first: str
    domain: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen = {self.first}

    async def start(self) -> AsyncIterator[Any]:
        yield scrapy.Request(self.first)

    def parse(self, response: Any) -> Iterator[Any]:
        yield {"url": response.url, "title": response.css("title::text").get()}
        url = response.url
        # Cheaper than LinkExtractor, which canonicalises what the duplicate filter canonicalises again.
        for href in set(response.xpath("//a/@href").getall()):
            target = urldefrag(urljoin(url, href)).url
            parts = urlsplit(target)
            ours = parts.scheme in ("http", "https") and (parts.hostname or "").endswith(self.domain)
            if ours and target not in self.seen:
                self.seen.add(target)
                # It is new: the duplicate filter would fingerprint it once more to say so.
                yield scrapy.Request(target, dont_filter=True)


SETTINGS = {
    "SCHEDULER_PRIORITY_QUEUE": "scrapy.pqueues.DownloaderAwarePriorityQueue",
    "ASYNCIO_EVENT_LOOP": "uvloop.Loop",
    "CONCURRENT_REQUESTS": 200,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
    "DOWNLOAD_DELAY": 0,
    "REACTOR_THREADPOOL_MAXSIZE": 20,
    "LOG_LEVEL": "INFO",
    "COOKIES_ENABLED": False,
    "RETRY_ENABLED": False,
    "REDIRECT_ENABLED": False,
    "ROBOTSTXT_OBEY": False,
    "TELNETCONSOLE_ENABLED": False,
    "MEMUSAGE_ENABLED": False,
    "REFERER_ENABLED": False,
    "TWISTED_DNS_RESOLVER": "__main__.Loopback",
    "SPIDER_MIDDLEWARES": {"scrapy.spidermiddlewares.depth.DepthMiddleware": None},
    "DOWNLOADER_MIDDLEWARES": {
        "scrapy.downloadermiddlewares.httpauth.HttpAuthMiddleware": None,
        "scrapy.downloadermiddlewares.httpproxy.HttpProxyMiddleware": None,
        "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,
    },
}

if __name__ == "__main__":
    first, domain, out = sys.argv[1:]
    process = CrawlerProcess({**SETTINGS, "FEEDS": {out: {"format": "jsonlines"}}})
    process.crawl(Broad, first=first, domain=domain)
    process.start()
