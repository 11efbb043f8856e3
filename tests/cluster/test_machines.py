"""`coord start` here, `worker start` there: joining, leaving, keys, strangers, restarts."""

from __future__ import annotations

import json
import shlex
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from common.keys import WorkerKey
from tests.support.cluster import check_records, results, until
from tests.support.proxy import free_pair
from tests.support.site import Site
from tests.support.terminal import Running, Terminal, apart

DELAY = 0.1


@pytest.fixture
def terminal(tmp_path: Path, site: Site) -> Iterator[Terminal]:
    with Terminal(tmp_path, site, delay=DELAY) as terminal:
        yield terminal


def start(terminal: Terminal, *seeds: str, host: str = "127.0.0.1", port: int, out: str = "c") -> Running:
    """`coord start` on a port of this machine; returns when it listens."""
    places = ["--out", out, "--listen", f"tcp://{host}:{port}", "--http", "127.0.0.1:0"]
    running = terminal.begin("coord", "start", *seeds, *places, "--scope", "any", *terminal.network)
    running.says("\n  worker start ")
    return running


def commands(running: Running) -> list[list[str]]:
    """The worker commands that a coordinator printed, without their first word."""
    lines = [line.strip() for line in running.said.splitlines() if line.startswith("  worker start ")]
    return [shlex.split(line)[1:] for line in lines]


def check(terminal: Terminal, site: Site, begin: tuple[str, str]) -> None:
    """All found, each fetched once, each record in its place, no host hurried."""
    pages = results(terminal.folder / "c")
    assert set(pages) == {site.url(*place) for place in site.reachable(begin)}
    check_records(terminal.folder / "c", pages)
    fetched = [(hit.host, hit.target) for hit in site.log]
    assert len(fetched) == len(set(fetched)), "fetched twice"
    for host in site.hosts():
        assert apart(site, host) >= DELAY, host


def test_the_printed_worker_command_works_when_pasted_with_every_address(
    site: Site, terminal: Terminal
) -> None:
    begin = site.grow(seed=1, hosts=3, pages=30)
    running = start(terminal, site.url(*begin), host="0.0.0.0", port=free_pair())
    printed = commands(running)
    assert printed and all("--key" in command for command in printed)
    # As if pasted in another terminal, which stands in another folder; one process each is enough here.
    with Terminal(terminal.folder / "frontier-less", site) as elsewhere:
        elsewhere.folder.mkdir()
        workers = []
        for command in printed:
            command[command.index("--procs") + 1] = "1"
            workers.append(elsewhere.begin("worker", *command))
        ended = running.end()
        assert ended.code == 0, ended.said
        for worker in workers:
            left = worker.end(15)
            assert left.code == 0, left.said
            assert "Ctrl-C leaves" in left.said and left.said.count("\n") == 1
        assert elsewhere.left() == {}
    joined = (terminal.folder / "c" / "logs" / "coord.log").read_text().count("worker.joined")
    assert joined == len(printed)
    assert (terminal.folder / "c" / "worker.key").stat().st_mode & 0o777 == 0o600
    check(terminal, site, begin)


def test_workers_come_before_the_coordinator_leave_and_join_while_it_crawls(
    site: Site, terminal: Terminal
) -> None:
    begin = site.grow(seed=2, hosts=3, pages=180)
    port = free_pair()
    early = terminal.begin("worker", "start", "--procs", "2", "--coord", f"tcp://127.0.0.1:{port}")
    early.says("2 processes for tcp://127.0.0.1")
    running = start(terminal, site.url(*begin), port=port)
    assert commands(running)[0][3:] == ["--coord", f"tcp://127.0.0.1:{port}"], "no key on loopback"
    late = terminal.begin("worker", "start", "--procs", "1", "--coord", f"127.0.0.1:{port}")
    site.wait_for(12)
    log = terminal.folder / "c" / "logs" / "coord.log"
    until(lambda: log.read_text().count("worker.joined") == 3, "the late one joins")
    early.signal(signal.SIGTERM)
    left = early.end(12)
    assert left.code == 3, left.said
    assert 0 < len(results(terminal.folder / "c")) < 180, "it left in the middle"
    ended = running.end()
    assert ended.code == 0, ended.said
    assert late.end(10).code == 0
    assert terminal.left() == {}
    assert log.read_text().count("worker.left") >= 2
    check(terminal, site, begin)


def test_a_coordinator_that_waits_for_seeds_is_fed_stopped_and_started_again(
    site: Site, terminal: Terminal
) -> None:
    begin = site.grow(seed=3, hosts=2, pages=40)
    port = free_pair()
    running = start(terminal, port=port)
    worker = terminal.begin("worker", "start", "--procs", "1", "--coord", f"tcp://127.0.0.1:{port}")
    added = terminal.begin("coord", "add", "c", "-", typed=f"{site.url(*begin)}\nno url\n").end()
    assert added.code == 0 and "added 1" in added.out and "line 2" in added.said, added
    site.wait_for(10)
    stopped = terminal.coord("stop", "c")
    assert stopped.code == 0 and stopped.seconds < 12, stopped
    ended = running.end()
    assert ended.code == 3, ended.said
    assert worker.is_running(), "it waits for the coordinator"
    before = len(site.log)
    assert before < 40
    running = start(terminal, port=port)
    ended = running.end()
    assert ended.code == 0, ended.said
    assert worker.end(10).code == 0
    check(terminal, site, begin)


def test_sigterm_stops_a_coordinator_resumably(site: Site, terminal: Terminal) -> None:
    running = start(terminal, port=free_pair())
    running.signal(signal.SIGTERM)
    ended = running.end(10)
    assert ended.code == 3 and "Exit code 3" in ended.said, ended.said


# -------------------------------------------------------------------------------------------------------------- keys


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Running, int]]:
    """A coordinator that listens beyond loopback and waits for seeds; its terminal and its port."""
    with Site() as site, Terminal(tmp_path_factory.mktemp("guarded"), site) as terminal:
        port = free_pair()
        running = start(terminal, host="0.0.0.0", port=port)
        yield terminal, running, port
        running.interrupt()
        assert running.end().code == 130
        assert terminal.left() == {}


def joined(terminal: Terminal) -> int:
    """Workers that a coordinator let in."""
    return (terminal.folder / "c" / "logs" / "coord.log").read_text().count("worker.joined")


def test_a_wrong_key_is_said_in_one_line(guarded: tuple[Terminal, Running, int]) -> None:
    terminal, _, port = guarded
    other = terminal.coord("key", "other", "--new")
    assert other.code == 0
    worker = ["start", "--coord", f"tcp://127.0.0.1:{port}", "--procs", "2", "-q"]
    wrong = "wrong key, or not a coordinator"
    ended = terminal.worker(*worker, "--key", "other/worker.key")
    assert ended.is_one_line(2, "worker: ", wrong, "--key FILE"), ended
    ended = terminal.worker(*worker, variables=[("SHOAL_KEY", other.out.strip())])
    assert ended.is_one_line(2, wrong), ended
    ended = terminal.worker(*worker)
    assert ended.is_one_line(2, wrong), ended
    assert joined(terminal) == 0


def test_the_right_key_in_the_environment_lets_in(guarded: tuple[Terminal, Running, int]) -> None:
    terminal, _, port = guarded
    key = terminal.coord("key", "c").out.strip()
    assert key in (terminal.folder / "c" / "worker.key").read_text()
    running = terminal.begin(
        *("worker", "start", "--coord", f"tcp://127.0.0.1:{port}", "--procs", "1"),
        variables=[("SHOAL_KEY", key)],
    )
    until(lambda: joined(terminal) == 1, "it joins")
    running.interrupt()
    assert running.end(12).code == 130


def test_a_stranger_gets_silence(guarded: tuple[Terminal, Running, int]) -> None:
    terminal, running, port = guarded
    key = WorkerKey.parse((terminal.folder / "c" / "worker.key").read_text(), "worker.key")
    public, secret = zmq.curve_keypair()
    before = joined(terminal)
    with zmq.Context() as context:
        answers: list[Any] = []
        for with_keys in (False, True):
            with context.socket(zmq.DEALER) as stranger:
                if with_keys:  # knows the coordinator's public key, but has another pair than the workers
                    stranger.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(key.server_public))
                    stranger.setsockopt(zmq.CURVE_PUBLICKEY, public)
                    stranger.setsockopt(zmq.CURVE_SECRETKEY, secret)
                stranger.setsockopt(zmq.LINGER, 0)
                stranger.connect(f"tcp://127.0.0.1:{port}")
                stranger.send_multipart([b"\x81\x00", b"hello"])
                answers.append(stranger.poll(1000))
        assert answers == [0, 0]
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        plain.settimeout(5)
        got = b""
        try:
            while part := plain.recv(4096):
                got += part
        except OSError:
            pass
        assert b"HTTP" not in got and len(got) <= 64, "not more than ZMTP's greeting"
    assert running.is_running()
    assert joined(terminal) == before
    assert "Traceback" not in running.said
    status = json.loads(terminal.coord("status", "c", "--json").out)
    assert status["workers"] == []


def test_an_occupied_port_is_one_line_and_nothing_hangs(guarded: tuple[Terminal, Running, int]) -> None:
    terminal, _, port = guarded
    options = ["--contact", "tests@shoal.test", "--http", "127.0.0.1:0"]
    for host in ("127.0.0.1", "0.0.0.0"):
        ended = terminal.coord("start", "--out", f"d{host}", "--listen", f"tcp://{host}:{port}", *options)
        assert ended.is_one_line(2, f"--listen tcp://{host}:{port}", "taken", "choose another"), ended
        assert ended.seconds < 15
    http = json.loads((terminal.folder / "c" / "coord.json").read_text())["http"]
    free = f"tcp://127.0.0.1:{free_pair()}"
    ended = terminal.coord(
        "start", "--out", "d", "--listen", free, "--http", http, "--contact", "t@shoal.test"
    )
    assert (
        (ended.code, ended.out) == (2, "")
        and f"--http {http}" in ended.last
        and "Traceback" not in ended.said
    )


def test_a_coordinator_does_not_listen_where_it_is_not(guarded: tuple[Terminal, Running, int]) -> None:
    terminal, _, _ = guarded
    options = ["--contact", "tests@shoal.test", "--http", "127.0.0.1:0"]
    ended = terminal.coord("start", "--out", "e", "--listen", "tcp://192.0.2.250:7799", *options)
    assert ended.is_one_line(2, "--listen tcp://192.0.2.250:7799"), ended
