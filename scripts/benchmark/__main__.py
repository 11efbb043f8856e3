"""`scripts/bench`: the synthetic web under each crawler. `scripts/bench slow`: the slow server.
`scripts/bench simhash`: near-duplicates, right and wrong. `scripts/bench growth`: cost as the crawl grows.

Everything stays on loopback, is bounded in time and stops by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from scripts.benchmark import crawlers, growth, neardup, report, slow, web


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("web", "slow", "simhash", "growth"), default="web")
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--procs", type=int, default=2, help="of Shoal")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the median by CPU is shown")
    parser.add_argument("--urls", default="100,1000,10000", help="of the slow server")
    parser.add_argument("--most", type=int, default=1_000_000, help="growth: up to so many known URLs")
    parser.add_argument("--only", help="comma-separated: shoal,script,scrapy; slow: shoal,bare,aiohttp,...")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="renew the table in this Markdown file")
    given = parser.parse_args()
    if given.what == "simhash":
        print(f"bench: {report.machine()}", flush=True)
        figures, text = neardup.measured()
        _tell(given, figures, text)
        return
    if given.what == "growth":
        print(f"bench: {report.machine()}", flush=True)
        rows = []
        for row in growth.measured(given.most):
            rows.append(row)
            print(growth.table(rows[-1:]).splitlines()[-1], flush=True)
        _tell(given, {"growth": [asdict(row) for row in rows]}, growth.table(rows))
        return
    known = [way.key for way in slow.WAYS] if given.what == "slow" else list(crawlers.CRAWLERS)
    only = given.only.split(",") if given.only else known
    if unknown := set(only) - set(known):
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there is {', '.join(known)}")
    print(f"bench: {report.machine()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as scratch:
        if given.what == "slow":
            figures, text = _slow(only, [int(count) for count in given.urls.split(",")], Path(scratch))
        else:
            figures, text = _web(given, only, Path(scratch))
    _tell(given, figures, text)


def _tell(given: argparse.Namespace, figures: dict[str, object], text: str) -> None:
    """A table on the terminal, and where else it was asked for."""
    print(f"\n{text}")
    if given.json:
        given.json.write_text(json.dumps({"machine": report.machine(), **figures}, indent=1) + "\n")
    if given.write:
        report.replace_part(given.write, given.what, f"{report.machine()}\n\n{text}")


def _web(given: argparse.Namespace, only: list[str], scratch: Path) -> tuple[dict[str, object], str]:
    path, facts = web.made(given.pages, given.hosts, given.seed)
    runs: dict[str, list[crawlers.Row]] = {name: [] for name in only}
    with _server("pages", str(path), "--port", str(facts.port)) as port:
        # In turns, so that what else the machine does meets all of them.
        for _ in range(given.repeat):
            for name in only:
                crawler = crawlers.CRAWLERS[name]
                print(f"bench: {crawler.name} ...", flush=True)
                row = crawlers.measured(crawler, facts.plan(), port=port, scratch=scratch, procs=given.procs)
                runs[name].append(row)
    rows = [sorted(rows, key=lambda row: row.cpu_ms)[len(rows) // 2] for rows in runs.values()]
    figures: dict[str, object] = {
        "web": asdict(facts),
        "rows": [asdict(row) for row in rows],
        "runs": {name: [asdict(row) for row in rows] for name, rows in runs.items()},
    }
    return figures, f"{report.pages_table(rows)}\n\n{report.pages_story(facts, rows)}"


def _slow(only: list[str], counts: list[int], scratch: Path) -> tuple[dict[str, object], str]:
    timings = []
    with _server("slow") as port:
        for way in slow.WAYS:
            for count in counts if way.key in only else []:
                print(f"bench: {way.name}, {count:,} URLs ...", flush=True)
                timings.append(slow.timed(way, count, port=port, scratch=scratch))
    said = "From the first connection to the last answer, start-up not counted. ≈: extrapolated."
    text = f"{report.slow_table(timings)}\n\n{said}"
    return {"timings": [asdict(timing) for timing in timings]}, text


@contextmanager
def _server(*arguments: str) -> Iterator[int]:
    """The server in a process of its own; it ends when we close its standard input, or end ourselves."""
    command = [sys.executable, "-m", "scripts.benchmark.server", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("bench: the server did not start; its reason stands above")
        try:
            yield int(line)
        finally:
            process.stdin.close()


if __name__ == "__main__":
    main()
