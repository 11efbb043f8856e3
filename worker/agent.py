"""The worker's agent: what one worker process does with its leases, and what it still owes the shards.

Pure: `handle(event, now)` returns instructions; no socket, no clock (`now` is CLOCK_BOOTTIME seconds), no await. It
takes leases, paces their visits, gives out fetches, holds every page until its outlinks are acknowledged by the
shards that own them and then until the page itself is (PROTOCOL rule 1), sends again what is not answered, renews
what it holds, and stops by its own clock when a lease runs out (rules 6 to 8).

This file talks with the shards: greeting, taking leases and renewing them, pausing, leaving, the clock of it all.
What is done with a lease that is held is in visits.py, its lower half. What is owed for a page goes
links sent -> links answered -> page sent -> page answered; the outlinks of the page's own shard ride in the page,
unless they are too many. When this machine's own network seems to be down, nothing is counted: its leases go back,
and none are taken until a probe finds the network again.

Invariants: a lease is taken once; a page is sent only after its links were accepted; no fetch begins while
`unacknowledged_pages` or `unacknowledged_bytes` are held unanswered, so what is held is at most that and what was in
flight (rule 23). Every time at which something is due is entered with `_due`.

Read next: visits.py, visit.py (one lease), shards.py (a shard as seen from here). Shells: app.py, link.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from common import messages as m
from common.config import CrawlConfig
from common.configwire import config_from_wire
from common.errors import ProtocolError
from common.messages import LeaseId, Phase, SessionId, lease_epoch, lease_name, lease_shard
from common.scope import Scope
from common.url import SLOTS, has_canonical_shape
from common.wire import unpack as unpack_wire
from worker.owed import SEND_AGAIN_AFTER
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
    PieceCame,
    Post,
    Probed,
    Rescoped,
    RobotsFetched,
    Woken,
)
from worker.suspicion import Standing
from worker.visits import Visits

HELLO_AGAIN_AFTER = 1.0
"""Seconds between Hellos while nobody answers."""

MIN_HEARTBEAT = 0.01
"""Seconds; what a coordinator may ask for at the least."""

MAX_SENT_LINKS = 1 << 26
"""Links that a process can be told to remember: a gibibyte of them."""

TAKEN_KEPT = 65_536
"""Lease ids remembered, so that a lease is taken once."""

DRAIN_SECONDS = 5.0
"""How long fetches in flight may still take when the crawl pauses or stops."""

LANE_REQUESTS = 4
"""Requests that are lent for each lane: enough that a lane never waits for the next lease."""

MAX_REQUESTS = 65_000


class Agent(Visits):
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
        super().__init__(SessionId(session), now)
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
        self._crawl: bytes | None = None
        self._beat = 5.0
        self._scope: Scope | None = None
        self._seed = 0
        self.phase = Phase.RUNNING
        self._early: dict[int, m.Lease] = {}
        """Leases that wait for a newer scope."""
        self._taken: OrderedDict[int, None] = OrderedDict()
        self._draining_since: float | None = None
        self._leaving = False
        self._gone = False
        self._load = Load(0, 0)

    # ----------------------------------------------------------------------------------------------------- entries

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take one event; carry out what comes back in its order."""
        match event:
            case Arrived(shard, message):
                self._arrived(self._links[shard], message, now)
            case Fetched():
                self._fetched(event, now)
            case PieceCame():
                self._piece_came(event, now)
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

    def lower_lanes(self, lanes: int) -> None:
        """This process cannot have more fetches at once than this, whatever the crawl's concurrency."""
        self._max_lanes = lanes

    # ------------------------------------------------------------------------------------------------- from shards

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
            case m.Terms():
                self._new_terms(message, now)
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
        config, scope = _understood(welcome)  # first, so that nonsense changes nothing
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
        config = config_from_wire(unpack_wire(welcome.config))
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

    def _new_terms(self, terms: m.Terms, now: float) -> None:
        """Another scope, another configuration, or both. Before the first Welcome: that one will have them."""
        if self._scope is None or self._config is None or terms.scope_version <= self._scope.version:
            return
        config, scope = _configuration(terms.config), Scope.from_wire(unpack_wire(terms.scope))
        self._scope = scope
        self.sent.clear()
        if config != self._config:
            self._configure(config)
            self._beat_now(now)
            self._go_on(now)
        else:
            self._out.append(Rescoped(scope))
        self._take_early(now)

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

    # ------------------------------------------------------------------------------------------------------ leases

    def _take(self, link: ShardLink, lease: m.Lease, now: float) -> None:
        if lease.id in self._taken or lease_epoch(lease.id) != link.epoch or not link.welcome:
            return
        name = lease_name(lease.id)
        if lease_shard(lease.id) != link.shard:
            raise ProtocolError(f"lease {name} from shard {link.shard}")
        for request in lease.requests:
            if not has_canonical_shape(request.url):
                raise ProtocolError(f"lease {name}: {request.url[:200]!r} is no canonical URL")
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

    def _recall(self, link: ShardLink, lease: LeaseId, now: float) -> None:
        """Its terms have changed: nothing more of it is begun, and it goes back. Not held: nothing to do."""
        visit = self._visits.get(lease)
        if visit is not None and not visit.is_permit:
            self._wind_up(visit, now)
        elif self._early.pop(lease, None) is not None:
            self._release(link, lease, None, now)

    def _take_early(self, now: float) -> None:
        """The scope is another one now: look again at the leases that waited for it."""
        early, self._early = self._early, {}
        for lease in early.values():
            del self._taken[lease.id]
            link = self._links.get(lease_shard(lease.id))
            if link is not None:
                self._take(link, lease, now)

    # ----------------------------------------------------------------------------------- running, pausing, leaving

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

    def _probed(self, works: bool, now: float) -> None:
        was = self._suspicion.standing
        self._stand(self._suspicion.probed(works, now), now)
        standing = self._suspicion.standing
        self._doubt(now)
        if standing is Standing.OFFLINE and was is not Standing.OFFLINE:
            self._go_offline(now)
            self._release_early(now)
        if (standing is Standing.OFFLINE) is not (was is Standing.OFFLINE):
            self._beat_now(now)

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

    # -------------------------------------------------------------------------------------------------------- time

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
            min(self._load.extract_percent, 65_535),
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


def _understood(welcome: m.Welcome) -> tuple[CrawlConfig, Scope]:
    """The configuration and the scope in a Welcome. Raises ProtocolError for one that makes no sense."""
    if not 1 <= welcome.shards <= SLOTS:
        raise ProtocolError(f"a coordinator of {welcome.shards} shards")
    if len(welcome.slots) != SLOTS or max(welcome.slots) >= welcome.shards:
        raise ProtocolError("slots that no shard owns")
    if welcome.heartbeat < MIN_HEARTBEAT or welcome.ttl < MIN_HEARTBEAT:
        raise ProtocolError(f"heartbeats every {welcome.heartbeat} s, leases of {welcome.ttl} s")
    return _configuration(welcome.config), Scope.from_wire(unpack_wire(welcome.scope))


def _configuration(packed: bytes) -> CrawlConfig:
    """The configuration in a Welcome or in Terms; ProtocolError as above."""
    wire = unpack_wire(packed)
    if not isinstance(wire, Mapping):
        raise ProtocolError("the configuration is no map")
    config = config_from_wire(wire)
    if config.tuning.sent_links > MAX_SENT_LINKS:
        raise ProtocolError(f"{config.tuning.sent_links} links to be remembered, at most {MAX_SENT_LINKS}")
    return config
