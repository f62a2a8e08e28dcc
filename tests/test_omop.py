"""OMOP CDM: what each table says as facts, whatever holds the tables; faults cost what they touch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarc_kb.assessment import Assessment, ClauseResult, Outcome, Verdict
from sarc_kb.cli import main
from sarc_kb.dates import parse_date
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import Finding
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC, text_iri
from sarc_kb.rules import Trial
from sarc_kb.sources.omop_cdm import Row, Vocabulary
from sarc_kb.sources.omop_person import OmopTerms, read_person
from sarc_kb.sources.omop_tables import open_cdm
from tests.omop_tables import FORMS, SERVER, Tables, cdm, source_of, write_csv, write_duckdb

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
OMOP = "https://athena.ohdsi.org/search-terms/terms/"
HB, GRAM_PER_DL = 3000963, 8713


@pytest.fixture
def read(kb: KnowledgeBase, trial: Trial, tmp_path: Path):
    """Read a folder of CSV files with the given tables; give records and findings of the run."""

    def reading(
        tables: Tables, persons: Sequence[str] = ()
    ) -> tuple[list[PatientRecord], list[Finding]]:
        problems: list[Finding] = []
        shutil.rmtree(tmp_path / "cdm", ignore_errors=True)
        folder = write_csv(tmp_path / "cdm", tables)
        return list(kb.omop_records(str(folder), trial, problems, persons=persons)), problems

    return reading


@pytest.fixture(scope="module")
def terms(kb: KnowledgeBase, trial: Trial) -> OmopTerms:
    return kb.omop_terms(trial)


@pytest.fixture
def one(read):
    """Read tables that hold one person; give the record."""

    def reading(**tables: Sequence[dict[str, object]]) -> PatientRecord:
        (record,), _ = read(cdm(**tables))
        return record

    return reading


def hb(**more: object) -> dict[str, object]:
    return {
        "measurement_id": 5,
        "person_id": 1,
        "measurement_concept_id": HB,
        "measurement_date": "2024-02-21",
        "value_as_number": "12.60",
        "unit_concept_id": GRAM_PER_DL,
        **more,
    }


def condition(**more: object) -> dict[str, object]:
    return {
        "condition_occurrence_id": 11,
        "person_id": 1,
        "condition_concept_id": 36552407,
        "condition_start_date": "2024-01-30",
        **more,
    }


def observation(**more: object) -> dict[str, object]:
    return {
        "observation_id": 7,
        "person_id": 1,
        "observation_concept_id": 0,
        "observation_date": "2024-02-28",
        **more,
    }


def concept(number: int, vocabulary: str, code: str, **more: object) -> dict[str, object]:
    return {
        "concept_id": number,
        "concept_name": f"concept {code}",
        "vocabulary_id": vocabulary,
        "concept_code": code,
        "standard_concept": "S",
        "invalid_reason": "",
        **more,
    }


def fact(record: PatientRecord, name: str) -> Fact:
    (found,) = [f for f in record.facts if f.id == name]
    return found


def codes(record: PatientRecord) -> set[str]:
    return {f.code for f in record.findings}


def axis(found: Fact, name: str) -> set[str]:
    return {value for a, value in found.axes if a == str(SARC[name])}


@pytest.fixture
def clause(kb: KnowledgeBase, trial: Trial, engine: ShaclEngine):
    """Judge a record as entered on 2024-03-01; give one clause."""

    def judge(record: PatientRecord, name: str, **options: object) -> ClauseResult:
        from dataclasses import replace

        dated = record if record.entry else replace(record, entry=parse_date("2024-03-01"))
        assessment: Assessment = kb.assess_record(dated, trial, engine, **options)
        assert assessment.verdict is not Verdict.ERROR, assessment.error
        return next(c for k in assessment.criteria for c in k.clauses if c.id == name)

    return judge


# -- the same tables in every form -----------------------------------------------------------

EVERYTHING = cdm(
    measurement=[
        hb(),
        hb(measurement_id=6, measurement_datetime="2024-02-21 09:30:00", range_high=17.5),
        hb(measurement_id=8, operator_concept_id=4171756, value_as_number=9),
    ],
    condition_occurrence=[condition(condition_source_concept_id=44834555)],
    procedure_occurrence=[
        {
            "procedure_occurrence_id": 3,
            "person_id": 1,
            "procedure_concept_id": 4311405,
            "procedure_date": "2024-02-01",
        }
    ],
    drug_exposure=[
        {
            "drug_exposure_id": 4,
            "person_id": 1,
            "drug_concept_id": 1338512,
            "drug_exposure_start_date": "2023-06-05",
            "drug_exposure_end_date": "2023-10-02",
        }
    ],
    death=[{"person_id": 1, "death_date": "2024-06-01"}],
    concept=[concept(44834555, "ICD10CM", "C49.22", standard_concept="")],
)


def plain(record: PatientRecord) -> list[tuple[object, ...]]:
    """The facts, but for how a number is written."""
    return [
        (f.id, f.kind, f.concepts, f.value and f.value.normalize(), f.comparator, f.unit,
         f.upper_limit and f.upper_limit.normalize(), f.start, f.end, f.axes, f.tumour, f.status)
        for f in record.facts
    ]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_record(
    form: str, kb: KnowledgeBase, trial: Trial, tmp_path: Path
) -> None:
    problems: list[Finding] = []
    with source_of("csv", EVERYTHING, tmp_path / "as-csv") as (folder, _):
        (expected,) = kb.omop_records(folder, trial, [])
    with source_of(form, EVERYTHING, tmp_path) as (source, schema):
        (record,) = kb.omop_records(source, trial, problems, schema=schema)
    assert plain(record) == plain(expected)
    assert len(record.facts) == 9
    assert record.label == "1"
    assert record.observed == expected.observed
    assert {f.code for f in problems} == {"DATA204"}  # there is no table observation


def test_what_the_tables_say(one) -> None:
    record = one(**{k: v for k, v in EVERYTHING.items() if k not in cdm()})
    assert fact(record, "person/1#birth").start == parse_date("1960-05-17")
    assert fact(record, "person/1#sex").value_concepts == (OMOP + "8507",)
    first, timed, below = (fact(record, f"measurement/{n}") for n in (5, 6, 8))
    assert first.kind == str(SARC.Measurement)
    assert first.concepts == (OMOP + "3000963",)
    assert (first.value, str(first.value), first.unit) == (Decimal("12.6"), "12.60", "OMOP:8713")
    assert first.start == first.end == parse_date("2024-02-21")
    assert timed.start == parse_date("2024-02-21T09:30:00")
    assert timed.upper_limit == Decimal("17.5")
    assert (below.comparator, below.value) == ("<", 9)
    tumour = fact(record, "condition_occurrence/11")
    assert set(tumour.concepts) == {
        OMOP + "36552407",
        OMOP + "44834555",
        "http://hl7.org/fhir/sid/icd-10-cm/C49.22",
    }
    assert str(SARC.LowerLimb) in axis(tumour, "bodySite")
    assert tumour.status == str(SARC.Confirmed)
    drug = fact(record, "drug_exposure/4")
    assert (drug.kind, drug.end) == (str(SARC.MedicationUse), parse_date("2023-10-02"))
    assert fact(record, "death/1").start == parse_date("2024-06-01")
    assert not codes(record)


# -- E9: faults of OMOP data, a test each ----------------------------------------------------


@pytest.mark.threat("E9")
def test_e9_concept_0_is_not_known_and_breaks_completeness(one, clause) -> None:
    """E9 concept_id 0."""
    row = condition(condition_concept_id=0, condition_source_value="L-4711")
    record = one(condition_occurrence=[row])
    assert fact(record, "condition_occurrence/11").concepts == (text_iri("L-4711"),)
    assert "DATA222" in codes(record)
    open_clause = clause(record, "E13", complete=("conditions",))
    assert open_clause.outcome is Outcome.UNDETERMINED
    assert clause(one(), "E13", complete=("conditions",)).outcome is Outcome.PASS


@pytest.mark.threat("E9")
def test_e9_concept_0_with_a_source_concept_is_read(one) -> None:
    """E9 concept_id 0."""
    row = hb(measurement_concept_id=0, measurement_source_concept_id=2_000_000_001)
    record = one(measurement=[row], concept=[concept(2_000_000_001, "LOINC", "718-7")])
    assert "http://loinc.org/718-7" in fact(record, "measurement/5").concepts
    assert "DATA222" not in codes(record)


@pytest.mark.parametrize(
    "fault", [{"standard_concept": ""}, {"standard_concept": "C"}, {"invalid_reason": "D"}]
)
@pytest.mark.threat("E9")
def test_e9_non_standard_or_deprecated_concept_is_possible_only(fault, one, clause) -> None:
    """E9 non-standard or deprecated concept."""
    row = hb(value_as_number=8.6)
    valid = one(measurement=[row], concept=[concept(HB, "LOINC", "718-7")])
    assert clause(valid, "I07a").outcome is Outcome.FAIL
    record = one(measurement=[row], concept=[concept(HB, "LOINC", "718-7", **fault)])
    assert "DATA223" in codes(record)
    assert fact(record, "measurement/5").status == str(SARC.Suspected)
    assert clause(record, "I07a").outcome is Outcome.UNDETERMINED


@pytest.mark.threat("E9")
def test_e9_a_readable_source_concept_stands_for_a_deprecated_one(one) -> None:
    """E9 non-standard or deprecated concept."""
    row = hb(measurement_source_concept_id=77)
    old = concept(HB, "LOINC", "718-7", invalid_reason="U", standard_concept="")
    record = one(measurement=[row], concept=[old, concept(77, "LOINC", "718-7")])
    found = fact(record, "measurement/5")
    assert OMOP + str(HB) not in found.concepts
    assert found.status == str(SARC.Confirmed)


@pytest.mark.parametrize("unit", ["", 0])
@pytest.mark.threat("E9")
def test_e9_no_unit_concept(unit, one, clause) -> None:
    """E9 unit_concept_id null: the unit as written counts, else there is none."""
    bare = one(measurement=[hb(unit_concept_id=unit)])
    assert fact(bare, "measurement/5").unit is None
    assert clause(bare, "I07a").outcome is Outcome.UNDETERMINED
    written = one(measurement=[hb(unit_concept_id=unit, unit_source_value="gm/dL")])
    assert clause(written, "I07a").outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("operator", "value", "outcome"),
    [
        (4171756, 9, Outcome.FAIL),  # < 9
        (4171754, 9, Outcome.UNDETERMINED),  # <= 9
        (4172704, 9, Outcome.PASS),  # > 9
        (4171755, 9, Outcome.PASS),  # >= 9
        (4172703, 9, Outcome.PASS),  # = 9
        (4172704, 8, Outcome.UNDETERMINED),  # > 8
        (9999, 9, Outcome.UNDETERMINED),  # no operator of the CDM
    ],
)
@pytest.mark.threat("E9")
def test_e9_operator(operator: int, value: int, outcome: Outcome, one, clause) -> None:
    """E9 operator `<`."""
    record = one(measurement=[hb(operator_concept_id=operator, value_as_number=value)])
    assert clause(record, "I07a").outcome is outcome
    assert ("DATA228" in codes(record)) == (operator == 9999)


@pytest.mark.threat("E9")
def test_e9_without_observation_period_nobody_vouches(one, clause) -> None:
    """E9 person without observation_period."""
    record = one(observation_period=[{"person_id": 2, "observation_period_start_date": ""}])
    assert record.observed == ()
    assert "DATA221" in codes(record)
    assert clause(record, "E13", complete=("conditions",)).outcome is Outcome.UNDETERMINED


@pytest.mark.parametrize(
    ("periods", "outcome"),
    [
        ([("1960-05-17", "2024-03-01")], Outcome.PASS),
        ([("1960-05-18", "2024-03-01")], Outcome.UNDETERMINED),  # not from birth on
        ([("1960-05-17", "2024-02-29")], Outcome.UNDETERMINED),  # not up to entry
        ([("1960-05-17", "1999-12-31"), ("2000-01-01", "2024-03-01")], Outcome.PASS),
        ([("1960-05-17", "1999-12-31"), ("2000-01-02", "2024-03-01")], Outcome.UNDETERMINED),
    ],
)
def test_the_sites_word_holds_within_the_observation_period(periods, outcome, one, clause) -> None:
    rows = [
        {
            "observation_period_id": n,
            "person_id": 1,
            "observation_period_start_date": start,
            "observation_period_end_date": end,
        }
        for n, (start, end) in enumerate(periods)
    ]
    judged = clause(one(observation_period=rows), "E13", complete=("conditions",))
    assert judged.outcome is outcome
    if outcome is Outcome.PASS:
        assert any("while observed" in r for r in judged.rests_on)


@pytest.mark.parametrize("date", ["2024-02-22", "1960-05-16"])
@pytest.mark.threat("E9")
def test_e9_outside_of_life_is_possible_only(date: str, one, clause) -> None:
    """E9 death before measurement."""
    row = hb(measurement_date=date, value_as_number=8.6)
    record = one(measurement=[row], death=[{"person_id": 1, "death_date": "2024-02-21"}])
    assert "DATA224" in codes(record)
    assert fact(record, "measurement/5").status == str(SARC.Suspected)
    alive = one(measurement=[hb()], death=[{"person_id": 1, "death_date": "2024-02-21"}])
    assert "DATA224" not in codes(alive)


@pytest.mark.threat("E9")
def test_e9_duplicate_person_is_not_merged(kb, trial, engine, read) -> None:
    """E9 duplicate person_id."""
    tables = cdm()
    tables["person"] += [tables["person"][0] | {"gender_concept_id": 8532}]
    tables["person"] += [tables["person"][0] | {"person_id": 2}]
    twice, other = read(tables)[0]
    assert "DATA220" in codes(twice)
    assert kb.assess_record(twice, trial, engine).verdict is Verdict.ERROR
    assert "DATA220" not in codes(other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.threat("E9")
def test_e9_large_ids(form: str, kb: KnowledgeBase, trial: Trial, tmp_path: Path) -> None:
    """E9 ids > 2^31: they stay what they are, and may be asked for."""
    big = 2**53 + 1
    tables = cdm(measurement=[hb(measurement_id=big, person_id=big)])
    tables["person"] += [tables["person"][0] | {"person_id": big}]
    with source_of(form, tables, tmp_path) as (source, schema):
        (record,) = kb.omop_records(source, trial, [], persons=[str(big)], schema=schema)
    assert record.label == str(big)
    assert fact(record, f"measurement/{big}").value == Decimal("12.6")


@pytest.mark.threat("E9")
def test_e9_columns_in_another_order_or_case(read, tmp_path: Path) -> None:
    """E9 columns by name."""
    tables = cdm(measurement=[hb()])
    (expected,), _ = read(tables)
    turned = {
        name: [{k.upper(): row[k] for k in reversed(row)} for row in rows]
        for name, rows in tables.items()
    }
    for path in (tmp_path / "cdm").iterdir():
        path.unlink()
    (record,), problems = read(turned)
    assert record.facts == expected.facts
    assert "DATA205" not in {f.code for f in problems}


@pytest.mark.threat("E9")
def test_e9_names_of_files_in_another_case(kb, trial, read, tmp_path: Path) -> None:
    """E9 columns in another order or case; the tables' names too."""
    (expected,), _ = read(cdm(measurement=[hb()]))
    for path in (tmp_path / "cdm").iterdir():
        path.rename(path.with_name(path.stem.upper() + ".CSV"))
    (record,) = kb.omop_records(str(tmp_path / "cdm"), trial, [])
    assert record.facts == expected.facts


def test_ids_that_a_tool_wrote_as_decimals(read) -> None:
    tables = cdm(measurement=[hb(person_id="1.0", measurement_concept_id="3000963.0")])
    (record,), problems = read(tables)
    assert fact(record, "measurement/5").concepts == (OMOP + "3000963",)
    assert "DATA212" not in {f.code for f in problems}


# -- numbers and dates -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["NaN", "inf", "-Infinity", "1e400", "9,5", "<5", "12 g/dL", "1_000", "0x10", "9" * 99]
)
@pytest.mark.threat("D4", "D5")
def test_d4_d5_what_is_no_number_decides_nothing(text: str, one, clause) -> None:
    """D4, D5: NaN, infinities, outsized and ill-typed numbers, in values and in ranges."""
    record = one(measurement=[hb(value_as_number=text), hb(measurement_id=6, range_high=text)])
    found = fact(record, "measurement/5")
    assert found.value is None
    assert found.value_text == "not a number"
    assert fact(record, "measurement/6").upper_limit is None
    assert {"DATA227", "DATA229"} <= codes(record)
    assert all(text not in f.found for f in record.findings if len(text) > 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.threat("D4", "D5")
def test_d4_nan_in_a_column_of_numbers(form, kb, trial, tmp_path: Path) -> None:
    tables = cdm(measurement=[hb(value_as_number="NaN"), hb(measurement_id=6)])
    with source_of(form, tables, tmp_path) as (source, schema):
        (record,) = kb.omop_records(source, trial, [], schema=schema)
    assert fact(record, "measurement/5").value is None
    assert fact(record, "measurement/6").value == Decimal("12.6")


@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6, places=4),
    st.sampled_from("fEg"),
)
@pytest.mark.threat("D9")
def test_d9_a_number_is_kept_to_the_last_digit(terms: OmopTerms, number: Decimal, how: str) -> None:
    """D9: no float on the way."""
    text = {"f": f"{number:f}", "E": f"{number:E}", "g": f"{number:f}00"}[how]
    rows = [
        Row("1", "person", concept="8507", year="1960"),
        Row("1", "measurement", "5", concept=str(HB), start="2024-02-21", number=text),
    ]
    record = read_person(rows, terms, Vocabulary(), "test")
    assert fact(record, "measurement/5").value == number


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("2024-02-21", "2024-02-21"),
        ("20240221", "2024-02-21"),
        ("2024-02-21 00:00:00", "2024-02-21"),
        ("2024-02-21T00:00:00", "2024-02-21"),
    ],
)
def test_ways_to_write_a_date(written: str, read_as: str, one) -> None:
    found = fact(one(measurement=[hb(measurement_date=written)]), "measurement/5")
    assert found.start == parse_date(read_as)


@pytest.mark.parametrize(
    ("datetime", "start"),
    [
        ("2024-02-21 09:30:00", "2024-02-21T09:30:00"),
        ("2024-02-21 09:30", "2024-02-21T09:30:00"),
        ("2024-02-21 09:30:00.123456", "2024-02-21T09:30:00"),
        ("2024-02-21 09:30:00+08", "2024-02-21T09:30:00+08:00"),
        ("2024-02-21 00:00:00", "2024-02-21"),  # midnight: no time is known
        ("2024-02-20 23:30:00+00", "2024-02-21"),  # the day at the place, the time in another zone
        ("", "2024-02-21"),
    ],
)
def test_times(datetime: str, start: str, one) -> None:
    record = one(measurement=[hb(measurement_datetime=datetime)])
    assert fact(record, "measurement/5").start == parse_date(start)
    assert not codes(record)


def test_date_and_datetime_of_two_days_leave_the_day_open(one) -> None:
    record = one(measurement=[hb(measurement_datetime="2024-02-23 09:30:00")])
    found = fact(record, "measurement/5")
    assert found.start is None
    assert found.recorded == parse_date("2024-02-23T09:30:00")
    assert "DATA226" in codes(record)


@pytest.mark.parametrize("text", ["2024-02-30", "21.02.2024", "yesterday", "0000-00-00"])
def test_a_date_that_is_none(text: str, one) -> None:
    record = one(measurement=[hb(measurement_date=text)])
    assert fact(record, "measurement/5").start is None
    assert "DATA225" in codes(record)
    assert all(text not in f.found for f in record.findings)


@pytest.mark.parametrize(
    ("birth", "known"),
    [
        (("1960", "5", "17"), "1960-05-17"),
        (("1960", "5", ""), "1960-05"),
        (("1960", "", "17"), "1960"),  # a day without a month says nothing
        (("1960", "2", "30"), "1960-02"),
        (("1960", "13", "1"), "1960"),
        (("1960.0", "5.0", "17.0"), "1960-05-17"),
    ],
)
def test_date_of_birth_as_far_as_it_is_given(birth, known: str, read) -> None:
    tables = cdm()
    names = ("year_of_birth", "month_of_birth", "day_of_birth")
    tables["person"][0] |= dict(zip(names, birth, strict=True))
    (record,), _ = read(tables)
    assert fact(record, "person/1#birth").start == parse_date(known)


def test_a_row_without_date_has_its_visits(one) -> None:
    visits = [
        {
            "visit_occurrence_id": 8,
            "visit_start_date": "2024-02-20",
            "visit_end_date": "2024-02-20",
        },
        {
            "visit_occurrence_id": 9,
            "visit_start_date": "2024-02-18",
            "visit_end_date": "2024-02-25",
        },
    ]
    record = one(
        visit_occurrence=[{"person_id": 1} | v for v in visits],
        measurement=[
            hb(measurement_date="", visit_occurrence_id=8),
            hb(measurement_id=6, measurement_date="", visit_occurrence_id=9),
        ],
    )
    assert fact(record, "measurement/5").start == parse_date("2024-02-20")
    stay = fact(record, "measurement/6")
    assert (stay.start, stay.recorded) == (None, parse_date("2024-02-25"))


# -- codes: vocabularies, ancestors, pre-coordination ----------------------------------------


def test_ancestors_resolve_what_no_mapping_reads(read, clause) -> None:
    """The nearest mapped ancestors count, each that no other lies between, and it is said."""
    tables = cdm(
        condition_occurrence=[condition(condition_concept_id=900)],
        concept_ancestor=[
            {"descendant_concept_id": 900, "ancestor_concept_id": 900},
            {"descendant_concept_id": 900, "ancestor_concept_id": 901},  # nobody maps it
            {"descendant_concept_id": 900, "ancestor_concept_id": 4201415},  # leiomyosarcoma
            {"descendant_concept_id": 900, "ancestor_concept_id": 4311439},  # sarcoma
            {"descendant_concept_id": 900, "ancestor_concept_id": 4299535},  # pregnancy
            {"descendant_concept_id": 4201415, "ancestor_concept_id": 4311439},
        ],
    )
    (record,), problems = read(tables)
    found = fact(record, "condition_occurrence/11")
    assert set(found.concepts) == {OMOP + n for n in ("900", "4201415", "4299535")}
    (said,) = [f for f in problems if f.code == "DATA209"]
    assert said.found.startswith("1 concepts")
    assert said.severity == "info"


def test_an_ancestor_that_is_broader_than_the_term_is_only_possible(one, kb) -> None:
    links = [("900", "194984"), ("900", "4299535")]  # a disease of the liver, and a pregnancy
    record = one(
        condition_occurrence=[condition(condition_concept_id=900)],
        concept_ancestor=[
            {"descendant_concept_id": below, "ancestor_concept_id": above} for below, above in links
        ],
    )
    certain = kb.terms.code(fact(record, "condition_occurrence/11").concepts)
    possible = kb.terms.code(fact(record, "condition_occurrence/11#perhaps").concepts)
    assert certain.certain == {str(SARC.Pregnancy)}
    assert (possible.certain, possible.general) == (frozenset(), {str(SARC.LiverDisease)})


def test_a_mapped_concept_does_not_ask_its_ancestors(one) -> None:
    record = one(
        condition_occurrence=[condition(condition_concept_id=4201415)],
        concept_ancestor=[{"descendant_concept_id": 4201415, "ancestor_concept_id": 4299535}],
    )
    assert fact(record, "condition_occurrence/11").concepts == (OMOP + "4201415",)


def test_ancestors_are_read_by_their_own_codes(one) -> None:
    record = one(
        drug_exposure=[
            {
                "drug_exposure_id": 4,
                "person_id": 1,
                "drug_concept_id": 900,
                "drug_exposure_start_date": "2023-06-05",
            }
        ],
        concept=[concept(900, "RxNorm", "1"), concept(901, "RxNorm", "3639")],
        concept_ancestor=[{"descendant_concept_id": 900, "ancestor_concept_id": 901}],
    )
    assert (
        "http://www.nlm.nih.gov/research/umls/rxnorm/3639"
        in fact(record, "drug_exposure/4").concepts
    )


@pytest.mark.parametrize(
    ("code", "histology", "site"),
    [
        ("8890/3-C49.2", {"8890/3"}, {"C49.2"}),
        ("8890/3-NULL", {"8890/3"}, set()),
        ("NULL-C49.2", set(), {"C49.2"}),
        ("8890/3", {"8890/3"}, set()),
    ],
)
def test_icdo3_histology_and_site_in_one_code(code, histology, site, one, kb) -> None:
    row = condition(condition_concept_id=900)
    found = fact(
        one(condition_occurrence=[row], concept=[concept(900, "ICDO3", code)]),
        "condition_occurrence/11",
    )
    prefix = "http://terminology.hl7.org/CodeSystem/icd-o-3/"
    assert {c for c in found.concepts if c.startswith(prefix)} == {prefix + h for h in histology}
    assert axis(found, "bodySite") == {prefix + s for s in site}


def test_a_vocabulary_that_is_not_known_keeps_its_name(one) -> None:
    record = one(
        condition_occurrence=[condition(condition_concept_id=900)],
        concept=[concept(900, "Site 9/>", "A b")],
    )
    (code,) = set(fact(record, "condition_occurrence/11").concepts) - {OMOP + "900"}
    assert code == "urn:sarc-kb:omop:vocabulary:Site%209%2F%3E/A%20b"


@pytest.mark.parametrize(
    ("unit", "vocabulary", "code", "known"),
    [
        (8713, None, None, "OMOP:8713"),
        (8713, "UCUM", "g/dL", "g/dL"),
        (900, "UCUM", "g/L", "g/L"),
        (900, "SNOMED", "1", "gm/dL"),  # not UCUM: as the source writes it
    ],
)
def test_units(unit, vocabulary, code, known, one) -> None:
    more = {"concept": [concept(unit, vocabulary, code)]} if vocabulary else {}
    row = hb(unit_concept_id=unit, unit_source_value="gm/dL")
    assert fact(one(measurement=[row], **more), "measurement/5").unit == known


def test_results_that_are_codes_or_texts(one) -> None:
    def row(n: int, **more: object) -> dict[str, object]:
        return hb(measurement_id=n, measurement_concept_id=3019510, value_as_number="", **more)

    record = one(
        measurement=[
            row(1, value_as_concept_id=45878583),
            row(2, value_source_value="NEG"),
            row(3, value_as_concept_id=0, value_source_value="NEG"),
            row(4, value_as_concept_id=0),
        ]
    )
    assert fact(record, "measurement/1").value_concepts == (OMOP + "45878583",)
    for n in (2, 3):
        assert fact(record, f"measurement/{n}").value_concepts == (text_iri("NEG"),)
        assert fact(record, f"measurement/{n}").value_text
    assert fact(record, "measurement/4").value_concepts == ()


# -- conditions, tumours, episodes, modifiers ------------------------------------------------


@pytest.mark.parametrize(
    ("status", "source", "expected"),
    [
        ("", "", SARC.Confirmed),
        (0, "", SARC.Confirmed),
        (32902, "", SARC.Confirmed),  # primary diagnosis
        (32899, "", SARC.Suspected),  # preliminary diagnosis
        (999, "", SARC.Suspected),
        (0, "to be ruled out", SARC.Suspected),
    ],
)
def test_status_of_a_condition(status, source, expected, one) -> None:
    row = condition(condition_status_concept_id=status, condition_status_source_value=source)
    record = one(condition_occurrence=[row])
    assert fact(record, "condition_occurrence/11").status == str(expected)
    assert ("DATA230" in codes(record)) == (status == 999 or bool(source))


CONDITION_FIELD, PROCEDURE_FIELD = 1147127, 1147082


def test_diagnoses_of_one_concept_are_one_tumour_and_modifiers_are_its(one) -> None:
    record = one(
        condition_occurrence=[
            condition(),
            condition(condition_occurrence_id=12, condition_start_date="2024-02-20"),
            condition(condition_occurrence_id=13, condition_concept_id=4268491),
        ],
        measurement=[
            hb(
                measurement_concept_id=36770080,
                measurement_event_id=13,
                meas_event_field_concept_id=CONDITION_FIELD,
                value_as_number="",
            )
        ],
    )
    first, again, other = (fact(record, f"condition_occurrence/{n}") for n in (11, 12, 13))
    assert first.tumour == again.tumour != other.tumour
    grade = fact(record, "measurement/5")
    assert grade.tumour == other.tumour
    # A Cancer Modifier is a result without its finding.
    assert grade.concepts == (str(SARC.HistologicGrade),)
    assert grade.value_concepts == (OMOP + "36770080",)


def test_the_outermost_episode_says_which_tumour(one) -> None:
    episode = {"person_id": 1, "episode_start_date": "2022-03-14", "episode_concept_id": 32533}
    event = {"episode_event_field_concept_id": CONDITION_FIELD}
    record = one(
        condition_occurrence=[
            condition(),
            condition(condition_occurrence_id=12, condition_concept_id=4268491),
        ],
        episode=[
            {**episode, "episode_id": 1, "episode_object_concept_id": 36552407},
            {
                **episode,
                "episode_id": 2,
                "episode_parent_id": 1,
                "episode_object_concept_id": 4058775,
            },
        ],
        episode_event=[
            {"episode_id": 1, "event_id": 11, **event},
            {"episode_id": 2, "event_id": 12, **event},
        ],
    )
    names = ("condition_occurrence/11", "condition_occurrence/12", "episode/1", "episode/2")
    assert {fact(record, n).tumour for n in names} == {"episode/1"}
    course = fact(record, "episode/2")
    assert course.kind == str(SARC.Procedure)
    assert course.start == parse_date("2022-03-14")


def test_parents_in_a_circle_end(one) -> None:
    episode = {
        "person_id": 1,
        "episode_start_date": "2022-03-14",
        "episode_object_concept_id": 4201415,
    }
    record = one(
        episode=[
            {**episode, "episode_id": 1, "episode_parent_id": 2},
            {**episode, "episode_id": 2, "episode_parent_id": 1},
        ]
    )
    assert fact(record, "episode/1").tumour == fact(record, "episode/2").tumour == "episode/1"


@pytest.mark.parametrize(
    "link",
    [
        {"measurement_event_id": 99, "meas_event_field_concept_id": CONDITION_FIELD},
        {"measurement_event_id": 11, "meas_event_field_concept_id": 12345},
    ],
)
def test_a_link_that_leads_nowhere_is_told(link, one) -> None:
    record = one(condition_occurrence=[condition()], measurement=[hb(**link)])
    assert fact(record, "measurement/5").tumour is None
    assert "DATA231" in codes(record)


def test_fields_are_known_by_the_sources_own_vocabulary(one) -> None:
    record = one(
        specimen=[
            {
                "specimen_id": 3,
                "person_id": 1,
                "specimen_concept_id": 900,
                "specimen_date": "2024-02-01",
            }
        ],
        measurement=[hb(measurement_event_id=3, meas_event_field_concept_id=77)],
        concept=[
            concept(77, "CDM", "CDM77", concept_name="specimen.specimen_id"),
            concept(900, "sarc-kb", "Histopathology"),
        ],
    )
    assert str(SARC.Histopathology) in axis(fact(record, "measurement/5"), "specimen")
    assert "DATA231" not in codes(record)


def test_the_procedure_that_a_finding_is_linked_to_is_its_method(one) -> None:
    record = one(
        procedure_occurrence=[
            {
                "procedure_occurrence_id": 23,
                "person_id": 1,
                "procedure_concept_id": 4013636,
                "procedure_date": "2024-02-12",
            }
        ],
        measurement=[hb(measurement_event_id=23, meas_event_field_concept_id=PROCEDURE_FIELD)],
        concept=[concept(4013636, "SNOMED", "113091000")],
    )
    assert axis(fact(record, "measurement/5"), "method") == {"http://snomed.info/id/113091000"}


# -- treatment -------------------------------------------------------------------------------


def drug(**more: object) -> dict[str, object]:
    return {
        "drug_exposure_id": 4,
        "person_id": 1,
        "drug_concept_id": 1338512,
        "drug_exposure_start_date": "2024-01-10",
        **more,
    }


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({"drug_exposure_end_date": "2024-01-19"}, "2024-01-19"),
        ({"drug_exposure_end_date": "2024-01-19", "verbatim_end_date": "2024-01-15"}, "2024-01-15"),
        ({"drug_exposure_end_date": "2024-01-19", "days_supply": 3}, "2024-01-19"),
        ({"days_supply": 10}, "2024-01-19"),
        ({"days_supply": 0}, None),
        ({"days_supply": -4}, None),
        ({}, None),
    ],
)
def test_end_of_a_drug_exposure(given, end: str | None, one) -> None:
    found = fact(one(drug_exposure=[drug(**given)]), "drug_exposure/4")
    assert found.end == (parse_date(end) if end else None)


ADMINISTERED, PRESCRIBED = 32818, 32838
ONE_DAY = {"drug_exposure_end_date": "2024-01-10"}


@pytest.mark.parametrize(
    ("given", "dose"),
    [
        ({"quantity": 1, "drug_type_concept_id": ADMINISTERED}, "12"),
        ({"quantity": 2, "drug_type_concept_id": ADMINISTERED}, "24"),
        ({"quantity": 1, "drug_type_concept_id": PRESCRIBED, **ONE_DAY}, "12"),
        # How many times a day is said nowhere.
        ({"quantity": 2, "drug_type_concept_id": PRESCRIBED, **ONE_DAY}, None),
        ({"quantity": 14, "drug_type_concept_id": PRESCRIBED, "days_supply": 14}, None),
        ({"drug_type_concept_id": ADMINISTERED}, None),
        ({"quantity": "NaN", "drug_type_concept_id": ADMINISTERED}, None),
        ({"quantity": 0, "drug_type_concept_id": ADMINISTERED}, None),
    ],
)
def test_dose_only_where_it_is_exact(given, dose: str | None, one) -> None:
    strength = {"drug_concept_id": 1338512, "amount_value": 12, "amount_unit_concept_id": 8576}
    record = one(drug_exposure=[drug(**given)], drug_strength=[strength])
    found = fact(record, "drug_exposure/4")
    assert found.value == (Decimal(dose) if dose else None)
    assert found.unit == ("OMOP:8576" if dose else None)


def test_no_dose_from_a_product_of_two_ingredients(one) -> None:
    strength = {"drug_concept_id": 1338512, "amount_value": 12, "amount_unit_concept_id": 8576}
    row = drug(quantity=1, drug_type_concept_id=ADMINISTERED)
    record = one(drug_exposure=[row], drug_strength=[strength, {**strength, "amount_value": 4}])
    assert fact(record, "drug_exposure/4").value is None


def test_dose_in_the_unit_of_the_row(one) -> None:
    row = drug(quantity=12, drug_type_concept_id=ADMINISTERED, dose_unit_source_value="mg")
    found = fact(one(drug_exposure=[row]), "drug_exposure/4")
    assert (found.value, found.unit) == (12, "mg")
    row = drug(quantity=12, drug_type_concept_id=PRESCRIBED, dose_unit_source_value="mg")
    assert fact(one(drug_exposure=[row]), "drug_exposure/4").value is None


def test_a_course_of_radiotherapy(one) -> None:
    row = {"procedure_occurrence_id": 3, "person_id": 1, "procedure_concept_id": 4058775}
    dates = {"procedure_date": "2024-02-01", "procedure_end_date": "2024-03-06"}
    record = one(
        procedure_occurrence=[
            {**row, **dates},
            {**row, "procedure_occurrence_id": 4, "procedure_date": "2024-02-01"},
        ]
    )
    course, day = (fact(record, f"procedure_occurrence/{n}") for n in (3, 4))
    assert (course.start, course.end) == (parse_date("2024-02-01"), parse_date("2024-03-06"))
    assert day.start == day.end == parse_date("2024-02-01")


def test_a_route_and_what_qualifies_a_row_stand_on_the_axes_of_rules(one) -> None:
    record = one(
        drug_exposure=[
            drug(route_concept_id=4132161),
            drug(drug_exposure_id=5, route_concept_id=9),
        ],
        procedure_occurrence=[
            {
                "procedure_occurrence_id": 3,
                "person_id": 1,
                "procedure_concept_id": 4058775,
                "procedure_date": "2024-02-01",
                "modifier_concept_id": 900,
            }
        ],
        observation=[
            observation(
                observation_concept_id=901, value_as_concept_id=902, qualifier_concept_id=903
            )
        ],
        concept=[
            concept(900, "sarc-kb", "IMRT"),
            concept(901, "sarc-kb", "ToxicityEvent"),
            concept(902, "sarc-kb", "ToxicityGrade3"),
            concept(903, "sarc-kb", "RelatedToTreatment"),
        ],
    )
    assert axis(fact(record, "drug_exposure/4"), "route") == {OMOP + "4132161"}
    assert fact(record, "drug_exposure/5").axes == ()
    assert axis(fact(record, "procedure_occurrence/3"), "technique") == {str(SARC.IMRT)}
    event = fact(record, "observation/7")
    assert event.kind == str(SARC.AdverseEvent)
    assert str(SARC.ToxicityGrade3) in event.value_concepts
    assert axis(event, "relatedTo") == {str(SARC.RelatedToTreatment)}


# -- observations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"value_as_concept_id": 4188539}, SARC.Yes),
        ({"value_as_concept_id": 4188540}, SARC.No),
        ({"value_as_concept_id": 4129922}, SARC.Unknown),
        ({"value_as_string": "Yes"}, SARC.Yes),
        ({"value_as_string": "false"}, SARC.No),
        ({"value_source_value": "no"}, SARC.No),
    ],
)
@pytest.mark.parametrize("question", ["willing-and-able", "I08a", "NCT05602415/I08a"])
def test_an_answer(question: str, answer, said, one, trial: Trial) -> None:
    row = observation(observation_source_value=question, provider_id=3, **answer)
    found = fact(one(observation=[row]), "observation/7")
    assert found.kind == str(SARC.Attestation)
    assert found.concepts[0].startswith(trial.iri.rpartition("/")[0])
    assert found.value_concepts == (str(said),) or found.value_concepts == (
        OMOP + str(answer.get("value_as_concept_id")),
    )
    assert found.performer == "provider/3"
    assert found.start == parse_date("2024-02-28")


def test_an_answer_settles_its_clause(one, clause) -> None:
    def answered(**value: object) -> ClauseResult:
        row = observation(observation_source_value="mds-aml", **value)
        return clause(one(observation=[row]), "E13")

    assert answered(value_as_concept_id=4188540).outcome is Outcome.PASS
    assert answered(value_as_concept_id=4188539).outcome is Outcome.FAIL
    assert answered(value_as_concept_id=4129922).outcome is Outcome.UNDETERMINED


@pytest.mark.parametrize(
    "row",
    [
        {
            "observation_source_value": "I10",
            "observation_concept_id": 320128,
            "value_as_string": "no",
        },
        {
            "observation_source_value": "I10",
            "observation_source_concept_id": 900,
            "value_as_string": "no",
        },
        {"observation_source_value": "I10"},
    ],
)
def test_a_code_that_looks_like_a_rule_is_no_answer(row, one) -> None:
    """I10 is a rule here, and hypertension in ICD-10."""
    record = one(observation=[observation(**row)])
    assert fact(record, "observation/7").kind != str(SARC.Attestation)


def test_the_day_of_entry(read, trial: Trial) -> None:
    def entry(*rows: dict[str, object]) -> PatientRecord:
        own = [concept(900, "sarc-kb", "StudyEntry")]
        filled = [observation(**{"observation_concept_id": 900, **r}) for r in rows]
        (record,), _ = read(cdm(observation=filled, concept=own))
        return record

    assert entry({}).entry == parse_date("2024-02-28")
    assert entry({"value_as_string": trial.id}).entry == parse_date("2024-02-28")
    assert entry({"value_as_string": "NCT00000000"}).entry is None
    twice = entry({}, {"observation_id": 8, "observation_date": "2024-03-04"})
    assert twice.entry is None
    assert "DATA232" in codes(twice)
    assert entry({}, {"observation_id": 8}).entry == parse_date("2024-02-28")


def test_history_of_and_family_history_of(one) -> None:
    record = one(
        observation=[
            observation(observation_concept_id=4167217, value_as_concept_id=314664),
            observation(
                observation_id=8, observation_concept_id=1340204, value_as_concept_id=4329847
            ),
            observation(observation_id=9, observation_concept_id=4167217),
        ]
    )
    family, own, unsaid = (fact(record, f"observation/{n}") for n in (7, 8, 9))
    assert family.kind == str(SARC.FamilyHistory)
    assert family.concepts == (OMOP + "314664",)
    assert (family.start, family.recorded) == (None, parse_date("2024-02-28"))
    assert own.kind == str(SARC.Condition)
    assert (own.start, own.recorded) == (None, parse_date("2024-02-28"))
    assert unsaid.concepts == (OMOP + "0",)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({}, SARC.Confirmed),
        ({"value_as_concept_id": 4188539}, SARC.Confirmed),
        ({"value_as_concept_id": 4188540}, SARC.Refuted),
        ({"value_as_concept_id": 4129922}, SARC.Suspected),
        ({"value_as_string": "perhaps"}, SARC.Suspected),
        ({"value_as_number": 0}, SARC.Suspected),
    ],
)
@pytest.mark.parametrize("table", ["observation", "measurement"])
def test_whether_something_is_so(table: str, value, status, one) -> None:
    if table == "measurement" and "value_as_string" in value:
        value = {"value_source_value": "perhaps"}
    row = (
        observation(observation_concept_id=36769180, **value)
        if table == "observation"
        else {
            "measurement_id": 7,
            "person_id": 1,
            "measurement_concept_id": 36769180,
            "measurement_date": "2024-02-28",
            **value,
        }
    )
    found = fact(one(**{table: [row]}), f"{table}/7")
    assert found.kind == str(SARC.Condition)
    assert found.status == str(status)


# -- the source: versions, what is missing, what must not be reached -------------------------


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("5.4", None),
        ("v5.4.1", None),
        ("CDM 5.4", "DATA208"),
        ("5.3.1", "DATA206"),
        ("v5.3", "DATA206"),
        ("6.0", "DATA208"),
        ("5.2.2", "DATA208"),
        ("", "DATA207"),
    ],
)
def test_version(version: str, code: str | None, read) -> None:
    records, problems = read(cdm(cdm_source=[{"cdm_version": version, "cdm_source_name": "x"}]))
    found = {f.code for f in problems} & {"DATA206", "DATA207", "DATA208"}
    assert found == ({code} if code else set())
    assert len(records) == (0 if code == "DATA208" else 1)


def test_5_3_lacks_episodes_without_a_word(read) -> None:
    _, problems = read(cdm(cdm_source=[{"cdm_version": "5.3"}]))
    assert not any(f.where.endswith(("episode", "episode_event")) for f in problems)


def test_missing_tables_and_columns_are_told_and_the_rest_is_judged(read) -> None:
    row = hb()
    del row["measurement_date"]
    (record,), problems = read(cdm(measurement=[row]))
    assert fact(record, "measurement/5").start is None
    told = {(f.code, f.where.split()[-1]): f for f in problems}
    assert "measurement_date" in told["DATA205", "measurement"].found
    assert ("DATA204", "condition_occurrence") in told
    assert ("DATA204", "device_exposure") not in told


def test_persons_may_be_named(read) -> None:
    tables = cdm(measurement=[hb(person_id=n, measurement_id=n) for n in (1, 2, 10, 99)])
    tables["person"] += [tables["person"][0] | {"person_id": n} for n in (10, 2)]
    records, problems = read(tables)
    assert [r.label for r in records] == ["1", "2", "10"]
    assert any(f.code == "DATA212" and "99" in f.found for f in problems)
    records, problems = read(tables, ["10", "4", "x' OR 1=1 --"])
    assert [r.label for r in records] == ["10"]
    assert sum(f.code == "DATA210" for f in problems) == 2


def test_rows_without_a_person_are_told(read) -> None:
    records, problems = read(cdm(measurement=[hb(person_id=""), hb()]))
    assert len(records) == 1
    assert any(f.code == "DATA211" for f in problems)


@pytest.mark.parametrize(
    ("name", "content"),
    [("death.csv", b""), ("death.csv", b"\xff\xfe\x00x"), ("death.parquet", b"PAR1")],
)
def test_a_table_that_cannot_be_read_costs_itself(name, content, read, kb, trial, tmp_path) -> None:
    read(cdm(measurement=[hb()]))
    (tmp_path / "cdm" / name).write_bytes(content)
    problems: list[Finding] = []
    records = list(kb.omop_records(str(tmp_path / "cdm"), trial, problems))
    assert len(records) == 1 or any(f.code == "DATA200" for f in problems)
    assert any(f.code in ("DATA202", "DATA205", "DATA200") for f in problems)


@pytest.mark.parametrize(
    ("where", "content"),
    [("nothing", None), ("text.duckdb", b"not a database"), ("empty-folder", ...)],
)
def test_a_source_that_is_none(where, content, kb, trial, tmp_path: Path) -> None:
    path = tmp_path / where
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    problems: list[Finding] = []
    assert list(kb.omop_records(str(path), trial, problems)) == []
    assert {f.code for f in problems} <= {"DATA200", "DATA201"}
    assert problems


def test_a_password_is_never_repeated(kb, trial) -> None:
    problems: list[Finding] = []
    url = "postgresql://someone:s3cr3t@127.0.0.1:1/none"
    assert list(kb.omop_records(url, trial, problems)) == []
    (told,) = problems
    assert told.code == "DATA200"
    assert "s3cr3t" not in str(told)


@pytest.mark.threat("A10")
def test_nothing_outside_the_folder_is_read(kb, trial, read, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("person_id,death_date\n1,2020-01-01\n", encoding="utf-8")
    read(cdm())
    (tmp_path / "cdm" / "death.csv").symlink_to(secret)
    problems: list[Finding] = []
    (record,) = kb.omop_records(str(tmp_path / "cdm"), trial, problems)
    assert not any(f.id.startswith("death") for f in record.facts)
    assert any(f.code == "DATA202" and f.found == "leads out of the folder" for f in problems)


@pytest.mark.threat("A10")
def test_a_view_of_a_database_reaches_no_file(kb, trial, tmp_path: Path) -> None:
    import duckdb

    secret = tmp_path / "secret.csv"
    secret.write_text("person_id,death_date\n1,2020-01-01\n", encoding="utf-8")
    path = write_duckdb(tmp_path / "a" / "cdm.duckdb", cdm(measurement=[hb()]))
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE VIEW death AS SELECT * FROM read_csv('{secret}')")
    before = path.read_bytes()
    problems: list[Finding] = []
    (record,) = kb.omop_records(str(path), trial, problems)
    assert fact(record, "measurement/5").value is not None
    assert not any(f.id.startswith("death") for f in record.facts)
    assert any(f.code == "DATA202" for f in problems)
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {"cdm.duckdb"}


@pytest.mark.parametrize("name", ["it's", 'a"b', "a;drop table person", "x[1]*?", "ü ö"])
def test_names_of_folders_are_names(name: str, kb, trial, tmp_path: Path) -> None:
    folder = write_csv(tmp_path / name, cdm(measurement=[hb()]))
    (record,) = kb.omop_records(str(folder), trial, [])
    assert fact(record, "measurement/5").value is not None
    path = write_duckdb(tmp_path / f"{name}.duckdb", cdm(measurement=[hb()]))
    (record,) = kb.omop_records(str(path), trial, [])
    assert fact(record, "measurement/5").value is not None


@pytest.mark.threat("C7")
def test_hostile_text_stays_text(one) -> None:
    """F5 and injection: what a cell holds is data, whatever it looks like."""
    hostile = '=HYPERLINK("x")\'; DROP TABLE person; --<b>\t'
    row = condition(condition_concept_id=0, condition_source_value=hostile)
    record = one(condition_occurrence=[row | {"condition_occurrence_id": "1'; --> <x"}])
    (found,) = [f for f in record.facts if f.id.startswith("condition_occurrence")]
    assert found.concepts == (text_iri(hostile),)
    assert not set(found.id) & set("<> \"';")


def test_a_folder_may_hold_a_folder_for_each_table(kb, trial, read, tmp_path: Path) -> None:
    from tests.omop_tables import write_parquet

    write_parquet(tmp_path / "flat", cdm(measurement=[hb()]))
    for path in (tmp_path / "flat").iterdir():
        (tmp_path / "deep" / path.stem).mkdir(parents=True)
        path.rename(tmp_path / "deep" / path.stem / "part-00000.parquet")
    (record,) = kb.omop_records(str(tmp_path / "deep"), trial, [])
    assert fact(record, "measurement/5").value == Decimal("12.6")


def test_a_key_that_stands_twice(one) -> None:
    record = one(measurement=[hb(), hb(value_as_number=7)])
    assert [f.id for f in record.facts if f.id.startswith("meas")] == [
        "measurement/5",
        "measurement/5~2",
    ]
    assert "DATA234" in codes(record)


@pytest.mark.threat("G2")
def test_a_failure_on_one_person_is_that_persons(kb, trial, engine, read, monkeypatch) -> None:
    def fails(rows: list[Row], *_: object) -> PatientRecord:
        if rows[0].person == "1":
            raise ZeroDivisionError("a value of the patient's")
        return read_person(rows, *_)  # type: ignore[arg-type]

    monkeypatch.setattr("sarc_kb.sources.omop.read_person", fails)
    tables = cdm()
    tables["person"] += [tables["person"][0] | {"person_id": 2}]
    broken, whole = read(tables)[0]
    assert codes(broken) == {"DATA236"}
    assert "value of the patient" not in str(broken.findings)
    assert kb.assess_record(broken, trial, engine).verdict is Verdict.ERROR
    assert whole.facts


@pytest.mark.threat("B5")
def test_a_person_with_too_many_rows_is_an_error(kb, trial, engine, read, monkeypatch) -> None:
    monkeypatch.setattr("sarc_kb.sources.omop.MAX_FACTS", 50)
    tables = cdm()
    tables["person"] += [tables["person"][0] | {"person_id": 2}]
    row = tables["observation_period"][0]
    # With the rows of person and of the first period there are as many as may be, and then one more.
    tables["observation_period"] += [row | {"observation_period_id": 10 + n} for n in range(48)]
    assert read(tables)[0][0].facts
    tables["observation_period"] += [row | {"observation_period_id": 9}]
    many, other = read(tables)[0]
    assert [(f.code, f.where, f.found) for f in many.findings] == [
        ("DATA237", "person/1", "more than 50 rows")
    ]
    assert many.facts == ()
    assert kb.assess_record(many, trial, engine).verdict is Verdict.ERROR
    assert other.facts


@pytest.mark.postgres
@pytest.mark.skipif(not SERVER, reason="no server: SARC_KB_TEST_POSTGRES is not set")
def test_a_database_is_only_read(tmp_path: Path) -> None:
    import psycopg

    with (
        source_of("postgres", cdm(), tmp_path) as (url, schema),
        open_cdm(url, schema) as source,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        source.backend.con.execute(f"DELETE FROM {schema}.person")


def test_a_duckdb_file_is_only_read(tmp_path: Path) -> None:
    import duckdb

    path = write_duckdb(tmp_path / "cdm.duckdb", cdm())
    with open_cdm(str(path)) as source:
        for sql in (
            "DELETE FROM person",
            "INSTALL httpfs",
            "LOAD httpfs",
            f"COPY person TO '{tmp_path}/copy.csv'",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM read_parquet('https://example.org/x.parquet')",
            "SET enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                source.backend.con.execute(sql)


# -- laws ------------------------------------------------------------------------------------


@given(st.permutations(range(9)))
@pytest.mark.threat("D16")
def test_the_order_of_rows_means_nothing(terms: OmopTerms, order: list[int]) -> None:
    rows = [
        Row("1", "person", concept="8507", year="1960"),
        Row("1", "death", start="2024-06-01"),
        Row("1", "episode", "1", concept="32533", object="36552407", start="2022-01-01"),
        Row("1", "episode_event", "1", event="11", event_field="1147127"),
        Row("1", "condition_occurrence", "11", concept="36552407", start="2022-01-01"),
        Row("1", "condition_occurrence", "12", concept="0", source_value="x", start="2022-01-01"),
        Row("1", "measurement", "5", concept=str(HB), start="2024-02-21", number="1"),
        Row("1", "measurement", "5", concept=str(HB), start="2024-02-22", number="2"),
        Row("1", "observation_period", "1", start="2020-01-01", end="2024-01-01"),
    ]
    expected = read_person(rows, terms, Vocabulary(), "test")
    assert read_person([rows[i] for i in order], terms, Vocabulary(), "test") == expected
    assert [f.id for f in expected.facts if f.id.startswith("measurement")] == [
        "measurement/5",
        "measurement/5~2",
    ]


cells = st.one_of(st.none(), st.text(max_size=8), st.integers().map(str), st.just("2024-02-21"))


@given(st.lists(st.builds(dict, table=st.sampled_from(["measurement", "observation", "drug_exposure", "condition_occurrence", "episode", "person", "death"]), cells=st.lists(cells, min_size=33, max_size=33)), max_size=4))  # fmt: skip
def test_no_row_stops_the_reader(terms: OmopTerms, drawn) -> None:
    rows = [Row("1", "person", concept="8507", year="1960")]
    rows += [Row("1", d["table"], *d["cells"]) for d in drawn]
    record = read_person(rows, terms, Vocabulary(), "test")
    assert len({f.id for f in record.facts}) == len(record.facts)
    assert record.label == "1"


@pytest.mark.threat("B12")
def test_memory_does_not_grow_with_the_number_of_persons(tmp_path: Path) -> None:
    """Peak memory of a process that reads persons one by one, at two sizes of the source."""
    import duckdb

    program = """
import resource, sys
from sarc_kb.kb import KnowledgeBase
kb = KnowledgeBase.load(); trial = kb.compile()
n = sum(len(r.facts) for r in kb.omop_records(sys.argv[1], trial, []))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for size in (2_000, 12_000):
        path = tmp_path / f"{size}.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute(
                f"""CREATE TABLE person AS SELECT range AS person_id, 8507 AS gender_concept_id,
                1960 AS year_of_birth, 1 AS month_of_birth, 1 AS day_of_birth FROM range({size})"""
            )
            connection.execute(
                f"""CREATE TABLE measurement AS SELECT range AS measurement_id,
                range * 7919 % {size} AS person_id, 3000963 AS measurement_concept_id,
                DATE '2024-02-21' AS measurement_date, 12.5 AS value_as_number,
                8713 AS unit_concept_id FROM range({size * 5})"""
            )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        facts, peak = map(int, done.stdout.split())
        assert facts == size * 7
        peaks.append(peak)
    # The facts of 10,000 persons more would be a hundred megabytes more.
    assert peaks[1] < peaks[0] * 1.2, peaks


# -- the command line ------------------------------------------------------------------------


def test_validate_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    source = str(EXAMPLES / "omop-anaemic")
    assert main(["validate", "--omop", source, "--person", "2", "--format", "json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    (assessment,) = shown["assessments"]
    assert assessment["patient"] == "2"
    assert main(["validate", "--omop", source, "--person", "2", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == shown


def test_files_and_tables_together(capsys: pytest.CaptureFixture[str]) -> None:
    file, source = EXAMPLES / "anaemic" / "patient.ttl", EXAMPLES / "omop-eligible"
    assert main(["validate", str(file), "--omop", str(source), "--quiet"]) == 1
    assert "2 patients: 1 eligible, 1 ineligible" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["validate"], "no FILE and no --omop"),
        (["validate", "x.ttl", "--person", "1"], "no --omop to read"),
        (["validate", "x.ttl", "--omop-schema", "cdm"], "no --omop to read"),
        (["validate", "--omop", "nowhere"], "no such file or folder"),
        (
            ["validate", "--omop", str(EXAMPLES / "omop-eligible"), "--person", "77"],
            "no such person",
        ),
    ],
)
def test_what_cannot_run_says_why(
    arguments, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert found in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ibis", None)
    assert main(["validate", "--omop", str(EXAMPLES / "omop-eligible")]) == 2
    told = capsys.readouterr().err
    assert "USE030" in told
    assert "pip install 'sarc-kb[omop]'" in told
