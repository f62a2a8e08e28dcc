"""Assess one prepared patient: run both readings, fold the trees, say why.

The fold is strong Kleene logic on pass > undetermined > fail: ``and`` is the least, ``or`` the
greatest (Kleene 1952). Exclusions are written so that passing means clearing them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sarc_kb.assessment import (
    Assessment,
    ClauseResult,
    CriterionResult,
    Outcome,
    Provenance,
    Verdict,
)
from sarc_kb.errors import EngineError, Finding
from sarc_kb.explain import Explanation, explain, passed_over
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.prepare import Prepared
from sarc_kb.record_kinds import kinds_of_record
from sarc_kb.rules import Clause, Criterion, Trial
from sarc_kb.to_decide import to_decide
from sarc_kb.wording import (
    allowed_range,
    answer_evidence,
    evidence_of,
    limit_text,
    message_text,
    missing_texts,
    question_text,
    rests_on,
    window_period,
)

_DENIAL = str(SARC.NotDeniedConstraintComponent)


def fold(trial: Trial, node: str, outcomes: Mapping[str, Outcome]) -> Outcome:
    """Return the outcome of a join or clause from the outcomes of its clauses.

    >>> min(Outcome.PASS, Outcome.UNDETERMINED, key=lambda o: o.value)
    <Outcome.UNDETERMINED: 1>
    """
    join = trial.joins.get(node)
    if join is None:
        return outcomes[node]
    pick = min if join.operator == "and" else max
    return pick((fold(trial, c, outcomes) for c in join.children), key=lambda o: o.value)


def clause_outcomes(
    trial: Trial, refuted: Mapping[tuple[str, str], int], unproven: Mapping[tuple[str, str], int]
) -> dict[str, Outcome]:
    """Return each clause's outcome from the (shape, component) pairs violated in each reading."""
    bad = {shape for shape, component in refuted if component != _DENIAL}
    open_ = {shape for shape, component in unproven if component != _DENIAL}
    return {
        iri: Outcome.FAIL if iri in bad else Outcome.UNDETERMINED if iri in open_ else Outcome.PASS
        for iri in trial.clauses
    }


def assess(
    prepared: Prepared,
    refuted: Mapping[tuple[str, str], int],
    unproven: Mapping[tuple[str, str], int],
    provenance: Provenance,
) -> Assessment:
    """Return the assessment of one patient.

    Args:
        refuted, unproven: (source shape, component) violated under each reading.
    Raises:
        EngineError: the processor's outcome differs from what the deciding facts show.
    """
    trial = prepared.trial
    outcomes, grounds = decided(prepared, refuted, unproven)
    denied = {shape for shape, component in refuted if component == _DENIAL}
    criteria = tuple(
        criterion_result(prepared, criterion, outcomes, grounds, criterion.iri in denied)
        for criterion in trial.criteria
    )
    findings = list(prepared.record.findings) + prepared.findings
    findings += _conflicts(prepared, grounds)
    unused = _unused(prepared)
    if unused:
        findings.append(
            Finding(
                "DATA020",
                "info",
                prepared.record.origin,
                f"{unused} facts that no rule reads",
                "they bear on no criterion of this trial",
                "nothing, unless one of them should",
            )
        )
    verdict = _verdict(criteria)
    return Assessment(
        trial=trial.id,
        trial_iri=trial.iri,
        patient=prepared.record.label,
        patient_iri=prepared.record.patient,
        entry_date=prepared.entry.text,
        verdict=verdict,
        criteria=criteria,
        to_decide=to_decide(prepared, criteria, outcomes, grounds)
        if verdict is Verdict.UNDETERMINED
        else (),
        data_findings=tuple(unique(findings)),
        provenance=replace(provenance, facts_unused=unused),
    )


def decided(
    prepared: Prepared,
    refuted: Mapping[tuple[str, str], int],
    unproven: Mapping[tuple[str, str], int],
) -> tuple[dict[str, Outcome], dict[str, Explanation]]:
    """Return each clause's outcome, and the ground for it, which is held against the outcome.

    Raises:
        EngineError: the processor's outcome differs from what the deciding facts show.
    """
    trial = prepared.trial
    outcomes = clause_outcomes(trial, refuted, unproven)
    grounds = {iri: explain(prepared, clause) for iri, clause in trial.clauses.items()}
    for iri, ground in grounds.items():
        shown = (
            Outcome.FAIL
            if ground.refuted
            else Outcome.UNDETERMINED
            if ground.unproven
            else Outcome.PASS
        )
        if shown is not outcomes[iri]:
            raise EngineError(
                Finding(
                    "ENGINE003",
                    "error",
                    trial.clauses[iri].id,
                    f"the processor says {outcomes[iri].word}, the deciding facts say {shown.word}",
                    "an outcome that its evidence does not show is not given",
                    "report it with the rule's id; another --engine may show which side is wrong",
                )
            )
    return outcomes, grounds


def unique(findings: Iterable[Finding]) -> list[Finding]:
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(
        dict.fromkeys(findings), key=lambda f: (order[f.severity], f.code, f.where, f.found)
    )


def _verdict(criteria: Iterable[CriterionResult]) -> Verdict:
    worst = min((c.outcome for c in criteria), key=lambda o: o.value)
    return {
        Outcome.FAIL: Verdict.INELIGIBLE,
        Outcome.UNDETERMINED: Verdict.UNDETERMINED,
        Outcome.PASS: Verdict.ELIGIBLE,
    }[worst]


def _conflicts(prepared: Prepared, grounds: Mapping[str, Explanation]) -> list[Finding]:
    found = []
    for iri, ground in grounds.items():
        if ground.refuted and ground.answers and ground.evidence and ground.answers[0].clears:
            found.append(
                Finding(
                    "DATA040",
                    "warning",
                    ground.answers[0].item.sources[0]
                    if ground.answers[0].item.sources
                    else "answer",
                    f"the answer clears {prepared.trial.clauses[iri].id}, the record contradicts it ({', '.join(ground.evidence[0].sources)})",
                    "an answer never overrides a recorded fact",
                    "correct whichever is wrong",
                )
            )
    return found


def _unused(prepared: Prepared) -> int:
    used = {
        iri
        for clause in prepared.trial.clauses.values()
        for role in (clause.role, clause.second)
        if role is not None
        for iri in (role.concept_set,)
    }
    parents = {p.id for i in prepared.items for p in i.parents}
    return sum(
        1
        for i in prepared.items
        if not i.parents and i.id not in parents and not any(prepared.in_set(i, s) for s in used)
    )


def criterion_result(
    prepared: Prepared,
    criterion: Criterion,
    outcomes: Mapping[str, Outcome],
    grounds: Mapping[str, Explanation],
    denied: bool,
) -> CriterionResult:
    trial = prepared.trial
    outcome = Outcome.FAIL if denied else fold(trial, criterion.root, outcomes)
    moot = moot_clauses(trial, criterion.root, outcomes)
    clauses = tuple(
        replace(
            _clause(prepared, trial.clauses[iri], outcomes[iri], grounds[iri]), moot=iri in moot
        )
        for iri in criterion.clauses
    )
    decided_by = tuple(
        trial.clauses[iri].id
        for iri in deciding(trial, criterion.root, outcomes, fold(trial, criterion.root, outcomes))
    )
    answers = prepared.denied.get(criterion.iri, ()) if denied else ()
    by_id = {c.id: c for c in clauses}
    if denied:
        message = "an answer denies it: " + "; ".join(question_text(prepared, a) for a in answers)
        if fold(trial, criterion.root, outcomes) is not Outcome.FAIL:
            decided_by = tuple(dict.fromkeys(local_name(a.subject) for a in answers))
    else:
        message = "; ".join(by_id[d].message for d in decided_by if d in by_id)
    return CriterionResult(
        id=criterion.id,
        iri=criterion.iri,
        kind=criterion.kind,
        label=criterion.text.label,
        outcome=outcome,
        message=message,
        source_text=criterion.text.quote,
        locator=criterion.text.locator,
        remedy=criterion.text.remedy,
        clauses=clauses,
        decided_by=decided_by,
        denied_by=tuple(answer_evidence(prepared, a) for a in answers),
        logic=logic_text(trial, criterion.root),
    )


def logic_text(trial: Trial, node: str) -> str:
    """Return how clauses are joined, such as ``I07a and (I07h or I07i)``."""
    join = trial.joins.get(node)
    if join is None:
        return trial.clauses[node].id
    parts = []
    for child in join.children:
        inner = trial.joins.get(child)
        text = logic_text(trial, child)
        parts.append(text if inner is None or inner.operator == join.operator else f"({text})")
    return f" {join.operator} ".join(parts)


def moot_clauses(
    trial: Trial, node: str, outcomes: Mapping[str, Outcome], above: Outcome = Outcome.FAIL
) -> set[str]:
    """Return the clauses below ``node`` that some join on the way to them comes out better than;
    ``above``: the best outcome of the joins on the way to ``node``."""
    join = trial.joins.get(node)
    best = max(above, fold(trial, node, outcomes), key=lambda o: o.value)
    if join is None:
        return {node} if outcomes[node] is not best else set()
    return set().union(*(moot_clauses(trial, c, outcomes, best) for c in join.children))


def deciding(
    trial: Trial, node: str, outcomes: Mapping[str, Outcome], wanted: Outcome
) -> list[str]:
    """Return the clauses that make ``node`` come out as ``wanted``, in order, each once."""
    join = trial.joins.get(node)
    if join is None:
        return [node] if outcomes[node] is wanted else []
    found: dict[str, None] = {}
    for child in join.children:
        if fold(trial, child, outcomes) is wanted:
            found.update(dict.fromkeys(deciding(trial, child, outcomes, wanted)))
    return list(found)


def _clause(
    prepared: Prepared, clause: Clause, outcome: Outcome, ground: Explanation
) -> ClauseResult:
    trial = prepared.trial
    evidence = [evidence_of(prepared, i) for i in ground.evidence]
    evidence += [answer_evidence(prepared, a) for a in ground.answers]
    missing = missing_texts(prepared, clause, ground) if outcome is Outcome.UNDETERMINED else ()
    questions = [q.link_id for q in trial.questions if clause.iri in q.covers and clause.attestable]
    settled = tuple(questions) + ((local_name(clause.settled_by),) if clause.settled_by else ())
    return ClauseResult(
        id=clause.id,
        iri=clause.iri,
        label=clause.text.label,
        outcome=outcome,
        message=message_text(prepared, clause, outcome, ground, missing),
        limit=limit_text(prepared, clause),
        evidence=tuple(evidence),
        missing=missing,
        settled_by=settled,
        rests_on=rests_on(prepared, clause, outcome, ground),
        readings=clause.text.resolves,
        source_text=clause.text.quote,
        locator=clause.text.locator,
        remedy=clause.text.remedy,
        facts_read=ground.read,
        allowed=allowed_range(clause),
        window=window_period(prepared, clause),
        concept=clause.role.concept_set if clause.role is not None else None,
        passed_over=tuple(
            evidence_of(prepared, i)
            for i in passed_over(prepared, clause)
            if i not in ground.evidence
        ),
        record_kinds=_record_kinds(prepared, clause) if outcome is Outcome.UNDETERMINED else (),
    )


def _record_kinds(prepared: Prepared, clause: Clause) -> tuple[str, ...]:
    if clause.role is None:
        return ()
    kinds = kinds_of_record(prepared.trial, prepared.terms, clause.role.concept_set)
    return tuple(sorted(map(local_name, kinds)))
