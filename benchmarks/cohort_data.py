"""A made-up cohort as prepared parts: some hundred varied patients prepared by the program itself,
then copied with jittered values until there are as many patients as asked for.

A patient of the base is an example with complete screening, of which one fact in eight is left out,
the facts of one of the rules' boundary cases, and further results of analytes that clauses read, from
the last 200 days, until there are 60 rows of prepared facts. Preparing does not write a fact that no
clause reads, nor one that a later one surely supersedes where the latest is asked for, so that
padding has to be read by some clause: most of it lies outside the look-back of the clauses, and only
tells that there is an older result. One patient in five has a course of treatment, whose facts
two frames may read: two rows. A copy has every number multiplied by 0.9 to 1.1.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import duckdb

from benchmarks.common import ELIGIBLE, read
from sarc_kb.cases import load_cases, part_of
from sarc_kb.cohort.plan import Plan
from sarc_kb.cohort.preparing import PreparedStore, Settings, patient_rows, prepare_part
from sarc_kb.cohort.rows import Profile
from sarc_kb.dates import iso, parse_date
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.rules import Trial

FACTS = 60
"""Prepared facts a patient."""
PART = 20_000
"""Patients a part of the copied cohort."""
_TREATED = 5
"""One patient in so many has a treatment case."""
_LEFT_OUT = 8
_DAYS = 200
_EXAMPLES = ("eligible", "anaemic", "raised-creatinine", "pregnant", "long-qtc", "hiv-on-treatment")
# Concept, unit, a usual value and the upper limit of the reference range, if clauses need one.
_ANALYTES = (
    (SARC.Haemoglobin, "g/dL", 12, None),
    (SARC.NeutrophilCount, "10*9/L", 3, None),
    (SARC.PlateletCount, "10*9/L", 200, None),
    (SARC.SerumCreatinine, "umol/L", 90, None),
    (SARC.TotalBilirubin, "umol/L", 15, 21),
    (SARC.ALT, "U/L", 30, 40),
    (SARC.AST, "U/L", 30, 40),
    (SARC.INR, "1", 1, Decimal("1.2")),
    (SARC.ECOG, "1", 1, None),
)


def base_patients(kb: KnowledgeBase, trial: Trial, plan: Plan, size: int) -> list[PatientRecord]:
    """Return ``size`` varied patients of about `FACTS` prepared facts each."""
    chance = random.Random(5602415)
    examples = [
        read(kb, trial, next((ELIGIBLE.parents[1] / e).glob("patient.*"))) for e in _EXAMPLES
    ]
    cases = [c for c in load_cases(kb.trial_folder(trial.id), kb.terms.axes) if not c.readings]
    of_course = [c for c in cases if part_of(trial, c.rule).course is not None]
    of_entry = [c for c in cases if part_of(trial, c.rule).course is None]
    found = []
    for number in range(size):
        example = examples[number % len(examples)]
        case = chance.choice(of_course if number % _TREATED == 0 else of_entry)
        kept = [fact for fact in example.facts if chance.randrange(_LEFT_OUT)]
        added = [replace(fact, id=f"case-{fact.id}") for fact in case.record.facts]
        name = f"urn:bench:{number}"
        record = replace(example, patient=name, label=name, facts=(*kept, *added))
        found.append(_padded(kb, plan, record, chance))
    return found


def _padded(
    kb: KnowledgeBase, plan: Plan, record: PatientRecord, chance: random.Random
) -> PatientRecord:
    results = [_result(record, number, chance) for number in range(5 * FACTS)]
    count = 0
    # A result may make two rows (as it is, and as a multiple of its limit) or none (a later one of
    # its kind is in the window), so that a few rounds come close.
    for _ in range(3):
        padded = replace(record, facts=(*record.facts, *results[:count]))
        missing = FACTS - len(patient_rows(kb, plan, padded, Settings()).facts)
        if not missing:
            break
        count = max(0, count + missing)
    return padded


def _result(record: PatientRecord, number: int, chance: random.Random) -> Fact:
    assert record.entry is not None
    concept, unit, usual, limit = chance.choice(_ANALYTES)
    day = parse_date(iso(record.entry.first - chance.randrange(_DAYS)))
    share = Decimal(chance.randrange(60, 150)) / 100
    return Fact(
        id=f"more-{number}",
        kind=str(SARC.Measurement),
        concepts=(str(concept),),
        start=day,
        end=day,
        value=usual * share if usual > 1 else Decimal(chance.randrange(3)),
        unit=unit,
        upper_limit=None if limit is None else Decimal(limit),
        upper_limit_unit=None if limit is None else unit,
        source=f"Observation/more-{number}",
    )


@dataclass(frozen=True, slots=True)
class Made:
    """Parts on disk: a folder for each, and the profiles of all."""

    folder: Path
    patients: int

    @property
    def profiles(self) -> Sequence[Profile]:
        found = json.loads((self.folder / "profiles.json").read_bytes())
        return [(f, s, p, tuple(tuple(m) for m in marks)) for f, s, p, marks in found]

    def files(self, table: str, patients: int | None = None) -> list[Path]:
        """Return the files of ``table`` that hold the first ``patients``."""
        parts = -(-(patients or self.patients) // PART)
        return [self.folder / f"{table}-{n:06d}.parquet" for n in range(parts)]


def make(folder: Path, kb: KnowledgeBase, trial: Trial, patients: int, base: int) -> Made:
    """Make a cohort of ``patients`` (a multiple of `PART`) in ``folder``, unless it is there."""
    made = Made(folder, patients)
    if (folder / "done").exists():
        return made
    plan = Plan({trial.id: trial})
    store = PreparedStore(folder / "base", plan, {})
    if not store.parts:
        store.add(0, prepare_part(kb, plan, Settings(), base_patients(kb, trial, plan, base)))
    (folder / "profiles.json").write_text(json.dumps(list(store.profiles)))
    connection = duckdb.connect()
    for name in store.schemas():
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM '{store.files(name)[0]}'")
    for number in range(-(-patients // PART)):
        _copy(connection, made, number, base)
    (folder / "done").touch()
    return made


def _copy(connection: duckdb.DuckDBPyConnection, made: Made, number: int, base: int) -> None:
    """Write part ``number``: patient ``n`` is a copy of number ``n % base`` of the base."""
    first, last = number * PART, min((number + 1) * PART, made.patients)
    numbers = f"(SELECT range AS pid, range % {base} AS base FROM range({first}, {last}))"
    jitter = "(0.9 + (hash(n.pid, t.fact) % 201) / 1000)"
    replaced = {
        "facts": f"n.pid AS pid, {_scaled('lo', jitter)}, {_scaled('hi', jitter)}",
        "patients": "n.pid AS pid, 'patient-' || n.pid AS patient, "
        "'urn:bench:' || n.pid AS patient_iri",
        "standing": "n.pid AS pid",
        "answers": "n.pid AS pid",
    }
    for name, columns in replaced.items():
        path = made.files(name, last)[-1]
        connection.execute(
            f"COPY (SELECT t.* REPLACE ({columns}) FROM {numbers} n JOIN {name} t"
            f" ON t.pid = n.base ORDER BY n.pid) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
        )


def _scaled(column: str, factor: str) -> str:
    # Ends that stand for infinity stay what they are; so does an ordinal scale's whole number.
    return (
        f"CASE WHEN abs(t.{column}) > 1e9 OR t.lo = 0 THEN t.{column}"
        f" ELSE t.{column} * {factor} END AS {column}"
    )
