"""Two engines, one meaning: the relational plan says of every clause what SHACL says.

`test_rule_cases` and `sarc_kb.assess` hold the deciding facts against the SHACL engine; here the
cohort engine is held against both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sarc_kb.cases import load_cases, part_of
from sarc_kb.cohort.backends import ENGINES
from sarc_kb.cohort.plan import Frame, Plan
from sarc_kb.cohort.preparing import Settings, patient_rows
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources
from sarc_kb.treatment import has_begun, last_day, may_have_begun
from tests.cohort_tables import Truth, cohort_of, differences, told_of, truth_of
from tests.tiny_trial import build_tiny

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SERVER = os.environ.get("SARC_KB_TEST_POSTGRES")


def frames_of(plan: Plan, name: str) -> Iterator[Frame]:
    yield from (frame for frame in plan.frames if name in frame.names)


# -- the boundary cases ------------------------------------------------------------------------
@pytest.mark.threat("D14")
def test_every_case_of_every_rule(kb: KnowledgeBase, trial: Trial, tmp_path: Path) -> None:
    """All cases in one pass, those that ask for another reading of the register included: every
    combination of readings is a trial of its own."""
    cases = load_cases(kb.trial_folder(trial.id), kb.terms.axes)
    chosen = {tuple(sorted(case.readings.items())) for case in cases}
    names = {readings: " ".join("=".join(r) for r in readings) or trial.id for readings in chosen}
    trials = {names[r]: kb.compile(trial.id, readings=dict(r)) for r in sorted(chosen)}
    plan = Plan(trials)
    assert len(trials) > 20
    rows: list[tuple[int, PatientRows]] = []
    truths: dict[tuple[int, str], list[Truth]] = {}
    for pid, case in enumerate(cases):
        name = names[tuple(sorted(case.readings.items()))]
        part = part_of(trials[name], case.rule)
        own = PatientRows()
        for frame in frames_of(plan, name):
            if frame.is_treatment != (part.course is not None):
                continue
            variant = frame.variants[frame.names.index(name)]
            as_of = case.as_of
            if frame.is_treatment and as_of is None:
                as_of = last_day(case.record)
            prepared = kb.prepare(case.record, variant, as_of=as_of)
            at_entry = kb.prepare(case.record, trials[name]) if frame.is_treatment else None
            rows_of(prepared, frame, own, at_entry)
            assert (pid, name) not in truths
            truths[pid, name] = [truth_of(prepared, frame, at_entry)]
        rows.append((pid, own))
    backend, cohort = cohort_of(plan, rows, tmp_path)
    try:
        # A frame that several trials share speaks for each of them; the case asked for one.
        found = differences(truths, cohort, asked=True)
    finally:
        backend.close()
    assert len(truths) == len(cases)
    assert found == []


# -- the examples ------------------------------------------------------------------------------
def example_rows(
    kb: KnowledgeBase, trial: Trial, plan: Plan
) -> tuple[list[tuple[int, PatientRows]], dict[tuple[int, str], list[Truth]]]:
    records, problems = read_sources([EXAMPLES], kb.reading_terms(trial))
    assert not problems
    rows: list[tuple[int, PatientRows]] = []
    truths: dict[tuple[int, str], list[Truth]] = {}
    for pid, record in enumerate(records):
        rows.append((pid, patient_rows(kb, plan, record, Settings())))
        truths[pid, plan.names[0]] = truths_of(kb, trial, plan, record, plan.names[0])
    return rows, truths


def truths_of(
    kb: KnowledgeBase, trial: Trial, plan: Plan, record: PatientRecord, name: str
) -> list[Truth]:
    """What the deciding facts say of all parts, prepared as `assess_record` prepares them."""
    found = []
    for frame in frames_of(plan, name):
        at_entry = kb.prepare(record, trial)
        if not frame.is_treatment:
            found.append(truth_of(at_entry, frame))
        elif may_have_begun(record, trial, kb.terms):
            variant = frame.variants[frame.names.index(name)]
            course = kb.prepare(record, variant, as_of=last_day(record))
            if has_begun(course):
                found.append(truth_of(course, frame, at_entry))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_the_examples_on_every_engine(
    engine: str, kb: KnowledgeBase, trial: Trial, tmp_path: Path
) -> None:
    if engine == "spark":
        pytest.importorskip("pyspark", reason="the extra spark is not installed")
    if engine == "postgres" and not SERVER:
        pytest.skip("SARC_KB_TEST_POSTGRES names no server")
    plan = Plan({trial.id: trial})
    rows, truths = example_rows(kb, trial, plan)
    server = SERVER if engine == "postgres" else None
    backend, cohort = cohort_of(plan, rows, tmp_path, engine=engine, server=server)
    try:
        found = differences(truths, cohort)
    finally:
        backend.close()
    assert len(truths) > 30
    assert found == []


# -- deciding facts ----------------------------------------------------------------------------
def test_the_deciding_facts_decide(kb: KnowledgeBase, trial: Trial, tmp_path: Path) -> None:
    """Alone they reproduce the outcome; without them it changes, or rests on others that are
    named. A patient of its own for each clause of each example, in one pass."""
    plan = Plan({trial.id: trial})
    rows, _ = example_rows(kb, trial, plan)
    backend, cohort = cohort_of(plan, rows, tmp_path)
    said = told_of(cohort)
    backend.close()
    asked: list[tuple[int, str, frozenset[str]]] = []
    apart: list[tuple[int, PatientRows]] = []
    for pid, patient in rows:
        for clause, (_, sources, _) in said[pid, trial.id].items():
            recorded = {row[-1] for row in patient.facts} & sources
            if not recorded:
                continue
            asked.append((pid, clause, frozenset(recorded)))
            for alone in (True, False):
                facts = [row for row in patient.facts if (row[-1] in recorded) is alone]
                apart.append((len(apart), PatientRows(facts, patient.standing, patient.answers)))
    backend, cohort = cohort_of(plan, apart, tmp_path)
    again = told_of(cohort)
    backend.close()
    checked = {"alone": 0, "without": 0}
    for number, (pid, clause, sources) in enumerate(asked):
        outcome, evidence, missing = said[pid, trial.id][clause]
        assert again[2 * number, trial.id][clause] == (outcome, evidence, missing), (pid, clause)
        checked["alone"] += 1
        if outcome != "undetermined":
            other, others, _ = again[2 * number + 1, trial.id][clause]
            assert other != outcome or not sources & others, (pid, clause)
            checked["without"] += 1
    assert min(checked.values()) > 800


# -- several trials ----------------------------------------------------------------------------
RELAXED = (
    {},
    {"I07a:atLeast": "8.0"},
    {"I07a:atLeast": "7.5", "I07d:atLeast": "50"},
    {"I03:atLeast": "60", "I04a:moreThan": "9"},
    {"T04a:atLeast": "10"},
)


def test_trials_that_differ_in_limits_share_everything_else(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    trials = {str(n): kb.compile(relaxed=relaxed) for n, relaxed in enumerate(RELAXED)}
    plan = Plan(trials)
    assert [len(frame.variants) for frame in plan.frames] == [len(RELAXED)] * 2
    # What no variant changes is one test: only the limits that differ are asked several times.
    alone = Plan({"0": trials["0"]})
    changed = {key.partition(":")[0] for relaxed in RELAXED for key in relaxed}
    assert len(plan.tests) == len(alone.tests) + len(changed) * (len(RELAXED) - 1)
    rows, truths = [], {}
    for name, trial in trials.items():
        own, found = example_rows(kb, trial, Plan({name: trial}))
        rows = rows or own
        truths |= {(pid, name): parts for (pid, _), parts in found.items()}
    backend, cohort = cohort_of(plan, rows, tmp_path)
    try:
        assert differences(truths, cohort) == []
        verdicts = {
            name: cohort.counts(cohort.rows_of(name)[1], "verdict")  # type: ignore[index]
            for name in trials
        }
    finally:
        backend.close()
    assert verdicts["1"] != verdicts["0"] != verdicts["3"]


def test_two_trials_in_one_pass(tmp_path: Path) -> None:
    """Another trial, with preparation and clauses of its own, beside the first."""
    own = tmp_path / "kb"
    build_tiny(tmp_path / "tiny")
    for part in ("ontology", "shapes"):
        shutil.copytree(data_folder() / part, own / part)
    shutil.copytree(tmp_path / "tiny" / "shapes" / "trials" / "tiny", own / "shapes/trials/tiny")
    kb = KnowledgeBase.load(own)
    trials = {name: kb.compile(name) for name in kb.trial_folders}
    assert len(trials) == 2
    plan = Plan(trials)
    records, _ = read_sources([EXAMPLES], kb.reading_terms(*trials.values()))
    rows, truths = [], {}
    for pid, record in enumerate(records):
        rows.append((pid, patient_rows(kb, plan, record, Settings())))
        truths |= {(pid, n): truths_of(kb, t, plan, record, n) for n, t in trials.items()}
    backend, cohort = cohort_of(plan, rows, tmp_path)
    try:
        assert differences(truths, cohort) == []
    finally:
        backend.close()
    assert {len(parts) for (_, name), parts in truths.items() if name == "TINY"} == {1}


def kept_by(backend: Any) -> list[str]:
    """Return the names of the tables that DuckDB holds."""
    rows = backend._connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    return sorted(name for (name,) in rows)


@pytest.mark.threat("C6")
def test_patients_in_parts_are_the_same_patients(
    kb: KnowledgeBase, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of clauses are made for so many patients at a time; how many changes nothing."""
    monkeypatch.setattr("sarc_kb.cohort.cohort.AT_ONCE", 7)
    plan = Plan({trial.id: trial})
    rows, _ = example_rows(kb, trial, plan)
    backend, cohort = cohort_of(plan, rows, tmp_path)
    try:
        whole = cohort.clause_rows().to_pylist()
        before = kept_by(backend)
        parts = [part.to_pylist() for part in cohort.clause_parts()]
        after = kept_by(backend)
    finally:
        backend.close()
    assert after == before, "tables of a part stay in the database"
    assert len(parts) == -(-len(rows) // 7)
    assert [row for part in parts for row in part] == whole
