"""Limits and windows of the generated patients, by hand: wherever the plain oracle speaks, the
program says the same; and it speaks often. `test_cohort_generated` asks it about ten thousand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from cohort_generator import SEED, by_deciding_facts, cohort, day, generate
from plain_oracle import COVERED, SARC, compare, months_back, says

from sarc_kb.dates import parse_date
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial


def told(kb: KnowledgeBase, trial: Trial, count: int) -> Callable[[PatientRecord, str], str]:
    """Return what the program says of a generated patient; another engine gives another function."""
    outcomes = {j.name: j.clauses for j in cohort(trial, kb.terms, SEED, count)}
    return lambda record, clause: outcomes[record.label][clause].word


@pytest.mark.threat("D14")
def test_a_few_hundred_by_hand(kb: KnowledgeBase, trial: Trial) -> None:
    records = generate(trial, kb.terms, SEED, 400)
    found = compare(records, told(kb, trial, 400))
    assert found.differences == []
    silent = {c for c in COVERED if not found.passed[c] + found.failed[c]}
    assert silent == set()


def test_an_engine_that_errs_is_noticed(kb: KnowledgeBase, trial: Trial) -> None:
    """Turning one outcome of one clause round gives one difference."""
    right = told(kb, trial, 400)
    first = next(r for r in generate(trial, kb.terms, SEED, 400) if "I07a" in says(r))

    def wrong(record: PatientRecord, clause: str) -> str:
        outcome = right(record, clause)
        if (record.label, clause) == (first.label, "I07a"):
            return "fail" if outcome == "pass" else "pass"
        return outcome

    found = compare(generate(trial, kb.terms, SEED, 400), wrong)
    assert [d.split(":")[0] for d in found.differences] == [f"{first.label} I07a"]


# -- the oracle itself -----------------------------------------------------------------------------
ENTRY = parse_date("2024-03-01")


def record(*facts: Fact) -> PatientRecord:
    numbered = (replace(f, id=str(n)) for n, f in enumerate(facts))
    return PatientRecord("urn:x", "x", ENTRY, tuple(numbered))


def a(name: str, when: str = "2024-02-21", **more: object) -> Fact:
    at = parse_date(when)
    return Fact(id="", concepts=(SARC + name,), start=at, end=at, **more)  # type: ignore[arg-type]


def number(name: str, value: str, unit: str | None, **more: object) -> Fact:
    return a(name, value=Decimal(value), unit=unit, **more)


def complete(scope: str) -> Fact:
    return Fact(
        id="",
        kind=SARC + "CompletenessStatement",
        concepts=(SARC + scope,),
        end=parse_date("2024-03-01"),
    )


@pytest.mark.parametrize(
    ("clause", "facts", "expected"),
    [
        ("I07a", [number("Haemoglobin", "9.0", "g/dL")], True),
        ("I07a", [number("Haemoglobin", "89", "g/L")], False),
        ("I07a", [number("Haemoglobin", "9", "g/dL", comparator="<")], False),
        ("I07a", [number("Haemoglobin", "9", "g/dL", comparator="<=")], None),
        ("I07a", [number("Haemoglobin", "9", "g/dL", comparator=">=")], True),
        ("I07a", [number("Haemoglobin", "9", "mol/L")], None),
        ("I07c", [number("NeutrophilCount", "1499", "/uL")], False),
        ("I07h", [number("SerumCreatinine", "1.6965", "mg/dL")], True),
        ("I07h", [number("SerumCreatinine", "1.70", "mg/dL")], False),
        ("I07l", [number("SerumCreatinine", "150", "umol/L")], False),
        ("I07l", [number("SerumCreatinine", "150", "umol/L", comparator=">")], True),
        (
            "I07f",
            [number("ALT", "100", "U/L", upper_limit=Decimal(40))],
            True,
        ),
        (
            "I07f",
            [number("ALT", "1.7", "ukat/L", upper_limit=Decimal(40), upper_limit_unit="U/L")],
            False,
        ),
        ("I07f", [number("ALT", "100", "U/L")], None),
        ("E12", [a("RedCellTransfusion", "2024-02-16")], False),
        ("E12", [a("RedCellTransfusion", "2024-02-15"), complete("ProcedureHistory")], True),
        ("E12", [a("RedCellTransfusion", "2024-02-15")], None),
        ("E12", [a("RedCellTransfusion", "2024-02")], None),
        ("E07b", [a("MyocardialInfarction", "2023-12-01")], False),
        ("E07b", [a("MyocardialInfarction", "2023-11-30"), complete("ConditionHistory")], True),
        ("I03", [a("Birth", "2006-03-01")], True),
        ("I03", [a("Birth", "2006-03-02")], False),
        ("I03", [a("Birth", "2006")], None),
    ],
)
def test_the_oracle_by_hand(clause: str, facts: list[Fact], expected: bool | None) -> None:
    assert says(record(*facts)).get(clause) is expected


def test_months_end_where_the_month_does() -> None:
    assert months_back(date(2024, 8, 31), 6) == date(2024, 2, 29)
    assert months_back(date(2024, 2, 29), 24) == date(2022, 2, 28)
    assert months_back(date(2024, 1, 15), 3) == date(2023, 10, 15)
    assert day(date(2024, 1, 15).toordinal()).text == "2024-01-15"


def test_an_allergy_is_no_treatment(kb: KnowledgeBase, trial: Trial) -> None:
    """A known allergy to anlotinib, found two months before entry or nobody knows when, is no
    previous treatment (exclusion 1), and the study's own treatment does not start with it."""
    found = []
    for when in ("2024-01-10", None):
        allergy = a("AnlotinibHypersensitivity", when or "2024-01-10", kind=SARC + "Allergy")
        if when is None:
            allergy = replace(allergy, start=None, end=None)
        scopes = ("MedicationHistory", "ProcedureHistory")
        one = record(allergy, *(complete(s) for s in scopes))
        outcomes = by_deciding_facts(one, trial, kb.terms).clauses
        found += [outcomes[c].word for c in ("E01", "E12", "E14a")]
    assert found == ["pass"] * 6
