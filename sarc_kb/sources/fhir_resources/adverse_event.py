"""Adverse events: which, how severe, whether treatment caused them, whether they can be borne.

Grades and judgements are codes, and mappings say what they mean. A code of an Observation that is
mapped to an adverse event makes it one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import (
    ACTUALITY,
    ADVERSE_EVENT,
    CTCAE_GRADE,
    EVENT_OUTCOME,
    EVENT_RESOLVED,
)
from sarc_kb.sources.fhir_resources.elements import (
    Json,
    choice,
    dicts,
    extensions,
    iri_safe,
    string,
)
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import result, upper_limit


def adverse_event(r: Reading) -> Iterator[Fact]:
    actuality = r.body.get("actuality")
    status = ACTUALITY.get(actuality) if isinstance(actuality, str) else None
    if status is None:
        r.note("DATA121", "has no actuality that FHIR knows")
    outcome = r.codings(r.body.get("outcome"))
    codes = [c.get("code") for o in dicts(r.body.get("outcome")) for c in dicts(o.get("coding"))]
    resolved = [r.date(e, "valueDateTime") for e in extensions(r.body, EVENT_RESOLVED)]
    end = next(filter(None, resolved), None)
    ongoing = EVENT_OUTCOME.get(str(next(iter(codes), None)))
    if end and ongoing:
        r.note("DATA122", "is resolved and goes on")
        end = None
    yield r.fact(
        "",
        "AdverseEvent",
        _event(r),
        status or "Suspected",
        start=r.date(r.body, "date"),
        end=end,
        ongoing=ongoing,
        recorded=r.date(r.body, "recordedDate") or r.date(r.body, "detected"),
        value_concepts=_grade(r, r.body) or r.codings(r.body.get("severity")),
        axes=(*_causality(r), *r.on("recovery", r.known(outcome)), *r.marks(r.body)),
    )


def _event(r: Reading) -> tuple[str, ...]:
    """Return the codes of what happened, as an adverse event.

    Most name a disorder, which is also mapped as the condition it is elsewhere; that it is an
    adverse event the resource itself says, so as a condition it is not read twice.
    """
    codes = r.codings(r.body.get("event"))
    named = tuple(c for c in codes if r.terms.means(c) & r.terms.means(ADVERSE_EVENT))
    return named or (*(c for c in codes if not r.terms.means(c)), ADVERSE_EVENT)


def is_toxicity(r: Reading, codes: Iterable[str]) -> bool:
    """Return whether a code says what the resource AdverseEvent says: an adverse event."""
    event = r.terms.means(ADVERSE_EVENT)
    return bool(event) and any(event <= r.terms.means(code) for code in codes)


def toxicity_observation(r: Reading, common: dict[str, Any]) -> Iterator[Fact]:
    """Yield the adverse event that an Observation with such a code is; its components give the
    grade, or what their codes are mapped to (an axis); others are results by themselves."""
    values = _grade(r, r.body) or _graded(r, r.body)
    axes = [*r.marks(r.body)]
    others = []
    for i, component in enumerate(dicts(r.body.get("component"))):
        codes = r.codings(component.get("code"))
        meant = sorted({axis for code in codes for axis in r.axes_meant(code)})
        if any(r.term("ToxicityGrade") in r.terms.means(code) for code in codes):
            values = values or _graded(r, component)
        elif meant:
            found = r.codings(component.get("valueCodeableConcept"))
            axes += [(axis, iri) for axis in meant for iri in found]
        else:
            others.append((i, component))
    about = r.about(r.body.get("code"))
    yield r.fact("", "AdverseEvent", about, value_concepts=values, axes=tuple(axes), **common)
    for i, component in others:
        found_here = result(r, component) | upper_limit(r, component)
        about = r.about(component.get("code"))
        yield r.fact(f"#component-{i + 1}", "Measurement", about, **common, **found_here)


def _grade(r: Reading, body: Json) -> tuple[str, ...]:
    """Return the grade that extensions give whose url is mapped to the grade of an event."""
    for extension in dicts(body.get("extension")):
        url = iri_safe(string(extension.get("url")) or "")
        graded = r.term("ToxicityGrade") in r.terms.means(url)
        if graded and (found := r.extension_codings(extension) or _graded(r, extension)):
            return found
    return ()


def _graded(r: Reading, body: Json) -> tuple[str, ...]:
    """Return the coded value of ``body``; a whole number is a CTCAE grade."""
    match choice(body, "value"):
        case ["valueInteger" | "valuePositiveInt" | "valueUnsignedInt" | "valueCode" as name]:
            value = body[name]
            return (r.terms.code(CTCAE_GRADE, str(value)),) if isinstance(value, int | str) else ()
        case ["valueCodeableConcept"]:
            return r.concepts(body["valueCodeableConcept"])
    return ()


def _causality(r: Reading) -> tuple[tuple[str, str], ...]:
    """Return what was assessed of the cause; assessments of several suspects say nothing of one."""
    assessed = [
        found
        for suspect in dicts(r.body.get("suspectEntity"))
        for causality in dicts(suspect.get("causality"))
        if (found := r.codings(causality.get("assessment")))
    ]
    if len(set(assessed)) > 1:
        r.note("DATA139", "several different assessments of the cause")
        return ()
    return r.on("relatedTo", assessed[0]) if assessed else ()
