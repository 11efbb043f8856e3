"""What an audit found: how much was looked at, what is wrong, the first offenders of each kind. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from common.outcome import OUTCOMES, State

OFFENDERS: Final = 5
"""Of each check so many are named; the others are counted."""

CHECKS: Final = {
    "counts": "the counts row says what the rows add up to",
    "requests": "every row of a request is readable and stands under its own key",
    "queues": "every open request is in exactly one of queue, wait and lease",
    "hosts": "the rows of the hosts count what they have",
    "pages": "every request that ended has its one line, which says the same",
    "items": "every place in `items`, `text` and `links` holds whole lines, and there are no others",
    "records": "every place in WARC holds the record of its URL",
    "outputs": "every output file is there up to its committed end",
    "files": "every downloaded file is there with its length, and its digest (--deep)",
    "digests": "every record is whole, and its digests are right (--deep)",
}
"""Name of each check and what holds when nothing is wrong with it."""


@dataclass(slots=True)
class Report:
    """Filled while the audit runs."""

    admitted: int = 0
    queued: int = 0
    waiting: int = 0
    leased: int = 0
    relinks: int = 0
    """Visits of ended requests for their links alone, because of a smaller depth; they are no requests."""
    done: Counter[int] = field(default_factory=Counter)
    """By the outcome's code."""
    looked_at: Counter[str] = field(default_factory=Counter)
    """By check: rows, lines, records, files."""
    wrong: Counter[str] = field(default_factory=Counter)
    """By check."""
    offenders: dict[str, list[str]] = field(default_factory=dict)
    """The first of each check."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing and nothing wrong."""

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def fault(self, check: str, text: str, count: int = 1) -> None:
        """Something is wrong; `text` names the thing and both values."""
        if check not in CHECKS:
            raise ValueError(f"no check is called {check}")
        self.wrong[check] += count
        named = self.offenders.setdefault(check, [])
        if len(named) < OFFENDERS:
            named.append(text)

    def of(self, state: State) -> int:
        """Requests that ended in a state."""
        return sum(count for code, count in self.done.items() if OUTCOMES[code].state is state)

    def balance(self) -> str:
        """The ledger's equation, as counted from the rows."""
        return (
            f"{self.admitted:,} admitted = {self.queued:,} queued + {self.waiting:,} waiting + "
            f"{self.leased:,} leased + {self.of(State.FETCHED):,} fetched + {self.of(State.FAILED):,} failed + "
            f"{self.of(State.EXCLUDED):,} excluded"
        )

    def lines(self) -> list[str]:
        """For people."""
        told = [self.balance()]
        by_outcome = [(count, OUTCOMES[code].value) for code, count in self.done.items() if count]
        if by_outcome:
            told.append(
                "ended: " + ", ".join(f"{name} {count:,}" for count, name in sorted(by_outcome, reverse=True))
            )
        if self.relinks:
            told.append(
                f"besides: {self.relinks:,} that ended are visited again for links alone (a smaller depth)"
            )
        told.append("")
        for check, meaning in CHECKS.items():
            if self.looked_at[check] or self.wrong[check]:
                verdict = f"{self.wrong[check]:,} WRONG" if self.wrong[check] else "right"
                told.append(f"  {check:<9} {self.looked_at[check]:>12,} looked at  {verdict:>10}   {meaning}")
        told += [f"note: {note}" for note in self.notes]
        for check, named in self.offenders.items():
            told += ["", f"{check}: {self.wrong[check]:,} wrong, the first:"]
            told += [f"  {text}" for text in named]
        total = self.wrong.total()
        told += ["", "all of it agrees" if self.is_right else f"{total:,} things are wrong"]
        return told
