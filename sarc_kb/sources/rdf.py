"""Read patient graphs: Turtle, N-Triples, JSON-LD, RDF/XML.

A patient graph is untrusted. Only the properties of `docs/data-model.md` are read; whatever else
it says (about terms, shapes, other graphs) is ignored and reported. Nothing is ever fetched: JSON-LD
contexts are the bundled one or inline, a DOCTYPE is refused before any XML parser sees it, and the
graph is a plain in-memory one of its own. What cannot be read is never taken for the nearest thing
that can: it becomes a finding, and the fact counts for less, not for more.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal

import rdflib
from rdflib import BNode, Graph, Literal, URIRef
from rdflib.plugins.parsers.notation3 import BadSyntax
from rdflib.term import Node

from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.errors import Finding, InputError, Severity
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import RDF, SARC, local_name
from sarc_kb.reports.escaping import safe_iri
from sarc_kb.sources.jsonld import LOSSLESS, safe_jsonld
from sarc_kb.sources.limits import MAX_BYTES, MAX_DIGITS, MAX_LABEL, MAX_LITERAL
from sarc_kb.sources.rdfxml import safe_xml

# N-Triples is read as the Turtle it is: one parser less, and one that can tell the line of a fault.
FORMATS = {
    ".ttl": "turtle",
    ".nt": "turtle",
    ".jsonld": "json-ld",
    ".rdf": "xml",
    ".owl": "xml",
    ".xml": "xml",
}
_NAMES = {"turtle": "Turtle", "json-ld": "JSON-LD", "xml": "RDF/XML"}
# Where relative IRIs of a graph point: a place that cannot exist (RFC 2606).
_BASE = "http://input.invalid/"

KINDS = frozenset(
    str(SARC[n])
    for n in (
        "Measurement", "Condition", "Procedure", "MedicationUse", "Allergy", "FamilyHistory",
        "StudyParticipation", "Consent", "AdverseEvent", "Demographic", "Plan", "Attestation",
        "CompletenessStatement",
    )
)  # fmt: skip
_COMPARATORS = ("<", "<=", ">", ">=")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_TERMS = ("concept", "valueConcept", "status")
_FACT_PROPERTIES = {
    SARC[n]
    for n in (
        *_TERMS, "value", "comparator", "unit", "upperLimit", "upperLimitUnit", "date", "start", "end",
        "ongoing", "recorded", "tumour", "source", "performer", "basis",
    )
}  # fmt: skip
_PATIENT_PROPERTIES = {SARC.entryDate, SARC.identifier, SARC.fact, RDF.type}
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SUSPECTED = str(SARC.Suspected)
_SEVERAL = "(several)"


def read_rdf(data: bytes, origin: str, fmt: str, axes: frozenset[str]) -> list[PatientRecord]:
    """Return every patient of a graph, in the order of their IRIs.

    Args:
        fmt: an rdflib format name out of :data:`FORMATS`.
        axes: the properties that the ontology declares as axes.
    Raises:
        InputError: the bytes are not such a graph, break a limit, or name something remote.
    """
    if len(data) > MAX_BYTES:
        raise _refused(
            origin,
            f"more than {MAX_BYTES} bytes",
            "no record needs them",
            "split the file by patient",
        )
    graph = _parse(data, origin, fmt)
    if any(g.identifier != graph.identifier and len(g) for g in graph.store.contexts()):
        raise _refused(
            origin,
            "a named graph",
            "a patient graph is one graph; what stands in another would be lost",
            "write one graph without a name",
        )
    if any(_SURROGATE.search(str(term)) for triple in graph for term in triple):
        raise _refused(
            origin,
            "half of a surrogate pair",
            "no text has it, and it cannot be written again",
            "mend the text",
        )
    return patients_of(graph, origin, hashlib.sha256(data).hexdigest(), axes)


def _parse(data: bytes, origin: str, fmt: str) -> Graph:
    graph = Graph()
    text: str | bytes
    if fmt == "json-ld":
        text = safe_jsonld(data, origin)
    elif fmt == "xml":
        text = safe_xml(data, origin)
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _refused(
                origin,
                f"byte {error.start} is not UTF-8",
                "the text cannot be read",
                "save the file as UTF-8",
            ) from None
    with quiet_rdflib():
        try:
            graph.parse(
                data=text, format=fmt, publicID=_BASE, **(LOSSLESS if fmt == "json-ld" else {})
            )
        except RecursionError:
            raise _refused(
                origin, "nesting too deep", "no record needs it", "flatten the graph"
            ) from None
        except MemoryError:
            raise  # no fault of the syntax
        except Exception as error:
            found = f"not readable as {_NAMES[fmt]}{_place(error)}"
            raise _refused(
                origin,
                found,
                "the syntax is broken",
                "mend the file, or give it the ending of its format",
            ) from None
    return graph


def _place(error: Exception) -> str:
    """Return the line a parser stopped at, and never its message: that quotes the record."""
    if isinstance(error, BadSyntax):
        unbound = re.search(r'Prefix "([\w.-]{0,40}:)" not bound', str(error))
        return f", line {error.lines + 1}" + (
            f": prefix {unbound[1]} is not declared" if unbound else ""
        )
    line = getattr(error, "getLineNumber", lambda: None)()
    return f", line {line}" if isinstance(line, int) else ""


@contextmanager
def quiet_rdflib() -> Iterator[None]:
    """Keep rdflib from rewriting literals, and from logging raw values of the record."""
    logger = logging.getLogger("rdflib")
    level, normalize = logger.level, rdflib.NORMALIZE_LITERALS
    logger.setLevel(logging.CRITICAL + 1)
    rdflib.NORMALIZE_LITERALS = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        rdflib.NORMALIZE_LITERALS = normalize


# -- patients --------------------------------------------------------------------------------------
def patients_of(
    graph: Graph, origin: str, sha256: str, axes: frozenset[str]
) -> list[PatientRecord]:
    """Return the patients of a parsed graph."""
    patients = set(graph.subjects(RDF.type, SARC.Patient)) | set(graph.subjects(SARC.fact, None))
    owners: dict[Node, set[Node]] = {}
    for patient in patients:
        for fact in graph.objects(patient, SARC.fact):
            owners.setdefault(fact, set()).add(patient)
    stray = len(set(graph.subjects()) - patients - owners.keys())
    records = [_patient(graph, p, origin, sha256, axes, owners, stray) for p in patients]
    return sorted(records, key=lambda r: (r.patient, r.label, str(r.facts)))


def _patient(
    graph: Graph,
    node: Node,
    origin: str,
    sha256: str,
    axes: frozenset[str],
    owners: Mapping[Node, set[Node]],
    stray: int,
) -> PatientRecord:
    findings: list[Finding] = []
    if stray:
        findings.append(
            Finding(
                "DATA005",
                "warning",
                origin,
                f"{stray} nodes that are neither a patient nor a fact",
                "a patient graph says nothing about terms, rules or other graphs",
                "remove them; they were ignored",
            )
        )
    iri, label = _names(graph, node, origin, findings)
    odd = set(graph.predicates(node)) - _PATIENT_PROPERTIES
    findings += [_ignored(origin, "patient", predicate) for predicate in odd]
    entries = sorted({str(o) for o in graph.objects(node, SARC.entryDate)})
    entry: PartialDate | None = None
    if len(entries) > 1:
        findings.append(
            Finding(
                "DATA004",
                "error",
                origin,
                f"{len(entries)} entry dates",
                "every window counts from the one entry date",
                "keep one",
            )
        )
    elif entries:
        entry = _date(entries[0], origin, "entryDate", findings)
    facts: list[Fact] = []
    for fact_node in graph.objects(node, SARC.fact):
        if len(owners[fact_node]) > 1:
            findings.append(
                Finding(
                    "DATA006",
                    "error",
                    origin,
                    "a fact that belongs to several patients",
                    "nobody knows whose it is",
                    "give each patient its own fact node",
                )
            )
            continue
        facts.append(_FactReader(graph, fact_node, origin, axes, findings).read())
    # The order of statements and the labels of blank nodes say nothing, so nothing follows from them.
    named = sorted(_with_named_tumours(facts), key=_content)
    sources = {str(o) for o in graph.objects(None, SARC.source)}
    facts = _numbered(_once(named, sources, findings))
    ordered = sorted(set(findings), key=lambda f: (f.where, f.code, f.found, f.why, f.fix))
    return PatientRecord(iri, label, entry, tuple(facts), origin, sha256, tuple(ordered))


def _names(graph: Graph, node: Node, origin: str, findings: list[Finding]) -> tuple[str, str]:
    """Return the IRI of a patient and the name that reports use."""
    given = (o for o in graph.objects(node, SARC.identifier) if not isinstance(o, BNode))
    identifiers = sorted({str(o) for o in given if str(o).strip()})
    if len(identifiers) > 1 or any(len(i) > MAX_LABEL for i in identifiers):
        findings.append(
            Finding(
                "DATA007",
                "warning",
                origin,
                "several identifiers, or one too long",
                f"reports use one of at most {MAX_LABEL} characters",
                "keep one; none was used",
            )
        )
        identifiers = []
    if isinstance(node, URIRef):
        iri = safe_iri(str(node), "patient")
        if iri != str(node):
            findings.append(
                Finding(
                    "DATA008",
                    "warning",
                    origin,
                    "a patient whose IRI is none",
                    "reports could not be written with it",
                    f"percent-encode it; reports use {iri[:MAX_LABEL]}",
                )
            )
        return iri, identifiers[0] if identifiers else local_name(node)[:MAX_LABEL]
    label = identifiers[0] if identifiers else origin
    return "urn:sarc-kb:patient:" + hashlib.sha256(label.encode()).hexdigest()[:16], label


def _with_named_tumours(facts: list[Fact]) -> list[Fact]:
    """Name the tumours that have only a blank node by what is said of them."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.tumour is not None and fact.tumour.startswith("_:"):
            groups.setdefault(fact.tumour, []).append(fact)
    said = {
        label: sorted(_content(replace(f, tumour=None)) for f in group)
        for label, group in groups.items()
    }
    names = {
        label: f"urn:sarc-kb:tumour:{n}"
        for n, label in enumerate(sorted(said, key=said.__getitem__), 1)
    }
    return [replace(f, tumour=names.get(f.tumour or "", f.tumour)) for f in facts]


def _content(fact: Fact) -> tuple[str, ...]:
    return tuple(
        str(x)
        for x in (
            fact.source,
            fact.concepts,
            fact.start.text if fact.start else "",
            fact.end.text if fact.end else "",
            _plain(fact.value),
            fact.unit,
            fact.value_concepts,
            fact.kind,
            fact.status,
            fact.axes,
            fact.tumour,
            fact.comparator,
            fact.value_text,
            _plain(fact.upper_limit),
            fact.upper_limit_unit,
            fact.ongoing,
            fact.recorded.text if fact.recorded else "",
            fact.performer,
            fact.basis,
            fact.start is fact.end,
            fact.id,
        )
    )


def _plain(number: Decimal | None) -> str:
    """Return ``number`` as one text, however many zeros it was written with."""
    text = "" if number is None else f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _once(facts: list[Fact], sources: set[str], findings: list[Finding]) -> list[Fact]:
    """Return each fact once. Two blank nodes of which the same is said, from the same place, are one
    statement written twice (RDF 1.1 Semantics, 5.1: such a graph says no more than without one of
    them); as two doses they would break a rule. Without a source, or with names, they stay two."""
    kept: list[Fact] = []
    again: Counter[str] = Counter()
    for fact in facts:
        sourced = not fact.id and fact.source in sources
        if sourced and kept and _content(fact) == _content(kept[-1]):
            again[fact.source] += 1
        else:
            kept.append(fact)
    findings += (
        Finding(
            "DATA021",
            "warning",
            source[:MAX_LABEL],
            f"a fact that stands there {count + 1} times, word for word",
            "one statement written twice says nothing more",
            "it was read once; give each its own sarc:source if there were several",
        )
        for source, count in again.items()
    )
    return kept


def _numbered(facts: list[Fact]) -> list[Fact]:
    """Give facts without a name an id that follows from their content, not from node labels."""
    return [replace(f, id=f.id or f"fact-{n}") for n, f in enumerate(facts, 1)]


# -- facts -----------------------------------------------------------------------------------------
class _FactReader:
    """Reads one fact node. ``doubtful``: what it says of itself cannot all be so; it is a
    suspicion then."""

    def __init__(
        self, graph: Graph, node: Node, origin: str, axes: frozenset[str], findings: list[Finding]
    ) -> None:
        self.node = node
        self.findings = findings
        self.doubtful = False
        sources = (o for o in graph.objects(node, SARC.source) if isinstance(o, Literal))
        named = sorted(str(o) for o in sources if o.strip())
        self.where = (named[0] if named else str(node) if isinstance(node, URIRef) else origin)[
            :MAX_LABEL
        ]
        self.values: dict[str, list[str]] = {}
        self.axes: list[tuple[str, str]] = []
        self.kinds: list[str] = []
        for predicate, obj in graph.predicate_objects(node):
            name = str(predicate)
            if predicate == RDF.type:
                self.type(str(obj))
            elif name in axes:
                self.axes.append((name, self.term(local_name(name), obj)))
            elif predicate in _FACT_PROPERTIES:
                self.values.setdefault(local_name(name), []).append(
                    self.text_of(local_name(name), obj)
                )
            else:
                findings.append(_ignored(self.where, "fact", predicate))

    def find(self, code: str, found: str, why: str, fix: str) -> None:
        self.findings.append(Finding(code, "warning", self.where, found, why, fix))

    def type(self, kind: str) -> None:
        if kind in KINDS:
            self.kinds.append(kind)
        elif kind != str(SARC.ClinicalFact):
            self.find(
                "DATA005",
                f"a fact of type {kind[:MAX_LABEL]}",
                "the data model has no such kind of fact",
                "see docs/data-model.md; it was ignored",
            )

    def text_of(self, name: str, obj: Node) -> str:
        if name in _TERMS:
            return self.term(name, obj)
        if isinstance(obj, BNode):
            if name == "tumour":
                return f"_:{obj}"
            self.find(
                "DATA008", f"a blank node as {name}", "it says nothing by itself", "write the text"
            )
            return "(blank node)"
        if len(str(obj)) > MAX_LITERAL:
            self.find(
                "DATA008",
                f"{name} of {len(str(obj))} characters",
                f"the limit is {MAX_LITERAL}",
                "shorten it; it was not used",
            )
            return "(too long)"
        return str(obj)

    def term(self, name: str, obj: Node) -> str:
        """Return the IRI of a term; what is none stays there as something that cannot be read."""
        if isinstance(obj, URIRef) and len(obj) <= MAX_LITERAL:
            return str(obj)
        self.find(
            "DATA008",
            f"{name} is not a term",
            "a text or a blank node names nothing that rules know",
            "write the IRI of a term or code",
        )
        return "(not a term)"

    def one(self, name: str) -> str | None:
        given = sorted(set(self.values.get(name, ())))
        if len(given) > 1:
            self.find(
                "DATA007",
                f"{len(given)} values of {name}",
                "one fact says one thing",
                "make it several facts; none of them was used",
            )
            return _SEVERAL
        return given[0] if given else None

    def read(self) -> Fact:
        value, value_text = _number(self.one("value"))
        limit, no_limit = _number(self.one("upperLimit"))
        if no_limit is not None:
            self.find(
                "DATA008",
                "an upper limit that is not a number",
                "no multiple of it can be worked out",
                "write a decimal with a point",
            )
        comparator = self.one("comparator")
        if comparator is not None and comparator not in _COMPARATORS:
            self.find(
                "DATA008",
                "an unknown comparator",
                "the value could be anything",
                "use one of < <= > >=",
            )
            value, value_text, comparator = None, "(comparator)", None
        date = self.date("date")
        start, end = self.date("start"), self.date("end")
        if "start" not in self.values and "end" not in self.values:
            start = end = date
        elif "date" in self.values:
            self.find(
                "DATA007",
                "a date beside a start or an end",
                "a date is both",
                "keep the extent or the date; the extent was used",
            )
        ongoing = self.one("ongoing")
        if ongoing is not None and ongoing not in _TRUTH:
            self.find(
                "DATA008",
                "ongoing is neither true nor false",
                "nobody knows whether it went on",
                "write true or false",
            )
        concepts = tuple(sorted(set(self.values.get("concept", ()))))
        source = ", ".join(sorted({s for s in self.values.get("source", ()) if s.strip()}))
        tumour = self.one("tumour")
        return Fact(
            id=safe_iri(str(self.node), "fact") if isinstance(self.node, URIRef) else "",
            kind=self.kind(),
            concepts=concepts,
            value=value,
            value_text=value_text,
            comparator=comparator,
            unit=self.one("unit"),
            value_concepts=tuple(sorted(set(self.values.get("valueConcept", ())))),
            upper_limit=limit,
            upper_limit_unit=self.one("upperLimitUnit"),
            start=start,
            end=end,
            ongoing=_TRUTH.get(ongoing or ""),
            recorded=self.date("recorded"),
            status=self.status(),
            axes=tuple(sorted(set(self.axes))),
            tumour=None if tumour == _SEVERAL else tumour,
            source=source
            or f"{local_name(concepts[0]) if concepts else 'fact'} {_when(start, end)}",
            performer=self.one("performer"),
            basis=self.one("basis"),
        )

    def kind(self) -> str | None:
        if len(self.kinds) > 1:
            self.find(
                "DATA007",
                f"{len(self.kinds)} kinds of fact",
                "one fact says one thing",
                "make it several facts; it counts only as possible",
            )
            self.doubtful = True
            return None
        return self.kinds[0] if self.kinds else None

    def status(self) -> str | None:
        given = sorted(set(self.values.get("status", ())))
        if len(given) > 1:
            self.find(
                "DATA007",
                f"{len(given)} values of status",
                "one fact has one status",
                "keep the right one; it counts only as possible",
            )
            return _SUSPECTED
        status = given[0] if given else None
        if self.doubtful and status in (None, str(SARC.Confirmed), str(SARC.Refuted)):
            return _SUSPECTED
        return status

    def date(self, name: str) -> PartialDate | None:
        return _date(self.one(name), self.where, name, self.findings)


def _when(start: PartialDate | None, end: PartialDate | None) -> str:
    date = start or end
    return date.text if date is not None else "undated"


def _number(text: str | None) -> tuple[Decimal | None, str | None]:
    """Return the number a literal writes, or the text that is not one; never a guess."""
    if text is None:
        return None, None
    written = text.strip(" \t\r\n")
    if _NUMBER.fullmatch(written):
        number = Decimal(written)
        if (
            abs(number.adjusted()) <= MAX_DIGITS
            and sum(map(str.isdigit, f"{number:f}")) <= MAX_DIGITS
        ):
            return number, None
    return None, text


def _date(text: str | None, where: str, name: str, findings: list[Finding]) -> PartialDate | None:
    if text is None:
        return None
    try:
        return parse_date(text)
    except ValueError as error:
        severity: Severity = "error" if name == "entryDate" else "warning"
        findings.append(
            Finding(
                "DATA009",
                severity,
                where,
                f"{name} cannot be read",
                str(error),
                "write YYYY-MM-DD, or as much of it as is known",
            )
        )
        return None


def _ignored(where: str, what: str, predicate: Node) -> Finding:
    return Finding(
        "DATA005",
        "warning",
        where,
        f"a {what} with {str(predicate)[:MAX_LABEL]}",
        "the data model has no such property",
        "see docs/data-model.md; it was ignored",
    )


def _refused(origin: str, found: str, why: str, fix: str) -> InputError:
    return InputError(Finding("DATA002", "error", origin, found, why, fix))
