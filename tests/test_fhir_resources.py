"""Lists, reports, adverse events, doses, techniques, teams and marks: with the real mappings.

For each type there is a test of every value of its status (row E1 of the list of threats).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_fhir import (
    ANNA,
    LOINC,
    RXNORM,
    SNOMED,
    THO,
    UCUM,
    Json,
    coded,
    codes,
    encode,
    observation,
    short,
    text,
)
from test_fhir import resource as made

from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.namespaces import SARC, TEXT, text_iri
from sarc_kb.rules import Trial
from sarc_kb.sources.fhir import FhirTerms, read_fhir
from sarc_kb.sources.fhir_resources.readers import CONSULTED, READERS, SUPPORTING
from sarc_kb.terminology import Terminology

ONTOLOGY = "https://w3id.org/sarc-kb/ontology"
MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
Read = Callable[..., PatientRecord]


@pytest.fixture(scope="module")
def terms(kb: KnowledgeBase, trial: Trial) -> FhirTerms:
    return kb.reading_terms(trial).fhir


@pytest.fixture(scope="module")
def read(terms: FhirTerms) -> Read:
    def read_them(*bodies: Json) -> PatientRecord:
        (record,) = read_fhir(encode([ANNA, *bodies]), "x", terms)
        return record

    return read_them


@pytest.fixture(scope="module")
def ontology(kb: KnowledgeBase) -> Terminology:
    return kb.terms


def of(record: PatientRecord, source: str) -> list[Fact]:
    return [f for f in record.facts if f.source.startswith(source)]


def axis(fact: Fact, name: str) -> list[str]:
    return [iri for on, iri in fact.axes if on == str(SARC[name])]


def meant(ontology: Terminology, iris: Any) -> set[str]:
    return {short(term) or "" for term in ontology.code(iris).certain}


def own(name: str) -> Json:
    return {"coding": [{"system": ONTOLOGY, "code": name}]}


# -- List ----------------------------------------------------------------------------------------

PROBLEM = made("Condition", id="c", code=coded("1"))
NIL_KNOWN = coded("nilknown", f"{THO}/list-empty-reason")


def kept(code: Json, **rest: Any) -> Json:
    given = {
        "status": "current",
        "mode": "working",
        "code": code,
        "date": "2024-02-28",
        "entry": [{"item": {"reference": "Condition/c"}}],
    }
    return made("List", id="l", **{**given, **rest})


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        (coded("11450-4", LOINC), "ConditionHistory"),
        (coded("10160-0", LOINC), "MedicationHistory"),
        (coded("48765-2", LOINC), "AllergyRecord"),
        (coded("47519-4", LOINC), "ProcedureHistory"),
        (coded("10157-6", LOINC), "FamilyHistoryRecord"),
        (coded("problems", f"{THO}/list-example-use-codes"), "ConditionHistory"),
        (own("StudyHistory"), "StudyHistory"),
    ],
)
def test_a_whole_list_is_a_completeness_statement(
    code: Json, scope: str, read: Read, ontology: Terminology
) -> None:
    (fact,) = of(read(PROBLEM, kept(code)), "List/")
    assert short(fact.kind) == "CompletenessStatement"
    assert meant(ontology, fact.concepts) == {scope}
    assert (text(fact.start), text(fact.end), short(fact.status)) == (
        "2024-02-28",
        "2024-02-28",
        "Confirmed",
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("current", "Confirmed"),
        ("retired", "Cancelled"),
        ("entered-in-error", "EnteredInError"),
        ("?", "Suspected"),
    ],
)
@pytest.mark.threat("E1")
def test_e1_list_status(status: str, expected: str, read: Read) -> None:
    (fact,) = of(read(PROBLEM, kept(coded("11450-4", LOINC), status=status)), "List/")
    assert short(fact.status) == expected


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"mode": "changes"}, "DATA140"),
        ({"code": coded("98", "urn:local")}, "DATA140"),
        ({"entry": []}, "DATA140"),
        ({"entry": [], "emptyReason": coded("notasked", f"{THO}/list-empty-reason")}, "DATA140"),
        ({"entry": [{"item": {"reference": "Condition/elsewhere"}}]}, "DATA140"),
        ({"entry": [{"item": {"display": "hypertension"}}]}, "DATA140"),
        ({"emptyReason": NIL_KNOWN}, "DATA122"),
    ],
)
def test_a_list_that_need_not_be_whole_says_nothing(change: Json, code: str, read: Read) -> None:
    record = read(PROBLEM, kept(**{"code": coded("11450-4", LOINC), **change}))
    assert of(record, "List/") == []
    assert code in codes(record.findings)


def test_a_list_of_unknown_mode_is_only_possible(read: Read) -> None:
    (fact,) = of(read(PROBLEM, kept(coded("11450-4", LOINC), mode=None)), "List/")
    assert short(fact.status) == "Suspected"


@pytest.mark.parametrize(
    "reason", ["nilknown", "notasked", "withheld", "unavailable", "notstarted", "closed"]
)
def test_only_nil_known_makes_an_empty_list_a_statement(reason: str, read: Read) -> None:
    empty = coded(reason, f"{THO}/list-empty-reason")
    record = read(kept(coded("48765-2", LOINC), entry=None, emptyReason=empty))
    assert len(of(record, "List/")) == (reason == "nilknown")


def test_a_deleted_entry_is_none(read: Read) -> None:
    gone = [{"item": {"reference": "Condition/elsewhere"}, "deleted": True}]
    here = [{"item": {"reference": "Condition/c"}}]
    record = read(PROBLEM, kept(coded("11450-4", LOINC), entry=gone + here))
    assert len(of(record, "List/")) == 1


# -- DiagnosticReport and Specimen ---------------------------------------------------------------

SARCOMA = coded("443719001")
PATHOLOGY = coded("SP", f"{THO}/v2-0074")
TISSUE = {
    "resourceType": "Specimen",
    "id": "s",
    "subject": {"reference": "Patient/anna"},
    "status": "available",
    "type": coded("119376003"),
}


def report(**rest: Any) -> Json:
    given = {
        "status": "final",
        "category": [PATHOLOGY],
        "code": coded("22637-3", LOINC),
        "effectiveDateTime": "2024-01-12",
        "conclusionCode": [SARCOMA],
        "specimen": [{"reference": "Specimen/s"}],
    }
    return made("DiagnosticReport", id="r", **{**given, **rest})


REPORT_STATUS = {
    "registered": "Preliminary",
    "partial": "Preliminary",
    "preliminary": "Preliminary",
    "final": "Confirmed",
    "amended": "Confirmed",
    "corrected": "Confirmed",
    "appended": "Confirmed",
    "cancelled": "Cancelled",
    "entered-in-error": "EnteredInError",
    "unknown": "Suspected",
}


@pytest.mark.parametrize("status", REPORT_STATUS)
@pytest.mark.threat("E1")
def test_e1_report_status(status: str, read: Read, ontology: Terminology) -> None:
    """What it concludes counts as it does, and only a report that counts confirms a diagnosis."""
    (conclusion,) = of(read(TISSUE, report(status=status)), "DiagnosticReport/")
    assert short(conclusion.status) == REPORT_STATUS[status]
    assert meant(ontology, conclusion.concepts) == {"Leiomyosarcoma"}
    diagnosis = made("Condition", code=SARCOMA)
    (fact,) = of(read(TISSUE, report(status=status), diagnosis), "Condition/")
    confirmed = REPORT_STATUS[status] == "Confirmed"
    assert meant(ontology, axis(fact, "method")) == ({"Histopathology"} if confirmed else set())
    assert bool(axis(fact, "specimen")) == confirmed


def test_a_conclusion_that_is_a_condition_is_no_second_tumour(read: Read) -> None:
    record = read(TISSUE, report(), made("Condition", id="c", code=SARCOMA))
    assert of(record, "DiagnosticReport/") == []


def test_a_diagnosis_is_confirmed_by_the_report_it_rests_on(
    read: Read, ontology: Terminology
) -> None:
    evidence = [{"detail": [{"reference": "DiagnosticReport/r"}]}]
    diagnosis = made("Condition", id="c", code=coded("424952003"), evidence=evidence)
    record = read(TISSUE, report(conclusionCode=None), diagnosis)
    (fact,) = of(record, "Condition/")
    assert meant(ontology, axis(fact, "method")) == {"Histopathology"}
    assert axis(fact, "specimen") == ["http://snomed.info/id/119376003"]


def test_a_result_has_the_method_of_its_report_unless_it_has_its_own(
    read: Read, ontology: Terminology
) -> None:
    silent = observation(id="a", valueInteger=1)
    speaking = observation(id="b", valueInteger=1, method=own("Cytology"))
    results = [{"reference": "Observation/a"}, {"reference": "Observation/b"}]
    record = read(TISSUE, report(conclusionCode=None, result=results), silent, speaking)
    found = [meant(ontology, axis(f, "method")) for f in of(record, "Observation/")]
    assert found == [{"Histopathology"}, {"Cytology"}]
    assert all(axis(f, "specimen") for f in of(record, "Observation/"))


def test_a_laboratory_report_says_nothing_of_the_method(read: Read) -> None:
    laboratory = coded("LAB", f"{THO}/v2-0074")
    results = [{"reference": "Observation/a"}]
    record = read(
        observation(id="a", valueInteger=1),
        report(category=[laboratory], conclusionCode=None, specimen=None, result=results),
    )
    assert [f.axes for f in of(record, "Observation/")] == [()]
    assert codes(record.findings) == []


@pytest.mark.parametrize("status", REPORT_STATUS)
def test_a_result_inside_a_report_counts_no_more_than_the_report(status: str, read: Read) -> None:
    inside = {**observation(id="i", valueInteger=5)}
    whole = report(
        status=status,
        conclusionCode=None,
        contained=[inside],
        result=[{"reference": "#i"}],
        specimen=None,
    )
    (fact,) = of(read(whole), "DiagnosticReport/")
    assert (fact.value, short(fact.status)) == (5, REPORT_STATUS[status])
    assert fact.id == "DiagnosticReport/r#i"


def test_a_result_of_another_patient_inside_a_report_is_an_error(read: Read) -> None:
    inside = observation(id="i", valueInteger=5, subject={"reference": "Patient/boris"})
    record = read(
        report(conclusionCode=None, contained=[inside], result=[{"reference": "#i"}], specimen=None)
    )
    assert of(record, "DiagnosticReport/") == []
    assert "DATA115" in [f.code for f in record.findings if f.severity == "error"]


@pytest.mark.parametrize(
    ("status", "used"),
    [
        ("available", True),
        ("unavailable", True),
        ("unsatisfactory", False),
        ("entered-in-error", False),
    ],
)
@pytest.mark.threat("E1")
def test_e1_specimen_status(status: str, used: bool, read: Read) -> None:
    result = observation(id="a", valueInteger=1, specimen={"reference": "Specimen/s"})
    (fact,) = of(read({**TISSUE, "status": status}, result), "Observation/")
    assert bool(axis(fact, "specimen")) == used


@pytest.mark.parametrize(
    ("status", "used"),
    [
        ("registered", True),
        ("available", True),
        ("cancelled", False),
        ("entered-in-error", False),
        ("unknown", True),
    ],
)
@pytest.mark.threat("E1")
def test_e1_imaging_study_status(status: str, used: bool, read: Read) -> None:
    dicom = "http://dicom.nema.org/resources/ontology/DCM"
    study = made("ImagingStudy", id="i", status=status, modality=[{"system": dicom, "code": "MR"}])
    result = observation(id="a", valueInteger=1, derivedFrom=[{"reference": "ImagingStudy/i"}])
    (fact,) = of(read(study, result), "Observation/")
    assert bool(axis(fact, "method")) == used


@pytest.mark.parametrize(
    ("status", "used"), [("active", True), ("inactive", True), ("entered-in-error", False)]
)
@pytest.mark.threat("E1")
def test_e1_medication_status(status: str, used: bool, read: Read) -> None:
    drug = {
        "resourceType": "Medication",
        "id": "m",
        "status": status,
        "code": coded("3639", RXNORM),
    }
    use = made(
        "MedicationStatement", status="active", medicationReference={"reference": "Medication/m"}
    )
    (fact,) = of(read(drug, use), "MedicationStatement/")
    assert (fact.concepts == (f"{RXNORM}/3639",)) == used


@pytest.mark.parametrize(
    "status",
    [
        "active",
        "administratively-completed",
        "approved",
        "closed-to-accrual",
        "closed-to-accrual-and-intervention",
        "completed",
        "disapproved",
        "in-review",
        "temporarily-closed-to-accrual",
        "temporarily-closed-to-accrual-and-intervention",
        "withdrawn",
    ],
)
@pytest.mark.threat("E1")
def test_e1_whatever_became_of_a_study_it_is_the_study(status: str, read: Read) -> None:
    study = {
        "resourceType": "ResearchStudy",
        "id": "t",
        "status": status,
        "identifier": [{"system": "urn:other", "value": "42"}],
    }
    subject = made("ResearchSubject", status="on-study", study={"reference": "ResearchStudy/t"})
    (fact,) = of(read(study, subject), "ResearchSubject/")
    assert axis(fact, "study") == ["urn:other/42"]


# -- allergies ------------------------------------------------------------------------------------


def test_that_no_allergy_is_known_is_true_of_the_day_it_was_said(
    read: Read, kb: KnowledgeBase, trial: Trial
) -> None:
    known = coded("716186003")
    nothing = made("AllergyIntolerance", id="n", code=known, recordedDate="2024-02-28")
    something = made(
        "AllergyIntolerance", id="s", code=coded("91936005"), recordedDate="2024-02-28"
    )
    absent, present = of(read(nothing, something), "AllergyIntolerance/")
    assert (text(absent.start), text(absent.end)) == ("2024-02-28", "2024-02-28")
    assert (text(present.start), text(present.recorded)) == (None, "2024-02-28")
    # Recorded on the day of entry it settles that there is no hypersensitivity.
    for day, settled in (("2024-02-28", True), ("2024-03-01", False)):
        (record,) = with_entry_dates([read(nothing)], day, {})
        prepared = kb.prepare(record, trial)
        texts = [s.text for s in prepared.statements if s.end >= prepared.entry.first]
        assert any("no known allergy" in t for t in texts) == settled, day


# -- BodyStructure, index tumour, axes ------------------------------------------------------------


@pytest.mark.parametrize(("active", "used"), [(True, True), (None, True), (False, False)])
@pytest.mark.threat("E1")
def test_e1_a_body_structure_gives_the_site(active: bool | None, used: bool, read: Read) -> None:
    """And it says which tumour: the one of the Condition it is tied to."""
    structure = made(
        "BodyStructure",
        id="b",
        patient={"reference": "Patient/anna"},
        active=active,
        location=coded("68367000"),
        extension=[
            {"url": MCODE + "related-condition", "valueReference": {"reference": "Condition/c"}}
        ],
    )
    size = observation(
        id="o", code=coded("33728-7", LOINC), focus=[{"reference": "BodyStructure/b"}]
    )
    record = read(PROBLEM, structure, size)
    (fact,) = of(record, "Observation/")
    assert fact.tumour == "Condition/c"
    assert axis(fact, "bodySite") == (["http://snomed.info/id/68367000"] if used else [])
    pointing = [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/bodySite",
            "valueReference": {"reference": "BodyStructure/b"},
        }
    ]
    (diagnosis,) = of(read(structure, {**PROBLEM, "extension": pointing}), "Condition/")
    assert bool(axis(diagnosis, "bodySite")) == used


@pytest.mark.parametrize(
    "mark",
    [
        {
            "category": [
                coded("encounter-diagnosis", f"{THO}/condition-category"),
                own("IndexTumour"),
            ]
        },
        {"extension": [{"url": ONTOLOGY + "#subject", "valueCodeableConcept": own("IndexTumour")}]},
        {
            "extension": [
                {
                    "url": ONTOLOGY + "#subject",
                    "valueCoding": {"system": ONTOLOGY, "code": "IndexTumour"},
                }
            ]
        },
    ],
)
def test_a_condition_may_say_that_it_is_the_index_tumour(mark: Json, read: Read) -> None:
    (fact,) = of(read({**PROBLEM, **mark}), "Condition/")
    assert axis(fact, "subject") == [str(SARC.IndexTumour)]
    (unmarked,) = of(read(PROBLEM), "Condition/")
    assert axis(unmarked, "subject") == []


def test_an_extension_named_like_an_axis_is_on_it_for_any_fact(read: Read) -> None:
    role = [{"url": ONTOLOGY + "#resectionRole", "valueCodeableConcept": own("IndexResection")}]
    (fact,) = of(
        read(made("Procedure", status="completed", code=coded("1"), extension=role)), "Proc"
    )
    assert axis(fact, "resectionRole") == [str(SARC.IndexResection)]
    other = [{"url": "urn:other", "valueCodeableConcept": own("IndexResection")}]
    (fact,) = of(
        read(made("Procedure", status="completed", code=coded("1"), extension=other)), "Proc"
    )
    assert fact.axes == ()


# -- adverse events -------------------------------------------------------------------------------

SEVERITY, OUTCOME, CAUSE = (
    f"{THO}/adverse-event-{name}" for name in ("severity", "outcome", "causality-assess")
)
GRADE = "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system"
GRADE_EXTENSION = "http://hl7.org/fhir/us/ctcae/StructureDefinition/ctcae-grade"


def event(**rest: Any) -> Json:
    given = {"actuality": "actual", "event": coded("304386008"), "date": "2024-04-02"}
    return made("AdverseEvent", id="e", **{**given, **rest})


def the_event(record: PatientRecord) -> Fact:
    (fact,) = of(record, "AdverseEvent/")
    return fact


@pytest.mark.parametrize(
    ("actuality", "expected"),
    [("actual", "Confirmed"), ("potential", "NotDone"), (None, "Suspected"), ("?", "Suspected")],
)
@pytest.mark.threat("E1")
def test_e1_adverse_event_actuality(actuality: str | None, expected: str, read: Read) -> None:
    assert short(the_event(read(event(actuality=actuality))).status) == expected


def test_an_adverse_event_is_one_whatever_its_code(read: Read, ontology: Terminology) -> None:
    fact = the_event(read(event()))
    assert (short(fact.kind), text(fact.start)) == ("AdverseEvent", "2024-04-02")
    assert meant(ontology, fact.concepts) == {"ToxicityEvent"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (coded("38341003"), "ToxicityEvent"),  # hypertension, as a condition mapped to another term
        (coded("1"), "ToxicityEvent"),  # mapped to nothing
        (own("UnacceptableToxicity"), "UnacceptableToxicity"),
    ],
)
def test_an_adverse_event_is_no_condition_beside(
    code: Json, expected: str, read: Read, ontology: Terminology
) -> None:
    assert ontology.meaning("http://snomed.info/id/38341003")
    assert meant(ontology, the_event(read(event(event=code))).concepts) == {expected}


@pytest.mark.parametrize("grade", "12345")
def test_the_grade_is_ctcae_s(grade: str, read: Read, ontology: Terminology) -> None:
    given = [{"url": GRADE_EXTENSION, "valueCodeableConcept": coded(grade, GRADE)}]
    fact = the_event(read(event(extension=given, severity=coded("mild", SEVERITY))))
    assert meant(ontology, fact.value_concepts) == {f"ToxicityGrade{grade}"}


@pytest.mark.parametrize(
    ("severity", "possible"),
    [
        ("mild", {"ToxicityGrade1"}),
        ("moderate", {"ToxicityGrade2"}),
        ("severe", {"ToxicityGrade3", "ToxicityGrade4", "ToxicityGrade5"}),
    ],
)
def test_a_severity_is_only_possibly_a_grade(
    severity: str, possible: set[str], read: Read, ontology: Terminology
) -> None:
    fact = the_event(read(event(severity=coded(severity, SEVERITY))))
    coding = ontology.code(fact.value_concepts)
    assert coding.certain == frozenset()
    assert set(map(short, coding.general)) == possible


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("certain", {"RelatedToTreatment"}),
        ("probably-likely", {"RelatedToTreatment"}),
        ("possible", set()),
        ("unlikely", set()),
        ("conditional-classified", set()),
    ],
)
def test_the_cause_is_as_certain_as_it_was_assessed(
    code: str, expected: set[str], read: Read, ontology: Terminology
) -> None:
    suspect = {
        "instance": {"reference": "Medication/m"},
        "causality": [{"assessment": coded(code, CAUSE)}],
    }
    fact = the_event(read(event(suspectEntity=[suspect])))
    assert meant(ontology, axis(fact, "relatedTo")) == expected


def test_two_suspects_assessed_differently_say_nothing_of_one(read: Read) -> None:
    suspects = [
        {"causality": [{"assessment": coded(code, CAUSE)}]} for code in ("certain", "unlikely")
    ]
    record = read(event(suspectEntity=suspects))
    assert axis(the_event(record), "relatedTo") == []
    assert "DATA139" in codes(record.findings)


@pytest.mark.parametrize(
    ("outcome", "ongoing", "recovery"),
    [
        ("resolved", False, {"Recovered"}),
        ("recovering", True, {"NotRecovered"}),
        ("ongoing", True, {"NotRecovered"}),
        ("resolvedWithSequelae", False, {"NotRecovered"}),
        ("fatal", False, set()),
        ("unknown", None, set()),
    ],
)
@pytest.mark.threat("E1")
def test_e1_adverse_event_outcome(
    outcome: str, ongoing: bool | None, recovery: set[str], read: Read, ontology: Terminology
) -> None:
    fact = the_event(read(event(outcome=coded(outcome, OUTCOME))))
    assert fact.ongoing == ongoing
    assert meant(ontology, axis(fact, "recovery")) == recovery


def test_tolerability_and_care_are_marks(read: Read, ontology: Terminology) -> None:
    marks = [
        {"url": f"{ONTOLOGY}#tolerability", "valueCodeableConcept": own("Intolerable")},
        {"url": f"{ONTOLOGY}#supportiveCare", "valueCodeableConcept": own("MaximumSupportiveCare")},
    ]
    fact = the_event(read(event(extension=marks)))
    assert meant(ontology, axis(fact, "tolerability")) == {"Intolerable"}
    assert meant(ontology, axis(fact, "supportiveCare")) == {"MaximumSupportiveCare"}


def test_an_observation_of_toxicity_is_an_adverse_event(read: Read, ontology: Terminology) -> None:
    parts = [
        {"code": own("ToxicityGrade"), "valueInteger": 3},
        {"code": own("relatedTo"), "valueCodeableConcept": own("RelatedToTreatment")},
        {"code": coded("718-7", LOINC), "valueQuantity": {"value": 8, "unit": "g/dL"}},
    ]
    body = observation(id="t", code=own("ToxicityEvent"), component=parts)
    toxicity, haemoglobin = of(read(body), "Observation/")
    assert short(toxicity.kind) == "AdverseEvent"
    assert meant(ontology, toxicity.value_concepts) == {"ToxicityGrade3"}
    assert axis(toxicity, "relatedTo") == [str(SARC.RelatedToTreatment)]
    assert (short(haemoglobin.kind), haemoglobin.value) == ("Measurement", 8)
    (graded,) = of(read(observation(code=own("ToxicityEvent"), valueInteger=2)), "Observation/")
    assert meant(ontology, graded.value_concepts) == {"ToxicityGrade2"}


# -- doses ----------------------------------------------------------------------------------------

ORAL = coded("26643006")


def milligrams(value: Any) -> Json:
    return {"value": value, "unit": "mg", "system": UCUM, "code": "mg"}


def given_dose(*dosages: Json, **rest: Any) -> Json:
    return made(
        "MedicationRequest",
        id="m",
        status="active",
        intent="order",
        medicationCodeableConcept={"text": "anlotinib"},
        dosageInstruction=list(dosages),
        **rest,
    )


def test_the_dose_of_one_administration_and_its_route(read: Read, ontology: Terminology) -> None:
    administered = made(
        "MedicationAdministration",
        status="completed",
        medicationCodeableConcept={"text": "anlotinib"},
        effectiveDateTime="2024-05-01",
        dosage={"dose": milligrams(12), "route": ORAL},
    )
    (fact,) = of(read(administered), "MedicationAdministration/")
    assert (fact.value, fact.unit, text(fact.start), text(fact.end)) == (
        12,
        "mg",
        "2024-05-01",
        "2024-05-01",
    )
    assert meant(ontology, axis(fact, "route")) == {"OralRoute"}
    timing = {"repeat": {"boundsPeriod": {"start": "2024-05-01", "end": "2024-05-14"}}}
    ordered = {"timing": timing, "route": ORAL, "doseAndRate": [{"doseQuantity": milligrams(10)}]}
    (fact,) = of(read(given_dose(ordered)), "MedicationRequest/")
    assert (fact.value, fact.unit, text(fact.start), text(fact.end)) == (
        10,
        "mg",
        "2024-05-01",
        "2024-05-14",
    )
    stated = made(
        "MedicationStatement",
        status="active",
        medicationCodeableConcept={"text": "anlotinib"},
        dosage=[ordered],
    )
    (fact,) = of(read(stated), "MedicationStatement/")
    assert (fact.value, meant(ontology, axis(fact, "route"))) == (10, {"OralRoute"})


def test_several_doses_are_none(read: Read) -> None:
    dosages = [{"doseAndRate": [{"doseQuantity": milligrams(n)}]} for n in (12, 8)]
    record = read(given_dose(*dosages))
    (fact,) = of(record, "MedicationRequest/")
    assert fact.value is None
    assert "DATA139" in codes(record.findings)


def test_a_dose_that_is_no_number_is_unreadable_not_absent(read: Read) -> None:
    record = read(given_dose({"doseAndRate": [{"doseQuantity": milligrams("twelve")}]}))
    (fact,) = of(record, "MedicationRequest/")
    assert (fact.value, fact.value_text) == (None, "dose")
    assert "DATA124" in codes(record.findings)


@pytest.mark.parametrize(("ingredients", "expected"), [(1, [12]), (2, [None, None])])
def test_a_dose_is_an_ingredients_only_if_there_is_no_other(
    ingredients: int, expected: list[Any], read: Read
) -> None:
    drug = {
        "resourceType": "Medication",
        "id": "d",
        "ingredient": [{"itemCodeableConcept": coded(str(n), RXNORM)} for n in range(ingredients)],
    }
    use = made(
        "MedicationAdministration",
        status="completed",
        contained=[drug],
        medicationReference={"reference": "#d"},
        dosage={"dose": milligrams(12)},
    )
    assert [f.value for f in of(read(use), "MedicationAdministration/")] == expected


# -- radiotherapy ----------------------------------------------------------------------------------


def course(code: str = "1217123003", **rest: Any) -> Json:
    volume = [
        {"url": "volume", "valueReference": {"reference": "BodyStructure/v"}},
        {
            "url": "totalDoseDelivered",
            "valueQuantity": {"value": 5000, "system": UCUM, "code": "cGy"},
        },
        {"url": "fractionsDelivered", "valueUnsignedInt": 25},
    ]
    technique = [
        {"url": MCODE + "radiotherapy-modality", "valueCodeableConcept": coded("1156506007")},
        {"url": MCODE + "radiotherapy-technique", "valueCodeableConcept": coded("441799006")},
    ]
    given = {
        "status": "completed",
        "code": coded(code),
        "performedPeriod": {"start": "2024-04-01", "end": "2024-05-03"},
        "extension": [
            {"url": MCODE + "radiotherapy-modality-and-technique", "extension": technique},
            {"url": MCODE + "radiotherapy-dose-delivered-to-volume", "extension": volume},
        ],
    }
    return made("Procedure", id="rt", **{**given, **rest})


def volume(mark: str | None) -> Json:
    body = made("BodyStructure", id="v", patient={"reference": "Patient/anna"})
    return {**body, "morphology": own(mark)} if mark else body


@pytest.mark.parametrize("mark", ["BaseVolume", "BoostVolume", None])
def test_a_course_gives_technique_doses_and_fractions(
    mark: str | None, read: Read, ontology: Terminology
) -> None:
    whole, fractions, dose = sorted(
        of(read(volume(mark), course()), "Procedure/"), key=lambda f: f.id
    )
    assert meant(ontology, whole.concepts) == {"Radiotherapy"}
    assert meant(ontology, axis(whole, "technique")) == {"IMRT"}
    assert (text(whole.start), text(whole.end), whole.ongoing) == (
        "2024-04-01",
        "2024-05-03",
        False,
    )
    assert meant(ontology, dose.concepts) == {"DeliveredDose"}
    assert (dose.value, dose.unit, text(dose.start)) == (5000, "cGy", "2024-05-03")
    assert meant(ontology, fractions.concepts) == {"DeliveredFractions"}
    assert (fractions.value, fractions.unit) == (25, "1")
    for fact in (dose, fractions):
        assert ontology.kind_of(next(iter(ontology.code(fact.concepts).certain))) == str(
            SARC.Measurement
        )
        assert meant(ontology, axis(fact, "volume")) == ({mark} if mark else set())


def test_a_phase_is_no_course(read: Read, ontology: Terminology) -> None:
    """What a part gave is not the sum: only a course summary gives the dose of the course."""
    found = of(read(volume(None), course("1222565005")), "Procedure/rt")
    assert {frozenset(meant(ontology, f.concepts)) for f in found} == {
        frozenset({"Radiotherapy"}),
        frozenset({"OtherMeasurement"}),
    }


def test_one_fraction_is_a_procedure_with_its_dose(read: Read, ontology: Terminology) -> None:
    fraction = course("1297069006", performedPeriod=None, performedDateTime="2024-04-01T10:00:00Z")
    fraction["extension"][1]["extension"].pop()
    _, dose = sorted(of(read(volume("BaseVolume"), fraction), "Procedure/"), key=lambda f: f.id)
    assert (dose.kind, meant(ontology, dose.concepts)) == (None, {"RadiotherapyFraction"})
    assert ontology.kind_of(str(SARC.RadiotherapyFraction)) == str(SARC.Procedure)
    assert (text(dose.start), dose.value) == ("2024-04-01T10:00:00Z", 5000)


def test_two_techniques_are_none(read: Read) -> None:
    body = course()
    other = {
        "url": MCODE + "radiotherapy-modality-and-technique",
        "extension": [
            {"url": MCODE + "radiotherapy-modality", "valueCodeableConcept": coded("45643008")}
        ],
    }
    body["extension"].append(other)
    record = read(volume(None), body)
    assert all(axis(f, "technique") == [] for f in of(record, "Procedure/"))
    assert "DATA139" in codes(record.findings)


def test_a_dose_that_is_no_number_of_a_volume_is_unreadable(read: Read) -> None:
    body = course()
    body["extension"][1]["extension"][1]["valueQuantity"]["value"] = "50"
    record = read(volume(None), body)
    (dose,) = [f for f in of(record, "Procedure/") if f.id.endswith("totalDoseDelivered")]
    assert (dose.value, dose.value_text) == (None, "totalDoseDelivered")
    assert "DATA124" in codes(record.findings)


# -- who answers, and what is asked ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "named"),
    [
        ("proposed", False),
        ("active", True),
        ("suspended", True),
        ("inactive", True),
        ("entered-in-error", False),
    ],
)
@pytest.mark.threat("E1")
def test_e1_care_team_status(status: str, named: bool, read: Read) -> None:
    team = made("CareTeam", id="t", status=status, name="sarcoma board")
    asked = {"coding": [{"system": "https://w3id.org/sarc-kb/trial/NCT05602415", "code": "I08a"}]}
    answer = observation(
        id="a", code=asked, valueBoolean=True, performer=[{"reference": "CareTeam/t"}]
    )
    (fact,) = of(read(team, answer), "Observation/")
    assert fact.performer == ("sarcoma board" if named else "CareTeam/t")


def test_a_role_is_named_by_what_it_is(read: Read) -> None:
    role = {
        "resourceType": "PractitionerRole",
        "id": "p",
        "code": [{"text": "surgical oncologist"}],
    }
    response = made(
        "QuestionnaireResponse",
        status="completed",
        authored="2024-02-28",
        author={"reference": "PractitionerRole/p"},
        item=[{"linkId": "I08a", "answer": [{"valueBoolean": True}]}],
    )
    (fact,) = of(read(role, response), "QuestionnaireResponse/")
    assert fact.performer == "surgical oncologist"


LOCAL = "http://hospital.example/Questionnaire/screening"
QUESTION = "https://w3id.org/sarc-kb/trial/NCT05602415/question-transfusion-14-days"


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        ("urn:sarc-kb:linkid:4.2", True),
        (f"{LOCAL}#4.2", True),
        ("http://hospital.example/Questionnaire/other#4.2", False),
        ("urn:sarc-kb:linkid:4.3", False),
    ],
)
def test_another_link_id_asks_what_it_is_mapped_to(
    subject: str, asked: bool, terms: FhirTerms
) -> None:
    mapped = replace(terms, means=lambda iri: frozenset({QUESTION} if iri == subject else ()))
    response = made(
        "QuestionnaireResponse",
        questionnaire=LOCAL + "|2.0",
        status="completed",
        authored="2024-02-28",
        item=[{"linkId": "4", "item": [{"linkId": "4.2", "answer": [{"valueBoolean": False}]}]}],
    )
    (record,) = read_fhir(encode([ANNA, response]), "x", mapped)
    found = of(record, "QuestionnaireResponse/")
    assert [f.concepts for f in found] == ([(QUESTION,)] if asked else [])
    assert ("DATA151" in codes(record.findings)) != asked


def test_a_mapping_of_the_team_asks_too(kb: KnowledgeBase, trial: Trial, tmp_path: Any) -> None:
    table = tmp_path / "own.sssom.tsv"
    table.write_text(
        "#curie_map:\n#  trial: https://w3id.org/sarc-kb/trial/NCT05602415/\n"
        "subject_id\tpredicate_id\tobject_id\tmapping_justification\n"
        "urn:sarc-kb:linkid:4.2\tskos:exactMatch\ttrial:question-transfusion-14-days\tsemapv:ManualMappingCuration\n",
        encoding="utf-8",
    )
    grown = kb.with_mappings(table)
    terms = grown.reading_terms(trial).fhir
    assert QUESTION in terms.questions.values()
    response = made(
        "QuestionnaireResponse",
        status="completed",
        authored="2024-02-28",
        item=[{"linkId": "4.2", "answer": [{"valueBoolean": False}]}],
    )
    (record,) = read_fhir(encode([ANNA, response]), "x", terms)
    (fact,) = of(record, "QuestionnaireResponse/")
    assert fact.concepts == (QUESTION,)
    assert fact.value_concepts == (str(SARC.No),)


# -- texts ----------------------------------------------------------------------------------------


def test_a_text_has_an_iri_that_a_mapping_may_know(terms: FhirTerms) -> None:
    known = text_iri("Tumor growth type on MRI")
    mapped = replace(
        terms, means=lambda iri: frozenset({"x"} if iri == text_iri("diffuse") else ())
    )
    body = observation(code={"text": "tumor growth TYPE on MRI"}, valueString="Diffuse")
    (record,) = read_fhir(encode([ANNA, body]), "x", mapped)
    (fact,) = of(record, "Observation/")
    assert (fact.concepts, fact.value_concepts) == ((known,), (text_iri("diffuse"),))
    unmapped = observation(code={"text": "x"}, valueString="diffuse")
    (record,) = read_fhir(encode([ANNA, unmapped]), "x", terms)
    (fact,) = of(record, "Observation/")
    assert (fact.value_concepts, fact.value_text) == ((), "diffuse")


def test_no_text_of_the_record_is_told_in_findings(
    kb: KnowledgeBase, trial: Trial, terms: FhirTerms
) -> None:
    canary = "CANARY of Anna"
    body = made("Condition", code={"text": canary}, recordedDate="2024-01-01")
    (record,) = read_fhir(encode([ANNA, body]), "x", terms)
    (dated,) = with_entry_dates([record], "2024-06-01", {})
    prepared = kb.prepare(dated, trial)
    assert any(f.concepts[0].startswith(TEXT) for f in record.facts)
    shown = " ".join(map(str, (*record.findings, *prepared.findings)))
    assert "canary" not in shown.casefold()


def test_snomed_is_known_by_these_terms(terms: FhirTerms) -> None:
    assert terms.code(SNOMED, "1") == "http://snomed.info/id/1"


# -- the page for mapping teams ----------------------------------------------------------------------

PAGE = Path(__file__).resolve().parent.parent / "docs" / "fhir.md"


def test_each_type_that_is_read_stands_in_the_page_and_no_other() -> None:
    page = PAGE.read_text("utf-8")
    types, rest = page.partition("## Resource types")[2].split(
        "Read through what refers to them", 1
    )
    rows = [line for line in types.splitlines() if line.startswith("| ")]
    head, *types_read = [row.split("|")[1].strip() for row in rows]
    assert head == "type"
    assert set(types_read) == set(READERS)
    named = rest.partition("## Codes")[0]
    assert {kind for kind in SUPPORTING | CONSULTED if kind in named} == SUPPORTING | CONSULTED


def test_the_page_names_terms_that_are_there(ontology: Terminology) -> None:
    names = set(re.findall(r"sarc:([A-Z]\w+)", PAGE.read_text("utf-8")))
    assert len(names) >= 5
    assert all(ontology.known(str(SARC[name])) for name in names)
