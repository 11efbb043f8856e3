"""A shard's core under fire: several sessions that say what they like, in any order, and a clock that goes on.

The messages go through the codec first, as they do behind a socket, so they are well-formed; what they say need not
be true or make sense. After every step: no exception, the books add up, what the shard says back can be decoded, and
nothing that a worker can make grow has passed its bound.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Final

from common import messages as m
from common import wire
from common.config import CrawlConfig
from common.errors import ProtocolError
from common.messages import FROM_WORKER, TO_WORKER, Phase, SessionId
from common.outcome import OUTCOMES
from common.url import CanonicalURL, host_key
from coordinator.fleet import ANSWERS_KEPT, ROBOTS_KEPT
from coordinator.steps import (
    Asked,
    Event,
    Hashed,
    HashPart,
    Instruction,
    Received,
    Seeds,
    Send,
    Steered,
    Tell,
    Tick,
)
from coordinator.store.rows import RobotsRow, unpack
from tests.fuzz.codec import Wrong
from tests.fuzz.making import Known, Maker
from tests.unit.test_shard import Bench, request

SESSIONS: Final = tuple(bytes([65 + number]) * 16 for number in range(5))
DEEP_EVERY: Final = 50
RULES_COUNTED: Final = 256
"""Names of rules that refused links, at most: they stand in a row that is written with every commit."""

_WORKER_KINDS: Final = tuple(sorted(FROM_WORKER, key=lambda kind: kind.__name__))
_OFTEN: Final = (m.Page, m.Page, m.Page, m.Heartbeat, m.Robots, m.Links)
VERDICTS: Final = frozenset(("rules", "allow", "retry", *(each.value for each in OUTCOMES)))
"""All that may stand in a robots row."""

_ASKED: Final = (m.Poll, m.Close, m.Cap)
_CONFIGS: Final = (
    {"obey_robots": False},
    {"obey_robots": True},
    {"obey_robots": False, "delay": 0.0, "per_host": 4},
    {"obey_robots": True, "max_depth": 2, "per_host": 3},
    {"obey_robots": False, "no_follow": True},
    {"obey_robots": False, "max_rate": 3.0, "max_pages_per_host": 5},
)


class ShardTarget:
    """One shard, its disk, and five workers that lie."""

    name = "shard"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.sent = 0
        """Worker messages so far."""
        self.refused = 0
        """Of them, those that the codec refused."""
        self.kinds: Counter[str] = Counter()
        self._known = Known(sessions=list(SESSIONS))
        self._known.shared["verdict"] = ["rules", "allow", "retry", *(each.value for each in OUTCOMES)]
        self._known.shared["authority"] = ["https://a.test", "https://b.test", "http://h1.test", "x", ""]
        self._known.shared["digest"] = [
            "sha1:" + "A" * 32,
            "sha1:" + "B" * 32,
            "x\r\nWARC-Type: resource",
            "",
        ]
        self._known.shared["ip"] = ["192.0.2.1", "::1", "1.2.3.4\r\nX: y", ""]
        self._maker = Maker(rng, self._known)
        self._story: list[str] = []
        self._steps = 0
        self.bench = Bench(CrawlConfig(**rng.choice(_CONFIGS)))  # type: ignore[arg-type]  # one of ours
        self._lines: set[str] = set()
        self._hosts: dict[int, str] = {}
        """Whose lease it is."""
        self._seen = 0
        self._numbers = 0

    def step(self) -> None:
        """One message, or something else that happens; raises Wrong."""
        self._steps += 1
        chance = self._rng.randrange(100)
        try:
            if chance < 70:
                self._say(self._message())
            elif chance < 76:
                self._behave(SessionId(self._rng.choice(SESSIONS)))
            elif chance < 80:
                self._give(self._seeds())
            elif chance < 83:
                self._give(Asked(self._asked()))
            elif chance < 84:
                self._give(Steered(self._rng.choice((Phase.RUNNING, Phase.RUNNING, Phase.PAUSED))))
            elif chance < 85 and not self._rng.randrange(10):
                self._note("restart")
                self.bench.restart()
            elif chance < 95:
                seconds = self._rng.choice((0.01, 0.5, 3.0, 40.0, 400.0))
                self.bench.now += seconds
                self.bench.wall += seconds
                self._give(Tick())
                self.bench.shard.sweep(self.bench.now)
            else:
                self._commit()
            self._check()
        except Wrong:
            raise
        except Exception as error:
            raise self._wrong(f"{type(error).__name__}: {error}") from error

    def end(self) -> None:
        """All that waits is committed, and read again after a restart."""
        try:
            self._commit()
            self.bench.restart()
            self._check(deep=True)
        except Wrong:
            raise
        except Exception as error:
            raise self._wrong(f"{type(error).__name__}: {error}") from error

    # ---------------------------------------------------------------------------------------------- what is said

    def _message(self) -> m.FromWorker:
        kind = self._rng.choice(_OFTEN if self._rng.randrange(2) else _WORKER_KINDS)
        self.kinds[kind.__name__] += 1
        message = self._maker.message(kind)
        return self._plausible(message) if self._rng.randrange(3) else message  # type: ignore[return-value]

    def _plausible(self, message: m.Message) -> m.Message:
        """The same for a lease that is open, from its holder, never said before: so it is believed."""
        leases = list(self.bench.shard.leases)
        names = {each.name for each in fields(message)}
        if not leases or "lease" not in names:
            return message
        lease = self._rng.choice(leases)
        self._numbers += 1
        values = {"session": SessionId(lease.session), "lease": lease.id, "number": self._numbers}
        if "ordinal" in names and lease.open:
            values["ordinal"] = self._rng.choice(sorted(lease.open))
        if "pieces" in names and self._rng.randrange(8):
            values["pieces"] = 0
        return replace(message, **values)  # type: ignore[arg-type]  # names and types are those of the fields

    def _say(self, message: m.FromWorker, body: bytes | None = None) -> None:
        """As a socket's shell does: what the codec refuses never comes to the core."""
        self.sent += 1
        if body is None:
            whole = isinstance(message, m.Piece | m.FilePiece) and self._rng.randrange(4)
            body = bytes(m.PIECE_BYTES) if whole else self._maker.body()
        frames = [wire.encode(message), body] if body else [wire.encode(message)]
        if not self._rng.randrange(10):
            frames = self._maker.damaged(frames)
        try:
            decoded, body = wire.decode(frames, FROM_WORKER)
        except ProtocolError:
            self.refused += 1
            return
        for _ in range(1 + (not self._rng.randrange(20))):  # some come twice
            self._give(Received(decoded, body))  # type: ignore[arg-type]  # decode gives one of FROM_WORKER

    def _behave(self, session: SessionId) -> None:
        """A worker that does what it should for once, so that there are leases to lie about."""
        self._numbers += 1
        bench = self.bench
        leases = tuple(lease.id for lease in bench.shard.leases.of(session))
        self._say(m.Hello(self._numbers, m.VERSION, session, (), "box", 1, 0, False, leases), b"")
        beat = self._maker.message(m.Heartbeat)
        self._numbers += 1
        self._say(
            replace(
                beat,
                number=self._numbers,
                session=session,
                epoch=bench.shard.epoch,
                leases=leases,
                lanes=self._rng.choice((1, 5, 100)),
                requests=self._rng.choice((1, 50, 500)),
            ),
            b"",
        )

    def _seeds(self) -> Seeds:
        self._numbers += 1
        hosts = [f"https://{self._rng.choice('abcdefgh')}.test/{self._rng.randrange(99)}" for _ in range(3)]
        return Seeds(self._numbers, tuple(request(url, flags=self._rng.randrange(4)) for url in hosts))

    def _asked(self) -> m.Poll | m.Close | m.Cap:
        counts, shard = self.bench.shard.ledger.counts, self.bench.shard
        if self._rng.randrange(3):
            return self._maker.message(self._rng.choice(_ASKED))
        self._give(Asked(m.Poll(self._steps)))
        return m.Close(self._steps, shard.epoch, counts.admitted, counts.ended, counts.attempts)

    # ------------------------------------------------------------------------------------------------ what follows

    def _give(self, event: Event) -> None:
        self._note(repr(event)[:400])
        self._heard(self.bench.handle(event))
        if not self._rng.randrange(3):
            self._commit()

    def _commit(self) -> None:
        self._note("commit")
        self._heard(self.bench.commit())

    def _heard(self, out: Iterable[Instruction]) -> None:
        """What it says must be what the other side takes; leases are remembered, to lie about."""
        for each in out:
            if isinstance(each, Tell):
                wire.decode([wire.encode(each.message)], frozenset((type(each.message),)))
            if isinstance(each, HashPart):
                self._give(Hashed(each.session, each.number, self._rng.choice((None, "sha1:" + "C" * 32))))
            if not isinstance(each, Send):
                continue
            try:
                message, _ = wire.decode([wire.encode(each.message)], TO_WORKER)
            except ProtocolError as error:
                raise self._wrong(f"it sends what nobody takes: {error}") from error
            if isinstance(message, m.Lease):
                self._known.leases.append(message.id)
                self._hosts[message.id] = message.host
                del self._known.leases[:-200]
                self._known.urls += [each.url for each in message.requests[:3]]
                del self._known.urls[:-100]

    def _check(self, *, deep: bool = False) -> None:
        shard = self.bench.shard
        counts, frontier = shard.ledger.counts, shard.frontier
        open_ = frontier.queued + frontier.waiting + shard.leases.requests - frontier.relinks
        if counts.admitted - counts.ended != open_:
            raise self._wrong(f"{counts.admitted} admitted, {counts.ended} ended, {open_} open")
        for session in shard.fleet:
            leases = shard.leases.of(session.id)
            lent = sum(len(lease.open) for lease in leases), sum(lease.width for lease in leases)
            if lent != (session.lent_requests, session.lent_lanes):
                raise self._wrong(f"{session!r}, but lent are (requests, lanes) {lent}")
            if len(session.answers) > ANSWERS_KEPT or len(session.robots) > ROBOTS_KEPT:
                raise self._wrong(f"{session!r} has no bound")
        if len(counts.refused) > RULES_COUNTED:
            raise self._wrong(f"{len(counts.refused)} names of rules are kept")
        if deep or self._steps % DEEP_EVERY == 0:
            frontier.check()
            self._pages()
            self._robots()

    def _robots(self) -> None:
        """A worker speaks of the robots.txt of its lease's host, of no other."""
        for key, packed in self.bench.rows.scan(b"b", b"c", 1 << 30):
            row, place = RobotsRow(*unpack(packed)), key[3:].decode()
            host = self._hosts.get(row.lease)
            if host is not None and host_key(CanonicalURL(place + "/")) != host:
                raise self._wrong(f"a lease of {host} has told of {place}")
            if row.verdict not in VERDICTS:
                raise self._wrong(f"{place} has the verdict {row.verdict!r}")

    def _pages(self) -> None:
        """Lines of `pages` since the last look: each is JSON, no URL has two."""
        content = b"".join(
            content for name, content in sorted(self.bench.files.files.items()) if name.startswith("pages/")
        )
        for text in content[self._seen :].splitlines():
            line = json.loads(text)
            key = f"{line['method']} {line['round']} {line['url']}"
            if line["method"] == "GET" and not line["round"] and key in self._lines:
                raise self._wrong(f"{key} has two lines")
            self._lines.add(key)
        self._seen = len(content)

    def _note(self, text: str) -> None:
        self._story.append(text)
        del self._story[:-8]

    def _wrong(self, what: str) -> Wrong:
        return Wrong("\n".join([*self._story, what]))
