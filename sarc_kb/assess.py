"""Assess one prepared patient: run both readings, fold the trees, say why.

The fold is strong Kleene logic on pass > undetermined > fail: ``and`` is the least, ``or`` the
greatest (Kleene 1952). Exclusions are written so that passing means clearing them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from sarc_kb.assessment import (
    Assessment,
    ClauseResult,
    CriterionResult,
    Evidence,
    Outcome,
    Provenance,
    Verdict,
)
from sarc_kb.dates import FOREVER, NEVER, iso
from sarc_kb.errors import EngineError, Finding
from sarc_kb.explain import Explanation, explain, window_text
from sarc_kb.facts import Fact
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.prepare import Answer, Item, Prepared
from sarc_kb.rules import ANY, EVER, Clause, Criterion, Trial
from sarc_kb.units import INFINITY, Interval

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
    outcomes = clause_outcomes(trial, refuted, unproven)
    grounds = {iri: explain(prepared, clause) for iri, clause in trial.clauses.items()}
    for iri, ground in grounds.items():
        shown = Outcome.FAIL if ground.refuted else Outcome.UNDETERMINED if ground.unproven else Outcome.PASS
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
    denied = {shape for shape, component in refuted if component == _DENIAL}
    criteria = tuple(
        _criterion(prepared, criterion, outcomes, grounds, criterion.iri in denied)
        for criterion in trial.criteria
    )
    findings = list(prepared.record.findings) + prepared.findings
    findings += _conflicts(prepared, grounds)
    unused = _unused(prepared)
    if unused:
        findings.append(
            Finding("DATA020", "info", prepared.record.origin, f"{unused} facts that no rule reads", "they bear on no criterion of this trial", "nothing, unless one of them should")
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
        to_decide=_to_decide(prepared, criteria, outcomes, grounds) if verdict is Verdict.UNDETERMINED else (),
        data_findings=tuple(_unique(findings)),
        provenance=replace(provenance, facts_unused=unused),
    )


def _unique(findings: Iterable[Finding]) -> list[Finding]:
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(dict.fromkeys(findings), key=lambda f: (order[f.severity], f.code, f.where, f.found))


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
                    ground.answers[0].item.sources[0] if ground.answers[0].item.sources else "answer",
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


# -- a criterion -----------------------------------------------------------------------------------
def _criterion(
    prepared: Prepared,
    criterion: Criterion,
    outcomes: Mapping[str, Outcome],
    grounds: Mapping[str, Explanation],
    denied: bool,
) -> CriterionResult:
    trial = prepared.trial
    outcome = Outcome.FAIL if denied else fold(trial, criterion.root, outcomes)
    clauses = tuple(
        _clause(prepared, trial.clauses[iri], outcomes[iri], grounds[iri]) for iri in criterion.clauses
    )
    deciding = tuple(
        trial.clauses[iri].id for iri in _deciding(trial, criterion.root, outcomes, fold(trial, criterion.root, outcomes))
    )
    answers = prepared.denied.get(criterion.iri, ()) if denied else ()
    by_id = {c.id: c for c in clauses}
    if denied:
        message = "an answer denies it: " + "; ".join(_question_text(prepared, a) for a in answers)
        if fold(trial, criterion.root, outcomes) is not Outcome.FAIL:
            deciding = tuple(dict.fromkeys(local_name(a.subject) for a in answers))
    else:
        message = "; ".join(by_id[d].message for d in deciding if d in by_id)
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
        decided_by=deciding,
        denied_by=tuple(_answer_evidence(prepared, a) for a in answers),
    )


def _deciding(trial: Trial, node: str, outcomes: Mapping[str, Outcome], wanted: Outcome) -> list[str]:
    """Return the clauses that make ``node`` come out as ``wanted``, in order, each once."""
    join = trial.joins.get(node)
    if join is None:
        return [node] if outcomes[node] is wanted else []
    found: dict[str, None] = {}
    for child in join.children:
        if fold(trial, child, outcomes) is wanted:
            found.update(dict.fromkeys(_deciding(trial, child, outcomes, wanted)))
    return list(found)


def _clause(prepared: Prepared, clause: Clause, outcome: Outcome, ground: Explanation) -> ClauseResult:
    trial = prepared.trial
    evidence = [_evidence(prepared, i) for i in ground.evidence]
    evidence += [_answer_evidence(prepared, a) for a in ground.answers]
    missing = _missing(prepared, clause, ground) if outcome is Outcome.UNDETERMINED else ()
    questions = [q.link_id for q in trial.questions if clause.iri in q.covers and clause.attestable]
    settled = tuple(questions) + ((local_name(clause.settled_by),) if clause.settled_by else ())
    return ClauseResult(
        id=clause.id,
        iri=clause.iri,
        label=clause.text.label,
        outcome=outcome,
        message=_message(prepared, clause, outcome, ground, missing),
        limit=_limit(prepared, clause),
        evidence=tuple(evidence),
        missing=missing,
        settled_by=settled,
        rests_on=_rests_on(prepared, clause, outcome, ground),
        readings=clause.text.resolves,
        source_text=clause.text.quote,
        locator=clause.text.locator,
        remedy=clause.text.remedy,
        facts_read=ground.read,
    )


def _limit(prepared: Prepared, clause: Clause) -> str:
    """Return what the clause allows, as people write it."""
    trial, terms = prepared.trial, prepared.terms
    if clause.role is None:
        return "an answer that clears it"
    role = clause.role
    what = trial.label(role.concept_set, terms)
    unit = clause.unit
    allowed = role.bounds.text(unit)
    if role.accepted != ANY:
        allowed = ", ".join(x for x in (trial.label(role.accepted, terms), allowed) if x)
    qualifier = "" if role.qualifier == ANY else f" ({trial.label(role.qualifier, terms)})"
    window = "" if role.window == EVER else " " + window_text(prepared, role.window)
    if clause.component == "latest":
        return f"{what}{qualifier} {allowed}{window}".replace("  ", " ")
    if clause.component == "some":
        return f"{what}{qualifier} {allowed}{window}".replace("  ", " ")
    if clause.component == "none":
        return f"no {what}{qualifier} {allowed}{window}".replace("  ", " ")
    assert clause.second is not None and clause.gap is not None
    other = f"{trial.label(clause.second.concept_set, terms)} {clause.second.bounds.text(unit)}".strip()
    gap = f"within {clause.gap[1]} minutes"
    if clause.component == "noPair":
        return f"no {what} {allowed} and {other} {gap}{window}".replace("  ", " ")
    return f"every {what} {allowed} has {other} {gap}{window}".replace("  ", " ")


def _message(
    prepared: Prepared, clause: Clause, outcome: Outcome, ground: Explanation, missing: tuple[str, ...]
) -> str:
    if outcome is Outcome.FAIL:
        found = "; ".join(_found(prepared, i) for i in ground.evidence[:3])
        if not found and ground.answers:
            found = "; ".join(_question_text(prepared, a) for a in ground.answers)
        if not found and ground.statement is not None:
            found = f"none recorded, and {ground.statement.text}"
        return f"{clause.text.message}: {found}" if found else clause.text.message
    if outcome is Outcome.UNDETERMINED:
        return f"{clause.text.label}: not established" + (f" ({missing[0]})" if missing else "")
    if ground.evidence and not (clause.component == "none"):
        return f"{clause.text.label}: " + "; ".join(_found(prepared, i) for i in ground.evidence[:3])
    if ground.statement is not None:
        return f"{clause.text.label}: none recorded, and {ground.statement.text}"
    if ground.answers:
        return f"{clause.text.label}: cleared by an answer"
    return clause.text.label


def _found(prepared: Prepared, item: Item) -> str:
    e = _evidence(prepared, item)
    value = e.rule_value or " ".join(x for x in (e.value, e.unit) if x)
    if e.rule_value and e.value:
        value = f"{' '.join(x for x in (e.value, e.unit) if x)} = {e.rule_value}"
    when = f" on {e.date}" if e.date else ""
    return f"{e.label}{' ' + value if value else ''}{when}"


def _missing(prepared: Prepared, clause: Clause, ground: Explanation) -> tuple[str, ...]:
    """Return what would settle an undetermined clause, most useful first."""
    trial, terms = prepared.trial, prepared.terms
    out: list[str] = []
    if clause.role is not None:
        what = trial.label(clause.role.concept_set, terms)
        for item, why in ground.doubts[:3]:
            where = ", ".join(item.sources) or "derived"
            out.append(f"{_evidence(prepared, item).label} ({where}): {why}")
        if clause.component == "latest" and not ground.doubts:
            unit = f" in {clause.unit}" if clause.unit and clause.unit != "1" else ""
            qualifier = "" if clause.role.qualifier == ANY else f" ({trial.label(clause.role.qualifier, terms)})"
            out.append(f"{what}{qualifier}{unit}, dated {window_text(prepared, clause.role.window)}".replace(", dated at any time", ""))
            for item in ground.nearby:
                out.append(
                    f"the newest recorded one, {_found(prepared, item)} ({', '.join(item.sources)}), lies outside the window"
                )
        elif clause.component == "some" and not ground.doubts:
            qualifier = "" if clause.role.qualifier == ANY else f" ({trial.label(clause.role.qualifier, terms)})"
            out.append(f"a record of {what}{qualifier}, dated {window_text(prepared, clause.role.window)}".replace(", dated at any time", ""))
        elif ground.lacks_statement and clause.settled_by and not ground.doubts:
            out.append(
                f"a statement that {trial.label(clause.settled_by, terms)} is complete {window_text(prepared, clause.role.window)}"
            )
        elif ground.lacks_statement and clause.settled_by:
            out.append(
                f"and a statement that {trial.label(clause.settled_by, terms)} is complete {window_text(prepared, clause.role.window)}"
            )
    if clause.attestable:
        asked = [q for q in trial.questions if clause.iri in q.covers]
        out += [f"an answer to “{q.text}” ({q.link_id})" for q in asked]
        if not asked:
            out.append(f"an attestation of {clause.id}")
    return tuple(out)


def _rests_on(prepared: Prepared, clause: Clause, outcome: Outcome, ground: Explanation) -> tuple[str, ...]:
    out: dict[str, None] = {}
    if ground.statement is not None:
        out[f"statement: {ground.statement.text}"] = None
    if ground.answers and outcome is not Outcome.UNDETERMINED:
        for answer in ground.answers:
            out[f"answer: {local_name(answer.subject)} ({', '.join(answer.item.sources)})"] = None
    for item in ground.evidence:
        for rest in item.rests_on:
            name = local_name(rest) if rest.startswith(("http:", "https:")) else rest
            out[f"default: {name}"] = None
    if clause.role is not None and clause.role.window != EVER:
        window = clause.role.window
        if any(p.iri == window for p in prepared.trial.policies):
            out[f"policy: {local_name(window)}"] = None
        anchor = prepared.trial.windows[window].anchor
        day = prepared.anchors.get(anchor)
        if day is not None and "policy" in day.how:
            out[f"anchor: {local_name(anchor)} ({day.how})"] = None
    return tuple(out)


def _to_decide(
    prepared: Prepared,
    criteria: tuple[CriterionResult, ...],
    outcomes: Mapping[str, Outcome],
    grounds: Mapping[str, Explanation],
) -> tuple[str, ...]:
    """Return the smallest set of data that would settle the verdict.

    For each open criterion the fewest clauses whose passing passes it; for those clauses the
    fewest data items (a question or a completeness statement may settle several at once).
    """
    trial, terms = prepared.trial, prepared.terms
    needed: dict[str, None] = {}
    for criterion in criteria:
        if criterion.outcome is Outcome.UNDETERMINED:
            cheapest = _cheapest(trial, criterion.iri, outcomes)
            needed.update(dict.fromkeys(cheapest or ()))
    options: dict[str, dict[str, str]] = {}
    for iri in needed:
        clause, ground = trial.clauses[iri], grounds[iri]
        choices: dict[str, str] = {}
        if clause.role is not None and not ground.doubts:
            if clause.component in ("latest", "some"):
                what = trial.label(clause.role.concept_set, terms)
                window = window_text(prepared, clause.role.window)
                choices[f"data:{clause.role.concept_set}:{clause.role.window}"] = (
                    what if window == "at any time" else f"{what}, dated {window}"
                )
            elif clause.settled_by:
                choices[f"scope:{clause.settled_by}"] = (
                    f"a statement that {trial.label(clause.settled_by, terms)} is complete up to {iso(prepared.entry.last)}"
                )
        elif ground.doubts:
            item, why = ground.doubts[0]
            choices[f"doubt:{item.id}:{why}"] = f"{_evidence(prepared, item).label} ({', '.join(item.sources)}): {why}"
        if clause.attestable:
            for q in trial.questions:
                if iri in q.covers:
                    choices[f"question:{q.iri}"] = f"an answer to “{q.text}” ({q.link_id})"
            if not any(iri in q.covers for q in trial.questions):
                choices[f"rule:{iri}"] = f"an attestation of {clause.id}"
        options[iri] = choices
    chosen = _fewest({iri: tuple(c) for iri, c in options.items()})
    lines = []
    for key in chosen:
        text = next(c[key] for c in options.values() if key in c)
        ids = [trial.clauses[iri].id for iri in needed if key in options[iri]]
        lines.append(f"{text} [{', '.join(ids)}]")
    return tuple(lines)


def _cheapest(trial: Trial, node: str, outcomes: Mapping[str, Outcome]) -> tuple[str, ...] | None:
    """Return the fewest open clauses whose passing makes ``node`` pass; None if none can."""
    join = trial.joins.get(node)
    if join is None:
        if outcomes[node] is Outcome.FAIL:
            return None
        return (node,) if outcomes[node] is Outcome.UNDETERMINED else ()
    parts = [_cheapest(trial, c, outcomes) for c in join.children]
    if join.operator == "or":
        able = [p for p in parts if p is not None]
        return min(able, key=len) if able else None
    if any(p is None for p in parts):
        return None
    return tuple(dict.fromkeys(x for p in parts if p for x in p))


def _fewest(options: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return a smallest set of keys that gives every entry at least one of its options.

    Exact: branch on the entry with the fewest options, cut by the best found; entries that share
    no option fall apart into independent problems, so the search stays small.
    """
    todo = {k: set(v) for k, v in options.items() if v}
    chosen: list[str] = []
    while todo:
        group = {next(iter(todo))}
        keys: set[str] = set()
        grown = True
        while grown:
            keys = set().union(*(todo[k] for k in group))
            more = {k for k, v in todo.items() if v & keys}
            grown = more != group
            group = more
        part = {k: todo.pop(k) for k in list(todo) if k in group}
        chosen += _cover(part, sorted(keys), None) or []
    order = {key: n for n, key in enumerate(k for v in options.values() for k in v)}
    return sorted(chosen, key=lambda k: order[k])


def _cover(part: Mapping[str, set[str]], keys: list[str], best: int | None) -> list[str] | None:
    if not part:
        return []
    if best is not None and best <= 0:
        return None
    tightest = min(part, key=lambda k: (len(part[k]), k))
    found: list[str] | None = None
    gain = {k: sum(k in v for v in part.values()) for k in part[tightest]}
    for key in sorted(part[tightest], key=lambda k: (-gain[k], k)):
        limit = (len(found) - 1 if found is not None else best)
        rest = _cover(
            {n: v for n, v in part.items() if key not in v}, keys, None if limit is None else limit - 1
        )
        if rest is not None and (found is None or len(rest) + 1 < len(found)):
            found = [key, *rest]
    return found


# -- evidence --------------------------------------------------------------------------------------
def _evidence(prepared: Prepared, item: Item) -> Evidence:
    terms, trial = prepared.terms, prepared.trial
    concept = sorted(item.terms.certain or item.terms.general)
    iri = concept[0] if concept else (item.origin.concepts[0] if item.origin and item.origin.concepts else "")
    fact = item.origin
    value, unit = (None, None) if item.derived_by and item.parents else _recorded(fact, prepared)
    rule_value = None
    interval = item.interval
    if interval.known:
        text = _interval_text(interval)
        if item.derived_by is not None:
            value, unit = text, (item.unit if item.unit != "1" else None)
        elif fact is not None and fact.unit is not None and terms.canonical_unit(fact.unit) != item.unit:
            rule_value = f"{text} {item.unit}".strip()
    elif item.derived_by is not None and item.values.readable:
        value = ", ".join(sorted(terms.label(v) for v in (item.values.certain or item.values.general)))
    return Evidence(
        source=", ".join(item.sources),
        concept=iri,
        label=trial.label(iri, terms) if iri else "fact",
        value=value,
        unit=unit,
        date=_date_text(item),
        rule_value=rule_value,
        derived_from=tuple(item.sources) if item.derived_by else (),
        note=f"derived: {trial.label(item.derived_by, terms)}" if item.derived_by else (item.problem or None),
    )


def _recorded(fact: Fact | None, prepared: Prepared) -> tuple[str | None, str | None]:
    if fact is None:
        return None, None
    if fact.value is not None:
        return f"{fact.comparator or ''}{fact.value:f}" if fact.value.is_finite() else str(fact.value), fact.unit
    if fact.value_text is not None:
        return "not a number", fact.unit
    if fact.value_concepts:
        return ", ".join(_value_label(prepared, v) for v in fact.value_concepts), None
    return None, None


def _value_label(prepared: Prepared, iri: str) -> str:
    coded = prepared.terms.code((iri,))
    known = sorted(coded.certain or coded.general)
    if known:
        return prepared.terms.label(known[0])
    return prepared.record.labels.get(iri) or iri


def _interval_text(interval: Interval) -> str:
    lo, hi = interval.lo, interval.hi
    if lo == hi:
        return _number(lo)
    if lo <= -INFINITY:
        return f"{'<' if interval.hi_open else '≤'} {_number(hi)}"
    if hi >= INFINITY:
        return f"{'>' if interval.lo_open else '≥'} {_number(lo)}"
    return f"{_number(lo)} to {_number(hi)}"


def _number(number: Decimal) -> str:
    """Return a decimal to at most six places after the point, for reading only."""
    rounded = round(number, 6)
    text = format(rounded, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _date_text(item: Item) -> str | None:
    fact = item.origin
    if item.span.start_lo <= NEVER and item.span.end_hi >= FOREVER and item.derived_by:
        return None
    if fact is None:
        return iso(item.span.start_lo) if item.span.start_lo > NEVER else None
    if item.parents and item.span != item.parents[0].span:
        return iso(item.span.start_lo) if item.span.start_lo > NEVER else None
    if fact.start is None:
        if fact.end is not None:
            return f"until {fact.end.text}"
        return f"recorded {fact.recorded.text}" if fact.recorded else None
    if fact.end is fact.start or (fact.end is not None and fact.end.text == fact.start.text):
        return fact.start.text
    if fact.end is not None:
        return f"{fact.start.text} to {fact.end.text}"
    return f"{fact.start.text}, ongoing" if fact.ongoing else f"since {fact.start.text}"


def _answer_evidence(prepared: Prepared, answer: Answer) -> Evidence:
    item = answer.item
    said = sorted(item.values.certain)
    note = item.origin.performer if item.origin else None
    return Evidence(
        source=", ".join(item.sources),
        concept=answer.subject,
        label=prepared.trial.label(answer.subject, prepared.terms),
        value=prepared.terms.label(said[0]) if said else None,
        date=_date_text(item),
        note=f"answered by {note}" if note else None,
    )


def _question_text(prepared: Prepared, answer: Answer) -> str:
    said = sorted(answer.item.values.certain)
    label = prepared.trial.label(answer.subject, prepared.terms)
    return f"“{label}”: {prepared.terms.label(said[0]) if said else '?'}"
