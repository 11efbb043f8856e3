"""Downloads at a shard: pieces, what broke off, the file that they become; with a real folder and lost power."""

from __future__ import annotations

import hashlib
import os
from base64 import b32encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import messages as m
from common.config import CrawlConfig
from common.messages import DOWNLOAD, PIECE_BYTES, File, Request
from common.outcome import Outcome
from coordinator import files
from coordinator.files import Files
from coordinator.outputs import OutputBatch
from coordinator.partials import MAX_PARTIALS, SYNC_EVERY
from coordinator.steps import (
    DropPieces,
    Event,
    Hashed,
    HashPart,
    Instruction,
    KeepPiece,
    Received,
    Reconfigured,
    Seeds,
)
from coordinator.store.kv import Overlay
from coordinator.store.rows import file_row
from tests.unit.test_shard import OK, ONE, SITE, TWO, Bench, answers, only, sent

URL = f"{SITE}/film"
FORM = m.Form(DOWNLOAD, (), None, None, 0, 0, None)
BROKEN = OK._replace(outcome=Outcome.TRUNCATED.code, reason="disconnect")


class Lossy(Files):
    """Files that know what of them survives a power cut."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0)
        self.durable: dict[str, int] = {}

    def settle(self, moves: object, synced: object) -> None:
        super().settle(moves, synced)  # type: ignore[arg-type]
        for part in synced:  # type: ignore[attr-defined]
            if (self._folder / part).exists():
                self.durable[part] = (self._folder / part).stat().st_size

    def power_cut(self) -> None:
        for path in self._folder.iterdir() if self._folder.exists() else ():
            if path.name in self.durable:
                os.truncate(path, min(path.stat().st_size, self.durable[path.name]))
            else:
                path.unlink()


class Desk(Bench):
    """A shard with a folder for its downloads."""

    def __init__(self, folder: Path, config: CrawlConfig | None = None) -> None:
        self.folder = folder
        self.disk = Lossy(folder)
        self.began = 0
        super().__init__(config or CrawlConfig(obey_robots=False, delay=0.0, retries=2))

    def handle(self, event: Event) -> list[Instruction]:
        out = self.shard.handle(event, self.now, self.wall)
        for each in out:
            if isinstance(each, KeepPiece):
                assert each.file
                self.disk.keep(each.key, each.index, each.body)
        return out

    def commit(self) -> list[Instruction]:
        commit = self.shard.seal(self.now, self.wall)
        batch = commit.outputs
        self.disk.settle(batch.moves, batch.synced)
        self.files.write(OutputBatch(batch.appends, batch.ends, batch.closed))
        self.store.write(commit.rows)
        out = list(self.shard.committed(commit))
        for each in out:
            if isinstance(each, DropPieces):
                self.disk.drop(each.key)
        return out

    def crash(self, *, power: bool = False) -> None:
        if power:
            self.disk.power_cut()
        rows = Overlay(self.store)
        files.recover(self.folder, rows, 0)
        self.store.write(rows.seal())
        self.disk = Lossy(self.folder)
        self.disk.durable = {path.name: path.stat().st_size for path in self.folder.glob("files/.parts/00/*")}
        self.restart()

    def lend(self, url: str = URL, form: m.Form | None = FORM) -> m.Lease:
        [lease] = sent(m.Lease, self.give(Seeds(1, (Request(url, 0, 0, 0, 0, "seed", None, form),))))
        return lease

    def again(self) -> m.Lease:
        """What was put back or off is lent again."""
        for _ in range(80):
            if found := sent(m.Lease, self.wait(15.0) + self.beat()):
                return found[0]
        raise AssertionError("nothing is lent")

    def begin(self) -> int:
        self.began += 1
        return self.began

    def piece(
        self,
        lease: m.Lease,
        index: int,
        body: bytes,
        *,
        began: int,
        first: int = 0,
        validator: str | None = '"a"',
    ) -> str | None:
        """Send a piece; what it is refused with."""
        self.data += 1
        message = m.FilePiece(self.data, lease.session, lease.id, 0, index, began, first, validator)
        return self.refusal(self.give(Received(message, body)))

    def end(
        self,
        lease: m.Lease,
        pieces: int,
        tail: bytes,
        *,
        began: int = 0,
        first: int = 0,
        digest: str | None = None,
        facts: m.Facts = OK,
        name: str = "film.bin",
    ) -> str | None:
        """Send the Page, and let the shard hash where it wants to; what it is refused with."""
        self.data += 1
        page = m.Page(
            self.data,
            lease.session,
            lease.id,
            0,
            0.0,
            None,
            facts._replace(digest=digest),
            (),
            (),
            b"",
            0,
            pieces,
            (),
            None,
            File(name, began, first),
        )
        out = self.give(Received(page, tail))
        for step in only(HashPart, out):
            assert answers(out) == ([], {})
            found = self.disk.digest(step.part, step.pieces, step.tail)
            out = self.give(Hashed(step.session, step.number, found))
        return self.refusal(out)

    def refusal(self, out: list[Instruction]) -> str | None:
        accepted, refused = answers(out)
        assert accepted == [self.data] or list(refused) == [self.data]
        return refused.get(self.data)

    def kept(self) -> list[str]:
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in (self.folder / "files").rglob("*")
            if path.is_file()
        )

    def line(self, url: str = URL) -> dict[str, object]:
        [line] = [line for line in self.lines() if line["url"] == url]
        return line


def digest(body: bytes) -> str:
    return "sha1:" + b32encode(hashlib.sha1(body).digest()).decode()


def mib(number: int, version: int = 0) -> bytes:
    return bytes((version, number)) * (PIECE_BYTES // 2)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.join()
    return desk


# -------------------------------------------------------------------------------------------------- the plain way


def test_a_file_is_put_together_from_its_pieces_and_its_line_says_where(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    for index in range(3):
        assert desk.piece(lease, index, mib(index), began=began) is None
    whole = b"".join(mib(index) for index in range(3)) + b"end"
    assert desk.end(lease, 3, b"end", began=began, digest=digest(whole), name="../My film.mp4") is None
    line = desk.line()
    assert (line["outcome"], line["length"], line["method"]) == ("OK", len(whole), DOWNLOAD)
    assert (line["warc"], line["record"]) == (None, None)
    assert desk.kept() == [line["file"]]
    assert str(line["file"]).startswith("files/a.test/") and str(line["file"]).endswith(".mp4")
    assert (desk.folder / str(line["file"])).read_bytes() == whole
    assert desk.shard.ledger.counts.files == 1
    assert desk.shard.ledger.counts.file_bytes == len(whole)
    desk.adds_up()


def test_a_small_one_and_an_empty_one_come_in_their_page(desk: Desk) -> None:
    for url, body in ((f"{SITE}/small", b"small"), (f"{SITE}/empty", b"")):
        assert desk.end(desk.lend(url), 0, body, digest=digest(body)) is None
        assert (desk.folder / str(desk.line(url)["file"])).read_bytes() == body


def test_the_same_bytes_again_name_the_file_that_is_there(desk: Desk) -> None:
    body = mib(7) + b"tail"
    first, began = desk.lend(), desk.begin()
    desk.piece(first, 0, mib(7), began=began)
    desk.end(first, 1, b"tail", began=began, digest=digest(body))
    other, began = desk.lend(f"{SITE}/other"), desk.begin()
    desk.piece(other, 0, mib(7), began=began)
    desk.end(other, 1, b"tail", began=began, digest=digest(body))
    assert desk.line()["file"] == desk.line(f"{SITE}/other")["file"]
    assert len(desk.kept()) == 1
    counts = desk.shard.ledger.counts
    assert (counts.files, counts.file_bytes) == (2, len(body))


def test_a_file_digest_is_no_digest_of_a_page(desk: Desk) -> None:
    """A page with the same payload has its own record: what is in `files` is in no WARC."""
    desk.end(desk.lend(), 0, b"same", digest=digest(b"same"))
    lease = desk.lend(f"{SITE}/page", None)
    desk.page(lease, facts=OK._replace(digest=digest(b"same"), wire_length=4), body=b"<asked><same>", split=7)
    assert desk.line(f"{SITE}/page")["record"] == "response"


def test_a_digest_that_no_worker_told_is_worked_out(desk: Desk) -> None:
    assert desk.end(desk.lend(), 0, b"body", digest="no digest\r\nat all") is None
    assert desk.line()["digest"] == digest(b"body")


# ---------------------------------------------------------------------------------------------- what breaks off


def test_what_broke_off_goes_on_and_costs_no_try_while_it_gets_on(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    for index in range(2):
        desk.piece(lease, index, mib(index), began=began)
    assert desk.end(lease, 2, b"", began=began, facts=BROKEN) is None
    for have in (2, 3, 4):
        lease, began = desk.again(), desk.begin()
        assert lease.resumes == (m.Resume(0, have, '"a"'),)
        assert lease.requests[0].attempts == 1
        assert desk.piece(lease, have, mib(have), began=began, first=have) is None
        desk.end(lease, have + 1, b"", began=began, first=have, facts=BROKEN)
    lease, began = desk.again(), desk.begin()
    whole = b"".join(mib(index) for index in range(5)) + b"end"
    assert desk.end(lease, 5, b"end", began=began, first=5) is None
    assert (desk.folder / str(desk.line()["file"])).read_bytes() == whole
    assert desk.line()["digest"] == digest(whole)
    assert (desk.line()["attempts"], len(desk.kept())) == (2, 1)


def test_without_a_validator_it_begins_anew(desk: Desk) -> None:
    lease = desk.lend()
    desk.piece(lease, 0, mib(0), began=desk.begin(), validator=None)
    desk.release(lease)
    assert desk.kept() == []
    assert desk.again().resumes == ()


def test_what_cannot_be_a_header_is_no_validator(desk: Desk) -> None:
    lease = desk.lend()
    desk.piece(lease, 0, mib(0), began=desk.begin(), validator='"a"\r\nCookie: x')
    desk.release(lease)
    assert desk.again().resumes == ()


def test_tries_are_counted_where_it_began_anew_and_end_it(desk: Desk) -> None:
    lease = desk.lend()
    for attempts in range(3):
        assert lease.requests[0].attempts == attempts
        began = desk.begin()
        desk.piece(lease, 0, mib(0, attempts), began=began, validator=f'"{attempts}"')
        desk.end(lease, 1, b"", began=began, facts=BROKEN)
        if attempts < 2:
            lease = desk.again()
    assert (desk.line()["outcome"], desk.line()["file"], desk.line()["attempts"]) == ("TRUNCATED", None, 3)
    assert desk.kept() == []
    desk.adds_up()


def test_a_rest_that_is_of_another_file_begins_anew(desk: Desk) -> None:
    """206 where another file stands, or 416: what was kept serves no more."""
    lease, began = desk.lend(), desk.begin()
    desk.piece(lease, 0, mib(0), began=began)
    desk.end(lease, 1, b"", began=began, facts=BROKEN)
    desk.end(desk.again(), 0, b"", facts=BROKEN._replace(reason="range"))
    assert desk.again().resumes == ()
    assert desk.kept() == []


def test_another_fetch_never_mixes_with_the_one_before(desk: Desk) -> None:
    """The server has another file by now: its pieces do not lie among the old ones."""
    lease, began = desk.lend(), desk.begin()
    for index in range(3):
        desk.piece(lease, index, mib(index), began=began)
    desk.release(lease)
    lease, began = desk.again(), desk.begin()
    desk.piece(lease, 0, mib(0, 1), began=began, validator='"b"')
    desk.release(lease)
    lease = desk.again()
    assert lease.resumes == (m.Resume(0, 1, '"b"'),)
    whole = mib(0, 1) + b"!"
    assert desk.end(lease, 1, b"!", began=desk.begin(), first=1) is None
    assert (desk.folder / str(desk.line()["file"])).read_bytes() == whole


def test_a_fetch_that_goes_on_from_what_is_not_there_is_refused(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    assert desk.piece(lease, 5, mib(5), began=began, first=5) == "pieces"
    assert desk.piece(lease, m.FILE_WINDOW, mib(8), began=began) == "pieces"
    assert desk.end(lease, 3, b"end", began=began, digest=digest(b"")) == "pieces"
    assert desk.piece(lease, 0, b"short", began=began) == "piece"
    far = desk.config.max_file_bytes // PIECE_BYTES + 1
    assert desk.piece(lease, far, mib(0), began=began) == "piece"


def test_pieces_out_of_order_and_twice_are_taken_once(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    for index in (2, 0, 2, 1, 0):
        assert desk.piece(lease, index, mib(index), began=began) is None
    whole = b"".join(mib(index) for index in range(3)) + b"end"
    assert desk.end(lease, 3, b"end", began=began, digest=digest(whole)) is None
    assert (desk.folder / str(desk.line()["file"])).read_bytes() == whole


def test_a_late_piece_of_an_earlier_fetch_of_the_lease_changes_nothing(desk: Desk) -> None:
    lease, old, new = desk.lend(), desk.begin(), desk.begin()
    desk.piece(lease, 0, mib(0, 1), began=new)
    assert desk.piece(lease, 0, mib(0), began=old) is None
    assert desk.end(lease, 1, b"", began=new, digest=digest(mib(0, 1))) is None
    assert (desk.folder / str(desk.line()["file"])).read_bytes() == mib(0, 1)


def test_another_process_goes_on_when_the_first_died(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    desk.piece(lease, 0, mib(0), began=began)
    desk.hello(TWO, replaces=(ONE,))
    [lease] = sent(m.Lease, desk.wait(1.0) + desk.beat(TWO))
    assert lease.resumes == (m.Resume(0, 1, '"a"'),)


# ------------------------------------------------------------------------------------------------ after a restart


def test_only_what_was_synced_is_believed_after_a_restart(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    for index in range(SYNC_EVERY + 3):
        desk.piece(lease, index, mib(index % 251), began=began)
    desk.crash()
    desk.join(TWO)
    lease = desk.again()
    assert lease.resumes == (m.Resume(0, SYNC_EVERY, '"a"'),)


def test_a_process_that_outlived_the_coordinator_does_not_spoil_what_is_kept(desk: Desk) -> None:
    """It goes on in the middle of its fetch, of which pieces are lost: it is told so, and its request goes on from
    what was synced."""
    lease, began = desk.lend(), desk.begin()
    for index in range(SYNC_EVERY + 12):
        desk.piece(lease, index, mib(index % 251), began=began)
    desk.crash()
    desk.hello(leases=(lease.id,))
    assert desk.piece(lease, SYNC_EVERY + 12, mib(44), began=began) == "pieces"
    desk.beat(leases=(lease.id,))
    desk.release(lease)
    assert desk.again().resumes == (m.Resume(0, SYNC_EVERY, '"a"'),)


def test_a_part_that_lost_its_bytes_is_not_gone_on_with(desk: Desk) -> None:
    lease, began = desk.lend(), desk.begin()
    for index in range(2):
        desk.piece(lease, index, mib(index), began=began)
    desk.release(lease)
    [part] = desk.folder.glob("files/.parts/00/*")
    os.truncate(part, PIECE_BYTES)
    desk.crash()
    assert list(desk.folder.glob("files/.parts/00/*")) == []
    desk.join()
    assert all(not lease.resumes for lease in sent(m.Lease, desk.wait(1.0)))


def test_a_file_without_a_row_goes_and_what_is_not_ours_stays(desk: Desk) -> None:
    desk.end(desk.lend(), 0, b"body", digest=digest(b"body"))
    kept = str(desk.line()["file"])
    stray = kept.replace("film", "stray")
    assert stray != kept
    (desk.folder / stray).write_bytes(b"renamed, never committed")
    (desk.folder / "files/a.test/notes.txt").write_text("somebody's own")
    (desk.folder / "files/readme").write_text("somebody's own")
    desk.crash()
    assert desk.kept() == sorted([kept, "files/a.test/notes.txt", "files/readme"])
    assert desk.rows.get(file_row(kept)) is not None


def test_at_most_so_many_are_kept_and_the_oldest_goes(desk: Desk) -> None:
    rows, outputs = desk.shard.rows, desk.shard._state.outputs
    partials = desk.shard._state.partials
    for number in range(MAX_PARTIALS + 5):
        key = number.to_bytes(18, "big")
        piece = m.FilePiece(number, ONE, m.LeaseId(number), 0, 0, 1, 0, '"a"')
        partials.piece(key, piece)
        partials.leave(key)
    assert len(partials) == MAX_PARTIALS
    assert partials.get((4).to_bytes(18, "big")) is None
    assert len(rows.scan(b"p", b"q", 2000)) == MAX_PARTIALS
    assert outputs.dirty


# --------------------------------------------------------------------------------------- a lower limit meanwhile


def test_a_big_page_that_was_fetched_under_a_higher_limit_is_taken(desk: Desk) -> None:
    """`coord set max_bytes=...` while its pieces are on their way: it must end, and does."""
    lease = desk.lend(f"{SITE}/page", None)
    desk.give(Reconfigured(CrawlConfig(obey_robots=False, delay=0.0, max_bytes=1 << 20)))
    pieces: dict[tuple[str, int], bytes] = {}
    for index in range(12):
        desk.data += 1
        message = m.Piece(desk.data, ONE, lease.id, 0, index)
        out = desk.shard.handle(Received(message, bytes(PIECE_BYTES)), desk.now, desk.wall)
        pieces.update({(each.key, each.index): each.body for each in only(KeepPiece, out)})
    assert len(pieces) == 12


# --------------------------------------------------------------------------------------------- whatever happens


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from("pppPPrbcCvdE"), max_size=40), st.integers(1, 40))
def test_whatever_happens_a_file_is_what_one_version_of_it_was(
    tmp_path_factory: pytest.TempPathFactory, story: list[str], size: int
) -> None:
    """p a piece, P many, d one again, r released, b broken off, c crash, C power cut, v another version, E its end."""
    desk = Desk(tmp_path_factory.mktemp("desk"), CrawlConfig(obey_robots=False, delay=0.0, retries=9))
    desk.join()
    lease: m.Lease | None = desk.lend()
    version, mine = 0, 0
    began = desk.begin()
    first = following = 0
    for act in [*story, "E", "E"]:
        if not desk.shard.leases.requests and not desk.shard.frontier.queued + desk.shard.frontier.waiting:
            break  # it has ended
        if lease is None:
            desk.join()
            lease, began, mine = desk.again(), desk.begin(), version
            first = following = 0
            if lease.resumes and lease.resumes[0].validator == f'"{version}"':
                first = following = lease.resumes[0].pieces
        validator = f'"{mine}"'
        if act == "v":
            version += 1
        elif act in "pPd":
            for _ in range(SYNC_EVERY + 1 if act == "P" else 1):
                index = max(first, following - 1) if act == "d" else following
                if index >= size or lease is None:
                    break
                if desk.piece(lease, index, mib(index, mine), began=began, first=first, validator=validator):
                    desk.release(lease)
                    lease = None
                following += act != "d"
        elif act == "r":
            desk.release(lease)
            lease = None
        elif act == "b":
            assert desk.end(lease, following, b"", began=began, first=first, facts=BROKEN) is None
            lease = None
        elif act in "cC":
            desk.crash(power=act == "C")
            desk.now += 100
            desk.wall += 100
            desk.give(Seeds(9, ()))
            lease = None
        else:
            while following < size and lease is not None:
                if desk.piece(
                    lease, following, mib(following, mine), began=began, first=first, validator=validator
                ):
                    desk.release(lease)
                    lease = None
                following += 1
            if lease is None:
                continue
            whole = b"".join(mib(index, mine) for index in range(size)) + b"end"
            told = None if first else digest(whole)
            if desk.end(lease, size, b"end", began=began, first=first, digest=told) is not None:
                desk.release(lease)
                lease = None
                continue
            line = desk.line()
            assert (desk.folder / str(line["file"])).read_bytes() == whole
            assert line["digest"] == digest(whole)
            assert desk.kept() == [line["file"]]
        desk.adds_up()
