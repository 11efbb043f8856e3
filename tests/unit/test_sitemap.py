"""Sitemaps in all their forms: crawler-commons' files, the odd and broken ones, and what hostile ones cost."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.dates import seconds
from worker.sitemap import MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, MAX_URL, Entry, Sitemap, parse

SUITE = Path(__file__).parents[3] / "shared" / "suites" / "sitemaps"
suite = pytest.mark.skipif(not SUITE.is_dir(), reason=f"the public cases are not here: {SUITE}")

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def read(
    body: str | bytes, *, content_type: str | None = None, url: str = "http://a.test/sitemap.xml"
) -> Sitemap:
    found = parse(body.encode() if isinstance(body, str) else body, content_type=content_type, url=url)
    assert found is not None
    return found


def urls(body: str | bytes, **more: str) -> list[str]:
    return [entry.url for entry in read(body, **more).entries]


def urlset(*locs: str) -> str:
    return f"<urlset {NAMESPACE}>" + "".join(f"<url><loc>{loc}</loc></url>" for loc in locs) + "</urlset>"


# ---------------------------------------------------------------------------------------------- crawler-commons

CATALOG = [
    "http://www.example.com/",
    "http://www.example.com/catalog?item=12&desc=vacation_hawaii",
    "http://www.example.com/catalog?item=73&desc=vacation_new_zealand",
    "http://www.example.com/catalog?item=74&desc=vacation_newfoundland",
    "http://www.example.com/catalog?item=83&desc=vacation_usa",
]
LANGUAGES = [f"http://www.example.com/{name}/" for name in ("english", "deutsch", "schweiz-deutsch")]
PORTALS = (
    10260,
    2,
    10080,
    10140,
    10340,
    10400,
    10430,
    10440,
    10450,
    10460,
    10470,
    10480,
    10490,
    10550,
    10570,
)
CALLS = "call-for-papers-nation-gender-and-history-asian-cinemas-in-perspective-2"

# File: kind, and the URLs or how many they are.
FILES: dict[str, tuple[str, list[str] | int]] = {
    "atom.xml": ("atom", [f"http://example.org/2003/12/13/atom03{end}" for end in ("", ".html")]),
    "do-not-visit.txt": ("text", ["http://www.example.com/do-not-visit-here"]),
    "sitemap-with-bom.txt": ("text", [f"http://www.domain.com/page{n}.html" for n in (1, 2)]),
    "sitemap.badns.xml": ("urlset", ["http://www.example.com/1", "http://www.example.com/2"]),
    "sitemap.index.xml": (
        "index",
        [f"https://example.com/sitemap.jss?portalCode={code}&lang=en" for code in PORTALS],
    ),
    "sitemap.ns.xml": ("urlset", ["http://www.example.com/1", "http://www.example.com/2"]),
    "sitemap.txt": ("text", [f"http://www.domain.com/page{n}.html" for n in (1, 2)]),
    "sitemap.txt.gz": ("text", CATALOG),
    "xmlSitemap.gz": ("urlset", CATALOG),
    "extension/hebdenbridgetimes-articles-sitemap.xml": ("urlset", 74),
    "extension/pagemaps-sitemap.xml": (
        "urlset",
        ["http://www.example.com/foo", "http://www.example.com/bar"],
    ),
    "extension/shinpaideshou-news-sitemap.xml": ("urlset", 3),
    "extension/sitemap-images.xml": (
        "urlset",
        ["http://www.example.com/images/some_image_landing_page.html"],
    ),
    "extension/sitemap-links.xml": ("urlset", LANGUAGES),
    "extension/sitemap-mobile.xml": (
        "urlset",
        [
            f"http://www.example.com/{name}/"
            for name in ("mobile-friendly-1", "mobile-friendly-2", "no-mobile")
        ],
    ),
    "extension/sitemap-news.xml": (
        "urlset",
        ["http://www.example.org/business/article55.html", "http://www.example.org/empty_news_name.html"],
    ),
    "extension/sitemap-videos-tvshow.xml": ("urlset", ["https://example.org/my-tv-show/23/13/"]),
    "extension/sitemap-videos.xml": ("urlset", 3),
}

DEVIATIONS: dict[str, str] = {
    "atom.xml": (
        "crawler-commons: the first link of an entry only (atom03). Ours: also its rel=alternate link "
        "(atom03.html): both are addresses of the entry (RFC 4287, 4.2.7.2), and one seen before costs nothing."
    ),
    "sitemap.badns.xml": (
        "crawler-commons: refused in its strict mode, read in its lenient one. Ours: read, as in the lenient one: "
        "a wrong namespace is the commonest fault of sitemaps and changes no URL."
    ),
    "broken XML": (
        "crawler-commons: an error unless partial sitemaps are allowed. Ours: what came before the break is "
        "kept, with an error for people; a bare & is mended and the rest read too."
    ),
    "<loc>http://www.example.com/</lo (the end of the file)": (
        "crawler-commons, partial allowed: kept. Ours: dropped: a URL cut in two is another URL, and where the "
        "file ends nothing tells a whole one from a half."
    ),
    "a URL outside the sitemap's folder": (
        "crawler-commons: left out in strict mode. Ours: kept; which hosts a sitemap may speak for is decided "
        "by who asks."
    ),
    "pubDate without a zone": "crawler-commons: no date. Ours: taken as UTC, as a W3C time without one.",
}
"""What crawler-commons' SiteMapParserTest says, what we do, and why."""


@suite
@pytest.mark.parametrize("name", FILES)
def test_files_of_crawler_commons(name: str) -> None:
    kind, expected = FILES[name]
    for content_type in (None, "text/xml", "text/plain; charset=utf-8", "application/octet-stream"):
        found = parse((SUITE / name).read_bytes(), content_type=content_type, url=f"http://a.test/{name}")
        assert found is not None
        assert (found.kind, found.truncated, found.error) == (kind, False, None)
        listed = [entry.url for entry in found.entries]
        assert (len(listed) if isinstance(expected, int) else listed) == expected
        assert len(set(listed)) == len(listed)


@suite
def test_no_file_of_crawler_commons_is_left_out() -> None:
    assert {path.relative_to(SUITE).as_posix() for path in SUITE.rglob("*") if path.is_file()} == set(FILES)


@suite
def test_dates_and_pages_of_crawler_commons() -> None:
    found = read((SUITE / "xmlSitemap.gz").read_bytes())
    assert [entry.lastmod for entry in found.entries] == [
        1104537600,
        None,
        1103760000,
        1103824815,
        1101168000,
    ]
    found = read((SUITE / "extension/hebdenbridgetimes-articles-sitemap.xml").read_bytes())
    assert all("webimage" not in entry.url and "brightcove" not in entry.url for entry in found.entries)
    assert found.entries[0].lastmod == 1430675510
    found = read((SUITE / "extension/shinpaideshou-news-sitemap.xml").read_bytes())
    assert found.entries[1].url == f"https://shinpaideshou.wordpress.com/2017/04/24/{CALLS}/"
    found = read((SUITE / "extension/sitemap-videos.xml").read_bytes())
    assert all(entry.url.endswith(".html") for entry in found.entries)


# -------------------------------------------------------------------------------------------------- the XML forms


def test_an_index_lists_sitemaps_with_their_dates() -> None:
    found = read(
        f"<?xml version='1.0'?><sitemapindex {NAMESPACE}>\n"
        "<sitemap><loc>http://a.test/1.xml.gz</loc><lastmod><![CDATA[2004-10-01T18:23:17+00:00]]></lastmod></sitemap>"
        "<sitemap><lastmod>2005-01-01</lastmod> <loc>http://a.test/d?x=1&amp;y=2</loc></sitemap>"
        "<sitemap><loc> http://a.test/d<![CDATA[?x=1&y=3]]>\n</loc></sitemap>"
        "</sitemapindex>"
    )
    assert found == Sitemap(
        "index",
        (
            Entry("http://a.test/1.xml.gz", 1096654997),
            Entry("http://a.test/d?x=1&y=2", 1104537600),
            Entry("http://a.test/d?x=1&y=3"),
        ),
    )


@pytest.mark.parametrize(
    "root",
    [
        "urlset",
        f"urlset {NAMESPACE}",
        "urlset xmlns='http://www.google.com/schemas/sitemap/0.84'",
        "URLSET",
        "UrlSet XMLNS='x'",
    ],
)
def test_a_namespace_or_its_absence_changes_nothing(root: str) -> None:
    name = root.split()[0]
    assert urls(f"<{root}><url><loc>http://a.test/</loc></url></{name}>") == ["http://a.test/"]


def test_prefixes_that_mean_the_same_are_the_same() -> None:
    body = (
        '<s:urlset xmlns:s="S" xmlns:t="S" xmlns:i="I">'
        "<s:url><s:loc>http://a.test/1</s:loc></s:url><t:url><t:loc>http://a.test/2</t:loc></t:url>"
        "<url><loc>http://a.test/3</loc></url><i:url><i:loc>http://a.test/no</i:loc></i:url></s:urlset>"
    )
    assert urls(body) == ["http://a.test/1", "http://a.test/2", "http://a.test/3"]


@pytest.mark.parametrize(
    "extension",
    [
        "<image:image><image:loc>http://a.test/no.png</image:loc></image:image>",  # undeclared prefix
        "<image:loc>http://a.test/no.png</image:loc>",
        "<image xmlns='I'><loc>http://a.test/no.png</loc></image>",
        "<video:video><video:content_loc>http://a.test/no.mp4</video:content_loc><loc>x</loc></video:video>",
        "<news:news><news:publication_date>2001-01-01</news:publication_date></news:news>",
        "<xhtml:link rel='amphtml' href='http://a.test/no'/><xhtml:link rel='alternate'/>",
        "<video:video><url><loc>http://a.test/no</loc></url></video:video>",
    ],
)
def test_what_extensions_name_is_no_page(extension: str) -> None:
    body = f"<urlset {NAMESPACE}><url>{extension}<loc>http://a.test/</loc>{extension}</url></urlset>"
    assert read(body).entries == (Entry("http://a.test/"),)


def test_alternates_in_other_languages_are_pages_too_once_and_last() -> None:
    links = "".join(
        f'<xhtml:link rel="alternate" hreflang="{name}" href="http://a.test/{name}?x&amp;y"/>'
        for name in ("de", "en", "fr")
    )
    body = urlset("http://a.test/en?x&amp;y", "http://a.test/other").replace("</loc>", f"</loc>{links}")
    assert urls(body) == [
        "http://a.test/en?x&y",
        "http://a.test/other",
        "http://a.test/de?x&y",
        "http://a.test/fr?x&y",
    ]


def test_a_url_within_a_loc_is_its_text() -> None:
    assert urls(urlset("<url><![CDATA[http://a.test/x?a=1&b=2]]></url>")) == ["http://a.test/x?a=1&b=2"]


def test_empty_and_overlong_urls_are_passed_over() -> None:
    longest = "http://a.test/" + "x" * (MAX_URL - 14)
    assert urls(urlset("", "  ", longest, longest + "y", "y" * 100_000, "/relative")) == [
        longest,
        "/relative",
    ]
    assert read("<urlset/>") == Sitemap("urlset", ())


RSS = """<?xml version="1.0"?><rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:atom="http://www.w3.org/2005/Atom"><channel><title>T &amp; T</title><link>http://a.test/</link>
 <atom:link href="http://a.test/feed" rel="self"/>
 <image><url>http://a.test/no.png</url><link>http://a.test/no</link></image>
 <item><title>1</title><link>http://a.test/1</link><guid>http://a.test/no</guid>
  <pubDate>Thu, 05 Jan 17 12:34:50 GMT</pubDate><enclosure url="http://a.test/no.mp3"/></item>
 <item><guid isPermaLink="true">http://a.test/2</guid><dc:date>2017-01-05T12:34:50Z</dc:date></item>
 <item><guid>http://a.test/3</guid><pubDate>soon</pubDate></item>
 <item><guid isPermaLink="false">tag:no</guid></item>
 <item><link><![CDATA[http://a.test/4?a=1&b=2]]></link><pubDate>05 Jan 2017 07:34 EST</pubDate></item>
</channel></rss>"""


def test_rss_2_lists_links_or_permanent_guids() -> None:
    assert read(RSS) == Sitemap(
        "rss",
        (
            Entry("http://a.test/1", 1483619690),
            Entry("http://a.test/2", 1483619690),
            Entry("http://a.test/3"),
            Entry("http://a.test/4?a=1&b=2", 1483619640),
        ),
    )


def test_rss_1_lists_its_items_and_no_other_rdf_is_one() -> None:
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    item = "<item rdf:about='x'><link>http://a.test/1</link><dc:date>2017-01-05</dc:date></item>"
    body = f"<rdf:RDF {rdf} xmlns='http://purl.org/rss/1.0/'><channel><link>http://a.test/</link></channel>{item}"
    assert read(body + "</rdf:RDF>") == Sitemap("rss", (Entry("http://a.test/1", 1483574400),))
    other = f"<rdf:RDF {rdf}>{item}</rdf:RDF>"
    assert parse(other.encode(), content_type="application/rdf+xml", url="http://a.test/") is None


def test_atom_lists_what_entries_are_at() -> None:
    body = """<feed xmlns="http://www.w3.org/2005/Atom"><link href="http://a.test/"/><updated>2001-01-01</updated>
    <entry><link rel="self" href="http://a.test/no"/><link rel="enclosure" href="http://a.test/no.mp3"/>
    <published>2016-01-01T00:00:00Z</published><updated>2017-01-05T13:34:50+01:00</updated>
    <link href=" http://a.test/1 "/><content type="xhtml"><div><link href="http://a.test/no"/></div></content>
    </entry><entry><published>2016-01-01</published><link rel="Alternate" href="/2"/></entry></feed>"""
    assert read(body) == Sitemap("atom", (Entry("http://a.test/1", 1483619690), Entry("/2", 1451606400)))


# ------------------------------------------------------------------------------------------------------- the text


def test_a_text_is_one_url_a_line() -> None:
    body = "\ufeffhttp://a.test/1\r\n\r\n  HTTPS://a.test/2\t\rftp://a.test/no\nhttp://a.test/a b\nhttp://a.test/é"
    assert read(body) == Sitemap(
        "text",
        tuple(map(Entry, ["http://a.test/1", "HTTPS://a.test/2", "http://a.test/a b", "http://a.test/é"])),
    )


def test_a_text_with_a_few_urls_in_it_is_a_sitemap_only_by_its_name() -> None:
    body = b"Dear reader,\nsee\nhttp://a.test/\n"
    assert parse(body, content_type="text/plain", url="http://a.test/letter") is None
    assert urls(body, url="http://a.test/list.txt?x") == urls(body, url="http://a.test/list.TXT.gz")


def test_a_text_that_was_cut_off_lists_no_half_url() -> None:
    body = b"http://a.test/1\nhttp://a.test/22"
    found = parse(body, content_type=None, url="http://a.test/", cut=True)
    assert found == Sitemap("text", (Entry("http://a.test/1"),), truncated=True)
    found = read(gzip.compress(body)[:-10])
    assert found.entries == (Entry("http://a.test/1"),)
    assert found.error == "gzip: the stream ends early"


# ------------------------------------------------------------------------------------------ encodings and breaks


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "gb18030"])
@pytest.mark.parametrize("declared", ["", "utf-8", "UTF-16", "iso-8859-1", "GBK", "x-nonsense"])
def test_encodings_with_right_and_wrong_declarations(coding: str, declared: str) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    body = (head + urlset("http://a.test/1", "http://a.test/2")).encode(coding)
    assert urls(body) == ["http://a.test/1", "http://a.test/2"]


@pytest.mark.parametrize(
    ("coding", "declared", "content_type"),
    [
        ("utf-8", "iso-8859-1", None),
        ("utf-8", "utf-8", "text/xml; charset=iso-8859-1"),
        ("utf-16", "utf-8", None),
        ("iso-8859-1", "iso-8859-1", None),
        ("iso-8859-1", "", 'text/xml; charset="ISO-8859-1"'),
        ("gb18030", "gb2312", None),
    ],
)
def test_addresses_in_other_alphabets(coding: str, declared: str, content_type: str | None) -> None:
    wanted = ["http://a.test/" + ("中文" if coding == "gb18030" else "é" if "8859" in coding else "中é")]
    body = f'<?xml version="1.0" encoding="{declared}"?>{urlset(*wanted)}'.encode(coding)
    found = parse(body, content_type=content_type, url="http://a.test/")
    assert found is not None and [entry.url for entry in found.entries] == wanted


def test_latin_1_that_says_utf_8_is_read_and_one_bad_byte_spoils_one_url() -> None:
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    latin = (head + urlset("http://a.test/caf\xe9/\xe0-la-carte/d\xe9j\xe0")).encode("latin-1")
    assert urls(latin) == ["http://a.test/café/à-la-carte/déjà"]
    mixed = (head + urlset("http://a.test/中文", "http://a.test/X", "http://a.test/é")).encode()
    assert urls(mixed.replace(b"X", b"\xe9"))[::2] == ["http://a.test/中文", "http://a.test/é"]


@pytest.mark.parametrize(
    "before",
    [
        "\n\n \t",
        "\ufeff\n",
        "<!-- made by hand -->\n",
        "<br />\n<b>Warning</b>: something in <b>x.php</b> on line <b>3</b><br />\n",
        "Notice: undefined index\n",
        "<!DOCTYPE urlset>",
    ],
)
def test_what_stands_before_the_declaration_does_no_harm(before: str) -> None:
    declaration = "" if "DOCTYPE" in before else '<?xml version="1.0"?>\n'
    assert urls(before + declaration + urlset("http://a.test/")) == ["http://a.test/"]


def test_what_came_before_a_break_is_kept() -> None:
    found = read(urlset("http://a.test/1", "http://a.test/2").replace("</urlset>", "</url><url>"))
    assert [entry.url for entry in found.entries] == ["http://a.test/1", "http://a.test/2"]
    assert found.error == "the XML breaks in line 1: mismatched tag"
    assert not found.truncated
    second = read(
        "Notice: x\n\n<?xml version='1.0'?>\n" + urlset("http://a.test/1").replace("</loc>", "</lok>")
    )
    assert (second.entries, second.error) == ((), "the XML breaks in line 4: mismatched tag")


def test_a_file_cut_off_anywhere_keeps_its_whole_urls_and_makes_up_none() -> None:
    wanted = [f"http://a.test/page/{number}?a&b" for number in range(4)]
    whole = urlset(*(url.replace("&", "&amp;") for url in wanted)).encode()
    for end in range(len(f"<urlset {NAMESPACE}>"), len(whole)):
        found = read(whole[:end])
        assert [entry.url for entry in found.entries] == wanted[: whole[:end].count(b"</loc>")]
        assert found.error is not None
        packed = gzip.compress(whole)
        assert urls(packed[:-4]) == wanted
    assert read("<urlset><url><loc>http://a.test/</loc><lastmod>2001").entries == (Entry("http://a.test/"),)


def test_bare_ampersands_and_control_characters_are_mended() -> None:
    body = urlset(
        "http://a.test/?a=1&b=2&amp;c=3", "<![CDATA[http://a.test/?a&b]]>", "http://a.test/\x02x&nbsp;"
    )
    found = read(body)
    assert [entry.url for entry in found.entries] == [
        "http://a.test/?a=1&b=2&c=3",
        "http://a.test/?a&b",
        "http://a.test/x&nbsp;",
    ]
    assert found.error == "the XML breaks in line 1: not well-formed (invalid token)"


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "this is a bogus sitemap",
        "<!DOCTYPE html><html><body><a href='http://a.test/'>x</a></body></html>",
        "<html><head></head><body>\nhttp://a.test/\n</body></html>",
        "\n<!-- x --><HTML><urlset><url><loc>http://a.test/</loc></url></urlset></HTML>",
        "<?xml version='1.0'?><!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' 'x'><html><urlset/></html>",
        "<?xml version='1.0'?><opml><url><loc>http://a.test/</loc></url></opml>",
        "<div>http://a.test/</div>",
        '{"url": "http://a.test/"}',
        "User-agent: *\nDisallow: /\nSitemap: http://a.test/s.xml\n",
        "\x1f\x8b",
        "\x1f\x8bnot gzip",
        "%PDF-1.4\nhttp://a.test/\nobj\nendobj",
    ],
)
def test_what_is_no_sitemap(body: str) -> None:
    for content_type in (None, "text/html", "application/xml"):
        assert parse(body.encode("latin-1"), content_type=content_type, url="http://a.test/s.xml") is None


# --------------------------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1997", 852076800),
        ("1997-07", 867715200),
        ("1997-07-16", 869011200),
        ("1997-07-16T19:20+01:00", 869077200),
        ("1997-07-16T19:20:30+01:00", 869077230),
        ("1997-07-16T19:20:30.45+01:00", 869077230),
        ("1997-07-16T19:20:30Z", 869080830),
        ("1997-07-16T19:20:30z", 869080830),
        ("1997-07-16T19:20:30", 869080830),
        ("1997-07-16 19:20:30 +0000", 869080830),
        ("1997-07-16 19:20:30 UTC", 869080830),
        ("1997-7-6", 868147200),
        ("1997-07-16T19:20:60Z", 869080860),
        ("\n 1997-07-16\t", 869011200),
        ("Wed, 16 Jul 1997 19:20:30 GMT", 869080830),
        ("16 July 97 19:20:30 +0100", 869077230),
        ("Wed, 16 Jul 1997 12:20:30 PDT", 869080830),
        ("Wed, 16-Jul-97 19:20:30", 869080830),
        ("16 Jul 1997", 869011200),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00+01:00", None),
        ("2100-12-31T23:59:59Z", 4133980799),
        ("2101-01-01", None),
        ("1969-12-31", None),
        ("0000-00-00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("1997-02-30", None),
        ("1997-13-01", None),
        ("1997-07-16T25:00:00Z", None),
        ("1997-07-16T19:60Z", None),
        ("31 Feb 1997", None),
        ("16 Xyz 1997", None),
        ("yesterday", None),
        ("869080830", None),
        ("", None),
        ("１９９７", None),
    ],
)
def test_dates(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


@given(st.text(max_size=80) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", fullmatch=True))
def test_no_text_is_a_date_out_of_bounds(text: str) -> None:
    found = seconds(text)
    assert found is None or 0 <= found < 4133980800


# -------------------------------------------------------------------------------------------------------- bounds


def test_no_more_entries_than_the_protocol_allows() -> None:
    full = read(urlset(*["http://a.test/"] * MAX_ENTRIES))
    assert (len(full.entries), full.truncated, full.error) == (MAX_ENTRIES, False, None)
    for body in (
        urlset(*["http://a.test/"] * (MAX_ENTRIES + 1)),
        "http://a.test/\n" * (MAX_ENTRIES + 1),
        "<feed><entry>" + "<link href='http://a.test/'/>" * (MAX_ENTRIES + 1),
        "<urlset><url><loc>http://a.test/</loc>"
        + "".join(f"<x:link rel='alternate' href='/{number}'/>" for number in range(MAX_ENTRIES))
        + "</url></urlset>",
    ):
        found = read(body)
        assert (len(found.entries), found.truncated) == (MAX_ENTRIES, True)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE urlset [<!ENTITY a "http://a.test/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + f"]>{urlset('http://a.test/', '&i;')}"
)
OUTSIDE = f'<!DOCTYPE urlset [<!ENTITY x SYSTEM "file:///etc/hostname">]>{urlset("&x;")}'
PARAMETER = (
    f'<!DOCTYPE urlset [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]>{urlset("http://a.test/")}'
)


@pytest.mark.parametrize("body", [LAUGHS, OUTSIDE, PARAMETER])
def test_declared_entities_are_never_expanded(body: str) -> None:
    assert parse(body.encode(), content_type="text/xml", url="http://a.test/") in (
        None,
        Sitemap("urlset", (), error="it declares entities, which are not expanded here"),
    )


def test_a_document_type_elsewhere_is_not_fetched() -> None:
    body = '<!DOCTYPE urlset SYSTEM "http://127.0.0.1:1/x.dtd">' + urlset(
        "http://a.test/&x;y", "http://a.test/2"
    )
    assert urls(body)[1] == "http://a.test/2"


BIG = MAX_BYTES + 1000
HOSTILE: dict[str, Callable[[], bytes]] = {
    "one tag": lambda: b"<urlset><a x='" + b"y" * BIG,
    "one comment": lambda: b"<urlset><!--" + b"y" * BIG,
    "one instruction": lambda: b"<?xml " + b"y" * BIG,
    "one text": lambda: b"<urlset><url><loc>" + b"y" * BIG,
    "one reference": lambda: b"<urlset><url><loc>&" + b"y" * BIG,
    "deep": lambda: b"<urlset>" + b"<a>" * (BIG // 3),
    "elements": lambda: b"<urlset>" + b"<a/>" * (BIG // 4),
    "names": lambda: b"<urlset>" + b"".join(b"<a%d/>" % number for number in range(100_000)),
    "attributes": lambda: b"<urlset>" + b"".join(b"<a a%d=''/>" % number for number in range(100_000)),
    "open CDATA": lambda: b"<urlset><&" + b"<![CDATA[" * (BIG // 9),
    "ampersands": lambda: b"<urlset><url><loc>" + b"&" * BIG,
    "lines": lambda: b"http://a.test/\n" + b"x\n" * (BIG // 2),
    "blanks": lambda: b"\n " * (BIG // 2),
    "tabs": lambda: b"http://a.test/" + b" \t" * (BIG // 2),
    "a gzip bomb": lambda: gzip.compress(b"<urlset>" + b" " * BIG, 1),
    "gzip in gzip": lambda: gzip.compress(gzip.compress(gzip.compress(b"http://a.test/"))),
}
"""Made when they are asked for: together they are 600 MiB."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_given_up_within_bounds(name: str) -> None:
    """No clock here: what is asserted is that it ends, at a bound; the module says what it costs."""
    found = parse(HOSTILE[name](), content_type=None, url="http://a.test/")
    if found is not None:
        assert found.truncated and len(found.entries) <= 1


def test_memory_does_not_follow_the_file() -> None:
    body = b"<urlset>" + b"".join(b"<a%d b%d=''/>" % (number, number) for number in range(200_000))
    tracemalloc.start()
    try:
        parse(body, content_type=None, url="http://a.test/")
        assert tracemalloc.get_traced_memory()[1] < len(body) + (4 << 20)
    finally:
        tracemalloc.stop()


PIECES = [
    *(f"<{slash}{name}>" for name in ("urlset", "sitemapindex", "url", "loc", "item") for slash in ("", "/")),
    "<sitemap>", "</sitemap>",
    "<rss>", "<channel>", "<link>", "</link>", "<feed>", "<entry>", "</entry>", "<guid isPermaLink='x'>",
    "<link href='/x'/>", "<x:link rel='alternate' href='/y'/>", "<lastmod>", "2001-01-01", "<![CDATA[", "]]>",
    "<!--", "-->", "&", "&amp;", "&#0;", "http://a.test/", "\n", "\x00", "é", "<?xml version='1.0'?>", "<!DOCTYPE x [",
    "<!ENTITY a 'b'>", "]>", "<a:b xmlns:a='c'>", "<rdf:RDF xmlns='http://purl.org/rss/1.0/'>",
]  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=2000),
        st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode()),
        st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode("utf-16")),
    ),
    st.sampled_from(
        [None, "text/xml", "text/plain; charset=utf-16", "x; charset=nonsense", "text/xml; charset=gbk"]
    ),
    st.booleans(),
)
@example("http://a.test/\u3000\n".encode(), None, False)
@example(b"<urlset>\xef\xbf\xbf", None, False)
@example(b"\x1f\x8b\x08", None, False)
def test_any_bytes_are_read_without_an_error(body: bytes, content_type: str | None, packed: bool) -> None:
    body = gzip.compress(body) if packed else body
    found = parse(body, content_type=content_type, url="http://a.test/s.txt")
    if found is not None:
        assert found.kind in ("index", "urlset", "text", "rss", "atom")
        assert len(found.entries) <= MAX_ENTRIES
        assert all(
            entry.url == entry.url.strip() and 0 < len(entry.url) <= MAX_URL for entry in found.entries
        )


def test_nesting_as_deep_as_a_feed_s_pages_is_read() -> None:
    page = "<div>" * (MAX_DEPTH - 4) + "</div>" * (MAX_DEPTH - 4)
    assert urls(f"<feed><entry><content>{page}</content><link href='/x'/></entry></feed>") == ["/x"]
