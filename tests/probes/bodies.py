"""What comes in bodies: charsets and content types. How to read it: registry.py."""

from __future__ import annotations

import gzip
from typing import Final
from urllib.parse import quote

from tests.probes.manifest import Log, Plan
from tests.probes.registry import CHARSET, TYPES, probe
from tests.probes.server import Answer, redirect
from tests.support.texts import TEXTS

# -- charset ---------------------------------------------------------------------------------------------


@probe(
    CHARSET,
    "BOM, header, meta prescan, then a detector; right titles and right links, tested with real text",
    finds="real texts in 25 charsets, declared by header, by meta, not at all: the title, the link in their encoding",
)
def charset(p: Plan) -> None:
    p.pace(0.0, 8)
    links: list[str] = []
    for number, text in enumerate(TEXTS):
        for name in text.charsets:
            for way in ("header", "meta", "none"):
                if way == "none" and name in ("iso-8859-15", "iso-8859-2"):
                    continue  # cannot be told from their windows relatives by a page without the bytes that differ
                target = f"/{way}/{name}/{number}"
                meta = f"<meta charset={name}>" if way == "meta" else ""
                link = f'<a href="/q?{number}-{way}={text.word}">x</a>'
                content = f"<!doctype html>{meta}<title>{text.title}</title><p>{text.paragraph}{link}"
                kind = f"text/html; charset={name}" if way == "header" else "text/html"
                body = content.encode(_PYTHON.get(name, name))
                p.put(target, Answer(200, {"Content-Type": kind}, body))
                p.find(target, title=text.title)
                raw = text.word.encode(_PYTHON.get(name, name))
                # Charsets that write a word the same way make one page of it.
                p.page(f"/q?{number}-{way}={quote(raw, safe=_IN_QUERY)}")
                links.append(target)
    for name, mark in (("utf-8-sig", b""), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        target = f"/bom/{name}"
        page = '<!doctype html><title>\u0141\u00f3d\u017a</title><a href="/q?bom=\u017a">x</a>'
        p.put(
            target, Answer(200, {"Content-Type": "text/html; charset=windows-1250"}, mark + page.encode(name))
        )
        p.find(target, title="\u0141\u00f3d\u017a")
        links.append(target)
    p.page("/q?bom=" + quote("\u017a"))
    p.seed()
    p.page("/", links)


_PYTHON: Final = {
    "gbk": "gb18030",
    "ibm866": "cp866",
    "windows-874": "cp874",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
}
_IN_QUERY: Final = "-._~!$&()*+,;=:@/?[]\\^`{|}"


# -- content types ---------------------------------------------------------------------------------------


@probe(
    TYPES,
    "HTML, XHTML, XML, text are parsed; the rest is stored",
    finds="links of HTML, of XHTML, of XML that is XHTML, of pages without a type; PDF, JSON, text as they are",
    spares="what only looks like a link in text, JSON, PDF",
)
def types(p: Plan) -> None:
    link = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head><body><a href="{}"/></body></html>'
    kinds: dict[str, tuple[str | None, bool]] = {
        "html": ("TEXT/HTML;charset=utf-8", True),
        "xhtml": ("application/xhtml+xml", True),
        "xml": ("text/xml", True),
        "untyped": (None, True),
        "octets": ("application/octet-stream", True),
        "text": ("text/plain", False),
        "json": ("application/json", False),
        "pdf": ("application/pdf", False),
    }
    p.seed()
    p.page("/", [f"/{name}" for name in kinds])
    for name, (kind, parsed) in kinds.items():
        said = {} if kind is None else {"Content-Type": kind}
        p.put(f"/{name}", Answer(200, said, link.format(f"/of-{name}").encode()))
        p.find(f"/{name}", record="response", length=len(link.format(f"/of-{name}")))
        p.page(f"/of-{name}", spared=not parsed)


_HUGE: Final = 8 << 20
"""Bytes of a body that must not be read."""


def _unread(p: Plan, kind: str) -> None:
    p.put("/huge", Answer(200, {"Content-Type": kind}, bytes(_HUGE), drips=(0.01, 1 << 16)))
    p.find("/huge", "TYPE_REJECTED", status=200, record=None, warc=None)

    def check(log: Log) -> str | None:
        sent = next(hit.sent for hit in log if hit.target == "/huge")
        return None if sent < _HUGE // 2 else f"{sent} bytes of a body that is not wanted left the server"

    p.check(check)


@probe(
    TYPES,
    "by `--reject` type rules checked before the body is read",
    crawl="switched",
    finds="a page, an image; 8 MiB of video as TYPE_REJECTED",
    spares="the video's body: most of it never leaves the server",
)
def reject(p: Plan) -> None:
    p.seed()
    p.page("/", ["/huge", "/image"])
    p.put("/image", Answer(200, {"Content-Type": "image/png"}, b"x"))
    p.find("/image")
    _unread(p, "Video/MP4; codecs=x")


@probe(
    TYPES,
    "by `--accept` type rules checked before the body is read",
    crawl="loose",
    finds="a page; an image and 8 MiB of archive as TYPE_REJECTED; errors and redirects whatever their type",
    spares="the archive's body",
)
def accept(p: Plan) -> None:
    p.seed()
    p.page("/", ["/huge", "/image", "/gone", "/moved"])
    p.put("/image", Answer(200, {"Content-Type": "image/png"}, b"x"))
    p.find("/image", "TYPE_REJECTED")
    p.find("/gone", "CLIENT_ERROR", status=404)
    p.put("/moved", redirect("/"))
    p.find("/moved", "REDIRECT")
    _unread(p, "application/zip")


@probe(
    TYPES,
    "if within limits",
    finds="what is longer than `--max-bytes`, be it once inflated: TOO_LARGE, kept as far as it came, links followed",
)
def too_large(p: Plan) -> None:
    p.seed()
    p.page("/", ["/long", "/bomb"])
    page = b'<title>t</title><a href="/early">x</a>'
    p.put("/long", Answer(200, {"Content-Type": "text/html"}, page + bytes(3 << 20), drips=(0.01, 1 << 16)))
    p.find("/long", "TOO_LARGE", reason="length", length=1 << 20, record="response")
    packed = gzip.compress(page + bytes(32 << 20))
    p.put("/bomb", Answer(200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, packed))
    p.find("/bomb", "TOO_LARGE", reason="inflated", record="response")
    p.page("/early")
