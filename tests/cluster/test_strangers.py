"""Whoever knocks: garbage, strangers and liars at a coordinator that crawls, and a coordinator that talks nonsense.

The crawl beside it must come out right, to the record and to the site's own log; what was broken is counted, and
memory stays flat.
"""

from __future__ import annotations

import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pytest
import zmq

from common import messages as m
from common import wire
from common.keys import WorkerKey
from common.messages import FROM_WORKER, TO_WORKER, Phase, SessionId
from tests.fuzz.making import Known, Maker
from tests.support.cluster import check_records, results, until
from tests.support.proxy import free_pair
from tests.support.site import Site
from tests.support.terminal import Running, Terminal, apart

DELAY: Final = 0.05
FLAT: Final = 150 << 20
"""Bytes that the coordinator may grow by under fire; a bomb that it believed would take gigabytes."""

_WORDS: Final = tuple(sorted(FROM_WORKER, key=lambda kind: kind.__name__))
_ANSWERS: Final = tuple(
    sorted(
        TO_WORKER - {m.Denied}, key=lambda kind: kind.__name__
    )  # a worker that is denied leaves, and should
)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def terminal(tmp_path: Path, site: Site) -> Iterator[Terminal]:
    with Terminal(tmp_path, site, delay=DELAY) as terminal:
        yield terminal


def begun(terminal: Terminal, site: Site, host: str, port: int, **more: object) -> tuple[Running, Running]:
    """A coordinator that listens on an address of this machine, with a web to crawl, and its worker."""
    begin = site.grow(seed=4, hosts=2, pages=500)
    places = ["--out", "c", "--listen", f"tcp://{host}:{port}", "--http", "127.0.0.1:0", "--scope", "any"]
    coordinator = terminal.begin(
        "coord",
        "start",
        site.url(*begin),
        *places,
        *terminal.network,
        **more,  # type: ignore[arg-type]
    )
    coordinator.says("\n  worker start ")
    key = [] if host == "127.0.0.1" else ["--key", str(terminal.folder / "c" / "worker.key")]
    worker = terminal.begin(
        *("worker", "start", "--procs", "1", "--coord", f"tcp://127.0.0.1:{port}", "--allow-private", *key)
    )
    site.wait_for(8)
    return coordinator, worker


def all_right(terminal: Terminal, site: Site, coordinator: Running, worker: Running) -> None:
    """The crawl ended by itself, nothing missing, nothing twice, nobody hurried; nobody failed."""
    ended = coordinator.end()
    assert ended.code == 0, ended.said
    left = worker.end(20)
    assert left.code == 0, left.said
    pages = results(terminal.folder / "c")
    assert set(pages) == {site.url(*place) for place in site.reachable(("h0.test", "/0"))}
    check_records(terminal.folder / "c", pages)
    fetched = [(hit.host, hit.target) for hit in site.log]
    assert len(fetched) == len(set(fetched)), "fetched twice"
    for host in site.hosts():
        assert apart(site, host) >= DELAY, host
    log = (terminal.folder / "c" / "logs" / "coord.log").read_text()
    assert "Traceback" not in ended.said + left.said + log
    audited = terminal.coord("audit", "c")
    assert audited.code == 0, audited.out


def resident(pid: int) -> int:
    """Bytes of memory of a process, as the kernel counts them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise ProcessLookupError(pid)


def broken(terminal: Terminal) -> int:
    """Broken messages that the coordinator has told of in its log: the first ones, then every thousandth."""
    log = (terminal.folder / "c" / "logs" / "coord.log").read_text()
    counts = [
        int(part.removeprefix("times="))
        for line in log.splitlines()
        if "protocol.broken" in line
        for part in line.split()
        if part.startswith("times=")
    ]
    return max(counts, default=0)


@contextmanager
def stranger(
    port: int, identity: bytes, key: WorkerKey | None
) -> Iterator[Callable[[Sequence[bytes]], None]]:
    """A DEALER at the coordinator's control and data port by turns; what it is answered is thrown away."""
    with zmq.Context() as context:
        sockets = []
        for offset in (0, 1):
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.ROUTING_ID, identity)
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.SNDTIMEO, 2000)
            if key is not None:
                dealer.setsockopt(zmq.CURVE_SERVERKEY, key.server_public)
                dealer.setsockopt(zmq.CURVE_PUBLICKEY, key.client_public)
                dealer.setsockopt(zmq.CURVE_SECRETKEY, key.client_secret)
            dealer.connect(f"tcp://127.0.0.1:{port + offset}")
            sockets.append(dealer)
        turn = 0

        def send(frames: Sequence[bytes]) -> None:
            nonlocal turn
            turn += 1
            dealer = sockets[turn % 2]
            if frames:
                dealer.send_multipart(list(frames))
            while dealer.poll(0):
                dealer.recv_multipart()

        try:
            yield send
        finally:
            for dealer in sockets:
                dealer.close()


def bombard(port: int, key: WorkerKey | None, *, peers: int, each: int) -> int:
    """`_bombard` in a process of its own: libzmq's client side aborts now and then when its handshake is refused."""
    for _ in range(3):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                return pool.submit(_bombard, port, key, peers=peers, each=each).result(120)
            except BrokenProcessPool:
                continue
    raise AssertionError("the liars themselves die again and again")


def _bombard(port: int, key: WorkerKey | None, *, peers: int, each: int) -> int:
    """Peers one after another, each with a name of its own: first sense, then lies, then broken messages."""
    rng = random.Random(11)
    sent = 0
    for number in range(peers):
        identity = rng.randbytes(16) if number % 10 else b"short"
        maker = Maker(rng, Known(sessions=[identity], leases=[1 << 32 | 1, 1 << 32 | 2]), big=3)
        with stranger(port, identity, key) as send:
            hello = maker.message(m.Hello)
            for message in range(each):
                said = hello if not message else maker.message(rng.choice(_WORDS))
                frames = [wire.encode(said), maker.body()]
                if message > each // 2:
                    frames = maker.damaged(frames)
                try:
                    send(frames)
                except zmq.Again:
                    break
                sent += 1
    return sent


def raw(port: int, count: int) -> None:
    """Connections that speak something else, or nothing: closed, reset, or left half open until the end."""
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
    open_: list[socket.socket] = []
    for number in range(count):
        try:
            plain = socket.create_connection(("127.0.0.1", port + number % 2), 5)
            plain.settimeout(5)
            plain.sendall(rng.choice(openings))
        except OSError:
            continue  # it hung up first, which is its right
        open_.append(plain)
        if len(open_) > 600:
            open_.pop(rng.randrange(len(open_))).close()
    for plain in open_:
        plain.close()


class Nonsense:
    """A coordinator's two sockets; every message of a worker is answered with several that make no sense."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.sent = 0
        self.heard = 0
        self._thread = threading.Thread(target=self._run, name="nonsense")

    def __enter__(self) -> Nonsense:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        rng = random.Random(13)
        with zmq.Context() as context:
            poller, routers = zmq.Poller(), []
            for offset in (0, 1):
                router = context.socket(zmq.ROUTER)
                router.setsockopt(zmq.LINGER, 0)
                router.bind(f"tcp://127.0.0.1:{self._port + offset}")
                poller.register(router, zmq.POLLIN)
                routers.append(router)
            while not self._stop.is_set():
                for router, _ in poller.poll(100):
                    peer = router.recv_multipart()[0]
                    self.heard += 1
                    maker = Maker(rng, Known(sessions=[peer], leases=[1 << 32 | 1], numbers=[self.heard]))
                    for _ in range(20):
                        frames = [wire.encode(self._message(maker, SessionId(peer)))]
                        if not rng.randrange(3):
                            frames = maker.damaged(frames)
                        if frames:
                            router.send_multipart([peer, *frames])
                            self.sent += 1
            for router in routers:
                router.close()

    def _message(self, maker: Maker, peer: SessionId) -> m.Message:
        message = maker.message(maker.rng.choice(_ANSWERS))
        if isinstance(message, m.Alive) and message.phase >= Phase.STOPPING:
            return m.HelloAgain(peer)  # an end is believed, and should be
        return message


@pytest.mark.slow
def test_a_worker_outlives_a_coordinator_that_talks_nonsense(terminal: Terminal) -> None:
    port = free_pair()
    with Nonsense(port) as coordinator:
        worker = terminal.begin(
            *("worker", "start", "--procs", "1", "--coord", f"tcp://127.0.0.1:{port}"),
        )
        until(lambda: coordinator.sent >= 300 or not worker.is_running(), "nonsense is exchanged", 60)
        assert worker.is_running(), worker.said
        assert len(terminal.processes()) >= 2, "its process lives"
        assert max(map(resident, terminal.processes())) < 400 << 20
        worker.signal(signal.SIGTERM)
        left = worker.end(20)
    assert left.code == 3, left.said
    assert "Traceback" not in left.said
    assert "protocol.broken" in left.said


def test_a_key_that_others_can_read_is_said(terminal: Terminal) -> None:
    """The files of keys are written for their owner alone."""
    made = terminal.coord("key", "c", "--new")
    assert made.code == 0, made.said
    kept = [path for path in (terminal.folder / "c").rglob("*") if path.is_file() and "key" in path.name]
    assert kept
    for path in kept:
        assert path.stat().st_mode & 0o777 == 0o600, path
