"""Downloads over real sockets: handed on as they come, no faster than they are taken, and in time by the piece."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

from common.config import CrawlConfig
from common.messages import DOWNLOAD, PIECE_BYTES, Form, Request
from tests.support.serving import SETTINGS, Server, fetching, got, serving
from worker import download
from worker.bodies import Hold
from worker.download import Download

ASKED = Request("https://a.test/f", 0, 0, 0, 0, "seed", None, Form(DOWNLOAD, (), None, None, 0, 0, None))
CONFIG = CrawlConfig(max_file_bytes=256 << 20)


def head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def starts(status: int, headers: Mapping[str, str]) -> Download | None:
    return download.begin(CONFIG, ASKED, None, status, headers, nullcontext)


class Taker:
    """Takes pieces; with a gate, only when it is open."""

    def __init__(self, *, open_: bool = True) -> None:
        self.pieces: list[int] = []
        self.gate = asyncio.Event()
        if open_:
            self.gate.set()

    async def __call__(self, file: Download, piece: bytes, hold: Hold) -> None:
        await self.gate.wait()
        self.pieces.append(len(piece))
        hold.shrink(len(piece))


async def test_a_file_is_handed_on_and_its_connection_kept() -> None:
    body = bytes(range(256)) * (10 * PIECE_BYTES // 256) + b"end"
    async with serving(head(len(body)) + body) as server, fetching() as fetcher:
        for _ in range(2):
            take = Taker()
            came = await got(fetcher, server.url(), download=(starts, take))
            assert came.file is not None
            assert take.pieces == [PIECE_BYTES] * 10
            assert (came.file.tail, came.payload, came.truncated) == (b"end", b"", None)
            came.release()
        assert server.connections == 1
        assert fetcher.budget.held == 0


async def test_who_takes_no_pieces_lets_the_server_wait_and_no_clock_runs() -> None:
    """Far more than the times for silence and for the whole fetch pass, in which the server can send no more than what
    a window and the sockets' buffers hold."""
    sent = 0

    async def pour(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await server.head(reader)
        writer.write(head(64 * PIECE_BYTES))
        for _ in range(64):
            writer.write(bytes(PIECE_BYTES))
            await writer.drain()
            sent += 1

    hasty = replace(SETTINGS, silence=0.3, total=0.5)
    async with serving(pour) as server, fetching(hasty) as fetcher:
        take = Taker(open_=False)
        fetch = asyncio.create_task(got(fetcher, server.url(), download=(starts, take)))
        await asyncio.sleep(2.0)
        assert not fetch.done()
        assert sent < 24
        assert fetcher.budget.held < 4 * PIECE_BYTES
        take.gate.set()
        came = await fetch
        assert came.truncated is None and len(take.pieces) == 63
        came.release()


async def test_the_time_for_a_fetch_is_the_time_for_a_piece() -> None:
    async def drip(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(head(4 * PIECE_BYTES))
        for _ in range(16):
            await asyncio.sleep(0.25)
            writer.write(bytes(PIECE_BYTES // 4))
            await writer.drain()

    async with serving(drip) as server, fetching(replace(SETTINGS, total=3.0)) as fetcher:
        came = await got(fetcher, server.url(), download=(starts, Taker()))
        assert (came.truncated, came.file and came.file.length) == (None, 4 * PIECE_BYTES)


async def test_a_download_that_hardly_moves_ends() -> None:
    async def trickle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.head(reader)
        writer.write(head(4 * PIECE_BYTES))
        while True:
            await asyncio.sleep(0.05)
            writer.write(b"x")
            await writer.drain()

    async with serving(trickle) as server, fetching(replace(SETTINGS, total=0.6)) as fetcher:
        assert (await got(fetcher, server.url(), download=(starts, Taker()))).truncated == "time"


async def test_one_that_is_cut_says_so_and_one_too_long_stops_there() -> None:
    for answer, truncated, broken in (
        (head(5 * PIECE_BYTES) + bytes(2 * PIECE_BYTES), "disconnect", None),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(3 * PIECE_BYTES), None, "length"),
    ):
        config = replace(CONFIG, max_file_bytes=2 * PIECE_BYTES + 100) if broken else CONFIG

        def begin(status: int, headers: Mapping[str, str], config: CrawlConfig = config) -> Download | None:
            return download.begin(config, ASKED, None, status, headers, nullcontext)

        async with serving(answer, close=True) as server, fetching() as fetcher:
            came = await got(fetcher, server.url(), download=(begin, Taker()))
            assert (came.truncated, came.file and came.file.broken) == (truncated, broken)
            assert fetcher.sockets == (0, 0)
            came.release()
            assert fetcher.budget.held == 0


async def test_many_at_once_share_the_memory_of_the_process() -> None:
    body = bytes(6 * PIECE_BYTES)
    settings = replace(SETTINGS, memory=3 * PIECE_BYTES)
    async with serving(head(len(body)) + body) as server, fetching(settings) as fetcher:
        most = 0

        async def take(file: Download, piece: bytes, hold: Hold) -> None:
            nonlocal most
            most = max(most, fetcher.budget.held)
            await asyncio.sleep(0.01)
            hold.shrink(len(piece))

        async def fetch(number: int) -> int:
            came = await got(fetcher, server.url(f"/{number}"), download=(starts, take))
            came.release()
            return 0 if came.file is None else came.file.length

        assert set(await asyncio.gather(*map(fetch, range(12)))) == {len(body)}
        assert fetcher.budget.held == 0
        # The limit, and of each a piece that has to be full before anything of it can be handed on.
        assert most < 20 * PIECE_BYTES


async def test_a_fetch_that_is_broken_off_gives_everything_back() -> None:
    body = bytes(20 * PIECE_BYTES)
    async with serving(head(len(body)) + body) as server, fetching() as fetcher:
        fetch = asyncio.create_task(got(fetcher, server.url(), download=(starts, Taker(open_=False))))
        await asyncio.sleep(0.3)
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        assert fetcher.budget.held == 0
        assert fetcher.sockets == (0, 0)


async def test_what_is_no_download_is_read_as_ever() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
    async with serving(answer) as server, fetching() as fetcher:
        came = await got(fetcher, server.url(), download=(starts, Taker()))
        assert (came.file, came.payload) == (None, b"none")
