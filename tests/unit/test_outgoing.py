"""No header goes where it must not, and a redirect's target is asked for as RFC 9110 has it."""

from __future__ import annotations

import pytest

from common.config import CrawlConfig
from common.hostrules import HostRule
from common.messages import HEAD, SITEMAP, Flag, Form, Request
from common.url import CanonicalURL
from worker import cookies
from worker.outgoing import GET, after_redirect, headers_for, host_headers, method_of

NOW = 1_750_000_000.0
POST = GET._replace(
    method="POST", body=b"a=1", headers=(("Content-Type", "text/plain"), ("X-Mine", "1"), ("Cookie", "s=1"))
)
CONDITIONAL = GET._replace(
    round=2, headers=(("If-None-Match", '"a"'), ("If-Modified-Since", "Sun, 15 Jun 2025 15:07:00 GMT"))
)
SECRETS = ("X-Plain: 1", "Authorization: Basic eA==", "cookie: s=1")


def asked(
    url: str,
    *,
    seed: str = "https://a.test/",
    referrer: str | None = "https://a.test/",
    form: Form | None = None,
    flags: int = 0,
) -> Request:
    return Request(url, 0, 0, 0, flags, seed, referrer, form)


def names(config: CrawlConfig, request: Request) -> set[str]:
    return {name.lower() for name in headers_for(config, request, None, NOW) or ()}


def test_most_requests_have_no_headers_of_their_own() -> None:
    assert headers_for(CrawlConfig(), asked("https://a.test/"), None, NOW) is None
    assert host_headers(CrawlConfig(), "https://a.test/robots.txt") is None


@pytest.mark.parametrize(
    "seed", ["https://a.test/deep", "a.test", "sitemap:https://a.test/s.xml", "a.test/list?page=[0-9]"]
)
def test_the_operators_headers_go_to_all_of_a_seeds_host_and_secrets_to_no_other(seed: str) -> None:
    config = CrawlConfig(header=SECRETS)
    every = {"x-plain", "authorization", "cookie"}
    assert names(config, asked("https://a.test/any", seed=seed)) == every
    assert names(config, asked("http://a.test:8080/", seed=seed)) == every
    assert names(config, asked("https://b.test/", seed=seed)) == set()
    assert names(config, asked("https://www.a.test/", seed=seed)) == {"x-plain"}


def test_where_a_seed_redirects_gets_what_is_no_secret() -> None:
    config = CrawlConfig(header=SECRETS)
    assert names(config, asked("https://b.test/", flags=Flag.SEED)) == {"x-plain"}


def test_a_seed_whose_range_hides_its_host_still_gets_them() -> None:
    config = CrawlConfig(header=SECRETS)
    request = asked("https://h2.test/", seed="https://h[1-3].test/", referrer=None, flags=Flag.SEED)
    assert names(config, request) == {"x-plain", "authorization", "cookie"}


def test_a_host_rules_headers_go_to_its_hosts_alone_whoever_led_there() -> None:
    config = CrawlConfig(
        header=("X-Token: all",), host=(HostRule("b.*", header=("X-Token: b", "Authorization: Basic eA==")),)
    )
    assert headers_for(config, asked("https://b.test/"), None, NOW) == {
        "X-Token": "b",
        "Authorization": "Basic eA==",
    }
    assert headers_for(config, asked("https://b.test/", seed="b.test"), None, NOW) == {
        "X-Token": "b",
        "Authorization": "Basic eA==",
    }
    assert names(config, asked("https://c.test/")) == set()
    assert host_headers(config, "https://b.test/robots.txt") == {
        "X-Token": "b",
        "Authorization": "Basic eA==",
    }
    assert host_headers(config, "https://a.test/robots.txt") is None


def test_cookies_go_out_only_when_asked_for_and_join_those_given() -> None:
    jar = cookies.remember(None, CanonicalURL("https://a.test/"), [b"sid=1"], NOW)
    request = asked("https://a.test/")
    assert headers_for(CrawlConfig(), request, jar, NOW) is None
    assert headers_for(CrawlConfig(cookies=True), request, jar, NOW) == {"Cookie": "sid=1"}
    given = CrawlConfig(cookies=True, header=("cookie: s=0",))
    assert headers_for(given, request, jar, NOW) == {"Cookie": "s=0; sid=1"}


def test_a_forms_headers_go_before_all_others() -> None:
    config = CrawlConfig(header=("accept: text/plain",))
    form = GET._replace(headers=(("Accept", "image/*"),))
    assert headers_for(config, asked("https://a.test/", form=form), None, NOW) == {"Accept": "image/*"}


@pytest.mark.parametrize(
    ("form", "status", "method", "body"),
    [
        (POST, 301, "GET", None),
        (POST, 302, "GET", None),
        (POST, 303, "GET", None),
        (POST, 307, "POST", b"a=1"),
        (POST, 308, "POST", b"a=1"),
        (POST._replace(method="PUT"), 301, "PUT", b"a=1"),
        (POST._replace(method="PUT"), 303, "GET", None),
        (HEAD, 301, "HEAD", None),
        (HEAD, 303, "HEAD", None),
        (HEAD, 308, "HEAD", None),
        (GET._replace(method=SITEMAP), 301, SITEMAP, None),
        (GET._replace(method=SITEMAP), 303, SITEMAP, None),
        (GET._replace(method=SITEMAP), 307, SITEMAP, None),
    ],
)
def test_the_status_decides_which_method_a_target_gets(
    form: Form, status: int, method: str, body: bytes | None
) -> None:
    target = after_redirect(form, status, same_host=True, usual=None)
    assert (target.method if target else "GET", target.body if target else None) == (method, body)


def test_headers_of_a_body_stay_behind_with_it() -> None:
    kept = after_redirect(POST, 307, same_host=True, usual=None)
    turned = after_redirect(POST, 303, same_host=True, usual=None)
    assert kept is not None
    assert turned is not None
    assert kept.headers == POST.headers
    assert turned.headers == (("X-Mine", "1"), ("Cookie", "s=1"))


def test_secrets_do_not_cross_hosts() -> None:
    target = after_redirect(POST, 308, same_host=False, usual=None)
    assert target is not None
    assert target.headers == (("Content-Type", "text/plain"), ("X-Mine", "1"))


def test_what_made_a_request_conditional_never_reaches_another_url() -> None:
    assert after_redirect(CONDITIONAL, 301, same_host=True, usual=None) is None
    sitemap = after_redirect(CONDITIONAL._replace(method=SITEMAP), 301, same_host=True, usual=None)
    assert sitemap == Form(SITEMAP, (), None, None, 2, 0, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_target_of_a_plain_request_is_plain(status: int) -> None:
    assert after_redirect(None, status, same_host=False, usual=None) is None
    assert after_redirect(GET, status, same_host=False, usual=None) is None
    assert after_redirect(HEAD, status, same_host=False, usual=HEAD) is None
    assert after_redirect(HEAD._replace(round=3), status, same_host=False, usual=HEAD) is None
    assert after_redirect(GET, status, same_host=False, usual=HEAD) == GET


def test_a_serial_and_what_an_extractor_carries_follow_a_redirect() -> None:
    form = GET._replace(serial=7, carry=b"\x01", priority=3)
    assert after_redirect(form, 302, same_host=False, usual=None) == form


def test_a_sitemap_is_fetched_by_get() -> None:
    assert [method_of(form) for form in (None, HEAD, POST, GET._replace(method=SITEMAP))] == [
        "GET",
        "HEAD",
        "POST",
        "GET",
    ]
