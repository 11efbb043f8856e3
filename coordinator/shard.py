"""A shard's core: what one slice of all hosts does with every event.

It composes the frontier (what may be lent), the leases (what is lent), the fleet (to whom) and the ledger (how it
ended), and it is pure: `handle(event, now, wall)` changes state and queues instructions, `seal()` takes what must be
made durable together, `committed()` says that it is, and only then do the instructions that rest on it leave
(PROTOCOL rule 2). Time is monotonic `now` for leases and politeness, `wall` for what is stored.

Each idea has its file: admission.py (what becomes a request), lending.py (who gets it), results.py (what came of it);
here are the sessions of workers, the dealings with control, steering, and what a restart takes up again. It does not
know sockets, files or the crawl as a whole; server.py carries out its instructions, crawl.py decides when everything
has ended.

Invariants: a request is queued, lent or ended; a host's lanes are free or lent; a session's credit is never exceeded
by a new lease; nothing is admitted while `closed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from common import messages as m
from common.config import CrawlConfig
from common.messages import LeaseId, Phase, Request, SessionId, lease_epoch
from common.outcome import Outcome
from common.scope import Scope
from common.wire import pack as pack_wire
from coordinator.admission import Admission, compare, is_sitemap
from coordinator.explain import explain, normalizer_of, still_lent
from coordinator.fleet import Fleet, WorkerSession
from coordinator.frontier import Frontier
from coordinator.hostqueue import Host
from coordinator.leases import Leases, OpenLease
from coordinator.ledger import Identifier, Ledger
from coordinator.lending import Lending
from coordinator.outputs import Outputs
from coordinator.recent import Recent
from coordinator.results import Results
from coordinator.state import ShardState
from coordinator.steps import (
    Asked,
    Commit,
    Event,
    Instruction,
    NewRound,
    Received,
    Reconfigured,
    Rescoped,
    Retry,
    Seeded,
    Seeds,
    Send,
    Steered,
    Tell,
    Tick,
)
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    DoneRow,
    LeaseRow,
    as_request,
    is_done,
    meta_row,
    output_row,
    pack,
    stored_round,
    unpack,
    unpack_request_row,
)

MAX_CREDIT = 65_000
"""Of one session: so many leases can be listed in one heartbeat, and a worker asks for no more."""

ENDED_UNCOMPARED = frozenset({"host", "poison"})
"""Reasons of what ended here without an answer: a recrawl counted it neither as changed nor as vanished."""

FORGET_AFTER = 10
"""A session without leases that was silent for so many T is forgotten."""


class Shard:
    """One shard."""

    makes_lending: ClassVar[type[Lending]] = Lending
    makes_results: ClassVar[type[Results]] = Results

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
        self._crawl = crawl
        self._seed = seed
        self._asked_round = 0
        """Of the last Poll: a Close of another round is late."""
        self._cap_number = 0
        self._told_version = self._sealed_version = scope.version
        """Of the terms: the last one whose Terms have left, and the one of the commit under way."""
        self._answers: dict[bytes, tuple[list[int], list[tuple[int, str]]]] = {}
        packed = rows.get(meta_row("epoch"))
        epoch = (0 if packed is None else unpack(packed)) + 1
        rows.put(meta_row("epoch"), pack(epoch))
        packed = rows.get(meta_row("frontier"))
        seq, turns, *held = (0, (0, 0)) if packed is None else unpack(packed)
        frontier = Frontier(
            rows,
            seed=seed,
            host_policy=config.for_host,
            epoch=epoch,
            seq=seq,
            turns=turns,
            held_turns=(*held[0], held[0][1]) if held else (0, 0, 0),
        )
        round_number, since = stored_round(rows.get(meta_row("round")))
        frontier.round = round_number
        frontier.host_limit = config.max_pages_per_host
        frontier.max_depth = config.max_depth
        self._state = state = ShardState(
            rows=rows,
            outputs=outputs,
            config=config,
            scope=scope,
            ledger=Ledger(rows, outputs, identifier),
            frontier=frontier,
            index=index,
            shards=shards,
            slots=slots,
            epoch=epoch,
            phase=phase,
            round=round_number,
            fresh_since=since,
        )
        self._admission = Admission(state)
        self._lending = self.makes_lending(state, now)
        self._results = self.makes_results(state, self._admission, self._lending)
        self._recover(now, wall)

    # ---------------------------------------------------------------------------------------------- what it holds

    @property
    def ledger(self) -> Ledger:
        """How requests ended, and the counts."""
        return self._state.ledger

    @property
    def frontier(self) -> Frontier:
        """What may be lent."""
        return self._state.frontier

    @property
    def leases(self) -> Leases:
        """What is lent."""
        return self._state.leases

    @property
    def fleet(self) -> Fleet:
        """The workers' sessions."""
        return self._state.fleet

    @property
    def rows(self) -> Overlay:
        """The rows, with what is not committed yet."""
        return self._state.rows

    @property
    def scope(self) -> Scope:
        """What belongs to the crawl, at its newest version."""
        return self._state.scope

    @property
    def config(self) -> CrawlConfig:
        """The configuration in force."""
        return self._state.config

    @property
    def phase(self) -> Phase:
        """What the crawl is doing."""
        return self._state.phase

    @property
    def closed(self) -> bool:
        """Whether nothing is admitted any more."""
        return self._state.closed

    @property
    def index(self) -> int:
        """Its number among the shards."""
        return self._state.index

    @property
    def epoch(self) -> int:
        """Its starts so far."""
        return self._state.epoch

    @property
    def cap(self) -> int | None:
        """Its share of --max-pages."""
        return self._state.cap

    @property
    def round(self) -> int:
        """0, then one more with each recrawl."""
        return self._state.round

    @property
    def recent(self) -> Recent:
        """What tries came to lately."""
        return self._results.recent

    @property
    def lending(self) -> Lending:
        """Who waits for what; to be looked at."""
        return self._lending

    # --------------------------------------------------------------------------------------------------- entries

    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        """Take one event; what comes back may leave at once, the rest leaves with the next commit."""
        state = self._state
        match event:
            case Received(message, body):
                self._receive(message, body, now, wall)
            case Seeds():
                self._admission.seeds(event, now, wall)
            case Asked(message):
                self._asked(message)
            case Steered(phase):
                state.phase = phase
                self._greet_phase()
            case Reconfigured(config):
                self._reconfigure(config, now, wall)
            case Rescoped(scope):
                self._admission.set_scope(scope)
            case Retry():
                self._retry(event, now, wall)
            case NewRound(number, since):
                self._new_round(number, since, now, wall)
            case Tick():
                pass
        for lease in state.leases.expired(now):
            state.note("lease.expired", lease=m.lease_name(lease.id), host=lease.host, open=len(lease.open))
            self._lending.end(lease, now, wall, due=now + lease.delay)
            holder = state.fleet.get(lease.session)
            if holder is not None:
                # It is silent: with its credit it would be lent one lease after another, for ever.
                holder.lanes = holder.requests = 0
        self._lending.lend(now, wall)
        out, state.now = state.now, []
        return out

    def next_wakeup(self) -> float | None:
        """When to send a Tick at the latest; None: only an event can change anything."""
        times = (self._state.leases.next_deadline(), self._lending.next_wakeup())
        return min((time for time in times if time is not None), default=None)

    @property
    def unsealed(self) -> bool:
        """Whether anything waits for a commit."""
        state = self._state
        return (
            bool(state.after or self._answers)
            or state.rows.dirty
            or state.outputs.dirty
            or state.frontier.dirty
        )

    @property
    def unsealed_bytes(self) -> int:
        """Output bytes that wait for a commit."""
        return self._state.outputs.pending_bytes

    def seal(self, now: float, wall: float) -> Commit:
        """Take all that waits, as one commit; the shell makes it durable, then calls `committed`."""
        state = self._state
        for session, (accepted, refused) in self._answers.items():
            state.after.append(Send(m.Answer(SessionId(session), tuple(accepted), tuple(refused)), data=True))
        self._answers = {}
        if state.rows.dirty or state.outputs.dirty or state.frontier.dirty:
            state.frontier.flush(now, wall)
            state.ledger.flush()
            frontier = state.frontier
            state.rows.put(
                meta_row("frontier"), pack((frontier.seq, frontier.turns, frontier.held_turns[:2]))
            )
        self._sealed_version = state.scope.version
        batch = state.outputs.seal()
        for file, end in batch.ends.items():
            state.rows.put(output_row(file), pack(end))
        instructions, state.after = tuple(state.after), []
        return Commit(state.rows.seal(), batch, instructions)

    def committed(self, commit: Commit) -> Sequence[Instruction]:
        """The commit is durable: what rests on it may leave."""
        self._state.rows.committed()
        self._told_version = self._sealed_version
        return commit.instructions

    # --------------------------------------------------------------------------------------------- after a restart

    def _recover(self, now: float, wall: float) -> None:
        """Open leases get a full T (rule 5), their lanes stay lent; hosts with work stand in line again."""
        rows = self._state.rows
        start, stop = b"l", b"m"
        while entries := rows.scan(start, stop, limit=256):
            start = entries[-1][0] + b"\0"
            for key, packed in entries:
                self._reopen(LeaseId(int.from_bytes(key[1:], "big")), LeaseRow(*unpack(packed)), now, wall)
        for _ in self.frontier.recover(now, wall):
            pass
        cap = rows.get(meta_row("cap"))
        if cap is not None:
            self._cap_number, self._state.cap = unpack(cap)
        self._state.budget_reached()

    def _reopen(self, lease_number: LeaseId, row: LeaseRow, now: float, wall: float) -> None:
        state = self._state
        lease = OpenLease(
            lease_number,
            host=row.host,
            session=row.session,
            local=row.local,
            lanes=row.lanes,
            width=row.width,
            delay=row.delay,
            ttl=max(row.ttl, state.config.tuning.lease_ttl),
            requests=tuple(as_request(request) for request in row.requests),
            seq=row.seq,
            now=now,
        )
        host = state.frontier.host(row.host, now, wall)
        for ordinal, request in enumerate(lease.requests):
            if not still_lent(state.rows.get(state.frontier.row_of(host, request)), request, lease.seq):
                lease.open.discard(ordinal)
        self._lending.reopened(host)
        host.attach_lanes(lease.lanes)
        state.leases.add(lease)
        if not lease.open:
            self._lending.end(lease, now, wall, due=now + lease.delay)

    def workers_gone(self, now: float, wall: float) -> int:
        """Every local process is known to be dead (the lock in DIR): their leases end. Returns how many."""
        gone = [lease for lease in self.leases if lease.local]
        for lease in gone:
            self._lending.end(lease, now, wall, due=now + lease.delay)
        return len(gone)

    # ------------------------------------------------------------------------------------------------ from workers

    def _receive(self, message: m.FromWorker, body: bytes, now: float, wall: float) -> None:
        if isinstance(message, m.Hello):
            self._hello(message, now, wall)
            return
        session = self.fleet.get(message.session)
        if session is None:
            if not isinstance(message, m.Goodbye):
                self._state.send_now(m.HelloAgain(message.session))
            return
        session.heard_at = now
        results = self._results
        match message:
            case m.Heartbeat():
                self._heartbeat(session, message, now, wall)
            case m.Release():
                self._release(session, message, now, wall)
            case m.Want():
                session.number = max(session.number, message.number)
                self._lending.want(session, message.host)
            case m.Goodbye():
                self._goodbye(session, message, now, wall)
            case m.Page():
                self._answer(session, message.number, results.page(session, message, body, now, wall))
            case m.Piece():
                self._answer(session, message.number, results.piece(session, message, body))
            case m.Links():
                self._answer(session, message.number, results.links(message, now, wall))
            case m.Robots():
                self._answer(session, message.number, results.robots(session, message, body, now, wall))

    def _hello(self, hello: m.Hello, now: float, wall: float) -> None:
        state = self._state
        if hello.version != m.VERSION:
            reason = (
                f"the coordinator speaks protocol {m.VERSION}, this worker {hello.version}: "
                "install the same version of shoal on both"
            )
            state.send_now(m.Denied(hello.session, hello.number, reason, True))
            state.note("worker.denied", level="warning", host=hello.host, version=hello.version)
            return
        for dead, lease_number, ordinal in hello.suspects:
            lease = state.leases.get(lease_number)
            if dead in hello.replaces and lease is not None and lease.session == dead:
                self._results.died(lease, ordinal, now, wall)
        for dead in hello.replaces:
            self._bury(dead, now, wall)
        session = state.fleet.get(hello.session)
        if session is None:
            session = WorkerSession(
                hello.session, host=hello.host, pid=hello.pid, index=hello.index, local=hello.local, now=now
            )
            state.fleet.add(session)
            for held in state.leases.of(hello.session):
                session.lent_lanes += held.width
                session.lent_requests += len(held.open)
            state.note("worker.joined", host=hello.host, pid=hello.pid, session=hello.session.hex()[:8])
        session.heard_at = now
        session.number = max(session.number, hello.number)
        state.leases.renew(hello.session, hello.leases, now)
        state.send_after(
            m.Welcome(
                session=hello.session,
                number=hello.number,
                version=m.VERSION,
                crawl=self._crawl,
                store=state.ledger.counts.commits,
                shard=state.index,
                shards=state.shards,
                epoch=state.epoch,
                ttl=state.config.tuning.lease_ttl,
                heartbeat=state.config.tuning.heartbeat,
                slots=state.slots,
                seed=self._seed,
                config=pack_wire(state.config.to_wire()),
                scope=pack_wire(state.scope.to_wire()),
                scope_version=state.scope.version,
            )
        )

    def _heartbeat(self, session: WorkerSession, beat: m.Heartbeat, now: float, wall: float) -> None:
        if beat.number > session.number:
            session.number = beat.number
            session.lanes = min(beat.lanes, MAX_CREDIT)
            session.requests = min(beat.requests, MAX_CREDIT)
            session.in_flight, session.held_bytes = beat.in_flight, beat.held_bytes
            session.fetched, session.lag_ms = beat.fetched, beat.lag_ms
            session.cpu_percent, session.rss = beat.cpu_percent, beat.rss
            if beat.offline != session.offline:
                session.offline = beat.offline
                event = "worker.offline" if beat.offline else "worker.online"
                self._state.note(event, level="warning", host=session.host, pid=session.pid)
        unknown = self.leases.renew(session.id, beat.leases, now)
        if beat.epoch == self.epoch:
            listed = set(beat.leases)
            if session.epoch_seen != self.epoch:
                session.epoch_seen = self.epoch
                for lease in self.leases.of(session.id):
                    if lease.id not in listed and lease_epoch(lease.id) < self.epoch:
                        self._lending.end(lease, now, wall, due=now + lease.delay)
        recalled = tuple(lease.id for lease in self.leases.of(session.id) if lease.recalled)
        self._state.now.append(self._alive(session, beat.number, unknown=tuple(unknown), recalled=recalled))

    def _release(self, session: WorkerSession, release: m.Release, now: float, wall: float) -> None:
        session.number = max(session.number, release.number)
        lease = self.leases.get(release.lease)
        if lease is not None and lease.session == session.id:
            lease.fetched(now, release.age)
            self._lending.end(lease, now, wall)
        self._state.after.append(self._alive(session, release.number, released=(release.lease,)))

    def _goodbye(self, session: WorkerSession, goodbye: m.Goodbye, now: float, wall: float) -> None:
        ages = dict(goodbye.ages)
        for lease in self.leases.of(session.id):
            if lease.id in ages:
                lease.fetched(now, ages[lease.id])
                self._lending.end(lease, now, wall)
            else:
                self._lending.end(lease, now, wall, due=now + lease.delay)
        self.fleet.remove(session.id)
        self._state.note("worker.left", host=session.host, pid=session.pid, session=session.id.hex()[:8])

    def _bury(self, dead: SessionId, now: float, wall: float) -> None:
        """Its supervisor saw the process die: no waiting for T (rule 12)."""
        for lease in self.leases.of(dead):
            self._lending.end(lease, now, wall, due=now + lease.delay)
        session = self.fleet.get(dead)
        if session is not None:
            self.fleet.remove(dead)
            self.fleet.died += 1
            self._state.note("worker.died", level="warning", host=session.host, pid=session.pid)

    def _alive(
        self,
        session: WorkerSession,
        number: int,
        *,
        unknown: tuple[LeaseId, ...] = (),
        released: tuple[LeaseId, ...] = (),
        recalled: tuple[LeaseId, ...] = (),
    ) -> Send:
        """The answer to message `number`; 0: to none, which renews nothing."""
        return Send(
            m.Alive(
                SessionId(session.id),
                number,
                self.epoch,
                unknown,
                released,
                self.phase,
                self._told_version,
                recalled,
            )
        )

    def _answer(self, session: WorkerSession, number: int, refusal: str | None) -> None:
        session.answer(number, refusal)
        accepted, refused = self._answers.setdefault(session.id, ([], []))
        if refusal is None:
            accepted.append(number)
        else:
            refused.append((number, refusal))

    # ------------------------------------------------------------------------------------------------- with control

    def _asked(self, asked: m.Poll | m.Close | m.Cap) -> None:
        state, counts = self._state, self.ledger.counts
        match asked:
            case m.Poll(round_number):
                state.closed = False
                self._asked_round = round_number
                state.after.append(
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
                current = round_number == self._asked_round
                if current:
                    state.closed = same and not self.leases.requests and not self.frontier.lendable
                state.after.append(Tell(m.Closed(round_number, self.index, current and self.closed)))
            case m.Cap(number, cap):
                if number > self._cap_number:
                    self._cap_number, state.cap = number, cap
                    state.rows.put(meta_row("cap"), pack((number, cap)))
                    state.budget_reached()
                    self.frontier.release_held()
                state.after.append(Tell(m.CapSet(self._cap_number, self.index, self.cap, counts.charged)))

    def _greet_phase(self) -> None:
        """Workers hear of a new phase at once, not at their next heartbeat."""
        for session in self.fleet:
            self._state.now.append(self._alive(session, 0))

    # ------------------------------------------------------------------------------------------------------ steering

    def _reconfigure(self, config: CrawlConfig, now: float, wall: float) -> None:
        """Another configuration: in force at once for what is lent from now on; leases on other terms are recalled.

        A host that is blocked loses its leases at once, and all that it has queued ends as OPERATOR.
        """
        state, before = self._state, self._state.config
        state.config = config
        state.frontier.host_policy = config.for_host
        state.frontier.max_depth = config.max_depth
        if config.max_pages_per_host != before.max_pages_per_host:
            state.frontier.limit_hosts(config.max_pages_per_host, now, wall)
        self._admission.configure()
        self._results.configure()
        self._admission.set_scope(state.scope.with_sites(state.scope.sites))
        if config.host != before.host:
            state.frontier.release_held()  # one that is blocked has nothing to wait for
        changed = {host.key: host for host in state.frontier.hosts.values() if self._apply_policy(host, now)}
        ended: dict[bytes, list[LeaseId]] = {}
        recalled: dict[bytes, list[LeaseId]] = {}
        for lease in list(state.leases):
            policy = config.for_host(lease.host)
            if policy.blocked:
                ended.setdefault(lease.session, []).append(lease.id)
                self._lending.end(lease, now, wall, due=now + lease.delay)
            elif policy != before.for_host(lease.host):
                lease.recalled = True
                recalled.setdefault(lease.session, []).append(lease.id)
        for session in state.fleet:
            state.now.append(
                self._alive(
                    session,
                    0,
                    unknown=tuple(ended.get(session.id, ())),
                    recalled=tuple(recalled.get(session.id, ())),
                )
            )
        for host in changed.values():
            state.frontier.settle(host, now, wall)

    def _apply_policy(self, host: Host, now: float) -> bool:
        """Give a host in memory the terms in force; whether they are others than it had."""
        policy = self._state.config.for_host(host.key)
        before = host.per_host, host.doom
        if policy.per_host != host.per_host:
            host.set_lanes(policy.per_host, now)
        self.frontier.block(host, policy.blocked)
        return before != (host.per_host, host.doom)

    def _retry(self, retry: Retry, now: float, wall: float) -> None:
        """Ended requests are queued again, with all their tries before them; their lines count no more."""
        state = self._state
        state.closed = False
        opened = []
        for key in retry.keys:
            packed = state.rows.get(key)
            row = None if packed is None or not is_done(packed) else unpack_request_row(packed)
            opened.append(isinstance(row, DoneRow))
            if not isinstance(row, DoneRow):
                continue
            state.ledger.reopen(row)
            host = state.frontier.host_of(row.request.url, now, wall)
            if state.round and row.facts.reason not in ENDED_UNCOMPARED and not is_sitemap(row.request):
                earlier = self._admission.earlier(host, row.request)
                compare(state.ledger.counts, row.outcome, row.facts.digest, earlier, by=-1)
            host.finished -= 1
            host.failures = 0
            if host.doom is not None and host.doom != Outcome.OPERATOR.code:
                host.doom, host.doom_reason = None, None
            state.frontier.reopen(host, row.request._replace(depth=row.depth), now)
        state.after.append(Seeded(retry.number, tuple(opened)))

    def _new_round(self, number: int, since: float | None, now: float, wall: float) -> None:
        """A recrawl begins; budgets count anew."""
        state = self._state
        state.closed = False
        if number <= state.round:
            return
        state.round, state.fresh_since = number, since
        state.rows.put(meta_row("round"), pack((number, since)))
        state.frontier.round = number
        for host in state.frontier.hosts.values():
            host.lent = 0
        state.ledger.counts.charged = 0
        state.ledger.counts.again.clear()
        state.budget_reached()
        state.frontier.limit_hosts(state.frontier.host_limit, now, wall)
        self._admission.configure()

    # ------------------------------------------------------------------------------------------------------- looking

    def sweep(self, now: float) -> None:
        """Forget sessions that hold nothing and were silent for long; now and then."""
        for session in list(self.fleet):
            silent = now - session.heard_at > FORGET_AFTER * self._state.config.tuning.lease_ttl
            if silent and not self.leases.of(session.id):
                self.fleet.remove(session.id)
                self._state.note("worker.silent", host=session.host, pid=session.pid)

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
            self._state.rows,
            text,
            seed=self._seed,
            form=self._admission.form,
            wall=wall,
            normalizer=normalizer_of(self._state.config),
            lent=lent,
            due_in=due_in,
        )
