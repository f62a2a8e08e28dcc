"""The example patients come out as somebody judged them by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sarc_kb.assessment import (
    Assessment,
    CriterionResult,
    Outcome,
    TreatmentOutcome,
    TreatmentResult,
    Verdict,
)
from sarc_kb.kb import KnowledgeBase

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STORIES = sorted(p.parent for p in EXAMPLES.glob("*/expected.csv"))


def expectations(story: Path, *what: str) -> list[dict[str, str]]:
    """The rows of a story's expected.csv, all or those of a kind."""
    with (story / "expected.csv").open(encoding="utf-8") as handle:
        return [r for r in csv.DictReader(handle) if not what or r["what"] in what]


@pytest.fixture(scope="module")
def assessed(kb: KnowledgeBase) -> dict[str, Assessment]:
    found = {}
    for story in STORIES:
        as_of = next((r["outcome"] for r in expectations(story) if r["what"] == "as-of"), None)
        tables = str(story) if (story / "person.csv").exists() else None
        files = (p for p in story.iterdir() if p.stem in ("patient", "bundle"))
        result = kb.validate(*files, omop=tables, as_of=as_of)
        assert not result.run_findings
        (found[story.name],) = result.assessments
    return found


def named(criterion: CriterionResult) -> set[str]:
    """What decided a criterion, as expected.csv writes it: open clauses, or sources of facts."""
    if criterion.outcome is Outcome.UNDETERMINED:
        return set(criterion.decided_by)
    facts = [e for c in criterion.clauses if c.id in criterion.decided_by for e in c.evidence]
    return {s for e in (*facts, *criterion.denied_by) for s in e.source.split(", ")}


@pytest.mark.parametrize("story", STORIES, ids=lambda p: p.name)
def test_story(story: Path, assessed: dict[str, Assessment]) -> None:
    rows = expectations(story, "verdict", "criterion")
    assessment = assessed[story.name]
    assert assessment.verdict is Verdict(rows[0]["outcome"]), assessment.error
    assert [r["id"] for r in rows[1:]] == [c.id for c in assessment.criteria]
    wrong = []
    for row, criterion in zip(rows[1:], assessment.criteria, strict=True):
        if criterion.outcome.word != row["outcome"]:
            wrong.append(
                f"{row['id']}: expected {row['outcome']}, is {criterion.outcome.word}: {criterion.message}"
            )
            continue
        expected = set(filter(None, row["decided_by"].split(";")))
        if criterion.outcome is Outcome.FAIL and not expected <= named(criterion):
            wrong.append(f"{row['id']}: {sorted(expected)} not among {sorted(named(criterion))}")
        if criterion.outcome is Outcome.UNDETERMINED and expected != named(criterion):
            wrong.append(
                f"{row['id']}: open {sorted(named(criterion))}, expected {sorted(expected)}"
            )
    assert not wrong, "\n".join(wrong)


COURSES = [story for story in STORIES if expectations(story, "treatment")]


def shown(result: TreatmentResult) -> set[str]:
    """What decided a treatment rule, as expected.csv writes it."""
    if result.outcome is TreatmentOutcome.UNDETERMINED:
        return set(result.decided_by)
    facts = [e for c in result.clauses if c.id in result.decided_by for e in c.evidence]
    return {s for e in facts for s in e.source.split(", ")}


@pytest.mark.parametrize("story", COURSES, ids=lambda p: p.name)
def test_course(story: Path, assessed: dict[str, Assessment]) -> None:
    treatment = assessed[story.name].treatment
    assert treatment is not None
    rows = expectations(story, "rule")
    assert sorted(r["id"] for r in rows) == [r.id for r in treatment.rules]
    results = {r.id: r for r in treatment.rules}
    wrong = []
    for row in rows:
        result = results[row["id"]]
        if result.outcome.value != row["outcome"]:
            wrong.append(
                f"{row['id']}: expected {row['outcome']}, is {result.outcome.value}: {result.message}"
            )
            continue
        expected = set(filter(None, row["decided_by"].split(";")))
        named = shown(result)
        if result.outcome is TreatmentOutcome.UNDETERMINED:
            if expected != named:
                wrong.append(f"{row['id']}: open {sorted(named)}, expected {sorted(expected)}")
        elif not expected <= named:
            wrong.append(f"{row['id']}: {sorted(expected)} not among {sorted(named)}")
    assert not wrong, "\n".join(wrong)
    (conclusion,) = expectations(story, "treatment")
    assert treatment.conclusion.value == conclusion["outcome"]


def test_who_is_not_treated_has_no_treatment_part(assessed: dict[str, Assessment]) -> None:
    treated = {name for name, a in assessed.items() if a.treatment is not None}
    assert treated == {story.name for story in COURSES}
    assert len(treated) >= 10


def test_all_thirty_criteria_are_always_there(assessed: dict[str, Assessment]) -> None:
    ids = [f"I{n:02}" for n in range(1, 12)] + [f"E{n:02}" for n in range(1, 20)]
    assert len(STORIES) >= 10
    for assessment in assessed.values():
        assert [c.id for c in assessment.criteria] == ids


def test_undetermined_says_what_is_missing_and_what_would_decide(
    assessed: dict[str, Assessment],
) -> None:
    for assessment in assessed.values():
        for criterion in assessment.criteria:
            for clause in criterion.clauses:
                assert bool(clause.missing) == (clause.outcome is Outcome.UNDETERMINED)
        assert bool(assessment.to_decide) == (assessment.verdict is Verdict.UNDETERMINED)
