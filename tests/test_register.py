"""The register of ambiguities holds together with the source, the rules and itself.

Everything is read with rdflib alone, so that a fault in the program cannot hide one in the data.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from rdflib import RDF, Graph, Namespace, URIRef
from rdflib.collection import Collection
from rdflib.term import BNode, Node

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "shapes" / "trials" / "nct05602415"
SARC = Namespace("https://w3id.org/sarc-kb/ontology#")
TRIAL = Namespace("https://w3id.org/sarc-kb/trial/NCT05602415/")
SH = Namespace("http://www.w3.org/ns/shacl#")


def _read(paths: list[Path]) -> Graph:
    graph = Graph()
    for path in paths:
        graph.parse(path)
    return graph


RULES = _read([p for p in sorted(FOLDER.rglob("*.ttl")) if not p.name.endswith(".cases.ttl")])
ONTOLOGY = _read(sorted((ROOT / "ontology").rglob("*.ttl")))
SOURCE = " ".join((FOLDER / "source.txt").read_text(encoding="utf-8").split())

ENTRIES = sorted(RULES.subjects(RDF.type, SARC.Ambiguity), key=str)
READINGS = sorted(RULES.subjects(RDF.type, SARC.Reading), key=str)
OVERRIDES = sorted(
    (
        (reading, node, patch)
        for reading, patch in RULES.subject_objects(SARC.override)
        for node in RULES.objects(patch, SARC.on)
    ),
    key=lambda o: (o[0], o[1], str(RULES.value(o[2], SARC.parameter))),
)


def name(node: Node) -> str:
    """Return the end of an IRI, as people write it."""
    return str(node).replace("#", "/").rpartition("/")[2]


def named(nodes: list[Node]) -> list[object]:
    return [pytest.param(node, id=name(node)) for node in nodes]


def exists(node: Node) -> bool:
    """Whether something is said about ``node`` in the rule base or the ontology."""
    return (node, None, None) in RULES or (node, None, None) in ONTOLOGY


def written(node: Node) -> list[Node]:
    """Return what a value of a property comes down to: itself, or the members of a list."""
    return list(Collection(RULES, node)) if (node, RDF.first, None) in RULES else [node]


def named_inside(node: Node) -> list[URIRef]:
    """Return the IRIs that a value names, through lists and nested nodes."""
    found: list[URIRef] = []
    for part in written(node):
        if isinstance(part, URIRef):
            found.append(part)
        elif isinstance(part, BNode):
            for value in RULES.objects(part):
                found += named_inside(value)
    return found


def test_the_register_is_complete() -> None:
    assert [name(e) for e in ENTRIES] == [f"A-{n:02}" for n in range(1, 46)]


def test_the_source_is_the_one_received() -> None:
    digest = hashlib.sha256((FOLDER / "source.txt").read_bytes()).hexdigest()
    assert str(RULES.value(TRIAL.record, SARC.sha256)) == digest


@pytest.mark.parametrize("entry", named(ENTRIES))
@pytest.mark.threat("E10")
def test_passages_stand_in_the_source(entry: Node) -> None:
    passages = [str(p) for p in RULES.objects(entry, SARC.passage)]
    assert passages
    assert [p for p in passages if " ".join(p.split()) not in SOURCE] == []


@pytest.mark.parametrize("entry", named(ENTRIES))
def test_an_entry_chooses_among_its_readings(entry: Node) -> None:
    readings = list(RULES.objects(entry, SARC.hasReading))
    defaults = list(RULES.objects(entry, SARC.default))
    assert len(readings) >= 2
    assert len(defaults) == 1
    assert defaults[0] in readings
    notations = [str(RULES.value(r, SARC.notation)) for r in readings]
    assert len(set(notations)) == len(readings)
    assert sorted(map(name, readings)) == sorted(f"{name(entry)}-{n}" for n in notations)
    assert str(RULES.value(entry, SARC.because))
    assert set(RULES.objects(entry, SARC.touches)) <= {
        SARC.Eligibility,
        SARC.TreatmentRules,
        SARC.Design,
    }
    assert (entry, SARC.touches, None) in RULES


@pytest.mark.parametrize("reading", named(READINGS))
def test_a_reading_belongs_to_one_entry_and_does_something_or_says_why_not(reading: Node) -> None:
    owners = list(RULES.subjects(SARC.hasReading, reading))
    assert len(owners) == 1
    runs = (reading, SARC.override, None) in RULES
    excused = (reading, SARC.notRunnableBecause, None) in RULES
    if RULES.value(owners[0], SARC.default) == reading:
        assert not runs
        assert not excused
    else:
        assert runs != excused


@pytest.mark.parametrize(
    ("node", "patch"),
    [pytest.param(n, p, id=f"{name(r)}-{name(n)}") for r, n, p in OVERRIDES],
)
def test_an_override_changes_something_that_is_there(node: Node, patch: Node) -> None:
    parameters = list(RULES.objects(patch, SARC.parameter))
    assert len(parameters) == 1
    old = list(RULES.objects(node, parameters[0]))
    assert old, f"{name(node)} has no {name(parameters[0])}"
    new = list(RULES.objects(patch, SARC.to))
    becomes = list(RULES.objects(patch, SARC.becomes))
    assert len(becomes) <= 1
    assert new or becomes
    assert becomes != parameters
    if not becomes:
        assert sorted(map(written, new), key=str) != sorted(map(written, old), key=str)
    if parameters != [RDF.type]:
        assert len(new) <= 1
    used = [i for value in new for i in named_inside(value)]
    assert [i for i in used if not exists(i) and not i.startswith(str(SH))] == []


@pytest.mark.parametrize("entry", named(ENTRIES))
def test_an_entry_and_its_rules_name_each_other(entry: Node) -> None:
    affected = {name(r) for r in RULES.objects(entry, SARC.affects)}
    # A passage that no rule quotes may point to the register too; an entry affects rules.
    resolved_by = {
        name(r)
        for r in RULES.subjects(SARC.resolves, entry)
        if (r, RDF.type, SARC.AccountedPassage) not in RULES
    }
    assert affected == resolved_by


def test_rules_resolve_only_what_is_in_the_register() -> None:
    resolved = set(RULES.objects(None, SARC.resolves))
    assert resolved
    assert sorted(name(e) for e in resolved - set(ENTRIES)) == []
    assumed = set(RULES.objects(None, SARC.restsOn)) - set(RULES.subjects(RDF.type, SARC.Policy))
    assert sorted(name(e) for e in assumed - set(ENTRIES)) == []


def test_cases_choose_readings_of_the_register() -> None:
    cases = _read(sorted(FOLDER.rglob("*.cases.ttl")))
    assert sorted(name(r) for r in set(cases.objects(None, SARC.withReading)) - set(READINGS)) == []
