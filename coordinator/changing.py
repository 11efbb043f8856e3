"""Changing the configuration of a crawl that has begun: `coord set` and `coord block`, as one pure step.

What a person typed and the configuration in force go in, another configuration comes out, or one line that says what
is wrong. Nothing is applied or written here: app.py does that for a crawl that runs, the command itself for one that
is stopped.

A `[[host]]` rule says most when it stands last. So what is set for a pattern goes into the last rule if that has this
pattern, else into a new one at the end, and rules before it with the same pattern say it no more. That changes what
holds for no other host, and there are never more rules than patterns with something to say.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import OPTIONS, CrawlConfig
from common.configfile import checked, read_extractor, read_hosts
from common.configwire import config_to_wire
from common.errors import BadURL, UsageError
from common.hostrules import RULE_OPTIONS, HostRule, host_named
from common.masking import MASK, masked
from common.nearest import hint
from common.url import canonical, host_key
from common.wire import pack
from coordinator.differences import changes_refused

RESTART = {
    "scope": "the kind of the scope cannot change while the crawl runs",
    "extract": "the extractor cannot change while the crawl runs",
}
"""Options that hold for a whole run, with what to tell people."""

RULES_KEPT = 10_000
"""Rules for hosts that a configuration may have: each is matched for a host that is met."""

RULES_TOLD = 200
"""Rules for hosts that are told when somebody asks what is in force; crawl.toml has all."""

WIRE_BYTES = 2_000_000
"""Of a configuration as workers get it; a message holds 2 MiB of it."""


def settings_of(given: Iterable[str]) -> dict[str, list[str]]:
    """`KEY=VALUE` arguments by key; one that comes again gives a list another value. UsageError for what is none."""
    settings: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{text!r}: expected KEY=VALUE, such as delay=2")
        settings.setdefault(_name_of(key), []).append(value)
    return settings


def with_options(config: CrawlConfig, settings: Mapping[str, object], *, running: bool) -> CrawlConfig:
    """`config` with other options. `running`: refuse what only a start can change. Raises UsageError."""
    values: dict[str, Any] = {}
    for key, raw in settings.items():
        name = _name_of(key)
        of = OPTIONS.get(name)
        if of is None:
            raise UsageError(f"no option is called {key!r}{hint(name, OPTIONS)}")
        if not of.kept or of.flags == "":
            raise UsageError(f"{name} is no option of the crawl itself: give it at the start")
        value = values[name] = _parsed(name, of.parse, _single(raw, many=of.kind.many))
        if running and name in RESTART and value != getattr(config, name):
            raise UsageError(f"{name}: {RESTART[name]}: stop it, and start it again with --{name} {value}")
        if name == "hosts_file":
            path = None if value is None else Path(str(value)).expanduser().absolute()
            values[name] = None if path is None else str(path)
            values["hosts"] = () if path is None else read_hosts(path, name)
        if name == "extract":
            values |= {"code": None} if value is None else {"code": None} | read_extractor(str(value), name)
        if not running:
            _refuse_secret(name, value)
    after = checked(replace(config, **values))
    if refused := changes_refused(config, after):
        raise UsageError(refused[0])
    return after


def with_rule(
    config: CrawlConfig, host: str, settings: Mapping[str, object], *, running: bool
) -> CrawlConfig:
    """`config` with other options for the hosts that a pattern matches; `none` takes one back. Raises UsageError."""
    match = pattern_of(host)
    values: dict[str, Any] = {}
    for key, raw in settings.items():
        name = _name_of(key)
        kind = RULE_OPTIONS.get(name)
        if kind is None:
            if name in OPTIONS:
                raise UsageError(f"{name} is no option of single hosts; those are {', '.join(RULE_OPTIONS)}")
            raise UsageError(f"no option of hosts is called {key!r}{hint(name, RULE_OPTIONS)}")
        value = _single(raw, many=kind.many)
        if isinstance(value, str) and value.strip().lower() == "none" and name != "proxy":
            values[name] = None
            continue
        values[name] = _parsed(name, kind.parse, value)
        if not running:
            _refuse_secret(name, values[name])
    last = config.host[-1] if config.host and config.host[-1].match == match else None
    before = config.host if last is None else config.host[:-1]
    unsaid: dict[str, Any] = dict.fromkeys(values)
    kept = [replace(rule, **unsaid) if rule.match == match else rule for rule in before]
    kept.append(replace(last or HostRule(match), **values))
    rules = tuple(rule for rule in kept if _says(rule))
    if len(rules) > RULES_KEPT:
        raise UsageError(f"{len(rules):,} rules for hosts; {RULES_KEPT:,} is the most")
    return replace(config, host=rules)


def with_blocked(config: CrawlConfig, hosts: Sequence[str], *, undo: bool) -> CrawlConfig:
    """`config` in which nothing of these hosts is fetched, or, to `undo` that, again. Raises UsageError."""
    for text in hosts:
        match = pattern_of(text)
        if not undo:
            config = with_rule(config, text, {"blocked": True}, running=True)
            continue
        told = any(rule.match == match and rule.blocked for rule in config.host)
        config = with_rule(config, text, {"blocked": "none"}, running=True) if told else config
        name = host_named(match)
        if name is not None and config.for_host(name).blocked:
            config = with_rule(config, text, {"blocked": False}, running=True)  # a wider pattern holds it
        elif not told:
            raise UsageError(f"{text} is not blocked{_blocked_ones(config)}")
    return config


def fitting(config: CrawlConfig) -> CrawlConfig:
    """The same configuration, if it fits into the message that takes it to the workers; else UsageError."""
    size = len(pack(config_to_wire(config)))
    if size > WIRE_BYTES:
        raise UsageError(
            f"the configuration would be {size:,} bytes, more than the {WIRE_BYTES:,} that workers take: "
            "fewer rules for hosts, or wider patterns"
        )
    return config


def in_force(config: CrawlConfig) -> dict[str, Any]:
    """What `set` changes, as it stands: `options` by name, and the `hosts` rules, the last RULES_TOLD of them.

    Plain values, None for no limit; secrets masked.
    """
    options = {
        name: _plain(masked(name, getattr(config, name)))
        for name, of in OPTIONS.items()
        if of.kept and not of.fixed and of.flags != "" and name not in RESTART
    }
    said = [
        {"match": rule.match}
        | {
            name: _plain(masked(name, value))
            for name in RULE_OPTIONS
            if (value := getattr(rule, name)) is not None
        }
        for rule in config.host[-RULES_TOLD:]
    ]
    return {"scope": config.scope, "options": options, "hosts": said, "rules": len(config.host)}


def pattern_of(text: str) -> str:
    """The pattern that a person means: a shell pattern for host names, a host, or a URL of one. UsageError: none."""
    given = text.strip()
    if not re.search(r"[*?]", given.partition("://")[2].partition("/")[0] or given):
        try:
            url = canonical(given if "://" in given else f"https://{given}")
        except BadURL:
            pass
        else:
            return glob.escape(host_key(url))
    if not given or re.search(r"[\s/:@#]", given) or given != given.encode("ascii", "ignore").decode():
        raise UsageError(f"{text[:100]!r}: expected a host, a URL, or a pattern such as *.example.org")
    return given.lower().rstrip(".")


def matches(name: str, match: str) -> bool:
    """Whether a host key is matched by a pattern."""
    return fnmatch.fnmatchcase(name, match)


# -- within


def _blocked_ones(config: CrawlConfig) -> str:
    blocked = [rule.match for rule in config.host if rule.blocked]
    if not blocked:
        return "; no host is"
    more = ", ..." if len(blocked) > 3 else ""
    return "; blocked are " + ", ".join(blocked[:3]) + more


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _says(rule: HostRule) -> bool:
    return any(getattr(rule, name) is not None for name in RULE_OPTIONS)


def _name_of(key: str) -> str:
    return key.strip().removeprefix("--").replace("-", "_").lower()


def _single(raw: object, *, many: bool) -> object:
    """A value that came in a list because options may be repeated; the last one counts where only one can."""
    if isinstance(raw, list) and not many:
        return raw[-1] if raw else ""
    return raw


def _parsed(name: str, parse: Any, raw: object) -> object:
    try:
        return parse(raw)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _refuse_secret(name: str, value: object) -> None:
    """A stopped crawl has its configuration in crawl.toml alone, and that keeps no secret."""
    if name in ("header", "proxy") and masked(name, value) != value and MASK not in str(value):
        raise UsageError(
            f"{name}: a secret is never kept on disk, and the crawl is stopped: give it at the start, --{name} ..."
        )
