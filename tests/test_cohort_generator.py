"""The generated patients are worth judging: every clause comes to every outcome that it can have,
often enough, and some patients are eligible, some not, some neither."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

import pytest
from cohort_generator import (
    SEED,
    STATEMENT,
    Generator,
    cohort,
    generate,
    sarc,
    tallied,
    verdict_of,
    with_course,
)

from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from tests.cohort_shacl import ten_thousand
from tests.cohort_tables import Truth

EVERY = set(Outcome)
WORDS = {o.word: o for o in Outcome}

# Clauses on eligibility that cannot come to some outcome. None: a `latest` is open without a
# result, a clause on silence without a statement, an attested one without an answer; and each
# has facts or answers that fail and that pass it.
CANNOT: dict[str, set[Outcome]] = {}
# The same for clauses of the treatment part: none either.
CANNOT_IN_COURSE: dict[str, set[Outcome]] = {}

# What can be told of a treatment rule, by how the protocol binds by it. "not yet applicable" is told
# only of rules with a day by which they are due.
TOLD = {
    "Order": {"conformant", "violation", "undetermined"},
    "Prohibition": {"conformant", "violation", "undetermined"},
    "Intention": {"conformant", "deviation", "undetermined"},
    "Permission": {"conformant", "permitted", "deviation", "undetermined"},
    "Discretion": {"conformant", "permitted"},
    "NotRuled": {"conformant", "not ruled"},
    "Agreement": {"conformant", "deviation"},
}
# Told as well while a course goes on: rules that are due by a day and tell what is open. Of T16 (the
# resection itself) almost never: a course of generated patients begins with it.
LATER = {
    "T01",
    "T03",
    "T04",
    "T05",
    "T06",
    "T07",
    "T08",
    "T09",
    "T10",
    "T11",
    "T12",
    "T13",
    "T14",
    "T15",
    "T17",
    "T20",
}


def rare(
    found: dict[str, dict[object, int]], wanted: dict[str, set[Outcome]], least: int
) -> dict[str, str]:
    """Return the names that came to one of their outcomes too rarely."""
    return {
        f"{name} {getattr(outcome, 'name', outcome)}": f"{found[name].get(outcome, 0)} times"
        for name, outcomes in wanted.items()
        for outcome in outcomes
        if found[name].get(outcome, 0) < least
    }


def shares(verdicts: list[Verdict]) -> dict[Verdict, float]:
    counts = Counter(verdicts)
    return {verdict: counts[verdict] / len(verdicts) for verdict in Verdict}


def test_a_patient_depends_on_seed_and_number_alone(kb: KnowledgeBase, trial: Trial) -> None:
    ten = list(generate(trial, kb.terms, 7, 10))
    assert list(generate(trial, kb.terms, 7, 4)) == ten[:4]
    assert list(generate(trial, kb.terms, 7, 3, first=5)) == ten[5:8]
    assert Generator(trial, kb.terms).patient(7, 9) == ten[9]
    assert all(a != b for a, b in itertools.combinations(ten, 2))
    assert all(
        a.facts != b.facts for a, b in zip(ten, generate(trial, kb.terms, 8, 10), strict=True)
    )


def test_generated_records_are_records(kb: KnowledgeBase, trial: Trial) -> None:
    """Ids are unique, entry has a day, every fact says what it is about; what records hold in
    life is there: units, comparators, codes, partial dates, status, tumours, courses."""
    seen: Counter[str] = Counter()
    for record in generate(trial, kb.terms, SEED, 400):
        ids = [f.id for f in record.facts]
        assert len(ids) == len(set(ids))
        assert record.entry is not None
        assert record.entry.exact
        assert record.findings == ()
        for fact in record.facts:
            assert fact.concepts
            seen["comparator"] += fact.comparator is not None
            seen["text"] += fact.value_text is not None
            seen["no unit"] += fact.value is not None and fact.unit is None
            seen["code"] += not fact.concepts[0].startswith("https://w3id.org/sarc-kb/")
            seen["month"] += fact.start is not None and not fact.start.exact
            seen["time"] += fact.start is not None and fact.start.minute is not None
            seen["undated"] += fact.start is None and fact.end is None
            seen["recorded only"] += fact.recorded is not None
            seen["ongoing"] += bool(fact.ongoing)
            seen["suspected"] += fact.status == sarc("Suspected")
            seen["refuted"] += fact.status == sarc("Refuted")
            seen["void"] += fact.status == sarc("EnteredInError")
            seen["planned"] += fact.status == sarc("Planned")
            seen["upper limit's unit"] += fact.upper_limit_unit is not None
        tumours = {f.tumour for f in record.facts} - {None}
        seen["tumours"] += len(tumours) > 1
        seen["course"] += with_course(record)
        seen["not complete"] += not any(f.kind == STATEMENT for f in record.facts)
    few = {name: count for name, count in seen.items() if count < 5 and name != "not complete"}
    assert not few


def test_every_accepted_unit_is_written(kb: KnowledgeBase, trial: Trial) -> None:
    """Results that a clause limits are written in each unit that their quantity accepts."""
    written: dict[str, set[str]] = {}
    for record in generate(trial, kb.terms, SEED, 4000):
        for fact in record.facts:
            for concept in fact.concepts:
                if fact.unit is not None and fact.value is not None:
                    written.setdefault(concept, set()).add(kb.terms.canonical_unit(fact.unit))
    limited = [
        c.role.concept_set
        for c in trial.clauses.values()
        if c.role is not None and c.role.bounds.used and c.role.concept_set in kb.terms.quantities
    ]
    assert len(limited) >= 10
    missing = {
        concept: absent
        for concept in limited
        if (absent := set(kb.terms.quantities[concept].accepts) - written[concept])
    }
    assert missing == {}


def test_a_few_hundred_patients(kb: KnowledgeBase, trial: Trial) -> None:
    judged = cohort(trial, kb.terms, SEED, 400)
    assert len(judged) == 400
    decided = {Outcome.PASS, Outcome.FAIL}
    found = tallied([j.clauses for j in judged])
    assert set(found) == {c.id for c in trial.clauses.values()}
    assert [name for name, outcomes in found.items() if not decided & set(outcomes)] == []
    share = shares([j.verdict for j in judged])
    assert 0.05 <= share[Verdict.ELIGIBLE] <= 0.3
    assert share[Verdict.INELIGIBLE] > 0.3
    assert share[Verdict.UNDETERMINED] > 0.05
    courses = [j for j in judged if j.rules is not None]
    assert 0.05 <= len(courses) / len(judged) <= 0.3


def outcomes(words: Mapping[str, str]) -> dict[str, Outcome]:
    return {name: WORDS[word] for name, word in words.items()}


def of_clauses(truth: Truth) -> dict[str, Outcome]:
    return outcomes({n.removeprefix("treatment "): told[0] for n, told in truth.clauses.items()})


@pytest.mark.slow
@pytest.mark.xdist_group("ten thousand")
@pytest.mark.timeout(4800)
def test_every_clause_comes_to_every_outcome(trial: Trial) -> None:
    judged = [j.truths[0] for j in ten_thousand()]
    assert len(judged) == 10_000
    wanted = {c.id: EVERY - CANNOT.get(c.id, set()) for c in trial.clauses.values()}
    assert rare(tallied([of_clauses(j) for j in judged]), wanted, 100) == {}
    criteria = {c.id: EVERY for c in trial.criteria}
    assert rare(tallied([outcomes(j.rules) for j in judged]), criteria, 100) == {}
    share = shares([verdict_of(outcomes(j.rules)) for j in judged])
    assert share[Verdict.ELIGIBLE] >= 0.05
    assert share[Verdict.INELIGIBLE] >= 0.05
    assert share[Verdict.UNDETERMINED] >= 0.05


@pytest.mark.slow
@pytest.mark.xdist_group("ten thousand")
@pytest.mark.timeout(4800)
def test_every_treatment_rule_comes_to_every_outcome(trial: Trial) -> None:
    part = trial.treatment
    assert part is not None
    courses = [course for j in ten_thousand() for course in j.truths[1:]]
    wanted = {c.id: EVERY - CANNOT_IN_COURSE.get(c.id, set()) for c in part.clauses.values()}
    assert rare(tallied([of_clauses(j) for j in courses]), wanted, 20) == {}
    told = {r.id: set(TOLD[r.modality]) for r in part.criteria}
    found = tallied([j.rules for j in courses])
    for name in LATER:
        told[name].add("not yet applicable")
    assert rare(found, told, 20) == {}
    later = {name for name, outcomes in found.items() if "not yet applicable" in outcomes}
    assert later <= {r.id for r in part.criteria if r.due}
    for name, outcomes in found.items():
        assert set(outcomes) <= told[name] | {"not yet applicable"}
