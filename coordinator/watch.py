"""What people see: makes a `Status` of what the shard's core, its shell and this machine say. Reads only.

It is asked several times a second; what costs more than that may (a look over all hosts, the disk) is done now and
then, or a bit at a time. It keeps the meters, the history, and the watchdog that writes into the log why nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import clock
from common.config import CrawlConfig
from common.errors import StorageError
from common.load import OwnLoad, resident_bytes
from common.log import escaped, get_logger
from common.outcome import OUTCOMES, Outcome, State
from coordinator import status as st
from coordinator.fleet import SILENT_HEARTBEATS, WorkerSession
from coordinator.history import History, Meter, Totals
from coordinator.intake import Tally
from coordinator.ledger import Counts
from coordinator.policy import NO_HTTPS
from coordinator.server import ShardServer
from coordinator.sink import room
from coordinator.survey import Crowd, Survey
from coordinator.waiting import Address, Facts, Group, estimate, waiting
from coordinator.watchdog import Watchdog

READY_COUNTED, READY_COUNTED_OFTEN = 10_000, 500
"""Ready hosts are counted up to the one now and then, 3 ms, and up to the other at each look, 0.1 ms; beyond the first
the number says "many" well enough."""

READY_LOOK_SECONDS = 2.0

DISK_LOOK_SECONDS = 2.0

LOAD_LOOK_SECONDS = 2.0

RECENT_SECONDS = 60.0
"""Tries that tell whether the network fails."""

MEMORY_FULL = 0.9

log = get_logger("coordinator.watch")


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
        self._pages_before = _told_once(server.core.ledger.counts)
        self._pages, self._bytes, self._commits = Meter(), Meter(), Meter()
        self._workers: dict[bytes, Meter] = {}
        self._recent: dict[int, Meter] = {}
        self._tries = Meter(RECENT_SECONDS)
        self._thread = Meter(5.0)
        self._survey = Survey(server.core)
        self._history = History()
        self._watchdog = Watchdog(self._begun)
        self._own = OwnLoad()
        self._cpu_percent = 0
        self._memory = resident_bytes()
        self._load_looked = self._begun
        self._disk_free = room(directory)
        self._disk_looked = self._begun
        self._left_before = 0
        self._ready, self._ready_looked = 0, float("-inf")
        # From here on: what is fetched before anybody looks counts, too.
        self._history.note(self._totals(0), self._begun, clock.wall())

    def history(self) -> dict[str, Any]:
        """How it went, as columns for charts."""
        return self._history.to_json()

    def _totals(self, in_flight: int) -> Totals:
        """What is counted up to now, without sitemaps, which are no pages."""
        core = self._server.core
        counts, frontier = core.ledger.counts, core.frontier
        done = {code: count - counts.sitemap_ends[code] for code, count in sorted(counts.done.items())}
        outcomes = {OUTCOMES[code].value: count for code, count in done.items() if count > 0}
        queued = frontier.queued + frontier.waiting
        return Totals(counts.ended - counts.sitemaps, counts.bytes, in_flight, queued, outcomes)

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
        now: float | None = None,
    ) -> st.Status:
        """The crawl at this moment; cost: about a millisecond with a dozen workers and thousands of hosts."""
        server, core = self._server, self._server.core
        now, wall = clock.now() if now is None else now, clock.wall()
        counts, frontier, recent = core.ledger.counts, core.frontier, core.recent
        ended, told = counts.ended - counts.sitemaps, _told_once(counts)
        self._pages.note(told, now)
        self._bytes.note(counts.bytes, now)
        self._commits.note(counts.commits, now)
        self._look_at_machine(now)
        elapsed = now - self._begun
        rate = self._pages.rate(told, now)
        workers = self._fleet(now)
        hosts = self._hosts(now)
        queued = frontier.queued + frontier.waiting
        held = queued - frontier.lendable
        if exit_code is None and phase is st.Phase.RUNNING and not core.leases.requests and queued:
            phase = st.Phase.WAITING
        facts = self._facts(phase, directory, hosts, rate, tally, worker_command, now, wall)
        causes = waiting(facts)
        left = queued - held + core.leases.requests
        growing = not self.config.no_follow and left >= self._left_before
        if elapsed > 1:
            self._left_before = left
        longest = facts.longest
        in_flight = sum(worker.in_flight for worker in workers)
        totals = self._totals(in_flight)
        outcomes = dict(totals.outcomes)
        self._history.note(totals, now, wall)
        self._watch(phase, recent.tries.total(), causes, now)
        picture, sockets = self._survey.picture, server.sockets
        return st.Status(
            phase=phase,
            directory=directory,
            started_at=self._started_at,
            elapsed_seconds=elapsed,
            pages=ended,
            pages_now=told - self._pages_before,
            outcomes=outcomes,
            rate=rate,
            rate_average=(told - self._pages_before) / elapsed if elapsed > 0 else 0.0,
            bytes_received=counts.bytes,
            bytes_rate=self._bytes.rate(counts.bytes, now),
            in_flight=in_flight,
            admitted=counts.admitted,
            queued=queued,
            leased=core.leases.requests,
            hosts=hosts,
            errors=sum(count for name, count in outcomes.items() if Outcome(name).state is State.FAILED),
            workers=workers,
            refused=_counted(counts.refused),
            seeds=st.Seeds(tally.read, tally.bad, tally.reading > 0),
            seed_ends=self._seed_ends(first) if exit_code is not None and not counts.seeds_ok else (),
            eta_seconds=estimate(
                left=left,
                rate=rate,
                pages=max(0, counts.charged - core.leases.requests - frontier.charged - frontier.waiting),
                growing=growing,
                max_pages=self.config.max_pages,
                longest_queue=0 if longest is None else longest.queued,
                delay=0.0 if longest is None else longest.delay_seconds,
                per_host=1 if longest is None else longest.per_host,
            ),
            limits=causes[0].text if causes else "",
            waiting=causes,
            retries_waiting=frontier.waiting,
            held_back=held,
            tries={OUTCOMES[code].value: count for code, count in sorted(recent.tries.items())},
            recent_errors=tuple(
                st.FailedTry(
                    clock.rfc3339(each.wall),
                    escaped(each.url),
                    each.outcome.value,
                    escaped(each.error),
                    each.again,
                )
                for each in reversed(recent.errors)
            ),
            long_queues=picture.long_queues,
            slow_hosts=picture.slow,
            failing_hosts=picture.failing,
            guarded=_counted(counts.guarded),
            items=dict(sorted(_counted(counts.items).items())),
            unextracted=counts.unextracted,
            extract_error=""
            if recent.extract_error is None
            else escaped("{}: {}".format(*recent.extract_error))[:500],
            sitemaps=counts.sitemaps,
            files=counts.files,
            file_bytes=counts.file_bytes,
            poison=tuple(escaped(url) for url in counts.poison),
            relinked=counts.relinked,
            round=core.round,
            again={what: counts.again[what] for what in st.AGAIN} if core.round else {},
            retried=counts.retried,
            near_duplicates=recent.near_duplicates,
            revisits=counts.revisits,
            commits=counts.commits,
            commits_rate=self._commits.rate(counts.commits, now),
            commit_seconds=server.commit_seconds(now),
            workers_joined=core.fleet.joined,
            workers_died=core.fleet.died,
            protocol_errors=0 if sockets is None else sockets.broken,
            unroutable=0 if sockets is None else sockets.unroutable,
            cpu_percent=self._cpu_percent,
            disk_free_bytes=self._disk_free,
            memory_bytes=self._memory,
            http=self._http,
            worker_command=worker_command,
            command=command,
            reason=reason,
            exit_code=exit_code,
        )

    # ------------------------------------------------------------------------------------------- what it looks at

    def _facts(
        self,
        phase: st.Phase,
        directory: str,
        hosts: st.HostCounts,
        rate: float,
        tally: Tally,
        worker_command: str,
        now: float,
        wall: float,
    ) -> Facts:
        server, core, config = self._server, self._server.core, self.config
        frontier, lending = core.frontier, core.lending
        sessions = list(core.fleet)
        patience = SILENT_HEARTBEATS * config.tuning.heartbeat
        live = [session for session in sessions if now - session.heard_at <= patience]
        silent = [session for session in sessions if now - session.heard_at > patience]
        picture = self._survey.step(now, wall)
        retrying = _group(picture.retrying, now)
        if picture.first_retry is not None and frontier.waiting:
            due, host = picture.first_retry
            retrying = Group(retrying.count, due - now, retrying.names or (host,))
        queued = frontier.queued + frontier.waiting
        failing, failing_tries, tries = self._failing(now)
        cpu = time.thread_time()
        self._thread.note(cpu, now)
        return Facts(
            phase=phase,
            directory=directory,
            workers=len(live),
            capacity=sum(session.lanes for session in live),
            lanes_lent=sum(session.lent_lanes for session in live),
            in_flight=sum(_in_flight(session) for session in live),
            queued=queued,
            hosts_ready=hosts.ready,
            hosts_waiting=hosts.waiting,
            hosts_leased=hosts.leased,
            next_due_seconds=_left(frontier.bench.next_due(), now),
            next_hosts=tuple(frontier.bench.first_due(5)),
            longest=max(picture.long_queues, key=lambda host: host.alone_seconds, default=None),
            retries=frontier.waiting,
            retrying=retrying,
            robots=_group(picture.robots, now),
            resting=_group(picture.resting, now),
            addresses=tuple(Address(*each) for each in lending.busy_addresses() if each[2]),
            per_ip=config.per_ip,
            permits=Group(len(lending.permits), None, tuple(lending.permits.names(5))),
            delay=config.delay,
            per_host=config.per_host,
            rate=rate,
            max_rate=config.max_rate,
            held_back=queued - frontier.lendable,
            budget="--max-pages" if not frontier.budgets.may_charge else "--max-pages-per-host",
            disk_full=server.disk_full,
            no_files=server.no_files,
            disk_free=self._disk_free,
            min_free=config.min_free,
            memory_short=tuple(
                _name(session) for session in live if session.held_bytes >= MEMORY_FULL * config.memory
            ),
            offline=tuple(_name(session) for session in live if session.offline),
            silent=tuple(_name(session) for session in silent),
            silent_seconds=min((now - session.heard_at for session in silent), default=0.0),
            commit_seconds=server.commit_seconds(now),
            failing=failing,
            failing_tries=failing_tries,
            tries=tries,
            worker_cpu=sum(session.cpu_percent for session in live) / len(live) / 100 if live else None,
            extract_share=sum(session.extract_percent for session in live) / len(live) / 100 if live else 0.0,
            coordinator_cpu=self._thread.rate(cpu, now),
            seeds_reading=tally.reading > 0,
            seeds_read=tally.read,
            worker_command=worker_command,
        )

    def _failing(self, now: float) -> tuple[str, int, int]:
        """The failure that most tries of the last minute came to, how many did, and how many tries there were."""
        tries = self._server.core.recent.tries
        total = tries.total()
        self._tries.note(total, now)
        worst, most = "", 0
        for code, count in tries.items():
            outcome = OUTCOMES[code]
            if outcome.state is not State.FAILED:
                continue
            meter = self._recent.get(code)
            if meter is None:
                meter = self._recent[code] = Meter(RECENT_SECONDS)
                meter.note(0, now)
            meter.note(count, now)
            if (grown := int(meter.grown(count))) > most:
                worst, most = outcome.value, grown
        return worst, most, int(self._tries.grown(total))

    def _fleet(self, now: float) -> tuple[st.WorkerStatus, ...]:
        known = {}
        workers = []
        for session in self._server.core.fleet:
            meter = known[session.id] = self._workers.get(session.id) or Meter(15.0)
            meter.note(session.fetched, now)
            workers.append(
                st.WorkerStatus(
                    session.host,
                    session.pid,
                    session.lanes,
                    _in_flight(session),
                    meter.rate(session.fetched, now),
                    now - session.heard_at,
                    session.cpu_percent,
                    session.rss,
                    session.lag_ms,
                    session.offline,
                    session.held_bytes,
                    session.fetched,
                    session.extract_percent,
                )
            )
        self._workers = known
        return tuple(workers)

    def _hosts(self, now: float) -> st.HostCounts:
        frontier = self._server.core.frontier
        ready = frontier.bench.count_due(now, READY_COUNTED_OFTEN)
        if ready >= READY_COUNTED_OFTEN:
            if now - self._ready_looked >= READY_LOOK_SECONDS:
                self._ready, self._ready_looked = frontier.bench.count_due(now, READY_COUNTED), now
            ready = max(ready, self._ready)
        leased = len({lease.host for lease in self._server.core.leases})
        in_line = len(frontier.parked) + len(frontier.addresses)
        return st.HostCounts(
            frontier.all_hosts.known, ready, max(0, frontier.bench.size - ready) + in_line, leased
        )

    def _look_at_machine(self, now: float) -> None:
        if now - self._disk_looked >= DISK_LOOK_SECONDS:
            self._disk_free, self._disk_looked = room(self._directory), now
        if now - self._load_looked >= LOAD_LOOK_SECONDS:
            self._cpu_percent, self._memory, self._load_looked = (
                self._own.cpu_percent(),
                resident_bytes(),
                now,
            )

    def _watch(self, phase: st.Phase, tries: int, causes: tuple[st.Waiting, ...], now: float) -> None:
        """Into the log: that nothing is fetched, why, and that it goes on."""
        if phase in (st.Phase.STOPPING, st.Phase.FINISHED, st.Phase.STOPPED):
            return
        still = self._watchdog.look(tries, now)
        if still is None:
            return
        if still.over:
            log.info("crawl.moving", still_s=round(still.seconds, 1))
            return
        told = " | ".join(cause.text for cause in causes) or "no cause is known"
        log.info("crawl.waiting", still_s=round(still.seconds, 1), causes=told)

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


def _told_once(counts: Counts) -> int:
    """Lines of `pages` that were written, those that count no more after a `coord retry` among them: it never falls."""
    return counts.ended - counts.sitemaps + counts.retried


def _name(session: WorkerSession) -> str:
    return f"{session.host}:{session.pid}"


def _in_flight(session: WorkerSession) -> int:
    """Fetches; what is lent and not told of yet counts, or it would look idle until its next heartbeat."""
    return max(session.in_flight, min(session.lent_lanes, session.lent_requests))


def _group(crowd: Crowd, now: float) -> Group:
    return Group(crowd.count, _left(crowd.until, now), crowd.first(), crowd.why)


def _left(at: float | None, now: float) -> float | None:
    return None if at is None else max(0.0, at - now)


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
