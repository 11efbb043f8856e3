"""`coord export` beside a crawl that runs, and after one that was killed."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coordinator.cli import main
from tests.support.site import Site
from tests.support.terminal import Terminal


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_each_export_of_a_running_crawl_is_a_beginning_of_the_next(tmp_path: Path) -> None:
    with Site() as site, Terminal(tmp_path, site, delay=0.02) as terminal:
        host, target = site.grow(seed=4, hosts=4, pages=4000)
        given = [site.url(host, target), "--out", "c", "--scope", "any", "--procs", "1", *terminal.network]
        crawl = terminal.begin("coord", "crawl", *given)
        exports: list[bytes] = []
        for wanted in (20, 60, 120):
            site.wait_for(wanted)
            (into := tmp_path / "x.jsonl").unlink(missing_ok=True)
            assert main(["export", str(tmp_path / "c"), "--to", str(into)]) == 0
            exports.append(into.read_bytes())
            assert crawl.is_running()
        for pid in terminal.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        assert not terminal.left()
        for form in ("jsonl", "parquet", "cdxj", "wacz"):
            assert main(["export", str(tmp_path / "c"), "--to", str(tmp_path / f"killed.{form}")]) == 0
        exports.append((tmp_path / "killed.jsonl").read_bytes())
    assert exports[-1].endswith(b"\n") and exports[-1]
    assert all(later.startswith(earlier) for earlier, later in pairwise(exports))
    assert pq.read_metadata(tmp_path / "killed.parquet").num_rows == exports[-1].count(b"\n")
