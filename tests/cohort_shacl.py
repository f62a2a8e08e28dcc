"""Patients prepared once and judged by both engines."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sarc_kb.assess import clause_outcomes
from sarc_kb.assessment import Outcome
from sarc_kb.cohort.plan import Frame, Plan
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ENGINE_NAMES, ShaclEngine
from sarc_kb.errors import UsageError
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.prepare import Prepared
from sarc_kb.rules import Trial
from sarc_kb.treatment import has_begun, last_day, may_have_begun
from tests.cohort_generator import SEED, generate
from tests.cohort_tables import Told, Truth, cohort_of, differences, told_of, truth_of

SERVER = os.environ.get("SARC_KB_TEST_POSTGRES")
BY_ALL = 5
"""Every fifth patient is judged by all SHACL processors, the others by the fastest alone."""
FASTEST = "pyshifty"


@dataclass(frozen=True)
class Shared:
    kb: KnowledgeBase
    trial: Trial
    plan: Plan
    processors: dict[str, ShaclEngine]


@cache
def shared() -> Shared:
    """What every process needs, loaded once in each."""
    kb = KnowledgeBase.load()
    trial, reference = kb.engine()
    processors = {"pyshacl": reference}
    for name in ENGINE_NAMES[1:]:
        with suppress(UsageError):  # an optional extra
            processors[name] = kb.engine(name=name)[1]
    for processor in processors.values():
        assert processor.treatment is not None
    gc.freeze()  # all that stays: the collector need not go through it for every patient
    return Shared(kb, trial, Plan({trial.id: trial}), processors)


@dataclass(frozen=True)
class Judged:
    """A patient as rows for the cohort engine, what SHACL says of each part, and which processors
    say otherwise than the first."""

    pid: int
    rows: PatientRows
    truths: list[Truth]
    odd: frozenset[str]


class EnginesDifferError(AssertionError):
    """Engines say different things of ``patients``, by their numbers."""

    def __init__(self, patients: Iterable[int], what: str) -> None:
        super().__init__(what)
        self.patients = tuple(sorted(set(patients)))


def judge_record(own: Shared, pid: int, record: PatientRecord) -> Judged:
    """Judge one patient, prepared as `sarc_kb.cohort.preparing.patient_rows` does."""
    truths, rows = [], PatientRows()
    odd: set[str] = set()
    at_entry = own.kb.prepare(record, own.trial)
    for frame in own.plan.frames:
        if not frame.is_treatment:
            rows_of(at_entry, frame, rows)
            truths.append(_by_shacl(own, pid, at_entry, frame, None, odd))
        elif may_have_begun(record, own.trial, own.kb.terms):
            course = own.kb.prepare(record, frame.part, as_of=last_day(record))
            if has_begun(course):
                rows_of(course, frame, rows, at_entry)
                truths.append(_by_shacl(own, pid, course, frame, at_entry, odd))
    return Judged(pid, rows, truths, frozenset(odd))


def _by_shacl(
    own: Shared,
    pid: int,
    prepared: Prepared,
    frame: Frame,
    at_entry: Prepared | None,
    odd: set[str],
) -> Truth:
    """Return what the first processor says; the names of those who say otherwise go to ``odd``."""
    some = own.processors
    if pid % BY_ALL and FASTEST in some:
        some = {FASTEST: some[FASTEST]}
    graph = prepared_graph(prepared)
    outcomes: dict[str, Outcome] = {}
    for name, processor in some.items():
        part = processor.treatment if frame.is_treatment else processor
        assert part is not None
        readings = part.run(graph)
        said = clause_outcomes(frame.part, readings.refuted, readings.unproven)
        outcomes = outcomes or said
        if said != outcomes:
            odd.add(name)
    return truth_of(prepared, frame, at_entry, outcomes)


def judge(places: range) -> list[Judged]:
    """Judge some of the generated patients."""
    own = shared()
    patients = generate(own.trial, own.kb.terms, SEED, len(places), places.start)
    gc.disable()  # a sixth of the time; a hundred patients leave little to collect
    try:
        return [
            judge_record(own, pid, record) for pid, record in zip(places, patients, strict=True)
        ]
    finally:
        gc.enable()


def judged(count: int, workers: int) -> list[Judged]:
    """Return the first ``count`` generated patients, judged."""
    size = 100
    work = [range(k, min(k + size, count)) for k in range(0, count, size)]
    if workers == 1:
        found = [one for places in work for one in judge(places)]
    else:
        # Unlike a Pool it does not wait for ever for a worker that died; and a process that has
        # threads, as one of pytest-xdist has, is not safe to fork.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            found = [one for part in pool.map(judge, work) for one in part]
    assert [j.pid for j in found] == list(range(count))
    return found


@cache
def ten_thousand() -> list[Judged]:
    """Return the first ten thousand, judged once for all tests of a process."""
    return judged(10_000, 2)


def held_together(
    found: Sequence[Judged], scratch: Path, engine: str = "duckdb"
) -> dict[int, dict[str, Told]]:
    """Return what the cohort engine says of each patient.

    Raises:
        EnginesDifferError: it is not what SHACL says, or SHACL processors differ.
    """
    if odd := {j.pid: sorted(j.odd) for j in found if j.odd}:
        raise EnginesDifferError(odd, f"processors that say otherwise: {odd}")
    plan = shared().plan
    truths = {(j.pid, plan.names[0]): j.truths for j in found}
    server = SERVER if engine == "postgres" else None
    rows = [(j.pid, j.rows) for j in found]
    backend, cohort = cohort_of(plan, rows, scratch, engine=engine, server=server)
    try:
        if found_different := differences(truths, cohort):
            numbers = (int(str(number)) for number, *_ in found_different)
            raise EnginesDifferError(numbers, f"SHACL, then {engine}: {found_different[:20]}")
        return {pid: told for (pid, _), told in told_of(cohort).items()}
    finally:
        backend.close()
