"""What people see: makes a `Status` of what the shard's core, its shell and this machine say. Reads only."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

from common import clock
from common.config import CrawlConfig
from common.errors import StorageError
from common.outcome import OUTCOMES, State
from coordinator import status as st
from coordinator.hostqueue import Where
from coordinator.intake import Tally
from coordinator.results import NO_HTTPS
from coordinator.server import ShardServer
from coordinator.sink import room

READY_COUNTED = 10_000
"""Ready hosts are counted up to this; beyond it the number says "many" well enough."""

DISK_LOOK_SECONDS = 2.0


class Watch:
    """Makes the status of one run; keeps the meters."""

    def __init__(self, server: ShardServer, config: CrawlConfig, directory: Path, http: str) -> None:
        self._server = server
        self.config = config
        """In force; it may be replaced."""
        self._directory = directory
        self._http = http
        self._begun = clock.now()
        self._started_at = clock.rfc3339(clock.wall())
        self._pages_before = server.core.ledger.counts.ended
        self._pages = st.Meter()
        self._bytes = st.Meter()
        self._workers: dict[bytes, st.Meter] = {}
        self._disk_free = room(directory)
        self._disk_looked = self._begun
        self._left_before = 0

    def status(
        self,
        *,
        phase: st.Phase,
        directory: str,
        tally: Tally,
        first: Sequence[str],
        worker_command: str,
        command: str,
        reason: str,
        exit_code: int | None,
    ) -> st.Status:
        """The crawl at this moment; cost: some hundred microseconds with a dozen workers."""
        core, now = self._server.core, clock.now()
        counts, frontier = core.ledger.counts, core.frontier
        ended = counts.ended
        self._pages.note(ended, now)
        self._bytes.note(counts.bytes, now)
        if now - self._disk_looked >= DISK_LOOK_SECONDS:
            self._disk_free, self._disk_looked = room(self._directory), now
        elapsed = now - self._begun
        rate = self._pages.rate(ended, now)
        workers = self._fleet(now)
        hosts = self._hosts(now)
        queued = frontier.queued + frontier.waiting
        held = queued - frontier.lendable
        if exit_code is None and phase is st.Phase.RUNNING and not core.leases.requests and queued:
            phase = st.Phase.WAITING
        facts = st.Facts(
            phase=phase,
            directory=directory,
            workers=len(workers),
            capacity=sum(worker.lanes for worker in workers),
            in_flight=sum(worker.in_flight for worker in workers),
            queued=queued,
            hosts_ready=hosts.ready,
            hosts_waiting=hosts.waiting,
            hosts_leased=hosts.leased,
            next_due_seconds=self._next_due(now),
            delay=self.config.delay,
            per_host=self.config.per_host,
            rate=rate,
            max_rate=self.config.max_rate,
            held_back=held,
            budget="--max-pages" if self.config.max_pages is not None else "--max-pages-per-host",
            disk_free=self._disk_free,
            min_free=self.config.min_free,
            worker_command=worker_command,
        )
        left = queued - held + core.leases.requests
        growing = not self.config.no_follow and left >= self._left_before
        if now - self._begun > 1:
            self._left_before = left
        return st.Status(
            phase=phase,
            directory=directory,
            started_at=self._started_at,
            elapsed_seconds=elapsed,
            pages=ended,
            pages_now=ended - self._pages_before,
            outcomes={OUTCOMES[code].value: count for code, count in sorted(counts.done.items()) if count},
            rate=rate,
            rate_average=(ended - self._pages_before) / elapsed if elapsed > 0 else 0.0,
            bytes_received=counts.bytes,
            bytes_rate=self._bytes.rate(counts.bytes, now),
            in_flight=facts.in_flight,
            admitted=counts.admitted,
            queued=queued,
            leased=core.leases.requests,
            hosts=hosts,
            errors=counts.of(State.FAILED),
            workers=workers,
            refused={rule: count for rule, count in counts.refused.items() if count},
            guarded={rule: count for rule, count in counts.guarded.items() if count},
            relinked=counts.relinked,
            round=core.round,
            again={what: counts.again[what] for what in st.AGAIN} if core.round else {},
            seeds=st.Seeds(tally.read, tally.bad, tally.reading > 0),
            seed_ends=self._seed_ends(first) if exit_code is not None and not counts.seeds_ok else (),
            eta_seconds=st.estimate(
                left=left,
                rate=rate,
                pages=counts.charged,
                growing=growing,
                max_pages=self.config.max_pages,
                delay=self.config.delay,
                per_host=self.config.per_host,
            ),
            limits=self._limits(facts),
            disk_free_bytes=self._disk_free,
            memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            http=self._http,
            worker_command=worker_command,
            command=command,
            reason=reason,
            exit_code=exit_code,
        )

    def _limits(self, facts: st.Facts) -> str:
        if self._server.disk_full:
            return "disk full: nothing is fetched until there is room; what was committed is whole"
        return st.limiting(facts)

    def _fleet(self, now: float) -> tuple[st.WorkerStatus, ...]:
        known = {}
        workers = []
        for session in self._server.core.fleet:
            meter = known[session.id] = self._workers.get(session.id) or st.Meter(15.0)
            meter.note(session.fetched, now)
            workers.append(
                st.WorkerStatus(
                    session.host,
                    session.pid,
                    session.lanes,
                    max(session.in_flight, min(session.lent_lanes, session.lent_requests)),
                    meter.rate(session.fetched, now),
                    now - session.heard_at,
                )
            )
        self._workers = known
        return tuple(workers)

    def _hosts(self, now: float) -> st.HostCounts:
        frontier = self._server.core.frontier
        ready = frontier.count_ready(now, READY_COUNTED)
        listed = sum(host.where is Where.WAITING for host in frontier.hosts.values())
        parked = frontier.turns[1] - frontier.turns[0]
        leased = len({lease.host for lease in self._server.core.leases})
        return st.HostCounts(frontier.hosts_known, ready, max(0, listed - ready) + parked, leased)

    def _next_due(self, now: float) -> float | None:
        due = self._server.core.frontier.next_due()
        return None if due is None else max(0.0, due - now)

    def _seed_ends(self, first: Sequence[str]) -> tuple[st.SeedEnd, ...]:
        """How the first seeds ended; of a bare host its http address, where that was tried: why none gave a page."""
        ends = []
        for url in first:
            try:
                told = self._server.core.explain(url, clock.now(), clock.wall())
                if told is not None and url.startswith("https:") and told.get("outcome") in NO_HTTPS:
                    plain = "http:" + url.removeprefix("https:")
                    if (by_http := self._server.core.explain(plain, clock.now(), clock.wall())) is not None:
                        url, told = plain, by_http
            except StorageError:
                break  # the disk failed, which is what the last screen is about
            if told is not None:
                ends.append(st.SeedEnd(url, told.get("outcome") or told["state"], told.get("error") or ""))
        return tuple(ends)
