"""`Crawl`: a crawl on this machine from a script or a notebook, its pages as they are committed.

    async with Crawl("https://example.org/", max_pages=100) as crawl:
        async for page in crawl:
            print(page.url, page.css("title::text").get())

It runs `coord crawl` in a process of its own, so that nothing of the script's own loop, signals or logging is touched,
and reads what that commits: a page is handed out once it is durable. Leaving the block ends the crawl cleanly; the
same `out` again goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from common.config import OPTIONS
from common.configfile import load
from common.errors import ShoalError
from worker.extractpage import Page
from worker.inflate import inflate

_STOP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1
_LINE_BYTES: Final = 8 << 20
"""A line of `pages` or `items` is never longer."""

_DIGESTS: Final = 100_000
"""Payloads remembered by their place, for pages whose body was stored before."""

_BAD_EXIT: Final = (1, 2)


class CrawlFailed(ShoalError):
    """The crawl did not begin, or a person must look at it; the message is what it said."""


class CrawledPage(Page):
    """A page of a crawl. `outcome`, and `line`: all that `pages` says of it.

    One that came to no response has the status 0 and no body. `file`: where a download is kept, else None; its
    `body` is at most --max-bytes of that.
    """

    outcome: str
    line: dict[str, Any]
    file: Path | None


class Crawl:
    """One crawl; use it as `async with`, and in it `async for`."""

    def __init__(
        self, *seeds: str, out: str | os.PathLike[str] | None = None, procs: int | None = None, **options: Any
    ) -> None:
        """`seeds` as for `coord crawl`; `out`: DIR, None: a temporary one, gone at the end. `options`: those of the
        configuration by their keys, such as `max_pages=100, delay=0.5, extract="shop.py:parse"`.

        Raises UsageError for an option that there is not.
        """
        given = {name: _as_given(value) for name, value in options.items() if value is not None}
        config = load(given)
        self._options = "".join(
            f"{name} = {OPTIONS[name].to_toml(getattr(config, name))}\n" for name in given
        )
        self._max_bytes = config.max_bytes
        self._seeds = seeds
        self._procs = procs
        self._out = None if out is None else Path(out)
        self._temporary = Path()
        self._crawl: asyncio.subprocess.Process | None = None
        self._places: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        self.exit_code: int | None = None
        """Of `coord crawl`, when it has ended: 0 finished, or a limit that was asked for."""

    @property
    def out(self) -> Path:
        """DIR, with all that a crawl leaves."""
        return self._temporary / "crawl" if self._out is None else self._out

    async def __aenter__(self) -> Self:
        self._temporary = Path(tempfile.mkdtemp(prefix="shoal-"))  # of mode 0700: a header may be secret
        config = self._temporary / "crawl.toml"
        config.write_text(self._options)
        procs = [] if self._procs is None else ["--procs", str(self._procs)]
        with self._said.open("wb") as said:
            self._crawl = await asyncio.create_subprocess_exec(
                *_command("crawl", *self._seeds, "--out", str(self.out), "--config", str(config)),
                *("--no-progress", *procs),
                env=_environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        crawl = self._crawl
        try:
            if crawl is not None and crawl.returncode is None:
                crawl.send_signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(_STOP_SECONDS):
                        await crawl.wait()
                except TimeoutError:
                    crawl.kill()
                    await crawl.wait()
            self.exit_code = None if crawl is None else crawl.returncode
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    async def __aiter__(self) -> AsyncIterator[CrawledPage]:
        """Every page that has ended, whatever its outcome, until the crawl is over. Raises CrawlFailed."""
        async with contextlib.aclosing(self._lines("pages")) as lines:
            async for line in lines:
                yield self._page(line)
        await self._over()

    @property
    def _said(self) -> Path:
        return self._temporary / "said.txt"

    async def items(self, name: str = "items") -> AsyncGenerator[dict[str, Any], None]:
        """The items of one kind as they are committed, until the crawl is over. Raises CrawlFailed."""
        async with contextlib.aclosing(self._lines(f"items/{name}")) as lines:
            async for line in lines:
                yield line
        await self._over()

    async def _lines(self, stream: str) -> AsyncGenerator[dict[str, Any], None]:
        if self._crawl is None:
            raise RuntimeError("use it as: async with Crawl(...) as crawl")
        while not (self.out / "coord.json").exists() and self._crawl.returncode is None:  # noqa: ASYNC110  seen on disk alone
            await asyncio.sleep(_LOOK_SECONDS)
        if not (self.out / "FORMAT").exists():
            return
        tail = await asyncio.create_subprocess_exec(
            *_command("tail", str(self.out), stream, "--follow"),
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        assert tail.stdout is not None
        try:
            async for line in tail.stdout:
                yield json.loads(line)
        finally:
            if tail.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    tail.kill()
            await tail.wait()

    async def _over(self) -> None:
        """The lines are at their end: so is the crawl, or is about to be."""
        assert self._crawl is not None
        self.exit_code = await self._crawl.wait()
        if self.exit_code in _BAD_EXIT:
            said = self._said.read_text(errors="replace").strip()
            raise CrawlFailed(said[-2000:] or f"exit code {self.exit_code}")

    def _page(self, line: dict[str, Any]) -> CrawledPage:
        place = line["warc"] and (line["warc"]["file"], line["warc"]["offset"], line["warc"]["length"])
        if line["record"] == "response" and line["digest"]:
            self._places[line["digest"]] = place
            if len(self._places) > _DIGESTS:
                self._places.popitem(last=False)
        body_place = place if line["record"] == "response" else self._places.get(line["digest"] or "")
        headers = _head(self._record(place)[0]) if place else ()

        file: Path | None = None if line.get("file") is None else self.out / str(line["file"])

        def body() -> bytes:
            if file is not None:
                with file.open("rb") as opened:
                    return opened.read(self._max_bytes)
            if body_place is None:
                return b""
            head, payload = self._record(body_place)
            codings = {name.lower(): value for name, value in _head(head)}.get("content-encoding")
            return inflate(payload, codings, self._max_bytes).body

        page = CrawledPage(
            line["url"], status=line["status"] or 0, headers=headers, body=body, depth=line["depth"]
        )
        page.outcome, page.line, page.file = line["outcome"], line, file
        return page

    def _record(self, place: tuple[str, int, int]) -> tuple[bytes, bytes]:
        """(HTTP head, payload) of a record."""
        file, offset, length = place
        with (self.out / file).open("rb") as warc:
            warc.seek(offset)
            member = zlib.decompressobj(wbits=31).decompress(warc.read(length))
        block = member.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")
        head, _, payload = block.partition(b"\r\n\r\n")
        return head, payload


def _head(head: bytes) -> tuple[tuple[str, str], ...]:
    pairs = []
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        pairs.append((name.decode("latin-1").strip(), value.decode("utf-8", "replace").strip()))
    return tuple(pairs)


def _as_given(value: Any) -> Any:
    """An option's value as a flag would give it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return tuple(value) if isinstance(value, list | set) else value


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "coordinator", *arguments]


def _environment() -> dict[str, str]:
    """So that the child imports this very Shoal, and after it what the script could."""
    own = str(Path(__file__).resolve().parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join((own, *filter(None, sys.path)))}
