"""What an assessment says in numbers and days beside the words: limits, windows, values, extents.

Expectations are read off the records of the examples and the protocol, not off the program.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from sarc_kb.assessment import Assessment, ClauseResult, Period, Range
from sarc_kb.kb import KnowledgeBase

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def judged(kb: KnowledgeBase, example: str) -> Assessment:
    (assessment,) = kb.validate(EXAMPLES / example).assessments
    return assessment


def clauses(assessment: Assessment) -> dict[str, ClauseResult]:
    return {c.id: c for criterion in assessment.criteria for c in criterion.clauses}


def test_a_limit_and_its_window(kb: KnowledgeBase) -> None:
    low = clauses(judged(kb, "anaemic"))["I07a"]
    assert low.allowed == Range("9", None, True, False, "g/dL")
    # Fourteen days before entry on 2024-03-01, in a leap year.
    assert low.window == Period("2024-02-16", "2024-03-01")
    assert [e.quantity for e in low.evidence] == [Range("8.6", "8.6", True, True, "g/dL")]
    assert low.concept == "https://w3id.org/sarc-kb/ontology#Haemoglobin"
    assert low.record_kinds == ()  # it is decided


def test_limits_of_several_kinds(kb: KnowledgeBase) -> None:
    found = clauses(judged(kb, "eligible"))
    # "> 5cm" and "≥ 5cm": the one end belongs to what is allowed, the other does not.
    assert found["I04a"].allowed == Range("5", None, False, False, "cm")
    assert found["I06b"].allowed == Range("5", None, True, False, "cm")
    # Excluded is more than 470 msec, so that at most 470 is allowed.
    assert found["E11a2"].allowed == Range(None, "470", False, True, "ms")
    # A multiple of the upper limit of normal is a bare number.
    assert found["I07e"].allowed == Range(None, "1.5", False, True, None)
    # Nothing is compared with a limit, or two facts with each other.
    assert found["E13"].allowed is None
    assert found["E11a1"].allowed is None
    assert found["I11"].allowed is found["I11"].window is None


def test_values_are_told_in_the_unit_of_the_rule(kb: KnowledgeBase) -> None:
    found = clauses(judged(kb, "unit-surprise"))
    told = {name: found[name].evidence[0] for name in ("I07a", "I07d", "I06b", "I07h")}
    assert (told["I07a"].value, told["I07a"].unit) == ("94", "g/L")
    assert told["I07a"].quantity == Range("9.4", "9.4", True, True, "g/dL")
    assert told["I07d"].quantity == Range("182", "182", True, True, "10*9/L")
    assert told["I06b"].quantity == Range("7.8", "7.8", True, True, "cm")
    # 1.1 mg/dL by the molar mass of creatinine, 113.12 g/mol.
    creatinine = told["I07h"].quantity
    assert creatinine is not None
    assert creatinine.unit == "umol/L"
    exact = Fraction("1.1") * 10_000 / Fraction("113.12")
    assert abs(Fraction(creatinine.lower or 0) - exact) <= Fraction(1, 2_000_000)


def test_a_value_that_a_clause_passes_over_is_told(kb: KnowledgeBase) -> None:
    normal = clauses(judged(kb, "unit-surprise"))["E11a2"]
    assert normal.evidence == ()  # no value above the limit is what it asks for
    (seen,) = normal.passed_over
    assert (seen.source, seen.value, seen.unit) == ("Observation/qtc-1", "0.441", "s")
    assert seen.quantity == Range("441", "441", True, True, "ms")


def test_how_clauses_are_joined(kb: KnowledgeBase) -> None:
    logic = {c.id: c.logic for c in judged(kb, "empty-record").criteria}
    assert logic["E11"] == "E11a1 and (E11a2 or E11a3 or E11a4) and E11b"
    assert logic["I03"] == "I03"


def test_an_alternative_that_is_not_needed_is_moot(kb: KnowledgeBase) -> None:
    # Creatinine is within its limit, so that neither its being raised nor the clearance matters,
    # though the criterion fails by haemoglobin.
    found = clauses(judged(kb, "anaemic"))
    assert {name for name in found if name.startswith("I07") and found[name].moot} == {
        "I07l",
        "I07i",
    }
    assert not found["I07a"].moot
    # All alternatives fail: none is moot.
    long_qt = clauses(judged(kb, "long-qtc"))
    assert not any(long_qt[f"E11a{n}"].moot for n in (2, 3, 4))


@pytest.mark.parametrize(
    ("clause", "kinds"),
    [
        ("I07a", ("Measurement",)),
        ("I07e", ("Measurement",)),  # the ratio is no record, what it is made of is one
        ("I03", ("Demographic",)),
        ("E12", ("Procedure",)),
        ("E18", ("Allergy",)),
        ("I11", ()),
    ],
)
def test_kinds_of_record_that_would_settle_a_clause(
    kb: KnowledgeBase, clause: str, kinds: tuple[str, ...]
) -> None:
    assert clauses(judged(kb, "empty-record"))[clause].record_kinds == kinds


def test_extents_of_a_course(kb: KnowledgeBase) -> None:
    course = judged(kb, "course-skipped-level").treatment
    assert course is not None
    toxicity = next(e for e in course.timeline if e.track == "toxicity")
    assert (toxicity.extent, toxicity.exact) == (Period("2024-04-22", "2024-04-24"), True)
    vague = judged(kb, "course-vague").treatment
    assert vague is not None
    surgery = next(e for e in vague.timeline if e.track == "surgery")
    assert (surgery.extent, surgery.exact) == (Period("2024-01-01", "2024-01-31"), False)
    drug = next(e for e in vague.timeline if "letter#anlotinib" in e.sources[0])
    assert drug.extent.start == "2024-02-12"
    assert not drug.exact
