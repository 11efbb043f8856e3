"""The scope: which URLs belong to the crawl. The same rules in the coordinator, which decides, and in the
worker.

A seed gives the scope an entry, its *site*, a short text by the kind of the scope:

    host     the host key without a leading `www.`           example.org
    domain   the registrable domain, by the public suffix    example.org, alice.github.io
             list with its private part; an address, a
             single label, a public suffix are their own
    prefix   that of host and the directory of the path      example.org/docs/
    any      none: everything belongs

A URL is in scope if its own site is an entry (`prefix`: if the site of one of its directories is), one of
`allow` is found in it where there are any, and none of `deny` is. Scheme and port never matter.

A `Scope` does not change; `with_seed` makes the next one, its version one higher. The entries stand behind
`Sites`, because seeds may be a million: the coordinator keeps them in its store, a worker gets them as a set
while they are few, and none at all beyond that: then it filters by `allow` and `deny` alone and the
coordinator, which asks again in any case, decides. Depth, budgets and traps are not here. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final, Protocol, Self

from publicsuffixlist import PublicSuffixList

from common.errors import ProtocolError, UsageError
from common.url import CanonicalURL, HostKey, Link, host_key

KINDS: Final = ("host", "domain", "prefix", "any")

WIRE_SITES = 10_000
"""Up to so many entries travel to the workers: about 200 KB in each worker process and once per
connection."""

WIRE_CHARACTERS = 2 << 20
"""And up to so many characters of them, half of what a message may hold: prefixes may be long."""

_HOSTS_REMEMBERED = (
    16384  # verdicts of hosts, about 2.5 MB; then all are forgotten: a miss costs a microsecond or five
)

Search = Callable[[str], re.Match[str] | None]


class Sites(Protocol):
    """The entries of a scope: a set in memory (`HeldSites`), or the coordinator's store."""

    def __contains__(self, site: object, /) -> bool:
        """Whether `site` is an entry. Asked once per host and version, for `prefix` once per directory of a
        URL."""
        ...

    def listed(self, most: int, characters: int) -> list[str] | None:
        """All entries, or None if there are more than `most`, or more `characters` in them."""
        ...

    def adding(self, site: str) -> Sites:
        """These and `site`; may be the same object, changed."""
        ...


class HeldSites(frozenset[str]):
    """Entries held in memory: the worker's, and any scope's that is small."""

    def listed(self, most: int, characters: int) -> list[str] | None:
        """See Sites; in order, so that equal scopes are equal bytes."""
        if len(self) > most or sum(map(len, self)) > characters:
            return None
        return sorted(self)

    def adding(self, site: str) -> HeldSites:
        """See Sites. Copies: for a site now and then, not for a million of them."""
        return HeldSites(self | {site})


class Scope:
    """What belongs to the crawl, at one version. Treat it as frozen: only its memory of verdicts changes."""

    __slots__ = (
        "_allow_search",
        "_deny_search",
        "_filters_by_site",
        "_verdicts",
        "allow",
        "deny",
        "kind",
        "sites",
        "version",
    )

    def __init__(
        self,
        kind: str,
        sites: Sites | None,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        version: int = 1,
    ) -> None:
        """`sites` None: not known here, do not filter by them. UsageError for a kind or a pattern that is
        none."""
        if kind not in KINDS:
            raise UsageError(f"--scope {kind}: there are {', '.join(KINDS)}")
        self.kind: Final = kind
        self.sites: Final = sites
        self.allow: Final = tuple(allow)
        self.deny: Final = tuple(deny)
        self.version: Final = version
        self._allow_search = [_compiled("--allow", pattern) for pattern in self.allow]
        self._deny_search = [_compiled("--deny", pattern) for pattern in self.deny]
        self._filters_by_site = kind != "any" and sites is not None
        self._verdicts: dict[str, bool] = {}

    def refusal(self, url: CanonicalURL) -> str | None:
        """None if `url` is in scope, else the rule that refuses it: `scope`, `allow` or `deny`, the first in
        this order. 0.3 us for a host asked before, and what the patterns cost."""
        if self._filters_by_site:
            if self.kind == "prefix":
                if not self._under_a_prefix(url):
                    return "scope"
            else:
                place = url.split("/", 3)[2]
                verdict = self._verdicts.get(place)
                if verdict is None:
                    verdict = self._judge(place, url)
                if not verdict:
                    return "scope"
        if self._allow_search and not any(search(url) for search in self._allow_search):
            return "allow"
        if self._deny_search and any(search(url) for search in self._deny_search):
            return "deny"
        return None

    def select(self, links: Iterable[Link], refused: dict[str, int]) -> list[Link]:
        """The links in scope, in order; the others are counted in `refused` by rule. A page's worth at a
        time."""
        if not self._filters_by_site and not self._allow_search and not self._deny_search:
            return list(links)
        selected = []
        refusal = self.refusal
        for link in links:
            rule = refusal(link[0])
            if rule is None:
                selected.append(link)
            else:
                refused[rule] = refused.get(rule, 0) + 1
        return selected

    def with_seed(self, url: CanonicalURL) -> Self:
        """This scope and the site of `url`; the same object if that brings nothing new."""
        site = site_of(self.kind, url)
        if site is None or self.sites is None or site in self.sites:
            return self
        return self.with_sites(self.sites.adding(site))

    def with_sites(self, sites: Sites | None) -> Self:
        """This scope with other entries, its version one higher. To be called as well, with the same `sites`,
        when entries came into a store behind its back: verdicts are remembered per version."""
        return type(self)(self.kind, sites, allow=self.allow, deny=self.deny, version=self.version + 1)

    def to_wire(self) -> dict[str, object]:
        """For msgpack; entries beyond WIRE_SITES or WIRE_CHARACTERS are left out, and the worker does not
        filter by them."""
        sites = (
            None
            if self.sites is None or self.kind == "any"
            else self.sites.listed(WIRE_SITES, WIRE_CHARACTERS)
        )
        return {
            "version": self.version,
            "kind": self.kind,
            "sites": sites,
            "allow": list(self.allow),
            "deny": list(self.deny),
        }

    @classmethod
    def from_wire(cls, wire: object) -> Self:
        """The scope that `to_wire` of the other side gave. ProtocolError for anything else."""
        if not isinstance(wire, Mapping) or set(wire) != {"version", "kind", "sites", "allow", "deny"}:
            raise ProtocolError("scope: not a map of version, kind, sites, allow, deny")
        version, kind, sites = wire["version"], wire["kind"], wire["sites"]
        if type(version) is not int or version < 0 or not isinstance(kind, str):
            raise ProtocolError(f"scope: version {version!r}, kind {kind!r}")
        held = None if sites is None else HeldSites(_texts("sites", sites))
        try:
            return cls(
                kind,
                held,
                allow=_texts("allow", wire["allow"]),
                deny=_texts("deny", wire["deny"]),
                version=version,
            )
        except UsageError as wrong:
            raise ProtocolError(f"scope: {wrong}") from None

    def __repr__(self) -> str:
        count = (
            len(self.sites)
            if isinstance(self.sites, HeldSites)
            else "unlisted"
            if self.sites is not None
            else "unknown"
        )
        return f"<Scope {self.kind} v{self.version}, sites: {count}, allow: {self.allow}, deny: {self.deny}>"

    def _judge(self, place: str, url: CanonicalURL) -> bool:
        if len(self._verdicts) >= _HOSTS_REMEMBERED:
            self._verdicts.clear()
        site = site_of(self.kind, url)
        verdict = self._verdicts[place] = self.sites is None or site in self.sites
        return verdict

    def _under_a_prefix(self, url: CanonicalURL) -> bool:
        """Asks for every directory above the URL, deepest last: exact however many entries there are."""
        assert self.sites is not None
        host, path = _host_site(host_key(url)), _path(url)
        end = 0
        while end >= 0:
            if host + path[: end + 1] in self.sites:
                return True
            end = path.find("/", end + 1)
        return False


def site_of(kind: str, url: CanonicalURL) -> str | None:
    """The entry that `url` as a seed gives a scope of `kind`; None for `any`."""
    if kind == "host":
        return _host_site(host_key(url))
    if kind == "domain":
        return registrable_domain(host_key(url))
    if kind == "prefix":
        path = _path(url)
        return _host_site(host_key(url)) + path[: path.rindex("/") + 1]
    return None


def registrable_domain(key: HostKey) -> str:
    """One label more than the public suffix (publicsuffix.org, its private part included: alice.github.io is
    apart from bob.github.io). Addresses, single labels and public suffixes themselves are returned as they
    are. 5 us."""
    if key[-1] == "]" or key.rpartition(".")[2].isdecimal():
        return key  # an IP address: the only canonical hosts that end in a number
    return suffixes().privatesuffix(key) or key


@cache
def suffixes() -> PublicSuffixList:
    """The public suffix list that came with the installation. Reading it takes 60 ms: once, and only if
    needed."""
    return PublicSuffixList()


def _host_site(key: HostKey) -> str:
    """Apex and `www.` are one; but www.com is a site of its own, not all that is called com."""
    return key[4:] if key.startswith("www.") and "." in key[4:] else key


def _path(url: CanonicalURL) -> str:
    return url[url.index("/", 8) :].partition("?")[0]


def _compiled(option: str, pattern: str) -> Search:
    try:
        return re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as wrong:
        raise UsageError(
            f"{option} {pattern!r}: no regular expression ({wrong}); `\\.` is a dot, `\\?` a question mark"
        ) from None


def _texts(name: str, wire: object) -> list[str]:
    if not isinstance(wire, (list, tuple)) or not all(isinstance(text, str) for text in wire):
        raise ProtocolError(f"scope: {name} is no list of texts")
    return list(wire)
