"""Workbooks: read back by openpyxl, nothing in them is a formula, the same bytes every time."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from openpyxl import load_workbook

from sarc_kb import cli
from sarc_kb.assessment import AssessmentSet
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports import workbook
from sarc_kb.reports.workbook import Workbook
from sarc_kb.reports.xlsx_report import render_xlsx
from tests.test_reports import ANNA, ANYTHING, STORY, TREATED, often

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(1)", "=cmd|' /C calc'!A0", "{=1}", "\t=1", "https://example.org", "007", "1e5")  # fmt: skip


def sheets(data: bytes) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every sheet, the head first."""
    book = load_workbook(io.BytesIO(data))
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book}


def records(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_a_workbook_by_hand() -> None:
    found = sheets(render_xlsx(STORY))
    assert list(found) == [
        *("patients", "criteria", "clauses", "next steps", "treatment", "course", "findings"),
        "about",
    ]
    anna, bob, carla = records(found["patients"])
    assert (anna["verdict"], anna["fails"], anna["undetermined"]) == (
        "ineligible",
        "I07; I11",
        None,
    )
    assert (bob["verdict"], bob["entry date"]) == ("error", None)
    assert carla["in words"] == "All 1 criteria pass."
    low = records(found["clauses"])[0]
    assert (low["clause"], low["outcome"], low["decides"]) == ("I07a", "fail", "yes")
    assert (low["value"], low["date"], low["source"]) == (
        "8.60 g/dL",
        "2024-02-21",
        "Observation/hb-2",
    )
    assert records(found["findings"])[2]["code"] == "DATA001"
    assert ("anna", "policy laboratory-look-back", "14") in found["about"]


def test_a_course_is_a_sheet() -> None:
    found = sheets(render_xlsx(TREATED))
    assert [r["outcome"] for r in records(found["treatment"])] == [
        *("deviation", "violation", "permitted"),
    ]
    dose = records(found["course"])[1]
    assert (dose["days"], dose["day"], dose["times"]) == ("2024-03-29 – 2024-04-11", 1, 14)


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.threat("F5")
def test_a_text_is_never_a_formula_a_link_or_a_number(text: str) -> None:
    bad = replace(ANNA, patient=text, to_decide=(text,))
    book = load_workbook(io.BytesIO(render_xlsx(replace(STORY, assessments=(bad,)))))
    cell = book["patients"]["A2"]
    assert cell.data_type == "s"
    assert cell.value == text.replace("\t", "\\t")
    assert cell.hyperlink is None
    assert not [c for sheet in book for row in sheet for c in row if c.data_type == "f"]


@settings(often, max_examples=20)
@given(ANYTHING)
def test_any_assessment_is_written(result: AssessmentSet) -> None:
    data = render_xlsx(result)
    assert render_xlsx(result) == data
    found = sheets(data)
    assert len(found["patients"]) == 1 + len(result.assessments)
    assert len(found["criteria"]) == 1 + sum(len(a.criteria) for a in result.assessments)


def test_a_long_text_is_cut_and_says_so() -> None:
    stream = io.BytesIO()
    with Workbook(stream) as book:
        book.sheet("long", ("text",), [("x" * 40_000,)])
    text = sheets(stream.getvalue())["long"][1][0]
    assert len(text) == 32_767
    assert text.endswith("x…")


def test_more_rows_than_a_sheet_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 3)
    stream = io.BytesIO()
    with pytest.raises(UsageError, match="USE092 sheet many: more than 2 rows"), Workbook(stream) as book:  # fmt: skip
        book.sheet("many", ("number",), ([n] for n in range(3)))
    assert stream.getvalue() == b""
    with Workbook(stream) as book:
        book.sheet("few", ("number",), ([n] for n in range(2)))
    assert len(sheets(stream.getvalue())["few"]) == 3


def test_without_the_extra_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workbook, "find_spec", lambda _: None)
    given = [str(EXAMPLES / "anaemic"), "--format", "xlsx", "-o", str(tmp_path / "out")]
    assert cli.main(["validate", *given]) == 2
    assert cli.main(["screen", *given]) == 2
    assert capsys.readouterr().err.count("pip install 'sarc-kb[xlsx]'") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_outcomes_are_those_of_the_example(kb: KnowledgeBase) -> None:
    found = sheets(render_xlsx(kb.validate(EXAMPLES / "anaemic", EXAMPLES / "course-vague")))
    told = {(r["patient"], r["criterion"]): r["outcome"] for r in records(found["criteria"])}
    with (EXAMPLES / "anaemic" / "expected.csv").open(encoding="utf-8", newline="") as table:
        expected = [r for r in csv.DictReader(table) if r["what"] == "criterion"]
    assert len(expected) == 30
    for row in expected:
        assert told["sarc-example-02", row["id"]] == row["outcome"]


def test_a_screening_is_one_workbook_whatever_the_workers(tmp_path: Path) -> None:
    names = ["anaemic", "eligible", "missing-data", "course-skipped-level"]
    stories = [str(EXAMPLES / name) for name in names]
    made = []
    for workers in ("1", "2"):
        folder = tmp_path / workers
        given = ["--format", "xlsx", "-o", str(folder), "--workers", workers]
        assert cli.main(["screen", *stories, *given]) == 0
        written = {p.name for p in folder.iterdir()}
        assert written == {"screened.xlsx", "summary.json", "summary.html"}
        made.append((folder / "screened.xlsx").read_bytes())
    assert made[0] == made[1]
    found = sheets(made[0])
    assert list(found) == ["patients", "clauses"]
    verdicts = [(r["patient"], r["verdict"]) for r in records(found["patients"])]
    assert sorted(verdicts) == [
        ("sarc-example-01", "eligible"),
        ("sarc-example-02", "ineligible"),
        ("sarc-example-03", "undetermined"),
        ("sarc-example-28", "eligible"),
    ]
    low = [r for r in records(found["clauses"]) if r["clause"] == "I07a"]
    assert [r["outcome"] for r in low if r["patient"] == "sarc-example-02"] == ["fail"]
