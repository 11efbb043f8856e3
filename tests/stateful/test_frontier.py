"""The frontier against a naive model that keeps everything in lists, with limits so tiny that hosts park and heads
refill all the time, and a disk that forgets what was not committed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.hostrules import HostPolicy
from common.messages import Form, Request
from common.url import CanonicalURL, host_key
from coordinator.frontier import Frontier
from coordinator.hostqueue import Where
from coordinator.store.kv import Overlay
from coordinator.store.rows import CHARGED, as_request, pack, unpack
from tests.support.disk import CrashableStore

HOSTS = tuple(f"{letter}.test" for letter in "abcdef")
LANES = {host: 1 + number % 2 * 2 for number, host in enumerate(HOSTS)}
DELAY = 1.0
BENCH = 2
HEADS = 8
SEED = 7


def policy(host: str) -> HostPolicy:
    return HostPolicy(DELAY, LANES[host])


def request(host: str, page: int, depth: int, priority: int = 0) -> Request:
    form = Form("GET", (), None, None, 0, priority, None) if priority else None
    return Request(f"https://{host}/{page}", depth, 0, 0, 0, "seed", None, form)


def host_of(asked: Request) -> str:
    return host_key(CanonicalURL(asked.url))


@dataclass
class Lent:
    host: str
    lanes: int
    requests: list[Request]


@dataclass
class Model:
    """What must be: by URL, for a plain list is enough to say who comes next."""

    queued: dict[str, tuple[tuple[int, int, int, int], Request]] = field(default_factory=dict)
    waiting: dict[str, tuple[float, Request]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    tries: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    lent: dict[int, Lent] = field(default_factory=dict)
    lanes: dict[str, list[float]] = field(
        default_factory=lambda: {host: [0.0] * LANES[host] for host in HOSTS}
    )
    """When each free lane may be used, wall time."""
    rest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(HOSTS, 0.0))
    charged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOSTS, 0))
    doomed: set[str] = field(default_factory=set)
    seq: int = 0

    def enqueue(self, asked: Request) -> None:
        self.seq += 1
        priority = -asked.form.priority if asked.form else 0
        rank = 0 if asked.flags & CHARGED else 1
        self.queued[asked.url] = ((rank, priority, asked.depth, self.seq), asked)

    def knows(self, url: str) -> bool:
        lent = any(asked.url == url for lease in self.lent.values() for asked in lease.requests)
        return lent or url in self.done or url in self.queued or url in self.waiting

    def line(self, host: str) -> list[Request]:
        here = sorted((place, asked.url) for place, asked in self.queued.values() if host_of(asked) == host)
        return [self.queued[url][1] for _, url in here]

    def open(self, host: str) -> int:
        waiting = sum(host_of(asked) == host for _, asked in self.waiting.values())
        return len(self.line(host)) + waiting


class FrontierMachine(RuleBasedStateMachine):
    @initialize(limit=st.none() | st.integers(1, 6))
    def begin(self, limit: int | None) -> None:
        self.now, self.wall = 100.0, 1_000_000.0
        self.store = CrashableStore()
        self.model = Model()
        self.host_limit = limit
        self.epoch = 0
        self.leases = 0
        self.may_charge = True
        self.saved: tuple[Model, int] = (copy.deepcopy(self.model), 0)
        self.start()

    def start(self) -> None:
        self.rows = Overlay(self.store, remember=4)
        self.epoch += 1
        self.frontier = Frontier(
            self.rows,
            seed=SEED,
            host_policy=policy,
            epoch=self.epoch,
            bench=BENCH,
            heads=HEADS,
        )
        self.frontier.budgets.per_host = self.host_limit
        self.frontier.budgets.may_charge = self.may_charge
        for lent in self.model.lent.values():
            self.frontier.host(lent.host, self.now, self.wall).attach_lanes(lent.lanes)
        for _ in self.frontier.recover(self.now, self.wall):
            pass

    # ------------------------------------------------------------------------------------------------------- requests

    @rule(
        host=st.sampled_from(HOSTS),
        pages=st.lists(st.integers(0, 40), min_size=1, max_size=9),
        depth=st.integers(0, 3),
    )
    def admit(self, host: str, pages: list[int], depth: int) -> None:
        for page in pages:
            asked = request(host, page, depth)
            fresh = not self.model.knows(asked.url)
            assert self.frontier.admit(asked, self.now, self.wall) is fresh
            if fresh:
                self.model.enqueue(asked)
            elif asked.url in self.model.queued:
                place, there = self.model.queued[asked.url]
                if depth < place[2]:
                    lifted = there._replace(depth=depth)
                    self.model.queued[asked.url] = ((*place[:2], depth, place[3]), lifted)

    @rule(host=st.sampled_from(HOSTS), page=st.integers(100, 110), priority=st.sampled_from([-5, 5]))
    def admit_with_priority(self, host: str, page: int, priority: int) -> None:
        asked = request(host, page, 1, priority)
        fresh = not self.model.knows(asked.url)
        assert self.frontier.admit(asked, self.now, self.wall) is fresh
        if fresh:
            self.model.enqueue(asked)

    @rule(count=st.integers(1, 12), width=st.integers(1, 3), times=st.integers(1, 4))
    def lend(self, count: int, width: int, times: int) -> None:
        for _ in range(times):
            self.lend_one(count, width)

    def lend_one(self, count: int, width: int) -> bool:
        """As shard.py lends."""
        host = self.frontier.ready(self.now, self.wall)
        if host is None:
            return False
        if host.doom is not None:
            return self.give_up(host.key)
        due = [at for at in self.model.lanes[host.key] if at <= self.wall + 1e-6]
        assert self.model.rest[host.key] <= self.wall + 1e-6, f"{host} is lent while it rests"
        lanes = min(width, host.lanes_due(self.now))
        assert 1 <= lanes <= len(due), f"{host} is lent too early"
        self.wake_model(host.key)
        line = self.lendable(host.key)
        taken = self.frontier.take(host, count)
        assert taken == line[: len(taken)]
        assert len(taken) == min(count, len(line))
        lanes = min(lanes, len(taken))
        host.take_lanes(lanes)
        self.model.lanes[host.key] = sorted(self.model.lanes[host.key])[lanes:]
        out = []
        for asked in taken:
            del self.model.queued[asked.url]
            if not asked.flags & CHARGED:
                asked = asked._replace(flags=asked.flags | CHARGED)
                host.lent += 1
                self.model.charged[host.key] += 1
            out.append(asked)
        if self.host_limit is not None:
            assert self.model.charged[host.key] <= self.host_limit
        self.leases += 1
        self.model.lent[self.leases] = Lent(host.key, lanes, out)
        self.frontier.settle(host, self.now, self.wall)
        return True

    def wake_model(self, host: str) -> None:
        """The frontier moved what is due among the waiting to the queue: in the order of their times."""
        due = [(at, url) for url, (at, asked) in self.model.waiting.items() if host_of(asked) == host]
        due = sorted((each for each in due if each[0] <= self.wall), key=lambda each: each[0])
        moved = {
            asked.url
            for place, asked in self.on_disk("q")
            if place == host and asked.url in self.model.waiting
        }
        assert moved <= {url for _, url in due}
        for at, url in due:
            if url in moved:
                self.model.enqueue(self.model.waiting.pop(url)[1])
            assert at <= self.wall

    def lendable(self, host: str) -> list[Request]:
        line = self.model.line(host)
        old = [asked for asked in line if asked.flags & CHARGED]
        new = [asked for asked in line if not asked.flags & CHARGED]
        if not self.may_charge:
            return old
        if self.host_limit is not None:
            new = new[: max(0, self.host_limit - self.model.charged[host])]
        return old + new

    @precondition(lambda self: self.model.lent)
    @rule(data=st.data())
    def bring_back(self, data: st.DataObject) -> None:
        """A lease ends: some requests are done, some are tried again later, the others are queued again."""
        number = data.draw(st.sampled_from(sorted(self.model.lent)))
        lent = self.model.lent.pop(number)
        host = self.frontier.host(lent.host, self.now, self.wall)
        back = []
        for asked in lent.requests:
            match data.draw(st.sampled_from(["done", "done", "again", "back"])):
                case "done":
                    self.end(asked)
                case "again":
                    due = self.wall + data.draw(st.sampled_from([0.0, 5.0, 30.0]))
                    tries = (*self.frontier.tries_of(host, asked), (7, self.wall))
                    assert tries[:-1] == self.model.tries.get(asked.url, ())
                    self.model.tries[asked.url] = tries
                    again = asked._replace(attempts=asked.attempts + 1)
                    if data.draw(st.booleans()):
                        host.rest_until = max(host.rest_until, self.now + 4.0)
                        self.model.rest[lent.host] = max(self.model.rest[lent.host], self.wall + 4.0)
                    self.frontier.put_off(host, again, tries, due, self.now)
                    self.model.waiting[asked.url] = (int(due * 1000) / 1000, again)
                case _:
                    back.append(asked)
        self.return_lanes(lent, host_due=data.draw(st.sampled_from([0.0, 0.5, DELAY])))
        if back:
            self.frontier.put_back(host, back, self.now)
            for asked in back:
                self.model.enqueue(asked)
        self.frontier.settle(host, self.now, self.wall, lent=True)

    def return_lanes(self, lent: Lent, host_due: float) -> None:
        host = self.frontier.host(lent.host, self.now, self.wall)
        host.return_lanes(lent.lanes, self.now + host_due)
        self.model.lanes[lent.host] += [self.wall + host_due] * lent.lanes

    def end(self, asked: Request) -> None:
        """As the ledger does, as far as the frontier looks at it."""
        number, key = self.key(asked)
        self.rows.put(b"r" + number + key, pack(("a row of a request that is done",)))
        self.model.done.add(asked.url)

    def key(self, asked: Request) -> tuple[bytes, bytes]:
        host = self.frontier.host(host_of(asked), self.now, self.wall)
        return host.slot.to_bytes(2, "big"), self.frontier.key_of(asked.url, asked.form)

    @rule(host=st.sampled_from(HOSTS[:2]))
    def doom(self, host: str) -> None:
        if self.model.open(host) and len(self.model.done) > 10:
            there = self.frontier.host(host, self.now, self.wall)
            there.doom = 15
            self.model.doomed.add(host)
            self.frontier.settle(there, self.now, self.wall)

    def give_up(self, name: str) -> bool:
        assert name in self.model.doomed
        host = self.frontier.host(name, self.now, self.wall)
        drained = self.frontier.drain(host, 5)
        for asked in drained:
            assert asked.url in self.model.queued or asked.url in self.model.waiting
            self.model.queued.pop(asked.url, None)
            self.model.waiting.pop(asked.url, None)
            self.end(asked)
        if len(drained) < 5:
            assert not self.model.open(name)
        self.frontier.settle(host, self.now, self.wall)
        return True

    @rule(may=st.sampled_from([True, True, False]))
    def budget(self, may: bool) -> None:
        self.may_charge = self.frontier.budgets.may_charge = may
        self.frontier.release_held()

    # ------------------------------------------------------------------------------------------------ time and the disk

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    @rule()
    def sleep_until_due(self) -> None:
        due = self.frontier.bench.next_due()
        if due is not None and due > self.now:
            self.wall += due - self.now
            self.now = due

    @rule()
    def commit(self) -> None:
        self.frontier.flush(self.now, self.wall)
        self.store.write(self.rows.seal())
        self.rows.committed()
        assert not self.frontier.dirty
        self.saved = (copy.deepcopy(self.model), self.leases)

    @rule(away=st.sampled_from([0.0, 0.3, 50.0]), clock=st.sampled_from([0.0, 5000.0]))
    def crash(self, away: float, clock: float) -> None:
        """Back to the last commit; the monotonic clock begins anew, and what was lent is known from its lease rows."""
        self.model, self.leases = copy.deepcopy(self.saved[0]), self.saved[1]
        self.wall += away
        self.now = clock
        self.start()
        for host in HOSTS:
            if self.model.charged[host]:
                owed = self.wall + DELAY
                self.model.lanes[host] = [max(at, owed) for at in self.model.lanes[host]]

    # ------------------------------------------------------------------------------------------------------ invariants

    def on_disk(self, table: str) -> list[tuple[str, Request]]:
        letter = table.encode()
        entries = self.rows.scan(letter, bytes([letter[0] + 1]), 1 << 20)
        return [(key[3 : key.index(b"\0", 3)].decode(), as_request(unpack(row))) for key, row in entries]

    @invariant()
    def everything_is_in_one_place(self) -> None:
        self.frontier.check()
        queued = {asked.url: asked for _, asked in self.on_disk("q")}
        waiting = {asked.url: asked for _, asked in self.on_disk("w")}
        assert not queued.keys() & waiting.keys()
        assert queued.keys() | waiting.keys() == self.model.queued.keys() | self.model.waiting.keys()
        assert queued.keys() >= self.model.queued.keys()
        for url, (_, asked) in self.model.queued.items():
            assert queued[url] == asked
        assert self.frontier.queued == len(queued)
        assert self.frontier.waiting == len(waiting)
        assert self.frontier.charged == sum(bool(asked.flags & CHARGED) for asked in queued.values())

    @invariant()
    def memory_is_bounded_by_the_bench(self) -> None:
        assert sum(host.where is Where.WAITING for host in self.frontier.hosts.values()) <= BENCH
        assert not any(host.head for host in self.frontier.hosts.values() if host.where is Where.PARKED)

    @invariant()
    def no_end_while_something_may_be_lent(self) -> None:
        if self.may_charge and self.host_limit is None:
            assert self.frontier.lendable == len(self.model.queued) + len(self.model.waiting)
        open_old = sum(bool(asked.flags & CHARGED) for _, asked in self.model.queued.values())
        assert self.frontier.lendable >= open_old + len(self.model.waiting)

    def teardown(self) -> None:
        """Whatever happened: everything that no budget holds back is lent in the end, and then nothing is lendable."""
        if not hasattr(self, "model"):
            return
        for _ in range(2000):
            while self.lend_one(8, 3):
                pass
            for number in sorted(self.model.lent):
                lent = self.model.lent.pop(number)
                host = self.frontier.host(lent.host, self.now, self.wall)
                for asked in lent.requests:
                    self.end(asked)
                self.return_lanes(lent, DELAY)
                self.frontier.settle(host, self.now, self.wall, lent=True)
            if self.frontier.ready(self.now, self.wall) is not None:
                continue
            due = self.frontier.bench.next_due()
            if due is None:
                break
            self.wall += due - self.now
            self.now = due
        else:
            raise AssertionError("never comes to an end")
        self.frontier.check()
        assert not self.frontier.lendable
        left: Sequence[Request] = [asked for host in HOSTS for asked in self.lendable(host)]
        assert not left
        assert not self.model.waiting


TestFrontier = FrontierMachine.TestCase
TestFrontier.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
