"""A cohort of prepared patients: time, memory and growth of the plan, against other ways to ask.

Sizes come from the environment: SARC_KB_COHORT, patients (default 20,000; the figures of the README:
1000000), SARC_KB_COHORT_BASE, patients that are really prepared before they are copied (60), and
SARC_KB_COHORT_DIR, where the made cohort is kept for the next run (default: nowhere).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import pyshacl
from rdflib import Graph

from benchmarks.cohort_data import PART, Made, make
from benchmarks.common import milliseconds, read, table
from sarc_kb.cohort.backends import DuckDB, open_backend
from sarc_kb.cohort.cohort import Cohort
from sarc_kb.cohort.evaluate import Inputs, paired, readings, singles, words
from sarc_kb.cohort.outputs import PATIENT_COLUMNS
from sarc_kb.cohort.plan import Plan
from sarc_kb.cohort.preparing import PreparedStore, Settings, prepare_part
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.cohort.screen import Options, clause_tables, ordered, write_rows
from sarc_kb.cohort.tables import (
    ANSWERS,
    FACTS,
    PATIENTS,
    Profiles,
    profile_tests,
    standing_schema,
    variants_table,
)
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ENGINE_NAMES, ShaclEngine
from sarc_kb.engines.shapes import READINGS, clause_shapes
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.rules import Bounds, Clause, Trial
from sarc_kb.sources.fhir import FhirDataSet
from sarc_kb.sources.patients import Patients

ROOT = Path(__file__).resolve().parent.parent
MEMORY = "4GB"
THREADS = 2
VARIANTS = (1, 2, 10, 30, 100)
LABORATORY = "I07"
"""The criterion whose clauses are the laboratory rules."""
CLAUSE_PATIENTS = 100_000
FHIR_PATIENTS = 300
FHIR_RESULTS = 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A made cohort in DuckDB."""

    backend: DuckDB
    made: Made
    tables: dict[str, Any]
    scratch: Path

    def cohort(self, plan: Plan) -> Cohort:
        return Cohort(self.backend, plan, Profiles(self.made.profiles), self.tables)

    def query(self, sql: str) -> list[Any]:
        return self.backend._connection.execute(sql).fetchall()


@contextmanager
def opened(folder: str, patients: int, plan: Plan) -> Iterator[Opened]:
    made = Made(Path(folder), patients)
    schemas = {"facts": FACTS, "patients": PATIENTS, "answers": ANSWERS}
    schemas["standing"] = standing_schema(plan)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        backend = open_backend("duckdb", memory=MEMORY, scratch=Path(scratch), threads=THREADS)
        assert isinstance(backend, DuckDB)
        tables = {n: backend.load_files(n, made.files(n), s) for n, s in schemas.items()}
        yield Opened(backend, made, tables, Path(scratch))
        backend.close()


def own_trial() -> Trial:
    return KnowledgeBase.load().compile()


# -- what is measured, each in a process of its own ------------------------------------------------
def evaluate(folder: str, patients: int, clauses: bool, evidence: bool) -> None:
    """The whole rule base; rows of patients written, and rows of clauses if asked for."""
    trial = own_trial()
    plan = Plan({trial.id: trial})
    with opened(folder, patients, plan) as at, measured():
        cohort = Cohort(
            at.backend, plan, Profiles(at.made.profiles), at.tables, with_evidence=evidence
        )
        _write_patients(cohort, at.scratch)
        if clauses:
            write_rows(clause_tables(cohort, plan.names), at.scratch / "clauses", Options())


def _write_patients(cohort: Cohort, folder: Path) -> None:
    rows = ordered(cohort, cohort.patient_rows(), ("pid", "trial"), PATIENT_COLUMNS)
    write_rows(rows, folder / "patients", Options())


def scan(folder: str, patients: int) -> None:
    """One scan of the columns that the plan reads, grouped by patient."""
    with opened(folder, patients, Plan({"": own_trial()})) as at, measured():
        at.query(
            "SELECT max(n), max(a), max(b), max(c), max(d), max(e), max(f) FROM (SELECT pid,"
            " count(*) n, min(lo) a, max(hi) b, max(first_minute) c, max(last_minute) d,"
            " sum(profile) e, max(fact) f FROM facts GROUP BY pid)"
        )


def laboratory(folder: str, patients: int) -> None:
    """The plan with the tests of the laboratory rules alone."""
    trial = own_trial()
    plan = _laboratory(trial)
    with opened(folder, patients, plan) as at, measured():
        _write_patients(at.cohort(plan), at.scratch)


def laboratory_flags(folder: str, patients: int) -> None:
    """The plan of the laboratory rules up to what the query by hand tells: both readings of each."""
    plan = _laboratory(own_trial())
    with opened(folder, patients, plan) as at, measured():
        tests = profile_tests(plan, Profiles(at.made.profiles))
        inputs = Inputs(
            facts=at.tables["facts"],
            standing=at.tables["standing"],
            profile_tests=at.backend.load("profile_tests", tests),
            variants=at.backend.load("variants", variants_table(plan)),
        )
        facts = inputs.facts
        told = words(singles(facts, inputs), paired(facts, inputs), plan)
        flags = readings(inputs, told, plan.frames[0])
        names = [f"{said}_{w}" for said in ("refuted", "proven") for w in range(plan.words)]
        sql = at.backend._sql(flags.select("pid", *names))
        at.query(f"COPY ({sql}) TO '{at.scratch}/flags.parquet' (COMPRESSION zstd)")


def by_hand(folder: str, patients: int) -> None:
    """The same rules as somebody would write them for DuckDB, both readings."""
    with opened(folder, patients, Plan({"": own_trial()})) as at:
        query = _query_by_hand(at)
        with measured():
            at.query(f"COPY ({query}) TO '{at.scratch}/by-hand.parquet' (COMPRESSION zstd)")


def agreement(folder: str, patients: int) -> None:
    """Print how many outcomes of the laboratory rules differ between the plan and the query."""
    trial = own_trial()
    plan = _laboratory(trial)
    frame = plan.frames[0]
    with opened(folder, patients, plan) as at:
        at.cohort(plan)
        at.query(f"CREATE TEMP TABLE hand AS {_query_by_hand(at)}")
        slots = [t.slot for t in plan.tests]
        differ = " + ".join(
            f"((j.{said}_{s // 62} & {1 << s % 62} != 0) != coalesce(h.{said}_of_{s}, false))::INT"
            for s in slots
            for said in ("refuted", "proven")
        )
        name = f"judged_{frame.number}"
        (found,) = at.query(
            f"SELECT sum({differ}), count(*) FROM {name} j LEFT JOIN hand h USING (pid)"
        )
        print(json.dumps([int(found[0]), int(found[1]) * len(slots)]))


def _laboratory(trial: Trial) -> Plan:
    plan = Plan({trial.id: trial})
    frame = plan.frames[0]
    plan.tests = tuple(
        t
        for t in plan.tests
        if t.frame == 0
        and t.bounded == (True,)
        and t.component == "latest"
        and frame.clauses[t.slot].id.startswith(LABORATORY)
    )
    return plan


def _query_by_hand(at: Opened) -> str:
    """Return the query; a small table says which profile is which analyte, and how certainly."""
    tests = _laboratory(own_trial()).tests
    marks = [
        (number, selection, degree)
        for number, (frame, _, _, marks) in enumerate(at.made.profiles)
        if frame == 0
        for selection, degree, _, _, superseded in marks
        if degree and not superseded and any(t.selections == (selection,) for t in tests)
    ]
    at.query("CREATE TEMP TABLE analyte (profile INT, analyte INT, degree INT)")
    at.query("INSERT INTO analyte VALUES " + ", ".join(map(str, marks)))
    columns = []
    for test in tests:
        ((least, most),) = test.limits
        own = f"analyte = {test.selections[0]}"
        dated = f"bool_or({own} AND degree = 2)"
        may = f"bool_or({own} AND hi >= {least!r} AND lo <= {most!r})"
        unfit = f"bool_or({own} AND (lo < {least!r} OR hi > {most!r}))"
        columns.append(f"{dated} AND NOT {may} AS refuted_of_{test.slot}")
        columns.append(f"{dated} AND NOT {unfit} AS proven_of_{test.slot}")
    return f"SELECT pid, {', '.join(columns)} FROM facts JOIN analyte USING (profile) GROUP BY pid"


def variants(folder: str, patients: int, count: int) -> None:
    """So many variants of the trial, of which no two have an equal limit."""
    trial = own_trial()
    plan = Plan({f"variant-{n:03}": varied(trial, n) for n in range(count)})
    assert {len(frame.variants) for frame in plan.frames} == {count}
    with opened(folder, patients, plan) as at, measured():
        _write_patients(at.cohort(plan), at.scratch)


def varied(trial: Trial, number: int) -> Trial:
    """Return the trial with the limits of its clauses moved by ``number`` thousandths. Those that a
    treatment rule judges again stay: preparing looks at them, so that others need other facts."""
    again = {rule.compares for part in trial.parts for rule in part.criteria}
    factor = 1 + Decimal(number) / 1000

    def moved(bounds: Bounds) -> Bounds:
        ends = {n: getattr(bounds, n) for n in ("at_least", "more_than", "at_most", "less_than")}
        return replace(bounds, **{n: v * factor for n, v in ends.items() if v})

    def changed(clause: Clause) -> Clause:
        if clause.iri in again:
            return clause
        roles = {n: getattr(clause, n) for n in ("role", "second")}
        return replace(
            clause, **{n: replace(r, bounds=moved(r.bounds)) for n, r in roles.items() if r}
        )

    def of(part: Trial) -> Trial:
        return replace(part, clauses={iri: changed(c) for iri, c in part.clauses.items()})

    course = trial.treatment
    return replace(of(trial), treatment=None if course is None else of(course))


@contextmanager
def measured() -> Iterator[None]:
    """Print the seconds, those of processors, and the peak memory in MB, as JSON."""
    before, start = _processor(), perf_counter()
    yield
    taken = perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([taken, _processor() - before, peak]))


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def in_child(call: Callable[..., None], *arguments: object) -> list[float]:
    """Return what ``call`` prints as JSON in a process of its own."""
    told = ", ".join(map(repr, arguments))
    command = f"from benchmarks import cohort; cohort.{call.__name__}({told})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- tables ----------------------------------------------------------------------------------------
def main() -> None:
    patients = int(os.environ.get("SARC_KB_COHORT", PART))
    base = int(os.environ.get("SARC_KB_COHORT_BASE", "60"))
    kb = KnowledgeBase.load()
    trial = kb.compile()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(os.environ.get("SARC_KB_COHORT_DIR", own))
        start = perf_counter()
        made = make(folder, kb, trial, patients, base)
        _described(made, trial, perf_counter() - start)
        alone = _compared(str(folder), patients)
        _growth(str(folder), patients)
        _variants(str(folder), patients)
    _shacl(kb, trial, alone / patients)
    _fhir(kb, trial)


def _described(made: Made, trial: Trial, taken: float) -> None:
    def count(what: str, name: str) -> float:
        files = [str(f) for f in made.files(name)]
        return duckdb.execute(f"SELECT {what} FROM read_parquet({files})").fetchone()[0]

    facts = count("count(*)", "facts")
    size = sum(f.stat().st_size for f in made.files("facts")) / 1e6
    table(
        f"The cohort, made in {taken:.0f} s; {sum(len(p.clauses) for p in trial.parts)} clauses",
        ("patients", "facts", "facts a patient", "with a course", "profiles", "MB of facts"),
        [
            (
                f"{made.patients:,}",
                f"{facts:,}",
                facts / made.patients,
                f"{count('count(*) FILTER (frame = 1)', 'standing'):,}",
                len(made.profiles),
                size,
            )
        ],
    )


def _compared(folder: str, patients: int) -> float:
    in_child(scan, folder, patients)  # the files are in the cache from here on
    scanned = in_child(scan, folder, patients)
    whole = in_child(evaluate, folder, patients, False, False)
    rows: list[tuple[str, list[float]]] = [
        ("one scan of the columns, grouped by patient", scanned),
        ("the whole rule base, rows of patients written", whole),
        ("the laboratory rules, rows of patients written", in_child(laboratory, folder, patients)),
        ("their flags alone, no criterion folded", in_child(laboratory_flags, folder, patients)),
        ("the same flags by hand", in_child(by_hand, folder, patients)),
    ]
    table(
        f"{patients:,} patients, {THREADS} threads, the engine held to {MEMORY}",
        ("what", "s", "s of processors", "peak MB", "to the scan", "to the scan, processors"),
        [(what, *found, found[0] / scanned[0], found[1] / scanned[1]) for what, found in rows],
    )
    fewer = min(patients, CLAUSE_PATIENTS)
    kinds = (
        ("rows of patients", False, False),
        ("and rows of clauses", True, False),
        ("with evidence and missing data", True, True),
    )
    told = [(what, in_child(evaluate, folder, fewer, *kind)) for what, *kind in kinds]
    table(
        f"What is written, {fewer:,} patients",
        ("what", "s", "s of processors", "µs of processors a patient", "peak MB"),
        [(what, s, p, p / fewer * 1e6, m) for what, (s, p, m) in told],
    )
    differ, compared = in_child(agreement, folder, min(patients, PART))
    print(f"\nPlan and query differ in {differ} of {compared:,} outcomes.")
    return whole[1]


def _growth(folder: str, patients: int) -> None:
    sizes = sorted({min(patients, max(PART, patients // part)) for part in (50, 10, 4, 2, 1)})
    found = [(size, in_child(evaluate, folder, size, False, False)) for size in sizes]
    table(
        "Growth with patients: the whole rule base, rows of patients written",
        ("patients", "s", "s of processors", "µs of processors a patient", "peak MB"),
        [(f"{n:,}", s, p, p / n * 1e6, m) for n, (s, p, m) in found],
    )


def _variants(folder: str, patients: int) -> None:
    size = min(patients, PART)
    rows = []
    alone = 0.0
    for count in VARIANTS:
        seconds, processors, peak = in_child(variants, folder, size, count)
        alone = alone or processors
        rows.append(
            (count, seconds, processors, processors / count, processors / count / alone, peak)
        )
    table(
        f"Growth with trials: {size:,} patients, no two variants with an equal limit",
        ("variants", "s", "s of processors", "a trial", "to one alone", "peak MB"),
        rows,
    )


def _shacl(kb: KnowledgeBase, trial: Trial, seconds: float) -> None:
    """One patient by SHACL, against the processor time of a patient here."""
    components = kb.root / "shapes" / "components"
    graph = prepared_graph(kb.prepare(read(kb, trial), trial))
    plain_data = Graph()
    for triple in graph:
        plain_data.add(triple)
    shapes = [clause_shapes(trial, components, reading) for reading in READINGS]
    rows = [
        (
            "plain pyshacl.validate",
            milliseconds(
                lambda: [pyshacl.validate(plain_data, shacl_graph=s) for s in shapes],
                repeat=1,
                warm=False,
            ),
        )
    ]
    for name in ENGINE_NAMES:
        try:
            engine = ShaclEngine(trial, components, name)
        except UsageError:
            continue
        rows.append((f"prepared, {name}", milliseconds(lambda e=engine: e.run(graph), repeat=3)))
    table(
        "One prepared patient by SHACL, eligibility alone, against one of the cohort, treatment too",
        ("processor", "ms a patient", "times the plan's processor time"),
        [(name, taken, taken / 1000 / seconds) for name, taken in rows],
    )


# -- from FHIR to facts ----------------------------------------------------------------------------
_CODES = (("718-7", "g/dL"), ("751-8", "10*9/L"), ("777-3", "10*9/L"), ("2160-0", "umol/L"))


def _lines() -> Iterator[bytes]:
    for n in range(FHIR_PATIENTS):
        yield _line(resourceType="Patient", id=str(n), gender="female", birthDate="1970-05-02")
    for n in range(FHIR_PATIENTS * FHIR_RESULTS):
        code, unit = _CODES[n // FHIR_PATIENTS % len(_CODES)]
        system = "http://unitsofmeasure.org"
        yield _line(
            resourceType="Observation",
            id=str(n),
            status="final",
            code={"coding": [{"system": "http://loinc.org", "code": code}]},
            subject={"reference": f"Patient/{n % FHIR_PATIENTS}"},
            effectiveDateTime=f"2020-05-{1 + n // FHIR_PATIENTS:02}",
            valueQuantity={"value": 9.4, "unit": unit, "system": system, "code": unit},
        )


def _line(**body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"


class _Stream:
    def __init__(self) -> None:
        self._lines = _lines()

    def readline(self, _size: int, /) -> bytes:
        return next(self._lines, b"")


def _fhir(kb: KnowledgeBase, trial: Trial) -> None:
    """Print where the time goes from NDJSON to the parts on disk, one process."""
    plan = Plan({trial.id: trial})
    frame = plan.frames[0]
    with (
        FhirDataSet(kb.reading_terms(trial).fhir, "made") as dataset,
        tempfile.TemporaryDirectory() as folder,
    ):
        steps = [perf_counter()]
        dataset.add(_Stream(), "made", "")
        found = Patients()
        found.add_dataset(dataset)
        steps.append(perf_counter())
        records = list(islice(with_entry_dates(found, "2020-06-01", {}), FHIR_PATIENTS))
        steps.append(perf_counter())
        prepared = [kb.prepare(record, trial) for record in records]
        steps.append(perf_counter())
        for one in prepared:
            rows_of(one, frame, PatientRows())
        steps.append(perf_counter())
        part = prepare_part(kb, plan, Settings(), records)
        steps.append(perf_counter())
        PreparedStore(Path(folder) / "store", plan, {}).add(0, part)
        steps.append(perf_counter())
    grouped, parsed, preparing, rows, whole, stored = (b - a for a, b in pairwise(steps))
    total = grouped + parsed + whole + stored
    table(
        f"FHIR NDJSON to facts: {FHIR_PATIENTS} patients of {FHIR_RESULTS} results,"
        f" {FHIR_PATIENTS / total:.0f} patients a second and process",
        ("step", "ms a patient", "share, %"),
        [
            (step, 1000 * taken / FHIR_PATIENTS, 100 * taken / total)
            for step, taken in (
                ("lines grouped by patient, on disk", grouped),
                ("resources read as facts", parsed),
                ("prepared for eligibility", preparing),
                ("marks and rows", rows),
                ("looked at for treatment, tables", whole - preparing - rows),
                ("parts written", stored),
            )
        ],
    )


if __name__ == "__main__":
    main()
