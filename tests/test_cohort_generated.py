"""The cohort engine against the SHACL engines themselves, on generated patients.

Of ten thousand patients in CI, two thousand are judged by pySHACL, pyshifty and pyshacl-turbo, which
must agree, and the others by pyshifty; by default a few of each. Outcomes, evidence and missing
data of every clause of both parts are the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sarc_kb.cohort.backends import ENGINES
from tests import plain_oracle
from tests.cohort_generator import SEED, generate
from tests.cohort_shacl import SERVER, held_together, judged, shared, ten_thousand
from tests.cohort_tables import Told

# What the oracle must say at least on 10,000 patients: passes and fails together, and each alone.
SPOKEN, EACH = 200, 50
# A clearance is on record, or can be worked out, in few patients; so is a plain late consent.
SELDOM = {"I07i": (100, 30), "I09b": (200, 30)}


def held_by_the_oracle(told: dict[int, dict[str, Told]]) -> plain_oracle.Comparison:
    """Both engines share `prepare`; limits and windows are also read from the raw facts by hand."""
    own = shared()
    records = list(generate(own.trial, own.kb.terms, SEED, len(told)))
    pids = {record.label: pid for pid, record in enumerate(records)}
    found = plain_oracle.compare(records, lambda record, c: told[pids[record.label]][c][0])
    assert found.differences == []
    assert sum(found.passed.values()) > 5 * len(told)
    assert sum(found.failed.values()) > len(told) / 5
    return found


@pytest.mark.threat("D14")
def test_some_generated_patients(tmp_path: Path) -> None:
    held_by_the_oracle(held_together(judged(60, 1), tmp_path))


@pytest.mark.slow
@pytest.mark.xdist_group("ten thousand")
@pytest.mark.timeout(4800)
@pytest.mark.threat("D14")
def test_ten_thousand_generated_patients(tmp_path: Path) -> None:
    found = held_by_the_oracle(held_together(ten_thousand(), tmp_path))
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
    held_together(ten_thousand()[:200], tmp_path, engine)
