"""Rounds: what an earlier round of a crawl knew of a request, and what a recrawl found beside it.

A request of round n is another request than that of round n - 1 (its key names the round), so that nothing that is
known is overwritten. These look back over them. No I/O, no clock.

A page that did not change (304) comes without its body: its links and items are those of the round before, as far as
that round looked for them. So a round that looks for others than the one before it asks for all pages whole.
"""

from __future__ import annotations

import hashlib
from enum import Enum

from common.config import CrawlConfig
from common.messages import Form, Request
from common.outcome import Outcome
from coordinator.explain import GET
from coordinator.hostqueue import Host
from coordinator.state import ShardState
from coordinator.store.rows import DoneRow, meta_row, pack, request_row, unpack, unpack_request_row


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


# ---------------------------------------------------------------------------------------- what a round looks for


def note_what_is_looked_for(state: ShardState) -> None:
    """At a start, and with another configuration: what this round looks for in pages, and whether all the same did."""
    packed = state.rows.get(meta_row("looks_for"))
    number, digest, uniform, conditional = (
        (state.round, b"", True, True) if packed is None else unpack(packed)
    )
    if number != state.round:  # a round older than this row
        uniform, conditional = True, True
    now = _looks_for(state.config)
    state.conditional = conditional
    if digest != now:
        row = state.round, now, uniform and not digest, conditional
        state.rows.put(meta_row("looks_for"), pack(row))


def begin_to_look(state: ShardState) -> bool:
    """A round begins; whether it may ask for pages only if they have changed: it looks for what the one before did."""
    packed = state.rows.get(meta_row("looks_for"))
    _, digest, uniform, _ = (0, b"", True, True) if packed is None else unpack(packed)
    now = _looks_for(state.config)
    state.conditional = not digest or (uniform and digest == now)
    state.rows.put(meta_row("looks_for"), pack((state.round, now, True, state.conditional)))
    return state.conditional


_LOOKS_FOR = (
    "scope",
    "allow",
    "deny",
    "no_follow",
    "skip_nofollow_links",
    "obey_robots",
    "max_depth",
    "max_url_length",
    "media",
    "download",
    "head",
    "store",
    "extract",
    "code",
    "extractors",
)
"""Options by which it is decided what is taken out of a page."""


def _looks_for(config: CrawlConfig) -> bytes:
    values = repr([getattr(config, name) for name in _LOOKS_FOR])
    return hashlib.blake2b(values.encode("utf-8", "replace"), digest_size=16).digest()
