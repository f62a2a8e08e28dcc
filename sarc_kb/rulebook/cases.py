"""The boundary cases of a rule in words, and one finding that a failing case really gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sarc_kb.assess import clause_outcomes, criterion_result, deciding, fold
from sarc_kb.assessment import ClauseResult, Outcome, TreatmentOutcome
from sarc_kb.cases import Case, criterion_of, part_of
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.explain import explain
from sarc_kb.facts import Fact
from sarc_kb.judging import outcome_of
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.rules import Trial
from sarc_kb.treatment import last_day, outcomes_at_entry, rule_outcome

_FEW = 6
# What shows a rule best: the first value outside, then whatever else fails.
_BEST = ("OneStepOutside", "TypicalFail", "WindowEdgeInside")
_FAILING = (Outcome.FAIL, TreatmentOutcome.VIOLATION, TreatmentOutcome.DEVIATION)


@dataclass(frozen=True, slots=True)
class CaseText:
    """One case for readers: ``given`` has one line a fact, and how many more there are."""

    id: str
    given: tuple[str, ...]
    more: int
    dates: str
    expected: str
    tests: tuple[str, ...]
    because: str
    readings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a SHACL processor and the program say of the patient of one case."""

    case: str
    outcome: str
    headline: str
    clauses: tuple[ClauseResult, ...]


def outcome_word(outcome: Outcome | TreatmentOutcome) -> str:
    """Return the outcome as reports call it."""
    return outcome.word if isinstance(outcome, Outcome) else outcome.value


def case_text(case: Case, trial: Trial, kb: KnowledgeBase) -> CaseText:
    """Return one case in words."""
    facts = case.record.facts
    entry = f"entry {case.record.entry.text}" if case.record.entry else "no date of entry"
    return CaseText(
        id=case.id,
        given=tuple(_fact_text(fact, trial, kb) for fact in facts[:_FEW]),
        more=max(len(facts) - _FEW, 0),
        dates=entry + (f", seen on {case.as_of.text}" if case.as_of else ""),
        expected=outcome_word(case.expected),
        tests=case.tests,
        because=case.because,
        readings=tuple(sorted(case.readings.items())),
    )


def _fact_text(fact: Fact, trial: Trial, kb: KnowledgeBase) -> str:
    terms = kb.terms

    def name(iri: str) -> str:
        return trial.labels.get(iri) or terms.labels.get(iri) or terms.code_text(iri)

    parts = [", ".join(map(name, fact.concepts)) or "a fact without a code"]
    if fact.kind == str(SARC.Attestation):
        parts = [f"answer to “{parts[0]}”:"]
    if fact.kind == str(SARC.CompletenessStatement):
        parts = [f"{parts[0]} stated to be complete"]
    value = fact.value_text if fact.value is None else f"{fact.comparator or ''}{fact.value:f}"
    parts += [value] if value else []
    parts += [fact.unit] if fact.unit else []
    parts += [", ".join(map(name, fact.value_concepts))] if fact.value_concepts else []
    if fact.upper_limit is not None:
        parts.append(
            f"(upper limit {fact.upper_limit:f} {fact.upper_limit_unit or ''}".strip() + ")"
        )
    if fact.axes:
        parts.append("(" + "; ".join(f"{name(a)}: {name(v)}" for a, v in fact.axes) + ")")
    text = " ".join(parts)
    if fact.status:
        text += f", {name(fact.status)}"
    if fact.start is not None and fact.end is not None and fact.start.text != fact.end.text:
        text += f", {fact.start.text} to {fact.end.text}"
    elif fact.start is not None:
        text += f", {fact.start.text}" + (", ongoing" if fact.ongoing else "")
    elif fact.end is not None:
        text += f", until {fact.end.text}"
    elif fact.recorded is not None:
        text += f", recorded {fact.recorded.text}"
    return text


class Samples:
    """Findings made by the reference processor, one criterion loaded at a time."""

    def __init__(self, kb: KnowledgeBase, trial: Trial, components: Path) -> None:
        self._kb, self._trial, self._components = kb, trial, components
        self._engines: dict[tuple[int, str], ShaclEngine] = {}

    def of(self, rule: str, cases: Iterable[Case]) -> Sample | None:
        """Return what comes out for the case that shows the rule failing best; None where no case
        without another reading fails.

        Raises:
            RuleBaseError: the case comes out otherwise than it says it must.
        """
        case = _chosen([c for c in cases if not c.readings])
        return None if case is None else self._judged(rule, case)

    def _judged(self, rule: str, case: Case) -> Sample:
        kb, part = self._kb, part_of(self._trial, rule)
        criterion = next(c for c in part.criteria if c.iri == criterion_of(part, rule))
        key = (id(part), criterion.iri)
        if key not in self._engines:
            self._engines[key] = ShaclEngine(part, self._components, only=(criterion.iri,))
        as_of = case.as_of
        if part.course is not None and as_of is None:
            as_of = last_day(case.record)
        prepared = kb.prepare(case.record, part, as_of=as_of)
        readings = self._engines[key].run(prepared_graph(prepared))
        outcomes = clause_outcomes(part, readings.refuted, readings.unproven)
        grounds = {iri: explain(prepared, part.clauses[iri]) for iri in criterion.clauses}
        whole = criterion_result(
            prepared, criterion, outcomes, grounds, criterion.iri in prepared.denied
        )
        told: Outcome | TreatmentOutcome
        if rule == criterion.iri:
            told, root = whole.outcome, criterion.root
        else:
            told, root = fold(part, rule, outcomes), rule
        if isinstance(case.expected, TreatmentOutcome):
            at_entry = outcomes_at_entry(kb.prepare(case.record, self._trial), [criterion])
            told = rule_outcome(prepared, criterion, outcomes, grounds, at_entry)
        if told is not case.expected or any(
            outcome_of(grounds[iri]) is not outcomes[iri] for iri in criterion.clauses
        ):
            raise RuleBaseError(
                Finding(
                    "RULE080",
                    "error",
                    case.id,
                    f"expected {outcome_word(case.expected)}, found {outcome_word(told)}",
                    "a book must not show a case that does not hold",
                    "see `sarc-kb audit boundaries`; mend the rule or the case",
                )
            )
        wanted = fold(part, root, outcomes)
        deciders = set(deciding(part, root, outcomes, wanted))
        shown = tuple(c for c in whole.clauses if c.iri in deciders) or whole.clauses
        return Sample(
            case=case.id,
            outcome=outcome_word(told),
            headline=whole.message
            if rule == criterion.iri
            else "; ".join(c.message for c in shown),
            clauses=shown,
        )


def _chosen(cases: Sequence[Case]) -> Case | None:
    failing = [c for c in cases if c.expected in _FAILING]

    def rank(case: Case) -> tuple[int, bool, int, str]:
        found = [_BEST.index(t) for t in case.tests if t in _BEST]
        plain = all(fact.comparator is None for fact in case.record.facts)
        return min(found, default=len(_BEST)), not plain, len(case.record.facts), case.id

    return min(failing, key=rank, default=None)
