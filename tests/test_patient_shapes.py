"""shapes/patient.ttl: well-formed graphs pass it, each fault is told, no reasoner is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from rdflib import Graph

from sarc_kb.engines.shacl_engine import meta_results
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.rules import Trial
from sarc_kb.sources.rdf_writer import write_patient
from sarc_kb.sources.read import read_sources

ROOT = data_folder()
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PREFIXES = """@prefix sarc: <https://w3id.org/sarc-kb/ontology#> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix e: <urn:example:> .
"""


@pytest.fixture(scope="module")
def shapes() -> Graph:
    return Graph().parse(ROOT / "shapes" / "patient.ttl")


@pytest.fixture(scope="module")
def disjoint() -> Graph:
    """The pairs that the reasoner inferred, as they are committed."""
    return Graph().parse(ROOT / "ontology" / "inferred.ttl")


def faults(data: Graph, shapes: Graph, disjoint: Graph) -> list[str]:
    for triple in disjoint:
        data.add(triple)
    return [message for _, _, message, _ in meta_results(data, shapes)]


def test_the_examples_are_well_formed(
    kb: KnowledgeBase, trial: Trial, shapes: Graph, disjoint: Graph
) -> None:
    """Also a test of the writer: what was read, from FHIR too, is written as a well-formed graph."""
    records, problems = read_sources([EXAMPLES], kb.reading_terms(trial))
    assert not problems
    for record in records:
        # A result in words that no table maps keeps its text as the value, and is told for it.
        words = [f for f in record.facts if f.value is None and f.value_text is not None]
        told = faults(write_patient(record), shapes, disjoint) if record.facts else []
        assert (NO_NUMBER in told) == bool(words), record.label
        assert bool(told) == bool(words), (record.label, told)
    assert [r.label for r in records if any(f.value_text for f in r.facts if f.value is None)] == [
        "sarc-example-local"
    ]


NO_NUMBER = "a value is one decimal or integer"
ENTRY = 'sarc:entryDate "2024-03-01"^^xsd:date'
FAULTS = {
    "no entry date": (
        "e:p a sarc:Patient ; sarc:fact e:f . e:f sarc:concept sarc:Birth .",
        "entry date",
    ),
    "no fact": (f"e:p a sarc:Patient ; {ENTRY} .", "at least one fact"),
    "a fact about nothing": (
        f"e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:value 1.0 .",
        "about something",
    ),
    "a double": (
        f"e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:concept sarc:Haemoglobin ; sarc:value 9.0e0 .",
        "decimal",
    ),
    "a date as text": (
        f'e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:concept sarc:Birth ; sarc:date "1970-05-02" .',
        "date",
    ),
    "a date and a start": (
        f'e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:concept sarc:Birth ; sarc:date "1970-05-02"^^xsd:date ; sarc:start "1970"^^xsd:gYear .',
        "one or the other",
    ),
    "a shared fact": (
        f"e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:q a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:concept sarc:Birth .",
        "one patient",
    ),
    "two margins that exclude each other": (
        f"e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:concept sarc:SurgicalMargin ; sarc:valueConcept sarc:MarginR0 , sarc:MarginR2 .",
        "exclude each other",
    ),
    "two entities whose families exclude each other, by inference": (
        f"e:p a sarc:Patient ; {ENTRY} ; sarc:fact e:f . e:f sarc:concept sarc:Histology ; sarc:valueConcept sarc:RoundCellLiposarcoma , sarc:BiphasicSynovialSarcoma .",
        "exclude each other",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told(name: str, shapes: Graph, disjoint: Graph) -> None:
    text, words = FAULTS[name]
    found = faults(Graph().parse(data=PREFIXES + text, format="turtle"), shapes, disjoint)
    assert any(words in message for message in found), found


def test_a_contradictory_record_decides_nothing(kb: KnowledgeBase, tmp_path: Path) -> None:
    path = tmp_path / "patient.ttl"
    path.write_text(PREFIXES + FAULTS["two margins that exclude each other"][0], encoding="utf-8")
    (assessment,) = kb.validate(path).assessments
    assert any(f.code == "DATA015" for f in assessment.data_findings)
    (margin,) = [c for k in assessment.criteria for c in k.clauses if c.id == "I04d"]
    assert margin.outcome.word == "undetermined"
