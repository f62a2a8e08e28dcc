"""What a graph says of each thing it names, so that two graphs can be held against each other.

Comments, the order of statements, names of blank nodes and the way a number is written are gone
then; labels and explanations are left out, and names can be mapped to others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from rdflib import BNode, Graph, Literal, URIRef
from rdflib.collection import Collection
from rdflib.namespace import XSD
from rdflib.term import Node

from sarc_kb.namespaces import (
    DCTERMS,
    OA,
    OWL,
    RDF,
    RDFS,
    SARC,
    SH,
    SKOS,
    compact,
)

TEXTS = frozenset(
    map(
        str,
        (
            *(RDFS[n] for n in ("label", "comment", "seeAlso", "isDefinedBy")),
            *(SKOS[n] for n in ("altLabel", "definition", "note", "prefLabel")),
            *(SARC[n] for n in ("interpretation", "remedy", "because", "locator")),
            SH.message,
            OA.prefix,
            OA.suffix,
            OWL.versionInfo,
            OWL.versionIRI,
        ),
    )
)
"""What a thing is called and how it is explained."""
_REASONS = frozenset(str(SARC[n]) for n in ("unmappedBecause", "notRunnableBecause"))
"""That there is a reason counts, not its words."""
_NAMES = frozenset(map(str, (RDFS.label, SKOS.altLabel)))
_ELSEWHERE = frozenset((str(OWL.disjointWith),))
"""Pairs that the terminology has anyway, with those that lists of classes come to."""
_UNORDERED = frozenset((str(SH["and"]), str(SH["or"]), str(OWL.members)))
_BACK = frozenset(str(SARC[n]) for n in ("partOf", "affects"))
"""What only repeats what the other side says."""
_NOTATION = str(SARC.notation)
_NAMED_SO = (SH.NodeShape, SARC.Reading, SARC.TreatmentRule, SARC.DefinitionRule)
ITSELF = "itself"

Content = Mapping[str, tuple[str, ...]]
"""Of one thing: property to values, as text."""


class Contents:
    """What ``graph`` says of each thing with a name; names are mapped by ``renames``."""

    def __init__(self, graph: Graph, renames: Mapping[str, str] | None = None) -> None:
        self.graph = graph
        self.renames = dict(renames or {})
        self.names = {str(s) for s in set(graph.subjects()) if isinstance(s, URIRef)}

    def of(self, iri: str, *, as_itself: bool = False) -> dict[str, tuple[str, ...]]:
        """Return the content of one thing; ``as_itself``: without its name and what only repeats
        what others say."""
        node = URIRef(iri)
        found: dict[str, list[str]] = defaultdict(list)
        named = not as_itself and (node, SARC.unmappedBecause, None) in self.graph
        called = any((node, RDF.type, cls) in self.graph for cls in _NAMED_SO)
        for p, o in self.graph.predicate_objects(node):
            name = str(p)
            if name in _ELSEWHERE or (name == _NOTATION and called):
                continue
            if (name in TEXTS or name.startswith(str(DCTERMS))) and not (
                # Where no code has a term, its names are what readers know it by.
                named and name in _NAMES
            ):
                continue
            if as_itself and name in _BACK:
                continue
            value = "given" if name in _REASONS else self.text(o, p, node if as_itself else None)
            found[name].append(value)
        return {name: tuple(sorted(values)) for name, values in found.items()}

    def text(self, value: Node, predicate: Node | None = None, itself: Node | None = None) -> str:
        """Return a value as text; lists keep their order where it counts."""
        if value == itself:
            return ITSELF
        if isinstance(value, Literal):
            return _literal(value)
        if isinstance(value, URIRef):
            iri = str(value)
            return compact(self.renames.get(iri, iri))
        if (value, RDF.first, None) in self.graph:
            parts = [self.text(v, None, itself) for v in Collection(self.graph, value)]
            if str(predicate) in _UNORDERED:
                parts.sort()
            return f"({' '.join(parts)})"
        parts = sorted(
            f"{compact(str(p))} {self.text(o, p, itself)}"
            for p, o in self.graph.predicate_objects(value)
            if str(p) not in TEXTS
        )
        return f"[{'; '.join(parts)}]"

    def texts(self, iri: str) -> frozenset[tuple[str, str]]:
        """Return the labels and explanations of one thing."""
        return frozenset(
            (str(p), " ".join(str(o).split()))
            for p, o in self.graph.predicate_objects(URIRef(iri))
            if str(p) in TEXTS
        )

    def label(self, iri: str) -> str:
        return str(self.graph.value(URIRef(iri), RDFS.label) or "")

    def notation(self, iri: str) -> str:
        return str(self.graph.value(URIRef(iri), SARC.notation) or "")

    def types(self, iri: str) -> list[str]:
        return sorted(str(t) for t in self.graph.objects(URIRef(iri), RDF.type))

    def mentions(self) -> dict[str, set[str]]:
        """Return, for each thing that is named somewhere, the things whose content names it."""
        found: dict[str, set[str]] = defaultdict(set)
        for iri in self.names:
            for named in self._named(URIRef(iri), set()):
                found[named].add(iri)
        return found

    def _named(self, node: Node, seen: set[Node]) -> Iterator[str]:
        for p, o in self.graph.predicate_objects(node):
            if str(p) in TEXTS or str(p) in _BACK or p == RDF.type:
                continue
            if isinstance(o, URIRef):
                yield str(o)
            elif isinstance(o, BNode) and o not in seen:
                seen.add(o)
                yield from self._named(o, seen)


def _literal(value: Literal) -> str:
    text = " ".join(str(value).split())
    if value.datatype in (XSD.decimal, XSD.integer, XSD.double):
        try:
            return plain(Decimal(text))
        except InvalidOperation:
            return text
    if value.datatype == XSD.boolean:
        return text
    return f"“{text}”"


def plain(number: Decimal) -> str:
    """Return a number as people write it: 9.00 is 9."""
    return format(number.normalize() + 0, "f")


def renamed(old: Contents, new: Contents) -> dict[str, str]:
    """Return what has another name in ``new`` and the same content: old IRI to new.

    A thing of the ontology must have the same label too: many terms are alike but for their name.
    What names something renamed is looked at again once that is known.
    """
    found: dict[str, str] = {}
    while True:
        before = Contents(old.graph, found)
        gone = _by_content(before, old.names - new.names - found.keys())
        came = _by_content(new, new.names - old.names - set(found.values()))
        more: dict[str, str] = {}
        for key, names in gone.items():
            others = came.get(key, [])
            if len(names) == len(others) == 1:
                more[names[0]] = others[0]
                continue
            for name in names:
                alike = [o for o in others if new.label(o) == old.label(name)]
                same = [n for n in names if old.label(n) == old.label(name)]
                if len(alike) == len(same) == 1:
                    more[name] = alike[0]
        if not more:
            return found
        found |= more


def _by_content(contents: Contents, names: set[str]) -> dict[object, list[str]]:
    found: dict[object, list[str]] = defaultdict(list)
    for iri in sorted(names):
        content = contents.of(iri, as_itself=True)
        if set(content) <= {str(RDF.type)}:
            continue
        label = contents.label(iri) if iri.startswith(str(SARC)) else ""
        found[label, tuple(sorted(content.items()))].append(iri)
    return found
