"""Memory does not grow with patients: whole commands over some, and over several times as many.

What is counted is what Python keeps or holds at one time. That has no noise, so that little of each
of few patients shows; the memory of a process, with what SQLite, Arrow and DuckDB take up to their
own bounds, is what ``benchmarks/memory.py`` measures. All that is held at once has a bound; with
those of the program only a large cohort would reach them, so they are small here.
"""

from __future__ import annotations

import functools
import gc
import json
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tiny_trial import build_tiny

pytest.importorskip("duckdb")
pytest.importorskip("ibis")

from sarc_kb import cli
from sarc_kb.cohort import preparing, screen
from sarc_kb.kb import KnowledgeBase
from sarc_kb.sources import facts_table, fhir_dataset

SOME, MANY = 100, 300
LEAK = 2_000
"""Bytes kept of every patient that must be noticed."""


class Here:
    """The work of workers, done in this process, where its memory is counted."""

    def __init__(
        self, _count: int, *, initializer: Callable[..., None], initargs: Any, **_limits: object
    ) -> None:
        initializer(*initargs)

    def submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


def made(path: Path, patients: int) -> Path:
    """Write NDJSON of so many patients with two results each, far from the patient."""
    lines = [json.dumps({"resourceType": "Patient", "id": f"p{n}"}) for n in range(patients)]
    for n in range(2 * patients):
        body = {
            "resourceType": "Observation",
            "id": str(n),
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
            "subject": {"reference": f"Patient/p{n % patients}"},
            "effectiveDateTime": f"2024-02-{20 + n // patients}",
            "valueQuantity": {
                "value": 8 + n % 3,
                "system": "http://unitsofmeasure.org",
                "code": "g/dL",
            },
        }
        lines.append(json.dumps(body))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.threat("B12")
@pytest.mark.parametrize("command", ["facts", "screen"])
def test_nothing_is_kept_of_a_patient(
    command: str, tiny: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "knowledge_base", lambda _: tiny)
    monkeypatch.setattr(preparing, "IsolatedWorkers", Here)
    monkeypatch.setattr(
        screen, "prepare_all", functools.partial(preparing.prepare_all, size=SOME // 8)
    )
    monkeypatch.setattr(fhir_dataset, "_BATCH", SOME // 2)
    write_facts = functools.partial(facts_table.write_facts, rows=SOME // 2)
    monkeypatch.setattr(facts_table, "write_facts", write_facts)

    def run(patients: int) -> None:
        folder = tmp_path / str(patients)
        folder.mkdir(exist_ok=True)
        source = made(folder / "made.ndjson", patients)
        entry = ["--entry-date", "2024-03-01", "--output"]
        given = [str(source), *entry, str(folder / "out.parquet")]
        if command == "screen":
            given = [str(source), *entry, str(folder / "screened"), "--no-clauses", "--quiet"]
            given += ["--workers", "1"]
        assert cli.main([command, *given]) == 0

    def most(patients: int) -> int:
        # Else what is there by now decides how long garbage is left lying.
        gc.collect()
        gc.freeze()
        tracemalloc.start()
        run(patients)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.unfreeze()
        return peak

    run(SOME // 8)  # what is kept of rules and terms
    few, many = most(SOME), most(MANY)
    assert many - few < LEAK * (MANY - SOME) / 2, (few, many)
