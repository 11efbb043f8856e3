"""A machine whose network goes away: nothing is counted against any host, and all goes on when it is back.

In a network namespace of its own with nothing but loopback, where the test itself is the only name server there is
(Linux, and only where a user may make one). This file is also the program that runs in there.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HOSTS = [f"h{number}.example" for number in range(6)]
_INSIDE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]


def _can_be_apart() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return (
        subprocess.run(
            [*_INSIDE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False
        ).returncode
        == 0
    )


def test_a_network_that_was_gone_costs_no_host_a_try(tmp_path: Path) -> None:
    if not _can_be_apart():
        pytest.skip("no network namespace can be made here")
    ended = subprocess.run(
        [*_INSIDE, sys.executable, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=150,
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["code"] == 0, told["said"]
    assert told["before"] == 0  # no line was written while the network was away
    assert told["pages"] == {f"http://{host}": ["OK", 1] for host in HOSTS}


class NameServer:
    """Answers every question for an IPv4 address with loopback's, and every other with nothing."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, address = self._socket.recvfrom(4096)
            end = question.index(b"\0", 12) + 5
            is_a = question[end - 4 : end - 2] == b"\0\1"
            head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_a), 0, 0)
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + socket.inet_aton("127.0.0.1")
            self._socket.sendto(head + question[12:end] + (answer if is_a else b""), address)


def inside(folder: Path) -> None:
    """The crawl, in the namespace: begun without a name server, which comes only when the worker is offline."""
    sys.path.insert(0, str(ROOT))
    from tests.support.cluster import results
    from tests.support.site import Site
    from tests.support.terminal import Terminal

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)
    with Site() as site, Terminal(folder, site) as terminal:
        for host in HOSTS:
            site.page(host, "/")
        seeds = [site.url(host) for host in HOSTS]
        network = list(terminal.network)
        at = network.index("--hosts-file")
        del network[at : at + 2]
        running = terminal.begin(
            "coord", "crawl", *seeds, "--out", "c", "--procs", "1", "--retries", "0", "-v", *network
        )
        running.says("worker.offline")
        before = sum(path.read_bytes().count(b"\n") for path in (folder / "c").glob("pages/*.jsonl"))
        NameServer()
        ended = running.end()
        pages = results(folder / "c")
        told = {
            "code": ended.code,
            "said": ended.said,
            "before": before,
            "pages": {
                url.rsplit(":", 1)[0]: [page["outcome"], page["attempts"]] for url, page in pages.items()
            },
        }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    inside(Path(sys.argv[1]))
