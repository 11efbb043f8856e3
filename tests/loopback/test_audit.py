"""`coord audit`: a whole crawl passes at any moment, and whatever is broken in it is found and named.

On real files: a crawl that was stopped in its middle (see test_torn_files.py), broken in one place at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.configtext import config_to_toml
from common.messages import Flag, Request
from common.url import CanonicalURL, host_key, slot
from coordinator.audit import Report, audit
from coordinator.cli import main
from coordinator.directory import CrawlDirectory
from coordinator.ledger import page_line
from coordinator.steps import Seeds
from coordinator.store import rocks
from coordinator.store.rocks import RocksStore
from coordinator.store.rows import (
    DoneRow,
    HostRow,
    LeaseRow,
    OpenRow,
    Place,
    host_of,
    is_done,
    meta_row,
    pack,
    pack_open,
    queue_key,
    queue_prefix,
    unpack,
    unpack_request_row,
)
from coordinator.store.snapshot import Snapshot, shards
from tests.loopback.test_torn_files import BIG, PAGES, SEED, Life, config

pytestmark = pytest.mark.timeout(60)

Change = Callable[["Broken"], None]


class Broken:
    """A crawl at rest, to be broken: its rows by table, its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.changes: dict[bytes, bytes | None] = {}
        with Snapshot(shards(directory)[0]) as store:
            self.rows = dict(store.scan(b"", b"\xff", 1 << 20))

    def table(self, letter: bytes) -> list[tuple[bytes, bytes]]:
        return [(key, row) for key, row in self.rows.items() if key[:1] == letter]

    def done(self, **wanted: Any) -> tuple[bytes, DoneRow]:
        """A request that ended and has these values."""
        for key, packed in self.table(b"r"):
            row = unpack_request_row(packed)
            if isinstance(row, DoneRow) and all(
                getattr(row, name) == value for name, value in wanted.items()
            ):
                return key, row
        raise AssertionError(f"none has ended with {wanted}")

    def write(self) -> None:
        store = rocks.open(shards(self.directory)[0])
        store.write(self.changes)
        store.close()

    def overwrite(self, file: str, offset: int, content: bytes) -> None:
        with (self.directory / file).open("r+b") as output:
            output.seek(offset)
            output.write(content)


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped in its middle: ended, queued and lent requests, revisits."""
    folder = tmp_path_factory.mktemp("audit") / "crawl"
    with CrawlDirectory.acquire(folder) as directory:
        directory.write("crawl.toml", config_to_toml(config()))
        life = Life(folder, config())
        life.seed()
        life.crawl(PAGES // 2)
        more = [
            Request(f"http://c.test/{number}", 0, 0, 0, int(Flag.SEED), SEED, SEED, None)
            for number in range(20)
        ]
        life._hand(Seeds(2, tuple(more)))
        life.commit()
        life.end()
    return folder


def report_of(directory: Path, *, deep: bool = False) -> Report:
    with Snapshot(shards(directory)[0]) as store:
        return audit(directory, [store], deep=deep)


def said_by(report: Report) -> str:
    return "\n".join(report.lines())


# ------------------------------------------------------------------------------------------------ nothing is wrong


def test_a_crawl_stopped_in_its_middle_agrees_with_itself(half_done: Path) -> None:
    report = report_of(half_done, deep=True)
    assert report.is_right, said_by(report)
    ended = report.done.total()
    assert report.admitted == report.queued + report.waiting + report.leased + ended
    assert (ended, report.looked_at["pages"], report.looked_at["records"]) == (12, 12, 12)
    assert report.queued + report.leased > 0
    assert report.looked_at["digests"] == 25, "a warcinfo, and of each page its request and its response"


def test_a_crawl_agrees_with_itself_after_every_page_while_it_is_being_written(tmp_path: Path) -> None:
    life = Life(tmp_path, config())
    life.seed()
    for _ in range(PAGES):
        life.crawl(1)
        report = report_of(tmp_path)
        assert report.is_right, said_by(report)
    assert report_of(tmp_path).done.total() == PAGES
    life.end()


def test_what_was_never_committed_is_no_fault(half_done: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(half_done, tmp_path / "copy")
    for file in copy.glob("pages/*"):
        with file.open("ab") as output:
            output.write(b'{"half a li')
    report = report_of(copy)
    assert report.is_right, said_by(report)
    assert report.notes == ["1 files end in what was never committed; the next start cuts it off"]


def test_an_audit_leaves_the_crawl_as_it_was(half_done: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(half_done, tmp_path / "copy")

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    before = files()
    assert main(["audit", str(copy), "--deep"]) == 0
    assert main(["why", str(copy), SEED]) == 0
    assert main(["tail", str(copy)]) == 0
    assert files() == before


# ------------------------------------------------------------------------------------------------- one thing is


def a_lost_queue_entry(broken: Broken) -> None:
    broken.changes[broken.table(b"q")[0][0]] = None


def a_lost_lease(broken: Broken) -> None:
    broken.changes[broken.table(b"l")[0][0]] = None


def a_lease_twice(broken: Broken) -> None:
    _, lease = broken.table(b"l")[0]
    broken.changes[b"l" + (1 << 40).to_bytes(8, "big")] = lease


def a_queue_entry_without_its_request(broken: Broken) -> None:
    key, _ = open_row(broken)
    broken.changes[key] = None


def a_request_queued_at_another_place(broken: Broken) -> None:
    key, row = open_row(broken)
    broken.changes[key] = pack_open(row._replace(place=Place(1, 1000, 0, 1)))


def an_ended_request_that_is_queued(broken: Broken) -> None:
    _, done = broken.done()
    name = host_key(CanonicalURL(done.request.url))
    broken.changes[queue_key(queue_prefix(slot(name), name), Place(0, 1000, 0, 1))] = pack(done.request)


def a_host_that_counts_wrong(broken: Broken) -> None:
    key, packed = broken.table(b"h")[0]
    row = HostRow(*unpack(packed))
    broken.changes[key] = pack(row._replace(queued=row.queued + 1))


def a_host_with_an_end_too_many(broken: Broken) -> None:
    key, packed = broken.table(b"h")[0]
    row = HostRow(*unpack(packed))
    broken.changes[key] = pack(row._replace(finished=row.finished + 1))


def a_lost_host(broken: Broken) -> None:
    broken.changes[b"h" + host_of(broken.table(b"q")[0][0])] = None


def one_admitted_too_many(broken: Broken) -> None:
    counts = list(unpack(broken.rows[meta_row("counts")]))
    counts[0] += 1
    broken.changes[meta_row("counts")] = pack(counts)


def an_end_of_another_outcome(broken: Broken) -> None:
    counts = list(unpack(broken.rows[meta_row("counts")]))
    counts[5] = {1: 12}
    broken.changes[meta_row("counts")] = pack(counts)


def a_lost_row(broken: Broken) -> None:
    broken.changes[broken.done()[0]] = None


def a_row_under_another_key(broken: Broken) -> None:
    key, _ = broken.done()
    broken.changes[key] = None
    broken.changes[key[:-1] + bytes([key[-1] ^ 1])] = broken.rows[key]


def a_row_that_does_not_decode(broken: Broken) -> None:
    broken.changes[broken.done()[0]] = b"\x99\xc1"


def a_line_that_says_something_else(broken: Broken) -> None:
    _, done = broken.done()
    line = page_line(done).replace(b'"status":200', b'"status":404')
    broken.overwrite(done.line[0], done.line[1], line)


def a_line_that_stands_twice(broken: Broken) -> None:
    """Of one request, in the place of another's: as long, so that nothing else moves."""
    _, done = broken.done(record="revisit")
    lines = (broken.directory / done.line[0]).read_bytes().splitlines(keepends=True)
    by_length: dict[int, bytes] = {}
    offset = 0
    for line in lines:
        twin = by_length.setdefault(len(line), line)
        if twin != line:
            broken.overwrite(done.line[0], offset, twin)
            return
        offset += len(line)
    raise AssertionError("no two lines have one length")


def a_line_without_a_row(broken: Broken) -> None:
    (file,) = broken.directory.glob("pages/*")
    key = b"opages/" + file.name.encode()
    line = b'{"url":"http://a.test/never"}\n'
    broken.changes[key] = pack(file.stat().st_size + len(line))
    with file.open("ab") as output:
        output.write(line)


def two_rows_for_one_line(broken: Broken) -> None:
    first, done = broken.done()
    other = next(key for key, row in broken.table(b"r") if is_done(row) and key != first)
    row = unpack_request_row(broken.rows[other])
    assert isinstance(row, DoneRow)
    broken.changes[other] = pack(row._replace(line=done.line))


def a_record_of_another_url(broken: Broken) -> None:
    key, done = broken.done(record="response")
    _, other = broken.done(record="revisit")
    broken.changes[key] = pack(done._replace(warc=other.warc))


def a_record_that_begins_elsewhere(broken: Broken) -> None:
    key, done = broken.done(record="response")
    assert done.warc is not None
    file, offset, length = done.warc
    broken.changes[key] = pack(done._replace(warc=(file, offset + 1, length - 1)))


def a_record_that_ends_elsewhere(broken: Broken) -> None:
    key, done = broken.done()
    assert done.warc is not None
    file, offset, length = done.warc
    broken.changes[key] = pack(done._replace(warc=(file, offset, length - 1)))


def a_record_called_by_another_digest(broken: Broken) -> None:
    key, done = broken.done()
    facts = done.facts._replace(digest="sha1:" + "A" * 32)
    broken.changes[key] = pack(done._replace(facts=facts))


def a_short_file(broken: Broken) -> None:
    (file,) = broken.directory.glob("warc/*")
    os.truncate(file, file.stat().st_size - 1)


def a_file_that_is_gone(broken: Broken) -> None:
    (file,) = broken.directory.glob("pages/*")
    file.unlink()


def open_row(broken: Broken) -> tuple[bytes, OpenRow]:
    """An open request that is queued: the place in its row is one of the queue's."""
    places = {key[-13:] for key, _ in broken.table(b"q")}
    for key, packed in broken.table(b"r"):
        row = unpack_request_row(packed)
        if isinstance(row, OpenRow) and packed[1:14] in places:
            return key, row
    raise AssertionError("nothing is queued")


FAULTS: list[tuple[Change, str, str]] = [
    (a_lost_queue_entry, "queues", "is open, and in no queue, wait or lease"),
    (a_lost_lease, "queues", "is open, and in no queue, wait or lease"),
    (a_lease_twice, "queues", "is in 2 places at once"),
    (a_queue_entry_without_its_request, "queues", "is queued, and was never admitted"),
    (a_request_queued_at_another_place, "queues", "its row says Place"),
    (an_ended_request_that_is_queued, "queues", "and has ended: OK"),
    (a_host_that_counts_wrong, "hosts", "its row says"),
    (a_host_with_an_end_too_many, "hosts", "its row counts 1 more ends than its requests have"),
    (a_lost_host, "hosts", "has no row"),
    (one_admitted_too_many, "counts", "admitted: the counts row says"),
    (an_end_of_another_outcome, "counts", "ended, by outcome"),
    (a_lost_row, "pages", "no row speaks of this line"),
    (a_row_under_another_key, "requests", "stands under the key of another request"),
    (a_row_that_does_not_decode, "requests", "does not decode"),
    (a_line_that_says_something_else, "pages", "says status 404, its row 200"),
    (a_line_that_stands_twice, "pages", "says url"),
    (a_line_without_a_row, "pages", "no row speaks of this line"),
    (two_rows_for_one_line, "pages", "1 more rows than lines name this place"),
    (a_record_of_another_url, "records", "is of http://"),
    (a_record_that_begins_elsewhere, "records", "no gzip member begins at"),
    (a_record_that_ends_elsewhere, "records", "does not end after"),
    (a_record_called_by_another_digest, "records", "has the digest"),
    (a_short_file, "outputs", "are committed"),
    (a_file_that_is_gone, "outputs", "No such file"),
]


@pytest.mark.parametrize(("fault", "check", "told"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_fault_is_found_and_its_first_offender_named(
    half_done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Change, check: str, told: str
) -> None:
    copy = shutil.copytree(half_done, tmp_path / "copy")
    broken = Broken(copy)
    fault(broken)
    broken.write()
    report = report_of(copy)
    assert report.wrong[check], said_by(report)
    assert any(told in offender for offender in report.offenders[check]), said_by(report)
    assert main(["audit", str(copy)]) == 1
    assert told in capsys.readouterr().out


def test_only_reading_deep_finds_a_flipped_bit_in_a_payload(half_done: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(half_done, tmp_path / "copy")
    rows = (unpack_request_row(packed) for _, packed in Broken(copy).table(b"r"))
    [(file, offset, length)] = [
        row.warc
        for row in rows
        if isinstance(row, DoneRow) and row.request.url == BIG and row.warc is not None
    ]
    with (copy / file).open("r+b") as warc:
        warc.seek(offset + length // 2)
        byte = warc.read(1)
        warc.seek(-1, os.SEEK_CUR)
        warc.write(bytes([byte[0] ^ 0x40]))
    assert report_of(copy).is_right
    report = report_of(copy, deep=True)
    assert report.wrong["digests"], said_by(report)


# ------------------------------------------------------------------------------------------------------- why, tail


def why(capsys: pytest.CaptureFixture[str], directory: Path, url: str) -> dict[str, Any]:
    assert main(["why", str(directory), url, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_why_tells_of_every_state_from_the_store_alone(
    half_done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = why(capsys, half_done, SEED)
    assert (told["state"], told["outcome"], told["depth"]) == ("FETCHED", "OK", 0)
    states = {}
    for key, packed in Broken(half_done).table(b"q"):
        url, depth, *_ = unpack(packed)
        told = states[key] = why(capsys, half_done, url)
        assert (told["state"], told["depth"]) == ("QUEUED", depth)
        assert told["referrer"].startswith("http://")
    (lease, *_) = Broken(half_done).table(b"l")
    url = LeaseRow(*unpack(lease[1])).requests[-1][0]
    assert why(capsys, half_done, url)["state"] == "LEASED"
    told = why(capsys, half_done, "http://nowhere.test/")
    assert (told["state"], told["refused_by"]) == ("NEVER_ADMITTED", None)
    assert why(capsys, half_done, "nowhere.test:81/x")["url"] == "https://nowhere.test:81/x"
    assert why(capsys, half_done, "mailto:x@y")["refused_by"] == "scheme"
    assert main(["why", str(half_done), SEED]) == 0
    assert capsys.readouterr().out.startswith(f"{SEED}: FETCHED  OK 200\n")


def test_tail_prints_what_is_committed_and_no_more_over_all_files(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = tmp_path / "crawl"
    with CrawlDirectory.acquire(folder):
        life = Life(folder, config(2000))
        life.seed()
        life.crawl(10 * PAGES)
        life.end()
    files = sorted(folder.glob("pages/*"))
    assert len(files) > 3
    whole = b"".join(file.read_bytes() for file in files)
    with files[-1].open("ab") as output:
        output.write(b'{"url": "never committed"}\n')
    for more in ([], ["--follow"]):
        assert main(["tail", str(folder), *more]) == 0
        assert capfdbinary.readouterr().out == whole


def test_each_command_says_in_one_line_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["audit"], ["tail"], ["why", "http://a.test/"]):
        assert main([command[0], str(tmp_path / "none"), *command[1:]]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["audit", "127.0.0.1:7700"]) == 2
    assert "name its folder" in capsys.readouterr().err


def test_a_snapshot_is_not_written_to(half_done: Path) -> None:
    with Snapshot(shards(half_done)[0]) as store, pytest.raises(Exception, match="opened to be read"):
        RocksStore.write(store, {b"x": b"y"})
