"""The facts table: what was written is read back to the last field, and faults are told."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarc_kb import cli
from sarc_kb.assessment import Verdict
from sarc_kb.dates import FOREVER, NEVER, PartialDate, parse_date
from sarc_kb.errors import Finding, InputError, UsageError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.reports.json_report import render_json
from sarc_kb.rules import Trial
from sarc_kb.sources import facts_rows, facts_table
from sarc_kb.sources.facts_table import (
    COLUMNS,
    FactsTable,
    holds_facts,
    read_facts,
    schema,
    write_facts,
)
from sarc_kb.sources.omop import read_omop
from sarc_kb.sources.rdf import KINDS
from sarc_kb.sources.read import read_sources

pa = pytest.importorskip("pyarrow", reason="the extra cohort is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra cohort is not installed")
duckdb = pytest.importorskip("duckdb", reason="the extra cohort is not installed")

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "facts-table.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def loaded_once(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))


@pytest.fixture(scope="module")
def examples(kb: KnowledgeBase, trial: Trial) -> list[PatientRecord]:
    found, problems = read_sources([EXAMPLES], kb.reading_terms(trial))
    records = list(found)
    for folder in sorted(p.parent for p in EXAMPLES.glob("*/person.csv")):
        records += read_omop(str(folder), kb.omop_terms(trial), problems)
    assert not [f for f in problems if f.severity == "error"]
    # The OMOP examples are about person 1 and others of such names.
    return [replace(r, patient=f"{r.patient}/{n}") for n, r in enumerate(records)]


def exactly(record: PatientRecord) -> tuple[object, ...]:
    """A record as something that is equal only to the very same: digits, and one date or two."""
    told = [
        (
            *(repr(getattr(f, name.name)) for name in fields(Fact)),
            f.start is not None and f.start is f.end,
        )
        for f in record.facts
    ]
    return (record, told, list(record.labels.items()), type(record.labels))


def there_and_back(records: list[PatientRecord], path: Path, **how: Any) -> list[PatientRecord]:
    write_facts(records, path, **how)
    return list(read_facts(path))


# -- the round trip ------------------------------------------------------------------------------
def test_every_example_comes_back(examples: list[PatientRecord], tmp_path: Path) -> None:
    assert len(examples) >= 47
    for rows in (1, 100, 20_000):
        back = there_and_back(examples, tmp_path / "f.parquet", rows=rows)
        assert [exactly(r) for r in back] == [exactly(r) for r in examples]
    facts = [f for r in examples for f in r.facts]
    # What could go wrong is there at all.
    assert any(f.start is not None and f.start is f.end for f in facts)
    assert any(f.start is not None and f.end is not None and f.start is not f.end for f in facts)
    assert any("." in str(f.value) and str(f.value).endswith("0") for f in facts)
    assert any(r.observed for r in examples)
    assert any(r.findings for r in examples)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DATES = st.one_of(
    st.dates().map(str),
    st.dates().map(lambda d: str(d)[:7]),
    st.dates().map(lambda d: str(d)[:4]),
    st.datetimes(timezones=st.none()).map(lambda d: d.isoformat(timespec="seconds")),
    st.datetimes().map(lambda d: d.isoformat(timespec="milliseconds") + "+08:00"),
    st.datetimes().map(lambda d: d.isoformat(timespec="minutes") + "Z"),
).map(parse_date)
NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30),
    st.sampled_from([Decimal(t) for t in ("0", "-0", "0.00", "1E+3", "1.50", "1E-40", "-7E40")]),
).filter(lambda n: abs(n.adjusted()) <= 40)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple)


@st.composite
def some_facts(draw: st.DrawFn) -> Fact:
    start, end = draw(st.none() | DATES), draw(st.none() | DATES)
    if draw(st.booleans()):
        end = start  # one and the same
    elif start is not None and draw(st.booleans()):
        end = parse_date(start.text)  # two of one text
    return Fact(
        id=draw(TEXTS),
        kind=draw(st.none() | st.sampled_from(sorted(KINDS))),
        concepts=tuple(draw(st.lists(TEXTS, max_size=3))),
        value=draw(st.none() | NUMBERS),
        value_text=draw(st.none() | TEXTS),
        comparator=draw(st.sampled_from([None, "<", "<=", ">", ">="])),
        unit=draw(st.none() | TEXTS),
        value_concepts=tuple(draw(st.lists(TEXTS, max_size=3))),
        upper_limit=draw(st.none() | NUMBERS),
        upper_limit_unit=draw(st.none() | TEXTS),
        start=start,
        end=end,
        ongoing=draw(st.none() | st.booleans()),
        recorded=draw(st.none() | DATES),
        status=draw(st.none() | TEXTS),
        axes=draw(PAIRS),
        tumour=draw(st.none() | TEXTS),
        source=draw(TEXTS),
        performer=draw(st.none() | TEXTS),
        basis=draw(st.none() | TEXTS),
    )


FINDINGS = st.builds(
    Finding, TEXTS, st.sampled_from(["error", "warning", "info"]), TEXTS, TEXTS, TEXTS, TEXTS
)
DAYS = st.integers(NEVER, FOREVER)
RECORDS = st.builds(
    PatientRecord,
    patient=TEXTS,
    label=TEXTS,
    entry=st.none() | DATES,
    facts=st.lists(some_facts(), max_size=4, unique_by=lambda f: f.id).map(tuple),
    origin=TEXTS,
    sha256=TEXTS,
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
    observed=st.none() | st.lists(st.tuples(DAYS, DAYS), max_size=2).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, max_size=4, unique_by=lambda r: r.patient), st.integers(1, 8))
@pytest.mark.threat("D16")
def test_every_record_comes_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[PatientRecord], rows: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    back = there_and_back(records, path, rows=rows)
    assert [exactly(r) for r in back] == [exactly(r) for r in records]


def test_every_field_of_a_record_has_a_column() -> None:
    """A field that is added to a record must be added here, or it would be lost."""
    names = {c.name for c in COLUMNS if c.of != "derived"}
    of_facts = {f.name for f in fields(Fact)} - {"id"} | {"fact", "moment"}
    of_patients = {f.name for f in fields(PatientRecord)} - {"facts"}
    assert names == of_facts | of_patients
    assert schema().names == [c.name for c in COLUMNS]


def test_half_a_surrogate_costs_itself(tmp_path: Path) -> None:
    record = patient(
        "p", fact("f", source="a\ud800b", concepts=("\udcff",), axes=(("\udc00", "x"),))
    )
    (back,) = there_and_back([replace(record, origin="\udce9.ttl")], tmp_path / "f.parquet")
    (only,) = back.facts
    assert (only.source, only.concepts, only.axes) == ("a\ufffdb", ("\ufffd",), (("\ufffd", "x"),))
    assert back.origin == "\ufffd.ttl"
    assert back.findings == ()


# -- judged alike --------------------------------------------------------------------------------
STORIES = ("eligible", "anaemic", "fhir-missing-data", "course-skipped-level", "imprecise-date")


def test_the_table_is_judged_as_its_sources_are(
    kb: KnowledgeBase, trial: Trial, tmp_path: Path
) -> None:
    sources = [EXAMPLES / s for s in STORIES]
    omop = str(EXAMPLES / "omop-anaemic")
    records, problems = read_sources(sources, kb.reading_terms(trial))
    table = tmp_path / "f.parquet"
    write_facts([*records, *kb.omop_records(omop, trial, problems)], table)
    complete = ("conditions", "procedures")
    direct = kb.validate(*sources, omop=omop, complete=complete)
    through = kb.validate(table, complete=complete)
    assert len(through.assessments) == len(STORIES) + 1
    assert {a.verdict for a in through.assessments} >= {Verdict.ELIGIBLE, Verdict.INELIGIBLE}
    # Provenance included: a report names what the facts were taken from.
    same = replace(through, run_findings=direct.run_findings)
    assert render_json(same) == render_json(direct)
    (told,) = (f for f in through.run_findings if f not in direct.run_findings)
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    assert (told.code, told.severity, told.where) == ("DATA311", "info", str(table))
    assert digest in told.found
    assert f"{len(through.assessments)} patients" in told.found


# -- small records -------------------------------------------------------------------------------
DAY = parse_date("2024-02-21")


def fact(name: str, **given: Any) -> Fact:
    there = {
        "id": name,
        "kind": str(SARC.Measurement),
        "concepts": (str(SARC.Haemoglobin),),
        "value": Decimal("9.40"),
        "unit": "g/dL",
        "start": DAY,
        "end": DAY,
        "source": f"Observation/{name}",
    }
    return Fact(**there | given)


def patient(name: str, *facts: Fact, **given: Any) -> PatientRecord:
    facts = facts or (fact("a"), fact("b"))
    return PatientRecord(name, name, parse_date("2024-03-01"), facts, "o.ttl", "00", **given)


ANNA, BERT, CARL = patient("anna"), patient("bert"), patient("carl", *map(fact, "abcde"))


# -- row groups ----------------------------------------------------------------------------------
def test_row_groups_are_bounded_and_read_apart(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    people = [patient(f"p{n}", *(fact(str(i)) for i in range(n % 4))) for n in range(40)]
    people.insert(7, patient("large", *(fact(str(i)) for i in range(50))))
    written = write_facts(people, path, rows=10)
    assert (written.patients, written.broken, written.files) == (41, 0, 1)
    assert written.facts == sum(len(p.facts) for p in people)
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    assert sorted(sizes)[-1] == 51, "one patient is never parted"
    assert sorted(sizes)[-2] <= 10
    for group in range(file.num_row_groups):
        assert file.read_row_group(group, ["fact"]).column("fact")[0].as_py() is None
    table = FactsTable(path)
    assert table.row_groups == len(sizes) > 10
    assert list(table.patients()) == [p.patient for p in people]
    apart = [list(read_facts(path, row_groups=[g], repeated={})) for g in range(len(sizes))]
    assert [r for part in apart for r in part] == people
    assert list(read_facts(path, row_groups=range(2, 5))) == [r for p in apart[2:5] for r in p]


@pytest.mark.threat("B12")
def test_reading_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.parquet"
    write_facts((patient(f"p{n}") for n in range(30)), path, rows=6)
    read: list[int] = []
    group = FactsTable._group

    def noted(self: FactsTable, file: Any, number: int) -> Iterator[PatientRecord]:
        read.append(number)
        return group(self, file, number)

    monkeypatch.setattr(FactsTable, "_group", noted)
    records = read_facts(path)
    assert next(records).patient == "p0"
    assert read == [0], "nothing is read ahead of what is asked for"


@pytest.mark.threat("B12")
def test_writing_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    flush = facts_table._Rows.flush

    def noted(self: Any, *given: Any) -> None:
        waiting.append(self.count)
        flush(self, *given)

    monkeypatch.setattr(facts_table._Rows, "flush", noted)
    taken = 0

    def people() -> Iterator[PatientRecord]:
        nonlocal taken
        for taken in range(100):
            assert len(waiting) >= taken // 10 - 1, "records pile up"
            yield patient(f"p{taken}")

    write_facts(people(), tmp_path / "f.parquet", rows=30)
    assert taken == 99
    assert max(waiting) <= 30


def test_the_same_bytes_twice(examples: list[PatientRecord], tmp_path: Path) -> None:
    told = [Finding("DATA002", "error", "x.ttl", "broken", "why", "fix")]
    for name in "ab":
        write_facts(examples, tmp_path / name, rows=300, findings=told)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.threat("G3")
def test_a_table_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Iterator[PatientRecord]:
        yield ANNA
        raise InputError(Finding("DATA200", "error", "db", "gone", "why", "fix"))

    old = tmp_path / "old.parquet"
    old.write_bytes(b"older")
    for path in (tmp_path / "new.parquet", old):
        with pytest.raises(InputError):
            write_facts(failing(), path, rows=1)
    assert old.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["old.parquet"]
    with pytest.raises(OSError, match="No such file") as caught:
        write_facts([ANNA], tmp_path / "none" / "f.parquet")
    assert caught.value.filename == str(tmp_path / "none" / "f.parquet")


def test_findings_of_the_run_are_told_again(kb: KnowledgeBase, tmp_path: Path) -> None:
    told = [
        Finding("DATA002", "error", "x.ttl", "broken", "why", "fix"),
        Finding("DATA108", "info", "y.json", "a mark", "why", "fix"),
    ]
    path = tmp_path / "f.parquet"

    def people() -> Iterator[PatientRecord]:
        yield ANNA
        told.append(Finding("DATA212", "warning", "db", "said last", "why", "fix"))

    write_facts(people(), path, findings=told)
    problems: list[Finding] = []
    assert list(read_facts(path, problems=problems)) == [ANNA]
    assert problems == told
    assert len(told) == 3
    assert set(told) <= set(kb.validate(path).run_findings)
    with pytest.raises(InputError, match="broken"):
        list(read_facts(path))


# -- bad input: files ----------------------------------------------------------------------------
def changed(
    path: Path, change: Callable[[dict[str, list[Any]]], None], *people: PatientRecord
) -> Path:
    """Write a table, change its cells (column to list), and write them as one row group."""
    write_facts(people or (ANNA, BERT, CARL), path)
    table = pq.read_table(path)
    cells = table.to_pydict()
    change(cells)
    loose = pa.schema([f.with_nullable(True) for f in table.schema], table.schema.metadata)
    pq.write_table(pa.table(cells, loose), path)
    return path


def rewritten(path: Path, change: Callable[[Any], Any]) -> Path:
    """Write a table, and write it again as ``change`` makes it from the Arrow table."""
    write_facts([ANNA, BERT], path)
    pq.write_table(change(pq.read_table(path)), path)
    return path


def _metadata(**given: str) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        metadata = dict(table.schema.metadata) | {
            f"sarc-kb.{k}".encode(): v.encode() for k, v in given.items()
        }
        return table.replace_schema_metadata(metadata)

    return change


def _bytes(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_facts([ANNA, BERT], path)
        path.write_bytes(content(path.read_bytes()))

    return make


def _table(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda path: rewritten(path, change) and None


def _swap(name: str, kind: Any, values: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        column = pa.array(values(table.column(name).to_pylist()), kind)
        return table.set_column(table.schema.get_field_index(name), name, column)

    return change


FILES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "cut off": (_bytes(lambda b: b[:-20]), "DATA300", "not whole"),
    "cut in half": (_bytes(lambda b: b[: len(b) // 2]), "DATA300", "not whole"),
    "empty": (_bytes(lambda b: b""), "DATA300", "not whole"),
    "not Parquet": (_bytes(lambda b: b"patient,fact\nanna,a\n"), "DATA300", "not readable"),
    "a footer of noise": (
        _bytes(lambda b: b[:4] + b"\xff" * 64 + (64).to_bytes(4, "little") + b"PAR1"),
        "DATA300",
        "not readable",
    ),
    "a footer longer than the file": (
        _bytes(lambda b: b[:-8] + (2**31).to_bytes(4, "little") + b"PAR1"),
        "DATA300",
        "not readable",
    ),
    "a folder": (lambda path: path.mkdir(), "DATA000", "no file of a known kind"),
    "not there": (lambda path: None, "DATA300", "No such file"),
    "another table": (
        lambda path: pq.write_table(pa.table({"person_id": [1, 2]}), path),
        "DATA301",
        "no facts table",
    ),
    "no metadata": (
        _table(lambda t: t.replace_schema_metadata(None)),
        "DATA301",
        "no facts table",
    ),
    "another format": (_table(_metadata(format="x")), "DATA301", "no facts table"),
    "no version": (_table(_metadata(schema="one")), "DATA301", "no version"),
    "a newer version": (_table(_metadata(schema="2")), "DATA302", "version 2"),
    "version 0": (_table(_metadata(schema="0")), "DATA302", "version 0"),
    "no column": (_table(lambda t: t.drop_columns(["unit"])), "DATA303", "no column unit"),
    "a column twice": (
        _table(lambda t: t.append_column("unit", t.column("unit"))),
        "DATA303",
        "several columns unit",
    ),
    "numbers for text": (
        _table(_swap("value", pa.float64(), lambda v: [None if x is None else float(x) for x in v])),
        "DATA303",
        "column value of type double",
    ),
    "text for a list": (
        _table(_swap("concepts", pa.string(), lambda v: [None if x is None else x[0] for x in v])),
        "DATA303",
        "column concepts of type string",
    ),
    "other members": (
        _table(
            _swap(
                "axes",
                pa.list_(pa.struct([("axis", pa.string())])),
                lambda v: [None if x is None else [] for x in v],
            )
        ),
        "DATA303",
        "column axes of type",
    ),
    "nobody": (lambda path: write_facts([], path), "DATA000", "no patient"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_cannot_be_read(
    fault: str, kb: KnowledgeBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code, found = FILES[fault]
    path = tmp_path / "bad.parquet"
    make(path)
    if code != "DATA000":
        with pytest.raises(InputError) as caught:
            list(read_facts(path))
        assert [f.code for f in caught.value.findings] == [code]
    result = kb.validate(path, EXAMPLES / "eligible")
    (told,) = result.run_findings
    assert (told.code, told.severity, told.where) == (code, "error", str(path))
    assert found in told.found
    assert all((told.why, told.fix))
    assert [a.verdict for a in result.assessments] == [Verdict.ELIGIBLE], "the others go on"
    assert cli.main(["validate", "-q", str(path)]) == 2
    err = capsys.readouterr().err
    assert code in err
    assert "Traceback" not in err


def test_every_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_facts([ANNA], path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="DATA300"):
            list(read_facts(path))


def test_a_damaged_row_group_costs_its_patients(tmp_path: Path, kb: KnowledgeBase) -> None:
    path = tmp_path / "f.parquet"
    people = [patient(f"p{n}") for n in range(6)]

    def damage(column: str) -> None:
        """Overwrite a page of the second of three row groups."""
        write_facts(people, path, rows=6)
        chunks = pq.ParquetFile(path).metadata.row_group(1)
        (chunk,) = (
            c for i in range(chunks.num_columns) if (c := chunks.column(i)).path_in_schema == column
        )
        data = bytearray(path.read_bytes())
        last = chunk.data_page_offset + 40
        data[last : last + 8] = b"\xaa" * 8
        path.write_bytes(data)

    damage("source")
    back = list(read_facts(path, problems=[]))
    assert [r.patient for r in back] == [p.patient for p in people]
    assert [[f.code for f in r.findings] for r in back] == [
        [],
        [],
        ["DATA305"],
        ["DATA305"],
        [],
        [],
    ]
    assert back[2].facts == ()
    damage("patient")
    problems: list[Finding] = []
    back = list(read_facts(path, problems=problems))
    assert [r.patient for r in back] == ["p0", "p1", "p4", "p5"]
    assert [f.code for f in problems] == ["DATA305"]
    assert "row group 1" in problems[0].found
    result = kb.validate(path)
    assert len(result.assessments) == 4
    assert "DATA305" in {f.code for f in result.run_findings}


def test_text_that_is_no_utf_8(tmp_path: Path) -> None:
    def broken(name: str) -> Callable[[Any], Any]:
        def change(table: Any) -> Any:
            texts = [t and t.encode() + b"\xff" for t in table.column(name).to_pylist()]
            column = pa.array(texts, pa.binary()).view(pa.string())
            return table.set_column(table.schema.get_field_index(name), name, column)

        return change

    problems: list[Finding] = []
    back = list(read_facts(rewritten(tmp_path / "f.parquet", broken("unit")), problems=problems))
    assert [(r.patient, r.facts, r.findings[0].code) for r in back] == [
        ("anna", (), "DATA305"),
        ("bert", (), "DATA305"),
    ]
    assert problems == []
    path = rewritten(tmp_path / "f.parquet", broken("patient"))
    assert list(read_facts(path, problems=problems)) == []
    assert [f.code for f in problems] == ["DATA305"]


def test_noise_is_never_a_crash(tmp_path: Path) -> None:
    """Whatever bytes are changed: an error, or records."""
    path = tmp_path / "f.parquet"
    write_facts([ANNA, BERT, CARL], path, rows=4)
    whole = path.read_bytes()
    noise = random.Random(7)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(noise.randint(1, 4)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        path.write_bytes(data)
        try:
            list(read_facts(path, problems=[]))
        except InputError:
            refused += 1
    assert 0 < refused < 300


def test_columns_that_are_unknown_derived_or_of_another_width(tmp_path: Path) -> None:
    def change(table: Any) -> Any:
        derived = [c.name for c in COLUMNS if c.of == "derived"]
        table = table.drop_columns(derived).append_column("more", pa.nulls(len(table)))
        wide = {"text": pa.large_string(), "texts": pa.large_list(pa.large_string())}
        kinds = {c.name: wide[c.type] for c in COLUMNS if c.type in wide}
        names = [*reversed(table.column_names)]
        loose = pa.schema(
            [(n, kinds.get(n, table.schema.field(n).type)) for n in names], table.schema.metadata
        )
        return table.select(names).cast(loose)

    problems: list[Finding] = []
    path = rewritten(tmp_path / "f.parquet", change)
    assert list(read_facts(path, problems=problems)) == [ANNA, BERT]
    assert [(f.code, f.severity, f.found) for f in problems] == [
        ("DATA304", "warning", "column more")
    ]


def test_a_copy_that_duckdb_made_is_read(examples: list[PatientRecord], tmp_path: Path) -> None:
    write_facts(examples, tmp_path / "f.parquet")
    duckdb.sql(
        f"COPY (SELECT * FROM '{tmp_path}/f.parquet') TO '{tmp_path}/g.parquet' "
        "(FORMAT parquet, KV_METADATA {'sarc-kb.format': 'sarc-kb facts', 'sarc-kb.schema': '1'})"
    )
    assert list(read_facts(tmp_path / "g.parquet")) == examples


# -- bad input: rows -----------------------------------------------------------------------------
# ANNA has rows 1 to 3, BERT 4 to 6, CARL 7 to 12.
def cell(column: str, row: int, value: Any) -> Callable[[dict[str, list[Any]]], None]:
    def change(cells: dict[str, list[Any]]) -> None:
        cells[column][row - 1] = value

    return change


INCOMPLETE = {"code": "X", "severity": "error", "where": "w", "found": None, "why": "y", "fix": "z"}
ROWS: dict[str, tuple[Callable[[dict[str, list[Any]]], None], str, int, str]] = {
    "a date that is none": (cell("start", 5, "2024-02-30"), "DATA321", 5, "start cannot be read"),
    "another end": (cell("end", 5, "2024-02-22"), "DATA321", 5, "moment"),
    "no end": (cell("end", 5, None), "DATA321", 5, "moment"),
    "a recorded date that is none": (cell("recorded", 6, "soon"), "DATA321", 6, "recorded"),
    "words for a number": (cell("value", 5, "high"), "DATA321", 5, "value is no number"),
    "NaN": (cell("value", 5, "NaN"), "DATA321", 5, "value is no number"),
    "a number of Python": (cell("value", 5, "1_000"), "DATA321", 5, "value is no number"),
    "a space": (cell("value", 5, " 9.4"), "DATA321", 5, "value is no number"),
    "a number beyond use": (cell("upper_limit", 5, "1E9999999"), "DATA321", 5, "upper_limit"),
    "very many digits": (cell("value", 5, "9" * 5000), "DATA321", 5, "value is no number"),
    "a comparator that is none": (cell("comparator", 5, "~"), "DATA321", 5, "comparator"),
    "a kind that is none": (cell("kind", 5, str(SARC.Mesurement)), "DATA321", 5, "kind"),
    "no source": (cell("source", 5, None), "DATA321", 5, "source is empty"),
    "no concepts": (cell("concepts", 5, None), "DATA321", 5, "concepts is empty"),
    "an empty concept": (cell("concepts", 5, ["x", None]), "DATA321", 5, "concepts holds"),
    "an empty value concept": (cell("value_concepts", 5, [None]), "DATA321", 5, "value_concepts"),
    "an empty axis": (cell("axes", 5, [None]), "DATA321", 5, "axes holds"),
    "half an axis": (cell("axes", 5, [{"axis": "a", "term": None}]), "DATA321", 5, "axes holds"),
    "no moment": (cell("moment", 5, None), "DATA321", 5, "moment is empty"),
    "one fact twice": (cell("fact", 6, "a"), "DATA321", 6, "name of another fact"),
    "an entry in a fact": (cell("entry", 5, "2024-03-01"), "DATA321", 5, "entry in the row"),
    "a value in the patient's row": (cell("value", 4, "9"), "DATA322", 4, "value in the row"),
    "concepts in the patient's row": (cell("concepts", 4, []), "DATA322", 4, "concepts in the row"),
    "an entry that is no date": (cell("entry", 4, "2024-13-01"), "DATA322", 4, "entry cannot"),
    "no label": (cell("label", 4, None), "DATA322", 4, "label is empty"),
    "no hash": (cell("sha256", 4, None), "DATA322", 4, "sha256 is empty"),
    "no findings": (cell("findings", 4, None), "DATA322", 4, "findings is empty"),
    "half a finding": (cell("findings", 4, [INCOMPLETE]), "DATA322", 4, "findings holds"),
    "no finding": (cell("findings", 4, [None]), "DATA322", 4, "findings holds"),
    "a severity that is none": (
        cell("findings", 4, [INCOMPLETE | {"found": "f", "severity": "mild"}]),
        "DATA322",
        4,
        "findings holds",
    ),
    "a label of nothing": (cell("labels", 4, [("x", None)]), "DATA322", 4, "labels holds"),
    "two labels": (cell("labels", 4, [("x", "y"), ("x", "z")]), "DATA322", 4, "a code twice"),
    "half a period": (cell("observed", 4, [{"first": 1, "last": None}]), "DATA322", 4, "observed"),
    "no period": (cell("observed", 4, [None]), "DATA322", 4, "observed"),
    "a fact of nobody": (cell("patient", 5, None), "DATA320", 5, "a row without a patient"),
    "no row of the patient": (cell("fact", 4, "x"), "DATA320", 4, "not behind its patient's row"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ROWS)
def test_a_bad_row_costs_its_patient(fault: str, kb: KnowledgeBase, tmp_path: Path) -> None:
    change, code, row, found = ROWS[fault]
    path = changed(tmp_path / "f.parquet", change)
    back = list(read_facts(path))
    assert [r.patient for r in back] == ["anna", "bert", "carl"]
    assert (back[0], back[2]) == (ANNA, CARL)
    told = back[1].findings[0]
    assert (told.code, told.severity, told.where) == (code, "error", f"{path} row {row}")
    assert found in told.found
    assert all((told.why, told.fix))
    result = kb.validate(path)
    assert [a.verdict is Verdict.ERROR for a in result.assessments] == [False, True, False]
    assert not [f for f in result.run_findings if f.severity != "info"]


def test_the_readable_facts_beside_a_bad_row_are_kept(tmp_path: Path) -> None:
    path = changed(tmp_path / "f.parquet", cell("value", 5, "high"))
    assert list(read_facts(path))[1].facts == BERT.facts[1:]


def test_a_bad_cell_is_never_repeated(tmp_path: Path) -> None:
    path = changed(tmp_path / "f.parquet", cell("value", 5, "Frau Müller"))
    assert "Müller" not in str(list(read_facts(path))[1].findings)


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    many = patient("many", *(fact(str(n)) for n in range(50)))

    def change(cells: dict[str, list[Any]]) -> None:
        cells["value"] = [v and "x" for v in cells["value"]]

    (back,) = read_facts(changed(tmp_path / "f.parquet", change, many))
    assert len(back.findings) == 21
    assert "30 more rows" in back.findings[-1].found


def test_too_many_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_rows, "MAX_FACTS", 3)
    back = there_and_back([ANNA, CARL], tmp_path / "f.parquet")
    assert back[0] == ANNA
    assert len(back[1].facts) == 3
    assert [f.code for f in back[1].findings] == ["DATA323"]


def test_one_long_text_in_every_row_is_read_by_few_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_table, "_BATCH_BYTES", 60_000)
    long = patient("p", *(fact(str(n), source="x" * 60_000) for n in range(20)))
    path = tmp_path / "f.parquet"
    assert there_and_back([ANNA, long], path) == [ANNA, long]
    assert FactsTable(path)._batches == [1]


def test_a_row_of_nobody_before_all_others(kb: KnowledgeBase, tmp_path: Path) -> None:
    path = changed(tmp_path / "f.parquet", cell("patient", 1, None))
    problems: list[Finding] = []
    back = list(read_facts(path, problems=problems))
    assert [r.patient for r in back] == ["anna", "bert", "carl"]
    assert [f.code for f in back[0].findings] == ["DATA320"]
    assert back[1:] == [BERT, CARL]
    assert [(f.code, f.where) for f in problems] == [("DATA306", f"{path} row 1")]
    assert "DATA306" in {f.code for f in kb.validate(path).run_findings}


def test_facts_of_one_patient_that_stand_apart(kb: KnowledgeBase, tmp_path: Path) -> None:
    """The record that lacks them must not be judged either."""

    def change(cells: dict[str, list[Any]]) -> None:
        for column in cells.values():
            column.append(column.pop(2))  # anna's last fact goes behind carl's

    path = changed(tmp_path / "f.parquet", change)
    back = list(read_facts(path))
    assert [r.patient for r in back] == ["anna", "bert", "carl", "anna"]
    assert back[1:3] == [BERT, CARL]
    assert [[f.code for f in r.findings] for r in (back[0], back[3])] == [
        ["DATA003"],
        ["DATA320", "DATA003"],
    ]
    verdicts = [a.verdict is Verdict.ERROR for a in kb.validate(path).assessments]
    assert verdicts == [True, False, False, True]


def test_a_patient_parted_by_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_facts([ANNA, CARL], path)
    pq.write_table(pq.read_table(path), path, row_group_size=5)
    back = list(read_facts(path))
    assert [r.patient for r in back] == ["anna", "carl", "carl"]
    assert back[0] == ANNA
    assert all("DATA003" in {f.code for f in r.findings} for r in back[1:])
    # Whoever reads one row group knows it from the names that are told.
    twice = FactsTable(path).repeated()
    assert twice == {"carl": 2}
    (only,) = read_facts(path, row_groups=[1], repeated=twice)
    assert [f.code for f in only.findings] == ["DATA320", "DATA003"]


def test_a_patient_who_stands_twice(kb: KnowledgeBase, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    back = there_and_back([ANNA, BERT, ANNA], path)
    assert [[f.code for f in r.findings] for r in back] == [["DATA003"], [], ["DATA003"]]
    assert FactsTable(path).repeated() == {"anna": 2}
    # What was told of it before is not told again, so that it comes back as it was written.
    assert there_and_back(back, tmp_path / "g.parquet") == back
    verdicts = [a.verdict is Verdict.ERROR for a in kb.validate(path).assessments]
    assert verdicts == [True, False, True]


def test_a_patient_in_a_table_and_in_a_graph(
    kb: KnowledgeBase, trial: Trial, tmp_path: Path
) -> None:
    story = EXAMPLES / "eligible"
    records, _ = read_sources([story], kb.reading_terms(trial))
    write_facts(records, tmp_path / "f.parquet")
    result = kb.validate(story, tmp_path / "f.parquet")
    assert [a.verdict for a in result.assessments] == [Verdict.ERROR, Verdict.ERROR]
    (told,) = {a.error.found for a in result.assessments if a.error}
    assert str(tmp_path / "f.parquet") in told
    assert "patient.ttl" in told


# -- folders, and the extra ----------------------------------------------------------------------
def test_a_folder_with_tables_of_others(
    kb: KnowledgeBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_facts([ANNA], tmp_path / "facts.parquet")
    (tmp_path / "p.ttl").write_bytes((EXAMPLES / "eligible" / "patient.ttl").read_bytes())
    (tmp_path / "cdm").mkdir()
    for name in ("person", "measurement", "death", "observation"):
        pq.write_table(pa.table({"person_id": [1]}), tmp_path / "cdm" / f"{name}.parquet")
    result = kb.validate(tmp_path)
    assert [a.patient for a in result.assessments] == ["anna", "sarc-example-01"]
    told, _ = sorted(result.run_findings, key=lambda f: f.code)
    assert (told.code, told.severity, told.where) == ("DATA310", "warning", str(tmp_path))
    assert "4 Parquet files" in told.found
    assert "(death.parquet, measurement.parquet, observation.parquet, …)" in told.found
    assert "--omop" in told.fix
    # A table that may be ours, but is broken, is an error.
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    codes = {f.code: f.severity for f in kb.validate(tmp_path).run_findings}
    assert codes == {"DATA300": "error", "DATA310": "warning", "DATA311": "info"}
    # Nothing else in it: nobody was judged.
    assert cli.main(["validate", str(tmp_path / "cdm")]) == 2
    assert "no file of a known kind" in capsys.readouterr().err


def test_a_packed_table_and_one_on_standard_input(
    kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip
    import io

    write_facts([ANNA], tmp_path / "f.parquet")
    data = (tmp_path / "f.parquet").read_bytes()
    (tmp_path / "f.parquet.gz").write_bytes(gzip.compress(data))
    (told,) = kb.validate(tmp_path / "f.parquet.gz").run_findings
    assert (told.code, told.found) == ("DATA002", "unknown ending .gz")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    (told,) = kb.validate("-").run_findings
    assert (told.code, told.found) == ("DATA002", "Parquet")


def test_what_kind_of_parquet_a_file_is(tmp_path: Path) -> None:
    write_facts([], tmp_path / "ours.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    (tmp_path / "short.parquet").write_bytes(b"PAR1")
    assert holds_facts(tmp_path / "ours.parquet")
    assert not holds_facts(tmp_path / "other.parquet")
    assert holds_facts(tmp_path / "short.parquet"), "opening it tells what is wrong"
    assert holds_facts(tmp_path / "nothing.parquet")


def test_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.parquet"
    write_facts([ANNA], path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    for name in [m for m in sys.modules if m.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for run in (lambda: list(read_facts(path)), lambda: write_facts([ANNA], tmp_path / "g")):
        with pytest.raises(UsageError, match=r"sarc-kb\[cohort\]"):
            run()
    story = str(EXAMPLES / "eligible")
    for arguments in (["validate", str(path)], ["validate", story, str(tmp_path)],
                      ["facts", story, "-o", str(tmp_path / "g")]):  # fmt: skip
        assert cli.main(arguments) == 2
        err = capsys.readouterr().err
        assert "USE030" in err
        assert "pip install 'sarc-kb[cohort]'" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.parquet", "other.parquet"]
    # A folder with tables of others needs nothing.
    path.unlink()
    assert cli.main(["validate", "-q", story, str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "ELIGIBLE" in out
    assert "USE030" not in err


# -- the command line ----------------------------------------------------------------------------
def test_the_command(
    tmp_path: Path, kb: KnowledgeBase, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    stories = [str(EXAMPLES / s) for s in ("eligible", "fhir-anaemic")]
    table = str(tmp_path / "facts.parquet")
    omop = ["--omop", str(EXAMPLES / "omop-anaemic")]
    assert cli.main(["facts", *stories, *omop, "-o", table]) == 0
    out, err = capsys.readouterr()
    records = list(read_facts(table))
    facts = sum(len(r.facts) for r in records)
    assert out == f"{table}: {len(records)} patients, {facts} facts, 3 sources\n"
    assert err == ""
    assert cli.main(["validate", *stories, *omop, "--format", "json"]) == 1
    direct = json.loads(capsys.readouterr().out)
    assert cli.main(["validate", table, "--format", "json"]) == 1
    through = json.loads(capsys.readouterr().out)
    assert through["assessments"] == direct["assessments"]
    # A table of a table is the same table, but for what is told of the run.
    again = str(tmp_path / "again.parquet")
    assert cli.main(["facts", table, "-o", again]) == 0
    assert list(read_facts(again)) == records
    for command in (["readiness", table], ["map", table]):
        assert cli.main(command) == 0
    for story in ("eligible", "fhir-anaemic"):
        one = str(tmp_path / f"{story}.parquet")
        assert cli.main(["facts", str(EXAMPLES / story), "-o", one]) == 0
        capsys.readouterr()
        (source,) = (EXAMPLES / story).glob("[pb]*.*")
        prepared = []
        for file in (str(source), one):
            assert cli.main(["prepare", file]) == 0
            prepared.append(capsys.readouterr().out)
        assert prepared[0] == prepared[1]


def test_what_the_command_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "facts.parquet"
    (tmp_path / "broken.ttl").write_text("nonsense")
    story = str(EXAMPLES / "eligible")
    assert cli.main(["facts", story, str(tmp_path / "broken.ttl"), "-o", str(table)]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"{table}: 1 patient, ")
    assert out.endswith(" facts, 1 source\n")
    assert "DATA002" in err
    # Whoever reads the table learns of it too.
    assert cli.main(["validate", "-q", str(table)]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("ELIGIBLE")
    assert "broken.ttl" in err
    # A record with an error is kept, and counted.
    twice = [str(EXAMPLES / "eligible" / "patient.ttl")] * 2
    assert cli.main(["facts", *twice, "-o", str(table)]) == 0
    assert "2 patients (2 with an error)" in capsys.readouterr().out
    assert [[f.code for f in r.findings] for r in read_facts(table)] == [["DATA003"]] * 2
    assert cli.main(["facts", str(tmp_path / "broken.ttl"), "-o", str(table)]) == 2
    assert "0 patients" in capsys.readouterr().out
    assert cli.main(["facts", "-o", str(table)]) == 2
    assert "USE031" in capsys.readouterr().err
    assert cli.main(["facts", story, "-o", str(tmp_path / "none" / "f.parquet")]) == 2
    assert "USE020" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["facts", story])


def test_entry_dates_of_options(tmp_path: Path) -> None:
    table = tmp_path / "facts.parquet"
    graph = tmp_path / "p.ttl"
    graph.write_text(f"<urn:x:p> a <{SARC.Patient}> ; <{SARC.identifier}> 'p' .\n")
    (tmp_path / "e.csv").write_text("patient,date\np,2024-05-06\n")
    for options, day in (
        ([], None),
        (["--entry-date", "2024-03-01"], "2024-03-01"),
        (["--entry-dates", str(tmp_path / "e.csv")], "2024-05-06"),
    ):
        assert cli.main(["facts", str(graph), "-o", str(table), *options]) == 0
        (record,) = read_facts(table)
        assert record.entry == (day and parse_date(day))
    assert isinstance(record.entry, PartialDate)


# -- the page ------------------------------------------------------------------------------------
def test_the_page_lists_every_column() -> None:
    words = {
        "text": "text",
        "texts": "list of text",
        "axes": "list of (axis, term)",
        "findings": "list of (code, severity, where, found, why, fix)",
        "labels": "map of text to text",
        "days": "list of (first, last)",
        "truth": "boolean",
        "number": "double",
        "day": "date",
    }
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (\w+) \| [^|]+ \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(c.name, words[c.type], c.of) for c in COLUMNS]
    assert "facts-table.md" in (ROOT / "docs" / "data-model.md").read_text(encoding="utf-8")


def test_the_query_of_the_page(
    examples: list[PatientRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    write_facts(examples, tmp_path / "facts.parquet")
    monkeypatch.chdir(tmp_path)
    rows = duckdb.sql(query).fetchall()
    expected = []
    for record in examples:
        counts = [
            f
            for f in record.facts
            if str(SARC.Haemoglobin) in f.concepts and f.unit == "g/dL" and f.value is not None
        ]
        last = max(counts, key=lambda f: f.start.first if f.start else 0, default=None)
        if last is not None and last.value is not None and last.value < 9:
            expected.append((record.patient, str(last.value), "g/dL", last.start.text))
    assert [(p, value, unit, str(day)) for p, value, unit, day in rows] == sorted(expected)
    assert len(rows) >= 2


def test_derived_columns_say_what_they_are_derived_from(
    examples: list[PatientRecord], tmp_path: Path
) -> None:
    write_facts(examples, tmp_path / "f.parquet")
    rows = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert sum(r["start_first"] is not None for r in rows) > 100
    for row in rows:
        number = None if row["value"] is None else float(row["value"])
        assert row["value_number"] == number
        for name in ("start", "end"):
            day = None if row[name] is None else parse_date(row[name])
            ordinals = [row[f"{name}_{which}"] for which in ("first", "last")]
            assert [d and d.toordinal() for d in ordinals] == (
                [None, None] if day is None else [day.first, day.last]
            )
