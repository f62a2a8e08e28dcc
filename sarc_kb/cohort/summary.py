"""What a screening run comes to: counts only, no patient is named.

Counts come from the engine, grouped; nothing here goes through the patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import ibis

from sarc_kb.assessment import TreatmentOutcome, Verdict
from sarc_kb.cohort.cohort import Cohort
from sarc_kb.cohort.evaluate import FAIL, PASS, TREATMENT, UNDETERMINED, Table
from sarc_kb.cohort.outputs import CONCLUSIONS, VERDICTS


@dataclass(frozen=True, slots=True)
class CriterionCount:
    """One criterion over the cohort, by itself and in the protocol's order.

    ``sole``: patients whom it alone keeps out (every other criterion passes or is undetermined);
    ``sole_certain``: of these, those who pass every other one. ``excluded_here``: patients who fail
    it and none before it; ``remaining`` have failed none so far, ``passed_so_far`` passed them all.
    """

    id: str
    label: str
    kind: str
    passes: int
    fails: int
    undetermined: int
    sole: int
    sole_certain: int
    excluded_here: int
    remaining: int
    passed_so_far: int


@dataclass(frozen=True, slots=True)
class RuleCount:
    """One treatment rule over those with treatment on record; ``outcomes`` by their names."""

    id: str
    label: str
    modality: str
    outcomes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class TrialCount:
    """One trial over the cohort. At least ``eligible``, at most ``eligible_at_most`` of the judged
    patients are eligible: the undetermined may be."""

    trial: str
    verdicts: tuple[tuple[str, int], ...]
    eligible_at_least: int
    eligible_at_most: int
    criteria: tuple[CriterionCount, ...]
    treated: int
    conclusions: tuple[tuple[str, int], ...]
    rules: tuple[RuleCount, ...]


@dataclass(frozen=True, slots=True)
class Worth:
    """What a change of a limit, policy or reading is worth: the verdicts under it, and how many
    patients flip, by (verdict before, verdict after); ``treatment_flips``: by conclusions on
    treatment."""

    change: str
    eligible: int
    eligible_change: int
    undetermined: int
    flips: tuple[tuple[str, str, int], ...]
    treatment_flips: tuple[tuple[str, str, int], ...]


def count_trial(cohort: Cohort, name: str, patients: int, errors: int) -> TrialCount:
    """Return the counts of one trial of the plan."""
    criteria: tuple[CriterionCount, ...] = ()
    verdicts = dict.fromkeys(Verdict, 0)
    found = cohort.rows_of(name)
    if found is None:
        verdicts[Verdict.NOT_ASKED] = patients - errors
    else:
        frame, table = found
        for number, count in cohort.counts(table, "verdict").items():
            verdicts[VERDICTS[number]] = count
        criteria = _criteria(cohort, table, [(c.id, c.text.label, c.kind) for c in frame.criteria])
    verdicts[Verdict.ERROR] = errors
    treated, conclusions, rules = 0, dict.fromkeys(CONCLUSIONS, 0), []
    course = cohort.rows_of(name, treatment=True)
    if course is not None:
        frame, table = course
        for number, count in cohort.counts(table, "conclusion").items():
            conclusions[CONCLUSIONS[number]] = count
        treated = sum(conclusions.values())
        asked = {
            f"{rule.id} {outcome.name}": table[rule.id] == TREATMENT.index(outcome)
            for rule in frame.criteria
            for outcome in TreatmentOutcome
        }
        sums = cohort.sums(table, asked)
        rules = [
            RuleCount(
                rule.id,
                rule.text.label,
                rule.modality,
                tuple((o.value, sums[f"{rule.id} {o.name}"]) for o in TreatmentOutcome),
            )
            for rule in frame.criteria
        ]
    return TrialCount(
        trial=name,
        verdicts=tuple((v.value, n) for v, n in verdicts.items() if n or v in VERDICTS.values()),
        eligible_at_least=verdicts[Verdict.ELIGIBLE],
        eligible_at_most=verdicts[Verdict.ELIGIBLE] + verdicts[Verdict.UNDETERMINED],
        criteria=criteria,
        treated=treated,
        conclusions=tuple((c.value, n) for c, n in conclusions.items()) if treated else (),
        rules=tuple(rules),
    )


def _criteria(
    cohort: Cohort, table: Table, named: list[tuple[str, str, str]]
) -> tuple[CriterionCount, ...]:
    asked: dict[str, object] = {}
    for id_, _, _ in named:
        column = table[id_]
        asked |= {
            f"{id_} passes": column == PASS,
            f"{id_} fails": column == FAIL,
            f"{id_} undetermined": column == UNDETERMINED,
            f"{id_} sole": (column == FAIL) & (table.failed == 1),
            f"{id_} sole_certain": (column == FAIL) & (table.failed == 1) & (table.open == 0),
        }
    sums = cohort.sums(table, asked)
    first_failed = cohort.counts(table, "first_failed")
    first_not_passed = cohort.counts(table, "first_not_passed")
    remaining = passed = sum(first_failed.values())
    found = []
    for number, (id_, label, kind) in enumerate(named):
        excluded = first_failed.get(number, 0)
        remaining -= excluded
        passed -= first_not_passed.get(number, 0)
        found.append(
            CriterionCount(
                id=id_,
                label=label,
                kind=kind,
                passes=sums[f"{id_} passes"],
                fails=sums[f"{id_} fails"],
                undetermined=sums[f"{id_} undetermined"],
                sole=sums[f"{id_} sole"],
                sole_certain=sums[f"{id_} sole_certain"],
                excluded_here=excluded,
                remaining=remaining,
                passed_so_far=passed,
            )
        )
    return tuple(found)


def flips(cohort: Cohort, before: str, after: str, change: str) -> Table:
    """Return the patients whose verdict, or conclusion on treatment, differs between two trials of
    the plan; ``change`` is what the difference is called."""
    columns = ("verdict", "failed", "undetermined", "treatment")
    first = cohort.patient_rows([before])
    second = cohort.patient_rows([after])
    second = second.select(
        second_pid=second.pid, **{f"{name}_after": second[name] for name in columns}
    )
    rows = first.join(second, [first.pid == second.second_pid])
    differs = [
        rows[name].fill_null("") != rows[f"{name}_after"].fill_null("")
        for name in ("verdict", "treatment")
    ]
    rows = rows.filter(reduce(lambda a, b: a | b, differs))
    after_columns = [f"{name}_after" for name in columns]
    return rows.select("pid", "patient", *columns, *after_columns, change=ibis.literal(change))


def worth(cohort: Cohort, before: str, after: str, change: str) -> Worth:
    """Return what the trial ``after`` changes against ``before``."""
    told = {}
    for name in (before, after):
        found = cohort.rows_of(name)
        told[name] = {} if found is None else cohort.counts(found[1], "verdict")
    changed = flips(cohort, before, after, change)

    def pairs(name: str) -> tuple[tuple[str, str, int], ...]:
        rows = changed.filter(changed[name].fill_null("") != changed[f"{name}_after"].fill_null(""))
        grouped = rows.group_by([name, f"{name}_after"]).agg(rows=rows.count())
        return tuple(
            sorted(
                (row[name] or "", row[f"{name}_after"] or "", int(row["rows"]))
                for row in cohort.dicts(grouped)
            )
        )

    return Worth(
        change=change,
        eligible=told[after].get(PASS, 0),
        eligible_change=told[after].get(PASS, 0) - told[before].get(PASS, 0),
        undetermined=told[after].get(UNDETERMINED, 0),
        flips=pairs("verdict"),
        treatment_flips=pairs("treatment"),
    )
