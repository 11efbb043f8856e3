"""Results: what workers report, and what follows from it. Pages, pieces, links of other shards' pages, robots.txt.

Of downloads downloads.py keeps what comes, of robots.txt robots.py.

A result counts only for a lease that is held and a request that is open in it (rule 11). Then the try is judged by
policy.py: the request ends, or waits to be tried again; its host learns from it; its outlinks are admitted; and all of
that is one commit. No I/O, no clock.
"""

from __future__ import annotations

import re
from dataclasses import replace

from common import messages as m
from common.messages import Flag, Request
from common.outcome import OUTCOMES, Outcome, State
from common.url import CanonicalURL, authority, has_canonical_shape, host_key, slot
from coordinator import policy
from coordinator.admission import Admission, is_sitemap
from coordinator.depths import NEAR_DUPLICATE, leads_on, was_followed
from coordinator.downloads import LATER, Downloads
from coordinator.fleet import WorkerSession
from coordinator.hostqueue import ELAPSED_KEPT, Host
from coordinator.leases import OpenLease
from coordinator.ledger import GAVE_A_PAGE
from coordinator.lending import Lending
from coordinator.neardup import NearDuplicates
from coordinator.outputs import Chunk
from coordinator.recent import Recent
from coordinator.robots import GOOD, VERDICTS, known_robots, robots_answered, robots_killed
from coordinator.rounds import compare, last_end
from coordinator.state import ShardState, piece_key
from coordinator.steps import DropPieces, KeepPiece
from coordinator.store.rows import CHARGED

ROBOTS_VERDICT = "robots"
"""`reason` of a page that was not fetched because of what is known of its robots.txt; never tried again."""

MOST_BYTES = 1 << 40
"""Of a body that was asked for before a restart."""

RULES_KEPT = 64
"""Names of rules that refused links; they stand in a row that is written with every commit."""

RULE_NAME = re.compile(r"[a-z][a-z_-]{0,31}")

PAYLOAD_DIGEST = re.compile(r"[a-z0-9]{1,16}:[A-Za-z0-9+/=_-]{1,128}")

IP_ADDRESS = re.compile(r"[0-9a-fA-F.:]{2,45}(?:%[0-9A-Za-z_.-]{1,32})?")


def _sayable(page: m.Page) -> m.Page:
    """The page without what may not stand in the header of a WARC record: a worker is not trusted with that.

    Left out, not refused: a request whose every result is refused would be fetched for ever.
    """
    digest, ip = page.facts.digest, page.facts.ip
    bad_digest = digest is not None and PAYLOAD_DIGEST.fullmatch(digest) is None
    if not bad_digest and _is_address(ip):
        return page
    facts = page.facts._replace(digest=None if bad_digest else digest, ip=ip if _is_address(ip) else None)
    return replace(page, facts=facts)


def _is_address(ip: str | None) -> bool:
    return ip is None or IP_ADDRESS.fullmatch(ip) is not None


class Results:
    """Takes the data messages of workers."""

    def __init__(self, state: ShardState, admission: Admission, lending: Lending) -> None:
        self._state = state
        self._admission = admission
        self._lending = lending
        self._downloads = Downloads(state)
        self._near: NearDuplicates | None = None
        self.recent = Recent()
        self.configure()

    def configure(self) -> None:
        """The configuration is another one."""
        self._state.longest = max(self._state.longest, self._state.config.max_bytes)
        distance = self._state.config.near_duplicates
        self._near = None if distance is None else NearDuplicates(self._state.rows, distance)

    # ----------------------------------------------------------------------------------------------------- pages

    def page(self, session: WorkerSession, page: m.Page, body: bytes, now: float, wall: float) -> str | None:
        """Take a page; the code of the refusal, None: accepted (or accepted before), LATER: not known yet."""
        state = self._state
        if page.number in session.answers and session.answers[page.number] != "pieces":
            return session.answers[page.number]
        lease = state.leases.get(page.lease)
        if lease is None or lease.session != session.id or page.ordinal >= len(lease.requests):
            return "lease"
        if page.ordinal not in lease.open:
            return None
        page = _sayable(page)
        pieces: list[Chunk] = []
        host = state.frontier.host(lease.host, now, wall)
        if page.file is not None:
            page = self._downloads.told(page, body)
            if (refusal := self._downloads.ready(host, lease, page, body)) is not None:
                return refusal
        key = piece_key(page.session, page.lease, page.ordinal)
        if page.pieces and page.file is None:
            if not state.pieces.get(key, set()).issuperset(range(page.pieces)):
                return "pieces"
            pieces = [state.outputs.part(key, index) for index in range(page.pieces)]
        state.pieces.pop(key, None)
        lease.fetched(now, page.age)
        state.leases.close(lease, page.ordinal)
        session.lent_requests -= 1
        self._result(host, lease, page, body, pieces, now, wall)
        if pieces:
            state.after.append(DropPieces(key))
        if not lease.open:
            self._lending.end(lease, now, wall)
        return None

    def _result(
        self,
        host: Host,
        lease: OpenLease,
        page: m.Page,
        body: bytes,
        pieces: list[Chunk],
        now: float,
        wall: float,
    ) -> None:
        state, facts, request = self._state, page.facts, lease.requests[page.ordinal]
        outcome = OUTCOMES[facts.outcome] if facts.outcome < len(OUTCOMES) else Outcome.PROTOCOL
        state.ledger.counts.attempts += 1
        tried = outcome.state is not State.EXCLUDED and facts.reason != ROBOTS_VERDICT
        counted = tried and not self._downloads.got_further(page, outcome)
        attempts = request.attempts + counted
        decision = policy.STANDS
        if tried:
            decision = policy.decide(
                outcome,
                facts.status,
                page.retry_after,
                tries=max(1, attempts),
                retries=state.config.retries,
                failures=host.failures,
                reason=facts.reason,
            )
        self._learn(host, page, decision, outcome, now)
        if policy.asks_for_rest(outcome, facts.status) and host.lent_lanes > lease.lanes:
            for other in state.leases:
                if other.host == host.key and other is not lease and not other.recalled:
                    state.recall(other)
        self._take_cookies(host, lease, page)
        if facts.reason == ROBOTS_VERDICT and outcome is not Outcome.ROBOTS_DENIED:
            page = self._told_why(host, request, page)
        page = self._near_duplicate(host, request, page)
        if tried:
            self.recent.page(request, outcome, page.facts, wall, again=decision.retry_in is not None)
        for rule, count in page.refused:
            self._count_refused(rule, count)
        for group in page.links:
            self._admission.links(group, request, now, wall)
        tries = state.frontier.tries_of(host, request)
        if counted and (tries or outcome is not Outcome.OK):
            tries = (*tries, (outcome.code, wall))
        if self._falls_back(request, outcome):
            self._fall_back(request, now, wall)
        elif decision.retry_in is not None:
            again = request._replace(attempts=attempts)
            state.frontier.put_off(host, again, tries, wall + decision.retry_in, now)
            self._downloads.broke_off(host, request, page)
            return
        if request.flags & Flag.LINKS_ONLY:
            self._end_relink(host, request, outcome, body, now, wall)
            return
        limit = state.config.max_depth
        found = request.depth if limit is None else state.frontier.depth_found(host, request)
        self._end(host, request, outcome, page, body, pieces, tries, attempts, wall)
        followed = was_followed(page.facts.reason, is_file=page.file is not None)
        if followed and leads_on(outcome, request.depth, found, limit):
            state.frontier.relink(host, request._replace(depth=found), now)

    def _end(
        self,
        host: Host,
        request: Request,
        outcome: Outcome,
        page: m.Page,
        body: bytes,
        pieces: list[Chunk],
        tries: tuple[tuple[int, float], ...],
        attempts: int,
        wall: float,
    ) -> None:
        state = self._state
        host.finished += 1
        state.frontier.touch(host)  # its row counts the ends that are committed with it, no fewer
        if request.flags & Flag.SEED and outcome in GAVE_A_PAGE:
            state.ledger.counts.seeds_ok += 1
        earlier = last_end(state, host, request) if state.round else None
        if state.round and not is_sitemap(request):
            compare(state, outcome, page.facts.digest, earlier)
        file = None
        if page.file is not None and outcome is Outcome.OK:
            file = self._downloads.land(host, request, page, body)
        else:
            self._downloads.forget(host, request)
        state.ledger.end(
            (host.slot, state.frontier.key_of(request.url, request.form)),
            request,
            outcome,
            tries=tries,
            attempts=attempts,
            wall=wall,
            page=page,
            pieces=pieces,
            body=body,
            earlier=earlier,
            lines=not is_sitemap(request),
            file=file,
        )
        if outcome.code >= Outcome.TIMEOUT.code:
            reason = page.facts.reason
            state.note("request.failed", level="debug", url=request.url, outcome=outcome.value, reason=reason)

    def _end_relink(
        self, host: Host, request: Request, outcome: Outcome, body: bytes, now: float, wall: float
    ) -> None:
        """A visit for links is over: no second record, no line (rule 15). Found nearer still meanwhile: once more."""
        state = self._state
        found = state.frontier.depth_found(host, request)
        state.frontier.relinked(host, request)
        state.ledger.counts.relinked += 1
        if leads_on(outcome, request.depth, found, state.config.max_depth):
            state.frontier.relink(host, request._replace(depth=found), now)

    def _told_why(self, host: Host, request: Request, page: m.Page) -> m.Page:
        """A request that ends as its robots.txt did, for a reason of the host: with what is known of that reason."""
        row = known_robots(self._state, host, authority(CanonicalURL(request.url)))
        if row is None or row.verdict in GOOD:
            return page
        facts = page.facts._replace(
            reason=row.reason or page.facts.reason, error=page.facts.error or row.error
        )
        return replace(page, facts=facts)

    def _learn(
        self, host: Host, page: m.Page, decision: policy.Decision, outcome: Outcome, now: float
    ) -> None:
        """What a try says about its host."""
        facts = page.facts
        if facts.status is not None or decision.host_failed:
            delay = self._state.config.for_host(host.key).delay
            host.penalty = policy.penalty(host.penalty, outcome, facts.status, delay)
        if decision.host_failed:
            host.failures += 1
            host.rest_until = max(host.rest_until, now + decision.host_wait)
            self._state.frontier.touch(host)
            if host.failures >= policy.HOST_FAILURES and host.doom is None:
                host.doom = Outcome.HOST_UNREACHABLE.code
                host.doom_reason = f"{host.failures} failures in a row, the last: {outcome.value}"
                self._state.note("host.unreachable", level="warning", host=host.key, last=outcome.value)
        elif facts.status is not None:
            host.failures = 0
        if facts.elapsed_ms is not None and facts.status is not None:
            host.elapsed = (*host.elapsed, facts.elapsed_ms)[-ELAPSED_KEPT:]
        self._lending.learn_address(host, facts.ip, now)

    def _take_cookies(self, host: Host, lease: OpenLease, page: m.Page) -> None:
        """The host's cookies after this page, unless a later page of the lease has told them already."""
        if page.cookies is None or not self._state.config.cookies or page.number < lease.cookies_number:
            return
        lease.cookies_number = page.number
        host.cookies = page.cookies
        self._state.frontier.touch(host)

    def _near_duplicate(self, host: Host, request: Request, page: m.Page) -> m.Page:
        """A page nearly equal to an earlier one of its host: told so, and its links are left."""
        facts = page.facts
        if self._near is None or facts.simhash is None or request.flags & Flag.LINKS_ONLY:
            return page
        like = self._near.seen(host.slot, host.key, facts.simhash, request.url)
        if like is None:
            return page
        # What an extractor asked for is no link: a list's next page is nearly the same, and wanted.
        asked_for = tuple(group for group in page.links if group.forms is not None)
        left = sum(len(group.urls) for group in page.links if group.forms is None)
        if facts.reason != "extract":  # that items were lost is what a person must hear
            facts = facts._replace(reason=NEAR_DUPLICATE, error=f"nearly the same as {like}"[:4096])
        return replace(
            page,
            facts=facts,
            links=asked_for,
            refused=(*page.refused, (NEAR_DUPLICATE, left))[:64] if left else page.refused,
        )

    def _count_refused(self, rule: str, count: int) -> None:
        """Links that a worker did not send. The rule's name is the worker's, is kept and shown: so it is a word, and
        there are not many."""
        counts = self._state.ledger.counts.refused
        known = rule in counts or (len(counts) < RULES_KEPT and RULE_NAME.fullmatch(rule) is not None)
        counts[rule if known else "other"] += count

    def _falls_back(self, request: Request, outcome: Outcome) -> bool:
        """Whether a bare host gave no https at all: refused, no TLS or no answer. (What a page did says less.)"""
        return (
            bool(request.flags & Flag.BARE)
            and request.url.startswith("https:")
            and outcome in policy.NO_HTTPS
        )

    def _fall_back(self, request: Request, now: float, wall: float) -> None:
        """A bare host refused https: its http address is the seed now. A person asked once, and no budget is charged
        twice (rule 16)."""
        url = "http:" + request.url.removeprefix("https:")
        flags = int(Flag.SEED) | request.flags & CHARGED
        self._admission.admit(request._replace(url=url, attempts=0, flags=flags), now, wall)

    def file_piece(
        self, session: WorkerSession, piece: m.FilePiece, body: bytes, now: float, wall: float
    ) -> str | None:
        """Keep a piece of a download."""
        lease = self._state.leases.get(piece.lease)
        if lease is None or lease.session != session.id:
            return "lease"
        if piece.ordinal not in lease.open:
            return None
        host = self._state.frontier.host(lease.host, now, wall)
        return self._downloads.piece(lease, host, piece, body, now)

    def hashed(self, of: bytes, number: int, digest: str | None, now: float, wall: float) -> str | None:
        """The digest of a download is known, for which its Page waited: as `page`."""
        waiting, session = self._downloads.hashed(of, number, digest), self._state.fleet.get(of)
        if waiting is None or session is None:
            return LATER
        page, body = waiting
        return "pieces" if digest is None else self.page(session, page, body, now, wall)

    def piece(self, session: WorkerSession, piece: m.Piece, body: bytes, now: float) -> str | None:
        """Keep a piece of a big body until its page comes."""
        state = self._state
        lease = state.leases.get(piece.lease)
        if lease is None or lease.session != session.id:
            return "lease"
        if piece.ordinal not in lease.open:
            return None
        # What was fetched under a larger --max-bytes is taken; of before a restart, nobody knows how large it was.
        longest = MOST_BYTES if m.lease_epoch(lease.id) < state.epoch else state.longest
        if len(body) != m.PIECE_BYTES or piece.index > longest // m.PIECE_BYTES + 2:
            return "piece"
        lease.progress_at = now
        key = piece_key(piece.session, piece.lease, piece.ordinal)
        state.pieces.setdefault(key, set()).add(piece.index)
        state.now.append(KeepPiece(key, piece.index, body))
        state.kept_bytes += len(body)
        return None

    def links(self, links: m.Links, now: float, wall: float) -> str | None:
        """Outlinks whose page is another shard's, or more than ride in a page."""
        state = self._state
        if state.closed:
            return "closed"
        for group in links.groups:
            for url in group.urls:
                if has_canonical_shape(url) and state.slots[slot(host_key(CanonicalURL(url)))] != state.index:
                    return "slot"
        for group in links.groups:
            self._admission.links(group, None, now, wall)
        return None

    # ---------------------------------------------------------------------------------------------------- poison

    def died(self, lease: OpenLease, ordinal: int, now: float, wall: float) -> None:
        """A process died while it was parsing this request (rule 24): alone the next time, set aside at the third."""
        state = self._state
        if ordinal == m.ROBOTS_ORDINAL:
            robots_killed(state, state.frontier.host(lease.host, now, wall), lease, wall)
            return
        if ordinal not in lease.open:
            return
        state.leases.close(lease, ordinal)
        key = piece_key(lease.session, lease.id, ordinal)
        if state.pieces.pop(key, None) is not None:
            state.after.append(DropPieces(key))
        holder = state.fleet.get(lease.session)
        if holder is not None:
            holder.lent_requests -= 1
        request = lease.requests[ordinal]
        host = state.frontier.host(lease.host, now, wall)
        tries = (*state.frontier.tries_of(host, request), (Outcome.POISON.code, wall))
        deaths = sum(code == Outcome.POISON.code for code, _ in tries)
        state.ledger.counts.attempts += 1
        attempts = request.attempts + 1
        state.note("request.suspect", level="warning", url=request.url, deaths=deaths)
        if deaths < policy.POISON_DEATHS:
            again = request._replace(flags=request.flags | Flag.ALONE, attempts=attempts)
            state.frontier.put_off(host, again, tries, wall, now)
            self._downloads.broke_off(host, request, None)
            return
        if request.flags & Flag.LINKS_ONLY:
            state.frontier.relinked(host, request)
            return
        self._downloads.forget(host, request)
        host.finished += 1
        state.frontier.touch(host)
        if state.round and not is_sitemap(request):
            compare(state, Outcome.POISON, None, last_end(state, host, request))
        state.ledger.end(
            (host.slot, state.frontier.key_of(request.url, request.form)),
            request,
            Outcome.POISON,
            tries=tries,
            attempts=attempts,
            wall=wall,
            reason="poison",
            error=f"{deaths} worker processes died or hung while they read this page",
            lines=not is_sitemap(request),
        )

    # ---------------------------------------------------------------------------------------------------- robots

    def robots(
        self, session: WorkerSession, robots: m.Robots, body: bytes, now: float, wall: float
    ) -> str | None:
        """Take the robots.txt of an authority, or why there is none (rule 19)."""
        state = self._state
        if robots.number in session.answers:
            return session.answers[robots.number]
        lease = state.leases.get(robots.lease)
        if lease is None or lease.session != session.id:
            return "lease"
        place = robots.authority + "/"
        if robots.verdict not in VERDICTS or not _is_address(robots.ip):
            return "robots"
        if not has_canonical_shape(place) or host_key(CanonicalURL(place)) != lease.host:
            return "robots"  # a worker speaks of the host that it was lent, of no other
        lease.fetched(now, robots.age)
        host = state.frontier.host(lease.host, now, wall)
        self._lending.learn_address(host, robots.ip, now)
        row = robots_answered(state, host, lease, robots, now, wall)
        if row is None:
            return None
        self.recent.robots(robots, wall, again=row.verdict == "retry")
        if body:
            state.ledger.store_records((body,), wall)
        if robots.verdict in GOOD:
            example = lease.requests[0] if lease.requests else None
            self._admission.sitemaps(robots.sitemaps, robots.authority, example, now, wall)
            self._lending.robots_known(lease, host, now, wall)
        state.note(
            "robots.known",
            level="debug",
            authority=robots.authority,
            verdict=row.verdict,
            status=robots.status,
        )
        return None
