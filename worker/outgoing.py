"""What goes out with a request beyond its address, and what of it a redirect's target gets.

Whose header is sent where:

    --header                  to the hosts of seeds; Authorization and Cookie to the very host of the seed, other
                              headers also to where a seed redirects, and to `www.` of it
    header of a [[host]]      to every host that its pattern matches, robots.txt and sitemaps too
    headers of a form         with that request
    a host's cookies          to that host (worker/cookies.py)

The later in this list goes before the earlier of the same name; cookies join a Cookie header that was given. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from common.config import CrawlConfig
from common.errors import BadURL
from common.masking import SECRET_HEADERS
from common.messages import DOWNLOAD, HEAD, SITEMAP, Flag, Form, Request
from common.url import CanonicalURL, HostKey, canonical, host_key
from worker import cookies

GET = HEAD._replace(method="GET")
"""A plain GET as a form; where a form is None, this is meant (in a crawl with `--head`: HEAD)."""

_BY_GET = (SITEMAP, DOWNLOAD)

_OF_A_BODY = ("content-encoding", "content-language", "content-location", "content-length", "content-type")


def method_of(form: Form | None) -> str:
    """The method on the wire; a sitemap and a download are fetched by GET."""
    return "GET" if form is None or form.method in _BY_GET else form.method


def is_sitemap(request: Request) -> bool:
    """Whether what comes is read for what it lists, and is no page."""
    return request.form is not None and request.form.method == SITEMAP


def is_download(request: Request) -> bool:
    """Whether somebody's code asked for it as a file."""
    return request.form is not None and request.form.method == DOWNLOAD


def host_headers(config: CrawlConfig, url: str) -> Mapping[str, str] | None:
    """Headers for whatever is asked of a host, robots.txt too; None: no more than the usual."""
    return dict(config.for_host(host_key(CanonicalURL(url))).headers) or None


def headers_for(
    config: CrawlConfig, request: Request, jar: bytes | None, now: float
) -> Mapping[str, str] | None:
    """Headers beyond the usual; None: none. `jar`: the host's cookies, `now`: wall-clock seconds."""
    if not (config.header or config.host or config.cookies or request.form):
        return None  # which is so for most crawls, and this is asked for each fetch
    url = CanonicalURL(request.url)
    pairs = [*_of_operator(config, request, url), *config.for_host(host_key(url)).headers]
    if request.form is not None:
        pairs += request.form.headers
    sent = {name.lower(): (name, value) for name, value in pairs}
    cookie = cookies.header(jar, url, now) if config.cookies else None
    if cookie is not None:
        given = sent.get("cookie")
        sent["cookie"] = ("Cookie", cookie if given is None else f"{given[1]}; {cookie}")
    return dict(sent.values()) or None


def after_redirect(form: Form | None, status: int, *, same_host: bool, usual: Form | None) -> Form | None:
    """The form of a redirect's target (RFC 9110, 15.4); None where it is what the crawl's requests usually are.

    301, 302 and 303 make a GET of a POST, 303 of everything but HEAD; 307 and 308 keep method and body. What made the
    request a conditional one stays behind, and secrets do not go to another host. `usual`: HEAD in a crawl with
    `--head`, None elsewhere. The round of a plain request is for the shard to set.
    """
    if form is None:
        return None
    dropped = () if same_host else tuple(SECRET_HEADERS)
    method, body = form.method, form.body
    if (status == 303 and method not in ("HEAD", *_BY_GET)) or (status < 303 and method == "POST"):
        method, body = "GET", None
        dropped += _OF_A_BODY
    headers = tuple(
        (name, value)
        for name, value in form.headers
        if (lower := name.lower()) not in dropped and not lower.startswith("if-")
    )
    target = form._replace(method=method, headers=headers, body=body)
    return None if target._replace(round=0) == (usual or GET) else target


def _of_operator(config: CrawlConfig, request: Request, url: CanonicalURL) -> list[tuple[str, str]]:
    """What of `--header` goes with this request."""
    if not config.header:
        return []
    host, seed = host_key(url), _host_of_seed(request.seed)
    if request.referrer is None or host == seed:
        return list(config.headers)
    alias = seed is not None and host.removeprefix("www.") == seed.removeprefix("www.")
    if alias or request.flags & Flag.SEED:
        return [pair for pair in config.headers if pair[0].strip().lower() not in SECRET_HEADERS]
    return []


@lru_cache(maxsize=4096)
def _host_of_seed(given: str) -> HostKey | None:
    """The host of a seed as it was given; None where it does not say (a range may be in the host)."""
    text = given.removeprefix("sitemap:")
    try:
        return host_key(canonical(text if "://" in text else f"https://{text}"))
    except BadURL:
        return None
