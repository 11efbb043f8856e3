"""Where options come from: flags, `SHOAL_*` variables, files.

`load` merges the places an option may stand in: flag, then `SHOAL_*`, then the `--config` file, then the
DIR's own crawl.toml, then the default. An option given higher up replaces the whole value below, lists too;
so do `[[host]]` tables. Every error is a `UsageError` that names the file and line, the nearest known key,
and what to write.

A secret that crawl.toml could not keep is asked for again, instead of crawling without it. The files themselves
are written by `common/configtext.py`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from common.config import OPTIONS, CrawlConfig
from common.errors import UsageError
from common.extractors import ExtractRule, parse_rules, parse_spec, read_code
from common.hostrules import RULE_OPTIONS, HostRule
from common.masking import MASK
from common.nearest import closest, hint
from common.options import TEXT
from common.tuning import TUNING, Tuning

RESERVED_VARIABLES = frozenset({"SHOAL_CONFIG", "SHOAL_KEY", "SHOAL_TOKEN"})
"""`SHOAL_*` variables that are no options: a --config file, a worker's key, the token of a coordinator."""

_HOSTS_LINES = 20_000
"""Names in a --hosts-file: its content travels to every worker in one message."""


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    stored: Path | None = None,
) -> CrawlConfig:
    """The configuration in force, from flags (by key; None or () is not given), `SHOAL_*`, a file, the DIR's
    own file.

    Raises `UsageError`: an unknown key, a value that cannot be read, a file that is missing. A missing
    `stored` file is none.
    """
    layers: list[_Layer] = [_flag_layer(flags or {}), _environ_layer(environ or {})]
    if file is not None:
        layers.append(_file_layer(file))
    if stored is not None and stored.exists():
        layers.append(_file_layer(stored, kept=True))

    values: dict[str, Any] = {}
    for name, described_as in OPTIONS.items():
        found = next((layer for layer in layers if name in layer.values), None)
        if found is None:
            continue
        try:
            values[name] = described_as.parse(found.values[name])
        except ValueError as error:
            raise UsageError(f"{found.where(name)}: {error}") from None
        if found.kept:
            _refuse_masked(name, values[name], found.where(name))
        if name == "hosts_file" and values[name] is not None:
            # Absolute, so that the crawl can be continued from another folder.
            values[name] = str(Path(values[name]).expanduser().absolute())
            values["hosts"] = read_hosts(Path(values[name]), found.where(name))
        if name == "extract" and values[name] is not None:
            values |= read_extractor(values[name], found.where(name))
    for layer in layers:
        if layer.rules is not None:
            values["host"] = layer.rules
            for rule in layer.rules if layer.kept else ():
                _refuse_masked("header", rule.header or (), f"{layer.where('host')} {rule.match}")
                _refuse_masked("proxy", rule.proxy or (), f"{layer.where('host')} {rule.match}")
            break
    tables = next((layer.extractors for layer in layers if layer.extractors is not None), ())
    values["extractors"] = tables
    tuned: dict[str, Any] = {}
    for layer in reversed(layers):
        tuned |= layer.tuning
    return checked(CrawlConfig(**values, tuning=Tuning(**tuned)))


def kept(path: Path) -> CrawlConfig:
    """The configuration a DIR was last started with, as its crawl.toml shows it: secrets stay masked, files
    it names are not read. To compare with and to show, not to crawl with."""
    layer = _file_layer(path)
    values: dict[str, Any] = {}
    for name in OPTIONS.keys() & layer.values.keys():
        try:
            values[name] = OPTIONS[name].parse(layer.values[name])
        except ValueError as error:
            raise UsageError(f"{layer.where(name)}: {error}") from None
    tuned: dict[str, Any] = dict(layer.tuning)
    return CrawlConfig(
        **values, host=layer.rules or (), extractors=layer.extractors or (), tuning=Tuning(**tuned)
    )


def read_hosts(path: Path, where: str) -> tuple[tuple[str, str], ...]:
    """The (name, address) pairs of a file in the form of /etc/hosts."""
    pairs: list[tuple[str, str]] = []
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                address, *names = line.partition("#")[0].split() or [""]
                if not address:
                    continue
                try:
                    canonical = str(ipaddress.ip_address(address))
                except ValueError:
                    raise UsageError(f"{path} line {number}: {address!r} is not an address") from None
                if not names:
                    raise UsageError(f"{path} line {number}: {address} has no name")
                pairs += [(name.lower().rstrip("."), canonical) for name in names]
                if len(pairs) > _HOSTS_LINES:
                    raise UsageError(f"{path}: more than {_HOSTS_LINES} names; use a DNS server for so many")
    except OSError as error:
        raise UsageError(f"{where}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: {path}: not a text file") from None
    return tuple(pairs)


# -- the layers


@dataclass(frozen=True, slots=True)
class _Layer:
    """One place where options stand, not parsed yet."""

    values: Mapping[str, object]
    label: str
    """What stands before an option's name in an error, with `{}` for the name."""
    rules: tuple[HostRule, ...] | None = None
    tuning: Mapping[str, object] = field(default_factory=dict)
    extractors: tuple[ExtractRule, ...] | None = None
    text: str = ""
    kept: bool = False

    def where(self, name: str) -> str:
        """Where the option was given, for an error."""
        if self.text:
            return f"{self.label}{_line_of(self.text, name)}: {name}"
        return self.label.format(name.replace("_", "-") if self.label.startswith("--") else name.upper())


def _flag_layer(flags: Mapping[str, object]) -> _Layer:
    unknown = next((name for name in flags if name not in OPTIONS), None)
    if unknown is not None:
        raise UsageError(f"no such option: {unknown}{hint(unknown, OPTIONS)}")
    return _Layer({name: value for name, value in flags.items() if value is not None and value != ()}, "--{}")


def _environ_layer(environ: Mapping[str, str]) -> _Layer:
    values: dict[str, object] = {}
    for variable, value in environ.items():
        if not variable.startswith("SHOAL_") or variable in RESERVED_VARIABLES:
            continue
        name = variable.removeprefix("SHOAL_").lower()
        if name in OPTIONS:
            values[name] = value
        # Others are not ours to refuse (Kubernetes sets SHOAL_PORT for a service called shoal), unless they
        # look like a slip: a delay that was meant and is not in force hurries hosts.
        elif near := closest(name, OPTIONS, alike=0.8):
            raise UsageError(f"environment: {variable} is no option; did you mean SHOAL_{near.upper()}?")
    return _Layer(values, "environment: SHOAL_{}")


_ELSEWHERE = {
    **dict.fromkeys(("procs", "out", "http", "listen", "recrawl"), "; it is given on the command line alone"),
    **dict.fromkeys(("crawl", "shoal", "options"), "; options stand at the top, in no section"),
    **dict.fromkeys(("seeds", "seed", "urls"), "; seeds are given on the command line"),
}
"""Of keys that people look for in vain."""


def _file_layer(path: Path, kept: bool = False) -> _Layer:
    try:
        text = path.read_text(encoding="utf-8")
        read = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: {error.strerror}: `coord init {path}` writes one") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None

    values: dict[str, object] = {}
    rules: tuple[HostRule, ...] | None = None
    tuning: dict[str, object] = {}
    extractors: tuple[ExtractRule, ...] | None = None
    for key, value in read.items():
        name = key.replace("-", "_")
        if name == "host":
            rules = _host_rules(value, path, text)
        elif name == "extract" and isinstance(value, dict):
            function, extractors = _extract_tables(value, path)
            if function is not None:
                values[name] = function
        elif name == "tuning":
            tuning = _tuning(value, path, text)
        elif name in OPTIONS:
            values[name] = value
        else:
            meant = _ELSEWHERE.get(name) or hint(name, (*OPTIONS, "host", "tuning"))
            raise UsageError(f"{path}{_line_of(text, key)}: no option is called {key!r}{meant}")
    return _Layer(values, str(path), rules, tuning, extractors, text, kept)


def _extract_tables(table: dict[str, object], path: Path) -> tuple[object, tuple[ExtractRule, ...]]:
    """(function, rules) of a section [extract]."""
    function = table.get("function")
    tables = {name: value for name, value in table.items() if name != "function" or isinstance(value, dict)}
    try:
        return None if "function" in tables else function, parse_rules(tables)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def read_extractor(text: str, where: str) -> dict[str, Any]:
    """What follows from --extract: the file that it names is read now, and its path is absolute from now on.

    Raises UsageError; `where` names the option in it.
    """
    try:
        spec = parse_spec(text)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    if not spec.is_file:
        return {}
    path = Path(os.path.abspath(Path(spec.place).expanduser()))
    return {"extract": f"{path}:{spec.function}", "code": read_code(path, spec.function, where)}


def _host_rules(tables: object, path: Path, text: str) -> tuple[HostRule, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(
            f"{path}{_line_of(text, 'host')}: rules for hosts are written [[host]], with two brackets"
        )
    rules = []
    for position, table in enumerate(tables):
        section = ("host", position)
        rule: dict[str, Any] = {}
        for key, value in table.items():
            name, where = key.replace("-", "_"), f"{path}{_line_of(text, key, section)}: [[host]]"
            if name != "match" and name not in RULE_OPTIONS:
                raise UsageError(f"{where}: no key is called {key!r}{hint(name, ('match', *RULE_OPTIONS))}")
            try:
                if name == "match":
                    rule[name] = str(TEXT.parse(value)).lower()
                    continue
                rule[name] = RULE_OPTIONS[name].parse(value)
            except ValueError as error:
                raise UsageError(f"{where} {key}: {error}") from None
        if not rule.get("match"):
            raise UsageError(f'{path}{_line_of(text, "", section)}: [[host]] needs match = "PATTERN"')
        rules.append(HostRule(**rule))
    return tuple(rules)


def _tuning(table: object, path: Path, text: str) -> dict[str, object]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}{_line_of(text, 'tuning')}: tuning is a section: [tuning]")
    values: dict[str, object] = {}
    for key, value in table.items():
        name, where = key.replace("-", "_"), f"{path}{_line_of(text, key, ('tuning', 0))}: [tuning]"
        if name not in TUNING:
            raise UsageError(f"{where}: no key is called {key!r}{hint(name, TUNING)}")
        try:
            values[name] = TUNING[name].parse(value)
        except ValueError as error:
            raise UsageError(f"{where} {key}: {error}") from None
    return values


def _line_of(text: str, key: str, section: tuple[str, int] = ("", 0)) -> str:
    """` line N` for a key of the n-th table of a name (an empty key: its head); '' when it is not found.

    tomllib gives no positions. A key inside a multi-line string could be taken for it; the number is a help
    to the eye and nothing rests on it.
    """
    name, wanted, seen = *section, -1
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[\[?\s*([A-Za-z0-9_-]+)\s*\]", line)
        if head is not None:
            current = head[1]
            seen += current == name
            if (current == name and not key and seen == wanted) or (not name and current == key):
                return f" line {number}"
        inside = current == name and (not name or seen == wanted)
        spelled = {key, key.replace("_", "-")}
        found = re.match(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[.=]""", line)
        if inside and found is not None and found[1] in spelled:
            return f" line {number}"
    return ""


def _refuse_masked(name: str, value: object, where: str) -> None:
    if name == "header":
        lost = next((line for line in cast("tuple[str, ...]", value) if line.endswith(f": {MASK}")), None)
        if lost is not None:
            kind = lost.partition(":")[0]
            raise UsageError(
                f"{where}: the value of {kind} is never kept on disk; give it again: "
                f"--header '{kind}: ...' (or --header '' to go on without)"
            )
    elif name == "proxy" and any(f":{MASK}@" in url for url in cast("tuple[str, ...]", value)):
        raise UsageError(f"{where}: the password of the proxy is never kept on disk; give --proxy again")


def checked(config: CrawlConfig) -> CrawlConfig:
    """Refuse what is wrong only in combination, or deeper than its kind can see."""
    if not re.fullmatch(r"[A-Za-z_-]+", config.robots_token):
        raise UsageError(f"robots_token: {config.robots_token!r}: RFC 9309 allows letters, '-' and '_' only")
    if not config.agent.isascii() or not config.agent:
        raise UsageError(f"user_agent: {config.agent!r}: a header is plain ASCII text")
    if config.near_duplicates is not None and config.near_duplicates > 7:
        raise UsageError(f"near_duplicates: {config.near_duplicates}: at most 7 bits; 4 to 6 are usual")
    if not config.store:
        raise UsageError("store: nothing would be kept: name at least one of warc, pages, text, links")
    if config.tuning.heartbeat * 2 > config.tuning.lease_ttl:
        raise UsageError(
            f"[tuning]: heartbeat {config.tuning.heartbeat:g} s must be at most half of "
            f"lease_ttl {config.tuning.lease_ttl:g} s"
        )
    return config
