"""The compiled rules of one or several trials as tables and masks of bits.

A *frame* is what shares one preparation: a part of a trial (eligibility or treatment) under given
policies and readings. Trials that differ from it in limits alone are its *variants*. Every clause
of a frame has a *slot*, a bit in one of the frame's words; a *selection* is a set, window,
qualifier and accepted values that some clause asks for; a *test* is a clause with its limits.
Clauses of variants that ask the same are one test, so that variants cost what differs in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sarc_kb.cohort.numbers import closed_bounds
from sarc_kb.prepare import Item, Prepared
from sarc_kb.prepare.model import Coding, set_degree
from sarc_kb.rules import PAIRS, Bounds, Clause, Criterion, Role, Trial

WORD = 62
"""Slots a word: a sum of distinct bits stays inside a signed 64-bit integer."""
BASE = -1
"""The variant of a test that all variants of a frame share."""
_NO_BOUNDS = Bounds()

Selection = tuple[str, str, str, str]
"""Set, window, qualifier and accepted values, as IRIs."""


def selection_of(role: Role) -> Selection:
    return (role.concept_set, role.window, role.qualifier, role.accepted)


@dataclass(frozen=True, slots=True)
class Test:
    """One clause with its limits, for one variant or (`BASE`) for all.

    Doubles compare as `sarc_kb.cohort.numbers` says; ``gap`` in minutes, and ``of_one_set`` where
    two facts of one minute are no pair.
    """

    frame: int
    variant: int
    slot: int
    component: str
    selections: tuple[int, ...]
    limits: tuple[tuple[float, float], ...]
    bounded: tuple[bool, ...]
    gap: tuple[int, int] | None
    of_one_set: bool


@dataclass(frozen=True)
class Frame:
    """One part of a trial with its variants; the first of them prepares for all. ``of``: the whole
    trials that the variants are parts of; ``names``: what outputs call those."""

    number: int
    variants: tuple[Trial, ...]
    names: tuple[str, ...]
    of: tuple[Trial, ...]

    @property
    def part(self) -> Trial:
        return self.variants[0]

    @property
    def is_treatment(self) -> bool:
        return self.part.course is not None

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """The clauses in the order of their slots."""
        return tuple(self.part.clauses.values())

    @cached_property
    def slots(self) -> Mapping[str, int]:
        return {clause.iri: slot for slot, clause in enumerate(self.clauses)}

    @cached_property
    def criteria(self) -> tuple[Criterion, ...]:
        return self.part.criteria

    @cached_property
    def selections(self) -> Mapping[Selection, int]:
        """Every selection that some clause makes, with its number."""
        found: dict[Selection, int] = {}
        for clause in self.clauses:
            for role in roles_of(clause):
                found.setdefault(selection_of(role), len(found))
        return found

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        """A role for each selection, in the order of their numbers; its limits say nothing."""
        return tuple(Role(*selection, _NO_BOUNDS) for selection in self.selections)

    @cached_property
    def latest(self) -> frozenset[int]:
        """Selections of which some clause reads the latest; of these alone, a fact outside the
        window is worth telling."""
        return self._read_by(lambda clause: clause.component == "latest")

    @cached_property
    def read_whole(self) -> frozenset[int]:
        """Selections of which some clause reads more than the latest."""
        return self._read_by(lambda clause: clause.component != "latest")

    def _read_by(self, reads: Callable[[Clause], bool]) -> frozenset[int]:
        return frozenset(
            self.selections[selection_of(role)]
            for clause in self.clauses
            if reads(clause)
            for role in roles_of(clause)
        )

    def may_take(self, item: Item, prepared: Prepared) -> tuple[int, ...]:
        """Return the selections whose set may hold ``item``; a cohort has few codings."""
        found = self._by_coding.get(item.coding)
        if found is None:
            found = tuple(
                number
                for number, role in enumerate(self.roles)
                if set_degree(item, role.concept_set, self.part, prepared.terms)
            )
            self._by_coding[item.coding] = found
        return found

    @cached_property
    def _by_coding(self) -> dict[Coding, tuple[int, ...]]:
        return {}

    @property
    def words(self) -> int:
        return max(1, -(-len(self.clauses) // WORD))

    @property
    def criterion_words(self) -> int:
        return max(1, -(-len(self.criteria) // WORD))


def roles_of(clause: Clause) -> tuple[Role, ...]:
    return tuple(r for r in (clause.role, clause.second) if r is not None)


def place(slot: int) -> tuple[int, int]:
    """Return the word of a slot and its bit in it."""
    return slot // WORD, 1 << (slot % WORD)


def mask(slots: Iterable[int], word: int) -> int:
    """Return the bits of those ``slots`` that lie in ``word``."""
    bits = 0
    for slot in slots:
        where, bit = place(slot)
        if where == word:
            bits |= bit
    return bits


class Plan:
    """The frames and tests of several trials, to be evaluated in one pass."""

    def __init__(self, trials: Mapping[str, Trial], *, only: str | None = None) -> None:
        """``trials`` by the name that outputs give them; ``only``: eligibility or treatment."""
        groups: dict[str, list[tuple[Trial, str, Trial]]] = {}
        for name, trial in trials.items():
            for part in trial.parts:
                if only and (part.course is not None) != (only == "treatment"):
                    continue
                groups.setdefault(preparation_of(part, trial), []).append((part, name, trial))
        self.frames = tuple(
            Frame(number, *zip(*members, strict=True))
            for number, members in enumerate(groups.values())
        )
        self.names = tuple(trials)
        self.tests = tuple(t for frame in self.frames for t in _tests(frame))

    @property
    def words(self) -> int:
        """Words that hold the slots of any frame."""
        return max(frame.words for frame in self.frames)

    @property
    def criterion_words(self) -> int:
        return max(frame.criterion_words for frame in self.frames)

    @cached_property
    def preparation(self) -> str:
        """A name for all that preparing depends on: prepared facts of another name are of no use."""
        keys = [preparation_of(frame.part, frame.of[0]) for frame in self.frames]
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def preparation_of(part: Trial, whole: Trial) -> str:
    """Return a name for all of a part of ``whole`` but the limits of its clauses, its texts, and
    names of what a caller set: parts of one name prepare a patient alike and join outcomes alike.

    The clauses on eligibility that a treatment rule judges again are looked at while preparing, so
    that their limits count.
    """
    compared = tuple(whole.clauses[c.compares] for c in part.criteria if c.compares is not None)
    unlimited = {
        iri: (
            clause.component,
            *(selection_of(role) for role in roles_of(clause)),
            clause.settled_by,
            clause.attestable,
            clause.gap if clause.component not in PAIRS else None,
            clause.criterion,
        )
        for iri, clause in part.clauses.items()
    }
    rules = tuple(
        (c.iri, c.id, c.kind, c.root, c.clauses, c.modality, c.due, c.compares)
        for c in part.criteria
    )
    joins = tuple(replace(join, label="") for join in part.joins.values())
    content = (
        part.iri,
        tuple((clause.iri, *roles_of(clause)) for clause in compared),
        rules,
        tuple(unlimited.items()),
        joins,
        _sorted(part.sets),
        _sorted(part.qualifiers),
        _sorted(part.windows),
        _sorted(part.anchors),
        part.derivations,
        part.index_rules,
        tuple((q.iri, q.covers, q.clearing, q.asked_of, q.asked_when) for q in part.questions),
        part.statement_tolerance,
        part.series,
        part.course,
    )
    return hashlib.sha256(_stable(content).encode()).hexdigest()


def _sorted(items: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(items.items(), key=lambda pair: pair[0]))


def _stable(value: object) -> str:
    """Return a text of ``value`` that does not depend on the order of sets."""
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(_stable(v) for v in value)) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(_stable(v) for v in value) + ")"
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return type(value).__name__ + _stable(tuple(getattr(value, name) for name in fields))
    return repr(value)


def _tests(frame: Frame) -> Iterable[Test]:
    for slot, clause in enumerate(frame.clauses):
        if clause.role is None:
            continue
        asked = [_test(frame, slot, variant.clauses[clause.iri]) for variant in frame.variants]
        if all(test == asked[0] for test in asked):
            yield asked[0]
        else:
            yield from (replace(test, variant=number) for number, test in enumerate(asked))


def _test(frame: Frame, slot: int, clause: Clause) -> Test:
    roles: Sequence[Role] = roles_of(clause)
    return Test(
        frame=frame.number,
        variant=BASE,
        slot=slot,
        component=clause.component,
        selections=tuple(frame.selections[selection_of(role)] for role in roles),
        limits=tuple(closed_bounds(role.bounds) for role in roles),
        bounded=tuple(role.bounds.used for role in roles),
        gap=clause.gap,
        of_one_set=clause.of_one_set,
    )
