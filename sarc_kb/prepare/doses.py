"""Uses of a medicine read as single doses on a ladder, and the changes and pauses between them.

A use on one day is a dose. A use over several days is a dose on its first and on its last day and,
possibly, doses between; nobody knows on which days. Whether something lies unrecorded between two
doses is open unless the doses are complete there, or the days follow each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise

from sarc_kb.dates import DAY, FOREVER
from sarc_kb.namespaces import SARC
from sarc_kb.prepare.model import Item, Span, WindowDays, qualifier_degree, window_degree
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import EVER, Derivation, DoseSeries
from sarc_kb.terminology import Coded
from sarc_kb.units import INFINITY, Interval

_LEVEL, _FROM, _TO = (str(SARC[n]) for n in ("doseLevel", "fromLevel", "toLevel"))
_OTHER_LEVEL = str(SARC.OtherLevel)
_NEXT, _SKIPPED, _LEFT, _REGAINED, _REDUCED, _INCREASED = (
    str(SARC[n])
    for n in (
        "NextLevelDown",
        "LevelSkipped",
        "LevelLeft",
        "LevelRegained",
        "Reduction",
        "Increase",
    )
)


@dataclass(frozen=True, slots=True)
class _Use:
    """One recorded use: how certainly it is one of the series, its first and its last day."""

    item: Item
    degree: int
    first: Span
    last: Span | None

    @property
    def exact(self) -> bool:
        """Whether it certainly was, at one known dose."""
        interval = self.item.interval
        return self.degree == 2 and interval.lo == interval.hi

    @property
    def floating(self) -> bool:
        """Whether it may lie before or after others: its days or whether it was are not known."""
        return self.degree < 2 or self.first.start_lo != self.first.start_hi

    @property
    def single(self) -> bool:
        return self.last == self.first

    @property
    def end_lo(self) -> int:
        return self.first.start_lo if self.last is None else self.last.start_lo


class _Record:
    """How far a scope is complete; asked once for all, then only where that is not so."""

    def __init__(self, p: Preparation, scope: str, first: int) -> None:
        self.p, self.scope = p, scope
        self.whole = self._covered(first, p.as_of)

    def covers(self, first: int, last: int) -> bool:
        """Whether nothing unrecorded can lie on the days ``first`` to ``last``."""
        return last < first or self.whole or self._covered(first, last)

    def _covered(self, first: int, last: int) -> bool:
        return self.p.covering(self.scope, WindowDays(first, first, last, last)) is not None


def take_doses(p: Preparation) -> None:
    """Add what the trial's dose series say: doses, their number a day, changes, pauses, and the
    level that was in force when an event began."""
    for series in p.trial.series:
        rule = Derivation(series.iri, "DoseSeries")
        uses = sorted(_uses(p, series), key=lambda u: (u.first.minute_lo, u.item.id))
        if not uses:
            continue
        record = _Record(p, series.settled_by, uses[0].first.start_lo)
        for use in uses:
            p.items += _doses(p, series, rule, use)
        p.items += _daily(p, series, rule, uses, record)
        p.items += _changes(p, series, rule, uses, record)
        p.items += _pauses(p, series, rule, uses, record)
        p.items = [_placed(p, series, uses, record, item) for item in p.items]


def _uses(p: Preparation, series: DoseSeries) -> Iterator[_Use]:
    for item in p.items:
        degree = p.in_set(item, series.source)
        if degree:
            degree = min(degree, qualifier_degree(item, series.qualifier, p.trial, p.terms))
        if degree and series.window != EVER:
            start_only = p.trial.windows[series.window].start_only
            degree = min(degree, window_degree(item.span, p.windows[series.window], start_only))
        if degree:
            first = _point(item.span)
            yield _Use(item, degree, first, _last_day(p, item, first))


def _point(span: Span) -> Span:
    return replace(span, end_lo=span.start_lo, end_hi=span.start_hi)


def _last_day(p: Preparation, item: Item, first: Span) -> Span | None:
    """Return the last day of a use, None where nobody knows."""
    fact = item.origin
    if fact is not None and fact.start is not None and fact.start is fact.end:
        return first
    lo, hi = item.span.end_lo, item.span.end_hi
    if hi >= FOREVER:
        return None
    if (lo, hi) == (first.start_lo, first.start_hi) and lo == hi:
        return first
    least, most = p.offsets
    return Span(lo, hi, lo, hi, lo * DAY - most, hi * DAY + DAY - 1 - least)


def _level(series: DoseSeries, amount: Decimal) -> int | None:
    """Return the number of the level that ``amount`` is on, from the top; None if on none."""
    return next(
        (n for n, level in enumerate(series.levels) if level.least <= amount <= level.most), None
    )


def _named(series: DoseSeries, level: int | None) -> Coded:
    return Coded(frozenset((_OTHER_LEVEL if level is None else series.levels[level].iri,)))


def _levels(series: DoseSeries, dose: Interval) -> Coded:
    """Return the levels that a dose may be on."""
    if dose.lo == dose.hi:
        return _named(series, _level(series, dose.lo))
    possible = {
        x.iri
        for x in series.levels
        if (x.most > dose.lo or (x.most == dose.lo and not dose.lo_open))
        and (x.least < dose.hi or (x.least == dose.hi and not dose.hi_open))
    }
    if not possible:
        return Coded(frozenset((_OTHER_LEVEL,)))
    return Coded(general=frozenset(possible | {_OTHER_LEVEL}))


def _doses(p: Preparation, series: DoseSeries, rule: Derivation, use: _Use) -> Iterator[Item]:
    axes = {**use.item.axes, _LEVEL: _levels(series, use.item.interval)}

    def dose(span: Span, sure: bool) -> Item:
        made = p.derived(
            rule,
            series.dose,
            (use.item,),
            span=span,
            interval=use.item.interval,
            sure=sure,
            axes=axes,
        )
        return replace(made, unit=use.item.unit)

    yield dose(use.first, use.degree == 2)
    if use.single:
        return
    if use.last is not None:
        yield dose(use.last, use.degree == 2)
    end = p.as_of if use.last is None else use.last.start_hi
    if end > use.first.start_lo:
        # Somewhere between: any of these days.
        between = Span(
            use.first.start_lo,
            end,
            use.first.start_lo,
            end,
            use.first.minute_lo,
            end * DAY + DAY - 1 - p.offsets[0],
        )
        yield dose(between, False)


def _daily(
    p: Preparation, series: DoseSeries, rule: Derivation, uses: list[_Use], record: _Record
) -> Iterator[Item]:
    """Yield the number of doses of each day on which one was taken, or may have been."""
    days: dict[int, list[_Use]] = {}
    for use in uses:
        if not use.floating:
            days.setdefault(use.first.start_lo, []).append(use)
            continue
        earliest, latest = use.first.start_lo, use.first.start_hi
        most = INFINITY
        if record.covers(earliest, latest):
            most = Decimal(sum(_may_touch(u, earliest, latest) for u in uses))
        yield p.derived(
            rule,
            series.daily,
            (use.item,),
            span=use.first,
            interval=Interval(Decimal(1), most),
            sure=False,
        )
    for day, members in sorted(days.items()):
        # Two records of one known minute are one dose (decision 0007).
        moments = {
            m.first.minute_lo if m.first.minute_lo == m.first.minute_hi else m.item.id
            for m in members
        }
        least = Decimal(len(moments))
        most = INFINITY
        if record.covers(day, day):
            most = least + sum(_may_touch(u, day, day) for u in uses if u not in members)
        first = members[0].first
        span = Span(day, day, day, day, first.minute_lo, members[-1].first.minute_hi)
        yield p.derived(
            rule,
            series.daily,
            tuple(m.item for m in members),
            span=span,
            interval=Interval(least, most),
        )


def _may_touch(use: _Use, earliest: int, latest: int) -> bool:
    """Whether a dose of the use may lie on one of the days."""
    end = FOREVER if use.last is None else use.last.start_hi
    return use.first.start_lo <= latest and earliest <= end


def _changes(
    p: Preparation, series: DoseSeries, rule: Derivation, uses: list[_Use], record: _Record
) -> Iterator[Item]:
    exact = [u for u in uses if u.exact]
    vague = [u for u in uses if not u.exact]
    floating = [u for u in exact if u.floating]
    if len({(u.item.interval.lo, u.item.interval.hi) for u in uses}) == 1 and exact:
        return
    either = Coded(general=frozenset((_REDUCED, _INCREASED)))
    for a, b in pairwise(exact):
        x, y = a.item.interval.lo, b.item.interval.lo
        others = [
            u
            for u in (*vague, *(exact if a.floating or b.floating else floating))
            if u not in (a, b) and _between(a, u, b)
        ]
        if any(u.item.interval != b.item.interval for u in others):
            # From that dose to this one, where it was the one before.
            yield _change(p, series, rule, (b,), either, {}, False)
        if x == y:
            continue
        kind = _kind(series, x, y)
        axes = {_FROM: _named(series, _level(series, x)), _TO: _named(series, _level(series, y))}
        sure, day = True, b.first
        if _overlap(a, b):
            # Nobody knows which came first: the change may be this one or the opposite.
            values, axes, sure = Coded(general=frozenset((kind, _kind(series, y, x)))), {}, False
        elif others or _open_between(record, a, b):
            # Down it went for certain, by which way and when nobody knows; up likewise.
            values, axes = Coded(frozenset((_REDUCED if y < x else _INCREASED,))), {}
            day = _from_to(a.first, b.first)
        else:
            values = Coded(frozenset((kind,)))
        yield replace(_change(p, series, rule, (a, b), values, axes, sure), span=day)
    for use in floating:
        # Its days are not known: it may follow any of the others, not only the one it is sorted by.
        y = use.item.interval.lo
        doses = {u.item.interval.lo for u in exact if u is not use} - {y}
        kinds = frozenset(_kind(series, x, y) for x in doses)
        if kinds:
            yield _change(p, series, rule, (use,), Coded(general=kinds), {}, False)
    if exact and any(u.first.minute_lo <= exact[0].first.minute_hi for u in vague):
        yield _change(p, series, rule, (exact[0],), either, {}, False)
    if len(uses) > 1:
        for use in vague:
            yield _change(p, series, rule, (use,), either, {}, False)


def _change(
    p: Preparation,
    series: DoseSeries,
    rule: Derivation,
    uses: tuple[_Use, ...],
    values: Coded,
    axes: dict[str, Coded],
    sure: bool,
) -> Item:
    return p.derived(
        rule,
        series.change,
        tuple(u.item for u in uses),
        span=uses[-1].first,
        values=values,
        has_value=True,
        sure=sure,
        axes=axes,
    )


def _from_to(first: Span, last: Span) -> Span:
    """Return one day of those from ``first`` to ``last``."""
    return replace(last, start_lo=first.start_lo, end_lo=first.end_lo, minute_lo=first.minute_lo)


def _kind(series: DoseSeries, x: Decimal, y: Decimal) -> str:
    """Return what the change from dose ``x`` to the next dose ``y`` is."""
    if y > x:
        return _INCREASED
    start, end = _level(series, x), _level(series, y)
    if end is None:
        return _LEFT
    if start is None:
        return _REGAINED
    return _NEXT if end <= start + 1 else _SKIPPED


def _overlap(a: _Use, b: _Use) -> bool:
    """Whether ``b`` may have begun before ``a``, or before ``a`` was over."""
    over = a.first.minute_hi if a.single or a.last is None else a.last.minute_lo
    return b.first.minute_lo < over and not (
        a.single and b.single and a.first.start_hi < b.first.start_lo
    )


def _between(a: _Use, use: _Use, b: _Use) -> bool:
    """Whether ``use`` may lie between the two."""
    end = FOREVER if use.last is None else use.last.start_hi
    return use.first.start_lo <= b.first.start_hi and end >= a.first.start_lo


def _open_between(record: _Record, a: _Use, b: _Use) -> bool:
    """Whether an unrecorded dose may lie between the two."""
    return not record.covers(a.end_lo + 1, b.first.start_hi - 1)


def _pauses(
    p: Preparation, series: DoseSeries, rule: Derivation, uses: list[_Use], record: _Record
) -> Iterator[Item]:
    for items, span, interval, sure in _gaps(uses, record):
        yield p.derived(rule, series.pause, items, span=span, interval=interval, sure=sure)


def _gaps(
    uses: list[_Use], record: _Record
) -> Iterator[tuple[tuple[Item, ...], Span, Interval, bool]]:
    """Yield the days from each use to the next: between which, when it was over, how many days,
    and whether there was such a gap for certain."""
    known = [u for u in uses if not u.floating and u.last is not None]
    vague = [u for u in uses if u not in known]
    for a, b in pairwise(known):
        assert a.last is not None
        least, most = b.first.start_lo - a.last.start_hi, b.first.start_hi - a.last.start_lo
        if most < 1:
            continue
        if _open_between(record, a, b) or any(_between(a, u, b) for u in vague):
            least = 0
        yield (
            (a.item, b.item),
            b.first,
            Interval(Decimal(max(least, 0)), Decimal(most)),
            True,
        )
    # What may lie before another use may have been parted from it.
    for b in (*known[:1], *vague):
        before = [
            u.first.start_lo
            for u in (uses if b in vague else vague)
            if u is not b and u.first.start_lo < b.first.start_hi
        ]
        if before:
            most = b.first.start_hi - min(before)
            yield (b.item,), b.first, Interval(Decimal(0), Decimal(most)), False


def _placed(
    p: Preparation, series: DoseSeries, uses: Iterable[_Use], record: _Record, item: Item
) -> Item:
    """Return an event with the level that was in force when it began, if that is certain."""
    if _LEVEL in item.axes or not p.in_set(item, series.events):
        return item
    if any(p.terms.quantity_of(t) for t in item.terms.certain):
        # The event names its dose, or nobody knows which it is about.
        return replace(item, axes={**item.axes, _LEVEL: _levels(series, item.interval)})
    before = [u for u in uses if u.first.minute_lo <= item.span.minute_hi]
    certain = [u for u in before if u.exact and u.first.minute_hi <= item.span.minute_lo]
    if not certain:
        return item
    current = certain[-1]
    after = [u for u in uses if u not in before]
    later = [u for u in before if u is not current and u.first.minute_hi >= current.first.minute_lo]
    day = item.span.start_hi
    next_one = after[0] if after else None
    steady = (
        record.covers(current.end_lo + 1, day)
        or (current.last is not None and current.last.start_lo >= day)
        or (next_one is not None and next_one.exact and _same(next_one, current))
    )
    if not steady or any(not (u.exact and _same(u, current)) for u in later):
        return item
    return replace(
        item, axes={**item.axes, _LEVEL: _named(series, _level(series, current.item.interval.lo))}
    )


def _same(a: _Use, b: _Use) -> bool:
    return a.item.interval == b.item.interval


def days_between(p: Preparation) -> None:
    """Add the days from each fact of a set to the next, where a derivation asks for them."""
    for rule in p.trial.derivations:
        if rule.kind != "IntervalBetween" or rule.gives is None:
            continue
        members = sorted(
            (
                _Use(i, d, _point(i.span), _point(i.span))
                for i in p.items
                if (d := _degree(p, i, rule))
            ),
            key=lambda u: (u.first.minute_lo, u.item.id),
        )
        if not members:
            continue
        record = _Record(p, rule.settled_by or "", members[0].first.start_lo)
        p.items += [
            p.derived(rule, rule.gives, items, span=span, interval=interval, sure=sure)
            for items, span, interval, sure in _gaps(members, record)
        ]


def _degree(p: Preparation, item: Item, rule: Derivation) -> int:
    degree = p.in_set(item, rule.source)
    if degree and rule.window is not None:
        start_only = p.trial.windows[rule.window].start_only
        degree = min(degree, window_degree(item.span, p.windows[rule.window], start_only))
    return degree
