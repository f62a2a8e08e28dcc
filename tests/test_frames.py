"""Tables in, tables out: what `KnowledgeBase.screen` and `validate` make of tables in memory."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sarc_kb import KnowledgeBase, UsageError, Verdict, cli
from sarc_kb.assessment import Assessment
from sarc_kb.errors import Finding
from sarc_kb.facts import PatientRecord
from sarc_kb.sources.facts_frame import read_frame

pa = pytest.importorskip("pyarrow", reason="the extra cohort is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")
pl = pytest.importorskip("polars", reason="polars is not installed")

import duckdb  # noqa: E402 - after the packages that are an extra
import pyarrow.parquet as pq  # noqa: E402

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
HB = "http://loinc.org/718-7"
STORIES = ("anaemic", "course-skipped-level", "missing-data", "local-codes")


@pytest.fixture(scope="module")
def written(kb: KnowledgeBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "facts.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))
        stories = [str(EXAMPLES / name) for name in STORIES]
        assert cli.main(["facts", *stories, "--output", str(path)]) == 0
    return path


def frame(**columns: list[Any]) -> Any:
    """Two rows of one patient."""
    told: dict[str, list[Any]] = {
        "patient": ["A", "A"],
        "entry": ["2024-03-01", "2024-03-01"],
        "concepts": [HB, HB],
        "value": [8.6, 9.4],
        "unit": ["g/dL", "g/dL"],
        "date": ["2024-02-26", "2024-02-20"],
    }
    return pd.DataFrame({k: v for k, v in {**told, **columns}.items() if v is not None})


def read(table: Any) -> tuple[list[PatientRecord], list[Finding]]:
    problems: list[Finding] = []
    return read_frame(table, "table", problems), problems


def haemoglobin(a: Assessment) -> tuple[str, list[str | None]]:
    (clause,) = (c for part in a.criteria for c in part.clauses if c.id == "I07a")
    return clause.outcome.word, [e.value for e in clause.evidence]


# -- a facts table through every library ---------------------------------------------------------
LIBRARIES: dict[str, Callable[[Path], Any]] = {
    "pyarrow": pq.read_table,
    "pandas": pd.read_parquet,
    "pandas on Arrow": lambda path: pd.read_parquet(path, dtype_backend="pyarrow"),
    "polars": pl.read_parquet,
    "duckdb": lambda path: duckdb.sql(f"FROM '{path}'").to_arrow_table(),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_facts_table_gives_the_records_that_were_written(library: str, written: Path) -> None:
    from sarc_kb.sources.facts_table import read_facts

    found, problems = read(LIBRARIES[library](written))
    assert problems == []
    assert len(found) == len(STORIES)
    assert found == list(read_facts(written))


# -- a row a fact --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "as_table", [lambda f: f, pl.from_pandas, pa.table], ids=["pandas", "polars", "pyarrow"]
)
def test_a_row_is_a_fact(kb: KnowledgeBase, as_table: Callable[[Any], Any]) -> None:
    table = frame(
        patient=["A", "B"],
        value=[8.6, 9.0],
        date=list(pd.to_datetime(["2024-02-26", "2024-02-20"])),
    )
    result = kb.validate(as_table(table), only="eligibility")
    assert result.run_findings == ()
    assert [a.patient for a in result.assessments] == ["A", "B"]
    # 9 g/dL is the limit, and inside.
    assert [haemoglobin(a) for a in result.assessments] == [("fail", ["8.6"]), ("pass", ["9"])]
    assert [a.verdict for a in result.assessments] == [Verdict.INELIGIBLE, Verdict.UNDETERMINED]
    hashes = {read(table)[0][0].sha256, read(pl.from_pandas(table))[0][0].sha256}
    assert hashes == {result.assessments[0].provenance.input_sha256}


def test_rows_of_a_patient_may_stand_anywhere() -> None:
    table = pd.concat([frame(), frame(patient=["B", "B"])]).iloc[[0, 2, 1, 3]]
    (a, b), problems = read(table)
    assert problems == []  # the index that this leaves behind is no column
    assert (a.patient, b.patient) == ("A", "B")
    assert [f.source for f in a.facts] == ["table row 1", "table row 3"]


def test_types_of_the_table() -> None:
    exact = pa.table(
        {
            "patient": pa.array([7], pa.int64()),
            "entry": pa.array(["2024-03-01"]).dictionary_encode(),
            "concepts": pa.array([[HB, "urn:x"]]),
            "value": pa.array([Decimal("8.60")], pa.decimal128(5, 2)),
            "upper_limit": pa.array([0.1], pa.float32()),
            "start": pa.array([1_709_000_000], pa.timestamp("s", "UTC")),
            "recorded": pa.array([19_779], pa.date32()),
        }
    )
    ((record,), problems) = read(exact)
    (fact,) = record.facts
    assert (record.patient, record.entry.text, problems) == ("7", "2024-03-01", [])
    assert fact.concepts == (HB, "urn:x")
    assert (str(fact.value), str(fact.upper_limit)) == ("8.60", "0.1")
    assert fact.start.text == "2024-02-27T02:13:20+00:00"
    assert fact.recorded.text == "2024-02-26"
    assert fact.end is None


def test_a_date_is_one_moment_and_a_start_is_not() -> None:
    ((record,), _) = read(frame())
    assert all(f.start is f.end is not None for f in record.facts)
    ((record,), _) = read(frame(date=None, start=["2024-02-26", "2024-02-20"]))
    assert [(f.start.text, f.end) for f in record.facts] == [
        ("2024-02-26", None),
        ("2024-02-20", None),
    ]


# -- what is wrong with a table ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("columns", "code", "found"),
    [
        ({"patient": None}, "DATA307", "no column patient"),
        ({"concepts": None}, "DATA307", "no column concepts"),
        ({"value": [True, False]}, "DATA307", "column value of type bool"),
        ({"patient": [1.0, 2.0]}, "DATA307", "column patient of type double"),
        ({"unit": [{"a": "g"}, None]}, "DATA307", "column unit of type struct<a: "),
        ({"value": [8.6, "high"]}, "DATA300", "not readable as an Arrow table"),
    ],
)
def test_a_table_that_cannot_be_read(
    kb: KnowledgeBase, columns: dict[str, Any], code: str, found: str
) -> None:
    result = kb.validate(frame(**columns))
    assert result.assessments == ()
    (told,) = result.run_findings
    assert (told.code, told.severity, told.where) == (code, "error", "table in memory")
    assert found in told.found
    assert "high" not in str(told)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"entry": ["2024-03-01", "2024-03-02"]}, "entry cannot be read"),
        ({"value": ["8.6", "?"]}, "value is no number"),
        ({"date": ["2024-02-26", "yesterday"]}, "start cannot be read"),
    ],
)
def test_a_row_with_a_fault_costs_its_patient_alone(
    kb: KnowledgeBase, columns: dict[str, Any], found: str
) -> None:
    result = kb.validate(pa.table(frame(**columns)), frame(patient=["B", "B"]))
    a, b = result.assessments
    assert (a.verdict, b.verdict) == (Verdict.ERROR, Verdict.INELIGIBLE)
    assert found in a.error.found
    assert a.error.where.startswith("table 1 in memory row ")


def test_what_belongs_to_nobody_is_told(kb: KnowledgeBase) -> None:
    result = kb.validate(frame(patient=["A", None], colour=["red", "red"]))
    assert [(f.code, f.where, f.found) for f in result.run_findings] == [
        ("DATA304", "table in memory", "column colour"),
        ("DATA306", "table in memory row 2", "a row without a patient"),
    ]
    twice = kb.validate(frame(), frame())
    assert [a.error.code for a in twice.assessments] == ["DATA003", "DATA003"]


# -- tables out ----------------------------------------------------------------------------------
def test_the_answers_are_those_of_the_command(
    kb: KnowledgeBase, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))
    out = tmp_path / "out"
    options = ["--complete", "conditions", "--attest", "I11=true", "--workers", "1"]
    assert cli.main(["screen", str(written), *options, "--output", str(out)]) == 0
    found = kb.screen(pl.read_parquet(written), complete=["conditions"], attested={"I11": "true"})
    assert found.patients.equals(pq.read_table(out / "patients.parquet"))
    assert found.clauses.equals(pq.read_table(out / "clauses.parquet"))
    assert found.summary["patients"] == len(STORIES)
    assert found.findings == ()
    # By the examples' own expectations, written by hand.
    with (EXAMPLES / "anaemic" / "expected.csv").open(encoding="utf-8") as handle:
        rows = [r for r in csv.DictReader(handle) if r["what"] == "criterion"]
    fails = " ".join(row["id"] for row in rows if row["outcome"] == "fail")
    first = found.patients.to_pylist()[0]
    assert (first["patient"], first["failed"]) == ("sarc-example-02", fails)


def test_a_changed_limit_is_told(kb: KnowledgeBase, written: Path) -> None:
    found = kb.screen(written, relaxed={"I07a:atLeast": "8.0"}, only="eligibility")
    assert found.patients.to_pylist()[0]["verdict"] == "eligible"
    (trial,) = found.summary["trials"]
    assert [c for c in trial["changed"] if "I07a" in c and "8.0" in c]


def test_nobody_is_an_error(kb: KnowledgeBase) -> None:
    with pytest.raises(UsageError, match="USE051"):
        kb.screen(frame().iloc[:0])
    with pytest.raises(UsageError, match="USE008"):
        kb.screen(frame(), complete=["everything"])


INSIDE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from sarc_kb import KnowledgeBase

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
spark.conf.set("spark.sql.shuffle.partitions", "3")
spark.range(4).createOrReplaceTempView("facts")
table = pq.read_table(sys.argv[1])
kb = KnowledgeBase.load()
assert kb.screen(table, engine="spark").patients == kb.screen(table).patients
assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
assert spark.conf.get("spark.sql.shuffle.partitions") == "3"
assert spark.sql("select * from facts").count() == 4
assert [t.name for t in spark.catalog.listTables()] == ["facts"]
print("as it was")
"""


@pytest.mark.slow
@pytest.mark.java
def test_a_session_of_spark_goes_on_as_it_was(written: Path) -> None:
    pytest.importorskip("pyspark", reason="the extra spark is not installed")
    if shutil.which("java") is None:
        pytest.skip("no Java on the PATH")
    ran = subprocess.run(
        [sys.executable, "-c", INSIDE, str(written)], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "as it was\n", ran.stderr[-2000:]
