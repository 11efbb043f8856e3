"""A site of big files on loopback, with or without Range, that breaks off when it is told to; and its log.

    with FileHost() as host:
        host.put("/film.mp4", body, ranges=True)
        ... crawl host.url("/film.mp4") ...
        assert host.asked("/film.mp4") == [None, "bytes=1048576-"]

One host, one port, a thread of the test's process. robots.txt is a 404.
"""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shoal.demo.server import Answer, Request, serve

HOST: Final = "files.test"
_WAIT: Final = 10.0


@dataclass(slots=True)
class Stored:
    """What stands at one place."""

    body: bytes
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    etag: str | None = '"one"'
    drips: tuple[float, int] | None = None
    """(seconds, bytes) as in Answer."""
    breaks: list[int] = field(default_factory=list)
    """Bytes of the body after which the connection is closed, of the first, second, ... answer."""


class FileHost:
    """The site. `put` may be called while it serves."""

    def __init__(self) -> None:
        self.port = 0
        self._files: dict[str, Stored] = {}
        self._log: list[tuple[str, str | None, str | None]] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="files", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(serve(self._respond), self._loop).result(_WAIT)
        self.port = self._server.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(_WAIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT)
        self._loop.close()

    def put(self, target: str, body: bytes, **told: object) -> Stored:
        """Let a file stand there; `told`: fields of Stored."""
        stored = self._files[target] = Stored(body, **told)  # type: ignore[arg-type]  # a test's own keywords
        return stored

    def url(self, target: str) -> str:
        """Its address, by a name for a hosts file."""
        return f"http://{HOST}:{self.port}{target}"

    def hosts_file(self, path: Path) -> Path:
        """Write a hosts file for it; returns its path."""
        path.write_text(f"127.0.0.1 {HOST}\n127.0.0.1 elsewhere.test\n")
        return path

    def asked(self, target: str) -> list[str | None]:
        """The Range of each request for it, in order; None: all of it."""
        with self._changed:
            return [given for place, given, _ in self._log if place == target]

    def if_ranges(self, target: str) -> list[str | None]:
        """The If-Range of each request for it."""
        with self._changed:
            return [given for place, _, given in self._log if place == target]

    def wait_for(self, target: str, requests: int, timeout: float = 60.0) -> None:
        """Return as soon as it was asked for so often; TimeoutError if it is not."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: sum(place == target for place, _, _ in self._log) >= requests, timeout
            ):
                raise TimeoutError(f"{target} was not asked for {requests} times in {timeout} s")

    def _respond(self, request: Request) -> Answer:
        stored = self._files.get(request.target)
        given = request.headers.get("range")
        with self._changed:
            self._log.append((request.target, given, request.headers.get("if-range")))
            self._changed.notify_all()
        if stored is None:
            return Answer(404, {"Content-Type": "text/plain"}, b"no such file\n")
        headers = {"Content-Type": "application/octet-stream", **stored.headers}
        if stored.etag is not None:
            headers["ETag"] = stored.etag
        status, body = stored.status, stored.body
        if stored.ranges:
            headers["Accept-Ranges"] = "bytes"
            match = re.fullmatch(r"bytes=(\d+)-", given or "")
            wanted = request.headers.get("if-range")
            if match is not None and wanted in (None, stored.etag, stored.headers.get("Last-Modified")):
                start, whole = int(match[1]), len(stored.body)
                if start >= whole:
                    return Answer(416, {"Content-Range": f"bytes */{whole}"})
                status, body = 206, stored.body[start:]
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        if "Transfer-Encoding" in headers:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        answer = Answer(status, headers, body, drips=stored.drips)
        if stored.breaks:
            head, whole = answer.wire()
            return Answer(status, raw=head + whole[: stored.breaks.pop(0)])
        return answer
