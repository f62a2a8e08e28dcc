"""What `sarc_kb.audit.worlds` is made of: formulas with two degrees, facts that may be there, days.

Formulas that are certain are folded while they are made, so that the solver gets what is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import z3

from sarc_kb.dates import completed_years, months_before
from sarc_kb.rules import Clause

Formula = Any
"""Terms and formulas of the solver, which has no types that a checker could use."""
ENTRY = date(2025, 6, 16).toordinal()
"""Day of entry of every world; days of the solver count from it."""
LONG = 1500
"""Days before entry that facts may lie back."""
AHEAD = 60
"""Days after entry for which something may be planned."""
AGES = 120
FALSE, TRUE = z3.BoolVal(False), z3.BoolVal(True)
Degree = tuple[Formula, Formula]
"""Whether something is possibly so, and whether it certainly is."""


def all_of(*parts: Formula) -> Formula:
    kept = [p for p in parts if not z3.is_true(p)]
    if any(z3.is_false(p) for p in kept):
        return FALSE
    return z3.And(*kept) if len(kept) > 1 else kept[0] if kept else TRUE


def any_of(parts: Iterable[Formula]) -> Formula:
    kept = [p for p in parts if not z3.is_false(p)]
    if any(z3.is_true(p) for p in kept):
        return TRUE
    return z3.Or(*kept) if len(kept) > 1 else kept[0] if kept else FALSE


def negated(part: Formula) -> Formula:
    return FALSE if z3.is_true(part) else TRUE if z3.is_false(part) else z3.Not(part)


def both(*degrees: Degree) -> Degree:
    return all_of(*(d[0] for d in degrees)), all_of(*(d[1] for d in degrees))


@dataclass(frozen=True)
class Choice:
    """One of some terms. ``absent``: or none of them, where the variable is -1."""

    terms: tuple[str, ...]
    variable: Formula | None = None
    absent: bool = False

    def degree(self, of: Callable[[str], int]) -> Degree:
        """Return the degree of the chosen term, given that of every term."""
        degrees = [of(term) for term in self.terms]
        found = []
        for least in (1, 2):
            inside = [n for n, d in enumerate(degrees) if d >= least]
            if self.variable is None or (len(inside) == len(degrees) and not self.absent):
                found.append(z3.BoolVal(len(inside) == len(degrees)))
            else:
                found.append(any_of(self.variable == n for n in inside))
        if self.absent:
            found[0] = any_of((found[0], self.variable == -1))
        return found[0], found[1]

    def ranges(self) -> Formula:
        if self.variable is None:
            return TRUE
        least = -1 if self.absent else 0
        return z3.And(self.variable >= least, self.variable < len(self.terms))


@dataclass(frozen=True)
class Thing:
    """A fact of a world: a slot that may hold a recorded one, or what follows from another.

    ``there``: it is possibly a fact; ``sure``: certainly. ``number``: least and most value, in
    units of one over ``scale``. ``first``/``last``: its start as minutes.
    """

    name: str
    family: int
    there: Formula
    sure: Formula
    concept: Choice
    natural: bool
    kind: str | None
    value: Choice | None
    number: tuple[Formula, Formula] | None
    scale: int
    start: Formula
    end: Formula
    first: Formula
    last: Formula
    timed: bool
    axes: Mapping[str, Choice]
    derived_by: str | None = None
    minute: Formula | None = None


@dataclass(frozen=True)
class Day:
    """An anchor of a world: whether there is one, its day, and its moment in minutes."""

    found: Formula
    day: Formula
    first: Formula
    last: Formula


@dataclass(frozen=True)
class Days:
    """A window of a world; an end that is None is open. ``known``: its anchors are found."""

    known: Formula
    start: Formula | None
    end: Formula | None


def gap_degree(one: Thing, other: Thing, clause: Clause) -> Degree:
    """Return the degree to which ``other`` lies within the gap after ``one``."""
    assert clause.gap is not None
    if one.name == other.name:
        return FALSE, FALSE
    least, most = other.first - one.last, other.last - one.first
    low, high = clause.gap
    moment = FALSE
    if clause.of_one_set and one.timed and other.timed:
        moment = z3.And(one.first == other.first, one.first == one.last, other.first == other.last)
    return (
        all_of(most >= low, least <= high, negated(moment)),
        all_of(least >= low, most <= high, negated(moment)),
    )


def nowhere() -> Day:
    zero = z3.IntVal(0)
    return Day(FALSE, zero, zero, zero)


def or_else(one: Day, other: Day) -> Day:
    """Return ``one`` where it is found, else ``other``."""
    if z3.is_true(one.found):
        return one
    if z3.is_false(one.found):
        return other
    parts = ((one.day, other.day), (one.first, other.first), (one.last, other.last))
    return Day(any_of((one.found, other.found)), *(z3.If(one.found, a, b) for a, b in parts))


def further(one: Day, other: Day, *, later: bool) -> Day:
    """Return the later or earlier of two anchors that may be found."""
    if z3.is_false(one.found):
        return other
    if z3.is_false(other.found):
        return one

    def pick(a: Formula, b: Formula) -> Formula:
        better = a >= b if later else a <= b
        return z3.If(all_of(one.found, any_of((negated(other.found), better))), a, b)

    return Day(
        any_of((one.found, other.found)),
        pick(one.day, other.day),
        pick(one.first, other.first),
        pick(one.last, other.last),
    )


def lesser(a: Formula, b: Formula) -> Formula:
    return z3.If(a <= b, a, b)


def months_back(day: Formula, months: int) -> Formula:
    """Return the day some calendar months before a day of the worlds."""
    if not months:
        return day
    if z3.is_int_value(day):
        return z3.IntVal(months_before(ENTRY + day.as_long(), months) - ENTRY)
    return _pieces(
        day, range(-LONG, AHEAD + 1), lambda d: d - (months_before(ENTRY + d, months) - ENTRY), True
    )


def years_at_entry(day: Formula) -> Formula:
    """Return the completed years at entry of somebody born on ``day``."""
    days = range(-AGES * 365 - 40, 1)
    return _pieces(day, days, lambda d: completed_years(ENTRY + d, ENTRY), False)


def _pieces(day: Formula, days: Sequence[int], of: Callable[[int], int], minus: bool) -> Formula:
    """Return a function of a day that is constant over stretches as a chain of choices, or the day
    less that function."""
    last = of(days[-1])
    found: Formula = day - last if minus else z3.IntVal(last)
    current = last
    for one in reversed(days):
        value = of(one)
        if value != current:
            current = value
            found = z3.If(day <= one, day - value if minus else z3.IntVal(value), found)
    return found
