"""Parsed robots.txt by authority and version, so that a shard need not send the same text with each lease (rule 19).

It may forget; then the text is fetched, not guessed. Also here: which of the sitemaps that rules name are to be read.
Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from common.config import CrawlConfig
from common.errors import BadURL
from common.messages import RobotsRules
from common.outcome import Outcome
from common.url import canonical
from worker.robots import NO_RULES, Rules, parse
from worker.visit import verdict_of

ROBOTS_KEPT = 4096
"""Parsed robots.txt kept for each shard, by authority; as many as the shard believes."""

MAX_SITEMAPS = 1000
"""Sitemaps of one robots.txt that are told; as many as a Robots takes."""


class Rulebook:
    """The rules that this process was sent."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Rules]] = OrderedDict()

    def verdicts(self, known: Iterable[RobotsRules], token: str, shards: int) -> dict[str, Rules | Outcome]:
        """What a lease's rules say, by authority; those whose text is neither here nor kept are left out."""
        verdicts: dict[str, Rules | Outcome] = {}
        for each in known:
            rules: Rules | None = NO_RULES if each.verdict == "allow" else None
            if rules is None and each.body is not None:
                rules = parse(each.body, token)
                self._kept[each.authority] = (each.version, rules)
                if len(self._kept) > ROBOTS_KEPT * shards:
                    self._kept.popitem(last=False)
            elif rules is None:
                version, rules = self._kept.get(each.authority, (None, None))
                rules = rules if version == each.version else None
            if each.authority in self._kept:
                self._kept.move_to_end(each.authority)
            verdict = verdict_of(each.verdict, rules)
            if verdict is not None:
                verdicts[each.authority] = verdict
        return verdicts

    def clear(self) -> None:
        """Forget all: another crawl, or another product token."""
        self._kept.clear()


def sitemaps(place: str, rules: Rules, config: CrawlConfig) -> tuple[str, ...]:
    """The sitemaps that the robots.txt of an authority names, canonical, of those that are to be read."""
    if not config.sitemaps or config.no_follow:
        return ()
    found: dict[str, None] = {}
    for text in rules.sitemaps:
        try:
            found[canonical(text, f"{place}/", max_length=config.max_url_length)] = None
        except BadURL:
            continue
        if len(found) >= MAX_SITEMAPS:
            break
    return tuple(found)
