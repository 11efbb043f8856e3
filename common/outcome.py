"""What a fetch came to, and which state of the ledger each outcome ends in.

The names are part of the contract: they stand in `pages`, in `--fail-on`, in `coord retry --outcome`. A request is
QUEUED or LEASED until it has an outcome; then it is FETCHED, FAILED or EXCLUDED for good (or until a person retries
it). Whether a failed try is tried again is not decided here but in `coordinator/policy.py`.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where an admitted request stands; it is always in exactly one of these."""

    QUEUED = "QUEUED"
    LEASED = "LEASED"
    FETCHED = "FETCHED"
    FAILED = "FAILED"
    EXCLUDED = "EXCLUDED"


class Outcome(StrEnum):
    """How a request ended. Order is part of the store's format: `code` is the position here; only append."""

    OK = "OK"
    REDIRECT = "REDIRECT"
    NOT_MODIFIED = "NOT_MODIFIED"
    CLIENT_ERROR = "CLIENT_ERROR"
    SERVER_ERROR = "SERVER_ERROR"
    TRUNCATED = "TRUNCATED"
    TOO_LARGE = "TOO_LARGE"

    TIMEOUT = "TIMEOUT"
    DNS = "DNS"
    TLS = "TLS"
    REFUSED = "REFUSED"
    RESET = "RESET"
    PROTOCOL = "PROTOCOL"
    PROXY = "PROXY"
    TOO_MANY_REDIRECTS = "TOO_MANY_REDIRECTS"
    HOST_UNREACHABLE = "HOST_UNREACHABLE"
    ROBOTS_UNREACHABLE = "ROBOTS_UNREACHABLE"
    POISON = "POISON"

    ROBOTS_DENIED = "ROBOTS_DENIED"
    PRIVATE_ADDRESS = "PRIVATE_ADDRESS"
    TYPE_REJECTED = "TYPE_REJECTED"
    UNSUPPORTED = "UNSUPPORTED"
    TRAP = "TRAP"
    LIMIT = "LIMIT"
    """Reserved: what a limit holds back stays queued, so that a higher limit goes on with it."""
    OPERATOR = "OPERATOR"

    @property
    def code(self) -> int:
        """The number that stands for this outcome in messages and in the store."""
        return _CODES[self]

    @property
    def state(self) -> State:
        """The state of the ledger that a request with this outcome is in."""
        return _STATES[self]

    @property
    def has_record(self) -> bool:
        """Whether an HTTP response came, so that there is something to store in WARC."""
        return self in _FETCHED


OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
"""Outcomes by their code."""

_CODES = {outcome: position for position, outcome in enumerate(OUTCOMES)}
_FETCHED = frozenset(OUTCOMES[: _CODES[Outcome.TIMEOUT]])
_FAILED = frozenset(OUTCOMES[_CODES[Outcome.TIMEOUT] : _CODES[Outcome.ROBOTS_DENIED]])
_STATES = {
    outcome: State.FETCHED if outcome in _FETCHED else State.FAILED if outcome in _FAILED else State.EXCLUDED
    for outcome in OUTCOMES
}
