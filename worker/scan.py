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

from worker.text import LEFT_OUT, LEFT_OUT_RAW, MAX_TEXT

Element = tuple[str, dict[str, str | None]]
"""The name of a tag, lower case, and its attributes: None for an empty or missing value, as in Lexbor."""

TEXT = "\0text"
"""The key under which a `title` has its text, among its attributes; no attribute can have this name."""


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


def text(page: bytes) -> str:
    """The text of a page by the rules of worker/text.py, of at most MAX_TEXT characters; the page is in UTF-8."""
    pieces: list[bytes] = []
    size = start = 0
    hidden = dict.fromkeys(_HIDING, 0)
    depth = 0  # of all elements that hide their content
    for tag in _TEXT_TAGS(page):
        if not depth and tag.start() > start:
            pieces.append(page[start : tag.start()])
            size += tag.start() - start
            if size > 4 * MAX_TEXT:
                break
        start = tag.end()
        if tag[1] is None:
            continue
        name = tag[1].lower()
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
    whole = b" ".join(piece for piece in pieces if not piece.isspace())
    return unescape(whole.decode("utf-8", "replace"))[:MAX_TEXT]


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


def _tokenizer(wanted: tuple[str, ...], wanted_raw: tuple[str, ...]) -> Callable[[bytes], list[bytes]]:
    """A function from a page to its tokens: a tag that is wanted as its text without the first `<`, else b""."""
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
    return re.compile(rb"<(?:" + rb"|".join([plain_end, interesting, *others]) + rb")").findall


def _text_tokenizer() -> Callable[[bytes], Iterator[re.Match[bytes]]]:
    """A function from a page to all that is no text; the name of a tag that hides its content is captured."""
    tokens = [
        rb"(/?" + _any(*LEFT_OUT) + rb")" + _BOUND + _REST,
        *_WITHOUT_TEXT,
        rb"/?[a-zA-Z][^" + _WS + rb"/>]*+" + _REST,
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

_TAGS = _tokenizer(_ELEMENTS, ("iframe", "title"))
_MEDIA_TAGS = _tokenizer((*_ELEMENTS, *_MEDIA_ELEMENTS), tuple(sorted(_RAW_FOUND)))

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
_TEMPLATE = re.compile(rb"/?template" + _BOUND, re.I)
_PICTURED = re.compile(rb"url\(|background", re.I)

_HIDING: Final = tuple(name.encode() for name in LEFT_OUT)
_TEXT_TAGS = _text_tokenizer()

_ANY_TAG = re.compile(rb"[/a-zA-Z]++" + _REST)

# The same once more in str, for what was captured: it is closed and valid, so the last alternatives are not needed.
_NAME = re.compile(r"/?[a-zA-Z]+")
_ATTRIBUTE = re.compile(
    r"([^\t\n\f\r />][^\t\n\f\r />=]*+)"
    r"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+)?+)?+"
)
_OPENING = re.compile(rf"[a-zA-Z]++(?:[\t\n\f\r /]++|{_ATTRIBUTE.pattern})*+>")
_REFERENCE = re.compile(r"&(#[0-9]++;?|#[xX][0-9a-fA-F]++;?|[A-Za-z][A-Za-z0-9]*+;?)(=?)")
