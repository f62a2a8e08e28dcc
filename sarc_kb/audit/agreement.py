"""Do all engines say the same? Boundary cases on every installed SHACL processor and on the cohort
engine, clause by clause."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from sarc_kb.assess import clause_outcomes
from sarc_kb.assessment import Outcome
from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import cases_of, compiled
from sarc_kb.cases import part_of
from sarc_kb.cohort.backends import open_backend
from sarc_kb.cohort.cohort import cohort_of_rows
from sarc_kb.cohort.plan import Plan
from sarc_kb.cohort.rows import PatientRows, rows_of
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ENGINE_NAMES, ShaclEngine
from sarc_kb.errors import EngineError, Finding, UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from sarc_kb.treatment import last_day

COHORT = "cohort"
"""What the cohort engine is called among the processors."""
EVERY = 20
"""Without ``full``, every so manieth case is looked at."""

Cell = tuple[str, str]
"""A case and a clause."""


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return how far the installed engines agree on the boundary cases."""
    trial = compiled(kb, request.trial)
    processors, absent = _processors(kb, trial)
    said, failures = outcomes(kb, trial, processors, 1 if request.full else EVERY)
    names = tuple(said)
    cells = sorted({cell for of in said.values() for cell in of})
    pairs = {
        (a, b): sum(said[a].get(cell) is said[b].get(cell) for cell in cells)
        for a, b in combinations(names, 2)
    }
    differences = [
        (cell, {name: _word(said[name].get(cell)) for name in names})
        for cell in cells
        if len({said[name].get(cell) for name in names}) > 1
    ]
    findings = failures + [
        Finding(
            "AUDIT040",
            "error",
            f"{clause} in {case}",
            ", ".join(f"{name}: {word}" for name, word in told.items()),
            "two engines that differ cannot both be right",
            "find out by the clause's meaning which one is wrong, and report it",
        )
        for (case, clause), told in differences
    ]
    findings += [
        Finding(
            "AUDIT041",
            "info",
            name,
            "not installed",
            "it was not asked",
            "pip install 'sarc-kb[fast]'",
        )
        for name in absent
    ]
    cases = len({case for case, _ in cells})
    summary = f"{len(names)} engines on {cases} cases, {len(cells)} outcomes of clauses each: " + (
        f"{len(differences)} differ" if differences else "no difference"
    )
    return Section(
        name="agreement",
        summary=summary,
        lines=tuple(_matrix(names, pairs, len(cells))),
        document={
            "engines": list(names),
            "cases": cases,
            "outcomes": len(cells),
            "agreed": [{"engines": [a, b], "outcomes": n} for (a, b), n in pairs.items()],
            "differences": [
                {"case": case, "clause": clause, "outcomes": told}
                for (case, clause), told in differences
            ],
        },
        findings=tuple(findings),
    )


def _processors(kb: KnowledgeBase, trial: Trial) -> tuple[dict[str, ShaclEngine], list[str]]:
    found: dict[str, ShaclEngine] = {}
    absent: list[str] = []
    for name in ENGINE_NAMES:
        try:
            found[name] = ShaclEngine(trial, kb.root / "shapes" / "components", name)
        except UsageError:  # an optional extra
            absent.append(name)
    return found, absent


def outcomes(
    kb: KnowledgeBase, trial: Trial, processors: Mapping[str, ShaclEngine], every: int
) -> tuple[dict[str, dict[Cell, Outcome]], list[Finding]]:
    """Return what each engine says of each clause of the part that a case is about, for every
    ``every``-th case under the default readings; and the processors that failed on a case."""
    cases = [case for case in cases_of(kb, trial.id.upper()) if not case.readings][::every]
    plan = Plan({trial.id: trial})
    said: dict[str, dict[Cell, Outcome]] = {name: {} for name in (*processors, COHORT)}
    rows: list[tuple[int, PatientRows]] = []
    failures: list[Finding] = []
    for pid, case in enumerate(cases):
        part = part_of(trial, case.rule)
        own = PatientRows()
        for frame in plan.frames:
            if frame.part is not part:
                continue
            as_of = case.as_of
            if frame.is_treatment and as_of is None:
                as_of = last_day(case.record)
            prepared = kb.prepare(case.record, part, as_of=as_of)
            at_entry = kb.prepare(case.record, trial) if frame.is_treatment else None
            rows_of(prepared, frame, own, at_entry)
            graph = prepared_graph(prepared)
            for name, processor in processors.items():
                of_part = processor.treatment if frame.is_treatment else processor
                assert of_part is not None
                try:
                    readings = of_part.run(graph)
                except EngineError as failure:
                    failures += failure.findings
                    continue
                found = clause_outcomes(part, readings.refuted, readings.unproven)
                said[name] |= {(case.id, part.clauses[c].id): o for c, o in found.items()}
        rows.append((pid, own))
    with tempfile.TemporaryDirectory() as scratch:
        backend = open_backend("duckdb", memory="2GB", scratch=Path(scratch))
        try:
            cohort = cohort_of_rows(backend, plan, rows)
            words = {outcome.word: outcome for outcome in Outcome}
            for row in cohort.clause_rows().to_pylist():
                if row["clause"] is not None:
                    cell = (cases[row["pid"]].id, row["clause"])
                    said[COHORT][cell] = words[row["outcome"]]
        finally:
            backend.close()
    return said, failures


def _word(outcome: Outcome | None) -> str:
    return "no answer" if outcome is None else outcome.word


def _matrix(names: Sequence[str], pairs: Mapping[tuple[str, str], int], cells: int) -> list[str]:
    """Return the matrix of agreement as lines: how many of the outcomes two engines share."""
    width = max(len(name) for name in (*names, f"{cells:,}")) + 2
    lines = [" " * width + "".join(name.rjust(width) for name in names)]
    for a in names:
        shown = [
            f"{cells if a == b else pairs.get((a, b), pairs.get((b, a), 0)):,}".rjust(width)
            for b in names
        ]
        lines.append(a.ljust(width) + "".join(shown))
    return lines
