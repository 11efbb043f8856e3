"""The scope: what each kind takes in, and that it is the same on both sides of the wire."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import ProtocolError, UsageError
from common.scope import WIRE_SITES, HeldSites, Scope, registrable_domain, site_of
from common.url import HostKey, canonical


def scope(kind: str, *seeds: str, **rules: Any) -> Scope:
    made = Scope(kind, HeldSites(), **rules)
    for seed in seeds:
        made = made.with_seed(canonical(seed))
    return made


@pytest.mark.parametrize(
    ("kind", "seed", "inside", "outside"),
    [
        ("host", "http://example.org/a", "https://www.example.org:8443/b", "http://blog.example.org/"),
        ("host", "https://www.example.org/", "http://example.org/", "http://example.com/"),
        ("host", "https://www.example.org/", "http://example.org./", "http://www.www.example.org/"),
        ("host", "https://www.com/", "http://www.com/x", "http://example.com/"),
        ("host", "https://www.com/", "http://www.www.com/x", "http://com/"),
        ("host", "http://[::1]:80/", "http://[::1]:8080/", "http://[::2]/"),
        ("domain", "http://www.shop.example.co.uk/", "http://example.co.uk/", "http://other.co.uk/"),
        ("domain", "http://alice.github.io/", "http://www.alice.github.io/", "http://bob.github.io/"),
        ("domain", "http://github.io/", "http://github.io/x", "http://alice.github.io/"),
        ("domain", "http://10.1.3.4/", "http://10.1.3.4:81/", "http://10.2.3.4/"),
        ("domain", "http://[::1]/", "https://[::1]/", "http://[::2]/"),
        ("domain", "http://localhost/", "http://localhost:81/", "http://intranet/"),
        ("domain", "http://a.corp.test/", "http://b.corp.test/", "http://b.other.test/"),
        ("prefix", "http://h.test/docs/a.html", "https://www.h.test/docs/b/c?d=/e", "http://h.test/docs"),
        ("prefix", "http://h.test/docs/", "http://h.test/docs/", "http://h.test/docs2/"),
        ("prefix", "http://h.test/docs", "http://h.test/anything", "http://other.test/docs"),
        ("prefix", "http://h.test/a/?x=/b/", "http://h.test/a/b", "http://h.test/?/a/"),
    ],
)
def test_each_kind_takes_in_what_the_contract_says(kind: str, seed: str, inside: str, outside: str) -> None:
    one = scope(kind, seed)
    for _ in range(2):  # the second time from memory
        assert one.refusal(canonical(seed)) is None
        assert one.refusal(canonical(inside)) is None
        assert one.refusal(canonical(outside)) == "scope"


def test_any_takes_in_everything() -> None:
    assert scope("any", "http://a.test/").refusal(canonical("http://b.test/")) is None


def test_seeds_are_united() -> None:
    one = scope("prefix", "http://a.test/x/", "http://b.test/y/")
    verdicts = [
        one.refusal(canonical(f"http://{rest}")) for rest in ("a.test/x/1", "b.test/y/1", "a.test/y/1")
    ]
    assert verdicts == [None, None, "scope"]


def test_the_first_rule_that_refuses_is_named() -> None:
    one = scope("host", "http://a.test/", allow=[r"/shop/", r"\.html$"], deny=[r"[?&]sid=", r"/cart"])
    expected = {
        "http://a.test/shop/1": None,
        "http://a.test/x.html": None,
        "http://a.test/x": "allow",
        "http://a.test/shop/cart": "deny",
        "http://a.test/x?sid=1": "allow",
        "http://b.test/shop/cart": "scope",
    }
    assert {url: one.refusal(canonical(url)) for url in expected} == expected


def test_selecting_counts_what_each_rule_refused() -> None:
    one = scope("host", "http://a.test/", deny=["x"])
    links = [
        (canonical(url), b"")
        for url in ("http://a.test/1", "http://b.test/", "http://a.test/x", "http://a.test/2")
    ]
    refused: dict[str, int] = {"scope": 1}
    assert one.select(links, refused) == [links[0], links[3]]
    assert refused == {"scope": 2, "deny": 1}
    assert scope("any").select(links, refused) == links


@pytest.mark.parametrize("rules", [{"allow": ["(a"]}, {"deny": ["*"]}])
def test_a_pattern_that_is_none_is_named(rules: dict[str, list[str]]) -> None:
    option, (pattern,) = next(iter(rules.items()))
    with pytest.raises(UsageError, match=f"--{option} '\\{pattern}") as wrong:
        Scope("host", HeldSites(), **rules)  # type: ignore[arg-type]  # a map of the two options
    assert "\n" not in str(wrong.value)


def test_a_new_site_is_a_new_version_and_a_known_one_is_not() -> None:
    one = scope("host", "http://a.test/")
    assert one.refusal(canonical("http://b.test/")) == "scope"
    two = one.with_seed(canonical("http://www.b.test/"))
    assert two.version == one.version + 1
    assert two.refusal(canonical("http://b.test/")) is None
    assert one.refusal(canonical("http://b.test/")) == "scope"
    assert two.with_seed(canonical("https://b.test/x")) is two
    everything = scope("any")
    assert everything.with_seed(canonical("http://a.test/")) is everything


def test_both_sides_of_the_wire_judge_alike() -> None:
    here = scope("domain", "http://a.test/", "http://b.co.uk/", allow=["x"], deny=["y"])
    there = Scope.from_wire(here.to_wire())
    assert there.to_wire() == here.to_wire()
    assert there.version == here.version
    for url in ("http://c.a.test/x", "http://c.test/x", "http://a.test/", "http://a.test/xy"):
        assert there.refusal(canonical(url)) == here.refusal(canonical(url))


def test_a_worker_that_cannot_hold_the_sites_filters_by_patterns_alone() -> None:
    many = Scope("host", HeldSites(f"h{n}.test" for n in range(WIRE_SITES + 1)), deny=["x"])
    worker = Scope.from_wire(many.to_wire())
    assert worker.sites is None
    assert worker.refusal(canonical("http://elsewhere.test/")) is None
    assert worker.refusal(canonical("http://elsewhere.test/x")) == "deny"
    assert worker.with_seed(canonical("http://elsewhere.test/")) is worker


GOOD = {"version": 1, "kind": "host", "sites": ["a.test"], "allow": [], "deny": []}


@pytest.mark.parametrize(
    "wire",
    [
        None,
        {},
        GOOD | {"more": 1},
        GOOD | {"version": "1"},
        GOOD | {"version": True},
        GOOD | {"version": -1},
        GOOD | {"kind": "planet"},
        GOOD | {"kind": None},
        GOOD | {"sites": "a.test"},
        GOOD | {"sites": [1]},
        GOOD | {"allow": ["("]},
        GOOD | {"deny": None},
    ],
)
def test_what_is_no_scope_is_refused(wire: object) -> None:
    with pytest.raises(ProtocolError):
        Scope.from_wire(wire)


@pytest.mark.parametrize("kind", ["host", "domain"])
def test_the_memory_of_verdicts_is_bounded(kind: str) -> None:
    one = scope(kind, "http://a.test/")
    for n in range(20_000):
        assert one.refusal(canonical(f"http://h{n}.test/")) == "scope"
    assert len(one._verdicts) <= 16384


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("a.b.example.org", "example.org"),
        ("www.city.kawasaki.jp", "city.kawasaki.jp"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("a.xn--90ax2c.xn--p1ai", "xn--90ax2c.xn--p1ai"),
    ],
)
def test_registrable_domains(key: str, domain: str) -> None:
    assert registrable_domain(HostKey(key)) == domain


def test_the_site_of_a_seed_is_plain_text() -> None:
    url = canonical("https://www.example.org:8443/docs/a.html?b")
    assert [site_of(kind, url) for kind in ("host", "domain", "prefix", "any")] == [
        "example.org",
        "example.org",
        "example.org/docs/",
        None,
    ]
