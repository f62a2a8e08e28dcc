"""Which resource types are read, by which function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.adverse_event import adverse_event
from sarc_kb.sources.fhir_resources.allergy import allergy_intolerance
from sarc_kb.sources.fhir_resources.condition import condition
from sarc_kb.sources.fhir_resources.consent import consent
from sarc_kb.sources.fhir_resources.family_history import family_member_history
from sarc_kb.sources.fhir_resources.lists import completeness_list
from sarc_kb.sources.fhir_resources.medication import (
    medication_administration,
    medication_request,
    medication_statement,
)
from sarc_kb.sources.fhir_resources.observation import observation
from sarc_kb.sources.fhir_resources.patient import patient
from sarc_kb.sources.fhir_resources.procedure import procedure
from sarc_kb.sources.fhir_resources.questionnaire import questionnaire_response
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.report import diagnostic_report
from sarc_kb.sources.fhir_resources.research import research_subject

READERS: Mapping[str, Callable[[Reading], Iterator[Fact]]] = {
    "Patient": patient,
    "Condition": condition,
    "Observation": observation,
    "Procedure": procedure,
    "MedicationAdministration": medication_administration,
    "MedicationRequest": medication_request,
    "MedicationStatement": medication_statement,
    "AllergyIntolerance": allergy_intolerance,
    "AdverseEvent": adverse_event,
    "DiagnosticReport": diagnostic_report,
    "List": completeness_list,
    "FamilyMemberHistory": family_member_history,
    "Consent": consent,
    "ResearchSubject": research_subject,
    "QuestionnaireResponse": questionnaire_response,
}
# Read through the resources that refer to them.
SUPPORTING = frozenset(("Medication", "ResearchStudy"))
# Of these too, but single elements only.
CONSULTED = frozenset(
    ("BodyStructure", "CareTeam", "ImagingStudy", "Organization", "PractitionerRole", "Specimen")
)
# All that is read of these is in such elements: without one they speak in words alone, or say nothing.
SPEAKING: Mapping[str, tuple[str, ...]] = {
    "DiagnosticReport": ("conclusionCode", "result"),
    "FamilyMemberHistory": ("condition",),
    "QuestionnaireResponse": ("item",),
}
# A List need be about nobody, such as one of patients.
ABOUT_NOBODY = frozenset(("List",))
