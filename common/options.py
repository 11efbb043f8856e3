"""What an option is: how text becomes its value, how the value is written down, what is said about it.

One `Option` stands in the metadata of each field of `common.config.CrawlConfig`; the flags of the command
line, the keys of crawl.toml, the `SHOAL_*` variables, `coord init` and the reference in the docs are all made
from it. This file knows kinds of values and nothing of any single option.

Values are canonical: seconds as float, bytes as int, lists as tuple. A kind's `parse` takes text (flags,
environment) or what TOML gave, and raises `ValueError` with a few words for people; the caller says where it
stood.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, TypeVar, cast

from common.nearest import closest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

USUAL_TRACKING = "usual"
"""What `--strip-tracking` without a value stands for; `common/normalization.py` has the list."""

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*")

ALL_PRIVATE = "all"
"""What `--allow-private` without a value stands for; `worker/addresses.py` says which addresses those are."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: its parser, its TOML form, and what the command line says about it."""

    name: str
    parse: Callable[[object], object]
    to_toml: Callable[[object], str]
    metavar: str
    choices: tuple[str, ...] = ()
    many: bool = False
    """A list: the flag may be given several times, the field is a tuple."""
    switch: bool = False
    """A flag without a value."""


@dataclass(frozen=True, slots=True)
class Option:
    """All that is said about one field."""

    kind: Kind
    group: str
    help: str
    """What it sets, with its unit; one sentence without a full stop."""
    why: str
    """The reason for the default."""
    flags: str | None = None
    """Click's declaration where it is not `--field-name`; '' for no flag at all."""
    optional: bool = False
    """`none` is a value: no limit."""
    wire: bool = False
    """Workers need it: it is part of WELCOME."""
    kept: bool = True
    """It is kept in DIR/crawl.toml; what only concerns this terminal is not."""
    fixed: bool = False
    """It may not differ when a DIR is continued: requests or rows would mean something else."""
    bare: str | None = None
    """The value of the flag given without one (`--allow-private`)."""

    def parse(self, raw: object) -> object:
        """The canonical value of `raw`; `ValueError` with prose if there is none."""
        if self.optional and (raw is None or (isinstance(raw, str) and raw.strip().lower() == "none")):
            return None
        return self.kind.parse(raw)

    def to_toml(self, value: object) -> str:
        """The value as TOML would spell it."""
        return '"none"' if value is None else self.kind.to_toml(value)


def option(
    default: T,
    kind: Kind,
    group: str,
    *,
    help: str,
    why: str,
    flags: str | None = None,
    wire: bool = False,
    kept: bool = True,
    fixed: bool = False,
    bare: str | None = None,
) -> T:
    """A dataclass field that is an option; optional when its default is None."""
    described = Option(
        kind=kind,
        group=group,
        help=help,
        why=why,
        flags=flags,
        optional=default is None,
        wire=wire,
        kept=kept,
        fixed=fixed,
        bare=bare,
    )
    return field(default=default, metadata={"option": described})


def options_of(cls: type[DataclassInstance]) -> dict[str, Option]:
    """The options among the fields of a class, by name, in its order."""
    return {of.name: of.metadata["option"] for of in fields(cls) if "option" in of.metadata}


def quoted(text: str) -> str:
    """A TOML basic string. JSON escapes the same characters the same way, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def seconds(raw: object) -> float:
    """`1.5`, `"300"`, `"5m"`, `"250ms"` as seconds."""
    value = _quantity(raw, _SECONDS, "a time such as 1.5, 30s, 5m or 2h")
    if value < 0:
        raise ValueError("a time is not negative")
    return value


def size(raw: object) -> int:
    """`1048576`, `"16MiB"`, `"2 GiB"` as bytes."""
    if isinstance(raw, str) and re.fullmatch(r"[\s0-9.]+[kmgt]b?\s*", raw, re.IGNORECASE):
        number, unit = raw.strip().rstrip("bB")[:-1].strip(), raw.strip().rstrip("bB")[-1].upper()
        raise ValueError(f"{raw.strip()!r} could mean two things: write {number}{unit}iB (by 1,024)")
    value = _quantity(raw, _BYTES, "a size such as 65536, 512KiB, 16MiB or 2GiB")
    if value < 0:
        raise ValueError("a size is not negative")
    return int(value)


def _quantity(raw: object, units: dict[str, float] | dict[str, int], expected: str) -> float:
    if isinstance(raw, bool):
        raise ValueError(f"expected {expected}")
    if isinstance(raw, int | float):
        if not math.isfinite(raw):
            raise ValueError(f"expected {expected}")
        return raw
    match = _QUANTITY.fullmatch(raw) if isinstance(raw, str) else None
    if match is None or match[2].lower() not in units:
        raise ValueError(f"expected {expected}, not {raw!r}")
    return float(match[1]) * units[match[2].lower()]


def _boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    text = raw.strip().lower() if isinstance(raw, str) else ""
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"expected true or false, not {raw!r}")


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"expected text in quotes, not {raw!r}")
    if any(ord(character) < 32 or character == "\x7f" for character in raw):
        raise ValueError("control characters and line breaks are not allowed")
    return raw.strip()


def _path(raw: object) -> str:
    text = _text(raw)
    if not text:
        raise ValueError("expected the path of a file")
    return text


def _extractor(raw: object) -> str:
    text = _text(raw)
    if re.fullmatch(r".+:[^\W\d]\w*", text) is None:
        raise ValueError(f"expected FILE.py:FUNCTION or package.module:function, not {text!r}")
    return text


def whole(name: str = "number", minimum: int = 1) -> Kind:
    """Whole numbers from `minimum`."""

    def parse(raw: object) -> int:
        if isinstance(raw, str) and re.fullmatch(r"\s*[0-9][0-9_,]*\s*", raw):
            raw = int(raw.replace("_", "").replace(",", ""))
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise ValueError(f"expected a whole number, not {raw!r}")
        if raw < minimum:
            raise ValueError(f"must be at least {minimum}, not {raw}")
        return raw

    return Kind(name, parse, str, "N")


def above_zero(kind: Kind) -> Kind:
    """The same kind without its zero."""

    def parse(raw: object) -> object:
        value = kind.parse(raw)
        if not value:
            raise ValueError("must be more than 0")
        return value

    return Kind(kind.name, parse, kind.to_toml, kind.metavar)


def choice(*names: str) -> Kind:
    """One of a few words."""

    def parse(raw: object) -> str:
        text = _text(raw)
        if text not in names:
            raise ValueError(_one_of(text, names))
        return text

    return Kind("word", parse, lambda value: quoted(str(value)), "|".join(names), choices=names)


def names_of(*names: str, metavar: str = "NAME,...") -> Kind:
    """Several of a few words, with commas between them; upper and lower case are one."""
    by_fold = {name.lower(): name for name in names}

    def one(text: str) -> str:
        if text.lower() not in by_fold:
            raise ValueError(_one_of(text, names))
        return by_fold[text.lower()]

    return several(one, metavar, split=True, choices=names)


def several(
    one: Callable[[str], str], metavar: str, *, split: bool, choices: tuple[str, ...] = (), name: str = "list"
) -> Kind:
    """A list of texts, each checked by `one`; `split`: commas part them. An empty text is an empty list."""

    def parse(raw: object) -> tuple[str, ...]:
        if isinstance(raw, str):
            raw = (raw,)
        if not isinstance(raw, list | tuple):
            raise ValueError(f"expected text or a list of texts, not {raw!r}")
        parts: list[str] = []
        for text in map(_text, raw):
            parts += text.split(",") if split else [text]
        given = [part.strip() for part in parts if part.strip()]
        return tuple(dict.fromkeys(one(part) for part in given))

    return Kind(name, parse, _array, metavar, choices=choices, many=True)


def networks(raw: object) -> tuple[str, ...]:
    """Networks in CIDR form, an address being one of its own; `private` and TOML's true are `ALL_PRIVATE`."""
    if raw is True:
        raw = ALL_PRIVATE
    elif raw is False:
        raw = ""
    texts = cast("tuple[str, ...]", _words.parse(raw))
    found: list[str] = []
    for text in texts:
        if text.lower() in {ALL_PRIVATE, "private", "true", "yes"}:
            found.append(ALL_PRIVATE)
        else:
            try:
                found.append(str(ipaddress.ip_network(text, strict=False)))
            except ValueError:
                raise ValueError(
                    f"expected an address or a network such as 10.0.0.0/8, not {text!r}"
                ) from None
    return tuple(dict.fromkeys(found))


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        hint = f"; write {re.escape(text[1:])}$ for what ends so" if re.fullmatch(r"\*[\w.]+", text) else ""
        raise ValueError(f"not a regular expression: {text!r}: {error}{hint}") from None
    return text


def _parameter(text: str) -> str:
    if not re.fullmatch(r"[^\s&=#?*]+\*?", text):
        raise ValueError(f"expected the name of a query parameter, or its beginning and a *, not {text!r}")
    return text


def _proxy(text: str) -> str:
    if not re.fullmatch(r"(https?|socks4a?|socks5h?)://[^/\s]+/?", text):
        shown = re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", text)
        raise ValueError(
            f"expected http://[USER:PASSWORD@]HOST:PORT, https://... or socks5://..., not {shown!r}"
        )
    return text.rstrip("/")


def _share(raw: object) -> float:
    value = _quantity(raw, {"": 1.0}, "a share of the delay such as 0.1")
    if not 0 <= value <= 1:
        raise ValueError(f"must be from 0 to 1, not {value}")
    return value


def _header(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
        raise ValueError(f"expected 'Name: value', not {text!r}")
    return f"{name.strip()}: {value.strip()}"


def _array(value: object) -> str:
    return "[" + ", ".join(quoted(str(part)) for part in cast("tuple[str, ...]", value)) + "]"


def _one_of(text: str, names: tuple[str, ...]) -> str:
    by_lower = {name.lower(): name for name in names}
    near = closest(text.lower(), by_lower, alike=0.6)
    meant = "" if near is None else f"; did you mean {by_lower[near]}?"
    if meant and len(names) > 8:
        return f"{text!r} is unknown{meant}"
    return f"{text!r} is not one of {', '.join(names)}{meant}"


def _plain_number(value: object) -> str:
    number = cast("float", value)
    return str(int(number)) if number == int(number) else repr(number)


def _size_text(value: object) -> str:
    number = cast("int", value)
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if number and number % _BYTES[unit.lower()] == 0:
            return f'"{number // _BYTES[unit.lower()]}{unit}"'
    return str(number)


_words = several(lambda text: text, "NAME,...", split=True)

SECONDS = Kind("time", seconds, _plain_number, "TIME")
BYTES = Kind("size", size, _size_text, "SIZE")
RATE = above_zero(
    Kind("rate", lambda raw: _quantity(raw, {"": 1.0}, "a number of pages a second"), _plain_number, "RATE")
)
SHARE = Kind("share", _share, _plain_number, "SHARE")
SWITCH = Kind("true or false", _boolean, lambda value: "true" if value else "false", "", switch=True)
TEXT = Kind("text", _text, lambda value: quoted(str(value)), "TEXT")
EXTRACTOR = Kind("extractor", _extractor, lambda value: quoted(str(value)), "FILE.py:FUNCTION")
PATH = Kind("path", _path, lambda value: quoted(str(value)), "FILE")
REGEXES = several(_regex, "REGEX", split=False, name="regular expressions")
HEADERS = several(_header, "'NAME: VALUE'", split=False, name="headers")
PARAMETERS = several(_parameter, "NAME,...", split=True, name="parameters")
_PROXIES = several(_proxy, "URL", split=False, name="proxies")
PROXIES = replace(_PROXIES, parse=lambda raw: () if raw == "none" else _PROXIES.parse(raw))
PATTERNS = several(lambda text: text.lower(), "PATTERN,...", split=True, name="patterns")
NETWORKS = Kind("networks", networks, _array, "CIDR,...", many=True)
