"""OMOP data that nobody here wrote: every person is read, a sample judged; the official DDL fits.

The files lie in the folder that SARC_KB_DATA names, else in ../shared/data; without it these tests
are skipped.
"""

from __future__ import annotations

import csv
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.namespaces import SARC
from sarc_kb.rules import Trial
from sarc_kb.sources.omop_cdm import NEW_IN_5_4, OTHERS, TABLES
from tests.omop_tables import SERVER, cdm, postgres_schema

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SARC_KB_DATA") or ROOT.parent / "shared" / "data")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="sample data: neither SARC_KB_DATA nor ../shared/data"
    ),
]
DDL = DATA / "omop-ddl-5.4"
# Folder, version, persons by its README, how many of them are judged.
SETS = (("omop-synthea27nj", "5.4", 19, 5), ("omop53-eunomia-gibleed", "5.3", 300, 5))


def rows_in(folder: Path, table: str) -> int:
    import duckdb

    with duckdb.connect() as connection:
        path = str(folder / f"{table}.parquet")
        return connection.read_parquet(path).aggregate("count(*)").fetchall()[0][0]


@pytest.mark.parametrize(("folder", "version", "persons", "sample"), SETS)
def test_everybody_is_read_and_a_sample_judged(
    folder: str,
    version: str,
    persons: int,
    sample: int,
    kb: KnowledgeBase,
    trial: Trial,
    engine: ShaclEngine,
) -> None:
    problems: list[Finding] = []
    found = kb.omop_records(str(DATA / folder), trial, problems)
    records = list(with_entry_dates(found, "2020-01-01", {}))
    assert len(records) == persons == rows_in(DATA / folder, "person")
    # Each row of these tables is a fact, and none is lost.
    facts = [f.id.partition("/")[0] for r in records for f in r.facts]
    for table in ("condition_occurrence", "procedure_occurrence", "drug_exposure", "measurement"):
        assert facts.count(table) == rows_in(DATA / folder, table), table
    told = {f.code for f in problems if f.severity != "info"}
    # Some tables are there twice, in two forms; death and others are not in 5.3.
    assert told <= {"DATA203", "DATA204"}
    assert ("DATA206" in {f.code for f in problems}) == (version == "5.3")
    for record in records[:: len(records) // sample]:
        assert record.observed
        assessment = kb.assess_record(record, trial, engine)
        assert assessment.verdict in (Verdict.UNDETERMINED, Verdict.INELIGIBLE), assessment.error
        (age,) = [c for k in assessment.criteria for c in k.clauses if c.id == "I03"]
        assert age.outcome is not Outcome.UNDETERMINED


def test_numbers_units_and_silence_of_the_samples(kb: KnowledgeBase, trial: Trial) -> None:
    full = list(kb.omop_records(str(DATA / "omop-synthea27nj"), trial, []))
    values = [f for r in full for f in r.facts if f.value is not None]
    assert len(values) > 5000
    haemoglobin = [f for f in values if "http://loinc.org/718-7" in f.concepts]
    assert {f.unit for f in haemoglobin} == {"g/dL"}
    bare = list(kb.omop_records(str(DATA / "omop53-eunomia-gibleed"), trial, []))
    measured = [f for r in bare for f in r.facts if f.id.startswith("measurement/")]
    assert measured
    assert all(f.value is None for f in measured)


def test_the_same_patients_in_fhir_and_their_maps_to_omop(kb: KnowledgeBase, trial: Trial) -> None:
    """This folder holds FHIR: its Bundles are read as such, its ConceptMaps must agree with ours."""
    folder = DATA / "mcode-omop-synthea"
    bundles = sorted((folder / "bundles").glob("*.json"))
    result = kb.validate(*bundles[:1], entry_date="2022-01-01")
    assert len(bundles) == 35
    assert len(result.assessments) == 1
    prefix = kb.terms.omop_vocabularies["None"]
    ours = {"M": SARC.Male, "F": SARC.Female, "confirmed": SARC.Confirmed, "differential": SARC.Suspected}  # fmt: skip
    agreed = set()
    for path in sorted(folder.glob("ConceptMap-*.json")):
        for group in json.loads(path.read_text("utf-8"))["group"]:
            for element in group["element"]:
                for target in element["target"]:
                    terms = kb.terms.mappings.get(prefix + target["code"], ())
                    if terms and element["code"] in ours:
                        assert terms == ((str(ours[element["code"]]), "exactMatch"),)
                        agreed.add(element["code"])
    assert agreed == set(ours)


def official_ddl(dialect: str, schema: str) -> str:
    text = (DDL / dialect / f"OMOPCDM_{dialect}_5.4_ddl.sql").read_text("utf-8")
    return text.replace("@cdmDatabaseSchema", schema)


INSERTS = (
    "INSERT INTO {0}.cdm_source VALUES ('t', 't', 't', NULL, NULL, NULL, '2024-01-01', '2024-01-01', '5.4', 756265, 'v')",
    "INSERT INTO {0}.person (person_id, gender_concept_id, year_of_birth, race_concept_id, ethnicity_concept_id) VALUES (1, 8507, 1960, 0, 0)",
    "INSERT INTO {0}.measurement (measurement_id, person_id, measurement_concept_id, measurement_date, measurement_type_concept_id, value_as_number, unit_concept_id) VALUES (5, 1, 3000963, '2024-02-21', 32817, 9.4, 8713)",
)


def check_official(kb: KnowledgeBase, trial: Trial, source: str, schema: str) -> None:
    problems: list[Finding] = []
    (record,) = kb.omop_records(source, trial, problems, schema=schema)
    assert problems == []
    (hb,) = [f for f in record.facts if f.id == "measurement/5"]
    assert (hb.value, hb.unit) == (Decimal("9.4"), "OMOP:8713")


def test_the_official_ddl_in_duckdb(kb: KnowledgeBase, trial: Trial, tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "official.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA cdm")
        connection.execute(official_ddl("duckdb", "cdm"))
        for sql in INSERTS:
            connection.execute(sql.format("cdm"))
    check_official(kb, trial, str(path), "cdm")


@pytest.mark.postgres
@pytest.mark.skipif(not SERVER, reason="no server: SARC_KB_TEST_POSTGRES is not set")
def test_the_official_ddl_in_postgresql(kb: KnowledgeBase, trial: Trial) -> None:
    import psycopg

    with postgres_schema() as (url, schema):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(official_ddl("postgresql", schema))
            for sql in INSERTS:
                connection.execute(sql.format(schema))
        check_official(kb, trial, url, schema)


def test_every_column_that_is_read_is_one_of_the_specification() -> None:
    with (DDL / "OMOP_CDMv5.4_Field_Level.csv").open(encoding="utf-8-sig") as handle:
        known = {
            (row["cdmTableName"].lower(), row["cdmFieldName"].lower().strip('"'))
            for row in csv.DictReader(handle)
        }
    assert len(known) > 400
    for name, table in TABLES.items():
        if name != "episode_event":
            assert (name, "person_id") in known
        for wanted in table.columns.values():
            # Of several names the first is that of 5.4, the others are older.
            first = wanted if isinstance(wanted, str) else wanted[0]
            assert (name, first) in known, f"{name}.{first}"
    assert {t for t, _ in known} >= {*TABLES, *OTHERS}
    assert set(TABLES) >= NEW_IN_5_4
    assert {t for t, _ in known} >= set(cdm())
