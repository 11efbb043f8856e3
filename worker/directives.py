"""What a page asks of robots: `noindex` and `nofollow`, in its `meta` elements and in X-Robots-Tag headers.

Pure. robots.txt is another matter: worker/robots.py.
"""

from __future__ import annotations

from collections.abc import Iterable


def robots_header(values: Iterable[str], token: str) -> tuple[bool, bool]:
    """(noindex, nofollow) of X-Robots-Tag headers, for everybody and for the product `token`.

    A directive may have a product before it (`otherbot: noindex, nofollow`), which then holds to the end of
    that header or to the next product.
    """
    ours: list[str] = []
    for value in values:
        concerns_us = True
        for part in value.split(","):
            product, colon, rest = part.partition(":")
            if colon and product.strip().lower() not in _VALUED_DIRECTIVES:
                concerns_us = product.strip().lower() in ("*", token.lower())
                part = rest
            if concerns_us:
                ours.append(part)
    return directives(ours)


def directives(parts: Iterable[str]) -> tuple[bool, bool]:
    """(noindex, nofollow) of single directives."""
    words = {part.strip().lower() for part in parts}
    return not words.isdisjoint(("noindex", "none")), not words.isdisjoint(("nofollow", "none"))


_VALUED_DIRECTIVES = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview", "indexifembedded"}
)
