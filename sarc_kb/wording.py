"""An outcome in words: what was found, what is allowed, what is missing, what it rests on.

Every text is put together from labels of terms and rules and from values of the record; no sentence
here knows a trial.
"""

from __future__ import annotations

from decimal import Decimal

from sarc_kb.assessment import Evidence, Outcome, Period, Range
from sarc_kb.dates import FOREVER, NEVER, iso
from sarc_kb.explain import Explanation, window_text
from sarc_kb.facts import Fact
from sarc_kb.namespaces import local_name
from sarc_kb.prepare import Answer, Item, Prepared
from sarc_kb.rules import ANY, EVER, Clause
from sarc_kb.units import INFINITY, Interval


def limit_text(prepared: Prepared, clause: Clause) -> str:
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
    assert clause.second is not None
    assert clause.gap is not None
    other = (
        f"{trial.label(clause.second.concept_set, terms)} {clause.second.bounds.text(unit)}".strip()
    )
    gap = _gap_text(*clause.gap)
    if clause.component == "noPair":
        return f"no {what} {allowed} and {other} {gap}{window}".replace("  ", " ")
    return f"every {what} {allowed} has {other} {gap}{window}".replace("  ", " ")


def allowed_range(clause: Clause) -> Range | None:
    """Return the numbers that clear the clause: inside its bounds or, where it asks for nothing
    inside them, outside. None where it has no bounds, or what lies outside is in two parts."""
    if clause.role is None or clause.second is not None or not clause.role.bounds.used:
        return None
    bounds = clause.role.bounds
    unit = clause.unit if clause.unit and clause.unit != "1" else None
    lower = bounds.more_than if bounds.at_least is None else bounds.at_least
    upper = bounds.less_than if bounds.at_most is None else bounds.at_most
    lower_text = None if lower is None else number_text(lower)
    upper_text = None if upper is None else number_text(upper)
    lower_in, upper_in = bounds.at_least is not None, bounds.at_most is not None
    if clause.component != "none":
        return Range(lower_text, upper_text, lower_in, upper_in, unit)
    if lower_text is None:
        return Range(upper_text, None, not upper_in, False, unit)
    return Range(None, lower_text, False, not lower_in, unit) if upper_text is None else None


def window_period(prepared: Prepared, clause: Clause) -> Period | None:
    """Return the days that the clause looks at for this patient, None if all."""
    if clause.role is None or clause.role.window == EVER:
        return None
    days = prepared.windows[clause.role.window]
    return period(days.start_lo, days.end_hi)


def period(first: int, last: int) -> Period:
    """Return the days from ``first`` to ``last``."""
    return Period(
        iso(first) if first > NEVER else None,
        iso(last) if last < FOREVER else None,
    )


def _quantity(item: Item) -> Range | None:
    interval = item.interval
    if not interval.known:
        return None
    lower = number_text(interval.lo) if interval.lo > -INFINITY else None
    upper = number_text(interval.hi) if interval.hi < INFINITY else None
    unit = item.unit if item.unit and item.unit != "1" else None
    return Range(
        lower,
        upper,
        lower is not None and not interval.lo_open,
        upper is not None and not interval.hi_open,
        unit,
    )


def _gap_text(least: int, most: int) -> str:
    """Return how the second of a pair lies to the first, as people write it."""
    if -least == most:
        return f"within {most} minutes"
    if most <= 0:
        return "at the same time or before it"
    return "after it" if least > 0 else "at the same time or after it"


def message_text(
    prepared: Prepared,
    clause: Clause,
    outcome: Outcome,
    ground: Explanation,
    missing: tuple[str, ...],
) -> str:
    """Return what came out, in one sentence. The words of a rule may name the protocol's limit, so
    an outcome by another one says which."""
    text = _message(prepared, clause, outcome, ground, missing)
    if clause.relaxed and outcome is not Outcome.UNDETERMINED:
        return f"{text} [relaxed: {', '.join(clause.relaxed)}]"
    return text


def _message(
    prepared: Prepared,
    clause: Clause,
    outcome: Outcome,
    ground: Explanation,
    missing: tuple[str, ...],
) -> str:
    if outcome is Outcome.FAIL:
        found = "; ".join(_found(prepared, i) for i in ground.evidence[:3])
        if not found and ground.answers:
            found = "; ".join(question_text(prepared, a) for a in ground.answers)
        if not found and ground.statement is not None:
            found = f"none recorded, and {ground.statement.text}"
        return f"{clause.text.message}: {found}" if found else clause.text.message
    if outcome is Outcome.UNDETERMINED:
        return f"{clause.text.label}: not established" + (f" ({missing[0]})" if missing else "")
    if ground.evidence and clause.component != "none":
        return f"{clause.text.label}: " + "; ".join(
            _found(prepared, i) for i in ground.evidence[:3]
        )
    if ground.statement is not None:
        return f"{clause.text.label}: none recorded, and {ground.statement.text}"
    if ground.answers:
        return f"{clause.text.label}: cleared by an answer"
    return clause.text.label


def _found(prepared: Prepared, item: Item) -> str:
    e = evidence_of(prepared, item)
    recorded = " ".join(x for x in (e.value, e.unit if e.unit != "1" else None) if x)
    value = e.rule_value or recorded
    if e.rule_value and e.value:
        value = f"{recorded} = {e.rule_value}"
    when = f" on {e.date}" if e.date else ""
    return f"{e.label}{' ' + value if value else ''}{when}"


def missing_texts(prepared: Prepared, clause: Clause, ground: Explanation) -> tuple[str, ...]:
    """Return what would settle an undetermined clause, most useful first."""
    trial, terms = prepared.trial, prepared.terms
    out: list[str] = []
    if clause.role is not None:
        what = trial.label(clause.role.concept_set, terms)
        for doubt in ground.doubts[:3]:
            where = ", ".join(doubt.item.sources) or "derived"
            out.append(f"{evidence_of(prepared, doubt.item).label} ({where}): {doubt.words}")
        if clause.component == "latest" and not ground.doubts:
            unit = f" in {clause.unit}" if clause.unit and clause.unit != "1" else ""
            qualifier = (
                ""
                if clause.role.qualifier == ANY
                else f" ({trial.label(clause.role.qualifier, terms)})"
            )
            out.append(
                f"{what}{qualifier}{unit}, dated {window_text(prepared, clause.role.window)}".replace(
                    ", dated at any time", ""
                )
            )
            for item in ground.nearby:
                out.append(
                    f"the newest recorded one, {_found(prepared, item)} ({', '.join(item.sources)}), lies outside the window"
                )
        elif clause.component == "some" and not ground.doubts:
            qualifier = (
                ""
                if clause.role.qualifier == ANY
                else f" ({trial.label(clause.role.qualifier, terms)})"
            )
            out.append(
                f"a record of {what}{qualifier}, dated {window_text(prepared, clause.role.window)}".replace(
                    ", dated at any time", ""
                )
            )
        elif ground.lacks_statement and clause.settled_by:
            also = "and " if ground.doubts else ""
            out.append(also + settling_text(prepared, clause.settled_by, clause.role.window))
    if clause.attestable:
        asked = [q for q in trial.questions if clause.iri in q.covers]
        out += [f"an answer to “{q.text}” ({q.link_id})" for q in asked]
        if not asked:
            out.append(f"an attestation of {clause.id}")
    return tuple(out)


def settling_text(prepared: Prepared, scope: str, window: str) -> str:
    """Return what makes silence an answer: a statement, or a fact that grants the scope."""
    trial, terms = prepared.trial, prepared.terms
    when = window_text(prepared, window)
    granting = [d.source for d in trial.derivations if d.kind == "Settling" and scope in d.settles]
    if scope not in terms.scopes.values() and granting:
        return f"{trial.label(granting[0], terms)}, dated {when}"
    return f"a statement that {trial.label(scope, terms)} is complete {when}"


def rests_on(
    prepared: Prepared, clause: Clause, outcome: Outcome, ground: Explanation
) -> tuple[str, ...]:
    out = {f"relaxed: {limit}": None for limit in clause.relaxed}
    if ground.statement is not None:
        out[f"statement: {ground.statement.text}"] = None
    if ground.answers and outcome is not Outcome.UNDETERMINED:
        for answer in ground.answers:
            out[f"answer: {local_name(answer.subject)} ({', '.join(answer.item.sources)})"] = None
    items = list(ground.evidence)
    if clause.component == "none" and clause.role is not None and outcome is Outcome.PASS:
        # What is passed over by a default counts as much as what is read by one.
        items += [
            i
            for i in prepared.members(clause.role.concept_set)
            if i.rests_on and prepared.within(i, clause.role.window)
        ]
    for item in items:
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


def evidence_of(prepared: Prepared, item: Item) -> Evidence:
    terms, trial = prepared.terms, prepared.trial
    concept = sorted(item.terms.certain or item.terms.general)
    iri = (
        concept[0]
        if concept
        else (item.origin.concepts[0] if item.origin and item.origin.concepts else "")
    )
    fact = item.origin
    value, unit = (None, None) if item.derived_by and item.parents else _recorded(fact, prepared)
    rule_value = None
    interval = item.interval
    if interval.known:
        text = _interval_text(interval)
        if item.derived_by is not None:
            value, unit = text, (item.unit if item.unit != "1" else None)
        elif (
            fact is not None
            and fact.unit is not None
            and terms.canonical_unit(fact.unit) != item.unit
        ):
            rule_value = f"{text} {item.unit}".strip()
    elif item.derived_by is not None and item.values.readable:
        joined = ", " if item.values.certain else " or "
        value = joined.join(
            sorted(terms.label(v) for v in (item.values.certain or item.values.general))
        )
        numbers = [p for p in item.parents if p.interval.known]
        if len(numbers) == len(item.parents) == 2:
            # Made of two numbers: what they are says more than the word for it.
            said = [f"{_interval_text(p.interval)} {p.unit}".strip() for p in numbers]
            value = f"{value}, {said[0]} to {said[1]}"
    return Evidence(
        source=", ".join(item.sources),
        concept=iri,
        label=trial.label(iri, terms) if iri else "fact",
        value=value,
        unit=unit,
        date=_date_text(item),
        rule_value=rule_value,
        derived_from=tuple(item.sources) if item.derived_by else (),
        note=f"derived: {trial.label(item.derived_by, terms)}"
        if item.derived_by
        else (item.problem or None),
        quantity=_quantity(item),
    )


def answer_evidence(prepared: Prepared, answer: Answer) -> Evidence:
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


def question_text(prepared: Prepared, answer: Answer) -> str:
    said = sorted(answer.item.values.certain)
    label = prepared.trial.label(answer.subject, prepared.terms)
    return f"“{label}”: {prepared.terms.label(said[0]) if said else '?'}"


def _recorded(fact: Fact | None, prepared: Prepared) -> tuple[str | None, str | None]:
    if fact is None:
        return None, None
    if fact.value is not None:
        return f"{fact.comparator or ''}{fact.value:f}" if fact.value.is_finite() else str(
            fact.value
        ), fact.unit
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
        return number_text(lo)
    if lo <= -INFINITY:
        return f"{'<' if interval.hi_open else '≤'} {number_text(hi)}"
    if hi >= INFINITY:
        return f"{'>' if interval.lo_open else '≥'} {number_text(lo)}"
    return f"{number_text(lo)} to {number_text(hi)}"


def number_text(number: Decimal) -> str:
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
