"""Files that lost their ends: whatever byte an output or the store's log breaks off at, nothing is lost or doubled.

In process, on real files: a shard with its RocksDB and its sink, opened as `coord` opens it, and a web of a few pages
that a made-up worker answers at once. The crawl is stopped in its middle as a power cut stops it, its files are cut,
and it goes on from what is left (PROTOCOL rules 2 and 3). `SHOAL_TORTURE` in the environment: every byte, not a sample.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from base64 import b32encode
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from common import clock
from common import messages as m
from common.config import CrawlConfig
from common.errors import UsageError
from common.messages import PIECE_BYTES, Flag, LinkGroup, Phase, Request, SessionId
from common.outcome import OUTCOMES, Outcome
from common.tuning import Tuning
from coordinator.opening import committed_ends, open_shard
from coordinator.steps import DropPieces, KeepPiece, Received, Seeds, Send, Steered, Tick
from coordinator.store.rows import DoneRow, is_done, unpack_request_row
from tests.support.cluster import check_records, results
from tests.support.figures import figure

HOSTS = ("a.test", "b.test")
PAGES = 24
SEED = "http://a.test/0"
BIG = "http://b.test/9"
"""Its record travels in pieces."""
SAME = frozenset({"http://a.test/4", "http://a.test/10", "http://b.test/5", "http://a.test/20"})
"""Their bodies are equal, so all but the first are revisits."""

EVERY_BYTE = bool(os.environ.get("SHOAL_TORTURE"))

pytestmark = pytest.mark.timeout(4 * 3600 if EVERY_BYTE else 60)

LONGEST_WHOLE = 4096
"""Bytes of a record up to which every byte is tried, when everything is."""


def web() -> dict[str, tuple[str, ...]]:
    """URL → outlinks: two hosts, each page leads to the next two."""
    urls = [f"http://{HOSTS[number % 2]}/{number}" for number in range(PAGES)]
    return {url: tuple(urls[number + 1 : number + 3]) for number, url in enumerate(urls)}


def body_of(url: str) -> bytes:
    if url == BIG:
        return b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(PIECE_BYTES // 32 + 999))
    return b"the same" if url in SAME else f"<p>{url}</p>".encode() * 5


class Life:
    """A shard from one start to its end, and the worker that serves it."""

    def __init__(self, directory: Path, config: CrawlConfig) -> None:
        for name in ("frontier", "pages", "warc"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._config = config
        self._opened = open_shard(directory, config)
        self.core = self._opened.core
        self._session = SessionId(os.urandom(16))
        self._skew = 0.0
        self._number = 0
        self._web = web()
        self._leases: list[m.Lease] = []
        for lease in list(self.core.leases):  # whoever held them is dead, and its supervisor says so
            self._greet((lease.session,))
        self._greet(())
        self._hand(Steered(Phase.RUNNING))

    def seed(self) -> None:
        """Read the one seed."""
        self._hand(Seeds(1, (Request(SEED, 0, 0, 0, int(Flag.SEED), SEED, None, None),)))
        self.commit()

    def crawl(self, pages: int) -> None:
        """Fetch so many pages, or all there are."""
        for _ in range(200):
            self.commit()
            while self._leases and pages:
                lease = self._leases.pop(0)
                for ordinal in range(len(lease.requests)):
                    if pages:
                        self._fetch(lease, ordinal)
                        pages -= 1
            self.commit()
            if not pages or not (self.core.leases.requests or self.core.frontier.lendable):
                return
            self._skew += 1.0
            self._number += 1
            held = tuple(lease.id for lease in self.core.leases)
            beat = m.Heartbeat(self._number, self._session, self.core.epoch, held, 4, 4, 0, 0, 0, 0)
            self._hand(Received(beat))
            self._hand(Tick())
        raise AssertionError(
            f"nothing moves: {self.core.leases.requests} lent, {self.core.frontier.lendable} lendable"
        )

    def commit(self) -> None:
        """As server.py does: bytes, then rows, then what rests on them."""
        while self.core.unsealed:
            commit = self.core.seal(*self._times())
            if commit.outputs:
                self._opened.sink.write(commit.outputs)
            self._opened.store.write(commit.rows)
            self._carry_out(self.core.committed(commit))

    def end(self) -> None:
        """Close the files; the store turns its log into a table."""
        self._opened.sink.close()
        self._opened.store.close()

    def _fetch(self, lease: m.Lease, ordinal: int) -> None:
        request = lease.requests[ordinal]
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
        body = body_of(request.url)
        asked, answered = record(request.url, "request", b""), record(request.url, "response", body)
        pieces = (len(answered) - 1) // PIECE_BYTES
        for index in range(pieces):
            self._number += 1
            piece = m.Piece(self._number, self._session, lease.id, ordinal, index)
            self._hand(Received(piece, answered[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]))
        links = self._web[request.url]
        groups = (
            (LinkGroup(request.url, request.seed, request.depth + 1, 0, 0, links, None),) if links else ()
        )
        facts = m.Facts(
            Outcome.OK.code,
            200,
            content_type="text/html",
            length=len(body),
            wire_length=len(body),
            digest=digest_of(body),
            fetched_at=self._times()[1],
            ip="192.0.2.1",
        )
        self._number += 1
        rest = asked + answered[pieces * PIECE_BYTES :]
        page = m.Page(
            self._number,
            self._session,
            lease.id,
            ordinal,
            0.0,
            None,
            facts,
            groups,
            (),
            head,
            len(asked),
            pieces,
            (),
        )
        self._hand(Received(page, rest))

    def _greet(self, replaces: Sequence[bytes]) -> None:
        self._number += 1
        self._hand(
            Received(
                m.Hello(
                    self._number,
                    m.VERSION,
                    self._session,
                    tuple(map(SessionId, replaces)),
                    "here",
                    1,
                    0,
                    False,
                    (),
                )
            )
        )

    def _hand(self, event: Any) -> None:
        self._carry_out(self.core.handle(event, *self._times()))

    def _carry_out(self, instructions: Sequence[object]) -> None:
        for instruction in instructions:
            match instruction:
                case Send(m.Lease() as lease):
                    self._leases.append(lease)
                case KeepPiece(key, index, body):
                    self._opened.sink.keep(key, index, body)
                case DropPieces(key):
                    self._opened.sink.drop(key)

    def _times(self) -> tuple[float, float]:
        return clock.now() + self._skew, clock.wall() + self._skew


def record(url: str, kind: str, body: bytes) -> bytes:
    """A WARC record, written here by hand: what is tested is where it lies, not who made it."""
    first = "GET / HTTP/1.1" if kind == "request" else "HTTP/1.1 200 OK"
    block = f"{first}\r\nContent-Type: text/html\r\n\r\n".encode() + body
    lines = [
        "WARC/1.1",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <urn:uuid:{uuid4()}>",
        "WARC-Date: 2026-05-01T12:00:00.000Z",
        f"WARC-Target-URI: {url}",
        f"WARC-Payload-Digest: {digest_of(body)}",
        f"WARC-Block-Digest: {digest_of(block)}",
        f"Content-Type: application/http; msgtype={kind}",
        f"Content-Length: {len(block)}",
    ]
    return gzip.compress("\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n", 1)


def digest_of(content: bytes) -> str:
    return "sha1:" + b32encode(hashlib.sha1(content).digest()).decode()


def config(rotate_bytes: int = 1 << 30) -> CrawlConfig:
    return CrawlConfig(
        scope="any",
        delay=0.0,
        obey_robots=False,
        contact="t@t.test",
        tuning=Tuning(rotate_bytes=rotate_bytes),
    )


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crawl that a power cut stopped in its middle: leases open, the log not yet a table, all of it durable."""
    folder = tmp_path_factory.mktemp("torn")
    life = Life(folder / "crawl", config())
    life.seed()
    life.crawl(PAGES // 2)
    shutil.copytree(folder / "crawl", folder / "cut")
    life.end()
    return folder / "cut"


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, in many small files."""
    folder = tmp_path_factory.mktemp("torn")
    life = Life(folder / "crawl", config(2000))
    life.seed()
    life.crawl(PAGES - 4)
    shutil.copytree(folder / "crawl", folder / "cut")
    life.end()
    return folder / "cut"


def check_now(directory: Path, life: Life) -> None:
    """What stands there right after opening is whole, and agrees: rows, lines, records, counts."""
    rows = life.core.rows
    done = [unpack_request_row(row) for _, row in rows.scan(b"r", b"s", 1 << 20) if is_done(row)]
    lines = results(directory)
    assert set(lines) == {row.request.url for row in done if isinstance(row, DoneRow)}
    check_records(directory, lines)
    counts = life.core.ledger.counts
    assert Counter({OUTCOMES[code].value: count for code, count in counts.done.items() if count}) == Counter(
        line["outcome"] for line in lines.values()
    )
    for row in done:
        assert isinstance(row, DoneRow)
        file, offset, length = row.line
        with (directory / file).open("rb") as pages:
            pages.seek(offset)
            assert json.loads(pages.read(length))["url"] == row.request.url
    for file, end in committed_ends(rows).items():
        assert (directory / file).stat().st_size == end, file


def check_end(directory: Path, life: Life) -> None:
    """The crawl came to its end with all pages once, and all counts say so."""
    lines = results(directory)
    assert set(lines) == set(web())
    assert {line["outcome"] for line in lines.values()} == {"OK"}
    check_now(directory, life)
    counts = life.core.ledger.counts
    assert (counts.admitted, counts.ended) == (PAGES, PAGES)
    assert counts.bytes == sum(line["wire_length"] for line in lines.values())
    assert counts.revisits == sum(line["record"] == "revisit" for line in lines.values())
    assert counts.seeds_ok == 1
    assert life.core.leases.requests == life.core.frontier.lendable == 0


def goes_on(directory: Path, rotate_bytes: int = 1 << 30) -> None:
    """Open what is left, look, crawl on, look."""
    life = Life(directory, config(rotate_bytes))
    try:
        life.commit()
        check_now(directory, life)
        life.crawl(10 * PAGES)
        check_end(directory, life)
    finally:
        life.end()
    again = Life(directory, config(rotate_bytes))
    try:
        check_end(directory, again)
    finally:
        again.end()
    figure("torn", positions=1)


def positions(start: int, end: int, *, sample: int) -> list[int]:
    """Where to cut [start, end): at the marks and beside them, and so many in between; or everywhere."""
    if EVERY_BYTE and end - start <= LONGEST_WHOLE:
        return list(range(start, end))
    size = LONGEST_WHOLE if EVERY_BYTE else sample
    step = max(1, (end - start) // size)
    return sorted({start, start + 1, end - 1, *range(start, end, step)})


def copies(whole: Path, scratch: Path, file: Path, cuts: Sequence[int]) -> Iterator[Path]:
    """The crawl again and again, with this one file cut."""
    for cut in cuts:
        copy = scratch / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        os.truncate(copy / file.relative_to(whole), cut)
        yield copy


def the_log(directory: Path) -> Path:
    (log,) = (path for path in (directory / "frontier" / "00").glob("*.log") if path.stat().st_size)
    return log


def test_untorn_the_crawl_goes_on(half_done: Path, tmp_path: Path) -> None:
    shutil.copytree(half_done, tmp_path / "copy")
    goes_on(tmp_path / "copy")


def test_pages_cut_anywhere_in_their_last_lines_are_written_again(half_done: Path, tmp_path: Path) -> None:
    (pages,) = half_done.glob("pages/*.jsonl")
    content = pages.read_bytes()
    before_the_last = content.rstrip(b"\n").rindex(b"\n", 0, content.rstrip(b"\n").rindex(b"\n")) + 1
    for copy in copies(half_done, tmp_path, pages, positions(before_the_last, len(content), sample=12)):
        goes_on(copy)


def test_a_warc_file_cut_anywhere_in_its_last_records_costs_those_pages_a_second_fetch(
    half_done: Path, tmp_path: Path
) -> None:
    (warc,) = half_done.glob("warc/*.warc.gz")
    starts = sorted(line["warc"]["offset"] for line in results(half_done).values())
    for copy in copies(half_done, tmp_path, warc, positions(starts[-2], warc.stat().st_size, sample=12)):
        goes_on(copy)


@pytest.mark.parametrize("kind", ["pages", "warc"])
def test_an_output_cut_anywhere_at_all_is_put_right(half_done: Path, tmp_path: Path, kind: str) -> None:
    (file,) = half_done.glob(f"{kind}/*")
    for copy in copies(half_done, tmp_path, file, positions(0, file.stat().st_size, sample=8)):
        goes_on(copy)


@pytest.mark.parametrize("kind", ["pages", "warc"])
def test_files_that_are_gone_are_made_again(rotated: Path, tmp_path: Path, kind: str) -> None:
    """Any one of several, an old one too: its neighbours still speak of it."""
    files = sorted(rotated.glob(f"{kind}/*"))
    assert len(files) > 3
    for file in files if EVERY_BYTE else [files[0], files[len(files) // 2], files[-1]]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(rotated, copy)
        (copy / file.relative_to(rotated)).unlink()
        goes_on(copy, 2000)


def test_an_old_file_cut_in_its_middle_is_put_right(rotated: Path, tmp_path: Path) -> None:
    for kind in ("pages", "warc"):
        file = sorted(rotated.glob(f"{kind}/*"))[1]
        for copy in copies(rotated, tmp_path, file, positions(0, file.stat().st_size, sample=4)):
            goes_on(copy, 2000)


def test_the_stores_log_cut_anywhere_in_its_tail_takes_everything_back_together(
    half_done: Path, tmp_path: Path
) -> None:
    log = the_log(half_done)
    size = log.stat().st_size
    for copy in copies(half_done, tmp_path, log, positions(size - 3000, size, sample=25)):
        goes_on(copy)


def test_the_stores_log_cut_anywhere_at_all_leaves_a_crawl_that_can_be_seeded_again(
    half_done: Path, tmp_path: Path
) -> None:
    """Or is refused while not a byte of its records was touched: where the store knows of no output any more."""
    log = the_log(half_done)
    (warc,) = half_done.glob("warc/*.warc.gz")
    for copy in copies(half_done, tmp_path, log, positions(1, log.stat().st_size, sample=15)):
        try:
            life = Life(copy, config())
        except UsageError:
            assert (copy / warc.relative_to(half_done)).read_bytes() == warc.read_bytes()
            continue
        life.seed()
        check_now(copy, life)
        life.crawl(10 * PAGES)
        check_end(copy, life)
        life.end()
        figure("torn", positions=1)


def test_a_repair_that_is_killed_is_repeated(half_done: Path, tmp_path: Path) -> None:
    """Files are mended before the rows: killed in between, the next start finds other files than the rows say."""
    copy = tmp_path / "copy"
    shutil.copytree(half_done, copy)
    (warc,) = copy.glob("warc/*.warc.gz")
    starts = sorted(line["warc"]["offset"] for line in results(copy).values())
    os.truncate(warc, starts[-4] + 10)
    shutil.copytree(copy / "frontier", tmp_path / "frontier")
    Life(copy, config()).end()
    shutil.rmtree(copy / "frontier")
    shutil.copytree(tmp_path / "frontier", copy / "frontier")
    goes_on(copy)


def test_what_was_never_committed_is_cut_off(half_done: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(half_done, copy)
    for file in (*copy.glob("pages/*"), *copy.glob("warc/*")):
        with file.open("ab") as output:
            output.write(b"half a rec")
    (copy / "pages" / "pages-00-00001.jsonl").write_bytes(b"never committed\n")
    goes_on(copy)
