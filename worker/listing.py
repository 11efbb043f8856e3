"""What of a sitemap's entries becomes requests: its pages at the next depth, the sitemaps of an index at its own.

A sitemap speaks for hosts that let it: its own, and the one whose robots.txt named it, where apex and `www.` are one.
What a `sitemap:URL` seed leads to may be anywhere in the scope, for the operator named it. So that this holds on the
way down an index and over redirects, the referrer of a sitemap that another sitemap or a redirect led to stays the
robots.txt that named the first. How many indexes lie above a sitemap is kept in its form's `carry`.

Pure. worker/sitemap.py reads the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from common.errors import BadURL
from common.messages import SITEMAP, Form, LinkGroup, Request
from common.scope import Scope
from common.url import CanonicalURL, Link, fingerprint, host_key, path_and_query
from common.wire import pack
from worker.sitemap import Entry

MAX_LEVELS = 3
"""Indexes above one another; the protocol knows one level."""

MAX_CHILDREN = 1000
"""Sitemaps taken from one index; of 50,000 entries each, more than a crawl of one host lives to see."""

Canonical = Callable[[str, CanonicalURL], CanonicalURL]
"""The canonical form of the first, resolved against the second; raises BadURL."""


def form_of(level: int, round_: int) -> Form:
    """The form of a request for a sitemap with so many indexes above it."""
    return Form(SITEMAP, (), None, None, round_, 0, pack(level) if level else None)


def naming(request: Request) -> str:
    """The referrer for what a sitemap leads to that is a sitemap again."""
    return request.referrer if _named_by_robots(request) and request.referrer else request.url


def pages(
    entries: Sequence[Entry],
    request: Request,
    *,
    scope: Scope,
    resolve: Canonical,
    seed: int,
    covers: Callable[[bytes, int], bool],
    refused: dict[str, int],
) -> tuple[tuple[LinkGroup, ...], tuple[bytes, ...]]:
    """The pages that a sitemap lists, as one group with their lastmods or none, and their fingerprints.

    What is not taken is counted in `refused`, by `sitemap_host`, the rules of the scope and those of URLs.
    """
    depth = request.depth + 1
    modified: dict[Link, int | None] = {}
    for url, when in _ours(entries, request, scope, resolve, refused, must_be_in_scope=True):
        link = (url, fingerprint(url, seed))
        if modified.get(link) is None:
            modified[link] = when
    fresh = [link for link in scope.select(modified, refused) if not covers(link[1], depth)]
    if not fresh:
        return (), ()
    lastmods = tuple(modified[link] for link in fresh)
    urls = tuple(link[0] for link in fresh)
    dates = lastmods if any(when is not None for when in lastmods) else None
    group = LinkGroup(request.url, request.seed, depth, 0, 0, urls, None, dates)
    return (group,), tuple(link[1] for link in fresh)


def sitemaps(
    entries: Sequence[Entry],
    request: Request,
    *,
    scope: Scope,
    resolve: Canonical,
    refused: dict[str, int],
) -> tuple[LinkGroup, ...]:
    """The sitemaps that an index lists, as one group or none: at its depth, a hop further.

    They are no pages, so `--scope prefix` and `--allow` have no say on a host that the index may speak for.
    """
    level = _level(request) + 1
    if level > MAX_LEVELS:
        refused["sitemap_depth"] = len(entries)
        return ()
    found: dict[CanonicalURL, int | None] = {}
    for url, when in _ours(entries, request, scope, resolve, refused, must_be_in_scope=False):
        if url == request.url:
            continue
        if len(found) == MAX_CHILDREN and url not in found:
            refused["sitemap_children"] = refused.get("sitemap_children", 0) + 1
            continue
        found.setdefault(url, when)
    if not found:
        return ()
    child = form_of(level, request.form.round if request.form is not None else 0)
    urls, lastmods = tuple(found), tuple(found.values())
    return (
        LinkGroup(
            naming(request),
            request.seed,
            request.depth,
            request.hops + 1,
            0,
            urls,
            (child,) * len(urls),
            lastmods if any(when is not None for when in lastmods) else None,
        ),
    )


def hosts_of(request: Request) -> frozenset[str] | None:
    """The hosts that a sitemap speaks for, without `www.`; None: any that is in scope."""
    own = _plain_host(CanonicalURL(request.url))
    if _named_by_robots(request) and request.referrer is not None:
        return frozenset({own, _plain_host(CanonicalURL(request.referrer))})
    if request.referrer is None or request.seed.startswith("sitemap:"):
        return None
    return frozenset({own})


def may_speak_for(request: Request, url: CanonicalURL, scope: Scope) -> bool:
    """Whether a sitemap may name this other one, or redirect to it."""
    hosts = hosts_of(request)
    if hosts is None:
        return scope.refusal(url) is None or _plain_host(url) == _plain_host(CanonicalURL(request.url))
    return _plain_host(url) in hosts


def _ours(
    entries: Sequence[Entry],
    request: Request,
    scope: Scope,
    resolve: Canonical,
    refused: dict[str, int],
    *,
    must_be_in_scope: bool,
) -> Iterable[tuple[CanonicalURL, int | None]]:
    """Canonical entries that the sitemap may speak for; whoever asks for pages looks at the scope itself."""
    base = CanonicalURL(request.url)
    hosts = hosts_of(request)
    for entry in entries:
        try:
            url = resolve(entry.url, base)
        except BadURL as bad:
            refused[bad.reason] = refused.get(bad.reason, 0) + 1
            continue
        if hosts is None:
            speaks = must_be_in_scope or may_speak_for(request, url, scope)
        else:
            speaks = _plain_host(url) in hosts
        if speaks:
            yield url, entry.lastmod
        else:
            refused["sitemap_host"] = refused.get("sitemap_host", 0) + 1


def _named_by_robots(request: Request) -> bool:
    return request.referrer is not None and path_and_query(CanonicalURL(request.referrer)) == "/robots.txt"


def _plain_host(url: CanonicalURL) -> str:
    """The host key; apex and `www.` are one, as in the scope."""
    return host_key(url).removeprefix("www.")


def _level(request: Request) -> int:
    """Indexes above this sitemap."""
    carry = None if request.form is None else request.form.carry
    return carry[0] if carry is not None and len(carry) == 1 and carry[0] < 128 else 0
