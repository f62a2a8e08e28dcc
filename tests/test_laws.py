"""Laws that hold for every patient: losing data never clears one, order never matters, a unit is
only a way of writing."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from sarc_kb.assessment import Assessment, ClauseResult, Outcome, Verdict
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.judging import stand
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_SPOKEN = {str(SARC.CompletenessStatement), str(SARC.Attestation)}


@pytest.fixture(scope="module")
def records(kb: KnowledgeBase, trial: Trial) -> list[PatientRecord]:
    found, problems = read_sources([EXAMPLES], kb.reading_terms(trial))
    assert not problems
    return found


def by_clause(assessment: Assessment) -> dict[str, ClauseResult]:
    return {c.id: c for criterion in assessment.criteria for c in criterion.clauses}


def outcomes(assessment: Assessment) -> dict[str, Outcome]:
    return {c.id: c.outcome for c in assessment.criteria} | {
        k: v.outcome for k, v in by_clause(assessment).items()
    }


@pytest.mark.threat("D3")
def test_losing_a_fact_clears_nobody_unsaid(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, records: list[PatientRecord]
) -> None:
    """Removing any one fact turns fail or undetermined into pass only where the clause names what
    the pass now rests on: evidence (an older value), an answer, a statement or a default."""
    pick = random.Random(20240301)
    tried = turned = 0
    for record in records:
        before = by_clause(kb.assess_record(record, trial, engine))
        for index in sorted(pick.sample(range(len(record.facts)), min(6, len(record.facts)))):
            facts = record.facts[:index] + record.facts[index + 1 :]
            after = by_clause(kb.assess_record(replace(record, facts=facts), trial, engine))
            for name, now in after.items():
                tried += 1
                if now.outcome is Outcome.PASS and before[name].outcome is not Outcome.PASS:
                    turned += 1
                    assert now.evidence or now.rests_on, (
                        f"{record.label} {name} without {record.facts[index].source}"
                    )
    assert tried > 1000


@pytest.mark.threat("D3")
def test_losing_a_fact_with_nothing_to_rest_on_clears_nobody(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, records: list[PatientRecord]
) -> None:
    """Without statements and answers, and with one fact of a kind, no removal makes a pass."""
    pick = random.Random(7)
    for record in records:
        bare: dict[tuple[str, ...], Fact] = {}
        for fact in record.facts:
            if fact.kind not in _SPOKEN:
                bare.setdefault((*fact.concepts, fact.kind or ""), fact)
        facts = tuple(bare.values())
        alone = replace(record, facts=facts)
        before = by_clause(kb.assess_record(alone, trial, engine))
        for index in sorted(pick.sample(range(len(facts)), min(4, len(facts)))):
            less = replace(alone, facts=facts[:index] + facts[index + 1 :])
            for name, now in by_clause(kb.assess_record(less, trial, engine)).items():
                if now.outcome is Outcome.PASS and before[name].outcome is not Outcome.PASS:
                    assert now.rests_on or now.evidence, (
                        f"{record.label} {name} without {facts[index].source}"
                    )


FIELDS: dict[str, dict[str, object]] = {
    "concept": {"concepts": ()},
    "value": {"value": None},
    "unit": {"unit": None},
    "coded value": {"value_concepts": ()},
    "date": {"start": None, "end": None},
    "kind": {"kind": None},
    "axes": {"axes": ()},
    "tumour": {"tumour": None},
    "ongoing": {"ongoing": None},
}


@pytest.mark.threat("D3")
def test_an_empty_field_clears_nobody_unsaid(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, records: list[PatientRecord]
) -> None:
    """As for whole facts. A comparator or a status is not emptied: without it the fact says
    something else."""
    pick = random.Random(6)
    tried = 0
    for record in records:
        if record.entry is None or not record.facts:
            continue
        before = stand(kb, record, trial).clauses
        chosen = {pick.randrange(len(record.facts))}
        # And what decides, where something fails.
        chosen |= {n for n, f in enumerate(record.facts) if f.source == "Observation/hb-2"}
        for number, (field, emptied) in ((n, e) for n in chosen for e in FIELDS.items()):
            fact = replace(record.facts[number], **emptied)
            if fact == record.facts[number]:
                continue
            tried += 1
            facts = (*record.facts[:number], fact, *record.facts[number + 1 :])
            less = replace(record, facts=facts)
            for iri, now in stand(kb, less, trial).clauses.items():
                if now is Outcome.PASS and before[iri] is not Outcome.PASS:
                    told = by_clause(kb.assess_record(less, trial, engine))[local_name(iri)]
                    assert told.evidence or told.rests_on, (record.label, iri, field)
    assert tried > 100


@pytest.mark.threat("D16")
def test_the_order_of_facts_never_matters(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, records: list[PatientRecord]
) -> None:
    shuffle = random.Random(3).sample
    for record in records:
        turned = replace(record, facts=tuple(shuffle(record.facts, len(record.facts))))
        assert outcomes(kb.assess_record(record, trial, engine)) == outcomes(
            kb.assess_record(turned, trial, engine)
        )


def in_unit_system(kb: KnowledgeBase, record: PatientRecord, rank: int) -> PatientRecord:
    """The same record with every number written in the ``rank``-th accepted unit of its quantity."""
    facts = []
    for fact in record.facts:
        coded = kb.terms.code(fact.concepts)
        quantity = next((q for t in sorted(coded.certain) if (q := kb.terms.quantity_of(t))), None)
        unit = kb.terms.canonical_unit(fact.unit) if fact.unit else "1"
        if (
            quantity is None
            or fact.value is None
            or unit not in quantity.accepts
            or fact.upper_limit_unit
        ):
            facts.append(fact)
            continue
        old_factor, old_divisor = quantity.accepts[unit]
        units = sorted(quantity.accepts)
        new = units[rank % len(units)]
        factor, divisor = quantity.accepts[new]

        def move(
            value: Decimal, up: Decimal = old_factor * divisor, down: Decimal = old_divisor * factor
        ) -> Decimal:
            return value * up / down

        value = move(fact.value)
        if Fraction(value) * Fraction(factor * old_divisor) != Fraction(fact.value) * Fraction(
            old_factor * divisor
        ):
            # Not to be written in that unit without rounding.
            facts.append(fact)
            continue
        limit = move(fact.upper_limit) if fact.upper_limit is not None else None
        facts.append(replace(fact, value=value, unit=new, upper_limit=limit))
    return replace(record, facts=tuple(facts))


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.threat("D8")
def test_a_unit_is_only_a_way_of_writing(
    rank: int, kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, records: list[PatientRecord]
) -> None:
    changed = 0
    for record in records:
        other = in_unit_system(kb, record, rank)
        changed += sum(a.unit != b.unit for a, b in zip(record.facts, other.facts, strict=True))
        assert outcomes(kb.assess_record(record, trial, engine)) == outcomes(
            kb.assess_record(other, trial, engine)
        )
    assert changed > 20


def test_the_deciding_facts_decide(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, records: list[PatientRecord]
) -> None:
    """Without the evidence of a failing clause, the clause no longer fails, or fails on other facts
    that the report names."""
    for record in records:
        first = kb.assess_record(record, trial, engine)
        for name, clause in by_clause(first).items():
            sources = {s for e in clause.evidence for s in e.source.split(", ")}
            if clause.outcome is not Outcome.FAIL or not sources:
                continue
            rest = tuple(f for f in record.facts if f.source not in sources)
            again = by_clause(kb.assess_record(replace(record, facts=rest), trial, engine)).get(
                name
            )
            assert (
                again is None
                or again.outcome is not Outcome.FAIL
                or {s for e in again.evidence for s in e.source.split(", ")} - sources
            )


@pytest.mark.threat("D3")
def test_an_empty_record_passes_nothing(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine
) -> None:
    (record,) = read_sources([EXAMPLES / "empty-record"], kb.reading_terms(trial))[0]
    assessment = kb.assess_record(record, trial, engine)
    assert assessment.verdict is Verdict.UNDETERMINED
    assert {c.outcome for c in assessment.criteria} == {Outcome.UNDETERMINED}
