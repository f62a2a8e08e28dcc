"""Prepare the patients of a cohort in worker processes, into parts on disk.

A part is a folder that appears whole or not at all; an interrupted run goes on after the last one.
One bad record costs that patient: whatever fails on it becomes its row.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sarc_kb.cohort.plan import Plan
from sarc_kb.cohort.rows import PatientRows, Profile, rows_of
from sarc_kb.cohort.tables import (
    ANSWERS,
    FACTS,
    PATIENTS,
    Profiles,
    answers_table,
    facts_table,
    standing_schema,
    standing_table,
)
from sarc_kb.cohort.waiting import OVER_TIME, Row, waiting_rows
from sarc_kb.dates import PartialDate
from sarc_kb.errors import EngineError, Finding, InputError, UsageError
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase, bug_finding
from sarc_kb.prepare import Prepared
from sarc_kb.rules import Trial
from sarc_kb.treatment import has_begun, last_day, may_have_begun
from sarc_kb.workers import become_worker, worker_context

PART = 1_000
"""Patients a part."""
_AHEAD = 2
"""Parts a worker that wait for it, so that memory stays bounded."""
_TABLES = ("patients", "facts", "standing", "answers", "over_time")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller may set for preparing, as for one patient. ``wait``: trials by which patients
    are also followed over time, up to the horizon."""

    as_of: PartialDate | None = None
    complete: tuple[str, ...] = ()
    attested: Mapping[str, str] = field(default_factory=dict)
    only: str | None = None
    wait: Mapping[str, Trial] = field(default_factory=dict)
    horizon_days: int = 730


def patient_rows(
    kb: KnowledgeBase, plan: Plan, record: PatientRecord, settings: Settings
) -> PatientRows:
    """Return the rows of one patient; `KnowledgeBase.assess_record` prepares the same way.

    Raises:
        InputError: the record cannot be judged.
    """
    rows = PatientRows()
    at_entry: dict[str, Prepared] = {}
    for frame in plan.frames:
        if frame.is_treatment:
            continue
        prepared = kb.prepare(
            record,
            frame.part,
            as_of=settings.as_of,
            complete=settings.complete,
            attested=settings.attested,
        )
        rows_of(prepared, frame, rows)
        if settings.as_of is None:
            at_entry |= dict.fromkeys(frame.names, prepared)
    for frame in plan.frames:
        whole = frame.of[0]
        always = settings.only == "treatment"
        if not frame.is_treatment or not (always or may_have_begun(record, whole, kb.terms)):
            continue
        as_of = settings.as_of or last_day(record)
        course = kb.prepare(record, frame.part, as_of=as_of, complete=settings.complete)
        if always or has_begun(course):
            before = at_entry.get(frame.names[0])
            if before is None:
                before = kb.prepare(record, whole, complete=settings.complete)
            # Prepared alike, but for the limits of the clauses that are compared.
            rows_of(course, frame, rows, replace(before, trial=whole))
    return rows


# -- one part, in a worker ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Part:
    """What a worker hands back: the tables, with profiles numbered by the list beside them."""

    tables: Mapping[str, pa.Table]
    profiles: Sequence[Profile]


_worker: tuple[KnowledgeBase, Plan, Settings] | None = None


def _start_worker(kb: KnowledgeBase, plan: Plan, settings: Settings) -> None:
    global _worker  # noqa: PLW0603 - a process pool has no other way to keep what all tasks share
    _worker = (kb, plan, settings)
    become_worker()


def _prepare_part(records: Sequence[PatientRecord], first: int) -> _Part:
    assert _worker is not None
    return prepare_part(*_worker, records, first)


def prepare_part(
    kb: KnowledgeBase,
    plan: Plan,
    settings: Settings,
    records: Sequence[PatientRecord],
    first: int = 0,
    lost: Finding | None = None,
) -> _Part:
    """Return the tables of ``records``, whose numbers count from ``first``.

    ``lost``: why they could not even be prepared; then all of them get that as their error.
    """
    try:
        return _tables(kb, plan, settings, records, first, lost)
    except Exception as bug:
        # Something that no table can hold: it costs the patient who has it.
        if len(records) == 1 and lost is None:
            return _tables(kb, plan, settings, records, first, bug_finding(records[0], bug))
        if len(records) <= 1:
            raise
        middle = len(records) // 2
        return _joined(
            [
                prepare_part(kb, plan, settings, records[:middle], first, lost),
                prepare_part(kb, plan, settings, records[middle:], first + middle, lost),
            ]
        )


def _tables(
    kb: KnowledgeBase,
    plan: Plan,
    settings: Settings,
    records: Sequence[PatientRecord],
    first: int,
    lost: Finding | None,
) -> _Part:
    profiles = Profiles()
    found: list[tuple[int, PatientRows]] = []
    waiting: list[tuple[object, ...]] = []
    patients: dict[str, list[object]] = {name: [] for name in PATIENTS.names}
    for pid, record in enumerate(records, first):
        error = lost
        if error is None:
            try:
                found.append((pid, patient_rows(kb, plan, record, settings)))
                waiting += [(pid, *row) for row in _waiting(kb, record, settings)]
            except (InputError, EngineError) as failure:
                error = failure.findings[0]
            except Exception as bug:
                error = bug_finding(record, bug)
        row = (
            pid,
            record.label,
            record.patient,
            record.entry.text if record.entry else None,
            record.origin,
            *((error.code, error.where, error.found, error.fix) if error else (None,) * 4),
        )
        for column, value in zip(patients.values(), row, strict=True):
            column.append(value)
    return _Part(
        {
            "patients": pa.table(patients, schema=PATIENTS),
            "facts": facts_table(found, profiles),
            "standing": standing_table(found, plan),
            "answers": answers_table(found),
            "over_time": pa.table(
                [[row[k] for row in waiting] for k in range(len(OVER_TIME))], schema=OVER_TIME
            ),
        },
        tuple(profiles),
    )


def _waiting(kb: KnowledgeBase, record: PatientRecord, settings: Settings) -> list[Row]:
    return waiting_rows(
        kb,
        record,
        settings.wait,
        horizon_days=settings.horizon_days,
        complete=settings.complete,
        attested=settings.attested,
    )


# -- all parts ---------------------------------------------------------------------------------
class PreparedStore:
    """The parts of one cohort in a folder."""

    def __init__(self, folder: Path, plan: Plan, made_with: Mapping[str, object]) -> None:
        """Open the store in ``folder``, which is made if it is not there.

        ``made_with``: everything that the parts depend on; a store of something else is refused.
        Raises:
            UsageError: the folder holds parts of another run.
        """
        self.folder, self.plan = folder, plan
        self.profiles = Profiles()
        manifest = {"preparation": plan.preparation, **made_with}
        path = folder / "manifest.json"
        if path.exists():
            known = _read_json(path)
            if known is None:
                raise _of_another_run(folder, "its list of what it was made with")
            for name in sorted({*manifest, *known}):
                if manifest.get(name) != known.get(name):
                    raise _of_another_run(folder, name)
            self.profiles = Profiles(_read_profiles(folder / "profiles.json"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(path, json.dumps(manifest, sort_keys=True, indent=1).encode())

    @property
    def parts(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("part-*") if p.is_dir())

    def files(self, table: str) -> list[Path]:
        """Return the files of one of the tables."""
        return [part / f"{table}.parquet" for part in self.parts]

    def add(self, number: int, part: _Part) -> None:
        """Put a part into the store, whole or not at all."""
        numbers = pa.array([self.profiles.number(p) for p in part.profiles], pa.int32())
        facts = part.tables["facts"]
        renumbered = pc.take(numbers, facts["profile"])
        facts = facts.set_column(facts.schema.get_field_index("profile"), "profile", renumbered)
        # Before the part, so that no part names a profile that is not there.
        _write_whole(self.folder / "profiles.json", json.dumps(list(self.profiles)).encode())
        target = self.folder / f"part-{number:06d}"
        temporary = self.folder / f".{target.name}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for name in _TABLES:
                table = facts if name == "facts" else part.tables[name]
                pq.write_table(table, temporary / f"{name}.parquet", compression="zstd")
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def names(self, number: int) -> list[str] | None:
        """Return the patients of a part, None where there is no such part yet."""
        path = self.folder / f"part-{number:06d}" / "patients.parquet"
        if not path.exists():
            return None
        names: list[str] = pq.read_table(path, columns=["patient_iri"])["patient_iri"].to_pylist()
        return names

    def schemas(self) -> dict[str, pa.Schema]:
        return {
            "patients": PATIENTS,
            "facts": FACTS,
            "standing": standing_schema(self.plan),
            "answers": ANSWERS,
            "over_time": OVER_TIME,
        }


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _read_profiles(path: Path) -> Iterator[Profile]:
    for frame, sourced, problem, marks in json.loads(path.read_bytes()) if path.exists() else ():
        yield frame, sourced, problem, tuple(tuple(mark) for mark in marks)


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _of_another_run(folder: Path, what: str) -> UsageError:
    return UsageError(
        Finding(
            "USE044",
            "error",
            str(folder),
            f"prepared patients of another run: {what} differs",
            "what was prepared with other data, rules or options would be mixed up",
            "run again without --resume, or name another folder",
        )
    )


def prepare_all(
    kb: KnowledgeBase,
    plan: Plan,
    settings: Settings,
    records: Iterable[PatientRecord],
    store: PreparedStore,
    *,
    workers: int,
    size: int = PART,
) -> Iterator[int]:
    """Prepare ``records`` into ``store``; yield how many patients each finished part has.

    Parts that are there already are not made again.
    Raises:
        UsageError: a part holds other patients than the records do.
    """
    pool: ProcessPoolExecutor | None = None
    waiting: list[tuple[int, list[PatientRecord], Future[_Part]]] = []
    todo = _chunks(records, size)
    try:
        for number, chunk in enumerate(todo):
            there = store.names(number)
            if there is not None:
                if there != [record.patient for record in chunk]:
                    raise _of_another_run(store.folder, f"the patients of part {number}")
                yield len(chunk)
                continue
            if workers < 2:
                store.add(number, prepare_part(kb, plan, settings, chunk, number * size))
                yield len(chunk)
                continue
            if pool is None:
                pool = _pool(workers, kb, plan, settings)
            waiting.append((number, chunk, _submit(pool, chunk, number * size)))
            if len(waiting) >= workers * _AHEAD:
                done = waiting.pop(0)
                pool = _finish(done, waiting, pool, (kb, plan, settings), store, size, workers)
                yield len(done[1])
        while waiting and pool is not None:
            done = waiting.pop(0)
            pool = _finish(done, waiting, pool, (kb, plan, settings), store, size, workers)
            yield len(done[1])
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _chunks(records: Iterable[PatientRecord], size: int) -> Iterator[list[PatientRecord]]:
    rest = iter(records)
    while chunk := list(islice(rest, size)):
        yield chunk


def _pool(workers: int, *shared: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers,
        mp_context=worker_context(),
        initializer=_start_worker,
        initargs=shared,
    )


def _submit(pool: ProcessPoolExecutor, chunk: list[PatientRecord], first: int) -> Future[_Part]:
    try:
        return pool.submit(_prepare_part, chunk, first)
    except BrokenProcessPool as broken:
        # A worker died meanwhile; `_finish` sees to it when it is the turn of this part.
        future: Future[_Part] = Future()
        future.set_exception(broken)
        return future


def _finish(
    done: tuple[int, list[PatientRecord], Future[_Part]],
    waiting: list[tuple[int, list[PatientRecord], Future[_Part]]],
    pool: ProcessPoolExecutor,
    shared: tuple[KnowledgeBase, Plan, Settings],
    store: PreparedStore,
    size: int,
    workers: int,
) -> ProcessPoolExecutor:
    """Put a finished part into the store; return the pool to go on with.

    Where a worker died, the part is prepared again in a process of its own, and where that dies
    too, in halves of it: the patient on whom it dies alone is named, the others are not touched.
    """
    number, chunk, future = done
    try:
        store.add(number, future.result())
        return pool
    except BrokenProcessPool:
        pool.shutdown(cancel_futures=True)
    store.add(number, _joined(_alone(chunk, number * size, shared)))
    pool = _pool(workers, *shared)
    waiting[:] = [(n, c, _submit(pool, c, n * size)) for n, c, _ in waiting]
    return pool


def _alone(
    chunk: Sequence[PatientRecord], first: int, shared: tuple[KnowledgeBase, Plan, Settings]
) -> list[_Part]:
    with _pool(1, *shared) as pool:
        try:
            return [pool.submit(_prepare_part, chunk, first).result()]
        except BrokenProcessPool:
            pass
    if len(chunk) > 1:
        middle = len(chunk) // 2
        rest = _alone(chunk[middle:], first + middle, shared)
        return [*_alone(chunk[:middle], first, shared), *rest]
    lost = Finding(
        "ENGINE006",
        "error",
        chunk[0].origin,
        "the process that prepared this patient died",
        "it ran out of memory or was stopped; the other patients are not touched",
        "run with fewer workers or more memory; if it stays, report it",
    )
    return [prepare_part(*shared, chunk, first, lost)]


def _joined(parts: Sequence[_Part]) -> _Part:
    """Return one part made of several, its profiles numbered anew."""
    profiles = Profiles()
    tables: dict[str, list[pa.Table]] = {name: [] for name in _TABLES}
    for part in parts:
        numbers = pa.array([profiles.number(p) for p in part.profiles], pa.int32())
        for name in _TABLES:
            table = part.tables[name]
            if name == "facts":
                place = table.schema.get_field_index("profile")
                renumbered = pc.take(numbers, table["profile"])
                table = table.set_column(place, "profile", renumbered)
            tables[name].append(table)
    return _Part({n: pa.concat_tables(t) for n, t in tables.items()}, tuple(profiles))
