"""docs/suites.md says what the tests of the public suites check."""

from __future__ import annotations

import pytest

from tests.support.suites import FOLDER, PAGE, Deviation, Suite, page, suites


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no public test data at {FOLDER}")
def test_the_page_of_the_public_suites_is_current() -> None:
    """`scripts/suites` renews it."""
    assert PAGE.read_text("utf-8") == page(suites())


def test_every_deviation_is_told_with_its_reason_and_no_text_breaks_the_table() -> None:
    odd = Deviation("http://h.test/a|b\n`c`", "http://h.test/\u00e9", "invalid", "because | <loc>")
    text = page(
        [Suite("Some: suite.csv", "What it is.", "test.py", 3, (odd, Deviation("x", None, None, "y", 0)))]
    )
    lines = text.splitlines()
    assert "| [Some: suite.csv](#some-suitecsv) | 3 | 2 | 1 | `test.py` |" in lines
    row = r"| `` http://h.test/a\|b\n`c` `` | `http://h.test/é` | `invalid` | because \| &lt;loc> |"
    assert row in lines
    assert "| x | y |" in lines
