"""Implications, refinements and conversions, until nothing new follows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sarc_kb.dates import DAY, FOREVER, NEVER
from sarc_kb.prepare.model import (
    BY_DEFAULT,
    Item,
    Span,
    qualifier_degree,
    window_degree,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import ANY, Derivation
from sarc_kb.terminology import Coded
from sarc_kb.units import ANYTHING, scaled


def derive(p: Preparation, *, windowed: bool) -> None:
    rules = [
        d
        for d in p.trial.derivations
        if d.kind in ("Implication", "Refinement", "Conversion")
        and (d.window is not None) == windowed
    ]
    refinements = [r for r in rules if r.kind == "Refinement"]
    others = [r for r in rules if r.kind != "Refinement"]
    done: set[tuple[str, str | None, str]] = set()
    for _ in range(8):
        # What a fact is comes before what follows from it: an implication is drawn once, and would
        # be no more than possible if drawn from a fact that is not yet made precise.
        changed = False
        while _refine_all(p, refinements, done):
            changed = True
        items = list(p.items)
        for rule in others:
            for item in items:
                key = (rule.iri, rule.gives, item.id)
                if key in done or rule.iri == item.derived_by:
                    continue
                degree = matches(p, item, rule)
                if degree:
                    done.add(key)
                    derived = imply(p, item, rule, degree)
                    if derived is not None:
                        p.items.append(derived)
                        changed = True
        if not changed:
            return


def _refine_all(
    p: Preparation, rules: list[Derivation], done: set[tuple[str, str | None, str]]
) -> bool:
    changed = False
    for rule in rules:
        for item in list(p.items):
            key = (rule.iri, rule.gives, item.id)
            if key in done or rule.iri == item.derived_by:
                continue
            if matches(p, item, rule) == 2:
                done.add(key)
                changed |= refine(p, item, rule)
    return changed


def matches(p: Preparation, item: Item, rule: Derivation) -> int:
    degree = p.in_set(item, rule.source)
    if any(qualifier_degree(item, q, p.trial, p.terms) == 2 for q in rule.unless):
        degree = 0
    if degree and rule.accepted != ANY:
        accepted = (
            p.trial.set_of(rule.accepted).degree(item.values, p.terms) if item.has_value else 1
        )
        degree = min(degree, accepted)
    if degree:
        degree = min(degree, qualifier_degree(item, rule.qualifier, p.trial, p.terms))
    if degree and rule.window is not None:
        days = p.windows[rule.window]
        degree = min(
            degree, window_degree(item.span, days, p.trial.windows[rule.window].start_only)
        )
    return degree


def refine(p: Preparation, item: Item, rule: Derivation) -> bool:
    new = item
    if rule.adds_value:
        new = replace(new, values=narrowed(p, new.values, rule.adds_value), has_value=True)
    if rule.adds_concept:
        new = replace(new, terms=narrowed(p, new.terms, rule.adds_concept))
    if rule.axis and rule.axis not in new.axes:
        value = new.terms if rule.value_from_concept else Coded(frozenset((rule.axis_value or "",)))
        new = replace(new, axes={**new.axes, rule.axis: value})
    if new == item:
        return False
    if rule.rests_on:
        new = replace(new, rests_on=(*new.rests_on, rule.rests_on))
    p.items[p.items.index(item)] = new
    return True


def _end_of_day(p: Preparation, span: Span) -> Span:
    """Return the last minute of the day on which ``span`` starts, by the record's clocks."""
    lo, hi = span.start_lo, span.start_hi
    if lo <= NEVER or hi >= FOREVER:
        return span
    least, most = p.offsets
    return Span(lo, hi, lo, hi, (lo + 1) * DAY - 1 - most, (hi + 1) * DAY - 1 - least)


def narrowed(p: Preparation, coded: Coded, term: str) -> Coded:
    return p.terms.code((*sorted(coded.certain), term))


def imply(p: Preparation, item: Item, rule: Derivation, degree: int) -> Item | None:
    if rule.gives is None:
        return None
    values, interval = Coded(), item.interval if rule.keeps_value else ANYTHING
    has_value = False
    if rule.kind == "Conversion":
        interval = scaled(item.interval, Decimal(rule.value or "1"))
    elif rule.value is not None:
        values, has_value = Coded(frozenset((rule.value,))), True
    elif rule.value_from_concept:
        values, has_value = item.terms, True
    elif rule.value_from_axis is not None:
        coded = item.axes.get(rule.value_from_axis)
        if coded is None and not rule.even_if_silent:
            return None
        values, has_value = coded or Coded(), coded is not None
    span = item.span
    if rule.as_default:
        span = BY_DEFAULT
    if rule.at_end_of_day:
        span = _end_of_day(p, span)
    return p.derived(
        rule,
        rule.gives,
        (item,),
        values=values,
        has_value=has_value,
        interval=interval,
        span=span,
        sure=item.sure and degree == 2 and not rule.as_suspected,
        axes=item.axes,
        tumour=item.tumour,
    )
