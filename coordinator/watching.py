"""The routes for those who watch: status, history, the live stream, metrics, and the description of all routes.

    GET /api/v1/status          what `coord status --json` prints
    GET /api/v1/history         rates by the second for ten minutes, by the minute for a day
    GET /api/v1/events          server-sent events: a status each second, and failed tries
    GET /api/v1/openapi.json    what can be asked, as OpenAPI 3.1
    GET /metrics                for Prometheus

Who may ask is control.py's to say; nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

from aiohttp import web

from coordinator import metrics
from coordinator.openapi import description
from coordinator.status import Status
from coordinator.stream import Full, Stream

SEND_SECONDS = 10.0
"""How long one event may take to be sent."""

_FRESH = {"Cache-Control": "no-store"}


class Watched(Protocol):
    """What is watched."""

    def status(self) -> Status:
        """The crawl at this moment; cheap."""

    def history(self) -> dict[str, Any]:
        """How it went, as columns for charts; called from a thread beside the loop's."""


class Watching:
    """The routes. `add_to` a router, then `close` before the server is closed."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._stream = Stream(watched.status)

    def add_to(self, router: web.UrlDispatcher, api: str) -> None:
        """Add the routes; `api` is what their paths begin with."""
        router.add_get(f"{api}/status", self._status)
        router.add_get(f"{api}/history", self._history)
        router.add_get(f"{api}/events", self._events)
        router.add_get(f"{api}/openapi.json", self._openapi)
        router.add_get("/metrics", self._metrics)

    async def close(self) -> None:
        """End the streams."""
        await self._stream.close()

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._watched.status().to_json(), headers=_FRESH)

    async def _history(self, request: web.Request) -> web.Response:
        # When a day is kept, some 30 ms and 180 KB: not in the loop.
        text = await asyncio.to_thread(lambda: json.dumps(self._watched.history()))
        return web.json_response(text=text, headers=_FRESH)

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(description())

    async def _metrics(self, request: web.Request) -> web.Response:
        text = metrics.text(self._watched.status())
        return web.Response(body=text.encode(), headers=_FRESH | {"Content-Type": metrics.CONTENT_TYPE})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        events = self._stream.listen()
        try:
            first = await anext(events)
        except Full:
            return web.json_response({"error": "too many listen already; close one"}, status=503)
        answer = web.StreamResponse(headers=_FRESH | {"Content-Type": "text/event-stream; charset=utf-8"})
        try:
            await answer.prepare(request)
            await answer.write(first.encode())
            async for event in events:
                async with asyncio.timeout(SEND_SECONDS):
                    await answer.write(event.encode())
        except (TimeoutError, ConnectionResetError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await events.aclose()
        return answer
