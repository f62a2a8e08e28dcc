"""Tables of facts in memory: whatever hands itself over as Arrow, such as a pandas or Polars data
frame, a PyArrow table or the result of a DuckDB query.

With a column ``fact``, a table is a facts table as `sarc_kb.sources.facts_rows` defines it. Without
one, every row is a fact, wherever it stands; ``entry`` and ``label`` say the same in all rows of a
patient, and ``date`` is the one date of a fact that has no start and end. Columns that a table does
not have are empty, numbers and dates may be of the table's own types.

Source: the Arrow PyCapsule interface (``__arrow_c_stream__``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Protocol

from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.sources.facts_findings import finding
from sarc_kb.sources.facts_rows import COLUMNS, OF_FACT, READ, Column, records_of_rows
from sarc_kb.sources.facts_table import need_pyarrow
from sarc_kb.sources.limits import MAX_LABEL

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowTable(Protocol):
    """Anything with the Arrow stream interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


_DATE = Column("date", "text")
_NUMBERS = ("value", "upper_limit")
_DATES = ("entry", "start", "end", "recorded", "date")
_NAMES = ("patient", "label", "fact", "source")
_OF_ALL_ROWS = ("entry", "label")
_INDEX = "__index_level_"  # what pandas calls an index that has no name


def read_frame(table: ArrowTable, origin: str, problems: list[Finding]) -> list[PatientRecord]:
    """Return the records of a table, patients in the order in which they are first named.

    Args:
        origin: what reports call the table.
        problems: receives what belongs to no patient.
    Raises:
        InputError: a column is missing or of a type that means nothing.
        UsageError: the extra ``cohort`` is not installed.
    """
    cells = _cells(table, origin, problems)
    places = [f"{origin} row {n}" for n in range(1, len(cells["patient"]) + 1)]
    if any(name is None for name in cells["patient"]):
        where = places[cells["patient"].index(None)]
        problems.append(finding("DATA306", where, "a row without a patient"))
    rows = [
        (place, dict(zip(cells, row, strict=True)))
        for place, row in zip(places, zip(*cells.values(), strict=True), strict=True)
        if row[0] is not None
    ]
    whole = _filled if "fact" in cells else _headed
    return list(records_of_rows(whole(rows, origin), origin))


# -- columns -------------------------------------------------------------------------------------
def _cells(table: ArrowTable, origin: str, problems: list[Finding]) -> dict[str, list[Any]]:
    """Return the known columns of a table, ``patient`` first, as cells of a facts table."""
    need_pyarrow(origin)
    import pyarrow as pa

    try:
        read = pa.RecordBatchReader.from_stream(table).read_all()
    except (pa.ArrowException, TypeError, ValueError) as error:
        found = f"not readable as an Arrow table ({type(error).__name__})"
        raise InputError(finding("DATA300", origin, found)) from None
    names = read.column_names
    known = {c.name: c for c in READ}
    if "fact" not in names:
        known |= {"date": _DATE}
    faults = [
        finding("DATA307", origin, f"no column {name}")
        for name in ("patient", "concepts")
        if name not in names
    ]
    cells: dict[str, list[Any]] = {"patient": []}
    for name in names:
        if name not in known:
            if name not in {c.name for c in COLUMNS} and not name.startswith(_INDEX):
                problems.append(finding("DATA304", origin, f"column {name[:MAX_LABEL]}"))
            continue
        if names.count(name) > 1:
            faults.append(finding("DATA307", origin, f"several columns {name}"))
            continue
        column = _plain(read.column(name))
        if not _fits(known[name], column.type):
            kind = str(column.type)[:MAX_LABEL]
            faults.append(finding("DATA307", origin, f"column {name} of type {kind}"))
            continue
        cells[name] = _values(known[name], column)
    if faults:
        raise InputError(*faults)
    return cells


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose values stand in it, not in a dictionary beside it."""
    import pyarrow as pa

    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _fits(column: Column, kind: pa.DataType) -> bool:
    """Whether a column of that type can be read."""
    import pyarrow.types as t

    if t.is_null(kind):
        return True
    text = t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)
    if column.type == "text":
        return bool(
            text
            or (column.name in _NAMES and t.is_integer(kind))
            or (column.name in _NUMBERS and (t.is_integer(kind) or t.is_floating(kind)))
            or (column.name in _NUMBERS and t.is_decimal(kind))
            or (column.name in _DATES and (t.is_date(kind) or t.is_timestamp(kind)))
        )
    if column.type == "truth":
        return bool(t.is_boolean(kind))
    if column.type == "labels" and t.is_map(kind):
        return _is_text(kind.key_type) and _is_text(kind.item_type)
    if column.type == "texts" and text:
        return True
    if not (t.is_list(kind) or t.is_large_list(kind) or t.is_list_view(kind)):
        return False
    item = kind.value_type
    if t.is_null(item):
        return True
    if column.type == "texts":
        return _is_text(item)
    if column.type == "labels" and t.is_list(item):
        return _is_text(item.value_type)  # how pandas hands a map on
    members = {
        "axes": {"axis", "term"},
        "labels": {"key", "value"},
        "days": {"first", "last"},
        "findings": {"code", "severity", "where", "found", "why", "fix"},
    }[column.type]
    return bool(t.is_struct(item)) and {f.name for f in item} == members


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def _values(column: Column, given: pa.ChunkedArray) -> list[Any]:
    """Return the cells of a column as a facts table has them."""
    import pyarrow as pa

    if column.type == "text":
        if pa.types.is_timestamp(given.type):
            zone = given.type.tz
            moments = given.cast(pa.timestamp("us", zone), safe=False).to_pylist()
            return [None if moment is None else _moment_text(moment) for moment in moments]
        given = given.cast(pa.string())
    cells: list[Any] = given.to_pylist()
    if column.type in ("text", "truth", "days"):
        return cells
    if column.type == "texts":
        return [[cell] if isinstance(cell, str) else cell or [] for cell in cells]
    if column.type == "labels":
        return [[_pair(label) for label in cell or ()] for cell in cells]
    return [cell or [] for cell in cells]


def _moment_text(moment: datetime) -> str:
    # Data frames have no dates without a time: midnight, to the second, is a day.
    if moment.tzinfo is None and moment.time() == time():
        return moment.date().isoformat()
    return moment.isoformat()


def _pair(label: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    return (label["key"], label["value"]) if isinstance(label, Mapping) else tuple(label)


# -- rows ----------------------------------------------------------------------------------------
_Row = tuple[str, dict[str, Any]]
_EMPTY: dict[str, Any] = {c.name: None for c in READ}
_NOTHING: dict[str, Any] = {"concepts": [], "value_concepts": [], "axes": []}
_NEEDED = tuple(c for c in READ if c.of == "patient" and c.needed)


def _filled(rows: list[_Row], origin: str) -> Iterator[_Row]:
    """Yield the rows of a facts table, with what columns that are not there would say."""
    for place, row in rows:
        if row["fact"] is None:
            told = {"label": row["patient"], "origin": origin, "findings": [], "labels": []}
            told |= {"sha256": ""}
            missing = {name: told[name] for name in (c.name for c in _NEEDED) if name not in row}
            # What a column of lists has nothing of is no list in the row of a patient.
            nothing = {c.name: None for c in OF_FACT if not row.get(c.name)}
            yield place, {**_EMPTY, **row, **missing, **nothing}
        else:
            dated = row.get("start") is not None and row.get("start") == row.get("end")
            told = {**_NOTHING, "moment": dated, "source": place}
            missing = {name: value for name, value in told.items() if row.get(name) is None}
            nothing = {c.name: None for c in READ if c.of == "patient" and not row.get(c.name)}
            yield place, {**_EMPTY, **row, **missing, **nothing}


def _headed(rows: list[_Row], origin: str) -> Iterator[_Row]:
    """Yield the rows of each patient, all of them facts, behind a row of the patient."""
    patients: dict[str, list[_Row]] = {}
    for place, row in rows:
        patients.setdefault(row["patient"], []).append((place, row))
    for name, own in patients.items():
        head = {column: _agreed(own, column) for column in _OF_ALL_ROWS}
        yield (
            own[0][0],
            {
                **_EMPTY,
                "patient": name,
                "label": head["label"] or name,
                "entry": head["entry"],
                "origin": origin,
                "sha256": _sha256([row for _, row in own]),
                "findings": [],
                "labels": [],
            },
        )
        for place, row in own:
            fact = {**_EMPTY, **_NOTHING, "fact": place, "source": place, "moment": False}
            fact |= {k: v for k, v in row.items() if v is not None and k not in _OF_ALL_ROWS}
            if (date := fact.pop("date", None)) is not None:
                both = fact["start"] is not None or fact["end"] is not None
                # A date beside a start or an end is told as what it is: no one date.
                fact |= {"moment": True} if both else {"start": date, "end": date, "moment": True}
            yield place, fact


def _agreed(rows: list[_Row], column: str) -> str | None:
    """Return what the rows of a patient say together; of several things, all of them, which is
    then no date that could be read."""
    found = dict.fromkeys(str(row[column]) for _, row in rows if row.get(column) is not None)
    return " and ".join(found) or None


def _sha256(rows: list[dict[str, Any]]) -> str:
    """Return the hash of what rows say, whatever library they come from."""
    told = [{k: v for k, v in sorted(row.items()) if v not in (None, [])} for row in rows]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()
