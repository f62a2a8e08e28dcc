"""The cohort engine against the SHACL engines themselves, on generated patients.

Of ten thousand patients in CI, one thousand are judged by pySHACL and the others by pyshifty, which
`test_engines` holds to the same answers; by default a few of each. Outcomes, evidence and missing
data of every clause of both parts must be the same.
"""

from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from tests.cohort_generator import SEED, generate

from sarc_kb.assess import clause_outcomes
from sarc_kb.assessment import Outcome
from sarc_kb.cohort.backends import ENGINES
from sarc_kb.cohort.plan import Frame, Plan
from sarc_kb.cohort.preparing import Settings, patient_rows
from sarc_kb.cohort.rows import PatientRows
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.prepare import Prepared
from sarc_kb.treatment import has_begun, last_day, may_have_begun
from tests.cohort_tables import Truth, cohort_of, differences, truth_of

SERVER = os.environ.get("SARC_KB_TEST_POSTGRES")
PYSHACL_EACH = 10
"""Every tenth patient is judged by pySHACL itself."""


@dataclass(frozen=True)
class Shared:
    kb: KnowledgeBase
    plan: Plan
    processors: dict[str, ShaclEngine]


@cache
def shared() -> Shared:
    """What every process needs; loaded before workers are forked."""
    kb = KnowledgeBase.load()
    trial, reference = kb.engine()
    processors = {"pyshacl": reference}
    with suppress(UsageError):  # an optional extra
        processors["pyshifty"] = kb.engine(name="pyshifty")[1]
    for processor in processors.values():
        assert processor.treatment is not None
    return Shared(kb, Plan({trial.id: trial}), processors)


@dataclass(frozen=True)
class Judged:
    pid: int
    rows: PatientRows
    truths: list[Truth]


def judge(places: range) -> list[Judged]:
    """Prepare some patients, each once for both engines, and judge them by SHACL."""
    own = shared()
    trial = own.plan.frames[0].of[0]
    patients = generate(trial, own.kb.terms, SEED, len(places), places.start)
    found = []
    for pid, record in zip(places, patients, strict=True):
        truths = []
        at_entry = own.kb.prepare(record, trial)
        for frame in own.plan.frames:
            if not frame.is_treatment:
                truths.append(by_shacl(own, pid, at_entry, frame, None))
            elif may_have_begun(record, trial, own.kb.terms):
                course = own.kb.prepare(record, frame.part, as_of=last_day(record))
                if has_begun(course):
                    truths.append(by_shacl(own, pid, course, frame, at_entry))
        found.append(Judged(pid, patient_rows(own.kb, own.plan, record, Settings()), truths))
    return found


def by_shacl(
    own: Shared, pid: int, prepared: Prepared, frame: Frame, at_entry: Prepared | None
) -> Truth:
    name = "pyshacl" if pid % PYSHACL_EACH == 0 or "pyshifty" not in own.processors else "pyshifty"
    processor = own.processors[name]
    part = processor.treatment if frame.is_treatment else processor
    assert part is not None
    readings = part.run(prepared_graph(prepared))
    outcomes: dict[str, Outcome] = clause_outcomes(frame.part, readings.refuted, readings.unproven)
    return truth_of(prepared, frame, at_entry, outcomes)


def judged(count: int, workers: int) -> list[Judged]:
    """Return the first ``count`` generated patients, judged."""
    shared()
    size = 100
    work = [range(k, min(k + size, count)) for k in range(0, count, size)]
    if workers == 1:
        return [one for places in work for one in judge(places)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return [one for part in pool.imap(judge, work) for one in part]


def held_together(count: int, workers: int, scratch: Path, engine: str = "duckdb") -> None:
    found = judged(count, workers)
    assert [j.pid for j in found] == list(range(count))
    plan = shared().plan
    truths = {(j.pid, plan.names[0]): j.truths for j in found}
    server = SERVER if engine == "postgres" else None
    rows = [(j.pid, j.rows) for j in found]
    backend, cohort = cohort_of(plan, rows, scratch, engine=engine, server=server)
    try:
        assert differences(truths, cohort) == []
    finally:
        backend.close()


def test_some_generated_patients(tmp_path: Path) -> None:
    held_together(60, 1, tmp_path)


@pytest.mark.slow
def test_ten_thousand_generated_patients(tmp_path: Path) -> None:
    held_together(10_000, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "duckdb"])
def test_some_generated_patients_on_other_engines(engine: str, tmp_path: Path) -> None:
    if engine == "spark":
        pytest.importorskip("pyspark", reason="the extra spark is not installed")
    if engine == "postgres" and not SERVER:
        pytest.skip("SARC_KB_TEST_POSTGRES names no server")
    held_together(200, 1, tmp_path, engine)
