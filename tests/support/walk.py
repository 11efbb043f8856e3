"""An independent breadth-first walk: what a crawl must find, worked out with the standard library alone.

It shares no code with Shoal: html.parser for links, urllib for URLs, http.client for fetching. One request
at a time, one host, redirects as links.
"""

from __future__ import annotations

import http.client
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

_RELATIONS: Final = {"canonical", "alternate", "next", "prev"}


class _Links(HTMLParser):
    """The outlinks of a page, as written, and its base."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.base: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value.strip() for name, value in attrs if value is not None}
        if tag == "base" and self.base is None:
            self.base = given.get("href")
        elif tag in ("a", "area") or (
            tag == "link" and _RELATIONS & set(given.get("rel", "").lower().split())
        ):
            self.found += [given["href"]] if "href" in given else []
        elif tag in ("frame", "iframe"):
            self.found += [given["src"]] if "src" in given else []
        elif tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            _, _, target = given.get("content", "").partition("=")
            self.found += [target.strip()] if target else []


def walk(start: str, *, port: int) -> dict[str, int]:
    """URL → status of all that links lead to from `start` without leaving its host."""
    host = urlsplit(start).netloc
    found: dict[str, int] = {}
    waiting = [start]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for url in waiting:
        parts = urlsplit(url)
        connection.request(
            "GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers={"Host": host}
        )
        response = connection.getresponse()
        body = response.read()
        found[url] = response.status
        for link in _outlinks(url, response, body):
            if urlsplit(link).netloc == host and link not in found:
                found[link] = 0
                waiting.append(link)
    connection.close()
    return found


def _outlinks(url: str, response: http.client.HTTPResponse, body: bytes) -> list[str]:
    location = response.headers.get("Location")
    if 300 <= response.status < 400 and location:
        return [urldefrag(urljoin(url, location)).url]
    if not (response.headers.get("Content-Type") or "").startswith("text/html"):
        return []
    links = _Links()
    links.feed(body.decode())
    base = urljoin(url, links.base) if links.base else url
    targets = [urldefrag(urljoin(base, href)).url for href in links.found]
    return [target for target in targets if target.startswith(("http://", "https://"))]
