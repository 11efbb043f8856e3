"""Admission: what becomes a request, and of what kind. Outlinks, seeds, sitemaps, visits again.

A URL that the scope, the depth or its own shape refuses is never admitted, and counted by rule. One that looks like a
trap is admitted and ended at once as TRAP, so that its line says which guard did that. In a round of recrawling a URL
that was fetched lately enough is left alone, and the others ask with what their last answer gave (ETag, Last-Modified).
No I/O, no clock.
"""

from __future__ import annotations

from common import messages as m
from common.configwire import config_to_wire
from common.messages import Flag, Form, Request
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, HostKey, authority, has_canonical_shape, host_key, slot
from common.wire import pack as pack_wire
from coordinator.explain import GET, plain_form
from coordinator.rounds import last_known
from coordinator.state import ShardState, session_id
from coordinator.steps import Seeded, Seeds
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    CHARGED,
    DoneRow,
    meta_row,
    pack,
    trap_row,
)
from coordinator.traps import refusal as trapped_by


class Admission:
    """Admits requests to one shard."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self.configure()

    def configure(self) -> None:
        """The configuration or the round is another one."""
        self.form = plain_form(self._state.config.head, self._state.round)
        """What a request found as a plain link is beyond a GET of round 0."""

    # ------------------------------------------------------------------------------------------------- what comes

    def seeds(self, seeds: Seeds, now: float, wall: float) -> None:
        """Requests from outside; they are in scope because they are seeds."""
        state = self._state
        state.closed = False
        fresh = tuple(self.admit(self._of_round(request), now, wall) for request in seeds.requests)
        if seeds.read_to is not None:
            state.rows.put(meta_row("known"), pack((state.round, seeds.read_to)))
        state.after.append(Seeded(seeds.number, fresh))

    def links(self, group: m.LinkGroup, parent: Request | None, now: float, wall: float) -> None:
        """Outlinks of a page, the entries of a sitemap, or the target of a redirect."""
        config, refused = self._state.config, self._state.ledger.counts.refused
        # What a redirect may widen needs a page whose lease was held; of other shards' pages this one knows nothing.
        hop = group.hops > 0 and (parent is not None or self._state.shards > 1)
        if config.max_depth is not None and group.depth > config.max_depth:
            refused["depth"] += len(group.urls)
            return
        from_seed = parent is None or bool(parent.flags & Flag.SEED)
        flags = int(Flag.SEED) if hop and group.flags & Flag.SEED and from_seed else 0
        for position, url in enumerate(group.urls):
            if not has_canonical_shape(url):
                refused["invalid"] += 1
                continue
            form = None if group.forms is None else group.forms[position]
            # A hop from what was asked for is followed wherever it leads; a sitemap may stand on any host.
            # So is where a download leads that somebody's code asked for: it ends on a server for files, mostly.
            asked = config.no_follow or (form is not None and form.method == m.DOWNLOAD)
            anywhere = (hop and asked) or (form is not None and form.method == m.SITEMAP)
            if flags and not anywhere:
                self._extend_scope(url)
            refusal = None if anywhere else self._state.scope.refusal(CanonicalURL(url))
            if refusal is not None:
                refused[refusal] += 1
                continue
            request = Request(
                url,
                group.depth,
                group.hops,
                0,
                flags,
                group.seed,
                group.referrer,
                self.form if form is None else form._replace(round=self._state.round),
                None if group.lastmods is None else group.lastmods[position],
            )
            self.admit(request, now, wall)

    def sitemaps(
        self, urls: tuple[str, ...], place: str, example: Request | None, now: float, wall: float
    ) -> None:
        """What the robots.txt of `place` names; `example`: a request of that authority."""
        if not self._state.config.sitemaps or self._state.config.no_follow or self._state.closed:
            return
        for url in urls:
            if not has_canonical_shape(url):
                self._state.ledger.counts.refused["invalid"] += 1
                continue
            form = Form(m.SITEMAP, (), None, None, self._state.round, 0, None)
            given = "" if example is None else example.seed
            self.admit(Request(url, 0, 0, 0, 0, given, f"{place}/robots.txt", form), now, wall)

    # -------------------------------------------------------------------------------------------------- one request

    def admit(self, request: Request, now: float, wall: float) -> bool:
        """Admit a request; whether it is new."""
        state = self._state
        if state.closed:
            raise AssertionError(f"{request.url} found while the shard is closed")
        if is_sitemap(request):
            # Before everything else, and no budget's business: it is no page.
            request = request._replace(flags=request.flags | CHARGED)
        known = False
        if state.round:
            earlier = last_known(state, slot(host_key(CanonicalURL(request.url))), request)
            if isinstance(earlier, Form | None):
                # A budget held it back in that round; it still waits, and is fetched once, as of that round.
                state.frontier.admit(request._replace(form=earlier), now, wall)
                return False
            if isinstance(earlier, DoneRow):
                if self._is_fresh(earlier):
                    state.ledger.counts.refused["fresh"] += 1
                    return False
                request = self._as_known(request, earlier)
                known = earlier.outcome is not Outcome.TRAP
        if not state.frontier.admit(request, now, wall):
            return False
        state.ledger.counts.admitted += 1
        # What was fetched in an earlier round is no trap: its shape would be counted once more with every round.
        if state.config.guards and not known and not is_sitemap(request) and not request.flags & Flag.SEED:
            rule = trapped_by(
                CanonicalURL(request.url), wall, _Counters(state.rows, host_key(CanonicalURL(request.url)))
            )
            if rule is not None:
                self._set_aside(request, rule, now, wall)
        return True

    def _of_round(self, request: Request) -> Request:
        number = self._state.round
        if not number:
            return request
        return request._replace(form=(request.form or self.form or GET)._replace(round=number))

    def _set_aside(self, request: Request, rule: str, now: float, wall: float) -> None:
        state = self._state
        host = state.frontier.host(host_key(CanonicalURL(request.url)), now, wall)
        if not state.frontier.withdraw(host, request, now):
            return
        host.finished += 1
        state.ledger.end(
            (host.slot, state.frontier.key_of(request.url, request.form)),
            request,
            Outcome.TRAP,
            tries=(),
            attempts=0,
            wall=wall,
            reason=rule,
        )

    # --------------------------------------------------------------------------------------------------- recrawls

    def _is_fresh(self, earlier: DoneRow) -> bool:
        """Whether it was fetched lately enough not to be fetched again."""
        since, fetched_at = self._state.fresh_since, earlier.facts.fetched_at
        return since is not None and fetched_at is not None and fetched_at > since

    def _as_known(self, request: Request, earlier: DoneRow) -> Request:
        """The request with what a conditional one needs."""
        facts, conditions = earlier.facts, []
        stored = earlier.warc is not None or earlier.file is not None
        if self._state.conditional and stored and facts.truncated is None:
            if facts.etag:
                conditions.append(("If-None-Match", facts.etag))
            if facts.last_modified:
                conditions.append(("If-Modified-Since", facts.last_modified))
        form = request.form
        return request._replace(
            form=None if form is None else form._replace(headers=(*form.headers, *conditions))
        )

    # ------------------------------------------------------------------------------------------------------- scope

    def _extend_scope(self, url: str) -> None:
        """A seed redirected: the host where it ends belongs to the crawl now, and that is said."""
        grown = self._state.scope.with_seed(CanonicalURL(url))
        if grown is self._state.scope:
            return
        self.set_scope(grown)
        self._state.note("scope.grown", by=url)
        self._state.say(f"a seed redirects to {authority(CanonicalURL(url))}: its host joins the scope")

    def set_scope(self, scope: Scope) -> None:
        """A new version of the terms: durable with the next commit, told to all workers then."""
        state = self._state
        state.scope = scope
        state.rows.put(meta_row("scope"), pack(scope.version))
        packed, config = pack_wire(scope.to_wire()), pack_wire(config_to_wire(state.config))
        for session in state.fleet:
            state.send_after(m.Terms(session_id(session.id), packed, scope.version, config))


class _Counters:
    """The counters of one host's guards against traps, kept in its rows."""

    __slots__ = ("_host", "_rows")

    def __init__(self, rows: Overlay, host: HostKey) -> None:
        self._rows = rows
        self._host = host

    def get(self, key: bytes, /) -> int:
        packed = self._rows.get(trap_row(slot(self._host), self._host, key))
        return 0 if packed is None else int.from_bytes(packed, "big")

    def add(self, key: bytes, /) -> None:
        row = trap_row(slot(self._host), self._host, key)
        packed = self._rows.get(row)
        self._rows.put(row, ((0 if packed is None else int.from_bytes(packed, "big")) + 1).to_bytes(4, "big"))


def is_sitemap(request: Request) -> bool:
    """Whether a request is for a sitemap: no line, no budget, and read for what it lists."""
    return request.form is not None and request.form.method == m.SITEMAP
