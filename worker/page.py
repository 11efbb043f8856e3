"""From what came over the wire to what is told of it: the path of a page in a worker, one step after another.

    payload -> digest -> inflate -> charset -> parse -> outlinks: joined, in scope, not sent lately -> WARC records

Each page is touched once. What is skipped is what is saved: no parse for what is not HTML; for a payload that was
parsed lately, its raw hrefs are joined again with this page's address; no link sent that was acknowledged lately.
Links of error pages (400 and above) are not followed: they are the site's furniture. No I/O and no clock.

Of a sitemap worker/listing.py says what becomes requests. Read next: worker/reading.py (payload to parsed),
worker/outgoing.py (what goes out with a request).
"""

from __future__ import annotations

from collections.abc import Mapping

from common import warc
from common.config import CrawlConfig
from common.errors import BadURL
from common.identity import record_ids
from common.messages import DOWNLOAD, HEAD, Facts, File, Flag, Form, LinkGroup, Request, Resume
from common.normalization import Normalizer
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, Link, LinkJoiner, canonical, fingerprint, host_key
from worker import cookies, download, listing, outgoing
from worker.charset import codec
from worker.directives import robots_header
from worker.download import Download, matches
from worker.exchange import Exchange, Failure
from worker.extracted import Extracted
from worker.extractfollow import follow_group
from worker.hrefs import head_targets, location_of
from worker.inflate import inflate
from worker.linkgraph import FoundLink, link_items, links_of_header, resolved, text_item
from worker.outcome import ContentType, content_type, judge, retry_after
from worker.parse import Parsed
from worker.probe import may_be_our_network
from worker.reading import Read, Reader, read_sitemap
from worker.sent import SentLinks
from worker.sitemap import Sitemap
from worker.steps import Report

MAX_HOPS = 10
"""Redirects one after another; the next one is TOO_MANY_REDIRECTS."""

MAX_DEPTH = 65_535
"""As deep as a message can say; what is deeper counts as that."""

JOINER_ENTRIES = 65_536
"""Joined hrefs remembered, about 0.5 KB each."""

MAX_LINKS = 100_000
"""Outlinks taken from one page; a page of links for people has some thousands, a trap has no end."""

MAX_LINK_CHARACTERS = 4 << 20
"""And their characters together: they travel in one message."""

MAX_HEAD_BYTES = 1 << 18
"""Of a response's head that travel beside its record."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds; what a Retry-After may ask for at most. How much of it is obeyed is for the shard."""


class PageMaker:
    """Makes reports for one crawl. `scope` may be replaced when it grows; `sent` belongs to the agent."""

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
        self._record_id = record_ids()
        self._reader = Reader(config)
        self.max_bytes = config.max_bytes
        self._stores = "warc" in config.store
        self._stores_text, self._stores_links = "text" in config.store, "links" in config.store
        self._token = config.robots_token

    # ------------------------------------------------------------------------------------------ before a fetch

    def headers_for(
        self, request: Request, jar: bytes | None, now: float, resume: Resume | None = None
    ) -> Mapping[str, str] | None:
        """Headers beyond the usual. `jar`: the host's cookies, of which those that fit go along; `resume`: what is
        kept of a download."""
        given = outgoing.headers_for(self._config, request, jar, now)
        if resume is None and not outgoing.is_download(request):
            return given
        return download.headers(request, resume) | dict(given or {})

    def accept_body(self, status: int, headers: Mapping[str, str]) -> bool:
        """Asked when the head of a response is there: whether its body is wanted (`--accept`, `--reject`)."""
        if not (self._config.accept or self._config.reject) or not 200 <= status < 300:
            return True
        return self._wanted(content_type(headers.get("Content-Type")).media_type or "")

    def _wanted(self, kind: str) -> bool:
        config = self._config
        if config.accept and not matches(kind, config.accept):
            return False
        return not matches(kind, config.reject)

    # ------------------------------------------------------------------------------------------- after a fetch

    def report(
        self,
        request: Request,
        came: Exchange,
        jar: bytes | None = None,
        read: Read | None = None,
        extracted: Extracted | None = None,
    ) -> Report:
        """What a response came to; the exchange's payload is let go of.

        `jar`: the cookies the host had. `read`: a sitemap that `read_sitemap` has read elsewhere. `extracted`: what
        extractors made of it.
        """
        status, payload = came.status, came.payload
        kind = content_type(came.header("Content-Type"))
        kept = self._cookies(request, came, jar)
        if came.rejected:
            return Report(_rejected(came, kind.media_type), cookies=kept)
        if came.file is not None:
            return self._file(came, came.file, kind, kept)
        digest = warc.digest_text(warc.payload_digest(payload))
        is_sitemap = outgoing.is_sitemap(request)
        page = (read or read_sitemap(came)) if is_sitemap else self._reader.page(came, kind, digest)
        verdict = judge(
            status,
            location=came.header("Location"),
            truncated=came.truncated,
            inflated_too_large=page.too_large,
            inflate_error=page.error,
        )
        outcome, reason, error = verdict.outcome, verdict.reason, page.error
        links: tuple[LinkGroup, ...] = ()
        fingerprints: tuple[bytes, ...] = ()
        refused: dict[str, int] = {}
        depth, target = min(request.depth + 1, MAX_DEPTH), None
        noindex = nofollow = again = False
        if page.parsed is not None or came.header("X-Robots-Tag") is not None:
            noindex, nofollow = self._directives(page.parsed, came)
        if verdict.location is not None:
            depth, target = request.depth, self._target(request.url, verdict.location)
            form = self._form_of_target(request, target, status)
            again = target == request.url and outgoing.method_of(form) == outgoing.method_of(request.form)
            if target is None:
                reason = "bad_location"
            elif again:
                reason = "self"
            elif request.hops >= MAX_HOPS:
                outcome, reason = Outcome.TOO_MANY_REDIRECTS, "redirects"
                error = f"{MAX_HOPS} redirects led here, and this is another one"
            else:
                links, fingerprints = self._hop(request, target, form, refused)
        elif is_sitemap:
            if 200 <= status < 300:
                links, fingerprints = self._listed(request, page.listed, depth, refused)
                reason, error = _of_sitemap(page.listed, reason, error)
        elif status < 400 and not self._config.no_follow and not nofollow:
            head_leads = _head_leads(came, media=self._config.media)
            if page.parsed is not None or head_leads:
                links, fingerprints = self._outlinks(request, page, head_leads, depth, refused)
            if page.in_part:
                reason = reason or "parsed_in_part"
        items: tuple[tuple[str, bytes], ...] = ()
        if extracted is not None:
            asked_for = self._followed(request, extracted, depth, refused)
            # First, so that a URL that is both is known with what its extractor gave it.
            links = (*asked_for, *_without(links, asked_for))
            if extracted.error is not None:
                reason, error = "extract", extracted.error
            if not request.flags & Flag.LINKS_ONLY:
                items = tuple(extracted.items)
        facts = Facts(
            outcome=outcome.code,
            status=status,
            reason=reason,
            error=_word(error, 4096),
            redirect_to=target,
            content_type=_word(kind.media_type),
            charset=_word(page.charset),
            length=page.length,
            wire_length=len(payload),
            digest=digest,
            title=None if page.parsed is None else page.parsed.title,
            noindex=noindex,
            etag=_word(came.header("ETag"), 4096),
            last_modified=_word(came.header("Last-Modified")),
            fetched_at=came.started_at,
            elapsed_ms=int(came.elapsed * 1000),
            ip=came.ip,
            truncated=came.truncated or ("length" if page.too_large else None),
            simhash=page.simhash,
        )
        head = asked = answered = b""
        if not request.flags & Flag.LINKS_ONLY:
            head = warc.response_head(came.http_version, status, came.reason, came.raw_headers)
            if self._stores:
                asked, answered = self._records(request.url, came, head, digest, kind)
            if (self._stores_text or self._stores_links) and status < 400 and not is_sitemap:
                items = (*items, *self._lines(page, came, facts))
        came.release()
        return Report(
            facts,
            links,
            fingerprints,
            depth,
            tuple(refused.items()),
            self.retry_after(came),
            head
            if len(head) <= MAX_HEAD_BYTES
            else head[: head.rindex(b"\r\n", 0, MAX_HEAD_BYTES - 4)] + b"\r\n\r\n",
            asked,
            answered,
            kept,
            again,
            items=items,
        )

    def _file(self, came: Exchange, file: Download, kind: ContentType, kept: bytes | None) -> Report:
        """What a download came to; its pieces have gone already."""
        outcome, reason, error = Outcome.OK, None, None
        if file.broken == "length" or came.truncated == "length":
            outcome, reason = Outcome.TOO_LARGE, "length"
        elif file.broken == "range":
            outcome, reason, error = (
                Outcome.TRUNCATED,
                "range",
                "the rest that was asked for is of another file",
            )
        elif file.broken is not None:
            outcome, reason, error = Outcome.TRUNCATED, "encoding", file.broken
        elif came.truncated is not None:
            outcome, reason = Outcome.TRUNCATED, came.truncated
        whole = outcome is Outcome.OK
        tail = file.tail if whole else b""
        came.release()
        return Report(
            Facts(
                outcome=outcome.code,
                status=came.status,
                reason=reason,
                error=_word(error, 4096),
                content_type=_word(kind.media_type),
                charset=_word(kind.charset),
                length=file.length,
                wire_length=file.wire_length,
                digest=file.digest if whole else None,
                etag=_word(came.header("ETag"), 4096),
                last_modified=_word(came.header("Last-Modified")),
                fetched_at=came.started_at,
                elapsed_ms=int(came.elapsed * 1000),
                ip=came.ip,
                truncated=came.truncated,
            ),
            retry_after=self.retry_after(came),
            cookies=kept,
            answered=tail,
            file=File(_word(file.name, 1024) or "", file.began, file.first),
            pieces=0 if file.broken is not None else file.pieces,
        )

    def redirect_target(self, url: str, came: Exchange) -> CanonicalURL | None:
        """Where a redirect leads, canonical; None when it is none, or leads to nothing that can be fetched."""
        location = judge(came.status, location=came.header("Location")).location
        return None if location is None else self._plain_target(url, location)

    def _plain_target(self, url: str, location: str) -> CanonicalURL | None:
        try:
            return canonical(location_of(location), url, max_length=self._config.max_url_length)
        except BadURL:
            return None

    def _target(self, url: str, location: str) -> CanonicalURL | None:
        target = self._plain_target(url, location)
        if target is None or not self._normalizer:
            return target
        return self._normalizer.redirected(CanonicalURL(url), target)

    def _form_of_target(self, request: Request, target: CanonicalURL | None, status: int) -> Form | None:
        if target is None:
            return None
        same_host = host_key(target) == host_key(CanonicalURL(request.url))
        usual = HEAD if self._config.head else None
        return outgoing.after_redirect(request.form, status, same_host=same_host, usual=usual)

    def _resolved(self, text: str, base: CanonicalURL) -> CanonicalURL:
        """A link as this crawl knows it; raises BadURL."""
        return canonical(
            text, base, max_length=self._config.max_url_length, normalizer=self._normalizer or None
        )

    def _cookies(self, request: Request, came: Exchange, jar: bytes | None) -> bytes | None:
        """The host's cookies after this response; None: as they were."""
        if not self._config.cookies or came.header("Set-Cookie") is None:
            return None
        lines = [value for name, value in came.raw_headers if name.lower() == b"set-cookie"]
        return cookies.remember(jar, CanonicalURL(request.url), lines, came.started_at + came.elapsed)

    def records(self, url: str, came: Exchange) -> list[bytes]:
        """The request and response record of an exchange that has no line in `pages`: robots.txt."""
        head = warc.response_head(came.http_version, came.status, came.reason, came.raw_headers)
        digest = warc.digest_text(warc.payload_digest(came.payload))
        if not self._stores or len(head) > MAX_HEAD_BYTES:
            return []
        return list(self._records(url, came, head, digest, content_type(came.header("Content-Type"))))

    def plain_body(self, came: Exchange, limit: int) -> bytes:
        """The body with its content-coding undone, at most `limit` bytes of it."""
        return inflate(came.payload, came.header("Content-Encoding"), limit).body

    # ------------------------------------------------------------------------------------------------- its steps

    def _listed(
        self, request: Request, listed: Sitemap | None, depth: int, refused: dict[str, int]
    ) -> tuple[tuple[LinkGroup, ...], tuple[bytes, ...]]:
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

    def _directives(self, parsed: Parsed | None, came: Exchange) -> tuple[bool, bool]:
        """(noindex, nofollow) of the page, from its meta elements and X-Robots-Tag."""
        noindex, nofollow = (False, False) if parsed is None else (parsed.noindex, parsed.nofollow)
        if came.header("X-Robots-Tag") is not None:
            by_header = robots_header(_values(came, b"x-robots-tag"), self._token)
            noindex, nofollow = noindex or by_header[0], nofollow or by_header[1]
        return noindex, nofollow and self._config.obey_robots

    def _lines(self, page: Read, came: Exchange, facts: Facts) -> list[tuple[str, bytes]]:
        """A page's lines of `text` and `links`, as items."""
        url, fetched_at = CanonicalURL(came.url), warc.warc_date(came.started_at)
        lines: list[tuple[str, bytes]] = []
        links: list[FoundLink] = []
        parsed = page.parsed if 200 <= came.status < 300 else None
        if facts.redirect_to is not None:
            links.append(FoundLink(facts.redirect_to, "redirect", None, None))
        elif parsed is not None:
            if self._stores_text and parsed.reading is not None:
                title, language = parsed.title, parsed.language
                lines.append(text_item(url, fetched_at, title, facts.charset, language, parsed.reading))
            if self._stores_links:
                links = resolved(page.found, self._joiner, _base(url, parsed), codec(page.charset))
        if self._stores_links:
            if came.header("Link") is not None and came.status < 300:
                links += resolved(links_of_header(_values(came, b"link")), self._joiner, url)
            lines += link_items(url, fetched_at, links)
        return lines

    def _outlinks(
        self,
        request: Request,
        page: Read,
        head_leads: list[str],
        depth: int,
        refused: dict[str, int],
    ) -> tuple[tuple[LinkGroup, ...], tuple[bytes, ...]]:
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

    def _followed(
        self, request: Request, extracted: Extracted, depth: int, refused: dict[str, int]
    ) -> tuple[LinkGroup, ...]:
        """What extractors want to be followed, in a group of its own; none where nothing is left of it."""
        if not extracted.follows:
            return ()
        if self._config.max_depth is not None and depth > self._config.max_depth:
            refused["depth"] = refused.get("depth", 0) + len(extracted.follows)
            return ()
        group = follow_group(request, extracted.follows, depth, self.scope, self._seed, refused)
        return () if group is None else (group,)

    def _hop(
        self, request: Request, target: CanonicalURL, form: Form | None, refused: dict[str, int]
    ) -> tuple[tuple[LinkGroup, ...], tuple[bytes, ...]]:
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

    def _records(
        self, url: str, came: Exchange, head: bytes, digest: str, kind: ContentType
    ) -> tuple[bytes, bytes]:
        """The WARC records of an exchange: (request, response)."""
        identity = self._record_id()
        answered = warc.response_record(
            record_id=identity,
            url=url,
            date=came.started_at,
            ip=came.ip,
            head=head,
            payload=came.payload,
            digest=digest,
            truncated=came.truncated,
            compressed=warc.compressed_already(kind.media_type, came.header("Content-Encoding")),
        )
        asked = warc.request_record(
            record_id=self._record_id(),
            url=url,
            date=came.started_at,
            ip=came.ip,
            head=came.request_head,
            concurrent_to=identity,
        )
        return asked, answered

    def retry_after(self, came: Exchange) -> float | None:
        """Seconds that a Retry-After asks for; None without one, or with one that says nothing."""
        seconds = retry_after(came.header("Retry-After"), came.started_at + came.elapsed)
        return None if seconds is None else min(seconds, MAX_RETRY_AFTER)


def failed_report(failure: Failure) -> Report:
    """What a fetch without a response came to."""
    return Report(
        Facts(
            outcome=failure.outcome.code,
            reason=_word(failure.reason),
            error=_word(failure.error, 4096),
            elapsed_ms=int(failure.elapsed * 1000),
            ip=failure.ip,
        ),
        network=may_be_our_network(failure),
    )


def _base(url: str, parsed: Parsed) -> CanonicalURL:
    """What the hrefs of a page are relative to."""
    if parsed.base_href is not None:
        try:
            return canonical(parsed.base_href, url, max_length=65_536)
        except BadURL:
            pass
    return CanonicalURL(url)


def _head_leads(came: Exchange, *, media: bool) -> list[str]:
    """Where the head of a response leads; mostly nowhere."""
    if came.header("Link") is None and came.header("Refresh") is None:
        return []
    return head_targets(_values(came, b"link"), came.header("Refresh"), media=media)


def _values(came: Exchange, name: bytes) -> list[str]:
    """All values of a header; `name` is lower case."""
    return [value.decode("latin-1") for each, value in came.raw_headers if each.lower() == name]


def _rejected(came: Exchange, media_type: str | None) -> Facts:
    """A body that was not wanted for its type; nothing of it is stored."""
    return Facts(
        outcome=Outcome.TYPE_REJECTED.code,
        status=came.status,
        reason="type",
        error=f"{_word(media_type)} is left out by --accept or --reject",
        content_type=_word(media_type),
        fetched_at=came.started_at,
        elapsed_ms=int(came.elapsed * 1000),
        ip=came.ip,
    )


def _of_sitemap(
    listed: Sitemap | None, reason: str | None, error: str | None
) -> tuple[str | None, str | None]:
    """(reason, error) of a sitemap that came; how its transfer ended goes before what was in it."""
    if listed is None:
        return reason or "not_a_sitemap", error
    if listed.error is not None:
        return reason or "broken_sitemap", error or listed.error
    return reason or ("truncated_sitemap" if listed.truncated else None), error


def _without(links: tuple[LinkGroup, ...], others: tuple[LinkGroup, ...]) -> tuple[LinkGroup, ...]:
    """Plain links but for those that are among the others, too, as the same request."""
    known = {
        url
        for group in others
        for url, form in zip(group.urls, group.forms or (), strict=True)
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


def _word(text: str | None, most: int = 255) -> str | None:
    """A header's text as messages take it: bounded, valid UTF-8; None when empty."""
    if not text:
        return None
    return text[:most].encode("utf-8", "replace").decode()
