"""Rounds: what an earlier round of a crawl knew of a request, and what a recrawl found beside it.

A request of round n is another request than that of round n - 1 (its key names the round), so that nothing that is
known is overwritten. These look back over them. No I/O, no clock.
"""

from __future__ import annotations

from enum import Enum

from common.messages import Form, Request
from common.outcome import Outcome
from coordinator.explain import GET
from coordinator.hostqueue import Host
from coordinator.state import ShardState
from coordinator.store.rows import DoneRow, request_row, unpack_request_row


class _Unknown(Enum):
    """No earlier round knew the request. (None is the form of a plain GET.)"""

    UNKNOWN = 0


UNKNOWN = _Unknown.UNKNOWN


def last_known(state: ShardState, number: int, request: Request) -> DoneRow | Form | _Unknown | None:
    """The last round before its own that knew the request, of the host in slot `number`: how it ended there, or its
    form if it is open still."""
    if request.form is None:
        return UNKNOWN
    for before in range(request.form.round - 1, -1, -1):
        form: Form | None = request.form._replace(round=before, headers=())
        if form == GET:
            form = None
        packed = state.rows.get(request_row(number, state.frontier.key_of(request.url, form)))
        if packed is not None:
            row = unpack_request_row(packed)
            return row if isinstance(row, DoneRow) else form
    return UNKNOWN


def last_end(state: ShardState, host: Host, request: Request) -> DoneRow | None:
    """How the same request ended in the last round before its own that knew it."""
    found = last_known(state, host.slot, request)
    return found if isinstance(found, DoneRow) else None


def compare(
    state: ShardState, outcome: Outcome, digest: str | None, earlier: DoneRow | None, *, by: int = 1
) -> None:
    """Count what a recrawl found: a page that is new, changed, unchanged or vanished since the round before.

    What a person has blocked was not looked for, so it did not vanish. `by` -1 takes it back.
    """
    if outcome is Outcome.OPERATOR:
        return
    again = state.ledger.counts.again
    gave = outcome in (Outcome.OK, Outcome.NOT_MODIFIED)
    had = earlier is not None and earlier.outcome in (Outcome.OK, Outcome.NOT_MODIFIED)
    if gave and not had:
        again["new"] += by
    elif gave and earlier is not None:
        same = outcome is Outcome.NOT_MODIFIED or digest == earlier.facts.digest
        again["unchanged" if same else "changed"] += by
    elif had and outcome is not Outcome.REDIRECT:
        again["vanished"] += by
