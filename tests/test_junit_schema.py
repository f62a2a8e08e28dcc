"""JUnit XML against the schema of Apache Ant's task, which Windy Road Technology wrote down
(github.com/windyroad/JUnit-Schema, Apache-2.0). The package ReFrame carries it; its code is not run."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import xmlschema

from sarc_kb.assessment import AssessmentSet
from sarc_kb.errors import Finding
from sarc_kb.reports import findings_report
from sarc_kb.reports.junit_report import render_junit
from tests.test_reports import ALONE, STORY, TREATED


@cache
def schema() -> xmlschema.XMLSchema:
    carrier = find_spec("reframe")
    assert carrier is not None
    assert carrier.origin is not None
    return xmlschema.XMLSchema(str(Path(carrier.origin).parent / "schemas" / "junit.xsd"))


def faults(text: str) -> list[str]:
    return [str(error.reason) for error in schema().iter_errors(text)]


@pytest.mark.parametrize("result", [ALONE, STORY, TREATED], ids=["alone", "story", "treated"])
def test_assessments(result: AssessmentSet) -> None:
    assert faults(render_junit(result)) == []


def test_findings() -> None:
    found = Finding(
        "RULE014", "error", "trial:I07a", "no unit", "the limit means nothing", "add it"
    )
    checked = findings_report.Checked("NCT1", "is well-formed", "1 fault", (found,))
    assert faults(findings_report.render_junit("sarc-kb.check", [checked], {"a": "b"})) == []


def test_the_schema_tells_what_is_no_junit() -> None:
    text = render_junit(ALONE)
    assert faults(text.replace('tests="', 'test="')) != []
    assert faults(text.replace("<failure ", "<fail ").replace("</failure>", "</fail>")) != []
