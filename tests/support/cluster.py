"""Real coordinators and workers as processes, to be killed, frozen and cut off; and what must hold afterwards.

    with Cluster(tmp_path, site, site.grow(...)) as cluster:
        cluster.coordinate("start"); cluster.work()
        cluster.kill(cluster.workers()[0])
        cluster.finish()
    check(cluster.out, site, start, delay=0.1)

Every process of a cluster, however deep, carries a mark in its environment, so that those which nobody waits for are
found by the kernel's own list (Linux: /proc). Nothing of Shoal is imported: only command lines, files and signals.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from warcio.archiveiterator import ArchiveIterator

from tests.support.figures import figure
from tests.support.proxy import Proxy, free_pair
from tests.support.site import Hit, Place, Site

ROOT: Final = Path(__file__).parents[2]
_MARK: Final = "SHOAL_TEST_CLUSTER"
_LOOK: Final = 0.02
"""Seconds between two looks at what the kernel or the disk says."""


def until(holds: Callable[[], bool], what: str, timeout: float = 60.0) -> float:
    """Wait until something outside of this process holds; the seconds it took. TimeoutError names it."""
    begun = time.monotonic()
    turn = threading.Event()
    while not holds():
        if time.monotonic() - begun > timeout:
            raise TimeoutError(f"not in {timeout} s: {what}")
        turn.wait(_LOOK)
    return time.monotonic() - begun


def let_pass(seconds: float) -> None:
    """Real time for real processes: how long one is frozen, or until the next is killed."""
    threading.Event().wait(seconds)


@dataclass(frozen=True, slots=True)
class Seen:
    """A process of the cluster, as the kernel has it."""

    pid: int
    parent: int
    command: str

    @property
    def is_worker_process(self) -> bool:
        """One of the N that fetch: they are spawned by multiprocessing."""
        return "spawn_main" in self.command

    @property
    def is_supervisor(self) -> bool:
        """The parent of those."""
        return "worker" in self.command and " start " in self.command and not self.is_worker_process


class Served(Protocol):
    """What a cluster crawls: a Site, or another server with names of its own."""

    @property
    def url(self) -> Callable[..., str]:
        """The absolute URL of a place."""

    def hosts_file(self, path: Path) -> Path:
        """Write a hosts file for it."""


class Cluster:
    """The processes of one crawl, all on this machine; leaving it kills what is left."""

    def __init__(
        self,
        folder: Path,
        site: Served,
        start: tuple[str, ...],
        *,
        delay: float = 0.1,
        lease_ttl: float = 30.0,
        heartbeat: float = 5.0,
        tuning: str = "",
        options: tuple[str, ...] = (),
        seeds: Path | None = None,
        scope: str = "any",
        out: Path | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        """`lease_ttl`, `heartbeat` in seconds, `tuning` more lines: [tuning] of the crawl's configuration.

        `seeds`: a file of them instead of `start`; `out`: DIR, where it is not below `folder`.
        """
        self.out = folder / "crawl" if out is None else out
        self.said = folder / "said.txt"
        self.delay = delay
        self.more: tuple[str, ...] = ()
        """Further options of the next start."""
        self.thaws: list[float] = []
        """When frozen processes went on; the site's clock."""
        self._mark = f"{os.getpid()}-{id(self)}-{time.monotonic_ns()}"
        hosts = site.hosts_file(folder / "hosts")
        config = folder / "crawl.toml"
        config.write_text(f"[tuning]\nlease_ttl = {lease_ttl}\nheartbeat = {heartbeat}\n{tuning}")
        self._python = str(python)
        self._crawl = [site.url(*start) if seeds is None else str(seeds)]
        self._crawl += ["--out", str(self.out), "--config", str(config), "--scope", scope]
        self._crawl += ["--hosts-file", str(hosts), "--allow-private", "--delay", str(delay), "--no-progress"]
        self._crawl += [
            "--contact",
            "tests@shoal.test",
            "--http",
            "127.0.0.1:0",
            "--min-free",
            "1MiB",
            *options,
        ]
        self._children: list[subprocess.Popen[str]] = []
        self._frozen: set[int] = set()
        self.port = free_pair()
        self.coordinator: subprocess.Popen[str] | None = None
        self.supervisor: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seen in self.processes():
            _signal(seen.pid, signal.SIGKILL)
        for child in self._children:
            child.wait(10)

    # -- its processes ------------------------------------------------------------------------------------

    def coordinate(self, command: str = "start", *, procs: int = 2) -> subprocess.Popen[str]:
        """Start `coord start` (on this cluster's port) or `coord crawl`; the same again goes on."""
        place = (
            ["--procs", str(procs)] if command == "crawl" else ["--listen", f"tcp://127.0.0.1:{self.port}"]
        )
        self.coordinator = self._run(
            ROOT / "coordinator" / "__main__.py", command, *self._crawl, *place, *self.more
        )
        return self.coordinator

    def work(self, proxy: Proxy | None = None, *, procs: int = 2) -> subprocess.Popen[str]:
        """Start `worker start`, behind a proxy if there is one."""
        at = f"tcp://127.0.0.1:{self.port}" if proxy is None else proxy.address
        main = ROOT / "worker" / "__main__.py"
        self.supervisor = self._run(main, "start", "--procs", str(procs), "--coord", at, "--allow-private")
        return self.supervisor

    def coord(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        """Type another `coord` command about this crawl, and do not wait for it."""
        return self._run(ROOT / "coordinator" / "__main__.py", command, str(self.out), *arguments)

    def processes(self) -> list[Seen]:
        """All that live, by pid; those that died and were not waited for are not among them."""
        return sorted(self._living(), key=lambda seen: seen.pid)

    def workers(self) -> list[int]:
        """The worker processes."""
        return [seen.pid for seen in self.processes() if seen.is_worker_process]

    def supervisors(self) -> list[int]:
        """Their parents: one of `worker start`, or the one that `coord crawl` started."""
        return [seen.pid for seen in self.processes() if seen.is_supervisor]

    def kill(self, pid: int) -> None:
        """SIGKILL; returns when the process is gone."""
        _signal(pid, signal.SIGKILL)
        for child in self._children:
            if child.pid == pid:
                child.wait(30)
        until(lambda: not _lives(pid), f"process {pid} dies of SIGKILL")

    def freeze(self, pid: int) -> None:
        """SIGSTOP."""
        _signal(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """SIGCONT, noted in `thaws`."""
        self.thaws.append(time.monotonic())
        _signal(pid, signal.SIGCONT)

    def vanish(self, pids: list[int], *, for_good: bool) -> None:
        """Stop processes all at once, as a machine does that is switched off; `for_good`: and kill them."""
        for pid in pids:
            self.freeze(pid)  # so that none of them sees another one die
        if for_good:
            for pid in pids:
                self.kill(pid)

    def noted(self, event: str) -> list[float]:
        """When the coordinator's log has this event, oldest first; seconds of the wall clock."""
        try:
            lines = (self.out / "logs" / "coord.log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [
            datetime.fromisoformat(line.split()[0]).timestamp()
            for line in lines
            if line.split()[2:3] == [event]
        ]

    def finish(self, timeout: float = 120.0, *, expected: int = 0) -> None:
        """The crawl ends by itself, with the exit code expected, workers with 0, and nobody is left behind."""
        assert self.coordinator is not None
        try:
            code = self.coordinator.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the crawl did not end in {timeout} s\n{self.tail()}") from None
        assert code == expected, f"exit code {code}\n{self.tail()}"
        if self.supervisor is not None:
            assert self.supervisor.wait(60) == 0, self.tail()
        until(lambda: not self.processes(), f"no process is left, but: {self.processes()}", 15)

    def tail(self, size: int = 4000) -> str:
        """The end of what everybody said."""
        return self.said.read_text(errors="replace")[-size:]

    def lines(self) -> int:
        """Lines of `pages` so far, torn ones too."""
        return sum(path.read_bytes().count(b"\n") for path in self.out.glob("pages/*.jsonl"))

    def _run(self, *command: object) -> subprocess.Popen[str]:
        with self.said.open("a") as said:
            child = subprocess.Popen(
                [self._python, *map(str, command)],
                env=os.environ | {_MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                text=True,
            )
        self._children.append(child)
        return child

    def _living(self) -> Iterator[Seen]:
        mark = f"{_MARK}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                if mark not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it went meanwhile
            if stat[0] not in "ZX":
                yield Seen(int(entry.name), int(stat[1]), command)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it went by itself meanwhile


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- what must hold afterwards ------------------------------------------------------------------------------


Lines = dict[str, dict[str, Any]]
"""Lines of `pages`, by URL."""


def results(out: Path) -> Lines:
    """Every line of `pages`, by URL; fails where a URL has two or a line is torn."""
    found = rounds(out)
    assert len(found) <= 1, f"{len(found)} rounds"
    return found[0] if found else {}


def rounds(out: Path) -> list[Lines]:
    """Every line of `pages` of each round, by URL; fails where a URL has two in a round or a line is torn."""
    found: dict[int, Lines] = defaultdict(dict)
    for path in sorted(out.glob("pages/*.jsonl")):
        content = path.read_bytes()
        assert not content or content.endswith(b"\n"), f"{path.name} ends in a torn line"
        for line in content.splitlines():
            page = json.loads(line)
            lines = found[page["round"]]
            assert page["url"] not in lines, f"{page['url']} has two lines"
            lines[page["url"]] = page
    assert sorted(found) == list(range(len(found))), f"rounds {sorted(found)}"
    return [found[number] for number in range(len(found))]


_NO_PAGE: Final = ("/robots.txt", "/sitemap.xml")
"""What has records, but no line."""


def check_records(out: Path, *pages: Lines) -> int:
    """Each line's place holds the record it speaks of, alone; every file passes; each line, of all rounds, has its own.

    Returns the number of records that were read.
    """
    stored: list[str] = []
    count = 0
    for path in sorted(out.glob("warc/*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                # Not content_stream(): warcio 1.8 cannot undo br with a Brotli of today; digests are of the raw one.
                record.raw_stream.read()
                count += 1
                if record.rec_type in ("response", "revisit"):
                    stored.append(record.rec_headers.get_header("WARC-Target-URI"))
    lines = [page for of_round in pages for page in of_round.values() if page["warc"]]
    of_pages = Counter(url for url in stored if not url.endswith(_NO_PAGE))
    wanted = Counter(page["url"] for page in lines)
    assert of_pages == wanted, f"records too many: {of_pages - wanted}, too few: {wanted - of_pages}"
    for page in lines:
        url = page["url"]
        with (out / page["warc"]["file"]).open("rb") as file:
            file.seek(page["warc"]["offset"])
            member = file.read(page["warc"]["length"])
        assert len(member) == page["warc"]["length"], f"{url}: its record is cut off"
        gzip.decompress(member)
        (record,) = _records(member)
        assert record == (page["record"], url, page["digest"]), f"{url}: another record stands at its place"
    return count


def _records(member: bytes) -> list[tuple[str, str, str]]:
    return [
        (
            record.rec_type,
            record.rec_headers.get_header("WARC-Target-URI"),
            record.rec_headers.get_header("WARC-Payload-Digest"),
        )
        for record in ArchiveIterator(io.BytesIO(member))
    ]


def hurried(
    site: Site, delay: float, *, lanes: int = 1, thaws: list[float] | None = None
) -> list[tuple[Hit, float]]:
    """Requests that came sooner than `delay` after the end of the fetch before it in their lane.

    The end is taken where it cannot be too late: when the site, at the earliest, began to send. A fetch that was
    made again may have been cut off at its begin; it counts from its arrival, which is told late by as long as this
    machine was busy: half a delay is allowed for. So is one request of a process that was frozen between looking at
    its clock and writing (rule 8 says why that cannot be closed): within a tenth of a second after its thaw.
    """
    thaws = [] if thaws is None else list(thaws)
    by_host: dict[str, list[Hit]] = defaultdict(list)
    last: dict[Place, Hit] = {}
    for hit in site.log:
        by_host[hit.host].append(hit)
        last[hit.host, hit.target] = hit
    found = []
    for hits in by_host.values():
        hits.sort(key=lambda hit: hit.arrived)
        frees: list[float] = []
        """When each of the latest fetches left its lane free."""
        for hit in hits:
            if len(frees) >= lanes:
                frees.sort()
                free = frees[len(frees) - lanes]
                if hit.arrived < free:
                    excuse = next((thaw for thaw in thaws if 0 <= hit.arrived - thaw < 0.1), None)
                    if excuse is None:
                        found.append((hit, free - hit.arrived))
                    else:
                        thaws.remove(excuse)
            whole = last[hit.host, hit.target] is hit
            frees.append(hit.arrived + (hit.wait + delay if whole else delay / 2))
    return found


_OUTCOMES: Final = {2: "OK", 3: "REDIRECT", 4: "CLIENT_ERROR"}
"""By the first digit of the status: what a place of the site comes to that is fetched without trouble."""


def check(
    out: Path,
    site: Site,
    start: Place,
    *,
    delay: float,
    lanes: int = 1,
    thaws: list[float] | None = None,
    found: set[Place] | None = None,
) -> int:
    """All promises that a crawl's files and the site's log can prove; returns how many requests it took.

    `found`: what each round has to find, where that is not all that links lead to from `start`.
    """
    by_round = rounds(out)
    wanted = {site.url(*place) for place in (site.reachable(start) if found is None else found)}
    answered = {site.url(hit.host, hit.target): hit.status for hit in site.log}
    assert by_round
    for pages in by_round:
        assert set(pages) == wanted, f"{len(wanted - set(pages))} lost, {len(set(pages) - wanted)} invented"
        wrong = [
            page
            for url, page in pages.items()
            if (page["outcome"], page["status"]) != (_OUTCOMES.get(answered[url] // 100), answered[url])
        ]
        assert not wrong, wrong[:3]
    records = check_records(out, *by_round)
    early = hurried(site, delay, lanes=lanes, thaws=thaws)
    assert not early, [(hit.host, hit.target, f"{by * 1000:.1f} ms early") for hit, by in early[:5]]
    pages_found = sum(map(len, by_round))
    figure("check", pages=pages_found, records=records, lost=0, doubled=0, hurried=len(early))
    return len(site.log)


def coord(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Type `coord ...` and wait for its end."""
    command = [sys.executable, str(ROOT / "coordinator" / "__main__.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def audited(out: Path) -> str:
    """What `coord audit --deep` says; fails where it does not agree."""
    said = coord("audit", str(out), "--deep", timeout=300.0)
    assert said.returncode == 0, said.stdout + said.stderr
    figure("audit", audits=1)
    return said.stdout
