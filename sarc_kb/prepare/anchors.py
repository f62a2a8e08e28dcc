"""Anchors and windows of one patient, and the intervals between anchors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal

from sarc_kb.dates import DAY, FOREVER, NEVER, PartialDate, completed_years, months_before
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.prepare.facts import minutes
from sarc_kb.prepare.model import (
    UNKNOWN,
    AnchorDay,
    Item,
    Span,
    WindowDays,
    qualifier_degree,
    window_degree,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import ANY, EVER, Selection
from sarc_kb.units import Interval

_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)


def resolve_all(p: Preparation) -> None:
    for iri in p.trial.anchors:
        anchor(p, iri)
    for iri in p.trial.windows:
        window(p, iri)


def anchor(p: Preparation, iri: str) -> AnchorDay:
    if iri in p.anchors:
        return p.anchors[iri]
    if iri == _ENTRY:
        known = minutes(p, p.entry, p.entry.first, p.entry.last)
        found = AnchorDay(_point(p.entry, known), "given")
    elif iri == _AS_OF:
        day = p.as_of
        found = AnchorDay(Span(day, day, day, day, day * DAY, day * DAY + DAY - 1), "given")
    elif iri in p.resolving:
        found = AnchorDay(UNKNOWN, "refers to itself")
    else:
        p.resolving.add(iri)
        found = try_each(p, p.trial.anchors.get(iri, ()))
        p.resolving.discard(iri)
    p.anchors[iri] = found
    return found


def try_each(p: Preparation, selections: tuple[Selection, ...]) -> AnchorDay:
    """Return what the first attempt that finds something gives."""
    if not selections:
        return AnchorDay(UNKNOWN, "not in the record")
    first, rest = selections[0], selections[1:]
    if first.pick == "sameAs":
        other = anchor(p, first.targets[0])
        if other.span == UNKNOWN and rest:
            return try_each(p, rest)
        span = other.span
        if first.end_of_day and span != UNKNOWN:
            # The first moment after that day: what was dated that day lies before it.
            low, high = p.offsets
            midnight = (span.start_hi + 1) * DAY
            span = replace(span, minute_lo=midnight - high, minute_hi=midnight - low)
        how = other.how if other.how != "given" else f"same as {local_name(first.targets[0])}"
        return AnchorDay(
            span, f"policy {local_name(first.policy)}" if first.policy else how, other.items
        )
    found: list[tuple[int, Span]] = []
    items: list[Item] = []
    grounds: dict[str, None] = {}
    for target in first.targets:
        if target in p.trial.anchors:
            other = anchor(p, target)
            if other.span != UNKNOWN:
                found.append((2, other.span))
                items += other.items
                grounds[other.how.removeprefix("record: ")] = None
            continue
        for item in p.items:
            degree = chosen(p, item, target, first)
            if degree:
                found.append((degree, item.span))
                items.append(item)
                grounds.update(dict.fromkeys(item.sources))
    if not found:
        return try_each(p, rest)
    certain = [s for d, s in found if d == 2]
    possible = [s for _, s in found]
    if first.pick == "agreementOf" or not certain:
        if not certain:
            certain = possible = [*possible, try_each(p, rest).span]
        certain = possible
        pick_lo: Callable[[Iterable[int]], int] = min
        pick_hi: Callable[[Iterable[int]], int] = max
    elif first.pick == "earliestOf":
        pick_lo = pick_hi = min
    else:
        # The latest is at least as late as every certain one, at most as late as any.
        pick_lo = pick_hi = max
        certain, possible = possible, certain
    day_lo = pick_lo(s.start_lo for s in possible)
    day_hi = pick_hi(s.start_hi for s in certain)
    span = Span(
        day_lo,
        day_hi,
        day_lo,
        day_hi,
        pick_lo(s.minute_lo for s in possible),
        pick_hi(s.minute_hi for s in certain),
    )
    names = list(grounds)
    how = ", ".join(names) if len(names) <= 3 else f"{len(names)} facts"
    if items:
        how = f"record: {how}"
    if first.policy:
        how += f" (policy {local_name(first.policy)})"
    return AnchorDay(span, how, tuple(items))


def chosen(p: Preparation, item: Item, target: str, selection: Selection) -> int:
    """Return the degree to which an anchor's attempt selects ``item``."""
    degree = p.in_set(item, target)
    if degree and selection.accepted != ANY:
        accepted = p.trial.set_of(selection.accepted)
        degree = min(degree, accepted.degree(item.values, p.terms) if item.has_value else 1)
    if not degree or qualifier_degree(item, selection.qualifier, p.trial, p.terms) < 2:
        return 0
    if any(qualifier_degree(item, q, p.trial, p.terms) == 2 for q in selection.unless):
        return 0
    if selection.window != EVER:
        days = window(p, selection.window)
        start_only = p.trial.windows[selection.window].start_only
        degree = min(degree, window_degree(item.span, days, start_only))
    if degree and selection.before is not None:
        limit = anchor(p, selection.before).span
        if limit != UNKNOWN:
            if item.span.start_lo > limit.start_hi:
                return 0
            if item.span.start_hi > limit.start_lo:
                degree = 1
    return degree


def window(p: Preparation, iri: str) -> WindowDays:
    if iri in p.windows:
        return p.windows[iri]
    rule = p.trial.windows[iri]
    span = anchor(p, rule.anchor).span
    end_lo = _shift(span.start_lo, rule.ends_days_before)
    end_hi = _shift(span.start_hi, rule.ends_days_before)
    if rule.ends_before is not None:
        other = window(p, rule.ends_before)
        end_lo, end_hi = _shift(other.start_lo, 1), _shift(other.start_hi, 1)
    if rule.open_end:
        end_lo = end_hi = FOREVER
    if rule.months is not None:
        start_lo = months_before(span.start_lo, rule.months)
        start_hi = months_before(span.start_hi, rule.months)
    elif rule.days is not None:
        start_lo, start_hi = _shift(span.start_lo, rule.days), _shift(span.start_hi, rule.days)
    else:
        start_lo = start_hi = NEVER
    p.windows[iri] = WindowDays(start_lo, start_hi, end_lo, end_hi)
    return p.windows[iri]


def intervals(p: Preparation) -> None:
    for rule in p.trial.derivations:
        if rule.kind != "Interval" or rule.from_anchor is None or rule.to_anchor is None:
            continue
        start, stop = anchor(p, rule.from_anchor), anchor(p, rule.to_anchor)
        a, b = start.span, stop.span
        if a.start_lo <= NEVER or b.start_lo <= NEVER or FOREVER in (a.start_hi, b.start_hi):
            continue
        if rule.measured_in == str(SARC.CompletedYears):
            lo, hi = (
                completed_years(a.start_hi, b.start_lo),
                completed_years(a.start_lo, b.start_hi),
            )
        elif rule.measured_in == str(SARC.Minutes):
            lo, hi = b.minute_lo - a.minute_hi, b.minute_hi - a.minute_lo
        else:
            lo, hi = b.start_lo - a.start_hi, b.start_hi - a.start_lo
        made = p.derived(
            rule,
            rule.iri,
            start.items + stop.items,
            span=b,
            interval=Interval(Decimal(lo), Decimal(hi)),
        )
        policies = tuple(x.how for x in (start, stop) if "policy" in x.how)
        p.items.append(replace(made, rests_on=made.rests_on + policies))


def _point(date: PartialDate, minutes: tuple[int, int]) -> Span:
    return Span(date.first, date.last, date.first, date.last, *minutes)


def _shift(day: int, days: int) -> int:
    return day if day <= NEVER or day >= FOREVER else day - days
