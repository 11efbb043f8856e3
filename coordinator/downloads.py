"""Downloads: their pieces as they come, and the file that they become.

A piece goes to the part file of its request's download at once (partials.py). When its Page comes, all of it is there:
the part file, or the body alone, becomes a file below `files`, in the commit that ends the request; unless a file with
the same digest is there already, which then is named instead. A download that went on from an earlier fetch has no
digest yet: its part file is hashed first, and the Page waits for that.

Invariant: a row names a file only if it is durable by then. No I/O, no clock: what is done is an instruction.
"""

from __future__ import annotations

import re
from dataclasses import replace

from common import messages as m
from common.filenames import file_path
from common.messages import PIECE_BYTES, Request
from common.outcome import Outcome
from coordinator.hostqueue import Host
from coordinator.leases import OpenLease
from coordinator.state import ShardState
from coordinator.steps import DropPieces, HashPart, KeepPiece
from coordinator.store.rows import FileRow, file_digest_row, file_row, pack, request_row

VALIDATOR = re.compile(r"[\x20-\x7e]{1,1000}")

LATER = "later"
"""In place of a refusal's code: there is no answer yet."""


class Downloads:
    """The downloads of one shard."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._hashing: dict[tuple[bytes, int], tuple[m.Page, bytes]] = {}
        """Pages that wait for their digest; at most one for each request that is lent."""

    def key(self, host: Host, request: Request) -> bytes:
        """By which a request's download is kept."""
        return request_row(host.slot, self._state.frontier.key_of(request.url, request.form))[1:]

    # ------------------------------------------------------------------------------------------------- as it comes

    def piece(self, lease: OpenLease, host: Host, piece: m.FilePiece, body: bytes, now: float) -> str | None:
        """Keep a piece; the code of the refusal, None: it is kept."""
        state = self._state
        if len(body) != PIECE_BYTES or piece.index > state.config.max_file_bytes // PIECE_BYTES:
            return "piece"
        lease.progress_at = now
        if piece.validator is not None and VALIDATOR.fullmatch(piece.validator) is None:
            piece = replace(piece, validator=None)  # it becomes a header, at another worker
        key = self.key(host, lease.requests[piece.ordinal])
        part, refusal = state.partials.piece(key, piece)
        if part is not None:
            state.now.append(KeepPiece(part, piece.index, body, True))
            state.kept_bytes += len(body)
        return refusal

    def ready(self, host: Host, lease: OpenLease, page: m.Page, body: bytes) -> str | None:
        """Whether a Page of a download can be taken: None, the code of the refusal, or LATER."""
        if page.facts.outcome != Outcome.OK.code:
            return None
        assert page.file is not None
        key = self.key(host, lease.requests[page.ordinal])
        if not self._state.partials.whole(key, page):
            return "pieces"
        if page.facts.digest is not None:
            return None
        if (page.session, page.number) not in self._hashing:
            held = self._state.partials.get(key)
            self._hashing[page.session, page.number] = (page, body)
            part = "" if held is None else held.part
            self._state.now.append(HashPart(page.session, page.number, part, page.pieces, body))
        return LATER

    def hashed(self, session: bytes, number: int, digest: str | None) -> tuple[m.Page, bytes] | None:
        """A digest is known: the Page that waited for it, and its body. Without a digest it is refused later on."""
        waiting = self._hashing.pop((session, number), None)
        if waiting is None:
            return None
        page, body = waiting
        return replace(page, facts=page.facts._replace(digest=digest)), body

    # ------------------------------------------------------------------------------------------------- its end

    def told(self, page: m.Page, body: bytes) -> m.Page:
        """The Page with the length that its file has, whatever its worker says."""
        if page.file is None or page.facts.outcome != Outcome.OK.code:
            return page
        length = page.pieces * PIECE_BYTES + len(body)
        return (
            page if page.facts.length == length else replace(page, facts=page.facts._replace(length=length))
        )

    def got_further(self, page: m.Page, outcome: Outcome) -> bool:
        """Whether a download broke off after it had gone on from an earlier fetch, and brought more than that: no try
        is counted then. There are no more such fetches than a file has pieces."""
        file = page.file
        return file is not None and outcome is not Outcome.OK and 0 < file.first < page.pieces

    def broke_off(self, host: Host, request: Request, page: m.Page | None) -> None:
        """The request will be tried again; what is kept of its download serves then, unless its Page says no."""
        if not len(self._state.partials):
            return
        key = self.key(host, request)
        if page is not None and page.file is not None and not page.pieces:
            self._state.partials.forget(key)
        else:
            self._state.partials.leave(key)

    def forget(self, host: Host, request: Request) -> None:
        """The request has ended without a file."""
        if len(self._state.partials):
            self._state.partials.forget(self.key(host, request))

    def land(self, host: Host, request: Request, page: m.Page, body: bytes) -> str:
        """A download is whole: the file that it is from the next commit on, relative to DIR."""
        state, facts = self._state, page.facts
        assert page.file is not None and facts.digest is not None
        key = self.key(host, request)
        held = state.partials.take(key) if page.pieces else None
        if not page.pieces:
            state.partials.forget(key)
        known = state.rows.get(file_digest_row(facts.digest))
        if known is not None:
            if held is not None:
                state.do_after(DropPieces(held.part, True))
            return known.decode()
        number = 1
        while (
            state.rows.get(file_row(file := file_path(host.key, key[2:], page.file.name, number))) is not None
        ):
            number += 1  # the request was fetched before, and something else came then
        part = key.hex() if held is None else held.part
        state.outputs.move(part, page.pieces, body, file)
        row = FileRow(page.pieces * PIECE_BYTES + len(body), facts.digest, request.url)
        state.ledger.counts.file_bytes += row.length
        state.rows.put(file_row(file), pack(row))
        state.rows.put(file_digest_row(facts.digest), file.encode())
        return file
