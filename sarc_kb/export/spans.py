"""Windows as days before and after one event, as formats without calendar months count them."""

from __future__ import annotations

from datetime import date
from functools import cache

from sarc_kb.dates import months_before
from sarc_kb.rules import Window


def counts_from_one_event(window: Window) -> bool:
    """Whether a window counts days or months from one event, with nothing else about it."""
    return not (
        window.ends_before
        or window.starts_after
        or window.calendar
        or window.end_anchor not in (None, window.anchor)
    )


def earliest_day(window: Window, *, widest: bool) -> int:
    """Return the first day of a window that has one: negative before the event.

    Months have no fixed number of days; with ``widest`` no day that may belong is left out, else no
    day that may not belong is let in.
    """
    return -(_days(window.months or 0, largest=widest) + (window.days or 0))


def latest_day(window: Window, *, widest: bool) -> int:
    """Return the last day of a window that has one; see :func:`earliest_day`."""
    return -(_days(window.ends_months_before, largest=not widest) + window.ends_days_before)


@cache
def _days(months: int, *, largest: bool) -> int:
    """Return the largest or smallest number of days that so many calendar months have.

    >>> _days(6, largest=False), _days(6, largest=True), _days(-3, largest=True)
    (181, 184, -89)
    """
    if months == 0:
        return 0
    # The years about 1900 hold every case, that of eight years without a leap day included.
    first = date(1894, 1, 1).toordinal()
    counts = [day - months_before(day, months) for day in range(first, first + 16 * 366)]
    return max(counts) if largest else min(counts)
