"""The command line as a pipeline uses it: exit codes, formats, the same bytes every time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rdflib import Graph

from sarc_kb import cli
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SH

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def loaded_once(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))


@pytest.mark.parametrize(
    ("stories", "code"),
    [
        (["eligible"], 0),
        (["anaemic"], 1),
        (["pelvis"], 3),
        (["eligible", "pelvis"], 3),
        (["eligible", "pelvis", "anaemic"], 1),
        (["eligible", "no-such-story"], 2),
    ],
)
@pytest.mark.threat("G5")
def test_exit_codes(stories: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "-q", *(str(EXAMPLES / s) for s in stories)]) == code
    out = capsys.readouterr().out
    assert out.count("sarc-example-") >= len([s for s in stories if s != "no-such-story"])


@pytest.mark.threat("G6")
def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(KnowledgeBase, "assess_record", stop)
    assert cli.main(["validate", str(EXAMPLES / "eligible")]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (EXAMPLES / "anaemic" / "patient.ttl").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert cli.main(["validate", "-", "--format", "json"]) == 1
    (assessment,) = json.loads(capsys.readouterr().out)["assessments"]
    assert assessment["provenance"]["input_origin"] == "standard input"


def test_every_format_tells_the_same_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for name in cli.FORMATS:
        assert cli.main(["validate", str(EXAMPLES / "anaemic"), "--format", name]) == 1
        said[name] = capsys.readouterr().out
    assert said["text"].startswith("INELIGIBLE  sarc-example-02")
    assert json.loads(said["json"])["assessments"][0]["verdict"] == "ineligible"
    assert json.loads(said["jsonl"])["assessments"][0]["verdict"] == "ineligible"
    graphs = [
        Graph().parse(data=said["turtle"], format="turtle"),
        Graph().parse(data=said["jsonld"], format="json-ld"),
    ]
    for graph in graphs:
        (report,) = graph.subjects(RDF.type, SH.ValidationReport)
        assert str(graph.value(report, SH.conforms)) == "false"
        (result,) = (
            r
            for r in graph.objects(report, SH.result)
            if graph.value(r, SH.resultSeverity) == SH.Violation
        )
        assert str(graph.value(result, SH.sourceShape)).endswith("/I07a")
        assert "8.6" in str(graph.value(result, SH.resultMessage))


_ALL_FORMATS = """
import sys
from sarc_kb import cli
for name in cli.FORMATS:
    cli.main(["validate", *sys.argv[1:], "--format", name])
"""


@pytest.mark.threat("F8")
def test_the_same_bytes_whatever_the_hash_seed_zone_and_locale() -> None:
    outputs = []
    for seed, zone in (("0", "UTC"), ("4242", "Asia/Shanghai")):
        done = subprocess.run(
            [sys.executable, "-c", _ALL_FORMATS, "examples/missing-data", "examples/fhir-anaemic"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONUTF8": "1"},
            capture_output=True,
            timeout=200,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 100_000


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shell_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "validate" in capsys.readouterr().out


def test_explain_says_all_that_an_auditor_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "I07a"]) == 0
    page = capsys.readouterr().out
    for words in (
        "“Haemoglobin ≥ 9 g/dL”",
        "Inclusion Criteria, item 7",
        "How it is read",
        "A-43",
        "≥ 9 g/dL",
        "LOINC 718-7",
        "I07a-at-limit",
        "If it does not pass",
    ):
        assert words in page, words
    assert cli.main(["explain", "I99"]) == 2


def test_rules_lists_every_clause(kb: KnowledgeBase, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules"]) == 0
    listed = capsys.readouterr().out
    trial = kb.compile()
    for clause in trial.clauses.values():
        assert clause.id in listed
    assert f"{len(trial.criteria)} criteria, {len(trial.clauses)} clauses" in listed


def test_a_reading_and_a_policy_change_the_outcome_and_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(EXAMPLES / "long-qtc")
    assert cli.main(["validate", path, "--format", "json"]) == 1
    before = json.loads(capsys.readouterr().out)["assessments"][0]
    assert (
        cli.main(
            ["validate", path, "--format", "json", "--policy", "electrocardiogram-look-back=0"]
        )
        == 3
    )
    after = json.loads(capsys.readouterr().out)["assessments"][0]
    outcomes = [{c["id"]: c["outcome"] for c in a["criteria"]} for a in (before, after)]
    assert (outcomes[0]["E11"], outcomes[1]["E11"]) == ("fail", "undetermined")
    assert after["provenance"]["changed"] == ["electrocardiogram-look-back=0"]
