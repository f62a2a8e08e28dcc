"""Sums, extremes, differences, products and quotients of recorded values, as a trial names them.

All are intervals: what is not certain widens them, and a sum over a record that is not complete has
no upper end. A derived value yields to a recorded one, as an estimated clearance does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Context, Decimal

from sarc_kb.dates import DAY, NEVER
from sarc_kb.prepare.model import LONG_AGO, Item, Span, WindowDays, qualifier_degree, window_degree
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import ANY, Derivation
from sarc_kb.units import INFINITY, Interval, ratio

_WIDE = Context(prec=100)
_COMPUTED = ("Difference", "Product", "Quotient")
_SUMMED = ("Total", "Tally", "Minimum", "Maximum")


def compute(p: Preparation) -> None:
    """Add the values that the trial's derivations compute from recorded ones."""
    rules = [d for d in p.trial.derivations if d.window is not None]
    for rule in rules:
        if rule.kind == "RunningTotal":
            _keep_running(p, rule)
    summed = [d for d in rules if d.kind in _SUMMED]
    computed = [d for d in rules if d.kind in _COMPUTED]
    silent = [rule for rule in summed if not _sum(p, rule)]
    _combine(p, computed)
    for rule in silent:
        _nothing(p, rule)
    _combine(p, computed)


def _degree(p: Preparation, item: Item, iri: str, rule: Derivation) -> int:
    degree = p.in_set(item, iri)
    if degree:
        degree = min(degree, qualifier_degree(item, rule.qualifier, p.trial, p.terms))
    if degree and rule.window is not None:
        start_only = p.trial.windows[rule.window].start_only
        degree = min(degree, window_degree(item.span, p.windows[rule.window], start_only))
    return degree


def _complete(p: Preparation, rule: Derivation) -> bool:
    """Whether all that the rule's window has seen so far is on record, and no more is to come."""
    assert rule.window is not None
    days = p.windows[rule.window]
    seen = WindowDays(days.start_lo, days.start_hi, p.as_of, p.as_of)
    if rule.settled_by is None or p.covering(rule.settled_by, seen) is None:
        return False
    return not any(r.span.end_hi > p.as_of for r in _during(p, rule))


def _during(p: Preparation, rule: Derivation) -> list[Item]:
    """Return the facts of what goes on while the rule's values grow."""
    return (
        [i for i in p.members(rule.during) if _degree(p, i, rule.during, rule)]
        if rule.during
        else []
    )


def _went_on(p: Preparation, rule: Derivation) -> int:
    """Return how certainly there was anything of what a sum of nothing would be about."""
    plain = replace(rule, qualifier=ANY)
    return max(
        (_degree(p, i, rule.during, plain) for i in p.members(rule.during)) if rule.during else (),
        default=0,
    )


def _keep_running(p: Preparation, rule: Derivation) -> None:
    """Open values upwards that were recorded while more may have come."""
    if _complete(p, rule):
        return
    running = _during(p, rule)
    for number, item in enumerate(p.items):
        if not any(p.in_set(item, c) for c in rule.of) or item.interval.hi >= INFINITY:
            continue
        if any(
            r.span.start_lo <= item.span.end_hi and r.span.end_hi > item.span.end_lo
            for r in running
        ):
            p.items[number] = replace(item, interval=replace(item.interval, hi=INFINITY))


def _sum(p: Preparation, rule: Derivation) -> bool:
    """Add the sum, number or extreme of a set's values; return whether there was any."""
    if rule.gives is None:
        return True
    graded = [(d, i) for i in p.members(rule.source) if (d := _degree(p, i, rule.source, rule))]
    if not graded:
        return False
    sure = [i.interval for d, i in graded if d == 2]
    every = [i.interval for _, i in graded]
    complete = _complete(p, rule)
    if rule.kind == "Total":
        lo = sum((max(x.lo, Decimal(0)) for x in sure), Decimal(0))
        hi = sum((x.hi for x in every), Decimal(0)) if complete else INFINITY
    elif rule.kind == "Tally":
        lo, hi = Decimal(len(sure)), Decimal(len(every)) if complete else INFINITY
    elif rule.kind == "Maximum":
        lo = max((x.lo for x in sure), default=-INFINITY)
        hi = max(x.hi for x in every) if complete else INFINITY
    else:
        lo = min(x.lo for x in every) if complete else -INFINITY
        hi = min((x.hi for x in sure), default=INFINITY)
    # Where nothing is one of them for certain, there may be nothing to sum.
    there = bool(sure) or (rule.even_if_silent and complete and _went_on(p, rule) == 2)
    _give(p, rule, tuple(i for _, i in graded), Interval(lo, min(hi, INFINITY)), sure=there)
    return True


def _nothing(p: Preparation, rule: Derivation) -> None:
    """Add that a complete record without any sums up to nothing, once what it is about was there."""
    if not rule.even_if_silent or rule.gives is None:
        return
    went_on = _went_on(p, rule)
    if not went_on or not _complete(p, rule):
        return
    if any(p.in_set(i, rule.gives) == 2 for i in p.members(rule.gives)):
        return
    day = p.as_of
    span = Span(day, day, day, day, day * DAY, day * DAY)
    made = p.derived(rule, rule.gives, (), span=span, interval=_ZERO, sure=went_on == 2)
    p.items.append(_yielding(made))


_ZERO = Interval(Decimal(0), Decimal(0))


def _combine(p: Preparation, rules: Iterable[Derivation]) -> None:
    """Compute each rule whose operands are known, until no more follows."""
    todo = [r for r in rules if not any(i.derived_by == r.iri for i in p.items)]
    progress = True
    while progress:
        progress = False
        for rule in list(todo):
            found = [_operand(p, concept, rule) for concept in rule.operands]
            operands = [f for f in found if f is not None]
            if rule.gives is None or not operands or len(operands) < len(found):
                continue
            value = operands[0][0]
            for other, _ in operands[1:]:
                value = _OPERATIONS[rule.kind](value, other)
            parents = {i.id: i for _, items in operands for i in items}
            _give(p, rule, tuple(parents.values()), value)
            todo.remove(rule)
            progress = True


def _operand(
    p: Preparation, concept: str, rule: Derivation
) -> tuple[Interval, tuple[Item, ...]] | None:
    """Return the newest value of ``concept`` and its facts (all that may be newest), or None."""
    graded = [
        (d, i)
        for i in p.members(concept)
        if (d := _degree(p, i, concept, rule)) and (not rule.of_recorded or _recorded(p, i))
    ]
    sure = [i for d, i in graded if d == 2]
    if not sure:
        return None
    newest = max(i.span.minute_lo for i in sure)
    items = tuple(i for _, i in graded if i.span.minute_hi >= newest)
    ends = [i.interval for i in items]
    return Interval(min(e.lo for e in ends), max(e.hi for e in ends)), items


def _recorded(p: Preparation, item: Item) -> bool:
    by = next((d for d in p.trial.derivations if d.iri == item.derived_by), None)
    return not item.parents or (by is not None and by.of_recorded)


def _less(a: Interval, b: Interval) -> Interval:
    lo = -INFINITY if a.lo <= -INFINITY or b.hi >= INFINITY else _WIDE.subtract(a.lo, b.hi)
    hi = INFINITY if a.hi >= INFINITY or b.lo <= -INFINITY else _WIDE.subtract(a.hi, b.lo)
    return Interval(lo, hi)


def _times(a: Interval, b: Interval) -> Interval:
    """Return the products; neither factor is ever negative."""
    lo = _WIDE.multiply(max(a.lo, Decimal(0)), max(b.lo, Decimal(0)))
    hi = INFINITY if INFINITY in (a.hi, b.hi) else _WIDE.multiply(a.hi, b.hi)
    return Interval(lo, hi)


_OPERATIONS: dict[str, Callable[[Interval, Interval], Interval]] = {
    "Difference": _less,
    "Product": _times,
    "Quotient": ratio,
}


def _give(
    p: Preparation, rule: Derivation, parents: tuple[Item, ...], value: Interval, sure: bool = True
) -> None:
    assert rule.gives is not None
    last = max(parents, key=lambda i: (i.span.minute_hi, i.id))
    made = p.derived(rule, rule.gives, parents, span=last.span, interval=value, sure=sure)
    p.items.append(_yielding(made))


def _yielding(item: Item) -> Item:
    """Return the item so that, in order of time, it stands behind every recorded one."""
    span = item.span
    if span.start_lo <= NEVER:
        return item
    return replace(
        item,
        span=replace(
            span, minute_lo=span.minute_lo + LONG_AGO, minute_hi=span.minute_hi + LONG_AGO
        ),
    )
