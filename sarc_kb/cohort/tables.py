"""The tables of a cohort, as Arrow: their schemas, and how rows of patients become them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from sarc_kb.cohort.plan import Plan, place
from sarc_kb.cohort.rows import PatientRows, Profile

COMPONENT = {"latest": 0, "some": 1, "none": 2, "noPair": 3, "eachHas": 4}
"""Numbers of the components that read facts."""

FACTS = pa.schema(
    [
        ("pid", pa.int64()),
        ("fact", pa.int32()),
        ("profile", pa.int32()),
        ("lo", pa.float64()),
        ("hi", pa.float64()),
        ("first_minute", pa.int64()),
        ("last_minute", pa.int64()),
        ("source", pa.string()),
    ]
)
PATIENTS = pa.schema(
    [
        ("pid", pa.int64()),
        ("patient", pa.string()),
        ("patient_iri", pa.string()),
        ("entry_date", pa.string()),
        ("origin", pa.string()),
        ("error", pa.string()),
        ("error_where", pa.string()),
        ("error_found", pa.string()),
        ("error_fix", pa.string()),
    ]
)
ANSWERS = pa.schema(
    [("pid", pa.int64()), ("frame", pa.int32()), ("slot", pa.int32()), ("source", pa.string())]
)
"""Answers of people, by the clause or (slots below 0) the criterion that they clear or deny."""
PROFILE_TESTS = pa.schema(
    [
        ("profile", pa.int32()),
        ("test", pa.int32()),
        ("frame", pa.int32()),
        ("variant", pa.int32()),
        ("word", pa.int32()),
        ("bit", pa.int64()),
        ("component", pa.int32()),
        ("role", pa.int32()),
        ("degree", pa.int32()),
        ("accepted", pa.int32()),
        ("least", pa.float64()),
        ("most", pa.float64()),
        ("bounded", pa.bool_()),
        ("doubt", pa.int32()),
        ("problem", pa.int32()),
        ("sourced", pa.bool_()),
        ("gap_from", pa.int64()),
        ("gap_to", pa.int64()),
        ("of_one_set", pa.bool_()),
    ]
)
_BY_CLAUSE = ("settled", "cleared", "denied")
_BY_RULE = ("refused", "due", "before_failed", "before_passed")


def standing_schema(plan: Plan) -> pa.Schema:
    """Return the schema of the table of standings: a column for each kind of bit and word."""
    names = [f"{name}_{w}" for name in _BY_CLAUSE for w in range(plan.words)]
    names += [f"{name}_{w}" for name in _BY_RULE for w in range(plan.criterion_words)]
    return pa.schema(
        [("pid", pa.int64()), ("frame", pa.int32()), *((name, pa.int64()) for name in names)]
    )


class Profiles:
    """The profiles met so far, numbered from 0."""

    def __init__(self, known: Iterable[Profile] = ()) -> None:
        self._numbers: dict[Profile, int] = {}
        for profile in known:
            self.number(profile)

    def number(self, profile: Profile) -> int:
        return self._numbers.setdefault(profile, len(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._numbers)


def facts_table(rows: Iterable[tuple[int, PatientRows]], profiles: Profiles) -> pa.Table:
    """Return the facts of patients, each given with its number."""
    columns: list[list[object]] = [[] for _ in FACTS]
    for pid, patient in rows:
        for number, profile, lo, hi, first, last, source in patient.facts:
            row = (pid, number, profiles.number(profile), lo, hi, first, last, source)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    return pa.table(columns, schema=FACTS)


def answers_table(rows: Iterable[tuple[int, PatientRows]]) -> pa.Table:
    """Return the answers of patients, each given with its number."""
    found = [(pid, *answer) for pid, patient in rows for answer in patient.answers]
    columns: list[list[object]] = [[row[k] for row in found] for k in range(len(ANSWERS))]
    return pa.table(columns, schema=ANSWERS)


def standing_table(rows: Iterable[tuple[int, PatientRows]], plan: Plan) -> pa.Table:
    """Return the standings of patients; words that a frame does not use are 0."""
    schema = standing_schema(plan)
    columns: dict[str, list[int]] = {name: [] for name in schema.names}
    for pid, patient in rows:
        for standing in patient.standing:
            columns["pid"].append(pid)
            columns["frame"].append(standing.frame)
            for names, words in ((_BY_CLAUSE, plan.words), (_BY_RULE, plan.criterion_words)):
                for name in names:
                    bits: Sequence[int] = getattr(standing, name)
                    for word in range(words):
                        columns[f"{name}_{word}"].append(bits[word] if word < len(bits) else 0)
    return pa.table(columns, schema=schema)


def profile_tests(plan: Plan, profiles: Profiles) -> pa.Table:
    """Return what each profile is to each test: a row for each mark that a test reads."""
    by_selection: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, test in enumerate(plan.tests):
        for role, selection in enumerate(test.selections):
            by_selection.setdefault((test.frame, selection), []).append((number, role))
    columns: list[list[object]] = [[] for _ in PROFILE_TESTS]
    for profile_number, (frame, sourced, problem, marks) in enumerate(profiles):
        for selection, degree, accepted, doubt, superseded in marks:
            for number, role in by_selection.get((frame, selection), ()):
                test = plan.tests[number]
                if superseded if test.component == "latest" else degree == 0:
                    continue
                gap = test.gap or (0, 0)
                row = (
                    profile_number,
                    number,
                    test.frame,
                    test.variant,
                    *place(test.slot),
                    COMPONENT[test.component],
                    role,
                    degree,
                    accepted,
                    *test.limits[role],
                    test.bounded[role],
                    doubt,
                    problem,
                    sourced,
                    *gap,
                    test.of_one_set,
                )
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
    return pa.table(columns, schema=PROFILE_TESTS)


def variants_table(plan: Plan) -> pa.Table:
    """Return the variants of each frame."""
    pairs = [(f.number, v) for f in plan.frames for v in range(len(f.variants))]
    named: Mapping[str, list[int]] = {
        "frame": [f for f, _ in pairs],
        "variant": [v for _, v in pairs],
    }
    return pa.table(named, schema=pa.schema([("frame", pa.int32()), ("variant", pa.int32())]))
