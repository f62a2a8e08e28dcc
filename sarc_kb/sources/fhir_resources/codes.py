"""What the codes of FHIR itself mean for a fact; they belong to the format, not to medicine."""

from __future__ import annotations

from collections.abc import Mapping

Counts = tuple[str, bool | None]  # a status of a fact, and whether the thing goes on

OBSERVATION_STATUS: Mapping[str, Counts] = {
    "registered": ("Preliminary", None),
    "preliminary": ("Preliminary", None),
    "final": ("Confirmed", None),
    "amended": ("Confirmed", None),
    "corrected": ("Confirmed", None),
    "cancelled": ("Cancelled", None),
    "entered-in-error": ("EnteredInError", None),
    "unknown": ("Suspected", None),
}
# Interrupted or broken off means that some of it was done.
EVENT_STATUS: Mapping[str, Counts] = {
    "preparation": ("Planned", None),
    "in-progress": ("Confirmed", True),
    "not-done": ("NotDone", None),
    "on-hold": ("Confirmed", None),
    "stopped": ("Confirmed", False),
    "completed": ("Confirmed", False),
    "entered-in-error": ("EnteredInError", None),
    "unknown": ("Suspected", None),
}
REQUEST_STATUS: Mapping[str, Counts] = {
    "draft": ("Planned", None),
    "active": ("Confirmed", True),
    "on-hold": ("Suspected", None),
    "cancelled": ("Cancelled", None),
    "stopped": ("Confirmed", False),
    "completed": ("Confirmed", False),
    "entered-in-error": ("EnteredInError", None),
    "unknown": ("Suspected", None),
}
REQUEST_INTENT: Mapping[str, bool] = {  # whether it was ordered
    "proposal": False,
    "plan": False,
    "option": False,
    "order": True,
    "original-order": True,
    "reflex-order": True,
    "filler-order": True,
    "instance-order": True,
}
STATEMENT_STATUS: Mapping[str, Counts] = {
    "active": ("Confirmed", True),
    "completed": ("Confirmed", False),
    "entered-in-error": ("EnteredInError", None),
    "intended": ("Planned", None),
    "stopped": ("Confirmed", False),
    "on-hold": ("Confirmed", None),
    "unknown": ("Suspected", None),
    "not-taken": ("NotDone", None),
}
FAMILY_STATUS: Mapping[str, Counts] = {
    "partial": ("Confirmed", None),
    "completed": ("Confirmed", None),
    "entered-in-error": ("EnteredInError", None),
    "health-unknown": ("Suspected", None),
}
RESPONSE_STATUS: Mapping[str, Counts] = {
    "in-progress": ("Preliminary", None),
    "completed": ("Confirmed", None),
    "amended": ("Confirmed", None),
    "entered-in-error": ("EnteredInError", None),
    "stopped": ("Preliminary", None),
}
# Who is only considered for a study does not take part in it.
SUBJECT_STATUS: Mapping[str, Counts] = {
    "candidate": ("Planned", None),
    "potential-candidate": ("Planned", None),
    "eligible": ("Planned", None),
    "screening": ("Planned", None),
    "pending-on-study": ("Planned", None),
    "ineligible": ("NotDone", None),
    "not-registered": ("NotDone", None),
    "on-study": ("Confirmed", True),
    "on-study-intervention": ("Confirmed", True),
    "on-study-observation": ("Confirmed", True),
    "follow-up": ("Confirmed", True),
    "off-study": ("Confirmed", False),
    "withdrawn": ("Confirmed", False),
}
# An inactive consent was ended or replaced; an opposed one was never given.
CONSENT_STATUS: Mapping[str, Counts] = {
    "draft": ("Confirmed", None),
    "proposed": ("Confirmed", None),
    "active": ("Confirmed", None),
    "rejected": ("Confirmed", None),
    "inactive": ("Confirmed", None),
    "entered-in-error": ("EnteredInError", None),
}
CONSENT_VALUE: Mapping[str, str] = {
    "draft": "ConsentNotSigned",
    "proposed": "ConsentNotSigned",
    "active": "ConsentInForce",
    "rejected": "ConsentNotSigned",
    "inactive": "ConsentWithdrawn",
    "entered-in-error": "ConsentInForce",
}
REPORT_STATUS: Mapping[str, Counts] = {
    "registered": ("Preliminary", None),
    "partial": ("Preliminary", None),
    "preliminary": ("Preliminary", None),
    "final": ("Confirmed", None),
    "amended": ("Confirmed", None),
    "corrected": ("Confirmed", None),
    "appended": ("Confirmed", None),
    "cancelled": ("Cancelled", None),
    "entered-in-error": ("EnteredInError", None),
    "unknown": ("Suspected", None),
}
# A retired list was right once; whether it was complete then, nobody vouches for any more.
LIST_STATUS: Mapping[str, Counts] = {
    "current": ("Confirmed", None),
    "retired": ("Cancelled", None),
    "entered-in-error": ("EnteredInError", None),
}
WHOLE_LIST: Mapping[str, bool] = {"working": True, "snapshot": True, "changes": False}
# Why an empty list is empty: only the first says that there is nothing.
EMPTY_LIST: Mapping[str, bool] = {
    "nilknown": True,
    "notasked": False,
    "withheld": False,
    "unavailable": False,
    "notstarted": False,
    "closed": False,
    "?": False,
}
# A potential event did not happen.
ACTUALITY: Mapping[str, str] = {"actual": "Confirmed", "potential": "NotDone"}
EVENT_OUTCOME: Mapping[str, bool | None] = {  # whether it goes on
    "resolved": False,
    "recovering": True,
    "ongoing": True,
    "resolvedWithSequelae": False,
    "fatal": False,
    "unknown": None,
}
# What is taken from resources that others refer to, unless their status is one of these.
VOID_SPECIMEN = frozenset(("entered-in-error", "unsatisfactory"))
VOID_MEDICATION = frozenset(("entered-in-error",))
VOID_STUDY = frozenset(("cancelled", "entered-in-error"))
VOID_TEAM = frozenset(("proposed", "entered-in-error"))
VERIFICATION: Mapping[str, str] = {
    "unconfirmed": "Suspected",
    "provisional": "Suspected",
    "differential": "Suspected",
    "confirmed": "Confirmed",
    "refuted": "Refuted",
    "entered-in-error": "EnteredInError",
    "?": "Suspected",
}
CLINICAL: Mapping[str, bool | None] = {
    "active": True,
    "recurrence": True,
    "relapse": True,
    "inactive": False,
    "remission": False,
    "resolved": False,
    "?": None,
}
TRIAL_PHASES = (
    "early-phase-1",
    "phase-1",
    "phase-1-phase-2",
    "phase-2",
    "phase-2-phase-3",
    "phase-3",
    "phase-4",
)
COMPARATORS = (None, "<", "<=", ">=", ">")
UCUM = "http://unitsofmeasure.org"
GENDER = "http://hl7.org/fhir/administrative-gender"

_THO = "http://terminology.hl7.org/CodeSystem/"
DATA_ABSENT_REASON = _THO + "data-absent-reason"
CONDITION_CLINICAL, CONDITION_VERIFICATION = (
    _THO + "condition-clinical",
    _THO + "condition-ver-status",
)
ALLERGY_CLINICAL = _THO + "allergyintolerance-clinical"
ALLERGY_VERIFICATION = _THO + "allergyintolerance-verification"
ANSWERS: Mapping[tuple[str, str], str] = {
    (_THO + "v2-0136", "Y"): "Yes",
    (_THO + "v2-0136", "N"): "No",
    ("http://snomed.info/sct", "373066001"): "Yes",
    ("http://snomed.info/sct", "373067005"): "No",
    ("http://snomed.info/sct", "261665006"): "Unknown",
    ("http://loinc.org", "LA33-6"): "Yes",
    ("http://loinc.org", "LA32-8"): "No",
    ("http://loinc.org", "LA12688-0"): "Unknown",
    (_THO + "v3-NullFlavor", "UNK"): "Unknown",
    (_THO + "v3-NullFlavor", "ASKU"): "Unknown",
    (DATA_ABSENT_REASON, "unknown"): "Unknown",
    (DATA_ABSENT_REASON, "asked-unknown"): "Unknown",
}

EMPTY_REASON = _THO + "list-empty-reason"
CTCAE_GRADE = "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system"
EVENT_RESOLVED = "http://hl7.org/fhir/us/ctcae/StructureDefinition/adverse-event-resolved-date"
# What an AdverseEvent resource is about, whatever its code; a mapping says which term that is.
ADVERSE_EVENT = "http://hl7.org/fhir/StructureDefinition/AdverseEvent"

_MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
HISTOLOGY = _MCODE + "histology-morphology-behavior"
DOSE_TO_VOLUME = _MCODE + "radiotherapy-dose-delivered-to-volume"
TECHNIQUES = _MCODE + "radiotherapy-modality-and-technique"
TECHNIQUE = (_MCODE + "radiotherapy-technique", _MCODE + "radiotherapy-modality")
FRACTIONS = (
    "http://hl7.org/fhir/us/codex-radiation-therapy/StructureDefinition/"
    "codexrt-radiotherapy-fractions-delivered"
)
RELATED_PRIMARY = _MCODE + "related-primary-cancer-condition"
RELATED_CONDITION = _MCODE + "related-condition"
SECONDARY_CANCER = _MCODE + "secondary-cancer-condition"
BODY_STRUCTURE = (
    "http://hl7.org/fhir/StructureDefinition/bodySite",
    "http://hl7.org/fhir/StructureDefinition/procedure-targetBodyStructure",
)
CONDITION_RELATED = "http://hl7.org/fhir/StructureDefinition/condition-related"
ASSERTED_DATE = "http://hl7.org/fhir/StructureDefinition/condition-assertedDate"

# An Observation whose focus is one of these is not about the patient.
SOMETHING_ELSE = frozenset(("Patient", "RelatedPerson", "Group", "Device", "Location"))
