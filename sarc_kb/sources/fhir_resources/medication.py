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
    VOID_MEDICATION,
)
from sarc_kb.sources.fhir_resources.elements import Json, dicts, stands
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import as_number, unit_of


def medication_administration(r: Reading) -> Iterator[Fact]:
    status, ongoing = r.status(EVENT_STATUS)
    start, end, ongoing = r.extent("effective", ongoing)
    dose = _dose(r, [{"doseAndRate": [{"doseQuantity": d.get("dose")}], "route": d.get("route")}
                     for d in dicts(r.body.get("dosage"))])  # fmt: skip
    yield from _medication_use(r, status, dose, start=start, end=end, ongoing=ongoing)


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
        _dose(r, dicts(r.body.get("dosageInstruction"))),
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
    dose = _dose(r, dicts(r.body.get("dosage")))
    yield from _medication_use(
        r, status, dose, start=start, end=end, ongoing=ongoing, recorded=recorded
    )


def _dose(r: Reading, dosages: list[Json]) -> dict[str, Any]:
    """Return the dose of one administration and the route, where the dosages agree on one."""
    given = [
        quantity
        for dosage in dosages
        for rate in dicts(dosage.get("doseAndRate"))
        for quantity in dicts(rate.get("doseQuantity"))
    ]
    values = {(as_number(quantity.get("value")), unit_of(r, quantity)) for quantity in given}
    routes = [r.codings(dosage.get("route")) for dosage in dosages]
    found: dict[str, Any] = {}
    if len(values) > 1:
        r.note("DATA139", "several doses")
    elif values:
        found["value"], found["unit"] = values.pop()
        if found["value"] is None:
            r.note("DATA124", "the dose holds no number")
            found["value_text"] = "dose"
    if routes and all(route == routes[0] for route in routes):
        found["axes"] = r.on("route", routes[0])
    return found


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


def _medication_use(r: Reading, status: str, dose: dict[str, Any], **rest: Any) -> Iterator[Fact]:
    """Yield the use of a medication and of each active ingredient that is coded.

    The dose is the product's, so it is an ingredient's only if that is all there is in it.
    """
    rest["tumour"] = r.tumour(r.body.get("reasonReference"))
    concept = r.body.get("medicationCodeableConcept")
    ingredients: list[Json] = []
    for reference in dicts(r.body.get("medicationReference")):
        target = r.target(reference)
        if target is None or not stands(target.body, VOID_MEDICATION):
            continue
        if target.type == "Medication":
            concept = target.body.get("code")
            ingredients = dicts(target.body.get("ingredient"))
    coded = [
        (i, found)
        for i, ingredient in enumerate(ingredients)
        if ingredient.get("isActive") is not False
        and (found := r.codings(ingredient.get("itemCodeableConcept")))
    ]
    rest["axes"] = (*dose.pop("axes", ()), *r.marks(r.body))
    product = r.substance(concept)
    if product or not coded:
        yield r.fact("", "MedicationUse", product or r.about(concept), status, **rest, **dose)
    alone = len(ingredients) == 1
    for i, found in coded:
        part = f"#ingredient-{i + 1}"
        yield r.fact(part, "MedicationUse", found, status, **rest, **(dose if alone else {}))
