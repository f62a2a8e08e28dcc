"""Bad input and bad options: each fault is named with its place, the reason and the remedy, has its
exit code, stops nobody else, ends no run in a traceback, and tells nothing of the record."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_trial import TRIAL, build_tiny

from sarc_kb import cli
from sarc_kb.assessment import AssessmentSet, Outcome, Verdict
from sarc_kb.errors import Finding, UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.workers import memory_is_limited

PASS, FAIL, COULD_NOT, UNDETERMINED = 0, 1, 2, 3
HEAD = f"""@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix trial: <{TRIAL}> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix ex: <https://example.org/> .
"""
HB = '[ sarc:concept sarc:Haemoglobin ; sarc:value 9.4 ; sarc:unit "g/dL" ; sarc:date "2024-02-21"^^xsd:date ; sarc:source "Observation/hb" ]'
REST = """[ a sarc:Attestation ; sarc:concept trial:question-willing ; sarc:valueConcept sarc:Yes ; sarc:date "2024-02-28"^^xsd:date ; sarc:performer "nurse" ] ,
    [ a sarc:CompletenessStatement ; sarc:concept sarc:ProcedureHistory ; sarc:end "2024-03-01"^^xsd:date ]"""
ENTRY = 'sarc:entryDate "2024-03-01"^^xsd:date ;'


def patient(hb: str = HB, *, name: str = "anna", entry: str = ENTRY, more: str = "") -> str:
    """Return a patient who passes every rule of the tiny trial, but for what is changed."""
    return f"ex:{name} a sarc:Patient ; {entry} {more} sarc:fact {', '.join(filter(None, (hb, REST)))} .\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to(text: str | bytes, name: str = "p.ttl") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else (HEAD + text).encode())
        return path

    return to


@pytest.fixture
def run(tiny: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command on the tiny knowledge base; return exit code, standard output and error."""
    monkeypatch.setattr(cli, "knowledge_base", lambda _: tiny)

    def command(*arguments: object, command: str = "validate") -> tuple[int, str, str]:
        try:
            code = cli.main([command, *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return command


def complete(finding: Finding) -> bool:
    return all((finding.code, finding.where, finding.found, finding.why, finding.fix))


def findings(result: AssessmentSet) -> list[Finding]:
    every = [
        f for a in result.assessments for f in (*a.data_findings, *([a.error] if a.error else []))
    ]
    return [*every, *result.run_findings]


# -- nothing wrong: what the other tests differ from -----------------------------------------------
@pytest.mark.parametrize(
    ("hb", "code"),
    [
        (HB, PASS),
        (HB.replace("9.4", "8.9"), FAIL),
        ("", UNDETERMINED),
        (HB.replace("02-21", "02-15"), UNDETERMINED),
    ],
)
@pytest.mark.threat("G5")
def test_g5_exit_codes(hb: str, code: int, run, write) -> None:
    assert run(write(patient(hb)))[0] == code


@pytest.mark.threat("G5")
def test_g5_the_worst_patient_decides_the_exit_code(run, write) -> None:
    well = write(patient(), "a.ttl")
    low = write(patient(HB.replace("9.4", "8.9"), name="bert"), "b.ttl")
    open_ = write(patient("", name="carl"), "c.ttl")
    broken = write("nonsense", "d.ttl")
    undated = write(patient(name="dora", entry=""), "e.ttl")
    assert run(well, open_)[0] == UNDETERMINED
    assert run(well, low, open_)[0] == FAIL
    for fault in (broken, undated):
        code, out, _ = run(well, low, open_, fault)
        assert code == COULD_NOT
        assert all(name in out for name in ("anna", "bert", "carl"))


# -- files that cannot be read ---------------------------------------------------------------------
FILES = {
    "broken Turtle": ("p.ttl", b"<urn:a> <urn:b> .", "DATA002", "line 1"),
    "undeclared prefix": ("p.ttl", b"x:a x:b x:c .", "DATA002", "prefix x: is not declared"),
    "broken N-Triples": (
        "p.nt",
        b"<urn:a> <urn:b> <urn:c> .\n<urn:a> <urn:b> .\n",
        "DATA002",
        "line 2",
    ),
    "broken JSON-LD": ("p.jsonld", b'{"@id":\n', "DATA002", "line 2"),
    "broken RDF/XML": ("p.rdf", b"<rdf>\n</RDF>", "DATA002", "line 2"),
    "not UTF-8": ("p.ttl", b"# \xe9", "DATA002", "byte 2"),
    "a DOCTYPE": ("p.xml", b"<!DOCTYPE a><a/>", "DATA002", "DOCTYPE"),
    "a remote context": (
        "p.jsonld",
        b'{"@context": "https://example.org/c"}',
        "DATA002",
        "context",
    ),
    "NaN in JSON-LD": ("p.jsonld", b'{"@id": "urn:p", "urn:x": NaN}', "DATA002", "NaN"),
    "unknown ending": ("p.docx", b"x", "DATA002", "unknown ending .docx"),
    "no ending": ("patient", b"x", "DATA002", "unknown ending (none)"),
    "no patient": ("p.ttl", b"<urn:a> <urn:b> <urn:c> .", "DATA000", "no patient"),
    "empty Turtle": ("p.ttl", b"", "DATA000", "no patient"),
    "empty JSON-LD": ("p.jsonld", b"", "DATA002", "JSON"),
}


@pytest.mark.parametrize("fault", FILES)
@pytest.mark.threat("D2")
def test_a_file_that_cannot_be_read(fault: str, run, write, tiny: KnowledgeBase) -> None:
    name, content, code, found = FILES[fault]
    bad, good = write(content, name), write(patient(), "zz-good.ttl")
    result = tiny.validate(bad, good)
    (finding,) = result.run_findings
    assert finding.code == code
    assert finding.where == str(bad)
    assert found in finding.found
    assert complete(finding)
    assert [a.verdict for a in result.assessments] == [Verdict.ELIGIBLE], "the good file goes on"
    exit_code, out, err = run(bad, good)
    assert exit_code == COULD_NOT
    assert "anna" in out
    assert all(
        text in err for text in (code, finding.where, finding.found, finding.why, finding.fix)
    )


def test_files_that_are_not_there_or_are_no_files(run, tmp_path: Path, tiny: KnowledgeBase) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "dangling.ttl").symlink_to(tmp_path / "nowhere.ttl")
    for name, found in (
        ("nothing.ttl", "No such file"), ("nothing", "No such file"), ("dangling.ttl", "No such file"),
        ("pipe.txt", "unknown ending"), ("nothing.ttl/p.ttl", "No such file"), ("n" * 300 + ".ttl", "name too long"),
    ):  # fmt: skip
        (finding,) = tiny.validate(tmp_path / name).run_findings
        assert found in finding.found
        assert run(tmp_path / name)[0] == COULD_NOT


@pytest.mark.threat("D2")
def test_a_folder_leaves_nothing_out_in_silence(
    run, write, tmp_path: Path, tiny: KnowledgeBase
) -> None:
    write(patient(), "a.ttl")
    (tmp_path / "lost.ttl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("not a record")
    result = tiny.validate(tmp_path)
    assert [a.patient for a in result.assessments] == ["anna"]
    assert [f.where for f in result.run_findings] == [str(tmp_path / "lost.ttl")]
    (tmp_path / "empty").mkdir()
    code, _, err = run(tmp_path / "empty")
    assert code == COULD_NOT
    assert "no file of a known kind" in err


@pytest.mark.threat("A16")
def test_a_folder_is_read_without_waiting_for_pipes_or_following_links(
    write, tmp_path: Path, tiny: KnowledgeBase
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    write(patient(), "in/a.ttl")
    write(patient(name="bert"), "out/b.ttl")
    os.mkfifo(inside / "pipe.ttl")
    os.mkfifo(inside / "pipe.ndjson.gz")
    (inside / "zero.ttl").symlink_to("/dev/zero")
    (inside / "round").symlink_to(inside)
    (inside / "away").symlink_to(outside)
    result = tiny.validate(inside)
    assert [a.patient for a in result.assessments] == ["anna"]
    told = {Path(f.where).name: (f.severity, f.found) for f in result.run_findings}
    assert told == {
        **dict.fromkeys(("pipe.ttl", "pipe.ndjson.gz", "zero.ttl"), ("error", "no plain file")),
        **dict.fromkeys(("round", "away"), ("warning", "a link to a folder")),
    }
    assert all(map(complete, result.run_findings))


@pytest.mark.threat("B11")
def test_a_file_too_large_is_not_read_to_its_end(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sarc_kb.sources import read

    monkeypatch.setattr(read, "MAX_BYTES", 100)
    (tmp_path / "p.ttl").write_text("#" * 101)
    code, _, err = run(tmp_path / "p.ttl")
    assert code == COULD_NOT
    assert "more than 100 bytes" in err


def test_standard_input(run, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, code in (
        ((HEAD + patient()).encode(), PASS),
        (b"", COULD_NOT),
        (b"{", COULD_NOT),
        (b"<?xml", COULD_NOT),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert run("-")[0] == code
    monkeypatch.setattr(sys, "stdin", None)
    assert run("-")[0] == COULD_NOT


# -- patients that cannot be judged ----------------------------------------------------------------
PATIENTS = {
    "no entry date": (patient(entry=""), "DATA001", "no entry date"),
    "an entry date without a day": (
        patient(entry='sarc:entryDate "2024-03"^^xsd:gYearMonth ;'),
        "DATA001",
        "no day",
    ),
    "an entry date that does not exist": (
        patient(entry='sarc:entryDate "2024-02-30"^^xsd:date ;'),
        "DATA009",
        "entryDate",
    ),
    "two entry dates": (
        patient(entry='sarc:entryDate "2024-03-01"^^xsd:date , "2024-03-02"^^xsd:date ;'),
        "DATA004",
        "2 entry dates",
    ),
    "an entry date that is a node": (patient(entry="sarc:entryDate [] ;"), "DATA009", "entryDate"),
}


@pytest.mark.parametrize("fault", PATIENTS)
@pytest.mark.threat("G2")
def test_a_patient_that_cannot_be_judged(fault: str, run, write, tiny: KnowledgeBase) -> None:
    text, code, found = PATIENTS[fault]
    bad, good = write(text), write(patient(name="bert"), "good.ttl")
    anna, bert = tiny.validate(bad, good).assessments
    assert anna.verdict is Verdict.ERROR
    assert anna.criteria == ()
    assert anna.error is not None
    assert (anna.error.code, anna.error.where) == (code, str(bad))
    assert found in anna.error.found
    assert complete(anna.error)
    assert bert.verdict is Verdict.ELIGIBLE
    exit_code, out, _ = run(bad, good)
    assert exit_code == COULD_NOT
    assert code in out


@pytest.mark.threat("G2")
def test_two_patients_of_one_file_are_both_judged(run, write) -> None:
    both = write(patient() + patient(HB.replace("9.4", "8.9"), name="bert"))
    code, out, _ = run(both, "--format", "json")
    assert code == FAIL
    verdicts = {a["patient"]: a["verdict"] for a in json.loads(out)["assessments"]}
    assert verdicts == {"anna": "eligible", "bert": "ineligible"}


@pytest.mark.threat("C5")
def test_the_same_patient_twice_is_judged_in_neither_place(run, write, tiny: KnowledgeBase) -> None:
    files = (
        write(patient(), "a.ttl"),
        write(patient(HB.replace("9.4", "8.9")), "b.ttl"),
        write(patient(name="bert"), "c.ttl"),
    )
    result = tiny.validate(*files)
    assert [a.verdict for a in result.assessments] == [
        Verdict.ERROR,
        Verdict.ERROR,
        Verdict.ELIGIBLE,
    ]
    for assessment, path in zip(result.assessments, files[:2], strict=False):
        assert assessment.error is not None
        assert (assessment.error.code, assessment.error.where) == ("DATA003", str(path))
        assert all(str(p) in assessment.error.found for p in files[:2])
    assert run(*files)[0] == COULD_NOT
    assert run(files[0], files[0])[0] == COULD_NOT


def test_a_fact_of_two_patients_is_nobodys(run, write, tiny: KnowledgeBase) -> None:
    shared = "ex:f sarc:concept sarc:Haemoglobin ; sarc:value 8.0 .\n"
    path = write(patient("ex:f") + patient("ex:f", name="bert") + patient(name="carl") + shared)
    verdicts = {a.patient: a for a in tiny.validate(path).assessments}
    assert verdicts["carl"].verdict is Verdict.ELIGIBLE
    for name in ("anna", "bert"):
        error = verdicts[name].error
        assert error is not None
        assert (error.code, error.where) == ("DATA006", str(path))
    assert run(path)[0] == COULD_NOT


@pytest.mark.threat("D6")
def test_the_edges_of_the_calendar_end_no_run(run, write, tiny: KnowledgeBase) -> None:
    for day in ("0001-01-01", "9999-12-31"):
        entry = f'sarc:entryDate "{day}"^^xsd:date ;'
        born = '[ sarc:concept sarc:Birth ; sarc:date "9999-12-31"^^xsd:date ] , [ sarc:concept sarc:Birth ; sarc:date "0001"^^xsd:gYear ] ,'
        path = write(patient(born + HB, entry=entry))
        (assessment,) = tiny.validate(path).assessments
        assert len(assessment.criteria) == 3
        for arguments in (
            (),
            ("--format", "json"),
            ("--format", "turtle"),
            ("--policy", "look-back=999999999"),
            ("--as-of", "9999-12-31"),
        ):
            assert run(path, *arguments)[0] in (PASS, FAIL, UNDETERMINED)


# -- facts that cannot be read: told, and the rule stays open --------------------------------------
FACTS = {
    "unknown term": (HB.replace("sarc:Haemoglobin", "sarc:Hemoglobin"), "DATA012", "Hemoglobin"),
    "unknown code": (HB.replace("sarc:Haemoglobin", "<http://loinc.org/0-0>"), "DATA012", "0-0"),
    "no term": (HB.replace("sarc:concept sarc:Haemoglobin ;", ""), "DATA012", "without a concept"),
    "a text for a term": (HB.replace("sarc:Haemoglobin", '"Hb"'), "DATA008", "concept is not a term"),
    "unknown unit": (HB.replace("g/dL", "mol/dL"), "DATA016", "mol/dL"),
    "unit in other letters": (HB.replace("g/dL", "MG/dL"), "DATA016", "MG/dL"),
    "no unit": (HB.replace('sarc:unit "g/dL" ;', ""), "DATA016", "no unit"),
    "empty unit": (HB.replace("g/dL", ""), "DATA016", "no unit"),
    "NaN": (HB.replace("9.4", '"NaN"^^xsd:double'), "DATA016", "not a number"),
    "INF": (HB.replace("9.4", '"INF"^^xsd:double'), "DATA016", "not a number"),
    "minus INF": (HB.replace("9.4", '"-INF"^^xsd:float'), "DATA016", "not a number"),
    "1e400": (HB.replace("9.4", "1e400"), "DATA016", "not a number"),
    "decimal comma": (HB.replace("9.4", '"9,4"'), "DATA016", "not a number"),
    "decimal comma, typed": (HB.replace("9.4", '"9,4"^^xsd:decimal'), "DATA016", "not a number"),
    "number with unit": (HB.replace("9.4", '"9.4 g/dL"'), "DATA016", "not a number"),
    "two values": (HB.replace("9.4", "9.4 , 9.5"), "DATA007", "2 values of value"),
    "not plausible": (HB.replace("9.4", "940"), "DATA016", "plausible"),
    "below zero": (HB.replace("9.4", "-9.4"), "DATA016", "plausible"),
    "unknown comparator": (HB.replace("sarc:unit", 'sarc:comparator "~" ; sarc:unit'), "DATA008", "comparator"),
    "30 February": (HB.replace("02-21", "02-30"), "DATA009", "date cannot be read"),
    "date in local spelling": (HB.replace("2024-02-21", "21.2.2024"), "DATA009", "date cannot be read"),
    "end before start": (HB.replace('sarc:date "2024-02-21"', 'sarc:start "2024-02-21"^^xsd:date ; sarc:end "2024-02-20"'), "DATA017", "the end is before the start"),
    "unknown status": (HB.replace("sarc:unit", "sarc:status sarc:Final ; sarc:unit"), "DATA011", "unknown status"),
    "two statuses": (HB.replace("sarc:unit", "sarc:status sarc:Confirmed , sarc:EnteredInError ; sarc:unit"), "DATA007", "2 values of status"),
    "huge text": (HB.replace("g/dL", "x" * 64_001), "DATA008", "64001 characters"),
    "two kinds": (HB.replace("[", "[ a sarc:Measurement , sarc:Procedure ;", 1), "DATA007", "2 kinds"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FACTS)
@pytest.mark.threat("D4", "D5", "D7", "D8")
def test_a_fact_that_cannot_be_read(fault: str, run, write, tiny: KnowledgeBase) -> None:
    hb, code, found = FACTS[fault]
    path = write(patient(hb))
    (assessment,) = tiny.validate(path).assessments
    outcomes = {c.id: c.outcome for c in assessment.criteria}
    assert outcomes["I01"] is Outcome.UNDETERMINED
    assert outcomes["I02"] is Outcome.PASS, "the rest of the record counts"
    told = [f for f in assessment.data_findings if f.code == code]
    assert any(
        found in f.found + f.why and f.where == "Observation/hb" and complete(f) for f in told
    )
    exit_code, out, err = run(path, "--verbose")
    assert exit_code == UNDETERMINED
    assert code in out
    assert "Observation/hb" in out
    assert err == ""


def test_a_date_without_a_day_counts_where_every_day_of_it_does(write, tiny: KnowledgeBase) -> None:
    """Fourteen days before 1 March: all of 2024-02 is not inside, the whole of no other is."""
    for text, outcome in (("2024-02", Outcome.UNDETERMINED), ("2024", Outcome.UNDETERMINED)):
        hb = HB.replace('"2024-02-21"^^xsd:date', f'"{text}"')
        (assessment,) = tiny.validate(write(patient(hb))).assessments
        assert {c.id: c.outcome for c in assessment.criteria}["I01"] is outcome
    entry = 'sarc:entryDate "2024-02-14"^^xsd:date ;'
    hb = HB.replace('"2024-02-21"^^xsd:date', '"2024-02"')
    (assessment,) = tiny.validate(write(patient(hb, entry=entry))).assessments
    assert {c.id: c.outcome for c in assessment.criteria}["I01"] is Outcome.UNDETERMINED


def test_what_the_model_does_not_know_is_ignored_and_told(run, write) -> None:
    code, out, _ = run(
        write(patient(more='sarc:nickname "x" ;') + "ex:note sarc:about ex:anna .\n"), "--verbose"
    )
    assert code == PASS
    assert "DATA005" in out
    assert "nickname" in out


# -- privacy ---------------------------------------------------------------------------------------
CANARY = "Canary Doe"


def secret(where: str) -> str:
    return f'"{CANARY} {where}"'


CANARIES = {
    "names and notes": patient(HB.replace("sarc:unit", f"sarc:note {secret('note')} ; sarc:unit"), more=f"sarc:name {secret('name')} ; sarc:birthPlace {secret('place')} ;"),
    "unit": patient(HB.replace('"g/dL"', secret("unit"))),
    "value": patient(HB.replace("9.4", secret("value"))),
    "typed value": patient(HB.replace("9.4", secret("value") + "^^xsd:decimal")),
    "comparator": patient(HB.replace("sarc:unit", f"sarc:comparator {secret('comparator')} ; sarc:unit")),
    "upper limit": patient(HB.replace("sarc:unit", f"sarc:upperLimit {secret('limit')} ; sarc:upperLimitUnit {secret('unit')} ; sarc:unit")),
    "date": patient(HB.replace('"2024-02-21"', secret("date"))),
    "start, end, recorded": patient(HB.replace("sarc:date", f"sarc:start {secret('start')} ; sarc:end {secret('end')} ; sarc:recorded {secret('recorded')} ; sarc:date")),
    "ongoing": patient(HB.replace("sarc:unit", f"sarc:ongoing {secret('ongoing')} ; sarc:unit")),
    "status": patient(HB.replace("sarc:unit", f"sarc:status {secret('status')} ; sarc:unit")),
    "concept": patient(HB.replace("sarc:Haemoglobin", secret("concept"))),
    "coded value": patient(HB.replace("sarc:unit", f"sarc:valueConcept {secret('coded')} ; sarc:unit")),
    "axis": patient(HB.replace("sarc:unit", f"sarc:method {secret('axis')} ; sarc:unit")),
    "tumour": patient(HB.replace("sarc:unit", f"sarc:tumour {secret('tumour')} ; sarc:unit")),
    "performer, basis": patient(HB.replace("sarc:unit", f"sarc:performer {secret('performer')} ; sarc:basis {secret('basis')} ; sarc:unit")),
    "entry date": patient(entry=f"sarc:entryDate {secret('entry')} ;"),
    "stray node": patient() + f"ex:note sarc:text {secret('stray')} .\n",
    "broken syntax": patient() + f"ex:note sarc:text {secret('line 7')} {secret('again')} .\n",
    "open string": patient() + f"ex:note sarc:text {secret('line 7')[:-1]}\n",
}  # fmt: skip


@pytest.mark.parametrize("place", CANARIES)
@pytest.mark.threat("F1", "F2")
def test_f1_f2_no_text_of_the_record_is_told(
    place: str, run, write, tiny: KnowledgeBase, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(CANARIES[place])
    assert CANARY in path.read_text()
    caplog.set_level(0)
    for finding in findings(tiny.validate(path)):
        assert CANARY not in str(finding)
    for arguments in ((), ("--verbose",), ("--format", "json")):
        _, _, err = run(path, *arguments)
        assert CANARY not in err
    assert CANARY not in caplog.text
    assert not [r for r in caplog.records if r.name.startswith(("rdflib", "pyshacl"))]


# -- options ---------------------------------------------------------------------------------------
OPTIONS = {
    "unknown policy": (("--policy", "look-bak=7"), "USE002", "look-back"),
    "policy without a value": (("--policy", "look-back"), "USE011", "NAME=VALUE"),
    "policy of another type": (("--policy", "look-back=a week"), "USE005", "whole number"),
    "negative policy": (("--policy", "look-back=-1"), "USE005", "whole number"),
    "policy of thousands of digits": (
        ("--policy", "look-back=" + "9" * 5000),
        "USE005",
        "whole number",
    ),
    "policy that has no value": (("--policy", "a-choice=1"), "USE004", "no value to set"),
    "policy twice": (("--policy", "look-back=7", "--policy", "look-back=8"), "USE011", "twice"),
    "unknown entry of the register": (("--reading", "A-99=nine"), "USE002", "A-01"),
    "unknown reading": (("--reading", "A-01=ten"), "USE00", "eight"),
    "unknown question": (("--attest", "I99=true"), "USE009", "I99"),
    "unknown answer": (("--attest", "I02=maybe"), "USE009", "maybe"),
    "attest without an answer": (("--attest", "I02"), "USE011", "NAME=VALUE"),
    "unknown history": (("--complete", "procedures,moods"), "USE008", "moods"),
    "unknown engine": (("--engine", "abacus"), "USE006", "pyshacl"),
    "unknown trial": (("--trial", "NCT00000000"), "USE001", "TINY"),
    "no date": (("--as-of", "yesterday"), "USE010", "YYYY-MM-DD"),
    "a month": (("--entry-date", "2024-03"), "USE010", "day is missing"),
    "a day that does not exist": (("--entry-date", "2024-02-30"), "USE010", "no such day"),
    "no table": (("--entry-dates", "/nowhere/dates.csv"), "USE012", "No such file"),
}


@pytest.mark.parametrize("fault", OPTIONS)
def test_a_wrong_option_stops_before_any_patient(fault: str, run, write) -> None:
    arguments, code, told = OPTIONS[fault]
    exit_code, out, err = run(write(patient()), *arguments)
    assert exit_code == COULD_NOT
    assert out == ""
    assert code in err
    assert told in err
    assert all(f"  {name}" in err for name in ("found", "why", "fix"))


@pytest.mark.parametrize("arguments", [(), ("--format", "xml"), ("--no-such-option",)])
def test_wrong_usage_is_exit_code_two(arguments: tuple[str, ...], run) -> None:
    assert run(*arguments)[0] == COULD_NOT


TABLES = {
    "three cells": (b"patient,date\nanna,2024-03-01,x\n", ":2"),
    "one cell": (b"anna\n", ":1"),
    "patient twice": (b"anna,2024-03-01\nanna,2024-03-02\n", ":2"),
    "no patient": (b",2024-03-01\n", ":1"),
    "no date": (b"bert,2024-03-01\nanna,soon\n", ":2"),
    "month only": (b"anna,2024-03\n", ":1"),
    "not UTF-8": (b"\xe9,2024-03-01\n", "not readable"),
    "open quote": (b'"anna,2024-03-01\n', "not readable"),
    "field too long": (b'"' + b"a" * 200_000 + b'",2024-03-01\n', "not readable"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_wrong_table_of_entry_dates(fault: str, run, write) -> None:
    content, told = TABLES[fault]
    table = write(content, "dates.csv")
    exit_code, out, err = run(write(patient(entry="")), "--entry-dates", table)
    assert exit_code == COULD_NOT
    assert out == ""
    assert str(table) in err
    assert told in err


def test_entry_dates_of_options(run, write) -> None:
    undated, dated = write(patient(entry="")), write(patient(name="bert"), "b.ttl")
    table = write(
        b"\xef\xbb\xbfpatient, date\r\n\r\n anna , 2024-03-01\r\nhttps://example.org/bert,2024-03-01\r\n",
        "dates.csv",
    )
    assert run(undated, dated, "--entry-dates", table)[0] == PASS
    assert run(undated, dated, "--entry-date", "2024-03-01")[0] == PASS
    assert run(undated, dated, "--entry-date", "2024-06-01")[0] == UNDETERMINED, (
        "only anna's date is set"
    )
    other = write(b"bert,2024-03-02\n", "other.csv")
    code, out, _ = run(dated, "--entry-dates", other)
    assert code == COULD_NOT
    assert "DATA004" in out


def test_options_through_python(tiny: KnowledgeBase, write) -> None:
    path = write(patient())
    for bad in (
        {"policies": {"x": "1"}}, {"readings": {"A-01": "x"}}, {"attested": {"x": "true"}}, {"complete": ["x"]},
        {"engine": "x"}, {"trial": "NCT1"}, {"as_of": "x"}, {"entry_date": "2024"}, {"entry_dates": {"anna": "x"}},
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            tiny.validate(path, **bad)  # type: ignore[arg-type]
        assert all(map(complete, caught.value.findings))


def test_no_knowledge_base_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "--rules", str(tmp_path / "none"), "p.ttl"]) == COULD_NOT
    assert "no ontology" in capsys.readouterr().err


# -- output ----------------------------------------------------------------------------------------
@pytest.mark.threat("G4")
def test_g4_output_that_cannot_be_written(run, write, tmp_path: Path) -> None:
    path = write(patient())
    for output in (
        tmp_path / "none" / "r.txt",
        tmp_path,
        Path("/dev/full"),
        Path("/proc/r.txt"),
        tmp_path / ("n" * 300),
    ):
        code, out, err = run(path, "--output", output)
        assert code == COULD_NOT, output
        assert out == ""
        assert "USE020" in err
        assert str(output) in err
    assert Path("/dev/full").is_char_device()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.ttl"]


@pytest.mark.threat("G4")
def test_g4_a_folder_that_takes_no_file(run, write) -> None:
    """/proc takes no file from anybody; a read-only folder would let the superuser write."""
    code, out, err = run(write(patient()), "--output", "/proc/r.txt")
    assert code == COULD_NOT
    assert out == ""
    assert "/proc/r.txt" in err


@pytest.mark.threat("G3")
def test_g3_output_is_whole_or_not_there(
    run, write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, report = write(patient()), tmp_path / "r.json"
    report.write_text("older")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, _, err = run(path, "--format", "json", "--output", report)
    assert code == COULD_NOT
    assert "No space left" in err
    assert report.read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.ttl", "r.json"]
    code, out, err = run(path, "--format", "json", "--output", report)
    assert (code, out, err) == (PASS, "", "")
    assert json.loads(report.read_text())["assessments"][0]["verdict"] == "eligible"


@pytest.mark.threat("G3")
def test_g3_a_link_stays_a_link_and_the_mask_of_the_user_holds(run, write, tmp_path: Path) -> None:
    link, target = tmp_path / "link.txt", tmp_path / "target.txt"
    link.symlink_to(target)
    old = os.umask(0o077)
    try:
        assert run(write(patient()), "--output", link)[0] == PASS
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600


def program(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    root = Path(cli.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-m", "sarc_kb.cli", *arguments], env=environment, **options
    )  # type: ignore[call-overload]


@pytest.mark.threat("G4")
def test_g4_a_closed_pipe_is_quiet(tiny: KnowledgeBase, write) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = program(
        "validate",
        "--rules",
        str(tiny.root),
        str(write(patient())),
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == COULD_NOT


@pytest.mark.threat("G4")
def test_g4_a_full_disk_on_standard_output(tiny: KnowledgeBase, write) -> None:
    with Path("/dev/full").open("wb") as full:
        process = program(
            "validate",
            "--rules",
            str(tiny.root),
            str(write(patient())),
            stdout=full,
            stderr=subprocess.PIPE,
        )
        _, err = process.communicate(timeout=60)
    assert process.returncode == COULD_NOT
    assert b"USE020 standard output" in err
    assert b"No space left" in err
    assert b"Exception" not in err


@pytest.mark.threat("F2")
def test_the_program_itself_reports_faults_in_its_process(tiny: KnowledgeBase, write) -> None:
    bad = write(CANARIES["broken syntax"])
    process = program(
        "validate",
        "--rules",
        str(tiny.root),
        str(bad),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == COULD_NOT
    assert b"DATA002" in err
    assert CANARY.encode() not in out + err


# -- the other commands ----------------------------------------------------------------------------
def test_prepare_refuses_what_validate_refuses(run, write, tmp_path: Path) -> None:
    for text, code in (
        (patient(entry=""), "DATA001"),
        (patient() + patient(name="bert"), "DATA000"),
        ("nonsense", "DATA002"),
    ):
        exit_code, out, err = run(write(text), command="prepare")
        assert (exit_code, out) == (COULD_NOT, "")
        assert code in err
    assert (
        run(write(patient()), "--output", tmp_path / "none" / "x", command="prepare")[0]
        == COULD_NOT
    )


def test_explain_of_an_unknown_rule(run) -> None:
    code, out, err = run("I99", command="explain")
    assert (code, out) == (COULD_NOT, "")
    assert "I99" in err


@pytest.mark.threat("B10")
def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    """A hundred kilobytes that unpack to more than the limit cost neither time nor memory."""
    bomb = tmp_path / "bomb.ttl.gz"
    with gzip.open(bomb, "wb") as handle:
        for _ in range(70):
            handle.write(b"#" * 1_000_000)
    result = KnowledgeBase.load().validate(bomb)
    assert [f.code for f in result.run_findings] == ["DATA002"]
    assert "bytes" in result.run_findings[0].found


@pytest.mark.parametrize("cut", [3, 40])
@pytest.mark.threat("B10")
def test_a_broken_gzip_file_is_told(cut: int, tmp_path: Path) -> None:
    whole = gzip.compress(b"@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .")
    (tmp_path / "p.ttl.gz").write_bytes(whole[:cut] if cut > 10 else b"no gzip at all")
    result = KnowledgeBase.load().validate(tmp_path / "p.ttl.gz")
    assert ["gzip" in f.found for f in result.run_findings] == [True]


# -- patients beyond a limit -----------------------------------------------------------------------
@pytest.mark.threat("B2", "B4", "B5", "G1")
def test_a_patient_beyond_the_limit_of_time_is_an_error_and_the_others_are_judged(
    run, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = KnowledgeBase.assess_record

    def assess_record(self, record, *given, **more):
        while record.label == "slow":
            pass
        return whole(self, record, *given, **more)

    path = write(patient(name="good") + patient(name="slow") + patient(name="third"))
    expected = json.loads(run(path, "--format", "json")[1])["assessments"]
    monkeypatch.setattr(KnowledgeBase, "assess_record", assess_record)
    code, out, _ = run(path, "--format", "json", "--time-limit", "2")
    assert code == COULD_NOT
    found = json.loads(out)["assessments"]
    assert [a["verdict"] for a in found] == ["eligible", "error", "eligible"]
    assert found[1]["error"]["code"] == "ENGINE008"
    assert "longer than 2 s" in found[1]["error"]["found"]
    assert "--time-limit" in found[1]["error"]["fix"]
    assert (found[0], found[2]) == (expected[0], expected[2])


@pytest.mark.threat("B5", "G1")
@pytest.mark.skipif(not memory_is_limited(), reason="the system limits no memory")
def test_a_patient_beyond_the_limit_of_memory_is_an_error(
    run, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = KnowledgeBase.prepare

    def prepare(self, record, *given, **more):
        if record.label == "greedy":
            bytearray(1 << 30)
        return whole(self, record, *given, **more)

    monkeypatch.setattr(KnowledgeBase, "prepare", prepare)
    path = write(patient(name="greedy") + patient(name="other"))
    code, out, _ = run(path, "--format", "json", "--memory-limit", "256MB")
    assert code == COULD_NOT
    found = json.loads(out)["assessments"]
    assert [a["verdict"] for a in found] == ["error", "eligible"]
    assert found[0]["error"]["code"] == "ENGINE009"
    assert "limit" in found[0]["error"]["fix"]
