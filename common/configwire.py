"""A configuration on the wire: what the shard tells its workers in Welcome and Terms.

Only the options marked `wire` travel, each in its canonical form and in a type that msgpack knows; the decoder
is strict: what is missing, unknown, of another type or in another spelling is a `ProtocolError`.

Secrets are in it. Read next: `common/messages.py` (the messages that carry it).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from common.config import OPTIONS, CrawlConfig
from common.errors import ProtocolError
from common.extractors import code_from_wire, rules_from_wire
from common.hostrules import RULE_OPTIONS, HostRule
from common.options import TEXT, Option
from common.tuning import TUNING, Tuning


def config_to_wire(config: CrawlConfig) -> dict[str, object]:
    """What workers need, in types that msgpack knows. Secrets are in it: send it over CURVE or loopback
    only."""
    wire: dict[str, object] = {name: _plain(getattr(config, name)) for name in sorted(_wire_names())}
    wire["host"] = [
        [rule.match, *(_plain(getattr(rule, name)) for name in RULE_OPTIONS)] for rule in config.host
    ]
    wire["hosts"] = [list(pair) for pair in config.hosts]
    wire["extractors"] = [rule.to_wire() for rule in config.extractors]
    wire["code"] = None if config.code is None else list(config.code)
    wire["tuning"] = {name: getattr(config.tuning, name) for name in sorted(_wire_tuning_names())}
    return wire


def config_from_wire(wire: Mapping[str, object]) -> CrawlConfig:
    """The configuration a worker was sent; `ProtocolError` if anything is missing, unknown or of another
    type."""
    values = dict(wire)
    try:
        rules = tuple(_wire_rule(rule) for rule in _rows(values.pop("host", None), 1 + len(RULE_OPTIONS)))
        hosts = tuple(
            (str(TEXT.parse(name)), str(TEXT.parse(address)))
            for name, address in _rows(values.pop("hosts", None), 2)
        )
        extractors = rules_from_wire(values.pop("extractors", None))
        code = code_from_wire(values.pop("code", None))
    except ValueError as error:
        raise ProtocolError(f"configuration: {error}") from None
    tuning = values.pop("tuning", None)
    if not isinstance(tuning, Mapping):
        raise ProtocolError("configuration: tuning is missing")
    return CrawlConfig(
        **_typed(OPTIONS, _wire_names(), values),
        host=rules,
        hosts=hosts,
        extractors=extractors,
        code=code,
        tuning=Tuning(**_typed(TUNING, _wire_tuning_names(), tuning)),
    )


# -- within


@cache
def _wire_names() -> frozenset[str]:
    return frozenset(name for name, described_as in OPTIONS.items() if described_as.wire)


@cache
def _wire_tuning_names() -> frozenset[str]:
    return frozenset(name for name, described_as in TUNING.items() if described_as.wire)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _rows(given: object, width: int) -> list[list[object]]:
    if not isinstance(given, list | tuple) or not all(
        isinstance(r, list | tuple) and len(r) == width for r in given
    ):
        raise ValueError(f"expected rows of {width}, not {str(given)[:100]!r}")
    return [list(row) for row in given]


def _wire_rule(row: list[object]) -> HostRule:
    match, *said = row
    values: dict[str, Any] = {
        name: None if value is None else kind.parse(value)
        for (name, kind), value in zip(RULE_OPTIONS.items(), said, strict=True)
    }
    return HostRule(str(TEXT.parse(match)), **values)


def _typed(
    options: Mapping[str, Option], wanted: frozenset[str], given: Mapping[str, object]
) -> dict[str, Any]:
    if given.keys() != wanted:
        odd = sorted(str(name) for name in given.keys() ^ wanted)
        raise ProtocolError(f"configuration: missing or unknown: {', '.join(odd[:5])}")
    values = {}
    for name, value in given.items():
        try:
            values[name] = options[name].parse(value)
        except ValueError as error:
            raise ProtocolError(f"configuration: {name}: {error}") from None
        # What was sent is canonical already: "5m" for a time is somebody else's dialect.
        if _plain(values[name]) != _plain(value):
            raise ProtocolError(f"configuration: {name}: {value!r} is not canonical")
    return values
