"""The command line as a pipeline uses it: exit codes, formats, the same bytes every time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from openpyxl import load_workbook
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


def test_every_format_tells_the_same_verdict(tmp_path: Path) -> None:
    said = {}
    for name in cli.FORMATS:
        report = tmp_path / name
        given = ["validate", str(EXAMPLES / "anaemic"), "--format", name, "-o", str(report)]
        assert cli.main(given) == 1
        said[name] = report.read_bytes().decode("utf-8", "replace")
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
    assert said["markdown"].startswith("# sarc-example-02: ineligible")
    assert "Not eligible" in said["html"]
    fhir = json.loads(said["fhir"])["entry"][0]["resource"]["contained"][1]["parameter"]
    assert fhir[0] == {"name": "verdict", "valueString": "ineligible"}
    assert 'failures="1" errors="0"' in said["junit"]
    patients = load_workbook(io.BytesIO((tmp_path / "xlsx").read_bytes()))["patients"]
    assert [cell.value for cell in patients["D"]] == ["verdict", "ineligible"]


def test_a_workbook_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(EXAMPLES / "anaemic"), "--format", "xlsx"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "USE090" in told.err


_ALL_FORMATS = """
import sys
from sarc_kb import cli
from sarc_kb.kb import KnowledgeBase
folder, *files = sys.argv[1:]
kb = KnowledgeBase.load()
KnowledgeBase.load = classmethod(lambda _, root=None: kb)
for name in cli.FORMATS:
    cli.main(["validate", *files, "--format", name, "--output", f"{folder}/{name}"])
"""
_EVERYWHERE = (
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "4242", "TZ": "Asia/Shanghai", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "7", "TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8"},
    {"PYTHONHASHSEED": "random", "TZ": "Pacific/Kiritimati", "LC_ALL": "POSIX"},
)


def reports_made(folder: Path, files: Sequence[str], where: Mapping[str, str]) -> dict[str, bytes]:
    """Return the reports in all formats, as a program of its own writes them there."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _ALL_FORMATS, str(folder), *files],
        cwd=ROOT,
        env={**os.environ, **where},
        capture_output=True,
        timeout=400,
        check=True,
    )
    assert done.stdout == b""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.threat("F8")
def test_the_same_bytes_whatever_the_hash_seed_zone_and_locale(tmp_path: Path) -> None:
    files = ["examples/missing-data", "examples/fhir-anaemic"]
    first, second = (
        reports_made(tmp_path / str(number), files, where)
        for number, where in enumerate(_EVERYWHERE[:2])
    )
    assert set(first) == set(cli.FORMATS)
    assert first == second
    assert all(len(report) > 4_000 for report in first.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "files",
    [
        ["examples/course-skipped-level", "examples/course-vague", "examples/empty-record"],
        ["examples/fhir-course", "examples/contradictory-record", "examples/local-codes"],
    ],
)
@pytest.mark.threat("F8")
def test_the_same_bytes_everywhere(files: list[str], tmp_path: Path) -> None:
    first, *others = (
        reports_made(tmp_path / str(number), files, where)
        for number, where in enumerate(_EVERYWHERE)
    )
    assert set(first) == set(cli.FORMATS)
    assert all(other == first for other in others)


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
