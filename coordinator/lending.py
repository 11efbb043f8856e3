"""Lending: who gets which requests of which host, on what terms, and what becomes of a lease that is over.

A host that is due is lent to the process that had it last, or to the one with most credit. What a lease may hold is
bounded by the host's lanes, by budgets (rule 16), by what is known of its robots.txt (rule 19), by how many hosts of
its address are out already (--per-ip), and by suspicion of poison (rule 24: such a request is lent alone). A permit
is a lease without requests, for a robots.txt that was redirected to a host (rule 19). No I/O, no clock.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict, deque
from functools import lru_cache
from itertools import islice

from common import messages as m
from common.messages import Flag, Request, lease_id
from common.outcome import OUTCOMES, Outcome
from common.url import CanonicalURL, HostKey, authority, has_canonical_shape, host_key
from coordinator import policy
from coordinator.fleet import WorkerSession
from coordinator.frontier import CHARGED
from coordinator.hostqueue import Host
from coordinator.leases import OpenLease
from coordinator.state import ShardState, piece_key, session_id
from coordinator.steps import DropPieces
from coordinator.store.rows import RobotsRow, lease_row, pack, robots_row, unpack

MAX_LEASE_BYTES = 1 << 20
"""URLs and referrers of one lease; far below what a header may hold."""

DRAINED_AT_ONCE = 500
"""Requests of a given-up host that are ended in one step, so that a step stays short."""

NEXT_AT_ADDRESS = 64
"""Hosts remembered for each busy address, to be lent as soon as one of its others is done; the rest look by time."""


class Lending:
    """Lends what the frontier has ready."""

    def __init__(self, state: ShardState, now: float) -> None:
        self._state = state
        self._lease_counter = 0
        self._next_lend = now
        """--max-rate: when the next request may be lent."""
        self._giving_up = False
        """A host that is given up has more queued than one step may end."""
        self._wanted: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()
        """Hosts for which sessions want a permit."""
        self._at_address: Counter[str] = Counter()
        """Hosts that are lent now, by their address."""
        self._next_at: dict[str, deque[str]] = {}
        """Hosts that wait for their address, by it."""

    # ---------------------------------------------------------------------------------------------------- when

    @property
    def permits_wanted(self) -> list[str]:
        """Hosts for which workers want a permit, at most five, and how many there are is `permits_waiting`."""
        return list(islice(self._wanted, 5))

    @property
    def permits_waiting(self) -> int:
        """How many hosts permits are wanted for."""
        return len(self._wanted)

    def busy_addresses(self) -> list[tuple[str, int, int]]:
        """(address, hosts of it that are lent, hosts that wait for it, of which NEXT_AT_ADDRESS are counted), of the
        first five."""
        return [(ip, self._at_address[ip], len(hosts)) for ip, hosts in islice(self._next_at.items(), 5)]

    def next_wakeup(self) -> float | None:
        """When something may be lent that cannot be now; None: only an event can change that."""
        state = self._state
        if not state.may_lend:
            return None
        if state.frontier.is_behind:
            return 0.0
        due = state.frontier.next_due()
        if due is not None and self._giving_up:
            return due
        if due is not None and not state.fleet.with_credit():
            due = None
        if due is not None and state.config.max_rate is not None:
            due = max(due, self._next_lend)
        for name in self._wanted:
            host = state.frontier.hosts.get(HostKey(name))
            at = 0.0 if host is None else host.due()
            if at < math.inf and (due is None or at < due):
                due = at
        return due

    def lend(self, now: float, wall: float) -> None:
        """While a host is due and a worker has credit: a lease."""
        state = self._state
        self._giving_up = False
        if not state.may_lend:
            return
        if self._wanted:
            self._permit(now, wall)
        while True:
            host = state.frontier.ready(now, wall)
            if host is None:
                return
            if host.doom is not None:
                if not self._give_up(host, now, wall):
                    self._giving_up = True
                    return
                continue
            session = state.fleet.choose(host.last_session)
            if session is None:
                return
            if state.config.max_rate is not None and now < self._next_lend:
                return
            if self._address_is_busy(host):
                state.frontier.postpone(host, now + policy.ADDRESS_WAIT)
                continue
            self._lend_to(session, host, now, wall)

    # ------------------------------------------------------------------------------------------------ to give up

    def _give_up(self, host: Host, now: float, wall: float) -> bool:
        """End what is queued for a host that is given up; False: come back later for the rest."""
        state = self._state
        outcome = OUTCOMES[host.doom or 0]
        requests = state.frontier.drain(host, DRAINED_AT_ONCE)
        for request in requests:
            if request.flags & Flag.LINKS_ONLY:
                state.frontier.relinked(host, request)
                continue
            host.finished += 1
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
        return len(requests) < DRAINED_AT_ONCE

    # -------------------------------------------------------------------------------------------------- one lease

    def _lend_to(self, session: WorkerSession, host: Host, now: float, wall: float) -> None:
        state = self._state
        delay = self.delay_of(host)
        lanes = min(host.lanes_due(now), session.free_lanes)
        sharers = state.fleet.with_credit()
        if host.per_host > 1 and sharers > 1 and state.frontier.count_ready(now, 2 * sharers) < 2 * sharers:
            lanes = min(lanes, -(-host.per_host // sharers))
        size = min(policy.lease_size(delay, lanes), session.requests - session.lent_requests)
        if lanes < host.per_host:
            # Its other lanes want work, too: each gets a share of what is queued, ever smaller towards the end.
            size = min(size, max(lanes, -(-host.queued * lanes // host.per_host)))
        if state.config.obey_robots and host.per_host > 1 and not host.authorities:
            size = 1
        requests = self._fitting(host, state.frontier.take(host, size), now)
        requests, rules, unknown = self._split_by_robots(host, session, requests, now, wall)
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
            )
        )

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

        Then the lease holds one lane, and only as many requests as that lane has work for.
        """
        state = self._state
        if not state.config.obey_robots:
            return requests, (), False
        rules: dict[str, m.RobotsRules] = {}
        unknown = False
        for request in requests:
            place = authority(CanonicalURL(request.url))
            if place in rules:
                continue
            packed = state.rows.get(robots_row(host.slot, place))
            row = None if packed is None else RobotsRow(*unpack(packed))
            if row is None or row.verdict == "retry" or not still_good(row, wall):
                unknown = True
                continue
            known = session.knows_robots(place, row.version)
            rules[place] = m.RobotsRules(place, row.version, row.verdict, None if known else row.body)
        if unknown and (host.per_host > 1 or host.ip is None) and len(requests) > 1:
            # Whose address it is, is not known yet either: a page, and then --per-ip has its say.
            state.frontier.put_back(host, requests[1:], now)
            requests = requests[:1]
        return requests, tuple(rules.values()), unknown

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
        if due is None:
            # The delay in force by now: robots.txt, response times and refusals may have raised it meanwhile.
            delay = max(lease.delay, self.delay_of(host))
            due = now if lease.last_end is None else lease.last_end + delay
        host.return_lanes(lease.lanes, max(due, lease.owed))
        if not host.lent_lanes:
            self._leave_address(host, now)
        if undone:
            state.frontier.put_back(host, undone, now)
        state.frontier.settle(host, now, wall, lent=True)

    # ------------------------------------------------------------------------------------------------- addresses

    def learn_address(self, host: Host, ip: str | None, now: float) -> None:
        """A host was answered for by this address."""
        if ip is None or ip == host.ip:
            return
        if host.lent_lanes:
            if host.ip is not None:
                self._leave_address(host, now)
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
        share = max(1, self._state.config.per_ip // self._state.shards)
        if self._at_address[host.ip] < share:
            return False
        waiting = self._next_at.setdefault(host.ip, deque(maxlen=NEXT_AT_ADDRESS))
        if host.key not in waiting:
            waiting.append(host.key)
        return True

    def _leave_address(self, host: Host, now: float) -> None:
        ip = host.ip
        if ip is None:
            return
        self._at_address[ip] -= 1
        if self._at_address[ip] <= 0:
            del self._at_address[ip]
        waiting = self._next_at.get(ip)
        if waiting is None:
            return
        following = self._state.frontier.hosts.get(HostKey(waiting.popleft()))
        if not waiting:
            del self._next_at[ip]
        if following is not None and following.wake is not None:
            self._state.frontier.postpone(following, max(now, following.due()))

    # --------------------------------------------------------------------------------------------------- permits

    def want(self, session: WorkerSession, host: str) -> None:
        """A worker wants a permit; it asks again until it has one. What is no name of a host gets none."""
        place = f"https://{host}/"
        if not has_canonical_shape(place) or host_key(CanonicalURL(place)) != host:
            return
        sessions = self._wanted.get(host)
        if sessions is None:
            if len(self._wanted) >= policy.PERMITS_WAITING:
                return
            sessions = self._wanted[host] = OrderedDict()
        sessions[session.id] = None

    def _permit(self, now: float, wall: float) -> None:
        """A lease without requests for each wanted host that is due. It needs no credit: a worker all of whose lanes
        wait for permits could never get one."""
        state = self._state
        for name in list(self._wanted):
            host = state.frontier.host(name, now, wall)
            if host.doom == Outcome.OPERATOR.code:
                del self._wanted[name]  # nothing is fetched of it
                continue
            if not host.lanes_due(now):
                continue
            sessions = self._wanted[name]
            wanting = state.fleet.get(next(iter(sessions)))
            sessions.popitem(last=False)
            if not sessions:
                del self._wanted[name]
            if wanting is None:
                continue
            self._open(wanting, host, self.delay_of(host), 1, 0, [], (), now)
            state.frontier.settle(host, now, wall)


def still_good(row: RobotsRow, wall: float) -> bool:
    """Whether what is known of a robots.txt may be used: for a day, and longer while its server fails."""
    return wall - row.fetched_wall <= policy.ROBOTS_LIFETIME or wall < row.again_wall


def _no_page(request: Request) -> bool:
    return request.form is not None and request.form.method == m.SITEMAP


@lru_cache(maxsize=4096)
def _exempt(ip: str) -> bool:
    """Loopback: one's own machine stands for many hosts."""
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return True
