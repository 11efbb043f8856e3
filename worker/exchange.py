"""What one fetch comes to: an `Exchange`, a `Failure`, or `NotSent`.

These are the words between the fetcher, which knows HTTP and sockets, and everything that judges what came.
They hold no socket. `Exchange` means that a whole response head arrived, whatever the status; its payload
may be cut short, then `truncated` says why in the words of WARC-Truncated. `Failure` means that none
arrived. `NotSent` means that nothing was asked for: it counts no try, and no politeness is owed.

Times: `started_at` is wall-clock seconds, all others are seconds of the fetcher's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from common.outcome import Outcome
from worker.bodies import Hold
from worker.download import Download

Truncated = Literal["length", "time", "disconnect"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request and its response.

    `payload` is the body as received: content-coding kept, transfer-coding undone. `headers` is for lookups
    (case-insensitive, the first of several values, bytes above ASCII as surrogates where they are not UTF-8);
    `raw_headers` has every header in order as received. `rejected`: `accept_body` said no and nothing of
    the body was read. `ip` is None behind a proxy. `ended` is when the connection was let go: politeness
    counts from there.
    """

    url: str
    method: str
    status: int
    reason: str
    http_version: str  # "1.1"
    raw_headers: tuple[tuple[bytes, bytes], ...]
    headers: Mapping[str, str]
    payload: bytes
    truncated: Truncated | None
    rejected: bool
    started_at: float
    elapsed: float  # from the request's sending to the last byte
    ended: float
    ip: str | None
    request_head: bytes  # as sent, up to and with the empty line; Authorization and Cookie are in it
    hold: Hold | None = None
    file: Download | None = None
    """It is a download: what was not handed out of it in pieces is its tail; `payload` is empty."""

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return self.headers.get(name)

    def values(self, name: bytes) -> list[str]:
        """All values of a header; `name` is lower case. Cost: all headers are looked at."""
        return [value.decode("latin-1") for each, value in self.raw_headers if each.lower() == name]

    def release(self) -> None:
        """The payload is no longer needed: its bytes go back to the budget. May be called twice."""
        if self.hold is not None:
            self.hold.release()


@dataclass(frozen=True, slots=True)
class Failure:
    """No response came. `reason` is a stable code, `error` is for people.

    `written`: whether the request may have reached the server; if so the host's delay is owed from `ended`
    on. `elapsed` counts from the beginning of the fetch. `ip`: the address that was connected to, or the first
    that was tried; None where none was known, and behind a proxy.
    """

    outcome: Outcome
    reason: str
    error: str
    written: bool
    ended: float
    elapsed: float
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was not sent, for a reason on our side.

    `reason`: `lease_over` (`may_write` said no), `no_sockets` (this machine has no file or port left) or `closing`.
    """

    reason: str
    error: str
    ended: float
