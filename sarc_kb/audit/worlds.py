"""Complete records of a patient as formulas: what the solver of `sarc_kb.audit.logic` reasons about.

A world has a few facts of every kind that the clauses read. Each fact may be there or not; its
concept, coded value and attributes are one of the *cells* that the sets of the rules cut the
terminology into, its number, day and minute are variables. Everything is certain, and every scope
is stated to be complete. Anchors, windows, what is implied and the outcome of each clause follow as
formulas, by the meaning of ``docs/rule-language.md``; `sarc_kb.audit.witness` writes a world as a
record and lets both engines judge it, so that an error here is seen.

Left out: arithmetic on measurements (a multiple or a distance is a fact of its own), codes more
general than a set, doubtful and inexact facts, and answers of people to what the record can decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, cached_property, partial
from itertools import pairwise

import z3

from sarc_kb.audit.formulas import (
    AGES,
    AHEAD,
    FALSE,
    LONG,
    TRUE,
    Choice,
    Day,
    Days,
    Degree,
    Formula,
    Thing,
    all_of,
    any_of,
    both,
    further,
    gap_degree,
    lesser,
    months_back,
    negated,
    nowhere,
    or_else,
    years_at_entry,
)
from sarc_kb.dates import DAY
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import ANY, EVER, Bounds, Clause, Role, Trial
from sarc_kb.rules.model import Derivation, Selection
from sarc_kb.terminology import Terminology

LASTING = 1000
"""The end of what has not ended."""
_BEFORE_ALL, _AFTER_ALL = -1_000_000, 1_000_000
_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)
_PLAN = str(SARC.Plan)
_ELSEWHERE = "https://example.org/elsewhere/"


@dataclass
class Family:
    """Concepts that some sets of the rules have in common, and the facts of them."""

    number: int
    kind: str | None
    sets: list[str]
    cells: tuple[str, ...]
    alike: Mapping[str, tuple[str, ...]]
    slots: list[Thing] = field(default_factory=list)


class Worlds:
    """The complete records of one trial, and what each clause and criterion comes to in them."""

    def __init__(self, trial: Trial, terms: Terminology) -> None:
        self.trial, self.terms = trial, terms
        self.left_out: dict[str, str] = {}
        self.constraints: dict[int, list[Formula]] = {}
        self._anchors: dict[str, Day] = {}
        self._windows: dict[str, Days] = {}
        self._resolving: set[str] = set()
        self._degrees: dict[tuple[str, str], int] = {}
        self._gather()
        self.families = list(self._families())
        self.things: list[Thing] = []
        for family in self.families:
            self._fill(family)
            self.things += family.slots
        self._imply(windowed=False)
        for derivation in self._implications:
            if derivation.window:
                self.window(derivation.window)
        for name in self._used_windows:
            self.window(name)
        self._imply(windowed=True)
        self._intervals()
        self.passes: dict[str, Formula] = {}
        self.fails: dict[str, Formula] = {}
        for clause in trial.clauses.values():
            self.passes[clause.iri], self.fails[clause.iri] = self._clause(clause)
        for iri in trial.joins:
            self._fold(iri)

    # -- what there is to record -----------------------------------------------------------------
    def degree(self, term: str, iri: str) -> int:
        """Return the degree of ``term`` in the set ``iri``, remembered."""
        key = (term, iri)
        if key not in self._degrees:
            self._degrees[key] = self.trial.set_of(iri).degree_of_term(term, self.terms)
        return self._degrees[key]

    def _degree_in(self, iri: str, term: str) -> int:
        return self.degree(term, iri)

    def _degree_out(self, iri: str, term: str) -> int:
        return 2 - self.degree(term, iri)

    def _gather(self) -> None:
        """Find the sets that something reads: clauses, anchors of their windows, derivations."""
        self._sets: dict[str, None] = {}
        self._used_windows: dict[str, None] = {}
        self._used_anchors: dict[str, None] = {}
        self._used_axes: dict[str, dict[str, set[str]]] = {}
        self._accepts: dict[str, set[str]] = {}
        self._soft_axes: dict[str, set[str]] = {}
        self._bounds: dict[str, list[Bounds]] = {}
        self._timed_anchors: set[str] = set()
        self._implications: list[Derivation] = []
        self._interval_rules: list[Derivation] = []
        self._settlings: dict[str, list[Derivation]] = {}
        self._pairs: set[str] = set()
        for clause in self.trial.clauses.values():
            for role in roles_of(clause):
                self._read(role.concept_set, role.accepted, role.qualifier, role.window)
                self._bounds.setdefault(role.concept_set, []).append(role.bounds)
                if clause.gap is not None:
                    self._pairs.add(role.concept_set)
            scope = clause.settled_by
            if scope and not self.terms.known(scope) and scope not in self._settlings:
                rules = [
                    d for d in self.trial.derivations if d.kind == "Settling" and scope in d.settles
                ]
                self._settlings[scope] = rules
                for rule in rules:
                    self._read(rule.source, rule.accepted, rule.qualifier, rule.window or EVER)
        for iri in list(self._sets):
            if not self._recordable(iri):
                self._sets.pop(iri)
                self._route(iri)
        more = True
        while more:
            rules = [r for r in self._relevant() if r not in self._implications]
            reached = self._concepts()
            more = False
            for rule in rules:
                if reached & self._closure(rule.source):
                    self._add_implication(rule)
                    more = True

    def _relevant(self) -> list[Derivation]:
        """Return the implications that end in something which is read, over however many steps."""
        wanted = {*self._read_sets(), *self._targets()}
        rules = [d for d in self.trial.derivations if d.kind == "Implication" and d.gives]
        found: list[Derivation] = []
        more = True
        while more:
            more = False
            for rule in rules:
                if rule not in found and any(self.degree(rule.gives or "", s) for s in wanted):
                    found.append(rule)
                    wanted.add(rule.source)
                    more = True
        return found

    def _closure(self, iri: str) -> set[str]:
        return {t for m in self.trial.set_of(iri).members for t in self._down(m)}

    def _read_sets(self) -> set[str]:
        return {r.concept_set for c in self.trial.clauses.values() for r in roles_of(c)}

    def _concepts(self) -> set[str]:
        """Return what can be on record, or follow from it."""
        given = {d.gives for d in self._implications if d.gives}
        return given.union(*(self._closure(s) for s in self._sets))

    def _route(self, iri: str) -> None:
        """Add what leads to a set that no record holds: implications and intervals."""
        found = False
        for rule in self.trial.derivations:
            if rule.kind == "Implication" and rule.gives and self.degree(rule.gives, iri):
                self._add_implication(rule)
                found = True
            elif rule.kind == "Interval" and self.degree(rule.iri, iri):
                self._interval_rules.append(rule)
                timed = rule.measured_in == str(SARC.Minutes)
                for anchor in filter(None, (rule.from_anchor, rule.to_anchor)):
                    self._use_anchor(anchor, timed=timed)
                found = True
        if not found:
            self.left_out[iri] = "what it reads is worked out by arithmetic"

    def _add_implication(self, rule: Derivation) -> None:
        if rule in self._implications:
            return
        self._implications.append(rule)
        self._read(rule.source, rule.accepted, rule.qualifier, rule.window or EVER)
        for qualifier in rule.unless:
            self._qualify(rule.source, qualifier, soft=True)

    def _read(self, iri: str, accepted: str, qualifier: str, window: str) -> None:
        self._sets.setdefault(iri)
        if accepted != ANY:
            self._accepts.setdefault(iri, set()).add(accepted)
        self._qualify(iri, qualifier)
        if window != EVER:
            self._use_window(window)

    def _qualify(self, iri: str, qualifier: str, *, soft: bool = False) -> None:
        if qualifier == ANY:
            return
        for required in self.trial.qualifiers[qualifier].requires:
            axes = self._used_axes.setdefault(iri, {})
            for named in filter(None, (required.among, required.not_among)):
                axes.setdefault(required.axis, set()).add(named)
            if not soft:
                self._soft_axes.setdefault(iri, set()).add(required.axis)

    def _use_window(self, iri: str) -> None:
        if iri in self._used_windows or iri not in self.trial.windows:
            return
        self._used_windows.setdefault(iri)
        rule = self.trial.windows[iri]
        self._use_anchor(rule.anchor)
        if rule.end_anchor:
            self._use_anchor(rule.end_anchor)
        for other in filter(None, (rule.ends_before, rule.starts_after)):
            self._use_window(other)

    def _use_anchor(self, iri: str, *, timed: bool = False) -> None:
        if iri in (_ENTRY, _AS_OF):
            return
        if iri in self._used_anchors and (not timed or iri in self._timed_anchors):
            return
        self._used_anchors.setdefault(iri)
        if timed:
            self._timed_anchors.add(iri)
        for attempt in self.trial.anchors.get(iri, ()):
            for target in attempt.targets:
                if target in self.trial.anchors:
                    self._use_anchor(target, timed=timed)
                    continue
                self._sets.setdefault(target)
                if timed:
                    self._pairs.add(target)
                if attempt.accepted != ANY:
                    self._accepts.setdefault(target, set()).add(attempt.accepted)
                for qualifier in (attempt.qualifier, *attempt.unless):
                    self._qualify(target, qualifier, soft=True)
            if attempt.window != EVER:
                self._use_window(attempt.window)
            if attempt.before:
                self._use_anchor(attempt.before)

    def _down(self, term: str) -> frozenset[str]:
        return self.terms.down(term)

    def _recordable(self, iri: str) -> bool:
        wanted = self.trial.set_of(iri)
        return wanted.kind is not None or any(
            self.terms.kind_of(t) for m in wanted.members for t in self._down(m)
        )

    def _families(self) -> Iterator[Family]:
        """Yield the families: sets that share a concept are of one family."""
        groups: list[tuple[str | None, set[str], list[str]]] = []
        for iri in self._sets:
            wanted = self.trial.set_of(iri)
            concepts = {
                t
                for m in wanted.members
                for t in self._down(m)
                if wanted.kind is not None or self.terms.kind_of(t)
            }
            merged = (wanted.kind, concepts, [iri])
            for group in list(groups):
                if group[0] == wanted.kind and group[1] & merged[1]:
                    groups.remove(group)
                    merged = (wanted.kind, merged[1] | group[1], group[2] + merged[2])
            groups.append(merged)
        everything = sorted({*self._sets, *(a for s in self._accepts.values() for a in s)})
        for number, (kind, concepts, sets) in enumerate(groups):
            cells, alike = self._cells(concepts, [*everything, *sets])
            if cells:
                yield Family(number, kind, sets, cells, alike)

    def _cells(
        self, concepts: Iterable[str], sets: Iterable[str]
    ) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """Return a term for each way in which terms are in the sets for certain, the most general
        ones, and the terms that it stands for."""
        ways: dict[tuple[int, ...], list[str]] = {}
        names = sorted(set(sets))
        for term in sorted(concepts):
            way = tuple(self.degree(term, s) for s in names)
            if 1 not in way:
                ways.setdefault(way, []).append(term)
        found = {}
        for members in ways.values():
            inside = set(members)
            tops = [t for t in members if not (self.terms.up(t) - {t}) & inside]
            tops.sort(key=lambda t: (-len(self._down(t)), t))
            found[tops[0]] = tuple(tops)
        return tuple(sorted(found)), found

    def _values(self, sets: Iterable[str]) -> tuple[str, ...]:
        """Return the cells of what stands inside some sets, and beside them."""
        terms: set[str] = set()
        names = sorted(sets)
        for iri in names:
            for member in self.trial.set_of(iri).members:
                terms |= self._down(member)
                # Up to the first term that also has something beside the set.
                for above in sorted(
                    self.terms.up(member) - {member}, key=lambda a: (len(self._down(a)), a)
                ):
                    terms |= self._down(above)
                    if any(not self.degree(t, iri) for t in self._down(above)):
                        break
        cells, alike = self._cells(terms, names)
        for cell in cells:
            self.alike.setdefault(cell, alike[cell])
        return cells

    @cached_property
    def alike(self) -> dict[str, tuple[str, ...]]:
        """For each cell of concepts, coded values and attributes, the terms it stands for."""
        return {}

    def _fill(self, family: Family) -> None:
        for cell in family.cells:
            self.alike[cell] = family.alike[cell]
        accepts = {a for s in family.sets for a in self._accepts.get(s, ())}
        # What is implied with the concept as its value is judged by the sets for that value.
        values = self._values(accepts) if accepts else ()
        bounds = [b for s in family.sets for b in self._bounds.get(s, ()) if b.used]
        places = max((-int(x.as_tuple().exponent) for b in bounds for x in limits_of(b)), default=0)
        scale = 10 ** (max(places, 0) + 1)
        axes: dict[str, set[str]] = {}
        hard: set[str] = set()
        for iri in family.sets:
            for axis, named in self._used_axes.get(iri, {}).items():
                axes.setdefault(axis, set()).update(named)
            hard |= self._soft_axes.get(iri, set())
        chosen = {axis: self._axis_values(axis, named) for axis, named in sorted(axes.items())}
        pointed = self._targets()
        lasts = not values and not bounds and not any(s in pointed for s in family.sets)
        timed = any(s in self._pairs for s in family.sets)
        count = 1 if self._is_birth(family) else min(4, max(2, len(family.sets) + timed))
        for place in range(count):
            family.slots.append(
                self._slot(
                    family,
                    place,
                    values=values,
                    bounded=bool(bounds),
                    scale=scale,
                    axes={a: (v, a not in hard) for a, v in chosen.items()},
                    lasts=lasts,
                    timed=timed,
                )
            )

    def _targets(self) -> set[str]:
        return {
            t for a in self._used_anchors for s in self.trial.anchors.get(a, ()) for t in s.targets
        }

    def _is_birth(self, family: Family) -> bool:
        """Whether an anchor asks all facts of the family for one day."""
        return any(
            s.pick == "agreementOf" and set(s.targets) & set(family.sets)
            for a in self._used_anchors
            for s in self.trial.anchors.get(a, ())
        )

    def _axis_values(self, axis: str, named: Iterable[str]) -> tuple[str, ...]:
        if axis in self.terms.open_axes:
            members = sorted({m for n in named for m in self.trial.set_of(n).members})
            return (*members, _ELSEWHERE + local_name(axis))
        return self._values(named)

    def _slot(
        self,
        family: Family,
        place: int,
        *,
        values: tuple[str, ...],
        bounded: bool,
        scale: int,
        axes: Mapping[str, tuple[tuple[str, ...], bool]],
        lasts: bool,
        timed: bool,
    ) -> Thing:
        name = f"{local_name(family.sets[0])}-{place + 1}"
        rules: list[Formula] = []

        def choice(of: str, terms: tuple[str, ...], *, absent: bool = False) -> Choice:
            found = Choice(terms, z3.Int(f"{name}:{of}"), absent)
            rules.append(found.ranges())
            return found

        concept = choice("concept", family.cells)
        value = choice("value", values) if values else None
        attributes = {
            axis: choice(f"axis {local_name(axis)}", terms, absent=absent)
            for axis, (terms, absent) in axes.items()
            if terms
        }
        number = None
        if bounded:
            amount = z3.Int(f"{name}:number")
            number = (amount, amount)
            quantity = self.terms.quantity_of(family.cells[0])
            if quantity is not None:
                least, most = quantity.least, quantity.most
                rules.append(amount >= (0 if least is None else int(least * scale)))
                if most is not None:
                    rules.append(amount <= int(most * scale))
                if quantity.whole:
                    rules.append(amount % scale == 0)
        start = z3.Int(f"{name}:start")
        planned = family.kind is None and self.terms.kind_of(family.cells[0]) == _PLAN
        back = AGES * 365 if self._is_birth(family) else LONG
        rules += [start >= -back, start <= (AHEAD if planned else 0)]
        end = start
        if lasts:
            end = z3.Int(f"{name}:end")
            rules += [end >= start, z3.Or(end <= 0, end == LASTING)]
        minute = None
        first, last = start * DAY, start * DAY + DAY - 1
        if timed:
            minute = z3.Int(f"{name}:minute")
            rules += [minute >= 0, minute < DAY]
            first = last = start * DAY + minute
        self.constraints.setdefault(family.number, []).extend(rules)
        there = z3.Bool(f"{name}:there")
        return Thing(
            name,
            family.number,
            there,
            there,
            concept,
            family.kind is None,
            family.kind,
            value,
            number,
            scale,
            start,
            end,
            first,
            last,
            timed,
            attributes,
            minute=minute,
        )

    # -- degrees -----------------------------------------------------------------------------------
    def in_set(self, thing: Thing, iri: str) -> Degree:
        wanted = self.trial.set_of(iri)
        if (wanted.kind is None and not thing.natural) or (
            wanted.kind is not None and wanted.kind != thing.kind
        ):
            return FALSE, FALSE
        inside = thing.concept.degree(lambda term: self.degree(term, iri))
        return all_of(thing.there, inside[0]), all_of(thing.sure, inside[1])

    def accepted(self, thing: Thing, iri: str) -> Degree:
        if iri == ANY:
            return TRUE, TRUE
        if thing.value is None:
            return TRUE, FALSE
        return thing.value.degree(lambda term: self.degree(term, iri))

    def qualified(self, thing: Thing, iri: str) -> Degree:
        if iri == ANY:
            return TRUE, TRUE
        found: Degree = (TRUE, TRUE)
        for required in self.trial.qualifiers[iri].requires:
            choice = thing.axes.get(required.axis)
            if choice is None:
                found = both(found, (TRUE, FALSE))
                continue
            if required.among is not None:
                among = required.among
                found = both(found, choice.degree(partial(self._degree_in, among)))
            if required.not_among is not None:
                other = required.not_among
                found = both(found, choice.degree(partial(self._degree_out, other)))
        return found

    def within(self, thing: Thing, iri: str) -> Degree:
        if iri == EVER:
            return TRUE, TRUE
        days = self.window(iri)
        end = thing.start if self.trial.windows[iri].start_only else thing.end
        overlaps = all_of(
            TRUE if days.end is None else thing.start <= days.end,
            TRUE if days.start is None else end >= days.start,
        )
        return any_of((negated(days.known), overlaps)), all_of(days.known, overlaps)

    def inside(self, thing: Thing, bounds: Bounds) -> Degree:
        if not bounds.used:
            return TRUE, TRUE
        if thing.number is None:
            return TRUE, FALSE
        low, high = thing.number
        possible: list[Formula] = []
        certain: list[Formula] = []
        for bound, above, strict in (
            (bounds.at_least, True, False),
            (bounds.more_than, True, True),
            (bounds.at_most, False, False),
            (bounds.less_than, False, True),
        ):
            if bound is None:
                continue
            limit = z3.RealVal(str(bound * thing.scale))
            if bound * thing.scale == int(bound * thing.scale):
                limit = z3.IntVal(int(bound * thing.scale))
            for ends, reach in ((possible, (high, low)), (certain, (low, high))):
                number = reach[0] if above else reach[1]
                if above:
                    ends.append(number > limit if strict else number >= limit)
                else:
                    ends.append(number < limit if strict else number <= limit)
        return all_of(*possible), all_of(*certain)

    def selected(self, thing: Thing, role: Role) -> Degree:
        inside = self.in_set(thing, role.concept_set)
        if z3.is_false(inside[0]):
            return inside
        return both(inside, self.within(thing, role.window), self.qualified(thing, role.qualifier))

    def matches(self, thing: Thing, role: Role) -> Degree:
        return both(
            self.selected(thing, role),
            self.accepted(thing, role.accepted),
            self.inside(thing, role.bounds),
        )

    # -- anchors and windows -----------------------------------------------------------------------
    def anchor(self, iri: str) -> Day:
        """Return an anchor; see `sarc_kb.prepare.anchors`."""
        if iri in self._anchors:
            return self._anchors[iri]
        if iri in (_ENTRY, _AS_OF):
            zero = z3.IntVal(0)
            found = Day(TRUE, zero, zero, z3.IntVal(DAY - 1))
        elif iri in self._resolving:
            found = nowhere()
        else:
            self._resolving.add(iri)
            found = nowhere()
            for attempt in reversed(self.trial.anchors.get(iri, ())):
                found = or_else(self._attempt(attempt), found)
            self._resolving.discard(iri)
            found = self._named(iri, found)
        self._anchors[iri] = found
        return found

    def _named(self, iri: str, found: Day) -> Day:
        """Return an anchor as variables, so that formulas do not grow with every use."""
        name = local_name(iri)
        parts = (z3.Bool(f"{name}:found"), *(z3.Int(f"{name}:{p}") for p in ("day", "lo", "hi")))
        self.definitions += [
            (z3.BoolRef.__eq__(parts[0], found.found)),
            parts[1] == found.day,
            parts[2] == found.first,
            parts[3] == found.last,
        ]
        return Day(*parts)

    @cached_property
    def definitions(self) -> list[Formula]:
        """What the names of anchors stand for."""
        return []

    def _attempt(self, attempt: Selection) -> Day:
        if attempt.pick == "sameAs":
            other = self.anchor(attempt.targets[0])
            if not attempt.end_of_day:
                return other
            midnight = (other.day + 1) * DAY
            return Day(other.found, other.day, midnight, midnight)
        candidates: list[Day] = []
        for target in attempt.targets:
            if target in self.trial.anchors:
                candidates.append(self.anchor(target))
            else:
                candidates += [
                    self._candidate(thing, target, attempt)
                    for thing in self.things
                    if not z3.is_false(self.in_set(thing, target)[1])
                ]
        if attempt.pick == "agreementOf":
            for one, other in pairwise(candidates):
                self.definitions.append(
                    z3.Implies(all_of(one.found, other.found), one.day == other.day)
                )
        later = attempt.pick.startswith("latest")
        found = nowhere()
        for one in candidates:
            found = further(found, one, later=later)
        return found

    def _candidate(self, thing: Thing, target: str, attempt: Selection) -> Day:
        chosen = [
            self.in_set(thing, target)[1],
            self.accepted(thing, attempt.accepted)[1],
            self.qualified(thing, attempt.qualifier)[1],
            *(negated(self.qualified(thing, q)[1]) for q in attempt.unless),
            self.within(thing, attempt.window)[1],
        ]
        if attempt.before is not None:
            limit = self.anchor(attempt.before)
            chosen.append(negated(all_of(limit.found, thing.start > limit.day)))
        if attempt.pick == "latestEndOf":
            return Day(all_of(*chosen), thing.end, thing.end * DAY, thing.end * DAY + DAY - 1)
        return Day(all_of(*chosen), thing.start, thing.first, thing.last)

    def window(self, iri: str) -> Days:
        """Return a window; see `sarc_kb.prepare.anchors`."""
        if iri in self._windows:
            return self._windows[iri]
        rule = self.trial.windows[iri]
        anchor = self.anchor(rule.anchor)
        last = self.anchor(rule.end_anchor) if rule.end_anchor else anchor
        known = all_of(anchor.found, last.found)
        end: Formula | None = months_back(last.day, rule.ends_months_before) - rule.ends_days_before
        if rule.ends_before is not None:
            other = self.window(rule.ends_before)
            known = all_of(known, other.known)
            end = _BEFORE_ALL if other.start is None else other.start - 1
        if rule.open_end:
            end = None
        start: Formula | None = None
        if rule.starts_after is not None:
            other = self.window(rule.starts_after)
            known = all_of(known, other.known)
            start = _AFTER_ALL if other.end is None else other.end + 1
        elif rule.months is not None or rule.days is not None:
            start = months_back(anchor.day, rule.months or 0) - (rule.days or 0)
        self._windows[iri] = Days(known, start, end)
        return self._windows[iri]

    # -- what follows ------------------------------------------------------------------------------
    def _imply(self, *, windowed: bool) -> None:
        rules = [r for r in self._implications if (r.window is not None) == windowed]
        made: list[Thing] = list(self.things)
        for _ in range(3):
            new = [
                thing
                for rule in rules
                for source in made
                if rule.iri != source.derived_by
                and (thing := self._implied(source, rule)) is not None
            ]
            self.things += new
            made = new
            if not new:
                return

    def _implied(self, source: Thing, rule: Derivation) -> Thing | None:
        inside = self.in_set(source, rule.source)
        if z3.is_false(inside[0]) or rule.gives is None:
            return None
        value = None
        if rule.value is not None:
            value = Choice((rule.value,))
        elif rule.value_from_concept:
            value = source.concept
        elif rule.value_from_axis is not None:
            value = source.axes.get(rule.value_from_axis)
            if value is None and not rule.even_if_silent:
                return None
        degree = both(
            inside,
            self.accepted(source, rule.accepted),
            self.qualified(source, rule.qualifier),
            self.within(source, rule.window or EVER),
        )
        unless = [negated(self.qualified(source, q)[1]) for q in rule.unless]
        low, high = source.first, source.last
        start, end = source.start, source.end
        if rule.as_default:
            start, end = z3.IntVal(_BEFORE_ALL), z3.IntVal(_AFTER_ALL)
            low = high = z3.IntVal(_BEFORE_ALL * DAY - 1)
        name = f"{local_name(rule.iri)} of {source.name}"
        there, sure = z3.Bool(f"{name}:there"), z3.Bool(f"{name}:sure")
        self.definitions += [
            there == all_of(degree[0], *unless),
            sure == (FALSE if rule.as_suspected else all_of(degree[1], *unless)),
        ]
        return Thing(
            name,
            source.family,
            there,
            sure,
            Choice((rule.gives,)),
            True,
            self.terms.kind_of(rule.gives),
            value,
            source.number if rule.keeps_value else None,
            source.scale,
            start,
            end,
            low,
            high,
            source.timed,
            source.axes,
            rule.iri,
        )

    def _intervals(self) -> None:
        for rule in self._interval_rules:
            if rule.from_anchor is None or rule.to_anchor is None:
                continue
            one, other = self.anchor(rule.from_anchor), self.anchor(rule.to_anchor)
            scale = 10**6
            if rule.measured_in == str(SARC.CompletedYears):
                low = high = years_at_entry(one.day)
            elif rule.measured_in == str(SARC.Minutes):
                low, high = other.first - one.last, other.last - one.first
            else:
                low = high = other.day - one.day
            found = z3.Bool(f"{local_name(rule.iri)}:there")
            self.definitions.append(found == all_of(one.found, other.found))
            self.things.append(
                Thing(
                    local_name(rule.iri),
                    -1,
                    found,
                    found,
                    Choice((rule.iri,)),
                    True,
                    None,
                    None,
                    (low * scale, high * scale),
                    scale,
                    other.day,
                    other.day,
                    other.first,
                    other.last,
                    True,
                    {},
                    rule.iri,
                )
            )

    # -- outcomes ----------------------------------------------------------------------------------
    def _clause(self, clause: Clause) -> tuple[Formula, Formula]:
        passed, failed = z3.Bool(f"{clause.id}:passes"), z3.Bool(f"{clause.id}:fails")
        if clause.component == "attested" or self._unmodelled(clause):
            self.definitions.append(z3.Not(z3.And(passed, failed)))
            return passed, failed
        good, bad = getattr(self, "_" + _SNAKE[clause.component])(clause)
        self.definitions += [passed == good, failed == bad]
        return passed, failed

    def _unmodelled(self, clause: Clause) -> bool:
        for role in roles_of(clause):
            window = self.trial.windows.get(role.window)
            if role.concept_set in self.left_out:
                self.left_out[clause.iri] = self.left_out[role.concept_set]
                return True
            if window is not None and window.calendar is not None:
                self.left_out[clause.iri] = "its window is a calendar"
                return True
        return False

    def _latest(self, clause: Clause) -> tuple[Formula, Formula]:
        role = clause.role
        assert role is not None
        read = []
        for thing in self.things:
            maybe, sure = self.selected(thing, role)
            if z3.is_false(maybe):
                continue
            may, fits = both(self.accepted(thing, role.accepted), self.inside(thing, role.bounds))
            read.append((thing, maybe, sure, may, fits))

        def reaches(thing: Thing) -> Formula:
            """Nothing certain is later."""
            return all_of(*(any_of((negated(s), thing.last >= t.first)) for t, _, s, _, _ in read))

        newest = any_of(s for _, _, s, _, _ in read)
        good = negated(any_of(all_of(m, negated(fits), reaches(t)) for t, m, _, _, fits in read))
        bad = negated(any_of(all_of(m, may, reaches(t)) for t, m, _, may, _ in read))
        return all_of(newest, good), all_of(newest, bad)

    def _some(self, clause: Clause) -> tuple[Formula, Formula]:
        maybe, sure = self._any(clause.role)
        return sure, all_of(self._settled(clause), negated(maybe))

    def _none(self, clause: Clause) -> tuple[Formula, Formula]:
        maybe, sure = self._any(clause.role)
        return all_of(self._settled(clause), negated(maybe)), sure

    def _any(self, role: Role | None) -> Degree:
        assert role is not None
        found = [self.matches(thing, role) for thing in self.things]
        return any_of(m for m, _ in found), any_of(s for _, s in found)

    def _graded(self, role: Role | None) -> list[tuple[Thing, Formula, Formula]]:
        assert role is not None
        graded = [(thing, *self.matches(thing, role)) for thing in self.things]
        return [g for g in graded if not z3.is_false(g[1])]

    def _no_pair(self, clause: Clause) -> tuple[Formula, Formula]:
        maybe, sure = [], []
        for one, may, fits in self._graded(clause.role):
            for other, may_too, fits_too in self._graded(clause.second):
                near = gap_degree(one, other, clause)
                maybe.append(all_of(may, may_too, near[0]))
                sure.append(all_of(fits, fits_too, near[1]))
        return all_of(self._settled(clause), negated(any_of(maybe))), any_of(sure)

    def _each_has(self, clause: Clause) -> tuple[Formula, Formula]:
        first, second = self._graded(clause.role), self._graded(clause.second)
        lonely, open_ = [], []
        for one, may, fits in first:
            near = [(gap_degree(one, other, clause), m, s) for other, m, s in second]
            lonely.append(all_of(fits, negated(any_of(all_of(m, gap[0]) for gap, m, _ in near))))
            open_.append(all_of(may, negated(any_of(all_of(s, gap[1]) for gap, _, s in near))))
        settled = self._settled(clause)
        return all_of(settled, negated(any_of(open_))), all_of(settled, any_of(lonely))

    def _settled(self, clause: Clause) -> Formula:
        """Whether silence is an answer: what can be stated is; the rest takes a fact."""
        assert clause.role is not None
        days = Days(TRUE, None, z3.IntVal(0))
        if clause.role.window != EVER:
            days = self.window(clause.role.window)
        scope = clause.settled_by
        if scope is None or scope not in self._settlings:
            return days.known if scope else FALSE
        found = []
        for rule in self._settlings[scope]:
            for thing in self.things:
                sure = all_of(
                    self.in_set(thing, rule.source)[1],
                    self.accepted(thing, rule.accepted)[1],
                    self.qualified(thing, rule.qualifier)[1],
                    self.within(thing, rule.window or EVER)[1],
                )
                until = lesser(thing.start + rule.holds_for, z3.IntVal(0))
                reach = TRUE if days.end is None else until >= days.end
                found.append(all_of(sure, reach))
        return all_of(days.known, any_of(found))

    def _fold(self, iri: str) -> tuple[Formula, Formula]:
        """Return when a join or clause passes, and when it fails."""
        if iri in self.passes:
            return self.passes[iri], self.fails[iri]
        join = self.trial.joins[iri]
        parts = [self._fold(child) for child in join.children]
        passed = [p for p, _ in parts]
        failed = [f for _, f in parts]
        if join.operator == "and":
            found = all_of(*passed), any_of(failed)
        else:
            found = any_of(passed), all_of(*failed)
        self.passes[iri], self.fails[iri] = found
        return found

    # -- what a formula speaks of ------------------------------------------------------------------
    @cache  # noqa: B019 - one audit, one set of worlds
    def reads(self, iri: str) -> frozenset[int]:
        """Return the families that a clause or join depends on."""
        return frozenset(self._reach(self._fold(iri)))

    def _reach(self, formulas: Iterable[Formula]) -> set[int]:
        seen: set[int] = set()
        names: set[str] = set()
        stack = list(formulas)
        while stack:
            node = stack.pop()
            if node.get_id() in seen:
                continue
            seen.add(node.get_id())
            if z3.is_const(node) and node.decl().kind() == z3.Z3_OP_UNINTERPRETED:
                name = node.decl().name()
                if name in self._defined and name not in names:
                    stack += self._defined[name]
                names.add(name)
            stack += node.children()
        return {self._owner[n] for n in names if n in self._owner}

    @cached_property
    def _owner(self) -> dict[str, int]:
        return {s.there.decl().name(): f.number for f in self.families for s in f.slots}

    @cached_property
    def _defined(self) -> dict[str, list[Formula]]:
        """For each defined name, the formulas that define it."""
        found: dict[str, list[Formula]] = {}
        for rule in self.definitions:
            if z3.is_eq(rule) and z3.is_const(rule.arg(0)):
                found.setdefault(rule.arg(0).decl().name(), []).append(rule.arg(1))
        return found

    @cached_property
    def rules(self) -> tuple[Formula, ...]:
        """Everything that holds in every world."""
        return (*(c for found in self.constraints.values() for c in found), *self.definitions)

    def all_at_entry(self) -> tuple[Formula, ...]:
        """The supposition that every date which windows count from falls on entry."""
        used = {self.trial.windows[w].anchor for w in self._used_windows}
        days = [self._anchors[a] for a in sorted(used) if a in self._anchors]
        return tuple(z3.Implies(d.found, d.day == 0) for d in days)

    def each_once(self) -> tuple[Formula, ...]:
        """The supposition that nothing is on record twice."""
        return tuple(
            z3.AtMost(*(s.there for s in f.slots), 1) for f in self.families if len(f.slots) > 1
        )


def roles_of(clause: Clause) -> tuple[Role, ...]:
    return tuple(r for r in (clause.role, clause.second) if r is not None)


def limits_of(bounds: Bounds) -> tuple[Decimal, ...]:
    every = (bounds.at_least, bounds.more_than, bounds.at_most, bounds.less_than)
    return tuple(b.normalize() for b in every if b is not None)


_SNAKE = {
    "latest": "latest",
    "some": "some",
    "none": "none",
    "noPair": "no_pair",
    "eachHas": "each_has",
}
