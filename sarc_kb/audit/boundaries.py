"""Boundary cases made from the parameters of the clauses, beside those written by hand.

For each clause: at each limit and one reportable step to either side, the first and last day of its
window and the days next to them, nothing recorded, another unit, a void record. What a made case
must come out as is read off the parameters here, by arithmetic that shares nothing with the program
that judges patients; where that says otherwise, one of the two is wrong. The cases written by hand
stay the authority; a kind of case that a clause could have and has not is a finding.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from sarc_kb.assessment import Outcome
from sarc_kb.audit.mutant import step_of
from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import cases_of, compiled
from sarc_kb.cases import Case
from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.errors import Finding
from sarc_kb.explain import explain
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.rules import ANY, EVER, Bounds, Clause, ConceptSet, Role, Trial, Window
from sarc_kb.terminology import Quantity, Terminology

_ENTRY_DAY = datetime.date(2024, 3, 15)
_ENTRY = str(SARC.StudyEntry)
_VOID = str(SARC.EnteredInError)
_DAY = datetime.timedelta(days=1)
KINDS = (
    "AtLimit",
    "OneStepInside",
    "OneStepOutside",
    "OtherUnit",
    "WindowEdgeInside",
    "WindowEdgeOutside",
    "NotRecorded",
    "VoidRecord",
)
"""What made cases test, in the order in which it is told; the words of `sarc:tests`."""


_DERIVED = "what it reads is derived, not recorded"


@dataclass(frozen=True, slots=True)
class Made:
    """A case made from the parameters of a clause. ``fact``: the one fact of the record, if any."""

    clause: str
    tests: str
    words: str
    fact: Fact | None
    expected: Outcome


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return what the made cases come to, and which kinds the cases written by hand lack."""
    trial = compiled(kb, request.trial)
    cases = cases_of(kb, request.trial)
    findings: list[Finding] = []
    number = agreed = 0
    apart: dict[str, str] = {}
    for part in trial.parts:
        for clause in part.clauses.values():
            made, reason = made_of(clause, part, kb.terms)
            if reason:
                apart[clause.id] = reason
            for one in made:
                number += 1
                said = judged(kb, part, clause, one)
                if said is one.expected:
                    agreed += 1
                else:
                    findings.append(_disagreement(clause, one, said))
    missing = list(gaps(trial, cases, kb.terms))
    findings += [_gap(clause, kind) for clause, kind in missing]
    clauses = sum(len(part.clauses) for part in trial.parts)
    summary = (
        f"{agreed} of {number} made cases come out as their parameters say; "
        f"{len(missing)} gaps in the {len(cases)} cases written by hand; "
        f"{len(apart)} of {clauses} clauses have cases by hand alone, in part or in all"
    )
    lines = [f"{clause}: {reason}" for clause, reason in apart.items()]
    return Section(
        "boundaries",
        summary,
        tuple(lines),
        {
            "made": number,
            "agreed": agreed,
            "by_hand": len(cases),
            "gaps": [{"clause": clause.id, "kind": kind} for clause, kind in missing],
            "by_hand_alone": [{"clause": c, "reason": r} for c, r in apart.items()],
        },
        tuple(findings),
    )


def judged(kb: KnowledgeBase, part: Trial, clause: Clause, made: Made) -> Outcome:
    """Return what the program says of a made case."""
    facts = (made.fact,) if made.fact is not None else ()
    entry = parse_date(_ENTRY_DAY.isoformat())
    record = PatientRecord(patient="made", label="made", entry=entry, facts=facts)
    # Late enough that everything is seen, also what lies outside the window on the far side.
    as_of = parse_date((_ENTRY_DAY + 1000 * _DAY).isoformat())
    ground = explain(kb.prepare(record, part, as_of=as_of), clause)
    if ground.refuted:
        return Outcome.FAIL
    return Outcome.UNDETERMINED if ground.unproven else Outcome.PASS


# -- cases from parameters -------------------------------------------------------------------------
def made_of(clause: Clause, part: Trial, terms: Terminology) -> tuple[list[Made], str]:
    """Return the cases that the parameters of ``clause`` give, and why there are no more (empty:
    all there can be are made)."""
    role = clause.role
    if role is None:
        return [], "it reads answers of people"
    if clause.second is not None:
        return [], "it is about pairs"
    nothing = Made(clause.id, "NotRecorded", "nothing recorded", None, Outcome.UNDETERMINED)
    pattern, reason = _pattern(role, part, terms)
    if pattern is None:
        return ([nothing] if reason != _DERIVED else []), reason
    days, reason = _days(role, part)
    if days is None:
        return [nothing], reason
    return [nothing, *_with_values(clause, role, part, terms, pattern, days)], ""


def _with_values(
    clause: Clause, role: Role, part: Trial, terms: Terminology, pattern: Fact, days: _Days
) -> Iterator[Made]:
    quantity = terms.quantity_of(pattern.concepts[0])
    unit = quantity.unit if quantity is not None else None

    def fact(value: Decimal | None, day: datetime.date, unit: str | None = unit) -> Fact:
        date = parse_date(day.isoformat())
        return _changed(pattern, value, unit if value is not None else None, date)

    def made(tests: str, words: str, made_fact: Fact, inside: bool | None) -> Made:
        return Made(clause.id, tests, words, made_fact, _expected(clause, inside))

    inside_value: Decimal | None = None
    if role.bounds.used:
        assert quantity is not None
        for value, name in _about(role, part, terms):
            if not _plausible(value, quantity):
                continue
            inside = _inside(value, role.bounds)
            if inside:
                inside_value = value
            elif clause.component != "latest" and _speaks(clause, part):
                continue
            at = name == "at"
            tests = "AtLimit" if at else "OneStepInside" if inside else "OneStepOutside"
            yield made(tests, f"{value:f} {unit}", fact(value, days.usual), inside)
            if not at:
                continue
            for other, (factor, divisor) in sorted(quantity.accepts.items()):
                there = value * divisor / factor
                if factor == divisor or there * factor / divisor != value:
                    continue
                if len(there.as_tuple().digits) > 12:
                    continue
                yield made(
                    "OtherUnit", f"{there:f} {other}", fact(there, days.usual, other), inside
                )
        if inside_value is None:
            return
    for day, within in days.edges:
        tests = "WindowEdgeInside" if within else "WindowEdgeOutside"
        yield made(tests, day.isoformat(), fact(inside_value, day), True if within else None)
    void = _changed(fact(inside_value, days.usual), status=_VOID)
    yield made("VoidRecord", "entered in error", void, None)


def _changed(
    pattern: Fact,
    value: Decimal | None = None,
    unit: str | None = None,
    date: PartialDate | None = None,
    status: str | None = None,
) -> Fact:
    """Return a copy of a fact with the number, the date or the status set."""
    if status is not None:
        return replace(pattern, status=status)
    return replace(pattern, value=value, unit=unit, start=date, end=date)


def _expected(clause: Clause, inside: bool | None) -> Outcome:
    """Return what a record of one fact must come out as. ``inside``: whether it lies inside the
    limits; None where it does not count at all, which is as if nothing were recorded: without a
    word that the record is complete, silence decides nothing."""
    if inside is None:
        return Outcome.UNDETERMINED
    if clause.component == "latest":
        return Outcome.PASS if inside else Outcome.FAIL
    if not inside:
        return Outcome.UNDETERMINED
    return Outcome.PASS if clause.component == "some" else Outcome.FAIL


def _speaks(clause: Clause, part: Trial) -> bool:
    """Whether facts may say that there are no more of what ``clause`` reads: then a fact that is
    none of them is more than silence."""
    wanted = {clause.settled_by, clause.role.concept_set if clause.role else None}
    return any(wanted & set(d.settles) for d in part.derivations if d.kind == "Settling")


def _about(role: Role, part: Trial, terms: Terminology) -> Iterator[tuple[Decimal, str]]:
    """Yield each limit, and the values one step to either side."""
    b = role.bounds
    seen: set[Decimal] = set()
    for bound in (b.at_least, b.more_than, b.at_most, b.less_than):
        if bound is None or bound in seen:
            continue
        seen.add(bound)
        step = step_of(role, bound, part, terms)
        yield bound, "at"
        for value in (bound - step, bound + step):
            if value not in seen:
                yield value, "beside"


def _inside(value: Decimal, b: Bounds) -> bool:
    if b.at_least is not None and value < b.at_least:
        return False
    if b.more_than is not None and value <= b.more_than:
        return False
    if b.at_most is not None and value > b.at_most:
        return False
    return b.less_than is None or value < b.less_than


def _plausible(value: Decimal, quantity: Quantity) -> bool:
    least, most = quantity.least, quantity.most
    return (least is None or value >= least) and (most is None or value <= most)


# -- facts and days from parameters ----------------------------------------------------------------
def _pattern(role: Role, part: Trial, terms: Terminology) -> tuple[Fact | None, str]:
    """Return a fact that the set, the qualifier and the accepted values of ``role`` take for
    certain, without number and date; or None and why there is none."""
    concepts = part.set_of(role.concept_set)
    term = _member(concepts, terms)
    if term is None or not terms.known(term):
        return None, _DERIVED
    if role.bounds.used and terms.quantity_of(term) is None:
        return None, _DERIVED
    axes: list[tuple[str, str]] = []
    if role.qualifier != ANY:
        for required in part.qualifiers[role.qualifier].requires:
            if required.among is None:
                return None, "what must not hold of a fact has no one opposite"
            value = _member(part.set_of(required.among), terms)
            if value is None:
                return None, "an attribute that it asks for has no certain value"
            axes.append((required.axis, value))
    values: tuple[str, ...] = ()
    if role.accepted != ANY:
        accepted = _member(part.set_of(role.accepted), terms)
        if accepted is None:
            return None, "a result that it accepts has no certain value"
        values = (accepted,)
    kind = concepts.kind or terms.kind_of(term)
    return Fact(id="made", kind=kind, concepts=(term,), value_concepts=values, axes=tuple(axes)), ""


def _member(concepts: ConceptSet, terms: Terminology) -> str | None:
    """Return a term that is certainly in a set: nothing below it is left out."""
    for member in sorted(concepts.members):
        for term in (member, *sorted(terms.down(member))):
            if not any(terms.up(below) & concepts.excluding for below in terms.down(term)):
                return term
    return None


@dataclass(frozen=True, slots=True)
class _Days:
    """A day that counts, and the days at the edges of a window, each with whether it counts."""

    usual: datetime.date
    edges: tuple[tuple[datetime.date, bool], ...] = ()


def _days(role: Role, part: Trial) -> tuple[_Days | None, str]:
    """Return the days that the window of ``role`` gives, or None and why it gives none."""
    if role.window == EVER:
        return _Days(_ENTRY_DAY - 3 * _DAY), ""
    window = part.windows[role.window]
    if window.anchor != _ENTRY or window.end_anchor is not None:
        return None, "its window counts from a day that other facts give"
    if window.ends_before is not None or window.starts_after is not None:
        return None, "its window counts from another window"
    if window.calendar is not None:
        return None, "its window is a calendar"
    first, last = _first(window), _last(window)
    edges: list[tuple[datetime.date, bool]] = []
    if first is not None:
        edges += [(first, True), (first - _DAY, False)]
    if last is not None:
        edges += [(last, True), (last + _DAY, False)]
    usual = last if last is not None else first
    return _Days(usual if usual is not None else _ENTRY_DAY, tuple(edges)), ""


def _first(window: Window) -> datetime.date | None:
    if window.days is None and window.months is None:
        return None
    return _months_back(_ENTRY_DAY, window.months or 0) - (window.days or 0) * _DAY


def _last(window: Window) -> datetime.date | None:
    if window.open_end:
        return None
    return _months_back(_ENTRY_DAY, window.ends_months_before) - window.ends_days_before * _DAY


def _months_back(day: datetime.date, months: int) -> datetime.date:
    """Return the same day of an earlier month, or that month's last day where it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return datetime.date(year, month + 1, min(day.day, last))


# -- what the cases written by hand lack -----------------------------------------------------------
def gaps(trial: Trial, cases: Iterable[Case], terms: Terminology) -> Iterator[tuple[Clause, str]]:
    """Yield each clause with each kind of case that its parameters allow and that it has not."""
    tested: dict[str, set[str]] = {}
    for case in cases:
        tested.setdefault(case.rule, set()).update(case.tests)
    for part in trial.parts:
        for clause in part.clauses.values():
            for kind in wanted(clause, part, terms):
                if kind not in tested.get(clause.iri, ()):
                    yield clause, kind


def wanted(clause: Clause, part: Trial, terms: Terminology) -> list[str]:
    """Return the kinds of cases that a clause should have, by its parameters."""
    found = {"NotRecorded"}
    for role in (clause.role, clause.second):
        if role is None:
            continue
        found.add("VoidRecord")
        if role.bounds.used:
            found |= {"AtLimit", "OneStepOutside"}
            # Between two limits that are one there is nothing.
            beside = [v for v, name in _about(role, part, terms) if name == "beside"]
            if any(_inside(value, role.bounds) for value in beside):
                found.add("OneStepInside")
            quantities = map(terms.quantity_of, part.set_of(role.concept_set).members)
            if any(_other_units(quantity) for quantity in quantities if quantity is not None):
                found.add("OtherUnit")
        if role.window != EVER:
            found |= {"WindowEdgeInside", "WindowEdgeOutside"}
    return [kind for kind in KINDS if kind in found]


def _other_units(quantity: Quantity) -> bool:
    return any(factor != divisor for factor, divisor in quantity.accepts.values())


# -- findings --------------------------------------------------------------------------------------
def _disagreement(clause: Clause, made: Made, said: Outcome) -> Finding:
    return Finding(
        "BND001",
        "error",
        clause.id,
        f"{made.tests}, {made.words}: {said.word}, but by the parameters {made.expected.word}",
        "two readings of one clause differ, so that one of them is wrong",
        "compare the clause with the protocol's words; then mend it, or the program",
    )


def _gap(clause: Clause, kind: str) -> Finding:
    return Finding(
        "BND002",
        "error",
        clause.id,
        f"no case written by hand tests {kind}",
        "the parameters of the clause allow one, and nobody has said what the protocol demands",
        "write it beside the rule, from the protocol's words",
    )
