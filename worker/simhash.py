"""A 64-bit number for a page's text, such that texts with most words in common have numbers with most bits in common.

Charikar's SimHash (2002), as for the web by Manku, Jain and Das Sarma (2007). A feature is a word: letters only, lower
case, so that dates, prices and counters do not matter; in scripts that set no spaces (Chinese, Japanese, Thai, ...)
a pair of neighbouring characters. A word counts 1 + 3 log2 of how often it stands in the text: counted once, rare words
would drown what a page is about; counted each time, "the" would. docs/near-duplicates.md compares the choices and says
how often each distance is right.

How it is cheap: a word's hash is kept spread out, a bit to a lane of 16, in one integer of 1,024 bits, so that one
addition adds all 64 counters at once; and words are kept, since a language has few that are frequent.

No I/O, no clock. The number is part of what is stored (`pages`, the index of a host): the same text gives the same
number in every version and on every machine. The memory of words, KEPT of 0.4 KB, is one to a process.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from xxhash import xxh3_64_digest

LEAST_WORDS: Final = 20
"""Different words that a text must have: of fewer, one more or less turns too many bits."""

MAX_WORDS: Final = 2_000
"""Words of a text that are read, for the sake of time. Their weights add up to at most 4,000: a lane holds 32,767."""

KEPT: Final = 1 << 15
"""Words whose lanes are remembered; then all are forgotten, and those in use come back at 1 us each."""


def simhash(text: str) -> int | None:
    """The number of a text; None if it has too few words to say. About 0.1 us a word."""
    counts = Counter(_words(text))
    if len(counts) < LEAST_WORDS:
        return None
    known = _lanes
    if len(known) > KEPT:
        known.clear()
    total = weights = 0
    for word, count in counts.items():
        lanes = known.get(word)
        if lanes is None:
            lanes = known[word] = _spread(word)
        if count == 1:
            total += lanes
            weights += 1
        else:
            weight = _WEIGHTS[count]
            total += lanes * weight
            weights += weight
    # A bit is set where more than half of the weight says so: then this carries into the highest bit of its lane.
    total += _ONES * (0x8000 - weights // 2 - 1)
    return int(total.to_bytes(_BYTES, "big")[::2].translate(_HIGHEST), 2)


def distance(one: int, other: int) -> int:
    """In how many of 64 bits two numbers differ."""
    return (one ^ other).bit_count()


def _words(text: str) -> list[bytes]:
    text = text[: MAX_WORDS * 10]
    if text.isascii():
        return text.encode().translate(_LETTERS).split(None, MAX_WORDS)[:MAX_WORDS]
    text = text.lower()
    pairs: list[bytes] = []
    if _UNSPACED.search(text) is not None:
        for run in _UNSPACED.findall(text):
            pairs += [run[at : at + 2].encode() for at in range(max(1, len(run) - 1))]
        text = _UNSPACED.sub(" ", text)
    words = text.encode("utf-8", "replace").translate(_LETTERS).split()
    return (words + pairs)[:MAX_WORDS]


def _spread(word: bytes) -> int:
    return int.from_bytes(b"".join(map(_OCTETS.__getitem__, xxh3_64_digest(word))), "big")


_WEIGHTS: Final = (0, *(1 + int(3 * math.log2(count)) for count in range(1, MAX_WORDS + 1)))
_BYTES: Final = 128
_OCTETS: Final = [
    b"".join(b"\0\1" if octet >> bit & 1 else b"\0\0" for bit in range(7, -1, -1)) for octet in range(256)
]
"""A byte of a hash as eight lanes."""
_ONES: Final = int.from_bytes(b"\0\1" * 64, "big")
_HIGHEST: Final = bytes(ord("1") if octet & 0x80 else ord("0") for octet in range(256))
_LETTERS: Final = bytes(
    octet + 32 if 65 <= octet <= 90 else octet if 97 <= octet <= 122 or octet >= 128 else 32
    for octet in range(256)
)
"""ASCII letters in lower case, other ASCII as a space; bytes of other letters stay, and so does their punctuation."""
# Thai to Tibetan, Myanmar, Khmer, kana, Han. Korean has spaces.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)

_lanes: dict[bytes, int] = {}
