"""What must hold after every step and at the end of a run: the promises, against the web's log and the disks.

Checks read the cores' state where it is cheap, and the rows that a shard would find on disk where it counts.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha1
from typing import TYPE_CHECKING

from common.messages import Flag, Request
from common.outcome import OUTCOMES, Outcome, State
from common.url import CanonicalURL, host_key
from common.warc import digest_text
from coordinator.fleet import SILENT_HEARTBEATS
from coordinator.shard import Shard
from coordinator.sink import Recovery
from coordinator.steps import Commit
from coordinator.store.kv import Overlay, Store
from coordinator.store.rows import DoneRow, LeaseRow, as_request, unpack, unpack_request_row
from tests.simulation.web import DENIED, Exchange, whole
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.shards import ShardMachine
    from tests.simulation.workers import Process

TOLERANCE = 1e-6
"""Seconds: clocks with offsets of a million seconds lose some digits."""

DEEP_EVERY = 40
"""Events of a shard between two looks at all of its rows."""

EVERYTHING = 1 << 30


class Checks:
    """The promises, checked for one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._lines: dict[str, set[str]] = {}
        self._events = 0
        self._newest: dict[str, int] = {}
        """By shard: the newest lease that was looked at."""
        self.hurry_checked = 0

    # ------------------------------------------------------------------------------------------ no host is hurried

    def arrival(self, exchange: Exchange) -> None:
        """A request reached a site: was it its turn?"""
        cluster, now = self._cluster, self._world.now
        self._robots(exchange)
        policy = cluster.config.for_host(exchange.host)
        log = cluster.web.log[exchange.host]
        near = 0
        last = exchange
        for other in reversed(log[:-1]):
            if other.left_out or (other.over is None and other.lost()):
                continue
            self.hurry_checked += 1
            if other.over is None or other.over + self._delay(other, exchange) > now + TOLERANCE:
                near += 1
                last = other
        if near >= policy.per_host:
            raise Broken(
                "no host is hurried",
                f"{exchange.url} by {exchange.who} at {now:.4f}: {near} fetches of {exchange.host} not over for its "
                f"delay of {policy.delay} s, {policy.per_host} allowed; one of them {last.url} by {last.who}, "
                f"{last.arrived:.4f} to {last.over}",
                (exchange.host, *self._leases_of(exchange.host)),
            )

    def _robots(self, exchange: Exchange) -> None:
        """A page is fetched only when its site's robots.txt was read, and allows it."""
        site = self._cluster.web.site(exchange.url)
        if not self._cluster.config.obey_robots or exchange.is_robots:
            return
        rules = self._cluster.web.rules(exchange.url)
        if site.robots_arrivals == 0 or rules.robots_arrivals <= rules.robots_failures:
            raise Broken(
                "robots.txt is obeyed", f"{exchange.url} before its robots.txt", self.about(exchange.url)
            )
        if rules.robots is not None and DENIED in exchange.url:
            raise Broken("robots.txt is obeyed", f"{exchange.url} is denied", self.about(exchange.url))

    def _delay(self, earlier: Exchange, later: Exchange) -> float:
        delay = self._cluster.config.for_host(later.host).delay
        if self._cluster.config.obey_robots and not earlier.is_robots and not later.is_robots:
            site = self._cluster.web.site(later.url)
            if earlier.url.startswith(site.authority + "/"):
                delay = max(delay, self._cluster.web.rules(later.url).crawl_delay)
        return delay

    # --------------------------------------------------------------------------------------- memory within bounds

    def process(self, process: Process) -> None:
        """A worker process did something."""
        agent, config = process.agent, process.config
        if config is None:
            return
        tuning = config.tuning
        flying = agent.in_flight + sum(visit.asking is not None for visit in agent._visits.values())
        if flying > config.concurrency + len(self._cluster.shards):
            raise Broken(
                "credit is not exceeded", f"{process.name}: {flying} fetches, {config.concurrency} allowed"
            )
        unanswered = agent._owed.pages + len(agent._owed.waiting)
        if unanswered > tuning.unacknowledged_pages + config.concurrency:
            raise Broken(
                "memory is bounded",
                f"{process.name}: {unanswered} pages unanswered, {tuning.unacknowledged_pages} allowed",
            )

    # ------------------------------------------------------------------------ every request is in exactly one state

    def handled(self, machine: ShardMachine, core: Shard) -> None:
        """A shard handled an event."""
        counts = core.ledger.counts
        frontier = core.frontier
        open_ = frontier.queued + frontier.waiting + core.leases.requests - frontier.relinks
        if counts.admitted - counts.ended != open_:
            raise Broken(
                "every request is in one state",
                f"{machine.name}: {counts.admitted} admitted, {counts.ended} ended, {frontier.queued} queued, "
                f"{frontier.waiting} waiting, {core.leases.requests} lent",
                (machine.name,),
            )
        self._lent(machine, core)
        self._events += 1
        if self._events % DEEP_EVERY == 0:
            self.deep(machine, core)

    def _lent(self, machine: ShardMachine, core: Shard) -> None:
        """A lease that is new was lent to somebody who spoke lately."""
        last = newest = self._newest.get(machine.name, 0)
        for lease in core.leases:
            if lease.id <= last:
                continue
            newest = max(newest, lease.id)
            holder = core.fleet.get(lease.session)
            patience = SILENT_HEARTBEATS * core.config.tuning.heartbeat
            silent = 0.0 if holder is None else machine.clock() - holder.heard_at
            if silent > patience + TOLERANCE:
                raise Broken(
                    "nothing is lent to the silent",
                    f"{machine.name}: {lease} lent to {holder} after {silent:.1f} s",
                    (machine.name,),
                )
        self._newest[machine.name] = newest

    def deep(self, machine: ShardMachine, core: Shard) -> None:
        """Look at all rows of a shard."""
        places = self._places(core.rows, core)
        for url, (done, found) in places.items():
            if len(found) != (0 if done else 1):
                raise Broken(
                    "every request is in one state",
                    f"{machine.name}: {url} done={done}, and open at {found or 'no place'}",
                    (url,),
                )
        try:
            core.frontier.check()
        except AssertionError as wrong:
            raise Broken("the frontier's invariants", f"{machine.name}: {wrong}", (machine.name,)) from wrong

    def _places(self, rows: Overlay | Store, core: Shard | None) -> dict[str, tuple[bool, list[str]]]:
        """Of each request: whether it has an outcome, and where it stands open."""
        by_key: dict[bytes, tuple[bool, list[str]]] = {}
        for key, packed in rows.scan(b"r", b"s", EVERYTHING):
            by_key[key[3:]] = (packed[0] != 0, [])
        for key, _ in rows.scan(b"x", b"y", EVERYTHING):
            by_key[b"x" + key[3:]] = (False, [])
        names: dict[bytes, str] = {}

        def seen(request: Request) -> bytes:
            again = b"x" if request.flags & Flag.LINKS_ONLY else b""
            return again + self._cluster.request_key(request)

        for table, stop, place in ((b"q", b"r", "queue"), (b"w", b"x", "retries")):
            for _, packed in rows.scan(table, stop, EVERYTHING):
                request = as_request(unpack(packed))
                mark = seen(request)
                names[mark] = request.url
                by_key.setdefault(mark, (True, []))[1].append(place)
        if core is not None:
            for lease in core.leases:
                for ordinal in sorted(lease.open):
                    request = lease.requests[ordinal]
                    names[seen(request)] = request.url
                    by_key.setdefault(seen(request), (True, []))[1].append(f"lease {lease.id:x}")
        return {
            names.get(key, self._cluster.names.get(key, key.hex())): value for key, value in by_key.items()
        }

    # ------------------------------------------------------------------------------------ nothing is counted twice

    def sealed(self, machine: ShardMachine, commit: Commit) -> None:
        """A shard is about to commit, and has lent what leaves with it."""
        if machine.core is not None:
            self._lent(machine, machine.core)

    def committed(self, machine: ShardMachine, commit: Commit) -> None:
        """A commit is durable: no request may have a second line in `pages`."""
        for append in commit.outputs.appends:
            if append.file.startswith("pages/"):
                self._add_lines(machine, b"".join(bytes(chunk) for chunk in append.chunks))  # type: ignore[arg-type]

    def recovered(self, machine: ShardMachine, recovery: Recovery) -> None:
        """A shard was started and its files were put right."""
        if recovery.short:
            raise Broken("nothing is lost", f"{machine.name}: committed bytes are gone: {recovery.short}")

    def started(self, machine: ShardMachine) -> None:
        """A shard is there again: what is on its disk counts."""
        self._lines[machine.name] = set()
        for name, content in machine.files.files.items():
            if name.startswith("pages/"):
                self._add_lines(machine, content)

    def _add_lines(self, machine: ShardMachine, content: bytes) -> None:
        lines = self._lines.setdefault(machine.name, set())
        for text in content.splitlines():
            url = json.loads(text)["url"]
            if url in lines:
                raise Broken(
                    "nothing is counted twice",
                    f"{machine.name}: {url} has two lines in pages",
                    self.about(url),
                )
            lines.add(url)

    # ----------------------------------------------------------------------------------------------- at the end

    def over(self) -> None:
        """Control says that the crawl is over: exactly the reachable set must be there, on disk alone."""
        cluster = self._cluster
        found: dict[str, tuple[State, DoneRow]] = {}
        for machine in cluster.shards:
            for key, packed in machine.store.scan(b"r", b"s", EVERYTHING):
                row = unpack_request_row(packed)
                if not isinstance(row, DoneRow):
                    if cluster.limited:
                        continue
                    url = cluster.names.get(key[3:], key.hex())
                    raise Broken(
                        "it ends when it is done", f"{url} is still open at {machine.name}", self.about(url)
                    )
                if row.request.url in found:
                    raise Broken(
                        "nothing is counted twice",
                        f"{row.request.url} at two shards",
                        self.about(row.request.url),
                    )
                found[row.request.url] = (OUTCOMES[row.facts.outcome].state, row)
            for key, packed in machine.store.scan(b"l", b"m", EVERYTHING):
                lease = LeaseRow(*unpack(packed))
                raise Broken(
                    "it ends when it is done", f"lease {key[1:].hex()} of {lease.host} is still open"
                )
            self._files(machine)
        truth = cluster.truth
        self._budgets(found)
        for url, state in truth.items():
            if url not in found and cluster.limited:
                continue
            if url not in found:
                raise Broken("nothing is lost", f"{url} was never admitted", self.about(url))
            if found[url][0] is not state:
                outcome = OUTCOMES[found[url][1].facts.outcome]
                raise Broken(
                    "outcomes are true", f"{url} is {found[url][0]} ({outcome}), not {state}", self.about(url)
                )
        for url in found:
            if url not in truth:
                raise Broken("nothing is invented", f"{url} was admitted", self.about(url))

    def _budgets(self, found: dict[str, tuple[State, DoneRow]]) -> None:
        """Never more than a budget allows; and as much, if there is so much."""
        cluster = self._cluster
        if cluster.budget is not None and len(found) > cluster.budget:
            raise Broken("budgets are kept", f"{len(found)} requests were made, {cluster.budget} allowed")
        limit = cluster.config.max_pages_per_host
        hosts = Counter(host_key(CanonicalURL(url)) for url in found)
        if limit is not None and max(hosts.values(), default=0) > limit:
            raise Broken("budgets are kept", f"{hosts.most_common(1)} requests, {limit} a host allowed")
        if cluster.limited and limit is None and cluster.budget is not None:
            least = min(cluster.budget, len(cluster.truth))
            if len(found) < least:
                raise Broken("budgets are used", f"{len(found)} requests were made, {least} were there")

    def _files(self, machine: ShardMachine) -> None:
        """Rows and files tell the same: a line for each ended request, a record where the row says."""
        files = machine.files.files
        rows = 0
        for _, packed in machine.store.scan(b"r", b"s", EVERYTHING):
            row = unpack_request_row(packed)
            if not isinstance(row, DoneRow):
                continue
            rows += 1
            url = row.request.url
            assert row.line is not None
            file, offset, length = row.line
            if json.loads(files[file][offset : offset + length])["url"] != url:
                raise Broken(
                    "rows and files agree", f"the line of {url} is not at {row.line}", self.about(url)
                )
            self._download(row, files, url)
            if row.warc is not None and row.record == "response":
                file, offset, length = row.warc
                record = files[file][offset : offset + length]
                if not record.startswith(f"response {url} ".encode()):
                    raise Broken(
                        "rows and files agree", f"the record of {url} is not at {row.warc}", self.about(url)
                    )
        lines = sum(content.count(b"\n") for name, content in files.items() if name.startswith("pages/"))
        if lines != rows:
            raise Broken(
                "one line a request", f"{machine.name}: {lines} lines for {rows} requests", (machine.name,)
            )

        kept = {key[1:].decode() for key, _ in machine.store.scan(b"f", b"g", EVERYTHING)}
        there = {name for name in files if name.startswith("files/")}
        if kept != there:
            raise Broken(
                "each file has its row", f"{machine.name}: rows {kept - there}, files {there - kept}"
            )
        if not self._cluster.limited and (left := machine.store.scan(b"p", b"q", EVERYTHING)):
            raise Broken("nothing of a download is left", f"{machine.name}: {left}")

    def _download(self, row: DoneRow, files: dict[str, bytes], url: str) -> None:
        """A file is what stood at its URL at one time, whole; and every file that came is there."""
        page = self._cluster.web.page(url)
        is_file = bool(page.pieces) and OUTCOMES[row.facts.outcome] is Outcome.OK
        if is_file != (row.file is not None):
            raise Broken("a download is a file", f"{url} ended as {row.file}", self.about(url))
        if row.file is not None:
            body = files.get(row.file, b"")
            digest = digest_text(sha1(body).digest())
            if body not in (whole(page, 0), whole(page, 1)) or digest != row.facts.digest:
                raise Broken(
                    "a download is a file", f"{url}: {row.file} is no version of it", self.about(url)
                )

    def about(self, url: str) -> tuple[str, ...]:
        """Words for the story of a URL: itself, and the leases that held it."""
        leases = [
            str(line.detail).split("Lease ", 1)[1].split(" ", 1)[0]
            for line in self._world.trace
            if line.verb == "sends" and "Lease " in str(line.detail) and url in str(line.detail)
        ]
        return (url, *dict.fromkeys(leases))

    def _leases_of(self, host: str) -> list[str]:
        return list(self.about(f"//{host}")[1:])
