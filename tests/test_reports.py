"""Every report format says the same, says it the same way twice, and holds against hostile text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
import typing
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rdflib import RDF, Graph, Literal, URIRef
from rdflib.compare import isomorphic

from sarc_kb import reports
from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    Conclusion,
    CriterionResult,
    Evidence,
    KnowledgeBaseInfo,
    Outcome,
    Period,
    Provenance,
    Range,
    TimelineEvent,
    TreatmentAssessment,
    TreatmentOutcome,
    TreatmentResult,
    Verdict,
)
from sarc_kb.errors import Finding
from sarc_kb.namespaces import PROV, SARC, SH
from sarc_kb.reports.escaping import safe_iri, visible, visible_in_json
from sarc_kb.reports.json_report import SCHEMA, render_json, render_jsonl
from sarc_kb.reports.shacl_report import render_jsonld, render_turtle
from sarc_kb.reports.text_report import render_text

PACKAGE = Path(reports.__file__).parent.parent
SCHEMAS = PACKAGE / "schema"
VALIDATOR = Draft202012Validator(
    json.loads((SCHEMAS / "assessments-1.schema.json").read_text("utf-8"))
)
TRIAL = "https://w3id.org/sarc-kb/trial/TEST/"
COMPONENTS = {TRIAL + "I07a": str(SARC.LatestConstraintComponent)}

# -- one small story, by hand ----------------------------------------------------------------------
LOW = ClauseResult(
    id="I07a",
    iri=TRIAL + "I07a",
    label="haemoglobin",
    outcome=Outcome.FAIL,
    message="haemoglobin is below the lower limit",
    limit="haemoglobin ≥ 9 g/dL",
    evidence=(
        Evidence(
            "Observation/hb-2", str(SARC.Haemoglobin), "haemoglobin", "8.60", "g/dL", "2024-02-21"
        ),
    ),
    rests_on=("policy: laboratory-look-back",),
    readings=("A-43",),
    source_text="Haemoglobin ≥ 9 g/dL",
    locator="Inclusion Criteria, item 7",
    remedy="check value and unit at source",
    facts_read=2,
)
OPEN = ClauseResult(
    id="I07b",
    iri=TRIAL + "I07b",
    label="transfusion",
    outcome=Outcome.UNDETERMINED,
    message="transfusion: not established (a statement that procedures are complete)",
    limit="no transfusion in 14 days",
    missing=("a statement that procedures are complete", "an answer to the question"),
    settled_by=("transfusion-14-days", "ProcedureHistory"),
    source_text="no blood transfusion within 14 days",
    locator="Inclusion Criteria, item 7",
    remedy="ask",
)
CLEARED = ClauseResult(
    id="E12",
    iri=TRIAL + "E12",
    label="transfusion before treatment",
    outcome=Outcome.PASS,
    message="transfusion before treatment: none recorded",
    limit="no transfusion in 14 days",
    rests_on=("statement: procedures are complete",),
    locator="Exclusion Criteria, item 12",
    source_text="blood transfusion",
)
ANNA = Assessment(
    trial="TEST",
    trial_iri=TRIAL,
    patient="anna",
    patient_iri="https://example.org/patient/anna",
    entry_date="2024-03-01",
    verdict=Verdict.INELIGIBLE,
    criteria=(
        CriterionResult(
            id="I07",
            iri=TRIAL + "I07",
            kind="inclusion",
            label="blood",
            outcome=Outcome.FAIL,
            message="haemoglobin is below the lower limit",
            source_text="adequate function",
            locator="Inclusion Criteria, item 7",
            remedy="see its clauses",
            clauses=(LOW, OPEN),
            decided_by=("I07a",),
        ),
        CriterionResult(
            id="I11",
            iri=TRIAL + "I11",
            kind="inclusion",
            label="consent",
            outcome=Outcome.FAIL,
            message="an answer denies it",
            source_text="willing to take part",
            locator="Inclusion Criteria, item 11",
            remedy="",
            clauses=(),
            decided_by=("willing",),
            denied_by=(
                Evidence("Answer/1", TRIAL + "willing", "willing", "no", date="2024-02-29"),
            ),
        ),
        CriterionResult(
            id="E12",
            iri=TRIAL + "E12",
            kind="exclusion",
            label="transfusion before treatment",
            outcome=Outcome.PASS,
            message="none recorded",
            source_text="blood transfusion",
            locator="Exclusion Criteria, item 12",
            remedy="",
            clauses=(CLEARED,),
            decided_by=("E12",),
        ),
    ),
    data_findings=(
        Finding(
            "DATA012",
            "warning",
            "Observation/1",
            "no mapping for x",
            "no rule can read it",
            "map it",
        ),
        Finding(
            "DATA012",
            "warning",
            "Observation/2",
            "no mapping for y",
            "no rule can read it",
            "map it",
        ),
    ),
    provenance=Provenance(
        engine="pyshacl",
        engine_version="1",
        program_version="2",
        input_origin="anna.json",
        input_sha256="0123456789abcdef",
        as_of="2024-03-01",
        policies=(("laboratory-look-back", "14"),),
        readings=(("A-43", "window"),),
        anchors=(("treatment-start", "2024-03-04", "record: Plan/1"),),
        clauses_evaluated=3,
        facts_read=7,
        facts_void=1,
        facts_after_as_of=0,
        facts_unused=2,
        changed=("laboratory-look-back=14",),
    ),
)
BOB = Assessment(
    trial="TEST",
    trial_iri=TRIAL,
    patient="bob",
    patient_iri="bob <1>",
    entry_date=None,
    verdict=Verdict.ERROR,
    error=Finding(
        "DATA001", "error", "bob.json", "no date of entry", "nothing can be counted", "give one"
    ),
)
CLEAR = replace(
    ANNA,
    patient="carla",
    patient_iri="urn:x:carla",
    verdict=Verdict.ELIGIBLE,
    criteria=(ANNA.criteria[2],),
)
STORY = AssessmentSet(KnowledgeBaseInfo("3", "fedcba9876543210"), (ANNA, BOB, CLEAR))
ALONE = replace(STORY, assessments=(ANNA,))

# -- any assessment whatever -----------------------------------------------------------------------
HOSTILE = (
    "", " ", "\x1b[31mred", "x\nELIGIBLE  forged", "a\r\nb\tc", "\x00", "\x7f\x85", "\u202eabc", "\u2028\u2029",
    "\ufeff", "\U000e0001", "\ud800", "\udfff\ud83d", '"quoted" \\ \\u0041 \\', "'''", '"""', "p1> a <urn:x> . <p2",
    "http://exa mple/", "http://[", "http://a:b/", "urn:x#a#b", "urn:%zz", "sh:result", "sarc:x", "_:b1", "#x", "//x",
    "@id", "@type", "9.40", "-0.0", "1e400", "NaN", "9" * 41, "2024-02-30", "2024-02-29", "2024-02", "2024", "0000",
    "2024-W01-1", "https://w3id.org/sarc-kb/ontology#Pass", "https://w3id.org/sarc-kb/ontology#a/b", "{}^`|<>",
    "è 中文 עברית \u00a0\u3000", "\ufdd0\uffff", "word " * 60, "w" * 300,
)  # fmt: skip
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))


def made(hint: object) -> st.SearchStrategy[typing.Any]:
    """Return a strategy for a type of `sarc_kb.assessment`, down to its strings."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is str:
        return TEXT
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(0, 10**6)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(made(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(made, arguments))
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(st.none() if a is type(None) else made(a) for a in arguments))
    assert isinstance(hint, type)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    assert is_dataclass(hint), hint
    hints = typing.get_type_hints(hint)
    return st.builds(hint, **{f.name: made(hints[f.name]) for f in fields(hint)})


ANYTHING = made(AssessmentSet)
often = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# Control, direction, invisible and separating characters, and halves of surrogate pairs.
UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def harmless(text: str) -> bool:
    """Whether ``text`` holds nothing that a terminal obeys or a reader cannot see, but line ends."""
    return UNSEEN.search(text) is None


# -- a course of treatment, by hand ----------------------------------------------------------------
SKIPPED = TreatmentResult(
    id="T07",
    iri=TRIAL + "T07",
    modality="order",
    label="first reduction",
    outcome=TreatmentOutcome.VIOLATION,
    message="the dose was reduced to something else",
    source_text="reduced to 10 mg once daily",
    locator="Intervention: Drug",
    remedy="check both doses",
    clauses=(
        replace(
            LOW,
            id="T07",
            iri=TRIAL + "T07",
            label="first reduction",
            message="the dose was reduced to something else",
            locator="Intervention: Drug",
        ),
    ),
    decided_by=("T07",),
)
LATE = replace(
    SKIPPED,
    id="T04",
    iri=TRIAL + "T04",
    modality="intention",
    label="start",
    outcome=TreatmentOutcome.DEVIATION,
    message="started late",
    clauses=(),
    decided_by=(),
)
STAYED = replace(
    LATE,
    id="T18",
    iri=TRIAL + "T18",
    outcome=TreatmentOutcome.PERMITTED,
    message="stayed at the dose",
)
COURSE = TreatmentAssessment(
    as_of="2024-06-20",
    conclusion=Conclusion.VIOLATION,
    rules=(LATE, SKIPPED, STAYED),
    timeline=(
        TimelineEvent("surgery", "2024-03-01", "2024-03-01", None, "resection", 1, ("P/1",)),
        TimelineEvent("drug", "2024-03-29", "2024-04-11", 1, "12 mg", 14, ("M/1", "M/2")),
        TimelineEvent("drug", "2024-04-19", "2024-04-19", 22, "8 mg", 1, ("M/9",), ("T07",)),
    ),
    anchors=(("first-dose", "2024-03-29", "record: M/1"),),
)
TREATED = AssessmentSet(STORY.knowledge_base, (replace(CLEAR, treatment=COURSE),))


def test_text_of_a_course() -> None:
    text = render_text(TREATED)
    assert "TREATMENT VIOLATION  as of 2024-06-20: 1 violation, 1 deviation, 1 permitted\n" in text
    assert (
        """
  course                   day  track    what
  -----------------------  ---  -------  ----
  2024-03-01                    surgery  resection
  2024-03-29 – 2024-04-11  1    drug     12 mg (14 times)
  2024-04-19               22   drug     8 mg  ← T07
"""
        in text
    )
    assert "DEVIATION  TEST T04 start: started late\n" in text
    assert "VIOLATION  TEST T07 first reduction: the dose was reduced to something else\n" in text
    assert "  - permitted T18: stayed at the dose\n" in text


def test_shacl_of_a_course() -> None:
    graph = graph_of(render_turtle(TREATED, COMPONENTS))
    severities = {
        str(graph.value(r, SH.sourceShape)).removeprefix(TRIAL): graph.value(r, SH.resultSeverity)
        for r in graph.subjects(RDF.type, SH.ValidationResult)
    }
    # What is only told keeps nobody from conforming and is no result.
    assert severities == {"T04": SH.Warning, "T07": SH.Violation}
    assert [c.value for c in graph.objects(None, SH.conforms)] == [False]
    outcomes = {
        str(graph.value(o, SARC.ofRule)).removeprefix(TRIAL): graph.value(o, SARC.outcome)
        for o in graph.subjects(RDF.type, SARC.TreatmentRuleOutcome)
    }
    assert outcomes == {"T04": SARC.Deviation, "T07": SARC.Violation, "T18": SARC.Permitted}


def test_json_of_a_course() -> None:
    told = json.loads(render_json(TREATED))["assessments"][0]["treatment"]
    VALIDATOR.validate(json.loads(render_json(TREATED)))
    assert told["conclusion"] == "violation"
    assert [r["outcome"] for r in told["rules"]] == ["deviation", "violation", "permitted"]
    assert told["timeline"][1]["sources"] == ["M/1", "M/2"]
    assert told["anchors"] == [{"anchor": "first-dose", "date": "2024-03-29", "how": "record: M/1"}]


# -- JSON ------------------------------------------------------------------------------------------
@pytest.mark.threat("F7")
def test_schema_describes_every_member_and_allows_no_other() -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)
    objects = 0

    def walk(node: object, path: str) -> None:
        nonlocal objects
        if isinstance(node, list):
            for item in node:
                walk(item, path)
        if isinstance(node, dict):
            if node.get("type") == "object":
                objects += 1
                assert node["additionalProperties"] is False, path
                assert sorted(node["required"]) == sorted(node["properties"]), path
                for name, member in node["properties"].items():
                    described = (
                        member
                        if "$ref" not in member
                        else VALIDATOR.schema["$defs"][member["$ref"][8:]]
                    )
                    assert described.get("description") or "const" in described, f"{path}/{name}"
            for key, value in node.items():
                walk(value, f"{path}/{key}")

    walk(VALIDATOR.schema, "")
    # The document, its twelve kinds of records, the three kinds of pairs in the provenance, and the
    # one of the treatment.
    assert objects == 17


@pytest.mark.parametrize(
    ("definition", "cls"),
    [
        ("knowledgeBase", KnowledgeBaseInfo),
        ("assessment", Assessment),
        ("criterion", CriterionResult),
        ("clause", ClauseResult),
        ("evidence", Evidence),
        ("finding", Finding),
        ("provenance", Provenance),
        ("treatment", TreatmentAssessment),
        ("treatmentRule", TreatmentResult),
        ("timelineEvent", TimelineEvent),
        ("range", Range),
        ("period", Period),
    ],
)
@pytest.mark.threat("F10")
def test_schema_has_the_fields_of_the_assessment(definition: str, cls: type) -> None:
    assert list(VALIDATOR.schema["$defs"][definition]["properties"]) == [
        f.name for f in fields(cls)
    ]


@pytest.mark.threat("F10")
def test_json_by_hand() -> None:
    told = json.loads(render_json(STORY))
    assert list(told) == ["schema", "knowledge_base", "assessments", "run_findings"]
    assert told["schema"] == SCHEMA == "https://w3id.org/sarc-kb/schema/assessments/1"
    assert told["knowledge_base"] == {"version": "3", "sha256": "fedcba9876543210"}
    anna, bob, clear = told["assessments"]
    assert [anna["verdict"], bob["verdict"], clear["verdict"]] == [
        "ineligible",
        "error",
        "eligible",
    ]
    assert bob["error"]["code"] == "DATA001"
    assert anna["error"] is None
    clause = anna["criteria"][0]["clauses"][0]
    assert (clause["id"], clause["outcome"]) == ("I07a", "fail")
    assert clause["evidence"] == [
        {
            "source": "Observation/hb-2",
            "concept": "https://w3id.org/sarc-kb/ontology#Haemoglobin",
            "label": "haemoglobin",
            "value": "8.60",
            "unit": "g/dL",
            "date": "2024-02-21",
            "rule_value": None,
            "derived_from": [],
            "note": None,
            "quantity": None,
        }
    ]
    assert anna["criteria"][0]["clauses"][1]["settled_by"] == [
        "transfusion-14-days",
        "ProcedureHistory",
    ]
    assert anna["provenance"]["policies"] == [{"policy": "laboratory-look-back", "value": "14"}]
    assert anna["provenance"]["readings"] == [{"ambiguity": "A-43", "reading": "window"}]
    assert anna["provenance"]["anchors"] == [
        {"anchor": "treatment-start", "date": "2024-03-04", "how": "record: Plan/1"}
    ]


def test_json_is_indented_and_readable() -> None:
    lines = render_json(STORY).splitlines()
    assert lines[1] == f'  "schema": "{SCHEMA}",'
    assert '"Haemoglobin ≥ 9 g/dL"' in render_json(STORY)


def test_json_lines_are_documents_of_one_assessment() -> None:
    lines = render_jsonl(STORY).splitlines()
    whole = json.loads(render_json(STORY))
    assert [json.loads(line)["assessments"] for line in lines] == [
        [a] for a in whole["assessments"]
    ]
    assert all(json.loads(line)["knowledge_base"] == whole["knowledge_base"] for line in lines)


def test_json_lines_keep_what_concerns_the_run() -> None:
    finding = Finding(
        "USE001", "warning", "a.ttl", "no patient", "nothing to judge", "check the file"
    )
    told = render_jsonl(replace(STORY, run_findings=(finding,))).splitlines()
    assert len(told) == len(STORY.assessments) + 1
    last = json.loads(told[-1])
    assert last["assessments"] == []
    assert last["run_findings"][0]["code"] == "USE001"
    assert len(render_jsonl(AssessmentSet(STORY.knowledge_base, ())).splitlines()) == 1


@often
@given(ANYTHING)
@pytest.mark.threat("F7")
def test_json_holds(result: AssessmentSet) -> None:
    text, lines = render_json(result), render_jsonl(result)
    VALIDATOR.validate(json.loads(text))
    assert harmless(text)
    assert harmless(lines)
    for line in lines.removesuffix("\n").split("\n"):
        VALIDATOR.validate(json.loads(line))
    told = json.loads(text)["assessments"]
    assert [a["patient"] for a in told] == [_joined(a.patient) for a in result.assessments]
    assert (render_json(result), render_jsonl(result)) == (text, lines)


def _joined(text: str) -> str:
    """Return ``text`` with surrogate pairs as the characters they are, as a JSON reader does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


# -- SHACL -----------------------------------------------------------------------------------------
def graph_of(turtle: str) -> Graph:
    return Graph().parse(data=turtle, format="turtle")


def test_shacl_by_hand() -> None:
    graph = graph_of(render_turtle(STORY, COMPONENTS))
    by_label = {
        str(graph.value(r, SARC.assessedPatient)): r
        for r in graph.subjects(RDF.type, SH.ValidationReport)
    }
    assert set(by_label) == {
        "https://example.org/patient/anna",
        "urn:sarc-kb:patient:bob%20%3C1%3E",
        "urn:x:carla",
    }
    anna = by_label["https://example.org/patient/anna"]
    results = {str(r).partition("#")[2]: r for r in graph.objects(anna, SH.result)}
    assert set(results) == {"I07a", "I07b", "criterion-I11"}
    assert graph.value(anna, SH.conforms).value is False
    assert graph.value(anna, SARC.verdict) == SARC.Ineligible

    low = results["I07a"]
    assert graph.value(low, SH.focusNode) == URIRef("https://example.org/patient/anna")
    assert graph.value(low, SH.resultSeverity) == SH.Violation
    assert graph.value(low, SH.sourceShape) == URIRef(TRIAL + "I07a")
    assert graph.value(low, SH.sourceConstraintComponent) == SARC.LatestConstraintComponent
    assert str(graph.value(low, SH.resultMessage)) == "haemoglobin is below the lower limit"
    assert str(graph.value(low, SARC.sourceText)) == "Haemoglobin ≥ 9 g/dL"
    assert str(graph.value(low, SARC.locator)) == "Inclusion Criteria, item 7"
    evidence = graph.value(low, PROV.wasDerivedFrom)
    assert str(graph.value(evidence, SARC.source)) == "Observation/hb-2"
    assert (
        graph.value(evidence, SARC.value).toPython()
        == Literal("8.6", datatype="http://www.w3.org/2001/XMLSchema#decimal").toPython()
    )
    assert '"8.60"^^xsd:decimal' in render_turtle(STORY, COMPONENTS)
    assert str(graph.value(evidence, SARC.date)) == "2024-02-21"

    assert graph.value(results["I07b"], SH.resultSeverity) == SARC.Undetermined
    assert graph.value(results["I07b"], SH.sourceConstraintComponent) == SH.NodeConstraintComponent
    assert (
        graph.value(results["criterion-I11"], SH.sourceConstraintComponent)
        == SARC.NotDeniedConstraintComponent
    )
    outcomes = {
        str(graph.value(o, SARC.ofRule)).removeprefix(TRIAL): graph.value(o, SARC.outcome)
        for o in graph.objects(anna, SARC.criterionOutcome)
    }
    assert outcomes == {"I07": SARC.Fail, "I11": SARC.Fail, "E12": SARC.Pass}

    bob = by_label["urn:sarc-kb:patient:bob%20%3C1%3E"]
    assert graph.value(bob, SH.conforms).value is False
    assert graph.value(graph.value(bob, SH.result), SH.resultSeverity) == SARC.NotJudged
    carla = by_label["urn:x:carla"]
    assert graph.value(carla, SH.conforms).value is True
    assert not list(graph.objects(carla, SH.result))


def test_a_failing_clause_of_a_passing_criterion_is_no_result() -> None:
    # One arm of a disjunction fails and another passes: SHACL reports nothing, the outcome is told.
    criterion = replace(
        ANNA.criteria[2], clauses=(CLEARED, replace(LOW, id="E12b", iri=TRIAL + "E12b"))
    )
    result = replace(STORY, assessments=(replace(CLEAR, criteria=(criterion,)),))
    graph = graph_of(render_turtle(result, {}))
    report = graph.value(predicate=RDF.type, object=SH.ValidationReport)
    assert graph.value(report, SH.conforms).value is True
    assert list(graph.objects(None, SH.result)) == []
    arm = graph.value(predicate=SARC.ofRule, object=URIRef(TRIAL + "E12b"))
    assert graph.value(arm, SARC.outcome) == SARC.Fail


def test_report_iri_names_the_content_and_not_the_place() -> None:
    def iri(assessment: Assessment) -> str:
        graph = graph_of(render_turtle(replace(STORY, assessments=(assessment,)), {}))
        return str(graph.value(predicate=RDF.type, object=SH.ValidationReport))

    assert ANNA.provenance is not None
    moved = replace(ANNA, provenance=replace(ANNA.provenance, input_origin="elsewhere/anna.json"))
    other_policy = replace(
        ANNA, provenance=replace(ANNA.provenance, policies=(("laboratory-look-back", "7"),))
    )
    assert iri(ANNA) == iri(moved)
    assert (
        len({iri(ANNA), iri(other_policy), iri(BOB), iri(replace(ANNA, patient_iri="urn:x:anna"))})
        == 4
    )


def test_terms_of_the_reports_are_defined() -> None:
    finding = Finding("USE001", "info", "a", "b", "c", "d")
    used = graph_of(render_turtle(replace(STORY, run_findings=(finding,)), COMPONENTS))
    terms = {
        t for triple in used for t in triple if isinstance(t, URIRef) and t.startswith(str(SARC))
    }
    known = Graph()
    for part in ("ontology", "shapes/components"):
        for path in sorted((PACKAGE.parent / part).rglob("*.ttl")):
            known.parse(path, format="turtle")
    undefined = sorted(str(t) for t in terms if (t, RDF.type, None) not in known)
    assert undefined == []


@often
@given(ANYTHING)
@pytest.mark.threat("C8")
def test_shacl_holds(result: AssessmentSet) -> None:
    turtle, jsonld = render_turtle(result, COMPONENTS), render_jsonld(result, COMPONENTS)
    assert (render_turtle(result, COMPONENTS), render_jsonld(result, COMPONENTS)) == (
        turtle,
        jsonld,
    )
    assert harmless(turtle)
    assert harmless(jsonld)
    graph = graph_of(turtle)
    assert set(graph) == set(Graph().parse(data=jsonld, format="json-ld"))
    assert not any(type(t).__name__ == "BNode" for triple in graph for t in triple)
    graph.serialize(format="nt")  # rdflib refuses IRIs that are none
    found = set(graph.subjects(RDF.type, SH.ValidationReport))
    assert bool(found) == bool(result.assessments)
    for report in found:
        results = list(graph.objects(report, SH.result))
        assert [c.value for c in graph.objects(report, SH.conforms)] == [
            graph.value(report, SARC.verdict) in (SARC.Eligible, SARC.NotAsked) and not results
        ]
    for node in graph.objects(None, SH.result):
        assert (node, RDF.type, SH.ValidationResult) in graph
        for required in (SH.focusNode, SH.resultSeverity, SH.sourceConstraintComponent):
            assert any(graph.objects(node, required))


@pytest.mark.parametrize(
    "iri",
    [
        "https://example.org/patient/anna",
        "http://example.org:8080/a?b=c#d",
        "urn:uuid:0b0c7f1e-0000-4000-8000-000000000000",
        "https://example.org/päțient/中",
        "urn:sarc-kb:patient:a%20b",
    ],
)
def test_an_iri_stays(iri: str) -> None:
    assert safe_iri(iri, "patient") == iri


@pytest.mark.parametrize(
    ("text", "iri"),
    [
        ("p1", "urn:sarc-kb:patient:p1"),
        ("", "urn:sarc-kb:patient:"),
        ("Patient/1", "urn:sarc-kb:patient:Patient%2F1"),
        ("a b", "urn:sarc-kb:patient:a%20b"),
        ("urn:x y", "urn:sarc-kb:patient:urn%3Ax%20y"),
        ("http://[", "urn:sarc-kb:patient:http%3A%2F%2F%5B"),
        ("http://a:b/", "urn:sarc-kb:patient:http%3A%2F%2Fa%3Ab%2F"),
        ("urn:%zz", "urn:sarc-kb:patient:urn%3A%25zz"),
        ("urn:a#b#c", "urn:sarc-kb:patient:urn%3Aa%23b%23c"),
        ("urn:\u202ex", "urn:sarc-kb:patient:urn%3A%E2%80%AEx"),
        ("é", "urn:sarc-kb:patient:%C3%A9"),
    ],
)
def test_what_is_no_iri_becomes_one(text: str, iri: str) -> None:
    assert safe_iri(text, "patient") == iri


def test_an_iri_that_a_context_would_expand_becomes_another() -> None:
    assert safe_iri("sh:result", "patient", reserved=("sh",)) == "urn:sarc-kb:patient:sh%3Aresult"


@given(st.lists(TEXT, min_size=2, max_size=2, unique=True))
def test_different_identifiers_stay_different(texts: list[str]) -> None:
    plain = [t for t in texts if not t.startswith("urn:sarc-kb:")]
    assert len({safe_iri(t, "patient") for t in plain}) == len(plain)


# -- text ------------------------------------------------------------------------------------------
def test_text_by_hand() -> None:
    # Written from the description of the five answers; the program was not asked.
    assert (
        render_text(ALONE, colour=False, width=90, verbose=False, quiet=False)
        == """\
INELIGIBLE  anna, TEST, entry 2024-03-01: 2 fail, 0 undetermined, 1 pass

  criterion  outcome  subject                       decided by
  ---------  -------  ----------------------------  ----------
  I07        fail     blood                         I07a
  I11        fail     consent                       willing
  E12        pass     transfusion before treatment  E12

FAIL  TEST I07a haemoglobin: haemoglobin is below the lower limit
  where    Observation/hb-2, 2024-02-21 (9 days before entry), in anna.json
  found    haemoglobin: 8.60 g/dL
           the rule asks for haemoglobin ≥ 9 g/dL
  why      Inclusion Criteria, item 7: “Haemoglobin ≥ 9 g/dL”
  rests    policy: laboratory-look-back
  fix      check value and unit at source
  more     sarc-kb explain I07a

FAIL  TEST I11 consent: an answer denies it
  where    Answer/1, 2024-02-29 (1 day before entry), in anna.json
  found    willing: no
  why      Inclusion Criteria, item 11: “willing to take part”
  more     sarc-kb explain I11

Passes that rest on more than recorded facts
  - statement: procedures are complete: E12

About the record
warning DATA012  no mapping for x (2 times, the first is shown)
  where    Observation/1, Observation/2
  why      no rule can read it
  fix      map it

Made with  sarc-kb 2; knowledge base 3 (fedcba987654); pyshacl 1; input anna.json
  (0123456789ab); as of 2024-03-01; set by the caller: laboratory-look-back=14; 3 clauses;
  7 facts; 1 void; 0 later; 2 unused; laboratory-look-back = 14
"""
    )


def test_text_of_an_undetermined_patient_says_what_is_missing() -> None:
    criterion = replace(
        ANNA.criteria[0], outcome=Outcome.UNDETERMINED, clauses=(OPEN,), decided_by=("I07b",)
    )
    patient = replace(
        ANNA,
        verdict=Verdict.UNDETERMINED,
        criteria=(criterion,),
        to_decide=("a statement about procedures [I07b]",),
    )
    text = render_text(replace(STORY, assessments=(patient,)))
    assert (
        """\
UNDETERMINED  TEST I07b transfusion: not established
  where    nowhere in anna.json
  found    nothing that decides it (0 facts read)
           the rule asks for no transfusion in 14 days
  why      Inclusion Criteria, item 7: “no blood transfusion within 14 days”
  missing  a statement that procedures are complete
           an answer to the question
  settle   transfusion-14-days, ProcedureHistory
  fix      ask
  more     sarc-kb explain I07b

To decide this patient, the least that is needed
  - a statement about procedures [I07b]
"""
        in text
    )


def test_text_of_many_patients_ends_with_a_table() -> None:
    assert render_text(STORY).endswith("""
  patient  verdict     fails     undetermined
  -------  ----------  --------  ------------
  anna     ineligible  I07, I11
  bob      error
  carla    eligible

3 patients: 1 eligible, 1 ineligible, 0 undetermined, 1 error
""")


def test_quiet_text_is_the_verdicts() -> None:
    assert (
        render_text(STORY, quiet=True)
        == """\
INELIGIBLE  anna, TEST, entry 2024-03-01: 2 fail, 0 undetermined, 1 pass
ERROR  bob, TEST, no date of entry: could not be judged
ELIGIBLE  carla, TEST, entry 2024-03-01: 0 fail, 0 undetermined, 1 pass

3 patients: 1 eligible, 1 ineligible, 0 undetermined, 1 error
"""
    )


def test_verbose_text_adds_what_does_not_decide() -> None:
    brief, full = render_text(ALONE), render_text(ALONE, verbose=True)
    assert "I07b" not in brief
    assert "UNDETERMINED  TEST I07b transfusion: not established" in full
    assert "A-43 in the register of ambiguities" in full
    assert "no mapping for y" in full
    assert "A-43 = window" in full
    assert "treatment-start 2024-03-04 (record: Plan/1)" in full.replace("\n  ", " ")


def test_text_without_patients_says_so() -> None:
    assert render_text(AssessmentSet(STORY.knowledge_base, ())) == "No patient was found.\n"


def test_colour_adds_nothing_but_colour() -> None:
    plain, coloured = render_text(STORY), render_text(STORY, colour=True)
    assert "\x1b" not in plain
    assert coloured.count("\x1b[31mfail\x1b[0m") == 2
    assert re.sub(r"\x1b\[[0-9]+m", "", coloured) == plain


# Every line of the program begins with one of these; whatever a record says stands behind them.
OPENINGS = re.compile(
    r"(ELIGIBLE|INELIGIBLE|UNDETERMINED|ERROR|NOT ASKED|PASS|FAIL|VIOLATION|DEVIATION)  |(error|warning|info)( |$)|Made with  |To decide this patient, "
    r"|TREATMENT (VIOLATION|UNDETERMINED|DEVIATION|IN PROGRESS|CONFORMANT)  |For information$"
    r"|Passes that rest |About the (record|run|record of treatment)$|No patient was found\.$|[0-9]+ patients: |  |$"
)


@often
@given(ANYTHING, st.booleans(), st.integers(0, 200))
@pytest.mark.threat("F3")
def test_text_holds(result: AssessmentSet, verbose: bool, width: int) -> None:
    text = render_text(result, width=width, verbose=verbose)
    assert harmless(text)
    assert text == render_text(result, width=width, verbose=verbose)
    for line in text.split("\n"):
        assert OPENINGS.match(line), line
    for verdict in Verdict:
        expected = sum(a.verdict is verdict for a in result.assessments)
        if verdict is Verdict.UNDETERMINED:  # the word also opens an explanation
            continue
        assert (
            sum(line.startswith(f"{verdict.value.upper()}  ") for line in text.split("\n"))
            == expected
        )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ≥ 9 中", "plain ≥ 9 中"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eevil", r"\u202eevil"),
        ("\u200bx\x85", r"\u200bx\x85"),
        ("\ud800", r"\ud800"),
        ("thin\u2009space", "thin\u2009space"),
    ],
)
@pytest.mark.threat("F3")
def test_unusual_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(TEXT)
def test_escapes_in_json_change_no_meaning(text: str) -> None:
    assert json.loads(visible_in_json(json.dumps(text, ensure_ascii=False))) == _joined(text)


# -- the same bytes everywhere ---------------------------------------------------------------------
RENDER_ALL = """
import sys
sys.path.insert(0, {tests!r})
from test_reports import COMPONENTS, STORY
from test_reports import render_json, render_jsonl, render_jsonld, render_text, render_turtle
out = [render_json(STORY), render_jsonl(STORY), render_text(STORY, verbose=True)]
out += [render_turtle(STORY, COMPONENTS), render_jsonld(STORY, COMPONENTS)]
sys.stdout.buffer.write("".join(out).encode("utf-8"))
"""


@pytest.mark.threat("F8")
def test_bytes_do_not_depend_on_hash_seed_locale_or_time_zone() -> None:
    program = RENDER_ALL.format(tests=str(Path(__file__).parent))
    outputs = set()
    for seed, zone, locale in (
        ("1", "UTC", "C"),
        ("2", "Asia/Shanghai", "C.UTF-8"),
        ("77", "America/Lima", "POSIX"),
    ):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        environment["PYTHONPATH"] = str(PACKAGE.parent)
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert len(outputs.pop()) > 10_000


# -- JSON-LD for patients --------------------------------------------------------------------------
PATIENT_TURTLE = """
@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<https://example.org/patient/anna> a sarc:Patient ; sarc:entryDate "2024-03-01" ; sarc:identifier "anna" ;
    sarc:fact
        [ sarc:concept sarc:Haemoglobin ; sarc:value 9.4 ; sarc:unit "g/dL" ; sarc:date "2024-02-21" ; sarc:source "Observation/hb-2" ] ,
        [ sarc:concept <http://loinc.org/718-7> , <http://snomed.info/sct/1> ; sarc:comparator "<" ; sarc:value 12 ; sarc:upperLimit 40.5 ] ,
        [ sarc:concept sarc:Leiomyosarcoma ; sarc:bodySite sarc:Thigh ; sarc:subject sarc:IndexTumour ; sarc:start "2024-01" ; sarc:ongoing true ;
          sarc:status sarc:Suspected ; sarc:tumour <https://example.org/tumour/1> ] ,
        [ a sarc:Attestation ; sarc:concept <https://w3id.org/sarc-kb/trial/NCT05602415/I08a> ; sarc:valueConcept sarc:Yes ;
          sarc:date "2024-02-28" ; sarc:performer "surgeon" ] ,
        [ sarc:concept sarc:Study ; sarc:study <https://example.org/study/2> ] .
"""
PATIENT_JSON = {
    "@context": "https://w3id.org/sarc-kb/schema/patient.context.jsonld",
    "@type": "Patient",
    "@id": "https://example.org/patient/anna",
    "entryDate": "2024-03-01",
    "identifier": "anna",
    "fact": [
        {
            "concept": "Haemoglobin",
            "value": "9.4",
            "unit": "g/dL",
            "date": "2024-02-21",
            "source": "Observation/hb-2",
        },
        {
            "concept": ["loinc:718-7", "snomed:1"],
            "comparator": "<",
            "value": "12",
            "upperLimit": "40.5",
        },
        {
            "concept": "Leiomyosarcoma",
            "bodySite": "Thigh",
            "subject": "IndexTumour",
            "start": "2024-01",
            "ongoing": True,
            "status": "Suspected",
            "tumour": "https://example.org/tumour/1",
        },
        {
            "@type": "Attestation",
            "concept": "trial:I08a",
            "valueConcept": "Yes",
            "date": "2024-02-28",
            "performer": "surgeon",
        },
        {"concept": "Study", "study": "https://example.org/study/2"},
    ],
}


def test_patient_context_says_what_the_turtle_says() -> None:
    context = json.loads((SCHEMAS / "patient.context.jsonld").read_text("utf-8"))["@context"]
    written = json.dumps({**PATIENT_JSON, "@context": context})
    expected = graph_of(PATIENT_TURTLE)
    # In Turtle 12 is an integer; in JSON-LD every value is a decimal.
    twelve = next(iter(expected.subjects(SARC.comparator, None)))
    expected.set(
        (twelve, SARC.value, Literal("12", datatype="http://www.w3.org/2001/XMLSchema#decimal"))
    )
    assert isomorphic(Graph().parse(data=written, format="json-ld"), expected)


def test_patient_context_knows_every_axis() -> None:
    context = json.loads((SCHEMAS / "patient.context.jsonld").read_text("utf-8"))["@context"]
    ontology = Graph().parse(PACKAGE.parent / "ontology" / "sarc.ttl", format="turtle")
    axes = {str(a).removeprefix(str(SARC)) for a in ontology.subjects(RDF.type, SARC.Axis)}
    assert len(axes) >= 11
    unknown = {a for a in axes if context.get(a) != {"@id": f"sarc:{a}", "@type": "@vocab"}}
    assert unknown == set()
