"""How the figures are told: a table on the terminal, JSON for machines, and a part of docs/performance.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from scripts.benchmark.crawlers import Row
from scripts.benchmark.slow import Timing
from scripts.benchmark.web import Facts


def machine() -> str:
    """What the figures were measured on, and when."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        model = named[1] if named else model
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}: {os.cpu_count()} cores of {model}, Python {platform.python_version()}, {platform.system()}"
    )


def pages_table(rows: Sequence[Row]) -> str:
    """The synthetic web, as a Markdown table."""
    cells = [
        ["crawler", "stores", "pages/s", "CPU-ms a page", "by part", "start-up, CPU s", "missed"]
        + ["peak memory, MB: all", "largest", "wall s"]
    ]
    for row in rows:
        if row.left_out:
            cells.append([row.name, row.stores, f"left out: {row.left_out}", *[""] * 7])
            continue
        parts = ", ".join(f"{part} {ms:.2f}" for part, ms in row.parts_ms.items() if part != "all")
        cells.append(
            [row.name, row.stores, f"{row.pages_per_s:,.0f}", f"{row.cpu_ms:.2f}", parts or "one process"]
            + [f"{row.startup_cpu_s:.1f}", f"{row.missed:,}", f"{row.peak_sum_mb:,.0f}"]
            + [f"{row.peak_one_mb:,.0f}", f"{row.wall_s:.1f}"]
        )
    return _markdown(cells, left=2)


def pages_story(facts: Facts, rows: Sequence[Row]) -> str:
    """What was crawled, and what the server cost, in a sentence each."""
    served = [row.server_ms for row in rows if row.server_ms]
    cost = f" The server, not counted above, took {max(served):.3f} CPU-ms a request." if served else ""
    mean, wire = facts.html_bytes / facts.pages / 1000, facts.wire_bytes / facts.pages / 1000
    return (
        f"{facts.pages:,} pages on {facts.hosts} hosts, {mean:.0f} KB of HTML on average (median "
        f"{facts.median / 1000:.0f} KB), {wire:.1f} KB on the wire, {facts.links / facts.pages:.0f} links a "
        f"page.{cost}"
    )


def slow_table(timings: Sequence[Timing]) -> str:
    """The slow server, as a Markdown table: a row for each way, a column for each number of URLs."""
    counts = sorted({timing.urls for timing in timings})
    cells = [["", *(f"{count:,} URLs, s" for count in counts)]]
    for way in dict.fromkeys(timing.way for timing in timings):
        row = [way]
        for count in counts:
            row += [_seconds(t) for t in timings if (t.way, t.urls) == (way, count)] or [""]
        cells.append(row)
    return _markdown(cells, left=1)


def replace_part(path: Path, name: str, text: str) -> None:
    """Renew what a file has between `<!-- bench NAME -->` and `<!-- end NAME -->`, or add it at the end."""
    begin, end = f"<!-- bench {name} -->", f"<!-- end {name} -->"
    old = path.read_text() if path.exists() else "# Performance\n"
    part = f"{begin}\n\n{text.strip()}\n\n{end}"
    if begin in old:
        before, _, rest = old.partition(begin)
        new = before + part + rest.partition(end)[2]
    else:
        new = f"{old.rstrip()}\n\n{part}\n"
    path.write_text(new)


def _seconds(timing: Timing) -> str:
    if timing.seconds is None:
        return f"failed: {timing.error}"
    text = f"{timing.seconds:,.1f}"
    if timing.extrapolated_from:
        return f"≈ {timing.seconds:,.0f}"
    if timing.to_exit:
        text += f" ({timing.to_exit:.1f} to exit)"
    return text + (f"; {timing.error}" if timing.error else "")


def _markdown(cells: Sequence[Sequence[str]], *, left: int) -> str:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    widths = [min(width, 44) for width in widths]
    lines = []
    for number, row in enumerate(cells):
        padded = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(f"| {' | '.join(padded)} |")
        if number == 0:
            marks = ("-" * w if column < left else "-" * (w - 1) + ":" for column, w in enumerate(widths))
            lines.append(f"| {' | '.join(marks)} |")
    return "\n".join(lines)
