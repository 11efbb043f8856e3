"""Which lines are exported: by outcome, host, time and round.

Pure. A filter that a line cannot answer (a page that was never fetched has no time, a bad seed no host) leaves it out.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from common.clock import rfc3339
from common.errors import UsageError
from common.nearest import hint
from common.outcome import Outcome
from common.url import CanonicalURL, has_canonical_shape, host_key
from coordinator.export.lines import parsed

_URL_KEYS: Final = ("url", "from")
"""Where a line says which page it is of: links call it `from`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a line must be. Empty or None: it may be anything."""

    outcomes: frozenset[str] = frozenset()
    hosts: tuple[str, ...] = ()
    """Shell patterns for the whole host key; one of them must match."""
    since: str | None = None
    """RFC 3339 as in `fetched_at`; at or after it."""
    until: str | None = None
    """Before it."""
    round: int | None = None

    @classmethod
    def given(
        cls,
        kind: str,
        *,
        outcomes: Iterable[str] = (),
        hosts: Iterable[str] = (),
        since: str | None = None,
        until: str | None = None,
        round: int | None = None,
    ) -> Choice:
        """From what a person typed. Raises UsageError where that is nothing we know, or nothing that `kind` has."""
        names = [name.strip().upper() for each in outcomes for name in each.split(",") if name.strip()]
        for name in names:
            if name not in Outcome.__members__:
                meant = hint(name, Outcome.__members__, otherwise=f": {', '.join(Outcome.__members__)}")
                raise UsageError(f"--outcome {name}: there is no such outcome{meant}")
        if kind != "pages" and (names or round is not None):
            raise UsageError(f"--{'outcome' if names else 'round'} is for pages; {kind} has none")
        if kind == "seeds" and (since or until):
            raise UsageError(
                f"--{'since' if since else 'until'} is for what was fetched; {kind} has no times"
            )
        return cls(
            frozenset(names),
            tuple(pattern.lower() for pattern in hosts),
            None if since is None else _moment("--since", since),
            None if until is None else _moment("--until", until),
            round,
        )

    @property
    def is_all(self) -> bool:
        """Whether every line is chosen."""
        return self == Choice()

    def of(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Those of the lines that are chosen. A line costs 6 µs, nothing where all are."""
        return iter(lines) if self.is_all else (line for line in lines if self._holds(parsed(line)))

    def _holds(self, line: dict[str, Any]) -> bool:
        if self.outcomes and line.get("outcome") not in self.outcomes:
            return False
        if self.round is not None and line.get("round") != self.round:
            return False
        if self.since is not None or self.until is not None:
            at = line.get("fetched_at")
            if (
                not isinstance(at, str)
                or at < (self.since or "")
                or (self.until is not None and at >= self.until)
            ):
                return False
        if self.hosts:
            url = next((line[key] for key in _URL_KEYS if isinstance(line.get(key), str)), "")
            if not has_canonical_shape(url):
                return False
            host = host_key(CanonicalURL(url))
            return any(fnmatch.fnmatchcase(host, pattern) for pattern in self.hosts)
        return True


def _moment(option: str, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option} {text}: expected a date or a time, such as 2026-05-01 or 2026-05-01T12:00:00Z"
        ) from None
    # UTC where nothing else is said, as everywhere in a crawl's files.
    return rfc3339((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
