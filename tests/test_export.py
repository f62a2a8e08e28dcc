"""What the program writes for other people's tools: shapes and a prepared patient that plain pySHACL
runs, the same byte for byte on every run, in the part of SPARQL that processors read alike."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyshacl
import pytest
from rdflib import Graph

from sarc_kb.assessment import Outcome
from sarc_kb.cli import main
from sarc_kb.engines.shapes import READINGS
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.namespaces import RDF, SARC, SH
from sarc_kb.rules import Trial

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
# Plain pySHACL takes seconds for each.
STORIES = ("anaemic", "pelvis")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("shapes")
    files = {reading: folder / f"{reading}.ttl" for reading in READINGS}
    for reading, file in files.items():
        assert main(["shapes", "--reading", reading, "--output", str(file)]) == 0
    return files


def patient(story: str) -> Path:
    (found,) = (p for p in (EXAMPLES / story).iterdir() if p.stem == "patient")
    return found


def plainly(data: Path, shapes: Path) -> set[str]:
    """Run plain pySHACL, without any code of this program; return the shapes violated."""
    _, report, _ = pyshacl.validate(
        Graph().parse(data, format="turtle"), shacl_graph=Graph().parse(shapes, format="turtle")
    )
    return {
        str(report.value(result, SH.sourceShape))
        for result in report.subjects(RDF.type, SH.ValidationResult)
    }


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.threat("D14")
def test_plain_pyshacl_says_the_same(
    story: str, shapes: dict[str, Path], tmp_path: Path, kb: KnowledgeBase
) -> None:
    data = tmp_path / "prepared.ttl"
    assert main(["prepare", str(patient(story)), "--output", str(data)]) == 0
    refuted, unproven = plainly(data, shapes["refuted"]), plainly(data, shapes["unproven"])
    (assessment,) = kb.validate(patient(story)).assessments
    assert len(assessment.criteria) == 30
    trial = kb.engine()[0]
    for shown, criterion in zip(assessment.criteria, trial.criteria, strict=True):
        # A criterion fails with its root, or by an answer that denies it.
        nodes = {criterion.root, criterion.iri}
        outcome = (
            Outcome.FAIL
            if nodes & refuted
            else Outcome.UNDETERMINED
            if nodes & unproven
            else Outcome.PASS
        )
        assert shown.outcome is outcome, shown.id
        said = {c.id: c.outcome for c in shown.clauses}
        for clause in (trial.clauses[i] for i in criterion.clauses):
            expected = (
                Outcome.FAIL
                if clause.iri in refuted
                else Outcome.UNDETERMINED
                if clause.iri in unproven
                else Outcome.PASS
            )
            assert said[clause.id] is expected


def written(seed: str, command: list[str]) -> bytes:
    code = f"import sys; from sarc_kb.cli import main; sys.exit(main({command!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
    )
    assert len(done.stdout) > 1000
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["shapes", "--reading", "refuted"],
        ["shapes", "--reading", "unproven"],
        ["prepare", str(patient("anaemic"))],
    ],
    ids=["refuted", "unproven", "prepare"],
)
@pytest.mark.threat("F8")
def test_the_same_bytes_whatever_the_hash_seed(command: list[str]) -> None:
    assert written("1", command) == written("2", command)


# -- the portable subset ---------------------------------------------------------------------------
def unportable(query: str, *, select: bool) -> list[str]:
    """Return what in ``query`` some processor refuses, ignores or reads in its own way."""
    # A word of the language, not a part of a name.
    words = {w.upper() for w in re.findall(r"(?<![\w:?$-])[A-Za-z]+(?![\w:-])", query)}
    found = sorted(words & {"SERVICE", "FROM", "GRAPH", "MINUS", "VALUES"})
    if len(re.findall(r"\bSELECT\b", query, re.IGNORECASE)) > (1 if select else 0):
        found.append("nested SELECT")
    if select:
        if re.search(r"[?$]value\b", query):
            found.append("?value")
        head = re.match(r"\s*SELECT\s+DISTINCT\s+(.*?)\s+WHERE\b", query, re.IGNORECASE | re.DOTALL)
        if head is None or head[1] != "$this":
            found.append("projection")
    return found


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.threat("A6")
def test_components_stay_in_the_portable_subset(reading: str, trial: Trial) -> None:
    graph = Graph().parse(
        data_folder() / "shapes" / "components" / f"{reading}.ttl", format="turtle"
    )
    queries = [(q, True) for q in graph.objects(None, SH.select)] + [
        (q, False) for q in graph.objects(None, SH.ask)
    ]
    assert len(queries) == len(set(graph.subjects(RDF.type, SH.ConstraintComponent))) == 7
    for query, select in queries:
        assert not unportable(str(query), select=select)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("SELECT DISTINCT $this WHERE { SERVICE <urn:x> { $this ?p ?o } }", "SERVICE"),
        ("SELECT DISTINCT $this FROM <urn:x> WHERE { $this ?p ?o }", "FROM"),
        ("SELECT DISTINCT $this WHERE { graph ?g { $this ?p ?o } }", "GRAPH"),
        ("SELECT DISTINCT $this WHERE { $this ?p ?o MINUS { $this ?p 1 } }", "MINUS"),
        ("SELECT DISTINCT $this WHERE { VALUES ?o { 1 } $this ?p ?o }", "VALUES"),
        ("SELECT DISTINCT $this WHERE { { SELECT ?p { $this ?p ?o } } }", "nested SELECT"),
        ("SELECT DISTINCT $this WHERE { $this ?p ?value }", "?value"),
        ("SELECT DISTINCT $this ?o WHERE { $this ?p ?o }", "projection"),
        ("SELECT $this WHERE { $this ?p ?o }", "projection"),
    ],
)
def test_the_linter_finds_each_fault(query: str, fault: str) -> None:
    assert fault in unportable(query, select=True)


def test_the_linter_lets_names_pass() -> None:
    assert not unportable(
        "SELECT DISTINCT $this WHERE { $this sarc:from ?graph ; sarc:minus-values ?f }", select=True
    )


def test_exports_carry_both_severities(shapes: dict[str, Path]) -> None:
    """Whoever runs both files can tell a failure from an open question by the results alone."""
    severities = {
        reading: set(Graph().parse(file, format="turtle").objects(None, SH.severity))
        for reading, file in shapes.items()
    }
    assert severities == {"refuted": {SH.Violation}, "unproven": {SARC.Undetermined}}
