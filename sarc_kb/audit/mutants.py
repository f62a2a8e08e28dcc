"""Mutants of a compiled trial: one thing about a rule changed at a time.

Nothing here knows what a trial is about: what there is to change comes from the compiled rules, and
how far a limit moves from the step in which the ontology says that results are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal

from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import (
    ANY,
    EVER,
    Bounds,
    Clause,
    ConceptSet,
    Criterion,
    Derivation,
    Qualifier,
    Role,
    Selection,
    Trial,
    Window,
)
from sarc_kb.terminology import Quantity, Terminology
from sarc_kb.treatment import UNKEPT

KINDS = {
    "threshold": "limits of numbers and of the levels of a ladder",
    "comparator": "whether a limit itself is inside",
    "unit": "limits read in another accepted unit",
    "window": "spans of days, months and minutes, and what they count from",
    "concept": "sets, their members and what they leave out",
    "qualifier": "attributes that a fact must have",
    "component": "what is asked of the facts: the latest, some, none, pairs",
    "silence": "what makes silence an answer",
    "join": "and, or, and what they join",
    "polarity": "answers that clear, what is denied, how a rule binds",
    "anchor": "how a date of the patient is found",
    "derivation": "what follows from what is recorded",
}
"""The kinds of mutants, in the order in which they are told."""

Change = Callable[[Trial], Trial]
"""One part of a trial in, the same part changed out."""

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
_YES, _NO = str(SARC.Yes), str(SARC.No)
_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A trial in which one thing is different.

    ``of``: the clause, join, rule or named thing that it belongs to. ``parts``: the parts of the
    trial, by number, that it changes. ``concepts``: terms that a record which tells it apart is
    likely to name. ``limits``: whether only limits of one clause change. ``equivalent``: why
    nothing could tell it apart; empty if something could. ``prepares``: whether preparing a patient
    looks at it; None: if it looks at the named thing ``of``.
    """

    id: str
    kind: str
    words: str
    of: str
    parts: tuple[int, ...]
    change: Change
    concepts: frozenset[str] = frozenset()
    limits: bool = False
    equivalent: str = ""
    prepares: bool | None = True


def mutants_of(trial: Trial, terms: Terminology) -> list[Mutant]:
    """Return every mutant of ``trial``, in an order that depends on the rules alone."""
    found: list[Mutant] = []
    for number, part in enumerate(trial.parts):
        own = _Own(part, (number,), terms)
        for clause in part.clauses.values():
            found += own.clause(clause)
        for join in part.joins.values():
            found += own.join(join.iri)
        for criterion in part.criteria:
            found += own.criterion(criterion)
    # Named things stand in every part: they are changed in all of them.
    shared = _Own(trial, tuple(range(len(trial.parts))), terms)
    for concepts in trial.sets.values():
        found += shared.concept_set(concepts)
    for qualifier in trial.qualifiers.values():
        found += shared.qualifier(qualifier)
    for window in trial.windows.values():
        found += shared.window(window)
    for iri in trial.anchors:
        found += shared.anchor(iri)
    for position, derivation in enumerate(trial.derivations):
        found += shared.derivation(position, derivation)
    for part_number, part in enumerate(trial.parts):
        found += _Own(part, (part_number,), terms).questions()
        found += _Own(part, (part_number,), terms).ladders()
    taken: dict[str, int] = {}
    return [replace(m, id=_once(m.id, taken)) for m in found]


def _once(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}.{taken[name]}"


def step_of(role: Role, bound: Decimal, part: Trial, terms: Terminology) -> Decimal:
    """Return the step in which results of what ``role`` selects are reported."""
    quantity = quantity_of(role, part, terms)
    if quantity is not None and quantity.step is not None:
        return quantity.step
    if quantity is not None and quantity.whole:
        return Decimal(1)
    if bound == bound.to_integral_value():
        return Decimal(1)
    exponent = bound.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal(1).scaleb(exponent)


def quantity_of(role: Role, part: Trial, terms: Terminology) -> Quantity | None:
    """Return how numbers of what ``role`` selects are read, None where nobody says."""
    for member in sorted(part.set_of(role.concept_set).members):
        quantity = terms.quantity_of(member)
        if quantity is not None:
            return quantity
    return None


def parents(term: str, terms: Terminology) -> list[str]:
    """Return the terms just above ``term``."""
    above = terms.up(term) - {term}
    return sorted(a for a in above if not any(a in terms.up(b) - {b} for b in above))


def _plain(number: Decimal) -> str:
    return f"{number:f}"


def _either_way(gap: tuple[int, int]) -> tuple[int, int] | None:
    """Return the span of minutes between two facts, whichever is called the first; None if that is
    not one span about 0."""
    if gap[0] > 0 or gap[1] < 0:
        return None
    most = max(-gap[0], gap[1])
    return -most, most


# -- changes ---------------------------------------------------------------------------------------
def _with_clause(clause: Clause) -> Change:
    return lambda part: replace(part, clauses={**part.clauses, clause.iri: clause})


def _with_set(concepts: ConceptSet) -> Change:
    return lambda part: replace(part, sets={**part.sets, concepts.iri: concepts})


def _with_qualifier(qualifier: Qualifier) -> Change:
    return lambda part: replace(part, qualifiers={**part.qualifiers, qualifier.iri: qualifier})


def _with_window(window: Window) -> Change:
    return lambda part: replace(part, windows={**part.windows, window.iri: window})


def _with_anchor(iri: str, attempts: tuple[Selection, ...]) -> Change:
    return lambda part: replace(part, anchors={**part.anchors, iri: attempts})


def _with_criterion(criterion: Criterion) -> Change:
    def change(part: Trial) -> Trial:
        rules = tuple(criterion if c.iri == criterion.iri else c for c in part.criteria)
        return replace(part, criteria=rules)

    return change


def _without(position: int, other: Derivation | None = None) -> Change:
    def change(part: Trial) -> Trial:
        kept = list(part.derivations)
        kept[position : position + 1] = [other] if other is not None else []
        return replace(part, derivations=tuple(kept))

    return change


@dataclass(frozen=True, slots=True)
class _Own:
    """What makes the mutants of one part, or of what several parts share."""

    part: Trial
    parts: tuple[int, ...]
    terms: Terminology

    def made(
        self,
        name: str,
        kind: str,
        words: str,
        of: str,
        change: Change,
        *,
        concepts: Iterable[str] = (),
        limits: bool = False,
        equivalent: str = "",
        prepares: bool | None = True,
    ) -> Mutant:
        return Mutant(
            name,
            kind,
            words,
            of,
            self.parts,
            change,
            frozenset(concepts),
            limits,
            equivalent,
            prepares and not limits,
        )

    # -- clauses -------------------------------------------------------------------------------
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
            roles = {name: replace(role, bounds=bounds)}
            return _with_clause(replace(clause, **roles))  # type: ignore[arg-type]

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
                    f"{clause.id}:{said}={_plain(moved)}",
                    "threshold",
                    f"{clause.id} {said} {_plain(bound)} -> {_plain(moved)}",
                    clause.iri,
                    other(replace(role.bounds, **{attribute: moved})),
                    limits=True,
                    equivalent=unread if moved < bound else "",
                )
            yield self.made(
                f"{clause.id}:{said}-dropped",
                "threshold",
                f"{clause.id} {said} {_plain(bound)} -> no limit",
                clause.iri,
                other(replace(role.bounds, **{attribute: None})),
                limits=True,
                equivalent=unread,
            )
            turned = _TURNED[attribute]
            yield self.made(
                f"{clause.id}:{said}-comparator",
                "comparator",
                f"{clause.id} {said} {_plain(bound)} -> {_BOUNDS[turned]} {_plain(bound)}",
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

        def other(**changed: str) -> Change:
            new = replace(clause, **{name: replace(role, **changed)})  # type: ignore[arg-type]
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

        def other(**changed: object) -> Change:
            new = replace(join, **changed)  # type: ignore[arg-type]
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

    # -- named things --------------------------------------------------------------------------
    def concept_set(self, concepts: ConceptSet) -> Iterator[Mutant]:
        name, terms = local_name(concepts.iri), self.terms
        inside = frozenset(t for m in concepts.members for t in terms.down(m))
        for member in sorted(concepts.members):
            rest = concepts.members - {member}
            above = sorted(terms.up(member) & rest)
            yield self.made(
                f"{name}:without-{local_name(member)}",
                "concept",
                f"{name} without {local_name(member)}",
                concepts.iri,
                _with_set(replace(concepts, members=rest)),
                concepts=terms.down(member),
                equivalent=f"{local_name(above[0])} of the set holds it" if above else "",
                prepares=None,
            )
        for excluded in sorted(concepts.excluding):
            rest = concepts.excluding - {excluded}
            above = sorted(terms.up(excluded) & rest)
            reason = f"{local_name(above[0])}, left out too, holds it" if above else ""
            if not terms.down(excluded) & inside:
                reason = "nothing below it is below a member"
            yield self.made(
                f"{name}:with-{local_name(excluded)}",
                "concept",
                f"{name} with {local_name(excluded)}, which it leaves out",
                concepts.iri,
                _with_set(replace(concepts, excluding=rest)),
                concepts=terms.down(excluded),
                equivalent=reason,
                prepares=None,
            )
        if concepts.excluding:
            yield self.made(
                f"{name}:byName",
                "concept",
                f"{name} byName {str(concepts.by_name).lower()} -> "
                f"{str(not concepts.by_name).lower()}",
                concepts.iri,
                _with_set(replace(concepts, by_name=not concepts.by_name)),
                concepts={a for e in concepts.excluding for a in terms.up(e) - {e}} & inside,
                prepares=None,
            )
        if concepts.kind is not None:
            yield self.made(
                f"{name}:factKind",
                "concept",
                f"{name} of the kind {local_name(concepts.kind)} -> as it is usually recorded",
                concepts.iri,
                _with_set(replace(concepts, kind=None)),
                prepares=None,
            )

    def qualifier(self, qualifier: Qualifier) -> Iterator[Mutant]:
        name = local_name(qualifier.iri)
        for place, required in enumerate(qualifier.requires):
            rest = (*qualifier.requires[:place], *qualifier.requires[place + 1 :])
            turned = replace(required, among=required.not_among, not_among=required.among)
            wanted = local_name(required.among or required.not_among or "")
            axis = local_name(required.axis)
            among = "among" if required.among is not None else "not among"
            yield self.made(
                f"{name}:without-{axis}-{wanted}",
                "qualifier",
                f"{name} {axis} {among} {wanted} -> whatever it is",
                qualifier.iri,
                _with_qualifier(replace(qualifier, requires=rest)),
                prepares=None,
            )
            yield self.made(
                f"{name}:not-{axis}-{wanted}",
                "qualifier",
                f"{name} {axis} {among} {wanted} -> the opposite",
                qualifier.iri,
                _with_qualifier(
                    replace(
                        qualifier,
                        requires=(
                            *qualifier.requires[:place],
                            turned,
                            *qualifier.requires[place + 1 :],
                        ),
                    )
                ),
                prepares=None,
            )

    def window(self, window: Window) -> Iterator[Mutant]:
        name = local_name(window.iri)
        start_unread = "" if self.reads_start(window) else "only its end is read"
        end_unread = "" if self.reads_end(window) else "only its start is read"

        def made(words: str, changed: Mapping[str, object], equivalent: str = "") -> Mutant:
            new = replace(window, **changed)  # type: ignore[arg-type]
            mark = words.replace(" -> ", "=").replace(" ", "-")
            return self.made(
                f"{name}:{mark}",
                "window",
                f"{name} {words}",
                window.iri,
                _with_window(new),
                equivalent=equivalent,
                prepares=None,
            )

        for field, back in (("days", "days back"), ("months", "months back")):
            number = getattr(window, field)
            if number is not None and window.starts_after is None:
                for moved in (number + 1, number - 1):
                    yield made(f"start {number} -> {moved} {back}", {field: moved}, start_unread)
        if window.ends_before is None and not window.open_end:
            field, unit = "ends_days_before", "days"
            if window.ends_months_before and not window.ends_days_before:
                field, unit = "ends_months_before", "months"
            number = getattr(window, field)
            for moved in (number + 1, number - 1):
                yield made(f"end {number} -> {moved} {unit} back", {field: moved}, end_unread)
        if window.ends_before is not None:
            yield made(
                f"ends before {local_name(window.ends_before)} -> at its anchor",
                {"ends_before": None},
                end_unread,
            )
        if window.starts_after is not None:
            yield made(
                f"starts after {local_name(window.starts_after)} -> open start",
                {"starts_after": None},
                start_unread,
            )
        if window.end_anchor is not None:
            yield made(
                f"end anchor {local_name(window.end_anchor)} -> {local_name(window.anchor)}",
                {"end_anchor": None},
                end_unread,
            )
        yield made(
            f"open end {str(window.open_end).lower()} -> {str(not window.open_end).lower()}",
            {"open_end": not window.open_end},
            end_unread,
        )
        looks = "start alone", "whole extent"
        alike = ""
        if window.iri not in self.looked_in:
            alike = "no fact is looked for in it"
        elif window.calendar is None and self.no_start(window):
            alike = "it is open to the past: what reaches into it begins in it"
        yield made(
            " -> ".join(looks if window.start_only else reversed(looks)),
            {"start_only": not window.start_only},
            alike,
        )
        unread = ""
        starts = window.starts_after is None and (
            window.days is not None or window.months is not None
        )
        ends = not window.open_end and window.ends_before is None and window.end_anchor is None
        if not starts and not ends and window.calendar is None:
            unread = "neither of its ends counts from its anchor"
        other = self._other_anchor(window.anchor)
        yield made(
            f"anchor {local_name(window.anchor)} -> {local_name(other)}", {"anchor": other}, unread
        )
        if window.calendar is not None:
            for field in ("period", "first", "last"):
                number = getattr(window.calendar, field)
                for moved in (number - 1, number + 1):
                    calendar = replace(window.calendar, **{field: moved})
                    same = all(
                        calendar.holds(d, 0) == window.calendar.holds(d, 0)
                        for d in range(calendar.period * window.calendar.period)
                    )
                    yield made(
                        f"{field} day of the calendar {number} -> {moved}",
                        {"calendar": calendar},
                        "it holds the same days" if same else "",
                    )

    @staticmethod
    def no_start(window: Window) -> bool:
        return window.days is None and window.months is None and window.starts_after is None

    def reads_start(self, window: Window) -> bool:
        """Whether anything depends on when ``window`` starts."""
        others = self.part.windows.values()
        return window.iri in self.looked_in or any(w.ends_before == window.iri for w in others)

    def reads_end(self, window: Window) -> bool:
        """Whether anything depends on when ``window`` ends."""
        others = self.part.windows.values()
        due = {
            w
            for part in (self.part, self.part.treatment)
            if part is not None
            for rule in part.criteria
            for w in rule.due
        }
        return window.iri in self.looked_in | due or any(
            w.starts_after == window.iri for w in others
        )

    @property
    def looked_in(self) -> set[str | None]:
        """The windows in which some fact is looked for; others only say when something ends."""
        found: set[str | None] = {series.window for series in self.part.series}
        found |= {d.window for d in self.part.derivations}
        found |= {d.during for d in self.part.derivations}
        found |= {a.window for attempts in self.part.anchors.values() for a in attempts}
        for part in (self.part, self.part.treatment):
            if part is not None:
                found |= {c.role.window for c in part.clauses.values() if c.role is not None}
                found |= {part.course.window} if part.course is not None else set()
        return found

    def _other_anchor(self, anchor: str) -> str:
        if anchor != _ENTRY:
            return _ENTRY
        # One that entry does not stand in for, so that it is another day in every record.
        anchors = self.part.anchors
        given = {_ENTRY, _AS_OF}
        while True:
            more = {
                iri
                for iri, attempts in anchors.items()
                if any(given & set(attempt.targets) for attempt in attempts)
            }
            if more <= given:
                break
            given |= more
        own = {iri for iri, attempts in anchors.items() if attempts} - given
        others = sorted({w.anchor for w in self.part.windows.values()} & own) or sorted(own)
        return others[0] if others else _AS_OF

    def anchor(self, iri: str) -> Iterator[Mutant]:
        name, attempts = local_name(iri), self.part.anchors[iri]
        for place, attempt in enumerate(attempts):

            def other(*changed: Selection, at: int = place) -> Change:
                return _with_anchor(iri, (*attempts[:at], *changed, *attempts[at + 1 :]))

            number = place + 1
            yield self.made(
                f"{name}:without-attempt-{number}",
                "anchor",
                f"{name} without its attempt {number}",
                iri,
                other(),
            )
            turned = {"earliestOf": "latestOf", "latestOf": "earliestOf"}.get(attempt.pick)
            if turned:
                yield self.made(
                    f"{name}:attempt-{number}-{turned}",
                    "anchor",
                    f"{name} attempt {number} {attempt.pick} -> {turned}",
                    iri,
                    other(replace(attempt, pick=turned)),
                )
            if len(attempt.targets) > 1:
                for target in attempt.targets:
                    rest = tuple(t for t in attempt.targets if t != target)
                    yield self.made(
                        f"{name}:attempt-{number}-without-{local_name(target)}",
                        "anchor",
                        f"{name} attempt {number} without {local_name(target)}",
                        iri,
                        other(replace(attempt, targets=rest)),
                        concepts=self.terms.down(target),
                    )
            for words, changed in (
                ("accepted", {"accepted": ANY} if attempt.accepted != ANY else {}),
                ("qualifier", {"qualifier": ANY} if attempt.qualifier != ANY else {}),
                ("window", {"window": EVER} if attempt.window != EVER else {}),
                ("before", {"before": None} if attempt.before is not None else {}),
                ("endOfDay", {"end_of_day": False} if attempt.end_of_day else {}),
                ("unless", {"unless": ()} if attempt.unless else {}),
            ):
                if changed:
                    yield self.made(
                        f"{name}:attempt-{number}-any-{words}",
                        "anchor",
                        f"{name} attempt {number} whatever its {words}",
                        iri,
                        other(replace(attempt, **changed)),
                    )

    def derivation(self, position: int, rule: Derivation) -> Iterator[Mutant]:
        name = local_name(rule.iri)
        concepts = {t for n in (rule.source, rule.gives) if n for t in self._terms(n)}
        yield self.made(
            f"{name}:dropped",
            "derivation",
            f"{name} dropped",
            rule.iri,
            _without(position),
            concepts=concepts,
        )
        for words, changed in (
            ("accepted", {"accepted": ANY} if rule.accepted != ANY else {}),
            ("qualifier", {"qualifier": ANY} if rule.qualifier != ANY else {}),
            ("unless", {"unless": ()} if rule.unless else {}),
            ("asDefault", {"as_default": False} if rule.as_default else {}),
            ("asSuspected", {"as_suspected": False} if rule.as_suspected else {}),
        ):
            if changed:
                yield self.made(
                    f"{name}:without-{words}",
                    "derivation",
                    f"{name} without its {words}",
                    rule.iri,
                    _without(position, replace(rule, **changed)),
                    concepts=concepts,
                )
        if rule.holds_for:
            for moved in (rule.holds_for - 1, rule.holds_for + 1):
                yield self.made(
                    f"{name}:holdsFor={moved}",
                    "window",
                    f"{name} holds for {rule.holds_for} -> {moved} days",
                    rule.iri,
                    _without(position, replace(rule, holds_for=moved)),
                    concepts=concepts,
                )

    def _terms(self, name: str) -> frozenset[str]:
        """Return every term of a set, or below a term."""
        members = self.part.sets[name].members if name in self.part.sets else (name,)
        return frozenset(t for m in members for t in self.terms.down(m))

    # -- answers and ladders -------------------------------------------------------------------
    def questions(self) -> Iterator[Mutant]:
        for place, question in enumerate(self.part.questions):
            name = local_name(question.iri)

            def other(at: int = place, **changed: object) -> Change:
                new = replace(self.part.questions[at], **changed)  # type: ignore[arg-type]
                return lambda part: replace(
                    part, questions=(*part.questions[:at], new, *part.questions[at + 1 :])
                )

            turned = _NO if question.clearing == _YES else _YES
            yield self.made(
                f"{name}:{local_name(turned)}",
                "polarity",
                f"{name} clearing answer {local_name(question.clearing)} -> {local_name(turned)}",
                question.iri,
                other(clearing=turned),
                concepts=(question.iri,),
            )
            for clause in question.covers:
                rest = tuple(c for c in question.covers if c != clause)
                yield self.made(
                    f"{name}:without-{local_name(clause)}",
                    "polarity",
                    f"{name} no longer covers {local_name(clause)}",
                    question.iri,
                    other(covers=rest),
                    concepts=(question.iri,),
                )
            if question.asked_of is not None:
                yield self.made(
                    f"{name}:of-all",
                    "polarity",
                    f"{name} asked of {local_name(question.asked_of)} -> of everybody",
                    question.iri,
                    other(asked_of=None),
                    concepts=(question.iri,),
                )

    def ladders(self) -> Iterator[Mutant]:
        for place, series in enumerate(self.part.series):
            for at, level in enumerate(series.levels):
                step = Decimal(1)
                for field in ("least", "most"):
                    bound: Decimal = getattr(level, field)
                    for moved in (bound - step, bound + step):
                        new = replace(level, **{field: moved})  # type: ignore[arg-type]
                        levels = (*series.levels[:at], new, *series.levels[at + 1 :])
                        changed = replace(series, levels=levels)
                        name = local_name(level.iri)
                        yield self.made(
                            f"{name}:{field}={_plain(moved)}",
                            "threshold",
                            f"{name} {field} {_plain(bound)} -> {_plain(moved)}",
                            series.iri,
                            lambda part, at=place, new=changed: replace(  # type: ignore[misc]
                                part, series=(*part.series[:at], new, *part.series[at + 1 :])
                            ),
                        )
