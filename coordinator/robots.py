"""Robots: what is known of the robots.txt of each authority, and what an answer to it comes to (rule 19).

One row an authority, for all workers. Its verdict is one of GOOD (its pages may be fetched, by its rules or without
any), "retry" (it did not come, and is asked for again), or the outcome with which its requests end. Decided here: which
of them follows from an answer, how long it may be used, and when it is asked for again.

It does not say what a text allows (worker/robots.py), nor what is lent by it (lending.py), nor whether a message counts
(results.py). No I/O, no clock.

Read next: policy.py (the waits), store/rows.py (RobotsRow).
"""

from __future__ import annotations

from common import messages as m
from common.messages import Flag, LeaseId, lease_epoch
from common.outcome import OUTCOMES, Outcome, State
from common.url import CanonicalURL, authority
from coordinator import policy
from coordinator.hostqueue import Host
from coordinator.leases import OpenLease
from coordinator.state import ShardState
from coordinator.store.rows import RobotsRow, pack, robots_row, unpack

GOOD = ("rules", "allow")
"""Verdicts of a robots.txt by which pages of its authority may be fetched."""

VERDICTS = frozenset((*GOOD, *(outcome for outcome in OUTCOMES if outcome.state is not State.FETCHED)))
"""What a worker may say of a robots.txt."""

AUTHORITIES_KEPT = 64
"""Of a host, those that its crawl delay is taken from."""


def known_robots(state: ShardState, host: Host, place: str) -> RobotsRow | None:
    """What is known of the robots.txt of `place`, an authority of the host; None: nobody has asked yet."""
    packed = state.rows.get(robots_row(host.slot, place))
    return None if packed is None else RobotsRow(*unpack(packed))


def still_good(row: RobotsRow, wall: float, epoch: int) -> bool:
    """Whether what is known of a robots.txt may be used: for a day, and longer while its server fails.

    That there is none to be had is believed no longer than this coordinator runs: a person who starts it again may
    have mended what was wrong, or allowed it.
    """
    if (
        row.verdict not in GOOD
        and row.verdict != Outcome.POISON.value
        and lease_epoch(LeaseId(row.lease)) != epoch
    ):
        return False
    return wall - row.fetched_wall <= policy.ROBOTS_LIFETIME or wall < row.again_wall


def robots_answered(
    state: ShardState, host: Host, lease: OpenLease, robots: m.Robots, now: float, wall: float
) -> RobotsRow | None:
    """Keep what an answer comes to: the row from now on. None: a duplicate, which changes nothing (rule 11)."""
    before = known_robots(state, host, robots.authority)
    if before is not None and before.lease == lease.id:
        return None  # counted before a restart that forgot what was answered
    row = _row_after(state, lease, robots, before, wall)
    if robots.status in policy.BUSY and robots.retry_after is not None:
        host.rest_until = max(host.rest_until, now + min(robots.retry_after, policy.MAX_RETRY_DELAY))
    _keep(state, host, robots.authority, row)
    if row.verdict in GOOD:
        host.crawl_delay = max(_crawl_delay(state, host, place) for place in host.authorities)
    state.frontier.touch(host)
    return row


def robots_killed(state: ShardState, host: Host, lease: OpenLease, wall: float) -> None:
    """A process died while it was reading a robots.txt (rule 24): asked for again, given up at the third.

    It was that of the first authority that the lease had no rules for.
    """
    for request in lease.undone():
        place = authority(CanonicalURL(request.url))
        before = known_robots(state, host, place)
        if before is not None and before.verdict != "retry" and still_good(before, wall, state.epoch):
            continue
        deaths = 1 if before is None else before.tries + 1
        verdict = "retry" if deaths < policy.POISON_DEATHS else Outcome.POISON.value
        version = 1 if before is None else before.version + 1
        _keep(state, host, place, RobotsRow(version, verdict, None, wall, None, deaths, lease.id))
        state.frontier.touch(host)
        state.note("robots.suspect", level="warning", authority=place, deaths=deaths)
        return


def forgive_robots(state: ShardState, host: Host, place: str) -> None:
    """A robots.txt that did not come is asked for again."""
    row = known_robots(state, host, place)
    if row is not None and row.verdict not in GOOD:
        again = row._replace(verdict="retry", tries=0, again_wall=0.0)
        state.rows.put(robots_row(host.slot, place), pack(again))


def _row_after(
    state: ShardState, lease: OpenLease, robots: m.Robots, before: RobotsRow | None, wall: float
) -> RobotsRow:
    """What is known of a robots.txt after an answer."""
    version = 1 if before is None else before.version + 1
    if robots.verdict in GOOD:
        text = robots.text if robots.verdict == "rules" else None
        return RobotsRow(version, robots.verdict, text, wall, robots.crawl_delay, 0, lease.id)
    tries = (before.tries if before is not None else 0) + 1
    wait = policy.robots_wait(robots.verdict, tries, state.config.retries, robots.retry_after)
    answered = robots.verdict == Outcome.ROBOTS_UNREACHABLE and robots.status is not None
    if before is not None and before.verdict in GOOD and wall - before.fetched_wall <= policy.ROBOTS_STALE:
        # Its server fails: the copy that there is serves on, and is asked for again later.
        return before._replace(
            tries=tries, lease=lease.id, again_wall=wall + (wait or policy.ROBOTS_WAITS[-1])
        )
    asking = [each for each in lease.undone() if authority(CanonicalURL(each.url)) == robots.authority]
    bare = bool(asking) and all(each.flags & Flag.BARE for each in asking)
    if bare and robots.verdict in policy.NO_HTTPS and not answered:
        wait = None  # so that their http address is tried next, not after a minute or an hour
    # Its requests wait until then; those of other authorities of the host go on.
    verdict, again = (robots.verdict, 0.0) if wait is None else ("retry", wall + wait)
    return RobotsRow(
        version,
        verdict,
        None,
        wall,
        robots.crawl_delay,
        tries,
        lease.id,
        again,
        reason=robots.reason,
        error=robots.error,
    )


def _keep(state: ShardState, host: Host, place: str, row: RobotsRow) -> None:
    state.rows.put(robots_row(host.slot, place), pack(row))
    if place not in host.authorities:
        host.authorities = (*host.authorities, place)[-AUTHORITIES_KEPT:]


def _crawl_delay(state: ShardState, host: Host, place: str) -> float:
    """What robots.txt of one of the host's authorities asks for; the host obeys the longest of them."""
    row = known_robots(state, host, place)
    return 0.0 if row is None else row.crawl_delay or 0.0
