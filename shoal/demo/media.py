"""Sets of the demo web with files in them, for the examples that download.

    gallery.demo.test/pictures/1.png ...    pictures of one pixel, each of another colour
    tv.demo.test/talks                      talks in two pages, each with a page of its own; a script names its video
    media.demo.test/v/1.mp4 ...             the videos; two talks have the same one, and the first is of 3 MiB

Everything follows from the lists below, as in web.py.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Final

from shoal.demo.server import Answer

Place = tuple[str, str]

PICTURES: Final = 12

TALKS: Final = (
    "On harbours: how ships come in",
    "Lanterns / an evening",
    "What orchards know",
    "Winter, and after",
    "Bridges of glass",
    "Lanterns / the same evening",
)
"""Titles, four to a page; the last has the video of the second."""


def media(port: int) -> Iterator[tuple[Place, Answer]]:
    """Every place of the sets, and what stands there."""
    for number in range(1, PICTURES + 1):
        yield (
            ("gallery.demo.test", f"/pictures/{number}.png"),
            Answer(200, {"Content-Type": "image/png"}, png(number)),
        )
    yield from _talks("tv.demo.test", port)
    for number in range(1, len(TALKS)):
        headers = {"Content-Type": "video/mp4", "ETag": f'"{number}"'}
        yield ("media.demo.test", f"/v/{number}.mp4"), Answer(200, headers, video(number))


def png(number: int) -> bytes:
    """A picture of one pixel."""
    colour = sha256(str(number).encode()).digest()[:3]
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + colour)),
    )
    chunks = b"".join(_chunk(name, body) for name, body in (*parts, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + chunks


def video(number: int) -> bytes:
    """What begins as a video does; nobody looks at it."""
    size = 3 << 20 if number == 1 else 100_000
    return b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + sha256(str(number).encode()).digest() * (size // 32)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _talks(host: str, port: int) -> Iterator[tuple[Place, Answer]]:
    for page, start in enumerate((0, 4)):
        rows = "".join(
            f'<li><a class="talk" href="/talk/{n + 1}">{escape(TALKS[n])}</a>'
            for n in range(start, len(TALKS))[:4]
        )
        more = '<a rel="next" href="/talks?page=2">more</a>' if not page else ""
        yield (
            (host, "/talks?page=2" if page else "/talks"),
            _html(f"<title>Talks</title><ol>{rows}</ol>{more}"),
        )
    for number, title in enumerate(TALKS, 1):
        player = {
            "id": number,
            "file": f"http://media.demo.test:{port}/v/{number if number < len(TALKS) else 2}.mp4",
        }
        script = json.dumps(player).replace("/", "\\/")
        text = f"<title>{escape(title)}</title><h1>{escape(title)}</h1><script>play({script});</script>"
        yield (host, f"/talk/{number}"), _html(text)


def _html(text: str) -> Answer:
    return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, f"<!doctype html>{text}\n".encode())
