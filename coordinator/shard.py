"""A shard's core: what one slice of all hosts does with every event.

It composes the frontier (what may be lent), the leases (what is lent), the fleet (to whom) and the ledger (how it
ended), and it is pure: `handle(event, now, wall)` changes state and queues instructions, `seal()` takes what must be
made durable together, `committed()` says that it is, and only then do the instructions that rest on it leave
(PROTOCOL rule 2). Time is monotonic `now` for leases and politeness, `wall` for what is stored.

It does not know sockets, files or the crawl as a whole; server.py carries out its instructions, crawl.py decides
when everything has ended.

Invariants: a request is queued, lent or ended; a host's lanes are free or lent; a session's credit is never exceeded
by a new lease; nothing is admitted while `closed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from common import messages as m
from common.config import CrawlConfig
from common.messages import Flag, LeaseId, Phase, Request, SessionId, lease_epoch, lease_id
from common.outcome import OUTCOMES, Outcome, State
from common.scope import Scope
from common.url import CanonicalURL, authority, has_canonical_shape, host_key, slot
from common.wire import pack as pack_wire
from coordinator import policy
from coordinator.explain import explain
from coordinator.fleet import Fleet, WorkerSession
from coordinator.frontier import CHARGED, Frontier
from coordinator.hostqueue import ELAPSED_KEPT, Host
from coordinator.leases import Leases, OpenLease
from coordinator.ledger import GAVE_A_PAGE, Identifier, Ledger
from coordinator.outputs import Chunk, Outputs
from coordinator.steps import (
    Asked,
    Commit,
    DropPieces,
    Event,
    Instruction,
    KeepPiece,
    Note,
    Received,
    Say,
    Seeded,
    Seeds,
    Send,
    Steered,
    Tell,
    Tick,
)
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    LeaseRow,
    RobotsRow,
    as_request,
    is_done,
    lease_row,
    meta_row,
    output_row,
    pack,
    request_row,
    robots_row,
    unpack,
    unpack_request_row,
)

MAX_LEASE_BYTES = 1 << 20
"""URLs and referrers of one lease; far below what a header may hold."""

DRAINED_AT_ONCE = 500
"""Requests of a given-up host that are ended in one step, so that a step stays short."""

NO_HTTPS = frozenset((Outcome.REFUSED, Outcome.TLS, Outcome.ROBOTS_UNREACHABLE))
"""What the https address of a bare host may come to so that its http address is tried. Whoever could bring about one
of them between us and the host could bring about the others, so TLS protects no less than a refusal."""

ROBOTS_VERDICT = "robots"
"""`reason` of a page that was not fetched because of what is known of its robots.txt; never tried again."""

FORGET_AFTER = 10
"""A session without leases that was silent for so many T is forgotten."""


class Shard:
    """One shard. `part` makes a Chunk of the pieces kept under a key."""

    def __init__(
        self,
        rows: Overlay,
        outputs: Outputs,
        config: CrawlConfig,
        scope: Scope,
        *,
        crawl: bytes,
        seed: int,
        identifier: Identifier,
        now: float,
        wall: float,
        index: int = 0,
        slots: bytes = bytes(1024),
        shards: int = 1,
        phase: Phase = Phase.RUNNING,
    ) -> None:
        self._rows = rows
        self._outputs = outputs
        self._config = config
        self._ttl = config.tuning.lease_ttl
        self.scope = scope
        self._scope_packed = pack_wire(scope.to_wire())
        self._config_packed = pack_wire(config.to_wire())
        self._form = m.HEAD if config.head else None
        self._crawl = crawl
        self._seed = seed
        self.index = index
        self._slots = slots
        self._shards = shards
        self.phase = phase
        self.closed = False
        self._round = 0
        """Of the last Poll: a Close of another round is late."""
        self._cap_number = 0
        self.cap: int | None = None
        self.ledger = Ledger(rows, outputs, identifier)
        self.leases = Leases()
        self.fleet = Fleet()
        self._lease_counter = 0
        self._next_lend = now
        """--max-rate: when the next request may be lent."""
        self._pieces: dict[str, set[int]] = {}
        self._now_out: list[Instruction] = []
        self._after: list[Instruction] = []
        self._answers: dict[bytes, tuple[list[int], list[tuple[int, str]]]] = {}
        self._giving_up = False
        """A host that is given up has more queued than one step may end."""
        packed = rows.get(meta_row("epoch"))
        self.epoch = (0 if packed is None else unpack(packed)) + 1
        rows.put(meta_row("epoch"), pack(self.epoch))
        packed = rows.get(meta_row("frontier"))
        seq, turns = (0, (0, 0)) if packed is None else unpack(packed)
        self.frontier = Frontier(
            rows,
            seed=seed,
            host_policy=config.for_host,
            epoch=self.epoch,
            seq=seq,
            turns=turns,
        )
        self.frontier.host_limit = config.max_pages_per_host
        self._recover(now, wall)

    # --------------------------------------------------------------------------------------------------- entries

    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        """Take one event; what comes back may leave at once, the rest leaves with the next commit."""
        match event:
            case Received(message, body):
                self._receive(message, body, now, wall)
            case Seeds():
                self._seeds(event, now, wall)
            case Asked(message):
                self._asked(message, now)
            case Steered(phase):
                self.phase = phase
                self._greet_phase()
            case Tick():
                pass
        for lease in self.leases.expired(now):
            self._note("lease.expired", lease=m.lease_name(lease.id), host=lease.host, open=len(lease.open))
            self._end_lease(lease, now, wall, due=now + lease.delay)
            holder = self.fleet.get(lease.session)
            if holder is not None:
                # It is silent: with its credit it would be lent one lease after another, for ever.
                holder.lanes = holder.requests = 0
        self._lend(now, wall)
        out, self._now_out = self._now_out, []
        return out

    def next_wakeup(self) -> float | None:
        """When to send a Tick at the latest; None: only an event can change anything."""
        times = []
        if (deadline := self.leases.next_deadline()) is not None:
            times.append(deadline)
        if self._may_lend():
            due = self.frontier.next_due()
            if due is not None and self._giving_up:
                times.append(due)
            elif due is not None and self.fleet.with_credit():
                times.append(max(due, self._next_lend) if self._config.max_rate is not None else due)
        return min(times) if times else None

    @property
    def unsealed(self) -> bool:
        """Whether anything waits for a commit."""
        return (
            bool(self._after or self._answers)
            or self._rows.dirty
            or self._outputs.dirty
            or self.frontier.dirty
        )

    @property
    def unsealed_bytes(self) -> int:
        """Output bytes that wait for a commit."""
        return self._outputs.pending_bytes

    def seal(self, now: float, wall: float) -> Commit:
        """Take all that waits, as one commit; the shell makes it durable, then calls `committed`."""
        for session, (accepted, refused) in self._answers.items():
            self._after.append(Send(m.Answer(SessionId(session), tuple(accepted), tuple(refused)), data=True))
        self._answers = {}
        changed = self._rows.dirty or self._outputs.dirty or self.frontier.dirty
        if changed:
            self.frontier.flush(now, wall)
            self.ledger.flush()
            self._rows.put(meta_row("frontier"), pack((self.frontier.seq, self.frontier.turns)))
        batch = self._outputs.seal()
        for file, end in batch.ends.items():
            self._rows.put(output_row(file), pack(end))
        instructions, self._after = tuple(self._after), []
        return Commit(self._rows.seal(), batch, instructions)

    def committed(self, commit: Commit) -> Sequence[Instruction]:
        """The commit is durable: what rests on it may leave."""
        self._rows.committed()
        return commit.instructions

    # --------------------------------------------------------------------------------------------- after a restart

    def _recover(self, now: float, wall: float) -> None:
        """Open leases get a full T (rule 5), their lanes stay lent; hosts with work stand in line again."""
        start, stop = b"l", b"m"
        while entries := self._rows.scan(start, stop, limit=256):
            start = entries[-1][0] + b"\0"
            for key, packed in entries:
                self._reopen(LeaseId(int.from_bytes(key[1:], "big")), LeaseRow(*unpack(packed)), now, wall)
        for _ in self.frontier.recover(now, wall):
            pass
        cap = self._rows.get(meta_row("cap"))
        if cap is not None:
            self._cap_number, self.cap = unpack(cap)
        self._budget(now)

    def _reopen(self, lease_number: LeaseId, row: LeaseRow, now: float, wall: float) -> None:
        lease = OpenLease(
            lease_number,
            host=row.host,
            session=row.session,
            local=row.local,
            lanes=row.lanes,
            width=row.width,
            delay=row.delay,
            ttl=max(row.ttl, self._ttl),
            requests=tuple(as_request(request) for request in row.requests),
            now=now,
        )
        host = self.frontier.host(row.host, now, wall)
        for ordinal, request in enumerate(lease.requests):
            packed = self._rows.get(request_row(host.slot, self.frontier.key_of(request.url, request.form)))
            if packed is None or is_done(packed) or not self._still_lent(host, request, packed):
                lease.open.discard(ordinal)
        host.attach_lanes(lease.lanes)
        self.leases.add(lease)
        if not lease.open:
            self._end_lease(lease, now, wall, due=now + lease.delay)

    def _still_lent(self, host: Host, request: Request, packed: bytes) -> bool:
        """An open request of an open lease is lent, unless its failed try was put off for later."""
        return len(tries_in(packed)) == request.attempts

    def workers_gone(self, now: float, wall: float) -> int:
        """Every local process is known to be dead (the lock in DIR): their leases end. Returns how many."""
        gone = [lease for lease in self.leases if lease.local]
        for lease in gone:
            self._end_lease(lease, now, wall, due=now + lease.delay)
        return len(gone)

    # ------------------------------------------------------------------------------------------------ from workers

    def _receive(self, message: m.FromWorker, body: bytes, now: float, wall: float) -> None:
        if isinstance(message, m.Hello):
            self._hello(message, now, wall)
            return
        session = self.fleet.get(message.session)
        if session is None:
            if not isinstance(message, m.Goodbye):
                self._now_out.append(Send(m.HelloAgain(message.session)))
            return
        session.heard_at = now
        match message:
            case m.Heartbeat():
                self._heartbeat(session, message, now, wall)
            case m.Release():
                self._release(session, message, now, wall)
            case m.Goodbye():
                self._goodbye(session, message, now, wall)
            case m.Page():
                self._answer(session, message.number, self._page(session, message, body, now, wall))
            case m.Piece():
                self._answer(session, message.number, self._piece(session, message, body))
            case m.Links():
                self._answer(session, message.number, self._links(message, now, wall))
            case m.Robots():
                self._answer(session, message.number, self._robots(session, message, body, now, wall))

    def _hello(self, hello: m.Hello, now: float, wall: float) -> None:
        if hello.version != m.VERSION:
            reason = (
                f"the coordinator speaks protocol {m.VERSION}, this worker {hello.version}: "
                "install the same version of shoal on both"
            )
            self._now_out.append(Send(m.Denied(hello.session, hello.number, reason, True)))
            self._note("worker.denied", level="warning", host=hello.host, version=hello.version)
            return
        for dead in hello.replaces:
            self._bury(dead, now, wall)
        session = self.fleet.get(hello.session)
        if session is None:
            session = WorkerSession(
                hello.session, host=hello.host, pid=hello.pid, index=hello.index, local=hello.local, now=now
            )
            self.fleet.add(session)
            for lease in self.leases.of(hello.session):
                session.lent_lanes += lease.width
                session.lent_requests += len(lease.open)
            self._note("worker.joined", host=hello.host, pid=hello.pid, session=hello.session.hex()[:8])
        session.heard_at = now
        session.number = max(session.number, hello.number)
        self.leases.renew(hello.session, hello.leases, now)
        self._after.append(
            Send(
                m.Welcome(
                    session=hello.session,
                    number=hello.number,
                    version=m.VERSION,
                    crawl=self._crawl,
                    store=self.ledger.counts.commits,
                    shard=self.index,
                    shards=self._shards,
                    epoch=self.epoch,
                    ttl=self._ttl,
                    heartbeat=self._config.tuning.heartbeat,
                    slots=self._slots,
                    seed=self._seed,
                    config=self._config_packed,
                    scope=self._scope_packed,
                    scope_version=self.scope.version,
                )
            )
        )

    def _heartbeat(self, session: WorkerSession, beat: m.Heartbeat, now: float, wall: float) -> None:
        if beat.number > session.number:
            session.number = beat.number
            session.lanes, session.requests = beat.lanes, beat.requests
            session.in_flight, session.held_bytes = beat.in_flight, beat.held_bytes
            session.fetched, session.lag_ms = beat.fetched, beat.lag_ms
        unknown = self.leases.renew(session.id, beat.leases, now)
        if beat.epoch == self.epoch:
            listed = set(beat.leases)
            if session.epoch_seen != self.epoch:
                session.epoch_seen = self.epoch
                for lease in self.leases.of(session.id):
                    if lease.id not in listed and lease_epoch(lease.id) < self.epoch:
                        self._end_lease(lease, now, wall, due=now + lease.delay)
        self._now_out.append(self._alive(session, beat.number, unknown=tuple(unknown)))

    def _release(self, session: WorkerSession, release: m.Release, now: float, wall: float) -> None:
        session.number = max(session.number, release.number)
        lease = self.leases.get(release.lease)
        if lease is not None and lease.session == session.id:
            lease.fetched(now, release.age)
            self._end_lease(lease, now, wall)
        self._after.append(self._alive(session, release.number, released=(release.lease,)))

    def _goodbye(self, session: WorkerSession, goodbye: m.Goodbye, now: float, wall: float) -> None:
        ages = dict(goodbye.ages)
        for lease in self.leases.of(session.id):
            if lease.id in ages:
                lease.fetched(now, ages[lease.id])
                self._end_lease(lease, now, wall)
            else:
                self._end_lease(lease, now, wall, due=now + lease.delay)
        self.fleet.remove(session.id)
        self._note("worker.left", host=session.host, pid=session.pid, session=session.id.hex()[:8])

    def _bury(self, dead: SessionId, now: float, wall: float) -> None:
        """Its supervisor saw the process die: no waiting for T (rule 12)."""
        for lease in self.leases.of(dead):
            self._end_lease(lease, now, wall, due=now + lease.delay)
        session = self.fleet.get(dead)
        if session is not None:
            self.fleet.remove(dead)
            self._note("worker.died", level="warning", host=session.host, pid=session.pid)

    def _alive(
        self,
        session: WorkerSession,
        number: int,
        *,
        unknown: tuple[LeaseId, ...] = (),
        released: tuple[LeaseId, ...] = (),
    ) -> Send:
        """The answer to message `number`; 0: to none, which renews nothing."""
        return Send(
            m.Alive(
                SessionId(session.id), number, self.epoch, unknown, released, self.phase, self.scope.version
            )
        )

    def _answer(self, session: WorkerSession, number: int, refusal: str | None) -> None:
        session.answer(number, refusal)
        accepted, refused = self._answers.setdefault(session.id, ([], []))
        if refusal is None:
            accepted.append(number)
        else:
            refused.append((number, refusal))

    # ----------------------------------------------------------------------------------------------- their results

    def _page(self, session: WorkerSession, page: m.Page, body: bytes, now: float, wall: float) -> str | None:
        if page.number in session.answers and session.answers[page.number] != "pieces":
            return session.answers[page.number]
        lease = self.leases.get(page.lease)
        if lease is None or lease.session != session.id or page.ordinal >= len(lease.requests):
            return "lease"
        if page.ordinal not in lease.open:
            return None
        pieces: list[Chunk] = []
        key = piece_key(page.session, page.lease, page.ordinal)
        if page.pieces:
            if not self._pieces.get(key, set()).issuperset(range(page.pieces)):
                return "pieces"
            pieces = [self._outputs.part(key, index) for index in range(page.pieces)]
        self._pieces.pop(key, None)
        lease.fetched(now, page.age)
        self.leases.close(lease, page.ordinal)
        session.lent_requests -= 1
        host = self.frontier.host(lease.host, now, wall)
        self._result(host, lease, lease.requests[page.ordinal], page, body, pieces, now, wall)
        if page.pieces:
            self._after.append(DropPieces(key))
        if not lease.open:
            self._end_lease(lease, now, wall)
        return None

    def _result(
        self,
        host: Host,
        lease: OpenLease,
        request: Request,
        page: m.Page,
        body: bytes,
        pieces: list[Chunk],
        now: float,
        wall: float,
    ) -> None:
        facts = page.facts
        outcome = OUTCOMES[facts.outcome] if facts.outcome < len(OUTCOMES) else Outcome.PROTOCOL
        self.ledger.counts.attempts += 1
        tried = outcome.state is not State.EXCLUDED and facts.reason != ROBOTS_VERDICT
        attempts = request.attempts + tried
        decision = policy.STANDS
        if tried:
            decision = policy.decide(
                outcome,
                facts.status,
                page.retry_after,
                tries=attempts,
                retries=self._config.retries,
                failures=host.failures,
            )
        self._learn(host, facts, decision, outcome, now)
        for rule, count in page.refused:
            self.ledger.counts.refused[rule] += count
        for group in page.links:
            self._admit(group, request, now, wall)
        tries = self.frontier.tries_of(host, request)
        if tried and (tries or outcome is not Outcome.OK):
            tries = (*tries, (outcome.code, wall))
        if self._falls_back(request, outcome):
            self._fall_back(request, now, wall)
        elif decision.retry_in is not None:
            again = request._replace(attempts=attempts)
            self.frontier.put_off(host, again, tries, wall + decision.retry_in, now)
            return
        host.finished += 1
        self.frontier.touch(host)  # its row counts the ends that are committed with it, no fewer
        if request.flags & Flag.SEED and outcome in GAVE_A_PAGE:
            self.ledger.counts.seeds_ok += 1
        self.ledger.end(
            (host.slot, self.frontier.key_of(request.url, request.form)),
            request,
            outcome,
            tries=tries,
            attempts=attempts,
            wall=wall,
            page=page,
            pieces=pieces,
            body=body,
        )
        if outcome.code >= Outcome.TIMEOUT.code:
            self._note(
                "request.failed", level="debug", url=request.url, outcome=outcome.value, reason=facts.reason
            )

    def _learn(
        self, host: Host, facts: m.Facts, decision: policy.Decision, outcome: Outcome, now: float
    ) -> None:
        """What a try says about its host."""
        if decision.host_failed:
            host.failures += 1
            host.rest_until = max(host.rest_until, now + decision.host_wait)
            self.frontier.touch(host)
            if host.failures >= policy.HOST_FAILURES and host.doom is None:
                host.doom = Outcome.HOST_UNREACHABLE.code
                host.doom_reason = f"{host.failures} failures in a row, the last: {outcome.value}"
                self._note("host.unreachable", level="warning", host=host.key, last=outcome.value)
        elif facts.status is not None:
            host.failures = 0
        if facts.elapsed_ms is not None and facts.status is not None:
            host.elapsed = (*host.elapsed, facts.elapsed_ms)[-ELAPSED_KEPT:]

    def _falls_back(self, request: Request, outcome: Outcome) -> bool:
        """Whether a bare host gave no https at all: refused, no TLS or no answer. (What a page did says less.)"""
        return bool(request.flags & Flag.BARE) and request.url.startswith("https:") and outcome in NO_HTTPS

    def _fall_back(self, request: Request, now: float, wall: float) -> None:
        """A bare host refused https: its http address is the seed now."""
        url = "http:" + request.url.removeprefix("https:")
        self._admit_one(request._replace(url=url, attempts=0, flags=int(Flag.SEED)), now, wall)

    def _piece(self, session: WorkerSession, piece: m.Piece, body: bytes) -> str | None:
        lease = self.leases.get(piece.lease)
        if lease is None or lease.session != session.id:
            return "lease"
        if piece.ordinal not in lease.open:
            return None
        if len(body) != m.PIECE_BYTES or piece.index > self._config.max_bytes // m.PIECE_BYTES + 2:
            return "piece"
        key = piece_key(piece.session, piece.lease, piece.ordinal)
        self._pieces.setdefault(key, set()).add(piece.index)
        self._now_out.append(KeepPiece(key, piece.index, body))
        return None

    def _links(self, links: m.Links, now: float, wall: float) -> str | None:
        if self.closed:
            return "closed"
        for group in links.groups:
            for url in group.urls:
                if has_canonical_shape(url) and self._slots[slot(host_key(CanonicalURL(url)))] != self.index:
                    return "slot"
        for group in links.groups:
            self._admit(group, None, now, wall)
        return None

    def _robots(
        self, session: WorkerSession, robots: m.Robots, body: bytes, now: float, wall: float
    ) -> str | None:
        if robots.number in session.answers:
            return session.answers[robots.number]
        lease = self.leases.get(robots.lease)
        if lease is None or lease.session != session.id:
            return "lease"
        lease.fetched(now, robots.age)
        host = self.frontier.host(lease.host, now, wall)
        key = robots_row(host.slot, robots.authority)
        packed = self._rows.get(key)
        known = None if packed is None else RobotsRow(*unpack(packed))
        if known is not None and known.lease == lease.id:
            return None  # counted before a restart that forgot what was answered
        version = 1 if known is None else known.version + 1
        verdict, tries = robots.verdict, 0
        if verdict not in ("rules", "allow"):
            tries = (known.tries if known is not None else 0) + 1
            wait = self._robots_wait(verdict, tries)
            answered = verdict == Outcome.ROBOTS_UNREACHABLE and robots.status is not None
            bare = all(each.flags & Flag.BARE for each in lease.undone())
            if bare and verdict in NO_HTTPS and not answered:
                wait = None  # so that their http address is tried next, not after a minute or an hour
            if wait is not None:
                verdict = "retry"
                host.rest_until = max(host.rest_until, now + wait)
        text = robots.text if verdict == "rules" else None
        row = RobotsRow(version, verdict, text, wall, robots.crawl_delay, tries, lease.id)
        self._rows.put(key, pack(row))
        if robots.authority not in host.authorities:
            host.authorities = (*host.authorities, robots.authority)[-64:]
        if verdict in ("rules", "allow"):
            host.crawl_delay = max(self._crawl_delay(host, place) for place in host.authorities)
        self.frontier.touch(host)
        if body:
            self.ledger.store_records((body,), wall)
        self._note(
            "robots.known", level="debug", authority=robots.authority, verdict=verdict, status=robots.status
        )
        return None

    def _crawl_delay(self, host: Host, place: str) -> float:
        """What robots.txt of one of the host's authorities asks for; the host obeys the longest of them."""
        packed = self._rows.get(robots_row(host.slot, place))
        return 0.0 if packed is None else RobotsRow(*unpack(packed)).crawl_delay or 0.0

    def _robots_wait(self, verdict: str, tries: int) -> float | None:
        """Seconds until an unreachable robots.txt is tried again; None: that was the last try."""
        if verdict == Outcome.ROBOTS_UNREACHABLE:
            return policy.ROBOTS_WAITS[tries - 1] if tries <= len(policy.ROBOTS_WAITS) else None
        rule = policy.RULES.get(Outcome(verdict)) if verdict in OUTCOMES else None
        if rule is None or not rule.again or tries > self._config.retries:
            return None
        return float(policy.RETRY_DELAY * 3 ** (tries - 1))

    # --------------------------------------------------------------------------------------------------- admission

    def _admit(self, group: m.LinkGroup, parent: Request | None, now: float, wall: float) -> None:
        """Outlinks of a page, or the target of its redirect."""
        hop = group.hops > 0
        if self._config.max_depth is not None and group.depth > self._config.max_depth:
            self.ledger.counts.refused["depth"] += len(group.urls)
            return
        flags = int(Flag.SEED) if hop and group.flags & Flag.SEED and self._is_seed(parent) else 0
        anywhere = hop and self._config.no_follow
        for position, url in enumerate(group.urls):
            if not has_canonical_shape(url):
                self.ledger.counts.refused["invalid"] += 1
                continue
            request = Request(
                url,
                group.depth,
                group.hops,
                0,
                flags,
                group.seed,
                group.referrer,
                self._form if group.forms is None else group.forms[position],
            )
            if flags and not anywhere:
                self._extend_scope(url)
            if not anywhere:
                refusal = self.scope.refusal(CanonicalURL(url))
                if refusal is not None:
                    self.ledger.counts.refused[refusal] += 1
                    continue
            self._admit_one(request, now, wall)

    def _is_seed(self, parent: Request | None) -> bool:
        return parent is None or bool(parent.flags & Flag.SEED)

    def _admit_one(self, request: Request, now: float, wall: float) -> bool:
        if self.closed:
            raise AssertionError(f"{request.url} found while the shard is closed")
        fresh = self.frontier.admit(request, now, wall)
        self.ledger.counts.admitted += fresh
        return fresh

    def _seeds(self, seeds: Seeds, now: float, wall: float) -> None:
        self.closed = False
        fresh = tuple(self._admit_one(request, now, wall) for request in seeds.requests)
        self._after.append(Seeded(seeds.number, fresh))

    def _extend_scope(self, url: str) -> None:
        """A seed redirected: the host where it ends belongs to the crawl now, and that is said."""
        grown = self.scope.with_seed(CanonicalURL(url))
        if grown is self.scope:
            return
        self.set_scope(grown)
        self._note("scope.grown", by=url)
        self._now_out.append(
            Say(f"a seed redirects to {authority(CanonicalURL(url))}: its host joins the scope")
        )

    def set_scope(self, scope: Scope) -> None:
        """A new version of the scope: durable with the next commit, told to all workers then."""
        self.scope = scope
        packed = pack_wire(scope.to_wire())
        self._scope_packed = packed
        self._rows.put(meta_row("scope"), pack(scope.version))
        for session in self.fleet:
            self._after.append(Send(m.Rescope(SessionId(session.id), packed, scope.version)))

    # ----------------------------------------------------------------------------------------------------- lending

    def _may_lend(self) -> bool:
        return self.phase is Phase.RUNNING and not self.closed

    def _lend(self, now: float, wall: float) -> None:
        """While a host is due and a worker has credit: a lease."""
        self._giving_up = False
        if not self._may_lend():
            return
        while True:
            host = self.frontier.ready(now, wall)
            if host is None:
                return
            if host.doom is not None:
                if not self._give_up(host, now, wall):
                    self._giving_up = True
                    return
                continue
            session = self.fleet.choose(host.last_session)
            if session is None:
                return
            if self._config.max_rate is not None and now < self._next_lend:
                return
            self._lend_to(session, host, now, wall)

    def _give_up(self, host: Host, now: float, wall: float) -> bool:
        """End what is queued for a host that is given up; False: come back later for the rest."""
        outcome = OUTCOMES[host.doom or 0]
        requests = self.frontier.drain(host, DRAINED_AT_ONCE)
        for request in requests:
            host.finished += 1
            self.ledger.end(
                (host.slot, self.frontier.key_of(request.url, request.form)),
                request,
                outcome,
                tries=self.frontier.tries_of(host, request),
                attempts=request.attempts,
                wall=wall,
                reason="host",
                error=host.doom_reason,
            )
        self.frontier.settle(host, now, wall)
        return len(requests) < DRAINED_AT_ONCE

    def _lend_to(self, session: WorkerSession, host: Host, now: float, wall: float) -> None:
        config = self._config.for_host(host.key)
        delay = policy.delay_in_force(config.delay, host.crawl_delay, host.elapsed)
        lanes = min(host.lanes_due(now), session.free_lanes)
        sharers = self.fleet.with_credit()
        if host.per_host > 1 and sharers > 1 and self.frontier.count_ready(now, 2 * sharers) < 2 * sharers:
            lanes = min(lanes, -(-host.per_host // sharers))
        size = min(policy.lease_size(delay, lanes), session.requests - session.lent_requests)
        if lanes < host.per_host:
            # Its other lanes want work, too: each gets a share of what is queued, ever smaller towards the end.
            size = min(size, max(lanes, -(-host.queued * lanes // host.per_host)))
        if self._config.obey_robots and host.per_host > 1 and not host.authorities:
            size = 1
        requests = self.frontier.take(host, size)
        requests, rules, unknown = self._split_by_robots(host, session, requests, now, wall)
        lanes = min(lanes, len(requests))
        taken = lanes
        if unknown:
            taken, lanes = host.free_lanes, 1
        requests = self._charge(host, requests)
        host.take_lanes(taken)
        self._lease_counter += 1
        lease = OpenLease(
            lease_id(self.epoch, self._lease_counter, self.index),
            host=host.key,
            session=session.id,
            local=session.local,
            lanes=taken,
            width=lanes,
            delay=delay,
            ttl=self._ttl,
            requests=tuple(requests),
            now=now,
        )
        self.leases.add(lease)
        if self._config.max_rate is not None:
            self._next_lend = max(now, self._next_lend) + len(requests) / self._config.max_rate
        self._rows.put(lease_row(lease.id), pack(lease.to_row()))
        session.lent_lanes += lanes
        session.lent_requests += len(requests)
        host.last_session = session.id
        self.frontier.settle(host, now, wall)
        self._after.append(
            Send(
                m.Lease(
                    SessionId(session.id),
                    session.number,
                    lease.id,
                    host.key,
                    delay,
                    lanes,
                    self.scope.version,
                    rules,
                    host.cookies,
                    lease.requests,
                )
            )
        )

    def _charge(self, host: Host, requests: list[Request]) -> list[Request]:
        """A request is charged once, when first lent (rule 16)."""
        charged = []
        for request in requests:
            if not request.flags & CHARGED:
                request = request._replace(flags=request.flags | CHARGED)
                host.lent += 1
                self.ledger.counts.charged += 1
            charged.append(request)
        self._budget_reached()
        return charged

    def _split_by_robots(
        self, host: Host, session: WorkerSession, requests: list[Request], now: float, wall: float
    ) -> tuple[list[Request], tuple[m.RobotsRules, ...], bool]:
        """The rules that go with the requests; where an authority has none, it is lent alone (rule 19).

        Then the lease holds one lane, and only as many requests as that lane has work for.
        """
        cap_room = len(requests) if self.cap is None else max(0, self.cap - self.ledger.counts.charged)
        fresh = 0
        for position, request in enumerate(requests):
            fresh += not request.flags & CHARGED
            if fresh > cap_room:
                self.frontier.put_back(host, requests[position:], now)
                requests = requests[:position]
                break
        size = 0
        for position, request in enumerate(requests):
            size += len(request.url) + len(request.referrer or "") + len(request.seed)
            if size > MAX_LEASE_BYTES and position:
                self.frontier.put_back(host, requests[position:], now)
                requests = requests[:position]
                break
        if not self._config.obey_robots:
            return requests, (), False
        rules: dict[str, m.RobotsRules] = {}
        unknown = False
        for request in requests:
            place = authority(CanonicalURL(request.url))
            if place in rules:
                continue
            packed = self._rows.get(robots_row(host.slot, place))
            row = None if packed is None else RobotsRow(*unpack(packed))
            if row is None or row.verdict == "retry" or wall - row.fetched_wall > policy.ROBOTS_LIFETIME:
                unknown = True
                continue
            known = session.knows_robots(place, row.version)
            rules[place] = m.RobotsRules(place, row.version, row.verdict, None if known else row.body)
        if unknown and host.per_host > 1 and len(requests) > 1:
            self.frontier.put_back(host, requests[1:], now)
            requests = requests[:1]
        return requests, tuple(rules.values()), unknown

    def _end_lease(self, lease: OpenLease, now: float, wall: float, *, due: float | None = None) -> None:
        """The lease is over; what is open in it is queued again. `due` None: as its reports said (rule 9)."""
        undone = lease.undone()
        self.leases.end(lease)
        self._rows.delete(lease_row(lease.id))
        session = self.fleet.get(lease.session)
        if session is not None:
            session.lent_lanes -= lease.width
            session.lent_requests -= len(undone)
        for ordinal in lease.open:
            key = piece_key(lease.session, lease.id, ordinal)
            if self._pieces.pop(key, None) is not None:
                self._after.append(DropPieces(key))
        host = self.frontier.host(lease.host, now, wall)
        if due is None:
            due = now if lease.last_end is None else lease.last_end + lease.delay
        host.return_lanes(lease.lanes, due)
        if undone:
            self.frontier.put_back(host, undone, now)
        self.frontier.settle(host, now, wall, lent=True)

    # ------------------------------------------------------------------------------------------------- with control

    def _asked(self, asked: m.Poll | m.Close | m.Cap, now: float) -> None:
        counts = self.ledger.counts
        match asked:
            case m.Poll(round_number):
                self.closed = False
                self._round = round_number
                self._after.append(
                    Tell(
                        m.Report(
                            round_number,
                            self.index,
                            self.epoch,
                            counts.admitted,
                            counts.ended,
                            counts.attempts,
                            self.leases.requests,
                            self.frontier.lendable,
                        )
                    )
                )
            case m.Close(round_number, epoch, admitted, done, attempts):
                same = (epoch, admitted, done, attempts) == (
                    self.epoch,
                    counts.admitted,
                    counts.ended,
                    counts.attempts,
                )
                current = round_number == self._round
                if current:
                    self.closed = same and not self.leases.requests and not self.frontier.lendable
                self._after.append(Tell(m.Closed(round_number, self.index, current and self.closed)))
            case m.Cap(number, cap):
                if number > self._cap_number:
                    self._cap_number, self.cap = number, cap
                    self._rows.put(meta_row("cap"), pack((number, cap)))
                    self._budget(now)
                self._after.append(Tell(m.CapSet(self._cap_number, self.index, self.cap, counts.charged)))

    def _budget(self, now: float) -> None:
        """The cap changed."""
        self._budget_reached()
        self.frontier.release_held(now)

    def _budget_reached(self) -> None:
        self.frontier.may_charge = self.cap is None or self.ledger.counts.charged < self.cap

    def _greet_phase(self) -> None:
        """Workers hear of a new phase at once, not at their next heartbeat."""
        for session in self.fleet:
            self._now_out.append(self._alive(session, 0))

    def sweep(self, now: float) -> None:
        """Forget sessions that hold nothing and were silent for long; now and then."""
        for session in list(self.fleet):
            if now - session.heard_at > FORGET_AFTER * self._ttl and not self.leases.of(session.id):
                self.fleet.remove(session.id)
                self._note("worker.silent", host=session.host, pid=session.pid)

    def explain(self, text: str, now: float, wall: float) -> dict[str, Any] | None:
        """What is known of a URL, for `coord why`; None: it was never admitted. Raises BadURL: it is none."""

        def lent(name: str) -> Iterator[tuple[LeaseId, Request]]:
            for lease in self.leases:
                if lease.host == name:
                    for ordinal in lease.open:
                        yield lease.id, lease.requests[ordinal]

        def due_in(name: str) -> float:
            return self.frontier.host(name, now, wall).due() - now

        return explain(
            self._rows, text, seed=self._seed, form=self._form, wall=wall, lent=lent, due_in=due_in
        )

    def _note(self, event: str, level: str = "info", **facts: object) -> None:
        self._now_out.append(Note(event, tuple(facts.items()), level))


def tries_in(packed: bytes) -> tuple[tuple[int, float], ...]:
    """The failed tries that a packed request row tells of."""
    return unpack_request_row(packed).tries


def piece_key(session: bytes, lease: int, ordinal: int) -> str:
    """The name under which the pieces of one body are kept; unique for the try that they come from."""
    return f"{session.hex()}-{lease:x}-{ordinal:x}"
