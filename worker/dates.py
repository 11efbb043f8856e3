"""Dates as sites write them: W3C (any form of it, as in sitemaps) and RFC 822 (as in RSS).

Pure. Read leniently, since a date is only a hint: `T` may be a blank, a zone may be missing (then UTC), a day or
month may have one digit. What is no date is None, never an error. Cost: 0.6 µs for an exact one, 2.5 for others.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

_MAX_DATE = 64  # characters of a date
_YEARS = 1970, 2100

_ZONE = r"(Z|UTC?|GMT|[ECMP][SD]T|[+-]\d\d:?\d\d)"
_W3C = re.compile(
    rf"(\d{{4}})(?:-(\d\d?)(?:-(\d\d?)(?:[T ]+(\d\d?):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?\s*{_ZONE}?)?)?)?Z?",
    re.ASCII | re.IGNORECASE,
)
_RFC822 = re.compile(
    r"(?:[a-z]{2,9}\.?,?\s+)?(\d\d?)[\s-]+([a-z]{3})[a-z]*\.?,?[\s-]+(\d{4}|\d\d)"
    rf"(?:,?\s+(\d\d?):(\d\d)(?::(\d\d)(?:\.\d+)?)?\s*{_ZONE}?)?",
    re.ASCII | re.IGNORECASE,
)
_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_HOURS = {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7}
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST, _LAST = ((date(year, 1, 1).toordinal() - _EPOCH) * 86400 for year in (_YEARS[0], _YEARS[1] + 1))


def seconds(text: str) -> int | None:
    """A W3C date (any form) or one of RFC 822, in seconds since 1970; None for what is neither, or far off."""
    text = text[:_MAX_DATE].strip()
    try:
        exact = datetime.fromisoformat(text)  # most dates, at a sixth of the cost
    except ValueError:
        return _loose_seconds(text)
    moment = int((exact if exact.tzinfo else exact.replace(tzinfo=UTC)).timestamp() // 1)
    return moment if _FIRST <= moment < _LAST else None


def _loose_seconds(text: str) -> int | None:
    if found := _W3C.fullmatch(text):
        year, month, day, hour, minute, second, zone = found.groups()
        number = int(month or 1)
    elif found := _RFC822.fullmatch(text):
        day, name, year, hour, minute, second, zone = found.groups()
        number = _MONTHS.get(name.lower(), 0)
        if len(year) == 2:
            year = f"{'20' if year < '70' else '19'}{year}"
    else:
        return None
    try:
        days = date(int(year), number, int(day or 1)).toordinal() - _EPOCH
    except ValueError:
        return None
    if int(hour or 0) > 24 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    moment = days * 86400 + int(hour or 0) * 3600 + int(minute or 0) * 60 + int(second or 0) - _offset(zone)
    return moment if _FIRST <= moment < _LAST else None


def _offset(zone: str | None) -> int:
    """Seconds that a zone is ahead of UTC; no zone is UTC."""
    if zone is None:
        return 0
    if zone[0] in "+-":
        ahead = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        return ahead if zone[0] == "+" else -ahead
    return _HOURS.get(zone.lower(), 0) * 3600
