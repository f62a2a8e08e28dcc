"""What tests of the cohort engine share: a cohort made of rows, and what one patient at a time says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sarc_kb.assess import fold
from sarc_kb.assessment import Outcome
from sarc_kb.cohort.backends import Backend, open_backend
from sarc_kb.cohort.cohort import Cohort, cohort_of_rows
from sarc_kb.cohort.evaluate import TREATMENT
from sarc_kb.cohort.plan import Frame, Plan
from sarc_kb.cohort.rows import PatientRows
from sarc_kb.explain import Explanation, explain, missing_kinds
from sarc_kb.prepare import Prepared
from sarc_kb.treatment import outcomes_at_entry, rule_outcome

Told = tuple[str, frozenset[str], frozenset[str]]
"""Outcome of a clause, sources of its evidence, kinds of missing data."""


@dataclass(frozen=True)
class Truth:
    """What the reference says of one patient in one frame."""

    clauses: Mapping[str, Told]
    rules: Mapping[str, str]


def outcome_of(ground: Explanation) -> Outcome:
    if ground.refuted:
        return Outcome.FAIL
    return Outcome.UNDETERMINED if ground.unproven else Outcome.PASS


def truth_of(
    prepared: Prepared,
    frame: Frame,
    at_entry: Prepared | None = None,
    shacl: Mapping[str, Outcome] | None = None,
    grounds: Mapping[str, Explanation] | None = None,
) -> Truth:
    """Return what the clauses of a frame come to for one patient.

    ``shacl``: the outcomes of a SHACL engine; without them the deciding facts speak, which are held
    against it elsewhere. ``grounds``: what `explain` says of each clause, if known.
    """
    part = prepared.trial
    if grounds is None:
        grounds = {iri: explain(prepared, clause) for iri, clause in part.clauses.items()}
    outcomes = {iri: outcome_of(g) for iri, g in grounds.items()} if shacl is None else dict(shacl)
    clauses: dict[str, Told] = {}
    for iri, clause in part.clauses.items():
        ground, outcome = grounds[iri], outcomes[iri]
        sources = [", ".join(i.sources) for i in ground.evidence]
        sources += [", ".join(a.item.sources) for a in ground.answers]
        open_ = outcome is Outcome.UNDETERMINED
        clauses[named(frame, clause.id)] = (
            outcome.word,
            frozenset(filter(None, sources)),
            frozenset(missing_kinds(clause, ground)) if open_ else frozenset(),
        )
    rules: dict[str, str] = {}
    before = outcomes_at_entry(at_entry, part.criteria) if at_entry is not None else {}
    for rule in part.criteria:
        if frame.is_treatment:
            rules[rule.id] = rule_outcome(prepared, rule, outcomes, grounds, before).value
        elif rule.iri in prepared.denied:
            rules[rule.id] = Outcome.FAIL.word
        else:
            rules[rule.id] = fold(part, rule.root, outcomes).word
    return Truth(clauses, rules)


def cohort_of(
    plan: Plan,
    rows: Iterable[tuple[int, PatientRows]],
    scratch: Path,
    *,
    engine: str = "duckdb",
    server: str | None = None,
) -> tuple[Backend, Cohort]:
    """Return the evaluated cohort of patients given as rows; close the backend afterwards."""
    backend = open_backend(engine, memory="2GB", scratch=scratch, server=server)
    return backend, cohort_of_rows(backend, plan, rows)


def named(frame: Frame, clause: str) -> str:
    """Return a name for a clause that no other part has: a treatment rule may judge a clause on
    eligibility again, under its id."""
    return f"treatment {clause}" if frame.is_treatment else clause


def told_of(
    cohort: Cohort, keys: Collection[tuple[int, str]] | None = None
) -> dict[tuple[int, str], dict[str, Told]]:
    """Return, for each patient and trial, or for those of ``keys`` alone, what the cohort engine
    says of each clause."""
    found: dict[tuple[int, str], dict[str, Told]] = {}
    rows = cohort.clause_rows()
    if keys is not None:
        names = sorted({name for _, name in keys})
        # One number for each pair; null where the trial is none of those.
        places = pc.cast(pc.index_in(rows["trial"], pa.array(names)), pa.int64())
        pairs = pc.add(pc.multiply(pc.cast(rows["pid"], pa.int64()), len(names)), places)
        asked = pa.array([pid * len(names) + names.index(name) for pid, name in keys], pa.int64())
        rows = rows.filter(pc.is_in(pairs, asked))
    for row in rows.to_pylist():
        if row["clause"] is None:
            continue
        told = found.setdefault((row["pid"], row["trial"]), {})
        clause = named(cohort.plan.frames[row["frame"]], row["clause"])
        assert clause not in told
        told[clause] = (
            row["outcome"],
            frozenset(row["evidence"] or ()),
            frozenset((row["missing"] or "").split("; ")) - {""},
        )
    return found


def rules_of(cohort: Cohort) -> dict[tuple[int, str], dict[str, str]]:
    """Return, for each patient and trial, what the cohort engine says of each criterion and rule."""
    found: dict[tuple[int, str], dict[str, str]] = {}
    words = {o.value: o.word for o in Outcome}
    for frame in cohort.plan.frames:
        for row in cohort.dicts(cohort.judged[frame.number]):
            told = found.setdefault((row["pid"], frame.names[row["variant"]]), {})
            for rule in frame.criteria:
                number = row[rule.id]
                told[rule.id] = TREATMENT[number].value if frame.is_treatment else words[number]
    return found


def differences(
    truths: Mapping[tuple[int, str], Iterable[Truth]], cohort: Cohort, *, asked: bool = False
) -> list[tuple[object, ...]]:
    """Return where the cohort engine says otherwise than the reference, and what each says; empty
    also means that both speak of the same clauses and rules of the same patients: of those that the
    reference speaks of, if only what was ``asked`` matters."""
    clauses, rules = told_of(cohort, truths if asked else None), rules_of(cohort)
    if asked:
        rules = {key: told for key, told in rules.items() if key in truths}
    found: list[tuple[object, ...]] = []
    for key, parts in truths.items():
        said = {id_: told for part in parts for id_, told in part.clauses.items()}
        judged = {id_: told for part in parts for id_, told in part.rules.items()}
        for reference, other in ((said, clauses.pop(key, {})), (judged, rules.pop(key, {}))):
            found += [
                (*key, id_, reference.get(id_), other.get(id_))
                for id_ in sorted({*reference, *other})
                if reference.get(id_) != other.get(id_)
            ]
    found += [(*key, "nobody asked") for key in (*clauses, *rules)]
    return found
