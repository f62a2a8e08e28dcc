"""Condition: diagnoses, with the histology and the recurrence that mCODE and FHIR put there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import (
    ASSERTED_DATE,
    CLINICAL,
    CONDITION_CLINICAL,
    CONDITION_VERIFICATION,
    HISTOLOGY,
    VERIFICATION,
)
from sarc_kb.sources.fhir_resources.elements import choice, dicts, extensions
from sarc_kb.sources.fhir_resources.evidence import confirmation
from sarc_kb.sources.fhir_resources.reading import Reading


def _which_tumour(r: Reading) -> tuple[tuple[str, str], ...]:
    """Return what the categories say of which tumour it is, if one of them is, or is mapped to,
    such a term."""
    kind = r.term("TumourSubject")
    found = r.codings(r.body.get("category"))
    return r.on("subject", (iri for iri in found if kind in r.terms.means(iri)))


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
        "axes": (
            *r.sites(),
            *r.axes(method=evidence),
            *confirmation(r),
            *_which_tumour(r),
            *r.marks(r.body),
        ),
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
