"""The page of figures: rows in, Markdown out. No clock, no files; what was not shown is not claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.reliability.parts import Part, Row, Size

CLAIM = "lost 0, doubled 0, hurried 0"

_MEANING = """\
*Lost*: a page of the synthetic web that is not in the results. *Doubled*: a request with two lines or two records in a
round. *Hurried*: a host that was visited sooner than its delay after its last visit, by the site's own access log."""

_NOT_SHOWN = """\
A power cut takes what the kernel had not written; real processes here only die, and it is the simulation's disk that
forgets what was not fsynced. Real processes run on one machine with one clock. Disks are filled, not broken. What one
run did not find a longer one may: `scripts/reliability --long`, `scripts/torture`, `scripts/simulate`."""


@dataclass(frozen=True, slots=True)
class Made:
    """A part that was run."""

    part: Part
    rows: tuple[Row, ...]
    failure: str | None
    """What went wrong with it; None: nothing."""
    seconds: float
    skipped: str | None = None
    """What of it was left out here, in its tool's words; None: nothing."""


def is_broken(made: Made) -> bool:
    """Whether a promise was broken, or it failed before anything could be said."""
    return made.failure is not None or any(row.broken not in ("0", CLAIM) for row in made.rows)


def is_missing(made: Made) -> bool:
    """Whether it was not run here, so that nothing is known: neither broken nor kept."""
    return made.failure is None and not made.rows


def page(made: Sequence[Made], size: Size, *, date: str, versions: str) -> str:
    """The whole of docs/reliability.md. `date` and `versions` are words for people."""
    typed = f"scripts/reliability {size.value}".strip()
    broken = [each.part.title for each in made if is_broken(each)]
    missing = [each.part.title for each in made if is_missing(each)]
    shown = any(row.broken == CLAIM for each in made for row in each.rows)
    lines = [
        "# Reliability: what was tried, and what broke",
        "",
        f"Made by `{typed}` on {date}; do not edit. {versions}",
        "",
    ]
    if broken:
        lines.append(f"**Broken: {', '.join(broken)}.** What it said stands with each below.")
    elif shown:
        lines += [
            f"Over all that {'was run' if missing else 'follows'}: **{CLAIM}**.",
            "",
            _MEANING,
        ]
    if missing:
        lines += ["", f"**Not run here: {', '.join(missing)}.** Of these nothing is known."]
    for each in made:
        took = "was not run here" if is_missing(each) else f"took {each.seconds:.0f} s"
        lines += [
            "",
            f"## {each.part.title}",
            "",
            f"    {each.part.command[size]}",
            "",
            f"{took}.",
            "",
        ]
        if each.skipped is not None:
            lines += [f"Left out here: {each.skipped}", ""]
        if each.failure is not None:
            lines += [f"**It failed**: {each.failure}", ""]
        if each.rows:
            lines += ["| what | how many | broken |", "| --- | --: | --- |"]
            lines += [f"| {row.what} | {row.count} | {row.broken} |" for row in each.rows]
    lines += [
        "",
        "## What this does not show",
        "",
        _NOT_SHOWN,
        "",
    ]
    return "\n".join(lines)
