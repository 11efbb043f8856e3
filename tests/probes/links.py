"""Links: where pages lead. How to read it: registry.py."""

from __future__ import annotations

from tests.probes.manifest import Plan
from tests.probes.registry import LINKS, probe
from tests.probes.server import Answer, html


@probe(
    LINKS,
    "white space and newlines in href, entities, unquoted attributes, upper case, protocol-relative, backslashes",
    finds="every link of a page that writes them in all these ways",
    spares="what stands in comments, scripts, styles, text areas, attributes that are no links, a cut-off tag",
)
def spellings(p: Plan) -> None:
    there = p.url("/")[len("http://") : -1]
    p.seed()
    p.page(
        "/",
        body=f"""
        <a href=/unquoted>x</a> <A HREF='/single'>x</A> <a href = "/spaced"   >x</a> <a
        href
        =
        "/lines">x</a> <a href="  /blank
        ">x</a> <a href="/bro
ken/in&#10;two">x</a> <a href="/amp?a=1&amp;b=2">x</a> <a href="/bare?a=1&b=2">x</a> <a href="/copy?a=1&copy=2">x</a>
        <a href="/&#101;nt&#x69;ty">x</a> <a href="/&eacute;">x</a> <a href="//{there}/protocol">x</a>
        <a href="\\back\\slash">x</a> <a href="/first" href="/second">x</a> <a id=x href="/unclosed">x
        <area href="/area"> <svg><a xlink:href="/svg">x</a></svg> <a href="?query">x</a>
        <!-- <a href="/comment">x</a> --> <script>var x = '<a href="/script">x</a>';</script>
        <style>a {{ content: '<a href="/style">' }}</style> <textarea><a href="/textarea">x</a></textarea>
        <form action="/form"><button formaction="/button">x</button></form> <p data-href="/data" onclick="go('/click')">
        <blockquote cite="/cite">x</blockquote> <a ping="/ping" href="/pinged">x</a> <a href="/cut""",
    )
    p.pages(
        [
            "/unquoted",
            "/single",
            "/spaced",
            "/lines",
            "/blank",
            "/broken/intwo",
            "/amp?a=1&b=2",
            "/bare?a=1&b=2",
        ]
    )
    p.pages(["/copy?a=1&copy=2", "/entity", "/%C3%A9", "/protocol", "/back/slash", "/first", "/unclosed"])
    p.pages(["/area", "/svg", "/?query", "/pinged"])
    p.spare(
        "/second",
        "/comment",
        "/script",
        "/style",
        "/textarea",
        "/form",
        "/button",
        "/data",
        "/click",
        "/cite",
    )
    p.spare("/ping", "/cut")


@probe(
    LINKS,
    "`base` (relative base too)",
    finds="links of four pages, joined with the base that each names",
    spares="the same links joined with the page's own address",
)
def base(p: Plan) -> None:
    other = f"other.{p.host}"
    bases = {
        "/in/relative": ("up/", "/in/up/x1"),
        "/in/absolute": ("/abs/", "/abs/x2"),
        "/in/second": ('/one/"><base href="/two/', "/one/x3"),
        "/in/bad": ("mailto:x", "/in/x4"),
    }
    p.seed()
    p.page("/", [*bases, "/in/other"])
    for number, (target, (href, found)) in enumerate(bases.items(), start=1):
        p.page(target, head=f'<base href="{href}">', body=f'<a href="x{number}">x</a><a href="#x">x</a>')
        p.page(found)
    p.page(
        "/in/other",
        head=f'<base href="//{p.url("/b/", other)[len("http://") :]}">',
        body='<a href="x5">x</a>',
    )
    p.page("/b/x5", host=other)
    # An href that is a mere fragment is the base itself where there is one.
    for target in ("/in/up/", "/abs/", "/one/"):
        p.page(target)
    p.spare("/in/x1", "/in/x2", "/in/x3", "/in/x5", "/two/x3")


@probe(
    LINKS,
    "`srcset`/`img`/`video`/`source`/CSS only when `--media` asks",
    finds="the page that a link leads to",
    spares="everything that the page loads",
)
def media_off(p: Plan) -> None:
    _media(p, spared=True)


@probe(
    LINKS,
    "`srcset`/`img`/`video`/`source`/CSS when `--media` asks",
    crawl="switched",
    finds="everything that the page loads, and what the style sheet loads; what is rejected by type has its line",
)
def media(p: Plan) -> None:
    _media(p, spared=False)


def _media(p: Plan, *, spared: bool) -> None:
    p.seed()
    p.page(
        "/",
        ["/page"],
        head='<link rel=stylesheet href="/s.css"><link rel="shortcut icon" href="/i.ico"><script src="/s.js"></script>'
        "<style>b { background: url(/inline.png) }</style>",
        body='<img src="/i.png" srcset="/i1.png 1x, /i,2.png 2x"><picture><source srcset="/p.webp 100w"></picture>'
        '<video src="/v.mp4" poster="/v.png"><track src="/t.vtt"></video><audio><source src="/a.ogg"></audio>'
        '<p style="background: url(\'/attr.png\')"><embed src="/e.swf"><object data="/o.svg"></object>'
        '<input type=image src="/in.png"><input type=text src="/not.png">',
    )
    p.page("/page")
    kinds = {
        "css": "text/css",
        "js": "text/javascript",
        "mp4": "video/mp4",
        "png": "image/png",
        "svg": "image/svg+xml",
    }
    loaded = [
        "/s.css",
        "/i.ico",
        "/s.js",
        "/inline.png",
        "/i.png",
        "/i1.png",
        "/i,2.png",
        "/p.webp",
        "/v.mp4",
    ]
    loaded += ["/v.png", "/t.vtt", "/a.ogg", "/attr.png", "/e.swf", "/o.svg", "/in.png", "/of-css.png"]
    for target in loaded:
        body = b"@import '/not-css.txt'; p { background: url(/of-css.png) }" if target == "/s.css" else b"x"
        p.put(target, Answer(200, {"Content-Type": kinds.get(target.rpartition(".")[2], "image/x")}, body))
        if spared:
            p.spare(target)
        else:
            p.find(target, "TYPE_REJECTED" if target == "/v.mp4" else "OK")
    p.put("/not-css.txt", Answer(200, {"Content-Type": "text/plain"}, b"x"))
    if spared:
        p.spare("/not-css.txt")
    else:
        p.find("/not-css.txt")
    p.spare("/not.png")


@probe(
    LINKS,
    "`noscript`, `template`; links in `Link:` headers; frames; canonical and hreflang alternates; meta refresh",
    finds="what these lead to",
    spares="what stands in `template`; style sheets, preloads and other rel of `Link:`",
)
def places(p: Plan) -> None:
    p.seed()
    link = ", ".join(
        [
            "</h/next>; rel=next",
            '</h/alt>; rel="alternate"; hreflang=de',
            "</h/style>; rel=stylesheet",
            "</h/pre>; rel=preload",
        ]
    )
    p.page(
        "/",
        head='<link rel=canonical href="/canonical"><link rel=alternate hreflang=fr href="/fr">'
        '<link rel="alternate stylesheet" href="/alt.css"><link rel=next href="/next"><link rel=author href="/author">'
        "<meta http-equiv=refresh content=\"3; URL='/refreshed'\">"
        '<link rel=alternate type="application/rss+xml" href="/rss">',
        body='<noscript><a href="/noscript">x</a></noscript><template><a href="/template">x</a></template>'
        '<iframe src="/iframe" srcdoc="&lt;a href=/srcdoc&gt;x&lt;/a&gt;"></iframe>',
        headers={"Link": link},
    )
    p.pages(
        ["/canonical", "/fr", "/next", "/refreshed", "/noscript", "/iframe", "/srcdoc", "/h/next", "/h/alt"]
    )
    p.put(
        "/rss",
        Answer(
            200,
            {"Content-Type": "application/rss+xml"},
            b"<rss><channel><link>/of-rss</link></channel></rss>",
        ),
    )
    p.find("/rss")
    p.page("/of-rss", ["/frames"])
    p.put(
        "/frames", html('<title>f</title><frameset cols="1,2"><frame src="/f1"><frame src="/f2"></frameset>')
    )
    p.find("/frames")
    p.pages(["/f1", "/f2"])
    p.spare("/template", "/alt.css", "/author", "/h/style", "/h/pre")


@probe(
    LINKS,
    "broken and deeply nested HTML; pages of megabytes in bounded time",
    finds="the links of a page without any structure, of one nested 50,000 deep, of one just under `--max-bytes`",
)
def broken(p: Plan) -> None:
    p.seed()
    p.page("/", ["/soup", "/deep", "/large"])
    p.put(
        "/soup",
        html(
            '</p><b><i></b><a href="/1"><table><a href="/2"><tr></a><div<p><a href="/3"></html><a href="/4">'
        ),
    )
    p.put("/deep", html("<div><b><font>" * 50_000 + '<a href="/5">x</a>'))
    filler = "<p>Words and <i>more</i> words, for as long as it takes.</p>\n"
    p.put("/large", html('<a href="/6">x</a>' + filler * (1_000_000 // len(filler)) + '<a href="/7">x</a>'))
    for target in ("/soup", "/deep", "/large"):
        p.find(target)
    p.pages([f"/{number}" for number in range(1, 8)])
