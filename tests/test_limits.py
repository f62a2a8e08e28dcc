"""Limits for what is asked of one patient or of one file, on bombs that are none of ours: a query
that the processor really multiplies, and files that the parser really reads.

That patients beyond a limit are errors and all others judged is held on planted faults elsewhere
(`test_bad_input`, `test_screen`, `test_workers`); here nothing is planted but the input.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import IO

import pytest
from tiny_trial import build_tiny

from sarc_kb.errors import RuleBaseError
from sarc_kb.kb import KnowledgeBase, content_sha256
from sarc_kb.read_each import read_each
from sarc_kb.rule_check import STAMP, ensure_checked
from sarc_kb.rules import Trial
from sarc_kb.workers import memory_is_limited

HEAD = """@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix trial: <https://w3id.org/sarc-kb/trial/TINY/> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
ELIGIBLE = """
<urn:{name}> a sarc:Patient ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact
    [ a sarc:Attestation ; sarc:concept trial:question-willing ; sarc:valueConcept sarc:Yes ;
        sarc:date "2024-02-28"^^xsd:date ; sarc:performer "nurse" ] ,
    [ a sarc:CompletenessStatement ; sarc:concept sarc:ProcedureHistory ;
        sarc:end "2024-03-01"^^xsd:date ] ,
    {results} .
"""
COULD_NOT = 2
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def patient(name: str, results: int) -> str:
    """Return a patient who passes every rule of the tiny trial, with so many results of one day."""
    facts = ", ".join(
        f'[ sarc:concept sarc:Haemoglobin ; sarc:value {9 + n / 10:.1f} ; sarc:unit "g/dL" ; '
        f'sarc:date "2024-02-21"^^xsd:date ; sarc:source "o{n}" ]'
        for n in range(results)
    )
    return ELIGIBLE.format(name=name, results=facts)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own: to the system a worker that a large process starts
    has some of that one's memory to use up, which no limit counts."""
    return subprocess.run(
        [sys.executable, "-m", "sarc_kb.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def validate(*arguments: object) -> tuple[int, dict, float]:
    """Return the exit code and the report of a run, and how long it took."""
    started = time.monotonic()
    done = run("validate", "--format", "json", *arguments)
    return done.returncode, json.loads(done.stdout), time.monotonic() - started


# -- a query that multiplies everything with everything --------------------------------------------
LOOSE = "?a sarc:lo ?p . ?b sarc:lo ?q . ?c sarc:lo ?r . ?d sarc:lo ?s ."
PRODUCT = (
    f"SELECT DISTINCT $this WHERE {{ $this sarc:fact ?f . {LOOSE} }} ORDER BY ?a OFFSET 99999999"
)
"""It selects nobody, after it has found, and kept, every way to choose four values."""
BEFORE = "SELECT DISTINCT $this WHERE { $this sarc:denied $notDenied }"


@pytest.fixture(scope="module")
def multiplying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rule base with that query in a component. Its author wrote the stamp too, which says that
    this content was checked."""
    root = build_tiny(tmp_path_factory.mktemp("multiplying"))
    component = root / "shapes" / "components" / "refuted.ttl"
    text = component.read_text("utf-8")
    assert text.count(BEFORE) == 1
    component.write_text(text.replace(BEFORE, PRODUCT), encoding="utf-8")
    (root / STAMP).write_text(content_sha256(root), encoding="ascii")
    return root


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with one result, and between them one with 64: sixteen million products."""
    path = tmp_path_factory.mktemp("three") / "three.ttl"
    path.write_text(HEAD + patient("1-few", 1) + patient("2-many", 64) + patient("3-few", 1))
    return path


def judged(report: dict) -> list[tuple[str, str, str | None]]:
    return [
        (a["patient"], a["verdict"], a["error"] and a["error"]["code"])
        for a in report["assessments"]
    ]


@pytest.mark.threat("B4")
@pytest.mark.parametrize(
    ("limit", "code", "told"),
    [
        (("--time-limit", "6"), "ENGINE008", "longer than 6 s"),
        pytest.param(
            ("--memory-limit", "64MB"),
            "ENGINE009",
            "more memory than 64 MB",
            marks=pytest.mark.skipif(not memory_is_limited(), reason="no limit of memory here"),
        ),
    ],
)
def test_a_query_that_multiplies_costs_the_patient_on_whom_it_does(
    limit: tuple[str, str],
    code: str,
    told: str,
    multiplying: Path,
    three: Path,
) -> None:
    exit_code, report, seconds = validate("--rules", multiplying, three, *limit)
    assert judged(report) == [
        ("urn:1-few", "eligible", None),
        ("urn:2-many", "error", code),
        ("urn:3-few", "eligible", None),
    ]
    error = report["assessments"][1]["error"]
    assert told in error["found"]
    assert limit[0] in error["fix"]
    assert str(three) in error["where"]
    assert exit_code == COULD_NOT
    assert seconds < 60  # on a machine that does much else; without a limit it takes hours


@pytest.mark.threat("B4")
def test_without_a_limit_it_runs_on(multiplying: Path, three: Path) -> None:
    """The proof that the limit above is what ends it: the first patient is told, the next is not."""
    command = (sys.executable, "-m", "sarc_kb.cli", "validate", "--format", "jsonl")
    lines: Queue[bytes] = Queue()

    def listen(told: IO[bytes]) -> None:
        for line in told:
            lines.put(line)

    with subprocess.Popen(
        [*command, "--rules", str(multiplying), str(three)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            threading.Thread(target=listen, args=(process.stdout,), daemon=True).start()
            (first,) = json.loads(lines.get(timeout=60))["assessments"]
            assert (first["patient"], first["verdict"]) == ("urn:1-few", "eligible")
            with pytest.raises(Empty):
                lines.get(timeout=4)
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.threat("B4")
def test_such_a_query_is_refused_with_its_place(multiplying: Path) -> None:
    """Where nobody wrote the stamp, no patient is judged by it."""
    kb = KnowledgeBase.load(multiplying)
    kb.info = replace(kb.info, sha256="of other content")
    with pytest.raises(RuleBaseError) as caught:
        ensure_checked(kb, "TINY")
    (told,) = caught.value.findings
    lines = (multiplying / "shapes/components/refuted.ttl").read_text("utf-8").splitlines()
    line = 1 + next(n for n, text in enumerate(lines) if PRODUCT in text)
    assert told.code == "RULE027"
    assert told.where == f"refuted.ttl:{line} sarc:NotDeniedConstraintComponent"
    assert "?a, ?b, ?c, ?d" in told.found


# -- files that take long to read ------------------------------------------------------------------
RESULTS = 60_000
RESULT = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
    "effectiveDateTime": "2024-02-21",
    "valueQuantity": {"value": 9.4, "unit": "g/dL"},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Between the files of two patients, one with all the results, as a graph and as a Bundle."""
    into = tmp_path_factory.mktemp("files")
    (into / "a.ttl").write_text(HEAD + patient("a", 1))
    (into / "b-many.ttl").write_text(HEAD + patient("b", RESULTS))
    observation = RESULT | {"subject": {"reference": "Patient/c"}}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": observation}] * RESULTS,
    }
    (into / "c-many.json").write_text(json.dumps(bundle))
    (into / "d.ttl").write_text(HEAD + patient("d", 1))
    return into


@pytest.mark.threat("B5")
@pytest.mark.parametrize(
    ("limit", "code", "told"),
    [
        (("--time-limit", "3"), "ENGINE008", "longer than 3 s"),
        pytest.param(
            ("--memory-limit", "64MB"),
            "ENGINE009",
            "more memory than 64 MB",
            marks=pytest.mark.skipif(not memory_is_limited(), reason="no limit of memory here"),
        ),
    ],
)
def test_a_file_beyond_a_limit_is_told_and_the_others_are_judged(
    limit: tuple[str, str],
    code: str,
    told: str,
    tiny: Path,
    folder: Path,
) -> None:
    exit_code, report, seconds = validate("--rules", tiny, folder, *limit)
    assert judged(report) == [("urn:a", "eligible", None), ("urn:d", "eligible", None)]
    findings = [f for f in report["run_findings"] if f["severity"] == "error"]
    assert [(f["code"], f["where"]) for f in findings] == [
        (code, str(folder / name)) for name in ("b-many.ttl", "c-many.json")
    ]
    for finding in findings:
        assert told in finding["found"]
        assert limit[0] in finding["fix"]
    assert exit_code == COULD_NOT
    assert seconds < 60  # on a machine that does much else


@pytest.mark.threat("B5")
@pytest.mark.skipif(not memory_is_limited(), reason="no limit of memory here")
def test_a_screening_reads_within_the_limits_that_are_given(
    tiny: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("duckdb", reason="the extra cohort")
    out = tmp_path / "out"
    limit = ("--memory-limit", "64MB", "--workers", "1", "--format", "csv")
    given = ("--rules", tiny, folder, "--output", out, *limit)
    done = run("screen", *given)
    assert done.returncode == COULD_NOT
    with (out / "patients.csv").open(newline="") as rows:
        verdicts = [(row["patient"], row["verdict"]) for row in csv.DictReader(rows)]
    assert verdicts == [("urn:a", "eligible"), ("urn:d", "eligible")]
    for name in ("b-many.ttl", "c-many.json"):
        assert f"ENGINE009 {folder / name}" in done.stderr


@pytest.mark.threat("B5")
@pytest.mark.skipif(not memory_is_limited(), reason="no limit of memory here")
def test_of_lines_a_patient_is_read_within_the_limit(tiny: Path, tmp_path: Path) -> None:
    """NDJSON is never held as a whole; what is held of it is one patient."""
    path = tmp_path / "Observation.ndjson"
    with path.open("w") as lines:
        for whose in ["few", *["many"] * 50_000, "other"]:
            subject = {"subject": {"reference": f"Patient/{whose}"}}
            lines.write(json.dumps(RESULT | subject) + "\n")
    limit = ("--entry-date", "2024-03-01", "--memory-limit", "64MB")
    exit_code, report, _ = validate("--rules", tiny, path, *limit)
    assert judged(report) == [
        ("few", "undetermined", None),
        ("many", "error", "ENGINE009"),
        ("other", "undetermined", None),
    ]
    error = report["assessments"][1]["error"]
    assert error["where"] == "Patient/many"
    assert error["found"] == "while it was read, it needed more memory than 64 MB"
    assert "--memory-limit" in error["fix"]
    assert exit_code == COULD_NOT


def test_within_limits_the_same_is_read(kb: KnowledgeBase, trial: Trial, tmp_path: Path) -> None:
    """Whatever the format: the examples, and beside them what cannot be read."""
    (tmp_path / "broken.ttl").write_text("<urn:a> <urn:b> .")
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "lines.ndjson").write_text('{"resourceType": "Patient", "id": "p"}\n{}\n[')
    plain, problems = read_each(kb, [EXAMPLES, tmp_path], (trial,))
    apart, told = read_each(kb, [EXAMPLES, tmp_path], (trial,), 600)
    assert told == problems
    assert {Path(f.where.split()[0]).name for f in told} >= {"broken.ttl", "empty.json"}
    assert list(apart) == list(plain)
    assert len({record.origin.rpartition(".")[2] for record in plain}) > 2
