"""Turtle that is the same byte for byte for the same graph, whatever the node labels and the hash
seed were."""

from __future__ import annotations

from collections.abc import Mapping

from rdflib import Graph
from rdflib.compare import to_canonical_graph
from rdflib.namespace import XSD, NamespaceManager
from rdflib.term import Literal, Node

from sarc_kb.namespaces import OA, OWL, RDF, RDFS, SARC, SH

_PREFIXES = (
    ("oa", OA),
    ("owl", OWL),
    ("rdf", RDF),
    ("rdfs", RDFS),
    ("sarc", SARC),
    ("sh", SH),
    ("xsd", XSD),
)


def stable_turtle(graph: Graph, more: Mapping[str, str] | None = None) -> str:
    """Return ``graph`` as Turtle, sorted, blank nodes named by their content (RGDA1).

    ``more``: prefixes beside those that are always declared.
    """
    prefixes = sorted({**dict(_PREFIXES), **(more or {})}.items())
    canonical = to_canonical_graph(graph)
    manager = NamespaceManager(Graph(), bind_namespaces="none")
    for prefix, namespace in prefixes:
        manager.bind(prefix, str(namespace))

    def term(node: Node) -> str:
        if isinstance(node, Literal) and "\n" in node:
            # A long text keeps its lines, so that a query can be read.
            text = str(node).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
            return f'"""{text}"""' + (f"@{node.language}" if node.language else "")
        return node.n3(manager)

    subjects: dict[str, dict[str, list[str]]] = {}
    for s, p, o in canonical:
        subjects.setdefault(term(s), {}).setdefault("a" if p == RDF.type else term(p), []).append(
            term(o)
        )
    lines = [f"@prefix {prefix}: <{namespace}> ." for prefix, namespace in prefixes]
    for subject in sorted(subjects, key=lambda s: (s.startswith("_:"), s)):
        lines += ["", subject]
        rows = [
            f"    {predicate} " + " , ".join(sorted(objects))
            for predicate, objects in sorted(
                subjects[subject].items(), key=lambda kv: (kv[0] != "a", kv[0])
            )
        ]
        lines += [row + " ;" for row in rows[:-1]] + [rows[-1] + " ."]
    return "\n".join(lines) + "\n"
