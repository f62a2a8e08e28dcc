"""Every format of every example, read by something that we did not write.

JSON and JSON Lines by a JSON Schema validator, the SHACL reports by rdflib and by pySHACL with shapes
that say what a validation report is, FHIR by its models, JUnit by junitparser, the pages by the Nu
HTML checker, workbooks by openpyxl, Markdown by markdown-it.
"""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import junitparser
import pytest
from fhir.resources.R4B.bundle import Bundle
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from openpyxl import load_workbook
from pyshacl import validate
from rdflib import Graph
from rdflib.compare import isomorphic

import sarc_kb
from sarc_kb.assessment import AssessmentSet
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports.fhir_report import render_fhir
from sarc_kb.reports.html_report import render_html
from sarc_kb.reports.json_report import render_json, render_jsonl
from sarc_kb.reports.junit_report import render_junit
from sarc_kb.reports.markdown_report import escaped, render_markdown
from sarc_kb.reports.shacl_report import render_jsonld, render_turtle
from sarc_kb.reports.xlsx_report import render_xlsx
from tests.html_checker import html_faults

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
SCHEMA = Path(sarc_kb.__file__).parent / "schema" / "assessments-1.schema.json"
# SHACL 3.6: what every report, and every result in one, has.
REPORT_SHAPES = """
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
[] sh:targetClass sh:ValidationReport ;
    sh:property [ sh:path sh:conforms ; sh:datatype xsd:boolean ; sh:minCount 1 ; sh:maxCount 1 ] ;
    sh:property [ sh:path sh:result ; sh:class sh:ValidationResult ; sh:nodeKind sh:IRI ] .
[] sh:targetClass sh:ValidationResult ;
    sh:property [ sh:path [ sh:inversePath sh:result ] ; sh:minCount 1 ] ;
    sh:property [ sh:path sh:focusNode ; sh:minCount 1 ; sh:maxCount 1 ] ;
    sh:property [ sh:path sh:resultSeverity ; sh:nodeKind sh:IRI ; sh:minCount 1 ; sh:maxCount 1 ] ;
    sh:property [ sh:path sh:sourceConstraintComponent ; sh:nodeKind sh:IRI ; sh:minCount 1 ; sh:maxCount 1 ] ;
    sh:property [ sh:path sh:sourceShape ; sh:nodeKind sh:IRI ; sh:maxCount 1 ] ;
    sh:property [ sh:path sh:resultMessage ; sh:datatype xsd:string ; sh:minCount 1 ] .
"""

pytestmark = pytest.mark.xdist_group("every format")


@cache
def judged(kb: KnowledgeBase, name: str) -> AssessmentSet:
    omop = str(EXAMPLES / name) if name.startswith("omop-") else None
    result = kb.validate(*([] if omop else [EXAMPLES / name]), omop=omop)
    assert result.assessments
    return result


@pytest.fixture
def result(kb: KnowledgeBase, request: pytest.FixtureRequest) -> AssessmentSet:
    return judged(kb, request.param)


each = pytest.mark.parametrize("result", NAMES, indirect=True)


def verdicts(result: AssessmentSet) -> list[str]:
    return [a.verdict.value for a in result.assessments]


@each
@pytest.mark.threat("F7")
def test_json(result: AssessmentSet) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    whole = json.loads(render_json(result))
    validator.validate(whole)
    lines = [json.loads(line) for line in render_jsonl(result).splitlines()]
    for line in lines:
        validator.validate(line)
    assert [a["verdict"] for a in whole["assessments"]] == verdicts(result)
    assert [a for line in lines for a in line["assessments"]] == whole["assessments"]


@each
@pytest.mark.threat("C8")
def test_shacl(result: AssessmentSet) -> None:
    turtle = Graph().parse(data=render_turtle(result, {}), format="turtle")
    # The context stands in the document: nothing is fetched.
    assert isomorphic(turtle, Graph().parse(data=render_jsonld(result, {}), format="json-ld"))
    conforms, _, told = validate(
        turtle, shacl_graph=Graph().parse(data=REPORT_SHAPES, format="turtle")
    )
    assert conforms, told


@each
def test_fhir(result: AssessmentSet) -> None:
    document = json.loads(render_fhir(result))
    model = Bundle.model_validate(document)
    assert json.loads(model.model_dump_json()) == document
    responses = [e["resource"] for e in document["entry"]]
    for assessment, response in zip(result.assessments, responses, strict=False):
        told: list[dict[str, Any]] = response["contained"][1]["parameter"]
        assert {"name": "verdict", "valueString": assessment.verdict.value} in told
        assert sum(p["name"] == "criterion" for p in told) == len(assessment.criteria) == 30
        if response["status"] == "data-required":
            assert response["dataRequirement"]


@each
@pytest.mark.threat("F6")
def test_junit(result: AssessmentSet) -> None:
    suites = list(junitparser.JUnitXml.fromstring(render_junit(result).encode("utf-8")))
    for assessment in result.assessments:
        (suite,) = (s for s in suites if s.name == f"{assessment.patient} eligibility")
        outcomes = [c.outcome.word for c in assessment.criteria]
        assert (suite.tests, suite.failures, suite.errors) == (
            *(len(outcomes), outcomes.count("fail"), outcomes.count("undetermined")),
        )


@each
def test_markdown_and_workbook(result: AssessmentSet) -> None:
    text = render_markdown(result)
    kinds = {token.type for token in MarkdownIt("commonmark").enable("table").parse(text)}
    assert {"heading_open", "table_open"} <= kinds
    assert not kinds & {"html_block", "fence", "code_block"}
    for a in result.assessments:
        assert f"# {escaped(a.patient)}: {a.verdict.value}\n" in text
    book = load_workbook(io.BytesIO(render_xlsx(result)))
    assert [cell.value for cell in book["patients"]["D"]][1:] == verdicts(result)


@pytest.mark.java
@pytest.mark.threat("F4")
def test_pages(kb: KnowledgeBase, tmp_path: Path) -> None:
    for name in NAMES:
        page = render_html(judged(kb, name))
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
    assert html_faults(tmp_path) == []
