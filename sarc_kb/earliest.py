"""Over time: when a patient becomes eligible by waiting, and how long the present verdict holds.

The question is what the verdict is for an entry on a later day if until then nothing happens and
nothing is recorded. `prepare` answers it for any one day (``unchanged_since``); here the verdict is
followed from day to day, looking only at the days on which something may turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sarc_kb.assess import deciding, fold
from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.dates import PartialDate, iso
from sarc_kb.explain import explain
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.prepare import Preparation, Prepared, finish
from sarc_kb.prepare.turns import Turns
from sarc_kb.rules import Criterion, Trial

_VERDICTS = {
    Outcome.FAIL: Verdict.INELIGIBLE,
    Outcome.UNDETERMINED: Verdict.UNDETERMINED,
    Outcome.PASS: Verdict.ELIGIBLE,
}


@dataclass(frozen=True, slots=True)
class Opening:
    """A day on which the patient could enter.

    ``held_by``: the clauses that open on that day, by their ids; empty if it is the present entry.
    ``repeat``: the clauses that were met before and are open on that day, because what they rest on
    has grown too old; a fresh result like the last one is needed.
    """

    date: str
    held_by: tuple[str, ...] = ()
    repeat: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """The first day on which the verdict is another, what it is then, and the clauses by which."""

    date: str
    verdict: Verdict
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OverTime:
    """One patient over time, from the present entry ``now`` up to ``horizon``.

    ``earliest``: the first day on which every criterion passes; None if there is none.
    ``if_repeated``: an earlier such day (or one at all) if what was met before and has grown old is
    recorded again. ``expires``: when the present verdict ends; None if it stands up to the horizon.
    ``blocked_by``: clauses that keep a criterion from passing on every day, so that waiting does
    not help; there may be more, since nobody looks on once that is certain. ``apart``: every criterion passes on some day but never all on one, whatever is
    repeated; the clauses that are not met on some day.
    """

    now: str
    horizon: str
    verdict_now: Verdict
    earliest: Opening | None = None
    if_repeated: Opening | None = None
    expires: Change | None = None
    blocked_by: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


def over_time(
    kb: KnowledgeBase,
    record: PatientRecord,
    trial: Trial,
    *,
    horizon_days: int = 730,
    complete: Iterable[str] = (),
    attested: Mapping[str, str] | None = None,
) -> OverTime:
    """Return what waiting does to one patient's eligibility, by entry dates from the present one on.

    Args:
        horizon_days: how many days after the present entry to look.
        complete, attested: as for judging; histories vouched for, answers for the whole study.
    Raises:
        InputError: the record has no usable entry date.
    """
    begun = kb.begin(record, trial, complete=complete, attested=attested)
    now = begun.entry.last
    last = now + horizon_days
    standing = _Standing(trial, finish(begun.moved(begun.entry)), now)
    turns = Turns(begun, standing.prepared.statements, last)
    by_clause = {iri: turns.of(clause) for iri, clause in trial.clauses.items()}
    return _followed(begun, standing, by_clause, OverTime(iso(now), iso(last), standing.verdict))


def entry_on(entry: PartialDate, day: int) -> PartialDate:
    """Return ``entry`` moved to ``day``, at the same time of day."""
    return replace(entry, text=iso(day) + entry.text[10:], first=day, last=day)


def _followed(
    begun: Preparation,
    standing: _Standing,
    by_clause: Mapping[str, frozenset[int]],
    found: OverTime,
) -> OverTime:
    """Return ``found`` with what is seen from day to day, as far as one has to look."""
    if standing.verdict is Verdict.ELIGIBLE:
        found = replace(found, earliest=Opening(found.now))
    history = _History(standing, by_clause)
    for day in sorted(set[int]().union(*by_clause.values())):
        if history.told(found):
            break
        before, with_repeats = standing, history.with_repeats
        prepared = finish(begun.moved(entry_on(begun.entry, day)))
        standing = before.turned(prepared, day, (i for i, t in by_clause.items() if day in t))
        history.add(standing)
        if found.expires is None and standing.verdict is not found.verdict_now:
            change = Change(iso(day), standing.verdict, before.turned_by(standing))
            found = replace(found, expires=change)
        if found.earliest is not None:
            continue
        hoped = history.with_repeats
        if standing.verdict is Verdict.ELIGIBLE:
            found = replace(found, earliest=Opening(iso(day), before.opened(standing)))
        elif hoped.verdict is Verdict.ELIGIBLE and found.if_repeated is None:
            opening = Opening(iso(day), with_repeats.opened(hoped), hoped.lacking(standing))
            found = replace(found, if_repeated=opening)
    if found.earliest is not None or found.if_repeated is not None:
        return found
    never = history.never()
    if never:
        return replace(found, blocked_by=history.first.clauses_of(never))
    return replace(found, apart=tuple(history.unmet))


class _Standing:
    """How one patient stands for entry on one day: every clause, every criterion, the verdict."""

    def __init__(
        self,
        trial: Trial,
        prepared: Prepared,
        day: int,
        known: Mapping[str, Outcome] | None = None,
    ) -> None:
        self.trial, self.prepared, self.day = trial, prepared, day
        self.outcomes = {
            iri: _outcome(prepared, iri) if known is None or iri not in known else known[iri]
            for iri in trial.clauses
        }
        self.criteria = {
            c.iri: Outcome.FAIL if c.iri in prepared.denied else fold(trial, c.root, self.outcomes)
            for c in trial.criteria
        }
        self.worst = min(self.criteria.values(), key=lambda o: o.value)
        self.verdict = _VERDICTS[self.worst]

    def turned(self, prepared: Prepared, day: int, clauses: Iterable[str]) -> _Standing:
        """Return the standing on a later day on which only ``clauses`` may come out otherwise."""
        again = set(clauses)
        known = {iri: o for iri, o in self.outcomes.items() if iri not in again}
        return _Standing(self.trial, prepared, day, known)

    def supposing(self, met: Iterable[str]) -> _Standing:
        """Return the standing if the clauses ``met`` passed."""
        outcomes = {**self.outcomes, **dict.fromkeys(met, Outcome.PASS)}
        return _Standing(self.trial, self.prepared, self.day, outcomes)

    def open(self) -> list[Criterion]:
        """Return the criteria that do not pass."""
        return [c for c in self.trial.criteria if self.criteria[c.iri] is not Outcome.PASS]

    def clauses_of(self, criteria: Iterable[Criterion]) -> tuple[str, ...]:
        """Return the ids of the clauses that keep ``criteria`` from passing; of a criterion that
        only an answer denies, its own id."""
        found: dict[str, None] = {}
        for criterion in criteria:
            outcome = fold(self.trial, criterion.root, self.outcomes)
            if outcome is Outcome.PASS:
                found[criterion.id] = None
            else:
                for iri in deciding(self.trial, criterion.root, self.outcomes, outcome):
                    found[self.trial.clauses[iri].id] = None
        return tuple(found)

    def opened(self, later: _Standing) -> tuple[str, ...]:
        """Return the ids of what newly passes in ``later``, in the criteria that do not pass here."""
        return self._turned(
            later, self.open(), lambda a, b: a is not Outcome.PASS and b is Outcome.PASS
        )

    def turned_by(self, later: _Standing) -> tuple[str, ...]:
        """Return the ids of what turns the verdict from here to ``later``."""
        # The worst criteria make the verdict: those that were, if it is better now, else those
        # that have become so.
        better = later.worst.value > self.worst.value
        one = self if better else later
        criteria = [
            c
            for c in self.trial.criteria
            if self.criteria[c.iri] is not later.criteria[c.iri]
            and one.criteria[c.iri] is one.worst
        ]
        return self._turned(
            later, criteria, lambda a, b: a is not b and (b.value > a.value) is better
        )

    def _turned(
        self,
        later: _Standing,
        criteria: Iterable[Criterion],
        wanted: Callable[[Outcome, Outcome], bool],
    ) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for criterion in criteria:
            turned = [
                self.trial.clauses[iri].id
                for iri in criterion.clauses
                if wanted(self.outcomes[iri], later.outcomes[iri])
            ]
            # Where no clause turns, an answer does that speaks of the criterion.
            found.update(dict.fromkeys(turned or [criterion.id]))
        return tuple(found)

    def lacking(self, real: _Standing) -> tuple[str, ...]:
        """Return the ids of the clauses that pass here and not in ``real``, where it matters."""
        return real._turned(
            self, real.open(), lambda a, b: a is not Outcome.PASS and b is Outcome.PASS
        )


class _History:
    """What was seen on the days so far, and what may still come."""

    def __init__(self, first: _Standing, by_clause: Mapping[str, frozenset[int]]) -> None:
        self.first = self.standing = self.with_repeats = first
        self.last_turn = {
            c.iri: max((d for iri in c.clauses for d in by_clause[iri]), default=first.day)
            for c in first.trial.criteria
        }
        self.passed: set[str] = set()
        self.unmet: dict[str, None] = {}
        self._met: set[str] = set()
        self.add(first)

    def add(self, standing: _Standing) -> None:
        """Take a day in; ``with_repeats`` is then that day if what was met before, and is only
        open now, had been recorded again."""
        self.standing, outcomes = standing, standing.outcomes
        old = [i for i in self._met if outcomes[i] is Outcome.UNDETERMINED]
        self.with_repeats = standing.supposing(old)
        self._met |= {i for i, o in outcomes.items() if o is Outcome.PASS}
        hoped = self.with_repeats.criteria
        self.passed |= {c for c, o in hoped.items() if o is Outcome.PASS}
        self.unmet.update(dict.fromkeys(standing.clauses_of(standing.open())))

    def told(self, found: OverTime) -> bool:
        """Whether later days have nothing to add to ``found``."""
        settled = self.fixed(self.standing)
        failed = any(self.standing.criteria[c.iri] is Outcome.FAIL for c in settled)
        expired = found.expires is not None or (found.verdict_now is Verdict.INELIGIBLE and failed)
        if found.earliest is not None:
            return expired
        hopeless = found.if_repeated is not None or bool(self.never())
        return bool(settled) and hopeless and expired

    def never(self) -> list[Criterion]:
        """Return the criteria that have not passed and never will, whatever is repeated."""
        return [c for c in self.fixed(self.with_repeats) if c.iri not in self.passed]

    def fixed(self, standing: _Standing) -> list[Criterion]:
        """Return the criteria that do not pass and on which time bears no more."""
        return [c for c in standing.open() if self.last_turn[c.iri] <= standing.day]


def _outcome(prepared: Prepared, iri: str) -> Outcome:
    ground = explain(prepared, prepared.trial.clauses[iri])
    if ground.refuted:
        return Outcome.FAIL
    return Outcome.UNDETERMINED if ground.unproven else Outcome.PASS
