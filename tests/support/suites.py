"""What the public suites say of Shoal, as a page: `scripts/suites` writes docs/suites.md.

Nothing is judged here. Cases and deviations come from the test modules that judge them, so that what the page says is
what the tests check; tests/unit/test_suites.py holds the page to this.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.generated import write_or_check
from tests.unit import test_robots, test_robots_files, test_sitemap, test_url

PAGE = Path(__file__).parents[2] / "docs" / "suites.md"
FOLDER = test_url.SUITES.parent

_HEAD = """\
# The public suites

Cases that nobody on this project wrote, and what Shoal makes of them. The tests run all of them; a deviation that is
new, or one that went away, fails a test. Written by `scripts/suites` from what those tests check: do not edit.
"""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where Shoal does something else, on purpose. A text may be None where the reason says it all."""

    case: str
    expected: str | None
    ours: str | None
    reason: str
    cases: int = 1
    """Of the suite; 0: its project does otherwise, though no case of its files shows that."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite and what came of it."""

    name: str
    source: str
    test: str
    cases: int
    deviations: tuple[Deviation, ...]


def suites() -> list[Suite]:
    """All of them; reads the test data, which must be there."""
    return [*_urls(), *_robots(), *_sitemaps()]


def page(found: Iterable[Suite]) -> str:
    """docs/suites.md."""
    found = list(found)
    lines = [_HEAD, "| suite | cases | as expected | deviations | test |", "| --- | --: | --: | --: | --- |"]
    for suite in found:
        deviating = sum(each.cases for each in suite.deviations)
        lines.append(
            f"| [{suite.name}](#{_anchor(suite.name)}) | {suite.cases} | {suite.cases - deviating} | {deviating} "
            f"| `{suite.test}` |"
        )
    for suite in found:
        lines += ["", f"## {suite.name}", "", suite.source]
        shown = [each for each in suite.deviations if each.cases]
        beyond = [each for each in suite.deviations if not each.cases]
        if shown:
            lines += ["", *_table(shown)]
        if beyond:
            lines += ["", "Beyond its cases:", "", *_table(beyond)]
    return "\n".join(lines) + "\n"


def _table(deviations: Sequence[Deviation]) -> list[str]:
    if all(each.expected is None for each in deviations):
        lines = ["| case | what differs, and why |", "| --- | --- |"]
        return lines + [f"| {_cell(each.case)} | {_cell(each.reason)} |" for each in deviations]
    lines = ["| case | the suite | Shoal | why |", "| --- | --- | --- | --- |"]
    for each in deviations:
        lines.append(
            f"| {_code(each.case)} | {_code(each.expected)} | {_code(each.ours)} | {_cell(each.reason)} |"
        )
    return lines


def _urls() -> list[Suite]:
    wpt = {text: (base, expected) for text, base, expected in test_url.wpt_cases()}
    normalized = {line: (text, expected) for line, text, expected in test_url.normalized_cases()}
    resolved = {line: (text, expected) for line, text, _, expected in test_url.resolve_cases()}
    bases = {line: base for line, _, base, _ in test_url.resolve_cases()}
    return [
        Suite(
            "web-platform-tests: urltestdata.json",
            "Parsing by the WHATWG URL standard. Compared without fragment, user name, password and empty query, which "
            "Shoal drops; what is not http or https must be refused for its scheme.",
            "tests/unit/test_url.py",
            len(test_url.wpt_cases()),
            tuple(
                Deviation(text, wpt[text][1], ours, reason)
                for text, (ours, reason) in test_url.WPT_DEVIATIONS.items()
            ),
        ),
        Suite(
            "crawler-commons: weirdToNormalizedUrls.csv",
            "Its normaliser goes further than the URL standard. What it does beyond that may lead to another page: it "
            "is not done here, or only [on request](urls.md#on-request).",
            "tests/unit/test_url.py",
            len(normalized),
            tuple(
                Deviation(
                    normalized[line][0], normalized[line][1], test_url.outcome(normalized[line][0]), why
                )
                for line, why in test_url.NORMALIZED_DEVIATIONS.items()
            ),
        ),
        Suite(
            "crawler-commons: url-resolve.csv",
            "Resolving a link against its page.",
            "tests/unit/test_url.py",
            len(resolved),
            tuple(
                Deviation(
                    resolved[line][0],
                    resolved[line][1],
                    test_url.outcome(resolved[line][0], bases[line]),
                    why,
                )
                for line, why in test_url.RESOLVE_DEVIATIONS.items()
            ),
        ),
        Suite(
            "crawler-commons: invalidUrls.csv",
            "Texts that are no URLs.",
            "tests/unit/test_url.py",
            len(test_url.rows("invalidUrls.csv")),
            (),
        ),
    ]


def _robots() -> list[Suite]:
    cases = test_robots._cases()
    expected = {(case.source, case.url): case.allowed for case in cases}
    words = {True: "allowed", False: "disallowed"}
    return [
        Suite(
            "google/robotstxt-spec-test",
            "Google's cases for its specification of robots.txt: a file, a URL, an agent, and the answer.",
            "tests/unit/test_robots.py",
            len(cases),
            tuple(
                Deviation(
                    f"{source}: {url}", words[expected[source, url]], words[not expected[source, url]], reason
                )
                for (source, url), reason in test_robots.DEVIATIONS.items()
            ),
        ),
        Suite(
            "crawler-commons: robots.txt",
            "Odd and real files, and the examples of RFC 9309; a case is a file, with what it allows, its delays and "
            "its sitemaps.",
            "tests/unit/test_robots_files.py",
            len(test_robots_files.FILES),
            _of_files(test_robots_files.DEVIATIONS, test_robots_files.FILES),
        ),
    ]


def _sitemaps() -> list[Suite]:
    return [
        Suite(
            "crawler-commons: sitemaps",
            "Sitemaps, indexes, feeds, lists, extensions; a case is a file, with what is listed in it.",
            "tests/unit/test_sitemap.py",
            len(test_sitemap.FILES),
            _of_files(test_sitemap.DEVIATIONS, test_sitemap.FILES),
        )
    ]


def _of_files(deviations: Mapping[str, str], files: Collection[str]) -> tuple[Deviation, ...]:
    """Those of a suite of files, by the names of the files that they concern, or by something else."""
    return tuple(
        Deviation(case, None, None, reason, sum(name in files for name in case.split(", ")))
        for case, reason in deviations.items()
    )


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(text: str | None) -> str:
    """As code in a table's cell, control characters told; `|` ends a cell even in code."""
    if text is None:
        return ""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    fence = "``" if "`" in shown else "`"
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|")


if __name__ == "__main__":
    if not FOLDER.is_dir():
        sys.exit(f"suites: no public test data at {FOLDER}")
    write_or_check(
        PAGE,
        lambda: page(suites()),
        program="suites",
        why="Write docs/suites.md from what the tests check.",
    )
