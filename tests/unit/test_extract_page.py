"""A page as an extractor sees it, and the requests it makes."""

from __future__ import annotations

import pytest

from common.messages import Request
from common.scope import HeldSites, Scope
from common.url import CanonicalURL, fingerprint, request_key
from worker.extract import carried
from worker.extractfollow import Follow, follow_group
from worker.extractpage import Page

URL = "https://a.test/films/list?page=2"
HTML = b"""<!doctype html><meta charset=gbk><title>x</title>
<ul><li><a href="7.html">\xc9\xcf\xba\xa3</a> 3.50 EUR<li><a href="/b?q=\xc9\xcf#c">two</a> 4.00 EUR</ul>"""


def page(**fields: object) -> Page:
    return Page(URL, **({"headers": {"Content-Type": "text/html"}, "body": HTML} | fields))  # type: ignore[arg-type]


def parent(url: str = URL, **fields: object) -> Request:
    return Request(url, 0, 0, 0, 0, "seed", None, None)._replace(**fields)  # type: ignore[arg-type]


def test_text_selectors_and_links_know_the_charset() -> None:
    it = page()
    assert (it.charset, it.css("a::text").get()) == ("gbk", "上海")
    assert it.xpath("//a[text()=$name]/@href", name="two").get() == "/b?q=上#c"
    assert it.re(r"([0-9.]+) EUR") == ["3.50", "4.00"]
    assert it.links == ["https://a.test/films/7.html", "https://a.test/b?q=%C9%CF"]
    assert it.headers["CONTENT-type"] == "text/html"


def test_nothing_is_inflated_before_it_is_asked_for() -> None:
    asked: list[int] = []

    def body() -> bytes:
        asked.append(1)
        return b"{}"

    it = page(body=body)
    assert (it.status, asked) == (200, [])
    assert (it.json(), it.json(), asked) == ({}, {}, [1])


def test_a_base_counts_for_links_and_for_follow() -> None:
    it = page(body=b'<base href="/x/"><a href=1>')
    assert it.links == ["https://a.test/x/1"]
    assert it.follow("2").url == "https://a.test/x/2"
    assert (it.urljoin("2"), it.urljoin("mailto:a")) == ("https://a.test/x/2", "mailto:a")


def test_xml_is_selected_as_xml() -> None:
    it = page(headers={"Content-Type": "application/xml"}, body=b"<r><Item>1</Item></r>")
    assert it.xpath("//Item/text()").get() == "1"


def test_a_plain_follow_is_what_a_link_is() -> None:
    assert page().follow("../9") == Follow("https://a.test/9", None)
    assert page().follow(page().css("a")[0]).url == "https://a.test/films/7.html"
    assert page().follow(page().css("a::attr(href)")[0]).url == "https://a.test/films/7.html"


def test_a_form_is_sent_as_browsers_send_it() -> None:
    form = page().follow("/login", method="post", body={"user": "ä b", "tag": [1, 2]}).form
    assert form is not None
    assert (form.method, form.body) == ("POST", b"user=%C3%A4+b&tag=1&tag=2")
    assert form.headers == (("Content-Type", "application/x-www-form-urlencoded"),)


def test_what_is_carried_comes_as_it_was() -> None:
    def film(page: Page) -> None: ...

    it = page(functions={"film": film})
    follow = it.follow("/1", extract=film, carry={"rank": [1, (2, None)], "b": b"x"})
    assert carried(parent(form=follow.form)) == ("film", {"rank": [1, [2, None]], "b": b"x"})
    assert carried(parent(form=it.follow("/1", extract="film").form)) == ("film", None)
    assert carried(parent()) == (None, None)


def test_only_functions_of_the_module_can_be_named() -> None:
    it = page(functions={})
    with pytest.raises(ValueError, match="no such function"):
        it.follow("/1", extract="film")
    with pytest.raises(ValueError, match="no such function"):
        it.follow("/1", extract=lambda page: None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "SITEMAP"},
        {"priority": 1001},
        {"carry": object()},
        {"carry": "x" * 70_000},
        {"headers": {"A": "b\r\nC: d"}},
        {"headers": {"A b": "c"}},
        {"headers": {"": "c"}},
        {"headers": {"Ä": "c"}},
        {"headers": {"A": "\ud800"}},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"HOST": "b.test"}},
        {"body": "\ud800", "method": "POST"},
        {"carry": "\ud800"},
        {"body": b"x" * (1 << 21), "method": "POST"},
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"follow|surrogates"):
        page().follow("/1", **wrong)  # type: ignore[arg-type]


def test_an_address_that_is_none_is_counted_and_not_raised() -> None:
    refused: dict[str, int] = {}
    bad = page().follow("mailto:me@a.test")
    group = follow_group(
        parent(), [bad, page().follow("https://b.test/")], 1, Scope("host", HeldSites({"a.test"})), 0, refused
    )
    assert group is None
    assert refused == {"invalid": 1, "scope": 1}
    with pytest.raises(TypeError, match="expected an address"):
        page().follow(None)


def test_dont_filter_numbers_are_the_same_each_time_and_differ_by_place_and_page() -> None:
    def serials(url: str) -> list[int | None]:
        follows = [
            page().follow("/1", dont_filter=True),
            page().follow("/1"),
            page().follow("/1", dont_filter=True),
        ]
        group = follow_group(parent(url), follows, 1, Scope("any", None), 5, {})
        assert group is not None and group.forms is not None
        return [None if form is None else form.serial for form in group.forms]

    first = serials(URL)
    assert first == serials(URL)
    assert first[1] is None
    assert len({first[0], first[2], *serials("https://a.test/")}) == 5  # the None is one of them


def test_a_carry_does_not_make_another_request_of_a_plain_get() -> None:
    form = page().follow("/1", carry=1).form
    assert form is not None
    key = request_key(form.method, CanonicalURL("https://a.test/1"), None, form.round, form.serial, 3)
    assert key == fingerprint(CanonicalURL("https://a.test/1"), 3)
