"""For each rule that changed a small patient who flips: found, then made smaller.

Looked at are the patients of the boundary cases of both sides, and patients made from them and from
nothing: with a value between the old and the new limit, a date between the edges of the windows, a
term or code that moved. Each is judged by both sides; of those who flip, the smallest is taken and
loses fact after fact as long as it still flips in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain, product

from sarc_kb.cases import Case, load_cases, part_of
from sarc_kb.dates import DAY, PartialDate, iso, months_before, parse_date
from sarc_kb.diff.compare import Comparison, Side
from sarc_kb.diff.model import RuleChange, Witness
from sarc_kb.errors import EngineError, InputError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.judging import AS_RECORDED, Circumstances, at_entry, in_treatment, stand
from sarc_kb.namespaces import SARC
from sarc_kb.prepare import Prepared
from sarc_kb.reports.turtle import stable_turtle
from sarc_kb.rules import ANY, Clause, Role
from sarc_kb.sources.rdf_writer import write_patient
from sarc_kb.treatment import last_day

_ENTRY = parse_date("2024-03-01")
_BASES = 8
"""Patients of cases that are varied, of each rule."""
_VARIED = 400
"""Patients made for each rule."""
_MADE = "made for the change"
_DECIDED = {frozenset(("pass", "fail")), frozenset(("conformant", "violation"))}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A patient to look at, in one part of the rules; ``made`` says where it comes from."""

    record: PatientRecord
    as_of: PartialDate | None
    treatment: bool
    made: str


@dataclass(slots=True)
class _Best:
    candidate: Candidate
    outcomes: tuple[str, str]

    @property
    def rank(self) -> tuple[bool, int, str]:
        decided = frozenset(self.outcomes) in _DECIDED
        made = self.candidate.made
        return (not decided, len(self.candidate.record.facts), f"{made != _MADE} {made}")


def with_witnesses(c: Comparison) -> tuple[list[RuleChange], int]:
    """Return the changed rules, each with a witness or the reason why there is none, and rules
    that say the same but of which a patient flips; and how many patients were looked at."""
    search = _Search(c)
    for change in c.rules:
        if change.kind == "changed":
            search.add(c.before(change.iri), change.iri)
        for iri in _owners(c, change):
            search.add(c.before(iri), iri)
    if c.shared:
        for iri in (*c.new.rules, *c.new.clauses):
            search.add(c.before(iri), iri)
    search.run()
    found = [_told(c, search, change) for change in c.rules]
    told = {change.iri for change in c.rules}
    owned = {owner for change in c.rules for owner in _owners(c, change)}
    for iri in sorted(search.best, key=lambda i: (c.new.name(i), i)):
        if iri not in told and iri not in owned:
            witness = search.witness(iri)
            found.append(RuleChange(c.new.name(iri), iri, c.new.label(iri), "reached", (), witness))
    return found, search.looked_at


def _told(c: Comparison, search: _Search, change: RuleChange) -> RuleChange:
    for iri in (change.iri, *_owners(c, change)):
        if iri in search.best:
            return replace(change, witness=search.witness(iri))
    if not any(i in search.pairs for i in (change.iri, *_owners(c, change))):
        why = "a whole rule was added or removed: there is no outcome to compare"
    elif all(x.aspect in _WORDS for x in change.changes):
        why = "what changed bears on no outcome"
    else:
        why = f"none of {search.looked_at} patients looked at flips"
    return replace(change, no_witness=why)


_WORDS = frozenset(("quotation", "executability", "resolves", "unit", "criterion", "asked by"))


def _owners(c: Comparison, change: RuleChange) -> list[str]:
    """Return the criteria and rules, by their new names, in which a clause that changed stands."""
    old_iri = c.before(change.iri)
    owners = []
    for side, iri in ((c.new, change.iri), (c.old, old_iri)):
        for rule in side.rules.values():
            if iri in rule.clauses and iri != rule.iri:
                owners.append(rule.iri if side is c.new else c.now(rule.iri))
    return [o for o in dict.fromkeys(owners) if o in c.new.rules and c.before(o) in c.old.rules]


class _Search:
    def __init__(self, c: Comparison) -> None:
        self.c = c
        self.pairs: dict[str, str] = {}
        self.best: dict[str, _Best] = {}
        self.looked_at = 0
        self._witnesses: dict[str, Witness] = {}

    def add(self, old: str, new: str) -> None:
        """Look for a patient who flips by the rule ``new``, which was ``old``."""
        old_side, new_side = self.c.old, self.c.new
        if (old in old_side.rules or old in old_side.clauses) and (
            new in new_side.rules or new in new_side.clauses
        ):
            self.pairs[new] = old

    def run(self) -> None:
        """Look at the cases of what changed and at patients made from them; where nobody flips, at
        all cases of the criterion; where anything may flip, at all cases."""
        changed = {change.iri for change in self.c.rules}
        seen: set[tuple[str, str]] = set()
        if self.c.shared:
            self._look_at(self._cases(None), seen)
        cases = self._cases(changed)
        self._look_at(cases, seen)
        for change in self.c.rules:
            for candidate in self._made(change, list(cases.values())):
                self.look(candidate)
        open_ = {
            change.iri
            for change in self.c.rules
            if change.iri not in self.best
            and not all(x.aspect in _WORDS for x in change.changes)
            and (change.kind != "changed" or change.iri in self.pairs)
        }
        if open_ and not self.c.shared:
            near = {n for side in (self.c.new, self.c.old) for n in self._near(side, open_)}
            self._look_at(self._cases(near), seen)

    def _look_at(self, cases: Mapping[tuple[str, str], Case], seen: set[tuple[str, str]]) -> None:
        for key, case in cases.items():
            if key in seen:
                continue
            seen.add(key)
            for side in (self.c.new, self.c.old):
                try:
                    part = part_of(side.trial, case.rule)
                except KeyError:
                    continue
                self.look(_of_case(case, treatment=part.course is not None))
                break

    def look(self, candidate: Candidate) -> None:
        self.looked_at += 1
        outcomes = [self._outcomes(side, candidate) for side in (self.c.old, self.c.new)]
        if outcomes[0] is None or outcomes[1] is None:
            return
        for new, old in self.pairs.items():
            pair = (outcomes[0].get(old), outcomes[1].get(new))
            if pair[0] is None or pair[1] is None or pair[0] == pair[1]:
                continue
            best = _Best(candidate, (pair[0], pair[1]))
            if new not in self.best or best.rank < self.best[new].rank:
                self.best[new] = best

    def _outcomes(self, side: Side, candidate: Candidate) -> dict[str, str] | None:
        record, trial = candidate.record, side.trial
        try:
            if not candidate.treatment:
                clauses, criteria = at_entry(side.kb.prepare(record, trial, as_of=candidate.as_of))
                return {i: o.word for i, o in (*clauses.items(), *criteria.items())}
            if trial.treatment is None:
                return None
            as_of = candidate.as_of or last_day(record)
            prepared = side.kb.prepare(record, trial.treatment, as_of=as_of)
            outcomes, rules = in_treatment(prepared, side.kb.prepare(record, trial))
        except (InputError, EngineError):
            return None
        told = {i: o.word for i, o in outcomes.items()}
        return told | {i: str(o.value) for i, o in rules.items()}

    # -- making smaller ------------------------------------------------------------------------
    def witness(self, iri: str) -> Witness:
        if iri not in self._witnesses:
            self._witnesses[iri] = self._witness(iri)
        return self._witnesses[iri]

    def _witness(self, iri: str) -> Witness:
        best = self.best[iri]
        candidate = self._shrunk(iri, best)
        record = candidate.record
        given = Circumstances(as_of=candidate.as_of) if candidate.as_of else AS_RECORDED
        verdicts = []
        for side in (self.c.old, self.c.new):
            standing = stand(side.kb, record, side.trial, given)
            told = standing.conclusion if candidate.treatment else standing.verdict
            verdicts.append("no treatment on record" if told is None else str(told.value))
        return Witness(
            rule=self.c.new.name(iri),
            old=best.outcomes[0],
            new=best.outcomes[1],
            old_verdict=verdicts[0],
            new_verdict=verdicts[1],
            patient=record.label,
            as_of=candidate.as_of.text if candidate.as_of else None,
            facts=len(record.facts),
            made=candidate.made,
            turtle=stable_turtle(write_patient(record)),
        )

    def _shrunk(self, iri: str, best: _Best) -> Candidate:
        candidate, old = best.candidate, self.pairs[iri]
        facts = list(candidate.record.facts)
        for fact in list(facts):
            fewer = tuple(f for f in facts if f is not fact)
            smaller = replace(candidate, record=replace(candidate.record, facts=fewer))
            before = self._outcomes(self.c.old, smaller)
            after = self._outcomes(self.c.new, smaller)
            if before and after and (before.get(old), after.get(iri)) == best.outcomes:
                candidate, facts = smaller, list(fewer)
        name = f"witness-{self.c.new.name(iri)}"
        named = tuple(replace(f, id=f"urn:sarc-kb:{name}:{n}") for n, f in enumerate(facts, 1))
        record = replace(
            candidate.record, patient=f"urn:sarc-kb:{name}", label=name, facts=named, findings=()
        )
        return replace(candidate, record=record)

    # -- who is looked at ----------------------------------------------------------------------
    def _cases(self, rules: Iterable[str] | None) -> dict[tuple[str, str], Case]:
        """Return the boundary cases of both sides about some rules, or all of them."""
        about = None if rules is None else {n for i in rules for n in (i, self.c.before(i))}
        found: dict[tuple[str, str], Case] = {}
        for side in (self.c.new, self.c.old):
            folder = side.kb.trial_folder(side.name_of_trial)
            for case in load_cases(folder, side.kb.terms.axes, about=about):
                key = (case.id, "")
                known = found.setdefault(key, case)
                if known.record.facts != case.record.facts:
                    found[case.id, "old"] = case
        return found

    def _near(self, side: Side, named: Iterable[str]) -> set[str]:
        """Return the rules, joins and clauses of the criteria in which one of ``named`` stands."""
        wanted = {*named, *map(self.c.before, named)}
        about = set(wanted)
        for part in side.trial.parts:
            for rule in part.criteria:
                todo, below = [rule.iri, rule.root], set[str]()
                while todo:
                    node = todo.pop()
                    below.add(node)
                    todo += part.children(node)
                if below & wanted:
                    about |= below
        return about

    def _made(self, change: RuleChange, cases: Iterable[Case]) -> Iterator[Candidate]:
        old, new = self.c.old, self.c.new
        was = self.pairs.get(change.iri)
        if was is None or was not in old.clauses or change.iri not in new.clauses:
            return
        aim = _Aim(self.c, old.clauses[was], new.clauses[change.iri])
        treatment = change.iri not in new.trial.clauses
        own = [case for case in cases if case.rule in (change.iri, was)]
        own.sort(key=lambda case: (len(case.record.facts), case.id))
        bases = [
            *(Candidate(r, None, treatment, _MADE) for r in aim.from_nothing()),
            *(_of_case(case, treatment=treatment) for case in own if aim.takes(case.record)),
        ]
        made = chain.from_iterable(aim.varied(base) for base in bases[: _BASES + 2])
        for number, candidate in enumerate(chain(bases, made)):
            if number >= _VARIED:
                return
            yield candidate


def _of_case(case: Case, *, treatment: bool) -> Candidate:
    return Candidate(case.record, case.as_of, treatment, f"boundary case {case.id}")


class _Aim:
    """What to look for, where one clause changed: values, days and terms about what moved."""

    def __init__(self, c: Comparison, old: Clause, new: Clause) -> None:
        self.c, self.old, self.new = c, old, new
        self.sides = ((c.old, old), (c.new, new))
        self.roles = [
            (side, role)
            for side, clause in self.sides
            for role in (clause.role, clause.second)
            if role is not None
        ]

    def takes(self, record: PatientRecord) -> bool:
        return any(self._about(fact) for fact in record.facts)

    def _about(self, fact: Fact) -> bool:
        """Whether a fact may be one that the clause reads, on either side."""
        for side, role in self.roles:
            coded = side.terms.code(fact.concepts)
            if coded.readable and side.trial.set_of(role.concept_set).degree(coded, side.terms):
                return True
        return False

    # -- what moved ----------------------------------------------------------------------------
    def values(self) -> list[Decimal]:
        before, after = self.old.limits, self.new.limits
        found: dict[Decimal, None] = {}
        for name in before.keys() | after.keys():
            ends = [Decimal(x[name]) for x in (before, after) if name in x]
            if name.startswith("gap"):
                continue
            found |= dict.fromkeys([sum(ends, Decimal(0)) / len(ends), *ends])
            for end in ends:
                step = abs(end) / 10 or Decimal(1)
                found |= dict.fromkeys((end - step, end + step))
        return list(found)

    def units(self) -> list[str]:
        """Return the units that a measured term of the set is read in, on either side."""
        found: dict[str, None] = {}
        for side, role in self.roles:
            for term in sorted(side.closure(role.concept_set)):
                quantity = side.terms.quantity_of(term)
                if quantity is not None:
                    found |= dict.fromkeys((quantity.unit, *sorted(quantity.accepts)))
        return list(found)

    def factors(self) -> list[tuple[str, Decimal]]:
        """Return units with the factor by which each side reads them."""
        found: dict[tuple[str, Decimal], None] = {}
        for side, role in self.roles:
            for term in sorted(side.closure(role.concept_set)):
                quantity = side.terms.quantity_of(term)
                for unit, (factor, by) in quantity.accepts.items() if quantity else ():
                    found[unit, factor / by] = None
        return list(found)

    def moved(self, name: str) -> list[str]:
        """Return the terms and codes that moved in a set of the clause (``concept_set``,
        ``accepted``), as they are called now or were."""
        found: dict[str, None] = {}
        for one, other in self._role_pairs():
            sets = [getattr(one, name), getattr(other, name)]
            if ANY in sets:
                found |= dict.fromkeys(t for s in sets if s != ANY for t in self._members(s))
                continue
            found |= dict.fromkeys(self._turned(*sets))
        return list(found)[:40]

    def _turned(self, old: str, new: str) -> Iterator[str]:
        before = {self.c.now(t): d for t, d in self.c.old.closure(old).items()}
        after = self.c.new.closure(new)
        for term in sorted(before.keys() | after.keys()):
            if before.get(term, 0) != after.get(term, 0):
                yield term
        for code in self.c.codes:
            degrees = [
                side.trial.set_of(iri).degree(side.terms.code((code,)), side.terms)
                for side, iri in ((self.c.old, old), (self.c.new, new))
            ]
            if degrees[0] != degrees[1]:
                yield code

    def _members(self, iri: str) -> list[str]:
        for side in (self.c.new, self.c.old):
            members = sorted(side.trial.set_of(iri).members)
            if members:
                return members
        return []

    def _role_pairs(self) -> Iterator[tuple[Role, Role]]:
        for one, other in (
            (self.old.role, self.new.role),
            (self.old.second, self.new.second),
        ):
            if one is not None and other is not None:
                yield one, other

    def axes(self) -> list[tuple[str, str]]:
        """Return axes with terms on them, where qualifiers differ or by which they select."""
        found: dict[tuple[str, str], None] = {}
        for side, role in self.roles:
            if role.qualifier == ANY:
                continue
            for required in side.trial.qualifiers[role.qualifier].requires:
                for named in filter(None, (required.among, required.not_among)):
                    for term in sorted(side.closure(named))[:12]:
                        found[required.axis, term] = None
        return list(found)[:24]

    def days(self, base: Candidate) -> list[int]:
        """Return days about the edges of both windows, by the anchors of a patient."""
        found: dict[int, None] = {}
        edges: list[int] = []
        for side, clause in self.sides:
            if clause.role is None or clause.role.window not in side.trial.windows:
                continue
            prepared = _prepared(side, base)
            days = prepared and prepared.windows.get(clause.role.window)
            if days:
                edges += [d for d in (days.start_lo, days.end_hi) if 0 < d < 1_000_000]
            window = side.trial.windows[clause.role.window]
            entry = base.record.entry.last if base.record.entry else _ENTRY.last
            if window.days is not None:
                edges.append(entry - window.days)
            if window.months is not None:
                edges.append(months_before(entry, window.months))
        for day in edges:
            found |= dict.fromkeys((day, day - 1, day + 1))
        if edges:
            found[(min(edges) + max(edges)) // 2] = None
        return [d for d in found if 0 < d < 1_000_000]

    # -- patients ------------------------------------------------------------------------------
    def from_nothing(self) -> Iterator[PatientRecord]:
        """Yield patients with just what the clause asks for, and no more."""
        for side, clause in self.sides:
            if clause.role is None:
                continue
            facts = [self._fact(side, clause.role, 1, _ENTRY)]
            scope = clause.settled_by
            said = (
                [
                    Fact(
                        id=f"scope-{n}",
                        kind=str(SARC.CompletenessStatement),
                        concepts=(part,),
                        end=_ENTRY,
                        source="made",
                    )
                    for n, part in enumerate(sorted(side.terms.scope_parts.get(scope, {scope})))
                ]
                if scope
                else []
            )
            yield self._patient([*facts, *said])
            if clause.second is not None and clause.gap is not None:
                for minutes in sorted({g for _, x in self.sides for g in _gaps(x)}):
                    start, then = _moment(0), _moment(minutes)
                    pair = [
                        self._fact(side, clause.role, 1, start),
                        self._fact(side, clause.second, 2, then),
                    ]
                    yield self._patient([*pair, *said])

    def _patient(self, facts: list[Fact]) -> PatientRecord:
        return PatientRecord("urn:sarc-kb:made", "made", _ENTRY, tuple(facts), origin="made")

    def _fact(self, side: Side, role: Role, number: int, day: PartialDate) -> Fact:
        wanted = side.trial.set_of(role.concept_set)
        closure = side.closure(role.concept_set)
        sure = sorted(t for t in wanted.members if closure.get(t) == 2) or sorted(wanted.members)
        term = sure[0] if sure else role.concept_set
        quantity = side.terms.quantity_of(term)
        axes: tuple[tuple[str, str], ...] = ()
        if role.qualifier != ANY:
            axes = tuple(
                (r.axis, min(side.trial.set_of(r.among).members))
                for r in side.trial.qualifiers[role.qualifier].requires
                if r.among and side.trial.set_of(r.among).members
            )
        accepted = side.trial.set_of(role.accepted).members if role.accepted != ANY else ()
        bounds = role.bounds
        ends = [
            b
            for b in (bounds.at_least, bounds.at_most, bounds.more_than, bounds.less_than)
            if b is not None
        ]
        return Fact(
            id=f"fact-{number}",
            kind=wanted.kind,
            concepts=(term,),
            value=ends[0] if ends and quantity else None,
            unit=quantity.unit if ends and quantity else None,
            value_concepts=tuple(sorted(accepted)[:1]),
            start=day,
            end=day,
            axes=axes,
            source="made",
        )

    def varied(self, base: Candidate) -> Iterator[Candidate]:
        """Yield variants of a patient in which one fact that the clause reads is another."""
        record = base.record
        for number, fact in enumerate(record.facts):
            if not self._about(fact):
                continue
            for other in self._variants(fact, base):
                facts = (*record.facts[:number], other, *record.facts[number + 1 :])
                made = base.made if base.made.startswith("made") else f"made from {base.made}"
                yield replace(base, record=replace(record, facts=facts), made=made)

    def _variants(self, fact: Fact, base: Candidate) -> Iterator[Fact]:
        for term in self.moved("concept_set"):
            yield replace(fact, concepts=(term,))
        for term in self.moved("accepted"):
            yield replace(fact, value_concepts=(term,))
        for day in self.days(base):
            date = parse_date(iso(day))
            yield replace(fact, start=date, end=date)
        canonical = next(iter(self.units()), None)
        if canonical is not None:
            for value in self.values():
                yield replace(fact, value=value, unit=canonical, comparator=None)
            for (unit, factor), value in product(self.factors(), self.values()):
                if factor > 0 and unit != canonical:
                    shown = round(value / factor, 6)
                    yield replace(fact, value=shown, unit=unit, comparator=None)
        for axis, term in self.axes():
            others = tuple((a, t) for a, t in fact.axes if a != axis)
            yield replace(fact, axes=(*others, (axis, term)))


def _prepared(side: Side, base: Candidate) -> Prepared | None:
    part = side.trial.treatment if base.treatment else side.trial
    if part is None:
        return None
    as_of = base.as_of or (last_day(base.record) if base.treatment else None)
    try:
        return side.kb.prepare(base.record, part, as_of=as_of)
    except (InputError, EngineError):
        return None


def _gaps(clause: Clause) -> Iterator[int]:
    for minutes in clause.gap or ():
        yield from (minutes - 1, minutes, minutes + 1)


def _moment(minutes: int) -> PartialDate:
    """Return the time so many minutes after the first hour of a day, well before entry."""
    days, rest = divmod(60 + minutes, DAY)
    return parse_date(f"{iso(_ENTRY.last - 10 + days)}T{rest // 60:02}:{rest % 60:02}:00")
