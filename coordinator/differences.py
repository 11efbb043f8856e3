"""What differs between two configurations of one crawl, and what may not.

Told when a DIR is continued and when a crawl is changed while it runs (`coordinator/changing.py`).
"""

from __future__ import annotations

from common.config import OPTIONS, CrawlConfig
from common.configtext import shown
from common.hostrules import RULE_OPTIONS
from common.masking import masked
from common.tuning import TUNING


def differences(old: CrawlConfig, new: CrawlConfig) -> list[str]:
    """What differs, as `name: old → new`, rules for hosts too; secrets masked."""
    told = [
        f"{name}: {shown(name, old)} → {shown(name, new)}"
        for name, of in OPTIONS.items()
        if of.kept and getattr(old, name) != getattr(new, name)
    ]
    before, after = _by_match(old), _by_match(new)
    for match in dict.fromkeys((*before, *after)):
        for name, kind in RULE_OPTIONS.items():
            was, now = before.get(match, {}).get(name), after.get(match, {}).get(name)
            if was != now:
                values = [
                    "not set" if value is None else kind.to_toml(masked(name, value)) for value in (was, now)
                ]
                told.append(f"{match}: {name}: {values[0]} → {values[1]}")
    return told


def changes_refused(old: CrawlConfig, new: CrawlConfig) -> list[str]:
    """One line for each option that differs but may not when a DIR is continued; empty: go on.

    Rates, limits, processes and time-outs may differ, and so may the scope, for URLs found from then on. What
    is part of a request's identity, or of where its rows lie, may not.
    """
    refused = []
    for described_as, before, after in (
        *((named, old, new) for named in OPTIONS.items()),
        *((named, old.tuning, new.tuning) for named in TUNING.items()),
    ):
        name, of = described_as
        if of.fixed and getattr(before, name) != getattr(after, name):
            was, now = of.to_toml(getattr(before, name)), of.to_toml(getattr(after, name))
            refused.append(
                f"{name} was {was} and cannot become {now} in a crawl that has begun: choose another --out"
            )
    return refused


def _by_match(config: CrawlConfig) -> dict[str, dict[str, object]]:
    """What each pattern's rules say together."""
    said: dict[str, dict[str, object]] = {}
    for rule in config.host:
        values = {name: value for name in RULE_OPTIONS if (value := getattr(rule, name)) is not None}
        said.setdefault(rule.match, {}).update(values)
    return said
