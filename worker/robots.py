"""What a robots.txt allows our product token (RFC 9309), and what a failure to get one means.

Pure. A file is read once, into `Rules`; each URL is then one question. Lines and groups are read here,
because that is where crawlers go wrong; protego gets the rules of our one group and matches paths (longest
match, `*`, `$`, percent-encoding). So only our token ever counts: a group for `mozilla` cannot shut out
`Mozilla/5.0 (compatible; Shoal/1.0)`, and one for `sho` is not one for `shoal`.

How lines are read, beyond the RFC's grammar, as Google's parser does: CR, LF and CRLF end lines; the colon
may be missing; common misspellings of `disallow` and `user-agent` count (those of crawler-commons' parser,
too: whoever wrote `Desallow` meant it); a product token ends at the first character that
cannot be in one; only `allow` and `disallow` end a list of `user-agent` lines, so a `crawl-delay` between
two of them does not part them. A crawl-delay counts for the tokens named above it in its group.

It does not fetch, and knows no clock: how long rules are kept is for the caller (24 hours at most, RFC
9309, 2.4).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from protego import Protego

MAX_BYTES = 512 << 10
"""Bytes of a file that are read; RFC 9309 (2.5) asks for 500 KiB at least. A line cut there is left out."""

MAX_REDIRECTS = 5
"""Redirects that are followed for one robots.txt (RFC 9309, 2.3.1.2)."""

_MAX_LINE = 16 << 10  # bytes; Google cuts lines at 16,664
_MAX_SITEMAPS = 10_000

_LINES = re.compile(rb"\r\n|\r|\n")
_TOKEN = re.compile(rb"[A-Za-z_-]+")
_KEYS = {
    "user-agent": "agent",
    "useragent": "agent",
    "user agent": "agent",
    "user-agents": "agent",
    "users-agent": "agent",
    "user-agnet": "agent",
    "useg-agent": "agent",
    "ser-agent": "agent",
    "allow": "allow",
    "disallow": "disallow",
    "dissallow": "disallow",
    "dissalow": "disallow",
    "disalow": "disallow",
    "diasllow": "disallow",
    "disallaw": "disallow",
    "desallow": "disallow",
    "dssalow": "disallow",
    "dsallow": "disallow",
    "sitemap": "sitemap",
    "site-map": "sitemap",
    "sitemaps": "sitemap",
    "crawl-delay": "delay",
    "crawldelay": "delay",
    "crawl delay": "delay",
}
_BARE = re.compile(rb"(user-?agent|allow|disallow|sitemap|crawl-delay)\s+(.+)", re.IGNORECASE | re.DOTALL)
_NOT_IN_A_PATH = re.compile(rb"[\x00-\x20\x7f-\xff]")  # what protego would take for a line end, or for UTF-8


class Verdict(StrEnum):
    """What an answer to the request for robots.txt means."""

    RULES = "rules"  # read the body
    ALLOW = "allow"  # there are no rules: everything may be fetched
    FOLLOW = "follow"  # a redirect within the bound
    UNREACHABLE = "unreachable"  # nothing may be fetched for now; ask again later


def verdict(status: int | None, redirects: int = 0) -> Verdict:
    """What `status` means after `redirects` were followed. None: no answer came (time-out, reset, ...)."""
    if status is None or status == 429 or status >= 500 or status < 200:
        return Verdict.UNREACHABLE
    if status < 300:
        return Verdict.RULES
    if status < 400:
        # After too many hops the file counts as unavailable, and so as absent (RFC 9309, 2.3.1.2 and
        # 2.3.1.3).
        return Verdict.FOLLOW if redirects < MAX_REDIRECTS else Verdict.ALLOW
    return Verdict.ALLOW


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one authority for our token; made by `parse`.

    `crawl_delay` is in seconds, None if the file asks for none. `sitemaps` are as written, each
    once, for every crawler.
    """

    crawl_delay: float | None
    sitemaps: tuple[str, ...]
    _matcher: Protego | None

    def allows(self, url: str) -> bool:
        """Whether a canonical URL of this authority may be fetched. 0.1 µs without rules, 10 with some."""
        return self._matcher is None or self._matcher.can_fetch(url, "*")


NO_RULES = Rules(None, (), None)
"""Everything may be fetched."""


def parse(body: bytes, token: str) -> Rules:
    """Read a robots.txt. Any bytes will do; what is no rule is passed over. `token`: our product token."""
    ours = token.lower().encode("ascii")
    text = _decoded(body)
    groups = {ours: _Group(), b"*": _Group()}
    sitemaps: list[str] = []
    named: list[bytes] = []  # the tokens of the group being read, of those that matter to us
    rules_seen = False
    for line in _LINES.split(text):
        pair = _pair(line[:_MAX_LINE])
        if pair is None:
            continue
        key, value = pair
        if key == "agent":
            if rules_seen:
                named.clear()
                rules_seen = False
            agent = _agent(value)
            if agent in groups:
                groups[agent].named = True
                named.append(agent)
        elif key == "sitemap":
            if value and len(sitemaps) < _MAX_SITEMAPS:
                sitemaps.append(value.decode("utf-8", "replace"))
        elif key == "delay":
            seconds = _seconds(value)
            if seconds is not None:
                for agent in named:
                    groups[agent].delay = seconds
        else:
            rules_seen = True
            if value and named:
                rule = b"%s: %s\n" % (key.encode("ascii"), _escaped(value))
                for agent in named:
                    groups[agent].rules.append(rule)
    group = groups[ours] if groups[ours].named else groups[b"*"]
    return Rules(group.delay, tuple(dict.fromkeys(sitemaps)), _matcher(group.rules))


class _Group:
    __slots__ = ("delay", "named", "rules")

    def __init__(self) -> None:
        self.named = False
        self.delay: float | None = None
        self.rules: list[bytes] = []


def _matcher(rules: list[bytes]) -> Protego | None:
    if not any(rule.startswith(b"disallow") for rule in rules):
        return None
    return Protego.parse("user-agent: *\n" + b"".join(dict.fromkeys(rules)).decode("ascii"))


def _decoded(body: bytes) -> bytes:
    """UTF-8 bytes without a byte order mark, or a part of one; files in UTF-16 exist."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body[: 2 * MAX_BYTES].decode("utf-16", "replace").encode("utf-8", "replace")[:MAX_BYTES]
    if len(body) > MAX_BYTES:
        end = max(body.rfind(b"\n", 0, MAX_BYTES), body.rfind(b"\r", 0, MAX_BYTES))
        # Half of `Disallow: /private` would be `Disallow: /`.
        body = body[: max(end, 0)]
    for mark in (b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"):
        if body.startswith(mark):
            return body[len(mark) :]
    return body


def _pair(line: bytes) -> tuple[str, bytes] | None:
    """Kind of a line and its value; None for a comment, an empty line and what no crawler knows."""
    line = line.partition(b"#")[0].strip()
    if not line:
        return None
    key, colon, value = line.partition(b":")
    kind = _KEYS.get(key.strip().lower().decode("latin-1")) if colon else None
    if kind is not None:
        return kind, value.strip()
    bare = _BARE.fullmatch(line)
    return (_KEYS[bare[1].lower().decode("ascii")], bare[2].strip()) if bare else None


def _agent(value: bytes) -> bytes | None:
    if value == b"*" or value[:2] in (b"* ", b"*\t"):
        return b"*"
    token = _TOKEN.match(value)
    return token[0].lower() if token else None


def _seconds(value: bytes) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _escaped(value: bytes) -> bytes:
    """The path of a rule in ASCII: other bytes as escapes of what stands there, whatever encoding it was."""
    return _NOT_IN_A_PATH.sub(lambda found: b"%%%02X" % found[0][0], value)
