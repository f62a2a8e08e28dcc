"""Generated patients: complete and eligible, with a few clauses of the trial disturbed.

What is disturbed comes from the compiled clauses (sets, windows, bounds, qualifiers, units, scopes,
questions), so that a new clause is covered as it is. Three outcomes are aimed at in turn; what a
patient really comes to is for the engines to say. Patient ``k`` of a seed is always the same.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path

from sarc_kb.assess import fold
from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.dates import PartialDate, iso, months_before, parse_date
from sarc_kb.explain import explain
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import SARC
from sarc_kb.prepare import Prepared, prepare
from sarc_kb.rules import ANY, EVER, Bounds, Clause, Derivation, Role, Trial
from sarc_kb.sources.fhir_resources.terms import FhirTerms
from sarc_kb.sources.read import ReadingTerms, read_sources
from sarc_kb.terminology import Quantity, Terminology
from sarc_kb.treatment import last_day, outcomes_at_entry, rule_outcome

ELIGIBLE = Path(__file__).resolve().parent.parent / "examples" / "eligible" / "patient.ttl"
UNMAPPED = "https://example.org/codes/local-4711"
OTHER_STUDY = "https://example.org/study/another"
INTENTS = ("pass", "fail", "open")
COURSE_SHARE = 0.15
SEED = 5602415
"""Of the patients that the tests share."""


@cache
def sarc(name: str) -> str:
    return str(SARC[name])


STATEMENT, ATTESTATION = sarc("CompletenessStatement"), sarc("Attestation")
YES, NO, NOT_KNOWN = sarc("Yes"), sarc("No"), sarc("Unknown")
SUSPECTED = sarc("Suspected")
VOID = tuple(sarc(s) for s in ("EnteredInError", "Cancelled", "NotDone", "Preliminary", "Planned"))


# -- what the engines say --------------------------------------------------------------------------
def outcomes_of(prepared: Prepared) -> dict[str, Outcome]:
    """Return the outcome of each clause (by its id) from the deciding facts."""
    return {clause.id: _outcome(prepared, clause) for clause in prepared.trial.clauses.values()}


def _outcome(prepared: Prepared, clause: Clause) -> Outcome:
    ground = explain(prepared, clause)
    if ground.refuted:
        return Outcome.FAIL
    return Outcome.UNDETERMINED if ground.unproven else Outcome.PASS


def criteria_of(prepared: Prepared, clauses: dict[str, Outcome]) -> dict[str, Outcome]:
    """Return the outcome of each criterion from the outcomes of its clauses; answers that deny a
    criterion fail it."""
    trial = prepared.trial
    by_iri = {c.iri: clauses[c.id] for c in trial.clauses.values()}
    return {
        c.id: Outcome.FAIL if prepared.denied.get(c.iri) else fold(trial, c.root, by_iri)
        for c in trial.criteria
    }


def verdict_of(criteria: dict[str, Outcome]) -> Verdict:
    worst = min(criteria.values(), key=lambda o: o.value)
    return {
        Outcome.FAIL: Verdict.INELIGIBLE,
        Outcome.UNDETERMINED: Verdict.UNDETERMINED,
        Outcome.PASS: Verdict.ELIGIBLE,
    }[worst]


def treatment_outcomes_of(prepared: Prepared, at_entry: Prepared) -> dict[str, str]:
    """Return what is told of each treatment rule."""
    trial = prepared.trial
    grounds = {iri: explain(prepared, clause) for iri, clause in trial.clauses.items()}
    outcomes = {
        iri: Outcome.FAIL if g.refuted else Outcome.UNDETERMINED if g.unproven else Outcome.PASS
        for iri, g in grounds.items()
    }
    eligibility = outcomes_at_entry(at_entry, trial.criteria)
    return {
        rule.id: rule_outcome(prepared, rule, outcomes, grounds, eligibility).value
        for rule in trial.criteria
    }


# -- dates -----------------------------------------------------------------------------------------
@cache
def day(number: int) -> PartialDate:
    return PartialDate(iso(number), number, number)


@cache
def month_of(number: int) -> PartialDate:
    return parse_date(iso(number)[:7])


@cache
def year_of(number: int) -> PartialDate:
    return parse_date(iso(number)[:4])


@cache
def moment(number: int, minute: int, zone: str = "+08:00") -> PartialDate:
    number, minute = number + minute // 1440, minute % 1440
    return parse_date(f"{iso(number)}T{minute // 60:02}:{minute % 60:02}:00{zone}")


LONG_BEFORE = 1100


# -- one patient in the making ---------------------------------------------------------------------
@dataclass
class Draft:
    rng: random.Random
    entry: int
    facts: list[Fact]
    anchors: dict[str, int] = field(default_factory=dict)
    last: int = 0
    number: int = 0

    def add(self, **values: object) -> Fact:
        self.number += 1
        name = f"made/{self.number}"
        fact = Fact(id=name, source=name, **values)  # type: ignore[arg-type]
        self.facts.append(fact)
        return fact

    def keep(self, wanted: Callable[[Fact], bool]) -> None:
        self.facts = [f for f in self.facts if wanted(f)]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share


@dataclass(frozen=True)
class Source:
    """One way in which a fact of a set comes on record."""

    concepts: tuple[str, ...]
    kind: str | None = None
    value: str | None = None
    gives: str | None = None
    from_concept: bool = False
    axis: str | None = None
    upper: bool = False


class Generator:
    """All that is worked out once for a trial and its terminology."""

    def __init__(self, trial: Trial, terms: Terminology) -> None:
        self.trial, self.terms = trial, terms
        reading = ReadingTerms(terms.axes, FhirTerms({}, {}, {}, sarc))
        (record,), problems = read_sources([ELIGIBLE], reading)
        assert not problems
        assert record.entry is not None
        self.base_entry = record.entry.first
        self.base = record.facts
        self.codes: dict[str, list[str]] = {}
        self.general: dict[str, list[str]] = {}
        for code, rows in terms.mappings.items():
            used = {p for _, p in rows}
            if used <= {"exactMatch"}:
                for term, _ in rows:
                    self.codes.setdefault(term, []).append(code)
            elif used == {"narrowMatch"}:
                for term, _ in rows:
                    self.general.setdefault(term, []).append(code)
        self.spellings: dict[str, list[str]] = {}
        for spelling, unit in sorted(terms.spellings.items()):
            self.spellings.setdefault(unit, []).append(spelling)
        self._spread: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._sources: dict[str, tuple[Source, ...]] = {}
        self._recorded: dict[str, frozenset[str]] = {}
        self.bounds: dict[str, list[Bounds]] = {}
        for clause in trial.clauses.values():
            if clause.role is not None and clause.role.bounds.used:
                for concept in trial.set_of(clause.role.concept_set).members:
                    self.bounds.setdefault(concept, []).append(clause.role.bounds)
        # Facts that a rule reads only together on one day keep one day.
        self.together = {
            t for d in trial.derivations if d.kind in ("Smallest", "Largest") for t in d.of
        }
        self.aims = [(c, i) for c in trial.clauses.values() for i in INTENTS]
        self.course_clauses = list(trial.treatment.clauses.values()) if trial.treatment else []

    # -- the rules, turned round -------------------------------------------------------------------
    def spread(self, iri: str) -> tuple[tuple[str, ...], ...]:
        """Return the terms outside, possibly in, and in a set, from its neighbourhood."""
        if iri not in self._spread:
            terms, wanted = self.terms, self.trial.set_of(iri)
            near: set[str] = set()
            for member in wanted.members:
                near |= terms.down(member) | {a for a in terms.up(member) if a.startswith(SARC)}
                for above in sorted(terms.up(member), key=lambda a: (len(terms.down(a)), a)):
                    below = terms.down(above)
                    if any(wanted.degree_of_term(t, terms) == 0 for t in below):
                        if len(below) < 500:
                            near |= below
                        break
            for excluded in wanted.excluding:
                near |= terms.down(excluded)
            graded: tuple[list[str], ...] = ([], [], [])
            for term in sorted(near):
                graded[wanted.degree_of_term(term, terms)].append(term)
            self._spread[iri] = tuple(tuple(g) for g in graded)
        return self._spread[iri]

    def sources(self, iri: str, depth: int = 0) -> tuple[Source, ...]:
        """Return how a fact of the set ``iri`` comes on record, directly or by a derivation."""
        if iri in self._sources:
            return self._sources[iri]
        terms, wanted = self.terms, self.trial.set_of(iri)
        inside = sorted(
            t for m in wanted.members for t in terms.down(m) if wanted.degree_of_term(t, terms) == 2
        )
        direct = tuple(t for t in inside if wanted.kind or terms.kind_of(t))
        found = [Source(direct, kind=wanted.kind)] if direct else []
        for rule in self.trial.derivations if depth < 3 else ():
            if rule.kind in ("UpperLimitMultiple", "Smallest", "Largest"):
                if rule.iri in inside:
                    found.append(Source(rule.of, upper=rule.kind == "UpperLimitMultiple"))
            elif rule.as_suspected:
                continue
            elif rule.kind in ("Implication", "Conversion") and rule.gives in inside:
                found += self._implied(rule, depth)
        if depth == 0:
            self._sources[iri] = tuple(found)
        return tuple(found)

    def _implied(self, rule: Derivation, depth: int) -> Iterator[Source]:
        for below in self.sources(rule.source, depth + 1):
            if below.from_concept or below.axis:
                continue
            yield Source(
                below.concepts,
                below.kind,
                rule.accepted if rule.accepted != ANY else below.value,
                rule.value if rule.kind == "Implication" else None,
                rule.value_from_concept,
                rule.value_from_axis,
            )

    def recorded(self, iri: str) -> frozenset[str]:
        """Return the concepts under which facts of the set stand in a record, derived ones too."""
        if iri not in self._recorded:
            terms = self.terms
            found = {c for s in self.sources(iri) for c in s.concepts}
            wanted = self.trial.set_of(iri)
            found |= {t for m in wanted.members for t in terms.down(m)}
            self._recorded[iri] = frozenset(
                found | {c for t in found for c in self.codes.get(t, ())}
            )
        return self._recorded[iri]

    def quantity(self, concept: str) -> Quantity | None:
        return self.terms.quantity_of(concept)

    # -- values ------------------------------------------------------------------------------------
    def number(self, d: Draft, bounds: Bounds, inside: bool, quantity: Quantity) -> Decimal:
        """Return a value in the canonical unit, often at the limit or one step beside it."""
        step = quantity.step or Decimal("0.1")
        least = quantity.least if quantity.least is not None else Decimal(0)
        low = bounds.at_least if bounds.at_least is not None else bounds.more_than
        high = bounds.at_most if bounds.at_most is not None else bounds.less_than
        at = [x for x in (low, high) if x is not None] or [least + 10 * step]
        near = [x + n * s for x in at for n in (0, 1, -1, 2, -3) for s in (step, step / 10)]
        near += [x * k for x in at for k in (Decimal("0.5"), Decimal("0.8"), Decimal("1.3"), 2)]
        near += [x + step * d.rng.randint(-30, 30) for x in at]
        whole = quantity.whole
        good = [
            v
            for v in near
            if holds(bounds, v) is inside
            and v >= least
            and (quantity.most is None or v <= quantity.most)
            and (not whole or v == v.to_integral_value())
        ]
        return d.rng.choice(good) if good else at[0]

    def written(
        self,
        d: Draft,
        value: Decimal,
        quantity: Quantity,
        bounds: Bounds | None = None,
        spelled: bool = True,
    ) -> tuple[Decimal, str | None]:
        """Return ``value`` in one of the accepted units: exactly, or, with ``bounds``, rounded on
        the same side of them; else in the canonical unit."""
        unit = quantity.unit
        if d.chance(0.5):
            unit = d.rng.choice(list(quantity.accepts))
            factor, divisor = (Fraction(x) for x in quantity.accepts[unit])
            other = value * quantity.accepts[unit][1] / quantity.accepts[unit][0]
            if Fraction(other) * factor / divisor == Fraction(value):
                value = other
            elif bounds is not None:
                near = other.quantize(Decimal("0.0001"))
                limits = exactly(bounds)
                if holds(limits, Fraction(near) * factor / divisor) is holds(bounds, value):
                    value = near
                else:
                    unit = quantity.unit
            else:
                unit = quantity.unit
        if unit == "1" and d.chance(0.3):
            return value, None
        if spelled and unit in self.spellings and d.chance(0.1):
            unit = d.rng.choice(self.spellings[unit])
        return value, unit

    # -- placing in time ---------------------------------------------------------------------------
    def window(self, d: Draft, part: Trial, iri: str) -> tuple[int | None, int | None, bool]:
        """Return first and last day of a window, None where open, and whether starts alone count."""
        if iri == EVER or iri not in part.windows:
            return None, d.last, False
        rule = part.windows[iri]
        anchor = d.anchors.get(rule.anchor, d.entry)
        end = d.anchors.get(rule.end_anchor, d.entry) if rule.end_anchor else anchor
        hi: int | None = months_before(end, rule.ends_months_before) - rule.ends_days_before
        if rule.ends_before is not None:
            before = self.window(d, part, rule.ends_before)[0]
            hi = None if before is None else before - 1
        if rule.open_end:
            hi = d.last
        lo: int | None = None
        if rule.starts_after is not None:
            after = self.window(d, part, rule.starts_after)[1]
            lo = None if after is None else after + 1
        elif rule.months is not None or rule.days is not None:
            lo = months_before(anchor, rule.months or 0) - (rule.days or 0)
        return lo, hi, rule.start_only

    def inside(self, d: Draft, part: Trial, iri: str, point: bool) -> dict[str, object]:
        """Return times that lie in the window, often at its edges; an extent unless a ``point``."""
        lo, hi, start_only = self.window(d, part, iri)
        hi = d.last if hi is None else hi
        first = hi - LONG_BEFORE if lo is None else min(lo, hi)
        at = d.rng.choice([first, hi, first, hi, first + 1, hi - 1, d.rng.randint(first, hi)])
        at = min(max(at, first), hi)
        if lo is None and at < hi - 60:
            at = hi - d.rng.randint(0, 60)
        if not point and not start_only and d.chance(0.7):
            start = first - d.rng.randint(0, 400)
            if d.chance(0.5):
                return {"start": day(start), "ongoing": True}
            return {"start": day(start), "end": day(at + (1 if start == at else 0))}
        if not point and d.chance(0.2):
            return {"start": day(at), "ongoing": True}
        if d.chance(0.1):
            when = moment(at, d.rng.randint(480, 1000))
            return {"start": when, "end": when}
        return {"start": day(at), "end": day(at)}

    def outside(self, d: Draft, part: Trial, iri: str, point: bool) -> dict[str, object]:
        """Return times one day beside the window, mostly."""
        lo, hi, start_only = self.window(d, part, iri)
        if lo is None or (hi is not None and d.chance(0.2)):
            at = (d.last if hi is None else hi) + 1
        else:
            at = lo - d.rng.choice([1, 1, 1, 2, 10])
            if not point and d.chance(0.5):
                if start_only:
                    return {"start": day(at), "ongoing": True}
                return {"start": day(at - d.rng.randint(1, 90)), "end": day(at)}
        return {"start": day(at), "end": day(at)}

    def vague(self, d: Draft, part: Trial, iri: str) -> dict[str, object]:
        """Return times that do not tell whether they lie in the window."""
        lo, hi, _ = self.window(d, part, iri)
        at = d.rng.choice([x for x in (lo, hi) if x is not None] or [d.last])
        if lo is None and hi is not None:
            # The month or year of the last day may run on past it.
            at = hi
        roll = d.rng.random()
        if roll < 0.25:
            return {}
        if roll < 0.5:
            return {"recorded": day(d.entry - d.rng.randint(0, 9))}
        when = month_of(at) if roll < 0.8 else year_of(at)
        return {"start": when, "end": when}

    # -- facts -------------------------------------------------------------------------------------
    def axes(self, d: Draft, part: Trial, qualifier: str, wanted: str) -> dict[str, str]:
        """Return what stands on the axes of a qualifier: in, out or open (silent or vague)."""
        if qualifier == ANY or qualifier not in part.qualifiers:
            return {}
        requires = part.qualifiers[qualifier].requires
        odd = d.rng.randrange(len(requires))
        found = {}
        for n, required in enumerate(requires):
            aim = wanted if n == odd else "in"
            named = required.among or required.not_among or ""
            outside, possible, inside = self.spread(named)
            among = required.among is not None
            if required.axis in self.terms.open_axes:
                value = named if (aim == "in") is among else OTHER_STUDY
                if aim != "open":
                    found[required.axis] = value
                continue
            pool = inside if (aim == "in") is among else outside
            if aim == "open":
                if not possible or d.chance(0.7):
                    continue
                pool = possible
            if pool:
                found[required.axis] = d.rng.choice(pool)
        return found

    def coded(self, d: Draft, concept: str) -> str:
        """Return the concept, or a code that is mapped to it."""
        codes = self.codes.get(concept)
        return d.rng.choice(codes) if codes and d.chance(0.25) else concept

    def make(
        self,
        d: Draft,
        part: Trial,
        role: Role,
        *,
        lies: str = "in",
        time: str = "in",
        qualifier: str = "in",
        **more: object,
    ) -> Fact | None:
        """Add one fact of ``role``; None where nothing on record leads to such a fact."""
        sources = self.sources(role.concept_set)
        if not sources:
            return None
        accepted = role.accepted if role.accepted != ANY else None
        inside = lies != "out"
        usable = [s for s in sources if self._gives(s, accepted, inside)]
        source = d.rng.choice(usable or sources)
        concepts = source.concepts
        fields: dict[str, object] = {"kind": source.kind}
        axes = self.axes(d, part, role.qualifier, qualifier)
        degree = {"in": 2, "out": 0, "general": 1}.get(lies, 2)
        if accepted is not None:
            terms = self.spread(accepted)[degree] or self.spread(accepted)[2]
            if source.from_concept:
                fitting = [c for c in concepts if c in set(terms)]
                concepts = tuple(fitting) or concepts
            elif source.axis:
                axes[source.axis] = d.rng.choice(terms)
            elif source.gives is None:
                fields["value_concepts"] = (self.coded(d, d.rng.choice(terms)),)
        if source.value is not None:
            fields["value_concepts"] = (d.rng.choice(self.spread(source.value)[2]),)
        concept = d.rng.choice(concepts)
        quantity = self.quantity(concept)
        if quantity is not None and self._measured(concept):
            fields |= self.measured(d, role.bounds, quantity, inside, source.upper)
        kind = self.terms.kind_of(concept)
        point = kind in (sarc("Measurement"), sarc("Procedure"), sarc("Consent")) or d.chance(0.2)
        place = {"in": self.inside, "out": self.outside}.get(time)
        fields |= place(d, part, role.window, point) if place else self.vague(d, part, role.window)
        fields |= more
        fields = {"concepts": (self.coded(d, concept),), **fields}
        return d.add(axes=tuple(sorted(axes.items())), **fields)

    def _gives(self, source: Source, accepted: str | None, inside: bool) -> bool:
        if accepted is None or source.gives is None:
            return True
        return (self.trial.set_of(accepted).degree_of_term(source.gives, self.terms) == 2) is inside

    def _measured(self, concept: str) -> bool:
        return self.terms.kind_of(concept) in (sarc("Measurement"), sarc("Procedure"))

    def measured(
        self, d: Draft, bounds: Bounds, quantity: Quantity, inside: bool, upper: bool
    ) -> dict[str, object]:
        if not upper:
            value = self.number(d, bounds, inside, quantity)
            value, unit = self.written(d, value, quantity, bounds)
            return {"value": value, "unit": unit}
        limit = d.rng.choice([Decimal(x) for x in ("1.2", "10", "13.5", "17.1", "21", "40", "35")])
        ratio = Quantity("1", {}, Decimal("0.01"), Decimal(20), step=Decimal("0.01"))
        times = self.number(d, bounds, inside, ratio)
        value = times * limit
        least, most = quantity.least or Decimal(0), quantity.most or Decimal(10000)
        value = min(max(value, least), most)
        written, unit = self.written(d, value, quantity, spelled=False)
        if unit == quantity.unit or unit is None:
            return {"value": written, "unit": unit, "upper_limit": limit}
        if d.chance(0.5):
            return {
                "value": written,
                "unit": unit,
                "upper_limit": limit,
                "upper_limit_unit": quantity.unit,
            }
        factor, divisor = quantity.accepts[unit]
        other = limit * divisor / factor
        exact = Fraction(other) == Fraction(limit) * Fraction(divisor) / Fraction(factor)
        if exact:
            return {"value": written, "unit": unit, "upper_limit": other}
        return {"value": value, "unit": quantity.unit, "upper_limit": limit}

    # -- clauses -----------------------------------------------------------------------------------
    def disturb(self, d: Draft, part: Trial, clause: Clause, intent: str) -> None:
        if clause.attestable and part is self.trial and d.chance(0.15):
            self.asked(d, part, clause, intent)
        else:
            {
                "attested": self.asked,
                "latest": self.latest,
                "some": self.some,
                "none": self.none,
                "noPair": self.pair,
                "eachHas": self.pair,
            }[clause.component](d, part, clause, intent)

    def asked(self, d: Draft, part: Trial, clause: Clause, intent: str) -> None:
        """Answers about the clause: its questions, or the clause itself."""
        criterion = next(c for c in part.criteria if clause.iri in c.clauses)
        kind_yes = YES if criterion.kind == "inclusion" else NO
        ways = [(q.iri, q.clearing) for q in part.questions if clause.iri in q.covers]
        if clause.component == "attested":
            d.keep(lambda f: f.kind != ATTESTATION or not any(w in f.concepts for w, _ in ways))
        ways.append((clause.iri, kind_yes))
        # A question about several clauses does not say which of them it denies.
        own = clause.component == "attested" or intent == "fail"
        subject, clearing = ways[-1] if own and d.chance(0.5) else d.rng.choice(ways)
        denying = NO if clearing == YES else YES
        on = d.entry - d.rng.choice([0, 0, 1, 3, 40])

        def say(answer: str, when: int | None, **more: object) -> None:
            at = None if when is None else day(when)
            fields = {
                "performer": "investigator",
                "value_concepts": (answer,),
                "start": at,
                "end": at,
            } | more
            d.add(kind=ATTESTATION, concepts=(subject,), **fields)

        if intent == "pass":
            say(clearing, on)
            if d.chance(0.3):
                say(denying, on - 5)
        elif intent == "fail":
            say(denying, on)
            if d.chance(0.3):
                say(clearing, on - 5, performer=None)
        else:
            roll = d.rng.randrange(7)
            if roll == 0:
                say(NOT_KNOWN, on)
            elif roll == 1:
                say(clearing, on)
                say(denying, on)
            elif roll == 2:
                say(clearing, None)
            elif roll == 3:
                say(clearing, d.entry + 1)
            elif roll == 4:
                say(clearing, on, status=SUSPECTED)
            elif roll == 5:
                say(denying, on, status=d.rng.choice(VOID))
            # else nobody said anything

    def forget(self, d: Draft, iri: str, *, direct: bool = False) -> None:
        """Take the facts of a set out of the record."""
        gone = self.recorded(iri)
        if direct:
            gone = frozenset(t for m in self.trial.set_of(iri).members for t in self.terms.down(m))
            gone |= {c for s in self.sources(iri) if s.upper for c in s.concepts}
        d.keep(lambda f: not any(c in gone for c in f.concepts))

    def settle(self, d: Draft, part: Trial, clause: Clause, *, how: str) -> None:
        """Say that the clause's scope is complete, or take what is said away, or cut it short."""
        scope = clause.settled_by
        if scope is None:
            return
        scopes = {scope, *self.terms.scope_parts.get(scope, ())}
        assert clause.role is not None
        lo, hi, _ = self.window(d, part, clause.role.window)
        end = d.last if hi is None else min(hi, d.last)
        known = scope in self.terms.scope_kinds or bool(self.terms.scope_parts.get(scope))
        if how == "complete":
            if not known:
                return  # not a scope of the vocabulary: only facts amount to it
            start = None
            if lo is not None and d.chance(0.3):
                start = day(lo - d.rng.choice([0, 1, 30]))
            until = day(end + d.rng.choice([0, 0, 1]))
            if start is until:
                start = None
            d.add(kind=STATEMENT, concepts=(scope,), start=start, end=until)
            return
        if not known:
            for rule in part.derivations:
                if rule.kind == "Settling" and scope in rule.settles:
                    self.forget(d, rule.source)
        if how == "none":
            d.keep(lambda f: f.kind != STATEMENT or not scopes & set(f.concepts))
            for rule in part.derivations:
                if rule.kind == "Settling" and (scopes | {clause.role.concept_set}) & set(
                    rule.settles
                ):
                    self.forget(d, rule.source)
            return
        tolerance = part.statement_tolerance
        short = end - tolerance - d.rng.choice([1, 1, 5, 40])
        late = (lo + 1) if lo is not None else d.entry - 400
        ends_early = d.chance(0.6)
        for number, fact in enumerate(d.facts):
            if fact.kind == STATEMENT and scopes & set(fact.concepts):
                d.facts[number] = (
                    replace(fact, start=None, end=day(short))
                    if ends_early
                    else replace(fact, start=day(late), end=day(max(end, late) + 1))
                )

    def unreadable(self, d: Draft, part: Trial, role: Role) -> None:
        """A newest result that decides nothing."""
        ways: list[Callable[[], object]] = []
        numeric = role.bounds.used

        def bad(**more: object) -> Callable[[], object]:
            return lambda: self.make(d, part, role, lies=d.rng.choice(["in", "out"]), **more)

        if numeric:
            ways += [
                bad(unit="furlong"),
                bad(unit=d.rng.choice([None, "mol/L", "kg/s", "[iU]"])),
                bad(value=None, value_text="see report"),
                bad(value=None),
                bad(value=Decimal(10) ** 9),
                lambda: self.compared(d, part, role),
                lambda: self.compared(d, part, role),
                bad(upper_limit=None),
                bad(upper_limit_unit="furlong"),
            ]
        if role.accepted != ANY:
            ways += [
                bad(value_concepts=(UNMAPPED,)),
                bad(value_concepts=()),
                lambda: self.make(d, part, role, lies="general"),
                lambda: self.make(d, part, role, lies="general"),
            ]
        if role.qualifier != ANY:
            ways.append(lambda: self.make(d, part, role, qualifier="open"))
        ways.append(bad(status=SUSPECTED))
        d.rng.choice(ways)()

    def compared(self, d: Draft, part: Trial, role: Role) -> None:
        fact = self.make(d, part, role, lies=d.rng.choice(["in", "out"]))
        if fact is not None and fact.value is not None:
            d.facts[-1] = replace(fact, comparator=d.rng.choice(["<", "<=", ">", ">="]))

    def latest(self, d: Draft, part: Trial, clause: Clause, intent: str) -> None:
        role = clause.role
        assert role is not None
        interval = next(
            (
                r
                for r in part.derivations
                if r.kind == "Interval" and r.iri in part.set_of(role.concept_set).members
            ),
            None,
        )
        if interval is not None:
            self.between(d, part, role, interval, intent)
            return
        if intent != "open":
            value = "in" if intent == "pass" else "out"
            if d.chance(0.6):
                self.forget(d, role.concept_set, direct=True)
                self.make(d, part, role, lies=value)
                if d.chance(0.2):
                    self.make(d, part, role, time="out", lies="out" if value == "in" else "in")
                if d.chance(0.2):
                    self.make(d, part, role, lies="out", status=d.rng.choice(VOID))
            else:
                # The newest decides, whatever stood before.
                on = day(d.entry if part is self.trial else d.last)
                self.make(d, part, role, lies=value, start=on, end=on)
            self.aid(d, part, role, value)
            return
        roll = d.rng.randrange(8)
        if roll <= 1:
            self.forget(d, role.concept_set)
            if d.chance(0.3):
                self.make(d, part, role, concepts=(UNMAPPED,), kind=sarc("Measurement"))
        elif roll == 2:
            self.forget(d, role.concept_set)
            self.make(d, part, role, time="out", lies=d.rng.choice(["in", "out"]))
        elif roll == 3:
            self.forget(d, role.concept_set)
            self.make(d, part, role, time="vague")
        elif roll == 4:
            # Results of one day, or one without a date beside others, that contradict.
            when = self.inside(d, part, role.window, True)
            self.forget(d, role.concept_set, direct=True)
            for value in d.rng.sample(["in", "out"], 2):
                self.make(d, part, role, lies=value, **when)
                if d.chance(0.3):
                    when = {"start": None, "end": None}
        else:
            self.forget(d, role.concept_set, direct=roll != 5)
            self.unreadable(d, part, role)

    def aid(self, d: Draft, part: Trial, role: Role, value: str) -> None:
        """Give what a formula needs beside what is on record."""
        wanted = part.set_of(role.concept_set)
        for rule in part.derivations:
            if rule.kind != "CockcroftGault" or not d.chance(0.5):
                continue
            if wanted.degree_of_term(rule.iri, self.terms) != 2:
                continue
            self.forget(d, role.concept_set)
            for _, concept in rule.inputs:
                quantity = self.quantity(concept)
                if quantity is not None and not any(concept in f.concepts for f in d.facts):
                    heavy = d.rng.randint(70, 130) if value == "in" else d.rng.randint(25, 45)
                    when = day(d.entry - d.rng.randint(10, 60))
                    written, unit = self.written(d, Decimal(heavy), quantity)
                    d.add(concepts=(concept,), value=written, unit=unit, start=when, end=when)

    def between(self, d: Draft, part: Trial, role: Role, rule: Derivation, intent: str) -> None:
        """Move the day from which a span of time counts, about the limit of the span."""
        first = next((s for s in part.anchors.get(rule.from_anchor or "", ()) if s.targets), None)
        if first is None or first.targets[0] not in self.terms.ancestors:
            return
        concept = first.targets[0]
        at = [i for i, f in enumerate(d.facts) if concept in f.concepts]
        if not at:
            return
        fact = d.facts[at[0]]
        bound = role.bounds.at_least if role.bounds.at_least is not None else role.bounds.more_than
        years = int(bound) if bound is not None else 0
        to = d.anchors.get(rule.to_anchor or "", d.entry)
        targets = {t for s in part.anchors.get(rule.to_anchor or "", ()) for t in s.targets}
        other = next((f for f in d.facts if set(f.concepts) & targets and f.start), None)
        if other is not None and other.start is not None:
            to = other.start.first
        if rule.measured_in == sarc("CompletedYears"):
            edge = months_before(to, 12 * years)
            days = [edge - n for n in (0, 1, 40, 9000)], [edge + n for n in (1, 2, 300)]
        else:
            # Minutes: the day decides unless both lie on one.
            days = [to - n for n in (1, 1, 2, 20)], [to + n for n in (1, 1, 2)]
        if intent == "open":
            roll = d.rng.randrange(4)
            if roll == 0:
                d.keep(lambda f: concept not in f.concepts)
            elif roll == 1:
                when = month_of(days[0][0] if years else to)
                d.facts[at[0]] = replace(fact, start=when, end=when)
            elif roll == 2 and years:
                when, late = day(days[0][0]), day(days[1][0])
                d.facts[at[0]] = replace(fact, start=when, end=when)
                d.facts.append(replace(fact, id="second", source="second", start=late, end=late))
            else:
                when = year_of(days[0][0]) if years else day(to)
                d.facts[at[0]] = replace(fact, start=when, end=when)
            return
        number = d.rng.choice(days[0] if intent == "pass" else days[1])
        when = day(number)
        if not years and other is not None and d.chance(0.3):
            # One day, told apart by the minute.
            minute = d.rng.randint(400, 1000)
            late = moment(to, minute)
            d.facts[d.facts.index(other)] = replace(other, start=late, end=late)
            when = moment(to, minute - 1 if intent == "pass" else minute + d.rng.randint(0, 2))
        d.facts[at[0]] = replace(fact, start=when, end=when)

    def some(self, d: Draft, part: Trial, clause: Clause, intent: str) -> None:
        role = clause.role
        assert role is not None
        if intent == "pass":
            self.make(d, part, role)
            return
        self.forget(d, role.concept_set, direct=d.chance(0.2))
        if intent == "fail":
            self.settle(d, part, clause, how="complete")
            if d.chance(0.5):
                self.make(d, part, role, time="out")
            if role.qualifier != ANY and d.chance(0.5):
                self.make(d, part, role, qualifier="out")
            return
        self.possible(d, part, clause)

    def possible(self, d: Draft, part: Trial, clause: Clause) -> None:
        """What leaves a clause on silence open: no statement, or a fact that may be one."""
        role = clause.role
        assert role is not None
        roll = d.rng.randrange(9)
        if roll <= 2:
            self.settle(d, part, clause, how="none")
        elif roll == 3:
            self.settle(d, part, clause, how="short")
        elif roll == 4:
            self.make(d, part, role, status=SUSPECTED)
        elif roll == 5:
            self.make(d, part, role, time="vague")
        elif roll == 6 and role.qualifier != ANY:
            self.make(d, part, role, qualifier="open")
        elif roll == 7:
            self.broad(d, part, role)
        else:
            concept = next((c for s in self.sources(role.concept_set) for c in s.concepts), "")
            kind = self.terms.kind_of(concept)
            self.make(d, part, role, concepts=(UNMAPPED,), kind=kind)

    def broad(self, d: Draft, part: Trial, role: Role) -> None:
        """A code that is more general than the set."""
        _, possible, inside = self.spread(role.concept_set)
        codes = [c for t in inside for c in self.general.get(t, ())]
        if possible and (not codes or d.chance(0.5)):
            codes = [t for t in possible if self.terms.kind_of(t)] or codes
        if codes:
            self.make(d, part, role, concepts=(d.rng.choice(codes),))
        else:
            self.make(d, part, role, status=SUSPECTED)

    def none(self, d: Draft, part: Trial, clause: Clause, intent: str) -> None:
        role = clause.role
        assert role is not None
        bounded = role.bounds.used
        if intent == "fail":
            fact = self.make(d, part, role)
            if fact is not None and d.chance(0.1):
                self.settle(d, part, clause, how="none")
            return
        if intent == "open":
            if bounded and d.chance(0.4):
                self.unreadable(d, part, role)
            else:
                self.possible(d, part, clause)
            return
        self.settle(d, part, clause, how="complete")
        if d.chance(0.4):
            self.make(d, part, role, time="out")
        if d.chance(0.3):
            self.make(d, part, role, status=d.rng.choice(VOID))
        if d.chance(0.2):
            self.make(d, part, role, status=sarc("Refuted"))
        if role.qualifier != ANY and d.chance(0.4):
            self.make(d, part, role, qualifier="out")
        if bounded and d.chance(0.5):
            self.make(d, part, role, lies="out")

    def pair(self, d: Draft, part: Trial, clause: Clause, intent: str) -> None:
        """Two facts about the gap that the clause asks for; times to the minute."""
        role, second = clause.role, clause.second
        assert role is not None
        assert second is not None
        assert clause.gap is not None
        if not self.sources(role.concept_set) or not self.sources(second.concept_set):
            return
        far = clause.gap[1] if clause.gap[1] < 10 * 1440 else 2880
        breaks = clause.component == "noPair"
        if d.chance(0.7):
            self.settle(d, part, clause, how="complete")
        if d.chance(0.7):
            self.forget(d, role.concept_set)
        if intent == "open" and d.chance(0.3):
            self.possible(d, part, clause)
            return
        lo, hi, _ = self.window(d, part, role.window)
        hi = d.last if hi is None else hi
        start = d.rng.randint(hi - 10 if lo is None else lo, hi - 3)
        minute = d.rng.randint(300, 1200)
        one = moment(start, minute)
        if intent == "open":
            self.make(d, part, role, start=one, end=one)
            roll = d.rng.randrange(5)
            if roll == 0:
                # The next day, without a time: may be within the gap.
                on = day(start + 1)
                self.make(d, part, second, start=on, end=on)
            elif roll == 1:
                self.make(d, part, second, status=SUSPECTED, start=one, end=one)
            elif roll == 2:
                on = month_of(start)
                self.make(d, part, second, start=on, end=on)
            elif roll == 3:
                self.make(d, part, role, start=None, end=None)
            return
        within = (intent == "fail") is breaks
        gap = d.rng.choice([1, far // 2, far - 1, far] if within else [far + 1, far + 5, 0])
        two = moment(start, minute + gap)
        which = second
        alone = not within and d.chance(0.3)
        if intent == "pass" and d.chance(0.3):
            # None at all beyond the limit.
            self.make(d, part, role, lies="out", start=one, end=one)
            return
        self.make(d, part, role, start=one, end=one)
        if not alone:
            self.make(d, part, which, start=two, end=two)

    # -- the patient -------------------------------------------------------------------------------
    def patient(self, seed: int, number: int) -> PatientRecord:
        """Return patient ``number`` of ``seed``."""
        rng = random.Random(f"{seed}/{number}")
        d = self.well(rng)
        if rng.random() < COURSE_SHARE and self.trial.treatment is not None:
            self.treat(d)
        d.last = d.entry
        roll = rng.random()
        count = 0 if roll < 0.1 else rng.randint(1, 3) if roll < 0.3 else rng.randint(4, 14)
        for _ in range(count):
            clause, intent = rng.choice(self.aims)
            self.disturb(d, self.trial, clause, "pass" if roll < 0.18 else intent)
        if rng.random() < 0.5:
            self.vary(d)
        facts = d.facts
        if rng.random() < 0.2:
            rng.shuffle(facts)
        name = f"generated-{seed}-{number}"
        return PatientRecord(
            f"https://example.org/patient/{name}", name, day(d.entry), tuple(facts), "generated"
        )

    def well(self, rng: random.Random) -> Draft:
        """Return a complete eligible patient, as the example has it, moved and varied."""
        entry = self.base_entry + rng.randint(-700, 700)
        if rng.random() < 0.15:
            year = 2022 + rng.randrange(4)
            text = rng.choice([f"{year}-03-31", f"{year}-08-31", "2024-02-29", f"{year}-03-01"])
            entry = parse_date(text).first
        d = Draft(rng, entry, [])
        earlier = rng.randint(0, 3)
        histology = rng.choice(self._histologies())
        sites = self.spread(str(self.trial.clause_by_id("I02").role.accepted))[2]  # type: ignore[union-attr]
        site = rng.choice([s for s in sites if s != sarc("AnatomicalSite")])
        male = rng.random() < 0.4
        body, subject = sarc("bodySite"), sarc("Leiomyosarcoma")
        for fact in self.base:
            if male and sarc("ChildbearingPotential") in fact.concepts:
                continue
            changed = self._moved(d, fact, earlier)
            if subject in fact.concepts:
                axes = tuple((a, site if a == body else v) for a, v in fact.axes)
                changed["concepts"], changed["axes"] = (histology,), axes
            elif subject in fact.value_concepts:
                changed["value_concepts"] = (histology,)
            elif male and sarc("Sex") in fact.concepts:
                changed["value_concepts"] = (sarc("Male"),)
            if fact.value is not None:
                changed["value"] = self._varied(d, fact)
            d.facts.append(replace(fact, **changed))  # type: ignore[arg-type]
        return d

    def _histologies(self) -> tuple[str, ...]:
        roles = [
            c.role.accepted
            for c in self.trial.clauses.values()
            if c.role is not None
            and c.role.accepted != ANY
            and c.role.concept_set == sarc("Histology")
        ]
        key = "histologies of " + " ".join(roles)
        if key not in self._spread:
            fit = set.intersection(*(set(self.spread(r)[2]) for r in roles))
            self._spread[key] = (tuple(sorted(t for t in fit if len(self.terms.down(t)) < 8)),)
        return self._spread[key][0]

    def _moved(self, d: Draft, fact: Fact, earlier: int) -> dict[str, object]:
        shift = d.entry - self.base_entry
        changed: dict[str, object] = {}
        back = 0
        if sarc("Birth") in fact.concepts:
            shift += d.rng.randint(-8000, 14000)
        elif fact.kind is None and fact.start is not None and fact.start.first < self.base_entry:
            back = earlier
            if not self.together & set(fact.concepts):
                back += d.rng.randint(0, 1)
        start = fact.start
        if start is not None:
            number = start.first + shift - back
            start = day(number) if start.minute is None else moment(number, start.minute)
            changed["start"] = start
        if fact.end is not None:
            changed["end"] = start if fact.end is fact.start else day(fact.end.first + shift)
        return changed

    def _varied(self, d: Draft, fact: Fact) -> Decimal:
        """Return another value of the fact that is inside the bounds of every clause on it."""
        assert fact.value is not None
        concept = fact.concepts[0]
        quantity = self.quantity(concept)
        if quantity is None or quantity.whole:
            return fact.value
        factor = Decimal(d.rng.randint(85, 125)) / 100
        value = (fact.value * factor).quantize(quantity.step or Decimal("0.1"))
        good = all(holds(b, value) for b in self.bounds.get(concept, ()))
        if not good or (fact.upper_limit is not None and value > fact.upper_limit):
            return fact.value
        return value

    def vary(self, d: Draft) -> None:
        """What happens to any record: other units, codes, times, void and unrelated facts."""
        rng = d.rng
        gone: set[int] = set()
        for number in rng.sample(range(len(d.facts)), min(4, len(d.facts))):
            fact = d.facts[number]
            concept = fact.concepts[0] if fact.concepts else ""
            quantity = self.quantity(concept)
            roll = rng.random()
            if roll < 0.4:
                if (
                    quantity is not None
                    and fact.value is not None
                    and fact.unit == quantity.unit
                    and fact.upper_limit is None
                ):
                    value, unit = self.written(d, fact.value, quantity)
                    d.facts[number] = replace(fact, value=value, unit=unit)
            elif roll < 0.6:
                d.facts[number] = replace(fact, concepts=(self.coded(d, concept),))
            elif roll < 0.7:
                d.facts.append(
                    replace(
                        fact,
                        id=f"void/{number}",
                        source=f"void/{number}",
                        status=rng.choice(VOID),
                        value=None if fact.value is None else fact.value * 3,
                    )
                )
            elif roll < 0.8:
                d.facts[number] = replace(fact, status=sarc("Confirmed"))
            elif roll < 0.85:
                d.facts[number] = replace(fact, status=rng.choice([SUSPECTED, *VOID]))
            elif roll < 0.88:
                gone.add(number)
            elif roll < 0.9:
                # A value of the same day and, often, the same words.
                d.facts.append(replace(fact, id=f"again/{number}", source=f"again/{number}"))
        d.facts = [f for n, f in enumerate(d.facts) if n not in gone]
        if rng.random() < 0.08:
            self.second_tumour(d)
        if rng.random() < 0.08:
            when = day(d.entry + rng.randint(0, 40))
            d.add(
                kind=sarc("Plan"), concepts=(sarc("PlannedTreatmentStart"),), start=when, end=when
            )
        if rng.random() < 0.08:
            when = day(d.entry - rng.randint(1, 40))
            d.add(concepts=(sarc("TumourResection"),), start=when, end=when)

    def second_tumour(self, d: Draft) -> None:
        """Another cancer beside the first; now and then nobody says which is the index tumour."""
        described = self.trial.index_rules[0]
        axis, unmarked = described.axis, d.chance(0.5)
        for number, fact in enumerate(d.facts):
            if any(a == axis for a, _ in fact.axes):
                axes = tuple(p for p in fact.axes if p[0] != axis) if unmarked else fact.axes
                d.facts[number] = replace(fact, tumour="first", axes=axes)
        _, _, cancers = self.spread(sarc("MalignantNeoplasm"))
        when = day(d.entry - d.rng.randint(1, 2000))
        d.add(concepts=(d.rng.choice(cancers),), tumour="second", start=when, ongoing=True)

    # -- treatment ---------------------------------------------------------------------------------
    def treat(self, d: Draft) -> None:
        """Add a course of treatment, mostly with a few things wrong."""
        rng = d.rng
        c = Course(rng)
        faults = 0 if rng.random() < 0.15 else rng.randint(1, 4)
        for name in rng.sample(sorted(FAULTS), faults):
            FAULTS[name](c)
        surgery = d.entry + rng.randint(1, 30) if c.after_entry else d.entry - rng.randint(1, 28)
        d.facts += c.facts(surgery)
        day_one = surgery + c.wait
        dates = [
            x.last
            for f in d.facts
            if f.status not in VOID
            for x in (f.start, f.end)
            if x is not None
        ]
        ends = surgery + c.radiated + 44
        trial = self.trial.iri
        for anchor, at in (
            ("index-resection", surgery),
            ("treatment-start", surgery),
            ("first-anlotinib", day_one),
            ("anlotinib-start", day_one),
            ("last-anlotinib", day_one + 82),
            ("first-radiotherapy", surgery + c.radiated),
            ("radiotherapy-end", ends),
        ):
            d.anchors[f"{trial.rsplit('/', 1)[0]}/{anchor}"] = at
        d.last = max(dates)
        d.anchors[sarc("AsOf")] = d.last
        part = self.trial.treatment
        assert part is not None
        for _ in range(rng.choice([0, 0, 1, 2, 3])):
            clause = rng.choice(self.course_clauses)
            self.disturb(d, part, clause, rng.choice(INTENTS))
        d.anchors.clear()


def exactly(bounds: Bounds) -> Bounds:
    """Return bounds that a fraction can be held against."""
    sides = (bounds.at_least, bounds.more_than, bounds.at_most, bounds.less_than)
    return Bounds(*(None if b is None else Fraction(b) for b in sides))  # type: ignore[arg-type]


def holds(bounds: Bounds, value: Decimal | Fraction) -> bool:
    """Whether a plain number lies inside bounds."""
    return (
        (bounds.at_least is None or value >= bounds.at_least)
        and (bounds.more_than is None or value > bounds.more_than)
        and (bounds.at_most is None or value <= bounds.at_most)
        and (bounds.less_than is None or value < bounds.less_than)
    )


class Course:
    """A course of anlotinib and radiotherapy that keeps to the protocol until something is done
    to it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wait = rng.randint(21, 28)
        self.weeks = rng.random() < 0.5
        self.margin, least, most = rng.choice([("R0", 0, 0), ("R1", 10, 16), ("R2", 16, 18)])
        self.boost: Decimal | None = Decimal(rng.randint(10 * least, 10 * most)) / 10
        reduced = rng.choice([0, 0, 1, 2])
        on = (22, 43) if self.weeks else (20, 41)
        self.steps = list(zip(on, (10, 8), strict=True))[:reduced]
        self.first_dose = 12
        self.technique: str | None = rng.choice(["IMRT", "IMRT", "VMAT"])
        self.radiated = rng.randint(20, 60)
        self.fractions, self.size = 25, Decimal("2.0")
        self.single_fractions = rng.random() < 0.2
        self.skipped: set[int] = set()
        self.added: dict[int, int] = {}
        self.twice: set[int] = set()
        self.triggers: str | None = "severe"
        self.after_entry = rng.random() < 0.85
        self.marked = rng.random() < 0.5
        self.about_index = rng.random() < 0.9
        self.lost: set[str] = set()
        if rng.random() < 0.15:
            self.lost |= {"DosingRecord", "FollowUpRecord"}
        self.route: str | None = "OralRoute"
        self.changes: list[Callable[[list[Fact], Course, int], list[Fact]]] = []
        self.events: list[tuple[str, int, dict[str, str]]] = []
        self.until = rng.randint(-15, 60) if rng.random() < 0.22 else None

    def dose(self, number: int) -> int:
        return next((x for n, x in reversed(self.steps) if n <= number), self.first_dose)

    def planned(self) -> list[tuple[int, int]]:
        on = [n for n in range(1, 85) if ((n - 1) % 21 < 14 if self.weeks else n % 3)]
        doses = {n: self.dose(n) for n in on if n not in self.skipped} | self.added
        return [p for p in sorted(doses.items()) for _ in range(2 if p[0] in self.twice else 1)]

    def facts(self, surgery: int) -> list[Fact]:
        one = surgery + self.wait - 1
        start = surgery + self.radiated
        ended = start + 44
        role = {"resectionRole": "IndexResection"} if self.marked else {}
        if self.about_index:
            role["subject"] = "IndexTumour"
        technique = {} if self.technique is None else {"technique": self.technique}
        found = [
            made("TumourResection", surgery, **role),
            made("SurgicalMargin", surgery + 4, coded=f"Margin{self.margin}", **role),
            made("PostoperativeRadiotherapy", start, ended, **technique),
        ]
        if self.single_fractions:
            for n in range(self.fractions):
                on = start + n // 5 * 7 + n % 5
                found.append(
                    made(
                        "RadiotherapyFraction", on, value=self.size, unit="Gy", volume="BaseVolume"
                    )
                )
            boosts = int((self.boost or 0) / 2)
            for n in range(boosts):
                on = start + 35 + n
                found.append(
                    made("RadiotherapyFraction", on, value=2, unit="Gy", volume="BoostVolume")
                )
        else:
            found += [
                made("BaseDose", ended, value=self.fractions * self.size, unit="Gy"),
                made("BaseFractions", ended, value=self.fractions, unit="1"),
                made("BaseDosePerFraction", ended, value=self.size, unit="Gy"),
            ]
            if self.boost is not None:
                found.append(made("BoostDose", ended, value=self.boost, unit="Gy"))
        route = {} if self.route is None else {"route": self.route}
        for n, amount in self.planned():
            found.append(made("Anlotinib", one + n, value=amount, unit="mg", **route))
        if self.triggers is not None:
            graded = {
                "severe": ("ToxicityGrade3", {"relatedTo": "RelatedToTreatment"}),
                "moderate": (
                    "ToxicityGrade2",
                    {"tolerability": "Intolerable", "supportiveCare": "MaximumSupportiveCare"},
                ),
                "vague": ("ToxicityGrade3", {}),
                "unrelated": ("ToxicityGrade3", {"relatedTo": "NotRelatedToTreatment"}),
            }
            coded, axes = graded[self.triggers]
            for n, _ in self.steps:
                found.append(made("ToxicityEvent", one + n - 1, coded=coded, **axes))
        for name, n, axes in self.events:
            found.append(made(name, one + n, **axes))
        end = max(one + 110, ended)
        for scope in (
            "DosingRecord",
            "AdverseEventRecord",
            "FollowUpRecord",
            "RadiotherapyRecord",
            "ProcedureHistory",
        ):
            if scope not in self.lost:
                found.append(Fact(id="", kind=STATEMENT, concepts=(sarc(scope),), end=day(end)))
        for change in self.changes:
            found = change(found, self, one)
        if self.until is not None:
            # In progress: nothing is known after a day.
            last = one + self.until
            found = [f for f in found if f.start is None or f.start.first <= last]
            found = [
                replace(f, end=day(last))
                if f.end is not None and f.end is not f.start and f.end.first > last
                else f
                for f in found
            ]
        return [replace(f, id=f"course/{n}", source=f"course/{n}") for n, f in enumerate(found)]


def made(
    name: str,
    start: int,
    end: int | None = None,
    value: Decimal | int | None = None,
    unit: str | None = None,
    coded: str | None = None,
    **axes: str,
) -> Fact:
    first = day(start)
    return Fact(
        id="",
        concepts=(sarc(name),),
        value=None if value is None else Decimal(value),
        unit=unit,
        value_concepts=() if coded is None else (sarc(coded),),
        start=first,
        end=first if end is None else day(end),
        axes=tuple((sarc(a), sarc(v)) for a, v in sorted(axes.items())),
    )


def _one(name: str, change: Callable[[random.Random, Fact], Fact]) -> Callable[[Course], None]:
    """Change one fact of a concept."""

    def apply(found: list[Fact], course: Course, one: int) -> list[Fact]:
        at = [n for n, f in enumerate(found) if sarc(name) in f.concepts and f.kind is None]
        if at:
            number = course.rng.choice([at[0], at[-1], course.rng.choice(at)])
            found[number] = change(course.rng, found[number])
        return found

    return lambda course: course.changes.append(apply)


def _without(name: str) -> Callable[[Course], None]:
    return lambda course: course.changes.append(
        lambda found, _course, _one: [f for f in found if sarc(name) not in f.concepts]
    )


def _at(when: PartialDate) -> dict[str, PartialDate]:
    return {"start": when, "end": when}


def _set(**values: Callable[[Course], object]) -> Callable[[Course], None]:
    def apply(course: Course) -> None:
        for name, value in values.items():
            setattr(course, name, value(course))

    return apply


def _stopped(course: Course) -> None:
    rng = course.rng
    last = rng.randint(10, 70)
    course.skipped |= set(range(last + 1, 85))
    if rng.random() < 0.6:
        names = (
            "DiseaseProgression",
            "UnacceptableToxicity",
            "Death",
            "TreatmentConsentWithdrawal",
        )
        course.events.append((rng.choice(names), last + rng.choice([-3, -1, 0, 1]), {}))


def _event(course: Course) -> None:
    names = ("DiseaseProgression", "UnacceptableToxicity", "Death", "TreatmentConsentWithdrawal")
    course.events.append((course.rng.choice(names), course.rng.randint(5, 90), {}))


def _not_tolerated(course: Course) -> None:
    course.steps = [(22, 10), (43, 8)]
    on = course.rng.randint(44, 70)
    if course.rng.random() < 0.6:
        course.changes.append(
            lambda found, _course, one: [
                *found,
                made("DoseNotTolerated", one + on, value=8, unit="mg"),
            ]
        )
    else:
        course.events.append(("ToxicityEvent", on, {"tolerability": "Intolerable"}))


def _ladder(course: Course) -> None:
    rng = course.rng
    walk = rng.choice(
        [
            ((22, 8),),
            ((22, 10), (43, 12)),
            ((22, 10), (43, 9)),
            ((22, 10), (43, 9)),
            ((22, 10), (43, 7)),
            ((22, 11),),
            ((22, 9), (43, 8)),
            ((22, 10), (43, 8), (64, 10)),
        ]
    )
    course.steps = list(walk)


def _lose(course: Course) -> None:
    names = ("DosingRecord", "AdverseEventRecord", "FollowUpRecord", "RadiotherapyRecord")
    course.lost |= set(course.rng.sample(names, course.rng.randint(1, 3)))
    if course.rng.random() < 0.4:
        course.lost |= {"ProcedureHistory", "DosingRecord"}


def _periods(course: Course) -> None:
    """The doses told as one use over weeks."""

    def apply(found: list[Fact], course: Course, one: int) -> list[Fact]:
        doses = [f for f in found if sarc("Anlotinib") in f.concepts]
        if not doses:
            return found
        rest = [f for f in found if sarc("Anlotinib") not in f.concepts]
        whole = replace(doses[0], end=course.rng.choice([doses[-1].end, None]))
        if course.rng.random() < 0.4:
            whole = replace(whole, value=None, unit=None)
        return [*rest, whole]

    course.changes.append(apply)


def _gap(course: Course) -> None:
    """A week of single fractions is left out."""
    course.single_fractions = True
    week = course.rng.randint(1, 3)

    def apply(found: list[Fact], course: Course, one: int) -> list[Fact]:
        at = [n for n, f in enumerate(found) if sarc("RadiotherapyFraction") in f.concepts]
        gone = set(at[5 * week : 5 * week + course.rng.choice([2, 5, 5])])
        return [f for n, f in enumerate(found) if n not in gone]

    course.changes.append(apply)


def _again(course: Course) -> None:
    def apply(found: list[Fact], course: Course, one: int) -> list[Fact]:
        later = day(one + course.rng.choice([-3, 30, 95]))
        return [*found, replace(found[0], **_at(later))]

    course.changes.append(apply)


def _only_before_entry(course: Course) -> None:
    course.after_entry, course.marked = False, course.rng.random() < 0.3


def _doubt(rng: random.Random, fact: Fact) -> Fact:
    """A fact of the course that does not say all."""
    first = fact.start.first if fact.start is not None else 0
    ways: list[Callable[[], Fact]] = [
        lambda: replace(fact, status=SUSPECTED),
        lambda: replace(fact, **_at(month_of(first))),
        lambda: replace(fact, start=None, end=None),
        lambda: replace(fact, axes=()),
    ]
    if fact.value is not None:
        ways += [
            lambda: replace(fact, value=None, unit=None),
            lambda: replace(fact, unit=None),
            lambda: replace(fact, comparator=rng.choice(["<", ">", "<=", ">="])),
        ]
    if fact.value_concepts:
        ways += [
            lambda: replace(fact, value_concepts=(UNMAPPED,)),
            lambda: replace(fact, value_concepts=()),
        ]
    return rng.choice(ways)()


FAULTS: dict[str, Callable[[Course], None]] = {
    "wait": _set(wait=lambda c: c.rng.choice([20, 29, 10, 60])),
    "off day": lambda c: c.added.update({c.rng.choice([18, 39, 6, 21]): 12}),
    "twice": lambda c: c.twice.update({c.rng.choice([1, 4, 25])}),
    "route": _one(
        "Anlotinib", lambda r, f: replace(f, axes=((sarc("route"), sarc("OtherRoute")),))
    ),
    "route not said": _set(route=lambda c: None),
    "first dose": _set(first_dose=lambda c: c.rng.choice([10, 8, 11])),
    "ladder": _ladder,
    "second step": _set(
        steps=lambda c: [(22, 10), (43, c.rng.choice([9, 7, 6]))], until=lambda c: None
    ),
    "stopped": _stopped,
    "event": _event,
    "not tolerated": _not_tolerated,
    "pause": lambda c: c.skipped.update(range(n := c.rng.choice([10, 30]), n + 12)),
    "late dose": lambda c: c.added.update({c.rng.choice([91, 93, 95, 106]): 8}),
    "no triggers": _set(triggers=lambda c: None, steps=lambda c: [(22, 10)]),
    "trigger": _set(
        triggers=lambda c: c.rng.choice(["moderate", "vague", "unrelated"]),
        steps=lambda c: [(22, 10)],
    ),
    "toxicity without reduction": lambda c: c.events.append(
        ("ToxicityEvent", c.rng.randint(5, 80), {"relatedTo": "RelatedToTreatment"})
    ),
    "fractions": _set(fractions=lambda c: c.rng.choice([24, 26, 20])),
    "size": _set(size=lambda c: c.rng.choice([Decimal("2.5"), Decimal("1.8"), Decimal("2.01")])),
    "technique": _set(technique=lambda c: c.rng.choice(["ConformalRadiotherapy", None])),
    "radiotherapy first": _set(radiated=lambda c: c.rng.choice([-60, -10, 0, 0])),
    "boost": _set(
        boost=lambda c: c.rng.choice(
            [None, *(Decimal(x) for x in ("0", "9.9", "10", "16", "16.1", "18", "18.1", "15.9"))]
        )
    ),
    "margin": _set(margin=lambda c: c.rng.choice(["RX", "R0", "R1", "R2"])),
    "no margin": _without("SurgicalMargin"),
    "no radiotherapy": lambda c: (
        [
            _without(n)(c)
            for n in (
                "PostoperativeRadiotherapy",
                "BaseDose",
                "BaseFractions",
                "BaseDosePerFraction",
                "BoostDose",
                "RadiotherapyFraction",
            )
        ]
        and None
    ),
    "no resection": _without("TumourResection"),
    "no anlotinib": _without("Anlotinib"),
    "lost statements": _lose,
    "one dose vague": _one("Anlotinib", _doubt),
    "resection vague": _one("TumourResection", _doubt),
    "margin vague": _one("SurgicalMargin", _doubt),
    "radiotherapy vague": _one("PostoperativeRadiotherapy", _doubt),
    "dose vague": _one("BaseDose", _doubt),
    "fraction vague": _one("RadiotherapyFraction", _doubt),
    "boost vague": _one("BoostDose", _doubt),
    "periods": _periods,
    "second resection": _again,
    "surgery before entry": _only_before_entry,
    "in progress": _set(until=lambda c: c.rng.randint(-15, 80)),
    "fraction gap": _gap,
}


def generate(
    trial: Trial, terms: Terminology, seed: int, count: int, first: int = 0
) -> Iterator[PatientRecord]:
    """Yield ``count`` patients from number ``first`` on; patient k depends on seed and k alone."""
    generator = Generator(trial, terms)
    for number in range(first, first + count):
        yield generator.patient(seed, number)


def with_course(record: PatientRecord) -> bool:
    """Whether the record holds a generated course."""
    return any(f.id.startswith("course/") for f in record.facts)


@dataclass(frozen=True)
class Judged:
    """What came out for one patient: clauses, criteria and verdict; clauses of the treatment part
    and what is told of its rules, where the record holds a course."""

    name: str
    clauses: dict[str, Outcome]
    criteria: dict[str, Outcome]
    verdict: Verdict
    course: dict[str, Outcome] | None = None
    rules: dict[str, str] | None = None


Judge = Callable[[PatientRecord, Trial, Terminology], Judged]


def by_deciding_facts(record: PatientRecord, trial: Trial, terms: Terminology) -> Judged:
    """Judge one patient by the deciding facts; another engine gives another function like this."""
    prepared = prepare(record, trial, terms)
    clauses = outcomes_of(prepared)
    criteria = criteria_of(prepared, clauses)
    verdict = verdict_of(criteria)
    if trial.treatment is None or not with_course(record):
        return Judged(record.label, clauses, criteria, verdict)
    course = prepare(record, trial.treatment, terms, as_of=last_day(record))
    rules = treatment_outcomes_of(course, prepared)
    return Judged(record.label, clauses, criteria, verdict, outcomes_of(course), rules)


_SHARED: dict[str, tuple[Trial, Terminology, Judge]] = {}
_COHORTS: dict[tuple[int, int, Judge], list[Judged]] = {}


def _judged(work: tuple[int, int, int]) -> list[Judged]:
    trial, terms, judge = _SHARED["now"]
    return [judge(record, trial, terms) for record in generate(trial, terms, *work)]


def cohort(
    trial: Trial,
    terms: Terminology,
    seed: int,
    count: int,
    judge: Judge = by_deciding_facts,
    processes: int = 2,
) -> list[Judged]:
    """Return what came out for each generated patient, in order; worked out once in a run."""
    key = (seed, count, judge)
    if key not in _COHORTS:
        _SHARED["now"] = (trial, terms, judge)
        size = 250
        work = [(seed, min(size, count - k), k) for k in range(0, count, size)]
        if processes > 1 and len(work) > 2:
            with multiprocessing.get_context("fork").Pool(processes) as pool:
                found = pool.map(_judged, work, chunksize=1)
        else:
            found = [_judged(one) for one in work]
        _COHORTS[key] = [one for part in found for one in part]
    return _COHORTS[key]


def tallied(found: Iterable[dict[str, object]]) -> dict[str, dict[object, int]]:
    """Return how often each name came to each outcome."""
    counts: dict[str, dict[object, int]] = {}
    for outcomes in found:
        for name, outcome in outcomes.items():
            of = counts.setdefault(name, {})
            of[outcome] = of.get(outcome, 0) + 1
    return counts
