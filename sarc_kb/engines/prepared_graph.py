"""The prepared patient as RDF: marks and intervals, in the portable subset that every SHACL
processor reads alike. `docs/rule-language.md` names the properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from enum import IntEnum

from rdflib import Graph, Literal, URIRef
from rdflib.namespace import XSD

from sarc_kb.engines.shapes import CANARY
from sarc_kb.namespaces import RDF, SARC
from sarc_kb.prepare import Item, Prepared
from sarc_kb.prepare.model import gap_degree
from sarc_kb.rules import Clause, Role
from sarc_kb.units import INFINITY, Interval

PLACES = 12
"""Decimal places of a number in the prepared graph; bounds of clauses have no more."""
_STEP, _WIDE = Decimal(1).scaleb(-PLACES), Context(prec=60)
_PATIENT = URIRef("urn:sarc-kb:patient")
_TRUE, _FALSE = Literal(True), Literal(False)


def prepared_graph(prepared: Prepared, *, whole: bool = False) -> Graph:
    """Return the graph that the shapes are run on: one ``sarc:Patient`` with its marked facts.

    Decimals in canonical units, minutes as integers since day 0; infinity is the sentinel
    10**18. Facts that no clause reads are left out, and so is, unless ``whole``, what cannot
    change a reading (see `deciding`). Node names are stable from run to run.
    """
    graph = Graph()
    graph.bind("sarc", SARC)
    graph.add((_PATIENT, RDF.type, SARC.Patient))
    roles = roles_by_set(prepared)
    kept = {i.id: Needed.APART for i in prepared.items} if whole else deciding(prepared)
    drawn: dict[tuple[object, ...], URIRef] = {}
    for number, item in enumerate(prepared.items):
        if item.id not in kept:
            continue
        marks = item_marks(prepared, item, roles)
        if not marks:
            continue
        interval, span = _printable(item.interval), item.span
        node = URIRef(f"urn:sarc-kb:fact:{number}")
        need = kept[item.id]
        if need < Needed.APART:
            minutes = (span.minute_lo, span.minute_hi) if need is Needed.IN_TIME else ()
            node = drawn.setdefault((frozenset(marks), interval, *minutes), node)
        if (node, SARC.minLo, None) in graph:
            _name_sources(graph, node, item)
            continue
        graph.add((_PATIENT, SARC.fact, node))
        for predicate, value in sorted(marks):
            graph.add((node, SARC[predicate], URIRef(value)))
        graph.add((node, SARC.lo, _decimal(interval.lo)))
        graph.add((node, SARC.hi, _decimal(interval.hi)))
        graph.add((node, SARC.loOpen, _TRUE if interval.lo_open else _FALSE))
        graph.add((node, SARC.hiOpen, _TRUE if interval.hi_open else _FALSE))
        graph.add((node, SARC.minLo, Literal(span.minute_lo)))
        graph.add((node, SARC.minHi, Literal(span.minute_hi)))
        _name_sources(graph, node, item)
    for index, (scope, window) in enumerate(settled_pairs(prepared)):
        node = URIRef(f"urn:sarc-kb:settled:{index}")
        graph.add((_PATIENT, SARC.settles, node))
        graph.add((node, SARC.scope, URIRef(scope)))
        graph.add((node, SARC.covers, URIRef(window)))
    for clause in sorted(prepared.cleared):
        graph.add((_PATIENT, SARC.clearedFor, URIRef(clause)))
    for rule in sorted(prepared.denied):
        graph.add((_PATIENT, SARC.denied, URIRef(rule)))
    graph.add((_PATIENT, SARC.denied, URIRef(CANARY)))
    return graph


def _name_sources(graph: Graph, node: URIRef, item: Item) -> None:
    for source in item.sources:
        graph.add((node, SARC.source, Literal(source)))


class Needed(IntEnum):
    """What a clause needs of a fact: that there is one of its kind, when it was, or itself."""

    OF_ITS_KIND = 0
    IN_TIME = 1
    APART = 2


_NEEDS = {"some": Needed.OF_ITS_KIND, "none": Needed.OF_ITS_KIND, "latest": Needed.IN_TIME}


def deciding(prepared: Prepared) -> dict[str, Needed]:
    """Return the ids of the items without which a reading of some clause could change, each with
    what is needed of it.

    Years of results of one analyte would otherwise make every `latest` clause quadratic. An item
    h is of no account for a clause

    - if no role of it possibly selects h: every pattern of every query asks for at least the
      three possible marks of one role;
    - if the clause is a `latest` and h surely lies before a certainly selected fact,
      ``h.minHi < M``, M being the greatest minLo of those. Both readings ask for a certainly
      selected f without a g of some kind with ``g.minHi >= f.minLo``. The facts that stand
      against f are fewest for the f with minLo = M, so there is such an f if and only if that one
      is; h is not it, as ``h.minLo <= h.minHi < M``, and h does not stand against it.

    - if the clause is about pairs and h lies within the gap of no partner, not even possibly: the
      queries look for pairs alone. Only `eachHas` also asks for the facts of its first role by
      themselves.

    What is of no account for any clause is left out. That changes nothing: the fact with
    minLo = M always stays, as its minHi is not before M, so M stays the same.

    Facts of equal marks and interval can share a node where only `some` and `none` read them:
    their queries ask for no time, and tell no two facts apart. `latest` asks for the minutes as
    well; a pair needs two different facts.

    Only marks and times decide here, never a bound, so that the processor judges those by itself.
    """
    kept: dict[str, Needed] = {}
    for clause in prepared.trial.clauses.values():
        if clause.role is None:
            continue
        selected = _selected(prepared, clause.role)
        if clause.second is not None and clause.gap is not None:
            items = _in_pairs(clause, selected, _selected(prepared, clause.second))
        elif clause.component == "latest":
            newest = max((i.span.minute_lo for d, i in selected if d == 2), default=None)
            items = [i for _, i in selected if newest is None or i.span.minute_hi >= newest]
        else:
            items = [i for _, i in selected]
        needed = _NEEDS.get(clause.component, Needed.APART)
        for item in items:
            kept[item.id] = max(kept.get(item.id, needed), needed)
    return kept


def _selected(prepared: Prepared, role: Role) -> list[tuple[int, Item]]:
    graded = ((prepared.selected(i, role), i) for i in prepared.members(role.concept_set))
    return [(d, i) for d, i in graded if d]


def _in_pairs(
    clause: Clause, first: list[tuple[int, Item]], second: list[tuple[int, Item]]
) -> list[Item]:
    """Return the facts that may be one of a pair, and the first of each where every one counts."""
    pairs = [(a, b) for _, a in first for _, b in second if gap_degree(a, b, clause)]
    alone = [a for _, a in first] if clause.component == "eachHas" else []
    return [*alone, *(i for pair in pairs for i in pair)]


def roles_by_set(prepared: Prepared) -> dict[str, list[Role]]:
    """Return every selection that some clause makes, each once, by its set."""
    roles: dict[str, dict[Role, None]] = {}
    for clause in prepared.trial.clauses.values():
        for role in (clause.role, clause.second):
            if role is not None:
                roles.setdefault(role.concept_set, {})[role] = None
    return {concept_set: list(found) for concept_set, found in roles.items()}


def item_marks(
    prepared: Prepared, item: Item, roles: Mapping[str, Iterable[Role]]
) -> set[tuple[str, str]]:
    """Return (property, value) of the marks of ``item`` that some role reads; the possible mark
    always accompanies the certain one."""
    marks: set[tuple[str, str]] = set()
    for concept_set, found in roles.items():
        degree = prepared.in_set(item, concept_set)
        if not degree:
            continue
        _mark(marks, "in", "mayBeIn", concept_set, degree)
        for role in found:
            _mark(
                marks, "with", "mayBeWith", role.qualifier, prepared.qualified(item, role.qualifier)
            )
            _mark(marks, "within", "mayBeWithin", role.window, prepared.within(item, role.window))
            _mark(
                marks,
                "valueIn",
                "valueMayBeIn",
                role.accepted,
                prepared.accepted(item, role.accepted),
            )
    return marks


def _mark(
    marks: set[tuple[str, str]], certain: str, possible: str, value: str, degree: int
) -> None:
    if degree == 2:
        marks.add((certain, value))
    if degree:
        marks.add((possible, value))


def settled_pairs(prepared: Prepared) -> list[tuple[str, str]]:
    """Return (scope or set, window) that a statement settles, for the pairs clauses ask about."""
    pairs: set[tuple[str, str]] = set()
    for clause in prepared.trial.clauses.values():
        if clause.settled_by is None or clause.role is None:
            continue
        for name in (clause.settled_by, clause.role.concept_set):
            if prepared.settled(name, None, clause.role.window):
                pairs.add((name, clause.role.window))
    return sorted(pairs)


def _printable(interval: Interval) -> Interval:
    """Return ``interval`` with at most `PLACES` decimal places.

    Processors read xsd:decimal with a limited number of places and take a longer one (a quotient)
    for no number at all. An end with more places moves outwards to the next shorter number and
    becomes open. No comparison with a bound b of at most as many places changes: an end e lies
    strictly between two neighbouring shorter numbers, and b is not strictly between them.
    """
    lo, hi = _shorter(interval.lo, ROUND_FLOOR), _shorter(interval.hi, ROUND_CEILING)
    return Interval(
        lo, hi, interval.lo_open or lo != interval.lo, interval.hi_open or hi != interval.hi
    )


def _shorter(end: Decimal, rounding: str) -> Decimal:
    return max(-INFINITY, min(end, INFINITY)).quantize(_STEP, rounding, _WIDE).normalize(_WIDE)


def _decimal(number: Decimal) -> Literal:
    text = format(number, "f")
    return Literal(text if "." in text else text + ".0", datatype=XSD.decimal)
