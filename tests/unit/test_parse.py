"""What is found in a page, broken ones included; the tree and the scanner find the same."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.directives import robots_header
from worker.hrefs import link_header_targets, refresh_target
from worker.loads import css_urls, srcset_urls
from worker.markup import parseable
from worker.parse import MAX_PARSED, MAX_TITLE, clean_title, parse_html
from worker.text import MAX_TEXT
from worker.treesafe import tree_is_safe

both_ways = pytest.mark.parametrize("by_tree", [True, False], ids=["tree", "scan"])


@both_ways
@pytest.mark.parametrize(
    ("page", "hrefs"),
    [
        ('<a href="/x">x</a>', ["/x"]),
        ("<A HREF='/x'>x</A>", ["/x"]),
        ("<a href=/x>x</a>", ["/x"]),
        ("<a href=/x/>x</a>", ["/x/"]),
        ("<a href = '/x' >x</a>", ["/x"]),
        ("<a\nclass=q\thref\n=\n/x\n>x", ["/x"]),
        ("<a class='q'href='/x'>", ["/x"]),
        ("<a / href=/x>", ["/x"]),
        ("<a href=/x href=/y>", ["/x"]),
        ("<a href='  /x\n'>", ["  /x\n"]),  # canonical() strips it
        ('<a href="/a?b=1&amp;c=2">', ["/a?b=1&c=2"]),
        ('<a href="/a?b=1&copy=2&lt=3&amp=4">', ["/a?b=1&copy=2&lt=3&amp=4"]),
        ('<a href="/&eacute;&#233;&#xe9;&eacute">', ["/éééé"]),
        ("<a href=//b.test/x>", ["//b.test/x"]),
        ("<a href=\\x\\y>", ["\\x\\y"]),
        ("<a href=?q=1>", ["?q=1"]),
        ('<a href=/x?a="b>c</a>', ['/x?a="b']),
        ("<a href=''><a href><a href='#top'><a name=x>", []),
        ("<a href=/x#1><a href=/x#2><a href=/x>", ["/x"]),
        ("<area href=/x><iframe src=/y></iframe>", ["/x", "/y"]),
        ("<frameset><frame src=/x><frame src=/y></frameset>", ["/x", "/y"]),
        (
            "<link rel=canonical href=/x><link rel='NEXT nofollow' href=/y><link rel=prev href=/z>",
            ["/x", "/y", "/z"],
        ),
        ("<link rel=alternate hreflang=de href=/de><link rel='alternate stylesheet' href=/s.css>", ["/de"]),
        ("<link rel=stylesheet href=/s.css><link href=/q>", []),
        ("<meta http-equiv=Refresh content='3; URL=/x'>", ["/x"]),
        ("<body><p><meta http-equiv=refresh content='0;url=/x'>", ["/x"]),
        ("<noscript><a href=/x></noscript>", ["/x"]),
        ("<head><noscript><img src=i><a href=/x></noscript></head>", ["/x"]),
        ("<template><a href=/x></template><a href=/y>", ["/y"]),
        ("<template><template></template><a href=/x></template><a href=/y>", ["/y"]),
        ("<!-- <a href=/x> --><a href=/y>", ["/y"]),
        ("<!--> <a href=/x> --> <!---> <a href=/y>", ["/x", "/y"]),
        ("<!-- --!> <a href=/x>", ["/x"]),
        ("<!doctype html><?php echo '<a href=/z>' ?><a href=/x>", ["/x"]),
        ("<script>x = '<a href=/x>'</script><a href=/y>", ["/y"]),
        ("<SCRIPT>'</scripty>'; '<a href=/x>'</Script ><a href=/y>", ["/y"]),
        ("<script><!-- <script> </script> '<a href=/x>' --></script><a href=/y>", ["/y"]),
        ("<script><!--> '<a href=/x>'</script><a href=/y>", ["/y"]),
        (
            "<style><a href=/x></style><textarea><a href=/x></textarea><title><a href=/x></title><a href=/y>",
            ["/y"],
        ),
        ("<xmp><a href=/x></xmp><iframe><a href=/x></iframe><a href=/y>", ["/y"]),
        ("<p title='<a href=/x>'><a href=/y>", ["/y"]),
        ("<p title=a'b><a href=/y>it's</a>", ["/y"]),
        ("<p it's><a href=/y>it's</a>", ["/y"]),
        ("<p <a href=/x>><a href=/y>", ["/y"]),
        ("< a href=/x><a href=/y>", ["/y"]),
        ("</a href=/x></p title='>'><a href=/y>", ["/y"]),
        ("<svg><a href=/x><path/></a></svg><a href=/y>", ["/x", "/y"]),
        ("<svg><a xlink:href=/x></a><a href=/y xlink:href=/z></a></svg><a name=q>", ["/x", "/y"]),
        (
            "<iframe srcdoc='<a href=/x?a&amp;amp;b>&lt;a href=/y&gt;' src=/z></iframe>",
            ["/z", "/x?a&b", "/y"],
        ),
        ("<iframe srcdoc='<iframe srcdoc=\"<a href=/x>\" src=/y></iframe>'></iframe>", ["/y"]),
        ("<form action=/x><input name=q><button formaction=/y></form><a ping=/z href=/w>", ["/w"]),
        ("<blockquote cite=/x><img longdesc=/y><a data-href=/z><a onclick=\"location='/w'\">", []),
        ("<link rel=Previous href=/x><link rel=amphtml href=/y><link rel=search href=/z>", ["/x"]),
        (
            "<a href=JavaScript:x()><a href='java\nscript:y()'>",
            ["JavaScript:x()", "java\nscript:y()"],
        ),  # refused
        ("<a href=/x><a href=/X><a href='/x '>", ["/x", "/X", "/x "]),
        ("<meta http-equiv=refresh content='0;url=&#x2f;x'><meta http-equiv=refresh content=5>", ["/x"]),
        ("<meta name=refresh content='0;url=/x'><template><meta http-equiv=refresh content='0;url=/y'>", []),
        ("<p><a href=/x><p><a href=/y></b></i><a href=/z", ["/x", "/y"]),
        ("<a href=/y><a href=/x", ["/y"]),
        ("<a href=/y><a href='/x>", ["/y"]),
        ("<a href=/y><", ["/y"]),
        ("<table><a href=/x><tr><td><a href=/y></table>", ["/x", "/y"]),
        ("<plaintext><a href=/x>", []),
        ("<a href=/\0x>", ["/\ufffdx"]),
    ],
)
def test_links(page: str, hrefs: list[str], by_tree: bool) -> None:
    assert parse_html(page.encode(), by_tree=by_tree).hrefs == hrefs


@both_ways
@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<title>Plain</title>", "Plain"),
        ("<TITLE lang=en>\n  Two\t lines \n</TITLE>", "Two lines"),
        ("<title>a &amp; b &lt;i&gt; &eacute;&#8212;</title>", "a & b <i> é—"),
        ("<title><b>not markup</b></title>", "<b>not markup</b>"),
        ("<title>first</title><title>second</title>", "first"),
        ("<body><svg><title>icon</title></svg><title>late</title>", "late"),
        ("<body><svg><g><title>icon</title></g></svg>", None),
        ("<title></title>", None),
        ("<title> \n </title>", None),
        ("<p>none", None),
        ("<title>never closed <a href=/x>", "never closed <a href=/x>"),
    ],
)
def test_titles(page: str, title: str | None, by_tree: bool) -> None:
    assert parse_html(page.encode(), by_tree=by_tree).title == title


def test_a_title_is_one_line_without_controls_and_bounded() -> None:
    assert clean_title("a\x00b\x1b[31m\u202ec\u00a0 \u2028d") == "ab[31mc d"
    assert clean_title(" " * 10_000 + "x" * 600) == "x" * MAX_TITLE
    assert clean_title("नमस्ते \u200d 日本") == "नमस्ते \u200d 日本"
    assert clean_title("\x07") is None


@both_ways
def test_the_first_base_with_an_href_is_the_base(by_tree: bool) -> None:
    page = b"<base target=_top><base href='sub/?a&amp;b'><base href=/other/><a href=x>"
    assert parse_html(page, by_tree=by_tree).base_href == "sub/?a&b"


@both_ways
@pytest.mark.parametrize(
    ("page", "base", "hrefs"),
    [
        ("<base href=''><base href=/b/><a href=x>", "", ["x"]),  # the first one counts, and means this page
        ("<base href=/b/><a href=''>", "/b/", [""]),
        ("<base href=/b/><a href>", "/b/", [""]),
        ("<base href=/b/><a href='#top'>", "/b/", [""]),
        ("<base href=''><a href='#top'>", "", []),
        ("<a href=x><base href=b/>", "b/", ["x"]),  # wherever it stands
        ("<body><p><base href=//cdn.test>", "//cdn.test", []),
        ("<template><base href=/no/></template><!-- <base href=/no/> --><base href=/b/>", "/b/", []),
    ],
)
def test_what_counts_as_base(page: str, base: str, hrefs: list[str], by_tree: bool) -> None:
    parsed = parse_html(page.encode(), by_tree=by_tree)
    assert (parsed.base_href, parsed.hrefs) == (base, hrefs)


@both_ways
@pytest.mark.parametrize(
    ("content", "noindex", "nofollow"),
    [
        ("<meta name=robots content=noindex>", True, False),
        ("<meta name=ROBOTS content='Index, NoFollow'>", False, True),
        ("<meta content=none name=robots>", True, True),
        ("<meta name=robots content='max-snippet:20'><meta name=shoal content=nofollow>", False, True),
        ("<meta name=otherbot content=none>", False, False),
        ("<meta name=description content=noindex>", False, False),
    ],
)
def test_meta_robots_for_everybody_and_for_us(
    content: str, noindex: bool, nofollow: bool, by_tree: bool
) -> None:
    parsed = parse_html(content.encode(), robots_token="Shoal", by_tree=by_tree)
    assert (parsed.noindex, parsed.nofollow) == (noindex, nofollow)


@both_ways
def test_links_marked_nofollow_are_followed_unless_told_otherwise(by_tree: bool) -> None:
    page = b"<a href=/x rel='external NOFOLLOW'><a href=/y rel=me>"
    assert parse_html(page, by_tree=by_tree).hrefs == ["/x", "/y"]
    assert parse_html(page, by_tree=by_tree, follow_nofollow_links=False).hrefs == ["/y"]


@both_ways
def test_what_a_page_loads_is_found_only_when_asked_for(by_tree: bool) -> None:
    page = b"""<link rel="shortcut icon" href=/i.ico><link rel=stylesheet href=/s.css><style>
        @import "t.css"; b { background: url( 'u.png' ) } /* url(no.png) */</style>
        <img src=/a.png srcset="/b.png 1x, /c,d.png 2x"><picture><source srcset=/e.png></picture>
        <video src=/f.mp4 poster=/g.png><track src=/h.vtt></video><audio src=/j.ogg></audio>
        <script src=/k.js>'<img src=/no.png>'</script><input type=image src=/l.png><input src=/no.png>
        <object data=/m.pdf></object><embed src=/n.pdf><img src="data:image/png;base64,xx"><a href=/page>"""
    assert parse_html(page, by_tree=by_tree).resources == []
    parsed = parse_html(page, media=True, by_tree=by_tree)
    assert parsed.hrefs == ["/page"]
    names = "a.png b.png c,d.png e.png f.mp4 g.png h.vtt i.ico j.ogg k.js l.png m.pdf n.pdf s.css"
    assert set(parsed.resources) == {"t.css", "u.png"} | {f"/{name}" for name in names.split()}


@both_ways
@pytest.mark.parametrize(
    ("page", "resources"),
    [
        ("<p style='background: url(/a.png) no-repeat'>", ["/a.png"]),
        ("<div style=\"background-image:url('/a.png'),url(&quot;/b.png&quot;)\">", ["/a.png", "/b.png"]),
        ("<body background=/a.png><table><tr><td background=/b.png></table>", ["/a.png", "/b.png"]),
        ("<template><p style='background:url(/a.png)'></template>", []),
        ("<script>'<p style=\"background:url(/a.png)\">'</script><!-- <p style='x:url(/b)'> -->", []),
        (
            "<svg><image href=/a.png /><image xlink:href=/b.png /><use href='/c.svg#d'/></svg>",
            ["/a.png", "/b.png", "/c.svg"],
        ),
        ("<link rel=preload as=image imagesrcset='/a.png 1x, /b.png 2x'>", ["/a.png", "/b.png"]),
        ("<link rel='apple-touch-icon' href=/a.png><link rel=manifest href=/b.json>", ["/a.png", "/b.json"]),
        (
            "<picture><source srcset='/a.webp 1x,/b.webp 2x'><img src=/c.png></picture>",
            ["/a.webp", "/b.webp", "/c.png"],
        ),
        ("<input type=' Image ' src=/a.png><input type=text src=/no.png>", ["/a.png"]),
        ("<iframe srcdoc='<img src=/a.png>'></iframe>", ["/a.png"]),
        ("<img src=' /a.png#x'><img src='#y'><img src=DATA:image/png;base64,xx>", ["/a.png"]),
    ],
)
def test_every_kind_of_file_that_a_page_loads(page: str, resources: list[str], by_tree: bool) -> None:
    assert parse_html(page.encode(), by_tree=by_tree).resources == []
    assert sorted(parse_html(page.encode(), media=True, by_tree=by_tree).resources) == resources


@both_ways
def test_the_text_is_what_a_reader_came_for(by_tree: bool) -> None:
    page = """<title>No</title><script>no()</script><style>no {}</style><nav>no <b>no</b></nav><h1>Yes</h1>
        <p>one<br>two <b>three</b>&amp;<!-- no -->four</p><noscript>five</noscript><template>no</template>
        <aside>no</aside><svg><title>no</title><text>no</text></svg><textarea>no</textarea><iframe>no</iframe>
        <table><tr><td>six<td>seven</table> 5 &lt; 6 <footer>no <nav>no</nav> no</footer>eight"""
    expected = "Yes one two three & four five six seven 5 < 6 eight"
    parsed = parse_html(page.encode(), text=True, by_tree=by_tree)
    assert parsed.text is not None
    assert parsed.text.split() == expected.split()
    assert parse_html(page.encode(), by_tree=by_tree).text is None


@both_ways
def test_asking_for_the_text_changes_nothing_else(by_tree: bool) -> None:
    page = b"<title>t</title><nav><a href=/x></nav><base href=/b><svg><a href=/y></a></svg><img src=/i>"
    with_text = parse_html(page, media=True, text=True, by_tree=by_tree)
    assert with_text.text == ""
    assert replace(with_text, text=None) == parse_html(page, media=True, by_tree=by_tree)


@both_ways
def test_a_page_without_a_body_has_no_text(by_tree: bool) -> None:
    assert parse_html(b"<frameset><frame src=/x></frameset>", text=True, by_tree=by_tree).text == ""
    assert parse_html(b"", text=True, by_tree=by_tree).text == ""


def test_a_long_text_is_cut_off() -> None:
    page = b"<p>word " * (MAX_PARSED // 8)
    for by_tree in (True, False):
        text = parse_html(
            page[:6_000_000] if not by_tree else b"x " * MAX_TEXT, text=True, by_tree=by_tree
        ).text
        assert text is not None
        assert len(text) <= MAX_TEXT


@both_ways
def test_elements_that_close_themselves_do_so_in_xhtml(by_tree: bool) -> None:
    page = b"<html><head><title/><script src='a>.js'/></head><body><a href=/x></a></body></html>"
    assert parse_html(page, markup="xhtml", by_tree=by_tree).hrefs == ["/x"]
    assert parse_html(page, markup="html", by_tree=by_tree).hrefs == []


PIECES = [
    *("<", ">", "/", "=", '"', "'", " ", "\n", "!", "--", "a", "href", "&amp;", "&copy", "é", "x"),
    *(
        "<a href=/1>",
        '<a href="/2">',
        "<a href='/3",
        "<p title=",
        "</p>",
        "<!--",
        "-->",
        "</a>",
        "<div>",
        "</div>",
    ),
    *("<title>", "</title>", "<script>", "</script>", "<style>", "</style>", "<textarea>", "</textarea>"),
    *("<link rel=next href=/4>", "<base href=/5/>", "<meta name=robots content=noindex>", "<b>", "</b>"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_the_scanner_finds_what_stands_in_the_tree(pieces: list[str]) -> None:
    page = "".join(pieces).encode()
    assert parse_html(page, by_tree=False) == parse_html(page, by_tree=True)


@given(
    st.lists(
        st.sampled_from([*PIECES, "<nav>", "</nav>", "<svg>", "</svg>", "a&lt;b", "<iframe>", "</iframe>"]),
        max_size=30,
    )
)
def test_the_scanner_never_raises_for_the_text(pieces: list[str]) -> None:
    text = parse_html("".join(pieces).encode(), by_tree=False, text=True).text
    assert text is not None


@both_ways
@given(page=st.binary(max_size=500), media=st.booleans())
def test_nothing_raises_for_any_bytes(by_tree: bool, page: bytes, media: bool) -> None:
    parse_html(page, media=media, markup="xhtml", text=media, by_tree=by_tree)


def ordinary(size: int) -> bytes:
    rng = random.Random(size)
    paragraph = '<div class="c"><h3><a href="/p/{}">one</a></h3><p class="t">{}</p></div>\n'
    pages = [paragraph.format(number, "some words " * rng.randrange(20, 80)) for number in range(size // 600)]
    return f"<title>Ordinary</title>{''.join(pages)}".encode()


@pytest.mark.parametrize("size", [3_000, 30_000, 60_000, 200_000])
def test_an_ordinary_page_is_read_by_its_tree(size: int) -> None:
    assert tree_is_safe(ordinary(size))


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "deep": lambda n: b"<div>" * (n // 5),
    "deep and closed": lambda n: b"<div>" * (n // 9) + b"</p>" * (n // 9),
    "lists": lambda n: b"<ul><li>" * (n // 8),
    "formatting": lambda n: b"".join(b"<p><font a%d>" % number for number in range(n // 14)),
    "misnested": lambda n: b"<b><div>" * (n // 12) + b"</b>" * (n // 12),
    "attributes": lambda n: b"<a " + b" ".join(b"a%d" % number for number in range(n // 7)) + b" href=/x>",
    "open tags": lambda n: b"<a href=" * (n // 8),
    "open quotes": lambda n: b'<a href="' * (n // 9),
    "open comments": lambda n: b"<!-- -- " * (n // 8),
    "open scripts": lambda n: b"<script><!--<script>" * (n // 20),
    "less than": lambda n: b"<" * n,
    "references": lambda n: b"<a href='" + b"&#1;&a" * (n // 6) + b"'>",
    "equals": lambda n: b"<a ==" + b"= " * (n // 2),
    "xhtml": lambda n: b"<script '" * (n // 9),
    "refresh": lambda n: b"<meta http-equiv=refresh content='0" + b" " * n + b"'>",
    "link": lambda n: b"<a href=/x>" * (n // 11),
    "styles": lambda n: b"<p style='x:url(" * (n // 16),
    "srcdoc": lambda n: b"<iframe srcdoc='" + b"<iframe srcdoc=" * (n // 15) + b"'>",
    "srcdocs": lambda n: b"<iframe srcdoc='<a href=/x>'></iframe>" * (n // 38),
    "navigation": lambda n: b"<nav>text" * (n // 9),
}


@pytest.mark.parametrize("page", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_page_takes_time_linear_in_its_size(page: Callable[[int], bytes]) -> None:
    # A tree of these takes from seconds to hours, and gigabytes. The bounds leave a slow machine much room.
    for size in (60_000, 1_000_000):
        octets = page(size)
        start = time.process_time()
        parse_html(octets, media=True, markup="xhtml", text=True)
        assert time.process_time() - start < 4


def test_a_page_is_read_up_to_a_bound() -> None:
    page = b"<a href=/x>" + b" " * MAX_PARSED + b"<a href=/y>"
    assert parse_html(page).hrefs == ["/x"]
    cut = b"<a href=/x>".ljust(MAX_PARSED - 9) + b"<a href=/yes"
    assert parse_html(cut).hrefs == ["/x"]


@pytest.mark.parametrize(
    ("media_type", "body", "markup"),
    [
        ("text/html", b"", "html"),
        ("application/xhtml+xml", b"", "xhtml"),
        ("text/plain", b"<html>", None),
        ("application/pdf", b"<html>", None),
        ("text/xml", b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', "xhtml"),
        ("application/xml", b"<rss/>", None),
        ("application/xml", b'<?xml version="1.0"?><rss version="2.0">', "feed"),
        ("text/xml", b"<feed xmlns='http://www.w3.org/2005/Atom'>", "feed"),
        ("text/xml", b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
        (None, b" \n<!doctype HTML><p>", "html"),
        (None, b"\xef\xbb\xbf<!-- x --><html >", "html"),
        (None, b'<?xml version="1.0"?><html>', "xhtml"),
        (None, b"%PDF-1.4", None),
        (None, b"<article>", None),
        (None, b"<!--" + b"-" * 2000, None),
        ("application/octet-stream", b"<html>", "html"),
    ],
)
def test_what_is_parsed(media_type: str | None, body: bytes, markup: str | None) -> None:
    assert parseable(media_type, body) == markup


@pytest.mark.parametrize(
    ("media_type", "media", "text", "markup"),
    [
        ("text/css", False, True, None),
        ("text/css", True, False, "css"),
        ("text/plain", True, False, None),
        ("text/plain", False, True, "text"),
        ("application/rss+xml", False, False, "feed"),
        ("application/json", True, True, None),
    ],
)
def test_some_types_are_parsed_only_for_what_was_asked(
    media_type: str, media: bool, text: bool, markup: str | None
) -> None:
    assert parseable(media_type, b"x", media=media, text=text) == markup


def test_a_style_sheet_leads_to_what_it_loads() -> None:
    parsed = parse_html(b"@import 'b.css'; p { background: url(c.png) }", markup="css", media=True)
    assert (parsed.hrefs, parsed.resources) == ([], ["b.css", "c.png"])


def test_plain_text_has_text_and_nothing_else() -> None:
    parsed = parse_html("<a href=/x>né".encode(), markup="text", text=True)
    assert (parsed.hrefs, parsed.title, parsed.text) == ([], None, "<a href=/x>né")


RSS = """<?xml version="1.0"?><?xml-stylesheet href="/s.css" type="text/css"?>
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom" xml:base="http://a.test/b/"><channel>
<title>News &amp; more</title><link>http://a.test/</link><atom:link href="/feed?page=2" rel="next"/>
<atom:link href="/feed" rel="self"/>
<!-- <link>http://a.test/no</link> --><image><title>Logo</title><link>http://a.test/</link></image>
<item><title><![CDATA[One <b>]]></title><link><![CDATA[http://a.test/1?a&b]]></link><guid>http://a.test/no</guid>
<description><![CDATA[<link>no</link> <a href="/no">]]></description><enclosure url="/1.mp3" type="audio/mpeg"/></item>
<item><link> http://a.test/2?a=1&amp;b=2
</link><media:title>no</media:title><comments>http://a.test/no</comments></item></channel></rss>"""

ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title type="html">A &lt;b&gt;</title>
<link href="/" /><link rel='self' href='/f'/><entry><title>x</title><link rel="alternate" href="/1#c"/>
<link rel="enclosure" href="/1.ogg"/><link rel="replies" href="/no"/></entry></feed>"""


def test_feeds_lead_to_their_entries() -> None:
    rss = parse_html(RSS.encode(), markup="feed", media=True)
    assert rss.hrefs == ["http://a.test/", "/feed?page=2", "http://a.test/1?a&b", "http://a.test/2?a=1&b=2"]
    assert (rss.title, rss.base_href) == ("News & more", "http://a.test/b/")
    assert rss.resources == ["/s.css", "/1.mp3"]
    atom = parse_html(ATOM.encode(), markup="feed")
    assert (atom.title, atom.hrefs, atom.resources) == ("A <b>", ["/", "/1"], [])


@given(
    st.lists(
        st.sampled_from([*RSS.split("<"), "<", ">", "<![CDATA[", "]]>", "<!--", "-->", "<link>"]), max_size=30
    )
)
def test_no_feed_makes_the_parser_raise(pieces: list[str]) -> None:
    parse_html("".join(pieces).encode(), markup="feed", media=True)


@pytest.mark.parametrize(
    "page",
    [
        b"<link>",
        b"<link ",
        b"<title><![CDATA[",
        b"<!--",
        b"<link x='",
        b"<![CDATA[",
        b"<feed xml:base=",
        b"]",
    ],
)
def test_a_hostile_feed_takes_time_linear_in_its_size(page: bytes) -> None:
    start = time.process_time()
    parse_html(page * (1_000_000 // len(page)), markup="feed", media=True)
    assert time.process_time() - start < 4


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("0;url=/x", "/x"),
        ("5; URL = '/x' ignored", "/x"),
        ('0;url="/x', "/x"),
        ("0,/x", "/x"),
        ("3 /x", "/x"),
        (".5; url=/x", "/x"),
        ("1.5;/x?url=y", "/x?url=y"),
        ("0;url=/a b ", "/a b"),
        ("0", None),
        ("5;", None),
        ("0;url=", None),
        ("url=/x", None),
        ("x;url=/x", None),
        ("5x;url=/x", None),
        ("0;url /x", "url /x"),
        ("0;urlx", "urlx"),
        ("0 ; \n URL\t=\n'/x'", "/x"),
        ("0;url='/x\"y", '/x"y'),
        ("0;;url=/x", ";url=/x"),
        ("-1;url=/x", None),
        ("", None),
    ],
)
def test_refresh(content: str, target: str | None) -> None:
    assert refresh_target(content) == target


def test_a_header_of_brackets_alone_is_looked_at_once() -> None:
    """Looked at from each of them to the end it would take minutes."""
    assert link_header_targets(["<" * 65_536] * 100) == []


def test_link_headers() -> None:
    values = [
        '</next>; rel="next"; title="a, <b>; c", <b?x,y#z>;rel=prev',
        "</c> ; REL = 'Canonical', </d>; rel=\"x alternate\"; hreflang=de",
        '</s.css>; rel=preload; as=style, </e>; title="rel=next"',
        '</broken>; rel=next; title="open',
        "nonsense <",
    ]
    assert link_header_targets(values) == ["/next", "b?x,y", "/d", "/broken"]
    assert link_header_targets(values, media=True) == ["/next", "b?x,y", "/d", "/s.css", "/broken"]
    assert (
        link_header_targets(["</s.css>; rel='alternate stylesheet', </t.css>; rel=\"alternate stylesheet\""])
        == []
    )


def test_robots_headers() -> None:
    assert robots_header(["noindex, nofollow"], "shoal") == (True, True)
    assert robots_header(["otherbot: noindex, nofollow"], "shoal") == (False, False)
    assert robots_header(["otherbot: noindex, Shoal: nofollow"], "shoal") == (False, True)
    assert robots_header(["unavailable_after: 25 Jun 2030 15:00:00 PST, noindex"], "shoal") == (True, False)
    assert robots_header(["googlebot: none", "none"], "shoal") == (True, True)
    assert robots_header([], "shoal") == (False, False)


def test_srcset() -> None:
    assert srcset_urls(" a.png , b.png 2x,c,d.png 1.5x, e.png, ,f.png (x, y) 3x,") == [
        "a.png",
        "b.png",
        "c,d.png",
        "e.png",
        "f.png",
    ]
    assert srcset_urls(",") == []


def test_css() -> None:
    sheet = """@import url(a.css); @import 'b.css' screen; x { y: URL("c.png") , url( d.png ) }
        /* url(e.png) */ z { q: url(data:image/png;base64,xx) url(f.svg#g) url() }"""
    assert css_urls(sheet) == ["a.css", "b.css", "c.png", "d.png", "f.svg"]
    assert css_urls("@import'a.css';@IMPORT\turl('b.css');p{x:url(/c;d=1.png)}") == [
        "a.css",
        "b.css",
        "/c;d=1.png",
    ]
    assert css_urls(
        r"url(a\ b\).png) url('\27 c\2f d') url(\0) url('e\
f')"
    ) == ["a b).png", "'c/d", "\ufffd", "ef"]


@given(st.text())
def test_no_text_makes_the_small_parsers_raise(text: str) -> None:
    refresh_target(text)
    link_header_targets([text])
    robots_header([text], "shoal")
    srcset_urls(text)
    css_urls(text)
    clean_title(text)


def test_no_text_makes_the_small_parsers_slow() -> None:
    start = time.process_time()
    for text in (
        "(" * 50_000,
        ", " * 50_000,
        '<a>;"' * 20_000,
        "url(" * 20_000,
        "/*" * 50_000,
        ";x=" * 20_000,
    ):
        link_header_targets([f"<a>{text}"])
        robots_header([text], "shoal")
        srcset_urls(text)
        srcset_urls("a " + text)
        css_urls(text)
        refresh_target("0;" + text)
    assert time.process_time() - start < 4
