"""The page at `/` and the few files that it is made of, as they stand in `static/`: no build step.

    GET /                    the page
    GET /dashboard/NAME      its styles, scripts and icon; a fixed list

They hold nothing of any crawl: the page asks for that as everybody does, at /api/v1. So no token is needed for them,
and a browser could not send one with its first request. The token comes to the page behind a `#` in its address, which
a browser keeps to itself: it is in no request, no log and no Referer.

What came from the web is shown as text. `HEADERS` makes sure of it: no script and no style but ours, none written into
the page, and (`require-trusted-types-for`) no text that becomes HTML.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from aiohttp import web

STATIC: Final = Path(__file__).parent / "static"

PAGE: Final = "index.html"

HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""With every answer of the coordinator, not only with these files: what is read as a page is never more than this."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    kind: str
    tag: str


class Dashboard:
    """The routes of the page."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add them."""
        router.add_get("/", self._page)
        router.add_get("/dashboard/{name}", self._file)

    def serves(self, path: str) -> bool:
        """Whether what stands at this path is one of the page's files, which all may read."""
        return path == "/" or path.removeprefix("/dashboard/") in _names()

    async def _page(self, request: web.Request) -> web.Response:
        return _answer(request, PAGE)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _names():
            raise web.HTTPNotFound
        return _answer(request, name)


def _answer(request: web.Request, name: str) -> web.Response:
    found = _read(name)
    headers = {"Content-Type": found.kind, "ETag": found.tag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == found.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.body, headers=headers)


@cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in STATIC.iterdir() if path.suffix in _TYPES)


@cache
def _read(name: str) -> _File:
    """Read once a file: together they are some 140 KB."""
    path = STATIC / name
    body = path.read_bytes()
    return _File(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
