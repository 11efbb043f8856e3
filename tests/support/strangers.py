"""Who knocks at a coordinator beside its workers: garbage, strangers without the key, liars with it.

Everything here is called in a process of its own by `apart_from_us`, for libzmq's client side aborts now and then when
its handshake is refused or answered with garbage. What a liar was answered comes back as counts.

    raw        connections that speak something else than ZeroMQ, or nothing
    bombard    peers that speak sense first, then lies, then broken messages
    whisper    one Hello on each socket, with some key or none: how many frames came back
    steal      results for leases that others hold, and those leases given back in their name
    inject     outlinks: beyond the scope, as hops of seeds, and within it
    hog        credit without bounds, and nothing done with what is lent for it
    flood      as many well-formed messages as go through, each as long as may be
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Final, ParamSpec, TypeVar

import zmq

from common import messages as m
from common import wire
from common.errors import ProtocolError
from common.keys import WorkerKey
from common.messages import FROM_WORKER, TO_WORKER, Facts, LinkGroup, SessionId, lease_id
from common.outcome import Outcome
from tests.fuzz.making import Known, Maker

_Said = ParamSpec("_Said")
_Came = TypeVar("_Came")

_TRIES: Final = 3
_ANSWERED_MS: Final = 10_000
"""How long a liar waits for an answer that has to come; only a coordinator that is dead takes so long."""

_SILENCE_MS: Final = 2_000
"""How long one waits to hear that nothing comes; a handshake and an answer take some milliseconds."""

_WORDS: Final = tuple(sorted(FROM_WORKER, key=lambda kind: kind.__name__))


def apart_from_us(attack: Callable[_Said, _Came], *args: _Said.args, **options: _Said.kwargs) -> _Came:
    """Call it in a process of its own, again if that process dies of libzmq."""
    for _ in range(_TRIES):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                return pool.submit(attack, *args, **options).result(120)
            except BrokenProcessPool:
                continue
    raise AssertionError(f"whoever does {attack.__name__} dies again and again")


class Stranger:
    """Two DEALERs, at a coordinator's control and its data port, under one name."""

    def __init__(
        self, port: int, key: WorkerKey | None, identity: bytes, context: zmq.Context[zmq.Socket[bytes]]
    ):
        self.session = SessionId(identity)
        self.heard: Counter[str] = Counter()
        """What came, by kind; answers to data messages as `accepted` and `refused: CODE`."""
        self.lent: list[m.Lease] = []
        self._number = 0
        self._sockets: dict[bool, zmq.Socket[bytes]] = {}
        for data in (False, True):
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.ROUTING_ID, identity)
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.SNDTIMEO, 2000)
            dealer.setsockopt(zmq.SNDHWM, 32)
            if key is not None:
                dealer.setsockopt(zmq.CURVE_SERVERKEY, key.server_public)
                dealer.setsockopt(zmq.CURVE_PUBLICKEY, key.client_public)
                dealer.setsockopt(zmq.CURVE_SECRETKEY, key.client_secret)
            dealer.connect(f"tcp://127.0.0.1:{port + data}")
            self._sockets[data] = dealer

    def close(self) -> None:
        """Hang up, whatever is under way."""
        for dealer in self._sockets.values():
            dealer.close()

    def number(self) -> int:
        """Of the next message."""
        self._number += 1
        return self._number

    def send(self, message: m.Message, body: bytes = b"") -> bool:
        """Over the socket where it belongs; whether there was room."""
        data = isinstance(message, (m.Page, m.Piece, m.Links, m.Robots))
        return self.send_frames([wire.encode(message), *([body] if body else [])], data=data)

    def send_frames(self, frames: Sequence[bytes], *, data: bool) -> bool:
        """Any frames; whether there was room."""
        try:
            if frames:
                self._sockets[data].send_multipart(list(frames))
        except zmq.Again:
            return False
        self.hear(0)
        return True

    def hear(self, wait_ms: int) -> bool:
        """Take what is there, waiting so long for the first of it; whether anything came."""
        poller = zmq.Poller()
        for dealer in self._sockets.values():
            poller.register(dealer, zmq.POLLIN)
        came = poller.poll(wait_ms)
        for dealer, _ in came:
            while dealer.poll(0):
                self._take(dealer.recv_multipart())
        return bool(came)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Hear until something holds."""
        while not holds():
            if not self.hear(_ANSWERED_MS):
                raise AssertionError(f"the coordinator is silent; awaited: {what}; heard: {dict(self.heard)}")

    def greet(self) -> None:
        """Say Hello, and be welcomed."""
        self.send(m.Hello(self.number(), m.VERSION, self.session, (), "liar", 1, 0, False, ()))
        self.until(lambda: bool(self.heard["Welcome"]), "Welcome")

    def _take(self, frames: list[bytes]) -> None:
        try:
            message, _ = wire.decode(frames, TO_WORKER)
        except ProtocolError:
            self.heard["nonsense"] += 1
            return
        self.heard[type(message).__name__] += 1
        match message:
            case m.Answer():
                self.heard["accepted"] += len(message.accepted)
                self.heard.update(f"refused: {code}" for _, code in message.refused)
            case m.Alive():
                self.heard["unknown"] += len(message.unknown)
            case m.Lease():
                self.lent.append(message)


@contextmanager
def stranger(port: int, key: WorkerKey | None, identity: bytes) -> Iterator[Stranger]:
    """A Stranger that hangs up in the end."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        knocking = Stranger(port, key, identity, context)
        stack.callback(knocking.close)
        yield knocking


class _Liar(Maker):
    """Names leases that it does not hold: the first ones of the crawl, which are others', and ones that never were."""

    def lease(self) -> m.LeaseId:
        return lease_id(
            self.rng.choice((0, 1, 1, 2, 0xFFFFFF)), self.rng.randrange(5), self.rng.choice((0, 0, 255))
        )


# ------------------------------------------------------------------------------------------------ without a key


def raw(port: int, count: int) -> int:
    """Connections that speak something else, or nothing: closed, reset, or left half open. How many were taken."""
    rng = random.Random(12)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    openings = (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        greeting[:10],
        greeting,
        greeting + b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER",
        greeting + b"\x02" + b"\xff" * 8 + b"x",
        greeting + b"\x06" + b"\x7f" + b"\xff" * 7,
        rng.randbytes(500),
    )
    held: list[socket.socket] = []
    taken = 0
    for number in range(count):
        try:
            plain = socket.create_connection(("127.0.0.1", port + number % 2), 5)
            taken += 1
            plain.settimeout(5)
            plain.sendall(rng.choice(openings))
        except OSError:
            continue  # it hung up first, which is its right
        held.append(plain)
        if len(held) > 300:
            held.pop(rng.randrange(len(held))).close()
    for plain in held:
        plain.close()
    return taken


def whisper(port: int, key: WorkerKey | None) -> int:
    """Say Hello on both sockets, and wait: how many messages came back."""
    with stranger(port, key, random.Random(14).randbytes(16)) as knocking:
        hello = wire.encode(m.Hello(1, m.VERSION, knocking.session, (), "stranger", 1, 0, False, ()))
        for data in (False, True):
            knocking.send_frames([hello], data=data)
        while knocking.hear(_SILENCE_MS):
            pass
        return knocking.heard.total()


# -------------------------------------------------------------------------------------- with it, or on loopback


def bombard(port: int, key: WorkerKey | None, *, peers: int, each: int) -> int:
    """Peers one after another, each with a name of its own: first sense, then lies, then broken messages.

    Returns how many messages left. They take no lease: their heartbeats ask for none.
    """
    rng = random.Random(11)
    sent = 0
    for number in range(peers):
        identity = rng.randbytes(16) if number % 10 else b"short"
        maker = _Liar(rng, Known(sessions=[identity]), big=3)
        with stranger(port, key, identity) as knocking:
            hello = maker.message(m.Hello)
            for message in range(each):
                said = hello if not message else maker.message(rng.choice(_WORDS))
                if isinstance(said, m.Heartbeat):
                    said = m.Heartbeat(said.number, said.session, said.epoch, said.leases, 0, 0, 0, 0, 0, 0)
                frames = [wire.encode(said), maker.body()]
                if message > each // 2:
                    frames = maker.damaged(frames)
                if not knocking.send_frames(frames, data=bool(rng.randrange(2))):
                    break
                sent += 1
    return sent


def steal(port: int, key: WorkerKey | None, url: str, leases: int) -> Counter[str]:
    """Report, for each of the crawl's first leases, a page, a piece, a robots.txt that forbids everything; name them
    all as one's own; give them all back; leave, and take them along. None of them is held.

    `url`: one of the crawl. What was answered.
    """
    place = url.rpartition("/")[0]
    with stranger(port, key, random.Random(15).randbytes(16)) as thief:
        thief.greet()
        names = tuple(lease_id(1, counter) for counter in range(1, leases + 1))
        for name in names:
            group = LinkGroup(url, url, 1, 0, 0, (f"{place}/invented/{name}",), None)
            facts = Facts(Outcome.OK.code, 200, title="a lie", ip="127.0.0.1")
            who = thief.session
            thief.send(m.Page(thief.number(), who, name, 0, 0.0, None, facts, (group,), (), b"", 0, 0, ()))
            thief.send(m.Piece(thief.number(), who, name, 0, 0), bytes(m.PIECE_BYTES))
            thief.send(
                m.Robots(thief.number(), who, name, place, "rules", 200, None, 60.0, b"Disallow: /", 0.0, 0)
            )
            thief.send(m.Release(thief.number(), who, name, 0.0))
        thief.send(m.Heartbeat(thief.number(), thief.session, 1, names, 0, 0, 0, 0, 0, 0))
        thief.until(lambda: thief.heard["refused: lease"] >= 3 * leases, f"{3 * leases} refusals")
        thief.until(lambda: thief.heard["unknown"] >= leases, f"{leases} leases are told to be unknown")
        thief.send(m.Goodbye(thief.number(), thief.session, tuple((name, 0.0) for name in names)))
        thief.hear(200)
        return thief.heard


def inject(port: int, key: WorkerKey | None, inside: str, beyond: Sequence[str]) -> Counter[str]:
    """Outlinks out of nowhere: `beyond` the scope, plainly and as hops of a seed, what is no URL, and one `inside`."""
    with stranger(port, key, random.Random(16).randbytes(16)) as liar:
        liar.greet()
        seed = int(m.Flag.SEED)
        groups = (
            LinkGroup(inside, inside, 1, 0, 0, tuple(beyond), None),
            LinkGroup(inside, inside, 0, 1, seed, tuple(beyond), None),
            LinkGroup("", "", 65_535, 65_535, 65_535, ("", "http://", "\x00", "https://a.test/\n"), None),
            LinkGroup(inside, inside, 1, 0, 0, (inside,), None),
        )
        for group in groups:
            liar.send(m.Links(liar.number(), liar.session, (group,)))
        liar.until(lambda: liar.heard["Answer"] > 0 and _answered(liar) >= len(groups), "answers to links")
        return liar.heard


def hog(port: int, key: WorkerKey | None) -> int:
    """Ask for all there is, take what comes until nothing comes any more, and do nothing with it. Requests taken."""
    with stranger(port, key, random.Random(17).randbytes(16)) as liar:
        liar.greet()
        most = 2**32 - 1
        liar.send(m.Heartbeat(liar.number(), liar.session, 1, (), most, most, 0, 0, 0, 0))
        liar.until(lambda: bool(liar.lent), "a lease")
        while liar.hear(_SILENCE_MS):
            pass
        return sum(len(lease.requests) for lease in liar.lent)


def flood(port: int, key: WorkerKey | None, beyond: str, messages: int) -> Counter[str]:
    """Well-formed messages as fast as they go: 3,000 links each, and pieces of 1 MiB that belong to nothing."""
    with stranger(port, key, random.Random(18).randbytes(16)) as liar:
        liar.greet()
        urls = tuple(f"{beyond}{number}" for number in range(3000))
        group = LinkGroup(beyond, beyond, 1, 0, 0, urls, None)
        for number in range(messages):
            if number % 4:
                sent = liar.send(
                    m.Piece(liar.number(), liar.session, lease_id(1, 1), 0, number), bytes(m.PIECE_BYTES)
                )
            else:
                sent = liar.send(m.Links(liar.number(), liar.session, (group,)))
            assert sent, f"no room for message {number}: {dict(liar.heard)}"
        liar.until(lambda: _answered(liar) >= messages, f"{messages} answers")
        return liar.heard


def _answered(liar: Stranger) -> int:
    return sum(
        count for said, count in liar.heard.items() if said == "accepted" or said.startswith("refused")
    )
