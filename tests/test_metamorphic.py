"""The same said otherwise is judged the same: every example that is a graph or FHIR.

What `test_laws` holds is not repeated here: the order of facts, units, the loss of facts. Nor what
`test_forms` holds: one story told as RDF, FHIR and OMOP.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from rdflib import BNode, Graph, Literal, URIRef

from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.judging import Standing, stand
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SARC
from sarc_kb.rules import Trial
from sarc_kb.sources.rdf import read_rdf
from sarc_kb.sources.rdf_writer import write_patient
from sarc_kb.sources.read import read_sources

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
GRAPHS = sorted(EXAMPLES.glob("*/patient.ttl"))
BUNDLES = sorted(EXAMPLES.glob("*/bundle.json"))
# Days in 400 years of the calendar; then the lengths of months and the leap years come again.
ERA = 146_097

Change = Callable[[PatientRecord], PatientRecord]


@pytest.fixture(scope="module")
def records(kb: KnowledgeBase, trial: Trial) -> list[PatientRecord]:
    found = list(read_sources([EXAMPLES], kb.reading_terms(trial))[0])
    return [record for record in found if record.entry is not None]


@pytest.fixture(scope="module")
def before(kb: KnowledgeBase, trial: Trial, records: list[PatientRecord]) -> list[Standing]:
    return [stand(kb, record, trial) for record in records]


@pytest.fixture
def unchanged(
    kb: KnowledgeBase, trial: Trial, records: list[PatientRecord], before: list[Standing]
) -> Callable[[Change], None]:
    """Hold that a change of each record changes no outcome of a clause, criterion or rule."""

    def hold(change: Change) -> None:
        assert len(records) > 35
        for record, expected in zip(records, before, strict=True):
            assert stand(kb, change(record), trial) == expected, record.origin

    return hold


# -- time ------------------------------------------------------------------------------------------
def moved(date: PartialDate | None, years: int) -> PartialDate | None:
    if date is None:
        return None
    return parse_date(f"{int(date.text[:4]) + years:04}{date.text[4:]}")


def moved_fact(fact: Fact, years: int) -> Fact:
    start = moved(fact.start, years)
    end = start if fact.end is fact.start else moved(fact.end, years)
    return replace(fact, start=start, end=end, recorded=moved(fact.recorded, years))


@pytest.mark.threat("D16", "F9")
@pytest.mark.parametrize("years", [-400, 28])
def test_the_time_in_which_it_all_happens_does_not_matter(
    years: int, unchanged: Callable[[Change], None]
) -> None:
    """Windows count calendar months, so not every shift is neutral: 31 March less a month is the
    end of February, which moves with leap years. After 400 years the calendar is the same to the
    day; 28 is as good, since no record here reaches beyond 1901 or 2099."""
    if abs(years) == 400:
        days = {
            moved(parse_date(d), years).first - parse_date(d).first  # type: ignore[union-attr]
            for d in ("2024-02-29", "2023-12-31", "2000-02-29")
        }
        assert days == {ERA * years // 400}

    def move(record: PatientRecord) -> PatientRecord:
        facts = tuple(moved_fact(f, years) for f in record.facts)
        return replace(record, entry=moved(record.entry, years), facts=facts)

    unchanged(move)


# -- names -----------------------------------------------------------------------------------------
@pytest.mark.threat("D16", "C6")
def test_what_things_are_called_does_not_matter(unchanged: Callable[[Change], None]) -> None:
    def rename(record: PatientRecord) -> PatientRecord:
        facts = tuple(
            replace(
                fact,
                id=f"urn:fact:{fact.id[::-1]}",
                tumour=fact.tumour and f"urn:tumour:{fact.tumour[::-1]}",
            )
            for fact in record.facts
        )
        return replace(record, patient="urn:p:other", label="other", origin="x", facts=facts)

    unchanged(rename)


# -- what says nothing -----------------------------------------------------------------------------
@pytest.mark.threat("D16", "E1")
@pytest.mark.parametrize("status", ["EnteredInError", "Cancelled"])
def test_void_facts_say_nothing(
    status: str,
    unchanged: Callable[[Change], None],
    kb: KnowledgeBase,
    trial: Trial,
    records: list[PatientRecord],
) -> None:
    """Each would fail its rule, if it counted."""

    def void(name: str, number: str | None = None, unit: str | None = None) -> Fact:
        return Fact(
            id=f"urn:void:{name}",
            concepts=(str(SARC[name]),),
            value=None if number is None else Decimal(number),
            unit=unit,
            status=str(SARC[status]),
            source=f"void {name}",
        )

    facts = [
        void("Haemoglobin", "5", "g/dL"),
        void("BloodTransfusion"),
        void("Rhabdomyosarcoma"),
        void("Metastasis"),
        void("Radiotherapy"),
        void("Anlotinib", "40", "mg"),
        void("QTcInterval", "600", "ms"),
    ]

    def add(record: PatientRecord) -> PatientRecord:
        if record.entry is None:
            return record
        day = record.entry
        dated = (replace(f, start=day, end=day, recorded=day) for f in facts)
        return replace(record, facts=(*record.facts, *dated))

    unchanged(add)
    (eligible,) = (r for r in records if Path(r.origin).parent.name == "eligible")
    failing = set()
    for fact in add(eligible).facts[-len(facts) :]:
        counted = replace(eligible, facts=(*eligible.facts, replace(fact, status=None)))
        if stand(kb, counted, trial) != stand(kb, eligible, trial):
            failing.add(fact.source)
    assert failing == {fact.source for fact in facts}


@pytest.mark.threat("D16")
def test_older_results_say_nothing_beside_later_ones(unchanged: Callable[[Change], None]) -> None:
    """A count from before every window, where the record has a later one."""
    old = Fact(
        id="urn:old",
        concepts=(str(SARC.Haemoglobin),),
        value=Decimal(3),
        unit="g/dL",
        start=(day := parse_date("1999-01-01")),
        end=day,
        source="old",
    )

    def add(record: PatientRecord) -> PatientRecord:
        known = any(str(SARC.Haemoglobin) in f.concepts for f in record.facts)
        return replace(record, facts=(*record.facts, old)) if known else record

    unchanged(add)


# -- other ways of writing -------------------------------------------------------------------------
@pytest.mark.threat("D16")
@pytest.mark.parametrize("fmt", ["json-ld", "xml"])
def test_a_record_of_any_form_written_as_a_graph(
    fmt: str, kb: KnowledgeBase, unchanged: Callable[[Change], None]
) -> None:
    def rewrite(record: PatientRecord) -> PatientRecord:
        written = write_patient(record).serialize(format=fmt, encoding="utf-8")
        (again,) = read_rdf(written, "x", fmt, kb.terms.axes)
        return again

    unchanged(rewrite)


def doubled(graph: Graph) -> Graph:
    """Return the graph with every fact that has no name said a second time."""
    again = Graph()
    for triple in graph:
        again.add(triple)
    for patient, fact in graph.subject_objects(SARC.fact):
        if isinstance(fact, BNode) and (fact, SARC.source, None) in graph:
            copy = BNode()
            again.add((patient, SARC.fact, copy))
            for predicate, value in graph.predicate_objects(fact):
                again.add((copy, predicate, value))
    return again


@pytest.mark.threat("D16")
def test_a_statement_written_twice_is_one(kb: KnowledgeBase, trial: Trial) -> None:
    """As two doses of one day it would break the rule of one dose a day."""
    told = 0
    for path in GRAPHS:
        graph = Graph().parse(path, format="turtle")
        if not set(graph.subjects(SARC.entryDate, None)):
            continue
        forms = (g.serialize(format="turtle", encoding="utf-8") for g in (graph, doubled(graph)))
        (one,), (two,) = (read_rdf(form, "x", "turtle", kb.terms.axes) for form in forms)
        assert two.facts == one.facts
        assert stand(kb, two, trial) == stand(kb, one, trial), path
        told += sum(f.code == "DATA021" for f in two.findings)
    assert told > 100


@pytest.mark.threat("D16")
def test_two_facts_that_may_be_two_stay_two(kb: KnowledgeBase) -> None:
    """With names of their own, with other sources, or with none."""

    def read(*facts: str) -> PatientRecord:
        text = f"@prefix sarc: <{SARC}> . <urn:p> a sarc:Patient ; sarc:fact {' , '.join(facts)} ."
        return read_rdf(text.encode(), "x", "turtle", kb.terms.axes)[0]

    dose = 'sarc:concept sarc:Anlotinib ; sarc:value 12 ; sarc:unit "mg" ; sarc:date "2024-04-01"'
    same = read(*[f'[ {dose} ; sarc:source "row 1" ]'] * 3)
    assert len(same.facts) == 1
    assert [(f.code, f.where) for f in same.findings] == [("DATA021", "row 1")]
    assert "3 times" in same.findings[0].found
    typed = f'[ {dose} ; sarc:source "row 1"^^<http://www.w3.org/2001/XMLSchema#string> ]'
    assert len(read(typed, typed).facts) == 1
    other = read(f'[ {dose} ; sarc:source "row 1" ]', f'[ {dose} ; sarc:source "row 2" ]')
    unsourced = read(f"[ {dose} ]", f"[ {dose} ]")
    for record in (other, unsourced):
        assert len(record.facts) == 2
        assert record.findings == ()
    named = f'@prefix sarc: <{SARC}> . <urn:p> a sarc:Patient ; sarc:fact <urn:1> , <urn:2> . <urn:1> {dose} ; sarc:source "r" . <urn:2> {dose} ; sarc:source "r" .'
    assert len(read_rdf(named.encode(), "x", "turtle", kb.terms.axes)[0].facts) == 2


# -- cohorts ---------------------------------------------------------------------------------------
def without_place(records: list[PatientRecord]) -> list[PatientRecord]:
    plain = (replace(r, origin="", sha256="") for r in records)
    return sorted(plain, key=lambda r: r.patient)


@pytest.mark.threat("D16", "C6")
def test_patients_in_one_file_in_several_and_in_another_order(
    kb: KnowledgeBase, trial: Trial, tmp_path: Path
) -> None:
    terms = kb.reading_terms(trial)
    chance = random.Random(11)
    graphs = {path: Graph().parse(path, format="turtle") for path in GRAPHS}
    for number, graph in enumerate(graphs.values()):
        # Each a patient of its own, wherever it stands.
        for node in set(graph.subjects(RDF.type, SARC.Patient)):
            graph.set((node, SARC.identifier, Literal(f"patient {number}")))
    whole = Graph()
    apart = tmp_path / "apart"
    apart.mkdir()
    mixed = list(enumerate(graphs.values()))
    chance.shuffle(mixed)
    for number, graph in mixed:
        graph.serialize(apart / f"{number}.ttl", format="turtle", encoding="utf-8")
        for triple in graph:
            whole.add(triple)
    whole.serialize(tmp_path / "whole.ttl", format="turtle", encoding="utf-8")
    one = without_place(list(read_sources([tmp_path / "whole.ttl"], terms)[0]))
    several = without_place(list(read_sources([apart], terms)[0]))
    back = [apart / f"{n}.ttl" for n, _ in mixed]
    shuffled = without_place(list(read_sources(back, terms)[0]))
    assert len(one) == len(GRAPHS)
    assert one == several == shuffled


@pytest.mark.threat("D16", "C6")
def test_lines_in_one_file_and_in_several(kb: KnowledgeBase, trial: Trial, tmp_path: Path) -> None:
    terms = kb.reading_terms(trial)
    chance = random.Random(12)
    lines = []
    for number, path in enumerate(BUNDLES):
        text = path.read_text("utf-8")
        patient = next(
            e["resource"]["id"]
            for e in json.loads(text)["entry"]
            if e["resource"]["resourceType"] == "Patient"
        )
        # Each a patient of its own, also where two stories are about one person.
        bundle = json.loads(text.replace(f"Patient/{patient}", f"Patient/p{number}"))
        for entry in bundle["entry"]:
            body = entry["resource"]
            body["id"] = f"p{number}" if body["resourceType"] == "Patient" else body.get("id")
            lines.append(json.dumps(body))
    assert len(lines) > 100
    read = []
    for parts in (1, 2, 7):
        chance.shuffle(lines)
        folder = tmp_path / str(parts)
        folder.mkdir()
        for part in range(parts):
            text = "\n".join(lines[part::parts]) + "\n"
            (folder / f"{part}.ndjson").write_text(text, encoding="utf-8")
        found = list(read_sources([folder], terms)[0])
        read.append([replace(r, origin="", sha256="", findings=()) for r in found])
    assert [len(r) for r in read] == [len(BUNDLES)] * 3
    first = {r.patient: facts(r) for r in read[0]}
    assert all({r.patient: facts(r) for r in other} == first for other in read[1:])


def facts(record: PatientRecord) -> list[str]:
    return sorted(repr(replace(f, id="")) for f in record.facts)


@pytest.mark.threat("D16")
def test_a_remark_that_is_no_fact_is_told_and_changes_nothing(
    kb: KnowledgeBase, trial: Trial
) -> None:
    for path in GRAPHS[::4]:
        graph = Graph().parse(path, format="turtle")
        (plain,) = read_rdf(path.read_bytes(), "x", "turtle", kb.terms.axes)
        (node,) = set(graph.subjects(RDF.type, SARC.Patient))
        graph.add((node, URIRef("urn:likes"), Literal("music")))
        graph.add((URIRef("urn:music"), RDF.type, URIRef("urn:Art")))
        text = graph.serialize(format="turtle", encoding="utf-8")
        (more,) = read_rdf(text, "x", "turtle", kb.terms.axes)
        assert more.facts == plain.facts
        assert [f.code for f in more.findings if f not in plain.findings] == ["DATA005", "DATA005"]
