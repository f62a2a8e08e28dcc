"""The register of ambiguities for readers: each passage, what it could mean, and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rdflib import Graph, Literal, URIRef
from rdflib.term import Node

from sarc_kb.cases import Case
from sarc_kb.namespaces import RDFS, SARC, compact, local_name
from sarc_kb.rulebook.rules import words_of
from sarc_kb.rules import Trial
from sarc_kb.terminology import Terminology


@dataclass(frozen=True, slots=True)
class Override:
    """What a reading changes at one rule or named thing: a parameter and its new values, in words
    and by their IRIs."""

    on: str
    on_label: str
    parameter: str
    becomes: tuple[str, ...]
    named: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReadingText:
    """One reading. ``cases``: ids of the boundary cases that run under it; ``not_runnable``: why it
    cannot be run."""

    name: str
    label: str
    comment: str
    is_default: bool
    overrides: tuple[Override, ...]
    not_runnable: str
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the register. ``affects``: rules by their IRIs."""

    iri: str
    id: str
    label: str
    topics: tuple[str, ...]
    passages: tuple[str, ...]
    because: str
    affects: tuple[str, ...]
    readings: tuple[ReadingText, ...]


def read_register(trial: Trial, terms: Terminology, cases: Iterable[Case]) -> tuple[Entry, ...]:
    """Return the register, ordered by the ids of its entries."""
    using: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        for name in case.readings.items():
            using.setdefault(name, []).append(case.id)
    return tuple(
        _entry(trial, terms, entry.iri, entry.id, entry.label, entry.default, using)
        for entry in sorted(trial.ambiguities, key=lambda a: a.id)
    )


def _entry(
    trial: Trial,
    terms: Terminology,
    iri: str,
    id_: str,
    label: str,
    default: str,
    using: Mapping[tuple[str, str], Sequence[str]],
) -> Entry:
    graph, node = trial.graph, URIRef(iri)
    readings = []
    for reading in graph.objects(node, SARC.hasReading):
        name = str(graph.value(reading, SARC.notation))
        readings.append(
            ReadingText(
                name=name,
                label=_text(graph, reading, RDFS.label),
                comment=_text(graph, reading, RDFS.comment),
                is_default=name == default,
                overrides=tuple(_overrides(trial, terms, reading)),
                not_runnable=_text(graph, reading, SARC.notRunnableBecause),
                cases=tuple(sorted(using.get((id_, name), ()))),
            )
        )
    return Entry(
        iri=iri,
        id=id_,
        label=label,
        topics=tuple(sorted(terms.label(str(o)) for o in graph.objects(node, SARC.touches))),
        passages=tuple(sorted(str(o) for o in graph.objects(node, SARC.passage))),
        because=_text(graph, node, SARC.because),
        affects=tuple(sorted(str(o) for o in graph.objects(node, SARC.affects))),
        readings=tuple(sorted(readings, key=lambda r: (not r.is_default, r.name))),
    )


def _overrides(trial: Trial, terms: Terminology, reading: Node) -> list[Override]:
    graph = trial.graph
    found = []
    for node in graph.objects(reading, SARC.override):
        values = sorted(graph.objects(node, SARC.to), key=str)
        named = [(str(v), trial.label(str(v), terms)) for v in values if isinstance(v, URIRef)]
        texts = [str(v) for v in values if isinstance(v, Literal)]
        texts += sorted(compact(str(o)) for o in graph.objects(node, SARC.becomes))
        for head in (v for v in values if not isinstance(v, URIRef | Literal)):
            for item in graph.items(head):
                if isinstance(item, URIRef):
                    named.append((str(item), local_name(str(item))))
                else:
                    texts.append(_described(trial, terms, item))
        parameters = sorted(compact(str(o)) for o in graph.objects(node, SARC.parameter))
        # One override may name several rules or things.
        for on in map(str, graph.objects(node, SARC.on)):
            found.append(
                Override(
                    on=on,
                    on_label=local_name(on),
                    parameter=", ".join(parameters),
                    becomes=tuple(texts),
                    named=tuple(named),
                )
            )
    return sorted(found, key=lambda o: (o.on, o.parameter, o.becomes, o.named))


def _described(trial: Trial, terms: Terminology, node: Node) -> str:
    """Return what a node without a name says, in words: an attempt of an anchor, say."""
    said: dict[str, list[str]] = {}
    for predicate, value in trial.graph.predicate_objects(node):
        text = trial.label(str(value), terms) if isinstance(value, URIRef) else str(value)
        said.setdefault(words_of(local_name(str(predicate))), []).append(text)
    return "; ".join(f"{name}: {', '.join(sorted(texts))}" for name, texts in sorted(said.items()))


def _text(graph: Graph, node: Node, predicate: URIRef) -> str:
    return " ".join(sorted(" ".join(str(o).split()) for o in graph.objects(node, predicate)))
