"""Time against the number of facts of one patient; near linear is the aim."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import partial

from benchmarks.common import milliseconds, read, table
from sarc_kb.dates import iso, parse_date
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.explain import explain
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC

SIZES = (100, 1_000, 10_000)
# What is added, over how many days before entry.
KINDS = {
    "haemoglobin over ten years": (SARC.Haemoglobin, "g/dL", 3650),
    "haemoglobin, all in the window": (SARC.Haemoglobin, "g/dL", 14),
    "measurements that no rule reads": (SARC.OtherMeasurement, "1", 3650),
}


def crowded(record: PatientRecord, concept: str, unit: str, days: int, size: int) -> PatientRecord:
    """Return ``record`` with ``size`` more results, spread evenly over ``days`` before entry."""
    assert record.entry is not None
    facts = []
    for number in range(size):
        day = parse_date(iso(record.entry.first - number % days))
        facts.append(
            Fact(
                id=f"urn:crowd:{number}",
                kind=str(SARC.Measurement),
                concepts=(concept,),
                start=day,
                end=day,
                value=Decimal(90 + number % 60) / 10,
                unit=unit,
                source=f"crowd/{number}",
            )
        )
    return replace(record, facts=(*record.facts, *facts))


def main() -> None:
    kb = KnowledgeBase.load()
    trial = kb.compile()
    engine = ShaclEngine(trial, kb.root / "shapes" / "components")
    own = read(kb, trial)
    for title, (concept, unit, days) in KINDS.items():
        rows = []
        for size in SIZES:
            record = crowded(own, str(concept), unit, days, size)
            repeat = 3 if size < SIZES[-1] else 1
            prepared = kb.prepare(record, trial)
            graph = prepared_graph(prepared)
            steps = [
                milliseconds(work, repeat=repeat, warm=size < SIZES[-1])
                for work in (
                    partial(kb.prepare, record, trial),
                    partial(prepared_graph, prepared),
                    partial(engine.run, graph),
                    lambda prepared=prepared: [
                        explain(prepared, c) for c in trial.clauses.values()
                    ],
                )
            ]
            rows.append((f"{size:,}", f"{len(graph):,}", *steps, sum(steps)))
        table(
            f"Growth: {title} (pyshacl)",
            (
                "facts added",
                "triples",
                "prepare ms",
                "graph ms",
                "SHACL ms",
                "explain ms",
                "sum ms",
            ),
            rows,
        )


if __name__ == "__main__":
    main()
