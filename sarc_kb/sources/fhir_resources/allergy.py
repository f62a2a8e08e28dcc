"""AllergyIntolerance: the allergen, and the substance of each reaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import (
    ALLERGY_CLINICAL,
    ALLERGY_VERIFICATION,
    CLINICAL,
    VERIFICATION,
)
from sarc_kb.sources.fhir_resources.elements import dicts
from sarc_kb.sources.fhir_resources.reading import Reading


def allergy_intolerance(r: Reading) -> Iterator[Fact]:
    verified = r.coded_status("verificationStatus", ALLERGY_VERIFICATION, VERIFICATION)
    clinical = r.coded_status("clinicalStatus", ALLERGY_CLINICAL, CLINICAL)
    ongoing = CLINICAL[clinical] if clinical else None
    start = end = r.date(r.body, "onsetDateTime")
    recorded = r.date(r.body, "recordedDate")
    if start is None and any(
        r.terms.means(code) & r.terms.absences for code in r.codings(r.body.get("code"))
    ):
        # That nothing is known has no onset: it is true of the day on which it was said.
        start = end = recorded
    else:
        end = None
    common: dict[str, Any] = {
        "status": VERIFICATION[verified or "confirmed"],
        "start": start,
        "end": end,
        "ongoing": ongoing,
        "recorded": recorded,
        "axes": r.marks(r.body),
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
