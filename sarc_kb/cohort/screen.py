"""Screen a cohort: prepare, evaluate, write; the whole run behind ``sarc-kb screen``.

What is written appears whole or not at all: everything is made in a folder beside the output, which
takes the output's name at the very end. What was prepared stays there when a run is interrupted.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from sarc_kb.cohort.backends import check_engine, open_backend, told_failures, write_tables
from sarc_kb.cohort.clause_rows import CLAUSE_COLUMNS
from sarc_kb.cohort.cohort import Cohort, union_of
from sarc_kb.cohort.outputs import PATIENT_COLUMNS
from sarc_kb.cohort.plan import Plan
from sarc_kb.cohort.preparing import Limits, PreparedStore, Settings, prepare_all
from sarc_kb.cohort.summary import TrialCount, Worth, count_trial, flips, worth
from sarc_kb.cohort.waiting import COLUMNS as WAIT_COLUMNS
from sarc_kb.cohort.waiting import WaitCount, count_waiting
from sarc_kb.errors import Finding, UsageError
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.mappings import guarded
from sarc_kb.reports.escaping import visible, visible_in_json
from sarc_kb.reports.workbook import Workbook, check_installed
from sarc_kb.rules import Trial

FORMATS = ("parquet", "csv", "jsonl", "xlsx")
WORKBOOK = "screened.xlsx"
_ROWS = 100_000
"""Rows that are told as text at once."""
UNCHANGED = "nothing changed: what was set is the default"
FLIP_COLUMNS = (
    "patient",
    "change",
    "verdict",
    "verdict_after",
    "failed",
    "failed_after",
    "undetermined",
    "undetermined_after",
    "treatment",
    "treatment_after",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How a cohort is screened.

    ``memory``: what the engine may use, such as ``4GB``. ``limits``: what preparing a patient may
    take. ``clauses``: write a row for each patient
    and clause; ``evidence``: with deciding facts and missing data.
    """

    engine: str = "duckdb"
    server: str | None = None
    memory: str = "4GB"
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    threads: int | None = None
    format: str = "parquet"
    clauses: bool = True
    evidence: bool = True
    resume: bool = False
    keep_prepared: bool = False


@dataclass(frozen=True, slots=True)
class Screening:
    """What a run came to; ``changes`` are what-ifs against the first trial."""

    patients: int
    not_judged: int
    trials: tuple[TrialCount, ...]
    changes: tuple[Worth, ...]
    waiting: tuple[WaitCount, ...]
    engine: str
    engine_version: str


def screen(
    kb: KnowledgeBase,
    trials: Mapping[str, Trial],
    records: Iterable[PatientRecord],
    output: Path,
    options: Options,
    settings: Settings,
    *,
    what_if: Mapping[str, Trial] | None = None,
    compared_with: str | None = None,
    made_with: Mapping[str, object] | None = None,
    progress: Callable[[int], None] = lambda _: None,
    describe: Callable[[Screening], Mapping[str, str]] | None = None,
) -> Screening:
    """Judge ``records`` by ``trials`` (named as outputs shall name them) and write the outcomes
    into the folder ``output``.

    Args:
        what_if: the same trial with something changed, by a name for the change.
        compared_with: the one of ``trials`` or ``what_if`` that the changes are told against.
        made_with: what tells this input and these options from others, for resuming.
        progress: called with the number of patients that were prepared.
        describe: returns the text files to be written beside the tables, by their names.
    Raises:
        UsageError: the output is there already, another run writes it, what was prepared is of
            another run, or there is no patient.
        EngineError: the engine failed.
    """
    output = output.resolve()
    _free(output)
    if options.format == "xlsx":
        check_installed()
    check_engine(options.engine, memory=options.memory, server=options.server)
    changes = dict(what_if or {})
    plan = Plan({**trials, **changes}, only=settings.only)
    with _work_folder(output, options) as work, told_failures(options.engine):
        store = PreparedStore(work / "prepared", plan, made_with or {})
        patients = 0
        preparing = prepare_all(
            kb, plan, settings, records, store, workers=options.workers, limits=options.limits
        )
        for count in preparing:
            progress(count)
            patients += count
        if patients == 0:
            raise _nobody()
        scratch, results = work / "scratch", work / "results"
        for folder in (scratch, results):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        engine = open_backend(
            options.engine,
            memory=options.memory,
            scratch=scratch,
            threads=options.threads,
            server=options.server,
        )
        with closing(engine) as backend, _book(results, options) as book:
            tables = {
                name: backend.load_files(name, store.files(name), schema)
                for name, schema in store.schemas().items()
            }
            cohort = Cohort(
                backend,
                plan,
                store.profiles,
                tables,
                with_evidence=options.clauses and options.evidence,
            )
            people = tables["patients"]
            errors = sum(cohort.sums(people, {"all": people.error.notnull()}).values())

            def write(
                name: str, rows: Any, order: tuple[str, ...], columns: tuple[str, ...]
            ) -> None:
                write_rows(ordered(cohort, rows, order, columns), results / name, options, book)

            write("patients", cohort.patient_rows(trials), ("pid", "trial"), PATIENT_COLUMNS)
            if options.clauses:
                write_rows(clause_tables(cohort, trials), results / "clauses", options, book)
            told: list[Worth] = []
            if changes:
                before = compared_with or next(iter(trials))
                # The run itself is told by all that was set for it.
                others = {name: ", ".join(trials[name].changed) or UNCHANGED for name in trials}
                others |= {name: name for name in changes if name != before}
                told = [worth(cohort, before, *other) for other in others.items()]
                rows = union_of([flips(cohort, before, *other) for other in others.items()])
                write("what-if", rows, ("pid", "change"), FLIP_COLUMNS)
            waiting = tables["over_time"]
            if settings.wait:
                rows = waiting.join(people.select("pid", "patient"), "pid")
                write("earliest", rows, ("pid", "trial"), WAIT_COLUMNS)
            found = Screening(
                patients=patients,
                not_judged=errors,
                trials=tuple(count_trial(cohort, name, patients, errors) for name in trials),
                changes=tuple(told),
                waiting=tuple(
                    count_waiting(cohort, waiting, name, settings.horizon_days)
                    for name in settings.wait
                ),
                engine=backend.name,
                engine_version=backend.version,
            )
        for name, text in (describe(found) if describe else {}).items():
            (results / name).write_text(text, encoding="utf-8", newline="\n")
        if output.exists():
            output.rmdir()  # empty: see `_free`
        results.replace(output)
    return found


def _nobody() -> UsageError:
    return UsageError(
        Finding(
            "USE051",
            "error",
            "screen",
            "no patient in the input",
            "nothing was judged, and nothing was written",
            "check what was named",
        )
    )


def _free(output: Path) -> None:
    # Into an empty folder results may be moved, but not in place of the one somebody stands in.
    if output.exists() and (
        not output.is_dir() or output.samefile(Path.cwd()) or any(output.iterdir())
    ):
        raise UsageError(
            Finding(
                "USE045",
                "error",
                f"--output {output}",
                "it is there already",
                "two runs would be mixed up",
                "name a folder that is not there, or remove it",
            )
        )


@contextmanager
def _work_folder(output: Path, options: Options) -> Iterator[Path]:
    """Give the folder beside ``output`` that a run works in, locked against a second run; it stays
    when the run does not end well."""
    work = output.with_name(f"{output.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            # A lock of this process: processes that it starts do not keep it when it dies.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _busy(work) from None
        _free(output)  # unless a run ended meanwhile
        if not options.resume:
            shutil.rmtree(work / "prepared", ignore_errors=True)
        try:
            yield work
        except UsageError:
            if not (work / "prepared" / "part-000000").exists():
                shutil.rmtree(work)
            raise
    if options.keep_prepared:
        for folder in ("scratch", "results"):
            shutil.rmtree(work / folder, ignore_errors=True)
    else:
        shutil.rmtree(work, ignore_errors=True)


def _busy(work: Path) -> UsageError:
    return UsageError(
        Finding(
            "USE046",
            "error",
            str(work),
            "another run works here",
            "two runs into one folder would be mixed up",
            "wait for it, or name another --output",
        )
    )


# -- files -------------------------------------------------------------------------------------
def ordered(cohort: Cohort, rows: Any, order: tuple[str, ...], columns: tuple[str, ...]) -> Any:
    """Yield the columns of ``rows``, an expression, in order, a bounded number at a time."""
    keys = [ibis.asc(name, nulls_first=True) for name in order]
    return cohort.tables(rows.order_by(keys).select(*columns))


@contextmanager
def _book(results: Path, options: Options) -> Iterator[Workbook | None]:
    """Give the workbook that all rows go into, where that is the format."""
    if options.format != "xlsx":
        yield None
        return
    with (results / WORKBOOK).open("wb") as stream, Workbook(stream) as book:
        yield book


def write_rows(
    tables: Iterable[pa.Table], path: Path, options: Options, book: Workbook | None = None
) -> None:
    """Write tables of the same columns, one at least, as ``path`` with the ending of the format;
    into a ``book``, as a sheet of that name."""
    target = path.with_name(f"{path.name}.{options.format}")
    found = iter(tables)
    first = next(found)
    tables = chain((first,), found)
    if book is not None:
        book.sheet(path.name, first.column_names, (row for table in tables for row in _rows(table)))
        return
    if options.format == "parquet":
        write_tables(tables, first.schema, target)
        return
    with target.open("w", encoding="utf-8", newline="") as stream:
        batches = (batch for table in tables for batch in table.to_batches(_ROWS))
        if options.format == "csv":
            _write_csv(batches, first.column_names, stream)
        else:
            for batch in batches:
                for row in batch.to_pylist():
                    line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
                    stream.write(visible_in_json(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def clause_tables(cohort: Cohort, names: Iterable[str]) -> Iterator[pa.Table]:
    """Yield the columns that are written of the rows of clauses."""
    return (part.select(CLAUSE_COLUMNS) for part in cohort.clause_parts(names))


def _write_csv(batches: Iterator[pa.RecordBatch], columns: Sequence[str], stream: Any) -> None:
    table = csv.writer(stream, lineterminator="\r\n")
    table.writerow(columns)
    for batch in batches:
        for row in _rows(batch):
            table.writerow([guarded(visible(_cell(value))) for value in row])


def _rows(table: pa.Table | pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
