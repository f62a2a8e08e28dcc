"""Boundary cases: small patients with the outcome that the protocol's words demand.

A case lies beside the rule it proves (`*.cases.ttl`) and was written from the source sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rdflib import Graph
from rdflib.term import Node

from sarc_kb.assess import clause_outcomes, fold
from sarc_kb.assessment import Outcome, TreatmentOutcome
from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.engines.shacl_engine import Readings
from sarc_kb.facts import PatientRecord
from sarc_kb.namespaces import RDF, SARC, local_name
from sarc_kb.rules import Trial
from sarc_kb.sources.rdf import patients_of
from sarc_kb.turtle_files import parse_files

_OUTCOMES: dict[str, Outcome | TreatmentOutcome] = {
    "Pass": Outcome.PASS,
    "Fail": Outcome.FAIL,
    "Undetermined": Outcome.UNDETERMINED,
    "Conformant": TreatmentOutcome.CONFORMANT,
    "Violation": TreatmentOutcome.VIOLATION,
    "Deviation": TreatmentOutcome.DEVIATION,
    "Permitted": TreatmentOutcome.PERMITTED,
    "NotRuled": TreatmentOutcome.NOT_RULED,
    "NotYetApplicable": TreatmentOutcome.NOT_YET_APPLICABLE,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One case: the rule it is about, the patient, the outcome expected and why.

    ``expected`` is an outcome of the three-valued logic or, for a treatment rule, what is told of
    it. ``readings`` maps register entries to the reading the case runs under; ``answered`` tells
    whether the patient has an attestation.
    """

    id: str
    rule: str
    record: PatientRecord
    expected: Outcome | TreatmentOutcome
    because: str
    tests: tuple[str, ...]
    as_of: PartialDate | None
    readings: Mapping[str, str]
    answered: bool
    path: Path


def load_cases(
    folder: Path, axes: frozenset[str], *, about: Collection[str] | None = None
) -> list[Case]:
    """Return every case below ``folder``, ordered by id; ``about``: those about these rules alone,
    named by their IRIs.

    Raises:
        RuleBaseError: a file cannot be read as Turtle.
    """
    names = None if about is None else {local_name(rule) for rule in about}
    registers = Graph()
    for path in sorted(folder.rglob("ambiguities.ttl")):
        registers.parse(path, format="turtle")
    found: list[Case] = []
    for path in sorted(folder.rglob("*.cases.ttl")):
        # Reading a file takes its time; one that names no such rule has no such case.
        if names is not None:
            text = path.read_text(encoding="utf-8")
            if not any(name in text for name in names):
                continue
        graph = parse_files((path,))
        found += [
            _case(graph, registers, node, path, axes)
            for node in graph.subjects(RDF.type, SARC.BoundaryCase)
            if about is None or str(graph.value(node, SARC.forRule)) in about
        ]
    return sorted(found, key=lambda c: c.id)


def _case(graph: Graph, registers: Graph, node: Node, path: Path, axes: frozenset[str]) -> Case:
    patient = graph.value(node, SARC.patient)
    own = Graph()
    stack: list[Node] = [patient] if patient is not None else []
    while stack:
        subject = stack.pop()
        for triple in graph.triples((subject, None, None)):
            if triple not in own:
                own.add(triple)
                if triple[1] == SARC.fact:
                    stack.append(triple[2])
    name = local_name(str(node))
    records = patients_of(
        own, f"{path.name}:{name}", hashlib.sha256(name.encode()).hexdigest(), axes
    )
    as_of = graph.value(node, SARC.asOf)
    readings = {}
    for reading in graph.objects(node, SARC.withReading):
        entry = registers.value(None, SARC.hasReading, reading)
        readings[local_name(str(entry))] = str(registers.value(reading, SARC.notation))
    return Case(
        id=name,
        rule=str(graph.value(node, SARC.forRule)),
        record=records[0],
        expected=_OUTCOMES[local_name(str(graph.value(node, SARC.expected)))],
        because=str(graph.value(node, SARC.because)),
        tests=tuple(sorted(local_name(str(t)) for t in graph.objects(node, SARC.tests))),
        as_of=parse_date(str(as_of)) if as_of is not None else None,
        readings=readings,
        answered=any(f.kind == str(SARC.Attestation) for f in records[0].facts),
        path=path,
    )


def part_of(trial: Trial, rule: str) -> Trial:
    """Return the part of the trial that ``rule`` is judged in; eligibility, if it is in both."""
    for part in trial.parts:
        if rule in part.clauses or rule in part.joins or rule in {c.iri for c in part.criteria}:
            return part
    raise KeyError(rule)


def criterion_of(trial: Trial, rule: str) -> str:
    """Return the criterion that a clause or join belongs to; a criterion is its own."""
    for criterion in trial.criteria:
        nodes = [criterion.iri, criterion.root]
        while nodes:
            node = nodes.pop()
            if node == rule:
                return criterion.iri
            nodes += trial.children(node)
    raise KeyError(rule)


def rule_outcome(readings: Readings, trial: Trial, rule: str) -> Outcome:
    """Return the outcome of any rule (clause, join or criterion) from the two readings."""
    outcomes = clause_outcomes(trial, readings.refuted, readings.unproven)
    denied = any(
        shape == rule and component == str(SARC.NotDeniedConstraintComponent)
        for shape, component in readings.refuted
    )
    return Outcome.FAIL if denied else fold(trial, rule, outcomes)
