"""The OMOP Common Data Model as far as it is read: tables, columns, and the format's own concepts.

One row of any clinical table is read into the same shape, :class:`Row`; `TABLES` says which column
fills which field. Nothing here is about medicine: concepts are looked up in the mapping tables.
Source: OHDSI CommonDataModel v5.4 and v5.3, field-level specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row of a clinical table, every cell as text, just as the source has it (None: empty).

    ``person`` is whose it is, ``table`` where it stands, ``id`` its key there. The names of the
    other fields say what the column holds, whatever it is called: ``concept`` is what the row is
    about, ``value`` a coded and ``number`` a numeric result, ``event`` the row it belongs to.
    """

    person: str
    table: str
    id: str | None = None
    concept: str | None = None
    source_concept: str | None = None
    source_value: str | None = None
    start: str | None = None
    start_time: str | None = None
    end: str | None = None
    end_time: str | None = None
    verbatim_end: str | None = None
    year: str | None = None
    month: str | None = None
    day: str | None = None
    number: str | None = None
    text: str | None = None
    value: str | None = None
    value_source: str | None = None
    operator: str | None = None
    unit: str | None = None
    unit_source: str | None = None
    high: str | None = None
    status: str | None = None
    status_source: str | None = None
    qualifier: str | None = None
    route: str | None = None
    quantity: str | None = None
    days: str | None = None
    type: str | None = None
    visit: str | None = None
    provider: str | None = None
    event: str | None = None
    event_field: str | None = None
    parent: str | None = None
    object: str | None = None


FIELDS = Row._fields
# Fields that hold a concept id, those that hold another key, and those whose concepts are looked up
# to be read as codes; `type` and `event_field` are the format's own.
CONCEPTS = (
    "concept",
    "source_concept",
    "value",
    "operator",
    "unit",
    "status",
    "qualifier",
    "route",
    "object",
    "event_field",
)
IDS = (*CONCEPTS, "type", "id", "visit", "provider", "event", "parent")


@dataclass(frozen=True, slots=True)
class Table:
    """How one table of the CDM is read.

    ``columns``: field of `Row` to the column, or to several, of which the first that is there is
    taken. ``needed``: fields without which a row says less than it could, in every version that is
    read. ``lost``: what cannot be answered where the whole table is missing; empty if nothing.
    """

    columns: Mapping[str, str | tuple[str, ...]]
    needed: tuple[str, ...] = ()
    lost: str = ""


def _event(stem: str, date: str, end: str | None, **more: str | tuple[str, ...]) -> Table:
    """Return the usual layout: key, concept, source, dates, visit, provider."""
    key = {"condition": "condition_occurrence", "procedure": "procedure_occurrence"}
    key |= {"drug": "drug_exposure", "device": "device_exposure"}
    columns: dict[str, str | tuple[str, ...]] = {
        "id": f"{key.get(stem, stem)}_id",
        "concept": f"{stem}_concept_id",
        "source_concept": f"{stem}_source_concept_id",
        "source_value": f"{stem}_source_value",
        "start": f"{date}_date",
        "start_time": f"{date}_datetime",
        "type": f"{stem}_type_concept_id",
        "visit": "visit_occurrence_id",
        "provider": "provider_id",
    }
    if end is not None:
        columns |= {"end": f"{end}_date", "end_time": f"{end}_datetime"}
    return Table(
        columns | more,
        ("id", "concept", "start"),
        f"what is recorded as {stem}; none of it is known",
    )


_RESULT: Mapping[str, str | tuple[str, ...]] = {
    "number": "value_as_number",
    "value": "value_as_concept_id",
    "value_source": "value_source_value",
    "unit": "unit_concept_id",
    "unit_source": "unit_source_value",
}

# In this order the rows of a person are read.
TABLES: Mapping[str, Table] = {
    "person": Table(
        {
            "concept": "gender_concept_id",
            "source_concept": "gender_source_concept_id",
            "source_value": "gender_source_value",
            "year": "year_of_birth",
            "month": "month_of_birth",
            "day": "day_of_birth",
        },
        ("concept", "year", "month", "day"),
    ),
    "observation_period": Table(
        {
            "id": "observation_period_id",
            "start": "observation_period_start_date",
            "end": "observation_period_end_date",
        },
        ("start", "end"),
        "from when to when a person was observed; --complete holds for nobody",
    ),
    "death": Table(
        {"start": "death_date", "start_time": "death_datetime"},
        ("start",),
        "whether and when a person died",
    ),
    "visit_occurrence": Table(
        {"id": "visit_occurrence_id", "start": "visit_start_date", "end": "visit_end_date"},
        ("id", "start", "end"),
    ),
    "specimen": Table(
        {
            "id": "specimen_id",
            "concept": "specimen_concept_id",
            "source_value": "specimen_source_value",
            "start": "specimen_date",
        }
    ),
    "episode": Table(
        {
            "id": "episode_id",
            "concept": "episode_concept_id",
            "source_concept": "episode_source_concept_id",
            "source_value": "episode_source_value",
            "object": "episode_object_concept_id",
            "start": "episode_start_date",
            "start_time": "episode_start_datetime",
            "end": "episode_end_date",
            "end_time": "episode_end_datetime",
            "parent": "episode_parent_id",
        }
    ),
    "episode_event": Table(
        {
            "id": "episode_id",
            "event": "event_id",
            "event_field": ("episode_event_field_concept_id", "event_field_concept_id"),
        }
    ),
    "condition_occurrence": _event(
        "condition",
        "condition_start",
        "condition_end",
        status="condition_status_concept_id",
        status_source="condition_status_source_value",
    ),
    "procedure_occurrence": _event(
        "procedure", "procedure", "procedure_end", qualifier="modifier_concept_id"
    ),
    "drug_exposure": _event(
        "drug",
        "drug_exposure_start",
        "drug_exposure_end",
        verbatim_end="verbatim_end_date",
        quantity="quantity",
        days="days_supply",
        route="route_concept_id",
        unit_source="dose_unit_source_value",
    ),
    "device_exposure": replace(
        _event("device", "device_exposure_start", "device_exposure_end"), lost=""
    ),
    "measurement": _event(
        "measurement",
        "measurement",
        None,
        operator="operator_concept_id",
        high="range_high",
        event=("measurement_event_id", "modifier_of_event_id"),
        event_field=("meas_event_field_concept_id", "modifier_of_field_concept_id"),
        **_RESULT,
    ),
    "observation": _event(
        "observation",
        "observation",
        None,
        text="value_as_string",
        qualifier="qualifier_concept_id",
        event="observation_event_id",
        event_field="obs_event_field_concept_id",
        **_RESULT,
    ),
}
ORDER = tuple(TABLES)
OTHERS = ("cdm_source", "concept", "concept_ancestor", "drug_strength")
# Version 5.3 has none of these; that is said once, and not as a loss.
NEW_IN_5_4 = frozenset(("episode", "episode_event"))

# -- the format's own concepts ---------------------------------------------------------------
# Domain "Meas Value Operator".
OPERATORS: Mapping[str, str | None] = {
    "4171754": "<=",
    "4171755": ">=",
    "4171756": "<",
    "4172703": None,  # equal
    "4172704": ">",
}
# Which table a key of another row leads to. The source's own `concept` table names such fields
# (vocabulary CDM); these two are known without it.
FIELDS_OF_TABLES: Mapping[str, str] = {
    "1147082": "procedure_occurrence",
    "1147127": "condition_occurrence",
}
# A record of something given, not ordered or dispensed: type concept "EHR administration record",
# and the one that it replaced, "Inpatient administration".
ADMINISTRATIONS = frozenset(("32818", "38000180"))
NO_CONCEPT = "0"


@dataclass(frozen=True, slots=True)
class Concept:
    """A row of the source's ``concept`` table."""

    vocabulary: str
    code: str
    name: str
    standard: bool
    valid: bool


@dataclass(frozen=True, slots=True)
class Strength:
    """How much of its one ingredient a unit of a product holds; ``unit`` is a concept id."""

    amount: str
    unit: str


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the source itself says of the concepts that its rows use.

    ``concepts``: concept id to concept; empty where there is no such table. ``above``: id of a
    concept that no mapping reads to the nearest of its ancestors that one does. ``codings`` keeps
    what was looked up, for the next person.
    """

    concepts: Mapping[str, Concept] = field(default_factory=dict)
    above: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strengths: Mapping[str, Strength] = field(default_factory=dict)
    codings: dict[str, tuple[Any, str]] = field(default_factory=dict, compare=False)
