"""The patients of all sources, kept on disk until each is judged.

Two records under one name are found before the first patient is judged, and yet memory does not
grow with the number of patients: records wait in a temporary database of SQLite, which removes it
when the program ends in whatever way.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from sarc_kb.errors import Finding
from sarc_kb.facts import PatientRecord

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE records (id INTEGER PRIMARY KEY, record BLOB);
CREATE TABLE names (name TEXT, origin TEXT);
CREATE INDEX of_name ON names (name);
"""


class DataSet(Protocol):
    """Patients who stay where they are: `records` yields as many as `patients` names, in order."""

    origin: str

    def patients(self) -> Iterable[str]: ...

    def records(self) -> Iterator[PatientRecord]: ...


class Patients:
    """Patient records in a fixed order; they can be counted, and gone through more than once.

    A patient found twice comes each time, with an error: two records under one name are never
    merged, and neither is judged.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_TABLES)
        self._parts: list[range | DataSet] = []
        self._count = 0

    def add(self, records: Iterable[PatientRecord]) -> None:
        """Put ``records`` behind those that are there."""
        for record in records:
            packed = pickle.dumps(record, 5)
            row = self._database.execute("INSERT INTO records (record) VALUES (?)", (packed,))
            self._extend(row.lastrowid or 0)
            self._name(record.patient, record.origin)

    def add_dataset(self, dataset: DataSet) -> None:
        """Put the patients of a data set behind those that are there; they stay in it."""
        self._database.execute("BEGIN")
        for name in dataset.patients():
            self._name(name, dataset.origin)
        self._database.execute("COMMIT")
        self._parts.append(dataset)

    def _extend(self, number: int) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(last, range) and last.stop == number:
            self._parts[-1] = range(last.start, number + 1)
        else:
            self._parts.append(range(number, number + 1))

    def _name(self, name: str, origin: str) -> None:
        self._database.execute("INSERT INTO names VALUES (?, ?)", (name, origin))
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[PatientRecord]:
        for part in self._parts:
            records = self._unpack(part) if isinstance(part, range) else part.records()
            for record in records:
                yield self._told(record)

    def _unpack(self, numbers: range) -> Iterator[PatientRecord]:
        for number in numbers:
            row = self._database.execute("SELECT record FROM records WHERE id = ?", (number,))
            # Written by this process, into a database that nobody else can open.
            yield pickle.loads(row.fetchone()[0])  # noqa: S301 - our own, see above

    def _told(self, record: PatientRecord) -> PatientRecord:
        """Return the record, with an error if there is another one under its name."""
        rows = self._database.execute(
            "SELECT origin, count(*) FROM names WHERE name = ? GROUP BY origin", (record.patient,)
        ).fetchall()
        return told_twice(record, sum(n for _, n in rows), sorted(origin for origin, _ in rows))


def told_twice(record: PatientRecord, times: int, origins: Iterable[str]) -> PatientRecord:
    """Return the record, with an error if ``times`` records stand under its name in ``origins``,
    unless it was told that already."""
    if times < 2 or any(f.code == "DATA003" for f in record.findings):
        return record
    twice = Finding(
        "DATA003",
        "error",
        record.origin,
        f"patient {record.label} stands {times} times in the input ({', '.join(origins)})",
        "two records under one name are never merged",
        "join them into one record, or name them differently",
    )
    return replace(record, findings=(*record.findings, twice))
