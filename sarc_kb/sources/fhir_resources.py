"""What each FHIR R4 resource says, as facts: one function a resource type.

Codes stay codes, units stay units, and no text is interpreted. The tables say what FHIR's own
codes mean; they belong to the format. `sarc_kb.sources.fhir` finds the resources and whose they
are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.errors import Finding, Severity
from sarc_kb.facts import Fact

Json = dict[str, Any]

# code: (severity, why it matters, what to do)
FINDINGS: Mapping[str, tuple[Severity, str, str]] = {
    # An error means that the patient cannot be judged; a warning that something was not used, or
    # counts as possible only.
    "DATA101": ("error", "FHIR JSON is UTF-8", "convert it to UTF-8"),
    "DATA102": ("error", "it is not well-formed JSON", "export it again"),
    "DATA103": ("error", "readers would disagree on which value counts", "give each key once"),
    "DATA104": ("error", "JSON knows no such number", "leave the value out or correct it"),
    "DATA105": ("error", "no FHIR resource nests so deep", "correct it"),
    "DATA106": ("error", "such text cannot be written out again", "correct it"),
    "DATA107": ("error", "reading it could exhaust the machine", "split it, or raise the limit"),
    "DATA108": ("info", "FHIR JSON has none; it was skipped", "write UTF-8 without it"),
    "DATA110": ("error", "it cannot be told what it is", "correct the resource"),
    "DATA111": ("error", "there is nobody to assess", "add the patients' resources"),
    "DATA112": ("error", "only FHIR R4 (4.0.1) is read", "convert the resource to R4"),
    "DATA113": ("warning", "sex and date of birth are not known", "add the Patient resource"),
    "DATA114": ("error", "a resource is never given to a patient by guess", "name its patient"),
    "DATA115": ("error", "data of two patients would mix", "correct the reference or the subject"),
    "DATA116": ("warning", "references are resolved inside the input only", "add what it names"),
    "DATA117": ("warning", "each version counts as possible only", "leave the one that holds"),
    "DATA118": ("info", "a later version is in the input", "nothing"),
    "DATA119": ("warning", "the Bundle itself deletes it, so it was not used", "nothing"),
    "DATA120": ("warning", "it may reverse the meaning", "convey the meaning without it"),
    "DATA121": ("warning", "the fact counts as possible only", "use a code of FHIR R4"),
    "DATA122": ("warning", "the resource contradicts itself", "correct it at source"),
    "DATA123": ("warning", "what the fact is about cannot be read", "add a code"),
    "DATA124": ("warning", "the result counts as unreadable", "use a value that is read"),
    "DATA125": ("warning", "the fact stays without this date", "give a date or a period"),
    "DATA126": ("warning", "no upper limit of normal was taken from it", "give the one that holds"),
    "DATA127": ("warning", "it does not speak of the patient, so it was not used", "nothing"),
    "DATA128": ("warning", "it may be to another study", "name it in ResearchSubject.consent"),
    "DATA129": ("warning", "which study it is cannot be told", "give the study's identifier"),
    "DATA130": ("error", "a patient enters a study once", "leave the one that holds"),
    "DATA131": ("warning", "nothing that is read speaks of the patient", "add resources"),
    "DATA150": ("info", "no fact is made from this type of resource", "nothing"),
    "DATA151": ("info", "the knowledge base asks no such question", "nothing"),
}


def finding(code: str, where: str, found: str) -> Finding:
    """Return the finding ``code`` with what was found ``where``."""
    severity, why, fix = FINDINGS[code]
    return Finding(code, severity, where, found, why, fix)


# -- what FHIR's codes mean ------------------------------------------------------------------

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

_MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
HISTOLOGY = _MCODE + "histology-morphology-behavior"
RELATED_PRIMARY = _MCODE + "related-primary-cancer-condition"
RELATED_CONDITION = _MCODE + "related-condition"
SECONDARY_CANCER = _MCODE + "secondary-cancer-condition"
CONDITION_RELATED = "http://hl7.org/fhir/StructureDefinition/condition-related"
ASSERTED_DATE = "http://hl7.org/fhir/StructureDefinition/condition-assertedDate"

# An Observation whose focus is one of these is not about the patient.
SOMETHING_ELSE = frozenset(("Patient", "RelatedPerson", "Group", "Device", "Location"))

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


# -- reading one resource --------------------------------------------------------------------

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S")
_UNSAFE = re.compile(r'[\x00-\x20<>"{}|\\^`\x7f-\xa0]')
_TYPE_AND_ID = re.compile(r"([A-Za-z]+)/[^/]+$")
_LONGEST_WORDS = 200


def iri_safe(value: str) -> str:
    """Return ``value`` with what an IRI may not hold percent-encoded.

    >>> iri_safe("NM_1:c.2A>G")
    'NM_1:c.2A%3EG'
    """
    return _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), value)


def dicts(value: object) -> list[Json]:
    """Return the objects of ``value``, whether it repeats or not; anything else is left out."""
    if isinstance(value, dict):
        return [value]
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def string(value: object) -> str | None:
    """Return ``value`` if it is a string with something in it."""
    return value if isinstance(value, str) and value.strip() else None


def words(value: object) -> str | None:
    """Return ``value`` if it is a string with something in it, cut to what a report can show."""
    return value[:_LONGEST_WORDS] if isinstance(value, str) and value.strip() else None


def referred(reference: Json) -> str:
    """Return what a Reference refers to, or nothing."""
    return string(reference.get("reference")) or ""


def shown(reference: str) -> str:
    """Return a reference as findings give it: a search in it may hold a patient's identifiers.

    >>> shown("Patient?identifier=123")
    'Patient?'
    """
    before, question, _ = iri_safe(reference).partition("?")
    return before[:_LONGEST_WORDS] + question


def extensions(body: Json, *urls: str) -> list[Json]:
    """Return the extensions of ``body`` with one of ``urls``."""
    return [e for e in dicts(body.get("extension")) if e.get("url") in urls]


@dataclass(frozen=True, slots=True)
class FhirTerms:
    """What the reader must know of the knowledge base.

    ``systems``: FHIR code-system URI to the IRI prefix of its codes. ``questions``: linkId or rule
    id to the IRI of the question or rule. ``study_ids``: registry id to the IRI of the study;
    these are the trial's own. ``term``: local name to IRI of the vocabulary. ``names``: names of
    substances (lower case) to terms, for medications and allergens whose ``text`` is just that
    name, because some substances have no code yet.
    """

    systems: Mapping[str, str]
    questions: Mapping[str, str]
    study_ids: Mapping[str, str]
    term: Callable[[str], str]
    names: Mapping[str, str] = field(default_factory=dict)

    def prefix(self, system: str | None) -> str:
        """Return what stands before the codes of ``system``; an unknown one keeps its URI."""
        base = system or ""
        if base in self.systems:
            return self.systems[base]
        if not _ABSOLUTE.match(base):
            base = "urn:x-fhir-system:" + base
        return base if base.endswith(("/", "#")) else base + "/"

    def code(self, system: str | None, code: str) -> str:
        """Return the IRI of a code."""
        return iri_safe(self.prefix(system) + code)


@dataclass(eq=False, slots=True)
class Entry:
    """One resource of the input.

    ``where``: its place; ``url``: its fullUrl; ``name``: what reports and references call it;
    ``container``: the resource it is contained in; ``disputed``: another version of it exists;
    ``refused``: the code of a finding and what was found, if it must not be used.
    """

    where: str
    body: Json
    url: str | None = None
    name: str = ""
    container: Entry | None = None
    disputed: bool = False
    refused: tuple[str, str] | None = None

    @property
    def type(self) -> str:
        return string(self.body.get("resourceType")) or ""

    @property
    def label(self) -> str:
        """Place and name, as findings give them."""
        return f"{self.where} {self.type if self.name == self.where else self.name}".strip()


@dataclass(slots=True)
class Reading:
    """One resource while it is read: its elements, what they refer to, what was found odd.

    ``enrolments``: ResearchSubjects by the name of the Consent they name. ``entry_dates``
    collects the patient's dates of entry into the trial.
    """

    entry: Entry
    terms: FhirTerms
    resolve: Callable[[str, Entry], Entry | None]
    enrolments: Mapping[str, list[Entry]]
    findings: list[Finding]
    labels: dict[str, str]
    entry_dates: list[PartialDate]

    @property
    def body(self) -> Json:
        return self.entry.body

    def note(self, code: str, found: str) -> None:
        self.findings.append(finding(code, self.entry.label, found))

    def term(self, name: str) -> str:
        return self.terms.term(name)

    def fact(
        self, part: str, kind: str, concepts: tuple[str, ...], status: str, **rest: Any
    ) -> Fact:
        """Return a fact of this resource; ``part`` tells several apart."""
        return Fact(
            id=self.entry.name + part,
            kind=self.term(kind),
            concepts=concepts,
            status=self.term(status),
            source=self.entry.name,
            **rest,
        )

    # codes

    def codings(self, concept: object) -> tuple[str, ...]:
        """Return the IRIs of all codings of a CodeableConcept, or of several."""
        found: dict[str, None] = {}
        for one in dicts(concept):
            for coding in dicts(one.get("coding")):
                code = string(coding.get("code"))
                if code is None:
                    continue
                iri = self.terms.code(string(coding.get("system")), code)
                found[iri] = None
                if label := words(coding.get("display")) or words(one.get("text")):
                    self.labels.setdefault(iri, label)
        return tuple(found)

    def concepts(self, concept: object) -> tuple[str, ...]:
        """Return the codings of ``concept``, or FHIR's own code for having none.

        That code is mapped to nothing: the fact stays visible as one that nobody can read, and
        the list it belongs to does not look complete without it.
        """
        worded = any(words(one.get("text")) for one in dicts(concept))
        absent = self.terms.code(DATA_ABSENT_REASON, "as-text" if worded else "unknown")
        return self.codings(concept) or (absent,)

    def about(self, concept: object) -> tuple[str, ...]:
        """Return what the resource is about; having no code is a finding."""
        found = self.codings(concept)
        if not found:
            self.note("DATA123", "has no code")
        return found or self.concepts(concept)

    def substance(self, concept: object) -> tuple[str, ...]:
        """Return the codings of a substance, and the term of which its text is the name."""
        names = (words(one.get("text")) for one in dicts(concept))
        terms = (self.terms.names.get(" ".join(n.casefold().split())) for n in names if n)
        return tuple(dict.fromkeys((*self.codings(concept), *filter(None, terms))))

    def axes(self, **concepts: object) -> tuple[tuple[str, str], ...]:
        """Return the codings on each axis."""
        return tuple(
            (self.term(axis), iri)
            for axis, concept in concepts.items()
            for iri in self.codings(concept)
        )

    # statuses

    def status(self, table: Mapping[str, Counts]) -> Counts:
        """Return what the status means; one that FHIR does not know is a finding."""
        status = self.body.get("status")
        if isinstance(status, str) and status in table:
            return table[status]
        self.note("DATA121", "has no status that FHIR knows")
        return "Suspected", None

    def coded_status(self, name: str, system: str, known: Collection[str]) -> str | None:
        """Return a status that is a CodeableConcept; ``?`` if none of its codes is known."""
        if self.body.get(name) is None:
            return None
        for concept in dicts(self.body[name]):
            for coding in dicts(concept.get("coding")):
                code = string(coding.get("code"))
                if coding.get("system") in (system, None) and code in known and code != "?":
                    return code
        self.note("DATA121", f"{name} has no code that FHIR knows")
        return "?"

    # dates

    def date(self, body: Json, name: str) -> PartialDate | None:
        """Return the date in ``name``; one that cannot be read is a finding."""
        value = body.get(name)
        if value is None:
            return None
        try:
            return parse_date(value if isinstance(value, str) else "")
        except ValueError as error:
            self.note("DATA125", f"{name} is {error}")
            return None

    def period(self, body: Json, name: str) -> tuple[PartialDate | None, PartialDate | None]:
        """Return the ends of a Period; one that ends before it starts says nothing."""
        value = body.get(name)
        if value is None:
            return None, None
        if not isinstance(value, dict):
            self.note("DATA125", f"{name} is not a period")
            return None, None
        start, end = self.date(value, "start"), self.date(value, "end")
        if start and end and start.first > end.last:
            self.note("DATA125", f"{name} ends before it starts")
            return None, None
        return start, end

    def when(self, stem: str) -> tuple[PartialDate | None, PartialDate | None]:
        """Return start and end of ``stem[x]``: of a point in time or a period."""
        for kind in ("DateTime", "Instant"):
            if stem + kind in self.body:
                point = self.date(self.body, stem + kind)
                return point, point
        if stem + "Period" in self.body:
            return self.period(self.body, stem + "Period")
        if other := choice(self.body, stem):
            self.note("DATA125", f"{other[0]} is not a date or a period")
        return None, None

    def extent(
        self, stem: str, ongoing: bool | None
    ) -> tuple[PartialDate | None, PartialDate | None, bool | None]:
        """Return start, end and whether it goes on; a point in time does not end what goes on."""
        start, end = self.when(stem)
        if ongoing and end is start:
            end = None
        return start, end, None if ongoing and end else ongoing

    # references

    def target(self, reference: Json) -> Entry | None:
        """Return the resource a Reference means; one that leads nowhere is a finding."""
        value = string(reference.get("reference"))
        found = self.resolve(value, self.entry) if value else None
        if found is None and value:
            self.note("DATA116", f"the reference {shown(value)} leads to nothing usable")
        return found

    def tumour(self, references: object) -> str | None:
        """Return the tumour on which references to Conditions and BodyStructures agree.

        What is not in the input is still another one than those that are.
        """
        found = set()
        for reference in dicts(references):
            target = self.target(reference)
            kind = _TYPE_AND_ID.search(referred(reference))
            if target is not None:
                found.add(self.tumour_of(target))
            elif kind is None or kind[1] in ("Condition", "BodyStructure"):
                found.add(iri_safe(referred(reference)) or None)
        found.discard(None)
        return found.pop() if len(found) == 1 else None

    def tumour_of(self, target: Entry) -> str | None:
        """Return the name of the Condition that stands for a tumour.

        mCODE ties a metastasis to its primary, and a mass to its Condition, by extensions.
        """
        if target.type == "Condition":
            urls = [RELATED_PRIMARY]
            meta = target.body.get("meta")
            profiles = meta.get("profile") if isinstance(meta, dict) else None
            if isinstance(profiles, list) and SECONDARY_CANCER in profiles:
                urls.append(CONDITION_RELATED)
        elif target.type == "BodyStructure":
            urls = [RELATED_CONDITION]
        else:
            return None
        for extension in extensions(target.body, *urls):
            for reference in dicts(extension.get("valueReference")):
                other = self.resolve(referred(reference), target)
                if other is not None and other.type == "Condition":
                    return other.name
        return target.name


def choice(body: Json, stem: str) -> list[str]:
    """Return the elements of ``body`` that give ``stem[x]``."""
    size = len(stem)
    return [
        k
        for k, v in body.items()
        if k.startswith(stem) and k[size:][:1].isupper() and v is not None
    ]


# -- results ---------------------------------------------------------------------------------


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return Decimal(value)


def _unit(quantity: Json) -> str | None:
    """Return the UCUM code of a quantity, else its unit as printed."""
    code, printed = string(quantity.get("code")), string(quantity.get("unit"))
    return code if code and quantity.get("system") == UCUM else printed or code


def _value(r: Reading, body: Json) -> dict[str, Any]:
    """Return the fields of a fact that ``value[x]`` of an Observation or a component fills."""
    given = choice(body, "value")
    if body.get("dataAbsentReason") is not None:
        if given:
            r.note("DATA122", f"has {given[0]} and a dataAbsentReason")
        return {}
    if not given:
        return {}
    if len(given) > 1:
        r.note("DATA122", "has several values")
        return {"value_text": "several values"}
    name, value = given[0], body[given[0]]
    match name:
        case "valueQuantity" if isinstance(value, dict):
            number, comparator = _number(value.get("value")), value.get("comparator")
            if number is not None and comparator in COMPARATORS:
                return {"value": number, "comparator": comparator, "unit": _unit(value)}
            r.note("DATA124", f"{name} holds no number, or a comparator that R4 does not have")
            return {"value_text": words(value.get("value")) or name, "unit": _unit(value)}
        case "valueInteger" if (number := _number(value)) is not None:
            return {"value": number}
        case "valueCodeableConcept" if isinstance(value, dict):
            return {"value_concepts": r.concepts(value)}
        case "valueBoolean" if isinstance(value, bool):
            return {"value_concepts": (r.term("Yes" if value else "No"),)}
        case "valueString" if isinstance(value, str):
            return {"value_text": words(value) or name}
    r.note("DATA124", f"{name} is not read")
    return {"value_text": name}


def _upper_limit(r: Reading, body: Json) -> dict[str, Any]:
    """Return the upper limit of normal that is printed with a result, if there is just one."""
    highs = []
    for given in dicts(body.get("referenceRange")):
        codes = [c.get("code") for t in dicts(given.get("type")) for c in dicts(t.get("coding"))]
        if codes and "normal" not in codes:
            continue
        for high in dicts(given.get("high")):
            limit = _number(high.get("value"))
            if limit is None:
                r.note("DATA126", "the reference range's high is not a number")
                return {}
            highs.append({"upper_limit": limit, "upper_limit_unit": _unit(high)})
    if any(high != highs[0] for high in highs):
        r.note("DATA126", "several reference ranges with different highs")
        return {}
    return highs[0] if highs else {}


def _answer(r: Reading, body: Json) -> dict[str, Any]:
    """Return the fields that an answer fills: Yes, No, Unknown, or what else was said."""
    if body.get("dataAbsentReason") is not None:
        return {"value_concepts": (r.term("Unknown"),)}
    if choice(body, "value") == ["valueCoding"]:
        body = {"valueCodeableConcept": {"coding": body["valueCoding"]}}
    if choice(body, "value") == ["valueCodeableConcept"]:
        for one in dicts(body["valueCodeableConcept"]):
            for coding in dicts(one.get("coding")):
                known = ANSWERS.get((str(coding.get("system")), str(coding.get("code"))))
                if known:
                    return {"value_concepts": (r.term(known),)}
    return _value(r, body)


def _who(*references: object) -> str | None:
    """Return who is named first, as the resource itself names them."""
    for reference in (one for several in references for one in dicts(several)):
        if name := words(reference.get("display")) or string(reference.get("reference")):
            return name
    return None


def _question(r: Reading, concept: object) -> str | None:
    """Return the question or rule that a coding of the trial's own system names."""
    for one in dicts(concept):
        for coding in dicts(one.get("coding")):
            asked = r.terms.questions.get(string(coding.get("code")) or "", "")
            namespace = r.terms.prefix(string(coding.get("system")))
            if asked.startswith(namespace) and "/" not in asked[len(namespace) :]:
                return asked
    return None


# -- one function a resource type ------------------------------------------------------------


def patient(r: Reading) -> Iterator[Fact]:
    born = r.date(r.body, "birthDate")
    if born:
        yield r.fact("#birth", "Demographic", (r.term("Birth"),), "Confirmed", start=born, end=born)
    if gender := string(r.body.get("gender")):
        sex = (r.terms.code(GENDER, gender),)
        yield r.fact("#sex", "Demographic", (r.term("Sex"),), "Confirmed", value_concepts=sex)
    died = r.date(r.body, "deceasedDateTime")
    if r.body.get("deceasedDateTime") is not None or r.body.get("deceasedBoolean") is True:
        yield r.fact("#death", "Demographic", (r.term("Death"),), "Confirmed", start=died, end=died)


def condition(r: Reading) -> Iterator[Fact]:
    verified = r.coded_status("verificationStatus", CONDITION_VERIFICATION, VERIFICATION)
    clinical = r.coded_status("clinicalStatus", CONDITION_CLINICAL, CLINICAL)
    start = r.date(r.body, "onsetDateTime")
    if not start and (onset := choice(r.body, "onset")) and onset != ["onsetDateTime"]:
        r.note("DATA125", f"{onset[0]} is not a date")
    end = r.date(r.body, "abatementDateTime")
    abated = choice(r.body, "abatement")
    ongoing = CLINICAL[clinical] if clinical else None
    if abated:
        if ongoing:
            r.note("DATA122", f"has {abated[0]} and goes on")
        ongoing = None if ongoing else False
    asserted = [r.date(e, "valueDateTime") for e in extensions(r.body, ASSERTED_DATE)]
    evidence = [c for e in dicts(r.body.get("evidence")) for c in dicts(e.get("code"))]
    common: dict[str, Any] = {
        "status": VERIFICATION[verified or "confirmed"],
        "start": start,
        "end": end,
        "ongoing": ongoing,
        "recorded": next(filter(None, asserted), None) or r.date(r.body, "recordedDate"),
        "tumour": r.tumour_of(r.entry),
        "axes": r.axes(bodySite=r.body.get("bodySite"), method=evidence),
    }
    yield r.fact("", "Condition", r.about(r.body.get("code")), **common)
    for i, extension in enumerate(extensions(r.body, HISTOLOGY)):
        histology = r.concepts(extension.get("valueCodeableConcept"))
        part = f"#histology-{i + 1}"
        yield r.fact(
            part, "Measurement", (r.term("Histology"),), value_concepts=histology, **common
        )
    if clinical == "recurrence":
        # The onset is the first occurrence's; when the tumour came back is not recorded.
        again = common | {"start": None}
        yield r.fact("#recurrence", "Condition", (r.term("LocalRecurrence"),), **again)


def observation(r: Reading) -> Iterator[Fact]:
    counts = r.status(OBSERVATION_STATUS)
    if _is_about_something_else(r):
        r.note("DATA127", "its focus is not the patient")
        return
    start, end = r.when("effective")
    recorded = r.date(r.body, "issued")
    if asked := _question(r, r.body.get("code")):
        yield r.fact(
            "",
            "Attestation",
            (asked,),
            counts[0],
            start=start,
            end=end,
            recorded=recorded,
            performer=_who(r.body.get("performer")),
            **_answer(r, r.body),
        )
        return
    about = [e.get("valueReference") for e in extensions(r.body, RELATED_CONDITION)]
    specimens = [r.target(reference) for reference in dicts(r.body.get("specimen"))]
    common: dict[str, Any] = {
        "status": counts[0],
        "start": start,
        "end": end,
        "recorded": recorded,
        "tumour": r.tumour([*dicts(r.body.get("focus")), *dicts(about)]),
        "axes": r.axes(
            method=r.body.get("method") or _modality(r),
            bodySite=r.body.get("bodySite"),
            specimen=[s.body.get("type") for s in specimens if s and s.type == "Specimen"],
        ),
    }
    components = dicts(r.body.get("component"))
    # What only holds a group together is not itself a result.
    group = components or dicts(r.body.get("hasMember"))
    if choice(r.body, "value") or r.body.get("dataAbsentReason") is not None or not group:
        result = _value(r, r.body) | _upper_limit(r, r.body)
        yield r.fact("", "Measurement", r.about(r.body.get("code")), **common, **result)
    for i, component in enumerate(components):
        result = _value(r, component) | _upper_limit(r, component)
        about_part = r.about(component.get("code"))
        yield r.fact(f"#component-{i + 1}", "Measurement", about_part, **common, **result)


def _is_about_something_else(r: Reading) -> bool:
    """Whether the focus is a donor, a relative, a device … (by its type, if it is not there)."""

    def meant(references: object) -> set[tuple[str, str]]:
        found = set()
        for reference in map(referred, dicts(references)):
            target = r.resolve(reference, r.entry)
            kind = _TYPE_AND_ID.search(reference)
            named = (kind[1] if kind else "", reference)
            found.add((target.type, target.name) if target else named)
        return found

    elsewhere = meant(r.body.get("focus")) - meant(r.body.get("subject"))
    return any(kind in SOMETHING_ELSE for kind, _ in elsewhere)


def _modality(r: Reading) -> list[Json]:
    """Return the modality of the images a result was derived from, if they agree on one."""
    targets = [
        r.resolve(referred(reference), r.entry) for reference in dicts(r.body.get("derivedFrom"))
    ]
    studies = [t.body for t in targets if t is not None and t.type == "ImagingStudy"]
    codings = [coding for study in studies for coding in dicts(study.get("modality"))]
    return [{"coding": codings}] if len({str(c.get("code")) for c in codings}) == 1 else []


def procedure(r: Reading) -> Iterator[Fact]:
    counts = r.status(EVENT_STATUS)
    start, end, ongoing = r.extent("performed", counts[1])
    yield r.fact(
        "",
        "Procedure",
        r.about(r.body.get("code")),
        counts[0],
        start=start,
        end=end,
        ongoing=ongoing,
        tumour=r.tumour(r.body.get("reasonReference")),
        axes=r.axes(bodySite=r.body.get("bodySite")),
    )


def medication_administration(r: Reading) -> Iterator[Fact]:
    status, ongoing = r.status(EVENT_STATUS)
    start, end, ongoing = r.extent("effective", ongoing)
    yield from _medication_use(r, status, start=start, end=end, ongoing=ongoing)


def medication_request(r: Reading) -> Iterator[Fact]:
    """Yield what was ordered; where no dosage says when, its use begins with the order."""
    status, ongoing = r.status(REQUEST_STATUS)
    ordered = REQUEST_INTENT.get(str(r.body.get("intent")))
    if ordered is None:
        r.note("DATA121", "has no intent that FHIR knows")
    if status in ("Confirmed", "Suspected"):
        if r.body.get("doNotPerform") not in (None, False):
            status, ongoing = "NotDone", None
        elif ordered is False:
            status, ongoing = "Planned", None
        elif ordered is None:
            status = "Suspected"
    authored = r.date(r.body, "authoredOn")
    start, end = _dosage_period(r, "dosageInstruction")
    yield from _medication_use(
        r,
        status,
        start=start or (authored if end is None else None),
        end=end,
        ongoing=None if ongoing and end else ongoing,
        recorded=authored,
    )


def medication_statement(r: Reading) -> Iterator[Fact]:
    status, ongoing = r.status(STATEMENT_STATUS)
    start, end, ongoing = r.extent("effective", ongoing)
    if not start and not end:
        start, end = _dosage_period(r, "dosage")
        ongoing = None if ongoing and end else ongoing
    recorded = r.date(r.body, "dateAsserted")
    yield from _medication_use(r, status, start=start, end=end, ongoing=ongoing, recorded=recorded)


def _dosage_period(r: Reading, name: str) -> tuple[PartialDate | None, PartialDate | None]:
    """Return first start and last end of the dosages; an end only if each dosage has one."""
    starts: list[PartialDate] = []
    ends: list[PartialDate] = []
    open_end = False
    for dosage in dicts(r.body.get(name)):
        given: list[tuple[PartialDate | None, PartialDate | None]] = []
        for timing in dicts(dosage.get("timing")):
            events = timing.get("event")
            for event in events if isinstance(events, list) else ():
                date = r.date({"timing.event": event}, "timing.event")
                given.append((date, date))
            given += [r.period(repeat, "boundsPeriod") for repeat in dicts(timing.get("repeat"))]
        starts += [start for start, _ in given if start]
        ends += [end for _, end in given if end]
        open_end = open_end or not any(end for _, end in given)
    start = min(starts, key=lambda date: date.first, default=None)
    end = max(ends, key=lambda date: date.last, default=None)
    return start, None if open_end else end


def _medication_use(r: Reading, status: str, **rest: Any) -> Iterator[Fact]:
    """Yield the use of a medication and of each active ingredient that is coded."""
    rest["tumour"] = r.tumour(r.body.get("reasonReference"))
    concept = r.body.get("medicationCodeableConcept")
    ingredients: list[Json] = []
    for reference in dicts(r.body.get("medicationReference")):
        target = r.target(reference)
        usable = target is not None and target.body.get("status") != "entered-in-error"
        if target is not None and usable and target.type == "Medication":
            concept = target.body.get("code")
            ingredients = dicts(target.body.get("ingredient"))
    coded = [
        (i, found)
        for i, ingredient in enumerate(ingredients)
        if ingredient.get("isActive") is not False
        and (found := r.codings(ingredient.get("itemCodeableConcept")))
    ]
    if (product := r.substance(concept)) or not coded:
        yield r.fact("", "MedicationUse", product or r.about(concept), status, **rest)
    for i, found in coded:
        yield r.fact(f"#ingredient-{i + 1}", "MedicationUse", found, status, **rest)


def allergy_intolerance(r: Reading) -> Iterator[Fact]:
    verified = r.coded_status("verificationStatus", ALLERGY_VERIFICATION, VERIFICATION)
    clinical = r.coded_status("clinicalStatus", ALLERGY_CLINICAL, CLINICAL)
    ongoing = CLINICAL[clinical] if clinical else None
    start = r.date(r.body, "onsetDateTime")
    common: dict[str, Any] = {
        "status": VERIFICATION[verified or "confirmed"],
        "start": start,
        "ongoing": ongoing,
        "recorded": r.date(r.body, "recordedDate"),
    }
    substances = [
        (i, found)
        for i, reaction in enumerate(dicts(r.body.get("reaction")))
        if (found := r.codings(reaction.get("substance")))
    ]
    if (allergen := r.substance(r.body.get("code"))) or not substances:
        yield r.fact("", "Allergy", allergen or r.about(r.body.get("code")), **common)
    for i, found in substances:
        yield r.fact(f"#reaction-{i + 1}", "Allergy", found, **common)


def family_member_history(r: Reading) -> Iterator[Fact]:
    counts = r.status(FAMILY_STATUS)
    recorded = r.date(r.body, "date")
    for i, one in enumerate(dicts(r.body.get("condition"))):
        about = r.about(one.get("code"))
        yield r.fact(f"#condition-{i + 1}", "FamilyHistory", about, counts[0], recorded=recorded)


def consent(r: Reading) -> Iterator[Fact]:
    """Yield the consent to take part, if it is one.

    A consent to treatment or to the use of data says nothing about the trial. Which study a
    research consent belongs to is known from the ResearchSubject that names it.
    """
    status, _ = r.status(CONSENT_STATUS)
    value = CONSENT_VALUE.get(str(r.body.get("status")), "ConsentInForce")
    refusals = [p for p in dicts(r.body.get("provision")) if p.get("type") == "deny"]
    rule = [c.get("code") for p in dicts(r.body.get("policyRule")) for c in dicts(p.get("coding"))]
    if value == "ConsentInForce" and (refusals or "OPTOUT" in rule):
        value = "ConsentNotSigned"
    scope = [c.get("code") for s in dicts(r.body.get("scope")) for c in dicts(s.get("coding"))]
    studies = {
        _study(r, reference, subject).iri
        for subject in r.enrolments.get(r.entry.name, ())
        for reference in dicts(subject.body.get("study"))
    } - {None}
    own = set(r.terms.study_ids.values())
    concepts: tuple[str, ...] = (r.term("InformedConsent"),)
    if not studies & own and (studies or "research" not in scope):
        concepts = r.concepts(r.body.get("category"))
    elif not studies:
        r.note("DATA128", "no ResearchSubject of a known study names this research consent")
        status = "Suspected" if status == "Confirmed" else status
    given = r.date(r.body, "dateTime")
    yield r.fact(
        "",
        "Consent",
        concepts,
        status,
        start=given,
        end=given,
        value_concepts=(r.term(value),),
        axes=tuple((r.term("study"), study) for study in sorted(filter(None, studies))),
    )


@dataclass(frozen=True, slots=True)
class _Study:
    iri: str | None
    body: Json


def _study(r: Reading, reference: Json, source: Entry) -> _Study:
    """Return the study a Reference names: the trial's own IRI, or one made of its identifier."""
    target = r.resolve(referred(reference), source)
    body = target.body if target is not None and target.type == "ResearchStudy" else {}
    found = None
    for identifier in dicts(reference.get("identifier")) + dicts(body.get("identifier")):
        value = string(identifier.get("value"))
        if value and value in r.terms.study_ids:
            return _Study(r.terms.study_ids[value], body)
        if value:
            found = found or r.terms.code(string(identifier.get("system")), value)
    return _Study(found, body)


def research_subject(r: Reading) -> Iterator[Fact]:
    counts = r.status(SUBJECT_STATUS)
    start, end = r.period(r.body, "period")
    studies = [_study(r, reference, r.entry) for reference in dicts(r.body.get("study"))]
    study = studies[0] if studies else _Study(None, {})
    if study.iri is None:
        r.note("DATA129", "its study has no identifier in the input")
    elif study.iri in r.terms.study_ids.values() and start and counts[0] != "NotDone":
        r.entry_dates.append(start)
    concepts = (r.term("Study"), *r.codings(study.body.get("category")))
    phases = [c.get("code") for p in dicts(study.body.get("phase")) for c in dicts(p.get("coding"))]
    if any(phase in TRIAL_PHASES for phase in phases):
        concepts += (r.term("InterventionalStudy"),)
    yield r.fact(
        "",
        "StudyParticipation",
        concepts,
        counts[0],
        start=start,
        end=end,
        ongoing=None if counts[1] and end else counts[1],
        axes=((r.term("study"), study.iri),) if study.iri else (),
    )


def questionnaire_response(r: Reading) -> Iterator[Fact]:
    counts = r.status(RESPONSE_STATUS)
    authored = r.date(r.body, "authored")
    performer = _who(r.body.get("author"), r.body.get("source"))
    unasked = 0
    number = 0
    todo = dicts(r.body.get("item"))[::-1]
    while todo:
        item = todo.pop()
        answers = dicts(item.get("answer"))
        todo += dicts(item.get("item"))[::-1]
        asked = r.terms.questions.get(string(item.get("linkId")) or "")
        for answer in answers:
            todo += dicts(answer.get("item"))[::-1]
            if asked is None:
                unasked += 1
                continue
            number += 1
            yield r.fact(
                f"#answer-{number}",
                "Attestation",
                (asked,),
                counts[0],
                start=authored,
                end=authored,
                performer=performer,
                **_answer(r, answer),
            )
    if unasked:
        r.note("DATA151", f"{unasked} answers to other questions")


READERS: Mapping[str, Callable[[Reading], Iterator[Fact]]] = {
    "Patient": patient,
    "Condition": condition,
    "Observation": observation,
    "Procedure": procedure,
    "MedicationAdministration": medication_administration,
    "MedicationRequest": medication_request,
    "MedicationStatement": medication_statement,
    "AllergyIntolerance": allergy_intolerance,
    "FamilyMemberHistory": family_member_history,
    "Consent": consent,
    "ResearchSubject": research_subject,
    "QuestionnaireResponse": questionnaire_response,
}
# Read through the resources that refer to them; the second line gives single elements only.
SUPPORTING = frozenset(("Medication", "ResearchStudy"))
CONSULTED = frozenset(("BodyStructure", "Specimen", "ImagingStudy"))

_CLINICAL_REFERENCES = (
    "basedOn",
    "consent",
    "context",
    "derivedFrom",
    "encounter",
    "focus",
    "hasMember",
    "medicationReference",
    "partOf",
    "priorPrescription",
    "reasonReference",
    "specimen",
)


def clinical_references(body: Json) -> Iterator[str]:
    """Yield the references of a resource to what must be the same patient's."""
    holders = [body.get(name) for name in _CLINICAL_REFERENCES]
    holders += [e.get("detail") for e in dicts(body.get("evidence"))]
    holders += [e.get("valueReference") for e in dicts(body.get("extension"))]
    for holder in holders:
        for reference in dicts(holder):
            if value := string(reference.get("reference")):
                yield value
