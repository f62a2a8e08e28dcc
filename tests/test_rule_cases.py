"""Every boundary case of every rule is one item: the rule base proven by its own cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from sarc_kb.cases import Case, load_cases, rule_outcome
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.kb import KnowledgeBase, data_folder

TRIALS = data_folder() / "shapes" / "trials"
_KB = KnowledgeBase.load()
CASES = [
    (folder.name.upper(), case)
    for folder in sorted(p for p in TRIALS.iterdir() if p.is_dir())
    for case in load_cases(folder, _KB.terms.axes)
]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{t}-{c.id}" for t, c in CASES])
def test_case(name: str, case: Case) -> None:
    trial, engine = _KB.engine(name, readings=case.readings)
    prepared = _KB.prepare(case.record, trial, as_of=case.as_of)
    readings = engine.run(prepared_graph(prepared))
    assert rule_outcome(prepared, readings, trial, case.rule) is case.expected, case.because


def test_every_case_on_disk_is_an_item() -> None:
    on_disk = sum(
        line.count("sarc:BoundaryCase")
        for path in TRIALS.rglob("*.cases.ttl")
        for line in Path(path).read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    )
    assert on_disk == len(CASES)
    assert on_disk > 300
