"""Where a response leads: the target of its redirect, the outlinks of its page, what its extractors follow.

    hrefs and the head's links -> joined -> in scope -> not sent lately -> a LinkGroup, and fingerprints for `sent`

A group is a tuple of requests-to-be with one page before them; what is left out is counted by its reason in `refused`,
which the caller hands in. Nothing deeper than `--max-depth` is told. A page brings no more than MAX_LINKS and
MAX_LINK_CHARACTERS. A redirect's target is an outlink at the depth of its page, with a hop more.

It does not decide whether a response's links count at all (an error page, a nofollow): worker/page.py does. Nor which
shard they go to: worker/outlinks.py. Pure; its state is the memory of what was joined.

Read next: worker/hrefs.py (hrefs of a parsed page), worker/listing.py (of a sitemap), common/scope.py.
"""

from __future__ import annotations

from common.config import CrawlConfig
from common.errors import BadURL
from common.messages import DOWNLOAD, HEAD, Flag, Form, LinkGroup, Request
from common.normalization import Normalizer
from common.scope import Scope
from common.url import CanonicalURL, Link, LinkJoiner, canonical, fingerprint, host_key
from worker import listing, outgoing
from worker.charset import codec
from worker.exchange import Exchange
from worker.extracted import Extracted
from worker.extractfollow import follow_group
from worker.hrefs import head_targets, location_of
from worker.linkgraph import FoundLink, links_of_header, resolved
from worker.outcome import judge
from worker.parse import Parsed
from worker.reading import Read
from worker.sent import SentLinks
from worker.sitemap import Sitemap

JOINER_ENTRIES = 65_536
"""Joined hrefs remembered, about 0.5 KB each."""

MAX_LINKS = 100_000
"""Outlinks taken from one page; a page of links for people has some thousands, a trap has no end."""

MAX_LINK_CHARACTERS = 4 << 20
"""And their characters together: they travel in one message."""

Told = tuple[tuple[LinkGroup, ...], tuple[bytes, ...]]
"""Groups, and the fingerprints of those of their requests that count as sent once they are acknowledged."""


class Leads:
    """Finds them for one crawl. `scope` may be replaced when it grows; `sent` belongs to the agent."""

    def __init__(self, config: CrawlConfig, scope: Scope, sent: SentLinks, seed: int) -> None:
        self._config = config
        self.scope = scope
        self._sent = sent
        self._seed = seed
        self._normalizer = Normalizer(
            config.sort_query, config.strip_tracking, config.strip_session_ids, config.strip_www
        )
        self._joiner = LinkJoiner(
            seed, entries=JOINER_ENTRIES, max_length=config.max_url_length, normalizer=self._normalizer
        )

    # ---------------------------------------------------------------------------------------------- redirects

    def redirect_target(self, url: str, came: Exchange) -> CanonicalURL | None:
        """Where a redirect leads, canonical; None when it is none, or leads to nothing that can be fetched."""
        location = judge(came.status, location=came.header("Location")).location
        return None if location is None else self._plain_target(url, location)

    def target(self, url: str, location: str) -> CanonicalURL | None:
        """The same as this crawl knows it; `location` is that of a redirect."""
        target = self._plain_target(url, location)
        if target is None or not self._normalizer:
            return target
        return self._normalizer.redirected(CanonicalURL(url), target)

    def _plain_target(self, url: str, location: str) -> CanonicalURL | None:
        try:
            return canonical(location_of(location), url, max_length=self._config.max_url_length)
        except BadURL:
            return None

    def form_of_target(self, request: Request, target: CanonicalURL | None, status: int) -> Form | None:
        """How a redirect's target is asked for. None: plainly, or there is none."""
        if target is None:
            return None
        same_host = host_key(target) == host_key(CanonicalURL(request.url))
        usual = HEAD if self._config.head else None
        return outgoing.after_redirect(request.form, status, same_host=same_host, usual=usual)

    def hop(self, request: Request, target: CanonicalURL, form: Form | None, refused: dict[str, int]) -> Told:
        """A redirect's target: an outlink at the same depth, with a hop more. A seed's may leave the scope.

        What is no plain request has another key than its URL's fingerprint, so it never counts as sent.
        """
        seed, referrer = request.flags & Flag.SEED, request.url
        if outgoing.is_sitemap(request):
            referrer = listing.naming(request)
            if not seed and not listing.may_speak_for(request, target, self.scope):
                refused["sitemap_host"] = 1
                return (), ()
        elif not seed and not self._config.no_follow and not (form is not None and form.method == DOWNLOAD):
            refusal = self.scope.refusal(target)
            if refusal is not None:
                refused[refusal] = 1
                return (), ()
        forms = None if form is None else (form,)
        group = LinkGroup(referrer, request.seed, request.depth, request.hops + 1, seed, (target,), forms)
        return (group,), (fingerprint(target, self._seed),) if form is None else ()

    # ---------------------------------------------------------------------------------------------- a page's

    def outlinks(
        self, request: Request, page: Read, head_leads: list[str], depth: int, refused: dict[str, int]
    ) -> Told:
        """Outlinks that the shards do not know yet as far as this process knows; one group or none.

        `head_leads`: where the response's head leads, relative to its URL whatever base the page names.
        """
        parsed = page.parsed
        hrefs = [] if parsed is None else parsed.hrefs
        if self._config.max_depth is not None and depth > self._config.max_depth:
            if hrefs or head_leads:
                refused["depth"] = len(hrefs) + len(head_leads)
            return (), ()
        before = dict(self._joiner.refused)
        joined: list[Link] = []
        if parsed is not None:
            hrefs = hrefs if not parsed.resources else [*hrefs, *parsed.resources]
            joined = self._joiner.join(_base(request.url, parsed), hrefs, codec(page.charset))
        if head_leads:
            of_head = self._joiner.join(CanonicalURL(request.url), head_leads)
            joined = list(dict.fromkeys([*joined, *of_head]))
        if self._joiner.refused != before:
            for why, count in self._joiner.refused.items():
                if count > before.get(why, 0):
                    refused[why] = count - before.get(why, 0)
        covers = self._sent.covers
        fresh = [link for link in self.scope.select(joined, refused) if not covers(link[1], depth)]
        if not fresh:
            return (), ()
        if len(fresh) > MAX_LINKS or sum(len(link[0]) for link in fresh) > MAX_LINK_CHARACTERS:
            fresh = _bounded(fresh, refused)
        urls = tuple(link[0] for link in fresh)
        group = LinkGroup(request.url, request.seed, depth, 0, 0, urls, None)
        return (group,), tuple(link[1] for link in fresh)

    def of_head(self, came: Exchange) -> list[str]:
        """Where the head of a response leads; mostly nowhere."""
        if came.header("Link") is None and came.header("Refresh") is None:
            return []
        return head_targets(came.values(b"link"), came.header("Refresh"), media=self._config.media)

    def found(self, came: Exchange, parsed: Parsed | None, page: Read) -> list[FoundLink]:
        """All links of a page and of its head for the lines of `links`, whether or not they are followed.

        `parsed`: None where the page's own do not count.
        """
        url = CanonicalURL(came.url)
        links: list[FoundLink] = []
        if parsed is not None:
            links = resolved(page.found, self._joiner, _base(url, parsed), codec(page.charset))
        if came.header("Link") is not None and came.status < 300:
            links += resolved(links_of_header(came.values(b"link")), self._joiner, url)
        return links

    # -------------------------------------------------------------------------------- a sitemap's, extractors'

    def listed(self, request: Request, listed: Sitemap | None, depth: int, refused: dict[str, int]) -> Told:
        """What of a sitemap becomes requests."""
        if listed is None or not listed.entries:
            return (), ()
        if listed.kind == "index":
            return listing.sitemaps(
                listed.entries, request, scope=self.scope, resolve=self._resolved, refused=refused
            ), ()
        if self._config.max_depth is not None and depth > self._config.max_depth:
            refused["depth"] = len(listed.entries)
            return (), ()
        return listing.pages(
            listed.entries,
            request,
            scope=self.scope,
            resolve=self._resolved,
            seed=self._seed,
            covers=self._sent.covers,
            refused=refused,
        )

    def _resolved(self, text: str, base: CanonicalURL) -> CanonicalURL:
        """A link as this crawl knows it; raises BadURL."""
        return canonical(
            text, base, max_length=self._config.max_url_length, normalizer=self._normalizer or None
        )

    def followed(
        self,
        request: Request,
        extracted: Extracted,
        links: tuple[LinkGroup, ...],
        depth: int,
        refused: dict[str, int],
    ) -> tuple[LinkGroup, ...]:
        """What extractors want to be followed, in a group of its own, and then the page's `links`."""
        if not extracted.follows:
            return links
        if self._config.max_depth is not None and depth > self._config.max_depth:
            refused["depth"] = refused.get("depth", 0) + len(extracted.follows)
            return links
        group = follow_group(request, extracted.follows, depth, self.scope, self._seed, refused)
        # First, so that a URL that is both is known with what its extractor gave it.
        return links if group is None else (group, *_without(links, group))


def _base(url: str, parsed: Parsed) -> CanonicalURL:
    """What the hrefs of a page are relative to."""
    if parsed.base_href is not None:
        try:
            return canonical(parsed.base_href, url, max_length=65_536)
        except BadURL:
            pass
    return CanonicalURL(url)


def _without(links: tuple[LinkGroup, ...], other: LinkGroup) -> tuple[LinkGroup, ...]:
    """Plain links but for those that are in the other group, too, as the same request."""
    known = {
        url
        for url, form in zip(other.urls, other.forms or (), strict=True)
        if form is None or (form.method == "GET" and form.body is None and form.serial is None)
    }
    if not any(url in known for group in links for url in group.urls):
        return links
    left = [group._replace(urls=tuple(url for url in group.urls if url not in known)) for group in links]
    return tuple(group for group in left if group.urls)


def _bounded(links: list[Link], refused: dict[str, int]) -> list[Link]:
    """The first links, as many as a message may hold; the others are counted."""
    room, count = MAX_LINK_CHARACTERS, 0
    for url, _ in links[:MAX_LINKS]:
        room -= len(url)
        if room < 0:
            break
        count += 1
    refused["too_many"] = len(links) - count
    return links[:count]
