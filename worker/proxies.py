"""The proxies of a worker process: read, dealt out to hosts, set aside while they fail.

A host keeps its proxy, in every process of the crawl: of a list, each host has its own order of preference
(rendezvous hashing), so that a proxy that is added or taken away moves only the hosts that it gains or loses.
A proxy that fails for a reason of its own (`ProxyFailed.broken`) rests for REST_SECONDS; its hosts go through
the next of their order meanwhile and come back afterwards. When all rest, the first is asked anyway: then its
failure is the outcome. A proxy that answers "no", or that cannot reach one host, is not broken.

Names are always looked up by the proxy: a URL's host never reaches our own DNS on this way (`socks5` means
what curl calls `socks5h`, `socks4` means 4a), and it is the proxy that decides which addresses are reached.

Here is also the SOCKS handshake, by python-socks, on a socket of its making. HTTP and HTTPS proxies are spoken
to in worker/connector.py. User names and passwords stand in `Proxy` only: not in its repr, its `shown` form,
its URL, nor in any error.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import socket
from collections.abc import Iterable
from typing import Literal
from urllib.parse import unquote

import xxhash
from python_socks import ProxyConnectionError, ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksClient
from yarl import URL

from common.errors import UsageError

REST_SECONDS = 30.0
"""How long a broken proxy is left alone: a restart is over by then, and one fetch in that time asks again."""

Reason = Literal["unreachable", "tls", "timeout", "authentication", "refused", "gateway", "bad_reply"]

_BROKEN = frozenset({"unreachable", "tls", "authentication", "bad_reply"})
_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080}
_SCHEMES = {"socks4a": "socks4", "socks5h": "socks5"} | {scheme: scheme for scheme in _PORTS}
_LOGIN_REFUSED = ("No acceptable authentication", "authentication failure")  # python-socks' words
_FOREVER = 86400.0  # python-socks' own time-out; the caller has one
_SOCKS_REPLIES: dict[int, Reason] = {
    # SOCKS5 (RFC 1928, 6): 1 failure, 3 to 6 the host is not reached, 7 and 8 not supported
    **dict.fromkeys((1, 3, 4, 5, 6), "gateway"),
    **dict.fromkeys((2, 7, 8), "refused"),
    # SOCKS4: one code for all failures, two for identd
    0x5B: "gateway",
    **dict.fromkeys((0x5C, 0x5D), "authentication"),
}


class ProxyFailed(OSError):
    """The way through a proxy failed; nothing of the request was sent.

    `reason`: `unreachable` (it cannot be connected to, or its name has no address), `tls` (its certificate, or
    no TLS), `timeout`, `authentication`, `refused` (it does not serve this host), `gateway` (it cannot reach the
    host), `bad_reply` (what it said is no answer, or it hung up). `broken`: the fault is the proxy's, whatever
    the host.
    """

    def __init__(self, proxy: Proxy, reason: Reason, said: object, *, broken: bool | None = None) -> None:
        super().__init__(f"proxy {proxy.shown}: {said}")
        self.reason = reason
        self.broken = reason in _BROKEN if broken is None else broken


class Proxy:
    """One proxy. Mutable only in `rests_until`, which is in seconds of the fetcher's clock."""

    __slots__ = ("_password", "_user", "host", "port", "rests_until", "salt", "scheme", "shown", "url")

    def __init__(self, text: str) -> None:
        """Read `http[s]|socks4|socks5://[user:password@]host[:port]`. Raises `UsageError`, without the password."""
        try:
            url = URL(text)
            port = url.explicit_port
        except ValueError:
            url, port = URL(), None
        scheme = _SCHEMES.get(url.scheme)
        if scheme is None or not url.host or url.raw_path not in ("", "/") or url.raw_query_string:
            raise _unreadable(
                text, "not a proxy; write http://, https:// or socks5://[user:password@]host:port"
            )
        self.scheme = scheme
        self.host = url.raw_host or ""
        self.port = port or _PORTS[scheme]
        self.url = URL.build(scheme=scheme, host=url.host, port=self.port)
        self.shown = str(self.url)
        self._user = None if url.raw_user is None else unquote(url.raw_user)
        self._password = unquote(url.raw_password or "")
        if scheme.startswith("socks"):
            for word in (self._user or "", self._password):
                if not word.isascii() or len(word) > 255 or "\0" in word:
                    raise _unreadable(
                        text, "SOCKS takes user names and passwords of ASCII, up to 255 characters"
                    )
        self.salt = xxhash.xxh64_intdigest(text.encode())
        self.rests_until = 0.0

    def __repr__(self) -> str:
        return f"Proxy({self.shown})"

    @property
    def tunnels_all(self) -> bool:
        """Whether plain HTTP goes through a tunnel, too (SOCKS); else it is asked for by its whole URL."""
        return self.scheme.startswith("socks")

    def authorization(self) -> bytes:
        """The header line that says who we are to an HTTP proxy; empty if it does not ask."""
        if self._user is None:
            return b""
        pair = f"{self._user}:{self._password}".encode()
        return b"Proxy-Authorization: Basic " + base64.b64encode(pair) + b"\r\n"

    def connect_request(self, host: str, port: int) -> bytes:
        """What asks an HTTP proxy for a tunnel (RFC 9110, 9.3.6)."""
        name = f"[{host}]" if ":" in host else host
        target = f"{name}:{port}".encode("ascii")
        return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, self.authorization())

    async def socks_tunnel(self, address: str, host: str, port: int) -> socket.socket:
        """A socket that leads to `host` through the SOCKS proxy at the IP `address`; the caller's to close.

        Raises `ProxyFailed`, or ValueError for a host that SOCKS cannot name. No time-out.
        """
        host.encode("idna")  # a label that is empty or too long: before, not amid the handshake
        loop = asyncio.get_running_loop()
        kind = ProxyType.SOCKS4 if self.scheme == "socks4" else ProxyType.SOCKS5
        client = SocksClient(kind, address, self.port, self._user, self._password, rdns=True, loop=loop)
        try:
            return await client.connect(host, port, timeout=_FOREVER)
        except ProxyConnectionError as error:
            raise OSError(error.errno, str(error.__cause__ or error)) from error
        except ProxyError as error:
            if error.error_code is not None:
                raise ProxyFailed(self, _SOCKS_REPLIES.get(error.error_code, "bad_reply"), error) from error
            # The library tells a refused login from nonsense by its words alone.
            login = any(words in str(error) for words in _LOGIN_REFUSED)
            raise ProxyFailed(self, "authentication" if login else "bad_reply", error) from error
        except (ValueError, IndexError, AssertionError) as error:  # what it makes of other replies
            raise ProxyFailed(self, "bad_reply", f"{type(error).__name__} in the SOCKS reply") from error
        except OSError as error:
            raise ProxyFailed(self, "bad_reply", error) from error


class Proxies:
    """Which proxies a host is fetched through."""

    def __init__(self, usual: Iterable[str], by_host: Iterable[tuple[str, tuple[str, ...]]] = (), /) -> None:
        """`by_host`: shell patterns of host keys; the last that matches counts instead of `usual`, none of its
        proxies mean a direct connection. Raises `UsageError`."""
        known: dict[str, Proxy] = {}

        def read(texts: Iterable[str]) -> tuple[Proxy, ...]:
            return tuple(
                known.get(text) or known.setdefault(text, Proxy(text)) for text in dict.fromkeys(texts)
            )

        self._usual = read(usual)
        self._by_host = [(pattern, read(texts)) for pattern, texts in by_host]

    def __bool__(self) -> bool:
        return bool(self._usual) or any(proxies for _, proxies in self._by_host)

    def of(self, host_key: str) -> tuple[Proxy, ...]:
        """Those of a host, in its order of preference; none: it is connected to directly."""
        proxies = self._usual
        for pattern, others in self._by_host:
            if fnmatch.fnmatchcase(host_key, pattern):
                proxies = others
        if len(proxies) < 2:
            return proxies
        name = host_key.encode()
        return tuple(sorted(proxies, key=lambda proxy: xxhash.xxh64_intdigest(name, proxy.salt)))


def _unreadable(text: str, why: str) -> UsageError:
    head, at, tail = text.rpartition("@")
    shown = f"{head.partition('//')[0]}//***@{tail}" if at else text
    return UsageError(f"--proxy {shown!r}: {why}")
