"""Threats that no other test holds, and the table of all of them in docs/security.md."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import threat_table
from rdflib import OWL, RDF, RDFS, Graph, Literal, URIRef
from tiny_trial import build_tiny

import sarc_kb
from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.dates import parse_date
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.ontology_build import load
from sarc_kb.reports.escaping import safe_iri, visible
from sarc_kb.rule_check import declared_terms, stamp_path, unknown_terms
from sarc_kb.rules import Trial
from sarc_kb.sources.fhir import read_fhir
from sarc_kb.terminology import load_terminology

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(sarc_kb.__file__).parent
EXAMPLES = ROOT / "examples"
NOWHERE = "http://127.0.0.1:9/"


# -- the table -------------------------------------------------------------------------------------
def test_every_threat_is_held_or_does_not_apply() -> None:
    threats = threat_table.threats()
    held = {threat for threat, _, _ in threat_table.marks()}
    assert held - threats.keys() == set(), "marks of threats that are not in the list"
    undecided = [t for t, (_, reason) in threats.items() if (t in held) == bool(reason)]
    assert not undecided, "held by no test and without a reason, or both"


def test_the_table_is_what_the_marks_say() -> None:
    """Stale: run `python tests/threat_table.py`."""
    assert threat_table.PAGE.read_text("utf-8") == threat_table.page()


def test_a_test_that_goes_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [m for m in threat_table.marks() if m[0] != "A1"]
    monkeypatch.setattr(threat_table, "marks", lambda: iter(marks))
    assert "| A1 | a JSON-LD context at an address | does not apply: ? |" in threat_table.table()


# -- no way out ------------------------------------------------------------------------------------
GUARD = """
import sys
def guard(event, arguments):
    # A pair of sockets within the process is how an event loop wakes itself.
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        raise SystemExit("reached out: " + event + repr(arguments[-1:]))
sys.addaudithook(guard)
from sarc_kb.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.threat("A3", "A11")
def test_records_are_judged_with_the_network_off(tmp_path: Path) -> None:
    """In a network of its own that has no devices, where the machine lets a user make one; there
    native code is held too. A hook of Python sees whoever asks in vain."""
    command = [sys.executable, "-c", GUARD, "validate", "--quiet", "--format", "json"]
    sources = [str(EXAMPLES / name) for name in ("eligible", "fhir-eligible")]
    apart = ["unshare", "--user", "--map-root-user", "--net"]
    try:
        can = subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        can = False
    done = subprocess.run(
        [*(apart if can else ()), *command, *sources],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    verdicts = [a["verdict"] for a in json.loads(done.stdout)["assessments"]]
    assert verdicts == ["eligible", "eligible"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that Python asks the network for."""
    found: list[object] = []

    def connect(_: socket.socket, address: object) -> None:
        found.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return found


def tiny_rules(root: Path) -> Path:
    return root / "shapes" / "trials" / "tiny" / "rules.ttl"


@pytest.mark.threat("A3", "A4", "A5")
def test_the_ontology_neither_imports_nor_names_code(tmp_path: Path, asked: list[object]) -> None:
    """Owlready2 follows imports even when told to stay local, and runs the module that an
    annotation names; neither reaches it."""
    root = build_tiny(tmp_path)
    module = URIRef(
        "http://www.lesfleursdunormal.fr/static/_downloads/owlready_ontology.owl#python_module"
    )
    with (root / "ontology" / "sarc.ttl").open("a") as handle:
        handle.write(f'\n<urn:o> <{OWL.imports}> <{NOWHERE}> ; <{module}> "antigravity" .\n')
    graph = load(root / "ontology")
    assert len(graph) > 1000
    assert not set(graph.predicates()) & {OWL.imports, module}
    for part in ("rule.ttl", "components/refuted.ttl", "trials/tiny/rules.ttl"):
        with (root / "shapes" / part).open("a") as handle:
            handle.write(f"\n<urn:o> <{OWL.imports}> <{NOWHERE}> .\n")
    (root / "p.ttl").write_text(
        f'@prefix sarc: <{SARC}> . <urn:p> a sarc:Patient ; sarc:entryDate "2024-03-01" ; <{OWL.imports}> <{NOWHERE}> .'
    )
    (assessment,) = KnowledgeBase.load(root).validate(root / "p.ttl").assessments
    assert assessment.verdict is Verdict.UNDETERMINED
    assert "antigravity" not in sys.modules
    assert asked == []


@pytest.mark.threat("A6", "A8")
@pytest.mark.parametrize(
    ("text", "after", "verdict"),
    [
        (f"SERVICE SILENT <{NOWHERE}> {{ ?a ?b ?c }}", "{", Verdict.ERROR),
        (f"FROM <{NOWHERE}>", "$this", Verdict.UNDETERMINED),
        ("FROM <file:///etc/passwd>", "$this", Verdict.UNDETERMINED),
    ],
)
def test_queries_reach_nothing_even_where_the_check_was_spared(
    text: str, after: str, verdict: Verdict, tmp_path: Path, asked: list[object]
) -> None:
    """Whoever writes the rules can write the stamp that says they were checked."""
    root = build_tiny(tmp_path)
    path = root / "shapes" / "components" / "refuted.ttl"
    whole = path.read_text("utf-8")
    at = whole.index(after, whole.index("SELECT DISTINCT")) + len(after)
    path.write_text(f"{whole[:at]} {text} {whole[at:]}", encoding="utf-8")
    kb = KnowledgeBase.load(root)
    stamp_path(kb).write_text(kb.info.sha256, encoding="ascii")
    (root / "p.ttl").write_text(
        f'@prefix sarc: <{SARC}> . <urn:p> a sarc:Patient ; sarc:entryDate "2024-03-01" .'
    )
    (assessment,) = kb.validate(root / "p.ttl").assessments
    assert assessment.verdict is verdict
    assert asked == []


@pytest.mark.threat("A7", "A9", "B2", "B4", "D1", "D13")
@pytest.mark.parametrize(
    "statement",
    [
        "sh:rule [ a sh:SPARQLRule ; sh:construct 'CONSTRUCT {} WHERE {}' ]",
        "sh:target [ a sh:SPARQLTarget ; sh:select 'SELECT ?this { }' ]",
        "sh:sparql [ sh:select 'SELECT $this { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i }' ]",
        f"sh:js [ sh:jsFunctionName 'f' ; sh:jsLibrary [ sh:jsLibraryURL '{NOWHERE}' ] ]",
        "sh:pattern '^(a+)+$'",
        "sh:severity sh:Info",
        "sh:deactivated true",
        "sh:deactivated 'true'",
        f"owl:imports <{NOWHERE}> ; sh:shapesGraph <{NOWHERE}>",
        "sh:minCont 1",
        "sh:property [ sh:path sarc:fact ; sh:minCount 1 ]",
        "sh:targetNode sarc:Patient",
        "sh:qualifiedValueShape trial:I01",
        "sh:xone ( trial:I01 )",
    ],
)
def test_a_rule_has_no_other_means_than_its_component(statement: str, kb: KnowledgeBase) -> None:
    """Each of these would be run, or passed over in silence, by some processor."""
    prefixes = f"""@prefix sarc: <{SARC}> . @prefix sh: <http://www.w3.org/ns/shacl#> .
        @prefix owl: <{OWL}> . @prefix trial: <https://w3id.org/sarc-kb/trial/TINY/> ."""
    own = Graph().parse(data=f"{prefixes} trial:I01 {statement} .", format="turtle")
    found = unknown_terms(own, declared_terms(kb), {str(s) for s in own.subjects()})
    assert {f.code for f in found} == {"RULE010"}


@pytest.mark.threat("A10")
@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}/p.ttl", "file://{path}", "//{path}x"])
def test_an_address_is_no_file(form: str, tiny: KnowledgeBase, asked: list[object]) -> None:
    record = EXAMPLES / "anaemic" / "patient.ttl"
    result = tiny.validate(form.format(port=9, path=record))
    assert result.assessments == ()
    assert [f.code for f in result.run_findings] == ["DATA002"]
    assert "No such file" in result.run_findings[0].found
    assert asked == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.mark.threat("A14")
@pytest.mark.parametrize("name", ["r.zip", "r.tar", "r.tar.gz", "r.ttl.zip", "r.ttl", "r.ndjson"])
def test_archives_are_not_opened(name: str, tiny: KnowledgeBase, tmp_path: Path) -> None:
    archive = io.BytesIO()
    text = (EXAMPLES / "anaemic" / "patient.ttl").read_bytes()
    if ".tar" in name:
        with tarfile.open(fileobj=archive, mode="w:gz" if name.endswith("gz") else "w") as tar:
            member = tarfile.TarInfo("../escaped.ttl")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("../escaped.ttl", text)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(archive.getvalue())
    result = tiny.validate(folder / name)
    assert result.assessments == ()
    assert {f.severity for f in result.run_findings} == {"error"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["in", name])


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    found = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return found | {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}


@pytest.mark.threat("A15")
def test_nothing_that_runs_code_is_read_from_a_file() -> None:
    """Only records that wait in a database without a name, which the process alone can open; and
    what a process sends its own workers through a pipe."""
    runs = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    users = {p.name for p in PACKAGE.rglob("*.py") if imports(p) & runs}
    assert users == {"patients.py", "fhir_dataset.py", "workers.py"}
    workers = (PACKAGE / "workers.py").read_text("utf-8")
    assert not re.search(r"pickle\.(load|dump)\(|open\(|read_bytes", workers)
    for name in users - {"workers.py"}:
        text = (PACKAGE / "sources" / name).read_text("utf-8")
        assert re.findall(r"sqlite3\.connect\(.*", text) == [
            'sqlite3.connect("", isolation_level=None)'
        ]
        assert not re.search(r"pickle\.(load|dump)\(", text)
    assert not [p for p in PACKAGE.rglob("*.py") if re.search(r"\b(eval|exec)\(", p.read_text("utf-8").replace(".eval(", ""))]  # fmt: skip


# -- bombs -----------------------------------------------------------------------------------------
KILLERS = ("a" * 50_000, "1" * 50_000, "%" * 50_000, "http://a/" + "a/" * 25_000, "-" * 50_000 + "!", "2024-" * 10_000, "e+" * 25_000, "\u202e" * 20_000, " " * 50_000 + "x")  # fmt: skip


@pytest.mark.threat("B2")
@pytest.mark.parametrize("text", KILLERS, ids=range(len(KILLERS)))
def test_no_pattern_of_the_readers_takes_for_ever(text: str, kb: KnowledgeBase) -> None:
    from sarc_kb.sources.fhir_bundle import RESTFUL
    from sarc_kb.sources.rdf import _number

    def date(value: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            parse_date(value)

    readers: list[Callable[[str], object]] = [
        RESTFUL.fullmatch,
        _number,
        date,
        lambda t: safe_iri(t, "patient"),
        visible,
        kb.terms.canonical_unit,
    ]
    for reader in readers:
        started = time.process_time()
        reader(text)
        assert time.process_time() - started < 2, reader


@pytest.mark.threat("B5")
def test_the_cost_of_one_patient_follows_its_results(kb: KnowledgeBase, tmp_path: Path) -> None:
    """Ten times the results cost about ten times as much: 200,000 are a matter of minutes."""
    from sarc_kb.kb import KnowledgeBase as Base

    def seconds(count: int) -> float:
        facts = " , ".join(
            f'[ sarc:concept sarc:Haemoglobin ; sarc:value {9 + n % 40}.5 ; sarc:unit "g/dL" ; sarc:date "2024-02-{1 + n % 28:02}"^^xsd:date ; sarc:source "o{n}" ]'
            for n in range(count)
        )
        path = tmp_path / f"{count}.ttl"
        path.write_text(
            f"@prefix sarc: <{SARC}> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> . "
            f'<urn:p> a sarc:Patient ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact {facts} .'
        )
        started = time.process_time()
        (assessment,) = Base.validate(kb, path).assessments
        spent = time.process_time() - started
        assert assessment.provenance is not None
        assert assessment.provenance.facts_read == count
        return spent

    seconds(10)
    small, large = seconds(150), seconds(1500)
    assert large < 20 * small + 2


@pytest.mark.threat("B8", "B9")
def test_a_hierarchy_may_be_long_and_may_go_in_a_circle(tmp_path: Path) -> None:
    """Three thousand steps from what is counted to what the rule names."""
    folder = build_tiny(tmp_path) / "ontology"
    graph = Graph()
    for path in (folder / "sarc.ttl", *(folder / "taxonomy").glob("*.ttl")):
        graph.parse(path, format="turtle")
    names = [SARC[f"K{n}"] for n in range(3000)]
    for below, above in zip(names, [*names[1:], SARC.BloodTransfusion], strict=True):
        graph.add((below, RDF.type, OWL.Class))
        graph.add((below, RDFS.subClassOf, above))
    ring = [SARC[f"Ring{n}"] for n in range(3)]
    for one, next_ in zip(ring, [*ring[1:], ring[0]], strict=True):
        graph.add((one, RDF.type, OWL.Class))
        graph.add((one, RDFS.subClassOf, next_))
    graph.add((ring[0], RDFS.label, Literal("ring")))
    terms = load_terminology(folder, graph)
    assert str(SARC.BloodTransfusion) in terms.ancestors[str(names[0])]
    assert {str(r) for r in ring} <= {*terms.ancestors[str(ring[0])], str(ring[0])}


@pytest.mark.threat("B10")
def test_a_bomb_in_a_bomb_is_not_unpacked_twice(tiny: KnowledgeBase, tmp_path: Path) -> None:
    inner = gzip.compress(b"#" * 30_000_000)
    (tmp_path / "p.ttl.gz").write_bytes(gzip.compress(inner))
    (tmp_path / "q.ttl.gz.gz").write_bytes(gzip.compress(inner))
    for name, told in (("p.ttl.gz", "is not UTF-8"), ("q.ttl.gz.gz", "unknown ending")):
        started = time.process_time()
        (finding,) = tiny.validate(tmp_path / name).run_findings
        assert told in finding.found
        assert time.process_time() - started < 3


# -- silence ---------------------------------------------------------------------------------------
@pytest.mark.threat("C3", "D2")
def test_a_trial_without_criteria_passes_nobody(tmp_path: Path) -> None:
    from sarc_kb.errors import RuleBaseError

    root = build_tiny(tmp_path)
    rules = tiny_rules(root)
    rules.write_text(rules.read_text("utf-8").partition("\ntrial:A-01 ")[0], encoding="utf-8")
    with pytest.raises(RuleBaseError):
        KnowledgeBase.load(root).validate(EXAMPLES / "eligible")


@pytest.mark.threat("D11")
def test_what_lies_far_below_a_term_counts_for_the_rule(tmp_path: Path) -> None:
    """The processor sees no hierarchy: what a fact falls under is marked before it runs."""
    root = build_tiny(tmp_path)
    steps = [*(f"sarc:Step{n}" for n in range(40)), "sarc:BloodTransfusion"]
    with (root / "ontology" / "sarc.ttl").open("a") as handle:
        for below, above in pairwise(steps):
            handle.write(f"\n{below} a <{OWL.Class}> ; <{RDFS.subClassOf}> {above} .")
    (root / "p.ttl").write_text(
        f'@prefix sarc: <{SARC}> . <urn:p> a sarc:Patient ; sarc:entryDate "2024-03-01" ; sarc:fact [ sarc:concept sarc:Step0 ; sarc:date "2024-02-21" ] .'
    )
    (assessment,) = KnowledgeBase.load(root).validate(root / "p.ttl").assessments
    assert {c.id: c.outcome for c in assessment.criteria}["E01"] is Outcome.FAIL


@pytest.mark.threat("D13")
def test_a_rule_switched_off_among_the_components_is_no_pass(tmp_path: Path) -> None:
    """The processor passes over it; what decides the clause says otherwise, so nothing is said."""
    root = build_tiny(tmp_path)
    with (root / "shapes" / "components" / "refuted.ttl").open("a") as handle:
        handle.write("\n<https://w3id.org/sarc-kb/trial/TINY/I01> sh:deactivated true .\n")
    (root / "p.ttl").write_text(
        f'@prefix sarc: <{SARC}> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> . <urn:p> a sarc:Patient ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact [ sarc:concept sarc:Haemoglobin ; sarc:value 8.0 ; sarc:unit "g/dL" ; sarc:date "2024-02-21"^^xsd:date ] .'
    )
    (assessment,) = KnowledgeBase.load(root).validate(root / "p.ttl").assessments
    assert assessment.verdict is Verdict.ERROR
    assert assessment.error is not None
    assert assessment.error.code == "ENGINE003"


def fhir(kb: KnowledgeBase, trial: Trial, patient: dict, quantity: dict) -> PatientRecord:
    """Return the record of a FHIR patient with one haemoglobin."""
    bodies = [
        {"resourceType": "Patient", "id": "p", **patient},
        {
            "resourceType": "Observation",
            "id": "hb",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
            "subject": {"reference": "Patient/p"},
            "effectiveDateTime": "2024-02-21",
            "valueQuantity": {"system": "http://unitsofmeasure.org", **quantity},
        },
    ]
    (record,) = read_fhir(json.dumps(bodies).encode(), "x", kb.reading_terms(trial).fhir)
    return record


@pytest.mark.threat("D8")
@pytest.mark.parametrize(
    ("code", "printed", "used"),
    [
        ("g/dL", "g/dL", "g/dL"),
        ("g/dL", None, "g/dL"),
        ("g/dL", "g per decilitre", "g/dL"),  # no unit that is known: a name for the code
        ("g/dL", "G/DL", "g/dL"),
        ("g/dL", "g/L", "g/dL or g/L"),
        ("g/L", "g/dL", "g/L or g/dL"),
        ("mmol/L", "g/dL", "mmol/L or g/dL"),
        ("10*9/L", "10*3/uL", "10*9/L"),  # the same amount
        ("10*9/L", "/uL", "10*9/L or /uL"),
    ],
)
def test_a_unit_that_is_coded_and_printed_otherwise_is_none(
    code: str, printed: str | None, used: str, kb: KnowledgeBase, trial: Trial
) -> None:
    """Ten times too much, or too little, would be judged without a word."""
    record = fhir(kb, trial, {}, {"value": 9.4, "code": code, "unit": printed})
    assert [f.unit for f in record.facts if f.unit] == [used]
    told = [f.found for f in record.findings if f.code == "DATA122"]
    assert told == (
        ["is in one unit by its code, and in another by what is printed"] if " or " in used else []
    )


@pytest.mark.threat("E2")
@pytest.mark.parametrize(
    ("patient", "told"),
    [
        ({"link": [{"other": {"reference": "Patient/q"}, "type": "replaced-by"}]}, ["DATA141"]),
        ({"link": [{"other": {"reference": "Patient/q"}, "type": "replaces"}]}, []),
        ({"active": False}, ["DATA142"]),
        ({"active": True}, []),
    ],
)
def test_a_record_that_another_replaced_is_not_judged(
    patient: dict, told: list[str], kb: KnowledgeBase, trial: Trial, engine: ShaclEngine
) -> None:
    """FHIR R4, Patient.link: such a record must no longer be used."""
    record = fhir(kb, trial, patient, {"value": 9.4, "code": "g/dL"})
    assert [f.code for f in record.findings] == told
    record = replace(record, entry=parse_date("2024-03-01"))
    verdict = kb.assess_record(record, trial, engine).verdict
    assert (verdict is Verdict.ERROR) == ("DATA141" in told)


@pytest.mark.threat("F9")
def test_no_result_knows_what_day_it_is() -> None:
    clocks = {
        *(f"{name}.{asked}" for name in ("date", "datetime", "datetime.date", "datetime.datetime")
          for asked in ("now", "utcnow", "today", "fromtimestamp")),
        *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.strftime"),
    }  # fmt: skip
    asked = {
        (path.name, ast.unparse(node))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in clocks
    }
    assert asked == set()
    names = {a for path in PACKAGE.rglob("*.py") for a in from_time(path)}
    assert names == {"monotonic"}, "how long it took is told while it runs"


def from_time(path: Path) -> set[str]:
    """Return what a module imports of `time` by name."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    found = (n.names for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "time")
    return {alias.name for names in found for alias in names}


# -- what is installed -----------------------------------------------------------------------------
@pytest.mark.threat("G12")
def test_what_is_installed_is_pinned_and_bounded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (r for group in groups for r in group):
        assert re.search(r">=[\d.]+,<[\d.]+$", requirement.partition(";")[0]), requirement
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-service.lock"):
        text = (ROOT / lock).read_text("utf-8").replace("\\\n", " ")
        lines = [li for li in text.splitlines() if li and not li.lstrip().startswith("#")]
        assert len(lines) > 5
        assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", li) for li in lines)
    assert "--require-hashes" in (ROOT / "Makefile").read_text("utf-8")
