"""Where the reports of a pack come from, as PROV-O.

What a file is follows from its content, so its IRI is made from its SHA-256; its place in the pack
is its label. No time is told: the same inputs give the same graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rdflib import Graph, Literal, URIRef
from rdflib.term import Node

from sarc_kb.namespaces import OWL, PROV, RDF, RDFS, SARC
from sarc_kb.provenance.manifest import File, Input, Manifest
from sarc_kb.reports.turtle import stable_turtle


def render_provenance(
    manifest: Manifest, reports: Iterable[File], rules: Iterable[tuple[str, str | None]]
) -> bytes:
    """Return the graph as Turtle.

    ``rules``: the IRIs of the vocabularies and rules that were read, each with its version IRI if
    it has one.

    Source: W3C PROV-O; the IRIs of packages are their pages in the Python Package Index.
    """
    graph = Graph()

    def add(subject: Node, kind: str, label: str) -> None:
        graph.add((subject, RDF.type, PROV[kind]))
        graph.add((subject, RDFS.label, Literal(label)))

    command = " ".join(manifest.command)
    told = [command, *(each.sha256 for each in manifest.inputs)]
    told += [manifest.knowledge_base["sha256"], *map("==".join, manifest.versions.items())]
    activity = URIRef(
        f"urn:sarc-kb:activity:{hashlib.sha256(chr(10).join(told).encode()).hexdigest()}"
    )
    add(activity, "Activity", command)
    rule_base = URIRef(f"urn:sarc-kb:sha256:{manifest.knowledge_base['sha256']}")
    add(rule_base, "Entity", "rule base")
    graph.add((rule_base, SARC.sha256, Literal(manifest.knowledge_base["sha256"])))
    graph.add((activity, PROV.used, rule_base))
    for iri, version in rules:
        part = URIRef(version or iri)
        graph.add((part, RDF.type, PROV.Entity))
        graph.add((rule_base, PROV.hadMember, part))
        if version:
            graph.add((part, PROV.specializationOf, URIRef(iri)))
    graph.add((rule_base, RDF.type, PROV.Collection))
    for package, version in manifest.versions.items():
        agent = _agent(package, version)
        add(agent, "SoftwareAgent", f"{package} {version}")
        graph.add((agent, OWL.versionInfo, Literal(version)))
        graph.add((activity, PROV.wasAssociatedWith, agent))
    for given in manifest.inputs:
        entity = _entity(graph, given)
        graph.add((activity, PROV.used, entity))
    for report in reports:
        entity = _entity(graph, report)
        graph.add((entity, PROV.wasGeneratedBy, activity))
        graph.add((entity, PROV.wasDerivedFrom, rule_base))
        for given in manifest.inputs:
            graph.add((entity, PROV.wasDerivedFrom, _iri(given)))
    return stable_turtle(graph, {"prov": str(PROV)}).encode()


def _iri(file: File | Input) -> URIRef:
    return URIRef(f"urn:sarc-kb:sha256:{file.sha256}")


def _entity(graph: Graph, file: File | Input) -> URIRef:
    entity = _iri(file)
    graph.add((entity, RDF.type, PROV.Entity))
    graph.add((entity, RDFS.label, Literal(file.name)))
    graph.add((entity, SARC.sha256, Literal(file.sha256)))
    return entity


def _agent(package: str, version: str) -> URIRef:
    """Return the package URL of a version of a package, or of Python itself.

    Source: Package URL specification (ECMA-427), types pypi and generic.
    """
    kind = "generic" if package == "python" else "pypi"
    return URIRef(f"pkg:{kind}/{package}@{version}")
