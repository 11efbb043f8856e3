"""Lines of `text` and `links` are kept with the end of their page: once, never without it, and told again if lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common import messages as m
from common.messages import Flag, Request
from common.outcome import Outcome
from coordinator.steps import Received, Seeds
from coordinator.store.rows import OpenRow, is_done, unpack_request_row
from tests.unit.test_repair import ONE, PAGES, SITE, Crawl, cut

LINKS = 3
"""Of each page."""


class Kept(Crawl):
    """Its pages have a line of text and some of links; the first tries of `busy` are told to come back later."""

    busy: tuple[str, ...] = ()

    def page(self, lease: m.Lease, ordinal: int, request: Request) -> list[Any]:
        self.data += 1
        number = int(request.url.rpartition("/")[2])
        busy = request.url in self.busy and not request.attempts
        links = [json.dumps({"from": request.url, "to": f"{SITE}/{number}/{each}"}) for each in range(LINKS)]
        items = (
            (m.TEXT_LINES, json.dumps({"url": request.url, "text": "a\nb"}).encode()),
            (m.LINK_LINES, "\n".join(links[:2]).encode()),
            (m.LINK_LINES, links[2].encode()),
            ("book", b'{"a":"1\n2"}'),
        )
        outcome, status = (Outcome.SERVER_ERROR, 503) if busy else (Outcome.OK, 200)
        facts = m.Facts(outcome.code, status=status, title=f"page {number}", fetched_at=self.wall)
        body = b"<ask>" + bytes([65 + number]) * (10 + number)
        message = m.Page(self.data, ONE, lease.id, ordinal, 0.0, None, facts, (), (), b"", 5, 0, items)
        return self.give(Received(message, body))

    def of(self, folder: str) -> list[dict[str, Any]]:
        """The lines of a folder's one file that count."""
        gone = {
            position
            for key, _ in self.rows.scan(b"y", b"z", 1000)
            for file, begin, size in [key[1:].decode().rsplit(" ", 2)]
            if file.startswith(f"{folder}/")
            for position in range(int(begin), int(begin) + int(size))
        }
        found, offset = [], 0
        for line in self.file(folder).read_bytes().splitlines(keepends=True):
            if offset not in gone:
                found.append(json.loads(line))
            offset += len(line)
        return found

    def complete(self) -> None:
        """Every page has its lines, once; rows speak of every byte of the files."""
        self.consistent()
        assert sorted(line["url"] for line in self.of("text")) == [f"{SITE}/{n}" for n in range(PAGES)]
        links = [line["to"] for line in self.of("links")]
        assert sorted(links) == [f"{SITE}/{n}/{each}" for n in range(PAGES) for each in range(LINKS)]
        assert len(self.of("items")) == PAGES
        spoken = dict.fromkeys(("text", "links", "items"), 0)
        for _, packed in self.rows.scan(b"r", b"s", 1000):
            row = unpack_request_row(packed)
            assert is_done(packed)
            assert not isinstance(row, OpenRow)
            for file, _, length in row.items:
                spoken[file.partition("/")[0]] += length
        for key, _ in self.rows.scan(b"y", b"z", 1000):
            file, _, size = key[1:].decode().rsplit(" ", 2)
            if not file.startswith("pages/"):
                spoken[file.partition("/")[0]] += int(size)
        assert spoken == {folder: self.file(folder).stat().st_size for folder in spoken}


def begun(directory: Path, busy: tuple[str, ...] = ()) -> Kept:
    crawl = Kept(directory)
    crawl.busy = busy
    seeds = [Request(f"{SITE}/{number}", 0, 0, 0, Flag.SEED, "seed", None, None) for number in range(PAGES)]
    crawl.give(Seeds(1, tuple(seeds)))
    crawl.fetch_all()
    return crawl


@pytest.fixture
def crawl(tmp_path: Path) -> Kept:
    crawl = begun(tmp_path)
    crawl.complete()
    return crawl


def test_they_stand_in_files_of_their_own_and_a_line_is_a_line(crawl: Kept) -> None:
    assert crawl.file("text").name == "text-00-00000.jsonl"
    assert crawl.file("links").name == "links-00-00000.jsonl"
    assert crawl.file("items").name == "book-00-00000.jsonl"
    assert crawl.of("text")[0]["text"] == "a\nb"
    assert crawl.file("items").read_bytes().count(b"\n") == PAGES


def test_a_try_that_is_put_off_leaves_no_line(tmp_path: Path) -> None:
    """Only what ends the request counts: the one that came at last."""
    busy = (f"{SITE}/1", f"{SITE}/4")
    crawl = begun(tmp_path, busy)
    assert len(crawl.of("text")) == PAGES - len(busy)
    for _ in range(400):
        if crawl.shard.ledger.counts.ended == PAGES:
            break
        crawl.now += 60.0
        crawl.wall += 60.0
        crawl.fetch_all()
    crawl.complete()


def test_a_torn_tail_is_cut_off(crawl: Kept) -> None:
    for folder in ("text", "links"):
        with crawl.file(folder).open("ab") as file:
            file.write(b'{"url":"torn')
    crawl.open()
    assert crawl.recovery.short == ()
    crawl.complete()


@pytest.mark.parametrize("folder", ["text", "links"])
@pytest.mark.parametrize("lost", [1, 50, 250, 100_000])
def test_pages_whose_lines_were_lost_are_fetched_again(crawl: Kept, folder: str, lost: int) -> None:
    """What a page's text was no row knows: unlike its line in `pages` it cannot be written again."""
    path = crawl.file(folder)
    before = path.stat().st_size
    if lost < before:
        cut(path, before - lost)
    else:
        path.unlink()
    crawl.open()
    queued = crawl.shard.frontier.queued
    assert queued == (PAGES if lost > before else 1 if lost < 50 else queued)
    assert len(crawl.fetch_all()) == queued >= 1
    crawl.complete()
    crawl.open()
    assert crawl.recovery.short == ()
    crawl.complete()


def test_what_is_tried_anew_leaves_lines_that_count_no_more(crawl: Kept) -> None:
    row = next(
        row
        for _, packed in crawl.rows.scan(b"r", b"s", 1)
        if not isinstance(row := unpack_request_row(packed), OpenRow)
    )
    crawl.shard.ledger.reopen(row)
    assert len(crawl.of("text")) == PAGES - 1
    assert len(crawl.of("links")) == LINKS * (PAGES - 1)
