"""Read patient graphs: Turtle, N-Triples, JSON-LD, RDF/XML.

A patient graph is untrusted. Only the properties of `docs/data-model.md` are read; whatever else
it says (about terms, shapes, other graphs) is ignored and reported. Nothing is ever fetched:
JSON-LD contexts must be the bundled one or inline, a DOCTYPE is refused before any XML parser sees
it, and the graph is a plain in-memory one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rdflib import BNode, Graph, Literal, URIRef
from rdflib.namespace import XSD
from rdflib.term import Node

from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import RDF, SARC, local_name
from sarc_kb.sources.limits import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, MAX_LITERAL

FORMATS = {
    ".ttl": "turtle",
    ".nt": "nt",
    ".jsonld": "json-ld",
    ".rdf": "xml",
    ".owl": "xml",
    ".xml": "xml",
}

PATIENT_CONTEXT = "https://w3id.org/sarc-kb/schema/patient.context.jsonld"
_SCHEMA = Path(__file__).resolve().parent.parent / "schema"
_BUNDLED = {PATIENT_CONTEXT: _SCHEMA / "patient.context.jsonld"}

_COMPARATORS = ("<", "<=", ">", ">=")
_FACT_PROPERTIES = {
    SARC[n]
    for n in (
        "concept value comparator unit valueConcept upperLimit upperLimitUnit date start end ongoing "
        "recorded status tumour source performer basis"
    ).split()
} | {RDF.type}
_PATIENT_PROPERTIES = {SARC.entryDate, SARC.identifier, SARC.fact, RDF.type}


def read_rdf(data: bytes, origin: str, fmt: str, axes: frozenset[str]) -> list[PatientRecord]:
    """Return every patient of a graph, in the order of their IRIs.

    Args:
        fmt: an rdflib format name out of :data:`FORMATS`.
        axes: the properties that the ontology declares as axes.
    Raises:
        InputError: the bytes are not such a graph, break a limit, or name something remote.
    """
    if len(data) > MAX_BYTES:
        raise InputError(_refused("DATA002", origin, f"{len(data)} bytes", f"the limit is {MAX_BYTES}", "split the file by patient"))
    graph = Graph()
    if fmt == "json-ld":
        text = _safe_jsonld(data, origin)
    else:
        if fmt == "xml":
            _refuse_doctype(data, origin)
        try:
            text = data.decode("utf-8-sig") if fmt != "xml" else ""
        except UnicodeDecodeError as error:
            raise InputError(
                _refused("DATA002", origin, f"byte {error.start} is not UTF-8", "the text cannot be read", "save the file as UTF-8")
            ) from None
    with _quiet_rdflib():
        try:
            if fmt == "xml":
                graph.parse(data=data, format="xml", publicID="urn:sarc-kb:input")
            else:
                graph.parse(data=text, format=fmt, publicID="urn:sarc-kb:input")
        except RecursionError:
            raise InputError(_refused("DATA002", origin, "nesting too deep", "no record needs it", "flatten the graph")) from None
        except Exception as error:
            raise InputError(
                _refused("DATA002", origin, f"not readable as {fmt}: {_first_line(error)}", "the syntax is broken", "mend the file, or give it the ending of its format")
            ) from None
    return patients_of(graph, origin, hashlib.sha256(data).hexdigest(), axes)


def patients_of(graph: Graph, origin: str, sha256: str, axes: frozenset[str]) -> list[PatientRecord]:
    """Return the patients of a parsed graph."""
    patients = sorted(
        set(graph.subjects(RDF.type, SARC.Patient)) | set(graph.subjects(SARC.fact, None)), key=_stable(graph)
    )
    owners: dict[Node, list[Node]] = {}
    for patient in patients:
        for fact in graph.objects(patient, SARC.fact):
            owners.setdefault(fact, []).append(patient)
    read: set[Node] = set(patients) | set(owners)
    stray = sum(1 for s in set(graph.subjects()) if s not in read)
    records = []
    for patient in patients:
        findings: list[Finding] = []
        if stray:
            findings.append(
                Finding("DATA005", "warning", origin, f"{stray} nodes that are neither a patient nor a fact", "a patient graph says nothing about terms, rules or other graphs", "remove them; they were ignored")
            )
        records.append(_patient(graph, patient, origin, sha256, axes, owners, findings))
    return records


def _stable(graph: Graph) -> Any:
    def key(node: Node) -> tuple[int, str]:
        if isinstance(node, URIRef):
            return 0, str(node)
        return 1, str(graph.value(node, SARC.identifier) or "")

    return key


def _patient(
    graph: Graph,
    node: Node,
    origin: str,
    sha256: str,
    axes: frozenset[str],
    owners: Mapping[Node, list[Node]],
    findings: list[Finding],
) -> PatientRecord:
    identifier = graph.value(node, SARC.identifier)
    if isinstance(node, URIRef):
        iri = str(node)
        label = str(identifier) if identifier is not None else local_name(iri)
    else:
        label = str(identifier) if identifier is not None else origin
        iri = "urn:sarc-kb:patient:" + hashlib.sha256(label.encode()).hexdigest()[:16]
    for predicate in sorted({p for p in graph.predicates(node) if p not in _PATIENT_PROPERTIES}):
        findings.append(_ignored(origin, "patient", str(predicate)))
    entries = sorted(set(map(str, graph.objects(node, SARC.entryDate))))
    entry: PartialDate | None = None
    if len(entries) > 1:
        findings.append(Finding("DATA004", "error", origin, f"{len(entries)} entry dates", "every window counts from the one entry date", "keep one"))
    elif entries:
        entry = _date(entries[0], origin, "entryDate", findings)
    facts: list[Fact] = []
    for fact_node in graph.objects(node, SARC.fact):
        if len(owners[fact_node]) > 1:
            findings.append(
                Finding("DATA006", "error", origin, "a fact that belongs to two patients", "nobody knows whose it is", "give each patient its own fact node")
            )
            continue
        facts.append(_fact(graph, fact_node, origin, axes, findings))
    facts.sort(key=_content)
    return PatientRecord(iri, label, entry, _numbered(facts), origin, sha256, tuple(dict.fromkeys(findings)))


def _content(fact: Fact) -> tuple[str, ...]:
    return tuple(
        str(x)
        for x in (
            fact.source, fact.concepts, fact.start.text if fact.start else "", fact.end.text if fact.end else "",
            fact.value, fact.unit, fact.value_concepts, fact.kind, fact.status, fact.axes, fact.tumour,
            fact.comparator, fact.value_text, fact.upper_limit, fact.ongoing, fact.performer, fact.basis, fact.id,
        )
    )


def _numbered(facts: list[Fact]) -> tuple[Fact, ...]:
    """Give facts without a name an id that follows from their content, not from node labels."""
    from dataclasses import replace

    return tuple(replace(f, id=f.id or f"fact-{n}") for n, f in enumerate(facts, 1))


def _fact(graph: Graph, node: Node, origin: str, axes: frozenset[str], findings: list[Finding]) -> Fact:
    where = str(graph.value(node, SARC.source) or (node if isinstance(node, URIRef) else origin))[:200]
    values: dict[str, list[Node]] = {}
    found_axes: list[tuple[str, str]] = []
    for predicate, obj in sorted(graph.predicate_objects(node), key=lambda po: (str(po[0]), str(po[1]))):
        name = str(predicate)
        if isinstance(obj, Literal) and len(obj) > MAX_LITERAL:
            findings.append(Finding("DATA003", "warning", where, f"a text of {len(obj)} characters", f"the limit is {MAX_LITERAL}", "shorten it; it was ignored"))
        elif name in axes:
            found_axes.append((name, _iri(obj)))
        elif predicate in _FACT_PROPERTIES:
            values.setdefault(local_name(name), []).append(obj)
        else:
            findings.append(_ignored(where, "fact", name))

    def one(name: str) -> Node | None:
        given = values.get(name, [])
        if len(given) > 1:
            findings.append(
                Finding("DATA007", "warning", where, f"{len(given)} values of {name}", "one fact says one thing", "make it several facts; the value was not used")
            )
            return None
        return given[0] if given else None

    def text(name: str) -> str | None:
        value = one(name)
        return None if value is None else str(value)

    value, value_text = _number(text("value")) if "value" in values else (None, None)
    if len(values.get("value", [])) > 1:
        value_text = "several"
    limit, bad_limit = _number(text("upperLimit")) if "upperLimit" in values else (None, None)
    if bad_limit is not None:
        findings.append(Finding("DATA008", "warning", where, "an upper limit that is not a number", "no multiple of it can be worked out", "write a decimal with a point"))
    comparator = text("comparator")
    if comparator is not None and comparator not in _COMPARATORS:
        findings.append(Finding("DATA008", "warning", where, "an unknown comparator", "the value could be anything", "use one of < <= > >="))
        value, value_text, comparator = None, "comparator", None
    date = _date(text("date"), where, "date", findings)
    start = _date(text("start"), where, "start", findings) or date
    end = _date(text("end"), where, "end", findings) or (date if "start" not in values else None)
    kinds = sorted(str(k) for k in values.get("type", []))
    ongoing = text("ongoing")
    concepts = tuple(sorted(_iri(c) for c in values.get("concept", [])))
    source = text("source")
    if source is None:
        when = (date or start or end).text if (date or start or end) is not None else "undated"  # type: ignore[union-attr]
        source = f"{local_name(concepts[0]) if concepts else 'fact'} {when}"
    return Fact(
        id=str(node) if isinstance(node, URIRef) else "",
        kind=kinds[0] if kinds else None,
        concepts=concepts,
        value=value,
        value_text=value_text,
        comparator=comparator,
        unit=text("unit"),
        value_concepts=tuple(sorted(_iri(v) for v in values.get("valueConcept", []))),
        upper_limit=limit,
        upper_limit_unit=text("upperLimitUnit"),
        start=start,
        end=end,
        ongoing=None if ongoing is None else ongoing == "true",
        recorded=_date(text("recorded"), where, "recorded", findings),
        status=_iri(status) if (status := one("status")) is not None else None,
        axes=tuple(found_axes),
        tumour=text("tumour"),
        source=source,
        performer=text("performer"),
        basis=text("basis"),
    )


def _iri(node: Node) -> str:
    return str(node)


def _number(text: str | None) -> tuple[Decimal | None, str | None]:
    """Return the number a literal writes, or the text that is not one; never a guess."""
    if text is None:
        return None, None
    if len(text) > MAX_DIGITS:
        return None, text[:MAX_DIGITS]
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None, text
    if not number.is_finite() or abs(number.adjusted()) > MAX_DIGITS:
        return None, text
    return number, None


def _date(text: str | None, where: str, name: str, findings: list[Finding]) -> PartialDate | None:
    if text is None:
        return None
    try:
        return parse_date(text)
    except ValueError as error:
        severity = "error" if name == "entryDate" else "warning"
        findings.append(
            Finding("DATA009", severity, where, f"{name} cannot be read", str(error), "write YYYY-MM-DD, or as much of it as is known")  # type: ignore[arg-type]
        )
        return None


def _ignored(where: str, what: str, predicate: str) -> Finding:
    return Finding("DATA005", "warning", where, f"a {what} with {predicate[:200]}", "the data model has no such property", "see docs/data-model.md; it was ignored")


def _refused(code: str, where: str, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", where, found, why, fix)


def _first_line(error: Exception) -> str:
    """Return what a parser says, without the line of the record it quotes."""
    lines = str(error).splitlines()
    text = lines[0] if lines else type(error).__name__
    return text[:120] if "at line" in text or "line " in text else type(error).__name__


def _refuse_doctype(data: bytes, origin: str) -> None:
    """Refuse XML with a DOCTYPE, in any encoding: entity bombs and external entities need one."""
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
            raise InputError(_refused("DATA002", origin, "a DOCTYPE", "it can expand or fetch without end", "write RDF/XML without a DOCTYPE"))


# -- JSON-LD ---------------------------------------------------------------------------------------
def _safe_jsonld(data: bytes, origin: str) -> str:
    """Return JSON-LD text that cannot reach out: contexts inlined, decimals kept as decimals."""

    def refuse(found: str, why: str, fix: str) -> InputError:
        return InputError(_refused("DATA002", origin, found, why, fix))

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [k for k, _ in pairs]
        if len(set(keys)) != len(keys):
            raise refuse("a key twice in one object", "readers would keep different ones", "keep one")
        return dict(pairs)

    def constant(name: str) -> Any:
        raise refuse(f"{name}", "it is not JSON", "leave the value out, or write why it is absent")

    try:
        parsed = json.loads(
            data.decode("utf-8-sig"), parse_float=Decimal, parse_constant=constant, object_pairs_hook=unique
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise refuse(f"not readable as JSON{where}", "the syntax is broken", "mend the file") from None

    def walk(value: Any, depth: int, key: str = "") -> Any:
        if depth > MAX_DEPTH:
            raise refuse(f"nesting deeper than {MAX_DEPTH}", "no record needs it", "flatten it")
        if isinstance(value, Decimal):
            return {"@value": f"{value:f}", "@type": str(XSD.decimal)}
        if isinstance(value, str) and any(0xD800 <= ord(c) <= 0xDFFF for c in value):
            raise refuse("a lone surrogate", "it cannot be written again", "mend the text")
        if isinstance(value, list):
            return [walk(v, depth + 1, key) for v in value]
        if isinstance(value, dict):
            out = {}
            for k, v in value.items():
                if k == "@import":
                    raise refuse("@import", "contexts are never fetched", f"use {PATIENT_CONTEXT} or an inline context")
                out[k] = context(v, depth + 1) if k == "@context" else walk(v, depth + 1, k)
            return out
        return value

    def context(value: Any, depth: int) -> Any:
        if isinstance(value, str):
            if value not in _BUNDLED:
                raise refuse("a context by reference", "contexts are never fetched", f"use {PATIENT_CONTEXT} or an inline context")
            return json.loads(_BUNDLED[value].read_text(encoding="utf-8"))["@context"]
        if isinstance(value, list):
            return [context(v, depth + 1) for v in value]
        if isinstance(value, dict):
            return {k: context(v, depth + 1) if k == "@context" else _plain_context(v, refuse) for k, v in value.items()} if "@import" not in value else _raise(
                refuse("@import", "contexts are never fetched", "inline the context")
            )
        return value

    return json.dumps(walk(parsed, 0), allow_nan=False)


def _raise(error: Exception) -> Any:
    raise error


def _plain_context(value: Any, refuse: Any) -> Any:
    """Refuse a scoped context by reference inside a term definition."""
    if isinstance(value, dict):
        if "@import" in value or isinstance(value.get("@context"), str):
            raise refuse("a scoped context by reference", "contexts are never fetched", "inline it")
        return {k: _plain_context(v, refuse) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain_context(v, refuse) for v in value]
    return value


@contextmanager
def _quiet_rdflib() -> Iterator[None]:
    """Keep rdflib from logging raw values of the record; what is ill-typed becomes a finding."""
    logger = logging.getLogger("rdflib")
    was, logger.disabled = logger.disabled, True
    term = logging.getLogger("rdflib.term")
    was_term, term.disabled = term.disabled, True
    try:
        yield
    finally:
        logger.disabled = was
        term.disabled = was_term


# -- writing ---------------------------------------------------------------------------------------
def write_patient(record: PatientRecord) -> Graph:
    """Return the RDF face of a record: the same facts, every property of `docs/data-model.md`."""
    graph = Graph()
    graph.bind("sarc", SARC)
    patient = URIRef(record.patient)
    graph.add((patient, RDF.type, SARC.Patient))
    graph.add((patient, SARC.identifier, Literal(record.label)))
    if record.entry is not None:
        graph.add((patient, SARC.entryDate, _date_literal(record.entry)))
    for number, fact in enumerate(record.facts, 1):
        node: Node = URIRef(fact.id) if ":" in fact.id and " " not in fact.id else BNode(f"f{number}")
        graph.add((patient, SARC.fact, node))
        if fact.kind:
            graph.add((node, RDF.type, URIRef(fact.kind)))
        for name, terms in (("concept", fact.concepts), ("valueConcept", fact.value_concepts)):
            for term in terms:
                graph.add((node, SARC[name], URIRef(term)))
        if fact.value is not None:
            graph.add((node, SARC.value, Literal(f"{fact.value:f}", datatype=XSD.decimal)))
        elif fact.value_text is not None:
            graph.add((node, SARC.value, Literal(fact.value_text)))
        if fact.upper_limit is not None:
            graph.add((node, SARC.upperLimit, Literal(f"{fact.upper_limit:f}", datatype=XSD.decimal)))
        for name, text in (
            ("comparator", fact.comparator), ("unit", fact.unit), ("upperLimitUnit", fact.upper_limit_unit),
            ("source", fact.source or None), ("performer", fact.performer), ("basis", fact.basis),
        ):
            if text is not None:
                graph.add((node, SARC[name], Literal(text)))
        if fact.start is not None and fact.end is not None and fact.start.text == fact.end.text:
            graph.add((node, SARC.date, _date_literal(fact.start)))
        else:
            for name, date in (("start", fact.start), ("end", fact.end)):
                if date is not None:
                    graph.add((node, SARC[name], _date_literal(date)))
        if fact.recorded is not None:
            graph.add((node, SARC.recorded, _date_literal(fact.recorded)))
        if fact.ongoing is not None:
            graph.add((node, SARC.ongoing, Literal(fact.ongoing)))
        if fact.status is not None:
            graph.add((node, SARC.status, URIRef(fact.status)))
        for axis, value in fact.axes:
            graph.add((node, URIRef(axis), URIRef(value)))
        if fact.tumour is not None:
            graph.add((node, SARC.tumour, Literal(fact.tumour)))
    return graph


def _date_literal(date: PartialDate) -> Literal:
    kinds = {4: XSD.gYear, 7: XSD.gYearMonth, 10: XSD.date}
    return Literal(date.text, datatype=kinds.get(len(date.text), XSD.dateTime))
