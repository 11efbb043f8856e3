"""The worker's agent: what one worker process does with its leases, and what it still owes the shards.

Pure: `handle(event, now)` returns instructions; no socket, no clock (`now` is CLOCK_BOOTTIME seconds), no await. It
takes leases, paces their visits, gives out fetches, holds every page until its outlinks are acknowledged by the
shards that own them and then until the page itself is (PROTOCOL rule 1), sends again what is not answered, renews
what it holds, and stops by its own clock when a lease runs out (rules 6 to 8).

A shard's link is GREETING (Hello sent, no Welcome yet) or WELCOME. What is owed for a page goes
links sent -> links answered -> page sent -> page answered; with one shard the outlinks ride in the page.

Invariants: a lease is taken once; a page is sent only after its links were accepted; no fetch begins while
`unacknowledged_pages` or `unacknowledged_bytes` are held unanswered, so what is held is at most that and what was in
flight (rule 23).

Read next: visit.py (one lease), app.py (the shell that fetches), link.py (the shell that sends).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from common import messages as m
from common.config import CrawlConfig
from common.errors import ProtocolError
from common.messages import LeaseId, LinkGroup, Phase, SessionId, lease_epoch, lease_shard
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, host_key, slot
from common.wire import unpack as unpack_wire
from worker.robots import NO_RULES, Rules, parse
from worker.sent import SentLinks
from worker.steps import (
    Abort,
    Arrived,
    Configure,
    Connect,
    Event,
    Exit,
    Fetched,
    Instruction,
    Leaving,
    Load,
    Post,
    Report,
    Rescoped,
    RobotsFetched,
    Woken,
)
from worker.visit import Refused, Visit, verdict_of

HELLO_AGAIN_AFTER = 1.0
"""Seconds between Hellos while nobody answers."""

SEND_AGAIN_AFTER = 5.0
"""Seconds until an unanswered message is sent again; doubles to MAX_SEND_AGAIN."""

MAX_SEND_AGAIN = 30.0

TAKEN_KEPT = 65_536
"""Lease ids remembered, so that a lease is taken once."""

NUMBERS_KEPT = 256
"""Control messages whose time of sending is remembered; older ones end a lease at once."""

ROBOTS_KEPT = 4096
"""Parsed robots.txt kept, by authority; as many as the shard believes."""

NOT_SENT_WAIT = 1.0
"""Seconds until a fetch that could not be sent for a reason of this machine is tried again."""

DRAIN_SECONDS = 5.0
"""How long fetches in flight may still take when the crawl pauses or stops."""

LANE_REQUESTS = 4
"""Requests that are lent for each lane: enough that a lane never waits for the next lease."""

MAX_REQUESTS = 65_000


@dataclass(slots=True)
class _Owed:
    """A message that has no answer yet."""

    shard: int
    message: m.Page | m.Links | m.Robots | m.Piece
    body: bytes
    due: float
    wait: float
    lease: int | None
    ordinal: int | None = None
    fingerprints: tuple[bytes, ...] = ()
    depth: int = 0
    pieces: tuple[bytes, ...] = ()


@dataclass(slots=True)
class _Waiting:
    """A page whose outlinks are on their way to other shards."""

    report: Report
    own: tuple[LinkGroup, ...]
    links: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Link:
    """What is known of one shard."""

    shard: int
    number: int = 0
    sent_at: OrderedDict[int, float] = field(default_factory=OrderedDict)
    listed: OrderedDict[int, tuple[LeaseId, ...]] = field(default_factory=OrderedDict)
    welcome: bool = False
    epoch: int = 0
    commits: int = 0
    next_hello: float = 0.0
    next_beat: float = 0.0
    phase: Phase = Phase.RUNNING
    phase_number: int = 0
    """The highest number of an Alive: a phase that an older one names is over."""
    welcomed: int = 0
    """The number of the Hello that the last Welcome answered."""
    releasing: dict[LeaseId, tuple[float, float | None]] = field(default_factory=dict)
    """Leases given back: when to say so again, and when their last fetch had ended."""


class Agent:
    """One worker process. `lanes`: its `--concurrency`, which the crawl's configuration may lower."""

    def __init__(
        self,
        session: bytes,
        *,
        replaces: Sequence[bytes],
        host: str,
        pid: int,
        index: int,
        local: bool,
        now: float,
        max_lanes: int,
    ) -> None:
        self._session = SessionId(session)
        self._replaces = tuple(SessionId(dead) for dead in replaces)
        self._host = host
        self._pid = pid
        self._index = index
        self._local = local
        self._max_lanes = max_lanes
        self._links = {0: _Link(0, next_hello=now)}
        self._crawl: bytes | None = None
        self._ttl = 30.0
        self._beat = 5.0
        self._slots = bytes(1024)
        self._config: CrawlConfig | None = None
        self._scope: Scope | None = None
        self.phase = Phase.RUNNING
        self.sent = SentLinks(16)
        self._visits: dict[int, Visit] = {}
        self._early: dict[int, m.Lease] = {}
        """Leases that wait for a newer scope."""
        self._taken: OrderedDict[int, None] = OrderedDict()
        self._robots: OrderedDict[str, tuple[int, Rules]] = OrderedDict()
        self._data_number = 0
        self._owed: dict[int, _Owed] = {}
        self._owed_bytes = 0
        self._owed_pages = 0
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._stalled: dict[int, None] = {}
        """Visits that could go on but for the bound on what is unanswered."""
        self._asked_robots: dict[int, RobotsFetched] = {}
        self._draining_since: float | None = None
        self._leaving = False
        self._gone = False
        self._load = Load(0, 0)
        self.fetched = 0
        self._out: list[Instruction] = []
        self._look_at = now
        """Nothing is due before; every new time is entered here, the next one is looked up when it has passed."""

    # --------------------------------------------------------------------------------------------------- entries

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take one event; carry out what comes back in its order."""
        match event:
            case Arrived(shard, message):
                self._arrived(self._links[shard], message, now)
            case Fetched():
                self._fetched(event, now)
            case RobotsFetched():
                self._robots_fetched(event, now)
            case Leaving():
                self._leaving = True
                self._drain(now)
                self._due(now)
            case Load():
                self._load = event
            case Woken():
                pass
        if now >= self._look_at or (self._leaving and not self._visits and not self._gone):
            self._keep_time(now)
        out, self._out = self._out, []
        return out

    def next_wakeup(self) -> float:
        """When to send Woken at the latest."""
        return self._look_at

    def may_write(self, lease: int, now: float) -> bool:
        """Asked after connecting, just before a request is written: does the lease still hold? (rule 8)"""
        visit = self._visits.get(lease)
        return visit is not None and now < visit.deadline

    def lower_lanes(self, lanes: int) -> None:
        """This process cannot have more fetches at once than this, whatever the crawl's concurrency."""
        self._max_lanes = lanes

    @property
    def in_flight(self) -> int:
        """Fetches under way."""
        return sum(len(visit.in_flight) for visit in self._visits.values())

    # ------------------------------------------------------------------------------------------------ from shards

    def _arrived(self, link: _Link, message: m.ToWorker, now: float) -> None:
        if message.session != self._session:
            return
        match message:
            case m.Welcome():
                self._welcome(link, message, now)
            case m.Denied():
                self._out.append(Exit(finished=False, reason=message.reason, again=not message.final))
            case m.Alive():
                self._alive(link, message, now)
            case m.Lease():
                self._take(link, message, now)
            case m.Rescope():
                self._rescope(message, now)
            case m.HelloAgain():
                # One for each message that was sent meanwhile; to answer each would be as many Welcomes, too.
                if link.welcome:
                    link.welcome = False
                    link.next_hello = self._due(now)
            case m.Answer():
                for number in message.accepted:
                    self._accepted(number, now)
                for number, reason in message.refused:
                    self._refused(number, reason, now)
                self._go_on(now)

    def _welcome(self, link: _Link, welcome: m.Welcome, now: float) -> None:
        if welcome.number <= link.welcomed:
            return  # of an older epoch, or a duplicate
        went_back = welcome.epoch < link.epoch or (
            welcome.epoch == link.epoch and welcome.store < link.commits
        )
        if (self._crawl is not None and welcome.crawl != self._crawl) or went_back:
            self._drop_everything()
            for other in self._links.values():
                other.epoch = other.commits = 0
                other.welcome, other.next_hello = False, self._due(now)
        known = self._crawl == welcome.crawl and self._config is not None
        link.welcomed = welcome.number
        link.welcome = True
        link.epoch, link.commits = welcome.epoch, welcome.store
        link.next_beat = self._due(now)
        self._crawl = welcome.crawl
        self._ttl, self._beat, self._slots = welcome.ttl, welcome.heartbeat, welcome.slots
        scope = Scope.from_wire(unpack_wire(welcome.scope))
        config = CrawlConfig.from_wire(unpack_wire(welcome.config))
        if not known or config != self._config or self._scope is None or scope.version != self._scope.version:
            if self._config is None or config.tuning.sent_links != self._config.tuning.sent_links:
                self.sent = SentLinks(config.tuning.sent_links)
            else:
                self.sent.clear()
            self._config, self._scope = config, scope
            self._out.append(Configure(config, scope, welcome.seed))
        for shard in range(welcome.shards):
            if shard not in self._links:
                self._links[shard] = _Link(shard, next_hello=now)
                self._out.append(Connect(shard))
        for owed in self._owed.values():
            if owed.shard == link.shard:
                owed.due, owed.wait = self._due(now), SEND_AGAIN_AFTER
        self._take_early(now)

    def _alive(self, link: _Link, alive: m.Alive, now: float) -> None:
        sent_at = link.sent_at.get(alive.number)
        if alive.epoch != link.epoch:
            if alive.epoch > link.epoch and link.welcome:
                # It knows our session from a Hello whose Welcome an older epoch's overtook.
                link.welcome, link.next_hello = False, self._due(now)
            return
        if sent_at is not None:
            gone = set(alive.unknown)
            for lease in link.listed.get(alive.number, ()):
                visit = self._visits.get(lease)
                if visit is not None and lease not in gone and now < visit.deadline:
                    visit.deadline = max(visit.deadline, sent_at + self._ttl)
        for lease in alive.unknown:
            self._drop(lease)
        for lease in alive.released:
            link.releasing.pop(lease, None)
        if not alive.number and alive.phase < Phase.STOPPING:
            # It may have been overtaken by another change of phase; the answer to a heartbeat says which holds.
            link.next_beat = self._due(now)
        elif alive.number >= link.phase_number or alive.phase >= Phase.STOPPING:
            # An end is final, so it is believed at once, in whatever order it comes.
            link.phase_number = max(link.phase_number, alive.number)
            link.phase = Phase(min(alive.phase, Phase.FINISHED))
            self._set_phase(max(each.phase for each in self._links.values()), now)
        if self._scope is not None and alive.scope_version > self._scope.version:
            link.welcome, link.next_hello = False, self._due(now)

    def _set_phase(self, phase: Phase, now: float) -> None:
        """The crawl runs when every shard says so: they hear of a new phase at different times."""
        self.phase = phase
        if phase is Phase.FINISHED:
            self._out.append(Exit(finished=True))
        elif phase is not Phase.RUNNING:
            self._drain(now)
        elif self._draining_since is not None and not self._leaving:
            self._draining_since = None
            self._beat_now(now)

    def _beat_now(self, now: float) -> None:
        """The credit has changed: say so at once."""
        for link in self._links.values():
            link.next_beat = self._due(now)

    def _take(self, link: _Link, lease: m.Lease, now: float) -> None:
        if lease.id in self._taken or lease_epoch(lease.id) != link.epoch or not link.welcome:
            return
        self._taken[lease.id] = None
        if len(self._taken) > TAKEN_KEPT:
            self._taken.popitem(last=False)
        sent_at = link.sent_at.get(lease.number)
        if sent_at is None or sent_at + self._ttl <= now:
            return
        if self._draining_since is not None:
            self._release(link, lease.id, None, now)
            return
        if self._scope is None or lease.scope_version > self._scope.version:
            self._early[lease.id] = lease
            if len(self._early) > TAKEN_KEPT:
                raise ProtocolError("more leases wait for a newer scope than a shard may lend")
            return
        self._begin(link, lease, sent_at + self._ttl, now)

    def _begin(self, link: _Link, lease: m.Lease, deadline: float, now: float) -> None:
        assert self._config is not None
        verdicts: dict[str, Rules | Outcome] = {}
        for known in lease.robots:
            verdict = verdict_of(known.verdict, self._rules(known))
            if verdict is not None:
                verdicts[known.authority] = verdict
        visit = Visit(
            lease,
            shard=link.shard,
            deadline=deadline,
            verdicts=verdicts,
            obey=self._config.obey_robots,
            now=now,
        )
        self._visits[lease.id] = visit
        self._due(deadline)
        self._advance(visit, now)

    def _rules(self, known: m.RobotsRules) -> Rules | None:
        """The parsed rules of an authority: from the lease, or as this process keeps them."""
        if known.verdict == "allow":
            return NO_RULES
        if known.body is not None:
            self._keep_rules(known.authority, known.version, known.body)
        kept = self._robots.get(known.authority)
        if kept is None or kept[0] != known.version:
            return None
        self._robots.move_to_end(known.authority)
        return kept[1]

    def _keep_rules(self, authority: str, version: int, body: bytes) -> Rules:
        assert self._config is not None
        rules = parse(body, self._config.robots_token)
        self._robots[authority] = (version, rules)
        self._robots.move_to_end(authority)
        if len(self._robots) > ROBOTS_KEPT * len(self._links):
            self._robots.popitem(last=False)
        return rules

    def _rescope(self, message: m.Rescope, now: float) -> None:
        if self._scope is None or self._config is None or message.scope_version <= self._scope.version:
            return
        self._scope = Scope.from_wire(unpack_wire(message.scope))
        self.sent.clear()
        self._out.append(Rescoped(self._scope))
        self._take_early(now)

    def _take_early(self, now: float) -> None:
        """The scope is another one now: look again at the leases that waited for it."""
        early, self._early = self._early, {}
        for lease in early.values():
            del self._taken[lease.id]
            link = self._links.get(lease_shard(lease.id))
            if link is not None:
                self._take(link, lease, now)

    # ------------------------------------------------------------------------------------------------- their answers

    def _accepted(self, number: int, now: float) -> None:
        owed = self._settle(number)
        if owed is None:
            return
        if isinstance(owed.message, m.Links):
            self._links_accepted(number, owed, now)
            return
        visit = self._visits.get(owed.lease) if owed.lease is not None else None
        if isinstance(owed.message, m.Page):
            for fingerprint in owed.fingerprints:
                self.sent.enter(fingerprint, owed.depth)
            if visit is not None and owed.ordinal is not None:
                visit.unanswered.discard(owed.ordinal)
                self._advance(visit, now)
        elif isinstance(owed.message, m.Robots):
            self._robots_known(number, visit, now)

    def _links_accepted(self, number: int, owed: _Owed, now: float) -> None:
        if owed.lease is None or owed.ordinal is None:
            return
        waiting = self._waiting.get((owed.lease, owed.ordinal))
        if waiting is None:
            return
        waiting.links.discard(number)
        if not waiting.links:
            del self._waiting[owed.lease, owed.ordinal]
            visit = self._visits.get(owed.lease)
            if visit is not None:
                self._send_page(visit, owed.ordinal, waiting.report, waiting.own, now)

    def _refused(self, number: int, reason: str, now: float) -> None:
        owed = self._owed.get(number)
        if owed is None:
            return
        if reason == "pieces":
            self._send_pieces(owed, now)
            return
        if isinstance(owed.message, m.Links):
            owed.due = self._due(now + SEND_AGAIN_AFTER)
            return
        self._settle(number)
        self._asked_robots.pop(number, None)
        if reason == "lease" and owed.lease is not None:
            self._drop(owed.lease)

    def _settle(self, number: int) -> _Owed | None:
        owed = self._owed.pop(number, None)
        if owed is not None and isinstance(owed.message, m.Page):
            self._owed_bytes -= _size(owed)
            self._owed_pages -= 1
        return owed

    # ------------------------------------------------------------------------------------------------ own results

    def _fetched(self, done: Fetched, now: float) -> None:
        visit = self._visits.get(done.lease)
        if visit is None or done.ordinal not in visit.in_flight:
            return
        if done.report is None:
            visit.not_sent(done.ordinal, done.ended + NOT_SENT_WAIT)
            self._advance(visit, now)
            return
        self.fetched += 1
        visit.landed(done.ordinal, done.ended)
        self._report(visit, done.ordinal, done.report, now)
        self._advance(visit, now)

    def _report(self, visit: Visit, ordinal: int, report: Report, now: float) -> None:
        own, foreign = self._by_owner(visit.shard, report.links)
        if not foreign:
            self._send_page(visit, ordinal, report, own, now)
            return
        waiting = _Waiting(report, own)
        self._waiting[visit.lease.id, ordinal] = waiting
        for shard, groups in foreign.items():
            self._data_number += 1
            waiting.links.add(self._data_number)
            owed = _Owed(
                shard,
                m.Links(self._data_number, self._session, tuple(groups)),
                b"",
                now + SEND_AGAIN_AFTER,
                SEND_AGAIN_AFTER,
                visit.lease.id,
                ordinal,
            )
            self._owe(self._data_number, owed)

    def _by_owner(
        self, shard: int, groups: Iterable[LinkGroup]
    ) -> tuple[tuple[LinkGroup, ...], dict[int, list[LinkGroup]]]:
        """Outlinks for the page's own shard, and those for others."""
        if len(self._links) == 1:
            return tuple(groups), {}
        own: list[LinkGroup] = []
        foreign: dict[int, list[LinkGroup]] = {}
        for group in groups:
            parts: dict[int, list[int]] = {}
            for position, url in enumerate(group.urls):
                parts.setdefault(self._slots[slot(host_key(CanonicalURL(url)))], []).append(position)
            for owner, positions in parts.items():
                part = group._replace(
                    urls=tuple(group.urls[position] for position in positions),
                    forms=group.forms and tuple(group.forms[position] for position in positions),
                )
                (own if owner == shard else foreign.setdefault(owner, [])).append(part)
        return tuple(own), foreign

    def _send_page(
        self,
        visit: Visit,
        ordinal: int,
        report: Report,
        own: tuple[LinkGroup, ...],
        now: float,
    ) -> None:
        pieces = _pieces(report.answered)
        answered = report.answered[len(pieces) * m.PIECE_BYTES :] if pieces else report.answered
        self._data_number += 1
        page = m.Page(
            number=self._data_number,
            session=self._session,
            lease=visit.lease.id,
            ordinal=ordinal,
            age=visit.age(now),
            retry_after=report.retry_after,
            facts=report.facts,
            links=own,
            refused=report.refused,
            head=report.head,
            split=len(report.asked),
            pieces=len(pieces),
            items=(),
        )
        owed = _Owed(
            visit.shard,
            page,
            report.asked + answered,
            now + SEND_AGAIN_AFTER,
            SEND_AGAIN_AFTER,
            visit.lease.id,
            ordinal,
            report.fingerprints,
            report.depth,
            pieces,
        )
        self._owed_pages += 1
        self._owed_bytes += _size(owed)
        if pieces:
            self._owed[self._data_number] = owed
            self._send_pieces(owed, now)
        else:
            self._owe(self._data_number, owed)

    def _send_pieces(self, owed: _Owed, now: float) -> None:
        """The pieces of a big page, then the page. Pieces are not kept as owed: a page that misses some says so."""
        page = owed.message
        assert isinstance(page, m.Page)
        owed.due = self._due(now + owed.wait)
        if not self._links[owed.shard].welcome:
            return
        for index, piece in enumerate(owed.pieces):
            self._data_number += 1
            message = m.Piece(self._data_number, self._session, page.lease, page.ordinal, index)
            self._out.append(Post(owed.shard, message, True, piece))
        self._out.append(Post(owed.shard, page, True, owed.body))

    def _owe(self, number: int, owed: _Owed) -> None:
        self._owed[number] = owed
        self._due(owed.due)
        if self._links[owed.shard].welcome:
            self._out.append(Post(owed.shard, owed.message, True, owed.body))

    def _robots_fetched(self, done: RobotsFetched, now: float) -> None:
        visit = self._visits.get(done.lease)
        if visit is None or visit.asking != done.authority:
            return
        if not done.sent:
            visit.asking = None
            self._wind_up(visit, now)
            return
        visit.robots_landed(done.ended)
        self._data_number += 1
        self._asked_robots[self._data_number] = done
        rules = parse(done.text, self._config.robots_token) if done.text and self._config else NO_RULES
        message = m.Robots(
            self._data_number,
            self._session,
            visit.lease.id,
            done.authority,
            done.verdict,
            done.status,
            done.error,
            rules.crawl_delay,
            done.text,
            visit.age(now),
            done.split,
        )
        owed = _Owed(
            visit.shard, message, done.record, now + SEND_AGAIN_AFTER, SEND_AGAIN_AFTER, visit.lease.id
        )
        self._owe(self._data_number, owed)

    def _robots_known(self, number: int, visit: Visit | None, now: float) -> None:
        """The shard has it: the visit goes on under its rules, or gives its lease back when there are none yet.

        A delay that robots.txt asks for is not in this lease's terms; so the lease is given back then as well, and
        comes again with the delay that the shard worked out.
        """
        done = self._asked_robots.pop(number)
        if visit is None or visit.asking != done.authority:
            return
        visit.asking = None
        if done.verdict not in ("rules", "allow"):
            self._wind_up(visit, now)
            return
        assert self._config is not None
        rules = NO_RULES if done.text is None else parse(done.text, self._config.robots_token)
        visit.verdicts[done.authority] = rules
        if rules.crawl_delay is not None and rules.crawl_delay > visit.lease.delay:
            self._wind_up(visit, now)
            return
        self._advance(visit, now)

    # ------------------------------------------------------------------------------------------------------- visits

    def _advance(self, visit: Visit, now: float) -> None:
        """Give out what a visit may begin, within the bound on what is unanswered."""
        if visit.lease.id not in self._visits:
            return
        if visit.done:
            del self._visits[visit.lease.id]
            self._stalled.pop(visit.lease.id, None)
            return
        if visit.draining and visit.resting and not visit.unanswered:
            self._give_back(visit, now)
            return
        room = self._room()
        if room <= 0:
            self._stalled[visit.lease.id] = None
            return
        for step in visit.next(now, room):
            if isinstance(step, Refused):
                self._report(visit, step.ordinal, Report(_no_fetch(step.outcome)), now)
            else:
                self._out.append(step)
        if visit.todo and visit.lanes and visit.asking is None and not visit.draining and not visit.in_flight:
            self._stalled[visit.lease.id] = None

    def _room(self) -> int:
        """How many more fetches may begin: a page each may come to be unanswered."""
        if self._config is None:
            return 0
        tuning = self._config.tuning
        pages = len(self._owed) + len(self._waiting)
        if not pages:
            return max(1, tuning.unacknowledged_pages)
        if self._owed_bytes >= tuning.unacknowledged_bytes:
            return 0
        return tuning.unacknowledged_pages - pages

    def _go_on(self, now: float) -> None:
        """Answers made room: visits that waited for it go on."""
        for lease in list(self._stalled):
            if self._room() <= 0:
                return
            del self._stalled[lease]
            visit = self._visits.get(lease)
            if visit is not None:
                self._advance(visit, now)

    def _drain(self, now: float) -> None:
        """Begin nothing new; fetches in flight may land, then everything is given back."""
        if self._draining_since is not None:
            return
        self._draining_since = now
        self._beat_now(now)
        for visit in list(self._visits.values()):
            visit.draining = True
            if visit.resting and not visit.unanswered:
                self._give_back(visit, now)
        for early in self._early.values():
            self._release(self._links[lease_shard(early.id)], early.id, None, now)
        self._early.clear()

    def _give_back(self, visit: Visit, now: float) -> None:
        """Release the lease; what of it has no result is queued again by the shard."""
        if not visit.resting:
            visit.last_end = now
        self._forget(visit.lease.id)
        self._release(self._links[visit.shard], visit.lease.id, visit.last_end, now)

    def _wind_up(self, visit: Visit, now: float) -> None:
        """Begin nothing more of this lease, and give it back when what it has landed is answered."""
        visit.draining = True
        self._advance(visit, now)

    def _release(self, link: _Link, lease: LeaseId, last_end: float | None, now: float) -> None:
        age = None if last_end is None else max(0.0, now - last_end)
        self._out.append(Post(link.shard, m.Release(self._number(link, now), self._session, lease, age)))
        link.releasing[lease] = (self._due(now + SEND_AGAIN_AFTER), last_end)

    def _drop(self, lease: int) -> None:
        """The shard no longer counts this lease as ours: break it off."""
        if lease in self._visits:
            self._out.append(Abort(lease))
            self._forget(lease)

    def _forget(self, lease: int) -> None:
        """Nothing of this lease is sent any more."""
        self._visits.pop(lease, None)
        self._stalled.pop(lease, None)
        for number in [number for number, owed in self._owed.items() if owed.lease == lease]:
            if not isinstance(self._owed[number].message, m.Links):
                self._settle(number)
                self._asked_robots.pop(number, None)
        for key in [key for key in self._waiting if key[0] == lease]:
            del self._waiting[key]

    def _drop_everything(self) -> None:
        """Another crawl, or a store that lost commits (rule 13)."""
        for lease in list(self._visits):
            self._drop(lease)
        self._owed.clear()
        self._owed_bytes = self._owed_pages = 0
        self._waiting.clear()
        self._asked_robots.clear()
        self._robots.clear()
        for link in self._links.values():
            link.releasing.clear()
        self._early.clear()
        self._taken.clear()
        self.sent.clear()

    # --------------------------------------------------------------------------------------------------------- time

    def _keep_time(self, now: float) -> None:
        self._look_at = now
        for visit in [visit for visit in self._visits.values() if visit.deadline <= now]:
            self._out.append(Abort(visit.lease.id))
            self._forget(visit.lease.id)
        for link in self._links.values():
            if not link.welcome:
                if link.next_hello <= now:
                    self._hello(link, now)
                continue
            if link.next_beat <= now:
                self._heartbeat(link, now)
            for lease, (due, last_end) in list(link.releasing.items()):
                if due <= now:
                    self._release(link, lease, last_end, now)
        for owed in self._owed.values():
            if owed.due <= now:
                self._send_again(owed, now)
        if self._draining_since is not None:
            self._end_drain(now)
        self._look_at = self._next_time()

    def _next_time(self) -> float:
        """The earliest time at which something is due. Cost: all that is held is looked at."""
        times = [link.next_beat if link.welcome else link.next_hello for link in self._links.values()]
        times += [visit.deadline for visit in self._visits.values()]
        times += [owed.due for owed in self._owed.values()]
        times += [due for link in self._links.values() if link.welcome for due, _ in link.releasing.values()]
        if self._draining_since is not None and self._visits:
            times.append(self._draining_since + DRAIN_SECONDS)
        return min(times)

    def _due(self, time: float) -> float:
        """Enter a time at which something is due."""
        if time < self._look_at:
            self._look_at = time
        return time

    def _send_again(self, owed: _Owed, now: float) -> None:
        owed.wait = min(owed.wait * 2, MAX_SEND_AGAIN)
        owed.due = now + owed.wait
        if self._links[owed.shard].welcome:
            self._out.append(Post(owed.shard, owed.message, True, owed.body))

    def _end_drain(self, now: float) -> None:
        """When all has landed, or took too long."""
        if self._draining_since is not None and now >= self._draining_since + DRAIN_SECONDS:
            for visit in list(self._visits.values()):
                self._out.append(Abort(visit.lease.id))
                self._give_back(visit, now)
        if self._leaving and not self._visits and not self._gone:
            self._gone = True
            for link in self._links.values():
                # Not welcome yet does not mean that our Hello has not come.
                number = self._number(link, now)
                self._out.append(Post(link.shard, m.Goodbye(number, self._session, ())))
            self._out.append(Exit(finished=False))

    def _hello(self, link: _Link, now: float) -> None:
        link.next_hello = now + HELLO_AGAIN_AFTER
        number = self._number(link, now)
        held = tuple(LeaseId(visit.lease.id) for visit in self._visits.values() if visit.shard == link.shard)
        self._out.append(
            Post(
                link.shard,
                m.Hello(
                    number,
                    m.VERSION,
                    self._session,
                    () if link.welcomed else self._replaces,
                    self._host,
                    self._pid,
                    self._index,
                    self._local,
                    held,
                ),
            )
        )

    def _heartbeat(self, link: _Link, now: float) -> None:
        link.next_beat = now + self._beat
        number = self._number(link, now)
        held = tuple(LeaseId(visit.lease.id) for visit in self._visits.values() if visit.shard == link.shard)
        link.listed[number] = held
        while len(link.listed) > 16:
            link.listed.popitem(last=False)
        lanes, requests = self._credit()
        self._out.append(
            Post(
                link.shard,
                m.Heartbeat(
                    number,
                    self._session,
                    link.epoch,
                    held,
                    lanes,
                    requests,
                    self.in_flight,
                    self._load.held_bytes,
                    self.fetched,
                    self._load.lag_ms,
                ),
            )
        )

    def _credit(self) -> tuple[int, int]:
        """(lanes, requests) that one shard may have lent to this process (rule 23)."""
        if self._config is None or self._draining_since is not None:
            return 0, 0
        lanes = max(1, min(self._config.concurrency, self._max_lanes) // len(self._links))
        return lanes, min(lanes * LANE_REQUESTS + 64, MAX_REQUESTS)

    def _number(self, link: _Link, now: float) -> int:
        link.number += 1
        link.sent_at[link.number] = now
        if len(link.sent_at) > NUMBERS_KEPT:
            link.sent_at.popitem(last=False)
        return link.number


def _size(owed: _Owed) -> int:
    return len(owed.body) + sum(map(len, owed.pieces))


def _pieces(record: bytes) -> tuple[bytes, ...]:
    """Full pieces of a record, leaving a last part of less than two pieces."""
    if len(record) <= m.PIECE_BYTES:
        return ()
    count = (len(record) - 1) // m.PIECE_BYTES
    return tuple(record[index * m.PIECE_BYTES : (index + 1) * m.PIECE_BYTES] for index in range(count))


def _no_fetch(outcome: Outcome) -> m.Facts:
    return m.Facts(outcome.code, reason="robots")
