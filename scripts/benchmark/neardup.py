"""How often SimHash is right about near-duplicates, at each distance, and what it costs.

Pages of versions.py meet the index in the order of a crawl, host by host. A page counts as found if an earlier one of
its host is within the distance. *Precision*: of the pages that are called near-duplicates, how many have an earlier
version. *Recall*: of the pages that have an earlier version, how many are found.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coordinator.neardup import MAX_DISTANCE, NearDuplicates
from coordinator.store import rocks
from coordinator.store.kv import Overlay
from scripts.benchmark import web
from scripts.benchmark.versions import Version, versions
from worker.parse import parse_html
from worker.simhash import distance, simhash

DISTANCES: Final = range(11)
_TIMED_PAGES: Final = 300
_COMMIT: Final = 100
"""Pages between two commits of the index that is timed."""


@dataclass(slots=True)
class Score:
    """What came out at one distance."""

    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    """Pages that were taken for what they are not, by kind."""

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong.total())


def measured(scratch: Path | None = None) -> tuple[dict[str, object], str]:
    """(figures, Markdown). Half a minute."""
    met, scores, positives, silent = _scored()
    costs = _costs()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        index = {pages: _index_cost(Path(folder) / str(pages), pages) for pages in (1_000, 10_000)}
    lines = [
        "| distance, bits | precision | recall | taken for what they are not |",
        "| --: | --: | --: | --- |",
    ]
    for bits, score in scores.items():
        wrong = ", ".join(f"{count} {kind}" for kind, count in score.wrong.most_common()) or "none"
        exact = "" if bits <= MAX_DISTANCE else " (no index)"
        lines.append(f"| {bits}{exact} | {score.precision:.3f} | {score.right / positives:.3f} | {wrong} |")
    lines += [
        "",
        f"{met} pages of six sites, {positives} of them with an earlier version; {silent} had too little text to say.",
        "",
        "| step | CPU-us a page |",
        "| --- | --: |",
        *(f"| {step} | {cost:.0f} |" for step, cost in costs.items()),
        *(f"| index, host of {pages:,} pages | {cost:.0f} |" for pages, cost in index.items()),
    ]
    figures: dict[str, object] = {
        "scores": {bits: [score.precision, score.right / positives] for bits, score in scores.items()},
        "cpu_us": {**costs, **{f"index of {pages}": cost for pages, cost in index.items()}},
    }
    return figures, "\n".join(lines)


def _scored() -> tuple[int, dict[int, Score], int, int]:
    scores = {bits: Score() for bits in DISTANCES}
    earlier: dict[str, list[tuple[Version, int]]] = defaultdict(list)
    met = positives = silent = 0
    for version in versions():
        met += 1
        number = simhash(parse_html(version.html.encode(), text=True).text or "")
        has_earlier = any(other.page == version.page for other, _ in earlier[version.site])
        positives += has_earlier
        if number is None:
            silent += 1
            continue
        nearest = min((distance(number, other) for _, other in earlier[version.site]), default=64)
        for bits in DISTANCES:
            if nearest <= bits:
                if has_earlier:
                    scores[bits].right += 1
                else:
                    scores[bits].wrong[version.kind] += 1
        earlier[version.site].append((version, number))
    return met, scores, positives, silent


def _costs() -> dict[str, float]:
    """CPU-us a page of the synthetic web, 43 KB on average: parsed without the text, what the text and SimHash add."""
    plan = web.Plan(20_000, 200, 1, 80)
    pages = [web.page(plan, number * 61)[0].encode() for number in range(_TIMED_PAGES)]
    texts = [parse_html(page, text=True).text or "" for page in pages]
    without = _least(lambda: [parse_html(page) for page in pages])
    with_text = _least(lambda: [parse_html(page, text=True) for page in pages])
    return {
        "parse, without the text": without,
        "the text, in addition": with_text - without,
        "SimHash": _least(lambda: [simhash(text) for text in texts]),
    }


def _least(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / _TIMED_PAGES * 1e6


def _index_cost(folder: Path, pages: int) -> float:
    """CPU-us a page of the index on RocksDB, its writes included: every page new, the most expensive case."""
    rng = random.Random(pages)
    store = rocks.open(folder)
    rows = Overlay(store)
    index = NearDuplicates(rows, MAX_DISTANCE)
    start = time.process_time()
    for at in range(pages):
        index.seen(1, "a.test", rng.getrandbits(64), f"http://a.test/some/path/{at}.html")
        if at % _COMMIT == _COMMIT - 1:
            store.write(rows.seal())
            rows.committed()
    spent = time.process_time() - start
    store.close()
    return spent / pages * 1e6
