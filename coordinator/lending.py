"""Lending: who gets which requests of which host, on what terms, and what becomes of a lease that is over.

A host that is due is lent to the process that had it last, or to the one with most credit. What a lease may hold is
bounded by the host's lanes, by budgets (rule 16), by what is known of its robots.txt (rule 19), by how many hosts of
its address are out already (--per-ip), and by suspicion of poison (rule 24: such a request is lent alone). A permit
is a lease without requests, for a robots.txt that was redirected to a host (rule 19). No I/O, no clock.

Read next: leases.py (what is lent), fleet.py (to whom), robots.py, permits.py.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import lru_cache

from common import messages as m
from common.errors import StorageError
from common.messages import Flag, Request, lease_id
from common.outcome import OUTCOMES, Outcome
from common.url import CanonicalURL, authority, has_canonical_shape, host_key
from coordinator import policy
from coordinator.fleet import SILENT_HEARTBEATS, WorkerSession
from coordinator.hostqueue import Host
from coordinator.leases import OpenLease
from coordinator.permits import Permits
from coordinator.robots import known_robots, still_good
from coordinator.rounds import compare, last_end
from coordinator.state import ShardState, piece_key, session_id
from coordinator.steps import DropPieces
from coordinator.store.rows import CHARGED, lease_row, pack

MAX_LEASE_BYTES = 1 << 20
"""URLs and referrers of one lease; far below what a header may hold."""

DRAINED_AT_ONCE = 500
"""Requests of a given-up host that are ended in one step, so that a step stays short."""


class Lending:
    """Lends what the frontier has ready."""

    def __init__(self, state: ShardState, now: float) -> None:
        self._state = state
        self._lease_counter = 0
        self._next_lend = now
        """--max-rate: when the next request may be lent."""
        self._giving_up = False
        """A host that is given up has more queued than one step may end."""
        self.permits = Permits()
        self._at_address: Counter[str] = Counter()
        """Hosts that are lent now, by their address."""
        self._left: Counter[str] = Counter()
        """Addresses that hosts have left since the last step, and that others wait for."""
        self._call_at = now
        """When all lines of addresses are looked at again."""

    # ---------------------------------------------------------------------------------------------------- when

    def busy_addresses(self) -> list[tuple[str, int, int]]:
        """(address, hosts of it that are lent, hosts that wait for it), of five that have waited for long."""
        lines = self._state.frontier.addresses
        return [(ip, self._at_address[ip], lines.length(ip)) for ip in lines.some(5)]

    def next_wakeup(self) -> float | None:
        """When something may be lent that cannot be now; None: only an event can change that."""
        state = self._state
        if self._giving_up:
            return 0.0
        if not state.may_lend:
            return None
        if state.frontier.is_behind:
            return 0.0
        due = state.frontier.bench.next_due()
        if due is not None and not state.fleet.with_credit():
            due = None
        if due is not None and state.config.max_rate is not None:
            due = max(due, self._next_lend)
        if self._may_call and (due is None or self._call_at < due):
            due = self._call_at
        look = self.permits.next_look()
        return due if look is None or (due is not None and due < look) else max(0.0, look)

    def lend(self, now: float, wall: float) -> None:
        """While a host is due and a worker has credit: a lease. And what hosts are given up with ends."""
        state = self._state
        if not state.closed:
            self._give_up(now, wall)
        if not state.may_lend:
            return
        state.fleet.hush(now, SILENT_HEARTBEATS * state.config.tuning.heartbeat)
        if self.permits:
            self._permit(now, wall)
        if self._left or (now >= self._call_at and self._may_call):
            self._call_up(now, wall)
        looks = policy.ADDRESS_LOOKS
        while looks:
            host = state.frontier.ready(now, wall)
            if host is None:
                return
            session = state.fleet.choose(host.last_session)
            if session is None:
                return
            if state.config.max_rate is not None and now < self._next_lend:
                return
            if self._address_is_busy(host):
                assert host.ip is not None
                state.frontier.line_up(host, host.ip)
                looks -= 1  # those that are left are due, and so the next step comes at once
                continue
            self._lend_to(session, host, now, wall)

    # ------------------------------------------------------------------------------------------------ to give up

    def _give_up(self, now: float, wall: float) -> None:
        """End what is queued for hosts that are given up, whatever budgets say, and while the crawl is paused, too."""
        frontier, room = self._state.frontier, DRAINED_AT_ONCE
        while room > 0 and (host := frontier.doomed(now, wall)) is not None:
            room -= 1 + self._end_some(host, room, now, wall)
        self._giving_up = frontier.doomed(now, wall) is not None

    def _end_some(self, host: Host, count: int, now: float, wall: float) -> int:
        """End at most so many requests of a host that is given up; how many."""
        state = self._state
        outcome = OUTCOMES[host.doom or 0]
        requests = state.frontier.drain(host, count)
        if not requests:
            there = host.queued + host.waiting
            raise StorageError(f"{there} requests of {host.key} are counted, none found; run `coord audit`")
        for request in requests:
            if request.flags & Flag.LINKS_ONLY:
                state.frontier.relinked(host, request)
                continue
            host.finished += 1
            if len(state.partials):
                state.partials.forget(state.frontier.row_of(host, request)[1:])
            if state.round and not _no_page(request):
                compare(state, outcome, None, last_end(state, host, request))
            state.ledger.end(
                (host.slot, state.frontier.key_of(request.url, request.form)),
                request,
                outcome,
                tries=state.frontier.tries_of(host, request),
                attempts=request.attempts,
                wall=wall,
                reason="host",
                error=host.doom_reason,
                lines=not _no_page(request),
            )
        state.frontier.settle(host, now, wall)
        return len(requests)

    # -------------------------------------------------------------------------------------------------- one lease

    def _lend_to(self, session: WorkerSession, host: Host, now: float, wall: float) -> None:
        state = self._state
        delay = self.delay_of(host)
        lanes = min(host.lanes_due(now), session.free_lanes)
        sharers = state.fleet.with_credit()
        if (
            host.per_host > 1
            and sharers > 1
            and state.frontier.bench.count_due(now, 2 * sharers) < 2 * sharers
        ):
            lanes = min(lanes, -(-host.per_host // sharers))
        size = min(policy.lease_size(delay, lanes), session.requests - session.lent_requests)
        if lanes < host.per_host:
            # Its other lanes want work, too: each gets a share of what is queued, ever smaller towards the end.
            size = min(size, max(lanes, -(-host.queued * lanes // host.per_host)))
        if state.config.obey_robots and host.per_host > 1 and not host.authorities:
            size = 1
        requests = self._fitting(host, state.frontier.take(host, size), now)
        requests, rules, unknown = self._split_by_robots(host, session, requests, now, wall)
        if not requests:
            state.frontier.settle(host, now, wall)
            return
        lanes = min(lanes, len(requests))
        taken = lanes
        if unknown:
            taken, lanes = host.free_lanes, 1
        requests = self._charge(host, requests)
        self._open(session, host, delay, taken, lanes, requests, rules, now)
        session.lent_lanes += lanes
        session.lent_requests += len(requests)
        if state.config.max_rate is not None:
            self._next_lend = max(now, self._next_lend) + len(requests) / state.config.max_rate
        host.last_session = session.id
        state.frontier.settle(host, now, wall)

    def _open(
        self,
        session: WorkerSession,
        host: Host,
        delay: float,
        taken: int,
        lanes: int,
        requests: list[Request],
        rules: tuple[m.RobotsRules, ...],
        now: float,
    ) -> None:
        """The lease's row is committed before LEASE leaves (rule 5)."""
        state = self._state
        if not host.lent_lanes and host.ip is not None:
            self._at_address[host.ip] += 1
        owed = host.take_lanes(taken)
        self._lease_counter += 1
        lease = OpenLease(
            lease_id(state.epoch, self._lease_counter, state.index),
            host=host.key,
            session=session.id,
            local=session.local,
            lanes=taken,
            width=lanes,
            delay=delay,
            ttl=state.config.tuning.lease_ttl,
            requests=tuple(requests),
            seq=state.frontier.seq,
            now=now,
        )
        lease.owed = owed
        state.leases.add(lease)
        state.rows.put(lease_row(lease.id), pack(lease.to_row()))
        state.send_after(
            m.Lease(
                session_id(session.id),
                session.number,
                lease.id,
                host.key,
                delay,
                max(1, lanes),
                state.scope.version,
                rules,
                host.cookies,
                lease.requests,
                self._resumes(host, requests) if len(state.partials) else (),
            )
        )

    def _resumes(self, host: Host, requests: list[Request]) -> tuple[m.Resume, ...]:
        """What is kept of downloads among the requests, for their worker to go on from."""
        state, found = self._state, []
        for ordinal, request in enumerate(requests):
            held = state.partials.get(state.frontier.row_of(host, request)[1:])
            if held is not None and held.validator is not None and held.have:
                found.append(m.Resume(ordinal, held.have, held.validator))
        return tuple(found)

    def delay_of(self, host: Host) -> float:
        """The delay in force for a host, seconds."""
        configured = self._state.config.for_host(host.key).delay
        return policy.delay_in_force(configured, host.crawl_delay, host.elapsed, host.penalty)

    def _fitting(self, host: Host, requests: list[Request], now: float) -> list[Request]:
        """As many of the requests as one lease may hold; the others are put back."""
        state = self._state
        room = len(requests) if state.cap is None else max(0, state.cap - state.ledger.counts.charged)
        size = fresh = 0
        for position, request in enumerate(requests):
            fresh += not request.flags & CHARGED
            size += len(request.url) + len(request.referrer or "") + len(request.seed)
            alone = position and (request.flags | requests[0].flags) & Flag.ALONE
            if fresh > room or (position and size > MAX_LEASE_BYTES) or alone:
                state.frontier.put_back(host, requests[position:], now)
                return requests[:position]
        return requests

    def _charge(self, host: Host, requests: list[Request]) -> list[Request]:
        """A request is charged once, when first lent (rule 16)."""
        state = self._state
        charged = []
        for request in requests:
            if not request.flags & CHARGED:
                request = request._replace(flags=request.flags | CHARGED)
                host.lent += 1
                state.ledger.counts.charged += 1
            charged.append(request)
        state.budget_reached()
        return charged

    def _split_by_robots(
        self, host: Host, session: WorkerSession, requests: list[Request], now: float, wall: float
    ) -> tuple[list[Request], tuple[m.RobotsRules, ...], bool]:
        """The rules that go with the requests; where an authority has none, it is lent alone (rule 19).

        Then the lease holds one lane, and only as many requests as that lane has work for. Requests of an authority
        whose robots.txt is to be asked for again later wait until then; the host's others go on.
        """
        state = self._state
        if not state.config.obey_robots:
            return requests, (), False
        rules: dict[str, m.RobotsRules] = {}
        later: dict[str, float] = {}
        unknown = False
        for request in requests:
            place = authority(CanonicalURL(request.url))
            if place in rules or place in later:
                continue
            row = known_robots(state, host, place)
            if row is not None and row.verdict == "retry" and policy.wait_left(row.again_wall, wall) > 0:
                later[place] = row.again_wall
                continue
            if row is None or row.verdict == "retry" or not still_good(row, wall, state.epoch):
                unknown = True
                continue
            known = session.knows_robots(place, row.version)
            rules[place] = m.RobotsRules(place, row.version, row.verdict, None if known else row.body)
        if later:
            requests = self._wait_for_robots(host, requests, later, now)
        if unknown and (host.per_host > 1 or host.ip is None) and len(requests) > 1:
            # Whose address it is, is not known yet either: a page, and then --per-ip has its say.
            state.frontier.put_back(host, requests[1:], now)
            requests = requests[:1]
        return requests, tuple(rules.values()), unknown

    def _wait_for_robots(
        self, host: Host, requests: list[Request], later: dict[str, float], now: float
    ) -> list[Request]:
        """Put off the requests of authorities in `later` (wall time); the others are returned."""
        frontier, others = self._state.frontier, []
        for request in requests:
            due = later.get(authority(CanonicalURL(request.url)))
            if due is None:
                others.append(request)
            else:
                frontier.put_off(host, request, frontier.tries_of(host, request), due, now)
        return others

    def end(self, lease: OpenLease, now: float, wall: float, *, due: float | None = None) -> None:
        """The lease is over; what is open in it is queued again. `due` None: as its reports said (rule 9)."""
        state = self._state
        undone = lease.undone()
        state.leases.end(lease)
        state.rows.delete(lease_row(lease.id))
        session = state.fleet.get(lease.session)
        if session is not None:
            session.lent_lanes -= lease.width
            session.lent_requests -= len(undone)
        for ordinal in lease.open:
            key = piece_key(lease.session, lease.id, ordinal)
            if state.pieces.pop(key, None) is not None:
                state.after.append(DropPieces(key))
        host = state.frontier.host(lease.host, now, wall)
        if len(state.partials):
            for request in undone:
                state.partials.leave(state.frontier.row_of(host, request)[1:])
        if due is None:
            # The delay in force by now: robots.txt, response times and refusals may have raised it meanwhile.
            delay = max(lease.delay, self.delay_of(host))
            due = now if lease.last_end is None else lease.last_end + delay
        host.return_lanes(lease.lanes, max(due, lease.owed))
        if host.key in self.permits:
            self.permits.look(host.key, host.due())
        if not host.lent_lanes:
            self._leave_address(host)
        if undone:
            state.frontier.put_back(host, undone, now)
        state.frontier.settle(host, now, wall, lent=True)

    def robots_known(self, lease: OpenLease, host: Host, now: float, wall: float) -> None:
        """The lanes that a lease kept from others until the robots.txt is known are the host's again (rule 19).

        What they are lent for leaves after the commit of what is known by now.
        """
        spare = lease.lanes - lease.width
        if spare <= 0:
            return
        lease.lanes = lease.width
        self._state.rows.put(lease_row(lease.id), pack(lease.to_row()))
        host.return_lanes(spare, max(now, lease.owed))
        self._state.frontier.settle(host, now, wall)

    # ------------------------------------------------------------------------------------------------- addresses

    def learn_address(self, host: Host, ip: str | None, now: float) -> None:
        """A host was answered for by this address."""
        if ip is None or ip == host.ip:
            return
        if host.lent_lanes:
            if host.ip is not None:
                self._leave_address(host)
            self._at_address[ip] += 1
        host.ip = ip

    def reopened(self, host: Host) -> None:
        """After a restart: a lease of the host is open, and its lanes are not yet taken."""
        if not host.lent_lanes and host.ip is not None:
            self._at_address[host.ip] += 1

    def _address_is_busy(self, host: Host) -> bool:
        """Whether as many hosts of its address are lent as --per-ip allows; a host that is among them goes on."""
        if host.ip is None or host.lent_lanes or _exempt(host.ip):
            return False
        return self._at_address[host.ip] >= self._share

    def _leave_address(self, host: Host) -> None:
        ip = host.ip
        if ip is None:
            return
        self._at_address[ip] -= 1
        if self._at_address[ip] <= 0:
            del self._at_address[ip]
        if ip in self._state.frontier.addresses:
            self._left[ip] += 1

    @property
    def _share(self) -> int:
        """How many hosts of one address may be lent at one time."""
        return max(1, self._state.config.per_ip // self._state.shards)

    @property
    def _may_call(self) -> bool:
        """Whether hosts wait for their address that could be lent, or that a budget holds back."""
        state = self._state
        if not len(state.frontier.addresses) or self._giving_up:
            return False
        return not state.frontier.budgets.may_charge or bool(state.fleet.with_credit())

    def _call_up(self, now: float, wall: float) -> None:
        """One host from the line of an address for each that has left it; and now and then as many as may be lent.

        For who is called up may have nothing to lend when it is due: a budget holds it, or a person has blocked it.
        """
        frontier, looks = self._state.frontier, policy.ADDRESS_LOOKS
        left, self._left = self._left, Counter()
        if now >= self._call_at:
            self._call_at = now + policy.ADDRESS_WAIT
            left = Counter({ip: self._share - self._at_address[ip] for ip in frontier.addresses})
        for ip, count in left.items():
            while count > 0 and ip in frontier.addresses:
                if not looks:
                    self._call_at = now  # the rest in the next step
                    return
                looks -= 1
                count -= frontier.call_up(ip, now, wall)

    # --------------------------------------------------------------------------------------------------- permits

    def want(self, session: WorkerSession, host: str) -> None:
        """A worker wants a permit; it asks again until it has one. What is no name of a host gets none."""
        place = f"https://{host}/"
        if not has_canonical_shape(place) or host_key(CanonicalURL(place)) != host:
            return
        self.permits.want(session.id, host)

    def _permit(self, now: float, wall: float) -> None:
        """A lease without requests for each wanted host that is due. It needs no credit: a worker all of whose lanes
        wait for permits could never get one."""
        state, permits = self._state, self.permits
        while (name := permits.due(now)) is not None:
            host = state.frontier.host(name, now, wall)
            if host.doom == Outcome.OPERATOR.code:
                permits.drop(name)  # nothing is fetched of it
                continue
            while host.lanes_due(now) and (wanting := permits.take(name)) is not None:
                session = state.fleet.get(wanting)
                if session is not None and not session.silent:  # it asks again when it is there again
                    self._open(session, host, self.delay_of(host), 1, 0, [], (), now)
                    state.frontier.settle(host, now, wall)
            if name in permits:
                permits.look(name, host.due())


def _no_page(request: Request) -> bool:
    return request.form is not None and request.form.method == m.SITEMAP


@lru_cache(maxsize=4096)
def _exempt(ip: str) -> bool:
    """Loopback: one's own machine stands for many hosts."""
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return True
