"""What a mutant of a compiled trial is, and what all makers of mutants have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from sarc_kb.rules import Role, Trial
from sarc_kb.terminology import Quantity, Terminology

KINDS = {
    "threshold": "limits of numbers and of the levels of a ladder",
    "comparator": "whether a limit itself is inside",
    "unit": "limits read in another accepted unit",
    "window": "spans of days, months and minutes, and what they count from",
    "concept": "sets, their members and what they leave out",
    "qualifier": "attributes that a fact must have",
    "component": "what is asked of the facts: the latest, some, none, pairs",
    "silence": "what makes silence an answer",
    "join": "and, or, and what they join",
    "polarity": "answers that clear, what is denied, how a rule binds",
    "anchor": "how a date of the patient is found",
    "derivation": "what follows from what is recorded",
}
"""The kinds of mutants, in the order in which they are told."""

Change = Callable[[Trial], Trial]
"""One part of a trial in, the same part changed out."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A trial in which one thing is different.

    ``of``: the clause, join, rule or named thing that it belongs to. ``parts``: the parts of the
    trial, by number, that it changes. ``concepts``: terms that a record which tells it apart is
    likely to name. ``limits``: whether only limits of one clause change. ``equivalent``: why
    nothing could tell it apart; empty if something could. ``prepares``: whether preparing a patient
    looks at it; None: if it looks at the named thing ``of``.
    """

    id: str
    kind: str
    words: str
    of: str
    parts: tuple[int, ...]
    change: Change
    concepts: frozenset[str] = frozenset()
    limits: bool = False
    equivalent: str = ""
    prepares: bool | None = True


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes mutants of one part of a trial, or of what several parts share."""

    part: Trial
    parts: tuple[int, ...]
    terms: Terminology

    def made(
        self,
        name: str,
        kind: str,
        words: str,
        of: str,
        change: Change,
        *,
        concepts: Iterable[str] = (),
        limits: bool = False,
        equivalent: str = "",
        prepares: bool | None = True,
    ) -> Mutant:
        """Return a mutant of these parts."""
        return Mutant(
            name,
            kind,
            words,
            of,
            self.parts,
            change,
            frozenset(concepts),
            limits,
            equivalent,
            prepares and not limits,
        )


def step_of(role: Role, bound: Decimal, part: Trial, terms: Terminology) -> Decimal:
    """Return the step in which results of what ``role`` selects are reported."""
    quantity = quantity_of(role, part, terms)
    if quantity is not None and quantity.step is not None:
        return quantity.step
    if quantity is not None and quantity.whole:
        return Decimal(1)
    if bound == bound.to_integral_value():
        return Decimal(1)
    exponent = bound.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal(1).scaleb(exponent)


def quantity_of(role: Role, part: Trial, terms: Terminology) -> Quantity | None:
    """Return how numbers of what ``role`` selects are read, None where nobody says."""
    for member in sorted(part.set_of(role.concept_set).members):
        quantity = terms.quantity_of(member)
        if quantity is not None:
            return quantity
    return None


def plain(number: Decimal) -> str:
    """Return ``number`` without an exponent."""
    return f"{number:f}"
