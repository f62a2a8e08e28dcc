"""A compiled rule base as plain data: what preparing, evaluating and reporting read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from rdflib import Graph

from sarc_kb.namespaces import SARC
from sarc_kb.terminology import Coded, Terminology

ANY = str(SARC.Any)
EVER = str(SARC.Ever)
NOT_ATTESTABLE = str(SARC.NotAttestable)
COMPONENTS = ("latest", "some", "none", "noPair", "eachHas", "attested")
PAIRS = ("noPair", "eachHas")
BOUNDS = ("atLeast", "moreThan", "atMost", "lessThan")
PAIRED_BOUNDS = tuple(f"paired{name[0].upper()}{name[1:]}" for name in BOUNDS)
GAP = ("gapFrom", "gapTo")
LIMITS = (*BOUNDS, *PAIRED_BOUNDS, *GAP)
"""The numbers that a clause may carry, by the local names of their properties."""


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
class Calendar:
    """The days ``first`` to ``last`` of each ``period`` of days; the anchor is day 1."""

    period: int
    first: int
    last: int

    def holds(self, day: int, anchor: int) -> bool:
        """Whether ``day`` belongs to the calendar counted from the day ``anchor``."""
        return self.first <= (day - anchor) % self.period + 1 <= self.last


@dataclass(frozen=True, slots=True)
class Window:
    """A span about an anchor; without days and months it is open to the past.

    Numbers count back from the anchor, negative ones forward; the end counts from ``end_anchor``
    where that is another. ``ends_before`` names a window before whose start this one ends,
    ``starts_after`` one after whose end it starts; ``open_end`` runs to the future. A
    ``calendar`` leaves some days of each period in.
    """

    iri: str
    anchor: str
    days: int | None
    months: int | None
    ends_days_before: int
    start_only: bool
    ends_before: str | None = None
    open_end: bool = False
    ends_months_before: int = 0
    end_anchor: str | None = None
    starts_after: str | None = None
    calendar: Calendar | None = None


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

    @property
    def empty(self) -> bool:
        """Whether no number lies inside."""
        least = max((b for b in (self.at_least, self.more_than) if b is not None), default=None)
        most = min((b for b in (self.at_most, self.less_than) if b is not None), default=None)
        if least is None or most is None:
            return False
        return least > most or (least == most and most in (self.more_than, self.less_than))

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
    """One constraint of one component. ``second`` and the gap belong to the pair components.

    ``relaxed``: what the caller set in place of the protocol's limits, in words.
    """

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
    relaxed: tuple[str, ...] = ()

    @property
    def of_one_set(self) -> bool:
        """Are both of a pair facts of the same set? Then two of one minute are one moment."""
        return (
            self.role is not None
            and self.second is not None
            and self.role.concept_set == self.second.concept_set
        )

    @property
    def limits(self) -> dict[str, str]:
        """The numbers it carries, by the local names of their properties."""
        found: dict[str, str] = {}
        for role, names in ((self.role, BOUNDS), (self.second, PAIRED_BOUNDS)):
            if role is not None:
                b = role.bounds
                numbers = (b.at_least, b.more_than, b.at_most, b.less_than)
                found |= {n: f"{x:f}" for n, x in zip(names, numbers, strict=True) if x is not None}
        gap = (str(minutes) for minutes in self.gap or ())
        return found | dict(zip(GAP, gap, strict=False))

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
    """One numbered criterion or treatment rule; ``root`` is the IRI of its clause or join (often
    its own).

    ``modality``: how the protocol binds by it. Of treatment rules alone: ``due``, the windows after
    whose end it asks for an answer, and ``compares``, the clause on eligibility that it judges
    again.
    """

    iri: str
    id: str
    kind: str
    root: str
    clauses: tuple[str, ...]
    text: Text
    modality: str = ""
    due: tuple[str, ...] = ()
    compares: str | None = None


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
    at_end_of_day: bool = False
    even_if_silent: bool = False
    keeps_value: bool = False
    unless: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()
    of_recorded: bool = False
    during: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """A level of a ladder of doses: one dose, or all from ``least`` to ``most``."""

    iri: str
    least: Decimal
    most: Decimal


@dataclass(frozen=True, slots=True)
class DoseSeries:
    """Uses of a medicine read as single doses on a ladder; ``levels`` highest first.

    ``dose``, ``change``, ``daily`` and ``pause`` name the derived facts: one a dose, one a change
    from a dose to the next, the number of doses of a day, the days from one dose to the next.
    ``events`` are told which level was in force when they began.
    """

    iri: str
    source: str
    qualifier: str
    window: str
    levels: tuple[Level, ...]
    dose: str
    change: str
    daily: str
    pause: str
    settled_by: str
    events: str


@dataclass(frozen=True, slots=True)
class Track:
    """One line of the drawing of a course: a set of facts and what to call them."""

    iri: str
    label: str
    shows: str


@dataclass(frozen=True, slots=True)
class Course:
    """Which facts show that treatment began, and the anchor that is its day 1."""

    begun_by: str
    window: str
    day_one: str
    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """A sentence of the protocol that defines something the rules use."""

    iri: str
    id: str
    defines: str
    text: Text


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
class Relaxation:
    """A limit of the clause ``iri`` that the caller set, and what it ``was``."""

    iri: str
    clause: str
    parameter: str
    number: str
    was: str

    @property
    def text(self) -> str:
        """What the clause says of it."""
        return f"{self.parameter} {self.number} instead of {self.was}"

    @property
    def change(self) -> str:
        """What a report says that the caller set."""
        return f"relax: {self.clause}:{self.parameter}={self.number} (was {self.was})"


@dataclass(frozen=True, slots=True)
class Ambiguity:
    iri: str
    id: str
    label: str
    default: str
    readings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trial:
    """A compiled rule base of one trial: the part on eligibility.

    ``treatment`` is the same trial with the rules about treatment in place of the criteria; None
    where there are none, and in that part itself.
    """

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
    series: tuple[DoseSeries, ...] = ()
    course: Course | None = None
    definitions: tuple[Definition, ...] = ()
    treatment: Trial | None = field(default=None, repr=False)

    @property
    def parts(self) -> tuple[Trial, ...]:
        """This part, and the one about treatment if there is one."""
        return (self,) if self.treatment is None else (self, self.treatment)

    @property
    def components(self) -> dict[str, str]:
        """The IRI of the constraint component that each clause of all parts (by IRI) uses."""
        return {c.iri: c.component_iri for part in self.parts for c in part.clauses.values()}

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
        """Return the axis on which the rules look for a term, where it is just one.

        Terms of one family stand on one axis: what the rules look for there places what they do
        not name. What is recorded for its own sake (a disease, a procedure) qualifies nothing.
        """
        found: dict[str, set[str]] = {}
        for qualifier in self.qualifiers.values():
            for required in qualifier.requires:
                for named in filter(None, (required.among, required.not_among)):
                    for term in (t for m in self.set_of(named).members for t in terms.up(m)):
                        if term not in terms.kinds:
                            found.setdefault(term, set()).add(required.axis)
        placed = {term: min(axes) for term, axes in found.items() if len(axes) == 1}
        return {below: axis for term, axis in placed.items() for below in terms.down(term)}
