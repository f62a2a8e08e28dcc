"""The geometry of small drawings: a value against its limits, and a course over time.

Places are in per cent of the width, so that a drawing fits a wide and a narrow page alike. Nothing
here writes a page; what cannot be drawn (text where a number should be) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation

from sarc_kb.assessment import (
    ClauseResult,
    Range,
    TimelineEvent,
    TreatmentAssessment,
    TreatmentOutcome,
)

_LARGEST = Decimal(10) ** 15
_FEW_TICKS = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at a place; ``side`` says which part of the text stands there (SVG text-anchor)."""

    x: str
    text: str
    side: str


@dataclass(frozen=True, slots=True)
class Bar:
    """From a place on, so wide; ``width`` None is a single point."""

    x: str
    width: str | None


@dataclass(frozen=True, slots=True)
class Strip:
    """One clause's values against what it allows."""

    room: Bar
    edges: tuple[Tick, ...]
    marks: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """One event of the course: where, in which lane, the label that fits into it, and the worst
    that a rule tells of it."""

    event: TimelineEvent
    bar: Bar
    lane: int
    label: str
    told: TreatmentOutcome | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The course: a lane a track, ticks of the calendar, the day as of which it was judged."""

    lanes: tuple[str, ...]
    shapes: tuple[Shape, ...]
    ticks: tuple[Tick, ...]
    flags: tuple[tuple[str, TreatmentOutcome], ...]
    as_of: str | None


def strip(clause: ClauseResult) -> Strip | None:
    """Return the drawing of a clause that compares numbers; None where it has no limits.

    Without a value on record, only what is allowed is drawn.
    """
    if clause.allowed is None:
        return None
    limit = _ends(clause.allowed)
    facts = (*clause.evidence, *clause.passed_over)
    values = [_ends(e.quantity) for e in facts if e.quantity is not None]
    values = [v for v in values if v != (None, None)]
    known = [x for pair in (limit, *values) for x in pair if x is not None]
    if limit == (None, None):
        return None
    least, most = min(known), max(known)
    margin = (most - least) * Decimal("0.35") or abs(most) / 2 or Decimal(1)
    low, high = least - margin, most + margin
    if least >= 0:
        low = max(low, Decimal(0))

    def place(number: Decimal) -> Decimal:
        return (number - low) / (high - low) * 100

    def bar(pair: tuple[Decimal | None, Decimal | None]) -> Bar:
        start = Decimal(0) if pair[0] is None else place(pair[0])
        end = Decimal(100) if pair[1] is None else place(pair[1])
        return Bar(_percent(start), _percent(max(end - start, Decimal(0))))

    def mark(pair: tuple[Decimal | None, Decimal | None]) -> Bar:
        if pair[0] is not None and pair[0] == pair[1]:
            return Bar(_percent(place(pair[0])), None)
        return bar(pair)

    labels = _limit_labels(clause.allowed)
    edges = [_tick(place(x), text) for x, text in zip(limit, labels, strict=True) if x is not None]
    if limit[0] == limit[1]:
        edges = edges[:1]
    return Strip(bar(limit), tuple(edges), tuple(mark(v) for v in values))


def _limit_labels(allowed: Range) -> tuple[str, str]:
    """Return what stands at the two limits."""
    unit = f" {allowed.unit}" if allowed.unit else ""
    if allowed.lower == allowed.upper:
        return f"= {allowed.lower}{unit}", ""
    lower, upper = "≥" if allowed.lower_included else ">", "≤" if allowed.upper_included else "<"
    return f"{lower} {allowed.lower}{unit}", f"{upper} {allowed.upper}{unit}"


def timeline(treatment: TreatmentAssessment) -> Timeline | None:
    """Return the drawing of a course; None where no event has a day."""
    as_of = _day(treatment.as_of)
    dated = []
    for event in treatment.timeline:
        first, last = _day(event.extent.start), _day(event.extent.end)
        # Open ends reach as far as the course is known.
        first, last = first or last, last or as_of or first
        if first is not None and last is not None and first <= last:
            dated.append((event, first, last))
    if not dated:
        return None
    low = min(first for _, first, _ in dated)
    high = max([last for _, _, last in dated] + ([as_of] if as_of else []))
    margin = max((high - low).days // 30, 1)
    low, high = _moved(low, -margin), _moved(high, margin)
    length = max((high - low).days, 1)

    def place(day: date) -> Decimal:
        return Decimal((day - low).days) / length * 100

    lanes = tuple(dict.fromkeys(event.track for event, _, _ in dated))
    outcomes = {rule.id: rule.outcome for rule in treatment.rules}
    severity = list(TreatmentOutcome)
    shapes = []
    for event, first, last in dated:
        width = place(last) - place(first)
        label = event.text.partition(",")[0] if width >= max(14, 2 * len(event.text[:8])) else ""
        bar = Bar(_percent(place(first)), None if first == last else _percent(width))
        told = [outcomes[rule] for rule in event.rules if rule in outcomes]
        worst = min(told, key=severity.index, default=None)
        shapes.append(Shape(event, bar, lanes.index(event.track), label, worst))
    flags = {s.bar.x: s.told for s in reversed(shapes) if s.told is not None}
    ticks = tuple(_tick(place(day), day.isoformat()) for day in _calendar(low, high))
    return Timeline(
        lanes,
        tuple(shapes),
        ticks,
        tuple(sorted(flags.items(), key=lambda flag: severity.index(flag[1]), reverse=True)),
        None if as_of is None else _percent(place(as_of)),
    )


def _calendar(low: date, high: date) -> list[date]:
    """Return at most five days to label: Mondays, or first days of months or years."""
    if (high - low).days <= 7 * _FEW_TICKS:
        first = low + timedelta(days=-low.weekday() % 7)
        return [d for d in (_moved(first, 7 * n) for n in range(_FEW_TICKS)) if low <= d <= high]
    for months in (1, 2, 3, 6, 12, 24, 60, 120, 600, 6000):
        starts = _starts(low, high, months)
        if len(starts) <= _FEW_TICKS:
            return starts
    return []


def _starts(low: date, high: date, months: int) -> list[date]:
    """Return the first days of every so many months between two days."""
    found: list[date] = []
    number = -(-(low.year * 12 + low.month - 1) // months) * months
    while number // 12 <= min(high.year, date.max.year) and len(found) <= _FEW_TICKS:
        day = date(number // 12, number % 12 + 1, 1)
        if low <= day <= high:
            found.append(day)
        number += months
    return found


def _moved(day: date, days: int) -> date:
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return day


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _ends(numbers: Range) -> tuple[Decimal | None, Decimal | None]:
    return _decimal(numbers.lower), _decimal(numbers.upper)


def _decimal(text: str | None) -> Decimal | None:
    try:
        number = Decimal(text or "")
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < _LARGEST else None


def _percent(number: Decimal) -> str:
    return f"{number:.2f}%"


def _tick(place: Decimal, text: str) -> Tick:
    # At the margins a text is kept inside.
    side = "start" if place < 8 else "end" if place > 92 else "middle"
    return Tick(_percent(place), text, side)
