"""Which outlinks of a page go to which shard, and in what portions.

Outlinks of the page's own shard ride in the page, those of others go in Links messages (PROTOCOL rule 1). No message
carries more than MAX_CHARACTERS of them: a sitemap lists 50,000 URLs, and a header frame has a bound. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.messages import Form, LinkGroup
from common.url import CanonicalURL, host_key, slot

MAX_CHARACTERS = 1 << 20
"""Of URLs and what stands with them, in one message: an eighth of what a header may hold. One link always passes."""

MAX_GROUPS = 64
"""Groups in one message; as many as a Page takes."""

_PER_URL = 16
"""Bytes that a URL takes beside its characters, at most: lengths, and when it was last modified."""

Groups = tuple[LinkGroup, ...]


def by_owner(groups: Groups, slots: bytes, shard: int) -> tuple[Groups, dict[int, list[LinkGroup]]]:
    """Outlinks for the page's own `shard`, and those for others. 1 µs a link."""
    own: list[LinkGroup] = []
    foreign: dict[int, list[LinkGroup]] = {}
    for group in groups:
        parts: dict[int, list[int]] = {}
        for position, url in enumerate(group.urls):
            parts.setdefault(slots[slot(host_key(CanonicalURL(url)))], []).append(position)
        for owner, positions in parts.items():
            part = group if len(parts) == 1 else _part(group, positions)
            (own if owner == shard else foreign.setdefault(owner, [])).append(part)
    return tuple(own), foreign


def is_large(groups: Groups) -> bool:
    """Whether they are more than one message may carry. 2 µs for 65 links."""
    if len(groups) > MAX_GROUPS:
        return True
    size = 0
    for group in groups:
        size += sum(map(len, group.urls)) + _PER_URL * len(group.urls)
        if group.forms is not None:
            size += sum(map(_weight, group.forms))
    return size > MAX_CHARACTERS


def portions(groups: Sequence[LinkGroup]) -> list[tuple[Groups, int]]:
    """The same outlinks in portions that one message may carry each, in order, with the size of each in bytes."""
    cut: list[tuple[Groups, int]] = []
    portion: list[LinkGroup] = []
    room = MAX_CHARACTERS
    for group in groups:
        begin = 0
        for position, url in enumerate(group.urls):
            size = len(url) + _PER_URL + (0 if group.forms is None else _weight(group.forms[position]))
            full = size > room and (portion or position > begin)
            if full or len(portion) >= MAX_GROUPS:
                if position > begin:
                    portion.append(_part(group, range(begin, position)))
                cut.append((tuple(portion), MAX_CHARACTERS - room))
                portion, room, begin = [], MAX_CHARACTERS, position
            room -= size
        if begin < len(group.urls):
            portion.append(group if not begin else _part(group, range(begin, len(group.urls))))
    if portion:
        cut.append((tuple(portion), MAX_CHARACTERS - room))
    return cut


def _part(group: LinkGroup, positions: Sequence[int]) -> LinkGroup:
    urls, forms, lastmods = group.urls, group.forms, group.lastmods
    return group._replace(
        urls=tuple([urls[position] for position in positions]),
        forms=None if forms is None else tuple([forms[position] for position in positions]),
        lastmods=None if lastmods is None else tuple([lastmods[position] for position in positions]),
    )


def _weight(form: Form | None) -> int:
    if form is None:
        return 0
    headers = sum(len(name) + len(value) for name, value in form.headers)
    return len(form.body or b"") + len(form.carry or b"") + headers
