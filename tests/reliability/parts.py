"""What is run for docs/reliability.md, and how each run's own words become rows of the page.

Decides what to type, how long it may take, and what its figures mean; runs nothing. A figure is only ever what a tool
printed, or what a test wrote when its promises had been checked (tests/support/figures.py).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Figures = Mapping[str, Mapping[str, float]]
"""By name, then by what was counted; counts are summed, seconds are the largest."""


class Size(Enum):
    """How much of it."""

    QUICK = "--quick"
    USUAL = ""
    LONG = "--long"


@dataclass(frozen=True, slots=True)
class Run:
    """A command that has ended."""

    code: int | None
    """None: it took longer than it may, and was ended."""
    out: str
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the page."""

    what: str
    count: str
    broken: str


@dataclass(frozen=True, slots=True)
class Part:
    """One command and what it shows."""

    title: str
    command: Mapping[Size, str]
    """As a person types it in the project's folder; `python` is the project's."""
    bound: Mapping[Size, float]
    """Seconds."""
    read: Callable[[Run], list[Row]]
    """Its rows. May raise where the output is not as it should be; then the part is broken."""


def same(command: str) -> dict[Size, str]:
    """The same for every size."""
    return dict.fromkeys(Size, command)


def sized(quick: str, usual: str, long: str) -> dict[Size, str]:
    return {Size.QUICK: quick, Size.USUAL: usual, Size.LONG: long}


def seconds(quick: float, usual: float, long: float) -> dict[Size, float]:
    return {Size.QUICK: quick, Size.USUAL: usual, Size.LONG: long}


def summed(lines: Sequence[str]) -> dict[str, dict[str, float]]:
    """The figures of one run, from the lines that tests wrote."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in lines:
        counts = json.loads(line)
        of_name = found[counts.pop("figure")]
        for key, value in counts.items():
            of_name[key] = (
                max(of_name.get(key, 0), value) if "seconds" in key else of_name.get(key, 0) + value
            )
    return dict(found)


def number(value: float) -> str:
    return f"{value:,.0f}"


def by_kind(counts: Mapping[str, float]) -> str:
    """`cut 3, stall 4`: names in order, underscores as spaces."""
    return ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in sorted(counts.items()))


# ---------------------------------------------------------------------------------------------------- how to read


def last_json(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


def simulation(run: Run) -> list[Row]:
    told = last_json(run.out)
    broken = number(told["broken"])
    first, _, last = told["seeds"].partition("..")
    early = ", until the first that broke" if told["count"] < int(last) - int(first) else ""
    return [
        Row(f"Simulated crawls, one seed each, {told['seeds']}{early}", number(told["count"]), broken),
        Row("Steps in them, the promises checked after each", number(told["steps"]), broken),
        Row(f"Faults injected: {by_kind(told['faults'])}", number(sum(told["faults"].values())), broken),
    ]


def planted(run: Run) -> list[Row]:
    told = last_json(run.out)
    missed = told["missed"]
    what = "Rules of the protocol left out on purpose, and noticed"
    count = f"{told['planted'] - len(missed)} of {told['planted']}"
    return [Row(what, count, "0" if not missed else "not noticed: " + "; ".join(missed))]


_NO_FAULT = frozenset({"storms", "pages"})


def storms(run: Run) -> list[Row]:
    told = run.figures["storm"]
    kinds = Counter({key: count for key, count in told.items() if key not in _NO_FAULT})
    return [
        Row("Storms over real processes survived", number(told["storms"]), "0"),
        Row(f"Faults in them: {by_kind(kinds)}", number(sum(kinds.values())), "0"),
        *checked(run),
    ]


def checked(run: Run) -> list[Row]:
    """What `tests.support.cluster.check` and `coord audit` found, over the run."""
    rows = []
    if told := run.figures.get("check"):
        words = f"lost {told['lost']:.0f}, doubled {told['doubled']:.0f}, hurried {told['hurried']:.0f}"
        rows.append(Row("Pages held against the site's truth and its log", number(told["pages"]), words))
        rows.append(Row("WARC records read and compared with their lines", number(told["records"]), "0"))
    if told := run.figures.get("audit"):
        rows.append(Row("`coord audit --deep` agreed", number(told["audits"]), "0"))
    return rows


def killed(run: Run) -> list[Row]:
    told = run.figures["vanished"]
    rows = [Row(f"Worker machines that vanished: {by_kind(told)}", number(sum(told.values())), "0")]
    return rows + checked(run)


def restarted(run: Run) -> list[Row]:
    told = run.figures["restart"]
    at = "100,000 queued, kill -9, start: seconds until pages are stored again"
    again = "of which requests made again by remote workers"
    return [
        Row(f"{at}, remote workers", f"{told['start_seconds']:.1f}", "0"),
        Row(again, number(told["start_fetched_again"]), "0"),
        Row(f"{at}, local workers", f"{told['crawl_seconds']:.1f}", "0"),
        *checked(run),
    ]


def filled(run: Run) -> list[Row]:
    told = run.figures["disk"]
    return [Row(f"Disks really filled: {by_kind(told)}", number(sum(told.values())), "0"), *checked(run)]


def torn(run: Run) -> list[Row]:
    told = run.figures["torn"]
    what = "Byte positions at which an output or the store's log was cut, then crawled on"
    return [Row(what, number(told["positions"]), "0")]


def fuzzed(run: Run) -> list[Row]:
    words = run.out.strip().splitlines()[-1].split()
    told = dict(zip(words[::2], words[1::2], strict=True))
    what = "Messages, most of them broken, sent to codec, shard and agent"
    return [Row(what, number(int(told["messages"])), told["broken"])]


_PYTEST = "python -m pytest -q -p no:cacheprovider"
_TORTURE = "env SHOAL_TORTURE="

PARTS: tuple[Part, ...] = (
    Part(
        "A cluster in virtual time",
        sized(*(f"python -m tests.simulation --seeds 0..{n} --json" for n in (1_000, 10_000, 100_000))),
        seconds(600, 3600, 36_000),
        simulation,
    ),
    Part(
        "Does it bite",
        same("python -m tests.simulation --planted"),
        seconds(1200, 1200, 1200),
        planted,
    ),
    Part(
        "Storms",
        sized(
            f"{_PYTEST} tests/cluster/test_kills.py -k storm",
            f"{_TORTURE}1..5 {_PYTEST} tests/cluster/test_kills.py -k storm",
            f"{_TORTURE}1..50 {_PYTEST} tests/cluster/test_kills.py -k storm",
        ),
        seconds(600, 4 * 3600, 48 * 3600),
        storms,
    ),
    Part(
        "Vanished machines",
        same(f"{_PYTEST} tests/cluster/test_kills.py -k vanishes"),
        seconds(300, 300, 300),
        killed,
    ),
    Part("Restarts", same(f"{_PYTEST} tests/cluster/test_restart.py"), seconds(300, 300, 300), restarted),
    Part("Full disks", same(f"{_PYTEST} tests/cluster/test_disk_full.py"), seconds(400, 400, 400), filled),
    Part(
        "Torn files",
        sized(
            f"{_PYTEST} tests/loopback/test_torn_files.py",
            f"{_PYTEST} tests/loopback/test_torn_files.py",
            f"{_TORTURE}1 {_PYTEST} tests/loopback/test_torn_files.py",
        ),
        seconds(300, 300, 8 * 3600),
        torn,
    ),
    Part(
        "Bad messages",
        sized(*(f"python -m tests.fuzz --messages {n}" for n in (100_000, 1_000_000, 10_000_000))),
        seconds(300, 1800, 18_000),
        fuzzed,
    ),
)
