"""A response's body, from the connection to whoever wants it: whole for a page, handed on in pieces for a download.

Before it, heads that are no answer yet are passed over. Both ways of reading a body count what they hold in the
process's budget, and while that is spent they read no further, so that the sender waits as well; the clocks of the
connection rest meanwhile. Neither decides what a body is worth: how it ended is told in the words of WARC-Truncated.
Read next: worker/bodies.py, worker/download.py, worker/connection.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from worker.bodies import BodyBudget, Hold
from worker.connection import TooMuch, Wire
from worker.download import Download
from worker.exchange import Truncated
from worker.failures import FOREIGN

_INTERIM_ANSWERS = 8  # 1xx answers before the real one; more is somebody playing

SendPiece = Callable[[Download, bytes, Hold], Awaitable[None]]
"""Takes a piece of a download; returns when the next may follow."""


async def final_answer(wire: Wire, message: RawResponseMessage) -> tuple[RawResponseMessage, StreamReader]:
    """What follows interim answers (100, 103). Switching protocols was not asked for: raises BadHttpMessage."""
    for _ in range(_INTERIM_ANSWERS):
        if message.code == 101:
            break
        message, content = await wire.read()
        if message.code >= 200:
            return message, content
    raise BadHttpMessage(f"status {message.code} instead of an answer")


async def whole_body(
    wire: Wire, message: RawResponseMessage, content: StreamReader, budget: BodyBudget, max_bytes: int
) -> tuple[bytes, Truncated | None, Hold | None]:
    """The body, as far as it came, and why no further."""
    if content.at_eof():
        return b"", None, None
    hold = Hold(budget)
    pieces: list[bytes] = []
    size = 0
    truncated: Truncated | None = None
    try:
        while truncated is None and not content.at_eof():
            try:
                piece = await content.readany()
            except FOREIGN as error:
                # What came in the same turn as the end lies in the buffer still, behind the exception.
                piece = content._read_nowait(-1)
                truncated = _why_cut(error)
            size += len(piece)
            if size > max_bytes:
                piece = piece[: max_bytes - size]
                truncated = "length"
            pieces.append(piece)
            if not hold.grow(len(piece)) and truncated is None and not content.at_eof():
                wire.rest()
                await hold.room()
                wire.resume()
    except BaseException:
        hold.release()
        raise
    if truncated is None and _was_reset(wire, message):
        truncated = "disconnect"
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), truncated, hold


async def handed_on(
    wire: Wire,
    message: RawResponseMessage,
    content: StreamReader,
    budget: BodyBudget,
    file: Download,
    send: SendPiece,
    seconds: float,
) -> tuple[Truncated | None, Hold]:
    """Hand a download on in pieces; why it came no further. It is not read on when it is `broken`.

    `seconds`: within which each piece has to come. Whoever takes a piece gives its bytes back (`Hold.shrink`).
    """
    wire.go_on(seconds, file.room)
    hold = Hold(budget)
    counted = file.length
    truncated: Truncated | None = None
    try:
        while truncated is None and file.broken is None and not content.at_eof():
            try:
                chunk = await content.readany()
            except FOREIGN as error:
                chunk = content._read_nowait(-1)
                truncated = _why_cut(error)
            for piece in file.feed(chunk):
                hold.grow(file.length - counted)
                counted = file.length
                wire.rest()
                await send(file, piece, hold)
                wire.resume()
                wire.go_on(seconds)
            room = hold.grow(file.length - counted)
            counted = file.length
            if not room and truncated is None and not content.at_eof():
                wire.rest()
                await hold.room()
                wire.resume()
        if truncated is None and _was_reset(wire, message):
            truncated = "disconnect"
        if truncated is None and file.broken is None:
            for piece in file.close():
                hold.grow(file.length - counted)
                counted = file.length
                await send(file, piece, hold)
    except BaseException:
        hold.release()
        raise
    return truncated, hold


def _was_reset(wire: Wire, message: RawResponseMessage) -> bool:
    """Whether a body that ends with its connection ended with a reset, which is no end."""
    endless = not message.chunked and "Content-Length" not in message.headers
    return endless and isinstance(wire.exception(), aiohttp.ClientOSError)


def _why_cut(error: BaseException) -> Truncated:
    if isinstance(error, TimeoutError):
        return "time"
    return "length" if isinstance(error, TooMuch) else "disconnect"
