"""The trial's rules as SHACL shapes: bare for our own runs, whole for other people's tools."""

from __future__ import annotations

from collections.abc import Collection as Collection_
from pathlib import Path
from typing import Literal as Choice

from rdflib import BNode, Graph, Literal, URIRef
from rdflib.collection import Collection

from sarc_kb.namespaces import RDF, RDFS, SARC, SH
from sarc_kb.rules import COMPONENTS, Trial

ReadingName = Choice["refuted", "unproven"]
READINGS: tuple[ReadingName, ReadingName] = ("refuted", "unproven")
CANARY = "urn:sarc-kb:canary"
"""A shape that every prepared graph violates in both readings; see `ShaclEngine`."""

_PARAMETERS = (
    *COMPONENTS,
    *("window", "qualifier", "accepted", "attestedAs", "settledBy", "notDenied"),
    *("atLeast", "moreThan", "atMost", "lessThan"),
    *("pairedWith", "pairedQualifier", "pairedAccepted", "gapFrom", "gapTo"),
    *("pairedAtLeast", "pairedMoreThan", "pairedAtMost", "pairedLessThan"),
)


def clause_shapes(
    trial: Trial, components: Path, reading: ReadingName, only: Collection_[str] | None = None
) -> Graph:
    """Return the shapes of one reading as this program runs them: every named clause on its own,
    without joins (which would be evaluated again for each parent) and without prose; ``only``
    limits them to some criteria."""
    graph = _rule_shapes(trial, components, reading, only)
    canary = URIRef(CANARY)
    graph.add((canary, RDF.type, SH.NodeShape))
    graph.add((canary, SH.targetClass, SARC.Patient))
    graph.add((canary, SARC.attested, canary))
    return graph


def _rule_shapes(
    trial: Trial, components: Path, reading: ReadingName, only: Collection_[str] | None = None
) -> Graph:
    graph = Graph().parse(components / f"{reading}.ttl", format="turtle")
    for criterion in trial.criteria:
        if only is None or criterion.iri in only:
            for iri in (criterion.iri, *criterion.clauses):
                _copy_parameters(trial.graph, URIRef(iri), graph)
    return graph


def exported_shapes(trial: Trial, components: Path, reading: ReadingName) -> Graph:
    """Return one self-contained shapes graph for any SHACL-SPARQL processor.

    Every criterion, join and clause targets ``sarc:Patient`` and is reported under its own IRI;
    the severity tells the reading (``sh:Violation`` or ``sarc:Undetermined``).
    """
    graph = _rule_shapes(trial, components, reading)
    graph.bind("sarc", SARC)
    graph.bind("sh", SH)
    severity = SH.Violation if reading == "refuted" else SARC.Undetermined
    for join in trial.joins.values():
        node, head = URIRef(join.iri), BNode()
        graph.add((node, RDF.type, SH.NodeShape))
        graph.add((node, SH.targetClass, SARC.Patient))
        graph.add((node, SH[join.operator], head))
        Collection(graph, head, [URIRef(c) for c in join.children])
    for node in {
        URIRef(i) for i in (*trial.clauses, *trial.joins, *(c.iri for c in trial.criteria))
    }:
        graph.add((node, SH.severity, severity))
        label = trial.graph.value(node, RDFS.label)
        if label is not None:
            graph.add((node, RDFS.label, label))
        message = trial.graph.value(node, SH.message)
        if message is not None:
            text = str(message) if reading == "refuted" else f"not established: {label}"
            graph.add((node, SH.message, Literal(text)))
    return graph


def _copy_parameters(source: Graph, node: URIRef, target: Graph) -> None:
    target.add((node, RDF.type, SH.NodeShape))
    target.add((node, SH.targetClass, SARC.Patient))
    for name in _PARAMETERS:
        for value in source.objects(node, SARC[name]):
            target.add((node, SARC[name], value))
