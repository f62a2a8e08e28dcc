"""A prepared patient as rows of two tables: what counts for the clauses, and nothing else.

``facts``: one row for each prepared fact that some clause reads, with its profile, its value as a
closed interval of doubles (see `sarc_kb.cohort.numbers`) and the minutes between which it began.
``standing``: one row for each frame with what is settled, cleared and denied, a bit for each slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sarc_kb.assessment import Outcome
from sarc_kb.cohort.numbers import closed_interval
from sarc_kb.cohort.plan import Frame, mask
from sarc_kb.explain import BLOCKERS, problem_kind, standing_doubt
from sarc_kb.prepare import Item, Prepared
from sarc_kb.treatment import is_due, outcomes_at_entry

KINDS = tuple(BLOCKERS)
"""Kinds of missing data; a doubt is told by its place here."""
NO_DOUBT = -1

Mark = tuple[int, int, int, int, bool]
"""Selection, degree to which it takes the fact, degree to which the result is accepted, doubt, and
whether a later fact certainly takes its place where the latest is asked for.
Degree 0 marks a fact that lies outside the window and would be taken otherwise."""
Profile = tuple[int, bool, int, tuple[Mark, ...]]
"""Frame, whether the record names a source for it, what is wrong with its number, and the marks:
all that clauses can tell of a fact but its number and its time."""
FactRow = tuple[int, Profile, float, float, int, int, str]
"""Number of the fact, profile, least and greatest value, first and last minute, sources."""

AnswerRow = tuple[int, int, str]
"""Frame, slot of the clause (or -1 less the number of the criterion) and sources of an answer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The bits of one patient in one frame, a word each 62 slots; ``due`` and the like are by the
    order of the criteria. ``before_*``: how a clause on eligibility that a rule compares came out."""

    frame: int
    settled: tuple[int, ...]
    cleared: tuple[int, ...]
    denied: tuple[int, ...]
    refused: tuple[int, ...]
    due: tuple[int, ...]
    before_failed: tuple[int, ...]
    before_passed: tuple[int, ...]


@dataclass(slots=True)
class PatientRows:
    """The rows of one patient."""

    facts: list[FactRow] = field(default_factory=list)
    standing: list[Standing] = field(default_factory=list)
    answers: list[AnswerRow] = field(default_factory=list)


def rows_of(
    prepared: Prepared, frame: Frame, rows: PatientRows, at_entry: Prepared | None = None
) -> None:
    """Put what ``frame`` reads of the prepared patient into ``rows``.

    ``at_entry``: the patient prepared for eligibility, where the frame is about treatment.
    """
    marked = [(item, _marks(prepared, frame, item)) for item in prepared.items]
    newest = _newest(marked)
    numbers: dict[str, int] = {}
    for item, found in marked:
        marks = tuple(_without_superseded(frame, item, found, newest))
        if not marks:
            continue
        problem = KINDS.index(problem_kind(item.problem)) if item.problem else NO_DOUBT
        profile = (frame.number, bool(item.sources), problem, marks)
        lo, hi = closed_interval(item.interval)
        # One fact, however often it stands among the items, is no two.
        number = numbers.setdefault(item.id, len(numbers))
        rows.facts.append(
            (
                number,
                profile,
                lo,
                hi,
                item.span.minute_lo,
                item.span.minute_hi,
                ", ".join(item.sources),
            )
        )
    rows.standing.append(_standing(prepared, frame, at_entry))
    rows.answers += _answers(prepared, frame)


def _newest(marked: Iterable[tuple[Item, tuple[Mark, ...]]]) -> dict[int, int]:
    """Return the greatest minute by which a fact began that a selection certainly takes."""
    newest: dict[int, int] = {}
    for item, marks in marked:
        for number, degree, *_ in marks:
            if degree == 2:
                minute = item.span.minute_lo
                newest[number] = max(newest.get(number, minute), minute)
    return newest


def _without_superseded(
    frame: Frame, item: Item, marks: Iterable[Mark], newest: Mapping[int, int]
) -> Iterator[Mark]:
    """Yield the marks of ``item`` that tell something. A fact that certainly began before another
    one is not the latest; limits have no part in that, so that it is settled here once."""
    for number, degree, accepted, doubt, _ in marks:
        last = item.span.minute_hi
        superseded = degree > 0 and number in frame.latest and last < newest.get(number, last)
        if not superseded or number in frame.read_whole:
            yield number, degree, accepted, doubt, superseded


def _marks(prepared: Prepared, frame: Frame, item: Item) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    for number in frame.may_take(item, prepared):
        role = frame.roles[number]
        degree = prepared.in_set(item, role.concept_set)
        if not degree:
            continue
        qualified = prepared.qualified(item, role.qualifier)
        if not qualified:
            continue
        within = prepared.within(item, role.window)
        degree = min(degree, qualified, within)
        if degree == 0 and number not in frame.latest:
            continue
        accepted = prepared.accepted(item, role.accepted)
        doubt = standing_doubt(prepared, item, role) if degree else ""
        marks.append((number, degree, accepted, KINDS.index(doubt) if doubt else NO_DOUBT, False))
    return tuple(marks)


def _answers(prepared: Prepared, frame: Frame) -> list[AnswerRow]:
    found: list[AnswerRow] = []
    for slot, clause in enumerate(frame.clauses):
        if clause.attestable:
            # A denial stands before an answer that clears, as in `sarc_kb.explain`.
            given = prepared.denied.get(clause.iri) or prepared.cleared.get(clause.iri) or ()
            if clause.component == "attested":
                given = prepared.cleared.get(clause.iri) or prepared.denied.get(clause.iri) or ()
            found += [(frame.number, slot, ", ".join(a.item.sources)) for a in given]
    for number, rule in enumerate(frame.criteria):
        given = prepared.denied.get(rule.iri, ())
        found += [(frame.number, -1 - number, ", ".join(a.item.sources)) for a in given]
    return found


def _standing(prepared: Prepared, frame: Frame, at_entry: Prepared | None) -> Standing:
    clauses = frame.clauses
    settled = {
        slot
        for slot, clause in enumerate(clauses)
        if clause.settled_by is not None and prepared.settling(clause) is not None
    }
    cleared = {
        slot
        for slot, clause in enumerate(clauses)
        if clause.attestable and prepared.cleared.get(clause.iri)
    }
    denied = {
        slot
        for slot, clause in enumerate(clauses)
        if clause.attestable and prepared.denied.get(clause.iri)
    }
    refused = {n for n, rule in enumerate(frame.criteria) if prepared.denied.get(rule.iri)}
    due: set[int] = set()
    before: Mapping[str, Outcome] = {}
    if frame.is_treatment:
        due = {n for n, rule in enumerate(frame.criteria) if is_due(prepared, rule)}
        assert at_entry is not None
        before = outcomes_at_entry(at_entry, frame.criteria)

    def came_out(outcome: Outcome) -> set[int]:
        return {
            n
            for n, rule in enumerate(frame.criteria)
            if rule.compares is not None and before.get(rule.compares) is outcome
        }

    def packed(slots: set[int], words: int) -> tuple[int, ...]:
        return tuple(mask(slots, word) for word in range(words))

    return Standing(
        frame=frame.number,
        settled=packed(settled, frame.words),
        cleared=packed(cleared, frame.words),
        denied=packed(denied, frame.words),
        refused=packed(refused, frame.criterion_words),
        due=packed(due, frame.criterion_words),
        before_failed=packed(came_out(Outcome.FAIL), frame.criterion_words),
        before_passed=packed(came_out(Outcome.PASS), frame.criterion_words),
    )
