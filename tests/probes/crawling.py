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
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.probes.manifest import CONTACT, DELAY, Crawl
from tests.probes.server import Servers
from tests.probes.web import CRAWLS, HERE, HERE_TOO, HERE_V6, PROBES, SOCKS_SIDE
from tests.support.proxies import free_port, microsocks, tinyproxy
from tests.support.terminal import Terminal

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
        given = [*crawl.seeds, *options(procs), *network, *CRAWLS[name].options]
        ended = terminal.begin("coord", "crawl", *given, variables=variables).end(150)
        if ended.code != 0:
            return [f"{name}: exit code {ended.code}: {ended.said[-2000:]}"]
        status = terminal.coord("status", "c", "--json")
        said = crawl.judge(folder / "c", guarded=json.loads(status.out)["guarded"])
        return [f"{name} on {procs}: {line}" for line in said]


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
        self._table = {
            host: plan.addresses.get(host, (HERE,)) for plan in crawl.plans for host in plan.hosts
        }

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


async def _inside(name: str, folder: Path) -> list[str]:
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
    also = [HERE_TOO, HERE_V6, "127.0.0.1"]
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(Servers(address=HERE, also=also, ports={"web": 80, "alt": 8080, "tls": 443}))
        NameServer(servers)
        if name == "proxied":
            servers.proxies = {
                "http": f"http://127.0.0.1:{await stack.enter_async_context(tinyproxy(folder))}",
                "socks": f"socks5://127.0.0.1:{await stack.enter_async_context(microsocks('-b', SOCKS_SIDE))}",
                "dead": f"http://127.0.0.1:{free_port()}",
            }
        return await asyncio.to_thread(wrong, name, folder, 1, servers=servers, network=())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_inside(sys.argv[1], Path(sys.argv[2])))))
