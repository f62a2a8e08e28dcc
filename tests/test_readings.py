"""The register as switches: what one reading turns, and what holds under all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sarc_kb import cli
from sarc_kb.assessment import Verdict
from sarc_kb.audit.register import audit
from sarc_kb.audit.section import Request
from sarc_kb.facts import PatientRecord
from sarc_kb.judging import stand
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.readings import Register, merge
from sarc_kb.reports.readings_report import render_json
from sarc_kb.sources.read import read_sources
from tests.tiny_trial import build_tiny

ORDER = (Verdict.INELIGIBLE, Verdict.UNDETERMINED, Verdict.ELIGIBLE)
MORE = """
trial:A-02 a sarc:Ambiguity ; rdfs:label "how long ago" ; sarc:touches sarc:Eligibility ;
    sarc:passage "at least 9 g/dL" ; sarc:because "No time is printed." ; sarc:affects trial:I01 ;
    sarc:default trial:A-02-fortnight ; sarc:hasReading trial:A-02-fortnight , trial:A-02-month , trial:A-02-felt .
trial:A-02-fortnight a sarc:Reading ; sarc:notation "fortnight" ; rdfs:label "14 days" .
trial:A-02-month a sarc:Reading ; sarc:notation "month" ; rdfs:label "28 days" ;
    sarc:override [ sarc:on trial:look-back ; sarc:parameter sarc:daysBefore ; sarc:to 28 ] .
trial:A-02-felt a sarc:Reading ; sarc:notation "felt" ; rdfs:label "as one feels" ; sarc:notRunnableBecause "Nobody can count it." .
"""
PATIENTS = """
@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix trial: <https://w3id.org/sarc-kb/trial/TINY/> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
{}
"""
PATIENT = """
<urn:{name}> a sarc:Patient ; sarc:identifier "{name}" ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact
    [ sarc:concept sarc:Haemoglobin ; sarc:value {value} ; sarc:unit "g/dL" ; sarc:date "{day}"^^xsd:date ] ,
    [ a sarc:CompletenessStatement ; sarc:concept sarc:ProcedureHistory ; sarc:end "2024-03-01"^^xsd:date ] ,
    [ a sarc:Attestation ; sarc:concept trial:I02 ; sarc:valueConcept sarc:Yes ; sarc:date "2024-03-01"^^xsd:date ] .
"""
PEOPLE = (
    ("red", "12.5", "2024-02-28"),
    ("white", "6.0", "2024-02-28"),
    ("pale", "8.5", "2024-02-28"),
    ("pale-then", "8.5", "2024-02-10"),
    ("white-long-ago", "6.0", "2023-02-10"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_tiny(tmp_path_factory.mktemp("tiny"))
    path = folder / "shapes" / "trials" / "tiny" / "rules.ttl"
    path.write_text(path.read_text("utf-8") + MORE, "utf-8")
    text = "".join(PATIENT.format(name=n, value=v, day=d) for n, v, d in PEOPLE)
    (folder / "patients.ttl").write_text(PATIENTS.format(text), "utf-8")
    return folder


@pytest.fixture(scope="module")
def small(tiny: Path) -> Register:
    return Register(KnowledgeBase.load(tiny))


def people(register: Register, path: Path) -> dict[str, PatientRecord]:
    found, problems = read_sources([path], register.kb.reading_terms(register.default))
    assert not [p for p in problems if p.severity != "info"]
    return {record.label: record for record in found}


def test_the_switches(small: Register) -> None:
    assert [s.name for s in small.switches] == ["A-01=eight", "A-02=month"]
    assert [(u.entry, u.reading, u.why) for u in small.unrunnable] == [
        ("A-02", "felt", "Nobody can count it.")
    ]
    names = {iri.rpartition("/")[2]: entries for iri, entries in small.touched.items()}
    assert names == {"I01": ("A-01", "A-02"), "E01": ("A-02",)}


@pytest.mark.parametrize(
    ("name", "verdict", "worst", "best", "text"),
    [
        ("red", "eligible", "eligible", "eligible", "holds under every reading"),
        ("white", "ineligible", "ineligible", "ineligible", "holds under every reading"),
        ("pale", "ineligible", "ineligible", "eligible", "depends on A-01"),
        # Either reading alone leaves it below eligible; both together do not.
        ("pale-then", "undetermined", "ineligible", "eligible", "depends on A-02"),
        (
            "white-long-ago",
            "undetermined",
            "undetermined",
            "undetermined",
            "holds under every reading",
        ),
    ],
)
def test_one_patient(
    small: Register, tiny: Path, name: str, verdict: str, worst: str, best: str, text: str
) -> None:
    record = people(small, tiny / "patients.ttl")[name]
    found = small.of(record)
    told = (found.verdict.value, found.worst.value, found.best.value, found.text)
    assert told == (verdict, worst, best, text)
    for chosen in ((), *((s,) for s in small.switches), small.switches):
        trial = small.kb.compile(readings={s.entry: s.reading for s in chosen})
        under = stand(small.kb, record, trial).verdict
        assert ORDER.index(found.worst) <= ORDER.index(under) <= ORDER.index(found.best)


def test_directions(small: Register, tiny: Path) -> None:
    found = small.of(people(small, tiny / "patients.ttl")["pale"])
    (turn,) = [t for t in found.turns if t.turns_verdict]
    assert (turn.entry, turn.reading, turn.verdict) == ("A-01", "eight", Verdict.ELIGIBLE)
    assert turn.rules == (("I01", "fail", "pass"),)


def test_several_readings_at_once_are_what_the_compiler_makes(small: Register) -> None:
    merged = merge(small.default, [s.trial for s in small.switches])
    assert merged is not None
    compiled = small.kb.compile(readings={s.entry: s.reading for s in small.switches})
    assert merged.clauses == compiled.clauses
    assert merged.windows == compiled.windows


def test_the_command(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["readings", str(tiny / "patients.ttl"), "--rules", str(tiny)]
    assert cli.main(at) == 0
    text = capsys.readouterr().out
    assert "pale  ineligible: depends on A-01" in text
    assert "A-01=eight: ineligible -> eligible (I01 fail -> pass)" in text
    assert "5 patients: the verdict of 3 holds under every reading" in text
    assert cli.main([*at, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    counts = [
        (c["entry"], c["reading"], c["from"], c["to"], c["patients"]) for c in document["counts"]
    ]
    assert counts == [
        ("A-01", "eight", "ineligible", "eligible", 1),
        ("A-02", "month", "undetermined", "ineligible", 1),
    ]
    # The cohort engine says the same of each reading alone.
    pytest.importorskip("ibis")
    assert cli.main([*at, "--counts", "--format", "json", "--workers", "1"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["patients"] == 5
    told = [
        (c["entry"], c["reading"], c["from"], c["to"], c["patients"]) for c in counted["counts"]
    ]
    assert sorted(told) == counts
    assert cli.main([*at, "--counts", "--workers", "1"]) == 0
    assert "A-02=month: undetermined -> ineligible: 1" in capsys.readouterr().out


def test_a_patient_who_cannot_be_judged(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "patient.ttl"
    text = PATIENTS.format(PATIENT.format(name="x", value="9.0", day="2024-02-28"))
    path.write_text(text.replace('sarc:entryDate "2024-03-01"^^xsd:date ;', ""), "utf-8")
    assert cli.main(["readings", str(path), "--rules", str(tiny)]) == 2
    assert "not judged" in capsys.readouterr().out
    assert cli.main(["readings", "--rules", str(tiny)]) == 2


def test_the_part_of_the_audit(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = audit(KnowledgeBase.load(tiny), Request("TINY"))
    assert section.passed
    assert "2 entries, 2 readings that can be run" in section.summary
    found = {(f.code, f.where) for f in section.findings}
    # There are no cases here at all.
    assert found == {
        ("AUDIT070", "A-02=felt"),
        ("AUDIT071", "A-01=eight"),
        ("AUDIT071", "A-02=month"),
        ("AUDIT072", "A-01"),
        ("AUDIT072", "A-02"),
    }
    assert cli.main(["audit", "register", "--rules", str(tiny), "--format", "json"]) == 0
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert [e["entry"] for e in part["entries"]] == ["A-01", "A-02"]


# -- the real rule base ----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real(kb: KnowledgeBase) -> Register:
    return Register(kb)


def test_verdicts_lie_within_the_bounds(real: Register) -> None:
    """The default verdict, and that of each reading alone, on some of the examples."""
    examples = sorted(people(real, data_folder() / "examples").items())
    assert len(examples) > 30
    for _, record in examples[::8]:
        found = real.of(record)
        lo, hi = ORDER.index(found.worst), ORDER.index(found.best)
        for verdict in (found.verdict, *(t.verdict for t in found.turns)):
            assert lo <= ORDER.index(verdict) <= hi
        if found.holds:
            assert found.depends_on == ()
            assert not any(t.turns_verdict for t in found.turns)
        else:
            assert found.depends_on
        assert json.loads(render_json(real, [found]))["patients"][0]["worst"] == found.worst.value


def test_what_a_reading_does_not_bear_on_is_not_judged_again(real: Register) -> None:
    """What is taken over is what judging again would give, and what moves is known to be touched."""
    examples = sorted(people(real, data_folder() / "examples").items())
    for number, switch in enumerate(real.switches):
        record = examples[number % len(examples)][1]
        base = stand(real.kb, record, real.default)
        whole = stand(real.kb, record, switch.trial)
        again = real.bears_on[switch.name]
        assert stand(real.kb, record, switch.trial, known=base, again=again) == whole
        for iri in base.clauses.keys() & whole.clauses.keys():
            if base.clauses[iri] is not whole.clauses[iri]:
                assert switch.entry in real.touched[iri]


def test_several_real_readings_at_once(real: Register) -> None:
    by_name = {s.name: s for s in real.switches}
    names = [("A-29", "A-37"), ("A-34", "A-43"), ("A-24", "A-35")]
    for entries in names:
        chosen = tuple(next(s for s in by_name.values() if s.entry == e) for e in entries)
        merged = merge(real.default, [s.trial for s in chosen])
        assert merged is not None
        compiled = real.kb.compile(real.name, readings={s.entry: s.reading for s in chosen})
        assert dict(merged.clauses) == dict(compiled.clauses)
        assert dict(merged.windows) == dict(compiled.windows)
        assert dict(merged.anchors) == dict(compiled.anchors)
