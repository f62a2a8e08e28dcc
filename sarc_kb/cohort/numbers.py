"""Values and limits as closed intervals of doubles that compare exactly as the decimals do.

Column stores compare doubles fastest. A decimal of at most 15 significant digits and its nearest
double are in one-to-one order, and between two such doubles lie others; a value with more digits
(a quotient) and an open end become one of those. So ``lo >= least`` and ``hi <= most`` on doubles
say just what the four comparisons with open and closed ends say on decimals.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal

from sarc_kb.rules import Bounds
from sarc_kb.units import INFINITY, Interval

DIGITS = 15
"""Significant digits that a double keeps of any decimal (IEEE 754 binary64)."""
UNBOUNDED = float(INFINITY) * 10
"""The limit of a clause that has none: beyond every value."""
_SHORT = Context(prec=DIGITS)


def closed_interval(interval: Interval) -> tuple[float, float]:
    """Return the least and the greatest double that stand for the values of ``interval``."""
    lo, hi = _end(interval.lo), _end(interval.hi)
    if interval.lo_open and _is_short(interval.lo):
        lo = math.nextafter(lo, math.inf)
    if interval.hi_open and _is_short(interval.hi):
        hi = math.nextafter(hi, -math.inf)
    return lo, hi


def closed_bounds(bounds: Bounds) -> tuple[float, float]:
    """Return the closed interval of doubles that a clause allows.

    A value interval is certainly inside when it lies within, possibly when the two overlap.
    Raises:
        ValueError: a limit has more than 15 significant digits.
    """
    least, most = -UNBOUNDED, UNBOUNDED
    if bounds.at_least is not None:
        least = _limit(bounds.at_least)
    if bounds.more_than is not None:
        least = max(least, math.nextafter(_limit(bounds.more_than), math.inf))
    if bounds.at_most is not None:
        most = _limit(bounds.at_most)
    if bounds.less_than is not None:
        most = min(most, math.nextafter(_limit(bounds.less_than), -math.inf))
    return least, most


def _limit(limit: Decimal) -> float:
    if not _is_short(limit):
        raise ValueError(f"a limit of more than {DIGITS} significant digits")
    return float(limit)


def _is_short(number: Decimal) -> bool:
    return _SHORT.plus(number) == number


def _end(number: Decimal) -> float:
    """Return the double of a short decimal; of a longer one, one between the doubles of the short
    decimals next to it."""
    number = max(-INFINITY, min(number, INFINITY))
    double, short = float(number), _SHORT.plus(number)
    if short == number or double != float(short):
        return double
    return math.nextafter(double, math.inf if number > short else -math.inf)
