"""Politeness: delays, lanes, refusals, addresses. How to read it: registry.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from itertools import pairwise

from tests.probes.manifest import DELAY, TOLERANCE, Log, Plan
from tests.probes.registry import HERE_TOO, POLITENESS, probe
from tests.probes.server import Answer, Request, html


def gaps(log: Log) -> list[float]:
    """Seconds from the end of each fetch to the begin of the next."""
    return [late.arrived - early.free for early, late in pairwise(log)]


def after(target: str, seconds: float) -> Callable[[Log], str | None]:
    """The fetch that follows the first one of `target` does not come before."""

    def check(log: Log) -> str | None:
        at = next(number for number, hit in enumerate(log) if hit.target == target)
        if at + 1 == len(log):
            return f"nothing came after {target}"
        gap = log[at + 1].arrived - log[at].free
        return None if gap >= seconds - TOLERANCE else f"{log[at + 1].target} came {gap:.3f} s after {target}"

    return check


@probe(
    POLITENESS,
    "per-host delay from the end of one fetch to the start of the next",
    finds="10 pages of one host, robots.txt too, never nearer than `--delay`, jitter above it",
)
def delay(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(10)]
    p.page("/", targets)
    p.pages(targets)


@probe(
    POLITENESS,
    "both changeable per host pattern",
    finds="two hosts of the pattern `slow-*.pattern.test` at 0.5 s, one outside of it at `--delay`",
)
def pattern(p: Plan) -> None:
    p.rule("delay = 0.5", host="slow-*.pattern.test")
    for name in ("slow-a", "slow-b", "quick"):
        host = f"{name}.pattern.test"
        if name != "quick":
            p.pace(0.5, host=host, rule=False)
        p.seed(host=host)
        p.page("/", ["/1", "/2", "/3"], host=host)
        p.pages(["/1", "/2", "/3"], host=host)

    def check(log: Log) -> str | None:
        quick = gaps([hit for hit in log if hit.host == "quick.pattern.test"])
        return None if min(quick) < 0.5 else "the host outside of the pattern was slowed down, too"

    p.check(check)


@probe(
    POLITENESS,
    "parallelism",
    finds="14 slow pages of a host with `per_host = 3`: some at once, never a fourth, each lane with its delay",
)
def lanes(p: Plan) -> None:
    p.pace(DELAY, 3)
    p.seed()
    targets = [f"/{number}" for number in range(14)]
    p.page("/", targets, wait=0.3)
    p.pages(targets, wait=0.3)
    p.check(lambda log: None if any(gap < 0 for gap in gaps(log)) else "no two of them were fetched at once")


@probe(
    POLITENESS,
    "adaptive: the delay never below a multiple of the host's last response times",
    finds="a host that answers after 0.5 s is left alone as long after each page, once that is known",
)
def adaptive(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(4)]
    p.page("/", targets, wait=0.5)
    p.pages(targets, wait=0.5)
    p.check(
        lambda log: (
            None
            if min(gaps(log)[2:]) >= 0.5 - TOLERANCE
            else f"gaps of {min(gaps(log)[2:]):.3f} s at a host that answers after 0.5 s"
        )
    )


@probe(
    POLITENESS,
    "`Retry-After` obeyed (seconds)",
    finds="after a 429 with `Retry-After: 3` nothing of the host for 3 s; the page in a second try",
)
def retry_after_seconds(p: Plan) -> None:
    p.seed()
    p.page("/", ["/busy", "/1", "/2", "/3"])
    p.put("/busy", Answer(429, {"Retry-After": "3"}, b"busy"), html("<title>well</title>"))
    p.find("/busy", fetches=2, attempts=2)
    p.pages(["/1", "/2", "/3"])
    p.check(after("/busy", 3.0))


@probe(
    POLITENESS,
    "`Retry-After` obeyed (date)",
    finds="after a 503 with a date 4 s ahead nothing of the host until then; the page in a second try",
)
def retry_after_date(p: Plan) -> None:
    p.seed()
    p.page("/", ["/busy", "/1", "/2", "/3"])

    def busy(request: Request) -> Answer:
        return Answer(503, {"Retry-After": formatdate(time.time() + 4.0, usegmt=True)}, b"busy")

    p.put("/busy", busy, html("<title>well</title>"))
    p.find("/busy", fetches=2, attempts=2)
    p.pages(["/1", "/2", "/3"])
    p.check(after("/busy", 3.0 - 0.05))  # a date has whole seconds


@probe(
    POLITENESS,
    "growing on 429/503 and time-outs, shrinking back slowly",
    finds="after a 429 a rest of 2 s, then gaps of a second that shrink, though `--delay` is a tenth of that",
)
def penalty(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(5)]
    p.page("/", ["/busy", *targets])
    p.put("/busy", Answer(429, {}, b"busy"), html("<title>well</title>"))
    p.find("/busy", fetches=2, attempts=2)
    p.pages(targets)
    p.check(after("/busy", 2.0))

    def check(log: Log) -> str | None:
        first = next(number for number, hit in enumerate(log) if hit.target == "/busy")
        later = gaps(log[first + 1 :])
        return None if min(later[:4]) > 0.6 else f"gaps of {min(later[:4]):.3f} s soon after a refusal"

    p.check(check)


@probe(
    POLITENESS,
    "`Crawl-delay` obeyed",
    finds="pages of a host whose robots.txt asks for 1 s, a second apart",
)
def crawl_delay(p: Plan) -> None:
    p.pace(1.0, rule=False)
    p.seed()
    p.robots("User-agent: *\nCrawl-delay: 1\n")
    p.page("/", ["/1", "/2"])
    p.pages(["/1", "/2"])


@probe(
    POLITENESS,
    "a host that keeps refusing is backed off, then set aside with its reason; its URLs are never dropped",
    finds="40 pages of a host that resets every connection: all of them HOST_UNREACHABLE, none tried twice",
)
def gives_up(p: Plan) -> None:
    p.seed()
    targets = [f"/{number}" for number in range(40)]
    # A kept connection that breaks may be a stale one: its request is made again at once. So it is not kept.
    p.page("/", targets, headers={"Connection": "close"})
    for target in targets:
        p.put(target, Answer(200, stop_after=0))
        p.find(target, "HOST_UNREACHABLE", fetches=(0, 1), reason="host")

    def check(log: Log) -> str | None:
        tried = sum(hit.target in targets for hit in log)
        return None if tried >= 10 else f"given up after {tried} tries"

    p.check(check)


@probe(
    POLITENESS,
    "an honest User-Agent that names the product and takes `--contact`",
    finds="every request of every probe names Shoal and the contact; robots.txt and sitemaps too",
)
def agent(p: Plan) -> None:
    p.seed()
    p.page("/")


def _at_once(log: Log) -> int:
    """The most of these fetches that were under way at one time, by what the servers know for sure."""
    moments = sorted([(hit.arrived, 1) for hit in log] + [(hit.free, -1) for hit in log])
    now = most = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


@probe(
    POLITENESS,
    "a cap per IP address: `--per-ip`, the address learned from the worker's first answer",
    crawl="apart",
    finds="all pages of 6 names at one address with `--per-ip 2`: after the first page of each, never three at once",
)
def per_ip(p: Plan) -> None:
    for number in range(6):
        host = f"h{number}.{p.host}"
        p.addresses[host] = (HERE_TOO,)
        p.seed(host=host)
        p.page("/", ["/1", "/2"], host=host, wait=0.3)
        p.pages(["/1", "/2"], host=host, wait=0.3)

    def check(log: Log) -> str | None:
        known = [hit for hit in log if hit.target in ("/1", "/2")]
        most = _at_once(known)
        return None if most <= 2 else f"{most} hosts of one address were fetched at once"

    p.check(check)


@probe(
    POLITENESS,
    "... loopback exempt",
    crawl="switched",
    finds="pages of 3 names on loopback at once, with `--per-ip 1`",
)
def per_ip_loopback(p: Plan) -> None:
    for number in range(3):
        host = f"h{number}.{p.host}"
        p.seed(host=host)
        p.page("/", ["/1"], host=host)
        p.page("/1", host=host, wait=1.0)
    p.check(lambda log: None if _at_once(log) > 1 else "never two at once")
