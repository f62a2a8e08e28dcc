"""The rows of a facts table, and the record that a patient's rows make.

``docs/facts-table.md`` describes the columns; `COLUMNS` is the one place that defines them. What is
wrong with a row is an error among the findings of its patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.errors import Finding, Severity
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.sources.facts_findings import finding
from sarc_kb.sources.limits import MAX_DIGITS, MAX_FACTS
from sarc_kb.sources.rdf import KINDS

_COMPARATORS = (None, "<", "<=", ">", ">=")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 3 * MAX_DIGITS
_TOLD = 20


# -- the columns -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type (see `schema`), and whose it is.

    ``of``: ``both`` rows, the row of a ``patient``, the row of a ``fact``, or ``derived`` from the
    columns of a fact. ``needed``: never empty in such a row. Empty where it is not of a row.
    """

    name: str
    type: Literal["text", "texts", "axes", "findings", "labels", "days", "truth", "number", "day"]
    of: Literal["both", "patient", "fact", "derived"] = "fact"
    needed: bool = False


COLUMNS = (
    Column("patient", "text", "both", needed=True),
    Column("label", "text", "patient", needed=True),
    Column("entry", "text", "patient"),
    Column("origin", "text", "patient", needed=True),
    Column("sha256", "text", "patient", needed=True),
    Column("findings", "findings", "patient", needed=True),
    Column("labels", "labels", "patient", needed=True),
    Column("observed", "days", "patient"),
    Column("fact", "text", needed=True),
    Column("kind", "text"),
    Column("concepts", "texts", needed=True),
    Column("value", "text"),
    Column("value_text", "text"),
    Column("comparator", "text"),
    Column("unit", "text"),
    Column("value_concepts", "texts", needed=True),
    Column("upper_limit", "text"),
    Column("upper_limit_unit", "text"),
    Column("start", "text"),
    Column("end", "text"),
    Column("moment", "truth", needed=True),
    Column("ongoing", "truth"),
    Column("recorded", "text"),
    Column("status", "text"),
    Column("axes", "axes", needed=True),
    Column("tumour", "text"),
    Column("source", "text", needed=True),
    Column("performer", "text"),
    Column("basis", "text"),
    Column("value_number", "number", "derived"),
    Column("start_first", "day", "derived"),
    Column("start_last", "day", "derived"),
    Column("end_first", "day", "derived"),
    Column("end_last", "day", "derived"),
)
READ = tuple(c for c in COLUMNS if c.of != "derived")
OF_PATIENT = tuple(c for c in COLUMNS if c.of == "patient")
OF_FACT = tuple(c for c in READ if c.of == "fact")


# -- from rows to records --------------------------------------------------------------------
def records_of_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]], origin: str
) -> Iterator[PatientRecord]:
    """Yield the records that rows make, each row given with its place: of a patient first the row
    without a fact, then those with one."""
    current: RecordRows | None = None
    for where, cell in rows:
        name, of_fact = cell["patient"], cell["fact"] is not None
        if name is None:
            if current is not None:
                current.fault("DATA320", where, "a row without a patient among the facts")
            continue
        if not of_fact or current is None or current.name != name:
            if current is not None:
                yield current.record()
            current = RecordRows(name, origin)
            if of_fact:
                current.fault("DATA320", where, "a fact that is not behind its patient's row")
            else:
                current.patient(cell, where)
        if of_fact:
            current.fact(cell, where)
    if current is not None:
        yield current.record()


class CellError(Exception):
    """A cell that says nothing that can be read; the text names the column, never its content."""


class RecordRows:
    """One record while its rows are read."""

    def __init__(self, name: str, origin: str) -> None:
        self.name = name
        self._label, self._origin, self._sha256 = name, origin, ""
        self._entry: PartialDate | None = None
        self._labels: dict[str, str] = {}
        self._observed: tuple[tuple[int, int], ...] | None = None
        self._findings: list[Finding] = []
        self._faults: list[Finding] = []
        self._untold = 0
        self._facts: dict[str, Fact] = {}
        self._last = ""

    def fault(self, code: str, where: str, found: str) -> None:
        """Note what is wrong, so that the record is not judged."""
        self._last = where
        if len(self._faults) < _TOLD:
            self._faults.append(finding(code, where, found))
        else:
            self._untold += 1

    def patient(self, cell: Mapping[str, Any], where: str) -> None:
        """Read the row of the patient."""
        try:
            _empty(cell, OF_FACT, "the row of a patient")
            _filled(cell, OF_PATIENT)
            self._label, self._origin, self._sha256 = cell["label"], cell["origin"], cell["sha256"]
            self._findings = [_finding(f) for f in cell["findings"]]
            self._labels = dict(_pairs("labels", cell["labels"]))
            if len(self._labels) != len(cell["labels"]):
                raise CellError("labels names a code twice")
            if cell["observed"] is not None:
                self._observed = tuple(_days(d) for d in cell["observed"])
            self._entry = _date("entry", cell["entry"])
        except CellError as error:
            self.fault("DATA322", where, str(error))

    def fact(self, cell: Mapping[str, Any], where: str) -> None:
        """Read the row of a fact."""
        if len(self._facts) >= MAX_FACTS:
            if not any(f.code == "DATA323" for f in self._faults):
                self._faults.append(finding("DATA323", where, f"more than {MAX_FACTS} facts"))
            return
        try:
            _empty(cell, OF_PATIENT, "the row of a fact")
            _filled(cell, OF_FACT)
            fact = _fact(cell)
            if fact.id in self._facts:
                raise CellError("fact is the name of another fact of this patient")
            self._facts[fact.id] = fact
        except CellError as error:
            self.fault("DATA321", where, str(error))

    def record(self) -> PatientRecord:
        """Return the record, as far as it could be read."""
        if self._untold:
            found = f"{self._untold} more rows with faults"
            self._faults.append(finding("DATA321", self._last, found))
        return PatientRecord(
            patient=self.name,
            label=self._label,
            entry=self._entry,
            facts=tuple(self._facts.values()),
            origin=self._origin,
            sha256=self._sha256,
            findings=(*self._findings, *self._faults),
            labels=self._labels,
            observed=self._observed,
        )


def _empty(cell: Mapping[str, Any], columns: Iterable[Column], row: str) -> None:
    for column in columns:
        if cell[column.name] is not None:
            raise CellError(f"{column.name} in {row}")


def _filled(cell: Mapping[str, Any], columns: Iterable[Column]) -> None:
    for column in columns:
        if column.needed and cell[column.name] is None:
            raise CellError(f"{column.name} is empty")


def _fact(cell: Mapping[str, Any]) -> Fact:
    if cell["kind"] is not None and cell["kind"] not in KINDS:
        raise CellError("kind is no kind of fact")
    if cell["comparator"] not in _COMPARATORS:
        raise CellError("comparator is none of < <= > >=")
    start = _date("start", cell["start"])
    if not cell["moment"]:
        end = _date("end", cell["end"])
    elif start is not None and cell["end"] == cell["start"]:
        end = start
    else:
        raise CellError("moment is true, but start and end are not one date")
    return Fact(
        id=cell["fact"],
        kind=cell["kind"],
        concepts=_texts("concepts", cell["concepts"]),
        value=_number("value", cell["value"]),
        value_text=cell["value_text"],
        comparator=cell["comparator"],
        unit=cell["unit"],
        value_concepts=_texts("value_concepts", cell["value_concepts"]),
        upper_limit=_number("upper_limit", cell["upper_limit"]),
        upper_limit_unit=cell["upper_limit_unit"],
        start=start,
        end=end,
        ongoing=cell["ongoing"],
        recorded=_date("recorded", cell["recorded"]),
        status=cell["status"],
        axes=_pairs("axes", [a and (a["axis"], a["term"]) for a in cell["axes"]]),
        tumour=cell["tumour"],
        source=cell["source"],
        performer=cell["performer"],
        basis=cell["basis"],
    )


def _date(column: str, text: str | None) -> PartialDate | None:
    if text is None:
        return None
    try:
        return parse_date(text)
    except ValueError as error:
        raise CellError(f"{column} cannot be read: {error}") from None


def _number(column: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        number = Decimal(text)
        if abs(number.adjusted()) <= MAX_DIGITS:
            return number
    raise CellError(f"{column} is no number, or one beyond {MAX_DIGITS} digits")


def _texts(column: str, texts: list[str | None]) -> tuple[str, ...]:
    found = tuple(t for t in texts if t is not None)
    if len(found) != len(texts):
        raise CellError(f"{column} holds an empty item")
    return found


def _pairs(column: str, pairs: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    if any(pair is None or None in pair for pair in pairs):
        raise CellError(f"{column} holds an empty item")
    return tuple((first, second) for first, second in pairs)


def _days(period: Mapping[str, int | None] | None) -> tuple[int, int]:
    first, last = (None, None) if period is None else (period["first"], period["last"])
    if first is None or last is None:
        raise CellError("observed holds a period without a first or last day")
    return first, last


def _finding(cell: Mapping[str, Any] | None) -> Finding:
    names = ("code", "severity", "where", "found", "why", "fix")
    parts = () if cell is None else tuple(cell[n] for n in names)
    if not is_finding(parts):
        raise CellError("findings holds one that is incomplete")
    return Finding(*parts)


def is_finding(parts: Sequence[Any]) -> bool:
    return len(parts) == 6 and all(isinstance(p, str) for p in parts) and parts[1] in _SEVERITIES


_SEVERITIES = get_args(Severity)
