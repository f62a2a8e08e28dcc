"""What every report for people says in the same words, and picks out in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from sarc_kb.assessment import (
    Assessment,
    ClauseResult,
    CriterionResult,
    Evidence,
    Outcome,
    TimelineEvent,
    TreatmentOutcome,
    TreatmentResult,
    Verdict,
)

ATTENTION = (
    TreatmentOutcome.VIOLATION,
    TreatmentOutcome.UNDETERMINED,
    TreatmentOutcome.DEVIATION,
)
"""Outcomes of treatment rules that somebody has to look at."""

INFORMATION = (TreatmentOutcome.PERMITTED, TreatmentOutcome.NOT_RULED)
"""Outcomes of treatment rules that explain what is seen."""


def verdict_sentence(a: Assessment) -> str:
    """Return what the verdict says, as a sentence."""
    counts = {o: sum(c.outcome is o for c in a.criteria) for o in Outcome}
    fails, opens, number = counts[Outcome.FAIL], counts[Outcome.UNDETERMINED], len(a.criteria)
    if a.verdict is Verdict.ERROR:
        return "This record could not be judged."
    if a.verdict is Verdict.NOT_ASKED:
        return "Eligibility was not asked for."
    if a.verdict is Verdict.ELIGIBLE:
        return f"All {number} criteria pass."
    if a.verdict is Verdict.UNDETERMINED:
        return f"No criterion fails; {opens} of {number} cannot be decided by this record."
    which = ", ".join(f"{c.id} {c.label}" for c in a.criteria if c.outcome is Outcome.FAIL)
    more = f" {opens} more cannot be decided by this record." if opens else ""
    return f"{fails} of {number} criteria {'fails' if fails == 1 else 'fail'}: {which}.{more}"


def explained(criterion: CriterionResult) -> list[CriterionResult | ClauseResult]:
    """Return what to explain of a criterion: nothing of one that passes, else the clauses that
    decide, and itself where an answer denies it or no clause decides."""
    if criterion.outcome is Outcome.PASS:
        return []
    clauses = [
        c
        for c in criterion.clauses
        if c.outcome is not Outcome.PASS and c.id in criterion.decided_by
    ]
    whole = [criterion] if criterion.denied_by or not clauses else []
    return [*whole, *clauses]


def message_of(part: CriterionResult | ClauseResult | TreatmentResult) -> str:
    """Return the message without what stands beside it anyway: the subject, and what is missing."""
    told = part.message.removeprefix(f"{part.label}: ")
    if isinstance(part, ClauseResult) and part.missing:
        told = told.removesuffix(f" ({part.missing[0]})")
    return told


def evidence_in(part: CriterionResult | ClauseResult | TreatmentResult) -> tuple[Evidence, ...]:
    """Return the facts, or the answers, that a part rests on itself."""
    if isinstance(part, ClauseResult):
        return part.evidence
    return part.denied_by if isinstance(part, CriterionResult) else ()


def grounds_of_passes(
    criteria: Iterable[CriterionResult | TreatmentResult],
) -> dict[str, tuple[str, ...]]:
    """Return what passes rest on beside recorded facts, with the ids of their clauses."""
    grounds: dict[str, dict[str, None]] = {}
    for criterion in criteria:
        for clause in criterion.clauses:
            if clause.outcome is Outcome.PASS:
                for ground in clause.rests_on:
                    grounds.setdefault(ground, {})[clause.id] = None
    return {ground: tuple(ids) for ground, ids in grounds.items()}


def open_needs(rules: Iterable[TreatmentResult]) -> dict[str, tuple[str, ...]]:
    """Return the data that would settle the open treatment rules, the most useful for each of their
    clauses, with the ids of the rules."""
    needs: dict[str, dict[str, None]] = {}
    for rule in rules:
        if rule.outcome is TreatmentOutcome.UNDETERMINED:
            for clause in rule.clauses:
                if clause.id in rule.decided_by and clause.missing:
                    needs.setdefault(clause.missing[0], {})[rule.id] = None
    return {text: tuple(ids) for text, ids in needs.items()}


def where_text(e: Evidence, entry: str | None) -> str:
    """Return where the record keeps a fact, and when it was."""
    when = f"{e.date}{distance(e.date, entry)}" if e.date else "undated"
    derived = f"derived from {', '.join(e.derived_from)}" if e.derived_from else e.source
    return ", ".join(x for x in (derived, when) if x)


def value_text(e: Evidence) -> str:
    """Return a fact's value as recorded, and in the terms of the rule where these differ."""
    unit = e.unit if e.unit != "1" else None  # UCUM's name for no unit
    value = " ".join(x for x in (e.value, unit) if x)
    if e.rule_value:
        value = f"{value} = {e.rule_value}" if value else e.rule_value
    return value


def found_text(e: Evidence) -> str:
    """Return what a fact says."""
    value = value_text(e)
    note = f" ({e.note})" if e.note else ""
    return f"{e.label}{': ' + value if value else ''}{note}"


def days_text(event: TimelineEvent) -> str:
    """Return the days of an event."""
    return event.start if event.end == event.start else f"{event.start} – {event.end}"


def distance(day: str | None, entry: str | None) -> str:
    """Return how far ``day`` is from study entry, if both are known to the day."""
    try:
        days = (_day(entry) - _day(day)).days
    except ValueError:
        return ""
    if days == 0:
        return " (day of entry)"
    unit = "day" if abs(days) == 1 else "days"
    return f" ({abs(days)} {unit} {'before' if days > 0 else 'after'} entry)"


def _day(text: str | None) -> date:
    day, _, _ = (text or "").partition("T")
    return date.fromisoformat(day)
