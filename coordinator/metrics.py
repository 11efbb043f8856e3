"""The metrics of a crawl in the text format of Prometheus (version 0.0.4), made of its `Status`.

Our own few lines rather than a client library: all figures are counted elsewhere, and a registry would hold each a
second time. Names say their unit; what may have many values (hosts, URLs) is no label: only outcomes, rules, causes
and workers are, and workers are at most WORKERS. docs/metrics.md tells what each is for.

    metrics.text(status)    the whole page; about 0.2 ms
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from common.log import escaped
from common.outcome import OUTCOMES
from coordinator.status import Phase, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

WORKERS = 256
"""Worker processes that have figures of their own; beyond them the sums say enough."""

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: what it is, and its samples."""

    name: str
    kind: str
    """`counter` or `gauge`."""
    help: str
    samples: tuple[Sample, ...]


def text(status: Status) -> str:
    """The page at /metrics."""
    return "".join(_lines(families(status)))


def families(status: Status) -> Iterator[Family]:
    """All metrics of a status; those without a sample now are there too, by their name."""
    yield from _crawl(status)
    yield from _hosts_and_waiting(status)
    yield from _coordinator(status)
    yield from _workers(status)


def _crawl(status: Status) -> Iterator[Family]:
    outcomes = {outcome.value: 0 for outcome in OUTCOMES} | dict(status.outcomes)
    yield _counter("shoal_pages_total", "Requests that ended, by outcome", _by("outcome", outcomes))
    yield _counter(
        "shoal_tries_total",
        "Fetches since the coordinator started, by what they came to; robots.txt and retries included",
        _by("outcome", {outcome.value: 0 for outcome in OUTCOMES} | dict(status.tries)),
    )
    yield _counter(
        "shoal_received_bytes_total", "Bodies as they came over the wire", _one(status.bytes_received)
    )
    yield _counter("shoal_admitted_total", "Requests ever admitted", _one(status.admitted))
    yield _counter(
        "shoal_refused_total", "URLs found and not admitted, by the rule", _by("rule", status.refused)
    )
    yield _counter(
        "shoal_trapped_total", "Requests set aside as traps, by the guard", _by("rule", status.guarded)
    )
    yield _counter("shoal_revisits_total", "Records of a payload stored before", _one(status.revisits))
    yield _counter("shoal_items_total", "Items that extractors made, by kind", _by("kind", status.items))
    yield _counter(
        "shoal_extract_failures_total",
        "Pages whose items are lost, for an extractor failed",
        _one(status.unextracted),
    )
    yield _counter(
        "shoal_sitemaps_total", "Sitemaps that ended; no other count has them", _one(status.sitemaps)
    )
    yield _counter("shoal_files_total", "Requests that ended with a downloaded file", _one(status.files))
    yield _gauge("shoal_files_bytes", "Downloaded files that are kept", _one(status.file_bytes))
    yield _counter("shoal_retried_total", "Ended requests queued again by a person", _one(status.retried))
    yield _counter(
        "shoal_near_duplicates_total",
        "Pages nearly equal to an earlier one, since the coordinator started",
        _one(status.near_duplicates),
    )
    yield _gauge(
        "shoal_recrawl_pages",
        "Pages of this round, compared with the one before",
        _by("change", status.again),
    )
    yield _gauge("shoal_round", "Round of recrawling, 0 the first crawl", _one(status.round))
    yield _counter("shoal_seeds_total", "Lines of seeds read", _one(status.seeds.read))
    yield _counter("shoal_bad_seeds_total", "Lines of seeds refused", _one(status.seeds.bad))
    yield _gauge("shoal_in_flight", "Fetches in flight", _one(status.in_flight))
    yield _gauge(
        "shoal_requests",
        "Open requests: queued ready or not, waiting for a retry, held back by a budget, lent to workers",
        (
            ({"state": "queued"}, max(0, status.queued - status.retries_waiting - status.held_back)),
            ({"state": "retry"}, status.retries_waiting),
            ({"state": "held"}, status.held_back),
            ({"state": "leased"}, status.leased),
        ),
    )
    eta = () if status.eta_seconds is None else _one(status.eta_seconds)
    yield _gauge("shoal_remaining_seconds", "Estimate to the end, where there is one", eta)
    yield _gauge(
        "shoal_phase",
        "1 for the phase the crawl is in",
        tuple(({"phase": phase.value}, float(phase is status.phase)) for phase in Phase),
    )


def _hosts_and_waiting(status: Status) -> Iterator[Family]:
    hosts = status.hosts
    yield _gauge("shoal_known_hosts", "Hosts ever met", _one(hosts.known))
    yield _gauge(
        "shoal_hosts",
        "Hosts with something to fetch: due and not lent, not due yet, lent to workers",
        (
            ({"state": "ready"}, hosts.ready),
            ({"state": "waiting"}, hosts.waiting),
            ({"state": "leased"}, hosts.leased),
        ),
    )
    first = status.waiting[0].what if status.waiting else ""
    yield _gauge(
        "shoal_waiting",
        "1 for what limits the crawl most, 0 for what holds beside it",
        tuple(({"cause": cause.what}, float(cause.what == first)) for cause in status.waiting),
    )
    longest = max((host.alone_seconds for host in status.long_queues), default=0.0)
    yield _gauge(
        "shoal_longest_host_seconds", "What the longest queue of one host takes at its delay", _one(longest)
    )


def _coordinator(status: Status) -> Iterator[Family]:
    yield _gauge("shoal_elapsed_seconds", "Since the coordinator started", _one(status.elapsed_seconds))
    yield _counter("shoal_commits_total", "Commits made durable", _one(status.commits))
    yield _gauge("shoal_commit_seconds", "What the last commit took", _one(status.commit_seconds))
    yield _gauge("shoal_coordinator_memory_bytes", "Resident memory", _one(status.memory_bytes))
    yield _gauge(
        "shoal_coordinator_cpu_ratio", "Share of one processor in use", _one(status.cpu_percent / 100)
    )
    yield _gauge("shoal_disk_free_bytes", "Room where the crawl is kept", _one(status.disk_free_bytes))
    yield _counter(
        "shoal_protocol_errors_total", "Messages that broke the protocol", _one(status.protocol_errors)
    )
    yield _counter("shoal_unroutable_total", "Messages for workers that were gone", _one(status.unroutable))


def _workers(status: Status) -> Iterator[Family]:
    yield _gauge("shoal_workers", "Worker processes", _one(len(status.workers)))
    yield _counter("shoal_workers_joined_total", "Worker processes that came", _one(status.workers_joined))
    yield _counter("shoal_workers_died_total", "Worker processes that died", _one(status.workers_died))
    workers = list(zip(_worker_labels(status), status.workers, strict=False))
    for name, kind, told, figure in (
        ("fetches_total", "counter", "Fetches of this process", lambda of: of.fetched),
        ("in_flight", "gauge", "Fetches in flight", lambda of: of.in_flight),
        ("lanes", "gauge", "Fetches it may have in flight", lambda of: of.lanes),
        ("cpu_ratio", "gauge", "Share of one processor in use", lambda of: of.cpu_percent / 100),
        (
            "extract_ratio",
            "gauge",
            "Share of its time that extractors took of late",
            lambda of: of.extract_percent / 100,
        ),
        ("memory_bytes", "gauge", "Resident memory", lambda of: of.rss_bytes),
        ("held_bytes", "gauge", "Bodies held", lambda of: of.held_bytes),
        ("lag_seconds", "gauge", "By how much its loop was late at last", lambda of: of.lag_ms / 1000),
        ("silent_seconds", "gauge", "Since it last said something", lambda of: of.heard_seconds),
        ("offline", "gauge", "1 while it sees no network", lambda of: float(of.offline)),
    ):
        samples = tuple((labels, figure(worker)) for labels, worker in workers)
        yield Family(f"shoal_worker_{name}", kind, told, samples)


# -- within


def _worker_labels(status: Status) -> Iterator[Mapping[str, str]]:
    """A name each: a page with the same labels twice is refused whole. (Containers may all be `worker`, pid 1.)"""
    seen: Counter[str] = Counter()
    for worker in status.workers[:WORKERS]:
        name = escaped(f"{worker.host}:{worker.pid}")
        seen[name] += 1
        yield {"worker": name if seen[name] == 1 else f"{name}#{seen[name]}"}


def _counter(name: str, told: str, samples: Iterable[Sample]) -> Family:
    return Family(name, "counter", told, tuple(samples))


def _gauge(name: str, told: str, samples: Iterable[Sample]) -> Family:
    return Family(name, "gauge", told, tuple(samples))


def _one(value: float) -> tuple[Sample, ...]:
    return (({}, value),)


def _by(label: str, counts: Mapping[str, float]) -> tuple[Sample, ...]:
    return tuple(({label: name}, count) for name, count in counts.items())


def _lines(found: Iterable[Family]) -> Iterator[str]:
    for family in found:
        yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n"
        for labels, value in family.samples:
            told = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
            braced = f"{{{told}}}" if told else ""
            yield f"{family.name}{braced} {value:.17g}\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
