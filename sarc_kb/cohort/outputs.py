"""What a screening run writes of each patient: a row with the verdict and what decides it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

import ibis

from sarc_kb.assessment import Conclusion, TreatmentOutcome, Verdict
from sarc_kb.cohort.evaluate import (
    FAIL,
    PASS,
    TREATMENT,
    UNDETERMINED,
    Column,
    Table,
    rule_outcomes,
)
from sarc_kb.cohort.plan import Frame


def judged(readings: Table, frame: Frame) -> Table:
    """Return the readings of ``frame`` with the outcome of each rule, in a column of its id, and
    what they come to.

    Of eligibility: ``verdict``; ``failed`` and ``open``, how many criteria do not pass;
    ``first_failed`` and ``first_not_passed``, places in the protocol's order (one past the last if
    none). Of treatment: ``conclusion``, the place in `CONCLUSIONS`.
    """
    outcomes = rule_outcomes(readings, frame)
    table = readings.mutate(**outcomes)
    columns = [table[name] for name in outcomes]
    if frame.is_treatment:
        told = [
            (reduce(lambda a, b: a | b, (c == TREATMENT.index(outcome) for c in columns)), place_)
            for place_, outcome in enumerate(_WORST_FIRST)
        ]
        return table.mutate(conclusion=ibis.cases(*told, else_=len(_WORST_FIRST)).cast("int32"))

    def count(outcome: int) -> Column:
        return reduce(lambda a, b: a + b, ((c == outcome).cast("int32") for c in columns))

    def first(conditions: Iterable[Column]) -> Column:
        pairs = [(condition, number) for number, condition in enumerate(conditions)]
        return ibis.cases(*pairs, else_=len(columns)).cast("int32")

    table = table.mutate(
        failed=count(FAIL),
        open=count(UNDETERMINED),
        first_failed=first(c == FAIL for c in columns),
        first_not_passed=first(c != PASS for c in columns),
    )
    verdict = ibis.cases((table.failed > 0, FAIL), (table.open > 0, UNDETERMINED), else_=PASS)
    return table.mutate(verdict=verdict.cast("int32"))


_WORST_FIRST = (
    TreatmentOutcome.VIOLATION,
    TreatmentOutcome.UNDETERMINED,
    TreatmentOutcome.DEVIATION,
    TreatmentOutcome.NOT_YET_APPLICABLE,
)
CONCLUSIONS = (
    Conclusion.VIOLATION,
    Conclusion.UNDETERMINED,
    Conclusion.DEVIATION,
    Conclusion.IN_PROGRESS,
    Conclusion.CONFORMANT,
)
"""What a course comes to, the worst first; a column holds the place here."""
VERDICTS = {
    FAIL: Verdict.INELIGIBLE,
    UNDETERMINED: Verdict.UNDETERMINED,
    PASS: Verdict.ELIGIBLE,
}


def patient_rows(
    patients: Table,
    eligibility: tuple[Table, Frame] | None,
    treatment: tuple[Table, Frame] | None,
    trials: Table,
) -> Table:
    """Return a row for each patient and trial of one pair of frames.

    ``trials``: names with the variant of each frame. Whoever could not be judged has the verdict
    ``error``; whoever has no treatment on record has no conclusion.
    """
    rows = patients.join(trials, how="cross")
    columns: dict[str, Column] = {}
    verdict: Column = ibis.literal(Verdict.NOT_ASKED.value)
    if eligibility is not None:
        table, frame = eligibility
        told = _by_patient(
            table,
            {
                "verdict_text": _named(table.verdict, {k: v.value for k, v in VERDICTS.items()}),
                "failed_text": _listed(table, frame, (FAIL,)),
                "open_text": _listed(table, frame, (UNDETERMINED,)),
            },
            "eligibility",
        )
        rows = rows.left_join(
            told,
            [
                rows.pid == told.eligibility_pid,
                rows.eligibility_variant == told.eligibility_variant_,
            ],
        )
        verdict = rows.verdict_text
        columns |= {"failed": rows.failed_text, "undetermined": rows.open_text}
    if treatment is not None:
        table, frame = treatment
        names = {n: conclusion.value for n, conclusion in enumerate(CONCLUSIONS)}
        told = _by_patient(
            table,
            {"conclusion_text": _named(table.conclusion, names)}
            | {
                f"{outcome.name.lower()}_text": _listed(table, frame, (TREATMENT.index(outcome),))
                for outcome in _WORST_FIRST[:3]
            },
            "treatment",
        )
        rows = rows.left_join(
            told,
            [rows.pid == told.treatment_pid, rows.treatment_variant == told.treatment_variant_],
        )
        columns |= {
            "treatment": rows.conclusion_text,
            "violated": rows.violation_text,
            "treatment_undetermined": rows.undetermined_text,
            "deviated": rows.deviation_text,
        }
    verdict = ibis.ifelse(rows.error.notnull(), Verdict.ERROR.value, verdict)
    return rows.select(
        "pid",
        "patient",
        "patient_iri",
        "trial",
        "entry_date",
        verdict=verdict,
        **{name: columns.get(name, _NO_TEXT) for name in _TOLD},
        **{name: rows[name] for name in _ERROR},
        origin=rows.origin,
    )


PATIENT_COLUMNS = (
    "patient",
    "patient_iri",
    "trial",
    "entry_date",
    "verdict",
    "failed",
    "undetermined",
    "treatment",
    "violated",
    "treatment_undetermined",
    "deviated",
    "error",
    "error_where",
    "error_found",
    "error_fix",
    "origin",
)
_TOLD = (
    "failed",
    "undetermined",
    "treatment",
    "violated",
    "treatment_undetermined",
    "deviated",
)
_NO_TEXT = ibis.null("string")
_ERROR = ("error", "error_where", "error_found", "error_fix")


def _by_patient(table: Table, columns: dict[str, Column], name: str) -> Table:
    return table.select(**{f"{name}_pid": table.pid, f"{name}_variant_": table.variant}, **columns)


def _named(column: Column, names: Mapping[int, str]) -> Column:
    return ibis.cases(*((column == number, name) for number, name in names.items()))


def _listed(table: Table, frame: Frame, outcomes: tuple[int, ...]) -> Column:
    """Return the ids of the rules with one of ``outcomes``, in the protocol's order."""
    said = [
        ibis.ifelse(table[rule.id].isin(outcomes), rule.id, _NO_TEXT) for rule in frame.criteria
    ]
    # What is null is no item of the list.
    return ibis.literal(" ").join(said)
