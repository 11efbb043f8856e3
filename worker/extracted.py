"""What extractors made of a page, on its way into the page's report; and whether there is anything to make. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.config import CrawlConfig
from common.messages import Request
from worker.exchange import Exchange
from worker.extractfollow import Follow
from worker.outgoing import is_download, is_sitemap, method_of


@dataclass(slots=True)
class Extracted:
    """`items`: (name, JSON). `error`: why the page's items are lost, one line; then there are none."""

    items: list[tuple[str, bytes]] = field(default_factory=list)
    follows: list[Follow] = field(default_factory=list)
    error: str | None = None


def wants_extraction(request: Request, came: Exchange) -> bool:
    """Whether a response is one to extract from: a good status, asked for with its body, and no sitemap."""
    return (
        200 <= came.status < 300
        and not came.rejected
        and came.file is None
        and not is_sitemap(request)
        and not is_download(request)
        and method_of(request.form) != "HEAD"
    )


def extraction_differs(before: CrawlConfig, after: CrawlConfig) -> bool:
    """Whether a change of the configuration changes what is extracted, or how."""

    def of(config: CrawlConfig) -> tuple[object, ...]:
        return (
            config.extract,
            config.code,
            config.extractors,
            config.max_bytes,
            config.max_url_length,
        )

    return of(before) != of(after)
