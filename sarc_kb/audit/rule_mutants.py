"""Mutants of clauses, joins and rules: limits, sets and windows exchanged, joins turned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any

from sarc_kb.audit.mutant import Change, Maker, Mutant, plain, quantity_of, step_of
from sarc_kb.namespaces import local_name
from sarc_kb.rules import ANY, EVER, Bounds, Clause, Criterion, Role, Trial
from sarc_kb.terminology import Terminology
from sarc_kb.treatment import UNKEPT

_BOUNDS = {
    "at_least": "atLeast",
    "more_than": "moreThan",
    "at_most": "atMost",
    "less_than": "lessThan",
}
_TURNED = {
    "at_least": "more_than",
    "more_than": "at_least",
    "at_most": "less_than",
    "less_than": "at_most",
}
_DUAL = {
    "latest": "some",
    "some": "none",
    "none": "some",
    "noPair": "eachHas",
    "eachHas": "noPair",
}
_BINDS = {
    "Order": "Intention",
    "Prohibition": "Intention",
    "Intention": "Prohibition",
    "Permission": "Prohibition",
    "Discretion": "Prohibition",
    "NotRuled": "Prohibition",
    "Agreement": "Prohibition",
}
_FEW_DIGITS = Context(prec=9)
"""A limit in another unit may have no end of digits; no case lies between these."""


@dataclass(frozen=True, slots=True)
class OfRules(Maker):
    """Makes the mutants of what one part of a trial judges."""

    def clause(self, clause: Clause) -> Iterator[Mutant]:
        for name, role in (("role", clause.role), ("second", clause.second)):
            if role is not None:
                yield from self._limits(clause, name, role)
                yield from self._selection(clause, name, role)
        yield from self._gap(clause)
        if clause.component in _DUAL:
            other = _DUAL[clause.component]
            yield self.made(
                f"{clause.id}:component",
                "component",
                f"{clause.id} {clause.component} -> {other}",
                clause.iri,
                _with_clause(replace(clause, component=other)),
                prepares=False,
            )
        if clause.settled_by is not None:
            for scope in (None, self._other_scope(clause.settled_by)):
                told = local_name(scope) if scope else "nothing"
                yield self.made(
                    f"{clause.id}:settledBy={told}",
                    "silence",
                    f"{clause.id} settledBy {local_name(clause.settled_by)} -> {told}",
                    clause.iri,
                    _with_clause(replace(clause, settled_by=scope)),
                )
        if clause.component != "attested":
            may = "may" if clause.attestable else "may not"
            yield self.made(
                f"{clause.id}:attestable",
                "polarity",
                f"{clause.id} a person's answer {may} decide it -> the other way",
                clause.iri,
                _with_clause(replace(clause, attestable=not clause.attestable)),
                equivalent=""
                if self.part.course is None
                else "answers of people are about eligibility alone",
            )

    def _limits(self, clause: Clause, name: str, role: Role) -> Iterator[Mutant]:
        def other(bounds: Bounds) -> Change:
            roles: dict[str, Any] = {name: replace(role, bounds=bounds)}
            return _with_clause(replace(clause, **roles))

        for attribute, word in _BOUNDS.items():
            bound: Decimal | None = getattr(role.bounds, attribute)
            if bound is None:
                continue
            said = word if name == "role" else f"paired{word[0].upper()}{word[1:]}"
            step = step_of(role, bound, self.part, self.terms)
            lowest = attribute == "at_least" and self._lowest(role, bound)
            unread = "no plausible value lies below the limit" if lowest else ""
            for moved in (bound - step, bound + step):
                yield self.made(
                    f"{clause.id}:{said}={plain(moved)}",
                    "threshold",
                    f"{clause.id} {said} {plain(bound)} -> {plain(moved)}",
                    clause.iri,
                    other(replace(role.bounds, **{attribute: moved})),
                    limits=True,
                    equivalent=unread if moved < bound else "",
                )
            yield self.made(
                f"{clause.id}:{said}-dropped",
                "threshold",
                f"{clause.id} {said} {plain(bound)} -> no limit",
                clause.iri,
                other(replace(role.bounds, **{attribute: None})),
                limits=True,
                equivalent=unread,
            )
            turned = _TURNED[attribute]
            yield self.made(
                f"{clause.id}:{said}-comparator",
                "comparator",
                f"{clause.id} {said} {plain(bound)} -> {_BOUNDS[turned]} {plain(bound)}",
                clause.iri,
                other(replace(role.bounds, **{attribute: None, turned: bound})),
                limits=True,
            )
        unit = self._other_unit(role) if role.bounds.used else None
        if unit is not None:
            written, factor = unit
            scaled = Bounds(
                *(
                    None
                    if getattr(role.bounds, a) is None
                    else _FEW_DIGITS.multiply(getattr(role.bounds, a), factor)
                    for a in _BOUNDS
                )
            )
            quantity = quantity_of(role, self.part, self.terms)
            assert quantity is not None
            if scaled == role.bounds:
                return  # nothing is nothing in every unit
            yield self.made(
                f"{clause.id}:{name}-unit={written}",
                "unit",
                f"{clause.id} limits in {quantity.unit} -> the same numbers in {written}",
                clause.iri,
                other(scaled),
                limits=True,
            )

    def _lowest(self, role: Role, bound: Decimal) -> bool:
        """Whether no number of what ``role`` selects is plausible below ``bound``."""
        members = self.part.set_of(role.concept_set).members
        quantities = [self.terms.quantity_of(m) for m in members]
        return all(q is not None and q.least is not None and q.least >= bound for q in quantities)

    def _other_unit(self, role: Role) -> tuple[str, Decimal] | None:
        """Return the accepted unit nearest to the canonical one in size, with its factor."""
        quantity = quantity_of(role, self.part, self.terms)
        if quantity is None:
            return None
        found = []
        for unit, (factor, divisor) in quantity.accepts.items():
            scale = factor / divisor
            if scale != 1:
                found.append((max(scale, 1 / scale), unit, scale))
        return min(found)[1:] if found else None

    def _selection(self, clause: Clause, name: str, role: Role) -> Iterator[Mutant]:
        first = name == "role"

        def other(**changed: Any) -> Change:
            roles: dict[str, Any] = {name: replace(role, **changed)}
            new = replace(clause, **roles)
            # Both of a pair lie in one window.
            if "window" in changed and clause.second is not None and first:
                new = replace(new, second=replace(clause.second, window=changed["window"]))
            return _with_clause(new)

        which = "" if first else "paired "
        if first and role.window != EVER:
            yield self.made(
                f"{clause.id}:window-dropped",
                "window",
                f"{clause.id} window {local_name(role.window)} -> at any time",
                clause.iri,
                other(window=EVER),
                prepares=False,
            )
        if role.qualifier != ANY:
            yield self.made(
                f"{clause.id}:{name}-qualifier-dropped",
                "qualifier",
                f"{clause.id} {which}qualifier {local_name(role.qualifier)} -> any",
                clause.iri,
                other(qualifier=ANY),
                prepares=False,
            )
        if role.accepted != ANY:
            yield self.made(
                f"{clause.id}:{name}-accepted-dropped",
                "concept",
                f"{clause.id} {which}accepted {local_name(role.accepted)} -> any result",
                clause.iri,
                other(accepted=ANY),
                prepares=False,
            )
        for field, iri in (("concept_set", role.concept_set), ("accepted", role.accepted)):
            if iri == ANY or iri in self.part.sets:
                continue
            for above in parents(iri, self.terms):
                if field == "concept_set" and self.terms.kind_of(above) is None:
                    continue  # no fact is recorded as a class of the rule language
                yield self.made(
                    f"{clause.id}:{name}-{field}={local_name(above)}",
                    "concept",
                    f"{clause.id} {which}{local_name(iri)} -> {local_name(above)}",
                    clause.iri,
                    other(**{field: above}),
                    concepts=self.terms.down(above) - self.terms.down(iri),
                    prepares=field == "concept_set",
                )

    def _gap(self, clause: Clause) -> Iterator[Mutant]:
        if clause.gap is None or clause.component not in ("noPair", "eachHas"):
            return
        least, most = clause.gap
        for words, gap in (
            (f"gapFrom {least} -> {least - 1}", (least - 1, most)),
            (f"gapFrom {least} -> {least + 1}", (least + 1, most)),
            (f"gapTo {most} -> {most - 1}", (least, most - 1)),
            (f"gapTo {most} -> {most + 1}", (least, most + 1)),
        ):
            alike = clause.component == "noPair" and clause.role == clause.second
            span = _either_way(gap)
            same = alike and span is not None and span == _either_way(clause.gap)
            yield self.made(
                f"{clause.id}:{words.replace(' -> ', '=').replace(' ', '')}",
                "window",
                f"{clause.id} {words}",
                clause.iri,
                _with_clause(replace(clause, gap=gap)),
                limits=True,
                equivalent="both of a pair are alike, so that the other end holds it"
                if same
                else "",
            )

    def _other_scope(self, scope: str) -> str | None:
        """Return the next scope that is no part of this one and does not consist of it."""
        known = sorted(set(self.terms.scopes.values()))
        place = known.index(scope) if scope in known else -1
        parts = self.terms.scope_parts
        for other in (*known[place + 1 :], *known[: max(place, 0)]):
            if other not in parts.get(scope, ()) and scope not in parts.get(other, ()):
                return other
        return None

    # -- joins and rules -----------------------------------------------------------------------
    def join(self, iri: str) -> Iterator[Mutant]:
        join = self.part.joins[iri]

        def other(**changed: Any) -> Change:
            new = replace(join, **changed)
            return lambda part: replace(part, joins={**part.joins, iri: new})

        turned = "or" if join.operator == "and" else "and"
        yield self.made(
            f"{join.id}:{turned}",
            "join",
            f"{join.id} {join.operator} -> {turned}",
            iri,
            other(operator=turned),
            equivalent="" if len(set(join.children)) > 1 else "it joins one thing alone",
            prepares=False,
        )
        if len(join.children) < 2:
            return
        for place, child in enumerate(join.children):
            kept = (*join.children[:place], *join.children[place + 1 :])
            yield self.made(
                f"{join.id}:without-{local_name(child)}",
                "join",
                f"{join.id} without {local_name(child)}",
                iri,
                other(children=kept),
                equivalent=f"{local_name(child)} stands in it twice" if child in kept else "",
                prepares=False,
            )

    def criterion(self, rule: Criterion) -> Iterator[Mutant]:
        if rule.kind in ("inclusion", "exclusion"):
            turned = "exclusion" if rule.kind == "inclusion" else "inclusion"
            yield self.made(
                f"{rule.id}:{turned}",
                "polarity",
                f"{rule.id} an answer to an {rule.kind} -> to an {turned}",
                rule.iri,
                _with_criterion(replace(rule, kind=turned)),
            )
        if rule.modality in _BINDS and self.part.course is not None and rule.compares is None:
            other = _BINDS[rule.modality]
            yield self.made(
                f"{rule.id}:{other}",
                "polarity",
                f"{rule.id} modality {rule.modality} -> {other}",
                rule.iri,
                _with_criterion(replace(rule, modality=other)),
                prepares=False,
            )
        tells_open = rule.modality in UNKEPT and UNKEPT[rule.modality][1]
        for place, window in enumerate(rule.due):
            kept = (*rule.due[:place], *rule.due[place + 1 :])
            yield self.made(
                f"{rule.id}:due-without-{local_name(window)}",
                "window",
                f"{rule.id} due after {local_name(window)} -> not after that",
                rule.iri,
                _with_criterion(replace(rule, due=kept)),
                equivalent="" if tells_open else "what is open is not told of such a rule",
                prepares=False,
            )


def parents(term: str, terms: Terminology) -> list[str]:
    """Return the terms just above ``term``."""
    above = terms.up(term) - {term}
    return sorted(a for a in above if not any(a in terms.up(b) - {b} for b in above))


def _either_way(gap: tuple[int, int]) -> tuple[int, int] | None:
    """Return the span of minutes between two facts, whichever is called the first; None if that is
    not one span about 0."""
    if gap[0] > 0 or gap[1] < 0:
        return None
    most = max(-gap[0], gap[1])
    return -most, most


def _with_clause(clause: Clause) -> Change:
    return lambda part: replace(part, clauses={**part.clauses, clause.iri: clause})


def _with_criterion(criterion: Criterion) -> Change:
    def change(part: Trial) -> Trial:
        rules = tuple(criterion if c.iri == criterion.iri else c for c in part.criteria)
        return replace(part, criteria=rules)

    return change
