"""At most so many hosts of one IP address are fetched at once by this process (`--per-ip`).

The coordinator keeps the cap over the whole crawl once it knows an address. This gate bounds the first contact,
when thousands of names of one shared host have been lent before anybody knows that they are one machine.

It counts hosts, not fetches: a host that is in may have several fetches. Those that wait go in by the order in
which they came; one of a host that is in waits as well while others do, so that no host keeps its place for ever.
It makes no connection and knows no time: who waits here has asked nobody for anything yet, and may be cancelled.
How many wait is bounded by what is leased.

Invariants:
  1. No address has more than `cap` hosts in, but for those that `move` brought: they are connected already.
  2. Somebody waits for an address only while `cap` hosts are in there.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque


class Place:
    """A fetch that is in: its host, and the address that counts it."""

    __slots__ = ("address", "host")

    def __init__(self, address: str, host: str) -> None:
        self.address = address
        self.host = host


class _Door:
    __slots__ = ("fetches", "waiting")

    def __init__(self) -> None:
        self.fetches: dict[str, int] = {}  # by host
        self.waiting: deque[tuple[Place, asyncio.Future[None]]] = deque()


class AddressGate:
    """The gate of one event loop. About 1 µs for a fetch that need not wait."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._doors: dict[str, _Door] = {}
        self.waiting = 0
        """Fetches that wait now."""

    def enter_now(self, address: str, host: str) -> Place | None:
        """A place for a fetch of `host` at `address`, if it need not wait for one."""
        door = self._doors.get(address)
        if door is None:
            door = self._doors[address] = _Door()
        if not door.waiting and (host in door.fetches or len(door.fetches) < self._cap):
            door.fetches[host] = door.fetches.get(host, 0) + 1
            return Place(address, host)
        return None

    async def enter(self, address: str, host: str) -> Place:
        """Wait until a fetch of `host` at `address` may begin. Raises OSError when the gate is closed meanwhile."""
        now = self.enter_now(address, host)
        if now is not None:
            return now
        place, door = Place(address, host), self._doors[address]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        door.waiting.append((place, future))
        self.waiting += 1
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave(place)  # it had been let in already
            else:
                self._let_in(address, door)
            raise
        finally:
            self.waiting -= 1
        return place

    def leave(self, place: Place) -> None:
        """The fetch is over."""
        door = self._doors[place.address]
        left = door.fetches[place.host] - 1
        if left:
            door.fetches[place.host] = left
        else:
            del door.fetches[place.host]
        self._let_in(place.address, door)

    def move(self, place: Place, address: str) -> None:
        """It turned out that another address was connected to: that one counts the host from now on."""
        self.leave(place)
        door = self._doors.get(address)
        if door is None:
            door = self._doors[address] = _Door()
        door.fetches[place.host] = door.fetches.get(place.host, 0) + 1
        place.address = address

    def close(self) -> None:
        """Those that wait get an OSError."""
        for door in self._doors.values():
            for _, future in door.waiting:
                if not future.done():
                    future.set_exception(OSError(errno.ECONNABORTED, "the fetcher was closed"))
            door.waiting.clear()

    def check(self) -> None:
        """The invariants, for tests that move nothing."""
        for address, door in self._doors.items():
            waiting = [place for place, future in door.waiting if not future.done()]
            assert len(door.fetches) <= self._cap, address
            assert not waiting or len(door.fetches) == self._cap, address
            assert all(count > 0 for count in door.fetches.values())

    def _let_in(self, address: str, door: _Door) -> None:
        waiting = door.waiting
        while waiting:
            place, future = waiting[0]
            if not future.done():
                if place.host not in door.fetches and len(door.fetches) >= self._cap:
                    return
                door.fetches[place.host] = door.fetches.get(place.host, 0) + 1
                future.set_result(None)
            waiting.popleft()
        if not door.fetches and self._doors.get(address) is door:
            del self._doors[address]
