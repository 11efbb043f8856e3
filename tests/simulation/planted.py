"""Deliberate faults, one for each rule of docs/protocol.md that says what breaks without it, and some of our own.

Each exchanges one part of the cluster for one that leaves the rule out. The simulation has to notice, within as many
seeds as stand beside it; if it does not, it is the simulation that is broken.

Not here: rule 14's counters in Close, and its replies of older rounds. This crawl refuses links while a shard is closed,
so chance hardly ever shows them; tests/unit/test_crawl.py and test_shard.py do. Rules 15, 17 and 24 are not built yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from common import messages as m
from common.messages import LeaseId, lease_epoch
from common.url import HostKey, slot
from coordinator.crawl import Crawl, Over, Stage
from coordinator.crawl import Instruction as ControlInstruction
from coordinator.fleet import Fleet
from coordinator.leases import OpenLease
from coordinator.lending import Lending
from coordinator.outputs import OutputBatch
from coordinator.partials import Partial, Partials
from coordinator.results import Results
from coordinator.shard import Shard
from coordinator.sink import Recovery
from coordinator.state import ShardState
from coordinator.steps import Event, Instruction, Received, Seeded, Send
from coordinator.store.rows import LeaseRow
from tests.simulation.cluster import Cluster
from tests.simulation.parts import Parts
from tests.simulation.web import make_chain, make_web
from tests.support.disk import CrashableFiles, CrashableStore
from worker import visits as core
from worker.agent import Agent


class Stormy(Parts):
    """Weather in which faults show sooner: long delays, many crashes; `often` says of what."""

    often: ClassVar[Mapping[str, float]] = {}
    steers = False
    machines = 3
    delay = 5.0
    slow = 0.1
    lateness = 3.0
    slow_commits = False
    slow_handshakes = False
    drop = 0.0
    chain = 0
    """Pages of a web that is one chain, from shard to shard; 0: the web that the seed drew."""

    def arrange(self, cluster: Cluster) -> None:
        cluster.often = dict(self.often)
        cluster.control_lateness = self.lateness
        cluster.budget = None
        cluster.config = replace(
            cluster.config,
            delay=self.delay,
            host=(),
            jitter=0.0,
            per_ip=32,
            max_depth=None,
            max_pages_per_host=None,
        )
        cluster.use(cluster.web, cluster.seeds)
        if cluster.stormy:
            weather = cluster.network.weather
            weather.slow, weather.drop = max(self.slow, weather.slow), max(self.drop, weather.drop)
        if self.slow_commits:
            cluster.commit_seconds = (0.3, 2.0)
            cluster.disk_crashes = 1.0 if cluster.stormy else 0.0
        if self.slow_handshakes:
            cluster.handshakes = (3.0, 8.0)
        if self.chain:
            names = [f"h{number}.test" for number in range(64)]
            hosts = [
                next(name for name in names if cluster.slots[slot(HostKey(name))] == shard)
                for shard in (0, 1)
            ]
            cluster.config = replace(cluster.config, delay=0.0, obey_robots=False)
            cluster.use(*make_chain(tuple(hosts), self.chain))


@dataclass(frozen=True, slots=True)
class Planted:
    """`rule`: its number, and what is left out. `seeds`: within so many it is noticed."""

    rule: str
    parts: type[Parts]
    seeds: int = 400
    fails: bool = False
    """A core may notice by itself, and raise."""
    noticed: int = 0
    """In this seed it was noticed last; `scripts/simulate --planted` tells it anew. A wrong one only costs time."""

    def order(self) -> Iterator[int]:
        """All its seeds, that one first."""
        yield self.noticed
        yield from (seed for seed in range(self.seeds) if seed != self.noticed)


# --------------------------------------------------------------------------------------------------------- order


class _PageBeforeLinks(Agent):
    def _links_accepted(self, number: int, owed: core.Owed, now: float) -> None:
        pass

    def _report(self, visit: core.Visit, ordinal: int, report: core.Report, now: float) -> None:
        super()._report(visit, ordinal, report, now)
        waiting = self._owed.waiting.pop((visit.lease.id, ordinal), None)
        if waiting is not None:
            self._send_page(visit, ordinal, waiting.report, waiting.own, now)


class PageBeforeLinks(Stormy):
    often: ClassVar[Mapping[str, float]] = {"crash of a process": 10.0, "crash of a machine": 10.0}
    shards = 2
    delay = 0.3
    drop = 0.3
    agent = _PageBeforeLinks


class AnswerBeforeCommit(Stormy):
    shards = 2
    slow_commits = True
    delay = 0.3

    def too_early(self, instruction: Instruction) -> bool:
        return isinstance(instruction, Send) and isinstance(instruction.message, m.Answer)


class SeedsAnsweredBeforeCommit(Stormy):
    often: ClassVar[Mapping[str, float]] = {"crash of a shard": 3.0}
    shards = 2
    slow_commits = True
    slow = 0.0

    def too_early(self, instruction: Instruction) -> bool:
        return isinstance(instruction, Seeded)


class RowsNotSynced(Parts):
    def write_rows(self, store: CrashableStore, rows: Mapping[bytes, bytes | None]) -> None:
        store.stage(rows)


class OutputsNotSynced(Parts):
    def write_outputs(self, files: CrashableFiles, batch: OutputBatch) -> None:
        before = {name: file.durable for name, file in files._files.items()}
        files.write(batch)
        for append in batch.appends:
            files._files[append.file].durable = before.get(append.file, 0)


class NewNamesNotSynced(Parts):
    def write_outputs(self, files: CrashableFiles, batch: OutputBatch) -> None:
        before = {name for name, file in files._files.items() if file.is_named}
        files.write(batch)
        for append in batch.appends:
            files._files[append.file].is_named = append.file in before


class TailsLeft(Parts):
    def recover(self, files: CrashableFiles, committed: Mapping[str, int], shard: int) -> Recovery:
        return Recovery((), (), ())


class _EntersWhenSent(Agent):
    def _send_page(self, visit, ordinal, report, own, now):  # type: ignore[no-untyped-def]
        for fingerprint in report.fingerprints:
            self.sent.enter(fingerprint, report.depth)
        super()._send_page(visit, ordinal, report, own, now)


class EnteredWhenSent(Stormy):
    often: ClassVar[Mapping[str, float]] = {"freeze": 15.0, "cut": 15.0}
    delay = 0.3
    agent = _EntersWhenSent


class SharedTable(Parts):
    agent = _EntersWhenSent

    def __init__(self) -> None:
        self._agents: list[Agent] = []

    def covers(self, agent: Agent, fingerprint: bytes, depth: int) -> bool:
        if agent not in self._agents:
            self._agents.append(agent)
        return any(each.sent.covers(fingerprint, depth) for each in self._agents)


# -------------------------------------------------------------------------------------------------------- leases


class LeaseBeforeCommit(Stormy):
    slow_commits = True

    def too_early(self, instruction: Instruction) -> bool:
        return isinstance(instruction, Send) and isinstance(instruction.message, m.Lease)


class _SameEpoch(Shard):
    def _recover(self, now: float, wall: float) -> None:
        self._state.epoch = 1
        super()._recover(now, wall)


class LeaseIdsReused(Parts):
    shard = _SameEpoch


class _LeasesForgotten(Shard):
    def _reopen(self, lease_number: LeaseId, row: LeaseRow, now: float, wall: float) -> None:
        super()._reopen(lease_number, row, now, wall)
        lease = self.leases.get(lease_number)
        if lease is not None:
            self._lending.end(lease, now, wall, due=now)


class LeasesForgotten(Parts):
    shard = _LeasesForgotten


class _CountsFromArrival(Agent):
    def _arrived(self, link: core.ShardLink, message: m.ToWorker, now: float) -> None:
        if isinstance(message, m.Lease | m.Alive) and message.number in link.sent_at:
            link.sent_at[message.number] = now
        super()._arrived(link, message, now)


class CountedFromArrival(Parts):
    agent = _CountsFromArrival


class _CountsFromFirst(Agent):
    def __init__(self, *arguments, **named):  # type: ignore[no-untyped-def]
        super().__init__(*arguments, **named)
        self._born = named["now"]

    def _begin(self, link: core.ShardLink, lease: m.Lease, deadline: float, now: float) -> None:
        super()._begin(link, lease, self._born + self._ttl, now)


class CountedFromFirst(Parts):
    agent = _CountsFromFirst


class _TakesTwice(Agent):
    def _take(self, link: core.ShardLink, lease: m.Lease, now: float) -> None:
        self._taken.pop(lease.id, None)
        super()._take(link, lease, now)


class LeaseTakenTwice(Stormy):
    agent = _TakesTwice


class _NeverStalled(Shard):
    """Without the last sentence of rule 7, which would heal what others break, after 10 T."""

    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        for lease in self.leases:
            lease.progress_at = now
        return super().handle(event, now, wall)


class _RenewsAll(_NeverStalled):
    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        if isinstance(event, Received) and isinstance(event.message, m.Heartbeat):
            session = event.message.session
            self.leases.renew(session, [lease.id for lease in self.leases.of(session)], now)
        return super().handle(event, now, wall)


class AllRenewed(Parts):
    shard = _RenewsAll


class _NamesNoUnknown(Shard):
    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        return [_without_unknown(each) for each in super().handle(event, now, wall)]


def _without_unknown(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Send) and isinstance(instruction.message, m.Alive):
        return Send(replace(instruction.message, unknown=()), instruction.data)
    return instruction


class ClockNotLookedAt(Stormy):
    often: ClassVar[Mapping[str, float]] = {"freeze": 8.0}
    slow_handshakes = True

    def may_write(self, agent: Agent, lease: int, now: float) -> bool:
        return lease in agent._visits


class ClockSleeps(Stormy):
    often: ClassVar[Mapping[str, float]] = {"freeze": 12.0}
    clock_sleeps = True


class NotBrokenOff(Stormy):
    often: ClassVar[Mapping[str, float]] = {"cut": 20.0}
    aborts = False


class _NothingOwed(Lending):
    def end(self, lease: OpenLease, now: float, wall: float, *, due: float | None = None) -> None:
        super().end(lease, now, wall, due=None if due is None else now)


class _ExpiryOwesNothing(Shard):
    makes_lending = _NothingOwed


class ExpiryOwesNothing(Stormy):
    often: ClassVar[Mapping[str, float]] = {"cut": 20.0, "crash of a process": 8.0}
    shard = _ExpiryOwesNothing


class _DueAtOnce(Lending):
    def end(self, lease: OpenLease, now: float, wall: float, *, due: float | None = None) -> None:
        super().end(lease, now, wall, due=now if due is None else due)


class _AgesIgnored(Shard):
    makes_lending = _DueAtOnce


class AgesIgnored(Parts):
    shard = _AgesIgnored


class _DueForgotten(Shard):
    def _recover(self, now: float, wall: float) -> None:
        super()._recover(now, wall)
        for host in self.frontier.hosts.values():
            if host.free:
                host.free = [(now, sum(count for _, count in host.free))]
            host.rest_until = host.due_at_most = now


class DueForgotten(Stormy):
    often: ClassVar[Mapping[str, float]] = {"crash of a shard": 10.0}
    slow = 0.0
    shard = _DueForgotten


class _Remembers(Lending):
    def __init__(self, state: ShardState, now: float) -> None:
        super().__init__(state, now)
        self.over: dict[int, OpenLease] = {}

    def end(self, lease: OpenLease, now: float, wall: float, *, due: float | None = None) -> None:
        self.over[lease.id] = lease
        super().end(lease, now, wall, due=due)


class _TakesLate(Results):
    def page(self, session, page, body, now, wall):  # type: ignore[no-untyped-def]
        assert isinstance(self._lending, _Remembers)
        lease = self._lending.over.get(page.lease)
        if lease is not None and page.ordinal in lease.open and page.number not in session.answers:
            host = self._state.frontier.host(lease.host, now, wall)
            lease.open.discard(page.ordinal)
            self._result(host, lease, page, body, [], now, wall)
            return None
        return super().page(session, page, body, now, wall)


class _LateResults(Shard):
    makes_lending = _Remembers
    makes_results = _TakesLate


class LateResultTaken(Parts):
    shard = _LateResults


class _DuplicatesUnanswered(_NamesNoUnknown, _NeverStalled):
    """Together with what rule 7 heals: else the worker hears that its lease is over."""

    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        if isinstance(event, Received) and isinstance(event.message, m.Page | m.Robots | m.Links):
            session = self.fleet.get(event.message.session)
            if session is not None and event.message.number in session.answers:
                return []
        return super().handle(event, now, wall)


class DuplicatesUnanswered(Stormy):
    often: ClassVar[Mapping[str, float]] = {"cut": 15.0}
    shard = _DuplicatesUnanswered


class _TakesOldEpochs(Agent):
    def _take(self, link: core.ShardLink, lease: m.Lease, now: float) -> None:
        shown, link.epoch = link.epoch, lease_epoch(lease.id)
        super()._take(link, lease, now)
        link.epoch = shown


class OldEpochsTaken(Stormy):
    often: ClassVar[Mapping[str, float]] = {"crash of a shard": 10.0}
    slow = 0.5
    shard = _NamesNoUnknown
    agent = _TakesOldEpochs


class SameIdentity(Stormy):
    often: ClassVar[Mapping[str, float]] = {"crash of a machine": 10.0}
    same_identity = True


class _AllUpTo(Agent):
    def _arrived(self, link: core.ShardLink, message: m.ToWorker, now: float) -> None:
        if isinstance(message, m.Answer) and message.accepted:
            last = max(message.accepted)
            below = tuple(owed.message.number for owed in self._owed if owed.message.number < last)
            message = replace(message, accepted=tuple(sorted({*message.accepted, *below})))
        super()._arrived(link, message, now)


class AnswersAllUpTo(Stormy):
    delay = 0.3
    slow = 0.0
    drop = 0.3
    agent = _AllUpTo


class _SendsOnce(Agent):
    def _send_again(self, owed: core.Owed, now: float) -> None:
        owed.due = now + 1e9


class SentOnce(Parts):
    agent = _SendsOnce
    shard = _NeverStalled


class _SilentToStrangers(Shard):
    def handle(self, event: Event, now: float, wall: float) -> list[Instruction]:
        done = super().handle(event, now, wall)
        return [
            each for each in done if not (isinstance(each, Send) and isinstance(each.message, m.HelloAgain))
        ]


class NoHelloAgain(Parts):
    shard = _SilentToStrangers


# ------------------------------------------------------------------------------------------------------- the end


class _NoClose(Crawl):
    def _report(self, report: m.Report, now: float) -> list[ControlInstruction]:
        asked = super()._report(report, now)
        if asked:
            self.stage = Stage.FINISHED
            return [Over()]
        return asked


class OnePoll(Parts):
    crawl = _NoClose


class _SeedsIgnored(Crawl):
    def source_opened(self) -> None:
        super().source_opened()
        self.source_closed()

    def source_closed(self) -> None:
        if self._sources:
            super().source_closed()


class SeedsIgnored(Stormy):
    shards = 2
    slow = 0.0
    lateness = 0.0
    crawl = _SeedsIgnored


class _NoSecondVisit(Shard):
    def __init__(self, *arguments, **named):  # type: ignore[no-untyped-def]
        super().__init__(*arguments, **named)
        self.frontier.max_depth = None


class NoSecondVisit(Parts):
    shard = _NoSecondVisit


class Deadly(Stormy):
    """A web in which a page kills whoever reads it, beside others that are slow."""

    delay = 0.0

    def arrange(self, cluster: Cluster) -> None:
        super().arrange(cluster)
        pages = [page for page in cluster.web.pages.values() if page.status == 200]
        for page in pages:
            page.seconds = 3.0
        if pages:
            pages[0].deadly, pages[0].seconds = True, 1.0
        cluster.config = replace(cluster.config, concurrency=16, max_depth=None)
        cluster.use(cluster.web, cluster.seeds)


class NobodyMarked(Deadly):
    suspects = "none"


class EverybodySuspect(Deadly):
    suspects = "all"


# ----------------------------------------------------------------------------------------------------- our own


class _ForgottenCountAsSent(Agent):
    def _forget(self, lease: int, now: float) -> None:
        for owed in self._owed:
            if owed.lease == lease:
                for fingerprint in owed.fingerprints:
                    self.sent.enter(fingerprint, owed.depth)
        super()._forget(lease, now)


class ForgottenCountAsSent(Stormy):
    often: ClassVar[Mapping[str, float]] = {"freeze": 15.0, "cut": 15.0}
    delay = 0.3
    agent = _ForgottenCountAsSent


class _Unbounded(Agent):
    def _room(self) -> int:
        return 1 << 20


class NoBound(Parts):
    agent = _Unbounded


class _RobotsNotAwaited(Agent):
    def _begin(self, link: core.ShardLink, lease: m.Lease, deadline: float, now: float) -> None:
        assert self._config is not None
        config = self._config
        self._config = replace(config, obey_robots=False)
        super()._begin(link, lease, deadline, now)
        self._config = config


class RobotsNotAwaited(Parts):
    agent = _RobotsNotAwaited


class _LendsOn(Lending):
    def _lend_to(self, session, host, now, wall):  # type: ignore[no-untyped-def]
        super()._lend_to(session, host, now, wall)
        session.lent_lanes = session.lent_requests = 0


class _NoPermits(Agent):
    def _follow(self, visit: core.Visit, chase: core.Chase, now: float) -> None:
        self._out.append(visit.hop(visit.lease.id, chase.authority, chase.url, chase.hops, now))


class NoPermits(Stormy):
    agent = _NoPermits


class _AgainForEver(Agent):
    def _came(self, visit: core.Visit, ordinal: int, report: core.Report, now: float) -> None:
        if report.again:
            visit.undo(ordinal)
        else:
            super()._came(visit, ordinal, report, now)


class AgainForEver(Parts):
    agent = _AgainForEver


class _CreditIgnored(Shard):
    makes_lending = _LendsOn


class CreditIgnored(Parts):
    shard = _CreditIgnored


class _NobodyHushed(Fleet):
    def hush(self, now: float, patience: float) -> None:
        pass


class _LendsToTheSilent(Lending):
    def __init__(self, state: ShardState, now: float) -> None:
        super().__init__(state, now)
        state.fleet = _NobodyHushed()


class _SilentAreLent(Shard):
    makes_lending = _LendsToTheSilent


class SilentAreLent(Parts):
    shard = _SilentAreLent


class _OverwritesParts(Partials):
    def _begin(self, key: bytes, held: Partial | None, piece: m.FilePiece) -> Partial | None:
        if held is None or piece.first:
            return super()._begin(key, held, piece)
        held.session, held.lease, held.began = piece.session, piece.lease, piece.began
        held.first, held.validator = 0, piece.validator
        return held


class _SyncsNoParts(Partials):
    def _sync(self, key: bytes, held: Partial) -> None:
        super()._sync(key, held)
        self._outputs._synced.clear()


class _TakesAnyParts(Partials):
    def whole(self, key: bytes, page: m.Page) -> bool:
        return True


class _Overwrites(Shard):
    partials = _OverwritesParts

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._state.partials.__class__ = self.partials


class _SyncsNone(_Overwrites):
    partials = _SyncsNoParts


class _TakesAny(_Overwrites):
    partials = _TakesAnyParts


class _Files(Parts):
    """A small web with many files, whose servers break off."""

    def arrange(self, cluster: Cluster) -> None:
        random = cluster.world.random
        cluster.config = replace(cluster.config, delay=0.3, max_depth=None, max_pages_per_host=None, host=())
        cluster.budget = None
        cluster.often = {"crash of a shard": 8.0, "crash of a process": 8.0}
        web = make_web(random, hosts=2, pages=3, retries=cluster.config.retries, big=False, files=True)
        cluster.use(*web)


class PartsOverwritten(_Files):
    shard = _Overwrites


class PartsNotSynced(_Files):
    shard = _SyncsNone


class AnyPartsTaken(_Files):
    shard = _TakesAny


PLANTED: tuple[Planted, ...] = (
    Planted("1: a page is reported before its outlinks are acknowledged", PageBeforeLinks, noticed=100),
    Planted("1: outlinks of a page that is not accepted count as sent", ForgottenCountAsSent, noticed=65),
    Planted("2: an answer leaves before the commit", AnswerBeforeCommit, noticed=44),
    Planted("2: seeds are answered before the commit", SeedsAnsweredBeforeCommit, noticed=4),
    Planted("2: rows are not synced", RowsNotSynced, noticed=5),
    Planted("2: output bytes are not fsynced", OutputsNotSynced),
    Planted("2: the folder of a new file is not fsynced", NewNamesNotSynced),
    Planted("2: tails are not cut on start", TailsLeft, fails=True, noticed=5),
    Planted("4: the table of links sent is shared", SharedTable, noticed=50),
    Planted("4: a link is entered when sent", EnteredWhenSent, noticed=65),
    Planted("5: a lease leaves before its row is committed", LeaseBeforeCommit, noticed=202),
    Planted("5: lease ids are used again after a restart", LeaseIdsReused, fails=True, noticed=75),
    Planted("5: open leases are lent again on start", LeasesForgotten, noticed=159),
    Planted("6: a lease's time counts from arrival", CountedFromArrival, noticed=158),
    Planted("6: a lease's time counts from the first request", CountedFromFirst),
    Planted("6: a lease is taken twice", LeaseTakenTwice, noticed=16),
    Planted("7: all leases of a session are renewed", AllRenewed, noticed=1),
    Planted("8: the worker's clock stands still while it sleeps", ClockSleeps, noticed=1),
    Planted("8: the clock is not looked at before writing", ClockNotLookedAt, noticed=170),
    Planted("8: fetches in flight are not broken off", NotBrokenOff, noticed=76),
    Planted("9: expiry owes no delay", ExpiryOwesNothing, noticed=20),
    Planted("9: ages are ignored", AgesIgnored, noticed=22),
    Planted("10: due times are forgotten over a restart", DueForgotten, noticed=129),
    Planted("11: a late result is taken", LateResultTaken, noticed=35),
    Planted("11: a duplicate is not answered", DuplicatesUnanswered, noticed=3),
    Planted(
        "12: leases of older epochs are taken; 7: unknown ones are not named", OldEpochsTaken, noticed=96
    ),
    Planted("13: a session's name is its machine's", SameIdentity, noticed=58),
    Planted("13: an answer covers all numbers up to it", AnswersAllUpTo, noticed=3),
    Planted("13: nothing is sent again", SentOnce, noticed=3),
    Planted("13: nobody is asked to say hello again", NoHelloAgain, noticed=3),
    Planted("14: one poll, and no Close", OnePoll, noticed=37),
    Planted("14: it ends while seeds are read", SeedsIgnored, noticed=6),
    Planted("15: what is found at a smaller depth is not visited again", NoSecondVisit, noticed=86),
    Planted("19: pages are fetched before their robots.txt", RobotsNotAwaited, noticed=1),
    Planted("19: a robots.txt is followed to another host without a permit", NoPermits, noticed=1),
    Planted("20: a redirect to itself is followed for ever", AgainForEver, noticed=1),
    Planted("24: nobody knows what a process died of", NobodyMarked),
    Planted("24: all that was in flight is suspect", EverybodySuspect, noticed=12),
    Planted("22: a download that begins anew is written over what was kept", PartsOverwritten, noticed=4),
    Planted("22: what is kept of a download is not synced", PartsNotSynced),
    Planted("22: a download is taken without all its pieces", AnyPartsTaken, fails=True, noticed=6),
    Planted("23: nothing bounds what is unanswered", NoBound, noticed=1),
    Planted("23: a shard lends beyond a worker's credit", CreditIgnored, noticed=1),
    Planted("23: a shard lends to a worker that has long been silent", SilentAreLent),
)
