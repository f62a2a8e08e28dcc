"""Hold one trial of two knowledge bases against each other: compiled rules, and all else they name.

Rules are compared as compiled, with what their sets come to in the hierarchy and by the mappings of
codes; definitions, the register and the ontology by what their graphs say of each thing. Whatever
differs there and has no name of its own here is still told, property by property.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from rdflib import Graph, URIRef

from sarc_kb.diff.content import Contents, plain, renamed
from sarc_kb.diff.model import Change, RuleChange, ThingChange
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SARC, compact, local_name
from sarc_kb.rules import ANY, EVER, Clause, Criterion, Role, Trial
from sarc_kb.rules.model import ConceptSet
from sarc_kb.terminology import Quantity, Terminology

_FIELDS = {
    "anchor": "anchor",
    "days": "days before",
    "months": "months before",
    "ends_days_before": "end, days before",
    "ends_months_before": "end, months before",
    "start_only": "start alone",
    "ends_before": "ends before",
    "starts_after": "starts after",
    "open_end": "open end",
    "end_anchor": "anchor of the end",
    "calendar": "calendar",
}
_DEGREES = {2: "in", 1: "possibly in", 0: "out"}
_RULES = frozenset(
    str(SARC[n])
    for n in ("Clause", "Join", "InclusionCriterion", "ExclusionCriterion", "TreatmentRule")
)
_LOCAL = frozenset(
    str(SARC[n]) for n in ("ConceptSet", "Window", "Qualifier", "Policy", "Ambiguity", "Reading")
)
"""What bears on nothing but what names it."""
_TELLING = frozenset(
    str(SARC[n])
    for n in (
        "Ambiguity",
        "DefinitionRule",
        "DesignFact",
        "Endpoint",
        "Extraction",
        "Reading",
        "SourceRecord",
        "Sponsor",
        "StatusStatement",
        "StudyArm",
        "StudyIntervention",
        "StudySite",
        "TimelineTrack",
        "Trial",
    )
)
"""What bears on no outcome."""


@dataclass(frozen=True)
class Side:
    """One of the two: a knowledge base and a trial of it."""

    kb: KnowledgeBase
    name_of_trial: str
    trial: Trial

    @property
    def terms(self) -> Terminology:
        return self.kb.terms

    @cached_property
    def graph(self) -> Graph:
        graph = Graph()
        for part in (self.kb.trial_graph(self.name_of_trial), self.terms.graph):
            for triple in part:
                graph.add(triple)
        return graph

    @cached_property
    def rules(self) -> dict[str, Criterion]:
        return {c.iri: c for part in self.trial.parts for c in part.criteria}

    @cached_property
    def clauses(self) -> dict[str, Clause]:
        """The clauses in force; of one that both parts have, the one on eligibility."""
        return {i: c for part in reversed(self.trial.parts) for i, c in part.clauses.items()}

    @cached_property
    def joins(self) -> dict[str, str]:
        return {i: j.id for part in self.trial.parts for i, j in part.joins.items()}

    def name(self, iri: str) -> str:
        """Return what a rule is called."""
        rule = self.rules.get(iri) or self.clauses.get(iri)
        return rule.id if rule is not None else self.joins.get(iri) or compact(iri)

    def label(self, iri: str) -> str:
        rule = self.rules.get(iri) or self.clauses.get(iri)
        return rule.text.label if rule is not None else self.trial.labels.get(iri, "")

    @cached_property
    def _closures(self) -> dict[str, dict[str, int]]:
        return {}

    def closure(self, iri: str) -> dict[str, int]:
        """Return the terms that are in a set, certainly (2) or possibly (1)."""
        if iri not in self._closures:
            wanted = self.trial.set_of(iri)
            below = {t for m in wanted.members for t in self.terms.down(m)}
            # A term with anything of the set below it is possibly of it.
            near = below | {t for b in below for t in self.terms.up(b)}
            degrees = {t: wanted.degree_of_term(t, self.terms) for t in near}
            self._closures[iri] = {t: d for t, d in degrees.items() if d}
        return self._closures[iri]


@dataclass
class Comparison:
    """What differs in one trial, and what a search for witnesses needs to know."""

    old: Side
    new: Side
    renames: dict[str, str] = field(default_factory=dict)
    rules: list[RuleChange] = field(default_factory=list)
    things: list[ThingChange] = field(default_factory=list)
    texts: int = 0
    codes: tuple[str, ...] = ()
    shared: bool = False
    """Whether something changed that may bear on any rule."""

    def now(self, iri: str) -> str:
        """Return the name that something old has now."""
        return self.renames.get(iri, iri)

    def before(self, iri: str) -> str:
        """Return the name that something new had."""
        return self._back.get(iri, iri)

    @cached_property
    def _back(self) -> dict[str, str]:
        return {new: old for old, new in self.renames.items()}

    @property
    def told_renames(self) -> tuple[tuple[str, str], ...]:
        names = [(compact(a), compact(b)) for a, b in self.renames.items()]
        for iri in sorted(self.old.rules.keys() | self.old.clauses.keys()):
            now = self.now(iri)
            if now in self.new.rules or now in self.new.clauses:
                names.append((self.old.name(iri), self.new.name(now)))
        return tuple(sorted({(a, b) for a, b in names if a != b}))


def compare(old: Side, new: Side) -> Comparison:
    """Return what differs between two versions of a trial, without witnesses."""
    before, after = Contents(old.graph), Contents(new.graph)
    found = Comparison(old, new, renamed(before, after))
    before = Contents(old.graph, found.renames)
    found.codes = tuple(
        code
        for code in sorted(old.terms.mappings.keys() | new.terms.mappings.keys())
        if _rows(found, code)[0] != _rows(found, code)[1]
    )
    found.rules = list(_rules(found))
    found.things = [*_things(found, before, after), *_mappings(found), *_disjoint(found)]
    found.texts = sum(
        before.texts(iri) != after.texts(found.now(iri))
        for iri in before.names
        if found.now(iri) in after.names
    )
    return found


# -- rules -----------------------------------------------------------------------------------------
def _rules(c: Comparison) -> Iterator[RuleChange]:
    old, new = c.old, c.new
    names = dict.fromkeys((*new.rules, *new.clauses))
    gone = [i for i in (*old.rules, *old.clauses) if c.now(i) not in names]
    for iri in sorted(names, key=lambda i: (new.name(i), i)):
        was = c.before(iri)
        name, label = new.name(iri), new.label(iri)
        if was not in old.rules and was not in old.clauses:
            yield RuleChange(name, iri, label, "added", tuple(_said(new, iri, added=True)))
            continue
        changes = tuple(dict.fromkeys(_of_rule(c, was, iri)))
        if changes:
            yield RuleChange(name, iri, label, "changed", changes)
    for iri in sorted(dict.fromkeys(gone), key=lambda i: (old.name(i), i)):
        told = tuple(_said(old, iri, added=False))
        yield RuleChange(old.name(iri), iri, old.label(iri), "removed", told)


def _said(side: Side, iri: str, *, added: bool) -> Iterator[Change]:
    """Yield what an added or removed rule says."""
    told = []
    if iri in side.rules:
        told.append(("rule", _tree(side, side.rules[iri].root, {})))
    if iri in side.clauses:
        clause = side.clauses[iri]
        told.append(("criterion", side.name(clause.criterion)))
        told.append((clause.component, _whole(side, clause)))
    for aspect, text in told:
        yield Change(aspect, None, text) if added else Change(aspect, text, None)


def _whole(side: Side, clause: Clause) -> str:
    if clause.role is None:
        return "an answer"
    limits = ", ".join(f"{n} {plain(Decimal(v))}" for n, v in clause.limits.items())
    window = local_name(clause.role.window)
    return (
        f"{side.trial.label(clause.role.concept_set, side.terms)}; {limits or 'no limit'}; {window}"
    )


def _of_rule(c: Comparison, was: str, iri: str) -> Iterator[Change]:
    if was in c.old.rules and iri in c.new.rules:
        yield from _of_criterion(c, c.old.rules[was], c.new.rules[iri])
    elif was in c.old.rules or iri in c.new.rules:
        yield Change(
            "is a rule of its own", *(_yes(i) for i in (was in c.old.rules, iri in c.new.rules))
        )
    if was in c.old.clauses and iri in c.new.clauses:
        yield from _of_clause(c, c.old.clauses[was], c.new.clauses[iri])


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _differ(triples: Iterable[tuple[object, ...]]) -> Iterator[Change]:
    """Yield a change for each (what, old, new) whose sides are not the same."""
    for aspect, old, new in triples:
        if old != new:
            yield Change(
                str(aspect), *(None if v is None or v == "" else str(v) for v in (old, new))
            )


def _of_criterion(c: Comparison, old: Criterion, new: Criterion) -> Iterator[Change]:
    compared = [r and compact(r) for r in (old.compares and c.now(old.compares), new.compares)]
    yield from _differ(
        (
            ("kind", old.kind, new.kind),
            ("modality", old.modality, new.modality),
            ("quotation", old.text.quote, new.text.quote),
            ("due", _names(sorted(map(c.now, old.due))), _names(sorted(new.due))),
            ("compares", *compared),
            ("joined", _tree(c.old, old.root, c.renames), _tree(c.new, new.root, {})),
        )
    )
    for window in sorted({*map(c.now, old.due)} & {*new.due}):
        yield from _of_window(c, c.before(window), window, "due: ")


def _names(iris: Iterable[str]) -> str:
    return ", ".join(map(compact, iris))


def _tree(side: Side, node: str, renames: Mapping[str, str]) -> str:
    """Return how clauses are joined, in an order of its own; by IRIs, which renames map."""
    for part in side.trial.parts:
        join = part.joins.get(node)
        if join is not None:
            parts = sorted(_tree(side, child, renames) for child in join.children)
            return f"{join.operator}({', '.join(parts)})"
    return local_name(renames.get(node, node))


def _of_clause(c: Comparison, old: Clause, new: Clause) -> Iterator[Change]:
    unit = f" {new.unit}" if new.unit and new.unit == old.unit and new.unit != "1" else ""
    yield from _differ((("component", old.component, new.component),))
    before, after = old.limits, new.limits
    for name in sorted(before.keys() | after.keys()):
        values = [
            None if name not in limits else plain(Decimal(limits[name])) + unit
            for limits in (before, after)
        ]
        yield from _differ(((name, *values),))
    moved = c.now(old.criterion) != new.criterion
    yield from _differ(
        (
            ("unit", old.unit, new.unit),
            ("settledBy", _named(c.now(old.settled_by or "")), _named(new.settled_by or "")),
            ("attestable", _yes(old.attestable), _yes(new.attestable)),
            (
                "criterion",
                c.old.name(old.criterion) if moved else "",
                c.new.name(new.criterion) if moved else "",
            ),
            ("quotation", old.text.quote, new.text.quote),
            ("executability", old.text.executability, new.text.executability),
            ("resolves", ", ".join(old.text.resolves), ", ".join(new.text.resolves)),
            ("asked by", _questions(c.old.trial, old.iri), _questions(c.new.trial, new.iri)),
        )
    )
    for one, other, prefix in ((old.role, new.role, ""), (old.second, new.second, "paired ")):
        if one is not None and other is not None:
            yield from _of_role(c, one, other, prefix)


def _named(iri: str) -> str:
    return compact(iri) if iri else ""


def _questions(trial: Trial, iri: str) -> str:
    return ", ".join(sorted(q.link_id for q in trial.questions if iri in q.covers))


def _of_role(c: Comparison, old: Role, new: Role, prefix: str) -> Iterator[Change]:
    yield from _of_set(c, old.concept_set, new.concept_set, f"{prefix}set")
    if ANY not in (old.accepted, new.accepted):
        yield from _of_set(c, old.accepted, new.accepted, f"{prefix}accepted")
    else:
        yield from _differ(
            ((f"{prefix}accepted", _named(c.now(old.accepted)), _named(new.accepted)),)
        )
    yield from _of_qualifier(c, old.qualifier, new.qualifier, prefix)
    if not prefix:
        yield from _of_window(c, old.window, new.window, "window: ")
    yield from _of_quantities(c, old.concept_set, new.concept_set)


def _of_set(c: Comparison, old: str, new: str, aspect: str) -> Iterator[Change]:
    """Yield what entered and left a set: as it is written, as it comes out below, and by codes."""
    one, other = c.old.trial.set_of(old), c.new.trial.set_of(new)
    renaming = {c.now(t): d for t, d in c.old.closure(old).items()}
    closure = c.new.closure(new)
    if one.iri in c.old.trial.sets or other.iri in c.new.trial.sets or c.now(old) != new:
        for name in ("members", "excluding"):
            left = {c.now(t) for t in getattr(one, name)} - getattr(other, name)
            came = getattr(other, name) - {c.now(t) for t in getattr(one, name)}
            if left or came:
                word = "excluded" if name == "excluding" else "member"
                yield Change(
                    f"{aspect}: {word}",
                    _terms(c.old.terms, map(c.before, left)),
                    _terms(c.new.terms, came),
                )
    kinds = [c.now(one.kind) if one.kind else "", other.kind or ""]
    yield from _differ(((f"{aspect}: recorded as", *map(_named, kinds)),))
    yield from _differ(((f"{aspect}: by name", _yes(one.by_name), _yes(other.by_name)),))
    for low, high in ((2, 0), (0, 2), (2, 1), (1, 2), (1, 0), (0, 1)):
        turned = sorted(
            t
            for t in renaming.keys() | closure.keys()
            if (renaming.get(t, 0), closure.get(t, 0)) == (low, high)
        )
        if turned:
            names = _terms(c.new.terms, turned)
            yield Change(
                f"{aspect}: {_DEGREES[low]} to {_DEGREES[high]}", *_sided(names, low, high)
            )
    yield from _of_codes(c, one, other, aspect)


def _sided(names: str | None, low: int, high: int) -> tuple[str | None, str | None]:
    return (names, None) if low > high else (None, names)


def _terms(terms: Terminology, iris: Iterable[str]) -> str | None:
    return ", ".join(sorted(f"{terms.label(i)} ({compact(i)})" for i in iris)) or None


def _of_codes(c: Comparison, one: ConceptSet, other: ConceptSet, aspect: str) -> Iterator[Change]:
    for code in c.codes:
        low, high = (
            wanted.degree(coded, terms) if coded.readable else 0
            for wanted, coded, terms in (
                (one, c.old.terms.code((code,)), c.old.terms),
                (other, c.new.terms.code((code,)), c.new.terms),
            )
        )
        if low != high:
            text = c.new.terms.code_text(code)
            yield Change(
                f"{aspect}: code {_DEGREES[low]} to {_DEGREES[high]}", *_sided(text, low, high)
            )


def _of_qualifier(c: Comparison, old: str, new: str, prefix: str) -> Iterator[Change]:
    one, other = (
        {}
        if iri == ANY
        else {(r.axis, bool(r.among)): r for r in side.trial.qualifiers[iri].requires}
        for side, iri in ((c.old, old), (c.new, new))
    )
    for axis, among in sorted(one.keys() | other.keys()):
        name = f"{prefix}qualifier {local_name(axis)}{'' if among else ' not'}"
        a, b = one.get((axis, among)), other.get((axis, among))
        sets = [None if r is None else r.among or r.not_among or "" for r in (a, b)]
        if sets[0] is not None and sets[1] is not None:
            yield from _of_set(c, sets[0], sets[1], name)
        else:
            yield Change(name, *(None if s is None else compact(s) for s in sets))


def _of_window(c: Comparison, old: str, new: str, prefix: str) -> Iterator[Change]:
    one, other = c.old.trial.windows.get(old), c.new.trial.windows.get(new)
    if one is None or other is None:
        yield from _differ(((prefix.rstrip(": "), _window(c.old, old), _window(c.new, new)),))
        return
    for name, words in _FIELDS.items():
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, str):
            a = c.now(a)
        if a != b:
            yield Change(prefix + words, *(_value(v) for v in (a, b)))
    for anchor in {one.anchor, one.end_anchor} - {None}:
        assert anchor is not None
        if c.now(anchor) in (other.anchor, other.end_anchor):
            yield from _of_anchor(c, anchor, prefix)
    for name in ("ends_before", "starts_after"):
        near = getattr(one, name)
        if near is not None and c.now(near) == getattr(other, name):
            yield from _of_window(c, near, c.now(near), f"{prefix}{_FIELDS[name]}: ")


def _value(value: object) -> str | None:
    if value is None:
        return None
    return _yes(value) if isinstance(value, bool) else compact(str(value))


def _window(side: Side, iri: str) -> str:
    window = side.trial.windows.get(iri)
    if window is None:
        return "at any time" if iri == EVER else compact(iri)
    told = [
        f"{words} {_value(getattr(window, name))}"
        for name, words in _FIELDS.items()
        if getattr(window, name) not in (None, False)
    ]
    return ", ".join(told)


def _of_anchor(c: Comparison, anchor: str, prefix: str) -> Iterator[Change]:
    texts = [
        Contents(side.graph, renames).of(iri)
        for side, iri, renames in (
            (c.old, anchor, c.renames),
            (c.new, c.now(anchor), dict[str, str]()),
        )
    ]
    if texts[0] != texts[1]:
        name = f"{prefix}anchor {local_name(c.now(anchor))}"
        yield Change(name, *(_content(text) for text in texts))


def _content(content: Mapping[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{local_name(n)} {' '.join(values)}" for n, values in sorted(content.items()))


def _of_quantities(c: Comparison, old: str, new: str) -> Iterator[Change]:
    for term in sorted(c.new.closure(new)):
        if c.now(c.before(term)) != term or c.before(term) not in c.old.closure(old):
            continue
        one, other = c.old.terms.quantity_of(c.before(term)), c.new.terms.quantity_of(term)
        if one == other:
            continue
        name = c.new.terms.label(term)
        yield from _differ(
            (f"{words} of {name}", *(_quantity(q, what) for q in (one, other)))
            for what, words in (
                ("unit", "unit"),
                ("accepts", "accepted units"),
                ("least", "least plausible value"),
                ("most", "greatest plausible value"),
                ("whole", "whole number"),
                ("step", "step"),
            )
        )


def _quantity(quantity: Quantity | None, what: str) -> str | None:
    value = None if quantity is None else getattr(quantity, what)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(
            f"{unit} × {plain(factor)}" + (f" / {plain(by)}" if by != 1 else "")
            for unit, (factor, by) in sorted(value.items())
        )
    return plain(value) if isinstance(value, Decimal) else _value(value)


# -- everything else -------------------------------------------------------------------------------
def _things(c: Comparison, before: Contents, after: Contents) -> Iterator[ThingChange]:
    mentions = after.mentions()
    in_force = c.new.rules.keys() | c.new.clauses.keys() | c.new.joins.keys()
    gone_rules = c.old.rules.keys() | c.old.clauses.keys() | c.old.joins.keys()
    for iri in sorted({*after.names, *map(c.now, before.names)}):
        if iri in in_force or c.before(iri) in gone_rules:
            continue
        was = c.before(iri)
        old = before.of(was) if was in before.names else None
        new = after.of(iri) if iri in after.names else None
        if old == new or not (old or new):
            continue
        # Of a rule that is in force under some reading alone nobody else tells.
        types = {*before.types(was), *after.types(iri)}
        changes = tuple(
            Change(compact(name), *_sides((old or {}).get(name), (new or {}).get(name)))
            for name in sorted({*(old or {}), *(new or {})})
            if (old or {}).get(name) != (new or {}).get(name)
        )
        if not changes:
            continue
        reached = _reached(c, iri, mentions, types)
        if not types & _TELLING and not (types & _RULES) and _bears(c, iri, types, mentions):
            c.shared = True
        kind = "added" if old is None else "removed" if new is None else "changed"
        yield ThingChange(compact(iri), iri, _area(types), kind, changes, reached)


def _sides(
    old: tuple[str, ...] | None, new: tuple[str, ...] | None
) -> tuple[str | None, str | None]:
    """Return what is in one alone."""
    a, b = old or (), new or ()
    return (
        ", ".join(v for v in a if v not in b) or None,
        ", ".join(v for v in b if v not in a) or None,
    )


def _area(types: set[str]) -> str:
    plain_names = sorted(
        "".join(f" {ch.lower()}" if ch.isupper() else ch for ch in local_name(t)).strip()
        for t in types
    )
    return ", ".join(plain_names) or "statement"


def _bears(c: Comparison, iri: str, types: set[str], mentions: Mapping[str, set[str]]) -> bool:
    """Whether a thing may bear on rules that do not name it, or what names it, themselves."""
    if not types & _LOCAL:
        return True
    todo, seen = [iri], {iri}
    in_force = c.new.rules.keys() | c.new.clauses.keys() | c.new.joins.keys()
    while todo:
        for name in mentions.get(todo.pop(), ()):
            if name in seen or name in in_force:
                continue
            seen.add(name)
            of = {str(t) for t in c.new.graph.objects(URIRef(name), RDF.type)}
            if not of & (_LOCAL | _TELLING | _RULES):
                return True
            if not of & (_TELLING | _RULES):
                todo.append(name)
    return False


def _reached(
    c: Comparison,
    iri: str,
    mentions: Mapping[str, set[str]],
    types: set[str],
) -> tuple[str, ...]:
    """Return the names of the rules in force that name a thing, or what names it, and so on."""
    if types & {str(SARC.Ambiguity), str(SARC.Reading)}:
        wanted = {n for s, n in _affected(c, iri)}
        return tuple(sorted(wanted))
    found: set[str] = set()
    todo, seen = [iri], {iri}
    in_force = c.new.rules.keys() | c.new.clauses.keys()
    while todo:
        name = todo.pop()
        for other in mentions.get(name, ()):
            if other in seen:
                continue
            seen.add(other)
            if other in in_force:
                found.add(c.new.name(other))
                continue
            of = {str(t) for t in c.new.graph.objects(URIRef(other), RDF.type)}
            if of & (_TELLING | _RULES) or other.startswith(str(SARC)):
                continue
            todo.append(other)
            for made in (SARC.gives, SARC.addsConcept, SARC.settles):
                todo += [str(o) for o in c.new.graph.objects(URIRef(other), made)]
        if name == iri:
            for made in (SARC.gives, SARC.addsConcept, SARC.settles):
                todo += [str(o) for o in c.new.graph.objects(URIRef(name), made)]
                todo += [c.now(str(o)) for o in c.old.graph.objects(URIRef(c.before(name)), made)]
    return tuple(sorted(found))


def _affected(c: Comparison, iri: str) -> Iterator[tuple[str, str]]:
    graph = c.new.graph
    entries = [URIRef(iri), *graph.subjects(SARC.hasReading, URIRef(iri))]
    for entry in entries:
        for rule in graph.objects(entry, SARC.affects):
            yield str(entry), c.new.name(str(rule))


def _mappings(c: Comparison) -> Iterator[ThingChange]:
    for code in c.codes:
        c.shared = True
        old, new = _rows(c, code)
        kind = "added" if not old else "removed" if not new else "changed"
        name = c.new.terms.code_text(code)
        sides = (", ".join(sorted(a - b)) or None for a, b in ((old, new), (new, old)))
        yield ThingChange(name, code, "mapping of a code", kind, (Change("means", *sides),))


def _rows(c: Comparison, code: str) -> tuple[set[str], set[str]]:
    old, new = (
        {
            f"{predicate} {compact(now(term))}"
            for term, predicate in side.terms.mappings.get(code, ())
        }
        for side, now in ((c.old, c.now), (c.new, str))
    )
    return old, new


def _disjoint(c: Comparison) -> Iterator[ThingChange]:
    one = {tuple(sorted(map(c.now, pair))) for pair in c.old.terms.disjoint}
    other = {tuple(sorted(pair)) for pair in c.new.terms.disjoint}
    for pair in sorted(one ^ other):
        c.shared = True
        names = " and ".join(map(compact, pair))
        sides = ("disjoint", None) if pair in one else (None, "disjoint")
        kind = "removed" if pair in one else "added"
        yield ThingChange(names, pair[0], "disjointness", kind, (Change("declared", *sides),))
