"""What a crawl waits for and what limits it, in words: the watchdog's judgement.

Pure: watch.py collects the `Facts`, `waiting` says all that holds, the most telling first, and what a person could
change; `estimate` says how long it may take. While something is fetched, the first is what limits the speed; while
nothing is, it is why nothing moves. It judges one moment, keeps nothing, and knows no hosts but by name.

The order of what stands first: a person's own doing, the disk, no workers, workers cut off, a failing network, then
what most hosts wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.log import escaped
from coordinator.status import (
    HostStatus,
    Phase,
    Waiting,
    number_text,
    plural,
    size_text,
    time_text,
)

SLOW_COMMIT_SECONDS = 2.0
"""A commit that takes longer holds workers up: they may hold half a second's pages unacknowledged."""

FAILING_TRIES = 8
"""Fewer tries within a minute say nothing about the network."""

FAILING_STILL, FAILING_MOVING = 0.5, 0.8
"""Share of a minute's tries that came to one failure, so that it is told: when nothing is in flight, and else. (A list
of old domains has many dead ones, and is fetched all the same.)"""

BUSY = 0.85
"""Share of a processor from which a process is called busy."""

FEW_HOSTS = 20

_ADVICE = {
    "DNS": "do the machines of the workers have a name server that answers?",
    "TIMEOUT": "can the machines of the workers reach the network?",
    "REFUSED": "is it the right port, or does a firewall refuse?",
    "PROXY": "does --proxy answer?",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts that wait for the same: how many, until when (seconds from now, the first of them), and some names."""

    count: int = 0
    until: float | None = None
    names: tuple[str, ...] = ()
    why: str = ""
    """A `reason`, where none of a host's servers was reached."""


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address whose hosts wait for each other (--per-ip)."""

    ip: str
    lent: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `waiting` looks at. Defaults mean "no sign of it"."""

    phase: Phase
    directory: str = "DIR"
    workers: int = 0
    """Processes heard of lately."""
    capacity: int = 0
    """Lanes of all of them: fetches they may have in flight together."""
    lanes_lent: int = 0
    in_flight: int = 0
    """Fetches, and what is lent and not begun."""
    queued: int = 0
    """Retries that wait included."""
    hosts_ready: int = 0
    hosts_waiting: int = 0
    hosts_leased: int = 0
    next_due_seconds: float | None = None
    """Until the first waiting host is due."""
    next_hosts: tuple[str, ...] = ()
    """Some that are due first."""
    longest: HostStatus | None = None
    """The host whose queue holds the end back most."""
    retries: int = 0
    """Requests that wait to be tried again."""
    retrying: Group = Group()
    """Hosts with nothing else to fetch than such; `until`: the first retry of all."""
    robots: Group = Group()
    """Hosts whose robots.txt could not be read, and is asked for again."""
    resting: Group = Group()
    """Hosts that rest after failures."""
    addresses: tuple[Address, ...] = ()
    per_ip: int = 0
    permits: Group = Group()
    """Hosts that somebody's robots.txt was redirected to."""
    delay: float = 1.0
    """The delay in force for most hosts."""
    per_host: int = 1
    rate: float = 0.0
    max_rate: float | None = None
    held_back: int = 0
    """URLs that a budget (--max-pages, ...) keeps from being lent."""
    budget: str = ""
    """The option that does: `--max-pages`."""
    disk_full: bool = False
    """A commit found no room."""
    no_files: bool = False
    """What a commit has no room for is one more open file."""
    disk_free: int = 0
    min_free: int = 0
    memory_short: tuple[str, ...] = ()
    """Workers whose bodies fill --memory."""
    offline: tuple[str, ...] = ()
    """Workers that see no network."""
    silent: tuple[str, ...] = ()
    """Workers that should have said something; not among `workers`."""
    silent_seconds: float = 0.0
    commit_seconds: float = 0.0
    failing: str = ""
    """What most tries of the last minute came to, if that is a failure."""
    failing_tries: int = 0
    tries: int = 0
    """In the last minute."""
    worker_cpu: float | None = None
    """Mean share of a core that worker processes use, 0 to 1."""
    extract_share: float = 0.0
    """Mean share of the worker processes' time that extractors take, 0 to 1."""
    coordinator_cpu: float | None = None
    """Of the thread that decides."""
    seeds_reading: bool = False
    seeds_read: int = 0
    worker_command: str = ""
    """What to run for a worker; empty: workers are started by the coordinator itself."""


def waiting(facts: Facts) -> tuple[Waiting, ...]:
    """All that holds, the most telling first; empty when the crawl is over."""
    match facts.phase:
        case Phase.FINISHED | Phase.STOPPED:
            return ()
        case Phase.STOPPING | Phase.CLOSING:
            first = [_say("ending", "ending: what is in flight is brought home", count=facts.in_flight)]
            return (*first, *_disk(facts))
        case Phase.PAUSED:
            goes_on = f"`coord resume {facts.directory}` goes on"
            return (_say("paused", "paused by hand", goes_on, between=": "), *_disk(facts))
    first, later = [*_disk(facts), *_fleet(facts)], list(_asides(facts))
    if facts.workers or not first:
        first += _network(facts, first=True)
        first += _main(facts)
    named = {each.what for each in first}
    return (*first, *(each for each in later if each.what not in named))


# -- what stands in the way of everything


def _disk(facts: Facts) -> Iterator[Waiting]:
    if facts.no_files:
        text = "no more files may be open: nothing is fetched until somebody hangs up; what was committed is whole"
        yield _say("open_files", text, "raise `ulimit -n`")
    elif facts.disk_full:
        yield _say(
            "disk_full", "disk full: nothing is fetched until there is room; what was committed is whole"
        )
    elif facts.min_free and facts.disk_free < facts.min_free:
        free, kept = size_text(facts.disk_free), size_text(facts.min_free)
        text = f"disk short: {free} free, --min-free keeps {kept}"
        yield _say("disk_short", text, "fetching waits until there is room")


def _fleet(facts: Facts) -> Iterator[Waiting]:
    if not facts.workers:
        if facts.silent:
            yield _silent(facts)
        elif facts.worker_command:
            yield _say("no_workers", "no workers", f"run `{facts.worker_command}`", between=": ")
        else:
            yield _say("no_workers", "the local workers are starting")
    elif len(facts.offline) >= facts.workers:
        yield _offline(facts)
    if facts.commit_seconds >= SLOW_COMMIT_SECONDS:
        text = f"storage is behind: a commit takes {time_text(facts.commit_seconds)}"
        yield _say("storage", text, "a faster disk for DIR helps")


def _network(facts: Facts, *, first: bool) -> Iterator[Waiting]:
    """`first`: only if it may be why little comes."""
    if facts.tries < FAILING_TRIES or not facts.failing:
        return
    share = facts.failing_tries / facts.tries
    if share < (FAILING_STILL if not facts.in_flight or not first else FAILING_MOVING):
        return
    text = f"{facts.failing}: {share:.0%} of the last {plural(facts.tries, 'fetch', 'es')} came to that"
    yield _say(
        "dns" if facts.failing == "DNS" else "failing",
        text,
        _ADVICE.get(facts.failing, ""),
        count=facts.failing_tries,
    )


# -- what limits a crawl that can fetch


def _main(facts: Facts) -> Iterator[Waiting]:
    """The one thing that limits it, and with it what is as good as that."""
    still = not facts.in_flight
    hosts = facts.hosts_ready + facts.hosts_waiting + facts.hosts_leased
    if facts.held_back and facts.held_back >= facts.queued and still:
        yield _held_back(facts)
        return
    if facts.memory_short:
        yield _memory(facts)
        return
    if facts.max_rate is not None and facts.rate >= 0.9 * facts.max_rate:
        yield _say("max_rate", f"--max-rate: at most {facts.max_rate:g} pages/s")
        return
    if facts.extract_share > BUSY:
        text = f"extractors busy: they take {facts.extract_share:.0%} of the workers' time"
        yield _say("extractors", text, "more processes or machines help", count=facts.workers)
        return
    if not hosts and not still:
        yield _say("servers", "the servers: what is in flight is all there is", count=facts.in_flight)
        return
    if not hosts:
        if facts.phase is Phase.SEEDING or facts.seeds_reading:
            yield _say("seeds", "reading seeds", count=facts.seeds_read)
        else:
            waits = facts.worker_command or facts.phase is Phase.WAITING
            yield _say(
                "nothing_queued", f"nothing queued: {'waiting for seeds' if waits else 'about to end'}"
            )
        return
    if facts.capacity and facts.in_flight >= 0.95 * facts.capacity:
        text = f"fetches in flight: {number_text(facts.in_flight)} of {number_text(facts.capacity)}"
        yield _say("servers", text, "more processes or a larger --concurrency help", count=facts.in_flight)
        return
    if facts.worker_cpu is not None and facts.worker_cpu > BUSY:
        text = f"workers busy: CPU at {facts.worker_cpu:.0%}"
        yield _say("worker_cpu", text, "more processes or machines help", count=facts.workers)
        return
    if facts.coordinator_cpu is not None and facts.coordinator_cpu > BUSY:
        yield _say("coordinator_cpu", f"coordinator busy: CPU at {facts.coordinator_cpu:.0%}")
        return
    if facts.capacity and facts.lanes_lent >= facts.capacity and facts.hosts_ready:
        text = f"all {plural(facts.capacity, 'lane')} of the workers are lent"
        yield _say("credit", text, "more processes or a larger --concurrency help", count=facts.hosts_ready)
        return
    if facts.hosts_ready > facts.hosts_leased and facts.hosts_ready > facts.workers:
        text = f"{plural(facts.hosts_ready, 'host')} ready: workers take them as they can"
        yield _say("workers", text, count=facts.hosts_ready)
        return
    if still:
        yield from _what_hosts_wait_for(facts, hosts)
        return
    if facts.addresses and sum(each.waiting for each in facts.addresses) > facts.hosts_leased:
        yield _per_ip(facts)
        return
    yield _pace(facts, hosts)


def _what_hosts_wait_for(facts: Facts, hosts: int) -> Iterator[Waiting]:
    """Nothing is lent: what most of the waiting hosts wait for comes first."""
    by_address = sum(each.waiting for each in facts.addresses)
    found: list[tuple[int, Waiting]] = []
    if facts.retrying.count:
        found.append((facts.retrying.count, _retries(facts)))
    if facts.robots.count:
        found.append((facts.robots.count, _robots(facts)))
    if facts.resting.count:
        found.append((facts.resting.count, _resting(facts)))
    if by_address:
        found.append((by_address, _per_ip(facts)))
    if facts.permits.count:
        found.append((facts.permits.count, _permits(facts)))
    polite = facts.hosts_waiting - sum(count for count, _ in found)
    if polite > 0:
        simple = facts.next_due_seconds is not None and facts.next_due_seconds <= 1.5 * facts.delay
        if simple and hosts <= FEW_HOSTS and not found:
            found.append((polite, _pace(facts, hosts)))
        else:
            found.append((polite, _politeness(facts, polite)))
    found.sort(key=lambda each: -each[0])
    yield from (each for _, each in found)
    if not found:
        # What is lent to a worker that is gone comes back when its lease has run out.
        yield _silent(facts) if facts.silent else _pace(facts, hosts)


def _asides(facts: Facts) -> Iterator[Waiting]:
    """All that holds beside what stands first."""
    if facts.silent:
        yield _silent(facts)
    if facts.offline:
        yield _offline(facts)
    yield from _network(facts, first=False)
    if facts.memory_short:
        yield _memory(facts)
    if facts.seeds_reading:
        yield _say(
            "seeds", f"{number_text(facts.seeds_read)} seeds read, and more to come", count=facts.seeds_read
        )
    if facts.robots.count:
        yield _robots(facts)
    if facts.resting.count:
        yield _resting(facts)
    if facts.retries:
        yield _retries(facts)
    if facts.addresses:
        yield _per_ip(facts)
    if facts.permits.count:
        yield _permits(facts)
    if facts.held_back:
        yield _held_back(facts)
    longest = facts.longest
    if (
        longest is not None
        and facts.rate > 0
        and longest.alone_seconds > max(60.0, 2 * facts.queued / facts.rate)
    ):
        lasts = time_text(longest.alone_seconds)
        queued, delay = number_text(longest.queued), _figure(longest.delay_seconds)
        text = f"{longest.host} alone takes {lasts}: {queued} queued × {delay} s"
        lanes = "" if longest.per_host >= 4 else "yours? --per-host 4"
        yield _say(
            "longest_queue",
            text,
            lanes,
            count=longest.queued,
            until=longest.alone_seconds,
            examples=(longest.host,),
        )


# -- one thing each


def _held_back(facts: Facts) -> Waiting:
    text = f"{facts.budget} is reached: {number_text(facts.held_back)} URLs stay queued"
    return _say("budget", text, count=facts.held_back)


def _memory(facts: Facts) -> Waiting:
    text = "workers' memory: bodies fill it, fetching waits"
    hint = "a larger --memory, or more machines"
    return _say("memory", text, hint, count=len(facts.memory_short), examples=facts.memory_short)


def _offline(facts: Facts) -> Waiting:
    count = len(facts.offline)
    text = f"{plural(count, 'worker')} without network: {_names(facts.offline, count)}"
    hint = "they look again and go on by themselves"
    return _say("workers_offline", text, hint, count=count, examples=facts.offline)


def _silent(facts: Facts) -> Waiting:
    count = len(facts.silent)
    lasts = time_text(facts.silent_seconds)
    text = f"no word from {plural(count, 'worker')} for {lasts}: {_names(facts.silent, count)}"
    return _say("workers_silent", text, "stopped, or cut off?", count=count, examples=facts.silent)


def _retries(facts: Facts) -> Waiting:
    first = facts.retrying.until
    due = "" if first is None else f", next in {time_text(first)}"
    of = f" ({_names(facts.retrying.names, len(facts.retrying.names))})" if facts.retrying.names else ""
    verb = "wait" if facts.retries != 1 else "waits"
    text = f"{plural(facts.retries, 'URL')} {verb} for a retry{due}{of}"
    return _say("retries", text, count=facts.retries, until=first, examples=facts.retrying.names)


def _robots(facts: Facts) -> Waiting:
    of = facts.robots
    why = f" ({of.why.replace('_', ' ')})" if of.why else ""
    text = f"robots.txt of {plural(of.count, 'host')} could not be read{why}{_until(of, 'asked for again')}"
    hint = (
        "" if of.why else "yours? --ignore-robots"
    )  # who is not reached is not reached without robots.txt either
    return _say("robots", text, hint, count=of.count, until=of.until, examples=of.names)


def _resting(facts: Facts) -> Waiting:
    of = facts.resting
    rests = plural(of.count, "host") + (" rests" if of.count == 1 else " rest")
    text = f"{rests} after failures{_until(of, 'tried again')}"
    return _say("backoff", text, count=of.count, until=of.until, examples=of.names)


def _per_ip(facts: Facts) -> Waiting:
    count = sum(each.waiting for each in facts.addresses)
    first = max(facts.addresses, key=lambda each: each.waiting)
    verb = "waits" if count == 1 else "wait"
    text = f"--per-ip {facts.per_ip}: {plural(count, 'host')} {verb} for others of {first.ip}"
    examples = tuple(each.ip for each in facts.addresses)
    return _say("per_ip", text, "a larger --per-ip, if the address is yours", count=count, examples=examples)


def _permits(facts: Facts) -> Waiting:
    of = facts.permits
    text = f"a robots.txt was redirected to {_names(of.names, of.count)}, which must be due first"
    return _say("permits", text, count=of.count, until=of.until, examples=of.names)


def _politeness(facts: Facts, count: int) -> Waiting:
    due = "" if facts.next_due_seconds is None else f", next due in {facts.next_due_seconds:.1f} s"
    first = f" ({facts.next_hosts[0]})" if due and facts.next_hosts and count > 1 else ""
    text = f"waiting for politeness: {plural(count, 'host')}{due}{first}"
    return _say("politeness", text, count=count, until=facts.next_due_seconds, examples=facts.next_hosts)


def _pace(facts: Facts, hosts: int) -> Waiting:
    delay, per_host = facts.delay, facts.per_host
    hosts = max(1, hosts - facts.robots.count - facts.resting.count - facts.retrying.count)
    if hosts == 1 and facts.longest is not None:
        delay, per_host = facts.longest.delay_seconds, facts.longest.per_host
    return _say(
        "politeness",
        pace(hosts, delay, per_host, asked=facts.delay),
        count=hosts,
        until=facts.next_due_seconds,
        examples=facts.next_hosts,
    )


def pace(hosts: int, delay: float, per_host: int, asked: float | None = None) -> str:
    """What so many hosts allow at most; also said at the start, before anything was fetched. `asked`: the delay that
    was asked for, which a longer one of robots.txt or of slow answers overrides."""
    lanes = hosts * per_host
    each = f" × {per_host} at once" if per_host > 1 else ""
    if delay <= 0:
        return f"{plural(hosts, 'host')}{each}: as fast as the servers answer; more processes will not help"
    overridden = asked is not None and delay > asked
    hint = f"; yours? --per-host 4{'' if overridden else ' --delay 0'}"
    hint = hint if hosts <= FEW_HOSTS and per_host < 4 else ""
    return (
        f"{plural(hosts, 'host')}{each} × {_figure(delay)} s: at most {_figure(lanes / delay)} "
        f"page{'' if lanes == delay else 's'}/s; more processes will not help{hint}"
    )


def estimate(
    *,
    left: int,
    rate: float,
    pages: int,
    growing: bool,
    max_pages: int | None = None,
    longest_queue: int = 0,
    delay: float = 0.0,
    per_host: int = 1,
) -> float | None:
    """Seconds to the end, or None where no honest figure can be had.

    `left`: queued and leased; `pages`: what --max-pages has counted and is done. `growing`: links are followed and the
    queue is not shrinking, so that only a budget tells where the end is. One host with a long queue holds the end back,
    however fast the others are; `longest_queue`, `delay` and `per_host` are that host's.
    """
    remaining = left
    if max_pages is not None:
        remaining = min(left, max_pages - pages) if not growing else max_pages - pages
    elif growing:
        return None
    if remaining <= 0:
        return 0.0
    if rate <= 0:
        return None
    return max(remaining / rate, min(longest_queue, remaining) * delay / per_host)


# -- within


def _say(
    what: str,
    text: str,
    hint: str = "",
    *,
    count: int = 0,
    until: float | None = None,
    examples: tuple[str, ...] = (),
    between: str = "; ",
) -> Waiting:
    line = f"{text}{between}{hint}" if hint else text
    kept = tuple(escaped(each) for each in examples[:5])
    return Waiting(what, escaped(line), count, None if until is None else max(0.0, until), kept, hint)


def _figure(value: float) -> str:
    """With three digits that mean something, and never as a power of ten: `0.0667`, `1,760`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _until(group: Group, verb: str) -> str:
    if group.until is None or not group.names:
        return ""
    return f", {group.names[0]} is {verb} in {time_text(group.until)}"


def _names(names: tuple[str, ...], count: int) -> str:
    told = ", ".join(names[:2])
    return told + (", ..." if count > 2 else "")
