"""What became of a URL: the answer of `coord why`, from the rows of its shard.

While a crawl runs its shard asks (what is lent and when a host is due it knows better than the rows), else a person
asks the store. Only the plain request of a URL is looked for: GET, or HEAD in a crawl with `--head`; else that of its
download, else that of a sitemap. Reads, no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from common.config import CrawlConfig
from common.errors import BadURL
from common.messages import DOWNLOAD, HEAD, SITEMAP, Flag, Form, LeaseId, Request, lease_name
from common.normalization import Normalizer
from common.outcome import OUTCOMES, State
from common.scope import Scope
from common.url import CanonicalURL, canonical, host_key, slot
from common.warc import warc_date
from coordinator.ledger import page_line
from coordinator.store.rows import (
    DoneRow,
    HostRow,
    LeaseRow,
    OpenRow,
    as_request,
    host_row,
    is_done,
    key_of,
    queue_key,
    queue_prefix,
    request_row,
    row_of,
    span,
    unpack,
    unpack_request_row,
    wait_due,
    wait_prefix,
    wait_seq,
)
from coordinator.store.snapshot import Reads, rows_between

NEVER: Final = "NEVER_ADMITTED"
"""Told as the state of a URL that has none: it was refused by a rule, or never met."""

_COUNTED: Final = 1000
"""Requests before this one that are counted, and retries that are looked through: a running coordinator answers
within milliseconds."""

_OTHERS: Final = (DOWNLOAD, SITEMAP)

GET: Final = Form("GET", (), None, None, 0, 0, None)

_LONGEST: Final = 1 << 16
"""What was admitted may be longer than --max-url-length is now."""


def explain(
    rows: Reads,
    text: str,
    *,
    seed: int,
    form: Form | None,
    wall: float,
    normalizer: Normalizer | None = None,
    lent: Callable[[str], Iterable[tuple[LeaseId, Request]]] | None = None,
    due_in: Callable[[str], float] | None = None,
) -> dict[str, Any] | None:
    """What is known of a URL; None: it was never admitted. Raises BadURL for a text that is no URL.

    `form`: what a plain link is in the current round; the newest round that knows the URL answers. `lent`: the open
    requests of a host's leases; `due_in`: seconds until it may be visited. None: as the rows say. `normalizer`: the
    crawl's; a URL that is not known as it was typed is looked for as the crawl would have it.
    """
    url = canonical(text, max_length=_LONGEST)
    name = host_key(url)
    number = slot(name)
    found = _newest(rows, number, url, form, seed)
    if found is None and normalizer:
        normal = normalizer.apply(url)
        if normal != url:
            url, name = normal, host_key(normal)
            number = slot(name)
            found = _newest(rows, number, url, form, seed)
    if found is None:
        return None
    row, form = found
    if isinstance(row, DoneRow):
        told = {"state": row.outcome.state.value, **json.loads(page_line(row))}
        return {**told, "tries": _told(row.tries), "links_refused": dict(row.refused)}
    host_packed = rows.get(host_row(number, name))
    host = None if host_packed is None else HostRow(*unpack(host_packed))
    open_requests = lent(name) if lent is not None else _lent_by_rows(rows, name, number, seed)
    for lease, request in open_requests:
        same = request.url == url and key_of(url, request.form, seed) == key_of(url, form, seed)
        if same and not request.flags & Flag.LINKS_ONLY:
            told = _of_open(State.LEASED, request, row, host)
            return {**told, "lease": lease_name(lease), "due_in_seconds": None, "queued_before_it": 0}
    left = due_in(name) if due_in is not None else _left(host, wall)
    prefix = queue_prefix(number, name)
    place = queue_key(prefix, row.place)
    queued = rows.get(place)
    if queued is not None:
        told = _of_open(State.QUEUED, as_request(unpack(queued)), row, host)
        before = len(rows.scan(prefix, place, _COUNTED))
        return {**told, "due_in_seconds": round(max(0.0, left), 3), "queued_before_it": before}
    for key, packed in rows.scan(*span(wait_prefix(number, name)), _COUNTED):
        if wait_seq(key) == row.place.seq:
            told = _of_open(State.QUEUED, as_request(unpack(packed)), row, host)
            left = max(left, wait_due(key) - wall)
            return {**told, "retry": True, "due_in_seconds": round(max(0.0, left), 3), "queued_before_it": 0}
    told = {"state": State.QUEUED.value, "url": url, "depth": row.place.depth, "tries": _told(row.tries)}
    return {**told, "due_in_seconds": round(max(0.0, left), 3), "queued_before_it": None}


def never_admitted(text: str, scope: Scope, config: CrawlConfig) -> dict[str, Any]:
    """Of a URL that was never admitted: `refused_by`, the rule that refuses it now, and `why`, for people."""
    try:
        url = canonical(text, max_length=config.max_url_length, normalizer=normalizer_of(config) or None)
    except BadURL as error:
        return {
            "state": NEVER,
            "url": text,
            "refused_by": error.reason,
            "why": f"no URL that is crawled: {error}",
        }
    rule = scope.refusal(url)
    match rule:
        case "scope":
            why = f"out of scope: --scope {config.scope} of the seeds does not reach it"
        case "allow":
            why = "none of the --allow patterns is found in it: " + ", ".join(config.allow)
        case "deny":
            found = [each for each in config.deny if Scope("any", None, deny=(each,)).refusal(url)]
            why = "a --deny pattern is found in it: " + ", ".join(found)
        case _ if config.no_follow:
            why = "it is no seed, and with --no-follow only seeds are fetched"
        case _ if config.max_depth is not None:
            why = f"in scope, but no page fetched so far links to it at a depth of at most {config.max_depth}"
        case _:
            why = "in scope, but no page fetched so far links to it"
    return {"state": NEVER, "url": url, "refused_by": rule, "why": why}


def normalizer_of(config: CrawlConfig) -> Normalizer:
    """What a crawl does to URLs beyond their canonical form."""
    return Normalizer(config.sort_query, config.strip_tracking, config.strip_session_ids, config.strip_www)


def plain_form(head: bool, current: int) -> Form | None:
    """What a request found as a plain link is in round `current`, beyond a GET of round 0."""
    form = HEAD if head else None
    return (form or GET)._replace(round=current) if current else form


def _newest(
    rows: Reads, number: int, url: CanonicalURL, form: Form | None, seed: int
) -> tuple[OpenRow | DoneRow, Form | None] | None:
    """The row of a URL in the last round that knows it, and its form there."""
    last = 0 if form is None else form.round
    for before in range(last, -1, -1):
        then = form
        if form is not None and before != last:
            then = form._replace(round=before)
            if then == GET:
                then = None
        packed = rows.get(request_row(number, key_of(url, then, seed)))
        if packed is not None:
            return unpack_request_row(packed), then
    if form is None or form.method not in _OTHERS:
        for method in _OTHERS:
            if found := _newest(rows, number, url, (form or GET)._replace(method=method), seed):
                return found
    return None


def lent_requests(packed: bytes) -> tuple[tuple[Request, ...], int]:
    """The requests of a lease's row, those that have a result since among them; and the lease's number, for
    `still_lent`."""
    row = LeaseRow(*unpack(packed))
    return tuple(map(as_request, row.requests)), row.seq


def _lent_by_rows(rows: Reads, name: str, number: int, seed: int) -> Iterator[tuple[LeaseId, Request]]:
    for key, packed in rows_between(rows, b"l", b"m"):
        if LeaseRow(*unpack(packed)).host == name:
            requests, seq = lent_requests(packed)
            for request in requests:
                if still_lent(rows.get(row_of(number, request, seed)), request, seq):
                    yield LeaseId(int.from_bytes(key[1:], "big")), request


def still_lent(row: bytes | None, request: Request, seq: int) -> bool:
    """Whether a request in an open lease is lent by it: it has no outcome, and was not queued again since.

    `seq`: of the lease. What is put off or tried anew gets a later number.
    """
    if row is None or is_done(row):
        return False
    there = unpack_request_row(row)
    return isinstance(there, OpenRow) and there.place.seq <= seq and len(there.tries) == request.attempts


def _of_open(state: State, request: Request, row: OpenRow, host: HostRow | None) -> dict[str, Any]:
    return {
        "state": state.value,
        "url": request.url,
        "depth": request.depth,
        "referrer": request.referrer,
        "seed": request.seed,
        "hops": request.hops,
        "attempts": request.attempts,
        "tries": _told(row.tries),
        "host": None
        if host is None
        else {"queued": host.queued, "waiting": host.waiting, "failures_in_a_row": host.failures},
    }


def _left(host: HostRow | None, wall: float) -> float:
    """Seconds that a host still rests, by its row (PROTOCOL rule 10)."""
    return 0.0 if host is None else min(max(0.0, host.due_wall - wall), host.set_for)


def _told(tries: tuple[tuple[int, float], ...]) -> list[dict[str, str]]:
    return [{"outcome": OUTCOMES[code].value, "at": warc_date(at)} for code, at in tries]
