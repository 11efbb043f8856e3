"""Seed texts: what one argument, one line or one cell of a column means.

A text is a URL, `sitemap:URL` or a bare host, the first that fits. In all of them `[0-2970:30]` is a range: it stands
for 0, 30, ... 2970, both ends included, `[001-100]` keeps its zeros, and of several ranges the last runs fastest.

What is wrong with a text is a Seed without a URL, which says why. Nothing is opened here: what files hold is read by
seeds.py. No I/O, no clock.

Read next: common/url.py (the canonical form), intake.py (what becomes of a seed).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from common.errors import BadURL
from common.masking import masked_url
from common.scope import suffixes
from common.url import MAX_LENGTH, CanonicalURL, canonical

COMMAND_LINE: Final = "command line"
"""The `source` of a seed that was itself an argument; its `line` is the argument's place, from 1."""

MAX_RANGES: Final = 8
"""Ranges in one text."""

MAX_RANGE: Final = 100_000_000
"""URLs that one range may stand for. More is a slip of the finger more often than a plan."""

MAX_GIVEN: Final = 2048
"""Characters of a text that are kept in a Seed, for messages and for the `seed` column."""


@dataclass(frozen=True, slots=True)
class Seed:
    """One URL that a person asked for, or one line that is none (`url` None, then `reason` and `error` say
    why)."""

    source: str
    """The file as it was named, its column included; `-` or COMMAND_LINE."""
    line: int
    """From 1, blank lines and remarks included; where a row of several lines begins."""
    given: str
    """As written, a range unexpanded, credentials masked; cut to 2048 characters."""
    url: CanonicalURL | None
    kind: Literal["url", "sitemap"] = "url"
    bare: bool = False
    """A host without a scheme: `url` says https, and http is to be tried if that is refused."""
    reason: str | None = None
    """A stable code: those of BadURL, `host` (a bare host that is none), `encoding`, `range`, `damaged` (the file ends
    or breaks here); of a CSV file also `csv` and `column`."""
    error: str | None = None
    """`reason` in words for people."""
    part: int = 0
    """Which URL of a range, from 0: (source, line, part) names a seed."""
    credentials: bool = False
    """A user name or password stood in it; `url` is without them."""


def parse(text: str, source: str, line: int, *, max_length: int = MAX_LENGTH) -> Iterator[Seed]:
    """The seeds of one line that is no file: one, or those of a range; never none."""
    shown = masked_url(text)
    given, credentials = short(shown, MAX_GIVEN), shown != text
    try:
        texts = _expanded(shown)
    except _BadRange as bad:
        yield Seed(source, line, given, None, reason="range", error=str(bad), credentials=credentials)
        return
    for part, one in enumerate(texts):
        kind: Literal["url", "sitemap"] = "url"
        if one[:8].lower() == "sitemap:":
            kind, one = "sitemap", one[8:].strip()
        host = bare_host(one)
        bare = host is not None
        try:
            url = canonical("https://" + one if bare else one, max_length=max_length)
        except BadURL as bad:
            words = _in_words(bad.reason, one, max_length)
            yield Seed(source, line, given, None, kind, bare, bad.reason, words, part, credentials)
            continue
        # Of an argument `seeds.read` asks, which has more to say.
        wrong = None if host is None or source == COMMAND_LINE else no_host(host, url)
        if wrong is None:
            yield Seed(source, line, given, url, kind, bare, part=part, credentials=credentials)
        else:
            error = f"{short(host or '')}: {wrong}"
            yield Seed(source, line, given, None, kind, bare, "host", error, part)


# --------------------------------------------------------------------------------------- bare hosts


# A name with a dot, an address in brackets or localhost, then a port or a path or nothing. `mailto:x` has no
# dot before its colon, `me@example.org` is an address of another kind.
_NAME = r"[^\s/?#:@\\\[\]%]*"
_host_like = re.compile(
    rf"(?P<host>(?:\[[0-9a-f:.]+\]|{_NAME}\.{_NAME}|localhost)(?::[0-9]+)?)(?:[/?#].*)?", re.IGNORECASE
).fullmatch


def bare_host(text: str) -> str | None:
    """The host, with its port, of a text that starts with one instead of with a scheme."""
    found = _host_like(text)
    return found["host"] if found else None


def is_bare(text: str) -> bool:
    """Whether a text begins with a host instead of with a scheme."""
    return bare_host(text) is not None


# Names that never leave a house or a laboratory (RFC 2606, 6761, 6762, 8375; ICANN's .internal). Any other
# unknown ending is more likely a file that is not there, or no host at all.
_PRIVATE_ENDINGS = frozenset(
    {"test", "example", "invalid", "localhost", "local", "internal", "lan", "home.arpa"}
)


_is_address = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}").fullmatch
_is_name = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?").fullmatch


def no_host(host: str, url: CanonicalURL, *, typed: bool = False) -> str | None:
    """Why a bare host is none that a person would mean; `url`: what the URL standard makes of it. None: it is one.

    The standard takes `super().call(x)` for a host, and `1.5` for 1.0.0.5. `typed`: by hand, where four numbers are an
    address; in a file those of the form n.n.n.0 are versions.
    """
    name = re.sub(r":\d*$", "", url.split("/")[2]).rstrip(".")
    ending = name.rpartition(".")[2]
    if name.startswith("[") or name in _PRIVATE_ENDINGS:
        return None
    if ending.isdecimal():
        is_address = _is_address(re.sub(r":\d*$", "", host)) is not None
        if is_address and (typed or ending != "0"):
            return None
        return f"no host name{' but perhaps a version' * is_address}; for the address write http://{name}/"
    if "." not in name or _is_name(name) is None:
        return "no host name"
    if ending in _PRIVATE_ENDINGS or _is_public(ending):
        return None
    way_out = f"if it is a host of yours, write https://{short(host)}"
    return f"no host of the public internet ({short(ending)!r} is no top-level domain); {way_out}"


@functools.lru_cache(4096)
def _is_public(ending: str) -> bool:
    return suffixes().publicsuffix(f"x.{ending}", accept_unknown=False) is not None


# --------------------------------------------------------------------------------------- ranges


_range = re.compile(r"\[([0-9]+)-([0-9]+)(?::([0-9]+))?\]")


class _BadRange(Exception):
    """Its text is for people."""


def _expanded(text: str) -> Iterator[str]:
    """The texts that `text` with its ranges stands for. _BadRange at once."""
    pieces = _range.split(text)  # text, first, last, step, text, first, ...
    ranges: list[tuple[range, int]] = []
    if len(pieces) // 4 > MAX_RANGES:
        raise _BadRange(f"{len(pieces) // 4} ranges in one URL; {MAX_RANGES} is the most")
    for first, last, step in zip(pieces[1::4], pieces[2::4], pieces[3::4], strict=True):
        if len(first) > 18 or len(last) > 18 or len(step or "") > 18:
            raise _BadRange(f"a number of over 18 digits in [{first}-{last}]"[:200])
        if int(first) > int(last):
            raise _BadRange(f"[{first}-{last}] ends before it begins")
        if step is not None and int(step) == 0:
            raise _BadRange(f"[{first}-{last}:{step}] takes steps of 0")
        width = len(first) if first.startswith("0") else 0
        ranges.append((range(int(first), int(last) + 1, int(step or 1)), width))
    count = math.prod(len(numbers) for numbers, _ in ranges)
    if count > MAX_RANGE:
        raise _BadRange(f"a range of {count} URLs; {MAX_RANGE} is the most")
    return _filled(pieces[0::4], ranges)


def _filled(texts: list[str], ranges: list[tuple[range, int]]) -> Iterator[str]:
    """By hand and not itertools.product, which would hold all numbers of every range."""
    if not ranges:
        yield texts[0]
        return
    numbers, width = ranges[0]
    for number in numbers:
        for rest in _filled(texts[1:], ranges[1:]):
            yield f"{texts[0]}{number:0{width}d}{rest}"


# --------------------------------------------------------------------------------------- words


def _in_words(reason: str, text: str, max_length: int) -> str:
    if reason == "empty":
        return "no URL at all"
    if reason == "too_long":
        return f"over {max_length} characters in its canonical form (--max-url-length)"
    if reason == "scheme":
        return f"{short(text.partition(':')[0])}: is not http or https"
    if reason == "no_host":
        return "a URL without a host"
    if "://" not in text:
        return (
            "neither a URL (no scheme) nor a host name (no dot)"
            if "." not in text
            else "neither a URL nor a host"
        )
    return "not a URL (by the WHATWG standard)"


def short(text: str, most: int = 100) -> str:
    """For people and for UTF-8 files: bytes of an argument that were none come as surrogates."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= most else shown[: most - 1] + "\u2026"
