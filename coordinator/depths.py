"""Depths: when a page that is found by a shorter path is visited again for its links (rule 15).

--max-depth is exact: what a page at the limit leads to is left, and belongs to the crawl if the page is found nearer
later. Who finds it so: frontier.py for what had ended, results.py for what was lent meanwhile. Pure.
"""

from __future__ import annotations

from common.outcome import Outcome

NEAR_DUPLICATE = "near_duplicate"
"""`reason` of a page whose links were left because it is nearly the same as an earlier one."""

_WITH_LINKS = frozenset((Outcome.OK, Outcome.TRUNCATED, Outcome.TOO_LARGE))


def leads_on(outcome: Outcome, visited: int, found: int, limit: int | None) -> bool:
    """Whether what was visited at one depth, and is found at another, leads to more only now. `limit`: --max-depth."""
    if limit is None or found >= visited:
        return False
    return outcome is Outcome.REDIRECT or (outcome in _WITH_LINKS and found < limit)


def was_followed(reason: str | None, *, is_file: bool) -> bool:
    """Whether the links of a page are followed at all: not those of a near-duplicate, and a file has none."""
    return reason != NEAR_DUPLICATE and not is_file
