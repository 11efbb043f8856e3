"""What an overlay promises: reads see the newest of pending, sealed and stored, as one plain dict would."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.store.kv import Overlay, Store
from tests.support.disk import CrashableStore

# Few keys, so that they collide; of a few groups (first three bytes), some shorter than a group's name.
_KEYS = st.sampled_from(
    [b"q", b"q\0", b"r"]
    + [bytes([table, 0, slot]) + b"ab"[:n] for table in b"qr" for slot in (0, 1) for n in (0, 1, 2)]
)
_BOUNDS = st.one_of(_KEYS, st.sampled_from([b"", b"q\0\0\xff", b"s", b"\xff"]))
_ROWS = st.binary(max_size=2)


class OverlayAgainstADict(RuleBasedStateMachine):
    """The model is one dict that every change reaches at once."""

    def __init__(self) -> None:
        super().__init__()
        self.store: Store = CrashableStore()
        self.model: dict[bytes, bytes] = {}
        self.sealed: dict[bytes, bytes | None] | None = None
        self.copy: dict[bytes, bytes | None] = {}

    @initialize(remember=st.sampled_from([0, 2, 1000]), stored=st.dictionaries(_KEYS, _ROWS))
    def begin(self, remember: int, stored: dict[bytes, bytes]) -> None:
        self.store.write(stored)
        self.model = dict(stored)
        self.overlay = Overlay(self.store, remember=remember)

    @rule(key=_KEYS, row=_ROWS)
    def put(self, key: bytes, row: bytes) -> None:
        self.overlay.put(key, row)
        self.model[key] = row

    @rule(key=_KEYS)
    def delete(self, key: bytes) -> None:
        self.overlay.delete(key)
        self.model.pop(key, None)

    @rule(key=_KEYS)
    def get(self, key: bytes) -> None:
        assert self.overlay.get(key) == self.model.get(key)

    @rule(start=_BOUNDS, stop=_BOUNDS, limit=st.sampled_from([0, 1, 2, 5, 1 << 30]))
    def scan(self, start: bytes, stop: bytes, limit: int) -> None:
        expected = sorted((key, row) for key, row in self.model.items() if start <= key < stop)
        assert self.overlay.scan(start, stop, limit) == expected[:limit]

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal(self) -> None:
        assert self.overlay.dirty == (self.overlay.pending > 0)
        self.sealed = self.overlay.seal()
        self.copy = dict(self.sealed)
        assert not self.overlay.dirty

    @precondition(lambda self: self.sealed is not None)
    @rule()
    def stage(self) -> None:
        assert self.sealed is not None
        self.store.stage(self.sealed)

    @precondition(lambda self: self.sealed is not None)
    @rule()
    def commit(self) -> None:
        assert self.sealed is not None
        self.store.write(self.sealed)
        self.overlay.committed()
        self.sealed = None

    @invariant()
    def what_was_sealed_does_not_change(self) -> None:
        assert self.sealed is None or self.sealed == self.copy


TestOverlayAgainstADict = OverlayAgainstADict.TestCase


def test_a_second_seal_before_the_first_is_committed_is_refused_and_changes_nothing() -> None:
    overlay = Overlay(CrashableStore())
    overlay.put(b"a", b"1")
    overlay.seal()
    overlay.put(b"a", b"2")
    with pytest.raises(RuntimeError, match="1 changes are not committed"):
        overlay.seal()
    assert overlay.get(b"a") == b"2"
    overlay.committed()
    assert overlay.seal() == {b"a": b"2"}


def test_committed_without_a_seal_is_refused() -> None:
    with pytest.raises(RuntimeError):
        Overlay(CrashableStore()).committed()


def test_a_scan_reads_on_in_the_store_when_pending_deletes_empty_its_first_page() -> None:
    store = CrashableStore()
    store.write({b"q%05d" % number: b"x" for number in range(5000)})
    overlay = Overlay(store)
    for number in range(4990):
        overlay.delete(b"q%05d" % number)
    assert [key for key, _ in overlay.scan(b"q", b"r", 3)] == [b"q04990", b"q04991", b"q04992"]
    assert len(overlay.scan(b"q", b"r", 1 << 30)) == 10


@given(seed=st.integers(0, 1 << 16), limit=st.sampled_from([1, 15, 16, 17, 100, 1 << 30]))
def test_a_scan_over_many_pages_of_many_changes_gives_each_row_once_and_in_order(
    seed: int, limit: int
) -> None:
    random = Random(seed)
    model = {b"q%03d" % random.randrange(1000): b"stored" for _ in range(300)}
    store = CrashableStore(model)
    overlay = Overlay(store)
    for name in (b"sealed", b"pending"):
        for _ in range(random.choice([3, 300])):
            key = b"q%03d" % random.randrange(1000)
            if random.random() < 0.7:
                overlay.delete(key)
                model.pop(key, None)
            else:
                overlay.put(key, name)
                model[key] = name
        if name == b"sealed":
            overlay.seal()
    assert (
        overlay.scan(b"q100", b"q900", limit)
        == sorted((key, row) for key, row in model.items() if b"q100" <= key < b"q900")[:limit]
    )


class CountingStore(CrashableStore):
    """Counts the rows that are read."""

    gets = 0

    def get(self, key: bytes) -> bytes | None:
        self.gets += 1
        return super().get(key)


def test_rows_read_lately_are_remembered_and_no_more_than_was_asked_for() -> None:
    keys = [b"%d" % number for number in range(100)]
    store = CountingStore(dict.fromkeys(keys, b"x"))
    overlay = Overlay(store, remember=10)
    for key in keys:
        assert overlay.get(key) == b"x"
    assert store.gets == 100
    for key in reversed(keys[-10:]):
        assert overlay.get(key) == b"x"
    assert store.gets == 100
    for key in keys[:78]:  # two generations of eleven: these are forgotten
        assert overlay.get(key) == b"x"
    assert store.gets == 178
