"""The service: the same bytes as the command line, negotiation, problems, FHIR, its own description."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationdefinition import OperationDefinition
from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rdflib import Graph
from schemathesis import checks

from sarc_kb import cli
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports.formats import MEDIA_TYPES
from sarc_kb.service.desk import Limits
from sarc_kb.service.guard import Rights
from sarc_kb.service.openapi import description
from sarc_kb.service.operations import OPERATIONS, RECORDS
from sarc_kb.service.problems import STATUSES
from tests.service import Reply, Service

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
TURTLE = (EXAMPLES / "anaemic" / "patient.ttl").read_bytes()
BUNDLE = (EXAMPLES / "fhir-anaemic" / "bundle.json").read_bytes()
STUDY = "/fhir/ResearchStudy/NCT05602415/$evaluate-eligibility"

pytestmark = pytest.mark.xdist_group("service")


class CommandLine:
    """What the command line writes for the same input."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._output = folder / "report"
        self._patch = monkeypatch

    def __call__(self, *arguments: str, body: bytes | None = None) -> bytes:
        if body is not None:
            self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
        assert cli.main([*arguments, "-o", str(self._output)]) in (0, 1, 2, 3)
        return self._output.read_bytes()


@pytest.fixture
def command_line(kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))
    return CommandLine(tmp_path, monkeypatch)


def problem(reply: Reply, status: int) -> dict[str, Any]:
    """Return what a problem tells, after what every problem must have."""
    assert reply.status == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    told = json.loads(reply.body)
    assert (told["status"], told["detail"]) == (status, STATUSES[status])
    for finding in told["findings"]:
        assert all(finding[name] for name in ("code", "where", "found", "why", "fix"))
    assert told["findings"]
    finding = told["findings"][0]
    assert isinstance(finding, dict)
    return finding


# -- the same bytes --------------------------------------------------------------------------------
@pytest.mark.parametrize("form", MEDIA_TYPES)
def test_every_format_is_the_command_lines(
    form: str, service: Service, command_line: CommandLine
) -> None:
    expected = command_line("validate", "-", "--format", form, body=TURTLE)
    asked = service.ask(
        "POST", "/validate", TURTLE, content_type="text/turtle", accept=MEDIA_TYPES[form]
    )
    assert asked.status == 200
    assert asked.headers["content-type"].partition(";")[0] == MEDIA_TYPES[form]
    assert asked.body == expected
    if form == "junit":
        named = service.ask(
            "POST", "/validate", TURTLE, {"format": form}, content_type="text/turtle"
        )
        assert named.body == expected


def records() -> Iterator[tuple[str, bytes]]:
    """Yield a record in every media type that is read."""
    graph = Graph().parse(data=TURTLE, format="turtle")
    bundle = json.loads(BUNDLE)
    lines = "".join(json.dumps(e["resource"]) + "\n" for e in bundle["entry"]).encode()
    made = {".ttl": "turtle", ".nt": "nt", ".jsonld": "json-ld", ".rdf": "xml"}
    for media, ending in RECORDS.items():
        if ending in made:
            yield media, graph.serialize(format=made[ending], encoding="utf-8")
        else:
            yield media, lines if ending == ".ndjson" else BUNDLE


@pytest.mark.parametrize(("media", "body"), list(records()), ids=list(RECORDS))
def test_every_kind_of_record(
    media: str, body: bytes, service: Service, command_line: CommandLine
) -> None:
    asked = service.ask("POST", "/validate", body, content_type=f"{media}; charset=utf-8")
    assert asked.status == 200
    (assessment,) = json.loads(asked.body)["assessments"]
    assert assessment["verdict"] == "ineligible"
    assert asked.body == command_line("validate", "-", "--format", "json", body=body)


def test_options_are_those_of_the_command_line(
    service: Service, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        ("entry-date", "2024-03-01"),
        ("as-of", "2024-02-28"),
        ("complete", "conditions,procedures"),
        ("attest", "I11=true"),
        ("policy", "laboratory-look-back=28"),
        ("reading", "A-11=either"),
        ("relax", "I07a:atLeast=8.0"),
        ("only", "eligibility"),
        ("trial", "NCT05602415"),
    ]
    given = [text for name, value in options for text in (f"--{name}", value)]
    expected = command_line("validate", "-", "--format", "json", *given, body=TURTLE)
    asked = service.ask("POST", "/validate", TURTLE, dict(options), content_type="text/turtle")
    assert asked.body == expected
    assert b"I07a:atLeast=8.0" in asked.body
    # A report names its input; here as the command line does whose input is a file.
    monkeypatch.chdir(EXAMPLES / "anaemic")
    named = service.ask(
        "POST",
        "/validate",
        TURTLE,
        {"name": "patient.ttl", "format": "text", "verbose": "true"},
        content_type="text/turtle",
    )
    assert named.body == command_line("validate", "patient.ttl", "--verbose")


@pytest.mark.parametrize("form", ["json", "text", "csv"])
def test_readiness(form: str, service: Service, command_line: CommandLine) -> None:
    expected = command_line("readiness", "-", "--format", form, body=BUNDLE)
    asked = service.ask(
        "POST", "/readiness", BUNDLE, {"format": form}, content_type="application/fhir+json"
    )
    assert (asked.status, asked.body) == (200, expected)


def test_knowledge(
    service: Service, command_line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, command in (("/rules", ["rules"]), ("/rules/I07a", ["explain", "I07a"])):
        assert cli.main(command) == 0
        assert service.ask("GET", path, accept="text/plain").text == capsys.readouterr().out
    for form, media in (("text", "text/plain"), ("json", None), ("fhir", MEDIA_TYPES["fhir"])):
        asked = service.ask("GET", "/checklist", **({"accept": media} if media else {}))
        assert asked.body == command_line("checklist", "--format", form)


def test_rules_as_json(service: Service, kb: KnowledgeBase) -> None:
    trial = kb.compile()
    told = json.loads(service.ask("GET", "/rules").body)
    assert [r["id"] for r in told["rules"]] == [r.id for p in trial.parts for r in p.criteria]
    for name, whole, cases in (("I07a", "I07", 5), ("I07", "I07", 0), ("E18", "E18", 5)):
        one = json.loads(service.ask("GET", f"/rules/{name}").body)
        assert [r["id"] for r in one["rules"]] == [whole]
        assert len(one["cases"]) >= cases
        assert one["rules"][0] in told["rules"]
    (clause,) = [c for r in one["rules"] for c in r["clauses"] if c["id"] == "E18"]
    assert clause["iri"].endswith("/E18")


def test_version(service: Service, kb: KnowledgeBase) -> None:
    told = json.loads(service.ask("GET", "/version").body)
    assert told["knowledge_base"]["sha256"] == kb.info.sha256
    assert told["trials"] == ["NCT05602415"]


# -- what is no record, and what is no verdict -----------------------------------------------------
def test_a_patient_who_cannot_be_judged_is_a_report(service: Service) -> None:
    undated = re.sub(rb"sarc:entryDate [^;]+;", b"", TURTLE)
    asked = service.ask("POST", "/validate", undated, content_type="text/turtle")
    (assessment,) = json.loads(asked.body)["assessments"]
    assert (asked.status, assessment["verdict"], assessment["error"]["code"]) == (
        200,
        "error",
        "DATA001",
    )
    dated = service.ask(
        "POST", "/validate", undated, {"entry-date": "2024-03-01"}, content_type="text/turtle"
    )
    assert json.loads(dated.body)["assessments"][0]["verdict"] == "ineligible"


@pytest.mark.parametrize(
    ("media", "body", "code"),
    [
        ("text/turtle", b"", "DATA000"),
        ("text/turtle", b"<urn:a> <urn:b> <urn:c> .", "DATA000"),
        ("text/turtle", b"@prefix qzxcanary", "DATA002"),
        ("application/fhir+json", b'{"resourceType": "qzxcanary"}', "DATA111"),
        ("application/fhir+json", b'{"qzxcanary": NaN}', "DATA104"),
        ("application/fhir+json", b"\xff\xfeqzxcanary", "DATA101"),
        ("application/rdf+xml", b'<!DOCTYPE r [<!ENTITY a "qzxcanary">]><r/>', "DATA002"),
        ("application/ld+json", b'{"@context": "http://127.0.0.1:9/qzxcanary"}', "DATA002"),
        ("application/x-ndjson", b"{\n", "DATA102"),
    ],
)
@pytest.mark.threat("F2")
def test_what_cannot_be_read(media: str, body: bytes, code: str, service: Service) -> None:
    asked = service.ask("POST", "/validate", body, content_type=media)
    assert problem(asked, 422)["code"] == code, asked.text
    assert "qzxcanary" not in asked.text


# -- negotiation -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/plain"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/turtle;q=0.5, application/ld+json", "application/ld+json"),
        ("text/html;q=0.1, */*;q=0", "text/html"),
        ("application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
    ],
)
def test_accept(accept: str, given: str, service: Service) -> None:
    asked = service.ask(
        "POST", "/validate", TURTLE, accept=accept, content_type="text/turtle; charset=UTF-8"
    )
    assert asked.status == 200
    assert asked.headers["content-type"].partition(";")[0] == given
    assert asked.headers["vary"] == "Accept"


@pytest.mark.threat("G11")
def test_what_is_not_offered_or_not_read(service: Service) -> None:
    ask = {"method": "POST", "path": "/validate", "body": TURTLE}
    for accept in ("image/png", "text/plain;q=0, image/*"):
        found = problem(service.ask(**ask, accept=accept, content_type="text/turtle"), 406)
        assert all(media in found["fix"] for media in MEDIA_TYPES.values())
    problem(service.ask(**ask, accept="qzx", content_type="text/turtle"), 400)
    for sent in (
        "text/plain",
        "multipart/form-data; boundary=x",
        "qzx",
        "application/octet-stream",
    ):
        reply = service.ask(**ask, content_type=sent)
        assert all(media in problem(reply, 415)["fix"] for media in RECORDS)
        assert reply.headers["accept"] == ", ".join(RECORDS)
    problem(service.ask(**ask), 415)
    problem(service.ask(**ask, content_type="text/turtle; charset=utf-16"), 415)
    problem(
        service.ask(
            **{**ask, "body": BUNDLE}, content_type="application/fhir+json; fhirVersion=5.0"
        ),
        415,
    )
    packed = {**ask, "body": gzip.compress(TURTLE)}
    reply = service.ask(**packed, content_type="text/turtle", content_encoding="gzip")
    problem(reply, 415)
    assert reply.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"entry_date": "2024-03-01"}, "the query"),
        ({"only": "everything"}, "the query: only"),
        ({"format": "pdf"}, "the query: format"),
        ({"entry-date": "2024-03"}, "--entry-date 2024-03"),
        ({"as-of": "soon"}, "--as-of soon"),
        ({"relax": "I07a:atLeast"}, "--relax I07a:atLeast"),
        ({"relax": "I07a:atLeast=many"}, "--relax I07a:atLeast"),
        ({"policy": "nonsense=1"}, "--policy"),
        ({"reading": "A-99=x"}, "--reading"),
        ({"complete": "everything"}, "--complete everything"),
        ({"attest": "I11=perhaps"}, "--attest I11=perhaps"),
        ({"trial": "NCT00000000"}, "--trial NCT00000000"),
    ],
)
def test_options_that_name_nothing(query: dict[str, str], where: str, service: Service) -> None:
    asked = service.ask("POST", "/validate", TURTLE, query, content_type="text/turtle")
    assert problem(asked, 400)["where"].startswith(where)


def test_an_option_twice_and_paths_that_are_not_there(service: Service) -> None:
    options = [("only", "treatment"), ("only", "eligibility")]
    twice = service.ask("POST", "/validate", TURTLE, options, content_type="text/turtle")
    assert problem(twice, 400)["found"] == "given twice"
    problem(service.ask("GET", "/qzx"), 404)
    problem(service.ask("GET", "/rules/Z99"), 404)
    problem(service.ask("GET", "/rules", query={"trial": "NCT00000000"}), 400)
    problem(service.ask("GET", "/rules", query={"format": "text"}), 400)
    reply = service.ask("GET", "/validate")
    problem(reply, 405)
    assert reply.headers["allow"] == "POST"


# -- FHIR ------------------------------------------------------------------------------------------
def parameters(*options: tuple[str, str, str], record: bytes = BUNDLE) -> bytes:
    parts = [{"name": name, f"value{kind}": value} for name, kind, value in options]
    parts.insert(0, {"name": "record", "resource": "RECORD"})
    document = json.dumps({"resourceType": "Parameters", "parameter": parts})
    return document.encode().replace(b'"RECORD"', record)


def test_the_operation_of_fhir(service: Service, command_line: CommandLine) -> None:
    ask = {"method": "POST", "path": STUDY, "content_type": "application/fhir+json"}
    expected = command_line("validate", "-", "--format", "fhir", body=BUNDLE)
    plain = service.ask(**ask, body=BUNDLE)
    assert (plain.status, plain.body) == (200, expected)
    assert plain.headers["content-type"] == "application/fhir+json"
    Bundle.model_validate(json.loads(plain.body))
    # Parameters are read by the command line too, for what they hold.
    held = parameters()
    asked = service.ask(**ask, body=held)
    assert asked.body == command_line("validate", "-", "--format", "fhir", body=held)
    for answer in (plain, asked):
        (entry,) = json.loads(answer.body)["entry"]
        (verdict,) = [
            part
            for held_resource in entry["resource"]["contained"]
            for part in held_resource.get("parameter", ())
            if part["name"] == "verdict"
        ]
        assert "ineligible" in verdict.values()


def test_options_of_the_operation(service: Service, command_line: CommandLine) -> None:
    ask = {"method": "POST", "path": STUDY, "content_type": "application/fhir+json"}
    body = parameters(
        ("relax", "String", "I07a:atLeast=8.0"),
        ("attest", "String", "I11=true"),
        ("attest", "String", "I09a=true"),
        ("asOf", "Date", "2024-03-01"),
        ("only", "Code", "eligibility"),
    )
    given = ["--relax", "I07a:atLeast=8.0", "--attest", "I11=true", "--attest", "I09a=true"]
    given += ["--as-of", "2024-03-01", "--only", "eligibility"]
    expected = command_line("validate", "-", "--format", "fhir", *given, body=body)
    assert service.ask(**ask, body=body).body == expected
    assert b"I07a:atLeast=8.0" in expected
    # In the address the same, by the same names.
    short = parameters()
    in_address = service.ask(
        **ask, body=short, query={"relax": "I07a:atLeast=8.0", "asOf": "2024-03-01"}
    )
    given = ["--relax", "I07a:atLeast=8.0", "--as-of", "2024-03-01"]
    assert in_address.body == command_line("validate", "-", "--format", "fhir", *given, body=short)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (parameters(("nonsense", "String", "x")), 400),
        (parameters(("only", "Code", "eligibility"), ("only", "Code", "treatment")), 400),
        (parameters(("relax", "Decimal", "8.0")).replace(b'"8.0"', b"8.0"), 400),
        (parameters(record=b"{}"), 422),
        (b'{"resourceType": "Parameters"}', 422),
        (b"qzx", 422),
    ],
)
@pytest.mark.threat("G11")
def test_problems_in_fhir_are_outcomes(body: bytes, status: int, service: Service) -> None:
    asked = service.ask("POST", STUDY, body, content_type="application/fhir+json")
    assert asked.status == status
    assert asked.headers["content-type"] == "application/fhir+json"
    outcome = OperationOutcome.model_validate(json.loads(asked.body))
    assert outcome.issue[0].severity == "error"
    assert outcome.issue[0].code == "invalid"


def test_the_server_describes_itself_in_fhir(service: Service) -> None:
    stated = json.loads(service.ask("GET", "/fhir/metadata").body)
    CapabilityStatement.model_validate(stated)
    (operation,) = stated["rest"][0]["resource"][0]["operation"]
    defined = json.loads(service.ask("GET", "/fhir/OperationDefinition/evaluate-eligibility").body)
    OperationDefinition.model_validate(defined)
    assert defined["url"] == operation["definition"]
    assert STUDY.endswith(f"${defined['code']}")
    taken = {p["name"] for p in defined["parameter"] if p["use"] == "in"}
    assert {"record", "entryDate", "asOf", "relax"} <= taken
    unknown = service.ask("GET", "/fhir/Patient")
    assert unknown.status == 404
    OperationOutcome.model_validate(json.loads(unknown.body))


# -- its own description ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def described(service: Service) -> dict[str, Any]:
    found = json.loads(service.ask("GET", "/openapi.json").body)
    assert isinstance(found, dict)
    return found


def test_the_description_is_whole(described: dict[str, Any]) -> None:
    """Every reference leads somewhere, every schema is one, and every operation is described."""
    schemas = described["components"]["schemas"]
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(described))
    assert len(references) > 50
    assert {r.removeprefix("#/components/schemas/") for r in references} <= set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    there = {(m.upper(), p) for p, methods in described["paths"].items() for m in methods}
    assert there == {(o.method, o.path) for o in OPERATIONS}
    assert "securitySchemes" not in described["components"]
    guarded = description(Limits(), Rights(frozenset(), "t" * 16))
    open_ones = [o.name for o in OPERATIONS if o.open]
    for path in guarded["paths"].values():
        for operation in path.values():
            wants = operation["operationId"] not in open_ones
            assert (operation.get("security") == [{"token": []}]) is wants
            assert ("401" in operation["responses"]) is wants


# A record in each media type, or what a mistake makes of one; JSON is made from its schema.
TEXTS = {
    "text/turtle": TURTLE,
    "application/n-triples": b"<urn:a> <urn:b> <urn:c> .",
    "application/rdf+xml": b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'/>",
    "application/x-ndjson": b'{"resourceType": "Patient", "id": "a"}',
    "application/fhir+ndjson": b'{"resourceType": "Patient", "id": "a"}',
}
for _media, _whole in TEXTS.items():
    _cut = st.integers(0, len(_whole)).map(lambda n, whole=_whole: whole[:n])
    schemathesis.openapi.media_type(
        _media, st.one_of(st.just(_whole), _cut, st.binary(max_size=50))
    )

SCHEMA = schemathesis.openapi.from_dict(
    description(Limits(size=1_000_000), Rights(frozenset({"127.0.0.1"})))
)
CHECKS = [
    checks.CHECKS.get_one(name)
    for name in (
        *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
        *("response_headers_conformance", "response_schema_conformance"),
        *("negative_data_rejection", "unsupported_method", "allow_header_conformance"),
    )
]


@SCHEMA.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_service_is_what_it_says(case: schemathesis.Case, service: Service) -> None:
    """Whatever the description lets one send, or a mistake makes of it, has an answer of a status,
    a media type and a shape that stand in the description."""
    case.call_and_validate(base_url=service.url, checks=CHECKS, timeout=120)


def test_after_all_this_it_still_judges(service: Service) -> None:
    assert json.loads(service.ask("GET", "/health").body) == {"status": "ready"}
    asked = service.ask("POST", "/validate", TURTLE, content_type="text/turtle")
    assert json.loads(asked.body)["assessments"][0]["verdict"] == "ineligible"


# -- what it rests on ------------------------------------------------------------------------------
def test_a_knowledge_base_that_is_asked_for_ever_other_limits_does_not_grow(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sarc_kb.kb.ENGINES_KEPT", 2)
    monkeypatch.setattr(kb, "_engines", {})
    limits = ["8.0", "8.1", "8.0", "8.2", "8.0"]
    found = [kb.engine(relaxed={"I07a:atLeast": limit})[1] for limit in limits]
    assert len(kb._engines) == 2
    # The one that was used last stayed.
    assert found[0] is found[2] is found[4]
    assert found[1] is not kb.engine(relaxed={"I07a:atLeast": "8.1"})[1]
