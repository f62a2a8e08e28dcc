"""The cohort engine against the SHACL engines on records that nobody here wrote.

The files lie in the folder that SARC_KB_DATA names, else in ../shared/data; without it these tests
are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from sarc_kb.errors import Finding
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import with_entry_dates
from sarc_kb.sources.read import read_sources
from tests.cohort_shacl import held_together, judge_record, shared

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SARC_KB_DATA") or ROOT.parent / "shared" / "data")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="sample data: neither SARC_KB_DATA nor ../shared/data"
    ),
]

# Folder, an entry date in the time of its records, patients judged.
FHIR = (
    ("mcode-ig-4.0.0/bundles", "2019-04-02", 3),
    ("codex-radiotherapy/bundles", "2024-06-01", 5),
    ("bulk-export-10", "2020-01-01", 10),
    ("synthea-r4/bundles", "2020-01-01", 27),
)
OMOP = (("omop-synthea27nj", "2020-01-01", 19), ("omop53-eunomia-gibleed", "2015-01-01", 40))


def held(records: Iterable[PatientRecord], entry: str, expected: int, scratch: Path) -> None:
    own = shared()
    found = [
        judge_record(own, pid, record)
        for pid, record in enumerate(with_entry_dates(records, entry, {}))
        if pid < expected
    ]
    assert len(found) == expected
    assert sum(len(j.rows.facts) for j in found) > expected
    held_together(found, scratch)


@pytest.mark.parametrize(("folder", "entry", "patients"), FHIR)
def test_fhir(folder: str, entry: str, patients: int, tmp_path: Path) -> None:
    own = shared()
    records, _ = read_sources([DATA / folder], own.kb.reading_terms(own.trial))
    held(records, entry, patients, tmp_path)


@pytest.mark.parametrize(("folder", "entry", "patients"), OMOP)
def test_omop(folder: str, entry: str, patients: int, tmp_path: Path) -> None:
    own = shared()
    problems: list[Finding] = []
    records = own.kb.omop_records(str(DATA / folder), own.trial, problems)
    held(records, entry, patients, tmp_path)
