"""Which charset a page is in, and the page in UTF-8.

The order of the HTML standard (13.2.3.2): byte-order mark, charset of the Content-Type header, `<meta>` or XML
declaration in the first 1,024 bytes; then, as browsers do no better by rule, strict UTF-8, a `<meta>` further down
(where a browser meets it, it begins again: 13.2.3.5), a detector, and windows-1252 as the last resort. What is
declared is believed even where it is wrong: links and titles then come out as in a browser.

Charsets are named as in the Encoding standard, in lower case. It reads neither sockets nor the HTML tree.

Invariants: `decide` returns a name that `to_utf8` knows; neither raises for any bytes; what is UTF-8 or
ASCII already is returned as it is, without a copy.

Cost for 40 KB: declared by the header 0.2 µs, by a meta 2; strict UTF-8 3-10; the detector (on 8 KiB, seldom
reached) 0.1-0.8 ms; transcoding 50-400 µs.
"""

from __future__ import annotations

import re

import cchardet

UTF_8 = "utf-8"
FALLBACK = "windows-1252"

_PRESCAN = 1024  # bytes searched for a declaration; the standard's number
_PRESCAN_LATE = 65_536  # the same, where nothing else is known: browsers have no bound, we want one
_SAMPLE = 8192  # bytes shown to the detector, from the first one that is not ASCII: a bound on its cost

# faust-cchardet (MPL-1.1/GPL/LGPL, used as it is): 15 of 15 charsets of our texts right, 0.1-1 ms.
# chardet 7 (0BSD, but that is disputed): 15 of 15, 0.5-3 ms and 78 ms at first use. charset-normalizer (MIT):
# 13 of 15 (Turkish and Baltic taken for their neighbours), 0.4-5 ms.


def decide(body: bytes, header_charset: str | None) -> str:
    """The charset of a page; `header_charset` is the parameter of its Content-Type header, unquoted."""
    if body.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
        return UTF_8 if body[0] == 0xEF else "utf-16be" if body[0] == 0xFE else "utf-16le"
    if header_charset is not None and (named := from_label(header_charset)) is not None:
        return named
    if (declared := _declared(body[:_PRESCAN])) is not None:
        return declared
    if body.isascii():
        # An escape is what ISO-2022-JP is made of, and ASCII has no other use for it in a page.
        if b"\x1b" in body and (b"\x1b$" in body or b"\x1b(" in body):
            return "iso-2022-jp"
        return _declared_late(body) or UTF_8  # in ASCII it matters only for the queries of links
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as failure:
        cut_off = failure.start > len(body) - 4 and failure.reason == "unexpected end of data"
        if cut_off and not body[: failure.start].isascii():
            return UTF_8  # all but its last character, of which the end is missing
        return _declared_late(body) or _detected(body)
    return UTF_8


def to_utf8(body: bytes, charset: str) -> bytes:
    """The page in UTF-8 without a byte-order mark. `charset` comes from `decide`.

    What the charset cannot mean becomes U+FFFD. What is announced as UTF-8 is not checked: the parser
    replaces what is wrong where it matters.
    """
    if charset == UTF_8:
        return body[3:] if body.startswith(b"\xef\xbb\xbf") else body
    if charset not in _ESCAPED and body.isascii():
        return body
    names = _CODECS.get(charset) or (charset,)
    for name in names:
        try:
            return _encoded(body.decode(name))
        except UnicodeDecodeError:
            pass
    return _encoded(body.decode(names[0], "replace"))


def codec(charset: str) -> str:
    """Python's name for a charset, for `common.url.encode_query`."""
    if charset == "gbk":
        return "gbk"  # it is read as gb18030, but what GBK lacks is written as a reference (Encoding, 10.1.2)
    names = _CODECS.get(charset)
    return names[0] if names else charset


def from_label(label: str) -> str | None:
    """The charset that a label names by the Encoding standard; None for words that name none."""
    return _BY_LABEL.get(label) or _BY_LABEL.get(label.strip("\t\n\f\r \"'").lower())


def _encoded(text: str) -> bytes:
    return text.removeprefix("\ufeff").encode("utf-8", "replace")


def _declared(head: bytes) -> str | None:
    """The prescan of the HTML standard (13.2.3.2); then the XML declaration, which may be in UTF-16."""
    if head.startswith((b"<\0?\0x\0", b"\0<\0?\0x")):
        return "utf-16le" if head[0] else "utf-16be"
    for found in _META.finditer(head):
        if found[1] is None:  # a comment, or another tag
            continue
        attributes: dict[bytes, bytes] = {}
        for name, quoted, apostrophed, bare in _ATTRIBUTE.findall(found[1]):
            attributes.setdefault(name.lower(), quoted or apostrophed or bare)
        label = attributes.get(b"charset")
        if label is None and attributes.get(b"http-equiv", b"").lower() == b"content-type":
            content = _CONTENT_CHARSET.search(attributes.get(b"content", b""))
            label = content and (content[1] or content[2] or content[3])
        if label and (named := from_label(label.decode("latin-1"))) is not None:
            return _readable_as_ascii(named)
    if head.startswith(b"<?xml") and (xml := _XML_DECLARATION.match(head)) is not None:
        named = from_label((xml[1] or xml[2] or b"").decode("latin-1"))
        return None if named is None else _readable_as_ascii(named)
    return None


def _declared_late(body: bytes) -> str | None:
    """The first declaration beyond those that were looked for. A bytes search first: most pages hold none."""
    head = body[:_PRESCAN_LATE]
    if len(head) <= _PRESCAN or b"charset" not in head[_PRESCAN - 8 :].lower():
        return None
    return _declared(head)


def _readable_as_ascii(named: str) -> str:
    """What a declaration that was read as ASCII can mean: not UTF-16 (the standard says so)."""
    return UTF_8 if named.startswith("utf-16") else FALLBACK if named == "x-user-defined" else named


def _detected(body: bytes) -> str:
    first = _NOT_ASCII.search(body)
    start = first.start() if first else 0
    guess = cchardet.detect(body[start : start + _SAMPLE])["encoding"]
    named = from_label(guess) if guess else None
    if named == "koi8-r" and _UKRAINIAN.search(body) is not None:
        return "koi8-u"
    # What is no UTF-8 was found out already, and UTF-16 without a mark is not text that links were found in.
    return FALLBACK if named is None or named.startswith("utf") else named


_SPACE = rb"[\t\n\f\r ]"
# Names and values as the standard reads them there: a quote counts only after `=`.
_ATTRIBUTES = (
    rb"(?:[\t\n\f\r /]++|[^\t\n\f\r />][^\t\n\f\r />=]*+(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^\t\n\f\r >\"'][^\t\n\f\r >]*+)?+)?+)*+"
)
_META = re.compile(
    rb"<(?:!(?=--)(?:[^-]++|-(?!->))*+(?:-->|\Z)"
    rb"|meta(?=[\t\n\f\r /])(" + _ATTRIBUTES + rb")>"
    rb"|/?[a-z][^\t\n\f\r />]*+" + _ATTRIBUTES + rb"(?:>|\Z)"
    rb"|[!/?][^>]*+(?:>|\Z))",
    re.I,
)
_ATTRIBUTE = re.compile(
    rb"([^\t\n\f\r />=]++)" + _SPACE + rb"*+(?:=" + _SPACE + rb"*+"
    rb"(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r >]++)))?"
)
_CONTENT_CHARSET = re.compile(
    rb"charset" + _SPACE + rb"*+=" + _SPACE + rb"*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r ;\"']++))", re.I
)
_XML_DECLARATION = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")

_UKRAINIAN = re.compile(
    rb"[\xa4\xa6\xa7\xad\xb4\xb6\xb7\xbd]"
)  # in KOI8-R parts of boxes, which no page draws
_ESCAPED = frozenset({"utf-16be", "utf-16le", "iso-2022-jp", "iso-2022-kr", "hz-gb-2312"})
# Charsets in which bytes below 0x80 need not be ASCII.

# Where Python's codec of the same name is narrower than the standard's decoder, or missing. Several: the
# first that reads the whole page without an error; else the first, with replacements.
_CODECS: dict[str, tuple[str, ...]] = {
    "big5": ("big5hkscs", "cp950"),
    "euc-jp": ("euc_jp", "euc_jis_2004"),  # the second for NEC's row 13: ①, ㈱
    "euc-kr": ("cp949",),
    "gbk": ("gb18030",),
    "hz-gb-2312": ("hz",),  # the standard refuses this and iso-2022-kr for fear of scripts; we run none
    "iso-2022-jp": ("iso2022_jp_ext",),
    "iso-8859-8-i": ("iso8859_8",),
    "macintosh": ("mac_roman",),
    "shift_jis": ("cp932",),
    "windows-874": ("cp874",),
    "x-mac-cyrillic": ("mac_cyrillic",),
    "x-user-defined": ("cp1252",),
}

# https://encoding.spec.whatwg.org/#names-and-labels, and a few names that detectors and servers use.
_LABELS = {
    "utf-8": ("unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8-sig utf8 utf8mb4 utf_8 x-unicode20utf8"),
    "big5": "big5-hkscs big5hkscs cn-big5 cp950 csbig5 x-x-big5",
    "euc-jp": "cseucpkdfmtjapanese eucjp x-euc-jp",
    "euc-kr": (
        "cp949 cseuckr csksc56011987 euckr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 "
        "ksc_5601 uhc windows-949"
    ),
    "gb18030": "",
    "gbk": "chinese cp936 csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 iso-ir-58 x-gbk",
    "hz-gb-2312": "",
    "ibm866": "866 cp866 csibm866",
    "iso-2022-jp": "csiso2022jp",
    "iso-2022-kr": "csiso2022kr",
    "iso-8859-10": "csisolatin6 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso-8859-13": "iso8859-13 iso885913",
    "iso-8859-14": "iso8859-14 iso885914",
    "iso-8859-15": "csisolatin9 iso8859-15 iso885915 iso_8859-15 l9",
    "iso-8859-16": "",
    "iso-8859-2": "csisolatin2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso-8859-3": "csisolatin3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso-8859-4": "csisolatin4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso-8859-5": "csisolatincyrillic cyrillic iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988",
    "iso-8859-6": (
        "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6-e iso-8859-6-i "
        "iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987"
    ),
    "iso-8859-7": (
        "csisolatingreek ecma-118 elot_928 greek greek8 iso-ir-126 iso8859-7 iso88597 iso_8859-7 "
        "iso_8859-7:1987 sun_eu_greek"
    ),
    "iso-8859-8": (
        "csiso88598e csisolatinhebrew hebrew iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8 "
        "iso_8859-8:1988 visual"
    ),
    "iso-8859-8-i": "csiso88598i logical",
    "koi8-r": "cskoi8r koi koi8 koi8_r",
    "koi8-u": "koi8-ru",
    "macintosh": "csmacintosh mac x-mac-roman",
    "shift_jis": "cp932 csshiftjis ms932 ms_kanji shift-jis shiftjis sjis windows-31j x-sjis",
    "utf-16be": "unicodefffe",
    "utf-16le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16",
    "windows-1250": "cp1250 x-cp1250",
    "windows-1251": "cp1251 x-cp1251",
    "windows-1252": (
        "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 "
        "iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii x-cp1252"
    ),
    "windows-1253": "cp1253 x-cp1253",
    "windows-1254": (
        "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 "
        "latin5 x-cp1254"
    ),
    "windows-1255": "cp1255 x-cp1255",
    "windows-1256": "cp1256 x-cp1256",
    "windows-1257": "cp1257 x-cp1257",
    "windows-1258": "cp1258 x-cp1258",
    "windows-874": "cp874 dos-874 iso-8859-11 iso8859-11 iso885911 tis-620",
    "x-mac-cyrillic": "x-mac-ukrainian",
    "x-user-defined": "",
}

_BY_LABEL = {label: name for name, labels in _LABELS.items() for label in (name, *labels.split())}
