"""Medicines: administered, ordered, or said to be taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sarc_kb.dates import PartialDate
from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import (
    EVENT_STATUS,
    REQUEST_INTENT,
    REQUEST_STATUS,
    STATEMENT_STATUS,
)
from sarc_kb.sources.fhir_resources.elements import Json, dicts
from sarc_kb.sources.fhir_resources.reading import Reading


def medication_administration(r: Reading) -> Iterator[Fact]:
    status, ongoing = r.status(EVENT_STATUS)
    start, end, ongoing = r.extent("effective", ongoing)
    yield from _medication_use(r, status, start=start, end=end, ongoing=ongoing)


def medication_request(r: Reading) -> Iterator[Fact]:
    """Yield what was ordered; where no dosage says when, its use begins with the order."""
    status, ongoing = r.status(REQUEST_STATUS)
    ordered = REQUEST_INTENT.get(str(r.body.get("intent")))
    if ordered is None:
        r.note("DATA121", "has no intent that FHIR knows")
    if status in ("Confirmed", "Suspected"):
        if r.body.get("doNotPerform") not in (None, False):
            status, ongoing = "NotDone", None
        elif ordered is False:
            status, ongoing = "Planned", None
        elif ordered is None:
            status = "Suspected"
    authored = r.date(r.body, "authoredOn")
    start, end = _dosage_period(r, "dosageInstruction")
    yield from _medication_use(
        r,
        status,
        start=start or (authored if end is None else None),
        end=end,
        ongoing=None if ongoing and end else ongoing,
        recorded=authored,
    )


def medication_statement(r: Reading) -> Iterator[Fact]:
    status, ongoing = r.status(STATEMENT_STATUS)
    start, end, ongoing = r.extent("effective", ongoing)
    if not start and not end:
        start, end = _dosage_period(r, "dosage")
        ongoing = None if ongoing and end else ongoing
    recorded = r.date(r.body, "dateAsserted")
    yield from _medication_use(r, status, start=start, end=end, ongoing=ongoing, recorded=recorded)


def _dosage_period(r: Reading, name: str) -> tuple[PartialDate | None, PartialDate | None]:
    """Return first start and last end of the dosages; an end only if each dosage has one."""
    starts: list[PartialDate] = []
    ends: list[PartialDate] = []
    open_end = False
    for dosage in dicts(r.body.get(name)):
        given: list[tuple[PartialDate | None, PartialDate | None]] = []
        for timing in dicts(dosage.get("timing")):
            events = timing.get("event")
            for event in events if isinstance(events, list) else ():
                date = r.date({"timing.event": event}, "timing.event")
                given.append((date, date))
            given += [r.period(repeat, "boundsPeriod") for repeat in dicts(timing.get("repeat"))]
        starts += [start for start, _ in given if start]
        ends += [end for _, end in given if end]
        open_end = open_end or not any(end for _, end in given)
    start = min(starts, key=lambda date: date.first, default=None)
    end = max(ends, key=lambda date: date.last, default=None)
    return start, None if open_end else end


def _medication_use(r: Reading, status: str, **rest: Any) -> Iterator[Fact]:
    """Yield the use of a medication and of each active ingredient that is coded."""
    rest["tumour"] = r.tumour(r.body.get("reasonReference"))
    concept = r.body.get("medicationCodeableConcept")
    ingredients: list[Json] = []
    for reference in dicts(r.body.get("medicationReference")):
        target = r.target(reference)
        usable = target is not None and target.body.get("status") != "entered-in-error"
        if target is not None and usable and target.type == "Medication":
            concept = target.body.get("code")
            ingredients = dicts(target.body.get("ingredient"))
    coded = [
        (i, found)
        for i, ingredient in enumerate(ingredients)
        if ingredient.get("isActive") is not False
        and (found := r.codings(ingredient.get("itemCodeableConcept")))
    ]
    if (product := r.substance(concept)) or not coded:
        yield r.fact("", "MedicationUse", product or r.about(concept), status, **rest)
    for i, found in coded:
        yield r.fact(f"#ingredient-{i + 1}", "MedicationUse", found, status, **rest)
