"""The cohort engine against the SHACL engines themselves, on generated patients.

Of ten thousand patients in CI, two thousand are judged by pySHACL, pyshifty and pyshacl-turbo, which
must agree, and the others by pyshifty; by default a few of each. Outcomes, evidence and missing
data of every clause of both parts are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from rdflib import Graph

from sarc_kb.cohort.backends import ENGINES
from sarc_kb.engines.shacl_engine import Readings, ShaclEngine
from sarc_kb.namespaces import SARC, local_name
from tests import plain_oracle
from tests.cohort_generator import SEED, generate
from tests.cohort_shacl import (
    FASTEST,
    SERVER,
    EnginesDifferError,
    Judged,
    held_together,
    judged,
    shared,
    ten_thousand,
)
from tests.cohort_tables import Told

# What the oracle must say at least on 10,000 patients: passes and fails together, and each alone.
SPOKEN, EACH = 200, 50
# A clearance is on record, or can be worked out, in few patients; so is a plain late consent.
SELDOM = {"I07i": (100, 30), "I09b": (200, 30)}


def agreed(
    found: Sequence[Judged], scratch: Path, engine: str = "duckdb"
) -> dict[int, dict[str, Told]]:
    """Return what all engines say; where they differ, fail with the least on which they do."""
    try:
        return held_together(found, scratch, engine)
    except EnginesDifferError as differ:
        pytest.fail(f"{differ}\n{smallest(differ.patients)}")


def smallest(numbers: Sequence[int]) -> str:
    """Return, for the first of these generated patients, the smallest graphs on which any engines
    differ, as Turtle; `make soak` with as many patients writes one for each kind of difference."""
    from tests.soak.differential import minimal_patient
    from tests.soak.engines import compared, engines_of

    own = shared()
    engines = engines_of(own)
    graphs = []
    for number in numbers[:3]:
        (record,) = generate(own.trial, own.kb.terms, SEED, 1, number)
        ((*found,),), _ = compared(own, [record], engines)
        for difference in found[:1]:
            graph = minimal_patient(own, engines, record, difference)
            told = f"# patient {number}, {difference.name}: {dict(difference.said)}"
            graphs.append(f"{told}\n{graph.serialize(format='turtle')}")
    return "\n".join(graphs) or f"not on {numbers[:3]} by themselves"


def held_by_the_oracle(told: dict[int, dict[str, Told]]) -> plain_oracle.Comparison:
    """Both engines share `prepare`; limits and windows are also read from the raw facts by hand."""
    own = shared()
    records = list(generate(own.trial, own.kb.terms, SEED, len(told)))
    pids = {record.label: pid for pid, record in enumerate(records)}
    found = plain_oracle.compare(records, lambda record, c: told[pids[record.label]][c][0])
    if found.differences:
        wrong = sorted({pids[told.split()[0]] for told in found.differences})
        pytest.fail(f"{found.differences[:20]}\n{smallest(wrong)}")
    assert sum(found.passed.values()) > 5 * len(told)
    assert sum(found.failed.values()) > len(told) / 5
    return found


@pytest.mark.threat("D14")
def test_some_generated_patients(tmp_path: Path) -> None:
    held_by_the_oracle(agreed(judged(60, 1), tmp_path))


class Forgetful:
    """A processor that never reports that the haemoglobin is too low."""

    def __init__(self, right: ShaclEngine, clause: str) -> None:
        self.right, self.clause, self.treatment = right, clause, right.treatment

    def run(self, data: Graph) -> Readings:
        said = self.right.run(data)
        kept = {key: n for key, n in said.refuted.items() if key[0] != self.clause}
        return Readings(Counter(kept), said.unproven)


def test_a_difference_is_told_by_the_smallest_patient_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shared()
    (clause,) = [c.iri for c in own.trial.clauses.values() if c.id == "I07a"]
    reference = own.processors["pyshacl"]
    monkeypatch.setitem(
        own.processors, "pyshacl", cast("ShaclEngine", Forgetful(reference, clause))
    )
    wrong = cast("ShaclEngine", Forgetful(own.processors[FASTEST], clause))
    monkeypatch.setitem(own.processors, FASTEST, wrong)
    with pytest.raises(pytest.fail.Exception) as failed:
        agreed(judged(30, 1), tmp_path)
    told = str(failed.value)
    graph = Graph().parse(
        data=told[told.index("@prefix") :].partition("\n# patient")[0], format="turtle"
    )
    (fact,) = graph.objects(None, SARC.fact)
    assert {local_name(str(p)) for p in graph.predicates(fact)} <= {
        "concept",
        "value",
        "unit",
        "date",
    }
    assert "'cohort': 'fail'" in told


@pytest.mark.slow
@pytest.mark.xdist_group("ten thousand")
@pytest.mark.timeout(4800)
@pytest.mark.threat("D14")
def test_ten_thousand_generated_patients(tmp_path: Path) -> None:
    found = held_by_the_oracle(agreed(ten_thousand(), tmp_path))
    few = {}
    for clause in plain_oracle.COVERED:
        spoken, each = SELDOM.get(clause, (SPOKEN, EACH))
        passed, failed = found.passed[clause], found.failed[clause]
        if passed + failed < spoken or min(passed, failed) < each:
            few[clause] = (passed, failed)
    assert few == {}


@pytest.mark.slow
@pytest.mark.xdist_group("ten thousand")
@pytest.mark.timeout(4800)
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "duckdb"])
def test_some_generated_patients_on_other_engines(engine: str, tmp_path: Path) -> None:
    if engine == "spark":
        pytest.importorskip("pyspark", reason="the extra spark is not installed")
    if engine == "postgres" and not SERVER:
        pytest.skip("SARC_KB_TEST_POSTGRES names no server")
    agreed(ten_thousand()[:200], tmp_path, engine)
