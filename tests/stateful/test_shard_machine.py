"""A whole shard under everything at once: pages, redirects, retries, blocks, budgets, rounds, visits for links, poison,
permits, crashes. After each step the ledger must add up, no host may have been hurried, and what is committed must
pass the same audit that `coord audit` makes."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common import messages as m
from common.config import CrawlConfig
from common.hostrules import HostRule
from common.messages import Flag, LeaseId, LinkGroup, SessionId
from common.outcome import Outcome
from common.url import CanonicalURL, host_key, slot
from coordinator.audit.ledger import audit
from coordinator.hostqueue import Where
from coordinator.steps import Asked, Instruction, NewRound, Received, Reconfigured, Retry, Seeds, Tick
from coordinator.store.rows import (
    DoneRow,
    as_request,
    is_done,
    meta_row,
    pack,
    row_of,
    unpack,
    unpack_request_row,
)
from tests.unit.test_shard import Bench, request, sent

HOSTS = ("a.test", "b.test", "c.test", "d.test")
PAGES = 5
EVERYTHING = 1 << 20
TRAP = "/x/y/x/y/x/y/x/y/x/y/x/y/x/y"
DELAY = 1.0
LANES = {"a.test": 2}
LIMIT = 3
"""--max-depth, where there is one."""

URLS = st.builds(
    lambda host, page: f"https://{host}/{page}", st.sampled_from(HOSTS), st.integers(0, PAGES - 1)
) | st.sampled_from([f"https://{host}{TRAP}" for host in HOSTS[:2]])

LINKS = st.lists(URLS, max_size=4)

RESULTS = st.sampled_from(
    [
        m.Facts(Outcome.OK.code, status=200, elapsed_ms=5),
        m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, ip="192.0.2.1"),
        m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, ip="192.0.2.1"),
        m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, ip="192.0.2.2"),
        m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, digest="sha1:A"),
        m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, simhash=5),
        m.Facts(Outcome.REDIRECT.code, status=301, elapsed_ms=5),
        m.Facts(Outcome.CLIENT_ERROR.code, status=404, elapsed_ms=5),
        m.Facts(Outcome.CLIENT_ERROR.code, status=429, elapsed_ms=5),
        m.Facts(Outcome.TIMEOUT.code),
        m.Facts(Outcome.TYPE_REJECTED.code, status=200),
        m.Facts(Outcome.ROBOTS_DENIED.code, reason="robots"),
    ]
)


@dataclass
class Held:
    """A lease as its worker has it."""

    lease: m.Lease
    lanes: list[float] = field(default_factory=list)
    """When each may be used again, true time."""
    fetched: dict[int, float] = field(default_factory=dict)
    """When the fetch of each request ended: one whose report was lost is reported again, not made again."""
    told: set[int] = field(default_factory=set)
    last: float | None = None


class ShardMachine(RuleBasedStateMachine):
    @initialize(
        max_depth=st.sampled_from([None, LIMIT, LIMIT]),
        host_limit=st.sampled_from([None, None, 3]),
        near=st.sampled_from([None, 3]),
        robots=st.sampled_from([False, False, True]),
        per_ip=st.sampled_from([32, 1, 1]),
    )
    def begin(
        self, max_depth: int | None, host_limit: int | None, near: int | None, robots: bool, per_ip: int
    ) -> None:
        self.config = CrawlConfig(
            obey_robots=robots,
            delay=DELAY,
            max_depth=max_depth,
            max_pages_per_host=host_limit,
            near_duplicates=near,
            retries=1,
            per_ip=per_ip,
            host=tuple(HostRule(host, per_host=lanes) for host, lanes in LANES.items()),
        )
        self.directory = Path(tempfile.mkdtemp())
        self.bench = Bench(self.config)
        self.true = 0.0
        self.held: dict[LeaseId, Held] = {}
        self.lives = 0
        self.session = SessionId(b"0" * 16)
        self.ends: dict[str, list[float]] = {}
        self.most_lanes = {host: LANES.get(host, 1) for host in HOSTS}
        self.caps = 0
        self.round = 0
        self.uncommitted: list[Instruction] = []
        self.charged = 0
        self.tighten()
        self.bench.hello(self.session)
        self.beat()
        self.seed([f"https://{host}/{page}" for host in HOSTS[:3] for page in range(3)], LIMIT, True)

    def tighten(self) -> None:
        self.bench.shard.frontier.bench.room = 2

    # what a worker does

    def take(self, out: list[Instruction]) -> None:
        for lease in sent(m.Lease, out):
            if lease.session == self.session:
                self.held[lease.id] = Held(lease, [self.true] * lease.lanes)

    def give(self, event: object, *, commit: bool = True) -> None:
        self.bench.handle(event)  # type: ignore[arg-type]
        if commit:
            self.commit_all()

    def commit_all(self) -> None:
        self.take(self.bench.commit())

    def open(self) -> list[Held]:
        """What the worker may work at: its clock runs out before the shard's."""
        return [
            held for id_, held in sorted(self.held.items()) if self.bench.shard.leases.get(id_) is not None
        ]

    @rule(commit=st.booleans())
    def beat(self, commit: bool = True) -> None:
        number = self.bench.number(self.session)
        leases = tuple(sorted(self.held))
        epoch = self.bench.shard.epoch
        self.give(Received(m.Heartbeat(number, self.session, epoch, leases, 3, 6, 0, 0, 0, 0)), commit=commit)
        for id_ in leases:
            if self.bench.shard.leases.get(id_) is None:
                del self.held[id_]

    @precondition(lambda self: self.work())
    @rule(data=st.data(), pages=st.lists(st.tuples(RESULTS, LINKS, st.booleans()), min_size=1, max_size=6))
    def pages(self, data: st.DataObject, pages: list[tuple[m.Facts, list[str], bool]]) -> None:
        for facts, urls, commit in pages:
            work = self.work()
            if not work:
                return
            held, ordinal = work[data.draw(st.integers(0, len(work) - 1))]
            self.report(held, ordinal, facts, urls, commit)

    @precondition(lambda self: self.work())
    @rule(data=st.data(), urls=LINKS)
    def page(self, data: st.DataObject, urls: list[str]) -> None:
        work = self.work()
        held, ordinal = work[data.draw(st.integers(0, len(work) - 1))]
        self.report(held, ordinal, m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, ip="192.0.2.1"), urls)

    def work(self) -> list[tuple[Held, int]]:
        """What the worker has not told yet."""
        return [
            (held, ordinal)
            for held in self.open()
            for ordinal in range(len(held.lease.requests))
            if ordinal not in held.told
        ]

    def report(self, held: Held, ordinal: int, facts: m.Facts, urls: list[str], commit: bool = True) -> None:
        lease = held.lease
        if facts.reason == "robots":
            age = None
        else:
            if ordinal not in held.fetched:
                if min(held.lanes) > self.true:
                    self.sleep(min(held.lanes) - self.true)
                    if self.bench.shard.leases.get(lease.id) is None:
                        return
                held.lanes.remove(min(held.lanes))
                held.lanes.append(self.true + lease.delay)
                self.fetch(lease.host)
                held.fetched[ordinal] = held.last = self.true
            age = self.true - held.fetched[ordinal]
        asked = lease.requests[ordinal]
        hop = facts.outcome == Outcome.REDIRECT.code
        group = LinkGroup(
            asked.url, "seed", asked.depth if hop else asked.depth + 1, int(hop), 0, tuple(urls), None
        )
        message = self.bench.page_message(lease, ordinal, facts, age=age, links=(group,) if urls else ())
        self.give(Received(message), commit=commit)
        if commit:
            held.told.add(ordinal)

    def fetch(self, host: str) -> None:
        """The site's own log: at most so many fetches lie in [start, end + delay)."""
        near = sum(end + DELAY > self.true + 1e-6 for end in self.ends.get(host, ()))
        assert near < self.most_lanes[host], f"{host} is hurried at {self.true}: {self.ends[host][-3:]}"
        self.ends.setdefault(host, []).append(self.true)

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.open()))
        age = None if held.last is None else self.true - held.last
        del self.held[held.lease.id]
        number = self.bench.number(self.session)
        self.give(Received(m.Release(number, self.session, held.lease.id, age)))

    @rule(host=st.sampled_from(HOSTS))
    def want(self, host: str) -> None:
        self.give(Received(m.Want(self.bench.number(self.session), self.session, host)))

    @precondition(lambda self: any(not held.lease.requests for held in self.open()))
    @rule()
    def hop(self) -> None:
        """What a permit is for."""
        held = next(held for held in self.open() if not held.lease.requests)
        if held.last is None:
            self.fetch(held.lease.host)
            held.last = self.true

    @precondition(lambda self: self.config.obey_robots and self.open())
    @rule(data=st.data(), verdict=st.sampled_from(["allow", "allow", "TIMEOUT"]))
    def robots(self, data: st.DataObject, verdict: str) -> None:
        held = data.draw(st.sampled_from(self.open()))
        if held.last is not None or not held.lease.requests:
            return
        self.fetch(held.lease.host)
        held.last = self.true
        held.lanes = [self.true + held.lease.delay] * len(held.lanes)
        self.bench.data += 1
        place = f"https://{held.lease.host}"
        self.give(
            Received(
                m.Robots(
                    self.bench.data,
                    self.session,
                    held.lease.id,
                    place,
                    verdict,
                    None,
                    None,
                    None,
                    None,
                    0.0,
                    0,
                )
            )
        )

    @rule(data=st.data(), reported=st.booleans())
    def die(self, data: st.DataObject, reported: bool) -> None:
        """The process dies; its supervisor tells which request it was reading, if any."""
        dead = self.session
        suspects: tuple[tuple[SessionId, LeaseId, int], ...] = ()
        reading = [
            held for held in self.open() if any(n not in held.told for n in range(len(held.lease.requests)))
        ]
        if reading and reported:
            held = data.draw(st.sampled_from(reading))
            ordinal = next(n for n in range(len(held.lease.requests)) if n not in held.told)
            suspects = ((dead, held.lease.id, ordinal),)
        self.lives += 1
        self.session = SessionId(b"%016d" % self.lives)
        self.held = {}
        number = self.bench.number(self.session)
        self.give(
            Received(m.Hello(number, m.VERSION, self.session, (dead,), "box", 1, 0, False, (), suspects))
        )
        self.beat()

    @rule(urls=st.lists(URLS, min_size=1, max_size=8), depth=st.integers(0, LIMIT), seed=st.booleans())
    def seed(self, urls: list[str], depth: int, seed: bool) -> None:
        flags = int(Flag.SEED) if seed else 0
        self.give(Seeds(1, tuple(request(url, depth=depth, flags=flags) for url in urls)))

    # what a person and control do

    @rule(
        host=st.sampled_from(HOSTS),
        blocked=st.sampled_from([True, None, None, None]),
        lanes=st.sampled_from([None, 1, 2]),
    )
    def steer(self, host: str, blocked: bool | None, lanes: int | None) -> None:
        rules = {each.match: each for each in self.config.host}
        before = rules.get(host, HostRule(host))
        rules[host] = replace(before, blocked=blocked, per_host=lanes or before.per_host)
        self.most_lanes[host] = max(self.most_lanes[host], lanes or 1)
        self.configure(replace(self.config, host=tuple(rules.values())))

    @rule(limit=st.sampled_from([None, None, 1, 3, 5]))
    def limit_hosts(self, limit: int | None) -> None:
        self.configure(replace(self.config, max_pages_per_host=limit))

    def configure(self, config: CrawlConfig) -> None:
        self.config = self.bench.config = config
        self.give(Reconfigured(config))
        for id_ in list(self.held):
            if self.bench.shard.leases.get(id_) is None:
                del self.held[id_]

    @rule(cap=st.sampled_from([None, None, 1, 4, 8]))
    def cap(self, cap: int | None) -> None:
        self.caps += 1
        self.give(Asked(m.Cap(self.caps, cap)))

    @precondition(lambda self: self.ended())
    @rule(data=st.data(), lent=st.booleans())
    def retry(self, data: st.DataObject, lent: bool) -> None:
        """`lent`: of what ended in leases that are still open."""
        ended = {key for key, row in self.ended() if self.round_of(row) == self.round}
        if lent:
            ended &= {self.row_of(held.lease.requests[n]) for held in self.open() for n in held.told}
        if ended:
            keys = data.draw(st.lists(st.sampled_from(sorted(ended)), min_size=1, max_size=4, unique=True))
            self.give(Retry(1, tuple(keys)))

    @precondition(lambda self: self.config.max_depth is not None and self.ended())
    @rule(data=st.data(), less=st.integers(1, 2))
    def find_nearer(self, data: st.DataObject, less: int) -> None:
        """What has ended is found at a smaller depth, so that its links may have to be looked at again."""
        _, row = data.draw(st.sampled_from(self.ended()))
        self.give(Seeds(1, (request(row.request.url, depth=max(0, row.depth - less)),)))

    def ended(self) -> list[tuple[bytes, DoneRow]]:
        rows = [
            (key, unpack_request_row(packed)) for key, packed in self.bench.rows.scan(b"r", b"s", EVERYTHING)
        ]
        return [(key, row) for key, row in rows if isinstance(row, DoneRow)]

    def round_of(self, row: DoneRow) -> int:
        return row.request.form.round if row.request.form else 0

    @precondition(lambda self: not self.bench.shard.leases.requests)
    @rule()
    def new_round(self) -> None:
        self.round += 1
        self.give(NewRound(self.round, None))

    # time and the disk

    @rule(seconds=st.sampled_from([0.2, 1.0, 1.0, 1.0, 12.0, 12.0, 40.0, 900.0]))
    def sleep(self, seconds: float) -> None:
        self.true += seconds
        self.bench.now += seconds
        self.bench.wall += seconds
        self.give(Tick())
        for id_ in list(self.held):
            if self.bench.shard.leases.get(id_) is None:
                del self.held[id_]

    @rule(away=st.sampled_from([0.1, 3.0]), jump=st.sampled_from([0.0, 0.0, 1e5, -1e5]))
    def crash(self, away: float, jump: float) -> None:
        """kill -9 and a new start, perhaps with another wall clock."""
        self.true += away
        self.bench.wall += jump
        self.bench.restart(away=away, clock=float(self.bench.shard.epoch) * 1000)
        self.tighten()
        self.audit()
        committed = {id_ for id_ in self.held if self.bench.shard.leases.get(id_) is not None}
        for id_ in set(self.held) - committed:
            del self.held[id_]
        number = self.bench.number(self.session)
        self.give(
            Received(
                m.Hello(number, m.VERSION, self.session, (), "box", 1, 0, False, tuple(sorted(self.held)))
            )
        )
        self.beat()

    # what must hold

    @invariant()
    def the_ledger_adds_up(self) -> None:
        if not hasattr(self, "bench"):
            return
        shard = self.bench.shard
        counts, frontier = shard.ledger.counts, shard.frontier
        there = frontier.queued + frontier.waiting + shard.leases.requests - frontier.relinks
        assert counts.admitted - counts.ended == there, (counts, frontier.queued, frontier.waiting)
        frontier.check()
        for session in shard.fleet:
            mine = shard.leases.of(session.id)
            assert session.lent_requests == sum(len(lease.open) for lease in mine)
            assert session.lent_lanes == sum(lease.width for lease in mine)
        assert all(count >= 0 for count in counts.again.values()), counts.again
        share = self.config.per_ip
        assert all(count > 0 for count in shard.lending._at_address.values())
        lined = [host for host in frontier.hosts.values() if host.where is Where.LINED]
        assert all(host.ip is not None and host.ip in frontier.addresses for host in lined), lined
        assert share == 1 or not lined, "nobody waits for an address that is not busy"

    @invariant()
    def every_request_is_in_one_place(self) -> None:
        if not hasattr(self, "bench"):
            return
        rows, shard = self.bench.rows, self.bench.shard
        places: Counter[bytes] = Counter()
        for table, stop in ((b"q", b"r"), (b"w", b"x")):
            for _, packed in rows.scan(table, stop, EVERYTHING):
                places[self.row_of(as_request(unpack(packed)))] += 1
        for lease in shard.leases:
            for ordinal in lease.open:
                places[self.row_of(lease.requests[ordinal])] += 1
        for table, stop in ((b"r", b"s"), (b"x", b"y")):
            for key, packed in rows.scan(table, stop, EVERYTHING):
                there = places.pop(key, 0)
                assert there == (0 if is_done(packed) else 1), f"{key.hex()} is open in {there} places"
        assert not places, f"{len(places)} requests without a row"

    def row_of(self, asked: m.Request) -> bytes:
        return row_of(slot(host_key(CanonicalURL(asked.url))), asked, 1)

    @invariant()
    def budgets_are_kept(self) -> None:
        if hasattr(self, "bench"):
            charged, cap = self.bench.shard.ledger.counts.charged, self.bench.shard.cap
            self.charged = min(self.charged, charged)
            assert cap is None or charged <= max(cap, self.charged), (charged, cap)
            self.charged = charged

    @rule()
    def audit(self) -> None:
        """What is committed, as `coord audit` looks at it."""
        for name, content in self.bench.files.files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.bench.store.write({meta_row("crawl"): pack((b"c" * 16, 1))})
        report = audit(self.directory, [self.bench.store])
        assert report.is_right, "\n".join(report.lines())

    def teardown(self) -> None:
        """Whatever happened: with blocks and budgets lifted all of it ends, and then nothing is left to wait for."""
        if not hasattr(self, "bench"):
            return
        try:
            self.finish()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def finish(self) -> None:
        self.cap(None)
        rules = tuple(replace(each, blocked=None) for each in self.config.host)
        self.configure(replace(self.config, max_pages_per_host=None, host=rules, obey_robots=False))
        ok = m.Facts(Outcome.OK.code, status=200, elapsed_ms=5)
        shard = self.bench.shard
        for _ in range(3000):
            self.beat()
            if not (shard.frontier.lendable or shard.leases.requests):
                break
            held = next((held for held in self.open() if held.lease.requests), None)
            if held is not None:
                for ordinal in range(len(held.lease.requests)):
                    if ordinal not in held.told and self.bench.shard.leases.get(held.lease.id) is not None:
                        self.report(held, ordinal, ok, [])
                continue
            wakeup = shard.next_wakeup()
            assert wakeup is not None, "open requests, and nothing to wait for"
            self.sleep(max(0.001, wakeup - self.bench.now))
        else:
            raise AssertionError("never comes to an end")
        self.audit()
        self.the_ledger_adds_up()
        assert shard.frontier.queued == shard.frontier.waiting == shard.frontier.relinks == 0
        assert not any(is_done(packed) is False for _, packed in self.bench.rows.scan(b"r", b"s", 10_000))


TestShard = pytest.mark.timeout(400)(ShardMachine.TestCase)
TestShard.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
