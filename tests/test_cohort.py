"""Two engines, one meaning: the relational plan says of every clause what SHACL says.

`test_rule_cases` and `sarc_kb.assess` hold the deciding facts against the SHACL engine; here the
cohort engine is held against both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sarc_kb.cases import load_cases, part_of
from sarc_kb.cohort.backends import ENGINES
from sarc_kb.cohort.plan import Frame, Plan
from sarc_kb.cohort.preparing import Settings, patient_rows
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources
from sarc_kb.treatment import has_begun, last_day, may_have_begun
from tests.cohort_tables import Truth, cohort_of, differences, told_of, truth_of

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SERVER = os.environ.get("SARC_KB_TEST_POSTGRES")


def frames_of(plan: Plan, name: str) -> Iterator[Frame]:
    yield from (frame for frame in plan.frames if name in frame.names)


# -- the boundary cases ------------------------------------------------------------------------
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
            assert pid not in {p for p, _ in truths}
            truths[pid, name] = [truth_of(prepared, frame, at_entry)]
        rows.append((pid, own))
    backend, cohort = cohort_of(plan, rows, tmp_path)
    try:
        # A frame that several trials share speaks for each of them; the case asked for one.
        found = [d for d in differences(truths, cohort) if d[:2] in truths]
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
        truths[pid, trial.id] = truths_of(kb, trial, plan, record)
    return rows, truths


def truths_of(kb: KnowledgeBase, trial: Trial, plan: Plan, record: PatientRecord) -> list[Truth]:
    """What the deciding facts say of both parts, prepared as `assess_record` prepares them."""
    found = []
    for frame in frames_of(plan, trial.id):
        at_entry = kb.prepare(record, trial)
        if not frame.is_treatment:
            found.append(truth_of(at_entry, frame))
        elif may_have_begun(record, trial, kb.terms):
            course = kb.prepare(record, frame.part, as_of=last_day(record))
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
