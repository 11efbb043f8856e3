"""What `coord set` and `coord block` make of a configuration, and what they say to what makes none."""

from __future__ import annotations

import pytest

from common.config import CrawlConfig
from common.errors import UsageError
from common.hostrules import HostRule
from coordinator.changing import (
    fitting,
    pattern_of,
    settings_of,
    with_blocked,
    with_options,
    with_rule,
)
from coordinator.differences import differences

PLAIN = CrawlConfig()


def test_options_are_set_as_they_are_spelt_anywhere_and_told_old_and_new() -> None:
    given = settings_of(["delay=2s", "--max-pages=1,000", "deny=/a", "deny=/b=c"])
    after = with_options(PLAIN, given, running=True)
    assert (after.delay, after.max_pages, after.deny) == (2.0, 1000, ("/a", "/b=c"))
    assert differences(PLAIN, after) == [
        'deny: [] → ["/a", "/b=c"]',
        'max_pages: "none" → 1000',
        "delay: 1 → 2",
    ]
    back = with_options(after, {"deny": "", "max_pages": "none", "delay": 1}, running=True)
    assert back == PLAIN


def test_secrets_are_masked_in_what_is_told() -> None:
    after = with_options(PLAIN, {"header": "Cookie: s=1", "proxy": "http://u:pw@p.test:1"}, running=True)
    after = with_rule(after, "a.test", {"header": ["Authorization: Basic x", "X: y"]}, running=True)
    told = "\n".join(differences(PLAIN, after))
    assert "s=1" not in told and "pw" not in told and "Basic" not in told
    assert 'a.test: header: not set → ["Authorization: ***", "X: y"]' in told


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dely": "1"}, "no option is called 'dely'; did you mean delay?"),
        ({"delay": "soon"}, "delay: expected a time"),
        ({"head": "true"}, "head was false and cannot become true"),
        ({"strip_www": "yes"}, "choose another --out"),
        ({"scope": "any"}, "stop it, and start it again with --scope any"),
        ({"quiet": "true"}, "no option of the crawl itself"),
        ({"robots_token": "two words"}, "RFC 9309"),
        ({"deny": "("}, "not a regular expression"),
        ({"hosts_file": "/nowhere/hosts"}, "/nowhere/hosts: No such file"),
    ],
)
def test_what_cannot_be_set_is_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as error:
        with_options(PLAIN, settings, running=True)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_of_a_stopped_crawl_the_scope_may_be_set_but_no_secret() -> None:
    assert with_options(PLAIN, {"scope": "any"}, running=False).scope == "any"
    with pytest.raises(UsageError, match="never kept on disk"):
        with_options(PLAIN, {"header": "Cookie: s=1"}, running=False)
    with pytest.raises(UsageError, match="never kept on disk"):
        with_rule(PLAIN, "a.test", {"proxy": "http://u:pw@p.test:1"}, running=False)


def test_what_is_set_last_for_a_pattern_wins_and_rules_do_not_grow() -> None:
    config = PLAIN
    for delay in range(5):
        config = with_rule(config, "*.a.test", {"delay": delay, "per_host": 2}, running=True)
        config = with_rule(config, "b.a.test", {"delay": delay + 10}, running=True)
        assert config.for_host("b.a.test")[:2] == (delay + 10, 2)
        assert config.for_host("c.a.test")[:2] == (delay, 2)
    assert len(config.host) == 2
    config = with_rule(config, "*.a.test", {"delay": 99}, running=True)
    assert config.for_host("b.a.test")[:2] == (99, 2)
    config = with_rule(config, "*.a.test", {"delay": "none", "per_host": "none"}, running=True)
    assert config.host == (HostRule("b.a.test", delay=14.0),)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_pages": "1"}, "max_pages is no option of single hosts; those are delay, per_host"),
        ({"blokced": "1"}, "did you mean blocked?"),
        ({"per_host": "0"}, "per_host: must be at least 1"),
    ],
)
def test_what_cannot_be_set_for_a_host_is_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match="^" + said.replace("?", r"\?") if said[0] == "m" else said):
        with_rule(PLAIN, "a.test", settings, running=True)


@pytest.mark.parametrize(
    ("typed", "pattern"),
    [
        ("Example.ORG", "example.org"),
        ("https://user@Example.org:8080/a?b*c", "example.org"),
        ("example.org/path", "example.org"),
        ("b\u00fccher.de", "xn--bcher-kva.de"),
        ("127.0.0.1", "127.0.0.1"),
        ("http://[::1]:80/", "[[]::1]"),
        ("*.GOV.uk", "*.gov.uk"),
        ("*", "*"),
    ],
)
def test_a_host_a_url_and_a_pattern_are_told_apart(typed: str, pattern: str) -> None:
    assert pattern_of(typed) == pattern


@pytest.mark.parametrize("typed", ["", "a b", "*/x", "b\u00fccher.*", "*.a:80"])
def test_what_is_no_host_is_said(typed: str) -> None:
    with pytest.raises(UsageError, match=r"expected a host, a URL, or a pattern"):
        pattern_of(typed)


def test_a_configuration_that_workers_could_not_be_sent_is_refused() -> None:
    long = tuple(HostRule("h" * 240 + str(number), delay=1.0) for number in range(9000))
    with pytest.raises(UsageError, match="more than the 2,000,000 that workers take"):
        fitting(CrawlConfig(host=long))
    assert fitting(PLAIN) is PLAIN


def test_a_blocked_host_is_blocked_and_unblocked_also_within_a_wider_pattern() -> None:
    config = with_blocked(PLAIN, ["http://[::1]/", "*.a.test", "x.test"], undo=False)
    assert all(config.for_host(host).blocked for host in ("[::1]", "b.a.test", "x.test"))
    config = with_blocked(config, ["x.test", "b.a.test"], undo=True)
    assert [config.for_host(host).blocked for host in ("x.test", "b.a.test", "c.a.test")] == [
        False,
        False,
        True,
    ]
    with pytest.raises(UsageError, match=r"y.test is not blocked; blocked are"):
        with_blocked(config, ["y.test"], undo=True)
    with pytest.raises(UsageError, match="is not blocked; no host is"):
        with_blocked(PLAIN, ["y.test"], undo=True)
