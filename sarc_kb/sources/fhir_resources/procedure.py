"""Procedure: what was done."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import EVENT_STATUS
from sarc_kb.sources.fhir_resources.reading import Reading


def procedure(r: Reading) -> Iterator[Fact]:
    counts = r.status(EVENT_STATUS)
    start, end, ongoing = r.extent("performed", counts[1])
    yield r.fact(
        "",
        "Procedure",
        r.about(r.body.get("code")),
        counts[0],
        start=start,
        end=end,
        ongoing=ongoing,
        tumour=r.tumour(r.body.get("reasonReference")),
        axes=r.axes(bodySite=r.body.get("bodySite")),
    )
