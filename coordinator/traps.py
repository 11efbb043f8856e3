"""Guards against traps: sites that make ever new URLs for nothing new.

Asked once for each URL that is new to its shard, after scope and before it is admitted. What is refused here is told
as TRAP, with one of these rules:

    repeated     /a/b/a/b/a/b: segments again and again, as a broken relative link makes them
    segments     more than SEGMENTS path segments
    parameters   more than PARAMETERS parameters, or one of them again and again
    calendar     a calendar's page far from now, or one page more of a calendar that has had CALENDAR_PAGES
    session      one URL more that differs from others in its session id alone
    facets       filters of a list in ever new combinations
    growing      a URL that holds itself, escaped over and over; or one more of many that are very long

Some rules look at the URL alone. The others count: `check` says which counters a URL adds to, and the caller keeps them
by host, beside its requests, so that they are as durable as what they counted. A counter is made only by a URL that is
admitted, so there are never more than a few to a request, and for most URLs there is none.

The limits are generous: a URL refused in error is a page missed, one admitted in error costs a fetch. What tells itself
from a real site in nothing but its size (a tree of random words) is not caught here; that is what --max-depth and
--max-pages-per-host are for. No I/O, no clock: `wall` comes in. docs/urls.md has the table for people.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

from xxhash import xxh3_64_digest

from common.normalization import Normalizer
from common.url import CanonicalURL

RULES: Final = ("repeated", "segments", "parameters", "calendar", "session", "facets", "growing")

SEGMENTS: Final = 40
"""Path segments; source trees and archived URLs, the deepest that are real, have 25."""

PARAMETERS: Final = 64
"""Parameters of a query; the largest search forms send 40."""

SAME_NAME: Final = 24
"""Parameters of one name; `[]` and the like at its end are for lists, and not counted."""

SAME_PARAMETER: Final = 4
"""The same name with the same value: a site that adds its parameters to what it was asked with."""

RUN: Final = 4
SHORT_RUN: Final = 9
"""A segment this many times in a row; the second if it is short or a number: files are stored under /0/0/0/0/."""

CYCLES: Final = 3
SHORT_CYCLES: Final = 5
"""Several segments this many times in a row; the second if all of them are short or numbers."""

SCATTERED: Final = 7
"""One longer segment this many times, wherever in the path."""

YEARS_AHEAD: Final = 10
"""A calendar's page later than this many years from now is empty."""

FIRST_YEAR: Final = 1500
"""A calendar's page of an earlier year is empty; archives of newspapers begin in the 1600s."""

FAR_YEARS: Final = 100
"""Only so many years beyond either end are refused: who walks a calendar must pass there, and a number elsewhere is
more often no year at all (`/archives/3021-10-things`)."""

CALENDAR_PAGES: Final = 15_000
"""Of one calendar, by one pattern: 41 years of days."""

SESSIONS: Final = 3
"""Variants of one URL that differ in their session ids."""

DOUBTFUL_SESSIONS: Final = 1000
"""The same where nothing but a doubtful name (`sid`, `s`) tells the page: it may be the page's own id."""

ARRANGEMENTS: Final = 300
"""Orders and choices of three or more parameters for one path. A script has dozens; a list with 12 filters that may be
on or off has 4,000."""

COMBINATIONS: Final = {4: 200_000, 5: 100_000, 6: 50_000}
"""URLs of one path by their number of parameters (6: or more); fewer than four are not counted."""

LONG_PATH: Final = 768
LONG_QUERY: Final = 512
"""Bytes, an escape being one."""

LONG_URLS: Final = 1000
"""Of those with a long path by host, of those with a long query by path."""

DEEP: Final = 24
"""Path segments from which on a URL counts as long."""


class Counted(NamedTuple):
    """A counter that a URL adds to. With a `member` it counts how many different ones it has met."""

    key: bytes
    """9 bytes, unique within a host."""
    limit: int
    """How far the counter may go."""
    rule: str
    member: bytes | None = None
    """8 bytes; `key + member` is a counter of its own, 0 or 1."""


Verdict = str | tuple[Counted, ...] | None
"""The rule that refuses a URL; or the counters that decide, each of them; or None: nothing is wrong with it."""


class Counts(Protocol):
    """The counters of one host. A counter that was never added to is 0."""

    def get(self, key: bytes, /) -> int: ...

    def add(self, key: bytes, /) -> None:
        """One more; takes effect with the admission of the URL that is being judged."""
        ...


def refusal(url: CanonicalURL, wall: float, counts: Counts) -> str | None:
    """The rule that refuses `url`, or None; then its counters have been added to.

    To be asked exactly once for a new URL: asked twice, it counts twice. Cost: `check`, and a `get` and an `add` for
    each counter, which most URLs have none of.
    """
    verdict = check(url, wall)
    if verdict is None or isinstance(verdict, str):
        return verdict
    adds = []
    for key, limit, rule, member in verdict:
        if member is not None:
            if counts.get(key + member):
                continue
            adds.append(key + member)
        if counts.get(key) >= limit:
            return rule
        adds.append(key)
    for key in adds:
        counts.add(key)
    return None


def check(url: CanonicalURL, wall: float) -> Verdict:
    """What the rules say of a URL. `wall`: seconds since 1970, good to a month. 1 us without a query, 2 to 4 with."""
    start = url.index("/", 8)
    path, mark, query = url[start:].partition("?")
    segments = path.split("/")
    count = len(segments) - 1
    if count > 3:
        if count > SEGMENTS:
            return "segments"
        # Any rule about repeats needs three segments that were there before.
        if len(set(segments)) <= count - 2 and _repeats(segments[1:]):
            return "repeated"
    found: list[Counted] = []
    if mark:
        if "%252525" in query or query.count("?") >= 6:
            return "growing"
        if "&" in query and _parameters(path, query, found):
            return "parameters"
    if _four_digits(url, start) and _calendar(path, query, wall, found):
        return "calendar"
    if (mark or ";" in path or "/(" in path) and _session_like(url, start):
        _session(url, found)
    if len(url) > LONG_QUERY or count >= DEEP:
        _long(path, count, query, found)
    return tuple(found) if found else None


# ------------------------------------------------------------------------------------------------------- the path


def _short(segment: str) -> bool:
    return len(segment) <= 2 or segment.isdecimal()


def _repeats(segments: list[str]) -> bool:
    """At most SEGMENTS of them: their square is small."""
    if not segments[-1]:
        segments = segments[:-1]  # the slash at the end
    length = len(segments)
    for size in range(1, length // CYCLES + 1):
        same = 0  # segments in a row that are what stands `size` before them
        short = True
        for at in range(size, length):
            if segments[at] != segments[at - size]:
                same, short = 0, True
                continue
            same += 1
            short = short and _short(segments[at])
            if size == 1:
                limit = SHORT_RUN if short else RUN
            else:
                limit = SHORT_CYCLES if short else CYCLES
            if same >= size * (limit - 1):
                return True
    return any(segments.count(segment) >= SCATTERED for segment in set(segments) if not _short(segment))


# ------------------------------------------------------------------------------------------------------ the query

_list_index = re.compile(r"(?:\[|%5B)[0-9]*(?:\]|%5D)").sub


def _parameters(path: str, query: str, found: list[Counted]) -> bool:
    """Whether there are too many; what `facets` counts goes to `found`."""
    pieces = query.split("&")
    if len(pieces) > PARAMETERS:
        return True
    if len(pieces) < 3:
        return False
    names = [piece.partition("=")[0] for piece in pieces if piece]
    different = set(names)
    if len(different) < len(names):
        for name in different:
            if names.count(name) > SAME_NAME and not name.endswith(("]", "%5D")):
                return True
        if any(piece and pieces.count(piece) >= SAME_PARAMETER for piece in set(pieces)):
            return True
    if len(names) < 3:
        return False
    if "[" in query or "%5B" in query:
        names = [_list_name(piece) for piece in pieces]
    member = xxh3_64_digest("&".join(names).encode())
    found.append(Counted(_key("f", path), ARRANGEMENTS, "facets", member))
    if len(names) > 3:
        size = min(len(names), 6)
        found.append(Counted(_key(str(size), path), COMBINATIONS[size], "facets"))
    return False


def _list_name(piece: str) -> str:
    """What is chosen by a parameter: of `f[0]=colour:red` it is `f[]=colour`, of `f[0]=red` `f[]`."""
    name, _, value = piece.partition("=")
    short = _list_index("[]", name)
    return f"{short}={value.partition(':')[0]}" if short != name and ":" in value else short


# ------------------------------------------------------------------------------------------------------- calendars

_CALENDAR: Final = frozenset(
    {"calendar", "calendars", "calendario", "calendrier", "kalender", "agenda", "ical", "caldate"}
    | {"month", "monat", "mois", "mes", "week", "woche", "semaine", "tribe"}
)
"""Words that say that a dated page is a calendar's."""

_DATED: Final = frozenset(
    {
        "event",
        "events",
        "eventdate",
        "termin",
        "termine",
        "veranstaltungen",
        "schedule",
        "archive",
        "archives",
    }
    | {"date", "datum", "fecha", "day", "tag", "jour", "time", "timestamp", "ts"}
    | {"year", "yr", "y", "jahr", "annee"}
)
"""Words that say that it may be one."""

_words = re.compile("[a-z]+").findall
_four_digits = re.compile("[0-9]{4}").search
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_dates = re.compile(
    rf"""(?<![0-9a-z])(?:
        # 2026-11, 2026-11-21, 2026-w47
        (?P<y>[0-9]{{4}})(?P<s>[-/_.])(?:0?[1-9]|1[0-2]|w[0-5][0-9])(?P<d>(?P=s)(?:0?[1-9]|[12][0-9]|3[01]))?
        # 11-2026, 21-11-2026
      | (?:[0-3]?[0-9](?P<t>[-/_.]))?[0-3]?[0-9](?(t)(?P=t)|[-/_.])(?P<z>[0-9]{{4}})
        # 202611, 20261121
      | (?:1[5-9]|2[01])[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])?
        # 1795219200
      | (?P<e>[12][0-9]{{9}})
        # nov-2026, 2026-november
      | (?:{_MONTHS})[a-z]{{0,6}}[-/_.](?P<m>[0-9]{{4}}) | (?P<n>[0-9]{{4}})[-/_.](?:{_MONTHS})[a-z]{{0,6}}
    )(?![0-9a-z])""",
    re.VERBOSE,
)
_year_parameter = re.compile("[?&](?:cal_?)?(?:y|yr|year|jahr|annee)=([0-9]{4})(?![0-9])").search
_month_parameter = re.compile(
    "[?&](?:cal_?)?(?:m|mo|mon|month|monat|mois|mes|w|week)=(?:[0-9]{1,2}|[a-z]{3,9})(?![0-9])"
).search
_day_at_the_end = re.compile(r".*/([0-9]{4})/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12][0-9]|3[01])/?").fullmatch
_variable = re.compile(rf"(?<![a-z])(?:{_MONTHS})[a-z]{{0,6}}(?![a-z])|[0-9]+").sub

_YEAR: Final = 31_556_952  # seconds, the mean of the Gregorian calendar


def _calendar(path: str, query: str, wall: float, found: list[Counted]) -> bool:
    """Whether this is a calendar's page far from now; one that is not goes to `found`."""
    target = f"{path}?{query}&".lower()  # so that something follows every date
    words = _words(target)
    calendar = not _CALENDAR.isdisjoint(words)
    if not calendar and _DATED.isdisjoint(words):
        # Nobody says that it is a calendar: only a day to come, and nothing after it, is taken for one.
        day = _day_at_the_end(path)
        return day is not None and _to_come(day[1], wall)
    year = _year_parameter(target)
    if year is not None and _month_parameter(target):
        if _to_come(year[1], wall) or _gone_by(year[1]):
            return True
    else:
        target = target.replace("%2f", "/")
        date = _dates.search(target)
        if date is None:
            return False
        text = date["y"] or date["z"] or date["m"] or date["n"]
        # /events/2050/11 may as well be page 11 of event 2050, /archives/2050-11-questions no date at all.
        alone = date["s"] == "-" and len(date[0]) == 7 and target[date.end()] in "/?&"
        sure = calendar or date["d"] is not None or alone
        # And a page of 1492 may be history, unless it calls itself a calendar.
        if text is not None and ((sure and _to_come(text, wall)) or (calendar and _gone_by(text))):
            return True
        if date["e"] is not None and calendar and int(date["e"]) > wall + YEARS_AHEAD * _YEAR:
            return True
    found.append(Counted(_key("c", _variable("#", target)), CALENDAR_PAGES, "calendar"))
    return False


def _to_come(year: str, wall: float) -> bool:
    last = 1970 + int(wall // _YEAR) + YEARS_AHEAD
    return last < int(year) <= last + FAR_YEARS


def _gone_by(year: str) -> bool:
    return FIRST_YEAR - FAR_YEARS <= int(year) < FIRST_YEAR


# -------------------------------------------------------------------------------------------- sessions, long URLs

_session_like = re.compile(
    r"[?&;][a-z_.]*(?:sid|sess|cftoken|cfid|zenid)|[?&]s=|/\([a-z]\(", re.IGNORECASE
).search
_doubtful = re.compile(
    r"\?(?:sid|ssid|s|sess|sessid|session|sessionid|session_id)=[^&]*", re.IGNORECASE
).search
_without_session = Normalizer(strip_session_ids=True).apply


def _session(url: CanonicalURL, found: list[Counted]) -> None:
    rest = _without_session(url)
    if rest != url:
        doubtful = _doubtful(url)
        alone = doubtful is not None and doubtful.end() == len(url)
        # Without the authority: a page under http and under https is one.
        key = _key("s", rest[rest.index("/", 8) :])
        found.append(Counted(key, DOUBTFUL_SESSIONS if alone else SESSIONS, "session"))


def _long(path: str, count: int, query: str, found: list[Counted]) -> None:
    if count >= DEEP or len(path) - 2 * path.count("%") > LONG_PATH:
        found.append(Counted(_key("l", ""), LONG_URLS, "growing"))
    if len(query) - 2 * query.count("%") > LONG_QUERY:
        found.append(Counted(_key("q", path), LONG_URLS, "growing"))


def _key(kind: str, text: str) -> bytes:
    return kind.encode() + xxh3_64_digest(text.encode())
