"""Facts that count, with their codes, values and times read."""

from __future__ import annotations

from dataclasses import replace

from sarc_kb.dates import DAY, FOREVER, NEVER, PartialDate
from sarc_kb.facts import Fact
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.prepare.model import (
    UNKNOWN,
    Item,
    Span,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.terminology import Coded
from sarc_kb.units import ANYTHING, Interval, read_number

SUSPECTED = str(SARC.Suspected)
REFUTED = str(SARC.Refuted)
ATTESTATION = str(SARC.Attestation)
STATEMENT = str(SARC.CompletenessStatement)
_CERTAIN = {None, str(SARC.Confirmed)}
_VOID = {str(SARC[s]) for s in ("EnteredInError", "Cancelled", "NotDone", "Preliminary", "Planned")}
_PLAN = str(SARC.Plan)
_MEASUREMENT = str(SARC.Measurement)
_PARTICIPATION, _STUDY = str(SARC.StudyParticipation), str(SARC.study)


def read_facts(p: Preparation) -> None:
    for fact in p.record.facts:
        if fact.status in _VOID:
            p.void += 1
            p.find(
                "DATA010",
                "info",
                fact,
                f"status {local_name(fact.status or '')}",
                "such a record does not count",
                "nothing, if the status is right",
            )
            continue
        if fact.status not in _CERTAIN and fact.status not in (SUSPECTED, REFUTED):
            p.find(
                "DATA011",
                "warning",
                fact,
                "an unknown status",
                "a fact whose status cannot be read counts only as possible",
                "use a status of the vocabulary",
            )
            fact = replace(fact, status=SUSPECTED)
        item = item_of(p, fact)
        if item.kind == STATEMENT:
            p.spoken.append(item)
            continue
        if item.kind != _PLAN and item.span.start_lo > p.seen:
            p.later += 1
            continue
        if item.kind == ATTESTATION:
            p.answers.append(item)
            continue
        if not item.terms.readable:
            p.find(
                "DATA012",
                "warning",
                fact,
                "no mapping for "
                + (
                    ", ".join(p.terms.code_text(c) for c in item.terms.unread)
                    or "a fact without a concept"
                ),
                "no rule can read it, and a completeness statement of its kind does not hold over it",
                "map the code to a term, or to the 'other' term of its kind",
            )
        if fact.status == REFUTED:
            p.refuted.append(item)
        else:
            p.items.append(item)


def take_attested(p: Preparation) -> None:
    """Add the answers that the caller gives for the whole study."""
    for rule, answer in p.attested.items():
        fact = Fact(
            id=f"option:attest:{local_name(rule)}",
            kind=ATTESTATION,
            concepts=(rule,),
            value_concepts=(answer,),
            start=p.entry,
            end=p.entry,
            source="given when the program was run",
        )
        p.answers.append(item_of(p, fact))


def enrol(p: Preparation) -> None:
    """Move the enrolment in the trial itself: what began on the day since when nothing has
    happened is the entry that is being judged, and entry has moved."""
    if p.since is None or p.since == p.entry.last:
        return
    for number, item in enumerate(p.items):
        if is_enrolment(p, item):
            day, span = p.entry.last, item.span
            low, high = minutes(p, p.entry, day, day)
            end_lo, end_hi = max(span.end_lo, day), max(span.end_hi, day)
            p.items[number] = replace(item, span=Span(day, day, end_lo, end_hi, low, high))


def is_enrolment(p: Preparation, item: Item) -> bool:
    """Whether ``item`` is the participation in the trial itself that began at entry."""
    study = item.axes.get(_STUDY)
    return (
        item.kind == _PARTICIPATION
        and study is not None
        and study.certain == {p.trial.iri}
        and item.span.start_lo == item.span.start_hi == p.since
    )


def item_of(p: Preparation, fact: Fact) -> Item:
    terms = p.terms.code(fact.concepts, open_values=fact.kind in (ATTESTATION,))
    natural_kinds = {k for t in (terms.certain or terms.general) if (k := p.terms.kind_of(t))}
    kind = fact.kind or (sorted(natural_kinds)[0] if natural_kinds else None)
    values = p.terms.code(fact.value_concepts)
    if fact.value_concepts and not values.readable:
        p.find(
            "DATA013",
            "warning",
            fact,
            "no mapping for the coded result " + ", ".join(map(p.terms.code_text, values.unread)),
            "the result could be anything",
            "map the code to a value of the vocabulary",
        )
    interval, unit, problem = number_of(p, fact, terms)
    axes: dict[str, Coded] = {}
    along = p.terms.related(fact.concepts)
    for axis in sorted({a for a, _ in fact.axes} | set(along)):
        recorded = tuple(v for a, v in fact.axes if a == axis)
        coded = p.terms.code(
            (*recorded, *along.get(axis, ())), open_values=axis in p.terms.open_axes
        )
        if not coded.readable:
            p.find(
                "DATA014",
                "info",
                fact,
                f"{local_name(axis)} is not mapped: "
                + ", ".join(map(p.terms.code_text, coded.unread)),
                "it is read as not known",
                "map the code",
            )
        axes[axis] = coded
    for a, b in p.terms.contradictions(values.certain):
        p.find(
            "DATA015",
            "warning",
            fact,
            f"{p.terms.label(a)} and {p.terms.label(b)} in one result",
            "the two exclude each other, so the result decides nothing",
            "correct the record",
        )
    return Item(
        id=fact.id,
        kind=kind,
        natural=not natural_kinds or kind in natural_kinds,
        terms=terms,
        values=values,
        has_value=bool(fact.value_concepts),
        interval=interval,
        unit=unit,
        span=span_of(p, fact),
        sure=fact.status in _CERTAIN or fact.status == REFUTED,
        axes=axes,
        tumour=fact.tumour,
        origin=fact,
        problem=problem,
    )


def number_of(p: Preparation, fact: Fact, terms: Coded) -> tuple[Interval, str, str]:
    numeric = fact.value is not None or fact.value_text is not None
    quantities = {
        id(q): q for t in sorted(terms.certain or terms.general) if (q := p.terms.quantity_of(t))
    }
    if not numeric or not quantities:
        # Only a measurement is nothing without its value; a use of a medicine may lack the dose.
        missing = quantities and not fact.value_concepts and _measured(p, terms)
        return ANYTHING, "", "no value" if missing else ""
    readings = [
        read_number(fact.value, fact.comparator, fact.unit, q, p.terms) for q in quantities.values()
    ]
    reading = readings[0]
    if any(r.interval != reading.interval for r in readings[1:]):
        return ANYTHING, "", "several quantities"
    if reading.problem:
        p.find(
            "DATA016",
            "warning",
            fact,
            reading.problem,
            reading.why,
            "correct the value or its unit at source; until then the result decides nothing",
        )
    return reading.interval, reading.unit, reading.problem


def _measured(p: Preparation, terms: Coded) -> bool:
    return any(p.terms.kind_of(t) == _MEASUREMENT for t in (terms.certain or terms.general))


def span_of(p: Preparation, fact: Fact) -> Span:
    start, end = fact.start, fact.end
    undated = start is None and end is None and fact.recorded is None and fact.ongoing is None
    if undated and fact.kind != STATEMENT:
        return UNKNOWN
    lo = start.first if start is not None else NEVER
    hi = start.last if start is not None else FOREVER
    if start is None and fact.recorded is not None:
        hi = fact.recorded.last
    if end is not None:
        end_lo, end_hi = end.first, end.last
        if start is None:
            hi = min(hi, end.last)
    elif fact.ongoing:
        end_lo = end_hi = FOREVER
    else:
        end_lo, end_hi = lo, FOREVER
    if end_hi < lo:
        p.find(
            "DATA017",
            "warning",
            fact,
            "the end is before the start",
            "its time is read as not known",
            "correct the dates",
        )
        return UNKNOWN
    minute_lo, minute_hi = minutes(p, start, lo, hi)
    return Span(lo, hi, max(end_lo, lo), max(end_hi, hi), minute_lo, minute_hi)


def minutes(p: Preparation, start: PartialDate | None, lo: int, hi: int) -> tuple[int, int]:
    """Return the earliest and latest minute, in UTC, of a start."""
    if start is not None and start.minute is not None:
        first = last = start.first * DAY + start.minute
    else:
        first, last = lo * DAY, hi * DAY + DAY - 1
    low, high = p.offsets if start is None or start.offset is None else (start.offset, start.offset)
    return first - high, last - low
