"""One hop on the way to an authority's robots.txt: fetched, judged, and told to the agent, which decides what is next.

What an answer means is worker/robots.py's, how a page would be stored worker/page.py's. A hop is asked for with the
headers of its host (`[[host]] header`), never with its cookies, and whatever `--accept` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common.config import CrawlConfig
from common.outcome import Outcome
from worker.exchange import Exchange, Failure, NotSent
from worker.fetcher import Fetcher
from worker.outgoing import host_headers
from worker.page import PageMaker
from worker.probe import may_be_our_network
from worker.robots import MAX_BYTES, Verdict, verdict
from worker.steps import RobotsFetched
from worker.visit import FetchRobots

_OF_THE_HOST = frozenset(
    {
        Outcome.PRIVATE_ADDRESS,
        Outcome.DNS,
        Outcome.TLS,
        Outcome.REFUSED,
        Outcome.PROXY,
        Outcome.UNSUPPORTED,
    }
)
"""Failures that are the outcome of the host's requests, too; anything else is tried again (contract, section 3)."""

_WORDS: Mapping[Verdict, str] = {
    Verdict.RULES: "rules",
    Verdict.UNREACHABLE: Outcome.ROBOTS_UNREACHABLE.value,
}


async def fetch_hop(
    step: FetchRobots,
    *,
    fetcher: Fetcher,
    pages: PageMaker,
    config: CrawlConfig,
    may_write: Callable[[], bool],
) -> tuple[RobotsFetched, Exchange | Failure | NotSent]:
    """Fetch the hop now: what the agent is told, and what came. Raises nothing for what a server does."""
    came = await fetcher.fetch(
        step.url, may_write=may_write, headers=host_headers(config, step.url), max_bytes=MAX_BYTES
    )
    return _told(step, came, pages), came


def _told(step: FetchRobots, came: Exchange | Failure | NotSent, pages: PageMaker) -> RobotsFetched:
    if isinstance(came, NotSent):
        return _event(step, "", came.ended, error=came.error, sent=False)
    if isinstance(came, Failure):
        host = came.outcome in _OF_THE_HOST
        word = came.outcome.value if host else Outcome.ROBOTS_UNREACHABLE.value
        network = may_be_our_network(came)
        return _event(
            step, word, came.ended, error=came.error, ip=came.ip, network=network, reason=came.reason
        )
    means = verdict(came.status, step.hops)
    target = pages.leads.redirect_target(step.url, came) if means is Verdict.FOLLOW else None
    done = RobotsFetched(
        step.lease,
        step.authority,
        step.url,
        step.hops,
        # A redirect to nothing that can be fetched is a robots.txt that is not there.
        "follow" if target is not None else _WORDS.get(means, "allow"),
        came.status,
        f"robots.txt answered {came.status}" if means is Verdict.UNREACHABLE else None,
        pages.plain_body(came, MAX_BYTES) if means is Verdict.RULES else None,
        b"".join(pages.records(step.url, came)),
        0,
        came.ended,
        True,
        came.ip,
        target,
        retry_after=pages.retry_after(came),
    )
    came.release()
    return done


def _event(
    step: FetchRobots,
    word: str,
    ended: float,
    *,
    error: str,
    sent: bool = True,
    ip: str | None = None,
    network: bool = False,
    reason: str | None = None,
) -> RobotsFetched:
    """Of a fetch without a response."""
    return RobotsFetched(
        step.lease,
        step.authority,
        step.url,
        step.hops,
        word,
        None,
        error,
        None,
        b"",
        0,
        ended,
        sent,
        ip,
        None,
        network,
        reason,
    )
