"""The text of a page: what a reader came for, without what surrounds it.

Made only when asked for (near-duplicates, `--store text`), from the tree that was parsed for the links. Pages that
are kept from a tree get theirs from worker/scan.py, by the same rules:

  - out: what browsers do not show (script, style, template, drawings), what is no text of the page (title, frames,
    form fields), and what stands around an article by its own mark-up: `nav`, `aside`, `footer`. With those three left
    in, two pages of one site look alike for what they share, and one page twice differs by its headlines in the margin
    (docs/near-duplicates.md has the figures);
  - `noscript` is in, as for links;
  - pieces of text between two tags are set apart by one space, white space inside them is as in the page.

No I/O; nothing is raised for any page. Costs about a fifth of parsing the page.
"""

from __future__ import annotations

from typing import Final

from selectolax.lexbor import LexborHTMLParser

MAX_TEXT: Final = 1 << 20
"""Characters of a page's text; what follows is cut off."""

LEFT_OUT: Final = ("aside", "footer", "nav", "svg", "template")
"""Elements whose content is no text of the page, whatever elements it is made of."""

LEFT_OUT_RAW: Final = ("iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp")
"""The same, of elements that hold nothing but text."""


def text_of(tree: LexborHTMLParser) -> str:
    """The text of a page. The tree is the poorer for it: what is left out is removed, so take everything else first."""
    tree.strip_tags([*LEFT_OUT, *LEFT_OUT_RAW], recursive=True)
    body = tree.body
    return "" if body is None else body.text(separator=" ", skip_empty=True)[:MAX_TEXT]
