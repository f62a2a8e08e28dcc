"""FHIR R4 to facts: what each resource says, what is refused, and whose it is."""

from __future__ import annotations

import copy
import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import text_iri
from sarc_kb.sources.fhir import FhirDataSet, FhirTerms, Limits, read_fhir
from sarc_kb.sources.fhir_resources.elements import iri_safe
from sarc_kb.sources.fhir_resources.readers import READERS

DATA = Path(__file__).parent / "data" / "fhir"
SARC = "https://w3id.org/sarc-kb/ontology#"
TRIAL = "https://w3id.org/sarc-kb/trial/NCT00000001"
SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM = "http://unitsofmeasure.org"
THO = "http://terminology.hl7.org/CodeSystem"
ABSENT = f"{THO}/data-absent-reason"
TERMS = FhirTerms(
    systems={SNOMED: "http://snomed.info/id/", LOINC: "http://loinc.org/"},
    questions={
        "I08a": f"{TRIAL}/I08a",
        "transfusion-14-days": f"{TRIAL}/question-transfusion-14-days",
    },
    study_ids={"NCT00000001": f"{TRIAL}/study"},
    term=lambda name: SARC + name,
    names={"anlotinib": SARC + "Anlotinib"},
)
ANNA = {"resourceType": "Patient", "id": "anna", "gender": "female", "birthDate": "1970-05-02"}
Json = dict[str, Any]


def coded(code: str, system: str = SNOMED, **rest: Any) -> Json:
    return {"coding": [{"system": system, "code": code, **rest}]}


def resource(kind: str, **rest: Any) -> Json:
    subject = {
        "AllergyIntolerance": "patient",
        "FamilyMemberHistory": "patient",
        "Consent": "patient",
        "ResearchSubject": "individual",
    }.get(kind, "subject")
    body = {"resourceType": kind, "id": "x", subject: {"reference": "Patient/anna"}, **rest}
    return {key: value for key, value in body.items() if value is not None}


def observation(**rest: Any) -> Json:
    given = {"status": "final", "code": coded("718-7", LOINC), "effectiveDateTime": "2024-02-21"}
    return resource("Observation", **{**given, **rest})


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def read(*resources: Json) -> PatientRecord:
    """Return the one patient's record of an array of resources."""
    (record,) = read_fhir(encode([ANNA, *resources]), "test.json", TERMS)
    return record


def facts_of(record: PatientRecord) -> list[Fact]:
    """Return the facts without those of the Patient resource."""
    return [f for f in record.facts if not f.source.startswith("Patient/")]


def one(*resources: Json) -> Fact:
    """Return the only fact that resources give."""
    (fact,) = facts_of(read(*resources))
    return fact


def codes(findings: Iterable[Finding]) -> list[str]:
    return [f.code for f in findings]


def short(iri: str | None) -> str | None:
    return iri.removeprefix(SARC) if iri else iri


def text(date: Any) -> str | None:
    return date.text if date else None


# -- a whole record --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anna() -> PatientRecord:
    (record,) = read_fhir((DATA / "record.json").read_bytes(), "record.json", TERMS)
    return record


def test_record_is_named_and_dated(anna: PatientRecord) -> None:
    assert (anna.patient, anna.label, text(anna.entry)) == ("Patient/anna", "anna", "2024-03-01")
    assert anna.origin == "record.json"
    assert len(anna.sha256) == 64


def test_record_gives_these_facts_and_no_others(anna: PatientRecord) -> None:
    given = {f.id: (short(f.kind), tuple(map(short, f.concepts))) for f in anna.facts}
    snomed = "http://snomed.info/id/"
    assert given == {
        "Patient/anna#birth": ("Demographic", ("Birth",)),
        "Patient/anna#sex": ("Demographic", ("Sex",)),
        "Condition/thigh": (
            "Condition",
            (snomed + "424952003", "http://hl7.org/fhir/sid/icd-10/C49.2"),
        ),
        "Condition/thigh#histology-1": ("Measurement", ("Histology",)),
        "Condition/thigh#recurrence": ("Condition", ("LocalRecurrence",)),
        "Observation/size#component-1": ("Measurement", ("http://loinc.org/33728-7",)),
        "Observation/size#component-2": ("Measurement", ("http://loinc.org/33729-5",)),
        "Observation/alt": ("Measurement", ("http://loinc.org/1742-6",)),
        "Observation/willing": ("Attestation", (f"{TRIAL}/I08a",)),
        "Procedure/biopsy": ("Procedure", (snomed + "86273004",)),
        "MedicationAdministration/dox#ingredient-1": ("MedicationUse", (f"{RXNORM}/3639",)),
        "MedicationRequest/anlo": ("MedicationUse", ("Anlotinib",)),
        "AllergyIntolerance/penicillin": ("Allergy", (snomed + "91936005",)),
        "AllergyIntolerance/penicillin#reaction-1": ("Allergy", (f"{RXNORM}/7984",)),
        "FamilyMemberHistory/father#condition-1": ("FamilyHistory", (snomed + "9651007",)),
        "Consent/signed": ("Consent", ("InformedConsent",)),
        "ResearchSubject/7": ("StudyParticipation", ("Study", "InterventionalStudy")),
        "QuestionnaireResponse/list#answer-1": (
            "Attestation",
            (f"{TRIAL}/question-transfusion-14-days",),
        ),
    }
    assert all(f.source == f.id.partition("#")[0] for f in anna.facts)
    assert {short(f.status) for f in anna.facts} == {"Confirmed"}


def test_record_reports_what_it_did_not_use(anna: PatientRecord) -> None:
    assert [(f.code, f.found) for f in anna.findings] == [
        ("DATA150", "1 BodyStructure"),
        ("DATA150", "1 Specimen"),
        ("DATA151", "1 answers to other questions"),
        ("DATA152", "1 DiagnosticReport without conclusionCode or result"),
    ]


def test_what_speaks_in_words_alone_is_told() -> None:
    subject = {"subject": {"reference": "Patient/anna"}}
    silent = [
        {"resourceType": "DiagnosticReport", "status": "final", "conclusion": "sarcoma", **subject},
        {"resourceType": "DiagnosticReport", "status": "final", "presentedForm": [{}], **subject},
        {
            "resourceType": "FamilyMemberHistory",
            "status": "completed",
            "patient": {"reference": "Patient/anna"},
        },
        {"resourceType": "QuestionnaireResponse", "status": "completed", **subject},
    ]
    record = read(*silent)
    assert facts_of(record) == []
    assert [(f.code, f.found) for f in record.findings] == [
        ("DATA152", "1 FamilyMemberHistory without condition"),
        ("DATA152", "1 QuestionnaireResponse without item"),
        ("DATA152", "2 DiagnosticReport without conclusionCode or result"),
    ]
    report = {**silent[0], "id": "r", "conclusionCode": [{"coding": [{"code": "x"}]}]}
    assert "DATA152" not in codes(read(report).findings)


def test_facts_of_one_tumour_share_its_condition(anna: PatientRecord) -> None:
    together = {f.id for f in anna.facts if f.tumour == "Condition/thigh"}
    assert together == {
        "Condition/thigh",
        "Condition/thigh#histology-1",
        "Condition/thigh#recurrence",
        "Observation/size#component-1",
        "Observation/size#component-2",
        "Procedure/biopsy",
        "MedicationAdministration/dox#ingredient-1",
    }
    assert {f.tumour for f in anna.facts} == {"Condition/thigh", None}


def test_labels_are_what_the_record_calls_its_codes(anna: PatientRecord) -> None:
    assert anna.labels["http://snomed.info/id/424952003"] == "Sarcoma of soft tissue"
    assert "http://hl7.org/fhir/sid/icd-10/C49.2" not in anna.labels


@pytest.mark.threat("D16")
def test_order_of_the_input_does_not_matter(anna: PatientRecord) -> None:
    bundle = json.loads((DATA / "record.json").read_text(encoding="utf-8"))
    random.Random(7).shuffle(bundle["entry"])
    (shuffled,) = read_fhir(encode(bundle), "record.json", TERMS)
    assert shuffled.facts == anna.facts
    assert {f.found for f in shuffled.findings} == {f.found for f in anna.findings}


# -- Patient ---------------------------------------------------------------------------------


def test_patient_gives_birth_and_coded_sex() -> None:
    birth, sex = read().facts
    assert (short(birth.concepts[0]), text(birth.start), text(birth.end)) == (
        "Birth",
        "1970-05-02",
        "1970-05-02",
    )
    assert sex.value_concepts == ("http://hl7.org/fhir/administrative-gender/female",)


@pytest.mark.parametrize(
    ("deceased", "expected"),
    [
        ({}, None),
        ({"deceasedBoolean": False}, None),
        ({"deceasedBoolean": True}, (None,)),
        ({"deceasedDateTime": "2024-03"}, ("2024-03",)),
        ({"deceasedDateTime": "unknown"}, (None,)),
    ],
)
def test_patient_deceased(deceased: Json, expected: tuple[str | None] | None) -> None:
    (record,) = read_fhir(encode({**ANNA, **deceased}), "p", TERMS)
    deaths = [(text(f.start),) for f in record.facts if short(f.concepts[0]) == "Death"]
    assert deaths == ([] if expected is None else [expected])


def test_patient_without_birth_date_or_with_an_unreadable_one_stays() -> None:
    (record,) = read_fhir(encode({**ANNA, "birthDate": "02.05.1970"}), "p", TERMS)
    assert [short(f.concepts[0]) for f in record.facts] == ["Sex"]
    assert codes(record.findings) == ["DATA125"]
    assert "1970" not in str(record.findings[0])


# -- statuses --------------------------------------------------------------------------------

OBSERVATION = {
    "registered": "Preliminary",
    "preliminary": "Preliminary",
    "final": "Confirmed",
    "amended": "Confirmed",
    "corrected": "Confirmed",
    "cancelled": "Cancelled",
    "entered-in-error": "EnteredInError",
    "unknown": "Suspected",
}


@pytest.mark.parametrize(("status", "expected"), OBSERVATION.items())
@pytest.mark.threat("E1")
def test_observation_status(status: str, expected: str) -> None:
    fact = one(observation(status=status, valueQuantity={"value": 9}))
    assert short(fact.status) == expected
    assert fact.value == 9


EVENT = {
    "preparation": ("Planned", None),
    "in-progress": ("Confirmed", True),
    "not-done": ("NotDone", None),
    "on-hold": ("Confirmed", None),
    "stopped": ("Confirmed", False),
    "completed": ("Confirmed", False),
    "entered-in-error": ("EnteredInError", None),
    "unknown": ("Suspected", None),
}


@pytest.mark.parametrize("status", EVENT)
@pytest.mark.threat("E1")
def test_procedure_and_administration_status(status: str) -> None:
    procedure = one(resource("Procedure", status=status, code=coded("86273004")))
    given = one(
        resource("MedicationAdministration", status=status, medicationCodeableConcept=coded("1"))
    )
    assert (short(procedure.status), procedure.ongoing) == EVENT[status]
    assert (short(given.status), given.ongoing) == EVENT[status]


REQUEST = {
    "draft": ("Planned", None),
    "active": ("Confirmed", True),
    "on-hold": ("Suspected", None),
    "cancelled": ("Cancelled", None),
    "stopped": ("Confirmed", False),
    "completed": ("Confirmed", False),
    "entered-in-error": ("EnteredInError", None),
    "unknown": ("Suspected", None),
}


def request(**rest: Any) -> Json:
    given = {
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded("3639", RXNORM),
    }
    return resource("MedicationRequest", **{**given, **rest})


@pytest.mark.parametrize(("status", "expected"), REQUEST.items())
@pytest.mark.threat("E1")
def test_medication_request_status(status: str, expected: tuple[str, bool | None]) -> None:
    fact = one(request(status=status))
    assert (short(fact.status), fact.ongoing) == expected


@pytest.mark.parametrize(
    ("intent", "expected"),
    [
        ("proposal", "Planned"),
        ("plan", "Planned"),
        ("option", "Planned"),
        ("order", "Confirmed"),
        ("original-order", "Confirmed"),
        ("reflex-order", "Confirmed"),
        ("filler-order", "Confirmed"),
        ("instance-order", "Confirmed"),
        ("wish", "Suspected"),
        (None, "Suspected"),
    ],
)
def test_medication_request_intent(intent: str | None, expected: str) -> None:
    assert short(one(request(intent=intent)).status) == expected


@pytest.mark.threat("E2")
def test_what_is_not_to_be_given_is_not_given() -> None:
    forbidden = one(request(doNotPerform=True))
    assert (short(forbidden.status), forbidden.ongoing) == ("NotDone", None)
    assert short(one(request(doNotPerform=False)).status) == "Confirmed"
    # Being forbidden does not make a void order count again.
    void = one(request(doNotPerform=True, status="entered-in-error"))
    assert short(void.status) == "EnteredInError"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("active", ("Confirmed", True)),
        ("completed", ("Confirmed", False)),
        ("entered-in-error", ("EnteredInError", None)),
        ("intended", ("Planned", None)),
        ("stopped", ("Confirmed", False)),
        ("on-hold", ("Confirmed", None)),
        ("unknown", ("Suspected", None)),
        ("not-taken", ("NotDone", None)),
    ],
)
@pytest.mark.threat("E1")
def test_medication_statement_status(status: str, expected: tuple[str, bool | None]) -> None:
    fact = one(resource("MedicationStatement", status=status, medicationCodeableConcept=coded("1")))
    assert (short(fact.status), fact.ongoing) == expected


VERIFICATION = {
    "unconfirmed": "Suspected",
    "provisional": "Suspected",
    "differential": "Suspected",
    "confirmed": "Confirmed",
    "refuted": "Refuted",
    "entered-in-error": "EnteredInError",
}


@pytest.mark.parametrize(("status", "expected"), VERIFICATION.items())
@pytest.mark.threat("E1")
def test_condition_verification(status: str, expected: str) -> None:
    verified = coded(status, f"{THO}/condition-ver-status")
    fact = one(resource("Condition", code=coded("1"), verificationStatus=verified))
    assert short(fact.status) == expected


@pytest.mark.parametrize("status", ["unconfirmed", "confirmed", "refuted", "entered-in-error"])
@pytest.mark.threat("E1")
def test_allergy_verification(status: str) -> None:
    verified = coded(status, f"{THO}/allergyintolerance-verification")
    fact = one(resource("AllergyIntolerance", code=coded("1"), verificationStatus=verified))
    assert short(fact.status) == VERIFICATION[status]


CLINICAL = {
    "active": True,
    "recurrence": True,
    "relapse": True,
    "inactive": False,
    "remission": False,
    "resolved": False,
}


@pytest.mark.parametrize(("status", "ongoing"), CLINICAL.items())
def test_condition_clinical_status(status: str, ongoing: bool) -> None:
    clinical = coded(status, f"{THO}/condition-clinical")
    record = read(resource("Condition", code=coded("1"), clinicalStatus=clinical))
    assert {f.ongoing for f in facts_of(record)} == {ongoing}
    again = [f for f in record.facts if short(f.concepts[0]) == "LocalRecurrence"]
    assert len(again) == (status == "recurrence")


@pytest.mark.parametrize(
    ("status", "ongoing"), [("active", True), ("inactive", False), ("resolved", False)]
)
def test_allergy_clinical_status(status: str, ongoing: bool) -> None:
    clinical = coded(status, f"{THO}/allergyintolerance-clinical")
    fact = one(resource("AllergyIntolerance", code=coded("1"), clinicalStatus=clinical))
    assert fact.ongoing is ongoing


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("partial", "Confirmed"),
        ("completed", "Confirmed"),
        ("entered-in-error", "EnteredInError"),
        ("health-unknown", "Suspected"),
    ],
)
@pytest.mark.threat("E1")
def test_family_history_status(status: str, expected: str) -> None:
    fact = one(resource("FamilyMemberHistory", status=status, condition=[{"code": coded("1")}]))
    assert short(fact.status) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("candidate", ("Planned", None)),
        ("potential-candidate", ("Planned", None)),
        ("eligible", ("Planned", None)),
        ("screening", ("Planned", None)),
        ("pending-on-study", ("Planned", None)),
        ("ineligible", ("NotDone", None)),
        ("not-registered", ("NotDone", None)),
        ("on-study", ("Confirmed", True)),
        ("on-study-intervention", ("Confirmed", True)),
        ("on-study-observation", ("Confirmed", True)),
        ("follow-up", ("Confirmed", True)),
        ("off-study", ("Confirmed", False)),
        ("withdrawn", ("Confirmed", False)),
    ],
)
def test_research_subject_status(status: str, expected: tuple[str, bool | None]) -> None:
    fact = one(resource("ResearchSubject", status=status))
    assert (short(fact.status), fact.ongoing) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("completed", "Confirmed"),
        ("amended", "Confirmed"),
        ("in-progress", "Preliminary"),
        ("stopped", "Preliminary"),
        ("entered-in-error", "EnteredInError"),
    ],
)
def test_questionnaire_response_status(status: str, expected: str) -> None:
    items = [{"linkId": "I08a", "answer": [{"valueBoolean": True}]}]
    fact = one(resource("QuestionnaireResponse", status=status, item=items))
    assert short(fact.status) == expected


@pytest.mark.parametrize("kind", ["Observation", "Procedure", "MedicationStatement", "Consent"])
@pytest.mark.parametrize("status", [None, "Final", 7, ["final"]])
@pytest.mark.threat("E1")
def test_a_status_that_fhir_does_not_know_counts_as_possible_only(kind: str, status: Any) -> None:
    record = read(resource(kind, status=status, code=coded("1"), category=[coded("2")]))
    assert {short(f.status) for f in facts_of(record)} == {"Suspected"}
    assert "DATA121" in codes(record.findings)


def test_a_verification_that_fhir_does_not_know_counts_as_possible_only() -> None:
    for verified in (coded("sure", f"{THO}/condition-ver-status"), coded("confirmed", "urn:x")):
        record = read(resource("Condition", code=coded("1"), verificationStatus=verified))
        assert [short(f.status) for f in facts_of(record)] == ["Suspected"]
        assert codes(record.findings) == ["DATA121"]


# -- Condition -------------------------------------------------------------------------------


def test_condition_dates() -> None:
    fact = one(
        resource(
            "Condition",
            code=coded("1"),
            onsetDateTime="2019-04",
            abatementDateTime="2020",
            recordedDate="2021-01-01",
        )
    )
    assert (text(fact.start), text(fact.end), fact.ongoing) == ("2019-04", "2020", False)
    assert text(fact.recorded) == "2021-01-01"


@pytest.mark.parametrize(
    "onset",
    [{"onsetAge": {"value": 50}}, {"onsetString": "spring"}, {"onsetPeriod": {"start": "2019"}}],
)
def test_condition_onset_that_is_not_a_date(onset: Json) -> None:
    record = read(resource("Condition", code=coded("1"), **onset))
    assert [f.start for f in facts_of(record)] == [None]
    assert codes(record.findings) == ["DATA125"]


@pytest.mark.parametrize("abatement", [{"abatementString": "gone"}, {"abatementAge": {"value": 3}}])
@pytest.mark.threat("E2")
def test_condition_that_ended_nobody_knows_when(abatement: Json) -> None:
    fact = one(resource("Condition", code=coded("1"), **abatement))
    assert (fact.end, fact.ongoing) == (None, False)


def test_condition_that_ended_and_goes_on_is_told() -> None:
    active = coded("active", f"{THO}/condition-clinical")
    record = read(
        resource("Condition", code=coded("1"), clinicalStatus=active, abatementDateTime="2020")
    )
    assert [(text(f.end), f.ongoing) for f in facts_of(record)] == [("2020", None)]
    assert codes(record.findings) == ["DATA122"]


def test_histology_and_recurrence_are_facts_of_the_same_tumour(anna: PatientRecord) -> None:
    tumour, histology, again = (f for f in anna.facts if f.source == "Condition/thigh")
    assert histology.value_concepts == ("http://snomed.info/id/51549004",)
    assert (SARC + "method", "http://snomed.info/id/252416005") in histology.axes
    assert (SARC + "bodySite", "http://snomed.info/id/68367000") in tumour.axes
    assert [text(f.start) for f in (tumour, histology, again)] == ["2023-11", "2023-11", None]
    assert [text(f.recorded) for f in (tumour, histology, again)] == ["2024-01-12"] * 3
    assert tumour.ongoing is True


MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
RELATED = "http://hl7.org/fhir/StructureDefinition/condition-related"


@pytest.mark.parametrize(
    ("url", "profile", "expected"),
    [
        (MCODE + "related-primary-cancer-condition", "", "Condition/primary"),
        (RELATED, MCODE + "secondary-cancer-condition", "Condition/primary"),
        (RELATED, "", "Condition/x"),
    ],
)
def test_a_metastasis_belongs_to_its_primary(url: str, profile: str, expected: str) -> None:
    primary = resource("Condition", id="primary", code=coded("1"))
    extension = {"url": url, "valueReference": {"reference": "Condition/primary"}}
    meta = {"profile": [profile]}
    record = read(primary, resource("Condition", code=coded("2"), extension=[extension], meta=meta))
    assert {f.id: f.tumour for f in facts_of(record)}["Condition/x"] == expected


# -- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value": 9.40, "system": UCUM, "code": "g/dL", "unit": "g per dl"}, "g/dL"),
        ({"value": 9.40, "unit": "g/dl"}, "g/dl"),
        ({"value": 9.40, "system": "urn:units", "code": "G", "unit": "g/dl"}, "g/dl"),
        ({"value": 9.40, "code": "g/dL"}, "g/dL"),
        ({"value": 9.40}, None),
    ],
)
def test_unit_is_the_ucum_code_else_what_is_printed(value: Json, expected: str | None) -> None:
    fact = one(observation(valueQuantity=value))
    assert (fact.value, fact.unit) == (Decimal("9.4"), expected)


@pytest.mark.parametrize("comparator", ["<", "<=", ">=", ">"])
def test_comparator_is_kept(comparator: str) -> None:
    fact = one(observation(valueQuantity={"value": 5, "comparator": comparator}))
    assert (fact.value, fact.comparator) == (5, comparator)


@pytest.mark.threat("D9")
def test_decimals_stay_exact() -> None:
    data = encode([ANNA, observation(valueQuantity={"value": 0})]).replace(
        b'"value": 0', b'"value": 8.90'
    )
    (record,) = read_fhir(data, "x", TERMS)
    value = facts_of(record)[0].value
    assert isinstance(value, Decimal)
    assert str(value) == "8.90"


def test_coded_boolean_and_integer_values() -> None:
    positive = coded("10828004") | {"text": "positive"}
    positive["coding"].append({"system": LOINC, "code": "LA6576-8"})
    assert one(observation(valueCodeableConcept=positive)).value_concepts == (
        "http://snomed.info/id/10828004",
        "http://loinc.org/LA6576-8",
    )
    assert one(observation(valueBoolean=True)).value_concepts == (SARC + "Yes",)
    assert one(observation(valueBoolean=False)).value_concepts == (SARC + "No",)
    assert one(observation(valueInteger=2)).value == 2


@pytest.mark.threat("D5")
def test_text_is_never_a_number() -> None:
    fact = one(observation(valueString="9.4 g/dL"))
    assert (fact.value, fact.value_text, fact.value_concepts) == (None, "9.4 g/dL", ())


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"valueQuantity": {"value": "9.5"}}, "DATA124"),
        ({"valueQuantity": {"unit": "g/dL"}}, "DATA124"),
        ({"valueQuantity": {"value": True}}, "DATA124"),
        ({"valueQuantity": {"value": 9, "comparator": "ad"}}, "DATA124"),
        ({"valueQuantity": 9}, "DATA124"),
        ({"valueInteger": "2"}, "DATA124"),
        ({"valueInteger": True}, "DATA124"),
        ({"valueBoolean": "true"}, "DATA124"),
        ({"valueRatio": {"numerator": {"value": 1}}}, "DATA124"),
        ({"valueInteger": 2, "valueString": "two"}, "DATA122"),
    ],
)
@pytest.mark.threat("E8")
def test_a_value_that_cannot_be_read_is_unreadable_not_absent(value: Json, code: str) -> None:
    record = read(observation(**value))
    (fact,) = facts_of(record)
    assert fact.value is None
    assert fact.value_text
    assert codes(record.findings) == [code]


@pytest.mark.parametrize("digits", ["1" * 41, "1e500", "1E-500", "0." + "1" * 60])
@pytest.mark.threat("B11", "D4")
def test_an_outsized_number_is_no_number(digits: str) -> None:
    data = encode([ANNA, observation(valueQuantity={"value": 0})])
    (record,) = read_fhir(data.replace(b'"value": 0', b'"value": ' + digits.encode()), "x", TERMS)
    (fact,) = facts_of(record)
    assert (fact.value, codes(record.findings)) == (None, ["DATA124"])
    assert fact.value_text


@pytest.mark.threat("E2")
def test_absent_value_stays_unknown() -> None:
    absent = coded("unsatisfactory", ABSENT)
    fact = one(observation(dataAbsentReason=absent))
    assert (fact.value, fact.value_text, fact.value_concepts) == (None, None, ())
    record = read(observation(dataAbsentReason=absent, valueInteger=2))
    assert [f.value for f in facts_of(record)] == [None]
    assert codes(record.findings) == ["DATA122"]


def test_components_have_the_parents_date_and_their_own_value(anna: PatientRecord) -> None:
    longest, other = (f for f in anna.facts if f.source == "Observation/size")
    assert (longest.value, longest.unit) == (Decimal("8.2"), "cm")
    assert (other.value, other.value_text) == (None, None)
    for fact in (longest, other):
        assert text(fact.start) == text(fact.end) == "2024-02-20T09:30:00+08:00"
        assert text(fact.recorded) == "2024-02-20T11:00:00.000+08:00"
        assert fact.axes == ((SARC + "method", "http://snomed.info/id/113091000"),)


def test_a_parent_with_a_value_is_a_fact_beside_its_components() -> None:
    component = {"code": coded("8480-6", LOINC), "valueInteger": 120}
    record = read(observation(valueInteger=1, component=[component]))
    assert {f.id: f.value for f in facts_of(record)} == {
        "Observation/x": 1,
        "Observation/x#component-1": 120,
    }


def test_a_group_of_observations_is_not_a_result() -> None:
    group = observation(id="group", hasMember=[{"reference": "Observation/x"}])
    assert [f.source for f in facts_of(read(group, observation(valueInteger=1)))] == [
        "Observation/x"
    ]


@pytest.mark.parametrize(
    ("member", "told"),
    [({"reference": "Observation/elsewhere"}, ["DATA116"]), ({"display": "haemoglobin"}, [])],
)
def test_a_group_whose_members_are_elsewhere_is_a_result_that_nobody_knows(
    member: Json, told: list[str]
) -> None:
    record = read(observation(hasMember=[member]))
    (fact,) = facts_of(record)
    assert (fact.source, fact.value, fact.value_text) == ("Observation/x", None, None)
    assert codes(record.findings) == told


def test_an_observation_without_a_value_is_still_told() -> None:
    assert one(observation()).concepts == ("http://loinc.org/718-7",)


MEANING = f"{THO}/referencerange-meaning"


@pytest.mark.parametrize(
    ("ranges", "limit", "unit", "findings"),
    [
        ([{"high": {"value": 40, "unit": "U/L"}}], 40, "U/L", []),
        ([{"high": {"value": 40}, "type": coded("normal", MEANING)}], 40, None, []),
        ([{"high": {"value": 40}, "type": coded("treatment", MEANING)}], None, None, []),
        ([{"low": {"value": 3}}], None, None, []),
        ([{"text": "0-40"}], None, None, []),
        ([{"high": {"value": 40}}, {"high": {"value": 40}}], 40, None, []),
        ([{"high": {"value": 40}}, {"high": {"value": 55}}], None, None, ["DATA126"]),
        ([{"high": {"value": "40"}}], None, None, ["DATA126"]),
    ],
)
def test_upper_limit_of_normal(
    ranges: list[Json], limit: int | None, unit: str | None, findings: list[str]
) -> None:
    record = read(observation(valueInteger=9, referenceRange=ranges))
    (fact,) = facts_of(record)
    assert (fact.upper_limit, fact.upper_limit_unit) == (limit, unit)
    assert codes(record.findings) == findings


def test_comparator_and_limit_of_a_laboratory_result(anna: PatientRecord) -> None:
    (alt,) = (f for f in anna.facts if f.id == "Observation/alt")
    assert (alt.value, alt.comparator, alt.unit) == (5, "<", "U/L")
    assert (alt.upper_limit, alt.upper_limit_unit) == (Decimal(40), "IU/L")
    assert alt.axes == ((SARC + "specimen", "http://snomed.info/id/309072003"),)


@pytest.mark.parametrize(
    ("modalities", "expected"), [(["MR"], [f"{THO}/DCM/MR"]), (["MR", "CT"], []), ([], [])]
)
def test_method_is_the_modality_of_the_images_if_there_is_one(
    modalities: list[str], expected: list[str]
) -> None:
    study = resource(
        "ImagingStudy",
        id="mri",
        modality=[{"system": f"{THO}/DCM", "code": code} for code in modalities],
    )
    size = observation(valueInteger=8, derivedFrom=[{"reference": "ImagingStudy/mri"}])
    assert [code for _, code in one(study, size).axes] == expected
    own = observation(valueInteger=8, derivedFrom=size["derivedFrom"], method=coded("77477000"))
    assert [code for _, code in one(study, own).axes] == ["http://snomed.info/id/77477000"]


@pytest.mark.parametrize("other", ["RelatedPerson/donor", "Device/pump", "Group/g", "Patient/b"])
def test_an_observation_of_something_else_is_not_the_patients(other: str) -> None:
    record = read(observation(valueInteger=1, focus=[{"reference": other}]))
    assert facts_of(record) == []
    assert codes(record.findings) == ["DATA127"]


def test_an_observation_whose_focus_is_the_patient_counts() -> None:
    assert one(observation(valueInteger=1, focus=[{"reference": "Patient/anna"}])).value == 1


# -- dates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ({"effectiveDateTime": "2024-02"}, ("2024-02", "2024-02")),
        ({"effectiveInstant": "2024-02-21T08:00:00Z"}, ("2024-02-21T08:00:00Z",) * 2),
        ({"effectivePeriod": {"start": "2024-01", "end": "2024-02"}}, ("2024-01", "2024-02")),
        ({"effectivePeriod": {"start": "2024-02-01"}}, ("2024-02-01", None)),
        ({"effectivePeriod": {"end": "2024-02-03"}}, (None, "2024-02-03")),
    ],
)
def test_effective(effective: Json, expected: tuple[str | None, str | None]) -> None:
    record = read(observation(**{"effectiveDateTime": None, "valueInteger": 1, **effective}))
    (fact,) = facts_of(record)
    assert (text(fact.start), text(fact.end)) == expected
    assert record.findings == ()


@pytest.mark.parametrize(
    "effective",
    [
        {"effectiveDateTime": "21/02/2024"},
        {"effectiveDateTime": "2024-02-30"},
        {"effectiveDateTime": 20240221},
        {"effectivePeriod": "2024"},
        {"effectivePeriod": {"start": "2024-03-01", "end": "2024-02-01"}},
        {"effectiveTiming": {"event": ["2024-02-21"]}},
    ],
)
def test_a_fact_stays_where_its_date_cannot_be_read(effective: Json) -> None:
    record = read(observation(**{"effectiveDateTime": None, "valueInteger": 1, **effective}))
    (fact,) = facts_of(record)
    assert (fact.value, fact.start, fact.end) == (1, None, None)
    assert codes(record.findings) == ["DATA125"]
    assert "2024" not in str(record.findings[0])


def test_without_a_date_issued_is_when_it_was_recorded() -> None:
    fact = one(observation(effectiveDateTime=None, valueInteger=1, issued="2024-02-21T10:00:00Z"))
    assert (fact.start, text(fact.recorded)) == (None, "2024-02-21T10:00:00Z")


def test_what_goes_on_has_no_end() -> None:
    fact = one(
        resource("Procedure", status="in-progress", code=coded("1"), performedDateTime="2024-01-01")
    )
    assert (text(fact.start), fact.end, fact.ongoing) == ("2024-01-01", None, True)
    period = {"start": "2024-01-01", "end": "2024-06-01"}
    fact = one(resource("Procedure", status="in-progress", code=coded("1"), performedPeriod=period))
    assert (text(fact.start), text(fact.end), fact.ongoing) == ("2024-01-01", "2024-06-01", None)


@pytest.mark.parametrize("kind", ["performedAge", "performedString"])
def test_a_procedure_at_no_date_is_undated(kind: str) -> None:
    record = read(resource("Procedure", status="completed", code=coded("1"), **{kind: "x"}))
    assert [(f.start, f.end) for f in facts_of(record)] == [(None, None)]
    assert codes(record.findings) == ["DATA125"]


# -- medications -----------------------------------------------------------------------------


def bounds(**period: str) -> Json:
    return {"timing": {"repeat": {"boundsPeriod": period}}}


@pytest.mark.parametrize(
    ("dosages", "expected"),
    [
        ([], ("2024-02-28", None, True)),
        ([bounds(start="2024-03-04", end="2024-03-17")], ("2024-03-04", "2024-03-17", None)),
        ([bounds(start="2024-03-04")], ("2024-03-04", None, True)),
        (
            [bounds(start="2024-03-04", end="2024-03-17"), bounds(start="2024-03-01")],
            ("2024-03-01", None, True),
        ),
        ([bounds(start="2024-03-04", end="2024-03-17"), {}], ("2024-03-04", None, True)),
        ([{"timing": {"event": ["2024-03-08", "2024-03-05"]}}], ("2024-03-05", "2024-03-08", None)),
    ],
)
def test_an_order_is_used_from_its_dosage_or_from_when_it_was_written(
    dosages: list[Json], expected: tuple[str | None, str | None, bool | None]
) -> None:
    fact = one(request(authoredOn="2024-02-28", dosageInstruction=dosages))
    assert (text(fact.start), text(fact.end), fact.ongoing) == expected
    assert text(fact.recorded) == "2024-02-28"


def test_statement_dates() -> None:
    given = {"status": "active", "medicationCodeableConcept": coded("1"), "dateAsserted": "2024-02"}
    fact = one(resource("MedicationStatement", **given, effectiveDateTime="2023"))
    assert (text(fact.start), fact.end, text(fact.recorded)) == ("2023", None, "2024-02")
    fact = one(resource("MedicationStatement", **given, dosage=[bounds(start="2023-05-01")]))
    assert (text(fact.start), fact.ongoing) == ("2023-05-01", True)


def medication(**rest: Any) -> Json:
    return {"resourceType": "Medication", "id": "m", **rest}


def by_reference(**rest: Any) -> Json:
    return request(
        medicationCodeableConcept=None, medicationReference={"reference": "Medication/m"}, **rest
    )


def test_a_medication_is_followed() -> None:
    fact = one(medication(code=coded("3639", RXNORM)), by_reference())
    assert fact.concepts == (f"{RXNORM}/3639",)


def test_a_product_with_a_code_and_ingredients_is_each_of_them() -> None:
    ingredients = [{"itemCodeableConcept": coded(code, RXNORM)} for code in ("1", "2")]
    record = read(medication(code=coded("9", RXNORM), ingredient=ingredients), by_reference())
    assert [f.concepts for f in facts_of(record)] == [
        (f"{RXNORM}/9",),
        (f"{RXNORM}/1",),
        (f"{RXNORM}/2",),
    ]


def test_a_named_product_counts_beside_its_coded_ingredients() -> None:
    ingredients = [{"itemCodeableConcept": coded("1", RXNORM)}]
    record = read(medication(code={"text": "Anlotinib"}, ingredient=ingredients), by_reference())
    assert [f.concepts for f in facts_of(record)] == [(SARC + "Anlotinib",), (f"{RXNORM}/1",)]


@pytest.mark.parametrize(
    "found",
    [
        [],
        [medication(status="entered-in-error", code=coded("3639", RXNORM))],
        [medication(modifierExtension=[{"url": "urn:not"}], code=coded("3639", RXNORM))],
        [{"resourceType": "Observation", "id": "m", "subject": {"reference": "Patient/anna"}}],
    ],
)
def test_a_medication_that_cannot_be_told_stays_visible(found: list[Json]) -> None:
    record = read(*found, by_reference())
    (fact,) = (f for f in record.facts if f.source == "MedicationRequest/x")
    assert fact.concepts == (f"{ABSENT}/unknown",)
    assert "DATA123" in codes(record.findings)


def test_a_name_counts_only_for_a_substance_and_only_if_it_is_all_there_is() -> None:
    named = {"text": "  ANLOTINIB "}
    assert one(request(medicationCodeableConcept=named)).concepts == (SARC + "Anlotinib",)
    allergy = one(resource("AllergyIntolerance", code=named))
    assert allergy.concepts == (SARC + "Anlotinib",)
    for other in ({"text": "no anlotinib"}, {"text": "anlotinib 12 mg"}):
        assert one(request(medicationCodeableConcept=other)).concepts == (text_iri(other["text"]),)
    assert one(resource("Condition", code=named)).concepts == (text_iri("anlotinib"),)
    displayed = coded("77", "urn:local", display="anlotinib")
    assert one(request(medicationCodeableConcept=displayed)).concepts == ("urn:local/77",)


# -- codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "iri"),
    [
        ({"system": SNOMED, "code": "1"}, "http://snomed.info/id/1"),
        ({"system": "http://unknown.example/codes", "code": "a"}, "http://unknown.example/codes/a"),
        ({"system": "http://unknown.example#", "code": "a"}, "http://unknown.example#a"),
        ({"system": "urn:oid:2.16.840.1", "code": "a"}, "urn:oid:2.16.840.1/a"),
        ({"system": "LOINC", "code": "718-7"}, "urn:x-fhir-system:LOINC/718-7"),
        ({"code": "718-7"}, "urn:x-fhir-system:/718-7"),
        ({"system": LOINC, "code": 'a "b> <c'}, "http://loinc.org/a%20%22b%3E%20%3Cc"),
    ],
)
def test_code_iri(coding: Json, iri: str) -> None:
    assert one(observation(code={"coding": [coding]})).concepts == (iri,)


@pytest.mark.parametrize(
    ("code", "iri"),
    [
        ({"text": "Haemoglobin "}, "urn:sarc-kb:text:haemoglobin"),
        ({"text": "x" * 201}, f"{ABSENT}/as-text"),
        ({"coding": [{"display": "haemoglobin"}]}, f"{ABSENT}/unknown"),
        ({}, f"{ABSENT}/unknown"),
        (None, f"{ABSENT}/unknown"),
        ("718-7", f"{ABSENT}/unknown"),
    ],
)
def test_text_and_display_are_no_code(code: Any, iri: str) -> None:
    record = read(observation(code=code))
    assert [f.concepts for f in facts_of(record)] == [(iri,)]
    assert codes(record.findings) == ["DATA123"]


# -- consent and studies ---------------------------------------------------------------------


def study(*identifiers: Json, **rest: Any) -> Json:
    return {"resourceType": "ResearchStudy", "id": "s", "identifier": list(identifiers), **rest}


PHASE = f"{THO}/research-study-phase"
OWN = {"value": "NCT00000001"}
OTHER = {"system": "https://registry.example", "value": "R-2"}


def subject(**rest: Any) -> Json:
    given = {"id": "subject", "status": "on-study", "study": {"reference": "ResearchStudy/s"}}
    return resource("ResearchSubject", **{**given, **rest})


def test_entry_is_when_the_subject_entered_the_trial() -> None:
    record = read(study(OTHER, OWN), subject(period={"start": "2024-03-01"}))
    assert text(record.entry) == "2024-03-01"
    (fact,) = facts_of(record)
    assert fact.axes == ((SARC + "study", f"{TRIAL}/study"),)
    assert (text(fact.start), fact.end, fact.ongoing) == ("2024-03-01", None, True)


def test_entry_of_a_candidate_is_the_planned_one() -> None:
    record = read(study(OWN), subject(status="candidate", period={"start": "2024-03-01"}))
    assert text(record.entry) == "2024-03-01"


@pytest.mark.parametrize("status", ["ineligible", "not-registered"])
def test_who_did_not_enter_has_no_entry(status: str) -> None:
    record = read(study(OWN), subject(status=status, period={"start": "2024-03-01"}))
    assert record.entry is None


def test_two_different_entries_are_none() -> None:
    first, second = (subject(id=day, period={"start": day}) for day in ("2024-03-01", "2024-03-02"))
    record = read(study(OWN), first, second)
    assert record.entry is None
    assert [(f.code, f.severity) for f in record.findings] == [("DATA130", "error")]


def test_another_study_is_another_study() -> None:
    record = read(study(OTHER), subject(period={"start": "2024-01", "end": "2024-02"}))
    assert record.entry is None
    (fact,) = facts_of(record)
    assert fact.axes == ((SARC + "study", "https://registry.example/R-2"),)
    assert (text(fact.start), text(fact.end), fact.ongoing) == ("2024-01", "2024-02", None)
    assert fact.concepts == (SARC + "Study",)


def test_a_study_may_be_named_by_identifier_alone() -> None:
    record = read(subject(study={"identifier": OWN}, period={"start": "2024-03-01"}))
    assert text(record.entry) == "2024-03-01"


@pytest.mark.parametrize("found", [[], [study()]])
def test_a_study_that_cannot_be_told_is_neither(found: list[Json]) -> None:
    record = read(*found, subject(period={"start": "2024-03-01"}))
    assert record.entry is None
    assert [f.axes for f in facts_of(record)] == [()]
    assert codes(record.findings) == ["DATA129"]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ({}, ["Study"]),
        ({"phase": coded("phase-2", PHASE)}, ["Study", "InterventionalStudy"]),
        ({"phase": coded("n-a", PHASE)}, ["Study"]),
        ({"category": [coded("C98388", "urn:ncit")]}, ["Study", "urn:ncit/C98388"]),
    ],
)
def test_whether_a_study_intervenes_is_what_it_says(rest: Json, expected: list[str]) -> None:
    fact = one(study(OTHER, **rest), subject())
    assert [short(c) for c in fact.concepts] == expected


def consent(scope: str = "research", **rest: Any) -> Json:
    given = {
        "id": "c",
        "status": "active",
        "scope": coded(scope, f"{THO}/consentscope"),
        "category": [coded("59284-0", LOINC)],
        "dateTime": "2024-02-25",
    }
    return resource("Consent", **{**given, **rest})


def enrolled(identifier: Json, *more: Json) -> Fact:
    """Return the consent that a subject of a study names."""
    record = read(study(identifier), subject(consent={"reference": "Consent/c"}), *more)
    (fact,) = (f for f in record.facts if f.source == "Consent/c")
    return fact


@pytest.mark.parametrize(
    ("status", "value", "counts"),
    [
        ("active", "ConsentInForce", "Confirmed"),
        ("inactive", "ConsentWithdrawn", "Confirmed"),
        ("rejected", "ConsentNotSigned", "Confirmed"),
        ("draft", "ConsentNotSigned", "Confirmed"),
        ("proposed", "ConsentNotSigned", "Confirmed"),
        ("entered-in-error", "ConsentInForce", "EnteredInError"),
    ],
)
def test_consent_status(status: str, value: str, counts: str) -> None:
    fact = enrolled(OWN, consent(status=status))
    assert fact.concepts == (SARC + "InformedConsent",)
    assert [short(v) for v in fact.value_concepts] == [value]
    assert short(fact.status) == counts
    assert text(fact.start) == text(fact.end) == "2024-02-25"


def test_consent_to_another_study_is_not_to_this_one() -> None:
    fact = enrolled(OTHER, consent())
    assert fact.concepts == ("http://loinc.org/59284-0",)
    assert fact.axes == ((SARC + "study", "https://registry.example/R-2"),)


def test_a_research_consent_that_no_subject_names_is_only_possible() -> None:
    record = read(consent())
    (fact,) = facts_of(record)
    assert (fact.concepts, short(fact.status)) == ((SARC + "InformedConsent",), "Suspected")
    assert codes(record.findings) == ["DATA128"]


@pytest.mark.parametrize("scope", ["patient-privacy", "treatment", "adr"])
def test_a_consent_to_something_else_says_nothing_of_a_study(scope: str) -> None:
    assert one(consent(scope)).concepts == ("http://loinc.org/59284-0",)


@pytest.mark.parametrize(
    "refusal",
    [{"provision": {"type": "deny"}}, {"policyRule": coded("OPTOUT", f"{THO}/v3-ActCode")}],
)
def test_a_consent_that_denies_is_none(refusal: Json) -> None:
    fact = enrolled(OWN, consent(**refusal))
    assert [short(v) for v in fact.value_concepts] == ["ConsentNotSigned"]


# -- answers ---------------------------------------------------------------------------------


def answered(**value: Any) -> Fact:
    items = [{"linkId": "I08a", "answer": [value]}]
    return one(resource("QuestionnaireResponse", status="completed", item=items))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueBoolean": True}, SARC + "Yes"),
        ({"valueBoolean": False}, SARC + "No"),
        ({"valueCoding": {"system": f"{THO}/v2-0136", "code": "Y"}}, SARC + "Yes"),
        ({"valueCoding": {"system": SNOMED, "code": "373067005"}}, SARC + "No"),
        ({"valueCoding": {"system": SNOMED, "code": "261665006"}}, SARC + "Unknown"),
        ({"valueCoding": {"system": LOINC, "code": "LA33-6"}}, SARC + "Yes"),
        ({"valueCoding": {"system": ABSENT, "code": "asked-unknown"}}, SARC + "Unknown"),
        ({"valueCoding": {"system": "urn:mine", "code": "Y"}}, "urn:mine/Y"),
    ],
)
def test_answers(value: Json, expected: str) -> None:
    fact = answered(**value)
    assert (fact.concepts, fact.value_concepts) == ((f"{TRIAL}/I08a",), (expected,))


def test_an_answer_in_words_is_unreadable() -> None:
    fact = answered(valueString="yes")
    assert (fact.value_concepts, fact.value_text) == ((), "yes")


def test_answers_lie_anywhere_in_the_questionnaire() -> None:
    asked = {"linkId": "I08a", "answer": [{"valueBoolean": True}]}
    group = {"linkId": "b", "item": [asked]}
    items = [{"linkId": "a", "answer": [{"valueBoolean": True, "item": [group]}]}]
    record = read(resource("QuestionnaireResponse", status="completed", item=items))
    assert [f.concepts for f in facts_of(record)] == [(f"{TRIAL}/I08a",)]


def test_an_answer_tells_who_and_when(anna: PatientRecord) -> None:
    willing = next(f for f in anna.facts if f.source == "Observation/willing")
    listed = next(f for f in anna.facts if f.source == "QuestionnaireResponse/list")
    assert (willing.performer, text(willing.start)) == (
        "surgeon specialised in sarcoma",
        "2024-02-27",
    )
    assert (listed.performer, text(listed.start)) == ("Practitioner/5", "2024-02-28")
    assert (willing.value_concepts, listed.value_concepts) == ((SARC + "Yes",), (SARC + "No",))


@pytest.mark.parametrize(
    ("coding", "kind"),
    [
        ({"system": TRIAL, "code": "I08a"}, "Attestation"),
        ({"system": TRIAL + "/", "code": "transfusion-14-days"}, "Attestation"),
        ({"system": TRIAL, "code": "I99"}, "Measurement"),
        ({"system": "https://w3id.org/sarc-kb/trial/NCT00000002", "code": "I08a"}, "Measurement"),
        ({"system": "https://w3id.org", "code": "I08a"}, "Measurement"),
        ({"code": "I08a"}, "Measurement"),
    ],
)
def test_only_a_code_of_the_trial_itself_is_an_answer(coding: Json, kind: str) -> None:
    fact = one(observation(code={"coding": [coding]}, valueBoolean=True))
    assert short(fact.kind) == kind


def test_an_absent_answer_is_unknown() -> None:
    asked = {"coding": [{"system": TRIAL, "code": "I08a"}]}
    fact = one(observation(code=asked, dataAbsentReason=coded("asked-declined", ABSENT)))
    assert fact.value_concepts == (SARC + "Unknown",)


# -- references ------------------------------------------------------------------------------


def bundle(*entries: tuple[str | None, Json], kind: str = "collection") -> bytes:
    made = [{"resource": body} | ({"fullUrl": url} if url else {}) for url, body in entries]
    return encode({"resourceType": "Bundle", "type": kind, "entry": made})


SERVER = "http://server.example/fhir/"
UUID = "urn:uuid:6c9b1f2e-6d0f-4a53-9f3e-0d7f3c9f7b11"


@pytest.mark.parametrize(
    ("url", "observed_at", "reference"),
    [
        (None, None, "Patient/anna"),
        (None, None, "Patient/anna/_history/2"),
        (None, None, SERVER + "Patient/anna"),
        (UUID, "urn:uuid:2", UUID),
        (UUID, "urn:uuid:2", "Patient/anna"),
        (SERVER + "Patient/anna", SERVER + "Observation/x", "Patient/anna"),
        (SERVER + "Patient/anna", SERVER + "Observation/x", SERVER + "Patient/anna"),
        (SERVER + "Patient/anna", SERVER + "Observation/x", SERVER + "Patient/anna/_history/1"),
        (SERVER + "Patient/anna/_history/7", SERVER + "Observation/x", "Patient/anna"),
        (SERVER + "Patient/anna", None, "Patient/anna"),
    ],
)
@pytest.mark.threat("E3")
def test_reference_forms(url: str | None, observed_at: str | None, reference: str) -> None:
    result = observation(valueInteger=1, subject={"reference": reference})
    (record,) = read_fhir(bundle((url, ANNA), (observed_at, result)), "x", TERMS)
    assert [f.value for f in facts_of(record)] == [1]
    assert record.findings == ()


@pytest.mark.threat("E3", "C5")
def test_the_same_id_on_another_server_is_another_patient() -> None:
    here = observation(valueInteger=1)
    there = observation(valueInteger=2)
    data = bundle(
        ("http://a.example/Patient/anna", ANNA),
        ("http://b.example/Patient/anna", {**ANNA, "gender": "male"}),
        ("http://a.example/Observation/x", here),
        ("http://b.example/Observation/x", there),
    )
    records = read_fhir(data, "x", TERMS)
    assert {r.patient: [f.value for f in r.facts if f.value] for r in records} == {
        "http://a.example/Patient/anna": [1],
        "http://b.example/Patient/anna": [2],
    }


def test_a_relative_reference_from_another_server_does_not_reach_over() -> None:
    stray = observation(valueInteger=2)
    data = bundle((SERVER + "Patient/anna", ANNA), ("http://b.example/Observation/x", stray))
    names = {r.patient: codes(r.findings) for r in read_fhir(data, "x", TERMS)}
    assert names == {"Patient/anna": [], "http://b.example/Patient/anna": ["DATA113"]}


def test_an_id_that_two_servers_use_names_neither() -> None:
    data = bundle(
        ("http://a.example/Patient/anna", ANNA),
        ("http://b.example/Patient/anna", {**ANNA, "gender": "male"}),
        (None, observation(valueInteger=1)),
    )
    records = read_fhir(data, "x", TERMS)
    assert {r.patient: [f.value for f in r.facts if f.value] for r in records} == {
        "http://a.example/Patient/anna": [],
        "http://b.example/Patient/anna": [],
        "Patient/anna": [1],
    }


@pytest.mark.threat("E3")
def test_an_id_contained_twice_names_neither() -> None:
    drugs = [medication(code=coded(code)) for code in ("1", "2")]
    given = request(
        contained=drugs,
        medicationCodeableConcept=None,
        medicationReference={"reference": "#m"},
    )
    assert one(given).concepts == (f"{ABSENT}/unknown",)


def test_a_contained_patient_is_a_patient_of_that_resource_alone() -> None:
    inside = {**ANNA, "id": "p"}
    results = [
        observation(id=name, contained=[inside], subject={"reference": "#p"}, valueInteger=1)
        for name in ("a", "b")
    ]
    records = read_fhir(encode(results), "x", TERMS)
    assert [(r.patient, len(r.facts), r.findings) for r in records] == [
        ("Observation/a#p", 3, ()),
        ("Observation/b#p", 3, ()),
    ]


@pytest.mark.threat("E3")
def test_dangling_references_are_told_and_nothing_is_fetched() -> None:
    record = read(
        resource(
            "Procedure",
            status="completed",
            code=coded("1"),
            reasonReference=[{"reference": "https://elsewhere.example/Condition/9"}],
        )
    )
    assert [f.tumour for f in facts_of(record)] == ["https://elsewhere.example/Condition/9"]
    assert [(f.code, f.severity) for f in record.findings] == [("DATA116", "warning")]


def test_a_result_about_two_tumours_is_about_neither() -> None:
    tumours = [resource("Condition", id=name, code=coded("1")) for name in ("a", "b")]
    focus = [{"reference": "Condition/a"}, {"reference": "Condition/b"}]
    record = read(*tumours, observation(valueInteger=1, focus=focus))
    assert [f.tumour for f in record.facts if f.value == 1] == [None]


def test_a_bundle_in_a_bundle_is_opened() -> None:
    inner = json.loads(bundle((None, ANNA), (None, observation(valueInteger=1)), kind="searchset"))
    (record,) = read_fhir(bundle((None, inner)), "x", TERMS)
    assert [f.value for f in facts_of(record)] == [1]


# -- whose it is -----------------------------------------------------------------------------


def test_a_patient_of_whom_nothing_is_known_is_told() -> None:
    (record,) = read_fhir(encode({"resourceType": "Patient", "id": "anna"}), "x", TERMS)
    assert (record.patient, record.facts) == ("Patient/anna", ())
    assert codes(record.findings) == ["DATA131"]


def test_two_patients_are_two_records() -> None:
    records = read_fhir((DATA / "two-patients.ndjson").read_bytes(), "two.ndjson", TERMS)
    assert [(r.patient, [str(f.value) for f in r.facts if f.value]) for r in records] == [
        ("Patient/p1", ["12.1"]),
        ("Patient/p2", ["9.0"]),
    ]
    assert [r.findings for r in records] == [(), ()]


BERT = {"resourceType": "Patient", "id": "bert", "gender": "male"}


@pytest.mark.parametrize(
    "element",
    [
        {"focus": [{"reference": "Condition/c"}]},
        {"hasMember": [{"reference": "Condition/c"}]},
        {"encounter": {"reference": "Condition/c"}},
        {"extension": [{"url": "urn:x", "valueReference": {"reference": "Condition/c"}}]},
        {"focus": [{"reference": "Patient/bert"}]},
    ],
)
@pytest.mark.threat("E3")
def test_a_resource_of_two_patients_belongs_to_neither(element: Json) -> None:
    berts = resource("Condition", id="c", subject={"reference": "Patient/bert"}, code=coded("1"))
    mixed = observation(valueInteger=1, **element)
    for record in read_fhir(encode([ANNA, BERT, berts, mixed]), "x", TERMS):
        assert "Observation/x" not in {f.source for f in record.facts}
        assert [(f.code, f.severity) for f in record.findings] == [("DATA115", "error")]
        assert "[3] Observation/x" in record.findings[0].where


@pytest.mark.parametrize(
    "subject", [None, {"reference": "Group/1"}, {"reference": UUID}, {"display": "Anna"}, "anna"]
)
def test_a_resource_without_a_patient_is_never_assigned(subject: Any) -> None:
    data = encode([ANNA, observation(valueInteger=1, subject=subject)])
    problems: list[Finding] = []
    (record,) = read_fhir(data, "x", TERMS, problems=problems)
    assert facts_of(record) == []
    assert [(f.code, f.severity) for f in record.findings] == [("DATA114", "warning")]
    assert [(f.code, f.severity) for f in problems] == [("DATA114", "error")]
    assert problems[0].where == "x [1] Observation/x"


def test_a_patient_may_be_known_by_reference_alone() -> None:
    (record,) = read_fhir(encode(observation(valueInteger=1)), "x", TERMS)
    assert (record.patient, [f.value for f in record.facts]) == ("Patient/anna", [1])
    assert codes(record.findings) == ["DATA113"]


@pytest.mark.parametrize(
    "document", [[], {}, 7, "x", {"resourceType": "Bundle"}, {"resourceType": "Medication"}]
)
def test_no_patient_is_an_error(document: object) -> None:
    with pytest.raises(InputError) as raised:
        read_fhir(encode(document), "x", TERMS)
    assert raised.value.findings[0].code == "DATA111"


# -- versions --------------------------------------------------------------------------------


@pytest.mark.threat("D16")
def test_the_same_resource_twice_is_read_once() -> None:
    result = observation(valueInteger=1)
    assert one(result, dict(reversed(result.items()))).id == "Observation/x"


def test_of_two_versions_the_later_holds() -> None:
    old = observation(valueInteger=1, meta={"lastUpdated": "2024-02-21T10:00:00+08:00"})
    new = observation(
        valueInteger=1, status="entered-in-error", meta={"lastUpdated": "2024-02-21T03:00:00Z"}
    )
    for pair in ([old, new], [new, old]):
        record = read(*pair)
        assert [short(f.status) for f in facts_of(record)] == ["EnteredInError"]
        assert codes(record.findings) == ["DATA118"]


def test_of_versions_that_cannot_be_ordered_none_is_certain() -> None:
    versions = [
        observation(valueInteger=1),
        observation(valueInteger=2),
        observation(valueInteger=3, status="cancelled"),
    ]
    record = read(*versions)
    assert {(f.value, short(f.status)) for f in facts_of(record)} == {
        (1, "Suspected"),
        (2, "Suspected"),
        (3, "Cancelled"),
    }
    assert len({f.id for f in record.facts}) == len(record.facts)
    assert codes(record.findings) == ["DATA117"] * 3
    assert read(*versions[::-1]).facts == record.facts


def test_of_versions_of_the_same_moment_none_is_certain() -> None:
    meta = {"lastUpdated": "2024-02-21T10:00:00Z"}
    record = read(observation(valueInteger=1, meta=meta), observation(valueInteger=2, meta=meta))
    assert [short(f.status) for f in facts_of(record)] == ["Suspected", "Suspected"]


def test_what_the_bundle_deletes_is_not_used() -> None:
    history = {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [
            {"request": {"method": "DELETE", "url": "Observation/x"}},
            {"resource": observation(valueInteger=1)},
            {"resource": ANNA},
        ],
    }
    (record,) = read_fhir(encode(history), "x", TERMS)
    assert facts_of(record) == []
    assert codes(record.findings) == ["DATA119"]


# -- what must not be used -------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"modifierExtension": [{"url": "urn:not", "valueBoolean": True}]},
        {"implicitRules": "urn:rules"},
        {"component": [{"code": coded("1"), "modifierExtension": [{"url": "urn:not"}]}]},
        {"contained": [medication(implicitRules="urn:rules")]},
    ],
)
@pytest.mark.threat("E2")
def test_a_meaning_that_may_be_reversed_is_not_used(change: Json) -> None:
    record = read(observation(valueInteger=1, **change))
    assert facts_of(record) == []
    assert [(f.code, f.severity) for f in record.findings] == [("DATA120", "warning")]
    assert record.findings[0].where == "[1] Observation/x"


def test_rules_of_the_bundle_hold_for_all_of_it() -> None:
    document = json.loads(bundle((None, ANNA), (None, observation())))
    (record,) = read_fhir(encode({**document, "implicitRules": "urn:rules"}), "x", TERMS)
    assert record.facts == ()
    assert codes(record.findings) == ["DATA120", "DATA120", "DATA131"]


def test_a_modified_entry_is_not_used() -> None:
    document = json.loads(bundle((None, ANNA), (None, observation())))
    document["entry"][1]["modifierExtension"] = [{"url": "urn:not"}]
    (record,) = read_fhir(encode(document), "x", TERMS)
    assert facts_of(record) == []
    assert codes(record.findings) == ["DATA120"]


@pytest.mark.parametrize(
    ("name", "release", "refused"),
    [
        ("stu3.json", "STU3", ["as-code", "negated", "not-given", "not-taken"]),
        ("r5.json", "R5", ["reference-or-concept", "renamed", "renamed", "when"]),
    ],
)
@pytest.mark.threat("E8")
def test_other_releases_of_fhir_are_told_apart_from_no_data(
    name: str, release: str, refused: list[str]
) -> None:
    (record,) = read_fhir((DATA / name).read_bytes(), name, TERMS)
    assert facts_of(record) == []
    assert record.entry is None
    assert [(f.code, f.severity) for f in record.findings] == [("DATA112", "error")] * len(refused)
    assert all(release in f.found and "R4" in f.why for f in record.findings)
    assert sorted(f.where.rpartition("/")[2] for f in record.findings) == refused


@pytest.mark.parametrize("kind", ["", "observation", "OBSERVATION", 7, None])
@pytest.mark.threat("E8")
def test_a_resource_of_no_type_is_named(kind: Any) -> None:
    record = read(observation(resourceType=kind))
    assert [f.code for f in record.findings] == ["DATA110"]
    assert record.findings[0].where.startswith("[1]")
    assert facts_of(record) == []


def test_types_that_are_not_used_are_counted() -> None:
    record = read(
        *(resource("Encounter", id=str(i)) for i in range(3)),
        {"resourceType": "Organization", "id": "o"},
        {"resourceType": "CarePlan", "id": "c"},
    )
    assert [(f.where, f.found, f.severity) for f in record.findings] == [
        ("Patient/anna", "3 Encounter", "info"),
        ("test.json", "1 CarePlan", "info"),
        ("test.json", "1 Organization", "info"),
    ]


# -- JSON ------------------------------------------------------------------------------------

GOOD = encode([ANNA, observation(valueInteger=1)])


def refused(data: bytes, **rest: Any) -> Finding:
    with pytest.raises(InputError) as raised:
        read_fhir(data, "x.json", TERMS, **rest)
    (found,) = raised.value.findings
    assert (found.where, found.severity) == ("x.json", "error")
    return found


@pytest.mark.parametrize(
    ("first", "second"), [("final", "entered-in-error"), ("entered-in-error", "final")]
)
@pytest.mark.threat("E4")
def test_a_key_given_twice_is_refused(first: str, second: str) -> None:
    twice = f'"status": "{first}", "status": "{second}"'.encode()
    found = refused(GOOD.replace(b'"status": "final"', twice))
    assert (found.code, found.found) == ("DATA103", "the key status occurs twice")


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
@pytest.mark.threat("E7")
def test_numbers_that_are_none_are_refused(constant: bytes) -> None:
    assert refused(GOOD.replace(b'"valueInteger": 1', b'"valueInteger": ' + constant)).code == (
        "DATA104"
    )


@pytest.mark.parametrize("cut", [1, len(GOOD) // 2, len(GOOD) - 1])
def test_a_file_that_is_cut_off_is_refused(cut: int) -> None:
    assert refused(GOOD[:cut]).code == "DATA102"


@pytest.mark.parametrize(
    "data", [b"", b"  \n ", b"{'a': 1}", GOOD + b" x", GOOD.decode().encode("utf-16-le")]
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert refused(data).code == "DATA102"


@pytest.mark.parametrize(
    ("data", "byte"),
    [
        (GOOD.replace(b"anna", b"ann\xff", 1), GOOD.index(b"anna") + 3),
        (GOOD.replace(b"anna", b"a\xed\xa0\x80", 1), GOOD.index(b"anna") + 1),
        (GOOD.decode().encode("utf-16"), 0),
    ],
)
@pytest.mark.threat("E6")
def test_what_is_not_utf8_is_refused_with_its_place(data: bytes, byte: int) -> None:
    found = refused(data)
    assert (found.code, found.found) == ("DATA101", f"byte {byte} is not UTF-8")


def test_a_byte_order_mark_is_skipped_and_told() -> None:
    (record,) = read_fhir(b"\xef\xbb\xbf" + GOOD, "x", TERMS)
    assert [f.value for f in facts_of(record)] == [1]
    assert [(f.code, f.severity) for f in record.findings] == [("DATA108", "info")]


@pytest.mark.parametrize("text", [r"\ud800", r"\uDFFF", r"\u0000", r"x\udc00y"])
@pytest.mark.threat("E6")
def test_half_characters_are_refused(text: str) -> None:
    data = GOOD.replace(b'"718-7"', b'"' + text.encode() + b'"')
    found = refused(data)
    assert found.code == "DATA106"
    assert "$[1].code.coding[0].code" in found.found


@pytest.mark.parametrize("text", [r"\\ud800", r"\ud83d\ude00", r"\\u0000"])
def test_whole_characters_are_not(text: str) -> None:
    (record,) = read_fhir(GOOD.replace(b'"718-7"', b'"' + text.encode() + b'"'), "x", TERMS)
    assert len(facts_of(record)) == 1


def nested(depth: int) -> bytes:
    """Return the resources with arrays inside each other, ``depth`` levels in all."""
    inner = b"[" * (depth - 2) + b"]" * (depth - 2)
    return GOOD.replace(b'"valueInteger": 1', b'"valueInteger": 1, "note": ' + inner)


@pytest.mark.threat("B6")
def test_nesting_is_limited() -> None:
    (record,) = read_fhir(nested(64), "x", TERMS)
    assert len(facts_of(record)) == 1
    for depth in (65, 500, 100_000):
        assert refused(nested(depth)).code == "DATA105"


@pytest.mark.threat("B11")
def test_size_is_limited() -> None:
    assert read_fhir(GOOD, "x", TERMS, limits=Limits(size=len(GOOD)))
    assert refused(GOOD, limits=Limits(size=len(GOOD) - 1)).code == "DATA107"


# -- NDJSON ----------------------------------------------------------------------------------


def lines(*resources: Json) -> list[bytes]:
    return [encode(body) for body in resources]


RESULTS = lines(ANNA, observation(id="a", valueInteger=1), observation(id="b", valueInteger=2))


def values(data: bytes, **rest: Any) -> tuple[list[Any], list[tuple[str, str]]]:
    """Return the values read, and the place and code of each finding."""
    (record,) = read_fhir(data, "x.ndjson", TERMS, **rest)
    found = [(f.where, f.code) for f in record.findings]
    return [f.value for f in facts_of(record)], found


@pytest.mark.parametrize(
    "data",
    [
        b"\n".join(RESULTS),
        b"\n".join(RESULTS) + b"\n",
        b"\r\n".join(RESULTS) + b"\r\n",
        b"\n\n".join(RESULTS) + b"\n \n",
        b"\n" + b"\n".join(RESULTS),
    ],
)
def test_one_resource_a_line(data: bytes) -> None:
    assert values(data) == ([1, 2], [])


@pytest.mark.threat("E5")
def test_other_line_separators_do_not_end_a_line() -> None:
    noted = observation(id="a", valueInteger=1, note=[{"text": "x\u2028y\u0085z\u2029"}])
    data = b"\n".join(
        json.dumps(body, ensure_ascii=False).encode() for body in (ANNA, noted, observation(id="b"))
    )
    assert values(data) == ([1, None], [])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"garbage", "DATA102"),
        (b'{"resourceType": "Observation",', "DATA102"),
        (b'{"id": "a", "id": "a"}', "DATA103"),
        (b'{"value": NaN}', "DATA104"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "DATA105"),
        (b'{"a": "\\ud800"}', "DATA106"),
        (b'{"a": "\xff"}', "DATA101"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.threat("E5")
def test_a_faulty_line_is_numbered_and_the_others_go_on(bad: bytes, code: str, place: int) -> None:
    data = b"\n".join([*RESULTS[:place], bad, *RESULTS[place:]]) + b"\n"
    if place == 0 and bad == b"garbage":
        # Nothing says that this is NDJSON: it is one broken document.
        assert refused(data).code == "DATA102"
        return
    assert values(data) == ([1, 2], [(f"line {place + 1}", code)])


def test_two_faulty_lines_at_the_head() -> None:
    data = b"\n".join([b'{"resourceType":', b"garbage", *RESULTS])
    assert values(data) == ([1, 2], [("line 1", "DATA102"), ("line 2", "DATA102")])


@pytest.mark.threat("E5")
def test_a_faulty_line_does_not_make_every_patient_an_error() -> None:
    problems: list[Finding] = []
    data = b"\n".join([*RESULTS, b"{"]) + b"\n"
    (record,) = read_fhir(data, "x", TERMS, problems=problems)
    assert [f.severity for f in record.findings] == ["warning"]
    assert [(f.severity, f.where) for f in problems] == [("error", "x line 4")]
    assert record.findings[0].where == "line 4"


@pytest.mark.threat("E5")
def test_a_last_line_that_is_cut_off_is_said_so() -> None:
    (record,) = read_fhir(b"\n".join(RESULTS)[:-5], "x", TERMS)
    assert [(f.where, f.found) for f in record.findings] == [
        ("line 3", "the last line is cut off"),
        ("x", "ends within line 3"),
    ]


@pytest.mark.threat("B11")
def test_a_long_line_is_refused_alone() -> None:
    limit = max(map(len, RESULTS))
    long = encode(observation(id="c", note=[{"text": "x" * limit}]))
    assert values(b"\n".join([*RESULTS, long]), limits=Limits(line=limit)) == (
        [1, 2],
        [("line 4", "DATA107")],
    )


# -- robustness ------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None,
    True,
    3,
    "x",
    "",
    [],
    {},
    [None],
    [[]],
    [3],
    {"x": 1},
    [{"coding": 3}],
)


def paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for key, value in children:
        yield (*path, key)
        yield from paths(value, (*path, key))


def test_no_odd_value_anywhere_makes_it_crash() -> None:
    original = json.loads((DATA / "record.json").read_text(encoding="utf-8"))
    survived = 0
    for n, path in enumerate(paths(original)):
        for odd in random.Random(n).sample(ODD, 3):
            changed = copy.deepcopy(original)
            node = changed
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = odd
            try:
                for record in read_fhir(encode(changed), "x", TERMS):
                    survived += record.patient == "Patient/anna"
            except InputError as error:
                assert error.findings  # noqa: PT017 - that it is told, not which one
    assert survived > 1000


@pytest.mark.threat("C7", "C8")
def test_hostile_ids_give_names_that_are_iris() -> None:
    hostile = {**ANNA, "id": 'p1> a <urn:x>\n\x1b[31m"'}
    result = observation(valueInteger=1, subject={"reference": "Patient/" + hostile["id"]})
    (record,) = read_fhir(encode([hostile, result]), "x", TERMS)
    names = [record.patient, *(f.id for f in record.facts)]
    assert not any(set(name) & set('<>"{}|\\^` \n\x1b') for name in names)
    assert [f.value for f in facts_of(record) if f.value] == [1]


@pytest.mark.threat("F2")
def test_findings_hold_no_patient_data() -> None:
    canary = "CANARY"
    body = observation(
        effectiveDateTime=canary,
        issued=canary,
        status=canary,
        code={"text": canary},
        valueQuantity={"value": canary, "unit": canary},
        referenceRange=[{"high": {"value": canary}}],
        note=[{"text": canary}],
        specimen={"reference": "Specimen?identifier=" + canary},
    )
    person = {**ANNA, "birthDate": canary, "name": [{"text": canary}]}
    (record,) = read_fhir(encode([person, body]), "x", TERMS)
    assert {"DATA116", "DATA121", "DATA123", "DATA124", "DATA125", "DATA126"} == set(
        codes(record.findings)
    )
    assert not any(canary in str(f) for f in record.findings)


# -- public sample data ----------------------------------------------------------------------

SAMPLES = Path(os.environ.get("SARC_KB_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDERS = (
    "bulk-export-10",
    "codex-radiotherapy/bundles",
    "fhir-r4-examples",
    "fhir-rdf/examples",
    "mcode-ig-4.0.0",
    "mcode-ig-4.0.0/bundles",
    "mcode-ig-4.0.0/profiles",
    "mcode-ig-4.0.0/terminology",
    "mcode-omop-synthea",
    "mcode-omop-synthea/bundles",
    "mcode-omop-synthea/ndjson",
    "mcode-third-party",
    "mcode-valuesets-expanded",
    "synthea-r4/bundles",
    "synthea-r4/ndjson-200",
    "synthea-r4/ndjson-40",
)
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"public sample data: no folder {SAMPLES}"
)


def files(folder: str) -> list[Path]:
    """Return the JSON and NDJSON files of a folder, plain or compressed."""
    return sorted(
        p for p in (SAMPLES / folder).iterdir() if {".json", ".ndjson"}.intersection(p.suffixes)
    )


def load(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@needs_samples
@pytest.mark.data
def test_the_folders_are_all_there_are() -> None:
    found = {
        path.parent.relative_to(SAMPLES).as_posix()
        for path in SAMPLES.rglob("*json*")
        if path.is_file() and "trial-matching" not in path.parts  # topics, no records
    }
    assert found == set(FOLDERS)


@needs_samples
@pytest.mark.data
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_sample_is_read_or_refused_with_a_reason(folder: str) -> None:
    """Files by themselves; NDJSON files of one folder as what they are, one data set."""
    if not (SAMPLES / folder).is_dir():
        pytest.skip(f"public sample data: no folder {folder}")
    on_disk = [p for p in (SAMPLES / folder).iterdir() if p.is_file() and "json" in p.name]
    assert len(files(folder)) == len(on_disk) > 0
    read = 0
    for path in files(folder):
        if ".ndjson" in path.suffixes:
            continue
        reasons: tuple[Finding, ...] = ()
        records: list[PatientRecord] = []
        try:
            records = read_fhir(load(path), path.name, TERMS)
        except InputError as error:
            reasons = error.findings
        assert records or "DATA111" in codes(reasons), path.name
        assert all(record.facts or record.findings for record in records), path.name
        read += 1
    with FhirDataSet(TERMS, folder) as dataset:
        people = others = 0
        for path in files(folder):
            if ".ndjson" in path.suffixes:
                dataset.add_file(path, path.name)
                rows = [json.loads(line) for line in load(path).split(b"\n") if line.strip()]
                people += sum(row.get("resourceType") == "Patient" for row in rows)
                others += sum("resourceType" not in row for row in rows)
                read += 1
        found = [record.patient for record in dataset.records()]
        assert len(found) == len(set(found)) == people
        # What is no resource is told, each with its file and line.
        assert len(dataset.problems) == others
        assert all(" line " in problem.where for problem in dataset.problems)
    assert read == len(on_disk)


REFUSED = ("DATA110", "DATA112", "DATA114", "DATA115", "DATA119", "DATA120", "DATA127")


@needs_samples
@pytest.mark.data
def test_each_resource_of_the_third_party_files_is_used_or_named() -> None:
    """Where a resource of a type that is read gives no fact, a finding names it and says why."""
    silent = {"List", "DiagnosticReport", "QuestionnaireResponse", "FamilyMemberHistory", "Patient"}
    looked_at = 0
    for path in files("mcode-third-party"):
        document = json.loads(load(path))
        bodies = document if isinstance(document, list) else [document]
        while any(body.get("resourceType") == "Bundle" for body in bodies):
            bodies = [
                inner
                for body in bodies
                for inner in (
                    [e["resource"] for e in body.get("entry", ()) if "resource" in e]
                    if body.get("resourceType") == "Bundle"
                    else [body]
                )
            ]
        problems: list[Finding] = []
        try:
            records = read_fhir(load(path), path.name, TERMS, problems=problems)
        except InputError as error:
            records, problems = [], list(error.findings)
        sources = {fact.source for record in records for fact in record.facts}
        told = [f.where for r in records for f in r.findings if f.code in REFUSED]
        told += [f.where for f in problems]
        for body in bodies:
            kind, number = body.get("resourceType"), body.get("id")
            if kind not in READERS or kind in silent or number is None:
                continue
            looked_at += 1
            name = f"{kind}/{number}"
            assert (
                any(s.endswith(name) for s in sources)
                or any(where.endswith(iri_safe(name)) for where in told)
                or not records
            ), (path.name, name)
    assert looked_at > 100


@needs_samples
@pytest.mark.data
def test_synthea_bundles_give_a_fact_for_each_resource() -> None:
    """Counts by kind, taken from the plain JSON, agree with the facts."""
    for path in files("synthea-r4/bundles"):
        data = load(path)
        expected: Counter[str] = Counter()
        for entry in json.loads(data)["entry"]:
            body = entry["resource"]
            match body["resourceType"]:
                case "Condition" | "Procedure" as kind:
                    expected[kind] += 1
                case "MedicationRequest" | "MedicationAdministration" | "MedicationStatement":
                    expected["MedicationUse"] += 1
                case "AllergyIntolerance":
                    expected["Allergy"] += 1
                case "Observation":
                    parts = len(body.get("component", ()))
                    expected["Measurement"] += parts + any(k.startswith("value") for k in body)
        (record,) = read_fhir(data, path.name, TERMS)
        found = Counter(short(f.kind) for f in record.facts)
        del found["Demographic"]
        assert found == expected, path.name
        assert {f.severity for f in record.findings} <= {"info"}, path.name


@needs_samples
@pytest.mark.data
def test_a_bulk_export_read_together_knows_all_its_patients() -> None:
    """One file a type, one file with everything, and plain counts of lines agree."""
    folder = files("synthea-r4/ndjson-40")
    with FhirDataSet(TERMS, "ndjson-40") as dataset:
        for path in folder:
            dataset.add_file(path, path.name)
        apart = list(dataset.records())
        assert dataset.problems == []
    whole = read_fhir(b"\n".join(load(path) for path in folder), "ndjson-40", TERMS)
    assert [(r.patient, r.facts) for r in apart] == [(r.patient, r.facts) for r in whole]
    assert len(whole) == 40
    assert all("DATA113" not in codes(r.findings) for r in whole)
    for kind in ("Condition", "Procedure"):
        together = sum(short(f.kind) == kind for r in whole for f in r.facts)
        path = next(p for p in folder if p.name.startswith(kind))
        assert together == load(path).strip().count(b"\n") + 1


@needs_samples
@pytest.mark.data
def test_records_of_an_older_release_are_told() -> None:
    data = load(SAMPLES / "mcode-third-party" / "pathways_Maureen_list.json.gz")
    (record,) = read_fhir(data, "Maureen", TERMS)
    older = sum("dateRecorded" in body for body in json.loads(data))
    assert codes(record.findings).count("DATA112") == older == 5
