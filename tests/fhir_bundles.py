"""Hypothesis strategies of whole FHIR R4 Bundles: every resource type that is read, and some that
are not; with references between them, contained resources, partial dates, modifiers, units,
statuses, codes that are mapped and codes that nobody knows.

All are valid by the models of `fhir.resources` (a test holds that); whether they make sense
is another matter, as with real ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

from sarc_kb.kb import KnowledgeBase

Json = dict[str, Any]
Made = st.SearchStrategy[Json]

PERSON = "anna"
UCUM = "http://unitsofmeasure.org"
HL7 = "http://terminology.hl7.org/CodeSystem"
VOID = "entered-in-error"
NOWHERE = "Condition/not-in-the-input"

# -- the small parts -------------------------------------------------------------------------------
DATES = st.sampled_from(
    (
        "2024-02-26",
        "2024-02-21",
        "2024-03-01",
        "2024-01-15",
        "2023-09-01",
        "2023-08-31",
        "2024-03-05",
        "1999-12-31",
        "2024-02",
        "2023",
        "2021-07",
    )
)
MOMENTS = st.sampled_from(
    (
        "2024-02-26T08:30:00+08:00",
        "2024-02-29T23:59:59Z",
        "2024-03-01T00:00:00+14:00",
        "2023-12-31T22:00:00-03:00",
    )
)
DATE_TIMES = DATES | MOMENTS
UNITS = st.sampled_from(
    (
        "g/dL",
        "g/L",
        "10*9/L",
        "umol/L",
        "mg/dL",
        "U/L",
        "cm",
        "mm",
        "ms",
        "kg",
        "mg",
        "Gy",
        "cGy",
        "1",
        "%",
        "furlong",
        "{score}",
    )
)
NUMBERS = st.integers(0, 4000).map(lambda n: n / 10) | st.integers(0, 500)
TEXTS = st.sampled_from(
    ("Hb", "leiomyosarcoma of the thigh", "see report", "none", "< 5", "12 mg daily", "R0")
)
UNKNOWN = st.builds(
    lambda n: {"system": "http://hospital.example/codes", "code": f"L-{n}"}, st.integers(0, 5)
)


@cache
def mapped() -> Sequence[Json]:
    """Every code of the project's mappings that FHIR can write, as a Coding."""
    terms = KnowledgeBase.load().terms
    found = []
    for iri in sorted(terms.mappings):
        for system, prefix in terms.code_systems.items():
            if (
                iri.startswith(prefix)
                and (code := iri[len(prefix) :])
                and code.strip() == code
                and " " not in code
            ):
                found.append({"system": system, "code": code})
                break
    return found


def codings() -> Made:
    return st.one_of(
        st.deferred(lambda: st.sampled_from(mapped())),
        st.deferred(lambda: st.sampled_from(mapped())),
        UNKNOWN,
    )


def concepts() -> Made:
    """A CodeableConcept: codings, a text, or both."""
    return st.one_of(
        st.builds(lambda c: {"coding": c}, st.lists(codings(), min_size=1, max_size=2)),
        st.builds(lambda c, t: {"coding": [c], "text": t}, codings(), TEXTS),
        st.builds(lambda t: {"text": t}, TEXTS),
    )


def coded(system: str, *codes: str) -> Made:
    return st.sampled_from(codes).map(lambda c: {"coding": [{"system": system, "code": c}]})


QUANTITIES = st.builds(
    lambda v, u, c, coded: {
        "value": v,
        "unit": u,
        **({"system": UCUM, "code": u} if coded else {}),
        **c,
    },
    NUMBERS,
    UNITS,
    st.sampled_from(({}, {}, {}, {"comparator": "<"}, {"comparator": ">="})),
    st.booleans(),
)
PERIODS = st.sampled_from(
    (
        {"start": "2023-01-10", "end": "2023-04-30"},
        {"start": "2024-02-20"},
        {"end": "2024-02-10"},
        {"start": "2023", "end": "2024-01"},
    )
)


def whole(required: Mapping[str, Any], **optional: Any) -> Made:
    """Return objects with all of the first and some of the others."""
    return st.fixed_dictionaries(dict(required), optional=optional)


def one_of_them(**choices: Any) -> Made:
    """Return at most one element of a choice such as value[x]."""
    return st.one_of(
        st.just({}), *(st.builds(lambda v, k=k: {k: v}, s) for k, s in choices.items())
    )


def both(first: Made, *others: Made) -> Made:
    """Return the elements of all."""
    return st.builds(
        lambda *parts: {k: v for part in parts for k, v in part.items()}, first, *others
    )


# -- resources -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Kind:
    """A resource type: a strategy of its own elements, the element that names the patient, the
    statuses (with the element), and what it may refer to by which element."""

    own: Made
    about: str | None = "subject"
    status: tuple[str, Sequence[Any]] | None = None
    void: Any = None
    refers: Mapping[str, tuple[str, ...]] | None = None
    repeats: frozenset[str] = frozenset()


def clinical(*codes: str) -> list[Any]:
    return [{"coding": [{"system": f"{HL7}/condition-clinical", "code": c}]} for c in codes]


def verified(system: str, *codes: str) -> list[Any]:
    return [{"coding": [{"system": f"{HL7}/{system}", "code": c}]} for c in codes]


EFFECTIVE = one_of_them(effectiveDateTime=DATE_TIMES, effectivePeriod=PERIODS)
VALUES = one_of_them(
    valueQuantity=QUANTITIES,
    valueCodeableConcept=concepts(),
    valueString=TEXTS,
    valueInteger=st.integers(0, 100),
    valueBoolean=st.booleans(),
    valueRange=st.builds(
        lambda a, b: {"low": {**a, "unit": "cm"}, "high": {**b, "unit": "cm"}},
        st.just({"value": 4}),
        st.just({"value": 6}),
    ),
)
ABSENT = coded(f"{HL7}/data-absent-reason", "unknown", "not-performed")
MEDICATION = one_of_them(medicationCodeableConcept=concepts()).filter(bool)
DOSES = st.lists(
    st.builds(
        lambda q: {
            "text": "daily",
            "doseAndRate": [{"doseQuantity": {k: v for k, v in q.items() if k != "comparator"}}],
        },
        QUANTITIES,
    ),
    max_size=1,
)

KINDS: dict[str, Kind] = {
    "Condition": Kind(
        both(
            whole(
                {},
                code=concepts(),
                bodySite=st.lists(concepts(), min_size=1, max_size=1),
                recordedDate=DATE_TIMES,
                clinicalStatus=st.sampled_from(
                    clinical("active", "resolved", "remission", "recurrence")
                ),
            ),
            one_of_them(
                onsetDateTime=DATE_TIMES,
                onsetPeriod=PERIODS,
                onsetString=TEXTS,
                onsetAge=st.just({"value": 50, "system": UCUM, "code": "a"}),
            ),
            one_of_them(abatementDateTime=DATE_TIMES, abatementString=TEXTS),
        ),
        status=(
            "verificationStatus",
            verified("condition-ver-status", "confirmed", "provisional", "refuted", "unconfirmed"),
        ),
        void=verified("condition-ver-status", VOID)[0],
    ),
    "Observation": Kind(
        both(
            whole(
                {"code": concepts()},
                component=st.lists(
                    both(st.builds(lambda c: {"code": c}, concepts()), VALUES),
                    min_size=1,
                    max_size=2,
                ),
                referenceRange=st.just(
                    [{"high": {"value": 40, "unit": "U/L", "system": UCUM, "code": "U/L"}}]
                ),
                dataAbsentReason=ABSENT,
                method=concepts(),
                bodySite=concepts(),
                interpretation=st.lists(
                    coded(f"{HL7}/v3-ObservationInterpretation", "H", "POS", "NEG"),
                    min_size=1,
                    max_size=1,
                ),
            ),
            VALUES,
            EFFECTIVE,
        ),
        status=("status", ("final", "amended", "preliminary", "registered", "cancelled")),
        void=VOID,
        refers={"specimen": ("Specimen",), "focus": ("Condition",), "hasMember": ("Observation",)},
        repeats=frozenset(("focus", "hasMember")),
    ),
    "Procedure": Kind(
        both(
            whole(
                {},
                code=concepts(),
                bodySite=st.lists(concepts(), min_size=1, max_size=1),
                outcome=concepts(),
            ),
            one_of_them(
                performedDateTime=DATE_TIMES, performedPeriod=PERIODS, performedString=TEXTS
            ),
        ),
        status=(
            "status",
            ("completed", "in-progress", "not-done", "preparation", "stopped", "unknown"),
        ),
        void=VOID,
        refers={"reasonReference": ("Condition",)},
        repeats=frozenset(("reasonReference",)),
    ),
    "MedicationAdministration": Kind(
        both(
            one_of_them(effectiveDateTime=DATE_TIMES, effectivePeriod=PERIODS).filter(bool),
            MEDICATION,
            whole(
                {},
                dosage=st.builds(
                    lambda q: {
                        "text": "one",
                        "dose": {k: v for k, v in q.items() if k != "comparator"},
                    },
                    QUANTITIES,
                ),
            ),
        ),
        status=("status", ("completed", "in-progress", "not-done", "on-hold", "unknown")),
        void=VOID,
    ),
    "MedicationRequest": Kind(
        both(
            MEDICATION,
            whole(
                {"intent": st.sampled_from(("order", "plan", "proposal"))},
                authoredOn=DATE_TIMES,
                dosageInstruction=DOSES,
                doNotPerform=st.booleans(),
            ),
        ),
        status=("status", ("active", "completed", "cancelled", "draft", "stopped")),
        void=VOID,
    ),
    "MedicationStatement": Kind(
        both(MEDICATION, EFFECTIVE, whole({}, dosage=DOSES)),
        status=("status", ("active", "completed", "not-taken", "intended", "unknown")),
        void=VOID,
    ),
    "AllergyIntolerance": Kind(
        both(
            whole(
                {},
                code=concepts(),
                recordedDate=DATE_TIMES,
                clinicalStatus=coded(f"{HL7}/allergyintolerance-clinical", "active", "inactive"),
                reaction=st.lists(
                    st.builds(
                        lambda m, s: {"manifestation": [m], "substance": s}, concepts(), concepts()
                    ),
                    min_size=1,
                    max_size=1,
                ),
            ),
            one_of_them(onsetDateTime=DATE_TIMES),
        ),
        about="patient",
        status=(
            "verificationStatus",
            verified("allergyintolerance-verification", "confirmed", "unconfirmed", "refuted"),
        ),
        void=verified("allergyintolerance-verification", VOID)[0],
    ),
    "AdverseEvent": Kind(
        whole(
            {"actuality": st.sampled_from(("actual", "potential"))},
            event=concepts(),
            date=DATE_TIMES,
            severity=coded(f"{HL7}/adverse-event-severity", "mild", "moderate", "severe"),
        ),
        refers={"resultingCondition": ("Condition",)},
        repeats=frozenset(("resultingCondition",)),
    ),
    "DiagnosticReport": Kind(
        both(
            whole(
                {"code": concepts()}, conclusionCode=st.lists(concepts(), min_size=1, max_size=2)
            ),
            EFFECTIVE,
        ),
        status=("status", ("final", "partial", "preliminary", "cancelled")),
        void=VOID,
        refers={"result": ("Observation",)},
        repeats=frozenset(("result",)),
    ),
    "List": Kind(
        whole(
            {"mode": st.sampled_from(("snapshot", "working"))},
            code=concepts() | coded("http://loinc.org", "11450-4", "10160-0", "48765-2", "47519-4"),
            date=DATE_TIMES,
            emptyReason=coded(f"{HL7}/list-empty-reason", "nilknown", "notasked"),
        ),
        status=("status", ("current", "retired")),
        void=VOID,
    ),
    "FamilyMemberHistory": Kind(
        whole(
            {"relationship": coded(f"{HL7}/v3-RoleCode", "FTH", "MTH")},
            condition=st.lists(
                st.builds(lambda c: {"code": c}, concepts()), min_size=1, max_size=2
            ),
            date=DATE_TIMES,
        ),
        about="patient",
        status=("status", ("partial", "completed", "health-unknown")),
        void=VOID,
    ),
    "Consent": Kind(
        whole(
            {
                "scope": coded(f"{HL7}/consentscope", "research", "treatment"),
                "category": st.just(
                    [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}]
                ),
                "policyRule": st.just({"text": "ours"}),
            },
            dateTime=DATE_TIMES,
            provision=st.sampled_from(
                ({"type": "permit"}, {"type": "deny"}, {"period": {"end": "2024-02-01"}})
            ),
        ),
        about="patient",
        status=("status", ("active", "draft", "proposed", "rejected", "inactive")),
        void=VOID,
    ),
    "ResearchSubject": Kind(
        whole({"study": st.just({"reference": "ResearchStudy/other"})}, period=PERIODS),
        about="individual",
        status=("status", ("candidate", "on-study", "off-study", "withdrawn", "ineligible")),
        refers={"consent": ("Consent",)},
    ),
    "QuestionnaireResponse": Kind(
        whole(
            {},
            authored=DATE_TIMES,
            item=st.lists(
                st.builds(
                    lambda link, answer: {"linkId": link, "answer": [answer]},
                    st.sampled_from(("I08a", "question-transfusion-14-days", "I11", "of-ours")),
                    one_of_them(
                        valueBoolean=st.booleans(), valueString=TEXTS, valueCoding=codings()
                    ).filter(bool),
                ),
                min_size=1,
                max_size=2,
            ),
        ),
        status=("status", ("completed", "in-progress", "amended")),
        void=VOID,
    ),
    "Specimen": Kind(
        whole(
            {},
            type=concepts(),
            collection=st.builds(lambda d: {"collectedDateTime": d}, DATE_TIMES),
        ),
        status=("status", ("available", "unsatisfactory")),
    ),
    "BodyStructure": Kind(whole({}, location=concepts(), active=st.booleans()), about="patient"),
    "ImagingStudy": Kind(whole({}, started=MOMENTS), status=("status", ("available", "cancelled"))),
    "CareTeam": Kind(whole({}, name=TEXTS), status=("status", ("active", "inactive"))),
    "Organization": Kind(whole({"name": TEXTS}), about=None),
    "PractitionerRole": Kind(whole({}, active=st.booleans()), about=None),
    "Medication": Kind(
        whole({}, code=concepts()), about=None, status=("status", ("active", "inactive"))
    ),
    "Encounter": Kind(
        whole(
            {"class": coded(f"{HL7}/v3-ActCode", "AMB").map(lambda c: c["coding"][0])},
            period=PERIODS,
        ),
        status=("status", ("finished", "cancelled")),
    ),
    "Device": Kind(
        whole({}, lotNumber=st.just("7")),
        about="patient",
        status=("status", ("active", "inactive")),
    ),
    "Location": Kind(
        whole({"name": TEXTS}), about=None, status=("status", ("active", "suspended"))
    ),
}
UNREAD = ("Encounter", "Device", "Location")
"""Types from which no fact is made."""
CAN_BE_VOID = tuple(name for name, kind in KINDS.items() if kind.void is not None)

PATIENTS = whole(
    {"resourceType": st.just("Patient"), "id": st.just(PERSON)},
    gender=st.sampled_from(("female", "male", "other", "unknown")),
    birthDate=st.sampled_from(("1970-05-02", "1970", "2006-03-01", "2010-02")),
    active=st.just(True),
    deceasedBoolean=st.just(False),
)
STUDY = {
    "resourceType": "ResearchStudy",
    "id": "other",
    "status": "active",
    "identifier": [{"system": "https://clinicaltrials.gov", "value": "NCT00000001"}],
}


@st.composite
def resources(draw: st.DrawFn, name: str, number: int) -> Json:
    """Return one resource of a type, about the patient, not yet tied to others."""
    kind = KINDS[name]
    body = {"resourceType": name, "id": f"{name.lower()}-{number}", **draw(kind.own)}
    if kind.status is not None:
        element, statuses = kind.status
        body[element] = draw(st.sampled_from(list(statuses)))
    if kind.about is not None:
        form = draw(
            st.sampled_from(("Patient/{}", "Patient/{}", "http://x.example/fhir/Patient/{}"))
        )
        body[kind.about] = {"reference": form.format(PERSON)}
    if draw(st.integers(0, 15)) == 0:
        body["modifierExtension"] = [
            {"url": "http://hospital.example/turned", "valueBoolean": True}
        ]
    return body


@st.composite
def tied(draw: st.DrawFn, bodies: list[Json]) -> list[Json]:
    """Return the resources with references between them, and some contained in others."""
    for body in bodies:
        kind = KINDS[body["resourceType"]]
        for element, types in (kind.refers or {}).items():
            targets = [
                f"{b['resourceType']}/{b['id']}"
                for b in bodies
                if b["resourceType"] in types and b is not body
            ]
            chosen = draw(st.sampled_from((None, None, NOWHERE, *targets)))
            if chosen is not None:
                reference = {"reference": chosen}
                body[element] = [reference] if element in kind.repeats else reference
        if "medicationCodeableConcept" in body and draw(st.booleans()):
            inside = {
                "resourceType": "Medication",
                "id": "m",
                "code": body.pop("medicationCodeableConcept"),
            }
            body["contained"] = [inside]
            body["medicationReference"] = {"reference": "#m"}
    return bodies


@st.composite
def records(draw: st.DrawFn, most: int = 6, names: Sequence[str] = tuple(KINDS)) -> list[Json]:
    """Return the resources of one patient, the Patient first."""
    chosen = draw(st.lists(st.sampled_from(list(names)), max_size=most))
    bodies = [draw(resources(name, n)) for n, name in enumerate(chosen)]
    study = [STUDY] if any(b["resourceType"] == "ResearchSubject" for b in bodies) else []
    return [draw(PATIENTS), *study, *draw(tied(bodies))]


@st.composite
def void(draw: st.DrawFn, number: int = 900) -> Json:
    """Return a resource that was entered in error."""
    name = draw(st.sampled_from(CAN_BE_VOID))
    kind = KINDS[name]
    assert kind.status is not None
    body: Json = draw(resources(name, number))
    return {**body, kind.status[0]: copy.deepcopy(kind.void)}


def bundle(bodies: Sequence[Json], kind: str = "collection") -> Json:
    """Return a Bundle; its resources are of one server."""
    entries = [
        {"fullUrl": f"http://x.example/fhir/{b['resourceType']}/{b['id']}", "resource": b}
        for b in bodies
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}
