"""Resources of other releases of FHIR, told by elements that R4 does not have."""

from __future__ import annotations

from collections.abc import Mapping

from sarc_kb.sources.fhir_resources.elements import Json

# Elements that only another release of FHIR has, and that change what the resource says.
FOREIGN: Mapping[str, Mapping[str, str]] = {
    "Patient": {"animal": "STU3"},
    "Condition": {"patient": "DSTU2", "dateRecorded": "DSTU2"},
    "Procedure": {
        "notDone": "STU3",
        "notPerformed": "DSTU2",
        "occurrenceDateTime": "R5",
        "occurrencePeriod": "R5",
        "reason": "R5",
    },
    "MedicationRequest": {"medication": "R5", "reason": "R5"},
    "MedicationAdministration": {
        "medication": "R5",
        "notGiven": "STU3",
        "wasNotGiven": "DSTU2",
        "patient": "DSTU2",
    },
    "MedicationStatement": {
        "medication": "R5",
        "adherence": "R5",
        "taken": "STU3",
        "wasNotTaken": "DSTU2",
        "patient": "DSTU2",
    },
    "AllergyIntolerance": {"substance": "DSTU2"},
    "FamilyMemberHistory": {"notDone": "STU3"},
    "Consent": {"subject": "R5", "decision": "R5", "consentingParty": "STU3", "except": "STU3"},
    "ResearchSubject": {"subject": "R5", "progress": "R5"},
    "QuestionnaireResponse": {"group": "DSTU2"},
}
# Elements that R4 writes as objects and another release as plain codes.
WAS_A_CODE: Mapping[str, tuple[str, ...]] = {
    "Condition": ("clinicalStatus", "verificationStatus"),
    "AllergyIntolerance": ("clinicalStatus", "verificationStatus"),
}


def other_release(body: Json, kind: str) -> tuple[str, str] | None:
    """Return an element that R4 does not have in this way, and the release that does."""
    for element, release in FOREIGN.get(kind, {}).items():
        if element in body:
            return element, release
    for element in WAS_A_CODE.get(kind, ()):
        if isinstance(body.get(element), str):
            return element, "STU3"
    return None
