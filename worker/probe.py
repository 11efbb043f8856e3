"""Whether this machine's own network works: asked when every host seems to fail at once.

    a fetch fails in a way that our own network could have caused (`may_be_our_network`)
      -> the agent, when all hosts do: Probe -> NetworkProbe.works() -> Probed

It works if a name server answers, be it that there is no such name, or if a connection to one of the last addresses
that answered opens. With nothing to ask it counts as working: then the fault stays with the hosts. No probe takes
longer than PROBE_SECONDS; nothing is sent over the connections, so no site is bothered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from urllib.parse import urlsplit

from common.outcome import Outcome
from common.url import CanonicalURL, host_key
from worker.exchange import Failure
from worker.resolver import LookupFailed, Resolver, ResolverSettings

PROBE_SECONDS = 5.0
"""For all questions together, which are asked at once."""

ADDRESSES_KEPT = 3
"""The last addresses that answered; one that is down must not be all there is to ask."""

_NO_ANSWER = frozenset({"dns_timeout", "dns_unreachable", "dns_refused", "servfail", "dns_error"})
"""Also what a resolver on this machine says when it reaches no other: SERVFAIL or REFUSED."""


def may_be_our_network(failure: Failure) -> bool:
    """Whether a failed fetch could mean that this machine's network is down: no name server answered, no packet
    came back while connecting, or the kernel knows no way. One host alone may fail like this, too."""
    match failure.outcome:
        case Outcome.DNS:
            return failure.reason in _NO_ANSWER
        case Outcome.TIMEOUT:
            return failure.reason == "connect_timeout"
        case Outcome.REFUSED:
            return failure.reason == "host_unreachable"
    return False


class NetworkProbe:
    """What of the past is worth asking again, and the asking."""

    def __init__(self, resolver: ResolverSettings | None = None) -> None:
        """`resolver`: how names are asked for; None: by the system's name servers."""
        self._settings = resolver or ResolverSettings(timeout=2.0, tries=2, overall=PROBE_SECONDS)
        self.known_names: frozenset[str] = frozenset()
        """Those of --hosts-file, which no name server is asked for."""
        self._addresses: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._name: str | None = None
        self._answered = False
        """Whether `_name` is one that worked before."""

    def answered(self, url: str, ip: str | None) -> None:
        """A host gave an answer. `ip` None: behind a proxy."""
        if ip is None:
            return
        name = self._asked_of_dns(url)
        if name is not None:
            self._name, self._answered = name, True
        place = (ip, urlsplit(url).port or (443 if url.startswith("https:") else 80))
        self._addresses[place] = None
        self._addresses.move_to_end(place)
        if len(self._addresses) > ADDRESSES_KEPT:
            self._addresses.popitem(last=False)

    def failed(self, url: str) -> None:
        """A host gave none: its name will do if no other is known."""
        if not self._answered:
            self._name = self._asked_of_dns(url) or self._name

    async def works(self) -> bool:
        """Ask all at once; True as soon as one answers."""
        questions: list[Awaitable[bool]] = [_connects(*place) for place in self._addresses]
        if self._name is not None:
            questions.append(self._dns_answers(self._name))
        if not questions:
            return True
        asked = [asyncio.ensure_future(question) for question in questions]
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                for first in asyncio.as_completed(asked):
                    if await first:
                        return True
        except TimeoutError:
            pass
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        return False

    def _asked_of_dns(self, url: str) -> str | None:
        """The name in an address, if a name server is asked for it."""
        name = host_key(CanonicalURL(url))
        if name in self.known_names or name == "localhost" or name.endswith(".localhost"):
            return None
        return None if name.startswith("[") or name.replace(".", "").isdigit() else name

    async def _dns_answers(self, name: str) -> bool:
        # One of its own: that of the fetcher remembers.
        resolver = Resolver(self._settings)
        try:
            await resolver.addresses(name)
        except LookupFailed as failed:
            return failed.reason not in _NO_ANSWER
        finally:
            await resolver.close()
        return True


async def _connects(ip: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(ip, port)
    except ConnectionRefusedError:
        return True  # a host that says no is one that was reached
    except OSError:
        return False
    writer.close()
    return True
