"""The simulation's disk is only worth something if it forgets what a real one may forget, and nothing else."""

from __future__ import annotations

from random import Random

import pytest

from common.errors import DiskFull
from coordinator.outputs import Append, OutputBatch
from coordinator.sink import Sink
from coordinator.store.kv import Store
from tests.support.disk import CrashableFiles, CrashableStore, Crashed, Fault, Faults

STORE: Store = CrashableStore()
SINK: Sink = CrashableFiles()  # mypy: both fit the seams that the real ones fit
PAGES = "pages/pages-00-00000.jsonl"


def test_a_crash_keeps_what_was_synced_and_a_beginning_of_what_was_staged() -> None:
    seen = set()
    for seed in range(50):
        store = CrashableStore()
        store.write({b"a": b"0", b"b": b"0"})
        store.stage({b"a": b"1", b"b": None})
        store.stage({b"a": b"2", b"c": b"2"})
        after = store.crash(Random(seed))
        rows = after.scan(b"", b"z", 10)
        seen.add(tuple(rows))
        with pytest.raises(RuntimeError, match="has crashed"):
            store.get(b"a")
    assert seen == {
        ((b"a", b"0"), (b"b", b"0")),
        ((b"a", b"1"),),
        ((b"a", b"2"), (b"c", b"2")),
    }


def test_a_crash_before_an_fsync_may_tear_the_tail_and_lose_a_new_name_but_nothing_older() -> None:
    seen = set()
    for seed in range(200):
        faults = Faults()
        files = CrashableFiles(faults=faults)
        files.write(OutputBatch((Append(PAGES, 0, [b"old."], True),), {PAGES: 4}))
        faults.plan = {faults.count + 3: Fault.CRASH}
        with pytest.raises(Crashed):
            files.write(
                OutputBatch((Append(PAGES, 4, [b"new"], False), Append("pages/x", 0, [b"y"], True)), {})
            )
        after = files.crash(Random(seed)).files
        assert after[PAGES].startswith(b"old.")
        seen.add((after[PAGES], after.get("pages/x")))
    assert seen == {(b"old." + b"new"[:n], other) for n in range(4) for other in (None, b"", b"y")}


def test_a_full_disk_leaves_the_files_as_they_were() -> None:
    faults = Faults({5: Fault.FULL})
    files = CrashableFiles(faults=faults)
    files.write(OutputBatch((Append(PAGES, 0, [b"old."], True),), {PAGES: 4}))
    batch = OutputBatch((Append(PAGES, 4, [b"new"], False), Append("pages/x", 0, [b"y"], True)), {})
    with pytest.raises(DiskFull):
        files.write(batch)
    assert files.files == {PAGES: b"old."}
    files.write(batch)
    assert files.files == {PAGES: b"old.new", "pages/x": b"y"}
