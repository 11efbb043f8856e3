"""Normalisation beyond the canonical form, on request: several URLs of what is most likely one page become one.

The canonical form (common/url.py) changes nothing that could name another page. What is here could: it is off unless
asked for, and then part of what a crawl's URLs are, so it stays the same for the life of a crawl.

    sort_query          parameters by name; those of one name keep their order, as URLSearchParams.sort() has it
    strip_tracking      parameters by name, or by the beginning of a name and `*`; `usual` stands for TRACKING
    strip_session_ids   session ids: in the query, `;jsessionid=` in a path, `/(S(...))/` of ASP.NET
    strip_www           `www.` before a host that has another dot, as scope takes apex and `www.` for one

Names are compared without regard to case and with their escapes decoded. A parameter with a name that means other
things too (`sid`, `s`, `session`) goes only if its value looks like a session id.

Invariants (tests/unit/test_url.py): apply(apply(u)) == apply(u); the result is canonical, and never longer.
No I/O. Read common/url.py next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from common.options import USUAL_TRACKING
from common.url import CanonicalURL, canonical

TRACKING: Final = (
    "utm_*",  # Google Analytics, and all who took its names
    "gclid",
    "gclsrc",
    "gbraid",
    "wbraid",
    "dclid",
    "srsltid",
    "_ga",
    "_gl",
    "fbclid",
    "igshid",
    "msclkid",
    "yclid",
    "ysclid",
    "twclid",
    "ttclid",
    "li_fat_id",
    "epik",
    "mc_cid",  # Mailchimp
    "mc_eid",
    "_hsenc",  # HubSpot
    "_hsmi",
    "__hstc",
    "__hssc",
    "__hsfp",
    "hsctatracking",
    "mkt_tok",  # Marketo
    "vero_id",
    "vero_conv",
    "oly_anon_id",
    "oly_enc_id",
    "wickedid",
    "s_cid",  # Adobe
    "mtm_*",  # Matomo
    "matomo_*",
    "pk_*",
    "piwik_*",
)
"""Parameters that say how a visitor came, never what the page is. Short or common names (`ref`, `source`, `id`) are
not here: to some sites they are content."""

_SESSION_NAMES: Final = frozenset(
    {
        "phpsessid",
        "jsessionid",
        "asp.net_sessionid",
        "cfid",
        "cftoken",
        "oscsid",
        "xtcsid",
        "zenid",
        "phpsessionid",
    }
)
_SESSION_PREFIX: Final = "aspsessionid"  # then eight letters, of the server's choice
_MAYBE_SESSION_NAMES: Final = frozenset(
    {"sid", "s", "sess", "sessid", "session", "sessionid", "session_id", "ssid"}
)

# 24 letters and digits or more, both among them: PHP's ids have 26, 32 or 40, ASP.NET's 24. A UUID does not count:
# it may as well be the page's own id.
_session_like = re.compile(r"(?=[a-z]*[0-9])(?=[0-9]*[a-z])[0-9a-z]{24,}", re.IGNORECASE).fullmatch
_path_session = re.compile(
    r";(?:jsessionid|phpsessid|cfid|cftoken)=[^;/?]*|/\((?:[a-z]\([0-9a-z]{24,}\))+\)(?=/)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Normalizer:
    """What a crawl normalises. One that is asked for nothing gives back what it gets, and is false."""

    sort_query: bool = False
    strip_tracking: tuple[str, ...] = ()
    """Names, or beginnings of names with a `*` at the end; config has checked their form."""
    strip_session_ids: bool = False
    strip_www: bool = False
    _names: frozenset[str] = field(init=False, repr=False, compare=False)
    _beginnings: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _reads_query: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names: set[str] = set()
        for name in self.strip_tracking:
            names.update(TRACKING if name == USUAL_TRACKING else (name.lower(),))
        beginnings = sorted(name[:-1] for name in names if name.endswith("*"))
        if self.strip_session_ids:
            names |= _SESSION_NAMES
            beginnings.append(_SESSION_PREFIX)
        object.__setattr__(self, "_names", frozenset(names))
        object.__setattr__(self, "_beginnings", tuple(beginnings))
        object.__setattr__(self, "_reads_query", bool(names) or self.sort_query)

    def __bool__(self) -> bool:
        return self._reads_query or self.strip_www

    def apply(self, url: CanonicalURL) -> CanonicalURL:
        """`url` normalised. 0.3 us where there is nothing to look at, 1 to 3 us with a query."""
        after = self._rewritten(url)
        # What went may have held a stray `%`, which kept others from being decoded (see common/url.py), and what is
        # left of a segment may be a dot segment: then the form is made again, and may show more that goes.
        while after is not url and ("%" in after or "/." in after):
            url = canonical(after, max_length=len(after))
            after = self._rewritten(url)
        return after

    def redirected(self, source: CanonicalURL, target: CanonicalURL) -> CanonicalURL:
        """`target`, to which `source` redirects, normalised; as it is if that would lead back to `source`.

        A site that sends `example.org` to `www.example.org`, or everybody to a session id of their own, would else be
        a redirect to itself on every page, and nothing of it fetched.
        """
        normal = self.apply(target)
        return target if normal == source else normal

    def _rewritten(self, url: CanonicalURL) -> CanonicalURL:
        """One pass; the same object when nothing changed."""
        text: str = url
        if self.strip_www and text.startswith(("http://www.", "https://www.")):
            text = _without_www(text)
        if self.strip_session_ids and (";" in text or "/(" in text):
            path, mark, query = text.partition("?")
            # Twice at most: without its `;jsessionid=` a segment may be one of ASP.NET's.
            while (cut := _path_session.sub("", path)) != path:
                path = cut
            text = path + mark + query
        if self._reads_query and "?" in text:
            path, _, query = text.partition("?")
            query = self._query(query)
            text = f"{path}?{query}" if query else path
        return url if text == url else CanonicalURL(text)

    def _query(self, query: str) -> str:
        pieces = query.split("&")
        if self._names:
            pieces = [piece for piece in pieces if not self._goes(piece)]
        if self.sort_query:
            pieces.sort(key=_name)
        return "&".join(pieces)

    def _goes(self, piece: str) -> bool:
        name, _, value = piece.partition("=")
        if "%" in name:
            name = unquote(name)
        name = name.lower()
        if name in self._names or name.startswith(self._beginnings):
            return True
        return self.strip_session_ids and name in _MAYBE_SESSION_NAMES and _session_like(value) is not None


def _without_www(url: str) -> str:
    scheme, _, rest = url.partition("//")
    host, _, path = rest.partition("/")
    name = host.partition(":")[0].rstrip(".")
    while name.startswith("www.") and "." in name[4:]:
        name, host = name[4:], host[4:]
    return f"{scheme}//{host}/{path}"


def _name(piece: str) -> str:
    return piece.partition("=")[0]
