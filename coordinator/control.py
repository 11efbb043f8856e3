"""Watching and steering over HTTP: the REST interface of a running coordinator. calling.py is the side that asks.

    GET  /                           dashboard/: the page for people, and the files it is made of
    GET  /api/v1/status, ...         watching.py: status, history, live stream, metrics, and a description of all routes
    GET  /api/v1/why?url=URL         what became of a URL; never met: which rule refuses it
    GET  /api/v1/options             what is in force, of what `set` changes
    POST /api/v1/stop                {"now": false}
    POST /api/v1/pause               {}
    POST /api/v1/resume              {}
    POST /api/v1/add                 {"seeds": ["https://...", "/abs/file.txt", ...]}
    POST /api/v1/set                 {"options": {"delay": "2s", "deny": ["\\?", "/cart"]}, "host": "*.example.org"}
    POST /api/v1/block               {"hosts": ["a.example.org"], "undo": false}
    POST /api/v1/retry               {"outcomes": ["TIMEOUT"], "host": null}

Answers are JSON; an error is `{"error": "one line"}`. A browser on this machine can be made to send requests
here by any page it shows, so: every change needs the token of coord.json as `Authorization: Bearer`, on
loopback too; the Host must be an address, `localhost` or a name we were told (a page that rebinds its own
name to 127.0.0.1 is neither); an Origin, if there is one, must be ours; bodies must say `application/json`.
Beyond loopback reading needs the token too, but for the dashboard's own files, which hold nothing of the crawl.

Decides who may ask, and nothing of the crawl: that is behind `Steering`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from common import clock
from common.errors import ShoalError, UsageError
from common.log import get_logger
from coordinator.calling import API, is_ip, parse_address
from coordinator.dashboard import HEADERS, Dashboard
from coordinator.status import Status
from coordinator.watching import Watching

_BODY_BYTES = 4 << 20
"""Largest body: some 40,000 seeds; `call_add` sends more in several."""

HEAD_SECONDS = 20.0
"""How long a connection may be open without a whole request on it."""

BODY_SECONDS = 60.0
"""How long a body may take from its head on; 4 MiB over the slowest line that anybody crawls from."""

CONNECTIONS = 256
"""Open at a time, about: above it those without a request are cut at the next sweep."""

SWEEP_SECONDS = 1.0

log = get_logger("coordinator.control")


class Steering(Protocol):
    """What a running crawl can be asked and told; the coordinator's app is one, the tests have another."""

    def status(self) -> Status:
        """The crawl at this moment; cheap."""

    def history(self) -> dict[str, Any]:
        """How it went, as columns for charts."""

    def options(self) -> dict[str, Any]:
        """The options in force and the rules for hosts, as JSON holds them; secrets masked."""

    async def add(self, lines: list[str]) -> dict[str, Any]:
        """Admit more seeds, as given (URLs, files on the coordinator's machine, ranges); returns counts.

        Raises `UsageError` for what is no seed.
        """

    async def stop(self, now: bool) -> None:
        """End cleanly, what is in flight brought home; `now`: at once. Returns when it has begun."""

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def set_options(self, options: Mapping[str, object], host: str | None) -> dict[str, Any]:
        """Put other options in force, of all hosts or of those that a pattern matches; `UsageError` if they are
        none. Returns `changed`, a line each."""

    async def block(self, hosts: list[str], undo: bool) -> dict[str, Any]:
        """Fetch nothing more of these hosts, or again; returns `changed`, and `ending`, how many requests."""

    async def retry(self, outcomes: list[str], host: str | None) -> dict[str, Any]:
        """Queue again what ended so, of all hosts or of those that a pattern matches; returns `queued`, how many."""

    async def why(self, url: str) -> dict[str, Any] | None:
        """All that is known of a URL, met or not. None: nothing can be said of it (404)."""


def new_token() -> str:
    """A fresh token for coord.json: 192 bits, so short that the dashboard's address with it fits into 80 columns."""
    return secrets.token_urlsafe(24)


class ControlServer:
    """The REST interface. `start`, then `close`; one per coordinator."""

    def __init__(self, steering: Steering, token: str, *, names: Iterable[str] = ()) -> None:
        """`names`: further host names this machine is reached by (--advertise)."""
        self._steering = steering
        self._token = token
        self._names = {"localhost", *(name.lower() for name in names)}
        self._open_to_all = False
        """Bound beyond loopback: reading needs the token too."""
        app = web.Application(middlewares=[self._guard], client_max_size=_BODY_BYTES)
        self._watching = Watching(steering)
        self._watching.add_to(app.router, API)
        self._dashboard = Dashboard()
        self._dashboard.add_to(app.router)
        app.on_response_prepare.append(_with_headers)
        app.router.add_get(f"{API}/why", self._why)
        app.router.add_get(f"{API}/options", self._options)
        app.router.add_post(f"{API}/stop", self._stop)
        app.router.add_post(f"{API}/pause", self._pause)
        app.router.add_post(f"{API}/resume", self._resume)
        app.router.add_post(f"{API}/add", self._add)
        app.router.add_post(f"{API}/set", self._set)
        app.router.add_post(f"{API}/block", self._block)
        app.router.add_post(f"{API}/retry", self._retry)
        # Bodies as they come: a compressed one could unfold to a thousand times what it may be.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=2.0, auto_decompress=False, logger=_quiet_log()
        )
        self._quiet_since: dict[object, float] = {}
        """Connections without a request under way, and when they were first seen so."""
        self._busy: set[object] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def routes(self) -> list[web.AbstractRoute]:
        """All that can be asked."""
        return list(self._runner.app.router.routes())

    async def start(self, address: str | None = None) -> str:
        """Listen at `HOST:PORT`; None: loopback, a free port. Returns the address as this machine reaches it.

        Raises `UsageError` if the address cannot be had.
        """
        host, port = parse_address(address, "--http") if address else ("127.0.0.1", 0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise UsageError(f"--http {host}:{port}: {_why_not(error)}") from None
        self._sweeper = asyncio.create_task(self._sweep(), name="http-sweep")
        bound = self._runner.addresses[0]
        self._open_to_all = not ipaddress.ip_address(bound[0]).is_loopback
        if host not in ("", bound[0]):
            self._names.add(host.lower())
        reached = "127.0.0.1" if bound[0] == "0.0.0.0" else "[::1]" if bound[0] == "::" else bound[0]
        if ":" in reached and not reached.startswith("["):
            reached = f"[{reached}]"
        return f"{reached}:{bound[1]}"

    async def close(self) -> None:
        """Stop listening; answers under way have two seconds."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._watching.close()
        await self._runner.cleanup()

    async def _sweep(self) -> None:
        """Cut connections that ask nothing, or ask it a byte at a time: the server itself waits for a head for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = clock.now()
            open_ = [] if self._runner.server is None else self._runner.server.connections
            quiet = [connection for connection in open_ if connection not in self._busy]
            self._quiet_since = {each: self._quiet_since.get(each, now) for each in quiet}
            too_many = len(open_) - CONNECTIONS
            for position, connection in enumerate(quiet):
                if position < too_many or now - self._quiet_since[connection] > HEAD_SECONDS:
                    connection.force_close()

    # -- who may ask

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._busy.add(request.protocol)
        try:
            return await self._answer(request, handler)
        finally:
            self._busy.discard(request.protocol)
            self._quiet_since.pop(request.protocol, None)

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            log.info(
                "control.refused", path=request.path, peer=request.remote, status=refusal[0], why=refusal[1]
            )
            return _error(*refusal)
        try:
            return await handler(request)  # aiohttp passes it by this name
        except UsageError as error:
            return _error(400, str(error))
        except ShoalError as error:
            return _error(503, str(error))
        except web.HTTPException as error:
            return _error(error.status, error.reason)

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        host = _host_of(request.headers.get("Host", ""))
        if host not in self._names and not is_ip(host):
            return (
                403,
                f"host {host[:100]!r} is not this coordinator: use its address, or --advertise the name",
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("//")[2] != request.headers.get("Host"):
            return 403, "requests from other web pages are refused"
        changes = request.method not in ("GET", "HEAD")
        if changes or (self._open_to_all and not self._dashboard.serves(request.path)):
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            given = token.strip().encode(errors="surrogateescape") if scheme.lower() == "bearer" else b""
            if not secrets.compare_digest(given, self._token.encode()):
                return 401, "needs the token of DIR/coord.json: Authorization: Bearer TOKEN"
        if changes and request.content_type != "application/json":
            return 415, "the body must be application/json"
        return None

    # -- answers

    async def _why(self, request: web.Request) -> web.Response:
        url = request.query.get("url", "")
        if not url:
            return _error(400, "needs ?url=URL")
        found = await self._steering.why(url)
        return web.json_response(found) if found is not None else _error(404, f"{url[:200]} was never met")

    async def _options(self, request: web.Request) -> web.Response:
        return web.json_response(self._steering.options(), headers={"Cache-Control": "no-store"})

    async def _stop(self, request: web.Request) -> web.Response:
        now = (await _body(request)).get("now", False)
        if not isinstance(now, bool):
            return _error(400, "now: true or false")
        await self._steering.stop(now)
        return web.json_response({"stopping": True})

    async def _pause(self, request: web.Request) -> web.Response:
        await _body(request)
        await self._steering.pause()
        return web.json_response({"paused": True})

    async def _resume(self, request: web.Request) -> web.Response:
        await _body(request)
        await self._steering.resume()
        return web.json_response({"paused": False})

    async def _add(self, request: web.Request) -> web.Response:
        body = await _body(request)
        return web.json_response(await self._steering.add(_texts(body, "seeds", "https://example.org/")))

    async def _set(self, request: web.Request) -> web.Response:
        body = await _body(request)
        options = body.get("options")
        if not isinstance(options, dict) or not options:
            return _error(400, 'options: an object, such as {"delay": "2s"}')
        return web.json_response(await self._steering.set_options(options, _host(body)))

    async def _block(self, request: web.Request) -> web.Response:
        body = await _body(request)
        undo = body.get("undo", False)
        if not isinstance(undo, bool):
            return _error(400, "undo: true or false")
        return web.json_response(await self._steering.block(_texts(body, "hosts", "example.org"), undo))

    async def _retry(self, request: web.Request) -> web.Response:
        body = await _body(request)
        return web.json_response(await self._steering.retry(_texts(body, "outcomes", "TIMEOUT"), _host(body)))


# -- within


class _BadRequests(logging.Filter):
    """Leaves out what is wrong with what strangers send: else they could fill the terminal of whoever crawls."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


def _quiet_log() -> logging.Logger:
    """For aiohttp's server: errors of our own are told, those of clients are not."""
    logger = logging.getLogger("coordinator.control.http")
    if not logger.filters:
        logger.addFilter(_BadRequests())
    return logger


async def _with_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _error(status: int, said: str) -> web.Response:
    return web.json_response({"error": said}, status=status)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            octets = await request.read()
    except TimeoutError:
        raise UsageError(f"the body did not come within {BODY_SECONDS:g} s") from None
    try:
        read = json.loads(octets) if octets.strip() else {}
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON") from None
    if not isinstance(read, dict):
        raise UsageError("the body is not a JSON object")
    return read


def _texts(body: Mapping[str, Any], name: str, example: str) -> list[str]:
    given = body.get(name)
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise UsageError(f'{name}: a list of texts, such as ["{example}"]')
    return given


def _host(body: Mapping[str, Any]) -> str | None:
    host = body.get("host")
    if host is not None and not isinstance(host, str):
        raise UsageError('host: a text, such as "*.example.org", or null')
    return host


def _host_of(header: str) -> str:
    """The name in a Host header, lower case, without port and brackets."""
    if header.startswith("["):
        name, bracket, _ = header[1:].partition("]")
        return name if bracket else ""
    return header.partition(":")[0].lower().rstrip(".")


def _why_not(error: OSError) -> str:
    import errno  # only on the way to an error

    match error.errno:
        case errno.EADDRINUSE:
            return "the port is taken: choose another, or leave --http out for a free one"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case errno.EACCES:
            return "ports below 1024 need rights: choose a higher one"
        case _:
            return error.strerror or str(error)
