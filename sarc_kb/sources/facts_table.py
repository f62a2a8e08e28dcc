"""Patient records as one table of facts, in Parquet: the relational face of the same facts.

`sarc_kb.sources.facts_rows` defines the columns. A table keeps every field of a record, so that what
is read back equals what was written. A patient's rows stand together in one row group, so that row
groups can be read apart, by several processes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarc_kb import __version__
from sarc_kb.dates import PartialDate
from sarc_kb.errors import Finding, InputError, UsageError
from sarc_kb.facts import PatientRecord
from sarc_kb.reports.escaping import scalar_values
from sarc_kb.sources.facts_findings import finding
from sarc_kb.sources.facts_rows import COLUMNS, READ, is_finding, records_of_rows
from sarc_kb.sources.limits import MAX_LABEL
from sarc_kb.sources.patients import told_twice
from sarc_kb.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "sarc-kb facts"
SCHEMA_VERSION = 1
ROWS = 20_000
"""Rows of a row group: some 200 patients, enough to compress and few enough to share out."""

# Keys of the file's metadata.
_FORMAT, _SCHEMA, _PROGRAM, _FINDINGS = (
    "sarc-kb.format",
    "sarc-kb.schema",
    "sarc-kb.program",
    "sarc-kb.findings",
)
_BATCH = 4096
_BATCH_BYTES = 1_000_000_000
_CHUNK = 65_536
# What Arrow raises on a damaged file: its own exceptions are among these, and so are texts that are
# no UTF-8.
_DAMAGE = (OSError, ValueError, TypeError, KeyError, MemoryError, NotImplementedError)


def schema() -> pa.Schema:
    """Return the Arrow schema of a facts table, with the metadata that tell one."""
    import pyarrow as pa

    text = pa.string()
    types = {
        "text": text,
        "texts": pa.list_(text),
        "axes": pa.list_(pa.struct([("axis", text), ("term", text)])),
        "findings": pa.list_(
            pa.struct([(n, text) for n in ("code", "severity", "where", "found", "why", "fix")])
        ),
        "labels": pa.map_(text, text),
        "days": pa.list_(pa.struct([("first", pa.int32()), ("last", pa.int32())])),
        "truth": pa.bool_(),
        "number": pa.float64(),
        "day": pa.date32(),
    }
    return pa.schema(
        [pa.field(c.name, types[c.type], nullable=c.of != "both") for c in COLUMNS],
        metadata={_FORMAT: FORMAT, _SCHEMA: str(SCHEMA_VERSION), _PROGRAM: __version__},
    )


def need_pyarrow(where: str) -> None:
    """Make sure that Parquet can be read and written.

    Raises:
        UsageError: the extra ``cohort`` is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError(
            Finding(
                "USE030",
                "error",
                where,
                "facts tables need a package that is not installed",
                "it is an extra, because most users do not need it",
                "pip install 'sarc-kb[cohort]'",
            )
        ) from None


# -- writing ---------------------------------------------------------------------------------
@dataclass(slots=True)
class Written:
    """What went into a table: patients, those with an error on record, facts, and input files."""

    patients: int = 0
    broken: int = 0
    facts: int = 0
    files: int = 0


def write_facts(
    records: Iterable[PatientRecord],
    path: Path | str,
    *,
    findings: Sequence[Finding] = (),
    rows: int = ROWS,
) -> Written:
    """Write ``records`` as the facts table ``path``, whole or not at all; return what is in it.

    ``findings`` belong to no patient; they are read when the records are at their end, and whoever
    reads the table is told them. A row group has at most ``rows`` rows, or one patient. The same
    records give the same bytes. Half a surrogate, which no file can hold, becomes U+FFFD.

    Raises:
        OSError: the file cannot be written.
        UsageError: the extra ``cohort`` is not installed.
    """
    need_pyarrow(str(path))
    import pyarrow.parquet as pq

    counts = Written()
    origins: set[str] = set()
    waiting = _Rows()
    layout = schema()
    with (
        whole_file(Path(path)) as stream,
        pq.ParquetWriter(
            stream, layout, compression="zstd", version="2.6", write_page_checksum=True
        ) as writer,
    ):
        for record in records:
            if waiting.count and waiting.count + 1 + len(record.facts) > rows:
                waiting.flush(writer, layout)
            waiting.add(record)
            counts.patients += 1
            counts.facts += len(record.facts)
            counts.broken += any(f.severity == "error" for f in record.findings)
            origins.add(record.origin)
        if waiting.count:
            waiting.flush(writer, layout)
        told = json.dumps([astuple(f) for f in findings])
        writer.add_key_value_metadata({_FINDINGS: told})
    counts.files = len(origins)
    return counts


class _Rows:
    """The rows of one row group, column by column."""

    def __init__(self) -> None:
        self.count = 0
        self._cells: dict[str, list[Any]] = {c.name: [] for c in COLUMNS}

    def add(self, record: PatientRecord) -> None:
        """Put a record behind those that are there."""
        self._row(
            patient=record.patient,
            label=record.label,
            entry=_date_text(record.entry),
            origin=record.origin,
            sha256=record.sha256,
            findings=[_finding_cell(f) for f in record.findings],
            labels=list(record.labels.items()),
            observed=None
            if record.observed is None
            else [{"first": first, "last": last} for first, last in record.observed],
        )
        for fact in record.facts:
            self._row(
                patient=record.patient,
                fact=fact.id,
                kind=fact.kind,
                concepts=fact.concepts,
                value=_number_text(fact.value),
                value_text=fact.value_text,
                comparator=fact.comparator,
                unit=fact.unit,
                value_concepts=fact.value_concepts,
                upper_limit=_number_text(fact.upper_limit),
                upper_limit_unit=fact.upper_limit_unit,
                start=_date_text(fact.start),
                end=_date_text(fact.end),
                # One date is not the same as a start and an end on one day: see Fact.
                moment=fact.start is not None and fact.start is fact.end,
                ongoing=fact.ongoing,
                recorded=_date_text(fact.recorded),
                status=fact.status,
                axes=[{"axis": axis, "term": term} for axis, term in fact.axes],
                tumour=fact.tumour,
                source=fact.source,
                performer=fact.performer,
                basis=fact.basis,
                value_number=None if fact.value is None else float(fact.value),
                start_first=fact.start and date.fromordinal(fact.start.first),
                start_last=fact.start and date.fromordinal(fact.start.last),
                end_first=fact.end and date.fromordinal(fact.end.first),
                end_last=fact.end and date.fromordinal(fact.end.last),
            )

    def _row(self, **cells: Any) -> None:
        self.count += 1
        for name, column in self._cells.items():
            column.append(cells.get(name))

    def flush(self, writer: Any, layout: pa.Schema) -> None:
        """Write the rows as one row group, and forget them."""
        import pyarrow as pa

        arrays = [_array(self._cells[f.name], f.type) for f in layout]
        table = pa.Table.from_arrays(arrays, schema=layout)
        writer.write_table(table, row_group_size=self.count)
        self.count = 0
        for column in self._cells.values():
            column.clear()


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(cells, kind)
    except UnicodeEncodeError:
        return pa.array(_encodable(cells), kind)


def _encodable(cell: Any) -> Any:
    if isinstance(cell, str):
        return scalar_values(cell)
    if isinstance(cell, list):
        return [_encodable(c) for c in cell]
    if isinstance(cell, tuple):
        return tuple(_encodable(c) for c in cell)
    if isinstance(cell, dict):
        return {key: _encodable(value) for key, value in cell.items()}
    return cell


def _date_text(day: PartialDate | None) -> str | None:
    return None if day is None else day.text


def _number_text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _finding_cell(told: Finding) -> dict[str, str]:
    return {
        "code": told.code,
        "severity": told.severity,
        "where": told.where,
        "found": told.found,
        "why": told.why,
        "fix": told.fix,
    }


# -- reading ---------------------------------------------------------------------------------
def holds_facts(path: Path) -> bool:
    """Return whether a Parquet file is a facts table, by its last bytes; True also where that
    cannot be told, so that whoever opens it says why."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - 8))
            length, magic = int.from_bytes(handle.read(4), "little"), handle.read(4)
            if magic not in (b"PAR1", b"PARE") or length > size - 8:
                return True
            handle.seek(size - 8 - length)
            return _FORMAT.encode() in handle.read(length)
    except OSError:
        return True


class FactsTable:
    """A facts table that is there to be read.

    ``row_groups``: how many parts can be read apart. ``problems``: what belongs to no patient,
    also what was told when the table was written; it is complete once `patients` was gone through.
    """

    def __init__(self, path: Path | str, origin: str | None = None) -> None:
        """Look at the file's own description, at nothing else.

        Raises:
            InputError: it is no facts table that this version reads.
            UsageError: the extra ``cohort`` is not installed.
        """
        self.path = Path(path)
        self.origin = origin or str(path)
        need_pyarrow(self.origin)
        self.problems: list[Finding] = []
        with self._open() as file:
            self._look_over(file)
            groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
            self.row_groups = len(groups)
            self._first_rows = [0]
            self._batches = []
            for group in groups:
                self._first_rows.append(self._first_rows[-1] + group.num_rows)
                # A small file may hold one long text in every row. (Asking for the size of each
                # column would end the process where a damaged file has odd statistics.)
                fits = _BATCH_BYTES // max(group.total_byte_size, 1)
                self._batches.append(max(1, min(_BATCH, fits)))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.path.open("rb"):
                pass
            # A text may name a place on the network to Arrow; this is a file of this machine.
            source = pa.OSFile(str(self.path))
        except OSError as error:
            found = f"cannot be opened: {error.strerror or type(error).__name__}"
            raise InputError(finding("DATA300", self.origin, found)) from None
        with source:
            try:
                file = pq.ParquetFile(source, page_checksum_verification=True)
            except _DAMAGE as error:
                found = f"not readable as Parquet, or not whole ({type(error).__name__})"
                raise InputError(finding("DATA300", self.origin, found)) from None
            yield file

    def _look_over(self, file: Any) -> None:
        told = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in (file.metadata.metadata or {}).items()
        }
        if told.get(_FORMAT) != FORMAT:
            raise InputError(finding("DATA301", self.origin, "a Parquet file, but no facts table"))
        version = told.get(_SCHEMA, "")
        if not (version.isascii() and version.isdecimal() and len(version) < 8):
            raise InputError(finding("DATA301", self.origin, "a facts table of no version"))
        if not 0 < int(version) <= SCHEMA_VERSION:
            found = f"version {int(version)} of the facts table, not {SCHEMA_VERSION}"
            raise InputError(finding("DATA302", self.origin, found))
        try:
            there = file.schema_arrow
            names = Counter(there.names)
        except _DAMAGE as error:
            found = f"columns that cannot be read ({type(error).__name__})"
            raise InputError(finding("DATA300", self.origin, found)) from None
        wanted = schema()
        faults = []
        for column in READ:
            if names[column.name] != 1:
                number = "no column" if not names[column.name] else "several columns"
                faults.append(finding("DATA303", self.origin, f"{number} {column.name}"))
                continue
            kind = there.field(column.name).type
            if not _alike(wanted.field(column.name).type, kind):
                found = f"column {column.name} of type {str(kind)[:MAX_LABEL]}"
                faults.append(finding("DATA303", self.origin, found))
        if faults:
            raise InputError(*faults)
        for name in names.keys() - {c.name for c in COLUMNS}:
            found = f"column {name[:MAX_LABEL]}"
            self.problems.append(finding("DATA304", self.origin, found))
        self.problems.sort(key=lambda f: f.found)
        self._add_told(told.get(_FINDINGS))

    def _add_told(self, written: str | None) -> None:
        """Take over what was told when the table was written."""
        if written is None:
            return
        try:
            cells = json.loads(written)
            told = [Finding(*cell) for cell in cells]
            if not all(is_finding(astuple(f)) for f in told):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            found = "findings of the run that cannot be read"
            self.problems.append(finding("DATA303", self.origin, found))
            return
        self.problems += told

    def sha256(self) -> str:
        """Return the hash of the file."""
        with self.path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    # -- whose rows there are ----------------------------------------------------------------
    def patients(self) -> Iterator[str]:
        """Yield the name of each record, in order; `records` yields as many."""
        for chunk in self._names(range(self.row_groups), self.problems):
            yield from chunk.to_pylist()

    def repeated(self) -> dict[str, int]:
        """Return the names under which several records stand, with how many do."""
        import pyarrow as pa
        import pyarrow.compute as pc

        chunks = list(self._names(range(self.row_groups), self.problems))
        counts = pa.chunked_array(chunks, pa.string()).value_counts()
        several = counts.filter(pc.greater(counts.field("counts"), 1))
        return {str(c["values"]): int(c["counts"]) for c in several.to_pylist()}

    def _names(self, groups: Iterable[int], problems: list[Finding]) -> Iterator[Any]:
        """Yield the names of the records of row groups, as Arrow arrays.

        A record begins at the row of a patient, and where a fact stands behind another patient's.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        with self._open() as file:
            for group in groups:
                last: str | None = None
                try:
                    for batch in file.iter_batches(
                        min(_CHUNK, 16 * self._batches[group]), [group], ["patient", "fact"]
                    ):
                        named = batch.column("patient").cast(pa.string())
                        named.validate(full=True)  # that it is UTF-8
                        facts = batch.column("fact")
                        nobodys = named.null_count
                        if nobodys:
                            there = pc.is_valid(named)
                            if last is None and not there[0].as_py():
                                where = f"{self.origin} row {self._first_rows[group] + 1}"
                                found = "a row without a patient"
                                problems.append(finding("DATA306", where, found))
                            named, facts = named.filter(there), facts.filter(there)
                        if not len(named):
                            continue
                        before = pa.concat_arrays([pa.array([last], pa.string()), named[:-1]])
                        other = pc.fill_null(pc.not_equal(named, before), True)
                        yield named.filter(pc.or_(pc.is_null(facts), other))
                        last = named[-1].as_py()
                except _DAMAGE as error:
                    problems.append(self._damaged(group, error))

    def _damaged(self, group: int, error: Exception) -> Finding:
        found = f"row group {group} cannot be read ({type(error).__name__})"
        return finding("DATA305", self.origin, found)

    # -- records -----------------------------------------------------------------------------
    def records(self, row_groups: Iterable[int] | None = None) -> Iterator[PatientRecord]:
        """Yield the records of all row groups, or of some of them, numbered from 0.

        What is wrong with a record is among its findings. Whether its name stands elsewhere, too,
        is not known here: see `repeated`.
        """
        with self._open() as file:
            for group in range(self.row_groups) if row_groups is None else row_groups:
                given = 0
                try:
                    for record in self._group(file, group):
                        given += 1
                        yield record
                except _DAMAGE as error:
                    # Of the others, only the names may still be known.
                    damage = self._damaged(group, error)
                    names = (n for c in self._names([group], []) for n in c.to_pylist())
                    for number, name in enumerate(names):
                        if number >= given:
                            yield PatientRecord(
                                name, name, None, (), self.origin, findings=(damage,)
                            )

    def _group(self, file: Any, group: int) -> Iterator[PatientRecord]:
        return records_of_rows(self._rows(file, group), self.origin)

    def _rows(self, file: Any, group: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the rows of a row group, each with its place."""
        columns = [c.name for c in READ]
        number = self._first_rows[group]
        for batch in file.iter_batches(self._batches[group], [group], columns):
            cells = batch.to_pydict()
            for row in zip(*(cells[name] for name in columns), strict=True):
                number += 1
                yield f"{self.origin} row {number}", dict(zip(columns, row, strict=True))
        if number != self._first_rows[group + 1]:
            raise ValueError("rows are missing")


def read_facts(
    path: Path | str,
    *,
    row_groups: Iterable[int] | None = None,
    repeated: Mapping[str, int] | None = None,
    problems: list[Finding] | None = None,
) -> Iterator[PatientRecord]:
    """Yield the records of a facts table as they were written, all or those of ``row_groups``
    (numbered from 0), with the memory of a few rows.

    What is wrong with a row is an error among the findings of its patient. A name under which
    several records stand gives each of them an error; ``repeated`` tells those names where
    `FactsTable.repeated` was asked before, as whoever shares out row groups should, so that not
    every reader goes through the whole column. ``problems`` receives what belongs to no patient.

    Raises:
        InputError: it is no facts table; without ``problems``, at the end, also for an error that
            belongs to no patient.
        UsageError: the extra ``cohort`` is not installed.
    """
    table = FactsTable(path)
    names = table.repeated() if repeated is None else repeated
    for record in table.records(row_groups):
        yield told_twice(record, names.get(record.patient, 1), [table.origin])
    if problems is not None:
        problems += table.problems
    elif errors := [f for f in table.problems if f.severity == "error"]:
        raise InputError(*errors)


def _alike(wanted: pa.DataType, found: pa.DataType) -> bool:
    """Whether cells of two types are the same in Python: the width of a text or a list, and the
    name of an item, do not matter."""
    import pyarrow.types as t

    if t.is_dictionary(found):
        found = found.value_type
    if t.is_string(wanted):
        return bool(t.is_string(found) or t.is_large_string(found) or t.is_string_view(found))
    if t.is_map(wanted):
        return bool(
            t.is_map(found)
            and _alike(wanted.key_type, found.key_type)
            and _alike(wanted.item_type, found.item_type)
        )
    if t.is_list(wanted):
        return bool(
            (t.is_list(found) or t.is_large_list(found) or t.is_list_view(found))
            and _alike(wanted.value_type, found.value_type)
        )
    if t.is_struct(wanted):
        return (
            bool(t.is_struct(found))
            and {f.name for f in wanted} == {f.name for f in found}
            and len(wanted) == len(found)
            and all(_alike(f.type, found.field(f.name).type) for f in wanted)
        )
    return bool(t.is_integer(found)) if t.is_integer(wanted) else bool(wanted == found)
