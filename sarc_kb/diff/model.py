"""What differs between two knowledge bases, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that moved: what (``atLeast``, ``window daysBefore``), from what, to what. Of sets
    one side is what left, the other what entered."""

    aspect: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Witness:
    """A small patient whose outcome under the rule is another.

    ``old`` and ``new`` are outcomes of the rule; the verdicts (of a treatment rule the conclusions)
    those of the patient. ``as_of``: the day to judge by, where that is not the default.
    ``facts``: how many are left; ``made``: where the patient comes from.
    """

    rule: str
    old: str
    new: str
    old_verdict: str
    new_verdict: str
    patient: str
    as_of: str | None
    facts: int
    made: str
    turtle: str


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule that is not the same: ``kind`` is changed, added, removed, or reached: the rule says
    the same, but a patient flips by something that changed elsewhere.

    ``no_witness`` says why there is no ``witness``.
    """

    rule: str
    iri: str
    label: str
    kind: str
    changes: tuple[Change, ...]
    witness: Witness | None = None
    no_witness: str = ""


@dataclass(frozen=True, slots=True)
class ThingChange:
    """Something besides the rules that is not the same: a definition, a register entry, a term.

    ``area`` says what sort of thing; ``used_by`` names the rules in force that it reaches.
    """

    name: str
    iri: str
    area: str
    kind: str
    changes: tuple[Change, ...]
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flip:
    """A patient of the cohort who comes out otherwise: the verdict, the conclusion on treatment,
    and the criteria and treatment rules with their outcomes."""

    patient: str
    old: str
    new: str
    old_treatment: str | None
    new_treatment: str | None
    rules: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class CohortDiff:
    """Who flips in a cohort; ``counts``: patients by verdict before and after, the unchanged too."""

    patients: int
    not_judged: int
    counts: tuple[tuple[str, str, int], ...]
    flips: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class TrialDiff:
    """One trial in both. ``kind`` is same, changed, added or removed. ``renames`` (old name, new
    name) and ``texts`` (how many labels and explanations differ) are no changes."""

    trial: str
    kind: str
    rules: tuple[RuleChange, ...] = ()
    things: tuple[ThingChange, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    texts: int = 0
    looked_at: int = 0
    cohort: CohortDiff | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two knowledge bases, held against each other."""

    old: str
    new: str
    old_sha256: str
    new_sha256: str
    trials: tuple[TrialDiff, ...]

    @property
    def changed(self) -> bool:
        return any(t.kind != "same" for t in self.trials)
