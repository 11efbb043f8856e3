"""Orders: what people told a crawl that has begun, as one shard carries it out.

Another configuration (`coord set`, `coord block`), another try for what ended (`coord retry`), another round
(`--recrawl`). Each is in force when `handle` returns and durable with the next commit. No I/O, no clock.

Before: changing.py (which change is allowed), steering.py (how it comes here).
"""

from __future__ import annotations

from common.config import CrawlConfig
from common.hostrules import host_named
from common.messages import LeaseId
from common.url import CanonicalURL, authority
from coordinator.admission import Admission, is_sitemap
from coordinator.hostqueue import Host
from coordinator.lending import Lending
from coordinator.results import Results
from coordinator.robots import forgive_robots
from coordinator.rounds import begin_to_look, compare, last_end, note_what_is_looked_for
from coordinator.sessions import Sessions
from coordinator.state import ShardState
from coordinator.steps import Retry, Seeded
from coordinator.store.rows import (
    DoneRow,
    is_done,
    meta_row,
    pack,
    unpack_request_row,
)


class Orders:
    """Carries out orders in one shard."""

    def __init__(
        self, state: ShardState, admission: Admission, lending: Lending, results: Results, sessions: Sessions
    ) -> None:
        self._state = state
        self._admission = admission
        self._lending = lending
        self._results = results
        self._sessions = sessions

    def reconfigure(self, config: CrawlConfig, now: float, wall: float) -> None:
        """Another configuration: in force at once for what is lent from now on; leases on other terms are recalled.

        A host that is blocked loses its leases at once, and all that it has queued ends as OPERATOR.
        """
        state, before = self._state, self._state.config
        state.config = config
        note_what_is_looked_for(state)
        state.frontier.all_hosts.policy = config.for_host
        state.frontier.max_depth = config.max_depth
        if config.max_pages_per_host != before.max_pages_per_host:
            state.frontier.limit_hosts(config.max_pages_per_host, now, wall)
        self._admission.configure()
        self._results.configure()
        self._admission.set_scope(state.scope.with_sites(state.scope.sites))
        if config.host != before.host:
            self._look_for_blocked(before, now, wall)
        changed = {host.key: host for host in state.frontier.hosts.values() if self._apply_policy(host, now)}
        ended: dict[bytes, list[LeaseId]] = {}
        for lease in list(state.leases):
            policy = config.for_host(lease.host)
            if policy.blocked:
                ended.setdefault(lease.session, []).append(lease.id)
                self._lending.end(lease, now, wall, due=now + lease.delay)
            elif policy != before.for_host(lease.host):
                state.recall(lease)
        for session in state.fleet:
            state.now.append(
                self._sessions.alive(
                    session,
                    0,
                    unknown=tuple(ended.get(session.id, ())),
                    recalled=tuple(state.recalled.pop(session.id, ())),
                )
            )
        for host in changed.values():
            state.frontier.settle(host, now, wall)
        self._lending.permits.look_at_all()

    def retry(self, retry: Retry, now: float, wall: float) -> None:
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
            if state.round and not is_sitemap(row.request):
                compare(state, row.outcome, row.facts.digest, last_end(state, host, row.request), by=-1)
            host.finished -= 1
            host.forgive()
            forgive_robots(state, host, authority(CanonicalURL(row.request.url)))
            state.frontier.reopen(host, row.request._replace(depth=row.depth), now)
        state.after.append(Seeded(retry.number, tuple(opened)))

    def begin_round(self, number: int, since: float | None, now: float, wall: float) -> None:
        """A recrawl begins; budgets count anew."""
        state = self._state
        state.closed = False
        if number <= state.round:
            return
        state.round, state.fresh_since = number, since
        state.rows.put(meta_row("round"), pack((number, since)))
        state.frontier.budgets.round = number
        for host in state.frontier.hosts.values():
            host.lent = 0
            host.forgive()
        state.ledger.counts.charged = 0
        state.ledger.counts.again.clear()
        state.budget_reached()
        if not begin_to_look(state):
            state.say(
                "other options than in the round before say what is looked for in pages: all are fetched whole"
            )
        state.frontier.limit_hosts(state.frontier.budgets.per_host, now, wall)
        self._admission.configure()

    def _look_for_blocked(self, before: CrawlConfig, now: float, wall: float) -> None:
        """A host that is blocked has nothing to wait for: one that stands in a line is found by its name, if a rule
        names it, and by having its turn."""
        state, frontier = self._state, self._state.frontier
        frontier.blocks = any(rule.blocked for rule in state.config.host)
        frontier.release_held()
        rules = set(before.host)
        for rule in state.config.host:
            name = host_named(rule.match) if rule.blocked and rule not in rules else None
            if name is not None and frontier.knows(name):
                frontier.host(name, now, wall)

    def _apply_policy(self, host: Host, now: float) -> bool:
        """Give a host in memory the terms in force; whether they are others than it had."""
        policy = self._state.config.for_host(host.key)
        before = host.per_host, host.doom
        if policy.per_host != host.per_host:
            host.set_lanes(policy.per_host, now)
        self._state.frontier.all_hosts.block(host, policy.blocked)
        return before != (host.per_host, host.doom)
