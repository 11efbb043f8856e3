"""docs/reliability.md says what was run and what came of it, and claims nothing that its rows do not show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reliability.page import CLAIM, Made, is_broken, is_missing, page
from tests.reliability.parts import PARTS, Part, Row, Run, Size, fuzzed, planted, simulation, storms, summed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def made(*rows: Row, failure: str | None = None) -> list[Made]:
    return [Made(PARTS[0], rows, failure, 12.0)]


def written(parts: list[Made]) -> str:
    return page(parts, Size.QUICK, date="2026-05-01 12:00 UTC", versions="Python 3.")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_what_the_page_runs_is_there_and_has_a_bound(part: Part) -> None:
    for size in Size:
        assert part.bound[size] > 0
        words = part.command[size].split()
        files = [word for word in words if word.startswith("tests/")]
        files += [f"{word.replace('.', '/')}/__main__.py" for word in words if word.startswith("tests.")]
        assert files
        for file in files:
            assert (ROOT / file).is_file(), file


def test_the_page_has_a_section_a_part_and_a_table_in_each() -> None:
    text = PAGE.read_text()
    assert text.startswith("# Reliability") and "Made by `scripts/reliability" in text
    for part in PARTS:
        section = text.partition(f"\n## {part.title}\n")[2].partition("\n## ")[0]
        assert any(f"    {command}\n" in section for command in part.command.values()), part.title
        told = ("| what | how many | broken |", "**It failed**", "was not run here")
        assert any(words in section for words in told), part.title
    assert (CLAIM in text.split("\n## ")[0]) != ("**Broken: " in text)


def test_what_held_is_claimed() -> None:
    text = written(made(Row("pages", "7", CLAIM), Row("seeds", "8", "0")))
    assert f"**{CLAIM}**" in text and "| pages | 7 |" in text


@pytest.mark.parametrize(
    "broken",
    [
        made(Row("pages", "7", "lost 0, doubled 0, hurried 1")),
        made(Row("seeds", "8", "1")),
        made(failure="exit code 1: 1 failed"),
        made(Row("seeds", "8", "0"), failure="it was not over after 3 s"),
    ],
)
def test_what_broke_is_said_and_nothing_is_claimed(broken: list[Made]) -> None:
    text = written(broken)
    assert is_broken(broken[0])
    assert CLAIM not in text and f"**Broken: {PARTS[0].title}.**" in text


def test_what_was_not_run_is_neither_broken_nor_kept() -> None:
    kept, missing = (
        made(Row("pages", "7", CLAIM))[0],
        Made(PARTS[1], (), None, 2.0, "4 skipped in 1.2s"),
    )
    text = written([kept, missing])
    assert is_missing(missing) and not is_broken(missing)
    assert f"Over all that was run: **{CLAIM}**" in text
    assert f"**Not run here: {PARTS[1].title}.** Of these nothing is known." in text
    assert "\nwas not run here.\n\nLeft out here: 4 skipped in 1.2s\n" in text


def test_what_was_left_out_of_a_part_is_said_beside_its_rows() -> None:
    text = written([Made(PARTS[0], (Row("seeds", "8", "0"),), None, 2.0, "3 passed, 1 skipped in 9s")])
    assert "Left out here: 3 passed, 1 skipped in 9s\n" in text and "| seeds | 8 | 0 |" in text
    assert "Not run" not in text


def test_a_simulation_that_stopped_early_says_so() -> None:
    told = {"seeds": "0..1000", "count": 623, "steps": 10, "broken": 1, "faults": {"cut": 3}}
    assert "0..1000, until the first that broke" in simulation(Run(1, json.dumps(told)))[0].what


def test_a_part_without_figures_is_no_part_without_faults() -> None:
    with pytest.raises(KeyError):
        storms(Run(0, "3 skipped"))
    with pytest.raises((ValueError, IndexError)):
        simulation(Run(0, ""))


def test_figures_are_summed_and_seconds_are_the_longest() -> None:
    lines = [
        json.dumps({"figure": "storm", "storms": 1, "pages": 10, "cut": 2}),
        json.dumps({"figure": "storm", "storms": 1, "pages": 20, "cut": 3, "half_open": 1}),
        json.dumps({"figure": "restart", "start_seconds": 2.5}),
        json.dumps({"figure": "restart", "start_seconds": 1.5}),
    ]
    found = summed(lines)
    assert found["storm"] == {"storms": 2, "pages": 30, "cut": 5, "half_open": 1}
    assert found["restart"] == {"start_seconds": 2.5}
    assert storms(Run(0, "", found))[1] == Row("Faults in them: cut 5, half open 1", "6", "0")


def test_tools_are_read_by_their_last_line() -> None:
    told = {"seeds": "0..9", "count": 9, "steps": 1000, "broken": 0, "faults": {"cut": 3}}
    assert simulation(Run(0, f"9 seeds\n{json.dumps(told)}\n"))[1].count == "1,000"
    assert fuzzed(Run(1, "codec\nmessages 1000 broken 2\n"))[0].broken == "2"
    assert planted(Run(1, json.dumps({"planted": 3, "missed": ["9: x"]})))[0] == Row(
        "Rules of the protocol left out on purpose, and noticed", "2 of 3", "not noticed: 9: x"
    )
