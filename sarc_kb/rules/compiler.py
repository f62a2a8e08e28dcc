"""From a trial's graph to its compiled rule base.

Nothing is checked here beyond what compiling needs: `sarc_kb.rule_check` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

from rdflib import Graph, URIRef
from rdflib.collection import Collection
from rdflib.namespace import DCTERMS
from rdflib.term import Node

from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.namespaces import OA, RDF, RDFS, SARC, SH, local_name
from sarc_kb.rules.model import (
    ANY,
    COMPONENTS,
    EVER,
    PAIRS,
    Ambiguity,
    Bounds,
    Calendar,
    Clause,
    ConceptSet,
    Course,
    Criterion,
    Definition,
    Derivation,
    DoseSeries,
    IndexRule,
    Join,
    Level,
    Policy,
    Qualifier,
    Question,
    Relaxation,
    Requirement,
    Role,
    Selection,
    Text,
    Track,
    Trial,
    Window,
)
from sarc_kb.terminology import Terminology


def compile_trial(
    graph: Graph,
    terms: Terminology,
    readings: tuple[tuple[str, str], ...],
    changed: tuple[str, ...] = (),
    relaxed: Iterable[Relaxation] = (),
) -> Trial:
    """Return the compiled rule base of the one trial in ``graph`` (terms of the ontology included).

    ``readings`` are those in force, ``changed`` says what the caller set; the clauses whose limits
    were ``relaxed`` say so.

    Raises:
        RuleBaseError: something a rule names does not exist, or a rule has no readable form.
    """
    return _Compiler(graph, terms, relaxed).run(readings, changed)


class _Compiler:
    def __init__(self, graph: Graph, terms: Terminology, relaxed: Iterable[Relaxation]) -> None:
        self.graph = graph
        self.terms = terms
        self.relaxed = tuple(relaxed)
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
        compiled = replace(compiled, treatment=self._treatment(compiled))
        if self.faults:
            raise RuleBaseError(*self.faults)
        return compiled

    def _treatment(self, trial: Trial) -> Trial | None:
        """Return the part about treatment, which has clauses and joins of its own."""
        joins: dict[str, Join] = {}
        clauses: dict[str, Clause] = {}
        rules = []
        for node in self.typed(SARC.TreatmentRule):
            compares = self.iri(node, SARC.compares)
            root = compares or str(node)
            self._tree(URIRef(root), str(node), joins, clauses, ())
            rules.append(
                replace(
                    self._criterion(node, "treatment", joins),
                    root=root,
                    clauses=tuple(_leaves(root, joins)),
                    due=tuple(sorted(str(w) for w in self.graph.objects(node, SARC.due))),
                    compares=compares,
                )
            )
        if not rules:
            return None
        definitions = (
            Definition(
                str(node),
                self.text(node, SARC.notation),
                self.iri(node, SARC.defines) or "",
                self._text(node),
            )
            for node in self.typed(SARC.DefinitionRule)
        )
        return replace(
            trial,
            criteria=tuple(sorted(rules, key=lambda r: r.id)),
            clauses=clauses,
            joins=joins,
            questions=(),
            series=tuple(self._series(s) for s in self.typed(SARC.DoseSeries)),
            course=self._course(),
            definitions=tuple(sorted(definitions, key=lambda d: d.id)),
        )

    def _series(self, node: Node) -> DoseSeries:
        head = self.graph.value(node, SARC.levels)
        levels = []
        for level in Collection(self.graph, head) if head is not None else ():
            amount = self.number(level, SARC.amount)
            least, most = self.number(level, SARC.atLeast), self.number(level, SARC.atMost)
            if amount is not None:
                least = most = amount
            if least is None or most is None:
                self.fault(
                    "RULE006",
                    level,
                    "a level without its dose",
                    "no dose could be placed on it",
                    "give it sarc:amount, or sarc:atLeast and sarc:atMost",
                )
                continue
            levels.append(Level(str(level), least, most))

        def named(predicate: URIRef) -> str:
            return self._named(node, predicate)

        return DoseSeries(
            str(node),
            named(SARC["from"]),
            self.iri(node, SARC.whenQualified, ANY) or ANY,
            self.iri(node, SARC.whenWithin, EVER) or EVER,
            tuple(levels),
            named(SARC.givesDose),
            named(SARC.givesChange),
            named(SARC.givesDaily),
            named(SARC.givesPause),
            named(SARC.settledBy),
            named(SARC.placesEvents),
        )

    def _course(self) -> Course | None:
        nodes = self.typed(SARC.TreatmentCourse)
        if len(nodes) != 1:
            self.fault(
                "RULE007",
                "course",
                f"{len(nodes)} nodes are a sarc:TreatmentCourse",
                "nobody could tell whether treatment has begun",
                "describe the course once",
            )
            return None
        tracks = sorted(
            self.typed(SARC.TimelineTrack), key=lambda n: (self.integer(n, SARC.order) or 0, str(n))
        )
        return Course(
            self._named(nodes[0], SARC.begunBy),
            self._named(nodes[0], SARC.window),
            self._named(nodes[0], SARC.dayOne),
            tuple(
                Track(str(n), self.text(n, RDFS.label), self._named(n, SARC.shows)) for n in tracks
            ),
        )

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
                self._tree(node, str(node), joins, clauses, ())
                found.append(self._criterion(node, kind, joins))
        order = {"inclusion": 0, "exclusion": 1}
        return tuple(sorted(found, key=lambda c: (order[c.kind], c.id)))

    def _criterion(self, node: Node, kind: str, joins: Mapping[str, Join]) -> Criterion:
        iri = str(node)
        return Criterion(
            iri,
            self.text(node, SARC.notation),
            kind,
            iri,
            tuple(_leaves(iri, joins)),
            self._text(node),
            local_name(self.iri(node, SARC.modality) or ""),
        )

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
            relaxed=tuple(r.text for r in self.relaxed if r.iri == str(node)),
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
            self._offset(node, SARC.daysBefore, SARC.daysAfter),
            self._offset(node, SARC.monthsBefore, SARC.monthsAfter),
            self._offset(node, SARC.endsDaysBefore, SARC.endsDaysAfter) or 0,
            self.iri(node, SARC.testedOn) == str(SARC.StartOnly),
            self.iri(node, SARC.endsBefore),
            self.flag(node, SARC.openEnd),
            -(self.integer(node, SARC.endsMonthsAfter) or 0),
            self.iri(node, SARC.endAnchor),
            self.iri(node, SARC.startsAfter),
            self._calendar(node),
        )

    def _offset(self, node: Node, before: URIRef, after: URIRef) -> int | None:
        """Return how far before the anchor, negative where it is after; None if not said."""
        forward = self.integer(node, after)
        return self.integer(node, before) if forward is None else -forward

    def _calendar(self, node: Node) -> Calendar | None:
        period = self.graph.value(node, SARC.period)
        if period is None:
            return None
        days = self.integer(period, SARC.days) or 0
        first, last = self.integer(node, SARC.fromDay) or 1, self.integer(node, SARC.toDay) or days
        if not 1 <= first <= last <= days:
            self.fault(
                "RULE008",
                node,
                f"days {first} to {last} of a period of {days} days",
                "the calendar would have no day, or all",
                "name days within the period",
            )
            return None
        return Calendar(days, first, last)

    def _anchor(self, node: Node) -> tuple[Selection, ...]:
        head = self.graph.value(node, SARC["try"])
        if head is None:
            return ()
        selections: list[Selection] = []
        for item in Collection(self.graph, head):
            for pick in ("earliestOf", "latestOf", "latestEndOf", "agreementOf", "sameAs"):
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
            SARC.Total,
            SARC.Minimum,
            SARC.Maximum,
            SARC.Difference,
            SARC.Product,
            SARC.Quotient,
            SARC.RunningTotal,
            SARC.IntervalBetween,
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
            at_end_of_day=self.flag(node, SARC.atEndOfDay),
            unless=tuple(sorted(str(q) for q in self.graph.objects(node, SARC.unless))),
            keeps_value=self.flag(node, SARC.keepsValue),
            even_if_silent=self.flag(node, SARC.evenIfSilent),
            operands=self._list(node, SARC.operands),
            of_recorded=self.flag(node, SARC.ofRecorded),
            during=self.iri(node, SARC.during),
        )

    def _list(self, node: Node, predicate: URIRef) -> tuple[str, ...]:
        head = self.graph.value(node, predicate)
        return () if head is None else tuple(str(i) for i in Collection(self.graph, head))

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
        unit = {
            "daysBefore": " days",
            "endsDaysAfter": " days",
            "monthsBefore": " months",
            "days": " days",
        }.get(local_name(str(parameter)) if parameter is not None else "", "")
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
