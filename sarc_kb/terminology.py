"""The ontology as the program uses it: hierarchy, kinds, quantities, code mappings.

Everything is read from ``ontology/``; the hierarchy is what the reasoner concluded
(``inferred.ttl``), so no reasoner runs here.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rdflib import Graph, URIRef
from rdflib.term import Node

from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.namespaces import OWL, RDF, RDFS, SARC, SKOS, TEXT, XSD, local_name


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a measured term is read.

    ``unit`` is the canonical UCUM unit; ``accepts`` gives for each further unit the factor and
    divisor that bring a value to it. Values outside ``least``/``most`` are data errors.
    """

    unit: str
    accepts: Mapping[str, tuple[Decimal, Decimal]]
    least: Decimal | None = None
    most: Decimal | None = None
    whole: bool = False
    step: Decimal | None = None


class Coded(NamedTuple):
    """What a set of codings says: terms that hold, and terms of which the thing may be one.

    ``certain`` holds only the most specific terms; ``general`` are terms narrower than a code
    that was given (the thing may be that, or something else). Both empty: nothing could be read.
    A tuple, as it is hashed and compared for every fact and rule.
    """

    certain: frozenset[str] = frozenset()
    general: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        return bool(self.certain or self.general)


@dataclass(frozen=True)
class Terminology:
    """The loaded ontology. Unknown IRIs behave as terms without relatives."""

    ancestors: Mapping[str, frozenset[str]]
    descendants: Mapping[str, frozenset[str]]
    labels: Mapping[str, str]
    kinds: Mapping[str, str]
    quantities: Mapping[str, Quantity]
    spellings: Mapping[str, str]
    mappings: Mapping[str, tuple[tuple[str, str], ...]]
    disjoint: frozenset[tuple[str, str]]
    axes: frozenset[str]
    open_axes: frozenset[str]
    scopes: Mapping[str, str]
    scope_parts: Mapping[str, frozenset[str]]
    scope_kinds: Mapping[str, frozenset[str]]
    code_systems: Mapping[str, str]
    code_names: Mapping[str, str]
    named_along: Mapping[str, str]
    sites: Mapping[str, tuple[str, ...]]
    omop_vocabularies: Mapping[str, str]
    result_of: Mapping[str, str]
    graph: Graph = field(repr=False)
    found: dict[Hashable, dict[Hashable, int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Degrees that were worked out, by set and by what they are about: they hang on nothing else,
    so that all patients share them."""

    def up(self, term: str) -> frozenset[str]:
        """Return ``term`` and everything above it."""
        return self.ancestors.get(term) or frozenset((term,))

    def down(self, term: str) -> frozenset[str]:
        """Return ``term`` and everything below it."""
        return self.descendants.get(term) or frozenset((term,))

    def known(self, iri: str) -> bool:
        return iri in self.ancestors

    def label(self, iri: str) -> str:
        """Return the term's label, or the end of its IRI."""
        return self.labels.get(iri) or local_name(iri)

    def kind_of(self, term: str) -> str | None:
        """Return the kind of record that ``term`` is naturally found in."""
        return self.kinds.get(term)

    def quantity_of(self, term: str) -> Quantity | None:
        """Return how a measurement of ``term`` is read; a term inherits it from above."""
        if term in self.quantities:
            return self.quantities[term]
        found = [self.quantities[a] for a in sorted(self.up(term)) if a in self.quantities]
        return found[0] if found else None

    def code(self, iris: Iterable[str], *, open_values: bool = False) -> Coded:
        """Return what the codings ``iris`` of one thing say together.

        A term of the ontology stands for itself, a code for what it is mapped to. With
        ``open_values`` an unknown IRI names itself (a study, for example).
        """
        certain: set[str] = set()
        general: set[str] = set()
        unread: list[str] = []
        for iri in iris:
            if iri in self.ancestors or (open_values and iri not in self.mappings):
                certain.add(iri)
            elif iri in self.mappings:
                read = [row for row in self.mappings[iri] if row[1] != RELATED]
                for term, predicate in read:
                    (general if predicate == "narrowMatch" else certain).add(term)
                if not read:
                    unread.append(iri)
            else:
                unread.append(iri)
        if certain:
            above = {a for term in certain for a in self.up(term) if a != term}
            certain -= above
            general = set()
        return Coded(frozenset(certain), frozenset(general), tuple(unread))

    def related(self, iris: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return what the codings ``iris`` of one thing say besides what it is: axis to terms."""
        found: dict[str, dict[str, None]] = {}
        for iri in iris:
            for term, predicate in self.mappings.get(iri, ()):
                if predicate == RELATED:
                    for axis in self.axis_of(term):
                        found.setdefault(axis, {})[term] = None
        return {axis: tuple(terms) for axis, terms in found.items()}

    def axis_of(self, term: str) -> tuple[str, ...]:
        """Return the axes on which ``term`` is a value that codes may name along with another."""
        return tuple(axis for axis, top in self.named_along.items() if top in self.up(term))

    def meaning(self, iri: str) -> frozenset[str]:
        """Return every term that a code, or a term, certainly stands for, with all above."""
        return frozenset(above for term in self.code((iri,)).certain for above in self.up(term))

    def code_text(self, iri: str) -> str:
        """Return a code as people write it (its system, then the code); another IRI as it is. A
        text of the record may say anything about anybody, so it is only named as one."""
        if iri.startswith(TEXT):
            return "a text without a code"
        for prefix, name in self.code_names.items():
            if iri.startswith(prefix):
                return f"{name} {iri[len(prefix) :]}"
        return iri

    def names_without_code(self, kind: str) -> dict[str, str]:
        """Return the names (lower case) of terms recorded as ``kind`` that no code system has yet;
        a reader may know such a thing by its exact name alone."""
        named: dict[str, str] = {}
        for term, _ in self.graph.subject_objects(SARC.unmappedBecause):
            if self.kinds.get(str(term)) == kind:
                for predicate in (RDFS.label, SKOS.altLabel):
                    for name in self.graph.objects(term, predicate):
                        named[str(name).lower()] = str(term)
        return named

    def canonical_unit(self, text: str) -> str:
        """Return the UCUM spelling of a unit as written in the record: the one that is listed for
        it, or for what it is once powers, litres and micro signs are written as UCUM does."""
        folded = fold_unit(text)
        if folded not in self.spellings:
            folded = respelled(folded)
        return self.spellings.get(folded, folded)

    def units_agree(self, one: str, other: str) -> bool:
        """Return False where both texts are units that are known, and of no quantity the same."""
        units = (self.canonical_unit(one), self.canonical_unit(other))
        if units[0] == units[1] or not self.units.issuperset(units):
            return True
        for quantity in self.quantities.values():
            given = [quantity.accepts.get(unit) for unit in units]
            if given[0] is not None and given[1] is not None:
                (up, down), (other_up, other_down) = given[0], given[1]
                if up * other_down == other_up * down:
                    return True
        return False

    @cached_property
    def units(self) -> frozenset[str]:
        """Every unit that some quantity is accepted in."""
        return frozenset(unit for q in self.quantities.values() for unit in q.accepts)

    def contradictions(self, terms: Iterable[str]) -> list[tuple[str, str]]:
        """Return the pairs among ``terms`` that the ontology declares or infers disjoint."""
        ordered = sorted(set(terms))
        return [
            (a, b)
            for i, a in enumerate(ordered)
            for b in ordered[i + 1 :]
            if (a, b) in self.disjoint
        ]


def fold_unit(text: str) -> str:
    """Return ``text`` with compatibility characters unified and spaces removed.

    >>> fold_unit("µmol/L") == fold_unit("μmol / L")
    True
    """
    return "".join(unicodedata.normalize("NFKC", text).split())


_RESPELLINGS = (
    (re.compile("μ"), "u"),
    (re.compile(r"(?<![A-Za-z])mc(?=(?:g|[lL]|mol|kat)(?![A-Za-z]))"), "u"),
    (re.compile(r"(?<![A-Za-z])([a-z]?)l(?![A-Za-z_])"), r"\1L"),
    (re.compile(r"\A[xX×](?=10)"), ""),
    (re.compile(r"\A10(?:\*\*|[*^eE]|(?=\())\(?(\d{1,2})\)?(?=/)"), r"10*\1"),
    (re.compile(r"(?<=[a-z])\^(?=\d)"), ""),
)


def respelled(unit: str) -> str:
    """Return a folded ``unit`` with micro signs, litres, powers of ten and raised digits as UCUM
    writes them. None of it changes what the unit is: UCUM knows both letters for the litre.

    >>> respelled("x10^3/μl"), respelled("10(6)/l"), respelled("mL/min/1.73m^2"), respelled("mol")
    ('10*3/uL', '10*6/L', 'mL/min/1.73m2', 'mol')
    """
    for pattern, replacement in _RESPELLINGS:
        unit = pattern.sub(replacement, unit)
    return unit


def load_terminology(folder: Path, graph: Graph) -> Terminology:
    """Return the terminology of an ontology ``folder`` whose Turtle files are in ``graph``.

    Raises:
        RuleBaseError: a mapping table is malformed, or two mappings of a code contradict.
    """
    ancestors = _closure(graph)
    labels = {str(s): str(o) for s, o in graph.subject_objects(RDFS.label)}
    own_kinds: dict[str, str] = {str(s): str(o) for s, o in graph.subject_objects(SARC.recordedAs)}
    kinds: dict[str, str] = {}
    for term, above in ancestors.items():
        if term in own_kinds:
            kinds[term] = own_kinds[term]
            continue
        inherited = sorted(
            {
                own_kinds[a]
                for a in above
                if a in own_kinds and not _overridden(a, above, own_kinds, ancestors)
            }
        )
        if inherited:
            kinds[term] = inherited[0]
    parts: dict[str, set[str]] = {}
    for scope, part in graph.subject_objects(SARC.consistsOf):
        parts.setdefault(str(scope), set()).add(str(part))
    scope_kinds: dict[str, set[str]] = {}
    for scope, kind in graph.subject_objects(SARC.aboutKind):
        scope_kinds.setdefault(str(scope), set()).add(str(kind))
    disjoint: set[tuple[str, str]] = set()
    for a, b in graph.subject_objects(URIRef("http://www.w3.org/2002/07/owl#disjointWith")):
        disjoint.add((min(str(a), str(b)), max(str(a), str(b))))
    axes = frozenset(str(s) for s in graph.subjects(RDF.type, SARC.Axis))
    descendants = _inverse(ancestors)
    return Terminology(
        ancestors=ancestors,
        descendants=descendants,
        labels=labels,
        kinds=kinds,
        quantities=_quantities(graph),
        spellings=_spellings(graph),
        mappings=_mappings(folder / "mappings"),
        disjoint=frozenset(disjoint),
        axes=axes,
        open_axes=frozenset(
            str(s) for s, o in graph.subject_objects(SARC.openValues) if str(o) == "true"
        ),
        scopes={
            str(o): str(s)
            for s in graph.subjects(RDF.type, SARC.Scope)
            for o in graph.objects(s, SARC.notation)
        },
        scope_parts={k: frozenset(v) for k, v in parts.items()},
        scope_kinds={k: frozenset(v) for k, v in scope_kinds.items()},
        code_systems={
            str(uri): str(prefix)
            for system in graph.subjects(RDF.type, SARC.CodeSystem)
            for prefix in graph.objects(system, SARC.iriPrefix)
            for uri in graph.objects(system, SARC.systemUri)
        },
        code_names={
            str(prefix): str(graph.value(system, RDFS.label) or prefix)
            for system in graph.subjects(RDF.type, SARC.CodeSystem)
            for prefix in graph.objects(system, SARC.iriPrefix)
        },
        named_along={str(s): str(o) for s, o in graph.subject_objects(SARC.namedAlong)},
        sites=_sites(folder / "mappings"),
        omop_vocabularies={
            str(name): str(prefix)
            for system, name in graph.subject_objects(SARC.omopVocabulary)
            for prefix in graph.objects(system, SARC.iriPrefix)
        },
        result_of={
            below: str(finding)
            for term, finding in graph.subject_objects(SARC.resultOf)
            for below in descendants.get(str(term), (str(term),))
        },
        graph=graph,
    )


def _overridden(
    ancestor: str,
    above: frozenset[str],
    own: Mapping[str, str],
    ancestors: Mapping[str, frozenset[str]],
) -> bool:
    """Whether a more specific ancestor than ``ancestor`` also names a kind."""
    return any(a != ancestor and a in own and ancestor in ancestors[a] for a in above)


def _closure(graph: Graph) -> dict[str, frozenset[str]]:
    """Return every declared term with itself and its ancestors, without recursion."""
    parents: dict[str, set[str]] = {}
    owl = "http://www.w3.org/2002/07/owl#"
    for kind in ("Class", "NamedIndividual"):
        for term in graph.subjects(RDF.type, URIRef(owl + kind)):
            if isinstance(term, URIRef):
                parents.setdefault(str(term), set())
    for child, parent in graph.subject_objects(RDFS.subClassOf):
        if isinstance(child, URIRef) and isinstance(parent, URIRef):
            parents.setdefault(str(child), set()).add(str(parent))
            parents.setdefault(str(parent), set())
    for individual, cls in graph.subject_objects(RDF.type):
        if str(cls).startswith(SARC) and str(individual) in parents:
            parents[str(individual)].add(str(cls))
    closed: dict[str, frozenset[str]] = {}
    for name in parents:
        seen = {name}
        stack = [name]
        while stack:
            for above in parents.get(stack.pop(), ()):
                if above not in seen:
                    seen.add(above)
                    stack.append(above)
        closed[name] = frozenset(seen)
    return closed


def _inverse(ancestors: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    below: dict[str, set[str]] = {}
    for term, above in ancestors.items():
        for ancestor in above:
            below.setdefault(ancestor, set()).add(term)
    return {term: frozenset(found) for term, found in below.items()}


def _decimal(node: Node | None) -> Decimal | None:
    return None if node is None else Decimal(str(node))


def _quantities(graph: Graph) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    for term, unit in graph.subject_objects(SARC.canonicalUnit):
        accepts: dict[str, tuple[Decimal, Decimal]] = {str(unit): (Decimal(1), Decimal(1))}
        for node in graph.objects(term, SARC.acceptsUnit):
            factor = _decimal(graph.value(node, SARC.factor)) or Decimal(1)
            divisor = _decimal(graph.value(node, SARC.divisor)) or Decimal(1)
            accepts[str(graph.value(node, SARC.unit))] = (factor, divisor)
        found[str(term)] = Quantity(
            unit=str(unit),
            accepts=accepts,
            least=_decimal(graph.value(term, SARC.plausibleMin)),
            most=_decimal(graph.value(term, SARC.plausibleMax)),
            whole=str(graph.value(term, SARC.wholeNumber)) == "true",
            step=_decimal(graph.value(term, SARC.reportableStep)),
        )
    return found


def _spellings(graph: Graph) -> dict[str, str]:
    return {
        fold_unit(str(spelling)): str(graph.value(node, SARC.unit))
        for node, spelling in graph.subject_objects(SARC.spelling)
    }


def _mappings(folder: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return code IRI -> ((term IRI, predicate local name), …) of all tables in ``folder``."""
    table: dict[str, set[tuple[str, str]]] = {}
    for path in sorted(folder.glob("*.sssom.tsv")):
        for code, term, predicate in read_sssom(path):
            table.setdefault(code, set()).add((term, predicate))
    return {code: tuple(sorted(rows)) for code, rows in table.items()}


def _sites(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return code IRI -> the body sites in it, of codes that hold histology and site in one."""
    table: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.sssom.tsv")):
        for code, term, predicate in read_sssom(path):
            if predicate == RELATED:
                table.setdefault(code, set()).add(term)
    return {code: tuple(sorted(terms)) for code, terms in table.items()}


USED = frozenset(("exactMatch", "broadMatch", "narrowMatch"))
"""Predicates of SKOS that rules read: the same; our term is broader, so it holds; our term is
narrower, so it may hold."""

RELATED = "relatedMatch"
"""What a code says besides what it is: the site that a diagnosis names, put on an axis."""


@dataclass(frozen=True, slots=True)
class SssomTable:
    """An SSSOM table as written: its prefixes, the single values of its metadata, and each row
    with the number of its first line."""

    prefixes: Mapping[str, str]
    metadata: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]

    def expand(self, curie: str) -> str:
        """Return the IRI of a CURIE; an IRI is itself.

        Raises:
            KeyError: the prefix is not declared.
        """
        if curie.startswith(("http://", "https://", "urn:")):
            return curie
        prefix, _, local = curie.partition(":")
        return self.prefixes[prefix] + local


class UnquotedError(ValueError):
    """A table in which it cannot be told where a cell ends; ``line`` begins the row."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}: a quotation mark is not closed, or a cell goes on after it")
        self.line = line


def parse_sssom(text: str) -> SssomTable:
    """Return the table in ``text``; a row that is too short or too long keeps what it has.

    Raises:
        UnquotedError: a quotation mark is not closed, or a cell goes on after it; read on, a row
            would swallow those below it.
    Source: SSSOM 1.1, TSV with embedded metadata (SSSOM's own prefixes need no declaration).
    """
    prefixes = dict(_BUILT_IN)
    metadata: dict[str, str] = {}
    lines = text.splitlines(keepends=True) if "\r" in text else text.split("\n")
    in_map = False
    top = 0
    for line in lines:
        if not line.startswith("#"):
            break
        top += 1
        body = line[1:].rstrip("\r\n")
        key, _, value = body.strip().partition(":")
        value = value.strip().strip("\"'")
        if in_map and value and (body.startswith(("  ", "\t")) or value.startswith("http")):
            prefixes[key.strip("\"'")] = value
            continue
        in_map = key == "curie_map"
        if value:
            metadata[key] = value
    body_lines = (line.rstrip("\r\n") + "\n" for line in lines[top:])
    reader = csv.reader(body_lines, delimiter="\t", strict=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[int, Mapping[str, str]]] = []
    number = top
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error:
            raise UnquotedError(number + 1) from None
        first, number = number + 1, top + reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = tuple(cells)
        else:
            rows.append((first, dict(zip(columns, cells, strict=False))))
    return SssomTable(prefixes, metadata, columns, tuple(rows))


_BUILT_IN = {
    "owl": str(OWL),
    "rdf": str(RDF),
    "rdfs": str(RDFS),
    "semapv": "https://w3id.org/semapv/vocab/",
    "skos": str(SKOS),
    "sssom": "https://w3id.org/sssom/",
    "xsd": str(XSD),
}


def read_sssom(path: Path) -> list[tuple[str, str, str]]:
    """Return the rows of one of the project's own SSSOM tables that rules may use: (code IRI, term
    IRI, local name of the predicate).

    Raises:
        RuleBaseError: a prefix is not declared, a column is missing, or a quotation mark is not
            closed; nothing is dropped.
    """
    try:
        table = parse_sssom(path.read_text(encoding="utf-8"))
    except UnquotedError as unquoted:
        raise RuleBaseError(
            Finding(
                "RULE020",
                "error",
                f"{path.name}:{unquoted.line}",
                "a quotation mark is not closed, or a cell goes on after it",
                "the row would swallow those below it",
                "close it, or put the cell in quotation marks and double those inside",
            )
        ) from None
    rows: list[tuple[str, str, str]] = []
    for number, row in table.rows:
        try:
            code = table.expand(row["subject_id"])
            term = table.expand(row["object_id"])
            predicate = local_name(table.expand(row["predicate_id"]))
        except KeyError as missing:
            raise RuleBaseError(
                Finding(
                    "RULE020",
                    "error",
                    f"{path.name}:{number}",
                    f"{missing} is not declared",
                    "a mapping that cannot be expanded would be lost",
                    "declare the prefix in curie_map, or add the column",
                )
            ) from None
        if predicate in USED or predicate == RELATED:
            rows.append((code, term, predicate))
    return rows
