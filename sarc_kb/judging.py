"""How a patient stands, in outcomes alone: for comparing many trials on many patients.

The outcomes are those of the deciding facts (`sarc_kb.explain`), which the tests hold against the
SHACL engine; reports about a patient come from `KnowledgeBase.assess_record`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sarc_kb.assess import fold
from sarc_kb.assessment import Conclusion, Outcome, TreatmentOutcome, Verdict
from sarc_kb.dates import PartialDate
from sarc_kb.explain import Explanation, explain
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.prepare import Prepared
from sarc_kb.rules import Trial
from sarc_kb.treatment import (
    concluded,
    has_begun,
    last_day,
    may_have_begun,
    outcomes_at_entry,
    rule_outcome,
)

VERDICTS = {
    Outcome.FAIL: Verdict.INELIGIBLE,
    Outcome.UNDETERMINED: Verdict.UNDETERMINED,
    Outcome.PASS: Verdict.ELIGIBLE,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One patient under one trial: the outcomes of clauses and criteria by their IRIs, the verdict,
    and the same of the course, where there is one."""

    verdict: Verdict
    clauses: Mapping[str, Outcome]
    criteria: Mapping[str, Outcome]
    conclusion: Conclusion | None = None
    course: Mapping[str, Outcome] = field(default_factory=dict)
    rules: Mapping[str, TreatmentOutcome] = field(default_factory=dict)

    def said(self, rule: str) -> str | None:
        """Return the outcome of a clause, criterion or treatment rule in a word; None if there is
        none. What is both a rule and its clause is told as the rule."""
        for table in (self.criteria, self.rules, self.clauses, self.course):
            outcome = table.get(rule)
            if outcome is not None:
                word = outcome.word if isinstance(outcome, Outcome) else outcome.value
                return str(word)
        return None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a caller may set for judging, as `KnowledgeBase.assess_record` takes it."""

    as_of: PartialDate | None = None
    complete: tuple[str, ...] = ()
    attested: Mapping[str, str] = field(default_factory=dict)


AS_RECORDED = Circumstances()


def stand(
    kb: KnowledgeBase,
    record: PatientRecord,
    trial: Trial,
    given: Circumstances = AS_RECORDED,
    *,
    known: Standing | None = None,
    again: tuple[bool, bool] = (True, True),
) -> Standing:
    """Return how a patient stands.

    ``again``: whether to judge eligibility, and the course of treatment; what is not judged is
    taken from ``known``.

    Raises:
        InputError: the record cannot be judged.
    """
    prepared = None
    if known is None or again[0]:
        prepared = kb.prepare(
            record, trial, as_of=given.as_of, complete=given.complete, attested=given.attested
        )
        clauses, criteria = at_entry(prepared)
        verdict = VERDICTS[min(criteria.values(), key=lambda o: o.value)]
        found = Standing(verdict, clauses, criteria)
    else:
        found = replace(known, conclusion=None, course={}, rules={})
    if known is not None and not again[1]:
        return replace(found, conclusion=known.conclusion, course=known.course, rules=known.rules)
    if trial.treatment is None or not may_have_begun(record, trial, kb.terms):
        return found
    as_of = given.as_of or last_day(record)
    treated = kb.prepare(record, trial.treatment, as_of=as_of, complete=given.complete)
    if not has_begun(treated):
        return found
    if prepared is None or given.as_of is not None:
        prepared = kb.prepare(record, trial, complete=given.complete)
    outcomes, rules = in_treatment(treated, prepared)
    return replace(found, conclusion=concluded(rules.values()), course=outcomes, rules=rules)


def at_entry(prepared: Prepared) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Return the outcomes of clauses and criteria of a patient prepared for eligibility."""
    trial = prepared.trial
    clauses = {iri: outcome_of(explain(prepared, clause)) for iri, clause in trial.clauses.items()}
    criteria = {
        c.iri: Outcome.FAIL if c.iri in prepared.denied else fold(trial, c.root, clauses)
        for c in trial.criteria
    }
    return clauses, criteria


def in_treatment(
    prepared: Prepared, entry: Prepared
) -> tuple[dict[str, Outcome], dict[str, TreatmentOutcome]]:
    """Return the outcomes of clauses and rules of a patient prepared for treatment; ``entry``: the
    same patient prepared for eligibility."""
    trial = prepared.trial
    grounds = {iri: explain(prepared, clause) for iri, clause in trial.clauses.items()}
    outcomes = {iri: outcome_of(ground) for iri, ground in grounds.items()}
    before = outcomes_at_entry(entry, trial.criteria)
    rules = {r.iri: rule_outcome(prepared, r, outcomes, grounds, before) for r in trial.criteria}
    return outcomes, rules


def outcome_of(ground: Explanation) -> Outcome:
    """Return the outcome that both readings give."""
    if ground.refuted:
        return Outcome.FAIL
    return Outcome.UNDETERMINED if ground.unproven else Outcome.PASS
