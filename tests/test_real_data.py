"""Records that nobody here wrote: each is read, judged, and told what is missing.

The files lie in the folder that SARC_KB_DATA names, else in ../shared/data; without it these tests
are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.namespaces import SARC
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SARC_KB_DATA") or ROOT.parent / "shared" / "data")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="sample data: neither SARC_KB_DATA nor ../shared/data"
    ),
]

# Folder, pattern, files on disk, patients judged. One Synthea bundle in nine is judged, all are read.
SETS = (
    ("mcode-ig-4.0.0/bundles", "*.json", 1),
    ("codex-radiotherapy/bundles", "*.json*", 1),
    ("synthea-r4/bundles", "*.json*", 9),
)


@pytest.mark.parametrize(("folder", "pattern", "stride"), SETS)
def test_real_records_get_a_verdict(
    folder: str, pattern: str, stride: int, kb: KnowledgeBase, trial: Trial, engine: ShaclEngine
) -> None:
    files = sorted((DATA / folder).glob(pattern))
    assert files
    judged = 0
    for path in files:
        records, problems = read_sources([path], kb.reading_terms(trial))
        assert not problems, problems
        assert len(records) == 1
        if files.index(path) % stride:
            continue
        (record,) = with_entry_dates(records, "2024-06-01", {})
        assert len(record.facts) > 2
        assessment = kb.assess_record(record, trial, engine)
        judged += 1
        # None of them is about a sarcoma trial: nobody is eligible, and each open criterion says why.
        assert assessment.verdict in (Verdict.UNDETERMINED, Verdict.INELIGIBLE), assessment.error
        assert len(assessment.criteria) == 30
        for criterion in assessment.criteria:
            assert criterion.message
            for clause in criterion.clauses:
                assert bool(clause.missing) == (clause.outcome is Outcome.UNDETERMINED)
        (age,) = [c for k in assessment.criteria for c in k.clauses if c.id == "I03"]
        born = any(f.concepts == (str(SARC.Birth),) for f in record.facts)
        assert (age.outcome is not Outcome.UNDETERMINED) == born
        assert assessment.to_decide or assessment.verdict is Verdict.INELIGIBLE
    assert judged == len(range(0, len(files), stride))


def test_the_mcode_patient_is_read_to_the_value(kb: KnowledgeBase) -> None:
    """Jenny M of the mCODE guide, at the time of her tests: what the guide shows is what is found."""
    path = DATA / "mcode-ig-4.0.0" / "bundles" / "cancer-patient-jenny-m.json"
    (assessment,) = kb.validate(path, entry_date="2019-04-02").assessments
    clauses = {c.id: c for k in assessment.criteria for c in k.clauses}
    assert assessment.verdict in (Verdict.UNDETERMINED, Verdict.INELIGIBLE)
    # Breast cancer is no sarcoma, so there is no index tumour to speak of.
    assert any(f.code == "DATA018" for f in assessment.data_findings)
    assert clauses["I02"].outcome is Outcome.UNDETERMINED
    assert clauses["I03"].outcome is Outcome.PASS
    assert clauses["I11"].outcome is Outcome.UNDETERMINED
