"""The worker's agent: what one worker process does with its leases, and what it still owes the shards.

Pure: `handle(event, now)` returns instructions; no socket, no clock (`now` is CLOCK_BOOTTIME seconds), no await. It
takes leases, paces their visits, gives out fetches, holds every page until its outlinks are acknowledged by the
shards that own them and then until the page itself is (PROTOCOL rule 1), sends again what is not answered, renews
what it holds, and stops by its own clock when a lease runs out (rules 6 to 8).

What is owed for a page goes links sent -> links answered -> page sent -> page answered; the outlinks of the page's
own shard ride in the page, unless they are too many. When this machine's own network seems to be down, nothing is
counted: its leases go back until a probe finds the network again.

Invariants: a lease is taken once; a page is sent only after its links were accepted; no fetch begins while
`unacknowledged_pages` or `unacknowledged_bytes` are held unanswered, so what is held is at most that and what was in
flight (rule 23). Every time at which something is due is entered with `_due`.

Parts, each with state of its own: visit.py (one lease), chase.py (a robots.txt that leads on), owed.py (messages
without an answer), outlinks.py (whose they are), shards.py (a shard as seen from here), suspicion.py (whose fault a
failure is), rulebook.py (robots rules by version). Shells: app.py (fetches), link.py (sends).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from common import messages as m
from common.config import CrawlConfig
from common.errors import ProtocolError
from common.messages import LeaseId, LinkGroup, Phase, SessionId, lease_epoch, lease_shard
from common.outcome import Outcome
from common.scope import Scope
from common.url import CanonicalURL, HostKey, host_key, slot
from common.wire import unpack as unpack_wire
from worker import outlinks
from worker.chase import Chase, Chases
from worker.owed import SEND_AGAIN_AFTER, Debts, Owed
from worker.robots import MAX_REDIRECTS, NO_RULES, Rules, parse
from worker.rulebook import Rulebook, sitemaps
from worker.sent import SentLinks
from worker.shards import Identity, ShardLink
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
    Probe,
    Probed,
    Report,
    Rescoped,
    RobotsFetched,
    Woken,
)
from worker.suspicion import ROBOTS_ANSWERS, Standing, Suspicion, is_answer
from worker.visit import Refused, Visit

HELLO_AGAIN_AFTER = 1.0
"""Seconds between Hellos while nobody answers."""

TAKEN_KEPT = 65_536
"""Lease ids remembered, so that a lease is taken once."""

NOT_SENT_WAIT = 1.0
"""Seconds until a fetch that could not be sent for a reason of this machine is tried again."""

SELF_REDIRECT_TTLS = 5
"""Lease times within which a request is fetched again; the shard takes back what brings no result in ten."""

DRAIN_SECONDS = 5.0
"""How long fetches in flight may still take when the crawl pauses or stops."""

LANE_REQUESTS = 4
"""Requests that are lent for each lane: enough that a lane never waits for the next lease."""

MAX_REQUESTS = 65_000


class Agent:
    """One worker process. `lanes`: its `--concurrency`, which the crawl's configuration may lower."""

    def __init__(
        self,
        session: bytes,
        *,
        replaces: Sequence[bytes],
        suspects: Sequence[tuple[bytes, int, int]] = (),
        host: str,
        pid: int,
        index: int,
        local: bool,
        now: float,
        max_lanes: int,
    ) -> None:
        self._session = SessionId(session)
        self._identity = Identity(
            self._session,
            tuple(SessionId(dead) for dead in replaces),
            tuple((SessionId(dead), LeaseId(lease), ordinal) for dead, lease, ordinal in suspects),
            host,
            pid,
            index,
            local,
        )
        self._max_lanes = max_lanes
        self._links = {0: ShardLink(0, next_hello=now)}
        self._crawl: bytes | None = None
        self._ttl = 30.0
        self._beat = 5.0
        self._slots = bytes(1024)
        self._config: CrawlConfig | None = None
        self._scope: Scope | None = None
        self._seed = 0
        self.phase = Phase.RUNNING
        self.sent = SentLinks(16)
        self._visits: dict[int, Visit] = {}
        self._early: dict[int, m.Lease] = {}
        """Leases that wait for a newer scope."""
        self._taken: OrderedDict[int, None] = OrderedDict()
        self._rulebook = Rulebook()
        self._chases = Chases()
        self._asked_robots: dict[int, tuple[RobotsFetched, Rules]] = {}
        self._out: list[Instruction] = []
        self._owed = Debts(self._session, self._links, self._out)
        self._stalled: dict[int, None] = {}
        """Visits that could go on but for the bound on what is unanswered."""
        self._suspicion: Suspicion[Fetched | RobotsFetched] = Suspicion()
        self._draining_since: float | None = None
        self._leaving = False
        self._gone = False
        self._load = Load(0, 0)
        self.fetched = 0
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
            case Probed(works):
                self._probed(works, now)
            case Woken():
                pass
        if now >= self._look_at or (self._leaving and not self._visits and not self._gone):
            self._keep_time(now)
        out = self._out.copy()
        self._out.clear()
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

    def _arrived(self, link: ShardLink, message: m.ToWorker, now: float) -> None:
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
            case m.Reconfigure():
                self._reconfigure(message, now)
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

    def _welcome(self, link: ShardLink, welcome: m.Welcome, now: float) -> None:
        if welcome.number <= link.welcomed:
            return  # of an older epoch, or a duplicate
        went_back = welcome.epoch < link.epoch or (
            welcome.epoch == link.epoch and welcome.store < link.commits
        )
        if (self._crawl is not None and welcome.crawl != self._crawl) or went_back:
            self._drop_everything(now)
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
            self._scope, self._seed = scope, welcome.seed
            self._configure(config)
        for shard in range(welcome.shards):
            if shard not in self._links:
                self._links[shard] = ShardLink(shard, next_hello=now)
                self._out.append(Connect(shard))
        for owed in self._owed:
            if owed.shard == link.shard:
                owed.due, owed.wait = self._due(now), SEND_AGAIN_AFTER
        self._chases.ask_again(self._due(now))
        self._take_early(now)

    def _configure(self, config: CrawlConfig) -> None:
        """From now on this is the configuration; what has begun keeps its terms."""
        assert self._scope is not None
        if self._config is not None and config.robots_token != self._config.robots_token:
            self._rulebook.clear()
        self._config = config
        self._out.append(Configure(config, self._scope, self._seed))

    def _reconfigure(self, message: m.Reconfigure, now: float) -> None:
        """The configuration has changed while the crawl runs. Before the first Welcome: that one will have it."""
        if self._config is None:
            return
        config = CrawlConfig.from_wire(unpack_wire(message.config))
        if config != self._config:
            self._configure(config)
            self._beat_now(now)
            self._go_on(now)

    def _alive(self, link: ShardLink, alive: m.Alive, now: float) -> None:
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
            self._drop(lease, now)
        for lease in alive.released:
            link.releasing.pop(lease, None)
        for lease in alive.recalled:
            self._recall(link, lease, now)
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

    def _take(self, link: ShardLink, lease: m.Lease, now: float) -> None:
        if lease.id in self._taken or lease_epoch(lease.id) != link.epoch or not link.welcome:
            return
        self._taken[lease.id] = None
        if len(self._taken) > TAKEN_KEPT:
            self._taken.popitem(last=False)
        sent_at = link.sent_at.get(lease.number)
        if sent_at is None or sent_at + self._ttl <= now:
            return
        if self._draining_since is not None or self._suspicion.standing is Standing.OFFLINE:
            self._release(link, lease.id, None, now)
            return
        if self._scope is None or lease.scope_version > self._scope.version:
            self._early[lease.id] = lease
            if len(self._early) > TAKEN_KEPT:
                raise ProtocolError("more leases wait for a newer scope than a shard may lend")
            return
        self._begin(link, lease, sent_at + self._ttl, now)

    def _begin(self, link: ShardLink, lease: m.Lease, deadline: float, now: float) -> None:
        config = self._config
        assert config is not None
        visit = Visit(
            lease,
            shard=link.shard,
            deadline=deadline,
            verdicts=self._rulebook.verdicts(lease.robots, config.robots_token, len(self._links)),
            obey=config.obey_robots,
            now=now,
            jitter=config.jitter,
            with_cookies=config.cookies,
        )
        self._due(deadline)
        if visit.is_permit:
            self._permitted(link, visit, now)
            return
        self._visits[lease.id] = visit
        self._advance(visit, now)

    def _recall(self, link: ShardLink, lease: LeaseId, now: float) -> None:
        """Its terms have changed: nothing more of it is begun, and it goes back. Not held: nothing to do."""
        visit = self._visits.get(lease)
        if visit is not None and not visit.is_permit:
            self._wind_up(visit, now)
        elif self._early.pop(lease, None) is not None:
            self._release(link, lease, None, now)

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
        owed = self._owed.settle(number)
        if owed is None:
            return
        if isinstance(owed.message, m.Links):
            self._links_accepted(number, owed, now)
            return
        visit = self._visits.get(owed.lease)
        if isinstance(owed.message, m.Page):
            self.sent.enter_all(owed.fingerprints, owed.depth)
            if visit is not None and owed.ordinal is not None:
                visit.unanswered.discard(owed.ordinal)
                self._advance(visit, now)
        else:
            self._robots_known(number, visit, now)

    def _links_accepted(self, number: int, owed: Owed, now: float) -> None:
        waiting = self._owed.links_answered(number, owed)
        visit = self._visits.get(owed.lease)
        if waiting is not None and visit is not None and owed.ordinal is not None:
            self._send_page(visit, owed.ordinal, waiting.report, waiting.own, now)

    def _refused(self, number: int, reason: str, now: float) -> None:
        owed = self._owed.get(number)
        if owed is None:
            return
        if reason == "pieces":
            self._due(self._owed.send_pieces(owed, now))
            return
        if isinstance(owed.message, m.Links):
            owed.due = self._due(now + SEND_AGAIN_AFTER)
            return
        self._owed.settle(number)
        self._asked_robots.pop(number, None)
        if reason == "lease":
            self._drop(owed.lease, now)

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
        if done.report.network:
            held = self._suspicion.failed(visit.lease.host, done, self._visited, now)
            self._doubt(now)
        else:
            held = False
            if self._suspicion.alert and is_answer(done.report.facts):
                self._stand(self._suspicion.answered(), now)
        if not held:
            self._came(visit, done.ordinal, done.report, now)
        self._advance(visit, now)

    def _came(self, visit: Visit, ordinal: int, report: Report, now: float) -> None:
        """A fetch has its report, and it stands."""
        if report.cookies is not None:
            visit.keep_cookies(report.cookies)
        if report.again:
            if visit.fetch_again(ordinal, now, SELF_REDIRECT_TTLS * self._ttl):
                return
            report = replace(report, facts=_to_itself(report.facts))
        self._report(visit, ordinal, report, now)

    def _report(self, visit: Visit, ordinal: int, report: Report, now: float) -> None:
        own: outlinks.Groups = report.links
        foreign: dict[int, list[LinkGroup]] = {}
        if len(self._links) > 1:
            own, foreign = outlinks.by_owner(own, self._slots, visit.shard)
        if not foreign and not outlinks.is_large(own):
            self._send_page(visit, ordinal, report, own, now)
        else:
            self._due(self._owed.send_links(visit, ordinal, report, own, foreign, now))

    def _send_page(
        self, visit: Visit, ordinal: int, report: Report, own: tuple[LinkGroup, ...], now: float
    ) -> None:
        self._due(self._owed.send_page(visit, ordinal, report, own, now))

    # ------------------------------------------------------------------------------------------------- robots.txt

    def _robots_fetched(self, done: RobotsFetched, now: float) -> None:
        """A hop is over: the lane it took is free after the delay, and a permit goes back unless it leads on there."""
        visit = self._visits.get(done.lease)
        if visit is None or visit.asking != done.authority:
            return
        chase = self._chases.get(done.lease)
        permit = None if chase is None or chase.permit is None else self._visits[chase.permit]
        if done.verdict == "follow" and (done.target is None or done.hops >= MAX_REDIRECTS):
            done = replace(done, verdict="allow")  # as if it were absent (RFC 9309, 2.3.1.2)
        if not done.sent:
            if permit is not None:
                self._end_permit(permit, now)
            self._give_up_asking(visit, now)
            return
        (permit or visit).robots_landed(done.ended, done.hops)
        if permit is not None and (done.target is None or host_key(done.target) != permit.lease.host):
            self._end_permit(permit, now)
        held = False
        if done.network:
            host = host_key(CanonicalURL(done.url))
            held = self._suspicion.failed(host, done, self._visited, now)
            self._doubt(now)
        elif self._suspicion.alert and (done.status is not None or done.verdict in ROBOTS_ANSWERS):
            self._stand(self._suspicion.answered(), now)
        if not held:
            self._robots_came(visit, done, now)

    def _robots_came(self, visit: Visit, done: RobotsFetched, now: float) -> None:
        """A hop has its answer: on to the next, or tell the shard."""
        chase = self._chases.get(done.lease)
        if done.verdict == "follow":
            assert done.target is not None
            if chase is None:
                chase = self._chases.begin(done.lease, done.authority, done.ip, done.target)
            chase.keep(done.record)
            chase.url, chase.hops = done.target, done.hops + 1
            self._follow(visit, chase, now)
            return
        if chase is not None:
            done = chase.came_to(done)
            self._chases.forget(done.lease)
        self._tell_robots(visit, done, now)

    def _follow(self, visit: Visit, chase: Chase, now: float) -> None:
        """The next hop: within the host in the visit's own lane, elsewhere under a permit."""
        host = host_key(chase.url)
        permit = None if chase.permit is None else self._visits[chase.permit]
        if visit.draining:
            if permit is not None:
                self._end_permit(permit, now)
            self._give_up_asking(visit, now)
        elif host == visit.lease.host:
            self._out.append(visit.hop(visit.lease.id, chase.authority, chase.url, chase.hops, now))
        elif permit is not None:
            self._out.append(permit.hop(visit.lease.id, chase.authority, chase.url, chase.hops, now))
        else:
            wanted = self._chases.want(chase, now)
            if wanted is not None:
                self._want(wanted, now)
            self._due(now + SEND_AGAIN_AFTER)

    def _want(self, host: HostKey, now: float) -> None:
        link = self._links[self._slots[slot(host)]]
        if link.welcome:
            self._out.append(Post(link.shard, m.Want(link.next_number(now), self._session, host)))

    def _permitted(self, link: ShardLink, permit: Visit, now: float) -> None:
        """A permit came: the hop that waited for it begins. Nobody waits any more: it goes back."""
        host = HostKey(permit.lease.host)
        chase = self._chases.serve(host, permit.lease.id)
        if chase is None:
            self._release(link, permit.lease.id, None, now)
            return
        self._visits[permit.lease.id] = permit
        self._out.append(permit.hop(chase.lease, chase.authority, chase.url, chase.hops, now))
        if self._chases.is_wanted(host, self._due(now + SEND_AGAIN_AFTER)):
            self._want(host, now)

    def _end_permit(self, permit: Visit, now: float) -> None:
        """Give a permit back; its last fetch is over."""
        permit.asking = None
        self._give_back(permit, now)

    def _give_up_asking(self, visit: Visit, now: float) -> None:
        """Its robots.txt did not come for a reason that is not the host's: the lease goes back, to be lent again."""
        visit.asking = None
        self._chases.forget(visit.lease.id)
        self._wind_up(visit, now)

    def _no_permit(self, chase: Chase, now: float) -> None:
        visit = self._visits[chase.lease]
        self._chases.forget(chase.lease)
        self._tell_robots(visit, chase.unreachable(now), now)

    def _tell_robots(self, visit: Visit, done: RobotsFetched, now: float) -> None:
        assert self._config is not None
        rules = parse(done.text, self._config.robots_token) if done.text else NO_RULES
        found = sitemaps(done.authority, rules, self._config)
        self._asked_robots[self._owed.next_number] = done, rules
        self._due(self._owed.send_robots(visit, done, rules.crawl_delay, found, now))

    def _robots_known(self, number: int, visit: Visit | None, now: float) -> None:
        """The shard has it: the visit goes on under its rules, or gives its lease back when there are none yet.

        A delay that robots.txt asks for is not in this lease's terms; so the lease is given back then as well, and
        comes again with the delay that the shard worked out.
        """
        done, rules = self._asked_robots.pop(number)
        if visit is None or visit.asking != done.authority:
            return
        visit.asking = None
        if done.verdict not in ("rules", "allow"):
            self._wind_up(visit, now)
            return
        visit.verdicts[done.authority] = rules
        if rules.crawl_delay is not None and rules.crawl_delay > visit.lease.delay:
            self._wind_up(visit, now)
            return
        self._advance(visit, now)

    # ---------------------------------------------------------------------------------------------- whose fault it is

    def _visited(self) -> set[str]:
        """The hosts that this process visits."""
        return {visit.lease.host for visit in self._visits.values()}

    def _doubt(self, now: float) -> None:
        """A failure may be this machine's own: probe, if enough of them are."""
        if self._suspicion.probe_due(now):
            self._out.append(Probe())
        self._due(self._suspicion.next_time())

    def _stand(self, results: Sequence[Fetched | RobotsFetched], now: float) -> None:
        """Failures that were held back were the hosts' own."""
        if not results:
            return
        for done in results:
            visit = self._visits.get(done.lease)
            if visit is None:
                continue
            if isinstance(done, RobotsFetched):
                if visit.asking == done.authority:
                    self._robots_came(visit, done, now)
            elif done.ordinal in visit.unanswered and done.report is not None:
                self._came(visit, done.ordinal, done.report, now)
                self._advance(visit, now)
        self._go_on(now)

    def _probed(self, works: bool, now: float) -> None:
        was = self._suspicion.standing
        self._stand(self._suspicion.probed(works, now), now)
        standing = self._suspicion.standing
        self._doubt(now)
        if standing is Standing.OFFLINE and was is not Standing.OFFLINE:
            self._go_offline(now)
        if (standing is Standing.OFFLINE) is not (was is Standing.OFFLINE):
            self._beat_now(now)

    def _go_offline(self, now: float) -> None:
        """This machine's network is down: no try counts, and everything goes back as soon as it may.

        What has landed before is still told first: the shards may be on this side of the trouble.
        """
        self._uphold()
        for visit in list(self._visits.values()):
            if visit.lease.id not in self._visits:
                continue  # a permit, given back with the visit it was for
            self._out.append(Abort(visit.lease.id))
            self._stop_chase(visit, now)
            visit.cut_off(now)
            if visit.is_permit:
                self._end_permit(visit, now)
            else:
                self._wind_up(visit, now)
        self._release_early(now)

    def _uphold(self) -> None:
        """Nothing that is held back counts: its requests are still to do."""
        for done in self._suspicion.drop_held():
            visit = self._visits.get(done.lease)
            if visit is None:
                continue
            if isinstance(done, RobotsFetched):
                if visit.asking == done.authority:
                    visit.asking = None
                    self._chases.forget(done.lease)
            elif done.ordinal in visit.unanswered:
                visit.undo(done.ordinal)

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
        if self._suspicion.standing is not Standing.WATCHING:
            return 0
        tuning = self._config.tuning
        pages = len(self._owed) + len(self._suspicion)
        if not pages:
            return max(1, tuning.unacknowledged_pages)
        if self._owed.bytes >= tuning.unacknowledged_bytes:
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
        self._uphold()
        for visit in list(self._visits.values()):
            if not visit.is_permit:
                self._wind_up(visit, now)
        self._release_early(now)

    def _release_early(self, now: float) -> None:
        """Give back what waits for a newer scope."""
        for early in self._early.values():
            self._release(self._links[lease_shard(early.id)], early.id, None, now)
        self._early.clear()

    def _give_back(self, visit: Visit, now: float) -> None:
        """Release the lease; what of it has no result is queued again by the shard."""
        if not visit.resting:
            visit.last_end = now
        self._forget(visit.lease.id, now)
        self._release(self._links[visit.shard], visit.lease.id, visit.last_end, now)

    def _wind_up(self, visit: Visit, now: float) -> None:
        """Begin nothing more of this lease, and give it back when what it has landed is answered."""
        visit.draining = True
        if self._chases.waits(visit.lease.id):
            visit.asking = None
            self._chases.forget(visit.lease.id)
        self._advance(visit, now)

    def _release(self, link: ShardLink, lease: LeaseId, last_end: float | None, now: float) -> None:
        age = None if last_end is None else max(0.0, now - last_end)
        self._out.append(Post(link.shard, m.Release(link.next_number(now), self._session, lease, age)))
        link.releasing[lease] = (self._due(now + SEND_AGAIN_AFTER), last_end)

    def _drop(self, lease: int, now: float) -> None:
        """The lease is not ours any more, by the shard's word or by our clock: break it off."""
        if lease in self._visits:
            self._out.append(Abort(lease))
            self._forget(lease, now)

    def _forget(self, lease: int, now: float) -> None:
        """Nothing of this lease is sent any more. A permit goes back with the visit it is for; without its permit, a
        visit gives up its robots.txt."""
        visit = self._visits.pop(lease)
        self._stalled.pop(lease, None)
        if visit.is_permit:
            chase = self._chases.permit_over(lease)
            if chase is not None and visit.asking is not None:
                self._give_up_asking(self._visits[chase.lease], now)
            return
        for number in [number for number, (done, _) in self._asked_robots.items() if done.lease == lease]:
            del self._asked_robots[number]
        self._owed.forget(lease)
        self._stop_chase(visit, now)

    def _stop_chase(self, visit: Visit, now: float) -> None:
        """A visit ends while its robots.txt leads elsewhere: what is under way there is broken off."""
        permit = self._chases.forget(visit.lease.id)
        if permit is not None:
            self._out.append(Abort(permit))
            self._visits[permit].cut_off(now)
            self._give_back(self._visits[permit], now)

    def _drop_everything(self, now: float) -> None:
        """Another crawl, or a store that lost commits (rule 13)."""
        self._chases.clear()
        for lease in list(self._visits):
            self._drop(lease, now)
        self._owed.clear()
        self._asked_robots.clear()
        self._rulebook.clear()
        self._suspicion.drop_held()
        for link in self._links.values():
            link.releasing.clear()
        self._early.clear()
        self._taken.clear()
        self.sent.clear()

    # --------------------------------------------------------------------------------------------------------- time

    def _keep_time(self, now: float) -> None:
        self._look_at = now
        for visit in [visit for visit in self._visits.values() if visit.deadline <= now]:
            self._drop(visit.lease.id, now)
        for chase in self._chases.given_up(now):
            self._no_permit(chase, now)
        for host in self._chases.to_ask(now):
            self._want(host, now)
        self._stand(self._suspicion.overdue(now), now)
        self._doubt(now)
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
        for owed in self._owed:
            if owed.due <= now:
                self._send_again(owed, now)
        if self._draining_since is not None:
            self._end_drain(now)
        self._look_at = self._next_time()

    def _next_time(self) -> float:
        """The earliest time at which something is due. Cost: all that is held is looked at."""
        times = [link.next_beat if link.welcome else link.next_hello for link in self._links.values()]
        times += [visit.deadline for visit in self._visits.values()]
        times += [owed.due for owed in self._owed]
        times += self._chases.times()
        times.append(self._suspicion.next_time())
        times += [due for link in self._links.values() if link.welcome for due, _ in link.releasing.values()]
        if self._draining_since is not None and self._visits:
            times.append(self._draining_since + DRAIN_SECONDS)
        return min(times)

    def _due(self, time: float) -> float:
        """Enter a time at which something is due."""
        if time < self._look_at:
            self._look_at = time
        return time

    def _send_again(self, owed: Owed, now: float) -> None:
        self._owed.send_again(owed, now)

    def _end_drain(self, now: float) -> None:
        """When all has landed, or took too long."""
        if self._draining_since is not None and now >= self._draining_since + DRAIN_SECONDS:
            for visit in list(self._visits.values()):
                if visit.lease.id in self._visits:  # a permit may have gone back with the visit it was for
                    self._out.append(Abort(visit.lease.id))
                    self._give_back(visit, now)
        if self._leaving and not self._visits and not self._gone:
            self._gone = True
            for link in self._links.values():
                # Not welcome yet does not mean that our Hello has not come.
                number = link.next_number(now)
                self._out.append(Post(link.shard, m.Goodbye(number, self._session, ())))
            self._out.append(Exit(finished=False))

    def _hello(self, link: ShardLink, now: float) -> None:
        link.next_hello = now + HELLO_AGAIN_AFTER
        self._out.append(Post(link.shard, self._identity.hello(link, self._held(link), now)))

    def _heartbeat(self, link: ShardLink, now: float) -> None:
        link.next_beat = now + self._beat
        offline = self._suspicion.standing is Standing.OFFLINE
        beat = m.Heartbeat(
            link.next_number(now),
            self._session,
            link.epoch,
            self._held(link),
            *self._credit(),
            self.in_flight,
            self._load.held_bytes,
            self.fetched,
            self._load.lag_ms,
            offline,
            min(self._load.cpu_percent, 65_535),
            self._load.rss,
        )
        link.list(beat.number, beat.leases)
        self._out.append(Post(link.shard, beat))

    def _held(self, link: ShardLink) -> tuple[LeaseId, ...]:
        return tuple(visit.lease.id for visit in self._visits.values() if visit.shard == link.shard)

    def _credit(self) -> tuple[int, int]:
        """(lanes, requests) that one shard may have lent to this process (rule 23)."""
        offline = self._suspicion.standing is Standing.OFFLINE
        if self._config is None or self._draining_since is not None or offline:
            return 0, 0
        lanes = max(1, min(self._config.concurrency, self._max_lanes) // len(self._links))
        return lanes, min(lanes * LANE_REQUESTS + 64, MAX_REQUESTS)


def _no_fetch(outcome: Outcome) -> m.Facts:
    return m.Facts(outcome.code, reason="robots")


def _to_itself(facts: m.Facts) -> m.Facts:
    """A page that was redirected to itself once too often."""
    return facts._replace(
        outcome=Outcome.TOO_MANY_REDIRECTS.code,
        reason="self",
        error="it redirects to itself, again and again",
    )
