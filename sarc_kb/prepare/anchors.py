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
        found = AnchorDay(UNKNOWN, "refers to itself", degree=0)
    else:
        p.resolving.add(iri)
        found = try_each(p, p.trial.anchors.get(iri, ()))
        p.resolving.discard(iri)
    p.anchors[iri] = found
    return found


def try_each(p: Preparation, selections: tuple[Selection, ...]) -> AnchorDay:
    """Return what the first attempt that finds something gives; where it finds something only
    possibly, the next attempts stay possible beside it."""
    if not selections:
        return AnchorDay(UNKNOWN, "not in the record", degree=0)
    first, rest = selections[0], selections[1:]
    found = same_as(p, first) if first.pick == "sameAs" else pick(p, first)
    if found.degree == 2:
        return found
    other = try_each(p, rest)
    if found.degree == 0:
        return other
    if other.degree == 0:
        return found
    span = _either([found.span, other.span])
    return AnchorDay(span, f"{found.how}, or {other.how}", found.items + other.items, other.degree)


def same_as(p: Preparation, attempt: Selection) -> AnchorDay:
    """Return another anchor, or the end of its day."""
    other = anchor(p, attempt.targets[0])
    span = other.span
    if attempt.end_of_day and other.degree:
        # The first moment after that day: what was dated that day lies before it.
        low, high = p.offsets
        midnight = (span.start_hi + 1) * DAY
        span = replace(span, minute_lo=midnight - high, minute_hi=midnight - low)
    how = other.how if other.how != "given" else f"same as {local_name(attempt.targets[0])}"
    if attempt.policy:
        how = f"policy {local_name(attempt.policy)}"
    return AnchorDay(span, how, other.items, other.degree)


def pick(p: Preparation, attempt: Selection) -> AnchorDay:
    """Return the earliest, the latest, or the agreed day of an attempt's facts and anchors."""
    certain: list[Span] = []
    possible: list[Span] = []
    found: list[tuple[Span, Item]] = []
    others: dict[str, None] = {}
    for target in attempt.targets:
        if target in p.trial.anchors:
            other = anchor(p, target)
            candidates = [(other.degree, other.span)]
            found += [(other.span, i) for i in other.items]
            if other.degree:
                others[other.how.removeprefix("record: ")] = None
        else:
            chosen_items = [
                (d, i) for i in p.members(target) if (d := chosen(p, i, target, attempt))
            ]
            ends = attempt.pick == "latestEndOf"
            candidates = [(d, _end(i.span) if ends else i.span) for d, i in chosen_items]
            found += [(s, i) for (_, s), (_, i) in zip(candidates, chosen_items, strict=True)]
        possible += [s for d, s in candidates if d]
        certain += [s for d, s in candidates if d == 2]
    if not possible:
        return AnchorDay(UNKNOWN, "not in the record", degree=0)
    if not certain or attempt.pick == "agreementOf":
        span = _either(possible)
    elif attempt.pick == "earliestOf":
        # At most as late as the earliest certain one, at least as early as any.
        span = _bounded(possible, certain, min)
    else:
        span = _bounded(certain, possible, max)
    # What surely is not the earliest (the latest) is no ground for it.
    items = [i for s, i in found if s.start_lo <= span.start_hi and s.start_hi >= span.start_lo]
    names = list(dict.fromkeys([*others, *(s for i in items for s in i.sources)]))
    how = ", ".join(names) if len(names) <= 3 else f"{len(names)} facts"
    if items:
        how = f"record: {how}"
    if attempt.policy:
        how += f" (policy {local_name(attempt.policy)})"
    return AnchorDay(span, how, tuple(items), 2 if certain else 1)


def _end(span: Span) -> Span:
    """Return the end of an extent as a point in time."""
    lo, hi = span.end_lo, span.end_hi
    return Span(lo, hi, lo, hi, lo * DAY, hi * DAY + DAY - 1)


def _either(spans: list[Span]) -> Span:
    """Return the span of one of ``spans``, nobody knows which."""
    lo, hi = min(s.start_lo for s in spans), max(s.start_hi for s in spans)
    minute_lo, minute_hi = min(s.minute_lo for s in spans), max(s.minute_hi for s in spans)
    return Span(lo, hi, lo, hi, minute_lo, minute_hi)


def _bounded(lower: list[Span], upper: list[Span], end: Callable[[Iterable[int]], int]) -> Span:
    lo, hi = end(s.start_lo for s in lower), end(s.start_hi for s in upper)
    minute_lo, minute_hi = end(s.minute_lo for s in lower), end(s.minute_hi for s in upper)
    return Span(lo, hi, lo, hi, minute_lo, minute_hi)


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
        limit = anchor(p, selection.before)
        if limit.degree and item.span.start_hi > limit.span.start_lo:
            after = item.span.start_lo > limit.span.start_hi
            degree = 0 if after and limit.degree == 2 else 1
    return degree


def window(p: Preparation, iri: str) -> WindowDays:
    if iri in p.windows:
        return p.windows[iri]
    rule = p.trial.windows[iri]
    day = anchor(p, rule.anchor)
    # An anchor that may not exist places nothing for certain.
    span = day.span if day.degree == 2 else UNKNOWN
    last = span
    if rule.end_anchor is not None:
        other = anchor(p, rule.end_anchor)
        last = other.span if other.degree == 2 else UNKNOWN
    end_lo, end_hi = (
        _shift(months_before(d, rule.ends_months_before), rule.ends_days_before)
        for d in (last.start_lo, last.start_hi)
    )
    if rule.ends_before is not None:
        next_one = window(p, rule.ends_before)
        end_lo, end_hi = _shift(next_one.start_lo, 1), _shift(next_one.start_hi, 1)
    if rule.open_end:
        end_lo = end_hi = FOREVER
    start_lo = start_hi = NEVER
    if rule.starts_after is not None:
        before = window(p, rule.starts_after)
        start_lo, start_hi = _shift(before.end_lo, -1), _shift(before.end_hi, -1)
    elif rule.months is not None or rule.days is not None:
        start_lo, start_hi = (
            _shift(months_before(d, rule.months or 0), rule.days or 0)
            for d in (span.start_lo, span.start_hi)
        )
    known = span.start_lo > NEVER and span.start_hi < FOREVER
    p.windows[iri] = WindowDays(
        start_lo,
        start_hi,
        end_lo,
        end_hi,
        rule.calendar,
        range(span.start_lo, span.start_hi + 1) if rule.calendar and known else range(0),
    )
    return p.windows[iri]


def intervals(p: Preparation) -> None:
    for rule in p.trial.derivations:
        if rule.kind != "Interval" or rule.from_anchor is None or rule.to_anchor is None:
            continue
        start, stop = anchor(p, rule.from_anchor), anchor(p, rule.to_anchor)
        a, b = start.span, stop.span
        if start.degree < 2 or stop.degree < 2:
            continue
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
