"""FamilyMemberHistory: diseases of relatives."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import FAMILY_STATUS
from sarc_kb.sources.fhir_resources.elements import dicts
from sarc_kb.sources.fhir_resources.reading import Reading


def family_member_history(r: Reading) -> Iterator[Fact]:
    counts = r.status(FAMILY_STATUS)
    recorded = r.date(r.body, "date")
    for i, one in enumerate(dicts(r.body.get("condition"))):
        about = r.about(one.get("code"))
        yield r.fact(f"#condition-{i + 1}", "FamilyHistory", about, counts[0], recorded=recorded)
