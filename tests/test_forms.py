"""One patient told in several forms is judged the same, criterion by criterion, clause by clause."""

from __future__ import annotations

import csv
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from sarc_kb.assessment import Assessment, ClauseResult, Outcome
from sarc_kb.kb import KnowledgeBase

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FORMS = ("fhir", "omop")
PAIRS = [
    (path.name, f"{form}-{path.name}")
    for path in sorted(EXAMPLES.iterdir())
    for form in FORMS
    if (EXAMPLES / f"{form}-{path.name}").is_dir()
]

# What the graphs state to be complete. A form that cannot state it, or does not, needs the site's
# word; nobody gives it for the records in which nothing is complete.
SITE_WORD = ("conditions", "procedures", "medications", "allergies", "studies")
WITHOUT_STATEMENTS = {"fhir-eligible", "fhir-anaemic"} | {
    told for _, told in PAIRS if told.startswith("omop-") and told != "omop-missing-data"
}

# Stories whose patient is another person with the same story.
ANOTHER_PATIENT = {"fhir-eligible", "fhir-anaemic"}

# Clauses that come out otherwise, because a form does not hold the fact; each with the reason.
NOT_HELD: dict[tuple[str, str], set[str]] = {
    (
        "E11a4",
        "the question whether two QTc were above 470 ms is answered; the graph leaves it to results",
    ): WITHOUT_STATEMENTS,
    (
        "I04e",
        "the site's word reaches no further than the observation period; a recurrence may lie before",
    ): {t for t in WITHOUT_STATEMENTS if t.startswith("omop-")}
    - {"omop-recurrent-after-chemotherapy"},
    (
        "I04b",
        "no OMOP concept is the distance to a vessel, and the question on it is not answered",
    ): {"omop-recurrent-after-chemotherapy"},
    ("I04c", "the pattern of growth is not recorded"): {"fhir-eligible", "omop-eligible"},
    ("E11a2", "the electrocardiogram does not say that it was at rest"): ANOTHER_PATIENT,
    ("E11a3", "the electrocardiogram does not say that it was at rest"): ANOTHER_PATIENT,
    ("E09s", "a man tells the story of a woman"): {"fhir-eligible"},
    ("E09n", "a man tells the story of a woman"): {"fhir-eligible"},
}

Judge = Callable[[str], Assessment]


@pytest.fixture(scope="module")
def judged(kb: KnowledgeBase) -> Judge:
    known: dict[str, Assessment] = {}

    def judge(story: str) -> Assessment:
        if story not in known:
            folder = EXAMPLES / story
            omop = str(folder) if (folder / "person.csv").exists() else None
            if omop:
                pytest.importorskip("duckdb", reason="the extra omop is not installed")
                pytest.importorskip("ibis", reason="the extra omop is not installed")
            files = [p for p in folder.iterdir() if p.stem in ("patient", "bundle")]
            complete = SITE_WORD if story in WITHOUT_STATEMENTS else ()
            (known[story],) = kb.validate(*files, omop=omop, complete=complete).assessments
        return known[story]

    return judge


def clauses(assessment: Assessment) -> dict[str, ClauseResult]:
    return {clause.id: clause for c in assessment.criteria for clause in c.clauses}


def test_every_kind_of_rule_is_told_in_every_form() -> None:
    """A limit, a window, a value set, a place, silence, an answer, and nothing against it."""
    stories = {
        "eligible",
        "anaemic",
        "recurrent-after-chemotherapy",
        "excluded-histology",
        "pelvis",
        "missing-data",
        "unwilling",
    }
    assert {s for s, _ in PAIRS} == stories
    assert len(PAIRS) == len(FORMS) * len(stories)


@pytest.mark.parametrize(("story", "told"), PAIRS, ids=lambda name: name)
@pytest.mark.threat("D16")
def test_criteria_agree(story: str, told: str, judged: Judge) -> None:
    one, other = judged(story), judged(told)
    assert other.verdict is one.verdict
    assert [(c.id, c.outcome) for c in other.criteria] == [(c.id, c.outcome) for c in one.criteria]


@pytest.mark.parametrize(("story", "told"), PAIRS, ids=lambda name: name)
@pytest.mark.threat("D16")
def test_clauses_agree(story: str, told: str, judged: Judge) -> None:
    one, other = clauses(judged(story)), clauses(judged(told))
    assert list(other) == list(one)
    differing = {id_ for id_ in one if one[id_].outcome is not other[id_].outcome}
    assert differing == {id_ for (id_, _), stories in NOT_HELD.items() if told in stories}
    for id_ in differing - {"E09s"}:
        assert Outcome.UNDETERMINED in (one[id_].outcome, other[id_].outcome), id_


def laboratory(assessment: Assessment) -> dict[str, ClauseResult]:
    """The clauses on a result of the laboratory: all of inclusion 7 but the one on transfusion."""
    return {i: c for i, c in clauses(assessment).items() if i.startswith("I07") and i != "I07b"}


def results(clause: ClauseResult) -> list[tuple[str, Decimal | None, str]]:
    """Day, number (if it is known) and unit of each result, in the rule's own unit."""
    found = []
    for e in clause.evidence:
        said = e.rule_value or f"{e.value or ''} {e.unit or ''}"
        number, _, unit = said.partition(" ")
        found.append(((e.date or "")[:10], Decimal(number) if number else None, unit))
    return found


@pytest.mark.parametrize(("story", "told"), PAIRS, ids=lambda name: name)
def test_limits_and_results_of_the_laboratory_agree(story: str, told: str, judged: Judge) -> None:
    one, other = laboratory(judged(story)), laboratory(judged(told))
    assert len(one) >= 10
    assert {i: c.limit for i, c in other.items()} == {i: c.limit for i, c in one.items()}
    if told in ANOTHER_PATIENT:
        return
    # The OMOP tables hold bilirubin and creatinine in mg/dL, rounded to one decimal.
    rounding = Decimal("0.05") if told.startswith("omop-") else Decimal(0)
    for id_, clause in one.items():
        expected, found = results(clause), results(other[id_])
        assert [(d, u) for d, _, u in found] == [(d, u) for d, _, u in expected], id_
        for (_, a, _), (_, b, _) in zip(expected, found, strict=True):
            if a is None or b is None:
                assert a is b, id_
            else:
                assert abs(a - b) <= rounding * a, id_


def test_a_failing_result_is_the_same_in_every_form(judged: Judge) -> None:
    """The result that makes the anaemic ineligible, also where another patient tells it."""
    told = {s for pair in PAIRS for s in pair if s.endswith("anaemic")}
    found = {s: results(clauses(judged(s))["I07a"]) for s in told}
    assert len(found) == 3
    for result in found.values():
        assert result == [("2024-02-26", Decimal("8.6"), "g/dL")]


def test_expectations_were_written_alike() -> None:
    """The outcomes written by hand for each form are those of the graph."""
    for pair in PAIRS:
        rows = []
        for name in pair:
            with (EXAMPLES / name / "expected.csv").open(encoding="utf-8") as handle:
                rows.append([(r["what"], r["id"], r["outcome"]) for r in csv.DictReader(handle)])
        assert rows[0] == rows[1], pair
