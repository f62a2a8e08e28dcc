"""The days of entry on which a clause may come out otherwise than for an entry the day before.

`prepare` holds days of the record against days that move with entry: ends of windows, entry itself,
and what is carried up to it. An end of a window never moves back while entry moves on, so each such
comparison turns once, on a day that can be computed. All days on which one turns that a clause may
depend on are collected here, rather too many than too few; between them nothing changes. Where a
comparison may turn more than once, every day is taken.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain

from sarc_kb.dates import DAY, FOREVER, NEVER, completed_years, months_before
from sarc_kb.namespaces import SARC
from sarc_kb.prepare.facts import is_enrolment
from sarc_kb.prepare.model import Item, Statement
from sarc_kb.prepare.state import Preparation
from sarc_kb.prepare.statements import narrower
from sarc_kb.rules import EVER, PAIRS, Clause, Derivation

_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)
_YEARS, _MINUTES = str(SARC.CompletedYears), str(SARC.Minutes)
_ADDING = ("Implication", "Refinement", "Conversion")

Shift = tuple[int, int]
"""So many calendar months, then so many days, before entry."""

Node = tuple[str, str]
"""Something that an outcome depends on: ``set``, ``window``, ``anchor``, ``interval``, or
``settling`` (a derivation), and its IRI."""

_HERE: Shift = (0, 0)


class Turns:
    """The turning days of one patient, for entries after the present one up to ``last``.

    ``p`` is what `begin` returned; ``statements`` are those that hold at the present entry.
    """

    def __init__(self, p: Preparation, statements: Iterable[Statement], last: int) -> None:
        self.p, self.trial, self.terms = p, p.trial, p.terms
        self.now = p.entry.last
        self.days = range(self.now, last + 2)
        self.every = frozenset(range(self.now + 1, last + 1))
        self.statements = list(statements)
        self.unreadable = _edges(i for i in p.items if not i.terms.readable)
        self.said = {i.span.start_hi for i in p.answers}
        here = p.moved(p.entry)
        self.enrolments = [i for i in p.items if is_enrolment(here, i)]
        self.observed = {d for period in p.record.observed or () for d in period}
        self.tolerance = self.trial.statement_tolerance
        self._crossed: dict[tuple[Shift, int], frozenset[int]] = {}
        self._found: dict[Node, tuple[frozenset[int], tuple[Node, ...]]] = {}
        self._within: dict[tuple[str, str], bool] = {}
        self._base: dict[str, list[Item]] = {}
        self._windowed = [d for d in self.trial.derivations if d.window is not None]
        self.active = self._active()
        self.settlings = [
            d for d in self.trial.derivations if d.kind == "Settling" and self.edges(d.source)
        ]

    def of(self, clause: Clause) -> frozenset[int]:
        """Return the days on which ``clause`` may turn."""
        if self.trial.series:
            return self.every
        turns = set(self.cross([_HERE], self.said))
        nodes: list[Node] = [
            ("set", q.asked_of)
            for q in self.trial.questions
            if q.asked_of is not None and clause.iri in q.covers
        ]
        for role in (clause.role, clause.second):
            if role is None:
                continue
            edges = self.edges(role.concept_set)
            nodes += [("set", role.concept_set), ("window", role.window)]
            turns |= self.seen(role.window, edges)
            if self.moving(role.concept_set):
                turns |= self.ordered(edges)
                turns |= self.cross([_HERE], self.constants(role.window))
                if clause.component in PAIRS or self.irregular(role.window):
                    return self.every
        if clause.role is not None and clause.component != "latest":
            wanted = (clause.settled_by, clause.role.concept_set)
            found, more = self.covered(wanted, clause.role.window)
            turns |= found
            nodes += more
        return frozenset(turns | self.closure(nodes))

    def closure(self, nodes: Iterable[Node]) -> set[int]:
        """Return the turning days of ``nodes`` and of all that they depend on."""
        todo, done = list(nodes), set[Node]()
        turns: set[int] = set()
        while todo:
            node = todo.pop()
            if node in done:
                continue
            done.add(node)
            if node not in self._found:
                found, more = _KINDS[node[0]](self, node[1])
                self._found[node] = (frozenset(found), tuple(more))
            own, below = self._found[node]
            turns |= own
            todo += below
        return turns

    # -- one comparison ------------------------------------------------------------------------
    def cross(self, shifts: Iterable[Shift], edges: Iterable[int]) -> set[int]:
        """Return the days on which a day that moves with entry reaches or passes one of ``edges``."""
        edges = [e for e in edges if NEVER < e < FOREVER]
        found: set[int] = set()
        for shift in shifts:
            for edge in edges:
                key = (shift, edge)
                if key not in self._crossed:
                    self._crossed[key] = frozenset(
                        day for wanted in (edge, edge + 1) for day in self._first(shift, wanted)
                    )
                found |= self._crossed[key]
        return found

    def _first(self, shift: Shift, wanted: int) -> Iterator[int]:
        """Yield the first entry, if it is one to come, for which the shifted day is ``wanted`` or
        later."""
        months, days = shift

        def shifted(entry: int) -> int:
            return months_before(entry, months) - days

        number = bisect_left(self.days, wanted, key=shifted)
        if 0 < number < len(self.days) - 1:
            yield self.days[number]

    def seen(self, window: str, edges: Iterable[int]) -> set[int]:
        """Return the days on which an end of ``window`` reaches or passes one of ``edges``."""
        if window == EVER:
            return set()
        if self.trial.windows[window].calendar is not None and self.moves_window(window):
            return set(self.every)
        starts, ends = self.bounds(window)
        return self.cross(starts | ends, edges)

    def ordered(self, edges: Iterable[int]) -> set[int]:
        """Return the days on which entry comes to lie behind one of ``edges``, by any clock."""
        near = {e + n for e in edges if NEVER < e < FOREVER for n in (-2, -1, 0, 1)}
        return self.cross([_HERE], near)

    # -- windows and anchors -------------------------------------------------------------------
    def bounds(self, iri: str) -> tuple[set[Shift], set[Shift]]:
        """Return how the start and the end of a window may move with entry."""
        rule = self.trial.windows[iri]
        starts: set[Shift] = set()
        ends: set[Shift] = set()
        if self.moves(rule.end_anchor or rule.anchor):
            ends.add((rule.ends_months_before, rule.ends_days_before))
        if rule.ends_before is not None:
            ends = {(m, d + 1) for m, d in self.bounds(rule.ends_before)[0]}
        if rule.open_end:
            ends = {_HERE}  # what is open is seen up to the as-of date
        if rule.starts_after is not None:
            starts = {(m, d - 1) for m, d in self.bounds(rule.starts_after)[1]}
        elif (rule.months is not None or rule.days is not None) and self.moves(rule.anchor):
            starts.add((rule.months or 0, rule.days or 0))
        return starts, ends

    def irregular(self, window: str) -> bool:
        """Whether an end of the window may lie now before and now after entry, or the as-of date:
        forward by calendar months, by months and days that undo each other, or by a calendar."""
        if window == EVER:
            return False
        if self.trial.windows[window].calendar is not None:
            return True
        shifts = set().union(*self.bounds(window))
        return any(m < 0 or (m > 0 and d < -28 * m) for m, d in shifts)

    def moves_window(self, iri: str) -> bool:
        rule = self.trial.windows[iri]
        anchors = [a for a in (rule.anchor, rule.end_anchor) if a is not None]
        return any(self.moves(a) for a in anchors)

    def moves(self, anchor: str) -> bool:
        """Whether an anchor may be entry, the as-of date, or something that moves with them."""
        return any(
            a in (_ENTRY, _AS_OF) or (a not in self.trial.anchors and self.moving(a))
            for a in self._reached(anchor)
        )

    def _reached(self, anchor: str) -> set[str]:
        """Return the anchors and sets that an anchor may come from, itself included."""
        todo, done = [anchor], set[str]()
        while todo:
            one = todo.pop()
            if one not in done:
                done.add(one)
                todo += [t for s in self.trial.anchors.get(one, ()) for t in s.targets]
        return done

    def anchor_edges(self, anchor: str) -> set[int]:
        """Return the days of the record that an anchor may be."""
        sets = [a for a in self._reached(anchor) if a not in self.trial.anchors]
        return {e for s in sets if s not in (_ENTRY, _AS_OF) for e in self.edges(s)}

    def constants(self, iri: str) -> set[int]:
        """Return the days at which a window may start or end whatever day is entry."""
        if iri == EVER:
            return set()
        rule = self.trial.windows[iri]
        found: set[int] = set()
        for anchor in {rule.anchor, rule.end_anchor or rule.anchor}:
            for edge in self.anchor_edges(anchor):
                if NEVER < edge < FOREVER:
                    found.add(months_before(edge, rule.months or 0) - (rule.days or 0))
                    found.add(months_before(edge, rule.ends_months_before) - rule.ends_days_before)
        for other in (rule.ends_before, rule.starts_after):
            if other is not None:
                found |= {d + n for d in self.constants(other) for n in (-1, 1)}
        return found

    def _of_window(self, iri: str) -> tuple[set[int], list[Node]]:
        if iri == EVER:
            return set(), []
        rule = self.trial.windows[iri]
        nodes: list[Node] = [("anchor", a) for a in (rule.anchor, rule.end_anchor) if a]
        nodes += [("window", w) for w in (rule.ends_before, rule.starts_after) if w]
        return set(), nodes

    def _of_anchor(self, iri: str) -> tuple[set[int], list[Node]]:
        turns: set[int] = set()
        nodes: list[Node] = []
        for attempt in self.trial.anchors.get(iri, ()):
            edges: set[int] = set()
            for target in attempt.targets:
                if target in self.trial.anchors or target in (_ENTRY, _AS_OF):
                    nodes.append(("anchor", target))
                    edges |= self.anchor_edges(target)
                else:
                    nodes.append(("set", target))
                    edges |= self.edges(target)
                    turns |= self.seen(attempt.window, self.edges(target))
                    if self.moving(target):
                        turns |= self.cross([_HERE], self.constants(attempt.window))
                        turns |= self.every if self.irregular(attempt.window) else set()
            nodes.append(("window", attempt.window))
            if attempt.before is not None:
                nodes.append(("anchor", attempt.before))
                edges |= self.anchor_edges(attempt.before)
            turns |= self.ordered(edges)
        return turns, nodes

    # -- facts ---------------------------------------------------------------------------------
    def members(self, iri: str) -> list[Item]:
        """Return the facts that may be of a set before anything is held against entry."""
        if iri not in self._base:
            self._base[iri] = self.p.members(iri)
        return self._base[iri]

    def includes(self, iri: str, term: str | None) -> bool:
        if term is None:
            return False
        key = (iri, term)
        if key not in self._within:
            self._within[key] = self.trial.set_of(iri).degree_of_term(term, self.terms) > 0
        return self._within[key]

    def _active(self) -> list[tuple[Derivation, tuple[str, ...]]]:
        """Return the derivations within a window that this record may set off, and their sources."""
        waiting = [(d, _sources(d)) for d in self._windowed if d.kind != "Settling"]
        active: list[tuple[Derivation, tuple[str, ...]]] = []
        progress = True
        while progress:
            ready = [
                (d, sources)
                for d, sources in waiting
                if any(
                    self.members(s)
                    or any(self.includes(s, g) for a, _ in active for g in _gives(a))
                    for s in sources
                )
            ]
            progress = bool(ready)
            active += ready
            names = {d.iri for d, _ in ready}
            waiting = [(d, sources) for d, sources in waiting if d.iri not in names]
        return active

    def sources(self, iri: str) -> set[str]:
        """Return the sets from which, in steps, facts of a set may be derived, itself included."""
        todo, done = [iri], set[str]()
        while todo:
            one = todo.pop()
            if one in done:
                continue
            done.add(one)
            for rule, sources in self.active:
                if any(self.includes(one, g) for g in _gives(rule)):
                    todo += sources
        return done

    def edges(self, iri: str) -> set[int]:
        """Return the days on which facts that may be of a set may start or end."""
        return _edges(chain.from_iterable(self.members(s) for s in self.sources(iri)))

    def moving(self, iri: str) -> bool:
        """Whether a set may have a fact whose own day moves with entry."""
        reached = self.sources(iri)
        return (
            any(i in self.members(s) for s in reached for i in self.enrolments)
            or any(self.includes(s, rule.iri) for s in reached for rule in self._intervals())
            or any(
                rule.even_if_silent and rule.during is not None and self.includes(s, rule.gives)
                for s in reached
                for rule, _ in self.active
            )
        )

    def _intervals(self) -> Iterator[Derivation]:
        for rule in self.trial.derivations:
            if rule.kind == "Interval" and rule.from_anchor and rule.to_anchor:
                yield rule

    def _of_set(self, iri: str) -> tuple[set[int], list[Node]]:
        turns: set[int] = set()
        nodes: list[Node] = []
        mine = {i.id for i in self.members(iri)}
        for rule, sources in self.active:
            gives = any(self.includes(iri, g) for g in _gives(rule))
            changed = rule.kind in ("Refinement", "RunningTotal") and any(
                i.id in mine for s in sources for i in self.members(s)
            )
            derived = rule.kind in ("Refinement", "RunningTotal") and any(
                self.includes(iri, g) and any(self.includes(s, g) for s in sources)
                for other, _ in self.active
                for g in _gives(other)
            )
            if gives or changed or derived:
                assert rule.window is not None
                edges = set().union(*(self.edges(s) for s in sources))
                turns |= self.seen(rule.window, edges)
                nodes += [("set", s) for s in sources]
                nodes.append(("window", rule.window))
                if any(self.moving(s) for s in sources):
                    turns |= self.cross([_HERE], self.constants(rule.window))
                    turns |= self.every if self.irregular(rule.window) else set()
                if rule.kind not in _ADDING:
                    # Sums are whole once nothing more is to come by the as-of date.
                    turns |= self.ordered(edges)
                    found, more = self.covered((rule.settled_by,), rule.window, up_to_now=True)
                    turns |= found
                    nodes += more
        # An explicit negative withdraws what is only possibly of the set.
        nodes += [("settling", d.iri) for d in self.settlings if self.settles(d, iri)]
        for rule in self.trial.derivations:
            if rule.kind == "Tally" and rule.window is None and self.includes(iri, rule.gives):
                nodes.append(("set", rule.source))
                found, more = self.covered((rule.settled_by,), EVER)
                turns |= found
                nodes += more
            elif rule.kind == "Interval" and self.includes(iri, rule.iri):
                nodes.append(("interval", rule.iri))
        return turns, nodes

    def _of_interval(self, iri: str) -> tuple[set[int], list[Node]]:
        rule = next(d for d in self.trial.derivations if d.iri == iri)
        start, stop = rule.from_anchor or "", rule.to_anchor or ""
        nodes: list[Node] = [("anchor", start), ("anchor", stop)]
        if not (self.moves(start) or self.moves(stop)):
            return set(), nodes
        edges = self.anchor_edges(start) | self.anchor_edges(stop)
        turns = self.ordered(edges)
        if rule.measured_in == _YEARS:
            if self.moves(start):
                return set(self.every), nodes
            return turns | {d for e in edges for d in self._birthdays(e)}, nodes
        unit = DAY if rule.measured_in == _MINUTES else 1
        for limit in self._limits(iri):
            for edge in edges:
                for sign in (1, -1):
                    middle = edge + sign * limit // unit
                    turns |= self.every & set(range(middle - 3, middle + 5))
        return turns, nodes

    def _birthdays(self, birth: int) -> Iterator[int]:
        if NEVER < birth < FOREVER:
            least, most = (completed_years(birth, d) for d in (self.days[0], self.days[-1]))
            for years in range(least + 1, most + 1):
                number = bisect_left(self.days, years, key=lambda d: completed_years(birth, d))
                if self.days[number] in self.every:
                    yield self.days[number]

    def _limits(self, iri: str) -> Iterator[int]:
        """Yield the limits that clauses hold an interval against."""
        for clause in self.trial.clauses.values():
            for role in (clause.role, clause.second):
                if role is not None and self.includes(role.concept_set, iri):
                    b = role.bounds
                    for limit in (b.at_least, b.more_than, b.at_most, b.less_than):
                        if limit is not None:
                            yield int(limit)

    # -- silence -------------------------------------------------------------------------------
    def settles(self, rule: Derivation, iri: str) -> bool:
        return iri in rule.settles or any(narrower(self.p, iri, t) for t in rule.settles)

    def covered(
        self, wanted: Iterable[str | None], window: str, *, up_to_now: bool = False
    ) -> tuple[set[int], list[Node]]:
        """Return the days on which it may turn whether a scope or set is complete over a window (or
        from its start ``up_to_now``), and what else that depends on."""
        scopes = [s for w in wanted if w is not None for s in self._parts(w)]
        if window == EVER:
            starts, ends, fixed = set[Shift](), {_HERE}, set[int]()
        else:
            starts, ends = self.bounds(window)
            fixed = self.constants(window)
            if self.irregular(window):
                return set(self.every), []
        if up_to_now:
            ends = {_HERE}
        nodes: list[Node] = [("window", window)]
        edges = self.unreadable | self.observed | {d + self.tolerance for d in self.observed}
        begun = set(self.observed)
        for statement in self.statements:
            if statement.scopes.intersection(scopes):
                begun.add(statement.start)
                edges |= {statement.start, statement.end, statement.end + self.tolerance}
        for rule in self.settlings:
            if any(self.settles(rule, s) for s in scopes):
                nodes.append(("settling", rule.iri))
                days = self.edges(rule.source)
                edges |= days
                for held in (rule.holds_for, rule.holds_for + self.tolerance):
                    edges |= {d + held for d in days if NEVER < d < FOREVER}
        turns = self.cross(starts | ends, edges)
        # What is carried ends with entry, which the days that stay may lie behind.
        turns |= self.cross([_HERE], edges | {d - 1 for d in begun if d > NEVER})
        turns |= self.cross([_HERE], {d - n for d in fixed for n in (0, self.tolerance)})
        return turns, nodes

    def _parts(self, scope: str) -> Iterator[str]:
        yield scope
        for part in self.terms.scope_parts.get(scope, ()):
            yield from self._parts(part)

    def _of_settling(self, iri: str) -> tuple[set[int], list[Node]]:
        rule = next(d for d in self.trial.derivations if d.iri == iri)
        nodes: list[Node] = [("set", rule.source)]
        edges = self.edges(rule.source)
        if rule.window is None:
            return set(), nodes
        nodes.append(("window", rule.window))
        turns = self.seen(rule.window, edges)
        if self.moving(rule.source):
            turns |= self.cross([_HERE], self.constants(rule.window))
            turns |= self.every if self.irregular(rule.window) else set()
        return turns, nodes


_KINDS = {
    "set": Turns._of_set,
    "window": Turns._of_window,
    "anchor": Turns._of_anchor,
    "interval": Turns._of_interval,
    "settling": Turns._of_settling,
}


def _sources(rule: Derivation) -> tuple[str, ...]:
    """Return the sets whose facts a derivation reads."""
    named = (rule.source, rule.during, *rule.of, *rule.operands)
    return tuple(dict.fromkeys(s for s in named if s))


def _gives(rule: Derivation) -> tuple[str, ...]:
    """Return the terms whose facts a derivation makes."""
    return tuple(t for t in (rule.gives, rule.adds_concept) if t is not None)


def _edges(items: Iterable[Item]) -> set[int]:
    return {
        day
        for i in items
        for day in (i.span.start_lo, i.span.start_hi, i.span.end_lo, i.span.end_hi)
        if NEVER < day < FOREVER
    }
