"""A download as it comes: which responses are one, what is asked for, and that its pieces are the file."""

from __future__ import annotations

import gzip
import hashlib
import random
import tracemalloc
from base64 import b32encode
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import CrawlConfig
from common.messages import DOWNLOAD, PIECE_BYTES, Flag, Form, Request, Resume
from tests.unit.test_inflate import ENCODERS, bare_deflate
from worker.download import Download, begin, headers, matches, may_be
from worker.outgoing import GET

IMAGES = CrawlConfig(download=("image/*", "application/pdf"), max_file_bytes=64 << 20)
PLAIN = Request("https://a.test/x/photo", 0, 0, 0, 0, "seed", None, None)
ASKED = PLAIN._replace(form=Form(DOWNLOAD, (), None, None, 0, 0, None))
RESUME = Resume(0, 2, '"v"')
JPEG = {"Content-Type": "image/jpeg"}


def began(
    request: Request = PLAIN,
    status: int = 200,
    given: dict[str, str] | None = None,
    resume: Resume | None = None,
    config: CrawlConfig = IMAGES,
) -> Download | None:
    return begin(config, request, resume, status, JPEG if given is None else given, nullcontext)


def good(download: Download | None) -> Download:
    assert download is not None
    return download


def whole(download: Download, chunks: list[bytes]) -> bytes:
    """The file that its pieces and its tail make."""
    pieces = [piece for chunk in chunks for piece in download.feed(chunk)]
    pieces += download.close()
    assert all(len(piece) == PIECE_BYTES for piece in pieces)
    assert len(pieces) == download.pieces - download.first
    return b"".join(pieces) + download.tail


def digest(body: bytes) -> str:
    return "sha1:" + b32encode(hashlib.sha1(body).digest()).decode()


# --------------------------------------------------------------------------------------------- which responses are one


def test_what_is_a_download() -> None:
    assert began() is not None
    assert began(given={"Content-Type": "IMAGE/PNG; x=1"}) is not None
    assert began(given={"Content-Type": "text/html"}) is None
    assert began(given={}) is None
    assert began(status=404) is None
    assert began(status=302) is None
    assert began(PLAIN._replace(flags=Flag.LINKS_ONLY)) is None
    assert began(ASKED, given={"Content-Type": "text/html"}) is not None
    assert began(ASKED, given={}) is not None
    assert began(ASKED, status=500) is None
    assert began(ASKED, status=204, given={}) is None


def test_only_a_get_may_be_one() -> None:
    none = CrawlConfig()
    assert may_be(IMAGES, PLAIN) and may_be(IMAGES, PLAIN._replace(form=GET)) and may_be(none, ASKED)
    assert not may_be(none, PLAIN)
    assert not may_be(IMAGES, PLAIN._replace(form=GET._replace(method="POST")))
    assert not may_be(IMAGES, PLAIN._replace(form=GET._replace(method="SITEMAP")))


def test_types() -> None:
    assert matches("image/png", ("image/*",)) and matches("image/png", ("*/*",)) and matches("a/b", ("A/B",))
    assert not matches("image/png", ("image/jpeg", "text/*")) and not matches("", ("image/*",))


def test_names() -> None:
    assert good(began()).name == "photo.jpg"
    named = JPEG | {"Content-Disposition": "attachment; filename=other.png"}
    assert good(began(given=named)).name == "other.png"
    asked = ASKED._replace(form=Form(DOWNLOAD, (), None, None, 0, 0, "größe".encode()))
    assert good(began(asked, given=named)).name == "größe.jpg"


def test_a_file_that_says_that_it_is_too_long_is_not_read() -> None:
    assert good(began(given=JPEG | {"Content-Length": str(65 << 20)})).broken == "length"
    assert good(began(given=JPEG | {"Content-Length": str(64 << 20)})).broken is None


# ------------------------------------------------------------------------------------------------ its bytes


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 3 * PIECE_BYTES + 5) | st.sampled_from((PIECE_BYTES, 2 * PIECE_BYTES)),
    st.lists(st.integers(1, 2 * PIECE_BYTES), max_size=6),
)
def test_pieces_and_tail_are_the_file_however_it_was_cut(size: int, cuts: list[int]) -> None:
    body, chunks, at = random.Random(size).randbytes(size), [], 0
    for cut in [*cuts, size]:
        chunks.append(body[at : at + cut])
        at += cut
    download = good(began())
    assert whole(download, chunks) == body
    assert (download.digest, download.length, download.wire_length) == (digest(body), size, size)
    assert 0 < len(download.tail) <= PIECE_BYTES or not body


@pytest.mark.parametrize("coding", [*ENCODERS, "bare"])
@pytest.mark.parametrize("step", [1, 700, 1 << 16])
def test_a_coding_is_undone_as_it_comes(coding: str, step: int) -> None:
    body = random.Random(2).randbytes(40_000) + b"ab" * (10_000 if step == 1 else 1_500_000)
    encode: Callable[[bytes], bytes] = bare_deflate if coding == "bare" else ENCODERS[coding]
    packed = encode(body)
    given = JPEG | {"Content-Encoding": "deflate" if coding == "bare" else coding}
    download = good(began(given=given))
    assert whole(download, [packed[at : at + step] for at in range(0, len(packed), step)]) == body
    assert (download.broken, download.digest) == (None, digest(body))
    assert (download.length, download.wire_length) == (len(body), len(packed))


def test_members_one_after_another_and_what_follows_them() -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    for step in (1, 5, 1000):
        for rest in (b"", b"junk", b"\0\0"):
            download = good(began(given=JPEG | {"Content-Encoding": "gzip"}))
            chunks = [(packed + rest)[at : at + step] for at in range(0, len(packed + rest), step)]
            assert whole(download, chunks) == b"one two", (step, rest)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_what_is_announced_and_is_not_coded_is_taken_as_it_is(coding: str) -> None:
    download = good(began(given=JPEG | {"Content-Encoding": coding}))
    assert whole(download, [b"\xff\xd8", b"\xffplain"]) == b"\xff\xd8\xffplain"
    assert download.broken is None


@pytest.mark.parametrize("coding", ENCODERS)
def test_a_coded_body_that_is_cut_or_broken_is_no_file(coding: str) -> None:
    packed = ENCODERS[coding](random.Random(3).randbytes(50_000))
    broken = packed[:2000] + bytes(50) + packed[2050:]
    for body in (packed[:-9], broken) if "gzip" in coding else (packed[:-9],):  # the others need no checksum
        download = good(began(given=JPEG | {"Content-Encoding": coding}))
        whole(download, [body])
        assert download.broken, coding


def test_a_bomb_costs_a_step_not_its_size() -> None:
    bomb = gzip.compress(bytes(300 << 20), 1)
    download = good(began(given=JPEG | {"Content-Encoding": "gzip"}))
    tracemalloc.start()
    for at in range(0, len(bomb), 1 << 16):
        for _ in download.feed(bomb[at : at + (1 << 16)]):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert download.broken == "length"
    assert peak < 6 * PIECE_BYTES


def test_codings_that_belong_to_the_file_are_kept() -> None:
    packed = gzip.compress(b"a tar")
    for url, kind in (
        ("https://a.test/x.tar.gz", "application/x-tar"),
        ("https://a.test/x", "application/x-gzip"),
    ):
        given = {"Content-Type": kind, "Content-Encoding": "gzip"}
        download = good(began(ASKED._replace(url=url), given=given))
        assert whole(download, [packed]) == packed
    for codings in ("gzip, br", "aes128gcm"):
        download = good(began(given=JPEG | {"Content-Encoding": codings}))
        assert whole(download, [packed]) == packed


# ---------------------------------------------------------------------------------------------------- going on


def test_what_is_asked_for() -> None:
    assert headers(PLAIN, None) == {}
    assert headers(ASKED, None)["Accept-Encoding"] == "identity"
    asked = headers(PLAIN, RESUME)
    assert (asked["Range"], asked["If-Range"]) == (f"bytes={2 * PIECE_BYTES}-", '"v"')
    assert asked["Accept-Encoding"] == "identity"


DATE, BEFORE = "Sat, 21 Nov 2026 09:00:00 GMT", "Sat, 21 Nov 2026 08:59:59 GMT"


@pytest.mark.parametrize(
    ("given", "validator"),
    [
        ({"ETag": '"v1"'}, '"v1"'),
        ({"ETag": 'W/"v1"'}, None),
        ({"ETag": 'W/"v1"', "Last-Modified": BEFORE, "Date": DATE}, None),
        ({"ETag": "unquoted"}, None),
        ({"ETag": '"v1"', "Accept-Ranges": "none"}, None),
        ({"ETag": '"v1"', "Content-Encoding": "gzip"}, None),
        ({"ETag": '"v1"', "Content-Encoding": "aes128gcm"}, None),
        ({"Last-Modified": BEFORE, "Date": DATE}, BEFORE),
        ({"Last-Modified": DATE, "Date": DATE}, None),
        ({"Last-Modified": BEFORE}, None),
        ({"Last-Modified": "yesterday", "Date": DATE}, None),
        ({}, None),
    ],
)
def test_what_speaks_for_a_file(given: dict[str, str], validator: str | None) -> None:
    assert good(began(given=JPEG | given)).validator == validator


def test_a_206_goes_on_where_it_was_asked_to() -> None:
    rest = random.Random(4).randbytes(PIECE_BYTES + 7)
    size = 2 * PIECE_BYTES + len(rest)
    given = JPEG | {"Content-Range": f"bytes {2 * PIECE_BYTES}-{size - 1}/{size}", "ETag": '"v"'}
    download = good(began(status=206, given=given, resume=RESUME))
    assert (download.first, download.pieces, download.validator) == (2, 2, '"v"')
    assert whole(download, [rest]) == rest
    assert (download.pieces, download.length, download.wire_length) == (3, size, len(rest))
    assert (download.digest, download.broken) == (None, None)


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (206, {}),
        (206, {"Content-Range": "bytes 0-99/100"}),
        (206, {"Content-Range": f"bytes {PIECE_BYTES}-{3 * PIECE_BYTES}/*"}),
        (206, {"Content-Range": f"bytes {2 * PIECE_BYTES}-{3 * PIECE_BYTES}/*", "ETag": '"other"'}),
        (206, {"Content-Range": f"bytes {2 * PIECE_BYTES}-{3 * PIECE_BYTES}/*", "Content-Encoding": "gzip"}),
        (206, {"Content-Range": "items 0-1/2"}),
        (416, {"Content-Range": f"bytes */{2 * PIECE_BYTES}"}),
        (416, {}),
    ],
)
def test_a_rest_of_something_else_is_not_read(status: int, given: dict[str, str]) -> None:
    assert good(began(status=status, given=JPEG | given, resume=RESUME)).broken == "range"


def test_a_206_that_nobody_asked_for_and_a_416_of_a_page() -> None:
    assert good(began(status=206, given=JPEG | {"Content-Range": "bytes 5-9/10"})).broken == "range"
    assert began(status=416) is None


def test_a_rest_that_ends_elsewhere_than_it_said_is_no_file() -> None:
    given = JPEG | {"Content-Range": f"bytes {2 * PIECE_BYTES}-{2 * PIECE_BYTES + 9}/{2 * PIECE_BYTES + 10}"}
    download = good(began(status=206, given=given, resume=RESUME))
    whole(download, [b"short"])
    assert download.broken == "range"


def test_a_200_begins_anew() -> None:
    download = good(began(given=JPEG | {"ETag": '"w"'}, resume=RESUME))
    assert (download.first, download.validator) == (0, '"w"')
    assert whole(download, [b"new"]) == b"new"
