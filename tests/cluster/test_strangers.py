"""Whoever knocks: garbage, strangers and liars at a coordinator that crawls, and a coordinator that talks nonsense.

The crawl beside it must come out right, to the record and to the site's own log; what was broken is counted, and
memory stays flat.
"""

from __future__ import annotations

import random
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import zmq
from zmq.utils import z85

from common import messages as m
from common import wire
from common.keys import WorkerKey
from common.messages import TO_WORKER, Phase, SessionId
from tests.fuzz.making import Known, Maker
from tests.support.cluster import audited, check, until
from tests.support.proxy import free_pair
from tests.support.site import Site
from tests.support.strangers import apart_from_us, bombard, flood, hog, inject, raw, steal, whisper
from tests.support.terminal import Running, Terminal

DELAY: Final = 0.05
FLAT: Final = 150 << 20
"""Bytes that the coordinator may grow by under fire; a bomb that it believed would take gigabytes."""

TTL: Final = 3.0
HEARTBEAT: Final = 0.5
SPARE_FILES: Final = 40
"""What a coordinator may open and close by itself meanwhile: files of results and of the store."""

OPEN_FILES: Final = 400

_ANSWERS: Final = tuple(
    sorted(
        TO_WORKER - {m.Denied}, key=lambda kind: kind.__name__
    )  # a worker that is denied leaves, and should
)


@pytest.fixture
def terminal(tmp_path: Path, site: Site) -> Iterator[Terminal]:
    with Terminal(tmp_path, site, delay=DELAY) as terminal:
        yield terminal


class Web:
    """Four hosts that belong to the crawl, and one that does not, to which nothing leads."""

    def __init__(self, site: Site) -> None:
        site.grow(seed=4, hosts=4, pages=600, domain="site.test")
        self.starts = [(host, "/0") for host in site.hosts()]
        self.beyond = site.page("elsewhere.test", "/secret")
        self.found = site.reachable(*self.starts)


def listening(
    terminal: Terminal, site: Site, web: Web, host: str, port: int, *, most_files: int | None = None
) -> Running:
    """A coordinator that listens on an address of this machine, with a web to crawl. `most_files`: `ulimit -n`."""
    config = terminal.folder / "tuning.toml"
    config.write_text(f"[tuning]\nlease_ttl = {TTL}\nheartbeat = {HEARTBEAT}\n")
    places = ["--out", "c", "--http", "127.0.0.1:0", "--config", str(config)]
    places += ["--listen", f"tcp://{host}:{port}"]
    seeds = [site.url(*start) for start in web.starts]
    coordinator = terminal.begin("coord", "start", *seeds, *places, *terminal.network, open_files=most_files)
    coordinator.says("\n  worker start ")
    return coordinator


def at_work(terminal: Terminal, site: Site, web: Web, port: int) -> Running:
    """A worker with the key, if there is one, that has been lent every host."""
    file = terminal.folder / "c" / "worker.key"
    key = ["--key", str(file)] if file.exists() else []
    place = ["--coord", f"tcp://127.0.0.1:{port}", "--allow-private", *key]
    worker = terminal.begin("worker", "start", "--procs", "1", *place)
    hosts = {host for host, _ in web.starts}
    until(lambda: {host for host, _ in site.fetched()} >= hosts, "every host is lent to it")
    return worker


def begun(
    terminal: Terminal, site: Site, web: Web, host: str, port: int, *, most_files: int | None = None
) -> tuple[Running, Running]:
    """Both."""
    coordinator = listening(terminal, site, web, host, port, most_files=most_files)
    return coordinator, at_work(terminal, site, web, port)


def all_right(terminal: Terminal, site: Site, web: Web, coordinator: Running, worker: Running) -> None:
    """The crawl ended by itself, nothing missing, nothing twice, nobody hurried; nobody failed."""
    ended = coordinator.end()
    assert ended.code == 0, ended.said
    left = worker.end(20)
    assert left.code == 0, left.said
    out = terminal.folder / "c"
    check(out, site, web.starts[0], delay=DELAY, found=web.found)
    assert web.beyond[0] not in {host for host, _ in site.fetched(robots=True)}
    log = (out / "logs" / "coord.log").read_text()
    assert "Traceback" not in ended.said + left.said + log
    audited(out)


def resident(pid: int) -> int:
    """Bytes of memory of a process, as the kernel counts them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise ProcessLookupError(pid)


def open_files(pid: int) -> int:
    """Files and sockets that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


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


@pytest.mark.slow
def test_a_crawl_goes_on_beside_garbage_and_broken_messages(site: Site, terminal: Terminal) -> None:
    """On loopback there is no key: everybody on this machine may speak, and nonsense does no harm."""
    port, web = free_pair(), Web(site)
    coordinator, worker = begun(terminal, site, web, "127.0.0.1", port)
    before, files = resident(coordinator.pid), open_files(coordinator.pid)
    taken = apart_from_us(raw, port, 1500)
    sent = apart_from_us(bombard, port, None, peers=20, each=200)
    assert coordinator.is_running()
    assert resident(coordinator.pid) - before < FLAT, f"after {sent} messages"
    assert taken > 500
    assert sent > 2000
    until(lambda: broken(terminal) >= 10, "broken messages are counted and told")
    until(lambda: open_files(coordinator.pid) < files + SPARE_FILES, "strangers' sockets are closed")
    all_right(terminal, site, web, coordinator, worker)


@pytest.mark.slow
def test_beyond_loopback_only_the_key_lets_in(site: Site, terminal: Terminal) -> None:
    """Without it, or with another one, there is silence."""
    port, web = free_pair(), Web(site)
    coordinator, worker = begun(terminal, site, web, "0.0.0.0", port)
    right = WorkerKey.parse((terminal.folder / "c" / "worker.key").read_text(), "worker.key")
    public, secret = (z85.decode(key) for key in zmq.curve_keypair())
    assert apart_from_us(whisper, port, right) > 0
    joined = _told(terminal, "worker.joined")
    for key in (None, WorkerKey(right.server_public, public, secret), WorkerKey(public, public, secret)):
        assert apart_from_us(whisper, port, key) == 0, key
    apart_from_us(raw, port, 300)
    assert _told(terminal, "worker.joined") == joined
    assert broken(terminal) == 0
    all_right(terminal, site, web, coordinator, worker)


@pytest.mark.slow
def test_a_liar_with_the_key_takes_no_lease_of_others_and_leads_nowhere_beyond_the_scope(
    site: Site, terminal: Terminal
) -> None:
    """docs/operations.md says what a holder of the key may do: a link within the scope is among it, which one tells."""
    port, web = free_pair(), Web(site)
    coordinator, worker = begun(terminal, site, web, "0.0.0.0", port)
    key = WorkerKey.parse((terminal.folder / "c" / "worker.key").read_text(), "worker.key")
    before = resident(coordinator.pid)

    stolen = apart_from_us(steal, port, key, site.url(*web.starts[0]), 300)
    assert stolen["accepted"] == 0, stolen

    inside = (web.starts[0][0], "/told/by/a/liar")
    beyond = site.url(*web.beyond)
    injected = apart_from_us(inject, port, key, site.url(*inside), [beyond])
    assert injected["Welcome"] == 1, injected
    web.found.add(inside)

    assert apart_from_us(bombard, port, key, peers=10, each=200) > 1000
    until(lambda: broken(terminal) > 0, "broken messages are counted and told")
    flooded = apart_from_us(flood, port, key, site.url("elsewhere.test", "/"), 600)
    assert flooded["refused: lease"] == 450, flooded
    assert resident(coordinator.pid) - before < FLAT, flooded
    all_right(terminal, site, web, coordinator, worker)


@pytest.mark.slow
def test_a_liar_that_takes_all_it_is_lent_and_falls_silent_costs_a_leases_time(
    site: Site, terminal: Terminal
) -> None:
    port, web = free_pair(), Web(site)
    coordinator = listening(terminal, site, web, "127.0.0.1", port)
    assert apart_from_us(hog, port, None) >= len(web.starts), "it is lent every host"
    worker = at_work(terminal, site, web, port)
    assert _told(terminal, "lease.expired") > 0, "what it was lent is lent again"
    all_right(terminal, site, web, coordinator, worker)


@pytest.mark.slow
def test_more_connections_than_files_may_be_open_do_not_end_a_crawl(site: Site, terminal: Terminal) -> None:
    """Those that say nothing are cut after some seconds; who waits longer than that is let in after them."""
    port, web = free_pair(), Web(site)
    coordinator, worker = begun(terminal, site, web, "127.0.0.1", port, most_files=OPEN_FILES)
    files = open_files(coordinator.pid)
    held = []
    for number in range(2 * OPEN_FILES):
        try:
            held.append(socket.create_connection(("127.0.0.1", port + number % 2), 1))
        except OSError:
            break  # the line of those who knock is full
    assert len(held) > OPEN_FILES // 2
    assert coordinator.is_running(), coordinator.said[-3000:]
    until(lambda: open_files(coordinator.pid) < files + SPARE_FILES, "they are cut", 60)
    for plain in held:
        plain.close()
    all_right(terminal, site, web, coordinator, worker)


def _told(terminal: Terminal, event: str) -> int:
    """How often the coordinator's log has this event."""
    log = (terminal.folder / "c" / "logs" / "coord.log").read_text()
    return sum(event in line.split()[2:3] for line in log.splitlines())


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
                        # At a longer one the worker's ZeroMQ itself hangs up, for good (libzmq 4.3).
                        if frames and max(map(len, frames)) <= wire.MAX_FRAME_BYTES:
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
