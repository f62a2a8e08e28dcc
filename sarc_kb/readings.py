"""The register of ambiguities as switches: whose verdict rests on which reading.

Each entry's readings are tried one at a time; what an entry touches moves together then. For all of
them together every clause has a worst and a best outcome, and the trees are folded from those: the
verdict under any combination of readings lies between the two. A clause that several entries touch
is looked at under every combination of them, so that this holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

from rdflib import URIRef

from sarc_kb.assess import fold
from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.explain import explain
from sarc_kb.facts import PatientRecord
from sarc_kb.judging import AS_RECORDED, VERDICTS, Circumstances, Standing, outcome_of, stand
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.prepare import Prepared
from sarc_kb.rules import Clause, Derivation, Trial

MOST = 256
"""Combinations of readings under which one clause is looked at; beyond, nothing is claimed of it."""
_Range = tuple[Outcome, Outcome]
_ANYTHING: _Range = (Outcome.FAIL, Outcome.PASS)
_Given = TypeVar("_Given")


@dataclass(frozen=True, slots=True)
class Switch:
    """One reading that is not the default: the trial under it."""

    entry: str
    reading: str
    label: str
    trial: Trial

    @property
    def name(self) -> str:
        return f"{self.entry}={self.reading}"


@dataclass(frozen=True, slots=True)
class Unrunnable:
    """A reading that cannot be run, and why."""

    entry: str
    reading: str
    label: str
    why: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What one reading changes for one patient: the verdict, the conclusion on treatment, and the
    criteria and treatment rules with their outcomes. What does not change is empty or equal."""

    entry: str
    reading: str
    verdict: Verdict
    conclusion: str | None
    turns_verdict: bool
    turns_conclusion: bool
    rules: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Readings:
    """One patient under all readings. ``worst`` and ``best`` bound the verdict of eligibility under
    every combination; ``depends_on``: entries, empty where the verdict holds under every reading."""

    patient: str
    verdict: Verdict
    conclusion: str | None
    turns: tuple[Turn, ...]
    worst: Verdict
    best: Verdict
    depends_on: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.worst is self.best

    @property
    def text(self) -> str:
        """Whether the verdict holds under every reading, in words."""
        if self.holds:
            return "holds under every reading"
        return "depends on " + ", ".join(self.depends_on)


class Register:
    """The readings of one trial, compiled one at a time."""

    def __init__(self, kb: KnowledgeBase, trial: str | None = None) -> None:
        """Raises:
        UsageError: there is no such trial.
        """
        self.kb = kb
        self.name = trial.upper() if trial else kb.default_trial()
        self.default = kb.compile(self.name)
        self.switches: tuple[Switch, ...] = ()
        self.unrunnable: tuple[Unrunnable, ...] = ()
        self.silent: tuple[tuple[str, str], ...] = ()
        graph = self.default.graph
        found: list[Switch] = []
        for entry in self.default.ambiguities:
            by_name = {
                str(graph.value(r, SARC.notation)): r
                for r in graph.objects(URIRef(entry.iri), SARC.hasReading)
            }
            for reading, label in entry.readings:
                node = by_name[reading]
                why = graph.value(node, SARC.notRunnableBecause)
                if reading == entry.default:
                    continue
                if why is not None:
                    told = Unrunnable(entry.id, reading, label, " ".join(str(why).split()))
                    self.unrunnable = (*self.unrunnable, told)
                elif (node, SARC.override, None) not in graph:
                    self.silent = (*self.silent, (entry.id, reading))
                else:
                    compiled = kb.compile(self.name, readings={entry.id: reading})
                    found.append(Switch(entry.id, reading, label, compiled))
        self.switches = tuple(found)
        self._combined: dict[tuple[tuple[str, str], ...], Trial] = {}

    @cached_property
    def touched(self) -> Mapping[str, tuple[str, ...]]:
        """Clauses on eligibility to the entries that bear on them, itself or by what it names."""
        found: dict[str, dict[str, None]] = {}
        for switch in self.switches:
            for iri in _touched(self.default, switch.trial, self.kb):
                found.setdefault(iri, {})[switch.entry] = None
        return {iri: tuple(entries) for iri, entries in found.items()}

    @cached_property
    def bears_on(self) -> Mapping[str, tuple[bool, bool]]:
        """Whether a reading, by its name, bears on eligibility, and on the course of treatment."""
        found = {}
        for switch in self.switches:
            one, two = self.default, switch.trial
            eligibility = bool(_touched(one, two, self.kb)) or _joined(one) != _joined(two)
            course = one.treatment is not two.treatment
            if one.treatment is not None and two.treatment is not None:
                compared = {c.compares for c in one.treatment.criteria} - {None}
                course = (
                    bool(_touched(one.treatment, two.treatment, self.kb))
                    or _joined(one.treatment) != _joined(two.treatment)
                    or bool(compared & _touched(one, two, self.kb))
                )
            found[switch.name] = (eligibility, course)
        return found

    def combinations(self, entries: Sequence[str]) -> Iterator[tuple[Switch, ...]]:
        """Yield the choices of two readings or more that are not the default, of ``entries``."""
        options = [(None, *(s for s in self.switches if s.entry == e)) for e in entries]
        for choice in product(*options):
            chosen = tuple(s for s in choice if s is not None)
            if len(chosen) > 1:
                yield chosen

    def combined(self, chosen: tuple[Switch, ...]) -> Trial:
        """Return the trial under several readings at once."""
        key = tuple((s.entry, s.reading) for s in chosen)
        if key not in self._combined:
            merged = merge(self.default, [s.trial for s in chosen])
            self._combined[key] = (
                self.kb.compile(self.name, readings=dict(key)) if merged is None else merged
            )
        return self._combined[key]

    # -- one patient ---------------------------------------------------------------------------
    def of(
        self, record: PatientRecord, given: Circumstances = AS_RECORDED, *, together: bool = True
    ) -> Readings:
        """Return one patient under all readings; without ``together`` the bounds are those of one
        reading at a time.

        Raises:
            InputError: the record cannot be judged.
        """
        base = stand(self.kb, record, self.default, given)
        turns, standings = [], [(self.default, base)]
        for switch in self.switches:
            again = self.bears_on[switch.name]
            other = stand(self.kb, record, switch.trial, given, known=base, again=again)
            standings.append((switch.trial, other))
            turn = _turn(self.default, base, switch, other)
            if turn is not None:
                turns.append(turn)
        verdicts = [s.verdict for _, s in standings]
        worst, best = min(verdicts, key=_rank), max(verdicts, key=_rank)
        depends = dict.fromkeys(t.entry for t in turns if t.turns_verdict)
        if together:
            bounds = _Bounds(self, record, given, standings)
            worst, best = bounds.verdicts()
            if worst is not best and not depends:
                # No reading alone turns it: name those that move something.
                depends = dict.fromkeys([*(t.entry for t in turns if t.rules), *bounds.moved])
        conclusion = base.conclusion.value if base.conclusion else None
        return Readings(
            record.label,
            base.verdict,
            conclusion,
            tuple(turns),
            worst,
            best,
            tuple(sorted(depends)) if worst is not best else (),
        )


def _rank(verdict: Verdict) -> int:
    return next(o.value for o, v in VERDICTS.items() if v is verdict)


def _turn(default: Trial, base: Standing, switch: Switch, other: Standing) -> Turn | None:
    rules: list[tuple[str, str, str]] = []
    before, after = ({**s.criteria, **s.rules} for s in (base, other))
    for part in default.parts:
        for rule in part.criteria:
            one, two = before.get(rule.iri), after.get(rule.iri)
            if one is not two:
                rules.append((rule.id, _word(one), _word(two)))
    verdict = other.verdict is not base.verdict
    course = other.conclusion is not base.conclusion
    if not (rules or verdict or course):
        return None
    said = other.conclusion.value if other.conclusion else None
    return Turn(switch.entry, switch.reading, other.verdict, said, verdict, course, tuple(rules))


def _word(outcome: object) -> str:
    if outcome is None:
        return "not asked"
    return outcome.word if isinstance(outcome, Outcome) else str(getattr(outcome, "value", outcome))


class _Bounds:
    """The worst and the best verdict of one patient under any combination of readings."""

    def __init__(
        self,
        register: Register,
        record: PatientRecord,
        given: Circumstances,
        standings: list[tuple[Trial, Standing]],
    ) -> None:
        self.register, self.record, self.given = register, record, given
        self.standings = standings
        self.moved: dict[str, None] = {}
        self.ranges: dict[str, _Range] = {}
        for _, standing in standings:
            for iri, outcome in standing.clauses.items():
                self._widen(iri, outcome)
        self._prepared: dict[tuple[str, ...], Prepared] = {}

    def _widen(self, iri: str, outcome: Outcome) -> bool:
        lo, hi = self.ranges.get(iri, (outcome, outcome))
        wider = (min(lo, outcome, key=_value), max(hi, outcome, key=_value))
        changed = iri in self.ranges and wider != (lo, hi)
        self.ranges[iri] = wider
        return changed

    def verdicts(self) -> tuple[Verdict, Verdict]:
        """Return the worst and the best verdict.

        Where one reading alone turns the verdict, clauses that several entries touch count as open
        to anything: that bounds what any combination gives, and need not be looked at.
        """
        worst, best = self._fold(self.ranges)
        todo = {i: e for i, e in self.register.touched.items() if len(e) > 1 and i in self.ranges}
        widest = self._widest(todo)
        # Else, if the verdict stands whatever those come to, it stands.
        while worst is best and widest[0] is not widest[1] and todo:
            iri = next(iter(todo))
            self._look(iri, todo.pop(iri))
            worst, best = self._fold(self.ranges)
            widest = self._widest(todo)
        return VERDICTS[widest[0]], VERDICTS[widest[1]]

    def _widest(self, clauses: Iterable[str]) -> _Range:
        return self._fold({**self.ranges, **dict.fromkeys(clauses, _ANYTHING)})

    def _look(self, iri: str, entries: tuple[str, ...]) -> None:
        """Take in what a clause comes to under every combination of ``entries``."""
        if self.ranges[iri] == _ANYTHING:
            return
        combinations = list(self.register.combinations(entries))
        if len(combinations) > MOST:
            self.ranges[iri] = _ANYTHING
            self.moved.update(dict.fromkeys(entries))
            return
        for chosen in combinations:
            prepared = self._under(chosen)
            clause = prepared.trial.clauses.get(iri)
            if clause is not None and self._widen(iri, outcome_of(explain(prepared, clause))):
                self.moved.update(dict.fromkeys(s.entry for s in chosen))

    def _under(self, chosen: tuple[Switch, ...]) -> Prepared:
        key = tuple(s.name for s in chosen)
        if key not in self._prepared:
            self._prepared[key] = self.register.kb.prepare(
                self.record,
                self.register.combined(chosen),
                as_of=self.given.as_of,
                complete=self.given.complete,
                attested=self.given.attested,
            )
        return self._prepared[key]

    def _fold(self, ranges: Mapping[str, _Range]) -> _Range:
        trials = [trial for trial, _ in self.standings]
        worst = best = Outcome.PASS
        for iri in dict.fromkeys(c.iri for t in trials for c in t.criteria):
            asked = [
                (next((c for c in t.criteria if c.iri == iri), None), t, s)
                for t, s in self.standings
            ]
            own = [(c, t, s) for c, t, s in asked if c is not None]
            roots = {c.root for c, _, _ in own}
            spans = [self._node(root, ranges, frozenset()) for root in sorted(roots)]
            lo = min((x for x, _ in spans), key=_value)
            hi = max((x for _, x in spans), key=_value)
            # What an answer denies fails, however the clauses come out.
            said = [s.criteria[iri] for _, _, s in own]
            lo = min((lo, *said), key=_value)
            denied = [iri in self._denied(t, s) for _, t, s in own]
            if all(denied):
                hi = Outcome.FAIL
            if len(own) < len(asked):
                hi = Outcome.PASS  # under some reading nobody asks
            worst, best = min(worst, lo, key=_value), min(best, hi, key=_value)
        return worst, best

    def _denied(self, trial: Trial, standing: Standing) -> set[str]:
        """Return the criteria that fail though their clauses do not."""
        return {
            c.iri
            for c in trial.criteria
            if standing.criteria[c.iri] is Outcome.FAIL
            and fold(trial, c.root, standing.clauses) is not Outcome.FAIL
        }

    def _node(self, node: str, ranges: Mapping[str, _Range], path: frozenset[str]) -> _Range:
        """Return the range of a clause or join over all forms that readings give it."""
        found: list[_Range] = [ranges[node]] if node in ranges else []
        joins = [t.joins[node] for t, _ in self.standings if node in t.joins]
        forms = product({j.operator for j in joins}, {j.children for j in joins})
        for operator, children in forms:
            below = [self._node(c, ranges, path | {node}) for c in children if c not in path]
            pick = min if operator == "and" else max
            found.append(
                (
                    pick((lo for lo, _ in below), key=_value),
                    pick((hi for _, hi in below), key=_value),
                )
            )
        return min((lo for lo, _ in found), key=_value), max((hi for _, hi in found), key=_value)


def _value(outcome: Outcome) -> int:
    return outcome.value


# -- what an entry touches -------------------------------------------------------------------------
def _joined(part: Trial) -> object:
    """Return how the rules of a part are made of clauses, and what answers are asked."""
    return part.criteria, part.joins, part.questions, part.course, part.series


def _touched(default: Trial, other: Trial, kb: KnowledgeBase) -> set[str]:
    """Return the clauses on eligibility that may come out otherwise under ``other``: those that
    say something else, or name something that does."""
    names = _differing(default, other)
    terms = kb.terms
    for field in ("series", "index_rules", "course"):
        if getattr(default, field) != getattr(other, field):
            return {*default.clauses, *other.clauses}
    if default.statement_tolerance != other.statement_tolerance:
        return {*default.clauses, *other.clauses}
    if not names and _joined(default) == _joined(other):
        return set()
    reached = set(names)
    grown = True
    while grown:
        grown = False
        for trial in (default, other):
            for iri, named in _named(trial):
                if iri in reached:
                    continue
                if named & reached:
                    reached.add(iri)
                    grown = True
            for iri, concept_set in trial.sets.items():
                if iri not in reached and any(
                    reached & terms.up(m) or reached & terms.down(m) for m in concept_set.members
                ):
                    reached.add(iri)
                    grown = True
            for rule in trial.derivations:
                if reached & _read(rule) or rule.iri in names:
                    more = _made(rule) - reached
                    above = {a for t in more for a in (t, *terms.down(t))}
                    grown = grown or bool(above - reached)
                    reached |= above
    return {
        iri
        for trial in (default, other)
        for iri, clause in trial.clauses.items()
        if iri in names or _clause_names(clause) & reached or _asked_by(trial, iri) & reached
    }


def _differing(default: Trial, other: Trial) -> set[str]:
    found: set[str] = set()
    for field in ("clauses", "sets", "qualifiers", "windows", "anchors"):
        one, two = getattr(default, field), getattr(other, field)
        found |= {k for k in one.keys() | two.keys() if one.get(k) != two.get(k)}
    rules = [{(d.iri, d.kind): d for d in t.derivations} for t in (default, other)]
    found |= {
        iri
        for iri, kind in rules[0].keys() | rules[1].keys()
        if rules[0].get((iri, kind)) != rules[1].get((iri, kind))
    }
    questions = [{q.iri: q for q in t.questions} for t in (default, other)]
    for iri in questions[0].keys() | questions[1].keys():
        pair = [q.get(iri) for q in questions]
        if pair[0] != pair[1]:
            found |= {c for q in pair if q is not None for c in q.covers}
    return found


def _named(trial: Trial) -> Iterator[tuple[str, set[str]]]:
    """Yield windows, anchors and qualifiers with what they name."""
    for iri, window in trial.windows.items():
        named = (window.anchor, window.end_anchor, window.ends_before, window.starts_after)
        yield iri, {n for n in named if n}
    for iri, selections in trial.anchors.items():
        yield (
            iri,
            {
                n
                for s in selections
                for n in (*s.targets, s.accepted, s.qualifier, s.window, s.before, *s.unless)
                if n
            },
        )
    for iri, qualifier in trial.qualifiers.items():
        yield iri, {n for r in qualifier.requires for n in (r.among, r.not_among, r.axis) if n}


def _read(rule: Derivation) -> set[str]:
    named = (
        rule.source,
        rule.accepted,
        rule.qualifier,
        rule.window,
        rule.from_anchor,
        rule.to_anchor,
        rule.settled_by,
        rule.during,
        *rule.of,
        *rule.unless,
        *rule.operands,
        *(iri for _, iri in rule.inputs),
    )
    return {n for n in named if n and n not in _NOTHING}


def _made(rule: Derivation) -> set[str]:
    named = (
        rule.gives,
        rule.value,
        rule.adds_value,
        rule.adds_concept,
        rule.axis,
        rule.axis_value,
        rule.measured_in,
        *rule.settles,
    )
    # A refinement changes the facts that it reads.
    own = (rule.source, *rule.of) if rule.kind in ("Refinement", "Settling") else ()
    return {n for n in (*named, *own) if n and n not in _NOTHING}


def _asked_by(trial: Trial, clause: str) -> set[str]:
    """Return what tells, of a treatment rule, when it asks and of whom."""
    if trial.course is None:
        return set()
    due = {w for rule in trial.criteria if clause in rule.clauses for w in rule.due}
    return {*due, trial.course.begun_by, trial.course.window}


_NOTHING = frozenset(map(str, (SARC.Any, SARC.Ever, SARC.NotAttestable)))


def _clause_names(clause: Clause) -> set[str]:
    roles = [r for r in (clause.role, clause.second) if r is not None]
    named = [n for r in roles for n in (r.concept_set, r.window, r.qualifier, r.accepted)]
    return {n for n in (*named, clause.settled_by) if n and n not in _NOTHING}


# -- several readings at once ----------------------------------------------------------------------
class _ConflictError(Exception):
    """Two readings change the same thing in different ways."""


def merge(default: Trial, others: Iterable[Trial]) -> Trial | None:
    """Return the trial with what each of ``others`` changes of ``default``, as far as clauses and
    what they name go; None where two change the same thing differently."""
    variants = list(others)
    changed: dict[str, Any] = {}
    try:
        for name in ("clauses", "joins", "sets", "qualifiers", "windows", "anchors"):
            tables = [getattr(t, name) for t in variants]
            changed[name] = _merged_table(getattr(default, name), tables)
        for name in ("derivations", "questions", "criteria"):
            changed[name] = _merged_rules(
                getattr(default, name), [getattr(t, name) for t in variants]
            )
        changed["index_rules"] = _merged(default.index_rules, [t.index_rules for t in variants])
        changed["statement_tolerance"] = _merged(
            default.statement_tolerance, [t.statement_tolerance for t in variants]
        )
    except _ConflictError:
        return None
    return replace(default, **changed, treatment=None)


def _merged_table(default: Mapping[str, Any], others: list[Mapping[str, Any]]) -> dict[str, Any]:
    keys = dict.fromkeys(k for table in (default, *others) for k in table)
    found = {}
    for key in keys:
        values = [table[key] for table in others if key in table]
        if key in default:
            # What a reading no longer uses stays: it is looked at by itself.
            found[key] = _merged(default[key], values)
        elif all(v == values[0] for v in values):
            found[key] = values[0]
        else:
            raise _ConflictError
    return found


def _merged_rules(default: tuple[Any, ...], others: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    differing = [rules for rules in others if rules != default]
    names = [[(r.iri, getattr(r, "kind", "")) for r in rules] for rules in (default, *differing)]
    if len(differing) < 2 or any(n != names[0] for n in names):
        return _merged(default, others)
    return tuple(_merged(*pair) for pair in zip(default, zip(*others, strict=True), strict=True))


def _merged(default: _Given, others: Sequence[_Given]) -> _Given:
    differing = [v for v in others if v != default]
    if not differing:
        return default
    if all(v == differing[0] for v in differing):
        return differing[0]
    if (
        is_dataclass(default)
        and not isinstance(default, type)
        and all(type(v) is type(default) for v in differing)
    ):
        parts: dict[str, Any] = {
            f.name: _merged(getattr(default, f.name), [getattr(v, f.name) for v in differing])
            for f in fields(default)
        }
        made: _Given = replace(default, **parts)
        return made
    raise _ConflictError
