"""Worlds as patient records, and what both engines say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import z3

from sarc_kb.assessment import Outcome
from sarc_kb.audit.formulas import ENTRY, Formula, Thing
from sarc_kb.audit.worlds import LASTING, Worlds
from sarc_kb.cohort.backends import open_backend
from sarc_kb.cohort.cohort import Cohort
from sarc_kb.cohort.plan import Plan
from sarc_kb.cohort.preparing import Settings, prepare_part
from sarc_kb.cohort.tables import Profiles
from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import UsageError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import Trial
from sarc_kb.sources.rdf_writer import write_patient

_ATTESTATION, _STATEMENT = str(SARC.Attestation), str(SARC.CompletenessStatement)
_YES, _NO = str(SARC.Yes), str(SARC.No)
_FAR = 200
"""Days after entry up to which a witness's record is stated to be complete."""
FASTEST = ("pyshifty", "pyshacl")
"""SHACL processors in the order in which they are tried."""


@dataclass(frozen=True)
class Witness:
    """A record made from a world, and what the world says of its clauses and criteria: the id of
    each, and its outcome. ``things``: the facts that are on it."""

    record: PatientRecord
    expected: Mapping[str, Outcome]
    things: tuple[Thing, ...] = ()

    @property
    def turtle(self) -> str:
        return write_patient(self.record).serialize(format="turtle")

    def lines(self, trial: Trial, worlds: Worlds) -> tuple[str, ...]:
        """Return its facts as people read them; what is stated to be complete is left out."""
        return tuple(
            fact_text(fact, trial, worlds) for fact in self.record.facts if fact.kind != _STATEMENT
        )


def fact_text(fact: Fact, trial: Trial, worlds: Worlds) -> str:
    def named(iri: str) -> str:
        return trial.label(iri, worlds.terms)

    if fact.kind == _ATTESTATION:
        rule = trial.clauses[fact.concepts[0]]
        return f"answer about {rule.id}: {local_name(fact.value_concepts[0])}"
    text = ", ".join(map(named, fact.concepts))
    if fact.value_concepts:
        text += ": " + ", ".join(map(named, fact.value_concepts))
    if fact.value is not None:
        text += f" {fact.value:f}" + (f" {fact.unit}" if fact.unit and fact.unit != "1" else "")
    if fact.axes:
        text += " (" + ", ".join(named(term) for _, term in fact.axes) + ")"
    if fact.start is not None:
        text += f", {fact.start.text}"
        if fact.ongoing:
            text += " and lasting"
        elif fact.end is not None and fact.end is not fact.start:
            text += f" to {fact.end.text}"
    return text


def day_of(number: int) -> PartialDate:
    return parse_date((date.fromordinal(ENTRY) + timedelta(days=number)).isoformat())


class Writer:
    """Turns models of the solver into witnesses."""

    def __init__(self, worlds: Worlds) -> None:
        self.worlds = worlds
        self.trial = worlds.trial
        self.scopes = sorted(
            {
                c.settled_by
                for c in self.trial.clauses.values()
                if c.settled_by and worlds.terms.known(c.settled_by)
            }
        )
        self.number = 0

    def witness(self, model: z3.ModelRef) -> Witness:
        """Return the record of a model; every clause has an outcome in it."""
        self.number += 1
        held = [
            slot
            for family in self.worlds.families
            for slot in family.slots
            if _true(model, slot.there)
        ]
        facts = [self.fact(slot, model) for slot in held]
        expected: dict[str, Outcome] = {}
        for clause in self.trial.clauses.values():
            outcome = self._outcome(clause.iri, model)
            expected[clause.id] = outcome
            if clause.component == "attested" and outcome is not Outcome.UNDETERMINED:
                facts.append(self._answer(clause.iri, outcome))
        for criterion in self.trial.criteria:
            expected[criterion.id] = self._outcome(criterion.root, model)
        record = self.record(f"witness-{self.number}", facts)
        return Witness(record, expected, tuple(held))

    def record(self, name: str, facts: Iterable[Fact]) -> PatientRecord:
        """Return a record of some facts that is stated to be complete."""
        stated = day_of(_FAR)
        statements = [
            Fact(
                id=f"complete-{local_name(scope)}",
                kind=_STATEMENT,
                concepts=(scope,),
                end=stated,
                source=f"complete-{local_name(scope)}",
            )
            for scope in self.scopes
        ]
        return PatientRecord(
            patient=f"https://example.org/patient/{name}",
            label=name,
            entry=day_of(0),
            facts=(*facts, *statements),
            origin=name,
        )

    def _outcome(self, iri: str, model: z3.ModelRef) -> Outcome:
        if _true(model, self.worlds.passes[iri]):
            return Outcome.PASS
        return Outcome.FAIL if _true(model, self.worlds.fails[iri]) else Outcome.UNDETERMINED

    def _answer(self, clause: str, outcome: Outcome) -> Fact:
        owner = next(c for c in self.trial.criteria if clause in c.clauses)
        clearing, denying = (_YES, _NO) if owner.kind == "inclusion" else (_NO, _YES)
        day = day_of(0)
        return Fact(
            id=f"answer-{local_name(clause)}",
            kind=_ATTESTATION,
            concepts=(clause,),
            value_concepts=(clearing if outcome is Outcome.PASS else denying,),
            start=day,
            end=day,
            source=f"answer-{local_name(clause)}",
            performer="investigator",
        )

    def fact(self, slot: Thing, model: z3.ModelRef) -> Fact:
        """Return what a slot holds in a model."""
        concept = chosen(slot.concept.terms, slot.concept.variable, model)
        assert concept is not None
        values: tuple[str, ...] = ()
        if slot.value is not None:
            value = chosen(slot.value.terms, slot.value.variable, model)
            values = (value,) if value else ()
        number, unit = None, None
        if slot.number is not None:
            number = Decimal(_whole(model, slot.number[0])) / slot.scale
            quantity = self.worlds.terms.quantity_of(concept)
            unit = quantity.unit if quantity else None
        axes = [
            (axis, term)
            for axis, choice in sorted(slot.axes.items())
            if (term := chosen(choice.terms, choice.variable, model)) is not None
        ]
        start, end = _whole(model, slot.start), _whole(model, slot.end)
        first = day_of(start)
        if slot.minute is not None:
            minute = _whole(model, slot.minute)
            first = parse_date(f"{first.text}T{minute // 60:02}:{minute % 60:02}:00Z")
        last: PartialDate | None = first
        if end == LASTING:
            last = None
        elif end != start:
            last = day_of(end)
        return Fact(
            id=slot.name,
            kind=slot.kind,
            concepts=(concept,),
            value=number,
            unit=unit,
            value_concepts=values,
            start=first,
            end=last,
            ongoing=True if last is None else None,
            axes=tuple(axes),
            source=slot.name,
        )


def chosen(terms: Sequence[str], variable: Formula | None, model: z3.ModelRef) -> str | None:
    """Return the term that a model chooses; None if it chooses none."""
    if variable is None:
        return terms[0]
    place = _whole(model, variable)
    return terms[place] if 0 <= place < len(terms) else None


def _whole(model: z3.ModelRef, number: Formula) -> int:
    return int(model.eval(number, model_completion=True).as_long())


def _true(model: z3.ModelRef, formula: Formula) -> bool:
    return bool(z3.is_true(model.eval(formula, model_completion=True)))


class Judges:
    """Both engines, and what they say of witnesses."""

    def __init__(self, kb: KnowledgeBase, trial: Trial) -> None:
        self.kb, self.trial = kb, trial
        self.shacl = self._shacl()

    def _shacl(self) -> ShaclEngine:
        components = self.kb.root / "shapes" / "components"
        for name in FASTEST[:-1]:
            try:
                return ShaclEngine(self.trial, components, name)
            except UsageError:
                continue
        return ShaclEngine(self.trial, components, FASTEST[-1])

    def differences(self, witnesses: Sequence[Witness]) -> list[tuple[str, str, str, str]]:
        """Return (witness, engine, what the world says, what the engine says) where they differ."""
        found: list[tuple[str, str, str, str]] = []
        for witness in witnesses:
            said = self._by_shacl(witness.record)
            found += _apart(witness, self.shacl.name, said)
        for witness, said in zip(witnesses, self._by_cohort(witnesses), strict=True):
            found += _apart(witness, "cohort", said)
        return found

    def _by_shacl(self, record: PatientRecord) -> dict[str, str]:
        told = self.kb.assess_record(record, self.trial, self.shacl, only="eligibility")
        if told.error is not None:
            return {"": str(told.error)}
        said = {c.id: c.outcome.word for criterion in told.criteria for c in criterion.clauses}
        return said | {criterion.id: criterion.outcome.word for criterion in told.criteria}

    def _by_cohort(self, witnesses: Sequence[Witness]) -> list[dict[str, str]]:
        plan = Plan({self.trial.id: self.trial}, only="eligibility")
        part = prepare_part(
            self.kb, plan, Settings(only="eligibility"), [w.record for w in witnesses]
        )
        said: list[dict[str, str]] = [{} for _ in witnesses]
        words = {o.value: o.word for o in Outcome}
        with (
            TemporaryDirectory() as scratch,
            closing(open_backend("duckdb", memory="1GB", scratch=Path(scratch))) as backend,
        ):
            profiles = Profiles(part.profiles)
            tables = {name: part.tables[name] for name in _TABLES}
            loaded = {name: backend.load(name, table) for name, table in tables.items()}
            cohort = Cohort(backend, plan, profiles, loaded, with_evidence=True)
            for row in cohort.clause_rows().to_pylist():
                if row["clause"] is not None:
                    said[row["pid"]][row["clause"]] = row["outcome"]
            for frame in plan.frames:
                for row in cohort.dicts(cohort.judged[frame.number]):
                    for rule in frame.criteria:
                        said[row["pid"]][rule.id] = words[row[rule.id]]
        return said


_TABLES = ("patients", "facts", "standing", "answers")


def _apart(
    witness: Witness, engine: str, said: Mapping[str, str]
) -> Iterable[tuple[str, str, str, str]]:
    name = witness.record.label
    if "" in said or not said:
        yield name, engine, "a record that can be judged", said.get("", "nothing")
        return
    for rule, outcome in sorted(witness.expected.items()):
        if said.get(rule) != outcome.word:
            yield name, engine, f"{rule} {outcome.word}", f"{rule} {said.get(rule)}"
