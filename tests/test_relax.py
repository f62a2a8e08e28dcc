"""A limit set by the caller changes what it names and nothing else, and every report says so."""

from __future__ import annotations

import importlib.util
import json
from decimal import Decimal
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rdflib import Graph, Literal, URIRef

import sarc_kb
from sarc_kb import cli
from sarc_kb.assessment import AssessmentSet, ClauseResult, Verdict
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC, SH
from sarc_kb.reports.json_report import document
from sarc_kb.reports.shacl_report import render_turtle
from sarc_kb.reports.text_report import render_text
from sarc_kb.rules import Bounds, Clause, Trial, apply_relaxations

ROOT = Path(sarc_kb.__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCHEMA = json.loads(
    (Path(sarc_kb.__file__).parent / "schema" / "assessments-1.schema.json").read_text("utf-8")
)
EIGHT = {"I07a:atLeast": "8.0"}
TOLD = "I07a:atLeast=8.0 (was 9.0)"
GROUND = "relaxed: atLeast 8.0 instead of 9.0"


@pytest.fixture(scope="module")
def pale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whoever passes all but haemoglobin, which is 8.5 g/dL."""
    text = (EXAMPLES / "anaemic" / "patient.ttl").read_text("utf-8")
    assert text.count("8.6") == 1
    path = tmp_path_factory.mktemp("pale") / "patient.ttl"
    path.write_text(text.replace("8.6", "8.5"), "utf-8")
    return path


def clauses_of(trial: Trial) -> dict[tuple[int, str], Clause]:
    """Every clause of both parts; a clause that both have is there twice."""
    return {
        (number, clause.id): clause
        for number, part in enumerate(trial.parts)
        for clause in part.clauses.values()
    }


def differing(one: Trial, other: Trial) -> set[str]:
    """The ids of the clauses that are not the same, which must be the same ones otherwise."""
    before, after = clauses_of(one), clauses_of(other)
    assert before.keys() == after.keys()
    return {name for (part, name), c in before.items() if after[part, name] != c}


def clause(trial: Trial, name: str) -> Clause:
    found = next(c for (_, n), c in clauses_of(trial).items() if n == name)
    assert found.role is not None
    return found


def result(found: AssessmentSet, name: str) -> ClauseResult:
    (assessment,) = found.assessments
    rules = assessment.treatment.rules if assessment.treatment else ()
    return next(c for r in (*assessment.criteria, *rules) for c in r.clauses if c.id == name)


# -- what it decides -------------------------------------------------------------------------------
ENGINES = {"pyshacl": "pyshacl", "pyshifty": "shifty", "pyshacl-turbo": "pyshacl_turbo"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_between_the_limits_fails_by_the_one_and_passes_by_the_other(
    kb: KnowledgeBase, pale: Path, engine: str
) -> None:
    if importlib.util.find_spec(ENGINES[engine]) is None:
        pytest.skip(f"{engine} is not installed")
    before = kb.validate(pale, engine=engine)
    after = kb.validate(pale, engine=engine, relaxed=EIGHT)
    assert [s.assessments[0].verdict for s in (before, after)] == [
        Verdict.INELIGIBLE,
        Verdict.ELIGIBLE,
    ]
    assert [result(s, "I07a").outcome.word for s in (before, after)] == ["fail", "pass"]
    assert result(after, "I07a").limit.startswith("haemoglobin ≥ 8 g/dL")
    # By default nothing is left of it.
    assert kb.validate(pale, engine=engine) == before


@pytest.mark.parametrize(
    ("number", "outcome"), [("8.5", "pass"), ("8.500000000001", "fail"), ("12.0", "fail")]
)
def test_the_limit_is_compared_exactly_and_may_be_tightened(
    kb: KnowledgeBase, pale: Path, number: str, outcome: str
) -> None:
    found = kb.validate(pale, relaxed={"I07a:atLeast": number})
    assert result(found, "I07a").outcome.word == outcome


def test_a_tighter_limit_fails_who_passed(kb: KnowledgeBase) -> None:
    source = EXAMPLES / "eligible"
    assert kb.validate(source).assessments[0].verdict is Verdict.ELIGIBLE
    found = kb.validate(source, relaxed={"I03:atLeast": "100"})
    assert found.assessments[0].verdict is Verdict.INELIGIBLE
    # The words of the rule are those of the protocol's limit; the message says which one it was.
    assert result(found, "I03").message.endswith("[relaxed: atLeast 100 instead of 18.0]")


def test_a_pair_passes_when_both_limits_are_above_it(kb: KnowledgeBase) -> None:
    source = EXAMPLES / "long-qtc"
    failed = result(kb.validate(source), "E11a1")
    assert failed.outcome.word == "fail"
    highest = max(Decimal(e.value or "0") for e in failed.evidence)
    found = kb.validate(source, relaxed={"E11a1:pairedMoreThan": str(highest)})
    assert result(found, "E11a1").outcome.word == "pass"
    assert result(found, "E11a2") == result(kb.validate(source), "E11a2")


def test_a_limit_of_treatment(kb: KnowledgeBase) -> None:
    source = EXAMPLES / "course-late-start"
    before = kb.validate(source)
    after = kb.validate(source, relaxed={"T04a:atMost": "365"})
    assert [result(s, "T04a").outcome.word for s in (before, after)] == ["fail", "pass"]
    told = [{r.id: r.outcome for r in s.assessments[0].treatment.rules} for s in (before, after)]  # type: ignore[union-attr]
    assert told[0]["T04"] is not told[1]["T04"]
    assert result(after, "T04a").rests_on[0] == "relaxed: atMost 365 instead of 28.0"
    assert before.assessments[0].criteria == after.assessments[0].criteria


# -- what it changes -------------------------------------------------------------------------------
def every_limit(trial: Trial) -> list[tuple[str, str, str]]:
    return sorted(
        {(c.id, name, old) for c in clauses_of(trial).values() for name, old in c.limits.items()}
    )


def moved(parameter: str, old: str) -> str:
    """The next number outwards."""
    low = parameter.removeprefix("paired").casefold() in ("atleast", "morethan", "gapfrom")
    return str(Decimal(old) + (-1 if low else 1))


def test_only_the_limit_that_is_named_changes(kb: KnowledgeBase, trial: Trial) -> None:
    graph = kb.trial_graph(trial.id)
    before = set(graph)
    for name, parameter, old in every_limit(trial):
        (done,) = apply_relaxations(graph, {f"{name}:{parameter}": moved(parameter, old)})
        (gone,), (new,) = before - set(graph), set(graph) - before
        assert gone[:2] == new[:2] == (URIRef(done.iri), SARC[parameter])
        assert Decimal(str(new[2])) == Decimal(moved(parameter, old))
        assert isinstance(gone[2], Literal)
        assert isinstance(new[2], Literal)
        assert new[2].datatype == gone[2].datatype
        graph.remove(new)
        graph.add(gone)


def test_only_the_clause_that_is_named_changes(kb: KnowledgeBase, trial: Trial) -> None:
    one_of_each = {parameter: (name, old) for name, parameter, old in every_limit(trial)}
    assert {"atLeast", "moreThan", "atMost", "lessThan", "pairedMoreThan", "gapFrom"} <= set(
        one_of_each
    )
    for parameter, (name, old) in one_of_each.items():
        number = moved(parameter, old)
        changed = kb.compile(relaxed={f"{name}:{parameter}": number})
        assert differing(trial, changed) == {name}
        now = clause(changed, name)
        assert now.limits == clause(trial, name).limits | {parameter: number}
        assert now.relaxed == (f"{parameter} {number} instead of {old}",)
        assert changed.changed == (f"relax: {name}:{parameter}={number} (was {old})",)
        assert (changed.windows, changed.policies) == (trial.windows, trial.policies)
        assert changed.chosen_readings == trial.chosen_readings


def test_the_limits_of_a_clause_are_those_of_its_parameters(trial: Trial) -> None:
    assert clause(trial, "I07a").limits == {"atLeast": "9.0"}
    assert clause(trial, "E11a1").limits == {
        "moreThan": "470.0",
        "pairedMoreThan": "470.0",
        "gapFrom": "-1440",
        "gapTo": "1440",
    }
    assert not clause(trial, "I07b").limits


def test_the_gap_is_whole_minutes(kb: KnowledgeBase) -> None:
    relaxed = {"E11a1:gapTo": "2880.0", "E11a1:gapFrom": "-2880", "E11a1:pairedMoreThan": "480"}
    changed = clause(kb.compile(relaxed=relaxed), "E11a1")
    assert changed.gap == (-2880, 2880)
    assert changed.second is not None
    assert changed.second.bounds == Bounds(more_than=Decimal(480))
    assert changed.role == clause(kb.compile(), "E11a1").role


def test_both_limits_may_move_together(kb: KnowledgeBase) -> None:
    changed = kb.compile(relaxed={"T04a:atLeast": "30", "T04a:atMost": "40"})
    assert clause(changed, "T04a").limits == {"atLeast": "30", "atMost": "40"}


def test_a_limit_set_to_what_it_is_changes_nothing(kb: KnowledgeBase, trial: Trial) -> None:
    same = kb.compile(relaxed={"I07a:atLeast": "9", "E11a1:gapTo": "+1440"})
    assert not differing(trial, same)
    assert same.changed == ()


def test_a_clause_judged_again_has_one_limit(kb: KnowledgeBase, trial: Trial) -> None:
    """What eligibility and treatment both judge is one clause; the graph has it once."""
    assert trial.treatment is not None
    both = trial.clauses.keys() & trial.treatment.clauses.keys()
    for iri in both:
        for name in trial.clauses[iri].limits:
            changed = kb.compile(relaxed={f"{trial.clauses[iri].id}:{name}": "1"})
            assert changed.treatment is not None
            assert changed.clauses[iri].relaxed == changed.treatment.clauses[iri].relaxed != ()


# -- beside readings and policies ------------------------------------------------------------------
def test_a_tolerance_is_about_the_limit_that_was_set(kb: KnowledgeBase) -> None:
    policies = {"delivered-dose-tolerance": "0.5"}
    assert clause(kb.compile(policies=policies), "T12b").limits["atLeast"] == "49.5"
    trial = kb.compile(policies=policies, relaxed={"T12b:atLeast": "45.0"})
    assert clause(trial, "T12b").limits == {"atLeast": "44.5", "atMost": "50.5"}
    # What it was is the rule's own limit, not that with the tolerance.
    assert clause(trial, "T12b").relaxed == ("atLeast 45.0 instead of 50.0",)
    assert trial.changed == (
        "delivered-dose-tolerance=0.5",
        "relax: T12b:atLeast=45.0 (was 50.0)",
    )


def test_a_limit_is_set_as_the_reading_left_it(kb: KnowledgeBase) -> None:
    trial = kb.compile(readings={"A-34": "as-printed"}, relaxed={"I07c:atLeast": "1.0"})
    assert clause(trial, "I07c").limits == {"atLeast": "1.0"}
    assert clause(trial, "I07c").relaxed == ("atLeast 1.0 instead of 0.0000001635",)


def test_a_reading_may_give_a_clause_another_limit(kb: KnowledgeBase) -> None:
    readings = {"A-35": "two-days"}
    with pytest.raises(UsageError, match="USE015"):
        kb.compile(relaxed={"T04b:atMost": "22"})
    trial = kb.compile(readings=readings, relaxed={"T04b:atMost": "22"})
    assert clause(trial, "T04b").limits == {"atLeast": "21.0", "atMost": "22"}


def test_the_rule_base_itself_stays_as_it_is(kb: KnowledgeBase, trial: Trial, pale: Path) -> None:
    before = kb.info.sha256
    kb.engine(relaxed=EIGHT)
    assert kb.info.sha256 == before
    assert not differing(trial, kb.compile())
    again = KnowledgeBase.load()
    again.engine(relaxed={"I07a:atLeast": "7.5"})
    assert again.info.sha256 == before
    assert (ROOT / "shapes" / "checked.sha256").read_text("utf-8").strip() == before


# -- what reports say ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def relaxed(kb: KnowledgeBase, pale: Path) -> AssessmentSet:
    return kb.validate(pale, relaxed=EIGHT)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_the_text_says_it_below_the_verdict(
    relaxed: AssessmentSet, quiet: bool, colour: bool
) -> None:
    text = render_text(relaxed, quiet=quiet, colour=colour)
    first, second = text.splitlines()[:2]
    assert "ELIGIBLE" in first
    assert "RELAXED" in second
    assert second.endswith(f"not by the protocol's limits: {TOLD}")
    if not quiet:
        assert f"- {GROUND}: I07a" in text
        assert f"relax: {TOLD}" in " ".join(text.split())


def test_the_text_says_nothing_without(kb: KnowledgeBase, pale: Path) -> None:
    text = render_text(kb.validate(pale))
    assert "relax" not in text.lower()


def test_a_failure_by_another_limit_says_so(kb: KnowledgeBase, pale: Path) -> None:
    found = result(kb.validate(pale, relaxed={"I07a:atLeast": "8.7"}), "I07a")
    assert found.message.endswith("[relaxed: atLeast 8.7 instead of 9.0]")
    assert found.rests_on[0] == "relaxed: atLeast 8.7 instead of 9.0"


def test_the_json_says_it(relaxed: AssessmentSet) -> None:
    found = document(relaxed.knowledge_base, relaxed.assessments, relaxed.run_findings)
    Draft202012Validator(SCHEMA).validate(found)
    (assessment,) = json.loads(json.dumps(found))["assessments"]
    assert assessment["provenance"]["changed"] == [f"relax: {TOLD}"]
    assert "relaxed" not in assessment["provenance"]
    told = {
        c["id"]: c["rests_on"] for criterion in assessment["criteria"] for c in criterion["clauses"]
    }
    assert [name for name, grounds in told.items() if GROUND in grounds] == ["I07a"]


def test_the_shacl_report_says_it(kb: KnowledgeBase, relaxed: AssessmentSet, pale: Path) -> None:
    tight = kb.validate(pale, relaxed={"I07a:atLeast": "8.7"})
    components = {c.iri: c.component_iri for p in kb.compile().parts for c in p.clauses.values()}
    for found, told, number in ((relaxed, TOLD, "8.0"), (tight, TOLD.replace("8.0", "8.7"), "8.7")):
        graph = Graph().parse(data=render_turtle(found, components=components), format="turtle")
        assert {str(o) for o in graph.objects(None, SARC.setByCaller)} == {f"relax: {told}"}
        ground = Literal(f"relaxed: atLeast {number} instead of 9.0")
        assert (None, SARC.outcomeRestsOn, ground) in graph
    assert any("[relaxed:" in str(o) for o in graph.objects(None, SH.resultMessage))


# -- the command line ------------------------------------------------------------------------------
def test_validate_takes_it(pale: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(pale), "-q"]) == 1
    assert cli.main(["validate", str(pale), "-q", "--relax", "I07a:atLeast=8.0"]) == 0
    assert TOLD in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["rules"], "≥ 8 g/dL (look-back for laboratory tests, days) [relaxed: atLeast 8.0"),
        (["explain", "I07a"], "[relaxed: atLeast 8.0 instead of 9.0]"),
        (["explain", "I07"], "[relaxed: atLeast 8.0 instead of 9.0]"),
        (["readiness", "PALE"], f"Set by the caller: relax: {TOLD}"),
        (["map", "PALE"], ""),
        (["prepare", "PALE"], ""),
        (["checklist"], ""),
    ],
)
def test_so_do_the_other_commands(
    arguments: list[str], shown: str, pale: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [str(pale) if a == "PALE" else a for a in arguments]
    assert cli.main([*named, "--relax", "I07a:atLeast=8.0"]) == 0
    assert shown in capsys.readouterr().out
    assert cli.main([*named, "--relax", "I07z:atLeast=8.0"]) == 2


@pytest.mark.parametrize("command", ["check", "shapes"])
def test_what_is_about_the_rules_as_written_does_not(command: str) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--relax", "I07a:atLeast=8.0"])


def test_explain_says_what_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "T04a"]) == 0
    page = capsys.readouterr().out
    assert "to try another limit: --relax T04a:atLeast=21.0 --relax T04a:atMost=28.0" in page
    assert cli.main(["explain", "I07b"]) == 0
    assert "--relax" not in capsys.readouterr().out


# -- what is refused -------------------------------------------------------------------------------
REFUSED = {
    "no such clause": ("I99:atLeast", "1", "USE015", "is not a clause", "I07a"),
    "close to a clause": ("i07A:atLeast", "1", "USE015", "is not a clause", "perhaps I07a:atLeast"),
    "a criterion": ("I07:atLeast", "1", "USE015", "I07c, I07d", "I07a:atLeast=9.0; I07c:atLeast"),
    "a join": ("I07hi:atMost", "1", "USE015", "joins I07h,", "I07h:atMost=150.0"),
    "a rule that judges again": ("X02:atLeast", "1", "USE015", "joins I04d", "none of them"),
    "only under another reading": ("T04b:atLeast", "1", "USE015", "no rule uses T04b", "A-35"),
    "no such limit": ("I07a:atMost", "1", "USE016", "no limit 'atMost'", "I07a:atLeast=9.0"),
    "no number": ("E11a1:window", "1", "USE016", "no limit 'window'", "E11a1:gapTo=1440"),
    "a clause without any": ("I07b:atLeast", "1", "USE016", "no limit", "it has none"),
    "no limit named": ("I07a", "1", "USE016", "no limit of I07a is named", "I07a:atLeast=9.0"),
    "no name at all": (":atLeast", "1", "USE015", "'' is not a clause", "I07a"),
    "leaves nothing": ("T04a:atLeast", "29", "USE018", "T04a:atMost=28.0", "the other limit too"),
    "leaves no gap": ("E11a1:gapFrom", "1441", "USE018", "E11a1:gapTo=1440", "another number"),
    "part of a minute": ("E11a1:gapTo", "1440.5", "USE017", "not a whole number", "1440"),
    "13 places": ("I07a:atLeast", "8.0000000000001", "USE017", "12 decimal places", "9.0"),
    "16 digits": ("I07a:atLeast", "1234567890.123456", "USE017", "15 digits", "9.0"),
    "very long": ("I07a:atLeast", "9" * 5000, "USE017", "…' has more than 15", "9.0"),
} | {
    f"not a decimal: {text!r}": ("I07a:atLeast", text, "USE017", "not a decimal", "9.0")
    for text in ("", "low", "8,0", "8e0", "NaN", "Infinity", "0x8", "8_0", " 8", "8.", ".8", "８")
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(kb: KnowledgeBase, case: str) -> None:
    name, number, code, found, fix = REFUSED[case]
    with pytest.raises(UsageError) as raised:
        kb.compile(relaxed={name: number})
    (finding,) = raised.value.findings
    assert finding.code == code
    assert finding.where.startswith(f"--relax {name}")
    assert found in finding.found
    assert fix in finding.fix
    assert finding.why
    assert len(finding.found) < 300


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--relax", "I07a:atLeast"), "USE011"),
        (("--relax", "I07a:atLeast=8", "--relax", "I07a:atLeast=7"), "USE011"),
    ],
)
def test_refused_by_the_command_line(
    arguments: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rules", *arguments]) == 2
    assert code in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bounds", "empty"),
    [
        (Bounds(), False),
        (Bounds(at_least=Decimal(1)), False),
        (Bounds(at_least=Decimal(1), at_most=Decimal(1)), False),
        (Bounds(at_least=Decimal(1), at_most=Decimal("0.9")), True),
        (Bounds(more_than=Decimal(1), at_most=Decimal(1)), True),
        (Bounds(at_least=Decimal(1), less_than=Decimal(1)), True),
        (Bounds(more_than=Decimal(1), less_than=Decimal("1.1")), False),
        (Bounds(at_least=Decimal(1), more_than=Decimal(2), at_most=Decimal(2)), True),
        (Bounds(at_least=Decimal(2), more_than=Decimal(1), at_most=Decimal(2)), False),
    ],
)
def test_bounds_that_hold_nothing(bounds: Bounds, empty: bool) -> None:
    assert bounds.empty is empty
