"""The crawlers that are measured over the synthetic web: Shoal, the evening's script, Scrapy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.benchmark import measure, server, web

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]

_TIMEOUT_PER_PAGE: Final = 0.03
"""Seconds after which a crawler is given up: ten times what the slowest needs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One crawler's figures. CPU is of everything but the server, start-up included."""

    name: str
    stores: str
    pages: int = 0
    missed: int = 0
    pages_per_s: float = 0.0
    """From the first connection to the last answer."""
    cpu_ms: float = 0.0
    """A page; all its processes."""
    parts_ms: dict[str, float] = field(default_factory=dict)
    """A page, by part."""
    startup_cpu_s: float = 0.0
    """Seconds of CPU before the first connection."""
    wall_s: float = 0.0
    """Of the whole command."""
    peak_sum_mb: float = 0.0
    peak_one_mb: float = 0.0
    requests: int = 0
    server_ms: float = 0.0
    """CPU of the server, a request."""
    left_out: str | None = None
    """Why there are no figures."""


@dataclass(frozen=True, slots=True)
class Crawler:
    """How to run one, and how to read what it found."""

    name: str
    stores: str
    command: Callable[[Setting], Sequence[str]]
    found: Callable[[Path], set[str]]
    """URLs stored as fetched well, from the folder it wrote to."""
    part: measure.Part = lambda line, parent: "all"
    prepare: Callable[[], str | None] = lambda: None
    """What it needs installed; returns why it cannot be measured."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a crawler is told."""

    start: str
    out: Path
    """An empty folder of its own."""
    hosts_file: Path
    procs: int


def coord() -> list[str]:
    """The command `coord` of this environment."""
    script = Path(sys.executable).parent / "coord"
    return [str(script)] if script.exists() else [sys.executable, "-m", "coordinator"]


def shoal_part(line: str, parent: str) -> str:
    """`workers` is whatever runs under `worker start`; all else is the coordinator."""
    started = " worker " in f" {line} " or "/worker " in line or "worker/__main__.py" in line
    return "workers" if parent == "workers" or started else "coordinator"


def _shoal(setting: Setting) -> list[str]:
    return [
        *coord(),
        *("crawl", setting.start, "--out", str(setting.out / "crawl"), "--scope", "domain"),
        *("--procs", str(setting.procs), "--delay", "0", "--per-host", "8", "--ignore-robots"),
        *("--hosts-file", str(setting.hosts_file), "--allow-private", "--no-progress"),
    ]


def shoal_found(out: Path) -> set[str]:
    """Every URL that Shoal's `pages` say was fetched well."""
    found = set()
    for path in (out / "crawl" / "pages").glob("*.jsonl"):
        with path.open(encoding="utf-8") as lines:
            found |= {page["url"] for page in map(json.loads, lines) if page["outcome"] == "OK"}
    return found


def _tsv(out: Path) -> set[str]:
    with (out / "pages.tsv").open(encoding="utf-8") as lines:
        return {line.split("\t", 1)[0] for line in lines}


def _jsonl(out: Path) -> set[str]:
    with (out / "pages.jsonl").open(encoding="utf-8") as lines:
        return {json.loads(line)["url"] for line in lines}


_SCRAPY_VENV: Final = ROOT / ".bench-venv"


def _install_scrapy() -> str | None:
    """Scrapy in an environment of its own, its versions pinned, so that it cannot disturb Shoal's."""
    python = _SCRAPY_VENV / "bin" / "python"
    pins = HERE / "scrapy-constraints.txt"
    stamp = _SCRAPY_VENV / ".installed"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return None
    print("bench: installing Scrapy into .bench-venv ...", flush=True)
    shutil.rmtree(_SCRAPY_VENV, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(_SCRAPY_VENV)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        + ["--constraint", str(pins), "scrapy", "uvloop"],
    ):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            reason = (made.stderr.strip() or "no reason given").splitlines()[-1]
            return f"Scrapy cannot be installed here: {reason}"
    stamp.write_text(pins.read_text())
    return None


CRAWLERS: Final = {
    "shoal": Crawler("Shoal", "WARC, pages, durable frontier", _shoal, shoal_found, part=shoal_part),
    "script": Crawler(
        "aiohttp + selectolax, an evening's script",
        "URL, title",
        lambda s: [sys.executable, str(HERE / "evening.py"), s.start, web.DOMAIN, str(s.out / "pages.tsv")],
        _tsv,
    ),
    "scrapy": Crawler(
        "Scrapy, tuned for broad crawls",
        "URL, title",
        lambda s: [
            str(_SCRAPY_VENV / "bin" / "python"),
            str(HERE / "broad.py"),
            s.start,
            web.DOMAIN,
            str(s.out / "pages.jsonl"),
        ],
        _jsonl,
        prepare=_install_scrapy,
    ),
}


def measured(crawler: Crawler, plan: web.Plan, *, port: int, scratch: Path, procs: int) -> Row:
    """One crawl of the whole web; the server on `port` serves it."""
    reason = crawler.prepare()
    if reason is not None:
        return Row(crawler.name, crawler.stores, left_out=reason)
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    hosts_file = scratch / "hosts"
    hosts_file.write_text("".join(f"127.0.0.1 {plan.host(number)}\n" for number in range(plan.hosts)))
    setting = Setting(plan.url(0), out, hosts_file, procs)
    log = scratch / "log"
    server.ask(port, "reset")
    timeout = 30 + plan.pages * _TIMEOUT_PER_PAGE
    cost = measure.run(crawler.command(setting), log=log, timeout=timeout, part=crawler.part)
    counts = server.ask(port)
    if cost.exit_code:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        ended = f"given up after {timeout:.0f} s" if cost.exit_code == -9 else f"exit code {cost.exit_code}"
        return Row(crawler.name, crawler.stores, left_out=f"{ended}: {last[0]}")
    found = crawler.found(out)
    wanted = {plan.url(number) for number in range(plan.pages)}
    pages = len(found & wanted)
    return Row(
        name=crawler.name,
        stores=crawler.stores,
        pages=pages,
        missed=len(wanted - found),
        pages_per_s=pages / (counts.last - counts.first),
        cpu_ms=cost.total / pages * 1000,
        parts_ms={part: cpu / pages * 1000 for part, cpu in sorted(cost.cpu.items())},
        startup_cpu_s=cost.until(counts.first),
        wall_s=cost.ended - cost.started,
        peak_sum_mb=cost.peak_sum / 1e6,
        peak_one_mb=cost.peak_one / 1e6,
        requests=counts.requests,
        server_ms=counts.cpu / counts.requests * 1000,
    )
