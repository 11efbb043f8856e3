"""Working through the leases that a process holds: what may begin, what came of it, what goes back, and when.

The lower half of the agent: it knows visits, not where they come from. It gives out fetches within the bound on what
is unanswered (rule 23), sees robots.txt through to the shard's answer, reports pages after their outlinks (rule 1),
gives leases back with their ages (rule 9), and holds nothing against a host that may be this machine's own trouble.

Invariants: a lease that is not in `_visits` gets nothing more done and nothing more told; a permit is held exactly
while a hop is fetched under it; every time at which something is due is entered with `_due`.

Pure. Above it: agent.py (greeting, taking leases, renewal, pausing). Its parts, each with state of its own: visit.py
(one lease), chase.py (a robots.txt that leads on), owed.py (messages without an answer), outlinks.py (whose they
are), suspicion.py (whose fault a failure is), rulebook.py (robots rules by version).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common import messages as m
from common.config import CrawlConfig
from common.messages import LeaseId, LinkGroup, SessionId
from common.outcome import Outcome
from common.url import CanonicalURL, HostKey, host_key, slot
from worker import outlinks
from worker.chase import Chase, Chases
from worker.owed import SEND_AGAIN_AFTER, Debts, Owed
from worker.robots import MAX_REDIRECTS, NO_RULES, Rules, parse
from worker.rulebook import Rulebook, sitemaps
from worker.sent import SentLinks
from worker.shards import ShardLink
from worker.steps import Abort, Fetched, Instruction, PieceCame, PieceKept, Post, Probe, Report, RobotsFetched
from worker.suspicion import ROBOTS_ANSWERS, Standing, Suspicion, is_answer
from worker.visit import Refused, Visit

NOT_SENT_WAIT = 1.0
"""Seconds until a fetch that could not be sent for a reason of this machine is tried again."""

SELF_REDIRECT_TTLS = 5
"""Lease times within which a request is fetched again; the shard takes back what brings no result in ten."""


class Visits:
    """The leases of one process. `sent`: outlinks that shards acknowledged lately; `fetched`: fetches so far."""

    def __init__(self, session: SessionId, now: float) -> None:
        self._session = session
        self._out: list[Instruction] = []
        self._links = {0: ShardLink(0, next_hello=now)}
        self._slots = bytes(1024)
        self._ttl = 30.0
        self._config: CrawlConfig | None = None
        self._visits: dict[int, Visit] = {}
        self._stalled: dict[int, None] = {}
        """Visits that could go on but for the bound on what is unanswered."""
        self._owed = Debts(session, self._links, self._out)
        self._rulebook = Rulebook()
        self._chases = Chases()
        self._asked_robots: dict[int, tuple[RobotsFetched, Rules]] = {}
        self._suspicion: Suspicion[Fetched | RobotsFetched] = Suspicion()
        self.sent = SentLinks(16)
        self.fetched = 0
        self._look_at = now
        """Nothing is due before; every new time is entered here, the next one is looked up when it has passed."""

    def may_write(self, lease: int, now: float) -> bool:
        """Asked after connecting, just before a request is written: does the lease still hold? (rule 8)

        Not of a lease that winds up: its host may just have asked for rest.
        """
        visit = self._visits.get(lease)
        return visit is not None and now < visit.deadline and not visit.draining

    @property
    def in_flight(self) -> int:
        """Fetches under way."""
        return sum(len(visit.in_flight) for visit in self._visits.values())

    # --------------------------------------------------------------------- leases: begun, gone on with, given back

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
        if self._config is None or self._suspicion.standing is not Standing.WATCHING:
            return 0
        tuning = self._config.tuning
        # Pieces of downloads are bounded by the budget for bodies: others need not wait because some are long.
        pieces = self._owed.pieces
        pages = len(self._owed) - pieces + len(self._suspicion)
        if not pages:
            return max(1, tuning.unacknowledged_pages)
        if self._owed.bytes - pieces * m.PIECE_BYTES >= tuning.unacknowledged_bytes:
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

    def _wind_up(self, visit: Visit, now: float) -> None:
        """Begin nothing more of this lease, and give it back when what it has landed is answered."""
        visit.draining = True
        if self._chases.waits(visit.lease.id):
            visit.asking = None
            self._chases.forget(visit.lease.id)
        self._advance(visit, now)

    def _give_back(self, visit: Visit, now: float) -> None:
        """Release the lease; what of it has no result is queued again by the shard."""
        if not visit.resting:
            visit.last_end = now
        self._forget(visit.lease.id, now)
        self._release(self._links[visit.shard], visit.lease.id, visit.last_end, now)

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

    # ------------------------------------------------------------------------------------------ results of fetches

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

    def _piece_came(self, came: PieceCame, now: float) -> None:
        """A download has its next piece. Of a lease that is gone, nobody wants it."""
        visit = self._visits.get(came.lease)
        if visit is not None and came.ordinal in visit.in_flight:
            self._due(self._owed.send_piece(visit.shard, came, now))

    def _break_off(self, visit: Visit, ordinal: int, now: float) -> None:
        """What the shard has of a download is not what this fetch goes on from: the request goes back."""
        self._owed.forget(visit.lease.id, ordinal)
        if ordinal in visit.in_flight:
            self._out.append(Abort(visit.lease.id, ordinal))
            visit.broken_off(ordinal, now)
        elif ordinal in visit.unanswered:
            visit.undo(ordinal)
        self._wind_up(visit, now)

    def _came(self, visit: Visit, ordinal: int, report: Report, now: float) -> None:
        """A fetch has its report, and it stands."""
        if report.cookies is not None:
            visit.keep_cookies(report.cookies)
        if report.again:
            if visit.fetch_again(ordinal, now, SELF_REDIRECT_TTLS * self._ttl):
                return
            report = replace(report, facts=_to_itself(report.facts))
        self._report(visit, ordinal, report, now)
        if _asks_for_rest(report.facts):
            self._wind_up(visit, now)

    def _report(self, visit: Visit, ordinal: int, report: Report, now: float) -> None:
        if report.file is not None and self._owed.await_pieces(visit, ordinal, report):
            return
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

    # ----------------------------------------------------------------------------------------- the shards' answers

    def _accepted(self, number: int, now: float) -> None:
        owed = self._owed.settle(number)
        if owed is None:
            return
        if isinstance(owed.message, m.Links | m.FilePiece):
            if isinstance(owed.message, m.FilePiece):
                piece = owed.message
                self._out.append(PieceKept(piece.lease, piece.ordinal, piece.began))
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
        is_file = isinstance(owed.message, m.FilePiece) or getattr(owed.message, "file", None) is not None
        if is_file and reason != "lease":
            visit = self._visits.get(owed.lease)
            self._owed.settle(number)
            if visit is not None and owed.ordinal is not None:
                self._break_off(visit, owed.ordinal, now)
            return
        if reason == "pieces" and isinstance(owed.message, m.Page):
            self._due(self._owed.send_pieces(owed, now))
            return
        if isinstance(owed.message, m.Links):
            owed.due = self._due(now + SEND_AGAIN_AFTER)
            return
        self._owed.settle(number)
        self._asked_robots.pop(number, None)
        if reason == "lease":
            self._drop(owed.lease, now)

    def _send_again(self, owed: Owed, now: float) -> None:
        self._owed.send_again(owed, now)

    # -------------------------------------------------------------------------------------------------- robots.txt

    def _robots_fetched(self, done: RobotsFetched, now: float) -> None:
        """A hop is over: the lane it took is free after the delay, and a permit goes back unless it leads on there."""
        visit = self._visits.get(done.lease)
        if visit is None or visit.asking != done.authority:
            return
        chase = self._chases.get(done.lease)
        permit = None if chase is None or chase.permit is None else self._visits[chase.permit]
        if done.verdict == "follow" and (done.target is None or done.hops >= MAX_REDIRECTS):
            done = replace(done, verdict="allow", target=None)  # as if it were absent (RFC 9309, 2.3.1.2)
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

    def _stop_chase(self, visit: Visit, now: float) -> None:
        """A visit ends while its robots.txt leads elsewhere: what is under way there is broken off."""
        permit = self._chases.forget(visit.lease.id)
        if permit is not None:
            self._out.append(Abort(permit))
            self._visits[permit].cut_off(now)
            self._give_back(self._visits[permit], now)

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

    # ------------------------------------------------------------------------------------------- whose fault it is

    def _visited(self) -> set[str]:
        """The hosts that this process visits."""
        return {visit.lease.host for visit in self._visits.values()}

    def _doubt(self, now: float) -> None:
        """A failure may be this machine's own: probe, if enough of them are."""
        if self._suspicion.probe_due(now):
            self._out.append(Probe())
        self._due(self._suspicion.next_time())

    def _stand(self, results: Sequence[Fetched | RobotsFetched], now: float) -> None:
        """Failures that were held back were the hosts' own; what waited for that to be known goes on."""
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

    # -------------------------------------------------------------------------------------------------------- time

    def next_wakeup(self) -> float:
        """When to send Woken at the latest."""
        return self._look_at

    def _due(self, time: float) -> float:
        """Enter a time at which something is due."""
        if time < self._look_at:
            self._look_at = time
        return time


def _no_fetch(outcome: Outcome) -> m.Facts:
    return m.Facts(outcome.code, reason="robots")


def _asks_for_rest(facts: m.Facts) -> bool:
    """Whether the host has had enough for now. How long it rests, and at which delay it is asked again, is the shard's
    to say (coordinator/policy.py): so the lease goes back, for its terms do not hold any more."""
    return facts.status in _BUSY or facts.outcome == Outcome.TIMEOUT.code


_BUSY = frozenset((429, 503))


def _to_itself(facts: m.Facts) -> m.Facts:
    """A page that was redirected to itself once too often."""
    return facts._replace(
        outcome=Outcome.TOO_MANY_REDIRECTS.code,
        reason="self",
        error="it redirects to itself, again and again",
    )
