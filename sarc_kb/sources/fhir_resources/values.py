"""Results and answers: what `value[x]` of an Observation, a component or an item gives."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sarc_kb.namespaces import text_iri
from sarc_kb.sources.fhir_resources.codes import ANSWERS, COMPARATORS, UCUM, VOID_TEAM
from sarc_kb.sources.fhir_resources.elements import (
    Json,
    choice,
    dicts,
    referred,
    stands,
    string,
    words,
)
from sarc_kb.sources.fhir_resources.reading import Reading


def as_number(value: object) -> Decimal | None:
    """Return ``value`` if it is a number, exactly."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return Decimal(value)


def unit_of(r: Reading, quantity: Json) -> str | None:
    """Return the UCUM code of a quantity, else its unit as printed; both, which no rule can use,
    where they are units that differ: nobody knows which the number is in."""
    code, printed = string(quantity.get("code")), string(quantity.get("unit"))
    if not code or quantity.get("system") != UCUM:
        return printed or code
    if printed and not r.terms.units_agree(code, printed):
        r.note("DATA122", "is in one unit by its code, and in another by what is printed")
        return f"{code} or {printed}"
    return code


def result(r: Reading, body: Json) -> dict[str, Any]:
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
            number, comparator = as_number(value.get("value")), value.get("comparator")
            if number is not None and comparator in COMPARATORS:
                return {"value": number, "comparator": comparator, "unit": unit_of(r, value)}
            r.note("DATA124", f"{name} holds no number, or a comparator that R4 does not have")
            return {"value_text": words(value.get("value")) or name, "unit": unit_of(r, value)}
        case "valueInteger" if (number := as_number(value)) is not None:
            return {"value": number}
        case "valueCodeableConcept" if isinstance(value, dict):
            return {"value_concepts": r.concepts(value)}
        case "valueBoolean" if isinstance(value, bool):
            return {"value_concepts": (r.term("Yes" if value else "No"),)}
        case "valueString" if isinstance(value, str):
            if meant := r.known((text_iri(value),)):
                return {"value_concepts": meant}
            return {"value_text": words(value) or name}
    r.note("DATA124", f"{name} is not read")
    return {"value_text": name}


def upper_limit(r: Reading, body: Json) -> dict[str, Any]:
    """Return the upper limit of normal that is printed with a result, if there is just one."""
    highs = []
    for given in dicts(body.get("referenceRange")):
        codes = [c.get("code") for t in dicts(given.get("type")) for c in dicts(t.get("coding"))]
        if codes and "normal" not in codes:
            continue
        for high in dicts(given.get("high")):
            limit = as_number(high.get("value"))
            if limit is None:
                r.note("DATA126", "the reference range's high is not a number")
                return {}
            highs.append({"upper_limit": limit, "upper_limit_unit": unit_of(r, high)})
    if any(high != highs[0] for high in highs):
        r.note("DATA126", "several reference ranges with different highs")
        return {}
    return highs[0] if highs else {}


def answer(r: Reading, body: Json) -> dict[str, Any]:
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
    return result(r, body)


def who(r: Reading, *references: object) -> str | None:
    """Return who is named first, as the resource itself names them; a team or a role by its name."""
    for reference in (one for several in references for one in dicts(several)):
        if name := words(reference.get("display")) or _team(r, reference):
            return name
        if name := string(reference.get("reference")):
            return name
    return None


def _team(r: Reading, reference: Json) -> str | None:
    target = r.resolve(referred(reference), r.entry)
    if target is None or not stands(target.body, VOID_TEAM):
        return None
    if target.type in ("CareTeam", "Organization"):
        return words(target.body.get("name"))
    if target.type == "PractitionerRole":
        for concept in dicts(target.body.get("code")):
            shown = [words(coding.get("display")) for coding in dicts(concept.get("coding"))]
            return words(concept.get("text")) or next(filter(None, shown), None)
    return None


def question(r: Reading, concept: object) -> tuple[str, ...]:
    """Return the questions and rules that a coding names: of the trial's own system, or mapped."""
    for one in dicts(concept):
        for coding in dicts(one.get("coding")):
            asked = r.terms.questions.get(string(coding.get("code")) or "", "")
            namespace = r.terms.prefix(string(coding.get("system")))
            if asked.startswith(namespace) and "/" not in asked[len(namespace) :]:
                return (asked,)
    return asked_by(r, *r.codings(concept))


def asked_by(r: Reading, *iris: str) -> tuple[str, ...]:
    """Return the questions and rules that ``iris`` are mapped to."""
    meant = {term for iri in iris for term in r.terms.means(iri)}
    return tuple(sorted(meant.intersection(r.terms.questions.values()))) if meant else ()
