"""Every boundary case of every rule is one item: the rule base proven by its own cases."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sarc_kb.assess import clause_outcomes
from sarc_kb.assessment import Outcome
from sarc_kb.cases import Case, criterion_of, load_cases, rule_outcome
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.explain import explain
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.rules import Trial

TRIALS = data_folder() / "shapes" / "trials"
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
    name: str, readings: tuple[tuple[str, str], ...], criterion: str
) -> ShaclEngine:
    # A case is about one rule; the examples run the whole rule base.
    return ShaclEngine(compiled(name, readings), COMPONENTS, only=(criterion,))


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{t}-{c.id}" for t, c in CASES])
def test_case(name: str, case: Case) -> None:
    chosen = tuple(sorted(case.readings.items()))
    trial = compiled(name, chosen)
    prepared = _KB.prepare(case.record, trial, as_of=case.as_of)
    engine = criterion_engine(name, chosen, criterion_of(trial, case.rule))
    readings = engine.run(prepared_graph(prepared))
    assert rule_outcome(readings, trial, case.rule) is case.expected, case.because
    by_shacl = clause_outcomes(trial, readings.refuted, readings.unproven)
    for clause in trial.leaves(case.rule):
        shown = explain(prepared, trial.clauses[clause])
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
