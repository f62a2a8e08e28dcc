"""DiagnosticReport: what a report concludes, and the results it contains.

A conclusion that is no Condition of the patient is a fact of its own; else it says how that
Condition was confirmed (`evidence`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import REPORT_STATUS
from sarc_kb.sources.fhir_resources.elements import dicts, referred
from sarc_kb.sources.fhir_resources.evidence import coded, methods, specimens
from sarc_kb.sources.fhir_resources.observation import observation
from sarc_kb.sources.fhir_resources.reading import Entry, Reading


def diagnostic_report(r: Reading) -> Iterator[Fact]:
    status, _ = r.status(REPORT_STATUS)
    start, end = r.when("effective")
    for i, concept in enumerate(dicts(r.body.get("conclusionCode"))):
        if any((r.patient, coding) in r.ties.diagnoses for coding in coded(concept)):
            continue
        yield r.fact(
            f"#conclusion-{i + 1}",
            "Condition",
            r.about(concept),
            status,
            start=start,
            end=end,
            recorded=r.date(r.body, "issued"),
            axes=(*r.on("method", methods(r, [r.entry])), *specimens(r, r.body)),
        )
    for reference in dicts(r.body.get("result")):
        target = r.target(reference)
        if target is not None and target.container is r.entry and target.type == "Observation":
            yield from _contained(r, target, status)


def _contained(r: Reading, target: Entry, status: str) -> Iterator[Fact]:
    """Yield the facts of a result inside the report; it counts no more than the report does."""
    subject = referred(next(iter(dicts(target.body.get("subject"))), {}))
    if subject and subject != referred(next(iter(dicts(r.body.get("subject"))), {})):
        person = r.resolve(subject, target)
        if person is None or person.name != r.patient:
            r.note("DATA115", "holds a result of another patient")
            return
    counts = r.term(status)
    for fact in observation(replace(r, entry=target)):
        yield fact if status == "Confirmed" else replace(fact, status=counts)
