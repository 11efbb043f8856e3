"""The sessions of workers: what each says of itself, what it sends, and what it is answered.

Hello and Welcome, heartbeats (credit, leases renewed, leases unknown), Release, Want, Goodbye, deaths that a supervisor
saw; results go on to results.py, and what becomes of each is answered with the next commit. Every start of a worker
process is a session of its own. No I/O, no clock.

Read next: fleet.py (what is known of a session), lending.py (what it is lent).
"""

from __future__ import annotations

from common import messages as m
from common.configwire import config_to_wire
from common.messages import LeaseId, SessionId, lease_epoch
from common.wire import pack as pack_wire
from coordinator.downloads import LATER
from coordinator.fleet import WorkerSession
from coordinator.lending import Lending
from coordinator.results import Results
from coordinator.state import ShardState
from coordinator.steps import Hashed, Send

MAX_CREDIT = 65_000
"""Of one session: so many leases can be listed in one heartbeat, and a worker asks for no more."""

FORGET_AFTER = 10
"""A session without leases that was silent for so many T is forgotten."""


DENIED_TOLD, DENIED_TOLD_EVERY = 20, 1000
"""Workers turned away that are logged: whoever may speak can say Hello thousands of times a second."""


class Sessions:
    """Talks with the workers of one shard."""

    def __init__(
        self, state: ShardState, lending: Lending, results: Results, *, crawl: bytes, seed: int
    ) -> None:
        self._state = state
        self._lending = lending
        self._results = results
        self._crawl = crawl
        self._seed = seed
        self.told_version = state.scope.version
        """Of the terms: the last one whose Terms have left."""
        self._answers: dict[bytes, tuple[list[int], list[tuple[int, str]]]] = {}
        """By session: what was accepted and refused since the last commit was sealed."""
        self._denied = 0

    # -------------------------------------------------------------------------------------------- what they say

    def receive(self, message: m.FromWorker, body: bytes, now: float, wall: float) -> None:
        """A message of a worker; `body` is its second frame. Who is unknown is asked to say Hello."""
        if isinstance(message, m.Hello):
            self._hello(message, now, wall)
            return
        session = self._state.fleet.get(message.session)
        if session is None:
            if not isinstance(message, m.Goodbye):
                self._state.send_now(m.HelloAgain(message.session))
            return
        session.heard(now)
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
                self._answer(session, message.number, results.piece(session, message, body, now))
            case m.FilePiece():
                self._answer(session, message.number, results.file_piece(session, message, body, now, wall))
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
            self._deny(hello, reason, final=True)
            return
        for dead, lease_number, ordinal in hello.suspects:
            lease = state.leases.get(lease_number)
            if dead in hello.replaces and lease is not None and lease.session == dead:
                self._results.died(lease, ordinal, now, wall)
        for dead in hello.replaces:
            self._bury(dead, now, wall)
        session = state.fleet.get(hello.session)
        if session is None and state.fleet.is_full:
            self._deny(hello, f"{len(state.fleet)} worker processes are here already", final=False)
            return
        if session is None:
            session = WorkerSession(
                hello.session, host=hello.host, pid=hello.pid, index=hello.index, local=hello.local, now=now
            )
            state.fleet.add(session)
            for held in state.leases.of(hello.session):
                session.lent_lanes += held.width
                session.lent_requests += len(held.open)
            state.note("worker.joined", host=hello.host, pid=hello.pid, session=hello.session.hex()[:8])
        session.heard(now)
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
                config=pack_wire(config_to_wire(state.config)),
                scope=pack_wire(state.scope.to_wire()),
                scope_version=state.scope.version,
            )
        )

    def _deny(self, hello: m.Hello, reason: str, *, final: bool) -> None:
        self._denied += 1
        self._state.send_now(m.Denied(hello.session, hello.number, reason, final))
        if self._denied <= DENIED_TOLD or self._denied % DENIED_TOLD_EVERY == 0:
            self._state.note(
                "worker.denied",
                level="warning",
                host=hello.host,
                version=hello.version,
                reason=reason,
                times=self._denied,
            )

    def _heartbeat(self, session: WorkerSession, beat: m.Heartbeat, now: float, wall: float) -> None:
        if beat.number > session.number:
            session.number = beat.number
            session.lanes = min(beat.lanes, MAX_CREDIT)
            session.requests = min(beat.requests, MAX_CREDIT)
            session.in_flight, session.held_bytes = beat.in_flight, beat.held_bytes
            session.fetched, session.lag_ms = beat.fetched, beat.lag_ms
            session.cpu_percent, session.rss = beat.cpu_percent, beat.rss
            session.extract_percent = beat.extract_percent
            if beat.offline != session.offline:
                session.offline = beat.offline
                event = "worker.offline" if beat.offline else "worker.online"
                self._state.note(event, level="warning", host=session.host, pid=session.pid)
        unknown = self._state.leases.renew(session.id, beat.leases, now)
        if beat.epoch == self._state.epoch:
            listed = set(beat.leases)
            if session.epoch_seen != self._state.epoch:
                session.epoch_seen = self._state.epoch
                for lease in self._state.leases.of(session.id):
                    if lease.id not in listed and lease_epoch(lease.id) < self._state.epoch:
                        self._lending.end(lease, now, wall, due=now + lease.delay)
        recalled = tuple(lease.id for lease in self._state.leases.of(session.id) if lease.recalled)
        self._state.now.append(self.alive(session, beat.number, unknown=tuple(unknown), recalled=recalled))

    def _release(self, session: WorkerSession, release: m.Release, now: float, wall: float) -> None:
        session.number = max(session.number, release.number)
        lease = self._state.leases.get(release.lease)
        if lease is not None and lease.session == session.id:
            lease.fetched(now, release.age)
            self._lending.end(lease, now, wall)
        self._state.after.append(self.alive(session, release.number, released=(release.lease,)))

    def _goodbye(self, session: WorkerSession, goodbye: m.Goodbye, now: float, wall: float) -> None:
        ages = dict(goodbye.ages)
        for lease in self._state.leases.of(session.id):
            if lease.id in ages:
                lease.fetched(now, ages[lease.id])
                self._lending.end(lease, now, wall)
            else:
                self._lending.end(lease, now, wall, due=now + lease.delay)
        self._forget(session.id)
        self._state.note("worker.left", host=session.host, pid=session.pid, session=session.id.hex()[:8])

    def _bury(self, dead: SessionId, now: float, wall: float) -> None:
        """Its supervisor saw the process die: no waiting for T (rule 12)."""
        for lease in self._state.leases.of(dead):
            self._lending.end(lease, now, wall, due=now + lease.delay)
        session = self._state.fleet.get(dead)
        if session is not None:
            self._forget(dead)
            self._state.fleet.died += 1
            self._state.note("worker.died", level="warning", host=session.host, pid=session.pid)

    def hashed(self, event: Hashed, now: float, wall: float) -> None:
        """The digest of a download is known."""
        session = self._state.fleet.get(event.session)
        refusal = self._results.hashed(event.session, event.number, event.digest, now, wall)
        if session is not None:
            self._answer(session, event.number, refusal)

    def _answer(self, session: WorkerSession, number: int, refusal: str | None) -> None:
        if refusal == LATER:
            return
        session.answer(number, refusal)
        accepted, refused = self._answers.setdefault(session.id, ([], []))
        if refusal is None:
            accepted.append(number)
        else:
            refused.append((number, refusal))

    # ----------------------------------------------------------------------------------------- what they are told

    def alive(
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
                self._state.epoch,
                unknown,
                released,
                self._state.phase,
                self.told_version,
                recalled,
            )
        )

    def tell_recalled(self) -> None:
        """Workers hear at once of leases whose terms do not hold any more; again with each heartbeat."""
        for id_, leases in self._state.recalled.items():
            session = self._state.fleet.get(id_)
            if session is not None:
                self._state.now.append(self.alive(session, 0, recalled=tuple(leases)))
        self._state.recalled = {}

    def greet(self) -> None:
        """Workers hear of a new phase at once, not at their next heartbeat."""
        for session in self._state.fleet:
            self._state.now.append(self.alive(session, 0))

    @property
    def owes_answers(self) -> bool:
        """Whether results came whose answers wait for a commit."""
        return bool(self._answers)

    def give_answers(self) -> None:
        """The answers leave with the commit that is sealed now."""
        for session, (accepted, refused) in self._answers.items():
            self._state.send_after(m.Answer(SessionId(session), tuple(accepted), tuple(refused)), data=True)
        self._answers = {}

    # ---------------------------------------------------------------------------------------------- who was lost

    def sweep(self, now: float) -> None:
        """Forget sessions that hold nothing and were silent for long; now and then."""
        for session in list(self._state.fleet):
            silent = now - session.heard_at > FORGET_AFTER * self._state.config.tuning.lease_ttl
            if silent and not self._state.leases.of(session.id):
                self._forget(session.id)
                self._state.note("worker.silent", host=session.host, pid=session.pid)

    def _forget(self, session: bytes) -> None:
        self._state.fleet.remove(session)
        self._lending.permits.forget(session)
