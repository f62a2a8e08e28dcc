"""A trial's rule base, compiled from its graph into plain data.

The graph stays the authority; this is the same thing in the shape that preparing, evaluating and
reporting need. Nothing is checked here beyond what compiling needs: `sarc_kb.rule_check` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from rdflib import Graph, URIRef
from rdflib.collection import Collection
from rdflib.namespace import DCTERMS
from rdflib.term import Node

from sarc_kb.errors import Finding, RuleBaseError, UsageError
from sarc_kb.namespaces import OA, RDF, RDFS, SARC, SH, local_name
from sarc_kb.terminology import Coded, Terminology

ANY = str(SARC.Any)
EVER = str(SARC.Ever)
NOT_ATTESTABLE = str(SARC.NotAttestable)
COMPONENTS = ("latest", "some", "none", "noPair", "eachHas", "attested")
PAIRS = ("noPair", "eachHas")


@dataclass(frozen=True, slots=True)
class ConceptSet:
    """Terms with everything below them, less what is excluded.

    ``degree`` is 2 for something certainly in the set, 1 possibly, 0 not. With ``by_name`` a code
    more general than something excluded is inside: only what is excluded by name is out.
    """

    iri: str
    members: frozenset[str]
    excluding: frozenset[str] = frozenset()
    kind: str | None = None
    by_name: bool = False

    def degree_of_term(self, term: str, terms: Terminology) -> int:
        """Return 2 if everything below ``term`` is in the set, 1 if something is, else 0."""
        below = (term,) if self.by_name and terms.up(term) & self.members else terms.down(term)
        inside = [
            bool(above & self.members) and not above & self.excluding
            for above in map(terms.up, below)
        ]
        return 2 if all(inside) else 1 if any(inside) else 0

    def degree(self, coded: Coded, terms: Terminology) -> int:
        """Return the degree of a thing that all of its codings describe.

        One coding that is in the set puts the thing in it, one that is outside puts it outside;
        if two say different, nobody knows. Nothing readable is possible.
        """
        if coded.certain:
            degrees = {self.degree_of_term(t, terms) for t in coded.certain}
            if degrees >= {0, 2}:
                return 1
            return 2 if 2 in degrees else 0 if 0 in degrees else 1
        if coded.general:
            return 1 if any(self.degree_of_term(t, terms) for t in coded.general) else 0
        return 1


@dataclass(frozen=True, slots=True)
class Requirement:
    axis: str
    among: str | None
    not_among: str | None


@dataclass(frozen=True, slots=True)
class Qualifier:
    iri: str
    requires: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A span before an anchor; without days and months it is open to the past.

    ``ends_before`` names a window before whose start this one ends; ``open_end`` runs to the
    future.
    """

    iri: str
    anchor: str
    days: int | None
    months: int | None
    ends_days_before: int
    start_only: bool
    ends_before: str | None = None
    open_end: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    at_least: Decimal | None = None
    more_than: Decimal | None = None
    at_most: Decimal | None = None
    less_than: Decimal | None = None

    @property
    def used(self) -> bool:
        return any(
            b is not None for b in (self.at_least, self.more_than, self.at_most, self.less_than)
        )

    def text(self, unit: str) -> str:
        """Return the limits as people write them."""
        parts = [
            f"{sign} {_plain(bound)}"
            for sign, bound in (
                ("≥", self.at_least),
                (">", self.more_than),
                ("≤", self.at_most),
                ("<", self.less_than),
            )
            if bound is not None
        ]
        if self.at_least is not None and self.at_least == self.at_most:
            parts = [_plain(self.at_least)]
        joined = " and ".join(parts)
        return joined + (f" {unit}" if unit and unit != "1" and joined else "")


def _plain(number: Decimal) -> str:
    return format(number.normalize() if number == number.to_integral_value() else number, "f")


@dataclass(frozen=True, slots=True)
class Role:
    """One selection of facts: a set, a window, a qualifier, accepted values and bounds."""

    concept_set: str
    window: str
    qualifier: str
    accepted: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Text:
    """What a rule says of itself to people."""

    label: str
    quote: str
    locator: str
    interpretation: str
    message: str
    remedy: str
    executability: str
    resolves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """One constraint of one component. ``second`` and the gap belong to the pair components."""

    iri: str
    id: str
    component: str
    role: Role | None
    second: Role | None
    gap: tuple[int, int] | None
    settled_by: str | None
    attestable: bool
    unit: str
    criterion: str
    text: Text

    @property
    def component_iri(self) -> str:
        """The constraint component that SHACL reports name."""
        return f"{SARC}{self.component[0].upper()}{self.component[1:]}ConstraintComponent"


@dataclass(frozen=True, slots=True)
class Join:
    """``and`` or ``or`` of clauses and joins."""

    iri: str
    id: str
    operator: str
    children: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Criterion:
    """One numbered criterion; ``root`` is the IRI of its clause or join (often its own)."""

    iri: str
    id: str
    kind: str
    root: str
    clauses: tuple[str, ...]
    text: Text


@dataclass(frozen=True, slots=True)
class Selection:
    """One attempt of an anchor: the earliest or latest of sets and other anchors, one day on which
    all of them agree (else any of theirs), or the same as another anchor. A qualifier must hold for certain; ``unless`` must not; ``before`` is an anchor
    that the fact must not follow."""

    pick: str
    targets: tuple[str, ...]
    accepted: str = ANY
    qualifier: str = ANY
    window: str = EVER
    policy: str | None = None
    end_of_day: bool = False
    unless: tuple[str, ...] = ()
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Derivation:
    """A fact, mark or statement that *prepare* makes; ``kind`` tells which fields count."""

    iri: str
    kind: str
    source: str = ""
    accepted: str = ANY
    qualifier: str = ANY
    window: str | None = None
    gives: str | None = None
    value: str | None = None
    value_from_concept: bool = False
    value_from_axis: str | None = None
    adds_value: str | None = None
    adds_concept: str | None = None
    axis: str | None = None
    axis_value: str | None = None
    as_default: bool = False
    as_suspected: bool = False
    rests_on: str | None = None
    settles: tuple[str, ...] = ()
    holds_for: int = 0
    of: tuple[str, ...] = ()
    from_anchor: str | None = None
    to_anchor: str | None = None
    measured_in: str | None = None
    settled_by: str | None = None
    inputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class IndexRule:
    """Which of several things is meant: facts that ``describes`` selects are about a candidate;
    a ``rival`` that is no candidate is always another."""

    axis: str
    index: str
    other: str
    candidate: str
    describes: str
    rival: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """``asked_of`` and ``asked_when`` say for which records the question applies: those without a
    fact of the one set, or with one whose value may be in the other."""

    iri: str
    link_id: str
    text: str
    covers: tuple[str, ...]
    clearing: str
    asked_of: str | None = None
    asked_when: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    iri: str
    name: str
    label: str
    parameter: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Ambiguity:
    iri: str
    id: str
    label: str
    default: str
    readings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trial:
    """A compiled rule base of one trial."""

    iri: str
    id: str
    title: str
    record: str
    criteria: tuple[Criterion, ...]
    clauses: Mapping[str, Clause]
    joins: Mapping[str, Join]
    sets: Mapping[str, ConceptSet]
    qualifiers: Mapping[str, Qualifier]
    windows: Mapping[str, Window]
    anchors: Mapping[str, tuple[Selection, ...]]
    derivations: tuple[Derivation, ...]
    index_rules: tuple[IndexRule, ...]
    questions: tuple[Question, ...]
    policies: tuple[Policy, ...]
    ambiguities: tuple[Ambiguity, ...]
    statement_tolerance: int
    labels: Mapping[str, str]
    chosen_readings: tuple[tuple[str, str], ...]
    changed: tuple[str, ...]
    graph: Graph = field(repr=False)

    def children(self, iri: str) -> tuple[str, ...]:
        return self.joins[iri].children if iri in self.joins else ()

    def leaves(self, iri: str) -> Iterator[str]:
        """Yield the clauses below ``iri`` in order, each once."""
        seen: set[str] = set()
        stack = [iri]
        while stack:
            node = stack.pop()
            if node in self.joins:
                stack.extend(reversed(self.joins[node].children))
            elif node not in seen:
                seen.add(node)
                yield node

    def clause_by_id(self, name: str) -> Clause | None:
        return next((c for c in self.clauses.values() if c.id == name), None)

    def set_of(self, iri: str) -> ConceptSet:
        """Return the set an IRI names; a term stands for itself and what is below it."""
        return self.sets.get(iri) or ConceptSet(iri, frozenset((iri,)))

    def label(self, iri: str, terms: Terminology) -> str:
        return self.labels.get(iri) or terms.label(iri)

    def axes_of_terms(self, terms: Terminology) -> dict[str, str]:
        """Return the axis on which the rules look for a term, for terms that they look for on
        just one."""
        found: dict[str, set[str]] = {}
        for qualifier in self.qualifiers.values():
            for required in qualifier.requires:
                for named in filter(None, (required.among, required.not_among)):
                    for member in self.set_of(named).members:
                        for term in terms.down(member):
                            found.setdefault(term, set()).add(required.axis)
        return {term: min(axes) for term, axes in found.items() if len(axes) == 1}


def apply_readings(graph: Graph, readings: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Patch ``graph`` with the chosen readings of the register; return what is now in force.

    ``readings`` maps an entry's id (``A-11``) to a reading's notation.
    Raises:
        UsageError: no such entry or reading, or it cannot be run.
    """
    chosen: list[tuple[str, str]] = []
    entries = {local_name(str(a)): a for a in graph.subjects(RDF.type, SARC.Ambiguity)}
    for name in readings:
        if name not in entries:
            raise UsageError(
                _unknown("--reading", name, "an entry of the register", sorted(entries))
            )
    for name, entry in sorted(entries.items()):
        options = {
            str(graph.value(r, SARC.notation)): r for r in graph.objects(entry, SARC.hasReading)
        }
        default = graph.value(entry, SARC.default)
        notation = readings.get(name)
        if notation is None:
            chosen.append((name, str(graph.value(default, SARC.notation))))
            continue
        if notation not in options:
            raise UsageError(
                _unknown(f"--reading {name}", notation, "a reading of it", sorted(options))
            )
        reading = options[notation]
        refusal = graph.value(reading, SARC.notRunnableBecause)
        if refusal is not None and reading != default:
            raise UsageError(
                Finding(
                    "USE003",
                    "error",
                    f"--reading {name}={notation}",
                    "this reading cannot be run",
                    str(refusal),
                    "choose another reading",
                )
            )
        if reading != default:
            for patch in graph.objects(reading, SARC.override):
                _override(graph, patch)
        chosen.append((name, notation))
    return tuple(chosen)


def _override(graph: Graph, patch: Node) -> None:
    for node in list(graph.objects(patch, SARC.on)):
        parameter = graph.value(patch, SARC.parameter)
        if parameter is None:
            continue
        becomes = graph.value(patch, SARC.becomes)
        values = list(graph.objects(patch, SARC.to))
        old = list(graph.objects(node, parameter))
        graph.remove((node, parameter, None))
        if becomes is not None:
            for value in values or old:
                graph.add((node, becomes, value))
        else:
            for value in values:
                graph.add((node, parameter, value))


def apply_policies(graph: Graph, policies: Mapping[str, str]) -> None:
    """Set named policies in ``graph``.

    Raises:
        UsageError: no such policy, or the value is not of the policy's type.
    """
    known = {local_name(str(p)): p for p in graph.subjects(RDF.type, SARC.Policy)}
    for name, text in policies.items():
        if name not in known:
            raise UsageError(_unknown("--policy", name, "a policy", sorted(known)))
        node = known[name]
        parameter = graph.value(node, SARC.policyParameter)
        if parameter is None:
            raise UsageError(
                Finding(
                    "USE004",
                    "error",
                    f"--policy {name}",
                    "this policy has no value to set",
                    "it only names a choice that reports print",
                    "see `sarc-kb rules --policies`",
                )
            )
        old = graph.value(node, parameter)
        try:
            number = int(text)
            if number < 0:
                raise ValueError
        except ValueError:
            raise UsageError(
                Finding(
                    "USE005",
                    "error",
                    f"--policy {name}",
                    f"{text!r} is not a whole number of 0 or more",
                    "the policy counts days or months",
                    f"give a number such as {old}",
                )
            ) from None
        from rdflib import Literal

        graph.set((node, parameter, Literal(number)))


def _unknown(where: str, found: str, what: str, known: list[str]) -> Finding:
    return Finding(
        "USE002",
        "error",
        where,
        f"{found!r} is not {what}",
        "nothing would change, silently",
        "choose one of: " + ", ".join(known),
    )


def compile_trial(
    graph: Graph,
    terms: Terminology,
    readings: tuple[tuple[str, str], ...],
    changed: tuple[str, ...] = (),
) -> Trial:
    """Return the compiled rule base of the one trial in ``graph`` (terms of the ontology included).

    ``readings`` are those in force, ``changed`` says what the caller set.

    Raises:
        RuleBaseError: something a rule names does not exist, or a rule has no readable form.
    """
    return _Compiler(graph, terms).run(readings, changed)


class _Compiler:
    def __init__(self, graph: Graph, terms: Terminology) -> None:
        self.graph = graph
        self.terms = terms
        self.faults: list[Finding] = []
        self.needed_sets: set[str] = set()

    # -- small readers -------------------------------------------------------------------------
    def text(self, node: Node, predicate: URIRef) -> str:
        value = self.graph.value(node, predicate)
        return "" if value is None else " ".join(str(value).split())

    def iri(self, node: Node, predicate: URIRef, default: str | None = None) -> str | None:
        value = self.graph.value(node, predicate)
        return default if value is None else str(value)

    def number(self, node: Node, predicate: URIRef) -> Decimal | None:
        value = self.graph.value(node, predicate)
        return None if value is None else Decimal(str(value))

    def integer(self, node: Node, predicate: URIRef) -> int | None:
        value = self.graph.value(node, predicate)
        return None if value is None else int(str(value))

    def flag(self, node: Node, predicate: URIRef) -> bool:
        return str(self.graph.value(node, predicate)) == "true"

    def typed(self, cls: URIRef) -> list[Node]:
        return sorted(set(self.graph.subjects(RDF.type, cls)), key=str)

    def fault(self, code: str, where: Node | str, found: str, why: str, fix: str) -> None:
        self.faults.append(Finding(code, "error", local_name(str(where)), found, why, fix))

    # -- the parts -----------------------------------------------------------------------------
    def run(self, readings: tuple[tuple[str, str], ...], changed: tuple[str, ...]) -> Trial:
        graph = self.graph
        trials = self.typed(SARC.Trial)
        if len(trials) != 1:
            self.fault(
                "RULE001",
                "trial",
                f"{len(trials)} nodes are a sarc:Trial",
                "a folder holds one trial",
                "keep one sarc:Trial in trial.ttl",
            )
            raise RuleBaseError(*self.faults)
        trial = trials[0]
        joins: dict[str, Join] = {}
        clauses: dict[str, Clause] = {}
        criteria = self._criteria(joins, clauses)
        if not criteria:
            self.fault(
                "RULE002",
                trial,
                "no criteria",
                "an empty rule base would pass everybody",
                "add criteria",
            )
        sets = {str(s): self._set(s) for s in self.typed(SARC.ConceptSet)}
        tolerance = max(
            (self.integer(n, SARC.days) or 0 for n in self.typed(SARC.StatementTolerance)),
            default=0,
        )
        compiled = Trial(
            iri=str(trial),
            id=self.text(trial, SARC.registryId),
            title=self.text(trial, URIRef(str(DCTERMS.title))) or self.text(trial, RDFS.label),
            record=self.text(trial, SARC.sourceFile),
            criteria=criteria,
            clauses=clauses,
            joins=joins,
            sets=sets,
            qualifiers={str(q): self._qualifier(q) for q in self.typed(SARC.Qualifier)},
            windows={str(w): self._window(w) for w in self.typed(SARC.Window)},
            anchors={
                str(SARC.StudyEntry): (),
                str(SARC.AsOf): (),
                **{str(a): self._anchor(a) for a in self.typed(SARC.Anchor)},
            },
            derivations=self._derivations(),
            index_rules=tuple(self._index_rule(r) for r in self.typed(SARC.IndexRule)),
            questions=tuple(
                Question(
                    str(q),
                    self.text(q, SARC.linkId),
                    self.text(q, RDFS.label),
                    tuple(sorted(str(c) for c in graph.objects(q, SARC.covers))),
                    self.iri(q, SARC.clearingAnswer) or "",
                    self.iri(q, SARC.askedOf),
                    self.iri(q, SARC.askedWhen),
                )
                for q in self.typed(SARC.Question)
            ),
            policies=tuple(self._policy(p) for p in self.typed(SARC.Policy)),
            ambiguities=tuple(
                Ambiguity(
                    str(a),
                    local_name(str(a)),
                    self.text(a, RDFS.label),
                    "".join(self.text(r, SARC.notation) for r in graph.objects(a, SARC.default)),
                    tuple(
                        sorted(
                            (self.text(r, SARC.notation), self.text(r, RDFS.label))
                            for r in graph.objects(a, SARC.hasReading)
                        )
                    ),
                )
                for a in self.typed(SARC.Ambiguity)
            ),
            statement_tolerance=tolerance,
            labels={str(s): " ".join(str(o).split()) for s, o in graph.subject_objects(RDFS.label)},
            chosen_readings=readings,
            changed=changed,
            graph=graph,
        )
        if self.faults:
            raise RuleBaseError(*self.faults)
        return compiled

    def _text(self, node: Node) -> Text:
        quote = ""
        source = self.graph.value(node, SARC.source)
        if source is not None:
            selector = self.graph.value(source, OA.hasSelector)
            quote = "" if selector is None else self.text(selector, OA.exact)
        return Text(
            label=self.text(node, RDFS.label),
            quote=quote,
            locator=self.text(node, SARC.locator),
            interpretation=self.text(node, SARC.interpretation),
            message=self.text(node, SH.message),
            remedy=self.text(node, SARC.remedy),
            executability=local_name(self.iri(node, SARC.executability) or ""),
            resolves=tuple(
                sorted(local_name(str(a)) for a in self.graph.objects(node, SARC.resolves))
            ),
        )

    def _criteria(
        self, joins: dict[str, Join], clauses: dict[str, Clause]
    ) -> tuple[Criterion, ...]:
        found: list[Criterion] = []
        for cls, kind in (
            (SARC.InclusionCriterion, "inclusion"),
            (SARC.ExclusionCriterion, "exclusion"),
        ):
            for node in self.typed(cls):
                iri = str(node)
                self._tree(node, iri, joins, clauses, ())
                found.append(
                    Criterion(
                        iri,
                        self.text(node, SARC.notation),
                        kind,
                        iri,
                        tuple(_leaves(iri, joins)),
                        self._text(node),
                    )
                )
        order = {"inclusion": 0, "exclusion": 1}
        return tuple(sorted(found, key=lambda c: (order[c.kind], c.id)))

    def _tree(
        self,
        node: Node,
        criterion: str,
        joins: dict[str, Join],
        clauses: dict[str, Clause],
        path: tuple[Node, ...],
    ) -> None:
        if node in path:
            self.fault(
                "RULE003",
                node,
                "the shape refers to itself",
                "recursion has no agreed meaning in SHACL",
                "break the cycle",
            )
            return
        if str(node) in joins or str(node) in clauses:
            return
        heads = [(op, head) for op in ("and", "or") for head in self.graph.objects(node, SH[op])]
        components = [c for c in COMPONENTS if (node, SARC[c], None) in self.graph]
        if len(heads) == 1 and not components:
            operator, head = heads[0]
            children = list(Collection(self.graph, head))
            joins[str(node)] = Join(
                str(node),
                self.text(node, SARC.notation) or local_name(str(node)),
                operator,
                tuple(str(c) for c in children),
                self.text(node, RDFS.label),
            )
            for child in children:
                self._tree(child, criterion, joins, clauses, (*path, node))
        elif len(components) == 1 and not heads:
            clauses[str(node)] = self._clause(node, components[0], criterion)
        else:
            self.fault(
                "RULE004",
                node,
                f"{len(components)} components and {len(heads)} joins",
                "a rule is one component or one sh:and / sh:or",
                "give it exactly one",
            )

    def _bounds(self, node: Node, prefix: str) -> Bounds:
        def name(word: str) -> URIRef:
            return SARC[word] if not prefix else SARC[prefix + word[0].upper() + word[1:]]

        return Bounds(
            self.number(node, name("atLeast")),
            self.number(node, name("moreThan")),
            self.number(node, name("atMost")),
            self.number(node, name("lessThan")),
        )

    def _clause(self, node: Node, component: str, criterion: str) -> Clause:
        role = second = None
        gap = None
        if component != "attested":
            window = self._named(node, SARC.window)
            role = Role(
                self._named(node, SARC[component]),
                window,
                self._named(node, SARC.qualifier),
                self._named(node, SARC.accepted),
                self._bounds(node, ""),
            )
            if component in PAIRS:
                second = Role(
                    self._named(node, SARC.pairedWith),
                    window,
                    self._named(node, SARC.pairedQualifier),
                    self._named(node, SARC.pairedAccepted),
                    self._bounds(node, "paired"),
                )
                gap = (self.integer(node, SARC.gapFrom) or 0, self.integer(node, SARC.gapTo) or 0)
        settled_by = None
        if component not in ("latest", "attested"):
            settled_by = self._named(node, SARC.settledBy)
        return Clause(
            iri=str(node),
            id=self.text(node, SARC.notation),
            component=component,
            role=role,
            second=second,
            gap=gap,
            settled_by=settled_by,
            attestable=component == "attested" or self.iri(node, SARC.attestedAs) == str(node),
            unit=self.text(node, SARC.unit),
            criterion=criterion,
            text=self._text(node),
        )

    def _named(self, node: Node, predicate: URIRef) -> str:
        values = sorted(str(v) for v in self.graph.objects(node, predicate))
        if len(values) != 1:
            self.fault(
                "RULE005",
                node,
                f"{len(values)} values of sarc:{local_name(str(predicate))}",
                "a missing or doubled parameter silently switches a component off",
                "give it exactly one value",
            )
            return values[0] if values else ANY
        return values[0]

    def _set(self, node: Node) -> ConceptSet:
        return ConceptSet(
            str(node),
            frozenset(str(m) for m in self.graph.objects(node, SARC.member)),
            frozenset(str(m) for m in self.graph.objects(node, SARC.excluding)),
            self.iri(node, SARC.factKind),
            self.flag(node, SARC.byName),
        )

    def _qualifier(self, node: Node) -> Qualifier:
        return Qualifier(
            str(node),
            tuple(
                sorted(
                    (
                        Requirement(
                            self.iri(r, SARC.axis) or "",
                            self.iri(r, SARC.among),
                            self.iri(r, SARC.notAmong),
                        )
                        for r in self.graph.objects(node, SARC.requires)
                    ),
                    key=lambda r: (r.axis, r.among or "", r.not_among or ""),
                )
            ),
        )

    def _window(self, node: Node) -> Window:
        return Window(
            str(node),
            self.iri(node, SARC.anchor) or "",
            self.integer(node, SARC.daysBefore),
            self.integer(node, SARC.monthsBefore),
            self.integer(node, SARC.endsDaysBefore) or 0,
            self.iri(node, SARC.testedOn) == str(SARC.StartOnly),
            self.iri(node, SARC.endsBefore),
            self.flag(node, SARC.openEnd),
        )

    def _anchor(self, node: Node) -> tuple[Selection, ...]:
        head = self.graph.value(node, SARC["try"])
        if head is None:
            return ()
        selections: list[Selection] = []
        for item in Collection(self.graph, head):
            for pick in ("earliestOf", "latestOf", "agreementOf", "sameAs"):
                targets = tuple(sorted(str(t) for t in self.graph.objects(item, SARC[pick])))
                if targets:
                    selections.append(
                        Selection(
                            pick,
                            targets,
                            self.iri(item, SARC.accepted, ANY) or ANY,
                            self.iri(item, SARC.qualifier, ANY) or ANY,
                            self.iri(item, SARC.window, EVER) or EVER,
                            self.iri(item, SARC.policy),
                            self.flag(item, SARC.endOfDay),
                            tuple(sorted(str(q) for q in self.graph.objects(item, SARC.unless))),
                            self.iri(item, SARC.before),
                        )
                    )
        return tuple(selections)

    def _derivations(self) -> tuple[Derivation, ...]:
        kinds: Iterable[URIRef] = (
            SARC.Implication,
            SARC.Refinement,
            SARC.Settling,
            SARC.Interval,
            SARC.UpperLimitMultiple,
            SARC.Smallest,
            SARC.Largest,
            SARC.CockcroftGault,
            SARC.Tally,
        )
        found: list[Derivation] = []
        for kind in kinds:
            for node in self.typed(kind):
                found.append(self._derivation(node, local_name(str(kind))))
        for term, target in self.graph.subject_objects(SARC.convertsTo):
            found.append(
                Derivation(
                    str(term),
                    "Conversion",
                    source=str(term),
                    gives=self.iri(target, SARC.concept),
                    value=str(self.number(target, SARC.factor) or 1),
                )
            )
        return tuple(found)

    def _derivation(self, node: Node, kind: str) -> Derivation:
        holds = self.graph.value(node, SARC.holdsFor)
        holds_for = 0
        if holds is not None:
            holds_for = self.integer(holds, SARC.daysBefore) or self.integer(holds, SARC.days) or 0
        return Derivation(
            iri=str(node),
            kind=kind,
            source=self.iri(node, SARC["from"]) or self.iri(node, SARC.counts) or "",
            accepted=self.iri(node, SARC.whenAccepted, ANY) or ANY,
            qualifier=self.iri(node, SARC.whenQualified, ANY) or ANY,
            window=self.iri(node, SARC.whenWithin),
            gives=self.iri(node, SARC.gives),
            value=self.iri(node, SARC.givesValue),
            value_from_concept=self.flag(node, SARC.valueFromConcept),
            value_from_axis=self.iri(node, SARC.valueFromAxis),
            adds_value=self.iri(node, SARC.addsValue),
            adds_concept=self.iri(node, SARC.addsConcept),
            axis=self.iri(node, SARC.setsAxis),
            axis_value=self.iri(node, SARC.axisValue),
            as_default=self.flag(node, SARC.asDefault),
            as_suspected=self.flag(node, SARC.asSuspected),
            rests_on=self.iri(node, SARC.restsOn),
            settles=tuple(sorted(str(s) for s in self.graph.objects(node, SARC.settles))),
            holds_for=holds_for,
            of=tuple(sorted(str(c) for c in self.graph.objects(node, SARC.ofConcept))),
            from_anchor=self.iri(node, SARC.fromAnchor),
            to_anchor=self.iri(node, SARC.toAnchor),
            measured_in=self.iri(node, SARC.measuredIn),
            settled_by=self.iri(node, SARC.settledBy),
            inputs=tuple(
                (name, self.iri(node, SARC[name]) or "")
                for name in ("fromCreatinine", "fromWeight", "fromSex", "fromBirth")
                if self.graph.value(node, SARC[name]) is not None
            ),
        )

    def _index_rule(self, node: Node) -> IndexRule:
        return IndexRule(
            self.iri(node, SARC.axis, str(SARC.subject)) or "",
            self.iri(node, SARC["index"], str(SARC.IndexTumour)) or "",
            self.iri(node, SARC.other, str(SARC.OtherTumour)) or "",
            self.iri(node, SARC.candidate) or "",
            self.iri(node, SARC.describes) or "",
            self.iri(node, SARC.rival),
        )

    def _policy(self, node: Node) -> Policy:
        parameter = self.graph.value(node, SARC.policyParameter)
        value = "" if parameter is None else self.text(node, URIRef(str(parameter)))
        unit = {"daysBefore": " days", "monthsBefore": " months", "days": " days"}.get(
            local_name(str(parameter)) if parameter is not None else "", ""
        )
        return Policy(
            str(node),
            local_name(str(node)),
            self.text(node, RDFS.label),
            None if parameter is None else str(parameter),
            (value + unit) if value else "as described",
        )


def _leaves(iri: str, joins: Mapping[str, Join]) -> Iterator[str]:
    seen: set[str] = set()
    stack = [iri]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in joins:
            stack.extend(reversed(joins[node].children))
        else:
            yield node
