"""Everything that can say how a patient stands, behind one form, and where they say otherwise.

Three SHACL processors, the cohort engine, and the deciding facts of reports judge the same prepared
patient; `plain_oracle` reads the raw facts, by hand, and is silent where a case is not plain.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rdflib import Graph

from sarc_kb.assess import clause_outcomes
from sarc_kb.cohort.plan import Frame
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.explain import Explanation, explain
from sarc_kb.facts import PatientRecord
from sarc_kb.prepare import Prepared
from sarc_kb.treatment import has_begun, last_day, may_have_begun
from tests import plain_oracle
from tests.cohort_shacl import Shared
from tests.cohort_tables import Told, Truth, cohort_of, rules_of, told_of, truth_of

Key = tuple[str, str]
"""A clause, criterion or treatment rule, and what is said of it: outcome, evidence, missing data,
or the conclusion about a criterion or rule."""
Answers = dict[Key, str]
OUTCOME, EVIDENCE, MISSING, CONCLUSION = "outcome", "evidence", "missing", "conclusion"
BY_HAND, FACTS, COHORT = "by hand", "deciding facts", "cohort"
TELLS_WHY = frozenset((FACTS, COHORT))
"""Those who also tell the evidence and what is missing."""
NOTHING = "(nothing)"


@dataclass(frozen=True)
class Part:
    """A patient prepared for eligibility or for the treatment part."""

    frame: Frame
    prepared: Prepared
    at_entry: Prepared | None

    @cached_property
    def graph(self) -> Graph:
        return prepared_graph(self.prepared)

    @cached_property
    def grounds(self) -> Mapping[str, Explanation]:
        clauses = self.prepared.trial.clauses
        return {iri: explain(self.prepared, clause) for iri, clause in clauses.items()}


@dataclass(frozen=True)
class Case:
    record: PatientRecord
    parts: tuple[Part, ...]


def case_of(own: Shared, record: PatientRecord) -> Case:
    """Return a patient prepared as `sarc_kb.cohort.preparing.patient_rows` does."""
    parts = []
    at_entry = own.kb.prepare(record, own.trial)
    for frame in own.plan.frames:
        if not frame.is_treatment:
            parts.append(Part(frame, at_entry, None))
        elif may_have_begun(record, own.trial, own.kb.terms):
            course = own.kb.prepare(record, frame.part, as_of=last_day(record))
            if has_begun(course):
                parts.append(Part(frame, course, at_entry))
    return Case(record, tuple(parts))


# -- engines ---------------------------------------------------------------------------------------
Engine = Callable[[Sequence[Case]], list[Answers]]


def engines_of(own: Shared) -> dict[str, Engine]:
    """Return all engines that are installed, by their names."""
    return {
        FACTS: by_deciding_facts,
        **{name: by_shacl(processor) for name, processor in own.processors.items()},
        COHORT: by_cohort(own),
        BY_HAND: by_hand,
    }


def by_deciding_facts(cases: Sequence[Case]) -> list[Answers]:
    return [_merged(_of(part, None, why=True) for part in case.parts) for case in cases]


def by_shacl(processor: ShaclEngine) -> Engine:
    def judge(cases: Sequence[Case]) -> list[Answers]:
        return [_merged(map(of_part, case.parts)) for case in cases]

    def of_part(part: Part) -> Answers:
        shapes = processor.treatment if part.frame.is_treatment else processor
        assert shapes is not None
        readings = shapes.run(part.graph)
        outcomes = clause_outcomes(part.frame.part, readings.refuted, readings.unproven)
        return _of(part, outcomes, why=False)

    return judge


def by_cohort(own: Shared) -> Engine:
    def judge(cases: Sequence[Case]) -> list[Answers]:
        rows = []
        for number, case in enumerate(cases):
            of_case = PatientRows()
            for part in case.parts:
                rows_of(part.prepared, part.frame, of_case, part.at_entry)
            rows.append((number, of_case))
        with tempfile.TemporaryDirectory() as scratch:
            backend, cohort = cohort_of(own.plan, rows, Path(scratch))
            try:
                clauses, rules = told_of(cohort), rules_of(cohort)
            finally:
                backend.close()
        name = own.plan.names[0]
        return [
            {**_told(clauses.get((n, name), {}), why=True), **_concluded(rules.get((n, name), {}))}
            for n in range(len(cases))
        ]

    return judge


def by_hand(cases: Sequence[Case]) -> list[Answers]:
    return [
        {
            (c, OUTCOME): "pass" if good else "fail"
            for c, good in plain_oracle.says(case.record).items()
        }
        for case in cases
    ]


def _of(part: Part, outcomes: Mapping[str, object] | None, *, why: bool) -> Answers:
    truth: Truth = truth_of(part.prepared, part.frame, part.at_entry, outcomes, part.grounds)  # type: ignore[arg-type]
    return {**_told(truth.clauses, why=why), **_concluded(truth.rules)}


def _told(clauses: Mapping[str, Told], *, why: bool) -> Answers:
    found: Answers = {}
    for clause, (outcome, sources, missing) in clauses.items():
        found[clause, OUTCOME] = outcome
        if why:
            found[clause, EVIDENCE] = "; ".join(sorted(sources))
            found[clause, MISSING] = "; ".join(sorted(missing))
    return found


def _concluded(rules: Mapping[str, str]) -> Answers:
    return {(rule, CONCLUSION): word for rule, word in rules.items()}


def _merged(parts: object) -> Answers:
    return {key: word for part in parts for key, word in part.items()}  # type: ignore[attr-defined]


# -- differences -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Difference:
    """One thing on which engines disagree about one patient: what each says of it."""

    name: str
    aspect: str
    said: Mapping[str, str]

    @property
    def two(self) -> tuple[str, ...]:
        """The first engine, and the first that says otherwise."""
        first, *others = self.said
        return (first, *[e for e in others if self.said[e] != self.said[first]][:1])


def differences(answers: Mapping[str, Answers]) -> list[Difference]:
    """Return where the engines say otherwise of one patient; who says nothing differs too, but for
    the oracle, and for reasons from those who give none."""
    found = []
    for name, aspect in sorted({key for told in answers.values() for key in told}):
        said = {}
        for engine, told in answers.items():
            word = told.get((name, aspect))
            speaks = aspect in (OUTCOME, CONCLUSION) if engine not in TELLS_WHY else True
            if engine == BY_HAND:
                speaks = word is not None
            if speaks:
                said[engine] = NOTHING if word is None else word
        if len(set(said.values())) > 1:
            found.append(Difference(name, aspect, said))
    return found


def compared(
    own: Shared, records: Sequence[PatientRecord], engines: Mapping[str, Engine]
) -> tuple[list[list[Difference]], int]:
    """Return the differences of each patient, and how many answers there were in all.

    An engine that raises something on a patient says just that.
    """
    cases: list[Case | None] = []
    found: list[list[Difference]] = []
    for record in records:
        try:
            cases.append(case_of(own, record))
            found.append([])
        except Exception as error:
            cases.append(None)
            found.append([Difference("preparing", OUTCOME, {"preparing": type(error).__name__})])
    sound = [case for case in cases if case is not None]
    answers = {name: _asked(engine, sound) for name, engine in engines.items()}
    places = (n for n, case in enumerate(cases) if case is not None)
    for at, place in enumerate(places):
        found[place] = differences({name: told[at] for name, told in answers.items()})
    return found, sum(len(told) for all_told in answers.values() for told in all_told)


def _asked(engine: Engine, cases: Sequence[Case]) -> list[Answers]:
    try:
        return engine(cases) if cases else []
    except Exception as error:
        if len(cases) == 1:
            return [{("judging", OUTCOME): type(error).__name__}]
        return [told for case in cases for told in _asked(engine, [case])]
