"""No way out: every command, over rules and records that name addresses and files in every place
where some library would follow them, asks no server and opens no file that was not given to it.

Three see to it: a server that counts who asks; the kernel, which tells of every opening of the
secret files, by native code too (inotify); and a hook of Python that notes every way out.
"""

from __future__ import annotations

import csv
import ctypes
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import html5lib
import pytest
from tiny_trial import TRIAL, build_tiny

from sarc_kb.namespaces import SARC

ROOT = Path(__file__).resolve().parent.parent
MARK = "qzxsecretqzx"
CONTROL = "\x1b[31m\x07\u202e\rforged"
IN_ACCESS, IN_OPEN = 0x1, 0x20  # from linux/inotify.h

# Runs each command line that standard input holds, and tells what came of it, in JSON.
DRIVER = """
import contextlib, io, json, sys, traceback
noted, own = [], [False]
OUT = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
       "http.client.connect", "ftplib.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "webbrowser.open")
def hook(event, arguments):
    if event in OUT:
        noted.append([event, repr(arguments)[:300]])
    elif event == "import" and arguments[0] in ("antigravity", "qzx"):
        noted.append([event, arguments[0]])
sys.addaudithook(hook)
from sarc_kb.cli import main
for line in sys.stdin:
    command = json.loads(line)
    noted.clear()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(command)
        except SystemExit as end:
            code = end.code
        except BaseException:
            code = traceback.format_exc()
    sys.__stdout__.write(json.dumps([code, out.getvalue(), err.getvalue(), list(noted)]) + "\\n")
    sys.__stdout__.flush()
"""


@dataclass(slots=True)
class Bait:
    """An address and a folder of secret files that nobody may touch, and who did."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)
    watch: int = -1

    @property
    def secret(self) -> Path:
        return self.folder / "secret.ttl"

    def opened(self) -> bool:
        """Return whether a secret file was opened or read since this was last asked."""
        try:
            return bool(os.read(self.watch, 65536))
        except BlockingIOError:
            return False


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bait]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def __getattr__(self, name: str) -> object:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path_factory.mktemp("secret")
    for name in ("secret.ttl", "secret.csv", "secret.jsonld", "secret.rq", "secret.py"):
        (folder / name).write_text(f"{MARK}\n")
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert watch >= 0
    for path in folder.iterdir():
        assert libc.inotify_add_watch(watch, os.fsencode(path), IN_ACCESS | IN_OPEN) >= 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Bait(f"http://127.0.0.1:{server.server_port}/", folder, asked, watch)
    server.shutdown()
    server.server_close()
    thread.join(5)
    os.close(watch)


def test_the_guards_see(bait: Bait) -> None:
    """Without this, silence would prove nothing."""
    import urllib.error
    import urllib.request

    import duckdb

    assert not bait.opened()
    with duckdb.connect() as database:
        database.execute(f"SELECT * FROM read_csv('{bait.folder}/secret.csv')").fetchall()
    assert bait.opened(), "native code"
    assert not bait.opened()
    for method in ("GET", "POST", "HEAD", "PROPFIND"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(bait.url + method, method=method))
    assert bait.asked == ["/GET", "/POST", "/HEAD", "/PROPFIND"]
    bait.asked.clear()


# -- rules and records ------------------------------------------------------------------------------
PREFIXES = f"""
@prefix sarc: <{SARC}> . @prefix trial: <{TRIAL}> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> . @prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix dct: <http://purl.org/dc/terms/> .
@prefix ex: <https://example.org/> .
"""


def names(bait: Bait) -> Iterator[str]:
    """Yield what may be taken for a place to go to: an address, and a file as address and path."""
    yield bait.url + "x"
    yield bait.secret.as_uri()
    yield str(bait.secret)
    yield os.path.relpath(bait.secret, bait.folder.parent / "records")


def statements(bait: Bait, subject: str) -> str:
    """Return in Turtle all that a library might follow, said of ``subject``."""
    lines = []
    for name in names(bait):
        for term in ("owl:imports", "rdfs:seeAlso", "rdfs:isDefinedBy", "sh:shapesGraph", "sh:entailment", "owl:priorVersion", "dct:source"):  # fmt: skip
            lines.append(f"{subject} {term} <{name}> .")
    lines.append(f'{subject} <http://www.lesfleursdunormal.fr/static/_downloads/owlready_ontology.owl#python_module> "qzx" .')  # fmt: skip
    return "\n".join(lines)


def hostile_texts(bait: Bait) -> Iterator[str]:
    """Yield texts that load something where they are taken for markup, a formula or a command."""
    url = bait.url
    yield f'<img src="{url}img"><link rel=stylesheet href="{url}css"><script src="{url}js"></script>'
    yield f"![x]({url}md) [x]({bait.secret.as_uri()}) <style>@import url({url}css)</style>{CONTROL}"
    yield f'=IMPORTXML("{url}xml","//a")'
    yield f"read_csv('{bait.folder}/secret.csv')"
    yield f"$(cat {bait.secret}) `cat {bait.secret}` | cat {bait.secret}{CONTROL}"


def rule_base(folder: Path, bait: Bait) -> Path:
    """Write a knowledge base that passes its check, with bait in all that it says."""
    root = build_tiny(folder)
    trial = root / "shapes" / "trials" / "tiny" / "rules.ttl"
    first, second, third, *_ = (json.dumps(t) for t in hostile_texts(bait))
    text = trial.read_text("utf-8")
    for old, new in (
        ('rdfs:label "haemoglobin"', f"rdfs:label {first}"),
        ('sarc:remedy "check it"', f"sarc:remedy {second}"),
        ('sarc:interpretation "Somebody who knows says so."', f"sarc:interpretation {third}"),
        ('sarc:because "Nine is printed."', f"sarc:because {first}"),
    ):
        assert old in text
        text = text.replace(old, new)
    trial.write_text(text, encoding="utf-8")
    return root


def imports(root: Path, bait: Bait) -> Path:
    """Add to a knowledge base, in every file of statements, what no rule may say."""
    for path in (*root.rglob("sarc.ttl"), *(root / "shapes").rglob("*.ttl")):
        with path.open("a", encoding="utf-8") as handle:
            handle.write(PREFIXES + statements(bait, "<urn:bait>"))
    return root


def queries(root: Path, bait: Bait) -> Path:
    path = root / "shapes" / "components" / "refuted.ttl"
    text = path.read_text("utf-8")
    at = text.index("{", text.index("SELECT DISTINCT")) + 1
    path.write_text(f"{text[:at]} SERVICE SILENT <{bait.url}sparql> {{ ?a ?b ?c }} {text[at:]}")
    return root


def well(bait: Bait) -> str:
    """Return a patient who passes the three rules, with bait in every text and beside it."""
    first, second, third, fourth, fifth = (json.dumps(t) for t in hostile_texts(bait))
    return f"""{PREFIXES}
    @base <{bait.url}> .
    ex:anna a sarc:Patient ; sarc:identifier {fourth} ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact
        [ sarc:concept sarc:Haemoglobin ; sarc:value 9.4 ; sarc:unit "g/dL" ; sarc:date "2024-02-21"^^xsd:date ; sarc:source {first} ] ,
        [ sarc:concept <relative> ; sarc:date "2024-02-21"^^xsd:date ; sarc:source {second} ] ,
        [ sarc:concept <{bait.secret.as_uri()}> ; sarc:valueText {third} ; sarc:source {fifth} ] ,
        [ a sarc:Attestation ; sarc:concept trial:question-willing ; sarc:valueConcept sarc:Yes ; sarc:date "2024-02-28"^^xsd:date ; sarc:performer {fifth} ; sarc:source "form" ] ,
        [ a sarc:CompletenessStatement ; sarc:concept sarc:ProcedureHistory ; sarc:end "2024-03-01"^^xsd:date ; sarc:source "list" ] .
    {statements(bait, "ex:anna")}
    ex:shape a sh:NodeShape ; sh:targetClass sarc:Patient ;
        sh:sparql [ sh:select "SELECT $this FROM <{bait.url}from> FROM NAMED <{bait.secret.as_uri()}> WHERE {{ SERVICE <{bait.url}service> {{ ?s ?p ?o }} }}" ] ;
        sh:js [ sh:jsLibrary [ sh:jsLibraryURL "{bait.url}js"^^xsd:anyURI ] ] .
    """


def bundle(bait: Bait) -> dict[str, object]:
    """Return a FHIR Bundle that refers to the bait wherever FHIR has an address."""
    url, secret = bait.url, bait.secret.as_uri()
    meta = {"profile": [url + "StructureDefinition/p", secret], "source": secret}
    body = {"meta": meta, "implicitRules": url + "rules", "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><img src="{url}div"/></div>'}}  # fmt: skip
    patient = {"resourceType": "Patient", "id": "anna", **body, "photo": [{"url": url + "photo"}], "managingOrganization": {"reference": url + "Organization/1"}}  # fmt: skip
    result = {
        "resourceType": "Observation", "id": "hb", "status": "final", **body,
        "extension": [{"url": secret, "valueUrl": url + "extension"}],
        "subject": {"reference": "Patient/anna"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}, {"system": secret, "code": str(bait.secret)}]},
        "valueQuantity": {"value": 9.4, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
        "effectiveDateTime": "2024-02-21", "performer": [{"reference": secret}], "hasMember": [{"reference": url + "Observation/2"}],
        "specimen": {"reference": url + "Specimen/1"}, "encounter": {"reference": secret},
    }  # fmt: skip
    document = {"resourceType": "DocumentReference", "id": "d", "status": "current", "subject": {"reference": "Patient/anna"}, "content": [{"attachment": {"url": secret}}]}  # fmt: skip
    drug = {"resourceType": "MedicationStatement", "id": "m", "status": "active", "subject": {"reference": "Patient/anna"}, "medicationReference": {"reference": url + "Medication/1"}}  # fmt: skip
    entries = [{"fullUrl": f"{url}{r['resourceType']}/{r['id']}", "resource": r} for r in (patient, result, document, drug)]  # fmt: skip
    return {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "self", "url": secret}], "entry": entries}  # fmt: skip


def records(folder: Path, bait: Bait) -> Path:
    """Write a folder of records in every format that is read, each with bait."""
    folder.mkdir()
    url, secret = bait.url, bait.secret.as_uri()
    (folder / "a.ttl").write_text(well(bait))
    person = {"@id": "https://example.org/berta", "@type": str(SARC.Patient)}
    for n, target in enumerate(names(bait)):
        (folder / f"context-{n}.jsonld").write_text(
            json.dumps({"@context": [{}, target], **person})
        )
        (folder / f"import-{n}.jsonld").write_text(json.dumps({"@context": {"@import": target}, **person}))  # fmt: skip
        (folder / f"lines-{n}.nt").write_text(f"<urn:p{n}> <http://www.w3.org/2002/07/owl#imports> <{url}> .\n<urn:p{n}> a <{target}> .")  # fmt: skip
    head = f'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:sarc="{SARC}" xmlns:owl="http://www.w3.org/2002/07/owl#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xi="http://www.w3.org/2001/XInclude"'
    person_xml = f'<sarc:Patient rdf:about="clara"><sarc:entryDate>2024-03-01</sarc:entryDate><owl:imports rdf:resource="import"/><owl:imports rdf:resource="{secret}"/></sarc:Patient>'
    (folder / "base.rdf").write_text(f'<?xml version="1.0"?><?xml-stylesheet href="{url}xsl"?><rdf:RDF {head} xml:base="{url}" xsi:schemaLocation="{url}a {url}b">{person_xml}</rdf:RDF>')  # fmt: skip
    (folder / "include.rdf").write_text(f'<rdf:RDF {head}><xi:include href="{secret}" parse="text"/><xi:include href="{url}include"/></rdf:RDF>')  # fmt: skip
    for n, target in enumerate((url + "dtd", secret)):
        (folder / f"dtd-{n}.rdf").write_text(f'<!DOCTYPE rdf:RDF SYSTEM "{target}"><rdf:RDF {head}>{person_xml}</rdf:RDF>')  # fmt: skip
        (folder / f"entity-{n}.owl").write_text(f'<!DOCTYPE r [<!ENTITY x SYSTEM "{target}"><!ENTITY % y SYSTEM "{target}"> %y;]><rdf:RDF {head}><sarc:Patient rdf:about="urn:d"><sarc:identifier>&x;</sarc:identifier></sarc:Patient></rdf:RDF>')  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(bundle(bait)))
    page = {**bundle(bait), "link": [{"relation": "next", "url": url + "next"}]}
    (folder / "page.json").write_text(json.dumps(page).replace("anna", "dora"))
    entries = bundle(bait)["entry"]
    assert isinstance(entries, list)
    (folder / "bulk.ndjson").write_text("\n".join(json.dumps({**e["resource"], "id": "n-" + e["resource"]["id"], **({"subject": {"reference": "Patient/n-anna"}} if "subject" in e["resource"] else {})}) for e in entries))  # fmt: skip
    return folder


def tables(folder: Path, bait: Bait) -> Path:
    """Write an OMOP CDM as CSV whose texts are bait."""
    folder.mkdir()
    address, call = bait.url + "x", f"read_csv('{bait.folder}/secret.csv')"
    for name, text in {
        "person": f'person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,person_source_value\n1,8532,1960,1,1,"{call}"\n',
        "measurement": f'measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number,unit_concept_id,measurement_source_value,unit_source_value\n1,1,3000963,2024-02-21,9.4,8713,{address},"{call}"\n2,1,0,2024-02-21,9.4,0,"{call}",{bait.secret}\n',
        "concept": f'concept_id,concept_name,domain_id,vocabulary_id,concept_class_id,standard_concept,concept_code,valid_start_date,valid_end_date\n3000963,{address},Measurement,LOINC,Lab Test,S,718-7,1970-01-01,2099-12-31\n8713,"{call}",Unit,UCUM,Unit,S,g/dL,1970-01-01,2099-12-31\n',
    }.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def mappings(path: Path, bait: Bait) -> Path:
    path.write_text(
        f"#curie_map:\n#  bad: {bait.url}\n#  LOINC: http://loinc.org/\n#  sarc: {SARC}\n#mapping_set_id: {bait.secret.as_uri()}\n#license: {bait.url}licence\n#see_also:\n#  - {bait.url}see\n"
        "subject_id\tsubject_label\tpredicate_id\tobject_id\tmapping_justification\n"
        f"bad:718-7\t{bait.url}\tskos:exactMatch\tsarc:Haemoglobin\tsemapv:ManualMappingCuration\n"
    )
    return path


def value_set(path: Path, bait: Bait) -> Path:
    include = [{"valueSet": [bait.url + "ValueSet/1", bait.secret.as_uri()]}, {"system": bait.url + "system", "filter": [{"property": "concept", "op": "is-a", "value": bait.url}]}]  # fmt: skip
    expansion = {"contains": [{"system": "http://loinc.org", "code": "718-7"}]}
    path.write_text(json.dumps({"resourceType": "ValueSet", "url": bait.url, "status": "active", "compose": {"include": include}, "expansion": expansion}))  # fmt: skip
    return path


# -- every command ----------------------------------------------------------------------------------
FORMATS = ("text", "html", "markdown", "xlsx", "json", "jsonl", "fhir", "turtle", "jsonld", "junit")


@dataclass(slots=True)
class Run:
    command: list[str]
    code: object
    out: str
    err: str
    noted: list[list[str]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, bait: Bait) -> Path:
    """Return the folder in which the commands work, beside the secret one."""
    folder = bait.folder.parent / "work"
    folder.mkdir()
    rule_base(folder / "kb", bait)
    queries(imports(rule_base(folder / "unchecked", bait), bait), bait)
    records(folder / "records", bait)
    tables(folder / "cdm", bait)
    mappings(folder / "ours.sssom.tsv", bait)
    value_set(folder / "set.json", bait)
    return folder


def commands() -> Iterator[list[str]]:
    """Yield the command lines; those that read what others wrote come after them."""
    kb = ["--rules", "kb"]
    extra = ["--mappings", "ours.sssom.tsv", "--valueset", "Haemoglobin=set.json"]
    yield ["validate", *kb, "records"]
    for form in FORMATS:
        yield ["validate", *kb, "--format", form, "--output", f"out-{form}", "records/a.ttl"]
    yield ["validate", *kb, *extra, "--verbose", "records/a.ttl", "records/bundle.json"]
    yield ["validate", *kb, "--omop", "cdm", "--entry-date", "2024-03-01"]
    yield ["validate", *kb, "--engine", "pyshifty", "records/a.ttl"]
    screen = ["screen", *kb, "--workers", "1"]
    yield [*screen, "--format", "csv", "--output", "screen-csv", "records"]
    yield [*screen, "--output", "screen-parquet", "records/a.ttl"]
    yield [*screen, "--omop", "cdm", "--entry-date", "2024-03-01", "--output", "screen-cdm"]
    yield ["rules", *kb]
    yield ["explain", *kb, "I01"]
    yield ["check", *kb]
    for reading in ("refuted", "unproven"):
        yield ["shapes", *kb, "--reading", reading, "--output", f"{reading}.ttl"]
    yield ["prepare", *kb, "records/a.ttl", "--output", "prepared.ttl"]
    yield ["facts", *kb, "records/a.ttl", "--output", "facts.parquet"]
    yield ["validate", *kb, "facts.parquet"]
    yield ["readiness", *kb, "records"]
    for form in ("json", "csv"):
        yield ["readiness", *kb, "--format", form, "--output", f"ready.{form}", "records/a.ttl"]
    yield ["map", *kb, "records"]
    yield ["map", *kb, "--suggest", "--output", "suggested.sssom.tsv", "records/bundle.json"]
    for form in ("text", "fhir", "json"):
        yield ["checklist", *kb, "--format", form]
    yield ["audit", *kb, "rules", "source", "codes", "cases", "logic", "register", "--format", "json", "--output", "audit.json"]  # fmt: skip
    yield ["audit", *kb, "rules", "source", "--format", "html", "--output", "audit.html"]
    yield ["docs", *kb, "--audit", "audit.json", "--output", "book"]
    yield ["diff", "kb", "unchecked", "--cohort", "records/a.ttl"]
    for form in ("json", "markdown"):
        yield ["diff", "kb", "unchecked", "--format", form]
    yield ["readings", *kb, "records/a.ttl"]
    yield ["pack", *kb, "--with-inputs", "--output", "pack.zip", "records/a.ttl"]
    yield ["verify", "pack.zip"]
    # What the check refuses is not run, and what it says reaches nothing either.
    other = ["--rules", "unchecked"]
    for command in ("check", "rules", "checklist", "shapes"):
        yield [command, *other]
    yield ["validate", *other, "records/a.ttl"]
    yield ["screen", *other, "--output", "screen-unchecked", "records/a.ttl"]
    yield ["audit", *other, "rules", "source", "logic"]
    yield ["docs", *other, "--output", "book-unchecked"]


def run_all(lines: list[list[str]], work: Path) -> list[Run]:
    """Run command lines one after the other in ``work``, watched by the driver."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=work,
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return [Run(c, *json.loads(r)) for c, r in zip(lines, done.stdout.splitlines(), strict=True)]


@pytest.fixture(scope="module")
def runs(work: Path, bait: Bait) -> list[Run]:
    bait.opened()
    return run_all(list(commands()), work)


@pytest.mark.xdist_group("no-way-out")
@pytest.mark.threat("A1", "A2", "A3", "A4", "A5", "A6", "A8", "A10", "A11", "A12")
def test_no_command_follows_anything(runs: list[Run], bait: Bait) -> None:
    assert bait.asked == []
    assert not bait.opened()
    ways = {(r.command[0], *n) for r in runs for n in r.noted}
    assert not ways, ways


@pytest.mark.xdist_group("no-way-out")
def test_every_command_ran_and_did_its_work(runs: list[Run], work: Path) -> None:
    """So that the silence of the guards means something."""
    for run in runs:
        assert run.code in (0, 1, 2, 3), (run.command, run.code)
        assert "Traceback" not in run.err
    known = set(re.findall("[a-z]+", choices()))
    assert len(known) > 15
    # The service has tests of its own; completion reads nothing but the parser.
    known -= {"completion", "serve"}
    assert known - {r.command[0] for r in runs} == set()
    done = {r.command[0] for r in runs if r.code != 2 and "unchecked" not in r.command}
    # A trial without cases passes neither its check nor its audit; these tell what is missing.
    done |= {
        r.command[0] for r in runs if r.command[0] in ("check", "audit") and "RULE" in r.out + r.err
    }
    assert known - done == set()
    refused = {r.command[0] for r in runs if r.code == 2 and "unchecked" in r.command}
    assert refused >= {"check", "validate", "screen"}
    for name in ("out-html", "screen-csv/summary.html", "book/index.html", "pack.zip"):
        assert (work / name).stat().st_size > 500
    told = (work / "out-text").read_text("utf-8")
    assert "https://example.org/anna" in told or "secret.csv" in told


def choices() -> str:
    """Return what the program says of the commands that it has."""
    done = subprocess.run(
        [sys.executable, "-m", "sarc_kb.cli", "no-such-command"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.partition("(choose from")[2]


@pytest.mark.xdist_group("no-way-out")
@pytest.mark.threat("A2", "A12")
def test_nothing_of_a_secret_file_comes_out(runs: list[Run], work: Path) -> None:
    assert not [r.command for r in runs if MARK in r.out + r.err]
    files = [p for p in work.rglob("*") if p.is_file()]
    assert len(files) > 50
    assert not [p for p in files if MARK.encode() in p.read_bytes()]


@pytest.mark.xdist_group("no-way-out")
@pytest.mark.threat("F3", "F5")
def test_no_command_moves_the_cursor_or_writes_a_formula(runs: list[Run], work: Path) -> None:
    """Of the program's own tables; a machine reads JSON, where escapes stand for such characters."""
    for run in runs:
        for text in (run.out.replace("\r\n", "\n"), run.err):
            assert not set(text) & set("\x1b\x07\r"), run.command
            assert "\u202e" not in text or "json" in run.command, run.command
    tables = [p for p in work.rglob("*") if p.suffix in (".csv", ".tsv")]
    written = [p for p in tables if p.parent.name != "cdm" and p.name != "ours.sssom.tsv"]
    assert {p.suffix for p in written} == {".csv", ".tsv"}
    for path in written:
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.reader(handle, delimiter="," if path.suffix == ".csv" else "\t"):
                assert not [c for c in row if re.match(r"\s*[=+@]|-[^0-9]", c)], (path, row)
                assert not set("".join(row)) & set("\x1b\x07\r\u202e"), path


LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping", "xlink:href"}  # fmt: skip


@pytest.mark.xdist_group("no-way-out")
@pytest.mark.threat("F4")
def test_no_page_loads_anything(runs: list[Run], work: Path) -> None:
    """A page may lead somewhere when somebody clicks; by itself it asks for nothing elsewhere."""
    pages = [work / "out-html", *work.rglob("*.html")]
    assert len(pages) > 10
    for page in pages:
        tree = html5lib.parse(page.read_text("utf-8"), namespaceHTMLElements=False)
        for element in tree.iter():
            for name, value in element.attrib.items():
                if name in LOADS or (name == "href" and element.tag in ("link", "base", "use")):
                    assert not re.match(r"\s*((?!data:)[a-z][a-z0-9+.-]*:|//)", value, re.I), (page, value)  # fmt: skip
                assert not name.startswith("on"), (page, name)
            if element.tag == "style":
                assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", element.text or "")


# -- names that are places --------------------------------------------------------------------------
PLACES = ("../../../x", "/tmp/x", "..\\..\\x", "C:\\x", "CON", "nul.ttl", ".", "..", "", " ", "~", "a/../../b", "x" * 5000, "-rf", "a\u202eb", "a=b/c=d", "%2e%2e%2fx", "file:///tmp/x")  # fmt: skip


@pytest.mark.xdist_group("no-way-out")
@pytest.mark.threat("A13")
def test_names_in_data_are_no_places(bait: Bait, tmp_path: Path) -> None:
    """Of patients, of what a fact comes from, and of rules: all that is written lies where it
    should, under names that every file system takes."""
    work = tmp_path / "one" / "two" / "three"
    work.mkdir(parents=True)
    root = build_tiny(work / "kb")
    rules = root / "shapes" / "trials" / "tiny" / "rules.ttl"
    text = rules.read_text("utf-8")
    for old, new in (("I01", "../../../I01"), ("nine", "../../x"), ("willing", "a\\b")):
        text = text.replace(f'sarc:notation "{old}"', f"sarc:notation {json.dumps(new)}")
    rules.write_text(text.replace('sarc:linkId "willing"', 'sarc:linkId "/tmp/x"'), "utf-8")
    people = "".join(
        f'<urn:p{n}> a sarc:Patient ; sarc:identifier {json.dumps(name)} ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact [ sarc:concept sarc:Haemoglobin ; sarc:value 9.4 ; sarc:unit "g/dL" ; sarc:date "2024-02-21"^^xsd:date ; sarc:source {json.dumps(name)} ] .\n'
        for n, name in enumerate(PLACES)
    )
    (work / "p.ttl").write_text(PREFIXES + people, encoding="utf-8")
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    outside = {p for p in Path("/tmp").iterdir() if p.name in ("x", "x.html", "x.ttl")}
    kb = ["--rules", "kb"]
    lines = [
        ["docs", *kb, "--output", "out/book"],
        ["checklist", *kb, "--output", "out/checklist"],
        ["screen", "--rules", "plain", "--workers", "1", "--format", "csv", "--output", "out/screen", "p.ttl"],
        ["screen", "--rules", "plain", "--workers", "1", "--keep-prepared", "--output", "out/parquet", "p.ttl"],
        ["facts", "--rules", "plain", "--output", "out/facts.parquet", "p.ttl"],
        ["validate", "--rules", "plain", "--format", "html", "--output", "out/page.html", "p.ttl"],
    ]  # fmt: skip
    build_tiny(work / "plain")
    before |= {p for p in (work / "plain").rglob("*") if p.is_file()}
    (work / "out").mkdir()
    runs = run_all(lines, work)
    assert [(r.command[0], r.code) for r in runs if r.code not in (0, 3)] == []
    after = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert len(after) > 5
    reserved = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
    for path in after:
        inside = path.relative_to(work / "out")
        for part in inside.parts:
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=-]*", part), inside
            assert len(part) < 120, inside
            assert not reserved.match(part), inside
    assert {p for p in Path("/tmp").iterdir() if p.name in ("x", "x.html", "x.ttl")} == outside
