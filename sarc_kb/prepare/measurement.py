"""Arithmetic on measurements: multiples of the upper limit, extremes of a day, clearance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal

from sarc_kb.dates import NEVER, completed_years
from sarc_kb.namespaces import SARC
from sarc_kb.prepare.model import (
    LONG_AGO,
    Item,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import Derivation
from sarc_kb.units import ANYTHING, INFINITY, Interval, ratio, to_canonical


def measure(p: Preparation) -> None:
    for rule in p.trial.derivations:
        if rule.kind == "UpperLimitMultiple":
            for item in list(p.items):
                if any(
                    p.in_set(item, c) == 2 or (p.in_set(item, c) == 1 and not item.sure)
                    for c in rule.of
                ):
                    p.items.append(multiple(p, item, rule))
        elif rule.kind in ("Smallest", "Largest"):
            extreme(p, rule)
        elif rule.kind == "CockcroftGault":
            clearance(p, rule)


def multiple(p: Preparation, item: Item, rule: Derivation) -> Item:
    interval = ANYTHING
    problem = "no upper limit of normal"
    fact = item.origin
    quantity = p.terms.quantity_of(sorted(item.terms.certain or item.terms.general)[0])
    if fact is not None and fact.upper_limit is not None and quantity is not None:
        unit = fact.upper_limit_unit or fact.unit
        limit = to_canonical(fact.upper_limit, unit, quantity, p.terms)
        if limit is None:
            problem = "the upper limit has an unusable unit"
        elif limit > 0:
            interval = ratio(item.interval, Interval(limit, limit))
            problem = "" if item.interval.known else item.problem
    made = p.derived(
        rule, rule.iri, (item,), span=item.span, interval=interval, sure=item.sure, axes=item.axes
    )
    return replace(made, problem=problem)


def extreme(p: Preparation, rule: Derivation) -> None:
    smallest = rule.kind == "Smallest"
    days: dict[int, dict[str, list[Item]]] = {}
    for item in p.items:
        if item.span.start_lo != item.span.start_hi or not item.sure or item.problem:
            continue
        for part in rule.of:
            if p.in_set(item, part) == 2:
                days.setdefault(item.span.start_lo, {}).setdefault(part, []).append(item)
    for _, parts in sorted(days.items()):
        members = tuple(i for p in rule.of for i in parts.get(p, ()))
        bounds = [i.interval for i in members]
        if len(parts) < len(rule.of):
            bounds.append(Interval(lo=Decimal(0)))
        pick: Callable[[Iterable[Decimal]], Decimal] = min if smallest else max
        lo, hi = pick(b.lo for b in bounds), pick(b.hi for b in bounds)
        lo_open = all(b.lo_open for b in bounds if b.lo == lo)
        hi_open = (
            any(b.hi_open for b in bounds if b.hi == hi)
            if smallest
            else all(b.hi_open for b in bounds if b.hi == hi)
        )
        axes = {
            axis: coded
            for axis, coded in members[0].axes.items()
            if all(m.axes.get(axis) == coded for m in members)
        }
        p.items.append(
            p.derived(
                rule,
                rule.iri,
                members,
                span=members[0].span,
                interval=Interval(lo, hi, lo_open, hi_open),
                axes=axes,
                tumour=members[0].tumour,
            )
        )


def clearance(p: Preparation, rule: Derivation) -> None:
    """Estimate creatinine clearance; the estimate stands behind every recorded clearance.

    Source: Cockcroft and Gault 1976: (140 - age) x weight / (72 x creatinine in mg/dL), times
    0.85 for women; not indexed to body surface. Molar mass of creatinine 113.12 g/mol.
    """
    named = dict(rule.inputs)
    birth = births(p, named.get("fromBirth", str(SARC.Birth)))
    weights = [
        i
        for i in p.members(named["fromWeight"])
        if p.in_set(i, named["fromWeight"]) == 2 and i.interval.known
    ]
    by_sex = sexes(p, named.get("fromSex", str(SARC.Sex)))
    if birth is None or not weights:
        return
    for item in p.members(named["fromCreatinine"]):
        if p.in_set(item, named["fromCreatinine"]) != 2:
            continue
        day = item.span.start_hi
        if not item.interval.known or item.span.start_lo != day or item.interval.lo <= 0:
            continue
        earlier = [w for w in weights if w.span.start_hi <= day]
        if not earlier:
            continue
        weight = max(earlier, key=lambda w: (w.span.minute_hi, w.id))
        ages = sorted(Decimal(completed_years(b, day)) for b in birth)
        factors = sorted(by_sex)
        molar = Decimal("113.12") / 10000

        def formula(
            age: Decimal, kg: Decimal, umol: Decimal, factor: Decimal, molar: Decimal = molar
        ) -> Decimal:
            return (140 - age) * kg / (72 * umol * molar) * factor

        top = item.interval.hi if item.interval.hi < INFINITY else None
        lo = formula(ages[-1], weight.interval.lo, top, factors[0]) if top else Decimal(0)
        hi = formula(ages[0], weight.interval.hi, item.interval.lo, factors[-1])
        # Windows see the day of the creatinine; in order of time it yields to any recorded value.
        span = replace(
            item.span,
            minute_lo=item.span.minute_lo + LONG_AGO,
            minute_hi=item.span.minute_hi + LONG_AGO,
        )
        p.items.append(
            p.derived(rule, rule.iri, (item, weight), span=span, interval=Interval(lo, hi))
        )


def births(p: Preparation, concept: str) -> tuple[int, int] | None:
    days = [
        (i.span.start_lo, i.span.start_hi)
        for i in p.members(concept)
        if p.in_set(i, concept) == 2 and i.span.start_lo > NEVER
    ]
    return (min(d[0] for d in days), max(d[1] for d in days)) if days else None


def sexes(p: Preparation, concept: str) -> set[Decimal]:
    factors: set[Decimal] = set()
    for item in p.members(concept):
        if p.in_set(item, concept) == 2 and item.has_value:
            if item.values.certain == {str(SARC.Female)}:
                factors.add(Decimal("0.85"))
            elif item.values.certain == {str(SARC.Male)}:
                factors.add(Decimal(1))
            else:
                factors |= {Decimal("0.85"), Decimal(1)}
    return factors or {Decimal("0.85"), Decimal(1)}
