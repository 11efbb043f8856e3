"""The key of a URL in a CDXJ index: the host turned round, then path and query, so that a site's pages stand together.

    http://www.example.org:8080/A/b?y=2&x=1     org,example:8080)/a/b?x=1&y=2

It must be to the byte what pywb works out when it looks a URL up (the rules of the Internet Archive's canonical form,
which forgets case, `www.`, scheme, default ports, the order of the query, session ids and a slash at the end): a test
compares the two over the URLs of the public suites. Our own code, because the `surt` package is under AGPL and asks
the network for suffixes. Pure; takes canonical URLs only. About 12 µs.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from common.url import CanonicalURL

_KEPT: Final = "!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_WWW: Final = re.compile(r"www\d*\.")
_PORT: Final = re.compile(r":(\d+)$")

_SESSIONS: Final = tuple(
    re.compile(rb"^(.*)" + name + rb"(?:&(.*))?$", re.I)
    for name in (
        rb"jsessionid=[0-9a-z]{32}",
        rb"phpsessid=[0-9a-z]{32}",
        rb"sid=[0-9a-z]{32}",
        rb"aspsessionid[a-z]{8}=[a-z]{24}",
        rb"cfid=[^&]+&cftoken=[^&]+",
    )
)
_ASPX_SESSIONS: Final = tuple(
    re.compile(rb"^(.*/)" + name + rb"/([^?]+\.aspx.*)$", re.I)
    for name in (rb"\((?:[a-z]\([0-9a-z]{24}\))+\)", rb"\([0-9a-z]{24}\)")
)


def surt(url: CanonicalURL) -> str:
    """The key. ASCII, without a space."""
    authority, _, target = url.partition("://")[2].partition("/")
    path, _, query = target.partition("?")
    key = f"{_host(authority.rpartition('@')[2])}){_path(path)}"
    arguments = _query(query)
    return f"{key}?{arguments}" if arguments else key


def _host(authority: str) -> str:
    port = _PORT.search(authority)
    host = authority[: port.start()] if port else authority
    host = host.strip("[]").strip(".").lower()
    if www := _WWW.match(host):
        host = host[www.end() :]
    turned = ",".join(reversed(host.split(".")))
    # A canonical URL names no default port, so one that is named stays.
    return f"{turned}:{port[1]}" if port and port[1] != "0" else turned


def _path(path: str) -> str:
    kept: list[bytes] = []
    for part in _plain(path).split(b"/"):
        if part == b".." and kept:
            kept.pop()
        elif part != b".":
            kept.append(part)
    # Two slashes count as one, but a slash at the end is a name of its own until it is taken off below.
    content = b"/".join([part for part in kept[:-1] if part] + kept[-1:])
    content = _escaped(b"/" + content).lower()
    for pattern in _ASPX_SESSIONS:
        if found := pattern.match(content):
            content = found[1] + found[2]
    return (content[:-1] if len(content) > 1 and content.endswith(b"/") else content).decode()


def _query(query: str) -> str:
    content = _escaped(_plain(query))
    for pattern in _SESSIONS:
        if found := pattern.match(content):
            content = found[1] + (found[2] or b"")
    content = content.lower()
    if len(content) > 1:
        content = b"&".join(
            b"=".join(pair) for pair in sorted(tuple(each.split(b"=", 1)) for each in content.split(b"&"))
        )
    return content.decode()


def _plain(text: str) -> bytes:
    """Escapes undone until there are none."""
    plain = unquote_to_bytes(text)
    while b"%" in plain and (again := unquote_to_bytes(plain)) != plain:
        plain = again
    return plain


def _escaped(plain: bytes) -> bytes:
    return quote_from_bytes(plain, safe=_KEPT).encode()
