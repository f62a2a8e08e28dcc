"""Every boundary case of every rule is one item: the rule base proven by its own cases."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sarc_kb.assess import clause_outcomes
from sarc_kb.assessment import Outcome, TreatmentOutcome
from sarc_kb.cases import Case, criterion_of, load_cases, part_of, rule_outcome
from sarc_kb.dates import FOREVER
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.explain import explain
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.rules import Trial
from sarc_kb.treatment import last_day, outcomes_at_entry
from sarc_kb.treatment import rule_outcome as treatment_outcome

TRIALS = data_folder() / "shapes" / "trials"
TOLD_ONLY = ("Discretion", "NotRuled", "Agreement")
COMPONENTS = data_folder() / "shapes" / "components"
_KB = KnowledgeBase.load()
CASES = [
    (folder.name.upper(), case)
    for folder in sorted(p for p in TRIALS.iterdir() if p.is_dir())
    for case in load_cases(folder, _KB.terms.axes)
]


@cache
def compiled(name: str, readings: tuple[tuple[str, str], ...]) -> Trial:
    return _KB.compile(name, readings=dict(readings))


@cache
def criterion_engine(
    name: str, readings: tuple[tuple[str, str], ...], rule: str
) -> tuple[Trial, ShaclEngine]:
    # A case is about one rule; the examples run the whole rule base.
    part = part_of(compiled(name, readings), rule)
    return part, ShaclEngine(part, COMPONENTS, only=(criterion_of(part, rule),))


def of_rule(trial: Trial, rule: str) -> set[str]:
    root = next((c.root for c in trial.criteria if c.iri == rule), rule)
    return set(trial.leaves(root))


# Every fourth case by default, in CI all (-m ""): two readings through SHACL take their time.
ITEMS = [
    pytest.param(name, case, id=f"{name}-{case.id}", marks=[pytest.mark.slow] if n % 4 else [])
    for n, (name, case) in enumerate(CASES)
]


@pytest.mark.parametrize(("name", "case"), ITEMS)
@pytest.mark.threat("D1")
def test_case(name: str, case: Case) -> None:
    chosen = tuple(sorted(case.readings.items()))
    trial, engine = criterion_engine(name, chosen, case.rule)
    as_of = case.as_of
    if trial.course is not None and as_of is None:
        as_of = last_day(case.record)  # a course is judged as far as it is known
    prepared = _KB.prepare(case.record, trial, as_of=as_of)
    readings = engine.run(prepared_graph(prepared))
    by_shacl = clause_outcomes(trial, readings.refuted, readings.unproven)
    rule = next((c for c in trial.criteria if c.iri == case.rule), None)
    grounds = {
        c: explain(prepared, trial.clauses[c])
        for c in trial.clauses
        if c in of_rule(trial, case.rule)
    }
    if isinstance(case.expected, Outcome):
        assert rule_outcome(readings, trial, case.rule) is case.expected, case.because
    if rule is not None and trial.course is not None:
        at_entry = outcomes_at_entry(_KB.prepare(case.record, compiled(name, chosen)), [rule])
        told = treatment_outcome(prepared, rule, by_shacl, grounds, at_entry)
        if isinstance(case.expected, TreatmentOutcome):
            assert told is case.expected, case.because
        elif case.expected is Outcome.UNDETERMINED and rule.modality not in TOLD_ONLY:
            # Open and due; where no anchor is on record the course has not begun.
            begun = any(prepared.windows[w].end_hi < FOREVER for w in rule.due)
            assert told is TreatmentOutcome.UNDETERMINED or not begun, case.because
    for clause, shown in grounds.items():
        said = (
            Outcome.FAIL
            if shown.refuted
            else Outcome.UNDETERMINED
            if shown.unproven
            else Outcome.PASS
        )
        assert said is by_shacl[clause], f"{clause}: the deciding facts differ"


def test_every_case_on_disk_is_an_item() -> None:
    on_disk = sum(
        line.count("sarc:BoundaryCase")
        for path in TRIALS.rglob("*.cases.ttl")
        for line in Path(path).read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    )
    assert on_disk == len(CASES)
    assert on_disk > 300
