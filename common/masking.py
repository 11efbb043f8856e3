"""What is secret in a configuration and in a request, and what stands in its place.

Secrets are the values of the headers in `SECRET_HEADERS` and the passwords of proxies. They travel to workers
(`common/configwire.py`); no file, log or screen ever gets them. Credentials in a URL go nowhere at all.
"""

from __future__ import annotations

import re
from typing import cast

MASK = "***"
"""What stands in place of a secret wherever a configuration is shown or kept."""

SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Header names whose values never reach a file, a log or a screen."""


def masked(name: str, value: object) -> object:
    """An option's value as it may be shown: secrets replaced by `MASK`."""
    if name == "header":
        return tuple(_mask_header(line) for line in cast("tuple[str, ...]", value))
    if name == "proxy":
        return tuple(_mask_proxy(url) for url in cast("tuple[str, ...]", value))
    return value


_credentials = re.compile(
    r"(\s*+(?:sitemap:\s*+)?[a-z][a-z0-9+.-]*+:[/\\]*+)([^/?#\\:]*)(:?)[^/?#\\]*@", re.IGNORECASE
).match


def masked_url(text: str) -> str:
    """A URL as it was typed, without its password; a user name without one may be a token, and goes as well."""
    found = _credentials(text) if "@" in text else None
    if found is None:
        return text
    scheme, user, colon = found.groups()
    return f"{scheme}{user + colon if colon else ''}{MASK}@{text[found.end() :]}"


def _mask_proxy(url: str) -> str:
    return re.sub(r"(//[^/@:]*):[^/@]*@", rf"\1:{MASK}@", url)


def _mask_header(line: str) -> str:
    name = line.partition(":")[0]
    return f"{name}: {MASK}" if name.strip().lower() in SECRET_HEADERS else line
