"""From what came over the wire to what is told of it: the path of a page in a worker, one step after another.

    payload -> digest -> inflate -> charset -> parse -> outlinks: joined, in scope, not sent lately -> WARC records

Each page is touched once. What is skipped is what is saved: no parse for what is not HTML; for a payload that was
parsed lately, its raw hrefs are joined again with this page's address; no link sent that was acknowledged lately.
Links of error pages (400 and above) are not followed: they are the site's furniture. No I/O and no clock.

It decides what a response came to and what of it is stored; what it leads to, worker/leads.py finds. Read next:
worker/reading.py (payload to parsed), worker/leads.py, worker/outgoing.py (what goes out with a request).
"""

from __future__ import annotations

from collections.abc import Mapping

from common import warc
from common.config import CrawlConfig
from common.identity import record_ids
from common.messages import Facts, File, Flag, LinkGroup, Request, Resume
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL
from worker import cookies, download, outgoing
from worker.directives import robots_header
from worker.download import Download, matches
from worker.exchange import Exchange, Failure
from worker.extracted import Extracted
from worker.inflate import inflate
from worker.leads import Leads
from worker.linkgraph import FoundLink, link_items, text_item
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

MAX_HEAD_BYTES = 1 << 18
"""Of a response's head that travel beside its record."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds; what a Retry-After may ask for at most. How much of it is obeyed is for the shard."""


class PageMaker:
    """Makes reports for one crawl. `sent` belongs to the agent."""

    def __init__(self, config: CrawlConfig, scope: Scope, sent: SentLinks, seed: int) -> None:
        self._config = config
        self.leads = Leads(config, scope, sent, seed)
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
            depth, target = request.depth, self.leads.target(request.url, verdict.location)
            form = self.leads.form_of_target(request, target, status)
            again = target == request.url and outgoing.method_of(form) == outgoing.method_of(request.form)
            if target is None:
                reason = "bad_location"
            elif again:
                reason = "self"
            elif request.hops >= MAX_HOPS:
                outcome, reason = Outcome.TOO_MANY_REDIRECTS, "redirects"
                error = f"{MAX_HOPS} redirects led here, and this is another one"
            else:
                links, fingerprints = self.leads.hop(request, target, form, refused)
        elif is_sitemap:
            if 200 <= status < 300:
                links, fingerprints = self.leads.listed(request, page.listed, depth, refused)
                reason, error = _of_sitemap(page.listed, reason, error)
        elif status < 400 and not self._config.no_follow and not nofollow:
            head_leads = self.leads.of_head(came)
            if page.parsed is not None or head_leads:
                links, fingerprints = self.leads.outlinks(request, page, head_leads, depth, refused)
            if page.in_part:
                reason = reason or "parsed_in_part"
        items: tuple[tuple[str, bytes], ...] = ()
        if extracted is not None:
            links = self.leads.followed(request, extracted, links, depth, refused)
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

    def _directives(self, parsed: Parsed | None, came: Exchange) -> tuple[bool, bool]:
        """(noindex, nofollow) of the page, from its meta elements and X-Robots-Tag."""
        noindex, nofollow = (False, False) if parsed is None else (parsed.noindex, parsed.nofollow)
        if came.header("X-Robots-Tag") is not None:
            by_header = robots_header(came.values(b"x-robots-tag"), self._token)
            noindex, nofollow = noindex or by_header[0], nofollow or by_header[1]
        return noindex, nofollow and self._config.obey_robots

    def _lines(self, page: Read, came: Exchange, facts: Facts) -> list[tuple[str, bytes]]:
        """A page's lines of `text` and `links`, as items."""
        url, fetched_at = CanonicalURL(came.url), warc.warc_date(came.started_at)
        lines: list[tuple[str, bytes]] = []
        moved = facts.redirect_to
        parsed = page.parsed if 200 <= came.status < 300 and moved is None else None
        if self._stores_text and parsed is not None and parsed.reading is not None:
            title, language = parsed.title, parsed.language
            lines.append(text_item(url, fetched_at, title, facts.charset, language, parsed.reading))
        if self._stores_links:
            links = [] if moved is None else [FoundLink(moved, "redirect", None, None)]
            links += self.leads.found(came, parsed, page)
            lines += link_items(url, fetched_at, links)
        return lines

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


def _word(text: str | None, most: int = 255) -> str | None:
    """A header's text as messages take it: bounded, valid UTF-8; None when empty."""
    if not text:
        return None
    return text[:most].encode("utf-8", "replace").decode()
