"""Prepare the patients of a cohort in worker processes, into parts on disk.

A part is a folder that appears whole or not at all; an interrupted run goes on after the last one.
One bad record costs that patient: whatever fails on it becomes its row.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from sarc_kb.workers import IsolatedWorkers, WorkerFailed

PART = 1_000
"""Patients a part, at most."""
PART_FACTS = 200_000
"""Facts of a part, at most, where it has more than one patient: memory follows the facts."""
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What preparing one patient may take: seconds, and bytes of memory (None: what there is)."""

    seconds: float = math.inf
    memory: int | None = None


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


def _prepare_until(records: Sequence[PatientRecord], first: int, seconds: float) -> _Part:
    """Return the tables of as many of ``records`` as have begun before ``seconds`` are over."""
    assert _worker is not None
    end = time.monotonic() + seconds
    return prepare_part(*_worker, records, first, until=lambda: time.monotonic() > end)


def prepare_part(
    kb: KnowledgeBase,
    plan: Plan,
    settings: Settings,
    records: Sequence[PatientRecord],
    first: int = 0,
    lost: Finding | None = None,
    until: Callable[[], bool] = lambda: False,
) -> _Part:
    """Return the tables of ``records``, whose numbers count from ``first``.

    ``lost``: why they could not even be prepared; then all of them get that as their error.
    ``until``: when to leave the rest, though never the first; the tables of patients show it.
    """
    try:
        return _tables(kb, plan, settings, records, first, lost, until)
    except MemoryError:
        raise
    except Exception as bug:
        # Something that no table can hold: it costs the patient who has it.
        if len(records) == 1 and lost is None:
            lost = bug_finding(records[0], bug)
            return _tables(kb, plan, settings, records, first, lost, until)
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
    until: Callable[[], bool],
) -> _Part:
    profiles = Profiles()
    found: list[tuple[int, PatientRows]] = []
    waiting: list[tuple[object, ...]] = []
    patients: dict[str, list[object]] = {name: [] for name in PATIENTS.names}
    for pid, record in enumerate(records, first):
        if pid > first and until():
            break
        error = lost
        if error is None:
            try:
                found.append((pid, patient_rows(kb, plan, record, settings)))
                waiting += [(pid, *row) for row in _waiting(kb, record, settings)]
            except (InputError, EngineError) as failure:
                error = failure.findings[0]
            except MemoryError:
                raise
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
    limits: Limits = Limits(),
    size: int = PART,
) -> Iterator[int]:
    """Prepare ``records`` into ``store``; yield how many patients each finished part has.

    Parts that are there already are not made again. A patient who breaks the ``limits``, or on whom
    a worker dies, has that as their error.

    Raises:
        UsageError: a part holds other patients than the records do.
    """
    shared = (kb, plan, settings)
    pool: _Pool | None = None
    waiting: deque[_Asked] = deque()
    first = 0
    try:
        for number, chunk in enumerate(_chunks(records, size)):
            there = store.names(number)
            if there is not None:
                if there != [record.patient for record in chunk]:
                    raise _of_another_run(store.folder, f"the patients of part {number}")
                yield len(chunk)
            else:
                pool = pool or _Pool(workers, limits, shared)
                waiting.append(_Asked(number, chunk, first, pool.ask(chunk, first)))
            first += len(chunk)
            if len(waiting) >= workers * _AHEAD and pool is not None:
                yield pool.finish(waiting.popleft(), store)
        while waiting and pool is not None:
            yield pool.finish(waiting.popleft(), store)
    finally:
        if pool is not None:
            pool.workers.close()


def _chunks(records: Iterable[PatientRecord], size: int) -> Iterator[list[PatientRecord]]:
    chunk: list[PatientRecord] = []
    facts = 0
    for record in records:
        facts += len(record.facts)
        if chunk and (len(chunk) >= size or facts > PART_FACTS):
            yield chunk
            chunk, facts = [], len(record.facts)
        chunk.append(record)
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True)
class _Asked:
    """A part that a worker was asked for, its patients counted from ``first``."""

    number: int
    chunk: list[PatientRecord]
    first: int
    future: Future[_Part]


class _Pool:
    """Workers that prepare parts, patient by patient where one of a part fails its worker."""

    def __init__(
        self, count: int, limits: Limits, shared: tuple[KnowledgeBase, Plan, Settings]
    ) -> None:
        self.shared = shared
        # A task of many stops by itself well before it is stopped, so that only a patient who takes
        # long alone is ever cut off.
        self.enough = limits.seconds / 2
        self.workers = IsolatedWorkers(
            count,
            seconds=limits.seconds,
            memory=limits.memory,
            initializer=_start_worker,
            initargs=shared,
        )

    def ask(self, chunk: Sequence[PatientRecord], first: int) -> Future[_Part]:
        return self.workers.submit(_prepare_until, chunk, first, self.enough)

    def finish(self, asked: _Asked, store: PreparedStore) -> int:
        """Put a part into the store; return its number of patients."""
        parts = list(self._parts(asked.chunk, asked.first, asked.future))
        store.add(asked.number, parts[0] if len(parts) == 1 else _joined(parts))
        return len(asked.chunk)

    def _parts(
        self, chunk: Sequence[PatientRecord], first: int, future: Future[_Part]
    ) -> Iterator[_Part]:
        while True:
            try:
                part = future.result()
            except WorkerFailed as failure:
                if len(chunk) == 1:
                    lost = failure.finding(chunk[0].origin)
                    yield prepare_part(*self.shared, chunk, first, lost)
                    return
                break
            yield part
            done = part.tables["patients"].num_rows
            if done == len(chunk):
                return
            chunk, first = chunk[done:], first + done
            future = self.ask(chunk, first)
        alone = [([record], first + n) for n, record in enumerate(chunk)]
        for one, future in [(one, self.ask(*one)) for one in alone]:
            yield from self._parts(*one, future)


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
