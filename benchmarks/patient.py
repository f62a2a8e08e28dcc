"""One patient, warm, whole rule base: each processor, each component, each step."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pyshacl
from rdflib import Graph

from benchmarks.common import milliseconds, read, table
from sarc_kb.assessment import AssessmentSet
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ENGINE_NAMES, ShaclEngine
from sarc_kb.engines.shapes import READINGS, clause_shapes
from sarc_kb.errors import UsageError
from sarc_kb.explain import explain
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports.text_report import render_text


def main() -> None:
    kb = KnowledgeBase.load()
    trial = kb.compile()
    components = kb.root / "shapes" / "components"
    record = read(kb, trial)
    prepared = kb.prepare(record, trial)
    graph = prepared_graph(prepared)
    uses = 2 * len(trial.clauses)

    shapes = [clause_shapes(trial, components, reading) for reading in READINGS]
    plain_data = Graph()
    for triple in graph:
        plain_data.add(triple)
    plain = milliseconds(
        lambda: [pyshacl.validate(plain_data, shacl_graph=s) for s in shapes], repeat=3
    )
    rows: list[tuple[object, ...]] = [("plain pyshacl.validate", plain, plain / uses, 1.0)]
    engines = {}
    for name in ENGINE_NAMES:
        try:
            engines[name] = ShaclEngine(trial, components, name)
        except UsageError:
            rows.append((name, "not installed", "", ""))
            continue
        taken = milliseconds(partial(engines[name].run, graph))
        rows.append((name, taken, taken / uses, plain / taken))
    table(
        f"Both readings of {len(trial.clauses)} clauses and {len(trial.criteria)} criteria, {len(graph)} triples",
        ("processor", "ms a patient", "ms a clause and reading", "times faster than plain"),
        rows,
    )

    engine = engines["pyshacl"]
    per_component = []
    for component, count in sorted(Counter(c.component for c in trial.clauses.values()).items()):
        clauses = [c for c in trial.clauses.values() if c.component == component]
        taken = [milliseconds(partial(_each, prepared, clauses))]
        per_component.append((component, count, *taken))
    table("Deciding facts, by component", ("component", "clauses", "ms for all"), per_component)

    readings = {r: partial(engine.processors[r].run, graph) for r in READINGS}
    assessment = kb.assess_record(record, trial, engine)
    steps = [
        ("read", milliseconds(lambda: read(kb, trial))),
        ("prepare", milliseconds(lambda: kb.prepare(record, trial))),
        (
            "graph",
            milliseconds(lambda: prepared_graph(kb.prepare(record, trial)))
            - milliseconds(lambda: kb.prepare(record, trial)),
        ),
        ("refuted", milliseconds(readings["refuted"])),
        ("unproven", milliseconds(readings["unproven"])),
        ("explain", milliseconds(lambda: _each(prepared, list(trial.clauses.values())))),
        ("render", milliseconds(lambda: render_text(AssessmentSet(kb.info, (assessment,), ())))),
    ]
    total = sum(taken for _, taken in steps)
    table(
        "Where one assessment's time goes (pyshacl)",
        ("step", "ms", "share, %"),
        [(s, t, 100 * t / total) for s, t in steps],
    )


def _each(prepared: object, clauses: list) -> None:
    for clause in clauses:
        explain(prepared, clause)


if __name__ == "__main__":
    main()
