"""The prepared patient as RDF: marks and intervals, in the portable subset that every SHACL
processor reads alike. `docs/rule-language.md` names the properties."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from rdflib import Graph, Literal, URIRef
from rdflib.namespace import XSD

from sarc_kb.engines.shapes import CANARY
from sarc_kb.namespaces import RDF, SARC
from sarc_kb.prepare import Item, Prepared
from sarc_kb.rules import Role
from sarc_kb.units import INFINITY, Interval

PLACES = 12
"""Decimal places of a number in the prepared graph; bounds of clauses have no more."""
_STEP, _WIDE = Decimal(1).scaleb(-PLACES), Context(prec=60)
_PATIENT = URIRef("urn:sarc-kb:patient")
_TRUE, _FALSE = Literal(True), Literal(False)


def prepared_graph(prepared: Prepared) -> Graph:
    """Return the graph that the shapes are run on: one ``sarc:Patient`` with its marked facts.

    Decimals in canonical units, minutes as integers since day 0; infinity is the sentinel
    10**18. Facts that no clause reads are left out. Node names are stable from run to run.
    """
    graph = Graph()
    graph.bind("sarc", SARC)
    graph.add((_PATIENT, RDF.type, SARC.Patient))
    roles = clause_roles(prepared)
    for number, item in enumerate(prepared.items):
        marks = item_marks(prepared, item, roles)
        if not marks:
            continue
        node = URIRef(f"urn:sarc-kb:fact:{number}")
        graph.add((_PATIENT, SARC.fact, node))
        for predicate, value in sorted(marks):
            graph.add((node, SARC[predicate], URIRef(value)))
        interval, span = _printable(item.interval), item.span
        graph.add((node, SARC.lo, _decimal(interval.lo)))
        graph.add((node, SARC.hi, _decimal(interval.hi)))
        graph.add((node, SARC.loOpen, _TRUE if interval.lo_open else _FALSE))
        graph.add((node, SARC.hiOpen, _TRUE if interval.hi_open else _FALSE))
        graph.add((node, SARC.minLo, Literal(span.minute_lo)))
        graph.add((node, SARC.minHi, Literal(span.minute_hi)))
        for source in item.sources:
            graph.add((node, SARC.source, Literal(source)))
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


def clause_roles(prepared: Prepared) -> list[Role]:
    """Return every selection that some clause makes, each once."""
    roles: dict[Role, None] = {}
    for clause in prepared.trial.clauses.values():
        for role in (clause.role, clause.second):
            if role is not None:
                roles[role] = None
    return list(roles)


def item_marks(prepared: Prepared, item: Item, roles: list[Role]) -> set[tuple[str, str]]:
    """Return (property, value) of the marks of ``item`` that some role reads; the possible mark
    always accompanies the certain one."""
    marks: set[tuple[str, str]] = set()
    for role in roles:
        degree = prepared.in_set(item, role.concept_set)
        if not degree:
            continue
        _mark(marks, "in", "mayBeIn", role.concept_set, degree)
        _mark(marks, "with", "mayBeWith", role.qualifier, prepared.qualified(item, role.qualifier))
        _mark(marks, "within", "mayBeWithin", role.window, prepared.within(item, role.window))
        _mark(marks, "valueIn", "valueMayBeIn", role.accepted, prepared.accepted(item, role.accepted))
    return marks


def _mark(marks: set[tuple[str, str]], certain: str, possible: str, value: str, degree: int) -> None:
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
    return Interval(lo, hi, interval.lo_open or lo != interval.lo, interval.hi_open or hi != interval.hi)


def _shorter(end: Decimal, rounding: str) -> Decimal:
    return max(-INFINITY, min(end, INFINITY)).quantize(_STEP, rounding, _WIDE).normalize(_WIDE)


def _decimal(number: Decimal) -> Literal:
    text = format(number, "f")
    return Literal(text if "." in text else text + ".0", datatype=XSD.decimal)
