"""Canonical form: which addresses are one page. How to read it: registry.py."""

from __future__ import annotations

from tests.probes.manifest import Plan
from tests.probes.registry import CANONICAL, probe


@probe(
    CANONICAL,
    "WHATWG parsing, case, dot segments, percent-case, IDNA, empty query, fragments dropped",
    finds="one fetch of each page, however its address is written; what may be another page is one",
    spares="fragments, other schemes, URLs of more than 2,048 characters",
)
def canonical(p: Plan) -> None:
    there = p.url("/")[len("http://") : -1]
    same = [
        "/a",
        "/a#x",
        "/a?",
        "/./a",
        "/x/../a",
        "/%61",
        " /a\t",
        "/\na",
        f"//{there}/a",
        "\\a",
        "a",
        "./a",
        "%2e/a",
    ]
    same += [f"HTTP://{there.upper()}/a", f"http://user:pass@{there}/a", "/../../a"]
    same += ["/b\u00e9", "/b%c3%a9", "/b%C3%A9", "/c d", "/c%20d", "/%7Eme", "/~me"]
    same += ["/q?x=\u00e9", "/q?x=%c3%a9", "/q?%78=%C3%A9"]
    other = [
        "/A",
        "/a/",
        "//a",
        "/a??",
        "/a?x",
        "/a?x=",
        "/a?y=1&x=2",
        "/a?x=2&y=1",
        "/a;b",
        "/a%2Fb",
        "/%%34%31",
    ]
    other = [link.replace("//a", f"//{there}//a") for link in other]
    refused = [
        "mailto:a@b.test",
        "javascript:void(0)",
        "data:text/html,x",
        "ftp://h.test/",
        "tel:1",
        "http://",
        "#top",
    ]
    refused += [f"http://{'x' * 300}.test/", "/" + "x" * 2048, "http://a..test/"]
    port = p.servers.ports["web"]
    p.seed()
    p.page("/", [*same, *other, *refused, f"http://B\u00fccher.{p.host}:{port}/"])
    p.pages(["/a", "/b%C3%A9", "/c%20d", "/~me", "/q?x=%C3%A9"])
    p.pages(
        [
            "/A",
            "/a/",
            "//a",
            "/a??",
            "/a?x",
            "/a?x=",
            "/a?y=1&x=2",
            "/a?x=2&y=1",
            "/a;b",
            "/a%2Fb",
            "/%%34%31",
        ]
    )
    p.page("/", host=f"xn--bcher-kva.{p.host}")


@probe(
    CANONICAL,
    "opt-in: sort the query, drop tracking parameters, strip session ids, drop `www.`",
    crawl="switched",
    finds="one fetch for each group of addresses that these options take for one page",
    spares="the other spellings; a parameter or host that only looks alike stays",
)
def canonical_options(p: Plan) -> None:
    sid = "0123456789abcdef0123456789abcdef"
    port = p.servers.ports["web"]
    links = [
        "/s?c=1&a=2&b=3",
        "/s?b=3&a=2&c=1",
        "/s?a=2&b=3&c=1&utm_source=x&UTM_Medium=y",
        "/s?gclid=1&a=2&b=3&c=1",
    ]
    links += [f"/t?PHPSESSID={sid}", f"/t;jsessionid={sid}", f"/t?sid={sid}", "/t"]
    links += ["/k?s=words", "/k?ref=a", "/k?source=b"]
    links += [f"http://www.{p.host}:{port}/w", "/w"]
    p.seed()
    p.page("/", links)
    p.pages(["/s?a=2&b=3&c=1", "/t", "/k?s=words", "/k?ref=a", "/k?source=b", "/w"])
    p.spare("/w", "/robots.txt", host=f"www.{p.host}")
