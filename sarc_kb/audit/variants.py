"""Mutants of limits on the cohort engine: all cases under all of them in one pass.

Trials that differ in limits alone share one preparation and are variants of one plan. A case looks
at one rule, so that a variant holds one mutant of every rule: each is still changed alone for the
cases that look at it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from sarc_kb.assess import fold
from sarc_kb.assessment import Outcome
from sarc_kb.audit.judging import Judge, Seat, Told
from sarc_kb.audit.mutant import Mutant
from sarc_kb.cohort.backends import open_backend
from sarc_kb.cohort.cohort import Cohort, cohort_of_rows
from sarc_kb.cohort.evaluate import TREATMENT
from sarc_kb.cohort.plan import Frame, Plan, place
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.rules import Trial

_MEMORY = "1GB"


def killers(judge: Judge, mutants: Iterable[Mutant]) -> dict[str, str]:
    """Return, for each of ``mutants`` (of limits), the first case that comes out otherwise under
    it; empty if none does."""
    found: dict[str, str] = {}
    for number, part in enumerate(judge.trial.parts):
        own = [m for m in mutants if m.parts == (number,)]
        if own:
            found |= _of_part(judge, number, part, own)
    return found


def packed(part: Trial, mutants: Sequence[Mutant]) -> list[list[Mutant]]:
    """Return the mutants in groups of which none holds two of one rule."""
    by_rule: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_rule.setdefault(part.clauses[mutant.of].criterion, []).append(mutant)
    return [[m for m in row if m is not None] for row in zip_longest(*by_rule.values())]


def _of_part(judge: Judge, number: int, part: Trial, mutants: Sequence[Mutant]) -> dict[str, str]:
    groups = packed(part, mutants)
    variants = {"": part}
    for place_, group in enumerate(groups):
        changed = part
        for mutant in group:
            changed = mutant.change(changed)
        variants[str(place_)] = changed
    if number:
        trials = {name: replace(judge.trial, treatment=v) for name, v in variants.items()}
    else:
        trials = {name: replace(v, treatment=None) for name, v in variants.items()}
    plan = Plan(trials, only="treatment" if number else "eligibility")
    (frame,) = plan.frames
    asked = {m.id: judge.relevant(m) for m in mutants}
    seats = list({at.case.id: at for found in asked.values() for at in found}.values())
    rows: list[tuple[int, PatientRows]] = []
    for pid, at in enumerate(seats):
        own = PatientRows()
        rows_of(judge.prepared(at), frame, own, judge.eligibility(at) if number else None)
        rows.append((pid, own))
    with tempfile.TemporaryDirectory() as scratch:
        backend = open_backend("duckdb", memory=_MEMORY, scratch=Path(scratch))
        try:
            cohort = cohort_of_rows(backend, plan, rows, with_evidence=False)
            told = _told(cohort, frame, seats)
        finally:
            backend.close()
    pids = {at.case.id: pid for pid, at in enumerate(seats)}
    variant = {m.id: place_ + 1 for place_, group in enumerate(groups) for m in group}
    return {
        mutant.id: next(
            (
                at.case.id
                for at in asked[mutant.id]
                if told[pids[at.case.id], variant[mutant.id]] is not at.case.expected
            ),
            "",
        )
        for mutant in mutants
    }


def _told(cohort: Cohort, frame: Frame, seats: Sequence[Seat]) -> dict[tuple[int, int], Told]:
    """Return what each case comes out as under each variant."""
    table = cohort.judged[frame.number]
    ids = {rule.iri: rule.id for rule in frame.criteria}
    bits = [f"{name}_{word}" for name in ("refuted", "proven") for word in range(frame.words)]
    found: dict[tuple[int, int], Told] = {}
    for row in cohort.dicts(table.select("pid", "variant", *bits, *ids.values())):
        at = seats[row["pid"]]
        if not isinstance(at.case.expected, Outcome):
            told: Told = TREATMENT[row[ids[at.case.rule]]]
        elif at.rule is not None and not frame.is_treatment:
            told = Outcome(row[ids[at.case.rule]])
        else:
            told = fold(frame.part, at.root, {c: _outcome(row, frame, c) for c in at.leaves})
        found[row["pid"], row["variant"]] = told
    return found


def _outcome(row: Mapping[str, int], frame: Frame, clause: str) -> Outcome:
    word, bit = place(frame.slots[clause])
    if row[f"refuted_{word}"] & bit:
        return Outcome.FAIL
    return Outcome.PASS if row[f"proven_{word}"] & bit else Outcome.UNDETERMINED
