"""The audit of the rules' logic: what it finds in the trial, and that planted faults are caught."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sarc_kb import cli
from sarc_kb.audit import logic
from sarc_kb.audit.section import Request
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.sources.read import read_sources

pytest.importorskip("z3")
pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

from sarc_kb.assessment import Outcome
from sarc_kb.audit.logic import SUPPOSING, Study, Told
from sarc_kb.audit.witness import Judges, Witness

TRIAL = "NCT05602415"
TTL = ("ontology", "shapes")


@pytest.fixture(scope="module")
def study(kb: KnowledgeBase) -> Study:
    return Study(kb, kb.compile(TRIAL))


@pytest.fixture(scope="module")
def told(study: Study) -> list[Told]:
    return study.findings()


def of(told: list[Told], kind: str, *rules: str) -> Told:
    found = [t for t in told if t.kind == kind and t.rules == rules]
    assert len(found) == 1, [(t.kind, t.rules) for t in told]
    return found[0]


def record_of(told: Told, start: str) -> Witness:
    return next(w for what, w in told.shows if what.startswith(start))


def facts(study: Study, witness: Witness) -> list[str]:
    return list(witness.lines(study.trial, study.worlds))


# -- the trial -------------------------------------------------------------------------------------
def test_every_record_is_confirmed_by_both_engines(study: Study, told: list[Told]) -> None:
    assert study.confirm(told) == []
    assert study.confirmed >= 30
    assert not study.worlds.left_out


def test_nothing_is_wrong(told: list[Told]) -> None:
    assert [t.text for t in told if t.severity != "info"] == []


def test_every_clause_can_pass_and_fail(study: Study, told: list[Told]) -> None:
    shown = of(told, "reachable")
    passed = {i for _, w in shown.shows for i, o in w.expected.items() if o is Outcome.PASS}
    failed = {i for _, w in shown.shows for i, o in w.expected.items() if o is Outcome.FAIL}
    everything = {c.id for c in (*study.trial.clauses.values(), *study.trial.criteria)}
    assert passed == failed == everything


def test_transfusions_are_the_same_rule_only_if_treatment_starts_at_entry(
    study: Study, told: list[Told]
) -> None:
    for one, other in (("I07b", "E12"), ("E12", "I07b")):
        found = of(told, "implied", one, other)
        assert found.supposing == SUPPOSING[logic.AT_ENTRY]
        assert any(entry.startswith("A-12") for entry in found.register)
        against = record_of(found, "not so in general")
        assert against.expected[one] is Outcome.PASS
        assert against.expected[other] is Outcome.FAIL
        assert any("transfusion" in fact for fact in facts(study, against))
        assert any("index resection" in fact for fact in facts(study, against))


def test_the_size_of_i06_follows_from_that_of_i04_if_it_was_measured_once(
    study: Study, told: list[Told]
) -> None:
    found = of(told, "implied", "I04a", "I06b")
    assert found.supposing == SUPPOSING[logic.ONCE]
    assert found.register[0].startswith("A-23")
    against = record_of(found, "not so in general")
    assert sum("longest diameter" in fact for fact in facts(study, against)) == 2


def test_five_centimetres_meet_i06_and_not_i04(study: Study, told: list[Told]) -> None:
    found = of(told, "conflict", "I06", "I04")
    (_, witness), *_ = found.shows
    assert "longest diameter of a tumour 5 cm" in facts(study, witness)[0]


def test_a_site_in_scope_is_never_excluded_but_a_general_code_leaves_both_open(
    told: list[Told],
) -> None:
    assert of(told, "implied", "I02", "E02").supposing == SUPPOSING[logic.ALWAYS]
    general = of(told, "open-for-both", "I02", "E02")
    assert "pelvic region" in general.text
    assert any(entry.startswith("A-02") for entry in general.register)
    assert set(general.shows[0][1].expected.values()) == {Outcome.UNDETERMINED}


def test_an_index_resection_brings_older_surgery_into_reach(study: Study, told: list[Told]) -> None:
    found = of(told, "conflict-of-dates", "I04", "E14")
    assert "start of study treatment" in found.details[0]
    assert any(entry.startswith("A-13") for entry in found.register)
    (_, witness), *_ = found.shows
    assert witness.expected["I04"] is Outcome.PASS
    assert witness.expected["E14"] is Outcome.FAIL
    assert witness.expected["E14a"] is Outcome.FAIL or witness.expected["E14b"] is Outcome.FAIL


def test_rhabdomyosarcoma_is_in_scope_and_excluded(told: list[Told]) -> None:
    found = of(told, "in-scope-and-excluded", "I01", "E03")
    assert "rhabdomyosarcoma is a soft-tissue sarcoma" in found.details
    assert found.register[0].startswith("A-21")
    of(told, "conflict", "I01", "E03")


def test_a_record_can_be_read_again_as_it_is(
    study: Study, told: list[Told], tmp_path: Path
) -> None:
    witness = record_of(of(told, "implied", "I04a", "I06b"), "not so in general")
    path = tmp_path / "witness.ttl"
    path.write_text(witness.turtle, "utf-8")
    (record,), problems = read_sources([path], study.kb.reading_terms(study.trial))
    assert not problems
    again = Witness(record, witness.expected)
    assert Judges(study.kb, study.trial).differences([again]) == []


def test_a_wrong_model_is_told(study: Study, told: list[Told]) -> None:
    right = record_of(of(told, "implied", "I04a", "I06b"), "not so in general")
    wrong = Witness(right.record, {**right.expected, "I06b": Outcome.PASS})
    false = Told("implied", "info", "LOGIC010", ("I04a", "I06b"), "", "", "", (("", wrong),))
    found = study.confirm([false])
    assert [f.code for f in found] == ["LOGIC090"] * 2
    assert {f.severity for f in found} == {"error"}
    assert "I06b pass" in found[0].found
    assert "I06b fail" in found[0].found


def test_worlds_mean_what_the_engines_say(study: Study) -> None:
    """Worlds that nobody asked for, with doubles, ties, edges of windows and what follows."""
    rng, solver = random.Random(5602415), study.solver
    slots = [slot for family in study.worlds.families for slot in family.slots]
    edges = (0, -1, -14, -15, -28, -29, -92, -182, -183)
    witnesses = []
    for _ in range(6):
        solver.push()

        def attempt(formula: object) -> None:
            if solver.check(formula) == study.z3.sat:
                solver.add(formula)

        for slot in rng.sample(slots, 30):
            attempt(slot.there)
            attempt(slot.start == rng.choice((*edges, rng.randint(-800, 0))))
            for choice in (slot.concept, slot.value, *slot.axes.values()):
                if choice is not None and choice.variable is not None:
                    attempt(choice.variable == rng.randrange(len(choice.terms)))
        for unit in rng.sample(study.units, 10):
            attempt(rng.choice((study.passes, study.fails))(unit))
        assert solver.check() == study.z3.sat
        witnesses.append(study.writer.witness(solver.model()))
        solver.pop()
    assert Judges(study.kb, study.trial).differences(witnesses) == []


# -- planted faults ----------------------------------------------------------------------------------
Plant = Callable[[Callable[[Path], None]], KnowledgeBase]


@pytest.fixture
def plant(kb: KnowledgeBase, tmp_path: Path) -> Plant:
    def planted(change: Callable[[Path], None]) -> KnowledgeBase:
        for part in TTL:
            shutil.copytree(kb.root / part, tmp_path / part)
        change(tmp_path / "shapes" / "trials" / TRIAL.lower())
        return KnowledgeBase.load(tmp_path)

    return planted


def edit(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, path.read_text("utf-8"))
    assert count == 1, path
    path.write_text(text, "utf-8")


def planted_copy(trial: Path, old: str, new: str, pattern: str, by: str) -> None:
    """Add a copy of the criterion ``old`` in its folder, called ``new``, with one change."""
    (path,) = (p for p in trial.glob(f"*clusion/{old}-*.ttl") if ".cases" not in p.name)
    copy = path.with_name(f"{new}-planted.ttl")
    copy.write_text(re.sub(rf"\b{old}\b", new, path.read_text("utf-8")), "utf-8")
    if pattern:
        edit(copy, pattern, by)


def test_two_rules_that_can_never_both_pass(plant: Plant) -> None:
    def change(trial: Path) -> None:
        planted_copy(trial, "I05", "I12", r"sarc:atMost( +)2\.0", r"sarc:atLeast\g<1>3.0")

    study = _study(plant(change))
    pairs, together = list(study._never_both()), list(study._together())
    assert [(t.code, t.severity, t.rules) for t in pairs] == [("LOGIC004", "error", ("I05", "I12"))]
    assert pairs[0].text.startswith("no patient can pass both I05 (")
    assert [what for what, _ in pairs[0].shows] == ["passes I05", "passes I12"]
    assert [(t.code, t.rules) for t in together] == [("LOGIC003", ("I05", "I12"))]
    assert study.confirm(pairs) == []


def test_a_rule_turned_round(plant: Plant) -> None:
    """E12 asks for the transfusion that I07b forbids."""

    def change(trial: Path) -> None:
        path = trial / "exclusion" / "E12-transfusion.ttl"
        edit(path, r"sarc:none( +)sarc:Blood", r"sarc:some\1sarc:Blood")
        edit(path, "trial:fourteen-days-before-treatment", "trial:fourteen-days-to-entry")

    found = list(_study(plant(change))._never_both())
    assert [t.rules for t in found] == [("I07", "E12")]


def test_an_unreachable_clause(plant: Plant) -> None:
    """More than 5 on a scale that ends at 5."""

    def change(trial: Path) -> None:
        path = trial / "inclusion" / "I05-performance-status.ttl"
        edit(path, r"sarc:atMost( +)2\.0", r"sarc:moreThan\g<1>5.0")

    found = list(_study(plant(change))._alone())
    assert [(t.code, t.severity, t.rules) for t in found] == [("LOGIC001", "error", ("I05",))]
    assert "unreachable" in found[0].text


def test_a_window_of_nothing(plant: Plant) -> None:
    def change(trial: Path) -> None:
        edit(
            trial / "policy.ttl",
            r"(policy:performance-status-look-back a (?:.|\n)*?)sarc:endsDaysBefore 0",
            r"\1sarc:endsDaysBefore 20",
        )

    found = list(_study(plant(change))._alone())
    assert {(t.code, t.rules) for t in found} == {("LOGIC001", ("I05",)), ("LOGIC002", ("I05",))}


def test_a_limit_that_binds_nobody(plant: Plant) -> None:
    def change(trial: Path) -> None:
        edit(
            trial / "inclusion" / "I05-performance-status.ttl",
            r"sarc:atMost( +)2\.0",
            r"sarc:atMost\g<1>5.0",
        )

    found = list(_study(plant(change))._alone())
    assert [(t.code, t.rules) for t in found] == [("LOGIC002", ("I05",))]
    assert "vacuous" in found[0].text


def test_a_duplicate_rule(plant: Plant) -> None:
    study = _study(plant(lambda trial: planted_copy(trial, "E13", "E20", "", "")))
    found = list(study._duplicates())
    assert [(t.code, t.severity, t.rules) for t in found] == [
        ("LOGIC005", "warning", ("E13", "E20"))
    ]
    assert "always come out alike" in found[0].text
    assert study.confirm(found) == []


def _study(kb: KnowledgeBase) -> Study:
    return Study(kb, kb.compile(TRIAL))


# -- the command -------------------------------------------------------------------------------------
def test_the_command_tells_it(
    study: Study, told: list[Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "findings", lambda: told)
    monkeypatch.setattr(logic, "Study", lambda _kb, _trial: study)
    path = tmp_path / "audit.json"
    assert cli.main(["audit", "logic", "--format", "json", "-o", str(path)]) == cli.PASS
    (part,) = json.loads(path.read_text("utf-8"))["parts"]
    assert part["name"] == "logic"
    assert part["passed"]
    assert "all confirmed by both engines" in part["summary"]
    assert part["engines"][1] == "cohort"
    assert {p["kind"] for p in part["logic"]} >= {"implied", "conflict", "open-for-both"}
    for one in part["logic"]:
        assert all("sarc:fact" in w["turtle"] for w in one["witnesses"])


def test_without_the_solver_the_extra_is_named(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(logic, "import_module", absent)
    with pytest.raises(UsageError, match=r"sarc-kb\[audit\]"):
        logic.audit(kb, Request(TRIAL))
