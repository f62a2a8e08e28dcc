"""Observation: results, one by one; or a person's answer, if its code is a rule or a question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.adverse_event import is_toxicity, toxicity_observation
from sarc_kb.sources.fhir_resources.codes import (
    OBSERVATION_STATUS,
    RELATED_CONDITION,
    SOMETHING_ELSE,
    VOID_STUDY,
)
from sarc_kb.sources.fhir_resources.elements import (
    Json,
    choice,
    dicts,
    extensions,
    named_type,
    referred,
    stands,
)
from sarc_kb.sources.fhir_resources.evidence import methods, specimens
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import answer, question, result, upper_limit, who


def observation(r: Reading) -> Iterator[Fact]:
    status, _ = r.status(OBSERVATION_STATUS)
    if _is_about_something_else(r):
        r.note("DATA127", "its focus is not the patient")
        return
    start, end = r.when("effective")
    common: dict[str, Any] = {
        "status": status,
        "start": start,
        "end": end,
        "recorded": r.date(r.body, "issued"),
    }
    if asked := question(r, r.body.get("code")):
        performer = who(r, r.body.get("performer"))
        said = answer(r, r.body)
        yield r.fact("", "Attestation", asked, performer=performer, **common, **said)
        return
    about = [e.get("valueReference") for e in extensions(r.body, RELATED_CONDITION)]
    common["tumour"] = r.tumour([*dicts(r.body.get("focus")), *dicts(about)])
    if is_toxicity(r, r.codings(r.body.get("code"))):
        yield from toxicity_observation(r, common)
        return
    reports = r.ties.reports.get(r.entry.name, [])
    examined = [r.body, *(report.body for report in reports)]
    common["axes"] = (
        *(
            r.axes(method=r.body.get("method") or _modality(r))
            or r.on("method", methods(r, reports))
        ),
        *r.sites(r.body.get("focus")),
        *next(filter(None, (specimens(r, body) for body in examined)), ()),
        *r.marks(r.body),
    )
    components = dicts(r.body.get("component"))
    # What only holds a group together is not itself a result; but one of whose members none is
    # there is a result that nobody knows.
    members = [r.target(member) for member in dicts(r.body.get("hasMember"))]
    group = components or any(members)
    if choice(r.body, "value") or r.body.get("dataAbsentReason") is not None or not group:
        found = result(r, r.body) | upper_limit(r, r.body)
        yield r.fact("", "Measurement", r.about(r.body.get("code")), **common, **found)
    for i, component in enumerate(components):
        found = result(r, component) | upper_limit(r, component)
        about_part = r.about(component.get("code"))
        yield r.fact(f"#component-{i + 1}", "Measurement", about_part, **common, **found)


def _is_about_something_else(r: Reading) -> bool:
    """Whether the focus is a donor, a relative, a device … (by its type, if it is not there)."""

    def meant(references: object) -> set[tuple[str, str]]:
        found = set()
        for reference in map(referred, dicts(references)):
            target = r.resolve(reference, r.entry)
            named = (named_type(reference), reference)
            found.add((target.type, target.name) if target else named)
        return found

    elsewhere = meant(r.body.get("focus")) - meant(r.body.get("subject"))
    return any(kind in SOMETHING_ELSE for kind, _ in elsewhere)


def _modality(r: Reading) -> list[Json]:
    """Return the modality of the images a result was derived from, if they agree on one."""
    targets = [
        r.resolve(referred(reference), r.entry) for reference in dicts(r.body.get("derivedFrom"))
    ]
    studies = [
        t.body
        for t in targets
        if t is not None and t.type == "ImagingStudy" and stands(t.body, VOID_STUDY)
    ]
    codings = [coding for study in studies for coding in dicts(study.get("modality"))]
    return [{"coding": codings}] if len({str(c.get("code")) for c in codings}) == 1 else []
