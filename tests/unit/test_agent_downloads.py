"""Downloads at the agent: their pieces, what waits for them, and what is broken off."""

from __future__ import annotations

from common import messages as m
from common.messages import PIECE_BYTES, File, LeaseId
from tests.unit.test_agent import FACTS, SITE, Desk, only
from worker.owed import SEND_AGAIN_AFTER
from worker.steps import Abort, Instruction, PieceCame, PieceKept, Post, Report
from worker.visit import Fetch

DONE = Report(FACTS, answered=b"tail", file=File("f.bin", 1, 0), pieces=2)


def piece(desk: Desk, lease: int, index: int, ordinal: int = 0) -> list[Instruction]:
    came = PieceCame(lease, ordinal, index, 1, 0, '"a"', bytes(PIECE_BYTES))
    return desk.take(desk.agent.handle(came, desk.now))


def sent(out: list[Instruction]) -> list[m.FilePiece]:
    return [
        post.message
        for post in only(Post, out)
        if isinstance(post.message, m.FilePiece) and len(post.body) == PIECE_BYTES
    ]


def test_a_piece_goes_up_at_once_and_its_answer_makes_room_for_another() -> None:
    desk = Desk()
    lease = desk.lend()
    [message] = sent(piece(desk, lease, 0))
    assert (message.lease, message.index, message.began, message.validator) == (lease, 0, 1, '"a"')
    assert only(PieceKept, desk.accept(message.number)) == [PieceKept(lease, 0, 1)]
    assert only(PieceKept, desk.accept(message.number)) == []


def test_the_page_waits_until_every_piece_is_answered() -> None:
    desk = Desk()
    lease = desk.lend()
    first, second = (sent(piece(desk, lease, index))[0].number for index in range(2))
    assert desk.fetched(lease, 0, DONE) == []
    assert only(Post, desk.accept(second)) == []
    [post] = only(Post, desk.accept(first))
    page = post.message
    assert isinstance(page, m.Page) and page.file == File("f.bin", 1, 0)
    assert (page.pieces, page.split, post.body) == (2, 0, b"tail")


def test_a_piece_without_an_answer_is_sent_again_and_with_a_welcome() -> None:
    desk = Desk()
    lease = desk.lend()
    [message] = sent(piece(desk, lease, 0))
    assert sent(desk.pass_time(SEND_AGAIN_AFTER + 0.1)) == [message]
    desk.arrive(m.HelloAgain(desk.agent._session))
    desk.wake()
    assert message in sent(desk.welcome() + desk.wake())


def test_a_refused_piece_breaks_its_download_off_and_the_lease_goes_back() -> None:
    """The shard began anew: what it has is not what this fetch goes on from. The other fetch of the lease lands."""
    desk = Desk()
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", f"{SITE}/3", lanes=2)
    [message] = sent(piece(desk, lease, 9))
    out = desk.refuse(message.number, "pieces")
    assert only(Abort, out) == [Abort(lease, 0)]
    assert only(Post, out) == [] and only(Fetch, out) == []
    [page] = desk.fetched(lease, 1)
    released = [
        post.message
        for post in only(Post, desk.accept(page.message.number))
        if isinstance(post.message, m.Release)
    ]
    assert [each.lease for each in released] == [lease]


def test_a_refused_page_of_a_download_gives_its_request_back() -> None:
    desk = Desk()
    lease = desk.lend()
    [post] = desk.fetched(lease, 0, Report(FACTS, file=File("f.bin", 1, 1), pieces=1))
    out = only(Post, desk.refuse(post.message.number, "pieces"))
    assert [type(each.message) for each in out] == [m.Release]


def test_a_refusal_while_the_page_waits_forgets_the_page() -> None:
    desk = Desk()
    lease = desk.lend()
    numbers = [sent(piece(desk, lease, index))[0].number for index in range(2)]
    desk.fetched(lease, 0, DONE)
    out = only(Post, desk.refuse(numbers[0], "pieces"))
    assert [type(each.message) for each in out] == [m.Release]
    assert only(Post, desk.accept(numbers[1])) == []


def test_pieces_of_a_lease_that_is_over_are_not_sent_again() -> None:
    desk = Desk()
    lease = desk.lend()
    [message] = sent(piece(desk, lease, 0))
    desk.refuse(message.number, "lease")
    assert piece(desk, lease, 1) == []
    assert sent(desk.pass_time(60.0)) == []


def test_what_is_kept_of_a_download_comes_with_its_request() -> None:
    desk = Desk()
    lease = m.Lease(
        desk.agent._session,
        desk.numbers[0],
        m.lease_id(1, 50),
        "a.test",
        0.0,
        1,
        1,
        (),
        None,
        (m.Request(f"{SITE}/f", 0, 0, 0, 0, "seed", None, None),),
        (m.Resume(0, 4, '"a"'), m.Resume(9, 1, '"b"')),
    )
    [fetch] = only(Fetch, desk.arrive(lease))
    assert fetch.resume == m.Resume(0, 4, '"a"')
    assert LeaseId(fetch.lease) == lease.id


def test_pieces_do_not_bound_what_else_may_begin() -> None:
    """What is in flight of them is bounded by the budget for bodies."""
    desk = Desk()
    lease = desk.lend(*(f"{SITE}/{number}" for number in range(4)), lanes=2, delay=0.0)
    for index in range(70):
        piece(desk, lease, index)
    assert desk.agent._room() == desk.config.tuning.unacknowledged_pages
    desk.fetched(lease, 1)
    assert desk.agent._room() == desk.config.tuning.unacknowledged_pages - 1
