"""Can the rules be met, alone and together; what follows from what; what excludes what, and for whom.

A solver looks for complete records (`sarc_kb.audit.worlds`) in which clauses and criteria come out
one way or the other. What it finds is written as a patient record that both engines judge; a record
on which they do not agree with it is an error of this part. What it does *not* find holds over
complete records, within that encoding: no engine can confirm that there is no such patient.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

from rdflib import URIRef

from sarc_kb.assessment import Outcome
from sarc_kb.audit.section import Request, Section
from sarc_kb.errors import Finding, Severity, UsageError
from sarc_kb.facts import Fact
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDFS
from sarc_kb.rules import ANY, Clause, Criterion, Trial
from sarc_kb.terminology import Terminology

if TYPE_CHECKING:
    from sarc_kb.audit.formulas import Formula
    from sarc_kb.audit.witness import Witness, Writer
    from sarc_kb.audit.worlds import Worlds

NEEDS = ("z3", "ibis", "duckdb", "pyarrow")
"""Packages that only this part needs, all of the extra ``audit``."""
PATIENCE = 20_000
"""Milliseconds the solver may think about one question."""
KINDS = 4
"""Kinds of one fact that a conflict is told of, each with a record of its own."""
NAMES = 6
"""Terms that are named of many alike."""

ALWAYS, AT_ENTRY, ONCE, BOTH = 0, 1, 2, 3
SUPPOSING = {
    ALWAYS: "always",
    AT_ENTRY: "if every date that windows count from falls on entry",
    ONCE: "if nothing is on record twice",
    BOTH: "if nothing is on record twice and every date that windows count from falls on entry",
}
"""What an implication supposes, the weakest first; both others are tried before `BOTH`."""


@dataclass(frozen=True)
class Told:
    """Something that was found: its kind, the rules it is about, and records that show it."""

    kind: str
    severity: Severity
    code: str
    rules: tuple[str, ...]
    text: str
    why: str
    fix: str
    shows: tuple[tuple[str, Witness], ...] = ()
    register: tuple[str, ...] = ()
    supposing: str = ""
    details: tuple[str, ...] = ()


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return what follows from the rules on eligibility of one trial, and what contradicts what.

    Raises:
        UsageError: the solver, or the second engine, is not installed.
    """
    for package in NEEDS:
        try:
            import_module(package)
        except ImportError:
            raise _not_installed(package) from None
    study = Study(kb, kb.compile(request.trial))
    told = study.findings()
    faults = study.confirm(told)
    if request.full:
        faults += _reasoned(kb)
    return _section(study, told, faults, full=request.full)


def _not_installed(package: str) -> UsageError:
    return UsageError(
        Finding(
            "USE062",
            "error",
            "audit logic",
            f"the package {package} is not installed",
            "a solver looks for patients that meet the rules, and both engines judge them",
            "install it with: pip install 'sarc-kb[audit]'",
        )
    )


@dataclass(frozen=True)
class Unit:
    """A criterion or clause as one thing that passes or fails. ``criterion``: the one it is of."""

    iri: str
    id: str
    label: str
    criterion: Criterion
    clause: Clause | None


@dataclass
class Study:
    """One trial under study: its worlds, and a solver that knows them."""

    kb: KnowledgeBase
    trial: Trial
    undecided: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        import z3

        from sarc_kb.audit.witness import Writer
        from sarc_kb.audit.worlds import Worlds

        self.z3 = z3
        self.worlds: Worlds = Worlds(self.trial, self.kb.terms)
        self.writer: Writer = Writer(self.worlds)
        self.solver = z3.Solver()
        self.solver.set("timeout", PATIENCE)
        self.solver.add(*self.worlds.rules)
        self.asked = 0
        self.dead: set[str] = set()
        self._pool: list[tuple[int, int]] = []
        # A clause that is a criterion itself stands once, as the criterion.
        self.units: list[Unit] = []
        for criterion in self.trial.criteria:
            whole = Unit(criterion.root, criterion.id, criterion.text.label, criterion, None)
            self.units.append(whole)
            for iri in criterion.clauses:
                if iri != criterion.root:
                    clause = self.trial.clauses[iri]
                    self.units.append(Unit(iri, clause.id, clause.text.label, criterion, clause))
        self.wholes = [u for u in self.units if u.clause is None]
        self.place = {u.id: n for n, u in enumerate(self.units)}

    @property
    def terms(self) -> Terminology:
        return self.kb.terms

    # -- questions to the solver -------------------------------------------------------------------
    def passes(self, unit: Unit | str) -> Formula:
        return self.worlds.passes[unit if isinstance(unit, str) else unit.iri]

    def fails(self, unit: Unit | str) -> Formula:
        return self.worlds.fails[unit if isinstance(unit, str) else unit.iri]

    def ask(self, *formulas: Formula, about: Iterable[int] | None = None) -> Any:
        """Return a model of the formulas, or None. ``about``: families of which something may be on
        record; by default all."""
        self.asked += 1
        self.solver.push()
        self.solver.add(*formulas)
        if about is not None:
            self.solver.add(*self._without(about))
        answer = self.solver.check()
        model = self.solver.model() if answer == self.z3.sat else None
        self.solver.pop()
        if answer == self.z3.unknown:
            self.undecided.append(str(formulas)[:120])
            return _UNDECIDED
        return model

    def _without(self, about: Iterable[int]) -> list[Formula]:
        kept = set(about)
        return [
            self.z3.Not(slot.there)
            for family in self.worlds.families
            if family.number not in kept
            for slot in family.slots
        ]

    def shown(self, *formulas: Formula, about: Iterable[int]) -> Witness | None:
        """Return a record in which the formulas hold, with no fact that they can do without."""
        kept = list(about)
        model = self.ask(*formulas, about=kept)
        if model is None or model is _UNDECIDED:
            return None
        self.solver.push()
        self.solver.add(*formulas, *self._without(kept))
        for family in self.worlds.families:
            for slot in reversed(family.slots):
                if not self.z3.is_true(model.eval(slot.there, model_completion=True)):
                    self.solver.add(self.z3.Not(slot.there))
                    continue
                self.solver.push()
                self.solver.add(self.z3.Not(slot.there))
                if self.solver.check() == self.z3.sat:
                    model = self.solver.model()
                    self.solver.pop()
                    self.solver.add(self.z3.Not(slot.there))
                else:
                    self.solver.pop()
        self.solver.pop()
        return self.writer.witness(model)

    def reads(self, *units: Unit | str) -> frozenset[int]:
        return frozenset().union(
            *(self.worlds.reads(u if isinstance(u, str) else u.iri) for u in units)
        )

    def share(self, one: Unit, other: Unit) -> frozenset[int]:
        return self.reads(one) & self.reads(other)

    @cached_property
    def suppositions(self) -> dict[int, tuple[Formula, ...]]:
        entry, once = self.worlds.all_at_entry(), self.worlds.each_once()
        return {ALWAYS: (), AT_ENTRY: entry, ONCE: once, BOTH: (*entry, *once)}

    # -- everything --------------------------------------------------------------------------------
    def findings(self) -> list[Told]:
        found = list(self._alone())
        self.dead = {rule for told in found for rule in told.rules}
        together = list(self._together())
        found += together
        pairs = list(self._never_both())
        found += pairs
        doubles = list(self._duplicates())
        found += doubles
        alike = {frozenset(told.rules) for told in doubles}
        found += self._implied(alike)
        found += self._undeciding()
        if not together:
            found += self._closed_ways()
        found += self._conflicts()
        found += self._in_and_out()
        found += self._general()
        found += self._coverage()
        return found

    def _alone(self) -> Iterator[Told]:
        """Yield what can never pass, or never fail."""
        for unit in self.units:
            for how, formula in (("pass", self.passes(unit)), ("fail", self.fails(unit))):
                if self.ask(formula, about=self.reads(unit)) is None:
                    what = "criterion" if unit.clause is None else "clause"
                    never = "unreachable" if how == "pass" else "vacuous"
                    yield Told(
                        f"never-{how}",
                        "error",
                        "LOGIC001" if how == "pass" else "LOGIC002",
                        (unit.id,),
                        f"no patient can ever {how} this {what} ({never})",
                        "nobody could be eligible"
                        if how == "pass"
                        else "it is no requirement of anybody",
                        "look at its limits, its window and its values",
                    )

    def _together(self) -> Iterator[Told]:
        """Yield that all criteria cannot be met together, with a smallest set that cannot."""
        alive = [u for u in self.wholes if self._alive(u)]
        self.solver.push()
        names = {self.z3.Bool(f"all:{u.id}"): u for u in alive}
        for name, unit in names.items():
            self.solver.add(self.z3.Implies(name, self.passes(unit)))
        if self.solver.check(*names) == self.z3.unsat:
            core = list(self.solver.unsat_core())
            for name in list(core):
                rest = [n for n in core if not n.eq(name)]
                if self.solver.check(*rest) == self.z3.unsat:
                    core = rest
            ids = tuple(sorted(unit.id for name, unit in names.items() if name in core))
            yield Told(
                "unsatisfiable",
                "error",
                "LOGIC003",
                ids,
                "no patient can pass all criteria; already these exclude one another",
                "nobody could be eligible",
                "look at what they ask of one fact",
            )
        self.solver.pop()

    def _alive(self, unit: Unit) -> bool:
        """Whether it can pass and fail."""
        return unit.id not in self.dead

    def _never_both(self) -> Iterator[Told]:
        for one, other in combinations(filter(self._alive, self.wholes), 2):
            if not self.share(one, other):
                continue
            about = self.reads(one, other)
            if self.ask(self.passes(one), self.passes(other), about=about) is None:
                shows = [
                    (f"passes {a.id}", self.shown(self.passes(a), about=self.reads(a)))
                    for a in (one, other)
                ]
                yield Told(
                    "never-both",
                    "error",
                    "LOGIC004",
                    (one.id, other.id),
                    f"no patient can pass both {one.id} ({one.label}) and {other.id}"
                    f" ({other.label})",
                    "nobody could be eligible",
                    "one of them is wrong",
                    _kept(shows),
                    self._register(one, other),
                )

    def _duplicates(self) -> Iterator[Told]:
        """Yield pairs of clauses, and of criteria, that always come out alike."""
        found: list[frozenset[Criterion]] = []
        for group in (self.wholes, [u for u in self.units if u.clause is not None]):
            for one, other in combinations(filter(self._alive, group), 2):
                reads = self.reads(one)
                if not reads or reads != self.reads(other) or self._refuted(one, other):
                    continue
                if any({one.criterion, other.criterion} == set(pair) for pair in found):
                    continue
                about = reads
                apart = self.z3.Or(
                    self.passes(one) != self.passes(other), self.fails(one) != self.fails(other)
                )
                if self.ask(apart, about=about) is None:
                    if group is self.wholes:
                        found.append(frozenset((one.criterion, other.criterion)))
                    shows = [
                        (f"passes both {one.id} and {other.id}", self.passes(one)),
                        (f"fails both {one.id} and {other.id}", self.fails(one)),
                    ]
                    yield Told(
                        "duplicate",
                        "warning",
                        "LOGIC005",
                        (one.id, other.id),
                        f"{one.id} ({one.label}) and {other.id} ({other.label}) always come out"
                        " alike",
                        "a duplicate has to be changed twice, and is told twice",
                        "leave one out, if the protocol does not state both",
                        _kept((what, self.shown(f, about=about)) for what, f in shows),
                        self._register(one, other),
                    )

    # -- what follows from what --------------------------------------------------------------------
    def _refuted(self, one: Unit, other: Unit) -> bool:
        """Whether a world that was met passes ``one`` and fails ``other``."""
        first, second = 1 << self.place[one.id], 1 << self.place[other.id]
        return any(p & first and f & second for p, f in self._pool)

    def _remember(self, model: Any) -> None:
        passed = failed = 0
        for unit in self.units:
            bit = 1 << self.place[unit.id]
            if self.z3.is_true(model.eval(self.passes(unit), model_completion=True)):
                passed |= bit
            elif self.z3.is_true(model.eval(self.fails(unit), model_completion=True)):
                failed |= bit
        self._pool.append((passed, failed))

    def _implied(self, alike: set[frozenset[str]]) -> list[Told]:
        """Return what cannot fail where something else passes, under the weakest supposition."""
        held: list[tuple[Unit, Unit, int]] = []
        for one, other in permutations(filter(self._alive, self.units), 2):
            if one.criterion is other.criterion or frozenset((one.id, other.id)) in alike:
                continue
            if not self.share(one, other) or self._refuted(one, other):
                continue
            about = self.reads(one, other)
            strongest = self.suppositions[BOTH]
            model = self.ask(self.passes(one), self.fails(other), *strongest, about=about)
            if model is _UNDECIDED:
                continue
            if model is not None:
                self._remember(model)
                continue
            for level in (ALWAYS, AT_ENTRY, ONCE, BOTH):
                supposed = self.suppositions[level]
                if self.ask(self.passes(one), self.fails(other), *supposed, about=about) is None:
                    break
            if all(
                self.ask(formula, *self.suppositions[level], about=about)
                for formula in (self.passes(one), self.fails(other))
            ):
                held.append((one, other, level))
        found = [self._implication(*pair) for pair in held if not _weaker(pair, held)]
        return [*found, *self._implied_by_all({p[1].id for p in held if p[2] == ALWAYS})]

    def _implication(self, one: Unit, other: Unit, level: int) -> Told:
        about = self.reads(one, other)
        supposed = self.suppositions[level]
        shows = [
            (
                f"passes {one.id}, and {other.id} with it",
                self.shown(self.passes(one), self.passes(other), *supposed, about=about),
            ),
            (
                f"fails {other.id}, and does not pass {one.id}",
                self.shown(self.fails(other), *supposed, about=about),
            ),
        ]
        if level != ALWAYS:
            shows.append(
                (
                    f"not so in general: passes {one.id} and fails {other.id}",
                    self.shown(self.passes(one), self.fails(other), about=about),
                )
            )
        return Told(
            "implied",
            "info",
            "LOGIC010",
            (one.id, other.id),
            f"who passes {one.id} ({one.label}) cannot fail {other.id} ({other.label})",
            "the second adds nothing for them, or only where something is not recorded",
            "nothing, if the protocol states both",
            _kept(shows),
            self._register(one, other),
            SUPPOSING[level],
        )

    def _implied_by_all(self, known: set[str]) -> Iterator[Told]:
        alive = [u for u in self.wholes if self._alive(u)]
        for unit in alive:
            others = [self.passes(u) for u in alive if u is not unit]
            if unit.id in known or self.ask(self.fails(unit), *others) is not None:
                continue
            if self.ask(*others) is None:
                continue
            yield Told(
                "implied-by-all",
                "info",
                "LOGIC011",
                (unit.id,),
                f"who passes all other criteria cannot fail {unit.id} ({unit.label})",
                "it turns nobody away alone",
                "nothing, if the protocol states it",
                _kept([("fails it", self.shown(self.fails(unit), about=self.reads(unit)))]),
            )

    def _undeciding(self) -> Iterator[Told]:
        """Yield clauses that fail only with another clause of the same conjunction."""
        for criterion in self.trial.criteria:
            join = self.trial.joins.get(criterion.root)
            if join is None or join.operator != "and":
                continue
            for child in join.children:
                rest = [self.z3.Not(self.fails(c)) for c in join.children if c != child]
                about = self.reads(criterion.root)
                if self.ask(self.fails(child), *rest, about=about) is None and (
                    self.ask(self.fails(child), about=about) is not None
                ):
                    name = self._name(child)
                    yield Told(
                        "never-decides",
                        "info",
                        "LOGIC012",
                        (criterion.id, name),
                        f"{name} never fails {criterion.id} alone: another part fails with it",
                        "it can only leave the criterion open",
                        "nothing, if the protocol states it",
                        _kept([(f"fails {name}", self.shown(self.fails(child), about=about))]),
                    )

    def _name(self, node: str) -> str:
        join = self.trial.joins.get(node)
        return join.id if join is not None else self.trial.clauses[node].id

    # -- what excludes what ------------------------------------------------------------------------
    def _closed_ways(self) -> Iterator[Told]:
        """Yield alternatives of a criterion that nobody who passes another one can use."""
        for criterion in self.trial.criteria:
            for join in self._alternatives(criterion):
                for way in join.children:
                    yield from self._closed(criterion, join.children, way)

    def _alternatives(self, criterion: Criterion) -> Iterator[Any]:
        stack = [criterion.root]
        while stack:
            join = self.trial.joins.get(stack.pop())
            if join is not None:
                stack += join.children
                if join.operator == "or":
                    yield join

    def _closed(self, criterion: Criterion, ways: Sequence[str], way: str) -> Iterator[Told]:
        whole = next(u for u in self.wholes if u.criterion is criterion)
        alone = [self.z3.Not(self.passes(w)) for w in ways if w != way]
        used = (self.passes(whole), self.passes(way))
        for other in self.wholes:
            if other is whole or not self._alive(other) or not self.share(whole, other):
                continue
            about = self.reads(whole, other)
            for sole, formulas in ((False, used), (True, (*used, *alone))):
                if self.ask(*formulas, self.passes(other), about=about) is not None:
                    continue
                if self.ask(*formulas, about=about) is None:
                    continue
                name = self._name(way)
                rely = f"rely on {name} alone" if sole else f"use {name}"
                yield Told(
                    "closed-way",
                    "info",
                    "LOGIC013",
                    (whole.id, name, other.id),
                    f"who passes {other.id} ({other.label}) cannot {rely} to pass {whole.id}",
                    "this way into the trial is open to nobody",
                    "nothing, if the protocol means it",
                    _kept([(f"passes {whole.id} so", self.shown(*formulas, about=about))]),
                    self._register(whole, other),
                )
                break

    def _conflicts(self) -> Iterator[Told]:
        """Yield pairs of an inclusion and another criterion with a fact that the one needs and that
        fails the other: by what it says, or only because windows are counted from its date."""
        for one, other in permutations(filter(self._alive, self.wholes), 2):
            if one.criterion.kind != "inclusion":
                continue
            shared = sorted(self.share(one, other))
            for kind, level in (("conflict", AT_ENTRY), ("conflict-of-dates", ALWAYS)):
                found = [c for n in shared if (c := self._conflict(one, other, n, level))]
                if found:
                    yield self._in_conflict(one, other, kind, found)
                    break

    def _in_conflict(
        self, one: Unit, other: Unit, kind: str, found: Sequence[list[tuple[str, Witness | None]]]
    ) -> Told:
        whom = "; ".join(dict.fromkeys(text for shows in found for text, _ in shows))
        what = f"{one.id} ({one.label}) pass and {other.id} ({other.label}) fail"
        by_date = kind == "conflict-of-dates"
        text = f"one fact makes {what}"
        if by_date:
            text = f"the date of one fact, which windows are counted from, makes {what}"
        return Told(
            kind,
            "info",
            "LOGIC021" if by_date else "LOGIC020",
            (one.id, other.id),
            f"{text}: {whom}",
            "who has such a fact is not eligible with it, and not without it",
            "nothing, if the protocol means it",
            _kept(
                (f"passes {one.id} and fails {other.id}, by: {text}", witness)
                for shows in found
                for text, witness in shows
            ),
            self._register(one, other),
            details=(f"windows counted from: {self._counted_from(one, other)}",) if by_date else (),
        )

    def _counted_from(self, *units: Unit) -> str:
        """Return the anchors, entry apart, of the windows that criteria look into."""
        anchors = {
            self.trial.windows[role.window].anchor
            for unit in units
            for iri in unit.criterion.clauses
            for role in (self.trial.clauses[iri].role,)
            if role is not None and role.window in self.trial.windows
        }
        moved = sorted(a for a in anchors if self.trial.anchors.get(a))
        return ", ".join(self.trial.label(a, self.terms) for a in moved) or "other dates"

    def _conflict(
        self, one: Unit, other: Unit, number: int, level: int
    ) -> list[tuple[str, Witness | None]]:
        """Return kinds of facts of one family, some with a record: with the fact the first passes
        and the second fails, without it the first does not pass and the second does not fail."""
        family = next(f for f in self.worlds.families if f.number == number)
        slot = family.slots[0]
        rename, copies = self._without_one(number)
        sides = (
            self.passes(one),
            self.fails(other),
            slot.there,
            *copies,
            self.z3.Not(self.z3.substitute(self.passes(one), *rename)),
            self.z3.Not(self.z3.substitute(self.fails(other), *rename)),
            *self.suppositions[level],
            *(self.z3.substitute(s, *rename) for s in self.suppositions[level]),
        )
        about = self.reads(one, other)
        shows: dict[str, Witness | None] = {}
        blocked: list[Formula] = []
        for _ in range(KINDS):
            model = self.ask(*sides, *blocked, about=about)
            if model is None or model is _UNDECIDED:
                break
            witness = None
            # Records that differ in the dated fact alone show no more than one of them.
            if not shows or level != ALWAYS:
                witness = self.shown(*sides, *blocked, about=about)
            if witness is None:
                fact = self.writer.fact(slot, model)
            else:
                fact = next(f for f in witness.record.facts if f.id == slot.name)
            shows.setdefault(self._kind_of_fact(fact), witness)
            blocked.append(self._other_kind(slot, fact))
        return list(shows.items())

    def _without_one(self, number: int) -> tuple[list[tuple[Formula, Formula]], list[Formula]]:
        """Return names for everything defined as it is without the first fact of a family, and
        their definitions."""
        if number not in self._copies:
            family = next(f for f in self.worlds.families if f.number == number)
            names = {
                rule.arg(0).decl().name(): rule.arg(0)
                for rule in self.worlds.definitions
                if self.z3.is_eq(rule) and self.z3.is_const(rule.arg(0))
            }
            rename = [(family.slots[0].there, self.z3.BoolVal(False))]
            rename += [
                (term, self.z3.Const(f"{name} without", term.sort()))
                for name, term in names.items()
            ]
            copies = [self.z3.substitute(rule, *rename) for rule in self.worlds.definitions]
            self._copies[number] = (rename, copies)
        return self._copies[number]

    @cached_property
    def _copies(self) -> dict[int, tuple[list[tuple[Formula, Formula]], list[Formula]]]:
        return {}

    def _other_kind(self, slot: Any, fact: Fact) -> Formula:
        """Return that the fact is of another kind: another concept, or another coded value."""
        other = []
        for choice, terms in ((slot.concept, fact.concepts), (slot.value, fact.value_concepts)):
            if choice is not None and choice.variable is not None and terms:
                other.append(choice.variable != choice.terms.index(terms[0]))
        return self.z3.Or(*other) if other else self.z3.BoolVal(False)

    def _kind_of_fact(self, fact: Fact) -> str:
        text = ", ".join(self._named(c) for c in fact.concepts)
        if fact.value_concepts:
            text += ": " + ", ".join(self._named(v) for v in fact.value_concepts)
        return text

    def _named(self, cell: str) -> str:
        """Return the terms that a cell stands for, by name."""
        alike = self.worlds.alike.get(cell, (cell,))
        names = [self.trial.label(t, self.terms) for t in alike]
        return _listed(names, " or ")

    # -- the ontology's side -----------------------------------------------------------------------
    def _same_thing(self) -> Iterator[tuple[Unit, list[Clause], Unit, Clause]]:
        """Yield an inclusion with those of its clauses that look at the coded value of one thing,
        and an exclusion with a clause that looks at it too."""
        valued: list[tuple[Unit, str, list[Clause]]] = []
        for whole in self.wholes:
            things: dict[str, list[Clause]] = {}
            for clause in (self.trial.clauses[iri] for iri in whole.criterion.clauses):
                role = clause.role
                if role and role.accepted != ANY and clause.component in ("latest", "some"):
                    things.setdefault(role.concept_set, []).append(clause)
            valued += [(whole, thing, clauses) for thing, clauses in things.items()]
        for (one, thing, mine), (other, same, others) in permutations(valued, 2):
            kinds = (one.criterion.kind, other.criterion.kind)
            if kinds == ("inclusion", "exclusion") and thing == same:
                for clause in others:
                    yield one, mine, other, clause

    def _values(self, mine: Sequence[Clause], other: Clause) -> dict[str, tuple[int, int]]:
        """Return the degree to which terms are among the values that all of some clauses accept,
        and among those that another one accepts."""
        sets = [c.role.accepted for c in (*mine, other) if c.role is not None]
        concerned = sorted(
            {t for s in sets for m in self.trial.set_of(s).members for t in self.terms.down(m)}
        )
        return {
            t: (
                min(self.worlds.degree(t, s) for s in sets[:-1]),
                self.worlds.degree(t, sets[-1]),
            )
            for t in concerned
        }

    def _tops(self, terms: Iterable[str]) -> list[str]:
        """Return the most general of some terms, those with most below them first."""
        found = set(terms)
        tops = [t for t in found if not (self.terms.up(t) - {t}) & found]
        return sorted(tops, key=lambda t: (-len(self.terms.down(t)), t))

    def _in_and_out(self) -> Iterator[Told]:
        for one, mine, other, clause in self._same_thing():
            found = self._values(mine, clause).items()
            terms = self._tops(t for t, degrees in found if degrees == (2, 0))
            if not terms:
                continue
            names = [self.trial.label(t, self.terms) for t in terms]
            expected = {c.id: Outcome.PASS for c in mine if c.component == "latest"}
            witness = self._valued(mine, clause, terms[0], expected | {clause.id: Outcome.FAIL})
            yield Told(
                "in-scope-and-excluded",
                "info",
                "LOGIC030",
                (one.id, other.id),
                f"in scope of {one.id} and excluded by {other.id}: {_listed(names, ', ')}",
                "the exclusion decides: who fails one criterion is not eligible",
                "nothing, if the register says so",
                ((f"passes {one.id} in this, fails {other.id}", witness),),
                self._register(one, other),
                details=tuple(self._chain(t, mine[0]) for t in terms),
            )

    def _general(self) -> Iterator[Told]:
        for one, mine, other, clause in self._same_thing():
            found = self._values(mine, clause).items()
            terms = [t for t, degrees in found if degrees == (1, 1)]
            if not terms:
                continue
            # The most telling ones: what is just above the border between in and out.
            terms.sort(key=lambda t: (len(self.terms.down(t)), t))
            names = [self.trial.label(t, self.terms) for t in terms]
            codes = [
                self.terms.code_text(code)
                for code, rows in sorted(self.terms.mappings.items())
                if any(term in terms for term, _ in rows)
            ]
            open_ = [c for c in (*mine, clause) if self._opens(c, terms[0])]
            expected = {c.id: Outcome.UNDETERMINED for c in open_ if c.component == "latest"}
            witness = self._valued(mine, clause, terms[0], expected)
            yield Told(
                "open-for-both",
                "info",
                "LOGIC031",
                (one.id, other.id),
                f"too general for both {one.id} and {other.id}: {_listed(names, ', ')}"
                + (f"; {len(codes)} codes say no more, such as {codes[0]}" if codes else ""),
                "what is so recorded may be in scope or excluded: both criteria stay open",
                "nothing; the record has to say it more exactly",
                ((f"leaves {one.id} and {other.id} open", witness),),
                self._register(one, other),
            )

    def _opens(self, clause: Clause, term: str) -> bool:
        return clause.role is not None and self.worlds.degree(term, clause.role.accepted) == 1

    def _chain(self, term: str, clause: Clause) -> str:
        """Return how the ontology puts a term in the values that a clause accepts."""
        assert clause.role is not None
        members = self.trial.set_of(clause.role.accepted).members
        before: dict[str, str] = {term: ""}
        queue = deque([term])
        while queue:
            here = queue.popleft()
            if here in members:
                path = [here]
                while before[path[-1]]:
                    path.append(before[path[-1]])
                return " is a ".join(self.terms.label(t) for t in reversed(path))
            for above in self.terms.graph.objects(URIRef(here), RDFS.subClassOf):
                if isinstance(above, URIRef) and str(above) not in before:
                    before[str(above)] = here
                    queue.append(str(above))
        return f"{self.terms.label(term)}, by the reasoner"

    def _valued(
        self, mine: Sequence[Clause], other: Clause, value: str, expected: dict[str, Outcome]
    ) -> Witness:
        """Return the record of one fact with a value, and all that the clauses ask of it beside."""
        from sarc_kb.audit.witness import Witness, day_of

        assert other.role is not None
        axes: dict[str, str] = {}
        for clause in (*mine, other):
            if clause.role is None or clause.role.qualifier == ANY:
                continue
            for required in self.trial.qualifiers[clause.role.qualifier].requires:
                if required.among is not None:
                    axes[required.axis] = min(self.trial.set_of(required.among).members)
        self.writer.number += 1
        name = f"witness-{self.writer.number}"
        day = day_of(0)
        fact = Fact(
            id="value",
            concepts=(min(self.trial.set_of(other.role.concept_set).members),),
            value_concepts=(value,),
            start=day,
            end=day,
            axes=tuple(sorted(axes.items())),
            source="value",
        )
        record = self.writer.record(name, (fact,))
        return Witness(record, expected)

    # -- what a finding rests on -------------------------------------------------------------------
    def _register(self, *units: Unit) -> tuple[str, ...]:
        """Return the entries of the register that two rules share, else those of the last one."""
        entries = []
        for unit in units:
            clauses = [unit.iri] if unit.clause is not None else list(unit.criterion.clauses)
            texts = [self.trial.clauses[c].text for c in clauses]
            if unit.clause is None:
                texts.append(unit.criterion.text)
            entries.append({r for text in texts for r in text.resolves})
        shared = set.intersection(*entries) if entries else set()
        chosen = shared or entries[-1]
        by_id = {a.id: a for a in self.trial.ambiguities}
        return tuple(f"{r}: {by_id[r].label}" if r in by_id else r for r in sorted(chosen))

    # -- records that show that everything can happen ------------------------------------------------
    def _coverage(self) -> Iterator[Told]:
        """Yield records that together pass and fail every clause and criterion that can."""
        wanted = {
            f"{unit.id} {how}": formula
            for unit in self.units
            for how, formula in (("passes", self.passes(unit)), ("fails", self.fails(unit)))
            if unit.id not in self.dead
        }
        shows: list[tuple[str, Witness]] = []
        hopeless: set[str] = set()
        # A context of its own: which record the solver finds must not hang on what it was asked
        # before, nor on when Python gave memory back.
        alone = self.z3.Context()
        solver = self.solver.translate(alone)
        solver.set("timeout", PATIENCE)
        formulas = {name: formula.translate(alone) for name, formula in wanted.items()}
        while left := [n for n in wanted if n not in hopeless]:
            solver.push()
            covered = []
            for name in left:
                solver.push()
                solver.add(formulas[name])
                if solver.check() == self.z3.sat:
                    model = solver.model()
                    solver.pop()
                    solver.add(formulas[name])
                    covered.append(name)
                else:
                    solver.pop()
            solver.pop()
            if not covered:
                break
            found = self.writer.witness(model.translate(self.z3.main_ctx()))
            shows.append((f"{len(covered)} outcomes in one record", found))
            hopeless.update(covered)
        yield Told(
            "reachable",
            "info",
            "LOGIC040",
            (),
            f"{len(hopeless)} of {len(wanted)} outcomes (each clause and criterion passing, and"
            f" failing) are shown by {len(shows)} records",
            "a rule that can come out one way only is no rule",
            "nothing",
            tuple(shows),
        )

    def confirm(self, told: Iterable[Told]) -> list[Finding]:
        """Return where an engine says otherwise than the solver, of every record that was made."""
        from sarc_kb.audit.witness import Judges

        named = [(t, what, w) for t in told for what, w in t.shows]
        self.confirmed = len(named)
        judges = Judges(self.kb, self.trial)
        self.engines = (judges.shacl.name, "cohort")
        labels = {w.record.label: f"{' and '.join(t.rules) or t.kind}" for t, _, w in named}
        found = [
            Finding(
                "LOGIC090",
                "error",
                labels[name],
                f"the solver says {said}, the engine {engine} says {other}, of {name}",
                "what is concluded from a record that the engines judge otherwise is worth nothing",
                "the encoding of sarc_kb.audit.worlds is wrong; report it with this record",
            )
            for name, engine, said, other in judges.differences([w for _, _, w in named])
        ]
        found += [
            Finding(
                "LOGIC091",
                "error",
                "solver",
                f"no answer in {PATIENCE // 1000} seconds: {question}",
                "what was asked is neither found nor excluded",
                "run it on a faster machine",
            )
            for question in self.undecided
        ]
        return found


_UNDECIDED = object()


def _kept(shows: Iterable[tuple[str, Witness | None]]) -> tuple[tuple[str, Witness], ...]:
    return tuple((what, witness) for what, witness in shows if witness is not None)


def _weaker(pair: tuple[Unit, Unit, int], held: Sequence[tuple[Unit, Unit, int]]) -> bool:
    """Whether another implication says the same of less, or more of the same: a clause needs less
    than its criterion, and a criterion that cannot fail says more than its clause."""
    one, other, level = pair
    for a, b, supposed in held:
        if (a, b) == (one, other) or supposed not in (ALWAYS, level):
            continue
        needs_less = a is one or (one.clause is None and a.criterion is one.criterion)
        says_more = b is other or (b.clause is None and b.criterion is other.criterion)
        if needs_less and says_more:
            return True
    return False


def _listed(names: Sequence[str], comma: str) -> str:
    shown = list(dict.fromkeys(names))
    more = f" and {len(shown) - NAMES} more" if len(shown) > NAMES else ""
    return comma.join(shown[:NAMES]) + more


def _reasoned(kb: KnowledgeBase) -> list[Finding]:
    """Return what the reasoner says of the ontology, as ``make ontology-check`` asks it."""
    command = [sys.executable, "-m", "sarc_kb.ontology_build", "--check", "--ontology"]
    done = subprocess.run(  # noqa: S603 - this program's own check, no text from outside
        [*command, str(kb.root / "ontology")], capture_output=True, text=True, check=False
    )
    if not done.returncode:
        return []
    said = (done.stderr or done.stdout).strip().splitlines()
    return [
        Finding(
            "LOGIC032",
            "warning" if done.returncode == 4 else "error",
            "ontology",
            said[0] if said else f"the check ended with {done.returncode}",
            "what is below what decides who is in scope",
            "run: make ontology-check",
        )
    ]


# -- telling ---------------------------------------------------------------------------------------
_HEADINGS = (
    ("never-pass", "Cannot be met"),
    ("never-fail", "Cannot fail"),
    ("unsatisfiable", "Cannot be met together"),
    ("never-both", "Exclude one another"),
    ("duplicate", "Always come out alike"),
    ("implied", "Follow from another"),
    ("implied-by-all", "Follow from all others"),
    ("never-decides", "Never decide alone"),
    ("closed-way", "Ways that another criterion closes"),
    ("conflict", "One fact for and against"),
    ("conflict-of-dates", "One date for and against"),
    ("in-scope-and-excluded", "In scope and excluded, by the ontology"),
    ("open-for-both", "Too general to be in or out"),
    ("reachable", "Shown to happen"),
)


def _section(
    study: Study, told: Sequence[Told], faults: Sequence[Finding], *, full: bool
) -> Section:
    count = {kind: sum(t.kind == kind for t in told) for kind, _ in _HEADINGS}
    bad = sum(t.severity == "error" for t in told)
    criteria, clauses = len(study.trial.criteria), len(study.trial.clauses)
    summary = (
        f"{criteria} criteria, {clauses} clauses: "
        + (
            "each can pass and fail, all can be met together"
            if not bad
            else f"{bad} that cannot be met or cannot fail"
        )
        + f"; {count['implied'] + count['implied-by-all']} implied, {count['duplicate']} doubled,"
        f" {count['conflict']} pairs in conflict over a fact, {count['conflict-of-dates']} over a date;"
        f" {study.confirmed} records,"
        + (
            f" {len(faults)} faults in confirming them"
            if faults
            else " all confirmed by both engines"
        )
    )
    findings = [
        Finding(
            t.code,
            t.severity,
            " and ".join(t.rules) or "all rules",
            t.text + (f", {t.supposing}" if t.supposing else ""),
            t.why,
            t.fix,
        )
        for t in told
    ]
    return Section(
        name="logic",
        summary=summary,
        lines=tuple(_lines(study, told, full=full)),
        document=_document(study, told),
        findings=(*findings, *faults),
    )


def _lines(study: Study, told: Sequence[Told], *, full: bool) -> Iterator[str]:
    yield (
        f"{study.asked} questions to the solver; records judged by "
        + " and ".join(study.engines)
        + ". What is said to be impossible holds over complete records, within the encoding"
        + " (docs/audit.md)."
    )
    if study.worlds.left_out:
        names = [study.trial.label(iri, study.terms) for iri in study.worlds.left_out]
        yield f"Not modelled: {_listed(names, ', ')}."
    reasoned = "run" if full else "not run here: make ontology-check, or --full"
    yield f"Unsatisfiable classes of the ontology: {reasoned}."
    for kind, heading in _HEADINGS:
        found = [t for t in told if t.kind == kind]
        if not found:
            continue
        yield ""
        yield heading
        for t in found:
            rules = " / ".join(t.rules)
            yield f"  {rules + ': ' if rules else ''}{t.text}"
            if t.supposing:
                yield f"    {t.supposing}"
            for detail in t.details[:NAMES]:
                yield f"    {detail}"
            for entry in t.register:
                yield f"    register {entry}"
            if kind == "reachable":
                continue
            for what, witness in t.shows:
                yield f"    {what}:"
                for line in witness.lines(study.trial, study.worlds):
                    yield f"      {line}"


def _document(study: Study, told: Sequence[Told]) -> dict[str, object]:
    return {
        "left_out": dict(study.worlds.left_out),
        "questions": study.asked,
        "engines": list(study.engines),
        "logic": [
            {
                "kind": t.kind,
                "severity": t.severity,
                "rules": list(t.rules),
                "text": t.text,
                "supposing": t.supposing,
                "register": list(t.register),
                "details": list(t.details),
                "witnesses": [
                    {
                        "shows": what,
                        "facts": list(w.lines(study.trial, study.worlds)),
                        "turtle": w.turtle,
                    }
                    for what, w in t.shows
                ],
            }
            for t in told
        ],
    }
