"""Run inside a network namespace of its own (`unshare --net`): a crawl beside addresses that it must not touch.

Loopback gets the addresses of CANARIES, and on each a server listens that notes who came. A site at SITE leads to
them in every way it can: links in all spellings, redirects, a robots.txt that is one. Prints one line of JSON: for
each crawl the addresses whose canary was reached, and the outcome of each URL.

    python -m tests.support.canary FOLDER ALLOW...      ALLOW: the value of one crawl's --allow-private, `all` or CIDRs
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6

SITE = "172.20.0.5"
CANARIES = (
    "127.0.0.1",
    "10.1.2.3",
    "192.168.7.7",
    "100.64.0.9",
    "169.254.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "fd12::1",
    "fd00:ec2::254",
)
LITERALS = {
    "http://127.0.0.1/": "127.0.0.1",
    "http://127.1/short": "127.0.0.1",
    "http://2130706433/decimal": "127.0.0.1",
    "http://0x7f.0.0.1/hex": "127.0.0.1",
    "http://0177.0.0.01/octal": "127.0.0.1",
    "http://localhost/name": "127.0.0.1",
    "http://[::ffff:127.0.0.1]/mapped": "127.0.0.1",
    "http://10.1.2.3/": "10.1.2.3",
    "http://167838211/decimal": "10.1.2.3",
    "http://192.168.7.7/": "192.168.7.7",
    "http://100.64.0.9/": "100.64.0.9",
    "http://169.254.1.1/": "169.254.1.1",
    "http://169.254.169.254/latest/meta-data/": "169.254.169.254",
    "http://2852039166/decimal": "169.254.169.254",
    "http://0xa9fea9fe/hex": "169.254.169.254",
    "http://0251.0376.0251.0376/octal": "169.254.169.254",
    "http://0xa9.254.43518/mixed": "169.254.169.254",
    "http://%31%36%39.254.169.254/escaped": "169.254.169.254",
    "http://\uff11\uff16\uff19\u3002254.169.254/wide": "169.254.169.254",
    "http://169.254.169.254./dot": "169.254.169.254",
    "http://[::ffff:a9fe:a9fe]/mapped": "169.254.169.254",
    "http://[64:ff9b::169.254.169.254]/nat64": "169.254.169.254",
    "http://[2002:a9fe:a9fe::1]/6to4": "169.254.169.254",
    "http://[::169.254.169.254]/compatible": "169.254.169.254",
    "http://meta.test/name": "169.254.169.254",
    "http://100.100.100.200/": "100.100.100.200",
    "http://168.63.129.16/": "168.63.129.16",
    "http://[fd12::1]/": "fd12::1",
    "http://[fd00:ec2::254]/": "fd00:ec2::254",
    "http://[FD00:EC2:0:0::254]/long": "fd00:ec2::254",
}

TIME_LIMIT = 45.0
"""Seconds for one crawl."""

_reached: set[str] = set()
_robots_asked: set[str] = set()


class _Canary(BaseHTTPRequestHandler):
    def setup(self) -> None:
        super().setup()
        _reached.add(
            self.connection.getsockname()[0].removeprefix("::ffff:")
        )  # at the connection, whatever is asked

    def do_GET(self) -> None:
        _answer(self, 200, "canary")

    def log_message(self, format: str, *args: object) -> None: ...


class _Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.headers["Host"].partition(":")[0]
        urls = list(LITERALS)
        if self.path == "/robots.txt" and host.startswith("robots"):
            _robots_asked.add(host)
            _answer(self, 302, "", urls[int(host[6:].partition(".")[0])])
        elif self.path.startswith("/hop"):
            _answer(self, 302, "", urls[int(self.path[4:])])
        elif self.path == "/" and host == "site.test":
            links = [*urls, *(f"/hop{n}" for n in range(len(urls)))]
            links += [f"http://robots{n}.test:8080/" for n in range(len(urls))]
            _answer(self, 200, "".join(f'<a href="{link}">x</a>\n' for link in links))
        else:
            _answer(self, 404 if self.path == "/robots.txt" else 200, "")

    def log_message(self, format: str, *args: object) -> None: ...


class _Listener6(ThreadingHTTPServer):
    address_family = AF_INET6


def _answer(asked: BaseHTTPRequestHandler, status: int, body: str, location: str | None = None) -> None:
    sent = body.encode()
    asked.send_response(status)
    asked.send_header("Content-Type", "text/html; charset=utf-8")
    asked.send_header("Content-Length", str(len(sent)))
    if location is not None:
        # The header is written as Latin-1; this way its bytes are those of UTF-8, as on the web.
        asked.send_header("Location", location.encode().decode("latin-1"))
    asked.end_headers()
    asked.wfile.write(sent)


def main(folder: Path, allowed: list[str]) -> None:
    """Set up the namespace, crawl once for each of `allowed`, print what came of it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (SITE, *CANARIES[1:]):
        length = "128" if ":" in address else "32"
        options = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "address", "add", f"{address}/{length}", "dev", "lo", *options], check=True)
    for address in CANARIES:
        listener = (_Listener6 if ":" in address else ThreadingHTTPServer)((address, 80), _Canary)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
    site = ThreadingHTTPServer((SITE, 8080), _Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    names = [f"{SITE} site.test", "169.254.169.254 meta.test"]
    names += [f"{SITE} robots{n}.test" for n in range(len(LITERALS))]
    hosts = folder / "hosts"
    hosts.write_text("\n".join(names) + "\n")
    results = []
    for number, allow in enumerate(allowed):
        _reached.clear()
        _robots_asked.clear()
        out = folder / f"crawl{number}"
        opened = ["--allow-private"] if allow == "all" else [f"--allow-private={allow}"]
        command = [sys.executable, "-m", "coordinator", "crawl", "http://site.test:8080/", "--out", str(out)]
        command += ["--scope", "any", "--delay", "0", "--procs", "1", "--retries", "0", "--timeout", "20s"]
        command += ["--hosts-file", str(hosts), "--no-progress", *opened]
        said = _crawl(command, out)
        lines = [
            json.loads(line) for path in out.glob("pages/*.jsonl") for line in path.read_text().splitlines()
        ]
        outcomes = {line["url"]: line["outcome"] for line in lines}
        results.append({"reached": sorted(_reached), "outcomes": outcomes, "said": said[-2000:]})
    sys.stdout.write(json.dumps(results) + "\n")


def _crawl(command: list[str], out: Path) -> str:
    """Crawl until every URL was tried; those whose robots.txt cannot be had would be tried again for an hour."""
    crawl = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + TIME_LIMIT
    while crawl.poll() is None and time.monotonic() < end and not _all_tried(out):
        time.sleep(0.1)
    crawl.terminate()
    return crawl.communicate(timeout=TIME_LIMIT)[1]


def _all_tried(out: Path) -> bool:
    if len(_robots_asked) < len(LITERALS):
        return False
    try:
        now = json.loads((out / "summary.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(now["pages"] > 2 * len(LITERALS) and not now["leased"] and not now["hosts"]["ready"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
