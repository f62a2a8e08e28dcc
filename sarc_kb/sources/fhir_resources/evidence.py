"""How a finding was made: by the method of the reports that give it, on which specimen."""

from __future__ import annotations

from dataclasses import replace

from sarc_kb.sources.fhir_resources.codes import REPORT_STATUS, VOID_SPECIMEN
from sarc_kb.sources.fhir_resources.elements import Json, dicts, stands, string
from sarc_kb.sources.fhir_resources.reading import Coding, Entry, Reading


def coded(concept: Json) -> list[Coding]:
    """Return the codings of a concept as pairs of system and code."""
    pairs = [(string(c.get("system")), string(c.get("code"))) for c in dicts(concept.get("coding"))]
    return [pair for pair in pairs if pair[1]]


def methods(r: Reading, reports: list[Entry]) -> tuple[str, ...]:
    """Return how reports that count say their findings were made: by category and code."""
    found: dict[str, None] = {}
    for report in reports:
        if REPORT_STATUS.get(str(report.body.get("status")), ("", None))[0] == "Confirmed":
            category, code = report.body.get("category"), report.body.get("code")
            found |= dict.fromkeys(r.known((*r.codings(category), *r.codings(code))))
    return tuple(found)


def specimens(r: Reading, body: Json) -> tuple[tuple[str, str], ...]:
    """Return the types of the specimens that were examined."""
    targets = [r.target(reference) for reference in dicts(body.get("specimen"))]
    used = [
        t.body
        for t in targets
        if t is not None and t.type == "Specimen" and stands(t.body, VOID_SPECIMEN)
    ]
    return r.axes(specimen=[specimen.get("type") for specimen in used])


def confirmation(r: Reading) -> tuple[tuple[str, str], ...]:
    """Return method and specimen of a Condition's confirmation, by the reports it rests on and
    those that conclude its code."""
    reports = []
    for evidence in dicts(r.body.get("evidence")):
        for reference in dicts(evidence.get("detail")):
            target = r.target(reference)
            if target is not None and target.type == "DiagnosticReport":
                reports.append(target)
    for concept in dicts(r.body.get("code")):
        for coding in coded(concept):
            reports += r.ties.conclusions.get((r.patient, coding), ())
    unique = list({report.name: report for report in reports}.values())
    axes = [*r.on("method", methods(r, unique))]
    for report in unique:
        inner = replace(r, entry=report)
        axes += specimens(inner, report.body) if methods(r, [report]) else ()
    return tuple(dict.fromkeys(axes))
