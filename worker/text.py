"""The text of a page: what a reader came for, without what surrounds it; and of a link: what it is called.

Made only when asked for (near-duplicates, `--store text,links`), from the tree that was parsed for the links. Pages
that are kept from a tree get theirs from worker/scan.py, by the same rules:

  - out: what browsers do not show (script, style, template, drawings), what is no text of the page (title, frames,
    form fields), and what stands around an article by its own mark-up: `nav`, `aside`, `footer`. With those three left
    in, two pages of one site look alike for what they share, and one page twice differs by its headlines in the margin
    (docs/near-duplicates.md has the figures);
  - `noscript` is in, as for links;
  - *for comparing* (`text_of`): pieces of text between two tags are set apart by one space, white space inside them is
    as in the page;
  - *for reading* (`readable`): as a browser sets it, a line for each paragraph, heading, list entry or table row, its
    white space collapsed; what no tag of a block parts stays together (`<b>W</b>ord`). Lines inside `pre` are one line.

No I/O; nothing is raised for any page. For comparing it costs a fifth of parsing the page, for reading as much as
parsing once more (breaks have to be found element by element), the words of 65 links a sixth.
"""

from __future__ import annotations

from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_TEXT: Final = 1 << 20
"""Characters of a page's text; what follows is cut off."""

MAX_ANCHOR: Final = 512
"""Characters of a link's text that are kept (as of a title)."""

LEFT_OUT: Final = ("aside", "footer", "nav", "svg", "template")
"""Elements whose content is no text of the page, whatever elements it is made of."""

LEFT_OUT_RAW: Final = ("iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp")
"""The same, of elements that hold nothing but text."""

BLOCKS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "caption", "center", "dd", "details", "dialog"),
        *("dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3"),
        *("h4", "h5", "h6", "header", "hgroup", "hr", "legend", "li", "main", "menu", "nav", "ol", "option"),
        *("p", "pre", "search", "section", "select", "summary", "table", "tbody", "tfoot", "thead", "tr"),
        "ul",
    )
)
"""Elements that begin and end a line (HTML standard, 15.3)."""

CELLS: Final = frozenset({"img", "td", "th"})
"""Elements that set what is beside them apart in a line."""

BREAK: Final = "\x1e"
"""Between two lines while a text is put together. The same character in a page ends a line, too."""

_LEFT_OUT_BLOCKS: Final = ",".join(name for name in LEFT_OUT if name in BLOCKS)

_ANCHOR_NODES: Final = 256
"""Nodes of a link that are looked at: links may be nested in tables in links, and are read once for each."""


def text_of(tree: LexborHTMLParser) -> str:
    """The text of a page, for comparing. The tree is the poorer for it: what is left out is removed, so take
    everything else first."""
    tree.strip_tags([*LEFT_OUT, *LEFT_OUT_RAW], recursive=True)
    body = tree.body
    return "" if body is None else body.text(separator=" ", skip_empty=True)[:MAX_TEXT]


def readable(tree: LexborHTMLParser) -> str:
    """The text of a page, for reading; the tree is the poorer for it, as with `text_of`, which may go after."""
    for node in tree.css(_LEFT_OUT_BLOCKS):
        node.insert_before(BREAK)  # what stands on both sides of it stays apart
    tree.strip_tags([*LEFT_OUT, *LEFT_OUT_RAW], recursive=True)
    body = tree.body
    return "" if body is None else lines_of("".join(_pieces(body, 2 * MAX_TEXT, None)))


def anchor(node: LexborNode) -> str | None:
    """What stands in a link, raw; None: nothing. At most about MAX_ANCHOR characters beyond white space are read."""
    first = node.child
    if first is None:
        return None
    if first.tag == "-text" and first.next is None:
        return first.text_content
    return "".join(_pieces(node, 4 * MAX_ANCHOR, _ANCHOR_NODES)).replace(BREAK, " ")


def lines_of(marked: str) -> str:
    """A text whose lines end in BREAK, without empty ones, their white space collapsed."""
    lines = (" ".join(line.split()) for line in marked.split(BREAK))
    return "\n".join(line for line in lines if line)[:MAX_TEXT]


def _pieces(node: LexborNode, most: int, nodes: int | None) -> list[str]:
    """Text and breaks below a node, in order: at most about `most` characters, of at most so many `nodes`."""
    pieces: list[str] = []
    size, raw = 0, False
    for each in node.traverse(include_text=True):
        tag = each.tag
        if tag == "-text":
            text = each.text_content or ""
            if raw:
                raw = False
                continue
            # A traversal tells of begins only: the end of a block is seen at what follows it.
            before = each.prev
            if before is not None and before.tag in BLOCKS:
                pieces.append(BREAK)
            pieces.append(text)
            size += len(text)
            if size > most:
                break
        elif tag in BLOCKS:
            pieces.append(BREAK)
        else:
            raw = tag in LEFT_OUT_RAW
            before = each.prev
            if before is not None and before.tag in BLOCKS:
                pieces.append(BREAK)
            elif tag in CELLS:
                pieces.append(" ")
        if nodes is not None:
            nodes -= 1
            if nodes <= 0:
                break
    return pieces
