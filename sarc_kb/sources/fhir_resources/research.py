"""ResearchSubject: entry into the trial, and participation in other studies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import SUBJECT_STATUS, TRIAL_PHASES
from sarc_kb.sources.fhir_resources.elements import Json, dicts, referred, string
from sarc_kb.sources.fhir_resources.reading import Entry, Reading


@dataclass(frozen=True, slots=True)
class _Study:
    iri: str | None
    body: Json


def study_of(r: Reading, reference: Json, source: Entry) -> _Study:
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
    studies = [study_of(r, reference, r.entry) for reference in dicts(r.body.get("study"))]
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
