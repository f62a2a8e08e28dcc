"""Numbers of the record as intervals in the canonical unit of what was measured.

Which units a quantity accepts, and the exact factor of each, is data of the ontology; a test holds
those factors against a UCUM library. A unit that is not listed is never guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal

from sarc_kb.terminology import Quantity, Terminology

INFINITY = Decimal(10) ** 18
# Wide enough that a product keeps every digit of a record: rounding could move a value over a limit.
_WIDE = Context(prec=100)
# What a finding may repeat: a unit, however wrong, but no text that strayed into its place.
_UNIT = re.compile(r"[^\s\"'<>]{1,20}")


@dataclass(frozen=True, slots=True)
class Interval:
    """The values a result may have, in the canonical unit; open ends exclude their value."""

    lo: Decimal = -INFINITY
    hi: Decimal = INFINITY
    lo_open: bool = False
    hi_open: bool = False

    @property
    def known(self) -> bool:
        """Whether anything at all is known of the value."""
        return self.lo > -INFINITY or self.hi < INFINITY


ANYTHING = Interval()


@dataclass(frozen=True, slots=True)
class Reading:
    """An interval, or the reason why the number cannot be used (and the interval is everything)."""

    interval: Interval
    unit: str = ""
    problem: str = ""
    why: str = ""


def to_canonical(
    value: Decimal, unit: str | None, quantity: Quantity, terms: Terminology
) -> Decimal | None:
    """Return ``value`` in the canonical unit, or None where ``unit`` is not accepted."""
    written = terms.canonical_unit(unit) if unit else ("1" if quantity.unit == "1" else "")
    if written not in quantity.accepts:
        return None
    factor, divisor = quantity.accepts[written]
    return _WIDE.divide(_WIDE.multiply(value, factor), divisor)


def read_number(
    value: Decimal | None,
    comparator: str | None,
    unit: str | None,
    quantity: Quantity,
    terms: Terminology,
) -> Reading:
    """Return the interval that a numeric result stands for.

    ``value`` None means that a result exists but is not a number. Units: those ``quantity``
    accepts. The comparator opens the interval to one side.
    Source: FHIR R4 Quantity.comparator; UCUM.
    """
    if value is None or not value.is_finite():
        return Reading(
            ANYTHING, problem="not a number", why="only a number can be compared with a limit"
        )
    converted = to_canonical(value, unit, quantity, terms)
    if converted is None:
        if not unit:
            return Reading(
                ANYTHING,
                problem="no unit",
                why=f"a number without a unit is not compared; {_accepted(quantity)}",
            )
        shown = f"unit {unit!r}" if _UNIT.fullmatch(unit) else "a unit that is none"
        return Reading(
            ANYTHING, problem=shown, why=f"not a unit of this quantity; {_accepted(quantity)}"
        )
    if quantity.whole and converted != converted.to_integral_value():
        return Reading(
            ANYTHING, quantity.unit, "not a whole number", "this quantity is a count or a grade"
        )
    if (quantity.least is not None and converted < quantity.least) or (
        quantity.most is not None and converted > quantity.most
    ):
        return Reading(
            ANYTHING,
            quantity.unit,
            "not a plausible value",
            f"plausible is {quantity.least} to {quantity.most} {quantity.unit}",
        )
    return Reading(_compared(converted, comparator), quantity.unit)


def _accepted(quantity: Quantity) -> str:
    return "accepted: " + ", ".join(sorted(quantity.accepts))


def _compared(value: Decimal, comparator: str | None) -> Interval:
    if comparator == "<":
        return Interval(hi=value, hi_open=True)
    if comparator == "<=":
        return Interval(hi=value)
    if comparator == ">":
        return Interval(lo=value, lo_open=True)
    if comparator == ">=":
        return Interval(lo=value)
    return Interval(value, value)


def scaled(interval: Interval, factor: Decimal) -> Interval:
    """Return the interval times a positive factor, to the last digit."""
    return Interval(
        interval.lo if interval.lo <= -INFINITY else _WIDE.multiply(interval.lo, factor),
        interval.hi if interval.hi >= INFINITY else _WIDE.multiply(interval.hi, factor),
        interval.lo_open,
        interval.hi_open,
    )


def ratio(top: Interval, bottom: Interval) -> Interval:
    """Return the interval of quotients; ``bottom`` must be positive to say anything."""
    if bottom.lo <= 0 or bottom.hi >= INFINITY or not top.known:
        return ANYTHING
    # A negative result is never a laboratory value; plausibility has refused it before.
    lo = -INFINITY if top.lo <= -INFINITY else _WIDE.divide(top.lo, bottom.hi)
    hi = INFINITY if top.hi >= INFINITY else _WIDE.divide(top.hi, bottom.lo)
    return Interval(lo, hi, top.lo_open, top.hi_open)
