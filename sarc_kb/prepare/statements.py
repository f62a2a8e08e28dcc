"""What makes silence an answer: spoken, vouched for, and explicit negatives; and counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from sarc_kb.dates import FOREVER, NEVER, iso
from sarc_kb.namespaces import SARC
from sarc_kb.prepare.derivation import matches
from sarc_kb.prepare.measurement import births
from sarc_kb.prepare.model import (
    BY_DEFAULT,
    Item,
    Statement,
    WindowDays,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.units import INFINITY, Interval


def hear(p: Preparation) -> None:
    """Take down what the record and the caller say is complete, and explicit negatives."""
    born = births(p, str(SARC.Birth))
    for item in p.spoken:
        scopes = item.terms.certain
        start = item.span.start_hi if item.origin and item.origin.start is not None else NEVER
        if item.origin and item.origin.start is item.origin.end:
            # A single date is when it was said: everything up to then.
            start = NEVER
        if born is not None and start <= born[0]:
            start = NEVER
        end = (
            item.span.end_lo if item.origin and item.origin.end is not None else item.span.start_lo
        )
        if item.origin and item.origin.end is None and item.origin.recorded is not None:
            end = item.origin.recorded.first
        if end >= FOREVER or end <= NEVER:
            p.find(
                "DATA019",
                "warning",
                item.origin,
                "a completeness statement without an end",
                "nobody knows how far it reaches",
                "give sarc:end or sarc:date",
            )
            continue
        if not item.sure:
            continue
        end = p.carried(end, p.trial.statement_tolerance)
        label = ", ".join(sorted(p.terms.label(s) for s in scopes))
        p.statements.append(
            Statement(scopes, start, end, f"{label} complete ({item.sources[0]})", False, (item,))
        )
    for scope in p.complete:
        p.statements += vouched(p, scope, born)
    wanted = silent_sets(p)
    for item in p.refuted:
        sets = frozenset(s for s in wanted if denies(p, item, s))
        day = (
            item.span.start_lo
            if item.span.start_lo > NEVER
            else (item.origin.recorded.first if item.origin and item.origin.recorded else NEVER)
        )
        if sets and day > NEVER:
            p.statements.append(
                Statement(
                    sets,
                    NEVER,
                    p.carried(day),
                    f"refuted in the record ({item.sources[0]})",
                    True,
                    (item,),
                    day,
                )
            )


def settle(p: Preparation) -> None:
    """Add the statements that facts amount to."""
    wanted = silent_sets(p)
    for rule in p.trial.derivations:
        if rule.kind != "Settling":
            continue
        if rule.iri not in p.narrower:
            p.narrower[rule.iri] = [
                s for s in wanted if any(narrower(p, s, t) for t in rule.settles)
            ]
        narrow = p.narrower[rule.iri]
        for item in p.members(rule.source):
            if matches(p, item, rule) == 2 and item.span.start_lo > NEVER:
                explicit = not any(s in p.terms.scope_kinds for s in rule.settles)
                end = max(min(item.span.start_lo + rule.holds_for, p.as_of), item.span.start_lo)
                if not rule.holds_for:
                    # What only says how it was that day is carried on; what holds for a time runs out.
                    end = p.carried(end, 0 if explicit else p.trial.statement_tolerance)
                p.statements.append(
                    Statement(
                        frozenset((*narrow, *rule.settles)),
                        NEVER,
                        end,
                        f"{p.trial.label(rule.iri, p.terms)} ({item.sources[0]})",
                        explicit,
                        (item,),
                        item.span.start_lo,
                    )
                )


def vouched(p: Preparation, scope: str, born: tuple[int, int] | None) -> Iterator[Statement]:
    """Yield what the caller's word for a history amounts to: everything up to the as-of date, but
    only within the periods in which the source observed the patient, where it names such."""
    last = max(p.as_of, p.entry.last)
    label = p.terms.label(scope)
    if p.record.observed is None:
        text = f"{label} complete (said when the program was run)"
        yield Statement(frozenset((scope,)), NEVER, last, text, False)
        return
    for first, observed in p.record.observed:
        end = p.carried(observed, p.trial.statement_tolerance)
        # Observed from birth on is observed for ever.
        start = NEVER if born is not None and first <= born[0] else first
        text = f"{label} complete while observed, from {iso(first)} to {iso(end)} (said when the program was run)"
        if first <= last:
            yield Statement(frozenset((scope,)), start, min(end, last), text, False)


def silent_sets(p: Preparation) -> list[str]:
    return sorted({c.role.concept_set for c in p.trial.clauses.values() if c.role and c.settled_by})


def narrower(p: Preparation, iri: str, than: str) -> bool:
    """Whether every member of set ``iri`` lies in set ``than``."""
    wide = p.trial.set_of(than)
    narrow = p.trial.set_of(iri)
    return narrow.kind == wide.kind and all(
        wide.degree_of_term(m, p.terms) == 2 for m in narrow.members
    )


def denies(p: Preparation, item: Item, iri: str) -> bool:
    """Whether a refuted fact says that there was nothing of set ``iri``."""
    wanted = p.trial.set_of(iri)
    if (wanted.kind is None and not item.natural) or (
        wanted.kind is not None and wanted.kind != item.kind
    ):
        return False
    return any(all(term in p.terms.up(m) for m in wanted.members) for term in item.terms.certain)


def tally(p: Preparation) -> None:
    for rule in p.trial.derivations:
        if rule.kind != "Tally" or rule.gives is None or rule.window is not None:
            continue
        members = p.members(rule.source)
        certain = [i for i in members if p.in_set(i, rule.source) == 2]
        if not members:
            continue
        span = BY_DEFAULT
        # Whether the count is complete depends on the statement covering up to entry.
        statement = p.covering(
            rule.settled_by or "", WindowDays(NEVER, NEVER, p.entry.first, p.entry.first)
        )
        distinct = {i.tumour or i.id for i in certain}
        hi = Decimal(len({i.tumour or i.id for i in members})) if statement else INFINITY
        made = p.derived(
            rule,
            rule.gives,
            tuple(members),
            span=span,
            interval=Interval(Decimal(len(distinct)), hi),
            axes={
                axis: coded
                for axis, coded in members[0].axes.items()
                if all(m.axes.get(axis) == coded for m in members)
            },
        )
        if statement:
            made = replace(made, rests_on=(*made.rests_on, statement.text))
        p.items.append(made)
