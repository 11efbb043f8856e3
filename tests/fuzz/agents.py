"""The worker's agent under fire: shards that say what they like, fetches that land or do not, and a clock.

As in shards.py the messages go through the codec first. After every step: no exception but `ProtocolError` for a
message that makes no sense (the link counts and drops it), what the agent sends can be decoded, and what it holds is
bounded.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Final

from common import messages as m
from common import wire
from common.config import CrawlConfig
from common.configwire import config_to_wire
from common.errors import ProtocolError
from common.messages import FROM_WORKER, TO_WORKER, LeaseId, SessionId, lease_id
from common.outcome import OUTCOMES
from common.scope import Scope
from common.url import CanonicalURL
from tests.fuzz.codec import Wrong
from tests.fuzz.making import Known, Maker
from worker.agent import TAKEN_KEPT, Agent
from worker.rulebook import ROBOTS_KEPT
from worker.steps import (
    Abort,
    Arrived,
    Connect,
    Event,
    Exit,
    Fetched,
    Instruction,
    Leaving,
    Load,
    PieceCame,
    Post,
    Report,
    RobotsFetched,
    Woken,
)
from worker.visit import Fetch, FetchRobots

ME: Final = SessionId(b"m" * 16)
SHARDS_MOST: Final = 1024
"""Shards of one coordinator: it has as many slots."""

_KINDS: Final = tuple(sorted(TO_WORKER, key=lambda kind: kind.__name__))
_OFTEN: Final = (m.Lease, m.Lease, m.Alive, m.Answer, m.Welcome)


class AgentTarget:
    """One worker process whose coordinator lies."""

    name = "agent"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.sent = 0
        """Shard messages so far."""
        self.refused = 0
        """Of them, those that the codec or the agent refused."""
        self.fetches = 0
        """Fetches that it was made to begin."""
        self.ended = 0
        """Times that the process ended and began anew, because the agent said so."""
        self.kinds: Counter[str] = Counter()
        known = Known(sessions=[ME])
        self._config = CrawlConfig(obey_robots=bool(rng.randrange(2)), delay=rng.choice((0.0, 1.0)))
        good = wire.pack(config_to_wire(self._config)), wire.pack(Scope("any", None).to_wire())
        known.shared["config"] = [good[0], good[0], good[0], _bent(rng, good[0]), b"", wire.pack([1])]
        known.shared["scope"] = [good[1], good[1], good[1], _bent(rng, good[1]), b"\xc0", wire.pack({"": ""})]
        known.shared["slots"] = [
            bytes(1024),
            bytes(number % 3 for number in range(1024)),
            b"",
            b"\xff" * 1024,
        ]
        known.shared["verdict"] = ["rules", "allow", "retry", *(each.value for each in OUTCOMES)]
        known.shared["crawl"] = [b"c" * 16, b"c" * 16, b"c" * 16, b"d" * 16]
        self._maker = Maker(rng, known)
        self._known = known
        self._good = good
        self._story: list[str] = []
        self._now = 1000.0
        self._steps = 0
        self._begin()

    def _begin(self) -> None:
        self._agent = Agent(
            ME, replaces=(), host="box", pid=7, index=0, local=False, now=self._now, max_lanes=1000
        )
        self._numbers: dict[int, list[int]] = {0: []}
        self._owed: list[int] = []
        self._shards = {0}
        self._epoch = 1
        self._flying: list[Fetch | FetchRobots] = []
        self._began = 0
        self._lease = 0
        self._give(Woken())

    def step(self) -> None:
        """One message, or something else that happens; raises Wrong."""
        self._steps += 1
        chance = self._rng.randrange(100)
        try:
            if chance < 60:
                self._say(self._shard(), self._message())
            elif chance < 75:
                self._behave()
            elif chance < 88 and self._flying:
                self._land(self._flying.pop(self._rng.randrange(len(self._flying))))
            elif chance < 97:
                self._now += self._rng.choice((0.01, 1.0, 5.0, 31.0))
                self._give(Woken())
            elif chance < 98:
                self._give(Load(self._rng.randrange(100), self._rng.randrange(100)))
            elif not self._rng.randrange(20):
                self._give(Leaving())
            self._check()
        except Wrong:
            raise
        except Exception as error:
            raise self._wrong(f"{type(error).__name__}: {error}") from error

    def end(self) -> None:
        """Time enough for everything that was promised."""
        for _ in range(20):
            self._now = max(self._now, min(self._agent.next_wakeup(), self._now + 60))
            self._give(Woken())

    # ---------------------------------------------------------------------------------------------- what is said

    def _shard(self) -> int:
        return self._rng.choice(sorted(self._shards))

    def _message(self) -> m.ToWorker:
        kind = self._rng.choice(_OFTEN if self._rng.randrange(2) else _KINDS)
        if kind is m.Denied and self._rng.randrange(8):
            kind = m.Lease
        self.kinds[kind.__name__] += 1
        message = self._maker.message(kind)
        return self._plausible(message) if self._rng.randrange(3) else message  # type: ignore[arg-type, return-value]

    def _plausible(self, message: m.ToWorker) -> m.ToWorker:
        """The same from this epoch, in answer to what was said: so it is believed."""
        names = {each.name for each in fields(message)}
        values: dict[str, object] = {"session": ME}
        said = self._numbers[0]
        if "number" in names and said:
            values["number"] = self._rng.choice(said[-3:])
        if "epoch" in names:
            values["epoch"] = self._epoch
        if "id" in names:
            self._lease += 1
            values["id"] = lease_id(self._epoch, self._lease, self._rng.choice((0, 0, 0, 1)))
        if "scope_version" in names:
            values["scope_version"] = self._rng.randrange(3)
        if isinstance(message, m.Answer):
            values["accepted"] = tuple(self._owed[-2:]) if self._rng.randrange(2) else ()
            values["refused"] = tuple(
                (number, self._rng.choice(("lease", "pieces", "closed", "slot", "?")))
                for number in self._owed[:1]
            )
        if isinstance(message, m.Alive) and self._rng.randrange(10):
            values["phase"] = self._rng.choice((0, 0, 0, 1, 2))
        if isinstance(message, m.Welcome):
            values["version"] = m.VERSION
        return replace(message, **values)  # type: ignore[arg-type]  # names and types are those of the fields

    def _behave(self) -> None:
        """A shard that does what it should for once."""
        said = self._numbers[0]
        if not said:
            return
        if not self._rng.randrange(4):
            welcome = self._maker.message(m.Welcome)
            self._say(
                0,
                replace(
                    welcome,
                    session=ME,
                    number=said[-1],
                    version=m.VERSION,
                    crawl=b"c" * 16,
                    store=1,
                    shard=0,
                    shards=self._rng.choice((1, 1, 2)),
                    epoch=self._epoch,
                    ttl=30.0,
                    heartbeat=5.0,
                    slots=bytes(1024),
                    config=self._good[0],
                    scope=self._good[1],
                    scope_version=0,
                ),
            )
            return
        self._lease += 1
        urls = [f"https://a.test/{self._rng.randrange(99)}" for _ in range(1 + self._rng.randrange(5))]
        lease = self._maker.message(m.Lease)
        requests = tuple(m.Request(url, 0, 0, 0, 0, "seed", None, None) for url in urls)
        self._say(
            0,
            replace(
                lease,
                session=ME,
                number=said[-1],
                id=lease_id(self._epoch, self._lease),
                host="a.test",
                delay=1.0,
                lanes=self._rng.choice((1, 3)),
                scope_version=0,
                requests=requests,
            ),
        )

    def _say(self, shard: int, message: m.ToWorker) -> None:
        self.sent += 1
        frames = [wire.encode(message)]
        if not self._rng.randrange(12):
            frames = self._maker.damaged(frames)
        try:
            decoded, _ = wire.decode(frames, TO_WORKER)
        except ProtocolError:
            self.refused += 1
            return
        if isinstance(decoded, m.Welcome) and decoded.session == ME and shard == 0:
            self._epoch = decoded.epoch & 0xFFFFFF
        try:
            begun = self._agent
            for _ in range(1 + (not self._rng.randrange(20))):
                if self._agent is not begun:
                    break  # the first one ended it
                self._give(Arrived(shard, decoded))  # type: ignore[arg-type]  # decode gives one of TO_WORKER
        except ProtocolError:  # the link counts it and drops the message
            self.refused += 1

    def _land(self, step: Fetch | FetchRobots) -> None:
        ended = self._now - self._rng.random()
        if isinstance(step, FetchRobots):
            self._give(self._robots(step, ended))
            return
        if not self._rng.randrange(8):
            self._give(Fetched(step.lease, step.ordinal, None, ended))
            return
        facts = replace_row(self._maker.message(m.Page).facts, outcome=self._rng.randrange(len(OUTCOMES)))
        urls = tuple(f"https://{self._rng.choice('abcde')}.test/{self._rng.randrange(99)}" for _ in range(3))
        group = m.LinkGroup("https://a.test/", "seed", 1, 0, 0, urls, None)
        body = bytes(3 << 20) if not self._rng.randrange(200) else b"record"
        report = Report(facts, (group,), answered=body)
        if not self._rng.randrange(6):
            report = self._download(step, facts)
        self._give(Fetched(step.lease, step.ordinal, report, ended))

    def _download(self, step: Fetch, facts: m.Facts) -> Report:
        """A fetch that hands pieces on; answers to them come among all the others, or never."""
        first = 0 if step.resume is None else step.resume.pieces
        count, self._began = self._rng.randrange(4), self._began + 1
        for index in range(first, first + count):
            piece = (step.lease, step.ordinal, index % 2**32, self._began, first, None, bytes(m.PIECE_BYTES))
            self._give(PieceCame(*piece))
        began = self._began if count else 0
        return Report(
            facts, answered=b"tail", file=m.File("f.bin", began, first), pieces=min(first + count, 2**32 - 1)
        )

    def _robots(self, step: FetchRobots, ended: float) -> RobotsFetched:
        word = self._rng.choice(("rules", "allow", "follow", "DNS", "ROBOTS_UNREACHABLE"))
        text = b"User-agent: *\nDisallow: /9\nCrawl-delay: 7" if word == "rules" else None
        target = (
            CanonicalURL(f"https://{self._rng.choice('abc')}.test/robots.txt") if word == "follow" else None
        )
        return RobotsFetched(
            step.lease,
            step.authority,
            step.url,
            step.hops,
            word,
            200,
            None,
            text,
            b"",
            0,
            ended,
            bool(self._rng.randrange(6)),
            target=target,
            network=not self._rng.randrange(20),
        )

    # ------------------------------------------------------------------------------------------------ what follows

    def _give(self, event: Event) -> None:
        self._story.append(f"{self._now:.2f} {repr(event)[:400]}")
        del self._story[:-8]
        self._heard(self._agent.handle(event, self._now))

    def _heard(self, out: Iterable[Instruction]) -> None:
        over = False
        for each in out:
            match each:
                case Post(shard, message, data, body):
                    frames = [wire.encode(message), body] if body else [wire.encode(message)]
                    try:
                        wire.decode(frames, FROM_WORKER)
                    except ProtocolError as error:
                        raise self._wrong(f"it sends what nobody takes: {error}") from error
                    if data:
                        self._owed.append(message.number)
                        del self._owed[:-50]
                    else:
                        self._numbers.setdefault(shard, []).append(message.number)
                        del self._numbers[shard][:-50]
                case Connect(shard):
                    self._shards.add(shard)
                case Fetch() | FetchRobots():
                    self._flying.append(each)
                    self.fetches += 1
                case Abort(lease, ordinal):
                    self._flying = [
                        step
                        for step in self._flying
                        if step.lease != lease or ordinal not in (None, getattr(step, "ordinal", None))
                    ]
                case Exit():
                    over = True
                case _:
                    pass
        if over:
            self.ended += 1
            self._begin()

    def _check(self) -> None:
        agent = self._agent
        tuning = self._config.tuning
        bounds = {
            "shards": (len(agent._links), SHARDS_MOST),
            "leases taken": (len(agent._taken), TAKEN_KEPT),
            "early leases": (len(agent._early), TAKEN_KEPT),
            "robots": (len(agent._rulebook._kept), ROBOTS_KEPT * len(agent._links)),
            "pages unanswered": (
                agent._owed.pages + len(agent._owed.waiting),
                max(1, tuning.unacknowledged_pages) + self._config.concurrency,
            ),
            "fetches": (len(self._flying), tuning.unacknowledged_pages + self._config.concurrency),
        }
        for what, (now, most) in bounds.items():
            if now > most:
                raise self._wrong(f"{now} {what}, at most {most}")
        if agent._owed.bytes < 0 or agent._owed.pages < 0:
            raise self._wrong(f"{agent._owed.pages} pages, {agent._owed.bytes} bytes unanswered")

    def _wrong(self, what: str) -> Wrong:
        return Wrong("\n".join([*self._story, what]))


def replace_row(row: m.Facts, **values: object) -> m.Facts:
    """A row of a message with other values."""
    return row._replace(**values)  # type: ignore[arg-type]  # names and types are those of Facts


def _bent(rng: random.Random, packed: bytes) -> bytes:
    """Well-formed msgpack of another shape or with another value in it."""
    values = wire.unpack(packed)
    if isinstance(values, dict) and values:
        return wire.pack({**values, rng.choice(list(values)): rng.choice((None, -1, "x", 2**40, b"", [[]]))})
    if isinstance(values, tuple) and values:
        bent = list(values)
        bent[rng.randrange(len(bent))] = rng.choice((None, -1, "x", 2**40, b"", [[]]))
        return wire.pack(bent)
    return wire.pack([LeaseId(1)])
