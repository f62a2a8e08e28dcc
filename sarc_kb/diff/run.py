"""Two knowledge bases held against each other: every trial, with witnesses and who flips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest

from sarc_kb.assessment import Outcome, TreatmentOutcome
from sarc_kb.diff.compare import Comparison, Side, compare
from sarc_kb.diff.model import CohortDiff, Difference, Flip, RuleChange, TrialDiff
from sarc_kb.diff.witness import with_witnesses
from sarc_kb.errors import EngineError, Finding, InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.judging import Circumstances, Standing, stand
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial

Records = Callable[[KnowledgeBase, Trial], Iterable[PatientRecord]]
"""The cohort as a knowledge base reads it: what a code means is part of that."""


def difference(
    old: KnowledgeBase,
    new: KnowledgeBase,
    *,
    names: tuple[str, str] = ("old", "new"),
    trial: str | None = None,
    cohort: Records | None = None,
    given: Circumstances | None = None,
) -> Difference:
    """Return what differs: of one trial, or of all.

    Args:
        names: what the two are called.
        cohort: gives the patients of whom to tell who flips.
        given: what the caller sets for judging them.
    Raises:
        UsageError: neither has that trial.
        RuleBaseError: the rules of one cannot be compiled.
    """
    known = sorted(old.trial_folders.keys() | new.trial_folders.keys())
    if trial is not None and trial.upper() not in known:
        new.trial_folder(trial.upper())
    wanted = known if trial is None else [trial.upper()]
    return Difference(
        *names,
        old.info.sha256,
        new.info.sha256,
        tuple(_trial(old, new, name, cohort, given or Circumstances()) for name in wanted),
    )


def _trial(
    old: KnowledgeBase,
    new: KnowledgeBase,
    name: str,
    cohort: Records | None,
    given: Circumstances,
) -> TrialDiff:
    if name not in old.trial_folders:
        return TrialDiff(name, "added")
    if name not in new.trial_folders:
        return TrialDiff(name, "removed")
    one, other = (Side(kb, name, kb.compile(name)) for kb in (old, new))
    # Of one content nothing differs.
    same = old.info.sha256 == new.info.sha256
    found = Comparison(one, other) if same else compare(one, other)
    rules: list[RuleChange] = []
    looked_at = 0
    if found.rules or found.things:
        rules, looked_at = with_witnesses(found)
    return TrialDiff(
        trial=name,
        kind="changed" if rules or found.things else "same",
        rules=tuple(rules),
        things=tuple(found.things),
        renames=found.told_renames,
        texts=found.texts,
        looked_at=looked_at,
        cohort=None if cohort is None else _cohort(found, cohort, given),
    )


def _cohort(c: Comparison, cohort: Records, given: Circumstances) -> CohortDiff:
    counts: Counter[tuple[str, str]] = Counter()
    flips: list[Flip] = []
    patients = lost = 0
    for pair in zip_longest(cohort(c.old.kb, c.old.trial), cohort(c.new.kb, c.new.trial)):
        patients += 1
        standings = [
            _standing(side, r, given) for side, r in zip((c.old, c.new), pair, strict=True)
        ]
        record = pair[1] or pair[0]
        assert record is not None
        if pair[0] is not None and pair[1] is not None and pair[0].patient != pair[1].patient:
            raise _mixed_up(pair[0], pair[1])
        told = [s.verdict.value if s else "error" for s in standings]
        lost += standings[0] is None and standings[1] is None
        counts[told[0], told[1]] += 1
        courses = [_conclusion(s) for s in standings]
        rules = tuple(_flipped(c, *standings))
        if told[0] != told[1] or courses[0] != courses[1] or rules:
            flips.append(Flip(record.label, told[0], told[1], courses[0], courses[1], rules))
    return CohortDiff(
        patients, lost, tuple((*pair, n) for pair, n in sorted(counts.items())), tuple(flips)
    )


def _mixed_up(one: PatientRecord, other: PatientRecord) -> InputError:
    return InputError(
        Finding(
            "DATA090",
            "error",
            other.origin,
            f"patient {one.label} by the old rules, {other.label} by the new at the same place",
            "one patient would be held against another",
            "compare on a source that both read alike, such as a facts table",
        )
    )


def _standing(side: Side, record: PatientRecord | None, given: Circumstances) -> Standing | None:
    if record is None:
        return None
    try:
        return stand(side.kb, record, side.trial, given)
    except (InputError, EngineError):
        return None


def _flipped(
    c: Comparison, old: Standing | None, new: Standing | None
) -> Iterator[tuple[str, str, str]]:
    if old is None or new is None:
        return
    before, after = _outcomes(old), _outcomes(new)
    for iri in c.new.rules:
        one, other = before.get(c.before(iri)), after.get(iri)
        if one is not None and other is not None and one is not other:
            yield c.new.name(iri), _word(one), _word(other)


def _conclusion(standing: Standing | None) -> str | None:
    if standing is None or standing.conclusion is None:
        return None
    return str(standing.conclusion.value)


def _outcomes(standing: Standing) -> dict[str, Outcome | TreatmentOutcome]:
    return {**standing.criteria, **standing.rules}


def _word(outcome: Outcome | TreatmentOutcome) -> str:
    return outcome.word if isinstance(outcome, Outcome) else str(outcome.value)
