"""What a page loads beside the pages it links to: images, styles, scripts and the like (`--media`).

Hrefs as they are written, without fragments. Pure; nothing is raised for any text.
"""

from __future__ import annotations

import re

from worker.hrefs import SPACE, without_fragment
from worker.scan import TEXT

ANY = "*"
"""In place of a tag's name: an element looked at for what any element may have."""


def loaded_by(tag: str, attributes: dict[str, str | None]) -> list[str]:
    """What an element loads, beside the page's links."""
    if tag == "style":
        return css_urls(attributes.get(TEXT) or "")
    if tag == ANY:
        background = attributes.get("background")
        return [*css_urls(attributes.get("style") or ""), *([background] if background else [])]
    if tag == "input" and (attributes.get("type") or "").strip(SPACE).lower() != "image":
        return []
    named = ("href", "xlink:href") if tag in _DRAWN else ("src", "poster", "data")
    found = [href for name in named if (href := attributes.get(name))]
    srcset = attributes.get("srcset")
    return found + srcset_urls(srcset) if srcset else found


def css_urls(text: str) -> list[str]:
    """What a style sheet loads: `url(...)` and `@import "..."`, without repeats, fragments and data."""
    text = _CSS_COMMENT.sub(" ", text)
    found = dict.fromkeys(
        without_fragment(_CSS_ESCAPE.sub(_css_escaped, written) if "\\" in written else written)
        for written in map("".join, _CSS_URL.findall(text))
    )
    return [href for href in found if href and href[:5].lower() != "data:"]


def _css_escaped(escape: re.Match[str]) -> str:
    """A character written as `\\2f ` or `\\)`, nothing for a line that goes on (CSS Syntax, 4.3.7)."""
    digits, character = escape.groups()
    if digits is None:
        return "" if character == "\n" else character
    code = int(digits, 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def srcset_urls(srcset: str) -> list[str]:
    """The images of a srcset attribute (HTML standard, 4.8.4.2.2). A URL may hold commas, but not end in one."""
    found = []
    position = 0
    while (candidate := _SRCSET_URL.match(srcset, position)) is not None:
        href = candidate[1]
        position = candidate.end()
        if not href.endswith(","):
            descriptors = _SRCSET_DESCRIPTORS.match(srcset, position)
            position = descriptors.end() if descriptors else len(srcset)
        found.append(href.rstrip(","))
    return [href for href in found if href]


_DRAWN = frozenset({"feimage", "feImage", "image", "use"})  # of SVG

_CSS_COMMENT = re.compile(r"/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)")
_CSS_STRING = r"(?:\"((?:[^\"\n\\]++|\\.)*+)\"|'((?:[^'\n\\]++|\\.)*+)')"
_CSS_URL = re.compile(
    rf"\burl\(\s*+(?:{_CSS_STRING}|((?:[^\s\"'()\\]++|\\.)++))|@import\s*+{_CSS_STRING}", re.I | re.S
)
_CSS_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})(?:\r\n|[ \t\n\f\r])?|(.))", re.S)
_SRCSET_URL = re.compile(r"[\t\n\f\r ,]*+([^\t\n\f\r ]++)")
_SRCSET_DESCRIPTORS = re.compile(r"(?:[^,(]++|\([^)]*+(?:\)|\Z))*+(?:,|\Z)")
