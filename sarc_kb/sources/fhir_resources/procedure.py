"""Procedure: what was done; of radiotherapy also how much."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import EVENT_STATUS
from sarc_kb.sources.fhir_resources.radiotherapy import doses, technique
from sarc_kb.sources.fhir_resources.reading import Reading


def procedure(r: Reading) -> Iterator[Fact]:
    status, ongoing = r.status(EVENT_STATUS)
    start, end, ongoing = r.extent("performed", ongoing)
    tumour = r.tumour(r.body.get("reasonReference"))
    yield r.fact(
        "",
        "Procedure",
        r.about(r.body.get("code")),
        status,
        start=start,
        end=end,
        ongoing=ongoing,
        tumour=tumour,
        axes=(*r.sites(), *technique(r), *r.marks(r.body)),
    )
    # A dose is what had been given at the end; of what goes on, since the start.
    yield from doses(r, status, start=end or start, end=end, tumour=tumour)
