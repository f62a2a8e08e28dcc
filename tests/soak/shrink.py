"""Make a patient graph as small as it can be while something still holds of it.

Delta debugging (A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
2002): first whole facts are left out, then single properties, then values are made plainer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from rdflib import Graph, Literal, URIRef
from rdflib.term import Node

from sarc_kb.namespaces import RDF, SARC

Holds = Callable[[Graph], bool]
Triple = tuple[Node, Node, Node]
T = TypeVar("T")


def fewest(parts: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return parts of which none can be left out while ``holds`` is true of the rest.

    ``holds`` must be true of all of them. It is asked some parts times the logarithm of all where
    few matter, and at worst their square.
    """
    kept, pieces = list(parts), 2
    while kept:
        size = -(-len(kept) // pieces)
        for first in range(0, len(kept), size):
            rest = kept[:first] + kept[first + size :]
            if holds(rest):
                kept, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(2 * pieces, len(kept))
    return kept


def shrunk(graph: Graph, holds: Holds) -> Graph:
    """Return the smallest graph that leaving out and plainer values lead to, of which ``holds`` is
    true. It must be true of ``graph``; how the patient is said to be one stays.
    """
    triples = sorted(graph, key=_text)
    patients = set(graph.subjects(RDF.type, SARC.Patient))
    fixed = [t for t in triples if t[0] in patients and t[1] == RDF.type]
    loose = [t for t in triples if t not in fixed]
    facts: dict[Node, list[Triple]] = {}
    for triple in loose:
        of = triple[2] if triple[1] == SARC.fact else triple[0]
        facts.setdefault(of, []).append(triple)

    def made(some: Sequence[Triple]) -> Graph:
        new = Graph()
        new.bind("sarc", SARC)
        for triple in (*fixed, *some):
            new.add(triple)
        return new

    groups = fewest(
        list(facts.values()), lambda some: holds(made([t for group in some for t in group]))
    )
    kept = fewest([t for group in groups for t in group], lambda some: holds(made(some)))
    for at, triple in enumerate(kept):
        for value in _plainer(triple[2]):
            tried = [*kept[:at], (triple[0], triple[1], value), *kept[at + 1 :]]
            if holds(made(tried)):
                kept = tried
                break
    return made(kept)


def _text(triple: Triple) -> tuple[str, ...]:
    return tuple(str(part) for part in triple)


def _plainer(value: Node) -> list[Node]:
    """Return values that say less, the plainest first."""
    if isinstance(value, URIRef) or not isinstance(value, Literal):
        return []
    text = str(value)
    found = []
    if re.fullmatch(r"-?\d+\.\d+", text):
        whole, _, places = text.partition(".")
        found += [whole, *(f"{whole}.{places[:n]}" for n in range(1, len(places)))]
    elif re.fullmatch(r"\d{4}-\d{2}-\d{2}T.+", text):
        found += [text[:10], text[:16] + ":00"]
    return [Literal(plain) for plain in found if plain != text]
