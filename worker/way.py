"""The way to each origin: what all requests to it have in common, made once.

Where to connect, through which of the host's proxies, whether its certificate is verified, the bytes of a request's
head that never change, and which address was connected to lately. `Ways` keeps them and finds the one of a URL. It
sends nothing, and looks no name up.

Read next: worker/proxies.py, worker/connector.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING

from yarl import URL

from common.masking import SECRET_HEADERS
from worker.addresses import refusal
from worker.connector import Origin
from worker.proxies import Proxies, Proxy

if TYPE_CHECKING:
    from worker.fetcher import FetcherSettings

_WAYS = 8192  # origins whose request heads are kept ready, about 3 KiB each; made again in 30 µs


class Way:
    """What requests to one origin have in common, made once; through a list of proxies, once for each in use."""

    __slots__ = (
        "_absolute",
        "_fixed",
        "_host_line",
        "_others",
        "_own",
        "_proxies",
        "_proxy_line",
        "_text",
        "_url",
        "address",
        "gated",
        "host",
        "origin",
        "plain",
        "proxy",
    )

    def __init__(
        self,
        origin: str,
        url: URL,
        settings: FetcherSettings,
        proxies: tuple[Proxy, ...],
        proxy: Proxy | None,
        fixed: bytes,
    ) -> None:
        self.host = (url.raw_host or "").rstrip(".")
        self.plain = url.scheme == "http"
        self.proxy = proxy
        self.address: str | None = None  # connected to lately, or the first to be tried
        self.gated = False  # hosts of its address are counted
        verified = not any(fnmatch.fnmatchcase(self.host, pattern) for pattern in settings.insecure)
        self.origin = Origin(url, verified=verified, proxy=proxy)
        self._host_line = b" HTTP/1.1\r\nHost: " + origin.partition("://")[2].encode("ascii") + b"\r\n"
        self._fixed = fixed
        self._own = settings
        # Through an HTTP proxy plain HTTP is asked for by the whole URL; HTTPS goes through a tunnel, where
        # all is as usual.
        whole = proxy is not None and self.plain and not proxy.tunnels_all
        self._absolute = origin.encode("ascii") if whole else b""
        self._proxy_line = proxy.authorization() if proxy is not None and whole else b""
        self._text = origin
        self._url = url
        self._proxies = proxies
        self._others: dict[Proxy, Way] = {} if proxy is None else {proxy: self}

    def note_address(self, address: str | None) -> None:
        """It was connected to, or is the first to be tried; None: not known, as behind a proxy."""
        self.address = address
        self.gated = address is not None and refusal(address) != "loopback"

    def working(self, at: float) -> Way | None:
        """The way through the first of the host's proxies that does not rest; None: all do."""
        for proxy in self._proxies:
            if proxy.rests_until <= at:
                way = self._others.get(proxy)
                if way is None:
                    way = Way(self._text, self._url, self._own, self._proxies, proxy, self._fixed)
                    way._others = self._others
                    self._others[proxy] = way
                return way
        return None

    def head(self, method: str, target: str, headers: Mapping[str, str] | None, body: bytes | None) -> bytes:
        """The request up to the empty line. Raises ValueError for a character no header may hold."""
        fixed = self._fixed
        if headers:
            settings = self._own
            given = {name.lower() for name in headers}
            merged = [("User-Agent", settings.user_agent), *settings.headers]
            merged = [pair for pair in merged if pair[0].lower() not in given]
            fixed = header_lines((*merged, *headers.items()))
        if body is not None:
            fixed += b"Content-Length: %d\r\n" % len(body)
        return b"".join(
            (
                method.encode("ascii"),
                b" ",
                self._absolute,
                target.encode("ascii"),
                self._host_line,
                fixed,
                self._proxy_line,
                b"\r\n",
            )
        )


class Ways:
    """The ways of one process by origin, _WAYS of them; the oldest goes first."""

    def __init__(self, settings: FetcherSettings) -> None:
        """Raises ValueError for a proxy or a header that is none."""
        self._settings = settings
        self._proxies = Proxies(settings.proxy, settings.host_proxies)
        self._fixed = header_lines((("User-Agent", settings.user_agent), *settings.headers))
        self._kept: dict[str, Way] = {}

    def of(self, url: str, at: float) -> tuple[Way, str]:
        """The way to a URL's origin, through a proxy that works by now (`at`), and the request target.

        Raises ValueError for a URL that is not canonical.
        """
        start = url.index("://") + 3
        slash = url.find("/", start)
        if slash < 0:
            raise ValueError(f"{url[:200]!r} is not canonical: no path")
        origin, target = url[:slash], url[slash:]
        if not (target.isascii() and target.isprintable()) or " " in target:
            raise ValueError(f"{url[:200]!r} is not canonical: a character that must be escaped")
        way = self._kept.get(origin)
        if way is None:
            while len(self._kept) >= _WAYS:
                del self._kept[next(iter(self._kept))]
            way = self._kept[origin] = self._new(origin)
        if way.proxy is not None:
            way = way.working(at) or way
        return way, target

    def _new(self, origin: str) -> Way:
        url = URL(origin + "/", encoded=True)
        host = url.raw_host
        if not host or url.scheme not in ("http", "https"):
            raise ValueError(f"{origin[:200]!r} is no origin")
        key = host.rstrip(".")
        proxies = self._proxies.of(f"[{key}]" if ":" in key else key) if self._proxies else ()
        way = Way(origin, url, self._settings, proxies, proxies[0] if proxies else None, self._fixed)
        if proxies or not self._settings.per_ip:
            return way
        way.gated = True
        if ":" in key or key.replace(".", "").isdigit():
            way.note_address(key)
        return way


def header_lines(pairs: tuple[tuple[str, str], ...]) -> bytes:
    """Header lines as bytes. What came as UTF-8 or as other bytes (surrogates) goes out as it came."""
    lines = []
    for name, value in pairs:
        if not name or not name.isascii() or not name.isprintable() or any(c in name for c in " :"):
            raise ValueError(f"{name!r} is not the name of a header")
        if "\r" in value or "\n" in value or "\0" in value:
            shown = "its value" if name.lower() in SECRET_HEADERS else repr(value[:100])
            raise ValueError(f"{name}: a line break in {shown}")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
