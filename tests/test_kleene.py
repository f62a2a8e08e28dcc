"""Plain SHACL joins, read twice, are strong Kleene logic; and our fold is the same."""

from __future__ import annotations

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib import BNode, Graph, URIRef
from rdflib.collection import Collection

from sarc_kb.engines.shacl_engine import PySHACL, violations
from sarc_kb.kb import data_folder
from sarc_kb.namespaces import RDF, SARC, SH

# The tables of Kleene 1952 section 64, written out: f, u, t.
AND = {
    "ff": "f",
    "fu": "f",
    "ft": "f",
    "uf": "f",
    "uu": "u",
    "ut": "u",
    "tf": "f",
    "tu": "u",
    "tt": "t",
}
OR = {
    "ff": "f",
    "fu": "u",
    "ft": "t",
    "uf": "u",
    "uu": "u",
    "ut": "t",
    "tf": "t",
    "tu": "t",
    "tt": "t",
}

COMPONENTS = data_folder() / "shapes" / "components"
TREES = st.recursive(
    st.sampled_from("fut"),
    lambda children: st.tuples(
        st.sampled_from(["and", "or"]), st.lists(children, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def kleene(tree: object) -> str:
    if isinstance(tree, str):
        return tree
    assert isinstance(tree, tuple)
    operator, children = tree
    table = AND if operator == "and" else OR
    return reduce(lambda a, b: table[a + b], [kleene(c) for c in children])


def shapes_and_data(tree: object, reading: str) -> tuple[Graph, Graph, URIRef]:
    shapes = Graph().parse(COMPONENTS / f"{reading}.ttl")
    data = Graph()
    patient = URIRef("urn:patient")
    data.add((patient, RDF.type, SARC.Patient))
    counter = iter(range(1000))

    def build(node: object) -> URIRef:
        shape = URIRef(f"urn:shape:{next(counter)}")
        shapes.add((shape, RDF.type, SH.NodeShape))
        if isinstance(node, str):
            shapes.add((shape, SARC.attested, shape))
            if node == "t":
                data.add((patient, SARC.clearedFor, shape))
            elif node == "f":
                data.add((patient, SARC.denied, shape))
        else:
            assert isinstance(node, tuple)
            head = BNode()
            shapes.add((shape, SH[node[0]], head))
            Collection(shapes, head, [build(c) for c in node[1]])
        return shape

    root = build(tree)
    shapes.add((root, SH.targetClass, SARC.Patient))
    return shapes, data, root


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_sh_and_and_sh_or_are_kleenes_tables(tree: object) -> None:
    bad = {}
    for reading in ("refuted", "unproven"):
        shapes, data, root = shapes_and_data(tree, reading)
        bad[reading] = any(shape == str(root) for shape, _ in violations(PySHACL(shapes).run(data)))
    assert not (bad["refuted"] and not bad["unproven"])
    assert ("f" if bad["refuted"] else "u" if bad["unproven"] else "t") == kleene(tree)
