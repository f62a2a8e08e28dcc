"""`sarc-kb audit agreement`: the engines agree, and one that does not is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sarc_kb.assessment import Outcome
from sarc_kb.audit import agreement
from sarc_kb.audit.section import Request
from sarc_kb.cli import main
from sarc_kb.engines.shacl_engine import Readings, ShaclEngine
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial

SOME = 300


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "EVERY", SOME)


def test_the_engines_agree(trial: Trial, tmp_path: Path) -> None:
    output = tmp_path / "audit.json"
    assert main(["audit", "agreement", "--format", "json", "-o", str(output)]) == 0
    (part,) = json.loads(output.read_text("utf-8"))["parts"]
    assert part["passed"]
    assert {"pyshacl", "cohort"} <= set(part["engines"])
    assert part["cases"] > 5
    assert part["outcomes"] > 40 * part["cases"]
    assert all(pair["outcomes"] == part["outcomes"] for pair in part["agreed"])
    assert not part["differences"]


def test_an_engine_that_differs_is_named(
    kb: KnowledgeBase, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that forgets every second violation it found first."""
    honest = ShaclEngine.run

    def forgetful(engine: ShaclEngine, data: object) -> Readings:
        found = honest(engine, data)  # type: ignore[arg-type]
        if engine.name == "pyshacl":
            for key in list(found.refuted)[::2]:
                del found.refuted[key]
        return found

    monkeypatch.setattr(ShaclEngine, "run", forgetful)
    section = agreement.audit(kb, Request(trial.id))
    assert not section.passed
    wrong = [f for f in section.findings if f.code == "AUDIT040"]
    assert wrong
    for finding in wrong:
        clause, _, case = finding.where.partition(" in ")
        assert any(c.id == clause for part in trial.parts for c in part.clauses.values())
        assert case
        assert "pyshacl: undetermined" in finding.found
        assert f"cohort: {Outcome.FAIL.word}" in finding.found


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "nonesuch"]) == 2
    assert "agreement" in capsys.readouterr().err
