"""Downloads that are under way or broke off: which pieces of each are kept, and what may go on from them.

    begins -> grows piece by piece -> landed (its Page came), or left (it broke off: kept, lent again, goes on)

The pieces of one download lie in a part file of its own, named anew whenever it begins from its first byte: so what
was kept is never overwritten by what another fetch brings. What broke off is kept only with a validator, by which the
server can be asked for the rest. Every SYNC_EVERY pieces, and when it breaks off, the part file is synced and a row
says how far: only that is believed after a restart.

Invariants: `have` pieces are there from the first on, without a gap;  a row never names more than was synced in or
before its own commit;  at most MAX_PARTIALS are kept that nobody fetches, the oldest goes first.

No I/O, no clock: instructions go through the state. What is written where: sink.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from common import messages as m
from common.messages import FILE_WINDOW, LeaseId
from coordinator.outputs import Outputs
from coordinator.steps import DropPieces, Instruction
from coordinator.store.kv import Overlay
from coordinator.store.rows import PartialRow, pack, partial_row, unpack

SYNC_EVERY = 32
"""Pieces after which what has come is synced: what a coordinator that dies costs a download at most."""

MAX_PARTIALS = 1000
"""Of those that broke off."""


class Partial:
    """One download. `have`: pieces from the first on; `ahead`: those that came before their turn."""

    __slots__ = ("ahead", "began", "first", "have", "lease", "part", "session", "synced", "validator")

    def __init__(self, part: str, have: int, validator: str | None) -> None:
        self.part = part
        self.have = self.synced = have
        self.validator = validator
        self.ahead: set[int] = set()
        self.session: bytes | None = None
        """Whose fetch it is; None: nobody's."""
        self.lease: LeaseId | None = None
        self.began = 0
        self.first = 0

    def __repr__(self) -> str:
        return f"<Partial {self.part}: {self.have} pieces from {self.first} on, lease {self.lease}>"

    def is_of(self, session: bytes, lease: LeaseId, began: int) -> bool:
        """Whether this very fetch is what goes on here."""
        return (self.session, self.lease, self.began) == (session, lease, began)


class Partials:
    """Those of one shard, by the key of their request's row."""

    def __init__(
        self, rows: Overlay, outputs: Outputs, epoch: int, later: Callable[[Instruction], None]
    ) -> None:
        """`later`: takes what is to be carried out after the next commit."""
        self._rows = rows
        self._outputs = outputs
        self._epoch = epoch
        self._named = 0
        self._held: dict[bytes, Partial] = {}
        self._left: OrderedDict[bytes, None] = OrderedDict()
        """Those that nobody fetches, the oldest first."""
        self._later = later
        for key, packed in sorted(
            rows.scan(b"p", b"q", 1 << 30), key=lambda entry: PartialRow(*unpack(entry[1])).number
        ):
            row = PartialRow(*unpack(packed))
            self._held[key[1:]] = Partial(row.part, row.pieces, row.validator)
            self._left[key[1:]] = None

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes) -> Partial | None:
        """What is kept of a request's download."""
        return self._held.get(key)

    # ------------------------------------------------------------------------------------------------------ pieces

    def piece(self, key: bytes, piece: m.FilePiece) -> tuple[str | None, str | None]:
        """Take a piece: (part file to keep it in, None), or (None, code of the refusal); (None, None): it is there
        already, or of a fetch that another one has followed."""
        held = self._held.get(key)
        if held is None or not held.is_of(piece.session, piece.lease, piece.began):
            of = (piece.session, piece.lease)
            if held is not None and (held.session, held.lease) == of and piece.began < held.began:
                return None, None
            if piece.index >= piece.first + FILE_WINDOW:
                return None, "pieces"  # in the middle of a fetch that a restart forgot: what is kept stays
            held = self._begin(key, held, piece)
            if held is None:
                return None, "pieces"
        if piece.index < held.have or piece.index in held.ahead:
            return None, None
        if piece.index >= held.have + FILE_WINDOW:
            return None, "pieces"
        held.ahead.add(piece.index)
        while held.have in held.ahead:
            held.ahead.remove(held.have)
            held.have += 1
        if held.validator is not None and held.have - held.synced >= SYNC_EVERY:
            self._sync(key, held)
        return held.part, None

    def _begin(self, key: bytes, held: Partial | None, piece: m.FilePiece) -> Partial | None:
        """Another fetch than before: it goes on from what is kept, or from nothing. None: neither is so."""
        if piece.first:
            if held is None or held.have < piece.first or held.validator != piece.validator:
                return None
            held.have, held.synced = piece.first, min(held.synced, piece.first)
            held.ahead.clear()
        else:
            if held is not None:
                self.forget(key)
            self._named += 1
            held = self._held[key] = Partial(
                f"{key.hex()}-{self._epoch:x}-{self._named:x}", 0, piece.validator
            )
        held.session, held.lease = piece.session, piece.lease
        held.began, held.first = piece.began, piece.first
        self._left.pop(key, None)
        return held

    def _sync(self, key: bytes, held: Partial) -> None:
        assert held.validator is not None
        held.synced = held.have
        self._named += 1
        row = PartialRow(held.part, held.have, held.validator, (self._epoch << 32) + self._named)
        self._rows.put(partial_row(key), pack(row))
        self._outputs.sync(held.part)

    # ----------------------------------------------------------------------------------------------------- its end

    def whole(self, key: bytes, page: m.Page) -> bool:
        """Whether all pieces that a Page speaks of are there, of the fetch that it is of."""
        assert page.file is not None
        if not page.pieces:
            return True
        held = self._held.get(key)
        if held is None:
            return False
        if page.pieces == page.file.first:  # nothing but the tail was fetched
            return held.have >= page.pieces and held.validator is not None
        return held.is_of(page.session, page.lease, page.file.began) and held.have >= page.pieces

    def leave(self, key: bytes) -> None:
        """The fetch is over, and the file is not whole: what can be gone on from is kept."""
        held = self._held.get(key)
        if held is None:
            return
        if held.validator is None or not held.have:
            self.forget(key)
            return
        held.session = held.lease = None
        held.ahead.clear()
        if held.have > held.synced or not self._has_row(key):
            self._sync(key, held)
        self._left.pop(key, None)
        self._left[key] = None
        while len(self._left) > MAX_PARTIALS:
            self.forget(next(iter(self._left)))

    def forget(self, key: bytes) -> None:
        """Nothing goes on from it."""
        held = self.take(key)
        if held is not None:
            self._later(DropPieces(held.part, True))

    def take(self, key: bytes) -> Partial | None:
        """Its part file is the caller's now."""
        held = self._held.pop(key, None)
        self._left.pop(key, None)
        if held is not None and self._has_row(key):
            self._rows.delete(partial_row(key))
        return held

    def _has_row(self, key: bytes) -> bool:
        return self._rows.get(partial_row(key)) is not None
