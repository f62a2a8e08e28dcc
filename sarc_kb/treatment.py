"""Judge the course of a treatment: the treatment rules, and the course as a timeline.

The rules are evaluated as criteria are; how the protocol binds by a rule, and how far the course
has got, turn pass, fail and undetermined into what is told of a treatment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sarc_kb.assess import criterion_result, decided, fold, unique
from sarc_kb.assessment import (
    ClauseResult,
    Conclusion,
    CriterionResult,
    Outcome,
    TimelineEvent,
    TreatmentAssessment,
    TreatmentOutcome,
    TreatmentResult,
)
from sarc_kb.dates import FOREVER, NEVER, PartialDate, iso
from sarc_kb.errors import Finding
from sarc_kb.explain import Explanation, explain
from sarc_kb.facts import PatientRecord
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.prepare import Item, Prepared
from sarc_kb.prepare.model import window_degree
from sarc_kb.rules import Criterion, Track, Trial
from sarc_kb.terminology import Terminology
from sarc_kb.wording import evidence_of, period

_PASS = TreatmentOutcome.CONFORMANT
_OPEN = TreatmentOutcome.UNDETERMINED
# What a rule that is not kept to comes to, by how the protocol binds; and whether an open one is
# told as open.
UNKEPT = {
    "Order": (TreatmentOutcome.VIOLATION, True),
    "Prohibition": (TreatmentOutcome.VIOLATION, True),
    "Intention": (TreatmentOutcome.DEVIATION, True),
    "Permission": (TreatmentOutcome.DEVIATION, True),
    "Discretion": (TreatmentOutcome.PERMITTED, False),
    "NotRuled": (TreatmentOutcome.NOT_RULED, False),
    "Agreement": (TreatmentOutcome.DEVIATION, False),
}
_VOID = {str(SARC[s]) for s in ("EnteredInError", "Cancelled", "NotDone", "Preliminary", "Planned")}
_PLAN = str(SARC.Plan)


def last_day(record: PatientRecord) -> PartialDate | None:
    """Return the last day that the record names, planned and void things aside: as far as the
    course can be known. None where there is no date at all."""
    days = [
        date
        for fact in record.facts
        if fact.status not in _VOID and fact.kind != _PLAN
        for date in (fact.start, fact.end, fact.recorded)
        if date is not None
    ]
    return max(days, key=lambda d: (d.last, d.text), default=record.entry)


def may_have_begun(record: PatientRecord, trial: Trial, terms: Terminology) -> bool:
    """Whether some fact may be one of the course; cheap, so that others need no second look."""
    if trial.treatment is None or trial.treatment.course is None:
        return False
    begun_by = trial.set_of(trial.treatment.course.begun_by)
    codes = {fact.concepts for fact in record.facts if fact.status not in _VOID}
    return any(
        coded.readable and begun_by.degree(coded, terms)
        for coded in (terms.code(concepts) for concepts in codes)
    )


def has_begun(prepared: Prepared) -> bool:
    """Whether treatment has begun, certainly or possibly, by what is on record."""
    course = prepared.trial.course
    assert course is not None
    return any(
        window_degree(item.span, prepared.windows[course.window], True)
        for item in prepared.members(course.begun_by)
        if not item.parents
    )


def assess_treatment(
    prepared: Prepared,
    refuted: Mapping[tuple[str, str], int],
    unproven: Mapping[tuple[str, str], int],
    at_entry: Prepared,
) -> TreatmentAssessment:
    """Return how the course stands to the treatment rules.

    Args:
        prepared: the patient prepared for the trial's treatment part, as of the day to judge by.
        refuted, unproven: (source shape, component) violated under each reading.
        at_entry: the patient prepared for the part on eligibility, as of entry, for the rules that
            judge a clause again.
    Raises:
        EngineError: the processor's outcome differs from what the deciding facts show.
    """
    trial = prepared.trial
    outcomes, grounds = decided(prepared, refuted, unproven)
    eligibility = outcomes_at_entry(at_entry, trial.criteria)
    results = tuple(
        _result(prepared, rule, outcomes, grounds, eligibility) for rule in trial.criteria
    )
    anchors = tuple(
        (
            local_name(iri),
            iso(day.span.start_lo)
            if day.span.start_lo == day.span.start_hi
            else f"{iso(day.span.start_lo)} to {iso(day.span.start_hi)}",
            day.how,
        )
        for iri, day in sorted(prepared.anchors.items())
    )
    return TreatmentAssessment(
        as_of=iso(prepared.as_of),
        conclusion=concluded(r.outcome for r in results),
        rules=results,
        timeline=_timeline(prepared, results),
        anchors=anchors,
        facts_after_as_of=prepared.later,
        data_findings=tuple(unique(prepared.findings)),
    )


def outcomes_at_entry(at_entry: Prepared, rules: Iterable[Criterion]) -> dict[str, Outcome]:
    """Return the outcome at entry of each clause on eligibility that a rule judges again."""
    found = {}
    for iri in {rule.compares for rule in rules if rule.compares is not None}:
        ground = explain(at_entry, at_entry.trial.clauses[iri])
        found[iri] = (
            Outcome.FAIL
            if ground.refuted
            else Outcome.UNDETERMINED
            if ground.unproven
            else Outcome.PASS
        )
    return found


def concluded(outcomes: Iterable[TreatmentOutcome]) -> Conclusion:
    """Return what the outcomes of all treatment rules come to together."""
    found = set(outcomes)
    for outcome, conclusion in (
        (TreatmentOutcome.VIOLATION, Conclusion.VIOLATION),
        (_OPEN, Conclusion.UNDETERMINED),
        (TreatmentOutcome.DEVIATION, Conclusion.DEVIATION),
        (TreatmentOutcome.NOT_YET_APPLICABLE, Conclusion.IN_PROGRESS),
    ):
        if outcome in found:
            return conclusion
    return Conclusion.CONFORMANT


def rule_outcome(
    prepared: Prepared,
    rule: Criterion,
    outcomes: Mapping[str, Outcome],
    grounds: Mapping[str, Explanation],
    eligibility: Mapping[str, Outcome],
) -> TreatmentOutcome:
    """Return what is told of one treatment rule."""
    kleene = fold(prepared.trial, rule.root, outcomes)
    if rule.compares is not None:
        turned = {eligibility.get(rule.compares), kleene} == {Outcome.PASS, Outcome.FAIL}
        return TreatmentOutcome.DEVIATION if turned else _PASS
    unkept, tells_open = UNKEPT[rule.modality]
    if kleene is Outcome.PASS:
        used = rule.modality == "Permission" and any(grounds[c].evidence for c in rule.clauses)
        return TreatmentOutcome.PERMITTED if used else _PASS
    if not tells_open:
        return unkept if kleene is Outcome.FAIL else _PASS
    if not is_due(prepared, rule) and (
        kleene is Outcome.UNDETERMINED or _by_silence(rule, outcomes, grounds)
    ):
        return TreatmentOutcome.NOT_YET_APPLICABLE
    return unkept if kleene is Outcome.FAIL else _OPEN


def is_due(prepared: Prepared, rule: Criterion) -> bool:
    return not rule.due or any(prepared.as_of > prepared.windows[w].end_hi for w in rule.due)


def _by_silence(
    rule: Criterion, outcomes: Mapping[str, Outcome], grounds: Mapping[str, Explanation]
) -> bool:
    """Whether nothing but the silence of a complete record speaks against the rule."""
    failed = [grounds[c] for c in rule.clauses if outcomes[c] is Outcome.FAIL]
    return not any(item.sources for ground in failed for item in ground.evidence)


def _result(
    prepared: Prepared,
    rule: Criterion,
    outcomes: Mapping[str, Outcome],
    grounds: Mapping[str, Explanation],
    eligibility: Mapping[str, Outcome],
) -> TreatmentResult:
    outcome = rule_outcome(prepared, rule, outcomes, grounds, eligibility)
    whole = criterion_result(prepared, rule, outcomes, grounds, False)
    return TreatmentResult(
        id=rule.id,
        iri=rule.iri,
        modality=_words(rule.modality),
        label=rule.text.label,
        outcome=outcome,
        message=_message(prepared, rule, outcome, whole, eligibility),
        source_text=rule.text.quote,
        locator=rule.text.locator,
        remedy=rule.text.remedy,
        clauses=tuple(_named(c, rule) for c in whole.clauses),
        decided_by=whole.decided_by if outcome is not TreatmentOutcome.NOT_YET_APPLICABLE else (),
        logic=whole.logic,
    )


def _named(clause: ClauseResult, rule: Criterion) -> ClauseResult:
    """Return the clause with what the rule says of it, where the rule is that one clause."""
    return clause if clause.iri != rule.iri else replace(clause, remedy=rule.text.remedy)


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _message(
    prepared: Prepared,
    rule: Criterion,
    outcome: TreatmentOutcome,
    whole: CriterionResult,
    eligibility: Mapping[str, Outcome],
) -> str:
    if rule.compares is not None:
        if outcome is _PASS:
            return f"{rule.text.label}: comes out as it did at entry, or is open"
        before = eligibility[rule.compares].word
        return f"{rule.text.message}: {before} at entry, {whole.outcome.word} now"
    if outcome is TreatmentOutcome.NOT_YET_APPLICABLE:
        ends = [prepared.windows[w].end_hi for w in rule.due]
        known = sorted(d for d in ends if NEVER < d < FOREVER)
        after = f" (asked for after {iso(known[0])})" if known else ""
        return f"{rule.text.label}: not yet applicable{after}"
    if outcome is _PASS and whole.outcome is not Outcome.PASS:
        return f"{rule.text.label}: nothing of the kind on record"
    return whole.message


# -- the course as a timeline ----------------------------------------------------------------------
def _timeline(prepared: Prepared, results: Iterable[TreatmentResult]) -> tuple[TimelineEvent, ...]:
    course = prepared.trial.course
    assert course is not None
    told: dict[str, dict[str, None]] = {}
    for result in results:
        if result.outcome in (_PASS, _OPEN, TreatmentOutcome.NOT_YET_APPLICABLE):
            continue
        for clause in result.clauses:
            if clause.id in result.decided_by:
                for source in {s for e in clause.evidence for s in e.source.split(", ")}:
                    told.setdefault(source, {})[result.id] = None
    day_one = prepared.anchors.get(course.day_one)
    first = None
    if day_one is not None and day_one.degree == 2:
        span = day_one.span
        first = span.start_lo if span.start_lo == span.start_hi else None
    rows: list[tuple[tuple[int, int, int, str], TimelineEvent]] = []
    for order, track in enumerate(course.tracks):
        rows += _track(prepared, track, order, told, first)
    return tuple(event for _, event in sorted(rows, key=lambda row: row[0]))


def _track(
    prepared: Prepared,
    track: Track,
    order: int,
    told: Mapping[str, Iterable[str]],
    first: int | None,
) -> list[tuple[tuple[int, int, int, str], TimelineEvent]]:
    """Return the lines of one track, each with what it is sorted by."""
    course = prepared.trial.course
    assert course is not None
    window = prepared.windows[course.window]
    items = [
        i
        for i in prepared.members(track.shows)
        if i.derived_by is None and window_degree(i.span, window, True)
    ]
    items.sort(key=lambda i: (i.span.minute_lo, i.span.minute_hi, i.id))
    groups: list[list[Item]] = []
    texts: list[tuple[str, tuple[str, ...]]] = []
    for item in items:
        rules = tuple(sorted({r for s in item.sources for r in told.get(s, ())}))
        shown = (_text(prepared, item, track.label), rules)
        if groups and texts[-1] == shown and _point(item) and _point(groups[-1][-1]):
            groups[-1].append(item)
        else:
            groups.append([item])
            texts.append(shown)
    rows = []
    for group, (text, rules) in zip(groups, texts, strict=True):
        start, end = group[0].span, group[-1].span
        event = TimelineEvent(
            track=track.label,
            start=_day(start.start_lo, start.start_hi),
            end="open" if end.end_hi >= FOREVER else _day(end.end_lo, end.end_hi),
            day=_course_day(start.start_lo, start.start_hi, first),
            text=text,
            count=len(group),
            sources=tuple(dict.fromkeys(s for i in group for s in i.sources)),
            rules=rules,
            extent=period(start.start_lo, end.end_hi),
            exact=start.start_lo == start.start_hi and end.end_lo == end.end_hi,
        )
        rows.append(((start.start_lo, order, start.start_hi, group[0].id), event))
    return rows


def _point(item: Item) -> bool:
    span = item.span
    return span.start_lo == span.start_hi == span.end_lo == span.end_hi


def _course_day(lo: int, hi: int, first: int | None) -> int | None:
    return lo - first + 1 if first is not None and lo == hi and lo >= first else None


def _day(lo: int, hi: int) -> str:
    if lo <= NEVER and hi >= FOREVER:
        return "undated"
    return iso(lo) if lo == hi else f"{iso(lo)} to {iso(hi)}"


def _text(prepared: Prepared, item: Item, track: str) -> str:
    """Return what a fact says, in one line: what (unless the track says it), how much, and its
    attributes."""
    shown = evidence_of(prepared, item)
    value = " ".join(x for x in (shown.value, shown.unit) if x and x != "1")
    said = shown.label == track or value.startswith(shown.label)
    parts = [value if said and value else f"{shown.label} {value}".strip()]
    for axis in sorted(item.axes):
        known = sorted(item.axes[axis].certain)
        if known and axis not in _UNTOLD:
            parts.append(", ".join(prepared.trial.label(k, prepared.terms) for k in known))
    if not item.sure:
        parts.append("not certain")
    return ", ".join(parts)


_UNTOLD = {str(SARC[a]) for a in ("subject", "doseLevel", "method", "specimen")}


def findings_beyond(
    treatment: TreatmentAssessment, known: Iterable[Finding]
) -> TreatmentAssessment:
    """Return the assessment without the findings that the part on eligibility tells already."""
    seen = set(known)
    return replace(
        treatment, data_findings=tuple(f for f in treatment.data_findings if f not in seen)
    )
