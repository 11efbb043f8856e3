"""Files that are shorter than their commit [3]: what was lost is fetched again, what can be told is told again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.messages import Flag, Request, SessionId
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, host_key, slot
from coordinator.outputs import Outputs
from coordinator.repair import repair
from coordinator.shard import Shard
from coordinator.sink import FileSink, recover
from coordinator.steps import Commit, Received, Seeds, Send, Tick
from coordinator.store.kv import Overlay
from coordinator.store.rows import OpenRow, request_row, unpack, unpack_request_row
from tests.support.disk import CrashableStore

ONE = SessionId(b"1" * 16)
SITE = "https://a.test"
PAGES = 6


class Crawl:
    """A shard over a real folder. Each page's record is as long as its number says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = CrashableStore()
        self.now, self.wall = 100.0, 1_000_000.0
        self.data = self.control = 0
        self.open()

    def ends(self, rows: Overlay) -> dict[str, int]:
        return {key[1:].decode(): unpack(end) for key, end in rows.scan(b"o", b"p", 100)}

    def open(self) -> None:
        """As opening.py does."""
        self.rows = Overlay(self.store)
        self.recovery = recover(self.directory, self.ends(self.rows), 0)
        config = CrawlConfig(obey_robots=False, delay=0.0)
        if self.recovery.short:
            repair(self.directory, self.rows, self.recovery.short, 0, config)
            self.store.write(self.rows.seal())
            self.rows.committed()
        outputs = Outputs(self.ends(self.rows), shard=0, name="crawl", warcinfo=lambda file, wall: b"<info>")
        self.sink = FileSink(self.directory)
        ids = iter(range(1000))
        self.shard = Shard(
            self.rows,
            outputs,
            config,
            Scope("any", None),
            crawl=b"c" * 16,
            seed=1,
            identifier=lambda: str(next(ids)),
            now=self.now,
            wall=self.wall,
        )

    def give(self, event: Any) -> list[Any]:
        out: list[Any] = list(self.shard.handle(event, self.now, self.wall))
        commit: Commit = self.shard.seal(self.now, self.wall)
        self.sink.write(commit.outputs)
        self.store.write(commit.rows)
        return out + list(self.shard.committed(commit))

    def fetch_all(self) -> list[str]:
        """A worker that joins and fetches everything; the URLs it was lent."""
        self.control += 2
        out = self.give(Received(m.Hello(self.control - 1, m.VERSION, ONE, (), "box", 1, 0, False, ())))
        epoch = self.shard.epoch
        out += self.give(Received(m.Heartbeat(self.control, ONE, epoch, (), 100, 100, 0, 0, 0, 0)))
        fetched = []
        while leases := [
            each.message for each in out if isinstance(each, Send) and isinstance(each.message, m.Lease)
        ]:
            out = []
            for lease in leases:
                for ordinal, request in enumerate(lease.requests):
                    fetched.append(request.url)
                    out += self.page(lease, ordinal, request)
            self.now += 10.0
            out += self.give(Tick())
        return fetched

    def page(self, lease: m.Lease, ordinal: int, request: Request) -> list[Any]:
        self.data += 1
        number = int(request.url.rpartition("/")[2])
        facts = m.Facts(Outcome.OK.code, status=200, title=f"page {number}", fetched_at=self.wall)
        body = b"<ask>" + bytes([65 + number]) * (10 + number)
        message = m.Page(self.data, ONE, lease.id, ordinal, 0.0, None, facts, (), (), b"", 5, 0, ())
        return self.give(Received(message, body))

    def file(self, folder: str) -> Path:
        [found] = (self.directory / folder).iterdir()
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file("pages").read_text().splitlines()]

    def consistent(self) -> None:
        """Every line's record is where it says; every row's line is where it says; the counts add up."""
        assert sorted(line["url"] for line in self.lines()) == [f"{SITE}/{number}" for number in range(PAGES)]
        pages = self.file("pages").read_bytes()
        for line in self.lines():
            number = int(line["url"].rpartition("/")[2])
            place = line["warc"]
            record = (self.directory / place["file"]).read_bytes()[place["offset"] :][: place["length"]]
            assert record == bytes([65 + number]) * (10 + number)
            name = host_key(CanonicalURL(line["url"]))
            key = request_row(slot(name), self.shard.frontier.key_of(line["url"], None))
            row = unpack_request_row(self.rows.get(key) or b"")
            assert not isinstance(row, OpenRow)
            file, offset, length = row.line
            assert json.loads(pages[offset:][:length]) == line
            assert file == f"pages/{self.file('pages').name}"
        counts = self.shard.ledger.counts
        assert (counts.admitted, counts.ended) == (PAGES, PAGES)
        assert self.shard.frontier.lendable == 0
        self.shard.frontier.check()


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    crawl = Crawl(tmp_path)
    seeds = tuple(
        Request(f"{SITE}/{number}", 0, 0, 0, Flag.SEED, "seed", None, None) for number in range(PAGES)
    )
    crawl.give(Seeds(1, seeds))
    assert len(crawl.fetch_all()) == PAGES
    crawl.consistent()
    return crawl


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def test_whole_files_are_left_alone(crawl: Crawl) -> None:
    before = crawl.file("pages").read_bytes(), crawl.file("warc").read_bytes()
    crawl.open()
    assert crawl.recovery.short == ()
    assert (crawl.file("pages").read_bytes(), crawl.file("warc").read_bytes()) == before


@pytest.mark.parametrize("lost", [1, 20, 50])
def test_pages_whose_record_was_lost_are_fetched_again(crawl: Crawl, lost: int) -> None:
    path = crawl.file("warc")
    size = path.stat().st_size - lost
    ends = [line["warc"]["offset"] + line["warc"]["length"] for line in crawl.lines()]
    gone = [line["url"] for line, end in zip(crawl.lines(), ends, strict=True) if end > size]
    cut(path, size)
    crawl.open()
    assert path.stat().st_size == max([end for end in ends if end <= size])
    assert crawl.shard.frontier.queued == len(gone)
    assert crawl.shard.ledger.counts.ended == PAGES - len(gone)
    assert sorted(line["url"] for line in crawl.lines()) + sorted(gone) == [
        f"{SITE}/{number}" for number in range(PAGES)
    ]
    assert sorted(crawl.fetch_all()) == sorted(gone)
    crawl.consistent()


def test_a_file_of_records_that_is_gone_is_fetched_anew(crawl: Crawl) -> None:
    crawl.file("warc").unlink()
    crawl.open()
    assert crawl.lines() == []
    assert len(crawl.fetch_all()) == PAGES
    crawl.consistent()


@pytest.mark.parametrize("left", [0, 1, 200, 900])
def test_lines_that_were_lost_are_written_again_from_their_rows(crawl: Crawl, left: int) -> None:
    path = crawl.file("pages")
    before = path.read_bytes()
    cut(path, left)
    crawl.open()
    assert path.read_bytes() == before
    assert crawl.fetch_all() == []
    crawl.consistent()


def test_a_file_of_lines_that_is_gone_is_written_again(crawl: Crawl) -> None:
    path = crawl.file("pages")
    before = path.read_bytes()
    path.unlink()
    crawl.open()
    assert path.read_bytes() == before
    crawl.consistent()


def test_records_and_lines_may_both_be_short(crawl: Crawl) -> None:
    cut(crawl.file("warc"), crawl.file("warc").stat().st_size - 30)
    cut(crawl.file("pages"), 700)
    crawl.open()
    assert crawl.shard.frontier.queued == 2
    crawl.fetch_all()
    crawl.consistent()


def test_what_was_repaired_is_whole_at_the_next_start(crawl: Crawl) -> None:
    cut(crawl.file("warc"), crawl.file("warc").stat().st_size - 30)
    crawl.open()
    crawl.fetch_all()
    crawl.open()
    assert crawl.recovery.short == ()
    crawl.consistent()
