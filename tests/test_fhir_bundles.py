"""Laws of whole FHIR Bundles of every resource type, drawn by Hypothesis (`fhir_bundles`).

`test_fhir_inputs` holds the order and form of results with their specimens, `test_metamorphic` that
void facts say nothing; here the same is asked of resources of all types, tied to each other.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sarc_kb.facts import PatientRecord
from sarc_kb.judging import Standing, stand
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.rules import Trial
from sarc_kb.sources.fhir import FhirTerms, read_fhir
from sarc_kb.sources.fhir_resources.readers import CONSULTED, READERS, SUPPORTING
from sarc_kb.sources.read import read_sources
from tests import fhir_bundles as made

Json = dict[str, Any]
ENTRY = "2024-03-01"
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "fhir-eligible" / "bundle.json"
# The knowledge base is one for the session; many draws of whole Bundles take their time.
several = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def terms(kb: KnowledgeBase, trial: Trial) -> FhirTerms:
    return kb.reading_terms(trial).fhir


def read(document: object, terms: FhirTerms) -> PatientRecord:
    (record,) = read_fhir(json.dumps(document).encode(), "x", terms)
    return record


def said(record: PatientRecord) -> tuple[Any, ...]:
    """Return what a record says, without where it stood or what its codes are called."""
    facts = sorted(repr(fact) for fact in record.facts)
    return record.patient, record.entry, facts


def told(record: PatientRecord) -> Counter[tuple[str, str]]:
    return Counter((f.code, f.found) for f in record.findings)


def judged(record: PatientRecord, kb: KnowledgeBase, trial: Trial) -> Standing:
    (dated,) = with_entry_dates([record], None if record.entry else ENTRY, {})
    return stand(kb, dated, trial)


def test_every_type_that_is_read_is_drawn() -> None:
    drawn = {"Patient", "ResearchStudy", *made.KINDS}
    assert set(READERS) | SUPPORTING | CONSULTED | set(made.UNREAD) == drawn


@several
@given(made.records(), st.sampled_from(("collection", "searchset")))
def test_what_is_drawn_is_valid_fhir(bodies: list[Json], kind: str) -> None:
    Bundle.model_validate(made.bundle(bodies, kind))


@several
@given(made.records(), st.randoms(use_true_random=False))
@pytest.mark.threat("D16", "C6")
def test_the_order_of_entries_does_not_matter(
    terms: FhirTerms, bodies: list[Json], chance: random.Random
) -> None:
    first = read(made.bundle(bodies), terms)
    chance.shuffle(bodies)
    other = read(made.bundle(bodies), terms)
    assert said(other) == said(first)
    assert told(other) == told(first)


@several
@given(made.records(), st.sampled_from(made.UNREAD), st.data())
@pytest.mark.threat("E8")
def test_a_resource_of_a_type_that_is_not_read_changes_nothing(
    terms: FhirTerms, bodies: list[Json], name: str, data: st.DataObject
) -> None:
    before = read(made.bundle(bodies), terms)
    extra = {**data.draw(made.resources(name, 900)), "id": "extra"}
    after = read(made.bundle([*bodies, extra]), terms)
    assert said(after) == said(before)
    more, less = told(after) - told(before), told(before) - told(after)
    assert {code for code, _ in (*more, *less)} == {"DATA150"}


SAYING = {
    "DiagnosticReport": "conclusionCode",
    "FamilyMemberHistory": "condition",
    "QuestionnaireResponse": "item",
}
"""Without this element a resource says nothing of its own."""


def accounted(body: Json, record: PatientRecord, diagnoses: list[Any]) -> bool:
    """Whether a resource gave a fact, is named by a finding, is of a type that is counted or only
    looked up, or says nothing of its own; a report may also conclude what a Condition says."""
    kind, name = body["resourceType"], f"{body['resourceType']}/{body['id']}"
    if kind == "Patient" or kind in (SUPPORTING | CONSULTED):
        return True
    if any(fact.source == name for fact in record.facts):
        return True
    if any(f.where.endswith(name) for f in record.findings):
        return True
    if kind in [f.found.split()[1] for f in record.findings if f.code == "DATA150"]:
        return True
    said_by = body.get(SAYING.get(kind, ""), [])
    known = [c for concept in said_by for c in concept.get("coding", []) if c in diagnoses]
    return kind in SAYING and (not said_by or bool(known))


@several
@given(made.records(most=8))
@pytest.mark.threat("D3", "E8")
def test_every_resource_is_accounted_for(terms: FhirTerms, bodies: list[Json]) -> None:
    record = read(made.bundle(bodies), terms)
    conditions = [b.get("code", {}) for b in bodies if b["resourceType"] == "Condition"]
    diagnoses = [coding for code in conditions for coding in code.get("coding", [])]
    assert [b for b in bodies if not accounted(b, record, diagnoses)] == []


@several
@given(made.records(), st.randoms(use_true_random=False))
@pytest.mark.threat("D16", "E5")
def test_a_bundle_split_into_lines_is_judged_alike(
    kb: KnowledgeBase,
    trial: Trial,
    tmp_path_factory: pytest.TempPathFactory,
    bodies: list[Json],
    chance: random.Random,
) -> None:
    reading = kb.reading_terms(trial)
    whole = read(made.bundle(bodies), reading.fhir)
    chance.shuffle(bodies)
    folder = tmp_path_factory.mktemp("lines")
    for part in range(2):
        text = "".join(json.dumps(body) + "\n" for body in bodies[part::2])
        (folder / f"{part}.ndjson").write_text(text, encoding="utf-8")
    (lines,) = read_sources([folder], reading)[0]
    assert said(lines) == said(whole)
    assert judged(lines, kb, trial) == judged(whole, kb, trial)


@pytest.fixture(scope="module")
def eligible() -> list[Json]:
    """The resources of a patient for whom every void resource could spoil something."""
    bodies = [entry["resource"] for entry in json.loads(EXAMPLE.read_bytes())["entry"]]
    (person,) = (b for b in bodies if b["resourceType"] == "Patient")
    text = json.dumps(bodies).replace(f"Patient/{person['id']}", f"Patient/{made.PERSON}")
    renamed: list[Json] = json.loads(text)
    for body in renamed:
        if body["resourceType"] == "Patient":
            body["id"] = made.PERSON
    return renamed


@several
@given(st.lists(made.void(), min_size=1, max_size=4))
@pytest.mark.threat("E1", "D16")
def test_what_was_entered_in_error_never_changes_how_a_patient_stands(
    kb: KnowledgeBase, trial: Trial, terms: FhirTerms, eligible: list[Json], errors: list[Json]
) -> None:
    for number, body in enumerate(errors):
        body["id"] = f"void-{number}"
    before = judged(read(eligible, terms), kb, trial)
    after = judged(read([*eligible, *errors], terms), kb, trial)
    assert after == before


def test_the_same_resources_in_force_do_change_how_a_patient_stands(
    kb: KnowledgeBase, trial: Trial, terms: FhirTerms, eligible: list[Json]
) -> None:
    """Else the law above would hold of anything."""
    low = {
        "resourceType": "Observation",
        "id": "low",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{made.PERSON}"},
        "effectiveDateTime": "2024-03-01",
        "valueQuantity": {"value": 5, "system": made.UCUM, "code": "g/dL"},
    }
    before = judged(read(eligible, terms), kb, trial)
    assert judged(read([*eligible, low], terms), kb, trial) != before
    error = {**low, "status": made.VOID}
    assert judged(read([*eligible, error], terms), kb, trial) == before
