"""The fetcher in use, and those that a new configuration put out of use while fetches were on them.

A fetcher cannot change. When the crawl's configuration does, fetches under way end with the fetcher that they began
with; it is closed when the last of them is over. Nothing is fetched twice, and nothing is broken off, because
somebody changed an option.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.fetcher import Fetcher, FetcherSettings


class Fetchers:
    """Those of one worker process."""

    def __init__(self) -> None:
        self._current: Fetcher | None = None
        self._using: Counter[Fetcher] = Counter()
        self._done: list[Fetcher] = []
        """Out of use, to be closed by whoever comes next."""

    def use_from_now(self, settings: FetcherSettings) -> bool:
        """What begins from now on is fetched so; whether that is any different."""
        if self._current is not None and self._current.settings == settings:
            return False
        self._put_in_use(Fetcher(settings))
        return True

    def renew(self) -> None:
        """The network was gone and is back: names that could not be looked up, and connections of before, are
        forgotten."""
        if self._current is not None:
            self._put_in_use(Fetcher(self._current.settings))

    def _put_in_use(self, fetcher: Fetcher) -> None:
        before, self._current = self._current, fetcher
        if before is not None and not self._using[before]:
            self._done.append(before)

    @asynccontextmanager
    async def fetcher(self) -> AsyncIterator[Fetcher]:
        """The fetcher to use, started, for one fetch. There must have been a configuration."""
        fetcher = self._current
        assert fetcher is not None
        self._using[fetcher] += 1
        try:
            await fetcher.start()  # does nothing from the second time on
            yield fetcher
        finally:
            self._using[fetcher] -= 1
            if not self._using[fetcher]:
                del self._using[fetcher]
                if fetcher is not self._current:
                    self._done.append(fetcher)
            while self._done:
                await self._done.pop().close()

    @property
    def held(self) -> int:
        """Bytes of bodies that are held."""
        fetchers = {*self._using, *([] if self._current is None else [self._current])}
        return sum(fetcher.budget.held for fetcher in fetchers)

    async def close(self) -> None:
        """Close them all; no fetch is under way any more."""
        for fetcher in (*self._done, *([] if self._current is None else [self._current])):
            await fetcher.close()
