"""What moved between two rule bases is told, rule by rule, with a patient who shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sarc_kb import cli
from sarc_kb.diff.model import RuleChange, TrialDiff
from sarc_kb.diff.run import difference
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase, data_folder
from tests.tiny_trial import build_tiny

RULES = "shapes/trials/tiny/rules.ttl"
LOINC = "ontology/mappings/loinc.sssom.tsv"
LABORATORY = "ontology/taxonomy/laboratory.ttl"
MORE = """
trial:given a sarc:ConceptSet ; rdfs:label "given" ; sarc:member sarc:BloodTransfusion , sarc:Radiotherapy .
trial:E02 a sarc:ExclusionCriterion , sarc:Join , sh:NodeShape ; rdfs:label "two ways" ; sarc:notation "E02" ;
    sarc:locator "Exclusion, 2" ; sarc:interpretation "One suffices." ; sarc:modality sarc:Exclusion ;
    sh:targetClass sarc:Patient ; sarc:notDenied trial:E02 ;
    sh:or ( trial:E02a trial:E02b ) ; sh:message "neither" ; sarc:remedy "check it" .
trial:E02a a sarc:Clause , sh:NodeShape ; rdfs:label "nothing given" ; sarc:notation "E02a" ;
    sarc:none trial:given ; sarc:window sarc:Ever ; sarc:qualifier sarc:Any ; sarc:executability sarc:FullyExecutable ;
    sarc:accepted sarc:Any ; sarc:attestedAs sarc:NotAttestable ; sarc:settledBy sarc:ProcedureHistory ;
    sh:targetClass sarc:Patient ; sh:message "given" ; sarc:remedy "check it" .
trial:E02b a sarc:Clause , sh:NodeShape ; rdfs:label "platelets" ; sarc:notation "E02b" ;
    sarc:latest sarc:PlateletCount ; sarc:window sarc:Ever ; sarc:qualifier sarc:Any ; sarc:executability sarc:FullyExecutable ;
    sarc:accepted sarc:Any ; sarc:attestedAs sarc:NotAttestable ; sarc:moreThan 100.0 ; sarc:unit "10*9/L" ;
    sh:targetClass sarc:Patient ; sh:message "few platelets" ; sarc:remedy "check it" .
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_tiny(tmp_path_factory.mktemp("old"))
    path = folder / RULES
    path.write_text(path.read_text("utf-8") + MORE, "utf-8")
    return folder


Planted = Callable[..., TrialDiff]


@pytest.fixture
def plant(old: Path, tmp_path: Path) -> Planted:
    """Compare the rule base with a copy in which texts are others."""

    def planted(*edits: tuple[str, str, str], before: Path | None = None) -> TrialDiff:
        new = tmp_path / "new"
        shutil.copytree(old, new)
        for name, one, other in edits:
            text = (new / name).read_text("utf-8")
            assert one in text
            (new / name).write_text(text.replace(one, other), "utf-8")
        found = difference(KnowledgeBase.load(old), KnowledgeBase.load(new))
        (trial,) = found.trials
        for rule in trial.rules:
            confirm(rule, old, new, tmp_path)
        return trial

    return planted


def confirm(rule: RuleChange, old: Path, new: Path, tmp_path: Path) -> None:
    """Judge a witness by both rule bases, as anybody would, and hold the outcomes against it."""
    if rule.witness is None:
        assert rule.no_witness
        return
    path = tmp_path / "witness.ttl"
    path.write_text(rule.witness.turtle, "utf-8")
    told = []
    for folder in (old, new):
        # Copies are not stamped, and a planted fault may be one: the check is not the question.
        kb = KnowledgeBase.load(folder)
        (folder / "shapes" / "checked.sha256").write_text(kb.info.sha256, "ascii")
        (assessment,) = kb.validate(path, as_of=rule.witness.as_of).assessments
        assert assessment.error is None
        results = {c.id: c.outcome.word for c in assessment.criteria}
        results |= {c.id: c.outcome.word for x in assessment.criteria for c in x.clauses}
        told.append((results[rule.witness.rule], assessment.verdict.value))
    assert [t[0] for t in told] == [rule.witness.old, rule.witness.new]
    assert [t[1] for t in told] == [rule.witness.old_verdict, rule.witness.new_verdict]
    assert rule.witness.old != rule.witness.new


def changes(rule: RuleChange) -> dict[str, tuple[str | None, str | None]]:
    return {c.aspect: (c.old, c.new) for c in rule.changes}


def rule_of(trial: TrialDiff, name: str) -> RuleChange:
    return next(r for r in trial.rules if r.rule == name)


# -- planted changes -------------------------------------------------------------------------------
def test_a_limit(plant: Planted) -> None:
    trial = plant((RULES, "sarc:atLeast 9.0 ;", "sarc:atLeast 8.0 ;"))
    (rule,) = trial.rules
    assert (rule.rule, changes(rule)) == ("I01", {"atLeast": ("9 g/dL", "8 g/dL")})
    assert rule.witness is not None
    assert (rule.witness.old, rule.witness.new, rule.witness.facts) == ("fail", "pass", 1)


def test_a_window(plant: Planted) -> None:
    trial = plant((RULES, "sarc:daysBefore 14 ;", "sarc:daysBefore 28 ;"))
    assert [r.rule for r in trial.rules] == ["E01", "I01"]
    for rule in trial.rules:
        assert changes(rule) == {"window: days before": ("14", "28")}
        assert rule.witness is not None
    (thing,) = trial.things
    assert thing.used_by == ("E01", "I01")


def test_a_factor_of_a_unit(plant: Planted) -> None:
    trial = plant(
        (
            LABORATORY,
            '[ sarc:unit "g/L" ; sarc:factor 0.1 ]',
            '[ sarc:unit "g/L" ; sarc:factor 1.0 ]',
        )
    )
    rule = rule_of(trial, "I01")
    ((aspect, sides),) = changes(rule).items()
    assert aspect == "accepted units of haemoglobin"
    assert [s.split(",")[0] for s in sides if s] == ["g/L × 0.1", "g/L × 1"] or all(sides)
    assert rule.witness is not None
    assert '"g/L"' in rule.witness.turtle


def test_a_unit_that_is_no_longer_read(plant: Planted) -> None:
    trial = plant(
        (
            LABORATORY,
            '[ sarc:unit "g/L" ; sarc:factor 0.1 ] , [ sarc:unit "mg/mL"',
            '[ sarc:unit "mg/mL"',
        )
    )
    assert rule_of(trial, "I01").witness is not None


def test_a_disjunct(plant: Planted) -> None:
    trial = plant((RULES, "sh:or ( trial:E02a trial:E02b )", "sh:or ( trial:E02a )"))
    rule = rule_of(trial, "E02")
    assert changes(rule) == {"joined": ("or(E02a, E02b)", "or(E02a)")}
    gone = rule_of(trial, "E02b")
    assert gone.kind == "removed"


def test_another_join(plant: Planted) -> None:
    trial = plant((RULES, "sh:or ( trial:E02a trial:E02b )", "sh:and ( trial:E02a trial:E02b )"))
    (rule,) = trial.rules
    assert changes(rule) == {"joined": ("or(E02a, E02b)", "and(E02a, E02b)")}


def test_a_member(plant: Planted) -> None:
    trial = plant((RULES, "sarc:BloodTransfusion , sarc:Radiotherapy .", "sarc:BloodTransfusion ."))
    rule = rule_of(trial, "E02a")
    told = changes(rule)
    assert told["set: member"] == ("radiotherapy (sarc:Radiotherapy)", None)
    assert "sarc:Radiotherapy" in (told["set: in to out"][0] or "")
    assert rule.witness is not None
    assert (rule.witness.old, rule.witness.new) == ("fail", "pass")


def test_a_code_that_moved(plant: Planted) -> None:
    trial = plant((LOINC, "LOINC:718-7\t", "LOINC:718-0\t"))
    codes = {t.name: t.kind for t in trial.things if t.area == "mapping of a code"}
    assert codes == {"LOINC 718-7": "removed", "LOINC 718-0": "added"}
    rule = rule_of(trial, "I01")
    assert changes(rule) == {
        "set: code in to out": ("LOINC 718-7", None),
        "set: code out to in": (None, "LOINC 718-0"),
    }
    assert rule.witness is not None
    assert "loinc.org/718-" in rule.witness.turtle


def test_a_code_that_is_mapped_twice(plant: Planted, old: Path) -> None:
    rows = (old / LOINC).read_text("utf-8").split("\n")
    row = next(r for r in rows if r.startswith("LOINC:718-7\t"))
    trial = plant(
        (LOINC, row, row + "\n" + row.replace("sarc:Haemoglobin\t", "sarc:PlateletCount\t"))
    )
    (thing,) = trial.things
    assert (thing.name, thing.kind) == ("LOINC 718-7", "changed")
    assert thing.changes[0].new == "exactMatch sarc:PlateletCount"
    assert {r.rule for r in trial.rules} == {"I01", "E02b"}


def test_a_default_of_the_register(plant: Planted) -> None:
    trial = plant((RULES, "sarc:default trial:A-01-nine", "sarc:default trial:A-01-eight"))
    assert trial.rules == ()
    (thing,) = trial.things
    assert thing.name == "trial:A-01"
    assert thing.used_by == ("I01",)
    (change,) = thing.changes
    assert (change.old, change.new) == ("trial:A-01-nine", "trial:A-01-eight")


def test_a_reading(plant: Planted) -> None:
    trial = plant(
        (
            RULES,
            "sarc:parameter sarc:atLeast ; sarc:to 8.0",
            "sarc:parameter sarc:atLeast ; sarc:to 7.0",
        )
    )
    assert trial.rules == ()
    assert [t.name for t in trial.things] == ["trial:A-01-eight"]


def test_what_an_answer_means(plant: Planted) -> None:
    trial = plant((RULES, "sarc:clearingAnswer sarc:Yes", "sarc:clearingAnswer sarc:No"))
    assert trial.kind == "changed"
    assert [t.name for t in trial.things] == ["trial:question-willing"]


def test_a_quotation_is_told_and_needs_no_witness(plant: Planted) -> None:
    trial = plant((RULES, 'oa:exact "willing to comply"', 'oa:exact "willing"'))
    (rule,) = trial.rules
    assert changes(rule) == {"quotation": ("willing to comply", "willing")}
    assert rule.no_witness == "what changed bears on no outcome"


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [(RULES, "trial:I01 a sarc:Incl", "# a comment\ntrial:I01 a sarc:Incl")],
        [(RULES, 'rdfs:label "haemoglobin"', 'rdfs:label "Hb"')],
        [(RULES, '"haemoglobin is below the limit"', '"too low"')],
        [(RULES, "sh:or ( trial:E02a trial:E02b )", "sh:or ( trial:E02b trial:E02a )")],
        [(RULES, "sarc:atLeast 9.0 ;", "sarc:atLeast 9.00 ;")],
        [
            (
                RULES,
                "sarc:BloodTransfusion , sarc:Radiotherapy",
                "sarc:Radiotherapy , sarc:BloodTransfusion",
            )
        ],
    ],
    ids=["nothing", "comment", "label", "message", "order", "digits", "order of members"],
)
def test_no_change(plant: Planted, edits: list[tuple[str, str, str]]) -> None:
    trial = plant(*edits)
    assert (trial.kind, trial.rules, trial.things, trial.renames) == ("same", (), (), ())


def test_names_are_no_change(plant: Planted) -> None:
    trial = plant(
        (RULES, "trial:look-back", "trial:recent"),
        (RULES, "trial:given", "trial:what-was-given"),
        (RULES, "trial:E02b", "trial:E02z"),
        (RULES, '"E02b"', '"E02z"'),
        (RULES, "trial:A-01-eight", "trial:A-01-lower"),
    )
    assert (trial.kind, trial.rules, trial.things) == ("same", (), ())
    assert {("E02b", "E02z"), ("trial:look-back", "trial:recent")} <= set(trial.renames)


def test_a_renamed_rule_that_changed_is_not_taken_for_the_old_one(plant: Planted) -> None:
    trial = plant(
        (RULES, "trial:E02b", "trial:E02z"), (RULES, "sarc:moreThan 100.0", "sarc:moreThan 90.0")
    )
    assert {(r.rule, r.kind) for r in trial.rules} >= {("E02b", "added"), ("E02b", "removed")}


# -- the command -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def new(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("changed") / "kb"
    shutil.copytree(old, folder)
    text = (folder / RULES).read_text("utf-8")
    (folder / RULES).write_text(text.replace("sarc:atLeast 9.0 ;", "sarc:atLeast 8.0 ;"), "utf-8")
    return folder


PALE = """
@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<urn:pale> a sarc:Patient ; sarc:identifier "pale" ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact
    [ sarc:concept sarc:Haemoglobin ; sarc:value 8.5 ; sarc:unit "g/dL" ; sarc:date "2024-02-28"^^xsd:date ] .
<urn:red> a sarc:Patient ; sarc:identifier "red" ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact
    [ sarc:concept sarc:Haemoglobin ; sarc:value 12.5 ; sarc:unit "g/dL" ; sarc:date "2024-02-28"^^xsd:date ] .
"""


def test_formats_and_a_cohort(
    old: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patients = tmp_path / "patients.ttl"
    patients.write_text(PALE, "utf-8")
    arguments = ["diff", str(old), str(new), "--cohort", str(patients)]
    assert cli.main([*arguments, "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["changed"] is True
    (trial,) = document["trials"]
    (rule,) = trial["rules"]
    assert rule["changes"] == [{"aspect": "atLeast", "old": "9 g/dL", "new": "8 g/dL"}]
    (flip,) = trial["cohort"]["flips"]
    assert (flip["patient"], flip["rules"]) == ("pale", [["I01", "fail", "pass"]])
    assert trial["cohort"]["patients"] == 2
    assert cli.main(arguments) == 1
    text = capsys.readouterr().out
    assert "atLeast: 9 g/dL -> 8 g/dL" in text
    assert "pale: ineligible -> undetermined (I01 fail -> pass)" in text
    page = tmp_path / "diff.md"
    assert cli.main([*arguments, "--format", "markdown", "-o", str(page)]) == 1
    assert "### I01 haemoglobin" in page.read_text("utf-8")
    assert "```turtle" in page.read_text("utf-8")
    assert cli.main(["diff", str(old), str(old), "--trial", "tiny"]) == 0
    assert "no semantic change" in capsys.readouterr().out


def git(folder: Path, *arguments: str) -> None:
    name = [
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


def test_revisions(
    old: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The knowledge base is a folder of its repository, not the whole of it.
    home = tmp_path / "repository" / "kb"
    shutil.copytree(old, home)
    git(home.parent, "init", "-q")
    git(home.parent, "add", "-A")
    git(home.parent, "commit", "-qm", "one")
    git(home.parent, "tag", "first")
    shutil.copy(new / RULES, home / RULES)
    git(home.parent, "commit", "-qam", "two")
    at = ["--rules", str(home)]
    assert cli.main(["diff", "first", "HEAD", *at]) == 1
    assert "atLeast: 9 g/dL -> 8 g/dL" in capsys.readouterr().out
    assert cli.main(["diff", "HEAD", str(new), *at]) == 0
    capsys.readouterr()
    for name in ("second", "first..HEAD", "HEAD^{tree}"):
        assert cli.main(["diff", name, "HEAD", *at]) == 2
        assert "no revision of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("side", "found"),
    [("first", "is not in a git repository"), ("", "no name of a revision")],
)
def test_what_cannot_be_compared(
    old: Path, side: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["diff", side, str(old), "--rules", str(old)]) == 2
    assert found in capsys.readouterr().err


def test_a_folder_without_rules_and_a_name_that_is_an_option(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["diff", str(tmp_path), str(old)]) == 2
    assert "a folder without ontology/ and shapes/" in capsys.readouterr().err
    assert cli.main(["diff", "--", "--output=x", str(old)]) == 2
    assert "no name of a revision" in capsys.readouterr().err
    assert cli.main(["diff", str(old), str(old), "--trial", "OTHER"]) == 2
    assert "no such trial" in capsys.readouterr().err
    assert cli.main(["diff", str(old), str(old), "--complete", "conditions"]) == 2
    assert "add --cohort" in capsys.readouterr().err


def test_without_git(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert cli.main(["diff", "HEAD", str(old)]) == 2
    assert "git is not installed" in capsys.readouterr().err


# -- the real rule base ----------------------------------------------------------------------------
def test_the_real_rules(tmp_path: Path) -> None:
    """A disjunct dropped and a limit of a treatment rule's neighbour: witnesses from the cases."""
    real, new = data_folder(), tmp_path / "new"
    for part in ("ontology", "shapes"):
        shutil.copytree(real / part, new / part)
    path = next((new / "shapes").rglob("I04-high-risk.ttl"))
    text = path.read_text("utf-8")
    assert "trial:I04c trial:I04d" in text
    path.write_text(text.replace("trial:I04c trial:I04d", "trial:I04d"), "utf-8")
    found = difference(KnowledgeBase.load(real), KnowledgeBase.load(new))
    (trial,) = found.trials
    assert {(r.rule, r.kind) for r in trial.rules} == {("I04", "changed"), ("I04c", "removed")}
    rule = rule_of(trial, "I04")
    assert rule.witness is not None
    confirm(rule, real_copy(real, tmp_path), new, tmp_path)


def real_copy(real: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    for part in ("ontology", "shapes"):
        shutil.copytree(real / part, folder / part)
    return folder


def test_an_unknown_trial(old: Path) -> None:
    kb = KnowledgeBase.load(old)
    with pytest.raises(UsageError):
        difference(kb, kb, trial="NONE")
