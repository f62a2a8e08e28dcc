"""Prepared facts and the prepared patient: what both readings, and their explanation, look at."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sarc_kb.dates import DAY, FOREVER, NEVER, PartialDate, iso
from sarc_kb.errors import Finding
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.rules import ANY, EVER, Calendar, Clause, ConceptSet, Role, Trial
from sarc_kb.terminology import Coded, Terminology
from sarc_kb.units import Interval

LONG_AGO = NEVER * DAY
"""A minute before everything, for facts that hold by default."""

MOST_CODINGS = 1_000
"""Codings of which it is kept whether they are in a set. Records have fewer, but for answers to
questions that nobody asked, which may be any."""

Coding = tuple[str | None, bool, frozenset[str], frozenset[str], bool]


@dataclass(frozen=True, slots=True)
class Span:
    """An extent whose ends are known to within days; ``minute_*`` bound its start in minutes."""

    start_lo: int
    start_hi: int
    end_lo: int
    end_hi: int
    minute_lo: int
    minute_hi: int


@dataclass(frozen=True, slots=True)
class Item:
    """A prepared fact.

    ``terms`` and ``values`` are read codings; ``sure`` is False for a suspected record;
    ``interval`` is in the canonical unit of what was measured. ``origin`` is the fact of the
    record it shows to people; ``parents`` are the items a derived one was made from.
    """

    id: str
    kind: str | None
    natural: bool
    terms: Coded
    values: Coded
    has_value: bool
    interval: Interval
    unit: str
    span: Span
    sure: bool
    axes: Mapping[str, Coded]
    tumour: str | None
    origin: Fact | None
    parents: tuple[Item, ...] = ()
    derived_by: str | None = None
    rests_on: tuple[str, ...] = ()
    problem: str = ""

    @property
    def coding(self) -> Coding:
        """All that tells whether it is in a set; see `set_degree`."""
        terms = self.terms
        return self.kind, self.natural, terms.certain, terms.general, self.sure

    @property
    def sources(self) -> tuple[str, ...]:
        """The places in the record this comes from."""
        if self.origin is not None and not self.parents:
            return (self.origin.source or self.origin.id,)
        return tuple(dict.fromkeys(s for p in self.parents for s in p.sources))


@dataclass(frozen=True, slots=True)
class Statement:
    """What makes silence an answer: scopes or sets, from a day to a day."""

    scopes: frozenset[str]
    start: int
    end: int
    text: str
    explicit: bool
    items: tuple[Item, ...] = ()
    said: int = FOREVER
    """The day an explicit negative was found, which its validity may outlast."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An attestation that counts for a clause or criterion."""

    item: Item
    clears: bool
    subject: str


@dataclass(frozen=True, slots=True)
class AnchorDay:
    """An anchor resolved for one patient: when, how it was found, and in which facts.

    ``degree`` tells whether there is such a day at all: 2 certainly, 1 possibly (then ``span``
    says when, if there is), 0 not on record.
    """

    span: Span
    how: str
    items: tuple[Item, ...] = ()
    degree: int = 2


@dataclass(frozen=True, slots=True)
class WindowDays:
    """A window resolved for one patient: earliest and latest start and end, in days.

    With a ``calendar`` only its days count, from an anchor that is one of ``anchor_days``.
    """

    start_lo: int
    start_hi: int
    end_lo: int
    end_hi: int
    calendar: Calendar | None = None
    anchor_days: range = range(0)

    @property
    def text(self) -> str:
        start = "any time" if self.start_lo <= NEVER else iso(self.start_lo)
        end = "any time" if self.end_hi >= FOREVER else iso(self.end_hi)
        return f"{start} to {end}" if start != "any time" else f"up to {end}"


@dataclass
class Prepared:
    """A prepared patient: everything the two readings, and the explanation of them, look at."""

    record: PatientRecord
    trial: Trial
    terms: Terminology
    entry: PartialDate
    as_of: int
    items: list[Item]
    statements: list[Statement]
    windows: dict[str, WindowDays]
    anchors: dict[str, AnchorDay]
    cleared: dict[str, tuple[Answer, ...]]
    denied: dict[str, tuple[Answer, ...]]
    findings: list[Finding]
    void: int = 0
    later: int = 0
    _degrees: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _alike: dict[Coding, list[int]] = field(default_factory=dict, init=False, repr=False)
    _members: dict[str, list[Item]] = field(default_factory=dict, init=False, repr=False)

    # -- degrees -------------------------------------------------------------------------------
    def in_set(self, item: Item, iri: str) -> int:
        """Return the degree to which ``item`` is a fact of the set, withdrawals included."""
        key = (item.id, "in", iri)
        if key not in self._degrees:
            degree = set_degree(item, iri, self.trial, self.terms)
            if degree == 1 and self._withdrawn(item, iri):
                degree = 0
            self._degrees[key] = degree
        return self._degrees[key]

    def members(self, iri: str) -> list[Item]:
        """Return the items that are possibly of the set, in order.

        A long record has few codings: each is held against the set once.
        """
        if not self._alike:
            for number, item in enumerate(self.items):
                self._alike.setdefault(item.coding, []).append(number)
        if iri not in self._members:
            numbers = [
                number
                for alike in self._alike.values()
                if set_degree(self.items[alike[0]], iri, self.trial, self.terms)
                for number in alike
            ]
            items = (self.items[n] for n in sorted(numbers))
            self._members[iri] = [i for i in items if self.in_set(i, iri)]
        return self._members[iri]

    def _withdrawn(self, item: Item, iri: str) -> bool:
        """Whether an explicit negative not before ``item`` says that it is not of the set."""
        return any(
            s.explicit
            and iri in s.scopes
            and item.span.start_hi <= min(s.said, s.end)
            and item not in s.items
            for s in self.statements
        )

    def qualified(self, item: Item, iri: str) -> int:
        return qualifier_degree(item, iri, self.trial, self.terms)

    def within(self, item: Item, iri: str) -> int:
        if iri == EVER:
            return 2
        return window_degree(item.span, self.windows[iri], self.trial.windows[iri].start_only)

    def accepted(self, item: Item, iri: str) -> int:
        if iri == ANY:
            return 2
        if not item.has_value:
            return 1
        return self.trial.set_of(iri).degree(item.values, self.terms)

    def selected(self, item: Item, role: Role) -> int:
        """Return the degree to which set, window and qualifier of ``role`` select ``item``."""
        degree = self.in_set(item, role.concept_set)
        if degree:
            degree = min(degree, self.within(item, role.window))
        if degree:
            degree = min(degree, self.qualified(item, role.qualifier))
        return degree

    # -- silence -------------------------------------------------------------------------------
    def settling(self, clause: Clause) -> Statement | None:
        """Return a statement that makes silence an answer for ``clause``, or None."""
        assert clause.role is not None
        return self.settled(clause.settled_by, clause.role.concept_set, clause.role.window)

    def settled(self, scope: str | None, concept_set: str | None, window: str) -> Statement | None:
        span = self.windows.get(window, WindowDays(NEVER, NEVER, FOREVER, FOREVER))
        # What is open to the future is bounded by what was to be seen: silence after the as-of
        # date says nothing.
        if window == EVER:
            span = WindowDays(NEVER, NEVER, self.as_of, self.as_of)
        elif window in self.trial.windows and self.trial.windows[window].open_end:
            span = replace(span, end_lo=self.as_of, end_hi=self.as_of)
        for wanted in (scope, concept_set):
            if wanted is None:
                continue
            found = self.covering(wanted, span)
            if found is not None:
                return found
        return None

    def covering(self, scope: str, span: WindowDays) -> Statement | None:
        parts = self.terms.scope_parts.get(scope)
        if parts:
            found = [self.covering(p, span) for p in sorted(parts)]
            if all(found):
                whole = [f for f in found if f is not None]
                return replace(
                    whole[0],
                    text=" and ".join(dict.fromkeys(f.text for f in whole)),
                    items=tuple(i for f in whole for i in f.items),
                )
        named = [s for s in self.statements if scope in s.scopes]
        explicit = [s for s in named if s.explicit]
        spoken = [s for s in named if not s.explicit]
        if spoken and self._unreadable(scope, span):
            spoken = []
        tolerance = self.trial.statement_tolerance
        for candidates in (explicit, spoken):
            for statement in _merged(candidates):
                slack = 0 if statement.explicit else tolerance
                if statement.start <= span.start_lo and statement.end + slack >= span.end_hi:
                    return statement
        return None

    def _unreadable(self, scope: str, span: WindowDays) -> bool:
        """Whether a fact of a kind that ``scope`` speaks of, or of no known kind, cannot be read
        and may lie in it."""
        kinds = self.terms.scope_kinds.get(scope, frozenset())
        return any(
            (item.kind is None or item.kind in kinds)
            and not item.terms.readable
            and window_degree(item.span, span, False) > 0
            for item in self.items
        )


def _merged(statements: Iterable[Statement]) -> list[Statement]:
    """Join statements whose periods touch."""
    joined: list[Statement] = []
    for s in sorted(statements, key=lambda s: (s.start, s.end)):
        if joined and s.start <= joined[-1].end + 1:
            last = joined[-1]
            if s.end > last.end:
                joined[-1] = replace(
                    last, end=s.end, text=f"{last.text} and {s.text}", items=last.items + s.items
                )
        else:
            joined.append(s)
    return joined


def set_degree(item: Item, iri: str, trial: Trial, terms: Terminology) -> int:
    """Return the degree to which ``item`` is a fact of the set ``iri``; 0 when unreadable."""
    known = known_degrees(iri, trial, terms)
    coding = item.coding
    degree = known.get(coding)
    if degree is None:
        if len(known) >= MOST_CODINGS:
            known.clear()
        degree = known[coding] = _set_degree(item, trial.set_of(iri), terms)
    return degree


def known_degrees(iri: str, trial: Trial, terms: Terminology) -> dict[Hashable, int]:
    """Return what `set_degree` found so far for the set ``iri``, in whatever patient, by coding."""
    return terms.found.setdefault(trial.set_of(iri), {})


def _set_degree(item: Item, wanted: ConceptSet, terms: Terminology) -> int:
    if wanted.kind is None:
        if not item.natural:
            return 0
    elif item.kind != wanted.kind:
        return 0
    if not item.terms.readable:
        return 0
    degree = wanted.degree(item.terms, terms)
    return degree if item.sure else min(degree, 1)


def qualifier_degree(item: Item, iri: str, trial: Trial, terms: Terminology) -> int:
    """Return the degree to which ``item`` has every attribute; silence on an axis is possible."""
    if iri == ANY:
        return 2
    degree = 2
    for requirement in trial.qualifiers[iri].requires:
        coded = item.axes.get(requirement.axis)
        if coded is None or not coded.readable:
            degree = min(degree, 1)
            continue
        if requirement.among is not None:
            degree = min(degree, trial.set_of(requirement.among).degree(coded, terms))
        if requirement.not_among is not None:
            degree = min(degree, 2 - trial.set_of(requirement.not_among).degree(coded, terms))
    return degree


def window_degree(span: Span, window: WindowDays, start_only: bool) -> int:
    """Return 2 if the extent overlaps the window in every world, 1 if in some, else 0."""
    end_lo, end_hi = (span.start_lo, span.start_hi) if start_only else (span.end_lo, span.end_hi)
    if not (span.start_lo <= window.end_hi and end_hi >= window.start_lo):
        return 0
    degree = 2 if span.start_hi <= window.end_lo and end_lo >= window.start_hi else 1
    if window.calendar is None:
        return degree
    return min(degree, _calendar_degree(span.start_lo, span.start_hi, end_lo, end_hi, window))


def _calendar_degree(
    start_lo: int, start_hi: int, end_lo: int, end_hi: int, window: WindowDays
) -> int:
    """Return 2 if the extent has a day of the calendar in every world, 1 if in some, else 0."""
    calendar = window.calendar
    assert calendar is not None

    def days(first: int, last: int) -> range:
        # Days a whole period apart are alike.
        return range(first, min(last, first + calendar.period - 1) + 1)

    if not window.anchor_days:
        return 1
    anchors = days(window.anchor_days[0], window.anchor_days[-1])
    # The days that the extent certainly has; one whose day is not known has one of several.
    core = start_hi <= end_lo
    certain = days(start_hi, end_lo) if core else days(start_lo, end_hi)
    some_or_all = any if core else all
    if all(some_or_all(calendar.holds(d, a) for d in certain) for a in anchors):
        return 2
    possible = days(start_lo, end_hi)
    return 1 if any(calendar.holds(d, a) for a in anchors for d in possible) else 0


def gap_degree(first: Item, second: Item, clause: Clause) -> int:
    """Return 2 if ``second`` certainly lies within the gap of ``clause`` after ``first``, 1 if
    possibly, else 0; one moment, however often the same was read, is no two."""
    assert clause.gap is not None
    if first.id == second.id:
        return 0
    a, b = first.span, second.span
    if clause.of_one_set and a.minute_lo == a.minute_hi == b.minute_lo == b.minute_hi:
        return 0
    gap = clause.gap
    least, most = b.minute_lo - a.minute_hi, b.minute_hi - a.minute_lo
    if least >= gap[0] and most <= gap[1]:
        return 2
    return 1 if most >= gap[0] and least <= gap[1] else 0


UNKNOWN = Span(NEVER, FOREVER, NEVER, FOREVER, LONG_AGO, FOREVER * DAY)
"""Some time, nobody knows when."""

BY_DEFAULT = Span(NEVER, NEVER, FOREVER, FOREVER, LONG_AGO - 1, LONG_AGO - 1)
"""Always, and in order of time before every record, an undated one too."""
