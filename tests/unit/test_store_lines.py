"""What `--store text,links` makes of a page: text as a reader sees it, links as they stand; tree and scanner alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import CrawlConfig
from common.messages import SITEMAP, Flag, Form, Request
from common.outcome import OUTCOMES, Outcome
from common.scope import HeldSites, Scope
from worker import reading
from worker.exchange import Exchange
from worker.linkgraph import MAX_LINKS_BYTES, MAX_TEXT_BYTES, FoundLink, link_items, links_in, text_item
from worker.outcome import content_type
from worker.page import PageMaker
from worker.parse import MAX_PARSED, parse_html
from worker.sent import SentLinks

both_ways = pytest.mark.parametrize("by_tree", [True, False], ids=["tree", "scan"])
AT = 1_750_000_000.0
URL = "https://a.test/dir/page"


def lines(items: Any) -> list[dict[str, Any]]:
    """All lines that travel in these items."""
    return [json.loads(line) for _, block in items for line in block.split(b"\n")]


# ----------------------------------------------------------------------------------------------------------- the text


@both_ways
@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>One  <b>W</b>ord\n here<p>Two", "One Word here\nTwo"),
        ("before<div>in</div>after <i>x</i>y", "before\nin\nafter xy"),
        ("<h1>Head</h1>\n<ul><li>a<li>b</ul>tail", "Head\na\nb\ntail"),
        ("one<br>two<hr>three", "one\ntwo\nthree"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><th>3</th><td>4</td></tr></table>", "1 2\n3 4"),
        ("<p>a</p>\n<b>b</b> c", "a\nb c"),
        ("a<img src=x>b", "a b"),
        ("<p>5 &lt; 6 &amp; 7&nbsp;&eacute;", "5 < 6 & 7 é"),
        ("<title>no</title><nav>no</nav><main>yes<aside>no</aside> on</main><footer>no</footer>", "yes\non"),
        (
            "<script>no('<p>')</script>a<style>no</style>b<textarea>no</textarea>c<svg><text>no</text></svg>",
            "abc",
        ),
        ("<noscript><p>yes</noscript><!-- no --><template>no</template>", "yes"),
        ("<p>  \n <div></div>", None),
        ("<p>汉字<p>かな", "汉字\nかな"),
    ],
)
def test_a_text_is_set_as_a_browser_sets_it(page: str, text: str | None, by_tree: bool) -> None:
    assert parse_html(page.encode(), reading=True, by_tree=by_tree).reading == text


@both_ways
def test_a_page_made_to_hurt_is_read_in_linear_time_and_bounded(by_tree: bool) -> None:
    """The tree is only for what `tree_is_safe` lets through; the scanner takes whatever there is."""
    page = b"<p>word <b>x</b>" * ((100_000 if by_tree else MAX_PARSED) // 16)
    text = parse_html(page, reading=True, links=True, by_tree=by_tree).reading or ""
    assert text.startswith("word x\nword x\n")
    assert len(text) <= 1 << 20


@both_ways
@pytest.mark.parametrize(
    ("page", "language"),
    [
        ("<html lang=de><p>x", "de"),
        ("<!doctype html><!-- <html lang=xx> --><HTML class=a LANG=' zh-Hant '>x", "zh-Hant"),
        ("<html xml:lang=fr>x", "fr"),
        ("<p>x<html lang=it>", "it"),
        ("<html lang=''>x", None),
        ("<p lang=de>x", None),
        (f"<html lang={'x' * 99}>x", None),
    ],
)
def test_the_language_is_what_the_page_says(page: str, language: str | None, by_tree: bool) -> None:
    assert parse_html(page.encode(), reading=True, by_tree=by_tree).language == language


def test_text_for_comparing_is_what_it_was_and_may_be_asked_for_beside_it() -> None:
    page = b"<p>One <b>W</b>ord<p>Two"
    for by_tree in (True, False):
        parsed = parse_html(page, text=True, reading=True, by_tree=by_tree)
        assert parsed.text == parse_html(page, text=True, by_tree=by_tree).text
        assert parsed.reading == "One Word\nTwo"


# ---------------------------------------------------------------------------------------------------------- the links


@both_ways
@pytest.mark.parametrize(
    ("page", "links"),
    [
        ('<a href="/x" rel="NoFollow  me">One <b>T</b>wo</a>', [("/x", "a", "One Two", "NoFollow me")]),
        ("<a href=/x>a<a href=/y>b</a>c", [("/x", "a", "a", None), ("/y", "a", "b", None)]),
        ("<a href=/x><div>a</div>b<p>c</p></a>", [("/x", "a", "a b c", None)]),
        ("<a href=/x><img src=i></a>", [("/x", "a", None, None)]),
        ("<a href=/x title=T><img src=i></a>", [("/x", "a", "T", None)]),
        ("<a href=/x><script>no</script>yes<!-- no --></a>", [("/x", "a", "yes", None)]),
        ("<a href=/x>same</a><a href=/x>same</a><a href=/x>else</a>",
         [("/x", "a", "same", None), ("/x", "a", "else", None)]),
        ("<a href=#top>a</a><a href=''>b</a><a name=x>c</a><a href=/x#y>d</a>", [("/x", "a", "d", None)]),
        ("<a>none</a><a href=/x>right</a>", [("/x", "a", "right", None)]),
        ("<template><a href=/no>no</a></template><a href=/x>yes</a>", [("/x", "a", "yes", None)]),
        ("<area href=/x alt='to x'>", [("/x", "area", "to x", None)]),
        ("<iframe src=/x title=T></iframe>", [("/x", "iframe", "T", None)]),
        ("<frameset><frame src=/x></frameset>", [("/x", "frame", None, None)]),
        ("<link rel=canonical href=/x><link rel='alternate' title=Feed href=/f><link rel=stylesheet href=/s>",
         [("/x", "canonical", None, "canonical"), ("/f", "alternate", "Feed", "alternate")]),
        ("<meta http-equiv=refresh content='3; url=/x'>", [("/x", "refresh", None, None)]),
        ("<a href=/x>&copy; &lt;b&gt;</a>", [("/x", "a", "© <b>", None)]),
        ("<iframe srcdoc='<a href=/x>in</a>'></iframe>", [("/x", "a", "in", None)]),
    ],
)  # fmt: skip
def test_every_link_is_told_with_its_text_its_rel_and_what_it_stands_in(
    page: str, links: list[tuple[str, ...]], by_tree: bool
) -> None:
    found = links_in(parse_html(page.encode(), links=True, by_tree=by_tree).elements, media=False)
    assert found == links


@both_ways
def test_with_media_what_a_page_loads_is_told_too(by_tree: bool) -> None:
    page = (
        b"<link rel='icon' href=/i><img src=/a srcset='/b 2x' alt=Pic><script src=/s></script>"
        b"<style>p{background:url(/c)}</style><p style='background:url(data:x)'><a href=/x>x</a>"
    )
    found = links_in(parse_html(page, media=True, links=True, by_tree=by_tree).elements, media=True)
    assert {(link.href, link.kind) for link in found} == {
        ("/i", "icon"), ("/a", "img"), ("/b", "img"), ("/s", "script"), ("/c", "css"), ("/x", "a")
    }  # fmt: skip
    assert next(link.anchor for link in found if link.href == "/a") == "Pic"


@both_ways
def test_an_anchor_is_bounded_however_links_are_nested(by_tree: bool) -> None:
    nested = b"<a href=/x><table><td>word " * 5_000
    found = links_in(parse_html(nested, links=True, by_tree=by_tree).elements, media=False)
    assert found
    assert all(len(link.anchor or "") <= 512 for link in found)
    (long,) = links_in(
        parse_html(b"<a href=/x>" + b"x" * 9000, links=True, by_tree=by_tree).elements, media=False
    )
    assert long.anchor == "x" * 512


@given(st.binary(max_size=300))
def test_nothing_is_raised_for_any_bytes(noise: bytes) -> None:
    for by_tree in (True, False):
        page = b"<a href=/x>" + noise + b"<p>t"
        parsed = parse_html(page, reading=True, links=True, media=True, by_tree=by_tree)
        for link in links_in(parsed.elements, media=True):
            link_items(URL, "", [link])


@pytest.mark.parametrize("asked", ["links", "reading"])
def test_what_was_not_asked_for_is_not_made(asked: str) -> None:
    parsed = parse_html(b"<html lang=de><a href=/x>x</a>", **{asked: True})  # type: ignore[arg-type]
    assert bool(parsed.elements) == (asked == "links")
    assert (parsed.reading, parsed.language) == (("x", "de") if asked == "reading" else (None, None))
    assert parsed.hrefs == ["/x"]


# ------------------------------------------------------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    "text", ["x" * (1 << 20), "\x01" * (1 << 20), "漢" * (1 << 20), '"\n' * (1 << 19), "\ud800" * 99]
)
def test_a_line_of_text_fits_into_a_message_whatever_json_makes_of_it(text: str) -> None:
    name, line = text_item(URL, "", "t", "utf-8", None, text)
    assert name == ".text"
    assert len(line) <= MAX_TEXT_BYTES
    kept = json.loads(line)["text"]
    assert len(text) < MAX_TEXT_BYTES // 8 or len(line) > MAX_TEXT_BYTES * 0.9
    assert kept


def test_a_page_of_very_many_links_gives_some_big_items_and_then_no_more() -> None:
    many = [FoundLink(f"https://b.test/{n}", "a", "x" * 512, None) for n in range(100_000)]
    items = link_items(URL, "2026-01-01T00:00:00.000Z", many)
    assert 3 <= len(items) <= 4
    assert all(len(block) <= 1 << 20 for _, block in items)
    assert MAX_LINKS_BYTES * 0.99 < sum(len(block) for _, block in items) <= MAX_LINKS_BYTES
    assert [line["to"] for line in lines(items)[:2]] == ["https://b.test/0", "https://b.test/1"]


# ------------------------------------------------------------------------------------------------ what a report holds


def came(body: bytes, status: int = 200, kind: str = "text/html", **headers: str) -> Exchange:
    """An answer as the fetcher gives it."""
    named = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = tuple((name.encode(), value.encode()) for name, value in named.items())
    return Exchange(
        URL, "GET", status, "", "1.1", raw, named, body, None, False, AT, 0.1, 1.0, "127.0.0.1", b"GET / HTTP/1.1"
    )  # fmt: skip


def maker(*store: str, **options: Any) -> PageMaker:
    config = CrawlConfig(store=store, **options)
    return PageMaker(config, Scope("host", HeldSites(frozenset({"a.test"}))), SentLinks(1 << 12), 1)


REQUEST = Request(URL, 0, 0, 0, 0, URL, None, None)
PAGE = (
    b"<html lang=en><title>T</title><base href='/other/'><a href=x>in</a><a href='http://b.test/'>out</a>"
    b"<a href='mailto:me'>no</a><a href='/robots?q=1'>z</a><p>Text"
)


def test_a_page_has_one_line_of_text_and_one_for_each_link_also_out_of_scope_and_known() -> None:
    pages = maker("text", "links")
    report = pages.report(REQUEST, came(PAGE, Link="</next>; rel=next"))
    (text, *links) = lines(report.items)
    at = "2025-06-15T15:06:40.000Z"
    assert text == {
        "url": URL, "fetched_at": at, "title": "T", "charset": "utf-8", "language": "en", "text": "inoutnoz\nText",
    }  # fmt: skip
    assert [tuple(line) for line in links] == [("from", "to", "anchor", "rel", "kind", "fetched_at")] * 4
    assert [(line["to"], line["anchor"], line["kind"]) for line in links] == [
        ("https://a.test/other/x", "in", "a"),
        ("http://b.test/", "out", "a"),
        ("https://a.test/robots?q=1", "z", "a"),
        ("https://a.test/next", None, "next"),
    ]
    assert {(line["from"], line["fetched_at"]) for line in links} == {(URL, at)}
    again = pages.report(REQUEST, came(PAGE, Link="</next>; rel=next"))
    assert again.items == report.items, "from what is remembered of a payload"


@pytest.mark.parametrize(
    "store", [("pages",), ("warc", "pages"), ("warc",), ("text",), ("links",), ("warc", "text", "links")]
)
def test_what_is_not_stored_is_not_made(store: tuple[str, ...]) -> None:
    report = maker(*store).report(REQUEST, came(PAGE))
    names = {name for name, _ in report.items}
    assert names == {f".{name}" for name in store if name in ("text", "links")}
    assert bool(report.answered) == ("warc" in store)
    assert (OUTCOMES[report.facts.outcome], report.facts.title) == (Outcome.OK, "T")
    assert report.links == maker().report(REQUEST, came(PAGE)).links, "what is followed stays the same"


@pytest.mark.parametrize("status", [404, 500, 304])
def test_an_error_page_is_no_part_of_corpus_or_graph(status: int) -> None:
    assert maker("text", "links").report(REQUEST, came(PAGE, status)).items == ()


def test_a_redirect_is_a_link_and_has_no_text() -> None:
    report = maker("text", "links").report(
        REQUEST, came(b"<p>Moved <a href=/y>here</a>", 301, Location="../x?q#f")
    )
    (line,) = lines(report.items)
    assert (line["from"], line["to"], line["kind"], line["anchor"]) == (
        URL,
        "https://a.test/x?q",
        "redirect",
        None,
    )


def test_a_visit_for_links_and_a_sitemap_have_no_lines() -> None:
    pages = maker("text", "links")
    assert pages.report(REQUEST._replace(flags=int(Flag.LINKS_ONLY)), came(PAGE)).items == ()
    listed = b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>https://a.test/1</loc></url></urlset>"
    assert (
        pages.report(
            REQUEST._replace(form=Form(SITEMAP, (), None, None, 0, 0, None)),
            came(listed, kind="application/xml"),
        ).items
        == ()
    )


def test_links_that_are_not_followed_are_told_all_the_same() -> None:
    page = b"<meta name=robots content=nofollow><a href=/x rel=nofollow>x</a>"
    for options in ({}, {"no_follow": True}, {"skip_nofollow_links": True}, {"max_depth": 0}):
        report = maker("links", **options).report(REQUEST, came(page))
        assert [(line["to"], line["rel"]) for line in lines(report.items)] == [
            ("https://a.test/x", "nofollow")
        ]
        assert report.links == ()


def test_plain_text_and_feeds_have_what_they_have() -> None:
    pages = maker("text", "links")
    (text,) = lines(pages.report(REQUEST, came(b"one\n\ntwo", kind="text/plain")).items)
    assert (text["text"], text["title"], text["language"]) == ("one\n\ntwo", None, None)
    feed = b"<rss><channel><title>F</title><item><link>http://b.test/1</link></item></channel></rss>"
    (link,) = lines(pages.report(REQUEST, came(feed, kind="application/rss+xml")).items)
    assert (link["to"], link["kind"]) == ("http://b.test/1", "feed")
    assert pages.report(REQUEST, came(b"\x89PNG", kind="image/png")).items == ()


def test_a_query_is_in_the_charset_of_its_page_in_the_graph_too() -> None:
    page = "<a href='?q=ä'>Straße</a>".encode("cp1252")
    report = maker("links").report(REQUEST, came(page, kind="text/html; charset=windows-1252"))
    (line,) = lines(report.items)
    assert (line["to"], line["anchor"]) == (f"{URL}?q=%E4", "Straße")


def test_much_text_is_not_remembered() -> None:
    reader = reading.Reader(CrawlConfig(store=("text", "links")))
    kind = content_type("text/html")
    small, big = b"<p>word", b"<p>" + b"word " * reading.KEPT_CHARACTERS
    assert reader.page(came(small), kind, "small") is reader.page(came(small), kind, "small")
    first = reader.page(came(big), kind, "big")
    assert first is not reader.page(came(big), kind, "big")
    assert first.parsed is not None
    assert first.parsed.reading
