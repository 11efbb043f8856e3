"""robots.txt that leads on: the hops of each redirect, and the permits for those that lead to another host.

A hop within the visit's own host takes its lane. One to another host needs a permit (PROTOCOL rule 19): a Want goes
to the shard that owns the host, a lease without requests comes back when the host is due, and the hop is fetched
under it; then the permit is given back with its age, so that nobody hurries that host either.

A chase is FETCHING (a hop is under way, under the visit's lease or under `permit`) or WAITING for a permit of the host
that `url` is on, in which case it stands in that host's queue. A host is wanted once, however many chases wait for
it: each permit serves one of them. No I/O, no clock, no sending: `agent.py` calls.

Invariants: a chase is in a queue exactly while it waits; a permit serves one chase at a time; what is kept of the
records is bounded by RECORD_BYTES for each chase, and chases by the visits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from common.outcome import Outcome
from common.url import CanonicalURL, HostKey, host_key
from worker.owed import SEND_AGAIN_AFTER
from worker.steps import RobotsFetched

PERMIT_WAIT = 60.0
"""Seconds that a robots.txt waits for a permit; then it counts as unreachable, and is asked for again later."""

RECORD_BYTES = 1 << 20
"""WARC records kept of one chase; the hops beyond are followed, but not stored."""


@dataclass(slots=True)
class Chase:
    """One robots.txt that was redirected. `lease`: the visit that asks."""

    lease: int
    authority: str
    ip: str | None
    """Of the authority itself: the first hop's."""
    url: CanonicalURL
    hops: int = 0
    record: bytes = b""
    permit: int | None = None
    until: float | None = None
    """Until when it waits for a permit; None: it does not wait."""

    def keep(self, record: bytes) -> None:
        """Add a hop's records, while there is room."""
        if len(self.record) + len(record) <= RECORD_BYTES:
            self.record += record

    def came_to(self, last: RobotsFetched) -> RobotsFetched:
        """What the whole chase came to, given its last hop. A hop that fails is no failure of the authority's own."""
        self.keep(last.record)
        verdict, error = last.verdict, last.error
        if verdict not in ("rules", "allow"):
            error = f"redirected to {last.url}: {error or verdict}"
            verdict = Outcome.ROBOTS_UNREACHABLE.value
        return replace(last, verdict=verdict, error=error, ip=self.ip, record=self.record, split=0)

    def unreachable(self, now: float) -> RobotsFetched:
        """What it came to when no permit came."""
        return RobotsFetched(
            self.lease,
            self.authority,
            self.url,
            self.hops,
            Outcome.ROBOTS_UNREACHABLE.value,
            None,
            f"redirected to {self.url}: no permit for that host came within {PERMIT_WAIT:.0f} s",
            None,
            self.record,
            0,
            now,
            True,
            self.ip,
        )


@dataclass(slots=True)
class _Wanted:
    """A host that chases wait for; when to say so again."""

    due: float
    queue: dict[int, None] = field(default_factory=dict)


class Chases:
    """All that are under way in this process, by the lease of their visit."""

    __slots__ = ("_chases", "_permits", "_wanted")

    def __init__(self) -> None:
        self._chases: dict[int, Chase] = {}
        self._permits: dict[int, int] = {}
        self._wanted: dict[HostKey, _Wanted] = {}

    def get(self, lease: int) -> Chase | None:
        """The chase of a visit. None: its robots.txt has led nowhere else so far."""
        return self._chases.get(lease)

    def begin(self, lease: int, authority: str, ip: str | None, url: CanonicalURL) -> Chase:
        """A robots.txt leads on for the first time."""
        chase = self._chases[lease] = Chase(lease, authority, ip, url)
        return chase

    def want(self, chase: Chase, now: float) -> HostKey | None:
        """Let it wait for a permit of its URL's host: the host if that is now to be asked for, None if it was."""
        host = host_key(chase.url)
        chase.until = now + PERMIT_WAIT
        wanted = self._wanted.get(host)
        if wanted is not None:
            wanted.queue[chase.lease] = None
            return None
        self._wanted[host] = _Wanted(now + SEND_AGAIN_AFTER, {chase.lease: None})
        return host

    def serve(self, host: HostKey, permit: int) -> Chase | None:
        """A permit came: whom it is for; None: nobody waits any more. Others may still wait for the same host."""
        wanted = self._wanted.get(host)
        if wanted is None:
            return None
        chase = self._chases[next(iter(wanted.queue))]
        self._stop_waiting(chase)
        chase.permit = permit
        self._permits[permit] = chase.lease
        return chase

    def is_wanted(self, host: HostKey, due: float) -> bool:
        """Whether chases still wait for a permit of this host; it is then asked for now, and again at `due`."""
        wanted = self._wanted.get(host)
        if wanted is not None:
            wanted.due = due
        return wanted is not None

    def permit_over(self, permit: int) -> Chase | None:
        """A permit was given back or has ended: the chase that used it."""
        lease = self._permits.pop(permit, None)
        chase = None if lease is None else self._chases[lease]
        if chase is not None:
            chase.permit = None
        return chase

    def forget(self, lease: int) -> int | None:
        """The robots.txt of this visit is there, or given up. The permit that must be given back, if one is in use."""
        chase = self._chases.get(lease)
        if chase is None:
            return None
        self._stop_waiting(chase)
        permit = chase.permit
        if permit is not None:
            del self._permits[permit]
        del self._chases[lease]
        return permit

    def given_up(self, now: float) -> list[Chase]:
        """Those that waited for a permit for too long. Cost: all are looked at."""
        return [chase for chase in self._chases.values() if chase.until is not None and chase.until <= now]

    def to_ask(self, now: float) -> list[HostKey]:
        """Hosts whose Want is to be sent again now."""
        due = [host for host, wanted in self._wanted.items() if wanted.due <= now]
        for host in due:
            self._wanted[host].due = now + SEND_AGAIN_AFTER
        return due

    def ask_again(self, due: float) -> None:
        """Who answers is another one now: ask again at `due`."""
        for wanted in self._wanted.values():
            wanted.due = due

    def times(self) -> list[float]:
        """When something here is due."""
        times = [wanted.due for wanted in self._wanted.values()]
        return times + [chase.until for chase in self._chases.values() if chase.until is not None]

    def waits(self, lease: int) -> bool:
        """Whether a visit's robots.txt waits for a permit: then nothing of it is under way."""
        chase = self._chases.get(lease)
        return chase is not None and chase.until is not None

    def clear(self) -> None:
        """Nothing is asked for any more."""
        self._chases.clear()
        self._permits.clear()
        self._wanted.clear()

    def check(self) -> None:
        """Raise AssertionError unless the invariants hold."""
        queued = [lease for wanted in self._wanted.values() for lease in wanted.queue]
        assert sorted(queued) == sorted(
            lease for lease, chase in self._chases.items() if chase.until is not None
        )
        assert all(wanted.queue for wanted in self._wanted.values())
        assert self._permits == {
            chase.permit: lease for lease, chase in self._chases.items() if chase.permit is not None
        }
        assert not any(
            chase.permit is not None and chase.until is not None for chase in self._chases.values()
        )

    def _stop_waiting(self, chase: Chase) -> None:
        if chase.until is None:
            return
        chase.until = None
        host = host_key(chase.url)
        wanted = self._wanted[host]
        del wanted.queue[chase.lease]
        if not wanted.queue:
            del self._wanted[host]
