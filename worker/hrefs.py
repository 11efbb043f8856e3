"""The rules of single links: which ones are followed, where those outside of elements stand, where an href ends.

A fragment names a place in a page, not a page: it is cut off. Pure; nothing is raised for any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

FOLLOWED = frozenset({"canonical", "alternate", "next", "prev", "previous"})
"""What a `link` may be to be followed."""

LOADED = frozenset(
    {
        "stylesheet",
        "icon",
        "apple-touch-icon",
        "mask-icon",
        "manifest",
        "preload",
        "prefetch",
        "modulepreload",
    }
)
"""What a `link` may be to be loaded, with `media`."""

MAX_LINK_HEADERS = 16
"""Of one response that are read, 64 KiB of each: a head may be megabytes long."""

SPACE = "\t\n\f\r "
"""What HTML takes for white space."""


def without_fragment(href: str) -> str:
    """An href as it counts: without its fragment and the white space around it."""
    return href.partition("#")[0].strip(SPACE)


def rel_words(value: str | None) -> list[str]:
    """The words of a rel, lower case."""
    return value.lower().split() if value else []


def refresh_target(content: str) -> str | None:
    """The URL in the content of a meta refresh or a Refresh header (HTML standard, 4.2.5.3); None: the page itself."""
    match = _REFRESH.match(content)
    if match is None:
        return None
    target = match[1]
    named = _REFRESH_URL.match(target)
    if named is not None:
        target = target[named.end() :]
    if target[:1] in ("'", '"'):
        target = target[1:].partition(target[0])[0]
    return target.strip(SPACE) or None


def link_header_targets(values: Iterable[str], *, media: bool = False) -> list[str]:
    """The targets of Link headers (RFC 8288) with rel canonical, alternate, next or prev, without fragments; with
    `media` also what the page loads (stylesheet, preload, icon, ...).

    They are relative to the URL of the response, whatever base its page names.
    """
    targets: dict[str, None] = {}
    for href, rel in link_headers(values):
        words = rel_words(rel)
        page = not FOLLOWED.isdisjoint(words) and "stylesheet" not in words
        if page or (media and not LOADED.isdisjoint(words)):
            targets[without_fragment(href)] = None
    targets.pop("", None)
    return list(targets)


def link_headers(values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(target, rel) of the links in Link headers that have a rel."""
    for value in islice(values, MAX_LINK_HEADERS):
        for link in _LINK_VALUE.finditer(value[:65536]):
            for name, quoted, bare in _LINK_PARAMETER.findall(link[2]):
                if name.lower() == "rel":
                    yield link[1], quoted or bare
                    break  # RFC 8288, 3.3: of several rel parameters the first counts


def head_targets(links: Iterable[str], refresh: str | None, *, media: bool = False) -> list[str]:
    """Where a response's head leads, whatever its body is: its Link headers, and its Refresh header."""
    targets = link_header_targets(links, media=media)
    if refresh is not None and (target := refresh_target(refresh)) is not None:
        targets.append(without_fragment(target))
    return [target for target in targets if target]


def location_of(value: str) -> str:
    """A Location header as an href: bytes that are no UTF-8 (surrogates here) are sent as they came, as browsers do."""
    if value.isascii():
        return value
    return _SURROGATE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", value)


_SURROGATE = re.compile("[\udc80-\udcff]")

_REFRESH = re.compile(
    r"[\t\n\f\r ]*+(?:[0-9][0-9.]*+|\.[0-9.]*+)(?:[\t\n\f\r ]*+[;,]|(?=[\t\n\f\r ]))[\t\n\f\r ]*+(.*+)", re.S
)
_REFRESH_URL = re.compile(r"url[\t\n\f\r ]*+=[\t\n\f\r ]*+", re.I)

_LINK_VALUE = re.compile(r"<([^<>]*+)>((?:[^,<\"]++|\"(?:[^\"\\]++|\\.)*+\"?+)*+)")
_LINK_PARAMETER = re.compile(r";\s*+([^\s=;,\"]++)\s*+=\s*+(?:\"([^\"]*+)\"|([^\s;,\"]++))")
