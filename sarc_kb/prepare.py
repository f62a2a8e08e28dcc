"""Prepare a patient: facts in, facts with intervals and derived facts out.

Passes run in the order of :func:`prepare`. None of them judges anything or knows a trial's
content; names of sets, windows and derivations come from the compiled rules. What is uncertain is
settled here once: a value is an interval, an event has an earliest and a latest start and end, and
being in a set, a qualifier or a window has a degree, 0 not, 1 possible, 2 certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from sarc_kb.dates import (
    DAY,
    FOREVER,
    NEVER,
    PartialDate,
    completed_years,
    iso,
    months_before,
)
from sarc_kb.errors import Finding
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import ANY, EVER, Clause, Derivation, IndexRule, Question, Role, Selection, Trial
from sarc_kb.terminology import Coded, Terminology
from sarc_kb.units import ANYTHING, INFINITY, Interval, ratio, read_number, to_canonical

_CERTAIN = {None, str(SARC.Confirmed)}
_SUSPECTED = str(SARC.Suspected)
_REFUTED = str(SARC.Refuted)
_VOID = {str(SARC[s]) for s in ("EnteredInError", "Cancelled", "NotDone", "Preliminary", "Planned")}
_ATTESTATION = str(SARC.Attestation)
_STATEMENT = str(SARC.CompletenessStatement)
_PLAN = str(SARC.Plan)
_YES, _NO = str(SARC.Yes), str(SARC.No)
_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)
_LONG_AGO = NEVER * DAY

_Coding = tuple[str | None, bool, Coded, bool]


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
    def coding(self) -> _Coding:
        """All that tells whether it is in a set; see `set_degree`."""
        return self.kind, self.natural, self.terms, self.sure

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
    """An anchor resolved for one patient: when, how it was found, and in which facts."""

    span: Span
    how: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowDays:
    """A window resolved for one patient: earliest and latest start and end, in days."""

    start_lo: int
    start_hi: int
    end_lo: int
    end_hi: int

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
    _alike: dict[_Coding, list[int]] = field(default_factory=dict, init=False, repr=False)
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
        if window == EVER:
            # "Ever" is bounded by what was to be seen: silence after the as-of date says nothing.
            span = WindowDays(NEVER, NEVER, self.as_of, self.as_of)
        for wanted in (scope, concept_set):
            if wanted is None:
                continue
            found = self._covering(wanted, span)
            if found is not None:
                return found
        return None

    def _covering(self, scope: str, span: WindowDays) -> Statement | None:
        parts = self.terms.scope_parts.get(scope)
        if parts:
            found = [self._covering(p, span) for p in sorted(parts)]
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
                joined[-1] = replace(last, end=s.end, text=f"{last.text} and {s.text}", items=last.items + s.items)
        else:
            joined.append(s)
    return joined


# -- degrees of one item ---------------------------------------------------------------------------
def set_degree(item: Item, iri: str, trial: Trial, terms: Terminology) -> int:
    """Return the degree to which ``item`` is a fact of the set ``iri``; 0 when unreadable."""
    wanted = trial.set_of(iri)
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
    if span.start_hi <= window.end_lo and end_lo >= window.start_hi:
        return 2
    if span.start_lo <= window.end_hi and end_hi >= window.start_lo:
        return 1
    return 0


# -- the passes ------------------------------------------------------------------------------------
def prepare(
    record: PatientRecord,
    trial: Trial,
    terms: Terminology,
    *,
    as_of: PartialDate | None = None,
    complete: tuple[str, ...] = (),
    attested: Mapping[str, str] | None = None,
) -> Prepared:
    """Return the prepared patient.

    Args:
        record: must have an entry date with a known day.
        as_of: facts dated later are not seen; default is the entry date.
        complete: scope IRIs the caller vouches for, up to the as-of date.
        attested: rule IRI to an answer IRI, given once for the study.
    """
    assert record.entry is not None and record.entry.exact
    return _Preparation(record, trial, terms, as_of, complete, attested or {}).run()


class _Preparation:
    def __init__(
        self,
        record: PatientRecord,
        trial: Trial,
        terms: Terminology,
        as_of: PartialDate | None,
        complete: tuple[str, ...],
        attested: Mapping[str, str],
    ) -> None:
        assert record.entry is not None
        self.record, self.trial, self.terms = record, trial, terms
        self.entry = record.entry
        self.as_of = (as_of or record.entry).last
        self.complete, self.attested = complete, attested
        self.findings: list[Finding] = []
        self.items: list[Item] = []
        self.refuted: list[Item] = []
        self.statements: list[Statement] = []
        self.answers: list[Item] = []
        self.spoken: list[Item] = []
        self.void = self.later = 0
        self.anchors: dict[str, AnchorDay] = {}
        self.windows: dict[str, WindowDays] = {}
        self.resolving: set[str] = set()
        self.degrees: dict[tuple[str, _Coding], int] = {}
        self.counter = 0
        offsets = {
            d.offset
            for f in record.facts
            for d in (f.start, f.end)
            if d is not None and d.offset is not None
        }
        self.offsets = (min(offsets), max(offsets)) if offsets else (0, 0)

    def run(self) -> Prepared:
        self.read_facts()
        self.mark_index()
        self.derive(windowed=False)
        self.measure()
        self.resolve_all()
        self.derive(windowed=True)
        self.intervals()
        self.settle()
        self.tally()
        prepared = Prepared(
            record=self.record,
            trial=self.trial,
            terms=self.terms,
            entry=self.entry,
            as_of=self.as_of,
            items=self.items,
            statements=self.statements,
            windows=self.windows,
            anchors=self.anchors,
            cleared={},
            denied={},
            findings=self.findings,
            void=self.void,
            later=self.later,
        )
        self.answer(prepared)
        return prepared

    def find(self, code: str, severity: str, fact: Fact | None, found: str, why: str, fix: str) -> None:
        where = self.record.origin if fact is None else (fact.source or fact.id)
        self.findings.append(Finding(code, severity, where, found, why, fix))  # type: ignore[arg-type]

    def in_set(self, item: Item, iri: str) -> int:
        """`set_degree`, worked out once for all items that are coded alike."""
        key = (iri, item.coding)
        degree = self.degrees.get(key)
        if degree is None:
            degree = self.degrees[key] = set_degree(item, iri, self.trial, self.terms)
        return degree

    # 1. Facts that count, with their codes, values and times read.
    def read_facts(self) -> None:
        for fact in self.record.facts:
            if fact.status in _VOID:
                self.void += 1
                self.find("DATA010", "info", fact, f"status {local_name(fact.status or '')}", "such a record does not count", "nothing, if the status is right")
                continue
            if fact.status not in _CERTAIN and fact.status not in (_SUSPECTED, _REFUTED):
                self.find("DATA011", "warning", fact, "an unknown status", "a fact whose status cannot be read counts only as possible", "use a status of the vocabulary")
                fact = replace(fact, status=_SUSPECTED)
            item = self.item_of(fact)
            if item.kind == _STATEMENT:
                self.spoken.append(item)
                continue
            if item.kind != _PLAN and item.span.start_lo > self.as_of:
                self.later += 1
                continue
            if item.kind == _ATTESTATION:
                self.answers.append(item)
                continue
            if not item.terms.readable:
                self.find(
                    "DATA012",
                    "warning",
                    fact,
                    "no mapping for " + (", ".join(self.terms.code_text(c) for c in item.terms.unread) or "a fact without a concept"),
                    "no rule can read it, and a completeness statement of its kind does not hold over it",
                    "map the code to a term, or to the 'other' term of its kind",
                )
            if fact.status == _REFUTED:
                self.refuted.append(item)
            else:
                self.items.append(item)
        for rule, answer in self.attested.items():
            fact = Fact(
                id=f"option:attest:{local_name(rule)}",
                kind=_ATTESTATION,
                concepts=(rule,),
                value_concepts=(answer,),
                start=self.entry,
                end=self.entry,
                source="given when the program was run",
            )
            self.answers.append(self.item_of(fact))

    def item_of(self, fact: Fact) -> Item:
        terms = self.terms.code(fact.concepts, open_values=fact.kind in (_ATTESTATION,))
        natural_kinds = {k for t in (terms.certain or terms.general) if (k := self.terms.kind_of(t))}
        kind = fact.kind or (sorted(natural_kinds)[0] if natural_kinds else None)
        values = self.terms.code(fact.value_concepts)
        if fact.value_concepts and not values.readable:
            self.find("DATA013", "warning", fact, "no mapping for the coded result " + ", ".join(map(self.terms.code_text, values.unread)), "the result could be anything", "map the code to a value of the vocabulary")
        interval, unit, problem = self.number_of(fact, terms)
        axes: dict[str, Coded] = {}
        for axis in {a for a, _ in fact.axes}:
            coded = self.terms.code(
                tuple(v for a, v in fact.axes if a == axis), open_values=axis in self.terms.open_axes
            )
            if not coded.readable:
                self.find("DATA014", "info", fact, f"{local_name(axis)} is not mapped: " + ", ".join(map(self.terms.code_text, coded.unread)), "it is read as not known", "map the code")
            axes[axis] = coded
        for a, b in self.terms.contradictions(values.certain):
            self.find("DATA015", "warning", fact, f"{self.terms.label(a)} and {self.terms.label(b)} in one result", "the two exclude each other, so the result decides nothing", "correct the record")
        return Item(
            id=fact.id,
            kind=kind,
            natural=not natural_kinds or kind in natural_kinds,
            terms=terms,
            values=values,
            has_value=bool(fact.value_concepts),
            interval=interval,
            unit=unit,
            span=self.span_of(fact),
            sure=fact.status in _CERTAIN or fact.status == _REFUTED,
            axes=axes,
            tumour=fact.tumour,
            origin=fact,
            problem=problem,
        )

    def number_of(self, fact: Fact, terms: Coded) -> tuple[Interval, str, str]:
        numeric = fact.value is not None or fact.value_text is not None
        quantities = {
            id(q): q for t in sorted(terms.certain or terms.general) if (q := self.terms.quantity_of(t))
        }
        if not numeric or not quantities:
            return ANYTHING, "", "no value" if quantities and not fact.value_concepts else ""
        readings = [
            read_number(fact.value, fact.comparator, fact.unit, q, self.terms) for q in quantities.values()
        ]
        reading = readings[0]
        if any(r.interval != reading.interval for r in readings[1:]):
            return ANYTHING, "", "several quantities"
        if reading.problem:
            self.find("DATA016", "warning", fact, reading.problem, reading.why, "correct the value or its unit at source; until then the result decides nothing")
        return reading.interval, reading.unit, reading.problem

    def span_of(self, fact: Fact) -> Span:
        start, end = fact.start, fact.end
        if start is None and end is None and fact.recorded is None:
            if fact.kind not in (_STATEMENT,) and fact.ongoing is None:
                return Span(NEVER, FOREVER, NEVER, FOREVER, _LONG_AGO, FOREVER * DAY)
        lo = start.first if start is not None else NEVER
        hi = start.last if start is not None else FOREVER
        if start is None and fact.recorded is not None:
            hi = fact.recorded.last
        if end is not None:
            end_lo, end_hi = end.first, end.last
            if start is None:
                hi = min(hi, end.last)
        elif fact.ongoing:
            end_lo = end_hi = FOREVER
        else:
            end_lo, end_hi = lo, FOREVER
        if end_hi < lo:
            self.find("DATA017", "warning", fact, "the end is before the start", "its time is read as not known", "correct the dates")
            return Span(NEVER, FOREVER, NEVER, FOREVER, _LONG_AGO, FOREVER * DAY)
        minute_lo, minute_hi = self.minutes(start, lo, hi)
        return Span(lo, hi, max(end_lo, lo), max(end_hi, hi), minute_lo, minute_hi)

    def minutes(self, start: PartialDate | None, lo: int, hi: int) -> tuple[int, int]:
        """Return the earliest and latest minute, in UTC, of a start."""
        if start is not None and start.minute is not None:
            first = last = start.first * DAY + start.minute
        else:
            first, last = lo * DAY, hi * DAY + DAY - 1
        low, high = self.offsets if start is None or start.offset is None else (start.offset, start.offset)
        return first - high, last - low

    # 2. Which facts are about the index tumour.
    def mark_index(self) -> None:
        for rule in self.trial.index_rules:
            groups: dict[str | None, list[Item]] = {}
            described = []
            for item in self.items:
                if self.in_set(item, rule.describes):
                    described.append(item)
                    groups.setdefault(item.tumour, []).append(item)
            marked = {
                t
                for t, members in groups.items()
                if any(self.on_axis(i, rule.axis, rule.index) == 2 for i in members)
            }
            candidate = self.trial.set_of(rule.candidate)
            candidates = {
                t
                for t, members in groups.items()
                if any(
                    (i.terms.readable and candidate.degree(i.terms, self.terms) > 0 and i.natural)
                    or (i.has_value and i.values.readable and candidate.degree(i.values, self.terms) > 0)
                    for i in members
                )
            }
            index: set[str | None] | None = None
            if marked:
                index = {t for t in marked if t is not None}
            elif len(candidates) == 1:
                index = set(candidates)
                if candidates != {None} and None not in candidates:
                    index.add(None)
            elif described:
                self.find(
                    "DATA018",
                    "warning",
                    None,
                    f"{len(candidates)} tumours could be the index tumour and none is marked",
                    "clauses about the index tumour stay undetermined",
                    "mark the index tumour in the record",
                )
            others = (groups.keys() - (index or set()) - {None}) if index is not None else set()
            replaced: dict[str, Item] = {}
            for item in described:
                if rule.axis in item.axes:
                    continue
                value = None
                if self.rivals(item.terms, rule) and item.natural:
                    value = rule.other
                elif item.has_value and self.rivals(item.values, rule):
                    # A report of another cancer that names no tumour may be about either.
                    value = None
                elif index is not None and item.tumour in index:
                    value = rule.index
                elif item.tumour in others:
                    value = rule.other
                if value is not None:
                    replaced[item.id] = replace(
                        item, axes={**item.axes, rule.axis: Coded(frozenset((value,)))}
                    )
            self.items = [replaced.get(i.id, i) for i in self.items]

    def on_axis(self, item: Item, axis: str, value: str) -> int:
        coded = item.axes.get(axis)
        if coded is None or not coded.readable:
            return 1
        return self.trial.set_of(value).degree(coded, self.terms)

    def rivals(self, coded: Coded, rule: IndexRule) -> bool:
        """Whether ``coded`` names something of the rival kind that cannot be a candidate."""
        if rule.rival is None or not coded.certain:
            return False
        rival, candidate = self.trial.set_of(rule.rival), self.trial.set_of(rule.candidate)
        return rival.degree(coded, self.terms) == 2 and candidate.degree(coded, self.terms) == 0

    # 3. Implications and refinements, until nothing new follows.
    def derive(self, *, windowed: bool) -> None:
        rules = [
            d
            for d in self.trial.derivations
            if d.kind in ("Implication", "Refinement", "Conversion") and (d.window is not None) == windowed
        ]
        if not windowed and not rules:
            return
        done: set[tuple[str, str]] = set()
        for _ in range(8):
            changed = False
            for rule in rules:
                for item in list(self.items):
                    if (rule.iri, item.id) in done or rule.iri == item.derived_by:
                        continue
                    degree = self.matches(item, rule)
                    if rule.kind == "Refinement":
                        if degree == 2:
                            done.add((rule.iri, item.id))
                            changed |= self.refine(item, rule)
                    elif degree:
                        done.add((rule.iri, item.id))
                        derived = self.imply(item, rule, degree)
                        if derived is not None:
                            self.items.append(derived)
                            changed = True
            if not changed:
                return

    def matches(self, item: Item, rule: Derivation) -> int:
        degree = self.in_set(item, rule.source)
        if degree and rule.accepted != ANY:
            accepted = (
                self.trial.set_of(rule.accepted).degree(item.values, self.terms) if item.has_value else 1
            )
            degree = min(degree, accepted)
        if degree:
            degree = min(degree, qualifier_degree(item, rule.qualifier, self.trial, self.terms))
        if degree and rule.window is not None:
            days = self.windows[rule.window]
            degree = min(degree, window_degree(item.span, days, self.trial.windows[rule.window].start_only))
        return degree

    def refine(self, item: Item, rule: Derivation) -> bool:
        new = item
        if rule.adds_value:
            new = replace(new, values=self.narrowed(new.values, rule.adds_value), has_value=True)
        if rule.adds_concept:
            new = replace(new, terms=self.narrowed(new.terms, rule.adds_concept))
        if rule.axis and rule.axis_value and rule.axis not in new.axes:
            new = replace(new, axes={**new.axes, rule.axis: Coded(frozenset((rule.axis_value,)))})
        if new == item:
            return False
        if rule.rests_on:
            new = replace(new, rests_on=(*new.rests_on, rule.rests_on))
        self.items[self.items.index(item)] = new
        return True

    def narrowed(self, coded: Coded, term: str) -> Coded:
        return self.terms.code((*sorted(coded.certain), term))

    def imply(self, item: Item, rule: Derivation, degree: int) -> Item | None:
        if rule.gives is None:
            return None
        values, interval = Coded(), ANYTHING
        has_value = False
        if rule.kind == "Conversion":
            factor = Decimal(rule.value or "1")
            interval = Interval(
                item.interval.lo if item.interval.lo <= -INFINITY else item.interval.lo * factor,
                item.interval.hi if item.interval.hi >= INFINITY else item.interval.hi * factor,
                item.interval.lo_open,
                item.interval.hi_open,
            )
        elif rule.value is not None:
            values, has_value = Coded(frozenset((rule.value,))), True
        elif rule.value_from_concept:
            values, has_value = item.terms, True
        elif rule.value_from_axis is not None:
            coded = item.axes.get(rule.value_from_axis)
            if coded is None:
                return None
            values, has_value = coded, True
        span = item.span
        if rule.as_default:
            span = Span(NEVER, NEVER, FOREVER, FOREVER, _LONG_AGO, _LONG_AGO)
        return self.derived(
            rule,
            rule.gives,
            (item,),
            values=values,
            has_value=has_value,
            interval=interval,
            span=span,
            sure=item.sure and degree == 2 and not rule.as_suspected,
            axes=item.axes,
            tumour=item.tumour,
        )

    def derived(
        self,
        rule: Derivation,
        concept: str,
        parents: tuple[Item, ...],
        *,
        span: Span,
        values: Coded | None = None,
        has_value: bool = False,
        interval: Interval = ANYTHING,
        sure: bool = True,
        axes: Mapping[str, Coded] | None = None,
        tumour: str | None = None,
    ) -> Item:
        self.counter += 1
        quantity = self.terms.quantity_of(concept)
        rests = tuple(dict.fromkeys(r for p in parents for r in p.rests_on))
        if rule.rests_on:
            rests = (*rests, rule.rests_on)
        return Item(
            id=f"derived:{self.counter}:{local_name(rule.iri)}",
            kind=self.terms.kind_of(concept),
            natural=True,
            terms=Coded(frozenset((concept,))),
            values=values or Coded(),
            has_value=has_value,
            interval=interval,
            unit=quantity.unit if quantity else "",
            span=span,
            sure=sure,
            axes=axes or {},
            tumour=tumour,
            origin=parents[0].origin if parents else None,
            parents=parents,
            derived_by=rule.iri,
            rests_on=rests,
        )

    # 4. Arithmetic on measurements: multiples of the upper limit, smallest of a day, clearance.
    def measure(self) -> None:
        for rule in self.trial.derivations:
            if rule.kind == "UpperLimitMultiple":
                for item in list(self.items):
                    if any(self.in_set(item, c) == 2 or (
                        self.in_set(item, c) == 1 and not item.sure
                    ) for c in rule.of):
                        self.items.append(self.multiple(item, rule))
            elif rule.kind in ("Smallest", "Largest"):
                self.extreme(rule)
            elif rule.kind == "CockcroftGault":
                self.clearance(rule)

    def multiple(self, item: Item, rule: Derivation) -> Item:
        interval = ANYTHING
        problem = "no upper limit of normal"
        fact = item.origin
        quantity = self.terms.quantity_of(sorted(item.terms.certain or item.terms.general)[0])
        if fact is not None and fact.upper_limit is not None and quantity is not None:
            unit = fact.upper_limit_unit or fact.unit
            limit = to_canonical(fact.upper_limit, unit, quantity, self.terms)
            if limit is None:
                problem = "the upper limit has an unusable unit"
            elif limit > 0:
                interval = ratio(item.interval, Interval(limit, limit))
                problem = "" if item.interval.known else item.problem
        made = self.derived(
            rule, rule.iri, (item,), span=item.span, interval=interval, sure=item.sure, axes=item.axes
        )
        return replace(made, problem=problem)

    def extreme(self, rule: Derivation) -> None:
        smallest = rule.kind == "Smallest"
        days: dict[int, dict[str, list[Item]]] = {}
        for item in self.items:
            if item.span.start_lo != item.span.start_hi or not item.sure or item.problem:
                continue
            for part in rule.of:
                if self.in_set(item, part) == 2:
                    days.setdefault(item.span.start_lo, {}).setdefault(part, []).append(item)
        for _, parts in sorted(days.items()):
            members = tuple(i for p in rule.of for i in parts.get(p, ()))
            bounds = [i.interval for i in members]
            if len(parts) < len(rule.of):
                bounds.append(Interval(lo=Decimal(0)))
            pick: Callable[[Iterable[Decimal]], Decimal] = min if smallest else max
            lo, hi = pick(b.lo for b in bounds), pick(b.hi for b in bounds)
            lo_open = all(b.lo_open for b in bounds if b.lo == lo)
            hi_open = any(b.hi_open for b in bounds if b.hi == hi) if smallest else all(
                b.hi_open for b in bounds if b.hi == hi
            )
            axes = {
                axis: coded
                for axis, coded in members[0].axes.items()
                if all(m.axes.get(axis) == coded for m in members)
            }
            self.items.append(
                self.derived(
                    rule, rule.iri, members, span=members[0].span, interval=Interval(lo, hi, lo_open, hi_open),
                    axes=axes, tumour=members[0].tumour,
                )
            )

    def clearance(self, rule: Derivation) -> None:
        """Estimate creatinine clearance; the estimate stands behind every recorded clearance.

        Source: Cockcroft and Gault 1976: (140 - age) x weight / (72 x creatinine in mg/dL), times
        0.85 for women; not indexed to body surface. Molar mass of creatinine 113.12 g/mol.
        """
        named = dict(rule.inputs)
        birth = self.births(named.get("fromBirth", str(SARC.Birth)))
        weights = [
            i for i in self.items
            if self.in_set(i, named["fromWeight"]) == 2 and i.interval.known
        ]
        sexes = self.sexes(named.get("fromSex", str(SARC.Sex)))
        if birth is None or not weights:
            return
        for item in list(self.items):
            if self.in_set(item, named["fromCreatinine"]) != 2:
                continue
            day = item.span.start_hi
            if not item.interval.known or item.span.start_lo != day or item.interval.lo <= 0:
                continue
            earlier = [w for w in weights if w.span.start_hi <= day]
            if not earlier:
                continue
            weight = max(earlier, key=lambda w: (w.span.minute_hi, w.id))
            ages = sorted(Decimal(completed_years(b, day)) for b in birth)
            factors = sorted(sexes)
            molar = Decimal("113.12") / 10000

            def formula(age: Decimal, kg: Decimal, umol: Decimal, factor: Decimal, molar: Decimal = molar) -> Decimal:
                return (140 - age) * kg / (72 * umol * molar) * factor

            top = item.interval.hi if item.interval.hi < INFINITY else None
            lo = formula(ages[-1], weight.interval.lo, top, factors[0]) if top else Decimal(0)
            hi = formula(ages[0], weight.interval.hi, item.interval.lo, factors[-1])
            # Windows see the day of the creatinine; in order of time it yields to any recorded value.
            span = replace(
                item.span,
                minute_lo=item.span.minute_lo + _LONG_AGO,
                minute_hi=item.span.minute_hi + _LONG_AGO,
            )
            self.items.append(
                self.derived(rule, rule.iri, (item, weight), span=span, interval=Interval(lo, hi))
            )

    def births(self, concept: str) -> tuple[int, int] | None:
        days = [
            (i.span.start_lo, i.span.start_hi)
            for i in self.items
            if self.in_set(i, concept) == 2 and i.span.start_lo > NEVER
        ]
        return (min(d[0] for d in days), max(d[1] for d in days)) if days else None

    def sexes(self, concept: str) -> set[Decimal]:
        factors: set[Decimal] = set()
        for item in self.items:
            if self.in_set(item, concept) == 2 and item.has_value:
                if item.values.certain == {str(SARC.Female)}:
                    factors.add(Decimal("0.85"))
                elif item.values.certain == {str(SARC.Male)}:
                    factors.add(Decimal(1))
                else:
                    factors |= {Decimal("0.85"), Decimal(1)}
        return factors or {Decimal("0.85"), Decimal(1)}

    # 5. Anchors and windows of this patient.
    def resolve_all(self) -> None:
        for anchor in self.trial.anchors:
            self.anchor(anchor)
        for window in self.trial.windows:
            self.window(window)

    def anchor(self, iri: str) -> AnchorDay:
        if iri in self.anchors:
            return self.anchors[iri]
        if iri == _ENTRY:
            minutes = self.minutes(self.entry, self.entry.first, self.entry.last)
            found = AnchorDay(_point(self.entry, minutes), "given")
        elif iri == _AS_OF:
            day = self.as_of
            found = AnchorDay(Span(day, day, day, day, day * DAY, day * DAY + DAY - 1), "given")
        elif iri in self.resolving:
            found = AnchorDay(_UNKNOWN, "refers to itself")
        else:
            self.resolving.add(iri)
            found = self.try_each(self.trial.anchors.get(iri, ()))
            self.resolving.discard(iri)
        self.anchors[iri] = found
        return found

    def try_each(self, selections: tuple[Selection, ...]) -> AnchorDay:
        """Return what the first attempt that finds something gives."""
        if not selections:
            return AnchorDay(_UNKNOWN, "not in the record")
        first, rest = selections[0], selections[1:]
        if first.pick == "sameAs":
            other = self.anchor(first.targets[0])
            if other.span == _UNKNOWN and rest:
                return self.try_each(rest)
            span = other.span
            if first.end_of_day and span != _UNKNOWN:
                # The first moment after that day: what was dated that day lies before it.
                low, high = self.offsets
                midnight = (span.start_hi + 1) * DAY
                span = replace(span, minute_lo=midnight - high, minute_hi=midnight - low)
            how = other.how if other.how != "given" else f"same as {local_name(first.targets[0])}"
            return AnchorDay(span, f"policy {local_name(first.policy)}" if first.policy else how, other.items)
        found: list[tuple[int, Span]] = []
        items: list[Item] = []
        grounds: dict[str, None] = {}
        for target in first.targets:
            if target in self.trial.anchors:
                other = self.anchor(target)
                if other.span != _UNKNOWN:
                    found.append((2, other.span))
                    items += other.items
                    grounds[other.how.removeprefix("record: ")] = None
                continue
            for item in self.items:
                degree = self.chosen(item, target, first)
                if degree:
                    found.append((degree, item.span))
                    items.append(item)
                    grounds.update(dict.fromkeys(item.sources))
        if not found:
            return self.try_each(rest)
        certain = [s for d, s in found if d == 2]
        possible = [s for _, s in found]
        if first.pick == "agreementOf" or not certain:
            if not certain:
                certain = possible = [*possible, self.try_each(rest).span]
            certain = possible
            pick_lo: Callable[[Iterable[int]], int] = min
            pick_hi: Callable[[Iterable[int]], int] = max
        elif first.pick == "earliestOf":
            pick_lo = pick_hi = min
        else:
            # The latest is at least as late as every certain one, at most as late as any.
            pick_lo = pick_hi = max
            certain, possible = possible, certain
        day_lo = pick_lo(s.start_lo for s in possible)
        day_hi = pick_hi(s.start_hi for s in certain)
        span = Span(
            day_lo,
            day_hi,
            day_lo,
            day_hi,
            pick_lo(s.minute_lo for s in possible),
            pick_hi(s.minute_hi for s in certain),
        )
        names = list(grounds)
        how = ", ".join(names) if len(names) <= 3 else f"{len(names)} facts"
        if items:
            how = f"record: {how}"
        if first.policy:
            how += f" (policy {local_name(first.policy)})"
        return AnchorDay(span, how, tuple(items))

    def chosen(self, item: Item, target: str, selection: Selection) -> int:
        """Return the degree to which an anchor's attempt selects ``item``."""
        degree = self.in_set(item, target)
        if degree and selection.accepted != ANY:
            accepted = self.trial.set_of(selection.accepted)
            degree = min(degree, accepted.degree(item.values, self.terms) if item.has_value else 1)
        if not degree or qualifier_degree(item, selection.qualifier, self.trial, self.terms) < 2:
            return 0
        if any(qualifier_degree(item, q, self.trial, self.terms) == 2 for q in selection.unless):
            return 0
        if selection.window != EVER:
            days = self.window(selection.window)
            start_only = self.trial.windows[selection.window].start_only
            degree = min(degree, window_degree(item.span, days, start_only))
        if degree and selection.before is not None:
            limit = self.anchor(selection.before).span
            if limit != _UNKNOWN:
                if item.span.start_lo > limit.start_hi:
                    return 0
                if item.span.start_hi > limit.start_lo:
                    degree = 1
        return degree

    def window(self, iri: str) -> WindowDays:
        if iri in self.windows:
            return self.windows[iri]
        rule = self.trial.windows[iri]
        span = self.anchor(rule.anchor).span
        end_lo = _shift(span.start_lo, rule.ends_days_before)
        end_hi = _shift(span.start_hi, rule.ends_days_before)
        if rule.ends_before is not None:
            other = self.window(rule.ends_before)
            end_lo, end_hi = _shift(other.start_lo, 1), _shift(other.start_hi, 1)
        if rule.open_end:
            end_lo = end_hi = FOREVER
        if rule.months is not None:
            start_lo = months_before(span.start_lo, rule.months)
            start_hi = months_before(span.start_hi, rule.months)
        elif rule.days is not None:
            start_lo, start_hi = _shift(span.start_lo, rule.days), _shift(span.start_hi, rule.days)
        else:
            start_lo = start_hi = NEVER
        self.windows[iri] = WindowDays(start_lo, start_hi, end_lo, end_hi)
        return self.windows[iri]

    # 6. Intervals between anchors.
    def intervals(self) -> None:
        for rule in self.trial.derivations:
            if rule.kind != "Interval" or rule.from_anchor is None or rule.to_anchor is None:
                continue
            start, stop = self.anchor(rule.from_anchor), self.anchor(rule.to_anchor)
            a, b = start.span, stop.span
            if a.start_lo <= NEVER or b.start_lo <= NEVER or FOREVER in (a.start_hi, b.start_hi):
                continue
            if rule.measured_in == str(SARC.CompletedYears):
                lo, hi = completed_years(a.start_hi, b.start_lo), completed_years(a.start_lo, b.start_hi)
            elif rule.measured_in == str(SARC.Minutes):
                lo, hi = b.minute_lo - a.minute_hi, b.minute_hi - a.minute_lo
            else:
                lo, hi = b.start_lo - a.start_hi, b.start_hi - a.start_lo
            made = self.derived(
                rule, rule.iri, start.items + stop.items, span=b, interval=Interval(Decimal(lo), Decimal(hi))
            )
            policies = tuple(x.how for x in (start, stop) if "policy" in x.how)
            self.items.append(replace(made, rests_on=made.rests_on + policies))

    # 7. Statements: spoken, vouched for, and explicit negatives.
    def settle(self) -> None:
        born = self.births(str(SARC.Birth))
        for item in self.spoken:
            scopes = item.terms.certain
            start = item.span.start_hi if item.origin and item.origin.start is not None else NEVER
            if item.origin and item.origin.start is item.origin.end:
                # A single date is when it was said: everything up to then.
                start = NEVER
            if born is not None and start <= born[0]:
                start = NEVER
            end = item.span.end_lo if item.origin and item.origin.end is not None else item.span.start_lo
            if item.origin and item.origin.end is None and item.origin.recorded is not None:
                end = item.origin.recorded.first
            if end >= FOREVER or end <= NEVER:
                self.find("DATA019", "warning", item.origin, "a completeness statement without an end", "nobody knows how far it reaches", "give sarc:end or sarc:date")
                continue
            if not item.sure:
                continue
            label = ", ".join(sorted(self.terms.label(s) for s in scopes))
            self.statements.append(
                Statement(scopes, start, end, f"{label} complete ({item.sources[0]})", False, (item,))
            )
        for scope in self.complete:
            self.statements.append(
                Statement(frozenset((scope,)), NEVER, max(self.as_of, self.entry.last), f"{self.terms.label(scope)} complete (said when the program was run)", False)
            )
        wanted = self.silent_sets()
        for item in self.refuted:
            sets = frozenset(s for s in wanted if self.denies(item, s))
            day = item.span.start_lo if item.span.start_lo > NEVER else (
                item.origin.recorded.first if item.origin and item.origin.recorded else NEVER
            )
            if sets and day > NEVER:
                self.statements.append(
                    Statement(sets, NEVER, day, f"refuted in the record ({item.sources[0]})", True, (item,), day)
                )
        for rule in self.trial.derivations:
            if rule.kind != "Settling":
                continue
            scopes = set(rule.settles)
            for s in wanted:
                if any(self.narrower(s, t) for t in rule.settles):
                    scopes.add(s)
            for item in list(self.items):
                if self.matches(item, rule) == 2 and item.span.start_lo > NEVER:
                    explicit = not any(s in self.terms.scope_kinds for s in rule.settles)
                    end = min(item.span.start_lo + rule.holds_for, self.as_of)
                    self.statements.append(
                        Statement(
                            frozenset(scopes), NEVER, max(end, item.span.start_lo),
                            f"{self.trial.label(rule.iri, self.terms)} ({item.sources[0]})",
                            explicit, (item,), item.span.start_lo,
                        )
                    )

    def silent_sets(self) -> list[str]:
        return sorted({c.role.concept_set for c in self.trial.clauses.values() if c.role and c.settled_by})

    def narrower(self, iri: str, than: str) -> bool:
        """Whether every member of set ``iri`` lies in set ``than``."""
        wide = self.trial.set_of(than)
        narrow = self.trial.set_of(iri)
        return narrow.kind == wide.kind and all(
            wide.degree_of_term(m, self.terms) == 2 for m in narrow.members
        )

    def denies(self, item: Item, iri: str) -> bool:
        """Whether a refuted fact says that there was nothing of set ``iri``."""
        wanted = self.trial.set_of(iri)
        if (wanted.kind is None and not item.natural) or (wanted.kind is not None and wanted.kind != item.kind):
            return False
        return any(
            all(term in self.terms.up(m) for m in wanted.members) for term in item.terms.certain
        )

    # 8. Counts.
    def tally(self) -> None:
        for rule in self.trial.derivations:
            if rule.kind != "Tally" or rule.gives is None:
                continue
            members = [i for i in self.items if self.in_set(i, rule.source)]
            certain = [i for i in members if self.in_set(i, rule.source) == 2]
            if not members:
                continue
            span = Span(NEVER, NEVER, FOREVER, FOREVER, _LONG_AGO, _LONG_AGO)
            # Whether the count is complete depends on the statement covering up to entry.
            probe = Prepared(
                self.record, self.trial, self.terms, self.entry, self.as_of, self.items, self.statements,
                self.windows, self.anchors, {}, {}, [],
            )
            statement = probe._covering(rule.settled_by or "", WindowDays(NEVER, NEVER, self.entry.first, self.entry.first))
            distinct = {i.tumour or i.id for i in certain}
            hi = Decimal(len({i.tumour or i.id for i in members})) if statement else INFINITY
            made = self.derived(
                rule, rule.gives, tuple(members), span=span, interval=Interval(Decimal(len(distinct)), hi),
                axes={
                    axis: coded for axis, coded in members[0].axes.items()
                    if all(m.axes.get(axis) == coded for m in members)
                },
            )
            if statement:
                made = replace(made, rests_on=(*made.rests_on, statement.text))
            self.items.append(made)

    def applies(self, question: Question) -> bool:
        """Whether the "if" of a question may hold for this record."""
        if question.asked_of is None or question.asked_when is None:
            return True
        wanted = self.trial.set_of(question.asked_when)
        known = [i for i in self.items if set_degree(i, question.asked_of, self.trial, self.terms)]
        return not known or any(
            not i.has_value or wanted.degree(i.values, self.terms) > 0 for i in known
        )

    # 9. Answers of people.
    def answer(self, prepared: Prepared) -> None:
        """Work out which clauses are cleared and which criteria and clauses are denied.

        The latest answer on or before entry counts, per question; contradictory answers of one
        day leave it open; an answer without a date or a value does not count.
        """
        questions = {q.iri: q for q in self.trial.questions}
        criteria = {c.iri: c for c in self.trial.criteria}
        clauses = self.trial.clauses
        owner = {leaf: c for c in self.trial.criteria for leaf in c.clauses}
        latest: dict[str, list[Item]] = {}
        for item in self.answers:
            subject = next(iter(sorted(item.terms.certain)), None)
            if subject is None or not (subject in questions or subject in criteria or subject in clauses):
                self.find("DATA030", "warning", item.origin, "an answer to an unknown question", "it answers nothing here", "use a linkId of the checklist or a rule id")
                continue
            if item.span.start_lo <= NEVER:
                self.find("DATA031", "warning", item.origin, "an answer without a date", "nobody knows whether it was given by study entry", "date the answer")
                continue
            if item.values.certain not in ({_YES}, {_NO}):
                if item.values.certain != {str(SARC.Unknown)}:
                    self.find("DATA032", "warning", item.origin, "an answer that is not yes, no or unknown", "it cannot be read", "answer yes or no")
                continue
            if item.span.start_hi > self.entry.last:
                continue
            if item.origin is not None and item.origin.performer is None and item.origin.basis is None and not item.origin.id.startswith("option:"):
                self.find("DATA033", "info", item.origin, "an answer without its author", "an auditor cannot ask back", "name who answered (role) and on what ground")
            if item.origin is not None and item.origin.status == _SUSPECTED:
                continue
            latest.setdefault(subject, []).append(item)
        verdicts: list[tuple[str, bool, Item]] = []
        for subject, given in sorted(latest.items()):
            day = max(i.span.minute_lo for i in given)
            last = [i for i in given if i.span.minute_hi >= day]
            said = {next(iter(i.values.certain)) for i in last}
            if len(said) > 1:
                self.find("DATA034", "warning", last[0].origin, "contradictory answers of the same date", "neither counts", "ask again")
                continue
            if subject in questions:
                if not self.applies(questions[subject]):
                    self.find(
                        "DATA036",
                        "info",
                        last[0].origin,
                        "an answer to a question that does not apply",
                        "the record says that its condition does not hold",
                        "nothing, if the record is right",
                    )
                    continue
                clearing = questions[subject].clearing
            else:
                criterion = criteria.get(subject) or owner[subject]
                clearing = _YES if criterion.kind == "inclusion" else _NO
            verdicts.append((subject, said.pop() == clearing, last[-1]))
        events: dict[str, list[tuple[Item, bool, str]]] = {}
        covered_by: dict[str, tuple[str, ...]] = {}
        for subject, clears, item in verdicts:
            covered_by[subject] = (
                questions[subject].covers if subject in questions
                else criteria[subject].clauses if subject in criteria and subject not in clauses
                else (subject,)
            )
            for clause in covered_by[subject]:
                if clause in clauses:
                    events.setdefault(clause, []).append((item, clears, subject))
            if subject in clauses and not clauses[subject].attestable and clears:
                self.find("DATA035", "warning", item.origin, "an answer to a clause that only the record can decide", "it does not clear the clause", "record the measurement itself")
        for clause, given in events.items():
            newest = max(i.span.minute_lo for i, _, _ in given)
            last_events = [e for e in given if e[0].span.minute_hi >= newest]
            said_now = {e[1] for e in last_events}
            if len(said_now) > 1:
                self.find("DATA034", "warning", last_events[0][0].origin, f"contradictory answers about {clauses[clause].id}", "neither counts", "ask again")
                continue
            if said_now == {True}:
                if clauses[clause].attestable:
                    prepared.cleared[clause] = tuple(Answer(i, True, s) for i, _, s in last_events)
                continue
            criterion = owner[clause]
            for item, _, subject in last_events:
                answer = Answer(item, False, subject)
                # A question about several clauses of a criterion does not say which one it denies.
                alone = [c for c in criterion.clauses if c in covered_by[subject]] == [clause]
                target = clause if alone and clauses[clause].attestable else criterion.iri
                known = prepared.denied.get(target, ())
                if item.id not in {k.item.id for k in known}:
                    prepared.denied[target] = (*known, answer)


_UNKNOWN = Span(NEVER, FOREVER, NEVER, FOREVER, _LONG_AGO, FOREVER * DAY)


def _point(date: PartialDate, minutes: tuple[int, int]) -> Span:
    return Span(date.first, date.last, date.first, date.last, *minutes)


def _shift(day: int, days: int) -> int:
    return day if day <= NEVER or day >= FOREVER else day - days
