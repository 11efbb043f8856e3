"""A request that an extractor yields, and what goes to the shards for it.

It passes the scope and the depth limit like a link, and is followed with --no-follow, too. Requests of one page travel
in a group of their own, each with its form; `dont_filter` gives a request a serial number that is the same however
often the page is fetched, so that a try that was lost repeats nothing: a hash of the page's key and of the request's
place among all that the page yielded. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1

from xxhash import xxh3_64_intdigest

from common.messages import Form, LinkGroup, Request
from common.scope import Scope
from common.url import CanonicalURL, fingerprint, request_key


@dataclass(frozen=True, slots=True)
class Follow:
    """A request to yield; made by `Page.follow`. `form` None: a plain GET, as of a link."""

    url: str
    """Canonical; as it was given where `bad`."""
    form: Form | None
    dont_filter: bool = False
    bad: str | None = None
    """It is no URL that can be fetched: the rule by which it is counted."""


def follow_group(
    request: Request,
    follows: Sequence[Follow],
    depth: int,
    scope: Scope,
    seed: int,
    refused: dict[str, int],
) -> LinkGroup | None:
    """The requests of one page that are in scope, in their order; None: none is. `refused` counts the others by rule.

    `depth`: of the targets; `seed`: of the crawl's fingerprints.
    """
    urls: list[str] = []
    forms: list[Form | None] = []
    parent = _key(request, seed)
    for ordinal, follow in enumerate(follows):
        refusal = follow.bad or scope.refusal(CanonicalURL(follow.url))
        if refusal is not None:
            refused[refusal] = refused.get(refusal, 0) + 1
            continue
        form = follow.form
        if follow.dont_filter and form is not None:
            form = form._replace(serial=xxh3_64_intdigest(parent + ordinal.to_bytes(4, "big"), seed))
        urls.append(follow.url)
        forms.append(form)
    if not urls:
        return None
    return LinkGroup(request.url, request.seed, depth, 0, 0, tuple(urls), tuple(forms))


def _key(request: Request, seed: int) -> bytes:
    """The page's own, as of round 0: a recrawl visits what it led to again, and does not take it for new."""
    form, url = request.form, CanonicalURL(request.url)
    if form is None:
        return fingerprint(url, seed)
    digest = None if form.body is None else sha1(form.body, usedforsecurity=False).digest()
    return request_key(form.method, url, digest, 0, form.serial, seed)
