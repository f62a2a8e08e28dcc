"""Write a patient record as the graph of `docs/data-model.md`."""

from __future__ import annotations

from decimal import Decimal

from rdflib import BNode, Graph, Literal, URIRef
from rdflib.namespace import XSD
from rdflib.term import Node

from sarc_kb.dates import PartialDate
from sarc_kb.facts import PatientRecord
from sarc_kb.namespaces import RDF, SARC
from sarc_kb.reports.escaping import safe_iri, scalar_values

_DATE_TYPES = {4: XSD.gYear, 7: XSD.gYearMonth, 10: XSD.date}


def write_patient(record: PatientRecord) -> Graph:
    """Return the RDF face of a record: the same facts, every property of the data model.

    What is no IRI is made one, so that the graph can always be written.
    """
    graph = Graph()
    graph.bind("sarc", SARC)
    patient = _iri(record.patient, "patient")
    graph.add((patient, RDF.type, SARC.Patient))
    graph.add((patient, SARC.identifier, _text(record.label)))
    if record.entry is not None:
        graph.add((patient, SARC.entryDate, _date(record.entry)))
    for number, fact in enumerate(record.facts, 1):
        named = safe_iri(fact.id, "fact") == fact.id
        node: Node = URIRef(fact.id) if named else BNode(f"f{number}")
        graph.add((patient, SARC.fact, node))
        if fact.kind:
            graph.add((node, RDF.type, _iri(fact.kind, "kind")))
        for name, terms in (("concept", fact.concepts), ("valueConcept", fact.value_concepts)):
            for term in terms:
                graph.add((node, SARC[name], _iri(term, "term")))
        for axis, term in fact.axes:
            graph.add((node, _iri(axis, "axis"), _iri(term, "term")))
        if fact.status is not None:
            graph.add((node, SARC.status, _iri(fact.status, "status")))
        if fact.tumour is not None:
            graph.add((node, SARC.tumour, _iri(fact.tumour, "tumour")))
        for name, value in (("value", fact.value), ("upperLimit", fact.upper_limit)):
            if value is not None:
                graph.add((node, SARC[name], _number(value)))
        for name, text in (
            ("value", fact.value_text if fact.value is None else None),
            ("comparator", fact.comparator),
            ("unit", fact.unit),
            ("upperLimitUnit", fact.upper_limit_unit),
            ("source", fact.source or None),
            ("performer", fact.performer),
            ("basis", fact.basis),
        ):
            if text is not None:
                graph.add((node, SARC[name], _text(text)))
        # One date is not the same as a start and an end on one day: see Fact.
        moment = fact.start is not None and fact.start is fact.end
        for name, date in (
            ("date", fact.start if moment else None),
            ("start", None if moment else fact.start),
            ("end", None if moment else fact.end),
            ("recorded", fact.recorded),
        ):
            if date is not None:
                graph.add((node, SARC[name], _date(date)))
        if fact.ongoing is not None:
            graph.add((node, SARC.ongoing, Literal(fact.ongoing)))
    return graph


def _iri(text: str, kind: str) -> URIRef:
    return URIRef(safe_iri(text, kind))


def _text(text: str) -> Literal:
    return Literal(scalar_values(text))


def _number(value: Decimal) -> Literal:
    """Return the number with the digits it was recorded with: Turtle would write 1 as 1.0."""
    digits = f"{value:f}"
    return _typed(digits, XSD.decimal if "." in digits else XSD.integer)


def _date(date: PartialDate) -> Literal:
    return _typed(date.text, _DATE_TYPES.get(len(date.text), XSD.dateTime))


def _typed(text: str, datatype: URIRef) -> Literal:
    """Return the literal as it was written, not as rdflib would write it."""
    return Literal(text, datatype=datatype, normalize=False)
