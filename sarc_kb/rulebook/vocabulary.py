"""The ontology for readers: each class with what is above and below it, and its codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rdflib import Graph, URIRef

from sarc_kb.namespaces import DCTERMS, OWL, RDF, RDFS, SARC, SKOS, compact, local_name
from sarc_kb.terminology import RELATED, Quantity, Terminology, parse_sssom

_MEANING = {
    "exactMatch": "the same",
    "broadMatch": "narrower: it holds",
    "narrowMatch": "wider: it may hold",
    RELATED: "named along",
}


@dataclass(frozen=True, slots=True)
class Mapped:
    """One row of a mapping table. ``meaning``: what the predicate says, in words. ``verified``: None
    where the table does not say."""

    code: str
    system: str
    text: str
    label: str
    term: str
    predicate: str
    meaning: str
    verified: bool | None
    note: str


@dataclass(frozen=True, slots=True)
class Term:
    """One class, property or named value, with its nearest relatives by their IRIs."""

    iri: str
    name: str
    label: str
    definition: str
    other_names: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[str, ...]
    above: tuple[str, ...]
    below: tuple[str, ...]
    recorded_as: str | None
    quantity: Quantity | None
    accepts: tuple[tuple[str, str], ...]
    mapped: tuple[Mapped, ...]
    unmapped_because: str


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All terms by IRI: ``concepts`` have pages of their own; ``properties`` and ``values`` share
    some. ``tops`` are the concepts with nothing above them."""

    concepts: Mapping[str, Term]
    properties: Mapping[str, Term]
    values: Mapping[str, Term]
    tops: tuple[str, ...]
    rows: tuple[Mapped, ...]


def read_vocabulary(terms: Terminology, folder: Path) -> Vocabulary:
    """Return the vocabulary of the ontology, with the mapping tables below ``folder``."""
    graph = terms.graph
    rows = read_mappings(terms, folder)
    by_term: dict[str, list[Mapped]] = {}
    for row in rows:
        by_term.setdefault(row.term, []).append(row)
    classes = _ours(graph, OWL.Class)
    near = {iri: _nearest_above(iri, terms) for iri in terms.ancestors}
    below: dict[str, list[str]] = {}
    for iri, parents in near.items():
        for parent in parents:
            below.setdefault(parent, []).append(iri)

    def term(iri: str) -> Term:
        return _term(iri, terms, near.get(iri, ()), below.get(iri, ()), by_term.get(iri, ()))

    properties = {
        iri
        for kind in (OWL.ObjectProperty, OWL.DatatypeProperty, OWL.AnnotationProperty)
        for iri in _ours(graph, kind)
    }
    values = _ours(graph, OWL.NamedIndividual) | _ours(graph, SARC.CodeSystem)
    tops = [iri for iri in classes if not set(near.get(iri, ())) & classes]
    return Vocabulary(
        concepts={iri: term(iri) for iri in _ordered(classes, terms)},
        properties={iri: term(iri) for iri in sorted(properties)},
        values={iri: term(iri) for iri in _ordered(values - classes, terms)},
        tops=tuple(_ordered(tops, terms)),
        rows=rows,
    )


def read_mappings(terms: Terminology, folder: Path) -> tuple[Mapped, ...]:
    """Return every row of the mapping tables, ordered by code system and code."""
    found = []
    for path in sorted(folder.glob("*.sssom.tsv")):
        table = parse_sssom(path.read_text(encoding="utf-8"))
        for _, row in table.rows:
            code = table.expand(row["subject_id"])
            prefix = next((p for p in terms.code_names if code.startswith(p)), "")
            predicate = local_name(table.expand(row["predicate_id"]))
            found.append(
                Mapped(
                    code=code,
                    system=terms.code_names.get(prefix, "other"),
                    text=code.removeprefix(prefix),
                    label=row.get("subject_label", ""),
                    term=table.expand(row["object_id"]),
                    predicate=predicate,
                    meaning=_MEANING.get(predicate, "not read"),
                    verified={"yes": True, "no": False}.get(row.get("verified", "")),
                    note=row.get("comment", ""),
                )
            )
    return tuple(sorted(found, key=lambda m: (m.system, m.text, m.term, m.predicate)))


def _ours(graph: Graph, kind: URIRef) -> set[str]:
    return {
        str(s)
        for s in graph.subjects(RDF.type, kind)
        if isinstance(s, URIRef) and (s, RDFS.label, None) in graph
    }


def _ordered(iris: Iterable[str], terms: Terminology) -> list[str]:
    return sorted(iris, key=lambda iri: (terms.label(iri).casefold(), iri))


def _nearest_above(iri: str, terms: Terminology) -> tuple[str, ...]:
    """Return what is above a term with nothing in between."""
    above = {a for a in terms.up(iri) if a != iri and terms.known(a)}
    further = {b for a in above for b in terms.up(a) if b != a}
    return tuple(_ordered(above - further, terms))


def _term(
    iri: str,
    terms: Terminology,
    above: Iterable[str],
    below: Iterable[str],
    mapped: Iterable[Mapped],
) -> Term:
    graph, node = terms.graph, URIRef(iri)

    def texts(predicate: URIRef) -> tuple[str, ...]:
        return tuple(sorted(" ".join(str(o).split()) for o in graph.objects(node, predicate)))

    quantity = terms.quantities.get(iri)
    accepts = []
    for unit, (factor, divisor) in sorted(quantity.accepts.items()) if quantity else ():
        if quantity is not None and unit != quantity.unit:
            by = (
                f"× {_plain(factor)}" if divisor == 1 else f"× {_plain(factor)} ÷ {_plain(divisor)}"
            )
            accepts.append((unit, by))
    definition = texts(SKOS.definition) or texts(RDFS.comment)
    return Term(
        iri=iri,
        name=compact(iri),
        label=terms.label(iri),
        definition=" ".join(definition),
        other_names=texts(SKOS.altLabel),
        sources=texts(URIRef(str(DCTERMS.source))),
        kinds=tuple(
            sorted(
                str(o)
                for o in graph.objects(node, RDF.type)
                if isinstance(o, URIRef) and str(o).startswith(str(SARC))
            )
        ),
        above=tuple(above),
        below=tuple(_ordered(set(below), terms)),
        recorded_as=terms.kind_of(iri),
        quantity=quantity,
        accepts=tuple(accepts),
        mapped=tuple(mapped),
        unmapped_because=" ".join(texts(SARC.unmappedBecause)),
    )


def _plain(number: object) -> str:
    return format(number, "f")
