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
    start = r.date(r.body, "onsetDateTime")
    common: dict[str, Any] = {
        "status": VERIFICATION[verified or "confirmed"],
        "start": start,
        "ongoing": ongoing,
        "recorded": r.date(r.body, "recordedDate"),
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
