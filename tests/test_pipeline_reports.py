"""JUnit XML and Markdown: what readers that we did not write make of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import junitparser
import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sarc_kb.assessment import AssessmentSet, TreatmentOutcome, Verdict
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports.junit_report import render_junit
from sarc_kb.reports.markdown_report import escaped, render_markdown
from tests.test_reports import (
    ALONE,
    ANNA,
    ANYTHING,
    BOB,
    COURSE,
    HOSTILE,
    LATE,
    STORY,
    TREATED,
    harmless,
    often,
)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MARKDOWN = MarkdownIt("commonmark").enable("table")


def suites(result: AssessmentSet) -> list[Any]:
    return list(junitparser.JUnitXml.fromstring(render_junit(result).encode("utf-8")))


def results(suite: Any) -> dict[str, str]:
    """Return what a reader of JUnit sees of each case: passed, or the class of its result."""
    return {
        case.name: "passed" if case.is_passed else type(case.result[0]).__name__ for case in suite
    }


# -- JUnit -----------------------------------------------------------------------------------------
def test_a_criterion_is_a_test_case() -> None:
    open_ = replace(ANNA.criteria[0], id="I08", label="open", outcome=ANNA.criteria[0].clauses[1].outcome, decided_by=("I07b",))  # fmt: skip
    (suite,) = suites(
        replace(ALONE, assessments=(replace(ANNA, criteria=(*ANNA.criteria, open_)),))
    )
    assert results(suite) == {
        "I07 blood": "Failure",
        "I11 consent": "Failure",
        "E12 transfusion before treatment": "passed",
        "I08 open": "Error",  # silence is never a pass, and what is skipped is taken for one
    }
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 2, 1, 0)
    failure = next(iter(suite)).result[0]
    assert failure.type == "fail"
    assert failure.message == "I07a haemoglobin is below the lower limit"
    assert "found: haemoglobin: 8.60 g/dL (Observation/hb-2, 2024-02-21 (9 days before entry))" in failure.text  # fmt: skip
    properties = {p.name: p.value for p in suite.properties()}
    assert properties["verdict"] == "ineligible"


def test_who_could_not_be_judged_is_an_error() -> None:
    (suite,) = suites(replace(STORY, assessments=(BOB,)))
    assert results(suite) == {"judged": "Error"}
    (nobody,) = suites(replace(STORY, assessments=()))
    assert results(nobody) == {"patients": "Error"}
    (nothing,) = suites(replace(STORY, assessments=(replace(BOB, error=None, verdict=Verdict.NOT_ASKED),)))  # fmt: skip
    assert results(nothing) == {"judged": "Error"}


def test_treatment_is_a_suite_of_its_own() -> None:
    waiting = replace(
        LATE, id="T05", label="four cycles", outcome=TreatmentOutcome.NOT_YET_APPLICABLE
    )
    open_ = replace(LATE, id="T06", label="why", outcome=TreatmentOutcome.UNDETERMINED)
    course = replace(COURSE, rules=(*COURSE.rules, waiting, open_))
    treated = replace(TREATED.assessments[0], treatment=course)
    eligibility, treatment = suites(replace(TREATED, assessments=(treated,)))
    assert set(results(eligibility).values()) == {"passed"}
    assert results(treatment) == {
        "T04 start": "passed",  # a deviation is a warning
        "T07 first reduction": "Failure",
        "T18 start": "passed",
        "T05 four cycles": "Skipped",
        "T06 why": "Error",
    }
    root = ElementTree.fromstring(render_junit(replace(TREATED, assessments=(treated,))))
    assert "deviation T04: started late" in (root[1].findtext("system-out") or "")


def test_findings_about_the_run_are_told() -> None:
    error = Finding("USE001", "error", "a.ttl", "not readable", "it is broken", "mend it")
    *_, run = suites(replace(ALONE, run_findings=(error, replace(error, severity="info"))))
    assert [type(r).__name__ for case in run for r in case.result] == ["Error"]


@settings(often, max_examples=30)
@given(ANYTHING)
@pytest.mark.threat("F6")
def test_junit_holds(result: AssessmentSet) -> None:
    text = render_junit(result)
    assert harmless(text)
    assert render_junit(result) == text
    found = suites(result)
    assert found
    for suite in found:
        cases = list(suite)
        assert suite.tests == len(cases) > 0
        assert suite.failures + suite.errors + suite.skipped == sum(not c.is_passed for c in cases)
    root = ElementTree.fromstring(text.encode("utf-8"))
    names = {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors"}
    assert all(set(suite.attrib) == {*names, "skipped", "time"} for suite in root)
    # The schemas of Ant and of Jenkins both let no more than this through.
    for case in root.iter("testcase"):
        assert set(case.attrib) == {"classname", "name", "time"}
        for told in case:
            assert set(told.attrib) == {"message", *(["type"] if told.tag != "skipped" else [])}
    order = [child.tag for suite in root for child in suite if child.tag != "testcase"]
    assert order == ["properties", "system-out", "system-err"] * len(root)


# -- Markdown --------------------------------------------------------------------------------------
def tokens(text: str) -> list[Token]:
    found: list[Token] = []
    for token in MARKDOWN.parse(text):
        found += [token, *(token.children or ())]
    return found


@pytest.mark.parametrize(
    "text",
    [
        *(t for t in HOSTILE if t.isprintable() and t.strip()),
        "# head", "- item", "1. first", "2) second", "> quoted", "    code", "---", "===", "~~~", "```x",
        "<b>bold</b>", "<https://example.org>", "https://example.org", "www.example.org", "a@example.org",
        "[link](https://example.org)", "![image](x.png)", "a | b", "*a* _b_ `c`", "&amp; &#60;", "a\\", "+ x",
    ],
)  # fmt: skip
@pytest.mark.threat("F3", "F6")
def test_text_stays_text(text: str) -> None:
    for around in ("{}", "- {}", "1. {}", "| a |\n| --- |\n| {} |"):
        found = tokens(around.format(escaped(text)))
        said = "".join(t.content for t in found if t.type in ("text", "text_special"))
        assert said.removeprefix("a" if around.startswith("|") else "") == " ".join(text.split())
        kinds = {t.type for t in found}
        assert not kinds & {"html_inline", "html_block", "link_open", "image", "em_open", "heading_open"}  # fmt: skip


def test_markdown_by_hand() -> None:
    text = render_markdown(ALONE)
    assert text.startswith(
        "# anna: ineligible\n\n2 of 3 criteria fail: I07 blood, I11 consent.\n\n"
    )
    assert "\n## What decides it\n\n**I07a** haemoglobin: haemoglobin is below the lower limit\n" in text  # fmt: skip
    assert "\n- found haemoglobin: 8.60 g/dL (Observation/hb-2, 2024-02-21 (9 days before entry))\n" in text  # fmt: skip
    assert "\n| I07 | fail | blood | I07a |\n" in text
    assert "\n- what to do: check value and unit at source\n" in text


def test_markdown_of_a_course_and_of_several() -> None:
    text = render_markdown(TREATED)
    assert "\n**violation T07** first reduction: the dose was reduced to something else\n" in text
    assert "\n| 2024-04-19 | 22 | drug | 8 mg | T07 |\n" in text
    several = render_markdown(STORY)
    assert several.startswith("# 3 patients\n\n| patient | verdict |")
    assert len(re.findall(r"^## ", several, flags=re.MULTILINE)) == 3


@settings(often, max_examples=30)
@given(ANYTHING)
def test_markdown_holds(result: AssessmentSet) -> None:
    text = render_markdown(result)
    assert harmless(text)
    assert render_markdown(result) == text
    kinds = {t.type for t in tokens(text)}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "code_block", "fence"}


@pytest.mark.parametrize("name", ["anaemic", "missing-data", "course-in-progress", "empty-record"])
def test_examples(kb: KnowledgeBase, name: str) -> None:
    result = kb.validate(EXAMPLES / name)
    (assessment,) = result.assessments
    first, *more = suites(result)
    outcomes = {"passed": "pass", "Failure": "fail", "Error": "undetermined"}
    assert [outcomes[word] for word in results(first).values()] == [
        c.outcome.word for c in assessment.criteria
    ]
    assert bool(more) == (assessment.treatment is not None)
    assert f"# {escaped(assessment.patient)}: {assessment.verdict.value}\n" in render_markdown(
        result
    )
