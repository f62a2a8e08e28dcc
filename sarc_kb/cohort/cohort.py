"""A prepared cohort in an engine: the plan run once, and tables to read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ibis
import pyarrow as pa

from sarc_kb.cohort import outputs
from sarc_kb.cohort.backends import Backend
from sarc_kb.cohort.clause_rows import Evidence, assembled, numbers_of, places_of, sources_of
from sarc_kb.cohort.evaluate import (
    Inputs,
    Table,
    deciding,
    outside,
    paired,
    readings,
    singles,
    words,
)
from sarc_kb.cohort.plan import Frame, Plan
from sarc_kb.cohort.rows import PatientRows
from sarc_kb.cohort.tables import (
    PATIENTS,
    Profiles,
    answers_table,
    facts_table,
    profile_tests,
    standing_table,
    variants_table,
)

AT_ONCE = 5_000
"""Patients whose rows of clauses are made at once."""


class Cohort:
    """Outcomes of every patient, under every trial of the plan.

    Args:
        tables: ``patients``, ``facts``, ``standing`` and ``answers`` as tables of the backend.
        with_evidence: gather evidence and missing data for the rows of clauses.
    """

    def __init__(
        self,
        backend: Backend,
        plan: Plan,
        profiles: Profiles,
        tables: Mapping[str, Table],
        *,
        with_evidence: bool = True,
    ) -> None:
        self.backend, self.plan = backend, plan
        self.patients, self.answers = tables["patients"], tables["answers"]
        self.inputs = Inputs(
            facts=tables["facts"],
            standing=tables["standing"],
            profile_tests=backend.load("profile_tests", profile_tests(plan, profiles)),
            variants=backend.load("variants", variants_table(plan)),
        )
        self._with_evidence = with_evidence
        self._own: list[str] = []
        facts = self.inputs.facts
        self._packed = backend.keep(
            "packed", words(singles(facts, self.inputs), paired(facts, self.inputs), plan)
        )
        self.judged: dict[int, Table] = {
            frame.number: backend.keep(
                f"judged_{frame.number}",
                outputs.judged(readings(self.inputs, self._packed, frame), frame),
            )
            for frame in plan.frames
        }

    def _load(self, name: str, table: pa.Table) -> Table:
        """Return a small table in the backend, under a name that no other one has."""
        return self.backend.load(self._named(name), table)

    # -- rows ----------------------------------------------------------------------------------
    def patient_rows(self, names: Iterable[str] | None = None) -> Table:
        """Return a row for each patient and trial; ``names``: those trials alone."""
        wanted = set(self.plan.names if names is None else names)
        found: list[Table] = []
        for number, (eligibility, treatment) in enumerate(self._pairs()):
            trials = [
                (name, *(f.names.index(name) if f else 0 for f in (eligibility, treatment)))
                for name in self.plan.names
                if name in wanted
                and all(f is None or name in f.names for f in (eligibility, treatment))
            ]
            if not trials:
                continue
            columns = zip(*trials, strict=True)
            table = self._load(
                f"trials_{number}",
                pa.table(
                    dict(
                        zip(
                            ("trial", "eligibility_variant", "treatment_variant"),
                            columns,
                            strict=True,
                        )
                    ),
                    schema=_TRIALS,
                ),
            )
            rows = outputs.patient_rows(
                self.patients, self._of(eligibility), self._of(treatment), table
            )
            found.append(rows)
        return union_of(found)

    def _of(self, frame: Frame | None) -> tuple[Table, Frame] | None:
        return None if frame is None else (self.judged[frame.number], frame)

    def _pairs(self) -> list[tuple[Frame | None, Frame | None]]:
        """Return the pairs of frames on eligibility and treatment that some trial consists of."""
        pairs: dict[tuple[int | None, int | None], tuple[Frame | None, Frame | None]] = {}
        for name in self.plan.names:
            own = [f for f in self.plan.frames if name in f.names]
            first = next((f for f in own if not f.is_treatment), None)
            second = next((f for f in own if f.is_treatment), None)
            key = (first.number if first else None, second.number if second else None)
            pairs[key] = (first, second)
        return list(pairs.values())

    def frame(self, name: str, *, treatment: bool = False) -> tuple[Frame, int] | None:
        """Return the frame of the trial ``name`` on eligibility or treatment and its variant."""
        for frame in self.plan.frames:
            if frame.is_treatment == treatment and name in frame.names:
                return frame, frame.names.index(name)
        return None

    def rows_of(self, name: str, *, treatment: bool = False) -> tuple[Frame, Table] | None:
        """Return the frame of the trial ``name`` and its judged rows."""
        found = self.frame(name, treatment=treatment)
        if found is None:
            return None
        frame, variant = found
        table = self.judged[frame.number]
        return frame, table.filter(table.variant == variant)

    def clause_rows(
        self, names: Iterable[str] | None = None, patients: range | None = None
    ) -> pa.Table:
        """Return a row of `CLAUSE_ROWS` for each patient, trial and clause, in order; a criterion
        that an answer denies as a whole has a row without a clause.

        ``names``: those trials alone; ``patients``: the numbers of those to be told of.
        """
        wanted = self.plan.names if names is None else tuple(names)
        places = places_of(self.plan, wanted)
        place_table = self._load("places", places.table)

        def of(table: Table) -> Table:
            if patients is None:
                return table
            return table.filter((table.pid >= patients.start) & (table.pid < patients.stop))

        answers = of(self.answers)
        told = self._evidence(of) if self._with_evidence else None
        frames = [frame for frame in self.plan.frames if set(frame.names) & set(wanted)]
        tables = [(of(self.judged[frame.number]), frame) for frame in frames]
        numbers = union_of([numbers_of(*t, place_table, told, answers) for t in tables])
        sources = None
        if told is not None:
            sources = self._table(
                union_of([sources_of(*t, place_table, told.deciding, answers) for t in tables])
            )
        people = self._table(of(self.patients).select("pid", "patient"))
        return assembled(self._table(numbers.order_by(["pid", "place"])), sources, people, places)

    def clause_parts(self, names: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """Yield `clause_rows`, so many patients at a time that what one part needs stays small."""
        (found,) = self.dicts(self.patients.aggregate(last=self.patients.pid.max()))
        before = len(self._own)
        for first in range(0, 1 + (found["last"] or 0), AT_ONCE):
            yield self.clause_rows(names, range(first, first + AT_ONCE))
            while len(self._own) > before:
                self.backend.drop(self._own.pop())

    def _evidence(self, of: Callable[[Table], Table]) -> Evidence:
        """Return what decides the clauses of the patients that ``of`` selects."""
        facts, packed = of(self.inputs.facts), of(self._packed)
        pairs = self._keep("pairs", paired(facts, self.inputs))
        found = deciding(singles(facts, self.inputs), pairs, packed, self.plan)
        return Evidence(
            self._keep("deciding", found), self._keep("near", outside(facts, self.inputs))
        )

    def _table(self, expression: Any) -> pa.Table:
        """Return the rows of an expression."""
        return pa.concat_tables(self.tables(expression))

    def _keep(self, name: str, table: Table) -> Table:
        """Keep the rows of a table under a name that no other one has."""
        return self.backend.keep(self._named(name), table)

    def _named(self, name: str) -> str:
        self._own.append(f"{name}_{len(self._own)}")
        return self._own[-1]

    def dicts(self, expression: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of an expression."""
        for batch in self.backend.batches(expression):
            yield from batch.to_pylist()

    def tables(self, expression: Any) -> Iterator[pa.Table]:
        """Yield the rows of an expression, a bounded number at a time; one table at least."""
        schema = expression.schema().to_pyarrow()
        yield schema.empty_table()
        for batch in self.backend.batches(expression):
            yield pa.Table.from_batches([batch]).cast(schema)

    def counts(self, table: Table, key: str) -> dict[Any, int]:
        """Return how many rows have each value of a column."""
        grouped = table.group_by(key).agg(rows=table.count())
        return {row[key]: int(row["rows"]) for row in self.dicts(grouped)}

    def sums(self, table: Table, columns: Mapping[str, Any]) -> dict[str, int]:
        """Return the number of rows for which each condition holds."""
        asked = {name: ibis.ifelse(condition, 1, 0).sum() for name, condition in columns.items()}
        (row,) = self.dicts(table.aggregate(**asked))
        return {name: int(row[name] or 0) for name in columns}


def cohort_of_rows(
    backend: Backend,
    plan: Plan,
    rows: Iterable[tuple[int, PatientRows]],
    *,
    with_evidence: bool = True,
) -> Cohort:
    """Return the cohort of patients that are given as rows, with their numbers for names."""
    found, profiles = list(rows), Profiles()
    people: dict[str, list[object]] = {name: [None] * len(found) for name in PATIENTS.names}
    people["pid"] = [pid for pid, _ in found]
    people["patient"] = [str(pid) for pid, _ in found]
    tables = {
        "patients": pa.table(people, schema=PATIENTS),
        "facts": facts_table(found, profiles),
        "standing": standing_table(found, plan),
        "answers": answers_table(found),
    }
    loaded = {name: backend.load(name, table) for name, table in tables.items()}
    return Cohort(backend, plan, profiles, loaded, with_evidence=with_evidence)


def union_of(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables. Halves are joined, so that the depth of the expression stays
    small where trials are many."""
    if len(tables) == 1:
        return tables[0]
    middle = len(tables) // 2
    return union_of(tables[:middle]).union(union_of(tables[middle:]))


_TRIALS = pa.schema(
    [
        ("trial", pa.string()),
        ("eligibility_variant", pa.int32()),
        ("treatment_variant", pa.int32()),
    ]
)
