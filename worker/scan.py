"""The elements of a page that links stand in, without a tree: for pages that would hurt a tree builder.

The tree that the HTML standard prescribes costs time and memory quadratic in the page where elements nest
without end, formatting elements are left open, or a tag has ten thousand attributes: 60 KB of
`<p><font a1><p><font a2>...` make Lexbor build millions of nodes. This is the tokenizer of the standard (13.2.5)
in one regular expression: linear in the page whatever it holds, and about as fast as Lexbor on ordinary pages.
parse.py decides who gets which.

What it finds is what stands in the tree, with these differences, all of them on pages that are broken anyway:
tags that the tree builder would drop for where they stand (a `frame` outside a frameset, anything inside an
old `select`) are found; inside SVG and MathML, CDATA sections are read as the comments that they are in HTML, and
script, style and title as the raw text that they are there, even when they close themselves.

Judged by Lexbor itself: equal on 20,053 of 20,054 pages found on a Linux machine (the other: order of style
sheets), and on 59,960 of 60,000 that were broken at random.

Invariants: every quantifier is possessive or cannot overlap what follows it, so that no page makes it
backtrack; nothing is raised for any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from html.entities import html5
from typing import Final

from worker.text import BLOCKS, BREAK, CELLS, LEFT_OUT, LEFT_OUT_RAW, MAX_ANCHOR, MAX_TEXT, lines_of

Element = tuple[str, dict[str, str | None]]
"""The name of a tag, lower case, and its attributes: None for an empty or missing value, as in Lexbor."""

TEXT = "\0text"
"""The key under which a `title` has its text, among its attributes, and a link where that is asked for; no attribute
can have this name."""


def elements(page: bytes, *, media: bool) -> list[Element]:
    """All elements that a link, a title or a directive may stand in, in the order of the page (UTF-8).

    `media`: also those that images, styles and the like stand in.
    """
    if b"\0" in page:
        page = page.replace(b"\0", b"\xef\xbf\xbd")  # as the standard does in names, values and titles
    found: list[Element] = []
    inert = 0  # the depth of templates: what they hold is not part of the page
    drawing = 0  # the depth of svg and math: their titles are not the page's
    tags = list(filter(None, (_MEDIA_TAGS if media else _TAGS)(page)))
    if tags and page.endswith(tags[-1]) and not _closed(tags[-1]):
        tags.pop()  # the page ends inside this tag: the standard drops it, and its href may be half a URL
    for octets in tags:
        tag = octets.decode("utf-8", "replace")
        head = _NAME.match(tag)
        name = head[0].lower() if head else ""
        if name == "template":
            inert += 1
        elif name == "/template":
            inert = max(0, inert - 1)
        elif inert:
            pass
        elif name in ("svg", "math"):
            drawing += not tag.endswith("/>")
        elif name in ("/svg", "/math"):
            drawing = max(0, drawing - 1)
        elif name in _RAW_FOUND:
            if drawing and name == "title":
                continue
            opening = _OPENING.match(tag)
            end = opening.end() if opening else len(tag)
            attributes = _attributes(tag[len(name) : end])
            attributes[TEXT] = unescape(tag[end:]) if name == "title" else tag[end:]
            found.append((name, attributes))
        else:
            found.append((name, _attributes(tag[len(name) :])))
    return found


def styled(page: bytes) -> list[dict[str, str | None]]:
    """The attributes of all elements that may name a picture in `style` or `background`."""
    if b"\0" in page:
        page = page.replace(b"\0", b"\xef\xbf\xbd")
    found = []
    inert = 0
    for tag in filter(None, _ALL_TAGS(page)):
        if _TEMPLATE.match(tag) is not None:
            inert = max(0, inert + (-1 if tag.startswith(b"/") else 1))
        elif not inert and _PICTURED.search(tag) is not None and _closed(tag):
            written = tag.decode("utf-8", "replace")
            name = _NAME.match(written)
            if name is not None and not written.startswith("/"):
                opening = _OPENING.match(written)
                end = opening.end() if opening else len(written)
                found.append(_attributes(written[name.end() : end]))
    return found


def anchors(page: bytes) -> list[str]:
    """The raw text of each `a` that `elements` finds, in their order; for a page that ends inside the tag of one, one
    more. As worker/text.py reads a link in a tree; a link ends at the next one, wherever that stands."""
    found: list[list[bytes]] = []
    pieces: list[bytes] | None = None  # of the link that is open
    inert = room = start = 0
    for token in _ANCHOR_TAGS(page):
        if pieces is not None and token.start() > start and room > 0 and not inert:
            piece = page[start : min(token.start(), start + room)]
            pieces.append(piece)
            room -= len(piece)
        start = token.end()
        name = _NAME_BYTES.match(token[0], 1)
        tag = b"" if name is None else name[0].lower()
        if tag == b"template":
            inert += 1
        elif tag == b"/template":
            inert = max(0, inert - 1)
        elif inert:
            pass
        elif tag == b"a":
            pieces, room = [], 16 * MAX_ANCHOR
            found.append(pieces)
        elif tag == b"/a":
            pieces = None
        elif pieces is not None and (tag.removeprefix(b"/") in _BREAKING or tag in _APART):
            pieces.append(b" ")
    if pieces is not None and room > 0 and not inert:
        pieces.append(page[start : start + room])
    return [unescape(b"".join(each).decode("utf-8", "replace")) for each in found]


def language(page: bytes) -> str | None:
    """What the `html` element says of the language, raw."""
    for tag in _START_TAGS(page):
        if tag[1] is not None and tag[1].lower() == b"html":
            written = tag[0].decode("utf-8", "replace")[5:]
            attributes = _attributes(written.removesuffix(">"))
            if said := attributes.get("lang") or attributes.get("xml:lang"):
                return said
    return None


def readable(page: bytes) -> str:
    """The text of a page for reading, by the rules of worker/text.py; the page is in UTF-8."""
    pieces = _shown(page, _READ_TAGS, breaks=True)
    return lines_of(unescape(b"".join(pieces).decode("utf-8", "replace")))


def text(page: bytes) -> str:
    """The text of a page for comparing, by the rules of worker/text.py; the page is in UTF-8."""
    whole = b" ".join(piece for piece in _shown(page, _TEXT_TAGS, breaks=False) if not piece.isspace())
    return unescape(whole.decode("utf-8", "replace"))[:MAX_TEXT]


def _shown(page: bytes, tags: Callable[[bytes], Iterator[re.Match[bytes]]], *, breaks: bool) -> list[bytes]:
    """The pieces of text between tags, without those that are left out. `breaks`: with those that tags make."""
    pieces: list[bytes] = []
    size = start = 0
    hidden = dict.fromkeys(_HIDING, 0)
    depth = 0  # of all elements that hide their content
    for tag in tags(page):
        if not depth and tag.start() > start:
            pieces.append(page[start : tag.start()])
            size += tag.start() - start
            if size > 4 * MAX_TEXT:
                break
        start = tag.end()
        if tag[1] is None:
            if breaks and not depth and tag[2] is not None:
                name = tag[2].lower()
                if name.removeprefix(b"/") in _BREAKING:
                    pieces.append(_BREAK)
                elif name in _APART:
                    pieces.append(b" ")
            continue
        name = tag[1].lower()
        if breaks and name.removeprefix(b"/") in _BREAKING:
            pieces.append(_BREAK)
        if not name.startswith(b"/"):
            if not tag[0].endswith(b"/>") or name != b"svg":
                hidden[name] += 1
                depth += 1
        elif hidden[name[1:]]:
            hidden[name[1:]] -= 1
            depth -= 1
    else:
        if not depth:
            pieces.append(page[start:])
    return pieces


def _closed(tag: bytes) -> bool:
    """Whether a captured tag came to its `>`: if not, it would have gone on into whatever followed."""
    whole = _ANY_TAG.match(tag + b"\0")
    return whole is not None and whole.end() <= len(tag)


def _attributes(tag: str) -> dict[str, str | None]:
    """The attributes of a tag without its name; of repeated ones the first."""
    attributes: dict[str, str | None] = {}
    for name, value in _ATTRIBUTE.findall(tag):
        key = name.lower()
        if key not in attributes:
            if value[:1] in ("'", '"'):
                value = value[1:-1]
            attributes[key] = (_REFERENCE.sub(_referred, value) if "&" in value else value) or None
    return attributes


def _referred(reference: re.Match[str]) -> str:
    """A character reference inside an attribute (13.2.5.73): `&copy=1` of a query is not one, `&copy;=1` is."""
    name, equals = reference[1], reference[2]
    if name[0] == "#":
        return unescape(f"&{name}") + equals
    if name in html5 and (name[-1] == ";" or not equals):
        return html5[name] + equals
    return reference[0]


# --- the tokenizer -------------------------------------------------------------------------------------------
# One match per tag or comment; only the tags that matter are captured, the others leave an empty group, which
# costs no object. Names are spelt [aA] because re.I makes the whole search slower.

_WS = rb"\t\n\f\r "
_VALUE = rb"(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^" + _WS + rb">\"'][^" + _WS + rb">]*+)?+"
# What stands between a tag's name and its `>`. First the shape that nearly all tags have, for speed; then the
# standard's. A quote opens a value only after `=`. At the end of the page everything is closed, or the search
# would start again at the next `<` of the rest.
_REST = (
    rb"(?:(?:[" + _WS + rb"]++[a-zA-Z-]++=\"[^\"]*+\")*+[" + _WS + rb"/]*+>"
    rb"|(?:[" + _WS + rb"/]++|[^" + _WS + rb"/>][^" + _WS + rb"/>=]*+"
    rb"(?:[" + _WS + rb"]*+=[" + _WS + rb"]*+" + _VALUE + rb")?+)*+(?:>|\Z))"
)
_BOUND = rb"(?=[" + _WS + rb"/>])"
_COMMENT = rb"!--(?:-?>|[^-]*+(?:-(?!-!?>)[^-]*+)*+(?:--!?>|\Z))"


def _spelt(name: str) -> bytes:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in name).encode()


def _any(*names: str) -> bytes:
    return b"(?:" + b"|".join(map(_spelt, names)) + b")"


def _raw(name: str) -> bytes:
    """An element whose content is text up to its own end tag."""
    return _spelt(name) + _BOUND + _REST + rb"[^<]*+(?:<(?!/" + _spelt(name) + _BOUND + rb")[^<]*+)*+"


def _script() -> bytes:
    """A script: like `_raw`, but `<!-- <script> </script> -->` inside hides an end tag (13.2.5.15 to .31)."""
    tag = _spelt("script") + _BOUND
    escaped = rb"(?:[^-<]++|-(?!->)|<(?!/?" + tag + rb"))*+"
    twice = rb"(?:[^-<]++|-(?!->)|<(?!/" + tag + rb"))*+"
    hidden = rb"<!(?=--)" + escaped + rb"(?:<" + tag + twice + rb"(?:</" + tag + escaped + rb")?+)*+(?:-->)?+"
    return tag + _REST + rb"(?:[^<]++|<(?!/" + tag + rb"|!--)|" + hidden + rb")*+"


def _tokenizer(wanted: tuple[str, ...], wanted_raw: tuple[str, ...]) -> re.Pattern[bytes]:
    """What finds the tokens of a page: a tag that is wanted is captured without its first `<`."""
    raw = {
        name: _raw(name) for name in ("iframe", "noembed", "noframes", "style", "textarea", "title", "xmp")
    }
    raw["script"] = _script()
    letters = "".join(sorted({name[0] for name in (*wanted, *raw, *_CONTAINERS, "plaintext")}))
    plain_end = rb"/(?![mMsStT])[a-zA-Z0-9]++>"  # half of all tags; not those of the containers
    captured = [
        _any(*wanted) + _BOUND + _REST,
        rb"/?" + _any(*_CONTAINERS) + _BOUND + _REST,
        *(raw[name] for name in wanted_raw),
    ]
    skipped = [
        *(raw[name] for name in raw if name not in wanted_raw),
        _spelt("plaintext") + _BOUND + _REST + rb"(?s:.*+)",
    ]
    others = [
        rb"/?[a-zA-Z][^" + _WS + rb"/>]*+" + _REST,
        _COMMENT,
        rb"[!?/][^>]*+(?:>|\Z)",
    ]
    some = f"(?=[/{letters}{letters.upper()}])".encode()
    interesting = some + rb"(?:(" + rb"|".join(captured) + rb")|" + rb"|".join(skipped) + rb")"
    return re.compile(rb"<(?:" + rb"|".join([plain_end, interesting, *others]) + rb")")


def _text_tokenizer(*, names: bool = False) -> Callable[[bytes], Iterator[re.Match[bytes]]]:
    """A function from a page to all that is no text; the name of a tag that hides its content is captured, and that of
    any other where `names` are wanted."""
    name = rb"/?[a-zA-Z][^" + _WS + rb"/>]*+"
    tokens = [
        rb"(/?" + _any(*LEFT_OUT) + rb")" + _BOUND + _REST,
        *_WITHOUT_TEXT,
        (rb"(" + name + rb")" if names else name) + _REST,
        _COMMENT,
        rb"[!?/][^>]*+(?:>|\Z)",
    ]
    return re.compile(rb"<(?:" + rb"|".join(tokens) + rb")").finditer


_WITHOUT_TEXT = [_script() if name == "script" else _raw(name) for name in LEFT_OUT_RAW]
_CONTAINERS = ("math", "svg", "template")
_RAW_FOUND = frozenset({"iframe", "script", "style", "title"})
_ELEMENTS = ("a", "area", "base", "frame", "link", "meta")
_MEDIA_ELEMENTS = (
    *("audio", "embed", "feimage", "image", "img", "input", "object", "source", "track", "use", "video"),
)

_PAGE_TOKENS = _tokenizer(_ELEMENTS, ("iframe", "title"))
_TAGS = _PAGE_TOKENS.findall
"""A token that is not captured is b"" here, which costs no object."""
_ANCHOR_TAGS = _PAGE_TOKENS.finditer
_MEDIA_TAGS = _tokenizer((*_ELEMENTS, *_MEDIA_ELEMENTS), tuple(sorted(_RAW_FOUND))).findall

_ALL_TAGS = re.compile(
    rb"<(?:"
    + rb"|".join(_WITHOUT_TEXT)
    + rb"|(/?[a-zA-Z][^"
    + _WS
    + rb"/>]*+"
    + _REST
    + rb")|"
    + _COMMENT
    + rb"|[!?/][^>]*+(?:>|\Z))"
).findall
_START_TAGS = re.compile(
    rb"<(?:"
    + rb"|".join(_WITHOUT_TEXT)
    + rb"|([a-zA-Z][^"
    + _WS
    + rb"/>]*+)"
    + _REST
    + rb"|"
    + _COMMENT
    + rb"|[!?/][^>]*+(?:>|\Z))"
).finditer
_TEMPLATE = re.compile(rb"/?template" + _BOUND, re.I)
_PICTURED = re.compile(rb"url\(|background", re.I)

_HIDING: Final = tuple(name.encode() for name in LEFT_OUT)
_TEXT_TAGS = _text_tokenizer()
_READ_TAGS = _text_tokenizer(names=True)
_BREAKING: Final = frozenset(name.encode() for name in BLOCKS)
_APART: Final = frozenset(name.encode() for name in CELLS)
_BREAK: Final = BREAK.encode()

_ANY_TAG = re.compile(rb"[/a-zA-Z]++" + _REST)

# The same once more in str, for what was captured: it is closed and valid, so the last alternatives are not needed.
_NAME = re.compile(r"/?[a-zA-Z]+")
_NAME_BYTES = re.compile(rb"/?[a-zA-Z][a-zA-Z0-9]*+" + _BOUND)
_ATTRIBUTE = re.compile(
    r"([^\t\n\f\r />][^\t\n\f\r />=]*+)"
    r"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+)?+)?+"
)
_OPENING = re.compile(rf"[a-zA-Z]++(?:[\t\n\f\r /]++|{_ATTRIBUTE.pattern})*+>")
_REFERENCE = re.compile(r"&(#[0-9]++;?|#[xX][0-9a-fA-F]++;?|[A-Za-z][A-Za-z0-9]*+;?)(=?)")
