"""A shard's core: what one slice of all hosts does with every event.

It composes the frontier (what may be lent), the leases (what is lent), the fleet (to whom) and the ledger (how it
ended), and it is pure: `handle(event, now, wall)` changes state and queues instructions, `seal()` takes what must be
made durable together, `committed()` says that it is, and only then do the instructions that rest on it leave
(PROTOCOL rule 2). Time is monotonic `now` for leases and politeness, `wall` for what is stored.

Each idea has its file: admission.py (what becomes a request), lending.py (who gets it), results.py (what came of it),
sessions.py (what workers say and are told), orders.py (what people told a crawl that runs); here are the events, the
commits, the dealings with control, and what a restart takes up again. It does not know sockets, files or the crawl as
a whole; server.py carries out its instructions, crawl.py decides when everything has ended.

Invariants: a request is queued, lent or ended; a host's lanes are free or lent; a session's credit is never exceeded
by a new lease; nothing is admitted while `closed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from common import messages as m
from common.config import CrawlConfig
from common.messages import LeaseId, Phase, Request
from common.scope import Scope
from coordinator.admission import Admission
from coordinator.explain import explain, normalizer_of, still_lent
from coordinator.fleet import Fleet
from coordinator.frontier import Frontier
from coordinator.leases import Leases, OpenLease
from coordinator.ledger import Identifier, Ledger
from coordinator.lending import Lending
from coordinator.orders import Orders
from coordinator.outputs import Outputs
from coordinator.recent import Recent
from coordinator.results import Results
from coordinator.rounds import note_what_is_looked_for
from coordinator.sessions import Sessions
from coordinator.state import ShardState
from coordinator.steps import (
    Asked,
    Commit,
    Event,
    Hashed,
    Instruction,
    NewRound,
    Received,
    Reconfigured,
    Rescoped,
    Retry,
    Seeds,
    Steered,
    Tell,
    Tick,
)
from coordinator.store.kv import Overlay
from coordinator.store.rows import (
    LeaseRow,
    as_request,
    meta_row,
    output_row,
    pack,
    stored_round,
    unpack,
)


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
        self._seed = seed
        self._asked_round = 0
        """Of the last Poll: a Close of another round is late."""
        self._cap_number = 0
        self._sealed_version = scope.version
        """Of the terms: the one of the commit under way."""
        packed = rows.get(meta_row("epoch"))
        epoch = (0 if packed is None else unpack(packed)) + 1
        rows.put(meta_row("epoch"), pack(epoch))
        frontier = Frontier(rows, seed=seed, host_policy=config.for_host, epoch=epoch)
        round_number, since = stored_round(rows.get(meta_row("round")))
        frontier.budgets.round = round_number
        frontier.budgets.per_host = config.max_pages_per_host
        frontier.max_depth = config.max_depth
        frontier.blocks = any(rule.blocked for rule in config.host)
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
        note_what_is_looked_for(state)
        self._admission = Admission(state)
        self._lending = self.makes_lending(state, now)
        self._results = self.makes_results(state, self._admission, self._lending)
        self._sessions = Sessions(state, self._lending, self._results, crawl=crawl, seed=seed)
        self._orders = Orders(state, self._admission, self._lending, self._results, self._sessions)
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
                self._sessions.receive(message, body, now, wall)
            case Seeds():
                self._admission.seeds(event, now, wall)
            case Asked(message):
                self._asked(message)
            case Steered(phase):
                state.phase = phase
                self._sessions.greet()
            case Reconfigured(config):
                self._orders.reconfigure(config, now, wall)
            case Rescoped(scope):
                self._admission.set_scope(scope)
            case Retry():
                self._orders.retry(event, now, wall)
            case NewRound(number, since):
                self._orders.begin_round(number, since, now, wall)
            case Hashed():
                self._sessions.hashed(event, now, wall)
            case Tick():
                pass
        self._expire(now, wall)
        if state.recalled:
            self._sessions.tell_recalled()
        if not self._sessions.owes_answers:
            self._lending.lend(now, wall)
        out, state.now = state.now, []
        return out

    def next_wakeup(self) -> float | None:
        """When to send a Tick at the latest; None: only an event can change anything."""
        lending = None if self._sessions.owes_answers else self._lending.next_wakeup()
        times = (self._state.leases.next_deadline(), lending)
        return min((time for time in times if time is not None), default=None)

    @property
    def unsealed(self) -> bool:
        """Whether anything waits for a commit."""
        state = self._state
        return (
            bool(state.after)
            or self._sessions.owes_answers
            or state.rows.dirty
            or state.outputs.dirty
            or state.frontier.dirty
        )

    @property
    def unsealed_bytes(self) -> int:
        """Bytes that wait for a commit, or whose answer does."""
        return self._state.outputs.pending_bytes + self._state.kept_bytes

    def seal(self, now: float, wall: float) -> Commit:
        """Take all that waits, as one commit; the shell makes it durable, then calls `committed`."""
        state = self._state
        if self._sessions.owes_answers:
            # Not at each message that this commit answers: leases leave no sooner so, and hold more (ADR 0027).
            self._expire(now, wall)  # first: who is silent by now is lent nothing
            self._lending.lend(now, wall)
        self._sessions.give_answers()
        if state.rows.dirty or state.outputs.dirty or state.frontier.dirty:
            state.frontier.flush(now, wall)
            state.ledger.flush()
        self._sealed_version = state.scope.version
        state.kept_bytes = 0
        batch = state.outputs.seal()
        for file, end in batch.ends.items():
            state.rows.put(output_row(file), pack(end))
        instructions, state.after = tuple(state.after), []
        return Commit(state.rows.seal(), batch, instructions)

    def _expire(self, now: float, wall: float) -> None:
        state = self._state
        for lease in state.leases.expired(now):
            state.note("lease.expired", lease=m.lease_name(lease.id), host=lease.host, open=len(lease.open))
            self._lending.end(lease, now, wall, due=now + lease.delay)
            holder = state.fleet.get(lease.session)
            if holder is not None:
                # It is silent: with its credit it would be lent one lease after another, for ever.
                holder.lanes = holder.requests = 0

    def committed(self, commit: Commit) -> Sequence[Instruction]:
        """The commit is durable: what rests on it may leave."""
        self._state.rows.committed()
        self._sessions.told_version = self._sealed_version
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

    # ------------------------------------------------------------------------------------------------------- looking

    def sweep(self, now: float) -> None:
        """Forget what nobody will ask for any more; now and then."""
        self._sessions.sweep(now)

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
