"""The FHIR result: valid R4 resources that say what the assessment says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings

from sarc_kb.assessment import (
    AssessmentSet,
    Conclusion,
    Period,
    TreatmentOutcome,
    Verdict,
)
from sarc_kb.errors import Finding
from sarc_kb.reports.fhir_report import render_fhir
from tests.test_reports import ALONE, ANNA, ANYTHING, COURSE, OPEN, STORY, TREATED, harmless, often


def bundle(result: AssessmentSet) -> dict[str, Any]:
    """Return the document, after the FHIR models have read it and written the same again."""
    text = render_fhir(result)
    document = json.loads(text)
    model = Bundle.model_validate(document)
    assert json.loads(model.model_dump_json()) == document
    return document


def responses(result: AssessmentSet) -> list[dict[str, Any]]:
    entries = [e["resource"] for e in bundle(result)["entry"]]
    return [r for r in entries if r["resourceType"] == "GuidanceResponse"]


def contained(response: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (r for r in response["contained"] if r["resourceType"] == kind)
    return found


def test_one_patient_by_hand() -> None:
    (anna,) = responses(ALONE)
    assert anna["status"] == "success"
    assert anna["moduleUri"] == "https://w3id.org/sarc-kb/trial/TEST/"
    assert anna["subject"] == {
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "https://example.org/patient/anna"},
        "type": "Patient",
        "display": "anna",
    }
    assert anna["note"] == [{"text": "2 of 3 criteria fail: I07 blood, I11 consent."}]
    why = contained(anna, "OperationOutcome")
    assert anna["evaluationMessage"] == [{"reference": f"#{why['id']}"}]
    low = why["issue"][0]
    assert (low["severity"], low["code"]) == ("error", "business-rule")
    assert low["details"]["coding"] == [
        {"system": "https://w3id.org/sarc-kb/trial/TEST", "code": "I07a", "display": "haemoglobin"}
    ]
    assert low["details"]["text"] == "haemoglobin is below the lower limit"
    assert low["diagnostics"].splitlines() == [
        "asked for: haemoglobin ≥ 9 g/dL",
        "found: haemoglobin: 8.60 g/dL (Observation/hb-2, 2024-02-21 (9 days before entry))",
        "rests on: policy: laboratory-look-back",
        "protocol: Inclusion Criteria, item 7: “Haemoglobin ≥ 9 g/dL”",
        "what to do: check value and unit at source",
    ]
    # The mapping that is missing is told too, as a warning.
    assert [i["severity"] for i in why["issue"]] == ["error", "error", "warning", "warning"]
    told = contained(anna, "Parameters")["parameter"]
    assert told[0] == {"name": "verdict", "valueString": "ineligible"}
    outcomes = {
        part["part"][0]["valueString"]: part["part"][2]["valueString"]
        for part in told
        if part["name"] == "criterion"
    }
    assert outcomes == {"I07": "fail", "I11": "fail", "E12": "pass"}


def test_a_reference_of_the_record_stays_one() -> None:
    (anna,) = responses(replace(ALONE, assessments=(replace(ANNA, patient_iri="Patient/anna"),)))
    assert anna["subject"]["reference"] == "Patient/anna"


def test_what_is_missing_is_a_data_requirement() -> None:
    open_ = replace(
        OPEN,
        concept="https://w3id.org/sarc-kb/ontology#BloodTransfusion",
        record_kinds=("Procedure",),
        window=Period("2024-02-16", None),
    )
    criterion = replace(
        ANNA.criteria[0], outcome=OPEN.outcome, clauses=(open_,), decided_by=("I07b",)
    )
    undecided = replace(ANNA, verdict=Verdict.UNDETERMINED, criteria=(criterion,))
    (response,) = responses(replace(ALONE, assessments=(undecided,)))
    assert response["status"] == "data-required"
    assert response["dataRequirement"] == [
        {
            "type": "Procedure",
            "codeFilter": [
                {
                    "path": "code",
                    "code": [
                        {"system": "https://w3id.org/sarc-kb/ontology", "code": "BloodTransfusion"}
                    ],
                }
            ],
            "dateFilter": [{"path": "performed", "valuePeriod": {"start": "2024-02-16"}}],
        },
        {"type": "QuestionnaireResponse", "mustSupport": ["item.linkId", "item.answer"]},
    ]
    (issue,) = (
        i for i in contained(response, "OperationOutcome")["issue"] if i["code"] == "required"
    )
    assert issue["severity"] == "warning"
    assert "missing: a statement that procedures are complete" in issue["diagnostics"]


@pytest.mark.parametrize(
    ("verdict", "conclusion", "status"),
    [
        (Verdict.ELIGIBLE, None, "success"),
        (Verdict.INELIGIBLE, None, "success"),
        (Verdict.UNDETERMINED, None, "data-required"),
        (Verdict.ERROR, None, "failure"),
        (Verdict.ELIGIBLE, Conclusion.UNDETERMINED, "data-required"),
        (Verdict.INELIGIBLE, Conclusion.UNDETERMINED, "success"),
        (Verdict.UNDETERMINED, Conclusion.VIOLATION, "success"),
        (Verdict.NOT_ASKED, Conclusion.CONFORMANT, "success"),
    ],
)
def test_status(verdict: Verdict, conclusion: Conclusion | None, status: str) -> None:
    course = None if conclusion is None else replace(COURSE, conclusion=conclusion)
    assessment = replace(ANNA, verdict=verdict, treatment=course)
    (response,) = responses(replace(ALONE, assessments=(assessment,)))
    assert response["status"] == status


def test_a_course() -> None:
    (response,) = responses(TREATED)
    issues = contained(response, "OperationOutcome")["issue"]
    course = {i["details"]["coding"][0]["code"]: i["severity"] for i in issues}
    assert course["T07"] == "error"
    assert course["T04"] == "warning"
    assert course["T18"] == "information"
    told = contained(response, "Parameters")["parameter"]
    assert {"name": "treatment", "valueString": "violation"} in told
    assert sum(p["name"] == "treatmentRule" for p in told) == len(COURSE.rules)
    assert {r.outcome for r in COURSE.rules} >= {TreatmentOutcome.VIOLATION}


def test_several_patients_and_the_run() -> None:
    finding = Finding("USE001", "warning", "a.ttl", "no patient", "nothing to judge", "check it")
    document = bundle(replace(STORY, run_findings=(finding,)))
    kinds = [e["resource"]["resourceType"] for e in document["entry"]]
    assert kinds == ["GuidanceResponse"] * 3 + ["OperationOutcome"]
    bob = document["entry"][1]["resource"]
    assert bob["status"] == "failure"
    assert contained(bob, "OperationOutcome")["issue"][0]["severity"] == "fatal"


def test_equal_reports_are_two_entries() -> None:
    document = bundle(replace(STORY, assessments=(ANNA, ANNA)))
    assert len({e["fullUrl"] for e in document["entry"]}) == 2


@settings(often, max_examples=30)
@given(ANYTHING)
@pytest.mark.threat("C8")
def test_any_assessment_is_valid(result: AssessmentSet) -> None:
    text = render_fhir(result)
    assert harmless(text)
    assert render_fhir(result) == text
    document = bundle(result)
    entries = document.get("entry", [])
    assert len({e["fullUrl"] for e in entries}) == len(entries)
    assert len(entries) == len(result.assessments) + bool(result.run_findings)
