"""Partial dates as intervals of days and minutes.

Days are proleptic Gregorian ordinals (``date.toordinal``), minutes count from day 0. Open ends
are :data:`NEVER` and :data:`FOREVER`.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date

NEVER = -10_000_000
FOREVER = 10_000_000
DAY = 1440

_PATTERN = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:T(?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?"
    r"(?P<zone>Z|[+-]\d{2}:\d{2})?)?)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class PartialDate:
    """A date as far as it is known.

    ``first``/``last``: earliest and latest calendar day, as written. ``minute``: minute of the day
    as written, if a time was given. ``offset``: minutes ahead of UTC, if a zone was given.
    """

    text: str
    first: int
    last: int
    minute: int | None = None
    offset: int | None = None

    @property
    def exact(self) -> bool:
        """Whether the calendar day is known."""
        return self.first == self.last


def parse_date(text: str) -> PartialDate:
    """Return the partial date that ``text`` writes: year, month, day or date-time.

    Raises:
        ValueError: ``text`` is none of these, or names a day that does not exist.
    Source: XML Schema 1.1 gYear, gYearMonth, date, dateTime; FHIR R4 date, dateTime. A zone on
        a date without a time is refused, as FHIR does; so are ``24:00`` and leap seconds.
    >>> parse_date("2024-02").last - parse_date("2024-02").first
    28
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("not a date in the form YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss")
    year = int(match["year"])
    try:
        if match["month"] is None:
            return PartialDate(text, date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal())
        month = int(match["month"])
        if match["day"] is None:
            first = date(year, month, 1).toordinal()
            return PartialDate(text, first, first + calendar.monthrange(year, month)[1] - 1)
        day = date(year, month, int(match["day"])).toordinal()
    except (ValueError, calendar.IllegalMonthError):
        raise ValueError("no such day in the calendar") from None
    if match["hour"] is None:
        return PartialDate(text, day, day)
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("no such time of day")
    return PartialDate(text, day, day, hour * 60 + minute, _offset(match["zone"]))


def _offset(zone: str | None) -> int | None:
    if zone is None:
        return None
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError("no such time zone")
    return (hours * 60 + minutes) * (1 if zone[0] == "+" else -1)


def months_before(day: int, months: int) -> int:
    """Return the day ``months`` calendar months before ``day``, clamped to the month's end.

    >>> months_before(date(2024, 8, 31).toordinal(), 6) == date(2024, 2, 29).toordinal()
    True
    """
    if not date.min.toordinal() <= day <= date.max.toordinal():
        return day
    start = date.fromordinal(day)
    index = start.year * 12 + start.month - 1 - months
    if index < 12:
        return NEVER
    year, month = divmod(index, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(start.day, last)).toordinal()


def completed_years(birth: int, day: int) -> int:
    """Return the completed years of life on ``day``; somebody born on 29 February completes a
    year on 1 March of a common year."""
    born, now = date.fromordinal(birth), date.fromordinal(day)
    return now.year - born.year - ((now.month, now.day) < (born.month, born.day))


def iso(day: int) -> str:
    """Return ``day`` as YYYY-MM-DD, or a word for an open end or a day that no calendar has."""
    if day < date.min.toordinal():
        return "ever"
    if day > date.max.toordinal():
        return "open"
    return date.fromordinal(day).isoformat()
