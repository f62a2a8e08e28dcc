"""What a screening run writes: a row for each patient, and one for each patient and clause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import ibis
import pyarrow as pa

from sarc_kb.assessment import Conclusion, TreatmentOutcome, Verdict
from sarc_kb.cohort.evaluate import (
    FAIL,
    PASS,
    TREATMENT,
    UNDETERMINED,
    Column,
    Table,
    bit_at,
    rule_outcomes,
)
from sarc_kb.cohort.plan import BASE, Frame, Plan, place
from sarc_kb.cohort.rows import KINDS
from sarc_kb.cohort.tables import COMPONENT

_ANSWER, _STATEMENT = KINDS.index("answer"), KINDS.index("statement")
_CODE, _OLD = KINDS.index("code"), KINDS.index("old")
_ATTESTED = len(COMPONENT)
OUTCOMES = {FAIL: "fail", UNDETERMINED: "undetermined", PASS: "pass"}

CLAUSES = pa.schema(
    [
        ("frame", pa.int32()),
        ("variant", pa.int32()),
        ("slot", pa.int32()),
        ("word", pa.int32()),
        ("bit", pa.int64()),
        ("test", pa.int32()),
        ("component", pa.int32()),
        ("attestable", pa.bool_()),
        ("trial", pa.string()),
        ("criterion", pa.string()),
        ("clause", pa.string()),
        ("message", pa.string()),
    ]
)
MISSING = pa.schema([("mask", pa.int64()), ("missing", pa.string())])


def clauses_table(plan: Plan, names: Iterable[str]) -> pa.Table:
    """Return the clauses of the named trials, with their places and names."""
    wanted = set(names)
    tests = {(t.frame, t.variant, t.slot): number for number, t in enumerate(plan.tests)}
    rows = []
    for frame in plan.frames:
        owner = {clause: rule.id for rule in frame.criteria for clause in rule.clauses}
        for variant, (part, name) in enumerate(zip(frame.variants, frame.names, strict=True)):
            if name not in wanted:
                continue
            for slot, clause in enumerate(part.clauses.values()):
                test = tests.get((frame.number, BASE, slot))
                if test is None:
                    test = tests.get((frame.number, variant, slot), -1)
                component = COMPONENT.get(clause.component, _ATTESTED)
                rows.append(
                    (
                        frame.number,
                        variant,
                        slot,
                        *place(slot),
                        test,
                        component,
                        clause.attestable,
                        name,
                        owner[clause.iri],
                        clause.id,
                        clause.text.message,
                    )
                )
    columns: list[list[object]] = [[row[k] for row in rows] for k in range(len(CLAUSES))]
    return pa.table(columns, schema=CLAUSES)


def missing_table() -> pa.Table:
    """Return the words for every set of kinds of missing data."""
    masks = range(1 << len(KINDS))
    texts = ["; ".join(k for n, k in enumerate(KINDS) if mask >> n & 1) for mask in masks]
    return pa.table([list(masks), texts], schema=MISSING)


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
    no_text = ibis.null("string")
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
        **{name: columns.get(name, no_text) for name in _TOLD},
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
_ERROR = ("error", "error_where", "error_found", "error_fix")


def _by_patient(table: Table, columns: dict[str, Column], name: str) -> Table:
    return table.select(**{f"{name}_pid": table.pid, f"{name}_variant_": table.variant}, **columns)


def _named(column: Column, names: Mapping[int, str]) -> Column:
    return ibis.cases(*((column == number, name) for number, name in names.items()))


def _listed(table: Table, frame: Frame, outcomes: tuple[int, ...]) -> Column:
    """Return the ids of the rules with one of ``outcomes``, in the protocol's order."""
    said = [
        ibis.ifelse(table[rule.id].isin(outcomes), f"{rule.id} ", "") for rule in frame.criteria
    ]
    return reduce(lambda a, b: a + b, said).rstrip()


CLAUSE_COLUMNS = (
    "patient",
    "trial",
    "criterion",
    "clause",
    "outcome",
    "reason",
    "basis",
    "evidence",
    "missing",
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What decides clauses: the tables of `evaluate.evidence` and `evaluate.outside`."""

    found: Table
    near: Table


def clause_rows(
    readings: Table,
    frame: Frame,
    clauses: Table,
    told: Evidence | None,
    answers: Table,
    missing: Table,
) -> Table:
    """Return a row for each patient, variant and clause of ``frame``.

    ``told``: None leaves evidence and missing data out.
    ``reason``: the rule's own words for a failure. ``basis``: what a decided outcome stands on, facts,
    the answer of a person, or (at least also) the statement that a history is complete. ``evidence``: sources of the deciding facts and
    of answers. ``missing``: the kinds of data that would settle it, where it is undetermined.
    """
    own = clauses.filter(clauses.frame == frame.number).drop("frame")
    rows = readings.join(own, "variant")

    def bit(name: str) -> Column:
        return bit_at([rows[f"{name}_{w}"] for w in range(frame.words)], rows)

    rows = rows.mutate(
        outcome_number=ibis.ifelse(
            bit("refuted"), FAIL, ibis.ifelse(bit("proven"), PASS, UNDETERMINED)
        ).cast("int32"),
        record_refutes=bit("by_record_refuted"),
        record_proves=bit("by_record_proven"),
        is_settled=bit("settled"),
        is_denied=bit("denied"),
        is_cleared=bit("cleared"),
    )
    outcome = _named(rows.outcome_number, OUTCOMES)
    reason = ibis.ifelse(rows.outcome_number == FAIL, rows.message, ibis.null("string"))
    among = rows.component.isin([COMPONENT[c] for c in ("none", "noPair", "eachHas")])
    each_has = rows.component == COMPONENT["eachHas"]
    by_silence = ibis.ifelse(
        rows.record_refutes,
        each_has | (rows.component == COMPONENT["some"]),
        rows.record_proves & among,
    )
    basis = ibis.cases(
        (rows.outcome_number == UNDETERMINED, _NO_TEXT),
        (by_silence, "statement"),
        (rows.record_refutes | rows.record_proves, "facts"),
        else_="answer",
    )
    kept = ["pid", "slot", "trial", "criterion", "clause"]
    number = ibis.literal(frame.number, "int32")
    if told is None:
        return rows.select(
            *kept,
            outcome=outcome,
            reason=reason,
            basis=basis,
            evidence=_NO_LIST,
            missing=_NO_TEXT,
            frame=number,
        )
    rows = rows.mutate(outcome=outcome, reason=reason, basis=basis)
    found, near = told.found, told.near
    found = found.select(
        found_pid=found.pid, found_test=found.test, **{n: found[n] for n in _FOUND}
    )
    rows = rows.left_join(found, [rows.pid == found.found_pid, rows.test == found.found_test])
    near = near.select(near_pid=near.pid, near_test=near.test)
    rows = rows.left_join(near, [rows.pid == near.near_pid, rows.test == near.near_test])
    given = answers.filter((answers.frame == frame.number) & (answers.slot >= 0))
    given = given.group_by(given_pid=given.pid, given_slot=given.slot).agg(
        given=given.source.collect(distinct=True)
    )
    rows = rows.left_join(given, [rows.pid == given.given_pid, rows.slot == given.given_slot])
    silent = ibis.cases(
        (
            rows.component == COMPONENT["latest"],
            ibis.ifelse(rows.near_pid.notnull(), 1 << _OLD, 1 << _CODE),
        ),
        (rows.component == COMPONENT["some"], 1 << _CODE),
        else_=0,
    )
    doubts = ibis.coalesce(rows.doubts, 0)
    unsettled = (
        (rows.component >= COMPONENT["none"]) & (rows.component < _ATTESTED) & ~rows.is_settled
    )
    mask = (
        ibis.ifelse(doubts == 0, silent, doubts)
        + ibis.ifelse(unsettled, 1 << _STATEMENT, 0)
        + ibis.ifelse(rows.attestable, 1 << _ANSWER, 0)
    )
    # What a person denied rests on the answer alone, unless the record contradicts it as well.
    by_answer = rows.is_denied & ~rows.record_refutes
    from_record = ibis.cases(
        (by_answer, _NO_LIST), (rows.record_refutes, rows.failed_by), else_=rows.rests_on
    )
    answered = rows.is_denied | (rows.is_cleared & ~rows.record_proves)
    from_answers = ibis.ifelse(answered, rows.given, _NO_LIST)
    # A list and nothing is nothing in SQL.
    both = ibis.cases(
        (from_record.isnull(), from_answers),
        (from_answers.isnull(), from_record),
        else_=from_record.concat(from_answers),
    )
    rows = rows.mutate(
        mask=ibis.ifelse(rows.outcome_number == UNDETERMINED, mask, 0).cast("int64"),
        evidence=both.sort(),
    )
    return rows.left_join(missing, "mask").select(
        *kept, "outcome", "reason", "basis", "evidence", "missing", frame=number
    )


_FOUND = ("failed_by", "rests_on", "doubts")
_NO_LIST = ibis.null("array<string>")
_NO_TEXT = ibis.null("string")
REFUSED = "an answer denies it"


def refused_rows(table: Table, frame: Frame, rules: Table, answers: Table) -> Table:
    """Return a row for each patient, variant and criterion of ``frame`` that an answer denies as a
    whole. ``rules``: the criteria with their places and names."""
    own = rules.filter(rules.frame == frame.number).drop("frame")
    said = answers.filter((answers.frame == frame.number) & (answers.slot < 0))
    said = said.group_by(["pid", "slot"]).agg(evidence=said.source.collect(distinct=True).sort())
    rows = table.select("pid", "variant").join(said, "pid").join(own, ["variant", "slot"])
    return rows.select(
        "pid",
        "slot",
        "trial",
        "criterion",
        clause=_NO_TEXT,
        outcome=ibis.literal(OUTCOMES[FAIL]),
        reason=ibis.literal(REFUSED),
        basis=ibis.literal("answer"),
        evidence=rows.evidence,
        missing=_NO_TEXT,
        frame=ibis.literal(frame.number, "int32"),
    )


RULES = pa.schema(
    [
        ("frame", pa.int32()),
        ("variant", pa.int32()),
        ("slot", pa.int32()),
        ("trial", pa.string()),
        ("criterion", pa.string()),
    ]
)


def rules_table(plan: Plan, names: Iterable[str]) -> pa.Table:
    """Return the criteria of the named trials; their places are those of the answers that
    deny them as a whole."""
    wanted = set(names)
    rows = [
        (frame.number, variant, -1 - number, name, rule.id)
        for frame in plan.frames
        for variant, name in enumerate(frame.names)
        if name in wanted
        for number, rule in enumerate(frame.criteria)
    ]
    columns: list[list[object]] = [[row[k] for row in rows] for k in range(len(RULES))]
    return pa.table(columns, schema=RULES)
