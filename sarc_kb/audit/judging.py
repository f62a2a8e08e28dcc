"""What a case comes to under a trial that was changed, and which cases can tell a change apart.

A case is judged as everywhere: prepared, then by the plain meaning of its clauses. Where a change
does not touch what preparing looks at, the patient prepared once stands for all such changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property

from sarc_kb.assess import fold
from sarc_kb.assessment import Outcome, TreatmentOutcome
from sarc_kb.audit.mutant import Mutant
from sarc_kb.cases import Case, criterion_of, part_of
from sarc_kb.dates import FOREVER, PartialDate
from sarc_kb.explain import Explanation, explain
from sarc_kb.kb import KnowledgeBase
from sarc_kb.prepare import Preparation, Prepared, WindowDays, finish
from sarc_kb.prepare.anchors import window
from sarc_kb.prepare.model import set_degree
from sarc_kb.rules import Clause, Criterion, Derivation, Text, Trial
from sarc_kb.terminology import Terminology
from sarc_kb.treatment import UNKEPT, last_day, outcomes_at_entry, rule_outcome

Told = Outcome | TreatmentOutcome


@dataclass(frozen=True)
class Seat:
    """A case with its place among the rules: the part it is judged in, the node that it is about,
    that node's clauses, and the rule itself where the case is about a whole rule."""

    case: Case
    part: int
    root: str
    leaves: tuple[str, ...]
    nodes: frozenset[str]
    rule: Criterion | None
    names: frozenset[str]

    @property
    def as_of(self) -> PartialDate | None:
        if self.case.as_of is None and self.part:
            return last_day(self.case.record)  # a course is judged as far as it is known
        return self.case.as_of


def seat(case: Case, trial: Trial) -> Seat:
    """Return the place of ``case`` among the rules of ``trial``."""
    part = part_of(trial, case.rule)
    rule = next((c for c in part.criteria if c.iri == case.rule), None)
    root = rule.root if rule is not None else case.rule
    nodes, stack = {case.rule}, [root]
    while stack:
        node = stack.pop()
        nodes.add(node)
        stack += part.children(node)
    nodes.add(criterion_of(part, case.rule))
    return Seat(
        case=case,
        part=trial.parts.index(part),
        root=root,
        leaves=tuple(part.leaves(root)),
        nodes=frozenset(nodes),
        rule=rule,
        names=frozenset(_names_of_record(case)),
    )


def _names_of_record(case: Case) -> Iterator[str]:
    for fact in case.record.facts:
        yield from fact.concepts
        yield from fact.value_concepts
        yield from (value for _, value in fact.axes)


class Judge:
    """Judges cases under changed trials, and keeps what they have in common."""

    def __init__(self, kb: KnowledgeBase, trial: Trial, cases: Iterable[Case]) -> None:
        self.kb, self.trial = kb, trial
        self.seats = [seat(case, trial) for case in cases]
        self._prepared: dict[str, Prepared] = {}
        self._narrower: tuple[dict[str, list[str]], ...] = tuple({} for _ in trial.parts)
        self._at_entry: dict[str, Prepared] = {}

    # -- one case ------------------------------------------------------------------------------
    def prepared(self, at: Seat) -> Prepared:
        """Return the patient of a case, prepared by the rules as they are."""
        found = self._prepared.get(at.case.id)
        if found is None:
            found = self._prepare(at, self.trial.parts[at.part], self._narrower[at.part])
            self._prepared[at.case.id] = found
        return found

    def _prepare(self, at: Seat, part: Trial, narrower: dict[str, list[str]]) -> Prepared:
        """Return the patient prepared by ``part``; ``narrower`` is kept for all of its patients."""
        begun = self.kb.begin(at.case.record, part, as_of=at.as_of)
        begun.narrower = narrower
        return finish(begun)

    def at_entry(self, at: Seat, whole: Trial | None = None) -> Prepared | None:
        """Return the patient prepared for eligibility where the rule judges a clause of it again."""
        if at.rule is None or at.rule.compares is None:
            return None
        if whole is not None:
            return self.kb.prepare(at.case.record, whole)
        return self.eligibility(at)

    def eligibility(self, at: Seat) -> Prepared:
        """Return the patient of a case as of entry, prepared for the part on eligibility."""
        if at.case.id not in self._at_entry:
            self._at_entry[at.case.id] = self.kb.prepare(at.case.record, self.trial)
        return self._at_entry[at.case.id]

    def holds(self, at: Seat, prepared: Prepared, at_entry: Prepared | None) -> bool:
        """Whether the case comes out as it says it must."""
        return self.told(at, prepared, at_entry) is self.expected(at)

    def expected(self, at: Seat) -> Told:
        """Return what the case says it must come out as. A treatment rule that tells what is open
        is expected to tell it, and so to be due, once the course has got to what it is due after.
        """
        expected = at.case.expected
        if expected is not Outcome.UNDETERMINED or at.rule is None or not at.part:
            return expected
        windows = self.prepared(at).windows
        begun = any(windows[w].end_hi < FOREVER for w in at.rule.due)
        tells_open = at.rule.compares is None and UNKEPT[at.rule.modality][1]
        return TreatmentOutcome.UNDETERMINED if begun and tells_open else expected

    def told(self, at: Seat, prepared: Prepared, at_entry: Prepared | None) -> Told:
        """Return what the case comes out as."""
        part = prepared.trial
        root = at.root
        grounds = {c: explain(prepared, part.clauses[c]) for c in part.leaves(root)}
        outcomes = {
            c: Outcome.FAIL if g.refuted else Outcome.UNDETERMINED if g.unproven else Outcome.PASS
            for c, g in grounds.items()
        }
        return told_of(at, self.expected(at), part, outcomes, prepared, grounds, at_entry)

    # -- mutants -------------------------------------------------------------------------------
    def killer(self, mutant: Mutant) -> str:
        """Return the id of the first case that comes out otherwise under ``mutant``; empty if none
        does."""
        changed = {
            number: mutant.change(part)
            for number, part in enumerate(self.trial.parts)
            if number in mutant.parts
        }
        whole = changed.get(0, self.trial)
        kept = not self.touches_preparation(mutant)
        windows = kept and any(mutant.of in part.windows for part in self.trial.parts)
        narrower: dict[int, dict[str, list[str]]] = {number: {} for number in changed}
        for at in self.relevant(mutant):
            part = changed[at.part]
            if kept:
                prepared = _under(self.prepared(at), part, windows=windows)
                at_entry = self.at_entry(at)
                if at_entry is not None and mutant.parts != (1,):
                    at_entry = _under(at_entry, whole, windows=windows)
            elif self.may_tell(mutant, at, part):
                prepared = self._prepare(at, part, narrower[at.part])
                at_entry = self.at_entry(at, whole)
            else:
                continue
            if not self.holds(at, prepared, at_entry):
                return at.case.id
        return ""

    def relevant(self, mutant: Mutant) -> list[Seat]:
        """Return the cases that ``mutant`` may change, those first that most likely tell."""
        found = []
        for at in self.seats:
            if at.part not in mutant.parts:
                continue
            reads = self.reads[at.part]
            if mutant.of in at.nodes or any(mutant.of in reads[leaf] for leaf in at.leaves):
                found.append(at)
        wanted = _TELLING.get(mutant.kind, frozenset())
        concepts = mutant.concepts
        return sorted(
            found,
            key=lambda at: (
                not concepts or not self._terms(at) & concepts,
                not wanted & frozenset(at.case.tests),
                at.case.rule != mutant.of,
                len(at.leaves),
                at.case.id,
            ),
        )

    def unread(self, mutant: Mutant) -> str:
        """Return why no rule can tell, where none reads what ``mutant`` changes; else nothing."""
        for number in mutant.parts:
            part = self.trial.parts[number]
            if (
                mutant.of in part.clauses
                or mutant.of in part.joins
                or any(mutant.of == c.iri for c in part.criteria)
                or any(mutant.of in reads for reads in self.reads[number].values())
            ):
                return ""
        return "no rule reads it under the readings in force"

    def _terms(self, at: Seat) -> frozenset[str]:
        return frozenset(t for name in at.names for t in self.kb.terms.meaning(name) | {name})

    def touches_preparation(self, mutant: Mutant) -> bool:
        """Whether preparing a patient looks at what ``mutant`` changes."""
        if mutant.prepares is None:
            return mutant.of in self.read_in_preparing
        return mutant.prepares

    def may_tell(self, mutant: Mutant, at: Seat, part: Trial) -> bool:
        """Whether preparing the patient of a case under the changed ``part`` may come to something
        else; what certainly does not is not prepared again."""
        if mutant.kind == "polarity":
            return at.case.answered
        if mutant.of in part.windows:
            base = self.prepared(at)
            was, now = base.trial.windows[mutant.of], part.windows[mutant.of]
            if was.start_only != now.start_only:
                return any(
                    (i.span.start_lo, i.span.start_hi) != (i.span.end_lo, i.span.end_hi)
                    for i in base.items
                )
            return windows_of(base, part) != base.windows
        if mutant.kind == "derivation":
            rules = [d for d in self.trial.derivations if d.iri == mutant.of]
            if all(
                d.kind in ("Implication", "Refinement", "Conversion", "Settling") for d in rules
            ):
                base = self.prepared(at)
                return any(
                    set_degree(item, rule.source, base.trial, base.terms)
                    for rule in rules
                    for item in base.items
                )
        return True

    @cached_property
    def read_in_preparing(self) -> frozenset[str]:
        """Every named thing that preparing looks at."""
        found: set[str] = set()
        for part in self.trial.parts:
            uses = Uses(part, self.kb.terms)
            roots = {
                *_names(part.derivations),
                *_names(part.index_rules),
                *_names(part.series),
                *_names(part.questions),
                *part.anchors,
                *(c.role.concept_set for c in part.clauses.values() if c.role and c.settled_by),
            }
            for root in roots:
                found |= uses.plainly(root)
        return frozenset(found)

    @cached_property
    def reads(self) -> tuple[Mapping[str, frozenset[str]], ...]:
        """For each part, what each of its clauses reads, directly or through others."""
        found = []
        for part in self.trial.parts:
            uses = Uses(part, self.kb.terms)
            asked: dict[str, frozenset[str]] = {}
            for iri, clause in part.clauses.items():
                reads = uses.of_clause(clause)
                for rule in part.criteria:
                    if rule.root == iri or iri in rule.clauses:
                        for name in rule.due:
                            reads |= uses.closure(name)
                asked[iri] = frozenset(reads)
            found.append(asked)
        return tuple(found)


def told_of(
    at: Seat,
    expected: Told,
    part: Trial,
    outcomes: Mapping[str, Outcome],
    prepared: Prepared,
    grounds: Mapping[str, Explanation],
    at_entry: Prepared | None,
) -> Told:
    """Return what a case comes out as, in the words of what it expects, from the outcomes of its
    clauses."""
    if isinstance(expected, Outcome):
        denied = at.rule is not None and at.rule.iri in prepared.denied
        return Outcome.FAIL if denied else fold(part, at.root, outcomes)
    rule = next(c for c in part.criteria if c.iri == at.case.rule)
    before = outcomes_at_entry(at_entry, [rule]) if at_entry is not None else {}
    return rule_outcome(prepared, rule, outcomes, grounds, before)


_TELLING = {
    "threshold": frozenset(("AtLimit", "OneStepInside", "OneStepOutside", "OtherUnit")),
    "comparator": frozenset(("AtLimit",)),
    "unit": frozenset(("AtLimit", "OneStepInside", "OneStepOutside", "OtherUnit")),
    "window": frozenset(("WindowEdgeInside", "WindowEdgeOutside")),
    "anchor": frozenset(("WindowEdgeInside", "WindowEdgeOutside")),
    "silence": frozenset(("CompleteRecord", "ExplicitNegative", "NotRecorded")),
    "polarity": frozenset(("AttestedAnswer",)),
    "component": frozenset(("TypicalFail", "TypicalPass")),
}
"""What cases test that most likely tell a mutant of each kind apart: these are asked first."""


def _under(prepared: Prepared, part: Trial, *, windows: bool) -> Prepared:
    """Return the prepared patient under rules that prepare it alike."""
    other = copy(prepared)
    other.trial = part
    other._degrees, other._alike, other._members = {}, {}, {}
    if windows:
        other.windows = windows_of(prepared, part)
    return other


def windows_of(prepared: Prepared, part: Trial) -> dict[str, WindowDays]:
    """Return the windows of ``part`` by the anchors that the patient was prepared with."""
    again = Preparation(prepared.record, part, prepared.terms, None, (), {})
    again.as_of, again.anchors = prepared.as_of, dict(prepared.anchors)
    for iri in part.windows:
        window(again, iri)
    return again.windows


# -- what reads what -------------------------------------------------------------------------------
def _names(value: object) -> Iterator[str]:
    """Yield every text in a piece of compiled rules but what is said to people."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | frozenset):
        for part in value:
            yield from _names(part)
    elif is_dataclass(value) and not isinstance(value, Text | type):
        for each in fields(value):
            yield from _names(getattr(value, each.name))


class Uses:
    """What named things of a part of a trial depend on, by their IRIs."""

    def __init__(self, part: Trial, terms: Terminology) -> None:
        self.part, self.terms = part, terms
        self._closures: dict[str, frozenset[str]] = {}
        self._made: dict[str, set[str]] = {}
        for rule in part.derivations:
            for output in _outputs(rule):
                for term in self._members(output):
                    self._made.setdefault(term, set()).add(rule.iri)
        for series in part.series:
            for output in (series.dose, series.change, series.daily, series.pause, series.events):
                self._made.setdefault(output, set()).add(series.iri)
        self._definitions: dict[str, tuple[str, ...]] = {}
        for rule in part.derivations:
            known = self._definitions.get(rule.iri, ())
            self._definitions[rule.iri] = (*known, *_names(rule))
        for series in part.series:
            self._definitions[series.iri] = tuple(_names(series))
        for index in part.index_rules:
            self._definitions[f"index {index.axis}"] = tuple(_names(index))

    def of_clause(self, clause: Clause) -> set[str]:
        found: set[str] = set()
        for role in (clause.role, clause.second):
            for name in _names(role):
                found |= self.closure(name)
        if clause.settled_by is not None:
            found |= self.closure(clause.settled_by)
        for question in self.part.questions:
            if clause.iri in question.covers:
                found.add(question.iri)
                for asked in (question.asked_of, question.asked_when):
                    if asked:
                        found |= self.closure(asked)
        return found

    def closure(self, name: str) -> frozenset[str]:
        """Return ``name`` and everything that it depends on, derivations included."""
        if name not in self._closures:
            self._closures[name] = self._walk(name, derived=True)
        return self._closures[name]

    def plainly(self, name: str) -> frozenset[str]:
        """Return ``name`` and everything that its definition names, and theirs."""
        return self._walk(name, derived=False)

    def _walk(self, name: str, *, derived: bool) -> frozenset[str]:
        seen, stack = {name}, [name]
        while stack:
            for other in self._next(stack.pop(), derived):
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return frozenset(seen)

    def _next(self, name: str, derived: bool) -> Iterator[str]:
        part = self.part
        for table in (part.sets, part.qualifiers, part.windows, part.anchors):
            if name in table:
                yield from (n for n in _names(table[name]) if self._named(n, derived))
        if not derived:
            return
        if name in self._definitions:
            yield from (n for n in self._definitions[name] if self._named(n, derived))
        if name in part.qualifiers:
            for required in part.qualifiers[name].requires:
                if f"index {required.axis}" in self._definitions:
                    yield f"index {required.axis}"
        for term in self._members(name):
            for related in self.terms.up(term) | self.terms.down(term):
                yield from self._made.get(related, ())

    def _named(self, name: str, derived: bool) -> bool:
        part = self.part
        return (
            name in part.sets
            or name in part.qualifiers
            or name in part.windows
            or name in part.anchors
            or (derived and (self.terms.known(name) or name in self._made))
        )

    def _members(self, name: str) -> frozenset[str]:
        if name in self.part.sets:
            return self.part.sets[name].members
        return frozenset((name,))


def _outputs(rule: Derivation) -> Iterator[str]:
    """Yield what a derivation makes, or makes something of."""
    for name in (rule.gives, rule.adds_concept, rule.iri, *rule.settles):
        if name is not None:
            yield name
    if rule.kind == "Refinement":
        yield rule.source
