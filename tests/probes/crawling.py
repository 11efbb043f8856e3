"""Crawling the probes through the real command line; as a program, in a network of its own.

    python tests/probes/crawling.py NAME FOLDER       prints what is wrong as JSON; to be run in a namespace

In there the hosts have addresses that are not loopback's, the usual ports, and a name server of ours that counts.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from common.url import authority, canonical, host_key, slot
from coordinator.store import rocks
from coordinator.store.rows import RobotsRow, pack, robots_row, unpack
from coordinator.store.snapshot import shards
from tests.probes.manifest import CONTACT, DELAY, Crawl, read_lines
from tests.probes.registry import HERE, HERE_TOO, HERE_V6, SOCKS_SIDE
from tests.probes.server import Servers
from tests.probes.web import CRAWLS, PROBES
from tests.support.cluster import until
from tests.support.proxies import free_port, microsocks, tinyproxy
from tests.support.terminal import Running, Terminal

INSIDE: Final = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
ROOT: Final = Path(__file__).parents[2]
LOOPBACK: Final = ("--allow-private", "--hosts-file", "hosts")


def options(procs: int) -> list[str]:
    """What all crawls have."""
    said = ["--out", "c", "--procs", str(procs), "--delay", str(DELAY), "--contact", CONTACT]
    return [*said, "--no-progress", "--config", "crawl.toml", "--min-free", "1MiB"]


def prepared(name: str, folder: Path, servers: Servers) -> tuple[Crawl, list[tuple[str, str]]]:
    """The crawl, its files written to `folder`, and the variables that its processes need."""
    crawl = Crawl.of(name, PROBES, servers)
    crawl.robots = CRAWLS[name].obeys
    servers.authority.cert_pem.write_to_path(folder / "authority.pem")
    crawl.hosts_file(folder / "hosts")
    (folder / "crawl.toml").write_text(crawl.config)
    return crawl, [("SSL_CERT_FILE", str(folder / "authority.pem"))]


def wrong(
    name: str,
    folder: Path,
    procs: int,
    *,
    servers: Servers | None = None,
    network: Sequence[str] = LOOPBACK,
) -> list[str]:
    """Crawl the probes of one crawl from begin to end; all that is wrong with what it left."""
    folder.mkdir(exist_ok=True)
    if servers is None:
        with Servers() as own:
            return wrong(name, folder, procs, servers=own)
    with Terminal(folder) as terminal:
        crawl, variables = prepared(name, folder, servers)
        if NameServer.running is not None:
            NameServer.running.know(crawl)
        given = [*crawl.seeds, *options(procs), *network, *CRAWLS[name].words]
        ended = terminal.begin("coord", "crawl", *given, variables=variables).end(100)
        if ended.code != 0:
            return [f"{name}: exit code {ended.code}: {ended.said[-2000:]}"]
        status = terminal.coord("status", "c", "--json")
        said = crawl.judge(folder / "c", guarded=json.loads(status.out)["guarded"])
        return [f"{name} on {procs}: {line}" for line in said]


def wrong_again(folder: Path) -> list[str]:
    """The crawl `again`, and its recrawl."""
    with Servers() as servers, Terminal(folder) as terminal:
        crawl, variables = prepared("again", folder, servers)
        given = [*options(1), *LOOPBACK, *CRAWLS["again"].words]
        first = terminal.begin("coord", "crawl", *crawl.seeds, *given, variables=variables).end(90)
        said = crawl.judge(folder / "c")
        since = len(read_lines(folder / "c")), len(servers.log)
        second = terminal.begin("coord", "crawl", "--recrawl", *given, variables=variables).end(90)
        if (first.code, second.code) != (0, 0):
            return [f"again: {first.said}\n{second.said}"]
        said += crawl.judge(folder / "c", part=1, since=since)
        told = json.loads(terminal.coord("status", "c", "--json").out)["again"]
        expected: Counter[str] = sum((plan.then.again for plan in crawl.plans if plan.then), Counter())
        if told != dict(expected):
            said.append(f"status: {told}, expected {dict(expected)}")
        return [f"again: {line}" for line in said]


def wrong_later(folder: Path) -> list[str]:
    """The crawl `later`, stopped; a day passes for what it knows of robots.txt; it goes on, and is stopped again."""
    with Servers() as servers, Terminal(folder) as terminal:
        crawl, variables = prepared("later", folder, servers)
        given = [*options(1), *LOOPBACK, *CRAWLS["later"].words]
        running = terminal.begin("coord", "crawl", *crawl.seeds, *given, variables=variables)
        said = _stopped(crawl, 0, running, terminal, (0, 0))
        if said:
            return said
        since = len(read_lines(folder / "c")), len(servers.log)
        _age_robots(crawl, folder / "c", 25 * 3600.0)
        seeds = [seed for plan in crawl.plans if plan.then for seed in plan.then.seeds]
        running = terminal.begin("coord", "crawl", *seeds, *given, variables=variables)
        return _stopped(crawl, 1, running, terminal, since)


def _stopped(
    crawl: Crawl, part: int, running: Running, terminal: Terminal, since: tuple[int, int]
) -> list[str]:
    """Wait until all lines are there that are expected and all requests were made, stop, and judge."""
    plans = [plan.then for plan in crawl.plans if plan.then] if part else crawl.plans
    lines = sum(len(plan.lines) for plan in plans)
    robots = sum(least for plan in plans for least, _ in plan.asked.values())
    out = terminal.folder / "c"

    def is_done() -> bool:
        asked = [hit for hit in crawl.servers.log[since[1] :] if hit.target == "/robots.txt"]
        told = sum(path.read_bytes().count(b"\n") for path in out.glob("pages/*.jsonl"))
        return not running.is_running() or (told - since[0] >= lines and len(asked) >= robots)

    until(is_done, "all is found that is not to wait", 60)
    said = []
    queued = sorted(url for plan in crawl.plans for url in plan.queued)
    until(lambda: _state(terminal, queued[0]) == "QUEUED", f"{queued[0]} waits", 30)
    stopped = terminal.coord("stop", "c")
    ended = running.end(60)
    if (stopped.code, ended.code) != (0, 3):
        said.append(f"exit codes {stopped.code} and {ended.code}: {stopped.said}{ended.said}")
    still = json.loads(terminal.coord("status", "c", "--json").out)["queued"]
    if still != len(queued):
        said.append(f"{still} are queued, expected {len(queued)}")
    return [f"later: {line}" for line in said + crawl.judge(out, part=part, since=since)]


def _state(terminal: Terminal, url: str) -> object:
    told = terminal.coord("why", "c", url, "--json")
    return json.loads(told.out)["state"] if told.code == 0 else told.said


def _age_robots(crawl: Crawl, out: Path, seconds: float) -> None:
    """What the crawl knows of robots.txt was fetched so much earlier."""
    store = rocks.open(shards(out)[0])
    changes: dict[bytes, bytes | None] = {}
    for plan in crawl.plans:
        for url in plan.lines:
            place = authority(canonical(url))
            key = robots_row(slot(host_key(canonical(url))), place)
            packed = store.get(key)
            if packed is not None:
                row = RobotsRow(*unpack(packed))
                changes[key] = pack(row._replace(fetched_wall=row.fetched_wall - seconds))
    store.write(changes)
    store.close()


# ------------------------------------------------------------------------------------------- a network of its own


def can_be_apart() -> bool:
    """Whether this machine lets us make a network namespace."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    made = subprocess.run([*INSIDE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return made.returncode == 0


def wrong_apart(name: str, folder: Path) -> list[str]:
    """As `wrong`, in such a network."""
    folder.mkdir(exist_ok=True)
    ended = subprocess.run(
        [*INSIDE, sys.executable, __file__, name, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=150,
    )
    if ended.returncode != 0:
        return [f"{name}: {ended.stderr}"]
    said: list[str] = json.loads(ended.stdout)
    return said


class NameServer:
    """Answers for all hosts of a crawl, and counts."""

    running: NameServer | None = None

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._table: Mapping[str, tuple[str, ...]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()
        NameServer.running = self

    def know(self, crawl: Crawl) -> None:
        """Begin to answer for the hosts of this crawl."""
        self._table = {host: plan.addresses.get(host, (HERE,)) for plan in crawl.plans for host in plan.hosts}

    def _serve(self) -> None:
        while True:
            question, address = self._socket.recvfrom(4096)
            labels, at = [], 12
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode())
                at += 1 + question[at]
            name = ".".join(labels).lower()
            (kind,) = struct.unpack_from("!H", question, at + 1)
            self._servers.questions.append((name, kind))
            known = self._table.get(name, ())
            records = [_record(kind, each) for each in known if (":" in each) == (kind == 28)]
            head = question[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, len(records), 0, 0)
            self._socket.sendto(head + question[12 : at + 5] + b"".join(records), address)


def _record(kind: int, address: str) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, address)
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 300, len(packed)) + packed


def _furnish(folder: Path) -> None:
    """Addresses, a way to everywhere that leads nowhere, and the name server of this machine."""
    for line in (
        "link set lo up",
        *(f"address add {address}/32 dev lo" for address in (HERE, HERE_TOO, SOCKS_SIDE)),
        f"-6 address add {HERE_V6}/128 dev lo nodad",
        "route add default dev lo",
        "-6 route add default dev lo",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)


async def _inside(name: str, folder: Path) -> list[str]:
    also = [HERE_TOO, HERE_V6, "127.0.0.1"]
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(
            Servers(address=HERE, also=also, ports={"web": 80, "alt": 8080, "tls": 443})
        )
        NameServer(servers)
        if name == "proxied":
            servers.proxies = {
                "http": f"http://127.0.0.1:{await stack.enter_async_context(tinyproxy(folder))}",
                "socks": f"socks5://127.0.0.1:{await stack.enter_async_context(microsocks('-b', SOCKS_SIDE))}",
                "dead": f"http://127.0.0.1:{free_port()}",
            }
        return await asyncio.to_thread(wrong, name, folder, 1, servers=servers, network=())


if __name__ == "__main__":
    _furnish(Path(sys.argv[2]))
    sys.stdout.write(json.dumps(asyncio.run(_inside(sys.argv[1], Path(sys.argv[2])))))
